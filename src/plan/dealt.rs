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
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Rows are dealt to so many parts, or to as many as there are threads.
const N_PARTS: usize = 32;

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
        let n_parts = N_PARTS.max(state.config().target_partitions());
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
