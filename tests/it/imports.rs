//! Who may import whom: walks `src/`, finds every path that leads out of its own module, and fails
//! where the table below does not allow it. A module is the first part of a file's path below `src/`.
//!
//! Paths are found in the text, without macros or types being resolved: comments and literals are blanked
//! out, then every `a::b::{c, d::e}` is taken apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What each module may import of its own crate, beside itself and `error`. A longer path allows only
/// what is below it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // Instants as text: plain arithmetic.
    ("time", &[]),
    // How loops are compiled.
    ("cpu", &[]),
    // How work is shared.
    ("threads", &[]),
    // Values of a filter are exact costs and times.
    ("filter", &["tally::money", "time"]),
    // Moments are read and shown; percentiles are asked for.
    ("request", &["filter", "tally::sketch", "time"]),
    // The kinds of error contain those of the filter and the side files.
    ("error", &["filter", "source::projects"]),
    // Costs become pico-dollars, tiers their ranks and texts times while runs are read.
    ("runs", &["cpu", "tally::TraceTier", "tally::money", "time"]),
    // Runs grouped to traces; sums are the tally's checked ones.
    ("traces", &["runs", "tally"]),
    // Feedback records and trace tiers are plain data of the tally.
    (
        "source",
        &["cpu", "request", "runs", "tally", "threads", "time"],
    ),
    // The mergeable aggregate knows nothing of where runs come from.
    ("tally", &["cpu"]),
    // Values in, values out; it sees no files.
    ("plan", &["filter", "request", "runs", "tally", "traces"]),
    // The one place where plans meet files.
    (
        "engine",
        &["plan", "request", "runs", "source", "tally", "threads"],
    ),
    // Takes rows from the engine and writes them.
    ("convert", &["engine", "plan", "request", "runs", "source"]),
    // Assembled from a tally and the metadata's plain data.
    (
        "document",
        &[
            "filter",
            "request",
            "source::projects",
            "tally",
            "threads",
            "time",
        ],
    ),
    // Brings together what was asked, what the engine counted and what is known of the projects.
    (
        "answers",
        &[
            "document", "engine", "filter", "plan", "request", "runs", "source", "tally",
        ],
    ),
    // Documents to bytes; how groups are laid out follows from what was asked, which is plain data.
    ("output", &["document", "request", "threads"]),
    // Writes what exports look like, and reads nothing.
    ("generate", &["runs"]),
    // The crate from outside only: what is public, by its public names.
    ("server", PUBLIC),
    // Runs before the crate is built.
    ("build", &[]),
    // The binary sees the library from outside only, as `runtally::…`.
    ("main", &["cli"]),
    ("cli", &[]),
];

/// The public modules of the crate; its other public names are at its root.
const PUBLIC: &[&str] = &["filter", "generate", "output", "request", "tally"];

/// Where a crate may be named at the start of a path; a folder's name includes all below it.
const ONLY_IN: &[(&str, &[&str])] = &[
    // The command line is read in one place, requests in another.
    ("clap", &["cli"]),
    ("axum", &["server"]),
    ("tower_http", &["server"]),
    // What DataFusion re-exports is taken from there, so that there is one version of it.
    ("arrow", &["generate"]),
    ("parquet", &["generate"]),
];

/// Where neither the query engine nor its arrays may be named: pure logic that any program could use.
const PURE: &[&str] = &[
    "document",
    "filter",
    "request",
    "tally/bytes",
    "tally/distinct",
    "tally/exact",
    "tally/exemplars",
    "tally/facets",
    "tally/feedback",
    "tally/money",
    "tally/sketch",
    "tally/varint",
];

