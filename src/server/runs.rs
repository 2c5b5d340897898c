//! `POST /runs/stats` and `POST /runs/query`: statistics of whatever runs match, and these runs a page at a
//! time.
//!
//! As in the service, every run that matches counts with what it carries: a root's tokens contain those of
//! the runs below it, which count again where they match too.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::access::Scope;
use super::current::{Current, Shared};
use super::failure::{Failure, Problem};
use super::given::{NO_MOMENT, moment};
use super::kept::{Body, Kept};
use super::sessions::{body, unwritten};
use crate::filter::{Field, Operator, Value as Wanted};
use crate::output::{self, Format, Groups, Style};
use crate::request::Count;
use crate::{
    Breakdown, Filter, Key, Label, Measure, Population, Projects, Request, RunPage, RunPlace,
    RunRecord, Sort, Usage, Window,
};

/// The most runs of a page.
const LIMIT: usize = 100;
/// The fields that a run has whatever is selected: without them clients cannot read it.
const ALWAYS: [&str; 6] = [
    "id",
    "name",
    "run_type",
    "start_time",
    "trace_id",
    "session_id",
];

/// Which runs are meant; all that is said must hold.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Matching {
    /// Those of these projects.
    session: Option<Vec<Uuid>>,
    /// Those of these ids.
    id: Option<Vec<Uuid>>,
    /// Those of this trace.
    trace: Option<Uuid>,
    /// Those that this run called.
    parent_run: Option<Uuid>,
    /// Those of this type: llm, chain, tool, …
    run_type: Option<String>,
    /// Those that were run on these examples.
    reference_example: Option<Vec<Uuid>>,
    /// Those that start at this moment or after it.
    start_time: Option<String>,
    /// Those that start before this moment.
    end_time: Option<String>,
    /// Those that failed, or did not.
    error: Option<bool>,
    /// Those with this text in their name, error, inputs or outputs.
    query: Option<String>,
    /// Those that match, in the filter language.
    filter: Option<String>,
    /// Those whose trace's root matches.
    trace_filter: Option<String>,
    /// Those of whose trace any run matches.
    tree_filter: Option<String>,
    /// Those that stand for their trace, or do not.
    is_root: Option<bool>,
}

/// Which runs are meant, and what is asked of them.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct StatsBody {
    #[serde(flatten)]
    matching: Matching,
    /// What they are grouped by; all of them together where there is nothing.
    group_by: Option<GroupBy>,
    /// The figures, by their names; all but `run_facets` where none is named.
    select: Option<Vec<String>>,
}

/// What runs are grouped by.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct GroupBy {
    /// `name`, `run_type`, `tag` or `metadata`.
    attribute: Attribute,
    /// The key of the metadata.
    path: Option<String>,
    /// The most groups, those with the most runs; all where nothing is said.
    #[schema(minimum = 1)]
    max_groups: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Attribute {
    Name,
    RunType,
    Tag,
    Metadata,
}

/// Which runs are meant, and which part of them.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct QueryBody {
    #[serde(flatten)]
    matching: Matching,
    /// The fields of each, by their names; all where none is named.
    select: Option<Vec<String>>,
    /// How many, 1 to 100; 100 where nothing is said.
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// What the page before calls the next.
    cursor: Option<String>,
    /// `desc`: the latest first; `asc`: the earliest.
    order: Option<Direction>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Direction {
    Asc,
    Desc,
}

/// A page of runs.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct RunsPage {
    /// The runs, with the fields that were selected.
    #[schema(value_type = Vec<Object>)]
    runs: Vec<Map<String, Value>>,
    /// How to get the next page.
    cursors: Cursors,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Cursors {
    /// What to send as `cursor`; null on the last page.
    next: Option<String>,
    prev: Option<String>,
}

