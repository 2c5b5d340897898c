//! Rows dealt by what they have in common: where groups are many, each part has a few of them, whose
//! tallies stay near the processor, and no group is in two parts.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Rows are dealt to so many parts, as far as there is memory, or to as many as there are threads.
const N_PARTS: usize = 32;
/// The memory that there should be for each part: all may spill at the same time.
const PART_BYTES: usize = 32 << 20;

/// The same rows, those together in one part that have the same in all of these columns.
pub(super) fn plan(rows: LogicalPlan, by: Vec<String>) -> Result<LogicalPlan> {
    let fields = rows.schema().as_arrow().clone();
    let table = Arc::new(Dealt {
        schema: Arc::new(fields),
        rows,
        by,
    });
    LogicalPlanBuilder::scan("dealt", provider_as_source(table), None)?.build()
}

#[derive(Debug)]
struct Dealt {
    schema: SchemaRef,
    rows: LogicalPlan,
    by: Vec<String>,
}

#[async_trait]
impl TableProvider for Dealt {
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
        let read = schema.fields().iter().map(|field| ident(field.name()));
        let rows = LogicalPlanBuilder::new(self.rows.clone())
            .project(read)?
            .build()?;
        let rows = state.create_physical_plan(&rows).await?;
        let by = self
            .by
            .iter()
            .map(|name| Column::new_with_schema(name, &schema));
        let by = by.map(|column| Ok(Arc::new(column?) as Arc<dyn PhysicalExpr>));
        let by = by.collect::<Result<Vec<_>>>()?;
        let n_parts = match state.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => N_PARTS.min(bytes / PART_BYTES),
            _ => N_PARTS,
        };
        let n_parts = n_parts.max(state.config().target_partitions());
        Ok(Arc::new(DealtExec::new(
            rows,
            Partitioning::Hash(by, n_parts),
        )?))
    }
}

/// The engine's own node for that, kept from its optimiser, which would undo what it did not do itself.
#[derive(Debug)]
struct DealtExec(RepartitionExec);

impl DealtExec {
    fn new(rows: Arc<dyn ExecutionPlan>, to: Partitioning) -> Result<Self> {
        RepartitionExec::try_new(rows, to).map(Self)
    }
}

impl DisplayAs for DealtExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DealtExec: partitioning={}", self.0.partitioning())
    }
}

impl ExecutionPlan for DealtExec {
    fn name(&self) -> &'static str {
        "DealtExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.0.input()]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([rows]) = <[_; 1]>::try_from(children) else {
            return internal_err!("rows of one plan are dealt");
        };
        Ok(Arc::new(Self::new(rows, self.0.partitioning().clone())?))
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
        self.0.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.0.metrics()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch, StringViewArray};
    use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, Int64Type, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use proptest::prelude::*;

    use super::*;
    use crate::tally::sum_udaf::exact_sum;

    type Row = (Option<String>, i64, Option<i64>);

    fn batches(rows: &[Row], n: usize) -> Vec<RecordBatch> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("label", DataType::Utf8View, true),
            Field::new("bucket", DataType::Int64, false),
            Field::new("left out", DataType::Int64, false),
            Field::new("value", DataType::Int64, true),
        ]));
        let batch = |rows: &[Row]| {
            let labels: StringViewArray = rows.iter().map(|row| row.0.as_deref()).collect();
            let buckets: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
            let values: Int64Array = rows.iter().map(|row| row.2).collect();
            RecordBatch::try_new(
                Arc::clone(&schema),
                vec![
                    Arc::new(labels),
                    Arc::new(buckets.clone()),
                    Arc::new(buckets),
                    Arc::new(values),
                ],
            )
        };
        let batches = rows.chunks(n).map(|rows| batch(rows).unwrap());
        let batches: Vec<RecordBatch> = batches.collect();
        if batches.is_empty() {
            return vec![RecordBatch::new_empty(schema)];
        }
        batches
    }

    /// The sums of groups of rows that are dealt, and the plan.
    async fn sums(
        rows: &[Row],
        n_threads: usize,
    ) -> (BTreeMap<(Option<String>, i64), Option<i128>>, String) {
        let config = SessionConfig::new().with_target_partitions(n_threads);
        let ctx = SessionContext::new_with_config(config);
        let parts: Vec<_> = batches(rows, 7).chunks(3).map(<[_]>::to_vec).collect();
        let schema = parts.first().unwrap().first().unwrap().schema();
        let table = provider_as_source(Arc::new(MemTable::try_new(schema, parts).unwrap()));
        let rows = LogicalPlanBuilder::scan("rows", table, None).unwrap();
        let by = ["label", "bucket"];
        let dealt = plan(rows.build().unwrap(), by.map(str::to_owned).into()).unwrap();
        let sum = exact_sum().call(vec![ident("value")]).alias("sum");
        let tallies = LogicalPlanBuilder::new(dealt).aggregate(by.map(ident), [sum]);
        let tallies = tallies.unwrap().build().unwrap();
        let physical = ctx.state().create_physical_plan(&tallies).await.unwrap();
        let text = displayable(physical.as_ref()).indent(false).to_string();
        let mut sums = BTreeMap::new();
        for batch in collect(physical, ctx.task_ctx()).await.unwrap() {
            let labels = batch.column(0).as_string_view();
            let buckets = batch.column(1).as_primitive::<Int64Type>();
            let totals = batch.column(2).as_primitive::<Decimal128Type>();
            for ((label, bucket), total) in labels.iter().zip(buckets).zip(totals) {
                let group = (label.map(str::to_owned), bucket.unwrap());
                assert_eq!(sums.insert(group, total), None, "a group comes twice");
            }
        }
        (sums, text)
    }

    #[tokio::test]
    async fn groups_are_tallied_in_one_step() {
        let rows = vec![(Some("a".to_owned()), 1, Some(2)); 90];
        let (sums, plan) = sums(&rows, 2).await;
        assert_eq!(sums[&(Some("a".to_owned()), 1)], Some(180));
        assert!(plan.contains("mode=SinglePartitioned"), "{plan}");
        assert!(plan.contains("DealtExec: partitioning=Hash("), "{plan}");
        assert!(!plan.contains("FinalPartitioned"), "{plan}");
        assert!(!plan.contains("left out"), "{plan}");
    }

    proptest! {
        #[test]
        fn dealt_rows_have_the_same_groups(
            rows in proptest::collection::vec(
                (proptest::option::of("[a-e]|a{13}|b{20}"), -2..3_i64, proptest::option::of(any::<i64>())),
                0..120,
            ),
            n_threads in 1..5_usize,
        ) {
            let mut expected: BTreeMap<_, Option<i128>> = BTreeMap::new();
            for (label, bucket, value) in &rows {
                let sum = expected.entry((label.clone(), *bucket)).or_default();
                if let Some(value) = value {
                    *sum = Some(sum.unwrap_or_default() + i128::from(*value));
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (sums, _) = runtime.block_on(sums(&rows, n_threads));
            prop_assert_eq!(sums, expected);
        }
    }
}
