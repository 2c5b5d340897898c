//! Text → terms: words, calls, texts, numbers and lists with their places, whatever they mean.

use winnow::Parser;
use winnow::ascii::multispace0;
use winnow::combinator::{alt, cut_err, opt, peek, preceded, repeat};
use winnow::error::{ErrMode, ModalResult, ParserError};
use winnow::stream::{AsChar, LocatingSlice, Location};
use winnow::token::{any, one_of, take_while};

use super::Span;
use super::error::Problem;

/// How deep calls and lists may stand in each other.
pub(super) const DEPTH_MAX: usize = 100;

/// A piece of a filter's text.
#[derive(Clone, Debug)]
pub(super) struct Term<'i> {
    pub(super) kind: TermKind<'i>,
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum TermKind<'i> {
    Word(&'i str),
    Call(&'i str, Vec<Term<'i>>),
    Text(String),
    /// As it was written, not yet known to be one.
    Number(&'i str),
    List(Vec<Term<'i>>),
}

type Input<'i> = LocatingSlice<&'i str>;
type Parsed<T> = ModalResult<T, Problem>;

impl<'i> ParserError<Input<'i>> for Problem {
    type Inner = Self;

    fn from_input(input: &Input<'i>) -> Self {
        Self::new(input.current_token_start(), "expected a filter")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Reads one term, which must be all of the text.
pub(super) fn parse(text: &str) -> Result<Term<'_>, Problem> {
    let mut input = LocatingSlice::new(text);
    whole(&mut input).map_err(|error| match error {
        ErrMode::Backtrack(problem) | ErrMode::Cut(problem) => problem,
        ErrMode::Incomplete(_) => Problem::new(text.len(), "expected more"),
    })
}

fn whole<'i>(input: &mut Input<'i>) -> Parsed<Term<'i>> {
    multispace0.parse_next(input)?;
    let filter = term(input, 0)?;
    multispace0.parse_next(input)?;
    let message = match (peek(opt(any)).parse_next(input)?, &filter.kind) {
        (None, _) => return Ok(filter),
        (_, TermKind::Word(word)) => format!("expected `(` after `{}`", cut(word)),
        _ => "expected the end of the filter".to_owned(),
    };
    Err(failure(input, message))
}

/// Backtracks where no term begins.
fn term<'i>(input: &mut Input<'i>, depth: usize) -> Parsed<Term<'i>> {
    let start = input.current_token_start();
    if depth > DEPTH_MAX {
        let message = format!("more than {DEPTH_MAX} levels of parentheses and brackets");
        return Err(failure(input, message));
    }
    let kind = match peek(opt(any)).parse_next(input)? {
        Some('"' | '\'') => text.map(TermKind::Text).parse_next(input)?,
        Some('[') => list(input, '[', ']', depth).map(TermKind::List)?,
        Some('0'..='9' | '-' | '+' | '.') => number.map(TermKind::Number).parse_next(input)?,
        Some(char) if is_of_word(char) => word_or_call(input, depth)?,
        _ => return Err(nothing(input)),
    };
    let end = input.current_token_start();
    let span = Span { start, end };
    Ok(Term { kind, span })
}

fn word_or_call<'i>(input: &mut Input<'i>, depth: usize) -> Parsed<TermKind<'i>> {
    let word = take_while(1.., is_of_word).parse_next(input)?;
    let is_call = peek(opt(preceded(multispace0, '('))).parse_next(input)?;
    if is_call.is_none() {
        return Ok(TermKind::Word(word));
    }
    multispace0.parse_next(input)?;
    Ok(TermKind::Call(word, list(input, '(', ')', depth)?))
}

