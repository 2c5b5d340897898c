//! Runs as plain facts, and proptest strategies that make them up.
//!
//! A `Run` holds what an export says of one run, in no particular file form.
//! `any_runs` is *orderly*: whatever column is dropped, and however its runs
//! are spread over files, the facts that are left agree with each other.
//! `any_unruly_runs` has nulls anywhere and costs that differ by a pico-dollar
//! between their forms; its answer depends on the files (`Question::files`).

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use uuid::Uuid;

use super::exact;

/// Midnight (UTC) at which made-up runs begin: 2026-08-12.
pub(crate) const FIRST_MIDNIGHT_US: i64 = 1_786_492_800_000_000;
/// Days over which made-up runs are spread.
pub(crate) const N_DAYS: i64 = 10;
/// A day in microseconds.
pub(crate) const DAY_US: i64 = 86_400_000_000;

const HOUR_US: i64 = 3_600_000_000;

/// What an export says of one run. Times are microseconds since 1970, UTC.
#[allow(clippy::struct_field_names)] // the names are the export's
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: Uuid,
    pub(crate) tenant_id: Uuid,
    pub(crate) session_id: Uuid,
    pub(crate) trace_id: Option<Uuid>,
    pub(crate) parent_run_id: Option<Uuid>,
    pub(crate) parent_run_ids: Vec<Uuid>,
    pub(crate) reference_example_id: Option<Uuid>,
    pub(crate) name: Option<String>,
    pub(crate) run_type: Option<String>,
    pub(crate) start_us: i64,
    pub(crate) end_us: Option<i64>,
    pub(crate) first_token_us: Option<i64>,
    pub(crate) status: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) is_root: Option<bool>,
    pub(crate) dotted_order: Option<String>,
    pub(crate) trace_tier: Option<String>,
    pub(crate) inputs: Option<String>,
    pub(crate) outputs: Option<String>,
    pub(crate) events: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) extra: Option<String>,
    pub(crate) feedback_stats: Option<String>,
    pub(crate) total_tokens: Option<i64>,
    pub(crate) prompt_tokens: Option<i64>,
    pub(crate) completion_tokens: Option<i64>,
    pub(crate) total_cost: Option<Cost>,
    pub(crate) prompt_cost: Option<Cost>,
    pub(crate) completion_cost: Option<Cost>,
}

impl Run {
    /// A successful root without usage in project 0; `sequence` makes its id.
    pub(crate) fn completed_root(sequence: u64, start_us: i64, end_us: i64) -> Self {
        let id = scattered_id(sequence);
        Self {
            id,
            tenant_id: tenant_id(0),
            session_id: project_id(0),
            trace_id: Some(id),
            name: Some("agent".to_owned()),
            run_type: Some("chain".to_owned()),
            start_us,
            end_us: Some(end_us),
            status: Some("success".to_owned()),
            is_root: Some(true),
            dotted_order: Some(segment(start_us, id)),
            ..Self::default()
        }
    }
}

/// A cost in dollars as files hold it: the double, and a decimal text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cost {
    pub(crate) double: f64,
    pub(crate) text: String,
}

impl Cost {
    /// The double and its shortest text, in plain or exponent notation.
    pub(crate) fn of_double(double: f64, with_exponent: bool) -> Self {
        let text = if with_exponent {
            format!("{double:e}")
        } else {
            format!("{double}")
        };
        Self { double, text }
    }

    /// The text and the double nearest to it.
    pub(crate) fn of_text(text: &str) -> Self {
        Self {
            double: text.parse().unwrap(),
            text: text.to_owned(),
        }
    }

    /// Whether both forms are the same number of pico-dollars.
    pub(crate) fn same_in_every_form(&self) -> bool {
        exact::pico_of_double(self.double) == exact::pico_of_text(&self.text)
    }
}

/// The id of the n-th made-up project.
pub(crate) fn project_id(index: usize) -> Uuid {
    scattered_id(0x5e55_0000 + index as u64)
}

/// The id of the n-th made-up tenant.
pub(crate) fn tenant_id(index: usize) -> Uuid {
    scattered_id(0x7e4a_0000 + index as u64)
}

/// Traces with their children, in up to `n_projects` projects; see above.
pub(crate) fn any_runs(n_projects: usize, max_traces: usize) -> BoxedStrategy<Vec<Run>> {
    runs(n_projects, max_traces, Tone::Orderly)
}

