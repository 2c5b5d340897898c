//! The side files of a source: what projects are called, and raw feedback.
//!
//! Both hold the API's own JSON records (`GET /sessions`, `GET /feedback`): as
//! an array, one object, objects one a line, or within the envelope of a page.
//! Of a project only its own fields are read, never the stats beside them;
//! fields that are not known are ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::tally::TraceTier;
use crate::tally::feedback::{FeedbackError, Record};
use crate::time::parse_time;

/// Members that hold the records where a file is a page of an API's answer.
const ENVELOPES: [&str; 4] = ["items", "data", "sessions", "feedback"];
/// How many characters of a wrong value an error quotes.
const QUOTED_MAX: usize = 60;

/// A project's own fields. Times are microseconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// The project's id.
    pub id: Uuid,
    /// The tenant's id.
    pub tenant_id: Option<Uuid>,
    /// When the project began.
    pub start_time: Option<i64>,
    /// When it ended.
    pub end_time: Option<i64>,
    /// What its owner noted, passed through in the order given.
    pub extra: Option<Map<String, Value>>,
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The dataset that runs are added to.
    pub default_dataset_id: Option<Uuid>,
    /// The dataset that the project is an experiment on.
    pub reference_dataset_id: Option<Uuid>,
    /// How long its traces are kept.
    pub trace_tier: Option<TraceTier>,
    /// Start of its latest run, as the service keeps it.
    pub last_run_start_time_live: Option<i64>,
    /// Which experiment on its dataset it is, from 1; none for no experiment.
    pub test_run_number: Option<i64>,
}

/// One raw feedback record and what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackRecord {
    /// The run it judges; none where it is about the project itself.
    pub run_id: Option<Uuid>,
    /// The project.
    pub session_id: Option<Uuid>,
    /// What it says.
    pub record: Record,
}

/// Where in a side file a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// Which record of the file it is, from 1.
    pub record: usize,
}

/// Why a side file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SideFileError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// The file is no text.
    #[error("{}: byte {offset} is no UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, from 0.
        offset: usize,
    },

    /// The file is neither JSON nor JSON lines; the source says where.
    #[error("{} is no readable JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },

    /// A record's field holds what it cannot hold.
    #[error("{}, {place}, field `{field}`: expected {expected}, found {found}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// The field.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
        /// What it holds, shortened.
        found: String,
    },

    /// Something that should be a record is no object.
    #[error("{}, {place}: expected an object, found {found}", path.display())]
    NoObject {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// What is there, shortened.
        found: String,
    },

    /// A feedback record that cannot be read.
    #[error("{}, {place}: unreadable feedback", path.display())]
    Feedback {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// What is wrong with it.
        source: FeedbackError,
    },
}

/// Reads the projects of several files as if they were one, sorted by id. Of
/// two records of one project the last one wins; experiments are numbered over
/// all files.
///
/// # Errors
///
/// Where a file cannot be read, is neither JSON nor JSON lines, or a record
/// has no id or a field of the wrong type.
pub(crate) fn read_projects<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Project>, SideFileError> {
    let mut projects = BTreeMap::new();
    for path in paths {
        let file = SideFile::open(path.as_ref())?;
        for object in file.objects("id")? {
            let project = read_project(&object)?;
            projects.insert(project.id, project);
        }
    }
    let mut projects: Vec<Project> = projects.into_values().collect();
    number_experiments(&mut projects);
    Ok(projects)
}

/// Reads the same records as texts, by project; the last of each.
///
/// # Errors
///
/// Those of [`read_projects`].
pub(crate) fn read_records<P: AsRef<Path>>(
    paths: &[P],
) -> Result<BTreeMap<Uuid, String>, SideFileError> {
    let mut records = BTreeMap::new();
    for path in paths {
        let file = SideFile::open(path.as_ref())?;
        for object in file.objects("id")? {
            records.insert(read_project(&object)?.id, object.text.to_owned());
        }
    }
    Ok(records)
}

