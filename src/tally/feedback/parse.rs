//! Feedback from JSON: a run's summaries become a [`Feedback`], a raw record becomes a [`Record`].
//!
//! Fields stay text until they are read: a number is then read exactly, an error can quote what it
//! found, and what does not count costs nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{KeyTally, Labels, units_of};
use super::{Feedback, FeedbackError, Record, overflow};

/// Whole floats up to this are read as counts: 2⁵³, where they stop being exact.
const WHOLE_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
/// How many characters of a wrong value an error quotes.
const QUOTED_MAX: usize = 60;

/// The value of a field as text; `None` where it is absent or null.
type Raw<'a> = Option<&'a RawValue>;

/// The fields of a raw record that count.
#[derive(Deserialize)]
struct RecordFields<'a> {
    #[serde(borrow)]
    key: Raw<'a>,
    score: Raw<'a>,
    value: Raw<'a>,
    error: Raw<'a>,
    feedback_thread_id: Raw<'a>,
}

/// The fields of one key's summary that count.
#[derive(Deserialize)]
struct SummaryFields<'a> {
    #[serde(borrow)]
    n: Raw<'a>,
    avg: Raw<'a>,
    stdev: Raw<'a>,
    errors: Raw<'a>,
    session_min_score: Raw<'a>,
    session_max_score: Raw<'a>,
    min: Raw<'a>,
    max: Raw<'a>,
    values: Raw<'a>,
    contains_thread_feedback: Raw<'a>,
}

impl Record {
    /// Reads one record of `GET /feedback`; fields that do not count are ignored.
    ///
    /// # Errors
    ///
    /// Where the text is no JSON object, has no key, or its score or error flag is of the wrong type.
    pub fn from_json(json: &str) -> Result<Self, FeedbackError> {
        let fields: RecordFields<'_> = serde_json::from_str(json)?;
        let wrong = |field, expected, found: Raw<'_>| FeedbackError::Record {
            field,
            expected,
            found: quoted(found),
        };
        let score = read(fields.score, |text| match text {
            "true" => Some(1.0),
            "false" => Some(0.0),
            number => number.parse().ok(),
        });
        let score =
            score.map_err(|found| wrong("score", "a number, true, false or null", found))?;
        let is_error = read(fields.error, boolean);
        let is_error = is_error.map_err(|found| wrong("error", "true, false or null", found))?;
        let text = |raw: &RawValue| serde_json::from_str(raw.get()).ok();
        let key = fields.key.and_then(text);
        Ok(Self {
            key: key.ok_or_else(|| wrong("key", "a text", fields.key))?,
            score,
            label: fields.value.and_then(text),
            is_error: is_error.unwrap_or(false),
            is_of_thread: fields.feedback_thread_id.is_some(),
        })
    }
}

/// What one run's `feedback_stats` adds.
pub(super) fn summaries(json: &str) -> Result<Feedback, FeedbackError> {
    let mut feedback = Feedback::default();
    if json.trim().is_empty() {
        return Ok(feedback);
    }
    let keys: Option<BTreeMap<String, Option<SummaryFields<'_>>>> = serde_json::from_str(json)?;
    for (key, fields) in keys.into_iter().flatten() {
        if let Some(fields) = fields {
            let tally = Summary { key: &key, fields }.tally()?;
            feedback.insert(key, tally);
        }
    }
    Ok(feedback)
}

/// One key's summary as a run carries it.
struct Summary<'a> {
    key: &'a str,
    fields: SummaryFields<'a>,
}

