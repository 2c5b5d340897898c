//! Sketches against exact arithmetic, the `hdrhistogram` crate and hostile bytes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use num_bigint::BigUint;
use proptest::collection::vec;
use proptest::prelude::*;

use super::bucket::bucket_middle;
use super::quantile::MILLION;
use super::*;
use crate::tally::varint::write_varint;

/// A seeded stream of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x9e37_79b9);
        (self.0 ^ self.0 >> 29)
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
            .rotate_left(32)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// All magnitudes alike, from 0 to the whole of `u64`.
    fn any_magnitude(&mut self) -> u64 {
        let shift = self.below(64);
        self.next() >> shift
    }

    /// The shapes of distribution that the tests go through, by number.
    fn of_shape(&mut self, shape: u64) -> u64 {
        match shape {
            0 => self.any_magnitude(),
            1 => 12_345_678,
            2 if self.below(3) == 0 => 30_000_000 + self.below(1000),
            2 => 200_000 + self.below(50_000),
            3 if self.below(10) > 0 => 0,
            3 => self.below(5_000_000),
            4 => {
                let spread = 1 << self.below(24);
                50_000 + self.below(spread)
            }
            5 => u64::MAX - self.below(3),
            _ => self.below(3000),
        }
    }
}

const N_SHAPES: u64 = 7;

fn values_of(shape: u64, n: usize, seed: u64) -> Vec<u64> {
    let mut numbers = Numbers(seed);
    (0..n).map(|_| numbers.of_shape(shape)).collect()
}

fn sketch_of(values: &[u64]) -> Sketch {
    let mut sketch = Sketch::new();
    for v in values {
        sketch.record(*v);
    }
    sketch
}

/// Type 7 over sorted values as an exact number of millionths of a unit.
fn exact_millionths(sorted: &[u64], q: Quantile) -> BigUint {
    let position = BigUint::from(q.millionths()) * (sorted.len() - 1);
    let index = usize::try_from(&position / MILLION).unwrap();
    let fraction = position % MILLION;
    let step = sorted.get(index + 1).map_or(0, |next| next - sorted[index]);
    BigUint::from(sorted[index]) * MILLION + fraction * step
}

