//! Source: where runs lie.
//!
//! [`Source::open`] lists files and reads the side files. Opening the footers of the files that a
//! question needs gives [`Files`]: what their footers prove of each project, and plans over their runs.
//! Files of one shape (format, column types, what is constant) are one scan and one projection to
//! canonical columns; all shapes are a union.

pub(crate) mod files;
pub(crate) mod footer;
pub(crate) mod format;
pub(crate) mod listing;
pub(crate) mod projects;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveTime;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SessionContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan, LogicalPlanBuilder, ident, lit};
use datafusion::object_store::{ObjectStoreExt, path::Path as ObjectPath};
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::request::{Projects, Window};
use crate::runs::{self, Column};
use files::FileTable;
use footer::Footer;
use format::Format;
use listing::{Keys, Listed};
use projects::{FeedbackRecord, Project};

/// The columns of which it matters whether a project's files have them at all.
const NOTABLE: [Column; 7] = [
    Column::Id,
    Column::EndTime,
    Column::FirstTokenTime,
    Column::IsError,
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
];

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// How many projects an error shows.
const SHOWN: usize = 8;

/// Files of runs, with what the side files say of their projects.
#[derive(Debug)]
pub struct Source {
    listed: Vec<Listed>,
    metadata: BTreeMap<Uuid, Project>,
    feedback: Option<Vec<FeedbackRecord>>,
}

/// The side files of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// Records of `GET /sessions`; where none is given, `sessions.json` or `sessions.jsonl` at the
    /// source's root is taken.
    pub projects: Option<PathBuf>,
    /// Records of `GET /feedback`; they replace the runs' own feedback summaries.
    pub feedback: Option<PathBuf>,
}

impl Source {
    /// Lists files, folders and globs, and reads the side files. No file of runs is opened yet.
    ///
    /// # Errors
    ///
    /// Where a path leads to no Parquet file or a side file cannot be read.
    pub fn open<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let paths: Vec<PathBuf> = paths
            .into_iter()
            .map(|path| path.as_ref().to_owned())
            .collect();
        let listing = listing::list(&paths)?;
        let side_files = match &options.projects {
            Some(path) => vec![path.clone()],
            None => listing.side_files,
        };
        let metadata = projects::read_projects(&side_files)?;
        let feedback = options
            .feedback
            .as_ref()
            .map(|path| projects::read_feedback(path));
        Ok(Self {
            listed: listing.files,
            metadata: metadata
                .into_iter()
                .map(|project| (project.id, project))
                .collect(),
            feedback: feedback.transpose()?,
        })
    }

    /// What the metadata says of a project.
    #[must_use]
    pub fn metadata(&self, project: Uuid) -> Option<&Project> {
        self.metadata.get(&project)
    }

    /// The records of the feedback file, if one was given.
    #[must_use]
    pub fn feedback(&self) -> Option<&[FeedbackRecord]> {
        self.feedback.as_deref()
    }

    /// The number of files of runs.
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.listed.len()
    }

    /// The project that was asked for, where no file need be read to know which it is.
    pub(crate) fn named(&self, projects: &Projects) -> Option<Uuid> {
        let Projects::One(asked) = projects else {
            return None;
        };
        if let Ok(id) = Uuid::try_parse(asked) {
            return Some(id);
        }
        let mut named = self
            .metadata
            .values()
            .filter(|project| project.has_name(asked));
        // Of several with one name, some may have no run: that the files must say.
        let first = named.next();
        first.filter(|_| named.next().is_none()).map(|one| one.id)
    }

    /// The one of these projects that has the name; else the one whose name or id begins as asked.
    pub(crate) fn resolve(&self, asked: &str, existing: &BTreeSet<Uuid>) -> Result<Uuid> {
        let chosen = |is_meant: &dyn Fn(Uuid) -> bool| -> Vec<Uuid> {
            existing
                .iter()
                .copied()
                .filter(|id| is_meant(*id))
                .collect()
        };
        let project = |id: Uuid| self.metadata.get(&id);
        let mut matching = chosen(&|id| project(id).is_some_and(|known| known.has_name(asked)));
        if matching.is_empty() && !asked.is_empty() {
            let lower = asked.to_ascii_lowercase();
            matching = chosen(&|id| {
                let name = project(id).and_then(|known| known.name.as_deref());
                id.to_string().starts_with(&lower)
                    || name.is_some_and(|name| name.starts_with(asked))
            });
        }
        match matching.as_slice() {
            [one] => Ok(*one),
            [] => Err(self.no_such_project(asked, existing.iter().copied())),
            several => Err(Error::AmbiguousProject {
                asked: asked.to_owned(),
                matching: several.iter().map(|id| self.label(*id)).collect(),
            }),
        }
    }

    /// The only project; an error where there are several, or none.
    pub(crate) fn only(&self, existing: impl Iterator<Item = Uuid>) -> Result<Uuid> {
        let existing: Vec<Uuid> = existing.collect();
        if let [one] = existing.as_slice() {
            return Ok(*one);
        }
        let names = existing.iter().take(SHOWN).map(|id| self.label(*id));
        if existing.is_empty() {
            return Err(Error::BadData {
                problem: "the source holds no run".to_owned(),
            });
        }
        let names = names.collect::<Vec<_>>().join(", ");
        Err(Error::Usage {
            problem: format!("the source holds {} projects", existing.len()),
            hint: Some(format!("choose one with -p, or list them all: {names}")),
        })
    }

    /// The error for a project that no file has a run of.
    pub(crate) fn no_such_project(
        &self,
        asked: &str,
        existing: impl Iterator<Item = Uuid>,
    ) -> Error {
        let mut existing: Vec<String> = existing.take(SHOWN + 1).map(|id| self.label(id)).collect();
        if existing.len() > SHOWN {
            existing.truncate(SHOWN);
            existing.push("others".to_owned());
        }
        Error::NoSuchProject {
            asked: asked.to_owned(),
            existing,
        }
    }

    /// The projects that the files' paths name.
    pub(crate) fn projects_in_paths(&self) -> BTreeSet<Uuid> {
        self.listed
            .iter()
            .filter_map(|file| file.keys.project)
            .collect()
    }

    fn label(&self, id: Uuid) -> String {
        match self
            .metadata
            .get(&id)
            .and_then(|project| project.name.as_ref())
        {
            Some(name) => format!("{name} ({id})"),
            None => id.to_string(),
        }
    }

    /// Reads the footers of the files that may hold runs of a project, or of any.
    pub(crate) async fn files(&self, ctx: &SessionContext, project: Option<Uuid>) -> Result<Files> {
        let threads = ctx.state().config().target_partitions();
        let candidates = self.listed.iter().filter(|file| {
            project.is_none() || file.keys.project.is_none() || file.keys.project == project
        });
        let opened: Vec<Option<SourceFile>> =
            futures::stream::iter(candidates.cloned().map(|listed| open(ctx.clone(), listed)))
                .buffered(4 * threads)
                .try_collect()
                .await?;
        Ok(Files {
            files: opened.into_iter().flatten().map(Arc::new).collect(),
        })
    }
}

