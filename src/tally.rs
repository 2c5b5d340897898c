//! Tally: the mergeable aggregate of a group of traces, and its algebra.
//!
//! A tally has two faces: this plain struct, and a row of an Arrow table, which is at once an
//! aggregation's result, a Parquet file on disk and what travels between machines. Tallies form a
//! commutative monoid: every part is an integer, a sorted map or a sketch, no float is accumulated, so
//! merging in any order gives the same bytes.

mod bytes;
pub(crate) mod count_udaf;
pub mod distinct;
mod exact;
pub mod exemplars;
pub(crate) mod facets;
pub mod feedback;
mod grouped;
pub mod money;
mod more;
pub(crate) mod part_udaf;
pub mod sketch;
pub(crate) mod sum_udaf;
mod varint;

pub use part_udaf::{
    distinct_hashes, distinct_merge, exemplars, exemplars_merge, hdr_merge, hdr_sketch,
};
pub use sum_udaf::exact_sum;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int8Array, LargeBinaryArray, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, Int8Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::logical_expr::AggregateUDF;
use uuid::Uuid;

use crate::error::{Error, Result};
use distinct::Distinct;
use exemplars::Exemplars;
use feedback::Feedback;
pub(crate) use more::{More, Part};
use sketch::Sketch;
pub(crate) use sum_udaf::SUM;

/// What is known of a group of traces, each standing for its root run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// The number of traces.
    pub n_traces: u64,
    /// Those whose root failed.
    pub n_errors: u64,
    /// Those whose root has ended.
    pub n_completed: u64,
    /// Those completed whose root streamed a first token.
    pub n_streamed: u64,
    /// Those whose root carries usage without being an LLM call: where there are any, roots contain
    /// their descendants' usage.
    pub n_composite_usage: u64,
    /// Latencies in microseconds.
    pub latency_us: Sketch,
    /// Times to first token in microseconds.
    pub first_token_us: Sketch,
    /// Token sums; `None` where no trace carries a value.
    pub tokens: Parts,
    /// Costs in pico-dollars, likewise.
    pub cost_pico: Parts,
    /// The latest start of a trace, microseconds since 1970.
    pub last_start_us: Option<i64>,
    /// The longest retention that a trace names.
    pub trace_tier: Option<TraceTier>,
    /// Feedback on the root runs.
    pub feedback: Feedback,
    /// What the question asks for beside a document's figures.
    pub(crate) more: More,
}

/// A sum and its two parts; each `None` where there was no value at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Input and output.
    pub total: Option<i128>,
    /// The input's part.
    pub prompt: Option<i128>,
    /// The output's part.
    pub completion: Option<i128>,
}

/// How long the service keeps a trace; ordered by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TraceTier {
    /// The base retention.
    Shortlived,
    /// The extended retention.
    Longlived,
}

/// The column that says which project a row's tally is of.
pub(crate) const PROJECT: &str = "session_id";
/// The column of the first moment of a row's span of time, where a file has these.
pub(crate) const START: &str = "start";
/// The column that says in which rows each run counts once, where it can be in several groups.
pub(crate) const COUNTS_ONCE: &str = "counts_once";

/// The column of a key's labels: called as the key is, unless a column of tallies is.
pub(crate) fn key_column(key: &str) -> String {
    match TallyColumn::named(key) {
        Some(_) => format!("key.{key}"),
        None => key.to_owned(),
    }
}

/// How a column of tallies merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Counts and sums are added.
    Sum,
    /// The greatest value stays.
    Max,
    /// The least value stays.
    Min,
    /// Sketches are merged from their bytes.
    Sketch,
    /// Feedback is merged from its bytes.
    Feedback,
    /// Different ones are merged from their bytes.
    Distinct,
    /// Runs that stand for values, likewise.
    Exemplars,
}

