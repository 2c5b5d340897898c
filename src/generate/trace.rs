//! One trace: a root and what it calls, as a pure function of random bits.
//!
//! A trace is drawn with times relative to its start ([`trace`]), so that its
//! length is known before it gets a place in the day ([`Trace::place`]). Of
//! what is drawn, the number of random bits used never depends on whether an
//! early or a late export is made: both have the same runs.

use std::fmt::Write as _;
use std::ops::AddAssign;

use uuid::Uuid;

use super::catalog::{
    ENVIRONMENT_WEIGHTS, ENVIRONMENTS, FAILURE_WEIGHTS, Failure, LLM_FAILURES, MODEL_WEIGHTS,
    MODELS, Model, STEP_FAILURES, TAGS, TEAMS, TOOLS, TOPICS,
};
use super::json;
use super::plan::Plan;
use super::random::{Stream, scale, to_index};

/// A trace is of use only where all its runs start within this time,
/// microseconds; less than a slot of the plan.
pub(super) const MAX_SPAN_US: i64 = 14 * 60 * 1_000_000;

/// Shares of 10 000.
const LLM_FAILS: u64 = 160;
const TOOL_FAILS: u64 = 300;
const OTHER_FAILS: u64 = 15;
const FAILURE_PROPAGATES: u64 = 8_500;
const TRACE_STREAMS: u64 = 6_000;
const INNER_CALL_STREAMS: u64 = 2_500;
const TRACE_IS_LONGLIVED: u64 = 3_000;
const TRACE_HAS_FEEDBACK: u64 = 1_500;
/// Of the traces of an early export, those that end only in the later one.
const ENDS_LATE: u64 = 200;
const FEEDBACK_IS_LATE: u64 = 5_000;

/// How often a root is: a lone call of a model, a chain around one call, a
/// prompt with its answer, retrieval with an answer, an agent with tools.
const SHAPE_WEIGHTS: &[u64] = &[14, 20, 31, 20, 15];

/// How often an agent takes one step, two, …
const AGENT_STEP_WEIGHTS: &[u64] = &[30, 34, 22, 14];

/// What a step of an agent calls after the model: a tool, a tool that calls a
/// model itself, a retriever.
const AGENT_TOOL_WEIGHTS: &[u64] = &[60, 25, 15];

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunType {
    Chain,
    Llm,
    Tool,
    Retriever,
    Embedding,
    Prompt,
    Parser,
}

impl RunType {
    /// The text of the column `run_type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Llm => "llm",
            Self::Tool => "tool",
            Self::Retriever => "retriever",
            Self::Embedding => "embedding",
            Self::Prompt => "prompt",
            Self::Parser => "parser",
        }
    }
}

/// A run. Before its trace has a place, times count from the trace's start.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_field_names,
    reason = "the run's type is called so everywhere"
)]
pub(super) struct Run {
    pub(super) id: Uuid,
    /// `<start>Z<id>` of the root, …, of the parent and of the run, joined by
    /// dots: all ids of a run can be read from it. Empty before `place`.
    pub(super) dotted_order: String,
    /// Index of the parent in the trace; none for the root.
    pub(super) parent: Option<usize>,
    pub(super) run_type: RunType,
    pub(super) name: &'static str,
    pub(super) start_us: i64,
    /// None while pending.
    pub(super) end_us: Option<i64>,
    pub(super) first_token_us: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) model: Option<&'static Model>,
    pub(super) usage: Option<Usage>,
    pub(super) feedback: Option<Feedback>,
    /// Which of the prepared texts the run has.
    pub(super) text: u64,
    /// An id that no other run has.
    pub(super) request: Uuid,
    pub(super) context: Context,
}

/// What all runs of a trace share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) user: u32,
    pub(super) thread: Uuid,
    pub(super) team: &'static str,
    pub(super) environment: &'static str,
    pub(super) revision: u32,
    pub(super) is_longlived: bool,
    /// A bit for each of [`TAGS`].
    tags: u64,
}

impl Context {
    /// The tags of the trace, sorted.
    pub(super) fn tags(self) -> impl Iterator<Item = &'static str> {
        let bits = self.tags;
        let has = move |index: usize| (bits >> index) & 1 == 1;
        TAGS.iter()
            .enumerate()
            .filter(move |(index, _)| has(*index))
            .map(|(_, tag)| *tag)
    }
}

/// Tokens, and their costs in pico-dollars where there is a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt_tokens: i64,
    pub(super) completion_tokens: i64,
    /// Of the prompt and of the completion.
    pub(super) costs: Option<(i64, i64)>,
}

impl AddAssign for Usage {
    /// A missing cost adds nothing.
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.costs = match (self.costs, other.costs) {
            (Some(a), Some(b)) => Some((a.0 + b.0, a.1 + b.1)),
            (one, None) | (None, one) => one,
        };
    }
}

