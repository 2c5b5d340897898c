//! The engine: executes plans with as many threads and as much memory as it may take.
//!
//! It owns the DataFusion session. What goes wrong while plans run becomes an error that names the
//! file: damaged files make the reader fail or panic far from where their name is known, so the engine
//! then reads ever fewer of the question's files until it finds the one that fails.

mod audit;
mod near;
mod question;
mod readers;
mod split;
mod stored;
mod whole;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::config::ConfigNonZeroUsize;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::{SessionConfig, SessionContext};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{FutureExt, TryStreamExt};
use tokio::task::JoinError;
use uuid::Uuid;

use crate::error::{Error, Result, without_kinds};
use crate::plan;
use crate::request::Request;
use crate::runs::{Column, functions};
use crate::source::{self, Source};
use crate::tally::{self, Tally};

pub(crate) use audit::{Audited, Part, audit};
pub(crate) use question::{ProjectTally, Stop, Tallied, answer};
pub(crate) use split::{GroupRow, Groups, RunRow, split};
pub(crate) use whole::{Rows, Whole, whole};

/// What the engine may use.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Threads; as many as the machine has cores where none is given.
    pub threads: Option<NonZeroUsize>,
    /// Bytes of memory for what is held between rows (groups, joins, sorts); 2 GiB where none is given.
    pub memory_bytes: Option<usize>,
}

/// Memory for what is held between rows, where no limit is given.
const MEMORY_BYTES: usize = 2 << 30;
/// A batch may have one row for so many bytes of a thread's memory: what is spilled is written, and read
/// again, in whole batches of several files at once.
const BATCH_SHARE: usize = 8 << 10;
/// Memory for footers that are kept between their first reading and the scan.
const FOOTER_CACHE_BYTES: usize = 128 << 20;

/// How tables are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joins {
    /// By a hash table of the first side, which must fit; the other streams by.
    InMemory,
    /// By sorting both, which spills: several times slower.
    Spilling,
}

/// How far a question has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files whose runs have been read.
    pub n_files: usize,
    /// Files whose runs will be read, as far as known.
    pub n_files_there: usize,
    /// Bytes of columns that have been read.
    pub n_bytes: u64,
    /// Bytes of JSON that have been read, before anything else is.
    pub n_json_bytes: u64,
    /// Runs that have been read.
    pub n_rows: u64,
}

impl Progress {
    /// Adds how far a plan has come.
    fn add(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        for scan in scans(plan) {
            let metrics = scan.metrics().unwrap_or_default();
            let metric = |name| metrics.sum_by_name(name).map_or(0, |sum| sum.as_usize());
            self.n_files += metric("files_processed");
            self.n_files_there += n_files(&scan);
            self.n_bytes += u64::try_from(metric("bytes_scanned")).unwrap_or(0);
            self.n_rows += u64::try_from(metric(source::N_ROWS_READ)).unwrap_or(0);
        }
    }
}

/// Executes questions over sources.
#[derive(Clone)]
pub struct Engine {
    ctx: SessionContext,
    /// The plans of the questions that are being answered. They hold their tasks, which must end when a
    /// question is given up, so that they are not held here.
    underway: Arc<Mutex<Vec<Weak<dyn ExecutionPlan>>>>,
    /// How far those had come that are done and forgotten.
    done: Arc<Mutex<Progress>>,
    /// The bytes of JSON that were read for it before.
    n_json_bytes: Arc<AtomicU64>,
}

