//! The scan of files: the rows for which a condition holds, of the columns that are asked for.
//!
//! Flat columns are decoded here, from the pages that the crate's reader would decode: those that the
//! condition looks at first, of the others only the rows for which it holds. Three quarters of an export
//! are runs that a document does not look at. A column of which the type, the encoding or the codec is
//! another is read by the crate's reader, beside the others; so is a file whose page index tells where
//! the few wanted pages lie.

mod bits;
mod codec;
mod column;
mod group;
mod indexed;
mod open;
mod other;
mod packed;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod told;
mod values;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::{Fields, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as EngineResult, ScalarValue, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::ObjectStore;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_expr_adapter::replace_columns_with_literals;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion_datasource::file_groups::{FileGroup, FileGroupPartitioner};
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};

use codec::Decompressors;
use group::{Place, ReadColumn, Reading};
use indexed::{After, AfterPlanner};
use open::OpenFile;
use told::{Given, Told};

/// What is wrong with a page, without the name of its column.
type Result<T> = std::result::Result<T, Cow<'static, str>>;

/// The name of the measure that counts the rows that were looked at.
pub(crate) const N_ROWS_READ: &str = "rows_read";

/// Parts of files are even where the largest is above the mean by no more than one in so many.
const N_UNEVEN: u64 = 32;

/// So many rows are read at once where fewer are asked for.
const FEWEST_ROWS: usize = 256;

/// Of a file only some rows are in the window: those that its page index may tell apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut;

/// The files of a table, their columns, a condition on their rows.
#[derive(Clone)]
pub(super) struct FlatSource {
    /// The files' columns, their constants, the number of a row.
    schema: TableSchema,
    /// The crate's reader, which also holds the measures; and one that numbers rows.
    unnumbered: ParquetSource,
    numbered: ParquetSource,
    readers: Arc<dyn ParquetFileReaderFactory>,
    projection: ProjectionExprs,
    condition: Option<Arc<dyn PhysicalExpr>>,
    batch_rows: usize,
}

impl FlatSource {
    /// A scan by the crate's reader, and the one that numbers rows, for the files that these must read.
    pub(super) fn new(
        unnumbered: ParquetSource,
        numbered: ParquetSource,
        readers: Arc<dyn ParquetFileReaderFactory>,
        condition: Option<Arc<dyn PhysicalExpr>>,
    ) -> Self {
        let schema = numbered.table_schema().clone();
        let all: Vec<usize> = (0..schema.table_schema().fields().len()).collect();
        Self {
            projection: ProjectionExprs::from_indices(&all, schema.table_schema()),
            schema,
            unnumbered,
            numbered,
            readers,
            condition,
            batch_rows: 8_192,
        }
    }

