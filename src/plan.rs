//! Plans: runs → tallies, and tallies → merged tallies. Values in, values out; nothing is executed.
//!
//! Every plan groups by the project at least, so that one native accumulator serves them all. The
//! columns of the result are those of [`crate::tally`], after the grouping's.

pub(crate) mod audit;
mod dealt;
mod facets;
mod filter;
mod matching;
mod numbered;
mod own;
mod split;
mod stored;
mod values;

use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{
    Case, Expr, JoinType, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast, ident, lit,
};
use uuid::Uuid;

use crate::request::Window;
use crate::runs::{Column, functions};
use crate::tally::{self, TallyColumn, count_udaf, part_udaf, sum_udaf};
use crate::traces::{self, USAGE};

pub(crate) use facets::{FACET_KEY, FACET_VALUE, FACETED, N_FACETS, facets};
pub(crate) use filter::{RunFilter, TRACED, of_same_traces};
use numbered::Numbered;
pub(crate) use own::{
    Below, SharedBelow, children, executed, of_children, own_usage, own_usage_above,
    own_usage_at_once, usage_of,
};
use split::TRACE_FAILED;
pub(crate) use split::{
    BUCKET, ERROR_CLASS, FEEDBACK_TEXT, LISTED, PLACED, RECORDED, Split, built_from, failed_traces,
    failing, label, populated, told_by, with_facts,
};

pub(crate) use stored::in_order;

/// The functions of plans, for registration.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let functions = facets::functions().into_iter();
    functions.chain(values::functions()).collect()
}

/// The columns of runs that a tally is made of, but for usage and their own feedback.
const TALLIED: [Column; 7] = [
    Column::SessionId,
    Column::RunType,
    Column::StartTime,
    Column::EndTime,
    Column::FirstTokenTime,
    Column::IsError,
    Column::TraceTier,
];

/// The columns of runs that [`tally()`] reads, with the runs' own feedback or without.
pub(crate) fn tallied(own_feedback: bool) -> Vec<Column> {
    let mut columns = [TALLIED.as_slice(), &USAGE].concat();
    columns.extend(own_feedback.then_some(Column::FeedbackStats));
    columns
}

/// The columns of runs that [`feedback()`] reads.
pub(crate) const FED_BACK: &[Column] = &[Column::Id, Column::SessionId];

/// The columns of the table of feedback records: the run's id and the bytes of its feedback.
pub(crate) const FEEDBACK_RUN: &str = "feedback_run_id";

/// The number of traces whose root is not among their runs, a column beside the tally's of
/// [`tally_built`].
pub(crate) const N_ROOTLESS: &str = "n_rootless";

/// Root runs → one tally a project; where all are of one, nothing needs to be grouped.
pub(crate) fn tally(roots: LogicalPlan, only: Option<Uuid>) -> Result<LogicalPlan> {
    const NUMBER: &str = "@project_number";
    let composite = traces::is_composite();
    let tallies = measures(&roots, &composite);
    let columns = TallyColumn::DOCUMENT.iter();
    let columns = columns.map(|column| ident(column.name()));
    if let Some(project) = only {
        let project = ScalarValue::Utf8View(Some(project.to_string()));
        let project = Expr::Literal(project, None).alias(Column::SessionId.name());
        let n_traces = ident(TallyColumn::NTraces.name());
        return LogicalPlanBuilder::new(roots)
            .aggregate(Vec::<Expr>::new(), tallies)?
            // A project without a run is none of those that are found.
            .filter(n_traces.gt(lit(0_i64)))?
            .project(std::iter::once(project).chain(columns))?
            .build();
    }
    let projects = Numbered::default();
    let number = projects.number(ident(Column::SessionId.name()));
    let project = projects.text(ident(NUMBER));
    let project = project.alias(Column::SessionId.name());
    LogicalPlanBuilder::new(roots)
        .aggregate([number.alias(NUMBER)], tallies)?
        .project(std::iter::once(project).chain(columns))?
        .build()
}

