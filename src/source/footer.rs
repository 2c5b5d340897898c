//! What a file's footer says of its runs: their number, columns, time range, project and tenant; or that
//! its rows are tallies.
//!
//! A fact is given only where the footer proves it for every row: statistics that are missing or
//! shortened prove nothing. What a footer proves need not be read from the rows. A footer that cannot be
//! true (columns outside of the file, numbers of rows that differ, page indexes that contradict it) is an
//! error before anything is read by what it says.

mod schemas;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataOptions,
    ParquetMetaDataReader, ParquetStatisticsPolicy, RowGroupMetaData,
};
use datafusion::parquet::file::statistics::Statistics;
use uuid::Uuid;

use schemas::Columns;
pub(crate) use schemas::Schemas;

use super::indexes;
use super::tallies::METADATA;
use super::thrift;

/// What a file of Parquet begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// The bytes of the magic and of the footer's length at a file's end.
const TAIL_LENGTH: usize = 8;
const TAIL_BYTES: u64 = TAIL_LENGTH as u64;
/// How much of a file's end is read at first, of small files and of large ones; most footers are shorter.
const END_BYTES: [u64; 2] = [16 << 10, 64 << 10];
/// A footer and the page indexes before it are mostly shorter than one of so many parts of a file.
const PARTS: u64 = 8;

/// A file's footer, reduced to what is needed.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    /// The number of runs.
    pub(crate) n_rows: u64,
    /// The bytes of all columns before they are compressed.
    pub(crate) n_bytes: u64,
    /// The file's columns as they come without any hint of the writer's.
    pub(crate) schema: SchemaRef,
    /// What it says of tallies, where its rows are such.
    pub(crate) tallies: Option<String>,
    columns: Vec<ColumnFacts>,
    /// All of them, also those that count as absent.
    pub(crate) written: SchemaRef,
    /// Columns that are there, but were not read as nobody looks at them.
    unread: Vec<&'static str>,
}

/// What the footer proves of one column.
#[derive(Debug, Clone, Default)]
struct ColumnFacts {
    /// Whether no row has a value.
    all_null: bool,
    /// How many rows have none.
    n_null: Option<u64>,
    /// Whether every row group says its least and its greatest value.
    is_bounded: bool,
    /// The one value of all rows, where it is a UUID.
    uuid: Option<Uuid>,
    /// The earliest and the latest value, in microseconds rounded down, where all rows have one.
    range_us: Option<(i64, i64)>,
}

impl Footer {
    /// Reads the footer of a file, keeping it in `cache` for the scan that follows.
    pub(crate) async fn read(
        store: &dyn ObjectStore,
        object: &ObjectMeta,
        cache: Arc<FileMetadataCache>,
        schemas: &Schemas,
    ) -> Result<Self> {
        if let Some(known) = cache.get(&object.location)
            && known.is_valid_for(object)
            && let Some(metadata) = known.file_metadata.as_any().downcast_ref()
        {
            let metadata: &CachedParquetMetaData = metadata;
            let metadata = metadata.parquet_metadata();
            let descriptor = metadata.file_metadata().schema_descr_ptr();
            return Ok(Self::new(metadata, &*schemas.described(&descriptor)?));
        }
        let (metadata, columns) = metadata(store, object, schemas).await?;
        let footer = Self::new(&metadata, &columns);
        let entry = Arc::new(CachedParquetMetaData::new(Arc::new(metadata)));
        cache.put(
            &object.location,
            CachedFileMetadataEntry::new(object.clone(), entry),
        );
        Ok(footer)
    }

