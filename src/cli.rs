//! The command line: flags in, a question to the library out; documents on standard output, all else on
//! standard error.

mod audit;
mod config;
mod convert;
mod demo;
mod documents;
mod face;
mod filters;
mod formats;
mod generate;
mod list;
mod manual;
mod progress;
mod question;
mod report;
mod runs;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod sources;
mod stats;
mod summary;
mod write;

use std::ffi::OsString;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use runtally::Error;

/// What the process's exit code says. Stable: scripts may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done, also where the window holds no trace.
    Done = 0,
    /// Failed: an input or the output could not be read or written, or `--strict` and a warning.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No project is called what was asked for.
    NoSuchProject = 3,
    /// Done, but bad input was skipped.
    Skipped = 4,
    /// Done, but a requirement was not met.
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
            Error::Usage { .. } | Error::Filter(_) | Error::AmbiguousProject { .. } => Self::Usage,
            Error::NoSuchProject { .. } => Self::NoSuchProject,
            _ => Self::Failed,
        }
    }
}

const EXAMPLES: &str = "Examples:
  runtally demo                                  something to look at first
  runtally exports/                              one line a project
  runtally show exports/ -p support-bot --since 7d
  runtally show exports/ -p 3c90c3cc --json > session.json
  runtally list exports/ --period 2026-10 -z Europe/Berlin --format csv
  runtally stats exports/ --group-by metadata.team --every month
  runtally runs exports/ --sort cost --limit 20 --since 7d
  runtally audit exports/ --fail-on gaps,counted_twice
  runtally convert dumps/ -o exports/
  runtally serve exports/                        the API, for LangSmith's clients

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such project, 4 done but bad input was skipped,
5 a requirement was not met, 130 interrupted.
Every flag can be set by the environment: RUNTALLY_SINCE is --since. The sources, the zone and the
projects file can also be set in .runtally.toml (source, timezone, projects).";

/// LangSmith's project statistics, computed locally from raw run logs.
///
/// Without a command, the sources are listed: one line a project.
#[derive(Debug, Parser)]
#[command(
    name = "runtally",
    version = env!("RUNTALLY_VERSION"),
    max_term_width = 100,
    styles = face::STYLES,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One project's document: a table on a terminal, the API's JSON otherwise.
    #[command(visible_alias = "session")]
    Show(show::Show),
    /// All projects, one line each; their documents, newest first, as JSON.
    #[command(visible_alias = "sessions")]
    List(list::List),
    /// Statistics of any runs, split by what they have in common and by time.
    Stats(Box<stats::Stats>),
    /// Runs one by one: the slowest, the dearest, the latest.
    Runs(Box<runs::Runs>),
    /// Whether the data is whole: what the source has, and what may be wrong with it.
    Audit(Box<audit::Audit>),
    /// Writes runs anew, as Parquet that answers fast: one file a project and day, sorted.
    Convert(Box<convert::Convert>),
    /// Serves LangSmith's API over exports, for its own clients, spreadsheets and dashboards.
    #[cfg(feature = "serve")]
    Serve(Box<serve::Serve>),
    /// Makes a small export in a temporary folder, shows it, says what to try next.
    Demo(demo::Demo),
    /// Writes a seeded synthetic export to try things on.
    Generate(generate::Generate),
    /// Lists the formats that are understood, and where each column of a run comes from.
    Formats(formats::Formats),
    /// Prints a shell's completions.
    Completions(manual::Completions),
    /// Prints the manual page, or a command's.
    Man(manual::Man),
}

/// Parses the command line, runs the command and says how it went.
pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    silence_panics();
    let outcome = panic::catch_unwind(|| run(command(), &args));
    let exit = outcome.unwrap_or_else(|_| {
        report::fault(&last_panic().unwrap_or_default(), report::wants_json(&args));
        Exit::Failed
    });
    exit.into()
}

fn run(command: clap::Command, args: &[OsString]) -> Exit {
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return report::usage(&error, report::wants_json(args)),
    };
    let mut cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error, report::wants_json(args)),
    };
    if cli.command.is_none() && !matches.args_present() && !config::names_a_source() {
        return report::help(command_as_written(), args);
    }
    let is_bare = cli.command.is_none();
    let command = cli.command.take().unwrap_or(Command::List(cli.list));
    let matches = matches.subcommand().map_or(&matches, |(_, below)| below);
    let (outcome, as_json) = match command {
        Command::Show(show) => (show.run(matches), show.documents.errors_are_json()),
        Command::List(list) => (list.run(matches), list.documents.errors_are_json()),
        Command::Stats(stats) => (stats.run(matches), stats.question.errors_are_json()),
        Command::Runs(runs) => (runs.run(matches), runs.question.errors_are_json()),
        Command::Audit(audit) => (audit.run(matches), audit.question.errors_are_json()),
        Command::Convert(convert) => (convert.run(matches), convert.json),
        #[cfg(feature = "serve")]
        Command::Serve(serve) => (serve.run(matches), false),
        Command::Demo(demo) => (demo.run(), false),
        Command::Generate(generate) => (generate.run(), false),
        Command::Formats(formats) => (formats.run(), formats.json),
        Command::Completions(completions) => (completions.run(command_as_written()), false),
        Command::Man(man) => (man.run(&command_as_written()), false),
    };
    outcome.unwrap_or_else(|error| {
        let error = if is_bare { mistyped(error) } else { error };
        report::error(&error, as_json);
        Exit::from(&error)
    })
}

/// Without a command, a word that leads to no file may have been meant as one.
fn mistyped(error: Error) -> Error {
    match &error {
        Error::NoInput { path, .. } if path.extension().is_none() && path.iter().count() == 1 => {
            let word = path.display();
            Error::Usage {
                problem: format!("{word} is neither a command nor a file or folder"),
                hint: Some("`runtally --help` lists the commands".to_owned()),
            }
        }
        _ => error,
    }
}

/// The command line, with each flag also read from the environment: `--since` from `RUNTALLY_SINCE`.
fn command() -> clap::Command {
    command_as_written()
        .mut_args(|arg| from_environment(arg, ""))
        .mut_subcommands(|command| {
            let prefix = match command.get_name() {
                "show" | "list" | "stats" | "runs" | "audit" | "demo" => String::new(),
                name => format!("{}_", name.to_uppercase()),
            };
            command.mut_args(|arg| from_environment(arg, &prefix))
        })
}

/// The same for manuals and completions, which do not list every variable.
fn command_as_written() -> clap::Command {
    Cli::command()
}

fn from_environment(arg: clap::Arg, prefix: &str) -> clap::Arg {
    let name = match arg.get_long() {
        Some("help" | "version") => return arg,
        Some(long) => long.to_uppercase().replace('-', "_"),
        None if arg.get_id() == "source" => "SOURCE".to_owned(),
        None => return arg,
    };
    let arg = arg.env(format!("RUNTALLY_{prefix}{name}")).hide_env(true);
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()),
        _ => arg,
    }
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
