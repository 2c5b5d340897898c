//! Aligned columns: what fits the width, and how it is drawn. Knows nothing of what the cells mean.

use std::borrow::Cow;
use std::io::{self, Write};

use super::Style;
use super::text::{shortened, width, wrapped};

/// What is between two columns.
const GAP: &str = "  ";

/// How a text stands out, where colours may be used. What it means is in the text as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Strong,
    Faint,
    Warning,
    Alarm,
}

/// The text of one column in one row; plain, as [`plain_text`](super::plain_text) makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    /// Where it leads: an address of printable ASCII.
    pub(super) link: Option<String>,
}

/// A name that is known beforehand, or one that comes from what was asked.
pub(super) type Name = Cow<'static, str>;

/// A column. The first of a grid is to the left and shortened where need be, all others to the right.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// How it is called where it was left out.
    pub(super) name: Name,
    /// What is above it and its neighbours of the same group.
    pub(super) group: Name,
    /// Its header below the group's.
    pub(super) title: Name,
    /// Its header where no neighbour is of the group; empty where that makes no difference.
    pub(super) alone: Name,
    /// The first to go where there is no room is the one with the highest; never those with zero.
    pub(super) expendable: u8,
    /// Its least width.
    pub(super) floor: usize,
    /// Whether it is to the left as well.
    pub(super) left: bool,
}

/// A row of a grid.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// A cell a column.
    Cells(Vec<Cell>),
    /// A thin line.
    Rule,
    /// Text below the first column, over the whole width.
    Note(String),
}

/// Columns and rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Grid {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// What is before every line.
    pub(super) indent: &'static str,
    /// The first column is not shortened below this as long as others can go.
    pub(super) least: usize,
    /// Whether a rule follows the header.
    pub(super) ruled: bool,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
            link: None,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl Column {
    pub(super) fn new(
        name: impl Into<Name>,
        group: impl Into<Name>,
        title: impl Into<Name>,
        alone: impl Into<Name>,
        expendable: u8,
    ) -> Self {
        Self {
            name: name.into(),
            group: group.into(),
            title: title.into(),
            alone: alone.into(),
            expendable,
            ..Self::default()
        }
    }
}

impl Grid {
    /// A note alone.
    pub(super) fn of_note(text: impl Into<String>) -> Self {
        Self {
            columns: vec![Column::default()],
            rows: vec![Row::Note(text.into())],
            ..Self::default()
        }
    }

    /// Whether everything fits with the first column not below its least width.
    pub(super) fn fits(&self, room: usize) -> bool {
        self.room_of_first(&self.all(), room).is_some()
    }

    /// The headers of all columns, each with its group's.
    pub(super) fn full_titles(&self) -> impl Iterator<Item = String> {
        let all = self.all();
        (0..all.len()).map(move |place| {
            let title = self.title(place, &all).trim_end();
            let column = &self.columns[place];
            if column.group.is_empty() || title == column.alone {
                title.to_owned()
            } else {
                format!("{} {title}", column.group)
            }
        })
    }

    /// Draws it within the width. Returns the names of the columns that were left out.
    pub(super) fn write(&self, out: &mut dyn Write, style: &Style) -> io::Result<Vec<String>> {
        let (kept, first) = self.kept(style.width);
        let mut widths = self.widths(&kept);
        widths[0] = first;
        let drawing = Drawing {
            grid: self,
            kept: &kept,
            widths: &widths,
            color: style.color,
            links: style.color && style.terminal,
        };
        drawing.header(out)?;
        for row in &self.rows {
            match row {
                Row::Cells(cells) => drawing.cells(out, cells)?,
                Row::Rule => drawing.rule(out)?,
                Row::Note(text) => self.note(out, text, style)?,
            }
        }
        let dropped = self.all().into_iter().filter(|at| !kept.contains(at));
        let names = dropped.map(|at| self.columns[at].name.to_string());
        Ok(names.collect())
    }

    fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    /// The columns for which there is room, and the first one's width.
    fn kept(&self, room: Option<usize>) -> (Vec<usize>, usize) {
        let mut kept = self.all();
        let natural = self.widths(&kept)[0];
        let Some(room) = room else {
            return (kept, natural);
        };
        loop {
            if let Some(first) = self.room_of_first(&kept, room) {
                return (self.filled(kept, first, room), first);
            }
            let expendable = |at: &usize| self.columns[*at].expendable;
            match kept
                .iter()
                .copied()
                .max_by_key(expendable)
                .filter(|at| expendable(at) > 0)
            {
                Some(next) => kept.retain(|at| *at != next),
                None => break,
            }
        }
        // Where nothing more may go there is the first column alone.
        (vec![0], natural.min(room.saturating_sub(self.indent.len())))
    }

    /// The columns that are kept and, of those that had to go, the narrow ones for which there is room
    /// after all without the first giving way.
    fn filled(&self, mut kept: Vec<usize>, first: usize, room: usize) -> Vec<usize> {
        let mut gone = self.all();
        gone.retain(|at| !kept.contains(at));
        gone.sort_by_key(|at| self.columns[*at].expendable);
        for at in gone {
            let mut more = kept.clone();
            more.push(at);
            more.sort_unstable();
            if self.room_of_first(&more, room) == Some(first) {
                kept = more;
            }
        }
        kept
    }

    /// What some columns leave to the first; none where that is too little.
    fn room_of_first(&self, kept: &[usize], room: usize) -> Option<usize> {
        let widths = self.widths(kept);
        let others: usize = widths.iter().skip(1).map(|width| width + GAP.len()).sum();
        let room = room.checked_sub(others + self.indent.len())?;
        let first = widths[0].min(room);
        (first >= widths[0].min(self.least)).then_some(first)
    }

    /// The widths that some columns would like to have.
    fn widths(&self, kept: &[usize]) -> Vec<usize> {
        let mut widths: Vec<usize> = kept
            .iter()
            .enumerate()
            .map(|(place, at)| {
                let cells = self.rows.iter().filter_map(|row| match row {
                    Row::Cells(cells) => cells.get(*at).map(|cell| width(&cell.text)),
                    Row::Rule | Row::Note(_) => None,
                });
                let least = self.columns[*at].floor.max(width(self.title(place, kept)));
                cells.fold(least, usize::max)
            })
            .collect();
        for group in self.groups(kept) {
            let missing = width(group.name).saturating_sub(group.width(&widths));
            widths[group.first] += missing;
        }
        widths
    }

    /// The header of the column in a place; one without a neighbour of its group may have another.
    fn title(&self, place: usize, kept: &[usize]) -> &str {
        let column = &self.columns[kept[place]];
        let is_same = |place: usize| {
            let neighbour = kept.get(place).map(|at| &self.columns[*at]);
            neighbour.is_some_and(|neighbour| neighbour.group == column.group)
        };
        let is_alone = !is_same(place + 1) && !place.checked_sub(1).is_some_and(is_same);
        if is_alone && !column.alone.is_empty() {
            &column.alone
        } else {
            &column.title
        }
    }

    /// The groups that are named, as places among some columns.
    fn groups(&self, kept: &[usize]) -> Vec<Group<'_>> {
        let mut groups: Vec<Group> = Vec::new();
        for (place, at) in kept.iter().enumerate() {
            let column = &self.columns[*at];
            match groups.last_mut() {
                Some(group) if group.name == column.group => group.last = place,
                _ => groups.push(Group {
                    name: &column.group,
                    first: place,
                    last: place,
                }),
            }
        }
        let is_named = |group: &Group| {
            let alone = &self.columns[kept[group.first]].alone;
            !group.name.is_empty() && (group.first < group.last || alone.is_empty())
        };
        groups.retain(is_named);
        groups
    }

    fn note(&self, out: &mut dyn Write, text: &str, style: &Style) -> io::Result<()> {
        let indent = format!("{}{GAP}", self.indent);
        let room = style.width.map(|width| width.saturating_sub(indent.len()));
        for line in wrapped(text, room) {
            writeln!(out, "{indent}{}", painted(&line, Tone::Faint, style.color))?;
        }
        Ok(())
    }
}

/// Neighbours under one name: places among the columns that are kept.
struct Group<'a> {
    name: &'a str,
    first: usize,
    last: usize,
}

