//! Groups of runs: any breakdown of any runs in any form equals the naive reference, and what must hold
//! between answers does: groups add up to the total, projects are their documents, labels are what the
//! filter on them keeps, nothing is counted twice, and days have the hours that their clocks show.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Weekday};
use chrono_tz::Tz;
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use runtally::{
    Breakdown, Dedup, Engine, Error, Figure, Filter, Group, Key, Label, Limits, Measure,
    Nanoseconds, Population, Request, Sessions, Sort, Source, SourceOptions, Stats, Usage,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::documents::{any_form, any_shapes, any_usage, request, write_in_turns};
use crate::support::breakdown::{
    MULTIPLE, SINGLE, SORTABLE, UNSORTABLE, any_asked, any_keys, any_population, measures,
    trace_span_for,
};
use crate::support::evaluate::any_filter;
use crate::support::exact::plain;
use crate::support::quick;
use crate::support::reference::{Question, UsageFrom};
use crate::support::run::{
    Cost, FIRST_MIDNIGHT_US, Run, any_metadata, any_runs, any_window, project_id,
};
use crate::support::stats::{Asked, Spans, assert_same, assert_same_group, expected};
use crate::support::write::{Layout, Shape, write, write_sessions_json};

const HOUR_US: i64 = 3_600_000_000;

/// Files to ask, with what they are asked with.
struct Export {
    dir: tempfile::TempDir,
    options: SourceOptions,
}

impl Export {
    /// Writes runs in shapes, and says in the question what the files can say of them.
    fn write(runs: &[Run], shapes: &[Shape], question: &mut Question) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = SourceOptions::default();
        question.files = write_in_turns(dir.path(), runs, shapes);
        if shapes.iter().any(|shape| shape.dropped.contains(&"id")) {
            options.dedup = Dedup::Never;
        }
        if !question.metadata.is_empty() {
            write_sessions_json(dir.path(), &question.metadata, true);
        }
        if let Some(records) = &question.feedback {
            let path = dir.path().join("feedback.json");
            fs::write(&path, serde_json::to_string(records).unwrap()).unwrap();
            options.feedback = Some(path);
        }
        Self { dir, options }
    }

    /// Adds an earlier export of some of the runs, as they were then.
    fn add_earlier(&self, runs: &[Run]) {
        if runs.is_empty() {
            return;
        }
        let shape = Shape {
            export_id: Uuid::from_u128(0x0e),
            ..Shape::default()
        };
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for file in write(&self.dir.path().join("earlier"), runs, &shape) {
            let file = File::options().write(true).open(&file.path).unwrap();
            file.set_modified(written).unwrap();
        }
    }

    fn stats(&self, request: &Request, breakdown: &Breakdown) -> runtally::Result<Stats> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let engine = Engine::new(&Limits::default())?;
            let source = Source::open([self.dir.path()], &self.options)?;
            runtally::stats(&engine, &source, request, breakdown).await
        })
    }

    fn sessions(&self, request: &Request) -> runtally::Result<Sessions> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let engine = Engine::new(&Limits::default())?;
            let source = Source::open([self.dir.path()], &self.options)?;
            runtally::sessions(&engine, &source, request).await
        })
    }
}

/// Rounds runs to what the forms can hold.
fn fitted(runs: &[Run], shapes: &[Shape]) -> Vec<Run> {
    let mut runs = runs.to_vec();
    for shape in shapes {
        for run in &mut runs {
            shape.fit(run);
        }
    }
    runs
}

/// What some of the runs looked like before; the number chooses which, and how much they changed.
fn earlier(runs: &[Run], choice: usize) -> Vec<Run> {
    let mut before = Vec::new();
    for (n, run) in (choice..).zip(runs) {
        if !n.is_multiple_of(3) {
            continue;
        }
        let has_ended = n.is_multiple_of(2);
        before.push(Run {
            end_us: run.end_us.filter(|_| has_ended),
            name: Some("earlier".to_owned()),
            status: Some("error".to_owned()),
            total_tokens: Some(7),
            extra: None,
            tags: None,
            feedback_stats: None,
            ..run.clone()
        });
    }
    before
}

/// Asks the product and the reference, and compares.
fn check(runs: &[Run], shapes: &[Shape], question: Question, asked: &Asked) {
    check_with_earlier(runs, shapes, question, asked, None);
}

