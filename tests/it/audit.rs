//! Audits: each kind of finding has a case that triggers it and nothing else, clean data has none, what rows
//! say by themselves is counted as the naive count does; documents are compared, and causes named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use runtally::generate::{self, Options};
use runtally::output::{self, Format, Style};
use runtally::{
    Audit, Comparison, Engine, Error, FindingKind as Kind, Limits, OtherDocument, Request, Source,
    SourceOptions,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::{answer, refusal, runtally};
use crate::support::quick;
use crate::support::run::{Cost, DAY_US, FIRST_MIDNIGHT_US, Run, any_unruly_runs, project_id};
use crate::support::write::{CostForm, Shape, write, write_sessions_json};

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

/// Counts of the kinds that are found.
type Counts = BTreeMap<Kind, u64>;

fn ask<T>(
    dir: &Path,
    question: impl AsyncFnOnce(&Engine, &Source) -> runtally::Result<T>,
) -> runtally::Result<T> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(&Limits::default())?;
        let source = Source::open([dir], &SourceOptions::default())?;
        question(&engine, &source).await
    })
}

fn audit(dir: &Path) -> Audit {
    let request = Request::default();
    let audit = async |engine: &Engine, source: &Source| {
        runtally::audit(engine, source, &request, None).await
    };
    ask(dir, audit).unwrap().audit
}

fn counts(audit: &Audit) -> Counts {
    let findings = audit.findings.iter();
    findings
        .map(|finding| (finding.kind, finding.count))
        .collect()
}

/// Three traces of a root and what it called, one a day, with all their usage.
fn clean() -> Vec<Run> {
    let mut runs = Vec::new();
    for number in 0..3_i32 {
        let start = FIRST_MIDNIGHT_US + i64::from(number) * DAY_US + 9 * HOUR_US;
        let mut root = Run::completed_root(
            u64::from(2 * number.unsigned_abs()),
            start,
            start + 5 * SECOND_US,
        );
        root.first_token_us = Some(start + SECOND_US);
        root.extra = Some(r#"{"metadata": {"user": "u1"}}"#.to_owned());
        root.feedback_stats = Some(r#"{"score": {"n": 1, "avg": 1.0}}"#.to_owned());
        root.trace_tier = Some("shortlived".to_owned());
        used(&mut root, 10, 6, "0.0016");
        let mut child = Run::completed_root(
            u64::from(2 * number.unsigned_abs() + 1),
            start,
            start + SECOND_US,
        );
        child.trace_id = root.trace_id;
        child.parent_run_id = Some(root.id);
        child.is_root = Some(false);
        child.run_type = Some("llm".to_owned());
        used(&mut child, 8, 5, "0.0012");
        runs.extend([root, child]);
    }
    runs
}

fn used(run: &mut Run, total: i64, prompt: i64, cost: &str) {
    run.total_tokens = Some(total);
    run.prompt_tokens = Some(prompt);
    run.completion_tokens = Some(total - prompt);
    run.total_cost = Some(Cost::of_text(cost));
}

/// An export of runs, with a record of their project.
fn export(runs: &[Run], shape: &Shape) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), runs, shape);
    name(dir.path());
    dir
}

fn name(dir: &Path) {
    let record = json!({"id": project_id(0), "name": "support-bot"});
    write_sessions_json(dir, &[record], true);
}

/// What is found in clean runs after a change.
fn found(change: impl FnOnce(&mut Vec<Run>)) -> Counts {
    let mut runs = clean();
    change(&mut runs);
    counts(&audit(export(&runs, &Shape::default()).path()))
}

fn one(kind: Kind) -> Counts {
    BTreeMap::from([(kind, 1)])
}

#[test]
fn clean_data_has_no_finding() {
    let dir = export(&clean(), &Shape::default());
    let audit = audit(dir.path());
    assert_eq!(audit.findings, []);
    let project = &audit.projects[0];
    assert_eq!((audit.n_files, audit.n_records), (3, 6));
    assert_eq!(
        (project.n_files, project.n_runs, project.n_traces),
        (3, 6, 3)
    );
    assert_eq!(project.name.as_deref(), Some("support-bot"));
    let coverage = project.coverage.as_ref().unwrap();
    assert_eq!(coverage.traces, [1, 1, 1]);
}

