//! Runs into Arrow: the 29 columns of an export, in their order and with the
//! types of the layout.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Array, DictionaryArray, Float64Array, Int32Array,
    Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use uuid::Uuid;

use super::json;
use super::plan::{Plan, Project};
use super::texts::Texts;
use super::trace::Run;
use super::{CostType, Layout};

/// Bytes of an id as text, and of a segment of `dotted_order`, with its dot.
const ID: usize = 36;
const SEGMENT: usize = 22 + ID + 1;

/// Precision and scale of costs as decimals.
const DECIMAL: (u8, i8) = (18, 12);

/// Pico-dollars in a dollar.
const PICO: f64 = 1e12;

/// Rows on their way into a batch.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    texts: &'a Texts,
    project: &'a Project,
    layout: Layout,
    cost_type: CostType,
    tenant_id: String,
    session_id: String,
    n_rows: usize,
    /// Where the JSON of a row is put together.
    scratch: String,
    id: StringBuilder,
    trace_id: StringBuilder,
    parent_run_id: StringBuilder,
    parent_run_ids: TextList,
    name: StringBuilder,
    run_type: StringBuilder,
    start_time: Vec<Option<i64>>,
    end_time: Vec<Option<i64>>,
    status: StringBuilder,
    is_root: BooleanBuilder,
    dotted_order: StringBuilder,
    trace_tier: StringBuilder,
    inputs: Vec<Option<i32>>,
    outputs: Vec<Option<i32>>,
    error: StringBuilder,
    extra: StringBuilder,
    events: StringBuilder,
    tags: TextList,
    feedback_stats: StringBuilder,
    total_tokens: Vec<Option<i64>>,
    prompt_tokens: Vec<Option<i64>>,
    completion_tokens: Vec<Option<i64>>,
    total_cost: Vec<Option<i64>>,
    prompt_cost: Vec<Option<i64>>,
    completion_cost: Vec<Option<i64>>,
    first_token_time: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    /// No rows yet, of a project.
    pub(super) fn new(plan: &Plan, project: &'a Project, texts: &'a Texts) -> Self {
        let layout = plan.options.layout;
        Self {
            texts,
            project,
            layout,
            cost_type: match layout {
                Layout::Lines => CostType::Text,
                _ => plan.options.cost_type,
            },
            tenant_id: id_text(plan.tenant),
            session_id: id_text(project.id),
            n_rows: 0,
            scratch: String::new(),
            id: StringBuilder::new(),
            trace_id: StringBuilder::new(),
            parent_run_id: StringBuilder::new(),
            parent_run_ids: TextList::new(layout),
            name: StringBuilder::new(),
            run_type: StringBuilder::new(),
            start_time: Vec::new(),
            end_time: Vec::new(),
            status: StringBuilder::new(),
            is_root: BooleanBuilder::new(),
            dotted_order: StringBuilder::new(),
            trace_tier: StringBuilder::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            error: StringBuilder::new(),
            extra: StringBuilder::new(),
            events: StringBuilder::new(),
            tags: TextList::new(layout),
            feedback_stats: StringBuilder::new(),
            total_tokens: Vec::new(),
            prompt_tokens: Vec::new(),
            completion_tokens: Vec::new(),
            total_cost: Vec::new(),
            prompt_cost: Vec::new(),
            completion_cost: Vec::new(),
            first_token_time: Vec::new(),
        }
    }

    /// The number of rows pushed since the last batch.
    pub(super) fn len(&self) -> usize {
        self.n_rows
    }

    /// The columns' names and types.
    pub(super) fn schema(&mut self) -> Result<SchemaRef, ArrowError> {
        Ok(self.finish()?.schema())
    }

    /// Adds a row.
    pub(super) fn push(&mut self, run: &Run) {
        self.n_rows += 1;
        self.push_ids(&run.dotted_order);
        self.name.append_value(run.name);
        self.run_type.append_value(run.run_type.name());
        self.start_time.push(Some(run.start_us));
        self.end_time.push(run.end_us);
        self.first_token_time.push(run.first_token_us);
        self.status.append_value(match (&run.error, run.end_us) {
            (Some(_), _) => "error",
            (None, Some(_)) => "success",
            (None, None) => "pending",
        });
        self.is_root.append_value(run.parent.is_none());
        self.trace_tier.append_value(if run.context.is_longlived {
            "longlived"
        } else {
            "shortlived"
        });
        self.push_texts(run);
        self.tags.push(run.context.tags(), &mut self.scratch);
        self.push_usage(run);
    }

    /// The rows pushed since the last batch.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let n_rows = std::mem::take(&mut self.n_rows);
        let constant =
            |text: &str| -> ArrayRef { Arc::new(StringArray::new_repeated(text, n_rows)) };
        RecordBatch::try_from_iter_with_nullable([
            ("id", finish_text(&mut self.id), true),
            ("tenant_id", constant(&self.tenant_id), true),
            ("session_id", constant(&self.session_id), true),
            ("trace_id", finish_text(&mut self.trace_id), true),
            ("parent_run_id", finish_text(&mut self.parent_run_id), true),
            ("parent_run_ids", self.parent_run_ids.finish(), true),
            (
                "reference_example_id",
                Arc::new(StringArray::new_null(n_rows)),
                true,
            ),
            ("name", finish_text(&mut self.name), true),
            ("run_type", finish_text(&mut self.run_type), true),
            ("start_time", times(self.layout, &mut self.start_time), true),
            ("end_time", times(self.layout, &mut self.end_time), true),
            ("status", finish_text(&mut self.status), true),
            ("is_root", Arc::new(self.is_root.finish()), true),
            ("dotted_order", finish_text(&mut self.dotted_order), true),
            ("trace_tier", finish_text(&mut self.trace_tier), true),
            ("inputs", pooled(self.texts, &mut self.inputs)?, true),
            ("outputs", pooled(self.texts, &mut self.outputs)?, true),
            ("error", finish_text(&mut self.error), true),
            ("extra", finish_text(&mut self.extra), true),
            ("events", finish_text(&mut self.events), true),
            ("tags", self.tags.finish(), true),
            (
                "feedback_stats",
                finish_text(&mut self.feedback_stats),
                true,
            ),
            ("total_tokens", whole(&mut self.total_tokens), true),
            ("prompt_tokens", whole(&mut self.prompt_tokens), true),
            (
                "completion_tokens",
                whole(&mut self.completion_tokens),
                true,
            ),
            (
                "total_cost",
                costs(self.cost_type, &mut self.total_cost)?,
                true,
            ),
            (
                "prompt_cost",
                costs(self.cost_type, &mut self.prompt_cost)?,
                true,
            ),
            (
                "completion_cost",
                costs(self.cost_type, &mut self.completion_cost)?,
                true,
            ),
            (
                "first_token_time",
                times(self.layout, &mut self.first_token_time),
                true,
            ),
        ])
    }

    /// Adds the ids, all of which are parts of the dotted order.
    fn push_ids(&mut self, order: &str) {
        // The last 36 bytes of a segment; segments are of equal length.
        let id_of = |segment: usize| {
            let end = (segment + 1) * SEGMENT - 1;
            order.get(end - ID..end).unwrap_or_default()
        };
        let last = order.len() / SEGMENT;
        self.id.append_value(id_of(last));
        self.trace_id.append_value(id_of(0));
        self.parent_run_id
            .append_option(last.checked_sub(1).map(id_of));
        self.parent_run_ids
            .push((0..last).map(id_of), &mut self.scratch);
        self.dotted_order.append_value(order);
    }

    /// Adds the long texts.
    fn push_texts(&mut self, run: &Run) {
        let is_done = run.end_us.is_some() && run.error.is_none();
        let input = self.texts.input(run.run_type, run.text);
        let output = self.texts.output(run.run_type, run.text);
        self.inputs.push(Some(input));
        self.outputs.push(is_done.then_some(output));
        self.error.append_option(run.error.as_deref());
        append(&mut self.extra, &mut self.scratch, |text| {
            json::push_extra(text, run, self.project);
        });
        append(&mut self.events, &mut self.scratch, |text| {
            json::push_events(text, run);
        });
        match &run.feedback {
            Some(feedback) => append(&mut self.feedback_stats, &mut self.scratch, |text| {
                json::push_feedback(text, feedback);
            }),
            None if run.parent.is_none() => self.feedback_stats.append_value("{}"),
            None => self.feedback_stats.append_null(),
        }
    }

    /// Adds tokens and costs.
    fn push_usage(&mut self, run: &Run) {
        let prompt = run.usage.map(|usage| usage.prompt_tokens);
        let completion = run.usage.map(|usage| usage.completion_tokens);
        self.prompt_tokens.push(prompt);
        self.completion_tokens.push(completion);
        self.total_tokens.push(sum(prompt, completion));
        let prompt = run.usage.and_then(|usage| usage.costs).map(|costs| costs.0);
        let completion = run.usage.and_then(|usage| usage.costs).map(|costs| costs.1);
        self.prompt_cost.push(prompt);
        self.completion_cost.push(completion);
        self.total_cost.push(sum(prompt, completion));
    }
}

