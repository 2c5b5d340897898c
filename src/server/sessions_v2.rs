//! Projects with their statistics, as v2 of the API has them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use serde::Serialize;
use uuid::Uuid;

use super::access::Scope;
use super::current::{Current, Shared};
use super::failure::Failure;
use super::given::Given;
use super::kept::{Body, Kept};
use super::projects::{Choice, Sort, Statistics};
use super::sessions::{LIMIT, OFFSET_MAX, body, find, id_of};
use crate::{Projects, Session, Sessions};

/// Projects of a page where nothing is said.
const PAGE: usize = 20;
/// What a cursor begins with.
const CURSOR: &str = "from-";

/// What projects may be sorted by, and how that is said.
type SortWord = (&'static str, fn() -> Sort);

const SORTS: [SortWord; 6] = [
    ("NAME", || Sort::Name),
    ("START_TIME", || Sort::Start),
    ("LAST_RUN_START_TIME", || Sort::LastStart),
    ("ERROR_RATE", || Sort::ErrorRate),
    ("LATENCY_P50", || Sort::LatencyP50),
    ("LATENCY_P99", || Sort::LatencyP99),
];

/// A page of projects.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SessionPage {
    /// The projects.
    items: Vec<Session>,
    /// What to send as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
}

#[utoipa::path(
    get,
    path = "/api/v2/sessions/{session_id}",
    tag = "sessions v2",
    summary = "A project with its statistics",
    params(
        ("session_id" = Uuid, Path, description = "The project's id"),
        super::openapi::StatisticsV2Query,
    ),
    responses(
        (status = 200, description = "The project", body = Session),
        super::openapi::Unknown,
        super::openapi::Failed,
    ),
    security(("key" = [])),
)]
pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    Path(id): Path<String>,
    given: Given,
) -> Result<Body, Failure> {
    let id = id_of(&id)?;
    let statistics = Statistics::read(&given, "include_facets")?;
    find(&shared, scope, id).await?;
    let projects = Projects::One(id.to_string());
    answer(&shared, scope, statistics, projects, |mut sessions| {
        json(&sessions.pop().ok_or(Failure::NotFound)?)
    })
    .await
}

#[utoipa::path(
    get,
    path = "/api/v2/sessions",
    tag = "sessions v2",
    summary = "Projects, a page of them",
    params(super::openapi::ChoiceV2Query, super::openapi::StatisticsV2Query),
    responses(
        (status = 200, description = "A page of projects", body = SessionPage),
        super::openapi::Failed,
    ),
    security(("key" = [])),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    given: Given,
) -> Result<Body, Failure> {
    let statistics = Statistics::read(&given, "include_facets")?;
    let sort = match given.text("sort_by") {
        Some("FEEDBACK") => Sort::Feedback(feedback_key(&given)?),
        _ => given
            .word("sort_by", &SORTS)?
            .map_or(Sort::Start, |sort| sort()),
    };
    let descending = given
        .word("sort_order", &[("asc", false), ("desc", true)])?
        .unwrap_or(true);
    let kinds = [
        ("PROJECT", Some(false)),
        ("EXPERIMENT", Some(true)),
        ("AGENT", None),
    ];
    let kinds = given.all("type").map(|kind| {
        let found = kinds.iter().find(|(word, _)| *word == kind);
        found
            .map(|(_, is_experiment)| *is_experiment)
            .ok_or_else(|| Failure::of_query("type", "write one of PROJECT, EXPERIMENT, AGENT"))
    });
    let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
    let is_experiment = match kinds.as_slice() {
        [only] => *only,
        _ => None,
    };
    let choice = Choice::read(
        &given,
        "reference_dataset_id",
        is_experiment,
        sort,
        descending,
    )?;
    let limit = given.number("page_size", 1, LIMIT)?.unwrap_or(PAGE);
    let offset = given.text("cursor").map_or(Ok(0), |cursor| {
        let offset = cursor
            .strip_prefix(CURSOR)
            .and_then(|text| text.parse().ok());
        let offset = offset.filter(|offset| *offset <= OFFSET_MAX);
        offset.ok_or_else(|| Failure::of_query("cursor", "give the next_cursor of a page"))
    })?;
    // No project of ours is an agent's.
    let limit = if kinds == [None] { 0 } else { limit };
    let (ids, total) = choice
        .page(&shared, scope, &statistics, offset, limit)
        .await?;
    let next = offset + ids.len();
    let next_cursor = (limit > 0 && next < total).then(|| format!("{CURSOR}{next}"));
    let projects = Projects::Each(ids.iter().copied().collect());
    answer(&shared, scope, statistics, projects, move |mut sessions| {
        let place = |id: &Uuid| ids.iter().position(|other| other == id);
        sessions.sort_by_key(|session| place(&session.id));
        json(&SessionPage {
            items: sessions,
            next_cursor: next_cursor.clone(),
        })
    })
    .await
}

fn feedback_key(given: &Given) -> Result<String, Failure> {
    let key = given.text("sort_by_feedback_key").map(str::to_owned);
    key.ok_or_else(|| {
        Failure::of_query(
            "sort_by_feedback_key",
            "say by which key of feedback to sort",
        )
    })
}

/// Asks for documents of v2 and writes them; how they are written is no part of what is kept but by the
/// question, so only these are kept that need no more than that.
async fn answer(
    shared: &Arc<Shared>,
    scope: Scope,
    statistics: Statistics,
    projects: Projects,
    write: impl Fn(Vec<Session>) -> Result<Vec<u8>, Failure>,
) -> Result<Body, Failure> {
    let question = statistics.question(scope, projects);
    let key = format!("v2 {:?} {question:?}", statistics.select);
    let engine = shared.engine().clone();
    let kept = shared.answer(key, move |current: Arc<Current>| async move {
        let answer = crate::sessions(&engine, &current.source, &question).await;
        let mut answer: Sessions = answer.map_err(|error| Failure::of(&error, "query"))?;
        for session in &mut answer.sessions {
            statistics.narrow(session);
        }
        Ok(Kept::Sessions(Arc::new(answer.v2())))
    });
    match kept.await? {
        Kept::Sessions(sessions) => write(sessions.to_vec()).map(Body::json),
        other => body(other),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| {
        tracing::error!(error = error.to_string(), "an answer cannot be written");
        Failure::Broken
    })
}
