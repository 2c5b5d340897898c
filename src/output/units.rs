//! Figures as people read them: three digits, a unit, a dash where nothing is known.

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;

use crate::document::{Cost, Nanoseconds, Thousandths, Timestamp};

/// What stands for an unknown figure.
pub(super) const UNKNOWN: &str = "–";

/// Tokens from here on are shown with three digits.
const EXACT_BELOW: u128 = 10_000;

const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;

/// A cent in pico-dollars.
const CENT: u128 = 10_000_000_000;

/// A figure, or the dash.
pub(super) fn or_unknown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// A whole number with commas: `148,210`.
#[must_use]
pub fn count(n: impl Into<i128>) -> String {
    let n = n.into();
    format!("{}{}", sign(n), thousands(n.unsigned_abs()))
}

/// A whole number to three digits: `635 k`, `2.91 B`; exact below ten thousand.
#[must_use]
pub fn amount(n: i128) -> String {
    let size = n.unsigned_abs();
    if size < EXACT_BELOW {
        return count(n);
    }
    let units = [(1_000, "k"), (1_000_000, "M"), (1_000_000_000, "B")];
    let text = units
        .into_iter()
        .find_map(|(unit, name)| Some(format!("{} {name}", three_digits(size, unit)?)))
        .unwrap_or_else(|| {
            let trillion = 1_000_000_000_000;
            let digits = three_digits(size, trillion);
            let digits = digits.unwrap_or_else(|| thousands(rounded(size, trillion)));
            format!("{digits} T")
        });
    format!("{}{text}", sign(n))
}

/// A duration: `640 ms`, `2.1 s`, `1 m 03 s`, `2 h 05 m`, `3 d 04 h`.
pub(super) fn duration(Nanoseconds(ns): Nanoseconds) -> String {
    let tenths = |unit| rounded(ns.saturating_mul(10), unit);
    let with_tenth = |tenths: u128, unit| format!("{}.{} {unit}", tenths / 10, tenths % 10);
    let (micros, millis, seconds) = (
        rounded(ns, MICROSECOND),
        rounded(ns, MILLISECOND),
        rounded(ns, SECOND),
    );
    let (minutes, hours) = (rounded(ns, 60 * SECOND), rounded(ns, 3_600 * SECOND));
    if ns == 0 {
        "0 ms".to_owned()
    } else if tenths(MICROSECOND) < 100 {
        with_tenth(tenths(MICROSECOND).max(1), "µs")
    } else if micros < 1_000 {
        format!("{micros} µs")
    } else if tenths(MILLISECOND) < 100 {
        with_tenth(tenths(MILLISECOND), "ms")
    } else if millis < 1_000 {
        format!("{millis} ms")
    } else if tenths(SECOND) < 600 {
        with_tenth(tenths(SECOND), "s")
    } else if seconds < 3_600 {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    } else if minutes < 24 * 60 {
        format!("{} h {:02} m", minutes / 60, minutes % 60)
    } else {
        format!("{} d {:02} h", thousands(hours / 24), hours % 24)
    }
}

/// Dollars: `$12,390.44`; below one dollar two digits that say something: `$0.98`, `$0.0021`.
pub(super) fn cost(cost: &Cost) -> String {
    let size = cost.pico.unsigned_abs();
    let cents = rounded(size, CENT);
    let text = if cents >= 100 || size == 0 {
        format!("{}.{:02}", thousands(cents / 100), cents % 100)
    } else {
        cents_and_less(size)
    };
    format!("{}${text}", sign(cost.pico))
}

/// Less than a dollar, with as many decimals as two digits need, and at least two.
fn cents_and_less(pico: u128) -> String {
    let mut unit = CENT;
    let mut n_decimals = 2;
    while pico / unit < 10 && unit > 1 {
        unit /= 10;
        n_decimals += 1;
    }
    let digits = format!("{:0n_decimals$}", rounded(pico, unit));
    let (cents, rest) = digits.split_at(2);
    format!("0.{cents}{}", rest.trim_end_matches('0'))
}

