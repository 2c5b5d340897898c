//! Groups of runs: the same question asked of every group at once, in as many passes as the answer needs.
//!
//! Which runs there are (traces, or runs of a population) and whose usage counts is settled first, for
//! all passes; then each pass is a plan over the question's files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{JoinType, LogicalPlan, LogicalPlanBuilder};
use uuid::Uuid;

use super::question::{
    self, BySubject, Filters, Question, Stop, Tallied, feedback_table, open, without_bad_files,
};
use super::readers::Readers;
use super::{Engine, failure};
use crate::error::{Error, Result};
use crate::plan::{self, Below, RunFilter, SharedBelow, Split};
use crate::request::{Key, Listing, Population, Request, RunPage, Usage, Window};
use crate::runs::Column;
use crate::source::tallies::{Origin, WantedTallies};
use crate::source::{Files, Source, Wanted};
use crate::tally::facets::Facets;
use crate::tally::{Parts, Rows, Tally, TallyColumn};

/// A group, and what is known of its runs.
#[derive(Debug)]
pub(crate) struct GroupRow {
    /// What they have in common; none where they lack it.
    pub(crate) labels: Vec<Option<String>>,
    /// The first moment of their span of time.
    pub(crate) start_us: Option<i64>,
    pub(crate) tally: Tally,
}

/// A run, and what is known of it.
#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) id: Option<String>,
    pub(crate) session_id: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) run_type: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) start_us: i64,
    pub(crate) end_us: Option<i64>,
    pub(crate) first_token_us: Option<i64>,
    pub(crate) tokens: Parts,
    pub(crate) cost_pico: Parts,
    pub(crate) error_class: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) thread: Option<String>,
    pub(crate) recorded: Recorded,
}

/// What else is recorded of a run, as far as it was asked for; JSON as text.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) tenant_id: Option<String>,
    pub(crate) parent_run_id: Option<String>,
    pub(crate) reference_example_id: Option<String>,
    pub(crate) trace_tier: Option<String>,
    pub(crate) dotted_order: Option<String>,
    pub(crate) is_root: Option<bool>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) extra: Option<String>,
    pub(crate) feedback_stats: Option<String>,
    pub(crate) inputs: Option<String>,
    pub(crate) outputs: Option<String>,
    pub(crate) events: Option<String>,
}

/// A question about groups, settled.
pub(crate) struct Groups<'a> {
    pub(super) question: Question<'a>,
    runs: &'a Population,
    projects: BTreeSet<Uuid>,
    /// The parts of the runs whose usage is counted alike.
    parts: Vec<Units>,
    /// The runs of a filter's root and of a trace's failures, whatever the window.
    all: Wanted,
    /// Those that may be children of the runs.
    children: Wanted,
    /// What these used, of the columns that a pass asked for last.
    below: Option<UsedBelow>,
    filter: Option<RunFilter>,
    pub(super) records: Option<BySubject>,
    /// The files of runs that are read, and those that tally files were made from.
    pub(super) origins: Vec<Origin>,
}

/// Runs that are counted alike.
struct Units {
    kind: Kind,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Traces, as their roots.
    Roots,
    /// Traces, built from their runs.
    Built,
    /// Runs with the usage that they carry.
    Runs,
    /// Runs with the usage that they carry but their children's.
    OwnUsage,
}

/// What children used, and in which columns.
struct UsedBelow {
    usage: Vec<Column>,
    sums: SharedBelow,
    _memory: MemoryReservation,
}

/// So many of the first runs tell whether groups are many.
const N_FIRST: usize = 8_192;
/// Groups are many where these runs are in so many.
const MANY: usize = N_FIRST / 8;
/// Fewer runs are not worth a look.
const N_LOOKED_AT: u64 = 32 * N_FIRST as u64;

