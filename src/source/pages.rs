//! The reader of a file's columns, with a look at each page's header before it is decoded.
//!
//! A page says how many bytes and values it holds, and the parquet crate reserves memory for as many.
//! What cannot be true is an error here; so is a column whose pages hold other values than the footer
//! says. What is read of a file always lies inside of it. A page that may be true but does not fit into
//! the memory limit is no fault of the file: that is an error of its own.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::basic::{Compression, Type as PhysicalType};
use datafusion::parquet::errors::{ParquetError, Result};
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::thrift::{self, PageHeader, PageKind};

/// The name of the measure that counts the bytes of columns that were read.
const N_BYTES_READ: &str = "bytes_scanned";

// The encodings of texts that begin with the number of their values.
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;

/// Makes readers that look at pages before they are decoded.
#[derive(Debug)]
pub(super) struct CheckingReaders {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    page_bytes_max: u64,
}

impl CheckingReaders {
    /// Readers of the files in a store whose footers are kept, for pages that take no more than
    /// `page_bytes_max` bytes of memory.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        footers: Arc<FileMetadataCache>,
        page_bytes_max: usize,
    ) -> Self {
        Self {
            store,
            footers,
            page_bytes_max: u64::try_from(page_bytes_max).unwrap_or(u64::MAX),
        }
    }
}

impl ParquetFileReaderFactory for CheckingReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> EngineResult<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(CheckingReader {
            store: Arc::clone(&self.store),
            footers: Arc::clone(&self.footers),
            path: file.extension::<ShownPath>().cloned(),
            object: file.object_meta,
            n_bytes: MetricBuilder::new(metrics).counter(N_BYTES_READ, partition),
            page_bytes_max: self.page_bytes_max,
            columns: Columns::default(),
        }))
    }
}

/// A file's path as an error should show it, attached to the file.
#[derive(Debug, Clone)]
pub(super) struct ShownPath(pub(super) PathBuf);

struct CheckingReader {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    object: ObjectMeta,
    path: Option<ShownPath>,
    /// Bytes of columns that were read.
    n_bytes: Count,
    page_bytes_max: u64,
    columns: Columns,
}

/// What is wrong with a page.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// What it says cannot be true.
    Damage(String),
    /// It may be true, but needs more memory than there is.
    Memory(String),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Damage(problem)
    }
}

impl From<&str> for Problem {
    fn from(problem: &str) -> Self {
        Self::Damage(problem.to_owned())
    }
}

impl CheckingReader {
    fn check_range(&self, range: &Range<u64>) -> Result<()> {
        if range.start > range.end || range.end > self.object.size {
            return Err(damaged("something in it points outside of the file"));
        }
        Ok(())
    }

    /// Checks the pages that lie in a part of the file.
    fn check_pages(&self, range: &Range<u64>, bytes: &[u8]) -> Result<()> {
        let Some(column) = self.columns.at(range) else {
            return Ok(());
        };
        let is_whole = column.byte_range() == (range.start, range.end - range.start);
        let pages = check_pages(column, is_whole, bytes, self.page_bytes_max);
        let name = || column.column_path().string();
        pages.map_err(|problem| match problem {
            Problem::Damage(problem) => damaged(&format!("column {}: {problem}", name())),
            Problem::Memory(problem) => {
                let path = self.path.as_ref();
                let path = path.map(|ShownPath(path)| format!("{}: ", path.display()));
                let problem = format!("{}column {}: {problem}", path.unwrap_or_default(), name());
                ParquetError::External(Box::new(DataFusionError::ResourcesExhausted(problem)))
            }
        })
    }
}

/// Where in a file which column lies.
#[derive(Default)]
struct Columns {
    file: Option<Arc<ParquetMetaData>>,
    /// Where a column of a row group begins, the row group, the column; by where they begin.
    starts: Vec<(u64, usize, usize)>,
}

impl Columns {
    fn of(file: Arc<ParquetMetaData>) -> Self {
        let groups = file.row_groups().iter().enumerate();
        // Of groups without rows the footer may say anything.
        let groups = groups.filter(|(_, group)| group.num_rows() > 0);
        let starts = groups.flat_map(|(number, group)| {
            let columns = group.columns().iter().enumerate();
            columns.map(move |(index, column)| (column.byte_range().0, number, index))
        });
        let mut starts: Vec<_> = starts.collect();
        starts.sort_unstable();
        Self {
            file: Some(file),
            starts,
        }
    }

    /// The column that a part of the file belongs to, where it belongs to one.
    fn at(&self, range: &Range<u64>) -> Option<&ColumnChunkMetaData> {
        let n_before = self
            .starts
            .partition_point(|(start, ..)| *start <= range.start);
        let (_, group, column) = self.starts.get(n_before.checked_sub(1)?)?;
        let group = self.file.as_ref()?.row_groups().get(*group)?;
        let column = group.columns().get(*column)?;
        let (start, length) = column.byte_range();
        (range.end <= start.saturating_add(length)).then_some(column)
    }
}

impl AsyncFileReader for CheckingReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let mut all = self.get_byte_ranges(vec![range]).await?;
            all.pop().ok_or_else(|| damaged("nothing of it was read"))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            for range in &ranges {
                self.check_range(range)?;
            }
            let all = self.store.get_ranges(&self.object.location, &ranges).await;
            let all = all.map_err(|error| ParquetError::External(Box::new(error)))?;
            self.n_bytes.add(all.iter().map(Bytes::len).sum());
            for (range, bytes) in ranges.iter().zip(&all) {
                self.check_pages(range, bytes)?;
            }
            Ok(all)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let policy = options.map(ArrowReaderOptions::column_index_policy);
            let metadata = DFParquetMetadata::new(self.store.as_ref(), &self.object)
                .with_file_metadata_cache(Some(Arc::clone(&self.footers)))
                .with_page_index_policy(policy)
                .fetch_metadata()
                .await
                .map_err(|error| ParquetError::External(Box::new(error)))?;
            self.columns = Columns::of(Arc::clone(&metadata));
            Ok(metadata)
        }
        .boxed()
    }
}