/// Terms with commas between them.
fn list<'i>(input: &mut Input<'i>, open: char, close: char, depth: usize) -> Parsed<Vec<Term<'i>>> {
    let member = |input: &mut Input<'i>| term(input, depth + 1);
    (open, multispace0).parse_next(input)?;
    let mut members: Vec<Term<'i>> = opt(member).parse_next(input)?.into_iter().collect();
    if !members.is_empty() {
        let comma = (multispace0, ',', multispace0);
        let more: Vec<Term<'i>> =
            repeat(0.., preceded(comma, cut_err(member))).parse_next(input)?;
        members.extend(more);
    }
    let or_comma = if members.is_empty() { "" } else { "`,` or " };
    let message = format!("expected {or_comma}`{close}`");
    multispace0.parse_next(input)?;
    match opt(close).parse_next(input)? {
        Some(_) => Ok(members),
        None => Err(failure(input, message)),
    }
}

fn number<'i>(input: &mut Input<'i>) -> Parsed<&'i str> {
    take_while(1.., |char: char| {
        is_of_word(char) || matches!(char, '-' | '+')
    })
    .parse_next(input)
}

fn is_of_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '.')
}

fn text(input: &mut Input<'_>) -> Parsed<String> {
    let unclosed = failure(input, "this text has no closing quote");
    let quote = one_of(['"', '\'']).parse_next(input)?;
    let plain = take_while(1.., move |char| char != quote && char != '\\').map(Piece::Text);
    let escaped = preceded('\\', escape).map(Piece::Char);
    let mut content = repeat(0.., alt((plain, escaped))).fold(String::new, |mut text, piece| {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Char(char) => text.push(char),
        }
        text
    });
    let text = content.parse_next(input)?;
    match opt(quote).parse_next(input)? {
        Some(_) => Ok(text),
        None => Err(unclosed),
    }
}

enum Piece<'i> {
    Text(&'i str),
    Char(char),
}

/// What follows a backslash.
fn escape(input: &mut Input<'_>) -> Parsed<char> {
    let problem = failure(
        input,
        r#"after a backslash stand `"`, `'`, `\`, `/`, `b`, `f`, `n`, `r`, `t` or `u` and four digits"#,
    );
    let char = match opt(any).parse_next(input)? {
        Some(char @ ('"' | '\'' | '\\' | '/')) => Some(char),
        Some('b') => Some('\u{8}'),
        Some('f') => Some('\u{c}'),
        Some('n') => Some('\n'),
        Some('r') => Some('\r'),
        Some('t') => Some('\t'),
        Some('u') => opt(unicode).parse_next(input)?,
        _ => None,
    };
    char.ok_or_else(|| match problem {
        ErrMode::Cut(problem) => {
            ErrMode::Cut(problem.with_hint(Some(r"a backslash itself is written `\\`".to_owned())))
        }
        other => other,
    })
}

/// Four hexadecimal digits, or twice four with `\u` between them where UTF-16 takes two units.
fn unicode(input: &mut Input<'_>) -> Parsed<char> {
    let unit = |input: &mut Input<'_>| {
        take_while(4..=4, AsChar::is_hex_digit)
            .verify_map(|digits| u16::from_str_radix(digits, 16).ok())
            .parse_next(input)
    };
    (unit, opt(preceded("\\u", unit)))
        .verify_map(|(first, second)| {
            let units = [Some(first), second];
            let mut chars = char::decode_utf16(units.into_iter().flatten());
            match (chars.next(), chars.next()) {
                (Some(Ok(char)), None) => Some(char),
                _ => None,
            }
        })
        .parse_next(input)
}

fn failure(input: &Input<'_>, message: impl Into<String>) -> ErrMode<Problem> {
    ErrMode::Cut(Problem::new(input.current_token_start(), message))
}

fn nothing(input: &Input<'_>) -> ErrMode<Problem> {
    let message = "expected a condition, a field or a value";
    ErrMode::Backtrack(Problem::new(input.current_token_start(), message))
}

/// The beginning of a long word.
pub(super) fn cut(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", word.get(..end).unwrap_or_default()),
        None => word.to_owned(),
    }
}