fn check_with_earlier(
    runs: &[Run],
    shapes: &[Shape],
    mut question: Question,
    asked: &Asked,
    choice: Option<usize>,
) {
    let runs = fitted(runs, shapes);
    if runs.is_empty() {
        return;
    }
    let export = Export::write(&runs, shapes, &mut question);
    if let Some(choice) = choice {
        export.add_earlier(&earlier(&runs, choice));
    }
    let Some(request) = request(&question) else {
        return;
    };
    let answer = export.stats(&request, asked.breakdown());
    let exists = |id: Uuid| runs.iter().any(|run| run.session_id == id);
    if !question.project.is_none_or(exists) {
        assert!(matches!(answer, Err(Error::NoSuchProject { .. })));
        return;
    }
    let answer = answer.unwrap();
    let expected = expected(&runs, &question, asked);
    assert_same(&answer, &expected, asked);
    let sums_usage = asked
        .breakdown()
        .measures
        .iter()
        .any(|measure| matches!(measure, Measure::Sum(_)));
    let mut are_built = expected.are_built.values();
    let first = are_built.next().copied();
    if sums_usage && are_built.all(|is_built| Some(*is_built) == first) {
        // Of runs that are not within each other nobody asks whose usage it is.
        let runs = &asked.breakdown().runs;
        let is_found_out = *runs == Population::Traces || runs.can_nest();
        let is_told = request.usage != Usage::Auto;
        let usage = if first == Some(true) && (is_found_out || is_told) {
            Usage::Own
        } else {
            Usage::Roots
        };
        assert_eq!(answer.usage, usage);
    }
}

/// Projects' records, no two of one name.
fn any_names(n_projects: usize) -> impl Strategy<Value = Vec<Value>> {
    any_metadata(n_projects).prop_map(|mut records| {
        for (number, record) in records.iter_mut().enumerate() {
            if let Some(name) = record["name"].as_str() {
                record["name"] = json!(format!("{name} {number}"));
            }
        }
        records
    })
}

fn parsed(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn any_filters() -> impl Strategy<Value = [Option<Filter>; 3]> {
    let filter = |often| proptest::option::weighted(often, any_filter());
    (filter(0.3), filter(0.1), filter(0.15)).prop_map(|(filter, of_root, of_tree)| {
        let of_tree = of_tree.map(|text| text.replace("root.", ""));
        [filter, of_root, of_tree].map(|text| text.as_deref().map(parsed))
    })
}

proptest! {
    #![proptest_config(quick(40))]

    #[test]
    fn any_breakdown_is_that_of_the_reference(
        runs in any_runs(3, 30),
        shapes in vec(any_form(), 1..4),
        window in any_window(),
        asked in any_asked(&[SINGLE.as_slice(), &MULTIPLE].concat()),
        [filter, trace_filter, tree_filter] in any_filters(),
        project in proptest::option::weighted(0.2, 0..4_usize),
        usage in any_usage(),
        metadata in any_names(3),
        trace_span in any::<u8>(),
        earlier in proptest::option::weighted(0.2, 0..6_usize),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            project: project.map(project_id),
            usage,
            metadata,
            filter,
            trace_filter,
            tree_filter,
            trace_span_us: trace_span_for(&asked, trace_span % 4),
            ..Question::default()
        };
        check_with_earlier(&runs, &shapes, question, &asked, earlier);
    }

    /// Without a window or a filter, so that most groups have several runs.
    #[test]
    fn so_is_one_of_all_runs(
        runs in any_runs(2, 60),
        asked in any_asked(&[SINGLE.as_slice(), &MULTIPLE].concat()),
        usage in any_usage(),
        metadata in any_names(2),
    ) {
        let question = Question { usage, metadata, ..Question::default() };
        check(&runs, &[Shape::default()], question, &asked);
    }
}

