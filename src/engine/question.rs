//! A question over a source, executed: footers first, then tallies, then raw feedback.
//!
//! Each step is a plan over the question's files and a way to read its rows. Where either fails, the
//! same step is tried on ever fewer of the files, and the first that fails alone is the one to name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::arrow::array::{Array, AsArray, LargeBinaryArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use uuid::Uuid;

use super::{Engine, Failure, bad_data, by_project, message, scan};
use crate::error::{Error, Result, SkippedFile};
use crate::plan;
use crate::request::{Projects, Request, Usage};
use crate::source::projects::FeedbackRecord;
use crate::source::{Facts, Files, Source, Wanted};
use crate::tally::feedback::Feedback;
use crate::tally::{Tally, TallyColumn};

/// What a source's runs say of one project.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProjectTally {
    pub(crate) facts: Facts,
    /// The traces in the window; `None` where no statistics were asked for.
    pub(crate) tally: Option<Tally>,
    /// Whose usage was summed.
    pub(crate) usage: Usage,
    /// The traces whose root was not among the runs that they were built from.
    pub(crate) n_rootless: u64,
    /// The runs of which several records differ, where only a path decided which counts.
    pub(crate) n_undecided: i64,
    /// The traces of each day on which there are any, where that was asked for.
    pub(crate) days: BTreeMap<NaiveDate, u64>,
    /// Feedback on the project itself.
    pub(crate) session_feedback: Feedback,
}

impl ProjectTally {
    fn new(facts: Facts, stats: bool) -> Self {
        Self {
            facts,
            tally: stats.then(Tally::default),
            usage: Usage::Roots,
            n_rootless: 0,
            n_undecided: 0,
            days: BTreeMap::new(),
            session_feedback: Feedback::default(),
        }
    }
}

/// What a question's execution gave.
#[derive(Debug)]
pub(crate) struct Tallied {
    pub(crate) projects: BTreeMap<Uuid, ProjectTally>,
    /// What is odd about the files.
    pub(crate) warnings: Vec<String>,
    /// The files that were left out.
    pub(crate) skipped: Vec<SkippedFile>,
    /// The files whose runs were read.
    pub(crate) n_files: usize,
    pub(crate) plans: Vec<Arc<dyn ExecutionPlan>>,
}

/// Why a question was not answered.
enum Stop {
    Failed(Error),
    /// Files that cannot be read, found while their runs were: the question is asked again without them.
    Bad(Vec<SkippedFile>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Answers a request with what the runs say of each project.
pub(crate) async fn answer(engine: &Engine, source: &Source, request: &Request) -> Result<Tallied> {
    let mut skipped = Vec::new();
    loop {
        match attempt_all(engine, source, request, &mut skipped).await {
            Ok(tallied) => return Ok(Tallied { skipped, ..tallied }),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Bad(files)) => skipped.extend(files),
        }
    }
}

async fn attempt_all(
    engine: &Engine,
    source: &Source,
    request: &Request,
    skipped: &mut Vec<SkippedFile>,
) -> Result<Tallied, Stop> {
    let mut named = source.named(&request.projects);
    let files = source.files(&engine.ctx, named, skipped).await?;
    let mut question = Question {
        engine,
        files,
        skips: source.skips_bad_files(),
        roots: Wanted {
            window: request.window,
            projects: None,
            only_roots: true,
        },
        plans: Vec::new(),
    };
    engine.begin();
    let mut facts = question.facts().await?;
    if named.is_some_and(|id| !facts.contains_key(&id)) {
        // No run of it where its path would be: the files must say which projects there are.
        named = None;
        question.files = source.files(&engine.ctx, None, skipped).await?;
        facts = question.facts().await?;
    }
    if facts.is_empty() && !skipped.is_empty() && request.projects != Projects::All {
        let skipped = std::mem::take(skipped);
        return Err(Error::NothingLeft { skipped }.into());
    }
    let only = chosen(source, &request.projects, named, &mut facts)?;
    question.roots.projects = only.map(|id| BTreeSet::from([id]));
    let projects = facts
        .into_iter()
        .map(|(id, facts)| (id, ProjectTally::new(facts, request.stats)))
        .collect();
    let mut tallied = Tallied {
        n_files: 0,
        warnings: question.files.warnings(),
        skipped: Vec::new(),
        projects,
        plans: Vec::new(),
    };
    if request.stats && !tallied.projects.is_empty() {
        tallied.n_files = question.files.wanted(&question.roots).count();
        question.statistics(source, request, &mut tallied).await?;
    }
    tallied.plans = question.plans;
    Ok(tallied)
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
    let below: usize = plan
        .children()
        .into_iter()
        .map(|child| metric_below(child, name))
        .sum();
    own + below
}

/// A request on its way.
struct Question<'a> {
    engine: &'a Engine,
    files: Files,
    /// Whether files that cannot be read are left out.
    skips: bool,
    /// The root runs that are asked for.
    roots: Wanted,
    plans: Vec<Arc<dyn ExecutionPlan>>,
}