/// The columns of runs that [`tally_built()`] reads, with the runs' own feedback or without.
pub(crate) fn built(own_feedback: bool) -> Vec<Column> {
    let mut columns = tallied(own_feedback);
    columns.extend(
        traces::KEY
            .iter()
            .filter(|column| !TALLIED.contains(column)),
    );
    columns
}

/// Runs → the tallies of the traces that are built from them and start in a window.
pub(crate) fn tally_built(
    runs: LogicalPlan,
    own_feedback: bool,
    window: &Window,
) -> Result<LogicalPlan> {
    let traces = traces::built(runs, &built(own_feedback), &traces::More::default())?;
    let mut tallies = measures(&traces, &ident(traces::IS_COMPOSITE));
    let rootless = ident(traces::HAS_ROOT)
        .is_null()
        .or(!ident(traces::HAS_ROOT));
    tallies.push(count_where(rootless).alias(N_ROOTLESS));
    let mut traces = LogicalPlanBuilder::new(traces);
    if let Some(within) = within(window) {
        traces = traces.filter(within)?;
    }
    traces
        .aggregate([ident(Column::SessionId.name())], tallies)?
        .build()
}

/// The window as a condition on canonical times.
fn within(window: &Window) -> Option<Expr> {
    let start = || ident(Column::StartTime.name());
    let moment = |us| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), None), None);
    let since = window.since_us().map(|us| start().gt_eq(moment(us)));
    let until = window.until_us().map(|us| start().lt(moment(us)));
    since.into_iter().chain(until).reduce(Expr::and)
}

/// A tally's columns as aggregates over traces. Those without the column of their own feedback have none.
fn measures(traces: &LogicalPlan, is_composite: &Expr) -> Vec<Expr> {
    let feedback = Column::FeedbackStats.name();
    let feedback = if traces.schema().has_column_with_unqualified_name(feedback) {
        ident(feedback)
    } else {
        Expr::Literal(ScalarValue::Utf8View(None), None)
    };
    let columns = TallyColumn::DOCUMENT.iter();
    columns
        .map(|column| measure(*column, is_composite, &feedback).alias(column.name()))
        .collect()
}

/// The columns of runs that [`daily()`] reads.
pub(crate) const DATED: &[Column] = &[Column::SessionId, Column::StartTime];

/// Root runs → how many start on each day of a zone, a row a project and day.
pub(crate) fn daily(roots: LogicalPlan, zone: Tz) -> Result<LogicalPlan> {
    let day = functions::local_day(ident(Column::StartTime.name()), zone).alias("day");
    LogicalPlanBuilder::new(roots)
        .aggregate([ident(Column::SessionId.name()), day], [count(lit(1))])?
        .build()
}

/// The columns of runs that [`usage_below_roots()`] reads.
pub(crate) fn used() -> Vec<Column> {
    [[Column::SessionId, Column::IsRoot].as_slice(), &USAGE].concat()
}

/// Runs → how many that are no roots carry usage, a row a project that has any.
pub(crate) fn usage_below_roots(runs: LogicalPlan) -> Result<LogicalPlan> {
    LogicalPlanBuilder::new(runs)
        .filter(traces::is_below_root().and(traces::carries_usage()))?
        .aggregate([ident(Column::SessionId.name())], [count(lit(1))])?
        .build()
}

/// The columns of runs that [`composite_usage()`] reads.
pub(crate) fn composed() -> Vec<Column> {
    [[Column::SessionId, Column::RunType].as_slice(), &USAGE].concat()
}

/// Root runs → how many carry usage without being LLM calls, a row a project that has any.
pub(crate) fn composite_usage(roots: LogicalPlan) -> Result<LogicalPlan> {
    LogicalPlanBuilder::new(composite(roots)?)
        .aggregate([ident(Column::SessionId.name())], [count(lit(1))])?
        .build()
}

/// Runs → those that carry usage without being LLM calls.
pub(crate) fn composite(runs: LogicalPlan) -> Result<LogicalPlan> {
    LogicalPlanBuilder::new(runs)
        .filter(traces::is_composite())?
        .build()
}

