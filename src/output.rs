//! Output: documents → bytes.

use std::io::{self, Write};

use crate::document::TracerSession;

/// How documents are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON, indented: one document as an object, several as an array.
    #[default]
    Json,
    /// One document a line.
    Jsonl,
}

/// Writes one document.
///
/// # Errors
///
/// Where the writer fails.
pub fn write_one(out: &mut dyn Write, document: &TracerSession, format: Format) -> io::Result<()> {
    match format {
        Format::Json => serde_json::to_writer_pretty(&mut *out, document)?,
        Format::Jsonl => serde_json::to_writer(&mut *out, document)?,
    }
    out.write_all(b"\n")
}

/// Writes documents as a list.
///
/// # Errors
///
/// Where the writer fails.
pub fn write_list(
    out: &mut dyn Write,
    documents: &[TracerSession],
    format: Format,
) -> io::Result<()> {
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, documents)?;
            out.write_all(b"\n")
        }
        Format::Jsonl => documents
            .iter()
            .try_for_each(|document| write_one(out, document, format)),
    }
}
