//! What the children of each run used, added up: a hash table in memory, by the bits of runs.
//!
//! Nearly all sums fit into 64 bits; those that do not lie apart. Some rows are looked up together: first all
//! places are touched that they will look at, so that the memory is waited for once and not for each of
//! them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, AsArray, BooleanBufferBuilder, Decimal128Array, Int64Array, RecordBatch, UInt32Array,
};
use datafusion::arrow::buffer::NullBuffer;
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
/// The number of the row that is nobody's.
pub(super) const NOBODY: u32 = 0;
/// A sum that lies apart.
const APART: i64 = i64::MIN + 1;
/// So many rows lie in a block of memory, which never moves.
const BLOCK_ROWS: usize = 1 << 14;
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
    blocks: Vec<Vec<i64>>,
    n_rows: usize,
    /// Sums beyond 64 bits, by the number of their row and their column.
    apart: HashMap<(usize, usize), i128>,
}

impl Default for Below {
    fn default() -> Self {
        Self {
            n_columns: 0,
            seed: RandomState::new().hash_one(0),
            slots: Vec::new(),
            blocks: Vec::new(),
            n_rows: 0,
            apart: HashMap::new(),
        }
    }
}

/// The sums, once they are known.
pub(crate) type SharedBelow = Arc<OnceLock<Below>>;

/// A run that is looked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) key: [i64; N_KEY],
    /// Half of its hash.
    pub(super) tag: u32,
}

impl Wanted {
    pub(super) fn of(bits: i128, seed: u64) -> Self {
        let [upper, lower] = [bits >> 64, bits].map(low_half);
        let product = u128::from(lower ^ seed) * u128::from(upper ^ MIX);
        let [high, low] = [product >> 64, product].map(|half| low_half(half.cast_signed()));
        Self {
            key: [upper, lower].map(u64::cast_signed),
            tag: tag(high ^ low),
        }
    }
}

impl Below {
    /// Bytes on the heap once a batch is added.
    pub(crate) fn size_with(&self, batch: &RecordBatch) -> usize {
        let n_rows = 1 + self.n_rows + batch.num_rows();
        let n_slots = self.n_slots(n_rows);
        let n_old = if n_slots > self.slots.len() {
            self.slots.len()
        } else {
            0
        };
        let width = N_KEY + batch.num_columns().saturating_sub(1);
        let n_words = n_rows.next_multiple_of(BLOCK_ROWS) * width;
        size_of::<u64>() * (n_slots + n_old + n_words)
    }

