//! One file of runs: what its path and its footer say, and how a scan should read it.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::NaiveTime;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::context::SessionContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::{ObjectMeta, ObjectStoreExt, path::Path as ObjectPath};
use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use uuid::Uuid;

use super::footer::{Footer, Schemas};
use super::format::Format;
use super::json::Spooled;
use super::listing::{Export, Keys, Listed};
use super::pages::ShownPath;
use super::scan::{Facts, FileFacts};
use super::tallies::TallyFile;
use super::whole;
use crate::error::{Error, Result, without_kinds};
use crate::request::Window;
use crate::runs::Column;

/// The columns of which it matters whether a project's files have them at all.
pub(super) const NOTABLE: [Column; 7] = [
    Column::Id,
    Column::EndTime,
    Column::FirstTokenTime,
    Column::IsError,
    Column::TotalTokens,
    Column::PromptTokens,
    Column::CompletionTokens,
];

/// Microseconds of a day.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// A file of runs whose footer has been read.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) keys: Keys,
    scan: PartitionedFile,
    pub(super) format: &'static Format,
    pub(super) footer: Footer,
    /// The project and the tenant of its runs: proven for all of them, or only what the path says
    /// where a run says nothing.
    pub(super) project: Constant,
    pub(super) tenant: Constant,
    pub(super) export: Export,
    /// Where it stands among those that may repeat its runs; `None` where none does.
    pub(super) rank: Option<Rank>,
    /// The place of its first row among those of all files, by their paths.
    pub(super) first_row: i64,
    /// The table that was made of it, where it is no Parquet itself.
    pub(super) spooled: Option<Arc<Spooled>>,
    /// When the first and the last of its runs start, in microseconds, as far as the footer proves it.
    pub(super) range_us: Option<(i64, i64)>,
    /// Which rules hold for the columns that have several.
    pub(super) rules: Vec<Option<usize>>,
    /// The file's project and what the footer proves of it, where it proves all of it.
    pub(super) proven: Option<(Uuid, Facts)>,
}

/// When the first and the last of a file's runs start, attached to the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartRange(pub(super) i64, pub(super) i64);

/// Where a file and its export stand among those that may repeat each other's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// When the latest of the export's files was written, whole seconds since 1970.
    pub(super) modified_s: i64,
    /// Its place by that, then by its path.
    pub(super) place: i64,
    /// The place of the file's first row among the records of all, by that and then by its path.
    pub(super) first_row: i64,
}

/// What holds for runs of which neither their file nor its path says it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Assumed {
    pub(super) project: Option<Uuid>,
    pub(super) tenant: Option<Uuid>,
    /// The format of all files, whatever they look like.
    pub(super) format: Option<&'static Format>,
}

/// What holds for a file's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Constant {
    pub(super) value: Option<Uuid>,
    pub(super) is_proven: bool,
}

/// Which columns of files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breadth {
    /// Those that the format knows.
    Known,
    /// All of them.
    Whole,
}

/// A file whose footer has been read.
pub(super) enum Opened {
    Runs(Arc<SourceFile>),
    Tallies(Arc<TallyFile>),
    /// It has no rows.
    Nothing(PathBuf),
}

/// Files whose footers are to be read, each with the table that was made of it.
pub(super) type Readable = Vec<(Listed, Option<Arc<Spooled>>)>;

/// Reads the footers of files, and gives them in the same order; no more than it takes to find the first
/// that cannot be read, where such `ends` it.
///
/// Each of a few tasks reads one file after another: to wake another thread for each would take longer than
/// to read its footer.
pub(super) async fn open_all(
    ctx: &SessionContext,
    files: Readable,
    assumed: Assumed,
    ends: bool,
) -> Result<Vec<Result<Opened>>> {
    let n_tasks = ctx.state().config().target_partitions().min(files.len());
    let files = Arc::new(files);
    let next = Arc::new(AtomicUsize::new(0));
    let schemas = Arc::new(Schemas::default());
    let mut tasks = JoinSet::new();
    for _ in 0..n_tasks {
        let (ctx, files, next) = (ctx.clone(), Arc::clone(&files), Arc::clone(&next));
        let schemas = Arc::clone(&schemas);
        tasks.spawn(async move {
            let mut opened = Vec::new();
            loop {
                consume_budget().await;
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((listed, spooled)) = files.get(number) else {
                    return opened;
                };
                let file = open(&ctx, listed, spooled.as_ref(), assumed, &schemas).await;
                if file.is_err() && ends {
                    next.store(files.len(), Ordering::Relaxed);
                }
                opened.push((number, file));
            }
        });
    }
    let mut all = Vec::with_capacity(files.len());
    while let Some(opened) = tasks.join_next().await {
        all.extend(opened.map_err(|error| Error::Engine(Box::new(error)))?);
    }
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, opened)| opened).collect())
}

