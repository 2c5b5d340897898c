//! Runs → a temporary Parquet file with the columns of a bulk export.
//!
//! A row group is encoded by whoever has read its runs, and put into the file by one.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::parquet::arrow::ArrowSchemaConverter;
use datafusion::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves,
};
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::{ParquetError, Result};
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::types::ColumnPath;

use super::run::{COLUMNS, Kind, Run, Value};

/// Digits of a cost, and those after the point: pico-dollars.
const COST: (u8, i8) = (19, 12);

/// A Parquet file that grows by row groups.
pub(super) struct Table {
    file: SerializedFileWriter<File>,
}

/// What encodes row groups for it.
pub(super) struct Encoder {
    schema: SchemaRef,
    factory: ArrowRowGroupWriterFactory,
}

/// The runs of a row group, as columns.
pub(super) struct Rows {
    columns: Vec<Builder>,
    pub(super) n: usize,
    /// A bit for each column that any of them has.
    pub(super) present: u64,
}

enum Builder {
    Text(StringBuilder),
    Flag(BooleanBuilder),
    Whole(Int64Builder),
    Time(TimestampMicrosecondBuilder),
    Cost(Decimal128Builder),
}

/// Makes a file for the first `n_columns`.
pub(super) fn create(path: &Path, n_columns: usize) -> Result<(Table, Encoder)> {
    let fields = COLUMNS.iter().take(n_columns);
    let fields = fields.map(|(name, kind)| Field::new(*name, data_type(*kind), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let parquet = ArrowSchemaConverter::new().convert(&schema)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_dictionary_enabled(false)
        .set_offset_index_disabled(true)
        .set_statistics_enabled(datafusion::parquet::file::properties::EnabledStatistics::Chunk);
    for (name, kind) in COLUMNS {
        if matches!(kind, Kind::Json | Kind::Text) {
            let path = ColumnPath::from(name);
            properties = properties.set_column_compression(path, Compression::LZ4_RAW);
        }
        if kind == Kind::Word || ["name", "session_id", "tenant_id", "tags"].contains(&name) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), true);
        }
    }
    let file = File::create(path)?;
    let file = SerializedFileWriter::new(
        file,
        parquet.root_schema_ptr(),
        Arc::new(properties.build()),
    )?;
    let encoder = Encoder {
        factory: ArrowRowGroupWriterFactory::new(&file, Arc::clone(&schema)),
        schema,
    };
    Ok((Table { file }, encoder))
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Id | Kind::Text | Kind::Word | Kind::Json => DataType::Utf8,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Flag => DataType::Boolean,
        Kind::Whole => DataType::Int64,
        Kind::Cost => DataType::Decimal128(COST.0, COST.1),
    }
}

impl Table {
    /// Appends a row group.
    pub(super) fn append(&mut self, columns: Vec<ArrowColumnChunk>) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for column in columns {
            column.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Ends the file.
    pub(super) fn close(self) -> Result<()> {
        self.file.close().map(|_| ())
    }
}

impl Encoder {
    /// Encodes a row group; none where there is no run.
    pub(super) fn encode(&self, rows: Rows) -> Result<Option<Vec<ArrowColumnChunk>>> {
        if rows.n == 0 {
            return Ok(None);
        }
        let writers = self.factory.create_column_writers(0)?;
        let columns = self.schema.fields().iter().zip(rows.columns).zip(writers);
        let columns = columns.map(|((field, values), mut writer)| {
            let values = values.finish().map_err(ParquetError::from)?;
            for leaf in compute_leaves(field, &values)? {
                writer.write(&leaf)?;
            }
            writer.close()
        });
        columns.collect::<Result<_>>().map(Some)
    }
}

impl Rows {
    pub(super) fn new(n_columns: usize) -> Self {
        let columns = COLUMNS.iter().take(n_columns);
        Self {
            columns: columns.map(|(_, kind)| Builder::new(*kind)).collect(),
            n: 0,
            present: 0,
        }
    }

    pub(super) fn add(&mut self, run: &Run<'_>) {
        for (column, value) in self.columns.iter_mut().zip(&run.values) {
            column.append(value);
        }
        self.n += 1;
        self.present |= run.present;
    }
}

impl Builder {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Id | Kind::Text | Kind::Word | Kind::Json => Self::Text(StringBuilder::new()),
            Kind::Time => Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::Flag => Self::Flag(BooleanBuilder::new()),
            Kind::Whole => Self::Whole(Int64Builder::new()),
            Kind::Cost => Self::Cost(Decimal128Builder::new()),
        }
    }

    fn append(&mut self, value: &Value<'_>) {
        let number = match value {
            Value::Number(number) => Some(*number),
            _ => None,
        };
        match self {
            Self::Text(column) => column.append_option(match value {
                Value::Text(text) => Some(text.as_ref()),
                _ => None,
            }),
            Self::Flag(column) => column.append_option(match value {
                Value::Flag(flag) => Some(*flag),
                _ => None,
            }),
            Self::Whole(column) => column.append_option(number),
            Self::Time(column) => column.append_option(number),
            Self::Cost(column) => column.append_option(number.map(i128::from)),
        }
    }

    fn finish(self) -> std::result::Result<ArrayRef, datafusion::arrow::error::ArrowError> {
        Ok(match self {
            Self::Text(mut column) => Arc::new(column.finish()),
            Self::Flag(mut column) => Arc::new(column.finish()),
            Self::Whole(mut column) => Arc::new(column.finish()),
            Self::Time(mut column) => Arc::new(column.finish()),
            Self::Cost(mut column) => {
                Arc::new(column.finish().with_precision_and_scale(COST.0, COST.1)?)
            }
        })
    }
}
