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
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z")))
        .ok()
        .map(|instant| instant.timestamp_micros())
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
        fn no_text_and_no_number_panics(text in "\\PC*", us: i64) {
            let _ = parse_time(&text);
            prop_assert!(format_time(us).ends_with('Z'));
        }
    }
}
