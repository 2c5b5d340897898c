//! A group's figures, from its units, in whole numbers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use num_bigint::{BigInt, Sign};
use runtally::request::{Amount, Count, Distinct, Quantity, Rate, Statistic};
use runtally::{Figure, Measure, Objective};
use serde_json::Value;
use uuid::Uuid;

use super::label;
use super::unit::Unit;
use crate::support::exact::{divide_half_even, plain, quotient, ten_to};
use crate::support::reference::{EXACT_VALUES, Row, feedback_stats};
use crate::support::run::FIRST_MIDNIGHT_US;

const MILLION: u32 = 1_000_000;
/// Fractional digits of seconds, of thousandths, of dollars.
const NANO_PLACES: u32 = 9;
const MILLI_PLACES: u32 = 3;
const PICO_PLACES: u32 = 12;

/// What a figure must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wanted {
    Unknown,
    Exact(Exact),
    /// A share, or a mean score: the double nearest to it.
    Ratio(f64),
    Time(i64),
    Feedback(Value),
    /// How often feedback was given under a key under which none was: nothing, or unknown.
    NoFeedback,
    Attained(Attained),
    /// Facets have tests of their own.
    Facets,
}

/// A number of so many fractional digits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exact {
    digits: BigInt,
    places: u32,
    kind: Kind,
    /// How many values it lies among.
    n_values: usize,
}

/// How a number is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Seconds,
    Cost,
}

/// How well an objective is met.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attained {
    target: f64,
    good: usize,
    total: usize,
    share: Option<f64>,
    budget_left: Option<f64>,
    /// The spans in which the least share is good; any of them will do.
    worst: Vec<i64>,
}

impl Wanted {
    fn number(digits: impl Into<BigInt>) -> Self {
        Self::exact(digits, 0, Kind::Number, 0)
    }

    fn exact(digits: impl Into<BigInt>, places: u32, kind: Kind, n_values: usize) -> Self {
        Self::Exact(Exact {
            digits: digits.into(),
            places,
            kind,
            n_values,
        })
    }

    pub(crate) fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// In pico-units, where it is a number with a sum.
    pub(crate) fn pico(&self) -> Option<BigInt> {
        match self {
            Self::Exact(exact) => Some(exact.pico()),
            _ => None,
        }
    }

    /// Orders figures of one measure.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one.pico().cmp(&other.pico()),
            (Self::Ratio(one), Self::Ratio(other)) => one.total_cmp(other),
            (Self::Time(one), Self::Time(other)) => one.cmp(other),
            (Self::Unknown, Self::Unknown) => Ordering::Equal,
            (one, other) => panic!("{one:?} and {other:?} cannot be compared"),
        }
    }

    /// Whether a figure says so.
    pub(crate) fn agrees_with(&self, figure: &Figure) -> bool {
        match (self, figure) {
            (Self::Unknown | Self::NoFeedback, Figure::Unknown)
            | (Self::NoFeedback, Figure::Count(0))
            | (Self::Facets, Figure::Facets(_)) => true,
            (Self::Exact(exact), figure) => exact.agrees_with(figure),
            (Self::Ratio(ratio), Figure::Share(share) | Figure::Number(share)) => {
                is_near(*share, *ratio)
            }
            (Self::Time(us), Figure::Time(time)) => time.0 == *us,
            (Self::Feedback(keys), figure @ Figure::Feedback(_)) => {
                serde_json::to_value(figure).unwrap() == *keys
            }
            (Self::Attained(wanted), Figure::Attainment(found)) => {
                let worst = found.worst.map(|time| time.0);
                is_near(found.target, wanted.target)
                    && found.good == wanted.good as u64
                    && found.total == wanted.total as u64
                    && are_near(found.attained, wanted.share)
                    && are_near(found.budget_left, wanted.budget_left)
                    && worst.map_or(wanted.worst.is_empty(), |worst| {
                        wanted.worst.contains(&worst)
                    })
            }
            _ => false,
        }
    }
}

