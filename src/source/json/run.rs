//! A run as dumps of LangSmith's API have it → the columns of its bulk export.
//!
//! The JSON twin of `format/langsmith.rs`: the names of the members of a run exist here and nowhere else. A
//! value may be a run, a page of runs, or a list of either; runs may hold their children. A run is read in
//! one pass, without a tree: what no column wants is passed over, what one wants stays where it lies.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::error::quoted;
use crate::runs::functions::{A_COST, A_WHOLE_NUMBER, whole_number};
use crate::runs::json::{Member, Scanner, object};
use crate::tally::money;
use crate::time::parse_time;

/// Runs may be children of children so often.
const DEPTH_MAX: usize = 100;
/// As much is shown of what follows the place where a text stops being JSON.
const N_SHOWN: usize = 24;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that tells one thing from others.
    Id,
    /// Any text.
    Text,
    /// One of a few words, which newer dumps write in capitals.
    Word,
    /// JSON text, which dumps hold as what it says.
    Json,
    /// Microseconds since 1970.
    Time,
    /// True or false.
    Flag,
    /// A whole number.
    Whole,
    /// Pico-dollars.
    Cost,
}

/// The columns: those that few questions read come last.
pub(super) const COLUMNS: [(&str, Kind); N_COLUMNS] = [
    ("id", Kind::Id),
    ("tenant_id", Kind::Id),
    ("session_id", Kind::Id),
    ("trace_id", Kind::Id),
    ("parent_run_id", Kind::Id),
    ("start_time", Kind::Time),
    ("reference_example_id", Kind::Id),
    ("name", Kind::Text),
    ("run_type", Kind::Word),
    ("end_time", Kind::Time),
    ("first_token_time", Kind::Time),
    ("status", Kind::Word),
    ("is_root", Kind::Flag),
    ("dotted_order", Kind::Text),
    ("trace_tier", Kind::Word),
    ("error", Kind::Text),
    ("tags", Kind::Json),
    ("feedback_stats", Kind::Json),
    ("total_tokens", Kind::Whole),
    ("prompt_tokens", Kind::Whole),
    ("completion_tokens", Kind::Whole),
    ("total_cost", Kind::Cost),
    ("prompt_cost", Kind::Cost),
    ("completion_cost", Kind::Cost),
    ("prompt_token_details", Kind::Json),
    ("completion_token_details", Kind::Json),
    ("prompt_cost_details", Kind::Json),
    ("completion_cost_details", Kind::Json),
    ("extra", Kind::Json),
    ("inputs", Kind::Json),
    ("outputs", Kind::Json),
    ("events", Kind::Json),
    ("parent_run_ids", Kind::Json),
];

/// How many columns there are, and how many without those that no question reads.
pub(super) const N_COLUMNS: usize = 33;
const N_ASKED_COLUMNS: usize = N_COLUMNS - 2;
/// How many there are without inputs and outputs either.
pub(super) const N_SMALL_COLUMNS: usize = N_ASKED_COLUMNS - 2;
/// How many there are without what else was recorded of a run and the details of its usage either.
const N_FIGURES: usize = N_SMALL_COLUMNS - 5;

const TENANT: usize = 1;
const PROJECT: usize = 2;
const TRACE: usize = 3;
const PARENT: usize = 4;
const START: usize = 5;
const ROOT: usize = 12;
const ORDER: usize = 13;
const EXTRA: usize = N_SMALL_COLUMNS - 1;

/// Where a member of a run goes.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// To the column of its name.
    Column(usize),
    /// To the project, as newer dumps call it.
    Project,
    /// To the tenant, whom the path of a run's page names.
    Page,
    /// To the metadata, where it lies beside them.
    Metadata,
    Thread,
    /// The runs that it called.
    Children,
    /// Runs, where the object is none itself.
    Runs,
    /// What only figures have, which were computed of runs.
    Figures,
}

