//! Split: runs → a tally for each group of them that has the same labels, and starts in the same span of
//! time.
//!
//! Units (traces, or runs) come with the columns that are asked for; each gets its labels, a list where
//! it can have several; then they are grouped. What is asked of a trace's root, of the trace as a whole
//! or of a run's children comes by joins, which spill.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{JoinType, Result, ScalarValue};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::functions_aggregate::expr_fn::{bool_or, max};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit, when};

use super::dealt;
use super::filter::trace_bits;
use super::own::{COUNTED, columns};
use super::{count_where, measure, measure_more, values};
use crate::request::{Every, Key, Listing, Population, RunOrder, RunPage, Window};
use crate::runs::{Column, functions};
use crate::tally::{SUM, TallyColumn, part_udaf};
use crate::traces::{self, USAGE};

/// How units are split, and what is tallied of each group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split<'a> {
    /// What they are grouped by.
    pub(crate) by: &'a [Key],
    /// The spans of time that they are grouped by.
    pub(crate) every: Option<&'a Every>,
    /// What is tallied.
    pub(crate) columns: &'a BTreeSet<TallyColumn>,
    /// What is kept of each unit, where they are listed and not tallied.
    pub(crate) kept: &'a [Column],
    /// Whether feedback is the runs' own; else it comes by a join.
    pub(crate) own_feedback: bool,
}

/// The column of a group's span of time: its first moment.
pub(crate) const BUCKET: &str = "@bucket";
/// Whether the unit's root carries usage without being an LLM call.
const COMPOSITE: &str = "@composite";
/// Whether any run of the unit's trace failed; null where none did.
pub(super) const TRACE_FAILED: &str = "@trace_failed";
/// The feedback of records, JSON text like that of the runs' own.
pub(crate) const FEEDBACK_TEXT: &str = "@feedback_text";
/// The class of a listed run's error.
pub(crate) const ERROR_CLASS: &str = "error_class";
/// What is kept of listed runs.
pub(crate) const LISTED: &[Column] = &[
    Column::Id,
    Column::SessionId,
    Column::TraceId,
    Column::Name,
    Column::RunType,
    Column::Status,
    Column::StartTime,
    Column::EndTime,
    Column::FirstTokenTime,
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
    Column::IsError,
    Column::Error,
    Column::Model,
    Column::User,
    Column::Thread,
];
/// What tells where a run stands among those of a page.
pub(crate) const PLACED: &[Column] = &[Column::Id, Column::SessionId, Column::StartTime];
/// What is kept of the runs of a page, beside what is asked for by name.
pub(crate) const RECORDED: &[Column] = &[
    Column::Id,
    Column::SessionId,
    Column::TenantId,
    Column::TraceId,
    Column::ParentRunId,
    Column::ReferenceExampleId,
    Column::Name,
    Column::RunType,
    Column::Status,
    Column::StartTime,
    Column::EndTime,
    Column::FirstTokenTime,
    Column::IsRoot,
    Column::DottedOrder,
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
    Column::Error,
    Column::Tags,
    Column::Extra,
    Column::FeedbackStats,
    Column::TraceTier,
];
/// Before the name of a column of the root.
const OF_ROOT: &str = "root.";

/// The column of a group's label of the key in a place.
pub(crate) fn label(place: usize) -> String {
    format!("@label{place}")
}

/// The column of the root that is called so in a run's row.
pub(super) fn of_root(column: Column) -> String {
    format!("{OF_ROOT}{}", column.name())
}

