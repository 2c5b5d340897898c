//! A scanner of JSON texts: it checks a whole text and finds some members of an object on its way.
//!
//! As strict as RFC 8259 but for half surrogate pairs, which texts that are passed over may hold. However
//! deep a text nests, no more than bytes on the heap tell.

/// As many values that were passed over are remembered.
const N_PASSED: usize = 4;
/// Texts are short up to so many bytes.
const N_SHORT: usize = 64;

/// The value of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) json: &'a str,
    /// It is a text without escapes.
    pub(crate) is_plain: bool,
}

/// Reads texts one after the other, and finds the same members in each.
#[derive(Debug)]
pub(crate) struct Scanner<'n, 'a> {
    below: Option<&'n str>,
    names: &'n [&'n str],
    found: Vec<Option<&'a str>>,
    json: &'a str,
    at: usize,
    /// What closes each list and object that is open within a value.
    open: Vec<u8>,
    /// Lists and objects that were passed over lately, by their number within their text. They mostly come
    /// again in the next text, where their bytes need not be looked at again: what begins with a whole list
    /// or object is one.
    passed: [&'a [u8]; N_PASSED],
    n_passed: usize,
    /// The names of the members that were handed over last, each with its quotes and its colon.
    heads: Vec<&'a [u8]>,
}

