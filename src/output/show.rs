//! One project's document as groups of figures.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Style;
use super::grid::{Cell, Column, Grid, Row, Tone, painted};
use super::list::{P99_NOTE, errors, is_marked};
use super::text::{plain_text, shortened, width, wrapped};
use super::units::{self, or_unknown};
use crate::document::{Cost, Distribution, FeedbackStats, Overview, TracerSession};

/// Before every line but the name.
const INDENT: &str = "  ";

/// The width of the labels.
const LABEL: usize = 12;

/// The least width of a figure, so that columns of neighbouring groups meet.
const FIGURE: usize = 9;

/// The least width of a figure of feedback, of which there are more.
const SCORE: usize = 8;

/// As many labels of a feedback key are shown where the width is limited, and so much of each.
const N_LABELS_MAX: usize = 12;
const LABEL_MAX: usize = 24;

/// Writes the groups. Returns the names of the columns for which there was no room.
pub(super) fn write(
    out: &mut dyn Write,
    document: &TracerSession,
    overview: Option<&Overview>,
    style: &Style,
) -> io::Result<Vec<String>> {
    let name = plain_text(&document.name);
    let name = style.width.map_or(name.clone(), |room| {
        shortened(&name, room).into_owned().into()
    });
    writeln!(out, "{}", painted(&name, Tone::Strong, style.color))?;
    writeln!(out)?;
    facts(out, &project(document, style), style)?;
    let mut dropped = Vec::new();
    if document.run_count.is_some() {
        writeln!(out)?;
        facts(out, &traces(document, overview, style), style)?;
        for grid in figures(document, overview, style) {
            writeln!(out)?;
            for name in grid.write(out, style)? {
                if !dropped.contains(&name) {
                    dropped.push(name);
                }
            }
        }
    }
    Ok(dropped)
}

/// A label and its value.
pub(super) type Fact = (&'static str, Cell);

fn facts(out: &mut dyn Write, facts: &[Fact], style: &Style) -> io::Result<()> {
    let before = INDENT.len() + LABEL + 2;
    let room = style.width.map(|room| room.saturating_sub(before).max(1));
    for (label, value) in facts {
        let mut label = format!("{label:LABEL$}");
        for line in wrapped(&value.text, room) {
            let value = painted(&line, value.tone, style.color);
            let label = std::mem::replace(&mut label, " ".repeat(LABEL));
            let label = painted(&label, Tone::Faint, style.color);
            writeln!(out, "{INDENT}{label}  {value}")?;
        }
    }
    Ok(())
}

/// What is known of the project itself; what is not, is left out.
pub(super) fn project(document: &TracerSession, style: &Style) -> Vec<Fact> {
    let id = document.id.to_string();
    let text = |text: &str| plain_text(text).into_owned();
    let time = |moment| units::time(moment, style.zone);
    let facts = [
        ("id", (document.name != id).then_some(id)),
        ("tenant", Some(document.tenant_id.to_string())),
        ("description", document.description.as_deref().map(text)),
        ("started", Some(time(document.start_time))),
        ("ended", document.end_time.map(time)),
        ("tier", document.trace_tier.map(text)),
        (
            "new examples",
            document
                .default_dataset_id
                .map(|id| format!("dataset {id}")),
        ),
        ("experiment", experiment(document)),
        (
            "extra",
            document
                .extra
                .as_ref()
                .map(|extra| text(&extra.to_string())),
        ),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?.into())));
    known.collect()
}

fn experiment(document: &TracerSession) -> Option<String> {
    let number = document
        .test_run_number
        .map(|number| format!("number {number}"));
    let dataset = document
        .reference_dataset_id
        .map(|id| format!("dataset {id}"));
    match (number, dataset) {
        (Some(number), Some(dataset)) => Some(format!("{number} on {dataset}")),
        (number, dataset) => number.or(dataset),
    }
}

