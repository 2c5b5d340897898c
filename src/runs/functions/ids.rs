//! Ids, a column at a time: as text, and as 128 bits.
//!
//! An id's text is that of a UUID in lower case with hyphens, or whatever else it is, without spaces and
//! quotes around it. Nearly all are such UUIDs already, which is told and read many bytes at a time.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, Decimal128Array, StringViewArray, StringViewBuilder,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::common::Result;
use simdutf8::basic::from_utf8;
use uuid::Uuid;

use super::{BITS, bad, not_utf8, text};
use crate::cpu::fastest;

/// The characters of a UUID.
const LENGTH: usize = 36;

/// Costs a copy of the views and no more where every id already is as it should be.
pub(super) fn texts(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    if let Some(bytes) = values.as_fixed_size_binary_opt() {
        return Ok(Arc::new(
            bytes
                .iter()
                .map(|id| id.map(|id| of_bytes(id, column)).transpose())
                .collect::<Result<StringViewArray>>()?,
        ));
    }
    let texts = match values.as_binary_view_opt() {
        Some(bytes) => bytes
            .iter()
            .map(|id| id.map(|id| of_bytes(id, column)).transpose())
            .collect::<Result<StringViewArray>>()?,
        None => text(values)?,
    };
    if texts
        .iter()
        .flatten()
        .all(|id| plain(id.as_bytes()).is_some())
    {
        return Ok(Arc::new(texts));
    }
    let mut builder = StringViewBuilder::with_capacity(texts.len());
    for value in &texts {
        builder.append_option(value.map(of_text));
    }
    Ok(Arc::new(builder.finish()))
}

/// The bits of ids.
pub(super) fn bits(ids: &ArrayRef) -> Result<Decimal128Array> {
    let bits = text(ids)?.iter().map(|id| id.map(bits_of)).collect();
    Ok(Decimal128Array::with_data_type(bits, BITS))
}

/// The bits of ids, which are texts, mixed with those of their projects, of which neighbours mostly share
/// a view; none of an empty id.
pub(super) fn bits_of_runs(
    projects: &ArrayRef,
    ids: &BinaryViewArray,
    column: &str,
) -> Result<Decimal128Array> {
    let projects = text(projects)?;
    let mut last: Option<(u128, i128)> = None;
    let mut of_project = |row: usize| {
        let view = projects.views().get(row).copied().unwrap_or_default();
        match last {
            Some((one, mixed)) if one == view => mixed,
            _ => {
                let project = if projects.is_null(row) {
                    ""
                } else {
                    projects.value(row)
                };
                let mixed = bits_of(project).rotate_left(1);
                last = (!projects.is_null(row)).then_some((view, mixed));
                mixed
            }
        }
    };
    let (mut empty, mut are_texts) = (Vec::new(), true);
    let mut of_other = |row: usize, id: &[u8]| {
        let Ok(id) = from_utf8(id) else {
            are_texts = false;
            return 0;
        };
        if bare(id).is_empty() {
            empty.push(row);
        }
        bits_of(id)
    };
    let mut bits = vec![0; ids.len()];
    fastest!({
        for (row, bits) in bits.iter_mut().enumerate() {
            if ids.is_valid(row) {
                let id = ids.value(row);
                let of_id = plain(id).unwrap_or_else(|| of_other(row, id));
                *bits = of_id ^ of_project(row);
            }
        }
    });
    if !are_texts {
        return Err(not_utf8(column));
    }
    let mut nulls = ids.nulls().cloned();
    if !empty.is_empty() {
        let are_there = (0..ids.len()).map(|row| empty.binary_search(&row).is_err());
        let are_there = NullBuffer::new(are_there.collect());
        nulls = NullBuffer::union(nulls.as_ref(), Some(&are_there));
    }
    let bits = Decimal128Array::new(bits.into(), nulls);
    Ok(bits.with_data_type(BITS))
}

/// The id at the end of a dotted order's first segment.
pub(super) fn first_of(order: &str) -> Option<String> {
    let first = order.split('.').next()?;
    let id = first.get(first.len().checked_sub(LENGTH)?..)?;
    Uuid::try_parse(id).ok().map(|id| id.to_string())
}

/// Bytes are an id's text, or the 16 bytes of a UUID.
fn of_bytes(bytes: &[u8], column: &str) -> Result<String> {
    match (Uuid::from_slice(bytes), std::str::from_utf8(bytes)) {
        (Ok(uuid), _) => Ok(uuid.as_hyphenated().to_string()),
        (Err(_), Ok(text)) => Ok(text.to_owned()),
        _ => Err(bad(
            column,
            "an id of 16 bytes, or text",
            format!("{} bytes", bytes.len()),
        )),
    }
}

fn of_text(id: &str) -> String {
    let bare = bare(id);
    Uuid::try_parse(bare).map_or_else(|_| bare.to_owned(), |uuid| uuid.as_hyphenated().to_string())
}

fn bare(id: &str) -> &str {
    id.trim().trim_matches('"')
}

fn bits_of(id: &str) -> i128 {
    if let Some(bits) = plain(id.as_bytes()) {
        return bits;
    }
    let bare = bare(id);
    let uuid = Uuid::try_parse(bare)
        .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_URL, bare.as_bytes()));
    uuid.as_u128().cast_signed()
}

