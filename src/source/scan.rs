//! The files that a question looks at, as plans: what their footers prove of each project, a scan for
//! what they do not, and the runs themselves as one canonical table.
//!
//! Files of one shape (format, column types, what is constant) are one scan and one projection to
//! canonical columns; all shapes are a union.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, SchemaRef, TimestampMicrosecondType,
};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder, ident, lit};
use uuid::Uuid;

use super::dedup::{self, Newest};
use super::file::{Breadth, SourceFile, StartRange};
use super::files::FileTable;
use super::flat::Cut;
use super::format;
use super::tallies::TallyFile;
use crate::error::{Error, Result, SkippedFile, quoted};
use crate::request::Window;
use crate::runs::{self, Column};

/// The constants of a file, in the order of [`SourceFile::partitioned`].
const CONSTANTS: [(&str, DataType); 7] = [
    (format::PROJECT, DataType::Utf8View),
    (format::TENANT, DataType::Utf8View),
    (format::MODIFIED, DataType::Int64),
    (format::FILE, DataType::Int64),
    (format::PATH, DataType::Utf8View),
    (format::DAY, runs::TIME),
    (format::FIRST_ROW, DataType::Int64),
];

/// The columns whose absence is said, and what it disables.
const MISSED: [(Column, &str); 15] = [
    (
        Column::Id,
        "feedback records cannot be matched, nor repeated runs found",
    ),
    (Column::TraceId, "traces cannot be built from their runs"),
    (
        Column::RunType,
        "a root that carries usage counts as one that contains its descendants'",
    ),
    (Column::IsRoot, "every run counts as a trace"),
    (
        Column::EndTime,
        "no latency, and no run counts as completed",
    ),
    (
        Column::FirstTokenTime,
        "no time to first token, and no run counts as streamed",
    ),
    (Column::IsError, "no run counts as failed"),
    (Column::FeedbackStats, "no feedback of the runs' own"),
    (Column::TraceTier, "no trace tier"),
    (Column::TotalTokens, "missing in the sum"),
    (Column::PromptTokens, "missing in the sum"),
    (Column::CompletionTokens, "missing in the sum"),
    (Column::TotalCost, "missing in the sum"),
    (Column::PromptCost, "missing in the sum"),
    (Column::CompletionCost, "missing in the sum"),
];

/// The columns whose absence is said where a question looks for what is in them.
const SOUGHT: [Column; 20] = [
    Column::Name,
    Column::Status,
    Column::Error,
    Column::ParentRunId,
    Column::ReferenceExampleId,
    Column::Tags,
    Column::Metadata,
    Column::Model,
    Column::Provider,
    Column::User,
    Column::Thread,
    Column::Environment,
    Column::Version,
    Column::Prompt,
    Column::CachedTokens,
    Column::ReasoningTokens,
    Column::CachedCost,
    Column::ReasoningCost,
    Column::Inputs,
    Column::Outputs,
];

/// The files that a question looks at.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "files of runs, beside others")]
pub(crate) struct Files {
    pub(super) files: Vec<Arc<SourceFile>>,
    pub(super) tallies: Vec<Arc<TallyFile>>,
    /// Those that have no rows.
    pub(super) empty: Vec<PathBuf>,
    /// The tenant whose runs count, where only one's do.
    pub(super) tenant: Option<Uuid>,
}

/// What is known of a file without reading its runs.
#[derive(Debug, Clone)]
pub(crate) struct FileFacts {
    /// Its path, as it is shown.
    pub(crate) path: String,
    /// The name of its format.
    pub(crate) format: &'static str,
    pub(crate) n_bytes: u64,
    pub(crate) n_rows: u64,
}

/// A column that some files lack.
#[derive(Debug, Clone)]
pub(crate) struct MissingColumn {
    pub(crate) column: Column,
    /// The foreign columns that would say it, the preferred first.
    pub(crate) names: String,
    /// What its absence disables.
    pub(crate) effect: &'static str,
    /// How many files lack it, of how many.
    pub(crate) n_lacking: usize,
    pub(crate) n_files: usize,
    /// The first of them.
    pub(crate) sample: PathBuf,
}

