//! Small numbers as Parquet packs them, read a few at a time: levels and places in a dictionary as runs,
//! whole numbers as differences.
//!
//! Readers hold places in a page and are handed the page's bytes with each call.

use std::ops::Range;

use super::Result;
use super::bits::{Bits, word_at};
use crate::cpu::fastest;
use crate::source::thrift;

const ENDS_EARLY: &str = "a page's values end early";

/// The most bits that a number of a run may take: one more, and it could be what stands for no place.
const WIDTH_MAX: u8 = 31;

/// Runs of one number, and runs of numbers of a few bits each (`RLE`).
#[derive(Debug, Clone)]
pub(super) struct Runs {
    /// Where the next run begins, and where all end.
    rest: Range<usize>,
    width: u8,
    run: Run,
    /// Numbers of the run that are not read yet.
    n_left: usize,
}

/// The numbers of a run.
#[derive(Debug, Clone, Copy)]
enum Run {
    Same(u32),
    /// From a bit of the page on.
    Packed(usize),
}

impl Runs {
    /// Runs of numbers of `width` bits in a part of a page.
    pub(super) fn new(part: Range<usize>, width: u8) -> Result<Self> {
        if width > WIDTH_MAX {
            return Err(format!("its numbers take {width} bits").into());
        }
        Ok(Self {
            rest: part,
            width,
            run: Run::Same(0),
            n_left: 0,
        })
    }

    /// Adds the next `n` numbers.
    pub(super) fn read(&mut self, page: &[u8], n: usize, numbers: &mut Vec<u32>) -> Result<()> {
        let width = self.width;
        self.each(page, n, |run, n| match run {
            Run::Same(value) => numbers.extend(std::iter::repeat_n(value, n)),
            Run::Packed(at) => fastest!(numbers.extend((0..n).map(number_from(page, at, width)))),
        })
    }

    /// Goes on by `n` numbers and adds those at some places among them, which do not fall.
    pub(super) fn read_some(
        &mut self,
        page: &[u8],
        n: usize,
        places: &[u32],
        numbers: &mut Vec<u32>,
    ) -> Result<()> {
        let width = self.width;
        let mut rest = places;
        let mut first = 0;
        self.each(page, n, |run, n| {
            let end = first + n;
            let n_here = n_below(rest, end, n);
            let (here, others) = rest.split_at(n_here);
            match run {
                Run::Same(value) => numbers.extend(std::iter::repeat_n(value, n_here)),
                Run::Packed(at) => fastest!({
                    let (number, first) = (number_from(page, at, width), first);
                    numbers.extend(here.iter().map(|place| number(*place as usize - first)));
                }),
            }
            rest = others;
            first = end;
        })
    }

