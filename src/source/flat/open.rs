//! A file that is read from its first row group to its last.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{Fields, Schema};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::listing::FileRange;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::metrics::Count;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::codec::{Decompressor, Decompressors};
use super::group::{Chosen, Group, Place, Reading};
use super::other::Chunk;

/// A file that is about to be read.
pub(super) struct OpenFile {
    pub(super) reader: Box<dyn AsyncFileReader + Send>,
    pub(super) reading: Arc<Reading>,
    /// How its columns are given, of all that it has.
    pub(super) fields: Fields,
    /// The part of the file in which the row groups begin that are read.
    pub(super) range: Option<FileRange>,
    /// Rows that were looked at.
    pub(super) n_rows: Count,
    pub(super) decompressors: Decompressors,
}

impl OpenFile {
    /// Whether the file says in which pages which values lie.
    pub(super) async fn has_page_index(&mut self) -> Result<bool> {
        let file = footer(self.reader.as_mut()).await?;
        let mut groups = file.row_groups().iter();
        Ok(groups.any(|group| {
            let mut columns = group.columns().iter();
            columns.any(|column| column.offset_index_offset().is_some())
        }))
    }

    async fn begin(self) -> Result<Rows> {
        let Self {
            mut reader,
            reading,
            fields,
            range,
            n_rows,
            decompressors,
        } = self;
        let file = footer(reader.as_mut()).await?;
        let schema = file.file_metadata().schema_descr();
        let roots = (0..schema.num_columns()).map(|leaf| schema.get_column_root_idx(leaf));
        let roots: Vec<usize> = roots.collect();
        let leaves = reading.columns.iter().map(|column| match column.place {
            // The leaves of a column lie side by side.
            Place::File { root } => {
                roots.partition_point(|of| *of < root)..roots.partition_point(|of| *of <= root)
            }
            Place::Numbers => 0..0,
        });
        let leaves = leaves.collect();
        let groups = row_groups(&file, range.as_ref(), &reading, &fields);
        Ok(Rows {
            decompressor: decompressors.take(),
            decompressors,
            reader,
            reading,
            leaves,
            fields,
            file,
            groups,
            group: None,
            n_read: n_rows,
        })
    }
}

/// A file's footer, without the page indexes, which nobody looks at who reads whole columns.
async fn footer(reader: &mut dyn AsyncFileReader) -> Result<Arc<ParquetMetaData>> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
    Ok(reader.get_metadata(Some(&options)).await?)
}

/// The row groups in a part of a file that may hold wanted rows, and the number of the first row of each.
fn row_groups(
    file: &ParquetMetaData,
    range: Option<&FileRange>,
    reading: &Reading,
    fields: &Fields,
) -> VecDeque<(usize, i64)> {
    let is_in_range = |group: &RowGroupMetaData| {
        let first = group.columns().first();
        let start = first.map(|column| {
            let dictionary = column.dictionary_page_offset();
            dictionary.unwrap_or_else(|| column.data_page_offset())
        });
        let range = range.zip(start);
        range.is_none_or(|(range, start)| range.contains(start))
    };
    let mut number = 0;
    let mut chosen = VecDeque::new();
    for (index, group) in file.row_groups().iter().enumerate() {
        if group.num_rows() > 0 && is_in_range(group) {
            chosen.push_back((index, number));
        }
        number += group.num_rows().max(0);
    }
    if chosen.len() > 1
        && let Some(may_hold) = may_hold(file, reading, fields)
    {
        chosen.retain(|(index, _)| may_hold.get(*index).copied().unwrap_or(true));
    }
    chosen
}

/// Which row groups may hold rows for which the condition holds; `None` where nothing tells.
fn may_hold(file: &ParquetMetaData, reading: &Reading, fields: &Fields) -> Option<Vec<bool>> {
    let (condition, _) = reading.condition.as_ref()?;
    let schema = Arc::new(Schema::new(fields.clone()));
    let predicate = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(&schema))
        .try_build(Arc::clone(condition))
        .ok()?;
    let facts = Facts {
        file,
        schema: &schema,
    };
    predicate.prune(&facts).ok()
}

/// What a footer says of its row groups.
struct Facts<'a> {
    file: &'a ParquetMetaData,
    schema: &'a Schema,
}

impl Facts<'_> {
    fn of(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let descriptor = self.file.file_metadata().schema_descr();
        StatisticsConverter::try_new(&column.name, self.schema, descriptor).ok()
    }
}

impl PruningStatistics for Facts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column)?.row_group_mins(self.file.row_groups()).ok()
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let facts = self.of(column)?;
        facts.row_group_maxes(self.file.row_groups()).ok()
    }

    fn num_containers(&self) -> usize {
        self.file.num_row_groups()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let facts = self.of(column)?;
        let counts = facts.row_group_null_counts(self.file.row_groups()).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let groups = self.file.row_groups().iter();
        let counts = groups.map(|group| u64::try_from(group.num_rows()).ok());
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenFile")
    }
}

impl MorselPlanner for OpenFile {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_morsels(vec![self])))
    }
}

impl Morsel for OpenFile {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let rows = stream::once(self.begin());
        let batches = rows.map_ok(|rows| stream::try_unfold(rows, Rows::next));
        batches.try_flatten().boxed()
    }
}

/// The rows of a file that are still to be read.
struct Rows {
    reader: Box<dyn AsyncFileReader + Send>,
    reading: Arc<Reading>,
    /// Those in each of its columns, in the order of leaves.
    leaves: Vec<Range<usize>>,
    fields: Fields,
    file: Arc<ParquetMetaData>,
    groups: VecDeque<(usize, i64)>,
    group: Option<Group>,
    n_read: Count,
    decompressor: Decompressor,
    decompressors: Decompressors,
}

impl Rows {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(group) = &mut self.group {
                if let Some(batch) = group.next(&mut self.decompressor)? {
                    return Ok(Some((batch, self)));
                }
                self.n_read.add(group.n_rows());
                self.group = None;
            }
            let Some((index, first_number)) = self.groups.pop_front() else {
                self.decompressors.give_back(self.decompressor);
                return Ok(None);
            };
            let chunks = self.chunks(index).await?;
            let chosen = Chosen {
                file: &self.file,
                group: index,
                fields: &self.fields,
                leaves: &self.leaves,
                first_number,
            };
            self.group = Some(Group::new(Arc::clone(&self.reading), &chosen, &chunks)?);
        }
    }

    /// The bytes of a row group's columns that are read, by the number of the column.
    async fn chunks(&mut self, group: usize) -> Result<Vec<Option<Chunk>>> {
        let group = self.file.row_group(group);
        let mut leaves: Vec<usize> = self.leaves.iter().cloned().flatten().collect();
        leaves.sort_unstable();
        let ranges = leaves.iter().map(|leaf| {
            let (start, length) = group.column(*leaf).byte_range();
            start..start.saturating_add(length)
        });
        let ranges: Vec<_> = ranges.collect();
        let starts: Vec<u64> = ranges.iter().map(|range| range.start).collect();
        let mut chunks: Vec<Option<Chunk>> = vec![None; group.num_columns()];
        if ranges.is_empty() {
            return Ok(chunks);
        }
        let parts = self.reader.get_byte_ranges(ranges).await?;
        for ((leaf, start), bytes) in leaves.into_iter().zip(starts).zip(parts) {
            if let Some(chunk) = chunks.get_mut(leaf) {
                *chunk = Some(Chunk { start, bytes });
            }
        }
        Ok(chunks)
    }
}
