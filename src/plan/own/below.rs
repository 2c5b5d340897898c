//! What the children of each run used, added up: a hash table in memory, by the bits of runs.
//!
//! Nearly all sums fit into 64 bits; those that do not lie apart. Some rows are looked up together: first all
//! places are touched that they will look at, so that the memory is waited for once and not for each of
//! them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::hint::black_box;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, AsArray, Decimal128Array, Int64Array, RecordBatch, UInt64Array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::{Result, internal_err, resources_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::tally::SUM;

/// Words before the sums of a row: the bits of the run.
const N_KEY: usize = 2;
/// The sum of no values.
const NOTHING: i64 = i64::MIN;
/// A sum that lies apart.
const APART: i64 = i64::MIN + 1;
/// So many rows are looked up together: what they look at stays in a core's cache meanwhile.
const N_TOGETHER: usize = 256;
/// An odd number with bits all over.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sums of what children used, a row a parent.
#[derive(Debug)]
pub(crate) struct Below {
    /// Sums a row.
    n_columns: usize,
    /// What hashes depend on, another in each process.
    seed: u64,
    /// A row's number below the tag of its run; 0 where there is none. The greater a tag, the later its
    /// first place, so that the slots of a larger table are in the same order.
    slots: Vec<u64>,
    /// The first one is nobody's, and has no sums.
    rows: Vec<i64>,
    /// Sums beyond 64 bits, by their place in the rows.
    apart: HashMap<usize, i128>,
}

impl Default for Below {
    fn default() -> Self {
        Self {
            n_columns: 0,
            seed: RandomState::new().hash_one(0),
            slots: Vec::new(),
            rows: Vec::new(),
            apart: HashMap::new(),
        }
    }
}

/// A run that is looked for.
#[derive(Clone, Copy)]
struct Wanted {
    key: [i64; N_KEY],
    /// Half of its hash.
    tag: u32,
}

impl Below {
    /// Bytes on the heap once a batch is added.
    pub(crate) fn size_with(&self, batch: &RecordBatch) -> usize {
        let n_rows = self.n_rows() + batch.num_rows();
        let n_slots = self.n_slots(n_rows);
        let n_old = if n_slots > self.slots.len() {
            self.slots.len()
        } else {
            0
        };
        let n_words = (1 + n_rows) * (N_KEY + batch.num_columns().saturating_sub(1));
        size_of::<u64>() * (n_slots + n_old + n_words.max(self.rows.capacity()))
    }

