//! Several exports of the same runs: each run counts once, in its newest record, and only overlapping
//! exports pay for it. Exports whose roots carry only their own usage have the documents of classic ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use runtally::generate::{self, Options};
use runtally::{
    Dedup, Engine, Error, Limits, OnBadFile, Request, Sessions, Source, SourceOptions, Usage,
    Window,
};
use serde_json::Value;
use uuid::Uuid;

use crate::documents::any_form;
use crate::support::quick;
use crate::support::reference::{Question, UsageFrom, assert_same_documents, expected, newest};
use crate::support::run::{Cost, DAY_US, FIRST_MIDNIGHT_US, Run, any_runs, any_window};
use crate::support::write::{Layout, Shape, Written, write};

const HOUR_US: i64 = DAY_US / 24;

fn ask(
    paths: &[&Path],
    limits: &Limits,
    options: &SourceOptions,
    request: &Request,
) -> runtally::Result<Sessions> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(limits)?;
        let source = Source::open(paths, options)?;
        runtally::sessions(&engine, &source, request).await
    })
}

fn answer(dir: &Path, dedup: Dedup) -> runtally::Result<Sessions> {
    let options = SourceOptions {
        dedup,
        ..SourceOptions::default()
    };
    ask(&[dir], &Limits::default(), &options, &Request::default())
}

fn documents(answer: &Sessions) -> String {
    serde_json::to_string(&answer.sessions).unwrap()
}

/// Whether runs were compared with each other.
fn was_deduplicated(answer: &Sessions) -> bool {
    answer.about.explain().contains("is_newest")
}

fn has_spilled(answer: &Sessions) -> bool {
    let plan = answer.about.explain();
    let mut counts = plan.split("spill_count=").skip(1);
    counts.any(|count| !count.starts_with('0'))
}

/// Writes an export that was finished so many seconds after another.
fn export(dir: &Path, number: u128, written_s: u64, runs: &[Run], shape: &Shape) -> Vec<Written> {
    let shape = Shape {
        export_id: Uuid::from_u128(number),
        ..shape.clone()
    };
    let files = write(dir, runs, &shape);
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + written_s);
    for file in &files {
        let file = File::options().write(true).open(&file.path).unwrap();
        file.set_modified(written).unwrap();
    }
    files
}

/// Traces of one run each, so many apart.
fn traces(n: u64, first_us: i64, step_us: i64) -> Vec<Run> {
    let run = |number: u64| {
        let start = first_us + i64::try_from(number).unwrap() * step_us;
        let mut run = Run::completed_root(number, start, start + 1_000_000 + start % 977);
        run.total_tokens = Some(i64::try_from(number).unwrap());
        run
    };
    (0..n).map(run).collect()
}

/// What a run looked like before it was done.
fn earlier(run: &Run, state: u8) -> Run {
    let mut run = run.clone();
    match state {
        0 => {}
        1 => {
            run.end_us = None;
            run.status = Some("pending".to_owned());
            run.total_tokens = None;
        }
        _ => {
            run.total_tokens = Some(i64::from(state));
            run.feedback_stats = None;
        }
    }
    run
}

/// What an export says of a run, if it says anything.
fn record(run: &Run, state: u8) -> Option<Run> {
    let mut run = run.clone();
    match state {
        0..3 => {}
        3 => {
            run.end_us = None;
            run.status = Some("pending".to_owned());
            run.total_tokens = None;
        }
        4 => run.total_tokens = run.total_tokens.map(|tokens| tokens + 1),
        5 => run.feedback_stats = None,
        6 => run.end_us = run.end_us.map(|end| end + 1_000),
        _ => return None,
    }
    Some(run)
}

/// Without what no figure is made of.
fn what_counts(run: &Run) -> Run {
    let number = |cost: &Option<Cost>| cost.clone().filter(|cost| !cost.double.is_nan());
    Run {
        status: run.status.clone().filter(|status| status == "error"),
        total_cost: number(&run.total_cost),
        prompt_cost: number(&run.prompt_cost),
        completion_cost: number(&run.completion_cost),
        ..run.clone()
    }
}

