//! Sorted runs → files, one a project and day.
//!
//! A file is written under a temporary name and gets its own when it is complete and on the disk; one that
//! has it already is kept as it is. Its bytes follow from its rows alone: where chunks and row groups end
//! depends on how many rows there are and how long their texts, never on the batches in which they come.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Datelike};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, RecordBatch, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::target::{BY, sync};
use crate::error::Error;
use crate::runs::{Column, TIME};
use crate::source::{self, WholeColumn};

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;
/// Rows that are encoded together, and bytes of their texts after which there are no more of them.
const CHUNK_ROWS: usize = 8_192;
const CHUNK_BYTES: usize = 16 << 20;
/// Rows of a row group, and bytes of their texts after which there are no more of them.
const GROUP_ROWS: usize = 128 * CHUNK_ROWS;
const GROUP_BYTES: usize = 256 << 20;
/// Rows of a page.
const PAGE_ROWS: usize = 20_000;
/// Digits of a cost, those where one needs more, and those after the point.
const COST: u8 = 18;
const WIDE_COST: u8 = 19;
const COST_SCALE: i8 = 12;
/// What a cost of [`COST`] digits is less than, pico-dollars.
const COST_LIMIT: u64 = 1_000_000_000_000_000_000;

/// The costs, which are pico-dollars between reading and writing.
const COSTS: [Column; 3] = [
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
];
/// Columns in which hardly a value occurs twice.
const DISTINCT: [&str; 8] = [
    "id",
    "trace_id",
    "parent_run_id",
    "parent_run_ids",
    "reference_example_id",
    "dotted_order",
    "extra",
    "runtally_thread",
];
/// Columns whose least and greatest value help nobody.
const LONG: [&str; 7] = [
    "inputs",
    "outputs",
    "events",
    "extra",
    "error",
    "feedback_stats",
    "tags",
];

/// Why rows were not written.
pub(super) enum Refusal {
    Error(Error),
    /// A cost needs more than [`COST`] digits.
    Wide,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The tenant in a project's path, and the columns of its files.
type Projects = BTreeMap<Uuid, (Uuid, Vec<WholeColumn>)>;

/// Writes a job's rows.
pub(super) struct Writer {
    dir: PathBuf,
    projects: Projects,
    file_name: &'static str,
    is_wide: bool,
    /// The file whose rows are coming.
    open: Option<Open>,
}

/// A project's day, whose file is being written or is there already.
struct Open {
    project: Uuid,
    day: i64,
    file: Option<RunFile>,
}

impl Writer {
    /// A writer of files below `dir`.
    pub(super) fn new(dir: &Path, projects: Projects, has_traces: bool, is_wide: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            projects,
            file_name: if has_traces {
                "runs.parquet"
            } else {
                // Beside the others: where any file does not say it, none of the project's does.
                "runs-untraced.parquet"
            },
            is_wide,
            open: None,
        }
    }

    /// Writes rows, which come by project, start and id.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        let (starts, projects) = (
            column(batch, Column::StartTime)?,
            column(batch, Column::SessionId)?,
        );
        let starts = starts.as_primitive::<TimestampMicrosecondType>();
        let projects = projects.as_string_view();
        let day = |row: usize| starts.value(row).div_euclid(DAY_US);
        let mut first = 0;
        for row in 1..=batch.num_rows() {
            let goes_on = row < batch.num_rows()
                && day(row) == day(first)
                && projects.value(row) == projects.value(first);
            if goes_on {
                continue;
            }
            let project = source::uuid_at(
                batch,
                index(batch, Column::SessionId)?,
                first,
                Column::SessionId,
            )?;
            let project = project.ok_or_else(source::no_project)?;
            let file = self.file(project, day(first))?;
            if let Some(file) = file {
                file.add(&batch.slice(first, row - first))?;
            }
            first = row;
        }
        Ok(())
    }

    /// Completes the last file.
    pub(super) fn finish(mut self) -> Result<(), Refusal> {
        self.close()
    }

    fn close(&mut self) -> Result<(), Refusal> {
        match self.open.take().and_then(|open| open.file) {
            Some(file) => file.finish(),
            None => Ok(()),
        }
    }

    /// The file of a project's day; `None` where it is there already.
    fn file(&mut self, project: Uuid, day: i64) -> Result<Option<&mut RunFile>, Refusal> {
        let is_open = |open: &Open| open.project == project && open.day == day;
        if !self.open.as_ref().is_some_and(is_open) {
            self.close()?;
            let (tenant, columns) = self.projects.get(&project).cloned().unwrap_or_default();
            let path = self.dir.join(folder(tenant, project, day)?);
            let path = path.join(self.file_name);
            let is_there = path.exists();
            let file = (!is_there).then(|| RunFile::create(path, columns, self.is_wide));
            self.open = Some(Open {
                project,
                day,
                file: file.transpose()?,
            });
        }
        Ok(self.open.as_mut().and_then(|open| open.file.as_mut()))
    }
}