macro_rules! columns {
    ($($column:ident = $name:literal: $merge:ident),+ $(,)?) => {
        /// A column of the table whose rows are tallies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum TallyColumn { $($column),+ }

        impl TallyColumn {
            /// All columns, in their order.
            pub(crate) const ALL: &[Self] = &[$(Self::$column),+];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$column => $name),+ }
            }

            pub(crate) const fn merge(self) -> Merge {
                match self { $(Self::$column => Merge::$merge),+ }
            }
        }
    };
}

columns! {
    NTraces = "n_traces": Sum,
    NErrors = "n_errors": Sum,
    NCompleted = "n_completed": Sum,
    NStreamed = "n_streamed": Sum,
    NCompositeUsage = "n_composite_usage": Sum,
    LatencyUs = "latency_us": Sketch,
    FirstTokenUs = "first_token_us": Sketch,
    TotalTokens = "total_tokens": Sum,
    PromptTokens = "prompt_tokens": Sum,
    CompletionTokens = "completion_tokens": Sum,
    TotalCost = "total_cost": Sum,
    PromptCost = "prompt_cost": Sum,
    CompletionCost = "completion_cost": Sum,
    LastStartUs = "last_start_time": Max,
    TraceTier = "trace_tier": Max,
    Feedback = "feedback": Feedback,
    // Beside a document's: the values of quantities, their sums and numbers, none below zero among them.
    FirstStartUs = "first_start_time": Min,
    LatencySum = "latency_us_sum": Sum,
    LatencyN = "latency_us_n": Sum,
    FirstTokenSum = "first_token_us_sum": Sum,
    FirstTokenN = "first_token_us_n": Sum,
    TotalTokensEach = "total_tokens_each": Sketch,
    TotalTokensSum = "total_tokens_each_sum": Sum,
    TotalTokensN = "total_tokens_each_n": Sum,
    PromptTokensEach = "prompt_tokens_each": Sketch,
    PromptTokensSum = "prompt_tokens_each_sum": Sum,
    PromptTokensN = "prompt_tokens_each_n": Sum,
    CompletionTokensEach = "completion_tokens_each": Sketch,
    CompletionTokensSum = "completion_tokens_each_sum": Sum,
    CompletionTokensN = "completion_tokens_each_n": Sum,
    TotalCostEach = "total_cost_each": Sketch,
    TotalCostSum = "total_cost_each_sum": Sum,
    TotalCostN = "total_cost_each_n": Sum,
    // Thousandths of output tokens a second, and nanoseconds an output token.
    PaceEach = "pace_each": Sketch,
    PaceSum = "pace_each_sum": Sum,
    PaceN = "pace_each_n": Sum,
    TokenTimeEach = "token_time_each": Sketch,
    TokenTimeSum = "token_time_each_sum": Sum,
    TokenTimeN = "token_time_each_n": Sum,
    CachedTokens = "cached_tokens": Sum,
    ReasoningTokens = "reasoning_tokens": Sum,
    CachedCost = "cached_cost": Sum,
    ReasoningCost = "reasoning_cost": Sum,
    NErrorTraces = "n_error_traces": Sum,
    Traces = "distinct_traces": Distinct,
    Users = "distinct_users": Distinct,
    Threads = "distinct_threads": Distinct,
    // Runs that stand for the values of a quantity.
    LatencyRuns = "latency_us_runs": Exemplars,
    FirstTokenRuns = "first_token_us_runs": Exemplars,
    TotalTokensRuns = "total_tokens_runs": Exemplars,
    PromptTokensRuns = "prompt_tokens_runs": Exemplars,
    CompletionTokensRuns = "completion_tokens_runs": Exemplars,
    TotalCostRuns = "total_cost_runs": Exemplars,
    PaceRuns = "pace_runs": Exemplars,
    TokenTimeRuns = "token_time_runs": Exemplars,
}

/// How many columns a document needs; they come first.
const N_OF_DOCUMENT: usize = 16;

