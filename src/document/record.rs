//! A run with all that is recorded of it, as `POST /runs/query` answers it.

use serde::Serialize;
use serde_json::Value;

use super::value::{Cost, Timestamp};

/// A run. Tokens and costs are those that it carries: a root's contain those of the runs below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema))]
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// `llm`, `chain`, `tool`, …
    pub run_type: String,
    /// When it began.
    pub start_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// `success`, `error`, `pending`.
    pub status: Option<String>,
    /// The project.
    pub session_id: String,
    /// The tenant.
    pub tenant_id: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// The run that called it.
    pub parent_run_id: Option<String>,
    /// Whether it stands for its trace.
    pub is_root: Option<bool>,
    /// The places of its ancestors and its own, in the order of their starts.
    pub dotted_order: String,
    /// The example that it was run on.
    pub reference_example_id: Option<String>,
    /// When its first token came.
    pub first_token_time: Option<Timestamp>,
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
    /// What went wrong.
    pub error: Option<String>,
    /// Its tags.
    pub tags: Option<Vec<String>>,
    /// What else was recorded: metadata, runtime.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Object>))]
    pub extra: Option<Value>,
    /// Summaries of the feedback on it.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Object>))]
    pub feedback_stats: Option<Value>,
    /// How long its trace is kept.
    pub trace_tier: Option<String>,
    /// What it was given.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Object>))]
    pub inputs: Option<Value>,
    /// What it gave.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Object>))]
    pub outputs: Option<Value>,
    /// What happened in it.
    #[cfg_attr(feature = "serve", schema(value_type = Option<Vec<Object>>))]
    pub events: Option<Value>,
}

/// A JSON object, as text; what is none is a value under a name, as the API's clients want objects.
pub(crate) fn object(text: Option<&str>, name: &str) -> Option<Value> {
    let text = text.filter(|text| !text.is_empty())?;
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match value {
        Value::Null | Value::Object(_) => Some(value).filter(|value| !value.is_null()),
        other => Some(serde_json::json!({ name: other })),
    }
}

/// A JSON list of objects, as text.
pub(crate) fn objects(text: Option<&str>) -> Option<Value> {
    let value: Value = serde_json::from_str(text?).ok()?;
    let are_objects = value.as_array()?.iter().all(Value::is_object);
    are_objects.then_some(value)
}
