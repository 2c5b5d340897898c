//! Tally files: those of parts merge to what one scan of all gives, to the byte; what cannot be told from
//! them, or would be counted twice, is refused; what is damaged is an error.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use chrono::Weekday;
use chrono_tz::Tz;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use proptest::sample::select;
use runtally::output::{Format, Groups, Style, write_stats};
use runtally::{
    Breakdown, Engine, Error, Every, Filter, Key, Limits, Measure, Population, Request, Sort,
    Source, SourceOptions, Usage, Window,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::breakdown::{MULTIPLE, SINGLE, any_keys, any_population, measures};
use crate::support::evaluate::any_filter;
use crate::support::quick;
use crate::support::run::{Run, any_runs, any_window};
use crate::support::write::{Shape, write};

/// Refusals and recipes by the command line.
mod cli;
/// Damaged files.
mod damage;

/// One engine for several questions.
struct Asking {
    runtime: Runtime,
    engine: Engine,
}

impl Asking {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let engine = runtime.block_on(async { Engine::new(&Limits::default()).unwrap() });
        Self { runtime, engine }
    }

    fn source(paths: &[PathBuf]) -> Source {
        Source::open(paths, &SourceOptions::default()).unwrap()
    }

    /// The documents as JSON.
    fn documents(&self, paths: &[PathBuf], request: &Request) -> runtally::Result<String> {
        let source = Self::source(paths);
        let answer = runtally::sessions(&self.engine, &source, request);
        let answer = self.runtime.block_on(answer)?;
        Ok(serde_json::to_string(&answer.sessions).unwrap())
    }

    /// The figures as JSON, and as CSV with the total.
    fn figures(
        &self,
        paths: &[PathBuf],
        request: &Request,
        breakdown: &Breakdown,
    ) -> runtally::Result<String> {
        let source = Self::source(paths);
        let answer = runtally::stats(&self.engine, &source, request, breakdown);
        let answer = self.runtime.block_on(answer)?;
        let groups = Groups {
            breakdown,
            n_shown: breakdown.measures.len(),
            groups: &answer.groups,
            total: &answer.total,
            shows_total: true,
        };
        let mut bytes = Vec::new();
        for format in [Format::Json, Format::Csv] {
            write_stats(&mut bytes, &groups, format, &Style::default()).unwrap();
        }
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn store(
        &self,
        paths: &[PathBuf],
        request: &Request,
        breakdown: &Breakdown,
        file: &Path,
    ) -> runtally::Result<()> {
        let source = Self::source(paths);
        let tallies = runtally::tallies(&self.engine, &source, request, breakdown);
        let tallies = self.runtime.block_on(tallies)?;
        tallies.write(&mut File::create(file).unwrap()).unwrap();
        Ok(())
    }
}

/// All rows of a file.
fn rows(file: &Path) -> RecordBatch {
    let file = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let schema = std::sync::Arc::clone(file.schema());
    let batches: Vec<RecordBatch> = file.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn assert_same_rows(actual: &RecordBatch, expected: &RecordBatch) {
    // What they were made from may differ in files of which nothing is taken.
    assert_eq!(actual.schema().fields(), expected.schema().fields());
    let names = actual.schema();
    let columns = actual.columns().iter().zip(expected.columns());
    for (field, (actual, expected)) in names.fields().iter().zip(columns) {
        assert_eq!(actual, expected, "{}", field.name());
    }
}

/// Writes runs into folders, whole traces at random.
fn parts(dir: &Path, runs: &[Run], choices: &[u8]) -> Vec<PathBuf> {
    let mut parts: BTreeMap<u8, Vec<Run>> = BTreeMap::new();
    let by_id: BTreeMap<Uuid, &Run> = runs.iter().map(|run| (run.id, run)).collect();
    // Not all runs say of which trace they are, but of which run they are the child; of a trace that lost
    // its root, those that say it may be children of one that does not.
    let top = |run: &Run| {
        let parent = |run: &Run| by_id.get(&run.parent_run_id?).copied();
        let above = std::iter::successors(by_id.get(&run.id).copied(), |run| parent(run));
        above.take(100).last().unwrap().id
    };
    let says = |run: &Run| {
        let order = run.dotted_order.as_ref();
        let first = order.and_then(|order| order.split('.').next()?.split_once('Z'));
        run.trace_id.or(first.and_then(|(_, id)| id.parse().ok()))
    };
    let said = runs.iter().rev();
    let said = said.filter_map(|run| Some((top(run), says(run)?)));
    let said: BTreeMap<Uuid, Uuid> = said.collect();
    for run in runs {
        let top = top(run);
        let trace = said.get(&top).unwrap_or(&top);
        let choice = choices[usize::from(trace.as_bytes()[3]) % choices.len()];
        parts.entry(choice).or_default().push(run.clone());
    }
    let write_part = |(number, runs): (u8, Vec<Run>)| {
        let folder = dir.join(format!("part-{number}"));
        write(&folder, &runs, &Shape::default());
        folder
    };
    parts.into_iter().map(write_part).collect()
}

/// Every figure that tallies have.
fn every_figure(runs: &Population) -> Vec<Measure> {
    let mut all = Measure::all();
    let is_of_traces = *runs == Population::Traces;
    all.retain(|measure| {
        *measure != Measure::RunFacets
            && (is_of_traces || measure.to_string() != "trace_error_rate")
    });
    all.extend(measures(&[
        "feedback:helpful",
        "feedback_avg:helpful",
        "under:1s",
    ]));
    all.push(Measure::Objective("latency<1s:90%".parse().unwrap()));
    all
}

fn any_every() -> impl Strategy<Value = Option<(Every, Every)>> {
    let lengths = [
        ("1h", "6h"),
        ("1d", "week"),
        ("1d", "1d"),
        ("1d", "month"),
        ("week", "week"),
    ];
    let zones = [Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York];
    let every =
        (select(lengths.to_vec()), select(zones.to_vec())).prop_map(|((own, asked), zone)| {
            let every = |length| Every::parse(length, zone, Weekday::Mon).unwrap();
            (every(own), every(asked))
        });
    proptest::option::weighted(0.5, every)
}

/// Whether a refusal is that tally files tell usage by different rules, which `auto` may find in parts.
fn is_of_usage(error: &Error) -> bool {
    matches!(error, Error::Tallies { problem, .. } if problem.contains("--usage-from"))
}

proptest! {
    #![proptest_config(quick(8))]

    #[test]
    fn tally_files_of_parts_merge_to_one_scan(
        runs in any_runs(3, 40),
        choices in proptest::collection::vec(0..4_u8, 1..9),
        population in any_population(),
        by in any_keys(&[SINGLE.as_slice(), &MULTIPLE].concat()),
        every in any_every(),
        limit in proptest::option::weighted(0.3, 1..4_usize),
        window in any_window(),
        filter in proptest::option::weighted(0.2, any_filter()),
        usage in select(vec![Usage::Auto, Usage::Roots, Usage::Own]),
    ) {
        prop_assume!(!runs.is_empty());
        let Ok(window) = Window::new(window.0, window.1) else {
            return Ok(());
        };
        let filter = filter.as_deref().map(|text| Filter::parse(text).unwrap());
        let request = Request { window, filter, usage, ..Request::default() };
        let breakdown = Breakdown {
            measures: every_figure(&population),
            runs: population,
            by,
            every: every.map(|(own, _)| own),
            sort: Sort::by_runs(),
            limit,
        };
        let dir = tempfile::tempdir().unwrap();
        let folders = parts(dir.path(), &runs, &choices);
        let asking = Asking::new();
        let whole = dir.path().join("whole.parquet");
        asking.store(&folders, &request, &breakdown, &whole).unwrap();
        let mut files = Vec::new();
        for (number, folder) in folders.iter().enumerate() {
            let file = dir.path().join(format!("tally-{number}.parquet"));
            asking.store(std::slice::from_ref(folder), &request, &breakdown, &file).unwrap();
            files.push(file);
        }
        let again = dir.path().join("again.parquet");
        match asking.store(&files, &request, &breakdown, &again) {
            Err(error) if usage == Usage::Auto && is_of_usage(&error) => return Ok(()),
            stored => stored.unwrap(),
        }
        assert_same_rows(&rows(&again), &rows(&whole));
        let first_key = breakdown.by.first().filter(|key| !key.is_multiple()).cloned();
        let coarser = Breakdown { every: every.map(|(_, asked)| asked), ..breakdown.clone() };
        let questions = [
            Breakdown { by: Vec::from_iter(first_key), ..coarser.clone() },
            Breakdown { by: vec![Key::Project], every: None, ..breakdown.clone() },
            coarser,
            breakdown,
        ];
        for question in &questions {
            let expected = asking.figures(&folders, &request, question).unwrap();
            for sources in [&files, &vec![again.clone()]] {
                let figures = asking.figures(sources, &request, question).unwrap();
                prop_assert_eq!(&figures, &expected);
            }
        }
        if questions[0].runs == Population::Traces {
            let expected = asking.documents(&folders, &request).unwrap();
            for sources in [&files, &vec![again.clone()]] {
                prop_assert_eq!(&asking.documents(sources, &request).unwrap(), &expected);
            }
        }
    }
}

/// A month's file and the exports of the next one are one source; so is the first file alone.
#[test]
fn windows_that_follow_each_other_are_one() {
    use crate::support::run::{DAY_US, FIRST_MIDNIGHT_US};
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<Run> = (0..60_u64)
        .map(|number| {
            let start = FIRST_MIDNIGHT_US + i64::try_from(number).unwrap() * DAY_US / 10;
            Run::completed_root(number, start, start + 1_000_000)
        })
        .collect();
    let folder = dir.path().join("exports");
    write(&folder, &runs, &Shape::default());
    let asking = Asking::new();
    let breakdown = Breakdown {
        runs: Population::Traces,
        by: Vec::new(),
        every: None,
        measures: Measure::overview(),
        sort: Sort::by_runs(),
        limit: None,
    };
    let cuts = [0, 2, 4, 7].map(|day| FIRST_MIDNIGHT_US + day * DAY_US);
    let request = |since, until| Request {
        window: Window::new(Some(since), Some(until)).unwrap(),
        ..Request::default()
    };
    let mut files = Vec::new();
    for pair in cuts.windows(2) {
        let file = dir.path().join(format!("{}.parquet", pair[0]));
        let request = request(pair[0], pair[1]);
        asking
            .store(std::slice::from_ref(&folder), &request, &breakdown, &file)
            .unwrap();
        files.push(file);
    }
    let all = [folder];
    let whole = request(cuts[0], cuts[3]);
    for question in [&Request::default(), &whole] {
        assert_eq!(
            asking.documents(&files, question).unwrap(),
            asking.documents(&all, &whole).unwrap()
        );
    }
    // The window of the files is that of the question where it has none: its last day is empty.
    let days = Every::parse("1d", Tz::UTC, Weekday::Mon).unwrap();
    let by_day = Breakdown {
        every: Some(days),
        ..breakdown.clone()
    };
    assert!(asking.figures(&files, &whole, &by_day).is_err());
    let parts = request(cuts[0], cuts[2]);
    assert_eq!(
        asking.documents(&files, &parts).unwrap(),
        asking.documents(&all, &parts).unwrap()
    );
    // Beside the exports that it was made from a file counts where its window is not asked for.
    let beside = [files[0].clone(), all[0].clone()];
    let rest = request(cuts[1], cuts[3]);
    assert_eq!(
        asking.documents(&beside, &rest).unwrap(),
        asking.documents(&all, &rest).unwrap()
    );
    assert!(matches!(
        asking.documents(&beside, &whole),
        Err(Error::Tallies { .. })
    ));
    fs::remove_dir_all(&all[0]).unwrap();
    assert!(asking.documents(&files, &whole).is_ok());
}
