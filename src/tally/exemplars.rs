//! Which run stands for a value of a distribution: of each bucket of the recorded values the run with the
//! smallest id.
//!
//! In come values, as a [`Sketch`] records them, with the 128 bits of their runs' ids; out goes the id near
//! a quantile. All depends on the multiset of these alone, so exemplars are a commutative monoid under
//! [`Exemplars::merge`]. Knows neither arrow nor plans.

pub use super::bytes::BytesError;
use super::bytes::{after_version, check_end, count, make_room};
use super::sketch::{Quantile, Sketch, bucket_of};
use super::varint::{Reader, write_varint};

/// The first byte of all bytes: the buckets and the format itself.
pub const FORMAT_VERSION: u8 = 1;

/// The bytes of an id, the highest first: so they compare as the id does, and pack.
type Id = [u8; 16];

/// The smallest id in each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemplars {
    /// Rising by their buckets, one each.
    entries: Vec<(u16, Id)>,
}

impl Exemplars {
    /// Those of no values. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds a run and its value.
    #[inline]
    pub fn record(&mut self, value: u64, id: u128) {
        self.add(bucket_of(value), id.to_be_bytes());
    }

    /// Adds all of others.
    pub fn merge(&mut self, other: &Self) {
        let entries = other.entries.iter();
        entries.for_each(|(bucket, id)| self.add(*bucket, *id));
    }

    /// Adds all of those with these bytes.
    ///
    /// # Errors
    ///
    /// Where they are none; then nothing is added.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), BytesError> {
        let mut reader = after_version(bytes, FORMAT_VERSION)?;
        let n = count(&mut reader, 1 + size_of::<Id>())?;
        let mut entries = reader.clone();
        read_entries(&mut reader, n).try_for_each(|entry| entry.map(drop))?;
        check_end(&reader)?;
        // All was checked: flattening drops nothing.
        let entries = read_entries(&mut entries, n).flatten();
        entries.for_each(|(bucket, id)| self.add(bucket, id));
        Ok(())
    }

    /// Appends the bytes: the version, the number of entries, and of each the number of buckets skipped
    /// before it and its id. Equal exemplars have exactly one such string.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        write_varint(self.entries.len() as u64, out);
        let mut next = 0;
        for (bucket, id) in &self.entries {
            write_varint(u64::from(bucket.wrapping_sub(next)), out);
            out.extend_from_slice(id);
            next = bucket.wrapping_add(1);
        }
    }

    /// The bytes of these exemplars.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// The exemplars with these bytes; they have the same bytes again.
    ///
    /// # Errors
    ///
    /// Where they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        let mut exemplars = Self::new();
        exemplars.merge_bytes(bytes)?;
        Ok(exemplars)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The id in the bucket of the order statistic nearest to a quantile of the sketch of the same values;
    /// where nothing was recorded in it, that of the next bucket above that has one, else of the last.
    /// `None` where there are no values or no exemplars.
    #[must_use]
    pub fn id_at(&self, sketch: &Sketch, q: Quantile) -> Option<u128> {
        let wanted = sketch.bucket_near(q)?;
        let place = self.place_of(wanted).unwrap_or_else(|place| place);
        let entry = self.entries.get(place).or(self.entries.last());
        entry.map(|(_, id)| u128::from_be_bytes(*id))
    }

    /// Bytes on the heap, by capacity.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        size_of::<(u16, Id)>() * self.entries.capacity()
    }

    #[inline]
    fn add(&mut self, bucket: u16, id: Id) {
        match self.place_of(bucket) {
            Ok(place) => {
                if let Some((_, smallest)) = self.entries.get_mut(place) {
                    *smallest = id.min(*smallest);
                }
            }
            Err(place) => {
                make_room(&mut self.entries);
                self.entries.insert(place, (bucket, id));
            }
        }
    }

    fn place_of(&self, bucket: u16) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&bucket, |(bucket, _)| *bucket)
    }
}

