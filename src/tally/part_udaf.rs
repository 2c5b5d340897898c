//! Mergeable parts of a tally (sketches, feedback, distinct counts, exemplars) as aggregate functions; no
//! arithmetic here.
//!
//! A part is fed values row by row, merged from its bytes, and written as its bytes: the same bytes are
//! an aggregation's partial state, its result and what is stored. One native groups accumulator serves
//! them all; a group without a value is a null.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Int64Array, LargeBinaryArray,
    NullBufferBuilder, StringViewArray,
};
use datafusion::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{
    DataFusionError, Result, ScalarValue, exec_datafusion_err, internal_datafusion_err,
};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::distinct::{self, Distinct};
use super::exemplars::Exemplars;
use super::feedback::{Feedback, ParsedSummaries};
use super::grouped::{FEW_ROWS, Single, counting, runs};
use super::sketch::Sketch;
use super::sum_udaf::SUM;
use crate::cpu::fastest;

/// `hdr_sketch(Int64) → LargeBinary`: the bytes of the sketch of a group's values, for a DataFusion
/// session of any kind. Negative values are left out; null where there is none.
#[must_use]
pub fn hdr_sketch() -> Arc<AggregateUDF> {
    udaf::<Values>()
}

/// The same of sums: `hdr_sketch_of_sums(Decimal128(38, 0)) → LargeBinary`.
pub(crate) fn hdr_sketch_of_sums() -> Arc<AggregateUDF> {
    udaf::<SummedValues>()
}

/// `hdr_merge(LargeBinary) → LargeBinary`: sketch bytes → the bytes of their sum.
#[must_use]
pub fn hdr_merge() -> Arc<AggregateUDF> {
    udaf::<Merged<Sketch>>()
}

/// The runs' own feedback summaries (JSON text) → feedback bytes; texts that cannot be read are counted.
pub(crate) fn feedback_tally() -> Arc<AggregateUDF> {
    udaf::<Summaries>()
}

/// Feedback bytes → the bytes of their sum.
pub(crate) fn feedback_merge() -> Arc<AggregateUDF> {
    udaf::<Merged<Feedback>>()
}

/// `distinct_hashes(Utf8View) → LargeBinary`: the bytes of the [`Distinct`] of a group's texts, for a
/// DataFusion session of any kind; null where there is none.
#[must_use]
pub fn distinct_hashes() -> Arc<AggregateUDF> {
    udaf::<Texts>()
}

/// `distinct_merge(LargeBinary) → LargeBinary`: bytes of distinct counts → the bytes of their union.
#[must_use]
pub fn distinct_merge() -> Arc<AggregateUDF> {
    udaf::<Merged<Distinct>>()
}

/// `exemplars(Int64, Decimal128(38, 0)) → LargeBinary`: the bytes of the [`Exemplars`] of a group's values
/// and the 128 bits of their runs' ids, for a DataFusion session of any kind. Negative values are left
/// out; null where there is none.
#[must_use]
pub fn exemplars() -> Arc<AggregateUDF> {
    udaf::<Runs>()
}

/// `exemplars_merge(LargeBinary) → LargeBinary`: bytes of exemplars → the bytes of all of them.
#[must_use]
pub fn exemplars_merge() -> Arc<AggregateUDF> {
    udaf::<Merged<Exemplars>>()
}

/// What is merged: a commutative monoid whose elements have one byte string each.
trait Part: Default + Debug + Send + Sync + 'static {
    /// The name of the function that merges its bytes.
    const MERGE: &'static str;
    fn is_empty(&self) -> bool;
    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<()>;
    fn write_to(&self, out: &mut Vec<u8>);
    fn heap_size(&self) -> usize;
}

macro_rules! parts {
    ($($part:ident: $merge:literal),+ $(,)?) => {
        $(impl Part for $part {
            const MERGE: &'static str = $merge;

            fn is_empty(&self) -> bool {
                self.is_empty()
            }

            fn merge_bytes(&mut self, bytes: &[u8]) -> Result<()> {
                self.merge_bytes(bytes).map_err(external)
            }

            fn write_to(&self, out: &mut Vec<u8>) {
                self.write_to(out);
            }

            fn heap_size(&self) -> usize {
                self.heap_size()
            }
        })+
    };
}

parts! {
    Sketch: "hdr_merge",
    Feedback: "feedback_merge",
    Distinct: "distinct_merge",
    Exemplars: "exemplars_merge",
}

