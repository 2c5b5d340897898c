//! Overview: what a table says of a project, or of all of them together, beside the document's fields.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use uuid::Uuid;

use super::assemble::{Known, cost, rate, seconds, tokens};
use super::value::{Cost, Nanoseconds};
use crate::request::Usage;
use crate::tally::Tally;
use crate::tally::sketch::{Quantile, Sketch};

/// A project's figures as a line of a table has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// The project; none for the total.
    pub id: Option<Uuid>,
    /// Its name, or its id where it has none.
    pub name: String,
    /// The number of traces.
    pub n_traces: u64,
    /// Those that failed; unknown where no file says.
    pub n_errors: Option<u64>,
    /// Their share.
    pub error_rate: Option<f64>,
    /// Latency of completed traces.
    pub latency: Distribution,
    /// Time to first token.
    pub first_token: Distribution,
    /// Tokens, input and output; unknown where no file has them.
    pub tokens: Option<i128>,
    /// Cost of input and output.
    pub cost: Option<Cost>,
    /// Traces a day, in the zone that was asked for; days without any are left out.
    pub days: BTreeMap<NaiveDate, u64>,
    /// Which runs' tokens and costs were summed; [`Usage::Auto`] for a total over projects of both kinds.
    pub usage: Usage,
}

/// Percentiles and how many values they are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The number of values.
    pub n: u64,
    /// The median.
    pub p50: Option<Nanoseconds>,
    /// The 95th percentile.
    pub p95: Option<Nanoseconds>,
    /// The 99th percentile.
    pub p99: Option<Nanoseconds>,
}

impl Overview {
    pub(crate) fn new(
        id: Option<Uuid>,
        name: String,
        known: &Known,
        tally: &Tally,
        days: BTreeMap<NaiveDate, u64>,
        usage: Usage,
    ) -> Self {
        Self {
            id,
            name,
            n_traces: tally.n_traces,
            n_errors: known.says.errors.then_some(tally.n_errors),
            error_rate: rate(known.says.errors, tally.n_errors, tally.n_traces),
            latency: Distribution::of(&tally.latency_us),
            first_token: Distribution::of(&tally.first_token_us),
            tokens: tokens(known.says.total_tokens, tally.tokens.total),
            cost: tally.cost_pico.total.map(cost),
            days,
            usage,
        }
    }
}

impl Distribution {
    fn of(sketch: &Sketch) -> Self {
        Self {
            n: sketch.count(),
            p50: seconds(sketch, Quantile::P50),
            p95: seconds(sketch, Quantile::P95),
            p99: seconds(sketch, Quantile::P99),
        }
    }
}
