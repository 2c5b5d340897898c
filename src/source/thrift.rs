//! Just enough of Thrift's compact protocol to see whether a footer or a page's header is plausible.
//!
//! The parquet crate reserves memory for as many row groups, columns and values as damaged bytes claim,
//! and follows their nesting by recursion: either ends the process where no error can be caught. So the
//! few numbers that it trusts are looked at first, without allocating anything by what they say.

/// What is wrong with the bytes.
pub(super) type Result<T> = std::result::Result<T, &'static str>;

/// How deeply skipped values may be nested.
const SKIPPED_DEPTH_MAX: usize = 32;
/// How deeply columns may be nested.
const SCHEMA_DEPTH_MAX: usize = 64;

const ENDS_EARLY: &str = "a structure ends early";

/// The encoding that is runs.
const RLE: i64 = 3;

// The fields of a footer that are looked at.
const COLUMNS: i64 = 2;
const GROUPS: i64 = 4;

// The types of fields and elements.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// The header of a page, as far as it decides how much is allocated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) kind: PageKind,
    pub(super) uncompressed: u64,
    pub(super) compressed: u64,
    /// Values, nulls among them.
    pub(super) n_values: u64,
    pub(super) encoding: i64,
    /// The bytes of levels before the values, where they lie outside of what is compressed.
    pub(super) levels: Option<u64>,
    /// Whether levels are runs, as all but the oldest writers write them.
    pub(super) has_run_levels: bool,
    pub(super) is_compressed: bool,
    /// The CRC of what follows the header.
    pub(super) checksum: Option<u32>,
}

/// What a page holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    #[default]
    Data,
    Dictionary,
    Index,
    Unknown,
}

/// The path of a column that has no columns in it, without the root.
pub(super) type Leaf = Vec<Vec<u8>>;

/// The rest of a footer from where it lists its columns; `None` where it does not before its row groups.
pub(super) fn at_columns(footer: &[u8]) -> Result<Option<&[u8]>> {
    let mut reader = Reader { rest: footer };
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (COLUMNS, LIST) => return Ok(Some(reader.rest)),
            (GROUPS, LIST) => return reader.list(STRUCT).map(|_| None),
            _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
        }
    }
    Ok(None)
}

/// Reads the list of columns, a tree that is written depth first, each with its number of children: the
/// leaves, and the bytes that all takes.
pub(super) fn columns(list: &[u8]) -> Result<(Vec<Leaf>, usize)> {
    let mut reader = Reader { rest: list };
    let n_elements = reader.list(STRUCT)?;
    let mut leaves = Vec::new();
    // The names of those in which the next one lies, and how many more each has in it.
    let mut open: Vec<(&[u8], usize)> = Vec::new();
    for _ in 0..n_elements {
        let (name, n_children) = schema_element(&mut reader)?;
        if n_children > n_elements {
            return Err("a column claims more columns in it than there are");
        }
        while open.last().is_some_and(|(_, missing)| *missing == 0) {
            open.pop();
        }
        if let Some((_, missing)) = open.last_mut() {
            *missing -= 1;
        }
        if n_children > 0 {
            open.push((name, n_children));
        } else if !open.is_empty() {
            // The root's name is in no path.
            let above = open.iter().skip(1).map(|(name, _)| *name);
            leaves.push(above.chain([name]).map(<[u8]>::to_vec).collect());
        }
        if open.len() > SCHEMA_DEPTH_MAX {
            return Err("its columns are nested too deeply");
        }
    }
    Ok((leaves, list.len() - reader.rest.len()))
}

/// Checks what the rest of a footer, after its columns, claims of its row groups.
pub(super) fn check_groups(after_columns: &[u8], leaves: &[Leaf]) -> Result<()> {
    let mut reader = Reader {
        rest: after_columns,
    };
    let mut last = COLUMNS;
    while let Some((id, kind)) = reader.field(&mut last)? {
        if (id, kind) == (GROUPS, LIST) {
            // What else lies in them is checked as it is read.
            return check_names(&mut reader, leaves);
        }
        reader.skip(kind, SKIPPED_DEPTH_MAX)?;
    }
    Ok(())
}

fn schema_element<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], usize)> {
    let mut name: &[u8] = &[];
    let mut n_children = 0;
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (4, BINARY) => name = reader.binary()?,
            (5, _) => {
                n_children = usize::try_from(reader.number(kind)?)
                    .map_err(|_| "a column claims a negative number of columns in it")?;
            }
            _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
        }
    }
    Ok((name, n_children))
}

