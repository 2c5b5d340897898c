//! Words: a breakdown and a filter as flags and HTTP parameters give them, made into what they mean.

use std::iter;

use chrono::Weekday;
use chrono_tz::Tz;

use super::{
    Amount, Breakdown, Count, Every, Key, Measure, Objective, Population, Quantity, Sort, SortBy,
    Statistic,
};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::tally::sketch::Quantile;

/// What stands for every measure.
const ALL: &str = "all";

/// A breakdown in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BreakdownWords {
    /// Which runs count; where nothing is said, those that the keys are of.
    pub runs: Option<String>,
    /// The keys.
    pub group_by: Vec<String>,
    /// The length of a span of time.
    pub every: Option<String>,
    /// The day on which a week begins; Monday where none is said.
    pub week_start: Option<String>,
    /// What groups are sorted by; the number of runs where nothing is said.
    pub sort: Option<String>,
    /// How many groups there are at most.
    pub limit: Option<usize>,
    /// The figures; the usual ones where none is said.
    pub select: Vec<String>,
    /// Percentiles, in place of the usual ones or beside those that are selected.
    pub percentiles: Vec<String>,
    /// Objectives.
    pub slo: Vec<String>,
    /// Whether the part of the total is shown beside each count and sum.
    pub share: bool,
    /// Whether a run is shown beside each percentile.
    pub exemplars: bool,
}

/// Plain words that stand for filters; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterWords {
    /// In the filter language.
    pub filter: Option<String>,
    /// A type.
    pub run_type: Option<String>,
    /// A name.
    pub run_name: Option<String>,
    /// Only those that failed, or that did not.
    pub error: Option<bool>,
    /// Tags, all of them.
    pub tag: Vec<String>,
    /// A model.
    pub model: Option<String>,
    /// A user.
    pub user: Option<String>,
    /// Entries of the metadata, all of them.
    pub meta: Vec<(String, String)>,
    /// The least latency, microseconds.
    pub min_latency_us: Option<i64>,
    /// The greatest latency, microseconds.
    pub max_latency_us: Option<i64>,
}

impl BreakdownWords {
    /// The measures that are shown; `usual` where none is chosen.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where a word is none that is known.
    pub fn measures(&self, usual: Vec<Measure>, facets: bool) -> Result<Vec<Measure>> {
        let percentiles = self.percentiles.iter().map(|text| percentile(text));
        let percentiles: Vec<Quantile> = percentiles.collect::<Result<_, _>>()?;
        let of_latency = |quantile: &Quantile| of(Quantity::Latency, *quantile);
        let mut measures = if self.select.is_empty() {
            with_percentiles(usual, &percentiles)
        } else {
            let mut chosen = chosen(&self.select)?;
            chosen.extend(percentiles.iter().map(of_latency));
            chosen
        };
        measures.extend(facets.then_some(Measure::RunFacets));
        for objective in &self.slo {
            measures.push(Measure::Objective(objective.parse::<Objective>()?));
        }
        let beside = |measure: &Measure| match measure {
            Measure::Of(quantity, Statistic::Quantile(quantile)) if self.exemplars => {
                Some(Measure::RunAt(*quantity, *quantile))
            }
            measure if self.share && measure.adds_up() => {
                Some(Measure::Share(Box::new(measure.clone())))
            }
            _ => None,
        };
        let with_beside = |measure: Measure| {
            let beside = beside(&measure);
            iter::once(measure).chain(beside)
        };
        Ok(each_once(measures.into_iter().flat_map(with_beside)))
    }

    /// What is asked, with these measures and those that are needed beside them.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where a word is none that is known.
    pub fn breakdown(&self, shown: Vec<Measure>, zone: Tz) -> Result<Breakdown> {
        let keys = self.group_by.iter().map(|key| key.trim().parse());
        let by: Vec<Key> = keys.collect::<Result<_, _>>()?;
        let by = each_once(by.into_iter());
        let sort = self.sort.as_ref().map(|text| Sort::parse(text, &by));
        let sort = sort.transpose()?.unwrap_or_else(Sort::by_runs);
        let week_start = self
            .week_start
            .as_deref()
            .map_or(Ok(Weekday::Mon), weekday)?;
        let every = self.every.as_ref();
        let every = every.map(|text| Every::parse(text, zone, week_start));
        let sorted_by = match &sort.by {
            SortBy::Measure(measure) => Some(measure.clone()),
            SortBy::Key(_) => None,
        };
        let beside = sorted_by.into_iter().chain([Measure::Count(Count::Runs)]);
        Ok(Breakdown {
            runs: self.runs(&by)?,
            by,
            every: every.transpose()?,
            measures: each_once(shown.into_iter().chain(beside)),
            sort,
            limit: self.limit,
        })
    }

