//! `GET /openapi.json`: the API's description, made from the types of its parameters and answers.

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Value, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};
use uuid::Uuid;

use super::failure::{Detail, Problem, Problems};
use super::{about, metrics, runs, sessions, sessions_v2, stats};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "runtally",
        description = "LangSmith's project statistics, computed from raw run logs. Routes of v1 are there \
                       under /api/v1 too."
    ),
    paths(
        sessions::one,
        sessions::list,
        sessions_v2::one,
        sessions_v2::list,
        runs::stats,
        runs::query,
        stats::stats,
        metrics::metrics,
        about::info,
        about::healthz,
        about::readyz,
        document
    ),
    components(schemas(Detail, Problem, Problems)),
    modifiers(&WithKey),
)]
struct Description;

/// The scheme by which keys are sent.
struct WithKey;

impl Modify for WithKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::ApiKey(key));
    }
}

#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    summary = "This description",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Turned),
)]
pub(super) async fn document() -> Json<Value> {
    let described = serde_json::to_value(Description::openapi());
    Json(described.unwrap_or_else(|_| json!({})))
}

fn failure(schema: &str, description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema)));
    let response = ResponseBuilder::new().description(description);
    response
        .content("application/json", content.build())
        .build()
        .into()
}

/// What every route may answer beside what is asked: the status, the shape of the body, what it says.
macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident: $(($status:literal, $schema:literal, $description:literal))*;)*) => {
        $($(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), failure($schema, $description))),*].into()
            }
        })*
    };
}

failures! {
    /// It was sent to another name than this server's.
    WrongHost:
        ("403", "Detail", "It was sent to another host");
    /// It was turned away before it came to a route that needs no key.
    Turned:
        ("403", "Detail", "It was sent to another host")
        ("503", "Detail", "There is too much to do; try again after Retry-After seconds");
    /// What every route that needs a key may answer.
    Failed:
        ("401", "Detail", "No key, or one that is not valid")
        ("403", "Detail", "It was sent to another host")
        ("422", "Problems", "A parameter is none, or nothing can be answered to it")
        ("500", "Detail", "The server cannot read its own files")
        ("503", "Detail", "There is too much to do; try again after Retry-After seconds");
    /// What is asked for is not there, or is another tenant's.
    Unknown:
        ("404", "Detail", "There is no such project, or it is another tenant's");
    /// A body may be too large.
    Large:
        ("413", "Detail", "The body is too large");
}

/// What is asked of projects' statistics.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct StatisticsQuery {
    /// Whether statistics are computed; without them they are null.
    include_stats: Option<bool>,
    /// Only traces that start at this moment or after it.
    #[param(value_type = Option<String>, format = DateTime)]
    stats_start_time: Option<String>,
    /// Only traces whose root matches, in the filter language.
    stats_filter: Option<String>,
    /// The statistics that are wanted, by their names; the others are null.
    stats_select: Option<Vec<String>>,
    /// Whether the most frequent names, types, statuses, tags and metadata are wanted.
    facets: Option<bool>,
    /// Of no effect: statistics are always those of all runs.
    use_approx_stats: Option<bool>,
}

/// The same as v2 has it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct StatisticsV2Query {
    /// Whether statistics are computed; without them they are null.
    include_stats: Option<bool>,
    /// Only traces that start at this moment or after it.
    #[param(value_type = Option<String>, format = DateTime)]
    stats_start_time: Option<String>,
    /// Only traces whose root matches, in the filter language.
    stats_filter: Option<String>,
    /// The statistics that are wanted, by their names; the others are null.
    stats_select: Option<Vec<String>>,
    /// Whether the most frequent names, types, statuses, tags and metadata are wanted.
    include_facets: Option<bool>,
    /// Of no effect: statistics are always those of all runs.
    use_approx_stats: Option<bool>,
}

/// Which projects are meant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct ChoiceQuery {
    /// Only these.
    id: Option<Vec<Uuid>>,
    /// Only that of this name.
    name: Option<String>,
    /// Only those with this in their name, in any case.
    name_contains: Option<String>,
    /// Only those that are no experiments, or only experiments.
    reference_free: Option<bool>,
    /// Only experiments on these datasets.
    reference_dataset: Option<Vec<Uuid>>,
    /// Only those whose metadata has the members of this JSON object.
    metadata: Option<String>,
    /// Only those that match, in the filter language: of `id`, `name`, `start_time`, `end_time`.
    filter: Option<String>,
}

