//! Whether a filter keeps a run, by walking its tree as it is written.
//!
//! Knows nothing of what the crate makes of a filter: it flattens `and`s, binds
//! keys to values and compares by itself. Costs are those of the decimal text.
//! Whether a run is a root or failed is what it says itself, so that neither
//! column may be absent of a file that has others which say it.

use std::cmp::Ordering;

use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_oneof};
use proptest::sample::select;
use runtally::filter::{Comparison, Family, Field, Filter, Node, Operator, Part, Value};
use serde_json::{Map, Value as Json};

use super::exact::{self, Decimal};
use super::run::Run;

/// Fractional digits of a filter's numbers.
const PLACES: u32 = 18;

/// One of several things that a run has, each with a key.
#[derive(Debug, Clone)]
struct Entry {
    key: String,
    /// Null, a boolean, a number or a text; null for lists and objects.
    value: Json,
    score: Option<f64>,
}

/// Whether a filter keeps a run, given the root of its trace where it is known.
pub(crate) fn keeps(filter: &Filter, run: &Run, root: Option<&Run>) -> bool {
    match filter.node() {
        Node::And(_) => {
            let mut members = Vec::new();
            flatten(filter, &mut members);
            keeps_all(&members, run, root)
        }
        Node::Or(members) => members.iter().any(|member| keeps(member, run, root)),
        Node::Not(inner) => !keeps(inner, run, root),
        Node::Search(text) => [&run.name, &run.error, &run.inputs, &run.outputs]
            .into_iter()
            .flatten()
            .any(|found| contains_text(found, text)),
        Node::Comparison(comparison) => keeps_one(comparison, run, root),
    }
}

fn flatten<'f>(filter: &'f Filter, into: &mut Vec<&'f Filter>) {
    if let Node::And(members) = filter.node() {
        for member in members {
            flatten(member, into);
        }
    } else {
        into.push(filter);
    }
}

/// From the last member to the first: values wait for the key before them, which
/// takes the next one; the others stand alone.
fn keeps_all(members: &[&Filter], run: &Run, root: Option<&Run>) -> bool {
    let mut waiting: Vec<&Comparison> = Vec::new();
    let mut is_kept = true;
    for member in members.iter().rev() {
        let Node::Comparison(comparison) = member.node() else {
            is_kept &= keeps(member, run, root);
            continue;
        };
        match comparison.subject().field.family() {
            None => is_kept &= keeps_one(comparison, run, root),
            Some((_, Part::Value | Part::Score)) => waiting.push(comparison),
            Some((family, Part::Key)) => {
                let is_of_key = |value: &&Comparison| {
                    value.subject().of_root == comparison.subject().of_root
                        && value.subject().field.family().unwrap().0 == family
                };
                let (mut values, others) = waiting.into_iter().partition::<Vec<_>, _>(is_of_key);
                waiting = others;
                // The last that came is the next one in the text.
                is_kept &= match values.pop() {
                    None => keeps_one(comparison, run, root),
                    Some(value) => of(comparison, run, root).is_some_and(|run| {
                        entries(family, run)
                            .iter()
                            .any(|entry| part_meets(comparison, entry) && part_meets(value, entry))
                    }),
                };
                is_kept &= values.iter().all(|value| keeps_one(value, run, root));
            }
        }
    }
    is_kept && waiting.iter().all(|value| keeps_one(value, run, root))
}

/// The run that a comparison speaks of.
fn of<'r>(comparison: &Comparison, run: &'r Run, root: Option<&'r Run>) -> Option<&'r Run> {
    if comparison.subject().of_root {
        root
    } else {
        Some(run)
    }
}

/// A comparison that stands by itself.
fn keeps_one(comparison: &Comparison, run: &Run, root: Option<&Run>) -> bool {
    let values = match of(comparison, run, root) {
        Some(run) => values(comparison, run),
        None => Vec::new(),
    };
    meets_any(comparison, &values)
}

/// Whether a part of one entry meets a comparison.
fn part_meets(comparison: &Comparison, entry: &Entry) -> bool {
    let (_, part) = comparison.subject().field.family().unwrap();
    let values: Vec<Found> = part_of(entry, part).into_iter().collect();
    meets_any(comparison, &values)
}

