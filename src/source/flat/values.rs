//! The values of a column's pages, those that are wanted, as they are gathered into an array.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayBuilder, ArrayRef, BinaryViewBuilder, BooleanArray, FixedSizeBinaryArray,
    GenericByteViewArray, GenericByteViewBuilder, MAX_INLINE_VIEW_LEN, PrimitiveArray,
    StringViewBuilder, UInt32Array, make_array,
};
use datafusion::arrow::buffer::{Buffer, NullBuffer};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, BinaryViewType, ByteViewType, DataType, Float32Type, Float64Type,
    Int32Type, Int64Type, StringViewType,
};

use super::Result;
use super::bits::Bits;
use super::packed::{Differences, Runs};
use crate::cpu::fastest;

const ENDS_EARLY: &str = "a page's values end early";
const NOT_UTF8: &str = "a text is not UTF-8";

/// The place in a dictionary of a text that is not there.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Which of some values are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Places<'a> {
    /// As many as there are, all of them.
    All(usize),
    /// Those at places that do not fall.
    Some {
        places: &'a [u32],
        /// Which of them are there, where not all are; any value may stand for one that is not.
        are_there: Option<&'a Bits>,
    },
}

/// How and where the values of a page lie that are not read yet.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// Nothing is there.
    Nothing,
    /// One after another, from a byte on.
    Plain(usize),
    /// One bit each, from a bit on.
    PlainBits(usize),
    /// Places in the dictionary.
    Places(Runs),
    Differences(Differences),
    Bits(Runs),
}

/// The gathered values of a column.
#[derive(Debug)]
pub(super) enum Values {
    I32(Box<Numbers<Int32Type>>),
    I64(Box<Numbers<Int64Type>>),
    F32(Box<Numbers<Float32Type>>),
    F64(Box<Numbers<Float64Type>>),
    Bytes(Box<FixedBytes>),
    Bools(Box<Bools>),
    Text(Box<Texts<StringViewType>>),
    Binary(Box<Texts<BinaryViewType>>),
}

/// Calls a method of whatever kind of values there is.
macro_rules! each {
    ($values:expr, $kind:ident => $call:expr) => {
        match $values {
            Values::I32($kind) => $call,
            Values::I64($kind) => $call,
            Values::F32($kind) => $call,
            Values::F64($kind) => $call,
            Values::Bytes($kind) => $call,
            Values::Bools($kind) => $call,
            Values::Text($kind) => $call,
            Values::Binary($kind) => $call,
        }
    };
}

impl Values {
    /// Takes a dictionary's values, which are `n`.
    pub(super) fn set_dictionary(&mut self, page: &[u8], n: usize) -> Result<()> {
        each!(self, values => values.set_dictionary(page, n))
    }

    /// Makes room for `n` values more.
    pub(super) fn reserve(&mut self, n: usize) {
        match self {
            Self::I32(numbers) => numbers.gathered.reserve(n),
            Self::I64(numbers) => numbers.gathered.reserve(n),
            Self::F32(numbers) => numbers.gathered.reserve(n),
            Self::F64(numbers) => numbers.gathered.reserve(n),
            Self::Bytes(bytes) => bytes.gathered.reserve(n * bytes.width),
            Self::Text(texts) => texts.places.reserve(n),
            Self::Binary(texts) => texts.places.reserve(n),
            Self::Bools(_) => {}
        }
    }

    /// Adds those of the next `n` values that are wanted.
    pub(super) fn read(
        &mut self,
        page: &Buffer,
        stored: &mut Stored,
        n: usize,
        wanted: Places<'_>,
    ) -> Result<()> {
        each!(self, values => values.read(page, stored, n, wanted))
    }

    /// Adds `n` values that are not there.
    pub(super) fn add_nothing(&mut self, n: usize) {
        each!(self, values => values.add_nothing(n));
    }

