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

/// So many runs of one project, a few seconds apart; every other one is below the one before it.
fn some_runs(n: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for number in 0..n {
        let start = FIRST_MIDNIGHT_US + i64::try_from(number).unwrap() * 7_000_000;
        let mut run = Run::completed_root(number, start, start + 1_500_000);
        run.total_tokens = Some(11);
        run.inputs = Some(format!(r#"{{"question": "why {number}?"}}"#));
        if let (1, Some(parent)) = (number % 2, runs.last()) {
            run.parent_run_id = Some(parent.id);
            run.trace_id = Some(parent.id);
            run.is_root = Some(false);
        }
        runs.push(run);
    }
    runs
}

/// Runs the binary with bytes on its standard input.
fn fed(dir: &Path, args: &[&str], bytes: &[u8]) -> Output {
    let mut command = command(dir, args);
    command.stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // What ends early does not read all.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn standard_input_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(9);
    write(&dir.path().join("exports"), &runs, &Shape::default());
    let expected = answer(dir.path(), &["list", "exports"]);
    for pack in [Pack::None, Pack::Gzip, Pack::Zstd] {
        for lay in [Lay::Lines, Lay::Array { pretty: true }] {
            let dump = Dump {
                lay,
                pack,
                ..Dump::default()
            };
            let bytes = dump::packed(dump::text(&runs, &dump).as_bytes(), pack);
            let output = fed(dir.path(), &["list", "-"], &bytes);
            assert_eq!(
                (output.code, output.stderr.as_str()),
                (Some(0), ""),
                "{dump:?}"
            );
            assert_eq!(output.stdout, expected, "{dump:?}");
        }
    }
    // Beside a file.
    let (first, other) = runs.split_at(4);
    let text = dump::text(other, &Dump::default());
    dump::write(dir.path(), first, &Dump::default());
    let output = fed(dir.path(), &["list", "runs.jsonl", "-"], text.as_bytes());
    assert_eq!(output.stdout, expected, "{}", output.stderr);
    let output = fed(dir.path(), &["list", "-"], b"PAR1");
    assert_eq!(output.code, Some(1));
    assert!(
        output
            .stderr
            .contains("error: -: Parquet is read from files only"),
        "{}",
        output.stderr
    );
    let output = fed(dir.path(), &["list", "-"], b"");
    assert!(
        output
            .stderr
            .contains("error: -: expected runs, found nothing"),
        "{}",
        output.stderr
    );
}

#[test]
fn parquet_and_json_are_one_source() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(10);
    write(&dir.path().join("all"), &runs, &Shape::default());
    let both = dir.path().join("both");
    write(&both, &runs[..4], &Shape::default());
    let dumps = both.join("dumps");
    dump::write(&dumps, &runs[4..], &Dump::default());
    // What is beside them is not read.
    fs::write(both.join("sessions.json"), "[]").unwrap();
    fs::write(dumps.join("sessions.json.gz"), "no runs").unwrap();
    fs::create_dir(both.join("manifests")).unwrap();
    fs::write(both.join("manifests/1.json"), "{}").unwrap();
    fs::write(both.join("notes.txt"), "{}").unwrap();
    let feedback = both.join("feedback.json");
    fs::write(&feedback, "[]").unwrap();
    let args = ["--feedback", "both/feedback.json"];
    let listed = |source| answer(dir.path(), &[["list", source].as_slice(), &args].concat());
    assert_eq!(listed("both"), listed("all"));
    // A file that is named may be called anything, and is listed once.
    fs::copy(dumps.join("runs.jsonl"), dir.path().join("dump.txt")).unwrap();
    let both = [
        "list",
        "both/export_id=00000000-0000-0000-0000-0000000000e0",
        "dump.txt",
        "./dump.txt",
    ];
    assert_eq!(
        answer(dir.path(), &both),
        answer(dir.path(), &["list", "all"])
    );
}

#[test]
fn inputs_are_there_where_a_filter_looks_at_them() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(10);
    write(&dir.path().join("parquet"), &runs, &Shape::default());
    dump::write(&dir.path().join("json"), &runs, &Dump::default());
    for filter in [
        r#"and(eq(input_key, "question"), eq(input_value, "why 4?"))"#,
        r#"search("WHY 2")"#,
    ] {
        let shown = |source| answer(dir.path(), &["list", source, "--filter", filter]);
        assert_eq!(shown("json"), shown("parquet"));
        assert!(shown("json").contains("\"run_count\": 1"), "{filter}");
        let shown = |source| answer(dir.path(), &["list", source, "--tree-filter", filter]);
        assert_eq!(shown("json"), shown("parquet"));
    }
    let args = |source| {
        [
            "stats",
            source,
            "--runs",
            "all",
            "--group-by",
            "name",
            "--select",
            "traces,p50",
        ]
    };
    let stats = |source| crate::cli::runtally(dir.path(), &args(source)).stdout;
    assert_eq!(stats("json"), stats("parquet"));
}

