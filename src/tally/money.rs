//! Exact money: every cost of an export becomes a whole number of pico-dollars (10⁻¹² USD).
//!
//! In come the forms that exports hold: doubles, texts, decimals. Each value is rounded once,
//! half to even, in integers, from its exact value; what float arithmetic upstream left behind
//! falls off there. Out goes plain decimal text. Sums are the caller's business: an `i64` a value,
//! an `i128` a sum. Knows no files and no columns; the caller adds these to an error.

use crate::cpu::fastest;

/// Decimal digits of a pico-dollar below one dollar.
const SCALE: u32 = 12;
/// Pico-dollars in a dollar.
const PICO_PER_DOLLAR: u128 = 10_u128.pow(SCALE);
/// The odd part of [`PICO_PER_DOLLAR`], which is this times 2¹².
const FIVE_POW_SCALE: u64 = 5_u64.pow(SCALE);
/// Bits of a double's mantissa that are stored.
const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
/// What the stored exponent of a double is above that of its last mantissa bit.
const EXPONENT_BIAS: i32 = 1075;
/// The most digits that a `u64` holds whatever they are, and at least as many as an `i64` has.
const DIGITS_MAX: i128 = 19;
/// The most characters of an unreadable text that an error repeats.
const QUOTED_CHARS_MAX: usize = 40;

/// Why a cost is no number of pico-dollars.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Plus or minus infinity.
    #[error("infinite cost")]
    Infinite,
    /// Rounded to pico-dollars it does not fit 64 bits: beyond about 9.2 million dollars.
    #[error("cost {value} is out of range: at most 9223372.036854775807 dollars fit")]
    OutOfRange {
        /// The value as it was read, cut short where it is long.
        value: String,
    },
    /// A text that is no decimal number.
    #[error("{text:?} is not a number")]
    NotANumber {
        /// The text, cut short where it is long.
        text: String,
    },
}

/// Whole pico-dollars of a double of dollars, from its exact binary value, rounded half to even;
/// `None` for NaN, which is no value.
///
/// # Errors
///
/// [`MoneyError::Infinite`] and [`MoneyError::OutOfRange`].
#[inline]
pub fn pico_from_f64(v: f64) -> Result<Option<i64>, MoneyError> {
    match near_pico(v) {
        (pico, true) => Ok(Some(pico)),
        (_, false) => exact_pico(v),
    }
}

/// The same of several; `None` where [`pico_from_f64`] must look at each. What it gives where that has none
/// or fails is not said.
pub(crate) fn picos_from_f64(values: &[f64]) -> Option<Vec<i64>> {
    fastest!({
        let picos = values.iter().map(|value| near_pico(*value).0);
        let picos = picos.collect();
        let are_near = values.iter().map(|value| near_pico(*value).1);
        // Without an early end, so that several are looked at at a time.
        are_near
            .fold(true, |all, is_near| all & is_near)
            .then_some(picos)
    })
}

/// The nearest whole number of pico-dollars, and whether the product of doubles leaves no doubt that it is:
/// below 2⁵⁰ it is off by no more than an eighth, so that what is closer than three eighths to a whole
/// number rounds to that.
#[inline]
fn near_pico(v: f64) -> (i64, bool) {
    const MOST: f64 = 1_125_899_906_842_624.0;
    /// Added to a number of less than 2⁵¹ it leaves no bits for a fraction: the last bits of the sum are
    /// those of the whole number.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    let product = v * 1e12;
    let sum = product + WHOLE;
    let is_near = (product.abs() < MOST) & ((product - (sum - WHOLE)).abs() < 0.375);
    let whole = sum.to_bits().wrapping_sub(WHOLE.to_bits());
    (whole.cast_signed(), is_near)
}

