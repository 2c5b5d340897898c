//! Conversions: what is written answers as its source does, appears whole or not at all, and is the same
//! bytes however it came to be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use runtally::generate::{self, Layout as Generated, Options};
use runtally::{
    Breakdown, ConvertOptions, Converted, Dedup, Engine, Key, Limits, OnBadFile, Population,
    Request, Sort, Source, SourceOptions, Usage,
};
use serde_json::{Value, json};

use crate::cli::{Output, answer, command, refusal, runtally};
use crate::documents::any_shapes;
use crate::documents::write_in_turns;
use crate::support::breakdown::measures;
use crate::support::dump::{self, Dump, Lay, Pack, Version, filled};
use crate::support::quick;
use crate::support::run::{
    Cost, FIRST_MIDNIGHT_US, Run, any_metadata, any_runs, any_unruly_runs, project_id,
};
use crate::support::write::{CostForm, Layout, ListForm, Shape, write, write_sessions_json};

/// What is asked of a source and of what it was converted to; `SOURCE` stands for either.
const QUESTIONS: [&str; 9] = [
    "list SOURCE --json",
    "list SOURCE --json --usage-from own",
    "list SOURCE --json --facets --since 2026-10-29T11:00:00Z --until 2026-10-31",
    "show SOURCE -p support-bot --json --facets",
    "show SOURCE -p support-bot --json --since 2026-10-30",
    "stats SOURCE -g model --runs llm --json",
    "stats SOURCE -g metadata.team --runs all --json",
    "stats SOURCE -g tag -g status --json",
    "stats SOURCE -g user --every day --limit 5 --json",
];

fn asked(dir: &Path, question: &str, source: &str) -> Output {
    let words: Vec<&str> = question.split(' ').collect();
    let words = words
        .iter()
        .map(|word| if *word == "SOURCE" { source } else { word });
    let mut output = runtally(dir, &words.collect::<Vec<_>>());
    output.stderr.clear();
    output
}

fn assert_same_answers(dir: &Path, questions: &[&str], source: &str, converted: &str) {
    for question in questions {
        let (one, other) = (
            asked(dir, question, source),
            asked(dir, question, converted),
        );
        assert_eq!(one.code, Some(0), "{question}");
        assert_eq!(other.code, Some(0), "{question}");
        assert!(
            one.stdout == other.stdout,
            "{question} of {source}:\n{}\n{}",
            one.stdout,
            other.stdout
        );
    }
}

/// Converts with the binary.
fn convert(dir: &Path, args: &[&str]) -> Output {
    let output = runtally(dir, &[&["convert"], args].concat());
    assert_eq!(
        (output.code, &*output.stdout),
        (Some(0), ""),
        "{args:?}: {}",
        output.stderr
    );
    output
}

fn small(layout: Generated) -> Options {
    Options {
        rows: 300,
        projects: 3,
        days: 4,
        layout,
        ..Options::default()
    }
}

#[test]
fn every_layout_is_answered_as_before() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [
        (
            "v1",
            Options {
                files_per_day: 3,
                ..small(Generated::V1)
            },
        ),
        (
            "v2",
            Options {
                overlap: 2,
                ..small(Generated::V2)
            },
        ),
        (
            "flat",
            Options {
                cost_type: generate::CostType::Text,
                ..small(Generated::Flat)
            },
        ),
        ("lines", small(Generated::Lines)),
        (
            "own",
            Options {
                own_only_roots: true,
                ..small(Generated::V1)
            },
        ),
    ] {
        generate::generate(&dir.path().join(name), &options).unwrap();
        let output = convert(dir.path(), &[name, "-o", "out"]);
        assert!(
            output
                .stderr
                .contains("3 projects · 4 days · 300 runs · 12 files · "),
            "{}",
            output.stderr
        );
        assert_same_answers(dir.path(), &QUESTIONS, name, "out");
    }
}

#[test]
fn every_dump_is_answered_as_before() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dumps");
    let dir = tempfile::tempdir().unwrap();
    let questions = [
        "list SOURCE --json --facets",
        "stats SOURCE -g model --runs llm --json",
        "stats SOURCE -g metadata.team --json",
    ];
    for name in ["array", "lines", "nested", "newer", "pages", "traces"] {
        let source = root.join(name);
        let source = source.to_str().unwrap();
        convert(dir.path(), &[source, "-o", "out"]);
        assert_same_answers(dir.path(), &questions, source, "out");
    }
}