/// Millionths to thousandths, half to even.
fn to_thousandths(millionths: &BigUint) -> u128 {
    let quotient = u128::try_from(millionths / 1000_u32).unwrap();
    match (millionths % 1000_u32).cmp(&BigUint::from(500_u32)) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

fn thousandth_quantiles() -> impl Iterator<Item = Quantile> {
    (0..=1000).filter_map(|n| Quantile::from_millionths(n * 1000))
}

/// Values of one shape, few or many.
fn any_values() -> impl Strategy<Value = Vec<u64>> {
    let n_values = prop_oneof![0..8_usize, 250..263_usize, 0..600_usize, 0..3000_usize];
    (0..N_SHAPES, n_values, any::<u64>()).prop_map(|(shape, n, seed)| values_of(shape, n, seed))
}

#[test]
fn percentiles_are_read_and_shown() {
    for (text, millionths) in [
        ("50", 500_000),
        ("99.9", 999_000),
        ("99.9999", 999_999),
        ("0.0001", 1),
        ("0", 0),
        ("100", 1_000_000),
    ] {
        let q: Quantile = text.parse().unwrap();
        assert_eq!(q.millionths(), millionths);
        assert_eq!(q.to_string(), text);
    }
    assert_eq!("95.00".parse(), Ok(Quantile::P95));
    for text in [
        "",
        ".",
        "50.",
        ".5",
        "-1",
        "+1",
        "100.0001",
        "101",
        "1e1",
        "50.00000",
        "5 0",
        "99999999999",
        "429497",
    ] {
        assert!(text.parse::<Quantile>().is_err(), "{text}");
    }
    assert_eq!(Quantile::from_millionths(1_000_001), None);
}

#[test]
fn buckets_are_those_of_the_crate() {
    let theirs = Histogram::<u64>::new_with_bounds(1, u64::MAX, SIGNIFICANT_DIGITS).unwrap();
    assert_eq!(theirs.distinct_values(), usize::from(BUCKET_MAX) + 1);
    let mut numbers = Numbers(1);
    let random: Vec<u64> = (0..20_000).map(|_| numbers.any_magnitude()).collect();
    let edges = (0..64).flat_map(|shift| {
        let power = 1_u64 << shift;
        [
            power - 1,
            power,
            power + 1,
            power + power / 2,
            power + (power - 1),
        ]
    });
    for v in edges.chain(random).chain([u64::MAX - 1]) {
        let bucket = bucket_of(v);
        let high = bucket_low(bucket) + (bucket_width(bucket) - 1);
        assert_eq!(bucket_low(bucket), theirs.lowest_equivalent(v), "{v}");
        // In the last bucket the crate misses the top by one, but for the top itself.
        let missed = u64::from(bucket == BUCKET_MAX && v != u64::MAX);
        assert_eq!(high - missed, theirs.highest_equivalent(v), "{v}");
        assert_eq!(bucket_middle(bucket), theirs.median_equivalent(v), "{v}");
    }
    for bucket in 0..=BUCKET_MAX {
        let low = bucket_low(bucket);
        assert_eq!(bucket_of(low), bucket);
        assert_eq!(bucket_of(low + (bucket_width(bucket) - 1)), bucket);
    }
}

#[test]
fn no_values() {
    let empty = Sketch::new();
    assert!(empty.is_empty() && empty.is_exact());
    assert_eq!((empty.count(), empty.min(), empty.max()), (0, None, None));
    assert_eq!(empty.quantile_thousandths(Quantile::P50), None);
    assert_eq!(empty.count_at_or_below(u64::MAX), 0);
    assert_eq!(empty.heap_size(), 0);
    assert_eq!(empty.to_bytes(), [1, 0]);
    assert_eq!(Sketch::from_bytes(&[1, 0]), Ok(empty));
}

#[test]
fn a_known_percentile() {
    // Of nine values the two largest decide: 0.08 · 8 s + 0.92 · 13.536 s.
    let mut sketch = sketch_of(&[13_536_000, 2, 3, 4, 1, 6, 7, 8_000_000, 5]);
    assert_eq!(
        sketch.quantile_thousandths(Quantile::P99),
        Some(13_093_120_000)
    );
    assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(5000));
    sketch.record(6);
    assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(5500));
}

#[test]
fn thousandths_are_rounded_half_to_even() {
    let sketch = sketch_of(&[0, 1]);
    for (millionths, thousandths) in [(500, 0), (501, 1), (1500, 2), (2500, 2), (2501, 3)] {
        let q = Quantile::from_millionths(millionths).unwrap();
        assert_eq!(sketch.quantile_thousandths(q), Some(thousandths));
    }
}

#[test]
fn large_sketches_stay_within_a_thousandth() {
    for shape in 0..N_SHAPES {
        for (n, step) in [(257, 1), (300, 1), (2500, 20), (20_000, 100)] {
            let mut values = values_of(shape, n, shape + 17);
            let sketch = sketch_of(&values);
            values.sort_unstable();
            for q in thousandth_quantiles().step_by(step) {
                let exact = exact_millionths(&values, q);
                let got = BigUint::from(sketch.quantile_thousandths(q).unwrap()) * 1000_u32;
                let error = (&exact).max(&got) - (&exact).min(&got);
                // Half a thousandth of a unit by rounding, in millionths.
                assert!(
                    (error - error_of_rounding(&exact, &got)) * 1000_u32 <= exact,
                    "{shape} {n} {q}"
                );
            }
            assert_eq!(sketch.count(), values.len() as u64);
            assert_eq!(sketch.min(), values.first().copied());
            assert_eq!(sketch.max(), values.last().copied());
        }
    }
}

/// What of the distance between these may come from rounding to thousandths: at most half of
/// one, in millionths.
fn error_of_rounding(exact: &BigUint, got: &BigUint) -> BigUint {
    (exact.max(got) - exact.min(got)).min(BigUint::from(500_u32))
}

#[test]
fn the_form_in_memory_does_not_show() {
    for shape in 0..N_SHAPES {
        // The same values on ways that lead through other forms.
        let mut values = values_of(shape, 15_000, 99);
        let as_they_come = sketch_of(&values).to_bytes();
        values.sort_unstable();
        assert_eq!(sketch_of(&values).to_bytes(), as_they_come);
        let mut counted = Sketch::new();
        for run in values.chunk_by(|a, b| bucket_of(*a) == bucket_of(*b)) {
            // The extremes are exact, so the bucket's own values must not get lost.
            counted.record(run[0]);
            counted
                .record_n(run[run.len() - 1], run.len() as u64 - 1)
                .unwrap();
        }
        assert_eq!(counted.to_bytes(), as_they_come);
        values.reverse();
        assert_eq!(sketch_of(&values).to_bytes(), as_they_come);
    }
}

