//! Runs one by one: any runs in any form are listed as the naive reference lists them. Their tables,
//! Markdown and CSV, ordinary and hostile, and the command's flags.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use runtally::{
    Engine, Error, Filter, Limits, Listing, Request, RunOrder, Runs, Source, SourceOptions,
};
use serde_json::Value;
use uuid::Uuid;

use crate::documents::{any_form, any_usage, request, write_in_turns};
use crate::support::evaluate::any_filter;
use crate::support::quick;
use crate::support::reference::Question;
use crate::support::run::{Run, any_metadata, any_runs, any_window, project_id};
use crate::support::stats::lines;
use crate::support::write::{Shape, write, write_sessions_json};

fn ask(
    dir: &Path,
    limits: &Limits,
    request: &Request,
    listing: &Listing,
) -> runtally::Result<Runs> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(limits)?;
        let source = Source::open([dir], &SourceOptions::default())?;
        runtally::runs(&engine, &source, request, listing).await
    })
}

/// Writes runs in shapes, with what an earlier export said of some, asks the product and the reference,
/// and compares.
fn check(runs: &[Run], shapes: &[Shape], mut question: Question, listing: &Listing, repeats: bool) {
    let mut runs = runs.to_vec();
    for shape in shapes {
        runs.iter_mut().for_each(|run| shape.fit(run));
    }
    if runs.is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    question.files = write_in_turns(dir.path(), &runs, shapes);
    if repeats {
        write_earlier(&dir.path().join("earlier"), &runs);
    }
    write_sessions_json(dir.path(), &question.metadata, true);
    let Some(request) = request(&question) else {
        return;
    };
    let answer = ask(dir.path(), &Limits::default(), &request, listing);
    let exists = |id: Uuid| runs.iter().any(|run| run.session_id == id);
    if !question.project.is_none_or(exists) {
        assert!(matches!(answer, Err(Error::NoSuchProject { .. })));
        return;
    }
    let answer = answer.unwrap().runs;
    let answer: Vec<Value> = answer
        .iter()
        .map(|run| serde_json::to_value(run).unwrap())
        .collect();
    let expected = lines(&runs, &question, listing);
    let ids = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["id"].to_string()).collect()
    };
    assert_eq!(
        ids(&answer),
        ids(&expected),
        "not the same runs (left: actual)"
    );
    for (line, expected) in answer.iter().zip(&expected) {
        assert_eq!(line, expected, "(left: actual)");
    }
}

/// Every other run as it was before it ended.
fn write_earlier(dir: &Path, runs: &[Run]) {
    let before = runs.iter().step_by(2).map(|run| Run {
        end_us: None,
        name: Some("earlier".to_owned()),
        total_tokens: Some(7),
        ..run.clone()
    });
    let shape = Shape {
        export_id: Uuid::from_u128(0x0e),
        ..Shape::default()
    };
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for file in write(dir, &before.collect::<Vec<_>>(), &shape) {
        let file = File::options().write(true).open(&file.path).unwrap();
        file.set_modified(written).unwrap();
    }
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let populations = ["root", "all", "steps", "llm", "chain", "tool"];
    let orders = [
        RunOrder::Latency,
        RunOrder::FirstToken,
        RunOrder::Tokens,
        RunOrder::Cost,
        RunOrder::Start,
    ];
    let limit = prop_oneof![2 => 1..12_usize, 1 => Just(1_000)];
    let population = prop_oneof![1 => Just("root"), 1 => select(populations.to_vec())];
    (population, select(orders.to_vec()), any::<bool>(), limit).prop_map(
        |(population, by, ascending, limit)| Listing {
            runs: population.parse().unwrap(),
            by,
            ascending,
            limit,
            link: None,
        },
    )
}

/// One form or several, some without columns that runs can do without.
fn any_shapes() -> impl Strategy<Value = Vec<Shape>> {
    let optional = vec![
        "parent_run_ids",
        "run_type",
        "is_root",
        "end_time",
        "first_token_time",
        "trace_tier",
        "inputs",
        "feedback_stats",
        "total_tokens",
        "prompt_tokens",
        "total_cost",
        "completion_cost",
    ];
    let dropped = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(optional, 0..4)];
    let shape = (any_form(), dropped).prop_map(|(shape, dropped)| Shape { dropped, ..shape });
    vec(shape, 1..3)
}

proptest! {
    #![proptest_config(quick(40))]

    #[test]
    fn runs_are_listed_as_the_reference_lists_them(
        runs in any_runs(3, 40),
        shapes in any_shapes(),
        listing in any_listing(),
        window in any_window(),
        metadata in any_metadata(3),
        project in proptest::option::weighted(0.2, 0..4_usize),
        usage in any_usage(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            project: project.map(project_id),
            usage,
            metadata,
            ..Question::default()
        };
        check(&runs, &shapes, question, &listing, false);
    }

    #[test]
    fn so_are_those_that_filters_keep(
        runs in any_runs(2, 40),
        listing in any_listing(),
        window in any_window(),
        filters in [any_filter(), any_filter(), any_filter()],
        chosen in 1..8_usize,
        usage in any_usage(),
    ) {
        let [filter, trace_filter, tree_filter] = [0, 1, 2].map(|place| {
            let text = filters[place].replace(if place == 2 { "root." } else { "" }, "");
            let text = Some(text).filter(|_| chosen & (1 << place) != 0);
            text.map(|text| Filter::parse(&text).unwrap())
        });
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            filter,
            trace_filter,
            tree_filter,
            ..Question::default()
        };
        check(&runs, &[Shape::default()], question, &listing, false);
    }

    #[test]
    fn of_a_run_that_exports_repeat_the_newest_record_is_listed(
        runs in any_runs(2, 40),
        shape in any_form(),
        listing in any_listing(),
        window in any_window(),
        usage in any_usage(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            ..Question::default()
        };
        check(&runs, &[shape], question, &listing, true);
    }
}
