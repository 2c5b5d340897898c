//! Which projects a request for a list asks for, in which order, and which part of them.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::access::Scope;
use super::current::Shared;
use super::failure::Failure;
use super::given::Given;
use crate::filter::{Condition, Field, Order, Subject, Test, Value as Wanted};
use crate::{Filter, Projects, Request, TracerSession, Window};

/// The header with the number of all projects that are meant.
pub(super) const TOTAL: &str = "x-pagination-total";

/// What is asked of projects' statistics.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    pub(super) are_asked: bool,
    pub(super) window: Window,
    pub(super) filter: Option<Filter>,
    pub(super) facets: bool,
    /// The only ones that are shown, where not all are.
    pub(super) select: Option<BTreeSet<String>>,
}

/// The names of statistics.
const STATISTICS: [&str; 19] = [
    "run_count",
    "latency_p50",
    "latency_p99",
    "first_token_p50",
    "first_token_p99",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "last_run_start_time",
    "last_run_start_time_live",
    "feedback_stats",
    "session_feedback_stats",
    "run_facets",
    "error_rate",
    "streaming_rate",
    "test_run_number",
];

impl Statistics {
    /// Reads what is asked; `facets` is how that is called.
    pub(super) fn read(given: &Given, facets: &str) -> Result<Self, Failure> {
        let select: BTreeSet<String> = given.words("stats_select").into_iter().collect();
        if let Some(wrong) = select
            .iter()
            .find(|name| !STATISTICS.contains(&name.as_str()))
        {
            let known = STATISTICS.join(", ");
            let problem = format!("{wrong:?} is no statistic of a project; they are {known}");
            return Err(Failure::of_query("stats_select", problem));
        }
        // Told from all runs, which is no worse than from some.
        given.flag("use_approx_stats")?;
        Ok(Self {
            are_asked: given.flag("include_stats")?.unwrap_or(false),
            window: given.since("stats_start_time")?,
            filter: given.filter("stats_filter")?,
            facets: given.flag(facets)?.unwrap_or(false) || select.contains("run_facets"),
            select: (!select.is_empty()).then_some(select),
        })
    }

    /// The question for them of some projects.
    pub(super) fn question(&self, scope: Scope, projects: Projects) -> Request {
        Request {
            projects,
            stats: self.are_asked,
            window: self.window,
            filter: self.filter.clone(),
            facets: self.facets && self.are_asked,
            ..scope.question()
        }
    }

    /// Takes away what is not shown.
    pub(super) fn narrow(&self, session: &mut TracerSession) {
        let Some(select) = &self.select else {
            return;
        };
        let is_left_out = |name: &str| !select.contains(name);
        macro_rules! narrow {
            ($($field:ident)*) => {
                $(if is_left_out(stringify!($field)) { session.$field = None; })*
            };
        }
        narrow!(
            run_count latency_p50 latency_p99 first_token_p50 first_token_p99 total_tokens
            prompt_tokens completion_tokens total_cost prompt_cost completion_cost
            last_run_start_time last_run_start_time_live feedback_stats session_feedback_stats
            run_facets error_rate streaming_rate
        );
    }
}

/// What projects a list is of, and in which order.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    ids: Vec<Uuid>,
    name: Option<String>,
    name_contains: Option<String>,
    /// Whether they are experiments.
    is_experiment: Option<bool>,
    datasets: Vec<Uuid>,
    metadata: Option<Map<String, Value>>,
    filter: Option<Filter>,
    sort: Sort,
    descending: bool,
}

/// What projects are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Start,
    LastStart,
    LatencyP50,
    LatencyP99,
    ErrorRate,
    Runs,
    Feedback(String),
}

impl Sort {
    fn needs_statistics(&self) -> bool {
        !matches!(self, Self::Name | Self::Start)
    }
}