    /// The numbers of the table's columns that are read.
    fn read(&self) -> Vec<usize> {
        let mut columns = self.projection.column_indices();
        if let Some(condition) = &self.condition {
            let of_condition = collect_columns(condition).into_iter();
            columns.extend(of_condition.map(|column| column.index()));
        }
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The parts of the condition that look at the number of a row, or those that do not.
    fn parts(&self, of_row: bool) -> Vec<Arc<dyn PhysicalExpr>> {
        let row = self.schema.table_schema().fields().len() - 1;
        let is_of_row = |part: &Arc<dyn PhysicalExpr>| {
            let mut columns = collect_columns(part).into_iter();
            columns.any(|column| column.index() == row)
        };
        let parts = self.condition.iter().flat_map(split_conjunction);
        let parts = parts.filter(|part| is_of_row(part) == of_row);
        parts.cloned().collect()
    }

    /// A reader that leaves out what statistics prove not to be wanted: they know no number of a row.
    fn pruning(&self, reader: ParquetSource) -> ParquetSource {
        let parts = self.parts(false);
        if parts.is_empty() {
            return reader;
        }
        reader.with_predicate(conjunction(parts))
    }

    /// What to do with files of which only some pages are read.
    fn after(&self, config: &FileScanConfig) -> EngineResult<(Arc<dyn FileSource>, After)> {
        let read = self.read();
        let whole = self.schema.table_schema();
        let row = whole.fields().len() - 1;
        let reader = if read.contains(&row) {
            &self.numbered
        } else {
            &self.unnumbered
        };
        let reader = self.pruning(reader.clone());
        let reader = reader.with_batch_size(self.batch_rows);
        let given = reader.table_schema().table_schema();
        let columns = ProjectionExprs::from_indices(&read, given);
        let Some(reader) = reader.try_pushdown_projection(&columns)? else {
            return internal_err!("the reader of Parquet takes no columns");
        };
        let rows = Arc::new(whole.project(&read)?);
        let condition = self.condition.clone();
        let condition = condition.map(|condition| reassign_expr_columns(condition, &rows));
        let projection = self.projection.clone();
        let projection = projection.try_map_exprs(|expr| reassign_expr_columns(expr, &rows))?;
        let config = FileScanConfigBuilder::from(config.clone())
            .with_source(Arc::clone(&reader))
            .with_limit(None)
            .build();
        let after = After::new(
            config,
            condition.transpose()?,
            projection.make_projector(&rows)?,
        );
        Ok((reader, after))
    }

    /// The places of the constants that are read, among a file's.
    fn read_constants(&self) -> Vec<usize> {
        let n_columns = self.schema.file_schema().fields().len();
        let of_table = self.read().into_iter();
        let constants = of_table.filter_map(|column| column.checked_sub(n_columns));
        let n_constants = self.schema.table_partition_cols().len();
        constants.filter(|place| *place < n_constants).collect()
    }

    /// How a file is read.
    fn reading(&self, file: &PartitionedFile) -> EngineResult<Reading> {
        let constants = self.schema.table_partition_cols().iter();
        let constants: HashMap<&str, &ScalarValue> = constants
            .map(|field| field.name().as_str())
            .zip(&file.partition_values)
            .collect();
        let own = |expr: Arc<dyn PhysicalExpr>| replace_columns_with_literals(expr, &constants);
        let condition = self.condition.clone().map(own).transpose()?;
        let projection = self.projection.clone().try_map_exprs(own)?;
        let names = |expr: &Arc<dyn PhysicalExpr>| -> Vec<usize> {
            let columns = collect_columns(expr).into_iter();
            columns.map(|column| column.index()).collect()
        };
        let tested = condition.as_ref().map(names).unwrap_or_default();
        let is_given = projection.column_indices();
        let mut read = [tested.as_slice(), &is_given].concat();
        read.sort_unstable();
        read.dedup();
        let whole = self.schema.table_schema();
        let mut given = Given::new(&projection, &tested, whole)?;
        let fields = file.arrow_schema.as_ref();
        let columns = read.iter().map(|index| {
            let name = whole.field(*index).name();
            let root = fields.and_then(|fields| fields.fields().find(name));
            let place = match root {
                _ if *index == whole.fields().len() - 1 => Place::Numbers,
                Some((root, _)) => Place::File { root },
                None => return internal_err!("a file has no column {name}"),
            };
            let told = given.told.remove(index);
            let kind = whole.field(*index).data_type();
            Ok(ReadColumn {
                place,
                kind: told.as_ref().map_or(kind, Told::kind).clone(),
                is_tested: tested.contains(index),
                is_given: is_given.contains(index),
                told,
            })
        });
        let columns = columns.collect::<EngineResult<Vec<_>>>()?;
        let tested = read.iter().copied().filter(|index| tested.contains(index));
        let tested = Arc::new(whole.project(&tested.collect::<Vec<_>>())?);
        let condition = condition.map(|condition| {
            let condition = reassign_expr_columns(condition, &tested)?;
            Ok::<_, DataFusionError>((condition, tested))
        });
        Ok(Reading {
            columns,
            condition: condition.transpose()?,
            projector: given.projection.make_projector(&given.schema)?,
            given: given.schema,
            batch_rows: self.batch_rows,
            window_rows: AtomicUsize::new(0),
        })
    }
}

impl FileSource for FlatSource {
    fn create_file_opener(
        &self,
        _store: Arc<dyn ObjectStore>,
        _config: &FileScanConfig,
        _partition: usize,
    ) -> EngineResult<Arc<dyn FileOpener>> {
        internal_err!("files are read as morsels")
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> EngineResult<Box<dyn Morselizer>> {
        let n_rows = MetricBuilder::new(self.metrics()).counter(N_ROWS_READ, partition);
        let mut files = config.file_groups.iter().flat_map(FileGroup::iter);
        let indexed = if files.any(|file| file.extension::<Cut>().is_some()) {
            let (reader, after) = self.after(config)?;
            let reader = reader.create_morselizer(store, after.config(), partition)?;
            let after = after.counting(n_rows.clone());
            Some((Arc::from(reader), Arc::new(after)))
        } else {
            None
        };
        let mut source = self.clone();
        if let Some(n_asked) = config.limit {
            source.batch_rows = source.batch_rows.min(n_asked.max(FEWEST_ROWS));
        }
        Ok(Box::new(Files {
            read_constants: self.read_constants(),
            source,
            known: Mutex::default(),
            partition,
            indexed,
            n_rows,
            decompressors: Decompressors::default(),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, batch_rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Self {
            batch_rows,
            ..self.clone()
        })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.condition.clone()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.unnumbered.metrics()
    }

    fn file_type(&self) -> &'static str {
        "parquet"
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pruning(self.unnumbered.clone()).fmt_extra(kind, f)?;
        let of_row = self.parts(true);
        of_row.iter().try_for_each(|part| write!(f, ", row={part}"))
    }

    /// Files are cut where, whole, they cannot be dealt out evenly.
    fn repartitioned(
        &self,
        n_parts: usize,
        file_bytes_min: usize,
        order: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> EngineResult<Option<FileScanConfig>> {
        let sizes = config.file_groups.iter().map(|group| {
            let files = group.iter().map(PartitionedFile::effective_size);
            files.sum::<u64>()
        });
        let (sum, greatest) = sizes.fold((0, 0), |(sum, greatest): (u64, u64), size| {
            (sum + size, greatest.max(size))
        });
        let are_even =
            greatest.saturating_mul(n_parts as u64) <= sum.saturating_add(sum / N_UNEVEN);
        if are_even && config.file_groups.len() == n_parts {
            return Ok(None);
        }
        let groups = FileGroupPartitioner::new()
            .with_target_partitions(n_parts)
            .with_repartition_file_min_size(file_bytes_min)
            .with_preserve_order_within_groups(order.is_some())
            .repartition_file_groups(&config.file_groups);
        Ok(groups.map(|groups| {
            let mut config = config.clone();
            config.file_groups = groups;
            config
        }))
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> EngineResult<Option<Arc<dyn FileSource>>> {
        Ok(Some(Arc::new(Self {
            projection: self.projection.try_merge(projection)?,
            ..self.clone()
        })))
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        let projected = self.projection.iter().map(|projected| &projected.expr);
        for expr in self.condition.iter().chain(projected) {
            if visit(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

/// Opens the files of a partition.
struct Files {
    source: FlatSource,
    /// How files are read that were opened before.
    known: Mutex<Vec<Known>>,
    /// The places of the constants that are read, among a file's.
    read_constants: Vec<usize>,
    partition: usize,
    /// For those of which only some pages are read, where there are any.
    indexed: Option<(Arc<dyn Morselizer>, Arc<After>)>,
    /// Rows that were looked at.
    n_rows: Count,
    decompressors: Decompressors,
}

/// How files of some columns and constants are read.
struct Known {
    columns: Option<SchemaRef>,
    /// Those that are read.
    constants: Vec<ScalarValue>,
    reading: Arc<Reading>,
}

/// How so many kinds of files are read is known at most.
const N_KNOWN: usize = 16;

impl Files {
    /// How a file is read: worked out once for those that are alike.
    fn reading(&self, file: &PartitionedFile) -> EngineResult<Arc<Reading>> {
        let Ok(mut known) = self.known.lock() else {
            return self.source.reading(file).map(Arc::new);
        };
        let places = self.read_constants.iter();
        let constants = || {
            places
                .clone()
                .filter_map(|it| file.partition_values.get(*it))
        };
        let is_alike = |known: &&Known| {
            let columns = [&known.columns, &file.arrow_schema];
            let columns = columns.map(|columns| columns.as_ref().map(Arc::as_ptr));
            columns[0] == columns[1] && constants().eq(&known.constants)
        };
        if let Some(alike) = known.iter().find(is_alike) {
            return Ok(Arc::clone(&alike.reading));
        }
        let reading = Arc::new(self.source.reading(file)?);
        if known.len() == N_KNOWN {
            known.clear();
        }
        known.push(Known {
            columns: file.arrow_schema.clone(),
            constants: constants().cloned().collect(),
            reading: Arc::clone(&reading),
        });
        Ok(reading)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl Morselizer for Files {
    fn plan_file(&self, file: PartitionedFile) -> EngineResult<Box<dyn MorselPlanner>> {
        let reader = self.source.readers.create_reader(
            self.partition,
            file.clone(),
            None,
            self.source.metrics(),
        )?;
        let fields = file.arrow_schema.as_ref();
        let open = OpenFile {
            reader,
            reading: self.reading(&file)?,
            fields: fields.map_or_else(Fields::empty, |schema| schema.fields().clone()),
            range: file.range.clone(),
            n_rows: self.n_rows.clone(),
            decompressors: self.decompressors.clone(),
        };
        Ok(match &self.indexed {
            Some((indexed, after)) if file.extension::<Cut>().is_some() => Box::new(CutFile {
                open,
                file,
                indexed: Arc::clone(indexed),
                after: Arc::clone(after),
            }),
            _ => Box::new(open),
        })
    }
}

/// A file of which the window cuts off some rows.
struct CutFile {
    open: OpenFile,
    file: PartitionedFile,
    indexed: Arc<dyn Morselizer>,
    after: Arc<After>,
}

impl fmt::Debug for CutFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CutFile")
    }
}

impl MorselPlanner for CutFile {
    fn plan(self: Box<Self>) -> EngineResult<Option<MorselPlan>> {
        let Self {
            mut open,
            file,
            indexed,
            after,
        } = *self;
        let chosen = async move {
            let planner: Box<dyn MorselPlanner> = if open.has_page_index().await? {
                Box::new(AfterPlanner::new(indexed.plan_file(file)?, after))
            } else {
                Box::new(open)
            };
            Ok(planner)
        };
        Ok(Some(MorselPlan::new().with_pending_planner(chosen)))
    }
}
