//! A stream of bytes → blocks of whole JSON values, in bounded memory.
//!
//! Lines are cut at line ends: whatever is wrong with one, the next is read. Everything else (lists, pages,
//! objects over many lines, one after the other) is cut by counting brackets, and the elements of lists and
//! pages become values of their own; what is not in order there ends the stream with an error.

use std::io::{self, Read};
use std::ops::Range;

use super::run::{is_page, is_start};
use crate::error::quoted;
use crate::runs::json::{Scanner, plain_length};

/// Bytes of a block, unless a value is larger.
pub(super) const BLOCK_BYTES: usize = 8 << 20;
/// The largest value.
pub(super) const VALUE_BYTES_MAX: usize = 256 << 20;
/// As many bytes mostly tell how the values are separated.
const FIRST_BYTES: usize = 64 << 10;
/// Characters that are shown of what was found.
const N_SHOWN: usize = 24;

/// Values that follow each other.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    /// Where its first byte is in the stream.
    pub(super) offset: u64,
    pub(super) cut: Cut,
}

/// Where a block's values are.
#[derive(Debug)]
pub(super) enum Cut {
    /// One a line, some of which may be empty.
    Lines,
    Values(Vec<Range<usize>>),
}

/// A place in a stream, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) offset: u64,
    /// The number of its line, from 1, where those of the blocks before are not counted.
    pub(super) line: u64,
    pub(super) problem: String,
}

/// Why a stream was not read to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// It cannot be read, or unpacked.
    Io(io::Error),
    /// Its values are not in order.
    Fault(Fault),
}

/// A value begins, after so many lines, that is too large.
pub(super) fn too_large(offset: u64, n_lines: u64) -> Broken {
    let most = VALUE_BYTES_MAX >> 20;
    Broken::Fault(Fault {
        offset,
        line: 1 + n_lines,
        problem: format!("a value of more than {most} MiB"),
    })
}

/// What is wrong at a byte of some that follow each other, of which the first is at `offset`.
pub(super) fn fault(bytes: &[u8], offset: u64, at: usize, problem: String) -> Fault {
    let before = bytes.get(..at).unwrap_or(bytes);
    Fault {
        offset: offset + before.len() as u64,
        line: 1 + n_lines(before),
        problem,
    }
}

pub(super) fn n_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// A stream, cut into blocks.
pub(super) struct Blocks<R> {
    input: R,
    is_over: bool,
    /// What was read and is in no block yet, and where in the stream that begins.
    pending: Vec<u8>,
    offset: u64,
    form: Form,
    block_bytes: usize,
}

/// How values are separated.
enum Form {
    Unknown,
    Lines,
    Values(Cutter),
}