/// Answers a question about groups: `ask` makes the passes.
pub(crate) async fn split<T>(
    engine: &Engine,
    source: &Source,
    request: &Request,
    runs: &Population,
    looked_at: &[Column],
    shown: &[Column],
    ask: impl AsyncFn(&mut Groups, &Tallied) -> Result<T, Stop>,
) -> Result<(T, Tallied)> {
    let answer = without_bad_files(async |skipped| {
        let looked_at = looked_at.iter().copied().collect();
        let opened = open(engine, source, request, runs, looked_at, shown, skipped);
        let (question, mut tallied) = opened.await?;
        let mut groups = Groups::settle(question, source, request, runs, &mut tallied).await?;
        let answer = ask(&mut groups, &tallied).await?;
        tallied.plans = groups.question.plans;
        Ok((answer, tallied))
    });
    answer.await
}

impl<'a> Groups<'a> {
    /// Settles which runs there are and whose usage counts.
    async fn settle(
        mut question: Question<'a>,
        source: &Source,
        request: &Request,
        runs: &'a Population,
        tallied: &mut Tallied,
    ) -> Result<Self, Stop> {
        let all = tallied.projects.keys().copied();
        let projects: BTreeSet<Uuid> = all.filter(|id| question.of_runs.contains(id)).collect();
        let wanted = |window: Window, only_roots: bool| Wanted {
            window,
            projects: Some(projects.clone()),
            only_roots,
            newest: None,
        };
        question.filter_trees(request, &tallied.projects).await?;
        let is_of_traces = *runs == Population::Traces;
        let [of_roots, of_runs] =
            by_usage(&mut question, request, runs, tallied, &projects).await?;
        let filter = request.filter.as_ref().filter(|_| !is_of_traces);
        let filter = filter.and_then(RunFilter::of_any_run);
        let window = match &filter {
            Some(filter) => request.window.both(filter.window()),
            None => request.window,
        };
        let kinds = match (is_of_traces, runs.can_nest()) {
            (true, _) => [(Kind::Roots, of_roots), (Kind::Built, of_runs)],
            (false, true) => [(Kind::OwnUsage, of_roots), (Kind::Runs, of_runs)],
            (false, false) => [
                (Kind::Runs, projects.clone()),
                (Kind::Runs, BTreeSet::new()),
            ],
        };
        let mut parts = Vec::new();
        for (kind, projects) in kinds {
            if projects.is_empty() {
                continue;
            }
            let base = match kind {
                Kind::Roots => question.roots.clone(),
                Kind::Built => wanted(question.window.widened(request.trace_span_us), false),
                Kind::Runs | Kind::OwnUsage => wanted(window, false),
            };
            let base = Wanted {
                projects: Some(projects),
                ..base
            };
            let wanted = question.newest(base).await?;
            parts.push(Units { kind, wanted });
        }
        let counted = parts.iter().map(|part| &part.wanted);
        let counted = question.count_undecided(counted, &mut tallied.projects);
        counted.await?;
        let all_wanted: Vec<&Wanted> = parts.iter().map(|part| &part.wanted).collect();
        tallied.n_files = question.files.n_wanted(&all_wanted);
        let origins = question.files.origins(&all_wanted);
        if !is_of_traces {
            // What is asked of the root alone.
            question.filters.of_root = RunFilter::of_all(&request.trace_filter);
        }
        let all = question.newest(wanted(Window::default(), false)).await?;
        let children = wanted(request.window.widened(request.trace_span_us), false);
        let children = question.newest(children).await?;
        let records = source.feedback().map(question::by_subject).transpose()?;
        Ok(Self {
            question,
            runs,
            projects: tallied.projects.keys().copied().collect(),
            parts,
            all,
            children,
            below: None,
            filter,
            records,
            origins,
        })
    }

    /// Refuses what tally files do not have of these columns: `what` says what that is.
    pub(crate) fn check_columns(
        &self,
        columns: &BTreeSet<TallyColumn>,
        what: impl Fn(&BTreeSet<TallyColumn>) -> String,
    ) -> Result<()> {
        self.question.files.check_columns(columns, what)
    }

