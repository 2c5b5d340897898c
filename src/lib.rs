//! **runtally** computes LangSmith's project statistics locally, straight from raw run logs.
//!
//! The document that `GET /api/v1/sessions/{session_id}?include_stats=true` answers (percentiles of
//! latency and time to first token, token and cost sums, error and streaming rates, feedback), from
//! Parquet exports or dumps in JSON, on your machine:
//!
//! ```
//! # #[tokio::main] async fn main() -> runtally::Result<()> {
//! use runtally::{Engine, Limits, Request, Source, SourceOptions};
//! let engine = Engine::new(&Limits::default())?;
//! let source = Source::open(["testdata/demo"], &SourceOptions::default())?;
//! let answer = runtally::sessions(&engine, &source, &Request::default()).await?;
//! println!("{} took {:?} s", answer.sessions[0].name, answer.sessions[0].latency_p50);
//! # assert!(answer.sessions[0].run_count > Some(0)); Ok(()) }
//! ```
//!
//! # The map
//!
//! Data goes one way, from the top to the bottom; a test holds who may import whom.
//!
//! | module | what it is |
//! |---|---|
//! | `request` | what is asked: projects, window |
//! | `filter` | the filter language: text → tree → what it means |
//! | `source` | where runs lie: files, their formats, their footers, the side files |
//! | `runs` | the canonical table: one row a run |
//! | `traces` | runs → one row a trace, where roots carry only what they used themselves |
//! | `tally` | the mergeable aggregate of traces: counts, exact sums, sketches, feedback |
//! | `plan` | runs → tallies as query plans |
//! | `engine` | executes plans within threads and memory |
//! | `document` | tally and metadata → the API's document |
//! | `output` | documents → bytes |
//! | `convert` | runs → Parquet in the layout of an export, written anew |
//! | `server` | the HTTP API: request → `Request` → document |
//! | `generate` | seeded synthetic exports |
//!
//! # Why not …
//!
//! - **SQL over the files?** It would have to know which rows are roots, that roots already contain
//!   their children's tokens, what a project without traces answers, how the service interpolates
//!   percentiles, and that sums of doubles depend on their order. That is what this crate knows.
//! - **a t-digest or a sample?** Their answers depend on the order of arrival or on chance. Here groups
//!   of up to 256 values are exact, larger ones within 0.1 %, and the same runs give the same bytes
//!   however they are split over files, threads and machines.

mod convert;
mod document;
mod engine;
mod error;
pub mod filter;
pub mod generate;
pub mod output;
mod plan;
pub mod request;
mod runs;
#[cfg(feature = "serve")]
pub mod server;
mod source;
pub mod tally;
mod time;
mod traces;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek};

pub use convert::{ConvertOptions, Converted, convert};
pub use document::{
    Attainment, Audit, AuditedProject, Bucket, Cause, Comparison, Cost, CostFormat, Coverage,
    CoverageUnit, Distribution, FeedbackStats, FieldComparison, Figure, Finding, Group, Label,
    Nanoseconds, OtherDocument, Overview, RunFacet, RunLine, RunRecord, Session,
    SessionFeedbackStat, Thousandths, Timestamp, TracerSession, Verdict,
};
pub use engine::{Engine, Limits, Progress};
pub use error::{Error, Result, SkippedFile};
pub use filter::{Filter, FilterError};
pub use request::{
    Breakdown, Clock, Every, FailOn, FindingKind, Key, LinkTemplate, Listing, Measure, Objective,
    Population, Projects, Request, RunOrder, RunPage, RunPlace, Severity, Sort, SortBy, Usage,
    Window,
};
pub use source::projects::{FeedbackRecord, Place, Project, SideFileError};
pub use source::{ColumnInfo, Dedup, FormatInfo, OnBadFile, Source, SourceOptions, formats};

use chrono::NaiveDate;
use uuid::Uuid;

use document::{Evidence, Gathered, Known, Making, Meaning, Says, Series, assemble};
use engine::{Audited as Counted, GroupRow, Part, ProjectTally, RunRow, Stop, Tallied};
use plan::{LISTED, Split};
use runs::Column;
use source::FileFacts;
use tally::{Tally, TallyColumn};

/// The answer to a request for projects.
#[derive(Debug)]
pub struct Sessions {
    /// The documents, newest `start_time` first, then by id.
    pub sessions: Vec<TracerSession>,
    /// The same projects in the same order, as lines of a table; empty where no statistics were asked for.
    pub overviews: Vec<Overview>,
    /// All of them together: merged, not averaged. `None` where no statistics were asked for.
    pub total: Option<Overview>,
    /// What should be known of them, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// When the traces start that it is of: what was asked, or where nothing was, what tally files cover.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Traces that were built without their root, which is not among the runs that were looked at.
    pub n_rootless: u64,
    tallied: Tallied,
}

/// What was read of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Files whose runs were read.
    pub n_files: usize,
    /// Files that there are.
    pub n_files_there: usize,
    /// Bytes that were read of columns.
    pub n_bytes: u64,
    /// Bytes of all files.
    pub n_bytes_there: u64,
    /// How many files were recognized as which format, by what it is called.
    pub formats: BTreeMap<&'static str, usize>,
}

