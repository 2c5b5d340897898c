//! Tally files.

use std::fs::File;
use std::io::{self, Seek};

use super::stats::telling;
use super::{Read, read, span, usage_of, warnings};
use crate::document::{self, Timestamp};
use crate::engine::{self, Engine};
use crate::error::{Error, Result, SkippedFile};
use crate::plan::Split;
use crate::request::{Breakdown, Measure, Request, Usage, Window};
use crate::source::Source;
use crate::tally::TallyColumn;

/// Tallies of groups of runs, as a file that is a source like any other.
#[derive(Debug)]
pub struct Tallies {
    /// Whose tokens and costs were summed.
    pub usage: Usage,
    /// What should be known of them, a sentence each.
    pub warnings: Vec<String>,
    /// The files that were left out because they cannot be read.
    pub skipped: Vec<SkippedFile>,
    /// What was read.
    pub read: Read,
    /// When the traces start that it is of: what was asked, or where nothing was, what tally files cover.
    pub window: Window,
    /// The first and the last start of any run of these projects, whatever the window, as far as known.
    pub span: Option<(Timestamp, Timestamp)>,
    file: File,
    plans: String,
}

impl Tallies {
    /// The executed plans with their metrics, as text.
    #[must_use]
    pub fn explain(&self) -> &str {
        &self.plans
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// Where the writer fails.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        io::copy(&mut file, out).map(drop)
    }
}

/// Makes a tally file: the tallies of groups of runs that a breakdown asks for, with all parts that its
/// figures need and those of documents; its order and its limit play no part.
///
/// # Errors
///
/// Those of [`crate::sessions`], and [`Error::Usage`] for facets, which no tally has.
pub async fn tallies(
    engine: &Engine,
    source: &Source,
    request: &Request,
    breakdown: &Breakdown,
) -> Result<Tallies> {
    if request.facets || breakdown.measures.contains(&Measure::RunFacets) {
        return Err(Error::Usage {
            problem: "a tally file has no facets".to_owned(),
            hint: Some("leave out --facets".to_owned()),
        });
    }
    let mut columns = document::needed(&breakdown.measures);
    columns.extend(TallyColumn::DOCUMENT);
    let Breakdown {
        runs, by, every, ..
    } = breakdown;
    let split = Split {
        by,
        every: every.as_ref(),
        columns: &columns,
        kept: &[],
        own_feedback: source.feedback().is_none(),
    };
    let looked_at = split.looked_at(runs);
    let answer = engine::split(
        engine,
        source,
        request,
        runs,
        &looked_at,
        &[],
        async |groups, tallied| {
            groups.check_columns(&columns, |missing| telling(&breakdown.measures, missing))?;
            groups.store(&split, request, tallied).await
        },
    );
    let (file, tallied) = answer.await?;
    Ok(Tallies {
        usage: usage_of(&tallied),
        warnings: warnings(source, &tallied)?,
        read: read(source, &tallied),
        window: tallied.window,
        span: span(tallied.projects.values()),
        plans: tallied.explain(),
        skipped: tallied.skipped,
        file,
    })
}
