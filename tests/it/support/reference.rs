//! Runs → `TracerSession` documents, by the most naive means there are.
//!
//! Everything is held in memory, sorted, and computed in whole or big numbers;
//! the last step of each figure is one correctly rounded double. Percentiles
//! are exact for any number of values: `assert_same_documents` allows the
//! product its 0.1 % where a group has more than `EXACT_VALUES` of them, and
//! nothing anywhere else.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDateTime};
use num_bigint::BigInt;
use runtally::filter::Filter;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::evaluate;
use super::exact::{
    Decimal, PICO_PLACES, divide_half_even, plain, quotient, root_of_quotient, ten_to,
};
use super::run::{Cost, DAY_US, Run};
use super::write::CostForm;

/// Groups of up to this many values are exact in the product as well.
pub(crate) const EXACT_VALUES: usize = 256;

/// Fractional digits of a feedback score.
const SCORE_PLACES: u32 = 18;

/// Null without stats, in the document's order.
const NO_STATS: [&str; 18] = [
    "run_count",
    "latency_p50",
    "latency_p99",
    "first_token_p50",
    "first_token_p99",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "last_run_start_time",
    "last_run_start_time_live",
    "feedback_stats",
    "session_feedback_stats",
    "run_facets",
    "error_rate",
    "streaming_rate",
];

/// Whose tokens and costs a trace has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum UsageFrom {
    /// The root's, unless only runs below the roots carry any.
    #[default]
    Auto,
    Roots,
    /// Those of all runs of a trace.
    Own,
}

/// What is asked of the runs.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Inclusive.
    pub(crate) since_us: Option<i64>,
    /// Exclusive.
    pub(crate) until_us: Option<i64>,
    pub(crate) project: Option<Uuid>,
    pub(crate) stats: bool,
    pub(crate) usage: UsageFrom,
    /// How long before and after the window runs may start that belong to a trace in it.
    pub(crate) trace_span_us: i64,
    /// What the root of a trace must be; of other runs, what each must be itself.
    pub(crate) filter: Option<Filter>,
    /// What the root of a trace must be, apart.
    pub(crate) trace_filter: Option<Filter>,
    /// What any of its runs must be, whatever the window.
    pub(crate) tree_filter: Option<Filter>,
    /// Costs as JSON numbers instead of strings.
    pub(crate) cost_number: bool,
    /// Records of `GET /sessions`.
    pub(crate) metadata: Vec<Value>,
    /// Records of `GET /feedback`; they replace the runs' own summaries.
    pub(crate) feedback: Option<Vec<Value>>,
    /// The form in which the files hold costs, where they are not listed.
    pub(crate) cost_form: CostForm,
    /// Columns that no file has, where they are not listed.
    pub(crate) dropped: Vec<&'static str>,
    /// The files; none: all runs lie in one.
    pub(crate) files: Vec<FileForm>,
}

/// A file: which of the runs it holds, and what it can say of them.
#[derive(Debug, Clone)]
pub(crate) struct FileForm {
    pub(crate) rows: Vec<usize>,
    pub(crate) cost_form: CostForm,
    pub(crate) dropped: Vec<&'static str>,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            since_us: None,
            until_us: None,
            project: None,
            stats: true,
            usage: UsageFrom::Auto,
            trace_span_us: DAY_US,
            filter: None,
            trace_filter: None,
            tree_filter: None,
            cost_number: false,
            metadata: Vec::new(),
            feedback: None,
            cost_form: CostForm::Double,
            dropped: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// A document, and how many values its percentiles were taken from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    pub(crate) document: Value,
    pub(crate) n_latencies: usize,
    pub(crate) n_first_tokens: usize,
    /// Whether its traces were built from their runs.
    pub(crate) is_built: bool,
}

/// The documents, newest `start_time` first, then by id.
pub(crate) fn documents(runs: &[Run], question: &Question) -> Vec<Value> {
    let expected = expected(runs, question);
    expected
        .into_iter()
        .map(|expected| expected.document)
        .collect()
}

/// The documents with the sizes of their groups.
pub(crate) fn expected(runs: &[Run], question: &Question) -> Vec<Expected> {
    let rows = rows(runs, question);
    let projects: BTreeSet<Uuid> = runs.iter().map(|run| run.session_id).collect();
    let mut sessions: Vec<(i64, Uuid, Expected)> = projects
        .into_iter()
        .filter(|id| question.project.is_none_or(|wanted| wanted == *id))
        .map(|id| {
            let rows: Vec<&Row> = rows.iter().filter(|row| row.run.session_id == id).collect();
            let (start_us, expected) = session(id, &rows, question);
            (start_us, id, expected)
        })
        .collect();
    sessions.sort_by_key(|(start_us, id, _)| (-start_us, *id));
    sessions
        .into_iter()
        .map(|(_, _, expected)| expected)
        .collect()
}

/// Compares key by key and in the same order; panics with both documents.
///
/// Percentiles of more than `EXACT_VALUES` values may be off by 0.1 %, all
/// else must be the same to the last digit.
pub(crate) fn assert_same_documents(actual: &[Value], expected: &[Expected]) {
    let ids = |documents: Vec<&Value>| -> Vec<String> {
        documents
            .iter()
            .map(|document| document["id"].to_string())
            .collect()
    };
    assert_eq!(
        ids(actual.iter().collect()),
        ids(expected.iter().map(|expected| &expected.document).collect()),
        "not the same projects in the same order (left: actual)"
    );
    for (actual, expected) in actual.iter().zip(expected) {
        if let Err(difference) = compare(actual, expected) {
            panic!(
                "{difference}\nactual:   {actual:#}\nexpected: {:#}\n{} latencies, {} first tokens",
                expected.document, expected.n_latencies, expected.n_first_tokens
            );
        }
    }
}

/// Percentile of type 7 (linear between the neighbours of `q · (n − 1)`) of
/// microseconds, in whole nanoseconds, rounded half to even; `None` of nothing.
pub(crate) fn percentile_ns(values_us: &[i64], q_millionths: u64) -> Option<BigInt> {
    let mut sorted = values_us.to_vec();
    sorted.sort_unstable();
    let million = 1_000_000;
    let last = (sorted.len() as u64).checked_sub(1)?;
    let (low, share) = (q_millionths * last / million, q_millionths * last % million);
    let at = |index: u64| BigInt::from(sorted[usize::try_from(index).unwrap()]);
    let (a, b) = (at(low), at((low + 1).min(last)));
    let millionths = &a * million + (b - &a) * share;
    // Millionths of a microsecond are thousandths of a nanosecond.
    Some(divide_half_even(&millionths, &BigInt::from(1_000)))
}

/// Seconds: the double nearest to whole nanoseconds.
pub(crate) fn seconds(ns: &BigInt) -> f64 {
    quotient(ns, &ten_to(9))
}

