//! `runtally runs`: the runs behind a number, one by one.

use clap::{ArgMatches, Args};
use runtally::output::{self, Listed, count};
use runtally::{About, CostFormat, Error, LinkTemplate, Listing, RunOrder, Runs as Answered};

use super::Exit;
use super::face::aside;
use super::question::{OUTPUT, QuestionArgs};
use super::summary::{Answer, Summary, usage_rule};

const LIST: &str = "Which runs, in which order";

#[derive(Debug, Args)]
#[command(
    mut_arg("facets", |facets| facets.hide(true)),
    after_help = "Examples:
  runtally runs exports/                                          the latest traces
  runtally runs exports/ --sort cost --limit 20 --since 7d --tag prod
  runtally runs exports/ --error --sort latency -o slow-failures.csv
  runtally runs exports/ --runs llm --sort tokens --filter 'gt(first_token, \"5s\")'
  runtally runs exports/ --runs tool --sort start:asc -f jsonl | jq .error
  runtally runs exports/ --link-template 'https://smith.langchain.com/o/ORG/projects/p/{session_id}/r/{id}'

Filters choose the runs that are listed: traces by their root, with --runs the runs themselves. Runs
without what is sorted by come last. What a trace used is what all its runs used; with --runs all or
chain, what a run used is without the runs below it.

JSON is an array of objects, JSON lines an object a line, CSV a row a run: all with every field."
)]
#[expect(clippy::doc_markdown, reason = "help shows names as they are")]
pub(super) struct Runs {
    #[command(flatten)]
    list: ListArgs,

    #[command(flatten)]
    pub(super) question: QuestionArgs,

    /// The address of a run's page, with {id}, {trace_id} and {session_id} in it: makes ids links on a
    /// terminal, and a column elsewhere.
    #[arg(long, value_name = "URL", help_heading = OUTPUT)]
    link_template: Option<String>,
}

/// Which runs are listed, and in which order.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "help shows names as they are")]
struct ListArgs {
    /// The runs to list: root (a trace each), all, steps (direct children of roots), or those of a type:
    /// llm, tool, retriever, …
    #[arg(long, value_name = "WHICH", default_value = "root", help_heading = LIST)]
    runs: String,

    /// What they are sorted by: latency, first_token, tokens, cost or start, greatest first; :asc or
    /// :desc after it.
    #[arg(long, value_name = "WHAT", default_value = "start", help_heading = LIST)]
    sort: String,

    /// At most so many.
    #[arg(long, value_name = "N", default_value = "20", help_heading = LIST)]
    limit: usize,
}

impl Runs {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        let question = self.question.read(given)?;
        question.refuse_parquet()?;
        if question.request.facets {
            return Err(Error::Usage {
                problem: "runs have no facets".to_owned(),
                hint: Some("`runtally show --facets` has those of a project".to_owned()),
            });
        }
        let listing = self.listing()?;
        if self.question.is_verbose() {
            aside(&format!("runs: {}", listing.runs));
        }
        self.question.answer(
            given,
            &question,
            async |engine, source, request| {
                let answer = runtally::runs(engine, source, request, &listing).await?;
                Ok(Found {
                    answer,
                    listing: listing.clone(),
                })
            },
            |found, out, format, style| {
                let listed = Listed {
                    listing: &listing,
                    runs: &found.answer.runs,
                };
                output::write_runs(out, &listed, format, style)
            },
        )
    }

    fn listing(&self) -> Result<Listing, Error> {
        let ListArgs { runs, sort, limit } = &self.list;
        if *limit == 0 {
            return Err(Error::Usage {
                problem: "--limit: 0 runs are no list".to_owned(),
                hint: Some("write 1 or more; `runtally stats` counts runs".to_owned()),
            });
        }
        let (by, ascending) = RunOrder::parse(sort.trim())?;
        let link = self.link_template.as_ref();
        let link = link.map(|text| text.trim().parse::<LinkTemplate>());
        Ok(Listing {
            runs: runs.parse()?,
            by,
            ascending,
            limit: *limit,
            link: link.transpose()?,
        })
    }
}

/// The answer, and what was asked.
struct Found {
    answer: Answered,
    listing: Listing,
}

impl Answer for Found {
    fn with_costs_as(mut self, format: CostFormat) -> Self {
        for run in &mut self.answer.runs {
            let costs = [
                &mut run.total_cost,
                &mut run.prompt_cost,
                &mut run.completion_cost,
            ];
            for cost in costs.into_iter().flatten() {
                cost.format = format;
            }
        }
        self
    }

    fn about(&self) -> &About {
        &self.answer.about
    }

    fn summary(&self) -> Summary {
        let Self { answer, listing } = self;
        let order = match (listing.by, listing.ascending) {
            (RunOrder::Start, true) => "earliest first".to_owned(),
            (RunOrder::Start, false) => "latest first".to_owned(),
            (by, true) => format!("least {} first", called(by)),
            (by, false) => format!("greatest {} first", called(by)),
        };
        let is_cut = answer.runs.len() == listing.limit;
        let facts = [
            Some(order),
            is_cut.then(|| format!("at most {}", count(listing.limit as u64))),
            usage_rule(answer.usage, &listing.runs).map(str::to_owned),
        ];
        Summary {
            n: Some(answer.runs.len() as u64),
            noun: listing.runs.noun(),
            facts: facts.into_iter().flatten().collect(),
            asides: Vec::new(),
            hints: Vec::new(),
        }
    }
}

fn called(by: RunOrder) -> &'static str {
    match by {
        RunOrder::Latency => "latency",
        RunOrder::FirstToken => "time to first token",
        RunOrder::Tokens => "tokens",
        RunOrder::Cost => "cost",
        RunOrder::Start => "start",
    }
}
