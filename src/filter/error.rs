//! What is wrong with a filter's text, and where.

use std::fmt::{self, Display, Formatter};

use unicode_width::UnicodeWidthChar;

/// Columns of the text that are shown before and after the place.
const COLUMNS_AROUND: usize = 36;
/// The longest word for which a similar one is looked for.
const WORD_CHARS_MAX: usize = 40;

/// Why a text is no filter. `Display` gives three lines: what is wrong, the text (around the place where
/// it is long, and with control characters escaped) and a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    problem: Problem,
    text: String,
}

/// The same without the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The byte of the text.
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl FilterError {
    pub(super) fn new(problem: Problem, text: &str) -> Self {
        let text = text.to_owned();
        Self { problem, text }
    }

    /// What is wrong, on one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.problem.message
    }

    /// What to write instead, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.problem.hint.as_deref()
    }

    /// Where it is wrong: the byte of the text; its length where something is missing at the end.
    #[must_use]
    pub fn at(&self) -> usize {
        self.problem.at
    }

    /// The text that is no filter.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl std::error::Error for FilterError {}

impl Display for FilterError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (before, after) = self.text.split_at_checked(self.at()).unwrap_or_default();
        let before = before.chars().rev().map(shown);
        let (mut before, column) = within(before, before_room(&self.text, self.at()));
        before.reverse();
        let (after, _) = within(after.chars().map(shown), COLUMNS_AROUND);
        let (before, after) = (before.concat(), after.concat());
        let column = column + 1;
        write!(
            f,
            "{}\n  {before}{after}\n  {:>column$}",
            self.message(),
            '^'
        )
    }
}

/// Columns before the place: those that the end of the text leaves may be used as well.
fn before_room(text: &str, at: usize) -> usize {
    let after = text.get(at..).unwrap_or_default().chars();
    let n_after = after.take(COLUMNS_AROUND).count();
    2 * COLUMNS_AROUND - n_after
}

/// As many of the characters as fit, the last one an ellipsis where not all do; and their columns.
fn within(chars: impl Iterator<Item = (String, usize)>, room: usize) -> (Vec<String>, usize) {
    let (mut texts, mut used) = (Vec::new(), 0);
    for (text, width) in chars {
        if used + width > room {
            texts.push("…".to_owned());
            return (texts, used + 1);
        }
        texts.push(text);
        used += width;
    }
    (texts, used)
}

/// A character as it is shown, and its columns. What takes no column of its own, or may hide, is escaped.
fn shown(char: char) -> (String, usize) {
    let is_plain = char.is_ascii_graphic() || char == ' ' || char.is_alphanumeric();
    let is_hangul_filler = matches!(char, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}');
    match char.width() {
        Some(width @ 1..) if is_plain && !is_hangul_filler => (char.to_string(), width),
        _ => {
            let escaped = char.escape_default().to_string();
            let width = escaped.len();
            (escaped, width)
        }
    }
}

/// The word that was probably meant: the same one in lower case, else one that differs by few letters.
pub(super) fn nearest(
    word: &str,
    words: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let n_chars = word.chars().take(WORD_CHARS_MAX + 1).count();
    if n_chars > WORD_CHARS_MAX {
        return None;
    }
    let word = word.to_lowercase();
    words
        .map(|other| (strsim::osa_distance(&word, other), other))
        .filter(|(distance, other)| *distance <= other.len().min(n_chars).div_ceil(3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// The hint that names the word that was probably meant.
pub(super) fn meant(word: &str, words: impl Iterator<Item = &'static str>) -> Option<String> {
    nearest(word, words).map(|word| format!("did you mean `{word}`?"))
}
