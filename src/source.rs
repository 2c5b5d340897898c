//! Source: where runs lie, or what is left of them.
//!
//! [`Source::open`] lists files and reads the side files; it knows projects by name. Opening the footers
//! of the files that a question needs gives [`Files`], from which plans over their runs are made.

mod dedup;
mod file;
mod files;
mod footer;
mod format;
mod indexes;
mod json;
mod listing;
mod pages;
pub(crate) mod projects;
mod scan;
pub(crate) mod tallies;
mod thrift;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
use datafusion::execution::context::SessionContext;
use futures::StreamExt;
use uuid::Uuid;

use crate::error::{Error, Result, SkippedFile};
use crate::request::Projects;
use crate::runs::Column;
use file::{Assumed, Opened};
use json::Found;
use listing::Listed;
use projects::{FeedbackRecord, Project};

pub use format::{ColumnInfo, FormatInfo, formats};

pub(crate) use dedup::Newest;
pub(crate) use listing::{EXPORT, REPLACES};
pub(crate) use scan::{Facts, FileFacts, Files, MissingColumn, Wanted, no_project, uuid_at};
pub(crate) use whole::{Job, WholeColumn, Written};

/// How many projects an error shows.
const SHOWN: usize = 8;

/// Files of runs and of tallies, with what the side files say of their projects.
#[derive(Debug)]
pub struct Source {
    listed: Vec<Listed>,
    metadata: BTreeMap<Uuid, Project>,
    feedback: Option<Vec<FeedbackRecord>>,
    assumed: Assumed,
    dedup: Dedup,
    on_bad_file: OnBadFile,
    spools: json::Spools,
    /// The folders that were named, and the side files that were read.
    folders: Vec<PathBuf>,
    side_files: Vec<PathBuf>,
}

/// The side files of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// Records of `GET /sessions`; where none is given, `sessions.json` or `sessions.jsonl` at the
    /// source's root is taken.
    pub projects: Option<PathBuf>,
    /// Records of `GET /feedback`; they replace the runs' own feedback summaries.
    pub feedback: Option<PathBuf>,
    /// Other files that may lie among the runs and are none.
    pub other_files: Vec<PathBuf>,
    /// The project of runs for which neither their file nor its path names one.
    pub assume_project: Option<Uuid>,
    /// Their tenant, likewise.
    pub assume_tenant: Option<Uuid>,
    /// Which files may repeat each other's runs.
    pub dedup: Dedup,
    /// What to do with a file that cannot be read.
    pub on_bad_file: OnBadFile,
}

/// Which files may repeat each other's runs, so that the newest of each run must be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dedup {
    /// Those of different exports of one project whose spans of time overlap or touch.
    #[default]
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// What to do with a file that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadFile {
    /// Fail, with its path and what is wrong with it.
    #[default]
    Fail,
    /// Answer without it, and say so.
    Skip,
}

