//! The runs that came last: what their children used is taken off as it comes.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Int64Array, RecordBatch,
    UInt32Array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use datafusion::common::{Result, resources_datafusion_err};

use super::super::below::Wanted;
use super::{COUNTED, narrow};

/// So many runs stay at least until they are handed on.
pub(in super::super) const N_STAYING: usize = 1 << 13;
/// So many rows are looked at together.
const N_TOGETHER: usize = 1 << 13;
/// More runs than ever stay.
const N_PLACES: usize = 1 << 15;
/// So many of the last runs of a file or a row group are kept.
const N_LAST: usize = 1 << 10;
/// So many are kept of all.
const N_KEPT: usize = 1 << 16;
/// Whether runs stand near their parents shows in so many. Later it would cost more to give up.
const N_TRIED: usize = 1 << 17;
/// So many children may be left of them in any case.
const N_LEFT: usize = 1 << 8;
/// One of so many runs may be left besides.
const RUNS_A_LEFT: usize = 64;

/// Where a column that is handed on comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given {
    /// A run's own column.
    Run(usize),
    /// What it used itself in a column of usage.
    Own(usize),
    Counted,
}

/// The runs that came last.
pub(super) struct Staying {
    /// What is handed on.
    pub(super) schema: SchemaRef,
    pub(super) columns: Vec<Given>,
    /// The columns of runs: their bits; then those of children, their parents' bits before their usage.
    id: usize,
    of_children: Vec<usize>,
    /// Those that are yet to come.
    coming: RecordBatch,
    /// Whether a row group ends with them: they are fewer than others were.
    ends: bool,
    batches: VecDeque<Batch>,
    /// So many stay at least.
    n_behind: usize,
    n_rows: usize,
    /// The number of the next run. Those that stay are told apart by the lower bits of theirs.
    next: u32,
    seed: u64,
    /// The last run whose hash begins so, and of each run the last one before it of which that is true.
    last: Vec<u32>,
    before: Vec<u32>,
    keys: Vec<[i64; 2]>,
    /// Children that went before their parents came.
    pub(super) left: Vec<RecordBatch>,
    n_left: usize,
    /// The columns that are kept of the last runs, where these can be.
    of_kept: Option<Vec<usize>>,
    pub(super) kept: VecDeque<RecordBatch>,
    n_kept: usize,
    /// What is left and kept takes.
    pub(super) n_bytes: usize,
    n_come: usize,
    /// Rows that have come in one batch at most.
    n_most: usize,
}

/// Some runs that stay.
struct Batch {
    first: u32,
    runs: RecordBatch,
    children: RecordBatch,
    /// The rows of children whose parents have not come.
    open: Vec<u32>,
    own: Vec<Own>,
    /// So many of its last rows are among those of a row group.
    n_last: usize,
}

/// What runs used themselves, in a column of usage.
struct Own {
    values: Vec<i64>,
    are_there: BooleanBufferBuilder,
}

impl Own {
    /// What these carry.
    fn of(carried: &Int64Array) -> Self {
        let mut are_there = BooleanBufferBuilder::new(carried.len());
        match carried.nulls() {
            Some(nulls) => are_there.append_buffer(nulls.inner()),
            None => are_there.append_n(carried.len(), true),
        }
        Self {
            values: carried.values().to_vec(),
            are_there,
        }
    }

    fn take_off(&mut self, row: usize, used: i64) -> Result<()> {
        let Some(own) = self.values.get_mut(row) else {
            return Ok(());
        };
        let carried = if self.are_there.get_bit(row) { *own } else { 0 };
        *own = narrow(i128::from(carried) - i128::from(used))?;
        self.are_there.set_bit(row, true);
        Ok(())
    }

    fn finish(mut self) -> Int64Array {
        let nulls = NullBuffer::new(self.are_there.finish());
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        Int64Array::new(self.values.into(), nulls)
    }
}

