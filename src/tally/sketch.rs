//! The distribution of one measure in one group: exactly its values while there are at most
//! [`EXACT_MAX`] of them, an HDR histogram with its exact extremes beyond.
//!
//! In come unsigned integers (microseconds, tokens, pico-dollars); out go quantiles, shares and
//! bytes. All of it depends on the multiset of values alone: not on their order, not on how they
//! were split and merged, not on the form that a sketch happens to have in memory. So sketches are
//! a commutative monoid under [`Sketch::merge`], with [`Sketch::new`] as its identity.
//!
//! The buckets are those of the `hdrhistogram` crate with three significant digits. Knows neither
//! arrow nor plans.

mod bucket;
mod bytes;
mod hdr;
mod quantile;
#[cfg(test)]
mod tests;
mod values;

pub use bucket::{bucket_low, bucket_of, bucket_width};
pub use quantile::{Quantile, QuantileError};

use std::fmt;

use hdrhistogram::Histogram;

use bucket::{BUCKET_MAX, SIGNIFICANT_DIGITS};
use bytes::Stored;
use hdr::Hdr;
use quantile::{MILLION, interpolated_thousandths};
use values::Values;

/// The most values that are kept as they are. Part of the format.
pub const EXACT_MAX: usize = 256;

/// The first byte of every sketch's bytes: units, buckets, [`EXACT_MAX`] and the format itself.
pub const FORMAT_VERSION: u8 = 1;

/// The most values that a sketch may hold where counts can come from outside: those of bytes, of
/// merging, of [`Sketch::record_n`].
pub const COUNT_MAX: u64 = i64::MAX.cast_unsigned();

/// [`EXACT_MAX`] as a count.
const EXACT_MAX_COUNT: u64 = EXACT_MAX as u64;

/// Why bytes are no sketch, or cannot be added to one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// Another format, or no sketch at all.
    #[error("sketch has format version {found}, expected {FORMAT_VERSION}")]
    Version {
        /// The first byte.
        found: u8,
    },
    /// The bytes end before the sketch does.
    #[error("sketch is cut short")]
    Truncated,
    /// A number is written longer than it has to be.
    #[error("sketch holds a number that is not in its shortest form")]
    NotShortest,
    /// A number, or a sum of numbers, passes 64 bits.
    #[error("sketch holds a number beyond 64 bits")]
    Overflow,
    /// A bucket that no value falls into.
    #[error("sketch holds a bucket beyond {BUCKET_MAX}")]
    Bucket,
    /// The buckets do not hold as many values as the sketch says.
    #[error("sketch says {expected} values, its buckets hold {found}")]
    CountMismatch {
        /// The count that the sketch says.
        expected: u64,
        /// What the counts of its buckets add up to.
        found: u64,
    },
    /// The smallest or the largest value is not in the first or last bucket that is not empty.
    #[error("sketch has a {extreme} of {value} outside its buckets")]
    Extreme {
        /// "minimum" or "maximum".
        extreme: &'static str,
        /// The value.
        value: u64,
    },
    /// The bytes go on after the sketch.
    #[error("sketch is followed by {n_bytes} more bytes")]
    Trailing {
        /// How many.
        n_bytes: usize,
    },
    /// More than [`COUNT_MAX`] values.
    #[error("sketch would hold more than {COUNT_MAX} values")]
    Count,
    /// The `hdrhistogram` crate refused.
    #[error("no histogram: {reason}")]
    Histogram {
        /// The crate's own words.
        reason: String,
    },
}

/// A mergeable distribution of unsigned integers.
///
/// Quantiles are exact up to [`EXACT_MAX`] values. Beyond, each order statistic is the middle of
/// its bucket, so a quantile is within 0.05 % of the true one (and half a thousandth of a unit, as
/// all are rounded); count, minimum and maximum are always exact.
///
/// Equal are sketches of the same count whose bytes are the same: up to [`EXACT_MAX`] values the
/// same values, beyond the same extremes and bucket counts.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    form: Form,
}

