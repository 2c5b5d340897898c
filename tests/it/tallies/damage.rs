//! Tally files that are cut short, overwritten, of other metadata or columns: an error with the path, never
//! a panic.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, LargeBinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtally::{Breakdown, Error, Key, Measure, Population, Request, Sort};

use super::{Asking, rows};
use crate::support::run::{FIRST_MIDNIGHT_US, Run};
use crate::support::write::{Shape, write};

const N_CORRUPTIONS: u64 = 200;

fn breakdown() -> Breakdown {
    Breakdown {
        runs: Population::Traces,
        by: vec![Key::Name],
        every: None,
        measures: Measure::run_stats()
            .into_iter()
            .filter(|measure| *measure != Measure::RunFacets)
            .collect(),
        sort: Sort::by_runs(),
        limit: None,
    }
}

/// A sound tally file.
fn sound(asking: &Asking, dir: &Path) -> Vec<u8> {
    let runs: Vec<Run> = (0..300_u64)
        .map(|number| {
            let start = FIRST_MIDNIGHT_US + i64::try_from(number).unwrap() * 61_000_003;
            let mut run = Run::completed_root(number, start, start + 1_000 * 997);
            run.name = Some(format!("name {}", number % 5));
            run.feedback_stats = Some(r#"{"helpful": {"n": 1, "avg": 0.5}}"#.to_owned());
            run
        })
        .collect();
    write(&dir.join("exports"), &runs, &Shape::default());
    let file = dir.join("sound.parquet");
    let sources = [dir.join("exports")];
    asking
        .store(&sources, &Request::default(), &breakdown(), &file)
        .unwrap();
    fs::read(file).unwrap()
}

/// Asks all that can be asked of a file; its errors name it.
fn ask(asking: &Asking, file: &Path) -> Vec<String> {
    let sources = [file.to_owned()];
    let request = Request::default();
    let answers = [
        asking.documents(&sources, &request),
        asking.figures(&sources, &request, &breakdown()),
    ];
    let errors = answers.into_iter().filter_map(Result::err);
    errors
        .map(|error| {
            let text = error.to_string();
            let is_of_file = text.contains(file.to_str().unwrap());
            // A sum beyond its bounds may be of several files.
            assert!(
                is_of_file || matches!(error, Error::BadData { .. }),
                "{error:?}"
            );
            assert!(!text.contains("panicked"), "{text}");
            text
        })
        .collect()
}

#[test]
fn random_corruptions_are_errors_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let asking = Asking::new();
    let sound = sound(&asking, dir.path());
    let mut n_errors = 0;
    for seed in 0..N_CORRUPTIONS {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bytes = sound.clone();
        let footer = bytes.len() - 3_000;
        for _ in 0..rng.random_range(1..4) {
            let from = if rng.random() { footer } else { 0 };
            let at = rng.random_range(from..bytes.len());
            bytes[at] = rng.random();
        }
        let file = dir.path().join(format!("{seed}.parquet"));
        fs::write(&file, &bytes).unwrap();
        n_errors += u64::from(!ask(&asking, &file).is_empty());
    }
    assert!(n_errors > N_CORRUPTIONS / 4, "only {n_errors} were noticed");
}

#[test]
fn files_cut_short_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let asking = Asking::new();
    let sound = sound(&asking, dir.path());
    for length in [0, 4, 100, sound.len() / 2, sound.len() - 9, sound.len() - 1] {
        let file = dir.path().join(format!("{length}.parquet"));
        fs::write(&file, &sound[..length]).unwrap();
        assert_eq!(ask(&asking, &file).len(), 2, "{length}");
    }
}

/// Writes rows with other metadata; that of the sound file where there is none.
fn rewritten(dir: &Path, name: &str, rows: &RecordBatch, says: Option<&str>) -> std::path::PathBuf {
    let sound =
        ParquetRecordBatchReaderBuilder::try_new(File::open(dir.join("sound.parquet")).unwrap());
    let sound = sound.unwrap();
    let entries = sound
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap();
    let own = entries
        .iter()
        .find(|entry| entry.key == "runtally")
        .unwrap();
    let says = says.map_or_else(|| own.value.clone(), |says| Some(says.to_owned()));
    let file = dir.join(format!("{name}.parquet"));
    let mut writer =
        ArrowWriter::try_new(File::create(&file).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.append_key_value_metadata(KeyValue {
        key: "runtally".to_owned(),
        value: says,
    });
    writer.close().unwrap();
    file
}

fn with_column(rows: &RecordBatch, name: &str, values: ArrayRef) -> RecordBatch {
    let at = rows.schema().index_of(name).unwrap();
    let mut fields: Vec<Field> = rows
        .schema()
        .fields()
        .iter()
        .map(|field| (**field).clone())
        .collect();
    fields[at] = Field::new(name, values.data_type().clone(), true);
    let mut columns = rows.columns().to_vec();
    columns[at] = values;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn foreign_metadata_and_columns_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let asking = Asking::new();
    sound(&asking, dir.path());
    let rows = rows(&dir.path().join("sound.parquet"));
    let same = rewritten(dir.path(), "same", &rows, None);
    assert_eq!(ask(&asking, &same), [""; 0]);
    let metadata = [
        ("", "metadata of tallies cannot be read"),
        ("{\"version\": 2}", "of version 2"),
        ("{\"version\": 1}", "metadata of tallies cannot be read"),
        ("[1]", "metadata of tallies cannot be read"),
    ];
    for (number, (says, problem)) in metadata.iter().enumerate() {
        let file = rewritten(dir.path(), &format!("metadata-{number}"), &rows, Some(says));
        for said in ask(&asking, &file) {
            assert!(said.contains(problem), "{said}");
        }
    }
    let n_rows = rows.num_rows();
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![1; n_rows]));
    let noise: ArrayRef = Arc::new(LargeBinaryArray::from(vec![b"noise".as_slice(); n_rows]));
    let nothing: ArrayRef = Arc::new(StringArray::new_null(n_rows));
    let columns = [
        (
            "n_traces",
            Arc::clone(&integers),
            "expected Decimal128(38, 0), found Int64",
        ),
        ("name", integers, "expected Utf8View, found Int64"),
        ("latency_us", Arc::clone(&noise), "sketch"),
        ("feedback", noise, "feedback"),
        ("session_id", nothing, "may not be without a value"),
    ];
    for (name, values, problem) in columns {
        let file = rewritten(dir.path(), name, &with_column(&rows, name, values), None);
        let errors = ask(&asking, &file);
        assert_eq!(errors.len(), 2, "{name}");
        for said in errors {
            assert!(said.contains(problem), "{said}");
        }
    }
    let at = rows.schema().index_of("total_cost").unwrap();
    let others: Vec<usize> = (0..rows.num_columns())
        .filter(|column| *column != at)
        .collect();
    let file = rewritten(dir.path(), "less", &rows.project(&others).unwrap(), None);
    for said in ask(&asking, &file) {
        assert!(said.contains("no column total_cost"), "{said}");
    }
}