/// The newest record of each run: one that has ended before one that has not, then that of the later
/// export. An export is a time in whole seconds and a path.
pub(crate) fn newest<'a>(records: &[(&'a Run, (i64, &str))]) -> Vec<&'a Run> {
    let mut sorted = records.to_vec();
    sorted.sort_by_key(|(run, export)| (run.session_id, run.id, run.end_us.is_some(), *export));
    let mut newest: Vec<&Run> = Vec::new();
    for (run, _) in sorted {
        let is_same = |last: &&Run| (last.session_id, last.id) == (run.session_id, run.id);
        if newest.last().is_some_and(is_same) {
            newest.pop();
        }
        newest.push(run);
    }
    newest
}

/// A run as its file has it, and what the file makes of it.
#[derive(Debug)]
pub(super) struct Row {
    /// Without what the file's columns do not hold.
    pub(super) run: Run,
    /// Total, prompt, completion.
    pub(super) costs: [Option<BigInt>; 3],
    pub(super) is_root: bool,
    pub(super) is_error: bool,
    pub(super) trace: Option<Uuid>,
    /// The columns that the file has, of those that matter; `errors` where it says which runs failed,
    /// `traces` where it says which belong together.
    pub(super) knows: BTreeSet<&'static str>,
}

pub(super) fn rows(runs: &[Run], question: &Question) -> Vec<Row> {
    let all_in_one = FileForm {
        rows: (0..runs.len()).collect(),
        cost_form: question.cost_form,
        dropped: question.dropped.clone(),
    };
    let files = if question.files.is_empty() {
        vec![all_in_one]
    } else {
        question.files.clone()
    };
    let rows = files.iter().flat_map(|file| rows_of_file(runs, file));
    rows.collect()
}

fn rows_of_file(runs: &[Run], file: &FileForm) -> Vec<Row> {
    let has = |column: &str| !file.dropped.contains(&column);
    let runs: Vec<&Run> = file.rows.iter().map(|&row| &runs[row]).collect();
    let has_is_root = has("is_root") && runs.iter().any(|run| run.is_root.is_some());
    let has_status = has("status") && runs.iter().any(|run| run.status.is_some());
    let is_root = |run: &Run| {
        if has_is_root {
            run.is_root == Some(true)
        } else if has("parent_run_id") {
            run.parent_run_id.is_none()
        } else if has("dotted_order") {
            run.dotted_order
                .as_deref()
                .is_some_and(|order| !order.contains('.'))
        } else if has("trace_id") && has("id") {
            run.trace_id == Some(run.id)
        } else {
            true
        }
    };
    let is_error = |run: &Run| {
        if has_status {
            run.status.as_deref() == Some("error")
        } else {
            has("error") && run.error.is_some()
        }
    };
    let trace = |run: &Run| {
        let named = if has("trace_id") {
            run.trace_id
        } else if has("dotted_order") {
            run.dotted_order.as_deref().and_then(first_of_dotted)
        } else {
            None
        };
        named.or(has("id").then_some(run.id))
    };
    let columns = [
        "id",
        "end_time",
        "first_token_time",
        "total_tokens",
        "prompt_tokens",
        "completion_tokens",
    ];
    let mut knows: BTreeSet<&str> = columns.into_iter().filter(|name| has(name)).collect();
    knows.extend((has_status || has("error")).then_some("errors"));
    knows.extend((has("trace_id") || has("dotted_order")).then_some("traces"));
    let rows = runs.iter().map(|run| {
        let cost = |name: &str, cost: &Option<Cost>| {
            let cost = cost.as_ref().filter(|_| has(name))?;
            file.cost_form.pico(cost)
        };
        Row {
            costs: [
                cost("total_cost", &run.total_cost),
                cost("prompt_cost", &run.prompt_cost),
                cost("completion_cost", &run.completion_cost),
            ],
            is_root: is_root(run),
            is_error: is_error(run),
            trace: trace(run),
            knows: knows.clone(),
            run: without(run, &file.dropped),
        }
    });
    rows.collect()
}

/// The id at the end of the first segment.
fn first_of_dotted(order: &str) -> Option<Uuid> {
    let first = order.split('.').next()?;
    first.get(first.len() - 36..)?.parse().ok()
}

/// A run without some of its columns.
fn without(run: &Run, dropped: &[&str]) -> Run {
    let mut run = run.clone();
    for column in dropped {
        match *column {
            "run_type" => run.run_type = None,
            "end_time" => run.end_us = None,
            "first_token_time" => run.first_token_us = None,
            "trace_tier" => run.trace_tier = None,
            "feedback_stats" => run.feedback_stats = None,
            "total_tokens" => run.total_tokens = None,
            "prompt_tokens" => run.prompt_tokens = None,
            "completion_tokens" => run.completion_tokens = None,
            // What is read of the others is read before.
            _ => {}
        }
    }
    run
}

impl Row {
    pub(super) fn tokens(&self) -> [Option<i64>; 3] {
        let run = &self.run;
        [run.total_tokens, run.prompt_tokens, run.completion_tokens]
    }

    fn carries_usage(&self) -> bool {
        let has_tokens = self
            .tokens()
            .into_iter()
            .flatten()
            .any(|tokens| tokens != 0);
        let zero = BigInt::ZERO;
        has_tokens || self.costs.iter().flatten().any(|cost| *cost != zero)
    }
}

/// What counts as one: a root run, or a trace that is built from its runs.
pub(super) struct Trace<'a> {
    pub(super) id: Option<Uuid>,
    /// One of its roots.
    pub(super) root: Option<&'a Row>,
    pub(super) start_us: i64,
    pub(super) end_us: Option<i64>,
    pub(super) first_token_us: Option<i64>,
    pub(super) is_error: bool,
    tier: Option<String>,
    pub(super) feedback: Option<String>,
    pub(super) tokens: [Option<i64>; 3],
    pub(super) costs: [Option<BigInt>; 3],
}

impl<'a> Trace<'a> {
    /// A root run as it is.
    fn of_root(row: &'a Row) -> Self {
        Self {
            id: row.trace,
            root: Some(row),
            start_us: row.run.start_us,
            end_us: row.run.end_us,
            first_token_us: row.run.first_token_us,
            is_error: row.is_error,
            tier: row.run.trace_tier.clone(),
            feedback: row.run.feedback_stats.clone(),
            tokens: row.tokens(),
            costs: row.costs.clone(),
        }
    }

