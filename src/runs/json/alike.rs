//! Texts that are alike: what is found in one is found in the next one without reading all of it again.
//!
//! The texts of a column mostly have the same members in the same order, and differ in some values alone.
//! Where a text differs from one that was read before within plain texts and numbers only, it is JSON in
//! UTF-8 as that one is, and its members stand where they stand there, moved by what those values are longer
//! or shorter. So the two are compared, many bytes at a time, and only values that differ are read. Any
//! other difference leaves the text to the [`Scanner`].

use std::ops::Range;

use simdutf8::basic::{Utf8Error, from_utf8};

use super::scan::{Scanner, plain_length, special_bytes};

/// Texts are short up to so many bytes.
const N_SHORT: usize = 64;
/// As many texts are remembered.
const N_SHAPES: usize = 4;
/// Where so many more texts are not alike than are, no more are compared.
const N_OTHERS_MAX: usize = 64;

/// Reads texts one after the other, and finds the same members in each, as a [`Scanner`] does.
#[derive(Debug)]
pub(super) struct Alike<'n, 'a> {
    scanner: Scanner<'n, 'a>,
    shapes: Vec<Shape<'a>>,
    /// The place of the shape that the text before had.
    last: usize,
    n_others: usize,
    found: Vec<Option<&'a str>>,
    moves: Vec<Move>,
}

/// A text that was read.
#[derive(Debug)]
struct Shape<'a> {
    json: &'a [u8],
    /// What may differ in another text of this shape: numbers, and what stands between the quotes of texts
    /// without escapes that are no names.
    values: Vec<Range<usize>>,
    found: Vec<Option<Range<usize>>>,
}

/// From one place on, all stands at another.
#[derive(Debug)]
struct Move {
    from: usize,
    to: usize,
}

impl<'n, 'a> Alike<'n, 'a> {
    /// See [`Scanner::new`].
    pub(super) fn new(below: Option<&'n str>, names: &'n [&'n str]) -> Self {
        Self {
            scanner: Scanner::new(below, names),
            shapes: Vec::with_capacity(N_SHAPES),
            last: 0,
            n_others: 0,
            found: vec![None; names.len()],
            moves: Vec::new(),
        }
    }

    /// See [`Scanner::find`]; bytes that are not UTF-8 are an error.
    pub(super) fn find(&mut self, json: &'a [u8]) -> Result<Option<&[Option<&'a str>]>, Utf8Error> {
        if self.n_others > N_OTHERS_MAX {
            return Ok(self.scanner.find(from_utf8(json)?));
        }
        if self.find_alike(json) {
            self.n_others = self.n_others.saturating_sub(1);
            return Ok(Some(&self.found));
        }
        self.n_others += 1;
        Ok(self.find_anew(from_utf8(json)?))
    }

    /// Whether a text is like one that was read before; what was found there is then found in it.
    fn find_alike(&mut self, json: &'a [u8]) -> bool {
        let n_shapes = self.shapes.len();
        let mut places = (self.last..n_shapes).chain(0..self.last.min(n_shapes));
        let alike = places.find_map(|place| {
            let shape = self.shapes.get(place)?;
            shape.follow(json, &mut self.moves)?;
            Some((place, shape))
        });
        let Some((place, shape)) = alike else {
            return false;
        };
        self.last = place;
        for (found, before) in self.found.iter_mut().zip(&shape.found) {
            let place = before.as_ref().map(|part| {
                let [start, end] = [part.start, part.end].map(|at| moved(&self.moves, at));
                start..end
            });
            let part = place.and_then(|place| json.get(place));
            *found = part.and_then(|part| from_utf8(part).ok());
        }
        true
    }

    /// Reads a text as a whole, and remembers it.
    fn find_anew(&mut self, json: &'a str) -> Option<&[Option<&'a str>]> {
        let n_shapes = self.shapes.len();
        let found = self.scanner.find(json)?;
        let place = |part: &str| {
            let start = part.as_ptr().addr() - json.as_ptr().addr();
            start..start + part.len()
        };
        let json = json.as_bytes();
        let shape = Shape {
            json,
            values: values(json),
            found: found.iter().map(|part| part.map(place)).collect(),
        };
        if n_shapes < N_SHAPES {
            self.last = n_shapes;
            self.shapes.push(shape);
        } else {
            // The one that is tried last.
            self.last = (self.last + N_SHAPES - 1) % N_SHAPES;
            *self.shapes.get_mut(self.last)? = shape;
        }
        Some(found)
    }
}

/// Where a place of the old text is in the new one.
#[inline]
fn moved(moves: &[Move], at: usize) -> usize {
    let last = moves.iter().rev().find(|one| one.from <= at);
    last.map_or(at, |one| one.to + (at - one.from))
}

impl Shape<'_> {
    /// Finds what moves from this text to another; `None` where that has another shape.
    #[inline]
    fn follow(&self, new: &[u8], moves: &mut Vec<Move>) -> Option<()> {
        moves.clear();
        let old = self.json;
        let (mut at_old, mut at_new) = (0, 0);
        let mut values = self.values.iter();
        loop {
            let n_same = common_length(old.get(at_old..)?, new.get(at_new..)?);
            at_old += n_same;
            at_new += n_same;
            if at_old == old.len() && at_new == new.len() {
                return Some(());
            }
            let value = values.find(|value| value.end >= at_old)?;
            let n_read = at_old.checked_sub(value.start)?;
            if old.get(value.end) == Some(&b'"') {
                let rest = new.get(at_new..)?;
                let is_whole = old.get(at_old).is_some_and(u8::is_ascii);
                let n_left = value.end - at_old;
                if is_whole && is_plain_ascii(rest, n_left) {
                    at_new += n_left;
                } else {
                    let start = at_new - n_read;
                    at_new += text_length(rest)?;
                    from_utf8(new.get(start..at_new)?).ok()?;
                }
            } else {
                at_new -= n_read;
                at_new += number_length(new.get(at_new..)?)?;
            }
            at_old = value.end;
            moves.push(Move {
                from: at_old,
                to: at_new,
            });
        }
    }
}