/// One source, asked several times, with and without inputs.
#[test]
fn a_source_is_asked_several_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = dump::write(dir.path(), &some_runs(10), &Dump::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = runtally::Engine::new(&Limits::default()).unwrap();
        let source = runtally::Source::open([&path], &SourceOptions::default()).unwrap();
        let all = Request::default();
        let filter = runtally::Filter::parse(r#"search("why 4")"#).unwrap();
        let one = Request {
            filter: Some(filter),
            ..Request::default()
        };
        for (request, n_traces) in [(&all, 5), (&one, 1), (&all, 5), (&one, 1)] {
            let answer = runtally::sessions(&engine, &source, request).await.unwrap();
            assert_eq!(answer.sessions[0].run_count, Some(n_traces));
        }
    });
}

/// Of a source that is opened again only the files are read that are new or were changed.
#[test]
fn a_source_that_is_opened_again_reads_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let dump = |folder: &str, runs: &[Run]| {
        let path = dump::write(&dir.path().join(folder), runs, &Dump::default());
        fs::metadata(path).unwrap().len()
    };
    let runs = some_runs(40);
    dump("a", &runs[..20]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = runtally::Engine::new(&Limits::default()).unwrap();
        let ask = async |source: &runtally::Source| {
            let answer = runtally::sessions(&engine, source, &Request::default()).await;
            let n_traces = answer.unwrap().sessions[0].run_count.unwrap();
            (n_traces, engine.progress().n_json_bytes)
        };
        let source = runtally::Source::open([dir.path()], &SourceOptions::default()).unwrap();
        ask(&source).await;
        assert!(source.reopened().unwrap().is_none());
        let size = dump("b", &runs[20..]);
        let more = source.reopened().unwrap().unwrap();
        assert_eq!(ask(&more).await, (20, size));
        let size = dump("a", &runs[..30]);
        let changed = more.reopened().unwrap().unwrap();
        drop((source, more));
        // The later file repeats some of the other's runs.
        assert_eq!(ask(&changed).await, (20, size));
    });
}

#[test]
fn the_later_dump_has_the_record_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(10);
    let mut early = runs.clone();
    for run in &mut early {
        run.total_tokens = Some(5);
    }
    let later = dump::write(&dir.path().join("a"), &runs, &Dump::default());
    write(&dir.path().join("b"), &early, &Shape::default());
    let now = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    fs::File::options()
        .append(true)
        .open(&later)
        .unwrap()
        .set_modified(now)
        .unwrap();
    let both = answer(dir.path(), &["list", "a", "b"]);
    assert_eq!(both, answer(dir.path(), &["list", "a"]));
    assert_ne!(both, answer(dir.path(), &["list", "b"]));
}