/// Nobody waits for it any more.
pub(super) fn interrupted() -> io::Error {
    io::Error::other("interrupted")
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(input: R, block_bytes: usize) -> Self {
        Self {
            input,
            is_over: false,
            pending: Vec::new(),
            offset: 0,
            form: Form::Unknown,
            block_bytes,
        }
    }

    /// Where the first line begins, where there is a value a line.
    pub(super) fn first_line(&mut self) -> Result<Option<u64>, Broken> {
        self.know_form()?;
        Ok(matches!(self.form, Form::Lines).then_some(self.offset))
    }

    fn know_form(&mut self) -> Result<(), Broken> {
        if matches!(self.form, Form::Unknown) {
            self.form = self.find_form()?;
        }
        Ok(())
    }

    /// The next block; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Block>, Broken> {
        self.know_form()?;
        match self.form {
            Form::Values(_) => self.next_values(),
            Form::Lines | Form::Unknown => self.next_lines(),
        }
    }

    /// Reads until so many bytes are pending, or to the end.
    fn fill(&mut self, n_bytes: usize) -> Result<(), Broken> {
        while !self.is_over && self.pending.len() < n_bytes {
            let wanted = n_bytes - self.pending.len();
            self.pending.reserve(wanted);
            let mut input = self.input.by_ref().take(wanted as u64);
            let n_read = input.read_to_end(&mut self.pending).map_err(Broken::Io)?;
            self.is_over = n_read < wanted;
        }
        Ok(())
    }

    /// Reads more, as what is pending holds no whole value.
    fn fill_more(&mut self) -> Result<(), Broken> {
        if self.pending.len() > VALUE_BYTES_MAX {
            return Err(too_large(self.offset, 0));
        }
        let more = 2 * self.pending.len().max(self.block_bytes / 2 + 1);
        self.fill(more.min(VALUE_BYTES_MAX + 1))
    }

    fn broken(&self, at: usize, problem: String) -> Broken {
        Broken::Fault(fault(&self.pending, self.offset, at, problem))
    }

    fn find_form(&mut self) -> Result<Form, Broken> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        self.fill(FIRST_BYTES)?;
        if self.pending.starts_with(MARK) {
            self.pending.drain(..MARK.len());
            self.offset += MARK.len() as u64;
        }
        loop {
            if let Some(is_lines) = is_lines(&self.pending, self.is_over) {
                return Ok(if is_lines {
                    Form::Lines
                } else {
                    Form::Values(Cutter::default())
                });
            }
            self.fill_more()?;
        }
    }

    fn next_lines(&mut self) -> Result<Option<Block>, Broken> {
        self.fill(self.block_bytes)?;
        loop {
            let end = if self.is_over {
                self.pending.len()
            } else {
                let last = memchr::memrchr(b'\n', &self.pending);
                last.map_or(0, |last| last + 1)
            };
            if end > 0 {
                return Ok(Some(self.block(end, Cut::Lines)));
            }
            if self.is_over {
                return Ok(None);
            }
            self.fill_more()?;
        }
    }

    fn next_values(&mut self) -> Result<Option<Block>, Broken> {
        self.fill(self.block_bytes)?;
        let mut values = Vec::new();
        loop {
            let Form::Values(cutter) = &mut self.form else {
                return Ok(None);
            };
            let cut = cutter.cut(&self.pending, &mut values);
            let open = if cut.is_ok() && self.is_over {
                cutter.open()
            } else {
                None
            };
            let end = cutter.begin();
            if let Err((at, problem)) = cut {
                return Err(self.broken(at, problem));
            }
            if let Some(expected) = open {
                let problem = format!("expected {expected}, found the end: it was cut short");
                return Err(self.broken(self.pending.len(), problem));
            }
            if !values.is_empty() || (self.is_over && end > 0) {
                if let Form::Values(cutter) = &mut self.form {
                    cutter.moved(end);
                }
                return Ok(Some(self.block(end, Cut::Values(values))));
            }
            if self.is_over {
                return Ok(None);
            }
            self.fill_more()?;
        }
    }

    /// Takes the first bytes of what is pending.
    fn block(&mut self, end: usize, cut: Cut) -> Block {
        let rest = self.pending.split_off(end);
        let bytes = std::mem::replace(&mut self.pending, rest);
        let block = Block {
            offset: self.offset,
            bytes,
            cut,
        };
        self.offset += block.bytes.len() as u64;
        block
    }
}

/// Whether a stream that begins so has a value a line; none where more of it must be seen.
fn is_lines(bytes: &[u8], is_all: bool) -> Option<bool> {
    let mut at = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(begin) = &mut at else {
        return is_all.then_some(true);
    };
    match bytes.get(*begin) {
        Some(b'[') => return Some(false),
        Some(b'{') => {}
        _ => return Some(true),
    }
    let mut walk = Walk {
        stops_at_lines: true,
        ..Walk::default()
    };
    match walk.step(bytes, begin) {
        Step::More if is_all => Some(true),
        Step::More => None,
        // What begins a page.
        Step::List => Some(false),
        Step::Wrong(_) => Some(true),
        Step::Line => {
            // Within a text none may end, and after one that broke off the next begins anew.
            let next = bytes.get(*begin..).unwrap_or_default();
            match next.trim_ascii_start() {
                _ if walk.in_text => Some(true),
                [b'{', b'"', ..] => Some(true),
                [_, _, ..] => Some(false),
                _ => is_all.then_some(true),
            }
        }
        Step::Closed => {
            let after = bytes.get(*begin..).unwrap_or_default();
            let mut after = after
                .iter()
                .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
            match after.next() {
                Some(b'{' | b'[') => Some(false),
                Some(_) => Some(true),
                None => is_all.then_some(true),
            }
        }
    }
}

/// Walks over values by their brackets and texts.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what it has seen last")]
struct Walk {
    /// What closes each list and object that is open.
    open: Vec<u8>,
    in_text: bool,
    /// The next byte of the text stands for itself.
    is_escaped: bool,
    /// Where the last text at the top of an object begins; it may be a name.
    name_begins: usize,
    /// The last text there is a name under which pages hold runs; that of a run's start.
    names_page: bool,
    names_start: bool,
    /// The value that comes next has such a name.
    is_page: bool,
    /// The object is a run, whatever else it has.
    is_run: bool,
    stops_at_lines: bool,
}

