//! Every: spans of time of one length after another, as a calendar has them.

use std::fmt;

use chrono::{DateTime, Datelike, Days, LocalResult, Months, NaiveDate, Offset, TimeZone, Weekday};
use chrono_tz::Tz;

use crate::error::{Error, Result};
use crate::time;

const MINUTE_US: i64 = 60_000_000;
const DAY_MINUTES: u32 = 24 * 60;

/// Buckets of time: they follow each other without a gap, and begin where the clock of a zone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    unit: Unit,
    zone: Tz,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many minutes, which divide an hour, or hours, which divide a day.
    Minutes(u32),
    Day,
    /// From this day of the week.
    Week(Weekday),
    /// So many months, which divide a year.
    Months(u32),
}

impl Every {
    /// Reads a length of time: `15m`, `1h`, `6h`, `1d`, `day`, `week`, `month`, `quarter`, `year`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is none, or one that does not divide an hour or a day.
    pub fn parse(text: &str, zone: Tz, week_start: Weekday) -> Result<Self> {
        let unit = match text.trim() {
            "hour" => Some(Unit::Minutes(60)),
            "day" | "1d" | "24h" => Some(Unit::Day),
            "week" | "1w" | "7d" => Some(Unit::Week(week_start)),
            "month" | "1mo" => Some(Unit::Months(1)),
            "quarter" => Some(Unit::Months(3)),
            "year" | "1y" => Some(Unit::Months(12)),
            text => minutes(text).map(Unit::Minutes),
        };
        let unit = unit.ok_or_else(|| Error::Usage {
            problem: format!("{text:?} is no length of a bucket"),
            hint: Some(
                "write minutes that divide an hour (15m), hours that divide a day (1h, 6h), 1d, \
                 week, month, quarter or year"
                    .to_owned(),
            ),
        })?;
        Ok(Self { unit, zone })
    }

    /// Days of a zone.
    pub(crate) fn days(zone: Tz) -> Self {
        let unit = Unit::Day;
        Self { unit, zone }
    }

    /// The day of the zone that a moment is in.
    pub(crate) fn day(&self, us: i64) -> Option<NaiveDate> {
        let moment = DateTime::from_timestamp_micros(us)?;
        Some(moment.with_timezone(&self.zone).date_naive())
    }

    /// The zone whose clock decides.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The day of the week from which weeks are counted.
    #[must_use]
    pub fn week_start(&self) -> Weekday {
        match self.unit {
            Unit::Week(day) => day,
            _ => Weekday::Mon,
        }
    }

    /// Whether a bucket is a day or longer.
    #[must_use]
    pub fn is_of_days(&self) -> bool {
        !matches!(self.unit, Unit::Minutes(_))
    }

    /// The bucket that a moment is in: its start and the next one's, in microseconds since 1970. `None`
    /// for moments that no calendar knows.
    #[must_use]
    pub fn bucket(&self, us: i64) -> Option<(i64, i64)> {
        let local = DateTime::from_timestamp_micros(us)?.with_timezone(&self.zone);
        let day = local.date_naive();
        let midnight = |day| time::midnight(day, self.zone);
        let (first, next) = match self.unit {
            Unit::Minutes(minutes @ ..=60) => {
                let offset_us = i64::from(local.offset().fix().local_minus_utc()) * 1_000_000;
                let length_us = i64::from(minutes) * MINUTE_US;
                let into = us.checked_add(offset_us)?.rem_euclid(length_us);
                return Some((us - into, us - into + length_us));
            }
            Unit::Minutes(minutes) => return self.hours(day, minutes, us),
            Unit::Day => (day, day.succ_opt()?),
            Unit::Week(from) => {
                let first = day.week(from).checked_first_day()?;
                (first, first.checked_add_days(Days::new(7))?)
            }
            Unit::Months(n) => {
                let first = NaiveDate::from_ymd_opt(day.year(), day.month0() / n * n + 1, 1)?;
                (first, first.checked_add_months(Months::new(n))?)
            }
        };
        Some((midnight(first)?, midnight(next)?))
    }