impl Engine {
    /// An engine within limits.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] where the system gives no temporary folder to spill to.
    pub fn new(limits: &Limits) -> Result<Self> {
        let threads = limits
            .threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        let bytes = limits.memory_bytes.unwrap_or(MEMORY_BYTES);
        let pool = TrackConsumersPool::new(FairSpillPool::new(bytes), NonZeroUsize::MIN);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
            .build_arc()
            .map_err(engine)?;
        let files = ObjectStoreUrl::local_filesystem();
        runtime.register_object_store(files.as_ref(), Arc::new(near::Near::default()));
        let mut config = SessionConfig::new()
            .with_target_partitions(threads)
            .with_batch_size((bytes / threads / BATCH_SHARE).clamp(512, 8_192))
            .with_sort_spill_reservation_bytes((bytes / threads / 16).min(10 << 20));
        // Plans of expressions and of what they are executed as differ in what they say may be null:
        // of `coalesce`, of `IS TRUE`, of unions. That is no error in ours.
        config
            .options_mut()
            .execution
            .skip_physical_aggregate_schema_check = true;
        // A file for each batch that parts hand to each other by disk: who reads a file that is still open
        // waits for its next batch for ever where that went to another one (apache/datafusion#24883).
        config.options_mut().execution.max_spill_file_size_bytes =
            ConfigNonZeroUsize::try_new(1).map_err(engine)?;
        let ctx = SessionContext::new_with_config_rt(config, runtime);
        for function in tally::functions() {
            ctx.register_udaf(function.as_ref().clone());
        }
        for function in functions::all().into_iter().chain(plan::functions()) {
            ctx.register_udf(function.as_ref().clone());
        }
        Ok(Self {
            ctx,
            underway: Arc::default(),
            done: Arc::default(),
            n_json_bytes: Arc::default(),
        })
    }

    /// How far the question has come that is being answered; cheap, from any thread. Files count anew
    /// each time that they are read.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let underway = self.underway.lock().map(|plans| {
            let plans = plans.iter().filter_map(Weak::upgrade);
            plans.collect::<Vec<_>>()
        });
        let done = self.done.lock().map(|done| *done).unwrap_or_default();
        let mut progress = Progress {
            n_json_bytes: self.n_json_bytes.load(Ordering::Relaxed),
            ..done
        };
        for plan in underway.unwrap_or_default() {
            progress.add(&plan);
        }
        progress.n_files_there = progress.n_files_there.max(done.n_files_there);
        progress
    }

    /// Forgets how far another question came.
    fn begin(&self) {
        if let Ok(mut plans) = self.underway.lock() {
            plans.clear();
        }
        if let Ok(mut done) = self.done.lock() {
            *done = Progress::default();
        }
    }

    /// Sets an option of DataFusion by its name, such as `datafusion.execution.batch_size`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is no such option or it does not take the value.
    pub fn set(&self, option: &str, value: &str) -> Result<()> {
        let state = self.ctx.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.set(option, value).map_err(|error| Error::Usage {
            problem: error.strip_backtrace(),
            hint: None,
        })
    }

    /// The tallies of the projects that have traces in the request's window.
    ///
    /// # Errors
    ///
    /// Those of [`crate::sessions`].
    pub async fn tallies(
        &self,
        source: &Source,
        request: &Request,
    ) -> Result<BTreeMap<Uuid, Tally>> {
        let projects = answer(self, source, request).await?.projects.into_iter();
        let tallies = projects.filter_map(|(id, project)| Some((id, project.tally?)));
        Ok(tallies.filter(|(_, tally)| tally.n_traces > 0).collect())
    }

    /// Merges tallies that were made apart: rows with the columns of [`Tally::schema`], in any order.
    ///
    /// # Errors
    ///
    /// [`Error::BadData`] where a row is no valid tally.
    pub async fn merge(&self, tallies: Vec<RecordBatch>) -> Result<BTreeMap<Uuid, Tally>> {
        let table = MemTable::try_new(Tally::schema(), vec![tallies]);
        let plan = table
            .and_then(|table| scan("tallies", table))
            .and_then(plan::merge)
            .map_err(engine)?;
        let mut projects = BTreeMap::new();
        let mut plans = Vec::new();
        let merged = self.execute(plan, Joins::InMemory, &mut plans, |batch| {
            by_project(&mut projects, batch, Tally::from_row, |sum, more| {
                sum.merge(&more)
            })
        });
        merged.await.map_err(|error| match cause(&error) {
            Some(cause) => Error::BadData {
                problem: message(cause),
            },
            None => error,
        })?;
        Ok(projects)
    }

    /// Executes a plan and hands over its batches as they come; the plan is kept for what it measured.
    async fn execute(
        &self,
        plan: LogicalPlan,
        joins: Joins,
        plans: &mut Vec<Arc<dyn ExecutionPlan>>,
        mut read: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut batches = guarded(async {
            let mut state = self.ctx.state();
            let options = state.config_mut().options_mut();
            options.optimizer.prefer_hash_join = joins == Joins::InMemory;
            options.optimizer.repartition_joins = joins == Joins::Spilling;
            let physical = state.create_physical_plan(&plan).await?;
            plans.push(Arc::clone(&physical));
            if let Ok(mut underway) = self.underway.lock() {
                underway.push(Arc::downgrade(&physical));
            }
            execute_stream(physical, self.ctx.task_ctx())
        })
        .await?;
        while let Some(batch) = guarded(batches.try_next()).await? {
            read(&batch)?;
        }
        Ok(())
    }

    /// So many threads work.
    fn n_threads(&self) -> usize {
        self.ctx.state_ref().read().config().target_partitions()
    }

    /// Sets memory aside that is held between plans.
    fn reserve(&self, what: &str, bytes: usize) -> Result<MemoryReservation> {
        let reservation = MemoryConsumer::new(what).register(&self.ctx.runtime_env().memory_pool);
        reservation.try_grow(bytes).map_err(failure)?;
        Ok(reservation)
    }
}