/// The columns that a function takes; a row counts where it has a value in each.
trait Columns: Sized {
    fn of(arrays: &[ArrayRef]) -> Option<Self>;
    fn n_rows(&self) -> usize;
    fn nulls(&self) -> Option<NullBuffer>;
}

impl<A: Array + Clone + 'static> Columns for (A,) {
    fn of(arrays: &[ArrayRef]) -> Option<Self> {
        let [array] = arrays else { return None };
        Some((array.as_any().downcast_ref::<A>()?.clone(),))
    }

    fn n_rows(&self) -> usize {
        self.0.len()
    }

    fn nulls(&self) -> Option<NullBuffer> {
        self.0.nulls().cloned()
    }
}

impl<A: Array + Clone + 'static, B: Array + Clone + 'static> Columns for (A, B) {
    fn of(arrays: &[ArrayRef]) -> Option<Self> {
        let [one, other] = arrays else { return None };
        let one = one.as_any().downcast_ref::<A>()?.clone();
        Some((one, other.as_any().downcast_ref::<B>()?.clone()))
    }

    fn n_rows(&self) -> usize {
        self.0.len()
    }

    fn nulls(&self) -> Option<NullBuffer> {
        NullBuffer::union(self.0.nulls(), self.1.nulls())
    }
}

/// Rows that follow each other, of which some count.
struct Rows<'a> {
    all: Range<usize>,
    counting: Option<&'a NullBuffer>,
}

impl Rows<'_> {
    #[inline]
    fn count(&self, row: usize) -> bool {
        self.counting.is_none_or(|counting| counting.is_valid(row))
    }

    /// Which of them count, 64 at a time.
    fn words(&self) -> Vec<u64> {
        let n_words = self.all.len().div_ceil(u64::BITS as usize);
        match self.counting {
            None => vec![u64::MAX; n_words],
            Some(counting) => {
                let counting = counting.inner().slice(self.all.start, self.all.len());
                counting.bit_chunks().iter_padded().take(n_words).collect()
            }
        }
    }

    /// Those that count.
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.all.clone().filter(|row| self.count(*row))
    }
}

