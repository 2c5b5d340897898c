//! The reference itself, on figures that are worked out by hand.

use chrono::Weekday;
use chrono_tz::Tz;
use runtally::{Key, Population, Sort};

use super::*;
use crate::support::reference::UsageFrom;
use crate::support::run::{Cost, FIRST_MIDNIGHT_US, project_id};

const SECOND_US: i64 = 1_000_000;

fn at_s(seconds: i64) -> i64 {
    FIRST_MIDNIGHT_US + seconds * SECOND_US
}

fn asked(runs: Population, by: &[&str], measures: &[&str]) -> Asked {
    let breakdown = Breakdown {
        runs,
        by: by.iter().map(|key| key.parse().unwrap()).collect(),
        every: None,
        measures: measures.iter().map(|name| name.parse().unwrap()).collect(),
        sort: Sort::by_runs(),
        limit: None,
    };
    Asked::new(breakdown, None)
}

/// A label for each key, `(none)` and `(other)`, then the figures.
fn line(group: &ExpectedGroup) -> String {
    let labels = group.labels.iter().map(|label| match label {
        Label::Value(text) => text.clone(),
        Label::None => "(none)".to_owned(),
        Label::Other => "(other)".to_owned(),
    });
    let figures = group.figures.iter().map(Wanted::to_string);
    let columns: Vec<String> = labels.chain(figures).collect();
    columns.join(" | ")
}

/// The groups' lines and the total's.
fn lines(runs: &[Run], question: &Question, asked: &Asked) -> Vec<String> {
    let expected = expected(runs, question, asked);
    let groups = expected.groups.iter().chain([&expected.total]);
    groups.map(line).collect()
}

fn assert_lines(runs: &[Run], asked: &Asked, by_hand: &[&str]) {
    assert_eq!(lines(runs, &Question::default(), asked), by_hand);
}

/// A run below another one.
fn child(sequence: u64, parent: &Run, name: &str, run_type: &str, from_s: i64, to_s: i64) -> Run {
    Run {
        parent_run_id: Some(parent.id),
        trace_id: parent.trace_id,
        is_root: Some(false),
        dotted_order: None,
        name: Some(name.to_owned()),
        run_type: Some(run_type.to_owned()),
        ..Run::completed_root(sequence, at_s(from_s), at_s(to_s))
    }
}

