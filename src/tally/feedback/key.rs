//! What is kept of one feedback key, how two of these add up, and what they say.
//!
//! Everything is an integer, a sorted map or a sketch. A score is held in units of 10⁻¹⁸, from the
//! decimal of its shortest text; that rounding and the last one to a float are the only ones. Where an
//! option is returned of something built or added, `None` says that counts or sums grow too large.

use std::collections::BTreeMap;

use num_bigint::{BigInt, BigUint};

use super::{KeyStats, Record, SCORE_MAX, tree_bytes};
use crate::tally::exact;
use crate::tally::sketch::{COUNT_MAX, Quantile, Sketch};

/// Fractional digits of a score.
const PLACES: i32 = 18;
/// One, in units of a score.
const ONE: u128 = 1_000_000_000_000_000_000;
/// The largest magnitude of a score, in its units: [`SCORE_MAX`] × `ONE`.
const MAGNITUDE_MAX: u128 = 1_000_000_000_000_000 * ONE;
/// Units of a score in the millionths that the sketches hold.
const UNITS_PER_MILLIONTH: u128 = ONE / 1_000_000;
/// Fractional digits of a median, which is read in thousandths of these.
const MEDIAN_PLACES: i32 = 9;
/// The most bytes of a sum of squares.
const SQUARES_BYTES_MAX: usize = 32;

/// The mergeable part of one key. Counts and sums only grow, and what is unknown stays unknown, so
/// neither a sum nor its overflow depends on the order: hence one sum of scores for either sign.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyTally {
    /// Numeric scores, at most [`COUNT_MAX`].
    pub(super) n: u64,
    /// Sum of the scores above zero, in units.
    pub(super) positive: u128,
    /// Sum of the magnitudes of those below zero, in units.
    pub(super) negative: u128,
    /// Sum of the squares, in squared units; `None` where a summary lacked it, or past 256 bits, which
    /// takes more than 10¹⁰ scores of the largest size.
    pub(super) squares: Option<BigUint>,
    /// The smallest and the largest score, in units; `None` where a summary lacked them.
    pub(super) extremes: Option<(i128, i128)>,
    /// All scores, one by one; `None` once some came only as a summary, or one is too large for
    /// millionths in a u64 (beyond about 1.8 × 10¹³).
    pub(super) scores: Option<Scores>,
    pub(super) errors: u64,
    pub(super) n_out_of_range: u64,
    pub(super) labels: Labels,
    pub(super) contains_thread_feedback: bool,
}

impl Default for KeyTally {
    fn default() -> Self {
        Self {
            n: 0,
            positive: 0,
            negative: 0,
            squares: Some(BigUint::ZERO),
            extremes: Some((i128::MAX, i128::MIN)),
            scores: Some(Scores::default()),
            errors: 0,
            n_out_of_range: 0,
            labels: Labels::default(),
            contains_thread_feedback: false,
        }
    }
}

impl KeyTally {
    pub(super) fn of_record(record: &Record) -> Option<Self> {
        let mut tally = match record.score {
            Some(score) => Self::of_score(score)?,
            None => Self::default(),
        };
        tally.errors = u64::from(record.is_error);
        tally.contains_thread_feedback = record.is_of_thread;
        if let Some(label) = &record.label {
            tally.labels.add(label, 1)?;
        }
        Some(tally)
    }

    pub(super) fn of_score(score: f64) -> Option<Self> {
        let Some(units) = units_of(score) else {
            return Some(Self::of_out_of_range(1));
        };
        let mut tally = Self::of_scores(1, units, Some(0), Some((units, units)))?;
        tally.scores = Scores::of_one(units);
        Some(tally)
    }

    /// `n` scores of which these figures are known, in units.
    pub(super) fn of_scores(
        n: u64,
        mean: i128,
        stdev: Option<i128>,
        extremes: Option<(i128, i128)>,
    ) -> Option<Self> {
        let sum = mean.unsigned_abs().checked_mul(u128::from(n))?;
        let square = |number: i128| BigUint::from(number.unsigned_abs()).pow(2);
        Some(Self {
            n: (n <= COUNT_MAX).then_some(n)?,
            positive: if mean > 0 { sum } else { 0 },
            negative: if mean < 0 { sum } else { 0 },
            squares: stdev.and_then(|stdev| narrow((square(mean) + square(stdev)) * n)),
            extremes,
            scores: None,
            ..Self::default()
        })
    }

    /// `n` scores that are left out.
    pub(super) fn of_out_of_range(n: u64) -> Self {
        Self {
            n_out_of_range: n,
            ..Self::default()
        }
    }

