//! Feedback of a group of runs: moments, extremes and label counts per key.
//!
//! What comes in is either the summaries that each run carries (JSON text) or
//! raw feedback records; what goes out are [`KeyStats`]. In between everything
//! is an integer, a sorted map or a sketch, so tallies merge in any order to
//! the same bytes. A score is held as the decimal of its shortest text in units
//! of 10⁻¹⁸; the only roundings are that one and the last one to a float.
//! Knows nothing of tables and plans.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;

use num_bigint::{BigInt, BigUint};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::sketch::{Quantile, Sketch, SketchError};

/// The version of the stored bytes.
pub const FORMAT_VERSION: u8 = 1;

/// Scores beyond plus or minus this are a finding about the data, not values.
pub const SCORE_MAX: f64 = 1e15;

/// Fractional digits of a score.
const DIGITS: u32 = 18;
/// One, in units of a score.
const ONE: u128 = 1_000_000_000_000_000_000;
/// The largest magnitude of a score, in its units: `SCORE_MAX` × `ONE`.
const MAGNITUDE_MAX: u128 = 1_000_000_000_000_000 * ONE;
/// Units of a score in the millionths that the sketches hold.
const UNITS_PER_MILLIONTH: u128 = ONE / 1_000_000;
/// Whole floats up to this are read as counts: 2⁵³, where they stop being exact.
const WHOLE_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
/// How many characters of a wrong value an error quotes.
const QUOTED_MAX: usize = 60;

/// The feedback of a group of runs, per key. A commutative monoid under
/// [`merge`](Self::merge), with [`Feedback::default`] as its identity.
#[derive(Clone, Debug, Default)]
pub struct Feedback {
    /// Boxed, since a tree's first node has room for eleven entries and most
    /// groups have one or two keys.
    keys: BTreeMap<String, Box<KeyTally>>,
    /// Heap bytes of keys and tallies but for the tree's own nodes.
    tally_bytes: usize,
}

/// One raw feedback record, as far as it counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What was judged.
    pub key: String,
    /// The numeric score; true is 1, false 0.
    pub score: Option<f64>,
    /// The value where it is a text; no other value is a label.
    pub label: Option<String>,
    /// Whether the evaluator failed.
    pub is_error: bool,
    /// Whether the feedback was given to a thread.
    pub is_of_thread: bool,
}

/// What is said about one key. Floats are the correctly rounded values of
/// exact decimals; `None` is "no value" or "cannot be known", never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyStats {
    /// Numeric scores; where there is none, the sum of the label counts.
    pub n: u64,
    /// Mean of the scores.
    pub avg: Option<f64>,
    /// Population standard deviation.
    pub stdev: Option<f64>,
    /// Sample standard deviation; none below two scores.
    pub stdev_sample: Option<f64>,
    /// Feedback that reports a failed evaluator.
    pub errors: u64,
    /// Smallest score.
    pub min: Option<f64>,
    /// Largest score.
    pub max: Option<f64>,
    /// Median (type 7): of the scores in millionths, within the sketch's bound.
    pub median: Option<f64>,
    /// Label → how often it was given.
    pub values: BTreeMap<String, u64>,
    /// Whether any of it was given to a thread.
    pub contains_thread_feedback: bool,
    /// Scores left out because they pass [`SCORE_MAX`].
    pub n_out_of_range: u64,
}

/// Why feedback cannot be read, added or merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedbackError {
    /// The text is not the JSON that it should be.
    #[error("feedback is no readable JSON")]
    Json(#[from] serde_json::Error),

    /// A field of a run's summary holds what it cannot hold.
    #[error("feedback key {key:?}, field `{field}`: expected {expected}, found {found}")]
    Summary {
        /// The feedback key.
        key: String,
        /// The field of the summary.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
        /// What it holds, shortened.
        found: String,
    },

    /// A field of a raw record holds what it cannot hold.
    #[error("field `{field}`: expected {expected}, found {found}")]
    Record {
        /// The field of the record.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
        /// What it holds, shortened.
        found: String,
    },

    /// The counts or sums of a key pass what a tally can hold.
    #[error("feedback key {key:?}: the sums are too large")]
    Overflow {
        /// The feedback key.
        key: String,
    },

    /// Stored bytes of another version.
    #[error("stored feedback has version {found}, expected {FORMAT_VERSION}")]
    Version {
        /// The version that the bytes name.
        found: u8,
    },

    /// Stored bytes that nothing of ours has written.
    #[error("stored feedback is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where reading stopped.
        offset: usize,
        /// What is wrong there.
        problem: &'static str,
    },

    /// Stored bytes whose sketch is none.
    #[error("stored feedback of key {key:?} has an unreadable sketch")]
    Sketch {
        /// The feedback key.
        key: String,
        /// What is wrong with it.
        source: SketchError,
    },
}

impl Feedback {
    /// Adds one run's `feedback_stats`: an object of key → summary. An empty
    /// text, `null` and `{}` add nothing; a key that is given twice counts as
    /// last given.
    ///
    /// # Errors
    ///
    /// Where the text is no such JSON, a count is no whole number of at least
    /// zero, a number is none, or the sums grow too large. Nothing is added then.
    pub fn add_summaries(&mut self, json: &str) -> Result<(), FeedbackError> {
        if json.trim().is_empty() {
            return Ok(());
        }
        let summaries: Option<Pairs<'_, Option<Summary<'_>>>> = serde_json::from_str(json)?;
        let summaries = summaries.map_or_else(Vec::new, Pairs::into_last);
        let mut additions = Vec::with_capacity(summaries.len());
        for (key, summary) in summaries {
            let Some(summary) = summary else { continue };
            let addition = Addition::from_summary(&key, &summary)?;
            if let Some(tally) = self.keys.get(key.as_ref()) {
                tally.sum(&key, &addition.moments, addition.n_labels)?;
            }
            additions.push((key, addition));
        }
        for (key, addition) in additions {
            self.update(&key, |tally| tally.add(&key, &addition))?;
        }
        Ok(())
    }

    /// Adds one raw feedback record.
    ///
    /// # Errors
    ///
    /// Where the sums grow too large; nothing is added then.
    pub fn add_record(&mut self, record: &Record) -> Result<(), FeedbackError> {
        let addition = Addition::from_record(record);
        self.update(&record.key, |tally| tally.add(&record.key, &addition))
    }