#[test]
fn what_is_generated_has_no_finding() {
    for options in [
        Options::default(),
        Options {
            layout: generate::Layout::V1,
            cost_type: generate::CostType::Text,
            days: 20,
            ..Options::default()
        },
        Options {
            layout: generate::Layout::Flat,
            files_per_day: 4,
            rows: 2_000,
            ..Options::default()
        },
    ] {
        let options = Options {
            rows: options.rows.min(6_000),
            pending_share: 0,
            ..options
        };
        let dir = tempfile::tempdir().unwrap();
        generate::generate(&dir.path().join("exports"), &options).unwrap();
        let audit = audit(&dir.path().join("exports"));
        assert_eq!(audit.findings, [], "{options:?}");
        let n_runs: u64 = audit.projects.iter().map(|project| project.n_runs).sum();
        assert_eq!(n_runs, options.rows);
    }
}

#[test]
fn what_rows_say_by_themselves_is_found() {
    type Change = fn(&mut Run);
    let cases: [(Kind, Change); 12] = [
        (Kind::EndBeforeStart, |run| {
            run.end_us = Some(run.start_us - 1);
            run.first_token_us = None;
        }),
        (Kind::FirstTokenBeforeStart, |run| {
            run.first_token_us = Some(run.start_us - 1);
        }),
        (Kind::FirstTokenAfterEnd, |run| {
            run.first_token_us = run.end_us.map(|end| end + 1);
        }),
        (Kind::TotalNotParts, |run| run.total_tokens = Some(11)),
        (Kind::CostWithoutTokens, |run| {
            (run.total_tokens, run.prompt_tokens, run.completion_tokens) = (None, Some(0), None);
        }),
        (Kind::NegativeTokens, |run| {
            (run.prompt_tokens, run.completion_tokens) = (Some(11), Some(-1));
        }),
        (Kind::NegativeCosts, |run| {
            run.prompt_cost = Some(Cost::of_text("-0.0001"));
        }),
        (Kind::PendingOld, |run| {
            run.end_us = None;
            run.status = Some("pending".to_owned());
        }),
        (Kind::UnreadableExtra, |run| {
            run.extra = Some("{\"metadata\": ".to_owned());
        }),
        (Kind::UnreadableExtra, |run| {
            run.extra = Some("[]".to_owned());
        }),
        (Kind::UnreadableFeedbackStats, |run| {
            run.feedback_stats = Some("{\"score\": {\"n\": -1}}".to_owned());
        }),
        (Kind::UnreadableFeedbackStats, |run| {
            run.feedback_stats = Some("oops".to_owned());
        }),
    ];
    for (kind, change) in cases {
        let mut runs = clean();
        // A trace without children, so that nothing else is off.
        runs.remove(1);
        change(&mut runs[0]);
        let dir = export(&runs, &Shape::default());
        let audit = audit(dir.path());
        assert_eq!(counts(&audit), one(kind));
        let finding = &audit.findings[0];
        assert_eq!(
            finding.example_run_id,
            Some(runs[0].id.to_string()),
            "{kind}"
        );
        assert!(
            finding.example_file.as_ref().unwrap().contains("day=12"),
            "{kind}"
        );
        assert_eq!((finding.of, finding.unit), (5, "runs"), "{kind}");
    }
}

#[test]
fn what_is_just_in_order_is_not_found() {
    let cases: [fn(&mut Run); 6] = [
        |run| (run.end_us, run.first_token_us) = (Some(run.start_us), Some(run.start_us)),
        |run| run.first_token_us = run.end_us,
        |run| run.completion_tokens = None,
        |run| run.total_cost = Some(Cost::of_text("0")),
        |run| (run.extra, run.feedback_stats) = (Some(String::new()), Some("null".to_owned())),
        |run| run.extra = Some("null".to_owned()),
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let found = found(|runs| {
            runs.remove(1);
            change(&mut runs[0]);
        });
        assert_eq!(found, Counts::new(), "case {number}");
    }
    // The last runs may still be going on.
    let pending = found(|runs| {
        for run in runs.iter_mut().rev().take(2) {
            run.end_us = None;
        }
    });
    assert_eq!(pending, Counts::new());
}