    /// Adds what children used: the bits of their parent, then a column for each sum.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let [parents, usage @ ..] = batch.columns() else {
            return internal_err!("children without a parent");
        };
        self.n_columns = usage.len();
        if self.rows.is_empty() {
            self.rows.resize(N_KEY + self.n_columns, NOTHING);
        }
        let parents = parents.as_primitive::<Decimal128Type>();
        let usage: Vec<&Int64Array> = usage.iter().map(AsArray::as_primitive).collect();
        let used = (0..batch.num_rows())
            .filter(|row| parents.is_valid(*row) && usage.iter().any(|used| used.is_valid(*row)));
        let used: Vec<usize> = used.collect();
        self.make_room(used.len())?;
        let mut wanted = Vec::with_capacity(N_TOGETHER);
        for used in used.chunks(N_TOGETHER) {
            wanted.clear();
            wanted.extend(used.iter().map(|row| self.wanted(parents.value(*row))));
            self.touch(&wanted);
            for (row, wanted) in used.iter().zip(&wanted) {
                let start = self.start_or_new(*wanted);
                for (column, used) in usage.iter().enumerate() {
                    if used.is_valid(*row) {
                        self.add_to(start + N_KEY + column, used.value(*row));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the sums of runs begin; nobody's of those that have no children.
    fn starts(&self, runs: &Decimal128Array) -> UInt64Array {
        let mut starts = Vec::with_capacity(runs.len());
        let mut wanted = Vec::with_capacity(N_TOGETHER);
        for bits in runs.values().chunks(N_TOGETHER) {
            wanted.clear();
            wanted.extend(bits.iter().map(|bits| self.wanted(*bits)));
            self.touch(&wanted);
            let found = wanted.iter().map(|wanted| self.start(*wanted));
            starts.extend(found.map(|start| (start.unwrap_or(0) + N_KEY) as u64));
        }
        let are_there = runs.nulls().into_iter().flatten();
        for (start, _) in starts.iter_mut().zip(are_there).filter(|(_, is)| !is) {
            *start = N_KEY as u64;
        }
        starts.into()
    }

    /// What runs used themselves: what they carry but for their children's. Neither gives nothing.
    fn own(&self, starts: &UInt64Array, carried: &Int64Array, column: usize) -> Decimal128Array {
        let below = |row: usize| self.sum(to_index(starts.value(row)) + column);
        let own = (0..carried.len()).map(|row| {
            let carried = carried.is_valid(row).then(|| carried.value(row));
            i128::from(carried.unwrap_or(0)) - below(row).unwrap_or(0)
        });
        let own = own.collect::<Vec<_>>();
        let are_there = carried.nulls().map(|nulls| {
            let is_there = |row| nulls.is_valid(row) || below(row).is_some();
            NullBuffer::new(BooleanBuffer::collect_bool(nulls.len(), is_there))
        });
        Decimal128Array::new(own.into(), are_there).with_data_type(SUM)
    }

    /// Runs that have children.
    fn n_rows(&self) -> usize {
        (self.rows.len() / (N_KEY + self.n_columns)).saturating_sub(1)
    }

    /// As many slots as so many rows need; a third or more are free.
    fn n_slots(&self, n_rows: usize) -> usize {
        match n_rows + n_rows / 2 + 1 {
            n_needed if n_needed <= self.slots.len() => self.slots.len(),
            n_needed => n_needed + n_needed / 2,
        }
    }

    fn wanted(&self, bits: i128) -> Wanted {
        let [upper, lower] = [bits >> 64, bits].map(low_half);
        let product = u128::from(lower ^ self.seed) * u128::from(upper ^ MIX);
        let [high, low] = [product >> 64, product].map(|half| low_half(half.cast_signed()));
        Wanted {
            key: [upper, lower].map(u64::cast_signed),
            tag: tag(high ^ low),
        }
    }

    /// Makes room for so many more rows.
    fn make_room(&mut self, n_more: usize) -> Result<()> {
        let n_rows = self.n_rows() + n_more;
        let n_slots = self.n_slots(n_rows);
        if u32::try_from(n_slots).is_err() {
            return Err(resources_datafusion_err!(
                "{n_rows} runs that have children"
            ));
        }
        if n_slots > self.slots.len() {
            let slots = std::mem::replace(&mut self.slots, vec![0; n_slots]);
            for slot in slots.into_iter().filter(|slot| *slot != 0) {
                self.enter(slot);
            }
        }
        Ok(())
    }

    /// Looks at all places where these are looked for first.
    fn touch(&self, wanted: &[Wanted]) {
        let slot = |wanted: &Wanted| self.slots.get(self.place(wanted.tag)).copied().unwrap_or(0);
        black_box(wanted.iter().fold(0, |all, wanted| all ^ slot(wanted)));
        let row = |wanted: &Wanted| {
            let slot = Some(slot(wanted)).filter(|slot| tag(*slot) == wanted.tag);
            let start = self.start_in(slot.unwrap_or(0));
            self.rows.get(start).copied().unwrap_or(0)
        };
        black_box(wanted.iter().fold(0, |all, wanted| all ^ row(wanted)));
    }

    /// The first place of a tag.
    fn place(&self, tag: u32) -> usize {
        to_index((u64::from(tag) * self.slots.len() as u64) >> 32)
    }

    fn next_place(&self, place: usize) -> usize {
        if place + 1 < self.slots.len() {
            place + 1
        } else {
            0
        }
    }

    /// Where the row begins that a slot holds.
    fn start_in(&self, slot: u64) -> usize {
        to_index(slot & u64::from(u32::MAX)) * (N_KEY + self.n_columns)
    }

    /// Where the row of a run begins.
    fn start(&self, wanted: Wanted) -> Option<usize> {
        let mut place = self.place(wanted.tag);
        loop {
            let slot = *self.slots.get(place)?;
            if slot == 0 {
                return None;
            }
            if tag(slot) == wanted.tag {
                let start = self.start_in(slot);
                if self.rows.get(start..)?.starts_with(&wanted.key) {
                    return Some(start);
                }
            }
            place = self.next_place(place);
        }
    }

    /// The same, of a row that is made where there is none. There is room for it.
    fn start_or_new(&mut self, wanted: Wanted) -> usize {
        if let Some(start) = self.start(wanted) {
            return start;
        }
        let start = self.rows.len();
        self.enter(u64::from(wanted.tag) << 32 | (self.n_rows() as u64 + 1));
        self.rows.extend(wanted.key);
        self.rows.resize(start + N_KEY + self.n_columns, NOTHING);
        start
    }

    /// Enters a slot at the next free place.
    fn enter(&mut self, slot: u64) {
        let mut place = self.place(tag(slot));
        while self.slots.get(place).is_some_and(|slot| *slot != 0) {
            place = self.next_place(place);
        }
        if let Some(free) = self.slots.get_mut(place) {
            *free = slot;
        }
    }

    fn add_to(&mut self, place: usize, value: i64) {
        let Some(sum) = self.rows.get_mut(place) else {
            return;
        };
        let before = match *sum {
            NOTHING => Some(0),
            APART => None,
            sum => Some(sum),
        };
        let after = before.and_then(|before| before.checked_add(value));
        if let Some(after) = after.filter(|after| *after > APART) {
            *sum = after;
            return;
        }
        *sum = APART;
        let apart = self.apart.entry(place).or_insert(0);
        // So many values of 64 bits that this passes 127 no table has room for.
        *apart += i128::from(before.unwrap_or(0)) + i128::from(value);
    }

    fn sum(&self, place: usize) -> Option<i128> {
        match *self.rows.get(place)? {
            NOTHING => None,
            APART => self.apart.get(&place).copied(),
            sum => Some(i128::from(sum)),
        }
    }
}

/// The upper half.
const fn tag(bits: u64) -> u32 {
    (bits >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
#[expect(clippy::cast_sign_loss, reason = "bits are meant")]
const fn low_half(bits: i128) -> u64 {
    bits as u64
}

#[expect(clippy::cast_possible_truncation, reason = "any part will do")]
const fn to_index(bits: u64) -> usize {
    bits as usize
}

/// Where the sums begin of what a run's children used, by the bits of the run.
pub(super) fn start(below: &Arc<Below>, bits: Expr) -> Expr {
    let bits_type = DataType::Decimal128(38, 0);
    Reading::Start
        .function(below, vec![bits_type])
        .call(vec![bits])
}

/// What a run used itself, of what it carries in the column of a number.
pub(super) fn own(below: &Arc<Below>, start: Expr, carried: Expr, column: usize) -> Expr {
    let types = vec![DataType::UInt64, DataType::Int64];
    let function = Reading::Own { column }.function(below, types);
    function.call(vec![start, carried])
}

/// What is read of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reading {
    Start,
    Own { column: usize },
}

impl Reading {
    fn function(self, below: &Arc<Below>, types: Vec<DataType>) -> ScalarUDF {
        ScalarUDF::new_from_impl(ReadBelow {
            below: Arc::clone(below),
            reading: self,
            signature: Signature::exact(types, Volatility::Immutable),
        })
    }
}

#[derive(Debug)]
struct ReadBelow {
    below: Arc<Below>,
    reading: Reading,
    signature: Signature,
}

impl PartialEq for ReadBelow {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.below, &other.below) && self.reading == other.reading
    }
}

impl Eq for ReadBelow {}

impl Hash for ReadBelow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.below).hash(state);
        self.reading.hash(state);
    }
}

