//! Runs as a whole: every column that files have, in the types of a bulk export, to be written anew.
//!
//! What a format says of a canonical column is written resolved, so that it does not depend on the file in
//! which a run lies. All else goes along as it is. Files are grouped to jobs that share no day of a project.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use uuid::Uuid;

use super::dedup;
use super::file::{Breadth, DAY_US, NOTABLE, SourceFile};
use super::format::{FIRST_ROW, RESOLVABLE, ROW, resolved};
use super::scan::{Facts, Files, Shape, Wanted, union};
use crate::runs::{Column, functions};

/// The columns of a bulk export, in its order.
const EXPORTED: [&str; 29] = [
    "id",
    "tenant_id",
    "session_id",
    "trace_id",
    "parent_run_id",
    "parent_run_ids",
    "reference_example_id",
    "name",
    "run_type",
    "start_time",
    "end_time",
    "status",
    "is_root",
    "dotted_order",
    "trace_tier",
    "inputs",
    "outputs",
    "error",
    "extra",
    "events",
    "tags",
    "feedback_stats",
    "total_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_cost",
    "prompt_cost",
    "completion_cost",
    "first_token_time",
];

/// Those of them whose values are resolved.
const CANONICAL: [Column; 26] = [
    Column::Id,
    Column::TenantId,
    Column::SessionId,
    Column::TraceId,
    Column::ParentRunId,
    Column::ReferenceExampleId,
    Column::Name,
    Column::RunType,
    Column::StartTime,
    Column::EndTime,
    Column::Status,
    Column::IsRoot,
    Column::TraceTier,
    Column::Inputs,
    Column::Outputs,
    Column::Error,
    Column::Extra,
    Column::Events,
    Column::FeedbackStats,
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
    Column::TotalCost,
    Column::PromptCost,
    Column::CompletionCost,
    Column::FirstTokenTime,
];

/// The columns that are texts, or lists of texts, which become JSON texts.
const TEXTS: [&str; 7] = [
    "dotted_order",
    "parent_run_ids",
    "tags",
    "prompt_token_details",
    "completion_token_details",
    "prompt_cost_details",
    "completion_cost_details",
];

/// The big columns, which statistics never read.
const BIG: [&str; 3] = ["inputs", "outputs", "events"];

/// A column that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WholeColumn {
    /// What it is called in the file that is written.
    pub(crate) name: String,
    /// Its type between reading and writing.
    pub(crate) kind: DataType,
    from: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// A canonical column.
    Canonical(Column),
    /// The file's own column of that name.
    File,
}

/// Files whose runs are written together: no other job has a run of the same project and day.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The files.
    pub(crate) files: Files,
    /// The projects that they may hold runs of.
    pub(crate) projects: BTreeSet<Uuid>,
    /// Whether they say which runs belong to a trace.
    pub(crate) has_traces: bool,
    /// The bytes of a row, on average, before it is compressed.
    pub(crate) row_bytes: u64,
}

/// What is written of each project, by whether its files say which runs belong to a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    columns: BTreeMap<(Uuid, bool), Vec<WholeColumn>>,
}

impl Written {
    /// The columns of a project's files, in the order in which they are written.
    pub(crate) fn of(&self, project: Uuid, has_traces: bool) -> &[WholeColumn] {
        let columns = self.columns.get(&(project, has_traces));
        columns.map(Vec::as_slice).unwrap_or_default()
    }

    /// All columns of a job's projects, each once.
    fn of_job(&self, job: &Job) -> Vec<WholeColumn> {
        let mut all: Vec<WholeColumn> = Vec::new();
        for project in &job.projects {
            for column in self.of(*project, job.has_traces) {
                if all.iter().all(|other| other.name != column.name) {
                    all.push(column.clone());
                }
            }
        }
        all
    }
}

/// How a column that no format knows is read; `None` where it is not simple enough to be carried over.
pub(super) fn read_as(field: &FieldRef) -> Option<DataType> {
    let is_text = TEXTS.contains(&field.name().as_str());
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => Some(DataType::Utf8View),
        DataType::Binary | DataType::LargeBinary if is_text => Some(DataType::Utf8View),
        DataType::Binary | DataType::LargeBinary => Some(DataType::BinaryView),
        kind if is_text && is_list_of_texts(kind) => Some(kind.clone()),
        kind => is_simple(kind).then(|| kind.clone()),
    }
}

/// Whether a column can be carried over.
fn is_simple(kind: &DataType) -> bool {
    kind.is_primitive() || matches!(kind, DataType::Boolean | DataType::FixedSizeBinary(_))
}

fn is_list_of_texts(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) => {
            matches!(item.data_type(), DataType::Utf8 | DataType::LargeUtf8)
        }
        _ => false,
    }
}

