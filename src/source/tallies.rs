//! Tally files: what is left of runs that need not be there any more.
//!
//! Parquet, a row a project, group and span of time, with all parts of their tallies; the file's metadata
//! says what they were made of. Such a file is recognized by that and never read as runs. What it says is
//! read and checked here; whether it answers a question, in `fit`.

mod fit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit, when};
use datafusion::object_store::path::Path as ObjectPath;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use uuid::Uuid;

use super::file::{NOTABLE, SourceFile};
use super::files::FileTable;
use super::footer::Footer;
use super::scan::{Facts, Files, Wanted, union};
use crate::error::{Error, Result, quoted};
use crate::request::{Every, Key, Population, Request, Usage, Window};
use crate::runs;
use crate::tally::feedback::Feedback;
use crate::tally::{self, TallyColumn};
use fit::Cut;

/// The key of a tally file's metadata.
pub(crate) const METADATA: &str = "runtally";
/// The version of the metadata and of the rows.
const VERSION: u32 = 1;
/// The number of a row in its file, which nobody asks for.
const ROW: &str = "@row";

/// What a tally file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Made {
    version: u32,
    /// The files of runs that it was made from.
    pub(crate) from: Vec<Origin>,
    /// Which of their runs count.
    pub(crate) scope: Scope,
    /// The first moment of the window, microseconds since 1970.
    pub(crate) since_us: Option<i64>,
    /// The first moment after it.
    pub(crate) until_us: Option<i64>,
    /// How long before and after the window runs could start that belong to a trace in it.
    pub(crate) trace_span_us: i64,
    /// Whether feedback is that of records, and not the runs' own.
    pub(crate) has_records: bool,
    /// What its rows are grouped by, beside the project.
    pub(crate) keys: Vec<MadeBy>,
    /// The spans of time that they are grouped by.
    pub(crate) every: Option<MadeEvery>,
    /// The columns of tallies.
    pub(crate) columns: Vec<String>,
    /// What is known of each project, whatever the window.
    pub(crate) projects: BTreeMap<Uuid, Told>,
}

/// A file of runs that tallies were made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// The path as it was given.
    path: String,
    size: u64,
    /// When it was last written, whole seconds since 1970.
    modified_s: i64,
    /// A hash of the whole path, by which it is known again when it is named otherwise.
    place: String,
}

/// Which runs count; the same for all sources of a question. Texts as they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    runs: String,
    filter: Option<String>,
    trace_filter: Option<String>,
    tree_filter: Option<String>,
}

/// A key that rows are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeBy {
    key: String,
    /// Whether a run can be in several groups of it.
    is_multiple: bool,
}

/// Spans of time that rows are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeEvery {
    length: String,
    zone: String,
    week_start: String,
}

/// What is known of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    tenants: BTreeSet<Uuid>,
    start_us: Option<i64>,
    last_us: Option<i64>,
    /// The notable columns that its files have.
    columns: Vec<String>,
    lacks_traces: bool,
    /// Whether usage is that of all runs of a trace, and not the root's.
    sums_runs: bool,
    /// Feedback on the project itself, as its bytes.
    pub(crate) feedback: Option<Vec<u8>>,
}

/// A tally file whose footer has been read.
#[derive(Debug, Clone)]
pub(crate) struct TallyFile {
    pub(crate) path: PathBuf,
    pub(crate) made: Made,
    scan: PartitionedFile,
    window: Window,
    every: Option<Every>,
    columns: BTreeSet<TallyColumn>,
    /// What of it a question takes; nothing where there is none.
    cut: Option<Cut>,
}

/// Which tallies are wanted of tally files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WantedTallies<'a> {
    pub(crate) projects: &'a BTreeSet<Uuid>,
    pub(crate) by: &'a [Key],
    pub(crate) columns: &'a BTreeSet<TallyColumn>,
}