impl Sessions {
    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> String {
        self.tallied.explain()
    }

    /// The same documents as v2 of the API shows them.
    #[must_use]
    pub fn v2(&self) -> Vec<Session> {
        let sessions = self.sessions.iter().filter_map(|session| {
            let project = self.tallied.projects.get(&session.id)?;
            let feedback = project.tally.as_ref().map(|tally| &tally.feedback);
            Some(Session::of(
                session.clone(),
                feedback,
                &project.session_feedback,
            ))
        });
        sessions.collect()
    }

    /// Shows costs as JSON numbers or as strings.
    #[must_use]
    pub fn with_costs_as(mut self, format: CostFormat) -> Self {
        for session in &mut self.sessions {
            let costs = [
                &mut session.total_cost,
                &mut session.prompt_cost,
                &mut session.completion_cost,
            ];
            for cost in costs.into_iter().flatten() {
                cost.format = format;
            }
        }
        let overviews = self.overviews.iter_mut().chain(&mut self.total);
        for cost in overviews.filter_map(|overview| overview.cost.as_mut()) {
            cost.format = format;
        }
        self
    }
}

/// Answers a request: the documents of the projects that were asked for.
///
/// # Errors
///
/// [`Error::NoSuchProject`] or [`Error::AmbiguousProject`] where a project was asked for by a name that
/// none or several have; [`Error::BadInput`] with the path of the first file that cannot be read as what
/// it should be; [`Error::Memory`] where the limit does not suffice.
pub async fn sessions(engine: &Engine, source: &Source, request: &Request) -> Result<Sessions> {
    let tallied = engine::answer(engine, source, request).await?;
    let mut answers = Vec::with_capacity(tallied.projects.len());
    for (id, project) in &tallied.projects {
        let known = known(*id, project)?;
        let metadata = source.metadata_for(*id, request.tenant);
        answers.push((document(metadata, *id, project, &known), project, known));
    }
    answers.sort_by_key(|(session, ..)| (Reverse(session.start_time), session.id));
    let overviews = answers.iter().filter_map(|(session, project, known)| {
        let tally = project.tally.as_ref()?;
        let (id, name) = (Some(session.id), session.name.clone());
        let days = project.days.clone();
        Some(Overview::new(id, name, known, tally, days, project.usage))
    });
    Ok(Sessions {
        overviews: overviews.collect(),
        total: total(answers.iter().map(|(_, project, known)| (*project, known)))?,
        span: span(tallied.projects.values()),
        window: tallied.window,
        read: read(source, &tallied),
        warnings: warnings(source, &tallied)?,
        sessions: answers.into_iter().map(|(session, ..)| session).collect(),
        skipped: tallied.skipped.clone(),
        n_rootless: (tallied.projects.values())
            .map(|project| project.n_rootless)
            .sum(),
        tallied,
    })
}

/// The answer to a request for statistics of groups of runs.
#[derive(Debug)]
pub struct Stats {
    /// What was asked: which runs, the keys, the measures in the order of the groups' figures.
    pub breakdown: Breakdown,
    /// The groups, sorted; the last may be that of all beyond the limit. Empty where no key was asked for.
    pub groups: Vec<Group>,
    /// All runs together, each once.
    pub total: Group,
    /// Whether a run can be in several groups, so that these add up to more than the total.
    pub overlaps: bool,
    /// Whose tokens and costs were summed, where that was asked for.
    pub usage: Usage,
    /// What should be known of them, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// When the traces start that it is of: what was asked, or where nothing was, what tally files cover.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    plans: String,
}

impl Stats {
    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> &str {
        &self.plans
    }
}

/// Answers a request with statistics of groups of runs.
///
/// # Errors
///
/// Those of [`sessions`].
pub async fn stats(
    engine: &Engine,
    source: &Source,
    request: &Request,
    breakdown: &Breakdown,
) -> Result<Stats> {
    let measures: Vec<Measure> = asked(breakdown).cloned().collect();
    let columns = document::needed(&measures);
    let overlaps = breakdown.by.iter().any(Key::is_multiple);
    let split = Split {
        by: &breakdown.by,
        every: breakdown.every.as_ref(),
        columns: &columns,
        kept: &[],
        own_feedback: source.feedback().is_none(),
    };
    let looked_at = split.looked_at(&breakdown.runs);
    let answer = engine::split(
        engine,
        source,
        request,
        &breakdown.runs,
        &looked_at,
        &[],
        async |groups, tallied| {
            let known = ProjectNames::of(source, tallied)?;
            let making = Making {
                breakdown,
                meaning: &known,
            };
            groups.check_columns(&columns, |missing| telling(&measures, missing))?;
            grouped(groups, &making, &columns, &tallied.window).await
        },
    );
    let ((groups, total), tallied) = answer.await?;
    Ok(Stats {
        breakdown: breakdown.clone(),
        groups,
        total,
        overlaps,
        usage: usage_of(&tallied),
        warnings: warnings(source, &tallied)?,
        read: read(source, &tallied),
        window: tallied.window,
        span: span(tallied.projects.values()),
        plans: tallied.explain(),
        skipped: tallied.skipped,
    })
}