impl Source {
    /// Lists files, folders and globs, and reads the side files; `-` is standard input. No file of runs is
    /// opened yet.
    ///
    /// # Errors
    ///
    /// Where a path leads to no file of runs or a side file cannot be read.
    pub fn open<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let paths: Vec<PathBuf> = paths
            .into_iter()
            .map(|path| path.as_ref().to_owned())
            .collect();
        let side_files = options.projects.iter().chain(&options.feedback);
        let no_runs = side_files.chain(&options.other_files);
        let no_runs: Vec<&Path> = no_runs.map(PathBuf::as_path).collect();
        let listing = listing::list(&paths, &no_runs)?;
        let side_files = match &options.projects {
            Some(path) => vec![path.clone()],
            None => listing.side_files,
        };
        let metadata = projects::read_projects(&side_files)?;
        let feedback = options
            .feedback
            .as_ref()
            .map(|path| projects::read_feedback(path));
        Ok(Self {
            listed: listing.files,
            metadata: metadata
                .into_iter()
                .map(|project| (project.id, project))
                .collect(),
            feedback: feedback.transpose()?,
            assumed: Assumed {
                project: options.assume_project,
                tenant: options.assume_tenant,
            },
            dedup: options.dedup,
            on_bad_file: options.on_bad_file,
            spools: json::Spools::default(),
            folders: listing.folders,
            side_files,
        })
    }

    /// What tells this source from another one: a line for each file, with its path, size and time.
    ///
    /// # Errors
    ///
    /// Where a file is gone.
    pub(crate) fn inputs(&self) -> Result<Vec<String>> {
        let listed = self.listed.iter().map(|file| &file.canonical);
        let inputs = listed.chain(&self.side_files).map(|path| {
            if path.as_os_str() == listing::STREAM {
                return Ok(Utc::now().to_string());
            }
            let facts = fs::metadata(path).and_then(|facts| Ok((facts.len(), facts.modified()?)));
            let (n_bytes, modified) = facts.map_err(|source| Error::Io {
                path: path.clone(),
                action: "cannot read",
                source,
            })?;
            let path = path.to_string_lossy();
            let modified = DateTime::<Utc>::from(modified);
            Ok(format!("{} {n_bytes} {modified}", path.escape_debug()))
        });
        inputs.collect()
    }

    /// What says which of the runs count, and whose they are.
    pub(crate) fn settings(&self) -> String {
        format!("{:?} {:?} {:?}", self.assumed, self.dedup, self.on_bad_file)
    }

    /// The folders and files that runs are read from, absolute and without links.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        let files = self.listed.iter().map(|file| &file.canonical);
        files.chain(&self.folders).map(PathBuf::as_path)
    }

    /// The records of some projects, and of those that these are numbered among, as they were read: JSON
    /// texts, by project.
    ///
    /// # Errors
    ///
    /// Where a side file cannot be read any more.
    pub(crate) fn records(&self, of: &BTreeSet<Uuid>) -> Result<Vec<String>> {
        let dataset = |id: &Uuid| self.metadata.get(id)?.reference_dataset_id;
        let datasets: BTreeSet<Uuid> = of.iter().filter_map(dataset).collect();
        let is_of = |id: &Uuid| {
            of.contains(id) || dataset(id).is_some_and(|dataset| datasets.contains(&dataset))
        };
        let records = projects::read_records(&self.side_files)?;
        let records = records.into_iter().filter(|(id, _)| is_of(id));
        Ok(records.map(|(_, text)| text).collect())
    }

    /// What the metadata says of a project.
    #[must_use]
    pub fn metadata(&self, project: Uuid) -> Option<&Project> {
        self.metadata.get(&project)
    }

    /// The records of the feedback file, if one was given.
    #[must_use]
    pub fn feedback(&self) -> Option<&[FeedbackRecord]> {
        self.feedback.as_deref()
    }

    /// The number of files of runs.
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.listed.len()
    }

    /// The bytes of the files of runs.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.listed.iter().map(|file| file.size).sum()
    }

    /// Whether files that cannot be read are left out.
    pub(crate) fn skips_bad_files(&self) -> bool {
        self.on_bad_file == OnBadFile::Skip
    }

    /// The project that was asked for, where no file need be read to know which it is.
    pub(crate) fn named(&self, projects: &Projects) -> Option<Uuid> {
        let Projects::One(asked) = projects else {
            return None;
        };
        if let Ok(id) = Uuid::try_parse(asked) {
            return Some(id);
        }
        let mut named = self
            .metadata
            .values()
            .filter(|project| project.has_name(asked));
        // Of several with one name, some may have no run: that the files must say.
        let first = named.next();
        first.filter(|_| named.next().is_none()).map(|one| one.id)
    }

    /// The one of these projects that has the name; else the one whose name or id begins as asked.
    pub(crate) fn resolve(&self, asked: &str, existing: &BTreeSet<Uuid>) -> Result<Uuid> {
        let chosen = |is_meant: &dyn Fn(Uuid) -> bool| -> Vec<Uuid> {
            existing
                .iter()
                .copied()
                .filter(|id| is_meant(*id))
                .collect()
        };
        let project = |id: Uuid| self.metadata.get(&id);
        let mut matching = chosen(&|id| project(id).is_some_and(|known| known.has_name(asked)));
        if matching.is_empty() && !asked.is_empty() {
            let lower = asked.to_ascii_lowercase();
            matching = chosen(&|id| {
                let name = project(id).and_then(|known| known.name.as_deref());
                id.to_string().starts_with(&lower)
                    || name.is_some_and(|name| name.starts_with(asked))
            });
        }
        match matching.as_slice() {
            [one] => Ok(*one),
            [] => Err(self.no_such_project(asked, existing.iter().copied())),
            several => Err(Error::AmbiguousProject {
                asked: asked.to_owned(),
                matching: several.iter().map(|id| self.label(*id)).collect(),
            }),
        }
    }

    /// The only project; an error where there are several, or none.
    pub(crate) fn only(&self, existing: impl Iterator<Item = Uuid>) -> Result<Uuid> {
        let existing: Vec<Uuid> = existing.collect();
        if let [one] = existing.as_slice() {
            return Ok(*one);
        }
        let names = existing.iter().take(SHOWN).map(|id| self.label(*id));
        if existing.is_empty() {
            return Err(Error::BadData {
                problem: "the source holds no run".to_owned(),
            });
        }
        let names = names.collect::<Vec<_>>().join(", ");
        Err(Error::Usage {
            problem: format!("the source holds {} projects", existing.len()),
            hint: Some(format!("choose one with -p, or list them all: {names}")),
        })
    }

    /// The error for a project that no file has a run of.
    pub(crate) fn no_such_project(
        &self,
        asked: &str,
        existing: impl Iterator<Item = Uuid>,
    ) -> Error {
        let mut existing: Vec<String> = existing.take(SHOWN + 1).map(|id| self.label(id)).collect();
        if existing.len() > SHOWN {
            existing.truncate(SHOWN);
            existing.push("others".to_owned());
        }
        Error::NoSuchProject {
            asked: asked.to_owned(),
            existing,
        }
    }

    /// The projects that the files' paths name.
    pub(crate) fn projects_in_paths(&self) -> BTreeSet<Uuid> {
        self.listed
            .iter()
            .filter_map(|file| file.keys.project)
            .collect()
    }

    fn label(&self, id: Uuid) -> String {
        match self
            .metadata
            .get(&id)
            .and_then(|project| project.name.as_ref())
        {
            Some(name) => format!("{name} ({id})"),
            None => id.to_string(),
        }
    }

    /// Reads the footers of the files that may hold runs of a project, or of any; tables are made of those
    /// that are JSON. Those that cannot be read are an error, or are added to `skipped`.
    ///
    /// `looked_at` are columns that the question reads beside those of every question; bytes of JSON that
    /// were read are added to `n_json_bytes`.
    pub(crate) async fn files(
        &self,
        ctx: &SessionContext,
        project: Option<Uuid>,
        looked_at: &BTreeSet<Column>,
        n_json_bytes: &Arc<AtomicU64>,
        skipped: &mut Vec<SkippedFile>,
    ) -> Result<Files> {
        let threads = ctx.state().config().target_partitions();
        let candidates = self.listed.iter().filter(|file| {
            let of_project =
                project.is_none() || file.keys.project.is_none() || file.keys.project == project;
            of_project && skipped.iter().all(|skipped| skipped.path != file.path)
        });
        let candidates: Vec<Listed> = candidates.cloned().collect();
        let reading = json::Reading {
            n_columns: json::n_columns(looked_at),
            skips: self.skips_bad_files(),
            n_threads: threads,
            n_bytes: Arc::clone(n_json_bytes),
        };
        let spooled = self.spools.of(&candidates, &reading).await?;
        let mut readable = Vec::with_capacity(candidates.len());
        for (listed, spooled) in candidates.into_iter().zip(spooled) {
            match spooled {
                Ok(Found::Parquet) => readable.push((listed, None)),
                Ok(Found::Table(table)) => readable.push((listed, Some(table))),
                Ok(Found::Figures) => {}
                Err(file) if self.skips_bad_files() => skipped.push(file),
                Err(SkippedFile { path, problem }) => {
                    return Err(Error::BadInput { path, problem });
                }
            }
        }
        let opened = readable
            .into_iter()
            .map(|(listed, spooled)| file::open(ctx.clone(), listed, spooled, self.assumed));
        let mut opened = futures::stream::iter(opened).buffered(4 * threads);
        let (mut files, mut tallies, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(file) = opened.next().await {
            match file {
                Ok(Opened::Runs(file)) => files.push(Arc::new(file)),
                Ok(Opened::Tallies(file)) => tallies.push(Arc::new(file)),
                Ok(Opened::Nothing(path)) => empty.push(path),
                Err(Error::BadInput { path, problem }) if self.skips_bad_files() => {
                    skipped.push(SkippedFile { path, problem });
                }
                Err(error) => return Err(error),
            }
        }
        dedup::mark(&mut files, &self.listed, self.dedup)?;
        for (number, file) in (0..).zip(&mut files) {
            Arc::make_mut(file).first_row = number * dedup::PLACES_A_FILE;
        }
        Ok(Files {
            files,
            tallies,
            empty,
        })
    }
}

impl Project {
    fn has_name(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}
