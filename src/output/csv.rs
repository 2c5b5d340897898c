//! CSV: a header, then a row a project. Never rounded, never cut; an unknown value is an empty cell.

use std::borrow::Cow;
use std::io::{self, Write};

use super::Style;
use super::text::{is_control, plain_text};
use super::units::exact_seconds;
use crate::document::{Distribution, Nanoseconds, Overview, TracerSession};

/// The columns, named as the API's fields where it has them.
const HEADER: [&str; 29] = [
    "id",
    "name",
    "tenant_id",
    "start_time",
    "end_time",
    "trace_tier",
    "run_count",
    "error_count",
    "error_rate",
    "streaming_rate",
    "latency_count",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "first_token_count",
    "first_token_p50",
    "first_token_p95",
    "first_token_p99",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "last_run_start_time",
    "description",
    "default_dataset_id",
    "reference_dataset_id",
    "test_run_number",
];

/// Writes the header and a row a project.
pub(super) fn write<'a>(
    out: &mut dyn Write,
    projects: impl IntoIterator<Item = (&'a TracerSession, Option<&'a Overview>)>,
    style: &Style,
) -> io::Result<()> {
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(HEADER)?;
    for (document, overview) in projects {
        csv.write_record(row(document, overview, style.terminal))?;
    }
    csv.flush()
}

/// The cells in the order of [`HEADER`].
fn row(document: &TracerSession, overview: Option<&Overview>, terminal: bool) -> [String; 29] {
    let text = |text: &str| cell_text(text, terminal);
    let latency = overview.map(|overview| overview.latency);
    let first_token = overview.map(|overview| overview.first_token);
    let p95 = |values: Option<Distribution>| seconds(values.and_then(|values| values.p95));
    let n = |values: Option<Distribution>| or_empty(values.map(|values| values.n));
    [
        document.id.to_string(),
        text(&document.name),
        document.tenant_id.to_string(),
        document.start_time.to_string(),
        or_empty(document.end_time),
        or_empty(document.trace_tier),
        or_empty(document.run_count),
        or_empty(overview.and_then(|overview| overview.n_errors)),
        or_empty(document.error_rate),
        or_empty(document.streaming_rate),
        n(latency),
        seconds(document.latency_p50),
        p95(latency),
        seconds(document.latency_p99),
        n(first_token),
        seconds(document.first_token_p50),
        p95(first_token),
        seconds(document.first_token_p99),
        or_empty(document.total_tokens),
        or_empty(document.prompt_tokens),
        or_empty(document.completion_tokens),
        or_empty(document.total_cost),
        or_empty(document.prompt_cost),
        or_empty(document.completion_cost),
        or_empty(document.last_run_start_time),
        document
            .description
            .as_deref()
            .map_or_else(String::new, text),
        or_empty(document.default_dataset_id),
        or_empty(document.reference_dataset_id),
        or_empty(document.test_run_number),
    ]
}

pub(super) fn or_empty(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn seconds(value: Option<Nanoseconds>) -> String {
    value.map_or_else(String::new, exact_seconds)
}

/// Text as a cell: no formula, and on a terminal no control character.
pub(super) fn cell_text(text: &str, terminal: bool) -> String {
    let text = if terminal {
        plain_text(text)
    } else {
        Cow::Borrowed(text)
    };
    let mark = if is_formula(&text) { "'" } else { "" };
    format!("{mark}{text}")
}

/// Whether a spreadsheet may take a text for a formula: by its first character, or by the first one
/// after what spreadsheets skip.
fn is_formula(text: &str) -> bool {
    let is_skipped = |char: char| char.is_whitespace() || is_control(char);
    text.starts_with(['\t', '\r', '\n'])
        || text
            .trim_start_matches(is_skipped)
            .starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '−'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_marked_and_nothing_else_is() {
        for (text, cell) in [
            ("support-bot", "support-bot"),
            ("", ""),
            ("a=b", "a=b"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("  \u{a0}=1", "'  \u{a0}=1"),
            ("\u{feff}=1", "'\u{feff}=1"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("＝1", "'＝1"),
        ] {
            assert_eq!(cell_text(text, false), cell);
        }
    }

    #[test]
    fn control_characters_are_escaped_on_a_terminal_only() {
        assert_eq!(cell_text("a\u{1b}[2J", false), "a\u{1b}[2J");
        assert_eq!(cell_text("a\u{1b}[2J", true), "a\\u{1b}[2J");
        assert_eq!(cell_text("\t=1", true), "\\t=1");
    }
}
