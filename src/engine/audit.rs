//! An audit of a source, executed: what its files and runs are, and how many of each finding there are.
//!
//! What rows say by themselves takes one scan. Repeated ids, traces and what children used are groupings
//! and joins of their own, which spill. All but the repeats are of the newest records.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use uuid::Uuid;

use super::Engine;
use super::question::{Question, Stop, Tallied, open, without_bad_files};
use crate::error::Result;
use crate::plan::{self, audit as plans};
use crate::request::{FindingKind, Population, Request, Window};
use crate::runs::Column;
use crate::source::{self, FileFacts, Files, MissingColumn, Source, Wanted};

/// Microseconds of a day.
const DAY_US: i64 = 24 * plans::HOUR_US;

/// What an audit counted.
#[derive(Debug, Default)]
pub(crate) struct Audited {
    /// The files with rows.
    pub(crate) files: Vec<FileFacts>,
    /// The paths of those without.
    pub(crate) empty: Vec<String>,
    /// The columns that files lack.
    pub(crate) missing: Vec<MissingColumn>,
    /// How many files lack any.
    pub(crate) n_lacking: usize,
    /// The runs of each project in each file, by its path.
    pub(crate) parts: BTreeMap<(Uuid, String), Part>,
    pub(crate) found: BTreeMap<FindingKind, Found>,
    /// The traces that start in each hour since 1970.
    pub(crate) hours: BTreeMap<Uuid, BTreeMap<i64, u64>>,
}

/// The runs of a project in a file.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) n_runs: u64,
    pub(crate) n_traces: u64,
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
}

/// How many findings of a kind there are, among how many.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) n: u64,
    pub(crate) of: u64,
    /// The first of them.
    pub(crate) example: Option<Place>,
}

/// A run, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: Option<String>,
    pub(crate) project: Uuid,
    pub(crate) id: Option<String>,
}

/// Audits the runs that a request asks for. Runs without an end are old a day before `now_us`, else before
/// the latest run.
pub(crate) async fn audit(
    engine: &Engine,
    source: &Source,
    request: &Request,
    now_us: Option<i64>,
) -> Result<(Audited, Tallied)> {
    let answer = without_bad_files(async |skipped| {
        let (runs, looked_at) = (Population::All, BTreeSet::new());
        let opened = open(
            engine,
            source,
            request,
            &runs,
            looked_at,
            plans::READ,
            skipped,
        );
        let (mut question, mut tallied) = opened.await?;
        question.files.refuse_of_tallies("runs to audit")?;
        let audited = question.audit(request, now_us, &mut tallied).await?;
        tallied.plans = question.plans;
        Ok((audited, tallied))
    });
    answer.await
}