    /// Makes one pass: `read` gets every group, in no order, each once; `add` puts together what several
    /// threads have read.
    pub(crate) async fn pass<T: Default + Send>(
        &mut self,
        split: &Split<'_>,
        read: impl Fn(&mut T, GroupRow) -> Result<()> + Sync,
        add: impl Fn(&mut T, T) -> Result<()>,
    ) -> Result<T, Stop> {
        self.question.files.check_split(split.by, split.every)?;
        let n_labels = split.by.len();
        let read =
            |sum: &mut T, batch: &RecordBatch| read_groups(batch, n_labels, |row| read(sum, row));
        let n_threads = self.question.engine.n_threads();
        let take =
            |readers: &mut Readers<T>, batch: &RecordBatch| readers.take(batch, n_threads, &read);
        let end = |readers: &mut Readers<T>| readers.settle(n_threads, &read);
        let columns = split.read(self.runs);
        let asking = Asking {
            are_many: self.are_many(split).await?,
            ..Asking::default()
        };
        let plan = |asked: &Asked| asked.tallies(split);
        if self.can_be_at_once(split, &columns) {
            let n_plans = self.question.plans.len();
            let at_once = Asking {
                at_once: true,
                ..asking
            };
            match self.attempt(at_once, &plan, &take, &end).await {
                // Too many runs stand far from their parents, or what one used is beyond 64 bits.
                Err(Stop::Failed(Error::Memory { .. })) => self.question.plans.truncate(n_plans),
                answer => return Ok(answer?.sum(add)?),
            }
        }
        Ok(self
            .execute_to_end(asking, &columns, plan, take, end)
            .await?
            .sum(add)?)
    }

    /// The first runs in an order: `read` gets one after another.
    pub(crate) async fn list<T: Default>(
        &mut self,
        listing: &Listing,
        read: impl Fn(&mut T, RunRow),
    ) -> Result<T, Stop> {
        self.question.files.refuse_of_tallies("runs")?;
        let split = Split {
            by: &[],
            every: None,
            columns: &BTreeSet::new(),
            kept: plan::LISTED,
            own_feedback: self.has_own_feedback(),
        };
        let read = |sum: &mut T, batch: &RecordBatch| {
            read_runs(batch, |run| read(sum, run));
            Ok(())
        };
        let read_columns = split.read(self.runs);
        let plan = |asked: &Asked| split.list(asked.units(&split)?, listing);
        self.execute(&read_columns, plan, read).await
    }

    /// A page of runs, with these columns: `read` gets one after another.
    pub(crate) async fn page<T: Default>(
        &mut self,
        page: &RunPage,
        columns: &[Column],
        read: impl Fn(&mut T, RunRow),
    ) -> Result<T, Stop> {
        self.question.files.refuse_of_tallies("runs")?;
        let split = Split {
            by: &[],
            every: None,
            columns: &BTreeSet::new(),
            kept: columns,
            own_feedback: self.has_own_feedback(),
        };
        let read = |sum: &mut T, batch: &RecordBatch| {
            read_runs(batch, |run| read(sum, run));
            Ok(())
        };
        let read_columns = split.read(self.runs);
        let plan = |asked: &Asked| split.page(asked.units(&split)?, page);
        self.execute(&read_columns, plan, read).await
    }

    /// The facets of each group. Those of a trace are its root's.
    pub(crate) async fn facets(
        &mut self,
        by: &[Key],
    ) -> Result<BTreeMap<Vec<Option<String>>, Facets>, Stop> {
        self.question.files.refuse_of_tallies("facets")?;
        let split = Split {
            by,
            every: None,
            columns: &BTreeSet::new(),
            kept: plan::FACETED,
            own_feedback: self.has_own_feedback(),
        };
        let window = self.question.window;
        for part in &mut self.parts {
            if part.kind == Kind::Built {
                part.kind = Kind::Roots;
                part.wanted.only_roots = true;
                part.wanted.window = window;
            }
        }
        let read = |groups: &mut BTreeMap<_, Facets>, batch: &RecordBatch| {
            let labels = Labels::of(batch, by.len())?;
            for row in 0..batch.num_rows() {
                let facets = groups.entry(labels.at(row)).or_default();
                question::add_facet(facets, batch, row);
            }
            Ok(())
        };
        let read_columns = split.read(self.runs);
        let plan = |asked: &Asked| split.facets(asked.units(&split)?);
        self.execute(&read_columns, plan, read).await
    }

