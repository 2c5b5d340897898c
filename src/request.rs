//! What is asked: which projects, which window, which runs; how they are split, which figures.
//!
//! Plain data, validated here once: a [`Request`] that exists can be answered. Flags, HTTP parameters
//! and configuration files all become one.

mod breakdown;
mod every;
mod finding;
mod key;
mod link;
mod listing;
mod measure;
mod page;
mod words;

pub use breakdown::{Breakdown, Population, Sort, SortBy};
pub use every::Every;
pub use finding::{FailOn, FindingKind, Severity};
pub use key::Key;
pub use link::LinkTemplate;
pub use listing::{Listing, RunOrder};
pub use measure::{Amount, Count, Distinct, Measure, Objective, Quantity, Rate, Statistic};
pub use page::{RunPage, RunPlace};
pub use words::{BreakdownWords, FilterWords};

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDate, Utc, Weekday};
use chrono_tz::Tz;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::time;

/// Microseconds of 24 hours.
const DAY_US: i64 = 86_400_000_000;

/// What is asked of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The projects that are asked for.
    pub projects: Projects,
    /// Only the runs of this tenant; those of others are as if they were not there, nor is anything that
    /// is known of them.
    pub tenant: Option<Uuid>,
    /// Which traces count, by their start.
    pub window: Window,
    /// Whether statistics are asked for; without them only the projects' own fields are answered.
    pub stats: bool,
    /// Whose tokens and costs are summed.
    pub usage: Usage,
    /// How long before and after the window runs may start that belong to a trace in it, microseconds.
    /// It matters only where traces are built from their runs ([`Usage::Own`]).
    pub trace_span_us: i64,
    /// Which traces count, by their root.
    pub filter: Option<Filter>,
    /// The same, apart: a key in one does not bind a value in the other.
    pub trace_filter: Option<Filter>,
    /// Which traces count, by any of their runs, whatever the window.
    pub tree_filter: Option<Filter>,
    /// Whether the most frequent names, types, statuses, tags and metadata are asked for.
    pub facets: bool,
    /// Counts traces a day as well, days beginning at midnight in this zone.
    pub daily: Option<Tz>,
}

/// Whose tokens and costs a trace has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// The root's, unless no root of a project but lone LLM calls carries any while other runs do: then
    /// those of all its runs.
    #[default]
    Auto,
    /// The root's, which contain its descendants'.
    Roots,
    /// Those of all its runs, each of which carries its own only.
    Own,
}

impl Default for Request {
    /// Every project, all of time, with statistics.
    fn default() -> Self {
        Self {
            projects: Projects::All,
            tenant: None,
            window: Window::default(),
            stats: true,
            usage: Usage::Auto,
            trace_span_us: DAY_US,
            filter: None,
            trace_filter: None,
            tree_filter: None,
            facets: false,
            daily: None,
        }
    }
}

/// Which projects are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Projects {
    /// Every project that the source has a run of.
    #[default]
    All,
    /// One: its UUID, else its exact name, else a unique prefix of either.
    One(String),
    /// Those of these that the source has a run of.
    Each(BTreeSet<Uuid>),
    /// The only one that the source has a run of.
    Only,
}

/// A span of time: from an inclusive start to an exclusive end, either of which may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    since_us: Option<i64>,
    until_us: Option<i64>,
}

impl Window {
    /// A window between two moments, in microseconds since 1970, UTC.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it ends before it starts.
    pub fn new(since_us: Option<i64>, until_us: Option<i64>) -> Result<Self> {
        if let (Some(since), Some(until)) = (since_us, until_us)
            && since > until
        {
            return Err(Error::Usage {
                problem: format!(
                    "the window ends ({}) before it starts ({})",
                    time::format_time(until),
                    time::format_time(since)
                ),
                hint: None,
            });
        }
        Ok(Self { since_us, until_us })
    }

    /// The first moment inside, in microseconds since 1970.
    #[must_use]
    pub fn since_us(&self) -> Option<i64> {
        self.since_us
    }

    /// The first moment after it, in microseconds since 1970.
    #[must_use]
    pub fn until_us(&self) -> Option<i64> {
        self.until_us
    }

