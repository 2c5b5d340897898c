//! `runtally show`: one project's document.

use clap::{ArgMatches, Args};
use runtally::{Error, output};

use super::Exit;
use super::documents::{DocumentArgs, Scope};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runtally show exports/                         where the exports hold one project
  runtally show exports/ -p support-bot --since 7d
  runtally show exports/ -p 3c90c3cc --json > session.json
  runtally show exports/ -p support-bot --json | jq .latency_p99")]
pub(super) struct Show {
    #[command(flatten)]
    pub(super) documents: DocumentArgs,
}

impl Show {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        self.documents
            .answer(given, Scope::One, |answer, out, format, style| {
                let mut left_out = Vec::new();
                for (index, document) in answer.sessions.iter().enumerate() {
                    let overview = answer.overviews.get(index);
                    left_out = output::write_one(out, document, overview, format, style)?;
                }
                Ok(left_out)
            })
    }
}
