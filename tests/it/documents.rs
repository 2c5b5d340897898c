use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use runtally::{
    CostFormat, Dedup, Engine, Filter, Limits, Projects, Request, Sessions, Source, SourceOptions,
    Usage, Window,
};
use serde_json::{Value, json};

use crate::support::evaluate::{EVERY, any_filter, keeps};
use crate::support::mirror;
use crate::support::quick;
use crate::support::reference::{FileForm, Question, UsageFrom, assert_same_documents, expected};
use crate::support::run::{
    self, Run, any_metadata, any_runs, any_unruly_runs, any_window, project_id,
};
use crate::support::write::{
    COLUMNS, CostForm, IdForm, Layout, ListForm, Shape, TextForm, TimeForm, TokenForm, write,
    write_sessions_json,
};

/// Asks the product, through the library.
pub(crate) fn ask(
    dir: &Path,
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

/// Asks the product for all that it says, through the library.
fn answer(dir: &Path, options: &SourceOptions, request: &Request) -> runtally::Result<Sessions> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(&Limits::default())?;
        let source = Source::open([dir], options)?;
        runtally::sessions(&engine, &source, request).await
    })
}

/// Writes the runs into one folder a shape, taking turns; says what the files can say of them.
pub(crate) fn write_in_turns(dir: &Path, runs: &[Run], shapes: &[Shape]) -> Vec<FileForm> {
    let mut files = Vec::new();
    for (turn, shape) in shapes.iter().enumerate() {
        let rows: Vec<usize> = (turn..runs.len()).step_by(shapes.len()).collect();
        let part: Vec<Run> = rows.iter().map(|&row| runs[row].clone()).collect();
        let written = write(&dir.join(format!("part-{turn}")), &part, shape);
        files.extend(written.into_iter().map(|file| FileForm {
            rows: file.rows.into_iter().map(|row| rows[row]).collect(),
            cost_form: shape.cost,
            dropped: shape.dropped.clone(),
        }));
    }
    files
}

