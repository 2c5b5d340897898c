//! Feedback of a group of runs: moments, extremes and label counts per key.
//!
//! What comes in is either the summaries that each run carries (JSON text) or raw feedback records; what
//! goes out are [`KeyStats`]. In between everything is an integer, a sorted map or a sketch, so tallies
//! merge in any order to the same bytes. Knows nothing of tables and plans.

mod bytes;
mod key;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;

use foldhash::fast::RandomState;

use super::sketch::SketchError;
use key::KeyTally;

/// The version of the stored bytes.
pub const FORMAT_VERSION: u8 = 1;

/// Scores beyond plus or minus this are a finding about the data, not values.
pub const SCORE_MAX: f64 = 1e15;

/// The feedback of a group of runs, per key. A commutative monoid under
/// [`merge`](Self::merge), with [`Feedback::default`] as its identity.
#[derive(Clone, Debug, Default)]
pub struct Feedback {
    /// Boxed, since a tree's first node has room for eleven entries and most
    /// groups have one or two keys.
    keys: BTreeMap<String, Box<KeyTally>>,
    /// Heap bytes of keys and tallies but for the tree's own nodes.
    tally_bytes: usize,
    /// Texts of summaries that could not be read.
    n_unreadable: u64,
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

/// As many texts of summaries are remembered, as many of their bytes, and for how many groups.
const N_PARSED_MAX: usize = 1_024;
const PARSED_BYTES_MAX: usize = 256 << 10;
const N_COUNTED_MAX: usize = 8_192;

/// Texts of summaries that were parsed already, and how often each came in which group: few differ, and
/// parsing and adding cost more than counting.
#[derive(Debug, Default)]
pub(crate) struct ParsedSummaries {
    places: HashMap<String, usize, RandomState>,
    parsed: Vec<Feedback>,
    n_bytes: usize,
    /// By group and place.
    counts: HashMap<(usize, usize), u64, RandomState>,
}

impl ParsedSummaries {
    /// What a run's `feedback_stats` add: its summaries, or one unreadable text.
    pub(crate) fn of(&mut self, json: &str) -> &Feedback {
        let place = self.place(json);
        &self.parsed[place]
    }

    /// Counts the `feedback_stats` of `n` runs in a group.
    pub(crate) fn count(&mut self, group: usize, json: &str, n: u64) {
        // What most runs have adds nothing.
        if json != "{}" {
            let place = self.place(json);
            *self.counts.entry((group, place)).or_default() += n;
        }
    }

    /// Groups, what came in them, and how often.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (usize, &Feedback, u64)> {
        let counts = self.counts.iter();
        counts.map(|((group, place), n)| (*group, &self.parsed[*place], *n))
    }

    /// Whether it is time to add what was counted.
    pub(crate) fn is_full(&self) -> bool {
        self.counts.len() > N_COUNTED_MAX || self.has_many_texts()
    }

    /// Forgets what was counted, and the texts where they are many.
    pub(crate) fn forget(&mut self) {
        self.counts.clear();
        if self.has_many_texts() {
            *self = Self::default();
        }
    }

    fn has_many_texts(&self) -> bool {
        self.parsed.len() > N_PARSED_MAX || self.n_bytes > PARSED_BYTES_MAX
    }

    fn place(&mut self, json: &str) -> usize {
        if let Some(place) = self.places.get(json) {
            return *place;
        }
        let place = self.parsed.len();
        self.parsed.push(Feedback::of_summaries(json));
        self.places.insert(json.to_owned(), place);
        self.n_bytes += json.len();
        place
    }
}

impl Feedback {
    /// Adds one run's `feedback_stats`: an object of key → summary. An empty text, `null` and `{}` add
    /// nothing; a key that is given twice counts as last given.
    ///
    /// # Errors
    ///
    /// Where the text is no such JSON, a count is no whole number of at least zero, a number is none, or
    /// the sums grow too large. Nothing is added then.
    pub fn add_summaries(&mut self, json: &str) -> Result<(), FeedbackError> {
        self.absorb(parse::summaries(json)?)
    }

