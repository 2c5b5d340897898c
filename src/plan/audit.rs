//! What an audit counts, as plans: runs → of each kind of finding how many there are, with the least id of
//! those. What rows say by themselves is one scan; the others group or join, and spill.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{bool_or, count, max, min, sum};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, cast, ident, lit, when,
};

use super::values;
use crate::request::{FindingKind, Window};
use crate::runs::{Column, functions};
use crate::traces::{self, USAGE};

/// The column of how many units there are.
pub(crate) const N: &str = "@n";
/// The column of how many of them are roots.
pub(crate) const N_ROOTS: &str = "@roots";
/// The columns of their first and last start.
pub(crate) const FIRST: &str = "@first";
pub(crate) const LAST: &str = "@last";
/// The column of an hour: hours since 1970, UTC.
pub(crate) const HOUR: &str = "@hour";

/// What an audit reads beside the columns of every question.
pub(crate) const READ: &[Column] = &[Column::Extra];

/// Microseconds of an hour, and of a day.
pub(crate) const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// The column of how many findings of a kind there are.
pub(crate) fn n_of(kind: FindingKind) -> String {
    format!("{kind}.n")
}

/// The column of the least id of those.
pub(crate) fn id_of(kind: FindingKind) -> String {
    format!("{kind}.id")
}

/// The column without which a file cannot say whether there is a finding.
pub(crate) fn needed_by(kind: FindingKind) -> Option<Column> {
    match kind {
        FindingKind::PendingOld | FindingKind::EndBeforeStart => Some(Column::EndTime),
        FindingKind::FirstTokenBeforeStart | FindingKind::FirstTokenAfterEnd => {
            Some(Column::FirstTokenTime)
        }
        FindingKind::TotalNotParts
        | FindingKind::CostWithoutTokens
        | FindingKind::NegativeTokens => Some(Column::TotalTokens),
        FindingKind::NegativeCosts => Some(Column::TotalCost),
        FindingKind::UnreadableExtra => Some(Column::Extra),
        FindingKind::UnreadableFeedbackStats => Some(Column::FeedbackStats),
        _ => None,
    }
}

/// What is looked for: of a kind, how many findings a unit is.
type Sought = (FindingKind, Expr);

const TOKENS: [Column; 3] = [
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
];
const COSTS: [Column; 3] = [
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
];

/// The columns of runs that [`of_rows()`] reads.
pub(crate) fn audited() -> Vec<Column> {
    let own = [
        Column::SessionId,
        Column::File,
        Column::Id,
        Column::IsRoot,
        Column::StartTime,
        Column::EndTime,
        Column::FirstTokenTime,
        Column::FileDay,
        Column::Extra,
        Column::FeedbackStats,
    ];
    [own.as_slice(), &USAGE].concat()
}