impl Place {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"project_id" => Self::Project,
            b"app_path" => Self::Page,
            b"metadata" => Self::Metadata,
            b"thread_id" => Self::Thread,
            b"child_runs" => Self::Children,
            b"run_count" | b"last_run_start_time" | b"error_class" | b"findings" => Self::Figures,
            name if is_page(name) => Self::Runs,
            name => Self::Column(column(name)?),
        })
    }
}

/// How many of the columns must be read so that these are among them.
pub(super) fn n_columns<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    let last = names.filter_map(|name| column(name.as_bytes())).max();
    let enough = |n: &usize| last.is_none_or(|last| last < *n);
    let mut ns = [N_FIGURES, N_SMALL_COLUMNS, N_ASKED_COLUMNS].into_iter();
    ns.find(enough).unwrap_or(N_COLUMNS)
}

fn column(name: &[u8]) -> Option<usize> {
    let mut columns = COLUMNS.iter();
    columns.position(|(column, _)| column.as_bytes() == name)
}

/// Whether the member of an object that is no run holds runs.
pub(super) fn is_page(name: &[u8]) -> bool {
    matches!(name, b"runs" | b"data" | b"items")
}

/// Whether an object that has this member is a run.
pub(super) fn is_start(name: &[u8]) -> bool {
    name == COLUMNS[START].0.as_bytes()
}

/// What a run has in a column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    None,
    Text(Cow<'a, str>),
    Number(i64),
    Flag(bool),
}

impl<'a> Value<'a> {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

/// A run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) values: [Value<'a>; N_COLUMNS],
    /// A bit for each column that it has, though there may be nothing in it.
    pub(super) present: u64,
}

/// A value that is no run, or in which one cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The byte of the value.
    pub(super) at: usize,
    /// What was expected and what was found.
    pub(super) problem: String,
    /// It holds what was computed of runs: a project's document, or a list of runs as it is shown.
    pub(super) is_figures: bool,
}

/// Reads values one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    scanner: Scanner<'static, 'a>,
    n_columns: usize,
    /// The run that was read last.
    run: Run<'a>,
    /// What is yet to be read of a value, the next last.
    open: Vec<Open<'a>>,
    /// The runs of the value that have children.
    parents: Vec<Lineage<'a>>,
    /// Where the members go of the object that was read last, by their number; else their names.
    places: Vec<Result<Place, String>>,
    /// The names of members of runs that go nowhere, where all columns are read.
    pub(super) passed_over: BTreeSet<String>,
}

/// A part of a value.
#[derive(Clone, Copy, Debug)]
struct Open<'a> {
    json: &'a str,
    /// The place of the run that called it.
    parent: Option<usize>,
    depth: usize,
}

/// What children have of their parent, where they do not say it.
#[derive(Clone, Debug)]
struct Lineage<'a> {
    /// Id, tenant, project and trace.
    ids: [Value<'a>; 4],
}

