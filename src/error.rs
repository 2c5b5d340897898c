//! What can go wrong, as few kinds as a caller can act on.
//!
//! Every kind holds its facts as fields; `Display` gives them as one lowercase line (a wrong filter
//! follows, with a caret below the place) and never repeats its source. A kind that knows what the user could do next says so in [`Error::hint`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The result of everything public in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error of the reader says, without the words for its kinds around it.
pub(crate) fn without_kinds(text: &str) -> &str {
    const KINDS: [&str; 7] = [
        "External error: ",
        "External: ",
        "Parquet error: ",
        "Parquet argument error: ",
        "Arrow error: ",
        "Arrow: ",
        "Execution error: ",
    ];
    let mut rest = text;
    while let Some(inner) = KINDS.iter().find_map(|kind| rest.strip_prefix(kind)) {
        rest = inner;
    }
    rest
}

/// A value for an error, in quotes, with nothing in it that is not printed; of a long one its beginning.
pub(crate) fn quoted(text: &str) -> String {
    const N_CHARS: usize = 80;
    match text.char_indices().nth(N_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// A file that was left out because it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be read.
    pub problem: String,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The question itself is wrong: a time that is no time, a window that ends before it starts.
    #[error("{problem}")]
    Usage {
        /// What is wrong, with the text that was given.
        problem: String,
        /// What to write instead, where that is known.
        hint: Option<String>,
    },

    /// A filter that is none; three lines, of which the last points at the place.
    #[error(transparent)]
    Filter(#[from] crate::filter::FilterError),

    /// No project has this id or name.
    #[error("no project is called {asked:?}")]
    NoSuchProject {
        /// The id, name or prefix that was asked for.
        asked: String,
        /// Some projects that exist, as `name (id)`.
        existing: Vec<String>,
    },

    /// A name or prefix that several projects share.
    #[error("{asked:?} names {} projects: {}", matching.len(), matching.join(", "))]
    AmbiguousProject {
        /// The name or prefix that was asked for.
        asked: String,
        /// All projects that it matches, as `name (id)`.
        matching: Vec<String>,
    },

    /// A source that holds nothing to read.
    #[error("{}: {problem}", path.display())]
    NoInput {
        /// The source as it was given.
        path: PathBuf,
        /// What was looked for and not found.
        problem: String,
    },

    /// An input file that cannot be read as what it should be.
    #[error("{}: {problem}", path.display())]
    BadInput {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found: the column and the value, or the damage.
        problem: String,
    },

    /// A tally file that cannot answer the question, or not together with the other sources.
    #[error("{}: {problem}", path.display())]
    Tallies {
        /// The file.
        path: PathBuf,
        /// What it has, and what is asked of it or stands beside it.
        problem: String,
        /// What to do.
        hint: String,
    },

    /// All files of runs that there are cannot be read, and were to be skipped.
    #[error("nothing is left of the source: {}", skipped.iter().map(|file| format!("{}: {}", file.path.display(), file.problem)).collect::<Vec<_>>().join("; "))]
    NothingLeft {
        /// The files.
        skipped: Vec<SkippedFile>,
    },

    /// A side file (projects, feedback) that cannot be read as what it should be.
    #[error(transparent)]
    SideFile(#[from] crate::source::projects::SideFileError),

    /// Inputs that are well formed one by one but that cannot be counted together.
    #[error("{problem}")]
    BadData {
        /// What does not fit.
        problem: String,
    },

    /// The operating system refused a file.
    #[error("{}: {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `cannot open`, `cannot write`, …
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },

    /// The question needs more memory than it may take, and could not be spilled to disk.
    #[error("the memory limit does not suffice: {problem}")]
    Memory {
        /// Which part of the work asked for how much.
        problem: String,
    },

    /// A failure of the query engine that no input explains.
    #[error("the query engine failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What the user could do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::Filter(error) => error.hint().map(str::to_owned),
            Self::NoSuchProject { existing, .. } if existing.is_empty() => None,
            Self::NoSuchProject { existing, .. } => {
                Some(format!("the source has {}", existing.join(", ")))
            }
            Self::Tallies { hint, .. } => Some(hint.clone()),
            Self::AmbiguousProject { .. } => Some("give more of the name, or the id".to_owned()),
            Self::Memory { .. } => Some("raise --memory-limit or lower --threads".to_owned()),
            _ => None,
        }
    }
}
