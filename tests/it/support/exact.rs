//! Exact numbers: decimals, the binary value of a double, quotients and roots.
//!
//! Everything is a big integer until the last step, which yields the nearest
//! double (ties to even) of the exact result. Slow and plain on purpose.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};

/// Fractional digits of a pico-dollar amount.
pub(crate) const PICO_PLACES: u32 = 12;

/// Bits kept of a quotient or root before it is rounded to a double's 53.
const KEPT_BITS: i64 = 100;

/// The number `digits · 10^exponent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: BigInt,
    exponent: i64,
}

impl Decimal {
    /// Reads `[+-]digits[.digits][e[+-]digits]`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (negative, unsigned) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let magnitude: BigInt = all.parse().unwrap();
        Some(Self {
            digits: if negative { -magnitude } else { magnitude },
            exponent: exponent - i64::try_from(fraction.len()).unwrap(),
        })
    }

    /// The decimal of the double's shortest text.
    pub(crate) fn of_shortest_text(value: f64) -> Option<Self> {
        Self::parse(&format!("{value}"))
    }

    /// The number in units of `10^-places`, rounded half to even.
    pub(crate) fn rounded(&self, places: u32) -> BigInt {
        let shift = self.exponent + i64::from(places);
        let power = ten_to(u32::try_from(shift.unsigned_abs()).unwrap());
        if shift >= 0 {
            &self.digits * power
        } else {
            divide_half_even(&self.digits, &power)
        }
    }
}

/// `10^exponent`.
pub(crate) fn ten_to(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

/// `numerator ÷ denominator` to the nearest integer, ties to even.
pub(crate) fn divide_half_even(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let (n, d) = (numerator.magnitude(), denominator.magnitude());
    let (mut quotient, rest) = (n / d, n % d);
    let up = match (&rest + &rest).cmp(d) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => quotient.bit(0),
    };
    if up {
        quotient += 1u32;
    }
    if numerator.sign() == denominator.sign() {
        BigInt::from(quotient)
    } else {
        -BigInt::from(quotient)
    }
}

/// The pico-dollars of a double: its exact binary value, rounded half to even.
/// `None` for NaN.
pub(crate) fn pico_of_double(value: f64) -> Option<BigInt> {
    if value.is_nan() {
        return None;
    }
    assert!(value.is_finite(), "an infinite cost has no amount");
    let bits = value.to_bits();
    let field = i64::try_from((bits >> 52) & 0x7ff).unwrap();
    let fraction = bits & ((1 << 52) - 1);
    // Subnormals lack the implicit bit and share the exponent of field 1.
    let (mantissa, exponent) = if field == 0 {
        (fraction, -1074)
    } else {
        (fraction | (1 << 52), field - 1075)
    };
    let mut scaled = BigInt::from(mantissa) * ten_to(PICO_PLACES);
    if value.is_sign_negative() {
        scaled = -scaled;
    }
    let shift = BigInt::from(1) << exponent.unsigned_abs();
    Some(if exponent >= 0 {
        scaled * shift
    } else {
        divide_half_even(&scaled, &shift)
    })
}

/// The pico-dollars of a decimal text, rounded half to even; `None` for `NaN`.
pub(crate) fn pico_of_text(text: &str) -> Option<BigInt> {
    if text.eq_ignore_ascii_case("nan") {
        return None;
    }
    let decimal = Decimal::parse(text).unwrap_or_else(|| panic!("`{text}` is no number"));
    Some(decimal.rounded(PICO_PLACES))
}