/// How many traces there are, and how they ended.
pub(super) fn traces(
    document: &TracerSession,
    overview: Option<&Overview>,
    style: &Style,
) -> Vec<Fact> {
    let mut share = errors(document.error_rate, Tone::Plain);
    if let Some(n_errors) = overview
        .and_then(|overview| overview.n_errors)
        .filter(|n| *n > 0)
    {
        share.text = format!("{} ({})", share.text, units::count(n_errors));
    }
    let last = document.last_run_start_time;
    vec![
        ("traces", known(document.run_count, units::count)),
        ("errors", share),
        ("streaming", known(document.streaming_rate, units::share)),
        (
            "last trace",
            known(last, |last| units::time(last, style.zone)),
        ),
    ]
}

fn known<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> Cell {
    let tone = if value.is_some() {
        Tone::Plain
    } else {
        Tone::Faint
    };
    Cell::new(or_unknown(value, show), tone)
}

/// Percentiles, sums and feedback, each as a small table.
fn figures(document: &TracerSession, overview: Option<&Overview>, style: &Style) -> Vec<Grid> {
    let mut grids = vec![percentiles(document, overview), sums(document)];
    let room = style.width.map(|_| LABEL_MAX);
    for (title, stats) in [
        ("feedback", &document.feedback_stats),
        ("project feedback", &document.session_feedback_stats),
    ] {
        grids.extend(feedback(title, stats.as_ref(), room));
    }
    grids.extend(facets(document, room));
    grids
}

