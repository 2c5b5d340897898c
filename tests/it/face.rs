//! What the command line is to people and scripts: formats, hints, settings and where they come from,
//! failures as JSON, the commands that are about the program itself.

use std::fs;
use std::path::Path;

use runtally::generate::{self, Options};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Output, answer, command, exports, refusal, runtally};

/// Runs the binary with variables set.
fn with_variables(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    Output::of(command(dir, args).envs(variables.iter().copied()))
}

/// A folder with `exports/` in it, whose roots add up their descendants' usage or do not.
fn generated(own_only_roots: bool) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rows: 400,
        projects: 1,
        days: 3,
        own_only_roots,
        ..Options::default()
    };
    generate::generate(&dir.path().join("exports"), &options).unwrap();
    dir
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The table on standard output and all that is said beside it.
fn table(dir: &Path, args: &[&str]) -> Output {
    let args = [args, &["-f", "table"]].concat();
    let output = runtally(dir, &args);
    assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
    output
}

#[test]
fn sources_alone_are_listed() {
    let (dir, _) = exports(2);
    let list = answer(dir.path(), &["list", "exports"]);
    assert_eq!(answer(dir.path(), &["exports"]), list);
    let csv = answer(dir.path(), &["exports", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

#[test]
fn a_word_that_is_no_command_and_no_file_is_wrong_usage() {
    let (dir, _) = exports(1);
    let text = refusal(dir.path(), &["shwo", "exports"], 2);
    assert!(
        text.contains("shwo is neither a command nor a file"),
        "{text}"
    );
    let text = refusal(dir.path(), &["./shwo/x"], 1);
    assert!(text.contains("no such file or folder"), "{text}");
}

#[test]
fn the_output_files_name_says_the_format() {
    let (dir, _) = exports(2);
    for (name, format) in [
        ("all.csv", "csv"),
        ("all.md", "md"),
        ("all.jsonl", "jsonl"),
        ("all.json", "json"),
        ("all", "json"),
        ("all.txt", "table"),
    ] {
        let printed = runtally(dir.path(), &["list", "exports", "-f", format]);
        let filed = runtally(dir.path(), &["list", "exports", "-o", name]);
        assert_eq!((printed.code, filed.code), (Some(0), Some(0)));
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(text, printed.stdout, "{name}");
        // A format that is named wins.
        answer(dir.path(), &["list", "exports", "-o", name, "--json"]);
        assert!(
            fs::read_to_string(dir.path().join(name))
                .unwrap()
                .starts_with('[')
        );
    }
}

#[test]
fn a_table_ends_with_its_summary() {
    let (dir, _) = exports(2);
    let args = [
        "list",
        "exports",
        "--since",
        "2026-10-31",
        "-z",
        "Europe/Berlin",
    ];
    let output = table(dir.path(), &args);
    let last = output.stderr.lines().last().unwrap();
    for part in [
        "since 2026-10-31 00:00 (Europe/Berlin)",
        " traces",
        "usage from roots",
        "percentiles exact to 256 values, then within 0.1 %",
        "4 of 6 files",
        " s",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    let period = table(dir.path(), &["list", "exports", "--period", "2026-10-30"]);
    let window = "2026-10-30 00:00 until before 2026-10-31 00:00 (UTC)";
    assert!(period.stderr.contains(window), "{}", period.stderr);
    let quiet = table(dir.path(), &["list", "exports", "-q"]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn hints_say_the_next_step() {
    let (dir, _) = exports(2);
    let empty = table(dir.path(), &["list", "exports", "--until", "2020-01-01"]);
    let covered = "hint: no trace starts in this window; the data covers 2026-10-29";
    assert!(empty.stderr.contains(covered), "{}", empty.stderr);
    fs::remove_file(dir.path().join("exports/sessions.json")).unwrap();
    let unnamed = table(dir.path(), &["list", "exports"]);
    let hint = "hint: the projects have no names";
    assert!(unnamed.stderr.contains(hint), "{}", unnamed.stderr);
    let several = refusal(dir.path(), &["show", "exports"], 2);
    assert!(several.contains("hint: choose one with -p"), "{several}");
}

#[test]
fn a_flag_comes_before_the_environment_and_that_before_the_file() {
    let (dir, _) = exports(1);
    let settings = "source = \"exports\"\ntimezone = \"Asia/Tokyo\"\n";
    fs::write(dir.path().join(".runtally.toml"), settings).unwrap();
    let since = ["list", "-v", "--since", "2026-10-30"];
    let from_file = with_variables(dir.path(), &[], &since);
    assert_eq!(from_file.code, Some(0), "{}", from_file.stderr);
    for part in [
        "(Asia/Tokyo)",
        "the sources from .runtally.toml",
        "--timezone from .runtally.toml",
    ] {
        assert!(from_file.stderr.contains(part), "{}", from_file.stderr);
    }
    let variables = [("RUNTALLY_TIMEZONE", "Europe/Berlin")];
    let from_variable = with_variables(dir.path(), &variables, &since);
    for part in ["(Europe/Berlin)", "--timezone from RUNTALLY_TIMEZONE"] {
        assert!(
            from_variable.stderr.contains(part),
            "{}",
            from_variable.stderr
        );
    }
    let flag = [&since[..], &["-z", "America/Lima"]].concat();
    let from_flag = with_variables(dir.path(), &variables, &flag);
    assert!(
        from_flag.stderr.contains("(America/Lima)"),
        "{}",
        from_flag.stderr
    );
    assert!(
        !from_flag.stderr.contains("--timezone from"),
        "{}",
        from_flag.stderr
    );
    // Without a command and without arguments, what the file names is listed.
    assert_eq!(
        answer(dir.path(), &[]),
        answer(dir.path(), &["list", "exports"])
    );
}

#[test]
fn every_flag_is_read_from_the_environment() {
    let (dir, _) = exports(2);
    let csv = answer(
        dir.path(),
        &["list", "exports", "-f", "csv", "--period", "2026-10-30"],
    );
    let variables = [
        ("RUNTALLY_SOURCE", "exports"),
        ("RUNTALLY_FORMAT", "csv"),
        ("RUNTALLY_PERIOD", "2026-10-30"),
        ("RUNTALLY_QUIET", "1"),
    ];
    let output = with_variables(dir.path(), &variables, &["list"]);
    assert_eq!((output.code, output.stdout), (Some(0), csv));
    for (value, code) in [("1", 1), ("0", 0), ("", 0), ("false", 0)] {
        // Without names there is a hint, but no warning: a missing column is one.
        let dropped = generated(false);
        let args = ["show", "exports", "--json", "--no-stats"];
        let output = with_variables(dropped.path(), &[("RUNTALLY_STRICT", value)], &args);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        let text = with_variables(dropped.path(), &[("RUNTALLY_NO_STATS", value)], &args[..3]);
        assert_eq!(
            json(&text.stdout)["run_count"].is_null(),
            code == 1,
            "{value:?}"
        );
    }
    // Another command's flag of the same name has another variable.
    let variables = [
        ("RUNTALLY_PROJECTS", "names.json"),
        ("RUNTALLY_GENERATE_ROWS", "50"),
    ];
    let output = with_variables(dir.path(), &variables, &["generate", "more"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.starts_with("50 runs"), "{}", output.stderr);
}

#[test]
fn a_settings_file_that_is_wrong_is_named() {
    let (dir, _) = exports(1);
    for (text, part) in [
        ("sources = \"exports\"", "unknown field `sources`"),
        ("source = 7", "line 1"),
        ("timezone = \"Mars/Olympus\"", "Mars/Olympus"),
        ("source = [", "line 1"),
    ] {
        fs::write(dir.path().join(".runtally.toml"), text).unwrap();
        let said = refusal(dir.path(), &["list", "exports"], 1);
        assert!(
            said.contains(".runtally.toml: ") && said.contains(part),
            "{said}"
        );
    }
}

#[test]
fn failures_are_one_json_object_where_json_is_asked_for() {
    let (dir, _) = exports(2);
    fs::write(dir.path().join("bad.parquet"), "no Parquet").unwrap();
    for (args, kind, code) in [
        (
            &["list", "bad.parquet", "--json"] as &[&str],
            "bad_input",
            1,
        ),
        (&["list", "missing", "-f", "jsonl"], "no_input", 1),
        (&["show", "exports", "--json"], "usage", 2),
        (
            &["show", "exports", "--json", "--since", "soon"],
            "usage",
            2,
        ),
        (&["show", "exports", "--json", "--sinc", "soon"], "usage", 2),
        (
            &["show", "exports", "-p", "nobody", "--json"],
            "no_such_project",
            3,
        ),
    ] {
        let output = runtally(dir.path(), args);
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (Some(code), ""),
            "{args:?}"
        );
        let error = &json(&output.stderr)["error"];
        assert_eq!(error["kind"], kind, "{args:?}");
        assert_eq!(error["exit_code"], code, "{args:?}");
        assert!(error["message"].is_string(), "{args:?}");
        if kind == "bad_input" {
            assert_eq!(error["path"], "bad.parquet");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_skipped_where_that_is_asked_for() {
    let (dir, _) = exports(2);
    let clean = answer(dir.path(), &["list", "exports"]);
    fs::write(dir.path().join("exports/bad.parquet"), "no Parquet").unwrap();
    let said = refusal(dir.path(), &["list", "exports"], 1);
    assert!(said.contains("exports/bad.parquet"), "{said}");
    let skipping = runtally(dir.path(), &["list", "exports", "--on-error", "skip"]);
    assert_eq!((skipping.code, skipping.stdout), (Some(4), clean));
    let said = skipping.stderr;
    assert!(
        said.contains("warning: exports/bad.parquet: left out: "),
        "{said}"
    );
    let args = [
        "list",
        "exports",
        "--on-error",
        "skip",
        "--strict",
        "-o",
        "all.json",
    ];
    let said = refusal(dir.path(), &args, 1);
    assert!(said.contains("--strict"), "{said}");
    assert!(!dir.path().join("all.json").exists());
}

#[test]
fn usage_is_of_roots_or_of_all_runs() {
    let classic = generated(false);
    let own = generated(true);
    let document = |dir: &TempDir, args: &[&str]| {
        let args = [&["show", "exports", "--json", "-q"], args].concat();
        json(&runtally(dir.path(), &args).stdout)
    };
    let expected = document(&classic, &[]);
    assert_eq!(document(&own, &[]), expected);
    assert_eq!(document(&own, &["--usage-from", "own"]), expected);
    let roots = document(&own, &["--usage-from", "roots"]);
    assert_ne!(roots["total_tokens"], expected["total_tokens"]);
    assert_eq!(roots["latency_p50"], expected["latency_p50"]);
    let said = table(own.path(), &["show", "exports"]).stderr;
    assert!(said.contains("usage summed over all runs"), "{said}");
}

#[test]
fn the_plan_is_explained() {
    let (dir, _) = exports(1);
    let output = runtally(dir.path(), &["show", "exports", "--json", "--explain"]);
    for part in ["AggregateExec", "DataSourceExec", "metrics=["] {
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
    json(&output.stdout);
}

#[test]
fn the_demo_shows_something_and_says_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = dir.path().to_str().unwrap();
    let output = with_variables(dir.path(), &[("TMPDIR", temporary)], &["demo"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stdout.contains("support-bot"), "{}", output.stdout);
    let lines: Vec<&str> = output.stderr.lines().map(str::trim).collect();
    let commands = lines
        .iter()
        .filter_map(|line| line.strip_prefix("runtally "));
    let mut n_tried = 0;
    for command in commands.filter(|command| command.contains("runtally-demo-")) {
        let args: Vec<&str> = command.split(' ').collect();
        let output = runtally(dir.path(), &args);
        assert_eq!(output.code, Some(0), "{command}: {}", output.stderr);
        n_tried += 1;
    }
    assert_eq!(n_tried, 3, "{}", output.stderr);
}

#[test]
fn shells_and_manuals_know_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = answer(dir.path(), &["completions", shell]);
        assert!(
            script.contains("runtally") && script.contains("since"),
            "{shell}"
        );
    }
    let page = answer(dir.path(), &["man"]);
    assert!(
        page.contains(".TH runtally 1") && page.contains("Exit codes"),
        "{page}"
    );
    for command in [
        "show",
        "list",
        "stats",
        "demo",
        "generate",
        "completions",
        "man",
    ] {
        let page = answer(dir.path(), &["man", command]);
        assert!(
            page.contains(&format!(".TH runtally-{command} 1")),
            "{command}"
        );
    }
    refusal(dir.path(), &["man", "nothing"], 2);
}
