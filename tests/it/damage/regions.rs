//! What each byte of a file of Parquet is, so that a corruption can be told by what it hit.

use std::collections::BTreeSet;
use std::ops::Range;

use parquet::file::metadata::ParquetMetaData;

use super::footer_length;

/// What a byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Region {
    Magic,
    PageHeader,
    DictionaryBody,
    DataBody,
    ColumnIndex,
    OffsetIndex,
    Footer,
    FooterLength,
    Other,
}

/// The region of each byte of a file.
pub(super) fn regions(bytes: &[u8], metadata: &ParquetMetaData) -> Vec<Region> {
    let mut regions = vec![Region::Other; bytes.len()];
    let mut mark = |range: Range<usize>, region: Region| regions[range].fill(region);
    let end = bytes.len();
    let footer = end - 8 - footer_length(bytes);
    mark(0..4, Region::Magic);
    mark(footer..end - 8, Region::Footer);
    mark(end - 8..end - 4, Region::FooterLength);
    mark(end - 4..end, Region::Magic);
    for group in metadata.row_groups() {
        for column in group.columns() {
            let (start, length) = column.byte_range();
            let mut at = usize::try_from(start).unwrap();
            let end = at + usize::try_from(length).unwrap();
            while at < end {
                let mut header = Header::new(&bytes[at..end]);
                header.structure();
                let (kind, compressed) = (header.kind.unwrap(), header.compressed.unwrap());
                let body = at + header.at;
                mark(at..body, Region::PageHeader);
                at = body + compressed;
                let is_dictionary = kind == 2;
                mark(
                    body..at,
                    if is_dictionary {
                        Region::DictionaryBody
                    } else {
                        Region::DataBody
                    },
                );
            }
            for (offset, length, region) in [
                (
                    column.column_index_offset(),
                    column.column_index_length(),
                    Region::ColumnIndex,
                ),
                (
                    column.offset_index_offset(),
                    column.offset_index_length(),
                    Region::OffsetIndex,
                ),
            ] {
                let at = usize::try_from(offset.unwrap()).unwrap();
                mark(at..at + usize::try_from(length.unwrap()).unwrap(), region);
            }
        }
    }
    regions
}

/// What a corruption changed: by name, or that bytes were cut off or put in between.
pub(super) fn hit(regions: &[Region], whole: &[u8], damaged: &[u8]) -> String {
    let changed =
        |(at, (before, after)): (usize, (&u8, &u8))| (before != after).then(|| regions[at]);
    let changed = whole.iter().zip(damaged).enumerate().filter_map(changed);
    if damaged.len() < whole.len() {
        return "cut".to_owned();
    }
    if damaged.len() > whole.len() {
        let first = changed.map(|region| format!("{region:?}")).next();
        return format!("inserted in {}", first.unwrap_or_default());
    }
    let hit: BTreeSet<Region> = changed.collect();
    if hit.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<String> = hit.iter().map(|region| format!("{region:?}")).collect();
    names.join(" + ")
}

/// A page's header, in Thrift's compact protocol.
struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    kind: Option<i64>,
    compressed: Option<usize>,
}

impl<'a> Header<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
            kind: None,
            compressed: None,
        }
    }

    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }

    fn number(&mut self) -> i64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            }
            shift += 7;
        }
    }

    /// Passes the fields that headers have: truths, numbers, texts, structures.
    fn structure(&mut self) {
        let mut id = 0;
        loop {
            let byte = self.byte();
            match byte & 0x0f {
                0 => return,
                kind => {
                    id += i64::from(byte >> 4);
                    self.value(id, kind);
                }
            }
        }
    }

    fn value(&mut self, id: i64, kind: u8) {
        match kind {
            1 | 2 => {}
            4..=6 => {
                let number = self.number();
                match (self.depth, id) {
                    (0, 1) => self.kind = Some(number),
                    (0, 3) => self.compressed = Some(usize::try_from(number).unwrap()),
                    _ => {}
                }
            }
            12 => {
                self.depth += 1;
                self.structure();
                self.depth -= 1;
            }
            other => panic!("a page's header has a field of type {other}"),
        }
    }
}