/// Runs → what each says by itself, a row a project and file. Runs without an end are old that started
/// before a moment.
pub(crate) fn of_rows(runs: LogicalPlan, old_us: i64) -> Result<LogicalPlan> {
    let column = |column: Column| ident(column.name());
    let any = |columns: [Column; 3], holds: fn(Expr) -> Expr| {
        let each = columns.map(|one| holds(column(one)));
        each.into_iter().reduce(Expr::or).unwrap_or(lit(false))
    };
    let negative = |value: Expr| value.lt(lit(0_i64));
    let (start, end) = (column(Column::StartTime), column(Column::EndTime));
    let first_token = column(Column::FirstTokenTime);
    let [total, prompt, completion] = TOKENS.map(column);
    let into_day_us = functions::difference_us(column(Column::FileDay), start.clone());
    let holds = [
        (FindingKind::EndBeforeStart, end.clone().lt(start.clone())),
        (
            FindingKind::FirstTokenBeforeStart,
            first_token.clone().lt(start.clone()),
        ),
        (FindingKind::FirstTokenAfterEnd, first_token.gt(end.clone())),
        (
            FindingKind::TotalNotParts,
            (total - prompt).not_eq(completion),
        ),
        (
            FindingKind::CostWithoutTokens,
            any(COSTS, |cost| cost.gt(lit(0_i64)))
                .and(Expr::IsNotTrue(Box::new(any(TOKENS, |tokens| {
                    tokens.not_eq(lit(0_i64))
                })))),
        ),
        (FindingKind::NegativeTokens, any(TOKENS, negative)),
        (FindingKind::NegativeCosts, any(COSTS, negative)),
        (
            FindingKind::PendingOld,
            end.is_null().and(start.clone().lt(moment(old_us))),
        ),
        (
            FindingKind::OutsidePartition,
            into_day_us
                .clone()
                .lt(lit(0_i64))
                .or(into_day_us.gt_eq(lit(DAY_US))),
        ),
        (
            FindingKind::UnreadableExtra,
            values::is_no_object(column(Column::Extra)),
        ),
        (
            FindingKind::UnreadableFeedbackStats,
            values::is_no_feedback(column(Column::FeedbackStats)),
        ),
    ];
    let sought = holds.map(|(kind, holds)| Ok((kind, as_count(holds)?)));
    let sought = sought.into_iter().collect::<Result<Vec<Sought>>>()?;
    let more = [
        super::count_where(column(Column::IsRoot)).alias(N_ROOTS),
        min(start.clone()).alias(FIRST),
        max(start).alias(LAST),
    ];
    let groups = [Column::SessionId, Column::File];
    counted(runs, &groups, count(lit(1)), sought, more.into())
}

/// The columns of runs that [`repeated()`] reads.
pub(crate) const IDENTIFIED: &[Column] = &[Column::SessionId, Column::Id];

/// Records → how many of them repeat another's run, a row a project.
pub(crate) fn repeated(records: LogicalPlan, kind: FindingKind) -> Result<LogicalPlan> {
    const BITS: &str = "@bits";
    let id = || ident(Column::Id.name());
    let runs = LogicalPlanBuilder::new(records)
        .filter(id().is_not_null())?
        .aggregate(
            [
                ident(Column::SessionId.name()),
                functions::id_bits(id()).alias(BITS),
            ],
            [count(lit(1)).alias(N), min(id()).alias(Column::Id.name())],
        )?
        .build()?;
    let sought = vec![(kind, ident(N) - lit(1_i64))];
    counted(runs, &[Column::SessionId], sum(ident(N)), sought, vec![])
}

/// The columns of runs that [`of_traces()`] reads.
pub(crate) fn traced() -> Vec<Column> {
    [traces::KEY.as_slice(), &[Column::StartTime], &USAGE].concat()
}

/// Runs → what is said of the traces that start in a window, a row a project.
pub(crate) fn of_traces(runs: LogicalPlan, window: &Window) -> Result<LogicalPlan> {
    const TRACE: &str = "@trace";
    const ROOT_USED: &str = "@root_used";
    const USED_BELOW: &str = "@used_below";
    let is_root = || ident(Column::IsRoot.name());
    let mut traces = LogicalPlanBuilder::new(runs).aggregate(
        [
            ident(Column::SessionId.name()),
            super::filter::trace_bits().alias(TRACE),
        ],
        [
            bool_or(is_root()).alias(traces::HAS_ROOT),
            bool_or(is_root().and(traces::carries_usage())).alias(ROOT_USED),
            bool_or(traces::is_below_root().and(traces::carries_usage())).alias(USED_BELOW),
            min(ident(Column::StartTime.name())).alias(Column::StartTime.name()),
            min(ident(Column::Id.name())).alias(Column::Id.name()),
        ],
    )?;
    if let Some(within) = super::within(window) {
        traces = traces.filter(within)?;
    }
    let is_not = |name: &str| Expr::IsNotTrue(Box::new(ident(name)));
    let without_usage = ident(traces::HAS_ROOT)
        .and(is_not(ROOT_USED))
        .and(ident(USED_BELOW));
    let sought = vec![
        (
            FindingKind::ChildWithoutRoot,
            as_count(is_not(traces::HAS_ROOT))?,
        ),
        (FindingKind::RootsWithoutUsage, as_count(without_usage)?),
    ];
    let groups = [Column::SessionId];
    counted(traces.build()?, &groups, count(lit(1)), sought, vec![])
}

