//! Runs → Parquet exports, in every form that exports have.
//!
//! A `Shape` says which paths, column types and nulls; the same runs in two
//! shapes hold the same facts (the writer refuses a form that would lose some).
//! Session records are written beside them as `sessions.json` or `.jsonl`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use chrono::{DateTime, SecondsFormat};
use parquet::arrow::arrow_writer::{
    ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Repetition, Type as PhysicalType};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use uuid::Uuid;

use super::exact;
use super::run::{Cost, DAY_US, Run};

/// The default columns of an export, in its order.
pub(crate) const COLUMNS: [&str; 29] = [
    "id",
    "tenant_id",
    "session_id",
    "trace_id",
    "parent_run_id",
    "parent_run_ids",
    "reference_example_id",
    "name",
    "run_type",
    "start_time",
    "end_time",
    "status",
    "is_root",
    "dotted_order",
    "trace_tier",
    "inputs",
    "outputs",
    "error",
    "extra",
    "events",
    "tags",
    "feedback_stats",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "first_token_time",
];

/// How runs lie in files. The default is what a v1 export writes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) layout: Layout,
    pub(crate) time: TimeForm,
    pub(crate) cost: CostForm,
    pub(crate) tokens: TokenForm,
    pub(crate) lists: ListForm,
    pub(crate) text: TextForm,
    pub(crate) ids: IdForm,
    /// A root's `parent_run_id` is the empty text instead of null.
    pub(crate) empty_parent: bool,
    /// Files a project and day (`V1`, `V2`), or in all (`Flat`); at least 1.
    pub(crate) n_files: usize,
    pub(crate) row_group_rows: usize,
    pub(crate) compression: Compression,
    /// Shuffles the rows before they are spread over files.
    pub(crate) shuffle_seed: Option<u64>,
    /// Whether the arrow schema is embedded; exporters of other kinds do not.
    pub(crate) arrow_schema: bool,
    /// The `export_id` of the paths.
    pub(crate) export_id: Uuid,
    /// Columns left out.
    pub(crate) dropped: Vec<&'static str>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            layout: Layout::V1,
            time: TimeForm::NanosNaive,
            cost: CostForm::Double,
            tokens: TokenForm::Int64,
            lists: ListForm::JsonText,
            text: TextForm::Utf8,
            ids: IdForm::Text,
            empty_parent: false,
            n_files: 1,
            row_group_rows: 1_000_000,
            compression: Compression::SNAPPY,
            shuffle_seed: None,
            arrow_schema: false,
            export_id: Uuid::from_u128(0xe0),
            dropped: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Layout {
    V1,
    V2,
    Flat,
    SingleFile,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TimeForm {
    NanosNaive,
    NanosUtc,
    MicrosNaive,
    MicrosUtc,
    /// Holds whole milliseconds only.
    MillisNaive,
    /// Days and nanoseconds in 96 bits, as old writers have it.
    Int96,
    Text,
}

/// `Decimal(precision, scale)`: a scale below 12 holds rounder amounts only.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum CostForm {
    #[default]
    Double,
    Decimal(u8, i8),
    Text,
}