#[test]
fn the_filed_documents_are_answered_as_before() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    for case in fs::read_dir(root).unwrap() {
        let case = case.unwrap().path();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let out = out.to_str().unwrap();
        convert(&case, &["source", "-o", out]);
        let args = fs::read_to_string(case.join("args")).unwrap();
        let args = args
            .lines()
            .map(|arg| if arg == "source" { out } else { arg });
        let output = runtally(&case, &args.collect::<Vec<_>>());
        let filed = fs::read_to_string(case.join("expected.json")).unwrap();
        assert_eq!(
            output.code,
            Some(0),
            "{}: {}",
            case.display(),
            output.stderr
        );
        assert!(
            output.stdout == filed,
            "{}:\n{}",
            case.display(),
            output.stdout
        );
    }
}

/// What is wrong, without the file that it is wrong with.
fn problem(error: &runtally::Error) -> String {
    let text = error.to_string();
    let problem = text
        .split_once(".parquet: ")
        .map(|(_, problem)| problem.to_owned());
    problem.unwrap_or(text)
}

/// All that the library says of a source.
fn said(paths: &[&Path], options: &SourceOptions) -> runtally::Result<Vec<String>> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(&Limits::default())?;
        let source = Source::open(paths, options)?;
        let mut said = Vec::new();
        for usage in [Usage::Auto, Usage::Own] {
            let request = Request {
                facets: true,
                usage,
                ..Request::default()
            };
            let answer = runtally::sessions(&engine, &source, &request).await;
            said.push(match answer {
                Ok(answer) => serde_json::to_string(&answer.sessions).unwrap(),
                Err(error) => problem(&error),
            });
        }
        for (runs, by) in [
            (Population::Type("llm".to_owned()), vec![Key::Model]),
            (Population::Traces, vec![Key::Status, Key::Tag]),
            (
                Population::Traces,
                vec![Key::Project, Key::Metadata("team".to_owned())],
            ),
        ] {
            let breakdown = Breakdown {
                runs,
                by,
                every: None,
                measures: measures(&["count", "errors", "cost", "tokens", "p99"]),
                sort: Sort {
                    by: runtally::SortBy::Key(0),
                    ascending: true,
                },
                limit: None,
            };
            let answer = runtally::stats(&engine, &source, &Request::default(), &breakdown).await;
            said.push(match answer {
                Ok(answer) => format!("{:?}", (answer.groups, answer.total)),
                Err(error) => problem(&error),
            });
        }
        Ok(said)
    })
}

fn converted(
    paths: &[&Path],
    options: &SourceOptions,
    limits: &Limits,
    convert: &ConvertOptions,
) -> runtally::Result<Converted> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(limits)?;
        let source = Source::open(paths, options)?;
        runtally::convert(&engine, &source, convert).await
    })
}

fn into(dir: &Path) -> ConvertOptions {
    ConvertOptions {
        dir: dir.to_owned(),
        ..ConvertOptions::default()
    }
}