impl fmt::Display for MissingColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.n_lacking, self.n_files) {
            (1, 1) => f.write_str("the file has")?,
            (some, all) if some == all => f.write_str("the files have")?,
            (1, all) => write!(f, "1 of {all} files ({}) has", self.sample.display())?,
            (some, all) => write!(f, "{some} of {all} files have")?,
        }
        write!(f, " no column {}: {}", self.names, self.effect)
    }
}

/// What is known of a project without looking at its traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The tenants of its runs.
    pub(crate) tenants: BTreeSet<Uuid>,
    /// The earliest start of any run.
    pub(crate) start_us: Option<i64>,
    /// The latest, as far as known.
    pub(crate) last_us: Option<i64>,
    /// The notable columns that any of its files has.
    pub(crate) columns: BTreeSet<Column>,
    /// Whether any of its files does not say which runs belong to a trace.
    pub(crate) lacks_traces: bool,
}

impl Facts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.tenants.extend(&other.tenants);
        if self.tenants.len() > 1 {
            // It stands for one that nothing tells.
            self.tenants.remove(&Uuid::nil());
        }
        self.start_us = match (self.start_us, other.start_us) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.last_us = self.last_us.max(other.last_us);
        self.columns.extend(&other.columns);
        self.lacks_traces |= other.lacks_traces;
    }
}

/// Which runs are wanted of the files.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Those that start in it.
    pub(crate) window: Window,
    /// Those of these projects; of all where there is none.
    pub(crate) projects: Option<BTreeSet<Uuid>>,
    /// Those that stand for their trace, or all.
    pub(crate) only_roots: bool,
    /// Where the newest record of each stands, in files that may repeat each other's.
    pub(crate) newest: Option<Arc<Newest>>,
}

impl Files {
    /// The first and the other half of the files, to find those that cannot be read.
    pub(crate) fn halves(&self) -> [Self; 2] {
        let half = usize::midpoint(self.files.len(), self.tallies.len());
        let (runs, more_runs) = self.files.split_at(half.min(self.files.len()));
        let (tallies, more_tallies) = self.tallies.split_at(half - runs.len());
        [(runs, tallies), (more_runs, more_tallies)].map(|(runs, tallies)| Self {
            files: runs.to_vec(),
            tallies: tallies.to_vec(),
            empty: Vec::new(),
            tenant: self.tenant,
        })
    }

    /// The path of the file, where there is only one.
    pub(crate) fn only_path(&self) -> Option<&Path> {
        match (self.files.as_slice(), self.tallies.as_slice()) {
            ([file], []) => Some(&file.path),
            ([], [file]) => Some(&file.path),
            _ => None,
        }
    }

    /// Whether there are files of runs.
    pub(crate) fn has_runs(&self) -> bool {
        !self.files.is_empty()
    }

    /// The files of which only a part was read, and what of them was left out.
    pub(crate) fn left_out(&self) -> Vec<SkippedFile> {
        let files = self.files.iter().filter_map(|file| {
            let problem = file.spooled.as_ref()?.left_out.clone()?;
            Some(SkippedFile {
                path: file.path.clone(),
                problem,
            })
        });
        files.collect()
    }