/// A trace with a call of a model and a tool that calls another, and one an hour later that is pending.
fn two_traces() -> Vec<Run> {
    let mut root = Run::completed_root(1, at_s(0), at_s(10));
    (root.total_tokens, root.total_cost) = (Some(100), Some(Cost::of_text("0.5")));
    root.extra = Some(
        r#"{"metadata": {"team": "red", "user_id": "u1", "thread_id": "t1", "n": {"x": 2}}}"#
            .to_owned(),
    );
    root.tags = Some(vec!["prod".to_owned(), "b c".to_owned(), "prod".to_owned()]);
    root.feedback_stats = Some(
        r#"{"tone": {"n": 3, "avg": null, "values": {"good": 2, "bad": 0, "odd": 1}},
            "score": {"n": 1, "avg": 0.50}}"#
            .to_owned(),
    );
    let mut call = child(2, &root, "call", "llm", 1, 5);
    call.first_token_us = Some(at_s(2));
    (call.total_tokens, call.total_cost) = (Some(70), Some(Cost::of_text("0.3")));
    call.completion_tokens = Some(20);
    call.extra = Some(r#"{"metadata": {"ls_model_name": "gpt", "user": "u9"}}"#.to_owned());
    let mut search = child(3, &root, "search", "tool", 5, 9);
    (search.total_tokens, search.total_cost) = (Some(25), Some(Cost::of_text("0.15")));
    search.status = Some("error".to_owned());
    search.error = Some("ValueError: x (y)".to_owned());
    let mut fetch = child(4, &search, "fetch", "tool", 6, 7);
    fetch.total_tokens = Some(30);
    let mut pending = Run::completed_root(5, at_s(3_600), 0);
    pending.end_us = None;
    pending.name = Some("chat".to_owned());
    pending.extra = Some(r#"{"metadata": {"team": 7, "user_id": "u1", "n": {"x": 3}}}"#.to_owned());
    vec![root, call, search, fetch, pending]
}

#[test]
fn traces_by_a_key_of_their_metadata() {
    let measures = [
        "runs",
        "completed",
        "p50",
        "tokens",
        "cost",
        "error_rate",
        "trace_error_rate",
        "users",
        "threads",
        "tokens_per_trace",
        "cost_per_trace",
        "tokens_share",
        "first_start",
        "last_start",
    ];
    let asked = asked(Population::Traces, &["metadata.team"], &measures);
    assert_lines(
        &two_traces(),
        &asked,
        &[
            "7 | 1 | 0 | - | 0 | - | 0 | 0 | 1 | 0 | 0 | - | 0 | @3600 | @3600",
            "red | 1 | 1 | 10s | 100 | 0.5$ | 0 | 1 | 1 | 1 | 100 | 0.5$ | 1 | @0 | @0",
            "2 | 1 | 10s | 100 | 0.5$ | 0 | 0.5 | 1 | 1 | 50 | 0.25$ | 1 | @0 | @3600",
        ],
    );
}

/// The root used 5 tokens itself, the outer tool 25 − 30, the inner one 30; dollars in the same way.
#[test]
fn runs_that_nest_count_what_they_used_themselves() {
    let measures = [
        "runs",
        "tokens",
        "tokens_min",
        "tokens_p50",
        "cost",
        "cost_mean",
    ];
    let all = asked(Population::All, &["run_type"], &measures);
    assert_lines(
        &two_traces(),
        &all,
        &[
            "chain | 2 | 5 | 5 | 5 | 0.05$ | 0.05$",
            "tool | 2 | 25 | 30 | 30 | 0.15$ | 0.15$",
            "llm | 1 | 70 | 70 | 70 | 0.3$ | 0.3$",
            "5 | 100 | 5 | 30 | 0.5$ | 0.166666666667$",
        ],
    );
    let tools = asked(Population::Type("tool".to_owned()), &["tool"], &measures);
    assert_lines(
        &two_traces(),
        &tools,
        &[
            "fetch | 1 | 30 | 30 | 30 | - | -",
            "search | 1 | -5 | - | - | 0.15$ | 0.15$",
            "2 | 25 | 30 | 30 | 0.15$ | 0.15$",
        ],
    );
    // Steps cannot nest, and where usage is each run's own nothing is taken off.
    let steps = asked(Population::Steps, &["step"], &measures);
    assert_lines(
        &two_traces(),
        &steps,
        &[
            "call | 1 | 70 | 70 | 70 | 0.3$ | 0.3$",
            "search | 1 | 25 | 25 | 25 | 0.15$ | 0.15$",
            "2 | 95 | 25 | 47.5 | 0.45$ | 0.225$",
        ],
    );
    let own = Question {
        usage: UsageFrom::Own,
        ..Question::default()
    };
    let total = lines(&two_traces(), &own, &all).pop();
    assert_eq!(
        total.as_deref(),
        Some("5 | 225 | 25 | 50 | 0.95$ | 0.316666666667$")
    );
}

/// A child counts where it starts within the span around the window, and its parent then is in it.
#[test]
fn what_is_taken_off_lies_near_the_window() {
    let asked = asked(Population::All, &[], &["runs", "tokens"]);
    let mut question = Question {
        until_us: Some(at_s(1)),
        trace_span_us: 2 * SECOND_US,
        ..Question::default()
    };
    // The call starts at its end, the tool 4 s after it.
    assert_eq!(lines(&two_traces(), &question, &asked), ["1 | 30"]);
    question.trace_span_us = 5 * SECOND_US;
    assert_eq!(lines(&two_traces(), &question, &asked), ["1 | 5"]);
    question.trace_span_us = 0;
    assert_eq!(lines(&two_traces(), &question, &asked), ["1 | 100"]);
}

#[test]
fn calls_of_a_model() {
    let measures = [
        "runs",
        "tokens",
        "tokens_per_second_p50",
        "time_per_token_max",
        "ttft_p50",
        "under:4s",
        "under_ttft:999ms",
        "streaming_rate",
        "distinct_traces",
    ];
    let asked = asked(
        Population::Type("llm".to_owned()),
        &["model", "root.metadata.team", "user"],
        &measures,
    );
    let mut runs = two_traces();
    let mut again = child(6, &runs[0], "call", "llm", 2, 7);
    again.extra = Some(r#"{"metadata": {"ls_model_name": null, "model": "old"}}"#.to_owned());
    again.parent_run_id = None;
    again.total_tokens = Some(1);
    runs.push(again);
    // 20 tokens in 3 s.
    assert_lines(
        &runs,
        &asked,
        &[
            "gpt | red | u9 | 1 | 70 | 6.667 | 0.15s | 1s | 1 | 0 | 1 | 1",
            "old | red | (none) | 1 | 1 | - | - | - | 0 | - | 0 | 1",
            "2 | 71 | 6.667 | 0.15s | 1s | 0.5 | 0 | 0.5 | 1",
        ],
    );
}

#[test]
fn a_trace_is_in_a_group_for_each_tag_and_label() {
    let measures = [
        "runs",
        "feedback:tone",
        "feedback_avg:score",
        "run_count_share",
    ];
    let tags = asked(Population::Traces, &["tag", "feedback.tone"], &measures);
    assert_lines(
        &two_traces(),
        &tags,
        &[
            "b c | good | 1 | 3 | 0.5 | 0.5",
            "b c | odd | 1 | 3 | 0.5 | 0.5",
            "prod | good | 1 | 3 | 0.5 | 0.5",
            "prod | odd | 1 | 3 | 0.5 | 0.5",
            "(none) | (none) | 1 | NoFeedback | - | 0.5",
            "2 | 3 | 0.5 | 1",
        ],
    );
    let scores = asked(
        Population::All,
        &["root.feedback.score", "error"],
        &["runs"],
    );
    assert_lines(
        &two_traces(),
        &scores,
        &[
            "0.5 | (none) | 3",
            "0.5 | ValueError | 1",
            "(none) | (none) | 1",
            "5",
        ],
    );
}

/// What one run says of each key.
const KEYS: &[(&str, &[&str])] = &[
    ("name", &[""]),
    ("run_type", &["chain"]),
    ("status", &["error"]),
    ("trace_tier", &[]),
    ("example", &[]),
    ("tag", &[]),
    ("error", &["Timeout"]),
    ("model", &["false"]),
    ("provider", &["1.5"]),
    ("user", &["12345678901234567890123"]),
    ("thread", &["-0"]),
    ("environment", &["prod"]),
    ("version", &["v"]),
    ("prompt", &["p"]),
    ("step", &[]),
    ("tool", &[]),
    ("metadata.team", &[]),
    ("metadata.list", &[]),
    ("metadata.a.b", &["whole"]),
    ("metadata.a.c", &["1000.0"]),
    ("metadata.a.d.e", &["at once"]),
    ("metadata.a.d.f", &["below"]),
    ("metadata.a.d.e.x", &[]),
    ("metadata.null.x", &[]),
    ("metadata.a", &[]),
    ("metadata.", &[]),
    ("feedback.none", &[]),
    ("feedback.unscored", &[]),
    ("feedback.both", &["good"]),
    ("feedback.scored", &["1e-7"]),
    ("feedback.zero", &["1"]),
];

#[test]
fn labels_of_every_key() {
    let mut run = Run::completed_root(1, at_s(0), at_s(1));
    run.name = Some(String::new());
    run.status = Some("error".to_owned());
    run.error = Some(" Timeout (5s): late".to_owned());
    run.tags = Some(Vec::new());
    run.extra = Some(
        r#"{"metadata": {"ls_model_name": null, "model_name": {}, "model": false, "provider": 1.50,
            "user_id": 12345678901234567890123, "session_id": [], "thread_id": -0,
            "environment": "prod", "env": "dev", "revision_id": null, "version": "v", "release": "r",
            "lc_hub_repo": "p", "team": null, "list": ["x"], "a.b": "whole", "null": null,
            "a": {"b": "below", "c": 1e3, "d.e": "at once", "d": {"e": "below", "f": "below"}}}}"#
            .to_owned(),
    );
    run.feedback_stats = Some(
        r#"{"unscored": {"n": 0, "avg": null, "values": {"bad": 0}},
            "both": {"n": 2, "avg": 1, "values": {"good": 1, "bad": 0}},
            "scored": {"n": 1, "avg": 1e-7, "values": {}}, "zero": {"n": 4, "avg": 1}}"#
            .to_owned(),
    );
    for (key, by_hand) in KEYS {
        let key: Key = key.parse().unwrap_or(Key::Metadata(String::new()));
        let asked = Asked::new(
            Breakdown {
                by: vec![key.clone()],
                ..asked(Population::Traces, &[], &[]).breakdown
            },
            None,
        );
        let expected = expected(std::slice::from_ref(&run), &Question::default(), &asked);
        let labels: Vec<Label> = expected
            .groups
            .iter()
            .map(|group| group.labels[0].clone())
            .collect();
        let mut wanted: Vec<Label> = Vec::new();
        wanted.extend(by_hand.iter().map(|text| Label::Value((*text).to_owned())));
        wanted.extend(by_hand.is_empty().then_some(Label::None));
        assert_eq!(labels, wanted, "{key}");
    }
    let texts = ["x", "x:", " : x", "(x)", "", "a b"];
    let classes = [Some("x"), Some("x"), None, None, None, Some("a b")];
    for (text, class) in texts.into_iter().zip(classes) {
        run.error = Some(text.to_owned());
        let asked = asked(Population::Traces, &["error"], &[]);
        let expected = expected(std::slice::from_ref(&run), &Question::default(), &asked);
        let wanted = class.map_or(Label::None, |class| Label::Value(class.to_owned()));
        assert_eq!(expected.groups[0].labels, [wanted], "{text}");
    }
}

