//! `runtally audit`: whether the data is whole.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args};
use runtally::output::{self, count};
use runtally::{About, Audited, CostFormat, Error, FailOn, OtherDocument};

use super::Exit;
use super::question::QuestionArgs;
use super::summary::{Answer, Summary};

const AUDIT: &str = "What is required";

#[derive(Debug, Args)]
#[command(
    mut_arg("facets", |facets| facets.hide(true)),
    after_help = "Examples:
  runtally audit exports/                                  what is there, and what is wrong with it
  runtally audit exports/ --since 7d --fail-on any         in a pipeline: exit code 5 where anything is
  runtally audit exports/ -p support-bot --against session.json --fail-on difference
  runtally audit exports/ -f jsonl | jq -r '[.kind, .count, .example_run_id] | @tsv'

A gap is a row of hours or days (UTC) without a trace in which, by what is usual at that hour on the
project's other working days or weekends, more than 13.8 should have been: by chance that happens less
than once in a million. Runs that have not ended are old a day after they started, at --now or, where
that is not given, when the latest run started.

JSON is an object with everything, JSON lines and CSV are a finding a line; with --against a field of
the documents."
)]
pub(super) struct Audit {
    #[command(flatten)]
    pub(super) question: QuestionArgs,

    /// Kinds of findings that must not be, as the answer calls them; any is all of them, difference is one
    /// between the documents. Otherwise the exit code is 5.
    #[arg(long, value_name = "KIND", value_delimiter = ',', help_heading = AUDIT)]
    fail_on: Vec<String>,

    /// A document of the service's, as its own endpoint answers it with statistics: ours is shown beside it,
    /// with the likely causes of each difference. For the only project, or that of -p.
    #[arg(long, value_name = "FILE", help_heading = AUDIT)]
    against: Option<PathBuf>,
}

impl Audit {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        let mut question = self.question.read(given)?;
        question.other_files.extend(self.against.clone());
        question.refuse_parquet()?;
        if question.request.facets {
            return Err(Error::Usage {
                problem: "an audit has no facets".to_owned(),
                hint: Some("`runtally show --facets` has those of a project".to_owned()),
            });
        }
        let words = self.fail_on.iter();
        let fail_on = words
            .map(|word| word.parse())
            .collect::<Result<Vec<FailOn>, _>>()?;
        let against = self.against.as_deref().map(read).transpose()?;
        if against.is_none() && fail_on.contains(&FailOn::Difference) {
            return Err(Error::Usage {
                problem: "--fail-on difference: there is nothing to differ from".to_owned(),
                hint: Some("give --against FILE".to_owned()),
            });
        }
        let now_us = self.question.now_us(question.zone)?;
        let is_unmet = Cell::new(false);
        let exit = self.question.answer(
            given,
            &question,
            async |engine, source, request| match &against {
                Some(other) => {
                    runtally::audit_against(engine, source, request, now_us, other).await
                }
                None => runtally::audit(engine, source, request, now_us).await,
            },
            |answer, out, format, style| {
                is_unmet.set(fails(answer, &fail_on));
                output::write_audit(out, &answer.audit, format, style)
            },
        )?;
        let is_done = matches!(exit, Exit::Done | Exit::Skipped);
        Ok(if is_done && is_unmet.get() {
            Exit::Unmet
        } else {
            exit
        })
    }
}

/// Reads a document to compare with.
fn read(path: &Path) -> Result<OtherDocument, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        action: "cannot read",
        source,
    })?;
    text.parse().map_err(|error: Error| Error::BadInput {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// Whether anything was found that must not be.
fn fails(answer: &Audited, fail_on: &[FailOn]) -> bool {
    let findings = &answer.audit.findings;
    let against = answer.audit.against.as_ref();
    let differs = against.is_some_and(|against| against.n_different > 0);
    fail_on.iter().any(|fail_on| match fail_on {
        FailOn::Any => differs || !findings.is_empty(),
        FailOn::Difference => differs,
        FailOn::Finding(kind) => findings.iter().any(|finding| finding.kind == *kind),
    })
}

impl Answer for Audited {
    fn with_costs_as(self, _: CostFormat) -> Self {
        self
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn summary(&self) -> Summary {
        let n_runs = self.audit.projects.iter().map(|project| project.n_runs);
        let n_kinds = self.audit.findings.len() as u64;
        let found = match n_kinds {
            0 => "no finding".to_owned(),
            1 => "1 kind of finding".to_owned(),
            n => format!("{} kinds of findings", count(n)),
        };
        Summary {
            n: Some(n_runs.sum()),
            noun: "runs",
            facts: vec![found],
            asides: Vec::new(),
            hints: Vec::new(),
        }
    }
}