    /// Whether the counts and sums of both fit.
    pub(super) fn can_merge(&self, other: &Self) -> bool {
        let n = self.n.checked_add(other.n);
        let fits = |ours: u64, theirs| ours.checked_add(theirs).is_some();
        let fits_wide = |ours: u128, theirs| ours.checked_add(theirs).is_some();
        n.is_some_and(|n| n <= COUNT_MAX)
            && fits_wide(self.positive, other.positive)
            && fits_wide(self.negative, other.negative)
            && fits(self.errors, other.errors)
            && fits(self.n_out_of_range, other.n_out_of_range)
            && fits(self.labels.n, other.labels.n)
    }

    /// Adds what another holds, if it [can be](Self::can_merge).
    pub(super) fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.positive += other.positive;
        self.negative += other.negative;
        let squares = self.squares.take().zip(other.squares.as_ref());
        self.squares = squares.and_then(|(ours, theirs)| narrow(ours + theirs));
        let extremes = self.extremes.zip(other.extremes);
        self.extremes = extremes.map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        let scores = self.scores.take().zip(other.scores.as_ref());
        self.scores = scores.and_then(|(ours, theirs)| ours.merged(theirs));
        self.errors += other.errors;
        self.n_out_of_range += other.n_out_of_range;
        for (label, n) in &other.labels.counts {
            self.labels.add(label, *n);
        }
        self.contains_thread_feedback |= other.contains_thread_feedback;
    }

    /// All that it holds so many times, if the counts and sums fit.
    pub(super) fn times(&self, times: u64) -> Option<Self> {
        let wide = u128::from(times);
        Some(Self {
            n: self.n.checked_mul(times).filter(|n| *n <= COUNT_MAX)?,
            positive: self.positive.checked_mul(wide)?,
            negative: self.negative.checked_mul(wide)?,
            squares: (self.squares.as_ref()).and_then(|squares| narrow(squares * times)),
            extremes: self.extremes,
            scores: (self.scores.as_ref()).and_then(|scores| scores.times(times)),
            errors: self.errors.checked_mul(times)?,
            n_out_of_range: self.n_out_of_range.checked_mul(times)?,
            labels: self.labels.times(times)?,
            contains_thread_feedback: self.contains_thread_feedback,
        })
    }

    /// Whether `n` scores within the range can have these sums.
    pub(super) fn is_possible(&self) -> bool {
        let reach = BigUint::from(MAGNITUDE_MAX) * self.n;
        let is_in_range = |units: i128| units.unsigned_abs() <= MAGNITUDE_MAX;
        let (extremes, scores) = (self.extremes, self.scores.as_ref());
        self.n <= COUNT_MAX
            && BigUint::from(self.positive) + self.negative <= reach
            && (self.squares.is_none() || self.scatter().is_some())
            && extremes.is_none_or(|(min, max)| is_in_range(min) && is_in_range(max))
            && scores.is_none_or(|scores| scores.count() == Some(self.n))
    }

    /// Bytes on the heap, at most; takes constant time.
    pub(super) fn heap_size(&self) -> usize {
        let scores = self.scores.as_ref().map_or(0, Scores::heap_size);
        SQUARES_BYTES_MAX + scores + self.labels.heap_size()
    }

    pub(super) fn stats(&self) -> KeyStats {
        let (min, max) = self.extremes.filter(|_| self.n > 0).unzip();
        let to_f64 = |units| exact::decimal_to_f64(units, PLACES);
        KeyStats {
            n: if self.n > 0 { self.n } else { self.labels.n },
            avg: exact::quotient(&self.sum(), &(BigUint::from(ONE) * self.n)),
            stdev: self.stdev(self.n),
            stdev_sample: self.stdev(self.n.saturating_sub(1)),
            errors: self.errors,
            min: min.and_then(to_f64),
            max: max.and_then(to_f64),
            median: self.scores.as_ref().and_then(Scores::median),
            values: self.labels.counts.clone(),
            contains_thread_feedback: self.contains_thread_feedback,
            n_out_of_range: self.n_out_of_range,
        }
    }

    /// √(scatter ÷ (n · `divisor`)): with n the population's standard deviation, with n − 1 the
    /// sample's. None where the divisor is zero.
    fn stdev(&self, divisor: u64) -> Option<f64> {
        let denominator = BigUint::from(ONE).pow(2) * self.n * divisor;
        exact::root_of_quotient(&self.scatter()?, &denominator)
    }

    /// n·Σx² − (Σx)², in squared units: n² times the variance. None where Σx² is unknown; never
    /// negative for sums of real scores.
    fn scatter(&self) -> Option<BigUint> {
        let squares = BigInt::from(self.squares.clone()?);
        (squares * self.n - self.sum().pow(2)).to_biguint()
    }

    fn sum(&self) -> BigInt {
        BigInt::from(self.positive) - self.negative
    }
}