impl Question<'_> {
    /// What is known of the projects without their traces.
    async fn facts(&mut self) -> Result<BTreeMap<Uuid, Facts>, Stop> {
        let mut facts = self.files.proven();
        let scanned = self
            .step(Files::unproven, super::super::source::Files::scanned)
            .await?;
        for (project, more) in scanned {
            facts.entry(project).or_default().add(more);
        }
        Ok(facts)
    }

    /// Adds the statistics of the projects.
    async fn statistics(
        &mut self,
        source: &Source,
        request: &Request,
        tallied: &mut Tallied,
    ) -> Result<(), Stop> {
        let records = source.feedback();
        let own_feedback = records.is_none();
        let projects = &mut tallied.projects;
        let mut built: BTreeSet<Uuid> = BTreeSet::new();
        if request.usage == Usage::Own {
            can_build(projects)?;
            built.extend(projects.keys());
        } else {
            for (id, tally) in self.tallies(own_feedback).await? {
                with_project(projects, id, |project| project.tally = Some(tally));
            }
        }
        if request.usage == Usage::Auto {
            built = self.not_added_up(projects, request.trace_span_us).await?;
        }
        if !built.is_empty() {
            let of_built = self
                .built_tallies(&built, own_feedback, request.trace_span_us)
                .await?;
            for id in &built {
                with_project(projects, *id, |project| project.usage = Usage::Own);
            }
            for (id, (tally, n_rootless)) in of_built {
                with_project(projects, id, |project| {
                    project.tally = Some(tally);
                    project.n_rootless = n_rootless;
                });
            }
        }
        if let Some(records) = records {
            let (on_runs, on_projects) = by_subject(records)?;
            for (id, feedback) in self.feedback(&on_runs).await? {
                let tally = projects
                    .get_mut(&id)
                    .and_then(|project| project.tally.as_mut());
                if let Some(tally) = tally {
                    tally.feedback = feedback;
                }
            }
            for (id, feedback) in on_projects {
                with_project(projects, id, |project| project.session_feedback = feedback);
            }
        }
        if let Some(zone) = request.daily {
            for (id, days) in self.daily(zone).await? {
                with_project(projects, id, |project| project.days = days);
            }
        }
        if self.files.has_ties() {
            let all = projects.keys().copied();
            let roots = Wanted {
                projects: Some(all.filter(|id| !built.contains(id)).collect()),
                ..self.roots.clone()
            };
            let runs = self.all_runs(built, request.trace_span_us);
            for counted in [roots, runs] {
                for (id, n_undecided) in self.undecided(&counted).await? {
                    with_project(projects, id, |project| project.n_undecided = n_undecided);
                }
            }
        }
        Ok(())
    }

    /// The projects whose roots do not add up what their descendants used: no root but lone LLM calls
    /// carries usage, while other runs do.
    async fn not_added_up(
        &mut self,
        projects: &BTreeMap<Uuid, ProjectTally>,
        span_us: i64,
    ) -> Result<BTreeSet<Uuid>, Stop> {
        let open = projects.iter().filter(|(_, project)| {
            let tally = project.tally.as_ref();
            !project.facts.lacks_traces && tally.is_some_and(|tally| tally.n_composite_usage == 0)
        });
        let open: BTreeSet<Uuid> = open.map(|(id, _)| *id).collect();
        if open.is_empty() {
            return Ok(open);
        }
        // Those that traces would be built from.
        let below = self.all_runs(open, span_us);
        let counts = self
            .step(
                |files| plan::usage_below_roots(files.runs(&plan::used(), &below)?).map(Some),
                |_, batches| by_project(batches, count_at, add_counts),
            )
            .await?;
        let counted = counts.into_iter().filter(|(_, n_runs)| *n_runs > 0);
        Ok(counted
            .map(|(id, _)| id)
            .filter(|id| projects.contains_key(id))
            .collect())
    }

    /// All runs of projects that start within `span_us` of the window.
    fn all_runs(&self, projects: BTreeSet<Uuid>, span_us: i64) -> Wanted {
        Wanted {
            window: self.roots.window.widened(span_us),
            projects: Some(projects),
            only_roots: false,
        }
    }

    /// The tallies of root runs, with the runs' own feedback or without.
    async fn tallies(&mut self, own_feedback: bool) -> Result<BTreeMap<Uuid, Tally>, Stop> {
        let roots = self.roots.clone();
        let columns = plan::tallied(own_feedback);
        self.step(
            |files| plan::tally(files.runs(&columns, &roots)?).map(Some),
            |_, batches| by_project(batches, Tally::from_row, |sum, more| sum.merge(&more)),
        )
        .await
    }

    /// The tallies of traces that are built from all their runs, and how many of these have no root
    /// among the runs that start within `span_us` of the window.
    async fn built_tallies(
        &mut self,
        projects: &BTreeSet<Uuid>,
        own_feedback: bool,
        span_us: i64,
    ) -> Result<BTreeMap<Uuid, (Tally, u64)>, Stop> {
        let window = self.roots.window;
        let runs = self.all_runs(projects.clone(), span_us);
        let columns = plan::built(own_feedback);
        self.step(
            |files| {
                plan::tally_built(files.runs(&columns, &runs)?, own_feedback, &window).map(Some)
            },
            |_, batches| {
                by_project(batches, built_at, |sum, more| {
                    sum.1 += more.1;
                    sum.0.merge(&more.0)
                })
            },
        )
        .await
    }

    /// The traces of each day.
    async fn daily(&mut self, zone: Tz) -> Result<BTreeMap<Uuid, BTreeMap<NaiveDate, u64>>, Stop> {
        let roots = self.roots.clone();
        self.step(
            |files| plan::daily(files.runs(plan::DATED, &roots)?, zone).map(Some),
            |_, batches| {
                by_project(batches, day_at, |sum, more| {
                    for (day, n_traces) in more {
                        *sum.entry(day).or_default() += n_traces;
                    }
                    Ok(())
                })
            },
        )
        .await
    }

    /// How many of the runs that were counted have several records that differ, where only a path decided.
    async fn undecided(&mut self, counted: &Wanted) -> Result<BTreeMap<Uuid, i64>, Stop> {
        if counted.projects.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(BTreeMap::new());
        }
        self.step(
            |files| files.undecided(counted),
            |_, batches| by_project(batches, count_at, add_counts),
        )
        .await
    }

    /// The feedback of each project's root runs, from the records of runs.
    async fn feedback(
        &mut self,
        on_runs: &BTreeMap<Uuid, Feedback>,
    ) -> Result<BTreeMap<Uuid, Feedback>, Stop> {
        let roots = self.roots.clone();
        self.step(
            |files| {
                let roots = files.runs(plan::FED_BACK, &roots)?;
                plan::feedback(roots, feedback_table(on_runs)?).map(Some)
            },
            |_, batches| {
                by_project(batches, feedback_at, |sum: &mut Feedback, more| {
                    sum.merge(&more).map_err(bad_data)
                })
            },
        )
        .await
    }

    /// Executes a plan over the files, if there is one, and reads its rows.
    async fn step<T: Default>(
        &mut self,
        plan: impl Fn(&Files) -> Result<Option<LogicalPlan>, DataFusionError>,
        read: impl Fn(&Files, &[RecordBatch]) -> Result<T>,
    ) -> Result<T, Stop> {
        let failed = match attempt(self.engine, &self.files, &plan, &read, &mut self.plans).await {
            Err(failed @ (Error::Engine(_) | Error::BadData { .. })) => failed,
            answer => return Ok(answer?),
        };
        // Halves of those that fail together, the first ones first: a few among thousands are soon found.
        let mut bad = Vec::new();
        let mut open = match self.files.only_path() {
            Some(_) => vec![self.files.clone()],
            None => self.files.halves().into_iter().rev().collect(),
        };
        while let Some(files) = open.pop() {
            let problem = match attempt(self.engine, &files, &plan, &read, &mut Vec::new()).await {
                Err(Error::BadData { problem }) => problem,
                Err(Error::Engine(cause)) => match cause.downcast_ref::<DataFusionError>() {
                    Some(error) => message(error),
                    None => "its data is damaged".to_owned(),
                },
                _ => continue,
            };
            let Some(path) = files.only_path().map(Path::to_owned) else {
                open.extend(files.halves().into_iter().rev());
                continue;
            };
            if !self.skips {
                return Err(Error::BadInput { path, problem }.into());
            }
            bad.push(SkippedFile { path, problem });
        }
        if bad.is_empty() {
            return Err(failed.into());
        }
        Err(Stop::Bad(bad))
    }
}

