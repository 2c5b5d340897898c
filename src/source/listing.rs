//! Which files a source has, and what their paths say.
//!
//! Paths as a user gives them (files, folders, globs, `-` for standard input) go in; a sorted list of files
//! that hold runs comes out, each once, with the keys of an export's folders (`session_id=…/`). No file is
//! opened here.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::threads::at_once;

/// The metadata side files that a source may have at its root.
const SIDE_FILES: [&str; 2] = ["sessions.json", "sessions.jsonl"];
/// What side files of any kind begin with; they hold no runs.
const SIDE_FILE: &str = "sessions.json";
/// The names of JSON files end so, or so and then with how they are packed.
const JSON: [&str; 3] = [".json", ".jsonl", ".ndjson"];
const PACKED: [&str; 3] = [".gz", ".zst", ".zstd"];
/// The folder of what other exporters say of their windows.
const MANIFESTS: &str = "manifests";
/// What the folder of an export is called, before its id.
pub(crate) const EXPORT: &str = "export_id=";
/// The file in an export that names others beside it for which it stands.
pub(crate) const REPLACES: &str = ".replaces";
/// The system is asked for so many files by one thread.
const FEW_FILES: usize = 256;
/// Standard input, as a source.
pub(super) const STREAM: &str = "-";

/// What a source's paths lead to.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files of runs, sorted by path, each once.
    pub(crate) files: Vec<Listed>,
    /// The metadata side files found at the roots.
    pub(crate) side_files: Vec<PathBuf>,
    /// The folders that were walked as sources, absolute and without links.
    pub(crate) folders: Vec<PathBuf>,
}

/// One file of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The path as the user would write it.
    pub(crate) path: PathBuf,
    /// The same, absolute and without links: what makes two paths one file.
    pub(crate) canonical: PathBuf,
    /// What the folders say.
    pub(crate) keys: Keys,
    /// The export that it belongs to: files of one export repeat no run.
    pub(crate) export: Export,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was last written, whole seconds since 1970.
    pub(crate) modified_s: i64,
    /// The same to the system's precision.
    pub(crate) modified: SystemTime,
    /// What it holds, as far as its name says.
    pub(crate) form: Form,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Parquet.
    Parquet,
    /// JSON.
    Json,
    /// JSON that is read from standard input.
    Stream,
    /// What its content says.
    Unknown,
}

/// A folder `export_id=…`, or a file by itself where it is in none. Ordered by the path below the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Export {
    below_source: PathBuf,
    path: PathBuf,
}

/// What the folders of an export say of the files in them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// `session_id=…`
    pub(crate) project: Option<Uuid>,
    /// `tenant_id=…`
    pub(crate) tenant: Option<Uuid>,
    /// `year=…/month=…/day=…`: the day on which its runs start, UTC.
    pub(crate) day: Option<NaiveDate>,
}

/// Lists files, folders (with all that is below them) and globs, but for those of `no_runs`.
///
/// # Errors
///
/// Where a path does not exist or leads to no file of runs, and where a folder cannot be read.
pub(crate) fn list(paths: &[PathBuf], no_runs: &[&Path]) -> Result<Listing> {
    let no_runs = no_runs.iter().filter_map(|path| path.canonicalize().ok());
    let mut found = Found {
        no_runs: no_runs.collect(),
        ..Found::default()
    };
    for path in paths {
        let before = found.n_seen;
        if path.as_os_str() == STREAM {
            found.stream(path);
        } else if path.exists() {
            found.add(path)?;
        } else {
            for path in glob_matches(path)? {
                if path.is_dir() || is_parquet(&path) || is_json(&path) || is_side_file(&path) {
                    found.add(&path)?;
                }
            }
        }
        if found.n_seen == before && !(paths.len() > 1 && is_side_file(path)) {
            return Err(Error::NoInput {
                path: path.clone(),
                problem: "no Parquet file (*.parquet) in it, nor JSON (*.json, *.jsonl, *.ndjson)"
                    .to_owned(),
            });
        }
    }
    tell_all(&mut found.files)?;
    // They mostly come in this order; of those that are named twice, the first name stays.
    found
        .files
        .sort_by(|one, other| one.canonical.cmp(&other.canonical));
    found
        .files
        .dedup_by(|next, one| next.canonical == one.canonical);
    Ok(Listing {
        files: found.files,
        side_files: found.side_files,
        folders: found.folders,
    })
}