    fn new(metadata: &ParquetMetaData, columns: &Columns) -> Self {
        let file = metadata.file_metadata();
        let Columns { schema, leaves } = columns;
        let groups: Vec<_> = metadata
            .row_groups()
            .iter()
            .filter(|group| group.num_rows() > 0)
            .collect();
        let columns = schema.fields().iter().zip(leaves).map(|(field, leaf)| {
            leaf.map_or_else(ColumnFacts::default, |leaf| {
                ColumnFacts::of(&groups, leaf, field.data_type())
            })
        });
        let says = file.key_value_metadata().into_iter().flatten();
        let mut of_tallies = says.filter(|entry| entry.key == METADATA);
        Self {
            tallies: of_tallies
                .next()
                .map(|entry| entry.value.clone().unwrap_or_default()),
            n_rows: groups
                .iter()
                .filter_map(|group| u64::try_from(group.num_rows()).ok())
                .sum(),
            n_bytes: groups
                .iter()
                .filter_map(|group| u64::try_from(group.total_byte_size()).ok())
                .fold(0, u64::saturating_add),
            columns: columns.collect(),
            written: Arc::clone(schema),
            schema: Arc::clone(schema),
            unread: Vec::new(),
        }
    }

    /// Whether another file's columns are the same, as far as is known without looking at them.
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.schema, &other.schema) && Arc::ptr_eq(&self.written, &other.written)
    }

    /// The same, as if the file lacked some columns.
    pub(crate) fn without(self, absent: &[&str]) -> Self {
        let kept = self.schema.fields().iter().zip(self.columns);
        let kept = kept.filter(|(field, _)| !absent.contains(&field.name().as_str()));
        let (fields, columns): (Vec<FieldRef>, _) = kept
            .map(|(field, facts)| (Arc::clone(field), facts))
            .unzip();
        Self {
            schema: Arc::new(Schema::new(fields)),
            columns,
            ..self
        }
    }

    /// The same, of a file that has columns which were not read.
    pub(crate) fn with_unread(self, unread: &[&'static str]) -> Self {
        Self {
            unread: unread.to_vec(),
            ..self
        }
    }

    /// Whether the file has the column, though nobody was to look at it.
    pub(crate) fn is_unread(&self, column: &str) -> bool {
        self.unread.contains(&column)
    }

    /// Whether the file has the column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.schema.fields().find(column).is_some()
    }

    /// Whether the footer proves that no row has a value there.
    pub(crate) fn all_null(&self, column: &str) -> bool {
        self.facts(column).is_some_and(|facts| facts.all_null)
    }

    /// How many rows have no value there, where the footer says it.
    pub(crate) fn n_null(&self, column: &str) -> Option<u64> {
        self.facts(column)?.n_null
    }

    /// Whether the footer says between which values the column's lie.
    pub(crate) fn is_bounded(&self, column: &str) -> bool {
        self.facts(column).is_some_and(|facts| facts.is_bounded)
    }

    /// The one UUID that all rows have there, where the footer proves it.
    pub(crate) fn uuid(&self, column: &str) -> Option<Uuid> {
        self.facts(column)?.uuid
    }

    /// The first and the last moment there, in microseconds, where the footer proves them.
    pub(crate) fn range_us(&self, column: &str) -> Option<(i64, i64)> {
        self.facts(column)?.range_us
    }

    fn facts(&self, column: &str) -> Option<&ColumnFacts> {
        let (index, _) = self.schema.fields().find(column)?;
        self.columns.get(index)
    }
}

