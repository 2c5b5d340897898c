//! Plans: runs → tallies, and tallies → merged tallies. Values in, values out; nothing is executed.
//!
//! Every plan groups by the project at least, so that one native accumulator serves them all. The
//! columns of the result are those of [`crate::tally`], after the grouping's.

use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, JoinType, LogicalPlan, LogicalPlanBuilder, ident, lit, when,
};

use crate::runs::{Column, functions};
use crate::tally::{self, Merge, TallyColumn, TraceTier, part_udaf, sum_udaf};

/// What a run used.
const USAGE: [Column; 6] = [
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
];

/// The columns of runs that a tally is made of, but for usage and their own feedback.
const TALLIED: [Column; 8] = [
    Column::SessionId,
    Column::RunType,
    Column::StartTime,
    Column::EndTime,
    Column::FirstTokenTime,
    Column::IsRoot,
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
pub(crate) const FED_BACK: &[Column] = &[Column::Id, Column::SessionId, Column::IsRoot];

/// The columns of the table of feedback records: the run's id and the bytes of its feedback.
pub(crate) const FEEDBACK_RUN: &str = "feedback_run_id";

/// Traces → one tally a project. Runs without the column of their own feedback give none.
pub(crate) fn tally(runs: LogicalPlan) -> Result<LogicalPlan> {
    let feedback = Column::FeedbackStats.name();
    let runs = if runs.schema().has_column_with_unqualified_name(feedback) {
        runs
    } else {
        let columns = tallied(false);
        let columns = columns.iter().map(|column| ident(column.name()));
        let nothing = Expr::Literal(ScalarValue::Utf8View(None), None).alias(feedback);
        LogicalPlanBuilder::new(runs)
            .project(columns.chain([nothing]))?
            .build()?
    };
    let tallies = TallyColumn::ALL
        .iter()
        .map(|column| Ok(measure(*column)?.alias(column.name())))
        .collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::new(runs)
        .filter(ident(Column::IsRoot.name()))?
        .aggregate([ident(Column::SessionId.name())], tallies)?
        .build()
}

/// The columns of runs that [`usage_below_roots()`] reads.
pub(crate) fn used() -> Vec<Column> {
    [[Column::SessionId, Column::IsRoot].as_slice(), &USAGE].concat()
}

/// Runs → how many that are no roots carry usage, a row a project that has any.
pub(crate) fn usage_below_roots(runs: LogicalPlan) -> Result<LogicalPlan> {
    let is_below = ident(Column::IsRoot.name()).is_not_true();
    LogicalPlanBuilder::new(runs)
        .filter(is_below.and(carries_usage()))?
        .aggregate([ident(Column::SessionId.name())], [count(lit(1))])?
        .build()
}

/// Traces and the feedback records of runs → the feedback of each project's root runs.
pub(crate) fn feedback(runs: LogicalPlan, records: LogicalPlan) -> Result<LogicalPlan> {
    let merged = part_udaf::feedback_merge()
        .call(vec![ident(TallyColumn::Feedback.name())])
        .alias(TallyColumn::Feedback.name());
    let roots = LogicalPlanBuilder::new(runs)
        .filter(ident(Column::IsRoot.name()))?
        .project([ident(Column::Id.name()), ident(Column::SessionId.name())])?
        .build()?;
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
    let merged = TallyColumn::ALL.iter().map(|column| {
        let value = ident(column.name());
        match column.merge() {
            Merge::Sum => sum_udaf::exact_sum().call(vec![value]),
            Merge::Max => max(value),
            Merge::Sketch => part_udaf::hdr_merge().call(vec![value]),
            Merge::Feedback => part_udaf::feedback_merge().call(vec![value]),
        }
        .alias(column.name())
    });
    LogicalPlanBuilder::new(tallies)
        .aggregate([ident(tally::PROJECT)], merged)?
        .build()
}

/// A tally's column as an aggregate over runs.
fn measure(column: TallyColumn) -> Result<Expr> {
    let run = |column: Column| ident(column.name());
    let elapsed = |to: Column| functions::elapsed_us(run(Column::StartTime), run(to));
    let sketch = |values: Expr| part_udaf::hdr_sketch().call(vec![values]);
    let sum = |column: Column| sum_udaf::exact_sum().call(vec![run(column)]);
    let completed = run(Column::EndTime).is_not_null();
    let streamed = run(Column::FirstTokenTime).is_not_null();
    Ok(match column {
        TallyColumn::NTraces => count(lit(1)),
        TallyColumn::NErrors => count_where(run(Column::IsError))?,
        TallyColumn::NCompleted => count_where(completed)?,
        TallyColumn::NStreamed => count_where(completed.and(streamed))?,
        TallyColumn::NCompositeUsage => {
            let is_llm = run(Column::RunType).eq(lit("llm"));
            count_where(is_llm.is_not_true().and(carries_usage()))?
        }
        TallyColumn::LatencyUs => sketch(elapsed(Column::EndTime)),
        TallyColumn::FirstTokenUs => sketch(elapsed(Column::FirstTokenTime)),
        TallyColumn::TotalTokens => sum(Column::TotalTokens),
        TallyColumn::PromptTokens => sum(Column::PromptTokens),
        TallyColumn::CompletionTokens => sum(Column::CompletionTokens),
        TallyColumn::TotalCost => sum(Column::TotalCost),
        TallyColumn::PromptCost => sum(Column::PromptCost),
        TallyColumn::CompletionCost => sum(Column::CompletionCost),
        TallyColumn::LastStartUs => max(run(Column::StartTime)),
        TallyColumn::TraceTier => max(tier_rank()?),
        TallyColumn::Feedback => part_udaf::feedback_tally().call(vec![run(Column::FeedbackStats)]),
    })
}

fn count_where(condition: Expr) -> Result<Expr> {
    count(lit(1)).filter(condition).build()
}

/// Whether any of a run's tokens or costs is there and not zero.
fn carries_usage() -> Expr {
    USAGE
        .into_iter()
        .map(|column| ident(column.name()).not_eq(lit(0_i64)))
        .reduce(Expr::or)
        .unwrap_or_else(|| lit(false))
}

fn tier_rank() -> Result<Expr> {
    let is = |tier: TraceTier| ident(Column::TraceTier.name()).eq(lit(tier.as_str()));
    when(is(TraceTier::Longlived), lit(TraceTier::Longlived.rank()))
        .when(is(TraceTier::Shortlived), lit(TraceTier::Shortlived.rank()))
        .end()
}
