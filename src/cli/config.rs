//! `.runtally.toml` in the working directory: what a team asks the same way each time.
//!
//! A flag comes before the environment, that before this file; `-v` says what came from where.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use runtally::Error;
use serde::Deserialize;

/// The file's name.
pub(super) const FILE: &str = ".runtally.toml";

/// What the file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    source: Option<Paths>,
    /// Where a date begins.
    #[serde(alias = "zone")]
    pub(super) timezone: Option<String>,
    /// Records of `GET /sessions`.
    pub(super) projects: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Paths {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Config {
    /// Reads the file; it need not be there.
    pub(super) fn read() -> Result<Self, Error> {
        let path = Path::new(FILE);
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(Error::Io {
                    path: path.to_owned(),
                    action: "cannot read",
                    source,
                });
            }
        };
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: "));
            Error::BadInput {
                path: path.to_owned(),
                problem: format!("{}{}", line.unwrap_or_default(), error.message()),
            }
        })
    }

    /// The sources that it names.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        match &self.source {
            None => Vec::new(),
            Some(Paths::One(path)) => vec![path.clone()],
            Some(Paths::Several(paths)) => paths.clone(),
        }
    }
}

/// Whether the file is there and names a source, or cannot be read.
pub(super) fn names_a_source() -> bool {
    Config::read().map_or(true, |config| !config.sources().is_empty())
}

/// Whether neither a flag nor the environment gives an argument.
pub(super) fn is_open(given: &ArgMatches, id: &str) -> bool {
    let source = given.value_source(id);
    matches!(source, None | Some(ValueSource::DefaultValue))
}

/// The arguments that the environment gives, as `--since from RUNTALLY_SINCE`.
pub(super) fn from_environment(given: &ArgMatches) -> Vec<String> {
    let ids = given.ids().map(clap::Id::as_str);
    let set = ids.filter(|id| given.value_source(id) == Some(ValueSource::EnvVariable));
    set.map(|id| {
        let name = id.to_uppercase();
        let what = if id == "source" {
            "the sources".to_owned()
        } else {
            format!("--{}", id.replace('_', "-"))
        };
        format!("{what} from RUNTALLY_{name}")
    })
    .collect()
}
