//! Exports as a whole: what is in the files.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::NaiveDate;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Compression, CostType, GenerateError, Layout, Options, generate};

const COLUMNS: &str = "id tenant_id session_id trace_id parent_run_id parent_run_ids \
    reference_example_id name run_type start_time end_time status is_root dotted_order \
    trace_tier inputs outputs error extra events tags feedback_stats total_tokens \
    prompt_tokens completion_tokens total_cost prompt_cost completion_cost first_token_time";

/// What the tests look at in a row.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    file: String,
    id: String,
    trace_id: String,
    parent_id: Option<String>,
    order: String,
    run_type: String,
    status: String,
    is_root: bool,
    start_us: i64,
    end_us: Option<i64>,
    first_token_us: Option<i64>,
    tokens: Option<i64>,
    cost: Option<f64>,
    feedback: Option<String>,
}

fn small() -> Options {
    Options {
        rows: 3_000,
        days: 3,
        users: 50,
        row_group_rows: 400,
        ..Options::default()
    }
}

/// All files below a folder, sorted by path.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(dir)
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(dir).unwrap().to_owned();
            (inside, fs::read(path).unwrap())
        })
        .collect()
}

fn batches(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = files(dir);
    found.retain(|path| path.extension().is_some_and(|end| end == "parquet"));
    found
}

/// The rows of all files, in the order of the files; layouts `V2`, `Flat`,
/// costs as doubles.
fn rows(dir: &Path) -> Vec<Row> {
    let mut all = Vec::new();
    for path in parquet_files(dir) {
        let file = path.strip_prefix(dir).unwrap().display().to_string();
        for batch in batches(&path) {
            all.extend((0..batch.num_rows()).map(|index| row(&file, &batch, index)));
        }
    }
    all
}

fn row(file: &str, batch: &RecordBatch, index: usize) -> Row {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let has = |name: &str| column(name).is_valid(index);
    let text =
        |name: &str| has(name).then(|| column(name).as_string::<i32>().value(index).to_owned());
    let time = |name: &str| {
        let times = column(name).as_primitive::<TimestampMicrosecondType>();
        has(name).then(|| times.value(index))
    };
    Row {
        file: file.to_owned(),
        id: text("id").unwrap(),
        trace_id: text("trace_id").unwrap(),
        parent_id: text("parent_run_id"),
        order: text("dotted_order").unwrap(),
        run_type: text("run_type").unwrap(),
        status: text("status").unwrap(),
        is_root: column("is_root").as_boolean().value(index),
        start_us: time("start_time").unwrap(),
        end_us: time("end_time"),
        first_token_us: time("first_token_time"),
        tokens: has("total_tokens").then(|| {
            let tokens = column("total_tokens").as_primitive::<Int64Type>();
            tokens.value(index)
        }),
        cost: has("total_cost").then(|| {
            let costs = column("total_cost").as_primitive::<Float64Type>();
            costs.value(index)
        }),
        feedback: text("feedback_stats"),
    }
}

fn export(options: &Options) -> (tempfile::TempDir, Vec<Row>) {
    let dir = tempfile::tempdir().unwrap();
    let summary = generate(dir.path(), options).unwrap();
    let rows = rows(dir.path());
    assert_eq!(summary.rows, rows.len() as u64);
    (dir, rows)
}