impl Question<'_> {
    async fn audit(
        &mut self,
        request: &Request,
        now_us: Option<i64>,
        tallied: &mut Tallied,
    ) -> Result<Audited, Stop> {
        let mut audited = Audited {
            files: self.files.described().collect(),
            empty: self.files.empty().collect(),
            missing: self.files.missing_columns(&BTreeSet::new()).collect(),
            ..Audited::default()
        };
        let lacking = audited.missing.iter();
        let lacking = lacking.flat_map(|missing| self.files.lacking(missing.column));
        audited.n_lacking = lacking.collect::<BTreeSet<_>>().len();
        if tallied.projects.is_empty() {
            return Ok(audited);
        }
        self.filter_trees(request, &tallied.projects).await?;
        let projects = tallied.projects.iter();
        let can_trace = projects.filter(|(_, project)| !project.facts.lacks_traces);
        let can_trace: BTreeSet<Uuid> = can_trace.map(|(id, _)| *id).collect();
        let all: BTreeSet<Uuid> = tallied.projects.keys().copied().collect();
        let wanted = |window: Window, projects: &BTreeSet<Uuid>| Wanted {
            window,
            projects: Some(projects.clone()),
            only_roots: false,
            newest: None,
        };
        let records = wanted(self.window, &all);
        tallied.n_files = self.files.n_wanted(&[&records]);
        let around = self.window.widened(request.trace_span_us);
        let runs = self.newest(records.clone()).await?;
        let traced = self.newest(wanted(around, &can_trace)).await?;

        let last = tallied.projects.values();
        let last = last.filter_map(|project| project.facts.last_us).max();
        let old_us = now_us.or(last).unwrap_or(i64::MAX);
        let counts = self.rows(&runs, old_us.saturating_sub(DAY_US)).await?;
        audited.parts = counts.parts;
        let mut found = counts.found;

        found.extend(self.repeats(&records, FindingKind::DuplicateIds).await?);
        found.extend(self.repeats(&runs, FindingKind::CountedTwice).await?);
        if !can_trace.is_empty() {
            found.extend(self.traces(&traced).await?);
            let own = self.own_only(request, &tallied.projects).await?;
            let classic: BTreeSet<Uuid> = can_trace.difference(&own).copied().collect();
            found.extend(self.below_children(&runs, &traced, &classic).await?);
        }
        self.locate(&traced, &mut found).await?;
        audited.found = found;
        audited.hours = self.hours(&runs).await?;
        Ok(audited)
    }

    /// What rows say by themselves.
    async fn rows(&mut self, runs: &Wanted, old_us: i64) -> Result<Counts, Stop> {
        let columns = plans::audited();
        let lacking = Lacking::of(&self.files);
        self.counted(&columns, runs, &lacking, |runs| {
            plans::of_rows(runs, old_us)
        })
        .await
    }

    /// How many records repeat a run of another.
    async fn repeats(&mut self, records: &Wanted, kind: FindingKind) -> Result<FoundKinds, Stop> {
        let count = |runs| plans::repeated(runs, kind);
        let lacking = Lacking::default();
        let counts = self.counted(plans::IDENTIFIED, records, &lacking, count);
        Ok(counts.await?.found)
    }

    async fn traces(&mut self, traced: &Wanted) -> Result<FoundKinds, Stop> {
        let window = self.window;
        let (columns, lacking) = (plans::traced(), Lacking::default());
        let count = |runs| plans::of_traces(runs, &window);
        let counts = self.counted(&columns, traced, &lacking, count);
        Ok(counts.await?.found)
    }

    /// How many runs of some projects used less than their children did.
    async fn below_children(
        &mut self,
        runs: &Wanted,
        children: &Wanted,
        projects: &BTreeSet<Uuid>,
    ) -> Result<FoundKinds, Stop> {
        if projects.is_empty() {
            return Ok(FoundKinds::new());
        }
        let of_projects = |wanted: &Wanted| Wanted {
            projects: Some(projects.clone()),
            ..wanted.clone()
        };
        let (runs, children) = (of_projects(runs), of_projects(children));
        let filters = self.filters.clone();
        let columns = [plans::with_usage(), plan::TRACED.to_vec()].concat();
        let columns: Vec<Column> = BTreeSet::from_iter(columns).into_iter().collect();
        let counts = self
            .step(
                |files| {
                    let parents = filters.runs(files, &columns, &runs)?;
                    let children =
                        files.runs(&plan::of_children(&plan::usage_of(&columns)), &children)?;
                    plans::below_children(parents, children).map(Some)
                },
                |_, counts: &mut Counts, batch| counts.read(batch, &Lacking::default()),
            )
            .await?;
        Ok(counts.found)
    }

    /// Counts what a plan finds among wanted runs.
    async fn counted(
        &mut self,
        columns: &[Column],
        wanted: &Wanted,
        lacking: &Lacking,
        count: impl Fn(LogicalPlan) -> Result<LogicalPlan, DataFusionError>,
    ) -> Result<Counts, Stop> {
        let filters = self.filters.clone();
        let mut read = columns.to_vec();
        if !filters.is_empty() {
            read.extend(plan::TRACED.iter().filter(|own| !columns.contains(own)));
        }
        self.step(
            |files| count(filters.runs(files, &read, wanted)?).map(Some),
            |_, counts: &mut Counts, batch| counts.read(batch, lacking),
        )
        .await
    }

    /// Finds the files of the examples that have none yet.
    async fn locate(&mut self, wanted: &Wanted, found: &mut FoundKinds) -> Result<(), Stop> {
        let open = |place: &Place| place.file.is_none() && place.id.is_some();
        let ids = found.values().filter_map(|found| {
            let place = found.example.as_ref().filter(|place| open(place))?;
            place.id.clone()
        });
        let ids: BTreeSet<String> = ids.collect();
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = ids.into_iter().collect();
        let wanted = Wanted {
            projects: None,
            newest: None,
            ..wanted.clone()
        };
        let places = self
            .step(
                |files| plans::places(files.runs(plans::PLACED, &wanted)?, &ids).map(Some),
                |_, places: &mut BTreeMap<(Uuid, String), String>, batch| {
                    for row in 0..batch.num_rows() {
                        let id = text_at(batch, Column::Id.name(), row);
                        let file = text_at(batch, Column::File.name(), row);
                        let key = id
                            .map(|id| Ok::<_, crate::error::Error>((project_at(batch, row)?, id)));
                        if let (Some(key), Some(file)) = (key.transpose()?, file) {
                            places.insert(key, file);
                        }
                    }
                    Ok(())
                },
            )
            .await?;
        for place in found
            .values_mut()
            .filter_map(|found| found.example.as_mut())
        {
            if let (true, Some(id)) = (open(place), place.id.clone()) {
                place.file = places.get(&(place.project, id)).cloned();
            }
        }
        Ok(())
    }

    /// The traces of each hour.
    async fn hours(&mut self, runs: &Wanted) -> Result<BTreeMap<Uuid, BTreeMap<i64, u64>>, Stop> {
        let filters = self.filters.clone();
        let roots = Wanted {
            only_roots: true,
            ..runs.clone()
        };
        self.step(
            |files| plans::hourly(filters.roots(files, plan::DATED, &roots)?).map(Some),
            |_, hours: &mut BTreeMap<Uuid, BTreeMap<i64, u64>>, batch| {
                for row in 0..batch.num_rows() {
                    let hours = hours.entry(project_at(batch, row)?).or_default();
                    let hour = count_at(batch, plans::HOUR, row);
                    let n = count_at(batch, plans::N, row);
                    if let (Some(hour), Some(n)) = (hour, n) {
                        *hours.entry(hour).or_default() += n.unsigned_abs();
                    }
                }
                Ok(())
            },
        )
        .await
    }
}

