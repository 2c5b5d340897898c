//! Gaps: spans without a trace in which, by a project's own rhythm, some must have been.
//!
//! What a bucket (an hour, or a day) should have is the median of the same one on the project's other days
//! of that kind (Monday to Friday, or Saturday and Sunday, in UTC), where there are at least two. If traces
//! come by chance, e^−λ is how likely none comes where λ are expected. Empty buckets in a row are a gap
//! where that is less than one in a million, so where more than 13.8 are missing. The first and the last
//! bucket, of which a part may lie outside, say nothing.

use std::collections::BTreeMap;

/// Fewer missing traces than so many, −ln(10⁻⁶), may be chance.
const MISSING_MIN: f64 = 13.815_510_557_964_274;
/// As many other days tell what is usual.
const OTHERS_MIN: usize = 2;

/// A span without traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gap {
    /// Its first hour, since 1970.
    pub(crate) first_hour: i64,
    /// Its last hour.
    pub(crate) last_hour: i64,
    /// About how many traces should have been in it.
    pub(crate) expected: f64,
}

impl Gap {
    /// How many hours it has.
    pub(crate) fn n_hours(&self) -> u64 {
        u64::try_from(self.last_hour - self.first_hour + 1).unwrap_or(0)
    }

    fn meets(&self, other: &Self) -> bool {
        self.first_hour <= other.last_hour && other.first_hour <= self.last_hour
    }
}

/// The gaps in a project's traces, of which there are so many in each hour since 1970.
pub(crate) fn gaps(hours: &BTreeMap<i64, u64>) -> Vec<Gap> {
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for (hour, n) in hours {
        *days.entry(hour.div_euclid(24)).or_default() += n;
    }
    let mut gaps = empty(hours, 1, |hour| {
        (is_weekend(hour.div_euclid(24)), hour.rem_euclid(24))
    });
    // Of a project with few traces an hour says nothing, but a day may.
    for gap in empty(&days, 24, |day| (is_weekend(day), 0)) {
        if !gaps.iter().any(|other| other.meets(&gap)) {
            gaps.push(gap);
        }
    }
    gaps.sort_unstable_by_key(|gap| gap.first_hour);
    gaps
}

/// Whether a day since 1970, a Thursday, is a Saturday or a Sunday.
fn is_weekend(day: i64) -> bool {
    (day + 3).rem_euclid(7) >= 5
}

/// What makes buckets alike: the kind of day, and the hour.
type Slot = (bool, i64);

/// The rows of empty buckets that are no chance. A bucket has so many hours.
fn empty(buckets: &BTreeMap<i64, u64>, length: i64, slot: impl Fn(i64) -> Slot) -> Vec<Gap> {
    let (Some(first), Some(last)) = (buckets.keys().next(), buckets.keys().next_back()) else {
        return Vec::new();
    };
    let mut usual: BTreeMap<Slot, Vec<u64>> = BTreeMap::new();
    for bucket in first + 1..*last {
        let n = buckets.get(&bucket).copied().unwrap_or(0);
        usual.entry(slot(bucket)).or_default().push(n);
    }
    for counts in usual.values_mut() {
        counts.sort_unstable();
    }
    let after = buckets.keys().skip(1);
    let rows = buckets.keys().zip(after);
    let rows = rows.filter(|(before, after)| **after > **before + 1);
    let gaps = rows.filter_map(|(before, after)| {
        let row = before + 1..*after;
        let mut n_alike: BTreeMap<Slot, usize> = BTreeMap::new();
        for bucket in row.clone() {
            *n_alike.entry(slot(bucket)).or_default() += 1;
        }
        let expected = |bucket: &i64| {
            let slot = slot(*bucket);
            // The row's own buckets are no evidence; they are the least, being empty.
            let own = n_alike.get(&slot).copied().unwrap_or(0);
            let others = usual.get(&slot).and_then(|counts| counts.get(own..));
            others.map_or(0.0, median)
        };
        let is_missed = |bucket: &i64| expected(bucket) > 0.0;
        let missing: f64 = row.clone().map(|bucket| expected(&bucket)).sum();
        (missing > MISSING_MIN).then_some(())?;
        Some(Gap {
            first_hour: row.clone().find(is_missed)? * length,
            last_hour: (row.rev().find(is_missed)? + 1) * length - 1,
            expected: missing,
        })
    });
    gaps.collect()
}

/// The median of sorted counts; nothing where they are too few.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is usual needs no more than 53 bits"
)]
fn median(sorted: &[u64]) -> f64 {
    if sorted.len() < OTHERS_MIN {
        return 0.0;
    }
    // Of two in the middle the lesser: what is there on every other day is not usual.
    sorted
        .get((sorted.len() - 1) / 2)
        .map_or(0.0, |n| *n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many days from a Monday, with so many traces in each hour as a rhythm says.
    fn hours(n_days: i64, rhythm: impl Fn(i64, i64) -> u64) -> BTreeMap<i64, u64> {
        let monday = 20_668;
        let all = (0..n_days).flat_map(|day| (0..24).map(move |hour| (day, hour)));
        let counts = all.map(|(day, hour)| ((monday + day) * 24 + hour, rhythm(day, hour)));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    fn spans(hours: &BTreeMap<i64, u64>) -> Vec<(i64, i64)> {
        let start = 20_668 * 24;
        let gaps = gaps(hours);
        let spans = gaps.iter();
        spans
            .map(|gap| (gap.first_hour - start, gap.last_hour - start))
            .collect()
    }

    /// Monday to Friday, nine to five.
    fn office(day: i64, hour: i64) -> u64 {
        if day % 7 < 5 && (9..17).contains(&hour) {
            20
        } else {
            0
        }
    }

    #[test]
    fn nights_and_weekends_are_no_gaps() {
        for n_days in [1, 2, 3, 7, 10, 30] {
            assert_eq!(spans(&hours(n_days, office)), [], "{n_days}");
        }
    }

    #[test]
    fn a_missing_hour_and_a_missing_day_are() {
        let without = |gap: fn(i64, i64) -> bool| {
            hours(
                12,
                move |day, hour| if gap(day, hour) { 0 } else { office(day, hour) },
            )
        };
        assert_eq!(
            spans(&without(|day, hour| day == 2 && hour == 11)),
            [(2 * 24 + 11, 2 * 24 + 11)]
        );
        assert_eq!(
            spans(&without(|day, _| day == 3 || day == 4)),
            [(3 * 24 + 9, 4 * 24 + 16)]
        );
    }

    #[test]
    fn few_traces_an_hour_make_no_gap_of_an_hour_but_of_days() {
        let sparse = |day: i64, hour: i64| u64::from((day * 7 + hour) % 3 == 0);
        assert_eq!(spans(&hours(12, sparse)), []);
        let without = hours(12, |day, hour| {
            if (8..10).contains(&day) {
                0
            } else {
                sparse(day, hour)
            }
        });
        assert_eq!(spans(&without), [(8 * 24, 10 * 24 - 1)]);
    }

    #[test]
    fn what_happens_rarely_is_not_missed() {
        let burst = |day: i64, hour: i64| if day % 5 == 1 && hour == 3 { 10_000 } else { 0 };
        assert_eq!(spans(&hours(21, burst)), []);
        assert_eq!(spans(&BTreeMap::new()), []);
    }
}