/// Reads the footer of a file, or of the table that was made of it.
async fn open(
    ctx: &SessionContext,
    listed: &Listed,
    spooled: Option<&Arc<Spooled>>,
    assumed: Assumed,
    schemas: &Schemas,
) -> Result<Opened> {
    let table = spooled.map_or(&listed.canonical, |spooled| &spooled.table);
    let path = &listed.path;
    let bad = |problem: String| Error::BadInput {
        path: path.clone(),
        problem,
    };
    let read = async {
        let runtime = ctx.runtime_env();
        let store = runtime.object_store(ObjectStoreUrl::local_filesystem())?;
        let location = ObjectPath::from_absolute_path(table).map_err(|_| {
            let problem = "its path has characters in it with which no file can be opened";
            DataFusionError::External(problem.into())
        })?;
        let object = match spooled {
            Some(_) => store.head(&location).await?,
            None => ObjectMeta {
                location,
                last_modified: listed.modified.into(),
                size: listed.size,
                e_tag: None,
                version: None,
            },
        };
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let footer = Footer::read(store.as_ref(), &object, cache, schemas).await?;
        Ok::<_, DataFusionError>((PartitionedFile::new_from_meta(object), footer))
    };
    // The parquet crate panics on some damaged footers.
    let (scan, mut footer) = AssertUnwindSafe(read)
        .catch_unwind()
        .await
        .map_err(|_| bad("its footer is damaged".to_owned()))?
        .map_err(|error| {
            let problem = error.strip_backtrace();
            bad(format!(
                "no readable Parquet file: {}",
                without_kinds(&problem)
            ))
        })?;
    if let Some(says) = &footer.tallies {
        let file = TallyFile::new(path, scan, &footer, says)?;
        return Ok(Opened::Tallies(Arc::new(file)));
    }
    if footer.n_rows == 0 {
        return Ok(Opened::Nothing(path.clone()));
    }
    if let Some(spooled) = spooled {
        footer = footer.without(&spooled.absent).with_unread(&spooled.unread);
    }
    schemas.share(&mut footer);
    // Dumps mostly do not name it.
    let no_tenant = spooled.map(|_| Uuid::nil());
    let assumed = Assumed {
        tenant: assumed.tenant.or(no_tenant),
        ..assumed
    };
    let file = SourceFile::new(listed, scan, footer, assumed)?;
    Ok(Opened::Runs(Arc::new(SourceFile {
        spooled: spooled.cloned(),
        ..file
    })))
}

impl SourceFile {
    fn new(
        listed: &Listed,
        scan: PartitionedFile,
        footer: Footer,
        assumed: Assumed,
    ) -> Result<Self> {
        let bad = |problem: String| Error::BadInput {
            path: listed.path.clone(),
            problem,
        };
        let format = Format::of(&footer, assumed.format).map_err(bad)?;
        if let Some(start) = format.column_of(Column::StartTime)
            && let Some(n_null @ 1..) = footer.n_null(start)
        {
            let n_rows = footer.n_rows;
            return Err(bad(format!(
                "column {start}: {n_null} of {n_rows} runs do not say when they started"
            )));
        }
        let constant = |column: Column, key: Option<Uuid>, assumed: Option<Uuid>| {
            let name = format.column_of(column).filter(|name| footer.has(name));
            let proven = name.and_then(|name| footer.uuid(name));
            // The path is proof as well, where the column says nothing else.
            let column_is_silent = name.is_none_or(|name| {
                footer.all_null(name) || (key.is_some() && !footer.is_bounded(name))
            });
            Constant {
                value: proven.or(key).or(assumed),
                is_proven: proven.is_some() || column_is_silent,
            }
        };
        let mut file = Self {
            range_us: format
                .column_of(Column::StartTime)
                .and_then(|start| footer.range_us(start)),
            rules: format.choices(&footer),
            proven: None,
            project: constant(Column::SessionId, listed.keys.project, assumed.project),
            tenant: constant(Column::TenantId, listed.keys.tenant, assumed.tenant),
            export: listed.export.clone(),
            rank: None,
            first_row: 0,
            spooled: None,
            path: listed.path.clone(),
            keys: listed.keys.clone(),
            scan,
            format,
            footer,
        };
        for (what, constant) in [("project", file.project), ("tenant", file.tenant)] {
            if constant.is_proven && constant.value.is_none() {
                return Err(bad(format!(
                    "nothing says which {what} its runs belong to: neither a column nor the path; \
                     --assume-{what} UUID would"
                )));
            }
        }
        file.proven = file.prove();
        Ok(file)
    }

    /// Whether it may hold runs of a tenant.
    pub(super) fn may_be_of(&self, tenant: Uuid) -> bool {
        !self.tenant.is_proven || self.tenant.value == Some(tenant)
    }

    pub(super) fn scan(&self) -> &PartitionedFile {
        &self.scan
    }

