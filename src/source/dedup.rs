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
use datafusion::functions_window::expr_fn::{rank, row_number};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ident, lit,
};
use uuid::Uuid;

use super::Dedup;
use super::file::{Rank, SourceFile};
use super::format::{MODIFIED, RANK};
use super::listing::{Export, Listed};
use crate::error::{Error, Result};
use crate::runs::Column;

/// The columns that tell a run's records apart and order them, beside the rank of their export.
pub(super) const KEY: [Column; 3] = [Column::SessionId, Column::Id, Column::EndTime];

/// Marks the files whose runs may be repeated in another with the rank of their export.
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
    let ranks = ranks(listed);
    for index in repeated {
        let Some(file) = files.get_mut(index) else {
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
        let rank = ranks.get(&file.export).copied();
        Arc::make_mut(file).rank = rank;
    }
    Ok(())
}

/// Exports by the time of their latest file, then by their path.
fn ranks(listed: &[Listed]) -> BTreeMap<Export, Rank> {
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
        .map(|(place, (modified_s, export))| (export.clone(), Rank { modified_s, place }))
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
pub(super) fn newest(
    runs: LogicalPlanBuilder,
    columns: &[Column],
) -> Result<LogicalPlan, DataFusionError> {
    const PLACE: &str = "@record";
    let has_ended = ident(Column::EndTime.name()).is_not_null();
    let record = row_number()
        .partition_by(vec![
            ident(Column::SessionId.name()),
            ident(Column::Id.name()),
        ])
        .order_by(vec![
            has_ended.sort(false, false),
            ident(RANK).sort(false, false),
            // Within one export no run repeats; where one does all the same, any order will do as long
            // as it is one.
            ident(Column::EndTime.name()).sort(false, false),
        ])
        .build()?
        .alias(PLACE);
    let is_newest = ident(PLACE).eq(lit(1_u64));
    runs.window([record])?
        .filter(is_newest.or(ident(Column::Id.name()).is_null()))?
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
    const PLACE: &str = "@class";
    let key = || [ident(Column::SessionId.name()), ident(Column::Id.name())];
    let has_ended = ident(Column::EndTime.name()).is_not_null();
    let class = rank()
        .partition_by(key().to_vec())
        .order_by(vec![
            has_ended.sort(false, false),
            ident(MODIFIED).sort(false, false),
        ])
        .build()?
        .alias(PLACE);
    let bounds = |name: &str| {
        [
            min(ident(name)).alias(format!("{name} min")),
            max(ident(name)).alias(format!("{name} max")),
        ]
    };
    let measured = compared().flat_map(|column| {
        let [min, max] = bounds(column.name());
        [
            min,
            max,
            count(ident(column.name())).alias(format!("{} n", column.name())),
        ]
    });
    let differs = compared().map(|column| {
        let part = |what: &str| ident(format!("{} {what}", column.name()));
        part("min").not_eq(part("max")).or(part("n")
            .not_eq(lit(0_i64))
            .and(part("n").not_eq(ident("n"))))
    });
    let differs = differs.reduce(Expr::or).unwrap_or_else(|| lit(false));
    let [first, last] = bounds(RANK);
    runs.window([class])?
        .filter(
            ident(PLACE)
                .eq(lit(1_u64))
                .and(ident(Column::Id.name()).is_not_null()),
        )?
        .aggregate(
            key(),
            measured.chain([first, last, count(lit(1)).alias("n")]),
        )?
        .filter(
            ident(format!("{RANK} min"))
                .not_eq(ident(format!("{RANK} max")))
                .and(differs),
        )?
        .aggregate([ident(Column::SessionId.name())], [count(lit(1))])?
        .build()
}
