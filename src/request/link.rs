//! Links: the address of a run's page, from a template.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::unknown_word;
use crate::error::Error;

/// An address with places for a run's ids: `https://smith.example/r/{id}`. What it makes is printable
/// ASCII, whatever is in the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Text of the address, encoded.
    Text(String),
    Id(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Run,
    Trace,
    Project,
}

/// What stands for an id, in braces.
const PLACES: [(&str, Id); 3] = [
    ("id", Id::Run),
    ("trace_id", Id::Trace),
    ("session_id", Id::Project),
];

/// What an address has beside letters and digits, and what it sets apart.
const UNRESERVED: &str = "-._~";
const RESERVED: &str = ":/?#[]@!$&'()*+,;=%";

impl LinkTemplate {
    /// The address of a run; none where it lacks an id that is in it.
    #[must_use]
    pub fn link(&self, id: Option<&str>, trace: Option<&str>, project: &str) -> Option<String> {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Id(which) => {
                let id = match which {
                    Id::Run => id,
                    Id::Trace => trace,
                    Id::Project => Some(project),
                };
                id.map(|id| encoded(id, UNRESERVED))
            }
        });
        parts.collect()
    }
}

/// Reads a template: an address with at least one of `{id}`, `{trace_id}`, `{session_id}`.
impl FromStr for LinkTemplate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Usage {
            problem,
            hint: Some(
                "write an address with {id}, {trace_id} or {session_id} in it, such as \
                 https://smith.langchain.com/o/ORG/projects/p/{session_id}/r/{id}"
                    .to_owned(),
            ),
        };
        if !has_scheme(text) {
            return Err(wrong(format!("{text:?} is no address")));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let place = after.split_once('}');
            let (place, after) = place.ok_or_else(|| wrong(format!("{text:?} lacks a }}")))?;
            let known = PLACES.iter().find(|(name, _)| *name == place);
            let (_, id) = known.ok_or_else(|| {
                let names = PLACES.map(|(name, _)| name);
                unknown_word("a part of a link", place, &names)
            })?;
            parts.push(Part::Text(encoded(before, RESERVED)));
            parts.push(Part::Id(*id));
            rest = after;
        }
        if parts.is_empty() {
            return Err(wrong(format!("{text:?} would be every run's link")));
        }
        parts.push(Part::Text(encoded(rest, RESERVED)));
        Ok(Self(parts))
    }
}

/// The template, encoded.
impl fmt::Display for LinkTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Id(id) => {
                let place = PLACES.iter().find(|(_, other)| other == id);
                write!(f, "{{{}}}", place.map_or("", |(name, _)| name))
            }
        })
    }
}

/// Whether a text begins as `https:` does.
fn has_scheme(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_part = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.');
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(is_part)
}

/// Text as a part of an address: bytes other than letters, digits and some more are `%` and two digits.
fn encoded(text: &str, kept: &str) -> String {
    let is_kept = |byte: u8| {
        let char = char::from(byte);
        char.is_ascii_alphanumeric() || UNRESERVED.contains(char) || kept.contains(char)
    };
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_kept(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(template: &str, id: Option<&str>) -> Option<String> {
        let template: LinkTemplate = template.parse().unwrap();
        template.link(id, Some("t"), "p")
    }

    #[test]
    fn ids_take_their_places() {
        let template = "https://x.y/projects/p/{session_id}/r/{id}?trace_id={trace_id}&poll=true#a";
        assert_eq!(
            link(template, Some("r")).unwrap(),
            "https://x.y/projects/p/p/r/r?trace_id=t&poll=true#a"
        );
        assert_eq!(link(template, None), None);
        assert_eq!(link("a+b:{trace_id}", None).unwrap(), "a+b:t");
        let parsed: LinkTemplate = template.parse().unwrap();
        assert_eq!(parsed.to_string(), template);
    }

    #[test]
    fn nothing_in_an_id_or_a_template_breaks_out() {
        assert_eq!(
            link("https://x.y/ü \"{id}\"%20", Some("../a b?é\u{1b}]8;;\"<>|")).unwrap(),
            "https://x.y/%C3%BC%20%22..%2Fa%20b%3F%C3%A9%1B%5D8%3B%3B%22%3C%3E%7C%22%20"
        );
    }

    #[test]
    fn what_is_no_template_is_said() {
        for (text, hint) in [
            ("", "write an address"),
            ("x.y/{id}", "write an address"),
            ("/r/{id}", "write an address"),
            ("1:{id}", "write an address"),
            ("https://x.y/", "write an address"),
            ("https://x.y/{id", "write an address"),
            ("https://x.y/{}", "write one of id, trace_id, session_id"),
            ("https://x.y/{run}", "write one of id, trace_id, session_id"),
            ("https://x.y/{id}/{trace-id}", "did you mean trace_id?"),
        ] {
            let error = text.parse::<LinkTemplate>().unwrap_err();
            let said = error.hint().unwrap_or_default();
            assert!(said.starts_with(hint), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn links_are_printable_ascii(before in "[^{}]*", id in any::<String>(), after in "[^{}]*") {
            let link = link(&format!("http://{before}{{id}}{after}"), Some(&id)).unwrap();
            prop_assert!(link.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\|`".contains(&byte)));
        }
    }
}
