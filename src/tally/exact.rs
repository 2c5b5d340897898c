//! Exact arithmetic at its two ends: floats become decimals, exact quotients and roots become floats.
//!
//! A float is taken for the decimal of its shortest text. A result is a quotient of whole numbers, or
//! the root of one, and is rounded once, to the nearest float. Knows nothing of what is counted.

use num_bigint::{BigInt, BigUint, Sign};

/// Bits below one of a result before it is rounded.
const FRACTION_BITS: u64 = 192;
/// What the last of these bits stands for, as a float: no mantissa, the exponent alone.
const LAST_BIT: f64 = f64::from_bits((1023 - FRACTION_BITS) << 52);

/// A float in units of 10^−`places`, rounded half to even from the decimal of its shortest text;
/// `None` for what is no number and beyond an i128.
pub(super) fn decimal_from_f64(value: f64, places: i32) -> Option<i128> {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e')?;
    // Its first digit is the only one before the point.
    let digits = mantissa.replace('.', "");
    let n_after_point = i32::try_from(digits.len()).ok()? - 1;
    let power = exponent.parse::<i32>().ok()? - n_after_point + places;
    let digits: u128 = digits.parse().ok()?;
    let magnitude = match 10_u128.checked_pow(power.unsigned_abs()) {
        Some(factor) if power >= 0 => digits.checked_mul(factor)?,
        Some(divisor) => divide_half_even(digits, divisor),
        None if power >= 0 => return None,
        // At most 17 digits over at least 10³⁹.
        None => 0,
    };
    let units = i128::try_from(magnitude).ok()?;
    Some(if value < 0.0 { -units } else { units })
}

/// `units` × 10^−`places` as the nearest float.
pub(super) fn decimal_to_f64(units: i128, places: i32) -> Option<f64> {
    format!("{units}e-{places}").parse().ok()
}

/// The quotient rounded half to even. The divisor is above zero and at most 10³⁸, so twice a
/// remainder fits.
pub(super) fn divide_half_even(dividend: u128, divisor: u128) -> u128 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let is_odd = quotient % 2;
    quotient + u128::from(2 * remainder + is_odd > divisor)
}

/// `numerator` ÷ `denominator` as the nearest float; `None` where the denominator is zero. A result
/// must be zero or at least 2⁻¹²⁸.
pub(super) fn quotient(numerator: &BigInt, denominator: &BigUint) -> Option<f64> {
    if denominator.bits() == 0 {
        return None;
    }
    let scaled = numerator.magnitude() << FRACTION_BITS;
    let whole = &scaled / denominator;
    let is_exact = &whole * denominator == scaled;
    let magnitude = nearest_f64(whole, is_exact)?;
    Some(match numerator.sign() {
        Sign::Minus => -magnitude,
        Sign::NoSign | Sign::Plus => magnitude,
    })
}

/// √(`numerator` ÷ `denominator`) as the nearest float, likewise.
pub(super) fn root_of_quotient(numerator: &BigUint, denominator: &BigUint) -> Option<f64> {
    if denominator.bits() == 0 {
        return None;
    }
    // The whole part of a root depends on the whole part of what is under it alone.
    let scaled = numerator << (2 * FRACTION_BITS);
    let root = (&scaled / denominator).sqrt();
    let is_exact = &root * &root * denominator == scaled;
    nearest_f64(root, is_exact)
}

/// The float nearest to `whole` and what follows it, in units of the last bit. A result of at least
/// 2⁻¹²⁸ has 64 bits or more: the last one is far below a float's and can stand for all that follow.
fn nearest_f64(mut whole: BigUint, is_exact: bool) -> Option<f64> {
    whole.set_bit(0, whole.bit(0) || !is_exact);
    // The standard library rounds correctly; a power of two changes nothing about that.
    let rounded: f64 = whole.to_string().parse().ok()?;
    Some(rounded * LAST_BIT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_float_is_the_decimal_of_its_shortest_text() {
        for (value, places, units) in [
            (0.1, 18, 100_000_000_000_000_000),
            (0.1 + 0.2, 18, 300_000_000_000_000_040),
            (-0.0, 18, 0),
            (5e-324, 18, 0),
            (25.0, -1, 2),
            (-35.0, -1, -4),
            (1e38, 0, 100_000_000_000_000_000_000_000_000_000_000_000_000),
        ] {
            assert_eq!(decimal_from_f64(value, places), Some(units), "{value}");
        }
        for value in [1e39, -2e38, f64::MAX, f64::INFINITY, f64::NAN] {
            assert_eq!(decimal_from_f64(value, 0), None, "{value}");
        }
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let (zero, one) = (BigUint::from(0_u32), BigUint::from(1_u32));
        assert_eq!(quotient(&1.into(), &zero), None);
        assert_eq!(root_of_quotient(&one, &zero), None);
        assert_eq!(quotient(&0.into(), &one), Some(0.0));
        assert_eq!(root_of_quotient(&zero, &one), Some(0.0));
    }

    #[test]
    fn halves_go_to_the_even_float_and_what_is_beyond_them_does_not() {
        let half = BigUint::from(2_u32);
        let between = |n: u64, more: u64| (BigUint::from(n) << 60_u32) + more;
        let float = (1_u64 << 53) + 2;
        for (twice, more, expected) in [
            (2 * float + 2, 0, 9_007_199_254_740_996.0),
            (2 * float + 6, 0, 9_007_199_254_740_996.0),
            (2 * float + 2, 1, 9_007_199_254_740_996.0),
            (2 * float - 2, 0, 9_007_199_254_740_992.0),
            (2 * float - 2, 1, 9_007_199_254_740_994.0),
        ] {
            let (numerator, denominator) = (between(twice, more), &half << 60_u32);
            let found = quotient(&numerator.clone().into(), &denominator);
            assert_eq!(found, Some(expected), "{twice} {more}");
            let squared = (&numerator * &numerator, &denominator * &denominator);
            let root = root_of_quotient(&squared.0, &squared.1);
            assert_eq!(root, Some(expected), "√ {twice} {more}");
        }
    }

    proptest! {
        #[test]
        fn decimals_come_back(value in -1e15..1e15_f64) {
            let units = decimal_from_f64(value, 18).unwrap();
            prop_assume!(value.abs() > 1.0);
            prop_assert_eq!(decimal_to_f64(units, 18), Some(value));
        }

        #[test]
        fn small_quotients_are_those_of_floats(a in -(1_i64 << 53)..1 << 53, b in 1..1_u64 << 53) {
            #[allow(clippy::cast_precision_loss, reason = "below 2⁵³")]
            let (x, y) = (a as f64, b as f64);
            prop_assert_eq!(quotient(&a.into(), &b.into()), Some(x / y));
            let magnitude = BigUint::from(a.unsigned_abs());
            prop_assert_eq!(root_of_quotient(&magnitude, &1_u32.into()), Some(x.abs().sqrt()));
        }
    }
}
