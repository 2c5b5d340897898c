//! Runs: the canonical table, one row a run, one definition of its columns.
//!
//! A format (`source/format/`) maps what a file has to these columns; everything after it knows no
//! other names. Times are `Timestamp(Microsecond, None)` and mean UTC, costs are whole pico-dollars,
//! ids and text are text views.

pub(crate) mod functions;
pub(crate) mod json;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The type of every canonical time: microseconds since 1970, UTC.
pub(crate) const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The type of lists of texts.
pub(crate) fn texts() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)))
}

/// A column of the canonical table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Column {
    /// The run's id.
    Id,
    /// The project's id.
    SessionId,
    /// The tenant's id.
    TenantId,
    /// The id of the trace that the run belongs to.
    TraceId,
    /// `llm`, `chain`, `tool`, …
    RunType,
    /// When the run began.
    StartTime,
    /// When the run ended; null while it is pending.
    EndTime,
    /// When the first token came; null where nothing was streamed.
    FirstTokenTime,
    /// Whether the run stands for its trace.
    IsRoot,
    /// Whether the run failed.
    IsError,
    /// `longlived` or `shortlived`.
    TraceTier,
    /// The run's feedback summaries, JSON text.
    FeedbackStats,
    /// Tokens, input and output.
    TotalTokens,
    /// Input tokens.
    PromptTokens,
    /// Output tokens.
    CompletionTokens,
    /// Input tokens that were read from a cache.
    CachedTokens,
    /// Output tokens that were spent on reasoning.
    ReasoningTokens,
    /// Cost of input and output, pico-dollars.
    TotalCost,
    /// Cost of the input, pico-dollars.
    PromptCost,
    /// Cost of the output, pico-dollars.
    CompletionCost,
    /// Cost of the input that was read from a cache, pico-dollars.
    CachedCost,
    /// Cost of the output that was spent on reasoning, pico-dollars.
    ReasoningCost,
    /// What the run is called.
    Name,
    /// `success`, `error`, `pending`.
    Status,
    /// What went wrong.
    Error,
    /// The id of the run that called it.
    ParentRunId,
    /// The id of the example that it was run on.
    ReferenceExampleId,
    /// Its tags.
    Tags,
    /// Its metadata, JSON text of an object.
    Metadata,
    /// The model that an LLM run called.
    Model,
    /// Who provides the model.
    Provider,
    /// The user on whose behalf it ran.
    User,
    /// The conversation that it belongs to.
    Thread,
    /// Where it ran: `production`, `staging`, …
    Environment,
    /// The version of the program that ran it.
    Version,
    /// The prompt that it used.
    Prompt,
    /// What it was given, JSON text.
    Inputs,
    /// What it gave, JSON text.
    Outputs,
    /// What happened while it ran, JSON text of a list.
    Events,
    /// What else was recorded of it, JSON text of an object.
    Extra,
    /// The places of its ancestors and its own, in the order of their starts.
    DottedOrder,
    /// The path of the file that it is in.
    File,
    /// The midnight (UTC) of the day on which it started by that path; null where that says none.
    FileDay,
}

impl Column {
    /// The column's name in the canonical table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::SessionId => "session_id",
            Self::TenantId => "tenant_id",
            Self::TraceId => "trace_id",
            Self::RunType => "run_type",
            Self::StartTime => "start_time",
            Self::EndTime => "end_time",
            Self::FirstTokenTime => "first_token_time",
            Self::IsRoot => "is_root",
            Self::IsError => "is_error",
            Self::TraceTier => "trace_tier",
            Self::FeedbackStats => "feedback_stats",
            Self::TotalTokens => "total_tokens",
            Self::PromptTokens => "prompt_tokens",
            Self::CompletionTokens => "completion_tokens",
            Self::CachedTokens => "cached_tokens",
            Self::ReasoningTokens => "reasoning_tokens",
            Self::TotalCost => "total_cost",
            Self::PromptCost => "prompt_cost",
            Self::CompletionCost => "completion_cost",
            Self::CachedCost => "cached_cost",
            Self::ReasoningCost => "reasoning_cost",
            Self::Name => "name",
            Self::Status => "status",
            Self::Error => "error",
            Self::ParentRunId => "parent_run_id",
            Self::ReferenceExampleId => "reference_example_id",
            Self::Tags => "tags",
            Self::Metadata => "metadata",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::User => "user",
            Self::Thread => "thread",
            Self::Environment => "environment",
            Self::Version => "version",
            Self::Prompt => "prompt",
            Self::Inputs => "inputs",
            Self::Outputs => "outputs",
            Self::Events => "events",
            Self::Extra => "extra",
            Self::DottedOrder => "dotted_order",
            Self::File => "file",
            Self::FileDay => "file_day",
        }
    }

    /// Whether its values are ids.
    pub(crate) const fn is_id(self) -> bool {
        matches!(
            self,
            Self::Id
                | Self::SessionId
                | Self::TenantId
                | Self::TraceId
                | Self::ParentRunId
                | Self::ReferenceExampleId
        )
    }

    /// The column's one type.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Id
            | Self::SessionId
            | Self::TenantId
            | Self::TraceId
            | Self::RunType
            | Self::TraceTier
            | Self::FeedbackStats
            | Self::Name
            | Self::Status
            | Self::Error
            | Self::ParentRunId
            | Self::ReferenceExampleId
            | Self::Metadata
            | Self::Model
            | Self::Provider
            | Self::User
            | Self::Thread
            | Self::Environment
            | Self::Version
            | Self::Prompt
            | Self::Inputs
            | Self::Outputs
            | Self::Events
            | Self::Extra
            | Self::DottedOrder
            | Self::File => DataType::Utf8View,
            Self::Tags => texts(),
            Self::StartTime | Self::EndTime | Self::FirstTokenTime | Self::FileDay => TIME,
            Self::IsRoot | Self::IsError => DataType::Boolean,
            Self::TotalTokens
            | Self::PromptTokens
            | Self::CompletionTokens
            | Self::CachedTokens
            | Self::ReasoningTokens
            | Self::TotalCost
            | Self::PromptCost
            | Self::CompletionCost
            | Self::CachedCost
            | Self::ReasoningCost => DataType::Int64,
        }
    }
}

/// The canonical table's schema, narrowed to some columns.
pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|column| Field::new(column.name(), column.data_type(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
