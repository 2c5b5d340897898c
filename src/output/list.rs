//! The list: a line a project, and all of them together.

use std::io::{self, Write};

use super::grid::{Cell, Column, Grid, Row, Tone};
use super::text::plain_text;
use super::trend::Span;
use super::units::{self, UNKNOWN, or_unknown};
use super::{Lines, Style};
use crate::document::{Distribution, Overview, TracerSession};

/// Below so many values a 99th percentile is next to the largest, and marked.
const P99_MIN: u64 = 100;

/// What the mark means.
pub(super) const P99_NOTE: &str =
    "* p99 of fewer than 100 traces: hardly more than the slowest one";

/// The shares of failed traces from which on they stand out.
const NOTABLE_ERRORS: f64 = 0.05;
const ALARMING_ERRORS: f64 = 0.2;

/// A name is not shortened below this while columns can go instead.
const NAME_MIN: usize = 16;

/// How many bars a trend has, and whether failed traces are counted beside their share: what looks best
/// comes first.
const LAYOUTS: [Layout; 5] = [
    Layout::new(30, true),
    Layout::new(14, true),
    Layout::new(14, false),
    Layout::new(10, false),
    Layout::new(7, false),
];

/// What of a list depends on the room that there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    n_bars_max: u64,
    counts_errors: bool,
}

impl Layout {
    /// Everything, of any size.
    pub(super) const FULL: Self = Self::new(30, true);

    const fn new(n_bars_max: u64, counts_errors: bool) -> Self {
        Self {
            n_bars_max,
            counts_errors,
        }
    }
}

/// Writes the table.
pub(super) fn write(out: &mut dyn Write, lines: &Lines, style: &Style) -> io::Result<Vec<String>> {
    if lines.documents.is_empty() && lines.overviews.is_empty() {
        writeln!(out, "no projects")?;
        return Ok(Vec::new());
    }
    if lines.overviews.is_empty() {
        return of_documents(lines.documents, style).write(out, style);
    }
    let table = fitting(lines, style.width);
    let dropped = table.grid.write(out, style)?;
    if table.has_mark && !dropped.iter().any(|name| name == "p99") {
        Grid::of_note(P99_NOTE).write(out, style)?;
    }
    Ok(dropped)
}

/// The table in the layout that suits the width.
fn fitting(lines: &Lines, width: Option<usize>) -> Table {
    let tables = LAYOUTS.iter().map(|layout| Table::new(lines, *layout));
    let mut narrowest = None;
    for table in tables {
        if width.is_none_or(|width| table.grid.fits(width)) {
            return table;
        }
        narrowest = Some(table);
    }
    narrowest.unwrap_or_else(|| Table::new(lines, Layout::FULL))
}

/// A line a project, all of them together, and whether anything in it is marked.
pub(super) struct Table {
    pub(super) grid: Grid,
    pub(super) has_mark: bool,
}

impl Table {
    pub(super) fn new(lines: &Lines, layout: Layout) -> Self {
        // Of one project the total would say the same again.
        let total = lines.total.filter(|_| lines.overviews.len() > 1);
        let all = || lines.overviews.iter().chain(total);
        let has_mark = all().any(|overview| is_marked(&overview.latency));
        let span = Span::of(lines.overviews);
        let columns = columns(has_mark, layout, span.as_ref());
        let row = |overview: &Overview, tone| {
            let cells = columns.iter().map(|column| {
                cell(
                    &column.name,
                    overview,
                    has_mark,
                    layout,
                    span.as_ref(),
                    tone,
                )
            });
            Row::Cells(cells.collect())
        };
        let mut rows: Vec<Row> = lines
            .overviews
            .iter()
            .map(|overview| row(overview, Tone::Plain))
            .collect();
        if let Some(total) = total {
            rows.push(Row::Rule);
            rows.push(row(total, Tone::Strong));
        }
        Self {
            grid: Grid {
                columns,
                rows,
                least: NAME_MIN,
                ruled: true,
                ..Grid::default()
            },
            has_mark,
        }
    }
}

