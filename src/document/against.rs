//! Against: our document of a project beside another's, such as the service's own, field by field, with the
//! likely causes of each difference.
//!
//! A cause is named where what is known of the runs fits it; that is evidence and no proof. Facets, which
//! the API does not define, and lists of single comments are not compared.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::value::Timestamp;
use crate::error::Error;
use crate::tally::money;
use crate::time;

/// The service looks at the last so many microseconds: 31 days.
const CAP_US: i64 = 31 * 86_400_000_000;
/// Beyond so many traces the service draws a sample for percentiles.
const SAMPLED: u64 = 8_192;
/// A sample's percentiles are rarely further off.
const SAMPLE_ERROR: f64 = 0.05;
/// Our own are within this of the exact ones, beyond so many values.
const BOUND: f64 = 0.001;
const EXACT: u64 = 256;
/// Doubles that differ by less are the same number, printed by other programs.
const NOISE: f64 = 1e-9;

/// A document to compare with.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherDocument(Map<String, Value>);

impl FromStr for OtherDocument {
    type Err = Error;

    /// Reads a document, also as the only one of a list.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |problem: String| Error::BadData { problem };
        let value: Value = serde_json::from_str(text).map_err(|error| {
            bad(format!(
                "expected a project's document, found no JSON: {error}"
            ))
        })?;
        let value = match value {
            Value::Array(mut list) if list.len() == 1 => list.remove(0),
            value => value,
        };
        match value {
            Value::Object(fields) if fields.contains_key("run_count") => Ok(Self(fields)),
            _ => Err(bad(
                "expected one project's document, as GET /sessions/{id}?include_stats=true gives it"
                    .to_owned(),
            )),
        }
    }
}

/// Two documents, field by field.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// How many fields are equal.
    pub n_equal: u64,
    /// How many are not.
    pub n_different: u64,
    /// The fields in the order of the document; those of feedback as `feedback_stats.<key>.<field>`.
    pub fields: Vec<FieldComparison>,
}

/// A field of two documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldComparison {
    /// Its name.
    pub field: String,
    /// How the two are.
    pub verdict: Verdict,
    /// What our document says.
    pub ours: Value,
    /// What the other one says.
    pub theirs: Value,
    /// Ours less theirs; of times in seconds.
    pub difference: Option<f64>,
    /// That over theirs.
    pub relative: Option<f64>,
    /// The likely causes of the difference, the likeliest first.
    pub causes: Vec<Cause>,
}

/// How a field of two documents is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both say the same.
    Equal,
    /// They say something else.
    Differs,
    /// Only ours says anything.
    OnlyOurs,
    /// Only the other one does.
    OnlyTheirs,
}

/// Why two documents may differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// Its stable name.
    pub kind: &'static str,
    /// What speaks for it.
    pub evidence: String,
}

/// What is known of our runs that may explain a difference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The first and the last start of the traces that were counted.
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
    /// The gaps, a sentence each.
    pub(crate) gaps: Vec<String>,
    /// Our document with the usage of the other rule, and what that is called.
    pub(crate) by_other_rule: Option<(&'static str, Value)>,
    /// Runs that never ended.
    pub(crate) n_pending: u64,
    /// Runs that are counted twice.
    pub(crate) n_repeated: u64,
    /// Whether a record of the project was given.
    pub(crate) has_metadata: bool,
}

/// What a field tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Of the project itself.
    Own,
    Count,
    Percentile,
    Sum,
    Last,
    /// Rates and feedback.
    Other,
}

impl Class {
    fn of(field: &str) -> Self {
        match field {
            "run_count" => Self::Count,
            "last_run_start_time" | "last_run_start_time_live" => Self::Last,
            "error_rate" | "streaming_rate" => Self::Other,
            _ if field.starts_with("latency_p") || field.starts_with("first_token_p") => {
                Self::Percentile
            }
            _ if field.ends_with("_tokens") || field.ends_with("_cost") => Self::Sum,
            _ if field.starts_with("feedback_stats") => Self::Other,
            _ => Self::Own,
        }
    }
}

/// Compares our document with another.
pub(crate) fn compare(ours: &Value, theirs: &OtherDocument, evidence: &Evidence) -> Comparison {
    let empty = Map::new();
    let (ours, theirs) = (flat(ours.as_object().unwrap_or(&empty)), flat(&theirs.0));
    let own_names: BTreeSet<&String> = ours.iter().map(|(name, _)| name).collect();
    let more = theirs.iter().filter(|(name, _)| !own_names.contains(name));
    let names = ours.iter().chain(more).map(|(name, _)| name);
    let mut fields: Vec<FieldComparison> = names
        .map(|name| FieldComparison::new(name, value(&ours, name), value(&theirs, name)))
        .filter(|field| !(field.ours.is_null() && field.theirs.is_null()))
        .collect();
    let seen = Seen::of(&fields);
    for field in &mut fields {
        if field.verdict != Verdict::Equal {
            field.causes = seen.causes(field, evidence);
        }
    }
    let is_equal = |field: &&FieldComparison| field.verdict == Verdict::Equal;
    let n_equal = fields.iter().filter(is_equal).count() as u64;
    Comparison {
        n_equal,
        n_different: fields.len() as u64 - n_equal,
        fields,
    }
}