    /// The window with so many microseconds more on either side.
    pub(crate) fn widened(&self, by_us: i64) -> Self {
        Self {
            since_us: self.since_us.map(|since| since.saturating_sub(by_us)),
            until_us: self.until_us.map(|until| until.saturating_add(by_us)),
        }
    }

    /// A window between two moments; empty where it would end before it starts.
    pub(crate) fn between(since_us: Option<i64>, until_us: Option<i64>) -> Self {
        let until_us = match (since_us, until_us) {
            (Some(since), Some(until)) => Some(until.max(since)),
            _ => until_us,
        };
        Self { since_us, until_us }
    }

    /// The moments that are in both.
    pub(crate) fn both(&self, other: &Self) -> Self {
        let until = [self.until_us, other.until_us].into_iter().flatten().min();
        Self::between(self.since_us.max(other.since_us), until)
    }

    /// Whether all of it is before all of another.
    pub(crate) fn ends_before(&self, other: &Self) -> bool {
        let ends = self.until_us.zip(other.since_us);
        ends.is_some_and(|(until, since)| until <= since)
    }

    /// Whether any moment of a closed range may lie inside.
    #[must_use]
    pub fn meets(&self, first_us: i64, last_us: i64) -> bool {
        self.since_us.is_none_or(|since| last_us >= since)
            && self.until_us.is_none_or(|until| first_us < until)
    }

    /// Whether every moment lies inside, or every one of a closed range where that is known.
    pub(crate) fn holds(&self, range_us: Option<(i64, i64)>) -> bool {
        let is_after = |since| range_us.is_some_and(|(first, _)| since <= first);
        let is_before = |until| range_us.is_some_and(|(_, last)| last < until);
        self.since_us.is_none_or(is_after) && self.until_us.is_none_or(is_before)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = time::format_time;
        match (self.since_us, self.until_us) {
            (None, None) => f.write_str("at any time"),
            (Some(since), None) => write!(f, "from {} on", moment(since)),
            (None, Some(until)) => write!(f, "before {}", moment(until)),
            (Some(since), Some(until)) => {
                write!(f, "from {} until before {}", moment(since), moment(until))
            }
        }
    }
}

/// How a moment is written, and what it counts from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The moment of the call.
    pub now: DateTime<Utc>,
    /// The zone in which a date begins at midnight.
    pub zone: Tz,
}

impl Clock {
    /// Reads a moment: RFC 3339 (UTC where it names no offset), a date (its midnight in the zone), an
    /// age before now (`90s`, `45m`, `36h`, `7d`, `2w`; a day is 24 hours), or `now`, `today`,
    /// `yesterday`. Gives microseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is none of these.
    pub fn moment(&self, text: &str) -> Result<i64> {
        let text = text.trim();
        self.word(text)
            .or_else(|| {
                Some(
                    self.now
                        .checked_sub_signed(Self::age(text)?)?
                        .timestamp_micros(),
                )
            })
            .or_else(|| {
                time::midnight(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?, self.zone)
            })
            .or_else(|| time::parse_time(text))
            .ok_or_else(|| Error::Usage {
                problem: format!("{text:?} is no moment in time"),
                hint: Some(
                    "write 2026-10-01, 2026-10-01T12:00:00Z, an age such as 7d or 36h, today, \
                     yesterday or now"
                        .to_owned(),
                ),
            })
    }

    /// Reads a period of whole days in the zone: a year (`2026`), quarter (`2026-Q3`), month (`2026-10`),
    /// ISO week (`2026-W45`, from Monday) or day (`2026-10-31`), or `today`, `yesterday`, and `this-` or
    /// `last-` with `week`, `month`, `quarter` or `year`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where it is none of these.
    pub fn period(&self, text: &str) -> Result<Window> {
        let text = text.trim();
        let days = Self::dated(text).or_else(|| self.relative(text));
        let bounds = days.and_then(|(first, after)| {
            let midnight = |day| time::midnight(day, self.zone);
            Some((midnight(first)?, midnight(after)?))
        });
        let (since_us, until_us) = bounds.ok_or_else(|| {
            Error::Usage {
            problem: format!("{text:?} is no period"),
            hint: Some(
                "write 2026, 2026-Q3, 2026-10, 2026-W45, 2026-10-31, today, yesterday, or this- or \
                 last- with week, month, quarter or year"
                    .to_owned(),
            ),
        }
        })?;
        Window::new(Some(since_us), Some(until_us))
    }