impl TallyColumn {
    /// Those that a document needs.
    pub(crate) const DOCUMENT: &[Self] = Self::ALL.split_at(N_OF_DOCUMENT).0;

    /// The column of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|column| column.name() == name)
            .copied()
    }

    pub(crate) fn data_type(self) -> DataType {
        match self.merge() {
            Merge::Sum => SUM,
            Merge::Sketch | Merge::Feedback | Merge::Distinct | Merge::Exemplars => {
                DataType::LargeBinary
            }
            Merge::Max if self == Self::TraceTier => DataType::Int8,
            Merge::Max | Merge::Min => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }
}

/// The aggregate functions of this module, for registration.
pub(crate) fn functions() -> [Arc<AggregateUDF>; 11] {
    [
        part_udaf::hdr_sketch(),
        part_udaf::hdr_sketch_of_sums(),
        part_udaf::hdr_merge(),
        part_udaf::feedback_tally(),
        part_udaf::feedback_merge(),
        part_udaf::distinct_hashes(),
        part_udaf::distinct_merge(),
        part_udaf::exemplars(),
        part_udaf::exemplars_merge(),
        sum_udaf::exact_sum(),
        count_udaf::count_true(),
    ]
}

impl Tally {
    /// Adds another group of traces to this one.
    ///
    /// # Errors
    ///
    /// Where a sum passes its bounds.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        // Taken apart without `..`, so that a new part is not forgotten.
        let Self {
            n_traces,
            n_errors,
            n_completed,
            n_streamed,
            n_composite_usage,
            latency_us,
            first_token_us,
            tokens,
            cost_pico,
            last_start_us,
            trace_tier,
            feedback,
            more,
        } = other;
        let counts = [
            (&mut self.n_traces, n_traces),
            (&mut self.n_errors, n_errors),
            (&mut self.n_completed, n_completed),
            (&mut self.n_streamed, n_streamed),
            (&mut self.n_composite_usage, n_composite_usage),
        ];
        for (count, more) in counts {
            *count = count.checked_add(*more).ok_or_else(|| overflow("count"))?;
        }
        let bad = |error: &dyn std::error::Error| Error::BadData {
            problem: error.to_string(),
        };
        self.latency_us.merge(latency_us).map_err(|e| bad(&e))?;
        let first_token = self.first_token_us.merge(first_token_us);
        first_token.map_err(|e| bad(&e))?;
        self.tokens.add(*tokens)?;
        self.cost_pico.add(*cost_pico)?;
        self.last_start_us = self.last_start_us.max(*last_start_us);
        self.trace_tier = self.trace_tier.max(*trace_tier);
        self.more.merge(more)?;
        self.feedback.merge(feedback).map_err(|e| bad(&e))
    }

    /// The schema of projects' tallies as rows.
    #[must_use]
    pub fn schema() -> SchemaRef {
        let project = Field::new(PROJECT, DataType::Utf8View, true);
        let columns = TallyColumn::DOCUMENT
            .iter()
            .map(|column| Field::new(column.name(), column.data_type(), true));
        Arc::new(Schema::new(
            std::iter::once(project).chain(columns).collect::<Vec<_>>(),
        ))
    }

    /// Reads the tally in a row of a table that has all columns of [`Tally::schema`], in any order.
    ///
    /// # Errors
    ///
    /// [`Error::BadData`] where a column is missing or of another type, a sketch or feedback is no valid
    /// one, or a token sum passes 64 bits.
    pub fn from_row(batch: &RecordBatch, row: usize) -> Result<Self> {
        for column in TallyColumn::DOCUMENT {
            if batch.column_by_name(column.name()).is_none() {
                return Err(wrong(*column, "no such column"));
            }
        }
        Rows::of(batch).tally(row)
    }

    /// Writes projects' tallies as rows with the columns of [`Tally::schema`].
    ///
    /// # Errors
    ///
    /// [`Error::BadData`] where the arrays do not fit together, which cannot happen.
    pub fn to_batch(tallies: &BTreeMap<Uuid, Self>) -> Result<RecordBatch> {
        let projects: StringViewArray = tallies
            .keys()
            .map(|project| Some(project.to_string()))
            .collect();
        let rows: Vec<&Self> = tallies.values().collect();
        let columns = TallyColumn::DOCUMENT
            .iter()
            .map(|column| column_of(*column, &rows));
        let columns = std::iter::once(Arc::new(projects) as ArrayRef).chain(columns);
        RecordBatch::try_new(Self::schema(), columns.collect()).map_err(|error| Error::BadData {
            problem: error.to_string(),
        })
    }
}

