//! Measures: which figures of a group of runs are asked for.

use std::fmt;
use std::str::FromStr;

use super::unknown_word;
use crate::error::{Error, Result};
use crate::filter::parse_duration;
use crate::tally::sketch::Quantile;

/// A figure of a group of runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// How many there are.
    Count(Count),
    /// A count over another.
    Rate(Rate),
    /// A sum.
    Sum(Amount),
    /// The part of the total that a count or a sum is.
    Share(Box<Measure>),
    /// Where the values of a quantity lie.
    Of(Quantity, Statistic),
    /// The id of a run whose value is at a quantile of a quantity, or next to it.
    RunAt(Quantity, Quantile),
    /// The share of the values of a duration that are at or below so many microseconds.
    Under(Quantity, u64),
    /// A sum over the number of runs.
    PerRun(Amount),
    /// How many different ones there are.
    Distinct(Distinct),
    /// When the first of them starts.
    FirstStart,
    /// When the last of them starts.
    LastStart,
    /// How often feedback was given under a key.
    FeedbackCount(String),
    /// The mean score under a key.
    FeedbackMean(String),
    /// All feedback, a key each.
    FeedbackStats,
    /// The most frequent names, tags and metadata.
    RunFacets,
    /// How well an objective is met.
    Objective(Objective),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Runs; traces where each stands for its root.
    Runs,
    /// Those that failed.
    Errors,
    /// Those that have ended.
    Completed,
}

/// What is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// Failed over all.
    Error,
    /// Completed that streamed over completed.
    Streaming,
    /// Traces in which any run failed over all traces.
    TraceError,
}

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Amount {
    TotalTokens,
    PromptTokens,
    CompletionTokens,
    /// Input tokens that the provider had kept from before.
    CachedTokens,
    /// Output tokens that were thought, not said.
    ReasoningTokens,
    TotalCost,
    PromptCost,
    CompletionCost,
    CachedCost,
    ReasoningCost,
}

/// What is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Quantity {
    /// From start to end.
    Latency,
    /// From start to first token.
    FirstToken,
    TotalTokens,
    PromptTokens,
    CompletionTokens,
    TotalCost,
    /// Output tokens over the time from the first token to the end.
    TokensPerSecond,
    /// The inverse.
    TimePerToken,
}

/// What of a distribution is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Statistic {
    Quantile(Quantile),
    Mean,
    Min,
    Max,
}

/// What different ones are counted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Distinct {
    Traces,
    Users,
    Threads,
}

/// A service-level objective: a share of the runs that should be at or below a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Objective {
    /// Latency or time to first token.
    pub quantity: Quantity,
    /// The greatest duration that is good, microseconds.
    pub threshold_us: u64,
    /// The share that should be.
    pub target: Quantile,
}

const AMOUNTS: [(&str, Amount); 10] = [
    ("total_tokens", Amount::TotalTokens),
    ("prompt_tokens", Amount::PromptTokens),
    ("completion_tokens", Amount::CompletionTokens),
    ("cached_tokens", Amount::CachedTokens),
    ("reasoning_tokens", Amount::ReasoningTokens),
    ("total_cost", Amount::TotalCost),
    ("prompt_cost", Amount::PromptCost),
    ("completion_cost", Amount::CompletionCost),
    ("cached_cost", Amount::CachedCost),
    ("reasoning_cost", Amount::ReasoningCost),
];

const QUANTITIES: [(&str, Quantity); 8] = [
    ("latency", Quantity::Latency),
    ("first_token", Quantity::FirstToken),
    // As the API has it: tokens_p99, cost_p50.
    ("tokens", Quantity::TotalTokens),
    ("prompt_tokens", Quantity::PromptTokens),
    ("completion_tokens", Quantity::CompletionTokens),
    ("cost", Quantity::TotalCost),
    ("tokens_per_second", Quantity::TokensPerSecond),
    ("time_per_token", Quantity::TimePerToken),
];

/// Names of measures without a part of their own.
const NAMES: [(&str, Measure); 11] = [
    ("run_count", Measure::Count(Count::Runs)),
    ("error_count", Measure::Count(Count::Errors)),
    ("completed_count", Measure::Count(Count::Completed)),
    ("error_rate", Measure::Rate(Rate::Error)),
    ("streaming_rate", Measure::Rate(Rate::Streaming)),
    ("trace_error_rate", Measure::Rate(Rate::TraceError)),
    ("first_run_start_time", Measure::FirstStart),
    ("last_run_start_time", Measure::LastStart),
    ("feedback_stats", Measure::FeedbackStats),
    ("run_facets", Measure::RunFacets),
    (
        "median_tokens",
        Measure::Of(Quantity::TotalTokens, Statistic::Quantile(Quantile::P50)),
    ),
];