#[test]
fn repeated_records_are_found_and_those_of_one_export_count_twice() {
    let runs = clean();
    let dir = export(&runs, &Shape::default());
    let again = Shape {
        export_id: Uuid::from_u128(0xe1),
        ..Shape::default()
    };
    write(dir.path(), &runs[..3], &again);
    let between = audit(dir.path());
    assert_eq!(counts(&between), BTreeMap::from([(Kind::DuplicateIds, 3)]));
    assert_eq!(between.findings[0].of, 9);
    assert!(between.findings[0].example_file.is_some());

    let within = found(|runs| runs.push(runs[1].clone()));
    // Two records of a child are more than its root says.
    let expected = [
        (Kind::CountedTwice, 1),
        (Kind::NegativeOwnUsage, 1),
        (Kind::DuplicateIds, 1),
    ];
    assert_eq!(within, BTreeMap::from(expected));
}

#[test]
fn traces_whose_runs_do_not_fit_are_found() {
    let rootless = found(|runs| drop(runs.remove(0)));
    assert_eq!(rootless, one(Kind::ChildWithoutRoot));
    let unused = found(|runs| {
        let root = &mut runs[0];
        (
            root.total_tokens,
            root.prompt_tokens,
            root.completion_tokens,
        ) = (None, Some(0), None);
        root.total_cost = None;
    });
    assert_eq!(unused, one(Kind::RootsWithoutUsage));
    let less = found(|runs| used(&mut runs[0], 7, 5, "0.0016"));
    assert_eq!(less, one(Kind::NegativeOwnUsage));
    // As much as the children is enough.
    let equal = found(|runs| used(&mut runs[0], 8, 5, "0.0012"));
    assert_eq!(equal, Counts::new());
}

#[test]
fn runs_outside_of_the_day_of_their_path_are_found() {
    let dir = tempfile::tempdir().unwrap();
    name(dir.path());
    let files = write(dir.path(), &clean(), &Shape::default());
    let day = files[0].path.parent().unwrap();
    fs::rename(day, day.with_file_name("day=20")).unwrap();
    let audit = audit(dir.path());
    assert_eq!(
        counts(&audit),
        BTreeMap::from([(Kind::OutsidePartition, 2)])
    );
    assert!(
        audit.findings[0]
            .example_file
            .as_ref()
            .unwrap()
            .contains("day=20")
    );
}

#[test]
fn missing_columns_are_said_and_hide_no_other_finding() {
    let shape = Shape {
        dropped: vec![
            "end_time",
            "total_tokens",
            "prompt_tokens",
            "completion_tokens",
        ],
        ..Shape::default()
    };
    let dir = export(&clean(), &shape);
    let audit = audit(dir.path());
    // Neither is every run pending, nor does every one cost something for nothing.
    assert_eq!(counts(&audit), BTreeMap::from([(Kind::MissingColumns, 3)]));
    let details = &audit.findings[0].details;
    assert_eq!(details.len(), 4);
    assert!(
        details[0].contains("no column end_time: no latency"),
        "{details:?}"
    );
}

#[test]
fn files_without_rows_are_found() {
    let dir = export(&clean(), &Shape::default());
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
    let file = File::create(dir.path().join("nothing.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::new_empty(schema)).unwrap();
    writer.close().unwrap();
    let audit = audit(dir.path());
    assert_eq!(counts(&audit), one(Kind::EmptyFiles));
    assert_eq!((audit.n_files, audit.findings[0].of), (3, 4));
}

#[test]
fn projects_without_a_name_are_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &clean(), &Shape::default());
    assert_eq!(counts(&audit(dir.path())), one(Kind::NamelessProjects));
}