/// Reads and checks a footer, and says which columns the file has.
async fn metadata(
    store: &dyn ObjectStore,
    object: &ObjectMeta,
    schemas: &Schemas,
) -> Result<(ParquetMetaData, Arc<Columns>)> {
    let size = object.size;
    if size < MAGIC.len() as u64 + TAIL_BYTES {
        return Err(damaged(format!("it has only {size} bytes")));
    }
    let magic = MAGIC.len() as u64;
    let [least, most] = END_BYTES;
    let n_end = (size / PARTS).clamp(least, most);
    let ranges = [0..magic, size.saturating_sub(n_end)..size];
    let mut ends = store.get_ranges(&object.location, &ranges).await?;
    let (Some(end), Some(begin)) = (ends.pop(), ends.pop()) else {
        return Err(damaged("it cannot be read"));
    };
    let tail = end.last_chunk().map(FooterTail::try_new);
    let tail = tail.ok_or_else(|| damaged("its end is missing"))??;
    if tail.is_encrypted_footer() {
        return Err(damaged("it is encrypted"));
    }
    if begin != MAGIC {
        return Err(damaged("it does not begin with PAR1"));
    }
    let length = tail.metadata_length() as u64;
    let first = (size - TAIL_BYTES).checked_sub(length);
    let Some(first) = first.filter(|first| *first >= magic) else {
        return Err(damaged(format!(
            "its footer should have {length} bytes, the whole file has {size}"
        )));
    };
    let before_tail = end.len().saturating_sub(TAIL_LENGTH);
    let bytes = if let Some(first) = before_tail.checked_sub(tail.metadata_length()) {
        end.slice(first..before_tail)
    } else {
        let range = first..size - TAIL_BYTES;
        store.get_range(&object.location, range).await?
    };
    let list = thrift::at_columns(&bytes).map_err(damaged)?;
    let list = list.ok_or_else(|| damaged("its footer does not say which columns it has"))?;
    let known = schemas.of(&bytes, list)?;
    let after_columns = list.get(known.written.len()..).unwrap_or_default();
    thrift::check_groups(after_columns, &known.leaves).map_err(damaged)?;
    // Nobody looks at which pages are written how, nor at how long texts are.
    let options = ParquetMetaDataOptions::new()
        .with_schema(Arc::clone(&known.descriptor))
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let metadata = ParquetMetaDataReader::decode_metadata_with_options(&bytes, Some(&options))?;
    check(&metadata, magic..first).map_err(damaged)?;
    let end_at = size - end.len() as u64;
    indexes::check(&metadata, end_at, &end).map_err(damaged)?;
    Ok((metadata, Arc::clone(&known.columns)))
}

/// Checks that a footer's row groups agree with each other and lie in the file's part for them, each
/// column in a place of its own.
fn check(metadata: &ParquetMetaData, inside: Range<u64>) -> Result<(), String> {
    let mut n_rows: i64 = 0;
    let mut places: Vec<Range<u64>> = Vec::new();
    // Rows are numbered by them.
    let mut ordinals = BTreeSet::new();
    for group in metadata.row_groups() {
        if group
            .ordinal()
            .is_some_and(|ordinal| !ordinals.insert(ordinal))
        {
            return Err("its footer gives two row groups the same number".to_owned());
        }
        n_rows = (group.num_rows() >= 0)
            .then(|| n_rows.checked_add(group.num_rows()))
            .flatten()
            .ok_or("its footer counts impossible numbers of rows")?;
        if group.num_rows() == 0 {
            continue;
        }
        for column in group.columns() {
            let name = || column.column_path().string();
            let is_flat = column.column_descr().max_rep_level() == 0;
            let n_values = column.num_values();
            if n_values < 0 || (is_flat && n_values != group.num_rows()) {
                return Err(format!(
                    "column {}: its footer says {n_values} values in {} rows",
                    name(),
                    group.num_rows()
                ));
            }
            let all = places_of(column).ok_or_else(|| elsewhere(&name()))?;
            for place in all.into_iter().flatten() {
                if place.start < inside.start || place.end > inside.end {
                    return Err(elsewhere(&name()));
                }
                places.push(place);
            }
        }
    }
    if n_rows != metadata.file_metadata().num_rows() {
        return Err(format!(
            "its footer says {} rows, its row groups {n_rows}",
            metadata.file_metadata().num_rows()
        ));
    }
    places.sort_unstable_by_key(|place| (place.start, place.end));
    let overlap = places.windows(2).any(|pair| match pair {
        [one, next] => next.start < one.end,
        _ => false,
    });
    if overlap {
        return Err("its footer says that columns lie in one place".to_owned());
    }
    Ok(())
}

fn elsewhere(column: &str) -> String {
    format!("column {column}: its footer says that it lies outside of the file's data")
}

