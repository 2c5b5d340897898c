//! Measures → the columns of a tally that they need, and the figures that it gives.

use std::collections::BTreeSet;

use super::assemble::{cost, feedback_stats, rate, tokens};
use super::stats::{Attainment, Figure};
use super::value::{Nanoseconds, Thousandths, Timestamp};
use uuid::Uuid;

use crate::request::{self, Amount, Count, Measure, Objective, Quantity, Rate, Statistic};
use crate::tally::distinct::Distinct;
use crate::tally::money::divide_half_even;
use crate::tally::sketch::Sketch;
use crate::tally::{Tally, TallyColumn};

/// Which figures are unknown because no file has the columns that they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Says {
    /// Whether any file says which runs failed.
    pub(crate) errors: bool,
    /// Whether files have both ends and first tokens.
    pub(crate) streaming: bool,
    /// Whether any file has total tokens.
    pub(crate) total_tokens: bool,
    /// Whether any file has input tokens.
    pub(crate) prompt_tokens: bool,
    /// Whether any file has output tokens.
    pub(crate) completion_tokens: bool,
}

impl Says {
    /// What is said of runs of which some say this and some that.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            errors: self.errors && other.errors,
            streaming: self.streaming && other.streaming,
            total_tokens: self.total_tokens || other.total_tokens,
            prompt_tokens: self.prompt_tokens || other.prompt_tokens,
            completion_tokens: self.completion_tokens || other.completion_tokens,
        }
    }
}

/// The columns of tallies that measures need.
pub(crate) fn needed(measures: &[Measure]) -> BTreeSet<TallyColumn> {
    measures.iter().flat_map(columns).collect()
}

fn columns(measure: &Measure) -> Vec<TallyColumn> {
    match measure {
        Measure::Count(count) => vec![count_column(*count)],
        Measure::Rate(Rate::Error) => vec![TallyColumn::NErrors, TallyColumn::NTraces],
        Measure::Rate(Rate::Streaming) => vec![TallyColumn::NStreamed, TallyColumn::NCompleted],
        Measure::Rate(Rate::TraceError) => vec![TallyColumn::NErrorTraces, TallyColumn::NTraces],
        Measure::Sum(amount) => vec![amount_column(*amount)],
        Measure::Share(part) => columns(part),
        Measure::Of(quantity, Statistic::Mean) => {
            let (_, sum, n) = quantity_columns(*quantity);
            vec![sum, n]
        }
        Measure::Of(quantity, _) | Measure::Under(quantity, _) => {
            vec![quantity_columns(*quantity).0]
        }
        Measure::PerRun(amount) => vec![amount_column(*amount), TallyColumn::NTraces],
        Measure::RunAt(quantity, _) => {
            vec![quantity_columns(*quantity).0, exemplar_column(*quantity)]
        }
        Measure::Distinct(what) => vec![distinct_column(*what)],
        Measure::FirstStart => vec![TallyColumn::FirstStartUs],
        Measure::LastStart => vec![TallyColumn::LastStartUs],
        Measure::FeedbackCount(_) | Measure::FeedbackMean(_) | Measure::FeedbackStats => {
            vec![TallyColumn::Feedback]
        }
        Measure::RunFacets => Vec::new(),
        Measure::Objective(objective) => vec![quantity_columns(objective.quantity).0],
    }
}

fn count_column(count: Count) -> TallyColumn {
    match count {
        Count::Runs => TallyColumn::NTraces,
        Count::Errors => TallyColumn::NErrors,
        Count::Completed => TallyColumn::NCompleted,
    }
}

fn amount_column(amount: Amount) -> TallyColumn {
    match amount {
        Amount::TotalTokens => TallyColumn::TotalTokens,
        Amount::PromptTokens => TallyColumn::PromptTokens,
        Amount::CompletionTokens => TallyColumn::CompletionTokens,
        Amount::CachedTokens => TallyColumn::CachedTokens,
        Amount::ReasoningTokens => TallyColumn::ReasoningTokens,
        Amount::TotalCost => TallyColumn::TotalCost,
        Amount::PromptCost => TallyColumn::PromptCost,
        Amount::CompletionCost => TallyColumn::CompletionCost,
        Amount::CachedCost => TallyColumn::CachedCost,
        Amount::ReasoningCost => TallyColumn::ReasoningCost,
    }
}