const DISTINCT: [(&str, Distinct); 3] = [
    ("distinct_traces", Distinct::Traces),
    ("distinct_users", Distinct::Users),
    ("distinct_threads", Distinct::Threads),
];

/// Other words for the usual ones.
const ALIASES: [(&str, &str); 18] = [
    ("traces", "run_count"),
    ("runs", "run_count"),
    ("count", "run_count"),
    ("n", "run_count"),
    ("errors", "error_count"),
    ("completed", "completed_count"),
    ("tokens", "total_tokens"),
    ("input_tokens", "prompt_tokens"),
    ("output_tokens", "completion_tokens"),
    ("cost", "total_cost"),
    ("input_cost", "prompt_cost"),
    ("output_cost", "completion_cost"),
    ("users", "distinct_users"),
    ("threads", "distinct_threads"),
    ("first_start", "first_run_start_time"),
    ("last_start", "last_run_start_time"),
    ("feedback", "feedback_stats"),
    ("facets", "run_facets"),
];

impl Measure {
    /// The figures of the API's `RunStats`, in its order.
    #[must_use]
    pub fn run_stats() -> Vec<Self> {
        let of = |quantity, quantile| Self::Of(quantity, Statistic::Quantile(quantile));
        let (p50, p99) = (Quantile::P50, Quantile::P99);
        vec![
            Self::Count(Count::Runs),
            of(Quantity::Latency, p50),
            of(Quantity::Latency, p99),
            of(Quantity::FirstToken, p50),
            of(Quantity::FirstToken, p99),
            Self::Sum(Amount::TotalTokens),
            Self::Sum(Amount::PromptTokens),
            Self::Sum(Amount::CompletionTokens),
            of(Quantity::TotalTokens, p50),
            of(Quantity::CompletionTokens, p50),
            of(Quantity::PromptTokens, p50),
            of(Quantity::TotalTokens, p99),
            of(Quantity::CompletionTokens, p99),
            of(Quantity::PromptTokens, p99),
            Self::LastStart,
            Self::FeedbackStats,
            Self::RunFacets,
            Self::Rate(Rate::Error),
            Self::Rate(Rate::Streaming),
            Self::Sum(Amount::TotalCost),
            Self::Sum(Amount::PromptCost),
            Self::Sum(Amount::CompletionCost),
            of(Quantity::TotalCost, p50),
            of(Quantity::TotalCost, p99),
        ]
    }

    /// What a table shows where nothing is chosen.
    #[must_use]
    pub fn overview() -> Vec<Self> {
        let latency = |quantile| Self::Of(Quantity::Latency, Statistic::Quantile(quantile));
        vec![
            Self::Count(Count::Runs),
            Self::Count(Count::Errors),
            Self::Rate(Rate::Error),
            latency(Quantile::P50),
            latency(Quantile::P95),
            latency(Quantile::P99),
            Self::Sum(Amount::TotalTokens),
            Self::Sum(Amount::TotalCost),
        ]
    }

    /// Every figure without a part of its own; of percentiles, the median, the 95th and the 99th. Facets,
    /// which are none, are apart.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let statistics = [
            Statistic::Mean,
            Statistic::Min,
            Statistic::Max,
            Statistic::Quantile(Quantile::P50),
            Statistic::Quantile(Quantile::P95),
            Statistic::Quantile(Quantile::P99),
        ];
        let names = NAMES.iter().map(|(_, measure)| measure.clone());
        let sums = AMOUNTS.iter().map(|(_, amount)| Self::Sum(*amount));
        let of = QUANTITIES
            .iter()
            .flat_map(|(_, quantity)| statistics.map(|statistic| Self::Of(*quantity, statistic)));
        let per_run = [Amount::TotalTokens, Amount::TotalCost].map(Self::PerRun);
        let distinct = DISTINCT.iter().map(|(_, what)| Self::Distinct(*what));
        let mut all: Vec<Self> = Vec::new();
        for measure in names.chain(sums).chain(of).chain(per_run).chain(distinct) {
            if !all.contains(&measure) && measure != Self::RunFacets {
                all.push(measure);
            }
        }
        all
    }

    /// Whether the parts of a whole add up in it, so that a share can be told.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Sum(_))
    }

    /// The names that a measure may have, for completions and errors.
    #[must_use]
    pub fn words() -> Vec<&'static str> {
        let names = NAMES.iter().map(|(name, _)| *name);
        let amounts = AMOUNTS.iter().map(|(name, _)| *name);
        let distinct = DISTINCT.iter().map(|(name, _)| *name);
        let aliases = ALIASES.iter().map(|(alias, _)| *alias);
        let more = [
            "p50",
            "p95",
            "p99",
            "mean",
            "min",
            "max",
            "latency_p50",
            "first_token_p50",
            "tokens_p50",
            "cost_p50",
            "tokens_per_second_p50",
            "time_per_token_p50",
            "cost_per_trace",
            "tokens_per_trace",
            "under:15s",
            "under_ttft:1s",
            "feedback:KEY",
            "feedback_avg:KEY",
            "all",
        ];
        names
            .chain(amounts)
            .chain(distinct)
            .chain(aliases)
            .chain(more)
            .collect()
    }
}