fn meets_any(comparison: &Comparison, values: &[Found]) -> bool {
    let value = comparison.value();
    let is_equal = || match value {
        Value::Null => values.is_empty(),
        value => values.iter().any(|found| equals(found, value)),
    };
    match comparison.operator() {
        Operator::Eq => is_equal(),
        Operator::Neq => !is_equal(),
        operator => values.iter().any(|found| meets(found, operator, value)),
    }
}

/// What a run has, before it is compared.
#[derive(Debug)]
enum Found {
    Text(String),
    /// Of a number in a JSON also the text.
    Number(BigInt, Option<String>),
    /// Costs in pico-dollars, times and durations in microseconds.
    Whole(BigInt),
    Truth(bool),
    Object(Map<String, Json>),
}

/// The values of a comparison's field; none where it is missing.
fn values(comparison: &Comparison, run: &Run) -> Vec<Found> {
    let field = comparison.subject().field;
    if let Some((family, part)) = field.family() {
        let entries = entries(family, run);
        return entries
            .iter()
            .filter_map(|entry| part_of(entry, part))
            .collect();
    }
    let text = |text: &Option<String>| text.clone().map(Found::Text);
    let id = |id: Option<uuid::Uuid>| id.map(|id| Found::Text(id.to_string()));
    let whole = |number: Option<i64>| number.map(|number| Found::Whole(number.into()));
    let tokens = |tokens: Option<i64>| tokens.map(|tokens| Found::Number(scaled(tokens), None));
    let cost = |cost: &Option<super::run::Cost>| {
        let cost = cost.as_ref().filter(|cost| !cost.double.is_nan())?;
        Some(Found::Whole(exact::pico_of_text(&cost.text)?))
    };
    let found = match field {
        Field::Id => id(Some(run.id).filter(|id| !id.is_nil())),
        Field::Name => text(&run.name),
        Field::RunType => text(&run.run_type),
        Field::Status => text(&run.status),
        Field::TraceId => id(run.trace_id),
        Field::ParentRunId => id(run.parent_run_id),
        Field::SessionId => id(Some(run.session_id)),
        Field::ReferenceExampleId => id(run.reference_example_id),
        Field::ThreadId => thread(run).map(Found::Text),
        Field::StartTime => whole(Some(run.start_us)),
        Field::EndTime => whole(run.end_us),
        Field::Latency => whole(run.end_us.map(|end_us| end_us - run.start_us)),
        Field::FirstToken => whole(run.first_token_us.map(|first_us| first_us - run.start_us)),
        Field::TotalTokens => tokens(run.total_tokens),
        Field::PromptTokens => tokens(run.prompt_tokens),
        Field::CompletionTokens => tokens(run.completion_tokens),
        Field::TotalCost => cost(&run.total_cost),
        Field::PromptCost => cost(&run.prompt_cost),
        Field::CompletionCost => cost(&run.completion_cost),
        Field::Error => match comparison.value() {
            // Whether it failed; `null` asks for those that did not.
            Value::Boolean(_) => Some(Found::Truth(is_error(run))),
            Value::Null => Some(Found::Truth(true)).filter(|_| is_error(run)),
            _ => text(&run.error),
        },
        Field::IsRoot => Some(Found::Truth(is_root(run))),
        Field::ExecutionOrder => Some(Found::Number(scaled(1), None)).filter(|_| is_root(run)),
        Field::Tags => {
            let tags = run.tags.clone().unwrap_or_default();
            return tags.into_iter().map(Found::Text).collect();
        }
        Field::Metadata => {
            let metadata = metadata(run);
            Some(Found::Object(metadata)).filter(|_| !self::metadata(run).is_empty())
        }
        other => panic!("{other} belongs to a family"),
    };
    found.into_iter().collect()
}

