//! Keys: what runs are grouped by.

use std::fmt;
use std::str::FromStr;

use super::unknown_word;
use crate::error::Error;

/// What a run is grouped by. A run without it belongs to the group that has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Its project.
    Project,
    /// What it is called.
    Name,
    /// `llm`, `chain`, `tool`, …
    RunType,
    /// `success`, `error`, `pending`.
    Status,
    /// Each of its tags: it belongs to a group for each.
    Tag,
    /// The text, number or boolean at a path of its metadata: keys joined by dots.
    Metadata(String),
    /// The model that it called.
    Model,
    /// Who serves the model.
    Provider,
    /// The user that it worked for.
    User,
    /// The conversation that it belongs to.
    Thread,
    /// Where it ran: production, staging, …
    Environment,
    /// The version of the application.
    Version,
    /// The prompt that it used.
    Prompt,
    /// The step of its trace: the name of a direct child of the root.
    Step,
    /// The name of a tool.
    Tool,
    /// The class of its error: the text before the first `:` or `(`.
    Error,
    /// `longlived` or `shortlived`.
    TraceTier,
    /// The example that it was run on.
    Example,
    /// Each label that it was given under a feedback key; its mean score where it has no label.
    Feedback(String),
    /// The same of the root of its trace.
    Root(Box<Key>),
}

/// The words of keys without a part of their own.
const WORDS: [(&str, Key); 17] = [
    ("project", Key::Project),
    ("name", Key::Name),
    ("run_type", Key::RunType),
    ("status", Key::Status),
    ("tag", Key::Tag),
    ("model", Key::Model),
    ("provider", Key::Provider),
    ("user", Key::User),
    ("thread", Key::Thread),
    ("environment", Key::Environment),
    ("version", Key::Version),
    ("prompt", Key::Prompt),
    ("step", Key::Step),
    ("tool", Key::Tool),
    ("error", Key::Error),
    ("trace_tier", Key::TraceTier),
    ("example", Key::Example),
];

const METADATA: &str = "metadata.";
const FEEDBACK: &str = "feedback.";
const ROOT: &str = "root.";

impl Key {
    /// Whether a run can belong to several groups of it.
    #[must_use]
    pub fn is_multiple(&self) -> bool {
        match self {
            Self::Tag | Self::Feedback(_) => true,
            Self::Root(key) => key.is_multiple(),
            _ => false,
        }
    }

    /// Whether its values are projects.
    pub(crate) fn is_project(&self) -> bool {
        match self {
            Self::Root(key) => key.is_project(),
            key => *key == Self::Project,
        }
    }

    /// The words that a key may be, for completions and errors.
    pub fn words() -> impl Iterator<Item = &'static str> {
        let words = WORDS.iter().map(|(word, _)| *word);
        words.chain(["metadata.KEY", "feedback.KEY", "root.KEY"])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(path) => write!(f, "{METADATA}{path}"),
            Self::Feedback(key) => write!(f, "{FEEDBACK}{key}"),
            Self::Root(key) => write!(f, "{ROOT}{key}"),
            _ => {
                let word = WORDS.iter().find(|(_, key)| key == self);
                f.write_str(word.map_or("", |(word, _)| word))
            }
        }
    }
}

impl FromStr for Key {
    type Err = Error;

    /// Reads a key: `model`, `metadata.team`, `root.metadata.team`, `feedback.score`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let part = |prefix: &str| text.strip_prefix(prefix).filter(|part| !part.is_empty());
        if let Some(path) = part(METADATA) {
            return Ok(Self::Metadata(path.to_owned()));
        }
        if let Some(key) = part(FEEDBACK) {
            return Ok(Self::Feedback(key.to_owned()));
        }
        if let Some(key) = part(ROOT) {
            let key = key.parse::<Self>()?;
            if matches!(key, Self::Root(_) | Self::Step | Self::Tool) {
                return Err(Error::Usage {
                    problem: format!("{text:?} is nothing that a root has"),
                    hint: None,
                });
            }
            return Ok(Self::Root(Box::new(key)));
        }
        let word = match text {
            "session" | "session_id" => "project",
            "tags" => "tag",
            "run_name" => "name",
            "thread_id" => "thread",
            "user_id" => "user",
            "reference_example_id" => "example",
            "type" => "run_type",
            _ => text,
        };
        let known = WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, key)| key.clone()).ok_or_else(|| {
            let words: Vec<&str> = Self::words().collect();
            unknown_word("a key to group by", text, &words)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn printing_and_reading_are_inverse() {
        let more = [
            "metadata.a.b",
            "feedback.x y",
            "root.metadata.team",
            "root.tag",
        ];
        for text in WORDS.iter().map(|(word, _)| *word).chain(more) {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_key_says_the_nearest() {
        for (text, hint) in [
            ("modle", "model"),
            ("metadat.x", "metadata.KEY"),
            ("root.step", ""),
        ] {
            let Err(Error::Usage { hint: found, .. }) = text.parse::<Key>() else {
                panic!("{text} is a key");
            };
            assert!(found.unwrap_or_default().contains(hint), "{text}");
        }
    }
}
