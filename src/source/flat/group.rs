//! The wanted rows of a row group: what the condition looks at is read first, then the rest, of those rows
//! for which it holds.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::compute::{concat, filter, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::Projector;

use super::codec::Decompressor;
use super::column::{FlatColumn, Found, Wanted, is_readable};
use super::other::{Chunk, OtherColumns};
use super::told::Told;

/// Texts of so many bytes are handed on, though few rows have been gathered.
const TEXT_BYTES: usize = 8 << 20;
/// The bytes of all columns that are looked at together, where a row has many.
const WINDOW_BYTES: usize = 32 << 20;
/// So many batches of rows are looked at together at most, where few of them are wanted: each column is
/// turned to less often.
const WINDOW_BATCHES: usize = 8;

/// Which columns of a file are read, and what for.
#[derive(Debug)]
pub(super) struct Reading {
    /// The columns that are read.
    pub(super) columns: Vec<ReadColumn>,
    /// What must hold of a row, over the columns that it looks at.
    pub(super) condition: Option<(Arc<dyn PhysicalExpr>, SchemaRef)>,
    /// What becomes of the columns that are given.
    pub(super) projector: Projector,
    /// The columns that are given.
    pub(super) given: SchemaRef,
    /// Rows at once.
    pub(super) batch_rows: usize,
    /// The rows that were last looked at together in a row group: the next one is likely to be alike.
    pub(super) window_rows: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct ReadColumn {
    pub(super) place: Place,
    /// The type of its values.
    pub(super) kind: DataType,
    /// Whether the condition looks at it.
    pub(super) is_tested: bool,
    /// Whether it is given.
    pub(super) is_given: bool,
    /// What is given in its stead, where it is.
    pub(super) told: Option<Told>,
}

/// Where a column comes from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The numbers of rows in the file.
    Numbers,
    /// A column of the file, by its place among those at the top.
    File { root: usize },
}

/// Where the values of a column come from.
enum Source {
    Numbers,
    Flat(Box<FlatColumn>),
    /// A column of the crate's reader.
    Other(usize),
}

/// A column that is read, and what of it is gathered, apart from what it gathers itself.
struct Column {
    source: Source,
    /// Of each column that is given for it.
    parts: Vec<Vec<ArrayRef>>,
}

/// The rows of a row group that are read.
pub(super) struct Group {
    reading: Arc<Reading>,
    /// Those of the reading.
    columns: Vec<Column>,
    others: Option<OtherColumns>,
    n_rows: usize,
    next_row: usize,
    /// The number of its first row in the file.
    first_number: i64,
    /// The rows that are looked at together next, and at most.
    window_rows: usize,
    window_rows_max: usize,
    n_gathered: usize,
    /// What was told of texts takes, with what is left of these.
    n_told_bytes: usize,
    rows: Vec<u32>,
    found: Found,
}

/// A file, and which of its row groups is read.
pub(super) struct Chosen<'a> {
    pub(super) file: &'a ParquetMetaData,
    pub(super) group: usize,
    /// How the crate's reader gives its columns.
    pub(super) fields: &'a Fields,
    /// The leaves in each of the columns that are read, in the order of leaves.
    pub(super) leaves: &'a [Range<usize>],
    /// The number of the row group's first row.
    pub(super) first_number: i64,
}

fn damaged(problem: impl Into<String>) -> DataFusionError {
    ParquetError::General(problem.into()).into()
}