#[test]
fn one_far_value_does_not_make_a_dense_sketch_large() {
    let mut sketch = sketch_of(&[0; 299]);
    assert!(sketch.heap_size() < 200, "{}", sketch.heap_size());
    sketch.record(u64::MAX);
    assert!(sketch.heap_size() < 400, "{}", sketch.heap_size());
    for _ in 0..300_000 {
        sketch.record(7);
    }
    assert_eq!(sketch.count(), 300_300);
    assert_eq!(sketch.count_at_or_below(6), 299);
    assert_eq!(sketch.count_at_or_below(7), 300_299);
    assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(7000));
}

#[test]
fn few_values_of_any_width_are_kept_as_they_are() {
    let wide = u64::from(u32::MAX) + 1;
    let values = [7, wide - 1, 3, wide, 5, u64::MAX, wide - 1];
    for n in 0..=values.len() {
        let (one, other) = values.split_at(n);
        let mut sketch = sketch_of(one);
        sketch.merge_bytes(&sketch_of(other).to_bytes()).unwrap();
        let mut merged = sketch_of(other);
        merged.merge(&sketch_of(one)).unwrap();
        assert_eq!(sketch.to_bytes(), sketch_of(&values).to_bytes());
        assert_eq!(sketch, merged);
        assert_eq!((sketch.min(), sketch.max()), (Some(3), Some(u64::MAX)));
        let middle = u128::from(wide - 1) * 1000;
        assert_eq!(sketch.quantile_thousandths(Quantile::P50), Some(middle));
        assert_eq!(sketch.count_at_or_below(wide), 6);
    }
}

#[test]
fn sizes() {
    assert!(size_of::<Sketch>() <= 24);
    assert!(sketch_of(&[5]).heap_size() <= 4);
    assert!(sketch_of(&[5; 256]).heap_size() <= 4 * 256);
    for shape in 0..N_SHAPES {
        let few = sketch_of(&values_of(shape, 300, 5));
        assert!(few.heap_size() <= 2300, "{shape}: {}", few.heap_size());
        let read = Sketch::from_bytes(&few.to_bytes()).unwrap();
        assert!(read.heap_size() <= 2300, "{shape}: {}", read.heap_size());
        let many = sketch_of(&values_of(shape, 50_000, 6));
        assert!(many.heap_size() <= 500_000, "{shape}: {}", many.heap_size());
    }
}

#[test]
fn one_value_without_a_sketch() {
    for v in [0, 1, 127, 128, 1_000_000, u64::MAX] {
        let mut bytes = Vec::new();
        Sketch::write_single(v, &mut bytes);
        assert_eq!(bytes, sketch_of(&[v]).to_bytes());
    }
}

#[test]
fn the_bytes_are_pinned() {
    assert_eq!(sketch_of(&[300, 5, 5]).to_bytes(), [1, 3, 5, 0, 0xa7, 0x02]);
    // 256 times 0 and once 5000, which is in bucket 2 · 1024 + 5000 / 4 = 3298.
    let mut sketch = sketch_of(&[0; 256]);
    sketch.record(5000);
    let (count, max, n_skipped) = ([0x81, 0x02], [0x88, 0x27], [0xe1, 0x19]);
    let expected = [
        &[1][..],
        &count,
        &[0],
        &max,
        &[2],
        &[0],
        &[0xff, 0x01],
        &n_skipped,
        &[0],
    ];
    assert_eq!(sketch.to_bytes(), expected.concat());
}

