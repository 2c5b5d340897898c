//! Golden cases: folders in `testdata/cases/` whose `expected.json` is what the binary must print.
//!
//! A case is a command line (`args`, one argument a line, run in the case's folder), a `source/` of
//! Parquet files, perhaps side files, and the output. `RUNTALLY_BLESS=1` rewrites the outputs. The
//! sources are made by `make_sources` below (ignored; it also writes new cases), and what is filed as
//! the output is held against the naive reference on the same runs.

use std::fs;
use std::path::{Path, PathBuf};

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::runtally;
use crate::support::reference::{Question, assert_same_documents, expected};
use crate::support::run::{Cost, DAY_US, FIRST_MIDNIGHT_US, Run, project_id, tenant_id};
use crate::support::write::{
    CostForm, IdForm, Layout, ListForm, Shape, TextForm, TimeForm, TokenForm, write,
};

/// No file of a source may be larger.
const FILE_BYTES_MAX: u64 = 60_000;
/// Nor all cases together.
const BYTES_MAX: u64 = 600_000;

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

#[test]
fn the_filed_documents_are_printed() {
    let is_blessing = std::env::var_os("RUNTALLY_BLESS").is_some_and(|value| value == "1");
    for folder in folders() {
        let args = fs::read_to_string(folder.join("args")).unwrap();
        let output = runtally(&folder, &args.lines().collect::<Vec<_>>());
        assert_eq!(
            output.code,
            Some(0),
            "{}: {}",
            folder.display(),
            output.stderr
        );
        let path = folder.join("expected.json");
        if is_blessing {
            fs::write(&path, &output.stdout).unwrap();
        }
        let filed = fs::read_to_string(&path).unwrap();
        assert!(
            output.stdout == filed,
            "{} is not what is printed (RUNTALLY_BLESS=1 files it anew):\n{}",
            path.display(),
            output.stdout
        );
    }
}

#[test]
fn the_filed_documents_are_the_references() {
    let cases = cases();
    let names: Vec<String> = folders()
        .iter()
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        cases.iter().map(|case| case.name).collect::<Vec<_>>()
    );
    for case in cases {
        let filed = fs::read_to_string(root().join(case.name).join("expected.json")).unwrap();
        assert_same_documents(&documents(&filed), &expected(&case.runs, &case.question));
    }
}

#[test]
fn the_cases_are_small() {
    let mut total = 0;
    let mut open = vec![root()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = fs::metadata(&path).unwrap().len();
            assert!(bytes <= FILE_BYTES_MAX, "{}: {bytes} bytes", path.display());
            total += bytes;
        }
    }
    assert!(total <= BYTES_MAX, "{total} bytes");
}

