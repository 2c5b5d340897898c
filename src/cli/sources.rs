//! The flags that say where runs lie, and how they are read.

use std::path::PathBuf;

use clap::{ArgMatches, Args, ValueEnum};
use runtally::{Dedup, Error, OnBadFile, SourceOptions};
use uuid::Uuid;

use super::config::{self, Config};

const SOURCES: &str = "Sources";

/// The flags of a source.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Files, folders or globs of exports; several are one source.
    #[arg(value_name = "SOURCE")]
    source: Vec<PathBuf>,

    /// Names of projects: records of GET /sessions (JSON or JSON lines), instead of sessions.json at the
    /// source's root.
    #[arg(long, value_name = "FILE", help_heading = SOURCES)]
    projects: Option<PathBuf>,

    /// Records of GET /feedback, instead of the runs' own feedback summaries.
    #[arg(long, value_name = "FILE", help_heading = SOURCES)]
    feedback: Option<PathBuf>,

    /// What the format of all files is called in `runtally formats`, where it is not to be found out.
    #[arg(long, value_name = "FORMAT", help_heading = SOURCES, hide_short_help = true)]
    from: Option<String>,

    /// What to do with a file that cannot be read: fail, or answer without it and exit with 4.
    #[arg(long, value_enum, default_value = "fail", value_name = "WHAT", help_heading = SOURCES)]
    on_error: OnErrorArg,

    /// Where later exports may repeat the runs of earlier ones, so that the newest counts: where their
    /// spans of time overlap, everywhere, or nowhere.
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        value_name = "WHERE",
        help_heading = SOURCES,
        hide_short_help = true
    )]
    dedup: DedupArg,

    /// The project of runs for which neither their file nor its path names one.
    #[arg(long, value_name = "UUID", help_heading = SOURCES, hide_short_help = true)]
    assume_project: Option<Uuid>,

    /// Their tenant, likewise.
    #[arg(long, value_name = "UUID", help_heading = SOURCES, hide_short_help = true)]
    assume_tenant: Option<Uuid>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DedupArg {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnErrorArg {
    Fail,
    Skip,
}

impl SourceArgs {
    /// The files, folders and globs, those of the settings where none are given.
    pub(super) fn sources(&self, config: &Config) -> Result<Vec<PathBuf>, Error> {
        let sources = if self.source.is_empty() {
            config.sources()
        } else {
            self.source.clone()
        };
        if sources.is_empty() {
            return Err(Error::Usage {
                problem: "no source is given".to_owned(),
                hint: Some(
                    "name a file, folder or glob of exports; `runtally demo` makes one to try"
                        .to_owned(),
                ),
            });
        }
        Ok(sources)
    }

    /// How they are read.
    pub(super) fn options(&self, given: &ArgMatches, config: &Config) -> SourceOptions {
        let from_config = || {
            config
                .projects
                .clone()
                .filter(|_| config::is_open(given, "projects"))
        };
        SourceOptions {
            projects: self.projects.clone().or_else(from_config),
            feedback: self.feedback.clone(),
            other_files: Vec::new(),
            assume_project: self.assume_project,
            assume_tenant: self.assume_tenant,
            format: self.from.clone(),
            dedup: self.dedup.into(),
            on_bad_file: self.on_error.into(),
        }
    }

    /// Why a file has its format.
    pub(super) fn told_by(&self, format: &str) -> String {
        if self.from.is_some() {
            return "as --from says".to_owned();
        }
        let known = runtally::formats().into_iter();
        let mut columns = known
            .filter(|known| known.name == format)
            .flat_map(|known| known.columns);
        let start = columns.find(|column| column.name == "start_time");
        let names = start.map(|start| start.from.join(" or "));
        format!("by a column {}", names.unwrap_or_default())
    }

    /// Whether none are given.
    pub(super) fn are_open(&self) -> bool {
        self.source.is_empty()
    }
}

impl From<DedupArg> for Dedup {
    fn from(dedup: DedupArg) -> Self {
        match dedup {
            DedupArg::Auto => Self::Auto,
            DedupArg::Always => Self::Always,
            DedupArg::Never => Self::Never,
        }
    }
}

impl From<OnErrorArg> for OnBadFile {
    fn from(on_error: OnErrorArg) -> Self {
        match on_error {
            OnErrorArg::Fail => Self::Fail,
            OnErrorArg::Skip => Self::Skip,
        }
    }
}
