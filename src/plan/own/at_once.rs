//! Own usage in the pass that sums it up: children mostly stand near their parents.
//!
//! Runs stay until many others have come after them; meanwhile what their children used is taken off. The
//! children whose parents do not come by meanwhile are left. In the end their parents are looked for, first
//! among the last runs of files and row groups, which are kept; then among all, of which little more than
//! the ids is read. Of each parent comes a row that takes off what those children used, and counts for
//! nothing else.

mod staying;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{take, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
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

use super::below::{Below, NOBODY, SharedBelow};
use super::{BELOW, ID, PARENT};
use crate::runs::Column;
pub(super) use staying::N_STAYING;
use staying::{Given, Staying};

/// Whether a row counts as a run: true, or null.
pub(crate) const COUNTED: &str = "@counted";

/// What of a plan's children is executed in any case: runs are mostly not looked at again.
pub(crate) fn executed(plan: &Arc<dyn ExecutionPlan>) -> Vec<&Arc<dyn ExecutionPlan>> {
    let mut children = plan.children();
    if plan.is::<AtOnceExec>() {
        children.truncate(1);
    }
    children
}

/// Runs with their bits and their parents' → the same without those, with what they used themselves in
/// the columns of usage. `again` are runs whose rows in `left` are known, with what else such a row has in
/// common with theirs.
pub(super) fn plan(
    runs: LogicalPlan,
    again: LogicalPlan,
    usage: &[Column],
    left: &SharedBelow,
    n_behind: usize,
) -> Result<LogicalPlan> {
    let fields = runs.schema().fields().iter();
    let fields = fields.filter(|field| ![ID, PARENT].contains(&field.name().as_str()));
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    let counted = Field::new(COUNTED, DataType::Boolean, true);
    let schema = Schema::new(fields.chain([counted]).collect::<Vec<_>>());
    let table = Arc::new(AtOnce {
        schema: Arc::new(schema),
        runs,
        again,
        usage: usage.iter().map(|column| column.name()).collect(),
        left: Arc::clone(left),
        n_behind,
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
    n_behind: usize,
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
            self.n_behind,
        )))
    }
}

#[derive(Debug)]
struct AtOnceExec {
    runs: Arc<dyn ExecutionPlan>,
    again: Arc<dyn ExecutionPlan>,
    usage: Vec<&'static str>,
    left: SharedBelow,
    n_behind: usize,
    ended: Arc<Mutex<Ended>>,
    properties: Arc<PlanProperties>,
}

