//! The columns of a table of groups: what a measure is called, how its figures are shown, and which
//! columns go first where there is no room.

use std::borrow::Cow;

use super::super::Style;
use super::super::grid::{Cell, Column, Name, Tone};
use super::super::list::{errors, marked};
use super::super::text::{plain_text, shortened};
use super::super::units::{self, UNKNOWN, or_unknown};
use super::Groups;
use crate::document::{Attainment, FeedbackStats, Figure, RunFacet};
use crate::request::{Amount, Count, Distinct, Every, Measure, Quantity, Rate, Statistic};

/// From here on a percentile is next to the greatest value where there are few.
const FEW_FROM_MILLIONTHS: u32 = 990_000;

/// So much of a text that lists things is shown where the width is limited.
const LIST_MAX: usize = 40;

/// Below this share of what may be bad an objective is in danger.
const NOTABLE_BUDGET: f64 = 0.2;

/// A column of figures.
pub(super) struct FigureColumn<'a> {
    /// How it is drawn.
    pub(super) column: Column,
    measure: &'a Measure,
    /// The place of the figure among a group's.
    at: usize,
    part: Part,
    /// Whether any of its rows is marked, so that the others leave room for it.
    pub(super) has_mark: bool,
}

/// What of a figure is shown.
#[derive(Clone, Copy)]
enum Part {
    Value,
    Attained,
    BudgetLeft,
    Worst,
}

/// The columns of the measures that are shown, for rows of such figures.
pub(super) fn columns<'a, 'b, R: Iterator<Item = &'b [Figure]>>(
    answer: &Groups<'a>,
    rows: impl Fn() -> R,
) -> Vec<FigureColumn<'a>> {
    let mut columns = of_measures(answer);
    for column in &mut columns {
        column.has_mark = rows().any(|figures| column.is_marked(figures, answer));
        if column.has_mark {
            column.column.title.to_mut().push(' ');
        }
    }
    columns
}

fn of_measures<'a>(answer: &Groups<'a>) -> Vec<FigureColumn<'a>> {
    let noun = answer.breakdown.runs.noun();
    let has_error_rate = answer.measures().contains(&Measure::Rate(Rate::Error));
    let mut columns = Vec::new();
    for (at, measure) in answer.measures().iter().enumerate() {
        let mut add = |column, part| {
            columns.push(FigureColumn {
                column,
                measure,
                at,
                part,
                has_mark: false,
            });
        };
        let Measure::Objective(objective) = measure else {
            let mut column = heading(measure, noun);
            if *measure == Measure::Count(Count::Errors) && has_error_rate {
                column.expendable = 7;
            }
            add(column, Part::Value);
            continue;
        };
        let (target, within) = (objective.target, within(measure));
        let group = match objective.quantity {
            Quantity::FirstToken => format!("{target}% first token {within}"),
            _ => format!("{target}% {within}"),
        };
        add(column(group.clone(), "good", "", 2), Part::Attained);
        add(column(group.clone(), "budget", "", 2), Part::BudgetLeft);
        if answer.breakdown.every.is_some() {
            add(column(group, "worst", "", 6), Part::Worst);
        }
    }
    columns
}

/// A column, called by its header where it was left out.
fn column(
    group: impl Into<Name>,
    title: impl Into<Name>,
    alone: impl Into<Name>,
    expendable: u8,
) -> Column {
    let (group, title, alone) = (group.into(), title.into(), alone.into());
    let name = match (group.is_empty(), alone.is_empty()) {
        (_, false) => alone.clone(),
        (true, true) => title.clone(),
        (false, true) => format!("{group} {title}").into(),
    };
    Column::new(name, group, title, alone, expendable)
}

