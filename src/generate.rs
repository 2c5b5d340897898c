//! Seeded synthetic exports, for tests, benches and trying things out.
//!
//! In go [`Options`], out comes a folder that looks like a bulk export of run
//! records: Parquet files in one of the layouts that exports have (or JSON
//! lines), with believable traces, and a `sessions.json` that names the projects. The same
//! options give the same bytes, on any machine and any number of threads;
//! there is no wall clock in it.
//!
//! The way of the data: `plan` (how many rows each project, day and quarter
//! of an hour gets) → `day` (the runs of a day, in order of time, out of
//! traces) ← `trace` (one trace as a pure function of random bits) →
//! `columns` (runs into Arrow) → `files` (← `lines`, where they are JSON).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, panic, thread};

use chrono::NaiveDate;
use uuid::Uuid;

use self::files::Written;
use self::plan::{Job, Plan};
use self::texts::Texts;

mod catalog;
mod columns;
mod day;
mod files;
mod json;
mod lines;
mod plan;
mod random;
mod texts;
mod trace;

/// What export to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Number of distinct runs, over all projects; met exactly. Runs that a
    /// second export repeats (see [`overlap`](Self::overlap)) come on top.
    pub rows: u64,
    /// Number of projects, 1 to 100 000; the first have the most runs.
    pub projects: u32,
    /// Number of days, at least 1.
    pub days: u32,
    /// The last day (UTC), included: every run starts before the midnight
    /// that ends it, and on or after the one that begins the day `days - 1`
    /// days earlier. From 1971 to 2200.
    pub end: NaiveDate,
    /// Number of users whose ids occur in the metadata, at least 1.
    pub users: u32,
    /// What all random choices follow from.
    pub seed: u64,
    /// Folders and types.
    pub layout: Layout,
    /// Rows of a row group, at least 1.
    pub row_group_rows: usize,
    /// Compression of the columns.
    pub compression: Compression,
    /// How many of the last days a second, later export repeats, 0 to `days`.
    /// In the first export some runs of these days are still pending, and
    /// some feedback has not arrived yet; in the second they are complete.
    pub overlap: u32,
    /// How costs are written.
    pub cost_type: CostType,
    /// Only `llm` runs carry tokens and costs. Otherwise a run that has
    /// children carries the sum over its descendants, as classic data does.
    pub own_only_roots: bool,
    /// Number of files a day, 1 to 96: equal spans of time, of which those
    /// without a run are left out.
    pub files_per_day: u32,
    /// Traces out of 10 000 that never ended (status `pending`).
    pub pending_share: u32,
}

impl Default for Options {
    /// 100 000 rows, three projects, seven days up to 2026-10-31, 1 000
    /// users, seed 7, the newer layout with zstd.
    fn default() -> Self {
        Self {
            rows: 100_000,
            projects: 3,
            days: 7,
            end: NaiveDate::from_ymd_opt(2026, 10, 31).unwrap_or_default(),
            users: 1_000,
            seed: 7,
            layout: Layout::V2,
            row_group_rows: 100_000,
            compression: Compression::Zstd,
            overlap: 0,
            cost_type: CostType::Double,
            own_only_roots: false,
            files_per_day: 1,
            pending_share: 40,
        }
    }
}

/// The folders of an export and the types that go with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `…/runs/year=2026/month=08/day=09/`; times are nanoseconds without a
    /// zone, tags and parent ids lists of strings.
    V1,
    /// `…/resource=runs/year=2026/month=8/day=9/`; times are microseconds in
    /// UTC, tags and parent ids JSON text.
    V2,
    /// One folder of files, without keys in paths; types as in `V2`.
    Flat,
    /// One folder of files of JSON lines, as a client that lists runs dumps them; costs are text.
    Lines,
}

/// How the columns of the files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard, level 1.
    Zstd,
    /// Gzip, level 6.
    Gzip,
    /// Snappy.
    Snappy,
    /// Not compressed.
    None,
}

/// The type of the three cost columns. Each value is a whole number of
/// pico-dollars before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostType {
    /// The double next to the exact value.
    Double,
    /// `Decimal128(18, 12)`, exact.
    Decimal,
    /// Text, exact; below 0.0001 with an exponent, as in `8.2e-6`.
    Text,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Number of files of runs.
    pub files: u64,
    /// Number of rows in them, repeated ones included.
    pub rows: u64,
    /// Number of distinct runs: [`Options::rows`].
    pub runs: u64,
    /// Size of these files in bytes.
    pub bytes: u64,
    /// The projects, the largest first.
    pub projects: Vec<GeneratedProject>,
}

/// A project of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedProject {
    /// The project's id, `session_id` in the files.
    pub id: Uuid,
    /// The project's name in `sessions.json`; unique.
    pub name: String,
    /// Number of its distinct runs.
    pub runs: u64,
}

/// Why no export was made, or only a part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// An option is outside of what its documentation allows.
    #[error("option {option} must be {expected}")]
    Option {
        /// The field of [`Options`].
        option: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The folder has something in it, which might be overwritten.
    #[error("folder is not empty: {}", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The Parquet writer refused rows or could not write.
    #[error("cannot write Parquet file {}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
}

/// Fills `dir` with the export that the options describe, on as many threads
/// as the machine has. A thread holds about a row group in memory.
///
/// Modification times are set: the first export's files are of the end of
/// [`Options::end`], the second's of a day later, so that the second is the
/// later one.
///
/// # Errors
///
/// [`GenerateError::Option`] before anything is written, where an option is
/// out of range; [`GenerateError::NotEmpty`] where `dir` has entries; else
/// what stopped the writing. Files that are there are complete: each appears
/// under its name only when it is.
pub fn generate(dir: &Path, options: &Options) -> Result<Summary, GenerateError> {
    let plan = Plan::new(options)?;
    create_empty(dir)?;
    let texts = Texts::new(options.seed, options.rows);
    let written = run_jobs(&plan.jobs(), |job| {
        files::write_day(dir, &plan, &texts, job)
    })?;
    files::write_sessions(dir, &plan)?;
    Ok(Summary {
        files: written.iter().map(|day| day.files).sum(),
        rows: written.iter().map(|day| day.rows).sum(),
        runs: options.rows,
        bytes: written.iter().map(|day| day.bytes).sum(),
        projects: plan.projects(),
    })
}

/// Makes sure that the folder is there and has no entries.
fn create_empty(dir: &Path) -> Result<(), GenerateError> {
    let failed = |source| GenerateError::Io {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    match fs::read_dir(dir).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(GenerateError::NotEmpty {
            path: dir.to_owned(),
        }),
    }
}

/// Does all jobs, the first ones first, on all of the machine's threads.
/// After a failure no further job is begun.
fn run_jobs<F>(jobs: &[Job], work: F) -> Result<Vec<Written>, GenerateError>
where
    F: Fn(&Job) -> Result<Written, GenerateError> + Sync,
{
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let worker = || {
        let mut written = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            match work(job) {
                Ok(day) => written.push(day),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(written)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..n_threads.min(jobs.len()))
            .map(|_| scope.spawn(worker))
            .collect();
        let mut all = Vec::with_capacity(jobs.len());
        for worker in workers {
            all.extend(
                worker
                    .join()
                    .unwrap_or_else(|cause| panic::resume_unwind(cause))?,
            );
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests;