proptest! {
    #![proptest_config(quick(24))]

    #[test]
    fn statistics_by_project_are_the_documents(
        runs in any_runs(3, 40),
        shapes in any_shapes(),
        window in any_window(),
        usage in any_usage(),
        metadata in any_names(3),
        filter in proptest::option::weighted(0.2, any_filter()),
        scores in proptest::option::weighted(0.2, vec((any::<Index>(), -2..3_i32), 0..20)),
    ) {
        let runs = fitted(&runs, &shapes);
        prop_assume!(!runs.is_empty());
        let records = |scores: Vec<(Index, i32)>| {
            let record = |(index, score): (Index, i32)| {
                json!({"run_id": index.get(&runs).id, "key": "score", "score": score})
            };
            scores.into_iter().map(record).collect()
        };
        let mut question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            metadata,
            filter: filter.as_deref().map(parsed),
            feedback: scores.map(records),
            ..Question::default()
        };
        let export = Export::write(&runs, &shapes, &mut question);
        let Some(request) = request(&question) else {
            return Ok(());
        };
        let breakdown = Breakdown {
            runs: Population::Traces,
            by: vec![Key::Project],
            every: None,
            measures: Measure::run_stats()
                .into_iter()
                .filter(|measure| *measure != Measure::RunFacets)
                .collect(),
            sort: Sort::by_runs(),
            limit: None,
        };
        let Ok(documents) = export.sessions(&request) else {
            prop_assert!(export.stats(&request, &breakdown).is_err());
            return Ok(());
        };
        let stats = export.stats(&request, &breakdown).unwrap();
        let mut groups: BTreeMap<Label, &Group> = BTreeMap::new();
        groups.extend(stats.groups.iter().map(|group| (group.labels[0].clone(), group)));
        let mut n_groups = 0;
        for session in documents.sessions.iter().filter(|session| session.run_count > Some(0)) {
            let group = groups.get(&Label::Value(session.name.clone()));
            let document = serde_json::to_value(session).unwrap();
            prop_assert!(group.is_some(), "no group of {}", session.name);
            for (measure, figure) in breakdown.measures.iter().zip(&group.unwrap().figures) {
                let figure = serde_json::to_value(figure).unwrap();
                if let Some(value) = document.get(measure.to_string()) {
                    prop_assert_eq!(&figure, value, "{} of {}", measure, session.name);
                }
            }
            n_groups += 1;
        }
        prop_assert_eq!(groups.len(), n_groups);
    }

    #[test]
    fn groups_of_single_values_add_up_to_the_total(
        runs in any_runs(2, 40),
        population in any_population(),
        by in any_keys(&SINGLE),
        limit in proptest::option::of(1..4_usize),
        window in any_window(),
        filter in proptest::option::weighted(0.2, any_filter()),
        usage in any_usage(),
    ) {
        const ADDED_UP: [&str; 9] = [
            "runs", "errors", "completed", "total_tokens", "prompt_tokens", "completion_tokens",
            "total_cost", "prompt_cost", "completion_cost",
        ];
        const MERGED: [&str; 6] = ["p50", "p99", "ttft_p95", "tokens_p99", "cost_p50", "mean"];
        prop_assume!(!runs.is_empty());
        let mut question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            filter: filter.as_deref().map(parsed),
            ..Question::default()
        };
        let export = Export::write(&runs, &[Shape::default()], &mut question);
        let Some(request) = request(&question) else {
            return Ok(());
        };
        let whole = Breakdown {
            runs: population,
            by: Vec::new(),
            every: None,
            measures: measures(&[ADDED_UP.as_slice(), &MERGED].concat()),
            sort: Sort::by_runs(),
            limit,
        };
        let split = Breakdown { by, ..whole.clone() };
        let stats = export.stats(&request, &split).unwrap();
        prop_assert_eq!(&stats.total, &export.stats(&request, &whole).unwrap().total);
        let by_hand = expected(&runs, &question, &Asked::new(split.clone(), None));
        assert_same_group(&stats.total, &by_hand.total, &split.measures);
        if split.by.is_empty() {
            prop_assert!(stats.groups.is_empty());
            return Ok(());
        }
        for (place, name) in ADDED_UP.iter().enumerate() {
            let parts = stats.groups.iter().map(|group| &group.figures[place]);
            prop_assert_eq!(sum(parts), sum([&stats.total.figures[place]]), "{}", name);
        }
        prop_assert!(!stats.overlaps);
    }

    #[test]
    fn groups_of_labels_are_what_their_filters_keep(
        runs in any_runs(2, 40),
        population in any_population(),
        key in select(MULTIPLE.to_vec()),
        window in any_window(),
        usage in any_usage(),
        names in subsequence([SORTABLE.as_slice(), &UNSORTABLE].concat(), 1..12),
    ) {
        prop_assume!(!runs.is_empty());
        let mut question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            ..Question::default()
        };
        let export = Export::write(&runs, &[Shape::default()], &mut question);
        let Some(request) = request(&question) else {
            return Ok(());
        };
        let whole = Breakdown {
            runs: population,
            by: Vec::new(),
            every: None,
            measures: measures(&names),
            sort: Sort::by_runs(),
            limit: None,
        };
        let split = Breakdown { by: vec![key.parse().unwrap()], ..whole.clone() };
        let stats = export.stats(&request, &split).unwrap();
        prop_assert!(stats.overlaps);
        let labels: BTreeSet<&Label> = stats.groups.iter().map(|group| &group.labels[0]).collect();
        let by_hand = expected(&runs, &question, &Asked::new(split.clone(), None));
        prop_assert_eq!(labels, by_hand.groups.iter().map(|group| &group.labels[0]).collect());
        for group in stats.groups.iter().take(4) {
            let Some(filter) = selecting(key, &group.labels[0], &split.runs) else {
                continue;
            };
            let request = Request { filter: Some(filter.clone()), ..request.clone() };
            let alone = export.stats(&request, &whole).unwrap();
            prop_assert_eq!(&group.figures, &alone.total.figures, "{}", filter);
        }
    }
}