/// What a measure of some runs is called, and how expendable it is.
fn heading(measure: &Measure, noun: &'static str) -> Column {
    let one = noun.trim_end_matches('s');
    match measure {
        Measure::Count(Count::Runs) => column(noun, "count", noun, 1),
        Measure::Count(Count::Errors) => column("errors", "count", "errors", 4),
        Measure::Count(Count::Completed) => column("completed", "count", "completed", 6),
        Measure::Rate(Rate::Error) => column("errors", "rate", "error rate", 3),
        Measure::Rate(Rate::Streaming) => column("", "streamed", "", 8),
        Measure::Rate(Rate::TraceError) => column("", "any error", "", 5),
        Measure::Sum(amount) => {
            let (group, title, alone) = of_amount(*amount);
            column(group, title, alone, expendable(*amount))
        }
        Measure::Share(part) => {
            let part = heading(part, noun);
            let alone = format!("{} share", part.alone);
            column(part.group, "share", alone, 8)
        }
        Measure::Of(quantity, statistic) => {
            let expendable = match (quantity, statistic) {
                (Quantity::Latency, Statistic::Quantile(quantile)) => match quantile.millionths() {
                    ..=500_000 => 2,
                    FEW_FROM_MILLIONTHS.. => 5,
                    _ => 6,
                },
                (Quantity::Latency, _) => 7,
                _ => 8,
            };
            column(
                of_quantity(*quantity, one),
                title(*statistic),
                "",
                expendable,
            )
        }
        Measure::RunAt(quantity, quantile) => column(
            of_quantity(*quantity, one),
            format!("run at p{quantile}"),
            "",
            8,
        ),
        Measure::Under(quantity, _) => column(of_quantity(*quantity, one), within(measure), "", 5),
        Measure::PerRun(amount) => column("", format!("{}/{one}", of_amount(*amount).2), "", 6),
        Measure::Distinct(Distinct::Traces) => column("", "distinct traces", "", 6),
        Measure::Distinct(Distinct::Users) => column("", "users", "", 6),
        Measure::Distinct(Distinct::Threads) => column("", "threads", "", 6),
        Measure::FirstStart => column("", "first start", "", 8),
        Measure::LastStart => column("", "last start", "", 8),
        Measure::FeedbackCount(key) => column(plain_text(key).into_owned(), "n", "", 7),
        Measure::FeedbackMean(key) => column(plain_text(key).into_owned(), "avg", "", 6),
        Measure::FeedbackStats => listing("feedback"),
        Measure::RunFacets => listing("facets"),
        // Has several columns.
        Measure::Objective(_) => Column::default(),
    }
}

fn listing(title: &'static str) -> Column {
    Column {
        left: true,
        ..column("", title, "", 9)
    }
}

/// The group of an amount's column, its header in there, and its header alone.
fn of_amount(amount: Amount) -> (&'static str, &'static str, &'static str) {
    match amount {
        Amount::TotalTokens => ("tokens", "total", "tokens"),
        Amount::PromptTokens => ("tokens", "input", "input tokens"),
        Amount::CompletionTokens => ("tokens", "output", "output tokens"),
        Amount::CachedTokens => ("tokens", "cached", "cached tokens"),
        Amount::ReasoningTokens => ("tokens", "reasoning", "reasoning tokens"),
        Amount::TotalCost => ("cost", "total", "cost"),
        Amount::PromptCost => ("cost", "input", "input cost"),
        Amount::CompletionCost => ("cost", "output", "output cost"),
        Amount::CachedCost => ("cost", "cached", "cached cost"),
        Amount::ReasoningCost => ("cost", "reasoning", "reasoning cost"),
    }
}

fn expendable(amount: Amount) -> u8 {
    match amount {
        Amount::TotalCost => 4,
        Amount::TotalTokens => 7,
        _ => 8,
    }
}

fn of_quantity(quantity: Quantity, one: &str) -> Name {
    match quantity {
        Quantity::Latency => "latency".into(),
        Quantity::FirstToken => "first token".into(),
        Quantity::TotalTokens => format!("tokens/{one}").into(),
        Quantity::PromptTokens => format!("input tokens/{one}").into(),
        Quantity::CompletionTokens => format!("output tokens/{one}").into(),
        Quantity::TotalCost => format!("cost/{one}").into(),
        Quantity::TokensPerSecond => "tokens/s".into(),
        Quantity::TimePerToken => "time/token".into(),
    }
}

fn title(statistic: Statistic) -> Name {
    match statistic {
        Statistic::Quantile(quantile) => format!("p{quantile}").into(),
        Statistic::Mean => "mean".into(),
        Statistic::Min => "min".into(),
        Statistic::Max => "max".into(),
    }
}

/// The bound of a measure that has one, as its name has it: `≤ 15s`.
fn within(measure: &Measure) -> String {
    let name = measure.to_string();
    let bound = match measure {
        Measure::Objective(_) => name.split(['<', ':']).nth(1),
        _ => name.split(':').nth(1),
    };
    format!("≤ {}", bound.unwrap_or_default())
}