/// A run's members as they stand.
struct Members<'a> {
    columns: [Option<Member<'a>>; N_COLUMNS],
    /// A bit for each column that is there.
    present: u64,
    project: Option<&'a str>,
    page: Option<&'a str>,
    metadata: Option<&'a str>,
    thread: Option<&'a str>,
    children: Option<&'a str>,
    runs: Option<&'a str>,
    figures: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Of the columns, reads the first `n_columns`.
    pub(super) fn new(n_columns: usize) -> Self {
        Self {
            scanner: Scanner::new(None, &[]),
            n_columns,
            run: Run {
                values: [const { Value::None }; N_COLUMNS],
                present: 0,
            },
            open: Vec::new(),
            parents: Vec::new(),
            places: Vec::new(),
            passed_over: BTreeSet::new(),
        }
    }

    /// Hands over the runs in a value, and what is none, in their order; ends where `each` fails.
    pub(super) fn read<E>(
        &mut self,
        value: &'a str,
        mut each: impl FnMut(Result<&Run<'a>, Wrong>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.parents.clear();
        self.open.clear();
        self.open.push(Open {
            json: value.trim_ascii(),
            parent: None,
            depth: 0,
        });
        while let Some(part) = self.open.pop() {
            match self.part(part) {
                Ok(false) => {}
                Ok(true) => each(Ok(&self.run))?,
                Err(wrong) => each(Err(Wrong {
                    at: wrong.at + (part.json.as_ptr().addr() - value.as_ptr().addr()),
                    ..wrong
                }))?,
            }
        }
        Ok(())
    }

    /// Reads a run, or opens what a list or page holds; whether it was a run.
    fn part(&mut self, part: Open<'a>) -> Result<bool, Wrong> {
        let Open {
            json,
            parent,
            depth,
        } = part;
        if depth > DEPTH_MAX {
            return Err(wrong(format!(
                "runs that are nested more than {DEPTH_MAX} deep"
            )));
        }
        if json.starts_with('[') {
            self.open_all(json, parent, depth + 1)?;
            return Ok(false);
        }
        if !json.starts_with('{') {
            let found = match malformed(json) {
                Some(malformed) => return Err(malformed),
                None => quoted(json),
            };
            return Err(wrong(format!(
                "expected a run, a JSON object, found {found}"
            )));
        }
        let mut members = Members::default();
        let places = &mut self.places;
        let names_all = self.n_columns == N_COLUMNS;
        let mut passed_over: BTreeSet<String> = BTreeSet::new();
        let is_whole = self.scanner.members(json, |number, name, value| {
            if let Some(name) = name {
                let place = Place::of(name.as_bytes());
                let nowhere = || String::from_utf8_lossy(name.as_bytes()).into_owned();
                places.resize(places.len().max(number + 1), Err(String::new()));
                if let Some(known) = places.get_mut(number) {
                    *known = place.ok_or_else(nowhere);
                }
            }
            match places.get(number) {
                Some(Ok(place)) => members.add(*place, value),
                Some(Err(name)) if names_all && !says_nothing(value.json) => {
                    passed_over.insert(name.clone());
                }
                _ => {}
            }
        });
        if is_whole.is_none() {
            return Err(malformed(json).unwrap_or_else(|| wrong("no JSON".to_owned())));
        }
        if let (None, Some(runs), None) = (members.value(START), members.runs, members.figures) {
            self.open_all(runs, parent, depth + 1)?;
            return Ok(false);
        }
        if members.figures.is_some() {
            let problem = "expected a run, found figures that were computed of runs".to_owned();
            return Err(Wrong {
                is_figures: true,
                ..wrong(problem)
            });
        }
        let lineage = parent.and_then(|parent| self.parents.get(parent));
        let run = &mut self.run;
        members.run(self.n_columns, lineage, run)?;
        self.passed_over.extend(passed_over);
        if let Some(children) = members.children.filter(|json| json.starts_with('[')) {
            let parent = self.parents.len();
            self.parents.push(run.lineage());
            self.open_all(children, Some(parent), depth + 1)?;
        }
        Ok(true)
    }

    fn open_all(
        &mut self,
        list: &'a str,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<(), Wrong> {
        let first = self.open.len();
        let open = &mut self.open;
        let elements = self.scanner.elements(list, |json| {
            open.push(Open {
                json,
                parent,
                depth,
            });
        });
        if elements.is_none() {
            self.open.truncate(first);
            return Err(malformed(list).unwrap_or_else(|| wrong("no JSON".to_owned())));
        }
        if let Some(added) = self.open.get_mut(first..) {
            added.reverse();
        }
        Ok(())
    }
}

impl Default for Members<'_> {
    fn default() -> Self {
        Self {
            columns: [None; N_COLUMNS],
            present: 0,
            project: None,
            page: None,
            metadata: None,
            thread: None,
            children: None,
            runs: None,
            figures: None,
        }
    }
}

