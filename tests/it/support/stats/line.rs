//! What a unit is as a line of a list, and in which order lines come.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use num_bigint::BigInt;
use runtally::request::RunOrder;
use runtally::{Key, Label, Listing, Population};
use serde_json::{Value, json};
use uuid::Uuid;

use super::label;
use super::unit::{self, Unit};
use crate::support::exact::plain;
use crate::support::reference::{self, Question, seconds, written_time};
use crate::support::run::Run;

const PICO_PLACES: usize = 12;

/// The lines that an answer must have, as JSON. The files have the runs' `trace_id`.
pub(crate) fn lines(runs: &[Run], question: &Question, listing: &Listing) -> Vec<Value> {
    let rows = reference::rows(runs, question);
    let projects: BTreeSet<Uuid> = rows.iter().map(|row| row.run.session_id).collect();
    let is_asked = |id: &Uuid| question.project.is_none_or(|wanted| wanted == *id);
    let projects: Vec<Uuid> = projects.into_iter().filter(is_asked).collect();
    let mut lines = Vec::new();
    for &project in &projects {
        let rows = rows.iter().filter(|row| row.run.session_id == project);
        let rows: Vec<_> = rows.collect();
        for unit in unit::units(&rows, question, &listing.runs) {
            let mut line = line(&unit, question, listing);
            line["project"] = called(project, &projects, question).into();
            lines.push((key(&unit, listing), line));
        }
    }
    lines.sort_by(|(one, _), (other, _)| order(one, other, listing.ascending));
    lines.truncate(listing.limit);
    lines.into_iter().map(|(_, line)| line).collect()
}

/// What a project is called; with its id where others are called the same.
fn called(project: Uuid, projects: &[Uuid], question: &Question) -> String {
    let name = |project: Uuid| {
        let record = reference::record_of(&project.to_string(), question);
        let name = record.and_then(|record| record["name"].as_str());
        name.map_or(project.to_string(), str::to_owned)
    };
    let is_same = |other: &&Uuid| name(**other) == name(project);
    match projects.iter().filter(is_same).count() {
        1 => name(project),
        _ => format!("{} ({project})", name(project)),
    }
}

/// What tells where a line comes.
#[derive(Debug)]
struct Place {
    by: Option<BigInt>,
    start_us: i64,
    id: Option<Uuid>,
    project: Uuid,
    trace: Option<Uuid>,
}

fn key(unit: &Unit, listing: &Listing) -> Place {
    let by = match listing.by {
        RunOrder::Latency => elapsed(unit, unit.end_us).map(BigInt::from),
        RunOrder::FirstToken => elapsed(unit, unit.first_token_us).map(BigInt::from),
        RunOrder::Tokens => unit.tokens[0].map(BigInt::from),
        RunOrder::Cost => unit.costs[0].clone(),
        RunOrder::Start => Some(unit.start_us.into()),
    };
    Place {
        by,
        start_us: unit.start_us,
        id: unit.run.map(|row| row.run.id),
        project: unit.project,
        trace: unit.trace,
    }
}

/// Those without a value last, then the latest first, then by ids.
fn order(one: &Place, other: &Place, ascending: bool) -> Ordering {
    let by = one.by.is_none().cmp(&other.by.is_none()).then_with(|| {
        let order = one.by.cmp(&other.by);
        if ascending { order } else { order.reverse() }
    });
    by.then_with(|| other.start_us.cmp(&one.start_us))
        .then_with(|| one.id.is_none().cmp(&other.id.is_none()))
        .then_with(|| {
            let ids = |place: &Place| (place.id, place.project, place.trace);
            ids(one).cmp(&ids(other))
        })
}

fn line(unit: &Unit, question: &Question, listing: &Listing) -> Value {
    let text = |key: Key| match label::labels(&key, unit, question).remove(0) {
        Label::Value(text) => Some(text),
        Label::None | Label::Other => None,
    };
    let [total_cost, prompt_cost, completion_cost] = [0, 1, 2].map(|part| {
        let cost = unit.costs[part].as_ref();
        cost.map(|cost| plain(cost, PICO_PLACES))
    });
    let time = |to: Option<i64>| {
        let us = elapsed(unit, to)?;
        Some(seconds(&BigInt::from(us * 1_000)))
    };
    let trace = match (&listing.runs, unit.run) {
        (Population::Traces, _) | (_, None) => unit.trace,
        (_, Some(row)) => row.run.trace_id,
    };
    json!({
        "id": unit.run.map(|row| row.run.id),
        "trace_id": trace,
        "session_id": unit.project,
        "name": text(Key::Name),
        "run_type": text(Key::RunType),
        "status": text(Key::Status),
        "start_time": written_time(unit.start_us),
        "end_time": unit.end_us.map(written_time),
        "latency": time(unit.end_us),
        "first_token": time(unit.first_token_us),
        "total_tokens": unit.tokens[0],
        "prompt_tokens": unit.tokens[1],
        "completion_tokens": unit.tokens[2],
        "total_cost": total_cost,
        "prompt_cost": prompt_cost,
        "completion_cost": completion_cost,
        "error_class": text(Key::Error),
        "error": unit.run.and_then(|row| row.run.error.as_ref()),
        "model": text(Key::Model),
        "user": text(Key::User),
        "thread": text(Key::Thread),
    })
}

/// Microseconds since its start; negative ones are none.
fn elapsed(unit: &Unit, to: Option<i64>) -> Option<i64> {
    let us = to? - unit.start_us;
    (us >= 0).then_some(us)
}
