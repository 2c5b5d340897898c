//! Audits as tables: the source, its projects with their coverage, the findings.

use std::io::{self, Write};

use bytesize::ByteSize;

use super::super::grid::{Cell, Column, Grid, Row, Tone, painted};
use super::super::text::{plain_text, wrapped};
use super::super::units::{self, or_unknown};
use super::super::{Style, markdown};
use super::against;
use super::strip::{LEGEND, length, strip};
use crate::document::{Audit, AuditedProject, Finding};
use crate::request::{FindingKind, Severity};

/// Room for a strip where there is no limit.
const STRIP: usize = 96;
/// The longest name of a kind.
const KIND: usize = 25;
/// As many details of a finding are shown.
const DETAILS_MAX: usize = 12;

/// Writes the sections.
pub(super) fn write(out: &mut dyn Write, audit: &Audit, style: &Style) -> io::Result<Vec<String>> {
    let mut left_out = Vec::new();
    title(out, "source", style)?;
    let room = style.width.map(|width| width.saturating_sub(2));
    for fact in source(audit, style) {
        for line in wrapped(&fact, room) {
            writeln!(out, "  {line}")?;
        }
    }
    title(out, "\ncoverage", style)?;
    left_out.extend(projects(audit, style, Strips::Below).write(out, style)?);
    title(out, "\nfindings", style)?;
    if audit.findings.is_empty() {
        Grid::of_note(nothing()).write(out, style)?;
    } else {
        left_out.extend(findings(audit, Details::Below).write(out, style)?);
    }
    if let Some(comparison) = &audit.against {
        title(out, &format!("\n{}", against::title(comparison)), style)?;
        left_out.extend(against::grid(comparison, style.width).write(out, style)?);
        for sentence in against::evidence(comparison) {
            Grid::of_note(sentence).write(out, style)?;
        }
    }
    Ok(left_out)
}

/// Writes the sections with everything in them.
pub(super) fn write_markdown(out: &mut dyn Write, audit: &Audit, style: &Style) -> io::Result<()> {
    writeln!(out, "## Source\n")?;
    for fact in source(audit, style) {
        writeln!(out, "- {fact}")?;
    }
    writeln!(out, "\n## Coverage\n")?;
    markdown::table(out, &projects(audit, style, Strips::Beside))?;
    writeln!(out, "\n## Findings\n")?;
    if audit.findings.is_empty() {
        writeln!(out, "{}", nothing())?;
    } else {
        markdown::table(out, &findings(audit, Details::Beside))?;
    }
    let Some(comparison) = &audit.against else {
        return Ok(());
    };
    writeln!(out, "\n## {}\n", against::title(comparison))?;
    markdown::table(out, &against::grid(comparison, None))?;
    for sentence in against::evidence(comparison) {
        markdown::note(out, &sentence)?;
    }
    Ok(())
}

fn title(out: &mut dyn Write, text: &str, style: &Style) -> io::Result<()> {
    writeln!(out, "{}", painted(text, Tone::Strong, style.color))
}

/// What is said where nothing was found.
fn nothing() -> String {
    let n_kinds = FindingKind::all().count();
    format!("nothing found, of {n_kinds} kinds that were looked for")
}

/// What the source has as a whole.
fn source(audit: &Audit, style: &Style) -> Vec<String> {
    let counted = |n: u64, noun: &str| {
        let plural = if n == 1 { "" } else { "s" };
        format!("{} {noun}{plural}", units::count(n))
    };
    let formats = audit.formats.iter();
    let formats = formats.map(|(name, n)| format!("{} of {name}", counted(*n, "file")));
    let span = audit.first_start_time.zip(audit.last_start_time);
    let span = span.map(|(first, last)| {
        let moment = |time| units::local_time(time, style.zone);
        format!(
            "starts from {} to {} ({})",
            moment(first),
            moment(last),
            style.zone
        )
    });
    let size = format!(
        "{} in {}",
        counted(audit.n_records, "record"),
        ByteSize(audit.n_bytes)
    );
    formats.chain([size]).chain(span).collect()
}

/// Where the strip of a project is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strips {
    Below,
    Beside,
}