    /// Passes over the next `n` values.
    pub(super) fn skip(&self, page: &[u8], stored: &mut Stored, n: usize) -> Result<()> {
        match stored {
            Stored::Nothing if n == 0 => Ok(()),
            Stored::Nothing => Err(ENDS_EARLY.into()),
            Stored::PlainBits(at) => {
                *at += n;
                Ok(())
            }
            Stored::Places(runs) | Stored::Bits(runs) => runs.skip(page, n),
            Stored::Differences(differences) => differences.each(page, n, |_| {}),
            Stored::Plain(at) => {
                let width = match self {
                    Self::Text(_) | Self::Binary(_) => {
                        for _ in 0..n {
                            text(page, at)?;
                        }
                        return Ok(());
                    }
                    Self::I32(_) | Self::F32(_) => 4,
                    Self::I64(_) | Self::F64(_) => 8,
                    Self::Bytes(bytes) => bytes.width,
                    Self::Bools(_) => 0,
                };
                plain(page, at, n, width).map(|_| ())
            }
        }
    }

    /// The bytes of texts that have been gathered.
    pub(super) fn n_text_bytes(&self) -> usize {
        match self {
            Self::Text(texts) => texts.n_bytes,
            Self::Binary(texts) => texts.n_bytes,
            _ => 0,
        }
    }

    /// What has been gathered, as an array of a type that is stored alike; nothing is left.
    pub(super) fn finish(
        &mut self,
        kind: &DataType,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let array = each!(self, values => values.finish(nulls))?;
        if array.data_type() == kind {
            return Ok(array);
        }
        let data = array.to_data().into_builder().data_type(kind.clone());
        let data = data.build().map_err(|error| error.to_string())?;
        Ok(make_array(data))
    }
}

/// The bytes of the next `n` values of one width.
fn plain<'a>(page: &'a [u8], at: &mut usize, n: usize, width: usize) -> Result<&'a [u8]> {
    let start = *at;
    *at = n
        .checked_mul(width)
        .and_then(|length| start.checked_add(length))
        .ok_or(ENDS_EARLY)?;
    page.get(start..*at).ok_or_else(|| ENDS_EARLY.into())
}

/// Where the next text lies.
fn text(page: &[u8], at: &mut usize) -> Result<Range<usize>> {
    let length = page.get(*at..).and_then(<[u8]>::first_chunk);
    let length = u32::from_le_bytes(*length.ok_or(ENDS_EARLY)?);
    let start = *at + 4;
    let end = usize::try_from(length)
        .ok()
        .and_then(|length| start.checked_add(length));
    *at = end.filter(|end| *end <= page.len()).ok_or(ENDS_EARLY)?;
    Ok(start..*at)
}

/// Goes on by `n` places in a dictionary of `n_there` values and adds those that are wanted.
fn places(
    page: &[u8],
    runs: &mut Runs,
    n: usize,
    (n_there, wanted): (usize, Places<'_>),
    places: &mut Vec<u32>,
) -> Result<()> {
    let n_before = places.len();
    match wanted {
        Places::All(_) => {
            places.reserve(n);
            runs.read(page, n, places)?;
        }
        Places::Some { places: wanted, .. } => {
            places.reserve(wanted.len());
            runs.read_some(page, n, wanted, places)?;
        }
    }
    let added = places.get(n_before..).unwrap_or_default();
    let greatest = fastest!(added.iter().fold(0, |most, place| most.max(*place)));
    if !added.is_empty() && greatest as usize >= n_there {
        return Err(
            format!("a page speaks of more than the {n_there} values of its dictionary").into(),
        );
    }
    Ok(())
}

/// Adds what is wanted of some values.
fn gather<T: Copy + Default>(values: &[T], wanted: Places<'_>, into: &mut Vec<T>) {
    match wanted {
        Places::All(n) => into.extend_from_slice(values.get(..n).unwrap_or_default()),
        Places::Some { places, .. } => {
            let value = |place: &u32| values.get(*place as usize).copied().unwrap_or_default();
            fastest!(into.extend(places.iter().map(value)));
        }
    }
}

fn unexpected(stored: &Stored) -> std::borrow::Cow<'static, str> {
    format!("its values are stored as they cannot be: {stored:?}").into()
}