fn exact_pico(v: f64) -> Result<Option<i64>, MoneyError> {
    let bits = v.to_bits();
    let fraction = bits & ((1 << MANTISSA_BITS) - 1);
    let stored_exponent = ((bits >> MANTISSA_BITS) & 0x7ff) as i32;
    // |v| = mantissa · 2^exponent; subnormals lack the implicit leading bit.
    let (mantissa, exponent) = match stored_exponent {
        0x7ff if fraction != 0 => return Ok(None),
        0x7ff => return Err(MoneyError::Infinite),
        0 => (fraction, 1 - EXPONENT_BIAS),
        e => (fraction | 1 << MANTISSA_BITS, e - EXPONENT_BIAS),
    };
    // |v| · 10¹² = mantissa · 5¹² · 2^(exponent + 12); the product has at most 81 bits.
    let product = u128::from(mantissa) * u128::from(FIVE_POW_SCALE);
    let magnitude = match -exponent - SCALE.cast_signed() {
        // A normal double, so at least 2⁵² · 5¹²: far beyond any i64.
        ..=0 => None,
        // Below half of one.
        82.. => Some(0),
        shift => u64::try_from(shift_right_half_even(product, shift.cast_unsigned())).ok(),
    };
    magnitude
        .and_then(|magnitude| signed(v.is_sign_negative(), magnitude))
        .map(Some)
        .ok_or_else(|| out_of_range(v))
}

/// Whole pico-dollars of a decimal text of dollars, rounded half to even; `None` for "nan" in any
/// case, which is no value.
///
/// Spaces around it are ignored. A number is a sign or none, digits with at most one `.` among or
/// around them, and `e` or `E` with a whole exponent or none. Neither the digits nor the exponent
/// are limited in length.
///
/// # Errors
///
/// [`MoneyError::NotANumber`] (also for the empty text), [`MoneyError::Infinite`] for "inf" and
/// "infinity" in any case, [`MoneyError::OutOfRange`].
pub fn pico_from_text(text: &str) -> Result<Option<i64>, MoneyError> {
    if let Some(pico) = pico_of_plain(text.as_bytes()) {
        return Ok(Some(pico));
    }
    let text = text.trim();
    let (negative, unsigned) = split_sign(text);
    if unsigned.eq_ignore_ascii_case("nan") {
        return Ok(None);
    }
    if ["inf", "infinity"]
        .iter()
        .any(|word| unsigned.eq_ignore_ascii_case(word))
    {
        return Err(MoneyError::Infinite);
    }
    let number =
        Decimal::parse(unsigned).ok_or_else(|| MoneyError::NotANumber { text: quoted(text) })?;
    number
        .pico()
        .and_then(|magnitude| signed(negative, magnitude))
        .map(Some)
        .ok_or_else(|| out_of_range(text))
}

/// Reads the usual form sooner: digits, or digits about a point, at most six before it and twelve after.
fn pico_of_plain(text: &[u8]) -> Option<i64> {
    const WHOLE_MAX: usize = 6;
    let n_whole = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = text.split_at_checked(n_whole)?;
    let fraction = match rest {
        [] => rest,
        [b'.', fraction @ ..] if !fraction.is_empty() => fraction,
        _ => return None,
    };
    let n_missing = (SCALE as usize).checked_sub(fraction.len())?;
    if !(1..=WHOLE_MAX).contains(&whole.len()) || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = whole.iter().chain(fraction);
    let number = digits.fold(0, |number, digit| 10 * number + i64::from(digit - b'0'));
    (0..n_missing).try_fold(number, |number, _| number.checked_mul(10))
}