/// The figures that are asked for, that by which groups are sorted too.
fn asked(breakdown: &Breakdown) -> impl Iterator<Item = &Measure> {
    let sorted_by = match &breakdown.sort.by {
        SortBy::Measure(measure) => Some(measure),
        SortBy::Key(_) => None,
    };
    breakdown.measures.iter().chain(sorted_by)
}

/// The names of the measures that need one of these columns.
fn telling(measures: &[Measure], columns: &BTreeSet<TallyColumn>) -> String {
    let needs = |measure: &&Measure| {
        let needed = document::needed(std::slice::from_ref(*measure));
        !needed.is_disjoint(columns)
    };
    let names: BTreeSet<String> = (measures.iter().filter(needs))
        .map(ToString::to_string)
        .collect();
    Vec::from_iter(names).join(", ")
}

/// Tallies of groups of runs, as a file that is a source like any other.
#[derive(Debug)]
pub struct Tallies {
    /// Whose tokens and costs were summed.
    pub usage: Usage,
    /// What should be known of them, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// When the traces start that it is of: what was asked, or where nothing was, what tally files cover.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    file: File,
    plans: String,
}

impl Tallies {
    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> &str {
        &self.plans
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// Where the writer fails.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        io::copy(&mut file, out).map(drop)
    }
}

/// Makes a tally file: the tallies of groups of runs that a breakdown asks for, with all parts that its
/// figures need and those of documents; its order and its limit play no part.
///
/// # Errors
///
/// Those of [`sessions`], and [`Error::Usage`] for facets, which no tally has.
pub async fn tallies(
    engine: &Engine,
    source: &Source,
    request: &Request,
    breakdown: &Breakdown,
) -> Result<Tallies> {
    if request.facets || breakdown.measures.contains(&Measure::RunFacets) {
        return Err(Error::Usage {
            problem: "a tally file has no facets".to_owned(),
            hint: Some("leave out --facets".to_owned()),
        });
    }
    let mut columns = document::needed(&breakdown.measures);
    columns.extend(TallyColumn::DOCUMENT);
    let Breakdown {
        runs, by, every, ..
    } = breakdown;
    let split = Split {
        by,
        every: every.as_ref(),
        columns: &columns,
        kept: &[],
        own_feedback: source.feedback().is_none(),
    };
    let looked_at = split.looked_at(runs);
    let answer = engine::split(
        engine,
        source,
        request,
        runs,
        &looked_at,
        &[],
        async |groups, tallied| {
            groups.check_columns(&columns, |missing| telling(&breakdown.measures, missing))?;
            groups.store(&split, request, tallied).await
        },
    );
    let (file, tallied) = answer.await?;
    Ok(Tallies {
        usage: usage_of(&tallied),
        warnings: warnings(source, &tallied)?,
        read: read(source, &tallied),
        window: tallied.window,
        span: span(tallied.projects.values()),
        plans: tallied.explain(),
        skipped: tallied.skipped,
        file,
    })
}

/// Groups, their spans of time and the total, in as few passes as it takes.
async fn grouped(
    groups: &mut engine::Groups<'_>,
    making: &Making<'_>,
    columns: &BTreeSet<TallyColumn>,
    window: &Window,
) -> Result<(Vec<Group>, Group), Stop> {
    let Breakdown { by, every, .. } = making.breakdown;
    let own_feedback = groups.has_own_feedback();
    let pass = |by, every| Split {
        by,
        every,
        columns,
        kept: &[],
        own_feedback,
    };
    let overlaps = by.iter().any(Key::is_multiple);
    let (mut found, mut total) = (Vec::new(), None);
    if !by.is_empty() {
        let gathered = groups
            .pass(&pass(by, None), |gathered: &mut Gathered, row: GroupRow| {
                making.add(gathered, row.labels, row.tally)
            })
            .await?;
        let (all, sum) = making.finish(gathered)?;
        found = all;
        total = (!overlaps).then_some(sum);
    }
    let mut series = Series::default();
    if every.is_some() && !by.is_empty() {
        let places = found.iter().enumerate();
        let places: BTreeMap<&[Label], usize> = places
            .map(|(place, group)| (group.labels.as_slice(), place))
            .collect();
        series = groups
            .pass(
                &pass(by, every.as_ref()),
                |series: &mut Series, row: GroupRow| {
                    let start_us = row.start_us.unwrap_or_default();
                    making.add_bucket(series, &places, row.labels, start_us, &row.tally)
                },
            )
            .await?;
    }
    if every.is_some() && (by.is_empty() || overlaps) {
        series.total = groups
            .pass(
                &pass(&[], every.as_ref()),
                |sums: &mut BTreeMap<i64, Tally>, row: GroupRow| {
                    let start_us = row.start_us.unwrap_or_default();
                    sums.entry(start_us).or_default().merge(&row.tally)
                },
            )
            .await?;
    }
    let total = match total {
        Some(total) => total,
        None if every.is_some() => {
            let mut sum = Tally::default();
            for tally in series.total.values() {
                sum.merge(tally)?;
            }
            sum
        }
        None => {
            groups
                .pass(&pass(&[], None), |sum: &mut Tally, row: GroupRow| {
                    sum.merge(&row.tally)
                })
                .await?
        }
    };
    let mut total = making.total(&total);
    if let Some(every) = every {
        let starts = series.total.keys().copied().collect();
        let spans = document::spans(every, window, &starts)?;
        making.spread_total(&series.total, &mut total, &spans);
        making.spread(series, &mut found, &spans)?;
    }
    if making.breakdown.measures.contains(&Measure::RunFacets) {
        let of_groups = if by.is_empty() {
            BTreeMap::new()
        } else {
            groups.facets(by).await?
        };
        let of_all = groups.facets(&[]).await?;
        let of_all = of_all.values().next();
        making.set_facets(of_groups, of_all, &mut found, &mut total);
    }
    making.complete(&mut found, &mut total);
    Ok((found, total))
}