/// Numbers as they are stored.
pub(super) trait Stores: ArrowPrimitiveType<Native: Default> {
    /// The numbers of some bytes.
    fn gather(bytes: &[u8], wanted: Places<'_>, into: &mut Vec<Self::Native>);
    /// The number that a whole number is stored as; of those that are whole.
    fn of_difference(number: i64) -> Option<Self::Native>;
}

macro_rules! stores {
    ($kind:ty, $native:ty, $of_difference:expr) => {
        impl Stores for $kind {
            fn gather(bytes: &[u8], wanted: Places<'_>, into: &mut Vec<$native>) {
                let (numbers, _) = bytes.as_chunks();
                match wanted {
                    Places::All(n) => {
                        let numbers = numbers.iter().take(n);
                        into.extend(numbers.map(|bytes| <$native>::from_le_bytes(*bytes)));
                    }
                    Places::Some { places, .. } => into.extend(places.iter().map(|place| {
                        let bytes = numbers.get(*place as usize).copied();
                        <$native>::from_le_bytes(bytes.unwrap_or_default())
                    })),
                }
            }

            fn of_difference(number: i64) -> Option<$native> {
                ($of_difference)(number)
            }
        }
    };
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "differences of 32 bits wrap around"
)]
mod stored {
    use super::{Float32Type, Float64Type, Int32Type, Int64Type, Places, Stores};

    stores!(Int32Type, i32, |number| Some(number as i32));
    stores!(Int64Type, i64, Some);
    stores!(Float32Type, f32, |_| None);
    stores!(Float64Type, f64, |_| None);
}

/// Numbers of one width.
#[derive(Debug)]
pub(super) struct Numbers<T: Stores> {
    dictionary: Vec<T::Native>,
    gathered: Vec<T::Native>,
    places: Vec<u32>,
    read: Vec<T::Native>,
}

impl<T: Stores> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            dictionary: Vec::new(),
            gathered: Vec::new(),
            places: Vec::new(),
            read: Vec::new(),
        }
    }
}

impl<T: Stores> Numbers<T> {
    fn add_nothing(&mut self, n: usize) {
        let n_all = self.gathered.len() + n;
        self.gathered.resize(n_all, T::Native::default());
    }

    fn set_dictionary(&mut self, page: &[u8], n: usize) -> Result<()> {
        let bytes = plain(page, &mut 0, n, size_of::<T::Native>())?;
        self.dictionary.clear();
        T::gather(bytes, Places::All(n), &mut self.dictionary);
        Ok(())
    }

    fn read(
        &mut self,
        page: &[u8],
        stored: &mut Stored,
        n: usize,
        wanted: Places<'_>,
    ) -> Result<()> {
        match stored {
            Stored::Plain(at) => {
                let bytes = plain(page, at, n, size_of::<T::Native>())?;
                T::gather(bytes, wanted, &mut self.gathered);
            }
            Stored::Places(runs) => {
                let which = (self.dictionary.len(), wanted);
                self.places.clear();
                places(page, runs, n, which, &mut self.places)?;
                let places = Places::Some {
                    places: &self.places,
                    are_there: None,
                };
                gather(&self.dictionary, places, &mut self.gathered);
            }
            Stored::Differences(differences) => {
                self.read.clear();
                let numbers = &mut self.read;
                fastest!({
                    differences.each(page, n, |number| {
                        numbers.extend(T::of_difference(number));
                    })
                })?;
                gather(&self.read, wanted, &mut self.gathered);
            }
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "others may fail")]
    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let gathered = std::mem::take(&mut self.gathered);
        Ok(Arc::new(PrimitiveArray::<T>::new(gathered.into(), nulls)))
    }
}

/// Bytes, as many for every value.
#[derive(Debug)]
pub(super) struct FixedBytes {
    width: usize,
    dictionary: Vec<u8>,
    gathered: Vec<u8>,
    n: usize,
    places: Vec<u32>,
}

