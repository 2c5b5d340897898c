//! A file of JSON lines → whole lines, read where they lie.
//!
//! The file is cut into stretches of one length. A line belongs to the stretch in which it begins, so that each
//! stretch can be read on its own, by whoever takes its lines apart, piece by piece into memory that the caches
//! hold and that is used again.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::aligned::{Memory, PAGE_BYTES};
use super::blocks::{Broken, VALUE_BYTES_MAX, interrupted, too_large};

/// Bytes of a stretch.
const STRETCH_BYTES: u64 = 8 << 20;
/// Bytes that are read at once, unless a line is longer.
const PIECE_BYTES: usize = 512 << 10;
/// So many more bytes than a stretch has mostly hold the rest of its last line.
const REST_BYTES: usize = 32 << 10;

/// A file of lines.
#[derive(Debug)]
pub(super) struct Lines<'a, H> {
    file: &'a File,
    /// Where the lines are.
    all: Range<u64>,
    /// Told how many bytes were read; whether to go on.
    has_read: H,
    sizes: Sizes,
}

/// How many bytes are taken at once.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    stretch: u64,
    piece: usize,
    rest: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            stretch: STRETCH_BYTES,
            piece: PIECE_BYTES,
            rest: REST_BYTES,
        }
    }
}

/// What was read of a file last: its first byte is of the page that the lines begin in.
#[derive(Debug, Default)]
pub(super) struct Window {
    memory: Memory,
}

impl Window {
    /// The bytes from `at` on, fewer only at the file's end.
    fn read(&mut self, file: &File, at: u64, n_bytes: usize) -> io::Result<&[u8]> {
        let lead = usize::try_from(at % PAGE_BYTES as u64).map_err(io::Error::other)?;
        let n_wanted = lead + n_bytes;
        let n_there = self.memory.n_bytes();
        if n_there < n_wanted || n_there / 2 > n_wanted.max(2 * PIECE_BYTES) {
            self.memory = Memory::default();
            self.memory = Memory::new(n_wanted.next_multiple_of(PAGE_BYTES));
        }
        let mut end = 0;
        while end < n_wanted {
            let rest = self.memory.get_mut(end..n_wanted);
            match read_at(file, rest, at - lead as u64 + end as u64) {
                Ok(0) => break,
                Ok(n_read) => end += n_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.memory.get(lead.min(end)..end))
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

impl<'a, H: Fn(u64) -> bool> Lines<'a, H> {
    pub(super) fn new(file: &'a File, all: Range<u64>, has_read: H) -> Self {
        Self {
            file,
            all,
            has_read,
            sizes: Sizes::default(),
        }
    }

    pub(super) fn stretches(&self) -> impl Iterator<Item = Range<u64>> + use<'a, H> {
        let Range { start, end } = self.all;
        let length = self.sizes.stretch;
        let begins = (0..).map(move |number| start + number * length);
        let begins = begins.take_while(move |begin| *begin < end);
        begins.map(move |begin| begin..end.min(begin + length))
    }

    /// Hands over the lines that begin in a stretch: several at a time, and where the first begins. `each` tells
    /// how many they were.
    pub(super) fn read<E: From<Broken>>(
        &self,
        stretch: Range<u64>,
        window: &mut Window,
        mut each: impl FnMut(u64, &[u8]) -> Result<u64, E>,
    ) -> Result<(), E> {
        let Some(mut at) = self.first(&stretch, window)? else {
            return Ok(());
        };
        let (mut n_wanted, mut n_lines) = (0, 0);
        while at < stretch.end {
            n_wanted = self.piece(at, stretch.end).max(n_wanted);
            let n_left = usize::try_from(self.all.end - at).unwrap_or(usize::MAX);
            let bytes = self.take(at, n_wanted.min(n_left), window)?;
            let is_last = bytes.len() < n_wanted;
            let last = usize::try_from(stretch.end - at - 1).unwrap_or(usize::MAX);
            match whole(bytes, last, is_last) {
                0 if is_last => break,
                0 if bytes.len() > VALUE_BYTES_MAX => {
                    return Err(too_large(at, n_lines).into());
                }
                0 => n_wanted = (2 * n_wanted).min(VALUE_BYTES_MAX + 1),
                n_whole => {
                    n_lines += each(at, bytes.get(..n_whole).unwrap_or(bytes))?;
                    at += n_whole as u64;
                    n_wanted = 0;
                }
            }
        }
        if !(self.has_read)(stretch.end - stretch.start) {
            return Err(Broken::Io(interrupted()).into());
        }
        Ok(())
    }

    /// Where the first line begins in a stretch.
    fn first(&self, stretch: &Range<u64>, window: &mut Window) -> Result<Option<u64>, Broken> {
        if stretch.start == self.all.start {
            return Ok(Some(stretch.start));
        }
        // The end of a line may be the byte before.
        let mut at = stretch.start - 1;
        while at < stretch.end - 1 {
            let bytes = self.take(at, self.sizes.rest, window)?;
            match memchr::memchr(b'\n', bytes) {
                Some(end) => return Ok(Some(at + end as u64 + 1)),
                None if bytes.is_empty() => break,
                None => at += bytes.len() as u64,
            }
        }
        Ok(None)
    }

    /// As many bytes are read of a stretch from here on.
    fn piece(&self, at: u64, end: u64) -> usize {
        let Sizes { piece, rest, .. } = self.sizes;
        usize::try_from(end - at).map_or(piece, |left| piece.min(left + rest))
    }

    fn take<'w>(
        &self,
        at: u64,
        n_bytes: usize,
        window: &'w mut Window,
    ) -> Result<&'w [u8], Broken> {
        window.read(self.file, at, n_bytes).map_err(Broken::Io)
    }
}