/// Checks that row groups call their columns as the schema does. The reader goes by the schema alone: a
/// column with a damaged name there would be one that the file does not have.
fn check_names(reader: &mut Reader<'_>, leaves: &[Leaf]) -> Result<()> {
    let n_groups = reader.list(STRUCT)?;
    for _ in 0..n_groups {
        let mut last = 0;
        while let Some((id, kind)) = reader.field(&mut last)? {
            if (id, kind) != (1, LIST) {
                reader.skip(kind, SKIPPED_DEPTH_MAX)?;
                continue;
            }
            if reader.list(STRUCT)? != leaves.len() {
                return Err("a row group has other columns than the file");
            }
            for leaf in leaves {
                check_chunk_name(reader, leaf)?;
            }
        }
    }
    Ok(())
}

fn check_chunk_name(reader: &mut Reader<'_>, leaf: &Leaf) -> Result<()> {
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        if (id, kind) != (3, STRUCT) {
            reader.skip(kind, SKIPPED_DEPTH_MAX)?;
            continue;
        }
        let mut last = 0;
        while let Some((id, kind)) = reader.field(&mut last)? {
            if (id, kind) != (3, LIST) {
                reader.skip(kind, SKIPPED_DEPTH_MAX)?;
                continue;
            }
            let n_parts = reader.list(BINARY)?;
            let mut is_same = n_parts == leaf.len();
            for index in 0..n_parts {
                let part = reader.binary()?;
                is_same &= leaf.get(index).is_some_and(|own| own == part);
            }
            // Newer writers may leave the path out.
            if n_parts > 0 && !is_same {
                return Err("a column has different names in different places of its footer");
            }
        }
    }
    Ok(())
}

/// What a column's page index says of its values, page by page.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ColumnIndex<'a> {
    /// Whether a page has no value.
    pub(super) all_null: Vec<bool>,
    /// The least and the greatest values, as they are stored.
    pub(super) mins: Vec<&'a [u8]>,
    pub(super) maxs: Vec<&'a [u8]>,
    pub(super) null_counts: Option<Vec<i64>>,
    /// Whether the pages' bounds rise (1), fall (2) or neither.
    pub(super) order: i64,
}

/// Reads a column's page index.
pub(super) fn column_index(bytes: &[u8]) -> Result<ColumnIndex<'_>> {
    let mut reader = Reader { rest: bytes };
    let mut index = ColumnIndex::default();
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, LIST) => {
                let (n_pages, _) = reader.list_header()?;
                for _ in 0..n_pages {
                    index.all_null.push(reader.byte()? == TRUE);
                }
            }
            (2 | 3, LIST) => {
                let n_pages = reader.list(BINARY)?;
                let values = if id == 2 {
                    &mut index.mins
                } else {
                    &mut index.maxs
                };
                for _ in 0..n_pages {
                    values.push(reader.binary()?);
                }
            }
            (4, _) => index.order = reader.number(kind)?,
            (5, LIST) => {
                let n_pages = reader.list(I64)?;
                let counts = (0..n_pages).map(|_| reader.zigzag());
                index.null_counts = Some(counts.collect::<Result<_>>()?);
            }
            _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
        }
    }
    Ok(index)
}

/// Where a page of a column lies, by its page index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageLocation {
    pub(super) offset: u64,
    /// Bytes, with the header.
    pub(super) length: u64,
    /// The first of its rows, counted in the row group.
    pub(super) first_row: u64,
}

/// Reads where a column's pages lie.
pub(super) fn page_locations(bytes: &[u8]) -> Result<Vec<PageLocation>> {
    let mut reader = Reader { rest: bytes };
    let mut pages = Vec::new();
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        if (id, kind) != (1, LIST) {
            reader.skip(kind, SKIPPED_DEPTH_MAX)?;
            continue;
        }
        for _ in 0..reader.list(STRUCT)? {
            let mut page = PageLocation::default();
            let mut last = 0;
            while let Some((id, kind)) = reader.field(&mut last)? {
                match id {
                    1 => page.offset = reader.size(kind)?,
                    2 => page.length = reader.size(kind)?,
                    3 => page.first_row = reader.size(kind)?,
                    _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
                }
            }
            pages.push(page);
        }
    }
    Ok(pages)
}

