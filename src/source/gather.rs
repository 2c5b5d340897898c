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

/// Gives the rows of a scan in batches of so many; one of more than half as many stays as it is.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, StringViewArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::catalog::TableProvider;
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    use super::*;

    /// Numbers and their texts, some of which a view does not hold itself.
    fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
        let texts = numbers
            .clone()
            .map(|n| "x".repeat(usize::try_from(n % 20).unwrap()) + &n.to_string());
        let texts: StringViewArray = texts.map(Some).collect();
        let numbers = Int64Array::from_iter_values(numbers);
        RecordBatch::try_from_iter([
            ("n", Arc::new(numbers) as _),
            ("text", Arc::new(texts) as _),
        ])
        .unwrap()
    }

    proptest! {
        #[test]
        fn all_rows_come_in_their_order(
            lengths in proptest::collection::vec(0..40_i64, 1..60),
            batch_rows in 1..200_usize,
        ) {
            let mut end = 0;
            let batches = lengths.iter().map(|n| {
                end += n;
                batch(end - n..end)
            });
            let batches: Vec<RecordBatch> = batches.collect();
            let table = MemTable::try_new(batch(0..0).schema(), vec![batches]).unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let gathered = runtime.block_on(async {
                let ctx = SessionContext::new();
                let scan = table.scan(&ctx.state(), None, &[], None).await.unwrap();
                let gather = Arc::new(GatherExec::new(scan, batch_rows));
                collect(gather, ctx.task_ctx()).await.unwrap()
            });
            let mut next = 0;
            for part in &gathered {
                let n_rows = i64::try_from(part.num_rows()).unwrap();
                prop_assert_eq!(part, &batch(next..next + n_rows));
                prop_assert_eq!(part.column(0).as_primitive::<Int64Type>().value(0), next);
                next += n_rows;
            }
            prop_assert_eq!(next, end);
            // What is large enough by itself is handed on as it is.
            let mut neighbours = gathered.windows(2);
            let are_many = |pair: &[RecordBatch]| {
                2 * pair.iter().map(RecordBatch::num_rows).sum::<usize>() >= batch_rows
            };
            prop_assert!(neighbours.all(are_many));
        }
    }
}
