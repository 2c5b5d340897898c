//! JSON in which no character can reach a terminal as a control: those that JSON itself would let through
//! (delete, C1, line separators, direction controls) are written as escapes. The values are the same.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Writes a value, indented, and a line break.
pub(super) fn pretty(out: &mut dyn Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    write(out, value, PrettyFormatter::new())
}

/// Writes a value as one line.
pub(super) fn compact(out: &mut dyn Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    write(out, value, CompactFormatter)
}

/// A value as a text without a line break.
pub(super) fn text(value: &(impl Serialize + ?Sized)) -> io::Result<String> {
    let mut text = Vec::new();
    compact(&mut text, value)?;
    text.pop();
    String::from_utf8(text).map_err(io::Error::other)
}

fn write(
    out: &mut dyn Write,
    value: &(impl Serialize + ?Sized),
    formatter: impl Formatter,
) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut *out, Escaping(formatter));
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Whether a character is escaped beside those that JSON wants escaped.
fn is_escaped(char: char) -> bool {
    matches!(
        char,
        '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Formats as another formatter, with more characters escaped.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(is_escaped) {
            let (plain, escaped) = rest.split_at(at);
            self.0.write_string_fragment(out, plain)?;
            let mut chars = escaped.chars();
            if let Some(char) = chars.next() {
                write!(out, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        self.0.write_string_fragment(out, rest)
    }

    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn end_object_key<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_key(out)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn both(value: &serde_json::Value) -> [String; 2] {
        let (mut indented, mut line) = (Vec::new(), Vec::new());
        pretty(&mut indented, value).unwrap();
        compact(&mut line, value).unwrap();
        [indented, line].map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn ordinary_text_is_as_serde_writes_it() {
        let value = json!({"a": [1, 2.5, null], "é": {"日本": "\"\\\n\u{1b}👩\u{200d}👧"}, "e": [], "o": {}});
        let expected = [
            serde_json::to_string_pretty(&value),
            serde_json::to_string(&value),
        ];
        assert_eq!(both(&value), expected.map(|text| text.unwrap() + "\n"));
    }

    #[test]
    fn controls_are_escaped() {
        let value = json!({"a\u{9b}": "\u{7f}x\u{202e}\u{2028}y"});
        assert_eq!(
            both(&value)[1],
            "{\"a\\u009b\":\"\\u007fx\\u202e\\u2028y\"}\n"
        );
    }

    proptest! {
        #[test]
        fn values_stay_the_same(key in any::<String>(), value in any::<String>()) {
            let value = json!({ key: [value] });
            for text in both(&value) {
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&text).unwrap(), &value);
                prop_assert!(!text.chars().any(is_escaped));
            }
        }
    }
}
