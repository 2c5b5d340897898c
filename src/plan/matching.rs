//! Tests of values that are lists or JSON, as functions of the engine: one entry of the metadata, of the
//! feedback, of the inputs or outputs; tags; texts without minding case.
//!
//! JSON that cannot be read has no entries.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::filter::{Entry, Family, Number, Order, Part, Test, Value};
use crate::runs::functions::{self, object};

/// What a value is tested for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    /// A JSON has an entry that satisfies this.
    Entry(Entry),
    /// Any of a list of tags satisfies this.
    Tags(Test),
    /// A JSON object as a whole.
    Metadata(Test),
    /// A text.
    Text(Test),
}

/// Whether a column's values match.
pub(super) fn matches(value: Expr, matcher: Matcher) -> Expr {
    let function = Matches {
        matcher,
        signature: Signature::any(1, Volatility::Immutable),
    };
    Arc::new(ScalarUDF::new_from_impl(function)).call(vec![value])
}

#[derive(Debug, PartialEq, Eq)]
struct Matches {
    matcher: Matcher,
    signature: Signature,
}

impl Hash for Matches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{:?}", self.matcher).hash(state);
    }
}

impl ScalarUDFImpl for Matches {
    fn name(&self) -> &'static str {
        match &self.matcher {
            Matcher::Entry(entry) => match entry.family {
                Family::Metadata => "metadata_match",
                Family::Feedback => "feedback_matches",
                Family::Input => "input_matches",
                Family::Output => "output_matches",
            },
            Matcher::Tags(_) => "tags_match",
            Matcher::Metadata(_) => "metadata_contain",
            Matcher::Text(_) => "text_matches",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return internal_err!("{} takes one value", self.name());
        };
        let values = value.to_array(args.number_rows)?;
        let found: BooleanArray = match &self.matcher {
            Matcher::Tags(test) => any_tag(&values, test),
            Matcher::Entry(entry) => texts(&values, |json| has_entry(json, entry)),
            Matcher::Metadata(test) => texts(&values, |json| object_is(json, test)),
            Matcher::Text(test) => texts(&values, |text| text_is(text, test)),
        };
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

fn texts(values: &ArrayRef, matches: impl Fn(&str) -> bool) -> BooleanArray {
    let texts = values.as_string_view().iter();
    texts.map(|text| Some(text.is_some_and(&matches))).collect()
}

fn any_tag(lists: &ArrayRef, test: &Test) -> BooleanArray {
    let lists = lists.as_list::<i32>();
    let is_match = |tags: Option<ArrayRef>| {
        tags.is_some_and(|tags| {
            let mut tags = tags.as_string_view().iter().flatten();
            tags.any(|tag| text_is(tag, test))
        })
    };
    lists.iter().map(|tags| Some(is_match(tags))).collect()
}

fn text_is(value: &str, test: &Test) -> bool {
    match test {
        Test::Present => true,
        Test::Equals(one) => *one == Value::text(value),
        Test::OneOf(list) => list.contains(&Value::text(value)),
        Test::Like(pattern) => is_like(value, pattern),
        Test::Search(part) => value.to_lowercase().contains(&part.to_lowercase()),
        Test::Not(inner) => !text_is(value, inner),
        Test::Compared(..) | Test::Contains(_) => false,
    }
}

/// `%` stands for any text, `_` for any character.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut in_pattern) = (0, 0);
    // Where to go on if what follows the last `%` does not fit: it takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some('%') => {
                in_pattern += 1;
                retry = Some((at, in_pattern));
            }
            Some(one) if *one == '_' || text.get(at) == Some(one) => {
                at += 1;
                in_pattern += 1;
            }
            _ => {
                let Some((from, after)) = retry else {
                    return false;
                };
                at = from + 1;
                in_pattern = after;
                retry = Some((at, after));
            }
        }
    }
    pattern
        .get(in_pattern..)
        .is_some_and(|rest| rest.iter().all(|one| *one == '%'))
}

/// A scalar of a JSON. Lists, objects and null are no values. A text equals a number or a boolean that is
/// written so.
fn scalar_is(json: Option<&RawValue>, test: &Test) -> bool {
    let scalar = || functions::scalar_text(json?);
    let number = || json.filter(|_| is_number(json));
    let equals = |text: &str, value: &Value| match value {
        Value::Text(wanted) => text == wanted,
        Value::Boolean(wanted) => json.is_some_and(|json| json.get() == wanted.to_string()),
        Value::Number(wanted) => {
            number().and_then(|json| against(json.get(), *wanted)) == Some(Ordering::Equal)
        }
        _ => false,
    };
    match test {
        Test::Present => scalar().is_some(),
        Test::Equals(one) => scalar().is_some_and(|text| equals(&text, one)),
        Test::OneOf(list) => scalar().is_some_and(|text| list.iter().any(|one| equals(&text, one))),
        Test::Compared(order, Value::Number(bound)) => {
            let compared = number().and_then(|json| against(json.get(), *bound));
            compared.is_some_and(|compared| match order {
                Order::Greater => compared.is_gt(),
                Order::GreaterOrEqual => compared.is_ge(),
                Order::Less => compared.is_lt(),
                Order::LessOrEqual => compared.is_le(),
            })
        }
        Test::Like(_) | Test::Search(_) => scalar().is_some_and(|text| text_is(&text, test)),
        Test::Not(inner) => !scalar_is(json, inner),
        Test::Compared(..) | Test::Contains(_) => false,
    }
}

fn is_number(json: Option<&RawValue>) -> bool {
    json.is_some_and(|json| {
        json.get()
            .starts_with(|first: char| first == '-' || first.is_ascii_digit())
    })
}

