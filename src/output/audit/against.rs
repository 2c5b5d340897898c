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

/// Where the causes of a difference are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Causes {
    Below,
    Beside,
}

/// Writes the header and a row a field.
pub(super) fn write_csv(
    out: &mut dyn Write,
    comparison: &Comparison,
    style: &Style,
) -> io::Result<()> {
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(HEADER)?;
    for field in &comparison.fields {
        let text = |value: &Value| Ok::<_, io::Error>(cell_text(&text(value)?, style.terminal));
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

/// The fields, a row each; what is equal is faint.
pub(super) fn grid(comparison: &Comparison, place: Causes, style: &Style) -> Grid {
    let room = style.width.filter(|_| place == Causes::Below);
    let room = room.map_or(VALUE_MAX, |width| width.saturating_sub(FIELD_MIN + 6) / 2);
    let room = room.clamp(VALUE_MIN, VALUE_MAX);
    let column = |name: &'static str, expendable| Column::new(name, "", name, "", expendable);
    let mut columns = vec![
        column("field", 0),
        column("ours", 0),
        column("theirs", 0),
        column("difference", 1),
        column("relative", 2),
    ];
    columns.extend((place == Causes::Beside).then(|| Column {
        left: true,
        ..column("causes", 0)
    }));
    let mut rows = Vec::new();
    for field in &comparison.fields {
        let mut cells = cells(field, room);
        let causes = causes(field);
        match place {
            Causes::Beside => {
                cells.push(causes.join("; ").into());
                rows.push(Row::Cells(cells));
            }
            Causes::Below => {
                rows.push(Row::Cells(cells));
                rows.extend(causes.into_iter().map(Row::Note));
            }
        }
    }
    Grid {
        columns,
        rows,
        indent: "  ",
        least: FIELD_MIN,
        ..Grid::default()
    }
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
    ];
    cells.map(|text| Cell::new(text, tone)).to_vec()
}

/// The causes, a sentence each; where none is known, that.
fn causes(field: &FieldComparison) -> Vec<String> {
    if field.verdict == Verdict::Equal {
        return Vec::new();
    }
    let causes = field.causes.iter();
    let mut causes: Vec<String> = causes
        .map(|cause| plain_text(&format!("{}: {}", cause.kind, cause.evidence)).into_owned())
        .collect();
    if causes.is_empty() {
        causes.push("no known cause fits".to_owned());
    }
    causes
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
