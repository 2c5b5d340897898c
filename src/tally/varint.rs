//! Whole numbers as bytes: LEB128, seven bits a byte, the lowest first, a set upper bit meaning that
//! more follow. A number has one form, the shortest; any other is refused. The reader trusts no byte
//! and does not move where it fails.

use std::ops::{BitOr, Shl};

/// Why a number cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VarintError {
    /// The bytes end within it.
    Truncated,
    /// It takes more bytes than it needs.
    NotShortest,
    /// It passes its type.
    Overflow,
}

/// Appends a number.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lowest seven bits are meant"
)]
#[inline]
pub(super) fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    if number < 0x80 {
        return out.push(number as u8);
    }
    if number < 1 << 56 {
        // Eight bytes at once, of which those stay that it needs.
        let n_bytes = (u64::BITS - number.leading_zeros()).div_ceil(7);
        let more_follow = (1 << (8 * (n_bytes - 1))) - 1;
        let bytes = spread(number) | 0x8080_8080_8080_8080 & more_follow;
        let length = out.len() + n_bytes as usize;
        out.extend_from_slice(&bytes.to_le_bytes());
        return out.truncate(length);
    }
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Eight times seven bits, each seven in a byte of its own.
#[inline]
const fn spread(mut bits: u64) -> u64 {
    bits = bits & 0x0fff_ffff | (bits & 0x0fff_ffff << 28) << 4;
    bits = bits & 0x3fff_0000_3fff | (bits & 0x3fff_0000_3fff << 14) << 2;
    bits & 0x7f_007f_007f_007f | (bits & 0x7f_007f_007f_007f << 7) << 1
}

/// The other way round.
#[inline]
const fn gathered(mut bytes: u64) -> u64 {
    bytes = bytes & 0x7f_007f_007f_007f | (bytes & 0x7f_007f_007f_007f << 8) >> 1;
    bytes = bytes & 0x3fff_0000_3fff | (bytes & 0x3fff_0000_3fff << 16) >> 2;
    bytes & 0x0fff_ffff | (bytes & 0x0fff_ffff << 32) >> 4
}

/// Appends two numbers, mostly small ones.
#[inline]
pub(super) fn write_pair(one: u16, next: u64, out: &mut Vec<u8>) {
    if let (Ok(one @ ..0x80), Ok(next @ ..0x80)) = (u8::try_from(one), u8::try_from(next)) {
        out.extend([one, next]);
    } else {
        write_varint(one.into(), out);
        write_varint(next, out);
    }
}