/// The answer to a request for runs one by one.
#[derive(Debug)]
pub struct Runs {
    /// The first of them, in the order that was asked for.
    pub runs: Vec<RunLine>,
    /// Whose tokens and costs traces have.
    pub usage: Usage,
    /// What should be known of them, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// When the runs start that are asked for.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    plans: String,
}

impl Runs {
    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> &str {
        &self.plans
    }
}

/// Answers a request with the first runs in an order.
///
/// # Errors
///
/// Those of [`sessions`].
pub async fn runs(
    engine: &Engine,
    source: &Source,
    request: &Request,
    listing: &Listing,
) -> Result<Runs> {
    let answer = engine::split(
        engine,
        source,
        request,
        &listing.runs,
        &[],
        LISTED,
        async |groups, tallied| {
            let names = ProjectNames::of(source, tallied)?;
            groups
                .list(listing, |lines: &mut Vec<RunLine>, run| {
                    lines.push(run_line(run, &names, listing));
                })
                .await
        },
    );
    let (runs, tallied) = answer.await?;
    Ok(Runs {
        runs,
        usage: usage_of(&tallied),
        warnings: warnings(source, &tallied)?,
        read: read(source, &tallied),
        window: tallied.window,
        span: span(tallied.projects.values()),
        plans: tallied.explain(),
        skipped: tallied.skipped,
    })
}

fn run_line(run: RunRow, names: &ProjectNames, listing: &Listing) -> RunLine {
    let since_start = |us: Option<i64>| {
        let us = us?.checked_sub(run.start_us)?;
        Some(Nanoseconds(u128::try_from(us).ok()? * 1000))
    };
    let cost = |pico: Option<i128>| pico.map(document::cost);
    // A root's trace is called as the root is, also where nothing says so.
    let is_root = listing.runs == Population::Traces;
    let trace_id = run.trace_id.or_else(|| run.id.clone().filter(|_| is_root));
    let link = listing.link.as_ref();
    let link = link.and_then(|template| {
        template.link(run.id.as_deref(), trace_id.as_deref(), &run.session_id)
    });
    RunLine {
        link,
        project: names.name(&run.session_id),
        id: run.id,
        trace_id,
        session_id: run.session_id,
        name: run.name,
        run_type: run.run_type,
        status: run.status,
        start_time: Timestamp(run.start_us),
        end_time: run.end_us.map(Timestamp),
        latency: since_start(run.end_us),
        first_token: since_start(run.first_token_us),
        total_tokens: run.tokens.total,
        prompt_tokens: run.tokens.prompt,
        completion_tokens: run.tokens.completion,
        total_cost: cost(run.cost_pico.total),
        prompt_cost: cost(run.cost_pico.prompt),
        completion_cost: cost(run.cost_pico.completion),
        error_class: run.error_class,
        error: run.error,
        model: run.model,
        user: run.user,
        thread: run.thread,
    }
}

