//! Questions to a source, answered: what the engine counted, with what is known of the projects beside it.

mod audit;
mod runs;
mod sessions;
mod stats;
mod tallies;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::document::{Known, Meaning, Says, Timestamp};
use crate::engine::{ProjectTally, Tallied};
use crate::error::{Error, Result, SkippedFile};
use crate::request::{Usage, Window};
use crate::runs::Column;
use crate::source::Source;

pub use audit::{Audited, audit, audit_against};
pub use runs::{Runs, run_page, runs};
pub use sessions::{Sessions, sessions};
pub use stats::{Stats, stats};
pub use tallies::{Tallies, tallies};

/// What should be known of an answer.
#[derive(Debug)]
pub struct About {
    /// What should be known of its figures, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// When the traces or runs start that it is of: what was asked, or where nothing was, what tally files
    /// cover.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    tallied: Tallied,
}

impl About {
    fn of(source: &Source, tallied: Tallied) -> Result<Self> {
        let warnings = warnings(source, &tallied)?;
        Ok(Self::with(warnings, source, tallied))
    }

    fn with(warnings: Vec<String>, source: &Source, mut tallied: Tallied) -> Self {
        Self {
            warnings,
            skipped: std::mem::take(&mut tallied.skipped),
            read: read(source, &tallied),
            window: tallied.window,
            span: span(tallied.projects.values()),
            tallied,
        }
    }

    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> String {
        self.tallied.explain()
    }
}

/// What was read of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Files whose runs were read.
    pub n_files: usize,
    /// Files that there are.
    pub n_files_there: usize,
    /// Bytes that were read of columns.
    pub n_bytes: u64,
    /// Bytes of all files.
    pub n_bytes_there: u64,
    /// How many files were recognized as which format, by what it is called.
    pub formats: BTreeMap<&'static str, usize>,
}

/// What is known of the projects that runs are grouped by.
struct ProjectNames {
    names: BTreeMap<String, String>,
    says: BTreeMap<String, Says>,
    of_all: Says,
}

impl ProjectNames {
    fn of(source: &Source, tallied: &Tallied) -> Result<Self> {
        let mut says = BTreeMap::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (id, project) in &tallied.projects {
            let name = source
                .metadata_for(*id, tallied.tenant)
                .and_then(|project| project.name.clone());
            names.insert(id.to_string(), name.unwrap_or_else(|| id.to_string()));
            says.insert(id.to_string(), known(*id, project)?.says);
        }
        let mut n_called: BTreeMap<&String, u64> = BTreeMap::new();
        for name in names.values() {
            *n_called.entry(name).or_default() += 1;
        }
        let told = names.iter().map(|(id, name)| {
            let is_one = n_called.get(name) == Some(&1);
            let told = if is_one {
                name.clone()
            } else {
                format!("{name} ({id})")
            };
            (id.clone(), told)
        });
        let told = told.collect();
        let of_all = says.values().copied().reduce(Says::and).unwrap_or_default();
        Ok(Self {
            names: told,
            says,
            of_all,
        })
    }
}

impl Meaning for ProjectNames {
    fn name(&self, project: &str) -> String {
        let name = self.names.get(project).cloned();
        name.unwrap_or_else(|| project.to_owned())
    }

    fn says(&self, project: Option<&str>) -> Says {
        let says = project.and_then(|project| self.says.get(project));
        says.copied().unwrap_or(self.of_all)
    }
}

/// Whose usage was summed; [`Usage::Auto`] where projects differ.
fn usage_of(tallied: &Tallied) -> Usage {
    let mut usages = tallied.projects.values().map(|project| project.usage);
    let first = usages.next().unwrap_or_default();
    if usages.all(|usage| usage == first) {
        first
    } else {
        Usage::Auto
    }
}

fn read(source: &Source, tallied: &Tallied) -> Read {
    let n_scanned = u64::try_from(tallied.metric("bytes_scanned")).unwrap_or(u64::MAX);
    let n_bytes = tallied.n_json_bytes;
    // Nobody knows before how much comes by standard input.
    let n_bytes_there = source.n_bytes().max(n_bytes);
    Read {
        n_files: tallied.n_files,
        n_files_there: source.n_files(),
        formats: tallied.formats.clone(),
        // Of JSON, also what was read again of the tables that were made of it.
        n_bytes: n_bytes.saturating_add(n_scanned).min(n_bytes_there),
        n_bytes_there,
    }
}