#[test]
fn imports_keep_to_the_table() {
    let files = sources();
    assert!(files.len() > 20, "only {} files were found", files.len());
    let breaches: Vec<String> = files.iter().flat_map(SourceFile::breaches).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn the_table_has_a_row_for_every_module() {
    let modules: BTreeSet<String> = sources().iter().map(|file| file.top().to_owned()).collect();
    let rows = MAY_IMPORT.iter().map(|(module, _)| (*module).to_owned());
    let mut rows: BTreeSet<String> = rows.collect();
    // The map of the crate may name everything.
    rows.insert("lib".to_owned());
    assert_eq!(modules, rows, "(left: below src/)");
}

#[test]
fn a_breach_is_found_in_every_form() {
    let breaches = |module: &[&str], text: &str| {
        let file = SourceFile {
            module: module.iter().map(|part| (*part).to_owned()).collect(),
            text: text.to_owned(),
        };
        file.breaches().len()
    };
    for (text, n) in [
        ("use crate::engine::Engine;", 1),
        (
            "use crate::{engine::{self, Engine}, plan, tally::Tally};",
            3,
        ),
        (
            "use crate::{\n    error::Error,\n    tally::{Tally, money},\n};",
            0,
        ),
        ("fn f(x: &crate::output::Format) -> crate::time::Time {}", 1),
        ("use super::super::engine;", 1),
        ("use super::listing::{self, Listed as Found};", 0),
        ("use crate::Engine;", 1),
        (
            "// crate::engine\n/* crate::engine */ \"crate::engine\"; r#\"crate::\"engine\"#; '\"'",
            0,
        ),
        ("use clap::Args;", 1),
        (
            "use arrow::array::ArrayRef; use datafusion::arrow::array::ArrayRef;",
            1,
        ),
        (
            "#[cfg(test)]\nmod tests { use super::super::super::engine; }",
            1,
        ),
        ("#[cfg(test)]\nmod tests { use super::super::listing; }", 0),
    ] {
        assert_eq!(breaches(&["source", "files"], text), n, "{text}");
    }
    assert_eq!(
        breaches(&["tally", "sketch"], "use datafusion::common::Result;"),
        1
    );
    assert_eq!(
        breaches(&["tally", "sketch_udaf"], "use datafusion::common::Result;"),
        0
    );
    assert_eq!(
        breaches(
            &["document"],
            "fn f(a: &datafusion::arrow::array::ArrayRef) {}"
        ),
        1
    );
    assert_eq!(breaches(&["runs"], "use crate::tally::{money, Tally};"), 1);
    assert_eq!(
        breaches(&["cli", "show"], "use runtally::Error; use super::Exit;"),
        0
    );
    assert_eq!(breaches(&["cli", "show"], "use crate::engine::Engine;"), 1);
    assert_eq!(
        breaches(
            &["server", "runs"],
            "use crate::{Engine, filter::Field, sessions};"
        ),
        0
    );
    assert_eq!(
        breaches(
            &["server", "runs"],
            "use crate::{engine::Engine, error::Error}; use clap::Args;"
        ),
        3
    );
}

/// A file below `src/`.
struct SourceFile {
    /// Its module's path: `["source", "files"]`.
    module: Vec<String>,
    text: String,
}

fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(SourceFile::read(&root, &path));
            }
        }
    }
    files.sort_by(|one, other| one.module.cmp(&other.module));
    files
}

impl SourceFile {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let below = path.strip_prefix(root).unwrap().with_extension("");
        let module = below.iter().map(|part| part.to_str().unwrap().to_owned());
        Self {
            module: module.collect(),
            text,
        }
    }

    fn top(&self) -> &str {
        &self.module[0]
    }

    fn breaches(&self) -> Vec<String> {
        let code = without_comments_and_literals(&self.text);
        let (code, tests) = code.split_once("#[cfg(test)]").unwrap_or((&code, ""));
        let in_tests = [self.module.clone(), vec!["tests".to_owned()]].concat();
        let paths = paths(code)
            .into_iter()
            .map(|path| (self.module.clone(), path));
        let paths = paths.chain(paths_of_tests(tests, &in_tests));
        paths
            .filter(|(module, path)| !self.may_name(module, path))
            .map(|(_, path)| {
                format!(
                    "src/{}.rs may not name {}",
                    self.module.join("/"),
                    path.join("::")
                )
            })
            .collect()
    }

    fn may_name(&self, module: &[String], path: &[String]) -> bool {
        let root = path[0].as_str();
        if let Some(inner) = within_crate(module, path) {
            return self.top() == "lib" || self.may_import(&inner);
        }
        let is_allowed = ONLY_IN
            .iter()
            .find(|(name, _)| *name == root)
            .is_none_or(|(_, places)| self.is_in(places));
        let is_engine = ["arrow", "datafusion", "parquet"].contains(&root);
        is_allowed && !(is_engine && self.is_in(PURE))
    }

    /// Whether the module may import a path of its own crate.
    fn may_import(&self, path: &[String]) -> bool {
        let Some(first) = path.first() else {
            return false;
        };
        let is_below = |allowed: &str| {
            let parts: Vec<&str> = allowed.split("::").collect();
            path.len() >= parts.len() && parts.iter().zip(path).all(|(part, name)| part == name)
        };
        let row = MAY_IMPORT.iter().find(|(module, _)| *module == self.top());
        let is_outside = ["cli", "main", "server"].contains(&self.top());
        let is_module = MAY_IMPORT.iter().any(|(module, _)| module == first);
        let is_at_root = self.top() == "server" && path.len() <= 2 && !is_module;
        first == self.top()
            || is_at_root
            || (first == "error" && !is_outside)
            || row.is_some_and(|(_, allowed)| allowed.iter().any(|allowed| is_below(allowed)))
    }

    /// Whether the file is one of these or lies in a folder of that name.
    fn is_in(&self, places: &[&str]) -> bool {
        let path = self.module.join("/");
        places.iter().any(|place| {
            path.strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

fn paths_of_tests(
    code: &str,
    module: &[String],
) -> impl Iterator<Item = (Vec<String>, Vec<String>)> {
    paths(code).into_iter().map(|path| (module.to_vec(), path))
}

/// The path from the crate's root, of one that begins with `crate`, `self` or `super`.
fn within_crate(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = match path[0].as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        _ => return None,
    };
    let is_step = |part: &&String| ["crate", "self", "super"].contains(&part.as_str());
    for part in path.iter().take_while(is_step) {
        if part == "super" {
            base.pop();
        }
    }
    base.extend(path.iter().skip_while(is_step).cloned());
    Some(base)
}

/// Every path of several parts in a piece of code, trees of `use` taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut reader = Reader {
        rest: code.chars().collect(),
        at: 0,
    };
    let mut all = Vec::new();
    while !reader.is_done() {
        if reader.name_begins() {
            let mut found = Vec::new();
            reader.tree(&[], &mut found);
            all.extend(found.into_iter().filter(|path| path.len() > 1));
        } else {
            reader.at += 1;
        }
    }
    all
}

