//! `runtally stats`: statistics of any runs, split any way.

use clap::{ArgMatches, Args};
use runtally::output::{self, Format, Groups, count};
use runtally::request::{BreakdownWords, Count, Statistic};
use runtally::{
    About, Breakdown, CostFormat, Error, Figure, Key, Measure, Population, Stats as Answered,
    Tallies,
};

use super::Exit;
use super::face::aside;
use super::question::{OUTPUT, Question, QuestionArgs};
use super::summary::{Answer, BOUND, Summary, usage_rule};

const SPLIT: &str = "Which runs, split how";
const FIGURES: &str = "Which figures";

const EXAMPLES: &str = "Examples:
  runtally stats exports/ --group-by model --since 7d
  runtally stats exports/ -g root.metadata.team --every month --select traces,error_rate,cost
  runtally stats exports/ --runs llm -g model --percentiles 50,90,99.9 --format csv
  runtally stats exports/ --error -g error --limit 20
  runtally stats exports/ --every week --slo 'latency<15s:99%'";

const MANUAL: &str = "Examples:
  What a team's traces cost and how they do, a month at a time:
    runtally stats exports/ --group-by root.metadata.team --every month \\
      --select traces,error_rate,p95,under:15s,cost
  How fast the models are:
    runtally stats exports/ --runs llm --group-by model \\
      --percentiles 50,90,95,99,99.9 --format csv
  Which errors slow traces end in:
    runtally stats exports/ --group-by error --limit 20 \\
      --filter 'and(eq(status, \"error\"), gt(latency, \"5s\"))'
  What serving each customer costs a week, as a sheet:
    runtally stats exports/ --group-by metadata.customer --every week \\
      --select cost,traces --output customers.csv
  Tallies of a month, to keep when its exports are gone:
    runtally stats exports/ --group-by model --every 1d --period 2026-10 \\
      --with-sketches -o tallies/2026-10.parquet
  Errors and feedback a week, and whether an objective is met:
    runtally stats exports/ --every week --select traces,errors,feedback \\
      --slo 'latency<15s:99%'

Keys: project, name, run_type, status, tag, model, provider, user, thread, environment, version, prompt, \
step, tool, error, trace_tier, example, metadata.PATH, feedback.KEY, and root.KEY for that of the \
trace's root. Runs without the key are the group (none), those beyond --limit the group (other).

Measures: traces, errors, completed, error_rate, streaming_rate, trace_error_rate; tokens and cost, also \
input_, output_, cached_ and reasoning_; pN, mean, min and max of latency, and of others with \
first_token_, tokens_, input_tokens_, output_tokens_, cost_, tokens_per_second_ or time_per_token_ before \
them; under:15s, under_ttft:1s, cost_per_trace, tokens_per_trace, users, threads, distinct_traces, \
first_start, last_start, feedback, feedback:KEY, feedback_avg:KEY, facets; NAME_share for the part of the \
total that a count or a sum is; all.

Filters choose the runs that count: traces by their root, with --runs the runs themselves.

JSON is one object as POST /runs/stats answers it, or an object group → such an object, nested where \
there are several keys; with --every an array of objects with start and end is in its place. JSON lines \
and CSV have a row a group, with --every a row a group and bucket; CSV ends with the total's, called \
(total). Parquet has the same rows in typed columns, without the total: counts and tokens as integers, \
dollars as decimals, durations as seconds, times in UTC, feedback as JSON; of groups without a value the \
key is null, and with --limit a column is_other says which row is that of the groups beyond it.

With --with-sketches the file has, in place of figures, the tallies that they are told from, of each \
project, group and bucket. Such a tally file is a source: list, show and stats merge several of them, also \
with exports beside them, and answer as the exports would, long after these are gone. They refuse what \
cannot be told from it: other runs or filters, further keys, other buckets than such as consist of its own, \
figures that were not selected; and files that were made from the same runs.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = MANUAL)]
pub(super) struct Stats {
    #[command(flatten)]
    split: SplitArgs,

    #[command(flatten)]
    figures: FigureArgs,

    #[command(flatten)]
    pub(super) question: QuestionArgs,

