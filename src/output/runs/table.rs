//! Runs as a table: a line a run, those that failed tinted.

use std::io::{self, Write};

use super::super::grid::{Cell, Column, Grid, Row, Tone};
use super::super::text::{plain_text, shortened};
use super::super::units::{self, UNKNOWN, or_unknown};
use super::super::{Style, markdown};
use super::Listed;
use crate::document::RunLine;
use crate::request::RunOrder;

/// How much of an id is always shown, both ends: those of one moment begin alike.
const ID_MIN: usize = 13;
const ID: usize = 36;

/// How much is shown of other texts, and of ids at least, where the width is limited: what looks best
/// comes first.
const LAYOUTS: [Layout; 5] = [
    Layout::new(40, ID),
    Layout::new(24, ID),
    Layout::new(16, ID),
    Layout::new(16, ID_MIN),
    Layout::new(12, ID_MIN),
];

/// What of a table depends on the room that there is.
#[derive(Clone, Copy, Debug)]
struct Layout {
    text_max: usize,
    id_min: usize,
}

impl Layout {
    /// Everything.
    const FULL: Self = Self::new(usize::MAX, ID);

    const fn new(text_max: usize, id_min: usize) -> Self {
        Self { text_max, id_min }
    }
}

/// Where the address of a run's page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// Behind its id.
    Behind,
    /// In a column of their own.
    Beside,
}

/// Writes the table.
pub(super) fn write(
    out: &mut dyn Write,
    answer: &Listed,
    style: &Style,
) -> io::Result<Vec<String>> {
    if answer.runs.is_empty() {
        writeln!(out, "no {}", answer.listing.runs.noun())?;
        return Ok(Vec::new());
    }
    fitting(answer, style).write(out, style)
}

/// Writes the table with everything in it.
pub(super) fn write_markdown(
    out: &mut dyn Write,
    answer: &Listed,
    style: &Style,
) -> io::Result<()> {
    markdown::table(out, &grid(answer, Layout::FULL, Links::Beside, style))
}

/// The table in the layout that suits the width.
fn fitting(answer: &Listed, style: &Style) -> Grid {
    let table = |layout| grid(answer, layout, Links::Behind, style);
    let Some(width) = style.width else {
        return table(Layout::FULL);
    };
    let [best, others @ ..] = LAYOUTS;
    let mut narrowest = table(best);
    for layout in others {
        if narrowest.fits(width) {
            break;
        }
        narrowest = table(layout);
    }
    narrowest
}

fn grid(answer: &Listed, layout: Layout, links: Links, style: &Style) -> Grid {
    let shown = Shown::of(answer, links);
    let rows = answer.runs.iter().map(|run| {
        let tone = if has_failed(run) {
            Tone::Alarm
        } else {
            Tone::Plain
        };
        let cells = shown.iter().map(|column| {
            let mut cell = column.cell(run, tone, layout, style);
            let carries_link = match links {
                Links::Behind => *column == Shown::Id,
                Links::Beside => *column == Shown::Link,
            };
            cell.link = run.link.clone().filter(|_| carries_link);
            cell
        });
        Row::Cells(cells.collect())
    });
    Grid {
        rows: rows.collect(),
        columns: shown
            .iter()
            .map(|column| column.column(answer.listing.by, style))
            .collect(),
        least: layout.id_min,
        ruled: true,
        ..Grid::default()
    }
}

/// Whether a run counts as an error, as far as its line says.
fn has_failed(run: &RunLine) -> bool {
    run.error_class.is_some() || run.status.as_deref() == Some("error")
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Id,
    Start,
    Project,
    Name,
    Latency,
    FirstToken,
    Tokens,
    Cost,
    Status,
    ErrorClass,
    User,
    Link,
}