    /// What is odd about the files: paths that name another project than the runs do, columns that are
    /// missing.
    pub(crate) fn warnings(&self, looked_at: &BTreeSet<Column>) -> Vec<String> {
        let mut warnings = Vec::new();
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
        }
        let missing = self.missing_columns(looked_at);
        warnings.extend(missing.map(|missing| missing.to_string()));
        // Columns may come from the same one of a file.
        warnings.dedup();
        warnings
    }

    /// What the files cannot say for want of a column.
    pub(crate) fn missing_columns(
        &self,
        looked_at: &BTreeSet<Column>,
    ) -> impl Iterator<Item = MissingColumn> {
        let sought = SOUGHT.iter().filter(|column| looked_at.contains(column));
        let sought = sought.map(|column| (*column, "no filter, facet or group finds any"));
        MISSED
            .into_iter()
            .chain(sought)
            .filter_map(|(column, effect)| {
                let lacks = |file: &&Arc<SourceFile>| !file.has(column);
                let sample = self.files.iter().find(lacks)?;
                Some(MissingColumn {
                    column,
                    names: sample.format.columns_of(column).join(", "),
                    effect,
                    n_lacking: self.files.iter().filter(lacks).count(),
                    n_files: self.files.len(),
                    sample: sample.path.clone(),
                })
            })
    }

    /// What is known of each file without reading its runs.
    pub(crate) fn described(&self) -> impl Iterator<Item = FileFacts> {
        self.files.iter().map(|file| file.described())
    }

    /// How many of the files have which format.
    pub(crate) fn formats(&self) -> BTreeMap<&'static str, usize> {
        let mut formats = BTreeMap::new();
        for file in &self.files {
            *formats.entry(file.format.name).or_default() += 1;
        }
        formats
    }

    /// The paths of the files that say nothing of a column, as they are shown.
    pub(crate) fn lacking(&self, column: Column) -> BTreeSet<String> {
        let lacking = self.files.iter().filter(|file| !file.has(column));
        lacking
            .map(|file| file.path.display().to_string())
            .collect()
    }

    /// The paths of the files that have no rows, as they are shown.
    pub(crate) fn empty(&self) -> impl Iterator<Item = String> {
        self.empty.iter().map(|path| path.display().to_string())
    }

    /// Whether only a path decides between exports that were written in the same second.
    pub(crate) fn has_ties(&self) -> bool {
        let ranks = self.files.iter().filter_map(|file| file.rank);
        let exports: BTreeSet<(i64, i64)> =
            ranks.map(|rank| (rank.modified_s, rank.place)).collect();
        let mut seconds = exports.iter().map(|(modified_s, _)| *modified_s);
        let mut before = seconds.next();
        seconds.any(|second| before.replace(second) == Some(second))
    }

    /// A plan that counts the runs of each project whose records differ while only the path of their
    /// exports decides between them; `None` where there can be none.
    pub(crate) fn undecided(
        &self,
        wanted: &Wanted,
    ) -> Result<Option<LogicalPlan>, DataFusionError> {
        let columns = [dedup::KEY.as_slice(), &dedup::COMPARED].concat();
        let records = self.records(&columns, &dedup::CLASS, wanted)?;
        records
            .map(|records| dedup::undecided(records, self.known(wanted)))
            .transpose()
    }

    /// What the footers prove of the projects.
    pub(crate) fn proven(&self) -> BTreeMap<Uuid, Facts> {
        let mut projects: BTreeMap<Uuid, Facts> = BTreeMap::new();
        for file in &self.files {
            if let Some((project, facts)) = &file.proven {
                projects.entry(*project).or_default().add(facts);
            }
        }
        projects
    }

    /// A plan for what the footers do not prove: the runs' own ids, tenants and starts. `None` where
    /// all is proven. Its rows are read by [`Files::scanned`].
    pub(crate) fn unproven(&self) -> Result<Option<LogicalPlan>, DataFusionError> {
        let files = self.files.iter().filter(|file| file.proven.is_none());
        let shapes = self.shapes(files.cloned(), Breadth::Known);
        let plans = shapes.iter().enumerate().map(|(index, shape)| {
            let columns = [Column::SessionId, Column::TenantId, Column::StartTime];
            let tenant = ident(Column::TenantId.name());
            shape
                .scan(&columns, &[], &Window::default())?
                .aggregate(
                    [ident(Column::SessionId.name())],
                    [
                        min(ident(Column::StartTime.name())).alias("start"),
                        max(ident(Column::StartTime.name())).alias("last"),
                        min(tenant.clone()).alias("first_tenant"),
                        max(tenant).alias("last_tenant"),
                    ],
                )?
                .project([
                    ident(Column::SessionId.name()),
                    ident("start"),
                    ident("last"),
                    ident("first_tenant"),
                    ident("last_tenant"),
                    lit(i64::try_from(index).unwrap_or(i64::MAX)).alias("shape"),
                ])?
                .build()
        });
        union(plans)
    }

    /// Reads rows of [`Files::unproven`].
    pub(crate) fn scanned(
        &self,
        projects: &mut BTreeMap<Uuid, Facts>,
        batch: &RecordBatch,
    ) -> Result<()> {
        let files = self.files.iter().filter(|file| file.proven.is_none());
        let shapes = self.shapes(files.cloned(), Breadth::Known);
        for row in 0..batch.num_rows() {
            let project = uuid_at(batch, 0, row, Column::SessionId)?.ok_or_else(no_project)?;
            let tenant = |index| uuid_at(batch, index, row, Column::TenantId);
            let tenants = [tenant(3)?, tenant(4)?];
            let time = |index: usize| {
                let times = batch.column(index);
                let times = times.as_primitive::<TimestampMicrosecondType>();
                times.is_valid(row).then(|| times.value(row))
            };
            let shape = batch.column(5).as_primitive::<Int64Type>().value(row);
            let shape = usize::try_from(shape)
                .ok()
                .and_then(|shape| shapes.get(shape));
            projects.entry(project).or_default().add(&Facts {
                tenants: tenants.into_iter().flatten().collect(),
                start_us: time(1),
                last_us: time(2),
                columns: shape
                    .map(|shape| shape.sample.columns())
                    .unwrap_or_default(),
                lacks_traces: shape.is_some_and(|shape| shape.sample.lacks_traces()),
            });
        }
        Ok(())
    }

    /// The files that may hold wanted runs.
    pub(crate) fn wanted(&self, wanted: &Wanted) -> impl Iterator<Item = &Arc<SourceFile>> {
        let files = self.files.iter();
        files.filter(|file| file.may_hold(&wanted.window, wanted.projects.as_ref()))
    }

    /// The files that may hold runs that are wanted for any reason.
    pub(super) fn wanted_by_any(&self, wanted: &[&Wanted]) -> impl Iterator<Item = &SourceFile> {
        let may_hold = |file: &&Arc<SourceFile>| {
            let mut wanted = wanted.iter();
            wanted.any(|one| file.may_hold(&one.window, one.projects.as_ref()))
        };
        self.files.iter().filter(may_hold).map(AsRef::as_ref)
    }

    /// The project of all wanted runs, where their files prove that there is but one.
    pub(crate) fn only_project(&self, wanted: &Wanted) -> Option<Uuid> {
        let mut files = self.wanted(wanted);
        let first = files.next()?.project;
        let is_same = files.all(|file| file.project == first);
        first.value.filter(|_| first.is_proven && is_same)
    }

    /// How many files may hold what is wanted for any reason.
    pub(crate) fn n_wanted(&self, wanted: &[&Wanted]) -> usize {
        let of_tallies = self.tallies.iter().filter(|file| file.is_taken());
        self.wanted_by_any(wanted).count() + of_tallies.count()
    }

    /// How many rows the files have by their footers that may hold wanted runs.
    pub(crate) fn n_rows(&self, wanted: &Wanted) -> u64 {
        self.wanted(wanted).map(|file| file.footer.n_rows).sum()
    }

    /// The wanted runs of these files as one canonical table, each once.
    pub(crate) fn runs(
        &self,
        columns: &[Column],
        wanted: &Wanted,
    ) -> Result<LogicalPlan, DataFusionError> {
        let shapes = self.shapes(self.counted(wanted).cloned(), Breadth::Known);
        let runs = shapes
            .iter()
            .map(|shape| shape.wanted_runs(columns, &[], wanted)?.build());
        Ok(union(runs)?.unwrap_or(nothing(columns)?))
    }

    /// The files that may hold wanted runs in their newest records.
    pub(super) fn counted(&self, wanted: &Wanted) -> impl Iterator<Item = &Arc<SourceFile>> {
        self.wanted(wanted)
            .filter(|file| match (file.rank, &wanted.newest) {
                (Some(rank), Some(newest)) => {
                    file.may_lack_ids() || newest.has_any_of(rank.first_row)
                }
                _ => true,
            })
    }

    /// How many rows the files have that may repeat each other's runs.
    pub(crate) fn n_repeated(&self, wanted: &Wanted) -> u64 {
        self.repeated(wanted).map(|file| file.footer.n_rows).sum()
    }

    /// A plan for where the newest record of each wanted run stands: rows of [`Newest::add`]. `None`
    /// where no file repeats another's runs.
    pub(crate) fn newest(&self, wanted: &Wanted) -> Result<Option<LogicalPlan>, DataFusionError> {
        let records = self.records(&dedup::KEY, &dedup::PLACE, wanted)?;
        records
            .map(|records| dedup::newest(records, self.known(wanted)))
            .transpose()
    }

    /// Groups files by what decides how they are read, in the order of their paths.
    pub(super) fn shapes(
        &self,
        files: impl Iterator<Item = Arc<SourceFile>>,
        breadth: Breadth,
    ) -> Vec<Shape> {
        shapes(files, breadth, self.tenant)
    }

    fn known(&self, wanted: &Wanted) -> dedup::Known {
        let projects = self.repeated(wanted).map(|file| file.project);
        let projects: BTreeSet<_> = projects
            .map(|project| project.value.filter(|_| project.is_proven))
            .collect();
        let only = projects.first().filter(|_| projects.len() == 1);
        dedup::Known {
            project: only.copied().flatten(),
            may_lack_ids: self.repeated(wanted).any(|file| file.may_lack_ids()),
        }
    }

    fn repeated(&self, wanted: &Wanted) -> impl Iterator<Item = &Arc<SourceFile>> {
        self.wanted(wanted).filter(|file| file.rank.is_some())
    }

    /// The records of wanted runs in files that may repeat each other's, with constants of their files.
    fn records(
        &self,
        columns: &[Column],
        constants: &[&str],
        wanted: &Wanted,
    ) -> Result<Option<LogicalPlanBuilder>, DataFusionError> {
        let wanted = Wanted {
            newest: None,
            ..wanted.clone()
        };
        let shapes = self.shapes(self.repeated(&wanted).cloned(), Breadth::Known);
        let records = shapes
            .iter()
            .map(|shape| shape.wanted_runs(columns, constants, &wanted)?.build());
        Ok(union(records)?.map(LogicalPlanBuilder::new))
    }
}

