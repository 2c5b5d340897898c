//! All runs of a source, as a whole and in order, a job at a time: what a conversion writes.
//!
//! Which record of each run counts is found once, before. Rows come as a stream, so that whoever takes them
//! may write while others are sorted; where a job fails, its files are looked through for the one to blame.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::TaskContext;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use uuid::Uuid;

use super::question::{Question, Stop, open};
use super::{Engine, Failure, guarded};
use crate::error::{Error, Result, SkippedFile};
use crate::request::{Population, Projects, Request};
use crate::runs::Column;
use crate::source::{Facts, Job, Source, Wanted, Written};

/// Bytes of a batch between reading and writing, at most.
const BATCH_BYTES: usize = 8 << 20;
/// A batch may take so much of a thread's memory.
const BATCH_SHARE: usize = 32;
/// Rows of a batch, at least.
const BATCH_ROWS_MIN: usize = 16;

/// All runs of some projects.
pub(crate) struct Whole<'e> {
    question: Question<'e>,
    wanted: Wanted,
    /// What is written together.
    pub(crate) jobs: Vec<Job>,
    /// The columns that are written.
    pub(crate) written: Written,
    /// What is known of the projects.
    pub(crate) projects: BTreeMap<Uuid, Facts>,
    /// What is odd about the files, a sentence each.
    pub(crate) warnings: Vec<String>,
    /// The files of which only a part was read.
    pub(crate) left_out: Vec<SkippedFile>,
}

/// Opens all runs of the projects that are asked for. Files that cannot be read are an error, or are added
/// to `skipped`.
pub(crate) async fn whole<'e>(
    engine: &'e Engine,
    source: &Source,
    projects: &Projects,
    drop_big: bool,
    skipped: &mut Vec<SkippedFile>,
) -> Result<Whole<'e>, Stop> {
    let request = Request {
        projects: projects.clone(),
        ..Request::default()
    };
    let looked_at = BTreeSet::from([Column::Events]);
    let runs = Population::All;
    let opened = open(engine, source, &request, &runs, looked_at, &[], skipped).await?;
    let (mut question, mut tallied) = opened;
    question.files.refuse_of_tallies("runs to convert")?;
    let (files, unknown) = question.files.clone().simple();
    question.files = files;
    let all: BTreeSet<Uuid> = tallied.projects.keys().copied().collect();
    let wanted = Wanted {
        projects: Some(all.clone()),
        only_roots: false,
        ..question.roots.clone()
    };
    let wanted = question.newest(wanted).await?;
    let projects = &mut tallied.projects;
    question.count_undecided([&wanted], projects).await?;
    let mut warnings = tallied.warnings;
    if !unknown.is_empty() {
        let names = Vec::from_iter(unknown).join(", ");
        warnings.push(format!(
            "nothing is known of these, so they are left out: {names}"
        ));
    }
    let undecided = projects
        .iter()
        .filter(|(_, project)| project.n_undecided > 0);
    warnings.extend(undecided.map(|(id, project)| {
        format!(
            "project {id}: {} runs differ between exports that were written in the same second, so that \
             only their paths decided which counts",
            project.n_undecided
        )
    }));
    let facts = tallied.projects.into_iter();
    let facts: BTreeMap<Uuid, Facts> = facts.map(|(id, project)| (id, project.facts)).collect();
    let whole = Whole {
        jobs: question.files.jobs(&all),
        written: question.files.written(&facts, drop_big),
        projects: facts,
        warnings,
        left_out: tallied.skipped,
        question,
        wanted,
    };
    whole.expect_progress();
    Ok(whole)
}

