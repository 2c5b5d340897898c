//! The layout of the buckets: that of the `hdrhistogram` crate with three significant digits and a
//! lowest discernible value of 1, over all of `u64`.
//!
//! Up to 2048 a bucket a value; then 1024 buckets to each doubling.

/// Significant decimal digits.
pub(super) const SIGNIFICANT_DIGITS: u8 = 3;
/// The bucket of `u64::MAX`.
pub(super) const BUCKET_MAX: u16 = bucket_of(u64::MAX);
/// Buckets to each doubling of the value: 2 to this.
const BUCKETS_PER_DOUBLING_LOG2: u32 = 10;
/// The bits below the first bucket that is wider than one value.
const UNIT_BUCKET_MASK: u64 = (2 << BUCKETS_PER_DOUBLING_LOG2) - 1;

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

/// The value that stands for a bucket: half its width, in whole units, above its smallest.
pub(super) const fn bucket_middle(bucket: u16) -> u64 {
    bucket_low(bucket) + bucket_width(bucket) / 2
}

const fn width_log2(bucket: u16) -> u32 {
    // The first two runs of buckets, up to 2048, are one wide.
    ((bucket >> BUCKETS_PER_DOUBLING_LOG2) as u32).saturating_sub(1)
}
