//! Groups as CSV: a row a group, or a group and a span of time; the total last. Every digit of every
//! figure; what is unknown is an empty cell.

use std::io::{self, Write};
use std::iter;

use super::super::csv::{cell_text, or_empty};
use super::super::units::exact_seconds;
use super::super::{Style, json};
use super::{ATTAINMENT, Groups, TOTAL, called, names};
use crate::document::{Bucket, Figure, Group};
use crate::request::Measure;

/// Writes the header and the rows. The total, too, has a row a span of time where these were asked for.
pub(super) fn write(out: &mut dyn Write, answer: &Groups, style: &Style) -> io::Result<()> {
    let text = |text: &str| cell_text(text, style.terminal);
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(header(answer).map(|name| text(&name)))?;
    for group in answer.groups {
        let labels = group.labels.iter().map(|label| text(&called(label)));
        let labels: Vec<String> = labels.collect();
        for row in rows(answer, group, &labels, style)? {
            csv.write_record(row)?;
        }
    }
    if answer.is_whole() || answer.shows_total {
        let mut labels = vec![String::new(); answer.breakdown.by.len()];
        if let Some(first) = labels.first_mut() {
            TOTAL.clone_into(first);
        }
        for row in rows(answer, answer.total, &labels, style)? {
            csv.write_record(row)?;
        }
    }
    csv.flush()
}

fn header<'a>(answer: &'a Groups) -> impl Iterator<Item = String> + 'a {
    let keys = answer.breakdown.by.iter().map(ToString::to_string);
    let span = answer.breakdown.every.map(|_| ["start", "end"]);
    let span = span.into_iter().flatten().map(str::to_owned);
    let figures = answer.measures().iter().flat_map(names);
    keys.chain(span).chain(figures)
}

/// The rows of a group.
fn rows(
    answer: &Groups,
    group: &Group,
    labels: &[String],
    style: &Style,
) -> io::Result<Vec<Vec<String>>> {
    let unknown = Figure::Unknown;
    let row = |(bucket, figures): (Option<&Bucket>, &[Figure])| {
        let mut row = labels.to_vec();
        row.extend(
            bucket
                .into_iter()
                .flat_map(|bucket| [bucket.start.to_string(), bucket.end.to_string()]),
        );
        for (at, measure) in answer.measures().iter().enumerate() {
            let figure = figures.get(at).unwrap_or(&unknown);
            row.extend(cells(measure, figure, style)?);
        }
        Ok(row)
    };
    answer.rows(group).map(row).collect()
}

/// The cells of a measure, as many as it has columns.
fn cells(measure: &Measure, figure: &Figure, style: &Style) -> io::Result<Vec<String>> {
    Ok(match (measure, figure) {
        (_, Figure::Attainment(of)) => vec![
            of.target.to_string(),
            of.good.to_string(),
            of.total.to_string(),
            or_empty(of.attained),
            or_empty(of.budget_left),
            or_empty(of.worst),
        ],
        (Measure::Objective(_), _) => vec![String::new(); ATTAINMENT.len()],
        (_, Figure::Distinct { n, is_exact }) => vec![n.to_string(), (!is_exact).to_string()],
        (Measure::Distinct(_), figure) => iter::once(cell(figure, style)?)
            .chain([String::new()])
            .collect(),
        (_, figure) => vec![cell(figure, style)?],
    })
}

/// A figure that has one cell.
fn cell(figure: &Figure, style: &Style) -> io::Result<String> {
    Ok(match figure {
        Figure::Unknown | Figure::Attainment(_) => String::new(),
        Figure::Count(n) | Figure::Distinct { n, .. } => n.to_string(),
        Figure::Whole(sum) => sum.to_string(),
        Figure::Thousandths(value) => value.to_string(),
        Figure::Seconds(time) => exact_seconds(*time),
        Figure::Share(number) | Figure::Number(number) => number.to_string(),
        Figure::Cost(cost) => cost.to_string(),
        Figure::Time(time) => time.to_string(),
        Figure::Feedback(keys) => json::text(keys)?,
        Figure::Facets(facets) => json::text(facets)?,
        Figure::Run(id) => cell_text(id, style.terminal),
    })
}
