//! Own usage in the pass that sums it up: children mostly stand near their parents.
//!
//! Runs stay until many others have come after them; meanwhile what their children used is taken off. The
//! children whose parents do not come by meanwhile are left. In the end their parents are looked for, first
//! among the last runs of files and row groups, which are kept; then among all, of which little more than
//! the ids is read. Of each parent comes a row that takes off what those children used, and counts for
//! nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, Int64Array,
    RecordBatch, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{take, take_record_batch};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, Schema, SchemaRef, UInt32Type,
};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err, resources_datafusion_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties,
};
use futures::{StreamExt, stream};

use super::below::{Below, NOBODY, SharedBelow, Wanted};
use super::{BELOW, ID, PARENT};
use crate::runs::Column;
use crate::tally::SUM;

/// Whether a row counts as a run: true, or null.
pub(crate) const COUNTED: &str = "@counted";

/// So many runs stay at least until they are handed on.
pub(super) const N_STAYING: usize = 1 << 14;
/// So many rows are looked at together.
const N_TOGETHER: usize = 1 << 13;
/// More runs than ever stay.
const N_PLACES: usize = 1 << 15;
/// So many of the last runs of a file or a row group are kept.
const N_LAST: usize = 1 << 10;
/// So many are kept of all.
const N_KEPT: usize = 1 << 16;
/// So many children may be left in any case.
const N_LEFT: usize = 1 << 16;
/// One of so many runs may be left besides.
const RUNS_A_LEFT: usize = 16;

/// Runs with their bits and their parents' → the same without those, with what they used themselves in
/// the columns of usage. `again` are runs whose rows in `left` are known, with what else such a row has in
/// common with theirs.
pub(super) fn plan(
    runs: LogicalPlan,
    again: LogicalPlan,
    usage: &[Column],
    left: &SharedBelow,
    n_staying: usize,
) -> Result<LogicalPlan> {
    let fields = runs.schema().fields().iter();
    let fields = fields.filter(|field| ![ID, PARENT].contains(&field.name().as_str()));
    let fields = fields.map(|field| {
        let is_usage = usage.iter().any(|column| column.name() == field.name());
        let kind = if is_usage { &SUM } else { field.data_type() };
        Field::new(field.name(), kind.clone(), true)
    });
    let counted = Field::new(COUNTED, DataType::Boolean, true);
    let schema = Schema::new(fields.chain([counted]).collect::<Vec<_>>());
    let table = Arc::new(AtOnce {
        schema: Arc::new(schema),
        runs,
        again,
        usage: usage.iter().map(|column| column.name()).collect(),
        left: Arc::clone(left),
        n_staying,
    });
    LogicalPlanBuilder::scan("own usage", provider_as_source(table), None)?.build()
}

#[derive(Debug)]
struct AtOnce {
    schema: SchemaRef,
    runs: LogicalPlan,
    again: LogicalPlan,
    usage: Vec<&'static str>,
    left: SharedBelow,
    n_staying: usize,
}

#[async_trait]
impl TableProvider for AtOnce {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let read = names.filter(|name| *name != COUNTED);
        let runs = LogicalPlanBuilder::new(self.runs.clone())
            .project(read.chain([ID, PARENT]).map(ident))?
            .build()?;
        let runs = state.create_physical_plan(&runs).await?;
        let again = state.create_physical_plan(&self.again).await?;
        Ok(Arc::new(AtOnceExec::new(
            runs,
            again,
            schema,
            self.usage.clone(),
            Arc::clone(&self.left),
            self.n_staying,
        )))
    }
}

#[derive(Debug)]
struct AtOnceExec {
    runs: Arc<dyn ExecutionPlan>,
    again: Arc<dyn ExecutionPlan>,
    usage: Vec<&'static str>,
    left: SharedBelow,
    n_staying: usize,
    ended: Arc<Mutex<Ended>>,
    properties: Arc<PlanProperties>,
}

/// What parts whose runs have all come by leave.
#[derive(Debug, Default)]
struct Ended {
    n_parts: usize,
    left: Vec<RecordBatch>,
    kept: Vec<RecordBatch>,
    memory: Vec<MemoryReservation>,
}

impl AtOnceExec {
    fn new(
        runs: Arc<dyn ExecutionPlan>,
        again: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        usage: Vec<&'static str>,
        left: SharedBelow,
        n_staying: usize,
    ) -> Self {
        let n_parts = runs.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(n_parts),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            runs,
            again,
            usage,
            left,
            n_staying,
            ended: Arc::default(),
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for AtOnceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnUsageExec: usage=[{}]", self.usage.join(", "))
    }
}