/// Reads rows that begin with a project's id; several of one project (differently written ids) are
/// merged.
fn by_project<T>(
    projects: &mut BTreeMap<Uuid, T>,
    batch: &RecordBatch,
    read: impl Fn(&RecordBatch, usize) -> Result<T>,
    merge: impl Fn(&mut T, T) -> Result<()>,
) -> Result<()> {
    for row in 0..batch.num_rows() {
        let project = source::uuid_at(batch, 0, row, Column::SessionId)?;
        let project = project.ok_or_else(source::no_project)?;
        let value = read(batch, row)?;
        match projects.entry(project) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => {
                merge(entry.get_mut(), value)?;
            }
        }
    }
    Ok(())
}

/// The scans at the bottom of a plan, but for those that mostly need not be.
fn scans(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let below = plan::executed(plan);
    if below.is_empty() {
        return vec![Arc::clone(plan)];
    }
    below.into_iter().flat_map(scans).collect()
}

fn n_files(scan: &Arc<dyn ExecutionPlan>) -> usize {
    let files = scan.downcast_ref::<DataSourceExec>().and_then(|scan| {
        let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
        Some(config.file_groups.iter().map(FileGroup::len).sum())
    });
    files.unwrap_or(0)
}

fn scan(name: &str, table: MemTable) -> Result<LogicalPlan, DataFusionError> {
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()
}

/// How an execution failed.
enum Failure {
    Error(DataFusionError),
    Memory(String),
    Panic(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(error) => engine(error),
            Failure::Memory(problem) => Self::Memory { problem },
            Failure::Panic(problem) => Self::Engine(problem.into()),
        }
    }
}

/// Awaits an execution; a panic in it, or in a task that it waits for, is a failure like any other.
async fn guarded<T>(
    execution: impl Future<Output = Result<T, DataFusionError>>,
) -> Result<T, Failure> {
    match AssertUnwindSafe(execution).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure(error)),
        Err(panic) => Err(Failure::Panic(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic".to_owned()),
        )),
    }
}

fn failure(error: DataFusionError) -> Failure {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(problem) => Failure::Memory(problem.clone()),
        _ => match panic_in_task(&error) {
            Some(panic) => Failure::Panic(panic),
            None => Failure::Error(error),
        },
    }
}

/// The engine's own error under one of ours.
fn cause(error: &Error) -> Option<&DataFusionError> {
    match error {
        Error::Engine(cause) => cause.downcast_ref(),
        _ => None,
    }
}

/// What the engine says of a task that panicked, where that is why it failed.
fn panic_in_task(error: &DataFusionError) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let shared = error.downcast_ref::<Arc<JoinError>>().map(Arc::as_ref);
        let task = error.downcast_ref::<JoinError>().or(shared);
        if let Some(task) = task.filter(|task| task.is_panic()) {
            return Some(task.to_string());
        }
        cause = error.source();
    }
    None
}

/// What an error says at its root, without the engine's own words around it.
fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::External(inner) => inner.to_string(),
        DataFusionError::ArrowError(inner, _) => inner.to_string(),
        DataFusionError::ParquetError(inner) => inner.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        root => root.strip_backtrace(),
    };
    without_kinds(&text).to_owned()
}

fn engine(error: DataFusionError) -> Error {
    Error::Engine(Box::new(error))
}

fn bad_data(error: impl std::error::Error) -> Error {
    Error::BadData {
        problem: error.to_string(),
    }
}