/// Writes runs in shapes, asks the product and the reference, and compares.
fn check(runs: &[Run], shapes: &[Shape], mut question: Question) {
    if runs.is_empty() {
        return;
    }
    let mut runs = runs.to_vec();
    for shape in shapes {
        for run in &mut runs {
            shape.fit(run);
        }
    }
    let runs = runs.as_slice();
    let dir = tempfile::tempdir().unwrap();
    question.files = write_in_turns(dir.path(), runs, shapes);
    let mut options = SourceOptions::default();
    if shapes.iter().any(|shape| shape.dropped.contains(&"id")) {
        options.dedup = Dedup::Never;
        if runs.iter().any(|run| run.trace_id.is_none()) {
            // Nothing says which trace such a run is of.
            question.usage = UsageFrom::Roots;
        }
    }
    if !question.metadata.is_empty() {
        write_sessions_json(dir.path(), &question.metadata, runs.len().is_multiple_of(2));
    }
    if let Some(records) = &question.feedback {
        let path = dir.path().join("feedback.json");
        std::fs::write(&path, serde_json::to_string(records).unwrap()).unwrap();
        options.feedback = Some(path);
    }
    let Some(request) = request(&question) else {
        return;
    };
    let answer = answer(dir.path(), &options, &request);
    let cannot_build = question.files.iter().find(|file| {
        let has = |column| !file.dropped.contains(&column);
        !has("trace_id") && !has("dotted_order")
    });
    if question.usage == UsageFrom::Own && question.stats && cannot_build.is_some() {
        return;
    }
    let expected = expected(runs, &question);
    if question.project.is_some() && expected.is_empty() {
        assert!(
            matches!(answer, Err(runtally::Error::NoSuchProject { .. })),
            "{:?}",
            answer.map(|answer| answer.sessions)
        );
        return;
    }
    let answer = answer.unwrap();
    if question.stats {
        let usages = answer.overviews.iter().map(|overview| overview.usage);
        let wanted = expected.iter().map(|expected| {
            if expected.is_built {
                Usage::Own
            } else {
                Usage::Roots
            }
        });
        assert_eq!(usages.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }
    if question.project.is_none() {
        assert_says_what_is_missing(&answer.about.warnings, shapes, runs.len());
    }
    let costs = if question.cost_number {
        CostFormat::Number
    } else {
        CostFormat::String
    };
    let text = serde_json::to_string(&answer.with_costs_as(costs).sessions).unwrap();
    if !question.cost_number {
        mirror::check_list(&text);
    }
    let actual: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_same_documents(&actual, &expected);
}

/// The same question for the product; none where its window ends before it starts.
pub(crate) fn request(question: &Question) -> Option<Request> {
    Some(Request {
        projects: question
            .project
            .map_or(Projects::All, |id| Projects::One(id.to_string())),
        window: Window::new(question.since_us, question.until_us).ok()?,
        stats: question.stats,
        usage: match question.usage {
            UsageFrom::Auto => Usage::Auto,
            UsageFrom::Roots => Usage::Roots,
            UsageFrom::Own => Usage::Own,
        },
        trace_span_us: question.trace_span_us,
        filter: question.filter.clone(),
        trace_filter: question.trace_filter.clone(),
        tree_filter: question.tree_filter.clone(),
        ..Request::default()
    })
}

/// A warning names each column that is missed, or those that could stand for it.
fn assert_says_what_is_missing(warnings: &[String], shapes: &[Shape], n_runs: usize) {
    const MISSED: [&[&str]; 15] = [
        &["id"],
        &["trace_id", "dotted_order"],
        &["run_type"],
        &["is_root", "parent_run_id", "dotted_order", "trace_id"],
        &["end_time"],
        &["first_token_time"],
        &["status", "error"],
        &["feedback_stats"],
        &["trace_tier"],
        &["total_tokens"],
        &["prompt_tokens"],
        &["completion_tokens"],
        &["total_cost"],
        &["prompt_cost"],
        &["completion_cost"],
    ];
    for shape in shapes.iter().take(n_runs) {
        for columns in MISSED {
            let is_said = || {
                let names = format!("no column {}: ", columns.join(", "));
                warnings.iter().any(|warning| warning.contains(&names))
            };
            let is_missed = columns.iter().all(|name| shape.dropped.contains(name));
            assert!(!is_missed || is_said(), "{columns:?}: {warnings:?}");
        }
    }
}

/// Any of the forms in which exports come, with all of their columns.
pub(crate) fn any_form() -> BoxedStrategy<Shape> {
    let layouts = [Layout::V1, Layout::V2, Layout::Flat, Layout::SingleFile];
    let times = [
        TimeForm::NanosNaive,
        TimeForm::NanosUtc,
        TimeForm::MicrosNaive,
        TimeForm::MicrosUtc,
        TimeForm::MillisNaive,
        TimeForm::Int96,
        TimeForm::Text,
    ];
    let costs = [
        CostForm::Double,
        CostForm::Text,
        CostForm::Decimal(38, 18),
        CostForm::Decimal(38, 12),
        CostForm::Decimal(19, 12),
    ];
    let tokens = [
        TokenForm::Int64,
        TokenForm::Int32,
        TokenForm::UInt64,
        TokenForm::Double,
    ];
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
    ];
    let forms = (
        select(times.to_vec()),
        select(costs.to_vec()),
        select(tokens.to_vec()),
        select(vec![ListForm::JsonText, ListForm::List]),
        select(vec![TextForm::Utf8, TextForm::Binary]),
        select(vec![IdForm::Text, IdForm::Quoted, IdForm::Binary]),
    );
    let files = (
        select(layouts.to_vec()),
        1..4_usize,
        1..200_usize,
        select(compressions.to_vec()),
        any::<Option<u64>>(),
        any::<bool>(),
        any::<bool>(),
    );
    (forms, files)
        .prop_map(|((time, cost, tokens, lists, text, ids), files)| Shape {
            time,
            cost,
            tokens,
            lists,
            text,
            ids,
            layout: files.0,
            n_files: files.1,
            row_group_rows: files.2,
            compression: files.3,
            shuffle_seed: files.4,
            empty_parent: files.5,
            arrow_schema: files.6,
            ..Shape::default()
        })
        .boxed()
}

/// Any form, perhaps without some of the columns.
fn any_shape() -> impl Strategy<Value = Shape> {
    let few = proptest::sample::subsequence(COLUMNS.to_vec(), 0..6);
    let many = proptest::sample::subsequence(COLUMNS.to_vec(), 6..COLUMNS.len());
    let dropped = prop_oneof![3 => Just(Vec::new()), 3 => few, 1 => many];
    (any_form(), dropped).prop_map(|(mut shape, mut dropped)| {
        let is_named_by_path = matches!(shape.layout, Layout::V1 | Layout::V2);
        dropped.retain(|name| match *name {
            "start_time" => false,
            "session_id" | "tenant_id" => is_named_by_path,
            _ => true,
        });
        shape.dropped = dropped;
        shape
    })
}

