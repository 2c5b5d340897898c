//! What the bytes of small parts of a tally have in common: a version before them, nothing after them, and
//! what may be wrong with them.

use super::varint::{Reader, VarintError};

/// Why bytes are no part of a tally.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Another format, or no such part at all.
    #[error("bytes have format version {found}, expected {expected}")]
    Version {
        /// The first byte.
        found: u8,
        /// What it should be.
        expected: u8,
    },
    /// The bytes end before the part does.
    #[error("bytes are cut short")]
    Truncated,
    /// A number is written longer than it has to be.
    #[error("bytes hold a number that is not in its shortest form")]
    NotShortest,
    /// A number passes 64 bits.
    #[error("bytes hold a number beyond 64 bits")]
    Overflow,
    /// The bytes go on after the part.
    #[error("bytes are followed by {n_bytes} more")]
    Trailing {
        /// How many.
        n_bytes: usize,
    },
    /// Something that no such part holds.
    #[error("bytes hold {what}")]
    Wrong {
        /// What that is.
        what: &'static str,
    },
}

/// The bytes after their version, which must be the expected one.
pub(super) fn after_version(bytes: &[u8], expected: u8) -> Result<Reader<'_>, BytesError> {
    let mut reader = Reader::new(bytes);
    match reader.byte().ok_or(BytesError::Truncated)? {
        found if found == expected => Ok(reader),
        found => Err(BytesError::Version { found, expected }),
    }
}

/// The number of things that follow, each of at least `size` bytes.
pub(super) fn count(reader: &mut Reader<'_>, size: usize) -> Result<usize, BytesError> {
    let n = usize::try_from(reader.varint()?).ok();
    n.filter(|n| *n <= reader.len() / size)
        .ok_or(BytesError::Truncated)
}

/// Nothing may be left.
pub(super) fn check_end(reader: &Reader<'_>) -> Result<(), BytesError> {
    match reader.len() {
        0 => Ok(()),
        n_bytes => Err(BytesError::Trailing { n_bytes }),
    }
}

/// Makes room for one more: for one at first, then for twice as many each time, as a million groups of one
/// value must not pay for four.
#[inline]
pub(super) fn make_room<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        values.reserve_exact(values.len().max(1));
    }
}

impl From<VarintError> for BytesError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::NotShortest => Self::NotShortest,
            VarintError::Overflow => Self::Overflow,
        }
    }
}
