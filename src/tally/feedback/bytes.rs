//! The stored form of feedback, in varints of the shortest form: the version, the number of keys, and
//! for each in rising order its text (length and UTF-8) and its tally; last, where there is any, the
//! number of unreadable texts.
//!
//! A tally is a byte of flags, the counts of scores, errors and scores out of range; where there are
//! scores, their sums (above and below zero), squares (upper and lower half), extremes (the smallest,
//! zigzag, and the distance of the largest to it) and sketches (below and above zero, each after its
//! length), as far as the flags say that they are known; the number of labels, and each in rising
//! order with its count. The same feedback has one such byte string, and no other is accepted.

use num_bigint::BigUint;

use super::key::{KeyTally, Scores};
use super::{FORMAT_VERSION, Feedback, FeedbackError};
use crate::tally::sketch::Sketch;
use crate::tally::varint::{self, VarintError, write_varint, write_varint_u128};

/// Flags of a key: what is known of all its scores, and whether any of it was given to a thread.
const SQUARES: u8 = 1;
const EXTREMES: u8 = 2;
const SCORES: u8 = 4;
const OF_THREAD: u8 = 8;

pub(super) fn write(feedback: &Feedback, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    write_varint(feedback.keys.len() as u64, out);
    for (key, tally) in &feedback.keys {
        write_bytes(key.as_bytes(), out);
        write_tally(tally, out);
    }
    if feedback.n_unreadable > 0 {
        write_varint(feedback.n_unreadable, out);
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Feedback, FeedbackError> {
    let n_bytes = bytes.len();
    let mut reader = Reader {
        rest: varint::Reader::new(bytes),
        n_bytes,
    };
    match reader.byte()? {
        FORMAT_VERSION => {}
        found => return Err(FeedbackError::Version { found }),
    }
    let mut feedback = Feedback::default();
    for _ in 0..reader.number::<u64>()? {
        let key = reader.text()?;
        let tally = read_tally(key, &mut reader)?;
        feedback.insert(key.to_owned(), tally);
    }
    if !reader.rest.is_empty() {
        feedback.n_unreadable = reader.number()?;
    }
    // Shows keys and labels out of order or without a count, needless flags, bytes after the end.
    let written = feedback.to_bytes();
    if written == bytes {
        return Ok(feedback);
    }
    let pairs = bytes.iter().zip(&written);
    Err(FeedbackError::Damaged {
        offset: pairs
            .take_while(|(found, expected)| found == expected)
            .count(),
        problem: "not in the form that is written",
    })
}

fn write_tally(tally: &KeyTally, out: &mut Vec<u8>) {
    out.push(
        SQUARES * u8::from(tally.squares.is_some())
            + EXTREMES * u8::from(tally.extremes.is_some())
            + SCORES * u8::from(tally.scores.is_some())
            + OF_THREAD * u8::from(tally.contains_thread_feedback),
    );
    write_varint(tally.n, out);
    write_varint(tally.errors, out);
    write_varint(tally.n_out_of_range, out);
    if tally.n > 0 {
        write_scores(tally, out);
    }
    write_varint(tally.labels.counts.len() as u64, out);
    for (label, n) in &tally.labels.counts {
        write_bytes(label.as_bytes(), out);
        write_varint(*n, out);
    }
}

fn write_scores(tally: &KeyTally, out: &mut Vec<u8>) {
    write_varint_u128(tally.positive, out);
    write_varint_u128(tally.negative, out);
    if let Some(squares) = &tally.squares {
        // The lowest digit first.
        let mut digits = squares.iter_u64_digits().map(u128::from);
        let mut half = || digits.next().unwrap_or(0) | digits.next().unwrap_or(0) << 64;
        let (low, high) = (half(), half());
        write_varint_u128(high, out);
        write_varint_u128(low, out);
    }
    if let Some((min, max)) = tally.extremes {
        write_varint_u128(zigzag(min), out);
        write_varint_u128(max.abs_diff(min), out);
    }
    if let Some(scores) = &tally.scores {
        write_bytes(&scores.negative.to_bytes(), out);
        write_bytes(&scores.positive.to_bytes(), out);
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn read_tally(key: &str, reader: &mut Reader<'_>) -> Result<KeyTally, FeedbackError> {
    let flags = reader.byte()?;
    let mut tally = KeyTally {
        contains_thread_feedback: flags & OF_THREAD != 0,
        ..KeyTally::default()
    };
    tally.n = reader.number()?;
    tally.errors = reader.number()?;
    tally.n_out_of_range = reader.number()?;
    if tally.n > 0 {
        read_scores(key, flags, &mut tally, reader)?;
    }
    for _ in 0..reader.number::<u64>()? {
        let label = reader.text()?;
        let added = tally.labels.add(label, reader.number()?);
        added.ok_or_else(|| reader.damaged("too many labels"))?;
    }
    Ok(tally)
}

fn read_scores(
    key: &str,
    flags: u8,
    tally: &mut KeyTally,
    reader: &mut Reader<'_>,
) -> Result<(), FeedbackError> {
    tally.positive = reader.number()?;
    tally.negative = reader.number()?;
    tally.squares = if flags & SQUARES == 0 {
        None
    } else {
        let high = BigUint::from(reader.number::<u128>()?);
        Some((high << 128_u32) + reader.number::<u128>()?)
    };
    tally.extremes = if flags & EXTREMES == 0 {
        None
    } else {
        let min = unzigzag(reader.number()?);
        Some((min, min.saturating_add_unsigned(reader.number()?)))
    };
    tally.scores = if flags & SCORES == 0 {
        None
    } else {
        let negative = reader.sketch(key)?;
        let positive = reader.sketch(key)?;
        Some(Scores { negative, positive })
    };
    if tally.is_possible() {
        Ok(())
    } else {
        Err(reader.damaged("sums that no scores have"))
    }
}

/// Signed to unsigned, small magnitudes to small numbers.
pub(super) fn zigzag(number: i128) -> u128 {
    ((number << 1) ^ (number >> 127)).cast_unsigned()
}

pub(super) fn unzigzag(number: u128) -> i128 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Reads stored bytes and says where they are damaged.
struct Reader<'a> {
    rest: varint::Reader<'a>,
    /// Of the whole stored form.
    n_bytes: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, FeedbackError> {
        let byte = self.rest.byte();
        byte.ok_or_else(|| self.damaged("ends early"))
    }

    fn number<T: TryFrom<u128>>(&mut self) -> Result<T, FeedbackError> {
        let number = self.rest.varint_u128();
        let number = number.and_then(|n| T::try_from(n).map_err(|_| VarintError::Overflow));
        number.map_err(|error| {
            self.damaged(match error {
                VarintError::Truncated => "ends early",
                VarintError::NotShortest => "number longer than needed",
                VarintError::Overflow => "number too large",
            })
        })
    }

    /// Bytes that stand after their number.
    fn bytes(&mut self) -> Result<&'a [u8], FeedbackError> {
        let n = self.number()?;
        let bytes = self.rest.take(n);
        bytes.ok_or_else(|| self.damaged("ends early"))
    }

    fn text(&mut self) -> Result<&'a str, FeedbackError> {
        let text = str::from_utf8(self.bytes()?);
        text.map_err(|_| self.damaged("text that is no UTF-8"))
    }

    fn sketch(&mut self, key: &str) -> Result<Sketch, FeedbackError> {
        let sketch = Sketch::from_bytes(self.bytes()?);
        sketch.map_err(|source| FeedbackError::Sketch {
            key: key.to_owned(),
            source,
        })
    }

    fn damaged(&self, problem: &'static str) -> FeedbackError {
        let offset = self.n_bytes - self.rest.len();
        FeedbackError::Damaged { offset, problem }
    }
}
