//! The folder that a conversion goes into: what stands in it, what was begun, and the step between them.
//!
//! A finished export is `export_id=<id>/`, one in the making `.export_id=<id>.partial/`, one that is being
//! removed `.export_id=<id>.replaced/`. Each has a record of what is in it; by that a finished one is known as
//! ours, and nothing else is ever removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Converted;
use crate::error::{Error, Result, SkippedFile};
use crate::source::{EXPORT, REPLACES, Source};

/// What the files say they were written by. Changes where the same runs would be written otherwise.
pub(super) const BY: &str = "runtally convert 1";

/// The side file beside the export.
const SESSIONS: &str = "sessions.json";
/// The record in each export.
const RECORD: &str = ".convert.json";
/// What a process holds while it writes into a folder.
const LOCK: &str = ".convert.lock";
/// What the names of exports end with that are not finished, or are being removed.
const PARTIAL: &str = ".partial";
const REPLACED: &str = ".replaced";
/// What begins the name of the file that says that a job is done.
const DONE: &str = ".done-";

/// What is in an export, and how it came to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    by: String,
    /// The files that were left out, and those of which a part was.
    skipped: Vec<SkippedFile>,
    left_out: Vec<SkippedFile>,
    /// Whether costs have the precision for large ones.
    is_wide: bool,
    /// The files, once all of them are written.
    files: Vec<WrittenFile>,
    /// What identifies the text of the side file, where there is one.
    sessions: Option<Uuid>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrittenFile {
    /// Below the export.
    path: PathBuf,
    n_rows: u64,
    n_bytes: u64,
}

impl WrittenFile {
    fn project(&self) -> Option<Uuid> {
        let mut folders = self.path.iter().filter_map(|folder| folder.to_str());
        let project = folders.find_map(|folder| folder.strip_prefix("session_id="))?;
        Uuid::try_parse(project).ok()
    }

    /// The folders of its day, the innermost first.
    fn day(&self) -> PathBuf {
        self.path.iter().rev().skip(1).take(3).collect()
    }
}

impl Record {
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(Self::is_ours)),
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(&path, "cannot read", error)),
        }
    }

    fn is_ours(&self) -> bool {
        self.by.starts_with("runtally convert ")
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::Engine(error.into()))?;
        replace(&folder.join(RECORD), &(text + "\n"))
    }

    pub(super) fn projects(&self) -> BTreeSet<Uuid> {
        self.files.iter().filter_map(WrittenFile::project).collect()
    }

    /// What is said of an export.
    pub(super) fn converted(
        &self,
        path: PathBuf,
        export_id: Uuid,
        was_there: bool,
        n_bytes_read: u64,
        warnings: Vec<String>,
    ) -> Converted {
        let files = &self.files;
        let days: BTreeSet<PathBuf> = files.iter().map(WrittenFile::day).collect();
        Converted {
            path,
            export_id,
            was_there,
            n_projects: self.projects().len(),
            n_days: days.len(),
            n_runs: files.iter().map(|file| file.n_rows).sum(),
            n_files: files.len(),
            n_bytes_read,
            n_bytes: files.iter().map(|file| file.n_bytes).sum(),
            warnings,
            skipped: [self.skipped.as_slice(), &self.left_out].concat(),
        }
    }
}

/// A folder that holds nothing but what conversions wrote, which no other process writes into.
pub(super) struct Target {
    dir: PathBuf,
    /// Held until this is dropped.
    _lock: File,
    /// The exports that stand, and whether each is as its record says.
    exports: BTreeMap<Uuid, (Record, bool)>,
}