/// The projects, a row each.
fn projects(audit: &Audit, style: &Style, strips: Strips) -> Grid {
    let column = |name: &'static str, expendable| Column::new(name, "", name, "", expendable);
    let time = |name: &'static str, expendable| {
        let title = format!("{name} ({})", style.zone);
        Column::new(name, "", title, "", expendable)
    };
    let mut columns = vec![
        column("project", 0),
        column("files", 4),
        column("size", 5),
        column("runs", 2),
        column("traces", 1),
        time("first start", 3),
        time("last start", 3),
    ];
    columns.extend((strips == Strips::Beside).then(|| column("coverage", 0)));
    let mut rows = Vec::new();
    for project in &audit.projects {
        let room = style.width.map_or(STRIP, |width| width.saturating_sub(4));
        let strip = coverage(project, room);
        let mut cells = cells(project, style);
        match strips {
            Strips::Beside => {
                cells.push(strip.unwrap_or_default().into());
                rows.push(Row::Cells(cells));
            }
            Strips::Below => {
                rows.push(Row::Cells(cells));
                rows.extend(strip.map(Row::Note));
            }
        }
    }
    let lengths = audit
        .projects
        .iter()
        .filter_map(|project| project.coverage.as_ref());
    rows.extend(lengths.clone().next().map(|_| Row::Note(LEGEND.to_owned())));
    Grid {
        columns,
        rows,
        indent: "  ",
        ..Grid::default()
    }
}

fn cells(project: &AuditedProject, style: &Style) -> Vec<Cell> {
    let time = |time| or_unknown(time, |time| units::local_time(time, style.zone));
    vec![
        plain_text(&project.label()).into_owned().into(),
        units::count(project.n_files).into(),
        ByteSize(project.n_bytes).to_string().into(),
        units::count(project.n_runs).into(),
        units::count(project.n_traces).into(),
        time(project.first_start_time).into(),
        time(project.last_start_time).into(),
    ]
}

/// The strip, and for how long a block of it stands.
fn coverage(project: &AuditedProject, room: usize) -> Option<String> {
    let coverage = project.coverage.as_ref()?;
    let label = |n_each| format!(" a block is {}", length(coverage, n_each));
    let room = room.saturating_sub(label(coverage.traces.len()).chars().count());
    let (blocks, n_each) = strip(coverage, room);
    Some(format!("{blocks}{}", label(n_each)))
}

/// Where the details of a finding are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Details {
    Below,
    Beside,
}

/// The findings, a row each.
fn findings(audit: &Audit, details: Details) -> Grid {
    let left = |name: &'static str, expendable| Column {
        left: true,
        ..Column::new(name, "", name, "", expendable)
    };
    let mut columns = vec![
        left("finding", 0),
        left("severity", 1),
        Column::new("count", "", "count", "", 0),
        Column::new("share", "", "share", "", 2),
        left("of", 3),
        left("example", 4),
    ];
    if details == Details::Beside {
        columns.extend([left("file", 0), left("meaning", 0)]);
    }
    let mut rows = Vec::new();
    for finding in &audit.findings {
        let mut cells = summary(finding);
        match details {
            Details::Beside => {
                let file = finding.example_file.as_deref().map(plain_text);
                cells.push(file.unwrap_or_default().into_owned().into());
                cells.push(finding.meaning.into());
                rows.push(Row::Cells(cells));
            }
            Details::Below => {
                rows.push(Row::Cells(cells));
                rows.extend(notes(finding).into_iter().map(Row::Note));
            }
        }
    }
    Grid {
        columns,
        rows,
        indent: "  ",
        least: KIND,
        ..Grid::default()
    }
}

fn summary(finding: &Finding) -> Vec<Cell> {
    let tone = match finding.severity {
        Severity::High => Tone::Alarm,
        Severity::Medium => Tone::Warning,
        Severity::Low => Tone::Plain,
    };
    let example = finding.example_run_id.as_deref().map(plain_text);
    vec![
        Cell::new(finding.kind.name(), tone),
        Cell::new(finding.severity.name(), tone),
        units::count(finding.count).into(),
        or_unknown(finding.share, units::share).into(),
        format!("{} {}", units::count(finding.of), finding.unit).into(),
        example.unwrap_or_default().into_owned().into(),
    ]
}

/// What is said below a finding.
fn notes(finding: &Finding) -> Vec<String> {
    let mut notes = vec![finding.meaning.to_owned()];
    let details = finding.details.iter().take(DETAILS_MAX);
    notes.extend(details.map(|detail| plain_text(detail).into_owned()));
    let n_more = finding.details.len().saturating_sub(DETAILS_MAX);
    notes.extend((n_more > 0).then(|| format!("and {} more", units::count(n_more as u64))));
    let file = finding.example_file.as_deref().map(plain_text);
    notes.extend(file.map(|file| format!("in {file}")));
    notes
}
