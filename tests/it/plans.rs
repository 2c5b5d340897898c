use std::num::NonZeroUsize;

use runtally::generate::{self, Layout, Options};
use runtally::{Engine, Limits, Projects, Request, Source, SourceOptions, Window};

/// The executed plan of a request over a small export, without what differs from run to run.
fn plan(options: &Options, request: &Request) -> String {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("exports");
    generate::generate(&root, options).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plan = runtime.block_on(async {
        let limits = Limits {
            threads: NonZeroUsize::new(2),
            memory_bytes: None,
        };
        let engine = Engine::new(&limits).unwrap();
        let source = Source::open([&root], &SourceOptions::default()).unwrap();
        let answer = runtally::sessions(&engine, &source, request).await.unwrap();
        answer.plan
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

fn small(layout: Layout) -> Options {
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
    insta::assert_snapshot!(plan(&small(Layout::V2), &Request::default()));
}

/// The window reaches the scan in the files' own time type, and files outside it are not opened.
#[test]
fn a_window_prunes() {
    let request = Request {
        window: Window::new(Some(1_793_404_800_000_000), None).unwrap(),
        ..Request::default()
    };
    insta::assert_snapshot!(plan(&small(Layout::V1), &request));
}

/// Without statistics nothing is scanned where the footers prove what is asked.
#[test]
fn without_statistics_nothing_is_scanned() {
    let request = Request {
        stats: false,
        ..Request::default()
    };
    assert_eq!(plan(&small(Layout::V2), &request), "");
}

/// Files that hold several projects are scanned for these, and filtered by row.
#[test]
fn mixed_files_are_filtered_by_row() {
    let options = Options {
        projects: 2,
        ..small(Layout::Flat)
    };
    let request = Request {
        projects: Projects::One(first_project(&options)),
        ..Request::default()
    };
    insta::assert_snapshot!(plan(&options, &request));
}

fn first_project(options: &Options) -> String {
    let dir = tempfile::tempdir().unwrap();
    let summary = generate::generate(&dir.path().join("exports"), options).unwrap();
    summary.projects[0].id.to_string()
}
