//! Texts that are alike: what is found in one is found in the next one without reading all of it again.
//!
//! The texts of a column mostly have the same members in the same order, and differ in some values alone.
//! Where a text differs from one that was read before within plain texts and numbers only, it is JSON in
//! UTF-8 as that one is, and its members stand where they stand there, moved by what those values are longer
//! or shorter. Which values differ is learned as they do: the pieces between them are compared, many bytes
//! at a time, and only these values are read. Any other difference leaves the text to the [`Scanner`].

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processor"
)]

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, i8x32, u8x32};
use simdutf8::basic::{Utf8Error, from_utf8};

use super::scan::{Scanner, plain_length};

/// So many bytes are looked at at a time.
const N_BLOCK: usize = 32;
/// Texts are short up to so many bytes.
const N_SHORT: usize = 3 * N_BLOCK;
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
    level: Level,
}

/// A text that was read.
#[derive(Debug)]
struct Shape<'a> {
    json: &'a [u8],
    /// What may differ in another text of this shape: numbers, and what stands between the quotes of texts
    /// without escapes that are no names.
    values: Vec<Range<usize>>,
    /// What is between the values that were seen to differ: the same in all texts of this shape.
    pieces: Vec<Piece>,
    found: Vec<Option<Range<usize>>>,
}

#[derive(Debug)]
struct Piece {
    part: Range<usize>,
    /// The bytes that it begins with, and a bit for each of them.
    head: [u8; N_BLOCK],
    head_bits: u64,
    /// There are values in it, which were not seen to differ.
    has_values: bool,
    then: Then,
}

/// What follows a piece.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// A text of so many bytes, as long in all texts so far.
    TextAsLong(usize),
    /// A text of so many bytes, in others of more or fewer.
    Text(usize),
    Number(usize),
    End,
}

/// How a text differs from another one.
#[derive(Clone, Copy, Debug)]
enum Differs {
    /// First at this place of that one.
    At(usize),
    /// In how long the text after a piece is.
    InLength,
}

/// How far a text has been followed.
#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    n_pieces: usize,
    /// What follows stands so many bytes further on than in the other text; wraps around where less far.
    by: usize,
}

/// From a place on, all stands so many bytes further on; wraps around where less far.
#[derive(Debug)]
struct Move {
    from: usize,
    by: usize,
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
            level: Level::new(),
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
        let alike = places.find(|place| {
            let shape = self.shapes.get_mut(*place);
            shape.is_some_and(|shape| shape.is_of(self.level, json, &mut self.moves))
        });
        let Some((place, shape)) = alike.and_then(|place| Some((place, self.shapes.get(place)?)))
        else {
            return false;
        };
        self.last = place;
        for (found, before) in self.found.iter_mut().zip(&shape.found) {
            let part = before.as_ref().and_then(|part| {
                let [start, end] = [part.start, part.end].map(|at| moved(&self.moves, at));
                json.get(start..end)
            });
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
        let mut shape = Shape {
            json,
            values: values(json),
            pieces: Vec::new(),
            found: found.iter().map(|part| part.map(place)).collect(),
        };
        let whole = shape.piece(0..json.len(), Then::End);
        shape.pieces.push(whole);
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
    last.map_or(at, |one| at.wrapping_add(one.by))
}

impl Shape<'_> {
    /// Whether a text has this shape, and what moves from this text to that one.
    fn is_of(&mut self, level: Level, new: &[u8], moves: &mut Vec<Move>) -> bool {
        moves.clear();
        let mut so_far = Followed::default();
        loop {
            let followed = dispatch!(level, simd => self.follow(simd, new, moves, so_far));
            let Err((place, differs)) = followed else {
                return true;
            };
            if !self.learn(place.n_pieces, differs) {
                return false;
            }
            so_far = place;
        }
    }

    /// Follows a text on to its end, or to where it differs.
    #[inline(always)]
    fn follow<S: Simd>(
        &self,
        simd: S,
        new: &[u8],
        moves: &mut Vec<Move>,
        so_far: Followed,
    ) -> Result<(), (Followed, Differs)> {
        let mut by = so_far.by;
        for (n_pieces, piece) in self.pieces.iter().enumerate().skip(so_far.n_pieces) {
            let stop = |differs| Err((Followed { n_pieces, by }, differs));
            let part = &piece.part;
            let start = part.start.wrapping_add(by);
            if let Some(n_same) = self.first_difference(simd, piece, new, start) {
                return stop(Differs::At(part.start + n_same));
            }
            let at = start + part.len();
            let (before, length) = match piece.then {
                Then::TextAsLong(before) => match text_length(simd, new, at) {
                    // Nothing is computed from what was found, so that nothing waits for it.
                    Some(length) if length == before => continue,
                    Some(_) => return stop(Differs::InLength),
                    None => (before, None),
                },
                Then::Text(before) => (before, text_length(simd, new, at)),
                Then::Number(before) => (before, new.get(at..).and_then(number_length)),
                Then::End if at == new.len() => return Ok(()),
                Then::End => (0, None),
            };
            let Some(length) = length else {
                return stop(Differs::At(part.end));
            };
            by = by.wrapping_add(length).wrapping_sub(before);
            let from = part.end + before;
            moves.push(Move { from, by });
        }
        Ok(())
    }