/// The part of [`Made`] that no version changes.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Made {
    /// The columns of the file: project, keys, spans of time, tallies.
    pub(crate) fn fields(&self, columns: &BTreeSet<TallyColumn>) -> Vec<Field> {
        let mut fields = vec![Field::new(tally::PROJECT, DataType::Utf8View, false)];
        let keys = self.keys.iter().map(|made| tally::key_column(&made.key));
        fields.extend(keys.map(|key| Field::new(key, DataType::Utf8View, true)));
        if self.has_multiple() {
            fields.push(Field::new(tally::COUNTS_ONCE, DataType::Boolean, false));
        }
        if self.every.is_some() {
            fields.push(Field::new(tally::START, runs::TIME, false));
        }
        let columns = columns.iter();
        fields.extend(columns.map(|column| Field::new(column.name(), column.data_type(), true)));
        fields
    }

    /// Whether a run can be in several rows.
    fn has_multiple(&self) -> bool {
        self.keys.iter().any(|made| made.is_multiple)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let versioned: Versioned = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if versioned.version != VERSION {
            let version = versioned.version;
            return Err(format!(
                "it is of version {version}, which is not known here"
            ));
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What a file says of tallies that are made now.
    pub(crate) fn now(
        request: &Request,
        runs: &Population,
        by: &[Key],
        every: Option<&Every>,
    ) -> Self {
        let keys = by.iter().map(|key| MadeBy {
            key: key.to_string(),
            is_multiple: key.is_multiple(),
        });
        let every = every.map(|every| MadeEvery {
            length: every.to_string(),
            zone: every.zone().name().to_owned(),
            week_start: every.week_start().to_string(),
        });
        Self {
            version: VERSION,
            from: Vec::new(),
            scope: Scope::of(request, runs),
            since_us: request.window.since_us(),
            until_us: request.window.until_us(),
            trace_span_us: request.trace_span_us,
            has_records: false,
            keys: keys.collect(),
            every,
            columns: Vec::new(),
            projects: BTreeMap::new(),
        }
    }
}

impl Scope {
    pub(crate) fn of(request: &Request, runs: &Population) -> Self {
        Self {
            runs: runs.to_string(),
            filter: request.filter.as_ref().map(ToString::to_string),
            trace_filter: request.trace_filter.as_ref().map(ToString::to_string),
            tree_filter: request.tree_filter.as_ref().map(ToString::to_string),
        }
    }
}

impl Told {
    pub(crate) fn new(facts: &Facts, usage: Usage, feedback: Option<Vec<u8>>) -> Self {
        let columns = facts.columns.iter().map(|column| column.name().to_owned());
        Self {
            tenants: facts.tenants.clone(),
            start_us: facts.start_us,
            last_us: facts.last_us,
            columns: columns.collect(),
            lacks_traces: facts.lacks_traces,
            sums_runs: usage == Usage::Own,
            feedback,
        }
    }

    fn facts(&self) -> Facts {
        let is_there =
            |column: &runs::Column| self.columns.iter().any(|name| name == column.name());
        Facts {
            tenants: self.tenants.clone(),
            start_us: self.start_us,
            last_us: self.last_us,
            columns: NOTABLE.into_iter().filter(is_there).collect(),
            lacks_traces: self.lacks_traces,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        if self.sums_runs {
            Usage::Own
        } else {
            Usage::Roots
        }
    }
}

impl TallyFile {
    /// Reads what a footer says of tallies.
    pub(super) fn new(
        path: &Path,
        scan: PartitionedFile,
        footer: &Footer,
        says: &str,
    ) -> Result<Self> {
        let bad = |problem: String| Error::BadInput {
            path: path.to_owned(),
            problem,
        };
        let unreadable =
            |what: String| bad(format!("its metadata of tallies cannot be read: {what}"));
        let made = Made::parse(says).map_err(unreadable)?;
        let window = Window::new(made.since_us, made.until_us);
        let every = made.every.as_ref().map(MadeEvery::parsed).transpose();
        let columns = made.columns.iter().map(|name| {
            let column = TallyColumn::named(name);
            column.ok_or_else(|| unreadable(format!("no column is called {}", quoted(name))))
        });
        for feedback in made
            .projects
            .values()
            .filter_map(|told| told.feedback.as_ref())
        {
            Feedback::from_bytes(feedback).map_err(|error| unreadable(error.to_string()))?;
        }
        let mut file = Self {
            window: window.map_err(|error| unreadable(error.to_string()))?,
            every: every.map_err(unreadable)?,
            columns: columns.collect::<Result<_>>()?,
            cut: Some(Cut::default()),
            scan,
            path: path.to_owned(),
            made,
        };
        let schema = file.schema(footer).map_err(bad)?;
        file.scan = file.scan.with_arrow_schema(schema);
        Ok(file)
    }

    /// The file's columns, as they are read: every one that it should have, of its type.
    fn schema(&self, footer: &Footer) -> Result<SchemaRef, String> {
        let expected = self.made.fields(&self.columns);
        for field in &expected {
            let name = field.name();
            let found = footer.schema.field_with_name(name);
            let found = found
                .map_err(|_| format!("it has no column {name}"))?
                .data_type();
            let is_read = match (found, field.data_type()) {
                (DataType::Utf8, DataType::Utf8View)
                | (DataType::Binary, DataType::LargeBinary) => true,
                (found, expected) => found == expected,
            };
            if !is_read {
                let expected = field.data_type();
                return Err(format!("column {name}: expected {expected}, found {found}"));
            }
            if !field.is_nullable() && footer.n_null(name) != Some(0) {
                return Err(format!("column {name}: it may not be without a value"));
            }
        }
        let as_read = footer.schema.fields().iter().map(|field| {
            let read = expected
                .iter()
                .find(|expected| expected.name() == field.name());
            read.map_or_else(
                || Arc::clone(field),
                |read| {
                    Arc::new(
                        field
                            .as_ref()
                            .clone()
                            .with_data_type(read.data_type().clone()),
                    )
                },
            )
        });
        Ok(Arc::new(Schema::new(as_read.collect::<Vec<FieldRef>>())))
    }

    /// Whether it is made of a tenant's runs only: what is of several cannot be taken apart any more.
    pub(super) fn is_all_of(&self, tenant: Uuid) -> bool {
        let mut told = self.made.projects.values();
        told.all(|told| told.tenants.len() == 1 && told.tenants.contains(&tenant))
    }

    /// Whether a question takes anything of it.
    pub(super) fn is_taken(&self) -> bool {
        self.cut.is_some()
    }

    /// What it says of each project.
    pub(super) fn facts(&self) -> impl Iterator<Item = (Uuid, Facts)> {
        let projects = self.made.projects.iter();
        projects.map(|(id, told)| (*id, told.facts()))
    }

    /// The wanted tallies of it, each with its project, labels and the first moment of its span of time.
    fn tallies(&self, wanted: &WantedTallies<'_>) -> Result<Option<LogicalPlan>, DataFusionError> {
        let Some(cut) = &self.cut else {
            return Ok(None);
        };
        let columns = Arc::new(Schema::new(self.made.fields(&self.columns)));
        let table = FileTable::new(columns, Vec::new(), ROW, vec![self.scan.clone()]);
        let mut plan =
            LogicalPlanBuilder::scan("tallies", provider_as_source(Arc::new(table)), None)?;
        if let Some(is_within) = cut.condition() {
            plan = plan.filter(is_within)?;
        }
        if self
            .made
            .projects
            .keys()
            .any(|id| !wanted.projects.contains(id))
        {
            let ids = wanted.projects.iter().map(|id| lit(id.to_string()));
            plan = plan.filter(ident(tally::PROJECT).in_list(ids.collect(), false))?;
        }
        if self.made.has_multiple() {
            let once = ident(tally::COUNTS_ONCE);
            let is_split = wanted.by.iter().any(Key::is_multiple);
            plan = plan.filter(if is_split {
                Expr::Not(Box::new(once))
            } else {
                once
            })?;
        }
        let keys = wanted.by.iter().filter(|key| **key != Key::Project);
        let keys = keys.map(|key| ident(tally::key_column(&key.to_string())));
        let tallies = wanted.columns.iter().map(|column| ident(column.name()));
        let project = std::iter::once(ident(tally::PROJECT));
        let start = self.start()?.alias(tally::START);
        plan.project(project.chain(keys).chain([start]).chain(tallies))?
            .build()
            .map(Some)
    }

    /// A moment in a row's span of time, as far as that lies in the window.
    fn start(&self) -> Result<Expr, DataFusionError> {
        let moment = |us| Expr::Literal(ScalarValue::TimestampMicrosecond(us, None), None);
        let start = ident(tally::START);
        match (self.every, self.window.since_us()) {
            (None, _) => Ok(moment(Some(self.range_us().0))),
            (Some(_), None) => Ok(start),
            (Some(_), Some(since)) => {
                let since = moment(Some(since));
                when(start.clone().lt(since.clone()), since).otherwise(start)
            }
        }
    }
}

impl MadeEvery {
    fn parsed(&self) -> Result<Every, String> {
        let Self {
            length,
            zone,
            week_start,
        } = self;
        let zone = zone.parse().map_err(|_| format!("{zone:?} is no zone"))?;
        let from = week_start
            .parse()
            .map_err(|_| format!("{week_start:?} is no day"))?;
        Every::parse(length, zone, from).map_err(|error| error.to_string())
    }
}

impl SourceFile {
    /// What tallies say of it that are made from it.
    fn origin(&self) -> Origin {
        let object = &self.scan().object_meta;
        // Not those of the table that was made of it.
        let (size, modified_s, place) = match &self.spooled {
            Some(json) => {
                let place = ObjectPath::from_absolute_path(&json.canonical).unwrap_or_default();
                (json.size, json.modified_s, place)
            }
            None => (
                object.size,
                object.last_modified.timestamp(),
                object.location.clone(),
            ),
        };
        Origin {
            path: self.path.display().to_string(),
            size,
            modified_s,
            place: format!("{:016x}", XxHash64::oneshot(0, place.as_ref().as_bytes())),
        }
    }
}

impl Files {
    /// What tally files say of projects.
    pub(crate) fn told(&self) -> impl Iterator<Item = (Uuid, Facts)> {
        self.tallies.iter().flat_map(|file| file.facts())
    }

    /// The files of runs that are read for any reason, and those that tally files were made from.
    pub(crate) fn origins(&self, wanted: &[&Wanted]) -> Vec<Origin> {
        let of_tallies = self.tallies.iter().filter(|file| file.is_taken());
        let of_tallies = of_tallies.flat_map(|file| file.made.from.iter().cloned());
        let of_runs = self.wanted_by_any(wanted).map(SourceFile::origin);
        let origins: BTreeSet<Origin> = of_runs.chain(of_tallies).collect();
        origins.into_iter().collect()
    }

    /// The wanted tallies of all tally files as one table; `None` where there are none.
    pub(crate) fn tallies(
        &self,
        wanted: &WantedTallies<'_>,
    ) -> Result<Option<LogicalPlan>, DataFusionError> {
        let plans = self.tallies.iter().map(|file| file.tallies(wanted));
        union(plans.filter_map(Result::transpose))
    }
}
