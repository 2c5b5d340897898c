//! Quantiles: which share of the values lies below, and where between two values that is.
//!
//! In come percentiles as text or shares as whole millionths; all arithmetic is on integers.

use std::fmt;
use std::str::FromStr;

/// Millionths in one.
pub(super) const MILLION: u32 = 1_000_000;
/// Millionths in a percent.
const MILLIONTHS_PER_PERCENT: u32 = MILLION / 100;
/// Decimals of a percentile.
const PERCENT_DECIMALS: usize = 4;

/// A share of 0 to 1 in whole millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantile(u32);

/// A text that is no percentile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a percentile: expected 0 to 100 with at most four decimals")]
pub struct QuantileError {
    /// The text.
    pub text: String,
}

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
        if millionths <= MILLION {
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

    /// This share of the way from 0 to `last`: the whole steps, and the rest in millionths of one.
    pub(super) fn position(self, last: u64) -> (u64, u64) {
        let (share, million) = (u64::from(self.0), u64::from(MILLION));
        // The product of share and last, divided, in two parts that 64 bits hold.
        let rest = last % million * share;
        (last / million * share + rest / million, rest % million)
    }
}

impl fmt::Display for Quantile {
    /// As a percentile, which parses back: `50`, `99.9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / MILLIONTHS_PER_PERCENT;
        let decimals = self.0 % MILLIONTHS_PER_PERCENT;
        let text = format!("{whole}.{decimals:0PERCENT_DECIMALS$}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
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

fn parse_percentile(text: &str) -> Option<Quantile> {
    let (whole, decimals) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    if whole.is_empty() || decimals.len() > PERCENT_DECIMALS {
        return None;
    }
    let millionths = format!("{whole}{decimals:0<PERCENT_DECIMALS$}");
    // Parsing would take a sign.
    if !millionths.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Quantile::from_millionths(millionths.parse().ok()?)
}

/// The point so many millionths of the way from `low` up to `high`, in thousandths, half to even.
pub(super) fn interpolated_thousandths(low: u64, high: u64, millionths: u64) -> u128 {
    let towards_high = u128::from(millionths);
    let towards_low = u128::from(MILLION) - towards_high;
    // Below 2⁶⁴ · 10⁶ < 2⁸⁴.
    let point = u128::from(low) * towards_low + u128::from(high) * towards_high;
    let (quotient, rest) = (point / 1000, point % 1000);
    quotient + u128::from(rest > 500 || (rest == 500 && quotient % 2 == 1))
}
