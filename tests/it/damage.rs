//! Damaged input: files cut short, overwritten, of other types or no Parquet at all.
//!
//! Every answer is the documents or an error that names the file; nothing panics out of the library.
//! Each case lies in a file of its own name, because the engine keeps footers by path, size and time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtally::{Engine, Limits, Request, Sessions, Source, SourceOptions, TracerSession};
use tokio::runtime::Runtime;

use crate::support::run::{FIRST_MIDNIGHT_US, Run, project_id, tenant_id};
use crate::support::write::{Layout, Shape, write};

/// What the binary makes of damaged files, a row a kind.
mod cli;
/// Random corruptions of JSON.
mod json;
/// A few among many.
mod many;
/// Pages that do not fit.
mod pages;
/// Random corruptions.
mod random;
/// What each byte of a file is.
mod regions;

/// The engine's memory limit.
const MEMORY_BYTES: usize = 256 << 20;

/// One engine for many files, as a long-lived process has it.
struct Reader {
    runtime: Runtime,
    engine: Engine,
    dir: tempfile::TempDir,
}

impl Reader {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let limits = Limits {
            memory_bytes: Some(MEMORY_BYTES),
            ..Limits::default()
        };
        let engine = runtime.block_on(async { Engine::new(&limits) });
        Self {
            runtime,
            engine: engine.unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn ask(&self, path: &Path) -> runtally::Result<Vec<TracerSession>> {
        Ok(self.answer(path)?.sessions)
    }

    fn answer(&self, path: &Path) -> runtally::Result<Sessions> {
        self.answer_to(path, &Request::default())
    }

    fn answer_to(&self, path: &Path, request: &Request) -> runtally::Result<Sessions> {
        self.runtime.block_on(async {
            let source = Source::open([path], &SourceOptions::default())?;
            runtally::sessions(&self.engine, &source, request).await
        })
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Asks of a file that cannot be answered; gives what the error says.
    fn refusal(&self, path: &Path) -> String {
        let error = self.ask(path).expect_err("a damaged file was answered");
        assert_plain(&error, path);
        error.to_string()
    }
}

fn assert_names(error: &runtally::Error, path: &Path) {
    let text = error.to_string();
    let path = path.to_str().unwrap();
    assert!(text.contains(path), "{path} is not named in {error:?}");
}

/// An error that names the file and has no word of how the program found out.
fn assert_plain(error: &runtally::Error, path: &Path) {
    assert_names(error, path);
    let text = format!("{error} {:?}", std::error::Error::source(error));
    for word in [
        "panicked",
        "JoinError",
        "task ",
        "attempt to",
        "unwrap()",
        "assertion",
    ] {
        assert!(!text.contains(word), "{text}");
    }
}

/// A file of well-formed runs, in several row groups.
fn whole_file() -> Vec<u8> {
    let runs: Vec<Run> = (0..120)
        .map(|n| {
            let number = i64::try_from(n).unwrap();
            let start = FIRST_MIDNIGHT_US + number * 61_000_003;
            let mut run = Run::completed_root(n, start, start + number * number * 1_009);
            run.total_tokens = Some(number * 17);
            run.inputs = Some("what is it? ".repeat(5));
            run.feedback_stats = Some(format!(r#"{{"helpful": {{"n": 1, "avg": 0.{n}}}}}"#));
            run
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape {
        layout: Layout::SingleFile,
        row_group_rows: 50,
        ..Shape::default()
    };
    let written = write(dir.path(), &runs, &shape);
    fs::read(&written[0].path).unwrap()
}

#[test]
fn a_whole_file_is_answered() {
    let reader = Reader::new();
    let path = reader.file("whole.parquet", &whole_file());
    assert_eq!(reader.ask(&path).unwrap()[0].run_count, Some(120));
}

#[test]
fn a_file_cut_short_is_refused() {
    let reader = Reader::new();
    let whole = whole_file();
    let footer = whole.len() - 8 - footer_length(&whole);
    let lengths = [
        0,
        1,
        4,
        7,
        8,
        12,
        footer / 3,
        footer / 2,
        footer - 1,
        footer,
        footer + 1,
        usize::midpoint(footer, whole.len()),
        whole.len() - 9,
        whole.len() - 8,
        whole.len() - 4,
        whole.len() - 1,
    ];
    for length in lengths {
        let path = reader.file(&format!("cut-{length}.parquet"), &whole[..length]);
        reader.refusal(&path);
    }
}

fn footer_length(file: &[u8]) -> usize {
    let at = file.len() - 8;
    let bytes: [u8; 4] = file[at..at + 4].try_into().unwrap();
    usize::try_from(u32::from_le_bytes(bytes)).unwrap()
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let reader = Reader::new();
    let whole = whole_file();
    let mut bad_magic = whole.clone();
    *bad_magic.last_mut().unwrap() = b'!';
    let mut no_footer = whole.clone();
    let at = whole.len() - 8;
    no_footer[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut zeroed = whole.clone();
    zeroed[at - 200..at].fill(0);
    let mut rng = StdRng::seed_from_u64(11);
    let noise: Vec<u8> = (0..5_000).map(|_| rng.random()).collect();
    let dressed_noise = [b"PAR1", noise.as_slice(), &500_u32.to_le_bytes(), b"PAR1"].concat();
    let cases: [(&str, &[u8]); 8] = [
        ("bad-magic", &bad_magic),
        ("footer-too-long", &no_footer),
        ("footer-zeroed", &zeroed),
        ("noise", &noise),
        ("dressed-noise", &dressed_noise),
        ("only-magic", b"PAR1PAR1"),
        (
            "json",
            b"{\"id\": \"3c90c3cc-0d44-4b50-8888-8dd25736052a\"}\n",
        ),
        ("csv", b"id,start_time\n1,2026-08-12T00:00:00Z\n"),
    ];
    for (name, bytes) in cases {
        let path = reader.file(&format!("{name}.parquet"), bytes);
        reader.refusal(&path);
    }
}

#[test]
fn a_damaged_file_among_good_ones_is_the_one_that_is_named() {
    let reader = Reader::new();
    let whole = whole_file();
    let folder = reader.dir.path().to_owned();
    reader.file("a.parquet", &whole);
    let bad = reader.file("b.parquet", &whole[..whole.len() / 2]);
    reader.file("c.parquet", &whole);
    assert_names(&reader.ask(&folder).unwrap_err(), &bad);
    // Likewise where the footer is sound, and only reading the rows tells.
    fs::remove_file(&bad).unwrap();
    let bad = write_columns(
        &reader,
        "d",
        &[("total_cost", texts(&["0.5", "abc", "0.25"]))],
    );
    let error = reader.ask(&folder).unwrap_err();
    assert_names(&error, &bad);
    assert!(error.to_string().contains("total_cost"), "{error}");
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Writes a file of three root runs, some of whose columns are as given.
fn write_columns(reader: &Reader, name: &str, replaced: &[(&str, ArrayRef)]) -> PathBuf {
    reader.file(&format!("{name}.parquet"), &three_runs(replaced))
}

/// A file of three root runs, some of whose columns are as given.
fn three_runs(replaced: &[(&str, ArrayRef)]) -> Vec<u8> {
    let ids = ["1", "2", "3"].map(|end| format!("00000000-0000-4000-8000-00000000000{end}"));
    let start = TimestampMicrosecondArray::from(vec![FIRST_MIDNIGHT_US; 3]).with_timezone("UTC");
    let project = project_id(0).to_string();
    let tenant = tenant_id(0).to_string();
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(&ids.each_ref().map(String::as_str))),
        ("tenant_id", texts(&[tenant.as_str(); 3])),
        ("session_id", texts(&[project.as_str(); 3])),
        ("start_time", Arc::new(start.clone())),
        ("end_time", Arc::new(start)),
        ("is_root", Arc::new(BooleanArray::from(vec![true; 3]))),
    ];
    for (name, values) in replaced {
        columns.retain(|(other, _)| other != name);
        columns.push((name, Arc::clone(values)));
    }
    parquet_of(columns, WriterProperties::builder())
}

fn write_parquet(reader: &Reader, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
    let bytes = parquet_of(columns, WriterProperties::builder());
    reader.file(&format!("{name}.parquet"), &bytes)
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = Some(properties.build());
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), properties).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn values_of_a_wrong_kind_name_file_and_column() {
    let reader = Reader::new();
    assert!(reader.ask(&write_columns(&reader, "good", &[])).is_ok());
    let booleans = || -> ArrayRef { Arc::new(BooleanArray::from(vec![true; 3])) };
    let doubles = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![0.5, value, 1.0])) };
    let wholes = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![1.0, value, 2.0])) };
    let cases: [(&str, ArrayRef); 13] = [
        ("start_time", texts(&["2026-08-12", "soon", ""])),
        ("start_time", booleans()),
        ("end_time", texts(&["never"; 3])),
        ("first_token_time", booleans()),
        ("total_cost", texts(&["0.5", "abc", "1"])),
        ("total_cost", booleans()),
        ("total_cost", doubles(f64::INFINITY)),
        ("prompt_cost", doubles(f64::NEG_INFINITY)),
        ("completion_cost", doubles(1e30)),
        ("total_cost", texts(&["1", "10000000", "1"])),
        ("total_tokens", wholes(1.5)),
        ("prompt_tokens", wholes(1e300)),
        ("completion_tokens", texts(&["1", "two", "3"])),
    ];
    for (index, (column, values)) in cases.into_iter().enumerate() {
        let path = write_columns(&reader, &format!("wrong-{index}"), &[(column, values)]);
        let text = reader.refusal(&path);
        assert!(text.contains(column), "{column} is not named in {text}");
    }
}