    /// What the next `n` numbers are, where they are all of one run of one number.
    pub(super) fn same(&mut self, page: &[u8], n: usize) -> Result<Option<u32>> {
        while self.n_left == 0 && n > 0 {
            self.next_run(page)?;
        }
        match self.run {
            Run::Same(value) if self.n_left >= n => {
                self.n_left -= n;
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    /// Adds the next `n` numbers, which are bits.
    pub(super) fn read_bits(&mut self, page: &[u8], n: usize, bits: &mut Bits) -> Result<()> {
        self.each(page, n, |run, n| match run {
            Run::Same(value) => bits.push_same(value != 0, n),
            Run::Packed(at) => bits.push_packed(page, at, n),
        })
    }

    /// Passes over the next `n` numbers.
    pub(super) fn skip(&mut self, page: &[u8], n: usize) -> Result<()> {
        self.each(page, n, |_, _| {})
    }

    /// Hands over the runs, and parts of them, that make up the next `n` numbers, with how many each has.
    fn each(&mut self, page: &[u8], mut n: usize, mut take: impl FnMut(Run, usize)) -> Result<()> {
        while n > 0 {
            let n_there = n.min(self.n_left);
            if n_there == 0 {
                self.next_run(page)?;
                continue;
            }
            take(self.run, n_there);
            self.n_left -= n_there;
            if let Run::Packed(at) = &mut self.run {
                *at += n_there * usize::from(self.width);
            }
            n -= n_there;
        }
        Ok(())
    }

    fn next_run(&mut self, page: &[u8]) -> Result<()> {
        let header = varint(page, &mut self.rest)?;
        let n = usize::try_from(header >> 1).map_err(|_| ENDS_EARLY)?;
        if header & 1 == 0 {
            let n_bytes = usize::from(self.width.div_ceil(8));
            let bytes = take(page, &mut self.rest, n_bytes)?;
            let value = bytes.iter().rev();
            let value = value.fold(0, |value, byte| value << 8 | u32::from(*byte));
            (self.run, self.n_left) = (Run::Same(value), n);
            return Ok(());
        }
        // Eights of numbers; of the last some may be missing.
        let at = self.rest.start * 8;
        let width = usize::from(self.width);
        let n = n.checked_mul(8).ok_or(ENDS_EARLY)?;
        let n = match width {
            0 => n,
            _ => n.min(self.rest.len() * 8 / width),
        };
        if n == 0 && header > 1 {
            return Err(ENDS_EARLY.into());
        }
        let n_bytes = (n * width).div_ceil(8).min(self.rest.len());
        self.rest.start += n_bytes;
        (self.run, self.n_left) = (Run::Packed(at), n);
        Ok(())
    }
}

/// Of so few numbers each is looked at.
const FEW: usize = 32;

/// How many of some places that do not fall are below a limit, of which `n` at most are likely to be.
fn n_below(places: &[u32], limit: usize, mut n: usize) -> usize {
    let is_below = |place: &u32| (*place as usize) < limit;
    while places.get(n).is_some_and(is_below) {
        n *= 2;
    }
    let first = places.get(..n).unwrap_or(places);
    if n <= FEW {
        return first.iter().filter(|place| is_below(place)).count();
    }
    first.partition_point(is_below)
}

/// The number at each place among those of `width` bits, which is 31 at most, from a bit of a page on.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "31 bits at most are left")]
fn number_from(page: &[u8], at: usize, width: u8) -> impl Fn(usize) -> u32 {
    let mask = (1_u64 << width) - 1;
    // It lies after at most 7 bits of the number before.
    move |index| {
        let bit = at + index * usize::from(width);
        (word_at(page, bit / 8) >> (bit % 8) & mask) as u32
    }
}

/// Whole numbers as differences to the one before, in blocks (`DELTA_BINARY_PACKED`).
#[derive(Debug, Clone)]
pub(super) struct Differences {
    rest: Range<usize>,
    n_in_block: usize,
    n_in_part: usize,
    /// The next number.
    next: i64,
    is_first: bool,
    /// Numbers that are not read yet.
    n_left: usize,
    /// The least difference of the block.
    least: i64,
    /// Where the widths of the block's parts to come lie.
    widths: Range<usize>,
    /// The part that is read: from which bit of the page on, of which width, how many more.
    at: usize,
    width: u8,
    n_left_in_part: usize,
}

impl Differences {
    /// Numbers in a part of a page.
    pub(super) fn new(page: &[u8], part: Range<usize>) -> Result<Self> {
        let mut rest = part;
        let size = |number: u64| usize::try_from(number).map_err(|_| ENDS_EARLY);
        let n_in_block = size(varint(page, &mut rest)?)?;
        let n_parts = size(varint(page, &mut rest)?)?;
        let n_left = size(varint(page, &mut rest)?)?;
        let next = thrift::unzigzag(varint(page, &mut rest)?);
        let n_in_part = n_in_block.checked_div(n_parts).unwrap_or(0);
        if n_in_part == 0 || n_in_part % 8 != 0 || n_in_block % n_parts != 0 {
            return Err(format!("blocks of {n_in_block} numbers in {n_parts} parts").into());
        }
        Ok(Self {
            rest,
            n_in_block,
            n_in_part,
            next,
            is_first: true,
            n_left,
            least: 0,
            widths: 0..0,
            at: 0,
            width: 0,
            n_left_in_part: 0,
        })
    }

    /// Hands over the next `n` numbers.
    #[inline]
    pub(super) fn each(&mut self, page: &[u8], n: usize, mut take: impl FnMut(i64)) -> Result<()> {
        for _ in 0..n {
            self.n_left = self.n_left.checked_sub(1).ok_or(ENDS_EARLY)?;
            if self.is_first {
                self.is_first = false;
            } else {
                if self.n_left_in_part == 0 {
                    self.next_part(page)?;
                }
                self.n_left_in_part -= 1;
                let difference = self.least.wrapping_add(self.packed(page).cast_signed());
                self.next = self.next.wrapping_add(difference);
            }
            take(self.next);
        }
        Ok(())
    }

    fn packed(&mut self, page: &[u8]) -> u64 {
        let (byte, shift) = (self.at / 8, self.at % 8);
        let width = usize::from(self.width);
        self.at += width;
        if width == 0 {
            return 0;
        }
        let low = word_at(page, byte) >> shift;
        let word = if shift + width > 64 {
            low | word_at(page, byte + 8) << (64 - shift)
        } else {
            low
        };
        word & (u64::MAX >> (64 - width))
    }

    fn next_part(&mut self, page: &[u8]) -> Result<()> {
        if self.widths.is_empty() {
            self.least = thrift::unzigzag(varint(page, &mut self.rest)?);
            let n_parts = self.n_in_block / self.n_in_part;
            let start = self.rest.start;
            take(page, &mut self.rest, n_parts)?;
            self.widths = start..self.rest.start;
        }
        let width = take(page, &mut self.widths, 1)?;
        self.width = width.first().copied().unwrap_or_default();
        if self.width > 64 {
            return Err(format!("differences take {} bits", self.width).into());
        }
        self.at = self.rest.start * 8;
        let n_bytes = (self.n_in_part / 8).saturating_mul(usize::from(self.width));
        // Of the last part only what is needed must be there.
        let n_needed = self.n_in_part.min(self.n_left.saturating_add(1));
        let n_needed = n_needed.saturating_mul(usize::from(self.width));
        if n_needed.div_ceil(8) > self.rest.len() {
            return Err(ENDS_EARLY.into());
        }
        self.rest.start += n_bytes.min(self.rest.len());
        self.n_left_in_part = self.n_in_part;
        Ok(())
    }
}

/// A number of variable length at the beginning of a part, which begins after it then.
fn varint(page: &[u8], part: &mut Range<usize>) -> Result<u64> {
    let bytes = page.get(part.clone()).ok_or(ENDS_EARLY)?;
    let (number, rest) = thrift::varint(bytes).ok_or(ENDS_EARLY)?;
    part.start = part.end - rest.len();
    Ok(number)
}

/// The bytes at the beginning of a part, which begins after them then.
pub(super) fn take<'a>(page: &'a [u8], part: &mut Range<usize>, n: usize) -> Result<&'a [u8]> {
    let bytes = page.get(part.clone()).and_then(|bytes| bytes.get(..n));
    part.start += n;
    bytes.ok_or_else(|| ENDS_EARLY.into())
}