impl Files {
    /// The same without the columns that cannot be carried over, and the names of these; those of members of
    /// runs in JSON too.
    pub(crate) fn simple(mut self) -> (Self, BTreeSet<String>) {
        let mut left_out = BTreeSet::new();
        for file in &mut self.files {
            if let Some(json) = &file.spooled {
                left_out.extend(json.passed_over.iter().cloned());
            }
            let fields = file.footer.schema.fields().iter();
            let nested = fields.filter(|field| read_as(field).is_none());
            let nested = nested.filter(|field| *field.data_type() != DataType::Null);
            let nested: Vec<String> = nested.map(|field| field.name().clone()).collect();
            if !nested.is_empty() {
                let names: Vec<&str> = nested.iter().map(String::as_str).collect();
                let file = Arc::make_mut(file);
                file.footer = file.footer.clone().without(&names);
                left_out.extend(nested);
            }
        }
        (self, left_out)
    }

    /// Groups the files to jobs, those of the earliest paths first.
    pub(crate) fn jobs(&self, projects: &BTreeSet<Uuid>) -> Vec<Job> {
        let mut jobs = Vec::new();
        for has_traces in [true, false] {
            let files = self.files.iter().filter(|file| {
                let project = file.project.value.filter(|_| file.project.is_proven);
                let is_wanted = project.is_none_or(|project| projects.contains(&project));
                is_wanted && file.lacks_traces() != has_traces
            });
            let files: Vec<&Arc<SourceFile>> = files.collect();
            for group in connected(&files) {
                jobs.push(Job::new(group, projects, has_traces));
            }
        }
        jobs
    }

    /// What is written of each project.
    pub(crate) fn written(&self, projects: &BTreeMap<Uuid, Facts>, drop_big: bool) -> Written {
        let mut written = Written::default();
        for (project, facts) in projects {
            for has_traces in [true, false] {
                let files = self.files.iter().filter(|file| {
                    let is_of = !file.project.is_proven || file.project.value == Some(*project);
                    is_of && file.lacks_traces() != has_traces
                });
                let files: Vec<&Arc<SourceFile>> = files.collect();
                let columns = columns(&files, facts).into_iter();
                let columns =
                    columns.filter(|column| !(drop_big && BIG.contains(&column.name.as_str())));
                written
                    .columns
                    .insert((*project, has_traces), columns.collect());
            }
        }
        written
    }
}

/// Groups files of which no two groups have a day of a project in common.
fn connected<'a>(files: &[&'a Arc<SourceFile>]) -> Vec<Vec<&'a Arc<SourceFile>>> {
    let days = |file: &SourceFile| match file.range_us {
        Some((first, last)) => (first.div_euclid(DAY_US), last.div_euclid(DAY_US)),
        None => (i64::MIN, i64::MAX),
    };
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|index| files.get(*index).map(|file| days(file).0));
    let mut groups = Groups::of(files.len());
    // By project (none for files that may hold any): how far it reaches, and a file that reaches so far.
    let mut reached: BTreeMap<Option<Uuid>, (i64, usize)> = BTreeMap::new();
    for index in order {
        let Some(file) = files.get(index) else {
            continue;
        };
        let (first, last) = days(file);
        let project = file.project.value.filter(|_| file.project.is_proven);
        for (other, (end, of)) in &reached {
            if *end >= first && (*other == project || project.is_none() || other.is_none()) {
                groups.join(*of, index);
            }
        }
        let end = reached.entry(project).or_insert((last, index));
        if last >= end.0 {
            *end = (last, index);
        }
    }
    let mut found: BTreeMap<usize, Vec<&Arc<SourceFile>>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        found.entry(groups.first(index)).or_default().push(file);
    }
    found.into_values().collect()
}

/// Numbers in groups, each known by its least.
struct Groups(Vec<usize>);

impl Groups {
    fn of(n: usize) -> Self {
        Self((0..n).collect())
    }

    fn first(&self, mut number: usize) -> usize {
        while let Some(less) = self.0.get(number).copied().filter(|less| *less != number) {
            number = less;
        }
        number
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        if let Some(greater) = self.0.get_mut(one.max(other)) {
            *greater = one.min(other);
        }
    }
}

/// The columns of some files of a project, those of an export in its order, then the files' own, then those
/// that are written resolved.
fn columns(files: &[&Arc<SourceFile>], facts: &Facts) -> Vec<WholeColumn> {
    let says = |column: Column| match column {
        Column::IsRoot | Column::SessionId | Column::TenantId => true,
        _ if NOTABLE.contains(&column) && !facts.columns.contains(&column) => false,
        _ => files.iter().any(|file| file.has(column)),
    };
    let mut own: BTreeMap<&str, DataType> = BTreeMap::new();
    for file in files {
        for field in file.footer.schema.fields() {
            let Some(kind) = read_as(field) else { continue };
            let kind = if TEXTS.contains(&field.name().as_str()) {
                DataType::Utf8View
            } else {
                kind
            };
            let held = own.entry(field.name()).or_insert_with(|| kind.clone());
            if *held != kind {
                *held = DataType::Utf8View;
            }
        }
    }
    let canonical = CANONICAL.map(|column| (column.name(), column));
    let canonical = BTreeMap::from(canonical);
    let resolved_names = RESOLVABLE.map(resolved);
    let mut columns = Vec::new();
    let file = |name: &str, kind: &DataType| WholeColumn {
        name: name.to_owned(),
        kind: kind.clone(),
        from: From::File,
    };
    for name in EXPORTED {
        match (canonical.get(name), own.get(name)) {
            (Some(column), _) if says(*column) => columns.push(WholeColumn {
                name: name.to_owned(),
                kind: column.data_type(),
                from: From::Canonical(*column),
            }),
            (None, Some(kind)) => columns.push(file(name, kind)),
            _ => {}
        }
    }
    for (name, kind) in &own {
        let is_other = !EXPORTED.contains(name) && resolved_names.iter().all(|one| one != name);
        if is_other {
            columns.push(file(name, kind));
        }
    }
    for column in RESOLVABLE.into_iter().filter(|column| says(*column)) {
        columns.push(WholeColumn {
            name: resolved(column),
            kind: column.data_type(),
            from: From::Canonical(column),
        });
    }
    columns
}