    /// The first day of a period that names its year, and the first day after it.
    fn dated(text: &str) -> Option<(NaiveDate, NaiveDate)> {
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Some((day, day.succ_opt()?));
        }
        let (year, part) = text.split_once('-').unwrap_or((text, ""));
        let number = |digits: &str| -> Option<u32> {
            let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| all_digits)
        };
        let year = i32::try_from(number(year).filter(|_| year.len() == 4)?).ok()?;
        if let Some(week) = part.strip_prefix(['W', 'w']) {
            let monday = NaiveDate::from_isoywd_opt(year, number(week)?, Weekday::Mon)?;
            return Some((monday, monday.checked_add_days(Days::new(7))?));
        }
        let (first, n_months) = if part.is_empty() && text.len() == 4 {
            (1, 12)
        } else if let Some(quarter) = part.strip_prefix(['Q', 'q']) {
            (number(quarter)?.checked_mul(3)?.checked_sub(2)?, 3)
        } else {
            (number(part)?, 1)
        };
        months(NaiveDate::from_ymd_opt(year, first, 1)?, n_months)
    }

    /// Likewise of a period that is told from now.
    fn relative(&self, text: &str) -> Option<(NaiveDate, NaiveDate)> {
        let today = self.now.with_timezone(&self.zone).date_naive();
        match text {
            "today" => return Some((today, today.succ_opt()?)),
            "yesterday" => return Some((today.pred_opt()?, today)),
            _ => {}
        }
        let (which, unit) = text.split_once('-')?;
        let monday = today.week(Weekday::Mon).checked_first_day()?;
        let (first, n_months) = match unit {
            "week" if which == "this" => {
                return Some((monday, monday.checked_add_days(Days::new(7))?));
            }
            "week" if which == "last" => {
                return Some((monday.checked_sub_days(Days::new(7))?, monday));
            }
            "month" => (today.with_day(1)?, 1),
            "quarter" => (
                today.with_day(1)?.with_month(today.month0() / 3 * 3 + 1)?,
                3,
            ),
            "year" => (today.with_ordinal(1)?, 12),
            _ => return None,
        };
        match which {
            "this" => months(first, n_months),
            "last" => months(first.checked_sub_months(Months::new(n_months))?, n_months),
            _ => None,
        }
    }

    fn word(&self, text: &str) -> Option<i64> {
        let today = self.now.with_timezone(&self.zone).date_naive();
        match text {
            "now" => Some(self.now.timestamp_micros()),
            "today" => time::midnight(today, self.zone),
            "yesterday" => time::midnight(today.pred_opt()?, self.zone),
            _ => None,
        }
    }

    /// Reads an age: `90s`, `45m`, `36h`, `7d`, `2w`. A day is 24 hours.
    #[must_use]
    pub fn age(text: &str) -> Option<Duration> {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds: i64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        Duration::try_seconds(number.parse::<i64>().ok()?.checked_mul(seconds)?)
    }
}

/// An error for a word that is none of those that are known, with the nearest of them.
fn unknown_word(what: &str, word: &str, known: &[&str]) -> Error {
    let nearest = known
        .iter()
        .map(|other| (strsim::osa_distance(word, other), *other))
        .min()
        .filter(|(distance, other)| *distance <= other.len().min(word.len()) / 2);
    let hint = match nearest {
        Some((_, nearest)) => format!("did you mean {nearest}?"),
        None => format!("write one of {}", known.join(", ")),
    };
    Error::Usage {
        problem: format!("{word:?} is not {what}"),
        hint: Some(hint),
    }
}

