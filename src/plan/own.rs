//! Own usage: runs, which contain what their children used → what they used themselves.
//!
//! What children used is added up by their parent first. That is held in memory where it fits
//! ([`Below`]); else the two are joined, which spills.

mod below;

use std::sync::Arc;

use datafusion::common::{JoinType, Result};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit, when};

use crate::runs::{Column, functions};
use crate::tally::{SUM, exact_sum};
use crate::traces::USAGE;

pub(crate) use below::Below;

/// The bits of a run.
const ID: &str = "@id";
/// Where the sums of what a run's children used begin.
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
    below: &Arc<Below>,
    usage: &[Column],
) -> Result<LogicalPlan> {
    let start = || ident(BELOW);
    let own = columns(&runs).into_iter().map(|name| {
        let place = usage.iter().position(|column| column.name() == name);
        place.map_or_else(
            || ident(&name),
            |place| below::own(below, start(), ident(&name), place).alias(&name),
        )
    });
    let own: Vec<Expr> = own.collect();
    let found = below::start(below, bits(Column::Id)).alias(BELOW);
    with(runs, found)?.project(own)?.build()
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
            with(runs, bits(Column::Id).alias(ID))?.build()?,
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

fn with(runs: LogicalPlan, one_more: Expr) -> Result<LogicalPlanBuilder> {
    let own = columns(&runs).into_iter().map(ident);
    LogicalPlanBuilder::new(runs).project(own.chain([one_more]))
}

/// The names of a plan's columns.
pub(super) fn columns(plan: &LogicalPlan) -> Vec<String> {
    let fields = plan.schema().fields().iter();
    fields.map(|field| field.name().clone()).collect()
}