    /// Executes a plan over the question's files, if there is one, and reads its rows. It asks for these
    /// columns of runs.
    pub(super) async fn execute<T: Default>(
        &mut self,
        columns: &[Column],
        plan: impl Fn(&Asked) -> Result<Option<LogicalPlan>, DataFusionError>,
        read: impl Fn(&mut T, &RecordBatch) -> Result<()>,
    ) -> Result<T, Stop> {
        self.execute_to_end(Asking::default(), columns, plan, read, |_| Ok(()))
            .await
    }

    /// The same, where something is yet to be done after the last row.
    async fn execute_to_end<T: Default>(
        &mut self,
        asking: Asking,
        columns: &[Column],
        plan: impl Fn(&Asked) -> Result<Option<LogicalPlan>, DataFusionError>,
        read: impl Fn(&mut T, &RecordBatch) -> Result<()>,
        end: impl Fn(&mut T) -> Result<()>,
    ) -> Result<T, Stop> {
        self.use_below(columns).await?;
        let answer = self.attempt(asking, &plan, &read, &end).await;
        match answer {
            Err(Stop::Failed(Error::Memory { .. })) if self.below.is_some() => {
                // Joined, nothing of it need be held in memory.
                self.below = None;
                self.attempt(asking, &plan, &read, &end).await
            }
            answer => answer,
        }
    }

