//! The built binary from outside: flags, outputs, exit codes.
//!
//! Every run has a folder of its own as the current one, in which `exports/` is a small synthetic
//! export. What the figures are is not asked here; that the flags reach them is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runtally::generate::{self, GeneratedProject, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::mirror;
use crate::support::run::{FIRST_MIDNIGHT_US, Run, project_id, tenant_id};
use crate::support::write::{Layout, Shape, write, write_sessions_json};

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the binary in a folder.
pub(crate) fn runtally(dir: &Path, args: &[&str]) -> Output {
    Output::of(&mut command(dir, args))
}

pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runtally"));
    command.current_dir(dir).args(args);
    command
}

/// What a run that succeeds prints; nothing but documents, and no word beside them.
pub(crate) fn answer(dir: &Path, args: &[&str]) -> String {
    let output = runtally(dir, args);
    assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
    assert_eq!(output.stderr, "", "{args:?}");
    output.stdout
}

/// What a run that fails says; it prints no document.
pub(crate) fn refusal(dir: &Path, args: &[&str], code: i32) -> String {
    let output = runtally(dir, args);
    assert_eq!(output.code, Some(code), "{args:?}: {}", output.stderr);
    assert_eq!(output.stdout, "", "{args:?}");
    assert!(
        output.stderr.contains("error: "),
        "{args:?}: {}",
        output.stderr
    );
    output.stderr
}

fn documents(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

/// A folder with `exports/` in it, of so many projects.
pub(crate) fn exports(projects: u32) -> (TempDir, Vec<GeneratedProject>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows: 400,
        projects,
        days: 3,
        ..Options::default()
    };
    let summary = generate::generate(&dir.path().join("exports"), &options).unwrap();
    (dir, summary.projects)
}

/// A folder with `exports/` in it: one completed trace for each project's name.
fn named(names: &[Option<&str>]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let runs = names.iter().enumerate().map(|(index, _)| {
        let start = FIRST_MIDNIGHT_US + 1_000_000 * i64::try_from(index).unwrap();
        let mut run = Run::completed_root(index as u64, start, start + 1_500_000);
        run.session_id = project_id(index);
        run
    });
    let root = dir.path().join("exports");
    write(&root, &runs.collect::<Vec<_>>(), &Shape::default());
    let records = names.iter().enumerate();
    let records = records.filter_map(|(index, name)| {
        name.map(|name| json!({"id": project_id(index), "name": name}))
    });
    write_sessions_json(&root, &records.collect::<Vec<_>>(), false);
    dir
}

#[test]
fn the_working_folder_says_whose_runs_a_bare_name_holds() {
    let dir = tempfile::tempdir().unwrap();
    let project = project_id(0).to_string();
    let folder = dir.path().join(format!("session_id={project}"));
    std::fs::create_dir(&folder).unwrap();
    let run = json!({"id": project_id(1), "start_time": "2026-10-01T00:00:00Z", "run_type": "llm"});
    std::fs::write(folder.join("runs.jsonl"), run.to_string()).unwrap();
    // It lacks much, which is said.
    let listed = documents(&runtally(&folder, &["list", "runs.jsonl"]).stdout);
    assert_eq!(listed[0]["id"], project.as_str());
}

#[test]
fn show_gives_one_document_and_list_all_of_them() {
    let (dir, projects) = exports(1);
    let shown = answer(dir.path(), &["show", "exports"]);
    let document = mirror::check(&shown);
    assert_eq!(document.id.0, projects[0].id.to_string());
    assert_eq!(answer(dir.path(), &["session", "exports"]), shown);
    let listed = answer(dir.path(), &["list", "exports"]);
    assert_eq!(
        documents(&listed),
        [serde_json::from_str::<Value>(&shown).unwrap()]
    );

    let (dir, _) = exports(3);
    let listed = answer(dir.path(), &["list", "exports"]);
    assert_eq!(answer(dir.path(), &["sessions", "exports/"]), listed);
    assert_eq!(mirror::check_list(&listed).len(), 3);
    let starts: Vec<Value> = documents(&listed)
        .iter()
        .map(|doc| doc["start_time"].clone())
        .collect();
    assert!(
        starts.is_sorted_by(|a, b| a.as_str() >= b.as_str()),
        "{starts:?}"
    );
}

#[test]
fn a_project_is_chosen_by_id_name_or_prefix() {
    let (dir, projects) = exports(3);
    let listed = documents(&answer(dir.path(), &["list", "exports"]));
    for project in &projects {
        let id = project.id.to_string();
        let expected = listed
            .iter()
            .find(|document| document["id"] == id.as_str())
            .unwrap();
        let names = || projects.iter().map(|project| project.name.clone());
        let ids = || projects.iter().map(|project| project.id.to_string());
        let asked = [
            id.clone(),
            id.to_uppercase(),
            unique_prefix(&id, &ids().chain(names()).collect::<Vec<_>>()),
            project.name.clone(),
            unique_prefix(&project.name, &ids().chain(names()).collect::<Vec<_>>()),
        ];
        for (asked, flag) in asked
            .iter()
            .zip(["-p", "--project", "--id", "--name", "-p"])
        {
            let shown = answer(dir.path(), &["show", "exports", flag, asked]);
            let document: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(document, *expected, "{asked}");
        }
    }
}