/// The filter that keeps the runs of a group; none where no filter can.
fn selecting(key: &str, label: &Label, population: &Population) -> Option<Filter> {
    let (prefix, key) = match key.strip_prefix("root.") {
        Some(key) => ("root.", key),
        None => ("", key),
    };
    let text = match (key.strip_prefix("feedback."), label) {
        (None, Label::Value(tag)) => format!("has({prefix}tags, '{tag}')"),
        // A trace that is built without its root has no tags, and no filter on roots keeps it.
        (None, Label::None) if *population != Population::Traces => {
            format!("eq({prefix}tags, null)")
        }
        (Some(key), Label::Value(label)) if label.parse::<f64>().is_err() => {
            format!("and(eq({prefix}feedback_key, '{key}'), eq({prefix}feedback_value, '{label}'))")
        }
        _ => return None,
    };
    Some(parsed(&text))
}

/// The sum of figures in pico-units; nothing of what is unknown.
fn sum<'f>(figures: impl IntoIterator<Item = &'f Figure>) -> BigInt {
    let pico = |figure: &Figure| match figure {
        Figure::Count(n) => BigInt::from(*n) * 1_000_000_000_000_u64,
        Figure::Whole(sum) => BigInt::from(*sum) * 1_000_000_000_000_u64,
        Figure::Cost(cost) => BigInt::from(cost.pico),
        Figure::Unknown => BigInt::ZERO,
        other => panic!("{other:?} does not add up"),
    };
    figures.into_iter().map(pico).sum()
}

/// Calls of these have no usage below them.
const LEAVES: [&str; 5] = ["llm", "retriever", "embedding", "prompt", "parser"];

/// Whole traces in which each run's usage contains that of the runs below it.
fn any_whole_traces() -> impl Strategy<Value = Vec<Run>> {
    let own = vec((0..1_000_i64, 0..1_000_000_i64), 200);
    (any_runs(2, 40), own).prop_map(|(mut runs, own)| {
        loop {
            let ids: BTreeSet<Uuid> = runs.iter().map(|run| run.id).collect();
            let n_runs = runs.len();
            runs.retain(|run| run.parent_run_id.is_none_or(|parent| ids.contains(&parent)));
            if runs.len() == n_runs {
                break;
            }
        }
        // Tokens, and costs in millionths of a dollar. Parents come before their children.
        let mut contained: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
        let mut calls: BTreeSet<Uuid> = BTreeSet::new();
        for (run, own) in runs.iter().zip(own.into_iter().cycle()) {
            let is_below_call = run
                .parent_run_id
                .is_some_and(|parent| calls.contains(&parent));
            let is_call = LEAVES.contains(&run.run_type.as_deref().unwrap_or_default());
            calls.extend((is_below_call || is_call).then_some(run.id));
            let own = if is_below_call { (0, 0) } else { own };
            for id in run.parent_run_ids.iter().chain([&run.id]) {
                let sum = contained.entry(*id).or_default();
                *sum = (sum.0 + own.0, sum.1 + own.1);
            }
        }
        for run in &mut runs {
            let (tokens, millionths) = contained[&run.id];
            let cost = Cost::of_text(&plain(&BigInt::from(millionths), 6));
            (run.total_tokens, run.prompt_tokens) = (Some(tokens), Some(tokens));
            (run.total_cost, run.prompt_cost) = (Some(cost.clone()), Some(cost));
            (run.completion_tokens, run.completion_cost) = (None, None);
        }
        runs
    })
}

