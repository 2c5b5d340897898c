//! The binary over damaged files: a row a kind.
//!
//! Each file is listed alone, alone with errors as JSON, and beside a good one with `--on-error skip`.
//! Its name would move a terminal's cursor if it were printed as it is.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListBuilder, NullArray,
    StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type};
use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::{footer_length, parquet_of, texts, three_runs, whole_file};
use crate::cli::{Output, answer, runtally};
use crate::support::run::FIRST_MIDNIGHT_US;

/// The damaged file's name, and how it is shown.
const NAME: &str = "d\u{202e}x.parquet";
const SHOWN: &str = "d\\u{202e}x.parquet";
/// A name that no store opens a file by, and how it is shown.
const CONTROLS: [&str; 2] = ["d\u{1b}[31m\nx.parquet", "d\\u{1b}[31m\\nx.parquet"];
/// The most that an error may say.
const MESSAGE_BYTES: usize = 1_000;

/// Asks of a damaged file in every way; `said` is in each message.
fn check_refused(kind: &str, bytes: &[u8], said: &[&str]) {
    check_refused_as([NAME, SHOWN], kind, bytes, said);
}

fn check_refused_as([name, shown]: [&str; 2], kind: &str, bytes: &[u8], said: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (alone, both, good) = ("alone", "both", "good");
    for folder in [alone, both, good] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for folder in [alone, both] {
        fs::write(dir.path().join(folder).join(name), bytes).unwrap();
    }
    for folder in [both, good] {
        fs::write(dir.path().join(folder).join("a.parquet"), whole_file()).unwrap();
    }
    for folder in [alone, both] {
        let output = runtally(dir.path(), &["list", folder]);
        assert_eq!((output.code, &*output.stdout), (Some(1), ""), "{kind}");
        check_message(kind, &output, &format!("error: {folder}/{shown}: "), said);
        check_json(kind, dir.path(), &format!("{folder}/{name}"), said);
    }
    let expected = answer(dir.path(), &["list", good]);
    let skipping = runtally(dir.path(), &["list", both, "--on-error", "skip"]);
    assert_eq!(skipping.code, Some(4), "{kind}: {}", skipping.stderr);
    assert_eq!(skipping.stdout, expected, "{kind}");
    check_message(
        kind,
        &skipping,
        &format!("warning: {both}/{shown}: left out: "),
        said,
    );
}

/// One line, in words of ours, with nothing in it that a terminal would obey.
fn check_message(kind: &str, output: &Output, begin: &str, said: &[&str]) {
    let text = &output.stderr;
    assert!(text.starts_with(begin), "{kind}: {text:?}");
    assert_eq!(text.lines().count(), 1, "{kind}: {text:?}");
    assert!(text.len() < MESSAGE_BYTES, "{kind}: {} bytes", text.len());
    let is_plain = |char: char| char == '\n' || !char.is_control();
    assert!(text.chars().all(is_plain), "{kind}: {text:?}");
    check_words(kind, text, said);
}

fn check_words(kind: &str, text: &str, said: &[&str]) {
    for part in said {
        assert!(text.contains(part), "{kind}: no {part:?} in {text:?}");
    }
    for word in [
        "panicked",
        "JoinError",
        "task ",
        "DataFusion",
        "This issue was likely",
        "External",
    ] {
        assert!(!text.contains(word), "{kind}: {text:?}");
    }
}

fn check_json(kind: &str, dir: &Path, path: &str, said: &[&str]) {
    let folder = path.split('/').next().unwrap();
    let output = runtally(dir, &["list", folder, "--format", "json"]);
    assert_eq!((output.code, &*output.stdout), (Some(1), ""), "{kind}");
    assert_eq!(
        output.stderr.lines().count(),
        1,
        "{kind}: {}",
        output.stderr
    );
    let document: Value = serde_json::from_str(&output.stderr).unwrap();
    let error = &document["error"];
    assert_eq!(error["kind"], "bad_input", "{kind}: {error}");
    assert_eq!(error["exit_code"], 1, "{kind}");
    assert_eq!(error["path"], path, "{kind}");
    check_words(kind, error["message"].as_str().unwrap(), said);
}

pub(super) fn metadata(file: &[u8]) -> ParquetMetaData {
    let mut reader = ParquetMetaDataReader::new();
    reader.try_parse(&Bytes::copy_from_slice(file)).unwrap();
    reader.finish().unwrap()
}

/// Where a file's data ends and its page indexes begin.
pub(super) fn first_index(file: &[u8]) -> usize {
    let offset = metadata(file).row_group(0).column(0).column_index_offset();
    index(offset.unwrap())
}

fn index(number: i64) -> usize {
    usize::try_from(number).unwrap()
}