/// A share of one: `2.5 %`. Zero and all are said only where they are exact.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 {
        "0 %".to_owned()
    } else if percent < 0.01 {
        "<0.01 %".to_owned()
    } else if percent < 0.995 {
        format!("{percent:.2} %")
    } else if percent < 99.95 {
        format!("{percent:.1} %")
    } else if percent < 100.0 {
        ">99.9 %".to_owned()
    } else {
        "100 %".to_owned()
    }
}

/// What is left of a share of one, less than nothing where too much was used up: `-120 %`.
pub(super) fn left(part: f64) -> String {
    match -part * 100.0 {
        ..=0.0 => share(part),
        over if over < 99.95 => format!("-{:.1} %", over.max(0.1)),
        over => format!("-{over:.0} %"),
    }
}

/// A value among whole numbers, or a mean of them, to three digits or more.
pub(super) fn thousandths(value: Thousandths) -> String {
    if value.0.unsigned_abs() < 1_000_000 {
        return number(value.as_f64());
    }
    let size = i128::try_from(rounded(value.0.unsigned_abs(), 1_000)).unwrap_or(i128::MAX);
    amount(if value.0 < 0 { -size } else { size })
}

/// Any number, to three digits.
pub(super) fn number(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => score(number),
    }
}

/// A score, to three decimals.
pub(super) fn score(score: f64) -> String {
    if score != 0.0 && score.abs() < 0.0005 {
        return format!("{score:.1e}");
    }
    let text = format!("{score:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        _ => text.to_owned(),
    }
}

/// A moment in a zone, to the second: `2026-11-07 23:59:58 CET`.
pub(super) fn time(moment: Timestamp, zone: Tz) -> String {
    shown(moment, zone, "%Y-%m-%d %H:%M:%S %Z")
}

/// The same where the zone is known: `2026-11-07 23:59:58`.
pub(super) fn local_time(moment: Timestamp, zone: Tz) -> String {
    shown(moment, zone, "%Y-%m-%d %H:%M:%S")
}

fn shown(moment: Timestamp, zone: Tz, form: &str) -> String {
    let utc = DateTime::from_timestamp_micros(moment.0);
    // Further away the calendar library may overflow.
    match utc.filter(|utc| (1..9999).contains(&utc.year())) {
        Some(utc) => utc.with_timezone(&zone).format(form).to_string(),
        None => moment.to_string(),
    }
}

/// Seconds in plain decimal notation, every digit.
pub(super) fn exact_seconds(Nanoseconds(ns): Nanoseconds) -> String {
    let digits = format!("{}.{:09}", ns / SECOND, ns % SECOND);
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn sign(n: i128) -> &'static str {
    if n < 0 { "-" } else { "" }
}

/// The nearest whole number of units; halves go up.
fn rounded(n: u128, unit: u128) -> u128 {
    n / unit + u128::from(n % unit >= unit.div_ceil(2))
}

/// `1.23`, `12.3` or `123` units; none where it is a thousand or more.
fn three_digits(n: u128, unit: u128) -> Option<String> {
    let hundredths = rounded(n.saturating_mul(100), unit);
    let tenths = rounded(n.saturating_mul(10), unit);
    let whole = rounded(n, unit);
    if hundredths < 1_000 {
        Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
    } else if tenths < 1_000 {
        Some(format!("{}.{}", tenths / 10, tenths % 10))
    } else {
        (whole < 1_000).then(|| whole.to_string())
    }
}