/// A number with its decimals, seconds with an `s` and dollars with a `$` after it; moments in seconds
/// since made-up runs begin.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("-"),
            Self::Exact(exact) => {
                f.write_str(&plain(&exact.digits, exact.places as usize))?;
                f.write_str(match exact.kind {
                    Kind::Number => "",
                    Kind::Seconds => "s",
                    Kind::Cost => "$",
                })
            }
            Self::Ratio(ratio) => write!(f, "{ratio}"),
            Self::Time(us) => write!(f, "@{}", (us - FIRST_MIDNIGHT_US) / 1_000_000),
            Self::Feedback(keys) => write!(f, "{keys}"),
            Self::NoFeedback | Self::Facets => write!(f, "{self:?}"),
            Self::Attained(met) => write!(f, "{} of {}", met.good, met.total),
        }
    }
}

impl Exact {
    fn pico(&self) -> BigInt {
        &self.digits * ten_to(PICO_PLACES - self.places)
    }

    /// Among more values than are kept it may be 0.1 % away.
    fn agrees_with(&self, figure: &Figure) -> bool {
        let number = |digits: BigInt, places| (digits * ten_to(PICO_PLACES - places), Kind::Number);
        let (pico, kind) = match figure {
            Figure::Count(n) | Figure::Distinct { n, is_exact: true } => {
                number(BigInt::from(*n), 0)
            }
            Figure::Whole(sum) => number(BigInt::from(*sum), 0),
            Figure::Thousandths(value) => number(BigInt::from(value.0), MILLI_PLACES),
            Figure::Seconds(time) => (BigInt::from(time.0) * 1_000, Kind::Seconds),
            Figure::Cost(cost) => (BigInt::from(cost.pico), Kind::Cost),
            Figure::Number(number) => {
                let wanted = quotient(&self.digits, &ten_to(self.places));
                return self.kind == Kind::Number && is_near(*number, wanted);
            }
            _ => return false,
        };
        let apart = (&pico - self.pico()).magnitude().clone();
        let is_tolerated = self.n_values > EXACT_VALUES
            && apart * 1_000_u32 <= self.pico().magnitude() + 1_000_u32;
        kind == self.kind && (pico == self.pico() || is_tolerated)
    }
}

/// Equal but for the last two bits.
fn is_near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= 1e-15 * wanted.abs()
}

fn are_near(found: Option<f64>, wanted: Option<f64>) -> bool {
    match (found, wanted) {
        // One minus a share, where that is how it was computed.
        (Some(found), Some(wanted)) => (found - wanted).abs() <= 1e-12 * wanted.abs().max(1.0),
        (found, wanted) => found.is_none() && wanted.is_none(),
    }
}

/// Some units among all that were asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) units: &'a [&'a Unit<'a>],
    pub(super) total: &'a [&'a Unit<'a>],
    /// All runs of each project that is asked for.
    pub(super) rows: &'a BTreeMap<Uuid, Vec<&'a Row>>,
}

