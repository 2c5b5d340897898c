//! `runtally list`: one line a project.

use clap::{ArgMatches, Args};
use runtally::Error;
use runtally::output::{self, Lines};

use super::Exit;
use super::documents::{DocumentArgs, Scope};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runtally list exports/
  runtally list exports/ --period last-month -z Europe/Berlin
  runtally list exports/ --tag prod --filter 'gt(latency, \"5s\")'
  runtally list exports/ --since 7d -f jsonl | jq .error_rate
  runtally list exports/ --period 2026-10 -o october.csv")]
pub(super) struct List {
    #[command(flatten)]
    pub(super) documents: DocumentArgs,
}

impl List {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        self.documents
            .answer(given, Scope::Every, |answer, out, format, style| {
                let lines = Lines {
                    documents: &answer.sessions,
                    overviews: &answer.overviews,
                    total: answer.total.as_ref(),
                };
                output::write_list(out, &lines, format, style)
            })
    }
}