/// Where a column's pages lie, and what is known of them.
fn places_of(column: &ColumnChunkMetaData) -> Option<[Option<Range<u64>>; 3]> {
    let place = |start: i64, length: i64| {
        let start = u64::try_from(start).ok()?;
        let end = start.checked_add(u64::try_from(length).ok()?)?;
        Some(start..end)
    };
    let first = column.data_page_offset();
    let start = column.dictionary_page_offset().unwrap_or(first);
    let pages = place(start, column.compressed_size())?;
    u64::try_from(first).ok().filter(|at| pages.contains(at))?;
    let index = |offset: Option<i64>, length: Option<i32>| match (offset, length) {
        (Some(offset), Some(length)) => place(offset, i64::from(length)).map(Some),
        (None, None) => Some(None),
        _ => None,
    };
    Some([
        Some(pages),
        index(column.column_index_offset(), column.column_index_length())?,
        index(column.offset_index_offset(), column.offset_index_length())?,
    ])
}

fn damaged(problem: impl Into<String>) -> DataFusionError {
    ParquetError::General(problem.into()).into()
}

impl ColumnFacts {
    fn of(groups: &[&RowGroupMetaData], leaf: usize, kind: &DataType) -> Self {
        let statistics: Option<Vec<(&Statistics, i64)>> = groups
            .iter()
            .map(|group| Some((group.columns().get(leaf)?.statistics()?, group.num_rows())))
            .collect();
        let Some(statistics) = statistics else {
            return Self::default();
        };
        let null_counts = || statistics.iter().map(|(facts, _)| facts.null_count_opt());
        let all_null = !statistics.is_empty()
            && statistics.iter().all(|(facts, n_rows)| {
                facts.null_count_opt().and_then(|n| i64::try_from(n).ok()) == Some(*n_rows)
            });
        let has_bounds =
            |facts: &Statistics| facts.min_bytes_opt().is_some() && facts.max_bytes_opt().is_some();
        let mut facts = Self {
            all_null,
            n_null: null_counts().sum(),
            is_bounded: statistics.iter().all(|(facts, _)| has_bounds(facts)),
            ..Self::default()
        };
        if facts.n_null == Some(0) {
            facts.uuid = one_uuid(statistics.iter().map(|(facts, _)| *facts), kind);
            facts.range_us = range(statistics.iter().map(|(facts, _)| *facts), kind);
        }
        facts
    }
}

/// The UUID that every row group has as its least and its greatest value. Bounds may be shortened by
/// the writer, but two equal bounds leave one value between them.
fn one_uuid<'a>(statistics: impl Iterator<Item = &'a Statistics>, kind: &DataType) -> Option<Uuid> {
    let mut one = None;
    for facts in statistics {
        let (min, max) = (facts.min_bytes_opt()?, facts.max_bytes_opt()?);
        if min != max || one.is_some_and(|one| one != min) {
            return None;
        }
        one = Some(min);
    }
    if matches!(kind, DataType::FixedSizeBinary(_)) {
        return Uuid::from_slice(one?).ok();
    }
    let text = std::str::from_utf8(one?).ok()?;
    Uuid::try_parse(text.trim_matches('"')).ok()
}

fn range<'a>(
    mut statistics: impl Iterator<Item = &'a Statistics>,
    kind: &DataType,
) -> Option<(i64, i64)> {
    let DataType::Timestamp(unit, _) = kind else {
        return None;
    };
    statistics.try_fold(None, |range: Option<(i64, i64)>, facts| {
        let Statistics::Int64(values) = facts else {
            return None;
        };
        let min = floor_us(*values.min_opt()?, *unit)?;
        let max = floor_us(*values.max_opt()?, *unit)?;
        let (first, last) = range.unwrap_or((min, max));
        Some(Some((first.min(min), last.max(max))))
    })?
}

fn floor_us(time: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => time.checked_mul(1_000_000),
        TimeUnit::Millisecond => time.checked_mul(1_000),
        TimeUnit::Microsecond => Some(time),
        TimeUnit::Nanosecond => Some(time.div_euclid(1_000)),
    }
}