#[test]
fn wrong_bytes_are_told_apart() {
    let varints = |numbers: &[u64]| {
        let mut bytes = vec![FORMAT_VERSION];
        for number in numbers {
            write_varint(*number, &mut bytes);
        }
        bytes
    };
    let read = |bytes: &[u8]| Sketch::from_bytes(bytes).map(drop);
    let read_all = |numbers: &[u64]| read(&varints(numbers));
    let mismatch = |found| {
        Err(SketchError::CountMismatch {
            expected: 257,
            found,
        })
    };
    let extreme = |extreme, value| Err(SketchError::Extreme { extreme, value });

    assert_eq!(read(&[]), Err(SketchError::Truncated));
    assert_eq!(read(&[2, 0]), Err(SketchError::Version { found: 2 }));
    assert_eq!(read(&[1]), Err(SketchError::Truncated));
    assert_eq!(read(&[1, 2, 0]), Err(SketchError::Truncated));
    assert_eq!(read(&[1, 0, 0]), Err(SketchError::Trailing { n_bytes: 1 }));
    assert_eq!(read(&[1, 0x80, 0]), Err(SketchError::NotShortest));
    assert_eq!(
        read(&[&[1, 1][..], &[0x80; 10], &[0]].concat()),
        Err(SketchError::Overflow)
    );
    assert_eq!(
        read(&[&[1, 1][..], &[0xff; 9], &[2]].concat()),
        Err(SketchError::Overflow)
    );
    assert_eq!(read(&[&[1, 1][..], &[0xff; 9], &[1]].concat()), Ok(()));
    assert_eq!(read_all(&[2, u64::MAX, 1]), Err(SketchError::Overflow));
    // Count, minimum, distance of the maximum, bins; for each bin the skipped, the count less one.
    assert_eq!(read_all(&[257, 7, 0, 1, 7, 256]), Ok(()));
    assert_eq!(
        read_all(&[257, 7, u64::MAX, 1, 7, 256]),
        Err(SketchError::Overflow)
    );
    assert_eq!(
        read_all(&[257, 7, 0, 2, 7, 256]),
        Err(SketchError::Truncated)
    );
    assert_eq!(
        read_all(&[257, 7, 0, u64::MAX, 7, 256]),
        Err(SketchError::Truncated)
    );
    assert_eq!(
        read_all(&[257, 7, 0, 1, 7, 256, 0]),
        Err(SketchError::Trailing { n_bytes: 1 })
    );
    assert_eq!(read_all(&[257, 7, 0, 1, 7, 255]), mismatch(256));
    assert_eq!(read_all(&[257, 7, 0, 0]), mismatch(0));
    assert_eq!(read_all(&[257, 6, 1, 1, 7, 256]), extreme("minimum", 6));
    assert_eq!(read_all(&[257, 7, 1, 1, 7, 256]), extreme("maximum", 8));
    assert_eq!(
        read_all(&[257, 7, 0, 1, 56_320, 256]),
        Err(SketchError::Bucket)
    );
    assert_eq!(
        read_all(&[257, 7, 0, 2, 56_319, 0, 0, 255]),
        Err(SketchError::Bucket)
    );
    assert_eq!(
        read_all(&[257, 7, 0, 2, 7, 0, u64::MAX, 0]),
        Err(SketchError::Bucket)
    );
    assert_eq!(
        read_all(&[257, 7, 0, 1, 7, u64::MAX]),
        Err(SketchError::Overflow)
    );
    assert_eq!(
        read_all(&[COUNT_MAX + 1, 7, 0, 1, 7, COUNT_MAX]),
        Err(SketchError::Count)
    );
}

#[test]
fn a_count_never_passes_its_limit() {
    let mut sketch = Sketch::new();
    sketch.record_n(3000, COUNT_MAX - 1).unwrap();
    let bytes = sketch.to_bytes();
    assert_eq!(Sketch::from_bytes(&bytes), Ok(sketch.clone()));
    assert_eq!(sketch.quantile_thousandths(Quantile::P99), Some(3_000_000));
    assert_eq!(sketch.record_n(1, 2), Err(SketchError::Count));
    assert_eq!(sketch.record_n(1, u64::MAX), Err(SketchError::Count));
    assert_eq!(sketch.merge(&sketch_of(&[1, 2])), Err(SketchError::Count));
    assert_eq!(sketch.merge_bytes(&bytes), Err(SketchError::Count));
    assert_eq!(sketch.to_bytes(), bytes);
    sketch.record_n(u64::MAX, 1).unwrap();
    assert_eq!(sketch.count(), COUNT_MAX);
    assert_eq!(sketch.max(), Some(u64::MAX));
}