/// The shortest beginning that no other of these has.
fn unique_prefix(text: &str, all: &[String]) -> String {
    let is_unique = |prefix: &&str| {
        all.iter()
            .filter(|other| other.starts_with(*prefix))
            .count()
            == 1
    };
    let prefixes = (1..=text.len()).filter_map(|end| text.get(..end));
    prefixes.into_iter().find(is_unique).unwrap().to_owned()
}

#[test]
fn several_projects_need_a_choice() {
    let (dir, projects) = exports(2);
    let text = refusal(dir.path(), &["show", "exports"], 2);
    assert!(text.contains("hint: ") && text.contains("-p"), "{text}");
    for project in &projects {
        assert!(
            text.contains(&project.name) && text.contains(&project.id.to_string()),
            "{text}"
        );
    }
}

#[test]
fn an_ambiguous_name_lists_its_projects() {
    let dir = named(&[
        Some("checkout"),
        Some("checkout-eu"),
        Some("search"),
        Some("search"),
        None,
    ]);
    let text = refusal(dir.path(), &["show", "exports", "-p", "check"], 2);
    for (index, name) in ["checkout", "checkout-eu"].into_iter().enumerate() {
        assert!(
            text.contains(&format!("{name} ({})", project_id(index))),
            "{text}"
        );
    }
    assert!(
        !text.contains("search") && text.contains("hint: "),
        "{text}"
    );
    // An exact name wins over what it is a prefix of.
    let shown = answer(dir.path(), &["show", "exports", "-p", "checkout"]);
    assert_eq!(mirror::check(&shown).id.0, project_id(0).to_string());
    let text = refusal(dir.path(), &["show", "exports", "-p", "search"], 2);
    assert!(text.contains(&project_id(2).to_string()), "{text}");
    assert!(text.contains(&project_id(3).to_string()), "{text}");
    refusal(dir.path(), &["show", "exports", "-p", ""], 3);
    // A project without a name is called by its id.
    let unnamed = project_id(4).to_string();
    let shown = answer(dir.path(), &["show", "exports", "-p", &unnamed[..8]]);
    assert_eq!(mirror::check(&shown).name, unnamed);
}

#[test]
fn an_unknown_project_is_exit_3() {
    let (dir, projects) = exports(2);
    for asked in ["no-such-thing", "5e7d0000-0000-4000-8000-000000000000"] {
        let text = refusal(dir.path(), &["show", "exports", "-p", asked], 3);
        assert!(
            text.contains(asked) && text.contains(&projects[0].name),
            "{text}"
        );
    }
    // A project that only the metadata knows has no document.
    let dir = named(&[Some("here")]);
    let record = json!([{"id": project_id(7), "name": "elsewhere"}]);
    fs::write(dir.path().join("more.json"), record.to_string()).unwrap();
    for asked in ["elsewhere", "else", &project_id(7).to_string()] {
        refusal(
            dir.path(),
            &["show", "exports", "--projects", "more.json", "-p", asked],
            3,
        );
    }
}

