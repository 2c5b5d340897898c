//! `GET /stats`: the command line's `stats`, for spreadsheets and dashboards. Parameters are called as its
//! flags, with `_` or `-` between words.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use chrono::Utc;
use chrono_tz::Tz;

use super::access::Scope;
use super::current::{Current, Shared};
use super::failure::{Failure, said};
use super::given::Given;
use super::kept::{Body, Kept};
use super::sessions::{body, unwritten};
use crate::filter::parse_duration;
use crate::output::{self, Format, Groups, Style};
use crate::request::{BreakdownWords, FilterWords};
use crate::{Breakdown, Clock, Error, Measure, Projects, Request, Usage, Window};

/// The most groups that may be asked for by number.
const GROUPS_MAX: usize = 1_000_000;

#[utoipa::path(
    get,
    path = "/stats",
    tag = "stats",
    summary = "Statistics of any runs, split any way: what `runtally stats` says",
    params(super::openapi::StatsQuery, super::openapi::StatsSplitQuery, super::openapi::StatsFilterQuery),
    responses(
        (
            status = 200,
            description = "JSON as `runtally stats` writes it, or CSV",
            content((Object = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")),
        ),
        super::openapi::Unknown,
        super::openapi::Failed,
    ),
    security(("key" = [])),
)]
pub(super) async fn stats(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    headers: HeaderMap,
    given: Given,
) -> Result<Body, Failure> {
    let given = given.underscored();
    let wants_csv = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == "text/csv");
    let formats = [
        ("json", Format::Json),
        ("jsonl", Format::Jsonl),
        ("csv", Format::Csv),
    ];
    let format = given.word("format", &formats)?;
    let format = format.unwrap_or(if wants_csv { Format::Csv } else { Format::Json });
    let zone = zone(&given)?;
    let question = question(&shared, scope, &given, zone).await?;
    let (breakdown, n_shown) = split(&given, format, question.facets, zone)?;
    let shows_total = !given.flag("no_total")?.unwrap_or(false);
    let key = format!("stats {format:?} {question:?} {breakdown:?} {n_shown} {shows_total}");
    let engine = shared.engine().clone();
    let kept = shared.answer(key, move |current: Arc<Current>| async move {
        let answer = crate::stats(&engine, &current.source, &question, &breakdown).await;
        let answer = answer.map_err(|error| Failure::of(&error, "query"))?;
        let groups = Groups {
            breakdown: &answer.breakdown,
            n_shown,
            groups: &answer.groups,
            total: &answer.total,
            shows_total,
        };
        let mut bytes = Vec::new();
        let style = Style {
            zone,
            ..Style::default()
        };
        output::write_stats(&mut bytes, &groups, format, &style).map_err(unwritten)?;
        Ok(Kept::Body(match format {
            Format::Csv => Body::text(bytes, "text/csv; charset=utf-8"),
            Format::Jsonl => Body::text(bytes, "application/x-ndjson"),
            _ => Body::json(bytes),
        }))
    });
    body(kept.await?)
}

fn zone(given: &Given) -> Result<Tz, Failure> {
    let name = given.text("timezone").or_else(|| given.text("zone"));
    name.map_or(Ok(Tz::UTC), |name| {
        let zone = name.parse();
        zone.map_err(|_| Failure::of_query("timezone", "write a zone such as Europe/Berlin"))
    })
}

