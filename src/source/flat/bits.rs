//! Bits in a row: booleans, and which rows have a value.

use datafusion::arrow::buffer::{BooleanBuffer, Buffer};

use crate::cpu::fastest;

const WORD_BITS: usize = 64;

/// Bits, packed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    n: usize,
}

impl Bits {
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.n = 0;
    }

    /// How many of them are set.
    pub(super) fn n_set(&self) -> usize {
        fastest!({
            let ones = self.words.iter().map(|word| word.count_ones() as usize);
            ones.sum()
        })
    }

    /// Whether one is set; no bit is beyond the last.
    pub(super) fn is_set(&self, at: usize) -> bool {
        let word = self.words.get(at / WORD_BITS);
        word.is_some_and(|word| word >> (at % WORD_BITS) & 1 == 1)
    }

    /// Adds the same bit several times.
    pub(super) fn push_same(&mut self, is_set: bool, mut n: usize) {
        let word = if is_set { u64::MAX } else { 0 };
        let first = n.min((WORD_BITS - self.n % WORD_BITS) % WORD_BITS);
        self.push_word(word, first);
        n -= first;
        while n >= WORD_BITS {
            self.words.push(word);
            self.n += WORD_BITS;
            n -= WORD_BITS;
        }
        self.push_word(word, n);
    }

    /// Adds bits of some bytes, from the bit `at` on, the lowest of a byte first; bytes that are not there
    /// have none set.
    pub(super) fn push_packed(&mut self, bytes: &[u8], mut at: usize, mut n: usize) {
        while n > 0 {
            let some = n.min(WORD_BITS - at % 8);
            self.push_word(word_at(bytes, at / 8) >> (at % 8), some);
            at += some;
            n -= some;
        }
    }

    /// Adds others.
    pub(super) fn append(&mut self, others: &Self) {
        let mut n = others.n;
        for word in &others.words {
            self.push_word(*word, n.min(WORD_BITS));
            n = n.saturating_sub(WORD_BITS);
        }
    }

    /// Adds the first bits of a word, of which there are no more than one word has.
    fn push_word(&mut self, word: u64, n: usize) {
        if n == 0 {
            return;
        }
        let word = word & (u64::MAX >> (WORD_BITS - n));
        let used = self.n % WORD_BITS;
        if used == 0 {
            self.words.push(word);
        } else {
            if let Some(last) = self.words.last_mut() {
                *last |= word << used;
            }
            if used + n > WORD_BITS {
                self.words.push(word >> (WORD_BITS - used));
            }
        }
        self.n += n;
    }

    /// Adds some.
    pub(super) fn extend(&mut self, bits: impl Iterator<Item = bool>) {
        let (mut word, mut n) = (0, 0);
        for is_set in bits {
            word |= u64::from(is_set) << n;
            n += 1;
            if n == WORD_BITS {
                self.push_word(word, n);
                (word, n) = (0, 0);
            }
        }
        self.push_word(word, n);
    }

    /// For each bit how many are set before it.
    pub(super) fn ranks(&self, ranks: &mut Vec<u32>) {
        ranks.clear();
        let mut n_before = 0;
        for word in &self.words {
            ranks.extend((0..WORD_BITS).map(|bit| {
                let rank = n_before;
                n_before += u32::from((word >> bit & 1) == 1);
                rank
            }));
        }
        ranks.truncate(self.n);
    }

    /// The same of the bits at some places alone, and these bits themselves.
    pub(super) fn choose(&self, places: &[u32], ranks: &mut Vec<u32>, chosen: &mut Self) {
        let mut n_before = 0;
        let words = self.words.iter().map(|word| {
            let before = n_before;
            n_before += word.count_ones();
            (*word, before)
        });
        let words: Vec<(u64, u32)> = words.collect();
        let words = words.as_slice();
        ranks.clear();
        chosen.clear();
        fastest!({
            for places in places.chunks(WORD_BITS) {
                let mut bits = 0;
                ranks.extend(places.iter().enumerate().map(|(at, place)| {
                    let word = words.get(*place as usize / WORD_BITS);
                    let (word, before) = word.copied().unwrap_or_default();
                    let bit = *place as usize % WORD_BITS;
                    bits |= (word >> bit & 1) << at;
                    before + (word & !(u64::MAX << bit)).count_ones()
                }));
                chosen.push_word(bits, places.len());
            }
        });
    }

    /// The bits as arrow has them.
    pub(super) fn into_buffer(self) -> BooleanBuffer {
        BooleanBuffer::new(Buffer::from_vec(self.words), 0, self.n)
    }
}

/// Eight bytes from a place on, the least first; zeros where they are not there.
#[inline]
pub(super) fn word_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at.saturating_add(size_of::<u64>()));
    if let Some(word) = word.and_then(<[u8]>::first_chunk) {
        return u64::from_le_bytes(*word);
    }
    let bytes = bytes.get(at..).unwrap_or_default().iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_those_that_were_added(
            parts in proptest::collection::vec(
                (any::<bool>(), any::<bool>(), 0..200_usize, proptest::collection::vec(any::<u8>(), 0..30), 0..9_usize),
                0..12,
            ),
            step in 1..9_usize,
        ) {
            let mut bits = Bits::default();
            let mut expected = Vec::new();
            for (is_packed, is_set, n, bytes, at) in parts {
                if is_packed && n % 2 == 1 {
                    let bit = |at: usize| bytes.get(at % 31).is_some_and(|byte| byte % 2 == 1);
                    bits.extend((0..n).map(bit));
                    expected.extend((0..n).map(bit));
                } else if is_packed {
                    bits.push_packed(&bytes, at, n);
                    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
                    expected.extend((at..at + n).map(bit));
                } else {
                    bits.push_same(is_set, n);
                    expected.extend(std::iter::repeat_n(is_set, n));
                }
            }
            prop_assert_eq!(bits.n, expected.len());
            prop_assert_eq!(bits.n_set(), expected.iter().filter(|is_set| **is_set).count());
            let mut ranks = vec![7];
            bits.ranks(&mut ranks);
            prop_assert_eq!(ranks.len(), expected.len());
            let (mut some_ranks, mut some) = (vec![7], Bits::default());
            let places: Vec<u32> = (0..).step_by(step).take(expected.len().div_ceil(step)).collect();
            bits.choose(&places, &mut some_ranks, &mut some);
            prop_assert!(ranks.iter().step_by(step).eq(&some_ranks));
            let some: Vec<bool> = some.into_buffer().iter().collect();
            prop_assert!(expected.iter().step_by(step).eq(&some));
            let mut rank = 0;
            for (at, is_set) in expected.iter().enumerate() {
                prop_assert_eq!(bits.is_set(at), *is_set);
                prop_assert_eq!(ranks[at], rank);
                rank += u32::from(*is_set);
            }
            prop_assert!(!bits.is_set(expected.len()));
            let buffer: Vec<bool> = bits.into_buffer().iter().collect();
            prop_assert_eq!(buffer, expected);
        }
    }
}