/// A score in its units; `None` beyond ± [`SCORE_MAX`] and for what is no number.
pub(super) fn units_of(score: f64) -> Option<i128> {
    let in_range = (score.abs() <= SCORE_MAX).then_some(score);
    exact::decimal_from_f64(in_range?, PLACES)
}

/// A sum of squares that is not too wide to be kept.
fn narrow(squares: BigUint) -> Option<BigUint> {
    (squares.bits() <= 8 * SQUARES_BYTES_MAX as u64).then_some(squares)
}

/// All scores in millionths; a sketch holds no sign, so those below zero are mirrored into one of
/// their own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scores {
    pub(super) negative: Sketch,
    pub(super) positive: Sketch,
}

impl Scores {
    /// One score, given in units; `None` where it is too large.
    fn of_one(units: i128) -> Option<Self> {
        let millionths = exact::divide_half_even(units.unsigned_abs(), UNITS_PER_MILLIONTH);
        let mut scores = Self::default();
        let side = if units < 0 {
            &mut scores.negative
        } else {
            &mut scores.positive
        };
        side.record(u64::try_from(millionths).ok()?);
        Some(scores)
    }

    fn count(&self) -> Option<u64> {
        self.negative.count().checked_add(self.positive.count())
    }

    /// `None` past [`COUNT_MAX`] scores on a side.
    fn merged(mut self, other: &Self) -> Option<Self> {
        self.negative.merge(&other.negative).ok()?;
        self.positive.merge(&other.positive).ok()?;
        Some(self)
    }

    /// `None` past [`COUNT_MAX`] scores on a side.
    fn times(&self, times: u64) -> Option<Self> {
        Some(Self {
            negative: self.negative.times(times).ok()?,
            positive: self.positive.times(times).ok()?,
        })
    }

    fn heap_size(&self) -> usize {
        self.negative.heap_size() + self.positive.heap_size()
    }

    /// The type-7 median over both sides.
    fn median(&self) -> Option<f64> {
        let one_side = |sketch: &Sketch| {
            let thousandths = sketch.quantile_thousandths(Quantile::P50)?;
            i128::try_from(thousandths).ok()
        };
        let thousandths = match (self.negative.count(), self.positive.count()) {
            (0, _) => one_side(&self.positive)?,
            (_, 0) => -one_side(&self.negative)?,
            _ => {
                let last = self.count()?.checked_sub(1)?;
                let (below, above) = (last / 2, last - last / 2);
                500 * (self.at_rank(below)? + self.at_rank(above)?)
            }
        };
        exact::decimal_to_f64(thousandths, MEDIAN_PLACES)
    }

    /// The value at a rank (from 0, ascending) over both sides, in millionths.
    fn at_rank(&self, rank: u64) -> Option<i128> {
        let n_negative = self.negative.count();
        match rank.checked_sub(n_negative) {
            Some(rank) => at_rank(&self.positive, rank).map(i128::from),
            None => at_rank(&self.negative, n_negative - 1 - rank).map(|v| -i128::from(v)),
        }
    }
}

/// The value at a rank (from 0, ascending) of a sketch: the smallest that has more than `rank` values
/// at or below it.
fn at_rank(sketch: &Sketch, rank: u64) -> Option<u64> {
    let (mut low, mut high) = (sketch.min()?, sketch.max()?);
    while low < high {
        let middle = low + (high - low) / 2;
        if sketch.count_at_or_below(middle) > rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// How often each label was given; none is held that never was.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Labels {
    pub(super) counts: BTreeMap<String, u64>,
    /// The sum of the counts; since it fits, every count does.
    n: u64,
    /// Bytes of the labels' texts.
    text_bytes: usize,
}

impl Labels {
    pub(super) fn add(&mut self, label: &str, n: u64) -> Option<()> {
        self.n = self.n.checked_add(n)?;
        if let Some(count) = self.counts.get_mut(label) {
            *count += n;
        } else if n > 0 {
            self.text_bytes += label.len();
            self.counts.insert(label.to_owned(), n);
        }
        Some(())
    }

    fn times(&self, times: u64) -> Option<Self> {
        let mut all = Self::default();
        for (label, n) in &self.counts {
            all.add(label, n.checked_mul(times)?)?;
        }
        Some(all)
    }

    fn heap_size(&self) -> usize {
        self.text_bytes + tree_bytes::<String, u64>(self.counts.len())
    }
}
