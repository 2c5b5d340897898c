//! Groups as JSON in the shape of the API's `RunStats`: one object, or group → object; and as JSON lines.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::parts::write_parts;
use super::super::{Style, json};
use super::{Groups, called};
use crate::document::{Attainment, Bucket, Figure, Group, Label};
use crate::request::Measure;

/// Writes one object, or one a group, nested where there are several keys. With spans of time there is an
/// array of objects in place of an object.
pub(super) fn write_json(out: &mut dyn Write, answer: &Groups) -> io::Result<()> {
    let names = Names::of(answer);
    if answer.is_whole() {
        return json::pretty(out, &names.value(answer.total));
    }
    let groups = answer.groups.iter().collect();
    json::pretty(
        out,
        &Nested {
            names: &names,
            groups,
            depth: 0,
        },
    )
}

/// Writes a line a group, or a group and a span of time; without keys, of the total.
pub(super) fn write_jsonl(out: &mut dyn Write, answer: &Groups, style: &Style) -> io::Result<()> {
    let names = Names::of(answer);
    let groups = if answer.is_whole() {
        std::slice::from_ref(answer.total)
    } else {
        answer.groups
    };
    write_parts(out, groups, style.threads, |out, groups| {
        for group in groups {
            for (bucket, figures) in answer.rows(group) {
                let record = names.record(bucket, figures);
                let labels = &group.labels;
                json::compact(out, &Record { labels, ..record })?;
            }
        }
        Ok(())
    })
}

/// What keys and measures are called.
struct Names<'a> {
    answer: &'a Groups<'a>,
    keys: Vec<String>,
    measures: Vec<String>,
}

impl<'a> Names<'a> {
    fn of(answer: &'a Groups<'a>) -> Self {
        Self {
            answer,
            keys: answer
                .breakdown
                .by
                .iter()
                .map(ToString::to_string)
                .collect(),
            measures: answer.measures().iter().map(ToString::to_string).collect(),
        }
    }

    fn value(&'a self, group: &'a Group) -> Value<'a> {
        Value { names: self, group }
    }

    fn record(&'a self, bucket: Option<&'a Bucket>, figures: &'a [Figure]) -> Record<'a> {
        Record {
            names: self,
            labels: &[],
            bucket,
            figures,
        }
    }
}

/// Groups that have their first labels in common, by the next one.
struct Nested<'a> {
    names: &'a Names<'a>,
    groups: Vec<&'a Group>,
    depth: usize,
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let depth = self.depth + 1;
        let mut map = serializer.serialize_map(None)?;
        for (label, groups) in self.by_label() {
            map.serialize_key(&called(label))?;
            match groups[..] {
                [group] if depth == self.names.keys.len() => {
                    map.serialize_value(&self.names.value(group))?;
                }
                _ => map.serialize_value(&Nested {
                    names: self.names,
                    groups,
                    depth,
                })?,
            }
        }
        map.end()
    }
}

impl<'a> Nested<'a> {
    /// The groups of each label, both in the order in which they come.
    fn by_label(&self) -> Vec<(&'a Label, Vec<&'a Group>)> {
        let mut places: HashMap<&Label, usize> = HashMap::new();
        let mut parts: Vec<(&Label, Vec<&Group>)> = Vec::new();
        for group in &self.groups {
            let label = group.labels.get(self.depth).unwrap_or(&Label::Other);
            let place = *places.entry(label).or_insert(parts.len());
            match parts.get_mut(place) {
                Some((_, groups)) => groups.push(group),
                None => parts.push((label, vec![group])),
            }
        }
        parts
    }
}

/// A group's figures, or those of each span of time.
struct Value<'a> {
    names: &'a Names<'a>,
    group: &'a Group,
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { names, group } = self;
        let rows = names.answer.rows(group);
        if names.answer.breakdown.every.is_some() {
            serializer.collect_seq(rows.map(|(bucket, figures)| names.record(bucket, figures)))
        } else {
            names.record(None, &group.figures).serialize(serializer)
        }
    }
}

/// Figures with their names, after what says which they are.
#[derive(Clone, Copy)]
struct Record<'a> {
    names: &'a Names<'a>,
    labels: &'a [Label],
    bucket: Option<&'a Bucket>,
    figures: &'a [Figure],
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.labels.contains(&Label::Other) {
            map.serialize_entry("group", "other")?;
        }
        for (key, label) in self.names.keys.iter().zip(self.labels) {
            let value = match label {
                Label::Value(text) => Some(text),
                Label::None | Label::Other => None,
            };
            map.serialize_entry(key, &value)?;
        }
        if let Some(bucket) = self.bucket {
            map.serialize_entry("start", &bucket.start)?;
            map.serialize_entry("end", &bucket.end)?;
        }
        self.figures(&mut map)?;
        map.end()
    }
}

impl Record<'_> {
    /// The figures, each under its measure's name; objectives together.
    fn figures<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let measures = self.names.answer.measures().iter();
        let named = measures.zip(&self.names.measures).zip(self.figures);
        let mut objectives = Vec::new();
        for ((measure, name), figure) in named {
            if let Measure::Objective(_) = measure {
                objectives.push(Attained::of(name, figure));
                continue;
            }
            map.serialize_entry(name, figure)?;
            if let Figure::Distinct {
                is_exact: false, ..
            } = figure
            {
                map.serialize_entry(&format!("{name}_is_approximate"), &true)?;
            }
        }
        if objectives.is_empty() {
            Ok(())
        } else {
            map.serialize_entry("slo", &objectives)
        }
    }
}

/// How well an objective is met.
#[derive(Serialize)]
struct Attained<'a> {
    objective: &'a str,
    #[serde(flatten)]
    attainment: Option<&'a Attainment>,
}

impl<'a> Attained<'a> {
    fn of(objective: &'a str, figure: &'a Figure) -> Self {
        let attainment = match figure {
            Figure::Attainment(attainment) => Some(&**attainment),
            _ => None,
        };
        Self {
            objective,
            attainment,
        }
    }
}