impl FigureColumn<'_> {
    /// Whether it is a percentile that with so many values is hardly more than the greatest of them.
    fn is_marked(&self, figures: &[Figure], answer: &Groups) -> bool {
        let Measure::Of(_, Statistic::Quantile(quantile)) = self.measure else {
            return false;
        };
        let above = 1_000_000 - u64::from(quantile.millionths());
        quantile.millionths() >= FEW_FROM_MILLIONTHS
            && !figures.get(self.at).is_none_or(Figure::is_unknown)
            && (answer.n_runs(figures))
                .is_some_and(|n| above > 0 && n.saturating_mul(above) < 1_000_000)
    }

    /// The cell of a group's figures.
    pub(super) fn cell(
        &self,
        figures: &[Figure],
        answer: &Groups,
        style: &Style,
        tone: Tone,
    ) -> Cell {
        let unknown = Figure::Unknown;
        let figure = figures.get(self.at).unwrap_or(&unknown);
        let cell = match (figure, self.measure) {
            (Figure::Attainment(attainment), _) => {
                self.attainment(attainment, answer.breakdown.every, tone)
            }
            (Figure::Share(rate), Measure::Rate(Rate::Error | Rate::TraceError)) => {
                errors(Some(*rate), tone)
            }
            (Figure::Number(score), Measure::FeedbackMean(_)) => {
                Cell::new(units::score(*score), tone)
            }
            _ => Cell::new(text(figure, style), tone),
        };
        let tone = if cell.text == UNKNOWN {
            Tone::Faint
        } else {
            cell.tone
        };
        let is_marked = self.has_mark && self.is_marked(figures, answer);
        Cell::new(marked(cell.text, self.has_mark, is_marked), tone)
    }

    /// An objective that is missed stands out.
    fn attainment(&self, of: &Attainment, every: Option<Every>, tone: Tone) -> Cell {
        let tone = match of.budget_left {
            Some(left) if left < 0.0 => Tone::Alarm,
            Some(left) if left < NOTABLE_BUDGET => Tone::Warning,
            _ => tone,
        };
        match self.part {
            Part::Value | Part::Attained => Cell::new(or_unknown(of.attained, units::share), tone),
            Part::BudgetLeft => Cell::new(or_unknown(of.budget_left, units::left), tone),
            Part::Worst => {
                let label = every.zip(of.worst).map(|(every, at)| every.label(at.0));
                Cell::new(or_unknown(label, |label| label), tone)
            }
        }
    }
}

/// A figure as people read it.
fn text(figure: &Figure, style: &Style) -> String {
    match figure {
        Figure::Unknown | Figure::Attainment(_) => UNKNOWN.to_owned(),
        Figure::Count(n) | Figure::Distinct { n, is_exact: true } => units::count(*n),
        Figure::Distinct { n, .. } => format!("≈{}", units::count(*n)),
        Figure::Whole(sum) => units::amount(*sum),
        Figure::Thousandths(value) => units::thousandths(*value),
        Figure::Seconds(time) => units::duration(*time),
        Figure::Share(share) => units::share(*share),
        Figure::Number(number) => units::number(*number),
        Figure::Cost(cost) => units::cost(cost),
        Figure::Time(time) => units::time(*time, style.zone),
        Figure::Feedback(keys) => listed(keys.iter().map(feedback), style),
        Figure::Facets(facets) => listed(facets.iter().map(facet), style),
        Figure::Run(id) => plain_text(id).into_owned(),
    }
}

fn listed(texts: impl Iterator<Item = String>, style: &Style) -> String {
    let text = texts.collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        return UNKNOWN.to_owned();
    }
    let room = style
        .width
        .map_or(usize::MAX, |width| LIST_MAX.min(width / 2));
    shortened(&text, room).into_owned()
}

fn feedback((key, stats): (&String, &FeedbackStats)) -> String {
    let score = stats.avg.map_or(Cow::Borrowed(""), |score| {
        format!(" {}", units::score(score)).into()
    });
    format!("{}{score} ({})", plain_text(key), units::count(stats.n))
}

fn facet(facet: &RunFacet) -> String {
    let (key, value) = (plain_text(&facet.key), plain_text(&facet.value));
    format!("{key}={value} {}", units::count(facet.n))
}
