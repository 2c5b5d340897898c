//! The histogram that a sketch becomes beyond its exact values: counts of buckets, with the exact
//! extremes.
//!
//! Few counts are kept sparse, many dense, whichever is smaller; nothing that comes out shows which.
//! That counts add up within their limit is for the caller to see to.

use std::borrow::Cow;
use std::mem;

use super::bucket::{BUCKET_MAX, bucket_middle, bucket_of};
use crate::cpu::fastest;

/// A histogram becomes dense where it has this many values for each bucket from its smallest to
/// its largest value: then at most two bytes a value. A sparse one so has less than 2 · 56 320
/// values and a few pending ones.
const DENSE_FROM: u64 = 2;
/// A dense histogram that must reach further becomes sparse where it has less values than this for
/// each bucket. Below [`DENSE_FROM`], so that a group at the edge does not go to and fro.
const DENSE_UNTIL: u64 = 1;
/// So many values may wait to be sorted into a sparse histogram, ...
const PENDING_MIN: usize = 512;
/// ... and, where that is more, so many for each bucket, which bounds the work for each value; they take two
/// bytes each.
const PENDING_PER_BIN: usize = 4;
/// There is room for so many first.
const FEW_PENDING: usize = 64;
/// Bins get places, and need not come in order, where there are no more places than this for each.
const PLACES_A_BIN: usize = 16;
/// A dense histogram that must reach further gets one bucket more for so many that it needs, ...
const SLACK_DIVISOR: u16 = 8;
/// ... and these, so that widening step by step stays cheap.
const SLACK_MIN: u16 = 16;

/// A histogram with exact extremes. The bins hold all of `count` values, none outside the buckets
/// of `min` to `max`.
#[derive(Clone, Debug)]
pub(super) struct Hdr {
    pub(super) count: u64,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) bins: Bins,
}

impl Hdr {
    pub(super) fn of(mut values: &[u64]) -> Self {
        let mut hdr = Self {
            count: 0,
            min: u64::MAX,
            max: 0,
            bins: Bins::Sparse(Sparse::default()),
        };
        while !values.is_empty() {
            values = hdr.record_some(values);
        }
        hdr.choose_form();
        hdr
    }

    #[inline]
    pub(super) fn record(&mut self, v: u64) {
        let bucket = bucket_of(v);
        // Counts from outside are held to half of u64; no process lives to record the other half
        // one by one.
        self.count += 1;
        self.min = self.min.min(v);
        self.max = self.max.max(v);
        if let Bins::Dense(dense) = &mut self.bins
            && dense.record(bucket)
        {
            return;
        }
        self.place(bucket);
    }

