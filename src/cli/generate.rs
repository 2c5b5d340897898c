//! `runtally generate`: a seeded synthetic export.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use runtally::Error;
use runtally::generate::{self, Compression, CostType, GenerateError, Layout, Options};

use super::Exit;
use super::face::say;

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// The folder to fill; it must be empty or absent.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Runs over all projects; about a quarter of them are traces.
    #[arg(long, default_value_t = Options::default().rows)]
    rows: u64,

    /// Projects; the first have the most runs.
    #[arg(long, default_value_t = Options::default().projects)]
    projects: u32,

    /// Days.
    #[arg(long, default_value_t = Options::default().days)]
    days: u32,

    /// The last day, included.
    #[arg(long, value_name = "DATE", default_value_t = Options::default().end)]
    end: NaiveDate,

    /// Distinct users in the metadata.
    #[arg(long, default_value_t = Options::default().users)]
    users: u32,

    /// What all random choices follow from: the same options give the same bytes.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,

    /// Folders and types of the export: a bulk export's, one folder, or JSON lines.
    #[arg(long, value_enum, default_value = "v2")]
    layout: LayoutArg,

    /// Type of the cost columns.
    #[arg(long, value_enum, default_value = "double")]
    cost_type: CostArg,

    /// Compression of the columns.
    #[arg(long, value_enum, default_value = "zstd")]
    compression: CompressionArg,

    /// Rows of a row group.
    #[arg(long, value_name = "ROWS", default_value_t = Options::default().row_group_rows)]
    row_group_rows: usize,

    /// Files a day and project.
    #[arg(long, value_name = "N", default_value_t = Options::default().files_per_day)]
    files_per_day: u32,

    /// How many of the last days a second, later export repeats, with late updates.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    overlap: u32,

    /// Only LLM runs carry tokens and costs; roots do not add up their descendants'.
    #[arg(long)]
    own_only_roots: bool,

    /// Traces out of 10 000 that never end.
    #[arg(long, value_name = "N", default_value = "40", value_parser = clap::value_parser!(u32).range(..=10_000))]
    pending_share: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    V1,
    V2,
    Flat,
    /// Files of JSON lines.
    Jsonl,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CostArg {
    Double,
    Decimal,
    Text,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressionArg {
    Zstd,
    Gzip,
    Snappy,
    None,
}

impl Generate {
    pub(super) fn run(&self) -> Result<Exit, Error> {
        let options = Options {
            rows: self.rows,
            projects: self.projects,
            days: self.days,
            end: self.end,
            users: self.users,
            seed: self.seed,
            layout: match self.layout {
                LayoutArg::V1 => Layout::V1,
                LayoutArg::V2 => Layout::V2,
                LayoutArg::Flat => Layout::Flat,
                LayoutArg::Jsonl => Layout::Lines,
            },
            row_group_rows: self.row_group_rows,
            compression: match self.compression {
                CompressionArg::Zstd => Compression::Zstd,
                CompressionArg::Gzip => Compression::Gzip,
                CompressionArg::Snappy => Compression::Snappy,
                CompressionArg::None => Compression::None,
            },
            overlap: self.overlap,
            cost_type: match self.cost_type {
                CostArg::Double => CostType::Double,
                CostArg::Decimal => CostType::Decimal,
                CostArg::Text => CostType::Text,
            },
            own_only_roots: self.own_only_roots,
            files_per_day: self.files_per_day,
            pending_share: self.pending_share,
        };
        let summary = generate::generate(&self.dir, &options).map_err(wrong)?;
        say(&format!(
            "{} runs in {} files, {}, below {}",
            summary.rows,
            summary.files,
            bytesize::ByteSize(summary.bytes),
            self.dir.display()
        ));
        Ok(Exit::Done)
    }
}

/// Wrong options are wrong usage, all else is a failure to write.
pub(super) fn wrong(error: GenerateError) -> Error {
    match error {
        GenerateError::Option { .. } | GenerateError::NotEmpty { .. } => Error::Usage {
            problem: error.to_string(),
            hint: None,
        },
        GenerateError::Io { path, source } => Error::Io {
            path,
            action: "cannot write",
            source,
        },
        error => Error::Engine(Box::new(error)),
    }
}