fn every_population() -> Vec<Population> {
    let types = ["llm", "chain", "tool", "retriever"];
    let types = types.map(|name| Population::Type(name.to_owned()));
    [Population::All, Population::Steps, Population::Traces]
        .into_iter()
        .chain(types)
        .collect()
}

fn usage_of(runs: Population, by: Vec<Key>) -> Breakdown {
    Breakdown {
        runs,
        by,
        every: None,
        measures: measures(&["total_tokens", "total_cost"]),
        sort: Sort::by_runs(),
        limit: None,
    }
}

/// Near its parent or far from it, before it, in another file, without one.
#[test]
fn own_usage_is_told_wherever_parents_stand() {
    const PARENTS: [(usize, usize); 8] = [
        (11_990, 11_000),
        (11_991, 11_000),
        (11_992, 3),
        (11_993, 3),
        (11_994, 11_992),
        (11_995, 11_999),
        (2, 11_996),
        (5, 4),
    ];
    let runs = (0..12_000_u64).map(|number| {
        let start_us = FIRST_MIDNIGHT_US + i64::try_from(number).unwrap() * 1_000_000;
        let mut run = Run::completed_root(number, start_us, start_us + 500_000);
        run.name = Some(format!("agent {}", number % 7));
        run.total_tokens = (number % 5 > 0).then_some(100);
        run.total_cost = (number % 3 > 0).then(|| Cost::of_text("0.25"));
        run
    });
    let mut runs: Vec<Run> = runs.collect();
    for (child, parent) in PARENTS {
        let parent = runs[parent].id;
        let child = &mut runs[child];
        child.parent_run_id = Some(parent);
        child.trace_id = Some(parent);
        child.is_root = Some(false);
        child.total_tokens = Some(30);
    }
    // Whose parent is nowhere.
    runs[11_997].parent_run_id = Some(Uuid::from_u128(7));
    let asked = Asked::new(
        usage_of(Population::All, vec!["name".parse().unwrap()]),
        None,
    );
    let another = Shape {
        export_id: Uuid::from_u128(0x0f),
        ..Shape::default()
    };
    let ask = |runs: &[Run], shapes: &[Shape], until_us| {
        let question = Question {
            until_us,
            trace_span_us: HOUR_US,
            ..Question::default()
        };
        check(runs, shapes, question, &asked);
    };
    let one = [Shape::default()];
    ask(&runs, &one, None);
    ask(&runs, &[Shape::default(), another], None);
    // Children start after the window.
    ask(&runs, &one, Some(runs[11_994].start_us));
    // So many have none that these are not waited for.
    for (child, parent) in (9_500..10_900).zip(1_000..) {
        runs[child].parent_run_id = Some(Uuid::from_u128(parent));
        runs[child].is_root = Some(false);
    }
    ask(&runs, &one, None);
}

