use std::num::NonZeroUsize;
use std::path::Path;

use proptest::prelude::*;
use runtally::{CostFormat, Engine, Limits, Request, Source, SourceOptions, Usage};

use crate::documents::ask;
use crate::support::quick;
use crate::support::run::{Run, any_runs};
use crate::support::write::{Layout, Shape, TimeForm, write};

fn documents(
    dir: &Path,
    threads: usize,
    settings: &[(&str, &str)],
    memory: Option<usize>,
) -> String {
    let limits = Limits {
        threads: NonZeroUsize::new(threads),
        memory_bytes: memory,
    };
    let options = SourceOptions::default();
    ask(
        dir,
        &limits,
        settings,
        &options,
        &Request::default(),
        CostFormat::String,
    )
    .unwrap()
}

fn in_shape(runs: &[Run], shape: &Shape) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), runs, shape);
    dir
}

proptest! {
    #![proptest_config(quick(12))]

    #[test]
    fn the_same_runs_give_the_same_bytes(runs in any_runs(4, 300), seed in any::<u64>()) {
        prop_assume!(!runs.is_empty());
        let one_file = Shape { layout: Layout::SingleFile, ..Shape::default() };
        let expected = documents(in_shape(&runs, &one_file).path(), 1, &[], None);
        let flat = Shape {
            layout: Layout::Flat,
            n_files: 200,
            row_group_rows: 7,
            shuffle_seed: Some(seed),
            ..Shape::default()
        };
        let v1 = Shape { n_files: 3, shuffle_seed: Some(seed), ..Shape::default() };
        let v2 = Shape { layout: Layout::V2, time: TimeForm::MicrosUtc, ..Shape::default() };
        for shape in [one_file, flat, v1, v2] {
            let dir = in_shape(&runs, &shape);
            for threads in [1, 8] {
                prop_assert_eq!(&documents(dir.path(), threads, &[], None), &expected, "{:?}", shape);
            }
        }
    }
}

/// Many projects with few traces each, so that the grouping itself needs memory.
fn many_projects(n: usize) -> tempfile::TempDir {
    use crate::support::run::{FIRST_MIDNIGHT_US, project_id};
    let runs = (0..n * 3).map(|index| {
        let number = i64::try_from(index).unwrap();
        let start = FIRST_MIDNIGHT_US + number * 1_000;
        let mut run = Run::completed_root(index as u64, start, start + number % 1_003 * 977);
        run.session_id = project_id(index % n);
        run
    });
    let shape = Shape {
        layout: Layout::Flat,
        n_files: 5,
        ..Shape::default()
    };
    in_shape(&runs.collect::<Vec<_>>(), &shape)
}

#[test]
fn skipping_partial_aggregation_changes_nothing() {
    let dir = many_projects(3_000);
    let skip: &[(&str, &str)] = &[
        (
            "datafusion.execution.skip_partial_aggregation_probe_rows_threshold",
            "0",
        ),
        (
            "datafusion.execution.skip_partial_aggregation_probe_ratio_threshold",
            "0.0",
        ),
        ("datafusion.execution.batch_size", "64"),
    ];
    let expected = documents(dir.path(), 4, &[], None);
    assert!(documents(dir.path(), 4, skip, None) == expected);
}

#[test]
fn spilling_changes_nothing() {
    let dir = many_projects(6_000);
    let expected = documents(dir.path(), 2, &[], None);
    let memory = 6 << 20;
    let (text, spilled) = {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let limits = Limits {
                threads: NonZeroUsize::new(2),
                memory_bytes: Some(memory),
            };
            let engine = Engine::new(&limits).unwrap();
            engine
                .set("datafusion.execution.batch_size", "512")
                .unwrap();
            let source = Source::open([dir.path()], &SourceOptions::default()).unwrap();
            let answer = runtally::sessions(&engine, &source, &Request::default())
                .await
                .unwrap();
            (
                serde_json::to_string(&answer.sessions).unwrap(),
                answer.about.explain(),
            )
        })
    };
    assert!(text == expected);
    let has_spilled = spilled
        .split("spill_count=")
        .skip(1)
        .any(|rest| !rest.starts_with('0'));
    assert!(has_spilled, "nothing was spilled: {spilled}");
}

proptest! {
    #![proptest_config(quick(12))]

    /// Tallies of parts merge to the tally of the whole, as structs and as rows, in any order.
    #[test]
    fn tallies_of_parts_merge_to_the_whole(
        runs in any_runs(3, 200),
        parts in proptest::collection::vec(0..4_usize, 1..40),
    ) {
        prop_assume!(!runs.is_empty());
        let shape = Shape { layout: Layout::Flat, ..Shape::default() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let tallies = |runs: &[Run]| {
            let dir = in_shape(runs, &shape);
            runtime.block_on(async {
                let engine = Engine::new(&Limits::default()).unwrap();
                let source = Source::open([dir.path()], &SourceOptions::default()).unwrap();
                // One rule for all parts: what a part alone would find out may differ.
                let request = Request { usage: Usage::Roots, ..Request::default() };
                engine.tallies(&source, &request).await.unwrap()
            })
        };
        let whole = tallies(&runs);
        let mut by_rows = Vec::new();
        let mut by_structs = std::collections::BTreeMap::<_, runtally::tally::Tally>::new();
        for part in (0..4).rev() {
            let runs: Vec<Run> = runs.iter().enumerate()
                .filter(|(index, _)| parts[index % parts.len()] == part)
                .map(|(_, run)| run.clone())
                .collect();
            if runs.is_empty() { continue; }
            let part = tallies(&runs);
            by_rows.push(runtally::tally::Tally::to_batch(&part).unwrap());
            for (project, tally) in &part {
                by_structs.entry(*project).or_default().merge(tally).unwrap();
            }
        }
        prop_assert_eq!(&by_structs, &whole);
        let merged = runtime.block_on(async {
            Engine::new(&Limits::default()).unwrap().merge(by_rows).await.unwrap()
        });
        prop_assert_eq!(&merged, &whole);
        let rows = |tallies| runtally::tally::Tally::to_batch(tallies).unwrap();
        prop_assert_eq!(rows(&merged), rows(&whole));
    }
}
