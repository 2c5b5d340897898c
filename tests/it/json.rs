//! Runs in JSON: every shape of dump gives the documents of the same runs in Parquet.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use proptest::prelude::*;
use proptest::sample::select;
use runtally::{CostFormat, Limits, Request, SourceOptions};

use crate::cli::{Output, answer, command};
use crate::documents::ask;
use crate::support::dump::{self, Dump, Lay, Pack, Version, filled};
use crate::support::quick;
use crate::support::run::{FIRST_MIDNIGHT_US, Run, any_runs};
use crate::support::write::{COLUMNS, CostForm, Layout, Shape, write};

/// The documents of a source, with facets.
fn documents(source: &Path) -> String {
    let request = Request {
        facets: true,
        ..Request::default()
    };
    let limits = Limits::default();
    let options = SourceOptions::default();
    let answer = ask(source, &limits, &[], &options, &request, CostFormat::String);
    answer.unwrap_or_else(|error| panic!("{}: {error}", source.display()))
}

/// The columns that no run has a value in, which a sparse dump has not.
fn empty_columns(runs: &[Run]) -> Vec<&'static str> {
    let line = |run: &Run| {
        let dump = Dump {
            sparse: true,
            ..Dump::default()
        };
        let object: serde_json::Value =
            serde_json::from_str(&dump::text(std::slice::from_ref(run), &dump)).unwrap();
        object.as_object().unwrap().clone()
    };
    let lines: Vec<_> = runs.iter().map(line).collect();
    let has = |column: &str| lines.iter().any(|line| line.contains_key(column));
    let columns = COLUMNS.iter().copied();
    columns
        .filter(|column| *column != "parent_run_ids" && !has(column))
        .collect()
}

/// Only runs of type `llm` carry usage.
fn own_only(runs: &mut [Run]) {
    for run in runs {
        if run.run_type.as_deref() != Some("llm") {
            (run.total_tokens, run.prompt_tokens, run.completion_tokens) = (None, None, None);
            (run.total_cost, run.prompt_cost, run.completion_cost) = (None, None, None);
        }
    }
}

fn check(runs: &[Run], dump: &Dump) {
    let dir = tempfile::tempdir().unwrap();
    let runs = match dump.lay {
        Lay::Nested { .. } => filled(runs),
        _ => runs.to_vec(),
    };
    // What is absent is told a file at a time.
    let is_one_file = dump.lay != Lay::FileATrace;
    let sparse = dump.sparse && is_one_file;
    let shape = Shape {
        layout: Layout::SingleFile,
        cost: CostForm::Text,
        dropped: if sparse {
            empty_columns(&runs)
        } else {
            Vec::new()
        },
        ..Shape::default()
    };
    let dump = Dump { sparse, ..*dump };
    let classic = dir.path().join("parquet");
    if runs.is_empty() {
        return;
    }
    write(&classic, &runs, &shape);
    let source = dump::write(&dir.path().join("json"), &runs, &dump);
    assert_eq!(documents(&source), documents(&classic), "{dump:?}");
}

fn any_dump() -> impl Strategy<Value = Dump> {
    let lays = vec![
        Lay::Lines,
        Lay::Array { pretty: false },
        Lay::Array { pretty: true },
        Lay::Pages {
            name: "runs",
            pretty: false,
        },
        Lay::Pages {
            name: "data",
            pretty: true,
        },
        Lay::Pages {
            name: "items",
            pretty: false,
        },
        Lay::FileATrace,
        Lay::Nested { lines: true },
        Lay::Nested { lines: false },
    ];
    let packs = vec![Pack::None, Pack::None, Pack::Gzip, Pack::Zstd];
    (
        select(lays),
        select(packs),
        select(vec![Version::V1, Version::V2]),
        any::<bool>(),
        any::<bool>(),
        0..3u8,
    )
        .prop_map(|(lay, pack, version, sparse, numbers, time)| Dump {
            lay,
            pack,
            version,
            sparse,
            numbers,
            time,
        })
}

proptest! {
    #![proptest_config(quick(64))]

    #[test]
    fn every_shape_gives_the_documents_of_parquet(
        mut runs in any_runs(2, 12),
        dump in any_dump(),
        is_own_only: bool,
    ) {
        if is_own_only {
            own_only(&mut runs);
        }
        check(&runs, &dump);
    }
}