#[test]
fn a_source_without_runs_is_exit_1_and_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("notes.parquet"), "no Parquet").unwrap();
    for source in [
        "missing.parquet",
        "missing/*.parquet",
        "empty",
        "notes.parquet",
    ] {
        for command in ["show", "list"] {
            let text = refusal(dir.path(), &[command, source], 1);
            assert!(text.contains(source), "{text}");
        }
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    let (dir, _) = exports(1);
    let wrong: [&[&str]; 23] = [
        &[],
        &["show"],
        &["list"],
        &["shwo", "exports"],
        &["show", "exports", "--no-such-flag"],
        &["show", "exports", "--since", "soon"],
        &["show", "exports", "--since", "2026-13-01"],
        &["show", "exports", "--until", "-7d"],
        &["show", "exports", "--now", "later"],
        &["show", "exports", "-z", "Mars/Olympus"],
        &[
            "show",
            "exports",
            "--since",
            "2026-10-31",
            "--until",
            "2026-10-30",
        ],
        &["show", "exports", "--cost-format", "euro"],
        &["show", "exports", "-f", "xml"],
        &["show", "exports", "--threads", "0"],
        &["show", "exports", "--threads", "many"],
        &["show", "exports", "--memory-limit", "lots"],
        &["show", "exports", "-q", "-v"],
        &["list", "exports", "--period", "2026-13"],
        &["list", "exports", "--period", "2026-10", "--since", "7d"],
        &["list", "exports", "--json", "-f", "csv"],
        &["list", "exports", "--usage-from", "children"],
        &["list", "exports", "--trace-span", "long"],
        &["list", "exports", "--assume-project", "mine"],
    ];
    for args in wrong {
        let output = runtally(dir.path(), args);
        assert_eq!(output.code, Some(2), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    let text = refusal(dir.path(), &["show", "exports", "--since", "soon"], 2);
    assert!(
        text.contains("\"soon\"") && text.contains("hint: "),
        "{text}"
    );
}

#[test]
fn wrong_splits_and_figures_say_what_is_right() {
    let (dir, _) = exports(1);
    for (args, problem, hint) in [
        (
            ["-g", "modle"],
            "\"modle\" is not a key to group by",
            "did you mean model?",
        ),
        (["-g", "root.step"], "nothing that a root has", ""),
        (
            ["--select", "traces,error_rat"],
            "\"error_rat\" is not a measure",
            "did you mean error_rate?",
        ),
        (
            ["--select", "under:"],
            "\"under:\" is not a measure",
            "under:15s",
        ),
        (["--every", "7m"], "\"7m\" is no length of a bucket", "15m"),
        (["--week-start", "someday"], "no day of the week", "sunday"),
        (
            ["--slo", "latency<15s"],
            "\"latency<15s\" is no objective",
            "latency<15s:99%",
        ),
        (
            ["--sort", "cst"],
            "\"cst\" is not a measure",
            "did you mean cost?",
        ),
        (
            ["--sort", "model"],
            "\"model\" is not among the keys to group by",
            "--group-by model",
        ),
        (
            ["--percentiles", "50,101"],
            "\"101\" is no percentile",
            "99.9",
        ),
        (["--runs", ""], "no runs are named", "llm"),
    ] {
        let text = refusal(dir.path(), &[&["stats", "exports"], &args[..]].concat(), 2);
        assert!(text.contains(problem), "{args:?}: {text}");
        let said = text.lines().find_map(|line| line.strip_prefix("hint: "));
        assert!(said.unwrap_or_default().contains(hint), "{args:?}: {text}");
    }
    for args in [["--limit", "few"], ["--no-stats", "-q"]] {
        let args = [&["stats", "exports"], &args[..]].concat();
        assert_eq!(runtally(dir.path(), &args).code, Some(2), "{args:?}");
    }
}

#[test]
fn flags_choose_the_figures() {
    let (dir, _) = exports(1);
    let header = |args: &[&str]| {
        let args = [&["stats", "exports", "-f", "csv", "-q"], args].concat();
        let text = answer(dir.path(), &args);
        text.lines().next().unwrap().to_owned()
    };
    for (args, columns) in [
        (
            &[] as &[&str],
            "run_count,error_count,error_rate,latency_p50,latency_p95,latency_p99,total_tokens,\
             total_cost,first_token_p50,first_token_p99,prompt_tokens,completion_tokens,\
             prompt_cost,completion_cost",
        ),
        (
            &["-g", "model,status", "--every", "1d", "--select", "traces"],
            "model,status,start,end,run_count",
        ),
        (
            &[
                "--select",
                "cost,p95",
                "--select",
                "traces,cost",
                "--sort",
                "errors",
            ],
            "total_cost,latency_p95,run_count",
        ),
        (
            &[
                "--select",
                "traces,p50",
                "--percentiles",
                "50,p99.9",
                "--share",
            ],
            "run_count,run_count_share,latency_p50,latency_p99.9",
        ),
        (
            &["--percentiles", "90", "--facets", "-g", "tag"],
            "tag,run_count,error_count,error_rate,latency_p90,total_tokens,total_cost,\
             first_token_p90,prompt_tokens,completion_tokens,prompt_cost,completion_cost,run_facets",
        ),
        (
            &["--select", "users", "--slo", "first_token<1s:95%"],
            "distinct_users,distinct_users_is_approximate,first_token<1s:95%_target,\
             first_token<1s:95%_good,first_token<1s:95%_total,first_token<1s:95%_attained,\
             first_token<1s:95%_budget_left,first_token<1s:95%_worst",
        ),
    ] {
        assert_eq!(header(args), columns, "{args:?}");
    }
    let all = header(&["--select", "all"]);
    assert!(all.split(',').count() > 70, "{all}");
}

#[test]
fn the_runs_follow_from_the_keys() {
    let (dir, _) = exports(1);
    for (args, runs) in [
        (&[] as &[&str], "root"),
        (&["-g", "model"], "root"),
        (&["-g", "step"], "steps"),
        (&["-g", "step,model"], "root"),
        (&["-g", "model,tool"], "tool"),
        (&["-g", "tool", "--runs", "all"], "all"),
    ] {
        let args = [&["stats", "exports", "-v"], args].concat();
        let output = runtally(dir.path(), &args);
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        let said = format!("runs: {runs}\n");
        assert!(output.stderr.contains(&said), "{args:?}: {}", output.stderr);
    }
}

#[test]
fn an_empty_window_has_no_traces_and_is_done() {
    let (dir, _) = exports(1);
    for window in [
        ["--since", "2030-01-01", "--until", "2031-01-01"],
        ["--since", "2026-10-30", "--until", "2026-10-30"],
    ] {
        let args = [&["show", "exports"], window.as_slice()].concat();
        let text = answer(dir.path(), &args);
        mirror::check(&text);
        let document: Value = serde_json::from_str(&text).unwrap();
        for (key, value) in [
            ("run_count", json!(0)),
            ("latency_p50", Value::Null),
            ("latency_p99", Value::Null),
            ("first_token_p50", Value::Null),
            ("first_token_p99", Value::Null),
            ("total_tokens", json!(0)),
            ("prompt_tokens", json!(0)),
            ("completion_tokens", json!(0)),
            ("total_cost", Value::Null),
            ("prompt_cost", Value::Null),
            ("completion_cost", Value::Null),
            ("last_run_start_time", Value::Null),
            ("last_run_start_time_live", Value::Null),
            ("feedback_stats", json!({})),
            ("session_feedback_stats", json!({})),
            ("run_facets", json!([])),
            ("error_rate", Value::Null),
            ("streaming_rate", Value::Null),
        ] {
            assert_eq!(document[key], value, "{key}");
        }
    }
}

#[test]
fn windows_are_the_same_in_every_form() {
    let (dir, _) = exports(1);
    let show = |args: &[&str]| answer(dir.path(), &[&["show", "exports"], args].concat());
    let count = |text: &str| mirror::check(text).run_count.unwrap();
    let all = count(&show(&[]));
    let last_day = show(&["--since", "2026-10-31T00:00:00Z"]);
    assert!(0 < count(&last_day) && count(&last_day) < all);
    for same in [
        ["--since", "2026-10-31"],
        ["--stats-start-time", "2026-10-31"],
        ["--since", "2026-10-31T02:00:00+02:00"],
        ["--since", "2026-10-31T00:00:00"],
    ] {
        assert_eq!(show(&same), last_day, "{same:?}");
    }
    for now in [
        ["--now", "2026-11-01", "--since", "24h"],
        ["--now", "2026-11-01", "--since", "1d"],
        ["--now", "2026-10-31T12:00:00Z", "--since", "today"],
        ["--now", "2026-11-01T23:59:59Z", "--since", "yesterday"],
        ["--now", "2026-11-07", "--since", "1w"],
    ] {
        assert_eq!(show(&now), last_day, "{now:?}");
    }
    // A date is its midnight in the zone: Tokyo is nine hours ahead, Berlin one.
    for (zone, midnight) in [
        ("Asia/Tokyo", "2026-10-30T15:00:00Z"),
        ("Europe/Berlin", "2026-10-30T23:00:00Z"),
    ] {
        let by_date = show(&["-z", zone, "--since", "2026-10-31"]);
        assert_eq!(by_date, show(&["--since", midnight]), "{zone}");
        assert_eq!(
            by_date,
            show(&["--timezone", zone, "--since", "2026-10-31"])
        );
        assert!(count(&by_date) > count(&last_day), "{zone}");
    }
    // What starts at the end is outside, so that windows that touch add up to the whole.
    let before = show(&["--until", "2026-10-31"]);
    assert_eq!(show(&["--stats-end-time", "2026-10-31"]), before);
    assert_eq!(count(&before) + count(&last_day), all);
}

#[test]
fn without_statistics_all_of_them_are_null() {
    let (dir, projects) = exports(1);
    let text = answer(dir.path(), &["show", "exports", "--no-stats"]);
    mirror::check(&text);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["name"], projects[0].name.as_str());
    let figures = mirror::KEYS.iter().skip_while(|key| **key != "run_count");
    for key in figures {
        assert_eq!(document[*key], Value::Null, "{key}");
    }
}

#[test]
fn projects_come_from_a_file_where_one_is_given() {
    let dir = named(&[Some("from the source")]);
    let shown = |args: &[&str]| -> Value {
        let text = answer(dir.path(), &[&["show", "exports"], args].concat());
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(shown(&[])["name"], "from the source");
    let id = project_id(0);
    let records = format!("{{\"id\": \"{id}\", \"name\": \"elsewhere\", \"run_count\": 99}}\n");
    fs::write(dir.path().join("p.jsonl"), records).unwrap();
    let document = shown(&["--projects", "p.jsonl", "-p", "elsewhere"]);
    assert_eq!(document["name"], "elsewhere");
    assert_eq!(document["run_count"], 1);

    fs::write(dir.path().join("bad.json"), "[{\"id\": 1}]").unwrap();
    fs::write(dir.path().join("worse.json"), "[{").unwrap();
    for file in ["bad.json", "worse.json", "missing.json"] {
        let text = refusal(dir.path(), &["show", "exports", "--projects", file], 1);
        assert!(text.contains(file), "{text}");
        let text = refusal(dir.path(), &["show", "exports", "--feedback", file], 1);
        assert!(text.contains(file), "{text}");
    }
}

#[test]
fn feedback_comes_from_a_file_where_one_is_given() {
    let dir = named(&[Some("rated")]);
    let run = Run::completed_root(0, 0, 0).id;
    let records = json!([
        {"run_id": run, "key": "helpful", "score": 1},
        {"run_id": run, "key": "helpful", "score": 0.5},
        {"run_id": Uuid::from_u128(1), "key": "of no run here", "score": 1},
        {"run_id": null, "session_id": project_id(0), "key": "overall", "value": "fine"},
    ]);
    fs::write(dir.path().join("feedback.json"), records.to_string()).unwrap();
    let text = answer(
        dir.path(),
        &["show", "exports", "--feedback", "feedback.json"],
    );
    mirror::check(&text);
    let document: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&String> = document["feedback_stats"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(keys, ["helpful"]);
    assert_eq!(document["feedback_stats"]["helpful"]["n"], 2);
    assert_eq!(document["feedback_stats"]["helpful"]["avg"], 0.75);
    assert_eq!(
        document["session_feedback_stats"]["overall"]["values"],
        json!({"fine": 1})
    );
}

#[test]
fn costs_have_the_same_digits_either_way() {
    let (dir, _) = exports(1);
    let texts = answer(dir.path(), &["show", "exports"]);
    assert_eq!(
        answer(dir.path(), &["show", "exports", "--cost-format", "string"]),
        texts
    );
    let numbers = answer(dir.path(), &["show", "exports", "--cost-format", "number"]);
    mirror::check_with_numbers(&numbers);
    assert_ne!(numbers, texts);
    let unquoted = texts.lines().map(|line| {
        let is_cost = line
            .trim_start()
            .split_once(':')
            .is_some_and(|(key, _)| key.ends_with("_cost\""));
        match line.split_once(": ") {
            Some((key, value)) if is_cost => format!("{key}: {}\n", value.replace('"', "")),
            _ => format!("{line}\n"),
        }
    });
    assert_eq!(numbers, unquoted.collect::<String>());
}

#[test]
fn json_lines_are_the_documents_of_the_array() {
    let (dir, projects) = exports(3);
    let array = documents(&answer(dir.path(), &["list", "exports", "-f", "json"]));
    let lines = answer(dir.path(), &["list", "exports", "--format", "jsonl"]);
    let of_lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(of_lines.collect::<Vec<_>>(), array);
    let id = projects[1].id.to_string();
    let one = answer(dir.path(), &["show", "exports", "-p", &id, "-f", "jsonl"]);
    assert_eq!(one.lines().count(), 1);
    assert!(lines.contains(&one), "{one}");
}

#[test]
fn output_goes_to_a_file_whole_or_not_at_all() {
    let (dir, _) = exports(1);
    let expected = answer(dir.path(), &["show", "exports"]);
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(
        out.join("old.json"),
        "what was there before, and longer than it will be",
    )
    .unwrap();
    for (flag, file) in [("-o", "out/new.json"), ("--output", "out/old.json")] {
        assert_eq!(answer(dir.path(), &["show", "exports", flag, file]), "");
        assert_eq!(fs::read_to_string(dir.path().join(file)).unwrap(), expected);
    }
    answer(dir.path(), &["show", "exports", "-o", "here.json"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("here.json")).unwrap(),
        expected
    );
    assert_eq!(names_in(&out), ["new.json", "old.json"]);

    // Nowhere to write: no such folder, a file instead of one, a folder instead of a file.
    for path in ["missing/new.json", "out/new.json/deeper.json", "out"] {
        let text = refusal(dir.path(), &["show", "exports", "-o", path], 1);
        assert!(text.contains(path), "{text}");
    }
    // A question that fails leaves what is there.
    refusal(
        dir.path(),
        &["show", "exports", "-p", "nobody", "-o", "out/new.json"],
        3,
    );
    refusal(
        dir.path(),
        &["show", "exports", "-p", "nobody", "-o", "out/third.json"],
        3,
    );
    assert_eq!(fs::read_to_string(out.join("new.json")).unwrap(), expected);
    assert_eq!(names_in(&out), ["new.json", "old.json"]);
    assert_eq!(names_in(dir.path()), ["exports", "here.json", "out"]);
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn an_output_file_is_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, _) = exports(1);
    answer(dir.path(), &["show", "exports", "-o", "out.json"]);
    fs::write(dir.path().join("other"), "").unwrap();
    let mode = |name| {
        fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("out.json"), mode("other"));
}

#[test]
fn threads_and_memory_change_no_byte() {
    let (dir, _) = exports(3);
    let expected = answer(dir.path(), &["list", "exports"]);
    for limits in [
        &["--threads", "1"] as &[&str],
        &["--threads", "8"],
        &["--memory-limit", "64MiB", "--threads", "2"],
    ] {
        assert_eq!(
            answer(dir.path(), &[&["list", "exports"], limits].concat()),
            expected
        );
    }
}

#[test]
fn remarks_go_to_standard_error_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = [0, 1].map(|n| Run::completed_root(n, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US));
    runs[1].tenant_id = tenant_id(1);
    write(&dir.path().join("exports"), &runs, &Shape::default());
    let show = |args: &[&str]| {
        let output = runtally(dir.path(), &[&["show", "exports"], args].concat());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output
    };
    let quiet = show(&["-q"]);
    assert_eq!(quiet.stderr, "");
    mirror::check(&quiet.stdout);
    for args in [
        &[] as &[&str],
        &["-v"],
        &["--explain"],
        &["--explain", "-v"],
        &["--explain", "-q"],
    ] {
        let output = show(args);
        assert_eq!(output.stdout, quiet.stdout, "{args:?}");
        let has = |what| args.contains(&what);
        let says = |what: &str| output.stderr.contains(what);
        assert_eq!(says("warning: "), !has("-q"), "{args:?}: {}", output.stderr);
        assert_eq!(
            says("AggregateExec") && says("metrics=["),
            has("--explain"),
            "{}",
            output.stderr
        );
        assert_eq!(says("2 files"), has("-v"), "{args:?}: {}", output.stderr);
    }
}

#[test]
fn a_closed_pipe_is_success() {
    let (dir, _) = exports(3);
    for args in [
        &["list", "exports"] as &[&str],
        &["show", "exports", "-p", "nobody"],
        &["--help"],
    ] {
        let mut command = command(dir.path(), args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        if args.contains(&"nobody") {
            assert_eq!(output.status.code(), Some(3));
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{args:?}");
    }
    // Nobody listens to the remarks either.
    let mut command = command(dir.path(), &["list", "exports", "-v", "--explain"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        documents(&String::from_utf8(output.stdout).unwrap()).len(),
        3
    );
}

#[test]
fn a_source_is_files_folders_and_globs_each_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<Run> = (0..12)
        .map(|n| {
            let start = FIRST_MIDNIGHT_US + i64::try_from(n).unwrap() * 1_000_000;
            Run::completed_root(n, start, start + 2_000_000)
        })
        .collect();
    let shape = Shape {
        layout: Layout::Flat,
        n_files: 3,
        ..Shape::default()
    };
    write(&dir.path().join("flat"), &runs, &shape);
    let answered = |sources: &[&str]| answer(dir.path(), &[&["show"], sources].concat());
    let count = |sources: &[&str]| mirror::check(&answered(sources)).run_count.unwrap();
    let parts = [0, 1, 2].map(|part| format!("flat/part-{part:05}.parquet"));
    let all = answered(&["flat"]);
    assert_eq!(mirror::check(&all).run_count, Some(12));
    assert_eq!(count(&[&parts[0]]), 4);
    assert_eq!(count(&[&parts[0], &parts[2]]), 8);
    assert_eq!(count(&["flat/part-0000[01].parquet"]), 8);
    let absolute = dir.path().join("flat");
    for sources in [
        &["flat/*.parquet"] as &[&str],
        &["fl?t"],
        &["./flat/"],
        &[absolute.to_str().unwrap()],
        &["flat", "flat"],
        &[
            "flat",
            &parts[1],
            "flat/../flat/part-00001.parquet",
            "flat/*",
        ],
        &[&parts[0], &parts[1], &parts[2]],
    ] {
        assert_eq!(answered(sources), all, "{sources:?}");
    }
}

#[test]
fn the_parent_folder_of_several_exports_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let mut projects = Vec::new();
    for (name, seed) in [("one", 1), ("two", 2)] {
        let options = Options {
            rows: 200,
            projects: 2,
            days: 2,
            seed,
            ..Options::default()
        };
        let summary = generate::generate(&dir.path().join("all").join(name), &options).unwrap();
        projects.extend(
            summary
                .projects
                .into_iter()
                .map(|project| project.id.to_string()),
        );
    }
    let mut listed: Vec<String> = documents(&answer(dir.path(), &["list", "all"]))
        .iter()
        .map(|document| document["id"].as_str().unwrap().to_owned())
        .collect();
    listed.sort();
    projects.sort();
    assert_eq!(listed, projects);
    let by_two = answer(dir.path(), &["list", "all/one", "all/two", "--no-stats"]);
    assert_eq!(documents(&by_two).len(), projects.len());
}

#[test]
fn generate_gives_the_same_bytes_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let make = |folder: &str, args: &[&str]| -> BTreeMap<PathBuf, Vec<u8>> {
        let small = ["--rows", "300", "--projects", "2", "--days", "2"];
        let args = [&["generate", folder], small.as_slice(), args].concat();
        let output = runtally(dir.path(), &args);
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?}");
        files_below(&dir.path().join(folder))
    };
    let first = make("a", &["--seed", "5"]);
    assert!(first.keys().any(|path| path.ends_with("sessions.json")));
    assert_eq!(
        first
            .values()
            .filter(|bytes| bytes.starts_with(b"PAR1"))
            .count(),
        4
    );
    assert!(make("b/deeper", &["--seed", "5"]) == first);
    assert!(make("c", &["--seed", "6"]) != first);
    assert!(make("d", &["--seed", "5", "--layout", "v1"]) != first);
    assert!(make("e", &["--seed", "5", "--end", "2026-01-31"]) != first);

    let text = refusal(dir.path(), &["generate", "a", "--rows", "10"], 2);
    assert!(text.contains("not empty"), "{text}");
    assert!(files_below(&dir.path().join("a")) == first);
    for wrong in [
        ["--days", "0"],
        ["--projects", "0"],
        ["--end", "someday"],
        ["--layout", "v9"],
    ] {
        let args = [&["generate", "wrong"], wrong.as_slice()].concat();
        refusal(dir.path(), &args, 2);
    }
    fs::write(dir.path().join("file"), "").unwrap();
    let text = refusal(dir.path(), &["generate", "file/below", "--rows", "10"], 1);
    assert!(text.contains("file/below"), "{text}");
}