/// The fields, those of feedback by their keys.
fn flat(document: &Map<String, Value>) -> Vec<(String, Value)> {
    const LEFT_OUT: [&str; 3] = ["comments", "sources", "show_feedback_arrow"];
    let mut fields = Vec::new();
    for (name, value) in document {
        match (name.as_str(), value) {
            ("run_facets", _) => {}
            ("feedback_stats" | "session_feedback_stats", Value::Object(keys)) => {
                for (key, stats) in keys {
                    let stats = stats.as_object().into_iter().flatten();
                    let stats = stats.filter(|(field, _)| !LEFT_OUT.contains(&field.as_str()));
                    fields
                        .extend(stats.map(|(field, value)| {
                            (format!("{name}.{key}.{field}"), value.clone())
                        }));
                }
            }
            _ => fields.push((name.clone(), value.clone())),
        }
    }
    fields
}

fn value(fields: &[(String, Value)], name: &str) -> Value {
    let found = fields.iter().find(|(field, _)| field == name);
    found.map_or(Value::Null, |(_, value)| value.clone())
}

impl FieldComparison {
    fn new(field: &str, ours: Value, theirs: Value) -> Self {
        let figures = Figure::of(field, &ours).zip(Figure::of(field, &theirs));
        let difference = figures.map(|(ours, theirs)| without_noise(ours.less(theirs)));
        let relative = figures.and_then(|(ours, theirs)| {
            let (less, theirs) = (ours.less(theirs), theirs.size()?);
            (theirs != 0.0).then(|| without_noise(less / theirs))
        });
        let is_equal = match figures {
            Some((ours, theirs)) => ours.equals(theirs),
            None => ours == theirs,
        };
        let verdict = match (ours.is_null(), theirs.is_null()) {
            _ if is_equal => Verdict::Equal,
            (false, true) => Verdict::OnlyOurs,
            (true, false) => Verdict::OnlyTheirs,
            _ => Verdict::Differs,
        };
        let is_told = verdict == Verdict::Differs;
        Self {
            field: field.to_owned(),
            verdict,
            ours,
            theirs,
            difference: difference.filter(|_| is_told),
            relative: relative.filter(|_| is_told),
            causes: Vec::new(),
        }
    }
}

/// A number to twelve decimals, as many as costs have.
fn without_noise(number: f64) -> f64 {
    format!("{number:.12}").parse().unwrap_or(number)
}

/// A value that can be subtracted.
#[derive(Clone, Copy)]
enum Figure {
    Number(f64),
    Pico(i64),
    Us(i64),
}

impl Figure {
    fn of(field: &str, value: &Value) -> Option<Self> {
        match value {
            Value::Number(_) | Value::String(_) if field.ends_with("_cost") => {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                money::pico_from_text(&text).ok().flatten().map(Self::Pico)
            }
            Value::Number(number) => number.as_f64().map(Self::Number),
            Value::String(text) if field.contains("_time") => time::parse_time(text).map(Self::Us),
            _ => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a difference is shown to a few digits"
    )]
    fn less(self, other: Self) -> f64 {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => one - other,
            (Self::Pico(one), Self::Pico(other)) => (one.saturating_sub(other)) as f64 / 1e12,
            (Self::Us(one), Self::Us(other)) => (one.saturating_sub(other)) as f64 / 1e6,
            _ => f64::NAN,
        }
    }

    /// What a difference is put in relation to.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a difference is shown to a few digits"
    )]
    fn size(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Pico(pico) => Some(pico as f64 / 1e12),
            Self::Us(_) => None,
        }
    }

    fn equals(self, other: Self) -> bool {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => {
                (one - other).abs() <= NOISE * one.abs().max(other.abs())
            }
            (Self::Pico(one), Self::Pico(other)) | (Self::Us(one), Self::Us(other)) => one == other,
            _ => false,
        }
    }
}

/// What the documents as a whole say of causes.
struct Seen {
    /// When the last trace started by either.
    our_last_us: Option<i64>,
    their_last_us: Option<i64>,
    /// How many traces there are by either.
    our_n: Option<u64>,
    their_n: Option<u64>,
    /// Whether percentiles alone differ of all statistics.
    only_percentiles: bool,
}

impl Seen {
    fn of(fields: &[FieldComparison]) -> Self {
        let field = |name: &str| fields.iter().find(|field| field.field == name);
        let last = field("last_run_start_time");
        let time = |value: &Value| value.as_str().and_then(time::parse_time);
        let n = field("run_count");
        let is_other = |field: &FieldComparison| {
            let class = Class::of(&field.field);
            !matches!(class, Class::Own | Class::Percentile) && field.verdict != Verdict::Equal
        };
        Self {
            our_last_us: last.and_then(|field| time(&field.ours)),
            their_last_us: last.and_then(|field| time(&field.theirs)),
            our_n: n.and_then(|field| field.ours.as_u64()),
            their_n: n.and_then(|field| field.theirs.as_u64()),
            only_percentiles: !fields.iter().any(is_other),
        }
    }

