//! The engine: executes plans with as many threads and as much memory as it may take.
//!
//! It owns the DataFusion session. What goes wrong while plans run becomes an error that names the
//! file: damaged files make the reader fail or panic far from where their name is known, so the engine
//! then reads the question's files one by one until it finds the one that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::arrow::array::{LargeBinaryArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DataFusionError;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::{SessionConfig, SessionContext};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use futures::{FutureExt, StreamExt};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::plan;
use crate::request::{Projects, Request, Window};
use crate::runs::{Column, functions};
use crate::source::{self, Facts, Files, Source};
use crate::tally::feedback::Feedback;
use crate::tally::{self, Tally};

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
/// Memory for footers that are kept between their first reading and the scan.
const FOOTER_CACHE_BYTES: usize = 128 << 20;

/// Executes questions over sources.
#[derive(Clone)]
pub struct Engine {
    ctx: SessionContext,
}

/// What a source's runs say of one project.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProjectTally {
    pub(crate) facts: Facts,
    /// The traces in the window; `None` where no statistics were asked for.
    pub(crate) tally: Option<Tally>,
    /// Feedback on the project itself.
    pub(crate) session_feedback: Feedback,
}

/// What a question's execution gave.
#[derive(Debug)]
pub(crate) struct Tallied {
    pub(crate) projects: BTreeMap<Uuid, ProjectTally>,
    pub(crate) plans: Vec<Arc<dyn ExecutionPlan>>,
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
        let config = SessionConfig::new().with_target_partitions(threads);
        let ctx = SessionContext::new_with_config_rt(config, runtime);
        for function in tally::functions() {
            ctx.register_udaf(function.as_ref().clone());
        }
        for function in functions::all() {
            ctx.register_udf(function.as_ref().clone());
        }
        Ok(Self { ctx })
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
        let projects = self.answer(source, request).await?.projects.into_iter();
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
        let physical = self.ctx.state().create_physical_plan(&plan).await.map_err(engine)?;
        let batches = match guarded(collect(physical, self.ctx.task_ctx())).await {
            Ok(batches) => batches,
            Err(Failure::Memory(problem)) => return Err(Error::Memory { problem }),
            Err(Failure::Error(error)) => return Err(Error::BadData { problem: message(&error) }),
            Err(Failure::Panic(problem)) => return Err(Error::Engine(problem.into())),
        };
        by_project(&batches, Tally::from_row, |sum, more| sum.merge(&more))
    }

    /// Answers a request with what the runs say of each project.
    pub(crate) async fn answer(&self, source: &Source, request: &Request) -> Result<Tallied> {
        let named = source.named(&request.projects);
        let files = source.files(&self.ctx, named).await?;
        let mut plans = Vec::new();
        let mut facts = files.proven();
        if let Some(plan) = files.unproven().map_err(engine)? {
            let columns = [Column::SessionId, Column::TenantId, Column::StartTime];
            let batches = self.run(plan, &files, &columns, &mut plans).await?;
            for (project, more) in files.scanned(&batches)? {
                facts.entry(project).or_default().add(more);
            }
        }
        let only = chosen(source, &request.projects, named, &mut facts)?;
        let mut tallies = BTreeMap::new();
        let mut session_feedback = BTreeMap::new();
        if request.stats && !facts.is_empty() {
            tallies = self.project_tallies(&files, &request.window, only, &mut plans).await?;
            if source.feedback().is_some() {
                let window = &request.window;
                session_feedback = self
                    .raw_feedback(source, &files, window, only, &mut tallies, &mut plans)
                    .await?;
            }
        }
        let projects = facts.into_iter().map(|(id, facts)| {
            let tally = ProjectTally {
                facts,
                tally: request.stats.then(|| tallies.remove(&id).unwrap_or_default()),
                session_feedback: session_feedback.remove(&id).unwrap_or_default(),
            };
            (id, tally)
        });
        Ok(Tallied {
            projects: projects.collect(),
            plans,
        })
    }

    async fn project_tallies(
        &self,
        files: &Files,
        window: &Window,
        only: Option<Uuid>,
        plans: &mut Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<BTreeMap<Uuid, Tally>> {
        let runs = files.runs(plan::TALLIED, window, only).map_err(engine)?;
        let plan = plan::tally(runs).map_err(engine)?;
        let batches = self.run(plan, files, plan::TALLIED, plans).await?;
        by_project(&batches, Tally::from_row, |sum, more| sum.merge(&more))
    }

    /// Replaces the feedback of the tallies by that of raw records; gives the feedback on projects.
    async fn raw_feedback(
        &self,
        source: &Source,
        files: &Files,
        window: &Window,
        only: Option<Uuid>,
        tallies: &mut BTreeMap<Uuid, Tally>,
        plans: &mut Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<BTreeMap<Uuid, Feedback>> {
        let mut on_runs: BTreeMap<Uuid, Feedback> = BTreeMap::new();
        let mut on_projects: BTreeMap<Uuid, Feedback> = BTreeMap::new();
        for record in source.feedback().unwrap_or_default() {
            let feedback = match (record.run_id, record.session_id) {
                (Some(run), _) => on_runs.entry(run).or_default(),
                (None, Some(project)) => on_projects.entry(project).or_default(),
                (None, None) => continue,
            };
            feedback.add_record(&record.record).map_err(bad_data)?;
        }
        let runs = files.runs(plan::FED_BACK, window, only).map_err(engine)?;
        let plan = feedback_table(&on_runs)
            .and_then(|records| plan::feedback(runs, records))
            .map_err(engine)?;
        let batches = self.run(plan, files, plan::FED_BACK, plans).await?;
        let read = |batch: &RecordBatch, row: usize| feedback_at(batch, row);
        let mut feedback = by_project(&batches, read, |sum: &mut Feedback, more| {
            sum.merge(&more).map_err(bad_data)
        })?;
        for (project, tally) in tallies {
            tally.feedback = feedback.remove(project).unwrap_or_default();
        }
        Ok(on_projects)
    }

    /// Executes a plan over `columns` of the runs of `files`.
    async fn run(
        &self,
        plan: LogicalPlan,
        files: &Files,
        columns: &[Column],
        plans: &mut Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Vec<RecordBatch>> {
        let physical = self.ctx.state().create_physical_plan(&plan).await.map_err(engine)?;
        plans.push(Arc::clone(&physical));
        match guarded(collect(physical, self.ctx.task_ctx())).await {
            Ok(batches) => Ok(batches),
            Err(Failure::Memory(problem)) => Err(Error::Memory { problem }),
            Err(failure) => Err(self.blame(files, columns).await.unwrap_or_else(|| match failure {
                Failure::Error(error) => engine(error),
                Failure::Memory(problem) | Failure::Panic(problem) => Error::Engine(problem.into()),
            })),
        }
    }

    /// Finds the file that fails, by reading them one at a time.
    async fn blame(&self, files: &Files, columns: &[Column]) -> Option<Error> {
        for (path, file) in files.each() {
            let problem = match guarded(self.read_through(&file, columns)).await {
                Ok(()) | Err(Failure::Memory(_)) => continue,
                Err(Failure::Error(error)) => message(&error),
                Err(Failure::Panic(_)) => "its data is damaged".to_owned(),
            };
            return Some(Error::BadInput {
                path: path.to_owned(),
                problem,
            });
        }
        None
    }

    async fn read_through(&self, files: &Files, columns: &[Column]) -> Result<(), DataFusionError> {
        let plan = files.runs(columns, &Window::default(), None)?;
        let plan = self.ctx.state().create_physical_plan(&plan).await?;
        let mut batches = execute_stream(plan, self.ctx.task_ctx())?;
        while let Some(batch) = batches.next().await {
            batch?;
        }
        Ok(())
    }
}

impl Tallied {
    /// The executed plans with their metrics.
    pub(crate) fn explain(&self) -> String {
        let plans = self.plans.iter().map(|plan| {
            DisplayableExecutionPlan::with_metrics(plan.as_ref())
                .indent(false)
                .to_string()
        });
        plans.collect::<Vec<_>>().join("\n")
    }

    /// A metric of the executed scans, summed, such as `bytes_scanned`.
    pub(crate) fn metric(&self, name: &str) -> usize {
        self.plans.iter().map(|plan| metric_below(plan, name)).sum()
    }
}

fn metric_below(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let own = plan
        .metrics()
        .and_then(|metrics| metrics.sum_by_name(name))
        .map_or(0, |metric| metric.as_usize());
    let below: usize = plan.children().into_iter().map(|child| metric_below(child, name)).sum();
    own + below
}

/// Narrows the projects to the one that was asked for, and says which that is.
fn chosen(
    source: &Source,
    projects: &Projects,
    named: Option<Uuid>,
    facts: &mut BTreeMap<Uuid, Facts>,
) -> Result<Option<Uuid>> {
    let (asked, id) = match (projects, named) {
        (Projects::All, _) => return Ok(None),
        (Projects::Only, _) => return source.only(facts.keys().copied()).map(|_| None),
        (Projects::One(asked), Some(id)) => (asked, id),
        (Projects::One(asked), None) => {
            let existing = facts.keys().copied().collect();
            (asked, source.resolve(asked, &existing)?)
        }
    };
    if !facts.contains_key(&id) {
        let existing: BTreeSet<Uuid> = facts.keys().copied().chain(source.projects_in_paths()).collect();
        return Err(source.no_such_project(asked, existing.into_iter()));
    }
    facts.retain(|other, _| *other == id);
    Ok(Some(id))
}

/// Reads rows that begin with a project's id; several of one project (differently written ids) are
/// merged.
fn by_project<T>(
    batches: &[RecordBatch],
    read: impl Fn(&RecordBatch, usize) -> Result<T>,
    merge: impl Fn(&mut T, T) -> Result<()>,
) -> Result<BTreeMap<Uuid, T>> {
    let mut projects = BTreeMap::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let project = source::uuid_at(batch, 0, row)?.ok_or_else(source::no_project)?;
            let value = read(batch, row)?;
            match projects.entry(project) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    merge(entry.get_mut(), value)?;
                }
            }
        }
    }
    Ok(projects)
}