/// A number's text against a bound: exactly, but for numbers with more digits than a bound can have.
fn against(text: &str, bound: Number) -> Option<Ordering> {
    if let Some(number) = Number::parse(text) {
        return Some(number.cmp(&bound));
    }
    let (number, bound): (f64, f64) = (text.parse().ok()?, bound.to_string().parse().ok()?);
    number.partial_cmp(&bound)
}

fn object_is(json: &str, test: &Test) -> bool {
    match test {
        Test::Present => !object(json).is_empty(),
        Test::Contains(wanted) => {
            serde_json::from_str::<serde_json::Value>(json).is_ok_and(|value| {
                wanted.iter().all(|(key, wanted)| {
                    value.get(key).is_some_and(|value| contains(value, wanted))
                })
            })
        }
        _ => false,
    }
}

/// Whether an object has these entries, and those in it likewise; all else must be the same.
fn contains(value: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    match (value, wanted) {
        (serde_json::Value::Object(value), serde_json::Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| value.get(key).is_some_and(|value| contains(value, wanted))),
        (value, wanted) => is_same(value, wanted),
    }
}

/// Whether two JSONs are the same, numbers by their value.
fn is_same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Object(one), Object(other)) => {
            let is_same = |(key, one)| other.get(key).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(is_same)
        }
        (Array(one), Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Number(one), Number(other)) if one.is_f64() || other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        (one, other) => one == other,
    }
}

/// What one key of a run's feedback says.
#[derive(Default, Deserialize)]
struct Summary<'a> {
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    avg: Option<&'a RawValue>,
    values: Option<&'a RawValue>,
}

fn has_entry(json: &str, entry: &Entry) -> bool {
    match entry.family {
        Family::Metadata => object(json).iter().any(|(key, value)| {
            let is_key = entry.key.as_ref().is_none_or(|test| text_is(key, test));
            is_key
                && entry
                    .value
                    .as_ref()
                    .is_none_or(|(_, test)| scalar_is(Some(value), test))
        }),
        Family::Feedback => {
            let keys: BTreeMap<Cow<'_, str>, Option<Summary<'_>>> =
                serde_json::from_str(json).unwrap_or_default();
            keys.iter().any(|(key, summary)| {
                entry.key.as_ref().is_none_or(|test| text_is(key, test))
                    && entry.value.as_ref().is_none_or(|(part, test)| {
                        let nothing = Summary::default();
                        summary_is(summary.as_ref().unwrap_or(&nothing), *part, test)
                    })
            })
        }
        Family::Input | Family::Output => {
            serde_json::from_str(json).is_ok_and(|json: &RawValue| {
                any_path(json, &mut String::new(), DEPTH_MAX, &mut |path, value| {
                    entry.key.as_ref().is_none_or(|test| text_is(path, test))
                        && entry
                            .value
                            .as_ref()
                            .is_none_or(|(_, test)| scalar_is(Some(value), test))
                })
            })
        }
    }
}

/// A score, or any of the labels; a feedback without labels has one that is missing.
fn summary_is(summary: &Summary<'_>, part: Part, test: &Test) -> bool {
    if part == Part::Score {
        return scalar_is(score(summary), test);
    }
    let given = labels(summary);
    if given.is_empty() {
        return scalar_is(None, test);
    }
    given.iter().any(|label| text_is(label, test))
}

/// The labels that were given.
fn labels<'a>(summary: &Summary<'a>) -> Vec<Cow<'a, str>> {
    let labels = summary.values.map(|values| object(values.get()));
    let given = labels
        .into_iter()
        .flatten()
        .filter(|(_, n)| !is_none(Some(n)));
    given.map(|(label, _)| label).collect()
}

/// The score, where there is one.
fn score<'a>(summary: &Summary<'a>) -> Option<&'a RawValue> {
    let is_score = |avg: &&RawValue| is_number(Some(avg)) && !is_none(summary.n);
    summary.avg.filter(is_score)
}

/// What a run's feedback says under a key: its labels, else its score.
pub(super) fn given_under(json: &str, key: &str) -> Vec<String> {
    let keys: BTreeMap<Cow<'_, str>, Option<Summary<'_>>> =
        serde_json::from_str(json).unwrap_or_default();
    let Some(Some(summary)) = keys.get(key) else {
        return Vec::new();
    };
    let labels = labels(summary);
    if labels.is_empty() {
        let score = score(summary).and_then(functions::scalar_text);
        return score.into_iter().collect();
    }
    labels.into_iter().map(Cow::into_owned).collect()
}

/// Whether a count says that there is nothing.
fn is_none(n: Option<&RawValue>) -> bool {
    n.is_some_and(|n| matches!(n.get(), "0" | "0.0"))
}

/// How deep values are looked for.
const DEPTH_MAX: usize = 128;

/// Whether any value below a JSON, with the keys and places that lead to it joined by dots, satisfies.
fn any_path(
    json: &RawValue,
    path: &mut String,
    depth: usize,
    satisfies: &mut dyn FnMut(&str, &RawValue) -> bool,
) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let text = json.get();
    let mut below = |step: &str, value: &RawValue| {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(step);
        let found = satisfies(path, value) || any_path(value, path, depth, satisfies);
        path.truncate(length);
        found
    };
    match text.as_bytes().first() {
        Some(b'{') => object(text).iter().any(|(key, value)| below(key, value)),
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            let mut places = list.iter().enumerate();
            places.any(|(place, value)| below(&place.to_string(), value))
        }
        _ => false,
    }
}