/// One shape, or several in one source.
pub(crate) fn any_shapes() -> impl Strategy<Value = Vec<Shape>> {
    prop_oneof![vec(any_shape(), 1), vec(any_shape(), 2..4),]
}

pub(crate) fn any_usage() -> impl Strategy<Value = UsageFrom> {
    prop_oneof![
        4 => Just(UsageFrom::Auto),
        1 => Just(UsageFrom::Roots),
        2 => Just(UsageFrom::Own),
    ]
}

proptest! {
    #![proptest_config(quick(40))]

    #[test]
    fn any_export_has_the_documents_of_the_reference(
        runs in any_runs(3, 60),
        shapes in any_shapes(),
        window in any_window(),
        metadata in any_metadata(3),
        project in proptest::option::weighted(0.3, 0..4_usize),
        stats in proptest::bool::weighted(0.9),
        usage in any_usage(),
        cost_number in any::<bool>(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            project: project.map(project_id),
            stats,
            usage,
            cost_number,
            metadata,
            ..Question::default()
        };
        check(&runs, &shapes, question);
    }

    #[test]
    fn so_have_exports_with_nulls_anywhere(
        runs in any_unruly_runs(2, 40),
        shapes in any_shapes(),
        window in any_window(),
        usage in any_usage(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            ..Question::default()
        };
        check(&runs, &shapes, question);
    }

    #[test]
    fn feedback_records_replace_the_runs_own(
        runs in any_runs(2, 30),
        shapes in any_shapes(),
        window in any_window(),
        picks in vec((any::<prop::sample::Index>(), 0..3_u8, -2..3_i32), 0..40),
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
        check(&runs, &shapes, question);
    }

    /// The reference walks the filters' trees by itself.
    #[test]
    fn filters_keep_what_the_reference_keeps(
        runs in any_runs(2, 30),
        shapes in vec(any_form(), 1..3),
        window in any_window(),
        filter in proptest::option::weighted(0.8, any_filter()),
        trace_filter in proptest::option::weighted(0.2, any_filter()),
        tree_filter in proptest::option::weighted(0.3, any_filter()),
        usage in prop_oneof![3 => Just(UsageFrom::Auto), 1 => Just(UsageFrom::Own)],
    ) {
        let parsed = |text: String| Filter::parse(&text).unwrap();
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            filter: filter.map(parsed),
            trace_filter: trace_filter.map(parsed),
            tree_filter: tree_filter.map(|text| parsed(text.replace("root.", ""))),
            ..Question::default()
        };
        check(&runs, &shapes, question);
    }

    /// Each facet's filter selects as many traces as it says, and none is missing.
    #[test]
    fn facets_are_what_their_filters_select(
        runs in any_runs(2, 30),
        shapes in vec(any_form(), 1..3),
        window in any_window(),
        filter in proptest::option::weighted(0.3, any_filter()),
    ) {
        let mut runs = runs;
        for shape in &shapes {
            for run in &mut runs {
                shape.fit(run);
            }
        }
        let filter = filter.map(|text| Filter::parse(&text).unwrap());
        let (Ok(window), false) = (Window::new(window.0, window.1), runs.is_empty()) else {
            return Ok(());
        };
        let dir = tempfile::tempdir().unwrap();
        write_in_turns(dir.path(), &runs, &shapes);
        let request = Request { window, filter: filter.clone(), facets: true, ..Request::default() };
        let answer = answer(dir.path(), &SourceOptions::default(), &request).unwrap();
        for session in &answer.sessions {
            let roots: Vec<&Run> = runs
                .iter()
                .filter(|run| {
                    run.session_id == session.id
                        && run.is_root.unwrap_or(run.parent_run_id.is_none())
                        && window.meets(run.start_us, run.start_us)
                        && filter.as_ref().is_none_or(|filter| keeps(filter, run, Some(run)))
                })
                .collect();
            if session.run_count != Some(roots.len() as u64) {
                // Whether a file has the column that says so is asked elsewhere.
                continue;
            }
            let mut expected: Vec<(Reverse<usize>, String, String)> = facets_of(&roots)
                .into_iter()
                .map(|((key, value), n)| (Reverse(n), key, value))
                .collect();
            expected.sort();
            let facets = session.run_facets.as_ref().unwrap();
            let actual: Vec<_> = facets
                .iter()
                .map(|facet| {
                    let n = usize::try_from(facet.n).unwrap();
                    (Reverse(n), facet.key.clone(), facet.value.clone())
                })
                .collect();
            prop_assert_eq!(&actual, &expected);
            for facet in facets {
                let query = Filter::parse(&facet.query).unwrap();
                let n = roots.iter().filter(|run| keeps(&query, run, Some(run))).count();
                prop_assert_eq!(facet.n, n as u64, "{}", facet.query);
            }
        }
    }

    /// Where the shapes hold the same facts, the bytes are the same.
    #[test]
    fn the_same_facts_in_any_shapes_give_the_same_bytes(
        runs in any_runs(2, 40),
        forms in vec(any_form(), 1..4),
        window in any_window(),
    ) {
        let mut runs = runs;
        for form in &forms {
            for run in &mut runs {
                form.fit(run);
            }
        }
        let question = Question { since_us: window.0, until_us: window.1, ..Question::default() };
        let (Some(request), false) = (request(&question), runs.is_empty()) else {
            return Ok(());
        };
        let text = |shapes: &[Shape]| {
            let dir = tempfile::tempdir().unwrap();
            write_in_turns(dir.path(), &runs, shapes);
            let answer = answer(dir.path(), &SourceOptions::default(), &request).unwrap();
            let mut warnings = answer.about.warnings.iter();
            prop_assert!(!warnings.any(|warning| warning.contains(" no column ")));
            Ok(serde_json::to_string(&answer.sessions).unwrap())
        };
        prop_assert_eq!(text(&forms)?, text(&[Shape::default()])?);
    }
}

