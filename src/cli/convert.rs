//! `runtally convert`: any source as Parquet in the layout of a bulk export.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::{ArgMatches, Args};
use runtally::output::count;
use runtally::{ConvertOptions, Converted, Engine, Error, Limits, Projects, Source};

use super::Exit;
use super::config::Config;
use super::face::{self, Remark, aside, remark};
use super::progress::Progress;
use super::question::{LIMITS, OUTPUT, WHICH, runtime};
use super::sources::SourceArgs;
use super::{summary, write};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runtally convert dumps/ -o exports/                 JSON, to be asked often
  runtally convert exports/ exports-of-may/ -o one/   several exports, each run once
  runtally convert exports/ -p support-bot --drop-io -o slim/
  runtally convert exports/ -o one/ --json | jq .n_runs

The folder then has one export: a file a project and day (UTC), sorted by start, every column kept. It is
written aside and appears whole at the end; after an interruption the same command goes on with what was
begun, and where nothing has changed it does nothing. Records of feedback are not copied. Changed inputs replace what was converted before;
a folder with anything else in it is refused.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct Convert {
    #[command(flatten)]
    sources: SourceArgs,

    /// The folder to write to: empty, absent, or written to by this command before.
    #[arg(short, long, value_name = "DIR", required = true, help_heading = OUTPUT)]
    output: PathBuf,

    /// Leaves out inputs, outputs and events, which statistics never read.
    #[arg(long, help_heading = OUTPUT)]
    drop_io: bool,

    /// What was done as a JSON object on standard output, and failures as one on standard error.
    #[arg(long, help_heading = OUTPUT)]
    pub(super) json: bool,

    /// Only this project: its UUID, its name, or a unique prefix of either.
    #[arg(short, long, aliases = ["id", "name"], value_name = "PROJECT", help_heading = WHICH)]
    project: Option<String>,

    /// No progress bar.
    #[arg(long, help_heading = OUTPUT, hide_short_help = true)]
    no_progress: bool,

    /// No warnings, summary or progress.
    #[arg(short, long, help_heading = OUTPUT)]
    quiet: bool,

    /// Threads to use; all cores by default.
    #[arg(long, value_name = "N", help_heading = LIMITS, hide_short_help = true)]
    threads: Option<NonZeroUsize>,

    /// Memory for sorting, which spills to disk beyond it.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "2GiB",
        help_heading = LIMITS,
        hide_short_help = true
    )]
    memory_limit: ByteSize,
}

impl Convert {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        let began = Instant::now();
        let config = Config::read()?;
        let Some(converted) = self.convert(given, &config)? else {
            return Ok(Exit::Interrupted);
        };
        if self.json {
            write::to_stdout(|out| {
                serde_json::to_writer_pretty(&mut *out, &converted)?;
                writeln!(out)
            })?;
        }
        if !self.quiet {
            for file in &converted.skipped {
                let path = file.path.display();
                remark(
                    Remark::Warning,
                    &format!("{path}: left out: {}", file.problem),
                );
            }
            for warning in &converted.warnings {
                remark(Remark::Warning, warning);
            }
            let line = line(&converted, began.elapsed());
            aside(&summary::wrapped(&line, face::width()));
        }
        Ok(if converted.skipped.is_empty() {
            Exit::Done
        } else {
            Exit::Skipped
        })
    }

    /// Converts; `None` where the user interrupted it.
    fn convert(&self, given: &ArgMatches, config: &Config) -> Result<Option<Converted>, Error> {
        let sources = self.sources.sources(config)?;
        let mut source_options = self.sources.options(given, config);
        // Known as none of runs, and not copied.
        source_options
            .other_files
            .extend(source_options.feedback.take());
        let options = ConvertOptions {
            dir: self.output.clone(),
            projects: self.project.clone().map_or(Projects::All, Projects::One),
            drop_io: self.drop_io,
        };
        let limits = Limits {
            threads: self.threads,
            memory_bytes: usize::try_from(self.memory_limit.as_u64()).ok(),
        };
        let shows_progress = face::is_watched() && !self.no_progress && !self.quiet;
        runtime(self.threads)?.block_on(async {
            let work = async {
                let source = Source::open(sources, &source_options)?;
                let engine = Engine::new(&limits)?;
                let _progress =
                    shows_progress.then(|| Progress::watch(engine.clone(), source.n_bytes()));
                runtally::convert(&engine, &source, &options).await
            };
            tokio::select! {
                converted = work => converted.map(Some),
                _ = tokio::signal::ctrl_c() => Ok(None),
            }
        })
    }
}

/// What was done in one line.
fn line(converted: &Converted, took: Duration) -> String {
    let number = |n: usize, one: &str, several: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{} {several}", count(n as u64)),
    };
    let parts = [
        converted
            .was_there
            .then(|| "nothing to do: it is there already".to_owned()),
        Some(number(converted.n_projects, "project", "projects")),
        Some(number(converted.n_days, "day", "days")),
        Some(format!("{} runs", count(converted.n_runs))),
        Some(number(converted.n_files, "file", "files")),
        Some(format!(
            "{} → {}",
            ByteSize(converted.n_bytes_read),
            ByteSize(converted.n_bytes)
        )),
        Some(format!("{:.2} s", took.as_secs_f64())),
        Some(converted.path.display().to_string()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