proptest! {
    #![proptest_config(quick(12))]

    #[test]
    fn no_groups_of_single_values_sum_above_the_documents(
        runs in any_whole_traces(),
        keys in vec(select(SINGLE.to_vec()), 7),
    ) {
        prop_assume!(!runs.is_empty());
        let mut question = Question::default();
        let export = Export::write(&runs, &[Shape::default()], &mut question);
        let request = request(&question).unwrap();
        let documents = export.sessions(&request).unwrap().total.unwrap();
        let whole = [
            BigInt::from(documents.tokens.unwrap()) * 1_000_000_000_000_u64,
            documents.cost.map_or(BigInt::ZERO, |cost| cost.pico.into()),
        ];
        for (population, key) in every_population().into_iter().zip(keys) {
            let breakdown = usage_of(population, vec![key.parse().unwrap()]);
            let stats = export.stats(&request, &breakdown).unwrap();
            for (place, whole) in whole.iter().enumerate() {
                let parts = sum(stats.groups.iter().map(|group| &group.figures[place]));
                prop_assert!(parts <= *whole, "{} by {}: {parts} of {whole}", breakdown.runs, key);
                prop_assert_eq!(&parts, &sum([&stats.total.figures[place]]));
                if matches!(breakdown.runs, Population::All | Population::Traces) {
                    prop_assert_eq!(&parts, whole);
                }
            }
        }
    }

    /// The reference itself.
    #[test]
    fn nor_do_those_of_the_reference(runs in any_whole_traces(), key in select(SINGLE.to_vec())) {
        let key: Vec<Key> = vec![key.parse().unwrap()];
        let sums = |population| {
            let asked = Asked::new(usage_of(population, key.clone()), None);
            let expected = expected(&runs, &Question::default(), &asked);
            [0, 1].map(|place| -> BigInt {
                let groups = expected.groups.iter();
                groups.filter_map(|group| group.figures[place].pico()).sum()
            })
        };
        let whole = sums(Population::Traces);
        for population in every_population() {
            let parts = sums(population.clone());
            prop_assert!(parts.iter().zip(&whole).all(|(part, whole)| part <= whole), "{}", population);
        }
        prop_assert_eq!(sums(Population::All), whole);
    }

    #[test]
    fn days_on_which_clocks_change_have_their_hours(
        is_spring in any::<bool>(),
        offsets in vec(-6 * HOUR_US..31 * HOUR_US, 1..40),
        by in any_keys(&["name"]),
    ) {
        let us = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let (midnight, n_hours) = if is_spring {
            (us("2026-03-29T00:00:00+01:00"), 23)
        } else {
            (us("2026-10-25T00:00:00+02:00"), 25)
        };
        let next_midnight = midnight + n_hours * HOUR_US;
        let starts = offsets.into_iter().map(|offset| midnight + offset);
        let starts = starts.chain([midnight - HOUR_US, next_midnight]);
        let runs: Vec<Run> = (1..)
            .zip(starts)
            .map(|(n, start_us)| {
                let mut run = Run::completed_root(n, start_us, start_us + 1_000_000);
                run.name = Some(if n < 20 { "agent" } else { "chat" }.to_owned());
                run.total_tokens = Some(i64::try_from(n).unwrap());
                run
            })
            .collect();
        let mut question = Question::default();
        let export = Export::write(&runs, &[Shape::default()], &mut question);
        for length in ["1h", "1d"] {
            let breakdown = Breakdown {
                measures: measures(&["runs", "total_tokens", "p50"]),
                ..usage_of(Population::Traces, by.clone())
            };
            let spans = Spans { length, zone: Tz::Europe__Berlin, week_start: Weekday::Mon };
            let asked = Asked::new(breakdown, Some(spans));
            let stats = export.stats(&request(&question).unwrap(), asked.breakdown()).unwrap();
            for group in stats.groups.iter().chain([&stats.total]) {
                let starts = group.series.iter().map(|bucket| bucket.start.0);
                let of_day = starts.filter(|us| (midnight..next_midnight).contains(us));
                let of_day: Vec<i64> = of_day.collect();
                let wanted = if length == "1h" { n_hours } else { 1 };
                prop_assert_eq!(i64::try_from(of_day.len()).unwrap(), wanted);
                prop_assert_eq!(of_day.first(), Some(&midnight));
                prop_assert!(group.series.windows(2).all(|pair| pair[0].end == pair[1].start));
                for place in [0, 1] {
                    let parts = sum(group.series.iter().map(|bucket| &bucket.figures[place]));
                    prop_assert_eq!(parts, sum([&group.figures[place]]));
                }
            }
            assert_same(&stats, &expected(&runs, &question, &asked), &asked);
        }
    }
}