/// Bytes that are read are the ones that are written; bytes that are refused change nothing.
fn check_foreign(bytes: &[u8]) {
    match Sketch::from_bytes(bytes) {
        Ok(read) => {
            assert_eq!(read.to_bytes(), bytes);
            let _ = (
                read.quantile_thousandths(Quantile::P99),
                read.count_at_or_below(1000),
            );
        }
        Err(error) => {
            let mut sketch = sketch_of(&[1, 2, 3]);
            assert_eq!(sketch.merge_bytes(bytes), Err(error));
            assert_eq!(sketch, sketch_of(&[1, 2, 3]));
        }
    }
}

#[test]
fn mutated_bytes_are_refused_or_kept() {
    let mut numbers = Numbers(3);
    for shape in 0..N_SHAPES {
        for n in [3, 300] {
            let bytes = sketch_of(&values_of(shape, n, 8)).to_bytes();
            for n_kept in 0..bytes.len() {
                assert!(Sketch::from_bytes(&bytes[..n_kept]).is_err());
            }
            for _ in 0..300 {
                let mut mutated = bytes.clone();
                for _ in 0..=numbers.below(3) {
                    let at = usize::try_from(numbers.below(mutated.len() as u64)).unwrap();
                    match numbers.below(4) {
                        0 => mutated.insert(at, 0x80),
                        1 if mutated.len() > 1 => drop(mutated.remove(at)),
                        2 => mutated[at] ^= 1 << numbers.below(8),
                        _ => mutated[at] = numbers.next().to_le_bytes()[0],
                    }
                }
                check_foreign(&mutated);
            }
        }
    }
}