/// What is used in 64 bits; what goes beyond them is not told here.
fn narrow(sum: i128) -> Result<i64> {
    i64::try_from(sum).map_err(|_| resources_datafusion_err!("{sum} is beyond 64 bits"))
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
        n_behind: usize,
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
            n_behind,
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
            self.n_behind,
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
            staying: Staying::new(&schema, &self.usage, &self.again.schema(), self.n_behind),
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
        ended.memory.clear();
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
        let columns = columns.map(|(field, column)| -> Result<ArrayRef> {
            if let Given::Own(place) = column {
                let sums = numbers.values().iter();
                let sums = sums.map(|number| below.sum(*number as usize, *place));
                let sums = sums.map(|sum| sum.map(|sum| narrow(-sum)).transpose());
                return Ok(Arc::new(sums.collect::<Result<Int64Array>>()?));
            }
            let known = parents.column_by_name(field.name());
            let nothing = || new_null_array(field.data_type(), parents.num_rows());
            Ok(known.map_or_else(nothing, Arc::clone))
        });
        let columns = columns.collect::<Result<_>>()?;
        let rows = RecordBatch::try_new(Arc::clone(schema), columns)?;
        self.found.push(rows);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::array::{Array, Decimal128Array, StringViewArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::catalog::MemTable;
    use datafusion::logical_expr::{cast, lit};
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

    /// What the plan says, and whether it looked for parents in the end. Runs that cannot be looked at again
    /// fail where they are.
    fn told(parts: Vec<Vec<RecordBatch>>, n_behind: usize) -> Result<(Groups, bool)> {
        told_again(parts, n_behind, true)
    }

    fn told_again(
        parts: Vec<Vec<RecordBatch>>,
        n_behind: usize,
        can_look_again: bool,
    ) -> Result<(Groups, bool)> {
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
            let again = if can_look_again {
                again
            } else {
                let fails = (cast(ident(BELOW), DataType::Int64) / lit(0_i64)).eq(lit(1_i64));
                again.and_then(|again| again.filter(fails))
            };
            let again = again.unwrap().build().unwrap();
            let runs = scan().build().unwrap();
            let told = plan(runs, again, &USAGE, &left, n_behind).unwrap();
            let told = ctx.state().create_physical_plan(&told).await.unwrap();
            let mut groups = Groups::new();
            for rows in collect(told, ctx.task_ctx()).await? {
                let text = rows.column(0).as_string_view();
                let own = [1, 2].map(|column| rows.column(column).as_primitive::<Int64Type>());
                let counted = rows.column(3).as_boolean();
                for row in 0..rows.num_rows() {
                    let group = groups.entry(text.value(row).to_owned()).or_default();
                    group.0 += usize::from(counted.is_valid(row) && counted.value(row));
                    for (sum, own) in group.1.iter_mut().zip(own) {
                        add(sum, own.is_valid(row).then(|| own.value(row).into()));
                    }
                }
            }
            Ok((groups, left.get().is_some()))
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
                prop::option::of(-1_000_000_000_000_000..1_000_000_000_000_000_i64),
            ), 0..60), 0..8),
            n_parts in 1..4_usize,
            n_behind in 0..200_usize,
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
            let (groups, _) = told(parts, n_behind).unwrap();
            prop_assert_eq!(groups, expected);
        }
    }

    /// So many runs that each use 1; every so many one is the child of the one so many runs before it.
    /// With them the sum of what they used themselves.
    fn far(n_runs: usize, every: usize, distance: usize) -> (RecordBatch, Groups) {
        let runs = batch(0, &vec![(0, true, None, Some(1), None); n_runs]);
        let parents = (0..n_runs).map(|row| {
            let parent = row.checked_sub(distance).filter(|_| row % every == 0)?;
            Some(i128::try_from(parent).unwrap() << 64 | 7)
        });
        let parents: Decimal128Array = parents.collect();
        let n_children = parents.len() - parents.null_count();
        let used = i128::try_from(n_runs - n_children).unwrap();
        let mut columns = runs.columns().to_vec();
        columns[4] = Arc::new(parents.with_data_type(DataType::Decimal128(38, 0)));
        let runs = RecordBatch::try_new(runs.schema(), columns).unwrap();
        (
            runs,
            Groups::from([("0".to_owned(), (n_runs, [Some(used), None]))]),
        )
    }

    #[test]
    fn runs_that_stand_near_their_parents_are_looked_at_once() {
        for (distance, is_left) in [(140, false), (N_STAYING, false), (50_000, true)] {
            let (runs, groups) = far(100_000, 101, distance);
            // However many come at once.
            for n_together in [1_000, 100_000] {
                let some = (0..100_000).step_by(n_together);
                let some = some.map(|row| runs.slice(row, n_together));
                let told = told(vec![some.collect()], N_STAYING).unwrap();
                assert_eq!(told, (groups.clone(), is_left), "{distance}");
            }
        }
    }

    #[test]
    fn the_last_runs_of_row_groups_are_not_looked_at_again() {
        let parts = |runs: &RecordBatch| {
            let (first, second) = (runs.slice(0, 50_001), runs.slice(50_001, 49_999));
            vec![vec![first], vec![second]]
        };
        let (runs, groups) = far(100_000, 101, 140);
        let told = told_again(parts(&runs), N_STAYING, false).unwrap();
        assert_eq!(told, (groups, true));
        let (runs, _) = far(100_000, 101, 40_000);
        assert!(told_again(parts(&runs), N_STAYING, false).is_err());
    }

    #[test]
    fn what_is_beyond_64_bits_is_said() {
        let runs = [
            (0, true, None, None, Some(i64::MIN)),
            (0, true, Some(0), None, Some(1)),
        ];
        let error = told(vec![vec![batch(0, &runs)]], N_STAYING).unwrap_err();
        assert!(error.to_string().contains("64 bits"), "{error}");
    }

    #[test]
    fn too_many_that_stand_far_from_them_are_said() {
        let schema = batch(0, &[]).schema();
        let given = Schema::new(vec![schema.field(0).clone(), schema.field(1).clone()]);
        let mut staying = Staying::new(&Arc::new(given), &[USAGE[0].name()], &schema, N_STAYING);
        let (runs, _) = far(100_000, 2, 50_000);
        staying.come(runs.project(&[0, 1, 3, 4]).unwrap());
        let gone = std::iter::from_fn(|| staying.go(false).transpose());
        let error = gone.collect::<Result<Vec<_>>>().unwrap_err().to_string();
        assert!(error.contains("far from their parents"), "{error}");
    }
}