/// Answers a request with a page of runs, each as it was recorded: its tokens and costs are those that it
/// carries. Runs without an id are in no page.
///
/// # Errors
///
/// Those of [`sessions`].
pub async fn run_page(
    engine: &Engine,
    source: &Source,
    request: &Request,
    page: &RunPage,
) -> Result<Vec<RunRecord>> {
    let request = Request {
        usage: match page.runs {
            Population::Traces => Usage::Roots,
            _ => Usage::Own,
        },
        ..request.clone()
    };
    // Which runs these are first: what is recorded of them is most of the bytes.
    let places = page_of(engine, source, &request, page, plan::PLACED).await?;
    let starts = places.iter().map(|run| run.start_us);
    let Some((first, last)) = starts.clone().min().zip(starts.max()) else {
        return Ok(Vec::new());
    };
    let ids = places.iter().filter_map(|run| run.id.as_deref());
    let ids = filter::Value::List(ids.map(filter::Value::text).collect());
    let are_these = Filter::compare(filter::Field::Id, filter::Operator::In, ids);
    let request = Request {
        window: Window::between(Some(first), last.checked_add(1)),
        filter: are_these.ok(),
        trace_filter: None,
        tree_filter: None,
        ..request
    };
    let mut columns = plan::RECORDED.to_vec();
    let more = [
        (page.inputs, Column::Inputs),
        (page.outputs, Column::Outputs),
        (page.events, Column::Events),
    ];
    columns.extend(
        more.iter()
            .filter(|(is_asked, _)| *is_asked)
            .map(|(_, column)| *column),
    );
    let page = RunPage {
        after: None,
        limit: page.limit.saturating_mul(2),
        ..page.clone()
    };
    let runs = page_of(engine, source, &request, &page, &columns).await?;
    let mut found: BTreeMap<_, RunRow> = BTreeMap::new();
    for run in runs {
        found.insert((run.session_id.clone(), run.id.clone()), run);
    }
    let records = places.into_iter().filter_map(|place| {
        let run = found.remove(&(place.session_id, place.id))?;
        run_record(run)
    });
    Ok(records.collect())
}

/// A page of runs with some columns.
async fn page_of(
    engine: &Engine,
    source: &Source,
    request: &Request,
    page: &RunPage,
    columns: &[Column],
) -> Result<Vec<RunRow>> {
    let answer = engine::split(
        engine,
        source,
        request,
        &page.runs,
        &[],
        columns,
        async |groups, _| {
            groups
                .page(page, columns, |runs: &mut Vec<RunRow>, run| runs.push(run))
                .await
        },
    );
    answer.await.map(|(runs, _)| runs)
}

fn run_record(run: RunRow) -> Option<RunRecord> {
    let cost = |pico: Option<i128>| pico.map(document::cost);
    let recorded = run.recorded;
    let extra = recorded.extra.as_deref();
    Some(RunRecord {
        trace_id: run.trace_id.or_else(|| run.id.clone()),
        id: run.id?,
        name: run.name.unwrap_or_default(),
        run_type: run.run_type.unwrap_or_else(|| "chain".to_owned()),
        start_time: Timestamp(run.start_us),
        end_time: run.end_us.map(Timestamp),
        status: run.status,
        session_id: run.session_id,
        tenant_id: recorded.tenant_id,
        parent_run_id: recorded.parent_run_id,
        is_root: recorded.is_root,
        dotted_order: recorded.dotted_order.unwrap_or_default(),
        reference_example_id: recorded.reference_example_id,
        first_token_time: run.first_token_us.map(Timestamp),
        total_tokens: run.tokens.total,
        prompt_tokens: run.tokens.prompt,
        completion_tokens: run.tokens.completion,
        total_cost: cost(run.cost_pico.total),
        prompt_cost: cost(run.cost_pico.prompt),
        completion_cost: cost(run.cost_pico.completion),
        error: run.error,
        tags: recorded.tags,
        extra: document::object(extra, "extra"),
        feedback_stats: document::object(recorded.feedback_stats.as_deref(), "feedback"),
        trace_tier: recorded.trace_tier,
        inputs: document::object(recorded.inputs.as_deref(), "input"),
        outputs: document::object(recorded.outputs.as_deref(), "output"),
        events: document::objects(recorded.events.as_deref()),
    })
}

/// The answer to a request for an audit.
#[derive(Debug)]
pub struct Audited {
    /// What the source has, and what may be wrong with it.
    pub audit: Audit,
    /// What should be known of it, a sentence each, and is no finding.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// The window that it is of.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    plans: String,
}

impl Audited {
    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> &str {
        &self.plans
    }
}

/// Audits the runs that a request asks for. Runs without an end are old a day before `now_us`, else before
/// the latest run; filters choose traces by their roots.
///
/// # Errors
///
/// Those of [`sessions`].
pub async fn audit(
    engine: &Engine,
    source: &Source,
    request: &Request,
    now_us: Option<i64>,
) -> Result<Audited> {
    let (counted, tallied) = engine::audit(engine, source, request, now_us).await?;
    let projects = audited_projects(&counted, &tallied, source);
    let n_of_files = |n: fn(&FileFacts) -> u64| counted.files.iter().map(n).sum();
    let mut formats: BTreeMap<String, u64> = BTreeMap::new();
    for file in &counted.files {
        *formats.entry(file.format.to_owned()).or_default() += 1;
    }
    let missing: BTreeSet<String> = counted.missing.iter().map(ToString::to_string).collect();
    let warnings = tallied.warnings.iter();
    let warnings = warnings.filter(|warning| !missing.contains(*warning));
    Ok(Audited {
        window: request.window,
        audit: Audit {
            formats,
            n_files: counted.files.len() as u64,
            n_records: n_of_files(|file| file.n_rows),
            n_bytes: n_of_files(|file| file.n_bytes),
            first_start_time: projects.iter().filter_map(|one| one.first_start_time).min(),
            last_start_time: projects.iter().filter_map(|one| one.last_start_time).max(),
            findings: findings(&counted, &projects),
            projects,
            against: None,
        },
        warnings: warnings.cloned().collect(),
        read: read(source, &tallied),
        span: span(tallied.projects.values()),
        plans: tallied.explain(),
        skipped: tallied.skipped,
    })
}