/// Reads raw feedback records, in the order of the file.
///
/// # Errors
///
/// Where the file cannot be read, is neither JSON nor JSON lines, or a record
/// has no key or a field of the wrong type.
pub(crate) fn read_feedback(path: &Path) -> Result<Vec<FeedbackRecord>, SideFileError> {
    let file = SideFile::open(path)?;
    let objects = file.objects("key")?;
    objects.iter().map(read_feedback_record).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (record {})", self.line, self.record)
    }
}

fn read_project(object: &Object<'_>) -> Result<Project, SideFileError> {
    Ok(Project {
        id: object
            .uuid("id")?
            .ok_or_else(|| object.wrong("id", "a UUID"))?,
        tenant_id: object.uuid("tenant_id")?,
        start_time: object.time("start_time")?,
        end_time: object.time("end_time")?,
        extra: object.read("extra", "an object or null", |value| {
            serde_json::from_str(value).ok()
        })?,
        name: object.text("name", "a text or null", |text| Some(text.to_owned()))?,
        description: object.text("description", "a text or null", |text| {
            Some(text.to_owned())
        })?,
        default_dataset_id: object.uuid("default_dataset_id")?,
        reference_dataset_id: object.uuid("reference_dataset_id")?,
        trace_tier: object.text(
            "trace_tier",
            "\"longlived\", \"shortlived\" or null",
            TraceTier::from_name,
        )?,
        last_run_start_time_live: object.time("last_run_start_time_live")?,
        test_run_number: object.read("test_run_number", "a whole number or null", |value| {
            value.parse().ok()
        })?,
    })
}

fn read_feedback_record(object: &Object<'_>) -> Result<FeedbackRecord, SideFileError> {
    let record = Record::from_json(object.text).map_err(|source| SideFileError::Feedback {
        path: object.file.path.to_owned(),
        place: object.place(),
        source,
    })?;
    Ok(FeedbackRecord {
        run_id: object.uuid("run_id")?,
        session_id: object.uuid("session_id")?,
        record,
    })
}

/// Numbers the experiments on each dataset from 1, by start and then by id. A
/// number that the record itself has stays, and takes no place from others.
fn number_experiments(projects: &mut [Project]) {
    let mut order: Vec<&mut Project> = projects.iter_mut().collect();
    // One without a start comes last: it is not known to be earlier than any.
    order.sort_by_key(|project| (project.start_time.unwrap_or(i64::MAX), project.id));
    let mut ordinals: BTreeMap<Uuid, i64> = BTreeMap::new();
    for project in order {
        let Some(dataset) = project.reference_dataset_id else {
            continue;
        };
        let ordinal = ordinals.entry(dataset).or_default();
        *ordinal += 1;
        project.test_run_number.get_or_insert(*ordinal);
    }
}

/// The text of a side file.
struct SideFile<'p> {
    path: &'p Path,
    text: String,
}

