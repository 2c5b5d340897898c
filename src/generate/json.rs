//! The short texts of a run's row: times, ids, numbers and the JSON of the
//! columns `extra`, `events` and `feedback_stats`. Each function appends to a
//! string, because there are millions of rows. No text here needs escaping.

use chrono::{DateTime, Datelike, Timelike};
use uuid::Uuid;

use super::plan::Project;
use super::trace::{Feedback, Run};

/// Pico-dollars in a dollar.
const PICO: u64 = 1_000_000_000_000;

/// Appends a time as in `dotted_order`: `20240606T010251299960Z`.
pub(super) fn push_compact_time(out: &mut String, time_us: i64) {
    push_time(out, time_us, ["", "T", "", "", "Z"]);
}

/// Appends a time as in JSON: `2024-06-06T01:02:51.299960`.
pub(super) fn push_iso_time(out: &mut String, time_us: i64) {
    push_time(out, time_us, ["-", "T", ":", ".", ""]);
}

/// Appends an id: 36 lower-case characters.
pub(super) fn push_uuid(out: &mut String, id: Uuid) {
    let mut buffer = Uuid::encode_buffer();
    out.push_str(id.hyphenated().encode_lower(&mut buffer));
}

/// Appends a cost in dollars: exact, without trailing zeros; below 0.0001
/// with an exponent, as common clients print small numbers.
pub(super) fn push_cost(out: &mut String, cost_pico: i64) {
    if cost_pico < 0 {
        out.push('-');
    }
    let pico = cost_pico.unsigned_abs();
    if pico == 0 || pico >= PICO / 10_000 {
        push_number(out, pico / PICO, 1);
        push_fraction(out, pico % PICO, 12);
        return;
    }
    let exponent = pico.ilog10();
    let unit = 10_u64.pow(exponent);
    push_number(out, pico / unit, 1);
    push_fraction(out, pico % unit, exponent);
    out.push_str("e-");
    push_number(out, u64::from(12 - exponent), 1);
}