    /// What the bucket that begins at a moment is called: `2026`, `2026-Q4`, `2026-10`, `2026-W45` (weeks
    /// from another day than Monday by their first day), `2026-10-31`, `10-31 14:00`.
    #[must_use]
    pub fn label(&self, start_us: i64) -> String {
        let utc = DateTime::from_timestamp_micros(start_us);
        // Further away the calendar library may overflow.
        let Some(utc) = utc.filter(|utc| (1..9999).contains(&utc.year())) else {
            return time::format_time(start_us);
        };
        let start = utc.with_timezone(&self.zone);
        let form = match self.unit {
            Unit::Minutes(_) => match self.zone.from_local_datetime(&start.naive_local()) {
                // The clock is put back and shows the hour twice.
                LocalResult::Ambiguous(..) => "%m-%d %H:%M %Z",
                _ => "%m-%d %H:%M",
            },
            Unit::Week(Weekday::Mon) => "%G-W%V",
            Unit::Day | Unit::Week(_) => "%Y-%m-%d",
            Unit::Months(1) => "%Y-%m",
            Unit::Months(3) => return format!("{}-Q{}", start.year(), start.month0() / 3 + 1),
            Unit::Months(_) => "%Y",
        };
        start.format(form).to_string()
    }

    /// Buckets of several hours begin where the clock shows a multiple of them, so that one in which it
    /// is put forward or back is shorter or longer.
    fn hours(&self, day: NaiveDate, minutes: u32, us: i64) -> Option<(i64, i64)> {
        let mut start = time::midnight(day, self.zone)?;
        let starts = (1..DAY_MINUTES / minutes).filter_map(|nth| {
            let clock = day.and_hms_opt(nth * minutes / 60, 0, 0)?;
            let moment = self.zone.from_local_datetime(&clock);
            // Where the clock skips the hour, the one after it.
            let moment = moment.earliest().or_else(|| {
                let later = clock.checked_add_signed(chrono::Duration::hours(1))?;
                self.zone.from_local_datetime(&later).earliest()
            })?;
            Some(moment.timestamp_micros())
        });
        for next in starts.chain(time::midnight(day.succ_opt()?, self.zone)) {
            if us < next {
                return Some((start, next));
            }
            start = next;
        }
        None
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Minutes(minutes) if minutes % 60 == 0 => write!(f, "{}h", minutes / 60),
            Unit::Minutes(minutes) => write!(f, "{minutes}m"),
            Unit::Day => f.write_str("day"),
            Unit::Week(_) => f.write_str("week"),
            Unit::Months(1) => f.write_str("month"),
            Unit::Months(3) => f.write_str("quarter"),
            Unit::Months(_) => f.write_str("year"),
        }
    }
}