/// Blocks, threads and packings make no difference where there are many blocks.
#[test]
fn a_large_file_is_read_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = some_runs(4_000);
    for (number, run) in runs.iter_mut().enumerate() {
        run.inputs = Some(format!(
            r#"{{"text": "{}"}}"#,
            "lorem \\\"ipsum\\\" ".repeat(10 + number % 900)
        ));
    }
    let classic = dir.path().join("parquet");
    write(&classic, &runs, &Shape::default());
    let expected = documents(&classic);
    for (number, lay) in [Lay::Lines, Lay::Array { pretty: false }]
        .into_iter()
        .enumerate()
    {
        let dump = Dump {
            lay,
            ..Dump::default()
        };
        let path = dump::write(&dir.path().join(number.to_string()), &runs, &dump);
        assert!(fs::metadata(&path).unwrap().len() > 20 << 20);
        for threads in [1, 3] {
            let limits = Limits {
                threads: std::num::NonZeroUsize::new(threads),
                ..Limits::default()
            };
            let request = Request {
                facets: true,
                ..Request::default()
            };
            let options = SourceOptions::default();
            let answer = ask(&path, &limits, &[], &options, &request, CostFormat::String);
            assert_eq!(answer.unwrap(), expected, "{lay:?} {threads}");
        }
    }
}

/// Its line is counted from the file's begin, wherever the reading of it began.
#[test]
fn a_fault_far_into_a_file_is_told_with_its_place() {
    const N_LINES: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.jsonl");
    let run = dump::text(&some_runs(1), &Dump::default());
    let line = run.trim().replacen(
        '{',
        &format!("{{\"inputs\": {{\"text\": \"{}\"}}, ", "é ".repeat(400)),
        1,
    ) + "\n";
    let mut text = line.repeat(N_LINES);
    assert!(text.len() > 20 << 20);
    text.push_str("x\n");
    text.push_str(&line);
    fs::write(&path, text).unwrap();
    for threads in [1, 3] {
        let limits = Limits {
            threads: std::num::NonZeroUsize::new(threads),
            ..Limits::default()
        };
        let (options, request) = (SourceOptions::default(), Request::default());
        let answer = ask(&path, &limits, &[], &options, &request, CostFormat::String);
        let problem = answer.unwrap_err().to_string();
        let place = format!(
            "line {}, byte {}: no JSON",
            N_LINES + 1,
            N_LINES * line.len()
        );
        assert!(problem.contains(&place), "{problem}");
    }
}