    /// The usage of all its runs; all else is its root's. Without a root it lasts from the earliest
    /// start to the latest end. Of several roots, the least time or the greatest text counts.
    fn built(rows: &[&'a Row]) -> Self {
        let roots: Vec<&'a Row> = rows.iter().filter(|row| row.is_root).copied().collect();
        let timed = if roots.is_empty() { rows } else { &roots };
        let greatest = |of: fn(&Run) -> &Option<String>| {
            roots.iter().filter_map(|row| of(&row.run).clone()).max()
        };
        let sum = |part: usize| {
            let values: Vec<i64> = rows.iter().filter_map(|row| row.tokens()[part]).collect();
            (!values.is_empty()).then(|| values.iter().sum())
        };
        let cost = |part: usize| {
            let values: Vec<&BigInt> = rows
                .iter()
                .filter_map(|row| row.costs[part].as_ref())
                .collect();
            (!values.is_empty()).then(|| values.into_iter().sum())
        };
        Self {
            id: rows[0].trace,
            root: roots.first().copied(),
            start_us: timed.iter().map(|row| row.run.start_us).min().unwrap(),
            end_us: timed.iter().filter_map(|row| row.run.end_us).max(),
            first_token_us: timed.iter().filter_map(|row| row.run.first_token_us).min(),
            is_error: roots.iter().any(|row| row.is_error),
            tier: greatest(|run| &run.trace_tier),
            feedback: greatest(|run| &run.feedback_stats),
            tokens: [sum(0), sum(1), sum(2)],
            costs: [cost(0), cost(1), cost(2)],
        }
    }
}

/// Whether a moment lies in the question's window, made longer on either side.
pub(super) fn is_in(start_us: i64, question: &Question, by_us: i64) -> bool {
    question
        .since_us
        .is_none_or(|since| start_us >= since - by_us)
        && question
            .until_us
            .is_none_or(|until| start_us < until + by_us)
}

/// Whether traces are built from their runs: where that is asked for, or where no root in the window but
/// single calls of a model carries usage while other runs do.
pub(super) fn is_built(rows: &[&Row], question: &Question) -> bool {
    match question.usage {
        UsageFrom::Roots => return false,
        UsageFrom::Own => return true,
        UsageFrom::Auto => {}
    }
    let is_llm = |row: &Row| row.run.run_type.as_deref() == Some("llm");
    let starts_in = |row: &Row, by_us| is_in(row.run.start_us, question, by_us);
    let mut roots = rows.iter().filter(|row| row.is_root && starts_in(row, 0));
    let span_us = question.trace_span_us;
    let mut below = rows
        .iter()
        .filter(|row| !row.is_root && starts_in(row, span_us));
    rows.iter().all(|row| row.knows.contains("traces"))
        && !roots.any(|row| !is_llm(row) && row.carries_usage())
        && below.any(|row| row.carries_usage())
}

/// Whether a trace is one that is asked for, by its root.
fn is_kept(root: &Row, rows: &[&Row], question: &Question) -> bool {
    let keeps = |filter: &Filter| evaluate::keeps(filter, &root.run, Some(&root.run));
    question.filter.as_ref().is_none_or(keeps)
        && question.trace_filter.as_ref().is_none_or(keeps)
        && tree_is_kept(root, rows, question)
}

/// Whether any run of the same trace is what one must be.
pub(super) fn tree_is_kept(row: &Row, rows: &[&Row], question: &Question) -> bool {
    let mut of_trace = rows.iter().filter(|other| other.trace == row.trace);
    let filter = question.tree_filter.as_ref();
    filter.is_none_or(|filter| of_trace.any(|row| evaluate::keeps(filter, &row.run, None)))
}

/// The traces of one project that are asked for: its roots, or what is built from its runs.
pub(super) fn traces<'a>(rows: &[&'a Row], question: &Question, is_built: bool) -> Vec<Trace<'a>> {
    if is_built {
        return build(rows, question);
    }
    let roots = rows.iter().filter(|row| {
        row.is_root && is_in(row.run.start_us, question, 0) && is_kept(row, rows, question)
    });
    roots.map(|row| Trace::of_root(row)).collect()
}

/// The traces that start in the window, built from the runs of a span more on either side.
fn build<'a>(rows: &[&'a Row], question: &Question) -> Vec<Trace<'a>> {
    let mut by_trace: BTreeMap<Uuid, Vec<&Row>> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| is_in(row.run.start_us, question, question.trace_span_us))
    {
        by_trace.entry(row.trace.unwrap()).or_default().push(row);
    }
    let asks_roots = question.filter.is_some() || question.trace_filter.is_some();
    let is_asked = asks_roots || question.tree_filter.is_some();
    let kept = by_trace.values().filter(|of_trace| {
        let mut asked = of_trace.iter().filter(|row| row.is_root || !asks_roots);
        !is_asked || asked.any(|row| is_kept(row, rows, question))
    });
    let traces = kept.map(|rows| Trace::built(rows));
    traces
        .filter(|trace| is_in(trace.start_us, question, 0))
        .collect()
}

/// The document of one project, and the start that it is sorted by.
fn session(id: Uuid, rows: &[&Row], question: &Question) -> (i64, Expected) {
    let record = record_of(&id.to_string(), question);
    let given = |key: &str| {
        record
            .and_then(|record| record.get(key))
            .cloned()
            .unwrap_or_default()
    };
    let given_us = |key: &str| given(key).as_str().map(parse_time);
    let roots: Vec<&Row> = rows
        .iter()
        .filter(|row| row.is_root && is_in(row.run.start_us, question, 0))
        .copied()
        .collect();
    let is_built = question.stats && is_built(rows, question);
    let traces = traces(rows, question, is_built);
    let earliest_us = rows.iter().map(|row| row.run.start_us).min().unwrap();
    let start_us = given_us("start_time").unwrap_or(earliest_us);
    let time = |at: Option<i64>| at.map_or(Value::Null, |at| written_time(at).into());
    let or =
        |value: Value, other: &dyn Fn() -> Value| if value.is_null() { other() } else { value };

    let mut document = Map::new();
    let mut set = |key: &str, value: Value| document.insert(key.to_owned(), value);
    set("id", id.to_string().into());
    set(
        "tenant_id",
        rows.iter()
            .map(|row| row.run.tenant_id.to_string())
            .min()
            .into(),
    );
    set("start_time", time(Some(start_us)));
    set("end_time", time(given_us("end_time")));
    set("extra", given("extra"));
    set("name", or(given("name"), &|| id.to_string().into()));
    for key in ["description", "default_dataset_id", "reference_dataset_id"] {
        set(key, given(key));
    }
    let tier_of_roots = || {
        if question.stats {
            tier(&traces)
        } else {
            Value::Null
        }
    };
    set("trace_tier", or(given("trace_tier"), &tier_of_roots));
    let mut groups = (0, 0);
    if question.stats {
        let live_us = given_us("last_run_start_time_live");
        groups = set_stats(&mut document, rows, &traces, live_us, question);
        let of_session =
            |record: &Value| record["run_id"].is_null() && record["session_id"] == id.to_string();
        let named = roots.iter().filter(|row| row.knows.contains("id"));
        let roots = named.map(|row| row.run.id.to_string()).collect();
        set_feedback(&mut document, &traces, &roots, &of_session, question);
    } else {
        for key in NO_STATS {
            document.insert(key.to_owned(), Value::Null);
        }
        document["last_run_start_time_live"] = time(given_us("last_run_start_time_live"));
    }
    document.insert(
        "test_run_number".to_owned(),
        test_run_number(record, question),
    );
    let expected = Expected {
        document: Value::Object(document),
        n_latencies: groups.0,
        n_first_tokens: groups.1,
        is_built,
    };
    (start_us, expected)
}