/// Audits the only project that a request asks for, and compares its document with another.
///
/// # Errors
///
/// Those of [`sessions`]; [`Error::Usage`] where the request asks for several projects.
pub async fn audit_against(
    engine: &Engine,
    source: &Source,
    request: &Request,
    now_us: Option<i64>,
    other: &OtherDocument,
) -> Result<Audited> {
    let mut request = request.clone();
    if request.projects == Projects::All {
        request.projects = Projects::Only;
    }
    let answer = sessions(engine, source, &request).await?;
    let mut audited = audit(engine, source, &request, now_us).await?;
    let ours = answer.sessions.first().map(serde_json::to_value);
    let ours = ours.and_then(Result::ok).unwrap_or_default();
    let id = answer.sessions.first().map(|session| session.id);
    let count = |kind| {
        let found = audited
            .audit
            .findings
            .iter()
            .find(|finding| finding.kind == kind);
        found.map_or(0, |finding| finding.count)
    };
    let mut found = audited.audit.findings.iter();
    let gaps = found.find(|finding| finding.kind == FindingKind::Gaps);
    let starts = audited.audit.projects.first();
    let evidence = Evidence {
        first_us: starts
            .and_then(|project| project.first_start_time)
            .map(|time| time.0),
        last_us: starts
            .and_then(|project| project.last_start_time)
            .map(|time| time.0),
        gaps: gaps
            .map(|finding| finding.details.clone())
            .unwrap_or_default(),
        by_other_rule: by_other_rule(engine, source, &request, &answer).await,
        n_pending: count(FindingKind::PendingOld),
        n_repeated: count(FindingKind::CountedTwice),
        has_metadata: id.is_some_and(|id| source.metadata(id).is_some()),
    };
    audited.audit.against = Some(document::compare(&ours, other, &evidence));
    Ok(audited)
}

/// The document with the usage that an answer does not have; none where the runs cannot say it.
async fn by_other_rule(
    engine: &Engine,
    source: &Source,
    request: &Request,
    answer: &Sessions,
) -> Option<(&'static str, serde_json::Value)> {
    let (usage, rule) = match answer.overviews.first()?.usage {
        Usage::Own => (Usage::Roots, "roots"),
        Usage::Roots | Usage::Auto => (Usage::Own, "own"),
    };
    let request = Request {
        usage,
        ..request.clone()
    };
    let answer = sessions(engine, source, &request).await.ok()?;
    let document = serde_json::to_value(answer.sessions.first()?).ok()?;
    Some((rule, document))
}

/// What the source has of each project.
fn audited_projects(counted: &Counted, tallied: &Tallied, source: &Source) -> Vec<AuditedProject> {
    let sizes = counted.files.iter().map(|file| (&file.path, file.n_bytes));
    let sizes: BTreeMap<&String, u64> = sizes.collect();
    let projects = tallied.projects.keys().map(|id| {
        let parts = counted
            .parts
            .iter()
            .filter(|((project, _), _)| project == id);
        let parts: Vec<_> = parts.map(|((_, path), part)| (path, part)).collect();
        let sum = |n: fn(&Part) -> u64| parts.iter().map(|(_, part)| n(part)).sum();
        let hours = counted.hours.get(id);
        AuditedProject {
            id: *id,
            name: source
                .metadata(*id)
                .and_then(|project| project.name.clone()),
            n_files: parts.len() as u64,
            n_bytes: parts.iter().filter_map(|(path, _)| sizes.get(path)).sum(),
            n_runs: sum(|part| part.n_runs),
            n_traces: sum(|part| part.n_traces),
            first_start_time: parts
                .iter()
                .filter_map(|(_, part)| part.first_us)
                .min()
                .map(Timestamp),
            last_start_time: parts
                .iter()
                .filter_map(|(_, part)| part.last_us)
                .max()
                .map(Timestamp),
            coverage: hours.and_then(Coverage::of_hours),
        }
    });
    projects.collect()
}

/// What was found, the gravest first.
fn findings(counted: &Counted, projects: &[AuditedProject]) -> Vec<Finding> {
    let of_runs = counted.found.iter().filter_map(|(kind, found)| {
        let place = found.example.clone().unwrap_or_default();
        Some(Finding {
            example_run_id: place.id,
            example_file: place.file,
            ..Finding::new(*kind, found.n, found.of)?
        })
    });
    let mut findings: Vec<Finding> = of_runs.collect();
    findings.extend(gaps_of(counted, projects));
    findings.extend(missing_columns(counted));
    findings.extend(empty_files(counted));
    findings.extend(nameless(projects));
    findings.sort_by_key(|finding| finding.kind);
    findings
}