impl Staying {
    /// Of runs that have the columns of `schema` in its order, but for the one that counts them; then
    /// their bits and their parents'. Those that are kept have the columns of `again`.
    pub(super) fn new(
        schema: &SchemaRef,
        usage: &[&str],
        again: &SchemaRef,
        n_behind: usize,
    ) -> Self {
        let mut n_columns = 0;
        let mut of_usage = Vec::new();
        let columns = schema.fields().iter().map(|field| {
            if field.name() == COUNTED {
                return Given::Counted;
            }
            let column = n_columns;
            n_columns += 1;
            if usage.contains(&field.name().as_str()) {
                of_usage.push(column);
                return Given::Own(of_usage.len() - 1);
            }
            Given::Run(column)
        });
        let columns: Vec<Given> = columns.collect();
        let given = schema.fields().iter().zip(&columns);
        let of_kept = given.filter_map(|(field, column)| match column {
            Given::Run(column) if again.column_with_name(field.name()).is_some() => {
                let kind = field.data_type();
                let is_flat = *kind == DataType::Utf8View || kind.is_primitive();
                Some(is_flat.then_some(*column))
            }
            _ => None,
        });
        let of_kept: Option<Vec<usize>> = of_kept.chain([Some(n_columns)]).collect();
        Self {
            schema: Arc::clone(schema),
            columns,
            id: n_columns,
            of_children: [&[n_columns + 1], of_usage.as_slice()].concat(),
            coming: RecordBatch::new_empty(Arc::clone(schema)),
            ends: false,
            batches: VecDeque::new(),
            n_behind,
            n_rows: 0,
            next: 0,
            seed: RandomState::new().hash_one(0),
            last: vec![u32::MAX; N_PLACES],
            before: vec![u32::MAX; N_PLACES],
            keys: vec![[0; 2]; N_PLACES],
            left: Vec::new(),
            n_left: 0,
            of_kept,
            kept: VecDeque::new(),
            n_kept: 0,
            n_bytes: 0,
            n_come: 0,
            n_most: 0,
        }
    }

    /// Runs come.
    pub(super) fn come(&mut self, runs: RecordBatch) {
        self.n_most = self.n_most.max(runs.num_rows());
        self.ends = runs.num_rows() < self.n_most;
        self.coming = runs;
    }

    /// What has come last is followed by runs of another row group or file.
    pub(super) fn end(&mut self) {
        let mut n_last = N_LAST;
        for batch in self.batches.iter_mut().rev() {
            batch.n_last = batch.n_last.max(n_last.min(batch.runs.num_rows()));
            n_last -= n_last.min(batch.runs.num_rows());
        }
    }

    /// The runs that came first, once enough have come after them, or no more will.
    pub(super) fn go(&mut self, are_all: bool) -> Result<Option<RecordBatch>> {
        loop {
            let n_first = self.batches.front().map(|batch| batch.runs.num_rows());
            if n_first.is_some_and(|n| are_all || self.n_rows - n >= self.n_behind) {
                return self.go_first();
            }
            let n_coming = self.coming.num_rows();
            if n_coming == 0 {
                return Ok(None);
            }
            let n_next = n_coming.min(N_TOGETHER);
            let rest = self.coming.slice(n_next, n_coming - n_next);
            let next = std::mem::replace(&mut self.coming, rest);
            self.enter(if n_next < n_coming {
                next.slice(0, n_next)
            } else {
                next
            })?;
            for batch in 0..self.batches.len() {
                self.take_off(batch)?;
            }
            if self.ends && self.coming.num_rows() == 0 {
                self.end();
            }
        }
    }

    fn enter(&mut self, runs: RecordBatch) -> Result<()> {
        let first = self.next;
        let ids = runs.column(self.id).as_primitive::<Decimal128Type>();
        for (row, bits) in ids.values().iter().enumerate() {
            let number = self.next;
            self.next = number.wrapping_add(1);
            if ids.is_null(row) {
                continue;
            }
            let wanted = Wanted::of(*bits, self.seed);
            let place = place(number);
            if let (Some(last), Some(before), Some(key)) = (
                self.last.get_mut(first_place(wanted)),
                self.before.get_mut(place),
                self.keys.get_mut(place),
            ) {
                *before = std::mem::replace(last, number);
                *key = wanted.key;
            }
        }
        let children = runs.project(&self.of_children)?;
        let used: Vec<&Int64Array> = usage(&children).collect();
        let own = used.iter().map(|carried| Own::of(carried)).collect();
        let are_there = |nulls: Option<&NullBuffer>| match nulls {
            Some(nulls) => nulls.inner().clone(),
            None => BooleanBuffer::new_set(runs.num_rows()),
        };
        let of_each = used.iter().map(|used| are_there(used.nulls()));
        let any = of_each.reduce(|any, of_one| &any | &of_one);
        let any = any.map(|any| &any & &are_there(children.column(0).nulls()));
        let open = any
            .iter()
            .flat_map(BooleanBuffer::set_indices_u32)
            .collect();
        self.n_rows += runs.num_rows();
        self.n_come += runs.num_rows();
        self.batches.push_back(Batch {
            first,
            runs,
            children,
            open,
            own,
            n_last: 0,
        });
        Ok(())
    }