/// What is said of a file that is not in order, a row a kind.
#[test]
#[expect(clippy::too_many_lines, reason = "a row a kind")]
fn what_is_wrong_is_told_with_its_place() {
    let run = dump::text(&some_runs(1), &Dump::default());
    let run = run.trim();
    let with = |member: &str| run.replacen('{', &format!("{{{member}, "), 1);
    let gzipped = dump::packed(run.as_bytes(), Pack::Gzip);
    let zstd = dump::packed(run.as_bytes(), Pack::Zstd);
    let deep = format!("{{\"start_time\": {}", "[".repeat(2_000_000));
    let nested = |n: usize, project: &str| {
        let time = r#""start_time": "2026-10-01T00:00:00Z""#;
        format!(
            "{}{}",
            format!(r#"{{{time}, {project}"child_runs": ["#).repeat(n),
            "]}".repeat(n)
        )
    };
    let project = r#""session_id": "3c90c3cc-0d44-4b50-8888-8dd25736052a", "#;
    let second = run.len() + 1;
    for (kind, name, bytes, said) in [
        (
            "no JSON",
            "a.jsonl",
            format!("{run}\nx\n").into_bytes(),
            format!("line 2, byte {second}: no JSON: expected value, found \"x\""),
        ),
        (
            "a broken line",
            "a.jsonl",
            format!("{}\n{run}\n", &run[..40]).into_bytes(),
            "line 1, byte ".to_owned(),
        ),
        (
            "no object",
            "a.jsonl",
            format!("{run}\n[7]\n").into_bytes(),
            format!(
                "line 2, byte {}: expected a run, a JSON object, found \"7\"",
                second + 1
            ),
        ),
        (
            "no start",
            "a.json",
            b"{\"id\": \"a\",\n \"name\": null}".to_vec(),
            "line 1, byte 0: expected a run, found an object without start_time, with id, name"
                .to_owned(),
        ),
        (
            "a wrong time",
            "a.jsonl",
            with(r#""end_time": "soon""#)
                .replace(r#""end_time": "2026"#, r#""late": "2026"#)
                .into_bytes(),
            "line 1, byte 0: end_time: expected an ISO 8601 time, found \"\\\"soon\\\"\""
                .to_owned(),
        ),
        (
            "wrong tokens",
            "a.jsonl",
            run.replace(r#""total_tokens": 11"#, r#""total_tokens": 1.5"#)
                .into_bytes(),
            "total_tokens: expected a whole number of 64 bits, found \"1.5\"".to_owned(),
        ),
        (
            "no UTF-8",
            "a.jsonl",
            [run.as_bytes(), b"\n{\"id\": \"\xff\"}"].concat(),
            format!(
                "line 2, byte {}: no text: its bytes are no UTF-8",
                second + 8
            ),
        ),
        (
            "cut short",
            "a.json",
            format!("[{run}, {run}").into_bytes(),
            "expected `,` or `]`, found the end: it was cut short".to_owned(),
        ),
        (
            "cut within",
            "a.json",
            format!("[{run}, {}", &run[..50]).into_bytes(),
            "expected the rest of a value, found the end: it was cut short".to_owned(),
        ),
        (
            "a cut page",
            "a.json",
            format!("{{\"runs\": [{run}]").into_bytes(),
            "expected the rest of a value, found the end: it was cut short".to_owned(),
        ),
        (
            "cut gzip",
            "a.json.gz",
            gzipped[..gzipped.len() - 9].to_vec(),
            "it cannot be unpacked: ".to_owned(),
        ),
        (
            "cut zstd",
            "a.json.zst",
            zstd[..zstd.len() - 2].to_vec(),
            "it cannot be unpacked: ".to_owned(),
        ),
        (
            "wrong in gzip",
            "a.json.gz",
            dump::packed(b"[1]", Pack::Gzip),
            "line 1, byte 1 of what is packed in it: expected a run, a JSON object, found \"1\""
                .to_owned(),
        ),
        (
            "empty",
            "a.json",
            Vec::new(),
            "expected runs, found nothing".to_owned(),
        ),
        ("deep", "a.json", deep.into_bytes(), "no JSON: ".to_owned()),
        (
            "nested",
            "a.json",
            nested(120, project).into_bytes(),
            "runs that are nested more than 100 deep".to_owned(),
        ),
        (
            "no project",
            "a.jsonl",
            nested(3, "").into_bytes(),
            "nothing says which project its runs belong to".to_owned(),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["alone", "both", "good"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
            if folder != "good" {
                fs::write(dir.path().join(folder).join(name), &bytes).unwrap();
            }
            if folder != "alone" {
                fs::write(dir.path().join(folder).join("good.jsonl"), run).unwrap();
            }
        }
        let said = said.as_str();
        let output = crate::cli::runtally(dir.path(), &["list", "alone"]);
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (Some(1), ""),
            "{kind}"
        );
        assert!(
            output.stderr.starts_with(&format!("error: alone/{name}: ")),
            "{kind}: {}",
            output.stderr
        );
        assert!(output.stderr.contains(said), "{kind}: {}", output.stderr);
        assert!(output.stderr.len() < 1_000, "{kind}: {}", output.stderr);
        let named = crate::cli::runtally(dir.path(), &["list", &format!("alone/{name}")]);
        assert_eq!(named.stderr, output.stderr, "{kind}");
        let output = crate::cli::runtally(dir.path(), &["list", "both", "--on-error", "skip"]);
        assert_eq!(output.code, Some(4), "{kind}: {}", output.stderr);
        assert!(
            output.stderr.contains(&format!("both/{name}: left out: ")),
            "{kind}: {}",
            output.stderr
        );
        assert!(output.stderr.contains(said), "{kind}: {}", output.stderr);
    }
}

#[test]
fn what_is_no_run_is_left_out_where_that_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let runs = some_runs(6);
    dump::write(&dir.path().join("good"), &runs, &Dump::default());
    let expected = answer(dir.path(), &["list", "good"]);
    let lines: Vec<String> = runs
        .iter()
        .map(|run| dump::text(std::slice::from_ref(run), &Dump::default()))
        .collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let at = lines[0].len() + 1;
    for (name, text) in [
        (
            "a.jsonl",
            format!(
                "{}\n{{\"a\": 1}}\n\u{1}\n{}\n{{\"b\"",
                lines[0],
                lines[1..].join("\n")
            ),
        ),
        (
            "a.json",
            format!(
                "[{},\n{{\"a\": 1}}, {{\"start_time\": \"x\"}}, null,{}]",
                lines[0],
                lines[1..].join(",")
            ),
        ),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
        let output = crate::cli::runtally(dir.path(), &["list", name, "--on-error", "skip"]);
        assert_eq!(output.code, Some(4), "{}", output.stderr);
        assert_eq!(output.stdout, expected, "{}", output.stderr);
        let at = if name == "a.json" { at + 2 } else { at };
        let said = format!(
            "warning: {name}: left out: 3 values, the first line 2, byte {at}: expected a run, found an object without start_time"
        );
        assert!(output.stderr.contains(&said), "{}", output.stderr);
        let output = crate::cli::runtally(dir.path(), &["runs", name, "--on-error", "skip"]);
        assert_eq!(output.code, Some(4), "{}", output.stderr);
    }
}

/// Also an audit: what it did not see is part of what it says.
#[test]
fn every_command_tells_what_was_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dump::write(dir.path(), &some_runs(4), &Dump::default());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + "nonsense\n").unwrap();
    for command in ["list", "stats", "runs", "audit"] {
        let args = [command, ".", "--json", "--on-error", "skip"];
        let output = crate::cli::runtally(dir.path(), &args);
        assert_eq!(output.code, Some(4), "{command}: {}", output.stderr);
        let told = "left out: 1 value, line 5";
        assert!(output.stderr.contains(told), "{command}: {}", output.stderr);
    }
}

#[test]
fn a_dump_need_not_name_the_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let text = dump::text(&some_runs(2), &Dump::default()).replace("\"tenant_id\"", "\"x\"");
    fs::write(dir.path().join("a.jsonl"), &text).unwrap();
    let output = crate::cli::runtally(dir.path(), &["list", "a.jsonl"]);
    assert!(
        output
            .stdout
            .contains("\"tenant_id\": \"00000000-0000-0000-0000-000000000000\"")
    );
    assert!(
        output
            .stderr
            .contains("nothing says which tenant its runs are of; --assume-tenant UUID would"),
        "{}",
        output.stderr
    );
    let tenant = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    let shown = answer(dir.path(), &["list", "a.jsonl", "--assume-tenant", tenant]);
    assert!(shown.contains(tenant), "{shown}");
    let page = format!("\"app_path\": \"/o/{tenant}/projects/p/x/r/y\", \"x\"");
    fs::write(dir.path().join("b.jsonl"), text.replace("\"x\"", &page)).unwrap();
    assert_eq!(answer(dir.path(), &["list", "b.jsonl"]), shown);
}