    /// The runs that are asked for, else those that the keys are of.
    fn runs(&self, by: &[Key]) -> Result<Population> {
        match &self.runs {
            Some(runs) => runs.parse(),
            None if by == [Key::Step] => Ok(Population::Steps),
            None if by.contains(&Key::Tool) => Ok(Population::Type("tool".to_owned())),
            None => Ok(Population::Traces),
        }
    }
}

impl FilterWords {
    /// The one filter that they are; none where nothing is said.
    ///
    /// # Errors
    ///
    /// [`Error::Filter`] where the filter is none.
    pub fn filter(&self) -> Result<Option<Filter>> {
        let filter = self.filter.as_ref();
        let mut filters = Vec::from_iter(filter.map(|text| Filter::parse(text)).transpose()?);
        filters.extend(self.run_type.as_deref().map(Filter::run_type));
        filters.extend(self.run_name.as_deref().map(Filter::run_name));
        filters.extend(self.error.map(Filter::errored));
        filters.extend(self.tag.iter().map(|tag| Filter::tag(tag)));
        filters.extend(self.model.as_deref().map(Filter::model));
        filters.extend(self.user.as_deref().map(Filter::user));
        let entries = self.meta.iter();
        filters.extend(entries.map(|(key, value)| Filter::metadata(key, value)));
        filters.extend(self.min_latency_us.map(Filter::min_latency));
        filters.extend(self.max_latency_us.map(Filter::max_latency));
        Ok(Filter::all(filters))
    }
}

impl Measure {
    /// What a spreadsheet has where nothing is chosen.
    #[must_use]
    pub fn sheet() -> Vec<Self> {
        let mut measures = Self::overview();
        let first_token = [Quantile::P50, Quantile::P99];
        measures.extend(first_token.map(|quantile| of(Quantity::FirstToken, quantile)));
        let parts = [
            Amount::PromptTokens,
            Amount::CompletionTokens,
            Amount::PromptCost,
            Amount::CompletionCost,
        ];
        measures.extend(parts.map(Self::Sum));
        measures
    }
}

fn of(quantity: Quantity, quantile: Quantile) -> Measure {
    Measure::Of(quantity, Statistic::Quantile(quantile))
}

/// Measures with these percentiles of durations in place of the usual ones.
fn with_percentiles(measures: Vec<Measure>, percentiles: &[Quantile]) -> Vec<Measure> {
    let replaced = |measure: Measure| match measure {
        Measure::Of(
            quantity @ (Quantity::Latency | Quantity::FirstToken),
            Statistic::Quantile(_),
        ) if !percentiles.is_empty() => percentiles
            .iter()
            .map(|percentile| of(quantity, *percentile))
            .collect(),
        other => vec![other],
    };
    measures.into_iter().flat_map(replaced).collect()
}

/// The measures that are named.
fn chosen(names: &[String]) -> Result<Vec<Measure>> {
    let mut chosen = Vec::new();
    for name in names.iter().map(|name| name.trim()) {
        if name == ALL {
            chosen.extend(Measure::all());
        } else {
            chosen.push(name.parse()?);
        }
    }
    Ok(chosen)
}

fn each_once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut each = Vec::new();
    for one in all {
        if !each.contains(&one) {
            each.push(one);
        }
    }
    each
}

fn percentile(text: &str) -> Result<Quantile> {
    let number = text.trim().trim_start_matches('p');
    number.parse().map_err(|_| Error::Usage {
        problem: format!("--percentiles: {text:?} is no percentile"),
        hint: Some("write 50, 95 or 99.9: 0 to 100 with at most four decimals".to_owned()),
    })
}

fn weekday(text: &str) -> Result<Weekday> {
    text.trim().parse().map_err(|_| Error::Usage {
        problem: format!("--week-start: {text:?} is no day of the week"),
        hint: Some("write monday, sunday or another".to_owned()),
    })
}