/// What people and evaluators said about a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feedback {
    pub(super) user_score: Option<bool>,
    /// In quarters.
    pub(super) correctness: Option<u64>,
    pub(super) topic: Option<&'static str>,
    /// Scores 0.5 and 1 by two evaluators.
    pub(super) has_conciseness: bool,
}

/// Where a trace belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) plan: &'a Plan,
    pub(super) project: usize,
    pub(super) day: u32,
    /// The export was made before all was complete.
    pub(super) is_early: bool,
}

/// A trace without a place: times count from its start; parents come before
/// their children.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) runs: Vec<Run>,
}

impl Trace {
    /// When the last of its runs starts.
    pub(super) fn last_start_us(&self) -> i64 {
        self.runs.iter().map(|run| run.start_us).max().unwrap_or(0)
    }

    /// The runs of the trace where it starts at the given time.
    pub(super) fn place(mut self, start_us: i64) -> Vec<Run> {
        let mut orders: Vec<String> = Vec::with_capacity(self.runs.len());
        for run in &mut self.runs {
            run.start_us += start_us;
            run.end_us = run.end_us.map(|end_us| end_us + start_us);
            run.first_token_us = run.first_token_us.map(|first_us| first_us + start_us);
            let above = run.parent.and_then(|parent| orders.get(parent));
            let mut order = String::with_capacity(59 + above.map_or(0, String::len));
            if let Some(above) = above {
                order.push_str(above);
                order.push('.');
            }
            json::push_compact_time(&mut order, run.start_us);
            json::push_uuid(&mut order, run.id);
            run.dotted_order.clone_from(&order);
            orders.push(order);
        }
        self.runs
    }
}

/// Draws a trace.
pub(super) fn trace(stream: &mut Stream, scene: &Scene<'_>) -> Trace {
    let mut parts = Vec::new();
    match stream.weighted(SHAPE_WEIGHTS) {
        0 => return lone_call(stream, scene),
        1 => parts.push(Part::Answer),
        2 => parts.extend([Part::Prompt, Part::Answer, Part::Parse]),
        3 => parts.extend([Part::Retrieve, Part::Prompt, Part::Answer]),
        _ => {
            for _ in 0..=stream.weighted(AGENT_STEP_WEIGHTS) {
                parts.push(Part::Think);
                parts.push(match stream.weighted(AGENT_TOOL_WEIGHTS) {
                    0 => Part::Tool,
                    1 => Part::Research,
                    _ => Part::Retrieve,
                });
            }
            parts.push(Part::Answer);
        }
    }
    let mut draft = Draft::new(stream, scene);
    let root = draft.open(None, Part::Root, 0);
    let outcome = draft.children(root, &parts, 0);
    draft.close(root, outcome);
    draft.finish(scene)
}

/// Draws a trace that is a single call of a model.
pub(super) fn lone_call(stream: &mut Stream, scene: &Scene<'_>) -> Trace {
    let mut draft = Draft::new(stream, scene);
    draft.run(None, Part::Answer, 0);
    draft.finish(scene)
}

/// A run in the shape of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Root,
    /// A call of a model on the way to the answer.
    Think,
    /// The call of a model whose text the user sees.
    Answer,
    Tool,
    /// A tool that asks a model itself.
    Research,
    Summarize,
    Retrieve,
    Embed,
    Prompt,
    Parse,
}

impl Part {
    fn run_type(self) -> RunType {
        match self {
            Self::Root | Self::Summarize => RunType::Chain,
            Self::Think | Self::Answer => RunType::Llm,
            Self::Tool | Self::Research => RunType::Tool,
            Self::Retrieve => RunType::Retriever,
            Self::Embed => RunType::Embedding,
            Self::Prompt => RunType::Prompt,
            Self::Parse => RunType::Parser,
        }
    }

    /// What it calls, one after the other.
    fn children(self) -> &'static [Self] {
        match self {
            Self::Research => &[Self::Summarize],
            Self::Summarize => &[Self::Think],
            Self::Retrieve => &[Self::Embed],
            _ => &[],
        }
    }
}

/// How a run ended.
#[derive(Debug)]
struct Outcome {
    end_us: i64,
    error: Option<String>,
}

/// A trace in the making.
#[derive(Debug)]
struct Draft<'a> {
    stream: &'a mut Stream,
    root_name: &'static str,
    model: &'static Model,
    does_stream: bool,
    context: Context,
    runs: Vec<Run>,
}

