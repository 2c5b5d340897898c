//! `Session`: the document of `GET /api/v2/sessions/{session_id}`, made from that of v1.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::session::{RunFacet, TracerSession};
use super::value::{Cost, CostFormat, Nanoseconds, Timestamp};
use crate::tally::feedback::Feedback;

/// A project and the statistics of its traces in a window, as v2 of the API shows them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct Session {
    /// The project's id.
    pub id: Uuid,
    /// The tenant that it belongs to.
    pub tenant_id: Uuid,
    /// `EXPERIMENT` where it is one on a dataset, else `PROJECT`.
    pub r#type: &'static str,
    /// Its name; without metadata its id.
    pub name: String,
    /// When it began.
    pub start_time: Timestamp,
    /// When it was closed.
    pub end_time: Option<Timestamp>,
    /// What its makers attached to it.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Object>))]
    pub extra: Option<Value>,
    /// What its makers say of it.
    pub description: Option<String>,
    /// The dataset that new examples go to.
    pub default_dataset_id: Option<Uuid>,
    /// The dataset that it is an experiment on.
    pub reference_dataset_id: Option<Uuid>,
    /// `LONG_LIVED` or `SHORT_LIVED`.
    pub trace_tier: Option<&'static str>,
    /// The number of traces.
    pub run_count: Option<u64>,
    /// Median latency of completed traces, seconds.
    pub latency_p50: Option<Nanoseconds>,
    /// 99th percentile of the same.
    pub latency_p99: Option<Nanoseconds>,
    /// Median time to first token, seconds.
    pub first_token_p50: Option<Nanoseconds>,
    /// 99th percentile of the same.
    pub first_token_p99: Option<Nanoseconds>,
    /// Tokens, input and output.
    #[cfg_attr(feature = "serve", schema(value_type = Option<i64>))]
    pub total_tokens: Option<i128>,
    /// Input tokens.
    #[cfg_attr(feature = "serve", schema(value_type = Option<i64>))]
    pub prompt_tokens: Option<i128>,
    /// Output tokens.
    #[cfg_attr(feature = "serve", schema(value_type = Option<i64>))]
    pub completion_tokens: Option<i128>,
    /// Cost of input and output, dollars, a number.
    #[cfg_attr(feature = "serve", schema(value_type = Option<f64>))]
    pub total_cost: Option<Cost>,
    /// Cost of the input.
    #[cfg_attr(feature = "serve", schema(value_type = Option<f64>))]
    pub prompt_cost: Option<Cost>,
    /// Cost of the output.
    #[cfg_attr(feature = "serve", schema(value_type = Option<f64>))]
    pub completion_cost: Option<Cost>,
    /// The latest start of a trace in the window.
    pub last_run_start_time: Option<Timestamp>,
    /// The latest start of a trace as the service keeps it.
    pub last_run_start_time_live: Option<Timestamp>,
    /// Feedback on the traces' root runs, a key each.
    pub feedback_stats: Option<BTreeMap<String, SessionFeedbackStat>>,
    /// Feedback on the project itself.
    pub session_feedback_stats: Option<BTreeMap<String, SessionFeedbackStat>>,
    /// The most frequent values of names, tags and metadata; empty unless asked for.
    pub run_facets: Option<Vec<RunFacet>>,
    /// Failed traces ÷ traces.
    pub error_rate: Option<f64>,
    /// Completed traces that streamed ÷ completed traces.
    pub streaming_rate: Option<f64>,
    /// Which experiment on its dataset it is, from 1.
    pub test_run_number: Option<i64>,
}

/// The feedback of one key, as v2 of the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct SessionFeedbackStat {
    /// The number of scores; of labels where there is no score.
    pub n: u64,
    /// The mean score.
    pub avg: Option<f64>,
    /// The least score.
    pub min: Option<f64>,
    /// The greatest score.
    pub max: Option<f64>,
    /// The median score.
    pub median: Option<f64>,
    /// The sample's standard deviation; none below two scores.
    pub stdev: Option<f64>,
    /// How often the evaluator failed.
    pub errors: u64,
    /// Label → how often it was given.
    pub values: BTreeMap<String, u64>,
    /// Whether any of it was given to a whole thread.
    pub contains_thread_feedback: bool,
    /// Always `PRIMARY`: none is composed of other keys.
    pub r#type: &'static str,
}

impl Session {
    /// A document of v1 in the words of v2, with the feedback that both are made of.
    pub(crate) fn of(
        session: TracerSession,
        feedback: Option<&Feedback>,
        on_session: &Feedback,
    ) -> Self {
        let number = |cost: Option<Cost>| {
            cost.map(|cost| Cost {
                format: CostFormat::Number,
                ..cost
            })
        };
        let on_session = session.session_feedback_stats.map(|_| stats(on_session));
        Self {
            id: session.id,
            tenant_id: session.tenant_id,
            r#type: match session.reference_dataset_id {
                Some(_) => "EXPERIMENT",
                None => "PROJECT",
            },
            name: session.name,
            start_time: session.start_time,
            end_time: session.end_time,
            extra: session.extra,
            description: session.description,
            default_dataset_id: session.default_dataset_id,
            reference_dataset_id: session.reference_dataset_id,
            trace_tier: session.trace_tier.map(|tier| match tier {
                "longlived" => "LONG_LIVED",
                _ => "SHORT_LIVED",
            }),
            run_count: session.run_count,
            latency_p50: session.latency_p50,
            latency_p99: session.latency_p99,
            first_token_p50: session.first_token_p50,
            first_token_p99: session.first_token_p99,
            total_tokens: session.total_tokens,
            prompt_tokens: session.prompt_tokens,
            completion_tokens: session.completion_tokens,
            total_cost: number(session.total_cost),
            prompt_cost: number(session.prompt_cost),
            completion_cost: number(session.completion_cost),
            last_run_start_time: session.last_run_start_time,
            last_run_start_time_live: session.last_run_start_time_live,
            feedback_stats: session.feedback_stats.and_then(|_| feedback.map(stats)),
            session_feedback_stats: on_session,
            run_facets: session.run_facets,
            error_rate: session.error_rate,
            streaming_rate: session.streaming_rate,
            test_run_number: session.test_run_number,
        }
    }
}

fn stats(feedback: &Feedback) -> BTreeMap<String, SessionFeedbackStat> {
    let keys = feedback.stats().into_iter().map(|(key, stats)| {
        let stat = SessionFeedbackStat {
            n: stats.n,
            avg: stats.avg,
            min: stats.min,
            max: stats.max,
            median: stats.median,
            stdev: stats.stdev_sample,
            errors: stats.errors,
            values: stats.values,
            contains_thread_feedback: stats.contains_thread_feedback,
            r#type: "PRIMARY",
        };
        (key, stat)
    });
    keys.collect()
}