proptest! {
    #![proptest_config(quick(6))]

    /// Files in any forms, any of which may lack columns and any of whose runs may lack values.
    #[test]
    fn any_files_are_answered_as_before(
        runs in prop_oneof![any_runs(2, 25), any_unruly_runs(2, 25)],
        shapes in any_shapes(),
        metadata in any_metadata(2),
    ) {
        let mut runs = runs;
        for shape in &shapes {
            for run in &mut runs {
                shape.fit(run);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (source, out) = (dir.path().join("source"), dir.path().join("out"));
        fs::create_dir(&source).unwrap();
        write_in_turns(&source, &runs, &shapes);
        write_sessions_json(&source, &metadata, true);
        let dedup = if shapes.iter().any(|shape| shape.dropped.contains(&"id")) {
            Dedup::Never
        } else {
            Dedup::Auto
        };
        let options = SourceOptions { dedup, ..SourceOptions::default() };
        let Ok(expected) = said(&[&source], &options) else { return Ok(()) };
        let done = converted(&[&source], &options, &Limits::default(), &into(&out));
        match done {
            Ok(done) => {
                prop_assert_eq!(done.n_runs, runs.len() as u64);
                let found = said(&[&out], &SourceOptions::default()).unwrap();
                prop_assert_eq!(found, expected);
            }
            // What some question cannot read, a conversion cannot.
            Err(error) => prop_assert!(expected.contains(&problem(&error)), "{error}"),
        }
    }

    /// Dumps of any shape.
    #[test]
    fn any_dump_is_answered_as_before(runs in any_runs(2, 12), seed in any::<u32>()) {
        prop_assume!(!runs.is_empty());
        let lays = [
            Lay::Lines,
            Lay::Array { pretty: true },
            Lay::Pages { name: "runs", pretty: false },
            Lay::FileATrace,
            Lay::Nested { lines: true },
        ];
        let bit = |n: u32| seed >> n & 1 == 1;
        let dump = Dump {
            lay: lays[seed as usize % lays.len()],
            pack: if bit(8) { Pack::Gzip } else { Pack::None },
            version: if bit(9) { Version::V1 } else { Version::V2 },
            sparse: bit(10),
            numbers: bit(11),
            time: [0, 1, 2][(seed >> 12) as usize % 3],
        };
        let runs = if matches!(dump.lay, Lay::Nested { .. }) { filled(&runs) } else { runs };
        let dir = tempfile::tempdir().unwrap();
        let source = dump::write(&dir.path().join("source"), &runs, &dump);
        let out = dir.path().join("out");
        converted(&[&source], &SourceOptions::default(), &Limits::default(), &into(&out)).unwrap();
        let options = SourceOptions::default();
        prop_assert_eq!(said(&[&out], &options).unwrap(), said(&[&source], &options).unwrap(), "{:?}", dump);
    }
}

/// The files below a folder with their bytes, by their paths.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = Vec::from_iter(folder.exists().then(|| folder.to_owned()));
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let files = tree(folder).into_keys();
    let files = files.filter(|path| path.extension().is_some_and(|name| name == "parquet"));
    files.map(|path| folder.join(path)).collect()
}

/// What every run has in some columns, by its id, as text.
fn texts(folder: &Path, columns: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut runs = BTreeMap::new();
    for path in parquet_files(folder) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str, row: usize| match batch.column_by_name(name) {
                Some(column) if column.is_valid(row) => array_value_to_string(column, row).unwrap(),
                _ => String::new(),
            };
            for row in 0..batch.num_rows() {
                let values = columns.iter().map(|name| text(name, row)).collect();
                runs.insert(text("id", row), values);
            }
        }
    }
    runs
}