    /// Adds all that another tally holds.
    ///
    /// # Errors
    ///
    /// Where the sums grow too large; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), FeedbackError> {
        for (key, theirs) in &other.keys {
            if let Some(ours) = self.keys.get(key) {
                ours.sum(key, &theirs.moments, theirs.labels.n)?;
            }
        }
        for (key, theirs) in &other.keys {
            self.update(key, |ours| ours.merge(key, theirs))?;
        }
        Ok(())
    }

    /// Adds all that stored bytes hold.
    ///
    /// # Errors
    ///
    /// Those of [`from_bytes`](Self::from_bytes) and of [`merge`](Self::merge).
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), FeedbackError> {
        let other = Self::from_bytes(bytes)?;
        if self.is_empty() {
            *self = other;
            return Ok(());
        }
        self.merge(&other)
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// About how many bytes it holds on the heap; takes constant time.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.tally_bytes + tree_bytes::<String, Box<KeyTally>>(self.keys.len())
    }

    /// The figures of every key, sorted by key.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, KeyStats> {
        self.keys
            .iter()
            .map(|(key, tally)| (key.clone(), tally.stats()))
            .collect()
    }

    /// Appends the stored form. The same feedback, added and merged in any
    /// order, gives the same bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        write_varint(self.keys.len() as u128, out);
        for (key, tally) in &self.keys {
            write_text(key, out);
            tally.write_to(out);
        }
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// Reads the stored form. What it accepts it writes again byte by byte.
    ///
    /// # Errors
    ///
    /// Where the bytes have another version, end early or go on, or could not
    /// have been written by [`write_to`](Self::write_to).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FeedbackError> {
        let mut reader = Reader { bytes, offset: 0 };
        match reader.byte()? {
            FORMAT_VERSION => {}
            found => return Err(FeedbackError::Version { found }),
        }
        let mut feedback = Self::default();
        let mut previous: Option<&str> = None;
        for _ in 0..reader.u64()? {
            let key = reader.text()?;
            reader.require(previous.is_none_or(|last| last < key), "keys out of order")?;
            previous = Some(key);
            let tally = KeyTally::read(key, &mut reader)?;
            feedback.insert(key, Box::new(tally));
        }
        reader.require(reader.offset == bytes.len(), "bytes after the end")?;
        Ok(feedback)
    }

    /// Changes one key's tally and keeps the count of heap bytes. A change that
    /// fails must leave the tally as it was.
    fn update(
        &mut self,
        key: &str,
        change: impl FnOnce(&mut KeyTally) -> Result<(), FeedbackError>,
    ) -> Result<(), FeedbackError> {
        if let Some(tally) = self.keys.get_mut(key) {
            let before = tally.heap_size();
            change(tally)?;
            self.tally_bytes = (self.tally_bytes + tally.heap_size()).saturating_sub(before);
        } else {
            let mut tally = Box::<KeyTally>::default();
            change(&mut tally)?;
            self.insert(key, tally);
        }
        Ok(())
    }

    /// Puts a tally under a key that has none yet.
    fn insert(&mut self, key: &str, tally: Box<KeyTally>) {
        self.tally_bytes += key.len() + size_of::<KeyTally>() + tally.heap_size();
        self.keys.insert(key.to_owned(), tally);
    }
}

impl PartialEq for Feedback {
    /// By what it holds, not by how much room that takes.
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Record {
    /// Reads one record of `GET /feedback`; fields that do not count are ignored.
    ///
    /// # Errors
    ///
    /// Where the text is no JSON object, has no key, or its score or error flag
    /// is of the wrong type.
    pub fn from_json(json: &str) -> Result<Self, FeedbackError> {
        let fields: RecordFields<'_> = serde_json::from_str(json)?;
        let wrong = |field, expected, found: Option<&RawValue>| FeedbackError::Record {
            field,
            expected,
            found: quoted(found),
        };
        let key = fields.key.and_then(text_of);
        let score = match fields.score.map(RawValue::get) {
            None => None,
            Some("true") => Some(1.0),
            Some("false") => Some(0.0),
            Some(number) => Some(
                number
                    .parse()
                    .map_err(|_| wrong("score", "a number, true, false or null", fields.score))?,
            ),
        };
        let is_error = flag(fields.error)
            .ok_or_else(|| wrong("error", "true, false or null", fields.error))?;
        Ok(Self {
            key: key.ok_or_else(|| wrong("key", "a text", fields.key))?,
            score,
            label: fields.value.and_then(text_of),
            is_error,
            is_of_thread: fields.feedback_thread_id.is_some(),
        })
    }
}

/// The mergeable part of one key.
#[derive(Clone, Debug, PartialEq)]
struct KeyTally {
    moments: Moments,
    /// All scores, one by one; `None` once some came only as a summary, or one
    /// is too large for millionths in a u64 (beyond about 1.8 × 10¹³).
    scores: Option<Scores>,
    labels: Labels,
    contains_thread_feedback: bool,
}

impl Default for KeyTally {
    fn default() -> Self {
        Self {
            moments: Moments::ZERO,
            scores: Some(Scores::default()),
            labels: Labels::default(),
            contains_thread_feedback: false,
        }
    }
}

impl KeyTally {
    /// The moments with those of an addition, if that and its labels fit.
    fn sum(&self, key: &str, added: &Moments, n_labels: u64) -> Result<Moments, FeedbackError> {
        let sum = self.moments.checked_add(added);
        let labels_fit = self.labels.n.checked_add(n_labels).is_some();
        sum.filter(|_| labels_fit).ok_or_else(|| overflow(key))
    }

    fn add(&mut self, key: &str, addition: &Addition<'_>) -> Result<(), FeedbackError> {
        self.moments = self.sum(key, &addition.moments, addition.n_labels)?;
        match addition.scores {
            AddedScores::None => {}
            AddedScores::One(units) => self.record_score(units),
            AddedScores::Unknown => self.scores = None,
        }
        for (label, n) in &addition.labels {
            self.labels.add(label, *n);
        }
        self.contains_thread_feedback |= addition.contains_thread_feedback;
        Ok(())
    }

    fn record_score(&mut self, units: i128) {
        let Some(scores) = &mut self.scores else {
            return;
        };
        let millionths = divide_half_even(units.unsigned_abs(), UNITS_PER_MILLIONTH);
        match u64::try_from(millionths) {
            Ok(millionths) if units < 0 => scores.negative.record(millionths),
            Ok(millionths) => scores.positive.record(millionths),
            Err(_) => self.scores = None,
        }
    }

    fn merge(&mut self, key: &str, other: &Self) -> Result<(), FeedbackError> {
        let sum = self.sum(key, &other.moments, other.labels.n)?;
        match (&mut self.scores, &other.scores) {
            // Cannot fail: their counts add up to the sum's n, which fits.
            (Some(ours), Some(theirs)) => ours.merge(theirs).map_err(|_| overflow(key))?,
            _ => self.scores = None,
        }
        self.moments = sum;
        for (label, n) in &other.labels.counts {
            self.labels.add(label, *n);
        }
        self.contains_thread_feedback |= other.contains_thread_feedback;
        Ok(())
    }

    fn heap_size(&self) -> usize {
        let scores = self.scores.as_ref().map_or(0, Scores::heap_size);
        scores + self.labels.heap_size()
    }