impl<'n, 'a> Scanner<'n, 'a> {
    /// Of an object's members, or of those of its own member `below`, finds those of these names.
    pub(crate) fn new(below: Option<&'n str>, names: &'n [&'n str]) -> Self {
        Self {
            below,
            names,
            found: vec![None; names.len()],
            json: "",
            at: 0,
            open: Vec::new(),
            passed: [&[]; N_PASSED],
            n_passed: 0,
            heads: Vec::new(),
        }
    }

    /// The JSON text of the member of each name, of several members of one name the last. `None` where the
    /// text as a whole is no JSON object.
    pub(super) fn find(&mut self, json: &'a str) -> Option<&[Option<&'a str>]> {
        self.begin(json);
        self.object(self.below)?;
        self.end()?;
        Some(&self.found)
    }

    /// Hands over the number of each member of an object, its name, and its value, which is one JSON text; no name where it is that of the member of this number in the object before, as it mostly
    /// is. `visit` may have seen some where the text as a whole is no object after all.
    pub(crate) fn members(
        &mut self,
        json: &'a str,
        mut visit: impl FnMut(usize, Option<&Name<'a>>, Member<'a>),
    ) -> Option<()> {
        self.begin(json);
        self.byte_is(b'{')?;
        self.space();
        if !self.takes(b'}') {
            for number in 0.. {
                let begin = self.at;
                let rest = self.bytes().get(begin..)?;
                let head = self.heads.get(number);
                let name = match head.filter(|head| !head.is_empty() && rest.starts_with(head)) {
                    Some(head) => {
                        self.at += head.len();
                        None
                    }
                    None => Some(self.name()?),
                };
                // Up to a colon, so that there is no name but this one that it begins.
                let head = rest.get(..self.at - begin)?;
                self.space();
                let start = self.at;
                let is_plain = if self.takes(b'"') {
                    self.string()?
                } else {
                    self.value()?;
                    false
                };
                if name.is_some() {
                    self.heads.resize(self.heads.len().max(number + 1), &[]);
                    *self.heads.get_mut(number)? = head;
                }
                let json = json.get(start..self.at)?;
                visit(number, name.as_ref(), Member { json, is_plain });
                self.space();
                match self.next()? {
                    b',' => self.space(),
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.end()
    }

    /// The same for the elements of a list.
    pub(crate) fn elements(&mut self, json: &'a str, mut visit: impl FnMut(&'a str)) -> Option<()> {
        self.begin(json);
        self.byte_is(b'[')?;
        self.space();
        if !self.takes(b']') {
            loop {
                let start = self.at;
                self.value()?;
                visit(json.get(start..self.at)?);
                self.space();
                match self.next()? {
                    b',' => self.space(),
                    b']' => break,
                    _ => return None,
                }
            }
        }
        self.end()
    }

    fn begin(&mut self, json: &'a str) {
        (self.json, self.at, self.n_passed) = (json, 0, 0);
        self.open.clear();
        self.space();
    }

    /// Whether nothing follows.
    fn end(&mut self) -> Option<()> {
        self.space();
        (self.at == self.json.len()).then_some(())
    }

    fn object(&mut self, below: Option<&str>) -> Option<()> {
        self.found.fill(None);
        self.byte_is(b'{')?;
        self.space();
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            let name = self.name()?;
            self.space();
            match below {
                Some(below) if !name.is(below) => self.pass()?,
                Some(_) if self.peek() == Some(b'{') => self.object(None)?,
                Some(_) => {
                    self.found.fill(None);
                    self.value()?;
                }
                None => match self.names.iter().position(|one| name.is(one)) {
                    Some(index) => {
                        let start = self.at;
                        self.value()?;
                        *self.found.get_mut(index)? = self.json.get(start..self.at);
                    }
                    None => self.pass()?,
                },
            }
            self.space();
            match self.next()? {
                b',' => self.space(),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A member's name, and the colon after it.
    #[inline]
    fn name(&mut self) -> Option<Name<'a>> {
        self.byte_is(b'"')?;
        let start = self.at;
        let is_plain = self.string()?;
        let end = self.at - 1;
        self.space();
        self.byte_is(b':')?;
        if is_plain {
            self.bytes().get(start..end).map(Name::Plain)
        } else {
            let quoted = self.bytes().get(start - 1..=end)?;
            serde_json::from_slice(quoted).ok().map(Name::Escaped)
        }
    }

    /// Passes over a value.
    #[inline]
    fn pass(&mut self) -> Option<()> {
        if !matches!(self.peek()?, b'{' | b'[') {
            return self.value();
        }
        let rest = self.bytes().get(self.at..)?;
        let index = self.n_passed;
        self.n_passed += 1;
        match self.passed.get(index) {
            Some(passed) if !passed.is_empty() && rest.starts_with(passed) => {
                self.at += passed.len();
            }
            _ => {
                let start = self.at;
                self.value()?;
                if let Some(passed) = self.passed.get_mut(index) {
                    *passed = rest.get(..self.at - start)?;
                }
            }
        }
        Some(())
    }

    fn value(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    self.space();
                    if !self.takes(b'}') {
                        self.open.push(b'}');
                        self.skip_name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.space();
                    if !self.takes(b']') {
                        self.open.push(b']');
                        continue;
                    }
                }
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                b'-' => {
                    let first = self.next()?;
                    self.number(first)?;
                }
                first => self.number(first)?,
            }
            // What is open goes on, or ends as well.
            loop {
                let Some(close) = self.open.last().copied() else {
                    return Some(());
                };
                self.space();
                match self.next()? {
                    b',' => {
                        self.space();
                        if close == b'}' {
                            self.skip_name()?;
                        }
                        break;
                    }
                    byte if byte == close => {
                        self.open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    #[inline]
    fn skip_name(&mut self) -> Option<()> {
        self.byte_is(b'"')?;
        self.string()?;
        self.space();
        self.byte_is(b':')?;
        self.space();
        Some(())
    }

    /// The rest of a text after its first quote, and whether it has no escapes.
    #[inline]
    fn string(&mut self) -> Option<bool> {
        let mut is_plain = true;
        loop {
            let end = self.at + N_SHORT;
            while let Some(word) = self.bytes().get(self.at..)?.first_chunk() {
                let special = special_bytes(u64::from_le_bytes(*word));
                if special > 0 {
                    self.at += (special.trailing_zeros() / 8) as usize;
                    break;
                }
                self.at += word.len();
                if self.at == end {
                    self.at += plain_length(self.bytes().get(end..)?);
                    break;
                }
            }
            match self.next()? {
                b'"' => return Some(is_plain),
                b'\\' => {
                    is_plain = false;
                    self.escape()?;
                }
                ..b' ' => return None,
                _ => {}
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes().get(self.at..self.at + 4)?;
                self.at += digits.len();
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// The rest of a number after its first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => while self.takes_digit() {},
            _ => return None,
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        self.takes_digit().then_some(())?;
        while self.takes_digit() {}
        Some(())
    }

    fn takes_digit(&mut self) -> bool {
        let is_digit = self.peek().is_some_and(|byte| byte.is_ascii_digit());
        self.at += usize::from(is_digit);
        is_digit
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let is_there = self.bytes().get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is_there.then_some(())
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn takes(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    #[inline]
    fn byte_is(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    const fn bytes(&self) -> &'a [u8] {
        self.json.as_bytes()
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }
}

/// The name of a member.
#[derive(Debug)]
pub(crate) enum Name<'a> {
    /// As it stands in the text.
    Plain(&'a [u8]),
    /// What its escapes stand for.
    Escaped(String),
}

impl Name<'_> {
    #[inline]
    fn is(&self, name: &str) -> bool {
        self.as_bytes() == name.as_bytes()
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Plain(plain) => plain,
            Self::Escaped(text) => text.as_bytes(),
        }
    }
}

/// The bytes of a text before a quote, a backslash or a control; many are looked at at a time.
pub(crate) fn plain_length(text: &[u8]) -> usize {
    let length = memchr::memchr2(b'"', b'\\', text).unwrap_or(text.len());
    let plain = text.get(..length).unwrap_or(text);
    // Without an early end, so that it takes many at a time as well.
    let least = plain.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    if least < b' ' {
        let first = plain.iter().position(|byte| *byte < b' ');
        return first.unwrap_or(length);
    }
    length
}

/// The upper bits of the bytes that a text may not hold as they are: quotes, backslashes, controls. Above
/// the lowest of them there may be others.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    const SPACES: u64 = ONES * b' ' as u64;
    // A byte below another borrows where it is subtracted, unless it was above 127 before.
    const fn below(word: u64, bytes: u64) -> u64 {
        word.wrapping_sub(bytes) & !word
    }
    let special =
        below(word, SPACES) | below(word ^ QUOTES, ONES) | below(word ^ BACKSLASHES, ONES);
    special & (ONES << 7)
}