impl Whole<'_> {
    /// Says how many files there are to be read.
    fn expect_progress(&self) {
        let n_files = self
            .jobs
            .iter()
            .map(|job| job.files.n_wanted(&[&self.wanted]));
        if let Ok(mut done) = self.question.engine.done.lock() {
            done.n_files_there = n_files.sum();
        }
    }

    /// How many jobs there should be at once, and how many threads each of them may use.
    pub(crate) fn n_at_once(&self) -> (usize, usize) {
        let n_threads = self
            .question
            .engine
            .ctx
            .state()
            .config()
            .target_partitions();
        let n_jobs = n_threads.min(self.jobs.len()).max(1);
        (n_jobs, n_threads.div_ceil(n_jobs))
    }

    /// A job's rows, yet to be read.
    pub(crate) fn rows(&self, job: &Job, n_threads: usize) -> Result<Rows> {
        let plan = job.sorted(&job.files, &self.written, &self.wanted);
        Ok(Rows {
            engine: self.question.engine.clone(),
            plan: plan.map_err(Failure::Error)?,
            n_threads,
            row_bytes: usize::try_from(job.row_bytes).unwrap_or(usize::MAX),
            reading: None,
        })
    }

    /// Why a job failed: which of its files cannot be read, where it is that.
    pub(crate) async fn blame(&mut self, job: &Job, failed: Error) -> Stop {
        if !matches!(failed, Error::Engine(_) | Error::BadData { .. }) {
            return failed.into();
        }
        self.question.files = job.files.clone();
        let (written, wanted) = (&self.written, &self.wanted);
        let looked_through = self.question.step(
            |files| job.sorted(files, written, wanted),
            |_, (): &mut (), _| Ok(()),
        );
        looked_through.await.err().unwrap_or(Stop::Failed(failed))
    }
}

/// Rows of a job, in their order.
pub(crate) struct Rows {
    engine: Engine,
    plan: Option<LogicalPlan>,
    n_threads: usize,
    row_bytes: usize,
    reading: Option<Reading>,
}

impl Rows {
    /// The next of them; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.reading.is_none() {
            let Some(plan) = self.plan.take() else {
                return Ok(None);
            };
            let n_rows = self.batch_rows();
            let reading = start(self.engine.clone(), plan, self.n_threads, n_rows).await?;
            self.reading = Some(reading);
        }
        match &mut self.reading {
            Some((_, batches)) => Ok(guarded(batches.try_next()).await?),
            None => Ok(None),
        }
    }

    /// Rows of a batch: as many as the engine has, or fewer where they are large.
    fn batch_rows(&self) -> usize {
        let state = self.engine.ctx.state();
        let usual = state.config().batch_size();
        let n_threads = state.config().target_partitions().max(1);
        let share = match state.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / n_threads / BATCH_SHARE,
            _ => BATCH_BYTES,
        };
        let n_rows = share.min(BATCH_BYTES) / self.row_bytes.max(1);
        n_rows.clamp(BATCH_ROWS_MIN, usual.max(BATCH_ROWS_MIN))
    }
}

/// A plan, and the batches that it gives.
type Reading = (Arc<dyn ExecutionPlan>, SendableRecordBatchStream);

async fn start(
    engine: Engine,
    plan: LogicalPlan,
    n_threads: usize,
    n_rows: usize,
) -> Result<Reading, Failure> {
    guarded(async {
        let mut state = engine.ctx.state();
        let config = state.config().clone().with_batch_size(n_rows);
        *state.config_mut() = config
            .with_target_partitions(n_threads)
            .with_round_robin_repartition(false);
        let physical = state.create_physical_plan(&plan).await?;
        if let Ok(mut underway) = engine.underway.lock() {
            underway.push(Arc::downgrade(&physical));
        }
        let context = Arc::new(TaskContext::from(&state));
        let batches = execute_stream(Arc::clone(&physical), context)?;
        Ok((physical, batches))
    })
    .await
}

impl Drop for Rows {
    /// Keeps how far it came, and nothing else of the plan.
    fn drop(&mut self) {
        let Some((plan, _)) = self.reading.take() else {
            return;
        };
        if let Ok(mut underway) = self.engine.underway.lock() {
            let plan = Arc::downgrade(&plan);
            underway.retain(|other| !other.ptr_eq(&plan));
        }
        if let Ok(mut done) = self.engine.done.lock() {
            let n_files_there = done.n_files_there;
            done.add(&plan);
            done.n_files_there = n_files_there;
        }
    }
}