/// What the system says of files: many are asked for by several threads.
fn tell_all(files: &mut [Listed]) -> Result<()> {
    let n_threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let n_files = files.len().div_ceil(n_threads).max(FEW_FILES);
    at_once(files.chunks_mut(n_files), |files| {
        files.iter_mut().try_for_each(Listed::tell)
    })
}

/// The paths that a glob matches.
fn glob_matches(path: &Path) -> Result<Vec<PathBuf>> {
    let missing = |problem: &str| Error::NoInput {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let Some(pattern) = path.to_str().filter(|text| text.contains(['*', '?', '['])) else {
        return Err(missing("no such file or folder"));
    };
    let matches =
        glob::glob(pattern).map_err(|error| missing(&format!("no valid glob: {error}")))?;
    let paths = matches
        .map(|found| {
            found.map_err(|error| {
                let path = error.path().to_owned();
                unreadable(&path, error.into())
            })
        })
        .collect::<Result<Vec<PathBuf>>>()?;
    if paths.is_empty() {
        return Err(missing("the glob matches no file or folder"));
    }
    Ok(paths)
}

impl Listed {
    /// What the system says of it.
    fn tell(&mut self) -> Result<()> {
        if self.form == Form::Stream {
            return Ok(());
        }
        let facts = fs::metadata(&self.canonical);
        let facts = facts.and_then(|facts| Ok((facts.len(), facts.modified()?)));
        (self.size, self.modified) = facts.map_err(|source| unreadable(&self.path, source))?;
        self.modified_s = DateTime::<Utc>::from(self.modified).timestamp();
        Ok(())
    }
}

#[derive(Default)]
struct Found {
    files: Vec<Listed>,
    /// Files that hold something else.
    no_runs: Vec<PathBuf>,
    side_files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    /// Counts a file as often as it is named, so that naming it twice is no error.
    n_seen: usize,
}

impl Found {
    fn add(&mut self, path: &Path) -> Result<()> {
        let canonical = canonical(path)?;
        if is_side_file(path) && !canonical.is_dir() {
            // As where a shell expands `exports/*`: no runs, and no source by itself.
            self.side_files.push(path.to_owned());
            return Ok(());
        }
        if self.no_runs.contains(&canonical) {
            self.n_seen += 1;
            return Ok(());
        }
        if !canonical.is_dir() {
            let folder = path.parent().unwrap_or(path);
            self.file(&Folder::of(path, folder), path, canonical, Form::Unknown);
            return Ok(());
        }
        let side_files = SIDE_FILES.map(|name| path.join(name));
        self.side_files
            .extend(side_files.into_iter().filter(|path| path.is_file()));
        self.folders.push(canonical.clone());
        self.folder(path, canonical)
    }

    /// Walks a folder without recursion; a folder that links lead to twice is walked once.
    fn folder(&mut self, root: &Path, canonical_root: PathBuf) -> Result<()> {
        let mut walked = BTreeSet::from([canonical_root.clone()]);
        let mut open = vec![(root.to_owned(), canonical_root)];
        while let Some((folder, canonical_folder)) = open.pop() {
            let mut entries = fs::read_dir(&folder)
                .and_then(Iterator::collect::<io::Result<Vec<fs::DirEntry>>>)
                .map_err(|source| unreadable(&folder, source))?;
            entries.sort_by_cached_key(fs::DirEntry::file_name);
            let replaced = replaced(entries.iter().map(fs::DirEntry::path))?;
            let of_folder = Folder::of(root, &folder);
            let n_open = open.len();
            for entry in entries {
                let path = entry.path();
                if is_hidden(&path) || replaced.contains(&path) {
                    continue;
                }
                let kind = entry
                    .file_type()
                    .map_err(|source| unreadable(&path, source))?;
                // What is no link lies where its folder does.
                let canonical = || {
                    if kind.is_symlink() {
                        canonical(&path)
                    } else {
                        Ok(canonical_folder.join(entry.file_name()))
                    }
                };
                if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                    let is_manifests = path.file_name() == Some(MANIFESTS.as_ref());
                    let canonical = canonical()?;
                    if !is_manifests && walked.insert(canonical.clone()) {
                        open.push((path, canonical));
                    }
                } else if is_parquet(&path) {
                    let canonical = canonical()?;
                    self.file(&of_folder, &path, canonical, Form::Parquet);
                } else if is_json(&path) {
                    let canonical = canonical()?;
                    if !self.no_runs.contains(&canonical) {
                        self.file(&of_folder, &path, canonical, Form::Json);
                    }
                }
            }
            // The first one is walked next.
            if let Some(new) = open.get_mut(n_open..) {
                new.reverse();
            }
        }
        Ok(())
    }

    /// Standard input, which is as new as it can be.
    fn stream(&mut self, path: &Path) {
        self.n_seen += 1;
        self.files.push(Listed {
            path: path.to_owned(),
            canonical: path.to_owned(),
            keys: Keys::default(),
            export: Export::new(path, path),
            size: 0,
            modified_s: Utc::now().timestamp(),
            modified: SystemTime::now(),
            form: Form::Stream,
        });
    }

    fn file(&mut self, folder: &Folder<'_>, path: &Path, canonical: PathBuf, form: Form) {
        self.n_seen += 1;
        let export = folder.export.clone();
        self.files.push(Listed {
            path: path.to_owned(),
            export: export.unwrap_or_else(|| Export::new(folder.root, path)),
            canonical,
            keys: folder.keys.clone(),
            size: 0,
            modified_s: 0,
            modified: SystemTime::UNIX_EPOCH,
            form,
        });
    }
}

