//! The columns of a row group that only the crate's reader knows how to read.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Fields;
use datafusion::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use datafusion::parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use datafusion::parquet::column::page::{PageIterator, PageReader};
use datafusion::parquet::errors::{ParquetError, Result};
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::parquet::file::serialized_reader::SerializedPageReader;

/// Bytes of a file from a place on.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Chunk {
    fn from(&self, start: u64) -> Result<Bytes> {
        let start = start.checked_sub(self.start);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let start = start.filter(|start| *start <= self.bytes.len());
        let start = start.ok_or_else(|| outside(self))?;
        Ok(self.bytes.slice(start..))
    }
}

fn outside(chunk: &Chunk) -> ParquetError {
    ParquetError::EOF(format!(
        "a page lies outside of {} bytes",
        chunk.bytes.len()
    ))
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(outside(self));
        }
        Ok(bytes.slice(..length))
    }
}

/// A row group of which some columns are in memory.
struct Group<'a> {
    file: &'a ParquetMetaData,
    facts: &'a RowGroupMetaData,
    /// By the number of the column.
    chunks: &'a [Option<Chunk>],
    n_rows: usize,
}

/// The only pages of a column.
struct Once(Option<Result<Box<dyn PageReader>>>);

impl Iterator for Once {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take()
    }
}

impl PageIterator for Once {}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        self.n_rows
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let chunk = self.chunks.get(leaf).and_then(Option::as_ref);
        let (Some(chunk), Some(column)) = (chunk, self.facts.columns().get(leaf)) else {
            return Err(ParquetError::General(format!("column {leaf} was not read")));
        };
        let pages = SerializedPageReader::new(Arc::new(chunk.clone()), column, self.n_rows, None)?;
        Ok(Box::new(Once(Some(Ok(Box::new(pages))))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.facts))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.file
    }
}

/// Some columns of a row group, so many rows at a time.
pub(super) struct OtherColumns(ParquetRecordBatchReader);

impl OtherColumns {
    /// The columns of `roots`, in the order of the file, given as `hint` says.
    pub(super) fn new(
        file: &ParquetMetaData,
        group: &RowGroupMetaData,
        chunks: &[Option<Chunk>],
        (roots, hint): (&[usize], &Fields),
        n_rows_at_once: usize,
    ) -> Result<Self> {
        let schema = file.file_metadata().schema_descr();
        let mask = ProjectionMask::roots(schema, roots.iter().copied());
        let levels: FieldLevels = parquet_to_arrow_field_levels(schema, mask, Some(hint))?;
        let rows = Group {
            file,
            facts: group,
            chunks,
            n_rows: usize::try_from(group.num_rows())?,
        };
        let reader = ParquetRecordBatchReader::try_new_with_row_groups(
            &levels,
            &rows,
            n_rows_at_once,
            None,
        )?;
        Ok(Self(reader))
    }

    /// The next rows of the columns.
    pub(super) fn next(&mut self) -> Result<RecordBatch> {
        match self.0.next() {
            Some(batch) => Ok(batch?),
            None => Err(ParquetError::EOF("its columns end early".to_owned())),
        }
    }
}

impl std::fmt::Debug for OtherColumns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OtherColumns")
    }
}