type FoundKinds = BTreeMap<FindingKind, Found>;

/// What a plan of [`plans`] counted.
#[derive(Debug, Default)]
struct Counts {
    found: FoundKinds,
    parts: BTreeMap<(Uuid, String), Part>,
}

/// The files that cannot say whether there is a finding, by their paths.
#[derive(Debug, Default)]
struct Lacking(BTreeMap<FindingKind, BTreeSet<String>>);

impl Lacking {
    fn of(files: &Files) -> Self {
        let lacking = FindingKind::all().filter_map(|kind| {
            let lacking = files.lacking(plans::needed_by(kind)?);
            Some((kind, lacking))
        });
        Self(lacking.collect())
    }

    fn contains(&self, kind: FindingKind, file: &str) -> bool {
        self.0.get(&kind).is_some_and(|files| files.contains(file))
    }
}

impl Counts {
    fn read(&mut self, batch: &RecordBatch, lacking: &Lacking) -> Result<()> {
        for row in 0..batch.num_rows() {
            let project = project_at(batch, row)?;
            let file = text_at(batch, Column::File.name(), row);
            let n = |name: &str| count_at(batch, name, row).map_or(0, i64::unsigned_abs);
            for kind in FindingKind::all() {
                let is_silent = file
                    .as_ref()
                    .is_some_and(|file| lacking.contains(kind, file));
                if is_silent || batch.column_by_name(&plans::n_of(kind)).is_none() {
                    continue;
                }
                let found = self.found.entry(kind).or_default();
                let n_found = n(&plans::n_of(kind));
                found.n += n_found;
                found.of += n(plans::N);
                let place = Place {
                    file: file.clone(),
                    project,
                    id: text_at(batch, &plans::id_of(kind), row),
                };
                let is_first = found.example.as_ref().is_none_or(|held| place < *held);
                if n_found > 0 && is_first {
                    found.example = Some(place);
                }
            }
            if let Some(file) = file {
                let part = self.parts.entry((project, file)).or_default();
                let first_us = time_at(batch, plans::FIRST, row);
                part.n_runs += n(plans::N);
                part.n_traces += n(plans::N_ROOTS);
                part.first_us = part.first_us.into_iter().chain(first_us).min();
                part.last_us = part.last_us.max(time_at(batch, plans::LAST, row));
            }
        }
        Ok(())
    }
}

fn project_at(batch: &RecordBatch, row: usize) -> Result<Uuid> {
    let project = source::uuid_at(batch, 0, row, Column::SessionId)?;
    project.ok_or_else(source::no_project)
}

fn text_at(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let texts = batch.column_by_name(name)?.as_string_view_opt()?;
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn count_at(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let counts = batch
        .column_by_name(name)?
        .as_primitive_opt::<Int64Type>()?;
    counts.is_valid(row).then(|| counts.value(row))
}

fn time_at(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let times = batch.column_by_name(name)?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.is_valid(row).then(|| times.value(row))
}
