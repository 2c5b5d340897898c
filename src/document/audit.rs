//! An audit: what a source has, and what may be wrong with it.

mod gaps;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::against::Comparison;
use super::value::Timestamp;
use crate::request::{FindingKind, Severity};

pub(crate) use gaps::{Gap, gaps};

/// An hour in microseconds.
const HOUR_US: i64 = 3_600_000_000;
/// A strip of hours is at most so long; a longer one is of days, and one that has traces in less than half
/// of its hours.
const HOURS_MAX: i64 = 31 * 24;

/// What a source has, and what may be wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Audit {
    /// The files of each format.
    pub formats: BTreeMap<String, u64>,
    /// Files that have rows.
    pub n_files: u64,
    /// Rows of these, whatever is asked for: records of runs.
    pub n_records: u64,
    /// Bytes of these.
    pub n_bytes: u64,
    /// When the first of the runs that are asked for starts.
    pub first_start_time: Option<Timestamp>,
    /// When the last of them does.
    pub last_start_time: Option<Timestamp>,
    /// The projects, by their ids.
    pub projects: Vec<AuditedProject>,
    /// What was found, the gravest first; of each kind one.
    pub findings: Vec<Finding>,
    /// The project's document beside another, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Comparison>,
}

/// What a source has of a project.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditedProject {
    /// The project's id.
    pub id: Uuid,
    /// Its name, where anything says it.
    pub name: Option<String>,
    /// Files that hold its runs.
    pub n_files: u64,
    /// Bytes of these.
    pub n_bytes: u64,
    /// Its runs, each once.
    pub n_runs: u64,
    /// Its traces: root runs.
    pub n_traces: u64,
    /// When the first of the runs starts.
    pub first_start_time: Option<Timestamp>,
    /// When the last of them does.
    pub last_start_time: Option<Timestamp>,
    /// Its traces in time.
    pub coverage: Option<Coverage>,
}

/// The traces of each hour or day of a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// How long a bucket is.
    pub every: CoverageUnit,
    /// When the first one begins.
    pub start_time: Timestamp,
    /// The traces that start in each.
    pub traces: Vec<u64>,
}

/// How long a bucket of a coverage is; it begins with one of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CoverageUnit {
    /// An hour.
    Hour,
    /// A day.
    Day,
}

/// All that was found of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The kind.
    #[serde(serialize_with = "by_name")]
    pub kind: FindingKind,
    /// What it does to figures.
    #[serde(serialize_with = "severity_by_name")]
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
    /// How many there are.
    pub count: u64,
    /// Among how many.
    pub of: u64,
    /// What is counted: `runs`, `records`, `traces`, `files`, `hours`, `projects`.
    pub unit: &'static str,
    /// `count` over `of`.
    pub share: Option<f64>,
    /// The id of one of the runs, or of a run of one of the traces.
    pub example_run_id: Option<String>,
    /// The file that this is in, or one of the files.
    pub example_file: Option<String>,
    /// Each of them in a sentence, where there are few.
    pub details: Vec<String>,
}

impl Finding {
    /// So many of a kind among so many; none where there is none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more than 53 bits"
    )]
    pub(crate) fn new(kind: FindingKind, count: u64, of: u64) -> Option<Self> {
        (count > 0).then(|| Self {
            kind,
            severity: kind.severity(),
            meaning: kind.meaning(),
            count,
            of,
            unit: kind.unit(),
            share: (of > 0).then(|| count as f64 / of as f64),
            example_run_id: None,
            example_file: None,
            details: Vec::new(),
        })
    }
}

impl AuditedProject {
    /// How it is called.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.to_string())
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |hour: i64| Timestamp(hour * HOUR_US);
        let (first, after) = (moment(self.first_hour), moment(self.last_hour + 1));
        let n_hours = self.n_hours();
        let hours = if n_hours == 1 { "hour" } else { "hours" };
        let expected = self.expected;
        write!(
            f,
            "no trace from {first} until {after} ({n_hours} {hours}), where about {expected:.0} should be"
        )
    }
}

impl Coverage {
    /// The traces of some hours since 1970: of all hours from the first to the last, or of their days.
    pub(crate) fn of_hours(hours: &BTreeMap<i64, u64>) -> Option<Self> {
        let (first, last) = (*hours.keys().next()?, *hours.keys().next_back()?);
        let (every, length) =
            if last - first < HOURS_MAX && (last - first) / 2 <= i64::try_from(hours.len()).ok()? {
                (CoverageUnit::Hour, 1)
            } else {
                (CoverageUnit::Day, 24)
            };
        let first = first.div_euclid(length);
        let n_buckets = usize::try_from(last.div_euclid(length) - first).ok()? + 1;
        let mut traces = vec![0; n_buckets];
        for (hour, n) in hours {
            let place = usize::try_from(hour.div_euclid(length) - first).ok();
            if let Some(bucket) = place.and_then(|place| traces.get_mut(place)) {
                *bucket += n;
            }
        }
        Some(Self {
            every,
            start_time: Timestamp(first * length * HOUR_US),
            traces,
        })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands fields over so"
)]
fn by_name<S: Serializer>(kind: &FindingKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands fields over so"
)]
fn severity_by_name<S: Serializer>(severity: &Severity, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(severity.name())
}
