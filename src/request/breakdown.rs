//! Breakdown: which runs of a request are looked at, how they are split, and which figures are asked for.

use std::fmt;
use std::str::FromStr;

use super::{Every, Key, Measure};
use crate::error::Error;

/// How the runs of a request are split, and what of each group is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakdown {
    /// Which runs count.
    pub runs: Population,
    /// What they are grouped by; all of them together where there is nothing.
    pub by: Vec<Key>,
    /// Spans of time into which each group is split.
    pub every: Option<Every>,
    /// The figures of each group, each once.
    pub measures: Vec<Measure>,
    /// What the groups are sorted by.
    pub sort: Sort,
    /// How many groups there are at most; the others together are one more.
    pub limit: Option<usize>,
}

/// What groups are sorted by; groups that are equal in it, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The figure, or the groups' names.
    pub by: SortBy,
    /// The least first.
    pub ascending: bool,
}

/// What groups are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// A figure; groups without it come last.
    Measure(Measure),
    /// The value of the key in this place.
    Key(usize),
}

/// Which runs count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Population {
    /// Traces, each standing for its root.
    #[default]
    Traces,
    /// Runs of a type: `llm`, `tool`, `retriever`, …
    Type(String),
    /// The direct children of roots.
    Steps,
    /// Every run.
    All,
}

impl Breakdown {
    /// The place of a measure's figure among a group's figures.
    #[must_use]
    pub fn place(&self, measure: &Measure) -> Option<usize> {
        self.measures.iter().position(|other| other == measure)
    }
}

impl Population {
    /// Whether it can hold both a run and one below it, so that usage would be counted twice if each
    /// counted what its descendants used.
    #[must_use]
    pub fn can_nest(&self) -> bool {
        /// What these call is no run of its own.
        const LEAVES: [&str; 5] = ["llm", "retriever", "embedding", "prompt", "parser"];
        match self {
            Self::Traces | Self::Steps => false,
            Self::Type(run_type) => !LEAVES.contains(&run_type.as_str()),
            Self::All => true,
        }
    }

    /// Whether usage depends on which runs it is told from: one of them alone, or those below it too.
    pub(crate) fn has_usage_rule(&self) -> bool {
        *self == Self::Traces || self.can_nest()
    }

    /// What one of them is called, and several.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Traces => "traces",
            _ => "runs",
        }
    }
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traces => "root",
            Self::Type(run_type) => run_type,
            Self::Steps => "steps",
            Self::All => "all",
        })
    }
}

impl FromStr for Population {
    type Err = Error;

    /// Reads a population: `root`, `all`, `steps`, or a type of runs such as `llm` or `tool`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim() {
            "root" | "roots" | "traces" | "trace" => Ok(Self::Traces),
            "all" | "any" => Ok(Self::All),
            "step" | "steps" => Ok(Self::Steps),
            "" => Err(Error::Usage {
                problem: "no runs are named".to_owned(),
                hint: Some("write root, all, steps, or a type such as llm or tool".to_owned()),
            }),
            run_type => Ok(Self::Type(run_type.to_lowercase())),
        }
    }
}

impl Sort {
    /// The most runs first.
    #[must_use]
    pub fn by_runs() -> Self {
        Self::by_measure(Measure::Count(super::Count::Runs))
    }

    /// The greatest first.
    #[must_use]
    pub fn by_measure(measure: Measure) -> Self {
        Self {
            by: SortBy::Measure(measure),
            ascending: false,
        }
    }

    /// Reads what to sort by: a measure, or one of the keys, and `:asc` or `:desc` after it. Measures
    /// have their greatest first otherwise, keys their least.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is neither.
    pub fn parse(text: &str, by: &[Key]) -> Result<Self, Error> {
        let (what, order) = match text.rsplit_once(':') {
            Some((what, "asc")) => (what, Some(true)),
            Some((what, "desc")) => (what, Some(false)),
            _ => (text, None),
        };
        let key = by.iter().position(|key| key.to_string() == what);
        let key = key.or_else(|| {
            what.parse()
                .ok()
                .and_then(|what: Key| by.iter().position(|key| *key == what))
        });
        if let Some(place) = key {
            return Ok(Self {
                by: SortBy::Key(place),
                ascending: order.unwrap_or(true),
            });
        }
        match what.parse() {
            Ok(measure) => Ok(Self {
                by: SortBy::Measure(measure),
                ascending: order.unwrap_or(false),
            }),
            Err(_) if what.parse::<Key>().is_ok() => Err(Error::Usage {
                problem: format!("{what:?} is not among the keys to group by"),
                hint: Some(format!(
                    "add --group-by {what}, or sort by a measure such as cost"
                )),
            }),
            Err(error) => Err(error),
        }
    }
}