#[test]
fn same_options_same_bytes() {
    for layout in [Layout::V1, Layout::V2, Layout::Flat] {
        let options = Options {
            rows: 1_000,
            overlap: 1,
            layout,
            ..small()
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let summary = generate(one.path(), &options).unwrap();
        assert_eq!(summary, generate(two.path(), &options).unwrap());
        assert_eq!(bytes(one.path()), bytes(two.path()));
        assert_eq!(summary.files + 1, files(one.path()).len() as u64);
    }
}

#[test]
fn rows_are_exact_unique_and_sorted() {
    for n_rows in [0, 1, 7, 500, 3_000] {
        let options = Options {
            rows: n_rows,
            files_per_day: 5,
            ..small()
        };
        let (_dir, rows) = export(&options);
        assert_eq!(rows.len() as u64, n_rows);
        let ids: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
        assert_eq!(ids.len(), rows.len());
        for pair in rows.windows(2) {
            assert!(pair[0].file != pair[1].file || pair[0].start_us <= pair[1].start_us);
        }
    }
}

#[test]
fn days_are_those_of_the_starts() {
    let options = Options {
        days: 2,
        layout: Layout::Flat,
        end: NaiveDate::from_ymd_opt(2024, 3, 1).unwrap(),
        ..small()
    };
    let (_dir, rows) = export(&options);
    for row in &rows {
        let time = chrono::DateTime::from_timestamp_micros(row.start_us).unwrap();
        let date = time.date_naive().to_string();
        assert!(row.file.contains(&date), "{} in {}", time, row.file);
        assert!(["2024-02-29", "2024-03-01"].contains(&date.as_str()));
    }
}

#[test]
fn ids_and_times_nest() {
    let (_dir, rows) = export(&small());
    let runs: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let n_roots = rows.iter().filter(|row| row.is_root).count();
    assert!((600..900).contains(&n_roots), "{n_roots} roots of 3000");
    assert!(rows.iter().any(|row| row.order.matches('.').count() == 3));
    for row in &rows {
        assert!(row.order.ends_with(&row.id));
        let start = chrono::DateTime::from_timestamp_micros(row.start_us).unwrap();
        let segment = start.format("%Y%m%dT%H%M%S%6fZ").to_string() + &row.id;
        let Some(parent_id) = &row.parent_id else {
            assert!(row.is_root && row.trace_id == row.id && row.order == segment);
            continue;
        };
        let parent = runs[parent_id.as_str()];
        assert!(!row.is_root);
        assert_eq!(row.order, format!("{}.{segment}", parent.order));
        assert_eq!(row.trace_id, parent.trace_id);
        assert!(row.start_us > parent.start_us);
        assert!(row.end_us <= parent.end_us || parent.end_us.is_none());
        assert!(row.end_us.is_none_or(|end_us| end_us > row.start_us));
        assert!(row.end_us.is_some() || parent.end_us.is_none());
    }
}

/// The runs of each trace.
fn traces(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut traces: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        traces.entry(&row.trace_id).or_default().push(row);
    }
    traces
}

#[test]
fn roots_add_up_their_calls() {
    let (_dir, rows) = export(&small());
    let mut n_with_cost = 0;
    for trace in traces(&rows).values() {
        let root = trace.iter().find(|row| row.is_root).unwrap();
        let calls = || trace.iter().filter(|row| row.run_type == "llm");
        let tokens = calls().filter_map(|call| call.tokens).reduce(|a, b| a + b);
        assert_eq!(root.tokens, tokens);
        let costs: Vec<f64> = calls().filter_map(|call| call.cost).collect();
        assert_eq!(root.cost.is_some(), !costs.is_empty());
        let cost = costs.iter().sum::<f64>();
        assert!((root.cost.unwrap_or(0.0) - cost).abs() < 1e-12);
        n_with_cost += u32::from(root.cost.is_some());

        let last = calls().max_by_key(|call| call.start_us);
        let first = calls().filter_map(|call| call.first_token_us).min();
        let streams = last.is_some_and(|last| last.first_token_us.is_some());
        assert_eq!(root.first_token_us, first.filter(|_| streams));
        for row in trace {
            let end_us = row.end_us.unwrap_or(i64::MAX);
            let first_us = row.first_token_us.unwrap_or(row.start_us + 1);
            assert!((row.start_us + 1..=end_us).contains(&first_us));
        }
    }
    assert!(n_with_cost > 500);
}

#[test]
fn own_only_roots_have_no_usage() {
    let options = Options {
        own_only_roots: true,
        ..small()
    };
    let (_dir, own) = export(&options);
    let (_dir, all) = export(&small());
    for (own, all) in own.iter().zip(&all) {
        if own.run_type == "llm" {
            assert_eq!(own, all);
        } else {
            assert_eq!((own.tokens, own.cost), (None, None));
            assert_eq!((&own.id, own.end_us), (&all.id, all.end_us));
        }
    }
}

