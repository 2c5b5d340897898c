//! Runs one by one: a line a run. JSON, JSON lines and CSV have all that is known of each; tables and
//! Markdown what is looked at first.

mod sheet;
mod table;

use std::io::{self, Write};

use super::{Format, Style, json, untyped};
use crate::document::RunLine;
use crate::request::Listing;

/// What an answer has for an output of runs.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// What was asked.
    pub listing: &'a Listing,
    /// The runs, in their order.
    pub runs: &'a [RunLine],
}

/// Writes runs. Returns the names of the columns that a table left out for want of room.
///
/// # Errors
///
/// Where the writer fails, and for [`Format::Parquet`].
pub fn write_runs(
    out: &mut dyn Write,
    answer: &Listed,
    format: Format,
    style: &Style,
) -> io::Result<Vec<String>> {
    match format {
        Format::Json => json::pretty(out, answer.runs)?,
        Format::Jsonl => {
            for run in answer.runs {
                json::compact(out, run)?;
            }
        }
        Format::Table => return table::write(out, answer, style),
        Format::Csv => sheet::write(out, answer, style)?,
        Format::Markdown => table::write_markdown(out, answer, style)?,
        Format::Parquet => return Err(untyped()),
    }
    Ok(Vec::new())
}