/// A column of several texts a row, in either of its forms.
#[derive(Debug)]
enum TextList {
    List(ListBuilder<StringBuilder>),
    Json(StringBuilder),
}

impl TextList {
    fn new(layout: Layout) -> Self {
        match layout {
            Layout::V1 => Self::List(ListBuilder::new(StringBuilder::new())),
            Layout::V2 | Layout::Flat | Layout::Lines => Self::Json(StringBuilder::new()),
        }
    }

    fn push<'t>(&mut self, texts: impl Iterator<Item = &'t str>, scratch: &mut String) {
        match self {
            Self::List(list) => {
                texts.for_each(|text| list.values().append_value(text));
                list.append(true);
            }
            Self::Json(column) => {
                append(column, scratch, |out| json::push_array(out, texts));
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::List(list) => Arc::new(list.finish()),
            Self::Json(column) => finish_text(column),
        }
    }
}

/// Appends what the function writes.
fn append(column: &mut StringBuilder, scratch: &mut String, write: impl FnOnce(&mut String)) {
    scratch.clear();
    write(scratch);
    column.append_value(&*scratch);
}

fn finish_text(column: &mut StringBuilder) -> ArrayRef {
    Arc::new(column.finish())
}

fn whole(values: &mut Vec<Option<i64>>) -> ArrayRef {
    Arc::new(values.drain(..).collect::<Int64Array>())
}