/// Twenty traces an hour on so many days; none in some hours.
fn steady(n_days: i64, is_missing: impl Fn(i64) -> bool) -> Vec<Run> {
    let hours = (0..n_days * 24).filter(|hour| !is_missing(*hour));
    let starts = hours.flat_map(|hour| (0..20).map(move |n| hour * HOUR_US + n * 170 * SECOND_US));
    let runs = starts.enumerate().map(|(number, start)| {
        let start = FIRST_MIDNIGHT_US + start;
        let mut root = Run::completed_root(number as u64, start, start + SECOND_US);
        used(&mut root, 10, 6, "0.0016");
        root
    });
    runs.collect()
}

#[test]
fn hours_without_traces_are_found_where_some_should_be() {
    let whole = export(&steady(6, |_| false), &Shape::default());
    assert_eq!(counts(&audit(whole.path())), Counts::new());
    let holed = export(
        &steady(6, |hour| (50..53).contains(&hour)),
        &Shape::default(),
    );
    let audit = audit(holed.path());
    assert_eq!(counts(&audit), BTreeMap::from([(Kind::Gaps, 3)]));
    let finding = &audit.findings[0];
    assert_eq!(finding.of, 6 * 24);
    assert_eq!(
        finding.details,
        [
            "support-bot: no trace from 2026-08-14T02:00:00Z until 2026-08-14T05:00:00Z (3 hours), where \
             about 60 should be"
        ]
    );
    let nights = export(&steady(6, |hour| hour % 24 < 8), &Shape::default());
    assert_eq!(counts(&self::audit(nights.path())), Counts::new());
}

/// The kinds that a run by itself is of.
fn naive(run: &Run, shape: &Shape, last_us: i64) -> BTreeSet<Kind> {
    let costs = [&run.total_cost, &run.prompt_cost, &run.completion_cost];
    let costs = costs.map(|cost| cost.as_ref().and_then(|cost| shape.cost.pico(cost)));
    let tokens = [run.total_tokens, run.prompt_tokens, run.completion_tokens];
    let zero = num_bigint::BigInt::from(0);
    let is_object =
        |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).is_ok();
    let parts = run.prompt_tokens.zip(run.completion_tokens);
    let total = parts.zip(run.total_tokens);
    let holds = [
        (
            Kind::EndBeforeStart,
            run.end_us.is_some_and(|end| end < run.start_us),
        ),
        (
            Kind::FirstTokenBeforeStart,
            run.first_token_us.is_some_and(|at| at < run.start_us),
        ),
        (
            Kind::FirstTokenAfterEnd,
            run.first_token_us
                .zip(run.end_us)
                .is_some_and(|(at, end)| at > end),
        ),
        (
            Kind::TotalNotParts,
            total.is_some_and(|((prompt, completion), total)| {
                i128::from(prompt) + i128::from(completion) != i128::from(total)
            }),
        ),
        (
            Kind::CostWithoutTokens,
            costs.iter().flatten().any(|cost| *cost > zero)
                && tokens.iter().all(|tokens| tokens.unwrap_or(0) == 0),
        ),
        (
            Kind::NegativeTokens,
            tokens.iter().flatten().any(|tokens| *tokens < 0),
        ),
        (
            Kind::NegativeCosts,
            costs.iter().flatten().any(|cost| *cost < zero),
        ),
        (
            Kind::PendingOld,
            run.end_us.is_none() && run.start_us < last_us - DAY_US,
        ),
        (
            Kind::UnreadableExtra,
            run.extra.as_ref().is_some_and(|text| {
                !text.trim().is_empty() && text.trim() != "null" && !is_object(text)
            }),
        ),
    ];
    let holds = holds.into_iter().filter(|(_, holds)| *holds);
    holds.map(|(kind, _)| kind).collect()
}

