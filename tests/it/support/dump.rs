//! Runs → dumps in JSON, in every shape that dumps have.
//!
//! Values are written as text, so that numbers keep their digits. Where a shape has runs in their parents,
//! what these say already may be left out of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use uuid::Uuid;

use super::run::{Cost, Run};

/// How runs lie in files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Lay {
    /// One a line.
    Lines,
    /// A list, on one line or on many.
    Array { pretty: bool },
    /// Pages under this name, one after the other; at least one.
    Pages { name: &'static str, pretty: bool },
    /// A folder with a file a trace, in which each run is an object over many lines.
    FileATrace,
    /// Children in their parents, one root a line or in a list.
    Nested { lines: bool },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pack {
    None,
    Gzip,
    Zstd,
}

/// Whose names a dump has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Version {
    V1,
    V2,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dump {
    pub(crate) lay: Lay,
    pub(crate) pack: Pack,
    pub(crate) version: Version,
    /// What is null is not written at all.
    pub(crate) sparse: bool,
    /// Costs are numbers instead of texts.
    pub(crate) numbers: bool,
    /// Of three forms of times, one.
    pub(crate) time: u8,
}

impl Default for Dump {
    fn default() -> Self {
        Self {
            lay: Lay::Lines,
            pack: Pack::None,
            version: Version::V1,
            sparse: false,
            numbers: false,
            time: 0,
        }
    }
}

/// Writes runs below `dir`; gives what a source is to name.
pub(crate) fn write(dir: &Path, runs: &[Run], dump: &Dump) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let suffix = match dump.pack {
        Pack::None => "",
        Pack::Gzip => ".gz",
        Pack::Zstd => ".zst",
    };
    if dump.lay == Lay::FileATrace {
        let traces: BTreeSet<Uuid> = runs.iter().map(trace).collect();
        for (number, of) in traces.into_iter().enumerate() {
            let runs = runs.iter().filter(|run| trace(run) == of);
            let texts: Vec<String> = runs.map(|run| pretty(&object(run, dump))).collect();
            let path = dir.join(format!("trace-{number}.json{suffix}"));
            fs::write(path, packed(texts.join("\n").as_bytes(), dump.pack)).unwrap();
        }
        return dir.to_owned();
    }
    let path = dir.join(match dump.lay {
        Lay::Lines | Lay::Nested { lines: true } => format!("runs.jsonl{suffix}"),
        _ => format!("runs.json{suffix}"),
    });
    fs::write(&path, packed(text(runs, dump).as_bytes(), dump.pack)).unwrap();
    path
}

/// The runs in one text.
pub(crate) fn text(runs: &[Run], dump: &Dump) -> String {
    let objects = || runs.iter().map(|run| object(run, dump));
    let all = || format!("[{}]", objects().collect::<Vec<_>>().join(", "));
    let lines = |objects: Vec<String>| {
        let lines = objects.into_iter().map(|object| object + "\n");
        lines.collect::<String>()
    };
    match dump.lay {
        Lay::Lines | Lay::FileATrace => lines(objects().collect()),
        Lay::Array { pretty: true } => pretty(&all()),
        Lay::Array { pretty: false } => all(),
        Lay::Pages { name, pretty: many } => {
            let objects: Vec<String> = objects().collect();
            let mut pages: Vec<&[String]> = objects.chunks(3).collect();
            if pages.is_empty() {
                pages.push(&[]);
            }
            let pages = pages.into_iter().map(|page| {
                let runs = page.join(",");
                let page = format!(
                    r#"{{"cursors": {{"next": "a]b", "runs": [1]}}, "{name}": [{runs}], "parsed_query": null}}"#
                );
                if many { pretty(&page) } else { page }
            });
            lines(pages.collect())
        }
        Lay::Nested { lines: of_lines } => {
            let ids: BTreeSet<Uuid> = runs.iter().map(|run| run.id).collect();
            let is_below = |run: &&Run| run.parent_run_id.is_some_and(|id| ids.contains(&id));
            let roots = runs.iter().filter(|run| !is_below(run));
            let roots = roots.map(|run| nested(run, None, runs, dump));
            let roots: Vec<String> = roots.collect();
            if of_lines {
                lines(roots)
            } else {
                format!("[{}]", roots.join(",\n"))
            }
        }
    }
}