#[test]
fn counts_beyond_32_bits() {
    let n_most = u64::from(u32::MAX);
    let mut sketch = sketch_of(&values_of(0, 2000, 3));
    let mut other = sketch.clone();
    for value in [5, 700] {
        sketch.record_n(value, n_most + 3).unwrap();
        other.record_n(value, n_most - 1).unwrap();
        other.record_all(&[value; 3]);
        other.record(value);
    }
    assert_eq!(sketch.to_bytes(), other.to_bytes());
    sketch.merge(&other).unwrap();
    let read = Sketch::from_bytes(&sketch.to_bytes()).unwrap();
    assert_eq!(read.count(), 2 * 2000 + 4 * (n_most + 3));
    assert_eq!(read, sketch);
    other.merge(&other.clone()).unwrap();
    assert_eq!(read.to_bytes(), other.to_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn up_to_256_values_are_exact(
        values in prop_oneof![
            vec(any::<u64>(), 1..=EXACT_MAX),
            vec(0..100_000_000_u64, 1..=EXACT_MAX),
        ],
        millionths in vec(0..=1_000_000_u32, 20),
    ) {
        let sketch = sketch_of(&values);
        prop_assert!(sketch.is_exact());
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let standard = [Quantile::P50, Quantile::P90, Quantile::P95, Quantile::P99];
        for q in millionths.into_iter().filter_map(Quantile::from_millionths).chain(standard) {
            let expected = to_thousandths(&exact_millionths(&sorted, q));
            prop_assert_eq!(sketch.quantile_thousandths(q), Some(expected));
        }
        for threshold in &values {
            let expected = values.iter().filter(|v| *v <= threshold).count() as u64;
            prop_assert_eq!(sketch.count_at_or_below(*threshold), expected);
        }
    }

    #[test]
    fn values_many_times_are_values_added_so_often(values in any_values(), n in 0..4_u64) {
        let sketch = sketch_of(&values);
        let mut sum = Sketch::new();
        for _ in 0..n {
            sum.merge(&sketch).unwrap();
        }
        prop_assert_eq!(sketch.times(n).unwrap().to_bytes(), sum.to_bytes());
    }

    #[test]
    fn a_share_counts_a_bucket_by_its_middle(
        values in any_values(),
        thresholds in vec(any::<u64>(), 8),
    ) {
        let sketch = sketch_of(&values);
        let near = values.iter().take(20);
        let near = near.flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]);
        let stands_for = |v| if sketch.is_exact() { v } else { bucket_middle(bucket_of(v)) };
        for threshold in thresholds.into_iter().chain(near) {
            let expected = match (sketch.min(), sketch.max()) {
                (Some(min), _) if threshold < min => 0,
                (_, Some(max)) if threshold >= max => sketch.count(),
                _ => values.iter().filter(|v| stands_for(**v) <= threshold).count() as u64,
            };
            prop_assert_eq!(sketch.count_at_or_below(threshold), expected);
        }
    }

    #[test]
    fn quantiles_do_not_fall(
        values in any_values(),
        mut millionths in vec(0..=1_000_000_u32, 50),
    ) {
        let sketch = sketch_of(&values);
        millionths.sort_unstable();
        let quantiles: Vec<_> = millionths
            .into_iter()
            .filter_map(Quantile::from_millionths)
            .map(|q| sketch.quantile_thousandths(q))
            .collect();
        prop_assert!(quantiles.is_sorted());
        prop_assert!(values.is_empty() || quantiles.iter().all(Option::is_some));
    }

    #[test]
    fn merging_is_a_commutative_monoid(
        a in any_values(), b in any_values(), c in any_values(),
    ) {
        let [a, b, c] = [a, b, c].map(|values| sketch_of(&values));
        let merged = |left: &Sketch, right: &Sketch| {
            let mut left = left.clone();
            left.merge(right).unwrap();
            left
        };
        prop_assert_eq!(merged(&a, &b).to_bytes(), merged(&b, &a).to_bytes());
        let left_first = merged(&merged(&a, &b), &c);
        let right_first = merged(&a, &merged(&b, &c));
        prop_assert_eq!(left_first.to_bytes(), right_first.to_bytes());
        prop_assert_eq!(merged(&a, &Sketch::new()).to_bytes(), a.to_bytes());
        prop_assert_eq!(merged(&Sketch::new(), &a).to_bytes(), a.to_bytes());
    }

    #[test]
    fn any_split_gives_the_bytes_of_one_pass(
        values in any_values(), more in any_values(), n_parts in 1..9_usize, seed: u64,
    ) {
        let values = [values, more].concat();
        let mut numbers = Numbers(seed);
        let mut parts = vec![Sketch::new(); n_parts];
        for v in &values {
            let part = usize::try_from(numbers.below(n_parts as u64)).unwrap();
            parts[part].record(*v);
        }
        let (mut by_merge, mut by_bytes) = (Sketch::new(), Sketch::new());
        for part in &parts {
            by_merge.merge(part).unwrap();
            by_bytes.merge_bytes(&part.to_bytes()).unwrap();
        }
        let one_pass = sketch_of(&values).to_bytes();
        let mut several_at_once = Sketch::new();
        for some in values.chunks(n_parts * n_parts * 37) {
            several_at_once.record_all(some);
        }
        prop_assert_eq!(&several_at_once.to_bytes(), &one_pass);
        prop_assert_eq!(&by_merge.to_bytes(), &one_pass);
        prop_assert_eq!(&by_bytes.to_bytes(), &one_pass);
        let read = Sketch::from_bytes(&one_pass).unwrap();
        prop_assert_eq!(&read.to_bytes(), &one_pass);
        prop_assert_eq!(read.min(), values.iter().min().copied());
        prop_assert_eq!(read.max(), values.iter().max().copied());
        prop_assert_eq!(read.count(), values.len() as u64);
        prop_assert_eq!(read, by_merge);
    }

    #[test]
    fn random_bytes_do_not_panic(
        bytes in vec(any::<u8>(), 0..60),
        numbers in vec(prop_oneof![0..4_u64, 250..260_u64, any::<u64>()], 0..10),
    ) {
        check_foreign(&bytes);
        let mut versioned = vec![FORMAT_VERSION];
        versioned.extend(&bytes);
        check_foreign(&versioned);
        versioned.truncate(1);
        for number in numbers {
            write_varint(number, &mut versioned);
        }
        check_foreign(&versioned);
    }
}

proptest! {
    // A whole histogram of the crate has 440 KiB.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_crate_gets_the_same_buckets(values in any_values()) {
        let ours = sketch_of(&values).to_hdr().unwrap();
        let mut theirs =
            Histogram::<u64>::new_with_bounds(1, u64::MAX, SIGNIFICANT_DIGITS).unwrap();
        for v in &values {
            theirs.record(*v).unwrap();
        }
        // A failure must not print 56 320 counts.
        prop_assert!(ours == theirs);
    }
}