proptest! {
    #![proptest_config(quick(24))]

    #[test]
    fn what_rows_say_is_counted_as_the_naive_count_does(
        runs in any_unruly_runs(2, 40),
        decimal in any::<bool>(),
    ) {
        prop_assume!(!runs.is_empty());
        let cost = if decimal { CostForm::Text } else { CostForm::Double };
        let shape = Shape { cost, ..Shape::default() };
        let mut runs = runs;
        let n_bad = runs.len() / 5;
        for run in runs.iter_mut().take(n_bad) {
            run.extra = Some("{oops".to_owned());
            run.first_token_us = Some(run.start_us - 7);
        }
        let dir = export(&runs, &shape);
        let audit = audit(dir.path());
        let last_us = runs.iter().map(|run| run.start_us).max().unwrap();
        let mut expected = Counts::new();
        for run in &runs {
            for kind in naive(run, &shape, last_us) {
                *expected.entry(kind).or_default() += 1;
            }
        }
        let mut found = counts(&audit);
        let by_rows = |kind: Kind| matches!(
            kind,
            Kind::EndBeforeStart | Kind::FirstTokenBeforeStart | Kind::FirstTokenAfterEnd
                | Kind::TotalNotParts | Kind::CostWithoutTokens | Kind::NegativeTokens
                | Kind::NegativeCosts | Kind::PendingOld | Kind::UnreadableExtra
        );
        found.retain(|kind, _| by_rows(*kind));
        prop_assert_eq!(found, expected);
    }
}

/// Compares the document of an export with what it becomes by a change.
fn against(dir: &Path, change: impl FnOnce(&mut Value)) -> Comparison {
    let mut document = document(dir);
    change(&mut document);
    let other: OtherDocument = document.to_string().parse().unwrap();
    let request = Request::default();
    let audited = ask(dir, async |engine: &Engine, source: &Source| {
        runtally::audit_against(engine, source, &request, None, &other).await
    });
    audited.unwrap().audit.against.unwrap()
}

fn document(dir: &Path) -> Value {
    let request = Request::default();
    let answer = ask(dir, async |engine: &Engine, source: &Source| {
        runtally::sessions(engine, source, &request).await
    });
    serde_json::to_value(&answer.unwrap().sessions[0]).unwrap()
}

/// The causes that are named for a field.
fn causes(comparison: &Comparison, field: &str) -> Vec<&'static str> {
    let field = comparison.fields.iter().find(|one| one.field == field);
    field
        .unwrap()
        .causes
        .iter()
        .map(|cause| cause.kind)
        .collect()
}

#[test]
fn the_same_document_is_equal_however_its_numbers_are_written() {
    let dir = export(&clean(), &Shape::default());
    let same = against(dir.path(), |theirs| {
        theirs["total_cost"] = json!(0.0048);
        theirs["total_tokens"] = json!(30.0);
        theirs["start_time"] = json!("2026-08-12 09:00:00+00:00");
    });
    assert_eq!(same.n_different, 0, "{same:?}");
    assert!(same.n_equal > 15);
}

#[test]
fn differences_have_their_sizes() {
    let dir = export(&clean(), &Shape::default());
    let other = against(dir.path(), |theirs| {
        theirs["run_count"] = json!(4);
        theirs["total_cost"] = json!("0.0024");
        theirs["prompt_cost"] = json!("1");
        theirs["trace_tier"] = Value::Null;
        theirs["description"] = json!("helps");
    });
    let field = |name: &str| {
        other
            .fields
            .iter()
            .find(|field| field.field == name)
            .unwrap()
    };
    assert_eq!(other.n_different, 5);
    assert_eq!(
        (field("run_count").difference, field("run_count").relative),
        (Some(-1.0), Some(-0.25))
    );
    assert_eq!(
        (field("total_cost").difference, field("total_cost").relative),
        (Some(0.0024), Some(1.0))
    );
    let verdict = |name: &str| serde_json::to_value(field(name).verdict).unwrap();
    assert_eq!(verdict("prompt_cost"), "only_theirs");
    assert_eq!(verdict("trace_tier"), "only_ours");
    assert_eq!(verdict("run_count"), "differs");
    assert_eq!(causes(&other, "run_count"), [""; 0]);
}