fn part_of(entry: &Entry, part: Part) -> Option<Found> {
    match part {
        Part::Key => Some(Found::Text(entry.key.clone())),
        Part::Score => Some(Found::Number(decimal(&entry.score?.to_string()), None)),
        Part::Value => match &entry.value {
            Json::String(text) => Some(Found::Text(text.clone())),
            Json::Bool(truth) => Some(Found::Truth(*truth)),
            Json::Number(number) => {
                let text = number.to_string();
                Some(Found::Number(decimal(&text), Some(text)))
            }
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        },
    }
}

fn entries(family: Family, run: &Run) -> Vec<Entry> {
    let mut entries = Vec::new();
    match family {
        Family::Metadata => {
            for (key, value) in metadata(run) {
                let score = None;
                entries.push(Entry { key, value, score });
            }
        }
        Family::Feedback => {
            let summaries = object(run.feedback_stats.as_deref());
            for (key, summary) in summaries {
                let score = summary["avg"].as_f64();
                let labels = summary["values"].as_object().cloned().unwrap_or_default();
                let labels = labels.into_iter().map(|(label, _)| Json::String(label));
                let mut values: Vec<Json> = labels.collect();
                if values.is_empty() {
                    values.push(Json::Null);
                }
                entries.extend(values.into_iter().map(|value| Entry {
                    key: key.clone(),
                    value,
                    score,
                }));
            }
        }
        Family::Input => paths("", &json(run.inputs.as_deref()), &mut entries),
        Family::Output => paths("", &json(run.outputs.as_deref()), &mut entries),
    }
    entries
}

/// Every place below a JSON, inner ones too.
fn paths(above: &str, json: &Json, entries: &mut Vec<Entry>) {
    let below: Vec<(String, &Json)> = match json {
        Json::Object(object) => object
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Json::Array(list) => {
            let numbered = list.iter().enumerate();
            numbered
                .map(|(at, value)| (at.to_string(), value))
                .collect()
        }
        _ => return,
    };
    for (step, value) in below {
        let key = if above.is_empty() {
            step
        } else {
            format!("{above}.{step}")
        };
        paths(&key, value, entries);
        let value = value.clone();
        let score = None;
        entries.push(Entry { key, value, score });
    }
}

fn json(text: Option<&str>) -> Json {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Json::Null)
}

fn object(text: Option<&str>) -> Map<String, Json> {
    match json(text) {
        Json::Object(object) => object,
        _ => Map::new(),
    }
}

fn metadata(run: &Run) -> Map<String, Json> {
    match object(run.extra.as_deref()).get("metadata") {
        Some(Json::Object(metadata)) => metadata.clone(),
        _ => Map::new(),
    }
}

