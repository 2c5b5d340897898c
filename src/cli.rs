//! The command line: flags in, a [`Request`] out; documents on standard output, all else on standard
//! error.

mod generate;
mod list;
mod show;

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::{Args, Parser, Subcommand, ValueEnum};
use runtally::output::Format;
use runtally::{
    Clock, CostFormat, Engine, Error, Limits, Projects, Request, Sessions, Source, SourceOptions,
    Window,
};

/// What the process's exit code says. Stable: scripts may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done, also where the window holds no trace.
    Done = 0,
    /// Failed: an input or the output could not be read or written.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No project is called what was asked for.
    NoSuchProject = 3,
    /// Done, but bad input was skipped.
    #[expect(dead_code, reason = "nothing skips input yet; the number is promised")]
    Skipped = 4,
    /// Done, but a requirement was not met.
    #[expect(
        dead_code,
        reason = "nothing checks requirements yet; the number is promised"
    )]
    Unmet = 5,
    /// Interrupted (Ctrl-C).
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Usage { .. } | Error::AmbiguousProject { .. } => Self::Usage,
            Error::NoSuchProject { .. } => Self::NoSuchProject,
            _ => Self::Failed,
        }
    }
}

/// LangSmith's project statistics, computed locally from raw run logs.
#[derive(Debug, Parser)]
#[command(
    name = "runtally",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        runtally show exports/                       the one project of an export, as JSON\n  \
        runtally show exports/ -p support-bot --since 7d\n  \
        runtally list exports/ -f jsonl              every project, one a line\n  \
        runtally generate exports/ --rows 200000     something to try it on\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such project, 4 done but bad input was \
        skipped,\n5 a requirement was not met, 130 interrupted"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One project's document, as the API answers it.
    #[command(visible_alias = "session")]
    Show(show::Show),
    /// The documents of all projects, newest first.
    #[command(visible_alias = "sessions")]
    List(list::List),
    /// Writes a seeded synthetic export to try things on.
    Generate(generate::Generate),
}

/// What every question has.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct QuestionArgs {
    /// Files, folders or globs of Parquet exports; several are one source.
    #[arg(required = true, value_name = "SOURCE")]
    source: Vec<PathBuf>,

    /// Only traces that start at or after this: 2026-10-01, 2026-10-01T12:00:00Z, 7d, yesterday.
    #[arg(
        long,
        alias = "stats-start-time",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    since: Option<String>,

    /// Only traces that start before this.
    #[arg(
        long,
        alias = "stats-end-time",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    until: Option<String>,

    /// What ages and words count from, instead of the clock.
    #[arg(long, value_name = "TIME")]
    now: Option<String>,

    /// The zone in which a date begins, such as Europe/Berlin.
    #[arg(short = 'z', long, value_name = "ZONE", default_value = "UTC")]
    timezone: Tz,

    /// Only the projects' own fields; every statistic is null.
    #[arg(long)]
    no_stats: bool,

    /// Records of GET /sessions (JSON or JSON lines), instead of sessions.json at the source's root.
    #[arg(long, value_name = "FILE")]
    projects: Option<PathBuf>,

    /// Records of GET /feedback, instead of the runs' own feedback summaries.
    #[arg(long, value_name = "FILE")]
    feedback: Option<PathBuf>,

    /// How costs are written; the digits are the same.
    #[arg(long, value_enum, default_value = "string", value_name = "HOW")]
    cost_format: CostStyle,

    /// json: indented; jsonl: one document a line.
    #[arg(short, long, value_enum, default_value = "json")]
    format: OutputFormat,

    /// Writes to a file instead of standard output; it appears whole or not at all.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Threads to use; all cores by default.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Memory for groups and sorts, which spill to disk beyond it, and for joins, which fail.
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    memory_limit: ByteSize,

    /// Shows the executed plan with its metrics on standard error.
    #[arg(long)]
    explain: bool,

    /// Says on standard error what was read and how long it took.
    #[arg(short, long)]
    verbose: bool,

    /// No warnings.
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CostStyle {
    String,
    Number,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputFormat {
    Json,
    Jsonl,
}

/// Parses the command line, runs the command and says how it went.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    silence_panics();
    let outcome = panic::catch_unwind(|| run(&cli.command));
    match outcome {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(error)) => {
            report(&error);
            Exit::from(&error).into()
        }
        Err(_) => {
            let what = last_panic().unwrap_or_default();
            say(&format!(
                "error: a fault in runtally itself, please report it: {what}"
            ));
            Exit::Failed.into()
        }
    }
}

fn run(command: &Command) -> Result<Exit, Error> {
    match command {
        Command::Show(show) => show.run(),
        Command::List(list) => list.run(),
        Command::Generate(generate) => generate.run(),
    }
}

