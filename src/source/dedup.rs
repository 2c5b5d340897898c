//! Deduplication: which files may repeat each other's runs, and the newest record of each run.
//!
//! Within one export no run repeats. Exports of one project whose spans of time overlap or touch may
//! hold the same runs; only their files pay for it. Of a run's records the one that has ended wins, then
//! that of the later export.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::functions_window::expr_fn::lag;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ident, lit, when,
};
use uuid::Uuid;

use super::Dedup;
use super::file::{Rank, SourceFile};
use super::format::{FILE, MODIFIED, RANK, ROW};
use super::listing::{Export, Listed};
use crate::error::{Error, Result};
use crate::runs::Column;

/// The columns that tell a run's records apart and order them, beside the rank of their export.
pub(super) const KEY: [Column; 3] = [Column::SessionId, Column::Id, Column::EndTime];

/// What orders records of a run that have both ended, or neither: the place of their file, and their row.
pub(super) const PLACE: [&str; 2] = [FILE, ROW];
/// What tells between which records only a path decides: their export's place, and when it was written.
pub(super) const CLASS: [&str; 2] = [RANK, MODIFIED];

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
    for (number, (place, _, modified_s, index)) in (0..).zip(ranked) {
        if let Some(file) = files.get_mut(index) {
            Arc::make_mut(file).rank = Some(Rank {
                modified_s,
                place,
                file: number,
            });
        }
    }
    Ok(())
}

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
        let (first, last) = file.range_us().unwrap_or((i64::MIN, i64::MAX));
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

/// Runs with the rank of their export → the newest record of each run. Runs without an id are all kept.
///
/// In the order of projects, ids and records, the first of each id. Not a window for each run: the
/// engine needs far longer for a million small ones than for a large one.
pub(super) fn newest(
    runs: LogicalPlanBuilder,
    columns: &[Column],
) -> Result<LogicalPlan, DataFusionError> {
    const KEY: [Column; 2] = [Column::SessionId, Column::Id];
    let value = |column: Column| ident(column.name());
    let before = |column: Column| format!("@{} before", column.name());
    let order = vec![
        value(Column::SessionId).sort(true, false),
        value(Column::Id).sort(true, false),
        value(Column::EndTime).is_not_null().sort(false, false),
        ident(FILE).sort(false, false),
        // Within one export no run repeats; where one does all the same, the last counts: any order will
        // do as long as it is always the same one.
        ident(ROW).sort(false, false),
    ];
    let previous = KEY.map(|column| {
        lag(value(column), Some(1), None)
            .order_by(order.clone())
            .build()
            .map(|previous| previous.alias(before(column)))
    });
    let is_another = KEY.map(|column| {
        let previous = || ident(before(column));
        previous().is_null().or(previous().not_eq(value(column)))
    });
    let is_first = is_another
        .into_iter()
        .fold(value(Column::Id).is_null(), Expr::or);
    runs.window(previous.into_iter().collect::<Result<Vec<_>, _>>()?)?
        .filter(is_first)?
        .project(columns.iter().map(|column| ident(column.name())))?
        .build()
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

fn compared() -> impl Iterator<Item = Column> {
    COMPARED.into_iter().chain([Column::EndTime])
}

/// Runs with the rank of their export → how many have several records that differ, among which only the
/// path of their export decided.
pub(super) fn undecided(runs: LogicalPlanBuilder) -> Result<LogicalPlan, DataFusionError> {
    /// What decides between records but for paths: whether they have ended, then their export's time.
    const CLASS: &str = "@class";
    const ENDED: i64 = 1 << 60;
    const DIFFERING: &str = "@differing";
    let key = || [ident(Column::SessionId.name()), ident(Column::Id.name())];
    let has_ended = ident(Column::EndTime.name()).is_not_null();
    let class = when(has_ended, ident(MODIFIED) + lit(ENDED)).otherwise(ident(MODIFIED))?;
    let bounds = |name: &str| {
        [
            min(ident(name)).alias(format!("{name} min")),
            max(ident(name)).alias(format!("{name} max")),
        ]
    };
    let measured = compared().flat_map(|column| {
        let [min, max] = bounds(column.name());
        let n = count(ident(column.name())).alias(format!("{} n", column.name()));
        [min, max, n]
    });
    let differs = compared().map(|column| {
        let part = |what: &str| ident(format!("{} {what}", column.name()));
        let some_lack_it = part("n")
            .not_eq(lit(0_i64))
            .and(part("n").not_eq(ident("n")));
        part("min").not_eq(part("max")).or(some_lack_it)
    });
    let differs = differs.reduce(Expr::or).unwrap_or_else(|| lit(false));
    let several = ident(format!("{RANK} min")).not_eq(ident(format!("{RANK} max")));
    let [first, last] = bounds(RANK);
    let differing = when(several.and(differs), ident(CLASS)).end()?;
    runs.filter(ident(Column::Id.name()).is_not_null())?
        .aggregate(
            key().into_iter().chain([class.alias(CLASS)]),
            measured.chain([first, last, count(lit(1)).alias("n")]),
        )?
        .aggregate(
            key(),
            [
                max(ident(CLASS)).alias(CLASS),
                max(differing).alias(DIFFERING),
            ],
        )?
        .filter(ident(DIFFERING).eq(ident(CLASS)))?
        .aggregate([ident(Column::SessionId.name())], [count(lit(1))])?
        .build()
}