/// Where the sources come from. Outputs are filed by `RUNTALLY_BLESS=1`, afterwards.
#[test]
#[ignore = "rewrites the sources of testdata/cases"]
fn make_sources() {
    for case in cases() {
        let folder = root().join(case.name);
        let source = folder.join("source");
        if source.exists() {
            fs::remove_dir_all(&source).unwrap();
        }
        write(&source, &case.runs, &case.shape);
        for (runs, shape) in &case.others {
            write(&source, runs, shape);
        }
        fs::write(folder.join("args"), case.args.join("\n") + "\n").unwrap();
        for (path, text) in &case.side_files {
            fs::write(folder.join(path), text).unwrap();
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases")
}

fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// The documents of an output: one, an array of them, or one a line.
fn documents(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let values = values.map(|value| match value.unwrap() {
        Value::Array(documents) => documents,
        document => vec![document],
    });
    values.flatten().collect()
}

/// What a case is made of, and the same question for the reference.
struct Case {
    name: &'static str,
    args: Vec<String>,
    runs: Vec<Run>,
    shape: Shape,
    /// What other exports hold: no other runs, and no newer records.
    others: Vec<(Vec<Run>, Shape)>,
    /// Paths below the case's folder, and texts.
    side_files: Vec<(&'static str, String)>,
    question: Question,
}

/// All cases, by name.
fn cases() -> Vec<Case> {
    vec![
        converted(),
        converted_to_text(),
        empty_window(),
        feedback_file(),
        flat_mixed(),
        llm_roots_and_pending(),
        metadata_jsonl(),
        missing_columns(),
        no_stats(),
        number_costs(),
        own_feedback(),
        own_usage(),
        own_usage_window(),
        repeated(),
        v1(),
        v2(),
        window(),
    ]
}

fn case(name: &'static str, args: &[&str], runs: Vec<Run>) -> Case {
    Case {
        name,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        runs,
        shape: Shape::default(),
        others: Vec::new(),
        side_files: Vec::new(),
        question: Question::default(),
    }
}

/// One project, as the first layout has it.
fn v1() -> Case {
    let runs = traces(0, 24, FIRST_MIDNIGHT_US + 20 * HOUR_US, 1_200 * SECOND_US);
    Case {
        shape: Shape {
            n_files: 2,
            row_group_rows: 16,
            ..Shape::default()
        },
        ..case("v1", &["show", "source"], runs)
    }
}

/// Two projects and a tenant each, as the second layout has them; costs are texts.
fn v2() -> Case {
    let mut runs = traces(0, 12, FIRST_MIDNIGHT_US, HOUR_US);
    runs.extend(traces(1, 9, FIRST_MIDNIGHT_US + DAY_US, 2 * HOUR_US));
    for run in runs
        .iter_mut()
        .filter(|run| run.session_id == project_id(1))
    {
        run.tenant_id = tenant_id(1);
    }
    Case {
        shape: Shape {
            layout: Layout::V2,
            time: TimeForm::MicrosUtc,
            cost: CostForm::Text,
            ..Shape::default()
        },
        question: Question {
            cost_form: CostForm::Text,
            ..Question::default()
        },
        ..case("v2", &["list", "source"], runs)
    }
}

/// Three projects in the same files, rows in no order.
fn flat_mixed() -> Case {
    let mut runs = Vec::new();
    for project in 0..3 {
        let start = FIRST_MIDNIGHT_US + i64::try_from(project).unwrap() * 7 * HOUR_US;
        runs.extend(traces(
            project,
            8 + project as u64,
            start,
            1_803 * SECOND_US,
        ));
    }
    Case {
        shape: Shape {
            layout: Layout::Flat,
            n_files: 2,
            row_group_rows: 20,
            shuffle_seed: Some(3),
            lists: ListForm::List,
            ..Shape::default()
        },
        ..case("flat-mixed", &["list", "source"], runs)
    }
}

/// A day in another zone up to a moment; traces start exactly at both ends.
fn window() -> Case {
    let runs = traces(0, 60, FIRST_MIDNIGHT_US, HOUR_US);
    let (since, until) = ("2026-08-13", "2026-08-14T06:00:00Z");
    let args = [
        "show",
        "source",
        "-z",
        "Europe/Berlin",
        "--since",
        since,
        "--until",
        until,
    ];
    Case {
        question: Question {
            // Midnight in Berlin, where it is summer: two hours before that in UTC.
            since_us: Some(FIRST_MIDNIGHT_US + DAY_US - 2 * HOUR_US),
            until_us: Some(FIRST_MIDNIGHT_US + 2 * DAY_US + 6 * HOUR_US),
            ..Question::default()
        },
        ..case("window", &args, runs)
    }
}

/// Of two projects one has no trace in the window, although a child of one lies there.
fn empty_window() -> Case {
    let mut runs = traces(0, 6, FIRST_MIDNIGHT_US, HOUR_US);
    runs.extend(traces(1, 6, FIRST_MIDNIGHT_US + DAY_US, HOUR_US));
    let last_root = runs
        .iter()
        .rposition(|run| run.session_id == project_id(0) && run.is_root == Some(true));
    let mut late = llm_child(&runs[last_root.unwrap()], 77);
    late.start_us = FIRST_MIDNIGHT_US + DAY_US + HOUR_US;
    late.end_us = Some(late.start_us + SECOND_US);
    runs.push(late);
    let args = ["list", "source", "--now", "2026-08-14", "--since", "24h"];
    Case {
        shape: Shape {
            layout: Layout::Flat,
            ..Shape::default()
        },
        question: Question {
            since_us: Some(FIRST_MIDNIGHT_US + DAY_US),
            ..Question::default()
        },
        ..case("empty-window", &args, runs)
    }
}

/// Names, dates and datasets, a record a line at the root of the source; one project has no record,
/// and one record no project.
fn metadata_jsonl() -> Case {
    let mut runs = traces(0, 4, FIRST_MIDNIGHT_US, HOUR_US);
    runs.extend(traces(1, 3, FIRST_MIDNIGHT_US + HOUR_US, HOUR_US));
    runs.extend(traces(2, 2, FIRST_MIDNIGHT_US + 2 * HOUR_US, HOUR_US));
    let dataset = Uuid::from_u128(0xda7a_5e70_0000_4000_8000_0000_0000_0001);
    let records = vec![
        json!({
            "id": project_id(0), "tenant_id": tenant_id(5), "name": "checkout \"EU\"",
            "start_time": "2026-08-01T06:07:08.090000", "end_time": "2026-08-20T02:00:00+02:00",
            "extra": {"z": {"b": [1, 0.5], "a": null}, "a": "x"}, "description": "what customers ask",
            "default_dataset_id": Uuid::from_u128(0xd), "reference_dataset_id": dataset,
            "trace_tier": "longlived", "run_count": 999, "latency_p50": 77.5, "total_cost": "12.5",
        }),
        json!({
            "id": project_id(1), "name": "checkout, second try", "start_time": "2026-08-03 00:00:00+00:00",
            "reference_dataset_id": dataset, "last_run_start_time_live": "2026-08-30T00:00:00.000001Z",
        }),
        json!({
            "id": project_id(9), "name": "of no run here", "start_time": "2026-08-02T00:00:00Z",
            "reference_dataset_id": dataset,
        }),
    ];
    let lines = records.iter().map(|record| format!("{record}\n"));
    Case {
        side_files: vec![("source/sessions.jsonl", lines.collect())],
        question: Question {
            metadata: records,
            ..Question::default()
        },
        ..case("metadata-jsonl", &["list", "source", "-f", "jsonl"], runs)
    }
}

/// Projects' own fields only, from a file that is given.
fn no_stats() -> Case {
    let mut runs = traces(0, 3, FIRST_MIDNIGHT_US, HOUR_US);
    runs.extend(traces(1, 3, FIRST_MIDNIGHT_US + HOUR_US, HOUR_US));
    let records = vec![json!({
        "id": project_id(1), "name": "search", "description": null, "extra": {},
        "start_time": "2026-08-12T05:00:00.5Z", "last_run_start_time_live": "2026-08-13T00:00:00",
    })];
    let args = [
        "list",
        "source",
        "--no-stats",
        "--projects",
        "projects.json",
    ];
    Case {
        side_files: vec![("projects.json", format!("{:#}\n", json!(records)))],
        question: Question {
            stats: false,
            metadata: records,
            ..Question::default()
        },
        ..case("no-stats", &args, runs)
    }
}

/// Raw feedback records: scores, labels, comments, on roots, on a child, on the project.
fn feedback_file() -> Case {
    let runs = traces(0, 6, FIRST_MIDNIGHT_US, HOUR_US);
    let roots: Vec<Uuid> = runs
        .iter()
        .filter(|run| run.is_root == Some(true))
        .map(|run| run.id)
        .collect();
    let child = runs
        .iter()
        .find(|run| run.is_root == Some(false))
        .map(|run| run.id);
    let on_run = |run: Uuid, key: &str, score: Value, value: Value| {
        json!({
            "run_id": run, "session_id": project_id(0), "key": key, "score": score, "value": value,
            "comment": null, "feedback_source": {"type": "api"},
        })
    };
    let mut records = vec![
        on_run(roots[0], "helpful", json!(1), Value::Null),
        on_run(roots[1], "helpful", json!(0.3), Value::Null),
        on_run(roots[2], "helpful", json!(true), Value::Null),
        on_run(roots[3], "helpful", json!(-0.25), Value::Null),
        on_run(roots[0], "tone", Value::Null, json!("kind")),
        on_run(roots[1], "tone", Value::Null, json!("kind")),
        on_run(roots[4], "tone", Value::Null, json!("curt")),
        on_run(roots[5], "note", Value::Null, Value::Null),
        on_run(child.unwrap(), "on a child", json!(1), Value::Null),
        on_run(Uuid::from_u128(1), "on no run here", json!(1), Value::Null),
    ];
    records.push(json!({
        "run_id": null, "session_id": project_id(0), "key": "overall", "score": 0.75,
        "comment": "a good week",
    }));
    Case {
        side_files: vec![("feedback.json", format!("{:#}\n", json!(records)))],
        question: Question {
            feedback: Some(records),
            ..Question::default()
        },
        ..case(
            "feedback-file",
            &["show", "source", "--feedback", "feedback.json"],
            runs,
        )
    }
}

/// The runs' own summaries: averages with and without deviations, labels, errors, a comment.
fn own_feedback() -> Case {
    let mut runs = traces(0, 5, FIRST_MIDNIGHT_US, HOUR_US);
    let summaries = [
        r#"{"helpful": {"n": 1, "avg": 1.0, "stdev": 0.0, "errors": 0, "session_min_score": 1.0,
            "session_max_score": 1.0, "values": {}}, "tone": {"n": 2, "avg": null, "values": {"kind": 2}}}"#,
        r#"{"helpful": {"n": 3, "avg": 0.5, "stdev": 0.5, "errors": 2, "session_min_score": -0.25,
            "session_max_score": 1.0, "values": {}, "contains_thread_feedback": true}}"#,
        r#"{"tone": {"n": 1, "avg": null, "values": {"curt": 1}}, "note": {"n": 0, "avg": null,
            "comments": ["so so"], "values": {}}}"#,
        r#"{"unsure": {"n": 4, "avg": 0.30000000000000004}}"#,
        "{}",
    ];
    let roots = runs.iter_mut().filter(|run| run.is_root == Some(true));
    for (run, summary) in roots.zip(summaries) {
        run.feedback_stats = Some(summary.to_owned());
    }
    case("own-feedback", &["show", "source"], runs)
}