#[test]
fn an_id_that_is_no_uuid_names_file_and_column() {
    let reader = Reader::new();
    for (index, column) in ["session_id", "tenant_id"].into_iter().enumerate() {
        let values = texts(&["a project", "another", "a third"]);
        let path = write_columns(&reader, &format!("no-id-{index}"), &[(column, values)]);
        let text = reader.refusal(&path);
        assert!(text.contains(column), "{column} is not named in {text}");
    }
}

#[test]
fn feedback_that_is_no_json_is_left_out_with_a_warning() {
    let reader = Reader::new();
    let good = r#"{"helpful": {"n": 1, "avg": 0.5}}"#;
    let values = texts(&[good, "{\"helpful\": {\"n\": 1", "no json"]);
    let path = write_columns(&reader, "no-json", &[("feedback_stats", values)]);
    let answer = reader.answer(&path).unwrap();
    assert_eq!(answer.sessions[0].run_count, Some(3));
    let feedback = answer.sessions[0].feedback_stats.as_ref().unwrap();
    assert_eq!(feedback["helpful"].n, 1);
    let said = |warning: &String| warning.contains("feedback_stats of 2 traces");
    assert!(
        answer.about.warnings.iter().any(said),
        "{:?}",
        answer.about.warnings
    );
}

#[test]
fn nan_is_no_value() {
    let reader = Reader::new();
    let doubles = |values: [f64; 3]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    let path = write_columns(
        &reader,
        "nan",
        &[
            ("total_cost", doubles([f64::NAN, 0.25, 0.5])),
            ("total_tokens", doubles([f64::NAN, 3.0, 4.0])),
        ],
    );
    let answer = reader.ask(&path).unwrap();
    assert_eq!(answer[0].total_tokens, Some(7));
    assert_eq!(answer[0].total_cost.unwrap().pico, 750_000_000_000);
}