fn damaged(problem: &str) -> ParquetError {
    ParquetError::General(problem.to_owned())
}

/// Checks the pages of a column, of all of it or of a part.
fn check_pages(
    column: &ColumnChunkMetaData,
    is_whole: bool,
    mut bytes: &[u8],
    page_bytes_max: u64,
) -> std::result::Result<(), Problem> {
    let n_there = u64::try_from(column.num_values()).unwrap_or(0);
    let mut n_values = 0;
    while !bytes.is_empty() && n_values < n_there {
        let (page, length) = thrift::page_header(bytes)?;
        let after = bytes.get(length..).unwrap_or_default();
        let compressed = usize::try_from(page.compressed).ok();
        let parts = compressed.and_then(|length| after.split_at_checked(length));
        let (body, rest) = parts.ok_or("a page ends outside of the column")?;
        check_page(&page, column, body, page_bytes_max)?;
        if page.kind != PageKind::Dictionary {
            n_values += page.n_values;
        }
        bytes = rest;
    }
    if n_values > n_there || (is_whole && n_values < n_there) {
        return Err(Problem::Damage(format!(
            "its pages hold {n_values} values, its footer says {n_there}"
        )));
    }
    Ok(())
}

fn check_page(
    page: &PageHeader,
    column: &ColumnChunkMetaData,
    body: &[u8],
    page_bytes_max: u64,
) -> std::result::Result<(), Problem> {
    let claims = || {
        format!(
            "a page of {} bytes claims to hold {}",
            page.compressed, page.uncompressed
        )
    };
    let is_compressed = column.compression() != Compression::UNCOMPRESSED && page.is_compressed;
    let most = match column.compression() {
        _ if !is_compressed => page.compressed,
        compression => expanded_max(compression, page.compressed),
    };
    if page.uncompressed > most {
        return Err(Problem::Damage(claims()));
    }
    if page.uncompressed > page_bytes_max {
        // Codecs that can make anything of a few bytes prove nothing; what all pages have together does.
        let in_column = u64::try_from(column.uncompressed_size()).unwrap_or(0);
        if page.uncompressed > in_column {
            return Err(Problem::Damage(format!(
                "{}, its footer says {in_column} for all pages",
                claims()
            )));
        }
        return Err(Problem::Memory(format!(
            "a page takes {} bytes, a thread may take {page_bytes_max} for one",
            page.uncompressed
        )));
    }
    if page.kind == PageKind::Dictionary {
        let width = value_bytes_min(column);
        if page.n_values.saturating_mul(width) > page.uncompressed {
            return Err(Problem::Damage(format!(
                "a dictionary of {} bytes claims to hold {} values",
                page.uncompressed, page.n_values
            )));
        }
    }
    let counts_itself = matches!(page.encoding, DELTA_LENGTH_BYTE_ARRAY | DELTA_BYTE_ARRAY);
    if counts_itself && !is_compressed {
        check_delta_count(page, column, body)?;
    }
    Ok(())
}

/// The most bytes that a codec can make of some; what is not known is left to the memory limit.
fn expanded_max(compression: Compression, compressed: u64) -> u64 {
    let ratio = match compression {
        // Two or three bytes copy 64.
        Compression::SNAPPY => 32,
        // Two bits copy 258 bytes.
        Compression::GZIP(_) => 1_040,
        // One byte copies 255.
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        _ => return u64::MAX,
    };
    compressed.saturating_mul(ratio).saturating_add(64)
}

/// The fewest bytes that a value takes in a dictionary.
fn value_bytes_min(column: &ColumnChunkMetaData) -> u64 {
    match column.column_type() {
        PhysicalType::BOOLEAN => 0,
        PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            u64::try_from(column.column_descr().type_length()).unwrap_or(0)
        }
    }
}

/// Texts in these encodings begin with: values a block, blocks, values.
fn check_delta_count(
    page: &PageHeader,
    column: &ColumnChunkMetaData,
    body: &[u8],
) -> std::result::Result<(), String> {
    let descriptor = column.column_descr();
    let has_levels = descriptor.max_def_level() > 0 || descriptor.max_rep_level() > 0;
    let values = match page.levels {
        Some(levels) => usize::try_from(levels)
            .ok()
            .and_then(|levels| body.get(levels..)),
        None if !has_levels => Some(body),
        None => after_levels(
            body,
            [descriptor.max_rep_level(), descriptor.max_def_level()],
        ),
    };
    let count = values
        .and_then(thrift::varint)
        .and_then(|(_, rest)| thrift::varint(rest))
        .and_then(|(_, rest)| thrift::varint(rest));
    match count {
        Some((n_values, _)) if n_values > page.n_values => Err(format!(
            "a page of {} values claims to hold {n_values} texts",
            page.n_values
        )),
        _ => Ok(()),
    }
}

/// Each kind of levels that a column has begins with its length in four bytes.
fn after_levels(mut body: &[u8], levels_max: [i16; 2]) -> Option<&[u8]> {
    for _ in levels_max.into_iter().filter(|max| *max > 0) {
        let (length, rest) = body.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        body = rest.get(length..)?;
    }
    Some(body)
}