/// The bits of an id that is a UUID in lower case with hyphens; its digits are read eight at a time.
#[inline(always)]
fn plain(id: &[u8]) -> Option<i128> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    const WORDS: [(usize, usize); 4] = [(0, 4), (9, 14), (19, 24), (28, 32)];
    let id: &[u8; LENGTH] = id.as_array()?;
    let four = |at: usize| {
        let digits = id.get(at..).and_then(|rest| rest.first_chunk());
        u64::from(u32::from_be_bytes(digits.copied().unwrap_or_default()))
    };
    let words = WORDS.map(|(high, low)| four(high) << 32 | four(low));
    let are_digits = words.iter().fold(true, |all, word| all & are_digits(*word));
    let is_plain = are_digits && HYPHENS.iter().all(|at| id.get(*at) == Some(&b'-'));
    let numbers = words.map(number);
    let bits = numbers
        .iter()
        .fold(0, |bits, number| bits << 32 | i128::from(*number));
    is_plain.then_some(bits)
}

/// Whether all bytes are hexadecimal digits, letters in lower case.
#[inline(always)]
const fn are_digits(bytes: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const UPPER: u64 = ONES << 7;
    // The upper bit of each byte that is at least another, of those that have none.
    const fn at_least(bytes: u64, least: u8) -> u64 {
        bytes.wrapping_add(ONES * (0x80 - least as u64))
    }
    let decimal = at_least(bytes, b'0') & !at_least(bytes, b'9' + 1);
    let letters = at_least(bytes, b'a') & !at_least(bytes, b'f' + 1);
    (decimal | letters) & !bytes & UPPER == UPPER
}

/// The number of eight hexadecimal digits, the first of which is the uppermost byte.
#[inline(always)]
const fn number(digits: u64) -> u32 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Letters have bit 6, and begin with one.
    let halves = (digits & (ONES * 0xf)) + 9 * (digits >> 6 & ONES);
    let bytes = (halves | halves >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let number = (pairs | pairs >> 16) as u32;
    number
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits_of_run(project: &str, id: &str) -> Option<i128> {
        let array = |text: &str| Arc::new(StringViewArray::from(vec![text])) as ArrayRef;
        let ids: BinaryViewArray = [Some(id)].into_iter().collect();
        let bits = bits_of_runs(&array(project), &ids, "id").unwrap();
        bits.iter().next().unwrap()
    }

    #[test]
    fn an_id_has_the_bits_of_its_text_however_it_is_written() {
        let plain = "0188aa3e-c5b4-7d10-9f00-00000000beef";
        for written in [
            "0188AA3E-C5B4-7D10-9F00-00000000BEEF",
            "0188aa3ec5b47d109f0000000000beef",
            "{0188aa3e-c5b4-7d10-9f00-00000000beef}",
            " \"0188aa3e-c5b4-7d10-9f00-00000000beef\"",
        ] {
            assert_eq!(of_text(written), plain);
            assert_eq!(bits_of(written), bits_of(plain));
            assert_eq!(bits_of_run("p", written), bits_of_run("p", plain));
            assert_ne!(bits_of_run("q", written), bits_of_run("p", plain));
        }
        for id in ["run 7", "0188aa3e-c5b4-7d10-9f00-00000000bee", "-"] {
            assert_eq!(bits_of(&format!(" {id} ")), bits_of(id));
            assert_ne!(bits_of(id), bits_of("another"));
        }
        assert_eq!(bits_of_run("p", " \"\" "), None);
        for id in [
            "é88aa3e-c5b4-7d10-9f00-00000000beef",
            "0188aa3e-c5b4-7d10-9f00-00000000beé",
        ] {
            assert_eq!((id.len(), super::plain(id.as_bytes())), (LENGTH, None));
        }
    }

    #[test]
    fn no_run_has_the_bits_of_what_is_no_id() {
        let plain = "0188aa3e-c5b4-7d10-9f00-00000000beef";
        let of_project = |ids: &[Option<&[u8]>]| {
            let projects: ArrayRef = Arc::new(StringViewArray::from(vec!["p"; ids.len()]));
            let ids: BinaryViewArray = ids.iter().copied().collect();
            bits_of_runs(&projects, &ids, "parent_run_id")
        };
        let ids = [Some(plain), None, Some(""), Some(" é "), Some(plain)];
        let bits = of_project(&ids.map(|id| id.map(str::as_bytes))).unwrap();
        let bits: Vec<Option<i128>> = bits.iter().collect();
        let [first, null, empty, other, last] = bits.try_into().unwrap();
        assert_eq!([null, empty], [None, None]);
        assert_eq!([first, other], [plain, "é"].map(|id| bits_of_run("p", id)));
        assert_eq!(first, last);
        let problem = of_project(&[Some(plain.as_bytes()), Some(b"\xff")]).unwrap_err();
        assert!(problem.to_string().contains("parent_run_id"), "{problem}");
    }

    proptest! {
        #[test]
        fn uuids_are_read_as_they_are_by_their_crate(bits: u128, at in 0..LENGTH, byte in 0..128_u8) {
            let uuid = Uuid::from_u128(bits);
            let mut text = uuid.as_hyphenated().to_string();
            prop_assert_eq!(plain(text.as_bytes()), Some(bits.cast_signed()));
            text.replace_range(at..=at, &char::from(byte).to_string());
            let read = Uuid::try_parse(&text).ok();
            let is_plain = read.is_some_and(|read| read.as_hyphenated().to_string() == text);
            prop_assert_eq!(plain(text.as_bytes()).is_some(), is_plain, "{}", text);
            if let Some(bits) = plain(text.as_bytes()) {
                prop_assert_eq!(Some(bits), read.map(|read| read.as_u128().cast_signed()));
            }
        }
    }
}