impl Choice {
    /// Reads what is chosen; `dataset` is how an experiment's dataset is called.
    pub(super) fn read(
        given: &Given,
        dataset: &str,
        is_experiment: Option<bool>,
        sort: Sort,
        descending: bool,
    ) -> Result<Self, Failure> {
        let object = |text: &str| match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(Failure::of_query("metadata", "write a JSON object")),
        };
        let filter = given.filter("filter")?;
        if let Some(filter) = &filter {
            tells(&filter.resolved()).map_err(|problem| Failure::of_query("filter", problem))?;
        }
        Ok(Self {
            ids: given.ids("id")?,
            name: given.text("name").map(str::to_owned),
            name_contains: given.text("name_contains").map(str::to_lowercase),
            is_experiment,
            datasets: given.ids(dataset)?,
            metadata: given.text("metadata").map(object).transpose()?,
            filter,
            sort,
            descending,
        })
    }

    fn is_meant(&self, project: &TracerSession) -> bool {
        let metadata = project
            .extra
            .as_ref()
            .and_then(|extra| extra.get("metadata"));
        let dataset = project.reference_dataset_id;
        (self.ids.is_empty() || self.ids.contains(&project.id))
            && self.name.as_ref().is_none_or(|name| *name == project.name)
            && (self.name_contains.as_ref())
                .is_none_or(|part| project.name.to_lowercase().contains(part))
            && self
                .is_experiment
                .is_none_or(|wanted| wanted == dataset.is_some())
            && (self.datasets.is_empty() || dataset.is_some_and(|id| self.datasets.contains(&id)))
            && (self.metadata.as_ref()).is_none_or(|wanted| {
                let has = |(key, value): (&String, &Value)| {
                    metadata.and_then(|metadata| metadata.get(key)) == Some(value)
                };
                wanted.iter().all(has)
            })
            && (self.filter.as_ref()).is_none_or(|filter| holds(&filter.resolved(), project))
    }

    fn order(&self, one: &TracerSession, other: &TracerSession) -> Ordering {
        let (first, second) = (rank(&self.sort, one), rank(&self.sort, other));
        let ranks = match (first, second) {
            (Some(first), Some(second)) if self.descending => second.compare(&first),
            (Some(first), Some(second)) => first.compare(&second),
            // Those without a value come last.
            (first, second) => second.is_some().cmp(&first.is_some()),
        };
        ranks.then_with(|| one.id.cmp(&other.id))
    }

    /// A part of the projects that are meant, in their order, by their ids; and how many there are in all.
    pub(super) async fn page(
        &self,
        shared: &Arc<Shared>,
        scope: Scope,
        statistics: &Statistics,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<Uuid>, usize), Failure> {
        let all = shared.catalogue(scope).await?;
        let mut meant: Vec<&TracerSession> = all.iter().filter(|one| self.is_meant(one)).collect();
        let ranked;
        if self.sort.needs_statistics() && meant.len() > 1 {
            let ids = meant.iter().map(|one| one.id).collect();
            let mut question = statistics.question(scope, Projects::Each(ids));
            question.stats = true;
            ranked = shared.projects(question).await?;
            meant = ranked.iter().collect();
        }
        meant.sort_by(|one, other| self.order(one, other));
        let total = meant.len();
        let page = meant.into_iter().skip(offset).take(limit);
        Ok((page.map(|one| one.id).collect(), total))
    }
}

/// What a project is sorted by.
enum Rank<'a> {
    Text(&'a str),
    Number(f64),
    Whole(i128),
}

impl Rank<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Whole(one), Self::Whole(other)) => one.cmp(other),
            _ => Ordering::Equal,
        }
    }
}

fn rank<'a>(sort: &Sort, project: &'a TracerSession) -> Option<Rank<'a>> {
    Some(match sort {
        Sort::Name => Rank::Text(&project.name),
        Sort::Start => Rank::Whole(project.start_time.0.into()),
        Sort::LastStart => Rank::Whole(project.last_run_start_time?.0.into()),
        Sort::LatencyP50 => Rank::Number(project.latency_p50?.as_f64()),
        Sort::LatencyP99 => Rank::Number(project.latency_p99?.as_f64()),
        Sort::ErrorRate => Rank::Number(project.error_rate?),
        Sort::Runs => Rank::Whole(project.run_count?.into()),
        Sort::Feedback(key) => {
            let on_runs = project.feedback_stats.as_ref().and_then(|all| all.get(key));
            let on_project = project.session_feedback_stats.as_ref();
            let stats = on_runs.or_else(|| on_project.and_then(|all| all.get(key)));
            Rank::Number(stats?.avg?)
        }
    })
}

