//! A sketch as bytes: the one format for states, results and storage.
//!
//! In varints: the version (one byte), the count, then up to [`EXACT_MAX`] values: each value in
//! rising order, as its distance to the one before; beyond: the smallest value, the distance of the
//! largest to it, the number of buckets that are not empty, and for each of these in rising order
//! the number of buckets skipped before it and its count less one. A multiset has exactly one such
//! byte string, and no other is accepted.

use super::bucket::{BUCKET_MAX, bucket_of};
use super::hdr::Hdr;
use super::{EXACT_MAX, FORMAT_VERSION, SketchError, added};
use crate::tally::varint::{Reader, VarintError, write_pair, write_varint};

/// A sketch's bytes that were found to be right, not yet taken in.
pub(super) enum Stored<'a> {
    /// At most [`EXACT_MAX`] values.
    Values {
        n_values: usize,
        last: u64,
        values: Reader<'a>,
    },
    /// More than that.
    Bins {
        count: u64,
        min: u64,
        max: u64,
        bins: Vec<(u16, u64)>,
    },
}

impl<'a> Stored<'a> {
    pub(super) fn check(bytes: &'a [u8]) -> Result<Self, SketchError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte().ok_or(SketchError::Truncated)?;
        if version != FORMAT_VERSION {
            return Err(SketchError::Version { found: version });
        }
        let count = reader.varint()?;
        match usize::try_from(count) {
            Ok(n_values) if n_values <= EXACT_MAX => Self::check_values(reader, n_values),
            _ => Self::check_bins(reader, count),
        }
    }

    fn check_values(reader: Reader<'a>, n_values: usize) -> Result<Self, SketchError> {
        let mut values = read_values(reader.clone(), n_values);
        values.try_for_each(|value| value.map(drop))?;
        check_end(&values.reader)?;
        Ok(Self::Values {
            n_values,
            last: values.value,
            values: reader,
        })
    }

    fn check_bins(mut reader: Reader<'a>, count: u64) -> Result<Self, SketchError> {
        added(0, count)?;
        let min = reader.varint()?;
        let distance = reader.varint()?;
        let max = min.checked_add(distance).ok_or(SketchError::Overflow)?;
        let n_bins = reader.varint()?;
        // A bin takes two bytes at least.
        let n_bins = usize::try_from(n_bins)
            .ok()
            .filter(|n_bins| *n_bins <= reader.len() / 2)
            .ok_or(SketchError::Truncated)?;
        let bins = read_bins(&mut reader, n_bins)?;
        check_end(&reader)?;
        let mut counts = bins.iter().map(|(_, n)| *n);
        let found = counts.try_fold(0_u64, u64::checked_add);
        let found = found.ok_or(SketchError::Overflow)?;
        if found != count {
            return Err(SketchError::CountMismatch {
                expected: count,
                found,
            });
        }
        let ends = [
            ("minimum", min, bins.first()),
            ("maximum", max, bins.last()),
        ];
        for (extreme, value, bin) in ends {
            if bin.map(|(bucket, _)| *bucket) != Some(bucket_of(value)) {
                return Err(SketchError::Extreme { extreme, value });
            }
        }
        Ok(Self::Bins {
            count,
            min,
            max,
            bins,
        })
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Values { n_values, .. } => *n_values as u64,
            Self::Bins { count, .. } => *count,
        }
    }
}

/// The values of an exact sketch, rising.
pub(super) fn read_values(reader: Reader<'_>, n_values: usize) -> RisingValues<'_> {
    RisingValues {
        reader,
        n_left: n_values,
        value: 0,
    }
}

pub(super) struct RisingValues<'a> {
    reader: Reader<'a>,
    n_left: usize,
    value: u64,
}

impl Iterator for RisingValues<'_> {
    type Item = Result<u64, VarintError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.n_left = self.n_left.checked_sub(1)?;
        let value = self.reader.varint().and_then(|distance| {
            let value = self.value.checked_add(distance);
            value.ok_or(VarintError::Overflow)
        });
        Some(value.inspect(|value| self.value = *value))
    }
}

/// So many bins whose numbers have a byte each are read at once: from wherever there is a bucket, they do not
/// pass the type of one.
const FEW_BINS: usize = 64;

/// The bins of a histogram, rising.
fn read_bins(reader: &mut Reader<'_>, n_bins: usize) -> Result<Vec<(u16, u64)>, SketchError> {
    let mut bins = Vec::with_capacity(n_bins);
    let mut next = 0_u16;
    while bins.len() < n_bins {
        let n_left = n_bins - bins.len();
        let small = reader.small_pairs(n_left.min(FEW_BINS)).iter();
        bins.extend(small.map(|[n_skipped, n_less_one]| {
            let bucket = next + u16::from(*n_skipped);
            next = bucket + 1;
            (bucket, u64::from(*n_less_one) + 1)
        }));
        if next > BUCKET_MAX + 1 {
            return Err(SketchError::Bucket);
        }
        if bins.len() == n_bins {
            break;
        }
        let n_skipped = reader.varint()?;
        let n_less_one = reader.varint()?;
        let bucket = u16::try_from(n_skipped)
            .ok()
            .and_then(|n_skipped| next.checked_add(n_skipped))
            .filter(|bucket| *bucket <= BUCKET_MAX)
            .ok_or(SketchError::Bucket)?;
        next = bucket + 1;
        let n = n_less_one.checked_add(1);
        bins.push((bucket, n.ok_or(SketchError::Overflow)?));
    }
    Ok(bins)
}

/// Appends the bytes of a sketch of these values, rising and at most [`EXACT_MAX`].
#[inline]
pub(super) fn write_values(values: &[u64], out: &mut Vec<u8>) {
    write_head(values.len() as u64, out);
    let mut previous = 0;
    for v in values {
        write_varint(v.wrapping_sub(previous), out);
        previous = *v;
    }
}

/// Appends the bytes of a sketch that is a histogram.
pub(super) fn write_hdr(hdr: &Hdr, out: &mut Vec<u8>) {
    let bins = hdr.settled();
    write_head(hdr.count, out);
    write_varint(hdr.min, out);
    write_varint(hdr.max.wrapping_sub(hdr.min), out);
    let n_bins = bins.n_settled();
    write_varint(n_bins as u64, out);
    out.reserve(2 * n_bins);
    let mut next = 0;
    bins.iter().for_each(|(bucket, n)| {
        write_pair(bucket.wrapping_sub(next), n.wrapping_sub(1), out);
        next = bucket.wrapping_add(1);
    });
}

fn write_head(count: u64, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    write_varint(count, out);
}

fn check_end(reader: &Reader<'_>) -> Result<(), SketchError> {
    match reader.len() {
        0 => Ok(()),
        n_bytes => Err(SketchError::Trailing { n_bytes }),
    }
}

impl From<VarintError> for SketchError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::NotShortest => Self::NotShortest,
            VarintError::Overflow => Self::Overflow,
        }
    }
}
