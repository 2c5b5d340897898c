//! Listing: which runs of a request are shown one by one, and in which order.

use std::fmt;
use std::str::FromStr;

use super::{LinkTemplate, Population, unknown_word};
use crate::error::Error;

/// The first runs of a request in some order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Which runs there are.
    pub runs: Population,
    /// What they are sorted by; runs that are equal in it, the latest first, then by id, then by all else
    /// that is listed of them.
    pub by: RunOrder,
    /// The least first. Runs without a value come last either way.
    pub ascending: bool,
    /// How many are shown at most.
    pub limit: usize,
    /// What the address of each run's page is made from.
    pub link: Option<LinkTemplate>,
}

/// What runs are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunOrder {
    /// From start to end.
    Latency,
    /// From start to first token.
    FirstToken,
    /// Tokens, input and output.
    Tokens,
    /// Cost of input and output.
    Cost,
    /// When they began.
    Start,
}

const WORDS: [(&str, RunOrder); 5] = [
    ("latency", RunOrder::Latency),
    ("first_token", RunOrder::FirstToken),
    ("tokens", RunOrder::Tokens),
    ("cost", RunOrder::Cost),
    ("start", RunOrder::Start),
];

impl RunOrder {
    /// Reads an order, and `:asc` or `:desc` after it: whether the least are first. Otherwise the greatest
    /// are.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is none.
    pub fn parse(text: &str) -> Result<(Self, bool), Error> {
        match text.rsplit_once(':') {
            Some((what, "asc")) => Ok((what.parse()?, true)),
            Some((what, "desc")) => Ok((what.parse()?, false)),
            _ => Ok((text.parse()?, false)),
        }
    }
}

impl fmt::Display for RunOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(_, order)| order == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

impl FromStr for RunOrder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = match text {
            "ttft" => "first_token",
            "total_tokens" => "tokens",
            "total_cost" => "cost",
            "start_time" | "time" => "start",
            _ => text,
        };
        let known = WORDS.iter().find(|(known, _)| *known == word);
        let words = WORDS.map(|(word, _)| word);
        known
            .map(|(_, order)| *order)
            .ok_or_else(|| unknown_word("an order of runs", text, &words))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn orders_parse() {
        assert_eq!(RunOrder::parse("cost").unwrap(), (RunOrder::Cost, false));
        assert_eq!(
            RunOrder::parse("start:asc").unwrap(),
            (RunOrder::Start, true)
        );
        for (word, order) in WORDS {
            assert_eq!(
                word.parse::<RunOrder>().unwrap().to_string(),
                word,
                "{order}"
            );
        }
        for wrong in ["", "latnecy", "cost:up", "cost:"] {
            assert!(RunOrder::parse(wrong).is_err(), "{wrong}");
        }
    }
}