/// The entries, rising by their buckets.
fn read_entries(
    reader: &mut Reader<'_>,
    n: usize,
) -> impl Iterator<Item = Result<(u16, Id), BytesError>> {
    let mut next = 0_u16;
    (0..n).map(move |_| {
        let n_skipped = u16::try_from(reader.varint()?).ok();
        let bucket = n_skipped.and_then(|n_skipped| next.checked_add(n_skipped));
        let bucket = bucket.filter(|bucket| *bucket <= bucket_of(u64::MAX));
        let bucket = bucket.ok_or(BytesError::Wrong {
            what: "a bucket that no value falls into",
        })?;
        next = bucket + 1;
        let id = reader.take(size_of::<Id>());
        let id = id.and_then(|id| id.as_array().copied());
        Ok((bucket, id.ok_or(BytesError::Truncated)?))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn of(runs: &[(u64, u128)]) -> Exemplars {
        let mut exemplars = Exemplars::new();
        for (value, id) in runs {
            exemplars.record(*value, *id);
        }
        exemplars
    }

    fn sketch_of(values: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::new();
        values.into_iter().for_each(|value| sketch.record(value));
        sketch
    }

    #[test]
    fn the_nearest_order_statistic_decides() {
        let runs = [(10, 1), (20, 2), (30, 3), (40, 4)];
        let exemplars = of(&runs);
        let sketch = sketch_of(runs.map(|(value, _)| value));
        for (percentile, id) in [
            ("0", 1),
            // At 0.48 and at 0.51 of the way from the first to the second.
            ("16", 1),
            ("17", 2),
            // Halfway, which is the upper one's.
            ("50", 3),
            ("100", 4),
        ] {
            let found = exemplars.id_at(&sketch, percentile.parse().unwrap());
            assert_eq!(found, Some(id), "{percentile}");
        }
        assert_eq!(exemplars.id_at(&Sketch::new(), Quantile::P50), None);
        assert_eq!(Exemplars::new().id_at(&sketch, Quantile::P50), None);
    }

    #[test]
    fn the_smallest_id_of_a_bucket_stays() {
        // 10 000 and 10 001 share a bucket, 10 010 has another.
        let exemplars = of(&[(10_001, 7), (10_000, 9), (10_010, 1)]);
        let sketch = sketch_of([10_000, 10_001, 10_010]);
        assert_eq!(exemplars.id_at(&sketch, Quantile::P50), Some(7));
        assert_eq!(exemplars.id_at(&sketch, Quantile::P99), Some(1));
    }

    #[test]
    fn a_bucket_without_a_run_gives_the_next_above_else_the_last() {
        let exemplars = of(&[(10, 1), (30, 3)]);
        for (value, id) in [(5, 1), (10, 1), (11, 3), (30, 3), (31, 3)] {
            let sketch = sketch_of([value]);
            assert_eq!(exemplars.id_at(&sketch, Quantile::P50), Some(id), "{value}");
        }
    }

    #[test]
    fn a_quantile_of_many_values_finds_their_bucket() {
        let runs: Vec<(u64, u128)> = (0..100_000).map(|n| (n, n.into())).collect();
        let sketch = sketch_of(runs.iter().map(|(value, _)| *value));
        let id = of(&runs).id_at(&sketch, Quantile::P90).unwrap();
        assert_eq!(bucket_of(id.try_into().unwrap()), bucket_of(89_999));
    }

    #[test]
    fn other_bytes_are_refused() {
        let bytes = of(&[(10, 1), (u64::MAX, u128::MAX)]).to_bytes();
        for end in 0..bytes.len() {
            assert!(Exemplars::from_bytes(&bytes[..end]).is_err());
        }
        let more = [bytes.as_slice(), &[0]].concat();
        let trailing = BytesError::Trailing { n_bytes: 1 };
        assert_eq!(Exemplars::from_bytes(&more), Err(trailing));
        let beyond = [vec![1, 1, 0x80, 0xb8, 3], vec![0; 16]].concat();
        let error = Exemplars::from_bytes(&beyond).unwrap_err().to_string();
        assert_eq!(error, "bytes hold a bucket that no value falls into");
        let version = Exemplars::from_bytes(&[9, 0]).unwrap_err().to_string();
        assert_eq!(version, "bytes have format version 9, expected 1");
    }

    fn runs() -> impl Strategy<Value = Vec<(u64, u128)>> {
        vec(
            (prop_oneof![0..5000_u64, any::<u64>()], 0..1000_u128),
            0..60,
        )
    }

    proptest! {
        #[test]
        fn any_order_and_split_gives_the_same_bytes(mut parts in vec(runs(), 1..5)) {
            let runs = parts.concat();
            let whole = of(&runs);
            let mut smallest = BTreeMap::new();
            for (value, id) in runs {
                let least = smallest.entry(bucket_of(value)).or_insert(id);
                *least = id.min(*least);
            }
            let naive = smallest.into_iter().map(|(bucket, id)| (bucket, id.to_be_bytes()));
            prop_assert_eq!(&whole.entries, &naive.collect::<Vec<_>>());
            parts.reverse();
            let (mut merged, mut from_bytes) = (Exemplars::new(), Exemplars::new());
            for part in &parts {
                merged.merge(&of(part));
                from_bytes.merge_bytes(&of(part).to_bytes()).unwrap();
            }
            prop_assert_eq!(merged.to_bytes(), whole.to_bytes());
            prop_assert_eq!(from_bytes, whole);
        }

        #[test]
        fn bytes_that_are_taken_are_given_back(
            runs in runs(),
            place: prop::sample::Index,
            byte: u8,
        ) {
            let mut bytes = of(&runs).to_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(exemplars) = Exemplars::from_bytes(&bytes) {
                prop_assert_eq!(exemplars.to_bytes(), bytes);
            }
        }
    }
}