/// The first of three keys that has a value.
fn thread(run: &Run) -> Option<String> {
    let metadata = metadata(run);
    ["session_id", "thread_id", "conversation_id"]
        .into_iter()
        .find_map(|key| match metadata.get(key)? {
            Json::String(text) => Some(text.clone()),
            Json::Bool(truth) => Some(truth.to_string()),
            Json::Number(number) => Some(number.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        })
}

/// What a file says of which neither column is absent, or all columns are.
fn is_root(run: &Run) -> bool {
    run.is_root.unwrap_or(run.parent_run_id.is_none())
}

fn is_error(run: &Run) -> bool {
    match &run.status {
        Some(status) => status == "error",
        None => run.error.is_some(),
    }
}

fn equals(found: &Found, value: &Value) -> bool {
    match (found, value) {
        (Found::Text(found) | Found::Number(_, Some(found)), Value::Text(text)) => found == text,
        (Found::Truth(truth), Value::Text(text)) => truth.to_string() == *text,
        (Found::Truth(found), Value::Boolean(truth)) => found == truth,
        _ => order(found, value) == Some(Ordering::Equal),
    }
}

fn order(found: &Found, value: &Value) -> Option<Ordering> {
    match (found, value) {
        (Found::Number(found, _), Value::Number(number)) => {
            Some(found.cmp(&BigInt::from(number.units())))
        }
        (Found::Whole(found), Value::Cost(whole) | Value::Time(whole) | Value::Duration(whole)) => {
            Some(found.cmp(&BigInt::from(*whole)))
        }
        _ => None,
    }
}

fn meets(found: &Found, operator: Operator, value: &Value) -> bool {
    let text = match found {
        Found::Text(text) | Found::Number(_, Some(text)) => Some(text.clone()),
        Found::Truth(truth) => Some(truth.to_string()),
        _ => None,
    };
    match (operator, value) {
        (Operator::Gt, _) => order(found, value) == Some(Ordering::Greater),
        (Operator::Gte, _) => order(found, value).is_some_and(Ordering::is_ge),
        (Operator::Lt, _) => order(found, value) == Some(Ordering::Less),
        (Operator::Lte, _) => order(found, value).is_some_and(Ordering::is_le),
        (Operator::In, Value::List(list)) => list.iter().any(|value| equals(found, value)),
        (Operator::Like, Value::Text(pattern)) => text.is_some_and(|text| {
            let chars: Vec<char> = text.chars().collect();
            is_like(&chars, &pattern.chars().collect::<Vec<_>>())
        }),
        (Operator::Search, Value::Text(part)) => {
            text.is_some_and(|text| contains_text(&text, part))
        }
        (Operator::Has, Value::Text(_)) => equals(found, value),
        (Operator::Has, Value::Object(asked)) => match found {
            Found::Object(object) => asked
                .iter()
                .all(|(key, value)| object.get(key).is_some_and(|found| contains(found, value))),
            _ => false,
        },
        (operator, value) => panic!("{operator} of {value}"),
    }
}

/// Objects by the entries that are asked for, numbers by their value.
fn contains(found: &Json, asked: &Json) -> bool {
    match (found, asked) {
        (Json::Object(found), Json::Object(asked)) => asked
            .iter()
            .all(|(key, asked)| found.get(key).is_some_and(|found| contains(found, asked))),
        _ => is_same(found, asked),
    }
}

fn is_same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => {
            one == other || (one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64()
        }
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| is_same(one, other)))
        }
        _ => one == other,
    }
}

fn contains_text(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|at| is_like(&text[at..], rest)),
        Some((char, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| (*char == '_' || char == first) && is_like(text, rest)),
    }
}

fn scaled(whole: i64) -> BigInt {
    BigInt::from(whole) * exact::ten_to(PLACES)
}

fn decimal(text: &str) -> BigInt {
    Decimal::parse(text).unwrap().rounded(PLACES)
}