/// The bytes of all files below a folder, by their path in it.
fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn help_and_version_are_done() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["--help"] as &[&str],
        &["-h"],
        &["help"],
        &["show", "--help"],
        &["list", "-h"],
        &["generate", "--help"],
    ] {
        assert!(answer(dir.path(), args).contains("Usage:"), "{args:?}");
    }
    let help = answer(dir.path(), &["--help"]);
    assert!(
        help.contains("Exit codes") && help.contains("Examples"),
        "{help}"
    );
    let version = answer(dir.path(), &["--version"]);
    let begin = format!("runtally {} (", env!("CARGO_PKG_VERSION"));
    assert!(
        version.starts_with(&begin) && version.ends_with("features: cli)\n"),
        "{version}"
    );
}

/// Interrupted at several moments: either it was done already, or it says 130 and leaves no file.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    use std::os::unix::process::ExitStatusExt;
    use std::thread::sleep;
    use std::time::Duration;

    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows: 12_000,
        projects: 2,
        files_per_day: 4,
        ..Options::default()
    };
    generate::generate(&dir.path().join("exports"), &options).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let args = ["list", "exports", "--threads", "1", "-o", "out/all.json"];
    let expected = answer(dir.path(), &args[..2]);
    for delay_ms in [20, 60, 120, 250, 500] {
        let mut command = command(dir.path(), &args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        sleep(Duration::from_millis(delay_ms));
        let interrupt = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .output();
        assert!(interrupt.is_ok());
        let output = child.wait_with_output().unwrap();
        assert!(output.stdout.is_empty());
        if output.status.code() == Some(0) {
            assert_eq!(fs::read_to_string(out.join("all.json")).unwrap(), expected);
            fs::remove_file(out.join("all.json")).unwrap();
        } else {
            // Before the program listens, the system itself ends it; a shell says 130 for both.
            let was_interrupted =
                output.status.code() == Some(130) || output.status.signal() == Some(2);
            assert!(was_interrupted, "{delay_ms} ms: {output:?}");
        }
        assert_eq!(names_in(&out), Vec::<String>::new(), "{delay_ms} ms");
    }
}

