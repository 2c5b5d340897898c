//! From files to the document: generated exports of 100 000 and of a million runs (or as many as
//! `RUNTALLY_BENCH_ROWS` says), beside the floor: the same columns decoded and nothing done with them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use runtally::generate::{self, Options};
use runtally::{Engine, Limits, Projects, Request, Source, SourceOptions};

/// What a document needs of an export whose paths say the project.
const COLUMNS: [&str; 14] = [
    "run_type",
    "start_time",
    "end_time",
    "first_token_time",
    "is_root",
    "status",
    "trace_tier",
    "feedback_stats",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
];

fn session(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut bench = c.benchmark_group("session");
    bench.sample_size(10);
    let asked = std::env::var("RUNTALLY_BENCH_ROWS").ok();
    let sizes = asked.map_or(vec![100_000, 1_000_000], |rows| vec![rows.parse().unwrap()]);
    for rows in sizes {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            rows,
            projects: 1,
            days: 30,
            ..Options::default()
        };
        let summary = generate::generate(dir.path(), &options).unwrap();
        let request = Request {
            projects: Projects::Only,
            ..Request::default()
        };
        let answer = || async {
            let engine = Engine::new(&Limits::default()).unwrap();
            let source = Source::open([dir.path()], &SourceOptions::default()).unwrap();
            runtally::sessions(&engine, &source, &request)
                .await
                .unwrap()
        };
        bench.throughput(Throughput::Elements(summary.rows));
        bench.bench_function(format!("{rows} rows"), |b| {
            b.to_async(&runtime).iter(answer);
        });
        let files = parquet_files(dir.path());
        bench.bench_function(format!("{rows} rows, decoding alone"), |b| {
            b.iter(|| decode(&files));
        });
        let n_bytes = runtime.block_on(answer()).about.read.n_bytes;
        bench.throughput(Throughput::Bytes(n_bytes));
        bench.bench_function(format!("{rows} rows, bytes read"), |b| {
            b.to_async(&runtime).iter(answer);
        });
    }
    bench.finish();
}

/// Decodes the columns of all files on all cores and drops what comes out.
fn decode(files: &[PathBuf]) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = File::open(path).unwrap();
                    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
                    let schema = builder.parquet_schema();
                    let mask = ProjectionMask::columns(schema, COLUMNS);
                    let reader = builder.with_projection(mask).with_batch_size(8_192);
                    for batch in reader.build().unwrap() {
                        std::hint::black_box(batch.unwrap());
                    }
                }
            });
        }
    });
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|kind| kind == "parquet") {
            files.push(path);
        }
    }
    files
}

criterion_group!(benches, session);
criterion_main!(benches);