impl<'p> SideFile<'p> {
    fn open(path: &'p Path) -> Result<Self, SideFileError> {
        let bytes = std::fs::read(path).map_err(|source| SideFileError::Io {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| SideFileError::Encoding {
            path: path.to_owned(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        Ok(Self { path, text })
    }

    /// The records. An object without the field that every record has, but with
    /// an array under one of the known names, is an envelope around its records.
    fn objects(&self, needed: &str) -> Result<Vec<Object<'_>>, SideFileError> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let mut objects = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
            let value = value.map_err(|source| self.no_json(source))?;
            if value.get().starts_with('[') {
                self.push_elements(value, &mut objects)?;
                continue;
            }
            let object = self.object(value, objects.len() + 1)?;
            match object.envelope(needed) {
                Some(elements) => self.push_elements(elements, &mut objects)?,
                None => objects.push(object),
            }
        }
        Ok(objects)
    }

    fn push_elements<'f>(
        &'f self,
        array: &'f RawValue,
        objects: &mut Vec<Object<'f>>,
    ) -> Result<(), SideFileError> {
        let elements: Vec<&RawValue> =
            serde_json::from_str(array.get()).map_err(|source| self.no_json(source))?;
        for element in elements {
            objects.push(self.object(element, objects.len() + 1)?);
        }
        Ok(())
    }

    fn object<'f>(
        &'f self,
        value: &'f RawValue,
        record: usize,
    ) -> Result<Object<'f>, SideFileError> {
        let text = value.get();
        if !text.starts_with('{') {
            return Err(SideFileError::NoObject {
                path: self.path.to_owned(),
                place: self.place(text, record),
                found: quoted(text),
            });
        }
        let fields: Fields<'_> =
            serde_json::from_str(text).map_err(|source| self.no_json(source))?;
        Ok(Object {
            file: self,
            text,
            record,
            fields: fields.0,
        })
    }

    /// The place of a record, whose text is a part of the file's.
    fn place(&self, text: &str, record: usize) -> Place {
        let offset = text
            .as_ptr()
            .addr()
            .saturating_sub(self.text.as_ptr().addr());
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        Place { line, record }
    }

    fn no_json(&self, source: serde_json::Error) -> SideFileError {
        SideFileError::Json {
            path: self.path.to_owned(),
            source,
        }
    }
}

/// A JSON object's members, values as their text.
#[derive(Deserialize)]
struct Fields<'a>(#[serde(borrow)] BTreeMap<Key<'a>, &'a RawValue>);

/// A member's name, borrowed where it holds no escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// One record: where it is, and its fields.
struct Object<'f> {
    file: &'f SideFile<'f>,
    text: &'f str,
    record: usize,
    fields: BTreeMap<Key<'f>, &'f RawValue>,
}