impl ExecutionPlan for AtOnceExec {
    fn name(&self) -> &'static str {
        "OwnUsageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![
            Distribution::UnspecifiedDistribution,
            Distribution::SinglePartition,
        ]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.runs, &self.again]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([runs, again]) = <[_; 2]>::try_from(children) else {
            return internal_err!("own usage is told from runs, and from runs again");
        };
        Ok(Arc::new(Self::new(
            runs,
            again,
            self.schema(),
            self.usage.clone(),
            Arc::clone(&self.left),
            self.n_staying,
        )))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let memory = MemoryConsumer::new("what children used").register(context.memory_pool());
        let part = Part {
            rows: self.runs.execute(partition, Arc::clone(&context))?,
            step: Step::Coming,
            staying: Staying::new(&schema, &self.usage, &self.again.schema(), self.n_staying),
            found: Vec::new(),
            again: Arc::clone(&self.again),
            n_parts: self.properties.partitioning.partition_count(),
            ended: Arc::clone(&self.ended),
            left: Arc::clone(&self.left),
            is_taken: Vec::new(),
            context,
            memory,
        };
        let batches = stream::try_unfold(part, Part::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// A part of the runs as they come by.
struct Part {
    rows: SendableRecordBatchStream,
    step: Step,
    staying: Staying,
    again: Arc<dyn ExecutionPlan>,
    n_parts: usize,
    ended: Arc<Mutex<Ended>>,
    left: SharedBelow,
    /// Rows that take off what children used that were left; it is taken off once, by the number of its
    /// row.
    found: Vec<RecordBatch>,
    is_taken: Vec<bool>,
    context: Arc<TaskContext>,
    memory: MemoryReservation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Runs come.
    Coming,
    /// All have come; those that stay go.
    Going,
    /// All have gone; the parents come of children that were left.
    Again,
}

impl Part {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(runs) = self.staying.go(self.step == Step::Going)? {
                self.memory.try_resize(self.staying.n_bytes)?;
                return Ok(Some((runs, self)));
            }
            if self.step == Step::Going {
                if !self.look_again()? {
                    return Ok(None);
                }
                self.step = Step::Again;
            }
            if let Some(rows) = self.found.pop() {
                return Ok(Some((rows, self)));
            }
            match (self.rows.next().await.transpose()?, self.step) {
                (Some(runs), Step::Coming) => self.staying.come(runs),
                (Some(parents), _) => self.find(&parents)?,
                (None, Step::Coming) => {
                    self.staying.end();
                    self.step = Step::Going;
                }
                (None, _) => return Ok(None),
            }
        }
    }

    /// Whether it is for this part to look at the runs again: it is the last one, and children are left.
    fn look_again(&mut self) -> Result<bool> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.n_parts += 1;
        ended.left.append(&mut self.staying.left);
        ended.kept.extend(self.staying.kept.drain(..));
        ended.memory.push(self.memory.take());
        if ended.n_parts < self.n_parts || ended.left.is_empty() {
            return Ok(false);
        }
        let mut below = Below::default();
        for children in std::mem::take(&mut ended.left) {
            self.memory.try_resize(below.size_with(&children))?;
            below.add(&children)?;
        }
        let kept = std::mem::take(&mut ended.kept);
        drop(ended);
        self.is_taken = vec![false; below.n_rows()];
        if self.left.set(below).is_err() {
            return internal_err!("own usage is told once");
        }
        for last in kept {
            self.find(&last)?;
        }
        // The first row is nobody's.
        if self.is_taken.iter().skip(1).all(|is_taken| *is_taken) {
            self.rows = Box::pin(EmptyRecordBatchStream::new(self.again.schema()));
        } else {
            self.rows = self.again.execute(0, Arc::clone(&self.context))?;
        }
        Ok(true)
    }

    /// Takes off what children of these runs used that were left. They have their bits, or their rows.
    fn find(&mut self, parents: &RecordBatch) -> Result<()> {
        let Some(below) = self.left.get() else {
            return internal_err!("parents before their children are known");
        };
        let numbers = match (parents.column_by_name(BELOW), parents.column_by_name(ID)) {
            (Some(numbers), _) => numbers.as_primitive().clone(),
            (_, Some(bits)) => below.numbers(bits.as_primitive()),
            _ => return internal_err!("parents that nothing tells apart"),
        };
        let rows = (0_u32..).zip(numbers.values()).filter(|(_, number)| {
            let is_taken = self.is_taken.get_mut(**number as usize);
            **number != NOBODY && is_taken.is_some_and(|it| !std::mem::replace(it, true))
        });
        let rows: UInt32Array = rows.map(|(row, _)| row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let parents = take_record_batch(parents, &rows)?;
        let numbers = take(&numbers, &rows, None)?;
        let numbers = numbers.as_primitive::<UInt32Type>();
        let schema = &self.staying.schema;
        let columns = schema.fields().iter().zip(&self.staying.columns);
        let columns = columns.map(|(field, column)| -> ArrayRef {
            if let Given::Own(place) = column {
                let sums = numbers.values().iter();
                let sums = sums.map(|number| below.sum(*number as usize, *place));
                let sums: Decimal128Array = sums.map(|sum| sum.map(|sum| -sum)).collect();
                return Arc::new(sums.with_data_type(SUM));
            }
            let known = parents.column_by_name(field.name());
            let nothing = || new_null_array(field.data_type(), parents.num_rows());
            known.map_or_else(nothing, Arc::clone)
        });
        let rows = RecordBatch::try_new(Arc::clone(schema), columns.collect())?;
        self.found.push(rows);
        Ok(())
    }
}

