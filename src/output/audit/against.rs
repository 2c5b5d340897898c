//! Two documents, field by field.

use std::io::{self, Write};

use serde_json::Value;

use super::super::csv::{cell_text, or_empty};
use super::super::grid::{Cell, Column, Grid, Row, Tone};
use super::super::text::{plain_text, shortened};
use super::super::units::{self, UNKNOWN, or_unknown};
use super::super::{Style, json};
use crate::document::{Comparison, FieldComparison, Verdict};

/// The columns of CSV, named as JSON's keys.
const HEADER: [&str; 7] = [
    "field",
    "verdict",
    "ours",
    "theirs",
    "difference",
    "relative",
    "causes",
];

/// So many characters of a value are shown.
const VALUE_MIN: usize = 8;
const VALUE_MAX: usize = 40;
/// The least room for the name of a field.
const FIELD_MIN: usize = 24;

/// Writes the header and a row a field.
pub(super) fn write_csv(
    out: &mut dyn Write,
    comparison: &Comparison,
    style: &Style,
) -> io::Result<()> {
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(HEADER)?;
    for field in &comparison.fields {
        let text = |value: &Value| match value {
            Value::Null => Ok::<_, io::Error>(String::new()),
            value => Ok(cell_text(&text(value)?, style.terminal)),
        };
        csv.write_record([
            cell_text(&field.field, style.terminal),
            verdict(field.verdict).to_owned(),
            text(&field.ours)?,
            text(&field.theirs)?,
            or_empty(field.difference),
            or_empty(field.relative),
            cell_text(&causes(field).join("; "), style.terminal),
        ])?;
    }
    csv.flush()
}

/// What stands above the fields.
pub(super) fn title(comparison: &Comparison) -> String {
    let Comparison {
        n_equal,
        n_different,
        ..
    } = comparison;
    format!("documents: {n_equal} fields equal, {n_different} different")
}

/// The fields, a row each; what is equal is faint. Everything of them, or what a width has room for.
pub(super) fn grid(comparison: &Comparison, width: Option<usize>) -> Grid {
    let room = width.map_or(VALUE_MAX, |width| width.saturating_sub(FIELD_MIN + 6) / 2);
    let room = room.clamp(VALUE_MIN, VALUE_MAX);
    let column = |name: &'static str, expendable| Column::new(name, "", name, "", expendable);
    let cause = Column {
        left: true,
        ..column("likely cause", 1)
    };
    let fields = comparison.fields.iter();
    Grid {
        columns: vec![
            column("field", 0),
            column("ours", 0),
            column("theirs", 0),
            column("difference", 3),
            column("relative", 2),
            cause,
        ],
        rows: fields.map(|field| Row::Cells(cells(field, room))).collect(),
        indent: "  ",
        least: FIELD_MIN,
        ..Grid::default()
    }
}

/// What speaks for the causes that are named, a sentence each.
pub(super) fn evidence(comparison: &Comparison) -> Vec<String> {
    let causes = comparison.fields.iter().flat_map(|field| &field.causes);
    let mut sentences: Vec<String> = Vec::new();
    for cause in causes {
        let sentence = plain_text(&format!("{}: {}", cause.kind, cause.evidence)).into_owned();
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    sentences
}

fn cells(field: &FieldComparison, room: usize) -> Vec<Cell> {
    let tone = match field.verdict {
        Verdict::Equal => Tone::Faint,
        _ => Tone::Warning,
    };
    let short = |value: &Value| {
        let text = text(value).unwrap_or_default();
        shortened(&plain_text(&text), room).into_owned()
    };
    let relative = |relative: f64| format!("{:+.2} %", relative * 100.0);
    let difference = match field.verdict {
        Verdict::Equal => "=".to_owned(),
        Verdict::Differs => or_unknown(field.difference, units::number),
        Verdict::OnlyOurs => "only ours".to_owned(),
        Verdict::OnlyTheirs => "only theirs".to_owned(),
    };
    let cells = [
        plain_text(&field.field).into_owned(),
        short(&field.ours),
        short(&field.theirs),
        difference,
        field.relative.map(relative).unwrap_or_default(),
        causes(field).join(", "),
    ];
    cells.map(|text| Cell::new(text, tone)).to_vec()
}

/// The names of the causes of a difference; where none fits, that.
fn causes(field: &FieldComparison) -> Vec<&'static str> {
    match field.causes.as_slice() {
        [] if field.verdict == Verdict::Equal => Vec::new(),
        [] => vec!["unknown"],
        causes => causes.iter().map(|cause| cause.kind).collect(),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "equal",
        Verdict::Differs => "differs",
        Verdict::OnlyOurs => "only_ours",
        Verdict::OnlyTheirs => "only_theirs",
    }
}

/// A value as text: texts as they are, all else as JSON.
fn text(value: &Value) -> io::Result<String> {
    match value {
        Value::Null => Ok(UNKNOWN.to_owned()),
        Value::String(text) => Ok(text.clone()),
        value => json::text(value),
    }
}