#[test]
fn a_file_without_start_time_says_so() {
    let reader = Reader::new();
    let ids = texts(&["00000000-0000-4000-8000-000000000001"]);
    let path = write_parquet(&reader, "no-start", vec![("id", ids)]);
    let text = reader.refusal(&path);
    assert!(
        text.contains("start_time") && text.contains("found id"),
        "{text}"
    );
}

#[test]
fn a_file_that_names_no_project_says_so() {
    let reader = Reader::new();
    let start = TimestampMicrosecondArray::from(vec![FIRST_MIDNIGHT_US]);
    let path = write_parquet(&reader, "no-project", vec![("start_time", Arc::new(start))]);
    let text = reader.refusal(&path);
    assert!(text.contains("project"), "{text}");
}

#[test]
fn a_sum_beyond_64_bits_is_an_error() {
    let reader = Reader::new();
    let most = Int64Array::from(vec![i64::MAX, i64::MAX, 1]);
    let path = write_columns(&reader, "overflow", &[("total_tokens", Arc::new(most))]);
    let error = reader.ask(&path).unwrap_err();
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(text.contains("total_tokens"), "{text}");
    // The greatest sum there is.
    let most = Int64Array::from(vec![i64::MAX - 1, 1, 0]);
    let path = write_columns(&reader, "greatest", &[("total_tokens", Arc::new(most))]);
    let answer = reader.ask(&path).unwrap();
    assert_eq!(answer[0].total_tokens, Some(i128::from(i64::MAX)));
}

#[test]
fn a_folder_may_be_called_like_a_file() {
    let reader = Reader::new();
    let folder = reader.dir.path().join("x.parquet");
    fs::create_dir(&folder).unwrap();
    let text = reader.refusal(&folder);
    assert!(text.contains("no Parquet file"), "{text}");
    reader.file("x.parquet/a.parquet", &whole_file());
    for path in [folder.as_path(), reader.dir.path()] {
        assert_eq!(reader.ask(path).unwrap()[0].run_count, Some(120));
    }
}

#[test]
fn a_file_without_rows_is_no_error() {
    let reader = Reader::new();
    let whole = write_columns(&reader, "some", &[]);
    let empty: ArrayRef = Arc::new(TimestampMicrosecondArray::from(Vec::<i64>::new()));
    let path = write_parquet(&reader, "none", vec![("start_time", empty)]);
    assert!(reader.ask(&path).unwrap().is_empty());
    assert!(whole.exists());
    assert_eq!(reader.ask(reader.dir.path()).unwrap()[0].run_count, Some(3));
}