impl Parts {
    fn add(&mut self, other: Self) -> Result<()> {
        let parts = [
            (&mut self.total, other.total),
            (&mut self.prompt, other.prompt),
            (&mut self.completion, other.completion),
        ];
        for (sum, more) in parts {
            *sum = match (*sum, more) {
                (Some(sum), Some(more)) => {
                    Some(sum.checked_add(more).ok_or_else(|| overflow("sum"))?)
                }
                (one, other) => one.or(other),
            };
        }
        Ok(())
    }
}

impl TraceTier {
    /// The tier by its name in either version of the API.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "longlived" | "LONG_LIVED" => Some(Self::Longlived),
            "shortlived" | "SHORT_LIVED" => Some(Self::Shortlived),
            _ => None,
        }
    }

    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shortlived => "shortlived",
            Self::Longlived => "longlived",
        }
    }

    /// Its rank in a tally's row.
    pub(crate) const fn rank(self) -> i8 {
        match self {
            Self::Shortlived => 1,
            Self::Longlived => 2,
        }
    }
}

/// One array of tallies' values.
fn column_of(column: TallyColumn, tallies: &[&Tally]) -> ArrayRef {
    let sums = |value: fn(&Tally) -> Option<i128>| -> ArrayRef {
        let values: Decimal128Array = tallies.iter().map(|tally| value(tally)).collect();
        Arc::new(values.with_data_type(SUM))
    };
    let bytes = |bytes: fn(&Tally) -> Vec<u8>| -> ArrayRef {
        let values = tallies.iter().map(|tally| Some(bytes(tally)));
        Arc::new(values.collect::<LargeBinaryArray>())
    };
    match column {
        TallyColumn::NTraces => sums(|tally| Some(tally.n_traces.into())),
        TallyColumn::NErrors => sums(|tally| Some(tally.n_errors.into())),
        TallyColumn::NCompleted => sums(|tally| Some(tally.n_completed.into())),
        TallyColumn::NStreamed => sums(|tally| Some(tally.n_streamed.into())),
        TallyColumn::NCompositeUsage => sums(|tally| Some(tally.n_composite_usage.into())),
        TallyColumn::LatencyUs => bytes(|tally| tally.latency_us.to_bytes()),
        TallyColumn::FirstTokenUs => bytes(|tally| tally.first_token_us.to_bytes()),
        TallyColumn::TotalTokens => sums(|tally| tally.tokens.total),
        TallyColumn::PromptTokens => sums(|tally| tally.tokens.prompt),
        TallyColumn::CompletionTokens => sums(|tally| tally.tokens.completion),
        TallyColumn::TotalCost => sums(|tally| tally.cost_pico.total),
        TallyColumn::PromptCost => sums(|tally| tally.cost_pico.prompt),
        TallyColumn::CompletionCost => sums(|tally| tally.cost_pico.completion),
        TallyColumn::LastStartUs => {
            let times = tallies.iter().map(|tally| tally.last_start_us);
            Arc::new(times.collect::<TimestampMicrosecondArray>())
        }
        TallyColumn::TraceTier => {
            let ranks = tallies
                .iter()
                .map(|tally| tally.trace_tier.map(TraceTier::rank));
            Arc::new(ranks.collect::<Int8Array>())
        }
        TallyColumn::Feedback => bytes(|tally| tally.feedback.to_bytes()),
        column => column_of_more(column, tallies),
    }
}