impl Group<'_> {
    /// A figure; the spans of time are those that its units are also split into.
    pub(super) fn figure(&self, measure: &Measure, spans: &[(i64, i64)]) -> Wanted {
        match measure {
            Measure::Count(count) => self.count(*count),
            Measure::Rate(rate) => self.rate(*rate),
            Measure::Sum(amount) => self.sum(*amount),
            Measure::Share(part) => self.share(part),
            Measure::Of(quantity, statistic) => self.statistic(*quantity, *statistic),
            Measure::RunAt(..) => panic!("which run stands for a value is not told here"),
            Measure::Under(quantity, threshold_us) => {
                let (good, total) = self.under(*quantity, *threshold_us);
                ratio(good, total)
            }
            Measure::PerRun(amount) => self.per_run(*amount),
            Measure::Distinct(what) => self.distinct(*what),
            Measure::FirstStart => self.start(Iterator::min),
            Measure::LastStart => self.start(Iterator::max),
            Measure::FeedbackCount(key) => match self.feedback().get(key) {
                Some(feedback) => Wanted::number(feedback["n"].as_u64().unwrap()),
                None => Wanted::NoFeedback,
            },
            Measure::FeedbackMean(key) => {
                let feedback = self.feedback();
                let average = feedback.get(key).and_then(|key| key["avg"].as_f64());
                average.map_or(Wanted::Unknown, Wanted::Ratio)
            }
            Measure::FeedbackStats => Wanted::Feedback(self.feedback()),
            Measure::RunFacets => Wanted::Facets,
            Measure::Objective(objective) => Wanted::Attained(self.attained(*objective, spans)),
        }
    }

    /// Whether files have a column: those of any of its projects, or those of each.
    fn knows(&self, column: &str, in_each: bool) -> bool {
        let own: BTreeSet<Uuid> = self.units.iter().map(|unit| unit.project).collect();
        let mut projects = self.rows.iter().filter_map(|(id, rows)| {
            let counts = own.contains(id) || own.is_empty();
            counts.then(|| rows.iter().any(|row| row.knows.contains(column)))
        });
        if in_each {
            projects.all(|knows| knows)
        } else {
            projects.any(|knows| knows)
        }
    }

    fn count(&self, count: Count) -> Wanted {
        let units = self.units.iter();
        Wanted::number(match count {
            Count::Runs => units.count(),
            Count::Errors if !self.knows("errors", true) => return Wanted::Unknown,
            Count::Errors => units.filter(|unit| unit.is_error).count(),
            Count::Completed => units.filter(|unit| unit.end_us.is_some()).count(),
        })
    }

    fn rate(&self, rate: Rate) -> Wanted {
        let n_of = |is_counted: fn(&Unit) -> bool| {
            let counted = self.units.iter().filter(|unit| is_counted(unit));
            counted.count()
        };
        let n_units = self.units.len();
        match rate {
            Rate::Error | Rate::TraceError if !self.knows("errors", true) => Wanted::Unknown,
            Rate::Error => ratio(n_of(|unit| unit.is_error), n_units),
            Rate::TraceError => ratio(n_of(|unit| unit.is_of_failed_trace), n_units),
            Rate::Streaming => {
                if !self.knows("end_time", true) || !self.knows("first_token_time", true) {
                    return Wanted::Unknown;
                }
                let streamed = |unit: &Unit| unit.end_us.is_some() && unit.first_token_us.is_some();
                ratio(n_of(streamed), n_of(|unit| unit.end_us.is_some()))
            }
        }
    }

    fn sum(&self, amount: Amount) -> Wanted {
        let tokens = |part: usize, column: &str| {
            let values = self.units.iter().filter_map(|unit| unit.tokens[part]);
            if self.knows(column, false) {
                Wanted::number(values.map(BigInt::from).sum::<BigInt>())
            } else {
                Wanted::Unknown
            }
        };
        let cost = |part: usize| {
            let values = self
                .units
                .iter()
                .filter_map(|unit| unit.costs[part].clone());
            let values: Vec<BigInt> = values.collect();
            if values.is_empty() {
                Wanted::Unknown
            } else {
                let sum: BigInt = values.into_iter().sum();
                Wanted::exact(sum, PICO_PLACES, Kind::Cost, 0)
            }
        };
        match amount {
            Amount::TotalTokens => tokens(0, "total_tokens"),
            Amount::PromptTokens => tokens(1, "prompt_tokens"),
            Amount::CompletionTokens => tokens(2, "completion_tokens"),
            Amount::TotalCost => cost(0),
            Amount::PromptCost => cost(1),
            Amount::CompletionCost => cost(2),
            other => panic!("no export has {other:?}"),
        }
    }

    fn share(&self, part: &Measure) -> Wanted {
        let all = Group {
            units: self.total,
            ..*self
        };
        let (part, whole) = (self.figure(part, &[]).pico(), all.figure(part, &[]).pico());
        match (part, whole) {
            (Some(part), Some(whole)) if whole.sign() != Sign::NoSign => {
                Wanted::Ratio(divided(part, whole))
            }
            _ => Wanted::Unknown,
        }
    }

    fn per_run(&self, amount: Amount) -> Wanted {
        let (Wanted::Exact(sum), n_units @ 1..) = (self.sum(amount), self.units.len()) else {
            return Wanted::Unknown;
        };
        let places = match sum.kind {
            Kind::Cost => PICO_PLACES,
            _ => MILLI_PLACES,
        };
        let scaled = sum.digits * ten_to(places - sum.places);
        let mean = divide_half_even(&scaled, &BigInt::from(n_units));
        Wanted::exact(mean, places, sum.kind, 0)
    }

    /// The values of a quantity that are not negative, in its own unit.
    fn values(&self, quantity: Quantity) -> Vec<BigInt> {
        let zero = BigInt::ZERO;
        let values = self.units.iter().filter_map(|unit| value(unit, quantity));
        values.filter(|value| *value >= zero).collect()
    }

    fn statistic(&self, quantity: Quantity, statistic: Statistic) -> Wanted {
        let mut values = self.values(quantity);
        values.sort();
        let (Some(least), Some(greatest)) = (values.first(), values.last()) else {
            return Wanted::Unknown;
        };
        let (factor, places, kind) = unit_of(quantity);
        // In millionths of what is shown last.
        let millionths: BigInt = match statistic {
            Statistic::Min => least * MILLION,
            Statistic::Max => greatest * MILLION,
            Statistic::Quantile(q) => percentile(&values, u64::from(q.millionths())),
            Statistic::Mean => {
                let sum: BigInt = values.iter().sum();
                let mean = divide_half_even(&(sum * factor), &BigInt::from(values.len()));
                return Wanted::exact(mean, places, kind, 0);
            }
        };
        let shown = divide_half_even(&(millionths * factor), &BigInt::from(MILLION));
        let n_values = match statistic {
            Statistic::Quantile(_) => values.len(),
            _ => 0,
        };
        Wanted::exact(shown, places, kind, n_values)
    }

    fn distinct(&self, what: Distinct) -> Wanted {
        let units = self.units.iter();
        let found: BTreeSet<String> = match what {
            Distinct::Traces => units
                .filter_map(|unit| Some(unit.trace?.to_string()))
                .collect(),
            Distinct::Users => units.filter_map(|unit| label::user(unit)).collect(),
            Distinct::Threads => units.filter_map(|unit| label::thread(unit)).collect(),
        };
        Wanted::number(found.len())
    }

    fn start(&self, which: fn(std::vec::IntoIter<i64>) -> Option<i64>) -> Wanted {
        let starts: Vec<i64> = self.units.iter().map(|unit| unit.start_us).collect();
        which(starts.into_iter()).map_or(Wanted::Unknown, Wanted::Time)
    }

    fn feedback(&self) -> Value {
        feedback_stats(
            self.units
                .iter()
                .filter_map(|unit| unit.feedback.as_deref()),
        )
    }

    fn attained(&self, objective: Objective, spans: &[(i64, i64)]) -> Attained {
        let good = |group: &Group| group.under(objective.quantity, objective.threshold_us);
        let share =
            |(good, total): (usize, usize)| (total > 0).then(|| divided(good.into(), total.into()));
        let target = objective.target.millionths();
        let (n_good, total) = good(self);
        // What may be bad, and what of it is left, both in millionths of a run.
        let allowed = BigInt::from(MILLION - target) * total;
        let left = &allowed - BigInt::from(total - n_good) * MILLION;
        let shares: Vec<(f64, i64)> = spans
            .iter()
            .filter_map(|&(start, end)| {
                let units = self.within(start, end);
                let units = &units;
                Some((share(good(&Group { units, ..*self }))?, start))
            })
            .collect();
        let least = shares.iter().map(|(share, _)| *share);
        let least = least.min_by(f64::total_cmp).unwrap_or_default();
        let worst = shares
            .iter()
            .filter(|(share, _)| share.total_cmp(&least).is_eq());
        Attained {
            target: divided(target.into(), MILLION.into()),
            good: n_good,
            total,
            share: share((n_good, total)),
            budget_left: (allowed.sign() == Sign::Plus).then(|| divided(left, allowed)),
            worst: worst.map(|(_, start)| *start).collect(),
        }
    }

    /// The units that start in a span of time.
    pub(super) fn within(&self, start: i64, end: i64) -> Vec<&Unit<'_>> {
        let units = self.units.iter().copied();
        units
            .filter(|unit| (start..end).contains(&unit.start_us))
            .collect()
    }

    /// How many values are at or below a threshold, of how many.
    fn under(&self, quantity: Quantity, threshold_us: u64) -> (usize, usize) {
        let values = self.values(quantity);
        let threshold = BigInt::from(threshold_us);
        let good = values.iter().filter(|value| **value <= threshold);
        (good.count(), values.len())
    }
}

