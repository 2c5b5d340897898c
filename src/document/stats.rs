//! Statistics of groups of runs: the API's `RunStats`, and the further figures that may be asked for.
//!
//! A group is a tally with a name; its figures are those that the breakdown asks for, in that order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::session::{FeedbackStats, RunFacet};
use super::value::{Cost, Nanoseconds, Thousandths, Timestamp};

/// A group of runs and what was asked of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What its runs have in common, a label for each key; none for all runs together.
    pub labels: Vec<Label>,
    /// Its figures, in the order of the measures.
    pub figures: Vec<Figure>,
    /// The same of each span of time, where that was asked for: without a gap, from the first span that
    /// any group has to the last.
    pub series: Vec<Bucket>,
}

/// What the runs of a group have in common in one key. The last two are none of the runs' own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// The value that they have.
    Value(String),
    /// They have none.
    None,
    /// They are of the groups beyond the limit.
    Other,
}

/// A span of time and what was asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Its first moment.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
    /// The figures of the group's runs that start in it.
    pub figures: Vec<Figure>,
}

/// A figure of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Figure {
    /// There is none: nothing to divide, no value, or no file has the column.
    #[default]
    Unknown,
    /// So many.
    Count(u64),
    /// So many different ones; beyond a number that is an estimate.
    Distinct {
        /// How many.
        n: u64,
        /// Whether that is no estimate.
        is_exact: bool,
    },
    /// A sum of whole numbers.
    Whole(i128),
    /// A value among whole numbers, or a mean of them.
    Thousandths(Thousandths),
    /// A duration, in JSON a number of seconds.
    Seconds(Nanoseconds),
    /// A share of 0 to 1.
    Share(f64),
    /// Any other number.
    Number(f64),
    /// Money.
    Cost(Cost),
    /// A moment.
    Time(Timestamp),
    /// Feedback, a key each.
    Feedback(BTreeMap<String, FeedbackStats>),
    /// Facets.
    Facets(Vec<RunFacet>),
    /// How well an objective is met.
    Attainment(Box<Attainment>),
    /// The id of a run.
    Run(String),
}

/// How well an objective is met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attainment {
    /// The share that should be good.
    pub target: f64,
    /// How many values are good.
    pub good: u64,
    /// How many there are.
    pub total: u64,
    /// The share that is good.
    pub attained: Option<f64>,
    /// How much of what may be bad is left, 1 where nothing is bad, below 0 where too much is.
    pub budget_left: Option<f64>,
    /// The span of time in which the least share is good; without spans, or values, none.
    pub worst: Option<Timestamp>,
}

impl Figure {
    /// Orders figures of one measure; what is unknown is less than anything.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => one.cmp(other),
            (Self::Cost(one), Self::Cost(other)) => one.pico.cmp(&other.pico),
            (Self::Seconds(one), Self::Seconds(other)) => one.cmp(other),
            (Self::Thousandths(one), Self::Thousandths(other)) => one.cmp(other),
            (Self::Time(one), Self::Time(other)) => one.cmp(other),
            (Self::Count(one), Self::Count(other))
            | (Self::Distinct { n: one, .. }, Self::Distinct { n: other, .. }) => one.cmp(other),
            _ => match (self.as_f64(), other.as_f64()) {
                (Some(one), Some(other)) => one.total_cmp(&other),
                (one, other) => one.is_some().cmp(&other.is_some()),
            },
        }
    }

    /// Whether there is no figure.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// As a number, where it is one: seconds, dollars.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "for what needs no more than that"
    )]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Count(n) | Self::Distinct { n, .. } => Some(*n as f64),
            Self::Whole(sum) => Some(*sum as f64),
            Self::Thousandths(value) => Some(value.as_f64()),
            Self::Seconds(time) => Some(time.as_f64()),
            Self::Share(number) | Self::Number(number) => Some(*number),
            Self::Cost(cost) => cost.to_string().parse().ok(),
            Self::Time(time) => Some(time.0 as f64),
            Self::Attainment(attainment) => attainment.attained,
            Self::Unknown | Self::Feedback(_) | Self::Facets(_) | Self::Run(_) => None,
        }
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::Count(n) | Self::Distinct { n, .. } => serializer.serialize_u64(*n),
            Self::Whole(sum) => serializer.serialize_i128(*sum),
            Self::Thousandths(value) => value.serialize(serializer),
            Self::Seconds(time) => time.serialize(serializer),
            Self::Share(number) | Self::Number(number) => serializer.serialize_f64(*number),
            Self::Cost(cost) => cost.serialize(serializer),
            Self::Time(time) => time.serialize(serializer),
            Self::Feedback(keys) => keys.serialize(serializer),
            Self::Facets(facets) => facets.serialize(serializer),
            Self::Attainment(attainment) => attainment.serialize(serializer),
            Self::Run(id) => serializer.serialize_str(id),
        }
    }
}