/// Whether traces of all these projects can be built from their runs.
fn can_build(projects: &BTreeMap<Uuid, ProjectTally>) -> Result<()> {
    let mut lacking = projects
        .iter()
        .filter(|(_, project)| project.facts.lacks_traces);
    lacking.next().map_or(Ok(()), |(id, _)| {
        Err(Error::BadData {
            problem: format!(
                "project {id}: not all of its files say which runs belong to a trace, so that no \
                 usage can be summed over a trace's runs"
            ),
        })
    })
}

fn with_project(
    projects: &mut BTreeMap<Uuid, ProjectTally>,
    id: Uuid,
    change: impl FnOnce(&mut ProjectTally),
) {
    if let Some(project) = projects.get_mut(&id) {
        change(project);
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "reading a row may fail in general"
)]
fn count_at(batch: &RecordBatch, row: usize) -> Result<i64> {
    Ok(batch.column(1).as_primitive::<Int64Type>().value(row))
}

#[expect(clippy::unnecessary_wraps, reason = "a merge may fail in general")]
fn add_counts(sum: &mut i64, more: i64) -> Result<()> {
    *sum += more;
    Ok(())
}

fn built_at(batch: &RecordBatch, row: usize) -> Result<(Tally, u64)> {
    let tally = Tally::from_row(batch, row)?;
    let rootless = batch.column_by_name(plan::N_ROOTLESS);
    let n_rootless = rootless.map_or(0, |counts| counts.as_primitive::<Int64Type>().value(row));
    Ok((tally, u64::try_from(n_rootless).unwrap_or(0)))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "reading a row may fail in general"
)]
fn day_at(batch: &RecordBatch, row: usize) -> Result<BTreeMap<NaiveDate, u64>> {
    let day = batch
        .column(1)
        .as_primitive::<Date32Type>()
        .value_as_date(row);
    let n_traces = batch.column(2).as_primitive::<Int64Type>().value(row);
    let n_traces = u64::try_from(n_traces).unwrap_or(0);
    Ok(day.map(|day| (day, n_traces)).into_iter().collect())
}