/// Minutes that divide an hour, or whole hours that divide a day.
fn minutes(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "m" if 60 % number == 0 => Some(number),
        "h" if number < 24 && 24 % number == 0 => Some(number * 60),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_US: i64 = 60 * MINUTE_US;

    fn every(text: &str, zone: Tz) -> Every {
        Every::parse(text, zone, Weekday::Mon).unwrap()
    }

    fn bucket(text: &str, zone: Tz, moment: &str) -> (String, String) {
        let us = time::parse_time(moment).unwrap();
        let (start, next) = every(text, zone).bucket(us).unwrap();
        (time::format_time(start), time::format_time(next))
    }

    #[test]
    fn the_days_on_which_clocks_change_have_23_and_25_hours() {
        let berlin = Tz::Europe__Berlin;
        for (day, hours) in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)] {
            let noon = time::parse_time(&format!("{day}T12:00:00Z")).unwrap();
            let (start, next) = every("1d", berlin).bucket(noon).unwrap();
            assert_eq!((next - start) / HOUR_US, hours, "{day}");
            for unit in ["15m", "1h", "6h", "12h"] {
                let (mut at, mut n) = (start, 0);
                while at < next {
                    let (from, to) = every(unit, berlin).bucket(at).unwrap();
                    assert_eq!(from, at, "{unit} {day}");
                    (at, n) = (to, n + 1);
                }
                assert_eq!(at, next, "{unit} {day}");
                let expected = match unit {
                    "15m" => hours * 4,
                    "1h" => hours,
                    "6h" => 4,
                    _ => 2,
                };
                assert_eq!(n, expected, "{unit} {day}");
            }
        }
    }

    #[test]
    fn buckets_begin_where_the_calendar_says() {
        let (utc, kolkata) = (Tz::UTC, Tz::Asia__Kolkata);
        for (text, zone, moment, start, next) in [
            (
                "15m",
                utc,
                "2026-10-31T23:59:59Z",
                "2026-10-31T23:45:00Z",
                "2026-11-01T00:00:00Z",
            ),
            (
                "1h",
                kolkata,
                "2026-10-31T12:10:00Z",
                "2026-10-31T11:30:00Z",
                "2026-10-31T12:30:00Z",
            ),
            (
                "week",
                utc,
                "2026-11-01T12:00:00Z",
                "2026-10-26T00:00:00Z",
                "2026-11-02T00:00:00Z",
            ),
            (
                "month",
                utc,
                "2026-10-31T23:59:59Z",
                "2026-10-01T00:00:00Z",
                "2026-11-01T00:00:00Z",
            ),
            (
                "quarter",
                utc,
                "2026-12-31T23:59:59Z",
                "2026-10-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                "year",
                kolkata,
                "2026-01-01T00:00:00Z",
                "2025-12-31T18:30:00Z",
                "2026-12-31T18:30:00Z",
            ),
        ] {
            let expected = (start.to_owned(), next.to_owned());
            assert_eq!(bucket(text, zone, moment), expected, "{text} {moment}");
        }
        let sunday = Every::parse("week", utc, Weekday::Sun).unwrap();
        let us = time::parse_time("2026-11-01T12:00:00Z").unwrap();
        let start = sunday.bucket(us).unwrap().0;
        assert_eq!(time::format_time(start), "2026-11-01T00:00:00Z");
    }

    #[test]
    fn buckets_are_called_as_the_calendar_does() {
        let berlin = Tz::Europe__Berlin;
        for (text, moment, label) in [
            ("15m", "2026-10-31T13:45:00Z", "10-31 14:45"),
            ("1h", "2026-10-25T00:00:00Z", "10-25 02:00 CEST"),
            ("1h", "2026-10-25T01:00:00Z", "10-25 02:00 CET"),
            ("1d", "2026-10-30T23:00:00Z", "2026-10-31"),
            ("week", "2026-11-01T23:00:00Z", "2026-W45"),
            ("month", "2026-09-30T22:00:00Z", "2026-10"),
            ("quarter", "2026-09-30T22:00:00Z", "2026-Q4"),
            ("year", "2025-12-31T23:00:00Z", "2026"),
        ] {
            let start_us = time::parse_time(moment).unwrap();
            assert_eq!(every(text, berlin).label(start_us), label);
        }
        let sunday = Every::parse("week", Tz::UTC, Weekday::Sun).unwrap();
        let start_us = time::parse_time("2026-11-01T00:00:00Z").unwrap();
        assert_eq!(sunday.label(start_us), "2026-11-01");
        assert!(sunday.label(i64::MAX).starts_with('+'));
    }

    #[test]
    fn what_divides_no_hour_and_no_day_is_none() {
        for text in [
            "",
            "0m",
            "7m",
            "90m",
            "5h",
            "2d",
            "fortnight",
            "-1h",
            "h",
            "é",
        ] {
            assert!(Every::parse(text, Tz::UTC, Weekday::Mon).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_moment_and_the_next_follows(
            us in 0..4_000_000_000_000_000_i64,
            unit in prop::sample::select(vec!["5m", "1h", "4h", "1d", "week", "month", "year"]),
            zone in prop::sample::select(vec![
                Tz::UTC, Tz::Europe__Berlin, Tz::America__St_Johns, Tz::Asia__Kolkata,
                Tz::Pacific__Apia, Tz::America__Sao_Paulo,
            ]),
        ) {
            let every = every(unit, zone);
            let (start, next) = every.bucket(us).unwrap();
            prop_assert!(start <= us && us < next);
            prop_assert_eq!(every.bucket(start).unwrap().0, start);
            prop_assert!(every.bucket(next).unwrap().0 == next, "{} {}", unit, zone);
        }
    }
}