/// Where a column that is handed on comes from.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// A run's own column.
    Run(usize),
    /// What it used itself in a column of usage.
    Own(usize),
    Counted,
}

/// The runs that came last.
struct Staying {
    /// What is handed on.
    schema: SchemaRef,
    columns: Vec<Given>,
    /// The columns of runs: their bits; then those of children, their parents' bits before their usage.
    id: usize,
    of_children: Vec<usize>,
    /// Those that are yet to come.
    coming: RecordBatch,
    /// Whether a row group ends with them: they are fewer than others were.
    ends: bool,
    batches: VecDeque<Batch>,
    /// So many stay at least.
    n_staying: usize,
    n_rows: usize,
    /// The number of the next run. Those that stay are told apart by the lower bits of theirs.
    next: u32,
    seed: u64,
    /// The last run whose hash begins so, and of each run the last one before it of which that is true.
    last: Vec<u32>,
    before: Vec<u32>,
    keys: Vec<[i64; 2]>,
    /// Children that went before their parents came.
    left: Vec<RecordBatch>,
    n_left: usize,
    /// The columns that are kept of the last runs, where these can be.
    of_kept: Option<Vec<usize>>,
    kept: VecDeque<RecordBatch>,
    n_kept: usize,
    /// What is left and kept takes.
    n_bytes: usize,
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
    values: Vec<i128>,
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
        let values = carried.iter().map(|value| i128::from(value.unwrap_or(0)));
        Self {
            values: values.collect(),
            are_there,
        }
    }

    fn take_off(&mut self, row: usize, value: i64) {
        if let Some(own) = self.values.get_mut(row) {
            *own -= i128::from(value);
            self.are_there.set_bit(row, true);
        }
    }

    fn finish(mut self) -> Decimal128Array {
        let nulls = NullBuffer::new(self.are_there.finish());
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        Decimal128Array::new(self.values.into(), nulls).with_data_type(SUM)
    }
}