/// Like `any_runs`, with nulls in any column that has them, in any row.
pub(crate) fn any_unruly_runs(n_projects: usize, max_traces: usize) -> BoxedStrategy<Vec<Run>> {
    runs(n_projects, max_traces, Tone::Unruly)
}

/// A window: either bound absent, a midnight, a full hour (so that runs start
/// exactly there), or any microsecond. It may be empty.
pub(crate) fn any_window() -> BoxedStrategy<(Option<i64>, Option<i64>)> {
    (option::of(start()), option::of(start())).boxed()
}

/// Records of `GET /sessions` for some of the first `n_projects` projects and
/// for two that have no runs. Their own stats are wrong on purpose.
pub(crate) fn any_metadata(n_projects: usize) -> BoxedStrategy<Vec<Value>> {
    vec(option::weighted(0.7, any_record()), n_projects + 2)
        .prop_map(|records| {
            let numbered = records.into_iter().enumerate();
            numbered
                .filter_map(|(index, record)| Some(record?.into_json(index)))
                .collect()
        })
        .boxed()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Tone {
    Orderly,
    Unruly,
}

/// A trace before its runs have ids.
#[derive(Debug, Clone)]
struct Trace {
    project: usize,
    tenant: usize,
    root: Facts,
    root_is_missing: bool,
    children: Vec<Child>,
}

#[derive(Debug, Clone)]
struct Child {
    /// Chooses the parent among the runs made before.
    choice: usize,
    /// The export does not have the parent.
    is_orphan: bool,
    facts: Facts,
}

/// Everything of a run that does not depend on other runs.
#[derive(Debug, Clone)]
struct Facts {
    start_us: i64,
    duration_us: Option<i64>,
    first_token_after_us: Option<i64>,
    outcome: (Option<&'static str>, Option<&'static str>),
    tokens: [Option<i64>; 3],
    costs: [Option<Cost>; 3],
    feedback_stats: Option<String>,
    name: Option<&'static str>,
    run_type: Option<&'static str>,
    trace_tier: Option<&'static str>,
    tags: Option<Vec<&'static str>>,
    extra: Option<String>,
    example: Option<u64>,
    /// Bits 0 to 3: `is_root`, `dotted_order`, `trace_id`, `parent_run_id` is
    /// null, where the tone allows it.
    holes: u8,
}

fn runs(n_projects: usize, max_traces: usize, tone: Tone) -> BoxedStrategy<Vec<Run>> {
    vec(trace(n_projects, tone), 0..=max_traces)
        .prop_map(move |traces| {
            let mut runs = Vec::new();
            let mut n_ids = 0;
            for trace in traces {
                grow(trace, tone, &mut n_ids, &mut runs);
            }
            runs
        })
        .boxed()
}

fn trace(n_projects: usize, tone: Tone) -> impl Strategy<Value = Trace> {
    let rarely = |one_in: u32| prop_oneof![one_in - 1 => Just(false), 1 => Just(true)];
    (
        0..n_projects,
        rarely(20).prop_map(usize::from),
        facts(tone),
        rarely(20),
        vec(child(tone), 0..4),
    )
        .prop_map(|(project, tenant, root, root_is_missing, children)| Trace {
            project,
            tenant,
            root,
            root_is_missing,
            children,
        })
}

fn child(tone: Tone) -> impl Strategy<Value = Child> {
    (0..4usize, proptest::bool::weighted(0.05), facts(tone)).prop_map(
        |(choice, is_orphan, facts)| Child {
            choice,
            is_orphan,
            facts,
        },
    )
}

fn facts(tone: Tone) -> impl Strategy<Value = Facts> {
    let when = (start(), option::weighted(0.9, span()), option::of(span()));
    let usage = (
        [tokens(), tokens(), tokens()],
        [cost(tone), cost(tone), cost(tone)],
    );
    let labels = (
        option::of(select(vec!["agent", "chat", "Zo\u{eb} \"q\"", ""])),
        option::of(select(vec!["chain", "llm", "tool", "retriever"])),
        option::of(select(vec!["longlived", "shortlived", "shortlived"])),
        option::of(vec(select(vec!["prod", "b c", "\u{fc}\"q\""]), 0..3)),
        option::of(extra()),
        option::weighted(0.2, 0..3u64),
    );
    let holes = prop_oneof![6 => Just(0u8), 2 => any::<u8>()];
    (when, outcome(tone), usage, feedback_stats(), labels, holes).prop_map(
        |(when, outcome, (tokens, costs), feedback_stats, labels, holes)| Facts {
            start_us: when.0,
            duration_us: when.1,
            first_token_after_us: when.2,
            outcome,
            tokens,
            costs,
            feedback_stats,
            name: labels.0,
            run_type: labels.1,
            trace_tier: labels.2,
            tags: labels.3,
            extra: labels.4,
            example: labels.5,
            holes,
        },
    )
}

/// Some that filters ask for, and some with what runs are grouped by.
fn extra() -> impl Strategy<Value = String> {
    let fixed = select(vec![
        r#"{"metadata": {"user": "u1", "session_id": "t1"}, "runtime": {}}"#,
        r#"{"runtime": {}, "metadata": {"user": "u2", "n": 3, "x": 1.50, "flag": true, "none": null, "thread_id": 7, "deep": {"a": 1, "b": [1, {"c": 2}]}}}"#,
        r#"{"metadata": null}"#,
        "{}",
    ]);
    let member = select(METADATA.to_vec()).prop_flat_map(|(key, values)| {
        let values = values.to_vec();
        select(values).prop_map(move |value| (key, value))
    });
    let members = vec(member, 1..12).prop_map(|members| {
        let by_key: BTreeMap<&str, &str> = members.into_iter().collect();
        let members = by_key.iter();
        let members: Vec<String> = members
            .map(|(key, value)| format!("{}: {value}", json!(key)))
            .collect();
        format!(r#"{{"metadata": {{{}}}}}"#, members.join(", "))
    });
    prop_oneof![1 => fixed.prop_map(str::to_owned), 1 => members]
}

/// Members of metadata and what they may be, as JSON.
const METADATA: [(&str, &[&str]); 18] = [
    (
        "team",
        &[
            r#""red""#,
            r#""blue""#,
            r#""""#,
            "7",
            "1.50",
            "true",
            "null",
        ],
    ),
    (
        "a",
        &[
            r#"{"b": "below"}"#,
            r#"{"b": {"c": 1e3}}"#,
            r#"{"b.c": "at once", "b": {"c": "in two"}}"#,
            r#""no object""#,
        ],
    ),
    ("a.b", &[r#""whole""#, "null", r#"{"c": "of the whole"}"#]),
    ("ls_model_name", &[r#""gpt""#, r#""opus""#, "null"]),
    ("model_name", &[r#""gpt""#, r#""old""#]),
    ("model", &[r#""gpt""#, "{}"]),
    ("ls_provider", &[r#""one""#, "[]"]),
    ("provider", &[r#""one""#, r#""other""#]),
    ("user_id", &[r#""u1""#, r#""u3""#, "12345"]),
    ("user", &[r#""u1""#, r#""u2""#]),
    ("thread_id", &[r#""t1""#, r#""t2""#]),
    ("conversation_id", &[r#""t3""#, "false"]),
    ("environment", &[r#""prod""#, r#""staging""#]),
    ("env", &[r#""prod""#, "-5"]),
    ("revision_id", &[r#""r1""#, "null"]),
    ("version", &[r#""1.0""#, "2", "2.0"]),
    ("release", &[r#""r1""#]),
    ("lc_hub_repo", &[r#""greet""#]),
];

fn start() -> impl Strategy<Value = i64> {
    let midnight = (0..=N_DAYS).prop_map(|day| day * DAY_US);
    prop_oneof![
        4 => 0..N_DAYS * DAY_US,
        2 => midnight.clone(),
        1 => midnight.prop_map(|at| at - 1),
        2 => (0..N_DAYS * 24).prop_map(|hour| hour * HOUR_US),
    ]
    .prop_map(|since_first| FIRST_MIDNIGHT_US + since_first)
}

/// A duration in microseconds: repeated ones, zero, clock skew, and everything
/// from a microsecond to a day and a half, evenly over the magnitudes.
fn span() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => Just(0),
        3 => select(vec![1_000i64, 250_000, 1_000_000, 1_000_001]),
        6 => (0..37u32, any::<u64>()).prop_map(|(bits, noise)| {
            let lowest = 1u64 << bits;
            i64::try_from(lowest + noise % lowest).unwrap()
        }),
        1 => -10_000_000i64..0,
    ]
}

fn outcome(tone: Tone) -> impl Strategy<Value = (Option<&'static str>, Option<&'static str>)> {
    let limited = "RateLimitError('429')";
    let mut outcomes = vec![
        (Some("success"), None),
        (Some("success"), None),
        (Some("success"), None),
        (Some("success"), Some("a warning that failed nothing")),
        (Some("error"), Some(limited)),
        (Some("error"), Some("TimeoutError: no answer")),
        (Some("error"), Some("ValueError: x")),
        (Some("error"), Some(" Timeout (5s): late")),
        (Some("error"), Some("")),
        (Some("error"), None),
        (Some("success"), None),
        (Some("success"), None),
        (Some("success"), None),
        (Some("pending"), None),
        (None, None),
    ];
    if tone == Tone::Unruly {
        outcomes.extend([(None, Some(limited)); 6]);
    }
    select(outcomes)
}

fn tokens() -> BoxedStrategy<Option<i64>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(0)),
        6 => (1..100_000i64).prop_map(Some),
        1 => Just(Some(2_000_000_000)),
        1 => (-5..0i64).prop_map(Some),
    ]
    .boxed()
}

fn cost(tone: Tone) -> BoxedStrategy<Option<Cost>> {
    // What a trace uses in all must fit into 64 bits of pico-dollars, of which it takes ten of these.
    let digits = (0..1_800_000u64, 0..=12u32)
        .prop_map(|(digits, places)| format!("{digits}e-{places}").parse().unwrap());
    let noisy = (0..100u8, 0..100u8).prop_map(|(a, b)| f64::from(a) * 0.1 + f64::from(b) * 0.2);
    let double = prop_oneof![
        1 => Just(0.0),
        8 => digits,
        4 => noisy,
        2 => 0.0..1.0f64,
        1 => select(vec![8.2e-6, 1e-12, 4e-13, 1e-300, -0.0, -0.75, -1e-12]),
        1 => select(vec![1_800_000.0, 1_799_999.5, 123_456.789_012, -9_000_000.0]),
        1 => Just(f64::NAN),
    ];
    (option::weighted(0.8, double), any::<bool>())
        .prop_map(|(double, with_exponent)| Some(Cost::of_double(double?, with_exponent)))
        .prop_map(move |cost| {
            let agrees = cost.as_ref().is_none_or(Cost::same_in_every_form);
            if tone == Tone::Unruly || agrees {
                cost
            } else {
                None
            }
        })
        .boxed()
}

/// A run's summary of its feedback, as JSON text.
fn feedback_stats() -> impl Strategy<Value = Option<String>> {
    let keys = select(vec!["helpful", "correct", "a label", "\u{dc}n\u{ef}"]);
    prop_oneof![
        4 => Just(None),
        1 => Just(Some("{}".to_owned())),
        4 => proptest::collection::btree_map(keys, summary(), 1..4).prop_map(|by_key| {
            let entries: Vec<String> = by_key
                .iter()
                .map(|(key, summary)| format!("{}: {summary}", json!(key)))
                .collect();
            Some(format!("{{{}}}", entries.join(", ")))
        }),
    ]
}

/// One key's summary: numeric, by label, both, or comments only.
fn summary() -> impl Strategy<Value = String> {
    let counts =
        proptest::collection::btree_map(select(vec!["good", "bad", "\u{e9}"]), 1..9u64, 1..3);
    let numeric = (
        prop_oneof![Just(1), 2..50u64],
        score(),
        option::weighted(0.8, deviation()),
    )
        .prop_map(|(n, average, deviation)| moments(n, average, deviation));
    let labels = counts.clone().prop_map(|counts| {
        let n: u64 = counts.values().sum();
        format!(r#""n": {n}, "avg": null, "values": {}"#, json!(counts))
    });
    let both = (score(), counts)
        .prop_map(|(one, counts)| format!(r#""n": 1, "avg": {one}, "values": {}"#, json!(counts)));
    let comment = Just(r#""n": 0, "avg": null, "comments": ["so so"], "values": {}"#.to_owned());
    let more = select(vec![
        "",
        r#", "errors": 2, "sources": ["api"], "contains_thread_feedback": true"#,
        r#", "errors": 0, "show_feedback_arrow": true, "contains_thread_feedback": false"#,
    ]);
    (
        prop_oneof![6 => numeric, 3 => labels, 1 => both, 1 => comment],
        more,
    )
        .prop_map(|(moments, more)| format!("{{{moments}{more}}}"))
}

fn moments(n: u64, average: &str, deviation: Option<&str>) -> String {
    match (n, deviation) {
        (1, Some(_)) => format!(
            r#""n": 1, "avg": {average}, "stdev": 0.0, "session_min_score": {average}, "session_max_score": {average}"#
        ),
        (_, None) => format!(r#""n": {n}, "avg": {average}"#),
        // Extremes that enclose any average of `score`.
        (_, Some(deviation)) => format!(
            r#""n": {n}, "avg": {average}, "stdev": {deviation}, "session_min_score": -2.5, "session_max_score": 1000.1"#
        ),
    }
}

fn score() -> impl Strategy<Value = &'static str> {
    select(vec![
        "0",
        "1",
        "1.0",
        "0.5",
        "-1",
        "0.30000000000000004",
        "0.3333333333333333",
        "1e-7",
        "999.99",
    ])
}

fn deviation() -> impl Strategy<Value = &'static str> {
    select(vec!["0.0", "0.5", "0.4714045207910317", "1e-9", "12.25"])
}

/// Gives a trace's runs their ids, parents and dotted orders.
fn grow(trace: Trace, tone: Tone, n_ids: &mut u64, runs: &mut Vec<Run>) {
    let mut next_id = || {
        *n_ids += 1;
        scattered_id(*n_ids)
    };
    let (project, tenant) = (project_id(trace.project), tenant_id(trace.tenant));
    let root_id = next_id();
    let (root_start_us, root_holes) = (trace.root.start_us, trace.root.holes);
    // Id, ancestors and dotted order of the runs so far.
    let mut family = vec![(root_id, Vec::new(), segment(root_start_us, root_id))];
    if !trace.root_is_missing {
        let mut root = run_of(trace.root, root_id, (tenant, project));
        root.trace_id = Some(root_id);
        root.is_root = Some(true);
        root.dotted_order = Some(family[0].2.clone());
        if tone == Tone::Unruly {
            root.is_root = (root_holes & 1 == 0).then_some(true);
            root.dotted_order = root.dotted_order.filter(|_| root_holes & 2 == 0);
            root.trace_id = root.trace_id.filter(|_| root_holes & 4 == 0);
        }
        runs.push(root);
    }
    for child in trace.children {
        let id = next_id();
        let mut facts = child.facts;
        let (mut parent, ancestors, order) = family[child.choice % family.len()].clone();
        if child.is_orphan {
            parent = scattered_id(0x0a00_0000 + facts.start_us.unsigned_abs());
        }
        let lineage: Vec<Uuid> = ancestors.into_iter().chain([parent]).collect();
        facts.start_us = root_start_us + facts.start_us % (2 * HOUR_US);
        let order = format!("{order}.{}", segment(facts.start_us, id));
        family.push((id, lineage.clone(), order.clone()));
        let holes = facts.holes;
        let mut child = run_of(facts, id, (tenant, project));
        child.trace_id = (holes & 4 == 0).then_some(root_id);
        child.parent_run_id = Some(parent);
        child.parent_run_ids = lineage;
        child.is_root = (holes & 1 == 0).then_some(false);
        child.dotted_order = (holes & 2 == 0).then_some(order);
        if tone == Tone::Unruly && holes & 8 != 0 {
            child.parent_run_id = None;
        }
        runs.push(child);
    }
}

fn run_of(facts: Facts, id: Uuid, (tenant_id, session_id): (Uuid, Uuid)) -> Run {
    let text = |value: Option<&str>| value.map(str::to_owned);
    let [total_tokens, prompt_tokens, completion_tokens] = facts.tokens;
    let [total_cost, prompt_cost, completion_cost] = facts.costs;
    Run {
        id,
        tenant_id,
        session_id,
        name: text(facts.name),
        run_type: text(facts.run_type),
        start_us: facts.start_us,
        end_us: facts.duration_us.map(|span| facts.start_us + span),
        first_token_us: facts.first_token_after_us.map(|span| facts.start_us + span),
        reference_example_id: facts.example.map(|n| scattered_id(0xe8a_0000 + n)),
        status: text(facts.outcome.0),
        error: text(facts.outcome.1),
        trace_tier: text(facts.trace_tier),
        inputs: Some(match facts.tokens[0] {
            Some(0) => r#"{"question": "Why?", "n": [1, {"x": true}]}"#.to_owned(),
            Some(n) => format!(r#"{{"question": "why?", "n": {n}}}"#),
            None => "no JSON".to_owned(),
        }),
        outputs: facts.duration_us.map(|us| match us % 3 {
            0 => r#"{"answer": ["a", 1.5, true]}"#.to_owned(),
            1 => format!(r#"{{"answer": {us}}}"#),
            _ => r#"{"answer": "so"}"#.to_owned(),
        }),
        tags: facts
            .tags
            .map(|tags| tags.into_iter().map(str::to_owned).collect()),
        extra: facts.extra,
        feedback_stats: facts.feedback_stats,
        total_tokens,
        prompt_tokens,
        completion_tokens,
        total_cost,
        prompt_cost,
        completion_cost,
        ..Run::default()
    }
}

/// A uuid without order or pattern, always the same for the same number.
fn scattered_id(number: u64) -> Uuid {
    let half = |salt: u64| {
        let mut bits = number
            .wrapping_add(salt)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits ^ (bits >> 31)
    };
    Uuid::from_u64_pair(half(0), half(1 << 40))
}

/// One segment of a dotted order.
fn segment(start_us: i64, id: Uuid) -> String {
    let at = DateTime::from_timestamp_micros(start_us).unwrap();
    format!("{}{id}", at.format("%Y%m%dT%H%M%S%6fZ"))
}

/// A session's record before it has an id.
#[derive(Debug, Clone)]
struct Record {
    start: Option<(i64, u8)>,
    end: Option<(i64, u8)>,
    live: Option<(i64, u8)>,
    name: Option<&'static str>,
    description: Option<&'static str>,
    extra: Option<&'static str>,
    trace_tier: Option<&'static str>,
    dataset: Option<usize>,
    test_run_number: Option<u32>,
}

fn any_record() -> impl Strategy<Value = Record> {
    let time = || option::of((start(), any::<u8>()));
    (
        [time(), time(), time()],
        option::of(select(vec!["checkout", "Zo\u{eb}'s agent"])),
        option::of(select(vec!["", "what it does"])),
        option::of(select(vec![
            "{}",
            r#"{"z": {"b": [1, 0.5], "a": null}, "a": "x"}"#,
        ])),
        option::of(select(vec!["longlived", "shortlived"])),
        option::of(0..2usize),
        option::weighted(0.2, 1..99u32),
    )
        .prop_map(
            |(times, name, description, extra, trace_tier, dataset, number)| {
                let [start, end, live] = times;
                Record {
                    // An experiment without a start has no defined ordinal.
                    start: start.or(dataset.map(|_| (FIRST_MIDNIGHT_US, 0))),
                    end,
                    live,
                    name,
                    description,
                    extra,
                    trace_tier,
                    dataset,
                    test_run_number: number,
                }
            },
        )
}

impl Record {
    /// The index also keeps the start times of different projects apart.
    fn into_json(self, index: usize) -> Value {
        let time = |at: Option<(i64, u8)>| at.map(|(at_us, form)| written_time(at_us, form));
        let apart_us = i64::try_from(index).unwrap() * 1_001;
        let start = self.start.map(|(at_us, form)| (at_us + apart_us, form));
        let extra: Option<Value> = self.extra.map(|text| serde_json::from_str(text).unwrap());
        json!({
            "tenant_id": tenant_id(9),
            "id": project_id(index),
            "name": self.name,
            "start_time": time(start),
            "end_time": time(self.end),
            "description": self.description,
            "extra": extra,
            "default_dataset_id": self.dataset.map(|_| scattered_id(0xd00)),
            "reference_dataset_id": self.dataset.map(|set| scattered_id(0xd01 + set as u64)),
            "trace_tier": self.trace_tier,
            "test_run_number": self.test_run_number,
            "last_run_start_time_live": time(self.live),
            "run_count": 999_999,
            "latency_p50": 77.5,
            "total_cost": "12345.5",
            "feedback_stats": {"wrong": {"n": 1}},
        })
    }
}

/// One of the ways in which `GET /sessions` and its clients write a time.
fn written_time(at_us: i64, form: u8) -> String {
    let at = DateTime::from_timestamp_micros(at_us).unwrap();
    let utc = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    match form % 5 {
        0 => utc,
        1 => utc.trim_end_matches('Z').to_owned(),
        2 => utc.replace('T', " ").replace('Z', "+00:00"),
        3 => at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
        _ => {
            let east = chrono::FixedOffset::east_opt(2 * 3600).unwrap();
            at.with_timezone(&east)
                .to_rfc3339_opts(SecondsFormat::Micros, false)
        }
    }
}
