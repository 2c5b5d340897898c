//! Breakdowns that are made up: proptest strategies over everything that may be asked of runs.

use chrono::Weekday;
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use runtally::{Breakdown, Key, Measure, Objective, Population, Sort};

use super::run::DAY_US;
use super::stats::{Asked, Spans};

const HOUR_US: i64 = DAY_US / 24;

/// Keys of which a run has one at most.
pub(crate) const SINGLE: [&str; 31] = [
    "project",
    "name",
    "run_type",
    "status",
    "metadata.team",
    "metadata.a.b",
    "metadata.a.b.c",
    "metadata.n",
    "metadata.flag",
    "metadata.deep.a",
    "metadata.nowhere",
    "model",
    "provider",
    "user",
    "thread",
    "environment",
    "version",
    "prompt",
    "step",
    "tool",
    "error",
    "trace_tier",
    "example",
    "root.project",
    "root.name",
    "root.run_type",
    "root.metadata.team",
    "root.model",
    "root.user",
    "root.thread",
    "root.error",
];

/// Keys of which it may have several.
pub(crate) const MULTIPLE: [&str; 6] = [
    "tag",
    "feedback.helpful",
    "feedback.a label",
    "feedback.\u{dc}n\u{ef}",
    "root.tag",
    "root.feedback.correct",
];

/// Figures with an order.
pub(crate) const SORTABLE: [&str; 66] = [
    "runs",
    "errors",
    "completed",
    "error_rate",
    "streaming_rate",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "p0",
    "p50",
    "p90",
    "p95",
    "p99",
    "p99.9",
    "p99.9999",
    "p100",
    "mean",
    "min",
    "max",
    "ttft_p50",
    "ttft_p95",
    "ttft_p99",
    "ttft_mean",
    "ttft_min",
    "ttft_max",
    "tokens_p50",
    "tokens_p99",
    "tokens_mean",
    "tokens_min",
    "tokens_max",
    "prompt_tokens_p50",
    "prompt_tokens_p99",
    "prompt_tokens_mean",
    "completion_tokens_p50",
    "completion_tokens_p99",
    "completion_tokens_max",
    "cost_p50",
    "cost_p95",
    "cost_p99",
    "cost_mean",
    "cost_min",
    "cost_max",
    "tokens_per_second_p50",
    "tokens_per_second_mean",
    "tokens_per_second_min",
    "tokens_per_second_max",
    "time_per_token_p50",
    "time_per_token_mean",
    "time_per_token_min",
    "time_per_token_max",
    "under:0s",
    "under:1s",
    "under:10m",
    "under_ttft:250ms",
    "cost_per_trace",
    "tokens_per_trace",
    "prompt_cost_per_trace",
    "completion_tokens_per_trace",
    "distinct_traces",
    "users",
    "threads",
    "first_start",
    "last_start",
];

/// Figures without an order.
pub(crate) const UNSORTABLE: [&str; 5] = [
    "feedback_stats",
    "feedback:helpful",
    "feedback:nobody",
    "feedback_avg:helpful",
    "feedback_avg:correct",
];

/// Parts of the total.
const SHARES: [&str; 4] = ["runs_share", "errors_share", "tokens_share", "cost_share"];

const OBJECTIVES: [&str; 2] = ["latency<1s:90%", "first_token<300ms:99.9%"];

pub(crate) fn measures(names: &[&str]) -> Vec<Measure> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// None, one or two of these.
pub(crate) fn any_keys(words: &[&'static str]) -> BoxedStrategy<Vec<Key>> {
    let keys: Vec<Key> = words.iter().map(|word| word.parse().unwrap()).collect();
    let n_most = keys.len().min(2);
    let some = subsequence(keys, 1..=n_most).prop_shuffle();
    prop_oneof![1 => Just(Vec::new()), 6 => some].boxed()
}

pub(crate) fn any_population() -> impl Strategy<Value = Population> {
    let of_type = select(vec!["llm", "chain", "tool", "retriever", "LLM"]);
    prop_oneof![
        3 => Just(Population::Traces),
        2 => Just(Population::All),
        1 => Just(Population::Steps),
        2 => of_type.prop_map(|name| Population::Type(name.to_owned())),
    ]
}

fn any_spans() -> impl Strategy<Value = Spans> {
    let zones = [
        Tz::UTC,
        Tz::Europe__Berlin,
        Tz::Asia__Kolkata,
        Tz::America__New_York,
    ];
    (
        select(vec![
            "1h", "3h", "6h", "12h", "1d", "1d", "week", "week", "month", "quarter",
        ]),
        select(zones.to_vec()),
        select(vec![Weekday::Mon, Weekday::Sun]),
    )
        .prop_map(|(length, zone, week_start)| Spans {
            length,
            zone,
            week_start,
        })
}

/// Some figures, each once; of parts only where time is not split, of failed traces only of traces.
fn any_measures() -> impl Strategy<Value = (Vec<&'static str>, Vec<&'static str>, Vec<Objective>)> {
    let usual = [SORTABLE.as_slice(), &UNSORTABLE, &["trace_error_rate"]].concat();
    let objectives = OBJECTIVES.iter().map(|text| text.parse().unwrap());
    (
        subsequence(usual, 1..12),
        subsequence(SHARES.to_vec(), 0..3),
        subsequence(objectives.collect::<Vec<_>>(), 0..2),
    )
}

fn any_sort() -> impl Strategy<Value = (&'static str, bool, bool)> {
    let is_by_key = proptest::bool::weighted(0.3);
    (select(SORTABLE.to_vec()), is_by_key, any::<bool>())
}

/// Any breakdown by some of these keys.
pub(crate) fn any_asked(words: &[&'static str]) -> BoxedStrategy<Asked> {
    (
        any_population(),
        any_keys(words),
        proptest::option::weighted(0.3, any_spans()),
        any_measures(),
        any_sort(),
        proptest::option::weighted(0.3, 1..6_usize),
    )
        .prop_map(
            |(runs, by, spans, (usual, shares, objectives), sort, limit)| {
                let is_asked =
                    |name: &&str| *name != "trace_error_rate" || runs == Population::Traces;
                let mut asked = measures(&usual.into_iter().filter(is_asked).collect::<Vec<_>>());
                if spans.is_none() {
                    asked.extend(measures(&shares));
                }
                asked.extend(objectives.into_iter().map(Measure::Objective));
                let (measure, is_by_key, ascending) = sort;
                let direction = if ascending { "asc" } else { "desc" };
                let what = match by.first() {
                    Some(key) if is_by_key => key.to_string(),
                    _ => measure.to_owned(),
                };
                let breakdown = Breakdown {
                    sort: Sort::parse(&format!("{what}:{direction}"), &by).unwrap(),
                    runs,
                    by,
                    every: None,
                    measures: asked,
                    limit,
                };
                Asked::new(breakdown, spans)
            },
        )
        .boxed()
}

/// How far around the window children are looked at. For traces that is asked elsewhere: with less than
/// a day they may be built without their root.
pub(crate) fn trace_span_for(of: &Asked, choice: u8) -> i64 {
    match choice {
        0 if of.breakdown().runs != Population::Traces => HOUR_US,
        1 if of.breakdown().runs != Population::Traces => 0,
        _ => DAY_US,
    }
}
