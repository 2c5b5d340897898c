//! A row of bars: how many traces a day, or how much of anything a span of time.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::document::Overview;

/// A time without anything, and the levels of the others.
const NONE: char = '·';
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The days that all bars span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first: NaiveDate,
    n_days: u64,
}

impl Span {
    /// From the first day of any project to the last; none where that is less than two days.
    pub(super) fn of(overviews: &[Overview]) -> Option<Self> {
        let days = || overviews.iter().map(|overview| &overview.days);
        let first = days().filter_map(|days| days.keys().next()).min()?;
        let last = days().filter_map(|days| days.keys().next_back()).max()?;
        let n_days = u64::try_from((*last - *first).num_days()).ok()? + 1;
        (n_days > 1).then_some(Self {
            first: *first,
            n_days,
        })
    }

    /// The bars of one project, at most so many.
    pub(super) fn bars(&self, days: &BTreeMap<NaiveDate, u64>, n_bars_max: u64) -> String {
        let amounts = days.iter().filter_map(|(day, n_traces)| {
            let at = u64::try_from((*day - self.first).num_days()).ok()?;
            Some((at, u128::from(*n_traces)))
        });
        bars(self.n_days, amounts, n_bars_max)
    }
}

/// Amounts at some of so many places, as bars, at most so many; the highest is the busiest time. Where
/// there are more places than bars, each bar is the mean of as many, but for one.
pub(super) fn bars(
    n_places: u64,
    amounts: impl IntoIterator<Item = (u64, u128)>,
    n_bars_max: u64,
) -> String {
    let n_bars = n_places.min(n_bars_max.max(1));
    let mut sums: BTreeMap<u64, u128> = BTreeMap::new();
    for (at, amount) in amounts {
        let sum = sums.entry(at * n_bars / n_places.max(1)).or_default();
        *sum = sum.saturating_add(amount);
    }
    let begin = |bar: u64| (bar * n_places).div_ceil(n_bars);
    let means: Vec<u128> = (0..n_bars)
        .map(|bar| {
            let sum = sums.get(&bar).copied().unwrap_or(0);
            let n_places = u128::from(begin(bar + 1) - begin(bar));
            sum.saturating_mul(1_000_000) / n_places.max(1)
        })
        .collect();
    let highest = means.iter().copied().max().unwrap_or(0);
    means.iter().map(|mean| bar(*mean, highest)).collect()
}

fn bar(mean: u128, highest: u128) -> char {
    if mean == 0 {
        return NONE;
    }
    let level = mean.saturating_mul(LEVELS.len() as u128).div_ceil(highest);
    let at = usize::try_from(level)
        .unwrap_or(LEVELS.len())
        .clamp(1, LEVELS.len());
    LEVELS[at - 1]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn overview(days: &[(u32, u64)]) -> Overview {
        let day = |day| NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        Overview {
            days: days.iter().map(|(at, n)| (day(*at), *n)).collect(),
            ..Overview::default()
        }
    }

    #[test]
    fn the_busiest_day_is_highest() {
        let projects = [
            overview(&[(1, 1), (2, 50), (3, 100), (5, 800)]),
            overview(&[(4, 3), (6, 3)]),
            overview(&[]),
        ];
        let span = Span::of(&projects).unwrap();
        let bars = projects.iter().map(|project| span.bars(&project.days, 30));
        assert_eq!(bars.collect::<Vec<_>>(), ["▁▁▁·█·", "···█·█", "······"]);
    }

    #[test]
    fn more_days_than_bars_are_merged_to_means() {
        let days: Vec<(u32, u64)> = (1..=7).map(|day| (day, 10)).collect();
        let project = overview(&days);
        let span = Span::of(std::slice::from_ref(&project)).unwrap();
        assert_eq!(span.bars(&project.days, 3), "███");
        assert_eq!(span.bars(&project.days, 7), "███████");
    }

    #[test]
    fn one_day_is_no_trend() {
        assert_eq!(Span::of(&[overview(&[(1, 5)])]), None);
        assert_eq!(Span::of(&[]), None);
    }

    #[test]
    fn a_stray_day_costs_nothing() {
        let mut project = overview(&[(1, u64::MAX), (2, 1)]);
        project.days.insert(NaiveDate::MIN, 1);
        project.days.insert(NaiveDate::MAX, 1);
        let span = Span::of(std::slice::from_ref(&project)).unwrap();
        assert_eq!(span.bars(&project.days, 14).chars().count(), 14);
    }
}