    /// The causes that fit a field that differs, in order of likelihood.
    fn causes(&self, field: &FieldComparison, evidence: &Evidence) -> Vec<Cause> {
        let class = Class::of(&field.field);
        if class == Class::Own {
            return without_record(field, evidence).into_iter().collect();
        }
        [
            self.late_runs(),
            self.window_cap(evidence),
            self.percentile_bound(class, field),
            self.sampling(class, field),
            self.missing_hours(evidence),
            usage_rule(class, field, evidence),
            pending_runs(class, evidence),
            repeated_runs(evidence),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn late_runs(&self) -> Option<Cause> {
        let (ours, theirs) = self.our_last_us.zip(self.their_last_us)?;
        let [at, other] = [ours, theirs].map(Timestamp);
        let evidence = match ours.cmp(&theirs) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => format!(
                "our last trace starts at {at}, theirs at {other}: their document is of an earlier moment"
            ),
            std::cmp::Ordering::Less => format!(
                "their last trace starts at {other}, ours at {at}: the source lacks the latest runs"
            ),
        };
        Some(Cause {
            kind: "late_runs",
            evidence,
        })
    }

    fn window_cap(&self, evidence: &Evidence) -> Option<Cause> {
        let last = self.their_last_us.max(evidence.last_us)?;
        let first = evidence.first_us.filter(|first| *first < last - CAP_US)?;
        Some(Cause {
            kind: "window_cap",
            evidence: format!(
                "our first trace starts at {}, and the service looks at the last 31 days only",
                Timestamp(first)
            ),
        })
    }

    fn percentile_bound(&self, class: Class, field: &FieldComparison) -> Option<Cause> {
        let is_same = self.our_n == self.their_n && self.our_n? > EXACT;
        let is_near = is_same && field.relative?.abs() <= BOUND;
        (class == Class::Percentile && is_near).then(|| Cause {
            kind: "percentile_bound",
            evidence: "our percentiles of more than 256 values are within 0.1 %".to_owned(),
        })
    }

    fn sampling(&self, class: Class, field: &FieldComparison) -> Option<Cause> {
        let n = self.their_n.max(self.our_n).filter(|n| *n > SAMPLED)?;
        let is_near = field.relative?.abs() < SAMPLE_ERROR;
        (class == Class::Percentile && is_near && self.only_percentiles).then(|| Cause {
            kind: "sampling",
            evidence: format!(
                "of {n} traces the service draws {SAMPLED} for its percentiles, and all else is equal"
            ),
        })
    }

    fn missing_hours(&self, evidence: &Evidence) -> Option<Cause> {
        let gap = evidence.gaps.first()?;
        let (ours, theirs) = self.our_n.zip(self.their_n)?;
        (ours < theirs).then(|| Cause {
            kind: "missing_hours",
            evidence: match evidence.gaps.len() {
                1 => gap.clone(),
                n => format!("{gap}; {} more such gaps", n - 1),
            },
        })
    }
}

fn usage_rule(class: Class, field: &FieldComparison, evidence: &Evidence) -> Option<Cause> {
    let (rule, document) = evidence.by_other_rule.as_ref()?;
    let by_other_rule = document.get(&field.field)?.clone();
    let other = FieldComparison::new(&field.field, by_other_rule, field.theirs.clone());
    let fits = class == Class::Sum && other.verdict == Verdict::Equal;
    fits.then(|| Cause {
        kind: "usage_rule",
        evidence: format!("with --usage-from {rule} ours is the same"),
    })
}

fn pending_runs(class: Class, evidence: &Evidence) -> Option<Cause> {
    let is_of_ends = matches!(class, Class::Percentile | Class::Other | Class::Sum);
    (is_of_ends && evidence.n_pending > 0).then(|| Cause {
        kind: "pending_runs",
        evidence: format!(
            "{} runs had not ended when they were exported",
            evidence.n_pending
        ),
    })
}

fn repeated_runs(evidence: &Evidence) -> Option<Cause> {
    (evidence.n_repeated > 0).then(|| Cause {
        kind: "repeated_runs",
        evidence: format!("{} records are counted twice", evidence.n_repeated),
    })
}

/// Of the project's own fields.
fn without_record(field: &FieldComparison, evidence: &Evidence) -> Option<Cause> {
    if field.field == "id" {
        return Some(Cause {
            kind: "other_project",
            evidence: "the documents are of different projects".to_owned(),
        });
    }
    (!evidence.has_metadata).then(|| Cause {
        kind: "no_record",
        evidence: "exports do not say it; --projects FILE does".to_owned(),
    })
}