/// Every field with every operator that it takes, where made-up runs are kept by some and not by others.
pub(crate) const EVERY: &[&str] = &[
    "eq(id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')",
    "neq(id, null)",
    "in(id, ['ffffffff-ffff-ffff-ffff-ffffffffffff'])",
    "eq(trace_id, null)",
    "neq(trace_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')",
    "in(trace_id, ['ffffffff-ffff-ffff-ffff-ffffffffffff'])",
    "eq(parent_run_id, null)",
    "neq(parent_run_id, null)",
    "in(parent_run_id, ['ffffffff-ffff-ffff-ffff-ffffffffffff'])",
    "eq(session_id, 'PROJECT')",
    "neq(session_id, 'PROJECT')",
    "in(session_id, ['PROJECT'])",
    "eq(reference_example_id, null)",
    "neq(reference_example_id, null)",
    "in(reference_example_id, ['ffffffff-ffff-ffff-ffff-ffffffffffff'])",
    "eq(name, 'agent')",
    "neq(root.name, 'chat')",
    "in(name, ['agent', ''])",
    "like(name, 'a%t')",
    "like(name, '_h__')",
    "search(name, 'ZO\u{cb}')",
    "eq(name, null)",
    "eq(run_type, 'llm')",
    "neq(run_type, 'llm')",
    "in(run_type, ['llm', 'tool'])",
    "like(run_type, '%l%')",
    "search(run_type, 'CHAIN')",
    "eq(status, 'error')",
    "neq(status, 'success')",
    "in(status, ['pending', 'error'])",
    "like(status, '%e%')",
    "search(status, 'ERR')",
    "eq(start_time, '2026-08-15')",
    "neq(start_time, '2026-08-15')",
    "gt(start_time, '2026-08-15')",
    "gte(start_time, '2026-08-15')",
    "lt(start_time, '2026-08-18T12:00:00Z')",
    "lte(start_time, '2026-08-18')",
    "in(start_time, ['2026-08-15', '2026-08-16'])",
    "eq(end_time, null)",
    "neq(end_time, '2026-08-15')",
    "gt(end_time, '2026-08-15')",
    "gte(end_time, '2026-08-15T01:02:03+02:00')",
    "lt(end_time, '2026-08-17')",
    "lte(end_time, '2026-08-17')",
    "in(end_time, ['2026-08-15'])",
    "eq(latency, '250ms')",
    "neq(latency, 1)",
    "gt(latency, 1)",
    "gte(latency, '1s')",
    "lt(latency, 0)",
    "lte(latency, 1.000001)",
    "in(latency, [0, '250ms'])",
    "eq(root.first_token, null)",
    "neq(first_token, '1ms')",
    "gt(first_token, '1ms')",
    "gte(first_token, 0.25)",
    "lt(first_token, 0.001)",
    "lte(first_token, 0)",
    "in(first_token, [0, 1])",
    "eq(total_tokens, 0)",
    "neq(total_tokens, 0)",
    "gt(total_tokens, 1000.5)",
    "gte(total_tokens, 1000.5)",
    "gte(total_tokens, 2000000000)",
    "lt(total_tokens, 1)",
    "lte(total_tokens, 0.5)",
    "lt(total_tokens, 99999999999999999999)",
    "in(total_tokens, [0, 2000000000, 1.5])",
    "eq(prompt_tokens, null)",
    "neq(prompt_tokens, null)",
    "gt(prompt_tokens, 1e3)",
    "gte(prompt_tokens, -1)",
    "lt(prompt_tokens, 0)",
    "lte(prompt_tokens, -1)",
    "in(prompt_tokens, [0])",
    "eq(completion_tokens, 0)",
    "neq(completion_tokens, 0)",
    "gt(completion_tokens, 0)",
    "gte(completion_tokens, 50000)",
    "lt(completion_tokens, 50000)",
    "lte(completion_tokens, 0)",
    "in(completion_tokens, [0, 1])",
    "eq(total_cost, 0)",
    "neq(total_cost, null)",
    "gt(total_cost, 0.000001)",
    "gte(total_cost, 0.5)",
    "lt(total_cost, 0.5)",
    "lte(total_cost, 0)",
    "in(total_cost, [0, 0.0000082])",
    "eq(prompt_cost, null)",
    "neq(prompt_cost, 0)",
    "gt(prompt_cost, 1)",
    "gte(prompt_cost, 1)",
    "lt(prompt_cost, 0)",
    "lte(prompt_cost, 0.1)",
    "in(prompt_cost, [-0.75])",
    "eq(completion_cost, 0)",
    "neq(completion_cost, 0)",
    "gt(completion_cost, 0.1)",
    "gte(completion_cost, 0.1)",
    "lt(completion_cost, 0.1)",
    "lte(completion_cost, 0.1)",
    "in(completion_cost, [0])",
    "eq(error, null)",
    "eq(error, true)",
    "eq(error, 'TimeoutError: no answer')",
    "neq(root.error, false)",
    "neq(error, 'TimeoutError: no answer')",
    "like(error, '%429%')",
    "search(error, 'TIMEOUT')",
    "eq(is_root, true)",
    "eq(is_root, false)",
    "neq(is_root, true)",
    "eq(execution_order, 1)",
    "neq(execution_order, 1)",
    "has(tags, 'prod')",
    "in(tags, ['b c', 'x'])",
    "eq(tags, null)",
    "neq(tags, null)",
    "has(metadata, '{\"user\": \"u1\"}')",
    "has(metadata, '{\"deep\": {\"a\": 1.0}, \"flag\": true}')",
    "has(metadata, '{\"deep\": {\"b\": [1, {}]}}')",
    "eq(metadata, null)",
    "neq(metadata, null)",
    "eq(thread_id, 't1')",
    "neq(thread_id, null)",
    "in(thread_id, ['7'])",
    "like(thread_id, 't_')",
    "search(thread_id, 'T')",
    "eq(metadata_key, 'user')",
    "neq(metadata_key, 'user')",
    "in(metadata_key, ['session_id', 'thread_id'])",
    "like(metadata_key, '%id')",
    "search(metadata_key, 'USE')",
    "eq(metadata_value, 'u1')",
    "neq(metadata_value, 'u1')",
    "eq(metadata_value, null)",
    "eq(metadata_value, true)",
    "eq(metadata_value, '1.5')",
    "gt(metadata_value, 2.5)",
    "gte(metadata_value, 7)",
    "lt(metadata_value, 2)",
    "lte(metadata_value, 1.5)",
    "in(metadata_value, [3, 'u1', true])",
    "like(metadata_value, 'u_')",
    "search(metadata_value, 'TRUE')",
    "eq(root.metadata_key, 'session_id')",
    "eq(root.metadata_value, 't1')",
    "eq(feedback_key, 'helpful')",
    "neq(feedback_key, 'helpful')",
    "in(feedback_key, ['helpful', 'correct'])",
    "like(feedback_key, '%l%')",
    "search(feedback_key, 'LABEL')",
    "eq(feedback_score, 0.5)",
    "eq(feedback_score, null)",
    "neq(feedback_score, null)",
    "gt(feedback_score, 0.5)",
    "gte(feedback_score, 0.5)",
    "lt(feedback_score, 0)",
    "lte(feedback_score, 0.3333333333333333)",
    "in(feedback_score, [1, 0])",
    "eq(feedback_value, 'good')",
    "neq(feedback_value, 'good')",
    "in(feedback_value, ['bad'])",
    "like(feedback_value, '_ad')",
    "search(feedback_value, 'GOO')",
    "gt(feedback_value, 1)",
    "gte(feedback_value, 1)",
    "lt(feedback_value, 1)",
    "lte(feedback_value, 1)",
    "eq(input_key, 'question')",
    "neq(input_key, 'question')",
    "in(input_key, ['question', 'n'])",
    "like(input_key, 'q%')",
    "search(input_key, 'QUEST')",
    "eq(input_value, 'Why?')",
    "neq(input_value, 'Why?')",
    "gt(input_value, 0)",
    "gte(input_value, 0)",
    "lt(input_value, 0)",
    "lte(input_value, 0)",
    "in(input_value, ['Why?', 1])",
    "like(input_value, '%?')",
    "search(input_value, 'WHY')",
    "eq(output_key, 'answer')",
    "neq(output_key, 'answer')",
    "in(output_key, ['answer'])",
    "like(output_key, '%.0')",
    "search(output_key, 'ANS')",
    "eq(output_value, true)",
    "neq(output_value, true)",
    "gt(output_value, 1)",
    "gte(output_value, 1)",
    "lt(output_value, 2)",
    "lte(output_value, 2)",
    "in(output_value, [1, 'a'])",
    "like(output_value, '%a%')",
    "search(output_value, 'A')",
    "search('limit')",
    "search('why')",
];

