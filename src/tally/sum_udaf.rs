//! Sums that are exact or an error: the engine's own `SUM` wraps silently.
//!
//! `exact_sum` adds 64-bit integers (tokens, pico-dollars) or sums of them into a decimal of 38 digits
//! without a fraction; null where there is no value.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, PrimitiveArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature,
    TypeSignature, Volatility,
};

use super::grouped::{FEW_ROWS, Single, are_mixed, counting, runs, states_of_rows};
use crate::cpu::fastest;

/// The type of a sum.
pub(crate) const SUM: DataType = DataType::Decimal128(38, 0);

/// The greatest sum: 38 nines.
const LIMIT: u128 = 10_u128.pow(38) - 1;

/// `exact_sum(Int64 | Decimal128(38, 0)) → Decimal128(38, 0)`: a sum that is exact or an error, for a
/// DataFusion session of any kind; null where there is no value.
#[must_use]
pub fn exact_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(ExactSum {
        signature: Signature::one_of(
            vec![
                TypeSignature::Exact(vec![DataType::Int64]),
                TypeSignature::Exact(vec![SUM]),
            ],
            Volatility::Immutable,
        ),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactSum {
    signature: Signature,
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &'static str {
        "exact_sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(SUM)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(args.name, SUM, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(Sums::default(), SUM)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sums::default()))
    }
}

/// What stands for the sum of a group of which no value came: none is beyond the limit.
const NOTHING: i128 = i128::MIN;

/// One sum a group.
#[derive(Debug, Default)]
struct Sums(Vec<i128>);

impl Sums {
    /// Adds each integer that counts to the sum of its group. No process lives to add up so many that
    /// these sums pass 128 bits; whether they pass 38 digits is seen in the end.
    fn add_each(&mut self, values: &[i64], groups: &[usize], counting: Option<&BooleanBuffer>) {
        let sums = self.0.as_mut_slice();
        let mut add = |group: usize, value: i64, counts: bool| {
            if let Some(sum) = sums.get_mut(group) {
                let before = if *sum == NOTHING { 0 } else { *sum };
                let after = before.wrapping_add(value.into());
                // Chosen without a branch that nobody could foresee.
                *sum = if counts { after } else { *sum };
            }
        };
        match counting {
            None => {
                for (group, value) in groups.iter().zip(values) {
                    add(*group, *value, true);
                }
            }
            Some(counting) => {
                for ((group, value), counts) in groups.iter().zip(values).zip(counting) {
                    add(*group, *value, counts);
                }
            }
        }
    }

    /// Adds to each group the sum of its rows that count. `sum` is that of up to 64 values, of those of
    /// which the bit is set.
    fn add<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
        sum: impl Fn(&[T::Native], u64) -> Option<i128>,
    ) -> Result<()>
    where
        T::Native: Into<i128>,
    {
        self.0.resize(n_groups, NOTHING);
        let counting = counting(values.nulls(), filter);
        for (group, rows) in runs(groups) {
            let Some(values) = values.values().get(rows.clone()) else {
                return internal_err!("more groups than values");
            };
            if rows.len() < FEW_ROWS {
                for (value, row) in values.iter().zip(rows) {
                    if counting
                        .as_ref()
                        .is_none_or(|counting| counting.is_valid(row))
                    {
                        self.add_to(group, Some((*value).into()))?;
                    }
                }
                continue;
            }
            let mut values = values.chunks(u64::BITS as usize);
            match &counting {
                None => values.try_for_each(|values| self.add_to(group, sum(values, u64::MAX)))?,
                Some(counting) => {
                    let counting = counting.inner().slice(rows.start, rows.len());
                    let words = counting.bit_chunks();
                    values
                        .zip(words.iter_padded())
                        .filter(|(_, word)| *word != 0)
                        .try_for_each(|(values, word)| self.add_to(group, sum(values, word)))?;
                }
            }
        }
        Ok(())
    }

    /// Adds a sum of values that count.
    fn add_to(&mut self, group: usize, more: Option<i128>) -> Result<()> {
        let Some(sum) = self.0.get_mut(group) else {
            return internal_err!("there is no group {group}");
        };
        let before = if *sum == NOTHING { 0 } else { *sum };
        *sum = within(more.and_then(|more| before.checked_add(more)))?;
        Ok(())
    }
}

/// The sum of up to 64 integers, of those of which the bit is set.
fn sum_of_integers(values: &[i64], counting: u64) -> i128 {
    // Moved by 2⁶³ they are not negative, and the sums of their halves stay within 64 bits.
    const MOVED: u64 = 1 << 63;
    let (low, high) = fastest!({
        let counted = values.iter().enumerate().map(|(bit, value)| {
            let counts = (counting >> bit & 1).wrapping_neg();
            (value.cast_unsigned() & counts) ^ MOVED
        });
        counted.fold((0, 0), |(low, high), value| {
            (low + (value & u64::from(u32::MAX)), high + (value >> 32))
        })
    });
    let n_moved = i128::try_from(values.len()).unwrap_or(i128::MAX);
    (i128::from(high) << 32) + i128::from(low) - n_moved * i128::from(MOVED)
}