/// From the first to the last start of any run.
fn span<'a>(
    projects: impl Iterator<Item = &'a ProjectTally> + Clone,
) -> Option<(Timestamp, Timestamp)> {
    let first = projects
        .clone()
        .filter_map(|project| project.facts.start_us);
    let last = projects.filter_map(|project| project.facts.last_us);
    Some((Timestamp(first.min()?), Timestamp(last.max()?)))
}

fn known(id: Uuid, project: &ProjectTally) -> Result<Known> {
    let facts = &project.facts;
    let has = |columns: &[Column]| columns.iter().all(|column| facts.columns.contains(column));
    let nothing_says = |what: &str| Error::BadData {
        problem: format!("project {id}: none of its runs has a {what}"),
    };
    Ok(Known {
        tenant_id: *facts
            .tenants
            .first()
            .ok_or_else(|| nothing_says("tenant"))?,
        start_us: facts.start_us.ok_or_else(|| nothing_says("start_time"))?,
        says: Says {
            errors: has(&[Column::IsError]),
            streaming: has(&[Column::EndTime, Column::FirstTokenTime]),
            total_tokens: has(&[Column::TotalTokens]),
            prompt_tokens: has(&[Column::PromptTokens]),
            completion_tokens: has(&[Column::CompletionTokens]),
        },
    })
}

/// What should be known of an answer's figures.
fn warnings(source: &Source, tallied: &Tallied) -> Result<Vec<String>> {
    let mut warnings = tallied.warnings.clone();
    warnings.extend(unread_feedback(source, tallied));
    for (id, project) in &tallied.projects {
        let known = known(*id, project)?;
        warnings.extend(oddities(&known, project).map(|odd| format!("project {id}: {odd}")));
    }
    Ok(warnings)
}

/// What should be known of a project's figures.
fn oddities(known: &Known, project: &ProjectTally) -> impl Iterator<Item = String> {
    let tenants = project.facts.tenants.len();
    let tally = project.tally.as_ref();
    let n_unreadable = tally.map_or(0, |tally| tally.feedback.n_unreadable());
    let feedback = tally
        .map(|tally| tally.feedback.stats())
        .unwrap_or_default();
    let n_out_of_range: u64 = feedback.values().map(|key| key.n_out_of_range).sum();
    let is_doubled =
        project.usage == Usage::Own && tally.is_some_and(|tally| tally.n_composite_usage > 0);
    let n_undecided = project.n_undecided;
    let n_rootless = project.n_rootless;
    [
        (tenants > 1).then(|| {
            format!(
                "its runs are of {tenants} tenants, of which {} is shown",
                known.tenant_id
            )
        }),
        known.tenant_id.is_nil().then(|| {
            "nothing says which tenant its runs are of; --assume-tenant UUID would".to_owned()
        }),
        is_doubled.then(|| {
            let n_composite = tally.map_or(0, |tally| tally.n_composite_usage);
            format!(
                "the roots of {n_composite} traces carry usage without being LLM calls: where that is \
                 their descendants', summing all runs counts it twice"
            )
        }),
        (n_rootless > 0).then(|| {
            format!(
                "{n_rootless} traces were built without their root, which is not among the runs"
            )
        }),
        (n_undecided > 0).then(|| {
            format!(
                "{n_undecided} runs differ between exports that were written in the same second, so \
                 that only their paths decided which counts"
            )
        }),
        (n_unreadable > 0).then(|| {
            format!("the feedback_stats of {n_unreadable} traces cannot be read and are left out")
        }),
        (n_out_of_range > 0)
            .then(|| format!("{n_out_of_range} feedback scores beyond 10^15 are left out")),
    ]
    .into_iter()
    .flatten()
}

/// What of a feedback file could not count.
fn unread_feedback(source: &Source, tallied: &Tallied) -> Vec<String> {
    let Some(records) = source.feedback() else {
        return Vec::new();
    };
    let n_loose = records
        .iter()
        .filter(|record| record.run_id.is_none() && record.session_id.is_none())
        .count();
    let without_ids = tallied
        .projects
        .iter()
        .filter(|(_, project)| !project.facts.columns.contains(&Column::Id))
        .map(|(id, _)| {
            format!("project {id}: its files have no run ids, so no feedback record is of its runs")
        });
    let loose = (n_loose > 0).then(|| {
        format!("{n_loose} feedback records name neither a run nor a project and are left out")
    });
    without_ids.chain(loose).collect()
}