/// In how many of these runs only a path decided between records that differ.
fn undecided(records: &[(&Run, (i64, &str))], is_counted: impl Fn(&Run) -> bool) -> usize {
    let mut by_run: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (run, (written_s, _)) in records.iter().filter(|(run, _)| is_counted(run)) {
        let class = (run.end_us.is_some(), *written_s);
        let records = by_run.entry((run.session_id, run.id)).or_default();
        records.push((class, what_counts(run)));
    }
    let differ = by_run.values().filter(|records| {
        let class = records.iter().map(|(class, _)| *class).max();
        let mut newest = records.iter().filter(|record| Some(record.0) == class);
        let first = &newest.next().unwrap().1;
        newest.any(|(_, run)| run != first)
    });
    differ.count()
}

proptest! {
    #![proptest_config(quick(32))]

    /// Each export holds some of the runs in some state, in a form of its own; the reference keeps the
    /// newest of each, and a warning counts where only a path decided.
    #[test]
    fn the_newest_record_of_each_run_counts(
        runs in any_runs(2, 25),
        forms in vec((any_form(), any::<bool>(), 1..4_u64), 1..5),
        states in vec(0..9_u8, 1..200),
        window in any_window(),
        usage in prop_oneof![2 => Just(UsageFrom::Auto), 1 => Just(UsageFrom::Own)],
    ) {
        let mut runs = runs;
        for (form, ..) in &forms {
            for run in &mut runs {
                form.fit(run);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mut states = states.into_iter().cycle();
        let exports: Vec<(Vec<Run>, i64, String)> = (1..).zip(forms).map(|(number, (form, is_v1, written_s))| {
            let layout = if is_v1 { Layout::V1 } else { Layout::V2 };
            let records = runs.iter().filter_map(|run| record(run, states.next().unwrap()));
            let records: Vec<Run> = records.collect();
            export(dir.path(), number, written_s, &records, &Shape { layout, ..form });
            let folder = format!("export_id={}", Uuid::from_u128(number));
            (records, i64::try_from(written_s).unwrap(), folder)
        }).collect();
        let records: Vec<(&Run, (i64, &str))> = exports.iter().flat_map(|(runs, written_s, folder)| {
            runs.iter().map(|run| (run, (*written_s, folder.as_str())))
        }).collect();
        let question = Question { since_us: window.0, until_us: window.1, usage, ..Question::default() };
        let (Ok(window), false) = (Window::new(window.0, window.1), records.is_empty()) else {
            return Ok(());
        };
        let usage = if usage == UsageFrom::Own { Usage::Own } else { Usage::Auto };
        let request = Request { window, usage, ..Request::default() };
        let options = SourceOptions::default();
        let answer = ask(&[dir.path()], &Limits::default(), &options, &request).unwrap();
        let newest: Vec<Run> = newest(&records).into_iter().cloned().collect();
        let expected = expected(&newest, &question);
        let actual: Vec<Value> = serde_json::from_str(&documents(&answer)).unwrap();
        assert_same_documents(&actual, &expected);

        let is_counted = |run: &Run| {
            let id = run.session_id.to_string();
            let project = expected.iter().find(|expected| expected.document["id"] == id);
            let is_built = project.unwrap().is_built;
            let by_us = if is_built { DAY_US } else { 0 };
            let is_in = question.since_us.is_none_or(|since| run.start_us >= since - by_us)
                && question.until_us.is_none_or(|until| run.start_us < until + by_us);
            is_in && (is_built || run.parent_run_id.is_none())
        };
        let said = answer.about.warnings.iter().filter_map(|warning| {
            let (before, _) = warning.split_once(" runs differ between exports")?;
            before.rsplit(' ').next()?.parse::<usize>().ok()
        });
        prop_assert_eq!(said.sum::<usize>(), undecided(&records, is_counted), "{:?}", answer.about.warnings);
    }
}

/// The files of other hours are read as ever.
#[test]
fn only_files_that_overlap_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let hour = |hour: i64| {
        let mut runs = traces(10, FIRST_MIDNIGHT_US + hour * HOUR_US, HOUR_US / 10);
        for (number, run) in (0..).zip(&mut runs) {
            run.id = Uuid::from_u128(1_000 * u128::from(hour.unsigned_abs()) + number);
        }
        runs
    };
    for number in 0..3 {
        let runs = hour(i64::try_from(number).unwrap());
        export(dir.path(), number, 1, &runs, &Shape::default());
    }
    export(dir.path(), 9, 2, &hour(1), &Shape::default());
    let answer = answer(dir.path(), Dedup::Auto).unwrap();
    assert_eq!(answer.sessions[0].run_count, Some(30));
    let explain = answer.about.explain();
    let mut scans = explain.lines().filter(|line| line.contains("@row"));
    let scan = scans.find(|line| line.contains("DataSourceExec")).unwrap();
    let is_in_it = |number| scan.contains(&format!("export_id={}", Uuid::from_u128(number)));
    assert_eq!([0, 1, 2, 9].map(is_in_it), [false, true, false, true]);
}

/// Two records of one run in one file, which no export has: always the same one counts.
#[test]
fn always_looks_within_files_as_well() {
    let runs = traces(300, FIRST_MIDNIGHT_US, HOUR_US / 10);
    let mut changed = runs.clone();
    for run in &mut changed {
        run.total_tokens = Some(1);
    }
    let both = [changed, runs].concat();
    let shape = Shape {
        row_group_rows: 70,
        layout: Layout::Flat,
        ..Shape::default()
    };
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), 1, 0, &both, &shape);
    let auto = answer(dir.path(), Dedup::Auto).unwrap();
    assert_eq!(auto.sessions[0].run_count, Some(600));
    for threads in [1, 2, 7] {
        let limits = Limits {
            threads: std::num::NonZeroUsize::new(threads),
            ..Limits::default()
        };
        let options = SourceOptions {
            dedup: Dedup::Always,
            ..SourceOptions::default()
        };
        let always = ask(&[dir.path()], &limits, &options, &Request::default()).unwrap();
        assert_eq!(always.sessions[0].run_count, Some(300));
        assert_eq!(always.sessions[0].total_tokens, Some(299 * 300 / 2));
    }
}