/// How some columns feed one kind of part.
trait Feed: Debug + Send + Sync + 'static {
    type Part: Part;
    type Columns: Columns;
    const NAME: &'static str;
    const INPUTS: &'static [DataType];

    /// What is worth keeping from value to value.
    type Memory: Debug + Default + Send + Sync;

    /// Adds a row, in which no value is null.
    fn feed(
        part: &mut Self::Part,
        values: &Self::Columns,
        row: usize,
        memory: &mut Self::Memory,
    ) -> Result<()>;

    /// Adds rows of a group, or keeps them in memory.
    fn feed_all(
        (part, _group): (&mut Self::Part, usize),
        values: &Self::Columns,
        rows: &Rows<'_>,
        memory: &mut Self::Memory,
    ) -> Result<()> {
        for row in rows.iter() {
            Self::feed(part, values, row, memory)?;
        }
        Ok(())
    }

    /// Whether more is kept in memory than should be.
    fn is_full(_: &Self::Memory) -> bool {
        false
    }

    /// Adds to the groups' parts what is kept in memory; each that grows is told with its part.
    fn settle(
        _: &mut Self::Memory,
        _add: impl FnMut(usize, &dyn Fn(&mut Self::Part) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        Ok(())
    }

    /// Writes the bytes of a part that was fed one row. Nothing where the row adds nothing.
    fn write_single(values: &Self::Columns, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut part = Self::Part::default();
        Self::feed(&mut part, values, row, &mut Self::Memory::default())?;
        if !part.is_empty() {
            part.write_to(out);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Values;

impl Feed for Values {
    type Part = Sketch;
    type Columns = (Int64Array,);
    type Memory = Vec<u64>;
    const NAME: &'static str = "hdr_sketch";
    const INPUTS: &'static [DataType] = &[DataType::Int64];

    fn feed(
        part: &mut Sketch,
        (values,): &(Int64Array,),
        row: usize,
        _: &mut Vec<u64>,
    ) -> Result<()> {
        if let Ok(value) = u64::try_from(values.value(row)) {
            part.record(value);
        }
        Ok(())
    }

    /// Those that count are brought together first, without a branch that nobody could foresee.
    fn feed_all(
        (part, _): (&mut Sketch, usize),
        columns: &(Int64Array,),
        rows: &Rows<'_>,
        counted: &mut Vec<u64>,
    ) -> Result<()> {
        if rows.all.len() < FEW_ROWS {
            for row in rows.iter() {
                Self::feed(part, columns, row, counted)?;
            }
            return Ok(());
        }
        let (values,) = columns;
        if counted.len() < rows.all.len() {
            counted.resize(rows.all.len(), 0);
        }
        let values = values.values().get(rows.all.clone()).unwrap_or_default();
        let values = values.chunks(u64::BITS as usize);
        let mut n = 0;
        for (values, word) in values.zip(rows.words()) {
            n += fastest!({
                let places = counted.get_mut(n..).unwrap_or_default();
                let mut n_counted = 0;
                for (bit, value) in values.iter().enumerate() {
                    if let Some(place) = places.get_mut(n_counted) {
                        *place = value.cast_unsigned();
                    }
                    let counts = word >> bit & 1 == 1;
                    n_counted += usize::from((*value >= 0) & counts);
                }
                n_counted
            });
        }
        part.record_all(counted.get(..n).unwrap_or_default());
        Ok(())
    }

    fn write_single((values,): &(Int64Array,), row: usize, out: &mut Vec<u8>) -> Result<()> {
        if let Ok(value) = u64::try_from(values.value(row)) {
            Sketch::write_single(value, out);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SummedValues;

impl Feed for SummedValues {
    type Part = Sketch;
    type Columns = (Decimal128Array,);
    type Memory = ();
    const NAME: &'static str = "hdr_sketch_of_sums";
    const INPUTS: &'static [DataType] = &[SUM];

    fn feed(
        part: &mut Sketch,
        (values,): &(Decimal128Array,),
        row: usize,
        (): &mut (),
    ) -> Result<()> {
        let value = values.value(row);
        if value >= 0 {
            let value = u64::try_from(value);
            part.record(value.map_err(|_| exec_datafusion_err!("a trace's usage passes 64 bits"))?);
        }
        Ok(())
    }
}

/// So many views are counted at a time, or as many as there are rows.
const N_VIEWS_MAX: usize = 512;

/// A place for a view among a power of two, which few others that come with it share.
fn place_of_view(view: u128, n_places: usize) -> usize {
    // An odd number without a pattern: the digits of the golden ratio.
    const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let [upper, lower, ..] = view.wrapping_mul(SPREAD).to_be_bytes();
    usize::from(u16::from_be_bytes([upper, lower])) & (n_places - 1)
}

#[derive(Debug)]
struct Summaries;

impl Feed for Summaries {
    type Part = Feedback;
    type Columns = (StringViewArray,);
    type Memory = ParsedSummaries;
    const NAME: &'static str = "feedback_tally";
    const INPUTS: &'static [DataType] = &[DataType::Utf8View];

    fn feed(
        part: &mut Feedback,
        (values,): &(StringViewArray,),
        row: usize,
        parsed: &mut ParsedSummaries,
    ) -> Result<()> {
        let summaries = parsed.of(values.value(row));
        part.merge(summaries).map_err(external)
    }

    /// Few texts differ: each is added once, as often as it came.
    fn feed_all(
        (_, group): (&mut Feedback, usize),
        (values,): &(StringViewArray,),
        rows: &Rows<'_>,
        parsed: &mut ParsedSummaries,
    ) -> Result<()> {
        if rows.all.len() < FEW_ROWS {
            for row in rows.iter() {
                parsed.count(group, values.value(row), 1);
            }
            return Ok(());
        }
        // Rows that share a view, as a reader gives a dictionary, have one text: they are counted together
        // until another view needs their place.
        let views = values.views();
        let n_places = rows.all.len().next_power_of_two().min(N_VIEWS_MAX);
        let mut seen = vec![(0, 0, 0_u64); n_places];
        for row in rows.iter() {
            let view = views.get(row).copied().unwrap_or_default();
            let Some((seen_view, seen_row, n)) = seen.get_mut(place_of_view(view, n_places)) else {
                continue;
            };
            if *n > 0 && *seen_view != view {
                parsed.count(group, values.value(*seen_row), *n);
                *n = 0;
            }
            (*seen_view, *seen_row) = (view, row);
            *n += 1;
        }
        for (_, row, n) in seen.into_iter().filter(|(_, _, n)| *n > 0) {
            parsed.count(group, values.value(row), n);
        }
        Ok(())
    }

    fn is_full(parsed: &ParsedSummaries) -> bool {
        parsed.is_full()
    }

    fn settle(
        parsed: &mut ParsedSummaries,
        mut add: impl FnMut(usize, &dyn Fn(&mut Feedback) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        for (group, summaries, n) in parsed.counted() {
            add(group, &|part| {
                part.merge_times(summaries, n).map_err(external)
            })?;
        }
        parsed.forget();
        Ok(())
    }
}

#[derive(Debug)]
struct Texts;

impl Feed for Texts {
    type Part = Distinct;
    type Columns = (StringViewArray,);
    type Memory = ();
    const NAME: &'static str = "distinct_hashes";
    const INPUTS: &'static [DataType] = &[DataType::Utf8View];

    #[inline]
    fn feed(
        part: &mut Distinct,
        (texts,): &(StringViewArray,),
        row: usize,
        (): &mut (),
    ) -> Result<()> {
        part.record(distinct::hash_of(texts.value(row)));
        Ok(())
    }
}

#[derive(Debug)]
struct Runs;

impl Feed for Runs {
    type Part = Exemplars;
    type Columns = (Int64Array, Decimal128Array);
    type Memory = ();
    const NAME: &'static str = "exemplars";
    const INPUTS: &'static [DataType] = &[DataType::Int64, DataType::Decimal128(38, 0)];

    #[inline]
    fn feed(
        part: &mut Exemplars,
        (values, ids): &(Int64Array, Decimal128Array),
        row: usize,
        (): &mut (),
    ) -> Result<()> {
        if let Ok(value) = u64::try_from(values.value(row)) {
            part.record(value, ids.value(row).cast_unsigned());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Merged<P>(PhantomData<fn() -> P>);

impl<P: Part> Feed for Merged<P> {
    type Part = P;
    type Columns = (LargeBinaryArray,);
    type Memory = ();
    const NAME: &'static str = P::MERGE;
    const INPUTS: &'static [DataType] = &[DataType::LargeBinary];

    fn feed(part: &mut P, (values,): &(LargeBinaryArray,), row: usize, (): &mut ()) -> Result<()> {
        part.merge_bytes(values.value(row))
    }

    /// Foreign bytes are checked before they become a state.
    fn write_single((values,): &(LargeBinaryArray,), row: usize, out: &mut Vec<u8>) -> Result<()> {
        P::default().merge_bytes(values.value(row))?;
        out.extend_from_slice(values.value(row));
        Ok(())
    }
}

fn udaf<F: Feed>() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(PartFunction::<F> {
        signature: Signature::exact(F::INPUTS.to_vec(), Volatility::Immutable),
        feed: PhantomData,
    }))
}

#[derive(Debug)]
struct PartFunction<F> {
    signature: Signature,
    feed: PhantomData<fn() -> F>,
}

// A function is its type: two of one `F` are the same.
impl<F> PartialEq for PartFunction<F> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<F> Eq for PartFunction<F> {}

impl<F: Feed> Hash for PartFunction<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        F::NAME.hash(state);
    }
}

impl<F: Feed> AggregateUDFImpl for PartFunction<F> {
    fn name(&self) -> &str {
        F::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::LargeBinary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            args.name,
            DataType::LargeBinary,
            true,
        ))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let groups = PartGroups::<F>::default();
        Ok(Box::new(Single::new(groups, DataType::LargeBinary)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(PartGroups::<F>::default()))
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::LargeBinary(None))
    }
}

/// One part a group.
#[derive(Debug)]
struct PartGroups<F: Feed> {
    parts: Vec<F::Part>,
    /// The sum of the parts' heap sizes.
    heap_size: usize,
    memory: F::Memory,
}

impl<F: Feed> Default for PartGroups<F> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            heap_size: 0,
            memory: F::Memory::default(),
        }
    }
}

impl<F: Feed> PartGroups<F> {
    /// Feeds the rows that count, each to its group's part.
    fn add<G: Feed<Part = F::Part>>(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
        memory: &mut G::Memory,
    ) -> Result<()> {
        let values = columns::<G>(values)?;
        self.parts.resize_with(n_groups, F::Part::default);
        let counting = counting(values.nulls().as_ref(), filter);
        for (group, all) in runs(groups) {
            let rows = Rows {
                all,
                counting: counting.as_ref(),
            };
            self.grow(group, |part| {
                G::feed_all((part, group), &values, &rows, memory)
            })?;
        }
        if G::is_full(memory) {
            G::settle(memory, |group, add| self.grow(group, add))?;
        }
        Ok(())
    }

    /// Adds to a group's part.
    fn grow(&mut self, group: usize, add: impl FnOnce(&mut F::Part) -> Result<()>) -> Result<()> {
        let Some(part) = self.parts.get_mut(group) else {
            return Err(internal_datafusion_err!("no group {group}"));
        };
        let before = part.heap_size();
        add(part)?;
        self.heap_size = self.heap_size + part.heap_size() - before;
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut memory = std::mem::take(&mut self.memory);
        F::settle(&mut memory, |group, add| self.grow(group, add))?;
        self.memory = memory;
        let parts = emit_to.take_needed(&mut self.parts);
        let heap_size: usize = parts.iter().map(Part::heap_size).sum();
        self.heap_size -= heap_size;
        let mut strings = Strings::with_capacity(parts.len(), heap_size / HEAP_A_BYTE);
        for part in parts {
            if !part.is_empty() {
                part.write_to(&mut strings.bytes);
            }
            strings.end();
        }
        strings.finish()
    }
}

impl<F: Feed> GroupsAccumulator for PartGroups<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let mut memory = std::mem::take(&mut self.memory);
        let added = self.add::<F>(
            values,
            group_indices,
            opt_filter,
            total_num_groups,
            &mut memory,
        );
        self.memory = memory;
        added
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.add::<Merged<F::Part>>(values, group_indices, None, total_num_groups, &mut ())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)?])
    }

    /// A row's state is written straight from its value: no part is made for it.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = columns::<F>(values)?;
        let mut strings = Strings::with_capacity(values.n_rows(), 8 * values.n_rows());
        let counting = counting(values.nulls().as_ref(), opt_filter);
        let rows = Rows {
            all: 0..values.n_rows(),
            counting: counting.as_ref(),
        };
        for row in rows.all.clone() {
            if rows.count(row) {
                F::write_single(&values, row, &mut strings.bytes)?;
            }
            strings.end();
        }
        Ok(vec![strings.finish()?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.parts.capacity() * size_of::<F::Part>() + self.heap_size
    }
}