    /// Leaves out the total below the groups.
    #[arg(long, help_heading = OUTPUT)]
    no_total: bool,

    /// Writes the tallies themselves, from which figures are told: a Parquet file that is a source like
    /// any other.
    #[arg(long, conflicts_with = "limit", help_heading = OUTPUT)]
    with_sketches: bool,
}

/// Which runs are looked at, and how they are split.
#[derive(Debug, Args)]
struct SplitArgs {
    /// The runs that count: root (a trace each), all, steps (direct children of roots), or those of a
    /// type: llm, tool, retriever, …; root by default, steps with -g step, tool with -g tool.
    #[arg(long, value_name = "WHICH", help_heading = SPLIT)]
    runs: Option<String>,

    /// Splits them: model, tag, user, error, step, metadata.team, root.metadata.team, …; several at once.
    #[arg(short, long, value_name = "KEY", value_delimiter = ',', help_heading = SPLIT)]
    group_by: Vec<String>,

    /// Splits them by time: 15m, 1h, 1d, week, month, quarter or year, as the zone's calendar has them.
    #[arg(long, value_name = "LENGTH", help_heading = SPLIT)]
    every: Option<String>,

    /// The day on which a week begins.
    #[arg(
        long,
        value_name = "DAY",
        default_value = "monday",
        help_heading = SPLIT,
        hide_short_help = true
    )]
    week_start: String,

    /// What groups are sorted by: a measure, greatest first, or a key; :asc or :desc after it. The number
    /// of runs by default.
    #[arg(long, value_name = "WHAT", help_heading = SPLIT)]
    sort: Option<String>,

    /// At most so many groups; the others together are one more.
    #[arg(long, value_name = "N", help_heading = SPLIT)]
    limit: Option<usize>,
}

/// Which figures are computed.
#[derive(Debug, Args)]
struct FigureArgs {
    /// The figures: traces, errors, p95, under:15s, tokens, cost, users, …, or all; --help lists them.
    #[arg(long, value_name = "MEASURE", value_delimiter = ',', help_heading = FIGURES)]
    select: Vec<String>,

    /// Percentiles of latency, such as 50,90,99.9, in place of the usual ones; with --select, more of them.
    #[arg(long, value_name = "PERCENTILE", value_delimiter = ',', help_heading = FIGURES)]
    percentiles: Vec<String>,

    /// How well an objective is met, such as 'latency<15s:99%'.
    #[arg(long, value_name = "OBJECTIVE", help_heading = FIGURES)]
    slo: Vec<String>,

    /// The part of the total, too, beside each count and sum.
    #[arg(long, help_heading = FIGURES)]
    share: bool,

    /// The id of a run beside each percentile, whose value is there.
    #[arg(long, help_heading = FIGURES)]
    exemplars: bool,
}

impl Stats {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        let question = self.question.read(given)?;
        let (words, facets) = (self.words(), question.request.facets);
        let shown = words.measures(usual(question.format, facets), facets)?;
        let n_shown = shown.len();
        let breakdown = words.breakdown(shown, question.zone)?;
        if self.question.is_verbose() {
            aside(&format!("runs: {}", breakdown.runs));
        }
        if self.with_sketches {
            return self.write_tallies(given, &question, &breakdown);
        }
        self.question.answer(
            given,
            &question,
            async |engine, source, request| {
                runtally::stats(engine, source, request, &breakdown).await
            },
            |answer, out, format, style| {
                let groups = Groups {
                    breakdown: &answer.breakdown,
                    n_shown,
                    groups: &answer.groups,
                    total: &answer.total,
                    shows_total: !self.no_total,
                };
                output::write_stats(out, &groups, format, style)
            },
        )
    }
}

impl Stats {
    fn write_tallies(
        &self,
        given: &ArgMatches,
        question: &Question,
        breakdown: &Breakdown,
    ) -> Result<Exit, Error> {
        if question.format != Format::Parquet {
            return Err(Error::Usage {
                problem: "--with-sketches: tallies are written as Parquet only".to_owned(),
                hint: Some("give -o FILE.parquet".to_owned()),
            });
        }
        let runs = breakdown.runs.clone();
        self.question.answer(
            given,
            question,
            async |engine, source, request| {
                let tallies = runtally::tallies(engine, source, request, breakdown).await?;
                Ok(Made { tallies, runs })
            },
            |made, out, _, _| made.tallies.write(out).map(|()| Vec::new()),
        )
    }
}