impl Target {
    /// Makes the folder where there is none, and looks at what is in it.
    pub(super) fn open(dir: &Path, source: &Source) -> Result<Self> {
        refuse_sources(dir, source)?;
        fs::create_dir_all(dir).map_err(|error| failed(dir, "cannot make the folder", error))?;
        refuse_sources(dir, source)?;
        // Nothing is written into a folder of somebody else's, not even a lock.
        exports(dir)?;
        let path = dir.join(LOCK);
        let lock = File::create(&path).map_err(|error| failed(&path, "cannot write", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Usage {
                    problem: format!("another conversion is writing into {}", dir.display()),
                    hint: Some("wait until it is done, or name another folder".to_owned()),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, "cannot lock", error)),
        }
        Ok(Self {
            exports: exports(dir)?,
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// Where an export stands when it is finished.
    pub(super) fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{EXPORT}{id}"))
    }

    fn hidden(&self, id: Uuid, end: &str) -> PathBuf {
        self.dir.join(format!(".{EXPORT}{id}{end}"))
    }

    /// The record of an export that stands, as it was written.
    pub(super) fn standing(&self, id: Uuid) -> Result<Option<Record>> {
        match self.exports.get(&id) {
            Some((record, true)) => Ok(Some(record.clone())),
            Some((_, false)) => self.remove(id).map(|()| None),
            None => Ok(None),
        }
    }

    /// Takes up the export with an id where it was left, or begins it.
    pub(super) fn stage(&self, id: Uuid) -> Result<Staging<'_>> {
        self.clear(Some(id))?;
        let path = self.hidden(id, PARTIAL);
        let record = Record::read(&path)?.filter(|record| record.by == BY);
        let mut staging = Staging {
            target: self,
            id,
            record: record.clone().unwrap_or_default(),
            path,
        };
        if record.is_none() {
            staging.restart()?;
        }
        Ok(staging)
    }

    /// Leaves an export that stands as the only one, with its side file.
    pub(super) fn settle(&self, id: Uuid, sessions: Option<&str>) -> Result<()> {
        self.write_sessions(sessions)?;
        for other in self.exports.keys().filter(|other| **other != id) {
            self.remove(*other)?;
        }
        let list = self.path(id).join(REPLACES);
        if list.exists() {
            fs::remove_file(&list).map_err(|error| failed(&list, "cannot remove", error))?;
        }
        self.clear(None)
    }

    fn write_sessions(&self, sessions: Option<&str>) -> Result<()> {
        let path = self.dir.join(SESSIONS);
        match (sessions, fs::read(&path)) {
            (Some(text), Ok(held)) if held == text.as_bytes() => Ok(()),
            (Some(text), _) => replace(&path, text),
            (None, Ok(_)) => {
                fs::remove_file(&path).map_err(|error| failed(&path, "cannot remove", error))
            }
            (None, Err(_)) => Ok(()),
        }
    }

    /// Removes an export that stands: at once for who reads, then file by file.
    fn remove(&self, id: Uuid) -> Result<()> {
        let (path, hidden) = (self.path(id), self.hidden(id, REPLACED));
        remove_all(&hidden)?;
        fs::rename(&path, &hidden).map_err(|error| failed(&path, "cannot rename", error))?;
        remove_all(&hidden)
    }

    /// Removes what was begun or is being removed, but for the export that is being written.
    fn clear(&self, kept: Option<Uuid>) -> Result<()> {
        for path in entries(&self.dir)? {
            let ours = hidden_export(&path);
            if ours.is_some_and(|(id, is_partial)| !(is_partial && Some(id) == kept)) {
                remove_all(&path)?;
            }
        }
        Ok(())
    }
}

/// An export in the making.
pub(super) struct Staging<'a> {
    target: &'a Target,
    id: Uuid,
    path: PathBuf,
    record: Record,
}