impl Group {
    /// A row group whose columns' bytes are there.
    pub(super) fn new(
        reading: Arc<Reading>,
        chosen: &Chosen<'_>,
        chunks: &[Option<Chunk>],
    ) -> Result<Self> {
        let group = chosen.file.row_group(chosen.group);
        let n_rows = usize::try_from(group.num_rows()).map_err(|_| damaged("too many rows"))?;
        let mut others = Vec::new();
        let mut columns = Vec::new();
        for (column, leaves) in reading.columns.iter().zip(chosen.leaves) {
            let source = match column.place {
                Place::Numbers => Source::Numbers,
                Place::File { root } => {
                    if let Some(flat) = flat(chosen, &column.kind, leaves.clone(), chunks)? {
                        Source::Flat(Box::new(flat))
                    } else {
                        others.push(root);
                        Source::Other(root)
                    }
                }
            };
            columns.push(Column {
                source,
                parts: vec![Vec::new(); column.told.as_ref().map_or(1, Told::n_columns)],
            });
        }
        // The crate's reader gives them in the order of the file.
        others.sort_unstable();
        for column in &mut columns {
            if let Source::Other(root) = &mut column.source {
                *root = others.partition_point(|other| other < root);
            }
        }
        let read_leaves = chosen.leaves.iter().cloned().flatten();
        let n_bytes: i64 = read_leaves
            .filter_map(|leaf| Some(group.columns().get(leaf)?.uncompressed_size().max(0)))
            .fold(0, i64::saturating_add);
        let row_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX) / n_rows.max(1);
        let batch_rows = reading.batch_rows.max(1);
        let fitting_rows = (WINDOW_BYTES / row_bytes.max(1)).max(1);
        let window_rows = fitting_rows.min(batch_rows);
        let others = if others.is_empty() {
            None
        } else {
            let which = (others.as_slice(), chosen.fields);
            Some(OtherColumns::new(
                chosen.file,
                group,
                chunks,
                which,
                window_rows,
            )?)
        };
        // That reader gives as many rows each time.
        let window_rows_max = match &others {
            None => fitting_rows.min(WINDOW_BATCHES * batch_rows),
            Some(_) => window_rows,
        };
        let window_rows = match reading.window_rows.load(Ordering::Relaxed) {
            0 => window_rows,
            before => before.min(window_rows_max),
        };
        Ok(Self {
            reading,
            columns,
            others,
            n_rows,
            next_row: 0,
            first_number: chosen.first_number,
            window_rows,
            window_rows_max,
            n_gathered: 0,
            n_told_bytes: 0,
            rows: Vec::new(),
            found: Found::default(),
        })
    }

    /// How many rows it has.
    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The next rows for which the condition holds; `None` where there are no more.
    pub(super) fn next(&mut self, decompressor: &mut Decompressor) -> Result<Option<RecordBatch>> {
        while self.next_row < self.n_rows {
            let n = self.window_rows.min(self.n_rows - self.next_row);
            self.window(n, decompressor)?;
            let texts = self.columns.iter().map(|column| match &column.source {
                Source::Flat(flat) => flat.n_text_bytes(),
                _ => 0,
            });
            let n_text_bytes = texts.sum::<usize>() + self.n_told_bytes;
            let is_enough = self.n_gathered >= self.reading.batch_rows || n_text_bytes > TEXT_BYTES;
            if self.n_gathered > 0 && (is_enough || self.next_row == self.n_rows) {
                return self.gathered().map(Some);
            }
        }
        Ok(None)
    }

    /// Reads the next `n` rows and gathers the wanted ones.
    fn window(&mut self, n: usize, decompressor: &mut Decompressor) -> Result<()> {
        let mut others: Vec<ArrayRef> = Vec::new();
        if let Some(reader) = &mut self.others {
            let batch = reader.next()?;
            if batch.num_rows() != n {
                return Err(damaged("its columns have different numbers of rows"));
            }
            others = batch.columns().to_vec();
        }
        let first = self.first_number + i64::try_from(self.next_row).unwrap_or(0);
        let last = first + i64::try_from(n).unwrap_or(0);
        let mut tested = Vec::new();
        let columns = self.columns.iter_mut().zip(&self.reading.columns);
        for (column, read) in columns.filter(|(_, read)| read.is_tested) {
            let array = match &mut column.source {
                Source::Numbers => Arc::new(Int64Array::from_iter_values(first..last)) as ArrayRef,
                Source::Flat(flat) => flat
                    .read(n, Wanted::All, decompressor, &mut self.found, None)
                    .and_then(|()| flat.finish())
                    .map_err(|problem| flat.damaged(&problem))?,
                Source::Other(place) => other(&others, *place, &read.kind)?,
            };
            tested.push(array);
        }
        self.next_row += n;
        let mask = self.test(n, &tested)?;
        let wanted = match &mask {
            None => Wanted::All,
            Some(mask) => {
                self.rows.clear();
                self.rows.extend(mask.values().set_indices_u32());
                Wanted::Rows(&self.rows)
            }
        };
        let n_wanted = match wanted {
            Wanted::All => n,
            Wanted::Rows(rows) => rows.len(),
        };
        let mut tested = tested.into_iter();
        for (column, read) in self.columns.iter_mut().zip(&self.reading.columns) {
            let tested = if read.is_tested { tested.next() } else { None };
            let window = match (&mut column.source, tested) {
                (_, Some(array)) => array,
                (Source::Flat(flat), None) => {
                    let mut done = Ok(());
                    let mut tell = read.told.as_ref().map(|told| {
                        |texts| match told.tell(texts, &mut column.parts) {
                            Ok(n_bytes) => self.n_told_bytes += n_bytes,
                            Err(problem) if done.is_ok() => done = Err(problem),
                            Err(_) => {}
                        }
                    });
                    let each = tell.as_mut().map(|tell| tell as &mut dyn FnMut(ArrayRef));
                    flat.read(n, wanted, decompressor, &mut self.found, each)
                        .map_err(|problem| flat.damaged(&problem))?;
                    done?;
                    continue;
                }
                (Source::Numbers, None) => {
                    Arc::new(Int64Array::from_iter_values(first..last)) as ArrayRef
                }
                (Source::Other(place), None) => other(&others, *place, &read.kind)?,
            };
            if read.is_given && n_wanted > 0 {
                let window = match &mask {
                    None => window,
                    Some(mask) => filter(&window, mask)?,
                };
                if let Some(told) = &read.told {
                    self.n_told_bytes += told.tell(window, &mut column.parts)?;
                    continue;
                }
                if let Some(parts) = column.parts.first_mut() {
                    parts.push(window);
                }
            }
        }
        self.n_gathered += n_wanted;
        if 2 * n_wanted <= self.reading.batch_rows {
            self.window_rows = self.window_rows_max.min(2 * self.window_rows);
        } else if n_wanted > self.reading.batch_rows {
            self.window_rows = self.window_rows.div_ceil(2);
        }
        let before = &self.reading.window_rows;
        before.store(self.window_rows, Ordering::Relaxed);
        Ok(())
    }

    /// For which rows the condition holds; `None` where it does for all.
    fn test(&self, n: usize, tested: &[ArrayRef]) -> Result<Option<BooleanArray>> {
        let Some((condition, schema)) = &self.reading.condition else {
            return Ok(None);
        };
        let rows = rows(schema, tested.to_vec(), n)?;
        let mask = condition.evaluate(&rows)?.into_array(n)?;
        let mask = mask.as_boolean();
        let mask = match mask.null_count() {
            0 => mask.clone(),
            _ => prep_null_mask_filter(mask),
        };
        let holds_for_all = mask.true_count() == n;
        Ok(Some(mask).filter(|_| !holds_for_all))
    }

    fn gathered(&mut self) -> Result<RecordBatch> {
        let n = std::mem::take(&mut self.n_gathered);
        self.n_told_bytes = 0;
        let mut given = Vec::new();
        for (column, read) in self.columns.iter_mut().zip(&self.reading.columns) {
            if !read.is_given {
                continue;
            }
            if let (Source::Flat(flat), false, None) =
                (&mut column.source, read.is_tested, &read.told)
            {
                given.push(flat.finish().map_err(|problem| flat.damaged(&problem))?);
                continue;
            }
            for parts in &mut column.parts {
                let parts = std::mem::take(parts);
                given.push(match parts.as_slice() {
                    [part] => Arc::clone(part),
                    parts => {
                        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                        concat(&parts)?
                    }
                });
            }
        }
        let given = rows(&self.reading.given, given, n)?;
        self.reading.projector.project_batch(&given)
    }
}

