//! Memory that begins where a page does, to be read into.
//!
//! A kernel copies from whole pages. Where a copy goes to a place that is off from that by 1 to 31 bytes, as what
//! is allocated mostly is, some processors (AMD's, with "fast short" moves) need five times as long.

use std::io::{self, BufRead, Read};
use std::ops::Range;

/// Bytes of a page of memory.
pub(super) const PAGE_BYTES: usize = 4096;

/// Some memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: Vec<u8>,
    lead: usize,
}

impl Memory {
    pub(super) fn new(n_bytes: usize) -> Self {
        let bytes = vec![0; n_bytes + PAGE_BYTES];
        let lead = bytes.as_ptr().addr().wrapping_neg() % PAGE_BYTES;
        Self { bytes, lead }
    }

    /// How many bytes there are.
    pub(super) fn n_bytes(&self) -> usize {
        self.bytes.len().saturating_sub(PAGE_BYTES)
    }

    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        let all = self.bytes.get(self.lead..).unwrap_or_default();
        all.get(range).unwrap_or_default()
    }

    pub(super) fn get_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let all = self.bytes.get_mut(self.lead..).unwrap_or_default();
        all.get_mut(range).unwrap_or_default()
    }
}

/// A stream, read into such memory first.
#[derive(Debug)]
pub(super) struct Aligned<R> {
    input: R,
    memory: Memory,
    /// What of the memory was not handed on yet.
    filled: Range<usize>,
}

impl<R: Read> Aligned<R> {
    pub(super) fn new(input: R, n_bytes: usize) -> Self {
        Self {
            input,
            memory: Memory::new(n_bytes),
            filled: 0..0,
        }
    }
}

impl<R: Read> BufRead for Aligned<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.filled.is_empty() {
            let all = 0..self.memory.n_bytes();
            self.filled = 0..self.input.read(self.memory.get_mut(all))?;
        }
        Ok(self.memory.get(self.filled.clone()))
    }

    fn consume(&mut self, n_bytes: usize) {
        self.filled.start = self.filled.end.min(self.filled.start + n_bytes);
    }
}

impl<R: Read> Read for Aligned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_read = self.fill_buf()?.read(buffer)?;
        self.consume(n_read);
        Ok(n_read)
    }
}
