//! The document's shape, pinned from outside.
//!
//! Strict structs with the 29 keys of `TracerSession` (v1): an unknown key, a
//! missing one or a wrong type does not parse. `check` reads a document's raw
//! text and also looks at the order of its keys and the form of its values.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// The document's keys, in order.
pub(crate) const KEYS: [&str; 29] = [
    "id",
    "tenant_id",
    "start_time",
    "end_time",
    "extra",
    "name",
    "description",
    "default_dataset_id",
    "reference_dataset_id",
    "trace_tier",
    "run_count",
    "latency_p50",
    "latency_p99",
    "first_token_p50",
    "first_token_p99",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "last_run_start_time",
    "last_run_start_time_live",
    "feedback_stats",
    "session_feedback_stats",
    "run_facets",
    "error_rate",
    "streaming_rate",
    "test_run_number",
];

/// The keys of one feedback key's figures, in order.
pub(crate) const FEEDBACK_KEYS: [&str; 11] = [
    "n",
    "avg",
    "stdev",
    "errors",
    "show_feedback_arrow",
    "comments",
    "sources",
    "session_min_score",
    "session_max_score",
    "values",
    "contains_thread_feedback",
];

/// The document; `C` is a cost: `Dollars`, or `Number` where asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound = "C: DeserializeOwned")]
pub(crate) struct TracerSession<C = Dollars> {
    pub(crate) id: Id,
    pub(crate) tenant_id: Id,
    pub(crate) start_time: Time,
    #[serde(deserialize_with = "required")]
    pub(crate) end_time: Option<Time>,
    #[serde(deserialize_with = "required")]
    pub(crate) extra: Option<serde_json::Map<String, Value>>,
    pub(crate) name: String,
    #[serde(deserialize_with = "required")]
    pub(crate) description: Option<String>,
    #[serde(deserialize_with = "required")]
    pub(crate) default_dataset_id: Option<Id>,
    #[serde(deserialize_with = "required")]
    pub(crate) reference_dataset_id: Option<Id>,
    #[serde(deserialize_with = "required")]
    pub(crate) trace_tier: Option<Tier>,
    #[serde(deserialize_with = "required")]
    pub(crate) run_count: Option<u64>,
    #[serde(deserialize_with = "required")]
    pub(crate) latency_p50: Option<Seconds>,
    #[serde(deserialize_with = "required")]
    pub(crate) latency_p99: Option<Seconds>,
    #[serde(deserialize_with = "required")]
    pub(crate) first_token_p50: Option<Seconds>,
    #[serde(deserialize_with = "required")]
    pub(crate) first_token_p99: Option<Seconds>,
    #[serde(deserialize_with = "required")]
    pub(crate) total_tokens: Option<i64>,
    #[serde(deserialize_with = "required")]
    pub(crate) prompt_tokens: Option<i64>,
    #[serde(deserialize_with = "required")]
    pub(crate) completion_tokens: Option<i64>,
    #[serde(deserialize_with = "required")]
    pub(crate) total_cost: Option<C>,
    #[serde(deserialize_with = "required")]
    pub(crate) prompt_cost: Option<C>,
    #[serde(deserialize_with = "required")]
    pub(crate) completion_cost: Option<C>,
    #[serde(deserialize_with = "required")]
    pub(crate) last_run_start_time: Option<Time>,
    #[serde(deserialize_with = "required")]
    pub(crate) last_run_start_time_live: Option<Time>,
    #[serde(deserialize_with = "required")]
    pub(crate) feedback_stats: Option<BTreeMap<String, Feedback>>,
    #[serde(deserialize_with = "required")]
    pub(crate) session_feedback_stats: Option<BTreeMap<String, Feedback>>,
    #[serde(deserialize_with = "required")]
    pub(crate) run_facets: Option<Vec<Value>>,
    #[serde(deserialize_with = "required")]
    pub(crate) error_rate: Option<Rate>,
    #[serde(deserialize_with = "required")]
    pub(crate) streaming_rate: Option<Rate>,
    #[serde(deserialize_with = "required")]
    pub(crate) test_run_number: Option<u64>,
}

