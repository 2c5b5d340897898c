//! What a file's footer says of its runs: their number, columns, time range, project and tenant.
//!
//! A fact is given only where the footer proves it for every row: statistics that are missing or
//! shortened prove nothing. What a footer proves need not be read from the rows.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::basic::Type as PhysicalType;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::statistics::Statistics;
use uuid::Uuid;

/// A file's footer, reduced to what is needed.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    /// The number of runs.
    pub(crate) n_rows: u64,
    /// The file's columns as they come without any hint of the writer's.
    pub(crate) schema: SchemaRef,
    columns: Vec<ColumnFacts>,
}

/// What the footer proves of one column.
#[derive(Debug, Clone, Default)]
struct ColumnFacts {
    /// Whether no row has a value.
    all_null: bool,
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
    ) -> Result<Self> {
        let metadata = DFParquetMetadata::new(store, object)
            .with_metadata_size_hint(Some(64 * 1024))
            .with_file_metadata_cache(Some(cache))
            .with_page_index_policy(Some(PageIndexPolicy::Skip))
            .fetch_metadata()
            .await?;
        Self::new(&metadata)
    }

    fn new(metadata: &ParquetMetaData) -> Result<Self> {
        let file = metadata.file_metadata();
        let schema = parquet_to_arrow_schema(file.schema_descr(), None)?;
        let groups: Vec<_> = metadata
            .row_groups()
            .iter()
            .filter(|group| group.num_rows() > 0)
            .collect();
        let leaves = file.schema_descr().columns();
        let is_int96 = |name: &str| {
            leaves.iter().any(|leaf| {
                leaf.name() == name
                    && leaf.path().parts().len() == 1
                    && leaf.physical_type() == PhysicalType::INT96
            })
        };
        // Nanoseconds of 96 bits do not fit into 64: the reader gives them as microseconds.
        let fields = schema.fields().iter().map(|field| {
            if is_int96(field.name()) {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
                Arc::new(field.as_ref().clone().with_data_type(micros))
            } else {
                Arc::clone(field)
            }
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()));
        let columns = schema.fields().iter().map(|field| {
            // A leaf of the same name at the top is the column itself; nested ones prove nothing.
            let leaf = leaves.iter().position(|leaf| {
                leaf.path().parts().len() == 1 && leaf.name() == field.name().as_str()
            });
            leaf.map_or_else(ColumnFacts::default, |leaf| {
                ColumnFacts::of(&groups, leaf, field.data_type())
            })
        });
        Ok(Self {
            n_rows: groups
                .iter()
                .filter_map(|group| u64::try_from(group.num_rows()).ok())
                .sum(),
            columns: columns.collect(),
            schema,
        })
    }

    /// Whether the file has the column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.schema.index_of(column).is_ok()
    }

    /// Whether the footer proves that no row has a value there.
    pub(crate) fn all_null(&self, column: &str) -> bool {
        self.facts(column).is_some_and(|facts| facts.all_null)
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
        self.columns.get(self.schema.index_of(column).ok()?)
    }
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
            is_bounded: statistics.iter().all(|(facts, _)| has_bounds(facts)),
            ..Self::default()
        };
        if null_counts().all(|n_nulls| n_nulls == Some(0)) {
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