/// Lone calls of a model, pending traces, clocks that go backwards, children without their root.
fn llm_roots_and_pending() -> Case {
    let mut runs = Vec::new();
    for (run, n) in traces(0, 10, FIRST_MIDNIGHT_US, HOUR_US)
        .into_iter()
        .zip(0..)
    {
        match n % 10 {
            // Roots and children take turns: this leaves a child alone, and makes a root of a model.
            0 => {}
            2 => runs.push(Run {
                run_type: Some("llm".to_owned()),
                ..run
            }),
            4 => runs.push(Run {
                end_us: None,
                status: Some("pending".to_owned()),
                ..run
            }),
            6 => runs.push(Run {
                end_us: Some(run.start_us - 1),
                first_token_us: Some(run.start_us - SECOND_US),
                ..run
            }),
            8 => runs.push(Run {
                end_us: Some(run.start_us),
                first_token_us: Some(run.start_us),
                ..run
            }),
            _ => runs.push(run),
        }
    }
    case("llm-roots-and-pending", &["show", "source"], runs)
}

/// Costs as JSON numbers: tiny ones, noise of floating point, one that is null, large ones.
fn number_costs() -> Case {
    let mut runs = traces(0, 8, FIRST_MIDNIGHT_US, HOUR_US);
    let totals = [
        "1e-12",
        "8.2e-6",
        "0",
        "1234567.000000000001",
        "4e-13",
        "6e-13",
        "0.5",
    ];
    let roots = runs.iter_mut().filter(|run| run.is_root == Some(true));
    for (run, index) in roots.zip(0..) {
        run.total_cost = totals.get(index).map(|text| Cost::of_text(text));
        run.prompt_cost = Some(Cost::of_double(0.1 + 0.2, false));
        run.completion_cost = None;
    }
    Case {
        shape: Shape {
            cost: CostForm::Text,
            ..Shape::default()
        },
        question: Question {
            cost_number: true,
            cost_form: CostForm::Text,
            ..Question::default()
        },
        ..case(
            "number-costs",
            &["show", "source", "--cost-format", "number"],
            runs,
        )
    }
}

