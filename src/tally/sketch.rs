//! The distribution of one measure in one group: exactly its values while there are at most
//! [`EXACT_MAX`] of them, an HDR histogram with its exact extremes beyond.
//!
//! In come unsigned integers (microseconds, tokens, pico-dollars); out go quantiles, shares and
//! bytes. All of it depends on the multiset of values alone: not on their order, not on how they
//! were split and merged, not on the form that a sketch happens to have in memory. So sketches are
//! a commutative monoid under [`Sketch::merge`], with [`Sketch::new`] as its identity.
//!
//! The buckets are those of the `hdrhistogram` crate with three significant digits and a lowest
//! discernible value of 1, over all of `u64`: up to 2048 a bucket a value, then 1024 buckets to
//! each doubling. Knows neither arrow nor plans.
//!
//! The bytes of a sketch, in LEB128 varints of the shortest form: the version, the count, then
//! up to [`EXACT_MAX`] values: each value in rising order, as its distance to the one before;
//! beyond: the smallest value, the distance of the largest to it, the number of buckets that are
//! not empty, and for each of these in rising order the number of buckets skipped before it and
//! its count less one. A multiset has exactly one such byte string, and no other is accepted.

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::ops::ControlFlow;
use std::str::FromStr;

use hdrhistogram::Histogram;

/// The most values that are kept as they are. Part of the format.
pub const EXACT_MAX: usize = 256;

/// The first byte of every sketch's bytes: units, buckets, [`EXACT_MAX`] and the format itself.
pub const FORMAT_VERSION: u8 = 1;

/// The most values that a sketch may hold where counts can come from outside: those of bytes, of
/// merging, of [`Sketch::record_n`].
pub const COUNT_MAX: u64 = i64::MAX.cast_unsigned();

/// [`EXACT_MAX`] as a count.
const EXACT_MAX_COUNT: u64 = EXACT_MAX as u64;
/// Significant decimal digits of the histogram.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Buckets to each doubling of the value: 2 to this.
const BUCKETS_PER_DOUBLING_LOG2: u32 = 10;
/// Buckets to each doubling of the value.
const BUCKETS_PER_DOUBLING: u64 = 1 << BUCKETS_PER_DOUBLING_LOG2;
/// The bits below the first bucket that is wider than one value.
const UNIT_BUCKET_MASK: u64 = 2 * BUCKETS_PER_DOUBLING - 1;
/// The bucket of `u64::MAX`.
const BUCKET_MAX: u16 = bucket_of(u64::MAX);
/// A histogram becomes dense where it has this many values for each bucket from its smallest to
/// its largest value: then at most two bytes a value. A sparse one so has less than 4 · 56 320
/// values and a few pending ones.
const DENSE_FROM: u64 = 4;
/// A dense histogram that must reach further becomes sparse where it has less values than this for
/// each bucket. Below [`DENSE_FROM`], so that a group at the edge does not go to and fro.
const DENSE_UNTIL: u64 = 2;
/// The least number of values that wait to be sorted into a sparse histogram.
const PENDING_MIN: usize = 64;
/// Beyond that the waiting ones are one for so many buckets, which bounds the work for each value.
const BINS_PER_PENDING: usize = 2;
/// A dense histogram that must reach further gets one bucket more for so many that it needs, ...
const SLACK_DIVISOR: u16 = 8;
/// ... and these, so that widening step by step stays cheap.
const SLACK_MIN: u16 = 16;
/// Millionths in one.
const MILLION: u64 = 1_000_000;
/// Millionths in a percent.
const MILLIONTHS_PER_PERCENT: u32 = 10_000;
/// Decimals of a percentile.
const PERCENT_DECIMALS: usize = 4;

/// A share of 0 to 1 in whole millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantile(u32);

impl Quantile {
    /// The median.
    pub const P50: Self = Self(500_000);
    /// The 90th percentile.
    pub const P90: Self = Self(900_000);
    /// The 95th percentile.
    pub const P95: Self = Self(950_000);
    /// The 99th percentile.
    pub const P99: Self = Self(990_000);

    /// The share of so many millionths; `None` above one million.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths as u64 <= MILLION {
            Some(Self(millionths))
        } else {
            None
        }
    }

    /// The share in millionths, 0 to 1 000 000.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Quantile {
    /// As a percentile, which parses back: `50`, `99.9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (
            self.0 / MILLIONTHS_PER_PERCENT,
            self.0 % MILLIONTHS_PER_PERCENT,
        );
        if decimals == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{decimals:0PERCENT_DECIMALS$}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Quantile {
    type Err = QuantileError;

    /// Reads a percentile: `50`, `99.9`, `0.0001`, `100`.
    fn from_str(text: &str) -> Result<Self, QuantileError> {
        parse_percentile(text).ok_or_else(|| QuantileError {
            text: text.to_owned(),
        })
    }
}