    fn stats(&self) -> KeyStats {
        let moments = &self.moments;
        let extremes = moments.extremes.filter(|_| moments.n > 0);
        KeyStats {
            n: if moments.n > 0 {
                moments.n
            } else {
                self.labels.n
            },
            avg: moments.avg(),
            stdev: moments.stdev(moments.n),
            stdev_sample: moments.stdev(moments.n.saturating_sub(1)),
            errors: moments.errors,
            min: extremes.and_then(|e| decimal_to_f64(e.min, DIGITS)),
            max: extremes.and_then(|e| decimal_to_f64(e.max, DIGITS)),
            median: self.scores.as_ref().and_then(Scores::median),
            values: self.labels.counts.clone(),
            contains_thread_feedback: self.contains_thread_feedback,
            n_out_of_range: moments.n_out_of_range,
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        let moments = &self.moments;
        out.push(
            u8::from(moments.squares.is_some())
                | u8::from(moments.extremes.is_some()) << 1
                | u8::from(self.scores.is_some()) << 2
                | u8::from(self.contains_thread_feedback) << 3,
        );
        write_varint(u128::from(moments.n), out);
        write_varint(u128::from(moments.errors), out);
        write_varint(u128::from(moments.n_out_of_range), out);
        if moments.n > 0 {
            self.write_scores(out);
        }
        write_varint(self.labels.counts.len() as u128, out);
        for (label, n) in &self.labels.counts {
            write_text(label, out);
            write_varint(u128::from(*n), out);
        }
    }

    fn write_scores(&self, out: &mut Vec<u8>) {
        write_varint(self.moments.positive, out);
        write_varint(self.moments.negative, out);
        if let Some(squares) = self.moments.squares {
            write_varint(squares.high, out);
            write_varint(squares.low, out);
        }
        if let Some(Extremes { min, max }) = self.moments.extremes {
            write_varint(zigzag(min), out);
            write_varint(max.abs_diff(min), out);
        }
        if let Some(scores) = &self.scores {
            for sketch in [&scores.negative, &scores.positive] {
                let bytes = sketch.to_bytes();
                write_varint(bytes.len() as u128, out);
                out.extend_from_slice(&bytes);
            }
        }
    }

    fn read(key: &str, reader: &mut Reader<'_>) -> Result<Self, FeedbackError> {
        let flags = reader.byte()?;
        reader.require(flags < 16, "unknown flags")?;
        let mut tally = Self {
            contains_thread_feedback: flags & 8 != 0,
            ..Self::default()
        };
        tally.moments.n = reader.u64()?;
        tally.moments.errors = reader.u64()?;
        tally.moments.n_out_of_range = reader.u64()?;
        if tally.moments.n > 0 {
            tally.read_scores(key, flags, reader)?;
        } else {
            reader.require(flags & 7 == 7, "something unknown about no scores")?;
        }
        tally.labels = Labels::read(reader)?;
        Ok(tally)
    }

    fn read_scores(
        &mut self,
        key: &str,
        flags: u8,
        reader: &mut Reader<'_>,
    ) -> Result<(), FeedbackError> {
        let moments = &mut self.moments;
        moments.positive = reader.varint()?;
        moments.negative = reader.varint()?;
        moments.squares = match flags & 1 {
            0 => None,
            _ => Some(U256 {
                high: reader.varint()?,
                low: reader.varint()?,
            }),
        };
        reader.require(moments.are_possible(), "impossible sums")?;
        moments.extremes = match flags & 2 {
            0 => None,
            _ => Some(Extremes::read(reader)?),
        };
        self.scores = match flags & 4 {
            0 => None,
            _ => Some(Scores::read(key, reader)?),
        };
        if let Some(scores) = &self.scores {
            reader.require(scores.count() == Some(moments.n), "scores and n differ")?;
            reader.require(flags & 3 == 3, "scores known, moments unknown")?;
        }
        Ok(())
    }
}

/// The counts and sums of a key. Every part only grows, and what is unknown
/// stays unknown, so neither a sum nor its overflow depends on the order: hence
/// one sum for either sign.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moments {
    /// Numeric scores.
    n: u64,
    /// Sum of the scores above zero, in units.
    positive: u128,
    /// Sum of the magnitudes of those below zero, in units.
    negative: u128,
    /// Sum of the squares, in squared units; `None` where a summary lacked it,
    /// or past 256 bits, which takes more than 10¹⁰ scores of the largest size.
    squares: Option<U256>,
    /// `None` where a summary lacked them.
    extremes: Option<Extremes>,
    errors: u64,
    n_out_of_range: u64,
}

impl Moments {
    const ZERO: Self = Self {
        n: 0,
        positive: 0,
        negative: 0,
        squares: Some(U256 { high: 0, low: 0 }),
        extremes: Some(Extremes::NONE),
        errors: 0,
        n_out_of_range: 0,
    };

    /// Those of `n` scores of which no more is known than their mean.
    fn of_mean(n: u64, mean: i128) -> Option<Self> {
        let sum = mean.unsigned_abs().checked_mul(u128::from(n))?;
        let (positive, negative) = if mean < 0 { (0, sum) } else { (sum, 0) };
        Some(Self {
            n,
            positive,
            negative,
            squares: None,
            extremes: None,
            ..Self::ZERO
        })
    }

    /// Those of one score.
    fn of_score(units: i128) -> Self {
        let magnitude = units.unsigned_abs();
        let (positive, negative) = if units < 0 {
            (0, magnitude)
        } else {
            (magnitude, 0)
        };
        Self {
            n: 1,
            positive,
            negative,
            squares: Some(U256::square(magnitude)),
            extremes: Some(Extremes {
                min: units,
                max: units,
            }),
            ..Self::ZERO
        }
    }

    /// Those of scores that were left out.
    fn of_out_of_range(n: u64) -> Self {
        Self {
            n_out_of_range: n,
            ..Self::ZERO
        }
    }

    fn checked_add(&self, other: &Self) -> Option<Self> {
        let Self {
            n,
            positive,
            negative,
            squares,
            extremes,
            errors,
            n_out_of_range,
        } = other;
        Some(Self {
            n: self.n.checked_add(*n)?,
            positive: self.positive.checked_add(*positive)?,
            negative: self.negative.checked_add(*negative)?,
            squares: self
                .squares
                .zip(*squares)
                .and_then(|(a, b)| a.checked_add(b)),
            extremes: self.extremes.zip(*extremes).map(|(a, b)| a.join(b)),
            errors: self.errors.checked_add(*errors)?,
            n_out_of_range: self.n_out_of_range.checked_add(*n_out_of_range)?,
        })
    }

    /// Whether `n` scores within the range can have these sums.
    fn are_possible(&self) -> bool {
        let reach = BigUint::from(MAGNITUDE_MAX) * self.n;
        let magnitudes = BigUint::from(self.positive) + self.negative;
        magnitudes <= reach && (self.squares.is_none() || self.scatter().is_some())
    }

    fn avg(&self) -> Option<f64> {
        if self.n == 0 {
            return None;
        }
        let magnitude = quotient(
            &BigUint::from(self.positive.abs_diff(self.negative)),
            &(BigUint::from(ONE) * self.n),
        );
        Some(if self.negative > self.positive {
            -magnitude
        } else {
            magnitude
        })
    }

    /// √(scatter ÷ (n · `divisor`)): with n the population's standard
    /// deviation, with n − 1 the sample's. None where the divisor is zero.
    fn stdev(&self, divisor: u64) -> Option<f64> {
        if divisor == 0 {
            return None;
        }
        let one = BigUint::from(ONE);
        let denominator = &one * &one * self.n * divisor;
        Some(root_of_quotient(&self.scatter()?, &denominator))
    }

    /// n·Σx² − (Σx)², in squared units: n² times the variance. None where Σx²
    /// is unknown; never negative for sums of real scores.
    fn scatter(&self) -> Option<BigUint> {
        let sum = BigUint::from(self.positive.abs_diff(self.negative));
        let scatter = BigInt::from(self.squares?.to_big() * self.n) - BigInt::from(&sum * &sum);
        scatter.to_biguint()
    }
}

/// The smallest and the largest score, in units.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Extremes {
    min: i128,
    max: i128,
}

impl Extremes {
    /// Those of no score at all.
    const NONE: Self = Self {
        min: i128::MAX,
        max: i128::MIN,
    };

    fn join(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FeedbackError> {
        let min = unzigzag(reader.varint()?);
        let max = min.checked_add_unsigned(reader.varint()?);
        let max = max.filter(|max| max.unsigned_abs().max(min.unsigned_abs()) <= MAGNITUDE_MAX);
        let max = max.ok_or_else(|| reader.damaged("extremes out of range"))?;
        Ok(Self { min, max })
    }
}

/// All scores in millionths; a sketch holds no sign, so those below zero are
/// mirrored into one of their own.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scores {
    negative: Sketch,
    positive: Sketch,
}

impl Scores {
    fn count(&self) -> Option<u64> {
        self.negative.count().checked_add(self.positive.count())
    }

    fn heap_size(&self) -> usize {
        self.negative.heap_size() + self.positive.heap_size()
    }

    fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        self.negative.merge(&other.negative)?;
        self.positive.merge(&other.positive)
    }

    /// The type-7 median over both sides.
    fn median(&self) -> Option<f64> {
        let one_side = |sketch: &Sketch| {
            let thousandths = sketch.quantile_thousandths(Quantile::P50)?;
            i128::try_from(thousandths).ok()
        };
        let billionths = match (self.negative.count(), self.positive.count()) {
            (0, _) => one_side(&self.positive)?,
            (_, 0) => -one_side(&self.negative)?,
            _ => {
                let last = self.count()?.checked_sub(1)?;
                let (below, above) = (last / 2, last - last / 2);
                500 * (self.order_statistic(below)? + self.order_statistic(above)?)
            }
        };
        decimal_to_f64(billionths, 9)
    }

    /// The value at a rank (from 0, ascending) over both sides, in millionths.
    fn order_statistic(&self, rank: u64) -> Option<i128> {
        let n_negative = self.negative.count();
        if rank < n_negative {
            let mirrored = order_statistic(&self.negative, n_negative - 1 - rank)?;
            Some(-i128::from(mirrored))
        } else {
            order_statistic(&self.positive, rank - n_negative).map(i128::from)
        }
    }

    fn read(key: &str, reader: &mut Reader<'_>) -> Result<Self, FeedbackError> {
        let mut side = || {
            let length = reader.u64()?;
            Sketch::from_bytes(reader.take(length)?).map_err(|source| FeedbackError::Sketch {
                key: key.to_owned(),
                source,
            })
        };
        Ok(Self {
            negative: side()?,
            positive: side()?,
        })
    }
}