/// The same of what is beside a document's parts.
fn column_of_more(column: TallyColumn, tallies: &[&Tally]) -> ArrayRef {
    let parts = tallies.iter().map(|tally| tally.more.get(column));
    match column.merge() {
        Merge::Sum => {
            let sums = tallies.iter().map(|tally| tally.more.sum(column));
            Arc::new(sums.collect::<Decimal128Array>().with_data_type(SUM))
        }
        Merge::Max | Merge::Min => {
            let moments = tallies.iter().map(|tally| tally.more.least(column));
            Arc::new(moments.collect::<TimestampMicrosecondArray>())
        }
        Merge::Sketch | Merge::Feedback | Merge::Distinct | Merge::Exemplars => {
            let bytes = parts.map(|part| part.and_then(Part::to_bytes));
            Arc::new(bytes.collect::<LargeBinaryArray>())
        }
    }
}

/// Rows of tallies with any of the columns.
pub(crate) struct Rows<'a> {
    /// The columns in the order of [`TallyColumn::ALL`].
    columns: Vec<Option<&'a ArrayRef>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Self {
        let columns = TallyColumn::ALL.iter();
        Self {
            columns: columns
                .map(|column| batch.column_by_name(column.name()))
                .collect(),
        }
    }

    /// Reads the tally in a row; what has no column is empty.
    pub(crate) fn tally(&self, row: usize) -> Result<Tally> {
        let row = Row { rows: self, row };
        let mut more = More::default();
        for column in TallyColumn::ALL.iter().skip(N_OF_DOCUMENT) {
            if let Some(part) = row.part(*column)? {
                more.set(*column, part);
            }
        }
        Ok(Tally {
            n_traces: row.count(TallyColumn::NTraces)?,
            n_errors: row.count(TallyColumn::NErrors)?,
            n_completed: row.count(TallyColumn::NCompleted)?,
            n_streamed: row.count(TallyColumn::NStreamed)?,
            n_composite_usage: row.count(TallyColumn::NCompositeUsage)?,
            latency_us: row.sketch(TallyColumn::LatencyUs)?,
            first_token_us: row.sketch(TallyColumn::FirstTokenUs)?,
            tokens: Parts {
                total: row.tokens(TallyColumn::TotalTokens)?,
                prompt: row.tokens(TallyColumn::PromptTokens)?,
                completion: row.tokens(TallyColumn::CompletionTokens)?,
            },
            cost_pico: Parts {
                total: row.sum(TallyColumn::TotalCost)?,
                prompt: row.sum(TallyColumn::PromptCost)?,
                completion: row.sum(TallyColumn::CompletionCost)?,
            },
            last_start_us: row.time(TallyColumn::LastStartUs)?,
            trace_tier: row.tier()?,
            feedback: row.feedback()?,
            more,
        })
    }
}

/// A row of tallies, read a column at a time.
struct Row<'a> {
    rows: &'a Rows<'a>,
    row: usize,
}