#[test]
fn files_cut_short_and_files_of_other_kinds() {
    let whole = whole_file();
    let footer = whole.len() - 8 - footer_length(&whole);
    let metadata = metadata(&whole);
    let column = metadata.row_group(0).column(0);
    let in_index = index(column.column_index_offset().unwrap()) + 2;
    let in_page = index(column.data_page_offset()) + 30;
    let mut zeroed = whole.clone();
    let first_index = first_index(&whole);
    zeroed[first_index / 4..first_index / 4 * 3].fill(0);
    let mut no_index = whole.clone();
    no_index[first_index..footer].fill(0);
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";
    let cases: [(&str, &[u8]); 12] = [
        ("cut in the magic", &whole[..whole.len() - 2]),
        ("cut in the footer's length", &whole[..whole.len() - 6]),
        (
            "cut in the footer",
            &whole[..usize::midpoint(footer, whole.len())],
        ),
        ("cut in the page index", &whole[..in_index]),
        ("cut in a page", &whole[..in_page]),
        ("no byte", b""),
        ("three bytes", b"PAR"),
        ("zeros in the middle", &zeroed),
        ("zeros for page indexes", &no_index),
        (
            "text",
            b"not what it says that it is, though long enough to be it\n",
        ),
        (
            "JSON",
            b"{\"id\": \"3c90c3cc-0d44-4b50-8888-8dd25736052a\"}\n",
        ),
        ("PNG", png),
    ];
    for (kind, bytes) in cases {
        check_refused(kind, bytes, &[]);
    }
}

#[test]
fn a_name_with_control_characters() {
    check_refused_as(CONTROLS, "name", &whole_file(), &["characters"]);
}

fn one_of_three(value: &str, others: &str) -> ArrayRef {
    texts(&[others, value, others])
}

#[test]
fn values_of_other_kinds() {
    let doubles = |values: [f64; 3]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    let mut costs = ListBuilder::new(arrow::array::PrimitiveBuilder::<Float64Type>::new());
    for cost in [0.5, 0.25, 1.0] {
        costs.append_value([Some(cost)]);
    }
    let missing = vec![Some(FIRST_MIDNIGHT_US), None, Some(FIRST_MIDNIGHT_US)];
    let long = "9x".repeat(500_000);
    let project = "00000000-0000-4000-8000-000000000009";
    let cases: [(&str, &str, ArrayRef); 13] = [
        (
            "boolean start",
            "start_time",
            Arc::new(BooleanArray::from(vec![true; 3])),
        ),
        (
            "no start",
            "start_time",
            Arc::new(TimestampMicrosecondArray::from(missing)),
        ),
        ("token text", "total_tokens", one_of_three("abc", "1")),
        ("long token text", "total_tokens", one_of_three(&long, "1")),
        ("cost list", "total_cost", Arc::new(costs.finish())),
        ("long cost", "total_cost", one_of_three(&long, "1")),
        (
            "hostile cost",
            "total_cost",
            one_of_three("\u{1b}]0;x\u{7}\r\n\u{202e}", "1"),
        ),
        (
            "infinite cost",
            "total_cost",
            doubles([0.5, f64::INFINITY, 1.0]),
        ),
        (
            "negatively infinite cost",
            "prompt_cost",
            doubles([0.5, f64::NEG_INFINITY, 1.0]),
        ),
        ("float id", "session_id", doubles([1.0, 2.0, 3.0])),
        (
            "hostile id",
            "session_id",
            one_of_three("\u{1b}[2J\n\u{202e}", project),
        ),
        ("long id", "session_id", one_of_three(&long, project)),
        ("root text", "is_root", texts(&["true", "false", "true"])),
    ];
    for (kind, column, values) in cases {
        check_refused(kind, &three_runs(&[(column, values)]), &[column]);
    }
}

/// Text that is no UTF-8, which no writer would write.
#[test]
fn text_that_is_no_utf_8() {
    let mark = "!!!!!!!!!!!!";
    for column in ["feedback_stats", "error", "trace_tier", "run_type"] {
        let mut bytes = plain_with(column, mark);
        replace_all(&mut bytes, mark.as_bytes(), b"!!!\xff\xfe!!!!!!!");
        check_refused(&format!("{column} without UTF-8"), &bytes, &["UTF-8"]);
    }
}

/// A file without compression and dictionaries, so that its texts lie open.
fn plain_with(column: &str, text: &str) -> Vec<u8> {
    let start = TimestampMicrosecondArray::from(vec![FIRST_MIDNIGHT_US; 2]).with_timezone("UTC");
    let id = |end: u8| format!("00000000-0000-4000-8000-00000000000{end}");
    let [first, second, owner] = [1, 2, 3].map(id);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(&[&first, &second])),
        ("tenant_id", texts(&[owner.as_str(); 2])),
        ("session_id", texts(&[owner.as_str(); 2])),
        ("start_time", Arc::new(start)),
    ];
    columns.retain(|(name, _)| *name != column);
    columns.push((column, texts(&[text; 2])));
    let properties = WriterProperties::builder().set_dictionary_enabled(false);
    parquet_of(columns, properties)
}