/// Reads paths and trees of paths.
struct Reader {
    rest: Vec<char>,
    at: usize,
}

impl Reader {
    fn is_done(&self) -> bool {
        self.at >= self.rest.len()
    }

    fn peek(&self) -> char {
        self.rest.get(self.at).copied().unwrap_or('\0')
    }

    fn name_begins(&self) -> bool {
        self.peek().is_alphabetic() || self.peek() == '_'
    }

    fn skip_space(&mut self) {
        while self.peek().is_whitespace() {
            self.at += 1;
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while self.peek().is_alphanumeric() || self.peek() == '_' {
            name.push(self.peek());
            self.at += 1;
        }
        name
    }

    /// Consumes the `::` between parts, if a part follows.
    fn separator(&mut self) -> bool {
        let before = self.at;
        self.skip_space();
        if self.rest[self.at.min(self.rest.len())..].starts_with(&[':', ':']) {
            self.at += 2;
            self.skip_space();
            if self.name_begins() || ['{', '*'].contains(&self.peek()) {
                return true;
            }
        }
        self.at = before;
        false
    }

    /// Reads a path; where it ends in braces, each of its ends.
    fn tree(&mut self, before: &[String], found: &mut Vec<Vec<String>>) {
        let mut path = before.to_vec();
        loop {
            if self.peek() == '{' {
                return self.branches(&path, found);
            }
            if self.peek() == '*' {
                self.at += 1;
                break;
            }
            let name = self.name();
            // `{self, …}` names what is before the braces.
            if name != "self" || path.is_empty() {
                path.push(name);
            }
            if !self.separator() {
                break;
            }
        }
        found.push(path);
    }

    fn branches(&mut self, before: &[String], found: &mut Vec<Vec<String>>) {
        self.at += 1;
        while !self.is_done() && self.peek() != '}' {
            if self.name_begins() || self.peek() == '*' {
                self.tree(before, found);
                self.skip_alias();
            } else {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn skip_alias(&mut self) {
        while !self.is_done() && ![',', '}'].contains(&self.peek()) {
            self.at += 1;
        }
    }
}

/// The code with comments, texts and characters blanked out.
fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        if let Some(length) = literal_or_comment(&chars[at..], code.chars().next_back()) {
            code.push(' ');
            at += length;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// The length of the comment or literal that begins here, if one does.
fn literal_or_comment(rest: &[char], before: Option<char>) -> Option<usize> {
    let is_within_name = before.is_some_and(|char| char.is_alphanumeric() || char == '_');
    match rest {
        ['/', '/', ..] => Some(until(rest, 2, &['\n'])),
        ['/', '*', ..] => Some(until(rest, 2, &['*', '/'])),
        ['"', ..] => Some(until_quote(rest)),
        ['r', '"' | '#', ..] if !is_within_name => {
            let n_signs = rest[1..].iter().take_while(|char| **char == '#').count();
            let is_text = rest.get(1 + n_signs) == Some(&'"');
            let end = [vec!['"'], vec!['#'; n_signs]].concat();
            is_text.then(|| until(rest, 2 + n_signs, &end))
        }
        ['\'', '\\', ..] => Some(until(rest, 3, &['\''])),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn until(rest: &[char], from: usize, end: &[char]) -> usize {
    (from..rest.len())
        .find(|at| rest[*at..].starts_with(end))
        .map_or(rest.len(), |at| at + end.len())
}

fn until_quote(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}
