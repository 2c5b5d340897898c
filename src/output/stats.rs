//! Statistics of groups of runs: JSON, CSV and Parquet for machines, tables and Markdown for people.
//!
//! What a group is called comes from logs. Where it would read like one of the names that are given here
//! it is set in quotes, so that no two groups are called the same.

mod columns;
mod records;
mod sheet;
mod table;
mod typed;

use std::borrow::Cow;
use std::io::{self, Write};

use super::{Format, Style};
use crate::document::{Bucket, Figure, Group, Label};
use crate::request::{Breakdown, Count, Measure};

/// What groups are called that have no value of their own.
const NONE: &str = "(none)";
const OTHER: &str = "(other)";
const TOTAL: &str = "(total)";

/// What an objective has a column for.
const ATTAINMENT: [&str; 6] = [
    "target",
    "good",
    "total",
    "attained",
    "budget_left",
    "worst",
];

/// What an answer has for an output of statistics.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// What was asked.
    pub breakdown: &'a Breakdown,
    /// So many of its measures are shown; the others are what is sorted by, and the number of runs.
    pub n_shown: usize,
    /// The groups, in their order; none where no key was asked for.
    pub groups: &'a [Group],
    /// All runs together.
    pub total: &'a Group,
    /// Whether the total is shown below the groups.
    pub shows_total: bool,
}

/// Writes statistics of groups of runs. Returns the names of what a table left out for want of room.
///
/// # Errors
///
/// Where the writer fails.
pub fn write_stats(
    out: &mut dyn Write,
    answer: &Groups,
    format: Format,
    style: &Style,
) -> io::Result<Vec<String>> {
    match format {
        Format::Json => records::write_json(out, answer)?,
        Format::Jsonl => records::write_jsonl(out, answer, style)?,
        Format::Table => return table::write(out, answer, style),
        Format::Csv => sheet::write(out, answer, style)?,
        Format::Markdown => table::write_markdown(out, answer, style)?,
        Format::Parquet => typed::write(out, answer)?,
    }
    Ok(Vec::new())
}

impl<'a> Groups<'a> {
    /// The measures that are shown.
    fn measures(&self) -> &'a [Measure] {
        let measures = &self.breakdown.measures;
        &measures[..self.n_shown.min(measures.len())]
    }

    /// Whether no key was asked for, so that there is nothing but the total.
    fn is_whole(&self) -> bool {
        self.breakdown.by.is_empty()
    }

    /// The number of runs that figures are of, where it was asked for.
    fn n_runs(&self, figures: &[Figure]) -> Option<u64> {
        let place = self.breakdown.place(&Measure::Count(Count::Runs))?;
        match figures.get(place)? {
            Figure::Count(n) => Some(*n),
            _ => None,
        }
    }

    /// What a group has a row for: each span of time where these were asked for, else all of it.
    fn rows(&self, group: &'a Group) -> impl Iterator<Item = (Option<&'a Bucket>, &'a [Figure])> {
        let whole = self.breakdown.every.is_none();
        let whole = whole.then_some((None, group.figures.as_slice()));
        let buckets = group.series.iter();
        whole
            .into_iter()
            .chain(buckets.map(|bucket| (Some(bucket), bucket.figures.as_slice())))
    }
}

/// The names of a measure's columns where each has one value.
fn names(measure: &Measure) -> Vec<String> {
    let name = measure.to_string();
    match measure {
        Measure::Objective(_) => ATTAINMENT.map(|part| format!("{name}_{part}")).into(),
        Measure::Distinct(_) => vec![name.clone(), format!("{name}_is_approximate")],
        _ => vec![name],
    }
}

/// What a label is called.
fn called(label: &Label) -> Cow<'_, str> {
    match label {
        Label::None => NONE.into(),
        Label::Other => OTHER.into(),
        Label::Value(text) if is_taken(text) => format!("\"{text}\"").into(),
        Label::Value(text) => text.into(),
    }
}

/// Whether a text reads like a name that is given here, in quotes or not.
fn is_taken(text: &str) -> bool {
    text.starts_with(['(', '"']) && [NONE, OTHER, TOTAL].contains(&text.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_called_like_what_has_none() {
        let value = |text: &str| called(&Label::Value(text.to_owned())).into_owned();
        assert_eq!(called(&Label::None), "(none)");
        assert_eq!(called(&Label::Other), "(other)");
        for (text, name) in [
            ("gpt", "gpt"),
            ("", ""),
            ("none", "none"),
            ("(none)", "\"(none)\""),
            ("\"(none)\"", "\"\"(none)\"\""),
            ("(total)", "\"(total)\""),
        ] {
            assert_eq!(value(text), name);
        }
    }
}
