//! The rows of many small files in batches of thousands: what follows the scan has its work once for each
//! batch, which for files of a few hundred rows takes longer than reading them.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce::LimitedBatchCoalescer;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};

/// Gives the rows of a scan in batches of so many.
#[derive(Debug)]
pub(super) struct GatherExec {
    scan: Arc<dyn ExecutionPlan>,
    batch_rows: usize,
}

impl GatherExec {
    pub(super) fn new(scan: Arc<dyn ExecutionPlan>, batch_rows: usize) -> Self {
        Self { scan, batch_rows }
    }
}

impl DisplayAs for GatherExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatherExec: batch_rows={}", self.batch_rows)
    }
}

impl ExecutionPlan for GatherExec {
    fn name(&self) -> &'static str {
        "GatherExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.scan]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(scan), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("rows are gathered from one scan");
        };
        Ok(Arc::new(Self::new(scan, self.batch_rows)))
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
        let gathering = Gathering {
            scan: self.scan.execute(partition, context)?,
            gathered: LimitedBatchCoalescer::new(Arc::clone(&schema), self.batch_rows, None),
            is_done: false,
        };
        let batches = stream::try_unfold(gathering, Gathering::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

struct Gathering {
    scan: SendableRecordBatchStream,
    gathered: LimitedBatchCoalescer,
    is_done: bool,
}

impl Gathering {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(batch) = self.gathered.next_completed_batch() {
                return Ok(Some((batch, self)));
            }
            if self.is_done {
                return Ok(None);
            }
            if let Some(batch) = self.scan.next().await {
                self.gathered.push_batch(batch?)?;
            } else {
                self.gathered.finish()?;
                self.is_done = true;
            }
        }
    }
}
