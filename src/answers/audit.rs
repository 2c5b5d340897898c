//! What a source has, what may be wrong with it, and how its document differs from another.

use std::collections::{BTreeMap, BTreeSet};

use super::{About, Sessions, sessions};
use crate::document::{
    self, Audit, AuditedProject, Coverage, Evidence, Finding, OtherDocument, Timestamp,
};
use crate::engine::{self, Audited as Counted, Engine, Part, Tallied};
use crate::error::Result;
use crate::request::{FindingKind, Projects, Request, Usage};
use crate::source::{FileFacts, Source};

/// The answer to a request for an audit.
#[derive(Debug)]
pub struct Audited {
    /// What the source has, and what may be wrong with it.
    pub audit: Audit,
    /// What should be known of it and is no finding.
    pub about: About,
}

/// Audits the runs that a request asks for. Runs without an end are old a day before `now_us`, else before
/// the latest run; filters choose traces by their roots.
///
/// # Errors
///
/// Those of [`crate::sessions`].
pub async fn audit(
    engine: &Engine,
    source: &Source,
    request: &Request,
    now_us: Option<i64>,
) -> Result<Audited> {
    let (counted, tallied) = engine::audit(engine, source, request, now_us).await?;
    let projects = audited_projects(&counted, &tallied, source);
    let n_of_files = |n: fn(&FileFacts) -> u64| counted.files.iter().map(n).sum();
    let mut formats: BTreeMap<String, u64> = BTreeMap::new();
    for file in &counted.files {
        *formats.entry(file.format.to_owned()).or_default() += 1;
    }
    let missing: BTreeSet<String> = counted.missing.iter().map(ToString::to_string).collect();
    let warnings = tallied.warnings.iter();
    let warnings = warnings.filter(|warning| !missing.contains(*warning));
    let warnings = warnings.cloned().collect();
    Ok(Audited {
        audit: Audit {
            formats,
            n_files: counted.files.len() as u64,
            n_records: n_of_files(|file| file.n_rows),
            n_bytes: n_of_files(|file| file.n_bytes),
            first_start_time: projects.iter().filter_map(|one| one.first_start_time).min(),
            last_start_time: projects.iter().filter_map(|one| one.last_start_time).max(),
            findings: findings(&counted, &projects),
            projects,
            against: None,
        },
        about: About {
            window: request.window,
            ..About::with(warnings, source, tallied)
        },
    })
}

/// Audits the only project that a request asks for, and compares its document with another.
///
/// # Errors
///
/// Those of [`crate::sessions`]; [`crate::Error::Usage`] where the request asks for several projects.
pub async fn audit_against(
    engine: &Engine,
    source: &Source,
    request: &Request,
    now_us: Option<i64>,
    other: &OtherDocument,
) -> Result<Audited> {
    let mut request = request.clone();
    if request.projects == Projects::All {
        request.projects = Projects::Only;
    }
    let answer = sessions(engine, source, &request).await?;
    let mut audited = audit(engine, source, &request, now_us).await?;
    let ours = answer.sessions.first().map(serde_json::to_value);
    let ours = ours.and_then(Result::ok).unwrap_or_default();
    let id = answer.sessions.first().map(|session| session.id);
    let count = |kind| {
        let found = audited
            .audit
            .findings
            .iter()
            .find(|finding| finding.kind == kind);
        found.map_or(0, |finding| finding.count)
    };
    let mut found = audited.audit.findings.iter();
    let gaps = found.find(|finding| finding.kind == FindingKind::Gaps);
    let starts = audited.audit.projects.first();
    let evidence = Evidence {
        first_us: starts
            .and_then(|project| project.first_start_time)
            .map(|time| time.0),
        last_us: starts
            .and_then(|project| project.last_start_time)
            .map(|time| time.0),
        gaps: gaps
            .map(|finding| finding.details.clone())
            .unwrap_or_default(),
        by_other_rule: by_other_rule(engine, source, &request, &answer).await,
        n_pending: count(FindingKind::PendingOld),
        n_repeated: count(FindingKind::CountedTwice),
        has_metadata: id.is_some_and(|id| source.metadata(id).is_some()),
    };
    audited.audit.against = Some(document::compare(&ours, other, &evidence));
    Ok(audited)
}