    /// Adds what children used: the bits of their parent, then a column for each sum.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let [parents, usage @ ..] = batch.columns() else {
            return internal_err!("children without a parent");
        };
        self.n_columns = usage.len();
        if self.n_rows == 0 {
            self.add_row([NOTHING; N_KEY]);
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
            wanted.extend(
                used.iter()
                    .map(|row| Wanted::of(parents.value(*row), self.seed)),
            );
            self.touch(&wanted);
            for (row, wanted) in used.iter().zip(&wanted) {
                let number = self.number_or_new(*wanted);
                for (column, used) in usage.iter().enumerate() {
                    if used.is_valid(*row) {
                        self.add_to(number, column, used.value(*row));
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows of runs; nobody's of those that have no children.
    pub(super) fn numbers(&self, runs: &Decimal128Array) -> UInt32Array {
        let mut numbers = Vec::with_capacity(runs.len());
        let mut wanted = Vec::with_capacity(N_TOGETHER);
        for bits in runs.values().chunks(N_TOGETHER) {
            wanted.clear();
            wanted.extend(bits.iter().map(|bits| Wanted::of(*bits, self.seed)));
            self.touch(&wanted);
            let found = wanted.iter().map(|wanted| self.number(*wanted));
            numbers.extend(found.map(|number| number.unwrap_or(NOBODY)));
        }
        let are_there = runs.nulls().into_iter().flatten();
        for (number, _) in numbers.iter_mut().zip(are_there).filter(|(_, is)| !is) {
            *number = NOBODY;
        }
        numbers.into()
    }

    /// What runs used themselves: what they carry but for their children's. Neither gives nothing.
    fn own(&self, numbers: &UInt32Array, carried: &Int64Array, column: usize) -> Decimal128Array {
        let mut are_there = BooleanBufferBuilder::new(carried.len());
        let own = numbers
            .values()
            .iter()
            .zip(carried)
            .map(|(number, carried)| {
                let below = self.sum(*number as usize, column);
                are_there.append(carried.is_some() || below.is_some());
                i128::from(carried.unwrap_or(0)) - below.unwrap_or(0)
            });
        let own: Vec<i128> = own.collect();
        let nulls = NullBuffer::new(are_there.finish());
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        Decimal128Array::new(own.into(), nulls).with_data_type(SUM)
    }

    /// Rows, nobody's too.
    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Words a row.
    fn width(&self) -> usize {
        N_KEY + self.n_columns
    }

    /// Where in which block a word of a row lies; the first ones are the bits of its run.
    fn place_of(&self, number: usize, word: usize) -> (usize, usize) {
        let start = number % BLOCK_ROWS * self.width();
        (number / BLOCK_ROWS, start + word)
    }

    fn word(&self, number: usize, word: usize) -> Option<i64> {
        let (block, place) = self.place_of(number, word);
        self.blocks.get(block)?.get(place).copied()
    }

    fn is_of(&self, number: usize, key: [i64; N_KEY]) -> bool {
        let (block, start) = self.place_of(number, 0);
        let block = self.blocks.get(block);
        let row = block.and_then(|block| block.get(start..start + N_KEY));
        row == Some(&key)
    }

    /// Adds a row without sums.
    fn add_row(&mut self, key: [i64; N_KEY]) {
        if self.n_rows.is_multiple_of(BLOCK_ROWS) {
            self.blocks
                .push(Vec::with_capacity(BLOCK_ROWS * self.width()));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.extend(key);
            block.extend(std::iter::repeat_n(NOTHING, self.n_columns));
            self.n_rows += 1;
        }
    }

    /// As many slots as so many rows need; a third or more are free.
    fn n_slots(&self, n_rows: usize) -> usize {
        match n_rows + n_rows / 2 + 1 {
            n_needed if n_needed <= self.slots.len() => self.slots.len(),
            n_needed => n_needed + n_needed / 4,
        }
    }

    /// Makes room for so many more rows.
    fn make_room(&mut self, n_more: usize) -> Result<()> {
        let n_rows = self.n_rows + n_more;
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
            self.word(number_in(slot.unwrap_or(0)) as usize, 0)
                .unwrap_or(0)
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

    /// The row of a run.
    fn number(&self, wanted: Wanted) -> Option<u32> {
        let mut place = self.place(wanted.tag);
        loop {
            let slot = *self.slots.get(place)?;
            if slot == 0 {
                return None;
            }
            if tag(slot) == wanted.tag {
                let number = number_in(slot);
                if self.is_of(number as usize, wanted.key) {
                    return Some(number);
                }
            }
            place = self.next_place(place);
        }
    }

    /// The same, of a row that is made where there is none. There is room for it.
    fn number_or_new(&mut self, wanted: Wanted) -> usize {
        if let Some(number) = self.number(wanted) {
            return number as usize;
        }
        let number = self.n_rows;
        self.enter(u64::from(wanted.tag) << 32 | number as u64);
        self.add_row(wanted.key);
        number
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

    fn add_to(&mut self, number: usize, column: usize, value: i64) {
        let (block, place) = self.place_of(number, N_KEY + column);
        let block = self.blocks.get_mut(block);
        let Some(sum) = block.and_then(|block| block.get_mut(place)) else {
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
        let apart = self.apart.entry((number, column)).or_insert(0);
        // So many values of 64 bits that this passes 127 no table has room for.
        *apart += i128::from(before.unwrap_or(0)) + i128::from(value);
    }

    /// What is below the run of a row.
    pub(super) fn sum(&self, number: usize, column: usize) -> Option<i128> {
        match self.word(number, N_KEY + column)? {
            NOTHING => None,
            APART => self.apart.get(&(number, column)).copied(),
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

/// The number of the row that a slot holds.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn number_in(slot: u64) -> u32 {
    slot as u32
}

#[expect(clippy::cast_possible_truncation, reason = "any part will do")]
const fn to_index(bits: u64) -> usize {
    bits as usize
}

/// The row of what a run's children used, by the bits of the run.
pub(super) fn row(below: &SharedBelow, bits: Expr) -> Expr {
    let bits_type = DataType::Decimal128(38, 0);
    Reading::Row
        .function(below, vec![bits_type])
        .call(vec![bits])
}

/// What a run used itself, of what it carries in the column of a number.
pub(super) fn own(below: &SharedBelow, row: Expr, carried: Expr, column: usize) -> Expr {
    let types = vec![DataType::UInt32, DataType::Int64];
    let function = Reading::Own { column }.function(below, types);
    function.call(vec![row, carried])
}

/// What is read of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reading {
    Row,
    Own { column: usize },
}

impl Reading {
    fn function(self, below: &SharedBelow, types: Vec<DataType>) -> ScalarUDF {
        ScalarUDF::new_from_impl(ReadBelow {
            below: Arc::clone(below),
            reading: self,
            signature: Signature::exact(types, Volatility::Immutable),
        })
    }
}

#[derive(Debug)]
struct ReadBelow {
    below: SharedBelow,
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
            Reading::Row => "below",
            Reading::Own { .. } => "own_usage",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Row => DataType::UInt32,
            Reading::Own { .. } => SUM,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(below) = self.below.get() else {
            return internal_err!("{} before anything is known", self.name());
        };
        Ok(ColumnarValue::Array(
            match (self.reading, arrays.as_slice()) {
                (Reading::Row, [bits]) => Arc::new(below.numbers(bits.as_primitive())),
                (Reading::Own { column }, [numbers, carried]) => {
                    let (numbers, carried) = (numbers.as_primitive(), carried.as_primitive());
                    Arc::new(below.own(numbers, carried, column))
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

    #[test]
    fn many_runs_are_told_apart() {
        let n_runs = 3 * i128::try_from(BLOCK_ROWS).unwrap();
        let ids = |of: std::ops::Range<i128>| runs(of.map(|id| Some(id << 70 | id)));
        let mut below = Below::default();
        for _ in 0..2 {
            for first in (0..n_runs).step_by(1_000) {
                let parents = ids(first..n_runs.min(first + 1_000));
                let used = parents.values().iter().map(|id| i64::try_from(id % 97));
                let used: Int64Array = used.map(std::result::Result::ok).collect();
                let columns = [("p", Arc::new(parents) as ArrayRef), ("a", Arc::new(used))];
                below
                    .add(&RecordBatch::try_from_iter(columns).unwrap())
                    .unwrap();
            }
        }
        assert_eq!(below.n_rows, 1 + usize::try_from(n_runs).unwrap());
        assert_eq!(below.blocks.len(), 4);
        let all = ids(0..n_runs + 1_000);
        let nothing = Int64Array::from(vec![0; all.len()]);
        let own = below.own(&below.numbers(&all), &nothing, 0);
        for (own, id) in own.iter().zip(all.values()) {
            let sum = (*id & ((1 << 70) - 1) < n_runs).then(|| -2 * (id % 97));
            assert_eq!(own, sum.or(Some(0)));
        }
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
                let n_words: usize = below.blocks.iter().map(Vec::capacity).sum();
                prop_assert!(size_of::<u64>() * (below.slots.len() + n_words) <= size);
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
                let own = below.own(&below.numbers(&all), &all_carried, column);
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