/// How many runs have what, by the most naive means.
fn facets_of(runs: &[&Run]) -> BTreeMap<(String, String), usize> {
    let mut facets = BTreeMap::new();
    for run in runs {
        let mut found = BTreeSet::new();
        let texts = [
            ("name", &run.name),
            ("run_type", &run.run_type),
            ("status", &run.status),
        ];
        for (key, value) in texts {
            found.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        let tags = run.tags.iter().flatten();
        found.extend(tags.map(|tag| ("tag".to_owned(), tag.clone())));
        let extra = run.extra.as_deref().unwrap_or("null");
        let extra: Value = serde_json::from_str(extra).unwrap_or_default();
        for (key, value) in extra["metadata"].as_object().into_iter().flatten() {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => continue,
            };
            found.insert((format!("metadata.{key}"), text));
        }
        for facet in found {
            *facets.entry(facet).or_default() += 1;
        }
    }
    facets
}

/// Every operator of every field, over the same runs.
#[test]
fn every_comparison_keeps_what_the_reference_keeps() {
    let mut runner = TestRunner::deterministic();
    let strategy = (any_runs(2, 60), any_form());
    let (mut runs, shape) = strategy.new_tree(&mut runner).unwrap().current();
    for run in &mut runs {
        shape.fit(run);
    }
    let dir = tempfile::tempdir().unwrap();
    let files = write_in_turns(dir.path(), &runs, &[shape]);
    let mut n_choosy = 0;
    for text in EVERY {
        let text = text.replace("PROJECT", &project_id(0).to_string());
        let question = Question {
            filter: Some(Filter::parse(&text).unwrap()),
            files: files.clone(),
            ..Question::default()
        };
        let expected = expected(&runs, &question);
        let request = request(&question).unwrap();
        let answer = answer(dir.path(), &SourceOptions::default(), &request).unwrap();
        let documents = serde_json::to_string(&answer.sessions).unwrap();
        let actual: Vec<Value> = serde_json::from_str(&documents).unwrap();
        assert_same_documents(&actual, &expected);
        let kept: u64 = actual
            .iter()
            .map(|document| document["run_count"].as_u64().unwrap())
            .sum();
        let n_roots = runs.iter().filter(|run| run.is_root == Some(true)).count() as u64;
        n_choosy += usize::from(0 < kept && kept < n_roots);
    }
    assert!(
        n_choosy > EVERY.len() / 2,
        "only {n_choosy} of {} keep some",
        EVERY.len()
    );
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
    check(&runs, &[Shape::default()], Question::default());
}