    /// Adds one run's `feedback_stats` or, where the text by itself is no such JSON or holds absurd
    /// numbers, counts it as unreadable.
    ///
    /// # Errors
    ///
    /// [`FeedbackError::Overflow`] where the sums grow too large; nothing is added then.
    pub fn add_summaries_or_count(&mut self, json: &str) -> Result<(), FeedbackError> {
        self.merge(&Self::of_summaries(json))
    }

    /// What one run's `feedback_stats` add: its summaries, or one unreadable text.
    fn of_summaries(json: &str) -> Self {
        let mut feedback = Self::default();
        if feedback.add_summaries(json).is_err() {
            feedback.n_unreadable = 1;
        }
        feedback
    }

    /// Adds one raw feedback record.
    ///
    /// # Errors
    ///
    /// Where the sums grow too large; nothing is added then.
    pub fn add_record(&mut self, record: &Record) -> Result<(), FeedbackError> {
        let tally = KeyTally::of_record(record).ok_or_else(|| overflow(&record.key))?;
        let mut added = Self::default();
        added.insert(record.key.clone(), tally);
        self.absorb(added)
    }

    /// Adds all that another tally holds.
    ///
    /// # Errors
    ///
    /// Where the sums grow too large; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), FeedbackError> {
        for (key, theirs) in &other.keys {
            let ours = self.keys.get(key);
            if ours.is_some_and(|ours| !ours.can_merge(theirs)) {
                return Err(overflow(key));
            }
        }
        for (key, theirs) in &other.keys {
            if let Some(ours) = self.keys.get_mut(key) {
                let before = ours.heap_size();
                ours.merge(theirs);
                self.tally_bytes = (self.tally_bytes + ours.heap_size()).saturating_sub(before);
            } else {
                self.insert(key.clone(), KeyTally::clone(theirs));
            }
        }
        self.n_unreadable = self.n_unreadable.saturating_add(other.n_unreadable);
        Ok(())
    }

    /// Adds all that another tally holds, so many times.
    pub(crate) fn merge_times(&mut self, other: &Self, n: u64) -> Result<(), FeedbackError> {
        match n {
            0 => return Ok(()),
            1 => return self.merge(other),
            _ => {}
        }
        let mut all = Self {
            n_unreadable: other.n_unreadable.saturating_mul(n),
            ..Self::default()
        };
        for (key, tally) in &other.keys {
            let tally = tally.times(n).ok_or_else(|| overflow(key))?;
            all.insert(key.clone(), tally);
        }
        self.merge(&all)
    }

    /// Adds all that stored bytes hold.
    ///
    /// # Errors
    ///
    /// Those of [`from_bytes`](Self::from_bytes) and of [`merge`](Self::merge).
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), FeedbackError> {
        self.absorb(Self::from_bytes(bytes)?)
    }

    /// Whether there is no key and nothing unreadable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.n_unreadable == 0
    }

    /// How many texts of summaries were unreadable.
    #[must_use]
    pub fn n_unreadable(&self) -> u64 {
        self.n_unreadable
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

    /// Appends the stored form. The same feedback, added and merged in any order, gives the same bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        bytes::write(self, out);
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
    /// Where the bytes have another version, end early or go on, or could not have been written by
    /// [`write_to`](Self::write_to).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FeedbackError> {
        bytes::read(bytes)
    }

    fn absorb(&mut self, other: Self) -> Result<(), FeedbackError> {
        if self.is_empty() {
            *self = other;
            return Ok(());
        }
        self.merge(&other)
    }

    /// Puts a tally under a key that has none yet.
    fn insert(&mut self, key: String, tally: KeyTally) {
        self.tally_bytes += key.len() + size_of::<KeyTally>() + tally.heap_size();
        self.keys.insert(key, Box::new(tally));
    }
}

impl PartialEq for Feedback {
    /// By what it holds, not by how much room that takes.
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.n_unreadable == other.n_unreadable
    }
}

fn overflow(key: &str) -> FeedbackError {
    FeedbackError::Overflow {
        key: key.to_owned(),
    }
}

/// About the heap bytes of a tree map's nodes: each has room for eleven entries and is at least half
/// full.
fn tree_bytes<K, V>(len: usize) -> usize {
    len.div_ceil(6) * (11 * (size_of::<K>() + size_of::<V>()) + 16)
}