impl Split<'_> {
    /// The columns of runs that it reads: for its keys, for what is tallied, for the joins that it needs.
    pub(crate) fn read(&self, runs: &Population) -> Vec<Column> {
        let mut columns = BTreeSet::from([Column::SessionId]);
        columns.extend(self.kept);
        for key in self.by {
            match key {
                Key::Root(_) if *runs != Population::Traces => columns.extend(super::TRACED),
                Key::Root(key) => columns.extend(read_by(key)),
                key => columns.extend(read_by(key)),
            }
        }
        for column in self.columns {
            match column {
                TallyColumn::Feedback if !self.own_feedback => {
                    columns.insert(Column::Id);
                }
                column => columns.extend(inputs(*column)),
            }
        }
        columns.extend(self.every.map(|_| Column::StartTime));
        let speaks_of_feedback = self.by.iter().any(|key| matches!(key, Key::Feedback(_)));
        if speaks_of_feedback && !self.own_feedback {
            columns.insert(Column::Id);
        }
        columns.into_iter().collect()
    }

    /// The columns that it reads, of runs and of their roots.
    pub(crate) fn looked_at(&self, runs: &Population) -> Vec<Column> {
        [self.read(runs), self.read_of_roots()].concat()
    }

    /// The columns of roots that it reads where the units are not the roots themselves.
    pub(crate) fn read_of_roots(&self) -> Vec<Column> {
        let of_roots = self.root_keys().flat_map(|(_, key)| read_by(key));
        let of_roots: BTreeSet<Column> = of_roots.collect();
        of_roots.into_iter().collect()
    }

    /// Whether it asks whether any run of a trace failed.
    pub(crate) fn asks_for_failed_traces(&self) -> bool {
        self.columns.contains(&TallyColumn::NErrorTraces)
    }

    /// Whether records of feedback must be joined, where feedback is not the runs' own.
    pub(crate) fn asks_for_feedback(&self) -> bool {
        let by = self.by.iter().any(|key| match key {
            Key::Root(key) => matches!(**key, Key::Feedback(_)),
            key => matches!(key, Key::Feedback(_)),
        });
        by || self.columns.contains(&TallyColumn::Feedback)
    }

    fn root_keys(&self) -> impl Iterator<Item = (usize, &Key)> {
        let keys = self.by.iter().enumerate();
        keys.filter_map(|(place, key)| match key {
            Key::Root(key) => Some((place, &**key)),
            _ => None,
        })
    }

    /// Traces, as their roots' rows, with their labels.
    pub(crate) fn roots(&self, roots: LogicalPlan) -> Result<LogicalPlan> {
        let keys = self.by.iter().enumerate();
        let labels = keys.map(|(place, key)| self.label(key).alias(label(place)));
        self.labelled(roots, labels.collect(), traces::is_composite(), &[])
    }

    /// The same groups, of which nothing is tallied.
    pub(crate) fn labels(&self) -> Self {
        Self {
            columns: const { &BTreeSet::new() },
            ..*self
        }
    }

    /// Whether no more is asked of some columns of runs than their sums, and a row in which all but labels
    /// and these is null changes no other figure, if it is not counted.
    pub(crate) fn only_sums(&self, usage: &[Column]) -> bool {
        use TallyColumn as T;
        let is_sum = |column: &TallyColumn| match column {
            T::TotalTokens
            | T::PromptTokens
            | T::CompletionTokens
            | T::TotalCost
            | T::PromptCost
            | T::CompletionCost
            | T::NCompositeUsage => true,
            // The one is told from what a trace lacks, the other from other runs.
            T::Traces | T::NErrorTraces => false,
            column => !inputs(*column).iter().any(|read| usage.contains(read)),
        };
        self.kept.is_empty() && self.columns.iter().all(is_sum)
    }

    /// Runs with their labels and columns beside these; the roots' come with them, as
    /// [`Self::facts_of_roots`] has them.
    pub(crate) fn runs(&self, runs: LogicalPlan, beside: &[&str]) -> Result<LogicalPlan> {
        let labels = self.by.iter().enumerate().map(|(place, key)| match key {
            Key::Root(key) => from_text(ident(label(place)), key).alias(label(place)),
            key => self.label(key).alias(label(place)),
        });
        self.labelled(runs, labels.collect(), lit(false), beside)
    }

    /// What is asked of roots, as facts of their traces: labels as text, and columns for a filter.
    pub(crate) fn facts_of_roots(
        &self,
        roots: LogicalPlan,
        filtered: &[Column],
    ) -> Result<LogicalPlan> {
        let labels = self
            .root_keys()
            .map(|(place, key)| (label(place), to_text(self.label(key), key)));
        let columns = filtered.iter().map(|column| {
            let value = ident(column.name());
            let value = if *column == Column::Tags {
                values::list_text(value)
            } else {
                value
            };
            (of_root(*column), value)
        });
        facts(roots, &labels.chain(columns).collect::<Vec<_>>())
    }

    /// Traces that are built from runs, and start in a window, with their labels.
    pub(crate) fn built(&self, runs: LogicalPlan, window: &Window) -> Result<LogicalPlan> {
        let mut kept: BTreeSet<Column> = self.measured().into_iter().collect();
        kept.extend(self.kept);
        kept.extend(built_from());
        let kept: Vec<Column> = kept.into_iter().collect();
        // A trace without its root has no label but its project.
        let keys = self.by.iter().enumerate();
        let of_root = keys.clone().filter(|(_, key)| **key != Key::Project);
        let mut texts: Vec<String> = of_root.clone().map(|(place, _)| label(place)).collect();
        let labels_as_text =
            of_root.map(|(place, key)| to_text(self.label(key), key).alias(label(place)));
        let more = self.more();
        let (of_any, of_root): (Vec<&str>, Vec<&str>) =
            more.iter().partition(|name| **name == TRACE_FAILED);
        texts.extend(of_root.into_iter().map(str::to_owned));
        let columns = kept.iter().map(|column| ident(column.name()));
        let runs = LogicalPlanBuilder::new(runs)
            .project(
                columns
                    .chain(more.iter().map(|name| ident(*name)))
                    .chain(labels_as_text),
            )?
            .build()?;
        let of_traces = traces::More {
            of_root: &texts,
            of_any: &of_any,
        };
        let mut traces = LogicalPlanBuilder::new(traces::built(runs, &kept, &of_traces)?);
        if let Some(within) = super::within(window) {
            traces = traces.filter(within)?;
        }
        let labels = keys.map(|(place, key)| match key {
            Key::Project => self.label(key).alias(label(place)),
            key => from_text(ident(label(place)), key).alias(label(place)),
        });
        self.labelled(
            traces.build()?,
            labels.collect(),
            ident(traces::IS_COMPOSITE),
            &[],
        )
    }

    /// Narrows units to their labels, their span of time, what is tallied and columns beside that.
    /// `composite` is whether one carries usage without being an LLM call.
    fn labelled(
        &self,
        units: LogicalPlan,
        labels: Vec<Expr>,
        composite: Expr,
        beside: &[&str],
    ) -> Result<LogicalPlan> {
        let bucket = self
            .every
            .map(|every| values::bucket(ident(Column::StartTime.name()), every).alias(BUCKET));
        let measured = self.measured();
        let measured = measured.iter().map(|column| ident(column.name()));
        let more = self.more();
        let is_asked = self.columns.contains(&TallyColumn::NCompositeUsage);
        let composite = is_asked.then(|| composite.alias(COMPOSITE));
        let all = labels
            .into_iter()
            .chain(bucket)
            .chain(composite)
            .chain(measured);
        let more = more.iter().chain(beside).map(|name| ident(*name));
        let mut all: Vec<Expr> = all.chain(more).collect();
        if all.is_empty() {
            // Rows need a column to be counted.
            all.push(ident(Column::SessionId.name()));
        }
        LogicalPlanBuilder::new(units).project(all)?.build()
    }

    /// The canonical columns that tallies are made of.
    fn measured(&self) -> Vec<Column> {
        let columns = self.columns.iter();
        let columns =
            columns.filter(|column| self.own_feedback || **column != TallyColumn::Feedback);
        let columns = columns.flat_map(|column| inputs(*column));
        let columns = columns.chain(self.kept.iter().copied());
        let columns: BTreeSet<Column> = columns.collect();
        columns.into_iter().collect()
    }

    /// The other columns that they are made of.
    fn more(&self) -> Vec<&'static str> {
        let feedback = !self.own_feedback && self.columns.contains(&TallyColumn::Feedback);
        let feedback = feedback.then_some(TallyColumn::Feedback.name());
        let failed = self.asks_for_failed_traces().then_some(TRACE_FAILED);
        feedback.into_iter().chain(failed).collect()
    }

    /// Labelled units of all kinds, each as often as it has labels.
    fn united(&self, units: Vec<LogicalPlan>) -> Result<Option<LogicalPlanBuilder>> {
        let Some(mut plan) = united(units)? else {
            return Ok(None);
        };
        for (place, key) in self.by.iter().enumerate() {
            if key.is_multiple() {
                plan = plan.unnest_column(label(place))?;
            }
        }
        Ok(Some(plan))
    }

    /// Labelled units of all kinds → the facets of each group.
    pub(crate) fn facets(&self, units: Vec<LogicalPlan>) -> Result<Option<LogicalPlan>> {
        let Some(plan) = self.united(units)? else {
            return Ok(None);
        };
        let labels: Vec<String> = (0..self.by.len()).map(label).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        super::facets(plan.build()?, &labels).map(Some)
    }

    /// Labelled units of all kinds → a tally a group; `are_many` is whether groups seem to be many.
    pub(crate) fn tally(
        &self,
        units: Vec<LogicalPlan>,
        are_many: bool,
    ) -> Result<Option<LogicalPlan>> {
        let Some(mut plan) = self.united(units)? else {
            return Ok(None);
        };
        let labels = (0..self.by.len()).map(label);
        let groups = labels.chain(self.every.map(|_| BUCKET.to_owned()));
        let groups: Vec<String> = groups.collect();
        if are_many {
            plan = LogicalPlanBuilder::new(dealt::plan(plan.build()?, groups.clone())?);
        }
        let groups: Vec<Expr> = groups.into_iter().map(ident).collect();
        let feedback = ident(Column::FeedbackStats.name());
        let composite = ident(COMPOSITE);
        let mut fields = plan.schema().fields().iter();
        let is_summed = fields.any(|field| {
            let is_usage = |column: &Column| column.name() == field.name();
            *field.data_type() == SUM && traces::SUMMED.iter().any(is_usage)
        });
        let has_more = plan.schema().has_column_with_unqualified_name(COUNTED);
        let tallies = self.columns.iter().map(|column| {
            let tally = match column {
                TallyColumn::NTraces if has_more => count_where(ident(COUNTED)),
                TallyColumn::Feedback if !self.own_feedback => {
                    part_udaf::feedback_merge().call(vec![ident(column.name())])
                }
                column if TallyColumn::DOCUMENT.contains(column) => {
                    measure(*column, &composite, &feedback)
                }
                column => measure_more(*column, is_summed),
            };
            tally.alias(column.name())
        });
        let tallies: Vec<Expr> = tallies.collect();
        plan.aggregate(groups, tallies)?.build().map(Some)
    }

    /// Units of all kinds → the first of them in an order, with what is kept of them.
    pub(crate) fn list(
        &self,
        units: Vec<LogicalPlan>,
        listing: &Listing,
    ) -> Result<Option<LogicalPlan>> {
        let Some(plan) = united(units)? else {
            return Ok(None);
        };
        let column = |column: Column| ident(column.name());
        let elapsed = |to: Column| functions::elapsed_us(column(Column::StartTime), column(to));
        let by = match listing.by {
            RunOrder::Latency => elapsed(Column::EndTime),
            RunOrder::FirstToken => elapsed(Column::FirstTokenTime),
            RunOrder::Tokens => column(Column::TotalTokens),
            RunOrder::Cost => column(Column::TotalCost),
            RunOrder::Start => column(Column::StartTime),
        };
        // Runs that are equal in all of this are the same line, whichever of them is listed.
        let order = [
            by.sort(listing.ascending, false),
            column(Column::StartTime).sort(false, false),
        ];
        let kept = self.kept.iter().map(|column| ident(column.name()));
        let rest = kept.clone().map(|value| value.sort(true, false));
        plan.sort_with_limit(order.into_iter().chain(rest), Some(listing.limit))?
            .project(kept.chain([self.label(&Key::Error).alias(ERROR_CLASS)]))?
            .build()
            .map(Some)
    }

    /// Units of all kinds → a page of them, with what is kept of them. Those without an id have no place.
    pub(crate) fn page(
        &self,
        units: Vec<LogicalPlan>,
        page: &RunPage,
    ) -> Result<Option<LogicalPlan>> {
        let Some(mut plan) = united(units)? else {
            return Ok(None);
        };
        let id = || ident(Column::Id.name());
        let start = || ident(Column::StartTime.name());
        plan = plan.filter(id().is_not_null())?;
        if let Some(after) = &page.after {
            let at = lit(ScalarValue::TimestampMicrosecond(
                Some(after.start_us),
                None,
            ));
            let of = lit(ScalarValue::Utf8View(Some(after.id.clone())));
            let is_beyond = if page.ascending {
                let beside = start().eq(at.clone()).and(id().gt(of));
                start().gt(at).or(beside)
            } else {
                let beside = start().eq(at.clone()).and(id().lt(of));
                start().lt(at).or(beside)
            };
            plan = plan.filter(is_beyond)?;
        }
        let order = [start(), id()].map(|value| value.sort(page.ascending, false));
        let kept = self.kept.iter().map(|column| ident(column.name()));
        plan.sort_with_limit(order, Some(page.limit))?
            .project(kept)?
            .build()
            .map(Some)
    }

    /// The label, or the labels, that a key gives a run.
    fn label(&self, key: &Key) -> Expr {
        let column = |column: Column| ident(column.name());
        let named = |condition: Expr| when(condition, column(Column::Name)).end();
        match key {
            Key::Project => column(Column::SessionId),
            Key::Name => column(Column::Name),
            Key::RunType => column(Column::RunType),
            Key::Status => column(Column::Status),
            Key::Tag => values::labels(column(Column::Tags)),
            Key::Metadata(path) => functions::path_text(column(Column::Metadata), path),
            Key::Model => column(Column::Model),
            Key::Provider => column(Column::Provider),
            Key::User => column(Column::User),
            Key::Thread => column(Column::Thread),
            Key::Environment => column(Column::Environment),
            Key::Version => column(Column::Version),
            Key::Prompt => column(Column::Prompt),
            Key::Step => named(is_step()).unwrap_or_else(|_| column(Column::Name)),
            Key::Tool => named(column(Column::RunType).eq(lit("tool")))
                .unwrap_or_else(|_| column(Column::Name)),
            Key::Error => {
                let class = values::error_class(column(Column::Error));
                when(column(Column::IsError), class.clone())
                    .end()
                    .unwrap_or(class)
            }
            Key::TraceTier => column(Column::TraceTier),
            Key::Example => nullif(column(Column::ReferenceExampleId), lit("")),
            Key::Feedback(key) if self.own_feedback => {
                values::feedback_labels(column(Column::FeedbackStats), key)
            }
            Key::Feedback(key) => values::feedback_labels(ident(FEEDBACK_TEXT), key),
            Key::Root(key) => self.label(key),
        }
    }
}

