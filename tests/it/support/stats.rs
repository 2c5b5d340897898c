//! Runs → groups and their figures, by the most naive means there are.
//!
//! What counts as one is a `unit`: a trace or a run. Its `label`s say which groups it is in, a `calendar`
//! in which span of time, and each `figure` of a group is computed from its units in whole numbers. Of the
//! crate under test nothing is used but the plain data in which a breakdown is asked for and answered.

mod calendar;
mod figure;
mod label;
mod line;
mod unit;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use runtally::request::SortBy;
use runtally::{Breakdown, Label, Measure, Stats};
use uuid::Uuid;

pub(crate) use calendar::Spans;
use figure::Group;
pub(crate) use figure::Wanted;
pub(crate) use line::lines;
use unit::Unit;

use super::reference::{self, Question, Row};
use super::run::Run;

/// A breakdown, and its spans of time in the tests' own words.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    breakdown: Breakdown,
    spans: Option<Spans>,
}

impl Asked {
    /// The breakdown's own spans are replaced by these.
    pub(crate) fn new(breakdown: Breakdown, spans: Option<Spans>) -> Self {
        let every = spans.map(|spans| spans.every());
        Self {
            breakdown: Breakdown { every, ..breakdown },
            spans,
        }
    }

    pub(crate) fn breakdown(&self) -> &Breakdown {
        &self.breakdown
    }
}

/// What an answer must say.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// In order.
    pub(crate) groups: Vec<ExpectedGroup>,
    pub(crate) total: ExpectedGroup,
    /// Whether usage is that of all runs of a trace, in each project.
    pub(crate) are_built: BTreeMap<Uuid, bool>,
}

/// What a group must be.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedGroup {
    pub(crate) labels: Vec<Label>,
    pub(crate) figures: Vec<Wanted>,
    /// The first moment of a span, the first one after it, and its figures.
    pub(crate) series: Vec<(i64, i64, Vec<Wanted>)>,
    sorted_by: Wanted,
}

/// What an answer must say of these runs.
pub(crate) fn expected(runs: &[Run], question: &Question, asked: &Asked) -> Expected {
    let breakdown = &asked.breakdown;
    let rows = reference::rows(runs, question);
    let projects: BTreeSet<Uuid> = rows.iter().map(|row| row.run.session_id).collect();
    let projects = projects
        .into_iter()
        .filter(|id| question.project.is_none_or(|wanted| wanted == *id));
    let rows: BTreeMap<Uuid, Vec<&Row>> = projects
        .map(|id| {
            (
                id,
                rows.iter().filter(|row| row.run.session_id == id).collect(),
            )
        })
        .collect();
    let units: Vec<Unit> = rows
        .values()
        .flat_map(|rows| unit::units(rows, question, &breakdown.runs))
        .collect();
    let mut by_labels: BTreeMap<Vec<Label>, Vec<&Unit>> = BTreeMap::new();
    for unit in &units {
        for labels in label::combinations(unit, &breakdown.by, question) {
            by_labels.entry(labels).or_default().push(unit);
        }
    }
    let all: Vec<&Unit> = units.iter().collect();
    let spans = asked
        .spans
        .map(|spans| spans.cover(&all, question.since_us, question.until_us))
        .unwrap_or_default();
    let total = Group {
        units: &all,
        total: &all,
        rows: &rows,
    };
    let finished = |labels: &[Label], units: &[&Unit]| {
        let group = Group { units, ..total };
        finish(labels, group, breakdown, &spans)
    };
    let mut groups = Vec::new();
    if !breakdown.by.is_empty() {
        let of_labels = by_labels.iter();
        groups = of_labels
            .map(|(labels, units)| finished(labels, units))
            .collect();
    }
    groups.sort_by(|one, other| order(one, other, breakdown));
    if let Some(limit) = breakdown.limit
        && groups.len() > limit
    {
        let beyond = groups.split_off(limit);
        let others: Vec<&Unit> = beyond
            .iter()
            .flat_map(|group| by_labels[&group.labels].clone())
            .collect();
        groups.push(finished(&vec![Label::Other; breakdown.by.len()], &others));
    }
    Expected {
        groups,
        total: finished(&[], &all),
        are_built: rows
            .iter()
            .map(|(id, rows)| (*id, reference::is_built(rows, question)))
            .collect(),
    }
}

