//! What answering costs at least, as a whole process: `floors WHAT THREADS COLUMNS PATH`, where WHAT is
//!
//! - `pages`: the pages of the columns read and decompressed, and nothing else;
//! - `decode`: the columns decoded into Arrow;
//! - `scan`: the same files, columns and threads through DataFusion, without a filter or an aggregate.
//!
//! COLUMNS are separated by commas, PATH is a folder. Without arguments (`cargo bench`) all three over a
//! generated export of a million runs and the columns of a document. Prints rows or bytes, and seconds.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use datafusion::execution::options::ParquetReadOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::column::page::PageReader;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{SerializedFileReader, SerializedPageReader};
use runtally::generate::{self, Options};

const DOCUMENT: &str = "start_time,end_time,first_token_time,is_root,status,total_tokens,prompt_tokens,\
completion_tokens,total_cost,prompt_cost,completion_cost";

const BATCH_ROWS: usize = 8_192;

fn main() {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = words.collect();
    let [what, threads, columns, path] = words.as_slice() else {
        return all();
    };
    let columns: Vec<&str> = columns.split(',').collect();
    measure(what, threads.parse().unwrap(), &columns, Path::new(path));
}

/// Every floor of a million runs.
fn all() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows: 1_000_000,
        days: 30,
        ..Options::default()
    };
    generate::generate(dir.path(), &options).unwrap();
    let columns: Vec<&str> = DOCUMENT.split(',').collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for what in ["pages", "decode", "scan"] {
        measure(what, threads, &columns, dir.path());
    }
}

fn measure(what: &str, threads: usize, columns: &[&str], dir: &Path) {
    let began = Instant::now();
    let files = parquet_files(dir);
    let n = match what {
        "pages" => each(&files, threads, |path| read_pages(path, columns)),
        "decode" => each(&files, threads, |path| decode(path, columns)),
        "scan" => scan(&files, threads, columns),
        _ => panic!("{what} is none of pages, decode, scan"),
    };
    let unit = if what == "pages" { "bytes" } else { "rows" };
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {n} {unit} in {seconds:.3} s");
}

/// Does the work of each file, on so many threads; what it says, added up.
fn each(files: &[PathBuf], threads: usize, work: impl Fn(&Path) -> u64 + Sync) -> u64 {
    let (next, sum) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    sum.fetch_add(work(path), Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner()
}

/// Reads and decompresses the columns' pages; their bytes.
fn read_pages(path: &Path, columns: &[&str]) -> u64 {
    let file = Arc::new(File::open(path).unwrap());
    let reader = SerializedFileReader::new(file.try_clone().unwrap()).unwrap();
    let mut n_bytes = 0;
    for group in reader.metadata().row_groups() {
        for chunk in group.columns() {
            if !columns.contains(&chunk.column_path().string().as_str()) {
                continue;
            }
            let n_rows = usize::try_from(group.num_rows()).unwrap();
            let mut pages =
                SerializedPageReader::new(Arc::clone(&file), chunk, n_rows, None).unwrap();
            while let Some(page) = pages.get_next_page().unwrap() {
                n_bytes += black_box(page).buffer().len() as u64;
            }
        }
    }
    n_bytes
}

/// Decodes the columns; the rows.
fn decode(path: &Path, columns: &[&str]) -> u64 {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let batches = reader.build().unwrap();
    batches
        .map(|batch| black_box(batch.unwrap()).num_rows() as u64)
        .sum()
}

/// Lets DataFusion do so; the rows.
fn scan(files: &[PathBuf], threads: usize, columns: &[&str]) -> u64 {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap();
    let config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(BATCH_ROWS);
    let ctx = SessionContext::new_with_config(config);
    let paths: Vec<String> = files
        .iter()
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    runtime.block_on(async {
        let rows = ctx.read_parquet(paths, ParquetReadOptions::default());
        let rows = rows.await.unwrap().select_columns(columns).unwrap();
        let streams = rows.execute_stream_partitioned().await.unwrap();
        let mut partitions = tokio::task::JoinSet::new();
        for mut stream in streams {
            partitions.spawn(async move {
                let mut n_rows = 0;
                while let Some(batch) = stream.next().await {
                    n_rows += black_box(batch.unwrap()).num_rows() as u64;
                }
                n_rows
            });
        }
        partitions.join_all().await.into_iter().sum()
    })
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
    files.sort();
    files
}