/// How often each label was given.
#[derive(Clone, Debug, Default, PartialEq)]
struct Labels {
    counts: BTreeMap<String, u64>,
    /// The sum of the counts; since it fits, every count does.
    n: u64,
    /// Bytes of the labels' texts.
    text_bytes: usize,
}

impl Labels {
    /// The caller has checked that the sum of the counts fits.
    fn add(&mut self, label: &str, n: u64) {
        self.n = self.n.saturating_add(n);
        if let Some(count) = self.counts.get_mut(label) {
            *count = count.saturating_add(n);
        } else {
            self.text_bytes += label.len();
            self.counts.insert(label.to_owned(), n);
        }
    }

    fn heap_size(&self) -> usize {
        self.text_bytes + tree_bytes::<String, u64>(self.counts.len())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FeedbackError> {
        let mut labels = Self::default();
        let mut previous: Option<&str> = None;
        for _ in 0..reader.u64()? {
            let label = reader.text()?;
            reader.require(
                previous.is_none_or(|last| last < label),
                "labels out of order",
            )?;
            previous = Some(label);
            let n = reader.u64()?;
            reader.require(n > 0, "a label without a count")?;
            reader.require(labels.n.checked_add(n).is_some(), "too many labels")?;
            labels.add(label, n);
        }
        Ok(labels)
    }
}

/// What one summary or record adds to its key.
struct Addition<'a> {
    moments: Moments,
    scores: AddedScores,
    labels: Vec<(Cow<'a, str>, u64)>,
    /// The sum of the labels' counts.
    n_labels: u64,
    contains_thread_feedback: bool,
}

/// The scores behind an addition, as far as they are known one by one.
enum AddedScores {
    None,
    One(i128),
    Unknown,
}

impl<'a> Addition<'a> {
    fn from_summary(key: &str, summary: &Summary<'a>) -> Result<Self, FeedbackError> {
        let fields = SummaryFields { key };
        let n = fields.count("n", summary.n)?;
        let (mut moments, scores) = match fields.number("avg", summary.avg)? {
            None => (Moments::ZERO, AddedScores::None),
            Some(avg) => match n.ok_or_else(|| fields.wrong("n", "a count", None))? {
                0 => (Moments::ZERO, AddedScores::None),
                1 => one_score(avg),
                n => many_scores(&fields, n, avg, summary)?,
            },
        };
        moments.errors = fields.count("errors", summary.errors)?.unwrap_or(0);
        let labels = fields.labels(summary.values)?;
        let n_labels = labels
            .iter()
            .try_fold(0_u64, |sum, (_, n)| sum.checked_add(*n))
            .ok_or_else(|| overflow(key))?;
        let of_thread = summary.contains_thread_feedback;
        Ok(Self {
            moments,
            scores,
            labels,
            n_labels,
            contains_thread_feedback: flag(of_thread).ok_or_else(|| {
                fields.wrong("contains_thread_feedback", "true, false or null", of_thread)
            })?,
        })
    }

    fn from_record(record: &'a Record) -> Self {
        let (mut moments, scores) = match record.score {
            None => (Moments::ZERO, AddedScores::None),
            Some(score) => one_score(score),
        };
        moments.errors = u64::from(record.is_error);
        let label = record.label.as_deref();
        Self {
            moments,
            scores,
            labels: label
                .map(|label| (Cow::Borrowed(label), 1))
                .into_iter()
                .collect(),
            n_labels: u64::from(label.is_some()),
            contains_thread_feedback: record.is_of_thread,
        }
    }
}

fn one_score(score: f64) -> (Moments, AddedScores) {
    match units_of(score) {
        Some(units) => (Moments::of_score(units), AddedScores::One(units)),
        None => (Moments::of_out_of_range(1), AddedScores::None),
    }
}

/// What a summary of more than one score adds. One number beyond the range
/// shows that a score is, so none of them can be told apart.
fn many_scores(
    fields: &SummaryFields<'_>,
    n: u64,
    avg: f64,
    summary: &Summary<'_>,
) -> Result<(Moments, AddedScores), FeedbackError> {
    let stdev = fields.number("stdev", summary.stdev)?;
    let min = summary.session_min_score.or(summary.min);
    let max = summary.session_max_score.or(summary.max);
    let extremes = fields.number("min", min)?.zip(fields.number("max", max)?);
    if stdev.is_some_and(|stdev| stdev < 0.0) {
        return Err(fields.wrong("stdev", "a number of at least 0", summary.stdev));
    }
    if extremes.is_some_and(|(min, max)| min > max) {
        return Err(fields.wrong("min", "at most the largest score", min));
    }
    let given = [
        Some(avg),
        stdev,
        extremes.map(|e| e.0),
        extremes.map(|e| e.1),
    ];
    let [Ok(Some(mean)), Ok(stdev), Ok(min), Ok(max)] =
        given.map(|number| number.map(|v| units_of(v).ok_or(())).transpose())
    else {
        return Ok((Moments::of_out_of_range(n), AddedScores::None));
    };
    let mut moments = Moments::of_mean(n, mean).ok_or_else(|| overflow(fields.key))?;
    moments.extremes = min.zip(max).map(|(min, max)| Extremes { min, max });
    moments.squares = stdev.and_then(|stdev| {
        U256::square(mean.unsigned_abs())
            .checked_add(U256::square(stdev.unsigned_abs()))?
            .checked_mul(n)
    });
    Ok((moments, AddedScores::Unknown))
}

/// One key's summary as a run carries it. Values stay text here: a number is
/// then read exactly, and what does not count costs nothing.
#[derive(Deserialize)]
struct Summary<'a> {
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow)]
    avg: Option<&'a RawValue>,
    #[serde(borrow)]
    stdev: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
    #[serde(borrow)]
    session_min_score: Option<&'a RawValue>,
    #[serde(borrow)]
    session_max_score: Option<&'a RawValue>,
    #[serde(borrow)]
    min: Option<&'a RawValue>,
    #[serde(borrow)]
    max: Option<&'a RawValue>,
    #[serde(borrow)]
    values: Option<&'a RawValue>,
    #[serde(borrow)]
    contains_thread_feedback: Option<&'a RawValue>,
}

/// A raw record's fields as text.
#[derive(Deserialize)]
struct RecordFields<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    score: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    feedback_thread_id: Option<&'a RawValue>,
}

/// Reads the fields of one key's summary, whose name the errors need.
struct SummaryFields<'k> {
    key: &'k str,
}