/// Plain notation of `scaled · 10^-places`: no exponent, no trailing zeros.
pub(crate) fn plain(scaled: &BigInt, places: usize) -> String {
    let digits = format!(
        "{:0>width$}",
        scaled.magnitude().to_string(),
        width = places + 1
    );
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let sign = if scaled.sign() == Sign::Minus {
        "-"
    } else {
        ""
    };
    let text = format!("{sign}{whole}.{fraction}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The double nearest to `numerator ÷ denominator` (the latter positive).
pub(crate) fn quotient(numerator: &BigInt, denominator: &BigInt) -> f64 {
    let (n, d) = (numerator.magnitude(), denominator.magnitude());
    let shift = KEPT_BITS - (bits_of(n) - bits_of(d));
    let (n, d) = scale(n, d, shift);
    let magnitude = nearest(&(&n / &d), &n % &d == BigUint::ZERO, shift);
    if numerator.sign() == Sign::Minus {
        -magnitude
    } else {
        magnitude
    }
}

/// The double nearest to the square root of `numerator ÷ denominator`
/// (neither negative).
pub(crate) fn root_of_quotient(numerator: &BigInt, denominator: &BigInt) -> f64 {
    assert!(numerator.sign() != Sign::Minus && denominator.sign() == Sign::Plus);
    let (n, d) = (numerator.magnitude(), denominator.magnitude());
    let shift = KEPT_BITS - (bits_of(n) - bits_of(d)) / 2;
    let (n, d) = scale(n, d, 2 * shift);
    let root = (&n / &d).sqrt();
    let exact = &root * &root * &d == n;
    nearest(&root, exact, shift)
}

fn bits_of(value: &BigUint) -> i64 {
    i64::try_from(value.bits()).unwrap()
}

/// `n ÷ d` times `2^shift`, still as two integers.
fn scale(n: &BigUint, d: &BigUint, shift: i64) -> (BigUint, BigUint) {
    if shift >= 0 {
        (n << shift.unsigned_abs(), d.clone())
    } else {
        (n.clone(), d << shift.unsigned_abs())
    }
}

/// The double nearest to `floor · 2^-shift`, where the true value lies above
/// `floor` unless `exact`. The lowest of the many bits stands for that rest,
/// so that the one rounding below sees on which side of a tie it is.
#[allow(clippy::cast_precision_loss)] // the cast is the rounding: to nearest, ties to even
fn nearest(floor: &BigUint, exact: bool, shift: i64) -> f64 {
    let bits = u128::try_from(floor).unwrap() | u128::from(!exact);
    bits as f64 * 2f64.powi(i32::try_from(-shift).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> BigInt {
        BigInt::from(value)
    }

    #[test]
    fn decimals_round_half_to_even() {
        let rounded = |text: &str| Decimal::parse(text).unwrap().rounded(12);
        assert_eq!(rounded("8.2e-6"), int(8_200_000));
        assert_eq!(rounded("0.30000000000000004"), int(300_000_000_000));
        assert_eq!(rounded("0.0000000000005"), int(0));
        assert_eq!(rounded("0.0000000000015"), int(2));
        assert_eq!(rounded("-0.0000000000025"), int(-2));
        assert_eq!(rounded("-.5E1"), int(-5_000_000_000_000));
        for wrong in ["", "-", ".", "1e", "0x1", "inf", "1,5", "1 "] {
            assert_eq!(Decimal::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn doubles_are_rounded_from_their_binary_value() {
        let pico = |value: f64| pico_of_double(value).unwrap();
        assert_eq!(pico(0.1 + 0.2), int(300_000_000_000));
        assert_eq!(pico(-0.0), int(0));
        assert_eq!(pico(5e-324), int(0));
        assert_eq!(pico(4096.0), int(4_096_000_000_000_000));
        // 2^-13 = 0.0001220703125 ends at digit 13 with a 5: a true tie, to even.
        assert_eq!(pico(2f64.powi(-13)), int(122_070_312));
        assert_eq!(pico(3.0 * 2f64.powi(-13)), int(366_210_938));
        // Just below the tie that its text says: the two forms differ.
        assert_eq!(pico(7.5e-12), int(7));
        assert_eq!(pico_of_text("7.5e-12"), Some(int(8)));
        assert_eq!(pico_of_double(f64::NAN), None);
    }

    #[test]
    fn plain_notation() {
        assert_eq!(plain(&int(206_485_000_000), 12), "0.206485");
        assert_eq!(plain(&int(0), 12), "0");
        assert_eq!(plain(&int(-1), 12), "-0.000000000001");
        assert_eq!(plain(&int(10_000_000_000_000), 12), "10");
    }

    #[test]
    fn quotients_and_roots_are_the_nearest_double() {
        assert_eq!(
            quotient(&int(1), &int(3)).to_bits(),
            (1.0f64 / 3.0).to_bits()
        );
        assert_eq!(quotient(&int(-7), &int(10)).to_bits(), (-0.7f64).to_bits());
        assert_eq!(quotient(&int(0), &int(10)).to_bits(), 0.0f64.to_bits());
        // 2^53 + 1 is a tie (to even); anything above it is not.
        let tie = (int(1) << 53) + 1;
        assert_eq!(quotient(&tie, &int(1)).to_bits(), 2f64.powi(53).to_bits());
        let above: BigInt = &tie * ten_to(20) + 1;
        assert_eq!(
            quotient(&above, &ten_to(20)).to_bits(),
            (2f64.powi(53) + 2.0).to_bits()
        );
        assert_eq!(
            root_of_quotient(&int(2), &int(1)).to_bits(),
            2f64.sqrt().to_bits()
        );
        assert_eq!(
            root_of_quotient(&int(9), &int(4)).to_bits(),
            1.5f64.to_bits()
        );
        assert_eq!(
            root_of_quotient(&int(0), &int(4)).to_bits(),
            0.0f64.to_bits()
        );
        let tiny = root_of_quotient(&int(1), &ten_to(36));
        assert_eq!(tiny.to_bits(), 1e-18f64.to_bits());
    }
}
