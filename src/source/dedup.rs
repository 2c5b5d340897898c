//! Deduplication: which files may repeat each other's runs, and the newest record of each run.
//!
//! Within one export no run repeats. Exports of one project whose spans of time overlap or touch may
//! hold the same runs; only their files pay for it. Of a run's records the one that has ended wins, then
//! that of the later export. A first, narrow pass finds where the newest record of each run stands; the
//! question then leaves out all others.

mod newest;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit, when};
use uuid::Uuid;

use super::Dedup;
use super::file::{Rank, SourceFile};
use super::format::{FILE, MODIFIED, ROW};
use super::listing::{Export, Listed};
use crate::error::{Error, Result};
use crate::runs::{Column, functions};

pub(crate) use newest::Newest;
pub(super) use newest::PLACES_A_FILE;

/// The columns that tell a run's records apart and order them, beside the rank of their export.
pub(super) const KEY: [Column; 3] = [Column::SessionId, Column::Id, Column::EndTime];

/// What gives a record its place: that of its file's first row, and its row.
pub(super) const PLACE: [&str; 2] = [FILE, ROW];
/// What tells between which records only a path decides: when their export was written.
pub(super) const CLASS: [&str; 1] = [MODIFIED];

/// Marks the files whose runs may be repeated in another with their rank.
///
/// # Errors
///
/// Where such a file has no run ids, so that what it repeats cannot be told.
pub(super) fn mark(files: &mut [Arc<SourceFile>], listed: &[Listed], dedup: Dedup) -> Result<()> {
    let repeated: Vec<usize> = match dedup {
        Dedup::Never => return Ok(()),
        Dedup::Always => (0..files.len()).collect(),
        Dedup::Auto => repeated(files).into_iter().collect(),
    };
    if repeated.is_empty() {
        return Ok(());
    }
    let exports = exports(listed);
    let mut ranked = Vec::with_capacity(repeated.len());
    for index in repeated {
        let Some(file) = files.get(index) else {
            continue;
        };
        if !file.format.has(Column::Id, &file.footer) {
            return Err(Error::BadInput {
                path: file.path.clone(),
                problem: "another export holds runs of the same time, and without a column id \
                          nothing tells which are the same; --dedup never counts all of them"
                    .to_owned(),
            });
        }
        let (modified_s, place) = exports.get(&file.export).copied().unwrap_or_default();
        ranked.push((place, file.path.clone(), modified_s, index));
    }
    ranked.sort_unstable();
    if let Some((_, path, ..)) = ranked.get(N_FILES_MAX) {
        return Err(Error::BadInput {
            path: path.clone(),
            problem: format!("more than {N_FILES_MAX} files may repeat each other's runs"),
        });
    }
    for (number, (place, _, modified_s, index)) in (0..).zip(ranked) {
        if let Some(file) = files.get_mut(index) {
            Arc::make_mut(file).rank = Some(Rank {
                modified_s,
                place,
                first_row: number * PLACES_A_FILE,
            });
        }
    }
    Ok(())
}

/// As many files have room for the places of their records.
const N_FILES_MAX: usize = 1 << 22;

/// When each export was last written, and its place by that, then by its path.
fn exports(listed: &[Listed]) -> BTreeMap<&Export, (i64, i64)> {
    let mut modified: BTreeMap<&Export, i64> = BTreeMap::new();
    for file in listed {
        let latest = modified.entry(&file.export).or_insert(file.modified_s);
        *latest = file.modified_s.max(*latest);
    }
    let mut exports: Vec<(i64, &Export)> = modified
        .into_iter()
        .map(|(export, modified_s)| (modified_s, export))
        .collect();
    exports.sort_unstable();
    let places = (0_i64..).zip(exports);
    places
        .map(|(place, (modified_s, export))| (export, (modified_s, place)))
        .collect()
}

/// A file's span of time among those of one project.
#[derive(Clone, Copy)]
struct Span<'a> {
    first: i64,
    last: i64,
    export: &'a Export,
    index: usize,
}

/// The files that share a moment and a project with a file of another export.
fn repeated(files: &[Arc<SourceFile>]) -> BTreeSet<usize> {
    let mut projects: BTreeMap<Option<Uuid>, Vec<Span>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        // Without statistics a file may hold runs of any time.
        let (first, last) = file.range_us.unwrap_or((i64::MIN, i64::MAX));
        let project = file.project.value.filter(|_| file.project.is_proven);
        projects.entry(project).or_default().push(Span {
            first,
            last,
            export: &file.export,
            index,
        });
    }
    // Files that do not say their project may hold runs of any.
    let of_any = projects.remove(&None).unwrap_or_default();
    let mut repeated = overlapping(&of_any);
    for (_, mut spans) in projects {
        spans.extend(of_any.iter().copied());
        repeated.extend(overlapping(&spans));
    }
    repeated
}