    /// Takes off what children in a batch used whose parents stay.
    fn take_off(&mut self, batch: usize) -> Result<()> {
        let Some(batch) = self.batches.get_mut(batch) else {
            return Ok(());
        };
        let open = std::mem::take(&mut batch.open);
        if open.is_empty() {
            return Ok(());
        }
        let (first, children) = (batch.first, batch.children.clone());
        let parents = children.column(0).as_primitive::<Decimal128Type>();
        let used: Vec<&Int64Array> = usage(&children).collect();
        let mut is_open = Vec::new();
        for row in open {
            let at = row as usize;
            let Some((batch, place)) = self.find(parents.value(at)) else {
                is_open.push(row);
                continue;
            };
            if let Some(batch) = self.batches.get_mut(batch) {
                for (own, used) in batch.own.iter_mut().zip(&used) {
                    if used.is_valid(at) {
                        own.take_off(place, used.value(at))?;
                    }
                }
            }
        }
        let mut batches = self.batches.iter_mut();
        if let Some(batch) = batches.find(|batch| batch.first == first) {
            batch.open = is_open;
        }
        Ok(())
    }

    /// The batch of a run that stays, and its row there.
    fn find(&self, bits: i128) -> Option<(usize, usize)> {
        let oldest = self.batches.front()?.first;
        let wanted = Wanted::of(bits, self.seed);
        let mut number = *self.last.get(first_place(wanted))?;
        loop {
            let age = number.wrapping_sub(oldest);
            if age as usize >= self.n_rows {
                return None;
            }
            if *self.keys.get(place(number))? == wanted.key {
                let is_before = |batch: &Batch| batch.first.wrapping_sub(oldest) <= age;
                let batch = self.batches.partition_point(is_before).checked_sub(1)?;
                let first = self.batches.get(batch)?.first;
                return Some((batch, number.wrapping_sub(first) as usize));
            }
            number = *self.before.get(place(number))?;
        }
    }

    /// The runs that came first.
    fn go_first(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batches.pop_front() else {
            return Ok(None);
        };
        let n_rows = batch.runs.num_rows();
        self.n_rows -= n_rows;
        self.keep(&batch)?;
        if !batch.open.is_empty() {
            self.n_left += batch.open.len();
            if self.n_come <= N_TRIED && self.n_left > N_LEFT + self.n_come / RUNS_A_LEFT {
                return Err(resources_datafusion_err!(
                    "runs stand far from their parents"
                ));
            }
            let left = take_record_batch(&batch.children, &UInt32Array::from(batch.open))?;
            self.n_bytes += left.get_array_memory_size();
            self.left.push(left);
        }
        let mut own = batch.own.into_iter().map(Own::finish);
        let columns = self.columns.iter().map(|column| -> Option<ArrayRef> {
            Some(match column {
                Given::Run(column) => Arc::clone(batch.runs.column(*column)),
                Given::Own(_) => Arc::new(own.next()?),
                Given::Counted => Arc::new(BooleanArray::from(vec![true; n_rows])),
            })
        });
        let columns = columns.collect::<Option<_>>().unwrap_or_default();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map(Some)
            .map_err(Into::into)
    }

    /// Keeps the last rows of a row group.
    fn keep(&mut self, batch: &Batch) -> Result<()> {
        let (Some(columns), 1..) = (&self.of_kept, batch.n_last) else {
            return Ok(());
        };
        let n_rows = u32::try_from(batch.runs.num_rows()).unwrap_or(u32::MAX);
        let first = n_rows.saturating_sub(u32::try_from(batch.n_last).unwrap_or(u32::MAX));
        let last = UInt32Array::from_iter_values(first..n_rows);
        let last = take_record_batch(&batch.runs.project(columns)?, &last)?;
        let kept = last.columns().iter().map(|column| -> ArrayRef {
            match column.as_string_view_opt() {
                Some(texts) => Arc::new(texts.gc()),
                None => Arc::clone(column),
            }
        });
        let kept = RecordBatch::try_new(last.schema(), kept.collect())?;
        self.n_bytes += kept.get_array_memory_size();
        self.n_kept += kept.num_rows();
        self.kept.push_back(kept);
        while self.n_kept > N_KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.n_kept -= oldest.num_rows();
            self.n_bytes -= oldest.get_array_memory_size();
        }
        Ok(())
    }
}

/// What children used, by columns.
fn usage(children: &RecordBatch) -> impl Iterator<Item = &Int64Array> {
    children.columns().iter().skip(1).map(AsArray::as_primitive)
}

/// Where a run that stays has its place.
fn place(number: u32) -> usize {
    number as usize % N_PLACES
}

/// Where the last run is found whose hash begins like this.
fn first_place(wanted: Wanted) -> usize {
    wanted.tag as usize % N_PLACES
}