#[test]
fn second_export_completes_the_first() {
    let options = Options {
        rows: 6_000,
        overlap: 2,
        pending_share: 0,
        layout: Layout::Flat,
        ..small()
    };
    let (dir, rows) = export(&options);
    let (first, second): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .partition(|row| row.file.starts_with("export-1"));
    assert_eq!(first.len(), 6_000);
    let first: BTreeMap<String, Row> = first.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut n_completed = 0;
    let mut n_late_feedback = 0;
    for new in &second {
        let old = &first[&new.id];
        assert!(new.end_us.is_some() && new.order == old.order);
        n_completed += u32::from(old.status == "pending");
        n_late_feedback += u32::from(old.end_us.is_some() && old.feedback != new.feedback);
        assert!(old.end_us.is_none() || old.end_us == new.end_us);
        assert_eq!(old.file.replace("export-1", "export-2"), new.file);
    }
    assert!(second.len() > 3_000 && n_completed > 5 && n_late_feedback > 5);
    let n_pending = first.values().filter(|row| row.status == "pending").count();
    assert_eq!(n_pending, n_completed as usize);

    let modified = |number: &str| {
        let mut paths = parquet_files(dir.path());
        paths.retain(|path| path.display().to_string().contains(number));
        fs::metadata(&paths[0]).unwrap().modified().unwrap()
    };
    assert!(modified("export-1-") < modified("export-2-"));
}

#[test]
fn layouts_have_the_same_runs() {
    let (_dir, v2) = export(&small());
    let flat = Options {
        layout: Layout::Flat,
        compression: Compression::Snappy,
        row_group_rows: 100_000,
        ..small()
    };
    let (_dir, mut flat) = export(&flat);
    let mut v2 = v2;
    for rows in [&mut v2, &mut flat] {
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        for row in rows.iter_mut() {
            row.file.clear();
        }
    }
    assert_eq!(v2, flat);
}

#[test]
fn columns_have_the_types_of_the_layout() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let cases = [
        (
            Layout::V1,
            CostType::Decimal,
            nanos,
            DataType::Decimal128(18, 12),
        ),
        (Layout::V2, CostType::Text, micros.clone(), DataType::Utf8),
        (Layout::Flat, CostType::Double, micros, DataType::Float64),
    ];
    for (layout, cost_type, time, cost) in cases {
        let options = Options {
            rows: 300,
            layout,
            cost_type,
            compression: Compression::Gzip,
            ..small()
        };
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path(), &options).unwrap();
        let path = parquet_files(dir.path()).remove(0);
        let schema = batches(&path)[0].schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(names, COLUMNS.split(' ').collect::<Vec<_>>());
        let type_of = |name| schema.field_with_name(name).unwrap().data_type().clone();
        assert_eq!(type_of("start_time"), time);
        assert_eq!(type_of("total_cost"), cost);
        assert_eq!(type_of("outputs"), DataType::Utf8);
        let is_list = matches!(type_of("tags"), DataType::List(_));
        assert_eq!(is_list, layout == Layout::V1);
        let inside = path.strip_prefix(dir.path()).unwrap().display().to_string();
        let marks = match layout {
            Layout::V1 => "/runs/year=2026/month=10/day=29/",
            Layout::V2 => "/resource=runs/year=2026/month=10/day=29/",
            Layout::Flat | Layout::Lines => "-2026-10-29-",
        };
        assert!(inside.contains(marks), "{inside}");
    }
}

#[test]
fn json_columns_are_json() {
    let dir = tempfile::tempdir().unwrap();
    generate(dir.path(), &small()).unwrap();
    for path in parquet_files(dir.path()) {
        for batch in batches(&path) {
            for name in [
                "extra",
                "events",
                "tags",
                "inputs",
                "outputs",
                "feedback_stats",
            ] {
                let column = batch.column_by_name(name).unwrap().as_string::<i32>();
                for text in column.iter().flatten() {
                    serde_json::from_str::<serde_json::Value>(text).unwrap();
                }
            }
        }
    }
    let sessions = fs::read_to_string(dir.path().join("sessions.json")).unwrap();
    let sessions: serde_json::Value = serde_json::from_str(&sessions).unwrap();
    assert_eq!(sessions[0]["name"], "support-bot");
    assert_eq!(sessions.as_array().unwrap().len(), 3);
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "").unwrap();
    let result = generate(dir.path(), &small());
    assert!(matches!(result, Err(GenerateError::NotEmpty { .. })));
    let result = generate(&dir.path().join("mine"), &small());
    assert!(matches!(result, Err(GenerateError::Io { .. })));
    assert_eq!(files(dir.path()).len(), 1);
}
