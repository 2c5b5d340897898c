//! Tally files: what a question takes of them, and how groups become one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek};
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::question::{ProjectTally, Question, Stop, Tallied};
use super::split::{Asked, Groups, read_groups};
use super::{bad_data, by_project};
use crate::error::{Error, Result};
use crate::plan::{self, Split};
use crate::request::{Every, Key, Population, Request, Usage, Window};
use crate::source::tallies::{METADATA, Made, Scope, Told, WantedTallies};
use crate::source::{Facts, Source};
use crate::tally::feedback::Feedback;
use crate::tally::{Tally, TallyColumn};

/// How many rows of a file are written together: as many as are held in memory, compressed.
const ROWS_TOGETHER: usize = 16_384;

impl Question<'_> {
    /// Settles what of the tally files is taken, and the window that the answer is of.
    pub(super) fn fit_tallies(
        &mut self,
        source: &Source,
        request: &Request,
        runs: &Population,
        projects: &BTreeMap<Uuid, Facts>,
    ) -> Result<Window> {
        if source.feedback().is_some() {
            let what = "place for records of feedback (--feedback)";
            self.files.refuse_of_tallies(what)?;
        }
        if request.facets {
            self.files.refuse_of_tallies("facets (--facets)")?;
        }
        let projects = projects.keys().copied().collect();
        let scope = Scope::of(request, runs);
        self.files.fit(&scope, &request.window, &projects)
    }

    /// Settles whose usage counts where tally files say it.
    pub(super) fn settle_usage(
        &self,
        request: &Request,
        runs: &Population,
        tallied: &mut Tallied,
    ) -> Result<()> {
        for (id, project) in &mut tallied.projects {
            let is_settled = self.of_runs.contains(id);
            let asked = match request.usage {
                Usage::Auto => is_settled.then_some(project.usage),
                usage => Some(usage),
            };
            if let Some(usage) = self.files.usage_of(*id, asked, runs)? {
                project.usage = usage;
            }
        }
        Ok(())
    }

    /// Adds what tally files have of the projects.
    pub(super) async fn add_stored(
        &mut self,
        request: &Request,
        tallied: &mut Tallied,
    ) -> Result<(), Stop> {
        let columns = TallyColumn::DOCUMENT.iter().copied().collect();
        self.files.check_split(&[], None)?;
        self.files
            .check_columns(&columns, |_| "a document".to_owned())?;
        let projects = tallied.projects.keys().copied().collect();
        let wanted = WantedTallies {
            projects: &projects,
            by: &[],
            columns: &columns,
        };
        let stored = self
            .step(
                |files| files.tallies(&wanted)?.map(plan::merge).transpose(),
                |_, tallies, batch| {
                    by_project(tallies, batch, Tally::from_row, |sum, more| {
                        sum.merge(&more)
                    })
                },
            )
            .await?;
        for (id, tally) in stored {
            let project = tallied.projects.get_mut(&id);
            if let Some(sum) = project.and_then(|project| project.tally.as_mut()) {
                sum.merge(&tally)?;
            }
        }
        for (id, feedback) in self.files.session_feedback(&projects)? {
            if let Some(project) = tallied.projects.get_mut(&id) {
                project.session_feedback = Feedback::from_bytes(&feedback).map_err(bad_data)?;
            }
        }
        self.add_stored_days(request, &projects, tallied).await
    }

    /// Adds the traces of each day; where these cannot be told of all, no day has any.
    async fn add_stored_days(
        &mut self,
        request: &Request,
        projects: &BTreeSet<Uuid>,
        tallied: &mut Tallied,
    ) -> Result<(), Stop> {
        let Some(zone) = request.daily else {
            return Ok(());
        };
        let every = Every::days(zone);
        if self.files.check_split(&[], Some(&every)).is_err() {
            for project in tallied.projects.values_mut() {
                project.days.clear();
            }
            return Ok(());
        }
        let columns = BTreeSet::from([TallyColumn::NTraces]);
        let split = Split {
            by: &[Key::Project],
            every: Some(&every),
            columns: &columns,
            kept: &[],
            own_feedback: true,
        };
        let wanted = WantedTallies {
            projects,
            by: split.by,
            columns: &columns,
        };
        let plan = |rows| split.merged(vec![split.stored(rows)?]);
        let days = self
            .step(
                |files| Ok(files.tallies(&wanted)?.map(plan).transpose()?.flatten()),
                |_, days: &mut Vec<(Uuid, NaiveDate, u64)>, batch| {
                    read_groups(batch, 1, |row| {
                        let id = row.labels.into_iter().flatten().next();
                        let id = id.and_then(|id| Uuid::try_parse(&id).ok());
                        let day = row.start_us.and_then(|start| every.day(start));
                        days.extend(id.zip(day).map(|(id, day)| (id, day, row.tally.n_traces)));
                        Ok(())
                    })
                },
            )
            .await?;
        for (id, day, n_traces) in days.into_iter().filter(|(.., n_traces)| *n_traces > 0) {
            if let Some(project) = tallied.projects.get_mut(&id) {
                *project.days.entry(day).or_default() += n_traces;
            }
        }
        Ok(())
    }
}