impl Row<'_> {
    /// The column, where there is one and it has a value in this row.
    fn value(&self, column: TallyColumn) -> Option<&ArrayRef> {
        let values = self.rows.columns.get(column as usize)?;
        values.filter(|values| values.is_valid(self.row))
    }

    /// A part that no document needs.
    fn part(&self, column: TallyColumn) -> Result<Option<Part>> {
        if self.value(column).is_none() {
            return Ok(None);
        }
        Ok(match column.merge() {
            Merge::Sum => self.sum(column)?.map(Part::Sum),
            Merge::Max | Merge::Min => self.time(column)?.map(Part::Least),
            Merge::Sketch | Merge::Feedback => Some(Part::Sketch(self.sketch(column)?)),
            Merge::Distinct => self
                .read_bytes(column, Distinct::from_bytes)?
                .map(Part::Distinct),
            Merge::Exemplars => {
                let exemplars = self.read_bytes(column, Exemplars::from_bytes)?;
                exemplars.map(Part::Exemplars)
            }
        })
    }

    fn count(&self, column: TallyColumn) -> Result<u64> {
        let count = self.sum(column)?.unwrap_or(0);
        u64::try_from(count).map_err(|_| wrong(column, &format!("a count of {count}")))
    }

    /// Token sums hold 64 bits.
    fn tokens(&self, column: TallyColumn) -> Result<Option<i128>> {
        let sum = self.sum(column)?;
        if sum.is_some_and(|sum| i64::try_from(sum).is_err()) {
            return Err(wrong(column, "a sum beyond 64 bits"));
        }
        Ok(sum)
    }

    fn sum(&self, column: TallyColumn) -> Result<Option<i128>> {
        let Some(values) = self.value(column) else {
            return Ok(None);
        };
        if let Some(sums) = values.as_primitive_opt::<Decimal128Type>() {
            Ok(Some(sums.value(self.row)))
        } else if let Some(counts) = values.as_primitive_opt::<Int64Type>() {
            Ok(Some(counts.value(self.row).into()))
        } else {
            Err(wrong(column, &values.data_type().to_string()))
        }
    }

    fn time(&self, column: TallyColumn) -> Result<Option<i64>> {
        let Some(values) = self.value(column) else {
            return Ok(None);
        };
        let times = values.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| wrong(column, &values.data_type().to_string()))?;
        Ok(Some(times.value(self.row)))
    }

    fn tier(&self) -> Result<Option<TraceTier>> {
        let Some(values) = self.value(TallyColumn::TraceTier) else {
            return Ok(None);
        };
        match values
            .as_primitive_opt::<Int8Type>()
            .map(|ranks| ranks.value(self.row))
        {
            Some(1) => Ok(Some(TraceTier::Shortlived)),
            Some(2) => Ok(Some(TraceTier::Longlived)),
            _ => Err(wrong(TallyColumn::TraceTier, "neither 1 nor 2")),
        }
    }

    fn sketch(&self, column: TallyColumn) -> Result<Sketch> {
        let Some(bytes) = self.bytes(column)? else {
            return Ok(Sketch::default());
        };
        Sketch::from_bytes(bytes).map_err(|error| wrong(column, &error.to_string()))
    }

    fn feedback(&self) -> Result<Feedback> {
        let Some(bytes) = self.bytes(TallyColumn::Feedback)? else {
            return Ok(Feedback::default());
        };
        Feedback::from_bytes(bytes)
            .map_err(|error| wrong(TallyColumn::Feedback, &error.to_string()))
    }

    fn read_bytes<T, E: std::error::Error>(
        &self,
        column: TallyColumn,
        read: impl Fn(&[u8]) -> Result<T, E>,
    ) -> Result<Option<T>> {
        let bytes = self.bytes(column)?;
        let part = bytes.map(read).transpose();
        part.map_err(|error| wrong(column, &error.to_string()))
    }

    fn bytes(&self, column: TallyColumn) -> Result<Option<&[u8]>> {
        let Some(values) = self.value(column) else {
            return Ok(None);
        };
        let bytes = values.as_binary_opt::<i64>();
        let bytes = bytes.ok_or_else(|| wrong(column, &values.data_type().to_string()))?;
        Ok(Some(bytes.value(self.row)))
    }
}

fn wrong(column: TallyColumn, found: &str) -> Error {
    Error::BadData {
        problem: format!("tally column {}: {found}", column.name()),
    }
}

fn overflow(what: &str) -> Error {
    Error::BadData {
        problem: format!("a {what} passes its bounds"),
    }
}