fn united(units: Vec<LogicalPlan>) -> Result<Option<LogicalPlanBuilder>> {
    let units = if units.len() > 1 {
        let summed = units.into_iter().map(with_sums);
        summed.collect::<Result<Vec<_>>>()?
    } else {
        units
    };
    let mut units = units.into_iter();
    let first = units.next().map(LogicalPlanBuilder::new);
    first
        .map(|first| units.try_fold(first, LogicalPlanBuilder::union))
        .transpose()
}

/// Units with their usage in the type of sums, in which traces that are built have it.
fn with_sums(units: LogicalPlan) -> Result<LogicalPlan> {
    let fields = units.schema().fields().iter();
    let columns = fields.map(|field| {
        let value = ident(field.name());
        if traces::SUMMED
            .iter()
            .any(|column| column.name() == field.name())
        {
            cast(value, SUM).alias(field.name())
        } else {
            value
        }
    });
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::new(units).project(columns)?.build()
}

/// Labels of a key as text, which a grouping can carry.
fn to_text(labels: Expr, key: &Key) -> Expr {
    if key.is_multiple() {
        values::list_text(labels)
    } else {
        labels
    }
}

fn from_text(text: Expr, key: &Key) -> Expr {
    if key.is_multiple() {
        values::labels(functions::texts(text, ""))
    } else {
        text
    }
}

