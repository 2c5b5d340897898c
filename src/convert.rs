//! Conversion: any source → Parquet in the layout of a bulk export, one file a project and day.
//!
//! In go a [`Source`] and [`ConvertOptions`], out comes a folder `export_id=…` that answers every question as
//! the source does, with `sessions.json` beside it. The way of the data: the engine's jobs (all runs of some
//! whole days of a project, sorted) → `writer` (files, each of which gets its name when it is complete) →
//! `target` (the folder, which appears when all of them are).
//!
//! # Why a crash leaves nothing that is read
//!
//! All is written into a hidden folder, which no listing looks into, and which gets its name at the end.
//! What was begun is found again by that name, which follows from the inputs and the options: files that are
//! complete are kept. An earlier result beside it is named in the new one, in a list that appears with it;
//! listings do not look into what is named there. So at every moment one of the two is read, never both, and
//! the earlier one can be removed after that, at any time.

mod target;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::engine::{self, Engine, Rows, Stop, Whole};
use crate::error::{Error, Result, SkippedFile};
use crate::request::Projects;
use crate::source::{Job, Source};
use target::{Staging, Target};
use writer::{Refusal, Writer};

/// What to convert, and to where.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// The folder that the export goes into: an absent or empty one, or one that was written to before.
    pub dir: PathBuf,
    /// Whose runs; [`Projects::Only`] is an error where there are several.
    pub projects: Projects,
    /// Inputs, outputs and events are left out.
    pub drop_io: bool,
}

/// What a conversion wrote.
#[derive(Clone, Debug, Serialize)]
pub struct Converted {
    /// The folder of the export.
    pub path: PathBuf,
    /// The export's id, which follows from the inputs and the options.
    pub export_id: Uuid,
    /// Whether it stood already, so that nothing was written.
    pub was_there: bool,
    /// The number of projects.
    pub n_projects: usize,
    /// The number of days (UTC) on which any run started.
    pub n_days: usize,
    /// The number of runs, each counted once.
    pub n_runs: u64,
    /// The number of files.
    pub n_files: usize,
    /// The bytes of the source's files.
    pub n_bytes_read: u64,
    /// The bytes of the files that were written.
    pub n_bytes: u64,
    /// What should be known of it, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
}

/// Writes the runs of a source as Parquet in the layout of a bulk export, one file a project and day (UTC),
/// sorted by start and then by id. The same inputs and options give the same bytes, whatever the engine may
/// use. What was begun is gone on with, and where the result stands nothing is done.
///
/// # Errors
///
/// [`Error::Usage`] where the folder holds anything that no conversion wrote, is read from or is written to
/// by another process; [`Error::Io`] where a file cannot be written; else those of [`crate::sessions`]. What
/// was complete by then is kept for the next time.
pub async fn convert(
    engine: &Engine,
    source: &Source,
    options: &ConvertOptions,
) -> Result<Converted> {
    let target = Target::open(&options.dir, source)?;
    let id = export_id(source, options)?;
    if let Some(record) = target.standing(id)? {
        let projects = record.projects();
        let sessions = sessions(source, &projects)?;
        target.settle(id, sessions.as_deref())?;
        return Ok(record.converted(target.path(id), id, true, source.n_bytes(), Vec::new()));
    }
    let mut staging = target.stage(id)?;
    let mut is_frugal = false;
    loop {
        match attempt(engine, source, options, &mut staging, is_frugal).await {
            Ok((warnings, left_out)) => {
                let sessions = sessions(source, &staging.projects()?)?;
                let record = staging.finish(sessions.as_deref(), left_out)?;
                let path = target.path(id);
                return Ok(record.converted(path, id, false, source.n_bytes(), warnings));
            }
            // Where several jobs at once, or several threads, need too much, one may not.
            Err(Redo::Failed(Error::Memory { .. })) if !is_frugal => is_frugal = true,
            Err(Redo::Failed(error)) => return Err(error),
            // What was written may depend on what is known only now.
            Err(Redo::Without(files)) => staging.begin_without(files)?,
            Err(Redo::Wide) => staging.begin_wide()?,
        }
    }
}