/// The gaps of all projects.
fn gaps_of(counted: &Counted, projects: &[AuditedProject]) -> Option<Finding> {
    let (mut n_missing, mut n_hours, mut details) = (0, 0, Vec::new());
    for project in projects {
        let Some(hours) = counted.hours.get(&project.id) else {
            continue;
        };
        let span = hours.keys().next_back().zip(hours.keys().next());
        n_hours += span.map_or(0, |(last, first)| last.abs_diff(*first) + 1);
        for gap in document::gaps(hours) {
            n_missing += gap.n_hours();
            details.push(format!("{}: {gap}", project.label()));
        }
    }
    Some(Finding {
        details,
        ..Finding::new(FindingKind::Gaps, n_missing, n_hours)?
    })
}

fn missing_columns(counted: &Counted) -> Option<Finding> {
    let sample = counted.missing.first().map(|column| &column.sample);
    Some(Finding {
        example_file: sample.map(|path| path.display().to_string()),
        details: counted.missing.iter().map(ToString::to_string).collect(),
        ..Finding::new(
            FindingKind::MissingColumns,
            counted.n_lacking as u64,
            counted.files.len() as u64,
        )?
    })
}

fn empty_files(counted: &Counted) -> Option<Finding> {
    let n_files = counted.files.len() + counted.empty.len();
    Some(Finding {
        example_file: counted.empty.first().cloned(),
        ..Finding::new(
            FindingKind::EmptyFiles,
            counted.empty.len() as u64,
            n_files as u64,
        )?
    })
}

fn nameless(projects: &[AuditedProject]) -> Option<Finding> {
    let nameless = projects.iter().filter(|project| project.name.is_none());
    let details: Vec<String> = nameless.map(|project| project.id.to_string()).collect();
    let (n_nameless, n_projects) = (details.len() as u64, projects.len() as u64);
    Some(Finding {
        details,
        ..Finding::new(FindingKind::NamelessProjects, n_nameless, n_projects)?
    })
}

/// What is known of the projects that runs are grouped by.
struct ProjectNames {
    names: BTreeMap<String, String>,
    says: BTreeMap<String, Says>,
    of_all: Says,
}

impl ProjectNames {
    fn of(source: &Source, tallied: &Tallied) -> Result<Self> {
        let mut says = BTreeMap::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (id, project) in &tallied.projects {
            let name = source
                .metadata_for(*id, tallied.tenant)
                .and_then(|project| project.name.clone());
            names.insert(id.to_string(), name.unwrap_or_else(|| id.to_string()));
            says.insert(id.to_string(), known(*id, project)?.says);
        }
        let mut n_called: BTreeMap<&String, u64> = BTreeMap::new();
        for name in names.values() {
            *n_called.entry(name).or_default() += 1;
        }
        let told = names.iter().map(|(id, name)| {
            let is_one = n_called.get(name) == Some(&1);
            let told = if is_one {
                name.clone()
            } else {
                format!("{name} ({id})")
            };
            (id.clone(), told)
        });
        let told = told.collect();
        let of_all = says.values().copied().reduce(Says::and).unwrap_or_default();
        Ok(Self {
            names: told,
            says,
            of_all,
        })
    }
}

impl Meaning for ProjectNames {
    fn name(&self, project: &str) -> String {
        let name = self.names.get(project).cloned();
        name.unwrap_or_else(|| project.to_owned())
    }

    fn says(&self, project: Option<&str>) -> Says {
        let says = project.and_then(|project| self.says.get(project));
        says.copied().unwrap_or(self.of_all)
    }
}

/// Whose usage was summed; [`Usage::Auto`] where projects differ.
fn usage_of(tallied: &Tallied) -> Usage {
    let mut usages = tallied.projects.values().map(|project| project.usage);
    let first = usages.next().unwrap_or_default();
    if usages.all(|usage| usage == first) {
        first
    } else {
        Usage::Auto
    }
}

fn read(source: &Source, tallied: &Tallied) -> Read {
    let n_scanned = u64::try_from(tallied.metric("bytes_scanned")).unwrap_or(u64::MAX);
    let n_bytes = tallied.n_json_bytes;
    // Nobody knows before how much comes by standard input.
    let n_bytes_there = source.n_bytes().max(n_bytes);
    Read {
        n_files: tallied.n_files,
        n_files_there: source.n_files(),
        formats: tallied.formats.clone(),
        // Of JSON, also what was read again of the tables that were made of it.
        n_bytes: n_bytes.saturating_add(n_scanned).min(n_bytes_there),
        n_bytes_there,
    }
}

fn document(
    metadata: Option<&Project>,
    id: Uuid,
    project: &ProjectTally,
    known: &Known,
) -> TracerSession {
    let tally = project.tally.as_ref();
    assemble(
        id,
        known,
        metadata,
        tally,
        &project.facets,
        &project.session_feedback,
    )
}