#[test]
fn an_export_given_twice_is_as_once() {
    let runs = traces(500, FIRST_MIDNIGHT_US, HOUR_US / 7);
    for layout in [Layout::V1, Layout::V2] {
        let shape = Shape {
            layout,
            n_files: 2,
            ..Shape::default()
        };
        let dir = tempfile::tempdir().unwrap();
        export(dir.path(), 1, 5, &runs, &shape);
        let once = answer(dir.path(), Dedup::Auto).unwrap();
        assert!(!was_deduplicated(&once));
        export(dir.path(), 2, 5, &runs, &shape);
        let twice = answer(dir.path(), Dedup::Auto).unwrap();
        assert_eq!(documents(&twice), documents(&once));
        assert!(was_deduplicated(&twice));
        assert_eq!(twice.about.warnings, once.about.warnings);
        let always = answer(dir.path(), Dedup::Always).unwrap();
        assert_eq!(documents(&always), documents(&once));
        let never = answer(dir.path(), Dedup::Never).unwrap();
        assert_eq!(never.sessions[0].run_count, Some(1_000));
        assert!(!was_deduplicated(&never));
    }
}

#[test]
fn hourly_exports_are_not_compared_unless_they_touch() {
    let shape = Shape {
        layout: Layout::V2,
        ..Shape::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0;
    for hour in 0..48 {
        number += 1;
        let mut runs = traces(10, FIRST_MIDNIGHT_US + hour * HOUR_US, HOUR_US / 10);
        for (index, run) in runs.iter_mut().enumerate() {
            run.id = Uuid::from_u128(1_000 * number + index as u128);
            run.trace_id = Some(run.id);
        }
        export(dir.path(), number, 0, &runs, &shape);
    }
    let disjoint = answer(dir.path(), Dedup::Auto).unwrap();
    assert_eq!(disjoint.sessions[0].run_count, Some(480));
    assert!(!was_deduplicated(&disjoint), "{}", disjoint.about.explain());
    // One more that begins where another ends: with the very same run.
    let mut again = traces(10, FIRST_MIDNIGHT_US, HOUR_US / 10);
    again.drain(..9);
    again[0].id = Uuid::from_u128(1_009);
    again[0].trace_id = Some(again[0].id);
    export(dir.path(), 99, 0, &again, &shape);
    let touching = answer(dir.path(), Dedup::Auto).unwrap();
    assert_eq!(documents(&touching), documents(&disjoint));
    assert!(was_deduplicated(&touching));
}

#[test]
fn a_file_named_twice_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let runs = traces(20, FIRST_MIDNIGHT_US, HOUR_US);
    let shape = Shape {
        layout: Layout::SingleFile,
        ..Shape::default()
    };
    let files = write(dir.path(), &runs, &shape);
    let (options, request) = (SourceOptions::default(), Request::default());
    let paths = [dir.path(), files[0].path.as_path(), dir.path()];
    let answer = ask(&paths, &Limits::default(), &options, &request).unwrap();
    assert_eq!(answer.sessions[0].run_count, Some(20));
    assert!(!was_deduplicated(&answer));
    assert_eq!(answer.about.read.n_files, 1);
}

