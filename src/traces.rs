//! Traces: runs → one row a trace, where roots carry only what they used themselves.
//!
//! Where roots contain their descendants' usage a trace *is* its root's row, and nothing here is needed.
//! Elsewhere the runs are grouped by their trace: usage is summed, everything else is the root's. A trace
//! whose root is not among the runs has the earliest start, the latest end and the earliest first token
//! of its runs, and nothing that only a root says. The grouping spills.

use datafusion::common::Result;
use datafusion::functions::core::expr_fn::{coalesce, nullif};
use datafusion::functions_aggregate::expr_fn::{bool_or, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit, when};

use crate::runs::{Column, functions};
use crate::tally::exact_sum;

/// What a run used.
pub(crate) const USAGE: [Column; 6] = [
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
];

/// What a trace has the sum of: that, and parts of it.
pub(crate) const SUMMED: [Column; 10] = [
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
    Column::CachedTokens,
    Column::ReasoningTokens,
    Column::CachedCost,
    Column::ReasoningCost,
];

/// The columns of runs that tell which belong together.
pub(crate) const KEY: [Column; 4] = [
    Column::SessionId,
    Column::TraceId,
    Column::Id,
    Column::IsRoot,
];

/// Whether a trace's root is among its runs.
pub(crate) const HAS_ROOT: &str = "@has_root";
/// Whether a trace's root carries usage without being an LLM call.
pub(crate) const IS_COMPOSITE: &str = "@is_composite";

/// Other columns of runs that traces have too.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct More<'a> {
    /// Those that a root alone has.
    pub(crate) of_root: &'a [String],
    /// Those that are so of a trace where they are of any of its runs.
    pub(crate) of_any: &'a [&'a str],
}

/// Groups runs by their trace. The result has the columns that the runs have, with sums for usage, and
/// [`HAS_ROOT`] and [`IS_COMPOSITE`].
pub(crate) fn built(runs: LogicalPlan, columns: &[Column], more: &More<'_>) -> Result<LogicalPlan> {
    const TRACE: &str = "@trace";
    let key = functions::needed(key(), Column::TraceId.name());
    let measures = columns
        .iter()
        .filter_map(|column| measure(*column).transpose())
        .collect::<Result<Vec<_>>>()?;
    let of_root = more.of_root.iter().map(|name| {
        let root = when(is_root(), ident(name)).end()?;
        Ok(max(root).alias(name))
    });
    let of_root = of_root.collect::<Result<Vec<_>>>()?;
    let of_any = more.of_any.iter();
    let of_any = of_any.map(|name| bool_or(ident(*name)).alias(*name));
    let facts = [
        bool_or(is_root()).alias(HAS_ROOT),
        bool_or(is_root().and(is_composite())).alias(IS_COMPOSITE),
    ];
    let kept = columns.iter().map(|column| {
        let name = column.name();
        match column {
            Column::TraceId => ident(TRACE).alias(name),
            Column::IsRoot => lit(true).alias(name),
            Column::IsError => coalesce(vec![ident(name), lit(false)]).alias(name),
            _ => ident(name),
        }
    });
    LogicalPlanBuilder::new(runs)
        .aggregate(
            [ident(Column::SessionId.name()), key.alias(TRACE)],
            measures
                .into_iter()
                .chain(of_root)
                .chain(of_any)
                .chain(facts),
        )?
        .project(
            kept.chain(more.of_root.iter().map(ident))
                .chain(more.of_any.iter().map(|name| ident(*name)))
                .chain([ident(HAS_ROOT), ident(IS_COMPOSITE)]),
        )?
        .build()
}

/// The trace that a run belongs to; one of its own where nothing says which.
pub(crate) fn key() -> Expr {
    let id = |column: Column| nullif(ident(column.name()), lit(""));
    coalesce(vec![id(Column::TraceId), id(Column::Id)])
}

/// A run's column as an aggregate over the runs of a trace.
fn measure(column: Column) -> Result<Option<Expr>> {
    let value = || ident(column.name());
    let of_root = || when(is_root(), value()).end();
    let of_any = |earliest: fn(Expr) -> Expr| {
        let root = of_root()?;
        let has_root = bool_or(is_root());
        when(has_root, earliest(root)).otherwise(earliest(value()))
    };
    let measure = match column {
        Column::StartTime | Column::FirstTokenTime => of_any(min)?,
        Column::EndTime => of_any(max)?,
        column if SUMMED.contains(&column) => exact_sum().call(vec![value()]),
        Column::SessionId | Column::TraceId | Column::IsRoot => return Ok(None),
        _ => max(of_root()?),
    };
    Ok(Some(measure.alias(column.name())))
}

/// Whether a run is its trace's root; null where nothing says so.
fn is_root() -> Expr {
    ident(Column::IsRoot.name())
}

/// Whether a run is no root.
pub(crate) fn is_below_root() -> Expr {
    is_root().is_null().or(!is_root())
}

/// Whether a run carries usage without being an LLM call.
pub(crate) fn is_composite() -> Expr {
    let run_type = || ident(Column::RunType.name());
    let is_llm = run_type().is_not_null().and(run_type().eq(lit("llm")));
    (!is_llm).and(carries_usage())
}

/// Whether any of a run's tokens or costs is there and not zero.
pub(crate) fn carries_usage() -> Expr {
    let usage = USAGE.map(|column| ident(column.name()));
    functions::any_is_not_zero(usage.to_vec())
}