impl Job {
    /// The name of the column that tells rows apart which are alike in all that orders them.
    pub(crate) const ORDER: &'static str = "@order";

    fn new(files: Vec<&Arc<SourceFile>>, projects: &BTreeSet<Uuid>, has_traces: bool) -> Self {
        let own = files.iter().map(|file| file.project);
        let own = own.map(|project| project.value.filter(|_| project.is_proven));
        let own: Option<BTreeSet<Uuid>> = own.collect();
        let n_rows: u64 = files.iter().map(|file| file.footer.n_rows).sum();
        let n_bytes: u64 = files.iter().map(|file| file.footer.n_bytes).sum();
        Self {
            projects: own.unwrap_or_else(|| projects.clone()),
            has_traces,
            row_bytes: n_bytes / n_rows.max(1),
            files: Files {
                files: files.into_iter().cloned().collect(),
                tallies: Vec::new(),
                empty: Vec::new(),
                tenant: None,
            },
        }
    }

    /// The wanted runs of some of the job's files with all that is written of them, by project, start and id.
    /// `None` where there are none.
    pub(crate) fn sorted(
        &self,
        files: &Files,
        written: &Written,
        wanted: &Wanted,
    ) -> Result<Option<LogicalPlan>, DataFusionError> {
        let columns = written.of_job(self);
        let shapes = files.shapes(files.counted(wanted).cloned(), Breadth::Whole);
        let runs = shapes
            .iter()
            .map(|shape| shape.whole_runs(&columns, wanted)?.build());
        let Some(runs) = union(runs)? else {
            return Ok(None);
        };
        let project = (self.projects.len() > 1).then(|| Column::SessionId.name());
        let keys = [Column::StartTime.name(), Column::Id.name(), Self::ORDER];
        let keys = project.into_iter().chain(keys);
        let keys = keys.map(|name| ident(name).sort(true, true));
        LogicalPlanBuilder::new(runs).sort(keys)?.build().map(Some)
    }
}

impl Shape {
    /// The wanted runs with all that is written of them, and what orders them.
    fn whole_runs(
        &self,
        columns: &[WholeColumn],
        wanted: &Wanted,
    ) -> Result<LogicalPlanBuilder, DataFusionError> {
        let id = columns
            .iter()
            .all(|column| column.name != Column::Id.name());
        let id = id.then(|| self.canonical(Column::Id));
        let order = (ident(FIRST_ROW) + ident(ROW)).alias(Job::ORDER);
        let whole = columns.iter().map(|column| self.whole(column));
        let kept: Vec<Expr> = whole.chain(id).chain([order]).collect();
        let names = kept.iter().map(|expr| expr.schema_name().to_string());
        let names: Vec<String> = names.collect();
        let places = dedup::PLACE.into_iter().map(ident);
        let mut plan = self.table(&wanted.window)?;
        plan = plan.project(kept.into_iter().chain(places))?;
        for (_, condition) in self.conditions(wanted) {
            plan = plan.filter(condition)?;
        }
        plan.project(names.into_iter().map(ident))
    }

    /// A column that is written.
    fn whole(&self, column: &WholeColumn) -> Expr {
        let value = match column.from {
            From::Canonical(Column::IsRoot) => {
                coalesce(vec![self.canonical(Column::IsRoot), lit(false)])
            }
            From::Canonical(canonical) => self.canonical(canonical),
            From::File => self.own(&column.name, &column.kind),
        };
        value.alias(&column.name)
    }

    /// A column of the files' own as a type.
    fn own(&self, name: &str, kind: &DataType) -> Expr {
        let footer = &self.sample.footer;
        let Ok(field) = footer.schema.field_with_name(name) else {
            let nothing = ScalarValue::try_from(kind).unwrap_or(ScalarValue::Null);
            return Expr::Literal(nothing, None);
        };
        match field.data_type() {
            found if is_list_of_texts(found) => functions::json_list(ident(name), name),
            DataType::Utf8 | DataType::LargeUtf8 if *kind == DataType::Utf8View => {
                functions::text_of(ident(name), name)
            }
            found if found == kind => ident(name),
            _ => cast(ident(name), kind.clone()),
        }
    }
}