/// A file of runs whose footer has been read.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    keys: Keys,
    scan: PartitionedFile,
    format: &'static Format,
    footer: Footer,
    /// The project and the tenant of its runs: proven for all of them, or only what the path says
    /// where a run says nothing.
    project: Constant,
    tenant: Constant,
}

/// What holds for a file's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Constant {
    value: Option<Uuid>,
    is_proven: bool,
}

/// The files that a question looks at.
#[derive(Debug)]
pub(crate) struct Files {
    files: Vec<Arc<SourceFile>>,
}

/// What is known of a project without looking at its traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The tenants of its runs.
    pub(crate) tenants: BTreeSet<Uuid>,
    /// The earliest start of any run.
    pub(crate) start_us: Option<i64>,
    /// The notable columns that any of its files has.
    pub(crate) columns: BTreeSet<Column>,
}

impl Facts {
    pub(crate) fn add(&mut self, other: Self) {
        self.tenants.extend(other.tenants);
        self.start_us = match (self.start_us, other.start_us) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.columns.extend(other.columns);
    }
}

impl Files {
    /// Each file as a set of its own, with its path: to find the one that cannot be read.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Path, Self)> {
        self.files.iter().map(|file| {
            let files = vec![Arc::clone(file)];
            (file.path.as_path(), Self { files })
        })
    }

    /// What is odd about the files: paths that name another project than the runs do, exports of one
    /// project that overlap.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut spans: BTreeMap<Uuid, Vec<(i64, i64, Option<Uuid>)>> = BTreeMap::new();
        for file in &self.files {
            let (Some(project), true) = (file.project.value, file.project.is_proven) else {
                continue;
            };
            if file.keys.project.is_some_and(|key| key != project) {
                warnings.push(format!(
                    "{}: its runs are of project {project}, though its path names another",
                    file.path.display()
                ));
            }
            if let Some((first, last)) = file.range_us() {
                let span = (first, last, file.keys.export);
                spans.entry(project).or_default().push(span);
            }
        }
        let overlapping = spans
            .into_iter()
            .filter(|(_, spans)| exports_overlap(spans));
        warnings.extend(overlapping.map(|(project, _)| {
            format!("project {project}: its exports overlap, and runs in several of them are counted in each")
        }));
        warnings
    }

    /// What the footers prove of the projects.
    pub(crate) fn proven(&self) -> BTreeMap<Uuid, Facts> {
        let mut projects: BTreeMap<Uuid, Facts> = BTreeMap::new();
        for file in &self.files {
            if let Some((project, facts)) = file.proven() {
                projects.entry(project).or_default().add(facts);
            }
        }
        projects
    }

    /// A plan for what the footers do not prove: the runs' own ids, tenants and starts. `None` where
    /// all is proven. Its rows are read by [`Files::scanned`].
    pub(crate) fn unproven(&self) -> Result<Option<LogicalPlan>, DataFusionError> {
        let files = self.files.iter().filter(|file| file.proven().is_none());
        let shapes = shapes(files.cloned().collect());
        let plans = shapes.iter().enumerate().map(|(index, shape)| {
            let columns = [Column::SessionId, Column::TenantId, Column::StartTime];
            let tenant = ident(Column::TenantId.name());
            shape
                .scan(&columns, &Window::default())?
                .aggregate(
                    [ident(Column::SessionId.name())],
                    [
                        min(ident(Column::StartTime.name())).alias("start"),
                        min(tenant.clone()).alias("first_tenant"),
                        max(tenant).alias("last_tenant"),
                    ],
                )?
                .project([
                    ident(Column::SessionId.name()),
                    ident("start"),
                    ident("first_tenant"),
                    ident("last_tenant"),
                    lit(i64::try_from(index).unwrap_or(i64::MAX)).alias("shape"),
                ])?
                .build()
        });
        union(plans)
    }

    /// Reads the rows of [`Files::unproven`].
    pub(crate) fn scanned(&self, batches: &[RecordBatch]) -> Result<BTreeMap<Uuid, Facts>> {
        let files = self.files.iter().filter(|file| file.proven().is_none());
        let shapes = shapes(files.cloned().collect());
        let mut projects: BTreeMap<Uuid, Facts> = BTreeMap::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                let project = uuid_at(batch, 0, row, Column::SessionId)?.ok_or_else(no_project)?;
                let tenant = |index| uuid_at(batch, index, row, Column::TenantId);
                let tenants = [tenant(2)?, tenant(3)?];
                let starts = batch.column(1).as_primitive::<TimestampMicrosecondType>();
                let shape = batch.column(4).as_primitive::<Int64Type>().value(row);
                let shape = usize::try_from(shape)
                    .ok()
                    .and_then(|shape| shapes.get(shape));
                projects.entry(project).or_default().add(Facts {
                    tenants: tenants.into_iter().flatten().collect(),
                    start_us: starts.is_valid(row).then(|| starts.value(row)),
                    columns: shape
                        .map(|shape| shape.sample.columns())
                        .unwrap_or_default(),
                });
            }
        }
        Ok(projects)
    }

    /// The runs of these files as one canonical table: those in the window, of one project or of all.
    /// Files that cannot hold any are left out.
    pub(crate) fn runs(
        &self,
        columns: &[Column],
        window: &Window,
        project: Option<Uuid>,
    ) -> Result<LogicalPlan, DataFusionError> {
        let files = self
            .files
            .iter()
            .filter(|file| file.may_hold(window, project));
        let plans = shapes(files.cloned().collect()).into_iter().map(|shape| {
            let mut plan = shape.scan(columns, window)?;
            if let Some(project) = project.filter(|_| !shape.sample.project.is_proven) {
                let id = lit(project.to_string());
                plan = plan.filter(ident(Column::SessionId.name()).eq(id))?;
            }
            plan.build()
        });
        Ok(union(plans)?.unwrap_or(nothing(columns)?))
    }
}