fn replace_all(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
    }
}

#[test]
fn what_is_odd_but_legal_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let listed = |name: &str, bytes: &[u8]| {
        let path = format!("{name}.parquet");
        fs::write(dir.path().join(&path), bytes).unwrap();
        let output = runtally(dir.path(), &["list", &path]);
        assert_eq!(output.code, Some(0), "{name}: {}", output.stderr);
        output.stdout
    };
    let expected = listed("plain", &three_runs(&[]));
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a")]);
    tags.append_value((0..1_000_000).map(|n| Some(if n % 2 == 0 { "b" } else { "c" })));
    tags.append_null();
    let long = "n".repeat(1 << 20);
    let hostile = [long.as_str(), "\u{1b}[2J\r\n\u{202e}", "\0"];
    let mut bytes = plain_with("name", "!!!!!!!!!!!!");
    let named = listed("named", &bytes);
    replace_all(&mut bytes, b"!!!!!!!!!!!!", b"!!!\xff\xfe!!!!!!!");
    assert_eq!(listed("no UTF-8 in what is not read", &bytes), named);
    let cases: [(&str, &str, ArrayRef); 5] = [
        ("many tags", "tags", Arc::new(tags.finish())),
        ("hostile names", "name", texts(&hostile)),
        ("hostile inputs", "inputs", texts(&hostile)),
        ("hostile types", "run_type", texts(&hostile)),
        (
            "names of another type",
            "name",
            Arc::new(BooleanArray::from(vec![true; 3])),
        ),
    ];
    for (kind, column, values) in cases {
        assert_eq!(
            listed(kind, &three_runs(&[(column, values)])),
            expected,
            "{kind}"
        );
    }
}

#[test]
fn a_hostile_project_name_is_shown_plainly() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.parquet"), whole_file()).unwrap();
    let id = crate::support::run::project_id(0);
    let name = format!("\u{1b}[2J\r\n\u{202e}{}", "n".repeat(1 << 20));
    let record = serde_json::json!([{"id": id, "name": name}]);
    fs::write(dir.path().join("sessions.json"), record.to_string()).unwrap();
    let document: Value = serde_json::from_str(&answer(dir.path(), &["list", "."])).unwrap();
    assert_eq!(document[0]["name"], name);
    let table = runtally(dir.path(), &["list", ".", "--format", "table"]);
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    let is_plain = |char: char| char == '\n' || !char.is_control();
    assert!(table.stdout.chars().all(is_plain));
}

#[test]
fn a_folder_called_like_a_file_holds_no_runs() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("all/x.parquet")).unwrap();
    for source in ["all", "all/x.parquet"] {
        let output = runtally(dir.path(), &["list", source]);
        assert_eq!((output.code, &*output.stdout), (Some(1), ""));
        let expected = format!(
            "error: {source}: no Parquet file (*.parquet) in it, nor JSON (*.json, *.jsonl, *.ndjson)\n"
        );
        assert_eq!(output.stderr, expected);
    }
    fs::write(dir.path().join("all/a.parquet"), whole_file()).unwrap();
    let alone = answer(dir.path(), &["list", "all/a.parquet"]);
    assert_eq!(
        answer(dir.path(), &["list", "all", "--on-error", "skip"]),
        alone
    );
}

/// Says nothing where the user may read everything.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all/b.parquet");
    fs::create_dir(dir.path().join("all")).unwrap();
    fs::write(dir.path().join("all/a.parquet"), whole_file()).unwrap();
    fs::write(&path, three_runs(&[])).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::File::open(&path).is_ok() {
        return;
    }
    let output = runtally(dir.path(), &["list", "all"]);
    assert_eq!((output.code, &*output.stdout), (Some(1), ""));
    check_message(
        "no permission",
        &output,
        "error: all/b.parquet: ",
        &["ermission denied"],
    );
    let skipping = runtally(dir.path(), &["list", "all", "--on-error", "skip"]);
    assert_eq!(skipping.code, Some(4), "{}", skipping.stderr);
    assert_eq!(
        skipping.stdout,
        answer(dir.path(), &["list", "all/a.parquet"])
    );
}