/// Why a conversion did not come to its end.
enum Redo {
    Failed(Error),
    /// Files cannot be read, and are to be left out.
    Without(Vec<SkippedFile>),
    /// A cost needs more room.
    Wide,
}

impl From<Error> for Redo {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stop> for Redo {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed(error) => Self::Failed(error),
            Stop::Bad(files) => Self::Without(files),
        }
    }
}

/// The id of what a source is converted to: the same for the same files and options.
fn export_id(source: &Source, options: &ConvertOptions) -> Result<Uuid> {
    let mut text = format!(
        "{} {:?} {} {}\n",
        target::BY,
        options.projects,
        options.drop_io,
        source.settings()
    );
    for input in source.inputs()? {
        text.push_str(&input);
        text.push('\n');
    }
    Ok(Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes()))
}

/// The records of some projects as a side file; none where there are none.
fn sessions(source: &Source, projects: &BTreeSet<Uuid>) -> Result<Option<String>> {
    let records = source.records(projects)?;
    let text = || format!("[\n{}\n]\n", records.join(",\n"));
    Ok((!records.is_empty()).then(text))
}

/// Writes what is not written yet, on one thread where that is to save memory; returns what should be known
/// of it, and the files of which only a part was read.
async fn attempt(
    engine: &Engine,
    source: &Source,
    options: &ConvertOptions,
    staging: &mut Staging<'_>,
    is_frugal: bool,
) -> Result<(Vec<String>, Vec<SkippedFile>), Redo> {
    let mut skipped = staging.skipped().to_vec();
    let whole = engine::whole(
        engine,
        source,
        &options.projects,
        options.drop_io,
        &mut skipped,
    );
    let mut whole = whole.await?;
    let more = skipped.split_off(staging.skipped().len());
    if !more.is_empty() {
        staging.begin_without(more)?;
    }
    let jobs: Vec<Arc<Job>> = whole.jobs.iter().cloned().map(Arc::new).collect();
    let (n_at_once, n_threads) = if is_frugal { (1, 1) } else { whole.n_at_once() };
    let mut waiting = (0..).zip(jobs);
    let mut running: JoinSet<(Arc<Job>, Result<usize, Refusal>)> = JoinSet::new();
    loop {
        while running.len() < n_at_once
            && let Some((number, job)) = waiting.next()
        {
            if staging.is_done(number) {
                continue;
            }
            let rows = whole.rows(&job, n_threads)?;
            let writer = writer(&whole, &job, staging);
            running.spawn(async move {
                let written = write(rows, writer).await.map(|()| number);
                (job, written)
            });
        }
        let Some(ended) = running.join_next().await else {
            return Ok((whole.warnings, whole.left_out));
        };
        let ended = ended.map_err(|error| Error::Engine(Box::new(error)))?;
        match ended {
            (_, Ok(number)) => staging.done(number)?,
            (job, Err(refusal)) => {
                running.shutdown().await;
                return Err(match refusal {
                    Refusal::Wide => Redo::Wide,
                    Refusal::Error(error) => whole.blame(&job, error).await.into(),
                });
            }
        }
    }
}

/// What writes a job's rows.
fn writer(whole: &Whole<'_>, job: &Job, staging: &Staging<'_>) -> Writer {
    let projects = job.projects.iter().map(|id| {
        let facts = whole.projects.get(id);
        let tenant = facts.and_then(|facts| facts.tenants.first().copied());
        let columns = whole.written.of(*id, job.has_traces).to_vec();
        (*id, (tenant.unwrap_or_default(), columns))
    });
    Writer::new(
        staging.path(),
        projects.collect(),
        job.has_traces,
        staging.is_wide(),
    )
}

async fn write(mut rows: Rows, mut writer: Writer) -> Result<(), Refusal> {
    while let Some(batch) = rows.next().await? {
        writer.write(&batch)?;
    }
    writer.finish()
}