fn some_runs(n: u64) -> Vec<Run> {
    let run = |number: u64| {
        let start = FIRST_MIDNIGHT_US + i64::try_from(number).unwrap() * 7_000_000_011;
        let mut run = Run::completed_root(number, start, start + 1_500_000);
        run.inputs = Some(format!(r#"{{"question": {number}}}"#));
        run.outputs = Some(format!(r#"{{"answer": "{}"}}"#, "é".repeat(10)));
        run.events = Some(r#"[{"name": "new_token"}]"#.to_owned());
        run.tags = Some(vec!["a \"b\"".to_owned(), "c".to_owned()]);
        run.extra = Some(r#"{"metadata": {"ls_model_name": "m", "team": "t"}}"#.to_owned());
        run.total_tokens = Some(i64::try_from(number).unwrap());
        run.total_cost = Some(Cost::of_text("0.000000000001"));
        run
    };
    (0..n).map(run).collect()
}

#[test]
fn nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(30);
    let kept = [
        "inputs",
        "outputs",
        "events",
        "extra",
        "dotted_order",
        "name",
        "run_type",
        "status",
        "trace_id",
        "tags",
        "total_tokens",
        "session_id",
        "tenant_id",
        "is_root",
        "trace_tier",
        "error",
        "parent_run_ids",
    ];
    let classic = dir.path().join("classic");
    write(
        &classic,
        &runs,
        &Shape {
            layout: Layout::V2,
            ..Shape::default()
        },
    );
    let lists = dir.path().join("lists");
    write(
        &lists,
        &runs,
        &Shape {
            lists: ListForm::List,
            layout: Layout::Flat,
            ..Shape::default()
        },
    );
    for source in [&classic, &lists] {
        let out = dir.path().join("out");
        converted(
            &[source],
            &SourceOptions::default(),
            &Limits::default(),
            &into(&out),
        )
        .unwrap();
        let (before, after) = (texts(&classic, &kept), texts(&out, &kept));
        assert_eq!(after.len(), 30);
        let plain = |runs: BTreeMap<String, Vec<String>>| -> Vec<String> {
            // A JSON list may be spaced otherwise.
            runs.into_iter()
                .map(|run| format!("{run:?}").replace("\\\", ", "\\\","))
                .collect()
        };
        assert_eq!(plain(after), plain(before));
        assert_eq!(
            texts(&out, &["total_cost"]).into_values().next().unwrap(),
            ["0.000000000001"]
        );
    }
}

#[test]
fn nothing_of_json_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(30);
    let classic = dir.path().join("classic");
    write(&classic, &runs, &Shape::default());
    let text = dump::text(&runs, &Dump::default());
    fs::create_dir(dir.path().join("json")).unwrap();
    fs::write(
        dir.path().join("json/runs.jsonl"),
        text.replacen("\"id\"", "\"serialized\": {\"a\": 1}, \"id\"", 1),
    )
    .unwrap();
    let output = convert(dir.path(), &["json", "-o", "out"]);
    assert!(
        output
            .stderr
            .contains("nothing is known of these, so they are left out: "),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("serialized"), "{}", output.stderr);
    let of_json = texts(
        &dir.path().join("out"),
        &["inputs", "outputs", "events", "dotted_order"],
    );
    let of_classic = texts(&classic, &["inputs", "outputs", "events", "dotted_order"]);
    let plain = |text: String| text.replace("\": ", "\":");
    let plain = |runs: BTreeMap<String, Vec<String>>| -> Vec<Vec<String>> {
        runs.into_values()
            .map(|run| run.into_iter().map(plain).collect())
            .collect()
    };
    assert_eq!(plain(of_json), plain(of_classic));
}

#[test]
fn the_big_columns_are_left_out_where_that_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir.path().join("classic"),
        &some_runs(30),
        &Shape::default(),
    );
    convert(dir.path(), &["classic", "-o", "out", "--drop-io"]);
    let file = &parquet_files(&dir.path().join("out"))[0];
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let names: Vec<&str> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert!(
        ["inputs", "outputs", "events"]
            .iter()
            .all(|name| !names.contains(name)),
        "{names:?}"
    );
    assert!(
        names.contains(&"extra") && names.contains(&"dotted_order"),
        "{names:?}"
    );
    assert_same_answers(
        dir.path(),
        &["list SOURCE --json --facets"],
        "classic",
        "out",
    );
}

#[test]
fn columns_of_no_format_are_carried_over_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    write(
        &source,
        &some_runs(3),
        &Shape {
            layout: Layout::SingleFile,
            ..Shape::default()
        },
    );
    let path = source.join("part-00000.parquet");
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let more: [(&str, ArrayRef); 3] = [
        (
            "latency",
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(2.0)])),
        ),
        ("note", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        (
            "nested",
            Arc::new(arrow::array::StructArray::from(vec![(
                Arc::new(arrow::datatypes::Field::new(
                    "x",
                    arrow::datatypes::DataType::Int64,
                    true,
                )),
                Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef,
            )])),
        ),
    ];
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .zip(batch.columns().iter().cloned());
    let batch = RecordBatch::try_from_iter(columns.chain(more)).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let output = convert(dir.path(), &["source", "-o", "out"]);
    assert!(
        output.stderr.contains("left out: nested"),
        "{}",
        output.stderr
    );
    let own = ["latency", "note"];
    assert_eq!(texts(&dir.path().join("out"), &own), texts(&source, &own));
    assert_same_answers(dir.path(), &["list SOURCE --json"], "source", "out");
}

#[test]
fn large_costs_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = some_runs(40);
    runs[35].total_cost = Some(Cost::of_text("9223371.036854775807"));
    let shape = Shape {
        layout: Layout::V2,
        cost: CostForm::Text,
        ..Shape::default()
    };
    write(&dir.path().join("source"), &runs, &shape);
    convert(dir.path(), &["source", "-o", "out"]);
    assert_same_answers(dir.path(), &["list SOURCE --json"], "source", "out");
}

