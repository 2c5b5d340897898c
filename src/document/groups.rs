//! Groups: the tallies of a split, as they come → the groups that were asked for, sorted, with the rest and
//! the total.
//!
//! Groups come in no order, and may be very many. What is asked for of each is read at once where all are
//! wanted; where only so many are, no more than twice that number are kept with their tallies, so that
//! those that fall behind can be merged into the rest.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::convert::Infallible;

use itertools::Itertools;

use super::assemble::run_facets;
use super::figures::{Says, figure};
use super::stats::{Bucket, Figure, Group, Label};
use super::value::Timestamp;
use crate::error::{Error, Result};
use crate::request::{Breakdown, Every, Key, Measure, SortBy, Window};
use crate::tally::Tally;
use crate::tally::facets::Facets;
use crate::threads::at_once;

/// More lines than any answer should have.
const LINES_MAX: usize = 50_000_000;

/// What a group's labels mean.
pub(crate) trait Meaning: Sync {
    /// How a project is called, by its id.
    fn name(&self, project: &str) -> String;
    /// What is said of the runs of a project, by its id; of all of them together where there is none.
    fn says(&self, project: Option<&str>) -> Says;
}

/// How groups are made of tallies.
#[derive(Clone, Copy)]
pub(crate) struct Making<'a> {
    pub(crate) breakdown: &'a Breakdown,
    pub(crate) meaning: &'a dyn Meaning,
}

/// The groups so far.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    groups: Vec<Candidate>,
    /// Those that others have gathered, where all are wanted.
    others: Vec<Vec<Candidate>>,
    rest: Option<Tally>,
    total: Tally,
}

/// A group on its way.
#[derive(Debug)]
struct Candidate {
    labels: Vec<Label>,
    says: Says,
    rank: Figure,
    state: State,
}

#[derive(Debug)]
enum State {
    Tally(Box<Tally>),
    Figures(Vec<Figure>),
}