impl Project {
    fn has_name(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

impl SourceFile {
    fn new(listed: &Listed, scan: PartitionedFile, footer: Footer) -> Result<Self> {
        let bad = |problem: String| Error::BadInput {
            path: listed.path.clone(),
            problem,
        };
        let format = Format::of(&footer).map_err(bad)?;
        let constant = |column: Column, key: Option<Uuid>| {
            let name = format.column_of(column).filter(|name| footer.has(name));
            let proven = name.and_then(|name| footer.uuid(name));
            // The path is proof as well, where the column says nothing else.
            let column_is_silent = name.is_none_or(|name| {
                footer.all_null(name) || (key.is_some() && !footer.is_bounded(name))
            });
            Constant {
                value: proven.or(key),
                is_proven: proven.is_some() || column_is_silent,
            }
        };
        let file = Self {
            project: constant(Column::SessionId, listed.keys.project),
            tenant: constant(Column::TenantId, listed.keys.tenant),
            path: listed.path.clone(),
            keys: listed.keys.clone(),
            scan,
            format,
            footer,
        };
        for (what, constant) in [("project", file.project), ("tenant", file.tenant)] {
            if constant.is_proven && constant.value.is_none() {
                return Err(bad(format!(
                    "nothing says which {what} its runs belong to: neither a column nor the path"
                )));
            }
        }
        Ok(file)
    }

    /// The file's project and what the footer proves of it, where it proves all of it.
    fn proven(&self) -> Option<(Uuid, Facts)> {
        if !(self.project.is_proven && self.tenant.is_proven) {
            return None;
        }
        let facts = Facts {
            tenants: self.tenant.value.into_iter().collect(),
            start_us: Some(self.range_us()?.0),
            columns: self.columns(),
        };
        Some((self.project.value?, facts))
    }

    fn range_us(&self) -> Option<(i64, i64)> {
        self.footer
            .range_us(self.format.column_of(Column::StartTime)?)
    }

    fn columns(&self) -> BTreeSet<Column> {
        let has = |column: &Column| self.format.has(*column, &self.footer);
        NOTABLE.into_iter().filter(has).collect()
    }

    fn may_hold(&self, window: &Window, project: Option<Uuid>) -> bool {
        let of_project =
            !self.project.is_proven || project.is_none() || self.project.value == project;
        // The path's day counts only where the footer does not say, and with a day of slack.
        let range = self.range_us().or_else(|| {
            let day = self
                .keys
                .day?
                .and_time(NaiveTime::MIN)
                .and_utc()
                .timestamp_micros();
            Some((day.checked_sub(DAY_US)?, day.checked_add(2 * DAY_US)?))
        });
        let in_window = range.is_none_or(|(first, last)| window.meets(first, last));
        of_project && in_window
    }

    /// The file's columns that the format reads, as the scan should give them.
    fn read_schema(&self) -> SchemaRef {
        let fields = self.footer.schema.fields().iter().filter_map(|field| {
            let kind = self.format.read_as(field)?;
            Some(Arc::new(Field::new(field.name(), kind, true)))
        });
        Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
    }

    /// The file for a scan: how to read each of its columns, and the constants.
    fn partitioned(&self) -> PartitionedFile {
        let fields = self.footer.schema.fields().iter().map(|field| {
            let kind = self.format.read_as(field);
            Arc::new(
                field
                    .as_ref()
                    .clone()
                    .with_data_type(kind.unwrap_or_else(|| field.data_type().clone())),
            )
        });
        let constants = [self.project, self.tenant]
            .map(|constant| ScalarValue::Utf8View(constant.value.map(|id| id.to_string())));
        self.scan
            .clone()
            .with_arrow_schema(Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>())))
            .with_partition_values(constants.to_vec())
    }
}