#[test]
fn files_without_traces_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (some_runs(4), some_runs(9).split_off(4));
    let shape = Shape {
        layout: Layout::SingleFile,
        ..Shape::default()
    };
    write(&dir.path().join("source/a"), &one, &shape);
    let dropped = vec!["trace_id", "dotted_order"];
    write(
        &dir.path().join("source/b"),
        &other,
        &Shape { dropped, ..shape },
    );
    convert(dir.path(), &["source", "-o", "out"]);
    assert_same_answers(dir.path(), &["list SOURCE --json"], "source", "out");
    let refused = ["list", "out", "--usage-from", "own"];
    assert!(refusal(dir.path(), &refused, 1).contains("not all of its files say"));
    assert_eq!(texts(&dir.path().join("out"), &["trace_id"]).len(), 9);
}

#[test]
fn the_bytes_depend_on_the_inputs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let options = Options {
        rows: 3_000,
        projects: 2,
        days: 2,
        overlap: 1,
        ..small(Generated::Lines)
    };
    generate::generate(&source, &options).unwrap();
    let mut trees = Vec::new();
    for (number, (threads, memory_mib)) in [(1, 2_048), (8, 2_048), (8, 48), (1, 16)]
        .into_iter()
        .enumerate()
    {
        let limits = Limits {
            threads: NonZeroUsize::new(threads),
            memory_bytes: Some(memory_mib << 20),
        };
        let out = dir.path().join(format!("out-{number}"));
        let done = converted(&[&source], &SourceOptions::default(), &limits, &into(&out)).unwrap();
        assert_eq!(done.n_runs, 3_000);
        trees.push(tree(&out));
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]));
}

/// When each file below a folder was written.
fn times(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let paths = tree(folder).into_keys();
    let times = paths.map(|path| {
        let time = fs::metadata(folder.join(&path))
            .unwrap()
            .modified()
            .unwrap();
        (path, time)
    });
    times.collect()
}

#[test]
fn what_is_there_is_kept_and_what_has_changed_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    generate::generate(&dir.path().join("source"), &small(Generated::V2)).unwrap();
    let out = dir.path().join("out");
    convert(dir.path(), &["source", "-o", "out"]);
    let files = || {
        let mut files = times(&out);
        assert!(files.remove(Path::new(".convert.lock")).is_some());
        files
    };
    let before = files();
    let again = convert(dir.path(), &["source", "-o", "out"]);
    assert!(
        again
            .stderr
            .contains("nothing to do: it is there already · "),
        "{}",
        again.stderr
    );
    assert_eq!(files(), before);
    // A file less.
    let file = parquet_files(&dir.path().join("source")).remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    convert(dir.path(), &["source", "-o", "out"]);
    assert_same_answers(dir.path(), &["list SOURCE --json"], "source", "out");
    assert_eq!(
        fs::read_dir(&out).unwrap().count(),
        3,
        "{:?}",
        tree(&out).keys()
    );
    // Of one project, as JSON.
    fs::write(&file, bytes).unwrap();
    let slim = [
        "convert",
        "source",
        "-o",
        "out",
        "-p",
        "support-bot",
        "--drop-io",
        "--json",
        "-q",
    ];
    let slim: Value = serde_json::from_str(&answer(dir.path(), &slim)).unwrap();
    assert_eq!(
        (&slim["n_projects"], &slim["was_there"], &slim["n_files"]),
        (&json!(1), &json!(false), &json!(4))
    );
    assert_same_answers(
        dir.path(),
        &["show SOURCE -p support-bot --json"],
        "source",
        "out",
    );
    let names: Value =
        serde_json::from_str(&fs::read_to_string(out.join("sessions.json")).unwrap()).unwrap();
    assert_eq!(names.as_array().unwrap().len(), 1);
    // What was taken away of it is written again.
    let lost = parquet_files(&out).remove(0);
    fs::remove_file(&lost).unwrap();
    let again = ["source", "-o", "out", "-p", "support-bot", "--drop-io"];
    assert!(!convert(dir.path(), &again).stderr.contains("nothing to do"));
    assert!(lost.exists());
}

#[test]
fn experiments_keep_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    write(&source, &some_runs(3), &Shape::default());
    let record = |index: usize| {
        json!({
            "id": project_id(index), "name": format!("p{index}"), "reference_dataset_id": project_id(77),
            "start_time": format!("2026-01-0{}T00:00:00", 9 - index), "unknown": [1.50],
        })
    };
    let records: Vec<Value> = (0..4).map(record).collect();
    write_sessions_json(&source, &records, false);
    convert(dir.path(), &["source", "-o", "out"]);
    assert_same_answers(dir.path(), &["list SOURCE --json"], "source", "out");
    assert!(answer(dir.path(), &["list", "out"]).contains("\"test_run_number\": 4"));
    let text = fs::read_to_string(dir.path().join("out/sessions.json")).unwrap();
    assert!(text.contains("\"unknown\": ["), "{text}");
}