impl Staging<'_> {
    /// Where its files go.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files that were found to be unreadable.
    pub(super) fn skipped(&self) -> &[SkippedFile] {
        &self.record.skipped
    }

    /// Whether costs have the precision for large ones.
    pub(super) fn is_wide(&self) -> bool {
        self.record.is_wide
    }

    /// Begins anew, without some files.
    pub(super) fn begin_without(&mut self, files: Vec<SkippedFile>) -> Result<()> {
        self.record.skipped.extend(files);
        self.restart()
    }

    /// Begins anew, with the precision for large costs.
    pub(super) fn begin_wide(&mut self) -> Result<()> {
        self.record.is_wide = true;
        self.restart()
    }

    fn restart(&mut self) -> Result<()> {
        remove_all(&self.path)?;
        fs::create_dir_all(&self.path)
            .map_err(|error| failed(&self.path, "cannot make the folder", error))?;
        BY.clone_into(&mut self.record.by);
        self.record.write(&self.path)
    }

    /// Whether all files of a job are complete.
    pub(super) fn is_done(&self, job: usize) -> bool {
        self.path.join(format!("{DONE}{job}")).exists()
    }

    /// Says that they are.
    pub(super) fn done(&self, job: usize) -> Result<()> {
        let path = self.path.join(format!("{DONE}{job}"));
        let written = File::create(&path);
        written
            .map(drop)
            .map_err(|error| failed(&path, "cannot write", error))
    }

    /// The projects that it has files of.
    pub(super) fn projects(&self) -> Result<BTreeSet<Uuid>> {
        let files = files_below(&self.path)?;
        Ok(files.iter().filter_map(WrittenFile::project).collect())
    }

    /// Makes it the only export that stands.
    pub(super) fn finish(
        mut self,
        sessions: Option<&str>,
        left_out: Vec<SkippedFile>,
    ) -> Result<Record> {
        for path in entries(&self.path)? {
            if name(&path).starts_with(DONE) {
                fs::remove_file(&path).map_err(|error| failed(&path, "cannot remove", error))?;
            }
        }
        self.record.files = files_below(&self.path)?;
        self.record.left_out = left_out;
        self.record.sessions = sessions.map(digest);
        self.record.write(&self.path)?;
        let replaced = self.target.exports.keys().filter(|id| **id != self.id);
        let replaced: Vec<String> = replaced.map(|id| format!("{EXPORT}{id}\n")).collect();
        if !replaced.is_empty() {
            replace(&self.path.join(REPLACES), &replaced.concat())?;
        }
        if sessions.is_some() {
            self.target.write_sessions(sessions)?;
        }
        let path = self.target.path(self.id);
        fs::rename(&self.path, &path).map_err(|error| failed(&path, "cannot write", error))?;
        let synced = sync(&self.target.dir);
        synced.map_err(|error| failed(&path, "cannot write", error))?;
        self.target.settle(self.id, sessions)?;
        Ok(self.record)
    }
}

/// Refuses a folder that is read from, or lies in one that is.
fn refuse_sources(dir: &Path, source: &Source) -> Result<()> {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // As much of it as there is, without links.
    let there = absolute
        .ancestors()
        .find_map(|folder| folder.canonicalize().ok().map(|real| (folder, real)));
    let real = there.map(|(folder, real)| match absolute.strip_prefix(folder) {
        Ok(rest) if rest.as_os_str().is_empty() => real,
        Ok(rest) => real.join(rest),
        Err(_) => real,
    });
    let real = real.unwrap_or(absolute);
    let clash = source
        .places()
        .find(|place| place.starts_with(&real) || real.starts_with(place));
    match clash {
        None => Ok(()),
        Some(place) => Err(Error::Usage {
            problem: format!(
                "{} cannot be written to: {} is read",
                dir.display(),
                place.display()
            ),
            hint: Some("name a folder outside of the sources".to_owned()),
        }),
    }
}

/// The exports that stand in a folder; an error where there is anything else that a source would read.
fn exports(dir: &Path) -> Result<BTreeMap<Uuid, (Record, bool)>> {
    let mut exports = BTreeMap::new();
    let mut sessions = Vec::new();
    let mut side_file = None;
    for path in entries(dir)? {
        let file_name = name(&path);
        if hidden_export(&path).is_some() {
            sessions.extend(Record::read(&path)?.and_then(|record| record.sessions));
        } else if file_name == SESSIONS {
            side_file = Some(path);
        } else if !file_name.starts_with('.') {
            let id = file_name.strip_prefix(EXPORT);
            let id = id.and_then(|id| Uuid::try_parse(id).ok());
            let (Some(id), Some(record)) = (id, Record::read(&path)?) else {
                return Err(foreign(dir, &path));
            };
            let is_whole = check(dir, &path, &record)?;
            sessions.extend(record.sessions);
            exports.insert(id, (record, is_whole));
        }
    }
    if let Some(path) = side_file {
        let text =
            fs::read_to_string(&path).map_err(|error| failed(&path, "cannot read", error))?;
        if !sessions.contains(&digest(&text)) {
            return Err(foreign(dir, &path));
        }
    }
    Ok(exports)
}