impl<'f> Object<'f> {
    fn get(&self, field: &str) -> Option<&'f RawValue> {
        let value = self.fields.get(&Key(Cow::Borrowed(field)))?;
        Some(*value).filter(|value| value.get() != "null")
    }

    fn envelope(&self, needed: &str) -> Option<&'f RawValue> {
        if self.get(needed).is_some() {
            return None;
        }
        ENVELOPES
            .iter()
            .filter_map(|name| self.get(name))
            .find(|value| value.get().starts_with('['))
    }

    fn uuid(&self, field: &'static str) -> Result<Option<Uuid>, SideFileError> {
        self.text(field, "a UUID", |text| Uuid::parse_str(text).ok())
    }

    fn time(&self, field: &'static str) -> Result<Option<i64>, SideFileError> {
        self.text(field, "an ISO 8601 time", parse_time)
    }

    fn text<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SideFileError> {
        self.read(field, expected, |value| {
            let Key(text) = serde_json::from_str(value).ok()?;
            parse(&text)
        })
    }

    /// A field's value, none where it is absent or null.
    fn read<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SideFileError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match parse(value.get()) {
            None => Err(self.wrong(field, expected)),
            read => Ok(read),
        }
    }

    fn wrong(&self, field: &'static str, expected: &'static str) -> SideFileError {
        SideFileError::Field {
            path: self.file.path.to_owned(),
            place: self.place(),
            field,
            expected,
            found: self
                .get(field)
                .map_or("nothing".to_owned(), |value| quoted(value.get())),
        }
    }

    fn place(&self) -> Place {
        self.file.place(self.text, self.record)
    }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::error::Error;
    use std::io::Write;

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";
    const C: &str = "00000000-0000-0000-0000-00000000000c";
    const DATASET: &str = "00000000-0000-0000-0000-0000000000d5";

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn projects(text: &str) -> Result<Vec<Project>, SideFileError> {
        read_projects(&[file(text.as_bytes()).path()])
    }

    fn ids(text: &str) -> Vec<String> {
        let projects = projects(text).unwrap();
        projects.iter().map(|p| p.id.to_string()).collect()
    }

    fn numbers(projects: &[Project]) -> Vec<Option<i64>> {
        projects.iter().map(|p| p.test_run_number).collect()
    }

    #[test]
    fn every_own_field_is_read_and_no_stats() {
        let record = json!({
            "id": A, "tenant_id": B, "name": "chat", "description": "d\u{e9}",
            "start_time": "2024-06-06T01:02:51.299960", "end_time": "2024-06-07 00:00:00+00:00",
            "extra": {"z": 1, "a": {"y": null, "b": [0.5]}},
            "default_dataset_id": C, "reference_dataset_id": DATASET, "trace_tier": "LONG_LIVED",
            "last_run_start_time_live": "2024-06-06T03:00:00Z", "test_run_number": 7,
            "run_count": "not looked at", "latency_p50": [],
        });
        let read = projects(&record.to_string()).unwrap();
        let uuid = |text| Some(Uuid::parse_str(text).unwrap());
        let expected = Project {
            id: Uuid::parse_str(A).unwrap(),
            tenant_id: uuid(B),
            start_time: Some(1_717_635_771_299_960),
            end_time: Some(1_717_718_400_000_000),
            extra: record["extra"].as_object().cloned(),
            name: Some("chat".to_owned()),
            description: Some("dé".to_owned()),
            default_dataset_id: uuid(C),
            reference_dataset_id: uuid(DATASET),
            trace_tier: Some(TraceTier::Longlived),
            last_run_start_time_live: Some(1_717_642_800_000_000),
            test_run_number: Some(7),
        };
        assert_eq!(read, [expected]);
        let extra = serde_json::to_string(&read[0].extra).unwrap();
        assert_eq!(extra, r#"{"z":1,"a":{"y":null,"b":[0.5]}}"#);
    }

    #[test]
    fn every_shape_of_file_is_read() {
        let (a, b) = (format!(r#"{{"id": "{A}"}}"#), format!(r#"{{"id": "{B}"}}"#));
        for text in [
            format!("[{a}, {b}]"),
            format!("{a}\n{b}\n"),
            format!("\u{feff}{b}\r\n\r\n{a}"),
            format!(r#"{{"items": [{a}, {b}], "next_cursor": null}}"#),
            format!(r#"{{"sessions": [{a}]}} {{"sessions": [{b}]}}"#),
            format!("[\n{a}]\n[{b}]"),
        ] {
            assert_eq!(ids(&text), [A, B], "{text}");
        }
        assert_eq!(ids(&a), [A]);
        for text in ["", " \n", "[]", r#"{"items": []}"#] {
            assert!(ids(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_last_record_of_a_project_wins() {
        let text = format!(
            r#"[{{"id": "{A}", "name": "old"}}, {{"id": "{}", "name": "new"}}]"#,
            A.to_uppercase()
        );
        let read = projects(&text).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].name.as_deref(), Some("new"));
    }

    #[test]
    fn experiments_are_numbered_by_start_then_id() {
        let on = |id, start: &str, more: &str| {
            format!(
                r#"{{"id": "{id}", "start_time": "{start}", "reference_dataset_id": "{DATASET}"{more}}}"#
            )
        };
        let (later, early) = ("2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z");
        let read = |records: [String; 3]| numbers(&projects(&records.join("\n")).unwrap());
        assert_eq!(
            read([on(A, later, ""), on(B, early, ""), on(C, early, "")]),
            [Some(3), Some(1), Some(2)]
        );
        assert_eq!(
            read([
                on(A, later, ""),
                on(B, early, r#", "test_run_number": 9"#),
                on(C, later, "")
            ]),
            [Some(2), Some(9), Some(3)]
        );
        let none = format!(r#"{{"id": "{C}", "start_time": "{early}"}}"#);
        assert_eq!(
            read([on(A, later, ""), on(B, early, ""), none]),
            [Some(2), Some(1), None]
        );
    }

    #[test]
    fn experiments_are_numbered_over_several_files() {
        let on = |id| {
            file(format!(r#"{{"id": "{id}", "reference_dataset_id": "{DATASET}"}}"#).as_bytes())
        };
        let files = [on(B), on(A)];
        let read = read_projects(&files).unwrap();
        assert_eq!(numbers(&read), [Some(1), Some(2)]);
    }

    #[test]
    fn errors_name_the_place_and_the_field() {
        for (text, expected) in [
            (
                r#"{"name": "x"}"#,
                "line 1 (record 1), field `id`: expected a UUID, found nothing",
            ),
            (
                r#"{"id": 3}"#,
                "line 1 (record 1), field `id`: expected a UUID, found 3",
            ),
            (
                &format!("[{{\"id\": \"{A}\"}},\n\n {{\"id\": \"x\"}}]"),
                "line 3 (record 2), field `id`: expected a UUID, found \"x\"",
            ),
            (
                &format!(r#"{{"id": "{A}", "start_time": 5}}"#),
                "field `start_time`: expected an ISO 8601 time, found 5",
            ),
            (
                &format!(r#"{{"id": "{A}", "name": 5}}"#),
                "field `name`: expected a text or null, found 5",
            ),
            (
                &format!(r#"{{"id": "{A}", "extra": []}}"#),
                "field `extra`: expected an object or null, found []",
            ),
            (
                &format!(r#"{{"id": "{A}", "trace_tier": "mid"}}"#),
                "found \"mid\"",
            ),
            (
                &format!(r#"{{"id": "{A}", "test_run_number": 1.5}}"#),
                "expected a whole number or null, found 1.5",
            ),
            ("[3]", "line 1 (record 1): expected an object, found 3"),
            ("null", "expected an object, found null"),
        ] {
            let message = projects(text).unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        }
        assert!(matches!(
            projects("{\"id\": "),
            Err(SideFileError::Json { .. })
        ));
        let no_text = read_projects(&[file(b"[\xff]").path()]);
        assert!(matches!(
            no_text,
            Err(SideFileError::Encoding { offset: 1, .. })
        ));
        let no_file = read_projects(&[Path::new("no/such/file.json")]);
        assert!(matches!(no_file, Err(SideFileError::Io { .. })));
    }

    #[test]
    fn feedback_records_keep_what_they_belong_to() {
        let text = format!(
            r#"{{"items": [{{"key": "k", "score": 0.5, "run_id": "{A}", "session_id": "{B}"}},
            {{"key": "k", "value": "good", "run_id": null, "session_id": "{B}"}}]}}"#
        );
        let read = read_feedback(file(text.as_bytes()).path()).unwrap();
        let uuid = |text| Some(Uuid::parse_str(text).unwrap());
        assert_eq!((read[0].run_id, read[0].session_id), (uuid(A), uuid(B)));
        assert_eq!(
            (read[0].record.score, &read[0].record.label),
            (Some(0.5), &None)
        );
        assert_eq!((read[1].run_id, read[1].session_id), (None, uuid(B)));
        assert_eq!(read[1].record.label.as_deref(), Some("good"));
    }

    #[test]
    fn unreadable_feedback_says_what_and_where() {
        let text = "{\"key\": \"k\"}\n{\"key\": \"k\", \"score\": \"1\"}";
        let error = read_feedback(file(text.as_bytes()).path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("line 2 (record 2): unreadable feedback")
        );
        let source = error.source().unwrap().to_string();
        assert_eq!(
            source,
            "field `score`: expected a number, true, false or null, found \"1\""
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[\\[\\]{}\":,a-z0-9 \n]{0,80}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let file = file(bytes);
                let _ = read_projects(&[file.path()]);
                let _ = read_feedback(file.path());
            }
        }
    }
}
