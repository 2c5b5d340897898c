//! Counts of the rows of which a condition holds: the engine's own `COUNT(1) FILTER` looks at one row after
//! another, and makes a column of ones.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::grouped::{FEW_ROWS, Single, are_mixed, counting, runs, states_of_rows};

/// `count_true(Boolean) → Int64`: how many rows a condition holds for; never null.
pub(crate) fn count_true() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(CountTrue {
        signature: Signature::exact(vec![DataType::Boolean], Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CountTrue {
    signature: Signature,
}

impl AggregateUDFImpl for CountTrue {
    fn name(&self) -> &'static str {
        "count_true"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(args.name, DataType::Int64, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(Counts::default(), DataType::Int64)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Counts::default()))
    }
}

/// What is true of less than one of so many rows is seldom so.
const SELDOM: usize = 4;

/// One count a group.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<i64>);

impl Counts {
    /// Adds to each group what some of its rows, which follow each other, count for.
    fn add(
        &mut self,
        groups: &[usize],
        n_groups: usize,
        count: impl Fn(Range<usize>) -> i64,
    ) -> Result<()> {
        self.0.resize(n_groups, 0);
        for (group, rows) in runs(groups) {
            let n = count(rows);
            // What is seldom true need not look at its group.
            if n == 0 {
                continue;
            }
            let Some(all) = self.0.get_mut(group) else {
                return internal_err!("group {group} of {n_groups}");
            };
            *all += n;
        }
        Ok(())
    }

    /// Adds each row that is set to its group's count.
    fn add_each(&mut self, are_set: &BooleanBuffer, groups: &[usize]) {
        let counts = self.0.as_mut_slice();
        let mut add = |group: usize, n: i64| {
            if let Some(count) = counts.get_mut(group) {
                *count += n;
            }
        };
        if SELDOM * are_set.count_set_bits() < groups.len() {
            // The others need not look at their groups.
            for row in are_set.set_indices() {
                groups.get(row).into_iter().for_each(|group| add(*group, 1));
            }
        } else {
            for (group, is_set) in groups.iter().zip(are_set) {
                add(*group, is_set.into());
            }
        }
    }
}

impl GroupsAccumulator for Counts {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let Some([holds]) = values.as_array::<1>() else {
            return internal_err!("count_true takes one column");
        };
        let Some(holds) = holds.as_boolean_opt() else {
            return internal_err!("count_true takes booleans, not {}", holds.data_type());
        };
        let mut holding = holds.values().clone();
        if let Some(counting) = counting(holds.nulls(), opt_filter) {
            holding = &holding & counting.inner();
        }
        if are_mixed(group_indices) && group_indices.len() == holding.len() {
            self.0.resize(total_num_groups, 0);
            self.add_each(&holding, group_indices);
            return Ok(());
        }
        let count = |rows: Range<usize>| {
            let n = match rows.len() {
                n @ FEW_ROWS.. => holding.slice(rows.start, n).count_set_bits(),
                _ => rows.filter(|row| holding.value(*row)).count(),
            };
            i64::try_from(n).unwrap_or(i64::MAX)
        };
        self.add(group_indices, total_num_groups, count)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let counts = values
            .first()
            .and_then(AsArray::as_primitive_opt::<Int64Type>);
        let Some(counts) = counts else {
            return internal_err!("count_true merges counts");
        };
        let count =
            |rows: Range<usize>| counts.slice(rows.start, rows.len()).iter().flatten().sum();
        self.add(group_indices, total_num_groups, count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = emit_to.take_needed(&mut self.0);
        Ok(Arc::new(Int64Array::from(counts)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        states_of_rows::<Self>(values, opt_filter)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.capacity() * size_of::<i64>()
    }
}