/// Files that are read alike.
pub(super) struct Shape {
    /// Any of them.
    pub(super) sample: Arc<SourceFile>,
    schema: SchemaRef,
    files: Vec<PartitionedFile>,
    /// The tenant whose runs count, where not all of the files' runs need be its.
    tenant: Option<Uuid>,
}

impl Shape {
    /// The wanted runs as canonical columns, and constants of their files.
    fn wanted_runs(
        &self,
        columns: &[Column],
        constants: &[&str],
        wanted: &Wanted,
    ) -> Result<LogicalPlanBuilder, DataFusionError> {
        let conditions = self.conditions(wanted);
        let mut read_constants = constants.to_vec();
        if self.is_chosen_from(wanted) {
            read_constants.extend(dedup::PLACE);
        }
        let needed = conditions.iter().filter_map(|(column, _)| *column);
        let read: Vec<Column> = columns
            .iter()
            .copied()
            .chain(needed.filter(|column| !columns.contains(column)))
            .collect();
        let plan = self.scan(&read, &read_constants, &wanted.window)?;
        let plan = conditions
            .into_iter()
            .try_fold(plan, |plan, (_, condition)| plan.filter(condition))?;
        if read.len() == columns.len() && read_constants.len() == constants.len() {
            return Ok(plan);
        }
        let names = columns.iter().map(|column| column.name());
        plan.project(names.chain(constants.iter().copied()).map(ident))
    }