impl Shown {
    /// The columns; projects only where there are several, addresses only where there are any.
    fn of(answer: &Listed, links: Links) -> Vec<Self> {
        let mut projects = answer.runs.iter().map(|run| &run.session_id);
        let first = projects.next();
        let has_several = projects.any(|project| Some(project) != first);
        let mut columns = vec![Self::Id, Self::Start];
        columns.extend(has_several.then_some(Self::Project));
        columns.extend([
            Self::Name,
            Self::Latency,
            Self::FirstToken,
            Self::Tokens,
            Self::Cost,
            Self::Status,
            Self::ErrorClass,
            Self::User,
        ]);
        let has_links = links == Links::Beside && answer.listing.link.is_some();
        columns.extend(has_links.then_some(Self::Link));
        columns
    }

    /// Its header and place; what is sorted by goes last.
    fn column(self, by: RunOrder, style: &Style) -> Column {
        let (group, title, expendable) = match self {
            Self::Id => ("", "id", 0),
            Self::Start => ("", "start", 4),
            Self::Project => ("", "project", 8),
            Self::Name => ("", "name", 2),
            Self::Latency => ("", "latency", 3),
            Self::FirstToken => ("first", "token", 9),
            Self::Tokens => ("", "tokens", 6),
            Self::Cost => ("", "cost", 5),
            Self::Status => ("", "status", 8),
            Self::ErrorClass => ("error", "class", 7),
            Self::User => ("", "user", 10),
            Self::Link => ("", "link", 10),
        };
        let is_sorted_by = self.order() == Some(by);
        let is_text = !matches!(
            self,
            Self::Latency | Self::FirstToken | Self::Tokens | Self::Cost
        );
        let name = if group.is_empty() {
            title.to_owned()
        } else {
            format!("{group} {title}")
        };
        let title = match self {
            Self::Start => format!("{title} ({})", style.zone),
            _ => title.to_owned(),
        };
        let expendable = if is_sorted_by { 1 } else { expendable };
        Column {
            left: is_text,
            ..Column::new(name, group, title, "", expendable)
        }
    }

    /// The order in which it says why a run is where it is.
    fn order(self) -> Option<RunOrder> {
        match self {
            Self::Start => Some(RunOrder::Start),
            Self::Latency => Some(RunOrder::Latency),
            Self::FirstToken => Some(RunOrder::FirstToken),
            Self::Tokens => Some(RunOrder::Tokens),
            Self::Cost => Some(RunOrder::Cost),
            _ => None,
        }
    }

    fn cell(self, run: &RunLine, tone: Tone, layout: Layout, style: &Style) -> Cell {
        let text = |text: &Option<String>| {
            let plain = text.as_deref().map(plain_text);
            or_unknown(plain, |text| shortened(&text, layout.text_max).into_owned())
        };
        let text = match self {
            Self::Id => return id(run, tone),
            Self::Start => units::local_time(run.start_time, style.zone),
            Self::Project => text(&Some(run.project.clone())),
            Self::Name => text(&run.name),
            Self::Latency => or_unknown(run.latency, units::duration),
            Self::FirstToken => or_unknown(run.first_token, units::duration),
            Self::Tokens => or_unknown(run.total_tokens, units::amount),
            Self::Cost => or_unknown(run.total_cost.as_ref(), units::cost),
            Self::Status => text(&run.status),
            Self::ErrorClass if !has_failed(run) => String::new(),
            Self::ErrorClass => text(&run.error_class),
            Self::User => text(&run.user),
            Self::Link => run.link.as_ref().map_or("", |_| "open").to_owned(),
        };
        let is_unknown = text == UNKNOWN;
        Cell::new(text, if is_unknown { Tone::Faint } else { tone })
    }
}

/// A run's id; a trace without its root has its own only.
fn id(run: &RunLine, tone: Tone) -> Cell {
    match (&run.id, &run.trace_id) {
        (Some(id), _) => Cell::new(plain_text(id), tone),
        (None, Some(trace)) => Cell::new(plain_text(trace), Tone::Faint),
        (None, None) => Cell::new(UNKNOWN, Tone::Faint),
    }
}