#[test]
fn a_folder_that_is_read_or_holds_other_things_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    generate::generate(&dir.path().join("source"), &small(Generated::V2)).unwrap();
    for out in ["source", "source/out", ".", "source/../source/x/y"] {
        let said = refusal(dir.path(), &["convert", "source", "-o", out], 2);
        assert!(
            said.contains("cannot be written to: ") && said.contains("hint: name a folder outside"),
            "{said}"
        );
    }
    assert!(!dir.path().join("source/out").exists());
    let full = dir.path().join("full");
    let foreign = |said: &str, what: &str| {
        assert!(
            said.contains(&format!("full holds {what}, which no conversion wrote")),
            "{said}"
        );
        assert!(said.contains("hint: "), "{said}");
    };
    for name in ["notes.txt", "sessions.json", "export_id=1/a.parquet"] {
        let path = full.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{}").unwrap();
        let said = refusal(dir.path(), &["convert", "source", "-o", "full"], 2);
        foreign(&said, name.split('/').next().unwrap());
        fs::remove_dir_all(&full).unwrap();
    }
    // Hidden files are read by nobody.
    fs::create_dir(&full).unwrap();
    fs::write(full.join(".keep"), "").unwrap();
    convert(dir.path(), &["source", "-o", "full"]);
    assert!(full.join(".keep").exists());
    let inside = parquet_files(&full)
        .remove(0)
        .with_file_name("other.parquet");
    fs::write(&inside, "").unwrap();
    let said = refusal(dir.path(), &["convert", "source", "-o", "full"], 2);
    foreign(&said, inside.strip_prefix(&full).unwrap().to_str().unwrap());
    assert!(inside.exists());
    let said = refusal(dir.path(), &["convert", "full", "-o", "full"], 2);
    assert!(said.contains("is read"), "{said}");
    let said = refusal(dir.path(), &["convert", "source"], 2);
    assert!(said.contains("--output"), "{said}");
    refusal(
        dir.path(),
        &["convert", "source", "-o", "x", "-p", "nobody"],
        3,
    );
}