    /// Whether groups seem to be many, by the first runs, where there are many runs and these are soon read.
    async fn are_many(&mut self, split: &Split<'_>) -> Result<bool, Stop> {
        let labels = split.labels();
        let is_soon = |part: &Units| match part.kind {
            Kind::Roots | Kind::Runs | Kind::OwnUsage => true,
            Kind::Built => false,
        };
        let files = &self.question.files;
        let n_rows = self.parts.iter().map(|part| files.n_rows(&part.wanted));
        let looks = !split.by.is_empty()
            && n_rows.sum::<u64>() >= N_LOOKED_AT
            && self.question.filters.is_empty()
            && split.read_of_roots().is_empty()
            && (self.has_own_feedback() || !labels.asks_for_feedback())
            && self.parts.iter().all(is_soon);
        if !looks {
            return Ok(false);
        }
        let first = Asking {
            only_first: true,
            ..Asking::default()
        };
        let plan = |asked: &Asked| labels.tally(asked.units(&labels)?, false);
        let count = |n: &mut usize, batch: &RecordBatch| {
            *n += batch.num_rows();
            Ok(())
        };
        match self.attempt(first, plan, count, |_| Ok(())).await {
            Ok(n_groups) => Ok(n_groups >= MANY),
            Err(Stop::Failed(Error::Memory { .. })) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    /// Whether own usage can be told in the pass that sums it up.
    fn can_be_at_once(&self, split: &Split<'_>, columns: &[Column]) -> bool {
        let usage = plan::usage_of(columns);
        let [part] = self.parts.as_slice() else {
            return false;
        };
        // All runs that may be parents must come by, and all that may be children.
        let are_all = *self.runs == Population::All
            && part.wanted.window == Window::default()
            && self.question.filters.is_empty()
            && self.filter.is_none();
        let below = self.below.as_ref();
        let is_known = below.is_some_and(|below| below.usage == usage);
        part.kind == Kind::OwnUsage
            && !usage.is_empty()
            && !is_known
            && are_all
            && split.only_sums(&usage)
            && split.read_of_roots().is_empty()
            && (self.has_own_feedback() || !split.asks_for_feedback())
    }

    async fn attempt<T: Default>(
        &mut self,
        asking: Asking,
        plan: impl Fn(&Asked) -> Result<Option<LogicalPlan>, DataFusionError>,
        read: impl Fn(&mut T, &RecordBatch) -> Result<()>,
        end: impl Fn(&mut T) -> Result<()>,
    ) -> Result<T, Stop> {
        let Self {
            question,
            runs,
            projects,
            parts,
            all,
            children,
            below,
            filter,
            records,
            origins: _,
        } = self;
        let (filters, window) = (question.filters.clone(), question.window);
        let plan = |files: &Files| {
            plan(&Asked {
                files,
                filters: &filters,
                runs,
                projects,
                parts,
                window: &window,
                all,
                children,
                asking,
                below: below.as_ref(),
                filter: filter.as_ref(),
                records: records.as_ref(),
            })
        };
        let read = |_: &Files, sum: &mut T, batch: &RecordBatch| read(sum, batch);
        question.step_to_end(plan, read, end).await
    }

    /// Adds up what children used where these columns ask for own usage, as far as there is memory for it.
    async fn use_below(&mut self, columns: &[Column]) -> Result<(), Stop> {
        let mut parts = self.parts.iter();
        let usage = plan::usage_of(columns);
        if usage.is_empty() || !parts.any(|part| part.kind == Kind::OwnUsage) {
            return Ok(());
        }
        if self
            .below
            .as_ref()
            .is_some_and(|below| below.usage == usage)
        {
            return Ok(());
        }
        self.below = None;
        let memory = self.question.engine.reserve("what children used", 0)?;
        let read = plan::of_children(&usage);
        let children = &self.children;
        let plan = |files: &Files| plan::children(files.runs(&read, children)?, &usage).map(Some);
        let add = |_: &Files, below: &mut Below, batch: &RecordBatch| {
            let n_bytes = below.size_with(batch);
            memory.try_resize(n_bytes).map_err(failure)?;
            below.add(batch).map_err(failure)?;
            Ok(())
        };
        match self.question.step(plan, add).await {
            Ok(sums) => {
                self.below = Some(UsedBelow {
                    usage,
                    sums: Arc::new(sums.into()),
                    _memory: memory,
                });
                Ok(())
            }
            Err(Stop::Failed(Error::Memory { .. })) => Ok(()),
            Err(stop) => Err(stop),
        }
    }

    /// Which runs there are.
    pub(super) fn runs(&self) -> &Population {
        self.runs
    }

    /// Whether feedback is the runs' own.
    pub(crate) fn has_own_feedback(&self) -> bool {
        self.records.is_none()
    }
}

/// The projects whose roots carry what was used below them, and those in which every run carries its own;
/// each project's tally says which.
async fn by_usage(
    question: &mut Question<'_>,
    request: &Request,
    runs: &Population,
    tallied: &mut Tallied,
    projects: &BTreeSet<Uuid>,
) -> Result<[BTreeSet<Uuid>; 2], Stop> {
    let of_runs = match request.usage {
        Usage::Own => {
            if *runs == Population::Traces {
                question::can_build(&tallied.projects)?;
            }
            projects.clone()
        }
        Usage::Auto if runs.has_usage_rule() => {
            question.own_only(request, &tallied.projects).await?
        }
        Usage::Roots | Usage::Auto => BTreeSet::new(),
    };
    for (id, project) in &mut tallied.projects {
        project.usage = if of_runs.contains(id) {
            Usage::Own
        } else {
            Usage::Roots
        };
    }
    question.settle_usage(request, runs, tallied)?;
    let of_roots = projects.difference(&of_runs).copied().collect();
    Ok([of_roots, of_runs])
}

/// How a pass asks.
#[derive(Clone, Copy, Debug, Default)]
struct Asking {
    /// Whether own usage is told in the pass that sums it up.
    at_once: bool,
    /// Whether groups seem to be many.
    are_many: bool,
    /// Whether only the first runs are asked for.
    only_first: bool,
}

/// What a pass asks of some files.
pub(super) struct Asked<'a> {
    files: &'a Files,
    filters: &'a Filters,
    runs: &'a Population,
    projects: &'a BTreeSet<Uuid>,
    parts: &'a [Units],
    /// When traces start that are asked for.
    window: &'a Window,
    all: &'a Wanted,
    children: &'a Wanted,
    asking: Asking,
    below: Option<&'a UsedBelow>,
    filter: Option<&'a RunFilter>,
    records: Option<&'a BySubject>,
}

impl Asked<'_> {
    /// The tallies of the groups of all runs, those in tally files too; `None` where there is no run.
    pub(super) fn tallies(
        &self,
        split: &Split<'_>,
    ) -> Result<Option<LogicalPlan>, DataFusionError> {
        let of_runs = split.tally(self.units(split)?, self.asking.are_many)?;
        let wanted = WantedTallies {
            projects: self.projects,
            by: split.by,
            columns: split.columns,
        };
        let Some(stored) = self.files.tallies(&wanted)? else {
            return Ok(of_runs);
        };
        let stored = split.stored(stored)?;
        split.merged(of_runs.into_iter().chain([stored]).collect())
    }