/// An export of chosen fields: roots told by their parents, errors by their texts; no streaming, no
/// prompt tokens, no total cost.
fn missing_columns() -> Case {
    let runs = traces(0, 8, FIRST_MIDNIGHT_US, HOUR_US);
    let dropped = vec![
        "is_root",
        "status",
        "first_token_time",
        "prompt_tokens",
        "total_cost",
        "trace_tier",
    ];
    Case {
        shape: Shape {
            empty_parent: true,
            dropped: dropped.clone(),
            ..Shape::default()
        },
        question: Question {
            dropped,
            ..Question::default()
        },
        ..case("missing-columns", &["show", "source"], runs)
    }
}

/// What a converter may make of an export: old timestamps, decimals, narrow counts, ids as bytes, lists.
fn converted() -> Case {
    let cost = CostForm::Decimal(38, 18);
    Case {
        shape: Shape {
            time: TimeForm::Int96,
            cost,
            tokens: TokenForm::Int32,
            ids: IdForm::Binary,
            lists: ListForm::List,
            compression: Compression::GZIP(GzipLevel::default()),
            row_group_rows: 10,
            ..Shape::default()
        },
        question: Question {
            cost_form: cost,
            ..Question::default()
        },
        ..case(
            "converted",
            &["show", "source"],
            traces(0, 12, FIRST_MIDNIGHT_US, HOUR_US),
        )
    }
}