async fn attempt<T: Default>(
    engine: &Engine,
    files: &Files,
    plan: &impl Fn(&Files) -> Result<Option<LogicalPlan>, DataFusionError>,
    read: &impl Fn(&Files, &[RecordBatch]) -> Result<T>,
    plans: &mut Vec<Arc<dyn ExecutionPlan>>,
) -> Result<T> {
    let Some(plan) = plan(files).map_err(Failure::Error)? else {
        return Ok(T::default());
    };
    read(files, &engine.execute(plan, plans).await?)
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
        let existing: BTreeSet<Uuid> = facts
            .keys()
            .copied()
            .chain(source.projects_in_paths())
            .collect();
        return Err(source.no_such_project(asked, existing.into_iter()));
    }
    facts.retain(|other, _| *other == id);
    Ok(Some(id))
}

/// Feedback by what it judges: runs, and projects as a whole.
type BySubject = (BTreeMap<Uuid, Feedback>, BTreeMap<Uuid, Feedback>);

fn by_subject(records: &[FeedbackRecord]) -> Result<BySubject> {
    let (mut on_runs, mut on_projects) = BySubject::default();
    for record in records {
        let feedback = match (record.run_id, record.session_id) {
            (Some(run), _) => on_runs.entry(run).or_default(),
            (None, Some(project)) => on_projects.entry(project).or_default(),
            (None, None) => continue,
        };
        feedback.add_record(&record.record).map_err(bad_data)?;
    }
    Ok((on_runs, on_projects))
}

/// The feedback of runs as a table to join with.
fn feedback_table(on_runs: &BTreeMap<Uuid, Feedback>) -> Result<LogicalPlan, DataFusionError> {
    let ids: StringViewArray = on_runs.keys().map(|run| Some(run.to_string())).collect();
    let parts: LargeBinaryArray = on_runs
        .values()
        .map(|feedback| Some(feedback.to_bytes()))
        .collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new(plan::FEEDBACK_RUN, DataType::Utf8View, false),
        Field::new(TallyColumn::Feedback.name(), DataType::LargeBinary, false),
    ]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ids), Arc::new(parts)])?;
    scan("feedback", MemTable::try_new(schema, vec![vec![batch]])?)
}

fn feedback_at(batch: &RecordBatch, row: usize) -> Result<Feedback> {
    let bytes = batch.column(1).as_binary::<i64>();
    if bytes.is_null(row) {
        return Ok(Feedback::default());
    }
    Feedback::from_bytes(bytes.value(row)).map_err(bad_data)
}