/// By what a quantity's value becomes what is shown, in how many fractional digits, and how.
fn unit_of(quantity: Quantity) -> (u32, u32, Kind) {
    match quantity {
        Quantity::Latency | Quantity::FirstToken => (1_000, NANO_PLACES, Kind::Seconds),
        Quantity::TimePerToken => (1, NANO_PLACES, Kind::Seconds),
        Quantity::TotalTokens | Quantity::PromptTokens | Quantity::CompletionTokens => {
            (1_000, MILLI_PLACES, Kind::Number)
        }
        Quantity::TokensPerSecond => (1, MILLI_PLACES, Kind::Number),
        Quantity::TotalCost => (1, PICO_PLACES, Kind::Cost),
    }
}

/// Microseconds; tokens; pico-dollars; thousandths of tokens a second; nanoseconds a token.
fn value(unit: &Unit, quantity: Quantity) -> Option<BigInt> {
    let since_start = |to: Option<i64>| Some(BigInt::from(to? - unit.start_us));
    // Tokens, and the microseconds in which they came.
    let streamed = || {
        let us = unit.end_us? - unit.first_token_us?;
        let tokens = unit.tokens[2]?;
        (us > 0 && tokens >= 0).then(|| (BigInt::from(tokens), BigInt::from(us)))
    };
    match quantity {
        Quantity::Latency => since_start(unit.end_us),
        Quantity::FirstToken => since_start(unit.first_token_us),
        Quantity::TotalTokens => unit.tokens[0].map(BigInt::from),
        Quantity::PromptTokens => unit.tokens[1].map(BigInt::from),
        Quantity::CompletionTokens => unit.tokens[2].map(BigInt::from),
        Quantity::TotalCost => unit.costs[0].clone(),
        Quantity::TokensPerSecond => {
            let (tokens, us) = streamed()?;
            Some(divide_half_even(&(tokens * ten_to(9)), &us))
        }
        Quantity::TimePerToken => {
            let (tokens, us) = streamed().filter(|(tokens, _)| *tokens > BigInt::ZERO)?;
            Some(divide_half_even(&(us * 1_000), &tokens))
        }
    }
}

/// Percentile of type 7 of sorted values, in millionths.
fn percentile(sorted: &[BigInt], q_millionths: u64) -> BigInt {
    let last = sorted.len() as u64 - 1;
    let position = q_millionths * last;
    let (low, share) = (position / u64::from(MILLION), position % u64::from(MILLION));
    let at = |index: u64| &sorted[usize::try_from(index).unwrap()];
    let (a, b) = (at(low), at((low + 1).min(last)));
    a * MILLION + (b - a) * share
}

/// Unknown where there is nothing to divide by.
fn ratio(part: usize, whole: usize) -> Wanted {
    if whole == 0 {
        return Wanted::Unknown;
    }
    Wanted::Ratio(divided(part.into(), whole.into()))
}

fn divided(part: BigInt, whole: BigInt) -> f64 {
    if whole.sign() == Sign::Minus {
        quotient(&-part, &-whole)
    } else {
        quotient(&part, &whole)
    }
}
