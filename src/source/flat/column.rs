//! A flat column of a row group: its pages, one after another, of which only the wanted rows are decoded.

use std::ops::Range;

use bytes::Bytes;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::{Buffer, NullBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::parquet::basic::{Encoding, Type as PhysicalType};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::ColumnChunkMetaData;

use super::Result;
use super::bits::Bits;
use super::codec::{Codec, Decompressor};
use super::packed::{Differences, Runs, take};
use super::values::{FixedBytes, Places, Stored, Values};
use crate::source::thrift::{self, PageHeader, PageKind};

// The encodings of values.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const DELTA_BINARY_PACKED: i64 = 5;
const RLE_DICTIONARY: i64 = 8;

/// Rows of a window that are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    All,
    /// Their numbers in the window, rising.
    Rows(&'a [u32]),
}

/// A column of a row group that is read from its beginning to its end.
#[derive(Debug)]
pub(super) struct FlatColumn {
    name: String,
    kind: DataType,
    bytes: Bytes,
    codec: Codec,
    /// Whether a row may have no value.
    is_optional: bool,
    /// The pages to come, the next one last.
    pages: Vec<(PageHeader, Range<usize>)>,
    dictionary: Option<(PageHeader, Range<usize>)>,
    values: Values,
    /// The page that is read, decompressed, and where in it what is.
    page: Buffer,
    open: Option<Open>,
    /// The page that is read, while nothing of it was wanted, and how many of its rows were passed over.
    unopened: Option<(PageHeader, Range<usize>, usize)>,
    /// Rows of the page to come.
    n_left: usize,
    /// Which of the gathered rows have a value; nothing where all of them have.
    is_there: Option<Bits>,
    n_gathered: usize,
    /// Which rows of a step have a value.
    step: Bits,
}

/// Where the values of wanted rows lie among those of a step. Columns mostly lack them in the same rows as
/// the column before.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Which rows of the step have a value.
    step: Bits,
    /// The wanted ones, where not all are.
    rows: Option<Vec<u32>>,
    /// The place of each, or of one of the next.
    places: Vec<u32>,
    /// Which of them have a value.
    are_there: Bits,
}

impl Found {
    /// Finds those of some rows of a step of which `n_values` have a value, and some have none.
    fn find(&mut self, step: &Bits, rows: Option<&[u32]>, n_values: usize) -> Places<'_> {
        if self.rows.as_deref() != rows || self.step != *step {
            self.step.clone_from(step);
            match (rows, &mut self.rows) {
                (Some(rows), Some(before)) => rows.clone_into(before),
                (rows, before) => *before = rows.map(<[u32]>::to_vec),
            }
            if let Some(rows) = rows {
                step.choose(rows, &mut self.places, &mut self.are_there);
            } else {
                step.ranks(&mut self.places);
                self.are_there.clone_from(step);
            }
            // Of the rows after the last value.
            let last = u32::try_from(n_values.saturating_sub(1)).unwrap_or(u32::MAX);
            for place in &mut self.places {
                *place = last.min(*place);
            }
        }
        Places::Some {
            places: &self.places,
            are_there: Some(&self.are_there),
        }
    }
}

#[derive(Debug)]
struct Open {
    levels: Option<Runs>,
    stored: Stored,
}

impl Open {
    /// How many of the next `n` rows have a value, and, where only some do, which.
    fn n_values(&mut self, page: &[u8], n: usize, step: &mut Bits) -> Result<usize> {
        let Some(levels) = &mut self.levels else {
            return Ok(n);
        };
        if let Some(level) = levels.same(page, n)? {
            return Ok(if level == 0 { 0 } else { n });
        }
        step.clear();
        levels.read_bits(page, n, step)?;
        Ok(step.n_set())
    }
}