/// What a folder below a source's root says of all files in it.
struct Folder<'r> {
    root: &'r Path,
    keys: Keys,
    /// The innermost folder `export_id=…`, if it lies in one.
    export: Option<Export>,
}

impl<'r> Folder<'r> {
    fn of(root: &'r Path, path: &Path) -> Self {
        let export = path.ancestors().find(|folder| is_export(folder));
        // The folder of a bare name is the working one.
        let named = Some(path).filter(|path| !path.as_os_str().is_empty());
        let absolute = std::path::absolute(named.unwrap_or(Path::new(".")));
        Self {
            root,
            // Not of the canonical path: a link's own folders say what it is, its target's need not.
            keys: Keys::of(&absolute.unwrap_or_else(|_| path.to_owned())),
            export: export.map(|export| Export::new(root, export)),
        }
    }
}

impl Export {
    fn new(root: &Path, path: &Path) -> Self {
        Self {
            below_source: path.strip_prefix(root).unwrap_or(path).to_owned(),
            path: path.to_owned(),
        }
    }
}

impl Keys {
    /// Reads the `key=value` folders of a path; the innermost wins, a value that is no UUID is none.
    fn of(path: &Path) -> Self {
        let mut keys = Self::default();
        let (mut year, mut month, mut day) = (None, None, None);
        for folder in path.iter().filter_map(|part| part.to_str()) {
            let Some((key, value)) = folder.split_once('=') else {
                continue;
            };
            match key {
                "session_id" => keys.project = Uuid::try_parse(value).ok().or(keys.project),
                "tenant_id" => keys.tenant = Uuid::try_parse(value).ok().or(keys.tenant),
                "year" => year = value.parse::<i32>().ok(),
                "month" => month = value.parse::<u32>().ok(),
                "day" => day = value.parse::<u32>().ok(),
                _ => {}
            }
        }
        keys.day = (|| NaiveDate::from_ymd_opt(year?, month?, day?))();
        keys
    }
}