/// Which runs are meant.
async fn question(
    shared: &Arc<Shared>,
    scope: Scope,
    given: &Given,
    zone: Tz,
) -> Result<Request, Failure> {
    let duration = |name: &str| {
        let read = |text: &str| {
            let us = parse_duration(text).filter(|us| *us >= 0);
            us.ok_or_else(|| Failure::of_query(name, "write a time such as 5s, 300ms or 2m"))
        };
        given.text(name).map(read).transpose()
    };
    let entry = |text: &str| {
        let entry = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let entry = entry.map(|(key, value)| (key.to_owned(), value.to_owned()));
        entry.ok_or_else(|| Failure::of_query("meta", "write KEY=VALUE, such as team=search"))
    };
    let words = FilterWords {
        filter: given.text("filter").map(str::to_owned),
        run_type: given.text("run_type").map(str::to_owned),
        run_name: given.text("run_name").map(str::to_owned),
        error: match given.flag("no_error")? {
            Some(no_error) => Some(!no_error),
            None => given.flag("error")?,
        },
        tag: given.all("tag").map(str::to_owned).collect(),
        model: given.text("model").map(str::to_owned),
        user: given.text("user").map(str::to_owned),
        meta: given.all("meta").map(entry).collect::<Result<_, _>>()?,
        min_latency_us: duration("min_latency")?,
        max_latency_us: duration("max_latency")?,
    };
    let usages = [
        ("auto", Usage::Auto),
        ("roots", Usage::Roots),
        ("own", Usage::Own),
    ];
    let mut question = scope.question();
    question.window = window(given, zone)?;
    question.usage = given.word("usage_from", &usages)?.unwrap_or_default();
    question.filter = words.filter().map_err(|error| wrong("filter", &error))?;
    question.trace_filter = given.filter("trace_filter")?;
    question.tree_filter = given.filter("tree_filter")?;
    question.facets = given.flag("facets")?.unwrap_or(false);
    if let Some(text) = given.text("trace_span") {
        let age = Clock::age(text).and_then(|age| age.num_microseconds());
        let age = age.ok_or_else(|| Failure::of_query("trace_span", "write 90m, 24h or 7d"))?;
        question.trace_span_us = age;
    }
    if let Some(asked) = given.text("project") {
        question.projects = project(shared, scope, asked).await?;
    }
    Ok(question)
}

/// The project of an id or a name, among those that a request may see.
async fn project(shared: &Arc<Shared>, scope: Scope, asked: &str) -> Result<Projects, Failure> {
    let all = shared.catalogue(scope).await?;
    let lower = asked.to_lowercase();
    let ids = |is_meant: &dyn Fn(&crate::TracerSession) -> bool| {
        let meant = all.iter().filter(|one| is_meant(one));
        meant.map(|one| one.id).collect::<Vec<_>>()
    };
    let mut meant = ids(&|one| one.name == asked || one.id.to_string() == lower);
    if meant.is_empty() {
        meant = ids(&|one| one.name.starts_with(asked) || one.id.to_string().starts_with(&lower));
    }
    match meant.as_slice() {
        [] => Err(Failure::NotFound),
        [one] => Ok(Projects::Each([*one].into())),
        several => {
            let problem = format!(
                "it names {} projects: give more of it, or the id",
                several.len()
            );
            Err(Failure::of_query("project", problem))
        }
    }
}

fn window(given: &Given, zone: Tz) -> Result<Window, Failure> {
    let mut clock = Clock {
        now: Utc::now(),
        zone,
    };
    let moment = |clock: &Clock, name: &str| {
        let read = |text: &str| clock.moment(text).map_err(|error| wrong(name, &error));
        given.text(name).map(read).transpose()
    };
    if let Some(us) = moment(&clock, "now")? {
        clock.now = chrono::DateTime::from_timestamp_micros(us).unwrap_or(clock.now);
    }
    let (since, until) = (moment(&clock, "since")?, moment(&clock, "until")?);
    match given.text("period") {
        Some(_) if since.or(until).is_some() => Err(Failure::of_query(
            "period",
            "give a period, or since and until",
        )),
        Some(period) => clock
            .period(period)
            .map_err(|error| wrong("period", &error)),
        None => Window::new(since, until).map_err(|error| wrong("until", &error)),
    }
}

/// How the runs are split, and how many of the figures are shown.
fn split(
    given: &Given,
    format: Format,
    facets: bool,
    zone: Tz,
) -> Result<(Breakdown, usize), Failure> {
    let text = |name: &str| given.text(name).map(str::to_owned);
    let words = BreakdownWords {
        runs: text("runs"),
        group_by: given.words("group_by"),
        every: text("every"),
        week_start: text("week_start"),
        sort: text("sort"),
        limit: given.number("limit", 0, GROUPS_MAX)?,
        select: given.words("select"),
        percentiles: given.words("percentiles"),
        slo: given.all("slo").map(str::to_owned).collect(),
        share: given.flag("share")?.unwrap_or(false),
        exemplars: given.flag("exemplars")?.unwrap_or(false),
    };
    let usual = if format == Format::Csv {
        Measure::sheet()
    } else {
        let mut measures = Measure::run_stats();
        measures.retain(|measure| facets || *measure != Measure::RunFacets);
        measures
    };
    let shown = words
        .measures(usual, facets)
        .map_err(|error| wrong("select", &error))?;
    let n_shown = shown.len();
    let breakdown = words
        .breakdown(shown, zone)
        .map_err(|error| wrong("group_by", &error))?;
    Ok((breakdown, n_shown))
}

fn wrong(name: &str, error: &Error) -> Failure {
    Failure::of_query(name, said(error))
}
