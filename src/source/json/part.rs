//! Bytes of whole values → a row group, and what was found on the way.

use std::collections::BTreeSet;
use std::ops::Range;

use datafusion::parquet::arrow::arrow_writer::ArrowColumnChunk;
use datafusion::parquet::errors::ParquetError;

use super::blocks::{Broken, Cut, Fault, fault, n_lines};
use super::run::{Reader, Wrong};
use super::table::{Encoder, Rows};

/// Why a table was not made.
pub(super) enum Stop {
    /// The first value is one of figures.
    Figures,
    Broken(Broken),
    Table(ParquetError),
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Table(error)
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// A part of a stream, whose runs become a row group.
pub(super) struct Part {
    n_columns: usize,
    skips: bool,
    rows: Rows,
    sum: Sum,
}

/// What was found in a stream, or in a part of one.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) n_bytes: u64,
    pub(super) n_lines: u64,
    pub(super) n_rows: usize,
    pub(super) present: u64,
    pub(super) n_left_out: u64,
    pub(super) first_left_out: Option<Fault>,
    pub(super) passed_over: BTreeSet<String>,
}

impl Sum {
    /// A fault of the next part, with the number of its line in the stream.
    pub(super) fn placed(&self, fault: Fault) -> Fault {
        Fault {
            line: self.n_lines + fault.line,
            ..fault
        }
    }

    /// Adds that of the next part.
    pub(super) fn add(&mut self, next: Self) {
        let Self {
            n_bytes,
            n_lines,
            n_rows,
            present,
            n_left_out,
            first_left_out,
            passed_over,
        } = next;
        let first = first_left_out.map(|fault| self.placed(fault));
        self.first_left_out = self.first_left_out.take().or(first);
        self.n_bytes += n_bytes;
        self.n_lines += n_lines;
        self.n_rows += n_rows;
        self.present |= present;
        self.n_left_out += n_left_out;
        self.passed_over.extend(passed_over);
    }
}

/// A part that was read to its end.
pub(super) struct Encoded {
    /// None where there was no run.
    pub(super) columns: Option<Vec<ArrowColumnChunk>>,
    pub(super) sum: Sum,
}

impl Part {
    /// Of the columns, the first `n_columns` are read; what is no run is left out, or fails.
    pub(super) fn new(n_columns: usize, skips: bool) -> Self {
        Self {
            n_columns,
            skips,
            rows: Rows::new(n_columns),
            sum: Sum::default(),
        }
    }

    /// Adds the runs of values, the first byte of which is at `offset`; tells how many lines they were.
    pub(super) fn read(&mut self, bytes: &[u8], offset: u64, cut: &Cut) -> Result<u64, Stop> {
        // All at once, as mostly it is.
        let all = simdutf8::basic::from_utf8(bytes).ok();
        let text = |range: Range<usize>| match all.and_then(|all| all.get(range.clone())) {
            Some(text) => Ok(text),
            None => simdutf8::compat::from_utf8(bytes.get(range).unwrap_or_default()),
        };
        let mut reader = Reader::new(self.n_columns);
        let mut read = |range: Range<usize>| {
            let begin = range.start;
            let place = Place { bytes, offset };
            match text(range) {
                Ok(text) => self.read_one(text, begin, &mut reader, place),
                Err(error) => {
                    let at = begin + error.valid_up_to();
                    self.leave_out(place, at, "no text: its bytes are no UTF-8".to_owned())
                }
            }
        };
        let n_lines = match cut {
            Cut::Values(ranges) => {
                for range in ranges {
                    read(range.clone())?;
                }
                n_lines(bytes)
            }
            Cut::Lines => {
                let (mut begin, mut n) = (0, 0);
                for end in memchr::memchr_iter(b'\n', bytes) {
                    read(begin..end)?;
                    begin = end + 1;
                    n += 1;
                }
                read(begin..bytes.len())?;
                n
            }
        };
        self.sum.passed_over.extend(reader.passed_over);
        self.sum.n_bytes += bytes.len() as u64;
        self.sum.n_lines += n_lines;
        Ok(n_lines)
    }

    fn read_one<'a>(
        &mut self,
        text: &'a str,
        begin: usize,
        reader: &mut Reader<'a>,
        place: Place<'_>,
    ) -> Result<(), Stop> {
        if text.trim_ascii_start().is_empty() {
            return Ok(());
        }
        reader.read(text, |run| match run {
            Ok(run) => {
                self.rows.add(run);
                Ok(())
            }
            Err(Wrong {
                is_figures: true, ..
            }) if place.offset <= AFTER_MARK && self.rows.n == 0 => Err(Stop::Figures),
            Err(wrong) => self.leave_out(place, begin + wrong.at, wrong.problem),
        })
    }

    fn leave_out(&mut self, place: Place<'_>, at: usize, problem: String) -> Result<(), Stop> {
        if !self.skips || self.sum.first_left_out.is_none() {
            let fault = self
                .sum
                .placed(fault(place.bytes, place.offset, at, problem));
            if !self.skips {
                return Err(Stop::Broken(Broken::Fault(fault)));
            }
            self.sum.first_left_out = Some(fault);
        }
        self.sum.n_left_out += 1;
        Ok(())
    }

    pub(super) fn encode(self, encoder: &Encoder) -> Result<Encoded, Stop> {
        let Self { rows, mut sum, .. } = self;
        (sum.n_rows, sum.present) = (rows.n, rows.present);
        Ok(Encoded {
            columns: encoder.encode(rows)?,
            sum,
        })
    }
}

/// Where the first values are: after the mark that a text may begin with.
const AFTER_MARK: u64 = 3;

/// Bytes, and where they are in the stream.
#[derive(Clone, Copy)]
struct Place<'b> {
    bytes: &'b [u8],
    offset: u64,
}