#[utoipa::path(
    post,
    path = "/runs/stats",
    tag = "runs",
    summary = "Statistics of the runs that match",
    request_body = StatsBody,
    responses(
        (status = 200, description = "An object of figures; with group_by, group → object", body = Object),
        super::openapi::Unknown,
        super::openapi::Failed,
        super::openapi::Large,
    ),
    security(("key" = [])),
)]
pub(super) async fn stats(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    given: Result<Bytes, BytesRejection>,
) -> Result<Body, Failure> {
    let asked: StatsBody = read(&given?)?;
    let (question, runs) = asked.matching.question(&shared, scope).await?;
    let mut measures = Measure::run_stats();
    if let Some(select) = asked.select.as_ref().filter(|select| !select.is_empty()) {
        let known: BTreeSet<String> = measures.iter().map(ToString::to_string).collect();
        if let Some(wrong) = select.iter().find(|name| !known.contains(*name)) {
            let known = Vec::from_iter(known).join(", ");
            let problem = format!("{wrong:?} is no figure of runs; they are {known}");
            return Err(Failure::of_body("select", problem));
        }
        measures.retain(|measure| select.contains(&measure.to_string()));
    } else {
        measures.retain(|measure| *measure != Measure::RunFacets);
    }
    let n_shown = measures.len();
    let n_runs = Measure::Count(Count::Runs);
    if !measures.contains(&n_runs) {
        measures.push(n_runs);
    }
    let breakdown = Breakdown {
        runs,
        by: asked
            .group_by
            .as_ref()
            .map(GroupBy::key)
            .transpose()?
            .into_iter()
            .collect(),
        every: None,
        measures,
        sort: Sort::by_runs(),
        limit: asked
            .group_by
            .as_ref()
            .and_then(|group_by| group_by.max_groups),
    };
    let key = format!("runs {question:?} {breakdown:?} {n_shown}");
    let engine = shared.engine().clone();
    let kept = shared.answer(key, move |current: Arc<Current>| async move {
        let answer = crate::stats(&engine, &current.source, &question, &breakdown).await;
        let mut answer = answer.map_err(|error| Failure::of(&error, "body"))?;
        // The service has no group of those beyond the most.
        answer
            .groups
            .retain(|group| !group.labels.contains(&Label::Other));
        let groups = Groups {
            breakdown: &answer.breakdown,
            n_shown,
            groups: &answer.groups,
            total: &answer.total,
            shows_total: false,
        };
        let mut bytes = Vec::new();
        let style = Style::default();
        output::write_stats(&mut bytes, &groups, Format::Json, &style).map_err(unwritten)?;
        Ok(Kept::Body(Body::json(bytes)))
    });
    body(kept.await?)
}

#[utoipa::path(
    post,
    path = "/runs/query",
    tag = "runs",
    summary = "The runs that match, a page of them",
    request_body = QueryBody,
    responses(
        (status = 200, description = "A page of runs", body = RunsPage),
        super::openapi::Unknown,
        super::openapi::Failed,
        super::openapi::Large,
    ),
    security(("key" = [])),
)]
pub(super) async fn query(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    given: Result<Bytes, BytesRejection>,
) -> Result<Body, Failure> {
    let asked: QueryBody = read(&given?)?;
    if !asked.matching.is_bounded() {
        let problem =
            "at least one of session, id, parent_run, trace or reference_example must be given";
        return Err(Failure::at(&["body"], problem));
    }
    let limit = asked.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT).contains(&limit) {
        return Err(Failure::of_body(
            "limit",
            "write a whole number from 1 to 100",
        ));
    }
    let after = asked.cursor.as_ref().filter(|cursor| !cursor.is_empty());
    let after = after.map(|cursor| cursor.parse::<RunPlace>()).transpose();
    let after = after.map_err(|_| Failure::of_body("cursor", "give the next cursor of a page"))?;
    let select = asked.select.as_ref().filter(|select| !select.is_empty());
    let select: Option<BTreeSet<String>> = select.map(|select| select.iter().cloned().collect());
    let is_asked = |name: &str| select.as_ref().is_none_or(|select| select.contains(name));
    let (question, runs) = asked.matching.question(&shared, scope).await?;
    let page = RunPage {
        runs,
        ascending: asked.order == Some(Direction::Asc),
        // One more tells whether there is a next page.
        limit: limit + 1,
        after,
        inputs: is_asked("inputs"),
        outputs: is_asked("outputs"),
        events: is_asked("events"),
    };
    let key = format!("query {question:?} {page:?} {select:?}");
    let engine = shared.engine().clone();
    let kept = shared.answer(key, move |current: Arc<Current>| async move {
        let runs = crate::run_page(&engine, &current.source, &question, &page).await;
        let runs = runs.map_err(|error| Failure::of(&error, "body"))?;
        let bytes =
            written(runs, limit, select.as_ref()).map_err(|error| unwritten(error.into()))?;
        Ok(Kept::Body(Body::json(bytes)))
    });
    body(kept.await?)
}

fn written(
    mut runs: Vec<RunRecord>,
    limit: usize,
    select: Option<&BTreeSet<String>>,
) -> serde_json::Result<Vec<u8>> {
    let has_next = runs.len() > limit;
    runs.truncate(limit);
    let last = runs.last().filter(|_| has_next);
    let next = last.map(|run| {
        let place = RunPlace {
            start_us: run.start_time.0,
            id: run.id.clone(),
        };
        place.to_string()
    });
    let shown = runs.iter().map(|run| match serde_json::to_value(run)? {
        Value::Object(mut fields) => {
            if let Some(select) = select {
                fields.retain(|name, _| ALWAYS.contains(&name.as_str()) || select.contains(name));
            }
            Ok(fields)
        }
        _ => Ok(Map::new()),
    });
    let runs = shown.collect::<serde_json::Result<_>>()?;
    serde_json::to_vec(&RunsPage {
        runs,
        cursors: Cursors { next, prev: None },
    })
}

