//! A filter as text, in one form: parsing it gives an equal filter.

use std::fmt::{self, Display, Formatter, Write};

use super::value::seconds;
use super::{Comparison, Filter, Node, Subject, Value};
use crate::tally::money::pico_to_text;
use crate::time::format_time;

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::And(members) => write_list(f, "and(", members, ")"),
            Node::Or(members) => write_list(f, "or(", members, ")"),
            Node::Not(inner) => write!(f, "not({inner})"),
            Node::Comparison(comparison) => comparison.fmt(f),
            Node::Search(text) => {
                f.write_str("search(")?;
                write_quoted(f, text, '"')?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, {})", self.operator, self.subject, self.value)
    }
}

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let prefix = if self.of_root { "root." } else { "" };
        write!(f, "{prefix}{}", self.field)
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(truth) => truth.fmt(f),
            Self::Text(text) => write_quoted(f, text, '"'),
            Self::Number(number) => f.write_str(&number.to_string()),
            Self::Cost(pico) => f.write_str(&pico_to_text((*pico).into())),
            Self::Time(us) => write_quoted(f, &format_time(*us), '"'),
            Self::Duration(us) => f.write_str(&seconds(*us)),
            Self::List(list) => write_list(f, "[", list, "]"),
            Self::Object(object) => {
                let text = serde_json::to_string(object).map_err(|_| fmt::Error)?;
                write_quoted(f, &text, '\'')
            }
        }
    }
}

fn write_list(
    f: &mut Formatter<'_>,
    open: &str,
    members: &[impl Display],
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    for (at, member) in members.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{member}")?;
    }
    f.write_str(close)
}

/// What controls a terminal is escaped, and so are line breaks: a filter is one line.
fn write_quoted(f: &mut Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for char in text.chars() {
        match char {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            _ if char == quote => write!(f, "\\{quote}")?,
            _ if char.is_control() => write!(f, "\\u{:04x}", u32::from(char))?,
            _ => f.write_char(char)?,
        }
    }
    f.write_char(quote)
}