impl SummaryFields<'_> {
    fn number(
        &self,
        field: &'static str,
        value: Option<&RawValue>,
    ) -> Result<Option<f64>, FeedbackError> {
        // The standard library rounds correctly; the JSON reader need not.
        value
            .map(|raw| raw.get().parse())
            .transpose()
            .map_err(|_| self.wrong(field, "a number", value))
    }

    fn count(
        &self,
        field: &'static str,
        value: Option<&RawValue>,
    ) -> Result<Option<u64>, FeedbackError> {
        let read = |raw: &RawValue| {
            whole(raw.get()).ok_or_else(|| self.wrong(field, "a whole number of at least 0", value))
        };
        value.map(read).transpose()
    }

    /// Label → count; what is no number counts nothing.
    fn labels<'a>(
        &self,
        values: Option<&'a RawValue>,
    ) -> Result<Vec<(Cow<'a, str>, u64)>, FeedbackError> {
        let Some(object) = values.map(RawValue::get).filter(|v| v.starts_with('{')) else {
            return Ok(Vec::new());
        };
        let pairs: Pairs<'a, &'a RawValue> = serde_json::from_str(object)?;
        let mut labels = Vec::new();
        for (label, value) in pairs.into_last() {
            if value
                .get()
                .starts_with(|c: char| c == '-' || c.is_ascii_digit())
            {
                match self.count("values", Some(value))? {
                    Some(0) | None => {}
                    Some(n) => labels.push((label, n)),
                }
            }
        }
        Ok(labels)
    }

    fn wrong(
        &self,
        field: &'static str,
        expected: &'static str,
        found: Option<&RawValue>,
    ) -> FeedbackError {
        FeedbackError::Summary {
            key: self.key.to_owned(),
            field,
            expected,
            found: quoted(found),
        }
    }
}

/// The members of a JSON object, keys borrowed where they hold no escapes.
struct Pairs<'a, T>(Vec<(Cow<'a, str>, T)>);

impl<'a, T> Pairs<'a, T> {
    /// The members sorted by key, of equal keys the last.
    fn into_last(self) -> Vec<(Cow<'a, str>, T)> {
        let mut pairs = self.0;
        if pairs.len() > 1 {
            pairs.reverse();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.dedup_by(|later, kept| later.0 == kept.0);
        }
        pairs
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<'de, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
    type Value = Pairs<'de, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Text(key), value)) = map.next_entry()? {
            pairs.push((key, value));
        }
        Ok(Pairs(pairs))
    }
}

/// A text, borrowed from the JSON where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A JSON boolean, absent or null being false; `None` where it is no boolean.
fn flag(value: Option<&RawValue>) -> Option<bool> {
    match value.map(RawValue::get) {
        None | Some("false") => Some(false),
        Some("true") => Some(true),
        Some(_) => None,
    }
}

/// A whole number of at least zero, also where a float spells it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, not negative and at most 2⁵³"
)]
fn whole(number: &str) -> Option<u64> {
    number.parse().ok().or_else(|| {
        let float: f64 = number.parse().ok()?;
        let is_whole = (0.0..=WHOLE_FLOAT_MAX).contains(&float) && float.fract() == 0.0;
        is_whole.then_some(float as u64)
    })
}

