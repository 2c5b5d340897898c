//! The table over files: one physical shape, many files, constants a file, a number a row.
//!
//! It hands the engine exactly the files that a source chose, each with the values that its path or
//! its footer proves for all its rows. Nothing here knows what a run is.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::parquet::arrow::RowNumber;
use datafusion::physical_plan::ExecutionPlan;

use super::flat::FlatSource;
use super::gather::GatherExec;
use super::pages::CheckingReaders;

/// Files of fewer bytes have no more than some hundreds of rows.
const SMALL_FILE_BYTES: u64 = 512 << 10;
/// So many small files are worth to gather their rows.
const MANY_FILES: usize = 64;

/// Files of one shape as a table: their columns, then the constants, then the number of a row in its file.
#[derive(Debug)]
pub(crate) struct FileTable {
    schema: TableSchema,
    /// The same without the rows' numbers: for each row group of a file the reader prepares to number those
    /// of all.
    unnumbered: TableSchema,
    files: Vec<PartitionedFile>,
}

impl FileTable {
    /// A table of files that all have `columns` (among others), each with a value for each constant, and
    /// a column `row`, which numbers the rows of a file from 0.
    pub(crate) fn new(
        columns: SchemaRef,
        constants: Vec<FieldRef>,
        row: &str,
        files: Vec<PartitionedFile>,
    ) -> Self {
        let row = Field::new(row, DataType::Int64, false).with_extension_type(RowNumber);
        let unnumbered = TableSchema::builder(columns).with_table_partition_cols(constants);
        Self {
            unnumbered: unnumbered.clone().build(),
            schema: unnumbered.with_virtual_columns(vec![Arc::new(row)]).build(),
            files,
        }
    }

    /// The files, largest first, dealt out so that every partition has about the same bytes to read.
    fn groups(&self, n_partitions: usize) -> Vec<FileGroup> {
        let mut files = self.files.clone();
        // What is sorted is small, other than files.
        files.sort_by_cached_key(|file| std::cmp::Reverse(file.object_meta.size));
        let mut groups = vec![(0, FileGroup::default()); n_partitions.clamp(1, files.len().max(1))];
        for file in files {
            let least = groups.iter_mut().min_by_key(|(bytes, _)| *bytes);
            if let Some((bytes, group)) = least {
                *bytes += file.object_meta.size;
                group.push(file);
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Rows are filtered as they are read.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::local_filesystem();
        let runtime = state.runtime_env();
        let page_bytes_max = match runtime.memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / state.config().target_partitions().max(1),
            _ => usize::MAX,
        };
        let readers = Arc::new(CheckingReaders::new(
            runtime.object_store(&url)?,
            runtime.cache_manager.get_file_metadata_cache(),
            page_bytes_max,
        ));
        let source = |schema: &TableSchema| {
            ParquetSource::new(schema.clone())
                .with_table_parquet_options(TableParquetOptions {
                    global: state.config_options().execution.parquet.clone(),
                    ..TableParquetOptions::default()
                })
                .with_parquet_file_reader_factory(Arc::clone(&readers) as _)
        };
        let condition = conjunction(filters.iter().cloned());
        let condition = condition.map(|condition| {
            let schema = DFSchema::try_from(self.schema())?;
            state.create_physical_expr(condition, &schema)
        });
        let source = FlatSource::new(
            source(&self.unnumbered),
            source(&self.schema),
            Arc::clone(&readers) as _,
            condition.transpose()?,
        );
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_projection_indices(projection.cloned())?
            .with_file_groups(self.groups(state.config().target_partitions()))
            .with_limit(limit)
            .build();
        let scan = DataSourceExec::from_data_source(config);
        let n_bytes: u64 = self.files.iter().map(|file| file.object_meta.size).sum();
        let n_files = self.files.len();
        let are_small = n_bytes / (n_files as u64).max(1) < SMALL_FILE_BYTES;
        if limit.is_none() && n_files >= MANY_FILES && are_small {
            let batch_rows = state.config().batch_size();
            return Ok(Arc::new(GatherExec::new(scan, batch_rows)));
        }
        Ok(scan)
    }
}
