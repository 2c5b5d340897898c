//! Mergeable parts of a tally (sketches, feedback) as aggregate functions; no arithmetic here.
//!
//! A part is fed values row by row, merged from its bytes, and written as its bytes: the same bytes are
//! an aggregation's partial state, its result and what is stored. One native groups accumulator serves
//! them all; a group without a value is a null.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, LargeBinaryArray, LargeBinaryBuilder,
    StringViewArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::feedback::{Feedback, ParsedSummaries};
use super::sketch::Sketch;
use super::sum_udaf::Single;

/// `hdr_sketch(Int64) → LargeBinary`: the bytes of the sketch of a group's values, for a DataFusion
/// session of any kind. Negative values are left out; null where there is none.
#[must_use]
pub fn hdr_sketch() -> Arc<AggregateUDF> {
    udaf::<Values>()
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

/// What is merged: a commutative monoid whose elements have one byte string each.
trait Part: Default + Debug + Send + Sync + 'static {
    /// The name of the function that merges its bytes.
    const MERGE: &'static str;
    fn is_empty(&self) -> bool;
    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<()>;
    fn write_to(&self, out: &mut Vec<u8>);
    fn heap_size(&self) -> usize;
}

impl Part for Sketch {
    const MERGE: &'static str = "hdr_merge";

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
}

impl Part for Feedback {
    const MERGE: &'static str = "feedback_merge";

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
}

/// How one kind of column feeds one kind of part.
trait Feed: Debug + Send + Sync + 'static {
    type Part: Part;
    type Array: Array + 'static;
    const NAME: &'static str;
    const INPUT: DataType;

    /// What is worth keeping from value to value.
    type Memory: Debug + Default + Send + Sync;

    /// Adds one value, which is not null.
    fn feed(
        part: &mut Self::Part,
        values: &Self::Array,
        row: usize,
        memory: &mut Self::Memory,
    ) -> Result<()>;

    /// Writes the bytes of a part that was fed one value. Nothing where the value adds nothing.
    fn write_single(values: &Self::Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
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
    type Array = Int64Array;
    type Memory = ();
    const NAME: &'static str = "hdr_sketch";
    const INPUT: DataType = DataType::Int64;

    #[inline]
    fn feed(part: &mut Sketch, values: &Int64Array, row: usize, (): &mut ()) -> Result<()> {
        if let Ok(value) = u64::try_from(values.value(row)) {
            part.record(value);
        }
        Ok(())
    }

    fn write_single(values: &Int64Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if let Ok(value) = u64::try_from(values.value(row)) {
            Sketch::write_single(value, out);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Summaries;

impl Feed for Summaries {
    type Part = Feedback;
    type Array = StringViewArray;
    type Memory = ParsedSummaries;
    const NAME: &'static str = "feedback_tally";
    const INPUT: DataType = DataType::Utf8View;

    fn feed(
        part: &mut Feedback,
        values: &StringViewArray,
        row: usize,
        parsed: &mut ParsedSummaries,
    ) -> Result<()> {
        let summaries = parsed.of(values.value(row));
        part.merge(summaries).map_err(external)
    }
}

#[derive(Debug)]
struct Merged<P>(PhantomData<fn() -> P>);

impl<P: Part> Feed for Merged<P> {
    type Part = P;
    type Array = LargeBinaryArray;
    type Memory = ();
    const NAME: &'static str = P::MERGE;
    const INPUT: DataType = DataType::LargeBinary;

    fn feed(part: &mut P, values: &LargeBinaryArray, row: usize, (): &mut ()) -> Result<()> {
        part.merge_bytes(values.value(row))
    }

    /// Foreign bytes are checked before they become a state.
    fn write_single(values: &LargeBinaryArray, row: usize, out: &mut Vec<u8>) -> Result<()> {
        P::default().merge_bytes(values.value(row))?;
        out.extend_from_slice(values.value(row));
        Ok(())
    }
}

fn udaf<F: Feed>() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(PartFunction::<F> {
        signature: Signature::exact(vec![F::INPUT], Volatility::Immutable),
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
}

impl<F: Feed> Default for PartGroups<F> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            heap_size: 0,
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
    ) -> Result<()> {
        let values = column::<G>(values)?;
        let mut memory = G::Memory::default();
        self.parts.resize_with(n_groups, F::Part::default);
        for (row, group) in groups.iter().enumerate() {
            if !counts(values, filter, row) {
                continue;
            }
            let Some(part) = self.parts.get_mut(*group) else {
                return Err(internal_datafusion_err!("group {group} of {n_groups}"));
            };
            let before = part.heap_size();
            G::feed(part, values, row, &mut memory)?;
            self.heap_size = self.heap_size + part.heap_size() - before;
        }
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> ArrayRef {
        let parts = emit_to.take_needed(&mut self.parts);
        let mut builder = LargeBinaryBuilder::with_capacity(parts.len(), 0);
        let mut bytes = Vec::new();
        for part in parts {
            self.heap_size -= part.heap_size();
            bytes.clear();
            if !part.is_empty() {
                part.write_to(&mut bytes);
            }
            append(&mut builder, &bytes);
        }
        Arc::new(builder.finish())
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
        self.add::<F>(values, group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.add::<Merged<F::Part>>(values, group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.emit(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)])
    }

    /// A row's state is written straight from its value: no part is made for it.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = column::<F>(values)?;
        let mut builder = LargeBinaryBuilder::with_capacity(values.len(), 8 * values.len());
        let mut bytes = Vec::new();
        for row in 0..values.len() {
            bytes.clear();
            if counts(values, opt_filter, row) {
                F::write_single(values, row, &mut bytes)?;
            }
            append(&mut builder, &bytes);
        }
        Ok(vec![Arc::new(builder.finish())])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.parts.capacity() * size_of::<F::Part>() + self.heap_size
    }
}

fn column<F: Feed>(values: &[ArrayRef]) -> Result<&F::Array> {
    values
        .first()
        .and_then(|values| values.as_any().downcast_ref())
        .ok_or_else(|| internal_datafusion_err!("{} takes one {}", F::NAME, F::INPUT))
}

#[inline]
fn counts(values: &impl Array, filter: Option<&BooleanArray>, row: usize) -> bool {
    values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn append(builder: &mut LargeBinaryBuilder, bytes: &[u8]) {
    if bytes.is_empty() {
        builder.append_null();
    } else {
        builder.append_value(bytes);
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