/// The columns of a quantity's distribution, of its sum and of its number.
fn quantity_columns(quantity: Quantity) -> (TallyColumn, TallyColumn, TallyColumn) {
    use TallyColumn as T;
    match quantity {
        Quantity::Latency => (T::LatencyUs, T::LatencySum, T::LatencyN),
        Quantity::FirstToken => (T::FirstTokenUs, T::FirstTokenSum, T::FirstTokenN),
        Quantity::TotalTokens => (T::TotalTokensEach, T::TotalTokensSum, T::TotalTokensN),
        Quantity::PromptTokens => (T::PromptTokensEach, T::PromptTokensSum, T::PromptTokensN),
        Quantity::CompletionTokens => (
            T::CompletionTokensEach,
            T::CompletionTokensSum,
            T::CompletionTokensN,
        ),
        Quantity::TotalCost => (T::TotalCostEach, T::TotalCostSum, T::TotalCostN),
        Quantity::TokensPerSecond => (T::PaceEach, T::PaceSum, T::PaceN),
        Quantity::TimePerToken => (T::TokenTimeEach, T::TokenTimeSum, T::TokenTimeN),
    }
}

/// The column of runs that stand for a quantity's values.
fn exemplar_column(quantity: Quantity) -> TallyColumn {
    match quantity {
        Quantity::Latency => TallyColumn::LatencyRuns,
        Quantity::FirstToken => TallyColumn::FirstTokenRuns,
        Quantity::TotalTokens => TallyColumn::TotalTokensRuns,
        Quantity::PromptTokens => TallyColumn::PromptTokensRuns,
        Quantity::CompletionTokens => TallyColumn::CompletionTokensRuns,
        Quantity::TotalCost => TallyColumn::TotalCostRuns,
        Quantity::TokensPerSecond => TallyColumn::PaceRuns,
        Quantity::TimePerToken => TallyColumn::TokenTimeRuns,
    }
}

fn distinct_column(what: request::Distinct) -> TallyColumn {
    match what {
        request::Distinct::Traces => TallyColumn::Traces,
        request::Distinct::Users => TallyColumn::Users,
        request::Distinct::Threads => TallyColumn::Threads,
    }
}

/// The figure of a measure. A share is told once the whole is known.
pub(crate) fn figure(measure: &Measure, tally: &Tally, says: Says) -> Figure {
    known(measure, tally, says).unwrap_or_default()
}

fn known(measure: &Measure, tally: &Tally, says: Says) -> Option<Figure> {
    Some(match measure {
        Measure::Count(Count::Runs) => Figure::Count(tally.n_traces),
        Measure::Count(Count::Errors) => Figure::Count(says.errors.then_some(tally.n_errors)?),
        Measure::Count(Count::Completed) => Figure::Count(tally.n_completed),
        Measure::Rate(which) => Figure::Share(rate_of(*which, tally, says)?),
        Measure::Sum(amount) => sum(*amount, tally, says)?,
        Measure::Share(_) | Measure::RunFacets => return None,
        Measure::Of(quantity, statistic) => of(*quantity, *statistic, tally)?,
        Measure::Under(quantity, threshold) => {
            let sketch = sketch(*quantity, tally)?;
            Figure::Share(rate(
                true,
                sketch.count_at_or_below(*threshold),
                sketch.count(),
            )?)
        }
        Measure::PerRun(amount) => per_run(*amount, tally, says)?,
        Measure::RunAt(quantity, quantile) => {
            let exemplars = tally.more.exemplars(exemplar_column(*quantity))?;
            let id = exemplars.id_at(sketch(*quantity, tally)?, *quantile)?;
            Figure::Run(Uuid::from_u128(id).to_string())
        }
        Measure::Distinct(what) => {
            let distinct = tally.more.distinct(distinct_column(*what));
            Figure::Distinct {
                n: distinct.map_or(0, Distinct::estimate),
                is_exact: distinct.is_none_or(Distinct::is_exact),
            }
        }
        Measure::FirstStart => {
            Figure::Time(Timestamp(tally.more.least(TallyColumn::FirstStartUs)?))
        }
        Measure::LastStart => Figure::Time(Timestamp(tally.last_start_us?)),
        Measure::FeedbackCount(key) => {
            let stats = tally.feedback.stats();
            Figure::Count(stats.get(key).map_or(0, |stats| stats.n))
        }
        Measure::FeedbackMean(key) => Figure::Number(tally.feedback.stats().get(key)?.avg?),
        Measure::FeedbackStats => Figure::Feedback(feedback_stats(&tally.feedback)),
        Measure::Objective(objective) => Figure::Attainment(Box::new(attainment(objective, tally))),
    })
}

fn rate_of(which: Rate, tally: &Tally, says: Says) -> Option<f64> {
    match which {
        Rate::Error => rate(says.errors, tally.n_errors, tally.n_traces),
        Rate::Streaming => rate(says.streaming, tally.n_streamed, tally.n_completed),
        Rate::TraceError => {
            let n_failed = tally.more.count(TallyColumn::NErrorTraces);
            rate(says.errors, n_failed, tally.n_traces)
        }
    }
}

