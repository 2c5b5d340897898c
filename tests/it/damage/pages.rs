//! Pages that need more memory than there is: a matter of the limit where they may be true, damage where
//! they cannot.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::cli::metadata;
use super::{Reader, parquet_of, texts, three_runs};
use crate::cli::{answer, runtally};
use crate::support::run::{FIRST_MIDNIGHT_US, project_id, tenant_id};

/// What one page of the file holds: one text, for the writer begins another after it.
const PAGE_BYTES: usize = 18 << 20;

/// A file with one large page of texts in a column that is read.
fn with_large_page(codec: Compression) -> Vec<u8> {
    let text = "e".repeat(PAGE_BYTES);
    let start = TimestampMicrosecondArray::from(vec![FIRST_MIDNIGHT_US; 2]).with_timezone("UTC");
    let (project, tenant) = (project_id(0).to_string(), tenant_id(0).to_string());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(&["a", "b"])),
        ("tenant_id", texts(&[tenant.as_str(); 2])),
        ("session_id", texts(&[project.as_str(); 2])),
        ("start_time", Arc::new(start)),
        ("error", texts(&[text.as_str(); 2])),
    ];
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(codec);
    parquet_of(columns, properties)
}

fn error(dir: &Path, args: &[&str]) -> Value {
    let args = [&["list", "all", "--json"], args].concat();
    let output = runtally(dir, &args);
    assert_eq!(
        (output.code, &*output.stdout),
        (Some(1), ""),
        "{args:?}: {}",
        output.stderr
    );
    let document: Value = serde_json::from_str(&output.stderr).unwrap();
    document["error"].clone()
}

#[test]
fn a_page_beyond_the_memory_limit_is_no_damage() {
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("all")).unwrap();
        fs::write(dir.path().join("all/large.parquet"), with_large_page(codec)).unwrap();
        fs::write(dir.path().join("all/small.parquet"), three_runs(&[])).unwrap();
        let limits = [
            "--memory-limit",
            "16MiB",
            "--threads",
            "1",
            "--dedup",
            "never",
        ];
        for more in [&[][..], &["--on-error", "skip"]] {
            let error = error(dir.path(), &[&limits[..], more].concat());
            assert_eq!(error["kind"], "memory", "{codec}: {error}");
            assert!(
                error["hint"].as_str().unwrap().contains("--memory-limit"),
                "{error}"
            );
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains("all/large.parquet: column error"),
                "{message}"
            );
        }
        let said = runtally(dir.path(), &[&["list", "all"], &limits[..]].concat()).stderr;
        assert_eq!(said.lines().count(), 2, "{said}");
        let text = answer(dir.path(), &["list", "all", "--dedup", "never", "-q"]);
        let documents: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(documents[0]["run_count"], 5, "{codec}");
    }
}

#[test]
fn a_page_that_cannot_be_as_large_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("all")).unwrap();
    let mut bytes = with_large_page(Compression::ZSTD(ZstdLevel::default()));
    let column = metadata(&bytes).row_group(0).column(4).clone();
    let at = usize::try_from(column.data_page_offset()).unwrap();
    // The kind of the page, then the bytes that it takes when it is expanded.
    assert_eq!(
        (&bytes[at..at + 3], bytes[at + 6] & 0x80),
        (&[0x15, 0, 0x15][..], 0)
    );
    bytes[at + 3..at + 7].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
    fs::write(dir.path().join("all/large.parquet"), bytes).unwrap();
    fs::write(dir.path().join("all/small.parquet"), three_runs(&[])).unwrap();
    let limits = ["--memory-limit", "64MiB", "--threads", "1"];
    let said = error(dir.path(), &limits);
    assert_eq!(
        (&said["kind"], &said["path"]),
        (&"bad_input".into(), &"all/large.parquet".into())
    );
    assert!(
        said["message"].as_str().unwrap().contains("column error: "),
        "{said}"
    );
    let args = [&["list", "all", "--on-error", "skip"], &limits[..]].concat();
    let skipping = runtally(dir.path(), &args);
    assert_eq!(skipping.code, Some(4), "{}", skipping.stderr);
    let documents: Value = serde_json::from_str(&skipping.stdout).unwrap();
    assert_eq!(documents[0]["run_count"], 3);
}

/// A file of so many row groups of one run each.
fn with_groups(n_groups: usize) -> Vec<u8> {
    let (project, tenant) = (project_id(0).to_string(), tenant_id(0).to_string());
    let ids: Vec<String> = (0..n_groups).map(|n| format!("run {n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let starts = (0..n_groups).map(|n| FIRST_MIDNIGHT_US + i64::try_from(n).unwrap());
    let starts: TimestampMicrosecondArray = starts.collect::<Vec<i64>>().into();
    let tokens = Int64Array::from(vec![7; n_groups]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(&ids)),
        ("tenant_id", texts(&vec![tenant.as_str(); n_groups])),
        ("session_id", texts(&vec![project.as_str(); n_groups])),
        ("start_time", Arc::new(starts)),
        ("total_tokens", Arc::new(tokens)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    for row in 0..n_groups {
        writer.write(&batch.slice(row, 1)).unwrap();
        writer.flush().unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn damage_is_found_among_many_row_groups() {
    const N_GROUPS: usize = 2_000;
    let reader = Reader::new();
    let mut bytes = with_groups(N_GROUPS);
    let answer = reader.ask(&reader.file("whole.parquet", &bytes)).unwrap();
    assert_eq!(answer[0].run_count, Some(2_000));
    assert_eq!(answer[0].total_tokens, Some(14_000));
    let column = metadata(&bytes).row_group(N_GROUPS - 2).column(4).clone();
    let at = usize::try_from(column.data_page_offset()).unwrap();
    // Where its size would be.
    bytes[at + 3] ^= 0x40;
    let said = reader.refusal(&reader.file("damaged.parquet", &bytes));
    assert!(said.contains("column total_tokens: "), "{said}");
}
