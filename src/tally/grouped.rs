//! What aggregate functions share: which rows are of which group, which of them count, and one group alone.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, new_empty_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::prep_null_mask_filter;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use crate::cpu::fastest;

/// So few rows of a group are looked at one by one.
pub(super) const FEW_ROWS: usize = 32;

/// The groups of rows, with the rows: those of one group mostly follow each other.
pub(super) fn runs(groups: &[usize]) -> impl Iterator<Item = (usize, Range<usize>)> {
    // Mostly there is one group in all of them.
    let is_one = groups.first().is_some_and(|first| {
        fastest!(
            groups
                .iter()
                .fold(0, |others, group| others | (group ^ first))
        ) == 0
    });
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = groups.get(start..)?;
        let group = *rest.first()?;
        let n = if is_one {
            rest.len()
        } else {
            let other = rest.iter().position(|other| *other != group);
            other.unwrap_or(rest.len())
        };
        let rows = start..start + n;
        start = rows.end;
        Some((group, rows))
    })
}

/// Whether groups change often from row to row, as far as the first rows tell.
pub(super) fn are_mixed(groups: &[usize]) -> bool {
    const N_TRIED: usize = 16 * FEW_ROWS;
    let groups = groups.get(..N_TRIED).unwrap_or(groups);
    let next = groups.iter().skip(1);
    let n_changes = groups.iter().zip(next).filter(|(one, next)| one != next);
    n_changes.count() * FEW_ROWS > groups.len()
}

/// Which rows count: those that have a value and for which a filter holds.
pub(super) fn counting(
    nulls: Option<&NullBuffer>,
    filter: Option<&BooleanArray>,
) -> Option<NullBuffer> {
    let filter = filter.map(|filter| match filter.null_count() {
        0 => filter.values().clone(),
        _ => prep_null_mask_filter(filter).values().clone(),
    });
    NullBuffer::union(nulls, filter.map(NullBuffer::new).as_ref())
}

/// The states of rows, each in a group of its own.
pub(super) fn states_of_rows<G: GroupsAccumulator + Default>(
    values: &[ArrayRef],
    filter: Option<&BooleanArray>,
) -> Result<Vec<ArrayRef>> {
    let n_rows = values.first().map_or(0, Array::len);
    let mut rows = G::default();
    let groups: Vec<usize> = (0..n_rows).collect();
    rows.update_batch(values, &groups, filter, n_rows)?;
    rows.state(EmitTo::All)
}

/// A groups accumulator with a single group, where the engine asks for an ungrouped one.
#[derive(Debug)]
pub(super) struct Single<G> {
    groups: G,
    state: DataType,
    /// The group of each row.
    rows: Vec<usize>,
}

impl<G: GroupsAccumulator> Single<G> {
    /// Wraps accumulators whose state is one column of type `state`.
    pub(super) fn new(groups: G, state: DataType) -> Self {
        Self {
            groups,
            state,
            rows: Vec::new(),
        }
    }

    /// The group of rows, of which there are as many as in some columns.
    fn add(
        &mut self,
        columns: &[ArrayRef],
        add: impl FnOnce(&mut G, &[usize]) -> Result<()>,
    ) -> Result<()> {
        let n_rows = columns.first().map_or(0, Array::len);
        if self.rows.len() < n_rows {
            self.rows.resize(n_rows, 0);
        }
        add(
            &mut self.groups,
            self.rows.get(..n_rows).unwrap_or_default(),
        )
    }

    /// Makes the one group where no row did.
    fn ensure_group(&mut self) -> Result<()> {
        let nothing = new_empty_array(&self.state);
        self.groups.merge_batch(&[nothing], &[], 1)
    }
}

impl<G: GroupsAccumulator + Sync + std::fmt::Debug> Accumulator for Single<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values, |all, rows| all.update_batch(values, rows, None, 1))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(states, |all, rows| all.merge_batch(states, rows, 1))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.ensure_group()?;
        ScalarValue::try_from_array(&self.groups.evaluate(EmitTo::All)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.ensure_group()?;
        let states = self.groups.state(EmitTo::All)?;
        states
            .iter()
            .map(|state| ScalarValue::try_from_array(state, 0))
            .collect()
    }

    fn size(&self) -> usize {
        self.groups.size() + self.rows.capacity() * size_of::<usize>()
    }
}