/// Latency and time to first token with the number of values; without an overview some are unknown.
pub(super) fn distributions(
    document: &TracerSession,
    overview: Option<&Overview>,
) -> [(&'static str, Distribution, Option<u64>); 2] {
    let latency = overview.map(|overview| overview.latency);
    let first_token = overview.map(|overview| overview.first_token);
    let of = |known: Option<Distribution>, p50, p99| {
        let n = known.map(|known| known.n);
        let values = Distribution {
            n: n.unwrap_or(u64::MAX),
            p50,
            p95: known.and_then(|known| known.p95),
            p99,
        };
        (values, n)
    };
    let (latency, n_latency) = of(latency, document.latency_p50, document.latency_p99);
    let (first, n_first) = of(
        first_token,
        document.first_token_p50,
        document.first_token_p99,
    );
    [
        ("latency", latency, n_latency),
        ("first token", first, n_first),
    ]
}

fn percentiles(document: &TracerSession, overview: Option<&Overview>) -> Grid {
    let lines = distributions(document, overview);
    let has_mark = lines.iter().any(|(_, values, _)| is_marked(values));
    let mut rows: Vec<Row> = lines
        .iter()
        .map(|(label, values, n)| {
            let mut p99 = known(values.p99, units::duration);
            if has_mark {
                p99.text.push(if is_marked(values) { '*' } else { ' ' });
            }
            Row::Cells(vec![
                Cell::new(*label, Tone::Faint),
                known(values.p50, units::duration),
                known(values.p95, units::duration),
                p99,
                known(*n, units::count),
            ])
        })
        .collect();
    if has_mark {
        rows.push(Row::Note(P99_NOTE.to_owned()));
    }
    let p99 = if has_mark { "p99 " } else { "p99" };
    table(
        "",
        &[("p50", 1), ("p95", 4), (p99, 3), ("n", 2)],
        FIGURE,
        rows,
    )
}

fn sums(document: &TracerSession) -> Grid {
    let tokens = [
        document.total_tokens,
        document.prompt_tokens,
        document.completion_tokens,
    ];
    let costs = [
        document.total_cost,
        document.prompt_cost,
        document.completion_cost,
    ];
    let cost = |cost: Option<Cost>| known(cost, |cost| units::cost(&cost));
    let line = |label: &str, cells: [Cell; 3]| {
        let label = Cell::new(label, Tone::Faint);
        Row::Cells(std::iter::once(label).chain(cells).collect())
    };
    let rows = vec![
        line("tokens", tokens.map(|n| known(n, units::count))),
        line("cost", costs.map(cost)),
    ];
    table(
        "",
        &[("total", 1), ("prompt", 2), ("completion", 3)],
        FIGURE,
        rows,
    )
}

/// Feedback with a row a key, and its labels within a room each; nothing where there is none.
fn feedback(
    title: &'static str,
    stats: Option<&BTreeMap<String, FeedbackStats>>,
    room: Option<usize>,
) -> Option<Grid> {
    let stats = stats.filter(|stats| !stats.is_empty())?;
    let mut rows = Vec::new();
    for (key, stats) in stats {
        let figures = feedback_figures(stats);
        let key = Cell::new(plain_text(key), Tone::Faint);
        rows.push(Row::Cells(std::iter::once(key).chain(figures).collect()));
        if !stats.values.is_empty() {
            rows.push(Row::Note(labels(stats, room)));
        }
    }
    let columns = [
        ("n", 1),
        ("avg", 2),
        ("stdev", 4),
        ("min", 5),
        ("max", 5),
        ("errors", 3),
    ];
    Some(table(title, &columns, SCORE, rows))
}

/// n, mean, deviation, extremes, failures.
pub(super) fn feedback_figures(stats: &FeedbackStats) -> [Cell; 6] {
    let score = |score| known(score, units::score);
    [
        units::count(stats.n).into(),
        score(stats.avg),
        score(stats.stdev),
        score(stats.session_min_score),
        score(stats.session_max_score),
        units::count(stats.errors).into(),
    ]
}

/// Labels and how often each was given, the most frequent first; where there is a room for each, only
/// some of them.
pub(super) fn labels(stats: &FeedbackStats, room: Option<usize>) -> String {
    let mut labels: Vec<(&String, u64)> =
        stats.values.iter().map(|(label, n)| (label, *n)).collect();
    labels.sort_by_key(|(_, n)| Reverse(*n));
    counted(&labels, room)
}

/// A key of facets, and how often it has which value.
pub(super) type Faceted<'a> = (&'a str, Vec<(&'a String, u64)>);

/// The document's facets by their keys, the most frequent first.
pub(super) fn faceted(document: &TracerSession) -> Vec<Faceted<'_>> {
    let mut keys: Vec<Faceted<'_>> = Vec::new();
    for facet in document.run_facets.iter().flatten() {
        let value = (&facet.value, facet.n);
        match keys.iter_mut().find(|(key, _)| *key == facet.key) {
            Some((_, values)) => values.push(value),
            None => keys.push((&facet.key, vec![value])),
        }
    }
    keys
}

/// Facets with a row a key, and its values within a room each; nothing where there are none.
fn facets(document: &TracerSession, room: Option<usize>) -> Option<Grid> {
    let keys = faceted(document);
    let rows = keys.iter().flat_map(|(key, values)| {
        let key = Cell::new(plain_text(key), Tone::Faint);
        [Row::Cells(vec![key]), Row::Note(counted(values, room))]
    });
    let rows: Vec<Row> = rows.collect();
    (!rows.is_empty()).then(|| table("facets", &[], SCORE, rows))
}

/// Texts and their numbers; where there is a room for each, only some of them.
pub(super) fn counted(labels: &[(&String, u64)], room: Option<usize>) -> String {
    let n_shown = room.map_or(labels.len(), |_| N_LABELS_MAX.min(labels.len()));
    let mut texts: Vec<String> = Vec::with_capacity(n_shown + 1);
    for (label, n) in labels.iter().take(n_shown) {
        let label = plain_text(label);
        let label = room.map_or(Cow::Borrowed(&*label), |room| shortened(&label, room));
        texts.push(format!("{label} {}", units::count(*n)));
    }
    if n_shown < labels.len() {
        texts.push(format!("{} more", labels.len() - n_shown));
    }
    texts.join(", ")
}

/// A small table: labels, and figures under titles; the second number says which go first.
fn table(
    title: &'static str,
    columns: &[(&'static str, u8)],
    floor: usize,
    rows: Vec<Row>,
) -> Grid {
    let label = Column {
        floor: LABEL,
        ..Column::new(title, "", title, "", 0)
    };
    let figures = columns.iter().map(|(title, expendable)| Column {
        floor: floor.max(width(title)),
        ..Column::new(title.trim_end(), "", *title, "", *expendable)
    });
    Grid {
        columns: std::iter::once(label).chain(figures).collect(),
        rows,
        indent: INDENT,
        least: LABEL,
        ..Grid::default()
    }
}