impl Quantity {
    /// Whether its values are times.
    #[must_use]
    pub fn is_duration(self) -> bool {
        matches!(self, Self::Latency | Self::FirstToken | Self::TimePerToken)
    }

    fn name(self) -> &'static str {
        let named = QUANTITIES.iter().find(|(_, quantity)| *quantity == self);
        named.map_or("", |(name, _)| name)
    }
}

impl Amount {
    fn name(self) -> &'static str {
        let named = AMOUNTS.iter().find(|(_, amount)| *amount == self);
        named.map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Measure {
    /// Its name, which parses back; the API's where that has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = NAMES.iter().find(|(_, measure)| measure == self) {
            return f.write_str(name);
        }
        match self {
            Self::Sum(amount) => f.write_str(amount.name()),
            Self::Share(part) => write!(f, "{part}_share"),
            Self::Of(quantity, statistic) => write!(f, "{}_{statistic}", quantity.name()),
            Self::RunAt(quantity, quantile) => write!(f, "{}_p{quantile}_run", quantity.name()),
            Self::Under(Quantity::FirstToken, us) => write!(f, "under_ttft:{}", duration(*us)),
            Self::Under(_, us) => write!(f, "under:{}", duration(*us)),
            Self::PerRun(Amount::TotalCost) => f.write_str("cost_per_trace"),
            Self::PerRun(Amount::TotalTokens) => f.write_str("tokens_per_trace"),
            Self::PerRun(amount) => write!(f, "{}_per_trace", amount.name()),
            Self::Distinct(what) => {
                let named = DISTINCT.iter().find(|(_, one)| one == what);
                f.write_str(named.map_or("", |(name, _)| name))
            }
            Self::FeedbackCount(key) => write!(f, "feedback:{key}"),
            Self::FeedbackMean(key) => write!(f, "feedback_avg:{key}"),
            Self::Objective(objective) => objective.fmt(f),
            // Named above.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(quantile) => write!(f, "p{quantile}"),
            Self::Mean => f.write_str("mean"),
            Self::Min => f.write_str("min"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, within) = (self.quantity.name(), duration(self.threshold_us));
        write!(f, "{name}<{within}:{}%", self.target)
    }
}

impl FromStr for Measure {
    type Err = Error;

    /// Reads a measure: `traces`, `error_rate`, `p95`, `cost_p99.9`, `first_token_mean`, `under:15s`,
    /// `cost_share`, `feedback:correctness`.
    fn from_str(text: &str) -> Result<Self> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == text);
        let name = name.map_or(text, |(_, name)| name);
        named(name)
            .or_else(|| with_part(name))
            .or_else(|| {
                let base = name.strip_suffix("_share")?.parse::<Self>().ok()?;
                base.adds_up().then(|| Self::Share(Box::new(base)))
            })
            .ok_or_else(|| unknown_word("a measure", text, &Self::words()))
    }
}

impl FromStr for Objective {
    type Err = Error;

    /// Reads an objective: `latency<15s:99%`, `first_token<1s:95%`.
    fn from_str(text: &str) -> Result<Self> {
        let parsed = || {
            let (quantity, rest) = text.split_once('<')?;
            let (within, target) = rest.trim_start_matches('=').split_once(':')?;
            let quantity = match quantity.trim() {
                "latency" => Quantity::Latency,
                "first_token" | "ttft" => Quantity::FirstToken,
                _ => return None,
            };
            Some(Self {
                quantity,
                threshold_us: parse_duration(within)?.try_into().ok()?,
                target: target.trim().trim_end_matches('%').trim().parse().ok()?,
            })
        };
        parsed().ok_or_else(|| Error::Usage {
            problem: format!("{text:?} is no objective"),
            hint: Some("write latency<15s:99% or first_token<1s:95%".to_owned()),
        })
    }
}