/// Sets `run_count` to `streaming_rate`; says how many latencies and first
/// tokens there were. The two feedback fields are filled in afterwards.
fn set_stats(
    document: &mut Map<String, Value>,
    rows: &[&Row],
    traces: &[Trace],
    live_us: Option<i64>,
    question: &Question,
) -> (usize, usize) {
    let knows = |column: &str| rows.iter().any(|row| row.knows.contains(column));
    let spans = |to: fn(&Trace) -> Option<i64>| -> Vec<i64> {
        let spans = traces
            .iter()
            .filter_map(|trace| Some(to(trace)? - trace.start_us));
        spans.filter(|span| *span >= 0).collect()
    };
    let latencies = spans(|trace| trace.end_us);
    let first_tokens = spans(|trace| trace.first_token_us);
    let percentile = |values: &[i64], q| percentile_ns(values, q).map(|ns| seconds(&ns));
    let last_us = traces.iter().map(|trace| trace.start_us).max();

    let mut set = |key: &str, value: Value| document.insert(key.to_owned(), value);
    set("run_count", traces.len().into());
    set("latency_p50", percentile(&latencies, 500_000).into());
    set("latency_p99", percentile(&latencies, 990_000).into());
    set("first_token_p50", percentile(&first_tokens, 500_000).into());
    set("first_token_p99", percentile(&first_tokens, 990_000).into());
    for (part, key) in ["total_tokens", "prompt_tokens", "completion_tokens"]
        .iter()
        .enumerate()
    {
        let sum: i64 = traces.iter().filter_map(|trace| trace.tokens[part]).sum();
        set(key, knows(key).then_some(sum).into());
    }
    for (part, key) in ["total_cost", "prompt_cost", "completion_cost"]
        .iter()
        .enumerate()
    {
        let amounts: Vec<&BigInt> = traces
            .iter()
            .filter_map(|trace| trace.costs[part].as_ref())
            .collect();
        set(key, cost(&amounts, question));
    }
    set("last_run_start_time", last_us.map(written_time).into());
    set(
        "last_run_start_time_live",
        live_us.or(last_us).map(written_time).into(),
    );
    set("feedback_stats", Value::Null);
    set("session_feedback_stats", Value::Null);
    set("run_facets", json!([]));

    let errors = traces.iter().filter(|trace| trace.is_error).count();
    set("error_rate", rate(errors, traces.len(), knows("errors")));
    let completed = traces.iter().filter(|trace| trace.end_us.is_some());
    let streamed = completed
        .clone()
        .filter(|trace| trace.first_token_us.is_some());
    let knows_streams = knows("end_time") && knows("first_token_time");
    set(
        "streaming_rate",
        rate(streamed.count(), completed.count(), knows_streams),
    );
    (latencies.len(), first_tokens.len())
}

fn tier(traces: &[Trace]) -> Value {
    let says = |tier: &str| {
        let mut tiers = traces.iter().map(|trace| trace.tier.as_deref());
        tiers.any(|said| said == Some(tier))
    };
    let tiers = ["longlived", "shortlived"];
    tiers.into_iter().find(|tier| says(tier)).into()
}

fn cost(amounts: &[&BigInt], question: &Question) -> Value {
    if amounts.is_empty() {
        return Value::Null;
    }
    let text = plain(&amounts.iter().copied().sum(), PICO_PLACES as usize);
    if question.cost_number {
        serde_json::from_str(&text).unwrap()
    } else {
        text.into()
    }
}

fn rate(part: usize, whole: usize, is_known: bool) -> Value {
    if whole == 0 || !is_known {
        return Value::Null;
    }
    quotient(&BigInt::from(part), &BigInt::from(whole)).into()
}

/// One key's feedback: scores in units of 10^-18, their squares of 10^-36.
#[derive(Debug, Default)]
struct Tally {
    n: u64,
    sum: BigInt,
    sum_of_squares: BigInt,
    /// A summary of several scores lacked what the figure is made of.
    no_deviation: bool,
    no_extremes: bool,
    min: Option<BigInt>,
    max: Option<BigInt>,
    labels: BTreeMap<String, u64>,
    errors: u64,
    contains_thread_feedback: bool,
}

/// A run's own summary of one key. Numbers stay text, so that no parser's
/// rounding comes between.
#[derive(Debug, Deserialize)]
struct Summary {
    n: Option<u64>,
    avg: Option<Box<RawValue>>,
    stdev: Option<Box<RawValue>>,
    session_min_score: Option<Box<RawValue>>,
    session_max_score: Option<Box<RawValue>>,
    values: Option<BTreeMap<String, u64>>,
    errors: Option<u64>,
    contains_thread_feedback: Option<bool>,
}

fn set_feedback(
    document: &mut Map<String, Value>,
    traces: &[Trace],
    roots: &BTreeSet<String>,
    is_of_session: &dyn Fn(&Value) -> bool,
    question: &Question,
) {
    let (mut of_runs, mut of_session) = (BTreeMap::new(), BTreeMap::new());
    if let Some(records) = &question.feedback {
        for record in records {
            if record["run_id"]
                .as_str()
                .is_some_and(|id| roots.contains(id))
            {
                add_record(&mut of_runs, record);
            } else if is_of_session(record) {
                add_record(&mut of_session, record);
            }
        }
    } else {
        let texts = traces.iter().filter_map(|trace| trace.feedback.as_deref());
        texts.for_each(|text| add_summaries(&mut of_runs, text));
    }
    document["feedback_stats"] = written(of_runs);
    document["session_feedback_stats"] = written(of_session);
}

/// The feedback of runs by their own summaries, a key each.
pub(super) fn feedback_stats<'t>(summaries: impl Iterator<Item = &'t str>) -> Value {
    let mut tallies = BTreeMap::new();
    summaries.for_each(|text| add_summaries(&mut tallies, text));
    written(tallies)
}

fn written(tallies: BTreeMap<String, Tally>) -> Value {
    let entries = tallies
        .into_iter()
        .map(|(key, tally)| (key, feedback(&tally)));
    Value::Object(entries.collect())
}

fn add_summaries(tallies: &mut BTreeMap<String, Tally>, text: &str) {
    let summaries: BTreeMap<String, Summary> = serde_json::from_str(text).unwrap();
    for (key, summary) in summaries {
        add_summary(tallies.entry(key).or_default(), summary);
    }
}

fn add_record(tallies: &mut BTreeMap<String, Tally>, record: &Value) {
    let tally = tallies
        .entry(record["key"].as_str().unwrap().to_owned())
        .or_default();
    let score = match &record["score"] {
        Value::Bool(yes) => Some(scaled(if *yes { "1" } else { "0" })),
        Value::Number(number) => Some(scaled(&number.to_string())),
        _ => None,
    };
    if let Some(score) = score {
        add_scores(tally, 1, &score, None, None);
    }
    if let Some(label) = record["value"].as_str() {
        *tally.labels.entry(label.to_owned()).or_default() += 1;
    }
}

