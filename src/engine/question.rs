//! A question over a source, executed: footers first, then tallies, then raw feedback.
//!
//! Each step is a plan over the question's files and a way to read its rows. Where either fails, the
//! same step is tried on ever fewer of the files, and the first that fails alone is the one to name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, LargeBinaryArray, RecordBatch, StringViewArray,
};
use datafusion::arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use uuid::Uuid;

use super::{Engine, Failure, Joins, bad_data, by_project, cause, message, scan};
use crate::error::{Error, Result, SkippedFile};
use crate::plan::{self, RunFilter};
use crate::request::{Population, Projects, Request, Usage, Window};
use crate::runs::Column;
use crate::source::projects::FeedbackRecord;
use crate::source::{self, Facts, Files, Newest, Source, Wanted, Wished};
use crate::tally::facets::{Facet, Facets};
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
    /// The runs, whatever the filters, of which several records differ, where only a path decided which
    /// counts.
    pub(crate) n_undecided: i64,
    /// The traces of each day on which there are any, where that was asked for.
    pub(crate) days: BTreeMap<NaiveDate, u64>,
    /// The facets of the traces, where they were asked for.
    pub(crate) facets: Facets,
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
            facets: Facets::default(),
            session_feedback: Feedback::default(),
        }
    }
}

/// What a question's execution gave.
#[derive(Debug)]
pub(crate) struct Tallied {
    pub(crate) projects: BTreeMap<Uuid, ProjectTally>,
    /// When the traces start that are asked for; where nothing is asked for that of the tally files, if
    /// there are no others.
    pub(crate) window: Window,
    /// The tenant whose runs count, where only one's do.
    pub(crate) tenant: Option<Uuid>,
    /// What is odd about the files.
    pub(crate) warnings: Vec<String>,
    /// The files that were left out.
    pub(crate) skipped: Vec<SkippedFile>,
    /// The files whose runs were read.
    pub(crate) n_files: usize,
    /// How many files have which format.
    pub(crate) formats: BTreeMap<&'static str, usize>,
    /// The bytes of JSON that were read.
    pub(crate) n_json_bytes: u64,
    pub(crate) plans: Vec<Arc<dyn ExecutionPlan>>,
}

/// Why a question was not answered.
pub(crate) enum Stop {
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
    let answer = without_bad_files(async |skipped| {
        let tallied = attempt_all(engine, source, request, skipped).await?;
        Ok(((), tallied))
    });
    answer.await.map(|((), tallied)| tallied)
}

