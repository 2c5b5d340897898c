//! Statistics of groups of runs.

use std::collections::{BTreeMap, BTreeSet};

use super::{About, ProjectNames, usage_of};
use crate::document::{self, Gathered, Group, Label, Making, Series};
use crate::engine::{self, Engine, GroupRow, Stop};
use crate::error::Result;
use crate::plan::Split;
use crate::request::{Breakdown, Key, Measure, Request, SortBy, Usage, Window};
use crate::source::Source;
use crate::tally::{Tally, TallyColumn};

/// The answer to a request for statistics of groups of runs.
#[derive(Debug)]
pub struct Stats {
    /// What was asked: which runs, the keys, the measures in the order of the groups' figures.
    pub breakdown: Breakdown,
    /// The groups, sorted; the last may be that of all beyond the limit. Empty where no key was asked for.
    pub groups: Vec<Group>,
    /// All runs together, each once.
    pub total: Group,
    /// Whether a run can be in several groups, so that these add up to more than the total.
    pub overlaps: bool,
    /// Whose tokens and costs were summed, where that was asked for.
    pub usage: Usage,
    /// What should be known of it.
    pub about: About,
}

/// Answers a request with statistics of groups of runs.
///
/// # Errors
///
/// Those of [`crate::sessions`].
pub async fn stats(
    engine: &Engine,
    source: &Source,
    request: &Request,
    breakdown: &Breakdown,
) -> Result<Stats> {
    let measures: Vec<Measure> = asked(breakdown).cloned().collect();
    let columns = document::needed(&measures);
    let overlaps = breakdown.by.iter().any(Key::is_multiple);
    let split = Split {
        by: &breakdown.by,
        every: breakdown.every.as_ref(),
        columns: &columns,
        kept: &[],
        own_feedback: source.feedback().is_none(),
    };
    let looked_at = split.looked_at(&breakdown.runs);
    let answer = engine::split(
        engine,
        source,
        request,
        &breakdown.runs,
        &looked_at,
        &[],
        async |groups, tallied| {
            let known = ProjectNames::of(source, tallied)?;
            let making = Making {
                breakdown,
                meaning: &known,
            };
            groups.check_columns(&columns, |missing| telling(&measures, missing))?;
            grouped(groups, &making, &columns, &tallied.window).await
        },
    );
    let ((groups, total), tallied) = answer.await?;
    Ok(Stats {
        breakdown: breakdown.clone(),
        groups,
        total,
        overlaps,
        usage: usage_of(&tallied),
        about: About::of(source, tallied)?,
    })
}

/// The figures that are asked for, that by which groups are sorted too.
fn asked(breakdown: &Breakdown) -> impl Iterator<Item = &Measure> {
    let sorted_by = match &breakdown.sort.by {
        SortBy::Measure(measure) => Some(measure),
        SortBy::Key(_) => None,
    };
    breakdown.measures.iter().chain(sorted_by)
}

/// The names of the measures that need one of these columns.
pub(super) fn telling(measures: &[Measure], columns: &BTreeSet<TallyColumn>) -> String {
    let needs = |measure: &&Measure| {
        let needed = document::needed(std::slice::from_ref(*measure));
        !needed.is_disjoint(columns)
    };
    let names: BTreeSet<String> = (measures.iter().filter(needs))
        .map(ToString::to_string)
        .collect();
    Vec::from_iter(names).join(", ")
}

/// Groups, their spans of time and the total, in as few passes as it takes.
async fn grouped(
    groups: &mut engine::Groups<'_>,
    making: &Making<'_>,
    columns: &BTreeSet<TallyColumn>,
    window: &Window,
) -> Result<(Vec<Group>, Group), Stop> {
    let Breakdown { by, every, .. } = making.breakdown;
    let own_feedback = groups.has_own_feedback();
    let pass = |by, every| Split {
        by,
        every,
        columns,
        kept: &[],
        own_feedback,
    };
    let overlaps = by.iter().any(Key::is_multiple);
    let (mut found, mut total) = (Vec::new(), None);
    if !by.is_empty() {
        let gathered = groups
            .pass(
                &pass(by, None),
                |gathered: &mut Gathered, row: GroupRow| {
                    making.add(gathered, row.labels, row.tally)
                },
                |gathered, more| making.join(gathered, more),
            )
            .await?;
        let (all, sum) = making.finish(gathered)?;
        found = all;
        total = (!overlaps).then_some(sum);
    }
    let mut series = Series::default();
    if every.is_some() && !by.is_empty() {
        let places = found.iter().enumerate();
        let places: BTreeMap<&[Label], usize> = places
            .map(|(place, group)| (group.labels.as_slice(), place))
            .collect();
        series = groups
            .pass(
                &pass(by, every.as_ref()),
                |series: &mut Series, row: GroupRow| {
                    let start_us = row.start_us.unwrap_or_default();
                    making.add_bucket(series, &places, row.labels, start_us, &row.tally)
                },
                Series::join,
            )
            .await?;
    }
    if every.is_some() && (by.is_empty() || overlaps) {
        series.total = groups
            .pass(
                &pass(&[], every.as_ref()),
                |sums: &mut BTreeMap<i64, Tally>, row: GroupRow| {
                    let start_us = row.start_us.unwrap_or_default();
                    document::add_tally(sums, start_us, row.tally)
                },
                document::add_tallies,
            )
            .await?;
    }
    let total = match total {
        Some(total) => total,
        None if every.is_some() => {
            let mut sum = Tally::default();
            for tally in series.total.values() {
                sum.merge(tally)?;
            }
            sum
        }
        None => {
            groups
                .pass(
                    &pass(&[], None),
                    |sum: &mut Tally, row: GroupRow| sum.merge(&row.tally),
                    |sum, more| sum.merge(&more),
                )
                .await?
        }
    };
    let mut total = making.total(&total);
    if let Some(every) = every {
        let starts = series.total.keys().copied().collect();
        let spans = document::spans(every, window, &starts)?;
        making.spread_total(&series.total, &mut total, &spans);
        making.spread(series, &mut found, &spans)?;
    }
    if making.breakdown.measures.contains(&Measure::RunFacets) {
        let of_groups = if by.is_empty() {
            BTreeMap::new()
        } else {
            groups.facets(by).await?
        };
        let of_all = groups.facets(&[]).await?;
        let of_all = of_all.values().next();
        making.set_facets(of_groups, of_all, &mut found, &mut total);
    }
    making.complete(&mut found, &mut total);
    Ok((found, total))
}