/// A tally file, and which runs it is of.
struct Made {
    tallies: Tallies,
    runs: Population,
}

impl Stats {
    /// What is asked, in words.
    fn words(&self) -> BreakdownWords {
        let (split, figures) = (&self.split, &self.figures);
        BreakdownWords {
            runs: split.runs.clone(),
            group_by: split.group_by.clone(),
            every: split.every.clone(),
            week_start: Some(split.week_start.clone()),
            sort: split.sort.clone(),
            limit: split.limit,
            select: figures.select.clone(),
            percentiles: figures.percentiles.clone(),
            slo: figures.slo.clone(),
            share: figures.share,
            exemplars: figures.exemplars,
        }
    }
}

/// The measures that are shown where none is chosen.
fn usual(format: Format, facets: bool) -> Vec<Measure> {
    match format {
        Format::Json | Format::Jsonl | Format::Parquet => {
            let mut measures = Measure::run_stats();
            measures.retain(|measure| facets || *measure != Measure::RunFacets);
            measures
        }
        Format::Table | Format::Markdown => Measure::overview(),
        Format::Csv => Measure::sheet(),
    }
}

impl Answer for Answered {
    fn with_costs_as(mut self, format: CostFormat) -> Self {
        for group in self.groups.iter_mut().chain([&mut self.total]) {
            let of_series = group.series.iter_mut();
            let of_series = of_series.flat_map(|bucket| &mut bucket.figures);
            for figure in group.figures.iter_mut().chain(of_series) {
                if let Figure::Cost(cost) = figure {
                    cost.format = format;
                }
            }
        }
        self
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn summary(&self) -> Summary {
        let runs = self.breakdown.place(&Measure::Count(Count::Runs));
        let runs = runs.and_then(|at| self.total.figures.get(at));
        let has_groups = !self.breakdown.by.is_empty();
        let has_bound = self.breakdown.measures.iter().any(is_approximate);
        let facts = [
            has_groups.then(|| match self.groups.len() {
                1 => "1 group".to_owned(),
                n => format!("{} groups", count(n as u64)),
            }),
            usage_rule(self.usage, &self.breakdown.runs).map(str::to_owned),
            has_bound.then(|| BOUND.to_owned()),
        ];
        Summary {
            n: runs.and_then(|figure| match figure {
                Figure::Count(n) => Some(*n),
                _ => None,
            }),
            noun: self.breakdown.runs.noun(),
            facts: facts.into_iter().flatten().collect(),
            asides: overlap(self).into_iter().collect(),
            hints: Vec::new(),
        }
    }
}

impl Answer for Made {
    fn with_costs_as(self, _: CostFormat) -> Self {
        self
    }

    fn about(&self) -> &About {
        &self.tallies.about
    }

    fn summary(&self) -> Summary {
        let usage = usage_rule(self.tallies.usage, &self.runs);
        Summary {
            n: None,
            noun: self.runs.noun(),
            facts: usage.map(str::to_owned).into_iter().collect(),
            asides: Vec::new(),
            hints: Vec::new(),
        }
    }
}

/// Whether a measure is exact for few values only.
fn is_approximate(measure: &Measure) -> bool {
    matches!(
        measure,
        Measure::Of(_, Statistic::Quantile(_)) | Measure::Under(..) | Measure::Objective(_)
    )
}

/// Why groups add up to more than the total, where they may.
fn overlap(answer: &Answered) -> Option<String> {
    let key = answer.breakdown.by.iter().find(|key| key.is_multiple());
    let key = key.filter(|_| answer.overlaps)?;
    let several = match key {
        Key::Feedback(_) => "several labels",
        _ => "several tags",
    };
    Some(format!(
        "groups overlap: a run can have {several}, so that their sums may exceed the total"
    ))
}