/// The spans that share a moment with one of another export.
fn overlapping(spans: &[Span]) -> BTreeSet<usize> {
    let mut spans = spans.to_vec();
    spans.sort_unstable_by_key(|span| span.first);
    // Of two that overlap, the first pass finds the later one, the second the earlier one.
    let mut found = BTreeSet::new();
    let mut ends = Furthest::default();
    for span in &spans {
        if ends
            .of_others(span.export)
            .is_some_and(|end| end >= span.first)
        {
            found.insert(span.index);
        }
        ends.add(span.export, span.last);
    }
    let mut starts = Furthest::default();
    for span in spans.iter().rev() {
        if starts
            .of_others(span.export)
            .is_some_and(|Reverse(start)| start <= span.last)
        {
            found.insert(span.index);
        }
        starts.add(span.export, Reverse(span.first));
    }
    found
}

/// The greatest value of any export, and of any other than that.
struct Furthest<'a, T> {
    first: Option<(&'a Export, T)>,
    of_another: Option<(&'a Export, T)>,
}

impl<T> Default for Furthest<'_, T> {
    fn default() -> Self {
        Self {
            first: None,
            of_another: None,
        }
    }
}

impl<'a, T: Ord + Copy> Furthest<'a, T> {
    fn of_others(&self, export: &Export) -> Option<T> {
        [self.first, self.of_another]
            .into_iter()
            .flatten()
            .find(|(of, _)| *of != export)
            .map(|(_, value)| value)
    }

    fn add(&mut self, export: &'a Export, value: T) {
        match self.first {
            Some((of, held)) if of == export => self.first = Some((export, held.max(value))),
            Some((_, held)) if held >= value => {
                let is_greater = self.of_another.is_none_or(|(_, held)| value > held);
                if is_greater {
                    self.of_another = Some((export, value));
                }
            }
            lesser => {
                self.of_another = lesser;
                self.first = Some((export, value));
            }
        }
    }
}

/// Where a record stands among all: those of later exports after those of earlier ones. Within one
/// export no run repeats; where one does all the same, the last counts.
fn place() -> Expr {
    ident(FILE) + ident(ROW)
}

/// What is known of the records of files that may repeat each other's runs.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// The project that all are of, where they are of one.
    pub(super) project: Option<Uuid>,
    /// Some may lack an id.
    pub(super) may_lack_ids: bool,
}

impl Known {
    /// The records that have an id, and what tells their runs apart.
    fn by_run(
        self,
        records: LogicalPlanBuilder,
    ) -> Result<(LogicalPlanBuilder, Vec<Expr>), DataFusionError> {
        let id = || ident(Column::Id.name());
        let records = if self.may_lack_ids {
            records.filter(id().is_not_null())?
        } else {
            records
        };
        let project = self.project.is_none();
        let project = project.then(|| ident(Column::SessionId.name()));
        let key = project.into_iter().chain([functions::id_bits(id())]);
        Ok((records, key.collect()))
    }
}

/// Records with their places → those of the newest record of each run, marked where it has ended. Runs
/// without an id are not among them.
pub(super) fn newest(
    records: LogicalPlanBuilder,
    known: Known,
) -> Result<LogicalPlan, DataFusionError> {
    let has_ended = ident(Column::EndTime.name()).is_not_null();
    let order = when(has_ended, place() + lit(newest::ENDED)).otherwise(place())?;
    let (records, run) = known.by_run(records)?;
    records
        .aggregate(run, [max(order).alias("newest")])?
        .project([ident("newest")])?
        .build()
}

/// Whether a record is among those that count; one without an id always is.
pub(super) fn counts(newest: &Arc<Newest>, may_lack_ids: bool) -> Expr {
    let is_newest = newest::is_newest(newest, place());
    if may_lack_ids {
        ident(Column::Id.name()).is_null().or(is_newest)
    } else {
        is_newest
    }
}

/// The columns beside [`KEY`] in which records of a run may differ.
pub(super) const COMPARED: [Column; 10] = [
    Column::FirstTokenTime,
    Column::IsError,
    Column::TraceTier,
    Column::FeedbackStats,
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
];

/// Records with the time of their export → how many runs of each project have several records that
/// differ, among which only the path of their export decided.
pub(super) fn undecided(
    records: LogicalPlanBuilder,
    known: Known,
) -> Result<LogicalPlan, DataFusionError> {
    const FIRST: &str = "@first";
    const LAST: &str = "@last";
    // What decides between records but for paths: whether they have ended, then their export's time.
    let has_ended = ident(Column::EndTime.name()).is_not_null();
    let class = when(has_ended, ident(MODIFIED) + lit(newest::ENDED)).otherwise(ident(MODIFIED))?;
    let compared = COMPARED.into_iter().chain([Column::EndTime]);
    let content = functions::digest(compared.map(|column| ident(column.name())).collect());
    let project = match known.project {
        Some(project) => lit(ScalarValue::Utf8View(Some(project.to_string()))),
        None => ident(Column::SessionId.name()),
    };
    let (records, run) = known.by_run(records)?;
    records
        .aggregate(
            run,
            [
                max(functions::ranked_up(class.clone(), content.clone())).alias(LAST),
                max(functions::ranked_down(class, content)).alias(FIRST),
            ],
        )?
        .filter(functions::are_apart(ident(LAST), ident(FIRST)))?
        .project([project.alias("project")])?
        .aggregate([ident("project")], [count(lit(1))])?
        .build()
}