impl<'a> Draft<'a> {
    fn new(stream: &'a mut Stream, scene: &Scene<'_>) -> Self {
        let plan = scene.plan;
        let users = u64::from(plan.options.users);
        // The square of a uniform value: few users are busy, none is idle.
        let bits = stream.bits();
        let user = scale(bits, scale(stream.bits(), users) + 1);
        let user = u32::try_from(user).unwrap_or(0);
        let conversation = stream.below(3);
        let persona = plan
            .projects
            .get(scene.project)
            .map(|project| project.persona);
        let model_index = stream.weighted(MODEL_WEIGHTS) + scene.project;
        let context = Context {
            user,
            thread: plan.thread_id(scene.project, scene.day, user, conversation),
            team: TEAMS[user as usize % TEAMS.len()],
            environment: ENVIRONMENTS[stream.weighted(ENVIRONMENT_WEIGHTS)],
            revision: scene.day / 2,
            is_longlived: stream.chance(TRACE_IS_LONGLIVED),
            tags: stream.bits() & stream.bits() & stream.bits(),
        };
        Self {
            root_name: persona.map_or("agent", |persona| persona.root),
            model: &MODELS[model_index % MODELS.len()],
            does_stream: stream.chance(TRACE_STREAMS),
            context,
            runs: Vec::with_capacity(8),
            stream,
        }
    }

    /// Draws a run with all below it; returns how and when it ended.
    fn run(&mut self, parent: Option<usize>, part: Part, start_us: i64) -> Outcome {
        let index = self.open(parent, part, start_us);
        let outcome = match part.children() {
            [] => self.leaf(index, part, start_us),
            parts => self.children(index, parts, start_us),
        };
        self.close(index, outcome)
    }

    /// Adds a run that has started.
    fn open(&mut self, parent: Option<usize>, part: Part, start_us: i64) -> usize {
        let run_type = part.run_type();
        let model = (run_type == RunType::Llm).then_some(self.model);
        let name = match part {
            Part::Root => self.root_name,
            Part::Think | Part::Answer => self.model.client,
            Part::Tool => self.stream.pick(TOOLS),
            Part::Research => "research",
            Part::Summarize => "summarize",
            Part::Retrieve => "vector_search",
            Part::Embed => "embed_query",
            Part::Prompt => "prompt_template",
            Part::Parse => "output_parser",
        };
        self.runs.push(Run {
            id: self.stream.uuid(),
            dotted_order: String::new(),
            parent,
            run_type,
            name,
            start_us,
            end_us: None,
            first_token_us: None,
            error: None,
            model,
            usage: None,
            feedback: None,
            text: self.stream.bits(),
            request: self.stream.uuid(),
            context: self.context,
        });
        self.runs.len() - 1
    }

    /// Ends a run.
    fn close(&mut self, index: usize, outcome: Outcome) -> Outcome {
        if let Some(run) = self.runs.get_mut(index) {
            run.end_us = Some(outcome.end_us);
            run.error.clone_from(&outcome.error);
        }
        outcome
    }

    /// Draws the children of a run, one after the other; a failure mostly
    /// ends the parent too.
    fn children(&mut self, parent: usize, parts: &[Part], start_us: i64) -> Outcome {
        let mut now_us = start_us;
        for &part in parts {
            now_us += self.pause_us();
            let outcome = self.run(Some(parent), part, now_us);
            now_us = outcome.end_us;
            if outcome.error.is_some() && self.stream.chance(FAILURE_PROPAGATES) {
                return Outcome {
                    end_us: now_us + self.pause_us(),
                    ..outcome
                };
            }
        }
        Outcome {
            end_us: now_us + self.pause_us(),
            error: None,
        }
    }

    /// Draws what a run without children does.
    fn leaf(&mut self, index: usize, part: Part, start_us: i64) -> Outcome {
        let (median_us, spread, fails) = match part.run_type() {
            RunType::Llm => return self.call(index, part, start_us),
            RunType::Tool => (280_000, 100, TOOL_FAILS),
            RunType::Retriever | RunType::Chain => (110_000, 60, OTHER_FAILS),
            RunType::Embedding => (55_000, 50, OTHER_FAILS),
            RunType::Prompt | RunType::Parser => (900, 70, OTHER_FAILS),
        };
        let took_us = self.stream.log_normal(median_us, spread) + 1;
        Outcome {
            end_us: start_us.saturating_add_unsigned(took_us),
            error: self.failure(fails, STEP_FAILURES),
        }
    }