    /// What wanted runs are, and the canonical columns that say it.
    pub(super) fn conditions(&self, wanted: &Wanted) -> Vec<(Option<Column>, Expr)> {
        let mut conditions = Vec::new();
        if wanted.only_roots {
            conditions.push((Some(Column::IsRoot), ident(Column::IsRoot.name())));
        }
        if let Some(projects) = wanted.projects.as_ref()
            && !self.sample.project.is_proven
        {
            let ids = projects.iter().map(|id| lit(id.to_string())).collect();
            let is_wanted = ident(Column::SessionId.name()).in_list(ids, false);
            conditions.push((Some(Column::SessionId), is_wanted));
        }
        if let (Some(newest), true) = (&wanted.newest, self.is_chosen_from(wanted)) {
            let may_lack_ids = self.sample.may_lack_ids();
            let id = may_lack_ids.then_some(Column::Id);
            conditions.push((id, dedup::counts(newest, may_lack_ids)));
        }
        conditions
    }

    /// Whether the places of records say which of them are wanted.
    fn is_chosen_from(&self, wanted: &Wanted) -> bool {
        wanted.newest.is_some() && self.sample.rank.is_some()
    }

    /// Scans the files' runs in a window and maps them to canonical columns, and constants of their files.
    fn scan(
        &self,
        columns: &[Column],
        constants: &[&str],
        window: &Window,
    ) -> Result<LogicalPlanBuilder, DataFusionError> {
        let plan = self.table(window)?;
        let canonical = columns.iter().map(|column| self.canonical(*column));
        plan.project(canonical.chain(constants.iter().copied().map(ident)))
    }

