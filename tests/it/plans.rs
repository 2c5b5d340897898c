use std::num::NonZeroUsize;
use std::path::Path;

use runtally::generate::{self, Options};
use runtally::{Engine, Limits, Projects, Request, Source, SourceOptions, Window};

use crate::support::run::{FIRST_MIDNIGHT_US, Run, project_id};
use crate::support::write::{Layout, Shape, write};

/// The executed plan of a request over a small export, without what differs from run to run.
fn plan(options: &Options, request: &Request) -> String {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("exports");
    generate::generate(&root, options).unwrap();
    plan_over(&root, request)
}

fn plan_over(root: &Path, request: &Request) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plan = runtime.block_on(async {
        let limits = Limits {
            threads: NonZeroUsize::new(2),
            memory_bytes: None,
        };
        let engine = Engine::new(&limits).unwrap();
        let source = Source::open([root], &SourceOptions::default()).unwrap();
        let answer = runtally::sessions(&engine, &source, request).await.unwrap();
        answer.about.explain()
    });
    let root = root.canonicalize().unwrap();
    let root = root.to_str().unwrap().trim_start_matches('/').to_owned();
    plan.lines()
        .map(|line| {
            let line = line.split(", metrics=").next().unwrap();
            line.replace(&root, "exports") + "\n"
        })
        .collect()
}

fn small(layout: generate::Layout) -> Options {
    Options {
        rows: 300,
        projects: 1,
        days: 2,
        layout,
        ..Options::default()
    }
}

/// Only the columns that the document needs are read, constants come from paths and footers.
#[test]
fn the_document_of_one_export() {
    insta::assert_snapshot!(plan(&small(generate::Layout::V2), &Request::default()));
}

/// The window reaches the scan in the files' own time type, and files outside it are not opened.
#[test]
fn a_window_prunes() {
    let request = Request {
        window: Window::new(Some(1_793_404_800_000_000), None).unwrap(),
        ..Request::default()
    };
    insta::assert_snapshot!(plan(&small(generate::Layout::V1), &request));
}

/// Without statistics nothing is scanned where the footers prove what is asked.
#[test]
fn without_statistics_nothing_is_scanned() {
    let request = Request {
        stats: false,
        ..Request::default()
    };
    assert_eq!(plan(&small(generate::Layout::V2), &request), "");
}

/// Files that hold several projects are filtered by row, and scanned once more for what their footers
/// do not prove.
#[test]
fn mixed_files_are_filtered_by_row() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("exports");
    let runs: Vec<Run> = (0..20)
        .map(|n| {
            let start = FIRST_MIDNIGHT_US + i64::try_from(n).unwrap();
            let mut run = Run::completed_root(n, start, start + 1);
            run.session_id = project_id(usize::try_from(n % 2).unwrap());
            run
        })
        .collect();
    let shape = Shape {
        layout: Layout::SingleFile,
        ..Shape::default()
    };
    write(&root, &runs, &shape);
    let request = Request {
        projects: Projects::One(project_id(0).to_string()),
        ..Request::default()
    };
    insta::assert_snapshot!(plan_over(&root, &request));
}

/// A start that a filter asks for chooses files as a window does.
#[test]
fn a_filter_prunes() {
    let start = 1_793_404_800_000_000; // 2026-10-31
    let window = Request {
        window: Window::new(Some(start), None).unwrap(),
        ..Request::default()
    };
    let filter = Request {
        filter: Some(
            "and(gte(start_time, '2026-10-31'), neq(name, 'x'))"
                .parse()
                .unwrap(),
        ),
        ..Request::default()
    };
    let options = small(generate::Layout::V1);
    let files = |request: &Request| {
        let plan = plan(&options, request);
        let scan = plan.lines().find(|line| line.contains("DataSourceExec"));
        let (_, files) = scan.unwrap().split_once("file_groups=").unwrap();
        let (files, rest) = files.split_once(", projection=").unwrap();
        assert!(rest.contains("start_time_max"), "{rest}");
        files.to_owned()
    };
    assert_eq!(files(&filter), files(&window));
    assert_eq!(files(&filter).matches(".parquet").count(), 1);
}

#[test]
fn a_question_that_is_given_up_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows: 2_000,
        ..Options::default()
    };
    generate::generate(dir.path(), &options).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(&Limits::default()).unwrap();
        let source = Source::open([dir.path()], &SourceOptions::default()).unwrap();
        let request = Request::default();
        let mut asked = Box::pin(runtally::sessions(&engine, &source, &request));
        let moment = std::time::Duration::from_millis(1);
        while tokio::time::timeout(moment, &mut asked).await.is_err() {
            if engine.progress().n_files_there > 0 {
                break;
            }
        }
        drop(asked);
        // Its tasks end soon, and its plans with them.
        let began = std::time::Instant::now();
        while engine.progress().n_files_there > 0 {
            assert!(began.elapsed().as_secs() < 20, "its plans are still there");
            tokio::time::sleep(moment).await;
        }
    });
}
