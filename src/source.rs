//! Source: where runs lie, or what is left of them.
//!
//! [`Source::open`] lists files and reads the side files; it knows projects by name. Opening the footers
//! of the files that a question needs gives [`Files`], from which plans over their runs are made.

mod dedup;
mod file;
mod files;
mod flat;
mod footer;
mod format;
mod gather;
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
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use datafusion::execution::context::SessionContext;
use uuid::Uuid;

use crate::error::{Error, Result, SkippedFile};
use crate::request::{Projects, Request};
use crate::runs::Column;
use file::{Assumed, Opened};
use json::Found;
use listing::Listed;
use projects::{FeedbackRecord, Project};

pub use format::{ColumnInfo, FormatInfo, formats};

pub(crate) use dedup::Newest;
pub(crate) use flat::N_ROWS_READ;
pub(crate) use listing::{EXPORT, REPLACES};
pub(crate) use scan::{Facts, FileFacts, Files, MissingColumn, Wanted, no_project, uuid_at};
pub(crate) use whole::{Job, WholeColumn, Written};

/// How many projects an error shows.
const SHOWN: usize = 8;

/// Files of runs and of tallies, with what the side files say of their projects.
#[derive(Debug)]
pub struct Source {
    paths: Vec<PathBuf>,
    options: SourceOptions,
    listed: Vec<Listed>,
    metadata: BTreeMap<Uuid, Project>,
    feedback: Option<Vec<FeedbackRecord>>,
    assumed: Assumed,
    dedup: Dedup,
    on_bad_file: OnBadFile,
    spools: Arc<json::Spools>,
    /// The folders that were named, and the side files that were read.
    folders: Vec<PathBuf>,
    side_files: Vec<PathBuf>,
    stamps: Vec<Stamp>,
}