impl Summary<'_> {
    fn tally(&self) -> Result<KeyTally, FeedbackError> {
        let mut tally = self.scores()?;
        tally.errors = self.count("errors", self.fields.errors)?.unwrap_or(0);
        tally.labels = self.labels()?;
        let of_thread = read(self.fields.contains_thread_feedback, boolean).map_err(|found| {
            self.wrong("contains_thread_feedback", "true, false or null", found)
        })?;
        tally.contains_thread_feedback = of_thread.unwrap_or(false);
        Ok(tally)
    }

    fn scores(&self) -> Result<KeyTally, FeedbackError> {
        let n = self.count("n", self.fields.n)?;
        let Some(avg) = self.number("avg", self.fields.avg)? else {
            return Ok(KeyTally::default());
        };
        let tally = match n.ok_or_else(|| self.wrong("n", "a count", None))? {
            0 => Some(KeyTally::default()),
            1 => KeyTally::of_score(avg),
            n => self.many_scores(n, avg)?,
        };
        tally.ok_or_else(|| overflow(self.key))
    }

    /// One number beyond the range shows that a score is, so none of them can be told apart.
    fn many_scores(&self, n: u64, avg: f64) -> Result<Option<KeyTally>, FeedbackError> {
        let fields = &self.fields;
        let stdev = self.number("stdev", fields.stdev)?;
        let min_field = fields.session_min_score.or(fields.min);
        let max_field = fields.session_max_score.or(fields.max);
        let min = self.number("min", min_field)?;
        let extremes = min.zip(self.number("max", max_field)?);
        if stdev.is_some_and(|stdev| stdev < 0.0) {
            return Err(self.wrong("stdev", "a number of at least 0", fields.stdev));
        }
        if extremes.is_some_and(|(min, max)| min > max) {
            return Err(self.wrong("min", "at most the largest score", min_field));
        }
        let in_units = |number: Option<f64>| number.map(|v| units_of(v).ok_or(())).transpose();
        let (min, max) = extremes.unzip();
        let (Some(mean), Ok(stdev), Ok(min), Ok(max)) =
            (units_of(avg), in_units(stdev), in_units(min), in_units(max))
        else {
            return Ok(Some(KeyTally::of_out_of_range(n)));
        };
        Ok(KeyTally::of_scores(n, mean, stdev, min.zip(max)))
    }

    /// What is no number counts nothing.
    fn labels(&self) -> Result<Labels, FeedbackError> {
        let mut labels = Labels::default();
        let values = self.fields.values.map(RawValue::get);
        let Some(object) = values.filter(|text| text.starts_with('{')) else {
            return Ok(labels);
        };
        let values: BTreeMap<String, &RawValue> = serde_json::from_str(object)?;
        for (label, value) in values {
            if value.get().parse::<f64>().is_ok() {
                let n = self.count("values", Some(value))?.unwrap_or(0);
                labels.add(&label, n).ok_or_else(|| overflow(self.key))?;
            }
        }
        Ok(labels)
    }

    fn number(&self, field: &'static str, raw: Raw<'_>) -> Result<Option<f64>, FeedbackError> {
        // The standard library rounds correctly; the JSON reader need not.
        let number = read(raw, |text| text.parse().ok());
        number.map_err(|found| self.wrong(field, "a number", found))
    }

    fn count(&self, field: &'static str, raw: Raw<'_>) -> Result<Option<u64>, FeedbackError> {
        let count = read(raw, whole);
        count.map_err(|found| self.wrong(field, "a whole number of at least 0", found))
    }

    fn wrong(&self, field: &'static str, expected: &'static str, found: Raw<'_>) -> FeedbackError {
        FeedbackError::Summary {
            key: self.key.to_owned(),
            field,
            expected,
            found: quoted(found),
        }
    }
}

/// What a field's text says, if there is any; the field again where that cannot be read.
fn read<T>(raw: Raw<'_>, text: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Raw<'_>> {
    raw.map(|raw| text(raw.get()).ok_or(Some(raw))).transpose()
}

fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// A whole number of at least zero, also where a float spells it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, not negative and at most 2⁵³"
)]
fn whole(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let float: f64 = text.parse().ok()?;
        let is_whole = (0.0..=WHOLE_FLOAT_MAX).contains(&float) && float.fract() == 0.0;
        is_whole.then_some(float as u64)
    })
}

fn quoted(raw: Raw<'_>) -> String {
    let text = raw.map_or("nothing", RawValue::get);
    match text.char_indices().nth(QUOTED_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
