//! Stored tallies: rows of tally files → the tallies of a split's groups, and those → rows of a file.
//!
//! In a file, a row has its project, a label a key, the first moment of its span of time and a tally. What
//! is asked of files and what is asked of runs are tallies of the same groups, and merge.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};

use super::split::{BUCKET, Split, label};
use super::values;
use crate::request::Key;
use crate::tally::{self, Merge, TallyColumn, key_column, part_udaf, sum_udaf};

impl Split<'_> {
    /// Rows of tally files → their tallies as those of the split's groups, of which there may be several.
    pub(crate) fn stored(&self, rows: LogicalPlan) -> Result<LogicalPlan> {
        let labels = self.by.iter().enumerate().map(|(place, key)| {
            let column = match key {
                Key::Project => tally::PROJECT.to_owned(),
                key => key_column(&key.to_string()),
            };
            ident(column).alias(label(place))
        });
        let bucket = self
            .every
            .map(|every| values::bucket(ident(tally::START), every).alias(BUCKET));
        let tallies = self.columns.iter().map(|column| ident(column.name()));
        LogicalPlanBuilder::new(rows)
            .project(labels.chain(bucket).chain(tallies))?
            .build()
    }

    /// Tallies of the split's groups from several places → one a group.
    pub(crate) fn merged(&self, parts: Vec<LogicalPlan>) -> Result<Option<LogicalPlan>> {
        let mut all: Option<LogicalPlanBuilder> = None;
        for part in parts {
            let tallies = self.columns.iter().map(|column| of_type(*column));
            let part = LogicalPlanBuilder::new(part)
                .project(self.groups().into_iter().chain(tallies))?
                .build()?;
            all = Some(match all {
                None => LogicalPlanBuilder::new(part),
                Some(all) => all.union(part)?,
            });
        }
        let Some(all) = all else {
            return Ok(None);
        };
        let merged = self.columns.iter().map(|column| merge_of(*column));
        all.aggregate(self.groups(), merged)?.build().map(Some)
    }

    /// Tallies of the split's groups → rows of a file that is split by these keys, beside the project. A key
    /// that the split does not have is null. `counts_once` is whether each run is in one row only, where a
    /// file has such rows and others.
    pub(crate) fn rows(
        &self,
        tallies: LogicalPlan,
        keys: &[Key],
        counts_once: Option<bool>,
    ) -> Result<LogicalPlan> {
        let place = |key: &Key| self.by.iter().position(|other| other == key);
        let of = |key: &Key| match place(key) {
            Some(place) => ident(label(place)),
            None => cast(lit(ScalarValue::Null), DataType::Utf8View),
        };
        let project = of(&Key::Project).alias(tally::PROJECT);
        let keys = keys.iter();
        let keys = keys.map(|key| of(key).alias(key_column(&key.to_string())));
        let once = counts_once.map(|once| lit(once).alias(tally::COUNTS_ONCE));
        let start = self.every.map(|_| ident(BUCKET).alias(tally::START));
        let columns = self.columns.iter().map(|column| of_type(*column));
        let columns = std::iter::once(project)
            .chain(keys)
            .chain(once)
            .chain(start)
            .chain(columns);
        LogicalPlanBuilder::new(tallies).project(columns)?.build()
    }

    fn groups(&self) -> Vec<Expr> {
        let labels = (0..self.by.len()).map(|place| ident(label(place)));
        labels.chain(self.every.map(|_| ident(BUCKET))).collect()
    }
}

/// Rows of a file in their order: by all columns but the tallies' own.
pub(crate) fn in_order(
    mut rows: Vec<LogicalPlan>,
    n_tallies: usize,
) -> Result<Option<LogicalPlan>> {
    let Some(last) = rows.pop() else {
        return Ok(None);
    };
    let last = LogicalPlanBuilder::new(last);
    let all = rows.into_iter().try_fold(last, LogicalPlanBuilder::union)?;
    let fields = all.schema().fields();
    let sorted = fields.iter().take(fields.len() - n_tallies);
    let order: Vec<_> = sorted
        .map(|field| ident(field.name()).sort(true, false))
        .collect();
    all.sort(order)?.build().map(Some)
}

/// A tally's column in its type.
fn of_type(column: TallyColumn) -> Expr {
    cast(ident(column.name()), column.data_type()).alias(column.name())
}

/// A tally's column as an aggregate over tallies.
pub(super) fn merge_of(column: TallyColumn) -> Expr {
    let value = ident(column.name());
    match column.merge() {
        Merge::Sum => sum_udaf::exact_sum().call(vec![value]),
        Merge::Max => max(value),
        Merge::Min => min(value),
        Merge::Sketch => part_udaf::hdr_merge().call(vec![value]),
        Merge::Feedback => part_udaf::feedback_merge().call(vec![value]),
        Merge::Distinct => part_udaf::distinct_merge().call(vec![value]),
        Merge::Exemplars => part_udaf::exemplars_merge().call(vec![value]),
    }
    .alias(column.name())
}