/// Traces and the feedback records of runs → the feedback of each project's root runs.
pub(crate) fn feedback(roots: LogicalPlan, records: LogicalPlan) -> Result<LogicalPlan> {
    let merged = part_udaf::feedback_merge()
        .call(vec![ident(TallyColumn::Feedback.name())])
        .alias(TallyColumn::Feedback.name());
    LogicalPlanBuilder::new(records)
        .join(
            roots,
            JoinType::Inner,
            (vec![FEEDBACK_RUN], vec![Column::Id.name()]),
            None,
        )?
        .aggregate([ident(Column::SessionId.name())], [merged])?
        .build()
}

/// Tallies → their sums, one a project.
pub(crate) fn merge(tallies: LogicalPlan) -> Result<LogicalPlan> {
    let merged = TallyColumn::DOCUMENT
        .iter()
        .map(|column| stored::merge_of(*column));
    LogicalPlanBuilder::new(tallies)
        .aggregate([ident(tally::PROJECT)], merged)?
        .build()
}

/// A tally's column as an aggregate over runs.
fn measure(column: TallyColumn, is_composite: &Expr, feedback: &Expr) -> Expr {
    let run = |column: Column| ident(column.name());
    let elapsed = |to: Column| functions::elapsed_us(run(Column::StartTime), run(to));
    let sketch = |values: Expr| part_udaf::hdr_sketch().call(vec![values]);
    let sum = |column: Column| sum_udaf::exact_sum().call(vec![run(column)]);
    let completed = run(Column::EndTime).is_not_null();
    let streamed = run(Column::FirstTokenTime).is_not_null();
    match column {
        TallyColumn::NTraces => count_where(lit(true)),
        TallyColumn::NErrors => count_where(run(Column::IsError)),
        TallyColumn::NCompleted => count_where(completed),
        TallyColumn::NStreamed => count_where(completed.and(streamed)),
        TallyColumn::NCompositeUsage => count_where(is_composite.clone()),
        TallyColumn::LatencyUs => sketch(elapsed(Column::EndTime)),
        TallyColumn::FirstTokenUs => sketch(elapsed(Column::FirstTokenTime)),
        TallyColumn::TotalTokens => sum(Column::TotalTokens),
        TallyColumn::PromptTokens => sum(Column::PromptTokens),
        TallyColumn::CompletionTokens => sum(Column::CompletionTokens),
        TallyColumn::TotalCost => sum(Column::TotalCost),
        TallyColumn::PromptCost => sum(Column::PromptCost),
        TallyColumn::CompletionCost => sum(Column::CompletionCost),
        TallyColumn::LastStartUs => max(run(Column::StartTime)),
        TallyColumn::TraceTier => max(functions::tier_rank(run(Column::TraceTier))),
        TallyColumn::Feedback => part_udaf::feedback_tally().call(vec![feedback.clone()]),
        column => measure_more(column, false),
    }
}