fn named(name: &str) -> Option<Measure> {
    let names = NAMES
        .iter()
        .map(|(known, measure)| (*known, measure.clone()));
    let sums = AMOUNTS
        .iter()
        .map(|(known, amount)| (*known, Measure::Sum(*amount)));
    let distinct = DISTINCT
        .iter()
        .map(|(known, what)| (*known, Measure::Distinct(*what)));
    let mut all = names.chain(sums).chain(distinct);
    all.find_map(|(known, measure)| (known == name).then_some(measure))
}

/// A measure whose name has a part of its own: a percentile, a threshold, a key.
fn with_part(name: &str) -> Option<Measure> {
    if let Some((kind, part)) = name.split_once(':') {
        let us = || u64::try_from(parse_duration(part)?).ok();
        return match kind {
            "under" | "under_latency" => Some(Measure::Under(Quantity::Latency, us()?)),
            "under_ttft" | "under_first_token" => Some(Measure::Under(Quantity::FirstToken, us()?)),
            "feedback" | "feedback_n" if !part.is_empty() => {
                Some(Measure::FeedbackCount(part.into()))
            }
            "feedback_avg" | "feedback_mean" if !part.is_empty() => {
                Some(Measure::FeedbackMean(part.into()))
            }
            _ => None,
        };
    }
    if let Some(base) = name.strip_suffix("_run") {
        return match with_part(base)? {
            Measure::Of(quantity, Statistic::Quantile(quantile)) => {
                Some(Measure::RunAt(quantity, quantile))
            }
            _ => None,
        };
    }
    if let Some(base) = name
        .strip_suffix("_per_trace")
        .or(name.strip_suffix("_per_run"))
    {
        return Some(Measure::PerRun(match base {
            "cost" => Amount::TotalCost,
            "tokens" => Amount::TotalTokens,
            base => AMOUNTS.iter().find(|(known, _)| *known == base)?.1,
        }));
    }
    let (quantity, statistic) = match name.rsplit_once('_') {
        None => (Quantity::Latency, name),
        Some((quantity, statistic)) => {
            let quantity = match quantity {
                "ttft" => "first_token",
                "total_tokens" => "tokens",
                "total_cost" => "cost",
                "input_tokens" => "prompt_tokens",
                "output_tokens" => "completion_tokens",
                other => other,
            };
            let named = QUANTITIES.iter().find(|(known, _)| *known == quantity)?;
            (named.1, statistic)
        }
    };
    let statistic = match statistic {
        "mean" | "avg" => Statistic::Mean,
        "min" => Statistic::Min,
        "max" => Statistic::Max,
        "median" => Statistic::Quantile(Quantile::P50),
        other => Statistic::Quantile(other.strip_prefix('p')?.parse().ok()?),
    };
    Some(Measure::Of(quantity, statistic))
}

/// A duration as it is written: 15s, 300ms, 250us.
fn duration(us: u64) -> String {
    match us {
        _ if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        _ if us.is_multiple_of(1_000) => format!("{}ms", us / 1_000),
        _ => format!("{us}us"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn printing_and_reading_are_inverse() {
        let more = [
            "p99.9",
            "cost_p99.9_run",
            "under:15s",
            "under_ttft:300ms",
            "feedback:a:b",
            "feedback_avg:correctness",
            "cost_share",
            "run_count_share",
            "prompt_cost_per_trace",
            "time_per_token_max",
        ];
        let more = more.map(|text| text.parse::<Measure>().unwrap());
        for measure in Measure::all()
            .into_iter()
            .chain(Measure::run_stats())
            .chain(more)
        {
            let text = measure.to_string();
            assert_eq!(text.parse::<Measure>().unwrap(), measure, "{text}");
        }
    }

    #[test]
    fn the_usual_words_are_known() {
        for (text, name) in [
            ("traces", "run_count"),
            ("p95", "latency_p95"),
            ("cost", "total_cost"),
            ("ttft_p50", "first_token_p50"),
            ("tokens_p50", "median_tokens"),
            ("mean", "latency_mean"),
            ("output_tokens_p99.99", "completion_tokens_p99.99"),
        ] {
            assert_eq!(text.parse::<Measure>().unwrap().to_string(), name);
        }
        for text in [
            "",
            "p",
            "p101",
            "latency",
            "under:",
            "under:-1s",
            "error_rate_share",
            "x_p50",
            "feedback:",
        ] {
            assert!(text.parse::<Measure>().is_err(), "{text}");
        }
    }

    #[test]
    fn objectives_parse() {
        for text in ["latency<15s:99%", "first_token<300ms:99.9%"] {
            assert_eq!(text.parse::<Objective>().unwrap().to_string(), text);
        }
        for text in [
            "latency<15s",
            "cost<1:99%",
            "latency<15s:101%",
            "latency<-1s:5%",
        ] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