impl Making<'_> {
    /// Adds a group.
    pub(crate) fn add(
        &self,
        gathered: &mut Gathered,
        labels: Vec<Option<String>>,
        tally: Tally,
    ) -> Result<()> {
        gathered.total.merge(&tally)?;
        let says = self.says(&labels);
        let rank = match &self.breakdown.sort.by {
            SortBy::Measure(measure) => figure(measure, &tally, says),
            SortBy::Key(_) => Figure::Unknown,
        };
        let state = match self.breakdown.limit {
            Some(_) => State::Tally(Box::new(tally)),
            None => State::Figures(self.figures(&tally, says)),
        };
        gathered.groups.push(Candidate {
            labels: self.labels(labels),
            says,
            rank,
            state,
        });
        self.bound(gathered)
    }

    /// Adds other groups.
    pub(crate) fn join(&self, gathered: &mut Gathered, more: Gathered) -> Result<()> {
        gathered.total.merge(&more.total)?;
        if let Some(rest) = more.rest {
            gathered.rest.get_or_insert_default().merge(&rest)?;
        }
        match self.breakdown.limit {
            Some(_) => gathered.groups.extend(more.groups),
            None => gathered.others.push(more.groups),
        }
        self.bound(gathered)
    }

    /// Lets no more be kept than needs be.
    fn bound(&self, gathered: &mut Gathered) -> Result<()> {
        match self.breakdown.limit {
            Some(limit) if gathered.groups.len() > limit.saturating_mul(2).max(64) => {
                self.settle(gathered, limit)
            }
            _ => Ok(()),
        }
    }

    /// Sorts the groups, and merges those beyond the limit into the rest.
    fn settle(&self, gathered: &mut Gathered, limit: usize) -> Result<()> {
        gathered
            .groups
            .sort_unstable_by(|one, other| self.order(one, other));
        let at = limit.min(gathered.groups.len());
        for candidate in gathered.groups.drain(at..) {
            if let State::Tally(tally) = candidate.state {
                gathered.rest.get_or_insert_default().merge(&tally)?;
            }
        }
        Ok(())
    }

    /// The groups in their order, the rest last; and all runs together.
    pub(crate) fn finish(&self, mut gathered: Gathered) -> Result<(Vec<Group>, Tally)> {
        if let Some(limit) = self.breakdown.limit {
            self.settle(&mut gathered, limit)?;
        }
        let parts = std::iter::once(gathered.groups).chain(gathered.others);
        let groups = self.sorted(parts.collect()).map(|candidate| Group {
            labels: candidate.labels,
            figures: match candidate.state {
                State::Tally(tally) => self.figures(&tally, candidate.says),
                State::Figures(figures) => figures,
            },
            series: Vec::new(),
        });
        let rest = gathered.rest.map(|rest| Group {
            labels: vec![Label::Other; self.breakdown.by.len()],
            figures: self.figures(&rest, self.meaning.says(None)),
            series: Vec::new(),
        });
        Ok((groups.chain(rest).collect(), gathered.total))
    }

    /// All groups in their order. Each thread sorts those of one part.
    fn sorted(&self, mut parts: Vec<Vec<Candidate>>) -> impl Iterator<Item = Candidate> {
        let Ok(()) = at_once(&mut parts, |part| {
            part.sort_unstable_by(|one, other| self.order(one, other));
            Ok::<(), Infallible>(())
        });
        let parts = parts.into_iter().map(Vec::into_iter);
        parts.kmerge_by(|one, other| self.order(one, other).is_lt())
    }

    fn order(&self, one: &Candidate, other: &Candidate) -> Ordering {
        let sort = &self.breakdown.sort;
        let ranks = match sort.by {
            SortBy::Key(place) => {
                let (one, other) = (one.labels.get(place), other.labels.get(place));
                match (one == Some(&Label::None), other == Some(&Label::None)) {
                    (false, false) if sort.ascending => one.cmp(&other),
                    (false, false) => other.cmp(&one),
                    (one, other) => one.cmp(&other),
                }
            }
            SortBy::Measure(_) => match (one.rank.is_unknown(), other.rank.is_unknown()) {
                (false, false) if sort.ascending => one.rank.compare(&other.rank),
                (false, false) => other.rank.compare(&one.rank),
                (one, other) => one.cmp(&other),
            },
        };
        ranks.then_with(|| one.labels.cmp(&other.labels))
    }

    fn figures(&self, tally: &Tally, says: Says) -> Vec<Figure> {
        let measures = self.breakdown.measures.iter();
        measures
            .map(|measure| match measure {
                // A part first, a share once the whole is known.
                Measure::Share(part) => figure(part, tally, says),
                measure => figure(measure, tally, says),
            })
            .collect()
    }

    /// All runs together.
    pub(crate) fn total(&self, tally: &Tally) -> Group {
        Group {
            labels: Vec::new(),
            figures: self.figures(tally, self.meaning.says(None)),
            series: Vec::new(),
        }
    }

    fn labels(&self, labels: Vec<Option<String>>) -> Vec<Label> {
        let keys = self.breakdown.by.iter();
        let labels = labels.into_iter().zip(keys);
        labels
            .map(|(label, key)| match (label, key) {
                (Some(id), key) if key.is_project() => Label::Value(self.meaning.name(&id)),
                (Some(label), _) => Label::Value(label),
                (None, _) => Label::None,
            })
            .collect()
    }

    fn says(&self, labels: &[Option<String>]) -> Says {
        let place = self
            .breakdown
            .by
            .iter()
            .position(|key| *key == Key::Project);
        let project = place.and_then(|place| labels.get(place)?.as_deref());
        self.meaning.says(project)
    }

    /// Adds a group's runs of one span of time. The groups are those that were asked for.
    pub(crate) fn add_bucket(
        &self,
        series: &mut Series,
        groups: &BTreeMap<&[Label], usize>,
        labels: Vec<Option<String>>,
        start_us: i64,
        tally: &Tally,
    ) -> Result<()> {
        let says = self.says(&labels);
        let labels = self.labels(labels);
        if let Some(group) = groups.get(labels.as_slice()) {
            let figures = self.figures(tally, says);
            series.of_groups.insert((*group, start_us), figures);
            series.says.insert(*group, says);
        } else {
            series.rest.entry(start_us).or_default().merge(tally)?;
        }
        series.total.entry(start_us).or_default().merge(tally)
    }

    /// Gives groups their spans of time, those without runs too.
    pub(crate) fn spread(
        &self,
        mut series: Series,
        groups: &mut [Group],
        spans: &[(i64, i64)],
    ) -> Result<()> {
        if spans.len().saturating_mul(groups.len()) > LINES_MAX {
            return Err(Error::Usage {
                problem: format!(
                    "{} groups of {} spans of time each are too many",
                    groups.len(),
                    spans.len()
                ),
                hint: Some("--limit takes fewer groups, a longer --every fewer spans".to_owned()),
            });
        }
        for (place, group) in groups.iter_mut().enumerate() {
            let says = series.says.get(&place).copied();
            let says = says.unwrap_or_else(|| self.meaning.says(None));
            let is_rest = group.labels.first() == Some(&Label::Other);
            let mut of = |start: i64| {
                if is_rest {
                    let rest = series.rest.remove(&start);
                    return rest.map(|tally| self.figures(&tally, says));
                }
                series.of_groups.remove(&(place, start))
            };
            let nothing = self.figures(&Tally::default(), says);
            let buckets = spans.iter().map(|(start, end)| Bucket {
                start: Timestamp(*start),
                end: Timestamp(*end),
                figures: of(*start).unwrap_or_else(|| nothing.clone()),
            });
            group.series = buckets.collect();
        }
        Ok(())
    }

    /// Gives all runs together their spans of time.
    pub(crate) fn spread_total(
        &self,
        tallies: &BTreeMap<i64, Tally>,
        total: &mut Group,
        spans: &[(i64, i64)],
    ) {
        let says = self.meaning.says(None);
        let nothing = Tally::default();
        let buckets = spans.iter().map(|(start, end)| Bucket {
            start: Timestamp(*start),
            end: Timestamp(*end),
            figures: self.figures(tallies.get(start).unwrap_or(&nothing), says),
        });
        total.series = buckets.collect();
    }

    /// Gives groups, and all runs together, their facets. Those of the groups beyond the limit are unknown.
    pub(crate) fn set_facets(
        &self,
        of_groups: BTreeMap<Vec<Option<String>>, Facets>,
        of_all: Option<&Facets>,
        groups: &mut [Group],
        total: &mut Group,
    ) {
        let Some(at) = self.breakdown.place(&Measure::RunFacets) else {
            return;
        };
        let of_groups = of_groups.into_iter();
        let of_groups: BTreeMap<_, _> = of_groups
            .map(|(labels, facets)| (self.labels(labels), facets))
            .collect();
        let figure = |facets: Option<&Facets>| {
            let facets = facets.map(run_facets).unwrap_or_default();
            Figure::Facets(facets)
        };
        for group in groups {
            if group.labels.first() != Some(&Label::Other)
                && let Some(facets) = group.figures.get_mut(at)
            {
                *facets = figure(of_groups.get(&group.labels));
            }
        }
        if let Some(facets) = total.figures.get_mut(at) {
            *facets = figure(of_all);
        }
    }

    /// What can be told only of a group beside the total, or of its spans of time together: shares, and
    /// the worst span of an objective.
    pub(crate) fn complete(&self, groups: &mut [Group], total: &mut Group) {
        for (at, measure) in self.breakdown.measures.iter().enumerate() {
            match measure {
                Measure::Share(_) => {
                    let whole = total.figures.get(at).cloned().unwrap_or_default();
                    for group in groups.iter_mut().chain([&mut *total]) {
                        let spans = group.series.iter_mut().map(|bucket| &mut bucket.figures);
                        for figures in spans.chain([&mut group.figures]) {
                            if let Some(part) = figures.get_mut(at) {
                                *part = share(part, &whole);
                            }
                        }
                    }
                }
                Measure::Objective(_) => {
                    for group in groups.iter_mut().chain([&mut *total]) {
                        let worst = worst(&group.series, at);
                        if let Some(Figure::Attainment(attainment)) = group.figures.get_mut(at) {
                            attainment.worst = worst;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the groups are of each span of time.
#[derive(Debug, Default)]
pub(crate) struct Series {
    of_groups: BTreeMap<(usize, i64), Vec<Figure>>,
    /// What is said of each group's runs.
    says: BTreeMap<usize, Says>,
    rest: BTreeMap<i64, Tally>,
    /// Of all groups.
    pub(crate) total: BTreeMap<i64, Tally>,
}

impl Series {
    /// Adds what was read of other rows.
    pub(crate) fn join(&mut self, more: Self) -> Result<()> {
        self.of_groups.extend(more.of_groups);
        self.says.extend(more.says);
        add_tallies(&mut self.rest, more.rest)?;
        add_tallies(&mut self.total, more.total)
    }
}

/// Adds a tally to that of its span of time.
pub(crate) fn add_tally(
    tallies: &mut BTreeMap<i64, Tally>,
    start_us: i64,
    tally: Tally,
) -> Result<()> {
    match tallies.entry(start_us) {
        Entry::Vacant(sum) => {
            sum.insert(tally);
            Ok(())
        }
        Entry::Occupied(mut sum) => sum.get_mut().merge(&tally),
    }
}

/// Adds tallies, each to that of its span of time.
pub(crate) fn add_tallies(
    tallies: &mut BTreeMap<i64, Tally>,
    more: BTreeMap<i64, Tally>,
) -> Result<()> {
    let mut more = more.into_iter();
    more.try_for_each(|(start_us, tally)| add_tally(tallies, start_us, tally))
}

/// The spans of time from the first to the last in which there is a run; of the whole window, where it has
/// two ends.
pub(crate) fn spans(
    every: &Every,
    window: &Window,
    starts: &BTreeSet<i64>,
) -> Result<Vec<(i64, i64)>> {
    let (first, last) = match (window.since_us(), window.until_us()) {
        (Some(since), Some(until)) if since < until => (since, until - 1),
        _ => match (starts.first(), starts.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return Ok(Vec::new()),
        },
    };
    let mut spans = Vec::new();
    let mut at = first;
    while at <= last {
        let Some((start, end)) = every.bucket(at) else {
            break;
        };
        spans.push((start, end));
        at = end;
        if spans.len() > LINES_MAX {
            return Err(Error::Usage {
                problem: format!("the window has more than {LINES_MAX} spans of {every}"),
                hint: Some("a longer --every makes fewer".to_owned()),
            });
        }
    }
    Ok(spans)
}

#[expect(clippy::cast_precision_loss, reason = "rounded as the quotient is")]
fn share(part: &Figure, whole: &Figure) -> Figure {
    let (part, whole) = match (part, whole) {
        (Figure::Count(part), Figure::Count(whole)) => (i128::from(*part), i128::from(*whole)),
        (Figure::Whole(part), Figure::Whole(whole)) => (*part, *whole),
        (Figure::Cost(part), Figure::Cost(whole)) => (part.pico, whole.pico),
        _ => return Figure::Unknown,
    };
    if whole == 0 {
        return Figure::Unknown;
    }
    Figure::Share(part as f64 / whole as f64)
}

/// The span of time in which the least share is good.
fn worst(series: &[Bucket], at: usize) -> Option<Timestamp> {
    let attained = series
        .iter()
        .filter_map(|bucket| match bucket.figures.get(at)? {
            Figure::Attainment(attainment) => Some((attainment.attained?, bucket.start)),
            _ => None,
        });
    let worst =
        attained.min_by(|(one, at), (other, later)| one.total_cmp(other).then(at.cmp(later)));
    worst.map(|(_, start)| start)
}