    /// Adds one value or more of some, and gives the others.
    pub(super) fn record_some<'v>(&mut self, values: &'v [u64]) -> &'v [u64] {
        let n_counted = match &mut self.bins {
            Bins::Sparse(sparse) => fastest!(sparse.wait_for(values)),
            Bins::Dense(dense) => fastest!({
                let counted = values.iter();
                let counted = counted.take_while(|value| dense.record(bucket_of(**value)));
                counted.count()
            }),
        };
        let (counted, others) = values.split_at(n_counted);
        self.count += counted.len() as u64;
        (self.min, self.max) = fastest!({
            counted
                .iter()
                .fold((self.min, self.max), |(min, max), value| {
                    (min.min(*value), max.max(*value))
                })
        });
        let Some((next, others)) = others.split_first() else {
            return others;
        };
        self.record(*next);
        others
    }

    /// Adds `n` values with these extremes, whose bins come in rising order.
    pub(super) fn add(
        &mut self,
        n: u64,
        min: u64,
        max: u64,
        bins: impl Iterator<Item = (u16, u64)>,
    ) {
        self.widen(n, min, max);
        match &mut self.bins {
            Bins::Sparse(sparse) => sparse.add(bins, Reach::of(self.min, self.max)),
            Bins::Dense(dense) => dense.add(bins),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.widen(other.count, other.min, other.max);
        let reach = Reach::of(self.min, self.max);
        match (&mut self.bins, &other.bins) {
            (Bins::Dense(own), other) => own.add(other.iter()),
            (Bins::Sparse(own), Bins::Dense(other)) => own.add(other.iter(), reach),
            (Bins::Sparse(own), Bins::Sparse(other)) => own.merge(other, reach),
        }
    }

    /// The middles of the buckets that hold the values of these two ranks, `low` at most `high`,
    /// both below the count.
    pub(super) fn middles_at(&self, low: u64, high: u64) -> (u64, u64) {
        let bins = self.settled();
        let mut bins = bins.iter();
        let mut n_seen = 0;
        let mut middle = self.max;
        let mut middle_at = |rank| {
            if n_seen <= rank {
                let found = bins.find(|(_, n)| {
                    n_seen += n;
                    n_seen > rank
                });
                middle = found.map_or(middle, |(bucket, _)| bucket_middle(bucket));
            }
            middle
        };
        (middle_at(low), middle_at(high))
    }

    pub(super) fn count_at_or_below(&self, threshold: u64) -> u64 {
        if threshold < self.min {
            return 0;
        }
        if threshold >= self.max {
            return self.count;
        }
        let bins = self.bins.iter();
        bins.filter(|(bucket, _)| bucket_middle(*bucket) <= threshold)
            .map(|(_, n)| n)
            .sum()
    }

    /// Finds a place for a value, already counted in, that has no dense count yet.
    fn place(&mut self, bucket: u16) {
        match &mut self.bins {
            Bins::Sparse(sparse) => {
                if sparse.wait(bucket) {
                    sparse.settle(Reach::of(self.min, self.max));
                    self.choose_form();
                }
            }
            Bins::Dense(_) => {
                self.choose_form();
                match &mut self.bins {
                    Bins::Sparse(sparse) => sparse.pending.push(bucket),
                    Bins::Dense(dense) => dense.add(std::iter::once((bucket, 1))),
                }
            }
        }
    }

    /// Announces values whose bins are about to be added.
    fn widen(&mut self, n: u64, min: u64, max: u64) {
        self.count += n;
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.choose_form();
    }

    /// Gives the bins the form that count and extremes call for, with room for all between these.
    fn choose_form(&mut self) {
        let Reach { first, last } = Reach::of(self.min, self.max);
        let span = u64::from(last.saturating_sub(first)) + 1;
        match &mut self.bins {
            Bins::Sparse(_) if self.count >= DENSE_FROM * span => {
                let mut dense = Dense::over(first, last);
                dense.add(self.bins.iter());
                self.bins = Bins::Dense(dense);
            }
            Bins::Dense(dense) if !dense.reaches(first, last) => {
                if self.count >= DENSE_UNTIL * span {
                    dense.reach(first, last);
                } else {
                    self.bins = Bins::Sparse(Sparse::of(dense.iter()));
                }
            }
            Bins::Sparse(_) | Bins::Dense(_) => {}
        }
    }

    /// The bins with nothing pending, so that each bucket comes once and in rising order.
    pub(super) fn settled(&self) -> Cow<'_, Bins> {
        match &self.bins {
            Bins::Sparse(sparse) if !sparse.pending.is_empty() => {
                Cow::Owned(Bins::Sparse(sparse.settled(Reach::of(self.min, self.max))))
            }
            Bins::Sparse(_) | Bins::Dense(_) => Cow::Borrowed(&self.bins),
        }
    }
}

/// The buckets that bins may be of.
#[derive(Clone, Copy)]
struct Reach {
    first: u16,
    last: u16,
}

impl Reach {
    /// Those from one value to another.
    fn of(min: u64, max: u64) -> Self {
        Self {
            first: bucket_of(min),
            last: bucket_of(max),
        }
    }
}

/// The buckets' counts.
#[derive(Clone, Debug)]
pub(super) enum Bins {
    Sparse(Sparse),
    Dense(Dense),
}

