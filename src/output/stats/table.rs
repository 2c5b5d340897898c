//! Groups as a table: a line a group, or a span of time; the total below. A group with a series is a line
//! with a trend, then its spans of time, set in.

use std::io::{self, Write};
use std::iter;

use super::super::grid::{Cell, Column, Grid, Row, Tone};
use super::super::text::{plain_text, shortened};
use super::super::trend::bars;
use super::super::{Style, markdown};
use super::columns::columns;
use super::{Groups, called};
use crate::document::{Bucket, Figure, Group, Label};
use crate::request::{Count, Every, Measure};

/// A group's name is not shortened below this while columns can go instead; one of several below that.
const NAME_MIN: usize = 16;
const NAME_OF_SEVERAL_MIN: usize = 10;

/// How much of the name in a further key is shown where the width is limited.
const KEY_MIN: usize = 7;
const KEY_MAX: usize = 24;

/// What stands for a name without a character.
const EMPTY: &str = "\"\"";

/// On a terminal groups are shown without their spans of time where there would be more lines.
const N_LINES_MAX: usize = 60;

/// How many bars a trend has: what looks best comes first.
const N_BARS: [usize; 4] = [30, 14, 10, 7];

/// What is before a span of time in a group.
const INDENT: &str = "  ";
const INDENT_IN_MARKDOWN: &str = "· ";

/// Writes the table.
pub(super) fn write(
    out: &mut dyn Write,
    answer: &Groups,
    style: &Style,
) -> io::Result<Vec<String>> {
    let noun = answer.breakdown.runs.noun();
    let lines = Lines::of(answer, INDENT, style);
    if lines.groups.is_empty() || answer.n_runs(&answer.total.figures) == Some(0) {
        writeln!(out, "no {noun}")?;
        return Ok(Vec::new());
    }
    let table = Table::fitting(answer, &lines, style);
    let fits = style.width.is_none_or(|room| table.grid.fits(room));
    let is_alone = lines.all().count() == 1;
    let mut left_out = if is_alone && !fits {
        upright(&table.grid).write(out, style)?;
        Vec::new()
    } else {
        table.grid.write(out, style)?
    };
    if table.marked.iter().any(|name| !left_out.contains(name)) {
        Grid::of_note(note(noun)).write(out, style)?;
    }
    if lines.is_compact {
        let n_spans = answer.total.series.len();
        left_out.push(format!("each group's {n_spans} spans of time"));
    }
    Ok(left_out)
}

/// Writes the table with everything in it.
pub(super) fn write_markdown(
    out: &mut dyn Write,
    answer: &Groups,
    style: &Style,
) -> io::Result<()> {
    let style = Style {
        width: None,
        ..*style
    };
    let lines = Lines::of(answer, INDENT_IN_MARKDOWN, &style);
    let table = Table::fitting(answer, &lines, &style);
    markdown::table(out, &table.grid)?;
    if table.marked.is_empty() {
        Ok(())
    } else {
        markdown::note(out, &note(answer.breakdown.runs.noun()))
    }
}

fn note(noun: &str) -> String {
    format!("* a percentile of too few {noun}: hardly more than the greatest of them")
}

/// A line: what it is of, and its figures.
struct Line<'a> {
    labels: Vec<Cell>,
    figures: &'a [Figure],
    /// What the trend is of.
    series: &'a [Bucket],
    tone: Tone,
}

impl<'a> Line<'a> {
    fn of(group: &'a Group, labels: Vec<Cell>, tone: Tone) -> Self {
        Self {
            labels,
            figures: &group.figures,
            series: &group.series,
            tone,
        }
    }
}

/// The lines of a table.
#[derive(Default)]
struct Lines<'a> {
    groups: Vec<Line<'a>>,
    total: Vec<Line<'a>>,
    /// Whether groups have their trend alone, for want of room for their spans of time.
    is_compact: bool,
}

impl<'a> Lines<'a> {
    /// What a table of some width says; of one group or span the total would say the same again.
    fn of(answer: &Groups<'a>, indent: &str, style: &Style) -> Self {
        let (n_groups, n_spans) = (answer.groups.len(), answer.total.series.len());
        let mut lines = if answer.is_whole() {
            Self::of_all(answer)
        } else {
            let is_long = (n_groups + 1) * (n_spans + 1) > N_LINES_MAX;
            let is_compact = is_long && n_spans > 0 && style.width.is_some();
            let inner = answer.breakdown.every.filter(|_| !is_compact);
            Self {
                is_compact,
                ..Self::of_groups(answer, inner, indent, style)
            }
        };
        let n_parts = if answer.is_whole() { n_spans } else { n_groups };
        if !answer.shows_total || n_parts < 2 {
            lines.total.clear();
        }
        lines
    }