/// A column of a file that is read here; `None` where only the crate's reader can.
fn flat(
    chosen: &Chosen<'_>,
    kind: &DataType,
    mut leaves: Range<usize>,
    chunks: &[Option<Chunk>],
) -> Result<Option<FlatColumn>> {
    let group = chosen.file.row_group(chosen.group);
    let (Some(leaf), None) = (leaves.next(), leaves.next()) else {
        return Ok(None);
    };
    let column = group.columns().get(leaf);
    let chunk = chunks.get(leaf).and_then(Option::as_ref);
    let (Some(column), Some(chunk)) = (column, chunk) else {
        return Ok(None);
    };
    if !is_readable(column, kind) {
        return Ok(None);
    }
    FlatColumn::new(column, kind, chunk.bytes.clone()).map_err(|problem| {
        damaged(format!(
            "column {}: {problem}",
            column.column_path().string()
        ))
    })
}

/// A column of the crate's reader, which gives texts where bytes are asked for.
fn other(others: &[ArrayRef], place: usize, kind: &DataType) -> Result<ArrayRef> {
    let array = others.get(place);
    let array = array.ok_or_else(|| damaged("a column was not read"))?;
    Ok(match (array.as_string_view_opt(), kind) {
        (Some(texts), DataType::BinaryView) => Arc::new(texts.clone().to_binary_view()),
        _ => Arc::clone(array),
    })
}

fn rows(schema: &Arc<Schema>, columns: Vec<ArrayRef>, n: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(n));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}