/// Reads the page header at the beginning of some bytes; gives also where it ends.
pub(super) fn page_header(bytes: &[u8]) -> Result<(PageHeader, usize)> {
    let mut reader = Reader { rest: bytes };
    let mut page = PageHeader {
        is_compressed: true,
        has_run_levels: true,
        ..PageHeader::default()
    };
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, _) => {
                page.kind = match reader.number(kind)? {
                    0 | 3 => PageKind::Data,
                    1 => PageKind::Index,
                    2 => PageKind::Dictionary,
                    _ => PageKind::Unknown,
                }
            }
            (2, _) => page.uncompressed = reader.size(kind)?,
            (3, _) => page.compressed = reader.size(kind)?,
            (4, _) => page.checksum = u32::try_from(reader.number(kind)? & 0xffff_ffff).ok(),
            (5 | 7, STRUCT) => {
                let is_of_data = id == 5;
                let mut last = 0;
                while let Some((id, kind)) = reader.field(&mut last)? {
                    match id {
                        1 => page.n_values = reader.size(kind)?,
                        2 => page.encoding = reader.number(kind)?,
                        3 if is_of_data => page.has_run_levels = reader.number(kind)? == RLE,
                        _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
                    }
                }
            }
            (8, STRUCT) => data_page_v2(&mut reader, &mut page)?,
            _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
        }
    }
    Ok((page, bytes.len() - reader.rest.len()))
}

fn data_page_v2(reader: &mut Reader<'_>, page: &mut PageHeader) -> Result<()> {
    let mut levels = 0;
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match id {
            1 => page.n_values = reader.size(kind)?,
            4 => page.encoding = reader.number(kind)?,
            5 | 6 => levels += reader.size(kind)?,
            7 => page.is_compressed = kind == TRUE,
            _ => reader.skip(kind, SKIPPED_DEPTH_MAX)?,
        }
    }
    page.levels = Some(levels);
    Ok(())
}

/// A number of variable length, and what is after it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut reader = Reader { rest: bytes };
    Some((reader.varint().ok()?, reader.rest))
}