/// The folder of a project's day, which is a number of days since 1970.
fn folder(tenant: Uuid, project: Uuid, day: i64) -> Result<PathBuf, Error> {
    let midnight = day
        .checked_mul(DAY_US)
        .and_then(DateTime::from_timestamp_micros);
    let date = midnight.ok_or_else(|| Error::BadData {
        problem: format!("column start_time: day {day} since 1970 is in no calendar"),
    })?;
    Ok(PathBuf::from(format!(
        "tenant_id={tenant}/session_id={project}/resource=runs/year={}/month={}/day={}",
        date.year(),
        date.month(),
        date.day()
    )))
}

fn index(batch: &RecordBatch, column: Column) -> Result<usize, Error> {
    let index = batch.schema_ref().index_of(column.name());
    index.map_err(|error| Error::Engine(Box::new(error)))
}

fn column(batch: &RecordBatch, column: Column) -> Result<&ArrayRef, Error> {
    Ok(batch.column(index(batch, column)?))
}

/// A file in the making.
struct RunFile {
    path: PathBuf,
    columns: Vec<WholeColumn>,
    schema: SchemaRef,
    writer: ArrowWriter<BufWriter<File>>,
    /// The rows of the next chunk, and the bytes of their texts.
    chunk: Vec<RecordBatch>,
    chunk_rows: usize,
    chunk_bytes: usize,
    /// Those of the row group, as far as they are encoded.
    group_rows: usize,
    group_bytes: usize,
}

impl RunFile {
    fn create(path: PathBuf, columns: Vec<WholeColumn>, is_wide: bool) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
        let file = File::create(temporary(&path)).map_err(|error| unwritable(&path, error))?;
        let fields = columns.iter().map(|column| field(column, is_wide));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // Without Arrow's own schema: a file says what it has as an export does.
        let options = ArrowWriterOptions::new()
            .with_properties(properties())
            .with_skip_arrow_metadata(true);
        let file = BufWriter::new(file);
        let writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options);
        Ok(Self {
            writer: writer.map_err(|error| unencodable(&path, error))?,
            path,
            columns,
            schema,
            chunk: Vec::new(),
            chunk_rows: 0,
            chunk_bytes: 0,
            group_rows: 0,
            group_bytes: 0,
        })
    }

    /// Adds rows, cut where a chunk ends.
    fn add(&mut self, rows: &RecordBatch) -> Result<(), Refusal> {
        let rows = self.chosen(rows)?;
        let sizes = text_bytes(&rows);
        let mut first = 0;
        for (row, size) in sizes.into_iter().enumerate() {
            self.chunk_rows += 1;
            self.chunk_bytes += size;
            if self.chunk_rows >= CHUNK_ROWS || self.chunk_bytes >= CHUNK_BYTES {
                self.chunk.push(rows.slice(first, row + 1 - first));
                first = row + 1;
                self.encode()?;
            }
        }
        if first < rows.num_rows() {
            self.chunk.push(rows.slice(first, rows.num_rows() - first));
        }
        Ok(())
    }

    /// The file's columns of rows.
    fn chosen(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let indices = self.columns.iter();
        let indices = indices.map(|column| rows.schema_ref().index_of(&column.name));
        let indices = indices.collect::<Result<Vec<usize>, ArrowError>>();
        let chosen = indices.and_then(|indices| rows.project(&indices));
        chosen.map_err(|error| Error::Engine(Box::new(error)))
    }

    /// Encodes the chunk, and ends the row group where it is large enough.
    fn encode(&mut self) -> Result<(), Refusal> {
        let chunk = std::mem::take(&mut self.chunk);
        let Some(first) = chunk.first() else {
            return Ok(());
        };
        let failed = |error: ArrowError| Error::Engine(Box::new(error));
        let rows = concat_batches(first.schema_ref(), &chunk).map_err(failed)?;
        let columns = rows.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(values, field)| written(values, field.data_type()));
        let columns = columns.collect::<Result<Vec<ArrayRef>, Refusal>>()?;
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        let failed = |error| unencodable(&self.path, error);
        self.writer.write(&rows).map_err(failed)?;
        self.group_rows += std::mem::take(&mut self.chunk_rows);
        self.group_bytes += std::mem::take(&mut self.chunk_bytes);
        if self.group_rows >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
            (self.group_rows, self.group_bytes) = (0, 0);
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    fn finish(mut self) -> Result<(), Refusal> {
        self.encode()?;
        let path = self.path;
        let file = self.writer.into_inner();
        let file = file.map_err(|error| unencodable(&path, error))?;
        complete(file, &path).map_err(|error| unwritable(&path, error))?;
        Ok(())
    }
}