    /// A line for all runs together, or a span of time.
    fn of_all(answer: &Groups<'a>) -> Self {
        let line = |name: String, tone| Line::of(answer.total, vec![Cell::new(name, tone)], tone);
        if let Some(every) = answer.breakdown.every {
            return Self {
                groups: spans(answer.total, every, "").collect(),
                total: vec![line("total".to_owned(), Tone::Strong)],
                ..Self::default()
            };
        }
        let all = format!("all {}", answer.breakdown.runs.noun());
        Self {
            groups: vec![line(all, Tone::Plain)],
            ..Self::default()
        }
    }

    /// A line a group, each followed by its spans of time.
    fn of_groups(answer: &Groups<'a>, inner: Option<Every>, indent: &str, style: &Style) -> Self {
        let label_tone = inner.map_or(Tone::Plain, |_| Tone::Strong);
        let block = |group: &'a Group, labels, tone| {
            let spans = inner.map(|every| spans(group, every, indent));
            iter::once(Line::of(group, labels, tone)).chain(spans.into_iter().flatten())
        };
        let groups = answer.groups.iter().flat_map(|group| {
            let labels = label_cells(answer, group, label_tone, style);
            block(group, labels, Tone::Plain)
        });
        let total = vec![Cell::new("total", Tone::Strong)];
        Self {
            groups: groups.collect(),
            total: block(answer.total, total, Tone::Strong).collect(),
            ..Self::default()
        }
    }

    fn all(&self) -> impl Iterator<Item = &Line<'a>> {
        self.groups.iter().chain(&self.total)
    }
}

/// A line a span of time.
fn spans<'a>(
    group: &'a Group,
    every: Every,
    indent: &str,
) -> impl Iterator<Item = Line<'a>> + use<'a> {
    let indent = indent.to_owned();
    group.series.iter().map(move |bucket| Line {
        labels: vec![format!("{indent}{}", every.label(bucket.start.0)).into()],
        figures: &bucket.figures,
        series: &[],
        tone: Tone::Plain,
    })
}

/// What a group is called in each key. The first may be shortened further where it is drawn, the others
/// share half of the width.
fn label_cells(answer: &Groups, group: &Group, tone: Tone, style: &Style) -> Vec<Cell> {
    let n_keys = answer.breakdown.by.len();
    let room = style.width.map_or(usize::MAX, |width| {
        (width / 2 / n_keys.max(1)).clamp(KEY_MIN, KEY_MAX)
    });
    let cells = group.labels.iter().enumerate().map(|(at, label)| {
        let tone = match label {
            Label::Value(_) => tone,
            Label::None | Label::Other => Tone::Faint,
        };
        let name = called(label);
        let name = if name.is_empty() {
            EMPTY.into()
        } else {
            plain_text(&name)
        };
        let room = if at == 0 { usize::MAX } else { room };
        Cell::new(shortened(&name, room), tone)
    });
    cells.collect()
}

/// The columns and rows, and the names of the columns in which something is marked.
struct Table {
    grid: Grid,
    marked: Vec<String>,
}

impl Table {
    /// The table with as many bars as suit the width. Where they stand for what has no room they matter
    /// more than what else there is.
    fn fitting(answer: &Groups, lines: &Lines, style: &Style) -> Self {
        let [most, fewer @ ..] = N_BARS;
        if lines.is_compact {
            let n_bars = style.width.map_or(most, |width| width / 6);
            let trend = Trend::of(answer, n_bars.clamp(fewer[2], most), 1);
            return Self::new(answer, lines, trend, style);
        }
        let mut table = Self::new(answer, lines, Trend::of(answer, most, 9), style);
        for n_bars in fewer {
            let trend = Trend::of(answer, n_bars, 9);
            if trend.is_none() || style.width.is_none_or(|width| table.grid.fits(width)) {
                break;
            }
            table = Self::new(answer, lines, trend, style);
        }
        table
    }

