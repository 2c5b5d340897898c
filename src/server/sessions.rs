//! Projects with their statistics, as v1 of the API has them: the documents of the command line's `show` and
//! `list`, byte for byte.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use uuid::Uuid;

use super::access::Scope;
use super::current::{Current, Shared};
use super::failure::Failure;
use super::given::Given;
use super::kept::{Body, Kept};
use super::projects::{Choice, Sort, Statistics, TOTAL};
use crate::output::{self, Format, Lines, Style};
use crate::{Projects, TracerSession};

/// What projects may be sorted by.
#[derive(Clone, Copy)]
enum SortBy {
    Plain(fn() -> Sort),
    Feedback,
}

const SORTS: [(&str, SortBy); 8] = [
    ("name", SortBy::Plain(|| Sort::Name)),
    ("start_time", SortBy::Plain(|| Sort::Start)),
    ("last_run_start_time", SortBy::Plain(|| Sort::LastStart)),
    ("latency_p50", SortBy::Plain(|| Sort::LatencyP50)),
    ("latency_p99", SortBy::Plain(|| Sort::LatencyP99)),
    ("error_rate", SortBy::Plain(|| Sort::ErrorRate)),
    ("feedback", SortBy::Feedback),
    ("runs_count", SortBy::Plain(|| Sort::Runs)),
];

/// The most projects of a page.
pub(super) const LIMIT: usize = 100;
/// The furthest that pages go.
pub(super) const OFFSET_MAX: usize = 1 << 31;

#[utoipa::path(
    get,
    path = "/sessions/{session_id}",
    tag = "sessions",
    summary = "A project with its statistics",
    params(
        ("session_id" = Uuid, Path, description = "The project's id"),
        super::openapi::StatisticsQuery,
    ),
    responses(
        (status = 200, description = "The document of `runtally show --json`", body = TracerSession),
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
    let statistics = Statistics::read(&given, "facets")?;
    find(&shared, scope, id).await?;
    let question = statistics.question(scope, Projects::One(id.to_string()));
    let key = format!("session {:?} {question:?}", statistics.select);
    let engine = shared.engine().clone();
    let kept = shared.answer(key, move |current: Arc<Current>| async move {
        let answer = crate::sessions(&engine, &current.source, &question).await;
        let mut answer = answer.map_err(|error| Failure::of(&error, "query"))?;
        let session = answer.sessions.first_mut().ok_or(Failure::NotFound)?;
        statistics.narrow(session);
        let mut bytes = Vec::new();
        let style = Style::default();
        output::write_one(&mut bytes, session, None, Format::Json, &style).map_err(unwritten)?;
        Ok(Kept::Body(Body::json(bytes)))
    });
    body(kept.await?)
}

#[utoipa::path(
    get,
    path = "/sessions",
    tag = "sessions",
    summary = "Projects, a page of them",
    params(super::openapi::ChoiceQuery, super::openapi::PageQuery, super::openapi::StatisticsQuery),
    responses(
        (
            status = 200,
            description = "The documents of `runtally list --json`",
            body = Vec<TracerSession>,
            headers(("x-pagination-total" = u64, description = "How many projects are meant")),
        ),
        super::openapi::Failed,
    ),
    security(("key" = [])),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    given: Given,
) -> Result<Body, Failure> {
    let statistics = Statistics::read(&given, "facets")?;
    let sort = given.word("sort_by", &SORTS)?;
    let sort = match sort.unwrap_or(SortBy::Plain(|| Sort::Start)) {
        SortBy::Plain(sort) => sort(),
        SortBy::Feedback => {
            let key = given.text("sort_by_feedback_key").ok_or_else(|| {
                Failure::of_query(
                    "sort_by_feedback_key",
                    "say by which key of feedback to sort",
                )
            })?;
            Sort::Feedback(key.to_owned())
        }
    };
    let descending = given.flag("sort_by_desc")?.unwrap_or(true);
    let is_experiment = given.flag("reference_free")?.map(|is_free| !is_free);
    let choice = Choice::read(&given, "reference_dataset", is_experiment, sort, descending)?;
    let offset = given.number("offset", 0, OFFSET_MAX)?.unwrap_or(0);
    let limit = given.number("limit", 1, LIMIT)?.unwrap_or(LIMIT);
    let (ids, total) = choice
        .page(&shared, scope, &statistics, offset, limit)
        .await?;
    let question = statistics.question(scope, Projects::Each(ids.iter().copied().collect()));
    let key = format!("sessions {ids:?} {:?} {question:?}", statistics.select);
    let engine = shared.engine().clone();
    let kept = shared.answer(key, move |current: Arc<Current>| async move {
        let answer = crate::sessions(&engine, &current.source, &question).await;
        let mut answer = answer.map_err(|error| Failure::of(&error, "query"))?;
        let place = |id: &Uuid| ids.iter().position(|other| other == id);
        answer.sessions.sort_by_key(|session| place(&session.id));
        for session in &mut answer.sessions {
            statistics.narrow(session);
        }
        let mut bytes = Vec::new();
        let lines = Lines {
            documents: &answer.sessions,
            ..Lines::default()
        };
        let style = Style::default();
        output::write_list(&mut bytes, &lines, Format::Json, &style).map_err(unwritten)?;
        Ok(Kept::Body(Body::json(bytes)))
    });
    let body = body(kept.await?)?;
    Ok(Body {
        header: Some((TOTAL, total as u64)),
        ..body
    })
}

/// The id that a path names.
pub(super) fn id_of(text: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::at(&["path", "session_id"], "write a UUID"))
}

/// A project, if who asks may see it.
pub(super) async fn find(
    shared: &Arc<Shared>,
    scope: Scope,
    id: Uuid,
) -> Result<TracerSession, Failure> {
    let all = shared.catalogue(scope).await?;
    let found = all.iter().find(|project| project.id == id);
    found.cloned().ok_or(Failure::NotFound)
}

/// The bytes of what was kept.
pub(super) fn body(kept: Kept) -> Result<Body, Failure> {
    match kept {
        Kept::Body(body) => Ok(body),
        Kept::Projects(_) | Kept::Sessions(_) | Kept::Broken => Err(Failure::Broken),
    }
}

/// What writing to memory cannot bring about.
#[expect(clippy::needless_pass_by_value, reason = "as it is called")]
pub(super) fn unwritten(error: std::io::Error) -> Failure {
    tracing::error!(error = error.to_string(), "an answer cannot be written");
    Failure::Broken
}