/// Which part of them, in which order.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct PageQuery {
    /// `name`, `start_time`, `last_run_start_time`, `latency_p50`, `latency_p99`, `error_rate`, `feedback`
    /// or `runs_count`.
    sort_by: Option<String>,
    /// Whether the greatest are first.
    sort_by_desc: Option<bool>,
    /// Which key of feedback to sort by.
    sort_by_feedback_key: Option<String>,
    /// How many to leave out before.
    #[param(minimum = 0)]
    offset: Option<u32>,
    /// How many.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Which projects are meant, which part of them, in which order, as v2 has it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct ChoiceV2Query {
    /// Only these.
    id: Option<Vec<Uuid>>,
    /// Only that of this name.
    name: Option<String>,
    /// Only those with this in their name, in any case.
    name_contains: Option<String>,
    /// Only those of these types: PROJECT, EXPERIMENT; none is an AGENT.
    r#type: Option<Vec<String>>,
    /// Only experiments on these datasets.
    reference_dataset_id: Option<Vec<Uuid>>,
    /// Only those whose metadata has the members of this JSON object.
    metadata: Option<String>,
    /// Only those that match, in the filter language: of `id`, `name`, `start_time`, `end_time`.
    filter: Option<String>,
    /// `NAME`, `START_TIME`, `LAST_RUN_START_TIME`, `ERROR_RATE`, `LATENCY_P50`, `LATENCY_P99` or `FEEDBACK`.
    sort_by: Option<String>,
    /// asc or desc.
    sort_order: Option<String>,
    /// Which key of feedback to sort by.
    sort_by_feedback_key: Option<String>,
    /// How many.
    #[param(minimum = 1, maximum = 100)]
    page_size: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The flags of `runtally stats` that say when runs are.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct StatsQuery {
    /// A project's id, its name, or a unique prefix of either.
    project: Option<String>,
    /// From this moment on: 2026-10-01, 2026-10-01T12:00:00Z, 7d, yesterday.
    since: Option<String>,
    /// Before this moment.
    until: Option<String>,
    /// A period in place of both: 2026-10, 2026-W45, last-month.
    period: Option<String>,
    /// The zone in which a day begins.
    timezone: Option<String>,
    /// What ages count from, in place of the clock.
    now: Option<String>,
    /// Whose tokens and costs count: auto, roots or own.
    usage_from: Option<String>,
    /// How long before and after the window runs are looked at that may belong to a trace in it.
    trace_span: Option<String>,
}

/// Those that split the runs, and choose the figures.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct StatsSplitQuery {
    /// Which runs: root, all, steps, llm, tool, …
    runs: Option<String>,
    /// Keys to split them by, between commas.
    group_by: Option<Vec<String>>,
    /// The length of a span of time: 1h, 1d, week, month.
    every: Option<String>,
    /// The day on which a week begins.
    week_start: Option<String>,
    /// What groups are sorted by.
    sort: Option<String>,
    /// At most so many groups.
    #[param(minimum = 0, maximum = 1_000_000)]
    limit: Option<u32>,
    /// The figures, between commas.
    select: Option<Vec<String>>,
    /// Percentiles of latency, between commas.
    percentiles: Option<Vec<String>>,
    /// An objective, such as latency<15s:99%.
    slo: Option<Vec<String>>,
    /// The part of the total, too.
    share: Option<bool>,
    /// The id of a run beside each percentile.
    exemplars: Option<bool>,
    /// The most frequent names, types, statuses, tags and metadata too.
    facets: Option<bool>,
    /// json, jsonl or csv; what Accept says where nothing is said.
    format: Option<String>,
    /// Leaves out the total of a CSV.
    no_total: Option<bool>,
}

/// Those that choose the runs by what they are.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read otherwise")]
pub(super) struct StatsFilterQuery {
    /// In the filter language.
    filter: Option<String>,
    /// What the root of a run's trace must be.
    trace_filter: Option<String>,
    /// What any run of its trace must be.
    tree_filter: Option<String>,
    /// A type.
    run_type: Option<String>,
    /// A name.
    run_name: Option<String>,
    /// Only those that failed, or did not.
    error: Option<bool>,
    /// Tags, all of them.
    tag: Option<Vec<String>>,
    /// A model.
    model: Option<String>,
    /// A user.
    user: Option<String>,
    /// Entries of the metadata as KEY=VALUE, all of them.
    meta: Option<Vec<String>>,
    /// The least latency: 5s, 300ms.
    min_latency: Option<String>,
    /// The greatest latency.
    max_latency: Option<String>,
}