fn quoted(value: Option<&RawValue>) -> String {
    let text = value.map_or("nothing", RawValue::get);
    match text.char_indices().nth(QUOTED_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

fn overflow(key: &str) -> FeedbackError {
    FeedbackError::Overflow {
        key: key.to_owned(),
    }
}

/// A number as the decimal of its shortest text in units of 10⁻¹⁸, rounded
/// half to even; `None` beyond ± [`SCORE_MAX`] and for what is no number.
#[allow(clippy::cast_possible_truncation, reason = "whole and at most 10¹⁵")]
fn units_of(value: f64) -> Option<i128> {
    if value.is_nan() || value.abs() > SCORE_MAX {
        return None;
    }
    if value.fract() == 0.0 {
        return i128::from(value as i64).checked_mul(ONE.cast_signed());
    }
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let shift =
        exponent.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()? + i64::from(DIGITS);
    let power = u32::try_from(shift.unsigned_abs())
        .ok()
        .and_then(|power| 10_u128.checked_pow(power));
    let magnitude = match power {
        Some(power) if shift >= 0 => digits.checked_mul(power)?,
        Some(power) => divide_half_even(digits, power),
        // At most 17 digits over more than 10³⁸.
        None => 0,
    };
    let units = i128::try_from(magnitude).ok()?;
    Some(if value < 0.0 { -units } else { units })
}

/// The quotient rounded half to even. The divisor is above zero and at most
/// 10³⁸, so twice a remainder fits.
fn divide_half_even(dividend: u128, divisor: u128) -> u128 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let is_odd = quotient % 2;
    if 2 * remainder + is_odd > divisor {
        quotient + 1
    } else {
        quotient
    }
}

/// `value` × 10^−`digits` as the nearest float.
fn decimal_to_f64(value: i128, digits: u32) -> Option<f64> {
    format!("{value}e-{digits}").parse().ok()
}

/// `numerator` ÷ `denominator`, which is not zero, as the nearest float.
fn quotient(numerator: &BigUint, denominator: &BigUint) -> f64 {
    if numerator.bits() == 0 {
        return 0.0;
    }
    // Shifted so that the quotient has 63 or 64 bits.
    let shift = 63 + bits(denominator) - bits(numerator);
    let (numerator, denominator) = shifted(numerator, denominator, shift);
    let quotient = &numerator / &denominator;
    let is_exact = &quotient * &denominator == numerator;
    nearest_float(&quotient, is_exact, shift)
}

/// √(`numerator` ÷ `denominator`), which is not zero, as the nearest float.
fn root_of_quotient(numerator: &BigUint, denominator: &BigUint) -> f64 {
    if numerator.bits() == 0 {
        return 0.0;
    }
    // Shifted by an even number so that the quotient has 126 to 128 bits and
    // its root 63 or 64. The whole part of a root depends on the whole part of
    // what is under it alone.
    let half_shift = (127 + bits(denominator) - bits(numerator)).div_euclid(2);
    let (numerator, denominator) = shifted(numerator, denominator, 2 * half_shift);
    let root = (&numerator / &denominator).sqrt();
    let is_exact = &root * &root * denominator == numerator;
    nearest_float(&root, is_exact, half_shift)
}

fn bits(number: &BigUint) -> i64 {
    i64::try_from(number.bits()).unwrap_or(i64::MAX)
}

/// Both sides of a quotient such that it is 2^`shift` times what it was.
fn shifted(numerator: &BigUint, denominator: &BigUint, shift: i64) -> (BigUint, BigUint) {
    let up = shift.max(0).unsigned_abs();
    let down = shift.min(0).unsigned_abs();
    (numerator << up, denominator << down)
}

/// The float nearest to (`whole` + something below 1, zero where `is_exact`)
/// × 2^−`shift`. `whole` has 63 or 64 bits: its last bit is then far below the
/// float's last and can stand for all that follows, so one rounding is right.
#[allow(clippy::cast_precision_loss, reason = "this is the one rounding")]
fn nearest_float(whole: &BigUint, is_exact: bool, shift: i64) -> f64 {
    let whole = u64::try_from(whole).unwrap_or(u64::MAX) | u64::from(!is_exact);
    // A power of two, and neither it nor the product is subnormal: the smallest
    // value above zero is 10⁻¹⁸ ÷ 2⁶⁴.
    let exponent = (1023 - shift).clamp(1, 2046).unsigned_abs();
    whole as f64 * f64::from_bits(exponent << 52)
}

/// The value at a rank (from 0, ascending) of a sketch: the smallest that has
/// more than `rank` values at or below it.
fn order_statistic(sketch: &Sketch, rank: u64) -> Option<u64> {
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

/// An unsigned number of 256 bits: n ≤ 2⁶⁴ squares of at most 10⁶⁶ each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct U256 {
    high: u128,
    low: u128,
}

impl U256 {
    fn square(number: u128) -> Self {
        let (high, low) = halves(number);
        // (h·2⁶⁴ + l)² = h²·2¹²⁸ + 2·h·l·2⁶⁴ + l²
        let cross = high * low;
        let (low, carry) = (low * low).overflowing_add(cross << 65);
        Self {
            high: high * high + (cross >> 63) + u128::from(carry),
            low,
        }
    }

    fn checked_add(self, other: Self) -> Option<Self> {
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high.checked_add(other.high)?;
        Some(Self {
            high: high.checked_add(u128::from(carry))?,
            low,
        })
    }

    fn checked_mul(self, factor: u64) -> Option<Self> {
        let factor = u128::from(factor);
        let (high, low) = halves(self.low);
        let (low_carry, low) = halves(low * factor);
        let middle = high * factor + low_carry;
        let (high_carry, middle) = halves(middle);
        let high = self.high.checked_mul(factor)?.checked_add(high_carry)?;
        Some(Self {
            high,
            low: middle << 64 | low,
        })
    }

    fn to_big(self) -> BigUint {
        (BigUint::from(self.high) << 128_u32) + self.low
    }
}

/// The upper and the lower 64 bits.
fn halves(number: u128) -> (u128, u128) {
    (number >> 64, number & u128::from(u64::MAX))
}

/// About the heap bytes of a tree map's nodes: each has room for eleven entries
/// and is at least half full.
fn tree_bytes<K, V>(len: usize) -> usize {
    len.div_ceil(6) * (11 * (size_of::<K>() + size_of::<V>()) + 16)
}

/// Seven bits a byte, the lowest first; a set upper bit means that more follow.
#[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
fn write_varint(mut number: u128, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_varint(text.len() as u128, out);
    out.extend_from_slice(text.as_bytes());
}

/// Signed to unsigned, small magnitudes to small numbers.
fn zigzag(number: i128) -> u128 {
    ((number << 1) ^ (number >> 127)).cast_unsigned()
}

fn unzigzag(number: u128) -> i128 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Reads stored bytes and trusts none of them.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, FeedbackError> {
        let byte = self.bytes.get(self.offset).copied();
        let byte = byte.ok_or_else(|| self.damaged("ends early"))?;
        self.offset += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u128, FeedbackError> {
        let mut number = 0;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            self.require(
                shift < 126 || (shift == 126 && part < 4),
                "number too large",
            )?;
            self.require(byte != 0 || shift == 0, "number longer than needed")?;
            number |= part << shift;
            if byte < 0x80 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    fn u64(&mut self) -> Result<u64, FeedbackError> {
        u64::try_from(self.varint()?).map_err(|_| self.damaged("number too large"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], FeedbackError> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.bytes.get(self.offset..)?.get(..length));
        let taken = taken.ok_or_else(|| self.damaged("ends early"))?;
        self.offset += taken.len();
        Ok(taken)
    }

    fn text(&mut self) -> Result<&'a str, FeedbackError> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("text that is no UTF-8"))
    }

    fn require(&self, holds: bool, problem: &'static str) -> Result<(), FeedbackError> {
        if holds {
            Ok(())
        } else {
            Err(self.damaged(problem))
        }
    }

    fn damaged(&self, problem: &'static str) -> FeedbackError {
        FeedbackError::Damaged {
            offset: self.offset,
            problem,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_summaries(texts: &[&str]) -> Feedback {
        let mut feedback = Feedback::default();
        for text in texts {
            feedback.add_summaries(text).unwrap();
        }
        feedback
    }

    fn of_scores(scores: &[f64]) -> Feedback {
        let mut feedback = Feedback::default();
        for &score in scores {
            feedback.add_record(&scored(score)).unwrap();
        }
        feedback
    }

    fn scored(score: f64) -> Record {
        Record {
            key: "k".to_owned(),
            score: Some(score),
            ..Record::default()
        }
    }

    fn only(feedback: &Feedback) -> KeyStats {
        let stats = feedback.stats();
        assert_eq!(stats.len(), 1);
        stats.into_values().next().unwrap()
    }

    #[test]
    fn nothing_adds_nothing() {
        let feedback = of_summaries(&["", "  ", "null", "{}", r#"{"k": null}"#]);
        assert!(feedback.is_empty());
        assert_eq!(feedback.heap_size(), 0);
        assert_eq!(feedback.to_bytes(), [FORMAT_VERSION, 0]);
    }

    #[test]
    fn one_score_is_its_own_mean_and_extremes() {
        let text = r#"{"user_score": {"n": 1, "avg": 0.1, "comments": ["x", {"y": 1}]}}"#;
        let stats = only(&of_summaries(&[text]));
        let expected = KeyStats {
            n: 1,
            avg: Some(0.1),
            stdev: Some(0.0),
            min: Some(0.1),
            max: Some(0.1),
            median: Some(0.1),
            ..KeyStats::default()
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn a_categorical_key_counts_its_labels() {
        let texts = [
            r#"{"topic": {"n": 2, "avg": null, "values": {"b": 1, "a": 1}}}"#,
            r#"{"topic": {"n": 1, "avg": null, "values": {"a": 1.0, "none": 0, "deep": {"a": 7}}}}"#,
        ];
        let stats = only(&of_summaries(&texts));
        let values = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let expected = KeyStats {
            n: 3,
            values,
            ..KeyStats::default()
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn a_key_of_comments_alone_has_no_score() {
        let text =
            r#"{"note": {"n": 0, "avg": null, "values": {}, "comments": ["so so"], "errors": 2}}"#;
        let stats = only(&of_summaries(&[text]));
        assert_eq!(
            stats,
            KeyStats {
                errors: 2,
                ..KeyStats::default()
            }
        );
    }

    #[test]
    fn a_summary_of_many_adds_its_moments() {
        let full = r#"{"k": {"n": 4, "avg": 2.5, "stdev": 1.5, "session_min_score": 1, "session_max_score": 5,
            "contains_thread_feedback": true}}"#;
        let stats = only(&of_summaries(&[full, r#"{"k": {"n": 1, "avg": -1}}"#]));
        assert_eq!((stats.n, stats.avg), (5, Some(1.8)));
        // Σx² = 4·(2.5² + 1.5²) + 1 = 35; 35 ÷ 5 − 1.8² = 3.76
        assert_eq!(stats.stdev, Some(3.76_f64.sqrt()));
        assert_eq!((stats.min, stats.max), (Some(-1.0), Some(5.0)));
        assert_eq!(stats.median, None);
        assert!(stats.contains_thread_feedback);
    }

    #[test]
    fn what_a_summary_lacks_is_not_invented() {
        let one = r#"{"k": {"n": 1, "avg": 3}}"#;
        let stats = only(&of_summaries(&[
            one,
            r#"{"k": {"n": 2, "avg": 3, "min": 2, "max": 4}}"#,
            one,
        ]));
        assert_eq!(
            (stats.n, stats.avg, stats.stdev, stats.stdev_sample),
            (4, Some(3.0), None, None)
        );
        assert_eq!((stats.min, stats.max), (Some(2.0), Some(4.0)));
        let stats = only(&of_summaries(&[
            one,
            r#"{"k": {"n": 2, "avg": 3, "stdev": 0, "min": 2}}"#,
        ]));
        assert_eq!((stats.stdev, stats.min, stats.max), (Some(0.0), None, None));
    }

    #[test]
    fn absurd_summaries_are_refused_and_add_nothing() {
        let mut feedback = of_summaries(&[r#"{"a": {"n": 1, "avg": 1}}"#]);
        let before = feedback.clone();
        for text in [
            "{",
            "[]",
            "3",
            r#"{"a": 1}"#,
            r#"{"a": {"n": -1, "avg": 1}}"#,
            r#"{"a": {"n": 1.5, "avg": 1}}"#,
            r#"{"a": {"n": 1e300, "avg": 1}}"#,
            r#"{"a": {"n": "1", "avg": 1}}"#,
            r#"{"a": {"avg": 1}}"#,
            r#"{"a": {"n": 1, "avg": "1"}}"#,
            r#"{"a": {"n": 2, "avg": 1, "stdev": -1}}"#,
            r#"{"a": {"n": 2, "avg": 1, "min": 2, "max": 1}}"#,
            r#"{"a": {"n": 18446744073709551615, "avg": 0}}"#,
            r#"{"a": {"n": 18446744073709551615, "avg": 1e6}}"#,
            r#"{"a": {"values": {"x": -1}}}"#,
            r#"{"a": {"values": {"x": 0.5}}}"#,
            r#"{"a": {"values": {"x": 18446744073709551615, "y": 1}}}"#,
            r#"{"a": {"errors": true}}"#,
            r#"{"a": {"contains_thread_feedback": 1}}"#,
        ] {
            let with_good_one = text.replacen('{', r#"{"0": {"n": 1, "avg": 1}, "#, 1);
            assert!(feedback.add_summaries(text).is_err(), "{text}");
            assert!(feedback.add_summaries(&with_good_one).is_err(), "{text}");
            assert_eq!(feedback, before, "{text}");
        }
    }

    #[test]
    fn errors_name_key_field_and_value() {
        let error = Feedback::default()
            .add_summaries(r#"{"a": {"n": -1}}"#)
            .unwrap_err();
        let expected =
            r#"feedback key "a", field `n`: expected a whole number of at least 0, found -1"#;
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn scores_out_of_range_are_counted_and_left_out() {
        let mut feedback = of_scores(&[
            1e15,
            1.000_000_000_000_000_2e15,
            f64::NEG_INFINITY,
            f64::NAN,
        ]);
        feedback
            .add_summaries(r#"{"k": {"n": 1, "avg": 1e999}}"#)
            .unwrap();
        feedback
            .add_summaries(r#"{"k": {"n": 2, "avg": 0, "stdev": 1, "min": -2e15, "max": 1}}"#)
            .unwrap();
        let stats = only(&feedback);
        assert_eq!(
            (stats.n, stats.n_out_of_range, stats.avg),
            (1, 6, Some(1e15))
        );
        // In range, but its millionths pass a u64: no median rather than a wrong one.
        assert_eq!((stats.max, stats.median), (Some(1e15), None));
    }

    #[test]
    fn a_key_given_twice_counts_as_last_given() {
        let stats = only(&of_summaries(&[
            r#"{"k": {"n": 1, "avg": 1}, "k": {"n": 1, "avg": 2}}"#,
        ]));
        assert_eq!((stats.n, stats.avg), (1, Some(2.0)));
    }

    #[test]
    fn keys_and_labels_may_hold_escapes() {
        let feedback = of_summaries(&[r#"{"a\"\u00e9": {"values": {"\n": 1}}}"#]);
        assert_eq!(feedback.stats()["a\"é"].values["\n"], 1);
    }

    #[test]
    fn records_are_read_from_the_api_s_json() {
        let read = |text| Record::from_json(text).unwrap();
        let record = read(
            r#"{"id": "x", "key": "k", "score": true, "value": "good", "comment": null, "extra": {}}"#,
        );
        let expected = Record {
            label: Some("good".to_owned()),
            ..scored(1.0)
        };
        assert_eq!(record, expected);
        assert_eq!(
            read(r#"{"key": "k", "score": false, "value": {"a": "b"}}"#),
            scored(0.0)
        );
        assert_eq!(
            read(r#"{"key": "k", "score": 0.30000000000000004, "value": 3}"#),
            scored(0.1 + 0.2)
        );
        assert!(read(r#"{"key": "k", "score": null, "error": true}"#).is_error);
        for text in [
            "[]",
            "{}",
            r#"{"key": 1}"#,
            r#"{"key": "k", "score": "1"}"#,
            r#"{"key": "k", "error": 1}"#,
        ] {
            assert!(Record::from_json(text).is_err(), "{text}");
        }
    }

    #[test]
    fn records_and_labels_add_up() {
        let mut feedback = of_scores(&[1.0, 0.0, 1.0, 0.0]);
        let label = |text: &str| Record {
            key: "k".to_owned(),
            label: Some(text.to_owned()),
            is_error: true,
            ..Record::default()
        };
        feedback.add_record(&label("yes")).unwrap();
        feedback.add_record(&label("yes")).unwrap();
        let stats = only(&feedback);
        assert_eq!(
            (stats.n, stats.avg, stats.stdev, stats.median),
            (4, Some(0.5), Some(0.5), Some(0.5))
        );
        assert_eq!(
            (stats.stdev_sample, stats.errors),
            (Some((1.0_f64 / 3.0).sqrt()), 2)
        );
        assert_eq!(stats.values, BTreeMap::from([("yes".to_owned(), 2)]));
    }

    #[test]
    fn the_median_reaches_over_both_signs() {
        for (scores, median) in [
            (&[-3.0, -1.0, 2.0][..], -1.0),
            (&[-3.0, 1.0, 2.0], 1.0),
            (&[-3.0, -1.0, 2.0, 4.0], 0.5),
            (&[-3.0, -1.0, -0.5, 4.0], -0.75),
            (&[-3.0, -1.0], -2.0),
            (&[-1.0, 0.0, 0.0], 0.0),
            (&[-0.000_000_5, -0.25], -0.125),
        ] {
            assert_eq!(only(&of_scores(scores)).median, Some(median), "{scores:?}");
        }
    }

    #[test]
    fn the_median_of_many_stays_within_the_sketch_s_bound() {
        for (range, median) in [(-300..=700, 200.0), (-700..=300, -200.0), (1..=1000, 500.5)] {
            let scores: Vec<f64> = range.map(f64::from).collect();
            let found = only(&of_scores(&scores)).median.unwrap();
            assert!(
                (found / median - 1.0).abs() <= 0.001,
                "{found} for {median}"
            );
        }
    }

    #[test]
    fn a_score_is_the_decimal_of_its_shortest_text() {
        for (score, units) in [
            (0.1, 100_000_000_000_000_000),
            (-2.5, -2_500_000_000_000_000_000),
            (1e15, 1_000_000_000_000_000_000_000_000_000_000_000),
            (
                999_999_999_999_999.9,
                999_999_999_999_999_900_000_000_000_000_000,
            ),
            (1e-18, 1),
            (5e-19, 0),
            (1.5e-18, 2),
            (-2.5e-18, -2),
            (2.500_000_000_000_1e-18, 3),
            (5e-324, 0),
            (-0.0, 0),
        ] {
            assert_eq!(units_of(score), Some(units), "{score}");
        }
        assert_eq!(units_of(-1.1e15), None);
        assert_eq!(units_of(f64::INFINITY), None);
    }

    #[test]
    fn heap_size_grows_with_what_is_held() {
        let mut feedback = Feedback::default();
        let mut last = 0;
        for key in ["a", "b", "c"] {
            for label in ["x", "y"] {
                let label = label.repeat(1000);
                let text = format!(r#"{{"{key}": {{"values": {{"{label}": 1}}}}}}"#);
                feedback.add_summaries(&text).unwrap();
                assert!(feedback.heap_size() >= last + 1000);
                last = feedback.heap_size();
            }
        }
        let copied = Feedback::from_bytes(&feedback.to_bytes()).unwrap();
        assert_eq!(copied.heap_size(), feedback.heap_size());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = of_scores(&[1.0, -2.0]).to_bytes();
        for end in 0..bytes.len() {
            assert!(Feedback::from_bytes(&bytes[..end]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Feedback::from_bytes(&longer).is_err());
        let mut newer = bytes;
        newer[0] = 2;
        assert!(matches!(
            Feedback::from_bytes(&newer),
            Err(FeedbackError::Version { found: 2 })
        ));
        // A claim of 2⁶⁴ keys, of a longer number than needed, of a key of 2⁶⁴ bytes.
        let many = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert!(Feedback::from_bytes(&many).is_err());
        assert!(Feedback::from_bytes(&[1, 128, 0]).is_err());
        assert!(Feedback::from_bytes(&[&[1], &many[..]].concat()).is_err());
    }

    /// Decimal expansion to 60 digits, read by the standard library.
    fn reference(scores: &[f64], is_sample: bool) -> (f64, f64) {
        let units: Vec<BigInt> = scores
            .iter()
            .map(|s| units_of(*s).unwrap().into())
            .collect();
        let n = BigInt::from(units.len());
        let divisor = &n - i32::from(is_sample);
        let scale = BigInt::from(10).pow(60);
        let sum: BigInt = units.iter().sum();
        let scatter: BigInt = units.iter().map(|u| (u * &n - &sum).pow(2)).sum();
        let avg = format!("{}e-78", sum * &scale / &n);
        // Σ(n·x − Σx)² = n² · Σ(x − mean)²
        let stdev = (scatter * &scale * &scale / (&n * &n * divisor)).sqrt();
        (
            avg.parse().unwrap(),
            format!("{stdev}e-78").parse().unwrap(),
        )
    }

    fn any_score() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(0.0),
            Just(1.0),
            (-5..=5_i32).prop_map(f64::from),
            -1.0..1.0_f64,
            -1e15..1e15_f64,
            any::<i32>().prop_map(|v| f64::from(v) / 1000.0),
            -1e-12..1e-12_f64,
        ]
    }

    /// One summary or record as JSON, the former marked by its first byte.
    fn any_input() -> impl Strategy<Value = String> {
        let key = prop_oneof!["[ab]", "[a-c]{0,3}"];
        let label = prop_oneof![Just("null".to_owned()), "\"[xy]\""];
        let record = (
            key.clone(),
            proptest::option::of(any_score()),
            label,
            any::<bool>(),
        )
            .prop_map(|(key, score, label, error)| {
                let score = score.map_or("null".to_owned(), |s| format!("{s:?}"));
                format!(r#" {{"key":"{key}","score":{score},"value":{label},"error":{error}}}"#)
            });
        let summary = (key, 0..4_u8, any_score(), 0.0..10.0_f64, 0..8_u8, 0..3_u8).prop_map(
            |(key, n, avg, stdev, shape, labels)| {
                let optional = [
                    format!(r#","stdev":{stdev}"#),
                    format!(r#","min":{},"max":{}"#, avg - stdev, avg + stdev),
                    r#","contains_thread_feedback":true"#.to_owned(),
                ];
                let given = optional.into_iter().enumerate();
                let given = given.filter(|(bit, _)| shape >> bit & 1 == 1);
                let more: String = given.map(|(_, text)| text).collect();
                format!(r#"{{"{key}":{{"n":{n},"avg":{avg:?},"values":{{"x":{labels}}}{more}}}}}"#)
            },
        );
        prop_oneof![record, summary]
    }

    fn add(feedback: &mut Feedback, input: &str) {
        if input.starts_with(' ') {
            feedback
                .add_record(&Record::from_json(input).unwrap())
                .unwrap();
        } else {
            feedback.add_summaries(input).unwrap();
        }
    }

    fn of_inputs<'a>(inputs: impl IntoIterator<Item = &'a String>) -> Feedback {
        let mut feedback = Feedback::default();
        inputs
            .into_iter()
            .for_each(|input| add(&mut feedback, input));
        feedback
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn mean_and_deviation_are_correctly_rounded(scores in prop::collection::vec(any_score(), 2..40)) {
            let stats = only(&of_scores(&scores));
            let (avg, stdev) = reference(&scores, false);
            prop_assert_eq!(stats.avg, Some(avg));
            prop_assert_eq!(stats.stdev, Some(stdev));
            prop_assert_eq!(stats.stdev_sample, Some(reference(&scores, true).1));
            prop_assert_eq!(stats.n, scores.len() as u64);
        }

        #[test]
        fn extremes_are_the_scores_themselves(scores in prop::collection::vec(-1e9..1e9_f64, 1..20)) {
            let stats = only(&of_scores(&scores));
            prop_assert_eq!(stats.min, scores.iter().copied().reduce(f64::min));
            prop_assert_eq!(stats.max, scores.iter().copied().reduce(f64::max));
        }

        #[test]
        fn the_median_is_the_sorted_middle(mut scores in prop::collection::vec(-1_000_000_i32..1_000_000, 1..30)) {
            let stats = only(&of_scores(&scores.iter().map(|s| f64::from(*s) / 1e6).collect::<Vec<_>>()));
            scores.sort_unstable();
            let twice = scores[(scores.len() - 1) / 2] + scores[scores.len() / 2];
            prop_assert_eq!(stats.median, Some(f64::from(twice) / 2e6));
        }

        #[test]
        fn any_order_and_any_split_give_the_same_bytes(
            (inputs, shuffled) in prop::collection::vec(any_input(), 0..30)
                .prop_flat_map(|inputs| (Just(inputs.clone()), Just(inputs).prop_shuffle())),
            parts in prop::collection::vec(0..4_usize, 30),
        ) {
            let whole = of_inputs(&inputs);
            let bytes = whole.to_bytes();
            prop_assert_eq!(&of_inputs(&shuffled).to_bytes(), &bytes);

            let mut split = vec![Feedback::default(); 4];
            for (input, part) in shuffled.iter().zip(parts) {
                add(&mut split[part], input);
            }
            let [a, b, c, d] = split.as_slice() else { unreachable!() };
            let mut left = a.clone();
            for part in [b, c, d] {
                left.merge(part).unwrap();
            }
            prop_assert_eq!(&left.to_bytes(), &bytes);
            let mut right = d.clone();
            right.merge_bytes(&c.to_bytes()).unwrap();
            let mut inner = Feedback::default();
            inner.merge_bytes(&b.to_bytes()).unwrap();
            inner.merge(a).unwrap();
            inner.merge(&Feedback::default()).unwrap();
            right.merge(&inner).unwrap();
            prop_assert_eq!(&right, &whole);
            prop_assert_eq!(&right.to_bytes(), &bytes);
            prop_assert_eq!(right.stats(), whole.stats());
        }

        #[test]
        fn stored_bytes_come_back(inputs in prop::collection::vec(any_input(), 0..20)) {
            let feedback = of_inputs(&inputs);
            let back = Feedback::from_bytes(&feedback.to_bytes()).unwrap();
            prop_assert_eq!(&back, &feedback);
            prop_assert_eq!(back.to_bytes(), feedback.to_bytes());
        }

        #[test]
        fn mutated_bytes_never_panic_and_what_reads_writes_the_same(
            inputs in prop::collection::vec(any_input(), 1..6),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = of_inputs(&inputs).to_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(mut feedback) = Feedback::from_bytes(&bytes) {
                prop_assert_eq!(&feedback.to_bytes(), &bytes);
                let _ = feedback.stats();
                let _ = feedback.merge(&feedback.clone());
            }
        }

        #[test]
        fn random_bytes_and_texts_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "\\PC*") {
            let _ = Feedback::from_bytes(&bytes);
            let _ = Feedback::from_bytes(&[&[FORMAT_VERSION, 1, 1, b'k'], bytes.as_slice()].concat());
            let _ = Feedback::default().add_summaries(&text);
            let _ = Record::from_json(&text);
        }

        #[test]
        fn wide_numbers_agree_with_big_ones(a: u128, b: u128, c: u128, factor: u64) {
            let (x, y) = (U256::square(a), U256 { high: b, low: c });
            prop_assert_eq!(x.to_big(), BigUint::from(a) * a);
            let sum = x.to_big() + y.to_big();
            prop_assert_eq!(x.checked_add(y).map(U256::to_big), (sum.bits() <= 256).then_some(sum));
            let product = y.to_big() * factor;
            prop_assert_eq!(y.checked_mul(factor).map(U256::to_big), (product.bits() <= 256).then_some(product));
        }

        #[test]
        fn numbers_come_back_from_their_bytes(number: i128, other: u128) {
            let mut bytes = Vec::new();
            write_varint(zigzag(number), &mut bytes);
            write_varint(other, &mut bytes);
            let mut reader = Reader { bytes: &bytes, offset: 0 };
            prop_assert_eq!(unzigzag(reader.varint().unwrap()), number);
            prop_assert_eq!(reader.varint().unwrap(), other);
        }
    }
}