impl FixedBytes {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            dictionary: Vec::new(),
            gathered: Vec::new(),
            n: 0,
            places: Vec::new(),
        }
    }

    fn add_nothing(&mut self, n: usize) {
        let n_bytes = self.gathered.len() + n * self.width;
        self.gathered.resize(n_bytes, 0);
        self.n += n;
    }

    fn set_dictionary(&mut self, page: &[u8], n: usize) -> Result<()> {
        self.dictionary = plain(page, &mut 0, n, self.width)?.to_vec();
        Ok(())
    }

    fn read(
        &mut self,
        page: &[u8],
        stored: &mut Stored,
        n: usize,
        wanted: Places<'_>,
    ) -> Result<()> {
        let width = self.width;
        let value = |values: &[u8], place: u32, into: &mut Vec<u8>| {
            let start = place as usize * width;
            match values.get(start..start + width) {
                Some(value) => into.extend_from_slice(value),
                None => into.resize(into.len() + width, 0),
            }
        };
        match stored {
            Stored::Plain(at) => {
                let bytes = plain(page, at, n, width)?;
                match wanted {
                    Places::All(_) => self.gathered.extend_from_slice(bytes),
                    Places::Some { places, .. } => {
                        for place in places {
                            value(bytes, *place, &mut self.gathered);
                        }
                    }
                }
            }
            Stored::Places(runs) => {
                let n_there = self.dictionary.len() / width.max(1);
                self.places.clear();
                places(page, runs, n, (n_there, wanted), &mut self.places)?;
                for place in &self.places {
                    value(&self.dictionary, *place, &mut self.gathered);
                }
            }
            other => return Err(unexpected(other)),
        }
        self.n += match wanted {
            Places::All(n) => n,
            Places::Some { places, .. } => places.len(),
        };
        Ok(())
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let gathered = Buffer::from_vec(std::mem::take(&mut self.gathered));
        self.n = 0;
        let width = i32::try_from(self.width).map_err(|error| error.to_string())?;
        let array = FixedSizeBinaryArray::try_new(width, gathered, nulls);
        Ok(Arc::new(array.map_err(|error| error.to_string())?))
    }
}

/// Booleans.
#[derive(Debug, Default)]
pub(super) struct Bools {
    gathered: Bits,
    bits: Bits,
}

impl Bools {
    fn add_nothing(&mut self, n: usize) {
        self.gathered.push_same(false, n);
    }

    #[expect(clippy::unused_self, reason = "others have one")]
    fn set_dictionary(&mut self, _page: &[u8], _n: usize) -> Result<()> {
        Err("a dictionary of booleans".into())
    }

    fn read(
        &mut self,
        page: &[u8],
        stored: &mut Stored,
        n: usize,
        wanted: Places<'_>,
    ) -> Result<()> {
        self.bits.clear();
        match stored {
            Stored::PlainBits(at) => {
                if (*at + n).div_ceil(8) > page.len() {
                    return Err(ENDS_EARLY.into());
                }
                self.bits.push_packed(page, *at, n);
                *at += n;
            }
            Stored::Bits(runs) => runs.read_bits(page, n, &mut self.bits)?,
            other => return Err(unexpected(other)),
        }
        match wanted {
            Places::All(_) => self.gathered.append(&self.bits),
            Places::Some { places, .. } => {
                let bits = places.iter().map(|place| self.bits.is_set(*place as usize));
                self.gathered.extend(bits);
            }
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "others may fail")]
    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let gathered = std::mem::take(&mut self.gathered);
        Ok(Arc::new(BooleanArray::new(gathered.into_buffer(), nulls)))
    }
}

/// Texts, or bytes of any length.
pub(super) struct Texts<T: ByteViewType> {
    dictionary: GenericByteViewArray<T>,
    /// The latest texts that are gathered: their places in the dictionary, or themselves; those before
    /// them lie in parts.
    places: Vec<u32>,
    plain: GenericByteViewBuilder<T>,
    /// Where in memory the page lies that texts themselves were last left in, and which block of theirs it is.
    block: Option<(usize, u32)>,
    parts: Vec<ArrayRef>,
    n_bytes: usize,
    ranges: Vec<Range<usize>>,
}

impl<T: ByteViewType> std::fmt::Debug for Texts<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Texts")
    }
}

/// Adds texts to arrays of them.
pub(super) trait Adds: ByteViewType + Sized {
    fn add(bytes: &[u8], builder: &mut GenericByteViewBuilder<Self>) -> Result<()>;
}

impl Adds for StringViewType {
    fn add(bytes: &[u8], builder: &mut StringViewBuilder) -> Result<()> {
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
        builder.append_value(text);
        Ok(())
    }
}

impl Adds for BinaryViewType {
    fn add(bytes: &[u8], builder: &mut BinaryViewBuilder) -> Result<()> {
        builder.append_value(bytes);
        Ok(())
    }
}

