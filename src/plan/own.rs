//! Own usage: runs, which contain what their children used → what they used themselves.
//!
//! Where no more is asked than sums, what children used is taken off their parents as these come by
//! ([`own_usage_at_once`]). Else it is added up by parent first: that is held in memory where it fits
//! ([`Below`]); where it does not, the two are joined, which spills.

mod at_once;
mod below;

use datafusion::common::{JoinType, Result};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit, when};

use super::Split;
use crate::runs::{Column, functions};
use crate::tally::{SUM, exact_sum};
use crate::traces::USAGE;

pub(crate) use at_once::{COUNTED, executed};
pub(crate) use below::{Below, SharedBelow};

/// The bits of a run.
const ID: &str = "@id";
/// The row of what a run's children used.
const BELOW: &str = "@below";
/// The bits of a child's parent.
const PARENT: &str = "@parent";

/// Those of some columns that tell what a run used.
pub(crate) fn usage_of(columns: &[Column]) -> Vec<Column> {
    let usage = USAGE.into_iter();
    usage.filter(|column| columns.contains(column)).collect()
}

/// The columns of children that are read where these tell what they used.
pub(crate) fn of_children(usage: &[Column]) -> Vec<Column> {
    [&[Column::SessionId, Column::ParentRunId], usage].concat()
}

/// Children → their parents' bits, null where they have none, and what they used: rows of [`Below::add`].
pub(crate) fn children(children: LogicalPlan, usage: &[Column]) -> Result<LogicalPlan> {
    let usage = usage.iter().map(|column| ident(column.name()));
    let parent = bits(Column::ParentRunId).alias(PARENT);
    LogicalPlanBuilder::new(children)
        .project(std::iter::once(parent).chain(usage))?
        .build()
}

/// Runs with what they used themselves, where it is known what children used in these columns. They have
/// their id.
pub(crate) fn own_usage_above(
    runs: LogicalPlan,
    below: &SharedBelow,
    usage: &[Column],
) -> Result<LogicalPlan> {
    let row = || ident(BELOW);
    let own = columns(&runs).into_iter().map(|name| {
        let place = usage.iter().position(|column| column.name() == name);
        place.map_or_else(
            || ident(&name),
            |place| below::own(below, row(), ident(&name), place).alias(&name),
        )
    });
    let own: Vec<Expr> = own.collect();
    let found = below::row(below, bits(Column::Id)).alias(BELOW);
    with(runs, [found])?.project(own)?.build()
}

/// Runs with their labels and what they used themselves in these columns, of which no more is asked than
/// sums; also rows that are no runs ([`COUNTED`]). The runs have their id and their parent's; `again` are
/// the same with no more than their id and what [`Split::labels`] reads.
pub(crate) fn own_usage_at_once(
    split: &Split<'_>,
    runs: LogicalPlan,
    again: LogicalPlan,
    usage: &[Column],
) -> Result<LogicalPlan> {
    let left = SharedBelow::default();
    let kin = [(Column::Id, ID), (Column::ParentRunId, PARENT)];
    let runs = with(runs, kin.map(|(column, name)| bits(column).alias(name)))?.build()?;
    let found = below::row(&left, bits(Column::Id)).alias(BELOW);
    let again = with(again, [found])?
        .filter(ident(BELOW).not_eq(lit(below::NOBODY)))?
        .build()?;
    let runs = split.runs(runs, &[ID, PARENT])?;
    let again = split.labels().runs(again, &[BELOW])?;
    at_once::plan(runs, again, usage, &left, at_once::N_STAYING)
}