/// Whole pico-dollars of `mantissa · 10^-scale` dollars, rounded half to even.
///
/// # Errors
///
/// [`MoneyError::OutOfRange`].
pub fn pico_from_decimal(mantissa: i128, scale: i8) -> Result<i64, MoneyError> {
    let digits_up = SCALE.cast_signed() - i32::from(scale);
    let power = 10_u128.checked_pow(digits_up.unsigned_abs());
    let magnitude = match (mantissa.unsigned_abs(), power) {
        (0, _) => Some(0),
        (magnitude, Some(power)) if digits_up >= 0 => magnitude.checked_mul(power),
        (magnitude, Some(power)) => Some(divide_half_even(magnitude, power)),
        (_, None) if digits_up >= 0 => None,
        // 10³⁹ and more are over twice any i128: below half of one.
        (_, None) => Some(0),
    };
    magnitude
        .and_then(|magnitude| u64::try_from(magnitude).ok())
        .and_then(|magnitude| signed(mantissa < 0, magnitude))
        .ok_or_else(|| out_of_range(format_args!("{mantissa}e{}", -i32::from(scale))))
}

/// Dollars in plain decimal notation, all digits that there are: no exponent, no trailing zeros,
/// no sign on zero. `206_485_000_000` is `"0.206485"`.
#[must_use]
pub fn pico_to_text(pico: i128) -> String {
    let sign = if pico < 0 { "-" } else { "" };
    let magnitude = pico.unsigned_abs();
    let (dollars, below) = (magnitude / PICO_PER_DOLLAR, magnitude % PICO_PER_DOLLAR);
    if below == 0 {
        return format!("{sign}{dollars}");
    }
    let mut text = format!("{sign}{dollars}.{below:012}");
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// An unsigned decimal text, taken apart: its digits are `whole` then `fraction`, its value these
/// as 0.ddd… times 10 to the (length of `whole` + `exponent`).
struct Decimal<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn parse(unsigned: &'a str) -> Option<Self> {
        let (number, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let some_digit = !whole.is_empty() || !fraction.is_empty();
        (some_digit && all_digits(whole) && all_digits(fraction)).then_some(Self {
            whole: whole.as_bytes(),
            fraction: fraction.as_bytes(),
            exponent,
        })
    }

    /// The value in whole pico-dollars, half to even; `None` where it has more than 19 digits.
    fn pico(&self) -> Option<u64> {
        let mut digits = self
            .whole
            .iter()
            .chain(self.fraction)
            .map(|byte| byte - b'0')
            .peekable();
        // How many digits are left of pico's point; not more than 64 bits and a few, so no overflow.
        let mut n_kept = self.whole.len() as i128 + i128::from(self.exponent) + i128::from(SCALE);
        while digits.next_if_eq(&0).is_some() {
            n_kept -= 1;
        }
        if digits.peek().is_none() {
            return Some(0);
        }
        if n_kept > DIGITS_MAX {
            return None;
        }
        let mut kept: u64 = 0;
        for _ in 0..n_kept {
            kept = kept * 10 + u64::from(digits.next().unwrap_or(0));
        }
        // With a negative `n_kept` a zero stands where the first dropped digit would.
        let first_dropped = if n_kept < 0 {
            0
        } else {
            digits.next().unwrap_or(0)
        };
        let up = match first_dropped {
            5 => kept % 2 == 1 || digits.any(|digit| digit != 0),
            digit => digit > 5,
        };
        // 19 digits and one are below 2⁶⁴.
        Some(kept + u64::from(up))
    }
}

/// A whole number with a sign or none, held to ±10¹⁷: no text is long enough to undo that.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.bytes().fold(0_i64, |magnitude, byte| {
        (magnitude * 10 + i64::from(byte - b'0')).min(100_000_000_000_000_000)
    });
    Some(if negative { -magnitude } else { magnitude })
}

/// Whether a text starts with a minus, and what follows its sign.
fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// `value / 2^shift`, half to even; `shift` is 1 to 127.
#[inline]
fn shift_right_half_even(value: u128, shift: u32) -> u128 {
    const HALF: u128 = 1 << 127;
    let quotient = value >> shift;
    let rest = value << (u128::BITS - shift);
    quotient + u128::from(rest > HALF || (rest == HALF && quotient & 1 == 1))
}

