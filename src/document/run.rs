//! A run as a line of a list.

use serde::Serialize;

use super::value::{Cost, Nanoseconds, Timestamp};

/// A run, or a trace by its root, and its figures. What a trace used is what all its runs used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunLine {
    /// The run's id.
    pub id: Option<String>,
    /// The id of its trace.
    pub trace_id: Option<String>,
    /// The id of its project.
    pub session_id: String,
    /// How its project is called.
    pub project: String,
    /// What it is called.
    pub name: Option<String>,
    /// `llm`, `chain`, `tool`, …
    pub run_type: Option<String>,
    /// `success`, `error`, `pending`.
    pub status: Option<String>,
    /// When it began.
    pub start_time: Timestamp,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// From its start to its end, seconds.
    pub latency: Option<Nanoseconds>,
    /// From its start to its first token, seconds.
    pub first_token: Option<Nanoseconds>,
    /// Tokens, input and output.
    pub total_tokens: Option<i128>,
    /// Input tokens.
    pub prompt_tokens: Option<i128>,
    /// Output tokens.
    pub completion_tokens: Option<i128>,
    /// Cost of input and output, dollars.
    pub total_cost: Option<Cost>,
    /// Cost of the input.
    pub prompt_cost: Option<Cost>,
    /// Cost of the output.
    pub completion_cost: Option<Cost>,
    /// The class of its error: the text before the first `:` or `(`.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// The model that it called.
    pub model: Option<String>,
    /// The user that it worked for.
    pub user: Option<String>,
    /// The conversation that it belongs to.
    pub thread: Option<String>,
    /// Its page, where a template of its address was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}