/// What is generated as lines are the runs of what is generated as Parquet.
#[test]
fn generated_lines_are_generated_runs() {
    let dir = tempfile::tempdir().unwrap();
    for own in [&[][..], &["--own-only-roots"]] {
        let mut listed = Vec::new();
        for layout in ["v2", "jsonl"] {
            let folder = format!("{layout}{}", own.len());
            let args = [
                "generate", &folder, "--rows", "600", "--days", "3", "--layout", layout,
            ];
            let output = crate::cli::runtally(dir.path(), &[&args, own].concat());
            assert_eq!(output.code, Some(0), "{}", output.stderr);
            listed.push(answer(dir.path(), &["list", &folder, "--facets"]));
        }
        assert_eq!(listed[0], listed[1]);
    }
}

/// Few questions look at `extra`: those that do find it.
#[test]
fn every_question_finds_what_it_looks_at() {
    let dir = tempfile::tempdir().unwrap();
    for layout in ["v2", "jsonl"] {
        let args = ["--rows", "600", "--days", "2", "--layout", layout];
        let output = crate::cli::runtally(dir.path(), &[&["generate", layout][..], &args].concat());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
    let stats = |by, runs| ["stats", "--json", "--runs", runs, "--group-by", by].to_vec();
    let keys = [
        "model",
        "provider",
        "user",
        "thread",
        "environment",
        "version",
        "prompt",
        "name",
        "tag",
        "metadata.team",
        "root.model",
        "root.metadata.team",
        "root.user",
        "error",
    ];
    let mut questions: Vec<Vec<&str>> = Vec::new();
    questions.extend(keys.iter().map(|key| stats(key, "all")));
    questions.extend(keys[..10].iter().map(|key| stats(key, "root")));
    let filters = [
        r#"eq(metadata_key, "team")"#,
        r#"has(metadata, '{"team": "search"}')"#,
        "neq(thread_id, null)",
        r#"search("exact plate")"#,
    ];
    for filter in filters {
        for flag in ["--filter", "--trace-filter", "--tree-filter"] {
            questions.push(vec!["list", "--json", flag, filter]);
            questions.push(vec!["stats", "--json", "--runs", "llm", flag, filter]);
        }
    }
    questions.push(vec![
        "stats",
        "--json",
        "--select",
        "cached_tokens,reasoning_cost",
    ]);
    questions.push(vec!["runs", "--json", "--runs", "all", "--sort", "cost"]);
    questions.push(vec!["runs", "--json", "--limit", "5"]);
    for question in questions {
        let told = |layout| {
            let output = crate::cli::runtally(dir.path(), &[&question[..], &[layout]].concat());
            assert_eq!(output.code, Some(0), "{question:?}: {}", output.stderr);
            output.stdout
        };
        assert_eq!(told("jsonl"), told("v2"), "{question:?}");
    }
    let audit = |layout| crate::cli::answer(dir.path(), &["audit", "--json", layout]);
    let counts = |layout| audit(layout).matches("\"kind\"").count();
    assert_eq!(counts("jsonl"), counts("v2"));
}

/// The dumps in `testdata/dumps`, by what a source names: the same runs in every shape.
const FILED: [(&str, Dump); 6] = {
    const fn dump(lay: Lay, pack: Pack, version: Version) -> Dump {
        Dump {
            lay,
            pack,
            version,
            sparse: false,
            numbers: matches!(version, Version::V2),
            time: 2 * version as u8,
        }
    }
    const ARRAY: Lay = Lay::Array { pretty: false };
    const PAGES: Lay = Lay::Pages {
        name: "runs",
        pretty: false,
    };
    const ITEMS: Lay = Lay::Pages {
        name: "items",
        pretty: true,
    };
    const NESTED: Lay = Lay::Nested { lines: true };
    [
        ("lines", dump(Lay::Lines, Pack::None, Version::V1)),
        ("array", dump(ARRAY, Pack::Gzip, Version::V1)),
        ("pages", dump(PAGES, Pack::None, Version::V1)),
        ("newer", dump(ITEMS, Pack::None, Version::V2)),
        ("nested", dump(NESTED, Pack::Zstd, Version::V1)),
        ("traces", dump(Lay::FileATrace, Pack::None, Version::V1)),
    ]
};

fn filed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dumps")
}