/// Files that are read alike.
struct Shape {
    /// Any of them.
    sample: Arc<SourceFile>,
    files: Vec<PartitionedFile>,
}

impl Shape {
    /// Scans the files' runs in a window and maps them to canonical columns.
    fn scan(
        &self,
        columns: &[Column],
        window: &Window,
    ) -> Result<LogicalPlanBuilder, DataFusionError> {
        let constant = |name| Arc::new(Field::new(name, DataType::Utf8View, true));
        let table = FileTable::new(
            self.sample.read_schema(),
            vec![constant(format::PROJECT), constant(format::TENANT)],
            self.files.clone(),
        );
        let mut plan = LogicalPlanBuilder::scan("runs", provider_as_source(Arc::new(table)), None)?;
        let SourceFile { format, footer, .. } = self.sample.as_ref();
        if let Some(within) = format.within(window, footer) {
            plan = plan.filter(within)?;
        }
        plan.project(columns.iter().map(|column| {
            let is_proven = match column {
                Column::SessionId => self.sample.project.is_proven,
                Column::TenantId => self.sample.tenant.is_proven,
                _ => false,
            };
            format.expr(*column, footer, is_proven)
        }))
    }
}

/// Whether spans of time of different exports meet.
fn exports_overlap(spans: &[(i64, i64, Option<Uuid>)]) -> bool {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    // The latest end of each export so far; an export has few files at a time.
    let mut ends: BTreeMap<Option<Uuid>, i64> = BTreeMap::new();
    spans.into_iter().any(|(first, last, export)| {
        ends.retain(|_, end| *end >= first);
        let meets = ends.keys().any(|other| *other != export);
        let end = ends.entry(export).or_insert(last);
        *end = last.max(*end);
        meets
    })
}

