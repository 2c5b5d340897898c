//! The columns that footers list: worked out once for all files that list the same.

use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::basic::Type as PhysicalType;
use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use datafusion::parquet::schema::types::{SchemaDescPtr, SchemaDescriptor};

use super::{Footer, damaged};
use crate::source::thrift::{self, Leaf};

/// Among so many of the latest schemas the same one is looked for.
const N_LATEST: usize = 8;

/// What footers say of their files' columns: thousands of files of an export say the same, which is worked
/// out once.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    known: Mutex<Vec<Arc<KnownColumns>>>,
    shared: Mutex<Vec<SchemaRef>>,
}

#[derive(Debug)]
pub(super) struct KnownColumns {
    /// As a footer lists them.
    pub(super) written: Vec<u8>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) descriptor: SchemaDescPtr,
    pub(super) columns: Arc<Columns>,
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    /// The leaf that is the column itself. Those in a column prove nothing of it.
    pub(super) leaves: Vec<Option<usize>>,
}

impl Schemas {
    /// The columns of a file by its footer, which lists them here.
    pub(super) fn of(&self, footer: &[u8], list: &[u8]) -> Result<Arc<KnownColumns>> {
        if let Some(known) = self.latest(|known| list.starts_with(&known.written)) {
            return Ok(known);
        }
        let (leaves, length) = thrift::columns(list).map_err(damaged)?;
        let descriptor = ParquetMetaDataReader::decode_schema(footer)?;
        // What was read is what stands here: other files with the same bytes are taken to have the same.
        let paths = descriptor.columns().iter().map(|leaf| leaf.path().parts());
        let is_same = |(path, leaf): (&[String], &Leaf)| path.iter().map(String::as_bytes).eq(leaf);
        if paths.len() != leaves.len() || !paths.zip(&leaves).all(is_same) {
            return Err(damaged("its footer lists its columns in two ways"));
        }
        let new = Arc::new(KnownColumns {
            written: list.get(..length).unwrap_or_default().to_vec(),
            leaves,
            columns: Arc::new(Columns::of(&descriptor)?),
            descriptor,
        });
        if let Ok(mut known) = self.known.lock() {
            known.push(Arc::clone(&new));
        }
        Ok(new)
    }

    /// The columns of a file whose footer was read before.
    pub(super) fn described(&self, descriptor: &SchemaDescPtr) -> Result<Arc<Columns>> {
        match self.latest(|known| Arc::ptr_eq(&known.descriptor, descriptor)) {
            Some(known) => Ok(Arc::clone(&known.columns)),
            None => Columns::of(descriptor).map(Arc::new),
        }
    }

    fn latest(&self, is_it: impl Fn(&KnownColumns) -> bool) -> Option<Arc<KnownColumns>> {
        let known = self.known.lock().ok()?;
        let mut latest = known.iter().rev().take(N_LATEST);
        latest.find(|known| is_it(known)).cloned()
    }

    /// Lets a footer have schemas that are equal to its own from others.
    pub(crate) fn share(&self, footer: &mut Footer) {
        let Ok(mut known) = self.shared.lock() else {
            return;
        };
        for schema in [&mut footer.schema, &mut footer.written] {
            let latest = known.iter().rev().take(N_LATEST);
            match latest.into_iter().find(|known| *known == schema) {
                Some(same) => *schema = Arc::clone(same),
                None => known.push(Arc::clone(schema)),
            }
        }
    }
}

impl Columns {
    fn of(descriptor: &SchemaDescriptor) -> Result<Self> {
        let schema = parquet_to_arrow_schema(descriptor, None)?;
        let leaf_of = |name: &str| {
            let mut leaves = descriptor.columns().iter();
            leaves.position(|leaf| leaf.path().parts().len() == 1 && leaf.name() == name)
        };
        let leaves = schema.fields().iter().map(|field| leaf_of(field.name()));
        let leaves: Vec<Option<usize>> = leaves.collect();
        // Nanoseconds of 96 bits do not fit into 64: the reader gives them as microseconds.
        let fields = schema.fields().iter().zip(&leaves).map(|(field, leaf)| {
            let leaf = leaf.and_then(|leaf| descriptor.columns().get(leaf));
            if leaf.is_some_and(|leaf| leaf.physical_type() == PhysicalType::INT96) {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
                Arc::new(field.as_ref().clone().with_data_type(micros))
            } else {
                Arc::clone(field)
            }
        });
        Ok(Self {
            schema: Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>())),
            leaves,
        })
    }
}
