//! Spans of time, by what the clock on the wall shows at each quarter of an hour.
//!
//! Of zones whose clocks are put back at midnight nothing is known here: their days come twice.

use chrono::{DateTime, Datelike, Days, NaiveDate, Timelike, Weekday};
use chrono_tz::Tz;
use runtally::Every;

use super::unit::Unit;

const MINUTE_US: i64 = 60_000_000;
const QUARTER_US: i64 = 15 * MINUTE_US;
/// More quarters of an hour than the longest span has.
const MANY_QUARTERS: i64 = 400 * 96;

/// Spans of one length after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    /// As `Every::parse` reads it.
    pub(crate) length: &'static str,
    pub(crate) zone: Tz,
    pub(crate) week_start: Weekday,
}

impl Spans {
    /// The same in the words of the crate under test.
    pub(crate) fn every(&self) -> Every {
        Every::parse(self.length, self.zone, self.week_start).unwrap()
    }

    /// From the span of the first start to that of the last, without a gap; those of the whole window where
    /// it has two ends.
    pub(super) fn cover(
        &self,
        units: &[&Unit],
        since_us: Option<i64>,
        until_us: Option<i64>,
    ) -> Vec<(i64, i64)> {
        let starts = units.iter().map(|unit| unit.start_us);
        let (first, last) = match (since_us, until_us) {
            (Some(since), Some(until)) if since < until => (since, until - 1),
            _ => match (starts.clone().min(), starts.max()) {
                (Some(first), Some(last)) => (first, last),
                _ => return Vec::new(),
            },
        };
        let mut spans = vec![self.around(first)];
        while spans[spans.len() - 1].1 <= last {
            spans.push(self.around(spans[spans.len() - 1].1));
        }
        spans
    }

    /// The first moment of the span that a moment is in, and the first one after it.
    pub(crate) fn around(&self, us: i64) -> (i64, i64) {
        if let Some(minutes) = self.minutes() {
            // Within an hour no clock is changed by other than whole quarters.
            let clock = DateTime::from_timestamp_micros(us)
                .unwrap()
                .with_timezone(&self.zone);
            let into = i64::from(clock.minute() % minutes) * MINUTE_US + us.rem_euclid(MINUTE_US);
            return (us - into, us - into + i64::from(minutes) * MINUTE_US);
        }
        let at = |quarter: i64| self.sign(quarter * QUARTER_US);
        let (here, sign) = (us.div_euclid(QUARTER_US), self.sign(us));
        let first = first_that(here - MANY_QUARTERS, here, |quarter| at(quarter) >= sign);
        let next = first_that(here, here + MANY_QUARTERS, |quarter| at(quarter) > sign);
        (first * QUARTER_US, next * QUARTER_US)
    }

    /// The length of those of up to an hour.
    fn minutes(&self) -> Option<u32> {
        match self.length {
            "1h" => Some(60),
            other => other.strip_suffix('m')?.parse().ok(),
        }
    }

    /// What is the same at every moment of a span and greater in the next one: a day, and a part of it.
    fn sign(&self, us: i64) -> (NaiveDate, u32) {
        let clock = DateTime::from_timestamp_micros(us)
            .unwrap()
            .with_timezone(&self.zone);
        let day = clock.date_naive();
        let of_year = |month| NaiveDate::from_ymd_opt(day.year(), month, 1).unwrap();
        match self.length {
            "1d" => (day, 0),
            "week" => {
                let since = day.weekday().days_since(self.week_start);
                (day.checked_sub_days(Days::new(since.into())).unwrap(), 0)
            }
            "month" => (of_year(day.month()), 0),
            "quarter" => (of_year((day.month() - 1) / 3 * 3 + 1), 0),
            "year" => (of_year(1), 0),
            hours => {
                let hours: u32 = hours.trim_end_matches('h').parse().unwrap();
                (day, clock.hour() / hours)
            }
        }
    }
}

/// The least number after `low` and up to `high` from which on a condition holds.
fn first_that(mut low: i64, mut high: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