fn columns(has_mark: bool, layout: Layout, span: Option<&Span>) -> Vec<Column> {
    let column = Column::new;
    let p99 = if has_mark { "p99 " } else { "p99" };
    let mut columns = vec![
        column("project", "", "project", "", 0),
        column("traces", "", "traces", "", 1),
        column("failed traces", "errors", "count", "", 4),
        column("errors", "errors", "share", "errors", 3),
        column("p50", "latency", "p50", "", 2),
        column("p95", "latency", "p95", "", 6),
        column("p99", "latency", p99, "", 5),
        column("first token", "first token", "p50", "", 8),
        column("tokens", "", "tokens", "", 7),
        column("cost", "", "cost", "", 4),
    ];
    if !layout.counts_errors {
        columns.retain(|column| column.name != "failed traces");
    }
    if span.is_some() {
        columns.push(Column {
            left: true,
            ..column("trend", "", "trend", "", 9)
        });
    }
    columns
}

/// The cell of a column that [`columns`] names.
fn cell(
    column: &str,
    overview: &Overview,
    has_mark: bool,
    layout: Layout,
    span: Option<&Span>,
    tone: Tone,
) -> Cell {
    let latency = &overview.latency;
    let text = match column {
        "project" => plain_text(&overview.name).into_owned(),
        "traces" => units::count(overview.n_traces),
        "failed traces" => or_unknown(overview.n_errors, units::count),
        "errors" => return errors(overview.error_rate, tone),
        "p50" => or_unknown(latency.p50, units::duration),
        "p95" => or_unknown(latency.p95, units::duration),
        "p99" => {
            let p99 = or_unknown(latency.p99, units::duration);
            marked(p99, has_mark, is_marked(latency))
        }
        "first token" => or_unknown(overview.first_token.p50, units::duration),
        "tokens" => or_unknown(overview.tokens, units::amount),
        "cost" => or_unknown(overview.cost.as_ref(), units::cost),
        _ => span.map_or_else(String::new, |span| {
            span.bars(&overview.days, layout.n_bars_max)
        }),
    };
    let is_unknown = text.trim_end() == UNKNOWN;
    Cell::new(text, if is_unknown { Tone::Faint } else { tone })
}

/// The share of failed traces; notable ones stand out.
pub(super) fn errors(rate: Option<f64>, tone: Tone) -> Cell {
    let tone = match rate {
        None => Tone::Faint,
        Some(rate) if rate >= ALARMING_ERRORS => Tone::Alarm,
        Some(rate) if rate >= NOTABLE_ERRORS => Tone::Warning,
        Some(_) => tone,
    };
    Cell::new(or_unknown(rate, units::share), tone)
}

/// Whether a 99th percentile is one of too few values to say much.
pub(super) fn is_marked(distribution: &Distribution) -> bool {
    distribution.p99.is_some() && distribution.n < P99_MIN
}

/// A percentile with its mark; where any in its column has one, the others leave room for it.
pub(super) fn marked(text: String, has_mark: bool, is_marked: bool) -> String {
    let mark = match (has_mark, is_marked) {
        (false, _) => "",
        (true, false) => " ",
        (true, true) => "*",
    };
    text + mark
}

/// Without statistics: what is known of the projects themselves.
pub(super) fn of_documents(documents: &[TracerSession], style: &Style) -> Grid {
    let rows = documents.iter().map(|document| {
        let cells = [
            plain_text(&document.name).into_owned(),
            units::time(document.start_time, style.zone),
            document.id.to_string(),
        ];
        Row::Cells(cells.map(Cell::from).into())
    });
    let column = |name, expendable| Column {
        left: true,
        ..Column::new(name, "", name, "", expendable)
    };
    Grid {
        columns: vec![column("project", 0), column("started", 1), column("id", 2)],
        rows: rows.collect(),
        least: NAME_MIN,
        ruled: true,
        ..Grid::default()
    }
}
