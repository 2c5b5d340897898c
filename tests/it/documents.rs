use proptest::prelude::*;
use runtally::{CostFormat, Engine, Limits, Projects, Request, Source, SourceOptions, Window};
use serde_json::{Value, json};

use crate::support::mirror;
use crate::support::reference::{Question, assert_same_documents, expected};
use crate::support::run::{
    self, Run, any_metadata, any_runs, any_unruly_runs, any_window, project_id,
};
use crate::support::write::{CostForm, Layout, Shape, TimeForm, write, write_sessions_json};

/// Asks the product, through the library.
pub(crate) fn ask(
    dir: &std::path::Path,
    limits: &Limits,
    settings: &[(&str, &str)],
    options: &SourceOptions,
    request: &Request,
    costs: CostFormat,
) -> runtally::Result<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(limits)?;
        for (option, value) in settings {
            engine.set(option, value)?;
        }
        let source = Source::open([dir], options)?;
        let answer = runtally::sessions(&engine, &source, request).await?;
        let documents = answer.with_costs_as(costs).sessions;
        Ok(serde_json::to_string(&documents).unwrap())
    })
}

/// Writes runs in a shape, asks the product and the reference, and compares.
fn check(runs: &[Run], shape: &Shape, mut question: Question) {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), runs, shape);
    if runs.is_empty() {
        return;
    }
    question.files = written.into_iter().map(|file| file.rows).collect();
    question.cost_form = shape.cost;
    question.dropped.clone_from(&shape.dropped);
    if !question.metadata.is_empty() {
        write_sessions_json(dir.path(), &question.metadata, runs.len().is_multiple_of(2));
    }
    let mut options = SourceOptions::default();
    if let Some(records) = &question.feedback {
        let path = dir.path().join("feedback.json");
        std::fs::write(&path, serde_json::to_string(records).unwrap()).unwrap();
        options.feedback = Some(path);
    }
    let Ok(window) = Window::new(question.since_us, question.until_us) else {
        return;
    };
    let request = Request {
        projects: question
            .project
            .map_or(Projects::All, |id| Projects::One(id.to_string())),
        window,
        stats: question.stats,
        ..Request::default()
    };
    let costs = if question.cost_number {
        CostFormat::Number
    } else {
        CostFormat::String
    };
    let answer = ask(
        dir.path(),
        &Limits::default(),
        &[],
        &options,
        &request,
        costs,
    );
    let expected = expected(runs, &question);
    if question.project.is_some() && expected.is_empty() {
        assert!(
            matches!(answer, Err(runtally::Error::NoSuchProject { .. })),
            "{answer:?}"
        );
        return;
    }
    let text = answer.unwrap();
    if !question.cost_number {
        mirror::check_list(&text);
    }
    let actual: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_same_documents(&actual, &expected);
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let layout = prop_oneof![
        Just(Layout::V1),
        Just(Layout::V2),
        Just(Layout::Flat),
        Just(Layout::SingleFile)
    ];
    let time = prop_oneof![Just(TimeForm::NanosNaive), Just(TimeForm::MicrosUtc)];
    let cost = prop_oneof![
        4 => Just(CostForm::Double),
        1 => Just(CostForm::Text),
    ];
    (
        layout,
        time,
        cost,
        1..4_usize,
        1..200_usize,
        any::<Option<u64>>(),
        any::<bool>(),
    )
        .prop_map(
            |(layout, time, cost, n_files, row_group_rows, shuffle_seed, empty_parent)| Shape {
                layout,
                time,
                cost,
                empty_parent,
                n_files,
                row_group_rows,
                shuffle_seed,
                ..Shape::default()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_export_has_the_documents_of_the_reference(
        runs in any_runs(3, 60),
        shape in any_shape(),
        window in any_window(),
        metadata in any_metadata(3),
        project in proptest::option::weighted(0.3, 0..4_usize),
        stats in proptest::bool::weighted(0.9),
        cost_number in any::<bool>(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            project: project.map(project_id),
            stats,
            cost_number,
            metadata,
            ..Question::default()
        };
        check(&runs, &shape, question);
    }

    #[test]
    fn so_have_exports_with_nulls_anywhere(
        runs in any_unruly_runs(2, 40),
        shape in any_shape(),
        window in any_window(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            ..Question::default()
        };
        check(&runs, &shape, question);
    }

    #[test]
    fn feedback_records_replace_the_runs_own(
        runs in any_runs(2, 30),
        shape in any_shape(),
        window in any_window(),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8, -2..3_i32), 0..40),
    ) {
        let records = picks.into_iter().filter_map(|(index, kind, score)| {
            let run = runs.get(index.index(runs.len().max(1)))?;
            Some(match kind {
                0 => json!({"run_id": run.id, "session_id": run.session_id, "key": "score", "score": f64::from(score) / 4.0}),
                1 => json!({"run_id": run.id, "key": "label", "value": format!("v{score}"), "score": null, "comment": "as it is"}),
                _ => json!({"run_id": null, "session_id": run.session_id, "key": "overall", "score": score > 0}),
            })
        });
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            feedback: Some(records.collect()),
            ..Question::default()
        };
        check(&runs, &shape, question);
    }
}

#[test]
fn large_groups_are_within_their_bound() {
    let runs: Vec<Run> = (0..3_000)
        .map(|n| {
            let start = run::FIRST_MIDNIGHT_US + i64::try_from(n).unwrap() * 1_000_000;
            Run::completed_root(
                n,
                start,
                start + i64::try_from(n * n * 37 % 90_000_017).unwrap(),
            )
        })
        .collect();
    check(&runs, &Shape::default(), Question::default());
}