/// Whether an export is as its record says; an error where there is more in it.
fn check(dir: &Path, export: &Path, record: &Record) -> Result<bool> {
    let files = record.files.iter();
    let mut missing: BTreeMap<PathBuf, u64> = files
        .map(|file| (export.join(&file.path), file.n_bytes))
        .collect();
    let mut is_whole = true;
    for path in walk(export)? {
        let is_own = [RECORD, REPLACES]
            .iter()
            .any(|own| path == export.join(own));
        match missing.remove(&path) {
            Some(n_bytes) => {
                is_whole &= fs::metadata(&path).is_ok_and(|facts| facts.len() == n_bytes);
            }
            None if is_own => {}
            None => return Err(foreign(dir, &path)),
        }
    }
    Ok(is_whole && missing.is_empty())
}

fn foreign(dir: &Path, path: &Path) -> Error {
    let found = path.strip_prefix(dir).unwrap_or(path);
    Error::Usage {
        problem: format!(
            "{} holds {}, which no conversion wrote",
            dir.display(),
            found.display()
        ),
        hint: Some("name a folder that is empty or not there yet".to_owned()),
    }
}

/// The id of an export that is not to be read, and whether it is in the making.
fn hidden_export(path: &Path) -> Option<(Uuid, bool)> {
    let name = name(path).strip_prefix('.')?.strip_prefix(EXPORT)?;
    let (id, is_partial) = match (name.strip_suffix(PARTIAL), name.strip_suffix(REPLACED)) {
        (Some(id), _) => (id, true),
        (_, Some(id)) => (id, false),
        _ => return None,
    };
    Some((Uuid::try_parse(id).ok()?, is_partial))
}

fn name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

/// The files below an export, by their paths, with what their footers say.
fn files_below(export: &Path) -> Result<Vec<WrittenFile>> {
    let mut files = Vec::new();
    for path in walk(export)? {
        if path
            .extension()
            .is_none_or(|extension| extension != "parquet")
        {
            continue;
        }
        let unreadable = |error| failed(&path, "cannot read", error);
        let file = File::open(&path).map_err(unreadable)?;
        let n_bytes = file.metadata().map_err(unreadable)?.len();
        let reader = SerializedFileReader::new(file);
        let reader = reader.map_err(|error| unreadable(io::Error::other(error)))?;
        let n_rows = reader.metadata().file_metadata().num_rows();
        files.push(WrittenFile {
            path: path.strip_prefix(export).unwrap_or(&path).to_owned(),
            n_rows: u64::try_from(n_rows).unwrap_or(0),
            n_bytes,
        });
    }
    Ok(files)
}

/// All files below a folder, sorted.
fn walk(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for path in entries(&folder)? {
            let facts = fs::symlink_metadata(&path);
            let facts = facts.map_err(|error| failed(&path, "cannot read", error))?;
            if facts.is_dir() {
                open.push(path);
            } else {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<PathBuf>>>()
    });
    entries.map_err(|error| failed(folder, "cannot read", error))
}

fn remove_all(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(failed(folder, "cannot remove", error))
        }
        _ => Ok(()),
    }
}

/// Writes a file that appears whole or not at all.
fn replace(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // Nobody else writes here, and what a crash left is written over.
    let temporary = folder.join(format!(".{}.tmp", name(path).trim_start_matches('.')));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.map_err(|error| failed(path, "cannot write", error))
}

/// Makes what was renamed in a folder last.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn digest(text: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        action,
        source,
    }
}