    fn prove(&self) -> Option<(Uuid, Facts)> {
        if !(self.project.is_proven && self.tenant.is_proven) {
            return None;
        }
        let facts = Facts {
            tenants: self.tenant.value.into_iter().collect(),
            start_us: Some(self.range_us?.0),
            last_us: Some(self.range_us?.1),
            columns: self.columns(),
            lacks_traces: self.lacks_traces(),
        };
        Some((self.project.value?, facts))
    }

    pub(super) fn columns(&self) -> BTreeSet<Column> {
        let has = |column: &Column| self.format.has(*column, &self.footer);
        NOTABLE.into_iter().filter(has).collect()
    }

    /// Whether it may hold runs without an id.
    pub(super) fn may_lack_ids(&self) -> bool {
        let id = self.format.column_of(Column::Id);
        id.and_then(|id| self.footer.n_null(id)) != Some(0)
    }

    /// Whether nothing in it says which runs belong to a trace.
    pub(super) fn lacks_traces(&self) -> bool {
        !self.format.has(Column::TraceId, &self.footer)
    }

    pub(super) fn may_hold(&self, window: &Window, projects: Option<&BTreeSet<Uuid>>) -> bool {
        let is_wanted = |projects: &BTreeSet<Uuid>| {
            let project = self.project.value;
            project.is_some_and(|project| projects.contains(&project))
        };
        let of_project = !self.project.is_proven || projects.is_none_or(is_wanted);
        // The path's day counts only where the footer does not say, and with a day of slack.
        let range = self.range_us.or_else(|| {
            let day = self.day_us()?;
            Some((day.checked_sub(DAY_US)?, day.checked_add(2 * DAY_US)?))
        });
        let in_window = range.is_none_or(|(first, last)| window.meets(first, last));
        of_project && in_window
    }

    /// The midnight (UTC) of the day on which its runs started by its path.
    fn day_us(&self) -> Option<i64> {
        let midnight = self.keys.day?.and_time(NaiveTime::MIN);
        Some(midnight.and_utc().timestamp_micros())
    }

    /// The file's path as text, its size and what its footer says of it.
    pub(super) fn described(&self) -> FileFacts {
        FileFacts {
            path: self.path.display().to_string(),
            format: self.format.name,
            n_bytes: match &self.spooled {
                Some(json) => json.size,
                None => self.scan.object_meta.size,
            },
            n_rows: self.footer.n_rows,
        }
    }

    /// Whether it says anything of a column.
    pub(super) fn has(&self, column: Column) -> bool {
        self.format.has(column, &self.footer)
    }

    /// How the scan should give a column; `None` where it is not read.
    fn read_as(&self, field: &FieldRef, breadth: Breadth) -> Option<DataType> {
        let known = self.format.read_as(field);
        match breadth {
            Breadth::Known => known,
            Breadth::Whole => known.or_else(|| whole::read_as(field)),
        }
    }

    /// The file's columns as the scan should give them, those that are read; and all of them as the crate's
    /// reader can.
    pub(super) fn schemas(&self, breadth: Breadth) -> [SchemaRef; 2] {
        let read = self.footer.schema.fields().iter().filter_map(|field| {
            let kind = self.read_as(field, breadth)?;
            Some(Arc::new(Field::new(field.name(), kind, true)))
        });
        let all = self.footer.written.fields().iter().map(|field| {
            let kind = match (self.read_as(field, breadth), field.data_type()) {
                // It gives texts as texts.
                (Some(DataType::BinaryView), DataType::Utf8 | DataType::LargeUtf8) => {
                    DataType::Utf8View
                }
                (Some(kind), _) => kind,
                (None, kind) => kind.clone(),
            };
            Arc::new(field.as_ref().clone().with_data_type(kind))
        });
        let [read, all]: [Vec<FieldRef>; 2] = [read.collect(), all.collect()];
        [read, all].map(|fields| Arc::new(Schema::new(fields)))
    }

    /// The file for a scan: how to read each of its columns, and the constants.
    pub(super) fn partitioned(&self, all: SchemaRef) -> PartitionedFile {
        let id =
            |constant: Constant| ScalarValue::Utf8View(constant.value.map(|id| id.to_string()));
        let constants = [
            id(self.project),
            id(self.tenant),
            ScalarValue::Int64(self.rank.map(|rank| rank.modified_s)),
            ScalarValue::Int64(self.rank.map(|rank| rank.first_row)),
            ScalarValue::Utf8View(Some(self.path.display().to_string())),
            ScalarValue::TimestampMicrosecond(self.day_us(), None),
            ScalarValue::Int64(Some(self.first_row)),
        ];
        let scan = match self.range_us {
            Some((first, last)) => self.scan.clone().with_extension(StartRange(first, last)),
            None => self.scan.clone(),
        };
        scan.with_arrow_schema(all)
            .with_partition_values(constants.to_vec())
            .with_extension(ShownPath(self.path.clone()))
    }
}