/// Traces of three users: three of 1 s, two of 3 s, one that is pending.
fn of_three_users() -> Vec<Run> {
    let users = ["ann", "ann", "ann", "ben", "ben", "cid"];
    let mut runs: Vec<Run> = (0..6_i64)
        .zip(users)
        .map(|(n, user)| {
            let last_s = if user == "ann" { 1 } else { 3 };
            let start_s = 3_600 * n;
            let mut run =
                Run::completed_root(n.unsigned_abs(), at_s(start_s), at_s(start_s + last_s));
            run.extra = Some(format!(r#"{{"metadata": {{"user_id": "{user}"}}}}"#));
            run.total_tokens = Some(10 * (n + 1));
            run
        })
        .collect();
    runs[5].end_us = None;
    runs
}

fn sorted(sort: &str, limit: Option<usize>) -> Vec<String> {
    let by = [Key::User];
    let breakdown = Breakdown {
        by: by.to_vec(),
        sort: Sort::parse(sort, &by).unwrap(),
        limit,
        ..asked(Population::Traces, &[], &["runs", "p50", "tokens_share"]).breakdown
    };
    lines(
        &of_three_users(),
        &Question::default(),
        &Asked::new(breakdown, None),
    )
}

#[test]
fn groups_in_order_and_beyond_the_limit() {
    let (ann, ben, cid) = (
        "ann | 3 | 1s | 0.2857142857142857",
        "ben | 2 | 3s | 0.42857142857142855",
        "cid | 1 | - | 0.2857142857142857",
    );
    let total = "6 | 1s | 1";
    assert_eq!(sorted("runs", None), [ann, ben, cid, total]);
    assert_eq!(sorted("runs:asc", None), [cid, ben, ann, total]);
    // Without a latency it is the last either way; of equal ones the names decide.
    assert_eq!(sorted("p50", None), [ben, ann, cid, total]);
    assert_eq!(sorted("p50:asc", None), [ann, ben, cid, total]);
    assert_eq!(sorted("tokens_share:asc", None), [ann, cid, ben, total]);
    assert_eq!(sorted("user", None), [ann, ben, cid, total]);
    assert_eq!(sorted("user:desc", Some(3)), [cid, ben, ann, total]);
    let others = "(other) | 3 | 3s | 0.7142857142857143";
    assert_eq!(sorted("runs", Some(1)), [ann, others, total]);
}

#[test]
fn spans_have_no_gaps() {
    let spans = Spans {
        length: "6h",
        zone: Tz::UTC,
        week_start: Weekday::Mon,
    };
    let mut runs = of_three_users();
    runs[5].start_us = at_s(86_400);
    let mut breakdown = asked(Population::Traces, &["user"], &["runs", "p50", "tokens"]).breakdown;
    let objective = "latency<1s:90%".parse().unwrap();
    breakdown.measures.push(Measure::Objective(objective));
    let asked = Asked::new(breakdown, Some(spans));
    let expected = expected(&runs, &Question::default(), &asked);
    let series = |group: &ExpectedGroup| -> Vec<String> {
        let spans = group.series.iter();
        spans
            .map(|(start, end, figures)| {
                let figures: Vec<String> = figures.iter().map(Wanted::to_string).collect();
                let hour = |us: &i64| (us - FIRST_MIDNIGHT_US) / 3_600 / SECOND_US;
                format!("{}-{}: {}", hour(start), hour(end), figures.join(" "))
            })
            .collect()
    };
    let rest = [
        "6-12: 0 - 0 0 of 0",
        "12-18: 0 - 0 0 of 0",
        "18-24: 0 - 0 0 of 0",
    ];
    let [r6, r12, r18] = rest;
    assert_eq!(
        series(&expected.groups[0]),
        ["0-6: 3 1s 60 3 of 3", r6, r12, r18, "24-30: 0 - 0 0 of 0"]
    );
    assert_eq!(
        series(&expected.total),
        ["0-6: 5 1s 150 3 of 5", r6, r12, r18, "24-30: 1 - 60 0 of 0"]
    );
}

#[test]
fn spans_as_the_clock_in_berlin_has_them() {
    let us = |text: &str| {
        chrono::DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_micros()
    };
    for (length, moment, start, end) in [
        (
            "15m",
            "2026-10-25T00:59:59.9Z",
            "2026-10-25T00:45:00Z",
            "2026-10-25T01:00:00Z",
        ),
        (
            "1h",
            "2026-10-25T01:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z",
        ),
        // Midnight to six with the hour that comes twice, and without the one that does not come.
        (
            "6h",
            "2026-10-25T04:59:59Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T05:00:00Z",
        ),
        (
            "6h",
            "2026-03-29T00:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T04:00:00Z",
        ),
        (
            "1d",
            "2026-10-25T22:59:59Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
        ),
        (
            "1d",
            "2026-03-28T23:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        ),
        (
            "week",
            "2026-03-29T21:59:59Z",
            "2026-03-22T23:00:00Z",
            "2026-03-29T22:00:00Z",
        ),
        (
            "month",
            "2026-03-31T22:00:00Z",
            "2026-03-31T22:00:00Z",
            "2026-04-30T22:00:00Z",
        ),
        (
            "quarter",
            "2026-12-31T22:00:00Z",
            "2026-09-30T22:00:00Z",
            "2026-12-31T23:00:00Z",
        ),
        (
            "year",
            "2026-01-01T00:00:00Z",
            "2025-12-31T23:00:00Z",
            "2026-12-31T23:00:00Z",
        ),
    ] {
        let spans = Spans {
            length,
            zone: Tz::Europe__Berlin,
            week_start: Weekday::Mon,
        };
        assert_eq!(
            spans.around(us(moment)),
            (us(start), us(end)),
            "{length} {moment}"
        );
    }
    let sundays = Spans {
        length: "week",
        zone: Tz::Asia__Kolkata,
        week_start: Weekday::Sun,
    };
    let week = (us("2026-10-24T18:30:00Z"), us("2026-10-31T18:30:00Z"));
    assert_eq!(sundays.around(week.0), week);
    assert_eq!(sundays.around(week.1 - 1), week);
}

#[test]
fn projects_by_their_names() {
    let mut runs = of_three_users();
    runs[0].session_id = project_id(1);
    let question = Question {
        metadata: vec![serde_json::json!({"id": project_id(0), "name": "bot"})],
        ..Question::default()
    };
    let asked = asked(Population::Traces, &["project"], &["runs"]);
    let other = format!("{} | 1", project_id(1));
    assert_eq!(lines(&runs, &question, &asked), ["bot | 5", &other, "6"]);
}

#[test]
fn figures_agree_in_value_and_kind() {
    use runtally::{Figure, Nanoseconds, Thousandths};
    let of = |name: &str, runs: &[Run]| {
        let asked = asked(Population::Traces, &[], &[name]);
        expected(runs, &Question::default(), &asked).total.figures[0].clone()
    };
    let runs = of_three_users();
    let cost = |pico| {
        Figure::Cost(runtally::Cost {
            pico,
            format: runtally::CostFormat::String,
        })
    };
    // 1.000 s, 10.5 tokens a run of two, no cost.
    let (p50, mean) = (of("p50", &runs), of("tokens_per_trace", &runs[..2]));
    assert!(p50.agrees_with(&Figure::Seconds(Nanoseconds(1_000_000_000))));
    assert!(!p50.agrees_with(&Figure::Seconds(Nanoseconds(1_000_000_001))));
    assert!(!p50.agrees_with(&Figure::Count(1)));
    assert!(mean.agrees_with(&Figure::Thousandths(Thousandths(15_000))));
    assert!(mean.agrees_with(&Figure::Whole(15)));
    assert!(!mean.agrees_with(&cost(15_000_000_000_000)));
    assert!(of("cost", &runs).agrees_with(&Figure::Unknown));
    assert!(!of("cost", &runs).agrees_with(&cost(0)));
    assert!(of("cost", &two_traces()).agrees_with(&cost(500_000_000_000)));
    assert!(of("error_rate", &runs).agrees_with(&Figure::Share(0.0)));
    assert!(!of("error_rate", &runs).agrees_with(&Figure::Unknown));
    let (n, is_exact) = (3, true);
    assert!(of("users", &runs).agrees_with(&Figure::Distinct { n, is_exact }));
    let is_exact = false;
    assert!(!of("users", &runs).agrees_with(&Figure::Distinct { n, is_exact }));
    assert!(of("feedback:x", &runs).agrees_with(&Figure::Count(0)));
    // 0.1 % where there are more values than are kept.
    let many: Vec<Run> = (0..257_i64)
        .map(|n| Run::completed_root(n.unsigned_abs(), at_s(n), at_s(n) + 1_000_000 + n * 1_000))
        .collect();
    let near = Figure::Seconds(Nanoseconds(1_129_000_000));
    let far = Figure::Seconds(Nanoseconds(1_129_200_000));
    assert!(of("p50", &many).agrees_with(&near) && !of("p50", &many).agrees_with(&far));
    assert!(!of("p50", &many[..255]).agrees_with(&near));
}
