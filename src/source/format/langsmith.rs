//! LangSmith's bulk export: Parquet with the names of the API's run fields.

use super::{Entries, Format, Mapping, Rule};
use crate::runs::Column;

/// The entries of details that say what was read from a cache.
const CACHED: &[&str] = &["cache_read*", "cached", "cached_tokens"];
/// The entries of details that say what reasoning took.
const REASONING: &[&str] = &["reasoning*"];

/// Where details lie in a column of theirs.
const DETAILS: &[&[&str]] = &[&["raw"], &[]];
/// Where they lie in `extra`.
const INPUT_TOKENS: &[&[&str]] = &[&["metadata", "usage_metadata", "input_token_details"]];
const OUTPUT_TOKENS: &[&[&str]] = &[&["metadata", "usage_metadata", "output_token_details"]];
const INPUT_COST: &[&[&str]] = &[&["metadata", "usage_metadata", "input_cost_details"]];
const OUTPUT_COST: &[&[&str]] = &[&["metadata", "usage_metadata", "output_cost_details"]];

/// Both layouts (v1 and `v2_beta`) and whatever was converted from them.
pub(super) const FORMAT: Format = Format {
    name: "langsmith",
    about: "LangSmith's bulk exports (Parquet, both layouts, converted ones too), and runs of its API in \
            JSON: one a line, lists, pages (runs, data, items), children in their parents; gzip and zstd",
    mappings: &[
        from(Column::Id, &[Rule::Values("id")]),
        from(Column::SessionId, &[Rule::Values("session_id")]),
        from(Column::TenantId, &[Rule::Values("tenant_id")]),
        from(
            Column::TraceId,
            &[Rule::Values("trace_id"), Rule::FirstSegment("dotted_order")],
        ),
        from(Column::RunType, &[Rule::Values("run_type")]),
        from(Column::StartTime, &[Rule::Values("start_time")]),
        from(Column::EndTime, &[Rule::Values("end_time")]),
        from(Column::FirstTokenTime, &[Rule::Values("first_token_time")]),
        from(
            Column::IsRoot,
            &[
                Rule::Flag("is_root"),
                Rule::NoValue("parent_run_id"),
                Rule::OneSegment("dotted_order"),
                Rule::Same("trace_id", "id"),
            ],
        ),
        from(
            Column::IsError,
            &[Rule::TextIs("status", "error"), Rule::HasValue("error")],
        ),
        from(Column::TraceTier, &[Rule::Values("trace_tier")]),
        from(Column::FeedbackStats, &[Rule::Values("feedback_stats")]),
        from(Column::TotalTokens, &[Rule::Values("total_tokens")]),
        from(Column::PromptTokens, &[Rule::Values("prompt_tokens")]),
        from(
            Column::CompletionTokens,
            &[Rule::Values("completion_tokens")],
        ),
        from(Column::TotalCost, &[Rule::Values("total_cost")]),
        from(Column::PromptCost, &[Rule::Values("prompt_cost")]),
        from(Column::CompletionCost, &[Rule::Values("completion_cost")]),
        from(Column::Name, &[Rule::Values("name")]),
        from(Column::Status, &[Rule::Values("status")]),
        from(Column::Error, &[Rule::Values("error")]),
        from(Column::ParentRunId, &[Rule::Values("parent_run_id")]),
        from(
            Column::ReferenceExampleId,
            &[Rule::Values("reference_example_id")],
        ),
        from(Column::Tags, &[Rule::Values("tags")]),
        from(Column::Metadata, &[Rule::Member("extra", "metadata")]),
        from(
            Column::Model,
            &[metadata(&["ls_model_name", "model_name", "model"])],
        ),
        from(Column::Provider, &[metadata(&["ls_provider", "provider"])]),
        from(Column::User, &[metadata(&["user_id", "user"])]),
        from(
            Column::Thread,
            &[metadata(&["session_id", "thread_id", "conversation_id"])],
        ),
        from(Column::Environment, &[metadata(&["environment", "env"])]),
        from(
            Column::Version,
            &[metadata(&["revision_id", "version", "release"])],
        ),
        from(
            Column::Prompt,
            &[metadata(&["prompt_name", "lc_hub_repo", "prompt"])],
        ),
        from(
            Column::CachedTokens,
            &[
                entries("prompt_token_details", DETAILS, CACHED),
                entries("extra", INPUT_TOKENS, CACHED),
            ],
        ),
        from(
            Column::ReasoningTokens,
            &[
                entries("completion_token_details", DETAILS, REASONING),
                entries("extra", OUTPUT_TOKENS, REASONING),
            ],
        ),
        from(
            Column::CachedCost,
            &[
                entries("prompt_cost_details", DETAILS, CACHED),
                entries("extra", INPUT_COST, CACHED),
            ],
        ),
        from(
            Column::ReasoningCost,
            &[
                entries("completion_cost_details", DETAILS, REASONING),
                entries("extra", OUTPUT_COST, REASONING),
            ],
        ),
        from(Column::Inputs, &[Rule::Values("inputs")]),
        from(Column::Outputs, &[Rule::Values("outputs")]),
        from(Column::Events, &[Rule::Values("events")]),
        from(Column::Extra, &[Rule::Values("extra")]),
        from(Column::DottedOrder, &[Rule::Values("dotted_order")]),
    ],
};

const fn from(to: Column, rules: &'static [Rule]) -> Mapping {
    Mapping { to, rules }
}

const fn metadata(names: &'static [&'static str]) -> Rule {
    Rule::FirstOf("extra", "metadata", names)
}

const fn entries(
    column: &'static str,
    below: &'static [&'static [&'static str]],
    names: &'static [&'static str],
) -> Rule {
    Rule::Entries(Entries {
        column,
        below,
        names,
    })
}