/// Asks, and asks again without the files that cannot be read; says which were left out, or of which only a
/// part was.
pub(super) async fn without_bad_files<T>(
    ask: impl AsyncFn(&mut Vec<SkippedFile>) -> Result<(T, Tallied), Stop>,
) -> Result<(T, Tallied)> {
    let mut skipped = Vec::new();
    loop {
        match ask(&mut skipped).await {
            Ok((answer, mut tallied)) => {
                tallied.skipped.splice(0..0, skipped);
                return Ok((answer, tallied));
            }
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
    let looked_at = plan::FACETED.iter().filter(|_| request.facets);
    let looked_at = looked_at.copied().collect();
    let runs = Population::Traces;
    let opened = open(engine, source, request, &runs, looked_at, &[], skipped).await?;
    let (mut question, mut tallied) = opened;
    if request.stats && !tallied.projects.is_empty() {
        tallied.n_files = question.files.n_wanted(&[&question.roots]);
        if question.files.has_runs() {
            question.statistics(source, request, &mut tallied).await?;
        }
        question.settle_usage(request, &runs, &mut tallied)?;
        question.add_stored(request, &mut tallied).await?;
    }
    tallied.plans = question.plans;
    Ok(tallied)
}

/// Opens a question: which files, which projects, and what is known of these without their traces.
/// `looked_at` are columns beside those of every question; `shown` are read as well, but nothing hangs on
/// them.
pub(super) async fn open<'e>(
    engine: &'e Engine,
    source: &Source,
    request: &Request,
    runs: &Population,
    mut looked_at: BTreeSet<Column>,
    shown: &[Column],
    skipped: &mut Vec<SkippedFile>,
) -> Result<(Question<'e>, Tallied), Stop> {
    if let Some(filter) = &request.tree_filter
        && filter.resolved().speaks_of_root()
    {
        return Err(Error::Usage {
            problem: "a filter on any run of a trace cannot speak of its root".to_owned(),
            hint: Some("what the root must be goes into --filter, without root.".to_owned()),
        }
        .into());
    }
    let named = source.named(request);
    let mut wanted = Wished {
        projects: named.as_ref(),
        tenant: request.tenant,
    };
    let of_root = RunFilter::of_all(request.filter.iter().chain(&request.trace_filter));
    looked_at.extend(filtered(request, of_root.as_ref()));
    let all = looked_at.iter().chain(shown).copied().collect();
    engine.n_json_bytes.store(0, Ordering::Relaxed);
    let json = &engine.n_json_bytes;
    let files = source.files(&engine.ctx, wanted, &all, json, skipped);
    let mut question = Question {
        engine,
        files: files.await?,
        skips: source.skips_bad_files(),
        roots: Wanted {
            window: request.window,
            projects: None,
            only_roots: true,
            newest: None,
        },
        window: request.window,
        of_runs: BTreeSet::new(),
        filters: Filters {
            of_root,
            of_any: None,
        },
        reserved: Vec::new(),
        plans: Vec::new(),
    };
    if let (Some(filter), false) = (&question.filters.of_root, request.usage == Usage::Own) {
        question.roots.window = request.window.both(filter.window());
    }
    engine.begin();
    let mut facts = question.facts().await?;
    let is_there = |id| facts.contains_key(id);
    if named.as_ref().is_some_and(|ids| !ids.iter().all(is_there)) {
        // No run of it where its path would be: the files must say which projects there are.
        wanted.projects = None;
        let files = source.files(&engine.ctx, wanted, &all, json, skipped);
        question.files = files.await?;
        facts = question.facts().await?;
    }
    if facts.is_empty() && !skipped.is_empty() && request.projects != Projects::All {
        let skipped = std::mem::take(skipped);
        return Err(Error::NothingLeft { skipped }.into());
    }
    let is_named = wanted.projects.is_some();
    let named = named.filter(|_| is_named);
    question.roots.projects = chosen(source, request, named, &mut facts)?;
    let window = question.fit_tallies(source, request, runs, &facts)?;
    let projects = facts
        .into_iter()
        .map(|(id, facts)| (id, ProjectTally::new(facts, request.stats)))
        .collect();
    let tallied = Tallied {
        window,
        n_files: 0,
        formats: question.files.formats(),
        n_json_bytes: json.load(Ordering::Relaxed),
        warnings: [question.files.warnings(&looked_at), question.files.gaps()].concat(),
        skipped: question.files.left_out(),
        tenant: request.tenant,
        projects,
        plans: Vec::new(),
    };
    Ok((question, tallied))
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
pub(super) struct Question<'a> {
    pub(super) engine: &'a Engine,
    pub(super) files: Files,
    /// Whether files that cannot be read are left out.
    skips: bool,
    /// The root runs that are asked for.
    pub(super) roots: Wanted,
    /// When the traces start that are asked for.
    pub(super) window: Window,
    /// The projects of which there are files of runs.
    pub(super) of_runs: BTreeSet<Uuid>,
    pub(super) filters: Filters,
    /// Memory set aside for where the newest records stand.
    reserved: Vec<MemoryReservation>,
    pub(super) plans: Vec<Arc<dyn ExecutionPlan>>,
}

/// So many projects are asked at once whether their roots add up what their descendants used.
const N_ASKED_TOGETHER: usize = 16;

/// What the traces must be that are asked for.
#[derive(Clone, Default)]
pub(super) struct Filters {
    /// What their roots must be.
    pub(super) of_root: Option<RunFilter>,
    /// What any of their runs must be, and all runs of the projects, whatever the window, among which
    /// that one is looked for.
    of_any: Option<(RunFilter, Wanted)>,
}

impl Filters {
    pub(super) fn is_empty(&self) -> bool {
        self.of_root.is_none() && self.of_any.is_none()
    }

    /// The wanted roots that are asked for, with these columns.
    pub(super) fn roots(
        &self,
        files: &Files,
        columns: &[Column],
        roots: &Wanted,
    ) -> Result<LogicalPlan, DataFusionError> {
        let mut kept = columns.to_vec();
        if self.of_any.is_some() {
            kept.extend(plan::TRACED.iter().filter(|own| !columns.contains(own)));
        }
        let runs = match &self.of_root {
            Some(filter) => filter.keep(files.runs(&filter.with_own(&kept), roots)?, &kept)?,
            None => files.runs(&kept, roots)?,
        };
        match self.of_any(files)? {
            Some(any) => plan::of_same_traces(runs, any, columns),
            None => Ok(runs),
        }
    }

    /// The runs one of which a trace must have, where that is asked for.
    fn of_any(&self, files: &Files) -> Result<Option<LogicalPlan>, DataFusionError> {
        let Some((filter, all)) = &self.of_any else {
            return Ok(None);
        };
        let any = files.runs(&filter.with_own(&plan::TRACED), all)?;
        filter.keep(any, &plan::TRACED).map(Some)
    }

    /// All wanted runs of traces whose roots are asked for, with these columns.
    pub(super) fn runs(
        &self,
        files: &Files,
        columns: &[Column],
        wanted: &Wanted,
    ) -> Result<LogicalPlan, DataFusionError> {
        self.of_their_traces(files, files.runs(columns, wanted)?, columns, wanted)
    }

    /// Those of some runs whose traces are asked for: their roots are looked for among the wanted runs.
    pub(super) fn of_their_traces(
        &self,
        files: &Files,
        runs: LogicalPlan,
        columns: &[Column],
        wanted: &Wanted,
    ) -> Result<LogicalPlan, DataFusionError> {
        if self.of_root.is_none() {
            return match self.of_any(files)? {
                Some(any) => plan::of_same_traces(runs, any, columns),
                None => Ok(runs),
            };
        }
        let roots = Wanted {
            only_roots: true,
            ..wanted.clone()
        };
        plan::of_same_traces(runs, self.roots(files, &plan::TRACED, &roots)?, columns)
    }
}

/// The columns that filters look at.
fn filtered(request: &Request, of_root: Option<&RunFilter>) -> BTreeSet<Column> {
    let of_any = request.tree_filter.iter();
    let of_any = of_any.filter_map(|filter| RunFilter::of_all([filter]));
    let filters = of_root.cloned().into_iter().chain(of_any);
    filters.flat_map(|filter| filter.with_own(&[])).collect()
}

impl Question<'_> {
    /// What is known of the projects without their traces.
    async fn facts(&mut self) -> Result<BTreeMap<Uuid, Facts>, Stop> {
        let mut facts = self.files.proven();
        let scanned = self.step(Files::unproven, Files::scanned).await?;
        for (project, more) in scanned {
            facts.entry(project).or_default().add(&more);
        }
        self.of_runs = facts.keys().copied().collect();
        for (project, more) in self.files.told() {
            facts.entry(project).or_default().add(&more);
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
        // Those that traces are built from.
        let mut runs = Wanted {
            window: self.window.widened(request.trace_span_us),
            projects: Some(BTreeSet::new()),
            only_roots: false,
            newest: None,
        };
        self.filter_trees(request, projects).await?;
        if request.usage == Usage::Own {
            can_build(projects)?;
            runs.projects = Some(projects.keys().copied().collect());
            runs = self.newest(runs).await?;
            self.roots.newest.clone_from(&runs.newest);
        } else {
            self.roots = self.newest(self.roots.clone()).await?;
            for (id, tally) in self.tallies(own_feedback).await? {
                with_project(projects, id, |project| project.tally = Some(tally));
            }
        }
        if request.usage == Usage::Auto {
            let open = self.may_not_add_up(projects).await?;
            if !open.is_empty() {
                runs.projects = Some(open);
                runs = self.newest(runs).await?;
                runs.projects = Some(self.used_below_roots(&runs).await?);
            }
        }
        let built = runs.projects.clone().unwrap_or_default();
        if !built.is_empty() {
            let of_built = self.built_tallies(&runs, own_feedback).await?;
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
        if request.facets {
            for (id, facets) in self.facets().await? {
                with_project(projects, id, |project| project.facets = facets);
            }
        }
        let all = projects.keys().copied();
        let roots = Wanted {
            projects: Some(all.filter(|id| !built.contains(id)).collect()),
            ..self.roots.clone()
        };
        self.count_undecided([&roots, &runs], projects).await
    }

    /// Counts the runs of each project of which only a path decided which record counts.
    pub(super) async fn count_undecided(
        &mut self,
        counted: impl IntoIterator<Item = &Wanted>,
        projects: &mut BTreeMap<Uuid, ProjectTally>,
    ) -> Result<(), Stop> {
        if !self.files.has_ties() {
            return Ok(());
        }
        for counted in counted {
            for (id, n_undecided) in self.undecided(counted).await? {
                with_project(projects, id, |project| project.n_undecided = n_undecided);
            }
        }
        Ok(())
    }

    /// Settles among which runs one is looked for that each trace must have.
    pub(super) async fn filter_trees(
        &mut self,
        request: &Request,
        projects: &BTreeMap<Uuid, ProjectTally>,
    ) -> Result<(), Stop> {
        let Some(filter) = &request.tree_filter else {
            return Ok(());
        };
        can_trace(projects)?;
        let all = Wanted {
            window: Window::default(),
            only_roots: false,
            ..self.roots.clone()
        };
        let all = self.newest(all).await?;
        self.filters.of_any = RunFilter::of_all([filter]).map(|filter| (filter, all));
        Ok(())
    }

    /// The projects in which every run carries what it used itself, so that roots do not add up what
    /// their descendants used.
    pub(super) async fn own_only(
        &mut self,
        request: &Request,
        projects: &BTreeMap<Uuid, ProjectTally>,
    ) -> Result<BTreeSet<Uuid>, Stop> {
        let traced = projects.iter();
        let traced = traced.filter(|(_, project)| !project.facts.lacks_traces);
        let mut open: BTreeSet<Uuid> = traced.map(|(id, _)| *id).collect();
        let traced: Vec<Uuid> = open.iter().copied().collect();
        for some in traced.chunks(N_ASKED_TOGETHER) {
            let mut of_each = Vec::new();
            for id in some {
                let roots = Wanted {
                    window: self.window,
                    projects: Some(BTreeSet::from([*id])),
                    only_roots: true,
                    newest: None,
                };
                of_each.push(self.newest(roots).await?);
            }
            let composite = self.with_composite(&of_each).await?;
            open.retain(|id| !composite.contains(id));
        }
        if open.is_empty() {
            return Ok(open);
        }
        let runs = Wanted {
            window: self.window.widened(request.trace_span_us),
            projects: Some(open),
            only_roots: false,
            newest: None,
        };
        let runs = self.newest(runs).await?;
        self.used_below_roots(&runs).await
    }

    /// The projects in which a root that is no LLM call carries usage, of the roots of each; no more are
    /// read than it takes to know.
    async fn with_composite(&mut self, of_each: &[Wanted]) -> Result<BTreeSet<Uuid>, Stop> {
        self.step(
            |files| {
                let first = |roots: &Wanted| {
                    let runs = files.runs(&plan::composed(), roots)?;
                    LogicalPlanBuilder::new(plan::composite(runs)?).limit(0, Some(1))
                };
                let mut all: Option<LogicalPlanBuilder> = None;
                for roots in of_each {
                    let first = first(roots)?;
                    all = Some(match all {
                        Some(others) => others.union(first.build()?)?,
                        None => first,
                    });
                }
                all.map(LogicalPlanBuilder::build).transpose()
            },
            |_, found: &mut BTreeSet<Uuid>, batch| {
                for row in 0..batch.num_rows() {
                    let project = source::uuid_at(batch, 0, row, Column::SessionId)?;
                    found.insert(project.ok_or_else(source::no_project)?);
                }
                Ok(())
            },
        )
        .await
    }

    /// The wanted runs, each in its newest record.
    pub(super) async fn newest(&mut self, wanted: Wanted) -> Result<Wanted, Stop> {
        const ROWS_A_BYTE: u64 = 8;
        let n_bytes = self.files.n_repeated(&wanted).div_ceil(ROWS_A_BYTE);
        if n_bytes == 0 {
            return Ok(wanted);
        }
        let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
        let reserved = self.engine.reserve("places of newest records", n_bytes)?;
        self.reserved.push(reserved);
        let newest = self
            .step(
                |files| files.newest(&wanted),
                |_, newest: &mut Newest, batch| {
                    newest.add(batch);
                    Ok(())
                },
            )
            .await?;
        Ok(Wanted {
            newest: Some(Arc::new(newest)),
            ..wanted
        })
    }

    /// The projects whose roots may not add up what their descendants used: none but lone LLM calls
    /// carries usage, whichever of them are asked for.
    async fn may_not_add_up(
        &mut self,
        projects: &BTreeMap<Uuid, ProjectTally>,
    ) -> Result<BTreeSet<Uuid>, Stop> {
        let open = projects.iter().filter(|(_, project)| {
            let tally = project.tally.as_ref();
            !project.facts.lacks_traces && tally.is_some_and(|tally| tally.n_composite_usage == 0)
        });
        let open: BTreeSet<Uuid> = open.map(|(id, _)| *id).collect();
        if open.is_empty() || self.filters.is_empty() {
            return Ok(open);
        }
        let roots = Wanted {
            window: self.window,
            projects: Some(open.clone()),
            only_roots: true,
            newest: None,
        };
        let roots = self.newest(roots).await?;
        let composite = self
            .step(
                |files| plan::composite_usage(files.runs(&plan::composed(), &roots)?).map(Some),
                |_, counts, batch| by_project(counts, batch, count_at, add_counts),
            )
            .await?;
        let adds_up = |id: &Uuid| composite.get(id).is_some_and(|n_roots| *n_roots > 0);
        Ok(open.into_iter().filter(|id| !adds_up(id)).collect())
    }

    /// Those of the projects in which runs that are no roots carry usage.
    async fn used_below_roots(&mut self, runs: &Wanted) -> Result<BTreeSet<Uuid>, Stop> {
        let counts = self
            .step(
                |files| plan::usage_below_roots(files.runs(&plan::used(), runs)?).map(Some),
                |_, counts, batch| by_project(counts, batch, count_at, add_counts),
            )
            .await?;
        let wanted = |id: &Uuid| runs.projects.as_ref().is_some_and(|all| all.contains(id));
        let used = counts.into_iter().filter(|(_, n_runs)| *n_runs > 0);
        Ok(used.map(|(id, _)| id).filter(wanted).collect())
    }

    /// The tallies of root runs, with the runs' own feedback or without.
    async fn tallies(&mut self, own_feedback: bool) -> Result<BTreeMap<Uuid, Tally>, Stop> {
        let (filters, roots) = (self.filters.clone(), self.roots.clone());
        let columns = plan::tallied(own_feedback);
        self.step(
            |files| {
                let only = files.only_project(&roots);
                plan::tally(filters.roots(files, &columns, &roots)?, only).map(Some)
            },
            |_, tallies, batch| {
                by_project(tallies, batch, Tally::from_row, |sum, more| {
                    sum.merge(&more)
                })
            },
        )
        .await
    }

    /// The tallies of traces that are built from these runs, and how many of them have no root among
    /// these.
    async fn built_tallies(
        &mut self,
        runs: &Wanted,
        own_feedback: bool,
    ) -> Result<BTreeMap<Uuid, (Tally, u64)>, Stop> {
        let (filters, window) = (self.filters.clone(), self.window);
        let columns = plan::built(own_feedback);
        self.step(
            |files| {
                let runs = filters.runs(files, &columns, runs)?;
                plan::tally_built(runs, own_feedback, &window).map(Some)
            },
            |_, tallies, batch| {
                by_project(tallies, batch, built_at, |sum, more| {
                    sum.1 += more.1;
                    sum.0.merge(&more.0)
                })
            },
        )
        .await
    }

    /// The traces of each day.
    async fn daily(&mut self, zone: Tz) -> Result<BTreeMap<Uuid, BTreeMap<NaiveDate, u64>>, Stop> {
        let (filters, roots) = (self.filters.clone(), self.roots.clone());
        self.step(
            |files| plan::daily(filters.roots(files, plan::DATED, &roots)?, zone).map(Some),
            |_, days, batch| {
                by_project(days, batch, day_at, |sum, more| {
                    for (day, n_traces) in more {
                        *sum.entry(day).or_default() += n_traces;
                    }
                    Ok(())
                })
            },
        )
        .await
    }

    /// What the traces are found by.
    async fn facets(&mut self) -> Result<BTreeMap<Uuid, Facets>, Stop> {
        let (filters, roots) = (self.filters.clone(), self.roots.clone());
        self.step(
            |files| {
                let roots = filters.roots(files, plan::FACETED, &roots)?;
                plan::facets(roots, &[Column::SessionId.name()]).map(Some)
            },
            |_, facets, batch| add_facets(facets, batch),
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
            |_, counts, batch| by_project(counts, batch, count_at, add_counts),
        )
        .await
    }

    /// The feedback of each project's root runs, from the records of runs.
    async fn feedback(
        &mut self,
        on_runs: &BTreeMap<Uuid, Feedback>,
    ) -> Result<BTreeMap<Uuid, Feedback>, Stop> {
        let (filters, roots) = (self.filters.clone(), self.roots.clone());
        self.step(
            |files| {
                let roots = filters.roots(files, plan::FED_BACK, &roots)?;
                plan::feedback(roots, feedback_table(on_runs)?).map(Some)
            },
            |_, feedback, batch| {
                by_project(feedback, batch, feedback_at, |sum: &mut Feedback, more| {
                    sum.merge(&more).map_err(bad_data)
                })
            },
        )
        .await
    }

    /// Executes a plan over the files, if there is one, and reads its rows.
    pub(super) async fn step<T: Default>(
        &mut self,
        plan: impl Fn(&Files) -> Result<Option<LogicalPlan>, DataFusionError>,
        read: impl Fn(&Files, &mut T, &RecordBatch) -> Result<()>,
    ) -> Result<T, Stop> {
        self.step_to_end(plan, read, |_| Ok(())).await
    }

    /// The same, where something is yet to be done after the last row.
    pub(super) async fn step_to_end<T: Default>(
        &mut self,
        plan: impl Fn(&Files) -> Result<Option<LogicalPlan>, DataFusionError>,
        read: impl Fn(&Files, &mut T, &RecordBatch) -> Result<()>,
        end: impl Fn(&mut T) -> Result<()>,
    ) -> Result<T, Stop> {
        let engine = self.engine;
        let attempt = async |files: &Files, joins, plans: &mut Vec<_>| {
            let mut sum = T::default();
            if let Some(plan) = plan(files).map_err(Failure::Error)? {
                let read = |batch: &RecordBatch| read(files, &mut sum, batch);
                engine.execute(plan, joins, plans, read).await?;
            }
            end(&mut sum)?;
            Ok(sum)
        };
        let plans = &mut self.plans;
        let mut answer = attempt(&self.files, Joins::InMemory, plans).await;
        if let Err(Error::Memory { .. }) = answer
            && plans.last().is_some_and(joins_in_memory)
        {
            plans.pop();
            answer = attempt(&self.files, Joins::Spilling, plans).await;
        }
        let failed = match answer {
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
            let problem = match attempt(&files, Joins::InMemory, &mut Vec::new()).await {
                Err(Error::BadData { problem }) => problem,
                Err(error @ Error::Engine(_)) => match cause(&error) {
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

/// Whether any join of a plan holds one side in memory.
fn joins_in_memory(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<HashJoinExec>() || plan.children().into_iter().any(joins_in_memory)
}

/// Whether traces of all these projects can be built from their runs.
pub(super) fn can_build(projects: &BTreeMap<Uuid, ProjectTally>) -> Result<()> {
    says_traces(projects, "no usage can be summed over a trace's runs")
}

/// Whether the runs of each trace can be told in all these projects.
fn can_trace(projects: &BTreeMap<Uuid, ProjectTally>) -> Result<()> {
    says_traces(projects, "no filter can look at all runs of a trace")
}

fn says_traces(projects: &BTreeMap<Uuid, ProjectTally>, so: &str) -> Result<()> {
    let mut lacking = projects
        .iter()
        .filter(|(_, project)| project.facts.lacks_traces);
    lacking.next().map_or(Ok(()), |(id, _)| {
        Err(Error::BadData {
            problem: format!(
                "project {id}: not all of its files say which runs belong to a trace, so that {so}"
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

/// Rows of [`plan::facets`].
fn add_facets(facets: &mut BTreeMap<Uuid, Facets>, batch: &RecordBatch) -> Result<()> {
    for row in 0..batch.num_rows() {
        let project = source::uuid_at(batch, 0, row, Column::SessionId)?;
        let facets = facets.entry(project.ok_or_else(source::no_project)?);
        add_facet(facets.or_default(), batch, row);
    }
    Ok(())
}

/// A row of [`plan::facets`].
pub(super) fn add_facet(facets: &mut Facets, batch: &RecordBatch, row: usize) {
    let text = |name: &str| batch.column_by_name(name)?.as_string_view_opt();
    let counts = batch.column_by_name(plan::N_FACETS);
    let counts = counts.and_then(|counts| counts.as_primitive_opt::<Int64Type>());
    if let (Some(keys), Some(values), Some(counts)) =
        (text(plan::FACET_KEY), text(plan::FACET_VALUE), counts)
    {
        facets.add(Facet {
            key: keys.value(row),
            value: values.value(row),
            n: u64::try_from(counts.value(row)).unwrap_or(0),
        });
    }
}

/// Narrows the projects to those that were asked for, and says which these are.
fn chosen(
    source: &Source,
    request: &Request,
    named: Option<BTreeSet<Uuid>>,
    facts: &mut BTreeMap<Uuid, Facts>,
) -> Result<Option<BTreeSet<Uuid>>> {
    let tenant = request.tenant;
    let named = named.and_then(|ids| ids.first().copied());
    let (asked, id) = match (&request.projects, named) {
        (Projects::All, _) => return Ok(None),
        (Projects::Only, _) => return source.only(facts.keys().copied(), tenant).map(|_| None),
        (Projects::Each(ids), _) => {
            facts.retain(|id, _| ids.contains(id));
            return Ok(Some(ids.clone()));
        }
        (Projects::One(asked), Some(id)) => (asked, id),
        (Projects::One(asked), None) => {
            let existing = facts.keys().copied().collect();
            (asked, source.resolve(asked, &existing, tenant)?)
        }
    };
    if !facts.contains_key(&id) {
        let existing: BTreeSet<Uuid> = facts
            .keys()
            .copied()
            .chain(source.projects_in_paths(tenant))
            .collect();
        return Err(source.no_such_project(asked, existing.into_iter(), tenant));
    }
    facts.retain(|other, _| *other == id);
    Ok(Some(BTreeSet::from([id])))
}

/// Feedback by what it judges: runs, and projects as a whole.
pub(super) type BySubject = (BTreeMap<Uuid, Feedback>, BTreeMap<Uuid, Feedback>);

pub(super) fn by_subject(records: &[FeedbackRecord]) -> Result<BySubject> {
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
pub(super) fn feedback_table(
    on_runs: &BTreeMap<Uuid, Feedback>,
) -> Result<LogicalPlan, DataFusionError> {
    let ids: StringViewArray = on_runs.keys().map(|run| Some(run.to_string())).collect();
    let parts: LargeBinaryArray = on_runs
        .values()
        .map(|feedback| Some(feedback.to_bytes()))
        .collect();
    let texts: StringViewArray = on_runs
        .values()
        .map(|feedback| Some(summary(feedback)))
        .collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new(plan::FEEDBACK_RUN, DataType::Utf8View, false),
        Field::new(TallyColumn::Feedback.name(), DataType::LargeBinary, false),
        Field::new(plan::FEEDBACK_TEXT, DataType::Utf8View, false),
    ]));
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(parts), Arc::new(texts)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    scan("feedback", MemTable::try_new(schema, vec![vec![batch]])?)
}

/// Feedback as the runs' own summaries have it, as far as labels and scores are told from it.
fn summary(feedback: &Feedback) -> String {
    let keys = feedback.stats().into_iter().map(|(key, stats)| {
        let summary = serde_json::json!({"n": stats.n, "avg": stats.avg, "values": stats.values});
        (key, summary)
    });
    serde_json::Value::Object(keys.collect()).to_string()
}

fn feedback_at(batch: &RecordBatch, row: usize) -> Result<Feedback> {
    let bytes = batch.column(1).as_binary::<i64>();
    if bytes.is_null(row) {
        return Ok(Feedback::default());
    }
    Feedback::from_bytes(bytes.value(row)).map_err(bad_data)
}