    /// Draws the call of a model.
    fn call(&mut self, index: usize, part: Part, start_us: i64) -> Outcome {
        let model = self.model;
        let stream = &mut *self.stream;
        let first_us = stream.log_normal(model.first_token_us, 55) + 1;
        let token_us = stream.log_normal(model.token_us, 30);
        let prompt_tokens = stream.log_normal(820, 90).clamp(8, 120_000);
        let (median, most) = match part {
            Part::Think => (70, 2_000),
            _ => (190, 4_000),
        };
        let completion_tokens = stream.log_normal(median, 80).clamp(1, most);
        let streams = match part {
            Part::Answer => self.does_stream,
            _ => self.does_stream && stream.chance(INNER_CALL_STREAMS),
        };
        // Where a call fails, half of its time has passed, so that it may
        // have begun to stream.
        let error = self.failure(LLM_FAILS, LLM_FAILURES);
        let all_us = first_us + token_us * completion_tokens;
        let took_us = if error.is_some() { all_us / 2 } else { all_us } + 1;
        let Some(run) = self.runs.get_mut(index) else {
            return Outcome {
                end_us: start_us,
                error,
            };
        };
        if streams && first_us < took_us {
            run.first_token_us = Some(start_us.saturating_add_unsigned(first_us));
        }
        if error.is_none() {
            run.usage = Some(usage(model, prompt_tokens, completion_tokens));
        }
        Outcome {
            end_us: start_us.saturating_add_unsigned(took_us),
            error,
        }
    }

    /// The text of a failure, in `share` of 10 000 cases.
    fn failure(&mut self, share: u64, failures: &[Failure]) -> Option<String> {
        if !self.stream.chance(share) {
            return None;
        }
        let kind = self.stream.weighted(FAILURE_WEIGHTS);
        let number = self.stream.between(2, 60_000);
        let (before, after) = failures.get(kind)?;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{number}{after}");
        Some(text)
    }

    /// Time that passes between two steps of a run.
    fn pause_us(&mut self) -> i64 {
        1_i64.saturating_add_unsigned(self.stream.log_normal(1_200, 80))
    }

    /// Makes a trace of the runs: what is still pending, what roots add up.
    fn finish(self, scene: &Scene<'_>) -> Trace {
        let Self {
            stream, mut runs, ..
        } = self;
        let pending = stream.below(10_000);
        let ends_late = stream.chance(ENDS_LATE);
        let feedback = stream.chance(TRACE_HAS_FEEDBACK);
        let (said, is_late) = (draw_feedback(stream), stream.chance(FEEDBACK_IS_LATE));
        let never_ends = pending < u64::from(scene.plan.options.pending_share);
        if never_ends || (ends_late && scene.is_early) {
            suspend(&mut runs);
        }
        if !scene.plan.options.own_only_roots {
            add_up(&mut runs);
        }
        let first_token_us = root_first_token(&runs);
        if let Some(root) = runs.first_mut() {
            root.first_token_us = first_token_us;
            if feedback && root.end_us.is_some() && !(is_late && scene.is_early) {
                root.feedback = Some(said);
            }
        }
        Trace { runs }
    }
}

/// Tokens and their exact costs.
fn usage(model: &Model, prompt_tokens: u64, completion_tokens: u64) -> Usage {
    let prompt_tokens = 0_i64.saturating_add_unsigned(prompt_tokens);
    let completion_tokens = 0_i64.saturating_add_unsigned(completion_tokens);
    let costs = model
        .price
        .map(|(prompt, completion)| (prompt * prompt_tokens, completion * completion_tokens));
    Usage {
        prompt_tokens,
        completion_tokens,
        costs,
    }
}

/// What may be said about a trace.
fn draw_feedback(stream: &mut Stream) -> Feedback {
    let user_score = stream.chance(6_000).then_some(stream.chance(7_800));
    let correctness = stream
        .chance(5_000)
        .then_some(4 - stream.below(5) * stream.below(2));
    let topic = TOPICS.get(to_index(stream.below(2 * TOPICS.len() as u64)));
    Feedback {
        user_score,
        correctness,
        topic: topic.copied(),
        has_conciseness: stream.chance(800),
    }
}

/// Leaves a trace without failures pending: its root and, below it, always
/// the last child, which have neither end nor usage.
fn suspend(runs: &mut [Run]) {
    if runs.iter().any(|run| run.error.is_some()) {
        return;
    }
    let mut last = Some(0);
    while let Some(index) = last {
        if let Some(run) = runs.get_mut(index) {
            run.end_us = None;
            run.usage = None;
        }
        last = runs.iter().rposition(|run| run.parent == Some(index));
    }
}

/// Adds each run's usage to its parent's, from the leaves up.
fn add_up(runs: &mut [Run]) {
    for index in (1..runs.len()).rev() {
        let (above, from) = runs.split_at_mut(index);
        let Some(run) = from.first() else { continue };
        let Some(usage) = run.usage else { continue };
        let Some(parent) = run.parent.and_then(|parent| above.get_mut(parent)) else {
            continue;
        };
        match &mut parent.usage {
            Some(sum) => *sum += usage,
            none => *none = Some(usage),
        }
    }
}

/// The first token of any call, where the last call of all streamed.
fn root_first_token(runs: &[Run]) -> Option<i64> {
    let calls = || runs.iter().filter(|run| run.run_type == RunType::Llm);
    calls().next_back()?.first_token_us?;
    calls().filter_map(|call| call.first_token_us).min()
}