/// How the values of a column are gathered; `None` where only the crate's reader can.
fn values_of(column: &ColumnChunkMetaData, kind: &DataType) -> Option<Values> {
    use DataType as D;
    match (column.column_type(), kind) {
        (PhysicalType::BOOLEAN, D::Boolean) => Some(Values::Bools(Box::default())),
        (PhysicalType::INT32, D::Int32 | D::UInt32 | D::Date32) => {
            Some(Values::I32(Box::default()))
        }
        (PhysicalType::INT64, D::Int64 | D::UInt64 | D::Timestamp(..)) => {
            Some(Values::I64(Box::default()))
        }
        (PhysicalType::FLOAT, D::Float32) => Some(Values::F32(Box::default())),
        (PhysicalType::DOUBLE, D::Float64) => Some(Values::F64(Box::default())),
        (PhysicalType::FIXED_LEN_BYTE_ARRAY, D::FixedSizeBinary(width)) => {
            let length = column.column_descr().type_length();
            let width = usize::try_from(*width).ok()?;
            let is_so = width > 0 && usize::try_from(length) == Ok(width);
            is_so.then(|| Values::Bytes(Box::new(FixedBytes::new(width))))
        }
        (PhysicalType::BYTE_ARRAY, D::Utf8View) => Some(Values::Text(Box::default())),
        (PhysicalType::BYTE_ARRAY, D::BinaryView) => Some(Values::Binary(Box::default())),
        _ => None,
    }
}

/// Whether a column can be read here as arrays of a type, as far as the footer says.
pub(super) fn is_readable(column: &ColumnChunkMetaData, kind: &DataType) -> bool {
    let descriptor = column.column_descr();
    let is_flat = descriptor.max_rep_level() == 0
        && descriptor.max_def_level() <= 1
        && column.column_path().parts().len() == 1;
    let mut encodings = column.encodings();
    #[expect(
        deprecated,
        reason = "old writers name it for levels that no flat column has"
    )]
    let are_known = encodings.all(|encoding| {
        matches!(
            encoding,
            Encoding::PLAIN
                | Encoding::PLAIN_DICTIONARY
                | Encoding::RLE
                | Encoding::RLE_DICTIONARY
                | Encoding::BIT_PACKED
                | Encoding::DELTA_BINARY_PACKED
        )
    });
    is_flat
        && are_known
        && Codec::of(column.compression()).is_some()
        && values_of(column, kind).is_some()
}

impl FlatColumn {
    /// A column from its bytes in the file; `None` where a page is such that only the crate's reader knows
    /// how to read it.
    pub(super) fn new(
        column: &ColumnChunkMetaData,
        kind: &DataType,
        bytes: Bytes,
    ) -> Result<Option<Self>> {
        let codec = Codec::of(column.compression());
        let (Some(codec), Some(values)) = (codec, values_of(column, kind)) else {
            return Ok(None);
        };
        let n_rows = u64::try_from(column.num_values()).map_err(|error| error.to_string())?;
        let mut pages = Vec::new();
        let mut dictionary = None;
        let (mut at, mut n_values) = (0, 0);
        while n_values < n_rows {
            let rest = bytes.get(at..).unwrap_or_default();
            let (page, length) = thrift::page_header(rest)?;
            let start = at + length;
            let end = usize::try_from(page.compressed).ok();
            let end = end.and_then(|length| start.checked_add(length));
            at = end
                .filter(|end| *end <= bytes.len())
                .ok_or("a page ends outside of the column")?;
            match page.kind {
                PageKind::Dictionary if dictionary.is_none() && pages.is_empty() => {
                    if !matches!(page.encoding, PLAIN | PLAIN_DICTIONARY) {
                        return Ok(None);
                    }
                    dictionary = Some((page, start..at));
                }
                PageKind::Data => {
                    let are_known = match page.encoding {
                        PLAIN => true,
                        PLAIN_DICTIONARY | RLE_DICTIONARY => dictionary.is_some(),
                        RLE => matches!(values, Values::Bools(_)),
                        DELTA_BINARY_PACKED => matches!(values, Values::I32(_) | Values::I64(_)),
                        _ => false,
                    };
                    if !are_known || !page.has_run_levels {
                        return Ok(None);
                    }
                    n_values += page.n_values;
                    if page.n_values > 0 {
                        pages.push((page, start..at));
                    }
                }
                PageKind::Index => {}
                _ => return Ok(None),
            }
        }
        if n_values > n_rows {
            return Err("its pages hold more values than its footer says".into());
        }
        pages.reverse();
        Ok(Some(Self {
            name: column.column_path().string(),
            kind: kind.clone(),
            bytes,
            codec,
            is_optional: column.column_descr().max_def_level() > 0,
            pages,
            dictionary,
            values,
            page: Buffer::from_vec(Vec::<u8>::new()),
            open: None,
            unopened: None,
            n_left: 0,
            is_there: None,
            n_gathered: 0,
            step: Bits::default(),
        }))
    }

