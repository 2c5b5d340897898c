//! `TracerSession`: the document of `GET /api/v1/sessions/{session_id}`, a project with its statistics.
//!
//! Keys in the API's order, every key always present, `null` where there is no value.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::value::{Cost, Nanoseconds, Timestamp};

/// A project and the statistics of its traces in a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct TracerSession {
    /// The project's id.
    pub id: Uuid,
    /// The tenant that it belongs to.
    pub tenant_id: Uuid,
    /// When it began: from the metadata, else the earliest start of any of its runs.
    pub start_time: Timestamp,
    /// When it was closed.
    pub end_time: Option<Timestamp>,
    /// What its makers attached to it.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Object>))]
    pub extra: Option<Value>,
    /// Its name; without metadata its id.
    pub name: String,
    /// What its makers say of it.
    pub description: Option<String>,
    /// The dataset that new examples go to.
    pub default_dataset_id: Option<Uuid>,
    /// The dataset that it is an experiment on.
    pub reference_dataset_id: Option<Uuid>,
    /// `longlived` or `shortlived`: how long its traces are kept.
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
    /// Cost of input and output, dollars.
    pub total_cost: Option<Cost>,
    /// Cost of the input.
    pub prompt_cost: Option<Cost>,
    /// Cost of the output.
    pub completion_cost: Option<Cost>,
    /// The latest start of a trace in the window.
    pub last_run_start_time: Option<Timestamp>,
    /// The latest start of a trace as the service keeps it; without metadata as above.
    pub last_run_start_time_live: Option<Timestamp>,
    /// Feedback on the traces' root runs, a key each.
    pub feedback_stats: Option<BTreeMap<String, FeedbackStats>>,
    /// Feedback on the project itself.
    pub session_feedback_stats: Option<BTreeMap<String, FeedbackStats>>,
    /// The most frequent values of names, tags and metadata; empty unless asked for.
    pub run_facets: Option<Vec<RunFacet>>,
    /// Failed traces ÷ traces.
    pub error_rate: Option<f64>,
    /// Completed traces that streamed ÷ completed traces.
    pub streaming_rate: Option<f64>,
    /// Which experiment on its dataset it is, from 1.
    pub test_run_number: Option<i64>,
}

/// What several traces have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct RunFacet {
    /// `name`, `run_type`, `status`, `tag` or `metadata.<key>`.
    pub key: String,
    /// The value, as text.
    pub value: String,
    /// The filter that selects these traces.
    pub query: String,
    /// How many there are.
    pub n: u64,
}

/// The feedback of one key, as v1 of the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct FeedbackStats {
    /// The number of scores; of labels where there is no score.
    pub n: u64,
    /// The mean score.
    pub avg: Option<f64>,
    /// The population's standard deviation.
    pub stdev: Option<f64>,
    /// How often the evaluator failed.
    pub errors: u64,
    /// A hint to the service's pages; always false here.
    pub show_feedback_arrow: bool,
    /// Comments do not aggregate: always empty here.
    pub comments: Vec<Value>,
    /// Neither do sources.
    pub sources: Vec<Value>,
    /// The least score.
    pub session_min_score: Option<f64>,
    /// The greatest score.
    pub session_max_score: Option<f64>,
    /// Label → how often it was given.
    pub values: BTreeMap<String, u64>,
    /// Whether any of it was given to a whole thread.
    pub contains_thread_feedback: bool,
}
