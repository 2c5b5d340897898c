//! Instants as text: microseconds since 1970-01-01 UTC and back.
//!
//! Everything inside is an `i64` of microseconds. What comes from outside as
//! text is read here, and what goes into a document is printed here, so that
//! an instant has one printed form wherever it appears.

use chrono::{
    DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;

/// Microseconds of the 400 years after which the Gregorian calendar repeats.
const CYCLE_US: i64 = 146_097 * 86_400 * 1_000_000;

/// Reads an instant: RFC 3339, also with a space instead of the `T`. Without
/// an offset it means UTC. Fractions finer than a microsecond are floored.
///
/// `None` where the text is no such instant, a date alone included.
#[must_use]
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    parse_plain(text.as_bytes()).or_else(|| parse_any(text))
}

fn parse_any(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z")))
        .ok()
        .map(|instant| instant.timestamp_micros())
}

/// Reads an instant of the usual form, ten times as fast: UTC, of the years 1970 to 2399.
fn parse_plain(text: &[u8]) -> Option<i64> {
    const MICROS: usize = 6;
    let (date, rest) = text.split_first_chunk::<10>()?;
    let (time, rest) = rest.split_first_chunk::<9>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else {
        return None;
    };
    let [b'T' | b' ', h0, h1, b':', n0, n1, b':', s0, s1] = time else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_i64, |number, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            Some(10 * number + i64::from(digit))
        })
    };
    let year = number(&[y0, y1, y2, y3]).filter(|year| (1970..2400).contains(year))?;
    let month = number(&[m0, m1]).filter(|month| (1..=12).contains(month))?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let n_days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = number(&[d0, d1]).filter(|day| (1..=n_days).contains(day))?;
    let hour = number(&[h0, h1]).filter(|hour| *hour < 24)?;
    let minute = number(&[n0, n1]).filter(|minute| *minute < 60)?;
    let second = number(&[s0, s1]).filter(|second| *second < 60)?;
    let (fraction, zone) = match rest {
        [b'.', rest @ ..] => {
            let n_digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest.split_at_checked(n_digits)
                .filter(|(digits, _)| !digits.is_empty())?
        }
        rest => (&[][..], rest),
    };
    if !matches!(zone, b"" | b"Z" | b"+00:00") {
        return None;
    }
    let micros = (0..MICROS).fold(0, |micros, place| {
        let digit = fraction
            .get(place)
            .map_or(0, |digit| i64::from(digit - b'0'));
        10 * micros + digit
    });
    // Years that begin in March, so that a leap day is their last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// The first moment of a day in a zone; where clocks skip midnight, or the whole day, the first one
/// after it.
#[must_use]
pub(crate) fn midnight(day: NaiveDate, zone: Tz) -> Option<i64> {
    let midnight = NaiveDateTime::new(day, NaiveTime::MIN);
    // A zone that changed sides of the date line skipped 24 hours.
    (0..=48)
        .filter_map(|half_hours| {
            let local = midnight.checked_add_signed(Duration::minutes(30 * half_hours))?;
            zone.from_local_datetime(&local).earliest()
        })
        .map(|moment| moment.timestamp_micros())
        .next()
}

/// Prints an instant, given in microseconds, as RFC 3339 in UTC with `Z`. The
/// fraction is left out where it is zero and has no trailing zeros.
///
/// Years outside 0..=9999, which RFC 3339 has not, get a sign and at least six
/// digits, as ISO 8601 expands them.
#[must_use]
pub(crate) fn format_time(us: i64) -> String {
    // Within one cycle of 1970 the calendar library knows every instant; the
    // years of the whole cycles are added to what it says.
    let cycles = us.div_euclid(CYCLE_US);
    let time: DateTime<Utc> =
        DateTime::from_timestamp_micros(us.rem_euclid(CYCLE_US)).unwrap_or_default();
    let year = i64::from(time.year()) + 400 * cycles;
    let year = if (0..=9999).contains(&year) {
        format!("{year:04}")
    } else {
        format!("{year:+07}")
    };
    let fraction = format!("{:06}", us.rem_euclid(1_000_000));
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!(
        "{year}-{:02}-{:02}T{:02}:{:02}:{:02}{point}{fraction}Z",
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_in_the_wild_are_one_instant() {
        let us = 1_717_635_771_299_960;
        for text in [
            "2024-06-06T01:02:51.29996Z",
            "2024-06-06T01:02:51.299960+00:00",
            "2024-06-06 01:02:51.299960+00:00",
            "2024-06-06T01:02:51.299960",
            "2024-06-06 01:02:51.29996",
            "2024-06-06t03:02:51.299960999+02:00",
            " 2024-06-06T01:02:51.29996z ",
        ] {
            assert_eq!(parse_time(text), Some(us), "{text}");
        }
        assert_eq!(format_time(us), "2024-06-06T01:02:51.29996Z");
    }

    #[test]
    fn a_fraction_is_floored_before_1970_too() {
        assert_eq!(parse_time("1969-12-31T23:59:59.9999999"), Some(-1));
        assert_eq!(parse_time("1969-12-31T23:59:59.999999001Z"), Some(-1));
        assert_eq!(format_time(-1), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn what_is_no_instant_is_none() {
        for text in [
            "",
            "Z",
            "now",
            "2024-06-06",
            "2024-06-06T01:02",
            "2024-13-06T01:02:03Z",
            "2024-02-30T01:02:03Z",
            "2024-06-06T25:02:03Z",
            "2024-06-06T01:02:03ZZ",
            "1717635771",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn every_instant_has_a_text() {
        assert_eq!(format_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_time(1_500_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(
            format_time(253_402_300_799_999_999),
            "9999-12-31T23:59:59.999999Z"
        );
        assert_eq!(
            format_time(253_402_300_800_000_000),
            "+010000-01-01T00:00:00Z"
        );
        assert_eq!(format_time(-62_167_219_200_000_000), "0000-01-01T00:00:00Z");
        assert_eq!(
            format_time(-62_167_219_200_000_001),
            "-000001-12-31T23:59:59.999999Z"
        );
        assert_eq!(format_time(i64::MAX), "+294247-01-10T04:00:54.775807Z");
        assert_eq!(format_time(i64::MIN), "-290308-12-21T19:59:05.224192Z");
    }

    proptest! {
        #[test]
        fn printing_and_reading_are_inverse(us in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            prop_assert_eq!(parse_time(&format_time(us)), Some(us));
        }

        #[test]
        fn the_fast_way_gives_the_same(
            us in 0_i64..13_569_465_600_000_000,
            noise in "[0-9]{0,6}",
            zone in "(Z|\\+00:00|)",
            form in "(%Y-%m-%d %H:%M:%S|%Y-%m-%dT%H:%M:%S\\.%6f)",
        ) {
            let at = DateTime::from_timestamp_micros(us).unwrap();
            let fraction = if form.contains('.') { noise } else { String::new() };
            let text = format!("{}{fraction}{zone}", at.format(&form));
            prop_assert!(parse_plain(text.as_bytes()).is_some(), "{}", text);
            prop_assert_eq!(parse_plain(text.as_bytes()), parse_any(&text), "{}", text);
        }

        #[test]
        fn what_is_read_fast_is_read_slowly(text in "[12][90][0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,9})?(Z|\\+00:00|)") {
            if let Some(us) = parse_plain(text.as_bytes()) {
                prop_assert_eq!(Some(us), parse_any(&text), "{}", text);
            }
        }

        #[test]
        fn no_text_and_no_number_panics(text in "\\PC*", us: i64) {
            let _ = parse_time(&text);
            prop_assert!(format_time(us).ends_with('Z'));
        }
    }
}