impl<'a> Members<'a> {
    #[inline]
    fn add(&mut self, place: Place, value: Member<'a>) {
        let json = value.json;
        let member = match place {
            Place::Column(column) => {
                if let Some(member) = self.columns.get_mut(column) {
                    *member = Some(value);
                    self.present |= 1 << column;
                }
                return;
            }
            Place::Project => &mut self.project,
            Place::Page => &mut self.page,
            Place::Metadata => &mut self.metadata,
            Place::Thread => &mut self.thread,
            Place::Children => &mut self.children,
            Place::Runs if json.starts_with('[') => &mut self.runs,
            Place::Runs => return,
            Place::Figures => &mut self.figures,
        };
        *member = Some(json);
    }

    fn value(&self, column: usize) -> Option<&'a str> {
        let member = self.columns.get(column).copied().flatten();
        member.map(|member| member.json)
    }

    /// Whether its place in its trace is told by other members than the long path there.
    fn is_placed(&self) -> bool {
        let is_root = self.value(ROOT).is_some_and(|json| json != "null");
        self.value(TRACE).is_some() && (is_root || self.value(PARENT).is_some())
    }

    /// Makes a run of them, in the place of another.
    fn run(
        &self,
        n_columns: usize,
        parent: Option<&Lineage<'a>>,
        run: &mut Run<'a>,
    ) -> Result<(), Wrong> {
        run.present = self.present;
        let is_passed_over =
            |column: usize| column == ORDER && n_columns == N_FIGURES && self.is_placed();
        let columns = COLUMNS.iter().zip(&self.columns).zip(&mut run.values);
        for (column, (((name, kind), member), value)) in columns.take(n_columns).enumerate() {
            *value = match member {
                Some(member) if !is_passed_over(column) => read(*kind, *member)
                    .map_err(|(expected, found)| not_read(name, expected, found))?,
                _ => Value::None,
            };
        }
        if run.values[START].is_none() {
            let names: Vec<&str> = COLUMNS
                .iter()
                .zip(&self.columns)
                .filter_map(|((name, _), member)| member.map(|_| *name))
                .collect();
            return Err(wrong(match names.as_slice() {
                [] => "expected a run, found an object without start_time".to_owned(),
                names => format!(
                    "expected a run, found an object without start_time, with {}",
                    names.join(", ")
                ),
            }));
        }
        if let Some(project) = self.project {
            run.fill(PROJECT, &id_of("project_id", project)?);
            run.present |= 1 << PROJECT;
        }
        if let Some(tenant) = self.page.and_then(tenant_of) {
            run.fill(TENANT, &Value::Text(tenant.to_string().into()));
        }
        if let Some(Lineage {
            ids: [id, tenant, project, trace],
        }) = parent
        {
            run.fill(PARENT, id);
            run.fill(TENANT, tenant);
            run.fill(PROJECT, project);
            run.fill(TRACE, trace);
        }
        let beside = [("metadata", self.metadata), ("thread_id", self.thread)];
        if beside
            .iter()
            .any(|(_, json)| json.is_some_and(|json| json != "null"))
        {
            run.present |= 1 << EXTRA;
            if EXTRA < n_columns {
                run.add_metadata(self.metadata, self.thread);
            }
        }
        Ok(())
    }
}

impl<'a> Run<'a> {
    /// Gives a column a value where it has none.
    fn fill(&mut self, column: usize, value: &Value<'a>) {
        if let Some(own) = self.values.get_mut(column)
            && own.is_none()
            && !value.is_none()
        {
            own.clone_from(value);
            self.present |= 1 << column;
        }
    }