fn add_summary(tally: &mut Tally, summary: Summary) {
    for (label, count) in summary.values.unwrap_or_default() {
        *tally.labels.entry(label).or_default() += count;
    }
    tally.errors += summary.errors.unwrap_or(0);
    tally.contains_thread_feedback |= summary.contains_thread_feedback == Some(true);
    let number = |raw: Option<Box<RawValue>>| raw.map(|raw| scaled(raw.get()));
    let (n, average) = (summary.n.unwrap_or(0), number(summary.avg));
    if let Some(average) = average.filter(|_| n > 0) {
        let extremes = number(summary.session_min_score).zip(number(summary.session_max_score));
        add_scores(tally, n, &average, number(summary.stdev), extremes);
    }
}

/// Adds `n` scores of a known average; for one score the rest follows from it.
fn add_scores(
    tally: &mut Tally,
    n: u64,
    average: &BigInt,
    deviation: Option<BigInt>,
    extremes: Option<(BigInt, BigInt)>,
) {
    let alone = n == 1;
    tally.n += n;
    tally.sum += average * n;
    tally.no_deviation |= !alone && deviation.is_none();
    tally.no_extremes |= !alone && extremes.is_none();
    let deviation = deviation.unwrap_or_default();
    tally.sum_of_squares += (average * average + &deviation * &deviation) * n;
    let (low, high) = extremes.unwrap_or_else(|| (average.clone(), average.clone()));
    tally.min = Some(tally.min.take().map_or(low.clone(), |min| min.min(low)));
    tally.max = Some(tally.max.take().map_or(high.clone(), |max| max.max(high)));
}

/// A score's shortest text as a decimal, in units of 10^-18.
fn scaled(text: &str) -> BigInt {
    let score: f64 = text.parse().unwrap();
    Decimal::of_shortest_text(score)
        .unwrap()
        .rounded(SCORE_PLACES)
}

fn feedback(tally: &Tally) -> Value {
    let one = ten_to(SCORE_PLACES);
    let n = BigInt::from(tally.n);
    let has_scores = tally.n > 0;
    let average = has_scores.then(|| quotient(&tally.sum, &(&n * &one)));
    let spread = || &n * &tally.sum_of_squares - &tally.sum * &tally.sum;
    let deviation = (has_scores && !tally.no_deviation)
        .then(|| root_of_quotient(&spread(), &(&n * &n * &one * &one)));
    let extreme = |score: &Option<BigInt>| {
        let score = score.as_ref().filter(|_| !tally.no_extremes)?;
        Some(quotient(score, &one))
    };
    let n = if has_scores {
        tally.n
    } else {
        tally.labels.values().sum()
    };
    json!({
        "n": n,
        "avg": average,
        "stdev": deviation,
        "errors": tally.errors,
        "show_feedback_arrow": false,
        "comments": [],
        "sources": [],
        "session_min_score": extreme(&tally.min),
        "session_max_score": extreme(&tally.max),
        "values": tally.labels,
        "contains_thread_feedback": tally.contains_thread_feedback,
    })
}

pub(super) fn record_of<'a>(id: &str, question: &'a Question) -> Option<&'a Value> {
    question.metadata.iter().find(|record| record["id"] == id)
}

fn test_run_number(record: Option<&Value>, question: &Question) -> Value {
    let Some(record) = record else {
        return Value::Null;
    };
    let dataset = &record["reference_dataset_id"];
    if !record["test_run_number"].is_null() {
        return record["test_run_number"].clone();
    }
    if dataset.is_null() {
        return Value::Null;
    }
    let key = |record: &Value| {
        let start_us = record["start_time"].as_str().map(parse_time);
        (start_us.unwrap(), record["id"].to_string())
    };
    let rivals = question
        .metadata
        .iter()
        .filter(|other| other["reference_dataset_id"] == *dataset);
    (1 + rivals.filter(|other| key(other) < key(record)).count()).into()
}

/// Microseconds since 1970; a time without an offset is UTC.
fn parse_time(text: &str) -> i64 {
    let text = text.replacen(' ', "T", 1);
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return at.timestamp_micros();
    }
    let at = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").unwrap();
    at.and_utc().timestamp_micros()
}