/// All projects together; `None` where there are no statistics.
fn total<'a>(
    projects: impl Iterator<Item = (&'a ProjectTally, &'a Known)>,
) -> Result<Option<Overview>> {
    let mut sum: Option<(Tally, Known, Usage)> = None;
    let mut days: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    for (project, known) in projects {
        let Some(tally) = &project.tally else {
            continue;
        };
        for (day, n_traces) in &project.days {
            *days.entry(*day).or_default() += n_traces;
        }
        match &mut sum {
            None => sum = Some((tally.clone(), known.clone(), project.usage)),
            Some((sum, all_known, usage)) => {
                sum.merge(tally)?;
                all_known.says = all_known.says.and(known.says);
                if *usage != project.usage {
                    *usage = Usage::Auto;
                }
            }
        }
    }
    let name = "total".to_owned();
    Ok(sum.map(|(tally, known, usage)| Overview::new(None, name, &known, &tally, days, usage)))
}

/// From the first to the last start of any run.
fn span<'a>(
    projects: impl Iterator<Item = &'a ProjectTally> + Clone,
) -> Option<(Timestamp, Timestamp)> {
    let first = projects
        .clone()
        .filter_map(|project| project.facts.start_us);
    let last = projects.filter_map(|project| project.facts.last_us);
    Some((Timestamp(first.min()?), Timestamp(last.max()?)))
}

fn known(id: Uuid, project: &ProjectTally) -> Result<Known> {
    let facts = &project.facts;
    let has = |columns: &[Column]| columns.iter().all(|column| facts.columns.contains(column));
    let nothing_says = |what: &str| Error::BadData {
        problem: format!("project {id}: none of its runs has a {what}"),
    };
    Ok(Known {
        tenant_id: *facts
            .tenants
            .first()
            .ok_or_else(|| nothing_says("tenant"))?,
        start_us: facts.start_us.ok_or_else(|| nothing_says("start_time"))?,
        says: Says {
            errors: has(&[Column::IsError]),
            streaming: has(&[Column::EndTime, Column::FirstTokenTime]),
            total_tokens: has(&[Column::TotalTokens]),
            prompt_tokens: has(&[Column::PromptTokens]),
            completion_tokens: has(&[Column::CompletionTokens]),
        },
    })
}

/// What should be known of an answer's figures.
fn warnings(source: &Source, tallied: &Tallied) -> Result<Vec<String>> {
    let mut warnings = tallied.warnings.clone();
    warnings.extend(unread_feedback(source, tallied));
    for (id, project) in &tallied.projects {
        let known = known(*id, project)?;
        warnings.extend(oddities(&known, project).map(|odd| format!("project {id}: {odd}")));
    }
    Ok(warnings)
}

/// What should be known of a project's figures.
fn oddities(known: &Known, project: &ProjectTally) -> impl Iterator<Item = String> {
    let tenants = project.facts.tenants.len();
    let tally = project.tally.as_ref();
    let n_unreadable = tally.map_or(0, |tally| tally.feedback.n_unreadable());
    let feedback = tally
        .map(|tally| tally.feedback.stats())
        .unwrap_or_default();
    let n_out_of_range: u64 = feedback.values().map(|key| key.n_out_of_range).sum();
    let is_doubled =
        project.usage == Usage::Own && tally.is_some_and(|tally| tally.n_composite_usage > 0);
    let n_undecided = project.n_undecided;
    let n_rootless = project.n_rootless;
    [
        (tenants > 1).then(|| {
            format!(
                "its runs are of {tenants} tenants, of which {} is shown",
                known.tenant_id
            )
        }),
        known.tenant_id.is_nil().then(|| {
            "nothing says which tenant its runs are of; --assume-tenant UUID would".to_owned()
        }),
        is_doubled.then(|| {
            let n_composite = tally.map_or(0, |tally| tally.n_composite_usage);
            format!(
                "the roots of {n_composite} traces carry usage without being LLM calls: where that is \
                 their descendants', summing all runs counts it twice"
            )
        }),
        (n_rootless > 0).then(|| {
            format!(
                "{n_rootless} traces were built without their root, which is not among the runs"
            )
        }),
        (n_undecided > 0).then(|| {
            format!(
                "{n_undecided} runs differ between exports that were written in the same second, so \
                 that only their paths decided which counts"
            )
        }),
        (n_unreadable > 0).then(|| {
            format!("the feedback_stats of {n_unreadable} traces cannot be read and are left out")
        }),
        (n_out_of_range > 0)
            .then(|| format!("{n_out_of_range} feedback scores beyond 10^15 are left out")),
    ]
    .into_iter()
    .flatten()
}

/// What of a feedback file could not count.
fn unread_feedback(source: &Source, tallied: &Tallied) -> Vec<String> {
    let Some(records) = source.feedback() else {
        return Vec::new();
    };
    let n_loose = records
        .iter()
        .filter(|record| record.run_id.is_none() && record.session_id.is_none())
        .count();
    let without_ids = tallied
        .projects
        .iter()
        .filter(|(_, project)| !project.facts.columns.contains(&Column::Id))
        .map(|(id, _)| {
            format!("project {id}: its files have no run ids, so no feedback record is of its runs")
        });
    let loose = (n_loose > 0).then(|| {
        format!("{n_loose} feedback records name neither a run nor a project and are left out")
    });
    without_ids.chain(loose).collect()
}