/// The feedback of runs as a table to join with.
fn feedback_table(on_runs: &BTreeMap<Uuid, Feedback>) -> Result<LogicalPlan, DataFusionError> {
    let ids: StringViewArray = on_runs.keys().map(|run| Some(run.to_string())).collect();
    let parts: LargeBinaryArray = on_runs.values().map(|feedback| Some(feedback.to_bytes())).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new(plan::FEEDBACK_RUN, DataType::Utf8View, false),
        Field::new(tally::FEEDBACK.name, DataType::LargeBinary, false),
    ]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(parts)])?;
    scan("feedback", MemTable::try_new(schema, vec![vec![batch]])?)
}

fn scan(name: &str, table: MemTable) -> Result<LogicalPlan, DataFusionError> {
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()
}

fn feedback_at(batch: &RecordBatch, row: usize) -> Result<Feedback> {
    use datafusion::arrow::array::{Array, AsArray};
    let bytes = batch.column(1).as_binary::<i64>();
    if bytes.is_null(row) {
        return Ok(Feedback::default());
    }
    Feedback::from_bytes(bytes.value(row)).map_err(bad_data)
}

/// How an execution failed.
enum Failure {
    Error(DataFusionError),
    Memory(String),
    Panic(String),
}

/// Awaits an execution; a panic in it, or in a task that it waits for, is a failure like any other.
async fn guarded<T>(
    execution: impl Future<Output = Result<T, DataFusionError>>,
) -> Result<T, Failure> {
    match AssertUnwindSafe(execution).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.find_root() {
            DataFusionError::ResourcesExhausted(problem) => Failure::Memory(problem.clone()),
            _ => Failure::Error(error),
        }),
        Err(panic) => Err(Failure::Panic(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic".to_owned()),
        )),
    }
}

/// What an error says at its root, without the engine's own words around it.
fn message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::External(inner) => inner.to_string(),
        DataFusionError::ArrowError(inner, _) => inner.to_string(),
        DataFusionError::ParquetError(inner) => inner.to_string(),
        root => root.strip_backtrace(),
    }
}

fn engine(error: DataFusionError) -> Error {
    Error::Engine(Box::new(error))
}

fn bad_data(error: impl std::error::Error) -> Error {
    Error::BadData {
        problem: error.to_string(),
    }
}
