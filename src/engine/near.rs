//! The files of this machine as an object store: small parts of them are read where they are asked for.
//!
//! The store of `object_store` hands every read to another thread, which costs more than reading a few
//! pages that mostly lie in memory: of a thousand small files, footers and columns are such reads. Several
//! large ones go to another thread at once; writing, and whatever goes wrong, are left to it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::path::Path as Location;
use datafusion::object_store::{
    Attributes, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

/// Parts of fewer bytes, all in all, are small.
const SMALL_BYTES: u64 = 256 << 10;
/// Between parts that are read at once lie at most so many bytes.
const GAP_BYTES: u64 = 4 << 10;

/// Of the memory that parts were read into, at most so much waits for others.
const SPARE_BYTES: usize = 16 << 20;
/// Less memory is not worth to be kept.
const SPARE_PIECE_BYTES: usize = 32 << 10;

/// The local file system.
#[derive(Debug, Default)]
pub(super) struct Near {
    far: LocalFileSystem,
    spare: Spare,
}

/// Memory that nobody reads any more: to get it anew from the system takes as long as to read into it.
#[derive(Debug, Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// Empty memory for some bytes.
    fn take(&self, n_bytes: usize) -> Vec<u8> {
        // Not much more than is needed: a part may be held for long.
        let fitting = n_bytes..=n_bytes.saturating_mul(4);
        if let (Ok(mut all), true) = (self.0.lock(), n_bytes >= SPARE_PIECE_BYTES) {
            let capacities = all.iter().map(Vec::capacity).enumerate();
            let fitting = capacities.filter(|(_, capacity)| fitting.contains(capacity));
            if let Some((place, _)) = fitting.min_by_key(|(_, capacity)| *capacity) {
                return all.swap_remove(place);
            }
        }
        Vec::with_capacity(n_bytes)
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() < SPARE_PIECE_BYTES {
            return;
        }
        bytes.clear();
        if let Ok(mut all) = self.0.lock() {
            let n_bytes: usize = all.iter().map(Vec::capacity).sum();
            if n_bytes + bytes.capacity() <= SPARE_BYTES {
                all.push(bytes);
            }
        }
    }
}

/// A part of a file, whose memory is used again after it.
struct Part {
    bytes: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.far.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Near {
    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        let near = asked(&options).and_then(|range| {
            let path = path_of(location)?;
            let part = if options.head {
                facts(&path, location)
            } else {
                part(&path, location, range, &self.spare)
            };
            part.ok()
        });
        match near {
            Some(part) => Ok(part),
            None => self.far.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Location, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let near = match path_of(location) {
            Some(path) if are_small(ranges) => parts(&path, ranges, &self.spare).ok(),
            Some(path) => {
                // Without zeros first, which the store of `object_store` fills what it reads into with.
                let (ranges, spare) = (ranges.to_vec(), self.spare.clone());
                let parts = move || parts(&path, &ranges, &spare).ok();
                let parts = tokio::task::spawn_blocking(parts);
                parts.await.ok().flatten()
            }
            None => None,
        };
        match near {
            Some(parts) => Ok(parts),
            None => self.far.get_ranges(location, ranges).await,
        }
    }

    async fn put_opts(
        &self,
        location: &Location,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.far.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.far.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Location>>,
    ) -> BoxStream<'static, Result<Location>> {
        self.far.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.far.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.far.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.far.copy_opts(from, to, options).await
    }
}

/// The path of a file; `None` where it is not simply that of its location.
fn path_of(location: &Location) -> Option<PathBuf> {
    let path = location.as_ref();
    (cfg!(unix) && !path.contains('%')).then(|| PathBuf::from(format!("/{path}")))
}

fn are_small(ranges: &[Range<u64>]) -> bool {
    let lengths = ranges
        .iter()
        .map(|range| range.end.saturating_sub(range.start));
    lengths.fold(0, u64::saturating_add) < SMALL_BYTES
}

/// The small part that is asked for, an empty one where only facts are; `None` where more is asked.
fn asked(options: &GetOptions) -> Option<Range<u64>> {
    let GetOptions {
        if_match: None,
        if_none_match: None,
        if_modified_since: None,
        if_unmodified_since: None,
        version: None,
        range,
        head,
        ..
    } = options
    else {
        return None;
    };
    match range {
        None if *head => Some(0..0),
        Some(GetRange::Bounded(range)) if !head && !range.is_empty() => {
            are_small(std::slice::from_ref(range)).then(|| range.clone())
        }
        _ => None,
    }
}

/// What the system says of a file, without opening it.
fn facts(path: &Path, location: &Location) -> io::Result<GetResult> {
    answer(&fs::metadata(path)?, location, 0..0, Bytes::new())
}