/// So many months from a day that is the first of one.
fn months(first: NaiveDate, n_months: u32) -> Option<(NaiveDate, NaiveDate)> {
    Some((first, first.checked_add_months(Months::new(n_months))?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn clock(zone: Tz) -> Clock {
        Clock {
            now: Utc.with_ymd_and_hms(2026, 10, 25, 12, 0, 0).unwrap(),
            zone,
        }
    }

    fn text(clock: &Clock, moment: &str) -> String {
        time::format_time(clock.moment(moment).unwrap())
    }

    #[test]
    fn moments_in_every_form() {
        let utc = clock(Tz::UTC);
        assert_eq!(text(&utc, "2026-10-01"), "2026-10-01T00:00:00Z");
        assert_eq!(
            text(&utc, "2026-10-01T12:30:00.5"),
            "2026-10-01T12:30:00.5Z"
        );
        assert_eq!(
            text(&utc, "2026-10-01T12:30:00+02:00"),
            "2026-10-01T10:30:00Z"
        );
        assert_eq!(text(&utc, "36h"), "2026-10-24T00:00:00Z");
        assert_eq!(text(&utc, "2w"), "2026-10-11T12:00:00Z");
        assert_eq!(text(&utc, "now"), "2026-10-25T12:00:00Z");
        for wrong in ["", "d", "-7d", "7y", "tomorrow?", "2026-13-01", "é"] {
            assert!(utc.moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dates_begin_at_midnight_in_the_zone() {
        let berlin = clock(Tz::Europe__Berlin);
        assert_eq!(text(&berlin, "2026-10-25"), "2026-10-24T22:00:00Z");
        assert_eq!(text(&berlin, "2026-10-26"), "2026-10-25T23:00:00Z");
        assert_eq!(text(&berlin, "yesterday"), "2026-10-23T22:00:00Z");
        // Clocks in Beirut go from 0:00 to 1:00 on that day: it begins at 1:00.
        let beirut = clock(Tz::Asia__Beirut);
        assert_eq!(text(&beirut, "2026-03-29"), "2026-03-28T22:00:00Z");
    }

    #[test]
    fn periods_are_whole_days_in_the_zone() {
        let utc = clock(Tz::UTC);
        for (period, since, until) in [
            ("2026", "2026-01-01", "2027-01-01"),
            ("2026-Q3", "2026-07-01", "2026-10-01"),
            ("2026-q4", "2026-10-01", "2027-01-01"),
            ("2026-10", "2026-10-01", "2026-11-01"),
            ("2026-12", "2026-12-01", "2027-01-01"),
            ("2026-W45", "2026-11-02", "2026-11-09"),
            ("2026-W53", "2026-12-28", "2027-01-04"),
            ("2026-10-25", "2026-10-25", "2026-10-26"),
            // The clock says Sunday, 2026-10-25.
            ("today", "2026-10-25", "2026-10-26"),
            ("yesterday", "2026-10-24", "2026-10-25"),
            ("this-week", "2026-10-19", "2026-10-26"),
            ("last-week", "2026-10-12", "2026-10-19"),
            ("this-month", "2026-10-01", "2026-11-01"),
            ("last-month", "2026-09-01", "2026-10-01"),
            ("this-quarter", "2026-10-01", "2027-01-01"),
            ("last-quarter", "2026-07-01", "2026-10-01"),
            ("last-year", "2025-01-01", "2026-01-01"),
        ] {
            let expected = Window::new(
                Some(utc.moment(since).unwrap()),
                Some(utc.moment(until).unwrap()),
            );
            assert_eq!(utc.period(period).unwrap(), expected.unwrap(), "{period}");
        }
        // The clocks go back in the night to that Sunday: the day has 25 hours.
        let day = clock(Tz::Europe__Berlin).period("2026-10-25").unwrap();
        let hours = (day.until_us().unwrap() - day.since_us().unwrap()) / 3_600_000_000;
        assert_eq!(hours, 25);
        for wrong in [
            "",
            "26",
            "2026-",
            "2026-13",
            "2026-0",
            "2026-Q5",
            "2026-Q0",
            "2026-W54",
            "2026-W0",
            "2026-02-30",
            "+2026",
            "2026-+1",
            "next-week",
            "last-day",
            "7d",
            "é-month",
        ] {
            assert!(utc.period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_cannot_end_before_it_starts() {
        assert!(Window::new(Some(2), Some(1)).is_err());
        let window = Window::new(Some(10), Some(20)).unwrap();
        assert!(window.meets(0, 10) && window.meets(19, 30));
        assert!(!window.meets(0, 9) && !window.meets(20, 30));
    }
}