/// Appends a wide number; one that fits 64 bits gets the bytes that [`write_varint`] gives it.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the lowest seven bits are meant"
)]
pub(super) fn write_varint_u128(mut number: u128, out: &mut Vec<u8>) {
    loop {
        if let Ok(rest) = u64::try_from(number) {
            return write_varint(rest, out);
        }
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
}

/// Bytes that are read from their start.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next pairs of numbers that take a byte each, at most `n` of them.
    #[inline]
    pub(super) fn small_pairs(&mut self, n: usize) -> &'a [[u8; 2]] {
        let (pairs, _) = self.bytes.as_chunks();
        let pairs = pairs.get(..n).unwrap_or(pairs);
        let is_large = |pair: &[u8; 2]| pair.iter().any(|byte| *byte >= 0x80);
        let n_small = pairs.iter().position(is_large).unwrap_or(pairs.len());
        let (small, _) = pairs.split_at(n_small);
        self.bytes = self.bytes.get(2 * n_small..).unwrap_or_default();
        small
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    /// The next `n` bytes, if there are so many.
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(taken)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, VarintError> {
        // Most numbers have one byte.
        match self.bytes.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(*byte))
            }
            _ => self.several().unwrap_or_else(|| self.number()),
        }
    }

    /// A number of at most eight bytes, where there are eight.
    #[inline]
    fn several(&mut self) -> Option<Result<u64, VarintError>> {
        let bytes = u64::from_le_bytes(*self.bytes.first_chunk()?);
        let ends = !bytes & 0x8080_8080_8080_8080;
        let n_before = ends.trailing_zeros() / 8;
        let last = bytes.checked_shr(8 * n_before)? & 0xff;
        if last == 0 && n_before > 0 {
            return Some(Err(VarintError::NotShortest));
        }
        let all = u64::MAX >> (u64::BITS - 8 * (n_before + 1));
        self.bytes = self.bytes.get(n_before as usize + 1..).unwrap_or_default();
        Some(Ok(gathered(bytes & all & 0x7f7f_7f7f_7f7f_7f7f)))
    }

    pub(super) fn varint_u128(&mut self) -> Result<u128, VarintError> {
        self.number()
    }

    fn number<T>(&mut self) -> Result<T, VarintError>
    where
        T: From<u8> + Shl<usize, Output = T> + BitOr<Output = T>,
    {
        // The last byte that may come has room for fewer bits, and none may follow.
        let n_full = 8 * size_of::<T>() / 7;
        let room = 8 * size_of::<T>() % 7;
        let mut number = T::from(0);
        for (n_read, byte) in self.bytes.iter().enumerate() {
            if n_read >= n_full && byte >> room != 0 {
                return Err(VarintError::Overflow);
            }
            number = number | T::from(byte & 0x7f) << (7 * n_read);
            if *byte < 0x80 {
                if *byte == 0 && n_read > 0 {
                    return Err(VarintError::NotShortest);
                }
                self.bytes = self.bytes.get(n_read + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(VarintError::Truncated)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_forms_are_refused_and_leave_the_reader_where_it_was() {
        let full = [0xff; 9];
        for (bytes, error) in [
            (&[][..], VarintError::Truncated),
            (&[0x80], VarintError::Truncated),
            (&[0x80, 0], VarintError::NotShortest),
            (&[0xff, 0x80, 0], VarintError::NotShortest),
            (&[&full[..], &[2]].concat(), VarintError::Overflow),
            (&[&full[..], &[0x81, 0]].concat(), VarintError::Overflow),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), Err(error), "{bytes:?}");
            assert_eq!(reader.len(), bytes.len());
            if error != VarintError::Truncated {
                let longer = [bytes, &[1; 8]].concat();
                let mut reader = Reader::new(&longer);
                assert_eq!(reader.varint(), Err(error), "{bytes:?} and more");
                assert_eq!(reader.len(), longer.len());
            }
        }
        let wide = [&[0xff; 18][..], &[4]].concat();
        assert_eq!(Reader::new(&wide).varint_u128(), Err(VarintError::Overflow));
    }

    #[test]
    fn what_is_taken_is_there() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.take(4), None);
        assert_eq!(reader.take(2), Some(&[1, 2][..]));
        assert_eq!((reader.byte(), reader.byte()), (Some(3), None));
        assert!(reader.is_empty());
    }

    proptest! {
        #[test]
        fn numbers_come_back(
            number: u64,
            narrow in 0..64_u32,
            pair: (u16, u64),
            wide: u128,
            narrower in 0..128_u32,
        ) {
            let (number, wide) = (number >> narrow, wide >> narrower);
            let mut bytes = Vec::new();
            write_varint(number, &mut bytes);
            write_pair(pair.0, pair.1 >> narrow, &mut bytes);
            write_varint_u128(wide, &mut bytes);
            write_varint_u128(number.into(), &mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(number));
            prop_assert_eq!(reader.varint(), Ok(pair.0.into()));
            prop_assert_eq!(reader.varint(), Ok(pair.1 >> narrow));
            prop_assert_eq!(reader.varint_u128(), Ok(wide));
            prop_assert_eq!(reader.varint(), Ok(number));
            prop_assert!(reader.is_empty());
        }
    }
}