/// The same by a join with the children, of which these columns tell what they used.
pub(crate) fn own_usage(
    runs: LogicalPlan,
    children: LogicalPlan,
    usage: &[Column],
) -> Result<LogicalPlan> {
    let below = |column: Column| format!("@below.{}", column.name());
    let used = usage
        .iter()
        .map(|column| ident(column.name()).is_not_null());
    let used = used.reduce(Expr::or).unwrap_or_else(|| lit(false));
    let sums = usage.iter().map(|column| {
        let sum = exact_sum().call(vec![ident(column.name())]);
        sum.alias(below(*column))
    });
    let children = LogicalPlanBuilder::new(children)
        .filter(used)?
        .project(
            std::iter::once(bits(Column::ParentRunId).alias(PARENT))
                .chain(usage.iter().map(|column| ident(column.name()))),
        )?
        .filter(ident(PARENT).is_not_null())?
        .aggregate([ident(PARENT)], sums)?
        .build()?;
    let own = columns(&runs).into_iter().map(|name| {
        let Some(column) = usage.iter().find(|column| column.name() == name) else {
            return Ok(ident(name));
        };
        let (total, below) = (ident(&name), ident(below(*column)));
        let or_nothing = |value: Expr| coalesce(vec![cast(value, SUM), cast(lit(0_i64), SUM)]);
        let own = or_nothing(total.clone()) - or_nothing(below.clone());
        let is_any = total.is_not_null().or(below.is_not_null());
        when(is_any, cast(own, SUM))
            .end()
            .map(|own| own.alias(name))
    });
    let own = own.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::new(children)
        .join(
            with(runs, [bits(Column::Id).alias(ID)])?.build()?,
            JoinType::Right,
            (vec![PARENT], vec![ID]),
            None,
        )?
        .project(own)?
        .build()
}

fn bits(id: Column) -> Expr {
    functions::run_bits(ident(Column::SessionId.name()), ident(id.name()))
}

fn with(runs: LogicalPlan, more: impl IntoIterator<Item = Expr>) -> Result<LogicalPlanBuilder> {
    let own = columns(&runs).into_iter().map(ident);
    LogicalPlanBuilder::new(runs).project(own.chain(more))
}

/// The names of a plan's columns.
pub(super) fn columns(plan: &LogicalPlan) -> Vec<String> {
    let fields = plan.schema().fields().iter();
    fields.map(|field| field.name().clone()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
    use datafusion::arrow::util::display::array_value_to_string;
    use datafusion::prelude::SessionContext;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A run's project, its number, its parent's number, its tokens, its cost.
    type Run = (bool, Option<u8>, Option<u8>, Option<i64>, Option<i64>);

    fn runs(runs: &[Run]) -> RecordBatch {
        let id = |number: u8| format!("0188aa3e-c5b4-7d10-9f00-0000000000{number:02x}");
        let ids = |of: fn(&Run) -> Option<u8>| -> ArrayRef {
            let ids = runs.iter().map(|run| of(run).map(id));
            Arc::new(ids.collect::<StringViewArray>())
        };
        let numbers = |of: fn(&Run) -> Option<i64>| -> ArrayRef {
            Arc::new(runs.iter().map(of).collect::<Int64Array>())
        };
        let columns = [
            (Column::SessionId, ids(|run| Some(u8::from(run.0)))),
            (Column::Id, ids(|run| run.1)),
            (Column::ParentRunId, ids(|run| run.2)),
            (Column::TotalTokens, numbers(|run| run.3)),
            (Column::TotalCost, numbers(|run| run.4)),
        ];
        let columns = columns.map(|(column, values)| (column.name(), values, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    async fn rows(ctx: &SessionContext, plan: LogicalPlan) -> Vec<String> {
        let plan = ctx.execute_logical_plan(plan).await.unwrap();
        let mut rows = Vec::new();
        for batch in plan.collect().await.unwrap() {
            rows.extend((0..batch.num_rows()).map(|row| {
                let columns = batch.columns().iter();
                let values = columns.map(|column| array_value_to_string(column, row).unwrap());
                values.collect::<Vec<_>>().join(" ")
            }));
        }
        rows.sort();
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_join_finds_what_the_table_does(
            some in vec((
                any::<bool>(),
                prop::option::weighted(0.9, 0..12_u8),
                prop::option::of(0..16_u8),
                prop::option::of(-5..1_000_i64),
                prop::option::of(any::<i64>()),
            ), 0..60),
        ) {
            let usage = [Column::TotalTokens, Column::TotalCost];
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (joined, looked_up) = runtime.block_on(async {
                let ctx = SessionContext::new();
                let all = ctx.read_batch(runs(&some)).unwrap().into_unoptimized_plan();
                let joined = own_usage(all.clone(), all.clone(), &usage).unwrap();
                let used = ctx.execute_logical_plan(children(all.clone(), &usage).unwrap());
                let mut below = Below::default();
                for batch in used.await.unwrap().collect().await.unwrap() {
                    below.add(&batch).unwrap();
                }
                let below = Arc::new(below.into());
                let looked_up = own_usage_above(all, &below, &usage).unwrap();
                (rows(&ctx, joined).await, rows(&ctx, looked_up).await)
            });
            prop_assert_eq!(joined, looked_up);
        }
    }
}