impl Bins {
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Sparse(sparse) => {
                size_of::<u16>() * (sparse.buckets.capacity() + sparse.pending.capacity())
                    + size_of::<u32>() * sparse.counts.capacity()
            }
            Self::Dense(dense) => {
                size_of::<u32>() * dense.counts.capacity()
                    + size_of::<(u16, u64)>() * dense.carried.capacity()
            }
        }
    }

    /// How many there are, where nothing is pending.
    pub(super) fn n_settled(&self) -> usize {
        match self {
            Self::Sparse(sparse) => sparse.buckets.len(),
            Self::Dense(dense) => dense.iter().count(),
        }
    }

    /// Every bucket that is not empty with its count; a pending value is a bin of its own, last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        let (sparse, dense) = match self {
            Self::Sparse(sparse) => (Some(sparse), None),
            Self::Dense(dense) => (None, Some(dense)),
        };
        let sparse = sparse.into_iter().flat_map(Sparse::iter);
        sparse.chain(dense.into_iter().flat_map(Dense::iter))
    }
}

/// Few of the buckets: six bytes each, and values that wait to be sorted in.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    /// Rising.
    buckets: Vec<u16>,
    /// One for each of `buckets`, none zero.
    counts: Vec<u32>,
    /// Buckets of single values, in order of arrival.
    pending: Vec<u16>,
}

impl Sparse {
    fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.settled_bins()
            .chain(self.pending.iter().map(|bucket| (*bucket, 1)))
    }

    fn settled_bins(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.counts.iter().copied().map(u64::from);
        self.buckets.iter().copied().zip(counts)
    }

    /// Takes note of a value; `true` where it is time to settle.
    fn wait(&mut self, bucket: u16) -> bool {
        self.make_room(1);
        self.pending.push(bucket);
        self.n_free() == 0
    }

    /// Takes note of values until one would make it time to settle; gives their number.
    #[inline]
    fn wait_for(&mut self, values: &[u64]) -> usize {
        let n_waiting = values.len().min(self.n_free().saturating_sub(1));
        self.make_room(n_waiting);
        let waiting = values.iter().take(n_waiting);
        self.pending.extend(waiting.copied().map(bucket_of));
        n_waiting
    }

    /// How many more values may wait.
    fn n_free(&self) -> usize {
        let limit = PENDING_MIN.max(self.buckets.len() * PENDING_PER_BIN);
        limit.saturating_sub(self.pending.len())
    }

    /// Makes room for so many more values to wait, of those that may.
    #[inline]
    fn make_room(&mut self, n: usize) {
        let n_waiting = self.pending.len();
        if n > self.pending.capacity() - n_waiting {
            let n_more = self.n_free().min(n_waiting.max(FEW_PENDING));
            self.pending.reserve_exact(n.max(n_more));
        }
    }

    /// Sorts in what waits.
    fn settle(&mut self, reach: Reach) {
        let settled = self.settled(reach);
        self.pending.clear();
        let pending = mem::take(&mut self.pending);
        *self = Self { pending, ..settled };
    }

    /// The same with nothing pending.
    fn settled(&self, reach: Reach) -> Self {
        if let Some(mut places) = Places::of(self, 0, reach) {
            self.pending
                .iter()
                .for_each(|bucket| places.add(*bucket, 1));
            return places.bins();
        }
        let mut pending = self.pending.clone();
        sort(&mut pending);
        self.merged(runs_of(&pending))
    }

    fn merge(&mut self, other: &Self, reach: Reach) {
        if !other.buckets.is_empty() {
            self.add(other.settled_bins(), reach);
        }
        let mut pending = other.pending.as_slice();
        while !pending.is_empty() {
            let (waiting, others) = pending.split_at(pending.len().min(self.n_free()));
            self.make_room(waiting.len());
            self.pending.extend_from_slice(waiting);
            if self.n_free() == 0 {
                self.settle(reach);
            }
            pending = others;
        }
    }

    /// Adds bins in rising order, within this reach as all that are there.
    fn add(&mut self, more: impl Iterator<Item = (u16, u64)>, reach: Reach) {
        let pending = mem::take(&mut self.pending);
        let sum = if self.buckets.is_empty() {
            Self::of(more)
        } else if let Some(mut places) = Places::of(self, more.size_hint().0, reach) {
            more.for_each(|(bucket, n)| places.add(bucket, n));
            places.bins()
        } else {
            self.merged(more)
        };
        *self = Self { pending, ..sum };
    }

    /// Of bins in rising order.
    fn of(bins: impl Iterator<Item = (u16, u64)>) -> Self {
        let (buckets, counts) = bins.map(|(bucket, n)| (bucket, narrow(n))).unzip();
        let mut sparse = Self {
            buckets,
            counts,
            pending: Vec::new(),
        };
        sparse.shrink_to_fit();
        sparse
    }

    /// The bins that are settled with others in rising order.
    fn merged(&self, more: impl Iterator<Item = (u16, u64)>) -> Self {
        let n_bins = self.buckets.len() + more.size_hint().0;
        let mut merged = Self {
            buckets: Vec::with_capacity(n_bins),
            counts: Vec::with_capacity(n_bins),
            pending: Vec::new(),
        };
        let mut own = self.settled_bins();
        let mut next = own.next();
        more.for_each(|(bucket, mut n)| {
            while let Some((before, own_n)) = next
                && before < bucket
            {
                merged.push(before, own_n);
                next = own.next();
            }
            if let Some((same, own_n)) = next
                && same == bucket
            {
                n += own_n;
                next = own.next();
            }
            merged.push(bucket, n);
        });
        let rest = next.into_iter().chain(own);
        rest.for_each(|(bucket, n)| merged.push(bucket, n));
        merged.shrink_to_fit();
        merged
    }

    fn shrink_to_fit(&mut self) {
        self.buckets.shrink_to_fit();
        self.counts.shrink_to_fit();
    }

    fn push(&mut self, bucket: u16, n: u64) {
        self.buckets.push(bucket);
        self.counts.push(narrow(n));
    }
}

