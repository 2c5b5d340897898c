//! A question over a source, executed: footers first, then tallies, then raw feedback.
//!
//! Each step is a plan over the question's files and a way to read its rows. Where either fails, the
//! same step is tried on one file at a time, and the first that fails is the one to name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, LargeBinaryArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use uuid::Uuid;

use super::{Engine, Failure, bad_data, by_project, message, scan};
use crate::error::{Error, Result};
use crate::plan;
use crate::request::{Projects, Request, Window};
use crate::source::projects::FeedbackRecord;
use crate::source::{Facts, Files, Source};
use crate::tally::feedback::Feedback;
use crate::tally::{Tally, TallyColumn};

/// What a source's runs say of one project.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProjectTally {
    pub(crate) facts: Facts,
    /// The traces in the window; `None` where no statistics were asked for.
    pub(crate) tally: Option<Tally>,
    /// The runs below the roots that carry usage; counted only where no root adds them up.
    pub(crate) n_usage_below_roots: i64,
    /// Feedback on the project itself.
    pub(crate) session_feedback: Feedback,
}

/// What a question's execution gave.
#[derive(Debug)]
pub(crate) struct Tallied {
    pub(crate) projects: BTreeMap<Uuid, ProjectTally>,
    /// What is odd about the files.
    pub(crate) warnings: Vec<String>,
    pub(crate) plans: Vec<Arc<dyn ExecutionPlan>>,
}

/// Answers a request with what the runs say of each project.
pub(crate) async fn answer(engine: &Engine, source: &Source, request: &Request) -> Result<Tallied> {
    let mut named = source.named(&request.projects);
    let mut question = Question {
        engine,
        files: source.files(&engine.ctx, named).await?,
        window: request.window,
        only: None,
        plans: Vec::new(),
    };
    let mut facts = question.facts().await?;
    if named.is_some_and(|id| !facts.contains_key(&id)) {
        // No run of it where its path would be: the files must say which projects there are.
        named = None;
        question.files = source.files(&engine.ctx, None).await?;
        facts = question.facts().await?;
    }
    question.only = chosen(source, &request.projects, named, &mut facts)?;
    let mut tallies = BTreeMap::new();
    let mut below_roots = BTreeMap::new();
    let mut session_feedback = BTreeMap::new();
    if request.stats && !facts.is_empty() {
        let records = source.feedback();
        tallies = question.tallies(records.is_none()).await?;
        if tallies.values().any(|tally| tally.n_composite_usage == 0) {
            below_roots = question.usage_below_roots().await?;
        }
        if let Some(records) = records {
            let (on_runs, on_projects) = by_subject(records)?;
            let mut feedback = question.feedback(&on_runs).await?;
            for (project, tally) in &mut tallies {
                tally.feedback = feedback.remove(project).unwrap_or_default();
            }
            session_feedback = on_projects;
        }
    }
    let warnings = question.files.warnings();
    let projects = facts.into_iter().map(|(id, facts)| {
        let tally = ProjectTally {
            facts,
            tally: request
                .stats
                .then(|| tallies.remove(&id).unwrap_or_default()),
            n_usage_below_roots: below_roots.remove(&id).unwrap_or_default(),
            session_feedback: session_feedback.remove(&id).unwrap_or_default(),
        };
        (id, tally)
    });
    Ok(Tallied {
        projects: projects.collect(),
        warnings,
        plans: question.plans,
    })
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
    window: Window,
    /// The project that is asked for, where it is one of several.
    only: Option<Uuid>,
    plans: Vec<Arc<dyn ExecutionPlan>>,
}

impl Question<'_> {
    /// What is known of the projects without their traces.
    async fn facts(&mut self) -> Result<BTreeMap<Uuid, Facts>> {
        let mut facts = self.files.proven();
        let scanned = self
            .step(Files::unproven, super::super::source::Files::scanned)
            .await?;
        for (project, more) in scanned {
            facts.entry(project).or_default().add(more);
        }
        Ok(facts)
    }

    /// The tallies, with the runs' own feedback or without.
    async fn tallies(&mut self, own_feedback: bool) -> Result<BTreeMap<Uuid, Tally>> {
        let (window, only) = (self.window, self.only);
        let columns = plan::tallied(own_feedback);
        self.step(
            |files| plan::tally(files.runs(&columns, &window, only)?).map(Some),
            |_, batches| by_project(batches, Tally::from_row, |sum, more| sum.merge(&more)),
        )
        .await
    }

    /// How many runs below the roots carry usage.
    async fn usage_below_roots(&mut self) -> Result<BTreeMap<Uuid, i64>> {
        let (window, only) = (self.window, self.only);
        let count = |batch: &RecordBatch, row: usize| {
            let counts = batch.column(1).as_primitive::<Int64Type>();
            Ok(counts.value(row))
        };
        self.step(
            |files| plan::usage_below_roots(files.runs(&plan::used(), &window, only)?).map(Some),
            |_, batches| {
                by_project(batches, count, |sum, more| {
                    *sum += more;
                    Ok(())
                })
            },
        )
        .await
    }

    /// The feedback of each project's root runs, from the records of runs.
    async fn feedback(
        &mut self,
        on_runs: &BTreeMap<Uuid, Feedback>,
    ) -> Result<BTreeMap<Uuid, Feedback>> {
        let (window, only) = (self.window, self.only);
        self.step(
            |files| {
                let runs = files.runs(plan::FED_BACK, &window, only)?;
                plan::feedback(runs, feedback_table(on_runs)?).map(Some)
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
    ) -> Result<T> {
        let failed = match attempt(self.engine, &self.files, &plan, &read, &mut self.plans).await {
            Err(failed @ (Error::Engine(_) | Error::BadData { .. })) => failed,
            answer => return answer,
        };
        for (path, file) in self.files.each() {
            let problem = match attempt(self.engine, &file, &plan, &read, &mut Vec::new()).await {
                Err(Error::BadData { problem }) => problem,
                Err(Error::Engine(cause)) => match cause.downcast_ref::<DataFusionError>() {
                    Some(error) => message(error),
                    None => "its data is damaged".to_owned(),
                },
                _ => continue,
            };
            return Err(Error::BadInput {
                path: path.to_owned(),
                problem,
            });
        }
        Err(failed)
    }
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
