//! Parameters of a query, each as often as it was given. Those that nobody knows are ignored, as the
//! service does.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use uuid::Uuid;

use super::failure::Failure;
use crate::{Clock, Filter, Window};

/// The parameters, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Given {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Given {
    fn parse(query: &str) -> Result<Self, Failure> {
        serde_urlencoded::from_str(query)
            .map(Self)
            .map_err(|error| Failure::at(&["query"], error))
    }

    /// The same, with `_` for each `-` in the names.
    pub(super) fn underscored(self) -> Self {
        let given = self.0.into_iter();
        Self(
            given
                .map(|(name, value)| (name.replace('-', "_"), value))
                .collect(),
        )
    }

    /// The last text of a name; none where it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next_back()
    }

    /// All texts of a name, also as `name[]`.
    pub(super) fn all<'g>(
        &'g self,
        name: &str,
    ) -> impl DoubleEndedIterator<Item = &'g str> + use<'g> {
        let name = name.to_owned();
        let given = self.0.iter().filter(move |(key, value)| {
            key.strip_suffix("[]").unwrap_or(key) == name && !value.is_empty()
        });
        given.map(|(_, value)| value.as_str())
    }

    /// The parts of all texts of a name between commas.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let texts = self.all(name).flat_map(|text| text.split(','));
        let words = texts.map(str::trim).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    }

    /// Whether something is asked for: `true`, `True`, `1`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(Failure::of_query(name, "write true or false")),
        };
        self.text(name).map(read).transpose()
    }

    /// A whole number in a range.
    pub(super) fn number(
        &self,
        name: &str,
        min: usize,
        max: usize,
    ) -> Result<Option<usize>, Failure> {
        let read = |text: &str| {
            let number = text.parse().ok();
            let number = number.filter(|number| (min..=max).contains(number));
            number.ok_or_else(|| {
                Failure::of_query(name, format!("write a whole number from {min} to {max}"))
            })
        };
        self.text(name).map(read).transpose()
    }

    /// All ids of a name.
    pub(super) fn ids(&self, name: &str) -> Result<Vec<Uuid>, Failure> {
        let read = |text: &str| {
            Uuid::try_parse(text.trim()).map_err(|_| Failure::of_query(name, "write a UUID"))
        };
        self.all(name).map(read).collect()
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        known: &[(&str, T)],
    ) -> Result<Option<T>, Failure> {
        let read = |text: &str| {
            let found = known.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                Failure::of_query(name, format!("write one of {}", words.join(", ")))
            })
        };
        self.text(name).map(read).transpose()
    }

    pub(super) fn filter(&self, name: &str) -> Result<Option<Filter>, Failure> {
        let read = |text: &str| Filter::parse(text).map_err(|error| Failure::of_query(name, error));
        self.text(name).map(read).transpose()
    }

    /// From a moment on.
    pub(super) fn since(&self, name: &str) -> Result<Window, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(Window::default());
        };
        let since = moment(text).ok_or_else(|| Failure::of_query(name, NO_MOMENT))?;
        Window::new(Some(since), None).map_err(|error| Failure::of_query(name, error))
    }
}

/// What is said of a text that is no moment.
pub(super) const NO_MOMENT: &str = "write a moment such as 2026-10-01T12:00:00Z";

/// A moment, microseconds since 1970; UTC where nothing else is said.
pub(super) fn moment(text: &str) -> Option<i64> {
    // A `+` of an offset that was not encoded.
    let text = text.trim().replace(' ', "+");
    let clock = Clock {
        now: chrono::DateTime::UNIX_EPOCH,
        zone: chrono_tz::Tz::UTC,
    };
    let is_date = text.starts_with(|first: char| first.is_ascii_digit()) && text.contains('-');
    let read = |text: &str| clock.moment(text).ok();
    read(&text)
        .or_else(|| read(&text.replacen('+', " ", 1)))
        .filter(|_| is_date)
}
