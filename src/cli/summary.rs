//! The last line on standard error: what an answer is of, how it was come by, and what it cost; and the
//! hints where the next step is known.

use std::time::Duration;

use bytesize::ByteSize;
use chrono::DateTime;
use chrono_tz::Tz;
use runtally::output::count;
use runtally::{Sessions, Timestamp, Usage, Window};

/// Between the parts of the line.
const SEPARATOR: &str = " · ";

/// The answer in one line: window, population, usage rule, bound, files, bytes, seconds.
pub(super) fn line(answer: &Sessions, window: &Window, zone: Tz, took: Duration) -> String {
    let mut parts = vec![span(window, zone)];
    if let Some(total) = &answer.total {
        let usage = match total.usage {
            Usage::Roots => "usage from roots",
            Usage::Own => "usage summed over all runs",
            Usage::Auto => "usage from roots or summed over all runs, by project",
        };
        parts.push(format!("{} traces", count(total.n_traces)));
        parts.push(usage.to_owned());
        if answer.n_rootless > 0 {
            parts.push(format!(
                "{} of them without their root",
                count(answer.n_rootless)
            ));
        }
        parts.push("percentiles exact to 256 values, then within 0.1 %".to_owned());
    }
    let read = answer.read;
    parts.push(format!(
        "{} of {} files · {} of {} read",
        read.n_files,
        read.n_files_there,
        ByteSize(read.n_bytes),
        ByteSize(read.n_bytes_there)
    ));
    parts.push(format!("{:.2} s", took.as_secs_f64()));
    parts.join(SEPARATOR)
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

/// What to do next, where that is known.
pub(super) fn hints(answer: &Sessions, window: &Window, zone: Tz) -> Vec<String> {
    let mut hints = Vec::new();
    let is_empty = answer
        .total
        .as_ref()
        .is_some_and(|total| total.n_traces == 0);
    let is_bounded = window.since_us().is_some() || window.until_us().is_some();
    if let Some((Timestamp(first), Timestamp(last))) = answer.span
        && is_empty
        && is_bounded
    {
        hints.push(format!(
            "no trace starts in this window; the data covers {} to {}",
            moment(first, zone),
            moment(last, zone)
        ));
    }
    let n_unnamed = answer
        .sessions
        .iter()
        .filter(|session| session.name == session.id.to_string())
        .count();
    if n_unnamed > 0 {
        let whose = match (n_unnamed, answer.sessions.len()) {
            (1, 1) => "the project has no name".to_owned(),
            (all, n) if all == n => "the projects have no names".to_owned(),
            (some, n) => format!("{some} of {n} projects have no name"),
        };
        hints.push(format!(
            "{whose}: exports carry none; save the records of GET /sessions as sessions.json at the \
             source's root, or pass them with --projects"
        ));
    }
    hints
}
