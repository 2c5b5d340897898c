//! `runtally formats`: what files are understood, and where each column of a run comes from.

use clap::Args;
use runtally::{Error, formats};

use super::{Exit, write};

/// As wide as the longest of the names in front.
const NAME_WIDTH: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Formats {
    /// A JSON array instead of a text.
    #[arg(long)]
    pub(super) json: bool,
}

impl Formats {
    pub(super) fn run(&self) -> Result<Exit, Error> {
        let formats = formats();
        write::to_stdout(|out| {
            if self.json {
                serde_json::to_writer_pretty(&mut *out, &formats)?;
                return writeln!(out);
            }
            for format in formats {
                writeln!(out, "{}: {}\n", format.name, format.about)?;
                for column in format.columns {
                    let from = column.from.join(", else ");
                    writeln!(out, "  {:NAME_WIDTH$} {from}", column.name)?;
                }
            }
            Ok(())
        })?;
        Ok(Exit::Done)
    }
}