/// A text that is no percentile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a percentile: expected 0 to 100 with at most four decimals")]
pub struct QuantileError {
    /// The text.
    pub text: String,
}

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
            form: Form::Exact(Vec::new()),
        }
    }

    /// Adds one value.
    #[inline]
    pub fn record(&mut self, v: u64) {
        match &mut self.form {
            Form::Hdr(hdr) => hdr.record(v),
            Form::Exact(values) if values.len() < EXACT_MAX => push_tight(values, v),
            Form::Exact(_) => self.with_hdr(|hdr| hdr.record(v)),
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
            self.with_hdr(|hdr| hdr.record_n(v, n));
        }
        Ok(())
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
            Form::Exact(values) => values.iter().min().copied(),
            Form::Hdr(hdr) => Some(hdr.min),
        }
    }

    /// The largest value, always exact.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        match &self.form {
            Form::Exact(values) => values.iter().max().copied(),
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
            (_, Form::Exact(values)) => values.iter().for_each(|v| self.record(*v)),
            (Form::Hdr(hdr), Form::Hdr(other)) => hdr.merge(other),
            (Form::Exact(values), Form::Hdr(other)) => {
                let mut hdr = other.clone();
                for v in values.iter() {
                    hdr.record(*v);
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
        added(self.count(), stored.count)?;
        match stored.body {
            Body::Values(values) => {
                if let Form::Exact(own) = &mut self.form
                    && own.is_empty()
                {
                    // At most EXACT_MAX, as checked.
                    own.reserve_exact(values.left);
                }
                values.flatten().for_each(|v| self.record(v));
            }
            Body::Bins { min, max, bins } => self.with_hdr(|hdr| {
                hdr.widen(stored.count, min, max);
                hdr.add(bins.left, bins.flatten());
            }),
        }
        Ok(())
    }

    /// Appends the bytes of this sketch.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Exact(values) => {
                write_head(values.len() as u64, out);
                let mut previous = 0;
                for v in sorted(values).iter() {
                    write_varint(v.wrapping_sub(previous), out);
                    previous = *v;
                }
            }
            Form::Hdr(hdr) => hdr.write_to(out),
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
        write_head(1, out);
        write_varint(v, out);
    }

    /// The quantile by linear interpolation at index q · (n − 1) of the sorted values
    /// (Hyndman–Fan type 7), in thousandths of the recorded unit (from microseconds,
    /// nanoseconds), rounded half to even; `None` where there is no value.
    ///
    /// Never below the minimum, never above the maximum, and not falling in `q`.
    #[must_use]
    pub fn quantile_thousandths(&self, q: Quantile) -> Option<u128> {
        let last = self.count().checked_sub(1)?;
        let position = u128::from(q.0) * u128::from(last);
        let whole = u64::try_from(position / u128::from(MILLION)).ok()?;
        let fraction = position % u128::from(MILLION);
        let next = whole + u64::from(fraction > 0);
        match &self.form {
            Form::Exact(values) => {
                let values = sorted(values);
                let at = |rank| values.get(usize::try_from(rank).ok()?).copied();
                Some(interpolated_thousandths(at(whole)?, at(next)?, fraction))
            }
            Form::Hdr(hdr) => {
                let (low, high) = hdr.middles_at(whole, next);
                let (min, max) = (u128::from(hdr.min) * 1000, u128::from(hdr.max) * 1000);
                Some(
                    interpolated_thousandths(low, high, fraction)
                        .max(min)
                        .min(max),
                )
            }
        }
    }

    /// How many values are at or below a threshold. Exact up to [`EXACT_MAX`] values; beyond, a
    /// bucket counts as a whole by its middle, but the threshold is held against the exact
    /// extremes first.
    #[must_use]
    pub fn count_at_or_below(&self, threshold: u64) -> u64 {
        match &self.form {
            Form::Exact(values) => values.iter().filter(|v| **v <= threshold).count() as u64,
            Form::Hdr(hdr) => hdr.count_at_or_below(threshold),
        }
    }

    /// Bytes on the heap, by capacity. Costs the same for every sketch.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        match &self.form {
            Form::Exact(values) => size_of::<u64>() * values.capacity(),
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
            Form::Exact(values) => {
                for v in values {
                    histogram.record(*v).map_err(refused)?;
                }
            }
            Form::Hdr(hdr) => {
                // The crate remembers the extremes that it was shown, so it must see them.
                let last = bucket_of(hdr.max);
                let outcome = hdr.bins.settled().try_each(|bucket, n| {
                    let n = n.saturating_sub(u64::from(bucket == last));
                    match histogram.record_n(bucket_low(bucket).max(hdr.min), n) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(error) => ControlFlow::Break(refused(error)),
                    }
                });
                if let ControlFlow::Break(error) = outcome {
                    return Err(error);
                }
                histogram.record(hdr.max).map_err(refused)?;
            }
        }
        Ok(histogram)
    }

    /// Lets something happen to the histogram of all values, which an exact sketch becomes. What
    /// happens must leave more than [`EXACT_MAX`] values.
    #[cold]
    fn with_hdr(&mut self, change: impl FnOnce(&mut Hdr)) {
        match &mut self.form {
            Form::Hdr(hdr) => change(hdr),
            Form::Exact(values) => {
                let mut hdr = Box::new(Hdr::of(values));
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

/// The bucket of a value.
#[allow(
    clippy::cast_possible_truncation,
    reason = "at most 56 319, by the test of u64::MAX"
)]
#[inline]
#[must_use]
pub const fn bucket_of(v: u64) -> u16 {
    // How many low bits of the value its bucket does not tell.
    let width_log2 = (v | UNIT_BUCKET_MASK).ilog2() - BUCKETS_PER_DOUBLING_LOG2;
    (((width_log2 as u64) << BUCKETS_PER_DOUBLING_LOG2) + (v >> width_log2)) as u16
}

/// The smallest value of a bucket.
#[must_use]
pub const fn bucket_low(bucket: u16) -> u64 {
    let width_log2 = width_log2(bucket);
    (bucket as u64 - ((width_log2 as u64) << BUCKETS_PER_DOUBLING_LOG2)) << width_log2
}

/// How many values a bucket holds apart.
#[must_use]
pub const fn bucket_width(bucket: u16) -> u64 {
    1 << width_log2(bucket)
}

const fn width_log2(bucket: u16) -> u32 {
    // The first two runs of buckets, up to 2048, are one wide.
    ((bucket >> BUCKETS_PER_DOUBLING_LOG2) as u32).saturating_sub(1)
}

/// The value that stands for a bucket: half its width, in whole units, above its smallest.
const fn bucket_middle(bucket: u16) -> u64 {
    bucket_low(bucket) + bucket_width(bucket) / 2
}

/// What a sketch is in memory.
#[derive(Clone, Debug)]
enum Form {
    /// At most [`EXACT_MAX`] values, in any order.
    Exact(Vec<u64>),
    /// More than that.
    Hdr(Box<Hdr>),
}

impl Default for Form {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

/// A histogram with exact extremes. The bins hold all of `count` values, none outside the buckets
/// of `min` to `max`.
#[derive(Clone, Debug)]
struct Hdr {
    count: u64,
    min: u64,
    max: u64,
    bins: Bins,
}

impl Hdr {
    fn of(values: &[u64]) -> Self {
        let mut hdr = Self {
            count: 0,
            min: u64::MAX,
            max: 0,
            bins: Bins::Sparse(Sparse::default()),
        };
        if let (Some(min), Some(max)) = (values.iter().min(), values.iter().max()) {
            let mut buckets: Vec<u16> = values.iter().copied().map(bucket_of).collect();
            buckets.sort_unstable();
            hdr.widen(values.len() as u64, *min, *max);
            hdr.add(buckets.len(), runs_of(&buckets));
        }
        hdr
    }

    #[inline]
    fn record(&mut self, v: u64) {
        let bucket = bucket_of(v);
        // Counts from outside are held to half of u64; no process lives to record the other half
        // one by one.
        self.count += 1;
        self.min = self.min.min(v);
        self.max = self.max.max(v);
        match &mut self.bins {
            Bins::Dense(dense) => match dense.count_of(bucket) {
                Some(n) => *n += 1,
                None => self.place(bucket, 1),
            },
            Bins::Sparse(sparse) => {
                if sparse.wait(bucket) {
                    sparse.settle();
                    self.choose_form();
                }
            }
        }
    }

    fn record_n(&mut self, v: u64, n: u64) {
        self.widen(n, v, v);
        self.add(1, std::iter::once((bucket_of(v), n)));
    }

    #[cold]
    fn place(&mut self, bucket: u16, n: u64) {
        self.choose_form();
        self.add(1, std::iter::once((bucket, n)));
    }

    /// Announces values whose bins are about to be added. The caller has checked the count.
    fn widen(&mut self, n: u64, min: u64, max: u64) {
        self.count += n;
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.choose_form();
    }

    /// Gives the bins the form that count and extremes call for, with room for all between these.
    fn choose_form(&mut self) {
        let (first, last) = (bucket_of(self.min), bucket_of(self.max));
        let span = u64::from(last.saturating_sub(first)) + 1;
        let changed = match &mut self.bins {
            Bins::Sparse(sparse) if self.count >= DENSE_FROM * span => {
                Bins::Dense(sparse.to_dense(first, last))
            }
            Bins::Dense(dense) if !dense.reaches(first, last) => {
                if self.count >= DENSE_UNTIL * span {
                    dense.reach(first, last);
                    return;
                }
                Bins::Sparse(dense.to_sparse())
            }
            Bins::Sparse(_) | Bins::Dense(_) => return,
        };
        self.bins = changed;
    }

    /// Adds at most `n_bins` bins, in rising order, after they were announced.
    fn add(&mut self, n_bins: usize, more: impl Iterator<Item = (u16, u64)>) {
        match &mut self.bins {
            Bins::Sparse(sparse) => sparse.add(n_bins, more),
            Bins::Dense(dense) => dense.add(more),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.widen(other.count, other.min, other.max);
        match &other.bins {
            Bins::Sparse(sparse) => {
                self.add(sparse.buckets.len(), sparse.settled_bins());
                for bucket in &sparse.pending {
                    match &mut self.bins {
                        Bins::Sparse(own) => {
                            if own.wait(*bucket) {
                                own.settle();
                            }
                        }
                        Bins::Dense(own) => own.add(std::iter::once((*bucket, 1))),
                    }
                }
            }
            Bins::Dense(dense) => {
                let n_bins = match self.bins {
                    Bins::Sparse(_) => dense.bins().count(),
                    Bins::Dense(_) => 0,
                };
                self.add(n_bins, dense.bins());
            }
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        let bins = self.bins.settled();
        let mut n_bins = 0;
        bins.each(|_, _| n_bins += 1);
        write_head(self.count, out);
        write_varint(self.min, out);
        write_varint(self.max.wrapping_sub(self.min), out);
        write_varint(n_bins, out);
        let mut next = 0;
        bins.each(|bucket, n| {
            write_varint(u64::from(bucket.wrapping_sub(next)), out);
            write_varint(n.wrapping_sub(1), out);
            next = bucket.wrapping_add(1);
        });
    }

    /// The middles of the buckets that hold the values of these two ranks, `low` at most `high`,
    /// both below the count.
    fn middles_at(&self, low: u64, high: u64) -> (u64, u64) {
        let mut n_seen = 0;
        let mut low_middle = None;
        let found = self.bins.settled().try_each(|bucket, n| {
            n_seen += n;
            if low_middle.is_none() && n_seen > low {
                low_middle = Some(bucket_middle(bucket));
            }
            if n_seen > high {
                return ControlFlow::Break(bucket_middle(bucket));
            }
            ControlFlow::Continue(())
        });
        let high_middle = found.break_value().unwrap_or(self.max);
        (low_middle.unwrap_or(high_middle), high_middle)
    }

    fn count_at_or_below(&self, threshold: u64) -> u64 {
        if threshold < self.min {
            return 0;
        }
        if threshold >= self.max {
            return self.count;
        }
        let mut n_below = 0;
        self.bins.each(|bucket, n| {
            if bucket_middle(bucket) <= threshold {
                n_below += n;
            }
        });
        n_below
    }
}

/// The buckets' counts.
#[derive(Clone, Debug)]
enum Bins {
    Sparse(Sparse),
    Dense(Dense),
}

impl Bins {
    fn heap_size(&self) -> usize {
        match self {
            Self::Sparse(sparse) => {
                size_of::<u16>() * (sparse.buckets.capacity() + sparse.pending.capacity())
                    + size_of::<u32>() * sparse.counts.capacity()
            }
            Self::Dense(dense) => size_of::<u64>() * dense.counts.capacity(),
        }
    }

    /// The same with nothing pending, so that each bucket comes once and in rising order.
    fn settled(&self) -> Cow<'_, Self> {
        match self {
            Self::Sparse(sparse) if !sparse.pending.is_empty() => {
                let mut sparse = sparse.clone();
                sparse.settle();
                Cow::Owned(Self::Sparse(sparse))
            }
            Self::Sparse(_) | Self::Dense(_) => Cow::Borrowed(self),
        }
    }

    /// Every bucket that is not empty with its count; a pending value is a bin of its own, last.
    fn try_each<B>(&self, mut visit: impl FnMut(u16, u64) -> ControlFlow<B>) -> ControlFlow<B> {
        match self {
            Self::Sparse(sparse) => {
                for (bucket, n) in sparse.settled_bins() {
                    visit(bucket, n)?;
                }
                for bucket in &sparse.pending {
                    visit(*bucket, 1)?;
                }
            }
            Self::Dense(dense) => {
                for (bucket, n) in dense.bins() {
                    visit(bucket, n)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// As [`Self::try_each`], to the end.
    fn each(&self, mut visit: impl FnMut(u16, u64)) {
        let _ = self.try_each(|bucket, n| {
            visit(bucket, n);
            ControlFlow::<()>::Continue(())
        });
    }
}

/// Few of the buckets: six bytes each, and values that wait to be sorted in.
#[derive(Clone, Debug, Default)]
struct Sparse {
    /// Rising.
    buckets: Vec<u16>,
    /// One for each of `buckets`, none zero.
    counts: Vec<u32>,
    /// Buckets of single values, in order of arrival.
    pending: Vec<u16>,
}

impl Sparse {
    fn settled_bins(&self) -> impl Iterator<Item = (u16, u64)> {
        self.buckets
            .iter()
            .copied()
            .zip(self.counts.iter().copied().map(u64::from))
    }

    /// Takes note of a value; `true` where it is time to settle.
    fn wait(&mut self, bucket: u16) -> bool {
        let limit = PENDING_MIN.max(self.buckets.len() / BINS_PER_PENDING);
        if self.pending.capacity() < limit {
            self.pending
                .reserve_exact(limit - self.pending.len().min(limit));
        }
        self.pending.push(bucket);
        self.pending.len() >= limit
    }

    /// Sorts in what waits.
    fn settle(&mut self) {
        let mut pending = mem::take(&mut self.pending);
        pending.sort_unstable();
        self.add(pending.len(), runs_of(&pending));
        pending.clear();
        self.pending = pending;
    }

    /// Adds at most `n_bins` bins, in rising order.
    fn add(&mut self, n_bins: usize, more: impl Iterator<Item = (u16, u64)>) {
        let room = self.buckets.len() + n_bins;
        let mut merged = Self {
            buckets: Vec::with_capacity(room),
            counts: Vec::with_capacity(room),
            pending: mem::take(&mut self.pending),
        };
        let mut own = self.settled_bins().peekable();
        for (bucket, mut n) in more {
            while let Some((own_bucket, own_n)) =
                own.next_if(|(own_bucket, _)| *own_bucket <= bucket)
            {
                if own_bucket == bucket {
                    n += own_n;
                } else {
                    merged.push(own_bucket, own_n);
                }
            }
            merged.push(bucket, n);
        }
        for (bucket, n) in own {
            merged.push(bucket, n);
        }
        merged.buckets.shrink_to_fit();
        merged.counts.shrink_to_fit();
        *self = merged;
    }

    fn push(&mut self, bucket: u16, n: u64) {
        self.buckets.push(bucket);
        // What has so many values is dense (see DENSE_FROM), so this never holds one back.
        self.counts.push(u32::try_from(n).unwrap_or(u32::MAX));
    }

    fn to_dense(&self, first: u16, last: u16) -> Dense {
        let mut dense = Dense {
            first,
            counts: Vec::new(),
        };
        dense.reach(first, last);
        dense.add(self.settled_bins());
        dense.add(self.pending.iter().map(|bucket| (*bucket, 1)));
        dense
    }
}

/// A count for every bucket of a range.
#[derive(Clone, Debug)]
struct Dense {
    /// The bucket of the first count.
    first: u16,
    counts: Vec<u64>,
}

impl Dense {
    /// The bins that are not empty.
    fn bins(&self) -> impl Iterator<Item = (u16, u64)> {
        (self.first..)
            .zip(self.counts.iter().copied())
            .filter(|(_, n)| *n > 0)
    }

    #[inline]
    fn count_of(&mut self, bucket: u16) -> Option<&mut u64> {
        // A bucket before the first wraps to beyond the last: there are less than 2¹⁶ buckets.
        self.counts
            .get_mut(usize::from(bucket.wrapping_sub(self.first)))
    }

    /// Adds bins within reach.
    fn add(&mut self, more: impl Iterator<Item = (u16, u64)>) {
        for (bucket, n) in more {
            if let Some(own) = self.count_of(bucket) {
                *own += n;
            }
        }
    }

    fn reaches(&self, first: u16, last: u16) -> bool {
        let end = usize::from(self.first) + self.counts.len();
        self.first <= first && usize::from(last) < end
    }

    /// Makes the range hold these two and all between; with slack at a side that has to move.
    fn reach(&mut self, first: u16, last: u16) {
        let had_any = !self.counts.is_empty();
        let slack = if had_any {
            SLACK_MIN.max(last.saturating_sub(first) / SLACK_DIVISOR)
        } else {
            0
        };
        let own_end = usize::from(self.first) + self.counts.len();
        let new_first = if first < self.first {
            first.saturating_sub(slack)
        } else {
            self.first
        };
        let new_end = if usize::from(last) < own_end {
            own_end
        } else {
            usize::from(last.saturating_add(slack).min(BUCKET_MAX)) + 1
        };
        let mut counts = Vec::with_capacity(new_end.saturating_sub(usize::from(new_first)));
        counts.resize(usize::from(self.first.saturating_sub(new_first)), 0);
        counts.append(&mut self.counts);
        counts.resize(new_end.saturating_sub(usize::from(new_first)), 0);
        *self = Self {
            first: new_first,
            counts,
        };
    }

    fn to_sparse(&self) -> Sparse {
        let mut sparse = Sparse::default();
        sparse.add(self.bins().count(), self.bins());
        sparse
    }
}

/// A sketch's bytes that were found to be right, not yet taken in.
struct Stored<'a> {
    count: u64,
    body: Body<'a>,
}

enum Body<'a> {
    Values(StoredValues<'a>),
    Bins {
        min: u64,
        max: u64,
        bins: StoredBins<'a>,
    },
}

impl<'a> Stored<'a> {
    fn check(bytes: &'a [u8]) -> Result<Self, SketchError> {
        let mut reader = Reader { bytes };
        let version = reader.byte()?;
        if version != FORMAT_VERSION {
            return Err(SketchError::Version { found: version });
        }
        let count = reader.varint()?;
        let body = match usize::try_from(count) {
            Ok(n_values) if n_values <= EXACT_MAX => {
                Body::Values(StoredValues::check(reader, n_values)?)
            }
            _ => Self::check_bins(reader, count)?,
        };
        Ok(Self { count, body })
    }

    fn check_bins(mut reader: Reader<'a>, count: u64) -> Result<Body<'a>, SketchError> {
        added(0, count)?;
        let min = reader.varint()?;
        let max = min
            .checked_add(reader.varint()?)
            .ok_or(SketchError::Overflow)?;
        let n_bins = reader.varint()?;
        // A bin takes two bytes at least.
        let n_bins = match usize::try_from(n_bins) {
            Ok(n_bins) if n_bins <= reader.bytes.len() / 2 => n_bins,
            _ => return Err(SketchError::Truncated),
        };
        let bins = StoredBins {
            reader,
            left: n_bins,
            next: 0,
        };
        bins.clone().check(count, min, max)?;
        Ok(Body::Bins { min, max, bins })
    }
}

/// The values of an exact sketch's bytes, rising.
#[derive(Clone)]
struct StoredValues<'a> {
    reader: Reader<'a>,
    left: usize,
    previous: u64,
}

impl<'a> StoredValues<'a> {
    fn check(reader: Reader<'a>, n_values: usize) -> Result<Self, SketchError> {
        let values = Self {
            reader,
            left: n_values,
            previous: 0,
        };
        let mut rest = values.clone();
        rest.by_ref().try_for_each(|value| value.map(drop))?;
        rest.reader.end()?;
        Ok(values)
    }
}

impl Iterator for StoredValues<'_> {
    type Item = Result<u64, SketchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.reader.varint().and_then(|distance| {
            self.previous = self
                .previous
                .checked_add(distance)
                .ok_or(SketchError::Overflow)?;
            Ok(self.previous)
        }))
    }
}

/// The bins of a histogram's bytes, rising.
#[derive(Clone)]
struct StoredBins<'a> {
    reader: Reader<'a>,
    left: usize,
    /// The bucket after the last one.
    next: u16,
}

impl StoredBins<'_> {
    fn check(mut self, count: u64, min: u64, max: u64) -> Result<(), SketchError> {
        let mut found = 0_u64;
        let mut ends: Option<(u16, u16)> = None;
        for bin in self.by_ref() {
            let (bucket, n) = bin?;
            found = found.checked_add(n).ok_or(SketchError::Overflow)?;
            ends = Some((ends.map_or(bucket, |(first, _)| first), bucket));
        }
        self.reader.end()?;
        if found != count {
            return Err(SketchError::CountMismatch {
                expected: count,
                found,
            });
        }
        let extremes = [
            ("minimum", min, ends.map(|(first, _)| first)),
            ("maximum", max, ends.map(|(_, last)| last)),
        ];
        for (extreme, value, bucket) in extremes {
            if bucket != Some(bucket_of(value)) {
                return Err(SketchError::Extreme { extreme, value });
            }
        }
        Ok(())
    }

    fn bin(&mut self) -> Result<(u16, u64), SketchError> {
        let n_skipped = self.reader.varint()?;
        let bucket = u16::try_from(n_skipped)
            .ok()
            .and_then(|n_skipped| self.next.checked_add(n_skipped))
            .filter(|bucket| *bucket <= BUCKET_MAX)
            .ok_or(SketchError::Bucket)?;
        self.next = bucket + 1;
        let n = self
            .reader
            .varint()?
            .checked_add(1)
            .ok_or(SketchError::Overflow)?;
        Ok((bucket, n))
    }
}

impl Iterator for StoredBins<'_> {
    type Item = Result<(u16, u64), SketchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.bin())
    }
}