/// Bins on their way to be sparse ones: each has a place, so that others may come in any order.
struct Places {
    first: u16,
    counts: Vec<u32>,
    /// A bit for each place that is taken.
    taken: Vec<u64>,
}

impl Places {
    /// Those that are settled, with room for so many more and what is pending, where that is not too sparse.
    fn of(sparse: &Sparse, n_more: usize, reach: Reach) -> Option<Self> {
        let n_places = usize::from(reach.last.saturating_sub(reach.first)) + 1;
        let n_bins = sparse.buckets.len() + sparse.pending.len() + n_more;
        if n_places > PLACES_A_BIN * n_bins {
            return None;
        }
        let mut places = Self {
            first: reach.first,
            counts: vec![0; n_places],
            taken: vec![0; n_places.div_ceil(64)],
        };
        let bins = sparse.settled_bins();
        bins.for_each(|(bucket, n)| places.add(bucket, n));
        Some(places)
    }

    #[inline]
    fn add(&mut self, bucket: u16, n: u64) {
        let place = usize::from(bucket.wrapping_sub(self.first));
        if let (Some(count), Some(taken)) =
            (self.counts.get_mut(place), self.taken.get_mut(place / 64))
        {
            *count = count.saturating_add(narrow(n));
            *taken |= 1 << (place % 64);
        }
    }

    /// The bins in rising order.
    fn bins(&self) -> Sparse {
        fastest!({
            let n_bins = self.taken.iter().map(|word| word.count_ones() as usize);
            let mut buckets = Vec::with_capacity(n_bins.sum());
            for (word, first) in self.taken.iter().zip((self.first..).step_by(64)) {
                let mut left = *word;
                while let Ok(place @ ..64) = u16::try_from(left.trailing_zeros()) {
                    buckets.push(first + place);
                    left &= left - 1;
                }
            }
            let places = buckets
                .iter()
                .map(|bucket| usize::from(bucket - self.first));
            let counts = places.map(|place| self.counts.get(place).copied().unwrap_or_default());
            Sparse {
                counts: counts.collect(),
                buckets,
                pending: Vec::new(),
            }
        })
    }
}