/// Beyond the values that are kept, percentiles are within their bound and all else is exact.
#[test]
fn large_groups_are_within_their_bound() {
    let mut names = vec!["agent"; 20];
    names.extend(["chat"; 3]);
    let runs: Vec<Run> = (0..3_000)
        .map(|n| {
            let start_us = FIRST_MIDNIGHT_US + i64::try_from(n).unwrap() * 1_000_000;
            let span_us = i64::try_from(n * n * 37 % 90_000_017).unwrap();
            let mut run = Run::completed_root(n, start_us, start_us + span_us);
            run.name = Some(names[usize::try_from(n).unwrap() % names.len()].to_owned());
            run.total_tokens = Some(span_us / 1_000);
            run.total_cost = Some(Cost::of_text(&plain(&BigInt::from(span_us), 6)));
            run
        })
        .collect();
    let names = [
        "runs",
        "p50",
        "p99.9",
        "mean",
        "min",
        "max",
        "tokens_p50",
        "tokens_p99",
        "cost_p50",
        "cost_p99",
        "cost_mean",
        "cost",
    ];
    let breakdown = Breakdown {
        measures: measures(&names),
        ..usage_of(Population::Traces, vec![Key::Name])
    };
    let shape = Shape {
        layout: Layout::Flat,
        n_files: 5,
        ..Shape::default()
    };
    let asked = Asked::new(breakdown, None);
    check(&runs, &[shape], Question::default(), &asked);
}

/// So many that runs are dealt by them before they are tallied; where there are few, they are not.
#[test]
fn many_groups_among_many_runs_are_those_of_a_plain_count() {
    const N_NAMES: u64 = 20_011;
    let runs: Vec<Run> = (0..270_000)
        .map(|number| {
            let start_us = FIRST_MIDNIGHT_US + i64::try_from(number).unwrap() * 1_000;
            let span_us = i64::try_from(number * 7_919 % 1_000_003).unwrap();
            let mut run = Run::completed_root(number, start_us, start_us + span_us);
            run.name = (number % 9 > 0).then(|| format!("agent {}", number * 31 % N_NAMES));
            run.total_tokens = (number % 5 > 0).then_some(span_us % 1_000);
            run.total_cost = None;
            run
        })
        .collect();
    let mut counted: BTreeMap<Option<String>, (Option<i128>, Vec<i64>)> = BTreeMap::new();
    for run in &runs {
        let (tokens, spans) = counted.entry(run.name.clone()).or_default();
        if let Some(more) = run.total_tokens {
            *tokens = Some(tokens.unwrap_or_default() + i128::from(more));
        }
        spans.push(run.end_us.unwrap() - run.start_us);
    }
    let expected: BTreeMap<Label, [Figure; 3]> = counted
        .into_iter()
        .map(|(name, (tokens, mut spans))| {
            spans.sort_unstable();
            let n = Figure::Count(spans.len() as u64);
            let tokens = tokens.map_or(Figure::Unknown, Figure::Whole);
            let greatest = Figure::Seconds(Nanoseconds(
                u128::try_from(spans[spans.len() - 1]).unwrap() * 1_000,
            ));
            (
                name.map_or(Label::None, Label::Value),
                [n, tokens, greatest],
            )
        })
        .collect();
    let shape = Shape {
        layout: Layout::Flat,
        n_files: 3,
        ..Shape::default()
    };
    let export = Export::write(&runs, &[shape], &mut Question::default());
    for population in [Population::All, Population::Traces] {
        let breakdown = Breakdown {
            measures: measures(&["runs", "tokens", "max"]),
            ..usage_of(population, vec![Key::Name])
        };
        let stats = export.stats(&Request::default(), &breakdown).unwrap();
        assert!(stats.about.explain().contains("DealtExec"));
        let n_runs = |group: &Group| match group.figures[0] {
            Figure::Count(n) => n,
            _ => 0,
        };
        let order = |group: &Group| (Reverse(n_runs(group)), group.labels.clone());
        assert!(stats.groups.is_sorted_by_key(order));
        let found: BTreeMap<Label, [Figure; 3]> = stats
            .groups
            .into_iter()
            .map(|mut group| (group.labels.remove(0), group.figures.try_into().unwrap()))
            .collect();
        assert!(found == expected);
        let few = Breakdown {
            by: vec![Key::Status],
            ..breakdown
        };
        let stats = export.stats(&Request::default(), &few).unwrap();
        assert!(!stats.about.explain().contains("DealtExec"));
    }
}

/// A run that failed and says neither its trace nor that it is a root is a trace of its own, built from it
/// alone; it failed as well.
#[test]
fn a_trace_of_which_only_a_child_is_known_can_fail() {
    let root = Run::completed_root(1, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000);
    let mut child = Run::completed_root(2, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000);
    child.trace_id = None;
    child.is_root = Some(false);
    child.parent_run_id = Some(root.id);
    child.status = Some("error".to_owned());
    let question = Question {
        usage: UsageFrom::Own,
        ..Question::default()
    };
    let breakdown = Breakdown {
        measures: measures(&["runs", "errors", "trace_error_rate"]),
        ..usage_of(Population::Traces, vec![])
    };
    let asked = Asked::new(breakdown, None);
    check(&[root, child], &[Shape::default()], question, &asked);
}