    fn lineage(&self) -> Lineage<'a> {
        let [id, tenant, project, trace, parent, ..] = &self.values;
        let is_first = trace.is_none() && parent.is_none();
        let trace = if is_first { id } else { trace };
        Lineage {
            ids: [id, tenant, project, trace].map(Clone::clone),
        }
    }

    /// Adds to the metadata what lies beside them and is not in them.
    fn add_metadata(&mut self, metadata: Option<&'a str>, thread: Option<&'a str>) {
        let extra = self.values[EXTRA].text().unwrap_or_default();
        let extra = object(&extra);
        let within = extra
            .get("metadata")
            .map(|json| json.get())
            .unwrap_or_default();
        let mut all = object(metadata.unwrap_or_default());
        all.extend(object(within));
        let own = all.iter().map(|(name, json)| member(name, json.get()));
        let thread = thread.filter(|json| *json != "null" && !all.contains_key("thread_id"));
        let own = own.chain(thread.map(|json| member("thread_id", json)));
        let metadata = format!("{{{}}}", own.collect::<Vec<_>>().join(","));
        let rest = extra.iter().filter(|(name, _)| *name != "metadata");
        let rest = rest.map(|(name, json)| member(name, json.get()));
        let all: Vec<String> = std::iter::once(member("metadata", &metadata))
            .chain(rest)
            .collect();
        self.values[EXTRA] = Value::Text(format!("{{{}}}", all.join(",")).into());
    }
}

/// Whether nothing is lost with a value.
fn says_nothing(json: &str) -> bool {
    matches!(json, "null" | "[]" | "{}" | "\"\"")
}

fn member(name: &str, json: &str) -> String {
    format!("{}:{json}", serde_json::Value::from(name))
}

fn wrong(problem: String) -> Wrong {
    Wrong {
        at: 0,
        problem,
        is_figures: false,
    }
}

fn not_read(name: &str, expected: &str, found: &str) -> Wrong {
    wrong(format!(
        "{name}: expected {expected}, found {}",
        quoted(found)
    ))
}

fn id_of<'a>(name: &str, json: &'a str) -> Result<Value<'a>, Wrong> {
    let id = Member {
        json,
        is_plain: false,
    };
    read(Kind::Id, id).map_err(|(expected, found)| not_read(name, expected, found))
}

/// The tenant in the path of a run's page: `/o/TENANT/projects/p/PROJECT/r/RUN`.
fn tenant_of(json: &str) -> Option<Uuid> {
    let path = text(json)?;
    let mut parts = path.split('/').skip_while(|part| *part != "o");
    Uuid::try_parse(parts.nth(1)?).ok()
}