/// Reads a body. Members that nobody knows are ignored, as the service does.
fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Failure> {
    let text = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    serde_json::from_slice(text).map_err(|error| {
        Failure::Invalid(vec![Problem {
            loc: vec!["body".to_owned()],
            msg: error.to_string(),
            r#type: if error.is_data() {
                "value_error"
            } else {
                "json_invalid"
            }
            .to_owned(),
        }])
    })
}

impl GroupBy {
    fn key(&self) -> Result<Key, Failure> {
        if self.max_groups == Some(0) {
            return Err(Failure::of_body("group_by", "max_groups: write 1 or more"));
        }
        Ok(match self.attribute {
            Attribute::Name => Key::Name,
            Attribute::RunType => Key::RunType,
            Attribute::Tag => Key::Tag,
            Attribute::Metadata => {
                let path = self.path.clone().filter(|path| !path.is_empty());
                Key::Metadata(path.ok_or_else(|| {
                    Failure::of_body("group_by", "path: say which key of the metadata")
                })?)
            }
        })
    }
}

impl Matching {
    /// Whether anything is said that only few runs may be.
    fn is_bounded(&self) -> bool {
        let is_some = |ids: &Option<Vec<Uuid>>| ids.as_ref().is_some_and(|ids| !ids.is_empty());
        let lists = [&self.session, &self.id, &self.reference_example];
        lists.into_iter().any(is_some) || self.trace.is_some() || self.parent_run.is_some()
    }

    /// What is asked, within what a request may see, and of which runs.
    async fn question(
        &self,
        shared: &Arc<Shared>,
        scope: Scope,
    ) -> Result<(Request, Population), Failure> {
        let mut question = scope.question();
        question.filter = self.filter()?;
        question.trace_filter = parsed("trace_filter", self.trace_filter.as_deref())?;
        question.tree_filter = parsed("tree_filter", self.tree_filter.as_deref())?;
        question.window = self.window()?;
        if let Some(ids) = self.session.as_ref().filter(|ids| !ids.is_empty()) {
            let all = shared.catalogue(scope).await?;
            let is_there = |id: &Uuid| all.iter().any(|project| project.id == *id);
            if !ids.iter().all(is_there) {
                return Err(Failure::NotFound);
            }
            question.projects = Projects::Each(ids.iter().copied().collect());
        }
        let runs = match self.is_root {
            Some(true) => Population::Traces,
            _ => Population::All,
        };
        // What each carries, whichever runs these are.
        question.usage = match runs {
            Population::Traces => Usage::Roots,
            _ => Usage::Own,
        };
        Ok((question, runs))
    }

    fn window(&self) -> Result<Window, Failure> {
        let read = |name: &str, text: &Option<String>| {
            let text = text.as_ref().filter(|text| !text.is_empty());
            text.map(|text| moment(text).ok_or_else(|| Failure::of_body(name, NO_MOMENT)))
                .transpose()
        };
        let since = read("start_time", &self.start_time)?;
        let until = read("end_time", &self.end_time)?;
        Window::new(since, until).map_err(|error| Failure::of_body("end_time", error))
    }

    fn filter(&self) -> Result<Option<Filter>, Failure> {
        let id = |id: &Uuid| Wanted::text(id.to_string());
        let compare = |field: Field, operator: Operator, value: Wanted| {
            let filter = Filter::compare(field, operator, value);
            filter.map_err(|error| Failure::at(&["body"], error))
        };
        let mut filters = Vec::new();
        let lists = [
            (&self.id, Field::Id),
            (&self.reference_example, Field::ReferenceExampleId),
        ];
        for (ids, field) in lists {
            if let Some(ids) = ids.as_ref().filter(|ids| !ids.is_empty()) {
                let ids = Wanted::List(ids.iter().map(id).collect());
                filters.push(compare(field, Operator::In, ids)?);
            }
        }
        let ones = [
            (&self.trace, Field::TraceId),
            (&self.parent_run, Field::ParentRunId),
        ];
        for (one, field) in ones {
            if let Some(one) = one {
                filters.push(compare(field, Operator::Eq, id(one))?);
            }
        }
        filters.extend(self.run_type.as_deref().map(Filter::run_type));
        filters.extend(self.error.map(Filter::errored));
        if self.is_root == Some(false) {
            let is_root = Wanted::Boolean(false);
            filters.push(compare(Field::IsRoot, Operator::Eq, is_root)?);
        }
        let query = self.query.as_deref().filter(|text| !text.is_empty());
        filters.extend(query.map(Filter::search));
        filters.extend(parsed("filter", self.filter.as_deref())?);
        Ok(Filter::all(filters))
    }
}

fn parsed(name: &str, text: Option<&str>) -> Result<Option<Filter>, Failure> {
    let text = text.filter(|text| !text.trim().is_empty());
    text.map(|text| Filter::parse(text).map_err(|error| Failure::of_body(name, error)))
        .transpose()
}