#[test]
fn the_likely_causes_are_named() {
    let dir = export(&clean(), &Shape::default());
    let late = against(dir.path(), |theirs| {
        theirs["run_count"] = json!(2);
        theirs["last_run_start_time"] = json!("2026-08-13T09:00:00Z");
    });
    assert_eq!(causes(&late, "run_count"), ["late_runs"]);

    let usage = against(dir.path(), |theirs| theirs["total_tokens"] = json!(54));
    assert_eq!(causes(&usage, "total_tokens"), ["usage_rule"]);

    let id = against(dir.path(), |theirs| theirs["id"] = json!(project_id(1)));
    assert_eq!(causes(&id, "id"), ["other_project"]);

    let long = export(&steady_days(40), &Shape::default());
    let capped = against(long.path(), |theirs| theirs["run_count"] = json!(32));
    assert_eq!(causes(&capped, "run_count"), ["window_cap"]);

    let holed = export(
        &steady(6, |hour| (50..53).contains(&hour)),
        &Shape::default(),
    );
    let missing = against(holed.path(), |theirs| {
        theirs["run_count"] = json!(6 * 24 * 20);
    });
    assert_eq!(causes(&missing, "run_count"), ["missing_hours"]);

    let mut runs = clean();
    runs[0].end_us = None;
    runs.push(runs[2].clone());
    let pending = export(&runs, &Shape::default());
    let other = against(pending.path(), |theirs| {
        theirs["latency_p50"] = json!(7.0);
        theirs["run_count"] = json!(3);
    });
    assert_eq!(
        causes(&other, "latency_p50"),
        ["pending_runs", "repeated_runs"]
    );
    assert_eq!(causes(&other, "run_count"), ["repeated_runs"]);
}

/// One trace a day.
fn steady_days(n_days: i64) -> Vec<Run> {
    let runs = steady(n_days, |hour| hour % 24 != 9);
    runs.into_iter().step_by(20).collect()
}

#[test]
fn a_sample_may_be_why_percentiles_alone_differ() {
    let mut runs = steady(18, |_| false);
    for (number, run) in (0..).zip(&mut runs) {
        run.end_us = Some(run.start_us + number % 977 * 1_000);
    }
    let dir = export(&runs, &Shape::default());
    let changed = |factor: f64| {
        against(dir.path(), |theirs| {
            theirs["latency_p99"] = json!(theirs["latency_p99"].as_f64().unwrap() * factor);
        })
    };
    assert_eq!(causes(&changed(1.03), "latency_p99"), ["sampling"]);
    assert_eq!(
        causes(&changed(1.0003), "latency_p99"),
        ["percentile_bound", "sampling"]
    );
    assert_eq!(causes(&changed(1.2), "latency_p99"), [""; 0]);
    let more = against(dir.path(), |theirs| {
        theirs["latency_p99"] = json!(theirs["latency_p99"].as_f64().unwrap() * 1.03);
        theirs["total_tokens"] = json!(1);
    });
    assert_eq!(causes(&more, "latency_p99"), [""; 0]);
}

#[test]
fn what_is_no_document_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "[{\"run_count\": 1}, {\"run_count\": 2}]",
        "3",
    ] {
        assert!(
            matches!(text.parse::<OtherDocument>(), Err(Error::BadData { .. })),
            "{text}"
        );
    }
    assert!("[{\"run_count\": 1}]".parse::<OtherDocument>().is_ok());
}