    /// Goes on by `n` rows and gathers those that are wanted, or gives them a page at a time, whose memory
    /// serves for the next one if nothing is left of it then.
    pub(super) fn read(
        &mut self,
        n: usize,
        wanted: Wanted<'_>,
        decompressor: &mut Decompressor,
        found: &mut Found,
        mut each: Option<&mut dyn FnMut(ArrayRef)>,
    ) -> Result<()> {
        self.values.reserve(match wanted {
            Wanted::All => n,
            Wanted::Rows(rows) => rows.len(),
        });
        let mut done = 0;
        let mut rest = wanted;
        let mut in_step = Vec::new();
        while done < n {
            if self.n_left == 0 {
                self.next_page()?;
            }
            let n_step = self.n_left.min(n - done);
            let step = match &mut rest {
                Wanted::All => Wanted::All,
                Wanted::Rows(rows) => {
                    let end = done + n_step;
                    let n_in_step = rows.partition_point(|row| (*row as usize) < end);
                    let (now, others) = rows.split_at(n_in_step);
                    *rows = others;
                    if done == 0 {
                        Wanted::Rows(now)
                    } else {
                        let first = u32::try_from(done).map_err(|error| error.to_string())?;
                        in_step.clear();
                        in_step.extend(now.iter().map(|row| row - first));
                        Wanted::Rows(&in_step)
                    }
                }
            };
            match step {
                Wanted::Rows([]) => self.pass(n_step)?,
                wanted => {
                    self.open_page(decompressor)?;
                    self.read_step(n_step, wanted, found)?;
                    if let Some(each) = &mut each {
                        each(self.finish()?);
                    }
                }
            }
            self.n_left -= n_step;
            done += n_step;
        }
        if self.n_left == 0 && self.pages.is_empty() {
            self.open = None;
            decompressor.give_back(memory_of(&mut self.page));
        }
        Ok(())
    }

    /// A problem with its pages as an error that names it.
    pub(super) fn damaged(&self, problem: &str) -> ParquetError {
        ParquetError::General(format!("column {}: {problem}", self.name))
    }

    /// The bytes of texts that have been gathered.
    pub(super) fn n_text_bytes(&self) -> usize {
        self.values.n_text_bytes()
    }