#[test]
fn bad_files_are_named_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    generate::generate(&source, &small(Generated::V2)).unwrap();
    let files = parquet_files(&source);
    fs::write(&files[1], "no Parquet").unwrap();
    // Damaged below its footer.
    let mut bytes = fs::read(&files[5]).unwrap();
    bytes[60..400].fill(0xa5);
    fs::write(&files[5], bytes).unwrap();
    let name = |index: usize| {
        let path = files[index].strip_prefix(dir.path()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let said = refusal(dir.path(), &["convert", "source", "-o", "out"], 1);
    assert!(said.contains(&name(1)), "{said}");
    assert!(
        parquet_files(&dir.path().join("out"))
            .iter()
            .all(|path| path.to_str().unwrap().contains("/.export_id"))
    );
    let skipping = ["convert", "source", "-o", "out", "--on-error", "skip"];
    for _ in 0..2 {
        let output = runtally(dir.path(), &skipping);
        assert_eq!(output.code, Some(4), "{}", output.stderr);
        for index in [1, 5] {
            assert!(
                output
                    .stderr
                    .contains(&format!("{}: left out: ", name(index))),
                "{}",
                output.stderr
            );
        }
    }
    for index in [1, 5] {
        fs::remove_file(&files[index]).unwrap();
    }
    assert_same_answers(dir.path(), &["list SOURCE --json"], "source", "out");
    // Lines that are no runs.
    fs::write(
        dir.path().join("runs.jsonl"),
        dump::text(&some_runs(3), &Dump::default()) + "{}\n",
    )
    .unwrap();
    refusal(dir.path(), &["convert", "runs.jsonl", "-o", "json"], 1);
    for _ in 0..2 {
        let skipping = ["convert", "runs.jsonl", "-o", "json", "--on-error", "skip"];
        let output = runtally(dir.path(), &skipping);
        assert_eq!(output.code, Some(4), "{}", output.stderr);
        assert!(
            output.stderr.contains(" 3 runs ") && output.stderr.contains("1 value, "),
            "{}",
            output.stderr
        );
    }
    let options = SourceOptions {
        on_bad_file: OnBadFile::Skip,
        ..SourceOptions::default()
    };
    let done = converted(
        &[&dir.path().join("runs.jsonl")],
        &options,
        &Limits::default(),
        &into(&dir.path().join("lib")),
    );
    assert_eq!(done.unwrap().skipped.len(), 1);
}

/// Kills conversions so many times at any moment, and looks at what is there each time.
fn kill(n_times: u32, rows: u64) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows,
        days: 12,
        ..small(Generated::V2)
    };
    generate::generate(&dir.path().join("source"), &options).unwrap();
    let args = ["convert", "source", "-o", "out", "-q"];
    let began = Instant::now();
    answer(
        dir.path(),
        &["convert", "source", "-o", "undisturbed", "-q"],
    );
    let took = began.elapsed();
    let whole = tree(&dir.path().join("undisturbed"));
    let documents = answer(dir.path(), &["list", "source"]);
    let out = dir.path().join("out");
    let mut n_disturbed = 0;
    let mut before: Option<String> = None;
    for number in 0..n_times {
        let mut child = command(dir.path(), &args)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Moments all over the time that it takes, and a little more.
        let share = f64::from(number * 37 % n_times) / f64::from(n_times) * 1.1;
        thread::sleep(took.mul_f64(share).max(Duration::from_millis(5)));
        child.kill().unwrap();
        let is_disturbed = !child.wait().unwrap().success();
        n_disturbed += usize::from(is_disturbed);
        let found = runtally(dir.path(), &["list", "out"]);
        match (&before, found.code) {
            (None, Some(1)) => assert!(
                found.stderr.contains("no such file or folder")
                    || found.stderr.contains("no Parquet file"),
                "{}",
                found.stderr
            ),
            (Some(before), Some(0)) if found.stdout == *before => {}
            _ => assert_eq!(
                (found.code, &found.stdout),
                (Some(0), &documents),
                "{}",
                found.stderr
            ),
        }
        let below = |path: &Path| path.iter().skip(1).collect::<PathBuf>();
        let staged = times(&out).into_iter().filter(|(path, _)| {
            let is_file = path.extension().is_some_and(|name| name == "parquet");
            is_file
                && path
                    .iter()
                    .next()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .ends_with(".partial")
        });
        let staged: Vec<_> = staged.map(|(path, time)| (below(&path), time)).collect();
        answer(dir.path(), &args);
        assert!(tree(&out) == whole, "{:?}", tree(&out).keys());
        // What was complete is kept.
        let after = times(&out).into_iter();
        let after: BTreeMap<PathBuf, SystemTime> =
            after.map(|(path, time)| (below(&path), time)).collect();
        for (path, time) in staged {
            assert_eq!(after.get(&path), Some(&time), "{}", path.display());
        }
        // Next time from nothing, or from what other inputs gave.
        fs::remove_dir_all(&out).unwrap();
        before = None;
        if number % 2 == 0 {
            let source = format!("other-{number}");
            generate::generate(
                &dir.path().join(&source),
                &Options {
                    rows: 200,
                    ..options.clone()
                },
            )
            .unwrap();
            answer(dir.path(), &["convert", &source, "-o", "out", "-q"]);
            before = Some(answer(dir.path(), &["list", "out"]));
        }
    }
    n_disturbed
}

#[test]
fn a_kill_leaves_nothing_half() {
    assert!(kill(8, 800) > 3);
}

#[test]
#[ignore = "takes minutes; a shorter one runs always"]
fn fifty_kills_leave_nothing_half() {
    let n_disturbed = kill(50, 3_000);
    assert!(
        n_disturbed > 30,
        "only {n_disturbed} were killed before they were done"
    );
}

#[test]
fn one_process_writes_into_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    generate::generate(&dir.path().join("source"), &small(Generated::V2)).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    let lock = File::create(dir.path().join("out/.convert.lock")).unwrap();
    lock.lock().unwrap();
    let said = refusal(dir.path(), &["convert", "source", "-o", "out"], 2);
    assert!(
        said.contains("another conversion is writing into out"),
        "{said}"
    );
    drop(lock);
    convert(dir.path(), &["source", "-o", "out"]);
}
