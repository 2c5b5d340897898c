//! The documents of projects.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use uuid::Uuid;

use super::{About, known};
use crate::document::{CostFormat, Known, Overview, Session, TracerSession, assemble};
use crate::engine::{self, Engine, ProjectTally};
use crate::error::Result;
use crate::request::{Request, Usage};
use crate::source::Source;
use crate::source::projects::Project;
use crate::tally::Tally;

/// The answer to a request for projects.
#[derive(Debug)]
pub struct Sessions {
    /// The documents, newest `start_time` first, then by id.
    pub sessions: Vec<TracerSession>,
    /// The same projects in the same order, as lines of a table; empty where no statistics were asked for.
    pub overviews: Vec<Overview>,
    /// All of them together: merged, not averaged. `None` where no statistics were asked for.
    pub total: Option<Overview>,
    /// What should be known of it.
    pub about: About,
    /// Traces that were built without their root, which is not among the runs that were looked at.
    pub n_rootless: u64,
}

impl Sessions {
    /// The same documents as v2 of the API shows them.
    #[must_use]
    pub fn v2(&self) -> Vec<Session> {
        let sessions = self.sessions.iter().filter_map(|session| {
            let project = self.about.tallied.projects.get(&session.id)?;
            let feedback = project.tally.as_ref().map(|tally| &tally.feedback);
            Some(Session::of(
                session.clone(),
                feedback,
                &project.session_feedback,
            ))
        });
        sessions.collect()
    }

    /// Shows costs as JSON numbers or as strings.
    #[must_use]
    pub fn with_costs_as(mut self, format: CostFormat) -> Self {
        for session in &mut self.sessions {
            let costs = [
                &mut session.total_cost,
                &mut session.prompt_cost,
                &mut session.completion_cost,
            ];
            for cost in costs.into_iter().flatten() {
                cost.format = format;
            }
        }
        let overviews = self.overviews.iter_mut().chain(&mut self.total);
        for cost in overviews.filter_map(|overview| overview.cost.as_mut()) {
            cost.format = format;
        }
        self
    }
}

/// Answers a request: the documents of the projects that were asked for.
///
/// # Errors
///
/// [`Error::NoSuchProject`] or [`Error::AmbiguousProject`] where a project was asked for by a name that
/// none or several have; [`Error::BadInput`] with the path of the first file that cannot be read as what
/// it should be; [`Error::Memory`] where the limit does not suffice.
///
/// [`Error::NoSuchProject`]: crate::Error::NoSuchProject
/// [`Error::AmbiguousProject`]: crate::Error::AmbiguousProject
/// [`Error::BadInput`]: crate::Error::BadInput
/// [`Error::Memory`]: crate::Error::Memory
pub async fn sessions(engine: &Engine, source: &Source, request: &Request) -> Result<Sessions> {
    let tallied = engine::answer(engine, source, request).await?;
    let mut answers = Vec::with_capacity(tallied.projects.len());
    for (id, project) in &tallied.projects {
        let known = known(*id, project)?;
        let metadata = source.metadata_for(*id, request.tenant);
        answers.push((document(metadata, *id, project, &known), project, known));
    }
    answers.sort_by_key(|(session, ..)| (Reverse(session.start_time), session.id));
    let overviews = answers.iter().filter_map(|(session, project, known)| {
        let tally = project.tally.as_ref()?;
        let (id, name) = (Some(session.id), session.name.clone());
        let days = project.days.clone();
        Some(Overview::new(id, name, known, tally, days, project.usage))
    });
    Ok(Sessions {
        overviews: overviews.collect(),
        total: total(answers.iter().map(|(_, project, known)| (*project, known)))?,
        sessions: answers.into_iter().map(|(session, ..)| session).collect(),
        n_rootless: (tallied.projects.values())
            .map(|project| project.n_rootless)
            .sum(),
        about: About::of(source, tallied)?,
    })
}

fn document(
    metadata: Option<&Project>,
    id: Uuid,
    project: &ProjectTally,
    known: &Known,
) -> TracerSession {
    let tally = project.tally.as_ref();
    assemble(
        id,
        known,
        metadata,
        tally,
        &project.facets,
        &project.session_feedback,
    )
}

/// All projects together; `None` where there are no statistics.
fn total<'a>(
    projects: impl Iterator<Item = (&'a ProjectTally, &'a Known)>,
) -> Result<Option<Overview>> {
    let mut sum: Option<(Tally, Known, Usage)> = None;
    let mut days: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    for (project, known) in projects {
        let Some(tally) = &project.tally else {
            continue;
        };
        for (day, n_traces) in &project.days {
            *days.entry(*day).or_default() += n_traces;
        }
        match &mut sum {
            None => sum = Some((tally.clone(), known.clone(), project.usage)),
            Some((sum, all_known, usage)) => {
                sum.merge(tally)?;
                all_known.says = all_known.says.and(known.says);
                if *usage != project.usage {
                    *usage = Usage::Auto;
                }
            }
        }
    }
    let name = "total".to_owned();
    Ok(sum.map(|(tally, known, usage)| Overview::new(None, name, &known, &tally, days, usage)))
}