/// How many bytes two texts begin with alike; 16 are looked at at a time.
#[inline]
fn common_length(one: &[u8], other: &[u8]) -> usize {
    let (ones, _) = one.as_chunks::<16>();
    let (others, _) = other.as_chunks::<16>();
    let mut n_same = 0;
    for (one, other) in ones.iter().zip(others) {
        let differing = u128::from_le_bytes(*one) ^ u128::from_le_bytes(*other);
        if differing != 0 {
            return n_same + (differing.trailing_zeros() / 8) as usize;
        }
        n_same += one.len();
    }
    let (one, other) = (one.get(n_same..), other.get(n_same..));
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let rest = one.iter().zip(other);
    n_same + rest.take_while(|(one, other)| one == other).count()
}

/// Whether a text ends after so many bytes, which are ASCII without an escape or a control.
#[inline]
fn is_plain_ascii(text: &[u8], length: usize) -> bool {
    let Some((plain, [b'"', ..])) = text.split_at_checked(length) else {
        return false;
    };
    let word = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        special_bytes(word) | word & u64::from_ne_bytes([0x80; 8])
    };
    let (words, rest) = plain.as_chunks();
    let special = words.iter().fold(0, |all, bytes| all | word(bytes));
    match plain.last_chunk() {
        Some(last) => special | word(last) == 0,
        None => rest
            .iter()
            .all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')),
    }
}

/// The bytes before a text's end; `None` where there is an escape or a control before it.
#[inline]
fn text_length(text: &[u8]) -> Option<usize> {
    let (words, _) = text.as_chunks();
    let mut words = words.iter().take(N_SHORT / size_of::<u64>());
    let mut length = 0;
    let special = words.find_map(|word| {
        let special = special_bytes(u64::from_le_bytes(*word));
        length += if special == 0 { word.len() } else { 0 };
        (special > 0).then_some((special.trailing_zeros() / 8) as usize)
    });
    length += match special {
        Some(length) => length,
        None => plain_length(text.get(length..)?),
    };
    (text.get(length) == Some(&b'"')).then_some(length)
}

/// The bytes of the number that a text begins with.
fn number_length(text: &[u8]) -> Option<usize> {
    let n_digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let some_digits = |from: usize| Some(n_digits(from)).filter(|n| *n > 0);
    let mut length = usize::from(text.first() == Some(&b'-'));
    length += match text.get(length)? {
        b'0' => 1,
        _ => some_digits(length)?,
    };
    if text.get(length) == Some(&b'.') {
        length += 1 + some_digits(length + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(length) {
        length += 1;
        length += usize::from(matches!(text.get(length), Some(b'+' | b'-')));
        length += some_digits(length)?;
    }
    Some(length)
}

/// The values of a JSON text that may differ in another of its shape.
fn values(json: &[u8]) -> Vec<Range<usize>> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let start = at;
        match byte {
            b'"' => {
                let start = start + 1;
                let rest = json.get(start..).unwrap_or_default();
                let is_end = |escaped: &mut bool, byte: &u8| {
                    let is_end = *byte == b'"' && !*escaped;
                    *escaped = *byte == b'\\' && !*escaped;
                    (!is_end).then_some(*byte == b'\\')
                };
                let bytes = rest.iter().scan(false, is_end);
                let (n_bytes, has_escapes) =
                    bytes.fold((0, false), |(n, any), is| (n + 1, any | is));
                let end = start + n_bytes;
                at = end + 1;
                let after = json.get(at..).unwrap_or_default();
                let is_name = after.trim_ascii_start().first() == Some(&b':');
                if !has_escapes && !is_name {
                    values.push(start..end);
                }
            }
            b'-' | b'0'..=b'9' => {
                at += number_length(json.get(at..).unwrap_or_default()).unwrap_or(1);
                values.push(start..at);
            }
            _ => at += 1,
        }
    }
    values
}