/// What a member's JSON says; else what was expected, and what was found.
fn read(kind: Kind, member: Member<'_>) -> Result<Value<'_>, (&'static str, &str)> {
    let Member { json, is_plain } = member;
    let said = match json.get(1..json.len().saturating_sub(1)) {
        Some(text) if is_plain => Some(Cow::Borrowed(text)),
        _ => text(json),
    };
    let Some(text) = said else {
        return Ok(Value::None);
    };
    let is_nested = json.starts_with(['{', '[']);
    let is_empty = || text.trim_ascii().is_empty();
    let value = match kind {
        Kind::Id | Kind::Word if is_nested => return Err(("a text", json)),
        Kind::Id | Kind::Text | Kind::Json => Value::Text(text),
        Kind::Word => {
            let is_capital = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            if text.bytes().all(is_capital) {
                Value::Text(text.to_ascii_lowercase().into())
            } else {
                Value::Text(text)
            }
        }
        Kind::Flag => match json {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => return Err(("true or false", json)),
        },
        // As tools write what is not there that know no nulls.
        Kind::Time | Kind::Whole | Kind::Cost if is_empty() => Value::None,
        Kind::Time => match parse_time(&text) {
            Some(us) => Value::Number(us),
            None => return Err(("an ISO 8601 time", json)),
        },
        Kind::Whole => match whole_number(text.trim_ascii()) {
            Some(number) => Value::Number(number),
            None => return Err((A_WHOLE_NUMBER, json)),
        },
        Kind::Cost => match money::pico_from_text(&text) {
            Ok(pico) => pico.map_or(Value::None, Value::Number),
            Err(_) => return Err((A_COST, json)),
        },
    };
    Ok(value)
}

/// The text that a JSON text says, or that of what is no text; none of null.
fn text(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes() {
        b"null" => None,
        [b'"', text @ .., b'"'] if !text.contains(&b'\\') => {
            json.get(1..json.len() - 1).map(Cow::Borrowed)
        }
        [b'"', ..] => {
            let text = serde_json::from_str(json);
            Some(Cow::Owned(text.unwrap_or_else(|_| lossy(json))))
        }
        _ => Some(Cow::Borrowed(json)),
    }
}

/// The same of a text with halves of surrogate pairs, each of which becomes U+FFFD.
fn lossy(json: &str) -> String {
    const ESCAPE: usize = 6;
    let unit = |at: usize| {
        let digits = json.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut whole = String::with_capacity(json.len());
    let mut at = 0;
    while let Some(rest) = json.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match unit(at) {
            _ if rest.starts_with("\\\\") => 2,
            Some(0xd800..=0xdbff) if matches!(unit(at + ESCAPE), Some(0xdc00..=0xdfff)) => {
                2 * ESCAPE
            }
            Some(0xd800..=0xdfff) => {
                whole.push('\u{fffd}');
                at += ESCAPE;
                continue;
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        whole.push_str(rest.get(..length).unwrap_or_default());
        at += length;
    }
    serde_json::from_str(&whole).unwrap_or_default()
}

/// Where and why a text is no JSON; none where it is.
fn malformed(json: &str) -> Option<Wrong> {
    let error = serde_json::from_str::<IgnoredAny>(json).err()?;
    let before = json
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1));
    let at = if error.is_eof() {
        json.len()
    } else {
        before.map(str::len).sum::<usize>() + error.column().saturating_sub(1)
    };
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or_default();
    let mut rest = json.get(at.min(json.len())..).unwrap_or_default();
    if let Some((end, _)) = rest.char_indices().nth(N_SHOWN) {
        rest = rest.get(..end).unwrap_or_default();
    }
    let found = match rest {
        "" => "its end".to_owned(),
        rest => quoted(rest),
    };
    Some(Wrong {
        is_figures: false,
        at: at.min(json.len()),
        problem: format!("no JSON: {cause}, found {found}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The named column's value of each run in a value, and what is wrong.
    fn column_of<'a>(name: &str, json: &'a str) -> Vec<Result<Value<'a>, String>> {
        let index = column(name.as_bytes()).unwrap();
        let mut found = Vec::new();
        let mut reader = Reader::new(N_COLUMNS);
        let read = reader.read(json, |run| {
            found.push(match run {
                Ok(run) => Ok(run.values[index].clone()),
                Err(wrong) => Err(format!("{}: {}", wrong.at, wrong.problem)),
            });
            Ok::<(), ()>(())
        });
        read.unwrap();
        found
    }

    fn texts(name: &str, json: &str) -> Vec<Option<String>> {
        let values = column_of(name, json).into_iter();
        values
            .map(|value| value.unwrap().text().map(Cow::into_owned))
            .collect()
    }

    #[test]
    fn the_places_of_ids_are_where_they_are() {
        let places = [0, TENANT, PROJECT, TRACE, PARENT, START, ROOT, ORDER, EXTRA];
        let names = places.map(|at| COLUMNS[at].0);
        assert_eq!(
            names,
            [
                "id",
                "tenant_id",
                "session_id",
                "trace_id",
                "parent_run_id",
                "start_time",
                "is_root",
                "dotted_order",
                "extra"
            ]
        );
        assert_eq!(COLUMNS[N_SMALL_COLUMNS].0, "inputs");
        assert_eq!(COLUMNS[N_ASKED_COLUMNS].0, "events");
    }

    #[test]
    fn a_value_is_a_run_a_page_or_a_list() {
        let run = r#"{"id": "a", "start_time": "2026-10-01 00:00:00"}"#;
        for json in [
            run.to_owned(),
            format!(" [{run}] "),
            format!(r#"{{"cursors": {{"next": null}}, "runs": [{run}]}}"#),
            format!(r#"[{{"items": [{run}], "next_cursor": "x"}}]"#),
        ] {
            assert_eq!(texts("id", &json), [Some("a".to_owned())], "{json}");
        }
        assert!(texts("id", "[]").is_empty());
        // A run may call a member as pages do.
        let run = r#"{"data": [1], "id": "b", "start_time": "2026-10-01 00:00:00"}"#;
        assert_eq!(texts("id", run), [Some("b".to_owned())]);
    }

    #[test]
    fn children_have_what_their_parents_say() {
        let time = r#""start_time": "2026-10-01T00:00:00""#;
        let child = format!(r#"{{"id": "b", {time}, "child_runs": [{{"id": "c", {time}}}]}}"#);
        let other = format!(r#"{{"id": "d", {time}, "trace_id": "t", "parent_run_id": "x"}}"#);
        let root = format!(
            r#"{{"id": "a", "session_id": "p", {time}, "child_runs": [{child}, {other}]}}"#
        );
        let all = |name: &str| -> Vec<String> {
            texts(name, &root)
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect()
        };
        assert_eq!(all("id"), ["a", "b", "c", "d"]);
        assert_eq!(all("session_id"), ["p"; 4]);
        assert_eq!(all("trace_id"), ["", "a", "a", "t"]);
        assert_eq!(all("parent_run_id"), ["", "a", "b", "x"]);
    }

    #[test]
    fn newer_runs_are_read_as_older_ones() {
        let run = r#"{"id": "a", "project_id": "p", "start_time": "2026-10-01T00:00:00Z",
            "run_type": "LLM", "status": "SUCCESS", "thread_id": "t", "metadata": {"b": 1, "a": 2},
            "extra": {"runtime": {}, "metadata": {"a": 3}},
            "app_path": "/o/3c90c3cc-0d44-4b50-8888-8dd25736052a/projects/p/p/r/a"}"#;
        let one = |name: &str| texts(name, run).remove(0).unwrap_or_default();
        assert_eq!(one("session_id"), "p");
        assert_eq!(one("run_type"), "llm");
        assert_eq!(one("status"), "success");
        assert_eq!(one("tenant_id"), "3c90c3cc-0d44-4b50-8888-8dd25736052a");
        assert_eq!(
            one("extra"),
            r#"{"metadata":{"a":3,"b":1,"thread_id":"t"},"runtime":{}}"#
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let one = |json: &str| column_of("id", json).remove(0).unwrap_err();
        for (json, problem) in [
            ("7", r#"0: expected a run, a JSON object, found "7""#),
            ("x", r#"0: no JSON: expected value, found "x""#),
            (
                "{}",
                "0: expected a run, found an object without start_time",
            ),
            (
                r#"{"id": "a", "start_time": null}"#,
                "0: expected a run, found an object without start_time, with id, start_time",
            ),
            (
                r#"{"start_time": "today"}"#,
                r#"0: start_time: expected an ISO 8601 time, found "\"today\"""#,
            ),
            (
                r#"  {"start_time": "2026-10-01T00:00:00", "total_tokens": 1.5}"#,
                r#"2: total_tokens: expected a whole number of 64 bits, found "1.5""#,
            ),
        ] {
            assert_eq!(one(json), problem, "{json}");
        }
        let cut = r#"{"start_time": "2026-10-01T00:00:00", "id": "#;
        assert!(
            one(cut).ends_with("no JSON: EOF while parsing a value, found its end"),
            "{}",
            one(cut)
        );
    }

    #[test]
    fn texts_keep_what_they_say() {
        for (json, expected) in [
            (r#""a\n\"b\"""#, Some("a\n\"b\"")),
            (r#""\ud83d\ude00""#, Some("\u{1f600}")),
            (
                r#""\ud83d\ude00 \ud83d \\ud83d""#,
                Some("\u{1f600} \u{fffd} \\ud83d"),
            ),
            ("12", Some("12")),
            (r#"{"a": 1}"#, Some(r#"{"a": 1}"#)),
            ("null", None),
        ] {
            assert_eq!(text(json).as_deref(), expected, "{json}");
        }
    }
}
