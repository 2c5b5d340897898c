//! Runs as CSV: every digit of every figure, every character of every text; what is unknown is an empty
//! cell.

use std::io::{self, Write};

use super::super::Style;
use super::super::csv::{cell_text, or_empty};
use super::super::units::exact_seconds;
use super::Listed;
use crate::document::{Nanoseconds, RunLine};

/// The columns, named as JSON's keys.
const HEADER: [&str; 22] = [
    "id",
    "trace_id",
    "session_id",
    "project",
    "name",
    "run_type",
    "status",
    "start_time",
    "end_time",
    "latency",
    "first_token",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "error_class",
    "error",
    "model",
    "user",
    "thread",
];

/// The last column, where addresses were asked for.
const LINK: &str = "link";

/// Writes the header and a row a run.
pub(super) fn write(out: &mut dyn Write, answer: &Listed, style: &Style) -> io::Result<()> {
    let has_links = answer.listing.link.is_some();
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(HEADER.into_iter().chain(has_links.then_some(LINK)))?;
    for run in answer.runs {
        let link = has_links.then(|| or_empty(run.link.as_ref()));
        csv.write_record(row(run, style.terminal).into_iter().chain(link))?;
    }
    csv.flush()
}

/// The cells in the order of [`HEADER`].
fn row(run: &RunLine, terminal: bool) -> [String; 22] {
    let RunLine {
        id,
        trace_id,
        session_id,
        project,
        name,
        run_type,
        status,
        start_time,
        end_time,
        latency,
        first_token,
        total_tokens,
        prompt_tokens,
        completion_tokens,
        total_cost,
        prompt_cost,
        completion_cost,
        error_class,
        error,
        model,
        user,
        thread,
        link: _,
    } = run;
    let text = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        cell_text(text, terminal)
    };
    let seconds = |time: &Option<Nanoseconds>| time.map_or_else(String::new, exact_seconds);
    [
        text(id),
        text(trace_id),
        cell_text(session_id, terminal),
        cell_text(project, terminal),
        text(name),
        text(run_type),
        text(status),
        start_time.to_string(),
        or_empty(*end_time),
        seconds(latency),
        seconds(first_token),
        or_empty(*total_tokens),
        or_empty(*prompt_tokens),
        or_empty(*completion_tokens),
        or_empty(*total_cost),
        or_empty(*prompt_cost),
        or_empty(*completion_cost),
        text(error_class),
        text(error),
        text(model),
        text(user),
        text(thread),
    ]
}