impl<T: ByteViewType> Default for Texts<T> {
    fn default() -> Self {
        Self {
            dictionary: GenericByteViewBuilder::new().finish(),
            plain: GenericByteViewBuilder::new(),
            block: None,
            places: Vec::new(),
            parts: Vec::new(),
            n_bytes: 0,
            ranges: Vec::new(),
        }
    }
}

impl<T: Adds> Texts<T> {
    fn add_nothing(&mut self, n: usize) {
        self.end_plain();
        self.places.extend(std::iter::repeat_n(NOWHERE, n));
    }

    fn set_dictionary(&mut self, page: &[u8], n: usize) -> Result<()> {
        self.end_places()?;
        let mut texts = GenericByteViewBuilder::new();
        let mut at = 0;
        for _ in 0..n {
            let range = text(page, &mut at)?;
            T::add(page.get(range).unwrap_or_default(), &mut texts)?;
        }
        self.dictionary = texts.finish();
        Ok(())
    }

    fn read(
        &mut self,
        page: &Buffer,
        stored: &mut Stored,
        n: usize,
        wanted: Places<'_>,
    ) -> Result<()> {
        match stored {
            Stored::Places(runs) => {
                self.end_plain();
                let which = (self.dictionary.len(), wanted);
                let n_before = self.places.len();
                places(page, runs, n, which, &mut self.places)?;
                if let Places::Some {
                    are_there: Some(are_there),
                    ..
                } = wanted
                {
                    let added = self.places.iter_mut().skip(n_before).enumerate();
                    for (_, place) in added.filter(|(at, _)| !are_there.is_set(*at)) {
                        *place = NOWHERE;
                    }
                }
            }
            Stored::Plain(at) => {
                self.end_places()?;
                match wanted {
                    Places::All(_) => {
                        for _ in 0..n {
                            let range = text(page, at)?;
                            self.add(page, range, true)?;
                        }
                    }
                    Places::Some { places, are_there } => {
                        self.ranges.clear();
                        for _ in 0..n {
                            self.ranges.push(text(page, at)?);
                        }
                        let are_most = 2 * places.len() >= n;
                        for (at, place) in places.iter().enumerate() {
                            if are_there.is_none_or(|are_there| are_there.is_set(at)) {
                                let range = self.ranges.get(*place as usize).cloned();
                                self.add(page, range.unwrap_or_default(), are_most)?;
                            } else {
                                self.plain.append_null();
                            }
                        }
                    }
                }
            }
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    /// Adds a text of a page, which stays where it is, where most of the page's are wanted, or is copied.
    fn add(&mut self, page: &Buffer, range: Range<usize>, are_most: bool) -> Result<()> {
        self.n_bytes += range.len();
        if !are_most || range.len() <= MAX_INLINE_VIEW_LEN as usize {
            return T::add(page.get(range).unwrap_or_default(), &mut self.plain);
        }
        let address = page.as_ptr().addr();
        let block = match self.block {
            Some((of, block)) if of == address => block,
            _ => {
                let block = self.plain.append_block(page.clone());
                self.block = Some((address, block));
                block
            }
        };
        let view = u32::try_from(range.start)
            .ok()
            .zip(u32::try_from(range.len()).ok());
        let (start, length) = view.ok_or("a page is too large")?;
        let added = self.plain.try_append_view(block, start, length);
        added.map_err(|_| NOT_UTF8.into())
    }

    /// Texts of the dictionary become a part.
    fn end_places(&mut self) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let is_there = self.places.iter().map(|place| *place != NOWHERE);
        let nulls = self.places.contains(&NOWHERE).then(|| is_there.collect());
        let places = std::mem::take(&mut self.places);
        let places = UInt32Array::new(places.into(), nulls);
        let part = take(&self.dictionary, &places, None);
        self.parts.push(part.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Texts themselves become a part.
    fn end_plain(&mut self) {
        self.block = None;
        if !self.plain.is_empty() {
            self.parts.push(Arc::new(self.plain.finish()));
        }
    }

    fn finish(&mut self, _nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        self.end_places()?;
        self.end_plain();
        self.n_bytes = 0;
        let parts = std::mem::take(&mut self.parts);
        match parts.as_slice() {
            [] => Ok(Arc::new(GenericByteViewBuilder::<T>::new().finish())),
            [part] => Ok(Arc::clone(part)),
            parts => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                concat(&parts).map_err(|error| error.to_string().into())
            }
        }
    }
}