    fn new(answer: &Groups, lines: &Lines, trend: Option<Trend>, style: &Style) -> Self {
        let n_labels = answer.breakdown.by.len().max(1);
        let figures = columns(answer, || lines.all().map(|line| line.figures));
        let row = |line: &Line| {
            let mut cells = line.labels.clone();
            cells.resize(n_labels, Cell::default());
            let figures = figures.iter();
            cells.extend(figures.map(|column| column.cell(line.figures, answer, style, line.tone)));
            cells.extend(trend.as_ref().map(|trend| trend.cell(line)));
            Row::Cells(cells)
        };
        let mut rows: Vec<Row> = lines.groups.iter().map(row).collect();
        if !lines.total.is_empty() {
            rows.push(Row::Rule);
            rows.extend(lines.total.iter().map(row));
        }
        let marked = figures.iter().filter(|column| column.has_mark);
        let marked = marked.map(|column| column.column.name.to_string());
        let marked = marked.collect();
        let mut columns = key_columns(answer);
        columns.extend(figures.into_iter().map(|column| column.column));
        columns.extend(trend.map(|trend| trend.column()));
        let grid = Grid {
            columns,
            rows,
            least: if n_labels == 1 {
                NAME_MIN
            } else {
                NAME_OF_SEVERAL_MIN
            },
            ruled: true,
            ..Grid::default()
        };
        Self { grid, marked }
    }
}

/// A column a key; without keys, one for spans of time or for all runs.
fn key_columns(answer: &Groups) -> Vec<Column> {
    let column = |title: String| Column {
        left: true,
        ..Column::new(title.clone(), "", title, "", 0)
    };
    let keys = answer.breakdown.by.iter();
    let columns: Vec<Column> = keys
        .map(|key| column(plain_text(&key.to_string()).into_owned()))
        .collect();
    if !columns.is_empty() {
        return columns;
    }
    vec![column(match answer.breakdown.every {
        Some(every) if every.is_of_days() => every.to_string(),
        Some(_) => "from".to_owned(),
        None => String::new(),
    })]
}

/// Bars over the spans of time.
struct Trend {
    /// The place of what is shown among the figures: the first that adds up, else the number of runs.
    at: usize,
    n_bars: usize,
    expendable: u8,
}

impl Trend {
    /// None where there are no two spans.
    fn of(answer: &Groups, n_bars: usize, expendable: u8) -> Option<Self> {
        let shown = answer.measures().iter().position(Measure::adds_up);
        let runs = Measure::Count(Count::Runs);
        let runs = || {
            answer
                .breakdown
                .measures
                .iter()
                .position(|one| *one == runs)
        };
        let at = shown.or_else(runs)?;
        (answer.total.series.len() > 1).then_some(Self {
            at,
            n_bars,
            expendable,
        })
    }

    fn column(&self) -> Column {
        Column {
            left: true,
            ..Column::new("trend", "", "trend", "", self.expendable)
        }
    }

    fn cell(&self, line: &Line) -> Cell {
        let amounts = (0..).zip(line.series).map(|(place, bucket)| {
            let amount = bucket
                .figures
                .get(self.at)
                .map_or(0, |figure| match figure {
                    Figure::Count(n) => i128::from(*n),
                    Figure::Whole(sum) => *sum,
                    Figure::Cost(cost) => cost.pico,
                    _ => 0,
                });
            (place, u128::try_from(amount).unwrap_or(0))
        });
        let [n_places, n_bars] = [line.series.len(), self.n_bars].map(|n| n as u64);
        Cell::new(bars(n_places, amounts, n_bars), line.tone)
    }
}

/// The only line of a grid as a line a column.
fn upright(grid: &Grid) -> Grid {
    let cells = grid.rows.iter().find_map(|row| match row {
        Row::Cells(cells) => Some(cells.as_slice()),
        Row::Rule | Row::Note(_) => None,
    });
    let facts = grid.full_titles().zip(cells.unwrap_or_default());
    let facts = facts.filter(|(title, _)| !title.is_empty());
    let rows = facts.map(|(title, cell)| {
        let label = Cell::new(title, Tone::Faint);
        Row::Cells(vec![label, cell.clone()])
    });
    Grid {
        rows: rows.collect(),
        columns: vec![Column::default(), Column::default()],
        ..Grid::default()
    }
}