/// A count for every bucket of a range.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// The bucket of the first count.
    first: u16,
    /// The lower halves of the counts; never empty.
    counts: Vec<u32>,
    /// The buckets of which the upper half is not zero, with what that stands for.
    carried: Vec<(u16, u64)>,
}

impl Dense {
    fn over(first: u16, last: u16) -> Self {
        let n_buckets = usize::from(last.saturating_sub(first)) + 1;
        Self {
            first,
            counts: vec![0; n_buckets],
            carried: Vec::new(),
        }
    }

    /// The bins that are not empty.
    fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        let bins = (self.first..).zip(self.counts.iter().copied().map(u64::from));
        let bins = bins.map(|(bucket, low)| (bucket, low + self.carried_of(bucket)));
        bins.filter(|(_, n)| *n > 0)
    }

    fn carried_of(&self, bucket: u16) -> u64 {
        let mut carried = self.carried.iter();
        let carried = carried.find(|(other, _)| *other == bucket);
        carried.map_or(0, |(_, n)| *n)
    }

    /// Counts a value; `false` where it is out of reach.
    #[inline]
    fn record(&mut self, bucket: u16) -> bool {
        // A bucket before the first wraps to beyond the last: there are less than 2¹⁶ buckets.
        let place = usize::from(bucket.wrapping_sub(self.first));
        let Some(count) = self.counts.get_mut(place) else {
            return false;
        };
        match count.checked_add(1) {
            Some(n) => *count = n,
            None => self.add(std::iter::once((bucket, 1))),
        }
        true
    }

    /// Adds bins within reach, in any order.
    fn add(&mut self, more: impl Iterator<Item = (u16, u64)>) {
        more.for_each(|(bucket, n)| {
            let place = usize::from(bucket.wrapping_sub(self.first));
            let Some(count) = self.counts.get_mut(place) else {
                return;
            };
            let sum = u64::from(*count) + n;
            *count = low_half(sum);
            let carried = sum - u64::from(*count);
            if carried > 0 {
                let mut before = self.carried.iter_mut();
                match before.find(|(other, _)| *other == bucket) {
                    Some((_, before)) => *before += carried,
                    None => self.carried.push((bucket, carried)),
                }
            }
        });
    }

    fn reaches(&self, first: u16, last: u16) -> bool {
        let end = usize::from(self.first) + self.counts.len();
        self.first <= first && usize::from(last) < end
    }

    /// Makes the range hold these two and all between, which no bin lies outside of, with slack.
    fn reach(&mut self, first: u16, last: u16) {
        let slack = SLACK_MIN.max(last.saturating_sub(first) / SLACK_DIVISOR);
        let last = last.saturating_add(slack).min(BUCKET_MAX);
        let mut wider = Self::over(first.saturating_sub(slack), last);
        wider.add(self.iter());
        *self = wider;
    }
}

/// A sparse count. What has more values is dense (see [`DENSE_FROM`]), so this never holds one back.
fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn low_half(n: u64) -> u32 {
    n as u32
}

/// Sorts by the lower byte, then by the upper one; few are sorted as anything is.
fn sort(buckets: &mut Vec<u16>) {
    const FEW: usize = 128;
    if buckets.len() < FEW {
        buckets.sort_unstable();
        return;
    }
    let mut sorted = vec![0; buckets.len()];
    for byte in 0..size_of::<u16>() {
        let byte_of = |bucket: u16| usize::from(bucket.to_le_bytes()[byte]);
        let mut places = [0_usize; 256];
        for bucket in &*buckets {
            places[byte_of(*bucket)] += 1;
        }
        let mut n_before = 0;
        for place in &mut places {
            (*place, n_before) = (n_before, n_before + *place);
        }
        for bucket in &*buckets {
            let place = &mut places[byte_of(*bucket)];
            sorted[*place] = *bucket;
            *place += 1;
        }
        mem::swap(buckets, &mut sorted);
    }
}

/// The runs of equal buckets, with their lengths.
fn runs_of(sorted: &[u16]) -> impl Iterator<Item = (u16, u64)> {
    sorted
        .chunk_by(|a, b| a == b)
        .filter_map(|run| Some((*run.first()?, run.len() as u64)))
}