/// Or texts of nearly everything, not marked as texts, and counts as doubles.
fn converted_to_text() -> Case {
    let args = [
        "show",
        "source",
        "--since",
        "2026-08-12T03:00:00Z",
        "--until",
        "2026-08-12T09:00:00.4Z",
    ];
    Case {
        shape: Shape {
            layout: Layout::Flat,
            time: TimeForm::Text,
            cost: CostForm::Text,
            tokens: TokenForm::Double,
            ids: IdForm::Quoted,
            text: TextForm::Binary,
            compression: Compression::ZSTD(ZstdLevel::default()),
            ..Shape::default()
        },
        question: Question {
            since_us: Some(FIRST_MIDNIGHT_US + 3 * HOUR_US),
            until_us: Some(FIRST_MIDNIGHT_US + 9 * HOUR_US + 400_000),
            cost_form: CostForm::Text,
            ..Question::default()
        },
        ..case(
            "converted-to-text",
            &args,
            traces(0, 12, FIRST_MIDNIGHT_US, HOUR_US),
        )
    }
}

/// Roots that carry nothing: the calls below them are summed.
fn own_usage() -> Case {
    let runs = traces(0, 12, FIRST_MIDNIGHT_US, HOUR_US);
    case("own-usage", &["show", "source"], own_only(runs))
}

/// The same in a window, at whose end a call lies outside while its root is inside.
fn own_usage_window() -> Case {
    let mut runs = own_only(traces(0, 12, FIRST_MIDNIGHT_US, HOUR_US));
    // A call whose root is not there.
    runs.remove(8);
    let args = [
        "show",
        "source",
        "--since",
        "2026-08-12T02:00:00Z",
        "--until",
        "2026-08-12T09:00:00.000001Z",
    ];
    Case {
        question: Question {
            since_us: Some(FIRST_MIDNIGHT_US + 2 * HOUR_US),
            until_us: Some(FIRST_MIDNIGHT_US + 9 * HOUR_US + 1),
            ..Question::default()
        },
        ..case("own-usage-window", &args, runs)
    }
}

