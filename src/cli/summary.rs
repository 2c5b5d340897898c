//! The last line on standard error: what an answer is of, how it was come by, and what it cost; and the
//! hints where the next step is known.

use std::time::Duration;

use bytesize::ByteSize;
use chrono::DateTime;
use chrono_tz::Tz;
use runtally::output::count;
use runtally::{About, CostFormat, Population, Sessions, Timestamp, Usage, Window};

/// Between the parts of the line.
const SEPARATOR: &str = " · ";

/// What a command asks for and gets: documents of projects, statistics of groups, or runs.
pub(super) trait Answer: Sized {
    /// Shows costs as JSON numbers or as strings.
    fn with_costs_as(self, format: CostFormat) -> Self;

    /// What should be known of it.
    fn about(&self) -> &About;

    /// What is said beside it.
    fn summary(&self) -> Summary;
}

/// What is said beside an answer.
#[derive(Debug)]
pub(super) struct Summary {
    /// How many traces or runs it is of, where that is known.
    pub(super) n: Option<u64>,
    /// What these are called.
    pub(super) noun: &'static str,
    /// What else is said of it, after their number.
    pub(super) facts: Vec<String>,
    /// Sentences before the line.
    pub(super) asides: Vec<String>,
    /// What to do next.
    pub(super) hints: Vec<String>,
}

/// How exact percentiles are.
pub(super) const BOUND: &str = "percentiles exact to 256 values, then within 0.1 %";

/// Whose tokens and costs count, where that is not what each run carries.
pub(super) fn usage_rule(usage: Usage, runs: &Population) -> Option<&'static str> {
    match usage {
        _ if runs.can_nest() => Some("usage of each run without those below it"),
        _ if *runs != Population::Traces => None,
        Usage::Roots => Some("usage from roots"),
        Usage::Own => Some("usage summed over all runs"),
        Usage::Auto => Some("usage from roots or summed over all runs, by project"),
    }
}

impl Answer for Sessions {
    fn with_costs_as(self, format: CostFormat) -> Self {
        self.with_costs_as(format)
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn summary(&self) -> Summary {
        let facts = self.total.as_ref().map(|total| {
            let usage = usage_rule(total.usage, &Population::Traces);
            let rootless = (self.n_rootless > 0)
                .then(|| format!("{} of them without their root", count(self.n_rootless)));
            let facts = usage.map(str::to_owned).into_iter().chain(rootless);
            facts.chain([BOUND.to_owned()]).collect()
        });
        Summary {
            n: self.total.as_ref().map(|total| total.n_traces),
            noun: "traces",
            facts: facts.unwrap_or_default(),
            asides: Vec::new(),
            hints: unnamed(self).into_iter().collect(),
        }
    }
}

impl Summary {
    /// The answer in one line: window, population, usage rule, bound, files, bytes, seconds.
    pub(super) fn line(&self, about: &About, zone: Tz, took: Duration) -> String {
        let read = &about.read;
        let mut parts = vec![span(&about.window, zone)];
        parts.extend(self.n.map(|n| format!("{} {}", count(n), self.noun)));
        parts.extend(self.facts.iter().cloned());
        parts.push(format!("{} of {} files", read.n_files, read.n_files_there));
        parts.push(format!(
            "{} of {} read",
            ByteSize(read.n_bytes),
            ByteSize(read.n_bytes_there)
        ));
        parts.push(format!("{:.2} s", took.as_secs_f64()));
        parts.join(SEPARATOR)
    }

    /// What to do next, where that is known.
    pub(super) fn hints(&self, about: &About, zone: Tz) -> Vec<String> {
        let window = &about.window;
        let is_bounded = window.since_us().is_some() || window.until_us().is_some();
        let elsewhere = about.span.filter(|_| self.n == Some(0) && is_bounded);
        let elsewhere = elsewhere.map(|(Timestamp(first), Timestamp(last))| {
            format!(
                "no {} starts in this window; the data covers {} to {}",
                self.noun.trim_end_matches('s'),
                moment(first, zone),
                moment(last, zone)
            )
        });
        elsewhere
            .into_iter()
            .chain(self.hints.iter().cloned())
            .collect()
    }
}

/// Breaks a line between its parts where it is wider than a terminal.
pub(super) fn wrapped(line: &str, width: Option<usize>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for part in line.split(SEPARATOR) {
        let room = |last: &String| {
            let n_columns = last.chars().count() + SEPARATOR.chars().count() + part.chars().count();
            width.is_none_or(|width| n_columns <= width)
        };
        match lines.last_mut().filter(|last| room(last)) {
            Some(last) => {
                last.push_str(SEPARATOR);
                last.push_str(part);
            }
            None => lines.push(part.to_owned()),
        }
    }
    lines.join("\n")
}

fn span(window: &Window, zone: Tz) -> String {
    let since = window.since_us().map(|us| moment(us, zone));
    let until = window.until_us().map(|us| moment(us, zone));
    match (since, until) {
        (None, None) => format!("all time ({zone})"),
        (Some(since), None) => format!("since {since} ({zone})"),
        (None, Some(until)) => format!("before {until} ({zone})"),
        (Some(since), Some(until)) => format!("{since} until before {until} ({zone})"),
    }
}

/// A moment in a zone, without what is zero.
fn moment(us: i64, zone: Tz) -> String {
    let Some(time) = DateTime::from_timestamp_micros(us) else {
        return runtally::Timestamp(us).to_string();
    };
    let time = time.with_timezone(&zone);
    let form = match us.rem_euclid(60_000_000) {
        0 => "%Y-%m-%d %H:%M",
        _ if us.rem_euclid(1_000_000) == 0 => "%Y-%m-%d %H:%M:%S",
        _ => "%Y-%m-%d %H:%M:%S%.6f",
    };
    time.format(form).to_string()
}

/// How projects get names, where some have none.
fn unnamed(answer: &Sessions) -> Option<String> {
    let sessions = answer.sessions.iter();
    let n_unnamed = sessions
        .filter(|session| session.name == session.id.to_string())
        .count();
    let whose = match (n_unnamed, answer.sessions.len()) {
        (0, _) => return None,
        (1, 1) => "the project has no name".to_owned(),
        (all, n) if all == n => "the projects have no names".to_owned(),
        (some, n) => format!("{some} of {n} projects have no name"),
    };
    Some(format!(
        "{whose}: exports carry none; save the records of GET /sessions as sessions.json at the \
         source's root, or pass them with --projects"
    ))
}