/// The columns of runs that [`below_children()`] reads.
pub(crate) fn with_usage() -> Vec<Column> {
    [[Column::SessionId, Column::Id].as_slice(), &USAGE].concat()
}

/// Runs and what may be their children → how many of those that carry usage used less than these, a row a
/// project.
pub(crate) fn below_children(runs: LogicalPlan, children: LogicalPlan) -> Result<LogicalPlan> {
    let carried = |column: Column| format!("@carried.{}", column.name());
    let fields = runs.schema().fields().iter();
    let columns: Vec<Expr> = fields.map(|field| ident(field.name())).collect();
    let copies = USAGE.map(|column| ident(column.name()).alias(carried(column)));
    let runs = LogicalPlanBuilder::new(runs)
        .filter(traces::carries_usage())?
        .project(columns.into_iter().chain(copies))?
        .build()?;
    let own = super::own_usage(runs, children, &USAGE)?;
    // What is below zero by itself is another finding.
    let negative = USAGE.map(|column| {
        let own = || ident(column.name());
        own().lt(lit(0_i64)).and(own().lt(ident(carried(column))))
    });
    let negative = negative.into_iter().reduce(Expr::or).unwrap_or(lit(false));
    let sought = vec![(FindingKind::NegativeOwnUsage, as_count(negative)?)];
    counted(own, &[Column::SessionId], count(lit(1)), sought, vec![])
}

/// Roots → how many start in each hour, a row a project and hour.
pub(crate) fn hourly(roots: LogicalPlan) -> Result<LogicalPlan> {
    // Times are microseconds; hours before 1970 are few enough to share the first one.
    let hour = cast(ident(Column::StartTime.name()), DataType::Int64) / lit(HOUR_US);
    LogicalPlanBuilder::new(roots)
        .aggregate(
            [ident(Column::SessionId.name()), hour.alias(HOUR)],
            [count(lit(1)).alias(N)],
        )?
        .build()
}

/// The columns of runs that [`places()`] reads.
pub(crate) const PLACED: &[Column] = &[Column::SessionId, Column::Id, Column::File];

/// Runs → the first file of each of some, a row a project and id.
pub(crate) fn places(runs: LogicalPlan, ids: &[String]) -> Result<LogicalPlan> {
    let text = |id: &String| lit(ScalarValue::Utf8View(Some(id.clone())));
    let id = ident(Column::Id.name());
    LogicalPlanBuilder::new(runs)
        .filter(id.clone().in_list(ids.iter().map(text).collect(), false))?
        .aggregate(
            [ident(Column::SessionId.name()), id],
            [min(ident(Column::File.name())).alias(Column::File.name())],
        )?
        .build()
}

/// Units → how many there are, and of each kind how many findings with the least id, a row a group.
fn counted(
    units: LogicalPlan,
    groups: &[Column],
    n: Expr,
    sought: Vec<Sought>,
    more: Vec<Expr>,
) -> Result<LogicalPlan> {
    let columns = groups.iter().map(|column| ident(column.name()));
    let columns: Vec<Expr> = columns.collect();
    let mut counts = vec![n.alias(N)];
    for (kind, n) in sought {
        let id = min(ident(Column::Id.name()));
        let id = id.filter(n.clone().gt(lit(0_i64))).build()?;
        counts.extend([sum(n).alias(n_of(kind)), id.alias(id_of(kind))]);
    }
    counts.extend(more);
    LogicalPlanBuilder::new(units)
        .aggregate(columns, counts)?
        .build()
}

/// One where a condition holds, else none.
fn as_count(holds: Expr) -> Result<Expr> {
    when(holds, lit(1_i64)).otherwise(lit(0_i64))
}

fn moment(us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(us), None))
}