/// `value / divisor`, half to even; `divisor` is 10 to 10³⁸.
pub(crate) fn divide_half_even(value: u128, divisor: u128) -> u128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    let up = match (rest * 2).cmp(&divisor) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 == 1,
        std::cmp::Ordering::Greater => true,
    };
    quotient + u128::from(up)
}

/// The number with this sign and magnitude, where an `i64` holds it.
fn signed(negative: bool, magnitude: u64) -> Option<i64> {
    if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

#[cold]
fn out_of_range(value: impl std::fmt::Display) -> MoneyError {
    MoneyError::OutOfRange {
        value: quoted(&value.to_string()),
    }
}

/// A text for an error: the start of it where it is long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    /// `numerator / denominator`, half to even, by the school's method; `None` beyond an `i64`.
    fn rounded(numerator: &BigInt, denominator: &BigInt) -> Option<i64> {
        let zero = BigInt::from(0);
        let negative = *numerator < zero;
        let numerator = if negative {
            -numerator
        } else {
            numerator.clone()
        };
        let mut quotient = &numerator / denominator;
        let rest = &numerator % denominator;
        let odd = &quotient % 2 == BigInt::from(1);
        let twice = rest * 2;
        if twice > *denominator || (twice == *denominator && odd) {
            quotient += 1;
        }
        i64::try_from(if negative { -quotient } else { quotient }).ok()
    }

    fn ten_pow(n: u32) -> BigInt {
        BigInt::from(10).pow(n)
    }

    /// `digits · 10^exponent` dollars in pico-dollars.
    fn rounded_decimal(digits: &BigInt, exponent: i32) -> Option<i64> {
        let up = exponent + 12;
        let power = ten_pow(up.unsigned_abs());
        if up >= 0 {
            rounded(&(digits * power), &BigInt::from(1))
        } else {
            rounded(digits, &power)
        }
    }

    /// The oracle for doubles: the mantissa and exponent by repeated exact doubling.
    fn rounded_double(v: f64) -> Option<i64> {
        let mut scaled = v;
        let mut n_doublings = 0_u32;
        while scaled.fract() != 0.0 {
            scaled *= 2.0;
            n_doublings += 1;
        }
        let digits: BigInt = format!("{scaled:.0}").parse().unwrap();
        rounded(&(digits * ten_pow(12)), &(BigInt::from(1) << n_doublings))
    }

    fn check_double(v: f64) {
        let got = pico_from_f64(v);
        if v.is_nan() {
            assert_eq!(got, Ok(None));
        } else if v.is_infinite() {
            assert_eq!(got, Err(MoneyError::Infinite));
        } else {
            match rounded_double(v) {
                Some(pico) => assert_eq!(got, Ok(Some(pico)), "{v:e}"),
                None => assert!(matches!(got, Err(MoneyError::OutOfRange { .. })), "{v:e}"),
            }
        }
    }

    #[test]
    fn doubles_at_the_edges() {
        let exact_tie = 2.0_f64.powi(-13); // 122_070_312.5 pico-dollars
        assert_eq!(pico_from_f64(exact_tie), Ok(Some(122_070_312)));
        assert_eq!(pico_from_f64(3.0 * exact_tie), Ok(Some(366_210_938)));
        assert_eq!(pico_from_f64(-exact_tie), Ok(Some(-122_070_312)));
        assert_eq!(pico_from_f64(0.0), Ok(Some(0)));
        assert_eq!(pico_from_f64(-0.0), Ok(Some(0)));
        assert_eq!(pico_from_f64(0.1 + 0.2), Ok(Some(300_000_000_000)));
        assert_eq!(pico_from_f64(f64::NAN), Ok(None));
        assert_eq!(pico_from_f64(f64::NEG_INFINITY), Err(MoneyError::Infinite));
        for v in [
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::from_bits((1 << 52) - 1),
            f64::MAX,
            f64::EPSILON,
            5e-13,
            4.999_999_999_999_999e-13,
            1.0,
            1.5,
            9_223_372.036_854_775,
            9_223_372.036_854_776,
            9_223_372.036_854_777,
            16_777_216.0,
            2.0_f64.powi(-81),
            2.0_f64.powi(52),
            2.0_f64.powi(64),
        ] {
            check_double(v);
            check_double(-v);
        }
    }

    #[test]
    fn texts() {
        let table: &[(&str, i64)] = &[
            ("8.2e-6", 8_200_000),
            ("0.30000000000000004", 300_000_000_000),
            (" +1.50\n", 1_500_000_000_000),
            ("-1.5", -1_500_000_000_000),
            ("1.", 1_000_000_000_000),
            (".5", 500_000_000_000),
            ("0", 0),
            ("-0.0", 0),
            ("0e99999999999999999999999999", 0),
            ("1e-99999999999999999999999999", 0),
            ("0.0000000000005", 0),
            ("0.00000000000050000000000000000001", 1),
            ("0.0000000000015", 2),
            ("0.0000000000025", 2),
            ("-0.0000000000015", -2),
            ("0.00000000000049999", 0),
            ("9e-13", 1),
            ("9e-14", 0),
            ("9223372.036854775807", i64::MAX),
            ("9223372.0368547758074999", i64::MAX),
            ("-9223372.036854775808", i64::MIN),
            ("-9223372.0368547758085", i64::MIN),
            ("0.0009E+3", 900_000_000_000),
        ];
        for (text, pico) in table {
            assert_eq!(pico_from_text(text), Ok(Some(*pico)), "{text}");
        }
        for text in ["nan", "NaN", " -NAN "] {
            assert_eq!(pico_from_text(text), Ok(None), "{text}");
        }
        for text in ["inf", "-Infinity", "+INF"] {
            assert_eq!(pico_from_text(text), Err(MoneyError::Infinite), "{text}");
        }
        for text in [
            "9223372.0368547758075",
            "-9223372.0368547758086",
            "1e7",
            "99999999e999999999999999999999",
        ] {
            assert!(
                matches!(pico_from_text(text), Err(MoneyError::OutOfRange { .. })),
                "{text}"
            );
        }
        for text in [
            "", " ", ".", "-", "e5", "1e", "1e+", "1.2.3", "1e2.5", "--1", "1_000", "$1", "1,5",
            "0x10", "1e5e5", "\u{664}",
        ] {
            assert!(
                matches!(pico_from_text(text), Err(MoneyError::NotANumber { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn long_texts_are_read_to_their_last_digit_and_quoted_short() {
        let nearly = format!("0.{}1", "0".repeat(100_000));
        assert_eq!(pico_from_text(&nearly), Ok(Some(0)));
        assert_eq!(pico_from_text(&format!("{nearly}e99989")), Ok(Some(1)));
        assert_eq!(
            pico_from_text(&format!("{}e-100000", "5".repeat(100_001))),
            Ok(Some(5_555_555_555_556))
        );
        assert_eq!(
            pico_from_text(&format!("0.0000000000005{}1", "0".repeat(100_000))),
            Ok(Some(1))
        );
        let Err(MoneyError::NotANumber { text }) = pico_from_text(&"é".repeat(1000)) else {
            panic!("no number");
        };
        assert_eq!(text.chars().count(), QUOTED_CHARS_MAX + 1);
    }

    #[test]
    fn decimals_at_the_edges() {
        assert_eq!(pico_from_decimal(206_485, 6), Ok(206_485_000_000));
        assert_eq!(pico_from_decimal(i128::from(i64::MIN), 12), Ok(i64::MIN));
        assert_eq!(pico_from_decimal(i128::MAX, 127), Ok(0));
        assert_eq!(pico_from_decimal(i128::MIN, 51), Ok(0));
        assert_eq!(pico_from_decimal(0, -128), Ok(0));
        assert!(pico_from_decimal(1, -128).is_err());
        assert!(pico_from_decimal(i128::MIN, 12).is_err());
        assert_eq!(pico_from_decimal(5, 13), Ok(0));
        assert_eq!(pico_from_decimal(-15, 13), Ok(-2));
        assert_eq!(
            pico_from_decimal(1, -9).unwrap_err().to_string(),
            "cost 1e9 is out of range: at most 9223372.036854775807 dollars fit"
        );
    }

    #[test]
    fn text_out() {
        for (pico, text) in [
            (206_485_000_000, "0.206485"),
            (0, "0"),
            (-1_500_000_000_000, "-1.5"),
            (1, "0.000000000001"),
            (-1, "-0.000000000001"),
            (10_000_000_000_000, "10"),
            (i128::MIN, "-170141183460469231731687303.715884105728"),
        ] {
            assert_eq!(pico_to_text(pico), text);
        }
    }

    proptest! {
        #[test]
        fn any_double_equals_exact_arithmetic(bits in any::<u64>()) {
            check_double(f64::from_bits(bits));
        }

        #[test]
        fn a_cost_as_a_double_equals_exact_arithmetic(bits in any::<u64>(), exponent in 970_u64..1060) {
            check_double(f64::from_bits(bits & 0x800f_ffff_ffff_ffff | exponent << 52));
        }

        #[test]
        fn what_lies_between_two_equals_exact_arithmetic(
            halves in 0..1_u64 << 53,
            step in -3_i64..4,
        ) {
            #[expect(clippy::cast_precision_loss, reason = "it has 53 bits")]
            let near = halves as f64 / 2e12;
            check_double(f64::from_bits(near.to_bits().saturating_add_signed(step)));
        }

        #[test]
        fn any_text_equals_exact_arithmetic(
            negative: bool, whole in "[0-9]{0,9}", fraction in "[0-9]{0,25}", exponent in -20_i32..8,
        ) {
            prop_assume!(!whole.is_empty() || !fraction.is_empty());
            let sign = if negative { "-" } else { "" };
            let digits: BigInt = format!("{sign}{whole}{fraction}").parse().unwrap();
            let expected = rounded_decimal(&digits, exponent - i32::try_from(fraction.len()).unwrap());
            let got = pico_from_text(&format!("{sign}{whole}.{fraction}e{exponent}"));
            match expected {
                Some(pico) => prop_assert_eq!(got, Ok(Some(pico))),
                None => prop_assert!(matches!(got, Err(MoneyError::OutOfRange { .. })), "{:?}", got),
            }
        }

        #[test]
        fn ties_go_to_even_in_every_type(pico in -9_000_000_000_000_i64..9_000_000_000_000) {
            let tenths = i128::from(pico) * 10 + if pico < 0 { -5 } else { 5 };
            let even = pico + if pico % 2 == 0 { 0 } else { pico.signum() };
            prop_assert_eq!(pico_from_decimal(tenths, 13), Ok(even));
            prop_assert_eq!(pico_from_text(&format!("{tenths}e-13")), Ok(Some(even)));
        }

        #[test]
        fn any_decimal_equals_exact_arithmetic(mantissa: i128, cut in 0_u32..128, scale: i8) {
            let mantissa = mantissa >> cut;
            let expected = rounded_decimal(&mantissa.into(), -i32::from(scale));
            prop_assert_eq!(pico_from_decimal(mantissa, scale).ok(), expected);
        }

        #[test]
        fn text_out_and_in_is_the_same(pico: i64) {
            prop_assert_eq!(pico_from_text(&pico_to_text(pico.into())), Ok(Some(pico)));
        }

        #[test]
        fn no_text_panics(text in ".{0,30}", digits in "[-+0-9.eEnaif ]{0,30}") {
            let _ = (pico_from_text(&text), pico_from_text(&digits));
        }
    }
}
