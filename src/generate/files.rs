//! Files and folders: the files of a day, and `sessions.json`.
//!
//! A file is written under a temporary name and renamed when it is complete.
//! Its bytes depend on its rows and on the parquet crate alone: no version,
//! host or time is in it.

use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Value, json};

use super::columns::Columns;
use super::day::Day;
use super::plan::{DAY_US, Edition, Job, Plan, Project, SLOTS};
use super::texts::Texts;
use super::trace::Run;
use super::{Compression, GenerateError, Layout, Options, lines};

/// What the files say they were written by; never changes.
const CREATED_BY: &str = "runtally generate";

/// Rows of a batch handed to the Parquet writer.
const BATCH_ROWS: usize = 8_192;

/// Columns in which hardly a value occurs twice.
const DISTINCT: [&str; 8] = [
    "id",
    "start_time",
    "end_time",
    "dotted_order",
    "error",
    "extra",
    "events",
    "first_token_time",
];

/// Columns whose least and greatest value help nobody.
const LONG: [&str; 4] = ["inputs", "outputs", "extra", "events"];

/// Columns of prepared texts, and a size that all of these are below, bytes.
const POOLED: [&str; 2] = ["inputs", "outputs"];
const POOL_BYTES: usize = 64 << 20;

/// What a job has written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) files: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Writes the files of a project's day.
pub(super) fn write_day(
    dir: &Path,
    plan: &Plan,
    texts: &Texts,
    job: &Job,
) -> Result<Written, GenerateError> {
    let mut written = Written::default();
    let Some(project) = plan.projects.get(job.project) else {
        return Ok(written);
    };
    let mut open: Option<RunFile<'_>> = None;
    for (slot, runs) in (0..SLOTS).zip(Day::new(plan, *job)) {
        let part = slot * plan.options.files_per_day / SLOTS;
        if let Some(done) = open.take_if(|file| file.part != part) {
            done.finish(&mut written)?;
        }
        if runs.is_empty() {
            continue;
        }
        let mut file = if let Some(file) = open.take() {
            file
        } else {
            let path = dir.join(file_path(plan, project, job, part));
            RunFile::create(path, plan, texts, project, job.edition, part)?
        };
        file.write(&runs)?;
        open = Some(file);
    }
    if let Some(last) = open {
        last.finish(&mut written)?;
    }
    Ok(written)
}

/// Writes the projects' names and metadata, as the API gives them.
pub(super) fn write_sessions(dir: &Path, plan: &Plan) -> Result<(), GenerateError> {
    let sessions: Vec<Value> = plan
        .projects
        .iter()
        .map(|project| session(plan, project))
        .collect();
    let path = dir.join("sessions.json");
    let temporary = temporary_path(&path);
    let failed = |source| io_error(&path, source);
    let text = format!("{:#}\n", Value::Array(sessions));
    fs::write(&temporary, text).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)
}

/// A project's record.
fn session(plan: &Plan, project: &Project) -> Value {
    let created = DateTime::from_timestamp_micros(project.created_us).unwrap_or_default();
    json!({
        "id": project.id.to_string(),
        "tenant_id": plan.tenant.to_string(),
        "start_time": created.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
        "end_time": null,
        "extra": {"metadata": {"owner": project.persona.root, "index": project.index}},
        "name": project.name,
        "description": project.persona.description,
        "default_dataset_id": null,
        "reference_dataset_id": null,
        "trace_tier": project.persona.trace_tier,
    })
}

/// What writes rows into a file.
#[expect(clippy::large_enum_variant, reason = "there are few of them")]
enum Sink {
    Parquet(ArrowWriter<BufWriter<File>>),
    Lines(BufWriter<File>),
}

/// A file of runs in the making.
struct RunFile<'a> {
    part: u32,
    path: PathBuf,
    modified_us: i64,
    columns: Columns<'a>,
    sink: Sink,
    n_rows: u64,
}

