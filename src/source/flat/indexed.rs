//! Files of which the page index tells where the wanted rows may lie: the crate's reader reads those pages,
//! the condition is tested after it.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::Projector;
use datafusion::physical_plan::filter::batch_filter;
use datafusion::physical_plan::metrics::Count;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::StreamExt;
use futures::stream::BoxStream;

/// What is done with rows that the crate's reader read.
pub(super) struct After {
    /// The scan that the crate's reader is to do.
    config: FileScanConfig,
    condition: Option<Arc<dyn PhysicalExpr>>,
    projector: Projector,
    n_rows: Count,
}

impl After {
    pub(super) fn new(
        config: FileScanConfig,
        condition: Option<Arc<dyn PhysicalExpr>>,
        projector: Projector,
    ) -> Self {
        Self {
            config,
            condition,
            projector,
            n_rows: Count::new(),
        }
    }

    /// The same, where rows are counted.
    pub(super) fn counting(self, n_rows: Count) -> Self {
        Self { n_rows, ..self }
    }

    pub(super) fn config(&self) -> &FileScanConfig {
        &self.config
    }

    fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        self.n_rows.add(rows.num_rows());
        let Some(condition) = &self.condition else {
            return self.projector.project_batch(rows);
        };
        self.projector
            .project_batch(&batch_filter(rows, condition)?)
    }
}

/// Plans a file by the crate's reader.
pub(super) struct AfterPlanner {
    planner: Box<dyn MorselPlanner>,
    after: Arc<After>,
}

impl AfterPlanner {
    pub(super) fn new(planner: Box<dyn MorselPlanner>, after: Arc<After>) -> Self {
        Self { planner, after }
    }
}

impl fmt::Debug for AfterPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.planner.fmt(f)
    }
}

impl MorselPlanner for AfterPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { planner, after } = *self;
        let Some(mut plan) = planner.plan()? else {
            return Ok(None);
        };
        let morsels = plan.take_morsels().into_iter().map(|morsel| {
            let after = Arc::clone(&after);
            Box::new(AfterMorsel { morsel, after }) as Box<dyn Morsel>
        });
        let morsels = morsels.collect();
        let planner = {
            let after = Arc::clone(&after);
            move |planner| {
                Box::new(Self::new(planner, Arc::clone(&after))) as Box<dyn MorselPlanner>
            }
        };
        let ready = plan.take_ready_planners().into_iter().map(&planner);
        let ready = ready.collect();
        let pending = plan.take_pending_planner();
        let mut plan = MorselPlan::new().with_morsels(morsels).with_planners(ready);
        if let Some(pending) = pending {
            plan.set_pending_planner(async move { Ok(planner(pending.await?)) });
        }
        Ok(Some(plan))
    }
}

struct AfterMorsel {
    morsel: Box<dyn Morsel>,
    after: Arc<After>,
}

impl fmt::Debug for AfterMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.morsel.fmt(f)
    }
}

impl Morsel for AfterMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { morsel, after } = *self;
        let rows = morsel.into_stream();
        rows.map(move |rows| after.apply(&rows?)).boxed()
    }
}
