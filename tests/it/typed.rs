//! Statistics as Parquet: every row and figure is that of the JSON lines, in a typed column.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::DateTime;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value, json};

use crate::cli::{answer, exports, refusal};

/// A row, its columns in their order.
type Row = Map<String, Value>;

/// The rows of a file as JSON, and the columns' types.
fn rows(path: &Path) -> (Vec<Row>, Vec<(String, DataType)>) {
    let file = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let fields = file.schema().fields().iter();
    let types = fields.map(|field| (field.name().clone(), field.data_type().clone()));
    let types = types.collect();
    let mut rows = Vec::new();
    for batch in file.build().unwrap() {
        let batch = batch.unwrap();
        rows.extend((0..batch.num_rows()).map(|row| record(&batch, row)));
    }
    (rows, types)
}

fn record(batch: &RecordBatch, row: usize) -> Row {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns());
    fields
        .map(|(field, column)| (field.name().clone(), value(column, row)))
        .collect()
}

fn value(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(38, 12) => {
            let text = column.as_primitive::<Decimal128Type>().value_as_string(row);
            json!(text.trim_end_matches('0').trim_end_matches('.'))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            let us = column.as_primitive::<TimestampMicrosecondType>().value(row);
            json!(DateTime::from_timestamp_micros(us).unwrap().to_rfc3339())
        }
        other => panic!("a column of type {other}"),
    }
}

/// A line as a row has it: objectives flat, what is exact said so, JSON within as text.
fn flattened(line: &str, types: &[(String, DataType)]) -> Row {
    let line: Row = serde_json::from_str(line).unwrap();
    let mut flat = Map::new();
    for (name, kind) in types {
        let of_objective = line
            .get("slo")
            .into_iter()
            .flat_map(|all| all.as_array().unwrap());
        let mut of_objective = of_objective.filter_map(|objective| {
            let prefix = format!("{}_", objective["objective"].as_str().unwrap());
            objective.get(name.strip_prefix(&prefix)?).cloned()
        });
        let value = match (
            of_objective.next().or_else(|| line.get(name).cloned()),
            kind,
        ) {
            (Some(value @ (Value::Array(_) | Value::Object(_))), _) => json!(value.to_string()),
            (Some(Value::Number(number)), DataType::Float64) => json!(number.as_f64()),
            (Some(Value::String(time)), DataType::Timestamp(..)) => {
                json!(
                    DateTime::parse_from_rfc3339(&time)
                        .unwrap()
                        .to_utc()
                        .to_rfc3339()
                )
            }
            (Some(value), _) => value,
            (None, _) if name == "is_other" => json!(line.contains_key("group")),
            (None, _) => json!(false),
        };
        flat.insert(name.clone(), value);
    }
    if line.contains_key("group") {
        flat["model"] = json!("(other)");
    }
    flat
}

#[test]
fn rows_are_those_of_the_json_lines() {
    let (dir, _) = exports(2);
    let questions: [&[&str]; 5] = [
        &["--select", "all", "--slo", "latency<5s:99%", "--facets"],
        &[
            "--group-by",
            "project,tag",
            "--exemplars",
            "--select",
            "p50,cost,feedback",
        ],
        &[
            "--runs",
            "llm",
            "--group-by",
            "model",
            "--limit",
            "1",
            "--share",
        ],
        &[
            "-g",
            "metadata.team",
            "--every",
            "day",
            "--select",
            "all",
            "--slo",
            "first_token<1s:9%",
        ],
        &["--since", "2031-01-01", "-g", "name"],
    ];
    for question in questions {
        let question = [&["stats", "exports", "-q"], question].concat();
        answer(
            dir.path(),
            &[&question[..], &["-o", "figures.parquet"]].concat(),
        );
        let lines = answer(
            dir.path(),
            &[&question[..], &["--format", "jsonl"]].concat(),
        );
        let (rows, types) = rows(&dir.path().join("figures.parquet"));
        let expected: Vec<_> = lines.lines().map(|line| flattened(line, &types)).collect();
        assert_eq!(rows.len(), expected.len(), "{question:?}");
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected, "{question:?}");
        }
    }
}

#[test]
fn columns_have_types() {
    let (dir, _) = exports(1);
    let select =
        "traces,cost,tokens,p50,users,last_start,feedback,input_tokens_p50,cost_p50,error_rate";
    let question = [
        "stats", "exports", "-g", "model", "--limit", "3", "--every", "day",
    ];
    let output = [
        "--select", select, "-q", "--format", "parquet", "-o", "figures",
    ];
    answer(dir.path(), &[&question[..], &output].concat());
    let (_, types) = rows(&dir.path().join("figures"));
    let types: Vec<String> = types
        .iter()
        .map(|(name, kind)| format!("{name} {kind}"))
        .collect();
    let time = "Timestamp(µs, \"UTC\")";
    let expected = [
        "model Utf8".to_owned(),
        "is_other Boolean".to_owned(),
        format!("start {time}"),
        format!("end {time}"),
        "run_count Int64".to_owned(),
        "total_cost Decimal128(38, 12)".to_owned(),
        "total_tokens Int64".to_owned(),
        "latency_p50 Float64".to_owned(),
        "distinct_users Int64".to_owned(),
        "distinct_users_is_approximate Boolean".to_owned(),
        format!("last_run_start_time {time}"),
        "feedback_stats Utf8".to_owned(),
        "prompt_tokens_p50 Float64".to_owned(),
        "cost_p50 Decimal128(38, 12)".to_owned(),
        "error_rate Float64".to_owned(),
    ];
    assert_eq!(types, expected);
}

#[test]
fn documents_and_runs_are_not_written_as_parquet() {
    let (dir, _) = exports(1);
    for command in ["show", "list", "runs"] {
        for output in [["--format", "parquet"], ["-o", "x.parquet"]] {
            let said = refusal(
                dir.path(),
                &[&[command, "exports"], &output[..]].concat(),
                2,
            );
            assert!(said.contains("`runtally stats"), "{said}");
        }
    }
    assert!(!dir.path().join("x.parquet").exists());
}