impl ScalarUDFImpl for ReadBelow {
    fn name(&self) -> &'static str {
        match self.reading {
            Reading::Start => "below",
            Reading::Own { .. } => "own_usage",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Start => DataType::UInt64,
            Reading::Own { .. } => SUM,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        Ok(ColumnarValue::Array(
            match (self.reading, arrays.as_slice()) {
                (Reading::Start, [bits]) => Arc::new(self.below.starts(bits.as_primitive())),
                (Reading::Own { column }, [starts, carried]) => {
                    let (starts, carried) = (starts.as_primitive(), carried.as_primitive());
                    Arc::new(self.below.own(starts, carried, column))
                }
                _ => return internal_err!("{} of {} columns", self.name(), arrays.len()),
            },
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::array::ArrayRef;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn runs(ids: impl IntoIterator<Item = Option<i128>>) -> Decimal128Array {
        let ids: Decimal128Array = ids.into_iter().collect();
        ids.with_data_type(DataType::Decimal128(38, 0))
    }

    proptest! {
        #[test]
        fn own_usage_is_what_is_carried_without_the_childrens(
            batches in vec(vec((
                prop::option::of(0..300_i128),
                prop::option::of(-9..9_i64),
                prop::option::of(prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)]),
            ), 0..400), 0..5),
            carried in prop::option::of(any::<i64>()),
        ) {
            // Neighbours differ in either half.
            let bits = |id: i128| if id % 2 == 0 { id << 80 } else { -id };
            let mut below = Below::default();
            let mut sums: [BTreeMap<i128, i128>; 2] = Default::default();
            for rows in &batches {
                let parents = runs(rows.iter().map(|(parent, ..)| parent.map(bits)));
                let of = |column: usize| {
                    let used = rows.iter().map(move |(_, a, b)| [*a, *b][column]);
                    Arc::new(used.collect::<Int64Array>()) as ArrayRef
                };
                let columns = [("p", Arc::new(parents) as ArrayRef), ("a", of(0)), ("b", of(1))];
                let batch = RecordBatch::try_from_iter_with_nullable(
                    columns.map(|(name, array)| (name, array, true)),
                );
                let batch = batch.unwrap();
                let size = below.size_with(&batch);
                below.add(&batch).unwrap();
                prop_assert!(size_of::<u64>() * (below.slots.len() + below.rows.len()) <= size);
                for (parent, a, b) in rows {
                    for (sums, used) in sums.iter_mut().zip([a, b]) {
                        if let (Some(parent), Some(used)) = (parent, used) {
                            *sums.entry(*parent).or_default() += i128::from(*used);
                        }
                    }
                }
            }
            let ids = (0..310).map(Some).chain([None]);
            let all = runs(ids.clone().map(|id| id.map(bits)));
            let all_carried: Int64Array = ids.clone().map(|_| carried).collect();
            for (column, sums) in sums.iter().enumerate() {
                if below.n_columns == 0 {
                    continue;
                }
                let own = below.own(&below.starts(&all), &all_carried, column);
                let expected = ids.clone().map(|id| {
                    let carried = carried.map(i128::from);
                    match id.and_then(|id| sums.get(&id)) {
                        Some(below) => Some(carried.unwrap_or(0) - below),
                        None => carried,
                    }
                });
                prop_assert_eq!(own.iter().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
    }
}
