//! Output: documents → bytes.
//!
//! JSON, JSON lines, CSV and Parquet are for machines and never round or cut; tables and Markdown are for people.
//! Text that comes from logs is data in all of them: it controls no terminal, is no formula of a
//! spreadsheet and no markup.

mod audit;
mod csv;
mod grid;
mod json;
mod list;
mod markdown;
mod parts;
mod runs;
mod show;
mod stats;
mod text;
mod trend;
mod units;

use std::io::{self, Write};

use chrono_tz::Tz;

use crate::document::{Overview, TracerSession};

pub use audit::write_audit;
pub use runs::{Listed, write_runs};
pub use stats::{Groups, write_stats};
pub use text::plain_text;
pub use units::{amount, count};

/// How documents are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON, indented: one document as an object, several as an array.
    #[default]
    Json,
    /// One document a line.
    Jsonl,
    /// For a terminal: aligned columns, human units.
    Table,
    /// For spreadsheets: a header, then a row a project, every digit; unknown values are empty cells.
    Csv,
    /// A GitHub table, human units.
    Markdown,
    /// Typed columns, of statistics only.
    Parquet,
}

/// How a table is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The terminal's columns; nothing is shortened or left out where there is none.
    pub width: Option<usize>,
    /// Whether colours may be used.
    pub color: bool,
    /// Whether it goes to a terminal, where CSV, too, has control characters escaped.
    pub terminal: bool,
    /// The zone in which tables show times.
    pub zone: Tz,
    /// So many threads write where there are many lines for machines; none is like one.
    pub threads: usize,
}

/// What an answer has for an output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines<'a> {
    /// The projects' documents.
    pub documents: &'a [TracerSession],
    /// The same projects as lines of a table; empty where no statistics were asked for.
    pub overviews: &'a [Overview],
    /// All of them together.
    pub total: Option<&'a Overview>,
}

/// Writes one project's document. Returns the names of the columns that a table left out for want of
/// room.
///
/// # Errors
///
/// Where the writer fails, and for [`Format::Parquet`].
pub fn write_one(
    out: &mut dyn Write,
    document: &TracerSession,
    overview: Option<&Overview>,
    format: Format,
    style: &Style,
) -> io::Result<Vec<String>> {
    match format {
        Format::Json => json::pretty(out, document)?,
        Format::Jsonl => json::compact(out, document)?,
        Format::Table => return show::write(out, document, overview, style),
        Format::Csv => csv::write(out, [(document, overview)], style)?,
        Format::Markdown => markdown::write_one(out, document, overview, style)?,
        Format::Parquet => return Err(untyped()),
    }
    Ok(Vec::new())
}

/// Writes projects as a list. Returns the names of the columns that a table left out for want of room.
///
/// # Errors
///
/// Where the writer fails, and for [`Format::Parquet`].
pub fn write_list(
    out: &mut dyn Write,
    lines: &Lines,
    format: Format,
    style: &Style,
) -> io::Result<Vec<String>> {
    match format {
        Format::Json => json::pretty(out, lines.documents)?,
        Format::Jsonl => {
            for document in lines.documents {
                json::compact(out, document)?;
            }
        }
        Format::Table => return list::write(out, lines, style),
        Format::Csv => csv::write(out, lines.pairs(), style)?,
        Format::Markdown => markdown::write_list(out, lines, style)?,
        Format::Parquet => return Err(untyped()),
    }
    Ok(Vec::new())
}

/// Documents and runs are no rows of typed columns.
fn untyped() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "only statistics are written as Parquet",
    )
}

impl<'a> Lines<'a> {
    /// Each document with its overview, which has the same place in its list.
    fn pairs(&self) -> impl Iterator<Item = (&'a TracerSession, Option<&'a Overview>)> {
        let overviews = self.overviews;
        self.documents
            .iter()
            .enumerate()
            .map(move |(at, document)| {
                let overview = overviews.get(at);
                (
                    document,
                    overview.filter(|overview| overview.id == Some(document.id)),
                )
            })
    }
}