/// Microseconds as the layout's type of time.
fn times(layout: Layout, values: &mut Vec<Option<i64>>) -> ArrayRef {
    let values = values.drain(..);
    match layout {
        // Years up to 2200 fit into nanoseconds.
        Layout::V1 => Arc::new(
            values
                .map(|time| time.map(|time_us| time_us.saturating_mul(1_000)))
                .collect::<TimestampNanosecondArray>(),
        ),
        Layout::V2 | Layout::Flat | Layout::Lines => Arc::new(
            values
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
    }
}

/// Pico-dollars as the wanted type of costs.
fn costs(cost_type: CostType, values: &mut Vec<Option<i64>>) -> Result<ArrayRef, ArrowError> {
    let values = values.drain(..);
    Ok(match cost_type {
        #[allow(
            clippy::cast_precision_loss,
            reason = "exact below 9000 dollars; one division then gives the nearest double"
        )]
        CostType::Double => Arc::new(
            values
                .map(|cost| cost.map(|pico| pico as f64 / PICO))
                .collect::<Float64Array>(),
        ),
        CostType::Decimal => Arc::new(
            values
                .map(|cost| cost.map(i128::from))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(DECIMAL.0, DECIMAL.1)?,
        ),
        CostType::Text => Arc::new(
            values
                .map(|cost| {
                    cost.map(|pico| {
                        let mut text = String::new();
                        json::push_cost(&mut text, pico);
                        text
                    })
                })
                .collect::<StringArray>(),
        ),
    })
}

/// Indices of prepared texts as a column: each text is in memory once.
fn pooled(texts: &Texts, keys: &mut Vec<Option<i32>>) -> Result<ArrayRef, ArrowError> {
    let keys: Int32Array = keys.drain(..).collect();
    let column = DictionaryArray::<Int32Type>::try_new(keys, texts.values())?;
    Ok(Arc::new(column))
}

fn sum(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    Some(one? + other?)
}

fn id_text(id: Uuid) -> String {
    let mut text = String::new();
    json::push_uuid(&mut text, id);
    text
}