/// A side file as it was read.
type Stamp = (PathBuf, Option<(SystemTime, u64)>);

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
    /// What the format of all files is called in [`formats`], where it is not to be found out of each.
    pub format: Option<String>,
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
        let listing = list(&paths, options)?;
        Self::read(paths, options, listing, Arc::default())
    }

    /// Lists the files again. Gives the source as it is now; `None` where no file has come, gone or
    /// changed.
    ///
    /// # Errors
    ///
    /// Those of [`Source::open`].
    pub fn reopened(&self) -> Result<Option<Self>> {
        let listing = list(&self.paths, &self.options)?;
        let stamps = stamps(&listing.side_files, &self.options);
        if listing.files == self.listed && stamps == self.stamps {
            return Ok(None);
        }
        let spools = Arc::clone(&self.spools);
        Self::read(self.paths.clone(), &self.options, listing, spools).map(Some)
    }

    fn read(
        paths: Vec<PathBuf>,
        options: &SourceOptions,
        listing: listing::Listing,
        spools: Arc<json::Spools>,
    ) -> Result<Self> {
        let format = options.format.as_deref().map(format_named).transpose()?;
        // Before they are read: what is written meanwhile is found the next time.
        let stamps = stamps(&listing.side_files, options);
        let side_files = listing.side_files;
        let metadata = projects::read_projects(&side_files)?;
        let feedback = options
            .feedback
            .as_ref()
            .map(|path| projects::read_feedback(path));
        Ok(Self {
            paths,
            options: options.clone(),
            listed: listing.files,
            metadata: metadata
                .into_iter()
                .map(|project| (project.id, project))
                .collect(),
            feedback: feedback.transpose()?,
            assumed: Assumed {
                project: options.assume_project,
                tenant: options.assume_tenant,
                format,
            },
            dedup: options.dedup,
            on_bad_file: options.on_bad_file,
            spools,
            folders: listing.folders,
            side_files,
            stamps,
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

    /// The same for whom only a tenant's runs count: none where it says that it is another tenant's.
    pub(crate) fn metadata_for(&self, project: Uuid, tenant: Option<Uuid>) -> Option<&Project> {
        let is_of = |known: &&Project| {
            let other = known.tenant_id.filter(|own| tenant != Some(*own));
            tenant.is_none() || other.is_none()
        };
        self.metadata.get(&project).filter(is_of)
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

    /// The projects that were asked for, where no file need be read to know which these are.
    pub(crate) fn named(&self, request: &Request) -> Option<BTreeSet<Uuid>> {
        let asked = match &request.projects {
            Projects::One(asked) => asked,
            Projects::Each(ids) => return Some(ids.clone()),
            Projects::All | Projects::Only => return None,
        };
        if let Ok(id) = Uuid::try_parse(asked) {
            return Some(BTreeSet::from([id]));
        }
        let all = self.metadata.keys();
        let all = all.filter_map(|id| self.metadata_for(*id, request.tenant));
        let mut named = all.filter(|project| project.has_name(asked));
        // Of several with one name, some may have no run: that the files must say.
        let first = named.next();
        let only = first.filter(|_| named.next().is_none());
        only.map(|one| BTreeSet::from([one.id]))
    }

    /// The one of these projects that has the name; else the one whose name or id begins as asked.
    pub(crate) fn resolve(
        &self,
        asked: &str,
        existing: &BTreeSet<Uuid>,
        tenant: Option<Uuid>,
    ) -> Result<Uuid> {
        let chosen = |is_meant: &dyn Fn(Uuid) -> bool| -> Vec<Uuid> {
            existing
                .iter()
                .copied()
                .filter(|id| is_meant(*id))
                .collect()
        };
        let project = |id: Uuid| self.metadata_for(id, tenant);
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
            [] => Err(self.no_such_project(asked, existing.iter().copied(), tenant)),
            several => Err(Error::AmbiguousProject {
                asked: asked.to_owned(),
                matching: several.iter().map(|id| self.label(*id, tenant)).collect(),
            }),
        }
    }

    /// The only project; an error where there are several, or none.
    pub(crate) fn only(
        &self,
        existing: impl Iterator<Item = Uuid>,
        tenant: Option<Uuid>,
    ) -> Result<Uuid> {
        let existing: Vec<Uuid> = existing.collect();
        if let [one] = existing.as_slice() {
            return Ok(*one);
        }
        let names = existing.iter().take(SHOWN);
        let names = names.map(|id| self.label(*id, tenant));
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
        tenant: Option<Uuid>,
    ) -> Error {
        let existing = existing.take(SHOWN + 1);
        let mut existing: Vec<String> = existing.map(|id| self.label(id, tenant)).collect();
        if existing.len() > SHOWN {
            existing.truncate(SHOWN);
            existing.push("others".to_owned());
        }
        Error::NoSuchProject {
            asked: asked.to_owned(),
            existing,
        }
    }

    /// The projects that the files' paths name; where only a tenant's count, those in paths that name it.
    pub(crate) fn projects_in_paths(&self, tenant: Option<Uuid>) -> BTreeSet<Uuid> {
        let files = self.listed.iter();
        files
            .filter(|file| tenant.is_none() || file.keys.tenant == tenant)
            .filter_map(|file| file.keys.project)
            .collect()
    }

    fn label(&self, id: Uuid, tenant: Option<Uuid>) -> String {
        match self
            .metadata_for(id, tenant)
            .and_then(|project| project.name.as_ref())
        {
            Some(name) => format!("{name} ({id})"),
            None => id.to_string(),
        }
    }

    /// Reads the footers of the files that may hold runs of some projects, or of any; tables are made of
    /// those that are JSON. Those that cannot be read are an error, or are added to `skipped`.
    ///
    /// `looked_at` are columns that the question reads beside those of every question; bytes of JSON that
    /// were read are added to `n_json_bytes`.
    pub(crate) async fn files(
        &self,
        ctx: &SessionContext,
        wanted: Wished<'_>,
        looked_at: &BTreeSet<Column>,
        n_json_bytes: &Arc<AtomicU64>,
        skipped: &mut Vec<SkippedFile>,
    ) -> Result<Files> {
        let threads = ctx.state().config().target_partitions();
        let candidates = self.listed.iter().filter(|file| {
            wanted.may_be_in(file) && skipped.iter().all(|skipped| skipped.path != file.path)
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
        let skips = self.skips_bad_files();
        let opened = file::open_all(ctx, readable, self.assumed, !skips).await?;
        let (mut files, mut tallies, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        for file in opened {
            match file {
                Ok(Opened::Runs(file)) => files.push(file),
                Ok(Opened::Tallies(file)) => tallies.push(file),
                Ok(Opened::Nothing(path)) => empty.push(path),
                Err(Error::BadInput { path, problem }) if skips => {
                    skipped.push(SkippedFile { path, problem });
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(tenant) = wanted.tenant {
            files.retain(|file| file.may_be_of(tenant));
            tallies.retain(|file| file.is_all_of(tenant));
        }
        dedup::mark(&mut files, &self.listed, self.dedup)?;
        for (number, file) in (0..).zip(&mut files) {
            Arc::make_mut(file).first_row = number * dedup::PLACES_A_FILE;
        }
        Ok(Files {
            files,
            tallies,
            empty,
            tenant: wanted.tenant,
        })
    }
}

/// Lists the files of runs, and the side files with what projects are called.
fn list(paths: &[PathBuf], options: &SourceOptions) -> Result<listing::Listing> {
    let side_files = options.projects.iter().chain(&options.feedback);
    let no_runs = side_files.chain(&options.other_files);
    let no_runs: Vec<&Path> = no_runs.map(PathBuf::as_path).collect();
    let mut listing = listing::list(paths, &no_runs)?;
    if let Some(path) = &options.projects {
        listing.side_files = vec![path.clone()];
    }
    Ok(listing)
}

/// How the side files are now.
fn stamps(side_files: &[PathBuf], options: &SourceOptions) -> Vec<Stamp> {
    let files = side_files.iter().chain(&options.feedback);
    let stamps = files.map(|path| {
        let facts = std::fs::metadata(path).ok();
        let stamp = facts.and_then(|facts| Some((facts.modified().ok()?, facts.len())));
        (path.clone(), stamp)
    });
    stamps.collect()
}

/// Whose files are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wished<'a> {
    /// Those of these projects, or of any.
    pub(crate) projects: Option<&'a BTreeSet<Uuid>>,
    /// Those of this tenant, or of any.
    pub(crate) tenant: Option<Uuid>,
}

impl Wished<'_> {
    /// Whether a file may hold runs of theirs, by its path.
    fn may_be_in(&self, file: &Listed) -> bool {
        let of_project = self.projects.is_none_or(|projects| {
            let other = file.keys.project.filter(|own| !projects.contains(own));
            other.is_none() && !projects.is_empty()
        });
        let of_tenant = self.tenant.is_none() || file.keys.tenant.is_none();
        of_project && (of_tenant || file.keys.tenant == self.tenant)
    }
}

/// The format that is called so; an error that says which there are.
fn format_named(name: &str) -> Result<&'static format::Format> {
    format::Format::named(name).ok_or_else(|| {
        let known: Vec<&str> = formats().iter().map(|format| format.name).collect();
        Error::Usage {
            problem: format!("{name:?} is no format that is known"),
            hint: Some(format!(
                "known are: {}; `runtally formats` says what each reads",
                known.join(", ")
            )),
        }
    })
}

impl Project {
    fn has_name(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}
