//! Pages are decompressed by one context a thread, whatever the number of columns.

use std::fmt;
use std::sync::{Arc, Mutex};

use datafusion::parquet::basic::Compression;

use super::Result;

/// How a column's pages are compressed, where we can decompress them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Snappy,
    Zstd,
}

impl Codec {
    pub(super) fn of(compression: Compression) -> Option<Self> {
        match compression {
            Compression::UNCOMPRESSED => Some(Self::None),
            Compression::SNAPPY => Some(Self::Snappy),
            Compression::ZSTD(_) => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Of the memory of pages that have been read, so much waits for the next ones, in at most so many pieces.
const SPARE_BYTES: usize = 16 << 20;
const N_SPARE: usize = 64;

/// What it takes to decompress pages, one after another.
#[derive(Default)]
pub(super) struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    /// The memory of earlier pages: new memory costs as much as a good part of what is decompressed into it.
    spare: Vec<Vec<u8>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Decompressor {
    /// Exchanges a page that has no room for some bytes for one that has, or for none.
    pub(super) fn make_room(&mut self, page: &mut Vec<u8>, n_bytes: u64) {
        let has_room = |page: &Vec<u8>| page.capacity() as u64 >= n_bytes;
        if has_room(page) {
            return;
        }
        let fitting = self.spare.iter().enumerate();
        let fitting = fitting.filter(|(_, page)| has_room(page));
        let least = fitting.min_by_key(|(_, page)| page.capacity());
        // What is there would be copied where it grew; there are no more pieces than columns had.
        let other = least.map(|(place, _)| place);
        if let Some(other) = other.map(|place| self.spare.swap_remove(place)) {
            self.give_back(std::mem::replace(page, other));
        } else {
            *page = Vec::new();
        }
    }

    /// Takes the memory of a page that has been read.
    pub(super) fn give_back(&mut self, page: Vec<u8>) {
        let n_bytes: usize = self.spare.iter().map(Vec::capacity).sum();
        let has_room = n_bytes.saturating_add(page.capacity()) <= SPARE_BYTES;
        if page.capacity() > 0 && has_room && self.spare.len() < N_SPARE {
            self.spare.push(page);
        }
    }

    /// Adds what some bytes were before, which are `n_bytes`.
    pub(super) fn decompress(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        n_bytes: usize,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        // A page without any value has none, and may be nothing at all.
        if n_bytes == 0 {
            return Ok(());
        }
        let n_before = into.len();
        let failed = |error: &dyn fmt::Display| format!("a page cannot be decompressed: {error}");
        match codec {
            Codec::None => into.extend_from_slice(bytes),
            Codec::Snappy => {
                into.resize(n_before + n_bytes, 0);
                let decoded = snap::raw::Decoder::new()
                    .decompress(bytes, into.get_mut(n_before..).unwrap_or_default());
                let length = decoded.map_err(|error| failed(&error))?;
                into.truncate(n_before + length);
            }
            Codec::Zstd => {
                let context = match &mut self.zstd {
                    Some(context) => context,
                    none => none
                        .insert(zstd::bulk::Decompressor::new().map_err(|error| failed(&error))?),
                };
                into.reserve(n_bytes);
                let mut end = std::io::Cursor::new(&mut *into);
                end.set_position(n_before as u64);
                context
                    .decompress_to_buffer(bytes, &mut end)
                    .map_err(|error| failed(&error))?;
            }
        }
        let found = into.len() - n_before;
        if found != n_bytes {
            return Err(format!("a page has {found} bytes, its header says {n_bytes}").into());
        }
        Ok(())
    }
}

/// Decompressors that wait for the next file.
#[derive(Debug, Clone, Default)]
pub(super) struct Decompressors(Arc<Mutex<Vec<Decompressor>>>);

impl Decompressors {
    pub(super) fn take(&self) -> Decompressor {
        let waiting = self.0.lock().ok().and_then(|mut all| all.pop());
        waiting.unwrap_or_default()
    }

    pub(super) fn give_back(&self, one: Decompressor) {
        if let Ok(mut all) = self.0.lock() {
            all.push(one);
        }
    }
}
