//! Groups as CSV: a row a group, or a group and a span of time; the total last. Every digit of every
//! figure; what is unknown is an empty cell.

use std::io::{self, Write};
use std::iter;

use super::super::csv::{cell_text, or_empty};
use super::super::parts::write_parts;
use super::super::units::exact_seconds;
use super::super::{Style, json};
use super::{ATTAINMENT, Groups, TOTAL, called, names};
use crate::document::{Figure, Group};
use crate::request::Measure;

/// Writes the header and the rows. The total, too, has a row a span of time where these were asked for.
pub(super) fn write(out: &mut dyn Write, answer: &Groups, style: &Style) -> io::Result<()> {
    let text = |text: &str| cell_text(text, style.terminal);
    let mut csv = ::csv::Writer::from_writer(&mut *out);
    csv.write_record(header(answer).map(|name| text(&name)))?;
    csv.flush()?;
    drop(csv);
    write_parts(out, answer.groups, style.threads, |out, groups| {
        let mut csv = ::csv::Writer::from_writer(out);
        for group in groups {
            let labels = group.labels.iter().map(|label| text(&called(label)));
            write_rows(&mut csv, answer, group, &labels.collect::<Vec<_>>(), style)?;
        }
        csv.flush()
    })?;
    if answer.is_whole() || answer.shows_total {
        let mut labels = vec![String::new(); answer.breakdown.by.len()];
        if let Some(first) = labels.first_mut() {
            TOTAL.clone_into(first);
        }
        let mut csv = ::csv::Writer::from_writer(out);
        write_rows(&mut csv, answer, answer.total, &labels, style)?;
        csv.flush()?;
    }
    Ok(())
}

fn header<'a>(answer: &'a Groups) -> impl Iterator<Item = String> + 'a {
    let keys = answer.breakdown.by.iter().map(ToString::to_string);
    let span = answer.breakdown.every.map(|_| ["start", "end"]);
    let span = span.into_iter().flatten().map(str::to_owned);
    let figures = answer.measures().iter().flat_map(names);
    keys.chain(span).chain(figures)
}

/// Writes the rows of a group.
fn write_rows<W: Write>(
    csv: &mut ::csv::Writer<W>,
    answer: &Groups,
    group: &Group,
    labels: &[String],
    style: &Style,
) -> io::Result<()> {
    for (bucket, figures) in answer.rows(group) {
        for label in labels {
            csv.write_field(label)?;
        }
        if let Some(bucket) = bucket {
            csv.write_field(bucket.start.to_string())?;
            csv.write_field(bucket.end.to_string())?;
        }
        for (at, measure) in answer.measures().iter().enumerate() {
            let figure = figures.get(at).unwrap_or(&Figure::Unknown);
            for cell in cells(measure, figure, style)? {
                csv.write_field(cell)?;
            }
        }
        csv.write_record(None::<&[u8]>)?;
    }
    Ok(())
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
