//! The values of a small distribution, as they are.

use super::EXACT_MAX;
use crate::tally::bytes::make_room;

/// Values in any order: four bytes each as long as all fit, such as microseconds of less than 71 minutes.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Narrow(Vec<u32>),
    #[expect(
        clippy::box_collection,
        reason = "the rare one must not make all larger"
    )]
    Wide(Box<Vec<u64>>),
}

impl Values {
    pub(super) const fn new() -> Self {
        Self::Narrow(Vec::new())
    }

    /// Room for so many values, of which none is greater.
    pub(super) fn with_room(n: usize, greatest: u64) -> Self {
        match u32::try_from(greatest) {
            Ok(_) => Self::Narrow(Vec::with_capacity(n)),
            Err(_) => Self::Wide(Box::new(Vec::with_capacity(n))),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow(values) => values.len(),
            Self::Wide(values) => values.len(),
        }
    }

    /// Adds a value where there is room for it, as there mostly is.
    #[inline]
    pub(super) fn push_in_room(&mut self, value: u64) -> bool {
        match (self, u32::try_from(value)) {
            (Self::Narrow(values), Ok(value))
                if values.len() < values.capacity() && values.len() < EXACT_MAX =>
            {
                values.push(value);
                true
            }
            _ => false,
        }
    }

    pub(super) fn push(&mut self, value: u64) {
        match (self, u32::try_from(value)) {
            (Self::Narrow(values), Ok(value)) => {
                make_room(values);
                values.push(value);
            }
            (Self::Wide(values), _) => {
                make_room(values);
                values.push(value);
            }
            (narrow, Err(_)) => narrow.widen(value),
        }
    }

    #[cold]
    fn widen(&mut self, value: u64) {
        let mut values = Vec::with_capacity(self.len() + 1);
        values.extend(self.iter());
        values.push(value);
        *self = Self::Wide(Box::new(values));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let (narrow, wide): (&[u32], &[u64]) = match self {
            Self::Narrow(values) => (values, &[]),
            Self::Wide(values) => (&[], values),
        };
        let narrow = narrow.iter().copied().map(u64::from);
        narrow.chain(wide.iter().copied())
    }

    /// The same, rising.
    pub(super) fn sorted(&self) -> Vec<u64> {
        let mut values: Vec<u64> = self.iter().collect();
        if !values.is_sorted() {
            values.sort_unstable();
        }
        values
    }

    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Narrow(values) => size_of::<u32>() * values.capacity(),
            Self::Wide(values) => size_of::<Vec<u64>>() + size_of::<u64>() * values.capacity(),
        }
    }
}