#[test]
fn exit_codes_say_whether_what_was_required_holds() {
    let mut runs = clean();
    runs[4].end_us = Some(runs[4].start_us - 1);
    runs[4].first_token_us = None;
    let dir = export(&runs, &Shape::default());
    let code = |args: &[&str]| {
        let args = [["audit", "."].as_slice(), args].concat();
        runtally(dir.path(), &args).code
    };
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&["--fail-on", "any"]), Some(5));
    assert_eq!(code(&["--fail-on", "gaps,end_before_start"]), Some(5));
    assert_eq!(code(&["--fail-on", "gaps,pending-old"]), Some(0));
    let refused = refusal(
        dir.path(),
        &["audit", ".", "--fail-on", "end_befor_start"],
        2,
    );
    assert!(
        refused.contains("did you mean end_before_start?"),
        "{refused}"
    );
    refusal(dir.path(), &["audit", ".", "--fail-on", "difference"], 2);
    refusal(dir.path(), &["audit", ".", "--facets"], 2);
    refusal(dir.path(), &["audit", ".", "-f", "parquet"], 2);

    let document = answer(dir.path(), &["show", "."]);
    fs::write(dir.path().join("theirs.json"), &document).unwrap();
    let theirs = ["--against", "theirs.json", "--fail-on", "difference"];
    assert_eq!(code(&theirs), Some(0));
    let changed = document.replace("\"run_count\": 3", "\"run_count\": 4");
    fs::write(dir.path().join("theirs.json"), changed).unwrap();
    assert_eq!(code(&theirs), Some(5));
    assert_eq!(code(&["--against", "theirs.json"]), Some(0));
    refusal(dir.path(), &["audit", ".", "--against", "missing.json"], 1);
}

fn written(audit: &Audit, format: Format, width: Option<usize>) -> String {
    let mut out = Vec::new();
    let style = Style {
        width,
        ..Style::default()
    };
    output::write_audit(&mut out, audit, format, &style).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn outputs_have_all_findings() {
    let mut runs = clean();
    runs[0].total_tokens = Some(11);
    runs[2].extra = Some("\u{1b}[2J".to_owned());
    let dir = export(&runs, &Shape::default());
    let audit = audit(dir.path());
    let kinds = ["total_not_parts", "unreadable_extra"];
    let lines = written(&audit, Format::Jsonl, None);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines
            .iter()
            .map(|line| line["kind"].as_str().unwrap())
            .collect::<Vec<_>>(),
        kinds
    );
    let whole: Value = serde_json::from_str(&written(&audit, Format::Json, None)).unwrap();
    assert_eq!(whole["findings"], json!(lines));
    assert_eq!(whole["formats"], json!({"langsmith": 3}));
    let csv = written(&audit, Format::Csv, None);
    assert_eq!(csv.lines().count(), 3);
    let markdown = written(&audit, Format::Markdown, None);
    assert!(
        markdown.contains("| total\\_not\\_parts | medium | 1 |"),
        "{markdown}"
    );
    for width in [40, 80, 120] {
        let table = written(&audit, Format::Table, Some(width));
        for line in table.lines() {
            assert!(
                unicode_width::UnicodeWidthStr::width(line) <= width,
                "{width}: {line}"
            );
        }
        assert!(kinds.iter().all(|kind| table.contains(kind)), "{table}");
    }
    let clean = export(&clean(), &Shape::default());
    let table = written(&self::audit(clean.path()), Format::Table, Some(80));
    assert!(table.contains("nothing found"), "{table}");
}

#[test]
fn little_memory_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows: 30_000,
        overlap: 3,
        ..Options::default()
    };
    generate::generate(&dir.path().join("exports"), &options).unwrap();
    let request = Request::default();
    let ask = |memory_bytes: Option<usize>| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let engine = Engine::new(&Limits {
                threads: std::num::NonZeroUsize::new(2),
                memory_bytes,
            })?;
            let source = Source::open([dir.path().join("exports")], &SourceOptions::default())?;
            runtally::audit(&engine, &source, &request, None).await
        })
    };
    let expected = ask(None).unwrap();
    let kinds: Vec<Kind> = expected
        .audit
        .findings
        .iter()
        .map(|finding| finding.kind)
        .collect();
    assert_eq!(kinds, [Kind::PendingOld, Kind::DuplicateIds]);
    for bytes in [1 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20] {
        match ask(Some(bytes)) {
            Ok(answer) => assert_eq!(answer.audit, expected.audit, "{bytes}"),
            Err(error) => assert!(
                matches!(error, Error::Memory { .. }) && bytes < 16 << 20,
                "{bytes}: {error:?}"
            ),
        }
    }
}