/// Whether a filter speaks of nothing but what a project has: its name, its id, its start.
fn tells(condition: &Condition) -> Result<(), String> {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().try_for_each(tells),
        Condition::Not(part) => tells(part),
        Condition::Field(Subject { field, of_root }, _) => {
            let is_known = matches!(
                field,
                Field::Id | Field::SessionId | Field::Name | Field::StartTime | Field::EndTime
            );
            (is_known && !of_root).then_some(()).ok_or_else(|| {
                let field = field.name();
                format!(
                    "projects are filtered by id, name, start_time and end_time, not by {field}"
                )
            })
        }
        Condition::Entry(_) | Condition::Search(_) => {
            let known = "projects are filtered by id, name, start_time and end_time; for their metadata \
                         there is the parameter metadata";
            Err(known.to_owned())
        }
    }
}

fn holds(condition: &Condition, project: &TracerSession) -> bool {
    match condition {
        Condition::All(parts) => parts.iter().all(|part| holds(part, project)),
        Condition::Any(parts) => parts.iter().any(|part| holds(part, project)),
        Condition::Not(part) => !holds(part, project),
        Condition::Field(Subject { field, .. }, test) => {
            let value = match field {
                Field::Id | Field::SessionId => Some(Wanted::Text(project.id.to_string())),
                Field::Name => Some(Wanted::Text(project.name.clone())),
                Field::StartTime => Some(Wanted::Time(project.start_time.0)),
                Field::EndTime => project.end_time.map(|time| Wanted::Time(time.0)),
                _ => None,
            };
            value.is_some_and(|value| passes(&value, test))
        }
        Condition::Entry(_) | Condition::Search(_) => false,
    }
}

fn passes(value: &Wanted, test: &Test) -> bool {
    match (value, test) {
        (_, Test::Present) => true,
        (value, Test::Equals(wanted)) => value == wanted,
        (value, Test::OneOf(wanted)) => wanted.contains(value),
        (Wanted::Text(own), Test::Like(pattern)) => is_like(own, pattern),
        (Wanted::Text(own), Test::Search(part)) => {
            own.to_lowercase().contains(&part.to_lowercase())
        }
        (Wanted::Time(us), Test::Compared(order, Wanted::Time(bound))) => match order {
            Order::Greater => us > bound,
            Order::GreaterOrEqual => us >= bound,
            Order::Less => us < bound,
            Order::LessOrEqual => us <= bound,
        },
        _ => false,
    }
}

/// Whether a text is like a pattern, in which `%` is any text and `_` any character.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    // Which beginnings of the pattern the text so far is like.
    let mut like = vec![false; pattern.len() + 1];
    like[0] = true;
    let spread = |like: &mut Vec<bool>| {
        for (at, char) in pattern.iter().enumerate() {
            like[at + 1] |= *char == '%' && like[at];
        }
    };
    spread(&mut like);
    for char in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate() {
            match wanted {
                '%' => next[at + 1] |= like[at + 1],
                '_' => next[at + 1] |= like[at],
                wanted => next[at + 1] |= like[at] && *wanted == char,
            }
        }
        spread(&mut next);
        like = next;
    }
    like[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_filter_language() {
        for (text, pattern, expected) in [
            ("support-bot", "support%", true),
            ("support-bot", "%bot", true),
            ("support-bot", "%port%b_t", true),
            ("support-bot", "Support%", false),
            ("support-bot", "support", false),
            ("", "%", true),
            ("", "_", false),
            ("a%", "_%", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }
}
