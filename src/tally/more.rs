//! More: what a tally has beside a document's parts, where a question asks for it.
//!
//! Which parts there are follows from the question alone, not from the runs; two tallies that are merged
//! answer the same one. A part without a value is left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::distinct::Distinct;
use super::exemplars::Exemplars;
use super::sketch::Sketch;
use super::{TallyColumn, overflow};
use crate::error::{Error, Result};

/// Further parts of a tally, a column each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct More(BTreeMap<TallyColumn, Part>);

/// A part of a tally.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// A count or a sum.
    Sum(i128),
    /// The least of some moments.
    Least(i64),
    /// The distribution of some values.
    Sketch(Sketch),
    /// How many different ones there are.
    Distinct(Distinct),
    /// Runs that stand for the values of a distribution.
    Exemplars(Exemplars),
}

impl More {
    pub(super) fn set(&mut self, column: TallyColumn, part: Part) {
        self.0.insert(column, part);
    }

    pub(super) fn get(&self, column: TallyColumn) -> Option<&Part> {
        self.0.get(&column)
    }

    pub(super) fn merge(&mut self, other: &Self) -> Result<()> {
        for (column, more) in &other.0 {
            match self.0.entry(*column) {
                Entry::Vacant(entry) => {
                    entry.insert(more.clone());
                }
                Entry::Occupied(mut entry) => entry.get_mut().merge(more)?,
            }
        }
        Ok(())
    }

    pub(crate) fn sum(&self, column: TallyColumn) -> Option<i128> {
        match self.0.get(&column) {
            Some(Part::Sum(sum)) => Some(*sum),
            _ => None,
        }
    }

    /// A count, which is zero where nothing was counted.
    pub(crate) fn count(&self, column: TallyColumn) -> u64 {
        let count = self.sum(column).unwrap_or(0);
        u64::try_from(count).unwrap_or(0)
    }

    pub(crate) fn least(&self, column: TallyColumn) -> Option<i64> {
        match self.0.get(&column) {
            Some(Part::Least(moment)) => Some(*moment),
            _ => None,
        }
    }

    pub(crate) fn sketch(&self, column: TallyColumn) -> Option<&Sketch> {
        match self.0.get(&column) {
            Some(Part::Sketch(sketch)) => Some(sketch),
            _ => None,
        }
    }

    pub(crate) fn distinct(&self, column: TallyColumn) -> Option<&Distinct> {
        match self.0.get(&column) {
            Some(Part::Distinct(distinct)) => Some(distinct),
            _ => None,
        }
    }

    pub(crate) fn exemplars(&self, column: TallyColumn) -> Option<&Exemplars> {
        match self.0.get(&column) {
            Some(Part::Exemplars(exemplars)) => Some(exemplars),
            _ => None,
        }
    }
}

impl Part {
    /// The bytes of what is kept as such.
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Sum(_) | Self::Least(_) => None,
            Self::Sketch(sketch) => Some(sketch.to_bytes()),
            Self::Distinct(distinct) => Some(distinct.to_bytes()),
            Self::Exemplars(exemplars) => Some(exemplars.to_bytes()),
        }
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        match (self, other) {
            (Self::Sum(sum), Self::Sum(more)) => {
                *sum = sum.checked_add(*more).ok_or_else(|| overflow("sum"))?;
                Ok(())
            }
            (Self::Least(least), Self::Least(other)) => {
                *least = (*least).min(*other);
                Ok(())
            }
            (Self::Sketch(sketch), Self::Sketch(more)) => sketch.merge(more).map_err(bad),
            (Self::Distinct(distinct), Self::Distinct(more)) => {
                distinct.merge(more);
                Ok(())
            }
            (Self::Exemplars(exemplars), Self::Exemplars(more)) => {
                exemplars.merge(more);
                Ok(())
            }
            _ => Err(Error::BadData {
                problem: "tallies of different questions cannot be merged".to_owned(),
            }),
        }
    }
}

fn bad(error: impl std::error::Error) -> Error {
    Error::BadData {
        problem: error.to_string(),
    }
}