/// The document with the usage that an answer does not have; none where the runs cannot say it.
async fn by_other_rule(
    engine: &Engine,
    source: &Source,
    request: &Request,
    answer: &Sessions,
) -> Option<(&'static str, serde_json::Value)> {
    let (usage, rule) = match answer.overviews.first()?.usage {
        Usage::Own => (Usage::Roots, "roots"),
        Usage::Roots | Usage::Auto => (Usage::Own, "own"),
    };
    let request = Request {
        usage,
        ..request.clone()
    };
    let answer = sessions(engine, source, &request).await.ok()?;
    let document = serde_json::to_value(answer.sessions.first()?).ok()?;
    Some((rule, document))
}

/// What the source has of each project.
fn audited_projects(counted: &Counted, tallied: &Tallied, source: &Source) -> Vec<AuditedProject> {
    let sizes = counted.files.iter().map(|file| (&file.path, file.n_bytes));
    let sizes: BTreeMap<&String, u64> = sizes.collect();
    let projects = tallied.projects.keys().map(|id| {
        let parts = counted
            .parts
            .iter()
            .filter(|((project, _), _)| project == id);
        let parts: Vec<_> = parts.map(|((_, path), part)| (path, part)).collect();
        let sum = |n: fn(&Part) -> u64| parts.iter().map(|(_, part)| n(part)).sum();
        let hours = counted.hours.get(id);
        AuditedProject {
            id: *id,
            name: source
                .metadata(*id)
                .and_then(|project| project.name.clone()),
            n_files: parts.len() as u64,
            n_bytes: parts.iter().filter_map(|(path, _)| sizes.get(path)).sum(),
            n_runs: sum(|part| part.n_runs),
            n_traces: sum(|part| part.n_traces),
            first_start_time: parts
                .iter()
                .filter_map(|(_, part)| part.first_us)
                .min()
                .map(Timestamp),
            last_start_time: parts
                .iter()
                .filter_map(|(_, part)| part.last_us)
                .max()
                .map(Timestamp),
            coverage: hours.and_then(Coverage::of_hours),
        }
    });
    projects.collect()
}

/// What was found, the gravest first.
fn findings(counted: &Counted, projects: &[AuditedProject]) -> Vec<Finding> {
    let of_runs = counted.found.iter().filter_map(|(kind, found)| {
        let place = found.example.clone().unwrap_or_default();
        Some(Finding {
            example_run_id: place.id,
            example_file: place.file,
            ..Finding::new(*kind, found.n, found.of)?
        })
    });
    let mut findings: Vec<Finding> = of_runs.collect();
    findings.extend(gaps_of(counted, projects));
    findings.extend(missing_columns(counted));
    findings.extend(empty_files(counted));
    findings.extend(nameless(projects));
    findings.sort_by_key(|finding| finding.kind);
    findings
}

/// The gaps of all projects.
fn gaps_of(counted: &Counted, projects: &[AuditedProject]) -> Option<Finding> {
    let (mut n_missing, mut n_hours, mut details) = (0, 0, Vec::new());
    for project in projects {
        let Some(hours) = counted.hours.get(&project.id) else {
            continue;
        };
        let span = hours.keys().next_back().zip(hours.keys().next());
        n_hours += span.map_or(0, |(last, first)| last.abs_diff(*first) + 1);
        for gap in document::gaps(hours) {
            n_missing += gap.n_hours();
            details.push(format!("{}: {gap}", project.label()));
        }
    }
    Some(Finding {
        details,
        ..Finding::new(FindingKind::Gaps, n_missing, n_hours)?
    })
}

fn missing_columns(counted: &Counted) -> Option<Finding> {
    let sample = counted.missing.first().map(|column| &column.sample);
    Some(Finding {
        example_file: sample.map(|path| path.display().to_string()),
        details: counted.missing.iter().map(ToString::to_string).collect(),
        ..Finding::new(
            FindingKind::MissingColumns,
            counted.n_lacking as u64,
            counted.files.len() as u64,
        )?
    })
}

fn empty_files(counted: &Counted) -> Option<Finding> {
    let n_files = counted.files.len() + counted.empty.len();
    Some(Finding {
        example_file: counted.empty.first().cloned(),
        ..Finding::new(
            FindingKind::EmptyFiles,
            counted.empty.len() as u64,
            n_files as u64,
        )?
    })
}

fn nameless(projects: &[AuditedProject]) -> Option<Finding> {
    let nameless = projects.iter().filter(|project| project.name.is_none());
    let details: Vec<String> = nameless.map(|project| project.id.to_string()).collect();
    let (n_nameless, n_projects) = (details.len() as u64, projects.len() as u64);
    Some(Finding {
        details,
        ..Finding::new(FindingKind::NamelessProjects, n_nameless, n_projects)?
    })
}