/// Why a walk stopped, after the byte that made it.
enum Step {
    /// There is no more.
    More,
    /// The value is over.
    Closed,
    /// The list of a page begins.
    List,
    /// A line ends within a value.
    Line,
    /// A bracket that closes nothing.
    Wrong(String),
}

impl Walk {
    fn step(&mut self, bytes: &[u8], at: &mut usize) -> Step {
        while let Some(rest) = bytes.get(*at..).filter(|rest| !rest.is_empty()) {
            if self.in_text {
                if self.is_escaped {
                    self.is_escaped = false;
                    *at += 1;
                    continue;
                }
                let length = plain_length(rest);
                *at += length;
                match rest.get(length) {
                    None => return Step::More,
                    Some(b'"') => {
                        self.in_text = false;
                        if self.open.len() == 1 {
                            let name = bytes.get(self.name_begins..*at).unwrap_or_default();
                            self.names_page = is_page(name);
                            self.names_start = is_start(name);
                        }
                    }
                    Some(b'\\') => self.is_escaped = true,
                    Some(b'\n') if self.stops_at_lines => {
                        *at += 1;
                        return Step::Line;
                    }
                    Some(_) => {}
                }
                *at += 1;
                continue;
            }
            let Some(byte) = rest.first() else {
                return Step::More;
            };
            *at += 1;
            match byte {
                b'"' => {
                    self.in_text = true;
                    self.name_begins = *at;
                }
                b'{' => self.open.push(b'}'),
                b'[' => {
                    let begins_page = self.open.len() == 1 && self.is_page && !self.is_run;
                    self.open.push(b']');
                    if begins_page {
                        return Step::List;
                    }
                }
                b'}' | b']' => match self.open.pop() {
                    Some(close) if close == *byte => {
                        if self.open.is_empty() {
                            return Step::Closed;
                        }
                    }
                    close => {
                        *at -= 1;
                        let expected = close.map_or("a value".to_owned(), |close| {
                            format!("`{}`", char::from(close))
                        });
                        let found = char::from(*byte);
                        return Step::Wrong(format!("expected {expected}, found `{found}`"));
                    }
                },
                b':' if self.open.len() == 1 => {
                    self.is_page = self.names_page;
                    self.is_run |= self.names_start;
                }
                b',' if self.open.len() == 1 => self.is_page = false,
                b'\n' if self.stops_at_lines => return Step::Line,
                _ => {}
            }
        }
        Step::More
    }
}

/// Cuts lists, pages and objects into values, however they come in pieces. Places are of what is pending.
#[derive(Debug)]
struct Cutter {
    at: usize,
    place: Where,
    walk: Walk,
    /// Where the value begins that is being walked over.
    begin: Option<usize>,
    /// What is around the runs of a page, and from where on it is not taken yet.
    around: Vec<u8>,
    around_begins: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// Before a value, or at the end.
    Between,
    /// In a list: before its first value, before another, after one.
    First(Of),
    Next(Of),
    After(Of),
    /// In a list's value that is neither list nor object.
    Bare(Of),
    /// In a value of a list.
    Value(Of),
    /// In an object, which may be a page.
    Object,
}

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Stream,
    Page,
}

impl Default for Cutter {
    fn default() -> Self {
        Self {
            at: 0,
            place: Where::Between,
            walk: Walk::default(),
            begin: None,
            around: Vec::new(),
            around_begins: None,
        }
    }
}