/// The columns of runs that a key reads.
fn read_by(key: &Key) -> Vec<Column> {
    match key {
        Key::Project => vec![Column::SessionId],
        Key::Name => vec![Column::Name],
        Key::RunType => vec![Column::RunType],
        Key::Status => vec![Column::Status],
        Key::Tag => vec![Column::Tags],
        Key::Metadata(_) => vec![Column::Metadata],
        Key::Model => vec![Column::Model],
        Key::Provider => vec![Column::Provider],
        Key::User => vec![Column::User],
        Key::Thread => vec![Column::Thread],
        Key::Environment => vec![Column::Environment],
        Key::Version => vec![Column::Version],
        Key::Prompt => vec![Column::Prompt],
        Key::Step => [STEP.as_slice(), &[Column::Name]].concat(),
        Key::Tool => vec![Column::Name, Column::RunType],
        Key::Error => vec![Column::Error, Column::IsError],
        Key::TraceTier => vec![Column::TraceTier],
        Key::Example => vec![Column::ReferenceExampleId],
        Key::Feedback(_) => vec![Column::FeedbackStats],
        Key::Root(key) => read_by(key),
    }
}

/// The columns that tell whether a run is a direct child of its trace's root.
const STEP: [Column; 3] = [Column::ParentRunId, Column::TraceId, Column::IsRoot];

