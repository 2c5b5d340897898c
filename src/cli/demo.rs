//! `runtally demo`: a small export to look at, and what to try on it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use clap::{Args, ValueEnum};
use runtally::Error;
use runtally::generate::{self, Options};
use runtally::output::count;

use super::face::{Color, aside, say, set_color};
use super::{Exit, generate as generating, run};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where colours are used.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Color,
}

impl Demo {
    pub(super) fn run(&self) -> Result<Exit, Error> {
        set_color(self.color);
        let began = Instant::now();
        let folder = tempfile::Builder::new()
            .prefix("runtally-demo-")
            .tempdir()
            .map_err(|source| Error::Io {
                path: std::env::temp_dir(),
                action: "cannot make a folder in",
                source,
            })?
            .keep();
        let summary = generate::generate(&folder, &options()).map_err(generating::wrong)?;
        aside(&format!(
            "{} runs of {} days made in {} ({:.2} s)",
            count(summary.rows),
            options().days,
            folder.display(),
            began.elapsed().as_secs_f64()
        ));
        let exit = list(&folder, self.color);
        say(&next_steps(&folder));
        Ok(exit)
    }
}

/// What `runtally list` shows of it.
fn list(folder: &Path, color: Color) -> Exit {
    let mut args: Vec<OsString> = ["runtally", "list", "--format", "table", "--color"]
        .map(OsString::from)
        .to_vec();
    let color = color
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    args.extend([
        color.into(),
        "--projects".into(),
        folder.join("sessions.json").into(),
        folder.into(),
    ]);
    run(super::command_as_written(), &args)
}

/// The same week each time, so that everybody sees the same.
fn options() -> Options {
    Options {
        rows: 20_000,
        projects: 5,
        ..Options::default()
    }
}

fn next_steps(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "\nTry next:\n  \
         runtally show {folder} -p support-bot --period 2026-10-30\n  \
         runtally show {folder} -p support-bot --json\n  \
         runtally list {folder} --format csv\n  \
         runtally path/to/your/exports\n\
         The folder can be deleted: rm -r {folder}"
    )
}