impl QuestionArgs {
    /// Answers the question, or gives `None` where the user interrupted it.
    fn ask(&self, projects: Projects) -> Result<Option<Sessions>, Error> {
        let began = Instant::now();
        let request = Request {
            projects,
            window: self.window()?,
            stats: !self.no_stats,
            ..Request::default()
        };
        let limits = Limits {
            threads: self.threads,
            memory_bytes: usize::try_from(self.memory_limit.as_u64()).ok(),
        };
        let options = SourceOptions {
            projects: self.projects.clone(),
            feedback: self.feedback.clone(),
            ..SourceOptions::default()
        };
        let answer = runtime(self.threads)?.block_on(async {
            let work = async {
                let source = Source::open(&self.source, &options)?;
                let engine = Engine::new(&limits)?;
                let sessions = runtally::sessions(&engine, &source, &request).await?;
                Ok::<_, Error>((source.n_files(), sessions))
            };
            tokio::select! {
                answer = work => answer.map(Some),
                _ = tokio::signal::ctrl_c() => Ok(None),
            }
        });
        let Some((n_files, sessions)) = answer? else {
            return Ok(None);
        };
        self.remark(n_files, &sessions, began);
        Ok(Some(sessions.with_costs_as(self.cost_format.into())))
    }

    fn window(&self) -> Result<Window, Error> {
        let mut clock = Clock {
            now: Utc::now(),
            zone: self.timezone,
        };
        if let Some(now) = &self.now {
            let us = clock.moment(now)?;
            clock.now = DateTime::from_timestamp_micros(us).unwrap_or(clock.now);
        }
        let moment =
            |text: &Option<String>| text.as_ref().map(|text| clock.moment(text)).transpose();
        Window::new(moment(&self.since)?, moment(&self.until)?)
    }

    /// Says on standard error what the answer itself does not.
    fn remark(&self, n_files: usize, sessions: &Sessions, began: Instant) {
        if self.explain {
            say(&sessions.explain());
        }
        if !self.quiet {
            for warning in &sessions.warnings {
                say(&format!("warning: {warning}"));
            }
        }
        if self.verbose {
            say(&format!(
                "{n_files} files listed, {} read, {:.2} s",
                ByteSize(sessions.read.n_bytes),
                began.elapsed().as_secs_f64()
            ));
        }
    }

    /// Writes to the output file, whole or not at all, or to standard output.
    fn write(
        &self,
        write: impl FnOnce(&mut dyn Write, Format) -> io::Result<()>,
    ) -> Result<Exit, Error> {
        let format = self.format.into();
        match &self.output {
            Some(path) => to_file(path, |out| write(out, format)),
            None => to_stdout(|out| write(out, format)),
        }?;
        Ok(Exit::Done)
    }
}

impl From<CostStyle> for CostFormat {
    fn from(style: CostStyle) -> Self {
        match style {
            CostStyle::String => Self::String,
            CostStyle::Number => Self::Number,
        }
    }
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Json => Self::Json,
            OutputFormat::Jsonl => Self::Jsonl,
        }
    }
}

fn runtime(threads: Option<NonZeroUsize>) -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| Error::Engine(Box::new(error)))
}

/// A reader that has seen enough and closed the pipe is no failure.
fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(unwritable(Path::new("standard output"), error))
        }
        _ => Ok(()),
    }
}

fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    // A link keeps its place; a device or a pipe is written to, not replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        let mut out = File::options()
            .write(true)
            .open(&target)
            .map_err(|error| unwritable(path, error))?;
        return write(&mut out).map_err(|error| unwritable(path, error));
    }
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::Builder::new()
        .permissions(permissions())
        .tempfile_in(folder.unwrap_or(Path::new(".")));
    let file = file.map_err(|error| unwritable(path, error))?;
    let mut out = io::BufWriter::new(file);
    write(&mut out).map_err(|error| unwritable(path, error))?;
    let file = out
        .into_inner()
        .map_err(|error| unwritable(path, error.into_error()))?;
    file.as_file()
        .sync_all()
        .map_err(|error| unwritable(path, error))?;
    file.persist(&target)
        .map_err(|error| unwritable(path, error.error))?;
    Ok(())
}

/// Those of an ordinary new file, narrowed by the process's mask.
#[cfg(unix)]
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        action: "cannot write",
        source,
    }
}

/// Prints an error with all its causes on one line, then what to do about it.
fn report(error: &Error) {
    let mut text = format!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    say(&text);
    if let Some(hint) = error.hint() {
        say(&format!("hint: {hint}"));
    }
}

/// Writes a line to standard error, and does not mind where nobody listens.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Panics of the reader over damaged files are turned into errors by the engine, so the usual message
/// would only confuse; the last one is kept for those that are our own fault.
fn silence_panics() {
    panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = Some(info.to_string());
        }
    }));
}

fn last_panic() -> Option<String> {
    LAST_PANIC.lock().ok()?.take()
}