fn sum(amount: Amount, tally: &Tally, says: Says) -> Option<Figure> {
    let more = |amount| tally.more.sum(amount_column(amount));
    Some(match amount {
        Amount::TotalTokens => Figure::Whole(tokens(says.total_tokens, tally.tokens.total)?),
        Amount::PromptTokens => Figure::Whole(tokens(says.prompt_tokens, tally.tokens.prompt)?),
        Amount::CompletionTokens => {
            Figure::Whole(tokens(says.completion_tokens, tally.tokens.completion)?)
        }
        Amount::CachedTokens | Amount::ReasoningTokens => Figure::Whole(more(amount)?),
        Amount::TotalCost => Figure::Cost(cost(tally.cost_pico.total?)),
        Amount::PromptCost => Figure::Cost(cost(tally.cost_pico.prompt?)),
        Amount::CompletionCost => Figure::Cost(cost(tally.cost_pico.completion?)),
        Amount::CachedCost | Amount::ReasoningCost => Figure::Cost(cost(more(amount)?)),
    })
}

fn sketch(quantity: Quantity, tally: &Tally) -> Option<&Sketch> {
    match quantity {
        Quantity::Latency => Some(&tally.latency_us),
        Quantity::FirstToken => Some(&tally.first_token_us),
        quantity => tally.more.sketch(quantity_columns(quantity).0),
    }
}

fn of(quantity: Quantity, statistic: Statistic, tally: &Tally) -> Option<Figure> {
    let thousandths = match statistic {
        Statistic::Mean => {
            let (_, sum, n) = quantity_columns(quantity);
            divided(tally.more.sum(sum)?.checked_mul(1000)?, tally.more.count(n))?
        }
        Statistic::Quantile(quantile) => {
            i128::try_from(sketch(quantity, tally)?.quantile_thousandths(quantile)?).ok()?
        }
        Statistic::Min => i128::from(sketch(quantity, tally)?.min()?) * 1000,
        Statistic::Max => i128::from(sketch(quantity, tally)?.max()?) * 1000,
    };
    Some(match quantity {
        Quantity::Latency | Quantity::FirstToken => {
            Figure::Seconds(Nanoseconds(thousandths.try_into().ok()?))
        }
        Quantity::TimePerToken => {
            Figure::Seconds(Nanoseconds(divided(thousandths, 1000)?.try_into().ok()?))
        }
        Quantity::TotalCost => Figure::Cost(cost(divided(thousandths, 1000)?)),
        // Thousandths of a token a second, in thousandths.
        Quantity::TokensPerSecond => Figure::Thousandths(Thousandths(divided(thousandths, 1000)?)),
        Quantity::TotalTokens | Quantity::PromptTokens | Quantity::CompletionTokens => {
            Figure::Thousandths(Thousandths(thousandths))
        }
    })
}

fn per_run(amount: Amount, tally: &Tally, says: Says) -> Option<Figure> {
    Some(match sum(amount, tally, says)? {
        Figure::Cost(sum) => Figure::Cost(cost(divided(sum.pico, tally.n_traces)?)),
        Figure::Whole(sum) => Figure::Thousandths(Thousandths(divided(
            sum.checked_mul(1000)?,
            tally.n_traces,
        )?)),
        _ => return None,
    })
}

/// A quotient rounded half to even; none where nothing is to divide by.
fn divided(sum: i128, n: u64) -> Option<i128> {
    if n == 0 {
        return None;
    }
    let magnitude = divide_half_even(sum.unsigned_abs(), n.into());
    let magnitude = i128::try_from(magnitude).ok()?;
    Some(if sum < 0 { -magnitude } else { magnitude })
}

fn attainment(objective: &Objective, tally: &Tally) -> Attainment {
    let sketch = sketch(objective.quantity, tally);
    let total = sketch.map_or(0, Sketch::count);
    let good = sketch.map_or(0, |sketch| sketch.count_at_or_below(objective.threshold_us));
    // All in whole millionths: the share that may be bad, and what of it is.
    let target = u128::from(objective.target.millionths());
    let may_be_bad = (1_000_000 - target) * u128::from(total);
    let is_bad = 1_000_000 * u128::from(total - good);
    Attainment {
        target: f64::from(objective.target.millionths()) / 1e6,
        good,
        total,
        attained: rate(true, good, total),
        budget_left: (may_be_bad > 0).then(|| 1.0 - quotient(is_bad, may_be_bad)),
        worst: None,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rounded once, as the quotient is"
)]
fn quotient(part: u128, whole: u128) -> f64 {
    part as f64 / whole as f64
}