/// Appends the column `extra`: metadata, which differs from run to run, and
/// the client's surroundings.
pub(super) fn push_extra(out: &mut String, run: &Run, project: &Project) {
    let context = &run.context;
    out.push_str(r#"{"metadata": {"#);
    if let Some(model) = run.model {
        push_field(out, "ls_model_name", model.name);
        push_field(out, "ls_provider", model.provider);
        out.push_str(r#""ls_model_type": "chat", "ls_temperature": 0.2, "#);
    }
    out.push_str(r#""user_id": "user-"#);
    push_number(out, u64::from(context.user), 6);
    out.push_str(r#"", "#);
    push_field(out, "team", context.team);
    push_field(out, "environment", context.environment);
    // Both keys are in use for the id of a conversation.
    out.push_str(match project.index % 2 {
        0 => r#""thread_id": ""#,
        _ => r#""session_id": ""#,
    });
    push_uuid(out, context.thread);
    out.push_str(r#"", "revision_id": "v2."#);
    push_number(out, u64::from(context.revision), 1);
    out.push_str(r#"", "request_id": ""#);
    push_uuid(out, run.request);
    out.push_str(
        r#""}, "runtime": {"sdk": "langsmith-py", "sdk_version": "0.4.38", "library": "langchain-core", "platform": "Linux-6.8.0-x86_64-with-glibc2.39", "runtime": "python", "runtime_version": "3.12.7"}}"#,
    );
}

/// Appends the column `events`: start, first token and end.
pub(super) fn push_events(out: &mut String, run: &Run) {
    let events = [
        ("start", Some(run.start_us)),
        (
            "new_token",
            run.first_token_us.filter(|_| run.model.is_some()),
        ),
        ("end", run.end_us.filter(|_| run.error.is_none())),
        ("error", run.end_us.filter(|_| run.error.is_some())),
    ];
    let mut before = "[";
    for (name, time_us) in events {
        let Some(time_us) = time_us else { continue };
        out.push_str(before);
        out.push_str(r#"{"name": ""#);
        out.push_str(name);
        out.push_str(r#"", "time": ""#);
        push_iso_time(out, time_us);
        out.push_str(r#""}"#);
        before = ", ";
    }
    out.push(']');
}

/// Appends the column `feedback_stats` of a root.
pub(super) fn push_feedback(out: &mut String, feedback: &Feedback) {
    let mut before = "{";
    let mut push = |key: &str, counts: &str| {
        out.push_str(before);
        out.push('"');
        out.push_str(key);
        out.push_str(r#"": {"#);
        out.push_str(counts);
        before = ", ";
    };
    if feedback.has_conciseness {
        push(
            "conciseness",
            r#""n": 2, "avg": 0.75, "stdev": 0.25, "values": {}}"#,
        );
    }
    if let Some(quarters) = feedback.correctness {
        push(
            "correctness",
            match quarters {
                0 => r#""n": 1, "avg": 0.0, "values": {}}"#,
                1 => r#""n": 1, "avg": 0.25, "values": {}}"#,
                2 => r#""n": 1, "avg": 0.5, "values": {}}"#,
                3 => r#""n": 1, "avg": 0.75, "values": {}}"#,
                _ => r#""n": 1, "avg": 1.0, "values": {}}"#,
            },
        );
    }
    if let Some(topic) = feedback.topic {
        let counts = [r#""n": 1, "avg": null, "values": {""#, topic, r#"": 1}}"#];
        push("topic", &counts.concat());
    }
    if let Some(is_good) = feedback.user_score {
        push(
            "user_score",
            if is_good {
                r#""n": 1, "avg": 1.0, "values": {}}"#
            } else {
                r#""n": 1, "avg": 0.0, "values": {}}"#
            },
        );
    }
    if before == "{" {
        out.push('{');
    }
    out.push('}');
}

/// Appends texts as a JSON array.
pub(super) fn push_array<'a>(out: &mut String, texts: impl Iterator<Item = &'a str>) {
    out.push('[');
    for (index, text) in texts.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
    out.push(']');
}

/// Appends `"key": "text", `.
fn push_field(out: &mut String, key: &str, text: &str) {
    for part in ["\"", key, "\": \"", text, "\", "] {
        out.push_str(part);
    }
}

/// Appends a time with the given signs: within the date, before the hour,
/// within the time, before the microseconds, at the end.
fn push_time(out: &mut String, time_us: i64, signs: [&str; 5]) {
    let time = DateTime::from_timestamp_micros(time_us).unwrap_or_default();
    let [in_date, before_time, in_time, before_fraction, end] = signs;
    push_number(out, time.year().unsigned_abs().into(), 4);
    out.push_str(in_date);
    push_number(out, time.month().into(), 2);
    out.push_str(in_date);
    push_number(out, time.day().into(), 2);
    out.push_str(before_time);
    push_number(out, time.hour().into(), 2);
    out.push_str(in_time);
    push_number(out, time.minute().into(), 2);
    out.push_str(in_time);
    push_number(out, time.second().into(), 2);
    out.push_str(before_fraction);
    push_number(out, time.timestamp_subsec_micros().into(), 6);
    out.push_str(end);
}

/// Appends a number with at least so many digits, at most 20.
fn push_number(out: &mut String, number: u64, n_digits: usize) {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut begin = digits.len();
    while rest > 0 || digits.len() - begin < n_digits.min(digits.len()) {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    out.extend(digits[begin..].iter().map(|&digit| char::from(digit)));
}

/// Appends `.` and a fraction of so many digits without its trailing zeros;
/// nothing where it is zero.
fn push_fraction(out: &mut String, fraction: u64, n_digits: u32) {
    if fraction == 0 {
        return;
    }
    let (mut digits, mut n_digits) = (fraction, n_digits as usize);
    while digits % 10 == 0 {
        digits /= 10;
        n_digits -= 1;
    }
    out.push('.');
    push_number(out, digits, n_digits);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn text(push: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn times() {
        let time_us = 1_717_635_771_299_960;
        assert_eq!(
            text(|out| push_compact_time(out, time_us)),
            "20240606T010251299960Z"
        );
        assert_eq!(
            text(|out| push_iso_time(out, time_us)),
            "2024-06-06T01:02:51.299960"
        );
    }

    #[test]
    fn costs() {
        for (cost_pico, expected) in [
            (0, "0"),
            (1, "1e-12"),
            (8_200_000, "8.2e-6"),
            (99_999_999, "9.9999999e-5"),
            (100_000_000, "0.0001"),
            (206_485_000_000, "0.206485"),
            (3_000_000_000_000, "3"),
            (-1_500_000_000_000, "-1.5"),
        ] {
            assert_eq!(text(|out| push_cost(out, cost_pico)), expected);
        }
    }

    #[test]
    fn feedback_is_json() {
        let mut feedback = Feedback {
            user_score: None,
            correctness: None,
            topic: None,
            has_conciseness: false,
        };
        assert_eq!(text(|out| push_feedback(out, &feedback)), "{}");
        feedback.user_score = Some(true);
        feedback.correctness = Some(3);
        feedback.topic = Some("bug");
        feedback.has_conciseness = true;
        let json = text(|out| push_feedback(out, &feedback));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["correctness"]["avg"], 0.75);
        assert_eq!(value["topic"]["values"]["bug"], 1);
        assert_eq!(value["user_score"]["n"], 1);
        assert_eq!(value["conciseness"]["stdev"], 0.25);
    }
}
