//! Questions for projects' documents: what `show` and `list` have in common.

use std::io::{self, Write};

use clap::{ArgMatches, Args};
use runtally::output::{Format, Style};
use runtally::{Error, Projects, Sessions};

use super::Exit;
use super::question::{QuestionArgs, WHICH};

/// The flags of a question for documents.
#[derive(Debug, Args)]
pub(super) struct DocumentArgs {
    #[command(flatten)]
    pub(super) question: QuestionArgs,

    /// Only the projects' own fields; every statistic is null.
    #[arg(long, conflicts_with = "facets", help_heading = WHICH, hide_short_help = true)]
    no_stats: bool,
}

/// Which projects a command asks for where no flag names one, and whether its table has a trend.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// The only project that there is.
    One,
    /// All of them, with their traces a day.
    Every,
}

impl DocumentArgs {
    /// Answers the question and writes the answer; `write` returns the columns that it left out.
    pub(super) fn answer(
        &self,
        given: &ArgMatches,
        scope: Scope,
        write: impl FnOnce(&Sessions, &mut dyn Write, Format, &Style) -> io::Result<Vec<String>>,
    ) -> Result<Exit, Error> {
        let mut question = self.question.read(given)?;
        question.refuse_parquet()?;
        let request = &mut question.request;
        request.stats = !self.no_stats;
        match scope {
            Scope::One if request.projects == Projects::All => request.projects = Projects::Only,
            Scope::Every if shows_a_trend(question.format) => request.daily = Some(question.zone),
            _ => {}
        }
        let ask = runtally::sessions;
        self.question.answer(given, &question, ask, write)
    }

    /// Whether failures are told to a program.
    pub(super) fn errors_are_json(&self) -> bool {
        self.question.errors_are_json()
    }
}

/// Whether a format has room for traces a day.
fn shows_a_trend(format: Format) -> bool {
    matches!(format, Format::Table | Format::Markdown)
}