/// Those of a folder's entries that another one stands for: an export may name exports beside it, one a
/// line, that are not to be read beside it.
fn replaced(entries: impl Iterator<Item = PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut replaced = BTreeSet::new();
    for export in entries.filter(|path| is_export(path)) {
        let list = export.join(REPLACES);
        match fs::read_to_string(&list) {
            Ok(names) => replaced.extend(names.lines().map(|name| export.with_file_name(name))),
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {}
            Err(error) => return Err(unreadable(&list, error)),
        }
    }
    Ok(replaced)
}

/// Whether a path ends in `export_id=…`.
fn is_export(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(EXPORT))
}

fn is_parquet(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Whether a file's name says that it holds JSON, packed or not; side files do not count.
pub(super) fn is_json(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let mut packings = PACKED.iter();
    let bare = packings.find_map(|packing| name.strip_suffix(packing));
    let bare = bare.unwrap_or(&name);
    !name.starts_with(SIDE_FILE) && JSON.iter().any(|extension| bare.ends_with(extension))
}

fn is_side_file(path: &Path) -> bool {
    SIDE_FILES
        .iter()
        .any(|name| path.file_name() == Some(name.as_ref()))
}

/// What tools leave half written or keep for themselves.
fn is_hidden(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_of_tools = || ["_temporary", "_delta_log"].contains(&name) || !path.is_dir();
    name.starts_with('.') || (name.starts_with('_') && is_of_tools())
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        action: "cannot read",
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_folders() {
        let project = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
        let path = format!(
            "/x/tenant_id=nonsense/session_id={project}/runs/year=2026/month=08/day=9/a.parquet"
        );
        let keys = Keys::of(Path::new(&path));
        assert_eq!(keys.project, Some(Uuid::try_parse(project).unwrap()));
        assert_eq!(keys.tenant, None);
        assert_eq!(keys.day, NaiveDate::from_ymd_opt(2026, 8, 9));
    }

    #[test]
    fn a_file_is_listed_once_and_hidden_ones_never() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a.parquet",
            "b.PARQUET",
            ".c.parquet",
            "_d.parquet",
            "e.txt",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("tmp")).unwrap();
        fs::write(dir.path().join("sessions.json"), "").unwrap();
        let twice = [
            dir.path().to_owned(),
            dir.path().join("a.parquet"),
            dir.path().join("*.parquet"),
        ];
        let listing = list(&twice, &[]).unwrap();
        let names: Vec<_> = listing
            .files
            .iter()
            .map(|file| file.path.file_name().unwrap())
            .collect();
        assert!(names.iter().any(|name| *name == "b.PARQUET"), "{names:?}");
        // The glob names hidden files itself, so they count there; the folder alone does not.
        assert_eq!(list(&twice[..2], &[]).unwrap().files.len(), 2);
        assert_eq!(listing.side_files, [dir.path().join("sessions.json")]);
    }

    #[test]
    fn of_each_of_many_files_it_is_known_how_large_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let sizes: Vec<usize> = (0..2 * FEW_FILES + 9).map(|number| number % 5).collect();
        for (number, size) in sizes.iter().enumerate() {
            let path = dir.path().join(format!("{number:04}.parquet"));
            fs::write(path, "x".repeat(*size)).unwrap();
        }
        let files = list(&[dir.path().to_owned()], &[]).unwrap().files;
        assert!(files.iter().all(|file| file.modified_s > 0));
        let listed: Vec<u64> = files.iter().map(|file| file.size).collect();
        let sizes: Vec<u64> = sizes.iter().map(|size| *size as u64).collect();
        assert_eq!(listed, sizes);
    }

    #[test]
    fn what_is_being_written_or_was_replaced_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["export_id=1", "export_id=2", ".export_id=3.partial"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("a.parquet"), "").unwrap();
        }
        let listed = || list(&[dir.path().to_owned()], &[]).unwrap().files;
        assert_eq!(listed().len(), 2);
        fs::write(dir.path().join("export_id=2/.replaces"), "export_id=1\n").unwrap();
        let left = dir.path().join("export_id=2/a.parquet");
        let paths: Vec<PathBuf> = listed().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [left]);
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["", "missing", "*.parquet"] {
            assert!(list(&[dir.path().join(path)], &[]).is_err(), "{path}");
        }
    }
}