/// Groups files by what decides how they are read, in the order of their paths.
fn shapes(files: Vec<Arc<SourceFile>>) -> Vec<Shape> {
    let mut shapes: Vec<(SchemaRef, Shape)> = Vec::new();
    for file in files {
        let schema = file.read_schema();
        let partitioned = file.partitioned();
        let same = shapes.iter_mut().find(|(other, shape)| {
            let sample = &shape.sample;
            *other == schema
                && std::ptr::eq(sample.format, file.format)
                && sample.project.is_proven == file.project.is_proven
                && sample.tenant.is_proven == file.tenant.is_proven
                && sample.rules() == file.rules()
        });
        match same {
            Some((_, shape)) => shape.files.push(partitioned),
            None => shapes.push((
                schema,
                Shape {
                    sample: file,
                    files: vec![partitioned],
                },
            )),
        }
    }
    shapes.into_iter().map(|(_, shape)| shape).collect()
}

impl SourceFile {
    /// Which rules hold for the columns that have several.
    fn rules(&self) -> [Option<usize>; 2] {
        [Column::IsRoot, Column::IsError].map(|column| self.format.rule_index(column, &self.footer))
    }
}

/// Reads one file's footer; `None` where it has no runs.
async fn open(ctx: SessionContext, listed: Listed) -> Result<Option<SourceFile>> {
    let path = listed.path.clone();
    let bad = |problem: String| Error::BadInput {
        path: path.clone(),
        problem,
    };
    let task = tokio::spawn(async move {
        let runtime = ctx.runtime_env();
        let store = runtime.object_store(ObjectStoreUrl::local_filesystem())?;
        let location = ObjectPath::from_absolute_path(&listed.canonical)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let object = store.head(&location).await?;
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let footer = Footer::read(store.as_ref(), &object, cache).await?;
        Ok::<_, DataFusionError>((listed, PartitionedFile::new_from_meta(object), footer))
    });
    // The parquet crate panics on some damaged footers.
    let (listed, scan, footer) = task
        .await
        .map_err(|_| bad("its footer is damaged".to_owned()))?
        .map_err(|error| {
            bad(format!(
                "no readable Parquet file: {}",
                error.strip_backtrace()
            ))
        })?;
    if footer.n_rows == 0 {
        return Ok(None);
    }
    SourceFile::new(&listed, scan, footer).map(Some)
}

fn union(
    plans: impl Iterator<Item = Result<LogicalPlan, DataFusionError>>,
) -> Result<Option<LogicalPlan>, DataFusionError> {
    let mut all: Option<LogicalPlanBuilder> = None;
    for plan in plans {
        all = Some(match all {
            None => LogicalPlanBuilder::new(plan?),
            Some(all) => all.union(plan?)?,
        });
    }
    all.map(LogicalPlanBuilder::build).transpose()
}

fn nothing(columns: &[Column]) -> Result<LogicalPlan, DataFusionError> {
    let schema = DFSchema::try_from(runs::schema(columns))?;
    Ok(LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(schema),
    }))
}

/// The UUID that a text column holds in a row.
pub(crate) fn uuid_at(
    batch: &RecordBatch,
    index: usize,
    row: usize,
    column: Column,
) -> Result<Option<Uuid>> {
    let texts = batch.column(index).as_string_view();
    if texts.is_null(row) {
        return Ok(None);
    }
    let text = texts.value(row);
    Uuid::try_parse(text).map(Some).map_err(|_| Error::BadData {
        problem: format!("column {}: expected a UUID, found {text:?}", column.name()),
    })
}

pub(crate) fn no_project() -> Error {
    Error::BadData {
        problem: "a run without a project: neither its session_id nor the path says which"
            .to_owned(),
    }
}