fn finish(
    labels: &[Label],
    group: Group,
    breakdown: &Breakdown,
    spans: &[(i64, i64)],
) -> ExpectedGroup {
    let figures_of = |group: &Group, spans| {
        let measures = breakdown.measures.iter();
        measures
            .map(|measure| group.figure(measure, spans))
            .collect()
    };
    let series = spans.iter().map(|&(start, end)| {
        let units = group.within(start, end);
        let in_span = Group {
            units: &units,
            ..group
        };
        (start, end, figures_of(&in_span, &[]))
    });
    ExpectedGroup {
        labels: labels.to_vec(),
        figures: figures_of(&group, spans),
        series: series.collect(),
        sorted_by: match &breakdown.sort.by {
            SortBy::Measure(measure) => group.figure(measure, spans),
            SortBy::Key(_) => Wanted::Unknown,
        },
    }
}

/// By the figure or the label that is asked for, those without it last; then by all labels.
fn order(one: &ExpectedGroup, other: &ExpectedGroup, breakdown: &Breakdown) -> Ordering {
    let directed = |order: Ordering| {
        if breakdown.sort.ascending {
            order
        } else {
            order.reverse()
        }
    };
    let first = match breakdown.sort.by {
        SortBy::Measure(_) => {
            let (one, other) = (&one.sorted_by, &other.sorted_by);
            let unknown_last = one.is_unknown().cmp(&other.is_unknown());
            unknown_last.then_with(|| directed(one.compare(other)))
        }
        SortBy::Key(place) => {
            let (one, other) = (&one.labels[place], &other.labels[place]);
            let is_none = |label: &Label| *label == Label::None;
            let none_last = is_none(one).cmp(&is_none(other));
            none_last.then_with(|| directed(one.cmp(other)))
        }
    };
    first.then_with(|| one.labels.cmp(&other.labels))
}

/// Compares all that an answer says; panics with the first difference.
pub(crate) fn assert_same(actual: &Stats, expected: &Expected, asked: &Asked) {
    let breakdown = asked.breakdown();
    assert_eq!(actual.breakdown, *breakdown);
    let labels = |groups: &[runtally::Group]| -> Vec<Vec<Label>> {
        groups.iter().map(|group| group.labels.clone()).collect()
    };
    let wanted: Vec<Vec<Label>> = expected
        .groups
        .iter()
        .map(|group| group.labels.clone())
        .collect();
    let (mut there, mut wanted_there) = (labels(&actual.groups), wanted.clone());
    there.sort();
    wanted_there.sort();
    assert_eq!(there, wanted_there, "not the same groups (left: actual)");
    assert_same_group(&actual.total, &expected.total, &breakdown.measures);
    for wanted in &expected.groups {
        let mut same = actual.groups.iter();
        let group = same.find(|group| group.labels == wanted.labels).unwrap();
        assert_same_group(group, wanted, &breakdown.measures);
    }
    assert_eq!(
        labels(&actual.groups),
        wanted,
        "the same groups in another order than {:?} (left: actual)",
        breakdown.sort
    );
    assert_eq!(
        actual.overlaps,
        breakdown.by.iter().any(runtally::Key::is_multiple)
    );
}

/// Panics with the first difference.
pub(crate) fn assert_same_group(
    actual: &runtally::Group,
    expected: &ExpectedGroup,
    measures: &[Measure],
) {
    let labels = &expected.labels;
    assert_eq!(actual.labels, *labels);
    assert_same_figures(
        &actual.figures,
        &expected.figures,
        measures,
        &format!("{labels:?}"),
    );
    let spans: Vec<(i64, i64)> = actual
        .series
        .iter()
        .map(|bucket| (bucket.start.0, bucket.end.0))
        .collect();
    let wanted: Vec<(i64, i64)> = expected
        .series
        .iter()
        .map(|(start, end, _)| (*start, *end))
        .collect();
    assert_eq!(
        spans, wanted,
        "{labels:?}: not the same spans (left: actual)"
    );
    for (bucket, (start, _, figures)) in actual.series.iter().zip(&expected.series) {
        let place = format!("{labels:?} in the span from {start}");
        assert_same_figures(&bucket.figures, figures, measures, &place);
    }
}

fn assert_same_figures(
    actual: &[runtally::Figure],
    expected: &[Wanted],
    measures: &[Measure],
    place: &str,
) {
    assert_eq!(actual.len(), measures.len(), "{place}: {actual:?}");
    for ((figure, wanted), measure) in actual.iter().zip(expected).zip(measures) {
        assert!(
            wanted.agrees_with(figure),
            "{place}, {measure}: {figure:?} instead of {wanted:?}"
        );
    }
}

#[cfg(test)]
mod tests;