/// A number of either sign that is written as one of none.
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*byte)
    }

    #[inline]
    fn pass(&mut self, n_bytes: u64) -> Result<()> {
        let n_bytes = usize::try_from(n_bytes).map_err(|_| ENDS_EARLY)?;
        self.rest = self.rest.get(n_bytes..).ok_or(ENDS_EARLY)?;
        Ok(())
    }

    #[inline]
    fn binary(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| ENDS_EARLY)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(text)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64> {
        // Most numbers have one byte.
        if let [byte @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    fn zigzag(&mut self) -> Result<i64> {
        self.varint().map(unzigzag)
    }

    /// An integer field's value.
    #[inline]
    fn number(&mut self, kind: u8) -> Result<i64> {
        match kind {
            BYTE => Ok(i64::from(self.byte()?)),
            4..=I64 => self.zigzag(),
            _ => Err("a field that should be a number is none"),
        }
    }

    /// A field's value that cannot be negative.
    fn size(&mut self, kind: u8) -> Result<u64> {
        u64::try_from(self.number(kind)?).map_err(|_| "a size is negative")
    }

    /// The next field's id and type; `None` where the structure ends.
    #[inline]
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>> {
        let byte = self.byte()?;
        let (delta, kind) = (byte >> 4, byte & 0x0f);
        if kind == 0 {
            return Ok(None);
        }
        *last = if delta == 0 {
            self.zigzag()?
        } else {
            *last + i64::from(delta)
        };
        Ok(Some((*last, kind)))
    }

    /// The number of a list's elements, each of which takes a byte at least.
    fn list(&mut self, expected: u8) -> Result<usize> {
        let (n_elements, kind) = self.list_header()?;
        if n_elements > 0 && kind != expected {
            return Err("a list holds what it should not");
        }
        Ok(n_elements)
    }

    fn list_header(&mut self) -> Result<(usize, u8)> {
        let byte = self.byte()?;
        let n_elements = match byte >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        let n_elements = usize::try_from(n_elements).ok();
        let n_elements = n_elements.filter(|n_elements| *n_elements <= self.rest.len());
        let n_elements = n_elements.ok_or("a list claims more elements than there are bytes")?;
        Ok((n_elements, byte & 0x0f))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<()> {
        let below = depth.checked_sub(1).ok_or("values are nested too deeply")?;
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.byte().map(|_| ()),
            4..=I64 => self.varint().map(|_| ()),
            DOUBLE => self.pass(8),
            BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | SET => {
                let (n_elements, kind) = self.list_header()?;
                (0..n_elements).try_for_each(|_| self.skip_element(kind, below))
            }
            MAP => {
                let n_entries = self.varint()?;
                if n_entries == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..n_entries).try_for_each(|_| {
                    self.skip_element(kinds >> 4, below)?;
                    self.skip_element(kinds & 0x0f, below)
                })
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, below)?;
                }
                Ok(())
            }
            _ => Err("a field has a type that does not exist"),
        }
    }

    /// Truths have a byte of their own where they are elements.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<()> {
        match kind {
            TRUE | FALSE => self.byte().map(|_| ()),
            kind => self.skip(kind, depth),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check_footer(bytes: &[u8]) -> Result<()> {
        let Some(list) = at_columns(bytes)? else {
            return Ok(());
        };
        let (leaves, length) = columns(list)?;
        check_groups(&list[length..], &leaves)
    }

    /// The footer's fields up to the row groups: version 1, a root with one column, rows, row groups.
    fn footer(n_children: &[u8], n_groups: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0x2c];
        bytes.extend([0x48, 1, b'r', 0x15]);
        bytes.extend(n_children);
        bytes.extend([0, 0x48, 1, b'a', 0, 0x16, 6]);
        bytes.push(0x19);
        bytes.extend(n_groups);
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn a_plausible_footer_passes() {
        assert_eq!(check_footer(&footer(&[2], &[0x1c])), Ok(()));
    }

    /// The same with one row group of one column of a path.
    fn footer_with_path(path: &[u8]) -> Vec<u8> {
        let mut bytes = footer(&[2], &[0x1c]);
        bytes.truncate(bytes.len() - 8);
        bytes.extend([0x19, 0x1c, 0x3c, 0x39]);
        bytes.extend(path);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn columns_are_called_the_same_everywhere() {
        assert_eq!(check_footer(&footer_with_path(&[0x18, 1, b'a'])), Ok(()));
        assert_eq!(check_footer(&footer_with_path(&[0x08])), Ok(()));
        for other in [&[0x18, 1, b'b'][..], &[0x28, 1, b'a', 1, b'b']] {
            let said = check_footer(&footer_with_path(other)).unwrap_err();
            assert!(said.contains("different names"), "{said}");
        }
    }

    #[test]
    fn page_indexes_are_read() {
        let bytes = [
            0x19, 0x21, 2, 1, 0x19, 0x28, 1, b'a', 0, 0x19, 0x28, 1, b'b', 0, 0x15, 2, 0x19, 0x26,
            2, 4, 0,
        ];
        let expected = ColumnIndex {
            all_null: vec![false, true],
            mins: vec![b"a", b""],
            maxs: vec![b"b", b""],
            null_counts: Some(vec![1, 2]),
            order: 1,
        };
        assert_eq!(column_index(&bytes), Ok(expected));
        assert_eq!(column_index(&bytes[..9]), Err(ENDS_EARLY));
        let bytes = [0x19, 0x1c, 0x16, 8, 0x15, 20, 0x16, 6, 0, 0];
        let page = PageLocation {
            offset: 4,
            length: 10,
            first_row: 3,
        };
        assert_eq!(page_locations(&bytes), Ok(vec![page]));
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused() {
        let huge = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        assert!(check_footer(&footer(&huge, &[0x1c])).is_err());
        let huge = [0xfc, 0xff, 0xff, 0xff, 0xff, 0x07];
        assert!(check_footer(&footer(&[2], &huge)).is_err());
    }

    #[test]
    fn deep_nesting_is_refused() {
        let n_elements: usize = 100_000;
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        let mut count = n_elements;
        while count > 0x7f {
            bytes.push(u8::try_from(count & 0x7f).unwrap() | 0x80);
            count >>= 7;
        }
        bytes.push(u8::try_from(count).unwrap());
        for _ in 0..n_elements {
            bytes.extend([0x35, 2, 0x18, 1, b'g', 0x15, 2, 0]);
        }
        assert_eq!(
            check_footer(&bytes),
            Err("its columns are nested too deeply")
        );
        let deep = vec![0x1c; 100_000];
        assert_eq!(check_footer(&deep), Err("values are nested too deeply"));
    }

    #[test]
    fn a_page_header_is_read() {
        // type, uncompressed 1000, compressed 500, v1 data page: 40 values, encoding 8.
        let bytes = [
            0x15, 0, 0x15, 0xd0, 0x0f, 0x15, 0xe8, 0x07, 0x2c, 0x15, 80, 0x15, 16, 0, 0, 9, 9,
        ];
        let expected = PageHeader {
            uncompressed: 1_000,
            compressed: 500,
            n_values: 40,
            encoding: 8,
            has_run_levels: true,
            is_compressed: true,
            ..PageHeader::default()
        };
        assert_eq!(page_header(&bytes), Ok((expected, bytes.len() - 2)));
        let negative = [0x25, 0x01, 0x00];
        assert_eq!(page_header(&negative), Err("a size is negative"));
    }
}