/// UTC with `Z`; a fraction only where it is not zero, without trailing zeros.
pub(super) fn written_time(at_us: i64) -> String {
    let at = DateTime::from_timestamp_micros(at_us).unwrap();
    let text = at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

fn compare(actual: &Value, expected: &Expected) -> Result<(), String> {
    let keys = |document: &Value| -> Vec<String> {
        document
            .as_object()
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default()
    };
    if keys(actual) != keys(&expected.document) {
        return Err(format!("keys or their order differ: {:?}", keys(actual)));
    }
    for (key, wanted) in expected.document.as_object().unwrap() {
        let n_values = match key.as_str() {
            "latency_p50" | "latency_p99" => expected.n_latencies,
            "first_token_p50" | "first_token_p99" => expected.n_first_tokens,
            _ => 0,
        };
        // As text, so that the order of nested keys and the form of numbers
        // count. Parsed once more, because the parser behind `actual` may
        // have been an ulp off.
        let wanted_text = wanted.to_string();
        let reparsed: Value = serde_json::from_str(&wanted_text).unwrap();
        let reparsed_text = reparsed.to_string();
        let got_text = actual[key].to_string();
        let is_same = got_text == wanted_text || got_text == reparsed_text;
        let is_tolerated = n_values > EXACT_VALUES && is_near(&actual[key], wanted);
        if !is_same && !is_tolerated {
            return Err(format!("`{key}`: {got_text} instead of {wanted_text}"));
        }
    }
    Ok(())
}

/// Within 0.1 %, and the half nanosecond of the rounding.
fn is_near(actual: &Value, expected: &Value) -> bool {
    let (Some(actual), Some(expected)) = (actual.as_f64(), expected.as_f64()) else {
        return false;
    };
    (actual - expected).abs() <= 0.001 * expected + 0.6e-9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::support::mirror;
    use crate::support::run::{
        FIRST_MIDNIGHT_US, any_metadata, any_runs, any_unruly_runs, any_window, project_id,
        tenant_id,
    };

    /// Checks the only document against one written out by hand, in which
    /// `PROJECT` and `TENANT` stand for the made-up ids.
    fn assert_only(runs: &[Run], question: &Question, text: &str) {
        let text = text
            .replace("PROJECT", &project_id(0).to_string())
            .replace("TENANT", &tenant_id(0).to_string());
        let by_hand: Value = serde_json::from_str(&text).unwrap();
        let documents = documents(runs, question);
        assert_eq!(documents.len(), 1);
        assert_eq!(format!("{:#}", documents[0]), format!("{by_hand:#}"));
    }

    fn at_s(seconds: i64) -> i64 {
        FIRST_MIDNIGHT_US + seconds * 1_000_000
    }

    /// Nine traces a minute apart whose p99 lies between 11.855 s and
    /// 13.201 s, and a child that must count for nothing but the start.
    fn nine_traces() -> Vec<Run> {
        let latencies_ms = [
            13_201, 500, 1_200, 2_000, 11_855, 1_300, 3_000, 2_750, 4_000,
        ];
        let mut runs: Vec<Run> = (0..9)
            .zip(latencies_ms)
            .map(|(n, ms)| {
                let start_us = at_s(60 * n);
                Run::completed_root(n.unsigned_abs(), start_us, start_us + ms * 1_000)
            })
            .collect();
        runs[0].first_token_us = Some(runs[0].start_us + 100_000);
        runs[3].first_token_us = Some(runs[3].start_us + 300_000);
        runs[0].total_cost = Some(Cost::of_double(0.1 + 0.2, false));
        runs[1].total_cost = Some(Cost::of_text("8.2e-6"));
        runs[2].total_cost = Some(Cost::of_double(f64::NAN, false));
        runs[5].completion_cost = Some(Cost::of_text("0"));
        runs[1].total_tokens = Some(30);
        runs[2].total_tokens = Some(12);
        runs[2].prompt_tokens = Some(-2);
        runs[4].status = Some("error".to_owned());
        runs[5].error = Some("of no consequence".to_owned());
        runs[6].trace_tier = Some("shortlived".to_owned());
        let mut child = Run::completed_root(99, at_s(0) - 500_000, at_s(7_200));
        child.is_root = Some(false);
        child.parent_run_id = Some(runs[0].id);
        child.trace_id = Some(runs[0].id);
        child.dotted_order = None;
        child.total_tokens = Some(1_000);
        child.total_cost = Some(Cost::of_text("1000"));
        child.trace_tier = Some("longlived".to_owned());
        child.status = Some("error".to_owned());
        child.feedback_stats = Some(r#"{"child": {"n": 1, "avg": 1}}"#.to_owned());
        runs.push(child);
        runs
    }

    const NINE: &str = r#"{
        "id": "PROJECT", "tenant_id": "TENANT", "start_time": "2026-08-11T23:59:59.5Z",
        "end_time": null, "extra": null, "name": "PROJECT", "description": null,
        "default_dataset_id": null, "reference_dataset_id": null, "trace_tier": "shortlived",
        "run_count": 9, "latency_p50": 2.75, "latency_p99": 13.09332,
        "first_token_p50": 0.2, "first_token_p99": 0.298,
        "total_tokens": 42, "prompt_tokens": -2, "completion_tokens": 0,
        "total_cost": "0.3000082", "prompt_cost": null, "completion_cost": "0",
        "last_run_start_time": "2026-08-12T00:08:00Z",
        "last_run_start_time_live": "2026-08-12T00:08:00Z",
        "feedback_stats": {}, "session_feedback_stats": {}, "run_facets": [],
        "error_rate": 0.1111111111111111, "streaming_rate": 0.2222222222222222,
        "test_run_number": null
    }"#;

    #[test]
    fn nine_traces_by_hand() {
        let mut question = Question::default();
        assert_only(&nine_traces(), &question, NINE);
        question.cost_form = CostForm::Text;
        assert_only(&nine_traces(), &question, NINE);
        question.cost_number = true;
        let numbers = NINE
            .replace("\"0.3000082\"", "0.3000082")
            .replace("\"0\"", "0");
        assert_only(&nine_traces(), &question, &numbers);
    }

    #[test]
    fn dropped_columns_by_hand() {
        let mut question = Question {
            dropped: vec!["is_root", "status"],
            ..Question::default()
        };
        // By `error`, of which one root has one.
        assert_only(&nine_traces(), &question, NINE);
        question.dropped = vec![
            "is_root",
            "parent_run_id",
            "dotted_order",
            "status",
            "error",
        ];
        question
            .dropped
            .extend(["end_time", "total_cost", "prompt_tokens", "trace_tier"]);
        let without = NINE
            .replace(
                r#""error_rate": 0.1111111111111111"#,
                r#""error_rate": null"#,
            )
            .replace(
                r#""streaming_rate": 0.2222222222222222"#,
                r#""streaming_rate": null"#,
            )
            .replace(r#""latency_p50": 2.75"#, r#""latency_p50": null"#)
            .replace(r#""latency_p99": 13.09332"#, r#""latency_p99": null"#)
            .replace(r#""prompt_tokens": -2"#, r#""prompt_tokens": null"#)
            .replace(r#""0.3000082""#, "null")
            .replace(r#""shortlived""#, "null");
        assert_only(&nine_traces(), &question, &without);
    }

    #[test]
    fn empty_window_by_hand() {
        let runs = nine_traces();
        let question = Question {
            until_us: Some(at_s(0)),
            ..Question::default()
        };
        let empty = r#"{
            "id": "PROJECT", "tenant_id": "TENANT", "start_time": "2026-08-11T23:59:59.5Z",
            "end_time": null, "extra": null, "name": "PROJECT", "description": null,
            "default_dataset_id": null, "reference_dataset_id": null, "trace_tier": null,
            "run_count": 0, "latency_p50": null, "latency_p99": null,
            "first_token_p50": null, "first_token_p99": null,
            "total_tokens": 0, "prompt_tokens": 0, "completion_tokens": 0,
            "total_cost": null, "prompt_cost": null, "completion_cost": null,
            "last_run_start_time": null, "last_run_start_time_live": null,
            "feedback_stats": {}, "session_feedback_stats": {}, "run_facets": [],
            "error_rate": null, "streaming_rate": null, "test_run_number": null
        }"#;
        assert_only(&runs, &question, empty);
        // Both bounds at a start: the first is in, the second is out.
        let question = Question {
            since_us: Some(at_s(60)),
            until_us: Some(at_s(120)),
            ..Question::default()
        };
        let document = &documents(&runs, &question)[0];
        assert_eq!(document["run_count"], 1);
        assert_eq!(document["latency_p50"], 0.5);
    }

    #[test]
    fn metadata_by_hand() {
        let mut question = Question {
            stats: false,
            metadata: vec![
                json!({
                    "id": project_id(0), "tenant_id": tenant_id(9), "name": "checkout",
                    "start_time": "2026-08-01 06:07:08.090000", "end_time": "2026-08-20T02:00:00+02:00",
                    "extra": {"z": [0.5], "a": null}, "description": "",
                    "reference_dataset_id": "5e7d0000-0000-4000-8000-000000000000",
                    "run_count": 7, "latency_p50": 1.0,
                }),
                json!({
                    "id": project_id(1), "start_time": "2026-07-01T00:00:00",
                    "reference_dataset_id": "5e7d0000-0000-4000-8000-000000000000",
                }),
            ],
            ..Question::default()
        };
        let described = r#"{
            "id": "PROJECT", "tenant_id": "TENANT", "start_time": "2026-08-01T06:07:08.09Z",
            "end_time": "2026-08-20T00:00:00Z", "extra": {"z": [0.5], "a": null},
            "name": "checkout", "description": "", "default_dataset_id": null,
            "reference_dataset_id": "5e7d0000-0000-4000-8000-000000000000", "trace_tier": null,
            "run_count": null, "latency_p50": null, "latency_p99": null,
            "first_token_p50": null, "first_token_p99": null,
            "total_tokens": null, "prompt_tokens": null, "completion_tokens": null,
            "total_cost": null, "prompt_cost": null, "completion_cost": null,
            "last_run_start_time": null, "last_run_start_time_live": null,
            "feedback_stats": null, "session_feedback_stats": null, "run_facets": null,
            "error_rate": null, "streaming_rate": null, "test_run_number": 2
        }"#;
        assert_only(&nine_traces(), &question, described);
        question.metadata[0]["last_run_start_time_live"] = json!("2026-08-30T00:00:00.000001");
        question.metadata[0]["test_run_number"] = json!(17);
        let live = described
            .replace(
                r#"_live": null"#,
                r#"_live": "2026-08-30T00:00:00.000001Z""#,
            )
            .replace(r#""test_run_number": 2"#, r#""test_run_number": 17"#);
        assert_only(&nine_traces(), &question, &live);
    }

    /// Two runs' summaries, as the service writes them.
    fn runs_with_feedback() -> Vec<Run> {
        let mut runs = nine_traces();
        runs.truncate(3);
        runs[0].feedback_stats = Some(
            r#"{"helpful": {"n": 1, "avg": 1.0, "stdev": 0.0, "errors": 1, "comments": ["x"],
                "session_min_score": 1, "session_max_score": 1, "values": {}},
             "tone": {"n": 2, "avg": null, "values": {"good": 2}},
             "note": {"n": 0, "avg": null, "comments": ["so so"]}}"#
                .to_owned(),
        );
        runs[1].feedback_stats = Some(
            r#"{"helpful": {"n": 3, "avg": 0.5, "stdev": 0.5, "session_min_score": 0,
                "session_max_score": 1.5, "contains_thread_feedback": true},
             "tone": {"n": 2, "avg": null, "values": {"good": 1, "bad": 1}},
             "bare": {"n": 2, "avg": 0.25}}"#
                .to_owned(),
        );
        runs
    }

    #[test]
    fn feedback_by_hand() {
        let document = &documents(&runs_with_feedback(), &Question::default())[0];
        let rest = r#""errors": 0, "show_feedback_arrow": false, "comments": [], "sources": []"#;
        let none = r#""session_min_score": null, "session_max_score": null, "values":"#;
        // helpful: 1 and three with Σx = 1.5, Σx² = 1.5; variance 3.75 ÷ 16.
        let by_hand = format!(
            r#"{{
            "bare": {{"n": 2, "avg": 0.25, "stdev": null, {rest},
                {none} {{}}, "contains_thread_feedback": false}},
            "helpful": {{"n": 4, "avg": 0.625, "stdev": 0.4841229182759271, "errors": 1,
                "show_feedback_arrow": false, "comments": [], "sources": [],
                "session_min_score": 0.0, "session_max_score": 1.5, "values": {{}},
                "contains_thread_feedback": true}},
            "note": {{"n": 0, "avg": null, "stdev": null, {rest},
                {none} {{}}, "contains_thread_feedback": false}},
            "tone": {{"n": 4, "avg": null, "stdev": null, {rest},
                {none} {{"bad": 1, "good": 3}}, "contains_thread_feedback": false}}
            }}"#
        );
        let by_hand: Value = serde_json::from_str(&by_hand).unwrap();
        assert_eq!(document["feedback_stats"].to_string(), by_hand.to_string());
    }

    #[test]
    fn feedback_records_replace_the_summaries() {
        let runs = runs_with_feedback();
        let record = |run: Value, session: Value, score: Value, value: Value| json!({"run_id": run, "session_id": session, "key": "k", "score": score, "value": value});
        let (first, project) = (json!(runs[0].id), json!(project_id(0)));
        let question = Question {
            feedback: Some(vec![
                record(first.clone(), project.clone(), json!(true), Value::Null),
                record(first, project.clone(), json!(2), json!("good")),
                record(Value::Null, project.clone(), json!(0.5), Value::Null),
                record(Value::Null, json!(project_id(1)), json!(9), Value::Null),
                record(json!(project_id(7)), project, json!(9), Value::Null),
            ]),
            ..Question::default()
        };
        let document = &documents(&runs, &question)[0];
        let of_runs = document["feedback_stats"].as_object().unwrap();
        assert_eq!(of_runs.len(), 1);
        assert_eq!(of_runs["k"]["n"], 2);
        assert_eq!(of_runs["k"]["avg"], 1.5);
        assert_eq!(of_runs["k"]["stdev"], 0.5);
        assert_eq!(of_runs["k"]["values"], json!({"good": 1}));
        assert_eq!(document["session_feedback_stats"]["k"]["avg"], 0.5);
        assert_eq!(document["session_feedback_stats"]["k"]["stdev"], 0.0);
    }

    #[test]
    fn skew_and_pending_runs_by_hand() {
        let mut runs = nine_traces();
        runs.truncate(5);
        runs[0].end_us = Some(runs[0].start_us - 1);
        runs[0].first_token_us = Some(runs[0].start_us - 1);
        runs[1].end_us = None;
        runs[1].first_token_us = Some(runs[1].start_us);
        runs[2].end_us = Some(runs[2].start_us);
        let document = &documents(&runs, &Question::default())[0];
        assert_eq!(document["run_count"], 5);
        // Latencies 0, 2 and 11.855 s; first tokens 0 and 0.3 s.
        assert_eq!(document["latency_p50"], 2.0);
        assert_eq!(document["latency_p99"], 11.6579);
        assert_eq!(document["first_token_p50"], 0.15);
        // Completed: four; with a first token: the skewed one and one more.
        assert_eq!(document["streaming_rate"], 0.5);
    }

    #[test]
    fn absence_is_decided_by_file() {
        let mut runs = nine_traces();
        for row in [3, 4, 9] {
            runs[row].is_root = None;
            runs[row].status = None;
        }
        runs[3].error = Some("TimeoutError".to_owned());
        let mut question = Question::default();
        // Seven of nine: a single null is neither a root nor an error.
        assert_eq!(documents(&runs, &question)[0]["run_count"], 7);
        assert_eq!(documents(&runs, &question)[0]["error_rate"], 0.0);
        let file = |rows: &[usize]| FileForm {
            rows: rows.to_vec(),
            cost_form: CostForm::Double,
            dropped: Vec::new(),
        };
        question.files = vec![file(&[0, 1, 2, 5, 6, 7, 8]), file(&[3, 4, 9])];
        assert_eq!(documents(&runs, &question)[0]["run_count"], 9);
        let one_of_nine = 0.111_111_111_111_111_1;
        assert_eq!(documents(&runs, &question)[0]["error_rate"], one_of_nine);
    }

    /// Usage of all runs, everything else the root's; where the root is away, the runs' own span.
    #[test]
    fn built_traces_by_hand() {
        let mut runs = nine_traces();
        for run in &mut runs {
            (run.total_cost, run.completion_cost) = (None, None);
            (run.total_tokens, run.prompt_tokens) = (None, None);
        }
        let child = runs.pop().unwrap();
        let orphan = Run {
            id: Uuid::from_u128(7),
            trace_id: Some(Uuid::from_u128(8)),
            total_tokens: Some(40),
            start_us: at_s(5),
            end_us: Some(at_s(6)),
            ..child.clone()
        };
        let heavy = Run {
            total_tokens: Some(1_000),
            total_cost: Some(Cost::of_text("0.5")),
            ..child.clone()
        };
        runs.extend([heavy, orphan]);
        let own = |usage| Question {
            usage,
            ..Question::default()
        };
        let document = &documents(&runs, &own(UsageFrom::Auto))[0];
        assert_eq!(document["run_count"], 10);
        assert_eq!(document["total_tokens"], 1_040);
        assert_eq!(document["total_cost"], "0.5");
        assert_eq!(document["error_rate"], 0.1);
        assert_eq!(document["latency_p99"], 13.07986);
        let document = &documents(&runs, &own(UsageFrom::Roots))[0];
        assert_eq!(document["run_count"], 9);
        assert_eq!(document["total_tokens"], 0);
        // One root that carries anything, and roots are what counts.
        runs[3].prompt_tokens = Some(1);
        assert_eq!(documents(&runs, &own(UsageFrom::Auto))[0]["run_count"], 9);
        runs[3].run_type = Some("llm".to_owned());
        assert_eq!(documents(&runs, &own(UsageFrom::Auto))[0]["run_count"], 10);
    }

    #[test]
    fn the_newest_record_by_hand() {
        let pending = |run: &Run| Run {
            end_us: None,
            ..run.clone()
        };
        let run = Run::completed_root(1, at_s(0), at_s(1));
        let other = Run::completed_root(1, at_s(0), at_s(2));
        let waiting = pending(&run);
        let later = (9, "a");
        assert_eq!(newest(&[(&run, (1, "z")), (&waiting, later)]), [&run]);
        assert_eq!(newest(&[(&other, later), (&run, (1, "z"))]), [&other]);
        assert_eq!(newest(&[(&other, (9, "b")), (&run, later)]), [&other]);
    }

    #[test]
    fn percentiles_round_half_to_even() {
        let p = |values: &[i64], q| percentile_ns(values, q).map(|ns| ns.to_string());
        assert_eq!(p(&[], 500_000), None);
        assert_eq!(p(&[7], 990_000).as_deref(), Some("7000"));
        // 0.0005 µs and 0.0015 µs.
        assert_eq!(p(&[0, 1], 500).as_deref(), Some("0"));
        assert_eq!(p(&[1, 0], 1_500).as_deref(), Some("2"));
        assert_eq!(p(&[3, 1, 2], 1_000_000).as_deref(), Some("3000"));
    }

    #[test]
    fn only_percentiles_of_large_groups_are_tolerated() {
        let many: Vec<Run> = (0..257i64)
            .map(|n| {
                Run::completed_root(n.unsigned_abs(), at_s(n), at_s(n) + 1_000_000 + n * 1_000)
            })
            .collect();
        let differs = |runs: &[Run], key: &str, value: Value| {
            let expected = expected(runs, &Question::default());
            let mut actual = expected[0].document.clone();
            actual[key] = value;
            compare(&actual, &expected[0]).is_err()
        };
        assert!(!differs(&many, "latency_p50", json!(1.128)));
        assert!(!differs(&many, "latency_p50", json!(1.129)));
        assert!(differs(&many, "latency_p50", json!(1.13)));
        assert!(differs(&many, "latency_p50", Value::Null));
        assert!(differs(&many, "run_count", json!(258)));
        assert!(differs(&many[1..], "latency_p50", json!(1.1286)));
        assert!(!differs(&many[1..], "latency_p50", json!(1.1285)));
    }

    #[test]
    fn newest_first_then_by_id() {
        let mut runs: Vec<Run> = (0..3)
            .map(|n| Run::completed_root(n, at_s(5), at_s(6)))
            .collect();
        for (index, run) in runs.iter_mut().enumerate() {
            run.session_id = project_id(index);
        }
        runs[1].start_us = at_s(4);
        let (low, high) = (
            project_id(0).min(project_id(2)),
            project_id(0).max(project_id(2)),
        );
        let documents = documents(&runs, &Question::default());
        let ids: Vec<&str> = documents
            .iter()
            .map(|document| document["id"].as_str().unwrap())
            .collect();
        let in_order = [low, high, project_id(1)].map(|id| id.to_string());
        assert_eq!(ids, in_order);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn documents_have_the_pinned_shape(
            runs in any_runs(3, 12),
            metadata in any_metadata(3),
            (since_us, until_us) in any_window(),
            stats in any::<bool>(),
        ) {
            let question = Question { since_us, until_us, stats, metadata, ..Question::default() };
            let expected = expected(&runs, &question);
            let documents = documents(&runs, &question);
            for document in &documents {
                mirror::check(&document.to_string());
                mirror::check(&format!("{document:#}"));
            }
            assert_same_documents(&documents, &expected);
        }

        #[test]
        fn orderly_runs_give_one_answer_in_any_files_and_forms(
            runs in any_runs(2, 12),
            cuts in 0..10_000usize,
        ) {
            let whole = documents(&runs, &Question::default());
            let n_files = 1 + cuts % 9;
            let mut files = vec![Vec::new(); n_files];
            for row in 0..runs.len() {
                files[(row.wrapping_mul(31) ^ (cuts >> 4)) % n_files].push(row);
            }
            for cost_form in [CostForm::Double, CostForm::Text, CostForm::Decimal(38, 12)] {
                for dropped in [vec![], vec!["is_root"], vec!["is_root", "parent_run_id"]] {
                    let files = files.iter().map(|rows| FileForm {
                        rows: rows.clone(),
                        cost_form,
                        dropped: dropped.clone(),
                    });
                    let files = files.collect();
                    let question = Question { files, ..Question::default() };
                    prop_assert_eq!(&documents(&runs, &question), &whole);
                }
            }
        }

        #[test]
        fn unruly_runs_have_an_answer(runs in any_unruly_runs(2, 12), number in any::<bool>()) {
            let question = Question { cost_number: number, ..Question::default() };
            for document in documents(&runs, &question) {
                if number {
                    mirror::check_with_numbers(&document.to_string());
                } else {
                    mirror::check(&document.to_string());
                }
            }
        }
    }
}