    /// What has been gathered.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        self.n_gathered = 0;
        let is_there = self.is_there.take();
        let nulls = is_there.map(|bits| NullBuffer::new(bits.into_buffer()));
        self.values.finish(&self.kind, nulls)
    }

    fn next_page(&mut self) -> Result<()> {
        let (page, place) = self.pages.pop().ok_or("its pages end early")?;
        self.n_left = usize::try_from(page.n_values).map_err(|error| error.to_string())?;
        self.open = None;
        self.unopened = Some((page, place, 0));
        Ok(())
    }

    /// Passes over rows of the page.
    fn pass(&mut self, n: usize) -> Result<()> {
        if let Some((_, _, n_passed)) = &mut self.unopened {
            *n_passed += n;
            return Ok(());
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let n_values = open.n_values(&self.page, n, &mut self.step)?;
        self.values.skip(&self.page, &mut open.stored, n_values)
    }

    /// Decompresses the page that is to be read, if that was not yet done.
    fn open_page(&mut self, decompressor: &mut Decompressor) -> Result<()> {
        let Some((page, place, n_passed)) = self.unopened.take() else {
            return Ok(());
        };
        let is_of_places = matches!(page.encoding, PLAIN_DICTIONARY | RLE_DICTIONARY);
        if let (true, Some((dictionary, place))) = (is_of_places, self.dictionary.take()) {
            self.decompress(&dictionary, place, decompressor)?;
            let n = usize::try_from(dictionary.n_values).map_err(|error| error.to_string())?;
            self.values.set_dictionary(&self.page, n)?;
        }
        self.decompress(&page, place, decompressor)?;
        let mut rest = 0..self.page.len();
        let mut levels = None;
        if let Some(length) = page.levels {
            let length = usize::try_from(length).map_err(|error| error.to_string())?;
            take(&self.page, &mut rest, length)?;
            if self.is_optional {
                levels = Some(Runs::new(0..length, 1)?);
            }
        } else if self.is_optional {
            levels = Some(Runs::new(self.counted(&mut rest)?, 1)?);
        }
        let stored = match page.encoding {
            _ if rest.is_empty() => Stored::Nothing,
            PLAIN if matches!(self.values, Values::Bools(_)) => Stored::PlainBits(rest.start * 8),
            PLAIN => Stored::Plain(rest.start),
            RLE => Stored::Bits(Runs::new(self.counted(&mut rest)?, 1)?),
            DELTA_BINARY_PACKED => Stored::Differences(Differences::new(&self.page, rest)?),
            _ => {
                let width = take(&self.page, &mut rest, 1)?;
                let width = width.first().copied().unwrap_or_default();
                Stored::Places(Runs::new(rest, width)?)
            }
        };
        self.open = Some(Open { levels, stored });
        self.pass(n_passed)
    }

    /// A part that begins with its length in four bytes.
    fn counted(&self, rest: &mut Range<usize>) -> Result<Range<usize>> {
        let length = take(&self.page, rest, 4)?;
        let length = length.first_chunk().copied().unwrap_or_default();
        let length = u32::from_le_bytes(length) as usize;
        let start = rest.start;
        take(&self.page, rest, length)?;
        Ok(start..rest.start)
    }

    /// Decompresses a page in place of the one before.
    fn decompress(
        &mut self,
        page: &PageHeader,
        place: Range<usize>,
        decompressor: &mut Decompressor,
    ) -> Result<()> {
        let body = self.bytes.get(place).unwrap_or_default();
        if page
            .checksum
            .is_some_and(|sum| sum != crc32fast::hash(body))
        {
            return Err("a page's checksum is not that of its bytes".into());
        }
        let levels = page.levels.and_then(|length| usize::try_from(length).ok());
        let parts = body.split_at_checked(levels.unwrap_or(0));
        let (levels, values) = parts.ok_or("a page's levels end outside of it")?;
        let n_bytes = usize::try_from(page.uncompressed).ok();
        let n_bytes = n_bytes
            .and_then(|length| length.checked_sub(levels.len()))
            .ok_or("a page's levels are longer than it is")?;
        let mut bytes = memory_of(&mut self.page);
        decompressor.make_room(&mut bytes, page.uncompressed);
        bytes.clear();
        bytes.extend_from_slice(levels);
        let codec = if page.is_compressed {
            self.codec
        } else {
            Codec::None
        };
        decompressor.decompress(codec, values, n_bytes, &mut bytes)?;
        self.page = Buffer::from_vec(bytes);
        Ok(())
    }

    /// Reads `n` rows of the open page and gathers those that are wanted.
    fn read_step(&mut self, n: usize, wanted: Wanted<'_>, found: &mut Found) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err("a page is read that is not open".into());
        };
        let n_values = open.n_values(&self.page, n, &mut self.step)?;
        let (n_wanted, rows) = match wanted {
            Wanted::All => (n, None),
            Wanted::Rows(rows) => (rows.len(), Some(rows)),
        };
        let n_gathered = self.n_gathered;
        self.n_gathered += n_wanted;
        let wanted = match rows {
            None if n_values == n => Places::All(n),
            Some(rows) if n_values == n => Places::Some {
                places: rows,
                are_there: None,
            },
            _ if n_values > 0 => found.find(&self.step, rows, n_values),
            _ => {
                let is_there = is_there(&mut self.is_there, n_gathered);
                is_there.push_same(false, n_wanted);
                self.values.add_nothing(n_wanted);
                return Ok(());
            }
        };
        match wanted {
            Places::Some {
                are_there: Some(are_there),
                ..
            } => is_there(&mut self.is_there, n_gathered).append(are_there),
            _ => {
                if let Some(is_there) = &mut self.is_there {
                    is_there.push_same(true, n_wanted);
                }
            }
        }
        self.values
            .read(&self.page, &mut open.stored, n_values, wanted)
    }
}

/// The memory of a page that was read; none where a text is left in it.
fn memory_of(page: &mut Buffer) -> Vec<u8> {
    let page = std::mem::replace(page, Buffer::from_vec(Vec::<u8>::new()));
    page.into_vec().unwrap_or_default()
}

/// Which of the gathered rows have a value, which the first `n` had.
fn is_there(bits: &mut Option<Bits>, n: usize) -> &mut Bits {
    bits.get_or_insert_with(|| {
        let mut all = Bits::default();
        all.push_same(true, n);
        all
    })
}