/// Three exports of overlapping days, in forms of their own: in the first the last runs are still
/// pending, and the third repeats the second. Times of files, which a checkout loses, decide nothing.
fn repeated() -> Case {
    let runs = traces(0, 30, FIRST_MIDNIGHT_US, HOUR_US);
    let export = |number| Shape {
        export_id: Uuid::from_u128(number),
        ..Shape::default()
    };
    let earlier = runs[..40].iter().enumerate().map(|(row, run)| {
        let mut run = run.clone();
        if row >= 20 {
            run.end_us = None;
            run.status = Some("pending".to_owned());
            (run.total_tokens, run.total_cost) = (None, None);
        }
        run
    });
    let second = Shape {
        layout: Layout::V2,
        time: TimeForm::MicrosUtc,
        ids: IdForm::Quoted,
        ..export(2)
    };
    Case {
        shape: export(3),
        others: vec![
            (earlier.collect(), export(1)),
            (runs[20..].to_vec(), second),
        ],
        ..case("repeated", &["show", "source"], runs)
    }
}

/// Runs whose roots do not add up what the runs below them used.
fn own_only(mut runs: Vec<Run>) -> Vec<Run> {
    for root in runs.iter_mut().filter(|run| run.is_root == Some(true)) {
        (
            root.total_tokens,
            root.prompt_tokens,
            root.completion_tokens,
        ) = (None, None, None);
        (root.total_cost, root.prompt_cost, root.completion_cost) = (None, None, None);
    }
    runs
}

/// Traces of a project, each a root and the call of a model in it, with outcomes of every kind in turn.
fn traces(project: usize, n: u64, start_us: i64, apart_us: i64) -> Vec<Run> {
    let mut runs = Vec::new();
    for number in 0..n {
        let sequence = project as u64 * 10_000 + number * 100;
        let step = i64::try_from(number).unwrap();
        let start = start_us + step * apart_us;
        let latency = 400_000 + step * step * 37_411 % 9_000_001;
        let mut root = Run::completed_root(sequence, start, start + latency);
        root.session_id = project_id(project);
        root.first_token_us = (number % 3 != 0).then_some(start + latency / 3);
        root.trace_tier = Some(
            if number % 11 == 5 {
                "longlived"
            } else {
                "shortlived"
            }
            .to_owned(),
        );
        root.inputs = Some(format!(r#"{{"question": "number {number}?"}}"#));
        root.tags = Some(vec!["prod".to_owned(), format!("group {}", number % 2)]);
        root.extra = Some(r#"{"metadata": {"ls_model_name": "m-1"}, "runtime": {}}"#.to_owned());
        (root.prompt_tokens, root.completion_tokens) = (Some(100 + 13 * step), Some(20 + 7 * step));
        root.total_tokens = Some(120 + 20 * step);
        root.prompt_cost = Some(Cost::of_text(&format!("{}e-6", 3 * (100 + 13 * step))));
        root.completion_cost = Some(Cost::of_text(&format!("{}e-6", 15 * (20 + 7 * step))));
        root.total_cost = Some(Cost::of_text(&format!("{}e-6", 600 + 144 * step)));
        if number % 7 == 3 {
            root.status = Some("error".to_owned());
            root.error = Some("RateLimitError('429')".to_owned());
            (root.total_cost, root.total_tokens) = (None, None);
        }
        runs.push(root.clone());
        runs.push(llm_child(&root, sequence + 1));
    }
    runs
}

/// The call of a model that a root made, which has all of its usage.
fn llm_child(root: &Run, sequence: u64) -> Run {
    let id = Run::completed_root(sequence, 0, 0).id;
    Run {
        id,
        parent_run_id: Some(root.id),
        parent_run_ids: vec![root.id],
        name: Some("call".to_owned()),
        run_type: Some("llm".to_owned()),
        start_us: root.start_us + 1_000,
        is_root: Some(false),
        dotted_order: root
            .dotted_order
            .as_ref()
            .map(|order| format!("{order}.{order}")),
        ..root.clone()
    }
}