/// Filters that keep some of the runs that are made up.
pub(crate) fn any_filter() -> impl Strategy<Value = String> {
    let project = super::run::project_id(0).to_string();
    let every = EVERY.iter().map(|text| text.replace("PROJECT", &project));
    let leaf = select(every.collect::<Vec<_>>());
    leaf.prop_recursive(4, 20, 5, |inner| {
        let members = vec(inner.clone(), 1..6).prop_map(|members| members.join(", "));
        prop_oneof![
            4 => members.clone().prop_map(|members| format!("and({members})")),
            1 => members.prop_map(|members| format!("or({members})")),
            1 => inner.prop_map(|inner| format!("not({inner})")),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use runtally::filter::{Condition, Entry as One, Order, Test};

    use super::super::quick;
    use super::super::run::any_runs;

    fn keeps_text(filter: &str, run: &Run, root: Option<&Run>) -> bool {
        keeps(&Filter::parse(filter).unwrap(), run, root)
    }

    /// Filters, whether each keeps the root and whether it keeps the child.
    const BY_HAND: &[(&str, bool, bool)] = &[
        ("eq(name, 'agent')", true, true),
        ("eq(is_root, true)", true, false),
        ("eq(root.is_root, true)", true, true),
        ("neq(execution_order, 1)", false, true),
        ("eq(error, true)", false, true),
        ("neq(error, null)", false, true),
        ("eq(error, null)", true, false),
        ("search(error, 'timeout')", false, true),
        ("search('NO ANSWER')", false, true),
        ("search('why?')", true, false),
        ("eq(parent_run_id, null)", true, false),
        ("gt(latency, 2)", true, false),
        ("eq(latency, '2500ms')", true, false),
        ("lt(first_token, 1)", false, false),
        ("eq(first_token, null)", true, true),
        ("gte(start_time, '1970-01-01T00:00:01.5')", false, true),
        ("lt(total_tokens, 10.5)", true, false),
        ("neq(total_tokens, 10)", false, true),
        ("eq(total_cost, 0.3)", true, false),
        ("like(name, 'a%_t')", true, true),
        ("like(name, 'A%')", false, false),
        ("has(tags, 'prod')", true, false),
        ("in(tags, ['x', 'b c'])", true, false),
        ("eq(tags, null)", false, true),
        ("eq(thread_id, 't1')", true, false),
        ("eq(root.thread_id, 't1')", true, true),
        (r#"has(metadata, '{"deep": {"a": 1.0}}')"#, true, false),
        (r#"has(metadata, '{"deep": 1}')"#, false, false),
        ("eq(metadata_key, 'none')", true, false),
        (
            "and(eq(metadata_key, 'user'), eq(metadata_value, 'u1'))",
            true,
            false,
        ),
        (
            "and(eq(metadata_key, 'user'), eq(metadata_value, 't1'))",
            false,
            false,
        ),
        (
            "and(eq(metadata_value, 't1'), eq(metadata_key, 'user'))",
            true,
            false,
        ),
        (
            "and(eq(metadata_key, 'user'), neq(metadata_value, 't1'))",
            true,
            false,
        ),
        (
            "and(eq(metadata_key, 'none'), eq(metadata_value, null))",
            true,
            false,
        ),
        (
            "and(eq(metadata_key, 'n'), eq(metadata_value, '3'))",
            true,
            false,
        ),
        (
            "and(eq(metadata_key, 'n'), gt(metadata_value, 2.5))",
            true,
            false,
        ),
        (
            "and(eq(metadata_key, 'n'), eq(metadata_key, 'user'), eq(metadata_value, 'u1'))",
            true,
            false,
        ),
        (
            "and(eq(feedback_key, 'helpful'), gte(feedback_score, 0.5))",
            true,
            false,
        ),
        (
            "and(eq(feedback_key, 'tone'), gte(feedback_score, 0.5))",
            false,
            false,
        ),
        (
            "and(eq(feedback_key, 'tone'), eq(feedback_value, 'good'))",
            true,
            false,
        ),
        (
            "and(eq(input_key, 'messages.0.content'), eq(input_value, 'Why?'))",
            true,
            false,
        ),
        (
            "and(eq(input_key, 'n'), eq(input_value, 1.50))",
            true,
            false,
        ),
        ("eq(input_key, 'messages')", true, false),
    ];

    fn a_root_and_its_child() -> (Run, Run) {
        let mut run = Run::completed_root(1, 1_000_000, 3_500_000);
        run.tags = Some(vec!["prod".to_owned(), "b c".to_owned()]);
        run.extra = Some(
            r#"{"metadata": {"user": "u1", "n": 3, "deep": {"a": 1, "b": 2}, "thread_id": "t1", "none": null}}"#
                .to_owned(),
        );
        run.inputs = Some(r#"{"messages": [{"content": "Why?"}], "n": 1.5}"#.to_owned());
        run.feedback_stats = Some(
            r#"{"helpful": {"n": 1, "avg": 0.5}, "tone": {"n": 2, "avg": null, "values": {"good": 2}}}"#
                .to_owned(),
        );
        run.total_tokens = Some(10);
        run.total_cost = Some(super::super::run::Cost::of_text("0.30000000000000004"));
        let mut child = Run::completed_root(2, 1_500_000, 2_000_000);
        child.parent_run_id = Some(run.id);
        child.is_root = Some(false);
        child.status = Some("error".to_owned());
        child.error = Some("TimeoutError: no answer".to_owned());
        (run, child)
    }

    #[test]
    fn filters_by_hand() {
        let (run, child) = a_root_and_its_child();
        for (filter, of_root, of_child) in BY_HAND {
            assert_eq!(keeps_text(filter, &run, Some(&run)), *of_root, "{filter}");
            assert_eq!(
                keeps_text(filter, &child, Some(&run)),
                *of_child,
                "{filter}"
            );
        }
        assert!(!keeps_text("eq(root.name, 'agent')", &child, None));
        assert!(keeps_text("eq(root.name, null)", &child, None));
    }

    /// A condition as text again. Each pair stands where no other member can be
    /// bound to its parts.
    fn written(condition: &Condition) -> String {
        let all =
            |members: &[Condition]| members.iter().map(written).collect::<Vec<_>>().join(", ");
        match condition {
            Condition::All(members) => format!("and({})", all(members)),
            Condition::Any(members) => format!("or({})", all(members)),
            Condition::Not(inner) => format!("not({})", written(inner)),
            Condition::Field(subject, test) => written_test(&subject.to_string(), test),
            Condition::Entry(One {
                family,
                of_root,
                key,
                value,
            }) => {
                let name = |part| {
                    let field = Field::ALL
                        .iter()
                        .find(|field| field.family() == Some((*family, part)));
                    let prefix = if *of_root { "root." } else { "" };
                    format!("{prefix}{}", field.unwrap())
                };
                let key = key
                    .as_ref()
                    .map(|test| written_test(&name(Part::Key), test));
                let value = value.as_ref();
                let value = value.map(|(part, test)| written_test(&name(*part), test));
                let parts: Vec<String> = key.into_iter().chain(value).collect();
                format!("not(not(and({})))", parts.join(", "))
            }
            Condition::Search(text) => Filter::search(text).to_string(),
        }
    }

    fn written_test(name: &str, of: &Test) -> String {
        match of {
            Test::Present => format!("neq({name}, null)"),
            Test::Equals(value) if name.ends_with("tags") => format!("has({name}, {value})"),
            Test::Equals(value) => format!("eq({name}, {value})"),
            Test::Compared(order, value) => {
                let operator = match order {
                    Order::Greater => "gt",
                    Order::GreaterOrEqual => "gte",
                    Order::Less => "lt",
                    Order::LessOrEqual => "lte",
                };
                format!("{operator}({name}, {value})")
            }
            Test::OneOf(list) => format!("in({name}, {})", Value::List(list.clone())),
            Test::Contains(object) => format!("has({name}, {})", Value::Object(object.clone())),
            Test::Like(text) => format!("like({name}, {})", Value::text(text)),
            Test::Search(text) => format!("search({name}, {})", Value::text(text)),
            Test::Not(inner) => match &**inner {
                Test::Present => format!("eq({name}, null)"),
                Test::Equals(value) => format!("neq({name}, {value})"),
                other => panic!("{other:?} negated"),
            },
        }
    }

    proptest! {
        #![proptest_config(quick(256))]

        #[test]
        fn a_filter_keeps_what_it_means(text in any_filter(), runs in any_runs(1, 6)) {
            let filter = Filter::parse(&text).unwrap();
            let meaning = Filter::parse(&written(&filter.resolved())).unwrap();
            let again = Filter::parse(&filter.to_string()).unwrap();
            for run in &runs {
                let root = runs.iter().find(|root| root.is_root == Some(true) && root.trace_id == run.trace_id);
                let is_kept = keeps(&filter, run, root);
                prop_assert_eq!(keeps(&meaning, run, root), is_kept, "{}\n{}", text, meaning);
                prop_assert_eq!(keeps(&again, run, root), is_kept);
            }
        }
    }
}
