//! What counts as one: a trace, or a run with what it used itself.

use num_bigint::BigInt;
use runtally::{Filter, Population};
use uuid::Uuid;

use super::label::is_step;
use crate::support::evaluate::keeps;
use crate::support::reference::{Question, Row, is_built, is_in, traces, tree_is_kept};

/// What counts as one.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub(super) project: Uuid,
    pub(super) trace: Option<Uuid>,
    /// The run whose texts are its own; none for a trace without a root.
    pub(super) run: Option<&'a Row>,
    /// The root of its trace, whatever the window.
    pub(super) root: Option<&'a Row>,
    pub(super) start_us: i64,
    pub(super) end_us: Option<i64>,
    pub(super) first_token_us: Option<i64>,
    pub(super) is_error: bool,
    /// Whether any run of its trace failed, whatever the window.
    pub(super) is_of_failed_trace: bool,
    pub(super) feedback: Option<String>,
    /// Total, prompt, completion.
    pub(super) tokens: [Option<i64>; 3],
    pub(super) costs: [Option<BigInt>; 3],
}

/// The units of one project that are asked for.
pub(super) fn units<'a>(
    rows: &[&'a Row],
    question: &Question,
    population: &Population,
) -> Vec<Unit<'a>> {
    let is_built = is_built(rows, question);
    if *population == Population::Traces {
        return of_traces(rows, question, is_built);
    }
    let counts_own = !is_built && population.can_nest();
    let counted = rows.iter().filter(|row| {
        is_of(row, population)
            && is_in(row.run.start_us, question, 0)
            && is_asked(row, rows, question)
    });
    let units = counted.map(|row| Unit {
        project: row.run.session_id,
        trace: row.trace,
        run: Some(row),
        root: root(row.trace, rows),
        start_us: row.run.start_us,
        end_us: row.run.end_us,
        first_token_us: row.run.first_token_us,
        is_error: row.is_error,
        is_of_failed_trace: has_failed(row.trace, rows),
        feedback: row.run.feedback_stats.clone(),
        tokens: if counts_own {
            own_tokens(row, &children(row, rows, question))
        } else {
            row.tokens()
        },
        costs: if counts_own {
            own_costs(row, &children(row, rows, question))
        } else {
            row.costs.clone()
        },
    });
    units.collect()
}

fn of_traces<'a>(rows: &[&'a Row], question: &Question, is_built: bool) -> Vec<Unit<'a>> {
    let traces = traces(rows, question, is_built).into_iter();
    let units = traces.map(|trace| Unit {
        project: rows[0].run.session_id,
        trace: trace.id,
        run: trace.root,
        root: root(trace.id, rows),
        start_us: trace.start_us,
        end_us: trace.end_us,
        first_token_us: trace.first_token_us,
        is_error: trace.is_error,
        is_of_failed_trace: has_failed(trace.id, rows),
        feedback: trace.feedback,
        tokens: trace.tokens,
        costs: trace.costs,
    });
    units.collect()
}

fn is_of(row: &Row, population: &Population) -> bool {
    match population {
        Population::Traces => row.is_root,
        Population::Type(run_type) => row.run.run_type.as_ref() == Some(run_type),
        Population::Steps => is_step(row),
        Population::All => true,
    }
}

/// Whether a run is asked for: by itself, by the root of its trace, by any run of it.
fn is_asked(row: &Row, rows: &[&Row], question: &Question) -> bool {
    let root = root(row.trace, rows).map(|root| &root.run);
    let of_run = |filter: &Filter| keeps(filter, &row.run, root);
    let of_root = |filter: &Filter| root.is_some_and(|root| keeps(filter, root, Some(root)));
    question.filter.as_ref().is_none_or(of_run)
        && question.trace_filter.as_ref().is_none_or(of_root)
        && tree_is_kept(row, rows, question)
}

fn root<'a>(trace: Option<Uuid>, rows: &[&'a Row]) -> Option<&'a Row> {
    let mut roots = rows.iter().filter(|row| row.is_root && row.trace == trace);
    trace.and_then(|_| roots.next().copied())
}

fn has_failed(trace: Option<Uuid>, rows: &[&Row]) -> bool {
    let mut of_trace = rows.iter().filter(|row| row.trace == trace);
    of_trace.any(|row| row.is_error)
}

/// The direct children that belong to a trace in the window.
fn children<'a>(row: &Row, rows: &[&'a Row], question: &Question) -> Vec<&'a Row> {
    let is_near = |child: &Row| is_in(child.run.start_us, question, question.trace_span_us);
    let children = rows
        .iter()
        .filter(|child| child.run.parent_run_id == Some(row.run.id) && is_near(child));
    children.copied().collect()
}

/// What a run used without its children; no value where neither has one.
fn own_tokens(row: &Row, children: &[&Row]) -> [Option<i64>; 3] {
    [0, 1, 2].map(|part| {
        let below = children.iter().filter_map(|child| child.tokens()[part]);
        let below: Vec<i64> = below.collect();
        match row.tokens()[part] {
            None if below.is_empty() => None,
            total => Some(total.unwrap_or(0) - below.iter().sum::<i64>()),
        }
    })
}

fn own_costs(row: &Row, children: &[&Row]) -> [Option<BigInt>; 3] {
    [0, 1, 2].map(|part| {
        let below = children
            .iter()
            .filter_map(|child| child.costs[part].as_ref());
        let below: Vec<&BigInt> = below.collect();
        match &row.costs[part] {
            None if below.is_empty() => None,
            total => Some(total.clone().unwrap_or_default() - below.into_iter().sum::<BigInt>()),
        }
    })
}
