//! The files that a question looks at, as plans: what their footers prove of each project, a scan for
//! what they do not, and the runs themselves as one canonical table.
//!
//! Files of one shape (format, column types, what is constant) are one scan and one projection to
//! canonical columns; all shapes are a union.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, SchemaRef, TimestampMicrosecondType,
};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan, LogicalPlanBuilder, ident, lit};
use uuid::Uuid;

use super::file::SourceFile;
use super::files::FileTable;
use super::format;
use crate::error::{Error, Result};
use crate::request::Window;
use crate::runs::{self, Column};

/// The files that a question looks at.
#[derive(Debug)]
pub(crate) struct Files {
    pub(super) files: Vec<Arc<SourceFile>>,
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