impl CostForm {
    /// The pico-dollars that a file in this form says; `None` for NaN.
    pub(crate) fn pico(self, cost: &Cost) -> Option<num_bigint::BigInt> {
        match self {
            Self::Double => exact::pico_of_double(cost.double),
            Self::Decimal(..) | Self::Text => exact::pico_of_text(&cost.text),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TokenForm {
    Int64,
    Int32,
    /// Holds no negative numbers.
    UInt64,
    Double,
}

/// Of `tags` and `parent_run_ids`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ListForm {
    JsonText,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TextForm {
    Utf8,
    Binary,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum IdForm {
    Text,
    /// With JSON's quotes around it.
    Quoted,
    /// 16 bytes.
    Binary,
}

impl Shape {
    /// Rounds a run to what the forms can hold.
    pub(crate) fn fit(&self, run: &mut Run) {
        if self.time == TimeForm::MillisNaive {
            let times = [
                Some(&mut run.start_us),
                run.end_us.as_mut(),
                run.first_token_us.as_mut(),
            ];
            for at in times.into_iter().flatten() {
                *at = at.div_euclid(1_000) * 1_000;
            }
        }
        if self.tokens == TokenForm::UInt64 {
            for tokens in [
                &mut run.total_tokens,
                &mut run.prompt_tokens,
                &mut run.completion_tokens,
            ] {
                *tokens = tokens.map(i64::abs);
            }
        }
    }
}

/// A file, and which of the runs it holds, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    pub(crate) rows: Vec<usize>,
}

/// Writes the runs below `dir`; no file where there is no run.
pub(crate) fn write(dir: &Path, runs: &[Run], shape: &Shape) -> Vec<Written> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    if let Some(seed) = shape.shuffle_seed {
        order.shuffle(&mut StdRng::seed_from_u64(seed));
    }
    let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for row in order {
        folders
            .entry(folder(&runs[row], shape))
            .or_default()
            .push(row);
    }
    let n_files = if shape.layout == Layout::SingleFile {
        1
    } else {
        shape.n_files
    };
    let mut written = Vec::new();
    for (folder, rows) in folders {
        fs::create_dir_all(dir.join(&folder)).unwrap();
        for (part, rows) in rows.chunks(rows.len().div_ceil(n_files)).enumerate() {
            let path = dir.join(&folder).join(format!("part-{part:05}.parquet"));
            let chosen: Vec<&Run> = rows.iter().map(|&row| &runs[row]).collect();
            write_file(&path, &chosen, shape);
            written.push(Written {
                path,
                rows: rows.to_vec(),
            });
        }
    }
    written
}

/// Writes session records as one JSON array, or one a line.
pub(crate) fn write_sessions_json(dir: &Path, records: &[Value], lines: bool) -> PathBuf {
    let (name, text) = if lines {
        let lines: Vec<String> = records.iter().map(|record| format!("{record}\n")).collect();
        ("sessions.jsonl", lines.concat())
    } else {
        (
            "sessions.json",
            serde_json::to_string_pretty(records).unwrap(),
        )
    };
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(name), text).unwrap();
    dir.join(name)
}

fn folder(run: &Run, shape: &Shape) -> PathBuf {
    let Shape {
        layout, export_id, ..
    } = shape;
    let Run {
        tenant_id,
        session_id,
        start_us,
        ..
    } = run;
    let project = format!("export_id={export_id}/tenant_id={tenant_id}/session_id={session_id}");
    let midnight = start_us.div_euclid(DAY_US) * DAY_US;
    let day = DateTime::from_timestamp_micros(midnight).unwrap();
    PathBuf::from(match layout {
        Layout::V1 => format!("{project}/runs/{}", day.format("year=%Y/month=%m/day=%d")),
        Layout::V2 => {
            let day = day.format("year=%Y/month=%-m/day=%-d");
            format!("{project}/resource=runs/{day}")
        }
        Layout::Flat | Layout::SingleFile => String::new(),
    })
}

fn write_file(path: &Path, runs: &[&Run], shape: &Shape) {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for name in COLUMNS.iter().filter(|name| !shape.dropped.contains(name)) {
        let values = column(name, runs, shape);
        fields.push(Field::new(*name, values.data_type().clone(), true));
        columns.push(values);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(shape.compression)
        .set_max_row_group_row_count(Some(shape.row_group_rows))
        .build();
    let file = File::create(path).unwrap();
    if shape.time == TimeForm::Int96 {
        return write_with_int96(file, &batch, properties, shape.row_group_rows);
    }
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_skip_arrow_metadata(!shape.arrow_schema);
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Writes microseconds as 96 bits, which the arrow writer cannot.
fn write_with_int96(
    file: File,
    batch: &RecordBatch,
    properties: WriterProperties,
    row_group_rows: usize,
) {
    let arrow = batch.schema();
    let plain = ArrowSchemaConverter::new().convert(&arrow).unwrap();
    let is_time = |name: &str| name.ends_with("_time");
    let fields = plain.root_schema().get_fields().iter().map(|field| {
        if !is_time(field.name()) {
            return Arc::clone(field);
        }
        let time = Type::primitive_type_builder(field.name(), PhysicalType::INT96);
        Arc::new(time.with_repetition(Repetition::OPTIONAL).build().unwrap())
    });
    let root = Type::group_type_builder("schema").with_fields(fields.collect());
    let root = Arc::new(root.build().unwrap());
    let mut writer = SerializedFileWriter::new(file, root, Arc::new(properties)).unwrap();
    let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&arrow));
    for (number, first) in (0..batch.num_rows()).step_by(row_group_rows).enumerate() {
        let rows = batch.slice(first, row_group_rows.min(batch.num_rows() - first));
        let mut group = writer.next_row_group().unwrap();
        let columns = factory.create_column_writers(number).unwrap();
        for ((field, values), mut column) in arrow.fields().iter().zip(rows.columns()).zip(columns)
        {
            if is_time(field.name()) {
                write_int96(&mut group, values);
                continue;
            }
            for leaf in compute_leaves(field, values).unwrap() {
                column.write(&leaf).unwrap();
            }
            let chunk = column.close().unwrap();
            chunk.append_to_row_group(&mut group).unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[allow(clippy::cast_possible_truncation)] // the parts of a number
fn write_int96(group: &mut SerializedRowGroupWriter<'_, File>, values: &ArrayRef) {
    const JULIAN_DAY_OF_1970: i64 = 2_440_588;
    let times = values.as_any().downcast_ref::<TimestampMicrosecondArray>();
    let times = times.unwrap();
    let levels: Vec<i16> = times.iter().map(|at| i16::from(at.is_some())).collect();
    let in_96_bits = |at: i64| {
        let day = u32::try_from(at.div_euclid(DAY_US) + JULIAN_DAY_OF_1970).unwrap();
        let nanos = u64::try_from(at.rem_euclid(DAY_US)).unwrap() * 1_000;
        let mut time = Int96::new();
        time.set_data(nanos as u32, (nanos >> 32) as u32, day);
        time
    };
    let values: Vec<Int96> = times.iter().flatten().map(in_96_bits).collect();
    let mut column = group.next_column().unwrap().unwrap();
    let writer = column.typed::<Int96Type>();
    writer.write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
}

fn column(name: &str, runs: &[&Run], shape: &Shape) -> ArrayRef {
    let ids = |of: &dyn Fn(&Run) -> Option<Uuid>| {
        ids(name, runs.iter().map(|run| of(run)).collect(), shape)
    };
    let texts =
        |of: fn(&Run) -> Option<&str>| text(runs.iter().map(|run| of(run)).collect(), shape);
    let times =
        |of: fn(&Run) -> Option<i64>| times(runs.iter().map(|run| of(run)).collect(), shape);
    let tokens =
        |of: fn(&Run) -> Option<i64>| tokens(runs.iter().map(|run| of(run)).collect(), shape);
    let costs = |of: fn(&Run) -> Option<&Cost>| {
        costs(&runs.iter().map(|run| of(run)).collect::<Vec<_>>(), shape)
    };
    match name {
        // The nil id stands for a run without one.
        "id" => ids(&|run| Some(run.id).filter(|id| !id.is_nil())),
        "tenant_id" => ids(&|run| Some(run.tenant_id)),
        "session_id" => ids(&|run| Some(run.session_id)),
        "trace_id" => ids(&|run| run.trace_id),
        "parent_run_id" => ids(&|run| run.parent_run_id),
        "reference_example_id" => ids(&|run| run.reference_example_id),
        "parent_run_ids" => {
            let lists = runs
                .iter()
                .map(|run| Some(run.parent_run_ids.iter().map(Uuid::to_string).collect()));
            list(lists.collect(), shape)
        }
        "tags" => list(runs.iter().map(|run| run.tags.clone()).collect(), shape),
        "name" => texts(|run| run.name.as_deref()),
        "run_type" => texts(|run| run.run_type.as_deref()),
        "status" => texts(|run| run.status.as_deref()),
        "dotted_order" => texts(|run| run.dotted_order.as_deref()),
        "trace_tier" => texts(|run| run.trace_tier.as_deref()),
        "inputs" => texts(|run| run.inputs.as_deref()),
        "outputs" => texts(|run| run.outputs.as_deref()),
        "error" => texts(|run| run.error.as_deref()),
        "extra" => texts(|run| run.extra.as_deref()),
        "events" => texts(|run| run.events.as_deref()),
        "feedback_stats" => texts(|run| run.feedback_stats.as_deref()),
        "is_root" => Arc::new(runs.iter().map(|run| run.is_root).collect::<BooleanArray>()),
        "start_time" => times(|run| Some(run.start_us)),
        "end_time" => times(|run| run.end_us),
        "first_token_time" => times(|run| run.first_token_us),
        "total_tokens" => tokens(|run| run.total_tokens),
        "prompt_tokens" => tokens(|run| run.prompt_tokens),
        "completion_tokens" => tokens(|run| run.completion_tokens),
        "total_cost" => costs(|run| run.total_cost.as_ref()),
        "prompt_cost" => costs(|run| run.prompt_cost.as_ref()),
        "completion_cost" => costs(|run| run.completion_cost.as_ref()),
        other => panic!("no column `{other}`"),
    }
}

fn ids(name: &str, values: Vec<Option<Uuid>>, shape: &Shape) -> ArrayRef {
    let written = |id: Uuid| match shape.ids {
        IdForm::Quoted => format!("\"{id}\""),
        IdForm::Text | IdForm::Binary => id.to_string(),
    };
    if shape.ids == IdForm::Binary {
        let bytes = values.into_iter().map(|id| id.map(Uuid::into_bytes));
        return Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 16).unwrap());
    }
    let no_id = (name == "parent_run_id" && shape.empty_parent).then(String::new);
    let texts: Vec<Option<String>> = values
        .into_iter()
        .map(|id| id.map(written).or_else(|| no_id.clone()))
        .collect();
    text(texts.iter().map(Option::as_deref).collect(), shape)
}

fn text(values: Vec<Option<&str>>, shape: &Shape) -> ArrayRef {
    match shape.text {
        TextForm::Utf8 => Arc::new(StringArray::from(values)),
        TextForm::Binary => {
            let bytes = values.into_iter().map(|value| value.map(str::as_bytes));
            Arc::new(bytes.collect::<BinaryArray>())
        }
    }
}

fn list(values: Vec<Option<Vec<String>>>, shape: &Shape) -> ArrayRef {
    if shape.lists == ListForm::JsonText {
        let texts: Vec<Option<String>> = values
            .into_iter()
            .map(|value| value.map(|items| json!(items).to_string()))
            .collect();
        return text(texts.iter().map(Option::as_deref).collect(), shape);
    }
    let mut builder = ListBuilder::new(StringBuilder::new());
    for value in values {
        builder.append_option(value.map(|items| items.into_iter().map(Some)));
    }
    Arc::new(builder.finish())
}

fn times(values: Vec<Option<i64>>, shape: &Shape) -> ArrayRef {
    let nanos = || values.iter().map(|at| at.map(|at| at * 1_000)).collect();
    let millis = || {
        let exactly = |at: i64| {
            assert_eq!(at % 1_000, 0, "milliseconds cannot hold {at} us");
            at / 1_000
        };
        values.iter().map(|at| at.map(exactly)).collect()
    };
    match shape.time {
        TimeForm::NanosNaive => {
            let array: TimestampNanosecondArray = nanos();
            Arc::new(array)
        }
        TimeForm::NanosUtc => {
            let array: TimestampNanosecondArray = nanos();
            Arc::new(array.with_timezone("UTC"))
        }
        TimeForm::MicrosNaive | TimeForm::Int96 => {
            Arc::new(TimestampMicrosecondArray::from(values))
        }
        TimeForm::MicrosUtc => {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        }
        TimeForm::MillisNaive => {
            let array: TimestampMillisecondArray = millis();
            Arc::new(array)
        }
        TimeForm::Text => {
            let written = |at: i64| {
                let at = DateTime::from_timestamp_micros(at).unwrap();
                at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
            };
            let texts: Vec<Option<String>> = values.iter().map(|at| at.map(written)).collect();
            text(texts.iter().map(Option::as_deref).collect(), shape)
        }
    }
}

#[allow(clippy::cast_precision_loss)] // made-up token counts are far below 2^53
fn tokens(values: Vec<Option<i64>>, shape: &Shape) -> ArrayRef {
    match shape.tokens {
        TokenForm::Int64 => Arc::new(Int64Array::from(values)),
        TokenForm::Int32 => {
            let narrow = |n: i64| i32::try_from(n).unwrap();
            Arc::new(
                values
                    .into_iter()
                    .map(|n| n.map(narrow))
                    .collect::<Int32Array>(),
            )
        }
        TokenForm::UInt64 => {
            let unsigned = |n: i64| u64::try_from(n).unwrap();
            Arc::new(
                values
                    .into_iter()
                    .map(|n| n.map(unsigned))
                    .collect::<UInt64Array>(),
            )
        }
        TokenForm::Double => Arc::new(
            values
                .into_iter()
                .map(|n| n.map(|n| n as f64))
                .collect::<Float64Array>(),
        ),
    }
}

/// NaN is written as such in doubles only; elsewhere it is null.
fn costs(values: &[Option<&Cost>], shape: &Shape) -> ArrayRef {
    match shape.cost {
        CostForm::Double => Arc::new(
            values
                .iter()
                .map(|cost| cost.map(|cost| cost.double))
                .collect::<Float64Array>(),
        ),
        CostForm::Decimal(precision, scale) => {
            let scaled = |cost: &Cost| {
                let pico = i128::try_from(shape.cost.pico(cost)?).unwrap();
                let places = scale - 12;
                let power = 10i128.pow(u32::from(places.unsigned_abs()));
                Some(if places >= 0 {
                    pico * power
                } else {
                    assert_eq!(pico % power, 0, "scale {scale} cannot hold {}", cost.text);
                    pico / power
                })
            };
            let array: Decimal128Array = values.iter().map(|cost| scaled((*cost)?)).collect();
            array.validate_decimal_precision(precision).unwrap();
            Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
        }
        CostForm::Text => {
            let texts = values.iter().map(|cost| {
                cost.filter(|cost| !cost.double.is_nan())
                    .map(|cost| cost.text.as_str())
            });
            text(texts.collect(), shape)
        }
    }
}

#[cfg(test)]
mod tests {
    use parquet::basic::{GzipLevel, ZstdLevel};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field as ParquetField;
    use parquet::schema::printer::print_schema;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::support::run::any_runs;

    fn some_runs() -> Vec<Run> {
        let mut runner = TestRunner::deterministic();
        any_runs(2, 40).new_tree(&mut runner).unwrap().current()
    }

    #[test]
    fn every_run_lies_in_exactly_one_file() {
        let runs = some_runs();
        assert!(runs.len() > 10);
        for layout in [Layout::V1, Layout::V2, Layout::Flat, Layout::SingleFile] {
            let dir = tempfile::tempdir().unwrap();
            let shape = Shape {
                layout,
                n_files: 3,
                shuffle_seed: Some(5),
                ..Shape::default()
            };
            let written = write(dir.path(), &runs, &shape);
            let mut rows: Vec<usize> = written.iter().flat_map(|file| file.rows.clone()).collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..runs.len()).collect::<Vec<_>>());
            for file in &written {
                let reader = SerializedFileReader::new(File::open(&file.path).unwrap()).unwrap();
                let footer = reader.metadata().file_metadata();
                assert_eq!(footer.num_rows(), i64::try_from(file.rows.len()).unwrap());
                assert_eq!(footer.schema_descr().num_columns(), 29);
            }
        }
    }