fn complete(file: BufWriter<File>, path: &Path) -> io::Result<()> {
    let file = file.into_inner().map_err(IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(temporary(path), path)?;
    path.parent().map_or(Ok(()), sync)
}

/// The name of a file that is not complete.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// How a column is written.
fn field(column: &WholeColumn, is_wide: bool) -> Field {
    let is_cost = COSTS.iter().any(|cost| cost.name() == column.name);
    let kind = match &column.kind {
        kind if *kind == TIME => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Int64 if is_cost => {
            DataType::Decimal128(if is_wide { WIDE_COST } else { COST }, COST_SCALE)
        }
        kind => kind.clone(),
    };
    Field::new(&column.name, kind, true)
}

/// Values in the type in which they are written.
fn written(values: &ArrayRef, kind: &DataType) -> Result<ArrayRef, Refusal> {
    match (values.data_type(), kind) {
        (DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Timestamp(_, Some(zone))) => {
            let times: &TimestampMicrosecondArray = values.as_primitive();
            let times = times.clone().with_timezone(Arc::clone(zone));
            Ok(Arc::new(times))
        }
        (DataType::Int64, DataType::Decimal128(precision, scale)) => {
            let costs = values.as_primitive::<Int64Type>();
            let is_large = |pico: i64| pico.unsigned_abs() >= COST_LIMIT;
            if *precision == COST && costs.iter().flatten().any(is_large) {
                return Err(Refusal::Wide);
            }
            let costs: Decimal128Array = costs.unary(i128::from);
            let costs = costs.with_precision_and_scale(*precision, *scale);
            let costs = costs.map_err(|error| Error::Engine(Box::new(error)))?;
            Ok(Arc::new(costs))
        }
        _ => Ok(Arc::clone(values)),
    }
}

/// The bytes of each row's texts.
fn text_bytes(rows: &RecordBatch) -> Vec<usize> {
    let mut sizes = vec![0; rows.num_rows()];
    for values in rows.columns() {
        let views = match values.data_type() {
            DataType::Utf8View => values.as_string_view().views(),
            DataType::BinaryView => values.as_binary_view().views(),
            _ => continue,
        };
        // A view's length is in its lower half.
        for (row, (size, view)) in sizes.iter_mut().zip(views.iter()).enumerate() {
            if values.is_valid(row) {
                *size += usize::try_from(*view & u128::from(u32::MAX)).unwrap_or(0);
            }
        }
    }
    sizes
}

/// How files are encoded. Of 1 M generated runs in 600 files (processor seconds, before and after, two idle
/// cores): all documents 0.70 and 0.76, all runs by model 0.93 and 0.48.
fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(BY.to_owned())
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_compression(Compression::ZSTD(ZstdLevel::default()));
    for name in DISTINCT {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for column in [Column::StartTime, Column::EndTime, Column::FirstTokenTime] {
        let path = ColumnPath::from(column.name());
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    for name in LONG {
        let path = ColumnPath::from(name);
        properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        action: "cannot write",
        source,
    }
}

fn unencodable(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => unwritable(path, *error),
            Err(error) => Error::Engine(error),
        },
        error => unwritable(path, io::Error::other(error)),
    }
}