    /// The runs of each kind with their labels.
    fn units(&self, split: &Split<'_>) -> Result<Vec<LogicalPlan>, DataFusionError> {
        let parts = self.parts.iter();
        parts.map(|part| self.units_of(part, split)).collect()
    }

    /// Only so many of the runs, where no more are asked for.
    fn first(&self, runs: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        if !self.asking.only_first {
            return Ok(runs);
        }
        let runs = LogicalPlanBuilder::new(runs);
        runs.limit(0, Some(N_FIRST))?.build()
    }

    /// Some of the runs with their labels.
    fn units_of(&self, units: &Units, split: &Split<'_>) -> Result<LogicalPlan, DataFusionError> {
        let mut columns = split.read(self.runs);
        if split.asks_for_failed_traces() {
            add(&mut columns, &plan::TRACED);
        }
        match units.kind {
            Kind::Roots => {
                let roots = self.filters.roots(self.files, &columns, &units.wanted)?;
                let roots = self.first(roots)?;
                split.roots(self.with_more(split, roots)?)
            }
            Kind::Built => {
                add(&mut columns, &plan::built_from());
                let runs = self.filters.runs(self.files, &columns, &units.wanted)?;
                split.built(self.with_more(split, runs)?, self.window)
            }
            Kind::Runs | Kind::OwnUsage => {
                add(&mut columns, &plan::told_by(self.runs));
                let of_root = self.of_root(split);
                let is_joined = !of_root.is_empty();
                if is_joined || !self.filters.is_empty() {
                    add(&mut columns, &plan::TRACED);
                }
                let usage = match units.kind {
                    Kind::OwnUsage => plan::usage_of(&columns),
                    _ => Vec::new(),
                };
                if !usage.is_empty() {
                    add(&mut columns, &[Column::Id]);
                }
                if self.asking.at_once {
                    add(&mut columns, &[Column::ParentRunId]);
                }
                let kept = columns.clone();
                let read = self.filter.map_or(columns, |filter| filter.with_own(&kept));
                let runs = self.first(self.files.runs(&read, &units.wanted)?)?;
                let mut runs = plan::populated(runs, self.runs)?;
                if !self.filters.is_empty() {
                    runs = self
                        .filters
                        .of_their_traces(self.files, runs, &read, self.all)?;
                }
                if is_joined {
                    runs = plan::with_facts(runs, self.facts_of_roots(split, &of_root)?)?;
                }
                if let Some(filter) = self.filter {
                    runs = filter.kept(runs)?;
                }
                if self.asking.at_once {
                    let mut of_parents = split.labels().read(self.runs);
                    add(&mut of_parents, &[Column::Id]);
                    let again = self.files.runs(&of_parents, &units.wanted)?;
                    return plan::own_usage_at_once(split, runs, again, &usage);
                }
                // Filters speak of what a run carries, not of its own part.
                if !usage.is_empty() {
                    runs = self.with_own_usage(runs, &usage)?;
                }
                split.runs(self.with_more(split, runs)?, &[])
            }
        }
    }