#[test]
fn the_filed_dumps_give_one_document() {
    let list = |(name, _)| answer(&filed(), &["list", name]);
    let first = list(FILED[0]);
    for dump in FILED {
        assert_eq!(list(dump), first, "{}", dump.0);
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &runs_to_file(), &Shape::default());
    assert_eq!(first, answer(dir.path(), &["list", "."]));
}

#[test]
#[ignore = "rewrites testdata/dumps"]
fn make_dumps() {
    for (name, dump) in FILED {
        let folder = filed().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        dump::write(&folder, &runs_to_file(), &dump);
    }
}

fn runs_to_file() -> Vec<Run> {
    let mut runs = some_runs(12);
    for (number, run) in (1..).zip(&mut runs) {
        run.total_cost = Some(crate::support::run::Cost::of_text(&format!(
            "0.000{number}"
        )));
        run.extra = Some(format!(
            r#"{{"metadata": {{"user_id": "u{}"}}}}"#,
            number % 3
        ));
        run.tags = Some(vec!["prod".to_owned()]);
        run.outputs = Some(r#"{"answer": "because"}"#.to_owned());
        if number % 5 == 0 {
            run.status = Some("error".to_owned());
            run.error = Some("TimeoutError: no answer".to_owned());
        }
    }
    runs
}

#[test]
fn a_format_is_found_or_said() {
    let list = |more: &[&str]| {
        let args = [&["list", "testdata/dumps/lines", "--json"], more].concat();
        crate::cli::runtally(Path::new(env!("CARGO_MANIFEST_DIR")), &args)
    };
    let found = list(&["-v"]);
    let told = "format: langsmith, by a column start_time; files: 1\n";
    assert!(found.stderr.contains(told), "{}", found.stderr);
    let said = list(&["-v", "--from", "langsmith"]);
    let told = "format: langsmith, as --from says; files: 1\n";
    assert!(said.stderr.contains(told), "{}", said.stderr);
    assert_eq!(said.stdout, found.stdout);
    let unknown = list(&["--from", "langsmiht"]);
    assert_eq!(unknown.code, Some(2));
    let told = r#"\"langsmiht\" is no format that is known"#;
    assert!(unknown.stderr.contains(told), "{}", unknown.stderr);
    assert!(
        unknown.stderr.contains("known are: langsmith;"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn formats_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let text = answer(dir.path(), &["formats"]);
    assert!(
        text.starts_with("langsmith: LangSmith's bulk exports"),
        "{text}"
    );
    assert!(
        text.contains(
            "model                extra.metadata.ls_model_name, else extra.metadata.model_name"
        ),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&answer(dir.path(), &["formats", "--json"])).unwrap();
    assert_eq!(json[0]["name"], "langsmith");
    assert_eq!(json[0]["columns"][0]["from"][0], "id");
}

/// What the program writes next to the runs is not read as runs; named itself, it is refused.
#[test]
fn answers_among_runs_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    dump::write(dir.path(), &some_runs(8), &Dump::default());
    let before = answer(dir.path(), &["list", "."]);
    for (args, file) in [
        (&["show", "."][..], "show.json"),
        (&["list", "."], "list.json"),
        (&["list", ".", "-f", "jsonl"], "list.jsonl"),
        (&["runs", "."], "runs.json"),
        (&["stats", "."], "stats.json"),
        (&["audit", "."], "audit.json"),
    ] {
        let output = answer(
            dir.path(),
            &[args, &["--json"][..usize::from(args.len() < 3)]].concat(),
        );
        fs::write(dir.path().join(file), output).unwrap();
        assert_eq!(answer(dir.path(), &["list", "."]), before, "{file}");
        let refused = crate::cli::refusal(dir.path(), &["list", file], 1);
        let said =
            format!("error: {file}: expected runs, found figures that were computed of runs");
        assert!(refused.starts_with(&said), "{refused}");
    }
}