    /// A canonical column as an expression over the files' own.
    pub(super) fn canonical(&self, column: Column) -> Expr {
        let SourceFile { format, footer, .. } = self.sample.as_ref();
        let is_proven = match column {
            Column::SessionId => self.sample.project.is_proven,
            Column::TenantId => self.sample.tenant.is_proven,
            _ => false,
        };
        format.expr(column, footer, is_proven)
    }

    /// The files' own columns and their constants, of runs in a window.
    pub(super) fn table(&self, window: &Window) -> Result<LogicalPlanBuilder, DataFusionError> {
        let constant = |(name, kind)| Arc::new(Field::new(name, kind, true));
        let cut = |file: &PartitionedFile| {
            let range = file.extension::<StartRange>();
            if window.holds(range.map(|StartRange(first, last)| (*first, *last))) {
                file.clone()
            } else {
                file.clone().with_extension(Cut)
            }
        };
        let table = FileTable::new(
            Arc::clone(&self.schema),
            CONSTANTS.map(constant).to_vec(),
            format::ROW,
            self.files.iter().map(cut).collect(),
        );
        let mut plan = LogicalPlanBuilder::scan("runs", provider_as_source(Arc::new(table)), None)?;
        let SourceFile { format, footer, .. } = self.sample.as_ref();
        if let Some(within) = format.within(window, footer) {
            plan = plan.filter(within)?;
        }
        // Every plan reads runs here, so that no other tenant's can get into any.
        if let Some(tenant) = self.tenant {
            let own = format.expr(Column::TenantId, footer, false).unalias();
            plan = plan.filter(own.eq(lit(tenant.to_string())))?;
        }
        Ok(plan)
    }
}

fn shapes(
    files: impl Iterator<Item = Arc<SourceFile>>,
    breadth: Breadth,
    tenant: Option<Uuid>,
) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    let mut schemas: Vec<(Arc<SourceFile>, [SchemaRef; 2])> = Vec::new();
    for file in files {
        let is_alike = |other: &&(Arc<SourceFile>, [SchemaRef; 2])| {
            std::ptr::eq(other.0.format, file.format) && other.0.footer.shares_with(&file.footer)
        };
        let known = schemas.iter().rev().find(is_alike);
        let known = known.map(|(_, schemas)| schemas.clone());
        let [schema, all] = known.unwrap_or_else(|| {
            let new = file.schemas(breadth);
            schemas.push((Arc::clone(&file), new.clone()));
            new
        });
        let partitioned = file.partitioned(all);
        let same = shapes.iter_mut().find(|shape| {
            let sample = &shape.sample;
            shape.schema == schema
                && std::ptr::eq(sample.format, file.format)
                && sample.project.is_proven == file.project.is_proven
                && sample.tenant.is_proven == file.tenant.is_proven
                && sample.rules == file.rules
                && sample.rank.is_some() == file.rank.is_some()
                && (file.rank.is_none() || sample.may_lack_ids() == file.may_lack_ids())
        });
        match same {
            Some(shape) => shape.files.push(partitioned),
            None => shapes.push(Shape {
                schema,
                tenant: tenant.filter(|_| !file.tenant.is_proven),
                sample: file,
                files: vec![partitioned],
            }),
        }
    }
    shapes
}

pub(super) fn union(
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
        problem: format!(
            "column {}: expected a UUID, found {}",
            column.name(),
            quoted(text)
        ),
    })
}

pub(crate) fn no_project() -> Error {
    Error::BadData {
        problem: "a run without a project: neither its session_id nor the path says which"
            .to_owned(),
    }
}
