//! Values: what fields are compared with, exactly.

use std::borrow::Cow;
use std::fmt;

use serde_json::Map;
use uuid::Uuid;

use super::Field;
use super::field::Kind;
use crate::tally::money;
use crate::time;

/// Fractional digits of a [`Number`].
const PLACES: u32 = 18;
/// The most digits of a [`Number`], before and after the point together.
const DIGITS_MAX: u32 = 38;

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Boolean(bool),
    /// A text, or an id.
    Text(String),
    /// A number of tokens, a score, or a number in a JSON.
    Number(Number),
    /// Pico-dollars, rounded half to even as the costs of runs are.
    Cost(i64),
    /// Microseconds since 1970, UTC; within the years 0 to 9999.
    Time(i64),
    /// Microseconds, rounded half to even.
    Duration(i64),
    /// Any of these, all of a type that the field has.
    List(Vec<Self>),
    /// Entries that the metadata must have.
    Object(Map<String, serde_json::Value>),
}

/// An exact decimal with at most 18 digits after the point and 20 before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(i128);

impl Number {
    /// Units in one.
    const ONE: i128 = 10_i128.pow(PLACES);

    /// Reads a decimal, with an exponent or without; `None` where it is none, or has too many digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = digits.trim_end_matches('0');
        let n_zeros = digits.len() - kept.len();
        let kept = kept.trim_start_matches('0');
        if kept.is_empty() {
            return Some(Self(0));
        }
        // The value is `kept` times ten to the power of this.
        let power = i128::from(exponent) + i128::try_from(n_zeros).ok()?
            - i128::try_from(fraction.len()).ok()?;
        let n_appended = u32::try_from(power + i128::from(PLACES)).ok()?;
        let n_digits = u32::try_from(kept.len()).ok()?.checked_add(n_appended)?;
        if n_digits > DIGITS_MAX {
            return None;
        }
        let units = kept.parse::<i128>().ok()? * 10_i128.pow(n_appended);
        Some(Self(if is_negative { -units } else { units }))
    }

    /// The number in units of 10⁻¹⁸.
    #[must_use]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// The largest whole number that is not above it.
    #[must_use]
    pub const fn floor(self) -> i128 {
        self.0.div_euclid(Self::ONE)
    }

    /// Whether it has nothing after the point.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.0.rem_euclid(Self::ONE) == 0
    }
}

/// Without exponent, all digits that there are.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(self.0, PLACES))
    }
}

impl From<i64> for Number {
    fn from(whole: i64) -> Self {
        Self(i128::from(whole) * Self::ONE)
    }
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The value in the one form that a field has it in: UUIDs in lower case with hyphens.
    pub(super) fn normalized(self, field: Field) -> Self {
        match self {
            Self::Text(text) if field.kind() == Kind::Id => match Uuid::try_parse(&text) {
                Ok(id) => Self::Text(id.to_string()),
                Err(_) => Self::Text(text),
            },
            Self::List(list) => {
                let list = list.into_iter();
                Self::List(list.map(|value| value.normalized(field)).collect())
            }
            value => value,
        }
    }
}

/// Reads a duration: a number with a unit (`5s`, `300ms`, `2m`, `1.5h`, `250us`) or without, meaning
/// seconds. Gives microseconds, rounded half to even; `None` where it is none, or too long.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let number = text.trim_end_matches(char::is_alphabetic);
    let us_per_unit = match text.get(number.len()..)? {
        "us" | "µs" | "μs" => 1,
        "ms" => 1_000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    let units = Number::parse(number.trim_end())?
        .units()
        .checked_mul(us_per_unit)?;
    let magnitude = money::divide_half_even(units.unsigned_abs(), Number::ONE.unsigned_abs());
    let magnitude = i128::try_from(magnitude).ok()?;
    i64::try_from(if units < 0 { -magnitude } else { magnitude }).ok()
}

/// Reads a time: RFC 3339, UTC where it names no offset, or a date, meaning its midnight UTC.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let midnight = || time::parse_time(&format!("{text}T00:00:00Z"));
    time::parse_time(text)
        .or_else(midnight)
        .filter(|us| is_printable(*us))
}

/// Whether a time has a year of four digits, so that its text can be read again.
pub(super) fn is_printable(us: i64) -> bool {
    (-62_167_219_200_000_000..253_402_300_800_000_000).contains(&us)
}

/// Seconds as a decimal.
pub(super) fn seconds(us: i64) -> String {
    decimal(us.into(), 6)
}

/// `units` × 10^−`places` as a plain decimal.
fn decimal(units: i128, places: u32) -> String {
    let one = 10_u128.pow(places);
    let sign = if units < 0 { "-" } else { "" };
    let (whole, below) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
    let fraction = match below {
        0 => Cow::Borrowed(""),
        _ => Cow::Owned(format!(".{below:0width$}", width = places as usize)),
    };
    format!("{sign}{whole}{}", fraction.trim_end_matches('0'))
}