fn within(sum: Option<i128>) -> Result<i128> {
    sum.filter(|sum| sum.unsigned_abs() <= LIMIT)
        .ok_or_else(|| exec_datafusion_err!("a sum passes 38 digits"))
}

impl GroupsAccumulator for Sums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let [values] = values else {
            return internal_err!("exact_sum takes one column");
        };
        if let Some(integers) = values.as_primitive_opt::<Int64Type>() {
            if are_mixed(group_indices) && group_indices.len() == integers.len() {
                self.0.resize(total_num_groups, NOTHING);
                let counting = counting(integers.nulls(), opt_filter);
                let counting = counting.as_ref().map(NullBuffer::inner);
                self.add_each(integers.values(), group_indices, counting);
                return Ok(());
            }
            let sum = |values: &[i64], counting| Some(sum_of_integers(values, counting));
            self.add(integers, group_indices, opt_filter, total_num_groups, sum)
        } else if let Some(sums) = values.as_primitive_opt::<Decimal128Type>() {
            let sum = |values: &[i128], counting: u64| {
                let mut counted = values.iter().zip(0..);
                counted.try_fold(0_i128, |sum, (value, bit)| match counting >> bit & 1 {
                    0 => Some(sum),
                    _ => sum.checked_add(*value),
                })
            };
            self.add(sums, group_indices, opt_filter, total_num_groups, sum)
        } else {
            internal_err!("exact_sum takes integers, not {}", values.data_type())
        }
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut sums = emit_to.take_needed(&mut self.0);
        let has_value: Vec<bool> = sums.iter().map(|sum| *sum != NOTHING).collect();
        for sum in &mut sums {
            *sum = within(Some(if *sum == NOTHING { 0 } else { *sum }))?;
        }
        let has_value = NullBuffer::from(has_value);
        let sums = Decimal128Array::new(sums.into(), Some(has_value));
        Ok(Arc::new(sums.with_data_type(SUM)))
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
        size_of::<Self>() + self.0.capacity() * size_of::<i128>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use proptest::prelude::*;

    use super::*;
    use crate::tally::count_udaf::Counts;

    fn numbers() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -9..9_i64]
    }

    proptest! {
        #[test]
        fn sums_and_counts_are_those_of_the_rows_that_count(
            // Of long runs, of short ones, of one group alone.
            runs in proptest::collection::vec((0..4_usize, prop_oneof![1..4_usize, 1..300_usize]), 0..6),
            numbers in proptest::collection::vec(proptest::option::weighted(0.8, numbers()), 1..97),
            filter in proptest::option::of(proptest::collection::vec(proptest::option::of(any::<bool>()), 1..83)),
        ) {
            let groups: Vec<usize> = runs.iter().flat_map(|(group, n)| vec![*group; *n]).collect();
            let numbers: Int64Array = numbers.iter().cycle().take(groups.len()).copied().collect();
            let holds: BooleanArray = numbers.iter().map(|number| number.map(|number| number % 3 == 0)).collect();
            let filter: Option<BooleanArray> =
                filter.map(|filter| filter.iter().cycle().take(groups.len()).copied().collect());
            let mut expected = [(None, 0_i64); 4];
            for (row, group) in groups.iter().enumerate() {
                if filter.as_ref().is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                    continue;
                }
                let (sum, count) = &mut expected[*group];
                if numbers.is_valid(row) {
                    *sum = Some(sum.unwrap_or(0) + i128::from(numbers.value(row)));
                    *count += i64::from(numbers.value(row) % 3 == 0);
                }
            }
            let numbers: [ArrayRef; 1] = [Arc::new(numbers)];
            let holds: [ArrayRef; 1] = [Arc::new(holds)];
            let (mut sums, mut counts) = (Sums::default(), Counts::default());
            sums.update_batch(&numbers, &groups, filter.as_ref(), 4).unwrap();
            counts.update_batch(&holds, &groups, filter.as_ref(), 4).unwrap();
            // Row by row, and merged.
            let (mut merged_sums, mut merged_counts) = (Sums::default(), Counts::default());
            let states = sums.convert_to_state(&numbers, filter.as_ref()).unwrap();
            merged_sums.merge_batch(&states, &groups, 4).unwrap();
            let states = counts.convert_to_state(&holds, filter.as_ref()).unwrap();
            merged_counts.merge_batch(&states, &groups, 4).unwrap();
            for mut sums in [sums, merged_sums] {
                let found = sums.evaluate(EmitTo::All).unwrap();
                let found: Vec<_> = found.as_primitive::<Decimal128Type>().iter().collect();
                prop_assert_eq!(found, expected.map(|(sum, _)| sum).to_vec());
            }
            for mut counts in [counts, merged_counts] {
                let found = counts.evaluate(EmitTo::All).unwrap();
                let found: Vec<_> = found.as_primitive::<Int64Type>().iter().flatten().collect();
                prop_assert_eq!(found, expected.map(|(_, count)| count).to_vec());
            }
        }
    }
}