fn columns<F: Feed>(values: &[ArrayRef]) -> Result<F::Columns> {
    F::Columns::of(values)
        .ok_or_else(|| internal_datafusion_err!("{} takes {:?}", F::NAME, F::INPUTS))
}

/// A part in memory takes about so many times its bytes.
const HEAP_A_BYTE: usize = 2;

/// Byte strings of groups, written one after another; an empty one is a null.
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<i64>,
    are_there: NullBufferBuilder,
}

impl Strings {
    fn with_capacity(n: usize, n_bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(n + 1);
        ends.push(0);
        Self {
            bytes: Vec::with_capacity(n_bytes),
            ends,
            are_there: NullBufferBuilder::new(n),
        }
    }

    /// What was written since the last end is a string.
    fn end(&mut self) {
        let end = i64::try_from(self.bytes.len()).unwrap_or(i64::MAX);
        self.are_there.append(self.ends.last() != Some(&end));
        self.ends.push(end);
    }

    fn finish(mut self) -> Result<ArrayRef> {
        let ends = OffsetBuffer::new(self.ends.into());
        let nulls = self.are_there.finish();
        let strings = LargeBinaryArray::try_new(ends, Buffer::from_vec(self.bytes), nulls);
        Ok(Arc::new(strings?))
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use datafusion::arrow::array::{AsArray, RecordBatch};
    use datafusion::logical_expr::{Expr, ident};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::prelude::*;

    use super::*;

    /// Summaries: few and many different ones, unreadable ones and none.
    fn any_text() -> impl Strategy<Value = Option<String>> {
        let summary = |score: u32| format!(r#"{{"key": {{"n": 1, "avg": {score}}}}}"#);
        prop_oneof![
            Just(None),
            Just(Some(String::new())),
            Just(Some("{}".to_owned())),
            Just(Some("no summary".to_owned())),
            (0..3_u32).prop_map(move |score| Some(summary(score))),
            (0..2_000_u32).prop_map(move |score| Some(summary(score))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn summaries_that_are_counted_are_those_of_the_rows(
            texts in proptest::collection::vec(any_text(), 1..300),
            lengths in proptest::collection::vec(1..900_usize, 1..4),
        ) {
            let groups = lengths.iter().enumerate();
            let groups: Vec<usize> = groups.flat_map(|(group, n)| vec![group; *n]).collect();
            let rows = texts.iter().cycle().take(groups.len());
            let mut expected = vec![Feedback::default(); lengths.len()];
            for (text, group) in rows.clone().zip(&groups) {
                if let Some(text) = text {
                    expected[*group].add_summaries_or_count(text).unwrap();
                }
            }
            // Each row with a text of its own, and with one that it shares.
            let own: StringViewArray = rows.clone().map(Option::as_deref).collect();
            let mut shared = datafusion::arrow::array::StringViewBuilder::new().with_deduplicate_strings();
            rows.for_each(|text| shared.append_option(text.as_deref()));
            for values in [own, shared.finish()] {
                let mut parts = PartGroups::<Summaries>::default();
                let values: [ArrayRef; 1] = [Arc::new(values)];
                parts.update_batch(&values, &groups, None, lengths.len()).unwrap();
                let found = parts.evaluate(EmitTo::All).unwrap();
                let found = found.as_binary::<i64>().iter();
                let found: Vec<_> = found.map(|bytes| bytes.map(<[u8]>::to_vec)).collect();
                let bytes = |all: &Feedback| (!all.is_empty()).then(|| all.to_bytes());
                prop_assert_eq!(found, expected.iter().map(bytes).collect::<Vec<_>>());
            }
        }
    }

    /// The bytes that a function gives for each of three groups, its states merged or not.
    async fn grouped(
        batch: &RecordBatch,
        function: &AggregateUDF,
        columns: &[&str],
    ) -> [Vec<Option<Vec<u8>>>; 2] {
        let mut results = [1, 3].map(|_| Vec::new());
        for (n_partitions, result) in [1, 3].into_iter().zip(&mut results) {
            let config = SessionConfig::new().with_target_partitions(n_partitions);
            let context = SessionContext::new_with_config(config);
            let n_rows = batch.num_rows() / n_partitions;
            let parts = (0..n_partitions).map(|part| vec![batch.slice(part * n_rows, n_rows)]);
            let table =
                datafusion::datasource::MemTable::try_new(batch.schema(), parts.collect()).unwrap();
            let arguments = columns
                .iter()
                .map(|column| ident(*column))
                .collect::<Vec<Expr>>();
            let frame = context.read_table(Arc::new(table)).unwrap();
            let frame = frame.aggregate(
                vec![ident("group")],
                vec![function.call(arguments).alias("part")],
            );
            let frame = frame
                .unwrap()
                .sort(vec![ident("group").sort(true, true)])
                .unwrap();
            for batch in frame.collect().await.unwrap() {
                let parts = batch.column(1).as_binary::<i64>();
                result.extend(parts.iter().map(|part| part.map(<[u8]>::to_vec)));
            }
        }
        results
    }

    #[tokio::test]
    async fn states_of_any_partition_give_the_parts_bytes() {
        let rows = 0..9_000_i64;
        let groups = rows.clone().map(|row| row % 3).collect::<Int64Array>();
        // Every seventh row has no value; the last group none at all.
        let has = |row: &i64| row % 3 < 2 && row % 7 > 0;
        let value = |row: i64| row % 2000 - 5;
        let text = |row: i64| format!("user-{}", value(row));
        let id = |row: i64| i128::from(row) - 4_000;
        let values = rows.clone().map(|row| has(&row).then(|| value(row)));
        let texts = rows.clone().map(|row| has(&row).then(|| text(row)));
        let ids = rows.clone().map(|row| (row % 5 > 0).then(|| id(row)));
        let ids = ids
            .collect::<Decimal128Array>()
            .with_data_type(DataType::Decimal128(38, 0));
        let batch = RecordBatch::try_from_iter([
            ("group", Arc::new(groups) as ArrayRef),
            ("value", Arc::new(values.collect::<Int64Array>())),
            ("text", Arc::new(texts.collect::<StringViewArray>())),
            ("id", Arc::new(ids)),
        ])
        .unwrap();

        let mut distincts = [Distinct::new(), Distinct::new()];
        let mut exemplars_of = [Exemplars::new(), Exemplars::new()];
        for row in rows.filter(has) {
            let group = usize::try_from(row % 3).unwrap();
            distincts[group].record(distinct::hash_of(&text(row)));
            if let (Ok(value), true) = (u64::try_from(value(row)), row % 5 > 0) {
                exemplars_of[group].record(value, id(row).cast_unsigned());
            }
        }
        let expected = distincts.map(|part| Some(part.to_bytes()));
        for found in grouped(&batch, &distinct_hashes(), &["text"]).await {
            assert_eq!(found, [expected.as_slice(), &[None]].concat());
        }
        let expected = exemplars_of.map(|part| Some(part.to_bytes()));
        for found in grouped(&batch, &exemplars(), &["value", "id"]).await {
            assert_eq!(found, [expected.as_slice(), &[None]].concat());
        }
    }
}
