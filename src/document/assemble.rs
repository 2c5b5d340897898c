//! A project's metadata and its tally → its document: the only place that knows both sides.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::figures::Says;
use super::session::{FeedbackStats, RunFacet, TracerSession};
use super::value::{Cost, CostFormat, Nanoseconds, Timestamp};
use crate::filter::Filter;
use crate::source::projects::Project;
use crate::tally::facets::{Facets, METADATA};
use crate::tally::feedback::Feedback;
use crate::tally::sketch::{Quantile, Sketch};
use crate::tally::{Tally, TraceTier};

/// What the runs say of a project beside their statistics: what a document falls back on, and which of
/// its figures are unknown because no file has the columns that they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The tenant of its runs; the smallest where there are several.
    pub(crate) tenant_id: Uuid,
    /// The earliest start of any of its runs, microseconds since 1970.
    pub(crate) start_us: i64,
    /// Which of its figures are known.
    pub(crate) says: Says,
}

/// Assembles a document. Without a tally no statistics were asked for, and all of them are `null`.
pub(crate) fn assemble(
    id: Uuid,
    known: &Known,
    metadata: Option<&Project>,
    tally: Option<&Tally>,
    facets: &Facets,
    session_feedback: &Feedback,
) -> TracerSession {
    let cost = |pico: fn(&Tally) -> Option<i128>| tally.and_then(pico).map(cost);
    let tokens = |is_known: bool, sum: fn(&Tally) -> Option<i128>| {
        tally.and_then(|tally| tokens(is_known, sum(tally)))
    };
    let percentile = |sketch: fn(&Tally) -> &Sketch, quantile: Quantile| {
        tally.and_then(|tally| seconds(sketch(tally), quantile))
    };
    let last_start = tally.and_then(|tally| tally.last_start_us).map(Timestamp);
    let live = metadata.and_then(|project| project.last_run_start_time_live);
    let tier = metadata
        .and_then(|project| project.trace_tier)
        .or_else(|| tally?.trace_tier);
    TracerSession {
        id,
        tenant_id: known.tenant_id,
        start_time: Timestamp(
            metadata
                .and_then(|project| project.start_time)
                .unwrap_or(known.start_us),
        ),
        end_time: metadata.and_then(|project| project.end_time).map(Timestamp),
        extra: metadata
            .and_then(|project| project.extra.clone())
            .map(Value::Object),
        name: metadata
            .and_then(|project| project.name.clone())
            .unwrap_or_else(|| id.to_string()),
        description: metadata.and_then(|project| project.description.clone()),
        default_dataset_id: metadata.and_then(|project| project.default_dataset_id),
        reference_dataset_id: metadata.and_then(|project| project.reference_dataset_id),
        trace_tier: tier.map(TraceTier::as_str),
        run_count: tally.map(|tally| tally.n_traces),
        latency_p50: percentile(|tally| &tally.latency_us, Quantile::P50),
        latency_p99: percentile(|tally| &tally.latency_us, Quantile::P99),
        first_token_p50: percentile(|tally| &tally.first_token_us, Quantile::P50),
        first_token_p99: percentile(|tally| &tally.first_token_us, Quantile::P99),
        total_tokens: tokens(known.says.total_tokens, |tally| tally.tokens.total),
        prompt_tokens: tokens(known.says.prompt_tokens, |tally| tally.tokens.prompt),
        completion_tokens: tokens(known.says.completion_tokens, |tally| {
            tally.tokens.completion
        }),
        total_cost: cost(|tally| tally.cost_pico.total),
        prompt_cost: cost(|tally| tally.cost_pico.prompt),
        completion_cost: cost(|tally| tally.cost_pico.completion),
        last_run_start_time: last_start,
        last_run_start_time_live: live.map(Timestamp).or(last_start),
        feedback_stats: tally.map(|tally| feedback_stats(&tally.feedback)),
        session_feedback_stats: tally.map(|_| feedback_stats(session_feedback)),
        run_facets: tally.map(|_| run_facets(facets)),
        error_rate: tally.and_then(|tally| rate(known.says.errors, tally.n_errors, tally.n_traces)),
        streaming_rate: tally
            .and_then(|tally| rate(known.says.streaming, tally.n_streamed, tally.n_completed)),
        test_run_number: metadata.and_then(|project| project.test_run_number),
    }
}

pub(super) fn run_facets(facets: &Facets) -> Vec<RunFacet> {
    let facets = facets.all().into_iter().filter_map(|facet| {
        let filter = match facet.key {
            "name" => Filter::run_name(facet.value),
            "run_type" => Filter::run_type(facet.value),
            "status" => Filter::status(facet.value),
            "tag" => Filter::tag(facet.value),
            key => Filter::metadata(key.strip_prefix(METADATA)?, facet.value),
        };
        Some(RunFacet {
            key: facet.key.to_owned(),
            value: facet.value.to_owned(),
            query: filter.to_string(),
            n: facet.n,
        })
    });
    facets.collect()
}

pub(super) fn feedback_stats(feedback: &Feedback) -> BTreeMap<String, FeedbackStats> {
    let keys = feedback.stats().into_iter().map(|(key, stats)| {
        let stats = FeedbackStats {
            n: stats.n,
            avg: stats.avg,
            stdev: stats.stdev,
            errors: stats.errors,
            show_feedback_arrow: false,
            comments: Vec::new(),
            sources: Vec::new(),
            session_min_score: stats.min,
            session_max_score: stats.max,
            values: stats.values,
            contains_thread_feedback: stats.contains_thread_feedback,
        };
        (key, stats)
    });
    keys.collect()
}

/// An amount of pico-dollars.
pub(crate) fn cost(pico: i128) -> Cost {
    Cost {
        pico,
        format: CostFormat::default(),
    }
}

/// A sum of tokens: zero where no trace carries any, unknown where no file has the column.
pub(super) fn tokens(is_known: bool, sum: Option<i128>) -> Option<i128> {
    is_known.then(|| sum.unwrap_or(0))
}

/// A percentile of microseconds.
pub(super) fn seconds(sketch: &Sketch, quantile: Quantile) -> Option<Nanoseconds> {
    sketch.quantile_thousandths(quantile).map(Nanoseconds)
}

/// A share of a count; unknown where there is nothing to share, or no file says.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2⁵³ are rounded once, as the quotient is"
)]
pub(super) fn rate(is_known: bool, part: u64, whole: u64) -> Option<f64> {
    (is_known && whole > 0).then(|| part as f64 / whole as f64)
}
