//! Text that comes from logs is data: nothing of it may move a terminal's cursor, turn its direction or
//! hide. How wide it is, and how it is shortened.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters beside the control characters that show nothing, or that show other text elsewhere than
/// where it stands.
const INVISIBLE: &[RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// What stands for text that was left out.
const ELLIPSIS: char = '…';

/// Shows what a terminal would obey or hide: control characters, line breaks, direction overrides and
/// invisible characters become visible escapes such as `\n` or `\u{202e}`. All else stays as it is.
///
/// Joiners stay between letters of scripts that need them and within an emoji.
#[must_use]
pub fn plain_text(text: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let mut n_copied = 0;
    let mut before = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        let after = chars.peek().map(|(_, char)| *char);
        if is_hidden(before, char, after) {
            plain.push_str(&text[n_copied..at]);
            plain.extend(char.escape_default());
            n_copied = at + char.len_utf8();
        }
        before = Some(char);
    }
    if n_copied == 0 {
        return Cow::Borrowed(text);
    }
    plain.push_str(&text[n_copied..]);
    Cow::Owned(plain)
}

/// Whether a character shows nothing where it stands.
fn is_hidden(before: Option<char>, char: char, after: Option<char>) -> bool {
    match char {
        '\u{200c}' | '\u{200d}' => !(before.is_some_and(is_joined) && after.is_some_and(is_joined)),
        '\u{fe0e}' | '\u{fe0f}' => !before.is_some_and(has_emoji_form),
        _ => is_control(char),
    }
}

/// Whether a character is a control or an invisible one, wherever it stands.
pub(super) fn is_control(char: char) -> bool {
    char.is_control() || INVISIBLE.iter().any(|range| range.contains(&char))
}

/// Arabic to Sinhala, whose letters a joiner shapes, and emoji.
fn is_joined(char: char) -> bool {
    matches!(char, '\u{600}'..='\u{dff}' | '\u{fe0f}') || is_emoji(char)
}

fn has_emoji_form(char: char) -> bool {
    matches!(
        char,
        '0'..='9' | '#' | '*' | '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' | '〰' | '〽' | '㊗' | '㊙'
    ) || is_emoji(char)
}

fn is_emoji(char: char) -> bool {
    matches!(char, '\u{2190}'..='\u{27ff}' | '\u{2900}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

/// The columns of a terminal that a text takes.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text where there is room for it, else its beginning and its end, which tells experiments of one
/// series apart, around an ellipsis.
pub(super) fn shortened(text: &str, room: usize) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    let Some(room) = room.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let end = end_within(text, if room < 12 { 0 } else { room / 3 });
    let begin = beginning_within(text, room - width(end)).trim_end();
    let short = format!("{begin}{ELLIPSIS}{end}");
    if width(&short) <= room + 1 {
        return Cow::Owned(short);
    }
    // Neighbours can be wider together than apart.
    Cow::Owned(ELLIPSIS.to_string())
}

/// The longest beginning that fits; it ends with a whole character and no joiner.
fn beginning_within(text: &str, room: usize) -> &str {
    let mut used = 0;
    let mut until = 0;
    for (at, char) in text.char_indices() {
        used += char.width().unwrap_or(1);
        if used > room {
            break;
        }
        until = at + char.len_utf8();
    }
    let mut begin = &text[..until];
    while width(begin) > room {
        let mut chars = begin.chars();
        chars.next_back();
        begin = chars.as_str();
    }
    begin.trim_end_matches(['\u{200c}', '\u{200d}'])
}

/// The longest end that fits; it begins with a character that has a place of its own.
fn end_within(text: &str, room: usize) -> &str {
    let mut used = 0;
    let mut from = text.len();
    for (at, char) in text.char_indices().rev() {
        used += char.width().unwrap_or(1);
        if used > room {
            break;
        }
        from = at;
    }
    let mut end = text[from..].trim_start_matches(|char: char| char.width() == Some(0));
    while width(end) > room {
        let mut chars = end.chars();
        chars.next();
        end = chars
            .as_str()
            .trim_start_matches(|char: char| char.width() == Some(0));
    }
    end
}

/// Breaks a text into lines at its spaces, where there is a width.
pub(super) fn wrapped(text: &str, room: Option<usize>) -> Vec<Cow<'_, str>> {
    let Some(room) = room else {
        return vec![Cow::Borrowed(text)];
    };
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let word = shortened(word, room);
        let line = lines.last_mut().filter(|line| !line.is_empty());
        let longer = line.map(|line| format!("{line} {word}"));
        match (longer, lines.last_mut()) {
            (Some(longer), Some(line)) if width(&longer) <= room => *line = longer,
            (None, Some(line)) => *line = word.into_owned(),
            _ => lines.push(word.into_owned()),
        }
    }
    lines.into_iter().map(Cow::Owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_hidden_stays_hidden() {
        for (text, plain) in [
            ("support-bot", "support-bot"),
            ("日本語 é e\u{301}", "日本語 é e\u{301}"),
            ("a\nb\tc\r\0\u{1b}[31m", "a\\nb\\tc\\r\\u{0}\\u{1b}[31m"),
            ("\u{7f}\u{9b}31m", "\\u{7f}\\u{9b}31m"),
            (
                "a\u{202e}b\u{2066}c\u{2069}",
                "a\\u{202e}b\\u{2066}c\\u{2069}",
            ),
            (
                "a\u{200b}b\u{feff}\u{ad}\u{e0041}",
                "a\\u{200b}b\\u{feff}\\u{ad}\\u{e0041}",
            ),
            ("a\u{200d}b\u{fe0f}", "a\\u{200d}b\\u{fe0f}"),
            ("👩\u{200d}👧 ❤\u{fe0f}", "👩\u{200d}👧 ❤\u{fe0f}"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("\u{200c}می", "\\u{200c}می"),
        ] {
            assert_eq!(plain_text(text), plain);
        }
    }

    #[test]
    fn both_ends_of_a_long_text_stay() {
        for (text, room, short) in [
            ("support-bot", 11, "support-bot"),
            ("support-bot", 8, "support…"),
            ("support-bot-nightly-3f8a", 16, "support-bo…-3f8a"),
            ("日本語日本語日本語", 7, "日本語…"),
            ("日本語日本語日本語", 6, "日本…"),
            ("x", 0, ""),
            ("xy", 1, "…"),
        ] {
            assert_eq!(shortened(text, room), short);
        }
    }

    #[test]
    fn long_texts_break_at_spaces() {
        assert_eq!(
            wrapped("answers questions of users", Some(12)),
            ["answers", "questions of", "users"]
        );
        assert_eq!(wrapped("", Some(12)), [""]);
        assert_eq!(wrapped("a b", None), ["a b"]);
    }

    proptest! {
        #[test]
        fn shortened_text_fits(text in "\\PC*|[a\u{301}👩\u{200d}👧\u{fe0f}❤🇩🇪لا日]*", room in 0usize..40) {
            let plain = plain_text(&text);
            prop_assert!(width(&shortened(&plain, room)) <= room);
            prop_assert!(wrapped(&plain, Some(room)).iter().all(|line| width(line) <= room));
        }

        #[test]
        fn plain_text_is_plain(text in any::<String>()) {
            let plain = plain_text(&text).into_owned();
            prop_assert!(!plain.chars().any(char::is_control));
            prop_assert_eq!(plain_text(&plain), plain.as_str());
        }
    }
}