/// What stands in columns of other types, or deep in them, is found or is not there.
#[test]
fn filters_look_into_odd_columns() {
    let dir = tempfile::tempdir().unwrap();
    let count = |column: &str, values: ArrayRef, filter: &str| {
        fs::write(
            dir.path().join("x.parquet"),
            three_runs(&[(column, values)]),
        )
        .unwrap();
        let args = [
            "list",
            "x.parquet",
            "--json",
            "-q",
            "--facets",
            "--filter",
            filter,
        ];
        let documents: Value = serde_json::from_str(&answer(dir.path(), &args)).unwrap();
        documents[0]["run_count"].as_u64()
    };
    let untyped = || -> ArrayRef { Arc::new(NullArray::new(3)) };
    let numbers = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2, 3])) };
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let extra = r#"{"metadata": {"id": 18446744073709551616, "x": 0.123456789012345678}}"#;
    let extra = || texts(&[extra, "{}", ""]);
    let feedback = r#"{"a": {"n": 1, "avg": 1}, "b": {"n": 1, "avg": 1, "values": []}, "c": {"values": {"no": 0}}}"#;
    let feedback = || texts(&[feedback, "{}", ""]);
    let many: Vec<String> = (0..3_000).map(|n| format!("eq(name, '{n}')")).collect();
    let many = format!("or({})", many.join(", "));
    let x = "and(eq(metadata_key, 'x'), eq(metadata_value, 0.123456789012345678))";
    let id =
        "and(eq(metadata_value, 18446744073709551616), eq(metadata_value, '18446744073709551616'))";
    let tags = texts(&[r#"["a", null, 1]"#, r#"["b"]"#, "no JSON"]);
    let inputs = texts(&[&deep, r#"{"x": 1}"#, "{}"]);
    let cases: [(&str, ArrayRef, &str, u64); 12] = [
        ("error", untyped(), "or(search('x'), like(error, '%'))", 0),
        (
            "inputs",
            untyped(),
            "or(search('x'), eq(input_key, 'x'))",
            0,
        ),
        ("tags", untyped(), "has(tags, 'a')", 0),
        ("name", numbers(), "eq(name, '2')", 1),
        ("tags", tags, "has(tags, 'a')", 1),
        ("inputs", inputs, "eq(input_key, 'x')", 1),
        ("extra", extra(), x, 1),
        ("extra", extra(), id, 1),
        ("feedback_stats", feedback(), "eq(feedback_key, 'a')", 1),
        ("feedback_stats", feedback(), "eq(feedback_value, 'no')", 0),
        (
            "name",
            texts(&["%", "a_b", "a\\_b"]),
            "like(name, 'a\\\\_b')",
            1,
        ),
        ("name", texts(&["7", "2999", "x"]), &many, 2),
    ];
    for (column, values, filter, n) in cases {
        let shown = &filter[..filter.len().min(80)];
        assert_eq!(count(column, values, filter), Some(n), "{shown}");
    }
}

/// Columns that no text can be made of are named where a filter reads them.
#[test]
fn filters_need_texts() {
    let dir = tempfile::tempdir().unwrap();
    let field = Arc::new(Field::new("a", DataType::Utf8, true));
    let structs: ArrayRef = Arc::new(StructArray::from(vec![(field, texts(&["x"; 3]))]));
    fs::write(
        dir.path().join("x.parquet"),
        three_runs(&[("inputs", structs)]),
    )
    .unwrap();
    let output = runtally(
        dir.path(),
        &["list", "x.parquet", "--filter", "search('x')"],
    );
    assert_eq!(output.code, Some(1));
    let expected = "x.parquet: column inputs: expected a text";
    assert!(output.stderr.contains(expected), "{}", output.stderr);
    // Without it they are not read.
    assert_eq!(runtally(dir.path(), &["list", "x.parquet"]).code, Some(0));
}

#[test]
fn metadata_that_is_not_utf8_is_named_where_it_is_looked_at() {
    let extra: [&[u8]; 3] = [
        br#"{"metadata": {"ls_model_name": "a", "user_id": "z"}}"#,
        br#"{"metadata": {"ls_model_name": "b", "user_id": "z"}}"#,
        b"{\"metadata\": {\"ls_model_name\": \"c\", \"user_id\": \"\xff\"}}",
    ];
    let extra: ArrayRef = Arc::new(BinaryArray::from(extra.to_vec()));
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("runs.parquet"),
        three_runs(&[("extra", extra)]),
    )
    .unwrap();
    let stats = |args: &[&str]| runtally(dir.path(), &[&["stats", "runs.parquet"], args].concat());
    assert_eq!(stats(&[]).code, Some(0));
    for args in [
        ["--group-by", "model"],
        ["--group-by", "metadata.x"],
        ["--filter", r#"eq(metadata_key, "x")"#],
    ] {
        let output = stats(&args);
        let expected = "runs.parquet: column extra: expected a text in UTF-8, found other bytes";
        assert_eq!(output.code, Some(1), "{args:?}: {}", output.stdout);
        assert!(
            output.stderr.contains(expected),
            "{args:?}: {}",
            output.stderr
        );
    }
}