fn thousands(n: u128) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Berlin;

    use super::*;
    use crate::document::CostFormat;

    #[test]
    fn counts_have_commas() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (148_210, "148,210"),
            (-1_234_567, "-1,234,567"),
        ] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn amounts_have_three_digits() {
        for (n, text) in [
            (0, "0"),
            (9_999, "9,999"),
            (10_000, "10.0 k"),
            (99_949, "99.9 k"),
            (99_950, "100 k"),
            (635_400, "635 k"),
            (999_499, "999 k"),
            (999_500, "1.00 M"),
            (2_910_334_120, "2.91 B"),
            (-12_345, "-12.3 k"),
            (999_500_000_000, "1.00 T"),
            (12_345_600_000_000_000, "12,346 T"),
        ] {
            assert_eq!(amount(n), text);
        }
        assert!(amount(i128::MIN).ends_with(" T"));
    }

    #[test]
    fn durations_have_a_unit() {
        for (ns, text) in [
            (0, "0 ms"),
            (1, "0.1 µs"),
            (1_500, "1.5 µs"),
            (640_000, "640 µs"),
            (999_600, "1.0 ms"),
            (9_960_000, "10 ms"),
            (640_000_000, "640 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.0 s"),
            (2_149_000_000, "2.1 s"),
            (59_940_000_000, "59.9 s"),
            (59_960_000_000, "1 m 00 s"),
            (63_000_000_000, "1 m 03 s"),
            (3_599_600_000_000, "1 h 00 m"),
            (7_500_000_000_000, "2 h 05 m"),
            (273_600_000_000_000, "3 d 04 h"),
        ] {
            assert_eq!(duration(Nanoseconds(ns)), text, "{ns}");
        }
        assert!(duration(Nanoseconds(u128::MAX)).contains(" d "));
    }

    #[test]
    fn small_costs_keep_digits_that_say_something() {
        for (pico, text) in [
            (0, "$0.00"),
            (12_390_443_212_000_000, "$12,390.44"),
            (1_000_000_000_000, "$1.00"),
            (996_000_000_000, "$1.00"),
            (980_000_000_000, "$0.98"),
            (100_000_000_000, "$0.10"),
            (98_000_000_000, "$0.098"),
            (50_000_000_000, "$0.05"),
            (2_100_000_000, "$0.0021"),
            (2_149_000_000, "$0.0021"),
            (1, "$0.000000000001"),
            (-1_250_000_000_000, "-$1.25"),
        ] {
            let format = CostFormat::String;
            assert_eq!(cost(&Cost { pico, format }), text, "{pico}");
        }
    }

    #[test]
    fn only_none_is_nothing_and_only_all_is_all() {
        for (part, text) in [
            (0.0, "0 %"),
            (0.000_01, "<0.01 %"),
            (0.000_4, "0.04 %"),
            (0.009_96, "1.0 %"),
            (0.025, "2.5 %"),
            (0.999, "99.9 %"),
            (0.999_9, ">99.9 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(share(part), text);
        }
    }

    #[test]
    fn scores_have_three_decimals() {
        for (n, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.8214, "0.821"),
            (-0.5, "-0.5"),
            (0.000_012, "1.2e-5"),
            (1e15, "1000000000000000"),
        ] {
            assert_eq!(score(n), text);
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (thousandths_of, text) in [
            (0, "0"),
            (117_500, "118"),
            (41_237, "41.2"),
            (1_500, "1.5"),
            (1_234_567, "1,235"),
            (-98_765_432, "-98.8 k"),
        ] {
            assert_eq!(thousandths(Thousandths(thousandths_of)), text);
        }
        for (part, text) in [
            (1.0, "100 %"),
            (0.25, "25.0 %"),
            (0.0, "0 %"),
            (-0.000_1, "-0.1 %"),
            (-0.5, "-50.0 %"),
            (-0.999_6, "-100 %"),
            (-35.2, "-3520 %"),
        ] {
            assert_eq!(left(part), text);
        }
    }

    #[test]
    fn times_are_of_the_zone() {
        let moment = Timestamp(1_793_404_800_000_000);
        assert_eq!(time(moment, Tz::UTC), "2026-10-31 00:00:00 UTC");
        assert_eq!(time(moment, Berlin), "2026-10-31 01:00:00 CET");
        assert_eq!(
            time(Timestamp(i64::MIN), Berlin),
            Timestamp(i64::MIN).to_string()
        );
    }

    #[test]
    fn exact_seconds_keep_every_digit() {
        assert_eq!(exact_seconds(Nanoseconds(13_093_320_000)), "13.09332");
        assert_eq!(exact_seconds(Nanoseconds(1)), "0.000000001");
        assert_eq!(exact_seconds(Nanoseconds(2_000_000_000)), "2");
    }
}