    /// The first byte of a piece that is another one in a text.
    #[inline(always)]
    fn first_difference<S: Simd>(
        &self,
        simd: S,
        piece: &Piece,
        new: &[u8],
        start: usize,
    ) -> Option<usize> {
        let head = u8x32::load_array_ref(simd, &piece.head);
        let same = block(simd, new, start).simd_eq(head).to_bitmask();
        let differing = !same & piece.head_bits;
        if differing != 0 {
            return Some(differing.trailing_zeros() as usize);
        }
        let part = &piece.part;
        if part.len() <= N_BLOCK {
            return None;
        }
        let rest = self.json.get(part.start + N_BLOCK..part.end);
        let new = new.get(start + N_BLOCK..).unwrap_or_default();
        let rest = rest.filter(|rest| !new.starts_with(rest))?;
        Some(N_BLOCK + common_length(rest, new))
    }

    /// Whether a text may yet have this shape that differs after so many pieces; from now on, texts may
    /// differ so.
    #[cold]
    fn learn(&mut self, n_pieces: usize, differs: Differs) -> bool {
        let Some(piece) = self.pieces.get_mut(n_pieces) else {
            return false;
        };
        let place = match (differs, piece.then) {
            (Differs::At(place), _) if piece.has_values => place,
            (Differs::InLength, Then::TextAsLong(length)) => {
                piece.then = Then::Text(length);
                return true;
            }
            _ => return false,
        };
        // One that was seen to differ is no part of the piece, but may lie beside it.
        let index = self.values.partition_point(|value| value.end < place);
        let is_within = |value: &&Range<usize>| {
            value.start <= place && piece.part.start < value.start && value.end < piece.part.end
        };
        let Some(value) = self.values.get(index).filter(is_within).cloned() else {
            return false;
        };
        let then = match self.json.get(value.end) {
            Some(b'"') => Then::TextAsLong(value.len()),
            _ => Then::Number(value.len()),
        };
        let (part, after) = (piece.part.clone(), piece.then);
        let pieces = [
            self.piece(part.start..value.start, then),
            self.piece(value.end..part.end, after),
        ];
        self.pieces.splice(n_pieces..=n_pieces, pieces);
        true
    }

    fn piece(&self, part: Range<usize>, then: Then) -> Piece {
        let bytes = self.json.get(part.clone()).unwrap_or_default();
        let n_before = |at: usize| self.values.partition_point(|value| value.end <= at);
        Piece {
            head: first_bytes(bytes),
            head_bits: (1 << bytes.len().min(N_BLOCK)) - 1,
            has_values: n_before(part.start) < n_before(part.end),
            part,
            then,
        }
    }
}

/// How many bytes two texts begin with alike.
#[cold]
fn common_length(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// How long the text is that begins at a place; `None` where there is an escape or a control in it, or no
/// end, or it is not UTF-8.
#[inline(always)]
fn text_length<S: Simd>(simd: S, json: &[u8], at: usize) -> Option<usize> {
    let mut length = 0;
    while length < N_SHORT {
        let bytes = block(simd, json, at + length);
        // Those beyond ASCII are below zero.
        let is_control = bytes.bitcast::<i8x32<S>>().simd_lt(b' '.cast_signed());
        let is_special = bytes.simd_eq(b'"') | bytes.simd_eq(b'\\') | is_control;
        let special = is_special.to_bitmask();
        if special != 0 {
            length += special.trailing_zeros() as usize;
            if json.get(at + length) == Some(&b'"') {
                return Some(length);
            }
            break;
        }
        length += N_BLOCK;
    }
    any_text_length(json.get(at..)?)
}

/// The same of a text that is not short or not ASCII.
#[cold]
fn any_text_length(json: &[u8]) -> Option<usize> {
    let (text, rest) = json.split_at_checked(plain_length(json))?;
    (rest.first() == Some(&b'"') && from_utf8(text).is_ok()).then_some(text.len())
}

/// The bytes of a text from a place on; zeros after its end.
#[inline(always)]
fn block<S: Simd>(simd: S, text: &[u8], from: usize) -> u8x32<S> {
    match text.get(from..from + N_BLOCK) {
        Some(bytes) => u8x32::from_slice(simd, bytes),
        None => u8x32::load_array(simd, first_bytes(text.get(from..).unwrap_or_default())),
    }
}

#[cold]
fn first_bytes(bytes: &[u8]) -> [u8; N_BLOCK] {
    let mut first = [0; N_BLOCK];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    first
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