fn is_step() -> Expr {
    let parent = ident(Column::ParentRunId.name());
    traces::is_below_root().and(parent.eq(ident(Column::TraceId.name())))
}

/// The columns that tell whether a run is one of a population.
pub(crate) fn told_by(runs: &Population) -> Vec<Column> {
    match runs {
        Population::Traces => vec![Column::IsRoot],
        Population::Type(_) => vec![Column::RunType],
        Population::Steps => STEP.to_vec(),
        Population::All => Vec::new(),
    }
}

/// Those of the runs that are of a population.
pub(crate) fn populated(runs: LogicalPlan, population: &Population) -> Result<LogicalPlan> {
    let is_one = match population {
        Population::All => return Ok(runs),
        Population::Traces => ident(Column::IsRoot.name()),
        Population::Type(run_type) => ident(Column::RunType.name()).eq(lit(run_type.as_str())),
        Population::Steps => is_step(),
    };
    LogicalPlanBuilder::new(runs).filter(is_one)?.build()
}

/// The columns of runs that a tally's column is made of.
fn inputs(column: TallyColumn) -> Vec<Column> {
    use TallyColumn as T;
    match column {
        T::NTraces | T::NErrorTraces => vec![],
        T::NErrors => vec![Column::IsError],
        T::NCompleted => vec![Column::EndTime],
        T::NStreamed => vec![Column::EndTime, Column::FirstTokenTime],
        T::NCompositeUsage => [USAGE.as_slice(), &[Column::RunType]].concat(),
        T::LatencyUs | T::LatencySum | T::LatencyN => vec![Column::StartTime, Column::EndTime],
        T::FirstTokenUs | T::FirstTokenSum | T::FirstTokenN => {
            vec![Column::StartTime, Column::FirstTokenTime]
        }
        T::TotalTokens | T::TotalTokensEach | T::TotalTokensSum | T::TotalTokensN => {
            vec![Column::TotalTokens]
        }
        T::PromptTokens | T::PromptTokensEach | T::PromptTokensSum | T::PromptTokensN => {
            vec![Column::PromptTokens]
        }
        T::CompletionTokens
        | T::CompletionTokensEach
        | T::CompletionTokensSum
        | T::CompletionTokensN => vec![Column::CompletionTokens],
        T::TotalCost | T::TotalCostEach | T::TotalCostSum | T::TotalCostN => {
            vec![Column::TotalCost]
        }
        T::PromptCost => vec![Column::PromptCost],
        T::CompletionCost => vec![Column::CompletionCost],
        T::LastStartUs | T::FirstStartUs => vec![Column::StartTime],
        T::TraceTier => vec![Column::TraceTier],
        T::Feedback => vec![Column::FeedbackStats],
        T::PaceEach
        | T::PaceSum
        | T::PaceN
        | T::TokenTimeEach
        | T::TokenTimeSum
        | T::TokenTimeN => vec![
            Column::FirstTokenTime,
            Column::EndTime,
            Column::CompletionTokens,
        ],
        T::LatencyRuns => vec![Column::Id, Column::StartTime, Column::EndTime],
        T::FirstTokenRuns => vec![Column::Id, Column::StartTime, Column::FirstTokenTime],
        T::TotalTokensRuns => vec![Column::Id, Column::TotalTokens],
        T::PromptTokensRuns => vec![Column::Id, Column::PromptTokens],
        T::CompletionTokensRuns => vec![Column::Id, Column::CompletionTokens],
        T::TotalCostRuns => vec![Column::Id, Column::TotalCost],
        T::PaceRuns | T::TokenTimeRuns => vec![
            Column::Id,
            Column::FirstTokenTime,
            Column::EndTime,
            Column::CompletionTokens,
        ],
        T::Traces => vec![Column::TraceId, Column::Id],
        T::Users => vec![Column::User],
        T::Threads => vec![Column::Thread],
        T::CachedTokens => vec![Column::CachedTokens],
        T::ReasoningTokens => vec![Column::ReasoningTokens],
        T::CachedCost => vec![Column::CachedCost],
        T::ReasoningCost => vec![Column::ReasoningCost],
    }
}