#[test]
fn overlapping_files_without_ids_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let runs = traces(20, FIRST_MIDNIGHT_US, HOUR_US);
    let shape = Shape {
        dropped: vec!["id"],
        ..Shape::default()
    };
    export(dir.path(), 1, 0, &runs, &shape);
    export(dir.path(), 2, 0, &runs, &shape);
    let error = answer(dir.path(), Dedup::Auto).unwrap_err();
    assert!(matches!(&error, Error::BadInput { path, .. } if path.starts_with(dir.path())));
    assert!(error.to_string().contains("--dedup never"), "{error}");
    let never = answer(dir.path(), Dedup::Never).unwrap();
    assert_eq!(never.sessions[0].run_count, Some(40));
}

/// Nothing tells whether they are the same.
#[test]
fn runs_without_an_id_all_count() {
    let mut runs = traces(500, FIRST_MIDNIGHT_US, HOUR_US / 7);
    for run in runs.iter_mut().step_by(5) {
        run.id = Uuid::nil();
    }
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), 1, 0, &runs, &Shape::default());
    export(dir.path(), 2, 1, &runs, &Shape::default());
    let answer = answer(dir.path(), Dedup::Auto).unwrap();
    assert!(was_deduplicated(&answer));
    assert_eq!(answer.sessions[0].run_count, Some(600));
    let tokens = |run: &Run| run.total_tokens.unwrap() * if run.id.is_nil() { 2 } else { 1 };
    let expected = runs.iter().map(tokens).map(i128::from).sum();
    assert_eq!(answer.sessions[0].total_tokens, Some(expected));
}

#[test]
fn a_warning_counts_what_only_paths_decided() {
    let runs = traces(20, FIRST_MIDNIGHT_US, HOUR_US);
    let changed: Vec<Run> = runs.iter().map(|run| earlier(run, 3)).collect();
    let warnings = |written_s: u64| {
        let dir = tempfile::tempdir().unwrap();
        export(dir.path(), 1, 0, &runs[..15], &Shape::default());
        export(dir.path(), 2, written_s, &changed[10..], &Shape::default());
        let answer = answer(dir.path(), Dedup::Auto).unwrap();
        assert_eq!(answer.sessions[0].run_count, Some(20));
        answer.about.warnings.join("\n")
    };
    assert!(
        warnings(0).contains("5 runs differ between exports"),
        "{}",
        warnings(0)
    );
    assert!(!warnings(1).contains("differ"), "{}", warnings(1));
}

#[test]
fn deduplication_spills_or_fails() {
    let dir = tempfile::tempdir().unwrap();
    let runs = traces(40_000, FIRST_MIDNIGHT_US, 1_000_000);
    let shape = Shape {
        row_group_rows: 5_000,
        ..Shape::default()
    };
    export(dir.path(), 1, 0, &runs, &shape);
    let expected = documents(&answer(dir.path(), Dedup::Auto).unwrap());
    export(dir.path(), 2, 1, &runs, &shape);
    let mut n_spilled = 0;
    for megabytes in [2, 16, 32, 48, 64, 256] {
        let limits = Limits {
            threads: std::num::NonZeroUsize::new(2),
            memory_bytes: Some(megabytes << 20),
        };
        let options = SourceOptions::default();
        match ask(&[dir.path()], &limits, &options, &Request::default()) {
            Ok(answer) => {
                assert_eq!(documents(&answer), expected, "{megabytes} MiB");
                n_spilled += usize::from(has_spilled(&answer));
            }
            Err(Error::Memory { .. }) => assert!(megabytes < 256, "{megabytes} MiB"),
            Err(error) => panic!("{megabytes} MiB: {error}"),
        }
    }
    assert!(n_spilled > 0, "nothing was spilled");
}