impl Cutter {
    /// Adds the values that are whole in what is pending.
    fn cut(&mut self, bytes: &[u8], values: &mut Vec<Range<usize>>) -> Result<(), (usize, String)> {
        loop {
            match self.place {
                Where::Value(of) => match self.walk.step(bytes, &mut self.at) {
                    Step::Closed => {
                        values.extend(self.begin.take().map(|begin| begin..self.at));
                        self.place = Where::After(of);
                    }
                    Step::Wrong(problem) => return Err((self.at, problem)),
                    // In a value of a list nothing is a page.
                    Step::List => {}
                    Step::More | Step::Line => return Ok(()),
                },
                Where::Object => match self.walk.step(bytes, &mut self.at) {
                    Step::Closed => self.close(bytes, values)?,
                    Step::Wrong(problem) => return Err((self.at, problem)),
                    Step::List => {
                        let from = self.around_begins.take().or(self.begin.take());
                        let around = bytes.get(from.unwrap_or(self.at)..self.at);
                        self.around.extend(around.unwrap_or_default());
                        self.place = Where::First(Of::Page);
                    }
                    Step::More | Step::Line => return Ok(()),
                },
                Where::Bare(of) => {
                    let rest = bytes.get(self.at..).unwrap_or_default();
                    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'\n');
                    let Some(length) = rest.iter().position(ends) else {
                        self.at = bytes.len();
                        return Ok(());
                    };
                    self.at += length;
                    values.extend(self.begin.take().map(|begin| begin..self.at));
                    self.place = Where::After(of);
                }
                _ => {
                    let rest = bytes.get(self.at..).unwrap_or_default();
                    let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
                    self.at += space.count();
                    let Some(byte) = bytes.get(self.at) else {
                        return Ok(());
                    };
                    self.next(*byte).map_err(|expected| {
                        (
                            self.at,
                            format!("expected {expected}, found {}", shown(bytes, self.at)),
                        )
                    })?;
                }
            }
        }
    }

    /// Goes on with a byte between values; else what was expected instead of it.
    fn next(&mut self, byte: u8) -> Result<(), &'static str> {
        let begin = self.at;
        match (self.place, byte) {
            (Where::Between, b'[') => self.place = Where::First(Of::Stream),
            (Where::Between, b'{') => {
                self.walk = Walk::default();
                self.walk.open.push(b'}');
                self.begin = Some(begin);
                self.place = Where::Object;
            }
            (Where::Between, _) => return Err("a run or a list of runs"),
            (Where::First(Of::Stream) | Where::After(Of::Stream), b']') => {
                self.place = Where::Between;
            }
            (Where::First(Of::Page) | Where::After(Of::Page), b']') => {
                self.walk = Walk {
                    open: vec![b'}'],
                    ..Walk::default()
                };
                self.around_begins = Some(begin);
                self.place = Where::Object;
            }
            (Where::After(of), b',') => self.place = Where::Next(of),
            (Where::After(_), _) => return Err("`,` or `]`"),
            (Where::First(of) | Where::Next(of), b'{' | b'[') => {
                self.walk = Walk::default();
                self.walk.is_run = true;
                self.walk.open.push(if byte == b'{' { b'}' } else { b']' });
                self.begin = Some(begin);
                self.place = Where::Value(of);
            }
            (Where::Next(_), b']' | b',') | (Where::First(_), b',') => return Err("a run"),
            (Where::First(of) | Where::Next(of), _) => {
                self.begin = Some(begin);
                self.place = Where::Bare(of);
                return Ok(());
            }
            (Where::Bare(_) | Where::Value(_) | Where::Object, _) => return Ok(()),
        }
        self.at += 1;
        Ok(())
    }

    /// Ends an object: a value, or a page, of which the rest must be in order as well.
    fn close(
        &mut self,
        bytes: &[u8],
        values: &mut Vec<Range<usize>>,
    ) -> Result<(), (usize, String)> {
        self.place = Where::Between;
        if let Some(begin) = self.begin.take() {
            values.push(begin..self.at);
            return Ok(());
        }
        let from = self.around_begins.take().unwrap_or(self.at);
        let rest = bytes.get(from..self.at).unwrap_or_default();
        let mut around = std::mem::take(&mut self.around);
        around.extend(rest);
        let is_whole = std::str::from_utf8(&around).is_ok_and(|json| {
            Scanner::new(None, &[])
                .members(json, |_, _, _| ())
                .is_some()
        });
        is_whole.then_some(()).ok_or_else(|| {
            (
                self.at,
                "what is around the runs of the page that ends here is no JSON".to_owned(),
            )
        })
    }

    /// What a stream that ends here lacks.
    fn open(&self) -> Option<&'static str> {
        match self.place {
            Where::Between => None,
            Where::First(_) | Where::Next(_) => Some("a run"),
            Where::After(_) => Some("`,` or `]`"),
            Where::Bare(_) | Where::Value(_) | Where::Object => Some("the rest of a value"),
        }
    }

    /// The first byte that is still needed.
    fn begin(&self) -> usize {
        self.begin.or(self.around_begins).unwrap_or(self.at)
    }

    /// Counts places from another byte on.
    fn moved(&mut self, by: usize) {
        let from = |at: usize| at.saturating_sub(by);
        self.at = from(self.at);
        self.begin = self.begin.map(from);
        self.around_begins = self.around_begins.map(from);
        self.walk.name_begins = from(self.walk.name_begins);
    }
}