impl Sketch {
    /// The sketch of no values. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            form: Form::Exact(Values::new()),
        }
    }

    /// Adds one value.
    #[inline]
    pub fn record(&mut self, v: u64) {
        match &mut self.form {
            Form::Hdr(hdr) => hdr.record(v),
            Form::Exact(values) => {
                if !values.push_in_room(v) {
                    self.record_few(v);
                }
            }
        }
    }

    /// The same where values are few yet.
    #[cold]
    fn record_few(&mut self, v: u64) {
        match &mut self.form {
            Form::Exact(values) if values.len() < EXACT_MAX => values.push(v),
            _ => self.with_hdr(|hdr| hdr.record(v)),
        }
    }

    /// Adds values, as [`Self::record`] does each.
    pub(crate) fn record_all(&mut self, mut values: &[u64]) {
        while let [next, rest @ ..] = values {
            values = match &mut self.form {
                Form::Hdr(hdr) => hdr.record_some(values),
                Form::Exact(_) => {
                    self.record(*next);
                    rest
                }
            };
        }
    }

    /// Adds a value `n` times, at a cost that does not depend on `n`.
    ///
    /// # Errors
    ///
    /// [`SketchError::Count`] where there would be more than [`COUNT_MAX`] values; then nothing is
    /// added.
    pub fn record_n(&mut self, v: u64, n: u64) -> Result<(), SketchError> {
        let count = added(self.count(), n)?;
        if count <= EXACT_MAX_COUNT || n <= 1 {
            (0..n).for_each(|_| self.record(v));
        } else {
            let bin = std::iter::once((bucket_of(v), n));
            self.with_hdr(|hdr| hdr.add(n, v, v, bin));
        }
        Ok(())
    }

    /// The sketch of each value so many times, at a cost that does not depend on `n`.
    pub(crate) fn times(&self, n: u64) -> Result<Self, SketchError> {
        let count = self.count().checked_mul(n).ok_or(SketchError::Count)?;
        added(0, count)?;
        let mut all = Self::new();
        match &self.form {
            Form::Exact(values) => values.iter().try_for_each(|v| all.record_n(v, n))?,
            Form::Hdr(_) if n == 0 => {}
            Form::Hdr(hdr) => {
                let bins = hdr.settled();
                let bins = bins.iter().map(|(bucket, of_one)| (bucket, of_one * n));
                all.with_hdr(|all| all.add(count, hdr.min, hdr.max, bins));
            }
        }
        Ok(all)
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.form {
            Form::Exact(values) => values.len() as u64,
            Form::Hdr(hdr) => hdr.count,
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether quantiles and shares are exact: up to [`EXACT_MAX`] values.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.form, Form::Exact(_))
    }

    /// The smallest value, always exact.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        match &self.form {
            Form::Exact(values) => values.iter().min(),
            Form::Hdr(hdr) => Some(hdr.min),
        }
    }

    /// The largest value, always exact.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        match &self.form {
            Form::Exact(values) => values.iter().max(),
            Form::Hdr(hdr) => Some(hdr.max),
        }
    }

    /// Adds all values of another sketch.
    ///
    /// # Errors
    ///
    /// [`SketchError::Count`] where there would be more than [`COUNT_MAX`] values, which only
    /// foreign bytes and [`Self::record_n`] can bring about; then nothing is added.
    pub fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        added(self.count(), other.count())?;
        match (&mut self.form, &other.form) {
            (_, Form::Exact(values)) => values.iter().for_each(|v| self.record(v)),
            (Form::Hdr(hdr), Form::Hdr(other)) => hdr.merge(other),
            (Form::Exact(values), Form::Hdr(other)) => {
                let mut hdr = other.clone();
                for v in values.iter() {
                    hdr.record(v);
                }
                self.form = Form::Hdr(hdr);
            }
        }
        Ok(())
    }

    /// Adds all values of the sketch with these bytes, without building it.
    ///
    /// # Errors
    ///
    /// Any [`SketchError`] but `Histogram`; then nothing is added. What bytes claim allocates
    /// nothing before the bytes bear it out.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), SketchError> {
        let stored = Stored::check(bytes)?;
        added(self.count(), stored.count())?;
        // All was checked: flattening drops nothing, and exact values are few enough to reserve for.
        match stored {
            Stored::Values {
                n_values,
                last,
                values,
            } => {
                if self.is_empty() {
                    self.form = Form::Exact(Values::with_room(n_values, last));
                }
                let values = bytes::read_values(values, n_values).flatten();
                values.for_each(|v| self.record(v));
            }
            Stored::Bins {
                count,
                min,
                max,
                bins,
            } => self.with_hdr(|hdr| hdr.add(count, min, max, bins.into_iter())),
        }
        Ok(())
    }

    /// Appends the bytes of this sketch; a multiset has exactly one such string.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Exact(values) => bytes::write_values(&values.sorted(), out),
            Form::Hdr(hdr) => bytes::write_hdr(hdr, out),
        }
    }

    /// The bytes of this sketch.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// The sketch with these bytes; it has the same bytes again.
    ///
    /// # Errors
    ///
    /// Any [`SketchError`] but `Histogram`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SketchError> {
        let mut sketch = Self::new();
        sketch.merge_bytes(bytes)?;
        Ok(sketch)
    }

    /// Appends the bytes of the sketch of one value, without making it.
    pub fn write_single(v: u64, out: &mut Vec<u8>) {
        bytes::write_values(&[v], out);
    }

    /// The quantile by linear interpolation at index q · (n − 1) of the sorted values
    /// (Hyndman–Fan type 7), in thousandths of the recorded unit (from microseconds,
    /// nanoseconds), rounded half to even; `None` where there is no value.
    ///
    /// Never below the minimum, never above the maximum, and not falling in `q`.
    #[must_use]
    pub fn quantile_thousandths(&self, q: Quantile) -> Option<u128> {
        let last = self.count().checked_sub(1)?;
        let (whole, fraction) = q.position(last);
        let next = whole + u64::from(fraction > 0);
        match &self.form {
            Form::Exact(values) => {
                let values = values.sorted();
                let at = |rank| values.get(usize::try_from(rank).ok()?).copied();
                Some(interpolated_thousandths(at(whole)?, at(next)?, fraction))
            }
            Form::Hdr(hdr) => {
                let (low, high) = hdr.middles_at(whole, next);
                let (min, max) = (u128::from(hdr.min) * 1000, u128::from(hdr.max) * 1000);
                let middle = interpolated_thousandths(low, high, fraction);
                Some(middle.max(min).min(max))
            }
        }
    }

    /// The bucket of the order statistic nearest to the quantile's position q · (n − 1), of two equally
    /// near ones the upper; `None` where there is no value.
    #[must_use]
    pub fn bucket_near(&self, q: Quantile) -> Option<u16> {
        let last = self.count().checked_sub(1)?;
        let (whole, fraction) = q.position(last);
        let rank = whole + u64::from(2 * fraction >= u64::from(MILLION));
        let value = match &self.form {
            Form::Exact(values) => *values.sorted().get(usize::try_from(rank).ok()?)?,
            Form::Hdr(hdr) => hdr.middles_at(rank, rank).0,
        };
        Some(bucket_of(value))
    }

    /// How many values are at or below a threshold. Exact up to [`EXACT_MAX`] values; beyond, a
    /// bucket counts as a whole by its middle, but the threshold is held against the exact
    /// extremes first.
    #[must_use]
    pub fn count_at_or_below(&self, threshold: u64) -> u64 {
        match &self.form {
            Form::Exact(values) => values.iter().filter(|v| *v <= threshold).count() as u64,
            Form::Hdr(hdr) => hdr.count_at_or_below(threshold),
        }
    }

    /// Bytes on the heap, by capacity. Costs the same for every sketch.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        match &self.form {
            Form::Exact(values) => values.heap_size(),
            Form::Hdr(hdr) => size_of::<Hdr>() + hdr.bins.heap_size(),
        }
    }

    /// The same buckets and counts as a histogram of the `hdrhistogram` crate, for its tools. The
    /// values of an exact sketch are counted into their buckets.
    ///
    /// # Errors
    ///
    /// [`SketchError::Histogram`] where the crate refuses; it is not known to.
    pub fn to_hdr(&self) -> Result<Histogram<u64>, SketchError> {
        let mut histogram =
            Histogram::new_with_bounds(1, u64::MAX, SIGNIFICANT_DIGITS).map_err(refused)?;
        match &self.form {
            Form::Exact(values) => values.iter().try_for_each(|v| histogram.record(v)),
            Form::Hdr(hdr) => {
                // The crate remembers the largest value that it was shown, so it must see it.
                let largest = std::iter::once((hdr.max, 0));
                let bins = hdr.bins.iter();
                let bins = bins.map(|(bucket, n)| (bucket_low(bucket).max(hdr.min), n));
                (largest.chain(bins)).try_for_each(|(v, n)| histogram.record_n(v, n))
            }
        }
        .map_err(refused)?;
        Ok(histogram)
    }

    /// Lets something happen to the histogram of all values, which an exact sketch becomes. What
    /// happens must leave more than [`EXACT_MAX`] values.
    #[cold]
    fn with_hdr(&mut self, change: impl FnOnce(&mut Hdr)) {
        match &mut self.form {
            Form::Hdr(hdr) => change(hdr),
            Form::Exact(values) => {
                let values: Vec<u64> = values.iter().collect();
                let mut hdr = Box::new(Hdr::of(&values));
                change(&mut hdr);
                self.form = Form::Hdr(hdr);
            }
        }
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        self.count() == other.count() && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Sketch {}

/// What a sketch is in memory.
#[derive(Clone, Debug)]
enum Form {
    /// At most [`EXACT_MAX`] values, in any order.
    Exact(Values),
    /// More than that.
    Hdr(Box<Hdr>),
}

impl Default for Form {
    fn default() -> Self {
        Self::Exact(Values::new())
    }
}

/// The sum of two counts, where a sketch may hold so many values.
fn added(count: u64, n: u64) -> Result<u64, SketchError> {
    count
        .checked_add(n)
        .filter(|count| *count <= COUNT_MAX)
        .ok_or(SketchError::Count)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn refused(error: impl fmt::Display) -> SketchError {
    SketchError::Histogram {
        reason: error.to_string(),
    }
}