/// The trace that facts are of.
const FACT_TRACE: &str = "@trace of fact";

/// Facts of traces, a row each: of several rows of one trace the greatest values.
fn facts(rows: LogicalPlan, columns: &[(String, Expr)]) -> Result<LogicalPlan> {
    let values = columns
        .iter()
        .map(|(name, value)| value.clone().alias(name));
    let rows = LogicalPlanBuilder::new(rows)
        .project(std::iter::once(trace_bits().alias(FACT_TRACE)).chain(values))?
        .build()?;
    let is_boolean = |name: &str| {
        let field = rows.schema().field_with_unqualified_name(name);
        field.is_ok_and(|field| *field.data_type() == DataType::Boolean)
    };
    let greatest = columns.iter().map(|(name, _)| {
        let value = ident(name);
        let greatest = if is_boolean(name) {
            bool_or(value)
        } else {
            max(value)
        };
        greatest.alias(name)
    });
    let greatest: Vec<Expr> = greatest.collect();
    LogicalPlanBuilder::new(rows)
        .aggregate([ident(FACT_TRACE)], greatest)?
        .build()
}

/// The columns of runs that [`failed_traces()`] reads.
pub(crate) fn failing() -> Vec<Column> {
    [super::TRACED.as_slice(), &[Column::IsError]].concat()
}

