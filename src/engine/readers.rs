//! Readers: the batches of an answer, read by several threads at once.

use datafusion::arrow::array::RecordBatch;

use crate::error::Result;
use crate::threads::at_once;

/// So many batches wait for each thread before any of them is read.
const N_WAITING: usize = 4;
/// Another thread is started where there are so many rows more.
const N_ROWS: usize = 1_024;

/// What batches are read into, a part a thread.
#[derive(Debug)]
pub(super) struct Readers<T> {
    parts: Vec<T>,
    waiting: Vec<RecordBatch>,
}

impl<T> Default for Readers<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

impl<T: Default + Send> Readers<T> {
    /// Takes a batch, and reads those that wait once there are enough of them.
    pub(super) fn take(
        &mut self,
        batch: &RecordBatch,
        n_threads: usize,
        read: &(impl Fn(&mut T, &RecordBatch) -> Result<()> + Sync),
    ) -> Result<()> {
        self.waiting.push(batch.clone());
        if self.waiting.len() < N_WAITING * n_threads {
            return Ok(());
        }
        self.settle(n_threads, read)
    }

    /// Reads what waits.
    pub(super) fn settle(
        &mut self,
        n_threads: usize,
        read: &(impl Fn(&mut T, &RecordBatch) -> Result<()> + Sync),
    ) -> Result<()> {
        let n_rows = self
            .waiting
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>();
        let n_parts = n_rows.div_ceil(N_ROWS).clamp(1, n_threads.max(1));
        if self.parts.len() < n_parts {
            self.parts.resize_with(n_parts, T::default);
        }
        let batches = self
            .waiting
            .chunks(self.waiting.len().div_ceil(n_parts).max(1));
        let shares = self.parts.iter_mut().zip(batches);
        let done = at_once(shares, |(part, batches)| {
            batches.iter().try_for_each(|batch| read(part, batch))
        });
        self.waiting.clear();
        done
    }

    /// The parts, added up.
    pub(super) fn sum(self, add: impl Fn(&mut T, T) -> Result<()>) -> Result<T> {
        let mut parts = self.parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        parts.try_for_each(|part| add(&mut sum, part))?;
        Ok(sum)
    }
}