impl Group<'_> {
    fn width(&self, widths: &[usize]) -> usize {
        let columns = &widths[self.first..=self.last];
        columns.iter().sum::<usize>() + GAP.len() * (columns.len() - 1)
    }
}

/// A grid whose widths are settled.
struct Drawing<'a> {
    grid: &'a Grid,
    kept: &'a [usize],
    widths: &'a [usize],
    color: bool,
    /// Whether the terminal is told where texts lead.
    links: bool,
}

impl Drawing<'_> {
    fn header(&self, out: &mut dyn Write) -> io::Result<()> {
        let places = 0..self.kept.len();
        let titles: Vec<&str> = places
            .map(|place| self.grid.title(place, self.kept))
            .collect();
        if titles.iter().all(|title| title.is_empty()) {
            return Ok(());
        }
        self.group_header(out)?;
        let titles = titles.iter().map(|title| Cell::new(*title, Tone::Strong));
        self.line(out, &titles.collect::<Vec<_>>())?;
        if self.grid.ruled {
            self.rule(out)
        } else {
            Ok(())
        }
    }

    /// The groups' names, each in the middle over its columns.
    fn group_header(&self, out: &mut dyn Write) -> io::Result<()> {
        let groups = self.grid.groups(self.kept);
        if groups.is_empty() {
            return Ok(());
        }
        let mut line = String::from(self.grid.indent);
        let mut at = 0;
        for group in groups {
            let before: usize = self.widths[..group.first]
                .iter()
                .map(|width| width + GAP.len())
                .sum();
            let free = group.width(self.widths).saturating_sub(width(group.name));
            let start = before + free.div_ceil(2);
            line.push_str(&" ".repeat(start.saturating_sub(at)));
            line.push_str(&painted(group.name, Tone::Faint, self.color));
            at = start + width(group.name);
        }
        writeln!(out, "{line}")
    }

    fn cells(&self, out: &mut dyn Write, cells: &[Cell]) -> io::Result<()> {
        let kept = self
            .kept
            .iter()
            .map(|at| cells.get(*at).cloned().unwrap_or_default());
        self.line(out, &kept.collect::<Vec<_>>())
    }

    fn line(&self, out: &mut dyn Write, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::from(self.grid.indent);
        let mut owed = 0;
        for (place, (cell, room)) in cells.iter().zip(self.widths).enumerate() {
            let text: Cow<str> = shortened(&cell.text, *room);
            let free = room - width(&text).min(*room);
            let is_left = place == 0 || self.grid.columns[self.kept[place]].left;
            let (before, after) = if is_left { (0, free) } else { (free, 0) };
            if !text.is_empty() {
                line.push_str(&" ".repeat(owed + before));
                let text = painted(&text, cell.tone, self.color);
                match &cell.link {
                    Some(address) if self.links => line.push_str(&linked(&text, address)),
                    _ => line.push_str(&text),
                }
                owed = 0;
            }
            owed += after + GAP.len() + if text.is_empty() { before } else { 0 };
        }
        writeln!(out, "{}", line.trim_end())
    }

    fn rule(&self, out: &mut dyn Write) -> io::Result<()> {
        let length = self.widths.iter().sum::<usize>() + GAP.len() * (self.widths.len() - 1);
        let rule = painted(&"─".repeat(length), Tone::Faint, self.color).into_owned();
        writeln!(out, "{}{rule}", self.grid.indent)
    }
}

/// The text as a link of a terminal.
fn linked(text: &str, address: &str) -> String {
    format!("\u{1b}]8;;{address}\u{1b}\\{text}\u{1b}]8;;\u{1b}\\")
}

/// The text in its tone, where colours may be used.
pub(super) fn painted(text: &str, tone: Tone, color: bool) -> Cow<'_, str> {
    let code = match tone {
        _ if !color || text.is_empty() => return Cow::Borrowed(text),
        Tone::Plain => return Cow::Borrowed(text),
        Tone::Strong => "1",
        Tone::Faint => "2",
        Tone::Warning => "33",
        Tone::Alarm => "31",
    };
    Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
}