#[test]
fn what_a_shell_makes_of_a_star_is_a_source() {
    let (dir, _) = exports(2);
    let whole = answer(dir.path(), &["list", "exports"]);
    assert_eq!(answer(dir.path(), &["list", "exports/*"]), whole);
    let entries = fs::read_dir(dir.path().join("exports")).unwrap();
    let mut named: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    named.sort();
    let named = named.iter().map(|path| path.to_str().unwrap());
    let args: Vec<&str> = std::iter::once("list").chain(named).collect();
    assert!(args.iter().any(|arg| arg.ends_with("sessions.json")));
    assert_eq!(answer(dir.path(), &args), whole);
}

#[cfg(unix)]
#[test]
fn a_device_is_written_to_and_a_link_keeps_its_place() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let (dir, _) = exports(1);
    answer(dir.path(), &["show", "exports", "-o", "/dev/null"]);
    assert!(
        fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
    fs::write(dir.path().join("real.json"), "old").unwrap();
    symlink("real.json", dir.path().join("link.json")).unwrap();
    answer(dir.path(), &["show", "exports", "-o", "link.json"]);
    assert!(dir.path().join("link.json").is_symlink());
    mirror::check(&fs::read_to_string(dir.path().join("real.json")).unwrap());
}

/// Plain flags are filters, all of which must hold; `-v` says which.
#[test]
fn flags_are_filters() {
    let (dir, _) = exports(1);
    let count = |args: &[&str]| -> i64 {
        let mut all = vec!["list", "exports", "--json"];
        all.extend(args);
        let documents: Vec<Value> = serde_json::from_str(&answer(dir.path(), &all)).unwrap();
        documents
            .iter()
            .map(|document| document["run_count"].as_i64().unwrap())
            .sum()
    };
    let all = count(&[]);
    for (flags, filter) in [
        (vec!["--error"], "eq(error, true)"),
        (vec!["--no-error"], "eq(error, false)"),
        (vec!["--tag", "prod"], r#"has(tags, "prod")"#),
        (vec!["--run-type", "chain"], r#"eq(run_type, "chain")"#),
        (vec!["--min-latency", "2s"], "gte(latency, 2)"),
        (vec!["--max-latency", "1500ms"], "lte(latency, 1.5)"),
        (
            vec!["--meta", "a=b=c"],
            r#"and(eq(metadata_key, "a"), eq(metadata_value, "b=c"))"#,
        ),
        (
            vec!["--model", "m"],
            r#"and(eq(metadata_key, "ls_model_name"), eq(metadata_value, "m"))"#,
        ),
        (
            vec!["--user", "u"],
            r#"and(in(metadata_key, ["user_id", "user"]), eq(metadata_value, "u"))"#,
        ),
        (
            vec!["--error", "--run-name", "x"],
            r#"and(eq(name, "x"), eq(error, true))"#,
        ),
    ] {
        assert_eq!(count(&flags), count(&["--filter", filter]), "{flags:?}");
        let mut verbose = vec!["list", "exports", "--json", "-v"];
        verbose.extend(flags);
        let said = runtally(dir.path(), &verbose).stderr;
        assert!(said.contains(&format!("filter: {filter}\n")), "{said}");
    }
    assert_eq!(count(&["--error"]) + count(&["--no-error"]), all);
    assert!((1..all).contains(&count(&["--error"])));
    let failed_below = count(&["--tree-filter", "eq(error, true)"]);
    assert!((count(&["--error"])..all).contains(&failed_below));
}

#[test]
fn a_wrong_filter_is_pointed_at() {
    let (dir, _) = exports(1);
    let said = refusal(
        dir.path(),
        &["list", "exports", "--filter", "and(eq(nam, 'x'))"],
        2,
    );
    assert_eq!(
        said,
        "error: there is no field `nam`\n  and(eq(nam, 'x'))\n         ^\nhint: did you mean `name`?\n"
    );
    let args = ["list", "exports", "--json", "--filter", "gt(latency, 'x')"];
    let said: Value = serde_json::from_str(&runtally(dir.path(), &args).stderr).unwrap();
    assert_eq!(said["error"]["kind"], "filter");
    assert_eq!(said["error"]["exit_code"], 2);
    assert_eq!(said["error"]["at"], 12);
    let args = ["list", "exports", "--tree-filter", "eq(root.name, 'x')"];
    assert!(refusal(dir.path(), &args, 2).contains("cannot speak of its root"));
    for flag in [["--meta", "x"], ["--min-latency", "fast"]] {
        refusal(dir.path(), &["list", "exports", flag[0], flag[1]], 2);
    }
}

/// Each is selected by its own filter; without the flag there are none.
#[test]
fn facets_are_asked_for() {
    let (dir, _) = exports(1);
    let facets = |args: &[&str]| {
        let mut all = vec!["show", "exports", "--json"];
        all.extend(args);
        let document: Value = serde_json::from_str(&answer(dir.path(), &all)).unwrap();
        document["run_facets"].as_array().unwrap().clone()
    };
    assert_eq!(facets(&[]), Vec::<Value>::new());
    let found = facets(&["--facets"]);
    assert!(found.len() > 5, "{found:?}");
    for facet in found.iter().take(5) {
        let query = facet["query"].as_str().unwrap();
        let args = ["show", "exports", "--json", "--filter", query];
        let document: Value = serde_json::from_str(&answer(dir.path(), &args)).unwrap();
        assert_eq!(document["run_count"], facet["n"], "{query}");
    }
    let table = answer(
        dir.path(),
        &["show", "exports", "--facets", "-f", "md", "-q"],
    );
    assert!(table.contains("| facet status |"), "{table}");
}