    #[test]
    fn paths_are_those_of_the_exporter() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::completed_root(1, super::super::run::FIRST_MIDNIGHT_US - 1, 0);
        let project = format!(
            "export_id={}/tenant_id={}/session_id={}",
            Uuid::from_u128(0xe0),
            run.tenant_id,
            run.session_id
        );
        for (layout, rest) in [
            (
                Layout::V1,
                "runs/year=2026/month=08/day=11/part-00000.parquet",
            ),
            (
                Layout::V2,
                "resource=runs/year=2026/month=8/day=11/part-00000.parquet",
            ),
        ] {
            let shape = Shape {
                layout,
                ..Shape::default()
            };
            let written = write(dir.path(), std::slice::from_ref(&run), &shape);
            assert_eq!(written[0].path, dir.path().join(&project).join(rest));
        }
    }

    #[test]
    fn every_form_can_be_written() {
        let runs = some_runs();
        let base = Shape {
            layout: Layout::Flat,
            row_group_rows: 7,
            ..Shape::default()
        };
        let shapes = [
            Shape {
                time: TimeForm::NanosUtc,
                cost: CostForm::Decimal(38, 18),
                ..base.clone()
            },
            Shape {
                time: TimeForm::MicrosUtc,
                cost: CostForm::Decimal(19, 12),
                ..base.clone()
            },
            Shape {
                time: TimeForm::MicrosNaive,
                cost: CostForm::Text,
                ..base.clone()
            },
            Shape {
                time: TimeForm::Text,
                text: TextForm::Binary,
                ..base.clone()
            },
            Shape {
                time: TimeForm::Int96,
                lists: ListForm::List,
                ..base.clone()
            },
            Shape {
                lists: ListForm::List,
                tokens: TokenForm::Int32,
                ..base.clone()
            },
            Shape {
                ids: IdForm::Quoted,
                tokens: TokenForm::Double,
                ..base.clone()
            },
            Shape {
                ids: IdForm::Binary,
                arrow_schema: true,
                ..base.clone()
            },
            Shape {
                compression: Compression::ZSTD(ZstdLevel::default()),
                ..base.clone()
            },
            Shape {
                compression: Compression::GZIP(GzipLevel::default()),
                ..base.clone()
            },
            Shape {
                compression: Compression::UNCOMPRESSED,
                dropped: vec!["id", "tags"],
                ..base
            },
        ];
        for shape in shapes {
            let dir = tempfile::tempdir().unwrap();
            let written = write(dir.path(), &runs, &shape);
            let reader = SerializedFileReader::new(File::open(&written[0].path).unwrap()).unwrap();
            let n_columns = reader
                .metadata()
                .file_metadata()
                .schema_descr()
                .num_columns();
            assert_eq!(n_columns, 29 - shape.dropped.len());
            assert_eq!(reader.num_row_groups(), runs.len().div_ceil(7));
        }
    }

    #[test]
    fn column_types_are_those_of_the_exporters() {
        let schema = |shape: &Shape| {
            let dir = tempfile::tempdir().unwrap();
            let runs = [Run::completed_root(1, 0, 1)];
            let written = write(dir.path(), &runs, shape);
            let reader = SerializedFileReader::new(File::open(&written[0].path).unwrap()).unwrap();
            let footer = reader.metadata().file_metadata();
            assert_eq!(footer.key_value_metadata(), None);
            let mut text = Vec::new();
            print_schema(&mut text, footer.schema());
            String::from_utf8(text).unwrap()
        };
        let v1 = schema(&Shape::default());
        assert!(
            v1.contains("OPTIONAL INT64 start_time (TIMESTAMP(NANOS,false));"),
            "{v1}"
        );
        assert!(v1.contains("OPTIONAL BYTE_ARRAY id (STRING);"), "{v1}");
        assert!(v1.contains("OPTIONAL DOUBLE total_cost;"), "{v1}");
        assert!(v1.contains("OPTIONAL BOOLEAN is_root;"), "{v1}");
        let other = schema(&Shape {
            time: TimeForm::MicrosUtc,
            cost: CostForm::Decimal(18, 12),
            text: TextForm::Binary,
            ..Shape::default()
        });
        assert!(
            other.contains("OPTIONAL INT64 end_time (TIMESTAMP(MICROS,true));"),
            "{other}"
        );
        assert!(
            other.contains("OPTIONAL INT64 total_cost (DECIMAL(18,12));"),
            "{other}"
        );
        assert!(other.contains("OPTIONAL BYTE_ARRAY name;"), "{other}");
    }

    #[test]
    fn values_come_back() {
        let runs = some_runs();
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape {
            layout: Layout::SingleFile,
            shuffle_seed: Some(1),
            ..Shape::default()
        };
        let written = &write(dir.path(), &runs, &shape)[0];
        let reader = SerializedFileReader::new(File::open(&written.path).unwrap()).unwrap();
        for (&row, record) in written.rows.iter().zip(reader.get_row_iter(None).unwrap()) {
            let (run, record) = (&runs[row], record.unwrap());
            let fields: BTreeMap<&String, &ParquetField> = record.get_column_iter().collect();
            let field = |name: &str| fields[&name.to_owned()];
            let text = |value: Option<&str>| {
                value.map_or(ParquetField::Null, |text| {
                    ParquetField::Str(text.to_owned())
                })
            };
            assert_eq!(*field("id"), text(Some(&run.id.to_string())));
            assert_eq!(*field("status"), text(run.status.as_deref()));
            assert_eq!(
                *field("feedback_stats"),
                text(run.feedback_stats.as_deref())
            );
            let tokens = run
                .total_tokens
                .map_or(ParquetField::Null, ParquetField::Long);
            assert_eq!(*field("total_tokens"), tokens);
            let bits = |field: &ParquetField| match field {
                ParquetField::Double(value) => Some(value.to_bits()),
                _ => None,
            };
            let cost = run.total_cost.as_ref().map(|cost| cost.double.to_bits());
            assert_eq!(bits(field("total_cost")), cost);
        }
    }
}