    /// Runs with what they used themselves, in these columns.
    fn with_own_usage(
        &self,
        runs: LogicalPlan,
        usage: &[Column],
    ) -> Result<LogicalPlan, DataFusionError> {
        if let Some(below) = self.below.filter(|below| below.usage == usage) {
            return plan::own_usage_above(runs, &below.sums, usage);
        }
        let children = self.files.runs(&plan::of_children(usage), self.children)?;
        plan::own_usage(runs, children, usage)
    }

    /// The columns of roots that keys or a filter read.
    fn of_root(&self, split: &Split<'_>) -> Vec<Column> {
        let of_filter = self.filter.map(RunFilter::of_root).unwrap_or_default();
        let mut columns = split.read_of_roots();
        add(&mut columns, of_filter);
        columns
    }

    fn facts_of_roots(
        &self,
        split: &Split<'_>,
        columns: &[Column],
    ) -> Result<LogicalPlan, DataFusionError> {
        let mut read = columns.to_vec();
        add(&mut read, &plan::TRACED);
        let roots = Wanted {
            only_roots: true,
            ..self.all.clone()
        };
        let mut roots = self.files.runs(&read, &roots)?;
        if split.asks_for_feedback() {
            roots = self.with_feedback(roots)?;
        }
        let of_filter = self.filter.map(RunFilter::of_root).unwrap_or_default();
        split.facts_of_roots(roots, of_filter)
    }

    /// Runs with what is asked of them beside their own columns.
    fn with_more(
        &self,
        split: &Split<'_>,
        mut runs: LogicalPlan,
    ) -> Result<LogicalPlan, DataFusionError> {
        if split.asks_for_failed_traces() {
            let all = self.files.runs(&plan::failing(), self.all)?;
            runs = plan::with_facts(runs, plan::failed_traces(all)?)?;
        }
        if split.asks_for_feedback() {
            runs = self.with_feedback(runs)?;
        }
        Ok(runs)
    }

    /// Runs, which have their id, with the feedback of records, where there are any.
    fn with_feedback(&self, runs: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let Some((on_runs, _)) = self.records else {
            return Ok(runs);
        };
        LogicalPlanBuilder::new(feedback_table(on_runs)?)
            .join(
                runs,
                JoinType::Right,
                (vec![plan::FEEDBACK_RUN], vec![Column::Id.name()]),
                None,
            )?
            .build()
    }
}

fn add(columns: &mut Vec<Column>, more: &[Column]) {
    for column in more {
        if !columns.contains(column) {
            columns.push(*column);
        }
    }
}

/// Rows of [`Split::tally`].
pub(super) fn read_groups(
    batch: &RecordBatch,
    n_labels: usize,
    mut read: impl FnMut(GroupRow) -> Result<()>,
) -> Result<()> {
    let tallies = Rows::of(batch);
    let labels = Labels::of(batch, n_labels)?;
    let buckets = batch.column_by_name(plan::BUCKET);
    let buckets =
        buckets.and_then(|buckets| buckets.as_primitive_opt::<TimestampMicrosecondType>());
    for row in 0..batch.num_rows() {
        read(GroupRow {
            labels: labels.at(row),
            start_us: buckets.map(|buckets| buckets.value(row)),
            tally: tallies.tally(row)?,
        })?;
    }
    Ok(())
}