/// A tally file on its way: a temporary one, which nobody else sees.
#[derive(Default)]
struct Written(Option<ArrowWriter<File>>);

impl Written {
    fn open(schema: &SchemaRef) -> Result<ArrowWriter<File>> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROWS_TOGETHER))
            .build();
        let file = tempfile::tempfile().map_err(unwritable)?;
        ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))
            .map_err(|error| unwritable(error.into()))
    }

    fn write(&mut self, schema: &SchemaRef, rows: &RecordBatch) -> Result<()> {
        let rows = RecordBatch::try_new(Arc::clone(schema), rows.columns().to_vec());
        let rows = rows.map_err(bad_data)?;
        if self.0.is_none() {
            self.0 = Some(Self::open(schema)?);
        }
        let written = self.0.as_mut().map_or(Ok(()), |file| file.write(&rows));
        written.map_err(|error| unwritable(error.into()))
    }

    fn finish(self, schema: &SchemaRef, made: &Made) -> Result<File> {
        let says = serde_json::to_string(made).map_err(bad_data)?;
        let mut file = self.0.map_or_else(|| Self::open(schema), Ok)?;
        file.append_key_value_metadata(KeyValue::new(METADATA.to_owned(), says));
        let file = file.into_inner().map_err(|error| unwritable(error.into()));
        let mut file = file?;
        file.rewind().map_err(unwritable)?;
        Ok(file)
    }
}

impl Groups<'_> {
    /// The groups as a tally file: by project, the keys and the spans of time, in that order. Where a run
    /// can be in several groups there are rows in which each counts once as well, without those keys.
    pub(crate) async fn store(
        &mut self,
        asked: &Split<'_>,
        request: &Request,
        tallied: &Tallied,
    ) -> Result<File, Stop> {
        let keys = asked.by.iter().filter(|key| **key != Key::Project);
        let keys: Vec<Key> = keys.cloned().collect();
        let by_all = [vec![Key::Project], keys.clone()].concat();
        let mut by_single = by_all.clone();
        by_single.retain(|key| !key.is_multiple());
        let has_multiple = by_single.len() < by_all.len();
        let split = |by| Split { by, ..*asked };
        let mut splits = vec![(split(&by_all), has_multiple.then_some(false))];
        splits.extend(has_multiple.then(|| (split(&by_single), Some(true))));
        for (split, _) in &splits {
            self.question.files.check_split(split.by, split.every)?;
        }
        let made = self.made(&keys, asked, request, tallied)?;
        let schema = Arc::new(Schema::new(made.fields(asked.columns)));
        let plan = |runs: &Asked| {
            let rows = splits.iter().filter_map(|(split, counts_once)| {
                let groups = runs.tallies(split).transpose()?;
                Some(groups.and_then(|groups| split.rows(groups, &keys, *counts_once)))
            });
            plan::in_order(rows.collect::<Result<_, _>>()?, asked.columns.len())
        };
        let write = |written: &mut Written, rows: &RecordBatch| written.write(&schema, rows);
        let columns = splits.iter().flat_map(|(split, _)| split.read(self.runs()));
        let columns: Vec<_> = columns.collect();
        let written = self.execute(&columns, plan, write).await?;
        Ok(written.finish(&schema, &made)?)
    }

    /// What the file says of itself.
    fn made(
        &self,
        keys: &[Key],
        split: &Split<'_>,
        request: &Request,
        tallied: &Tallied,
    ) -> Result<Made> {
        let request = Request {
            window: tallied.window,
            ..request.clone()
        };
        let files = &self.question.files;
        let ids = tallied.projects.keys().copied().collect();
        let mut feedback = files.session_feedback(&ids)?;
        if let Some((_, on_projects)) = &self.records {
            let on_projects = on_projects.iter();
            feedback.extend(on_projects.map(|(id, feedback)| (*id, feedback.to_bytes())));
        }
        let told = |(id, project): (&Uuid, &ProjectTally)| {
            let feedback = feedback.get(id).cloned();
            (*id, Told::new(&project.facts, project.usage, feedback))
        };
        let mut made = Made::now(&request, self.runs(), keys, split.every);
        made.from.clone_from(&self.origins);
        made.has_records = self.records.is_some() || files.has_records();
        let columns = split.columns.iter();
        made.columns = columns.map(|column| column.name().to_owned()).collect();
        made.projects = tallied.projects.iter().map(told).collect();
        Ok(made)
    }
}

fn unwritable(source: io::Error) -> Error {
    Error::Io {
        path: std::env::temp_dir(),
        action: "cannot write",
        source,
    }
}
