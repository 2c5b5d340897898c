//! What is read of JSON texts, a column at a time: a member, the text at a path, the first text of several,
//! the sum of some numbers.
//!
//! Each text is read in one pass, without a tree, and is nothing where it is not JSON as a whole; of one
//! that is like another before it, only what differs. So texts come as their bytes: whether these are UTF-8
//! is seen on the way, and an error where they are not. Columns are views: rows that share one (a reader
//! gives a dictionary so) are read once, and what is found is a view into the same bytes wherever it stands
//! there as it is. Of several members of one name the last counts.

mod alike;
mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, ByteView, Int64Array, MAX_INLINE_VIEW_LEN,
    StringViewBuilder, UInt32Array,
};
use datafusion::arrow::compute;
use datafusion::common::{
    DataFusionError, HashMap, Result, exec_datafusion_err, internal_datafusion_err,
};
use serde_json::value::RawValue;
pub(super) use simdutf8::basic::Utf8Error as NotUtf8;
use simdutf8::basic::from_utf8;

use alike::Alike;
pub(crate) use scan::{Member, Scanner, plain_length};

/// The members of a JSON object, each as its text; a text that is none has no members.
pub(crate) fn object(json: &str) -> BTreeMap<Cow<'_, str>, &RawValue> {
    serde_json::from_str(json).unwrap_or_default()
}

/// Whether a text is a JSON object as a whole.
pub(crate) fn is_object(json: &str) -> bool {
    Scanner::new(None, &[]).find(json).is_some()
}

/// The text of a JSON text, number or boolean.
pub(crate) fn scalar_text(json: &RawValue) -> Option<String> {
    scalar(json.get()).map(Cow::into_owned)
}

/// The JSON texts of a member.
pub(super) fn members(jsons: &BinaryViewArray, name: &str) -> Result<ArrayRef> {
    once_a_view(jsons, |jsons| {
        let names = [name];
        let mut texts_alike = Alike::new(None, &names);
        texts(jsons, |json| {
            let members = texts_alike.find(json)?;
            let member = members.and_then(|members| *members.first()?);
            Ok(member.map(Cow::Borrowed))
        })
    })
}

/// The texts of the scalars at a path within an object, or within its own member `below`: at the member of
/// the whole path's name where there is one, else at the rest of the path within the member of its first
/// segment's name.
pub(super) fn texts_at(
    jsons: &BinaryViewArray,
    below: Option<&str>,
    path: &str,
) -> Result<ArrayRef> {
    once_a_view(jsons, |jsons| {
        let steps = steps(path);
        let mut texts_alike = Alike::new(below, &steps);
        texts(jsons, |json| {
            let members = texts_alike.find(json)?;
            Ok(members.and_then(|members| scalar_at(members, path)))
        })
    })
}

/// The texts of the first scalar among some members of an object, or of its own member `below`.
pub(super) fn first_texts(
    jsons: &BinaryViewArray,
    below: Option<&str>,
    names: &[&str],
) -> Result<ArrayRef> {
    once_a_view(jsons, |jsons| {
        let mut texts_alike = Alike::new(below, names);
        texts(jsons, |json| {
            let mut members = texts_alike.find(json)?.into_iter().flatten();
            Ok(members.find_map(|member| scalar((*member)?)))
        })
    })
}

/// The sums of the scalars of an object's members that have one of the names; one that ends in `*` is of
/// all names that begin so. Null where there is none.
pub(super) fn sums(
    jsons: &BinaryViewArray,
    names: &[&str],
    number: impl Fn(&str) -> Result<Option<i64>>,
) -> Result<ArrayRef> {
    let is_meant = |key: &str| {
        names.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => key == *name,
        })
    };
    let sum = |json: &[u8]| {
        let mut sum: Option<i64> = None;
        let json = from_utf8(json).map_err(not_utf8)?;
        for (_, value) in object(json).iter().filter(|(key, _)| is_meant(key)) {
            if let Some(more) = scalar(value.get())
                .map(|text| number(&text))
                .transpose()?
                .flatten()
            {
                let more = sum.unwrap_or(0).checked_add(more);
                sum = Some(more.ok_or_else(|| exec_datafusion_err!("a sum passes 64 bits"))?);
            }
        }
        Ok(sum)
    };
    once_a_view(jsons, |jsons| {
        let sums = jsons.iter().map(|json| json.map_or(Ok(None), sum));
        Ok(Arc::new(sums.collect::<Result<Int64Array>>()?))
    })
}

