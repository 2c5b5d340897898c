//! Real request timings with the percentiles that their authors published.
//!
//! The files lie beside the repository, not in it: `None` where they are
//! absent. A request that succeeded becomes a completed root run, its times
//! rounded to the microsecond, so that a percentile of them can differ from the
//! published one by up to half a microsecond.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run::{FIRST_MIDNIGHT_US, Run, project_id};

/// How far a percentile of microseconds may lie from that of the original
/// doubles: the rounding of the values, and of the result to nanoseconds.
pub(crate) const TOLERANCE_S: f64 = 0.501e-6;

/// The requests of one hosted model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) runs: Vec<Run>,
    pub(crate) published: Published,
}

/// Seconds, as published; named like the document's fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) latency_p50: f64,
    pub(crate) latency_p99: f64,
    pub(crate) first_token_p50: f64,
    pub(crate) first_token_p99: f64,
}

impl Published {
    /// The document's keys with what they should say.
    pub(crate) fn fields(&self) -> [(&'static str, f64); 4] {
        [
            ("latency_p50", self.latency_p50),
            ("latency_p99", self.latency_p99),
            ("first_token_p50", self.first_token_p50),
            ("first_token_p99", self.first_token_p99),
        ]
    }
}

/// All models, by name, each as a project of its own; `None` without the data.
pub(crate) fn models() -> Option<Vec<Model>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/llmperf");
    let entries = fs::read_dir(data.join("individual")).ok()?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let models = files.iter().enumerate().map(|(index, file)| {
        let summary = data.join("summary").join(file.file_name().unwrap());
        Model {
            name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
            runs: runs(index, &read(file)),
            published: published(&read(&summary)),
        }
    });
    Some(models.collect())
}

/// Asserts that a document's percentiles are the published ones.
pub(crate) fn assert_published(document: &Value, model: &Model) {
    for (field, published) in model.published.fields() {
        let ours = document[field].as_f64().unwrap();
        assert!(
            (ours - published).abs() <= TOLERANCE_S,
            "{} {field}: {ours} instead of {published}",
            model.name
        );
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn runs(index: usize, requests: &Value) -> Vec<Run> {
    let succeeded = requests
        .as_array()
        .unwrap()
        .iter()
        .filter(|request| request["error_code"].is_null());
    (0u32..)
        .zip(succeeded)
        .map(|(n, request)| {
            let start_us = FIRST_MIDNIGHT_US + i64::from(n) * 1_000_000;
            let sequence = (index as u64 + 1) * 1_000 + u64::from(n);
            let end_us = start_us + micros(&request["end_to_end_latency_s"]);
            let mut run = Run::completed_root(sequence, start_us, end_us);
            run.session_id = project_id(index);
            run.first_token_us = Some(start_us + micros(&request["ttft_s"]));
            run.total_tokens = request["number_total_tokens"].as_i64();
            run.prompt_tokens = request["number_input_tokens"].as_i64();
            run.completion_tokens = request["number_output_tokens"].as_i64();
            run
        })
        .collect()
}

fn published(summary: &Value) -> Published {
    let of = |measure: &str, p: u8| {
        summary[format!("results_{measure}_quantiles_p{p}")]
            .as_f64()
            .unwrap()
    };
    Published {
        latency_p50: of("end_to_end_latency_s", 50),
        latency_p99: of("end_to_end_latency_s", 99),
        first_token_p50: of("ttft_s", 50),
        first_token_p99: of("ttft_s", 99),
    }
}

#[allow(clippy::cast_possible_truncation)] // seconds of a request are few
fn micros(seconds: &Value) -> i64 {
    (seconds.as_f64().unwrap() * 1e6).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::reference::{EXACT_VALUES, Question, documents};

    #[test]
    fn the_reference_agrees_with_the_published_percentiles() {
        let Some(models) = models() else { return };
        assert!(!models.is_empty());
        for model in models {
            assert!((1..=EXACT_VALUES).contains(&model.runs.len()));
            let documents = documents(&model.runs, &Question::default());
            assert_eq!(documents.len(), 1);
            assert_published(&documents[0], &model);
        }
    }
}
