//! Which groups a unit is in: a key's labels, from what its run says.

use std::collections::BTreeMap;

use runtally::{Key, Label};
use serde_json::value::RawValue;

use super::unit::Unit;
use crate::support::reference::{Question, Row, record_of};

/// The keys of metadata that name the user, and the conversation.
const USER: [&str; 2] = ["user_id", "user"];
const THREAD: [&str; 3] = ["session_id", "thread_id", "conversation_id"];

/// A label for each key, every choice of them once.
pub(super) fn combinations(unit: &Unit, keys: &[Key], question: &Question) -> Vec<Vec<Label>> {
    let mut combinations = vec![Vec::new()];
    for key in keys {
        let labels = labels(key, unit, question);
        let longer = combinations.iter().flat_map(|labels_before| {
            let with = |label: &Label| [labels_before.clone(), vec![label.clone()]].concat();
            labels.iter().map(with)
        });
        combinations = longer.collect();
    }
    combinations
}

/// The labels of a unit in one key, each once.
pub(super) fn labels(key: &Key, unit: &Unit, question: &Question) -> Vec<Label> {
    let mut texts = match (key, unit.run) {
        (Key::Project, _) => vec![project(&unit.project.to_string(), question)],
        (Key::Root(key), _) => match unit.root {
            Some(root) => texts(key, root, question),
            None => Vec::new(),
        },
        (key, Some(run)) => texts(key, run, question),
        (_, None) => Vec::new(),
    };
    texts.sort();
    texts.dedup();
    if texts.is_empty() {
        return vec![Label::None];
    }
    texts.into_iter().map(Label::Value).collect()
}

/// The user of a unit's run, and the conversation.
pub(super) fn user(unit: &Unit) -> Option<String> {
    first_of(unit.run?, &USER)
}

pub(super) fn thread(unit: &Unit) -> Option<String> {
    first_of(unit.run?, &THREAD)
}

/// What a run says of a key.
fn texts(key: &Key, row: &Row, question: &Question) -> Vec<String> {
    let run = &row.run;
    let of_type = |run_type: &str| run.run_type.as_deref() == Some(run_type);
    let text = match key {
        Key::Tag => return run.tags.clone().unwrap_or_default(),
        Key::Feedback(key) => return feedback(row, key),
        Key::Project => Some(project(&run.session_id.to_string(), question)),
        Key::Name => run.name.clone(),
        Key::RunType => run.run_type.clone(),
        Key::Status => run.status.clone(),
        Key::TraceTier => run.trace_tier.clone(),
        Key::Example => run.reference_example_id.map(|id| id.to_string()),
        Key::Metadata(path) => at_path(&metadata(row), path),
        Key::Model => first_of(row, &["ls_model_name", "model_name", "model"]),
        Key::Provider => first_of(row, &["ls_provider", "provider"]),
        Key::User => first_of(row, &USER),
        Key::Thread => first_of(row, &THREAD),
        Key::Environment => first_of(row, &["environment", "env"]),
        Key::Version => first_of(row, &["revision_id", "version", "release"]),
        Key::Prompt => first_of(row, &["prompt_name", "lc_hub_repo", "prompt"]),
        Key::Step => run.name.clone().filter(|_| is_step(row)),
        Key::Tool => run.name.clone().filter(|_| of_type("tool")),
        Key::Error => error_class(row),
        Key::Root(_) => panic!("the root of a root"),
    };
    text.into_iter().collect()
}

/// Whether a run is a direct child of its trace's root.
pub(super) fn is_step(row: &Row) -> bool {
    !row.is_root && row.trace.is_some() && row.run.parent_run_id == row.trace
}

/// What a project is called.
fn project(id: &str, question: &Question) -> String {
    let record = record_of(id, question);
    let name = record.and_then(|record| record["name"].as_str());
    name.unwrap_or(id).to_owned()
}

fn error_class(row: &Row) -> Option<String> {
    let error = row.run.error.as_deref().filter(|_| row.is_error)?;
    let class = error.split([':', '(']).next()?.trim();
    (!class.is_empty()).then(|| class.to_owned())
}

/// The labels that were given under a key; without any, the mean score.
fn feedback(row: &Row, key: &str) -> Vec<String> {
    let keys = members(row.run.feedback_stats.as_deref().unwrap_or("{}"));
    let Some(summary) = keys.get(key).map(|summary| members(summary.get())) else {
        return Vec::new();
    };
    let count = |raw: &RawValue| raw.get().parse::<u64>().unwrap_or(0);
    let values = summary.get("values").map(|values| members(values.get()));
    let labels = values.into_iter().flatten();
    let given = labels.filter(|(_, n)| count(n) > 0);
    let mut given: Vec<String> = given.map(|(label, _)| label).collect();
    let is_scored = summary.get("n").is_some_and(|n| count(n) > 0);
    if given.is_empty() && is_scored {
        given.extend(summary.get("avg").and_then(|average| scalar(average)));
    }
    given
}

type Members = BTreeMap<String, Box<RawValue>>;

/// The members of a JSON object; none of anything else.
fn members(json: &str) -> Members {
    serde_json::from_str(json).unwrap_or_default()
}

fn metadata(row: &Row) -> Members {
    let extra = members(row.run.extra.as_deref().unwrap_or_default());
    let metadata = extra
        .get("metadata")
        .map(|metadata| members(metadata.get()));
    metadata.unwrap_or_default()
}

/// The first of the metadata's keys that has a scalar.
fn first_of(row: &Row, keys: &[&str]) -> Option<String> {
    let metadata = metadata(row);
    keys.iter().find_map(|key| scalar(metadata.get(*key)?))
}

/// A member of the whole name decides; else what is below the first part of it.
fn at_path(members_here: &Members, path: &str) -> Option<String> {
    if let Some(member) = members_here.get(path) {
        return scalar(member);
    }
    let (first, rest) = path.split_once('.')?;
    at_path(&members(members_here.get(first)?.get()), rest)
}

/// The text of a text, a number or a boolean.
fn scalar(json: &RawValue) -> Option<String> {
    let text = json.get();
    let is_whole = text
        .bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_digit());
    match serde_json::from_str(text).unwrap() {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(_) if is_whole => Some(text.to_owned()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