/// How many of the bytes are whole lines, up to the end of that which has the byte `last`.
fn whole(bytes: &[u8], last: usize, is_last: bool) -> usize {
    let after = bytes.get(last..).unwrap_or_default();
    match memchr::memchr(b'\n', after) {
        Some(end) => last + end + 1,
        None if is_last => bytes.len(),
        None => memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What is read of a text, a stretch after the other, each in pieces.
    fn pieces(text: &[u8], begin: u64, sizes: Sizes) -> Vec<(u64, Vec<u8>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let lines = Lines {
            sizes,
            ..Lines::new(&file, begin..text.len() as u64, |_| true)
        };
        let mut window = Window::default();
        let mut pieces = Vec::new();
        for stretch in lines.stretches() {
            let read = lines.read(stretch.clone(), &mut window, |at, bytes| {
                assert!(at >= stretch.start && at < stretch.end);
                pieces.push((at, bytes.to_owned()));
                Ok::<_, Broken>(0)
            });
            read.unwrap();
        }
        pieces
    }

    #[test]
    fn stretches_hold_each_line_once_and_whole() {
        let long = "x".repeat(40);
        let texts = [
            String::new(),
            "\n".to_owned(),
            "\n\n\n".to_owned(),
            "a".to_owned(),
            "a\nbc\n\ndef\nghij".to_owned(),
            format!("a\n{long}\nb\n"),
            format!("{long}\n{long}"),
            format!("abc\nd\n{long}"),
        ];
        for text in texts {
            for (stretch, piece, rest) in (1..20)
                .flat_map(|stretch| [1, 2, 3, 7, 50].map(|piece| (stretch, piece)))
                .flat_map(|(stretch, piece)| [1, 5].map(|rest| (stretch, piece, rest)))
            {
                let sizes = Sizes {
                    stretch,
                    piece,
                    rest,
                };
                for begin in [0, text.len().min(2)] {
                    let mut at = begin;
                    for (offset, bytes) in pieces(text.as_bytes(), begin as u64, sizes) {
                        assert_eq!(offset, at as u64, "{text:?} {sizes:?}");
                        at += bytes.len();
                        assert!(bytes.ends_with(b"\n") || at == text.len());
                        assert_eq!(bytes, &text.as_bytes()[at - bytes.len()..at]);
                    }
                    assert_eq!(at, text.len(), "{text:?} {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_read_on() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a\nb\n").unwrap();
        let lines = Lines::new(&file, 0..4, |_| false);
        let read = lines.read(0..4, &mut Window::default(), |_, _| Ok::<_, Broken>(1));
        assert!(matches!(read, Err(Broken::Io(_))));
    }

    #[test]
    fn a_file_that_became_shorter_ends_early() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a\nb").unwrap();
        let lines = Lines::new(&file, 0..100, |_| true);
        let mut n_bytes = 0;
        for stretch in lines.stretches() {
            let read = lines.read(stretch, &mut Window::default(), |_, bytes| {
                n_bytes += bytes.len();
                Ok::<_, Broken>(1)
            });
            read.unwrap();
        }
        assert_eq!(n_bytes, 3);
    }
}