/// One key's feedback.
#[allow(clippy::struct_field_names)] // the names are the document's
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feedback {
    pub(crate) n: u64,
    #[serde(deserialize_with = "required")]
    pub(crate) avg: Option<f64>,
    #[serde(deserialize_with = "required")]
    pub(crate) stdev: Option<f64>,
    pub(crate) errors: u64,
    pub(crate) show_feedback_arrow: bool,
    pub(crate) comments: Vec<String>,
    pub(crate) sources: Vec<Value>,
    #[serde(deserialize_with = "required")]
    pub(crate) session_min_score: Option<f64>,
    #[serde(deserialize_with = "required")]
    pub(crate) session_max_score: Option<f64>,
    pub(crate) values: BTreeMap<String, u64>,
    pub(crate) contains_thread_feedback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    LongLived,
    ShortLived,
}

/// A lower-case hyphenated uuid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Id(pub(crate) String);

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_canonical = uuid::Uuid::try_parse(&text).is_ok_and(|id| id.to_string() == text);
        is_canonical
            .then_some(Self(text.clone()))
            .ok_or(format!("`{text}` as uuid"))
    }
}

/// RFC 3339 in UTC with `Z`; a fraction of one to six digits, the last not 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(pub(crate) String);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parses = chrono::DateTime::parse_from_rfc3339(&text).is_ok();
        let unzoned = text.strip_suffix('Z').unwrap_or_default();
        let (whole, fraction) = unzoned.split_once('.').unwrap_or((unzoned, "1"));
        let is_short = (1..=6).contains(&fraction.len()) && !fraction.ends_with('0');
        let is_form = whole.len() == 19 && whole.as_bytes()[10] == b'T' && is_short;
        (parses && is_form)
            .then_some(Self(text.clone()))
            .ok_or(format!("`{text}` as time"))
    }
}

/// A cost as text: plain decimal notation without trailing zeros.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Dollars(pub(crate) String);

impl TryFrom<String> for Dollars {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = is_plain_amount(&text);
        is_plain
            .then_some(Self(text.clone()))
            .ok_or(format!("`{text}` as cost"))
    }
}

/// A cost as a JSON number, its digits kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Number(pub(crate) Box<RawValue>);

/// Not negative.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Seconds(pub(crate) f64);

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        (value >= 0.0)
            .then_some(Self(value))
            .ok_or(format!("{value} as seconds"))
    }
}

/// From 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Rate(pub(crate) f64);

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        (0.0..=1.0)
            .contains(&value)
            .then_some(Self(value))
            .ok_or(format!("{value} as rate"))
    }
}

/// Reads one document's raw text; panics where its shape is not the contract's.
pub(crate) fn check(text: &str) -> TracerSession {
    check_order(text);
    let session: TracerSession = parse(text);
    check_presence(&session, text);
    session
}

/// Like `check`, for a document whose costs are numbers. To be compared with
/// the strings of the same question: the digits are the same.
pub(crate) fn check_with_numbers(text: &str) -> TracerSession<Number> {
    check_order(text);
    let session: TracerSession<Number> = parse(text);
    for cost in [
        &session.total_cost,
        &session.prompt_cost,
        &session.completion_cost,
    ] {
        let digits = cost.as_ref().map_or("0", |cost| cost.0.get());
        assert!(digits.parse::<f64>().is_ok(), "{digits} is no number");
    }
    check_presence(&session, text);
    session
}

/// Reads the raw text of a JSON array of documents.
pub(crate) fn check_list(text: &str) -> Vec<TracerSession> {
    let documents: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
    documents
        .iter()
        .map(|document| check(document.get()))
        .collect()
}

/// The keys of an object's raw text as they stand, repeated ones too.
pub(crate) fn keys_of(text: &str) -> Vec<String> {
    let Keys(keys) = serde_json::from_str(text).unwrap();
    keys
}

fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\nin {text}"))
}

fn check_order(text: &str) {
    assert_eq!(keys_of(text), KEYS, "in {text}");
    let values: BTreeMap<String, Box<RawValue>> = parse(text);
    for key in ["feedback_stats", "session_feedback_stats"] {
        let feedback = values[key].get();
        if feedback == "null" {
            continue;
        }
        let names = keys_of(feedback);
        assert!(names.is_sorted(), "`{key}` is not sorted: {names:?}");
        for figures in parse::<BTreeMap<String, Box<RawValue>>>(feedback).values() {
            assert_eq!(keys_of(figures.get()), FEEDBACK_KEYS);
            let figures: BTreeMap<String, Box<RawValue>> = parse(figures.get());
            assert!(keys_of(figures["values"].get()).is_sorted());
        }
    }
}