fn part(
    path: &Path,
    location: &Location,
    range: Range<u64>,
    spare: &Spare,
) -> io::Result<GetResult> {
    let mut file = File::open(path)?;
    let facts = file.metadata()?;
    let bytes = read(&mut file, &range, spare)?;
    answer(&facts, location, range, bytes)
}

fn answer(
    facts: &fs::Metadata,
    location: &Location,
    range: Range<u64>,
    bytes: Bytes,
) -> io::Result<GetResult> {
    if !facts.is_file() {
        return Err(io::Error::other("no file"));
    }
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
        meta: ObjectMeta {
            location: location.clone(),
            last_modified: facts.modified()?.into(),
            size: facts.len(),
            e_tag: None,
            version: None,
        },
        range,
        attributes: Attributes::default(),
    })
}

/// Reads parts of a file, those that lie side by side at once.
fn parts(path: &Path, ranges: &[Range<u64>], spare: &Spare) -> io::Result<Vec<Bytes>> {
    let mut file = File::open(path)?;
    let mut parts = Vec::with_capacity(ranges.len());
    let mut rest = ranges;
    while let Some(first) = rest.first() {
        let mut whole = first.clone();
        let follows = |whole: &Range<u64>, next: &Range<u64>| {
            let gap = next.start.checked_sub(whole.end);
            gap.is_some_and(|gap| gap <= GAP_BYTES) && next.end >= next.start
        };
        let mut n_together = 1;
        while let Some(next) = rest.get(n_together).filter(|next| follows(&whole, next)) {
            whole.end = next.end;
            n_together += 1;
        }
        let bytes = read(&mut file, &whole, spare)?;
        let (together, others) = rest.split_at(n_together);
        for range in together {
            let [begin, end] = [range.start, range.end].map(|at| at - whole.start);
            let place = usize::try_from(begin).and_then(|begin| Ok(begin..usize::try_from(end)?));
            parts.push(bytes.slice(place.map_err(io::Error::other)?));
        }
        rest = others;
    }
    Ok(parts)
}

/// Reads a part of a file; an error where the file ends before it.
fn read(file: &mut File, range: &Range<u64>, spare: &Spare) -> io::Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    if length == 0 {
        return Ok(Bytes::new());
    }
    let n_bytes = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = spare.take(n_bytes);
    file.seek(SeekFrom::Start(range.start))?;
    if length < SMALL_BYTES {
        // In one go: zeros cost less than asking several times.
        bytes.resize(n_bytes, 0);
        file.read_exact(&mut bytes)?;
    } else {
        file.take(length).read_to_end(&mut bytes)?;
        if bytes.len() != n_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let spare = spare.clone();
    Ok(Bytes::from_owner(Part { bytes, spare }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::object_store::ObjectStoreExt;
    use proptest::prelude::*;

    use super::*;

    /// What is read near and what the store of `object_store` reads, also where there is none of it.
    async fn both(path: &Path, ranges: &[Range<u64>]) -> [Option<Vec<Bytes>>; 2] {
        let location = Location::from_absolute_path(path).unwrap();
        let near = Near::default().get_ranges(&location, ranges).await.ok();
        let far = LocalFileSystem::new()
            .get_ranges(&location, ranges)
            .await
            .ok();
        [near, far]
    }

    proptest! {
        #[test]
        fn parts_are_those_that_were_asked_for(
            bytes in proptest::collection::vec(any::<u8>(), 0..20_000),
            ranges in proptest::collection::vec((0..22_000_u64, 0..9_000_u64), 0..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a file of 100 %");
            std::fs::write(&path, &bytes).unwrap();
            std::fs::write(dir.path().join("plain"), &bytes).unwrap();
            let mut ranges: Vec<_> = ranges.iter().map(|(at, n)| *at..at + n).collect();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            for sorted in [false, true] {
                if sorted {
                    ranges.sort_by_key(|range| range.start);
                }
                for name in ["plain", "a file of 100 %", "none"] {
                    let [near, far] = runtime.block_on(both(&dir.path().join(name), &ranges));
                    prop_assert_eq!(near, far, "{}", name);
                }
            }
        }
    }

    #[tokio::test]
    async fn facts_and_single_parts_are_those_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![7; 400_000]).unwrap();
        let location = Location::from_absolute_path(&path).unwrap();
        let (near, far) = (Near::default(), LocalFileSystem::new());
        let facts = near.head(&location).await.unwrap();
        let expected = far.head(&location).await.unwrap();
        assert_eq!(
            (facts.size, facts.last_modified),
            (expected.size, expected.last_modified)
        );
        for range in [5..9, 0..300_000, 399_999..400_000] {
            let part = near.get_range(&location, range.clone()).await.unwrap();
            assert_eq!(part, far.get_range(&location, range).await.unwrap());
        }
        assert!(near.get_range(&location, 400_000..400_001).await.is_err());
        let folder = Location::from_absolute_path(dir.path()).unwrap();
        assert!(near.head(&folder).await.is_err());
    }
}
