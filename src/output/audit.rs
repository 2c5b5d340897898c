//! Audits: what a source has, and what may be wrong with it. JSON has everything; JSON lines and CSV have a
//! finding a line or, where documents are compared, a field; tables and Markdown have sections.

mod against;
mod strip;
mod table;

use std::io::{self, Write};

use super::csv::{cell_text, or_empty};
use super::{Format, Style, json, untyped};
use crate::document::{Audit, Finding};

/// The columns of CSV, named as JSON's keys.
const HEADER: [&str; 10] = [
    "kind",
    "severity",
    "count",
    "of",
    "unit",
    "share",
    "example_run_id",
    "example_file",
    "meaning",
    "details",
];

/// Writes an audit. Returns the names of the columns that a table left out for want of room.
///
/// # Errors
///
/// Where the writer fails, and for [`Format::Parquet`].
pub fn write_audit(
    out: &mut dyn Write,
    audit: &Audit,
    format: Format,
    style: &Style,
) -> io::Result<Vec<String>> {
    match format {
        Format::Json => json::pretty(out, audit)?,
        Format::Jsonl if let Some(comparison) = &audit.against => {
            for field in &comparison.fields {
                json::compact(out, field)?;
            }
        }
        Format::Jsonl => {
            for finding in &audit.findings {
                json::compact(out, finding)?;
            }
        }
        Format::Table => return table::write(out, audit, style),
        Format::Csv if let Some(comparison) = &audit.against => {
            against::write_csv(out, comparison, style)?;
        }
        Format::Csv => write_csv(out, audit, style)?,
        Format::Markdown => table::write_markdown(out, audit, style)?,
        Format::Parquet => return Err(untyped()),
    }
    Ok(Vec::new())
}

fn write_csv(out: &mut dyn Write, audit: &Audit, style: &Style) -> io::Result<()> {
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(HEADER)?;
    for finding in &audit.findings {
        csv.write_record(row(finding, style.terminal))?;
    }
    csv.flush()
}

/// The cells in the order of [`HEADER`].
fn row(finding: &Finding, terminal: bool) -> [String; 10] {
    let Finding {
        kind,
        severity,
        meaning,
        count,
        of,
        unit,
        share,
        example_run_id,
        example_file,
        details,
    } = finding;
    let text = |text: &Option<String>| cell_text(text.as_deref().unwrap_or_default(), terminal);
    [
        kind.name().to_owned(),
        severity.name().to_owned(),
        count.to_string(),
        of.to_string(),
        (*unit).to_owned(),
        or_empty(*share),
        text(example_run_id),
        text(example_file),
        (*meaning).to_owned(),
        cell_text(&details.join("; "), terminal),
    ]
}