/// The names of the members that a path may lead through: the whole, then its first segment.
fn steps(path: &str) -> Vec<&str> {
    let first = path.split_once('.').map(|(first, _)| first);
    std::iter::once(path).chain(first).collect()
}

fn scalar_at<'a>(members: &[Option<&'a str>], path: &str) -> Option<Cow<'a, str>> {
    match members {
        [Some(whole), ..] => scalar(whole),
        [None, Some(inner)] => {
            let (_, rest) = path.split_once('.')?;
            scalar_at(Scanner::new(None, &steps(rest)).find(inner)?, rest)
        }
        _ => None,
    }
}

/// The text of a JSON that is a text, a number or a boolean: a part of it where it is written there as it
/// is.
fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes() {
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => {
            json.get(1..json.len() - 1).map(Cow::Borrowed)
        }
        [b'"', ..] => serde_json::from_str(json).ok().map(Cow::Owned),
        [b't' | b'f', ..] => Some(Cow::Borrowed(json)),
        [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            Some(Cow::Borrowed(json))
        }
        [b'-' | b'0'..=b'9', ..] => {
            let number: serde_json::Number = serde_json::from_str(json).ok()?;
            Some(Cow::Owned(number.to_string()))
        }
        _ => None,
    }
}

/// The longest text that a view holds itself.
const INLINED_MAX: usize = MAX_INLINE_VIEW_LEN as usize;

/// As many rows of an array show whether its views repeat.
const TRIED_ROWS: usize = 256;

/// Computes a column from texts, once for rows that share a view.
fn once_a_view(
    jsons: &BinaryViewArray,
    compute: impl Fn(&BinaryViewArray) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let Some((first_rows, places)) = distinct_views(jsons) else {
        return compute(jsons);
    };
    let distinct = compute::take(jsons, &first_rows, None)?;
    let computed = compute(distinct.as_binary_view())?;
    Ok(compute::take(&computed, &places, None)?)
}

/// The first row of each view, and each row's place among these; `None` where less than half of the views
/// repeat.
fn distinct_views(jsons: &BinaryViewArray) -> Option<(UInt32Array, UInt32Array)> {
    let mut first_rows = Vec::new();
    let mut places = Vec::with_capacity(jsons.len());
    let mut place_of = HashMap::new();
    for (row, view) in jsons.views().iter().enumerate() {
        if row >= TRIED_ROWS && first_rows.len() > row / 2 {
            return None;
        }
        let place = jsons.is_valid(row).then(|| {
            *place_of.entry(*view).or_insert_with(|| {
                first_rows.push(u32::try_from(row).ok());
                first_rows.len() - 1
            })
        });
        places.push(place.and_then(|place| u32::try_from(place).ok()));
    }
    Some((first_rows.into(), places.into()))
}

/// What is found in each text: a part of it, which stays where it is, or a text of its own.
fn texts<'a>(
    jsons: &'a BinaryViewArray,
    mut find: impl FnMut(&'a [u8]) -> std::result::Result<Option<Cow<'a, str>>, NotUtf8>,
) -> Result<ArrayRef> {
    let mut texts = StringViewBuilder::with_capacity(jsons.len());
    // The texts' own bytes come along once a view needs them.
    let mut first_block = None;
    for (json, view) in jsons.iter().zip(jsons.views().iter()) {
        let Some(json) = json else {
            texts.append_null();
            continue;
        };
        match find(json).map_err(not_utf8)? {
            Some(Cow::Borrowed(part)) if part.len() > INLINED_MAX => {
                let first_block = *first_block.get_or_insert_with(|| {
                    let blocks = jsons.data_buffers().iter();
                    let mut blocks = blocks.map(|block| texts.append_block(block.clone()));
                    let first_block = blocks.next();
                    blocks.for_each(drop);
                    first_block.unwrap_or_default()
                });
                let view = ByteView::from(*view);
                let offset = view.offset + number_u32(part.as_ptr().addr() - json.as_ptr().addr())?;
                texts.try_append_view(
                    first_block + view.buffer_index,
                    offset,
                    number_u32(part.len())?,
                )?;
            }
            found => texts.append_option(found),
        }
    }
    Ok(Arc::new(texts.finish()))
}

fn not_utf8(problem: NotUtf8) -> DataFusionError {
    DataFusionError::External(Box::new(problem))
}

fn number_u32(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| internal_datafusion_err!("a view of {number} bytes"))
}
