//! A few damaged files among thousands of good ones.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cli::first_index;
use super::{texts, three_runs};
use crate::cli::{refusal, runtally};

const N_FILES: usize = 2_000;
/// How long a question may take, built for tests and beside others; a look at every file for each that is
/// damaged would take far longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// Writes the files, one export in one folder; those with these numbers are damaged, each in another way.
fn write_files(dir: &Path, damaged: &[usize]) -> Vec<String> {
    let folder = "all/export_id=1";
    fs::create_dir_all(dir.join(folder)).unwrap();
    let whole = three_runs(&[]);
    let mut zeroed = whole.clone();
    zeroed[4..first_index(&whole)].fill(0);
    let text = three_runs(&[("total_cost", texts(&["0.5", "abc", "0.25"]))]);
    let kinds = [&zeroed[..], &whole[..whole.len() / 2], &text];
    let path = |number: usize| format!("{folder}/{number:04}.parquet");
    for number in 0..N_FILES {
        let kind = damaged.iter().position(|other| *other == number);
        let bytes = kind.map_or(&whole[..], |kind| kinds[kind % kinds.len()]);
        fs::write(dir.join(path(number)), bytes).unwrap();
    }
    damaged.iter().copied().map(path).collect()
}

#[test]
fn one_of_many_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bad = write_files(dir.path(), &[1_234]);
    let began = Instant::now();
    let said = refusal(dir.path(), &["list", "all"], 1);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(said.starts_with(&format!("error: {}: ", bad[0])), "{said}");
    assert_eq!(said.matches(".parquet").count(), 1, "{said}");
}

#[test]
fn some_of_many_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let bad = write_files(dir.path(), &[3, 499, 1_000, 1_500, 1_999]);
    let began = Instant::now();
    let output = runtally(dir.path(), &["list", "all", "--on-error", "skip"]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    for path in &bad {
        let said = format!("warning: {path}: left out: ");
        assert_eq!(output.stderr.matches(&said).count(), 1, "{path}");
    }
    assert_eq!(output.stderr.matches("left out").count(), bad.len());
    let documents: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(documents[0]["run_count"], 3 * (N_FILES - bad.len()));
}