/// Stats are there together or not at all, and figures that need each other
/// are too.
fn check_presence<C>(session: &TracerSession<C>, text: &str) {
    let has_stats = session.run_count.is_some();
    let has_runs = session.run_count.is_some_and(|n| n > 0);
    assert_eq!(session.feedback_stats.is_some(), has_stats, "{text}");
    assert_eq!(
        session.session_feedback_stats.is_some(),
        has_stats,
        "{text}"
    );
    assert_eq!(session.run_facets.is_some(), has_stats, "{text}");
    assert_eq!(session.last_run_start_time.is_some(), has_runs, "{text}");
    assert_eq!(
        session.latency_p50.is_some(),
        session.latency_p99.is_some(),
        "{text}"
    );
    assert_eq!(
        session.first_token_p50.is_some(),
        session.first_token_p99.is_some(),
        "{text}"
    );
    let needs_runs = [
        session.latency_p50.is_some(),
        session.first_token_p50.is_some(),
        session.total_cost.is_some(),
        session.prompt_cost.is_some(),
        session.completion_cost.is_some(),
        session.error_rate.is_some(),
        session.streaming_rate.is_some(),
    ];
    assert!(
        has_runs || !needs_runs.contains(&true),
        "figures of no runs: {text}"
    );
}

/// `-?digits[.digits]` without needless zeros, at most 12 fractional digits.
fn is_plain_amount(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "1"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole)
        && all_digits(fraction)
        && (whole == "0" || !whole.starts_with('0'))
        && !fraction.ends_with('0')
        && fraction.len() <= 12
        && text != "-0"
}

/// An `Option` that may be null but not absent.
fn required<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// An object's keys alone.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = map.next_key()? {
            map.next_value::<IgnoredAny>()?;
            keys.push(key);
        }
        Ok(Keys(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> String {
        let values = KEYS.map(|key| match key {
            "id" | "tenant_id" => r#""6ba7b810-9dad-41d1-80b4-00c04fd430c8""#,
            "start_time" => r#""2024-06-06T01:02:51.29996Z""#,
            "name" => r#""x""#,
            _ => "null",
        });
        let entries: Vec<String> = KEYS
            .iter()
            .zip(values)
            .map(|(key, value)| format!("\"{key}\": {value}"))
            .collect();
        format!("{{{}}}", entries.join(", "))
    }

    #[test]
    fn a_document_must_have_every_key_in_order() {
        let good = document();
        assert_eq!(check(&good).start_time.0, "2024-06-06T01:02:51.29996Z");
        let is_wrong = |text: String| std::panic::catch_unwind(|| check(&text)).is_err();
        assert!(is_wrong(good.replace(r#""extra": null, "#, "")));
        assert!(is_wrong(
            good.replace(r#""extra": null"#, r#""other": null"#)
        ));
        assert!(is_wrong(
            good.replace(r#""extra": null"#, r#""extra": null, "extra": null"#)
        ));
        let swapped = r#""prompt_cost": null, "total_cost": null"#;
        assert!(is_wrong(
            good.replace(r#""total_cost": null, "prompt_cost": null"#, swapped)
        ));
        assert!(is_wrong(
            good.replace(r#""run_count": null"#, r#""run_count": 1"#)
        ));
    }

    #[test]
    fn forms_of_values() {
        for amount in ["0", "0.206485", "-1", "10", "120.000000000001"] {
            assert!(is_plain_amount(amount), "{amount}");
        }
        for amount in [
            "",
            "-",
            "-0",
            "00",
            "1.",
            ".5",
            "1.50",
            "1e3",
            "+1",
            "0.0000000000001",
        ] {
            assert!(!is_plain_amount(amount), "{amount}");
        }
        let is_time = |text: &str| Time::try_from(text.to_owned()).is_ok();
        assert!(is_time("2024-06-06T01:02:51Z"));
        for time in [
            "2024-06-06T01:02:51.0Z",
            "2024-06-06T01:02:51",
            "2024-06-06 01:02:51Z",
        ] {
            assert!(!is_time(time), "{time}");
        }
        assert!(!is_time("2024-06-06T01:02:51.1234567Z"));
        assert!(Id::try_from("6BA7B810-9dad-41d1-80b4-00c04fd430c8".to_owned()).is_err());
        assert!(Rate::try_from(1.5).is_err());
    }
}
