//! Page: a part of the runs of a request, in the order of their starts.

use std::fmt;
use std::str::FromStr;

use super::Population;
use crate::error::Error;

/// A page of runs, with all that is recorded of each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish")]
pub struct RunPage {
    /// Which runs there are.
    pub runs: Population,
    /// The earliest first; else the latest are. Runs that start together are in the order of their ids.
    pub ascending: bool,
    /// How many there are at most.
    pub limit: usize,
    /// The run after which the page begins.
    pub after: Option<RunPlace>,
    /// Whether what they were given is wanted: most of an export's bytes.
    pub inputs: bool,
    /// Whether what they gave is wanted.
    pub outputs: bool,
    /// Whether what happened in them is wanted.
    pub events: bool,
}

/// Where a run stands in that order. As a text it is opaque to others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunPlace {
    /// When it starts, microseconds since 1970.
    pub start_us: i64,
    /// Its id.
    pub id: String,
}

impl fmt::Display for RunPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start_us, self.id)
    }
}

impl FromStr for RunPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let place = text.split_once(':').and_then(|(start_us, id)| {
            let start_us = start_us.parse().ok()?;
            let id = id.to_owned();
            (!id.is_empty()).then_some(Self { start_us, id })
        });
        place.ok_or_else(|| Error::Usage {
            problem: format!("{text:?} is no cursor"),
            hint: Some("give what the page before calls the next one".to_owned()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = RunPlace {
            start_us: -5,
            id: "a:b".to_owned(),
        };
        assert_eq!(place.to_string().parse::<RunPlace>().unwrap(), place);
        for wrong in ["", "5", "5:", ":a", "x:a", "99999999999999999999:a"] {
            assert!(wrong.parse::<RunPlace>().is_err(), "{wrong}");
        }
    }
}