/// Rows of [`Split::list`].
fn read_runs(batch: &RecordBatch, mut read: impl FnMut(RunRow)) {
    for row in 0..batch.num_rows() {
        let text = |name: &str| {
            let texts = batch.column_by_name(name)?.as_string_view_opt()?;
            texts.is_valid(row).then(|| texts.value(row).to_owned())
        };
        let time = |column: Column| {
            let times = batch.column_by_name(column.name())?;
            let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
            times.is_valid(row).then(|| times.value(row))
        };
        // Sums of a trace's runs are wider than what one carries.
        let number = |column: Column| {
            let numbers = batch.column_by_name(column.name())?;
            if numbers.is_null(row) {
                return None;
            }
            let whole = numbers.as_primitive_opt::<Int64Type>();
            let sums = numbers.as_primitive_opt::<Decimal128Type>();
            let whole = whole.map(|numbers| i128::from(numbers.value(row)));
            whole.or_else(|| sums.map(|sums| sums.value(row)))
        };
        let parts = |total, prompt, completion| Parts {
            total: number(total),
            prompt: number(prompt),
            completion: number(completion),
        };
        read(RunRow {
            id: text(Column::Id.name()),
            session_id: text(Column::SessionId.name()).unwrap_or_default(),
            trace_id: text(Column::TraceId.name()),
            name: text(Column::Name.name()),
            run_type: text(Column::RunType.name()),
            status: text(Column::Status.name()),
            start_us: time(Column::StartTime).unwrap_or_default(),
            end_us: time(Column::EndTime),
            first_token_us: time(Column::FirstTokenTime),
            tokens: parts(
                Column::TotalTokens,
                Column::PromptTokens,
                Column::CompletionTokens,
            ),
            cost_pico: parts(
                Column::TotalCost,
                Column::PromptCost,
                Column::CompletionCost,
            ),
            error_class: text(plan::ERROR_CLASS),
            error: text(Column::Error.name()),
            model: text(Column::Model.name()),
            user: text(Column::User.name()),
            thread: text(Column::Thread.name()),
            recorded: recorded(batch, row),
        });
    }
}

/// What else is recorded of the run in a row.
fn recorded(batch: &RecordBatch, row: usize) -> Recorded {
    let value = |column: Column| batch.column_by_name(column.name());
    let text = |column: Column| {
        let texts = value(column)?.as_string_view_opt()?;
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let tags = || {
        let lists = value(Column::Tags)?.as_list_opt::<i32>()?;
        let texts = lists.is_valid(row).then(|| lists.value(row))?;
        let texts = texts.as_string_view_opt()?;
        Some(texts.iter().flatten().map(str::to_owned).collect())
    };
    let is_root = || {
        let flags = value(Column::IsRoot)?.as_boolean_opt()?;
        flags.is_valid(row).then(|| flags.value(row))
    };
    Recorded {
        tenant_id: text(Column::TenantId),
        parent_run_id: text(Column::ParentRunId).filter(|id| !id.is_empty()),
        reference_example_id: text(Column::ReferenceExampleId).filter(|id| !id.is_empty()),
        trace_tier: text(Column::TraceTier),
        dotted_order: text(Column::DottedOrder),
        is_root: is_root(),
        tags: tags(),
        extra: text(Column::Extra),
        feedback_stats: text(Column::FeedbackStats),
        inputs: text(Column::Inputs),
        outputs: text(Column::Outputs),
        events: text(Column::Events),
    }
}

/// The labels of groups in rows.
struct Labels<'b>(Vec<&'b StringViewArray>);

impl<'b> Labels<'b> {
    fn of(batch: &'b RecordBatch, n_labels: usize) -> Result<Self> {
        let labels = (0..n_labels).map(|place| {
            let column = batch.column_by_name(&plan::label(place));
            let labels = column.and_then(|column| column.as_string_view_opt());
            labels.ok_or_else(|| Error::BadData {
                problem: format!("no label in place {place}"),
            })
        });
        labels.collect::<Result<Vec<_>>>().map(Self)
    }

    fn at(&self, row: usize) -> Vec<Option<String>> {
        let labels = self.0.iter();
        labels
            .map(|labels| labels.is_valid(row).then(|| labels.value(row).to_owned()))
            .collect()
    }
}
