//! Runs one by one.

use std::collections::BTreeMap;

use super::{About, ProjectNames, usage_of};
use crate::document::{self, Meaning, Nanoseconds, RunLine, RunRecord, Timestamp};
use crate::engine::{self, Engine, RunRow};
use crate::error::Result;
use crate::filter::{self, Filter};
use crate::plan::{self, LISTED};
use crate::request::{Listing, Population, Request, RunPage, Usage, Window};
use crate::runs::Column;
use crate::source::Source;

/// The answer to a request for runs one by one.
#[derive(Debug)]
pub struct Runs {
    /// The first of them, in the order that was asked for.
    pub runs: Vec<RunLine>,
    /// Whose tokens and costs traces have.
    pub usage: Usage,
    /// What should be known of it.
    pub about: About,
}

/// Answers a request with the first runs in an order.
///
/// # Errors
///
/// Those of [`crate::sessions`].
pub async fn runs(
    engine: &Engine,
    source: &Source,
    request: &Request,
    listing: &Listing,
) -> Result<Runs> {
    let answer = engine::split(
        engine,
        source,
        request,
        &listing.runs,
        &[],
        LISTED,
        async |groups, tallied| {
            let names = ProjectNames::of(source, tallied)?;
            groups
                .list(listing, |lines: &mut Vec<RunLine>, run| {
                    lines.push(run_line(run, &names, listing));
                })
                .await
        },
    );
    let (runs, tallied) = answer.await?;
    Ok(Runs {
        runs,
        usage: usage_of(&tallied),
        about: About::of(source, tallied)?,
    })
}

fn run_line(run: RunRow, names: &ProjectNames, listing: &Listing) -> RunLine {
    let since_start = |us: Option<i64>| {
        let us = us?.checked_sub(run.start_us)?;
        Some(Nanoseconds(u128::try_from(us).ok()? * 1000))
    };
    let cost = |pico: Option<i128>| pico.map(document::cost);
    // A root's trace is called as the root is, also where nothing says so.
    let is_root = listing.runs == Population::Traces;
    let trace_id = run.trace_id.or_else(|| run.id.clone().filter(|_| is_root));
    let link = listing.link.as_ref();
    let link = link.and_then(|template| {
        template.link(run.id.as_deref(), trace_id.as_deref(), &run.session_id)
    });
    RunLine {
        link,
        project: names.name(&run.session_id),
        id: run.id,
        trace_id,
        session_id: run.session_id,
        name: run.name,
        run_type: run.run_type,
        status: run.status,
        start_time: Timestamp(run.start_us),
        end_time: run.end_us.map(Timestamp),
        latency: since_start(run.end_us),
        first_token: since_start(run.first_token_us),
        total_tokens: run.tokens.total,
        prompt_tokens: run.tokens.prompt,
        completion_tokens: run.tokens.completion,
        total_cost: cost(run.cost_pico.total),
        prompt_cost: cost(run.cost_pico.prompt),
        completion_cost: cost(run.cost_pico.completion),
        error_class: run.error_class,
        error: run.error,
        model: run.model,
        user: run.user,
        thread: run.thread,
    }
}

/// Answers a request with a page of runs, each as it was recorded: its tokens and costs are those that it
/// carries. Runs without an id are in no page.
///
/// # Errors
///
/// Those of [`crate::sessions`].
pub async fn run_page(
    engine: &Engine,
    source: &Source,
    request: &Request,
    page: &RunPage,
) -> Result<Vec<RunRecord>> {
    let request = Request {
        usage: match page.runs {
            Population::Traces => Usage::Roots,
            _ => Usage::Own,
        },
        ..request.clone()
    };
    // Which runs these are first: what is recorded of them is most of the bytes.
    let places = page_of(engine, source, &request, page, plan::PLACED).await?;
    let starts = places.iter().map(|run| run.start_us);
    let Some((first, last)) = starts.clone().min().zip(starts.max()) else {
        return Ok(Vec::new());
    };
    let ids = places.iter().filter_map(|run| run.id.as_deref());
    let ids = filter::Value::List(ids.map(filter::Value::text).collect());
    let are_these = Filter::compare(filter::Field::Id, filter::Operator::In, ids);
    let request = Request {
        window: Window::between(Some(first), last.checked_add(1)),
        filter: are_these.ok(),
        trace_filter: None,
        tree_filter: None,
        ..request
    };
    let mut columns = plan::RECORDED.to_vec();
    let more = [
        (page.inputs, Column::Inputs),
        (page.outputs, Column::Outputs),
        (page.events, Column::Events),
    ];
    columns.extend(
        more.iter()
            .filter(|(is_asked, _)| *is_asked)
            .map(|(_, column)| *column),
    );
    let page = RunPage {
        after: None,
        limit: page.limit.saturating_mul(2),
        ..page.clone()
    };
    let runs = page_of(engine, source, &request, &page, &columns).await?;
    let mut found: BTreeMap<_, RunRow> = BTreeMap::new();
    for run in runs {
        found.insert((run.session_id.clone(), run.id.clone()), run);
    }
    let records = places.into_iter().filter_map(|place| {
        let run = found.remove(&(place.session_id, place.id))?;
        run_record(run)
    });
    Ok(records.collect())
}

/// A page of runs with some columns.
async fn page_of(
    engine: &Engine,
    source: &Source,
    request: &Request,
    page: &RunPage,
    columns: &[Column],
) -> Result<Vec<RunRow>> {
    let answer = engine::split(
        engine,
        source,
        request,
        &page.runs,
        &[],
        columns,
        async |groups, _| {
            groups
                .page(page, columns, |runs: &mut Vec<RunRow>, run| runs.push(run))
                .await
        },
    );
    answer.await.map(|(runs, _)| runs)
}

fn run_record(run: RunRow) -> Option<RunRecord> {
    let cost = |pico: Option<i128>| pico.map(document::cost);
    let recorded = run.recorded;
    let extra = recorded.extra.as_deref();
    Some(RunRecord {
        trace_id: run.trace_id.or_else(|| run.id.clone()),
        id: run.id?,
        name: run.name.unwrap_or_default(),
        run_type: run.run_type.unwrap_or_else(|| "chain".to_owned()),
        start_time: Timestamp(run.start_us),
        end_time: run.end_us.map(Timestamp),
        status: run.status,
        session_id: run.session_id,
        tenant_id: recorded.tenant_id,
        parent_run_id: recorded.parent_run_id,
        is_root: recorded.is_root,
        dotted_order: recorded.dotted_order.unwrap_or_default(),
        reference_example_id: recorded.reference_example_id,
        first_token_time: run.first_token_us.map(Timestamp),
        total_tokens: run.tokens.total,
        prompt_tokens: run.tokens.prompt,
        completion_tokens: run.tokens.completion,
        total_cost: cost(run.cost_pico.total),
        prompt_cost: cost(run.cost_pico.prompt),
        completion_cost: cost(run.cost_pico.completion),
        error: run.error,
        tags: recorded.tags,
        extra: document::object(extra, "extra"),
        feedback_stats: document::object(recorded.feedback_stats.as_deref(), "feedback"),
        trace_tier: recorded.trace_tier,
        inputs: document::object(recorded.inputs.as_deref(), "input"),
        outputs: document::object(recorded.outputs.as_deref(), "output"),
        events: document::objects(recorded.events.as_deref()),
    })
}