/// The same of what no document needs. Of values below zero nothing is known. Usage may be that of runs, or
/// sums of it.
fn measure_more(column: TallyColumn, is_summed: bool) -> Expr {
    let run = |column: Column| ident(column.name());
    let elapsed = |to: Column| functions::elapsed_us(run(Column::StartTime), run(to));
    let said_us = || functions::difference_us(run(Column::FirstTokenTime), run(Column::EndTime));
    let whole = |sum: Expr| cast(sum, DataType::Int64);
    let pace = || {
        values::quotient(
            whole(run(Column::CompletionTokens)),
            said_us(),
            1_000_000_000,
        )
    };
    let some_us = || nullif(said_us(), lit(0_i64));
    let token_time = || values::quotient(some_us(), whole(run(Column::CompletionTokens)), 1_000);
    let valid = |column: Column| nullif_negative(run(column));
    let sketch = |values: Expr| part_udaf::hdr_sketch().call(vec![values]);
    let used = |column: Column| {
        if is_summed {
            part_udaf::hdr_sketch_of_sums().call(vec![run(column)])
        } else {
            sketch(run(column))
        }
    };
    let sum = |values: Expr| sum_udaf::exact_sum().call(vec![values]);
    let distinct = |texts: Expr| part_udaf::distinct_hashes().call(vec![texts]);
    let runs_of = |values: Expr| {
        part_udaf::exemplars().call(vec![values, functions::id_bits(run(Column::Id))])
    };
    match column {
        TallyColumn::FirstStartUs => min(run(Column::StartTime)),
        TallyColumn::LatencySum => sum(elapsed(Column::EndTime)),
        TallyColumn::LatencyN => count(elapsed(Column::EndTime)),
        TallyColumn::FirstTokenSum => sum(elapsed(Column::FirstTokenTime)),
        TallyColumn::FirstTokenN => count(elapsed(Column::FirstTokenTime)),
        TallyColumn::TotalTokensEach => used(Column::TotalTokens),
        TallyColumn::TotalTokensSum => sum(valid(Column::TotalTokens)),
        TallyColumn::TotalTokensN => count(valid(Column::TotalTokens)),
        TallyColumn::PromptTokensEach => used(Column::PromptTokens),
        TallyColumn::PromptTokensSum => sum(valid(Column::PromptTokens)),
        TallyColumn::PromptTokensN => count(valid(Column::PromptTokens)),
        TallyColumn::CompletionTokensEach => used(Column::CompletionTokens),
        TallyColumn::CompletionTokensSum => sum(valid(Column::CompletionTokens)),
        TallyColumn::CompletionTokensN => count(valid(Column::CompletionTokens)),
        TallyColumn::TotalCostEach => used(Column::TotalCost),
        TallyColumn::TotalCostSum => sum(valid(Column::TotalCost)),
        TallyColumn::TotalCostN => count(valid(Column::TotalCost)),
        TallyColumn::PaceEach => sketch(pace()),
        TallyColumn::PaceSum => sum(pace()),
        TallyColumn::PaceN => count(pace()),
        TallyColumn::TokenTimeEach => sketch(token_time()),
        TallyColumn::TokenTimeSum => sum(token_time()),
        TallyColumn::TokenTimeN => count(token_time()),
        TallyColumn::CachedTokens => sum(run(Column::CachedTokens)),
        TallyColumn::ReasoningTokens => sum(run(Column::ReasoningTokens)),
        TallyColumn::CachedCost => sum(run(Column::CachedCost)),
        TallyColumn::ReasoningCost => sum(run(Column::ReasoningCost)),
        TallyColumn::NErrorTraces => count(nullif(ident(TRACE_FAILED), lit(false))),
        TallyColumn::Traces => distinct(traces::key()),
        TallyColumn::Users => distinct(run(Column::User)),
        TallyColumn::Threads => distinct(run(Column::Thread)),
        TallyColumn::LatencyRuns => runs_of(elapsed(Column::EndTime)),
        TallyColumn::FirstTokenRuns => runs_of(elapsed(Column::FirstTokenTime)),
        TallyColumn::TotalTokensRuns => runs_of(whole(run(Column::TotalTokens))),
        TallyColumn::PromptTokensRuns => runs_of(whole(run(Column::PromptTokens))),
        TallyColumn::CompletionTokensRuns => runs_of(whole(run(Column::CompletionTokens))),
        TallyColumn::TotalCostRuns => runs_of(whole(run(Column::TotalCost))),
        TallyColumn::PaceRuns => runs_of(pace()),
        TallyColumn::TokenTimeRuns => runs_of(token_time()),
        // The document's.
        _ => lit(ScalarValue::Null),
    }
}

fn nullif_negative(value: Expr) -> Expr {
    Expr::Case(Case::new(
        None,
        vec![(Box::new(value.clone().gt_eq(lit(0_i64))), Box::new(value))],
        None,
    ))
}

fn count_where(condition: Expr) -> Expr {
    count_udaf::count_true().call(vec![condition])
}