/// Runs → the traces in which any failed, as facts.
pub(crate) fn failed_traces(runs: LogicalPlan) -> Result<LogicalPlan> {
    let failed = LogicalPlanBuilder::new(runs)
        .filter(ident(Column::IsError.name()))?
        .build()?;
    facts(failed, &[(TRACE_FAILED.to_owned(), lit(true))])
}

/// Runs with the facts of their traces, if there are any, beside their own columns.
pub(crate) fn with_facts(runs: LogicalPlan, facts: LogicalPlan) -> Result<LogicalPlan> {
    const TRACE: &str = "@trace";
    let own = columns(&runs);
    let known = columns(&facts).into_iter();
    let known = known.filter(|name| name != FACT_TRACE);
    let known: Vec<Expr> = known
        .map(|name| match name.strip_prefix(OF_ROOT) {
            Some(column) if column == Column::Tags.name() => {
                functions::texts(ident(&name), column).alias(name)
            }
            _ => ident(name),
        })
        .collect();
    let runs = LogicalPlanBuilder::new(runs)
        .project(own.iter().map(ident).chain([trace_bits().alias(TRACE)]))?
        .build()?;
    LogicalPlanBuilder::new(facts)
        .join(runs, JoinType::Right, (vec![FACT_TRACE], vec![TRACE]), None)?
        .project(own.iter().map(ident).chain(known))?
        .build()
}

/// The columns of runs that any trace is built from.
pub(crate) fn built_from() -> Vec<Column> {
    let own = [Column::StartTime, Column::RunType];
    [traces::KEY.as_slice(), &own, &USAGE].concat()
}