fn shown(bytes: &[u8], at: usize) -> String {
    let rest = bytes.get(at..).unwrap_or_default();
    let text = String::from_utf8_lossy(rest.get(..4 * N_SHOWN).unwrap_or(rest));
    quoted(&text.chars().take(N_SHOWN).collect::<String>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The values of a stream, and why it ended early.
    fn values(bytes: &[u8], block_bytes: usize) -> (Vec<String>, Option<Fault>) {
        let mut blocks = Blocks::new(bytes, block_bytes);
        let mut values = Vec::new();
        let (mut n_bytes, mut n_lines_before) = (0, 0);
        loop {
            let block = match blocks.next() {
                Ok(Some(block)) => block,
                Ok(None) => return (values, None),
                Err(Broken::Fault(fault)) => {
                    let line = fault.line + n_lines_before;
                    return (values, Some(Fault { line, ..fault }));
                }
                Err(Broken::Io(error)) => panic!("{error}"),
            };
            assert!(block.offset >= n_bytes);
            n_bytes = block.offset + block.bytes.len() as u64;
            n_lines_before += n_lines(&block.bytes);
            let text =
                |range: Range<usize>| String::from_utf8_lossy(&block.bytes[range]).into_owned();
            match &block.cut {
                Cut::Lines => {
                    let lines = text(0..block.bytes.len());
                    let lines = lines.lines().map(str::to_owned);
                    values.extend(lines.filter(|line| !line.trim().is_empty()));
                }
                Cut::Values(ranges) => values.extend(ranges.iter().cloned().map(text)),
            }
        }
    }

    const ONE: &str = r#"{"start_time": "]}", "a": [{"b": "\\\""}]}"#;

    #[test]
    fn every_shape_is_cut_into_its_runs() {
        let pretty = "{\n  \"id\": 1,\n  \"a\": [\n    2\n  ]\n}";
        for (stream, expected) in [
            (format!("{ONE}\n\n{ONE}\r\n{ONE}"), vec![ONE; 3]),
            (ONE.to_owned(), vec![ONE]),
            (format!("\u{feff}{ONE}\n"), vec![ONE]),
            (format!(" [{ONE}, {ONE}]\n"), vec![ONE; 2]),
            ("[]".to_owned(), vec![]),
            ("\n".to_owned(), vec![]),
            (
                format!(r#"{{"cursors": {{"runs": [1]}}, "runs": [{ONE},{ONE}], "x": [2]}}"#),
                vec![ONE; 2],
            ),
            (
                format!("{{\"items\": [{ONE}]}}\n{{\"items\": []}}\n{{\"items\": [{ONE}]}}"),
                vec![ONE; 2],
            ),
            (format!("{{\n\"data\": [\n{ONE}\n]\n}}"), vec![ONE]),
            (format!("{pretty}\n{pretty}"), vec![pretty; 2]),
            (format!("{ONE}{ONE}"), vec![ONE; 2]),
            ("[1, \"a\", null]".to_owned(), vec!["1", "\"a\"", "null"]),
            // A broken line is one among others.
            (format!("{{\"a\": \n{ONE}"), vec!["{\"a\": ", ONE]),
            (format!("{{\"a\n{ONE}"), vec!["{\"a", ONE]),
            (format!("x\n{ONE}"), vec!["x", ONE]),
        ] {
            for block_bytes in [1, 2, 3, 7, 1 << 20] {
                let (found, fault) = values(stream.as_bytes(), block_bytes);
                assert_eq!(fault, None, "{stream}");
                assert_eq!(found, expected, "{stream}");
            }
        }
    }

    #[test]
    fn what_is_not_in_order_is_told_with_its_place() {
        for (stream, offset, line, problem) in [
            (
                "[\n{}",
                4,
                2,
                "expected `,` or `]`, found the end: it was cut short",
            ),
            (
                "[{}, ",
                5,
                1,
                "expected a run, found the end: it was cut short",
            ),
            ("[{}\n{}]", 4, 2, "expected `,` or `]`, found \"{}]\""),
            ("[{},]", 4, 1, "expected a run, found \"]\""),
            ("[{]", 2, 1, "expected `}`, found `]`"),
            (
                "[] 1",
                3,
                1,
                "expected a run or a list of runs, found \"1\"",
            ),
            (
                "{\"runs\": [{}], \"a\": }",
                21,
                1,
                "what is around the runs of the page that ends here is no JSON",
            ),
            (
                "{\n \"a\": \"b",
                10,
                2,
                "expected the rest of a value, found the end: it was cut short",
            ),
        ] {
            for block_bytes in [1, 3, 1 << 20] {
                let (_, fault) = values(stream.as_bytes(), block_bytes);
                let expected = Fault {
                    offset,
                    line,
                    problem: problem.to_owned(),
                };
                assert_eq!(fault, Some(expected), "{stream} {block_bytes}");
            }
        }
    }
}