impl Staying {
    /// Of runs that have the columns of `schema` in its order, but for the one that counts them; then
    /// their bits and their parents'.
    /// Parents that are found again have the columns of `again`.
    fn new(schema: &SchemaRef, usage: &[&str], again: &SchemaRef, n_staying: usize) -> Self {
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
            n_staying,
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
    fn come(&mut self, runs: RecordBatch) {
        self.n_most = self.n_most.max(runs.num_rows());
        self.ends = runs.num_rows() < self.n_most;
        self.coming = runs;
    }

    /// What has come last is followed by runs of another row group or file.
    fn end(&mut self) {
        let mut n_last = N_LAST;
        for batch in self.batches.iter_mut().rev() {
            batch.n_last = batch.n_last.max(n_last.min(batch.runs.num_rows()));
            n_last -= n_last.min(batch.runs.num_rows());
        }
    }

    /// The runs that came first, once enough have come after them, or no more will.
    fn go(&mut self, are_all: bool) -> Result<Option<RecordBatch>> {
        loop {
            let n_first = self.batches.front().map(|batch| batch.runs.num_rows());
            if n_first.is_some_and(|n| are_all || self.n_rows - n >= self.n_staying) {
                return self.go_first();
            }
            let n_coming = self.coming.num_rows();
            if n_coming == 0 {
                return Ok(None);
            }
            let n_next = n_coming.min(N_TOGETHER);
            let next = self.coming.slice(0, n_next);
            self.coming = self.coming.slice(n_next, n_coming - n_next);
            self.enter(next)?;
            for batch in 0..self.batches.len() {
                self.take_off(batch);
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
        let parents = children.column(0);
        let has_used = |row: usize| used.iter().any(|used| used.is_valid(row));
        let rows = (0_u32..).zip(0..runs.num_rows());
        let open = rows.filter(|(_, row)| parents.is_valid(*row) && has_used(*row));
        let open = open.map(|(row, _)| row).collect();
        let own = used.iter().map(|carried| Own::of(carried)).collect();
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
    fn take_off(&mut self, batch: usize) {
        let Some(batch) = self.batches.get_mut(batch) else {
            return;
        };
        let mut open = std::mem::take(&mut batch.open);
        if open.is_empty() {
            return;
        }
        let (first, children) = (batch.first, batch.children.clone());
        let parents = children.column(0).as_primitive::<Decimal128Type>();
        let used: Vec<&Int64Array> = usage(&children).collect();
        open.retain(|row| {
            let row = *row as usize;
            let Some((batch, place)) = self.find(parents.value(row)) else {
                return true;
            };
            if let Some(batch) = self.batches.get_mut(batch) {
                for (own, used) in batch.own.iter_mut().zip(&used) {
                    if used.is_valid(row) {
                        own.take_off(place, used.value(row));
                    }
                }
            }
            false
        });
        let mut batches = self.batches.iter_mut();
        if let Some(batch) = batches.find(|batch| batch.first == first) {
            batch.open = open;
        }
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
            if self.n_left > N_LEFT + self.n_come / RUNS_A_LEFT {
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
}

impl Staying {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::array::StringViewArray;
    use datafusion::catalog::MemTable;
    use datafusion::logical_expr::lit;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::below;
    use super::*;

    /// A run's group, its parent's number, its tokens, its cost; its own number is its place, where it
    /// has one.
    type Run = (u8, bool, Option<u8>, Option<i64>, Option<i64>);

    const USAGE: [Column; 2] = [Column::TotalTokens, Column::TotalCost];

    fn batch(first: usize, runs: &[Run]) -> RecordBatch {
        let bits = |number: usize| i128::try_from(number).unwrap() << 64 | 7;
        let bits_of = |numbers: Vec<Option<usize>>| -> ArrayRef {
            let all = numbers.into_iter().map(|number| number.map(bits));
            let all: Decimal128Array = all.collect();
            Arc::new(all.with_data_type(DataType::Decimal128(38, 0)))
        };
        let groups: StringViewArray = runs.iter().map(|run| Some(run.0.to_string())).collect();
        let ids = runs.iter().enumerate();
        let ids = ids.map(|(row, run)| run.1.then_some(first + row));
        let parents = runs.iter().map(|run| run.2.map(usize::from));
        let tokens: Int64Array = runs.iter().map(|run| run.3).collect();
        let costs: Int64Array = runs.iter().map(|run| run.4).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("group", Arc::new(groups) as ArrayRef, true),
            (USAGE[0].name(), Arc::new(tokens), true),
            (USAGE[1].name(), Arc::new(costs), true),
            (ID, bits_of(ids.collect()), true),
            (PARENT, bits_of(parents.collect()), true),
        ])
        .unwrap()
    }

    /// How many runs a group has, and what they used.
    type Groups = BTreeMap<String, (usize, [Option<i128>; 2])>;

    fn add(sum: &mut Option<i128>, more: Option<i128>) {
        if let Some(more) = more {
            *sum = Some(sum.unwrap_or(0) + more);
        }
    }

    /// What the plan says, and whether it looked at the runs again.
    fn told(parts: Vec<Vec<RecordBatch>>, n_staying: usize) -> (Groups, bool) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            // Parts are not dealt out anew.
            let one = SessionConfig::new().with_target_partitions(1);
            let ctx = SessionContext::new_with_config(one);
            let table = Arc::new(MemTable::try_new(batch(0, &[]).schema(), parts).unwrap());
            let scan = || {
                let table = provider_as_source(Arc::clone(&table) as _);
                LogicalPlanBuilder::scan("runs", table, None).unwrap()
            };
            let left = SharedBelow::default();
            let found = below::row(&left, ident(ID)).alias(BELOW);
            let again = scan().project([ident("group"), found]).unwrap();
            let again = again.filter(ident(BELOW).not_eq(lit(below::NOBODY)));
            let again = again.unwrap().build().unwrap();
            let runs = scan().build().unwrap();
            let told = plan(runs, again, &USAGE, &left, n_staying).unwrap();
            let told = ctx.state().create_physical_plan(&told).await.unwrap();
            let mut groups = Groups::new();
            for rows in collect(told, ctx.task_ctx()).await.unwrap() {
                let text = rows.column(0).as_string_view();
                let own = [1, 2].map(|column| rows.column(column).as_primitive::<Decimal128Type>());
                let counted = rows.column(3).as_boolean();
                for row in 0..rows.num_rows() {
                    let group = groups.entry(text.value(row).to_owned()).or_default();
                    group.0 += usize::from(counted.is_valid(row) && counted.value(row));
                    for (sum, own) in group.1.iter_mut().zip(own) {
                        add(sum, own.is_valid(row).then(|| own.value(row)));
                    }
                }
            }
            (groups, left.get().is_some())
        })
    }

    proptest! {
        #[test]
        fn sums_are_those_of_what_each_run_used_itself(
            batches in vec(vec((
                0..4_u8,
                prop::bool::weighted(0.9),
                prop::option::of(any::<u8>()),
                prop::option::of(-5..1_000_i64),
                prop::option::of(any::<i64>()),
            ), 0..60), 0..8),
            n_parts in 1..4_usize,
            n_staying in 0..200_usize,
        ) {
            let mut parts = vec![Vec::new(); n_parts];
            let mut expected = Groups::new();
            let all = batches.concat();
            let mut first = 0;
            for (place, runs) in batches.iter().enumerate() {
                parts[place % n_parts].push(batch(first, runs));
                first += runs.len();
            }
            for run in &all {
                let group = expected.entry(run.0.to_string()).or_default();
                group.0 += 1;
                for (sum, used) in group.1.iter_mut().zip([run.3, run.4]) {
                    add(sum, used.map(i128::from));
                }
                let parent = run.2.and_then(|number| all.get(usize::from(number)));
                if let Some(parent) = parent.filter(|parent| parent.1) {
                    let group = expected.entry(parent.0.to_string()).or_default();
                    for (sum, used) in group.1.iter_mut().zip([run.3, run.4]) {
                        add(sum, used.map(|used| -i128::from(used)));
                    }
                }
            }
            let (groups, _) = told(parts, n_staying);
            prop_assert_eq!(groups, expected);
        }
    }

    /// So many runs, of which every other one is the child of the one so many runs before it.
    fn far(n_runs: usize, distance: usize) -> RecordBatch {
        let runs = batch(0, &vec![(0, true, None, Some(1), None); n_runs]);
        let parents = (0..n_runs).map(|row| {
            let parent = row.checked_sub(distance).filter(|_| row % 2 == 1)?;
            Some(i128::try_from(parent).unwrap() << 64 | 7)
        });
        let parents: Decimal128Array = parents.collect();
        let mut columns = runs.columns().to_vec();
        columns[4] = Arc::new(parents.with_data_type(DataType::Decimal128(38, 0)));
        RecordBatch::try_new(runs.schema(), columns).unwrap()
    }

    #[test]
    fn runs_that_stand_near_their_parents_are_looked_at_once() {
        let n_runs = 100_000;
        for (distance, is_looked_at_again) in [(140, false), (N_STAYING, false), (50_000, true)] {
            // However many come at once.
            let runs = far(n_runs, distance);
            let some = (0..n_runs)
                .step_by(1_000)
                .map(|row| runs.slice(row, 1_000))
                .collect();
            let some: Vec<RecordBatch> = if distance == 140 { some } else { vec![runs] };
            let (groups, again) = told(vec![some], N_STAYING);
            let used = i128::try_from(n_runs - (n_runs - distance) / 2).unwrap();
            assert_eq!(groups["0"], (n_runs, [Some(used), None]));
            assert_eq!(again, is_looked_at_again, "{distance}");
        }
    }

    #[test]
    fn too_many_that_stand_far_from_them_are_said() {
        let schema = batch(0, &[]).schema();
        let own = Field::new(USAGE[0].name(), SUM, true);
        let given = Schema::new(vec![schema.field(0).clone(), own]);
        let mut staying = Staying::new(&Arc::new(given), &[USAGE[0].name()], &schema, N_STAYING);
        let runs = far(400_000, 60_000).project(&[0, 1, 3, 4]).unwrap();
        staying.come(runs);
        let gone = std::iter::from_fn(|| staying.go(false).transpose());
        let error = gone.collect::<Result<Vec<_>>>().unwrap_err().to_string();
        assert!(error.contains("far from their parents"), "{error}");
    }
}