/// Bytes in a packing.
pub(crate) fn packed(bytes: &[u8], pack: Pack) -> Vec<u8> {
    match pack {
        Pack::None => bytes.to_vec(),
        Pack::Gzip => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Pack::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// What was packed, if it can be unpacked.
pub(crate) fn unpacked(bytes: &[u8], pack: Pack) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    match pack {
        Pack::None => return Some(bytes.to_vec()),
        Pack::Gzip => {
            let mut reader = flate2::read::MultiGzDecoder::new(bytes);
            reader.read_to_end(&mut unpacked).ok()?;
        }
        Pack::Zstd => unpacked = zstd::decode_all(bytes).ok()?,
    }
    Some(unpacked)
}

/// Fills in what children have of their parents where they do not say it.
pub(crate) fn filled(runs: &[Run]) -> Vec<Run> {
    let mut filled = runs.to_vec();
    for run in &mut filled {
        let mut first = &*run;
        while let Some(parent) = first.parent_run_id
            && let Some(parent) = runs.iter().find(|one| one.id == parent)
        {
            first = parent;
        }
        if first.id != run.id {
            run.trace_id = run.trace_id.or(first.trace_id).or(Some(first.id));
        }
    }
    filled
}

fn trace(run: &Run) -> Uuid {
    run.trace_id.unwrap_or(run.id)
}

fn nested(run: &Run, parent: Option<&Run>, runs: &[Run], dump: &Dump) -> String {
    let children = runs
        .iter()
        .filter(|child| child.parent_run_id == Some(run.id));
    let children: Vec<String> = children
        .map(|child| nested(child, Some(run), runs, dump))
        .collect();
    let mut members = members(run, dump);
    if let Some(parent) = parent {
        members.retain(|(name, _)| match name.as_str() {
            "parent_run_id" => false,
            "tenant_id" => run.tenant_id != parent.tenant_id,
            "session_id" | "project_id" => run.session_id != parent.session_id,
            "trace_id" => run.trace_id != parent.trace_id.or(Some(parent.id)),
            _ => true,
        });
    }
    members.insert(
        2,
        (
            "child_runs".to_owned(),
            format!("[{}]", children.join(", ")),
        ),
    );
    joined(&members)
}

fn object(run: &Run, dump: &Dump) -> String {
    joined(&members(run, dump))
}

fn joined(members: &[(String, String)]) -> String {
    let members = members
        .iter()
        .map(|(name, json)| format!("{}: {json}", json!(name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

fn members(run: &Run, dump: &Dump) -> Vec<(String, String)> {
    let is_v2 = dump.version == Version::V2;
    let id = |id: Option<Uuid>| id.map(|id| json!(id).to_string());
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text).to_string());
    let word = |word: &Option<String>| {
        let word = word.as_ref();
        let word = word.map(|word| {
            if is_v2 {
                word.to_uppercase()
            } else {
                word.clone()
            }
        });
        text(&word)
    };
    let time = |us: Option<i64>| us.map(|us| json!(written(us, dump.time)).to_string());
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let cost = |cost: &Option<Cost>| {
        let text = cost.as_ref().map(|cost| &cost.text);
        let text = text.filter(|text| *text != "NaN")?;
        Some(if dump.numbers {
            text.clone()
        } else {
            json!(text).to_string()
        })
    };
    // JSON as it is, and what is none as a text.
    let json = |json: &Option<String>| {
        let text = json.as_ref()?;
        let is_json = serde_json::from_str::<Value>(text).is_ok();
        Some(if is_json {
            text.clone()
        } else {
            json!(text).to_string()
        })
    };
    let mut extra = json(&run.extra);
    let mut beside = Vec::new();
    if is_v2 && let Some(text) = &extra {
        let (metadata, rest) = taken_out(text);
        beside.extend(metadata.map(|metadata| ("metadata", Some(metadata))));
        extra = rest;
    }
    let mut members = vec![
        ("id", id(Some(run.id).filter(|id| !id.is_nil()))),
        ("name", text(&run.name)),
        ("serialized", Some("null".to_owned())),
        ("inputs", json(&run.inputs)),
        ("outputs", json(&run.outputs)),
        ("events", json(&run.events)),
        ("start_time", time(Some(run.start_us))),
        ("end_time", time(run.end_us)),
        ("first_token_time", time(run.first_token_us)),
        ("tenant_id", id(Some(run.tenant_id))),
        (
            if is_v2 { "project_id" } else { "session_id" },
            id(Some(run.session_id)),
        ),
        ("trace_id", id(run.trace_id)),
        ("parent_run_id", id(run.parent_run_id)),
        ("reference_example_id", id(run.reference_example_id)),
        ("run_type", word(&run.run_type)),
        ("status", word(&run.status)),
        ("error", text(&run.error)),
        ("is_root", run.is_root.map(|is_root| is_root.to_string())),
        ("dotted_order", text(&run.dotted_order)),
        ("trace_tier", word(&run.trace_tier)),
        (
            "tags",
            run.tags.as_ref().map(|tags| json!(tags).to_string()),
        ),
        ("extra", extra),
        ("feedback_stats", json(&run.feedback_stats)),
        ("total_tokens", number(run.total_tokens)),
        ("prompt_tokens", number(run.prompt_tokens)),
        ("completion_tokens", number(run.completion_tokens)),
        ("total_cost", cost(&run.total_cost)),
        ("prompt_cost", cost(&run.prompt_cost)),
        ("completion_cost", cost(&run.completion_cost)),
    ];
    members.extend(beside);
    if is_v2 {
        members.push(("latency_seconds", Some("1.25".to_owned())));
    }
    let members = members.into_iter().filter_map(|(name, json)| match json {
        Some(json) => Some((name.to_owned(), json)),
        None => (!dump.sparse).then(|| (name.to_owned(), "null".to_owned())),
    });
    members.collect()
}

/// The metadata of an `extra`, and what else it has; texts are cut, so that numbers keep their digits.
fn taken_out(extra: &str) -> (Option<String>, Option<String>) {
    let prefix = r#"{"metadata": "#;
    match extra
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix('}'))
    {
        Some(metadata) if serde_json::from_str::<Value>(metadata).is_ok() => {
            (Some(metadata.to_owned()), None)
        }
        _ => (None, Some(extra.to_owned())),
    }
}

fn written(us: i64, form: u8) -> String {
    let at = DateTime::from_timestamp_micros(us).unwrap();
    match form % 3 {
        0 => at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        1 => at.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string(),
        _ => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    }
}

/// A JSON text over many lines: broken after what opens and separates, outside of texts.
fn pretty(json: &str) -> String {
    let mut text = String::new();
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for char in json.chars() {
        if in_text {
            text.push(char);
            in_text = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
            continue;
        }
        let new_line = |text: &mut String, depth: usize| {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        };
        match char {
            '{' | '[' => {
                depth += 1;
                text.push(char);
                new_line(&mut text, depth);
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut text, depth);
                text.push(char);
            }
            ',' => {
                text.push(char);
                new_line(&mut text, depth);
            }
            _ => {
                in_text = char == '"';
                text.push(char);
            }
        }
    }
    text
}