/// More than 64 bits of pico-dollars in one trace are told, and never a wrong percentile.
#[test]
fn a_trace_that_costs_more_than_can_be_is_an_error() {
    let root = Run::completed_root(1, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000);
    let runs = [1, 2, 3].map(|number| {
        let mut run = root.clone();
        if number > 1 {
            run = Run::completed_root(number, root.start_us, root.start_us + 1_000);
            run.trace_id = Some(root.id);
            run.is_root = Some(false);
            run.parent_run_id = Some(root.id);
        }
        run.total_cost = Some(Cost::of_text("9000000"));
        run
    });
    let mut question = Question {
        usage: UsageFrom::Own,
        ..Question::default()
    };
    let export = Export::write(&runs, &[Shape::default()], &mut question);
    let asked = |names: &[&str]| Breakdown {
        measures: measures(names),
        ..usage_of(Population::Traces, vec![])
    };
    let request = request(&question).unwrap();
    let error = export.stats(&request, &asked(&["cost_p50"])).unwrap_err();
    assert!(error.to_string().contains("passes 64 bits"), "{error}");
    export.stats(&request, &asked(&["cost"])).unwrap();
}

/// What the documents' facets are, of a project that is a group.
#[test]
fn facets_of_a_project_are_those_of_its_document() {
    let mut runs: Vec<Run> = (0..9)
        .map(|n| Run::completed_root(n, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000))
        .collect();
    for (n, run) in runs.iter_mut().enumerate() {
        run.session_id = project_id(n % 2);
        run.tags = Some(vec!["prod".to_owned(), format!("v{}", n % 3)]);
        run.extra = Some(format!(r#"{{"metadata": {{"user": "u{}"}}}}"#, n % 4));
    }
    let mut question = Question::default();
    let export = Export::write(&runs, &[Shape::default()], &mut question);
    let request = Request {
        facets: true,
        ..request(&question).unwrap()
    };
    let breakdown = Breakdown {
        measures: vec![Measure::RunFacets],
        ..usage_of(Population::Traces, vec![Key::Project])
    };
    let documents = export.sessions(&request).unwrap().sessions;
    let stats = export.stats(&request, &breakdown).unwrap();
    assert_eq!(stats.groups.len(), documents.len());
    for document in documents {
        let label = Label::Value(document.name);
        let mut groups = stats.groups.iter();
        let group = groups.find(|group| group.labels[0] == label).unwrap();
        assert_eq!(
            group.figures,
            [Figure::Facets(document.run_facets.unwrap())]
        );
    }
}

/// A rule that is asked for holds for runs of any kind.
#[test]
fn usage_of_runs_that_carry_their_own_is_left_as_it_is() {
    let mut root = Run::completed_root(1, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000);
    root.total_tokens = Some(5);
    let mut call = Run::completed_root(2, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000);
    call.is_root = Some(false);
    (call.parent_run_id, call.trace_id) = (Some(root.id), Some(root.id));
    call.run_type = Some("llm".to_owned());
    call.total_tokens = Some(3);
    let runs = [root, call];
    for (usage, population, tokens) in [
        (UsageFrom::Roots, Population::All, 5),
        (UsageFrom::Own, Population::All, 8),
        (UsageFrom::Roots, Population::Traces, 5),
        (UsageFrom::Own, Population::Traces, 8),
        (UsageFrom::Auto, Population::All, 5),
        (UsageFrom::Auto, Population::Type("llm".to_owned()), 3),
    ] {
        let mut question = Question {
            usage,
            ..Question::default()
        };
        let export = Export::write(&runs, &[Shape::default()], &mut question);
        let breakdown = usage_of(population, Vec::new());
        let stats = export
            .stats(&request(&question).unwrap(), &breakdown)
            .unwrap();
        assert_eq!(
            stats.total.figures,
            [Figure::Whole(tokens), Figure::Unknown],
            "{usage:?}"
        );
    }
}
