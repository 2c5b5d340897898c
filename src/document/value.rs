//! Values as JSON shows them: times, durations and money, without a digit of float noise.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::tally::money;
use crate::time;

/// A moment, shown as RFC 3339 in UTC; microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serve",
    derive(utoipa::ToSchema),
    schema(value_type = String, format = DateTime)
)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time::format_time(self.0))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration in whole nanoseconds, shown as a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serve", derive(utoipa::ToSchema), schema(value_type = f64))]
pub struct Nanoseconds(pub u128);

impl Nanoseconds {
    /// The double nearest to the exact decimal, so that its shortest text has no more digits.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        const NANOS: u128 = 1_000_000_000;
        let text = format!("{}.{:09}", self.0 / NANOS, self.0 % NANOS);
        text.parse().unwrap_or(f64::INFINITY)
    }
}

impl Serialize for Nanoseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

/// A number in whole thousandths, shown without trailing zeros: `117`, `117.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thousandths(pub i128);

impl Thousandths {
    /// The double nearest to the exact decimal.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::INFINITY)
    }
}

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = format!("{sign}{}.{:03}", magnitude / 1000, magnitude % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// An amount of money, exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Pico-dollars.
    pub pico: i128,
    /// How JSON shows it.
    pub format: CostFormat,
}

/// As the API describes it where nothing else is said: a string.
#[cfg(feature = "serve")]
impl utoipa::PartialSchema for Cost {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .pattern(Some(r"^-?\d+(\.\d+)?$"))
            .into()
    }
}

#[cfg(feature = "serve")]
impl utoipa::ToSchema for Cost {}

/// How JSON shows money; the digits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CostFormat {
    /// `"0.206485"`, as the endpoint's published example has it.
    #[default]
    String,
    /// `0.206485`, as the service sends it since August 2026.
    Number,
}

/// Dollars in plain decimal notation, every digit.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&money::pico_to_text(self.pico))
    }
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        match self.format {
            CostFormat::String => serializer.serialize_str(&text),
            CostFormat::Number => RawValue::from_string(text)
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_no_float_noise() {
        assert_eq!(Nanoseconds(13_093_320_000).as_f64(), 13.09332);
        assert_eq!(
            serde_json::to_string(&Nanoseconds(1_000_000_000)).unwrap(),
            "1.0"
        );
        assert_eq!(serde_json::to_string(&Nanoseconds(1)).unwrap(), "1e-9");
        // Beyond 2⁵³ nanoseconds, where dividing doubles would round twice.
        assert_eq!(
            Nanoseconds(9_007_199_254_740_993_001).as_f64(),
            9_007_199_254.740_993
        );
    }

    #[test]
    fn money_has_the_same_digits_either_way() {
        let cost = |format| {
            serde_json::to_string(&Cost {
                pico: 206_485_000_000,
                format,
            })
            .unwrap()
        };
        assert_eq!(cost(CostFormat::String), "\"0.206485\"");
        assert_eq!(cost(CostFormat::Number), "0.206485");
    }
}