impl<'a> RunFile<'a> {
    fn create(
        path: PathBuf,
        plan: &Plan,
        texts: &'a Texts,
        project: &'a Project,
        edition: Edition,
        part: u32,
    ) -> Result<Self, GenerateError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
        }
        let file = File::create_new(temporary_path(&path));
        let file = file.map_err(|source| io_error(&path, source))?;
        let mut columns = Columns::new(plan, project, texts);
        // Without Arrow's own schema in the file: the pool's dictionaries
        // would be read back as such, and no export comes from Arrow.
        let options = ArrowWriterOptions::new()
            .with_properties(properties(&plan.options))
            .with_skip_arrow_metadata(true);
        let file = BufWriter::new(file);
        let sink = match plan.options.layout {
            Layout::Lines => Ok(Sink::Lines(file)),
            Layout::V1 | Layout::V2 | Layout::Flat => columns
                .schema()
                .map_err(ParquetError::from)
                .and_then(|schema| ArrowWriter::try_new_with_options(file, schema, options))
                .map(Sink::Parquet),
        };
        let end_us = plan.day_start_us(plan.options.days);
        Ok(Self {
            part,
            modified_us: match edition {
                Edition::First => end_us,
                Edition::Second => end_us + DAY_US,
            },
            columns,
            sink: sink.map_err(|source| parquet_error(&path, source))?,
            n_rows: 0,
            path,
        })
    }

    fn write(&mut self, runs: &[Run]) -> Result<(), GenerateError> {
        for run in runs {
            self.columns.push(run);
            if self.columns.len() == BATCH_ROWS {
                self.write_batch()?;
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), GenerateError> {
        self.n_rows += self.columns.len() as u64;
        let failed = |source| parquet_error(&self.path, source);
        let batch = self.columns.finish().map_err(ParquetError::from);
        let batch = batch.map_err(failed)?;
        match &mut self.sink {
            Sink::Parquet(writer) => writer.write(&batch).map_err(failed),
            Sink::Lines(out) => {
                lines::write(out, &batch).map_err(|source| io_error(&self.path, source))
            }
        }
    }

    /// Completes the file, gives it its name and adds it to what is written.
    fn finish(mut self, written: &mut Written) -> Result<(), GenerateError> {
        self.write_batch()?;
        let path = self.path;
        let buffered = match self.sink {
            Sink::Lines(out) => out,
            Sink::Parquet(writer) => writer
                .into_inner()
                .map_err(|source| parquet_error(&path, source))?,
        };
        let modified = UNIX_EPOCH + Duration::from_micros(self.modified_us.unsigned_abs());
        let bytes =
            complete(buffered, modified, &path).map_err(|source| io_error(&path, source))?;
        written.files += 1;
        written.rows += self.n_rows;
        written.bytes += bytes;
        Ok(())
    }
}

/// Flushes a file, sets its time and gives it its name; returns its size.
fn complete(file: BufWriter<File>, modified: SystemTime, path: &Path) -> io::Result<u64> {
    let file = file.into_inner().map_err(IntoInnerError::into_error)?;
    file.set_modified(modified)?;
    fs::rename(temporary_path(path), path)?;
    Ok(file.metadata()?.len())
}

/// Where a part of a day lies below the export's folder.
fn file_path(plan: &Plan, project: &Project, job: &Job, part: u32) -> PathBuf {
    let date = plan.date(job.day);
    let (year, month, day) = (date.year(), date.month(), date.day());
    let export_id = plan.export_id(job.edition);
    let folders = format!(
        "export_id={export_id}/tenant_id={}/session_id={}",
        plan.tenant, project.id
    );
    PathBuf::from(match plan.options.layout {
        Layout::V1 => {
            format!(
                "{folders}/runs/year={year}/month={month:02}/day={day:02}/runs-{part:04}.parquet"
            )
        }
        Layout::V2 => {
            format!(
                "{folders}/resource=runs/year={year}/month={month}/day={day}/runs-{part:04}.parquet"
            )
        }
        layout @ (Layout::Flat | Layout::Lines) => {
            let number = match job.edition {
                Edition::First => 1,
                Edition::Second => 2,
            };
            let extension = match layout {
                Layout::Lines => "jsonl",
                _ => "parquet",
            };
            format!(
                "export-{number}-{}-{date}-{part:04}.{extension}",
                project.name
            )
        }
    })
}

/// The name of a file that is not complete: that of no file of runs.
fn temporary_path(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// How files are encoded: as common writers do by default.
fn properties(options: &Options) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_compression(match options.compression {
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
            Compression::Gzip => Codec::GZIP(GzipLevel::default()),
            Compression::Snappy => Codec::SNAPPY,
            Compression::None => Codec::UNCOMPRESSED,
        });
    for column in DISTINCT {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    for column in LONG {
        properties = properties
            .set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::None);
    }
    for column in POOLED {
        properties =
            properties.set_column_dictionary_page_size_limit(ColumnPath::from(column), POOL_BYTES);
    }
    properties.build()
}

fn io_error(path: &Path, source: io::Error) -> GenerateError {
    GenerateError::Io {
        path: path.to_owned(),
        source,
    }
}

fn parquet_error(path: &Path, source: ParquetError) -> GenerateError {
    GenerateError::Parquet {
        path: path.to_owned(),
        source,
    }
}