/// The same traces, whose roots add up their descendants' usage or carry only their own.
fn classic_and_own(options: &Options) -> [tempfile::TempDir; 2] {
    [false, true].map(|own_only_roots| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            own_only_roots,
            ..options.clone()
        };
        generate::generate(dir.path(), &options).unwrap();
        dir
    })
}

#[test]
fn roots_of_own_usage_have_the_documents_of_classic_ones() {
    let [classic, own] = classic_and_own(&Options {
        rows: 4_000,
        projects: 3,
        days: 4,
        ..Options::default()
    });
    let text = |dir: &Path, usage: Usage, window: Window| {
        let request = Request {
            usage,
            window,
            ..Request::default()
        };
        let options = SourceOptions::default();
        let answer = ask(&[dir], &Limits::default(), &options, &request).unwrap();
        (documents(&answer), answer.overviews[0].usage)
    };
    let midnight = 1_793_318_400_000_000; // 2026-10-30
    for (since, until) in [
        (None, None),
        (Some(midnight), None),
        (Some(midnight - 40 * HOUR_US), Some(midnight + 5 * HOUR_US)),
    ] {
        let window = Window::new(since, until).unwrap();
        let (expected, usage) = text(classic.path(), Usage::Auto, window);
        assert_eq!(usage, Usage::Roots);
        let (built, usage) = text(own.path(), Usage::Auto, window);
        assert_eq!(usage, Usage::Own);
        assert_eq!(built, expected);
        assert_eq!(text(own.path(), Usage::Own, window).0, expected);
        assert_eq!(text(classic.path(), Usage::Roots, window).0, expected);
        assert_ne!(text(own.path(), Usage::Roots, window).0, expected);
    }
}

#[test]
fn built_traces_spill_or_fail() {
    let [_, own] = classic_and_own(&Options {
        rows: 60_000,
        projects: 1,
        days: 2,
        ..Options::default()
    });
    let options = SourceOptions::default();
    let request = Request::default();
    let expected = documents(&ask(&[own.path()], &Limits::default(), &options, &request).unwrap());
    let mut n_spilled = 0;
    for megabytes in [2, 8, 16, 128] {
        let limits = Limits {
            threads: std::num::NonZeroUsize::new(2),
            memory_bytes: Some(megabytes << 20),
        };
        match ask(&[own.path()], &limits, &options, &request) {
            Ok(answer) => {
                assert_eq!(documents(&answer), expected, "{megabytes} MiB");
                n_spilled += usize::from(has_spilled(&answer));
            }
            Err(Error::Memory { .. }) => assert!(megabytes < 8, "{megabytes} MiB"),
            Err(error) => panic!("{megabytes} MiB: {error}"),
        }
    }
    assert!(n_spilled > 0, "nothing was spilled");
}

/// One that fails while its rows are read is left out as a whole, as if it were not there.
#[test]
fn a_file_counts_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let runs = traces(400, FIRST_MIDNIGHT_US, HOUR_US / 10);
    let shape = Shape {
        row_group_rows: 20,
        n_files: 2,
        ..Shape::default()
    };
    let files = export(dir.path(), 1, 0, &runs, &shape);
    let skip = SourceOptions {
        on_bad_file: OnBadFile::Skip,
        ..SourceOptions::default()
    };
    let bad = &files[1].path;
    let whole = fs::read(bad).unwrap();
    fs::remove_file(bad).unwrap();
    let expected = documents(&answer(dir.path(), Dedup::Auto).unwrap());
    // Zeros in the middle: its footer is whole, its rows are not.
    let mut damaged = whole.clone();
    let middle = whole.len() / 4..whole.len() / 2;
    damaged[middle].fill(0);
    fs::write(bad, damaged).unwrap();
    let error = answer(dir.path(), Dedup::Auto).unwrap_err();
    assert!(
        matches!(&error, Error::BadInput { path, .. } if path == bad),
        "{error}"
    );
    let skipping = ask(
        &[dir.path()],
        &Limits::default(),
        &skip,
        &Request::default(),
    )
    .unwrap();
    assert_eq!(documents(&skipping), expected);
    let skipped: Vec<_> = skipping
        .about
        .skipped
        .iter()
        .map(|file| &file.path)
        .collect();
    assert_eq!(skipped, [bad]);
}
