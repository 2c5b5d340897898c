//! What the binary makes of tally files: answers as of the exports, refusals that say what to do.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{answer, exports, refusal, runtally};

const STORE: [&str; 5] = ["stats", "exports", "-q", "--with-sketches", "-o"];

fn store(dir: &Path, file: &str, more: &[&str]) {
    answer(dir, &[&STORE[..], &[file], more].concat());
}

/// A folder with exports and a tally file of them by model and tag, a day at a time.
fn stored(projects: u32) -> TempDir {
    let (dir, _) = exports(projects);
    fs::create_dir(dir.path().join("tallies")).unwrap();
    let names = "sessions.json";
    let exports = dir.path().join("exports");
    fs::copy(exports.join(names), dir.path().join("tallies").join(names)).unwrap();
    store(
        dir.path(),
        "tallies/a.parquet",
        &["-g", "model,tag", "--every", "day"],
    );
    dir
}

#[test]
fn answers_are_those_of_the_exports() {
    let dir = stored(2);
    let questions: [&[&str]; 12] = [
        &["list"],
        &["list", "-f", "csv"],
        &["list", "-f", "table", "-z", "UTC"],
        &["list", "--no-stats"],
        &["show", "-p", "support-bot"],
        &["stats"],
        &["stats", "-f", "csv", "--share"],
        &[
            "stats",
            "-g",
            "project,model",
            "--limit",
            "2",
            "--percentiles",
            "10,99.9",
        ],
        &["stats", "-g", "tag", "-f", "jsonl", "-p", "support-bot"],
        &["stats", "-g", "tag,model", "--every", "week", "-f", "csv"],
        &[
            "stats",
            "--every",
            "day",
            "--since",
            "2026-10-30",
            "--slo",
            "latency<5s:99%",
        ],
        &["stats", "-g", "model", "--every", "day", "-f", "md"],
    ];
    for question in questions {
        let ask = |source| {
            let args = [&question[..1], &[source, "-q"], &question[1..]].concat();
            answer(dir.path(), &args)
        };
        assert_eq!(ask("tallies"), ask("exports"), "{question:?}");
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    let dir = stored(1);
    let cases: [(&[&str], &str, &str); 15] = [
        (&["runs"], "a tally file has no runs", "the files of runs"),
        (&["list", "--facets"], "has no facets", "the files of runs"),
        (
            &["stats", "--select", "facets"],
            "has no facets",
            "the files of runs",
        ),
        (
            &["stats", "-g", "user"],
            "not split by user, but by project, model, tag",
            "the files of runs",
        ),
        (
            &["list", "--tag", "prod"],
            "made without --filter, the question is asked with",
            "as they were made",
        ),
        (
            &["list", "--trace-filter", "has(tags, \"a\")"],
            "--trace-filter",
            "as they were made",
        ),
        (
            &["list", "--tree-filter", "has(tags, \"a\")"],
            "--tree-filter",
            "as they were made",
        ),
        (
            &["stats", "--runs", "llm"],
            "made with --runs 'root'",
            "as they were made",
        ),
        (
            &["stats", "--every", "1h"],
            "made for each day (UTC), which does not give",
            "whole ones",
        ),
        (
            &["stats", "--every", "day", "-z", "Asia/Kolkata"],
            "each day (Asia/Kolkata)",
            "whole ones",
        ),
        (
            &["list", "--since", "2026-10-30T12:00:00Z"],
            "cut at 2026-10-30T12:00:00Z",
            "whole spans",
        ),
        (
            &["list", "--until", "2026-10-30T00:00:01Z"],
            "cut at 2026-10-30T00:00:01Z",
            "whole spans",
        ),
        (
            &["stats", "--select", "users,cost,mean"],
            "tell distinct_users, latency_mean",
            "--select",
        ),
        (&["stats", "--exemplars"], "latency_p50_run", "--select"),
        (
            &["list", "--usage-from", "own"],
            "that of its root (--usage-from roots)",
            "--usage-from",
        ),
    ];
    for (question, problem, hint) in cases {
        let args = [&question[..1], &["tallies"], &question[1..]].concat();
        let said = refusal(dir.path(), &args, 1);
        assert!(said.contains("tallies/a.parquet: "), "{said}");
        let (error, advice) = said.split_once("hint: ").unwrap();
        assert!(error.contains(problem), "{said}");
        assert!(advice.contains(hint), "{said}");
    }
    fs::write(dir.path().join("feedback.json"), "[]").unwrap();
    let said = refusal(
        dir.path(),
        &["list", "tallies", "--feedback", "feedback.json"],
        1,
    );
    assert!(said.contains("--feedback"), "{said}");
}

/// A program is told which file it is, and what it could do.
#[test]
fn refusals_are_told_to_programs() {
    let dir = stored(1);
    let args = ["list", "tallies", "--facets", "--json"];
    let output = runtally(dir.path(), &args);
    let error: Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(output.code, Some(1));
    assert_eq!(error["error"]["kind"], "tallies");
    assert_eq!(error["error"]["path"], "tallies/a.parquet");
    assert!(error["error"]["hint"].is_string());
}

/// The feedback of records goes into the file, that on the project itself too; it is not mixed with that
/// of the runs.
#[test]
fn feedback_of_records_is_kept() {
    let (dir, projects) = exports(2);
    let id = projects[0].id;
    let shown = answer(
        dir.path(),
        &[
            "runs",
            "exports",
            "-p",
            &id.to_string(),
            "-f",
            "jsonl",
            "-q",
        ],
    );
    let run: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    let records = json!([
        {"run_id": run["id"], "key": "helpful", "score": 0.25},
        {"run_id": null, "session_id": id, "key": "whole", "score": 1},
    ]);
    fs::write(dir.path().join("records.json"), records.to_string()).unwrap();
    let records = ["--feedback", "records.json"];
    store(dir.path(), "records.parquet", &records);
    store(
        dir.path(),
        "early.parquet",
        &[&records[..], &["--until", "2026-10-31"]].concat(),
    );
    store(
        dir.path(),
        "late.parquet",
        &[&records[..], &["--since", "2026-10-31"]].concat(),
    );
    store(dir.path(), "own.parquet", &["--since", "2026-10-31"]);
    let names = ["-q", "--projects", "exports/sessions.json"];
    let ask = |sources: &[&str]| answer(dir.path(), &[&["list"], sources, &names].concat());
    let expected = ask(&["exports", "--feedback", "records.json"]);
    assert!(expected.contains("whole"), "{expected}");
    assert_eq!(ask(&["records.parquet"]), expected);
    assert_eq!(ask(&["early.parquet", "late.parquet"]), expected);
    let said = refusal(dir.path(), &["list", "early.parquet", "own.parquet"], 1);
    assert!(said.contains("one has the feedback of records"), "{said}");
}

#[test]
fn runs_are_never_counted_twice() {
    let dir = stored(2);
    let refused = |sources: &[&str]| refusal(dir.path(), &[&["list"], sources].concat(), 1);
    fs::copy(
        dir.path().join("tallies/a.parquet"),
        dir.path().join("b.parquet"),
    )
    .unwrap();
    let said = refused(&["tallies", "b.parquet"]);
    assert!(said.contains("both made from exports/"), "{said}");
    let said = refused(&["tallies", "exports"]);
    assert!(said.contains("a source as well"), "{said}");
    // Another name of the folder, another question about the same runs.
    store(dir.path(), "c.parquet", &["-g", "name"]);
    let said = refused(&["tallies", "c.parquet"]);
    assert!(said.contains("whose runs would count twice"), "{said}");
    // Of what was made from it, too.
    answer(
        dir.path(),
        &[
            "stats",
            "b.parquet",
            "-q",
            "--with-sketches",
            "-o",
            "d.parquet",
        ],
    );
    let said = refused(&["c.parquet", "d.parquet"]);
    assert!(said.contains("both made from exports/"), "{said}");
    // Of different projects nothing does.
    let names = ["support-bot", "docs-search"];
    for (name, file) in names.iter().zip(["e.parquet", "f.parquet"]) {
        store(dir.path(), file, &["-p", name]);
    }
    let one = answer(dir.path(), &["list", "e.parquet", "f.parquet", "-q"]);
    assert_eq!(one, answer(dir.path(), &["list", "b.parquet", "-q"]));
}

#[test]
fn files_of_different_questions_are_not_one() {
    let dir = stored(1);
    let made: [(&str, &[&str]); 6] = [
        ("early.parquet", &["--until", "2026-10-31"]),
        ("late.parquet", &["--since", "2026-10-30"]),
        ("errors.parquet", &["--error"]),
        (
            "own.parquet",
            &["--usage-from", "own", "--since", "2026-11-09"],
        ),
        (
            "roots.parquet",
            &["--since", "2026-10-31", "--until", "2026-11-09"],
        ),
        ("later.parquet", &["--since", "2026-11-09"]),
    ];
    for (file, how) in made {
        store(dir.path(), file, how);
    }
    let refused = |sources: &[&str]| refusal(dir.path(), &[&["list"], sources].concat(), 1);
    let said = refused(&["early.parquet", "late.parquet"]);
    assert!(
        said.contains("its traces start before 2026-10-31T00:00:00Z, those of late.parquet from"),
        "{said}"
    );
    let said = refused(&["early.parquet", "errors.parquet"]);
    assert!(
        said.contains("errors.parquet: its tallies were made with --filter"),
        "{said}"
    );
    let said = refused(&["roots.parquet", "own.parquet"]);
    assert!(said.contains("its usage of a trace of project"), "{said}");
    let said = refusal(
        dir.path(),
        &["list", "early.parquet", "--until", "2026-11-01"],
        1,
    );
    assert!(
        said.contains("no tally file tells of traces that start from 2026-10-31"),
        "{said}"
    );
    let warned = refusal(
        dir.path(),
        &["list", "early.parquet", "later.parquet", "--strict"],
        1,
    );
    assert!(
        warned.contains("until before 2026-11-09T00:00:00Z"),
        "{warned}"
    );
}

#[test]
fn tallies_are_written_whole_and_as_parquet() {
    let (dir, _) = exports(1);
    let cases: [&[&str]; 5] = [
        &["--limit", "3", "-o", "x.parquet"],
        &["--format", "csv", "-o", "x.parquet"],
        &["-o", "x.json"],
        &["--facets", "-o", "x.parquet"],
        &[],
    ];
    for case in cases {
        let args = [
            &["stats", "exports", "-g", "model", "--with-sketches"],
            case,
        ]
        .concat();
        refusal(dir.path(), &args, 2);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // An empty window leaves what is known of the projects.
    store(dir.path(), "none.parquet", &["--since", "2031-01-01"]);
    let ask = |source| {
        answer(
            dir.path(),
            &[
                "list",
                source,
                "--since",
                "2031-01-01",
                "-q",
                "--projects",
                "exports/sessions.json",
            ],
        )
    };
    assert_eq!(ask("none.parquet"), ask("exports"));
}
