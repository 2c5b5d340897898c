//! Tally files.

use std::fs::File;
use std::io::{self, Seek};

use super::stats::telling;
use super::{About, usage_of};
use crate::document;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::plan::Split;
use crate::request::{Breakdown, Measure, Request, Usage};
use crate::source::Source;
use crate::tally::TallyColumn;

/// Tallies of groups of runs, as a file that is a source like any other.
#[derive(Debug)]
pub struct Tallies {
    /// Whose tokens and costs were summed.
    pub usage: Usage,
    /// What should be known of it.
    pub about: About,
    file: File,
}

impl Tallies {
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
        about: About::of(source, tallied)?,
        file,
    })
}