/// What is left of a sketch's bytes.
#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, SketchError> {
        let (byte, rest) = self.bytes.split_first().ok_or(SketchError::Truncated)?;
        self.bytes = rest;
        Ok(*byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, SketchError> {
        // Most numbers of a sketch have one byte.
        match self.bytes.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, SketchError> {
        let mut value = 0;
        for (n_read, byte) in self.bytes.iter().enumerate() {
            // A tenth byte has room for one bit.
            if n_read > 9 || (n_read == 9 && *byte > 1) {
                return Err(SketchError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * n_read);
            if *byte < 0x80 {
                if *byte == 0 {
                    return Err(SketchError::NotShortest);
                }
                self.bytes = self.bytes.get(n_read + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(SketchError::Truncated)
    }

    fn end(&self) -> Result<(), SketchError> {
        match self.bytes.len() {
            0 => Ok(()),
            n_bytes => Err(SketchError::Trailing { n_bytes }),
        }
    }
}

fn write_head(count: u64, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    write_varint(count, out);
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the lowest seven bits are meant"
)]
#[inline]
fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The sum of two counts, where a sketch may hold so many values.
fn added(count: u64, n: u64) -> Result<u64, SketchError> {
    count
        .checked_add(n)
        .filter(|count| *count <= COUNT_MAX)
        .ok_or(SketchError::Count)
}

/// Pushes with room for one value at first, then twice as many each time: a million groups of one
/// value must not pay for four.
#[inline]
fn push_tight(values: &mut Vec<u64>, v: u64) {
    if values.len() == values.capacity() {
        values.reserve_exact(values.len().max(1));
    }
    values.push(v);
}

fn sorted(values: &[u64]) -> Cow<'_, [u64]> {
    if values.is_sorted() {
        return Cow::Borrowed(values);
    }
    let mut values = values.to_vec();
    values.sort_unstable();
    Cow::Owned(values)
}

/// The runs of equal buckets, with their lengths.
fn runs_of(sorted: &[u16]) -> impl Iterator<Item = (u16, u64)> {
    sorted
        .chunk_by(|a, b| a == b)
        .filter_map(|run| Some((*run.first()?, run.len() as u64)))
}

/// The point so many millionths of the way from `low` up to `high`, in thousandths, half to even.
fn interpolated_thousandths(low: u64, high: u64, millionths: u128) -> u128 {
    let million = u128::from(MILLION);
    // Below 2⁶⁴ · 10⁶ < 2⁸⁴.
    let point = u128::from(low) * (million - millionths) + u128::from(high) * millionths;
    let (quotient, rest) = (point / 1000, point % 1000);
    quotient + u128::from(rest > 500 || (rest == 500 && quotient % 2 == 1))
}

fn parse_percentile(text: &str) -> Option<Quantile> {
    let (whole, decimals) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || decimals.len() > PERCENT_DECIMALS
        || !all_digits(whole)
        || !all_digits(decimals)
    {
        return None;
    }
    let decimals: u32 = format!("{decimals:0<PERCENT_DECIMALS$}").parse().ok()?;
    let whole: u32 = whole.parse().ok()?;
    Quantile::from_millionths(
        whole
            .checked_mul(MILLIONTHS_PER_PERCENT)?
            .checked_add(decimals)?,
    )
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

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests {
    use num_bigint::BigUint;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A seeded stream of numbers that look random.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x9e37_79b9);
            (self.0 ^ self.0 >> 29)
                .wrapping_mul(0xd6e8_feb8_6659_fd93)
                .rotate_left(32)
        }

        fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }

        /// All magnitudes alike, from 0 to the whole of `u64`.
        fn any_magnitude(&mut self) -> u64 {
            let shift = self.below(64);
            self.next() >> shift
        }

        /// The shapes of distribution that the tests go through, by number.
        fn of_shape(&mut self, shape: u64) -> u64 {
            match shape {
                0 => self.any_magnitude(),
                1 => 12_345_678,
                2 if self.below(3) == 0 => 30_000_000 + self.below(1000),
                2 => 200_000 + self.below(50_000),
                3 if self.below(10) > 0 => 0,
                3 => self.below(5_000_000),
                4 => {
                    let spread = 1 << self.below(24);
                    50_000 + self.below(spread)
                }
                5 => u64::MAX - self.below(3),
                _ => self.below(3000),
            }
        }
    }

    const N_SHAPES: u64 = 7;

    fn values_of(shape: u64, n: usize, seed: u64) -> Vec<u64> {
        let mut numbers = Numbers(seed);
        (0..n).map(|_| numbers.of_shape(shape)).collect()
    }

    fn sketch_of(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::new();
        for v in values {
            sketch.record(*v);
        }
        sketch
    }

    /// Type 7 over sorted values as an exact number of millionths of a unit.
    fn exact_millionths(sorted: &[u64], q: Quantile) -> BigUint {
        let position = BigUint::from(q.millionths()) * (sorted.len() - 1);
        let index = usize::try_from(&position / MILLION).unwrap();
        let fraction = position % MILLION;
        let step = sorted.get(index + 1).map_or(0, |next| next - sorted[index]);
        BigUint::from(sorted[index]) * MILLION + fraction * step
    }

    /// Millionths to thousandths, half to even.
    fn to_thousandths(millionths: &BigUint) -> u128 {
        let quotient = u128::try_from(millionths / 1000_u32).unwrap();
        match (millionths % 1000_u32).cmp(&BigUint::from(500_u32)) {
            std::cmp::Ordering::Less => quotient,
            std::cmp::Ordering::Equal => quotient + quotient % 2,
            std::cmp::Ordering::Greater => quotient + 1,
        }
    }

    fn thousandth_quantiles() -> impl Iterator<Item = Quantile> {
        (0..=1000).filter_map(|n| Quantile::from_millionths(n * 1000))
    }

    /// Values of one shape, few or many.
    fn any_values() -> impl Strategy<Value = Vec<u64>> {
        let n_values = prop_oneof![0..8_usize, 250..263_usize, 0..600_usize, 0..3000_usize];
        (0..N_SHAPES, n_values, any::<u64>()).prop_map(|(shape, n, seed)| values_of(shape, n, seed))
    }

    #[test]
    fn percentiles_are_read_and_shown() {
        for (text, millionths) in [
            ("50", 500_000),
            ("99.9", 999_000),
            ("99.9999", 999_999),
            ("0.0001", 1),
            ("0", 0),
            ("100", 1_000_000),
        ] {
            let q: Quantile = text.parse().unwrap();
            assert_eq!(q.millionths(), millionths);
            assert_eq!(q.to_string(), text);
        }
        assert_eq!("95.00".parse(), Ok(Quantile::P95));
        for text in [
            "",
            ".",
            "50.",
            ".5",
            "-1",
            "+1",
            "100.0001",
            "101",
            "1e1",
            "50.00000",
            "5 0",
            "99999999999",
            "429497",
        ] {
            assert!(text.parse::<Quantile>().is_err(), "{text}");
        }
        assert_eq!(Quantile::from_millionths(1_000_001), None);
    }

    #[test]
    fn buckets_are_those_of_the_crate() {
        let theirs = Histogram::<u64>::new_with_bounds(1, u64::MAX, SIGNIFICANT_DIGITS).unwrap();
        assert_eq!(theirs.distinct_values(), usize::from(BUCKET_MAX) + 1);
        let mut numbers = Numbers(1);
        let random: Vec<u64> = (0..20_000).map(|_| numbers.any_magnitude()).collect();
        let edges = (0..64).flat_map(|shift| {
            let power = 1_u64 << shift;
            [
                power - 1,
                power,
                power + 1,
                power + power / 2,
                power + (power - 1),
            ]
        });
        for v in edges.chain(random).chain([u64::MAX - 1]) {
            let bucket = bucket_of(v);
            let high = bucket_low(bucket) + (bucket_width(bucket) - 1);
            assert_eq!(bucket_low(bucket), theirs.lowest_equivalent(v), "{v}");
            // In the last bucket the crate misses the top by one, but for the top itself.
            let missed = u64::from(bucket == BUCKET_MAX && v != u64::MAX);
            assert_eq!(high - missed, theirs.highest_equivalent(v), "{v}");
            assert_eq!(bucket_middle(bucket), theirs.median_equivalent(v), "{v}");
        }
        for bucket in 0..=BUCKET_MAX {
            let low = bucket_low(bucket);
            assert_eq!(bucket_of(low), bucket);
            assert_eq!(bucket_of(low + (bucket_width(bucket) - 1)), bucket);
        }
    }

    #[test]
    fn no_values() {
        let empty = Sketch::new();
        assert!(empty.is_empty() && empty.is_exact());
        assert_eq!((empty.count(), empty.min(), empty.max()), (0, None, None));
        assert_eq!(empty.quantile_thousandths(Quantile::P50), None);
        assert_eq!(empty.count_at_or_below(u64::MAX), 0);
        assert_eq!(empty.heap_size(), 0);
        assert_eq!(empty.to_bytes(), [1, 0]);
        assert_eq!(Sketch::from_bytes(&[1, 0]), Ok(empty));
    }

    #[test]
    fn a_known_percentile() {
        // Of nine values the two largest decide: 0.08 · 8 s + 0.92 · 13.536 s.
        let mut sketch = sketch_of(&[13_536_000, 2, 3, 4, 1, 6, 7, 8_000_000, 5]);
        assert_eq!(
            sketch.quantile_thousandths(Quantile::P99),
            Some(13_093_120_000)
        );
        assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(5000));
        sketch.record(6);
        assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(5500));
    }

    #[test]
    fn thousandths_are_rounded_half_to_even() {
        let sketch = sketch_of(&[0, 1]);
        for (millionths, thousandths) in [(500, 0), (501, 1), (1500, 2), (2500, 2), (2501, 3)] {
            let q = Quantile::from_millionths(millionths).unwrap();
            assert_eq!(sketch.quantile_thousandths(q), Some(thousandths));
        }
    }

    #[test]
    fn large_sketches_stay_within_a_thousandth() {
        for shape in 0..N_SHAPES {
            for (n, step) in [(257, 1), (300, 1), (2500, 20), (20_000, 100)] {
                let mut values = values_of(shape, n, shape + 17);
                let sketch = sketch_of(&values);
                values.sort_unstable();
                for q in thousandth_quantiles().step_by(step) {
                    let exact = exact_millionths(&values, q);
                    let got = BigUint::from(sketch.quantile_thousandths(q).unwrap()) * 1000_u32;
                    let error = (&exact).max(&got) - (&exact).min(&got);
                    // Half a thousandth of a unit by rounding, in millionths.
                    assert!(
                        (error - error_of_rounding(&exact, &got)) * 1000_u32 <= exact,
                        "{shape} {n} {q}"
                    );
                }
                assert_eq!(sketch.count(), values.len() as u64);
                assert_eq!(sketch.min(), values.first().copied());
                assert_eq!(sketch.max(), values.last().copied());
            }
        }
    }

    /// What of the distance between these may come from rounding to thousandths: at most half of
    /// one, in millionths.
    fn error_of_rounding(exact: &BigUint, got: &BigUint) -> BigUint {
        (exact.max(got) - exact.min(got)).min(BigUint::from(500_u32))
    }

    #[test]
    fn the_form_in_memory_does_not_show() {
        for shape in 0..N_SHAPES {
            // The same values on ways that lead through other forms.
            let mut values = values_of(shape, 15_000, 99);
            let as_they_come = sketch_of(&values).to_bytes();
            values.sort_unstable();
            assert_eq!(sketch_of(&values).to_bytes(), as_they_come);
            let mut counted = Sketch::new();
            for run in values.chunk_by(|a, b| bucket_of(*a) == bucket_of(*b)) {
                // The extremes are exact, so the bucket's own values must not get lost.
                counted.record(run[0]);
                counted
                    .record_n(run[run.len() - 1], run.len() as u64 - 1)
                    .unwrap();
            }
            assert_eq!(counted.to_bytes(), as_they_come);
            values.reverse();
            assert_eq!(sketch_of(&values).to_bytes(), as_they_come);
        }
    }

    #[test]
    fn one_far_value_does_not_make_a_dense_sketch_large() {
        let mut sketch = sketch_of(&[0; 299]);
        assert!(sketch.heap_size() < 200, "{}", sketch.heap_size());
        sketch.record(u64::MAX);
        assert!(sketch.heap_size() < 400, "{}", sketch.heap_size());
        for _ in 0..300_000 {
            sketch.record(7);
        }
        assert_eq!(sketch.count(), 300_300);
        assert_eq!(sketch.count_at_or_below(6), 299);
        assert_eq!(sketch.count_at_or_below(7), 300_299);
        assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(7000));
    }

    #[test]
    fn sizes() {
        assert!(size_of::<Sketch>() <= 24);
        assert!(sketch_of(&[5]).heap_size() <= 8);
        for shape in 0..N_SHAPES {
            let few = sketch_of(&values_of(shape, 300, 5));
            assert!(few.heap_size() <= 2300, "{shape}: {}", few.heap_size());
            let read = Sketch::from_bytes(&few.to_bytes()).unwrap();
            assert!(read.heap_size() <= 2300, "{shape}: {}", read.heap_size());
            let many = sketch_of(&values_of(shape, 50_000, 6));
            assert!(many.heap_size() <= 500_000, "{shape}: {}", many.heap_size());
        }
    }

    #[test]
    fn one_value_without_a_sketch() {
        for v in [0, 1, 127, 128, 1_000_000, u64::MAX] {
            let mut bytes = Vec::new();
            Sketch::write_single(v, &mut bytes);
            assert_eq!(bytes, sketch_of(&[v]).to_bytes());
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(sketch_of(&[300, 5, 5]).to_bytes(), [1, 3, 5, 0, 0xa7, 0x02]);
        // 256 times 0 and once 5000, which is in bucket 2 · 1024 + 5000 / 4 = 3298.
        let mut sketch = sketch_of(&[0; 256]);
        sketch.record(5000);
        let (count, max, n_skipped) = ([0x81, 0x02], [0x88, 0x27], [0xe1, 0x19]);
        let expected = [
            &[1][..],
            &count,
            &[0],
            &max,
            &[2],
            &[0],
            &[0xff, 0x01],
            &n_skipped,
            &[0],
        ];
        assert_eq!(sketch.to_bytes(), expected.concat());
    }

    #[test]
    fn wrong_bytes_are_told_apart() {
        let varints = |numbers: &[u64]| {
            let mut bytes = vec![FORMAT_VERSION];
            for number in numbers {
                write_varint(*number, &mut bytes);
            }
            bytes
        };
        let read = |bytes: &[u8]| Sketch::from_bytes(bytes).map(drop);
        let read_all = |numbers: &[u64]| read(&varints(numbers));
        let mismatch = |found| {
            Err(SketchError::CountMismatch {
                expected: 257,
                found,
            })
        };
        let extreme = |extreme, value| Err(SketchError::Extreme { extreme, value });

        assert_eq!(read(&[]), Err(SketchError::Truncated));
        assert_eq!(read(&[2, 0]), Err(SketchError::Version { found: 2 }));
        assert_eq!(read(&[1]), Err(SketchError::Truncated));
        assert_eq!(read(&[1, 2, 0]), Err(SketchError::Truncated));
        assert_eq!(read(&[1, 0, 0]), Err(SketchError::Trailing { n_bytes: 1 }));
        assert_eq!(read(&[1, 0x80, 0]), Err(SketchError::NotShortest));
        assert_eq!(
            read(&[&[1, 1][..], &[0x80; 10], &[0]].concat()),
            Err(SketchError::Overflow)
        );
        assert_eq!(
            read(&[&[1, 1][..], &[0xff; 9], &[2]].concat()),
            Err(SketchError::Overflow)
        );
        assert_eq!(read(&[&[1, 1][..], &[0xff; 9], &[1]].concat()), Ok(()));
        assert_eq!(read_all(&[2, u64::MAX, 1]), Err(SketchError::Overflow));
        // Count, minimum, distance of the maximum, bins; for each bin the skipped, the count less one.
        assert_eq!(read_all(&[257, 7, 0, 1, 7, 256]), Ok(()));
        assert_eq!(
            read_all(&[257, 7, u64::MAX, 1, 7, 256]),
            Err(SketchError::Overflow)
        );
        assert_eq!(
            read_all(&[257, 7, 0, 2, 7, 256]),
            Err(SketchError::Truncated)
        );
        assert_eq!(
            read_all(&[257, 7, 0, u64::MAX, 7, 256]),
            Err(SketchError::Truncated)
        );
        assert_eq!(
            read_all(&[257, 7, 0, 1, 7, 256, 0]),
            Err(SketchError::Trailing { n_bytes: 1 })
        );
        assert_eq!(read_all(&[257, 7, 0, 1, 7, 255]), mismatch(256));
        assert_eq!(read_all(&[257, 7, 0, 0]), mismatch(0));
        assert_eq!(read_all(&[257, 6, 1, 1, 7, 256]), extreme("minimum", 6));
        assert_eq!(read_all(&[257, 7, 1, 1, 7, 256]), extreme("maximum", 8));
        assert_eq!(
            read_all(&[257, 7, 0, 1, 56_320, 256]),
            Err(SketchError::Bucket)
        );
        assert_eq!(
            read_all(&[257, 7, 0, 2, 56_319, 0, 0, 255]),
            Err(SketchError::Bucket)
        );
        assert_eq!(
            read_all(&[257, 7, 0, 2, 7, 0, u64::MAX, 0]),
            Err(SketchError::Bucket)
        );
        assert_eq!(
            read_all(&[257, 7, 0, 1, 7, u64::MAX]),
            Err(SketchError::Overflow)
        );
        assert_eq!(
            read_all(&[COUNT_MAX + 1, 7, 0, 1, 7, COUNT_MAX]),
            Err(SketchError::Count)
        );
    }

    #[test]
    fn a_count_never_passes_its_limit() {
        let mut sketch = Sketch::new();
        sketch.record_n(3000, COUNT_MAX - 1).unwrap();
        let bytes = sketch.to_bytes();
        assert_eq!(Sketch::from_bytes(&bytes), Ok(sketch.clone()));
        assert_eq!(sketch.quantile_thousandths(Quantile::P99), Some(3_000_000));
        assert_eq!(sketch.record_n(1, 2), Err(SketchError::Count));
        assert_eq!(sketch.record_n(1, u64::MAX), Err(SketchError::Count));
        assert_eq!(sketch.merge(&sketch_of(&[1, 2])), Err(SketchError::Count));
        assert_eq!(sketch.merge_bytes(&bytes), Err(SketchError::Count));
        assert_eq!(sketch.to_bytes(), bytes);
        sketch.record_n(u64::MAX, 1).unwrap();
        assert_eq!(sketch.count(), COUNT_MAX);
        assert_eq!(sketch.max(), Some(u64::MAX));
    }

    /// Bytes that are read are the ones that are written; bytes that are refused change nothing.
    fn check_foreign(bytes: &[u8]) {
        match Sketch::from_bytes(bytes) {
            Ok(read) => {
                assert_eq!(read.to_bytes(), bytes);
                let _ = (
                    read.quantile_thousandths(Quantile::P99),
                    read.count_at_or_below(1000),
                );
            }
            Err(error) => {
                let mut sketch = sketch_of(&[1, 2, 3]);
                assert_eq!(sketch.merge_bytes(bytes), Err(error));
                assert_eq!(sketch, sketch_of(&[1, 2, 3]));
            }
        }
    }

    #[test]
    fn mutated_bytes_are_refused_or_kept() {
        let mut numbers = Numbers(3);
        for shape in 0..N_SHAPES {
            for n in [3, 300] {
                let bytes = sketch_of(&values_of(shape, n, 8)).to_bytes();
                for n_kept in 0..bytes.len() {
                    assert!(Sketch::from_bytes(&bytes[..n_kept]).is_err());
                }
                for _ in 0..300 {
                    let mut mutated = bytes.clone();
                    for _ in 0..=numbers.below(3) {
                        let at = usize::try_from(numbers.below(mutated.len() as u64)).unwrap();
                        match numbers.below(4) {
                            0 => mutated.insert(at, 0x80),
                            1 if mutated.len() > 1 => drop(mutated.remove(at)),
                            2 => mutated[at] ^= 1 << numbers.below(8),
                            _ => mutated[at] = numbers.next().to_le_bytes()[0],
                        }
                    }
                    check_foreign(&mutated);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn up_to_256_values_are_exact(
            values in prop_oneof![
                vec(any::<u64>(), 1..=EXACT_MAX),
                vec(0..100_000_000_u64, 1..=EXACT_MAX),
            ],
            millionths in vec(0..=1_000_000_u32, 20),
        ) {
            let sketch = sketch_of(&values);
            prop_assert!(sketch.is_exact());
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let standard = [Quantile::P50, Quantile::P90, Quantile::P95, Quantile::P99];
            for q in millionths.into_iter().filter_map(Quantile::from_millionths).chain(standard) {
                let expected = to_thousandths(&exact_millionths(&sorted, q));
                prop_assert_eq!(sketch.quantile_thousandths(q), Some(expected));
            }
            for threshold in &values {
                let expected = values.iter().filter(|v| *v <= threshold).count() as u64;
                prop_assert_eq!(sketch.count_at_or_below(*threshold), expected);
            }
        }

        #[test]
        fn a_share_counts_a_bucket_by_its_middle(
            values in any_values(),
            thresholds in vec(any::<u64>(), 8),
        ) {
            let sketch = sketch_of(&values);
            let near = values.iter().take(20);
            let near = near.flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]);
            let stands_for = |v| if sketch.is_exact() { v } else { bucket_middle(bucket_of(v)) };
            for threshold in thresholds.into_iter().chain(near) {
                let expected = match (sketch.min(), sketch.max()) {
                    (Some(min), _) if threshold < min => 0,
                    (_, Some(max)) if threshold >= max => sketch.count(),
                    _ => values.iter().filter(|v| stands_for(**v) <= threshold).count() as u64,
                };
                prop_assert_eq!(sketch.count_at_or_below(threshold), expected);
            }
        }

        #[test]
        fn quantiles_do_not_fall(
            values in any_values(),
            mut millionths in vec(0..=1_000_000_u32, 50),
        ) {
            let sketch = sketch_of(&values);
            millionths.sort_unstable();
            let quantiles: Vec<_> = millionths
                .into_iter()
                .filter_map(Quantile::from_millionths)
                .map(|q| sketch.quantile_thousandths(q))
                .collect();
            prop_assert!(quantiles.is_sorted());
            prop_assert!(values.is_empty() || quantiles.iter().all(Option::is_some));
        }

        #[test]
        fn merging_is_a_commutative_monoid(
            a in any_values(), b in any_values(), c in any_values(),
        ) {
            let [a, b, c] = [a, b, c].map(|values| sketch_of(&values));
            let merged = |left: &Sketch, right: &Sketch| {
                let mut left = left.clone();
                left.merge(right).unwrap();
                left
            };
            prop_assert_eq!(merged(&a, &b).to_bytes(), merged(&b, &a).to_bytes());
            let left_first = merged(&merged(&a, &b), &c);
            let right_first = merged(&a, &merged(&b, &c));
            prop_assert_eq!(left_first.to_bytes(), right_first.to_bytes());
            prop_assert_eq!(merged(&a, &Sketch::new()).to_bytes(), a.to_bytes());
            prop_assert_eq!(merged(&Sketch::new(), &a).to_bytes(), a.to_bytes());
        }

        #[test]
        fn any_split_gives_the_bytes_of_one_pass(
            values in any_values(), more in any_values(), n_parts in 1..9_usize, seed: u64,
        ) {
            let values = [values, more].concat();
            let mut numbers = Numbers(seed);
            let mut parts = vec![Sketch::new(); n_parts];
            for v in &values {
                let part = usize::try_from(numbers.below(n_parts as u64)).unwrap();
                parts[part].record(*v);
            }
            let (mut by_merge, mut by_bytes) = (Sketch::new(), Sketch::new());
            for part in &parts {
                by_merge.merge(part).unwrap();
                by_bytes.merge_bytes(&part.to_bytes()).unwrap();
            }
            let one_pass = sketch_of(&values).to_bytes();
            prop_assert_eq!(&by_merge.to_bytes(), &one_pass);
            prop_assert_eq!(&by_bytes.to_bytes(), &one_pass);
            let read = Sketch::from_bytes(&one_pass).unwrap();
            prop_assert_eq!(&read.to_bytes(), &one_pass);
            prop_assert_eq!(read.min(), values.iter().min().copied());
            prop_assert_eq!(read.max(), values.iter().max().copied());
            prop_assert_eq!(read.count(), values.len() as u64);
            prop_assert_eq!(read, by_merge);
        }

        #[test]
        fn random_bytes_do_not_panic(
            bytes in vec(any::<u8>(), 0..60),
            numbers in vec(prop_oneof![0..4_u64, 250..260_u64, any::<u64>()], 0..10),
        ) {
            check_foreign(&bytes);
            let mut versioned = vec![FORMAT_VERSION];
            versioned.extend(&bytes);
            check_foreign(&versioned);
            versioned.truncate(1);
            for number in numbers {
                write_varint(number, &mut versioned);
            }
            check_foreign(&versioned);
        }
    }

    proptest! {
        // A whole histogram of the crate has 440 KiB.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_crate_gets_the_same_buckets(values in any_values()) {
            let ours = sketch_of(&values).to_hdr().unwrap();
            let mut theirs =
                Histogram::<u64>::new_with_bounds(1, u64::MAX, SIGNIFICANT_DIGITS).unwrap();
            for v in &values {
                theirs.record(*v).unwrap();
            }
            // A failure must not print 56 320 counts.
            prop_assert!(ours == theirs);
        }
    }
}
