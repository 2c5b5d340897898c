//! Runs one by one: any runs in any form are listed as the naive reference lists them. Their tables,
//! Markdown and CSV, ordinary and hostile, and the command's flags.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use runtally::output::{self, Format, Listed, Style};
use runtally::{
    Cost, CostFormat, Engine, Error, Filter, Limits, Listing, Nanoseconds, Population, Request,
    RunLine, RunOrder, Runs, Source, SourceOptions, Timestamp, Usage,
};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;
use uuid::Uuid;

use crate::cli::{answer, command, exports, refusal, runtally};
use crate::documents::{any_form, any_usage, request, write_in_turns};
use crate::support::evaluate::any_filter;
use crate::support::quick;
use crate::support::reference::Question;
use crate::support::run::{
    self, FIRST_MIDNIGHT_US, Run, any_metadata, any_runs, any_window, project_id,
};
use crate::support::stats::lines;
use crate::support::write::{Shape, write, write_sessions_json};
use crate::tables::HOSTILE;

const TEMPLATE: &str = "https://x.y/p/{session_id}/r/{id}?trace_id={trace_id}";

fn ask(
    dir: &Path,
    limits: &Limits,
    request: &Request,
    listing: &Listing,
) -> runtally::Result<Runs> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(limits)?;
        let source = Source::open([dir], &SourceOptions::default())?;
        runtally::runs(&engine, &source, request, listing).await
    })
}

/// Writes runs in shapes, with what an earlier export said of some, asks the product and the reference,
/// and compares.
fn check(runs: &[Run], shapes: &[Shape], mut question: Question, listing: &Listing, repeats: bool) {
    let mut runs = runs.to_vec();
    for shape in shapes {
        for run in &mut runs {
            shape.fit(run);
        }
    }
    if runs.is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    question.files = write_in_turns(dir.path(), &runs, shapes);
    if repeats {
        write_earlier(&dir.path().join("earlier"), &runs);
    }
    write_sessions_json(dir.path(), &question.metadata, true);
    let Some(request) = request(&question) else {
        return;
    };
    let answer = ask(dir.path(), &Limits::default(), &request, listing);
    let exists = |id: Uuid| runs.iter().any(|run| run.session_id == id);
    if !question.project.is_none_or(exists) {
        assert!(matches!(answer, Err(Error::NoSuchProject { .. })));
        return;
    }
    let answer = answer.unwrap().runs;
    let answer: Vec<Value> = answer
        .iter()
        .map(|run| serde_json::to_value(run).unwrap())
        .collect();
    let expected = lines(&runs, &question, listing);
    let ids = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["id"].to_string()).collect()
    };
    assert_eq!(
        ids(&answer),
        ids(&expected),
        "not the same runs (left: actual)"
    );
    for (line, expected) in answer.iter().zip(&expected) {
        assert_eq!(line, expected, "(left: actual)");
    }
}

/// Every other run as it was before it ended.
fn write_earlier(dir: &Path, runs: &[Run]) {
    let before = runs.iter().step_by(2).map(|run| Run {
        end_us: None,
        name: Some("earlier".to_owned()),
        total_tokens: Some(7),
        ..run.clone()
    });
    let shape = Shape {
        export_id: Uuid::from_u128(0x0e),
        ..Shape::default()
    };
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for file in write(dir, &before.collect::<Vec<_>>(), &shape) {
        let file = File::options().write(true).open(&file.path).unwrap();
        file.set_modified(written).unwrap();
    }
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let populations = ["root", "all", "steps", "llm", "chain", "tool"];
    let orders = [
        RunOrder::Latency,
        RunOrder::FirstToken,
        RunOrder::Tokens,
        RunOrder::Cost,
        RunOrder::Start,
    ];
    let limit = prop_oneof![2 => 1..12_usize, 1 => Just(1_000)];
    let population = prop_oneof![1 => Just("root"), 1 => select(populations.to_vec())];
    (population, select(orders.to_vec()), any::<bool>(), limit).prop_map(
        |(population, by, ascending, limit)| Listing {
            runs: population.parse().unwrap(),
            by,
            ascending,
            limit,
            link: None,
        },
    )
}

/// One form or several, some without columns that runs can do without.
fn any_shapes() -> impl Strategy<Value = Vec<Shape>> {
    let optional = vec![
        "parent_run_ids",
        "run_type",
        "is_root",
        "end_time",
        "first_token_time",
        "trace_tier",
        "inputs",
        "feedback_stats",
        "total_tokens",
        "prompt_tokens",
        "total_cost",
        "completion_cost",
    ];
    let dropped = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(optional, 0..4)];
    let shape = (any_form(), dropped).prop_map(|(shape, dropped)| Shape { dropped, ..shape });
    vec(shape, 1..3)
}

proptest! {
    #![proptest_config(quick(40))]

    #[test]
    fn runs_are_listed_as_the_reference_lists_them(
        runs in any_runs(3, 40),
        shapes in any_shapes(),
        listing in any_listing(),
        window in any_window(),
        metadata in any_metadata(3),
        project in proptest::option::weighted(0.2, 0..4_usize),
        usage in any_usage(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            project: project.map(project_id),
            usage,
            metadata,
            ..Question::default()
        };
        check(&runs, &shapes, question, &listing, false);
    }

    #[test]
    fn so_are_those_that_filters_keep(
        runs in any_runs(2, 40),
        listing in any_listing(),
        window in any_window(),
        filters in [any_filter(), any_filter(), any_filter()],
        chosen in 1..8_usize,
        usage in any_usage(),
    ) {
        let [filter, trace_filter, tree_filter] = [0, 1, 2].map(|place| {
            let text = filters[place].replace(if place == 2 { "root." } else { "" }, "");
            let text = Some(text).filter(|_| chosen & (1 << place) != 0);
            text.map(|text| Filter::parse(&text).unwrap())
        });
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            filter,
            trace_filter,
            tree_filter,
            ..Question::default()
        };
        check(&runs, &[Shape::default()], question, &listing, false);
    }

    #[test]
    fn of_a_run_that_exports_repeat_the_newest_record_is_listed(
        runs in any_runs(2, 40),
        shape in any_form(),
        listing in any_listing(),
        window in any_window(),
        usage in any_usage(),
    ) {
        let question = Question {
            since_us: window.0,
            until_us: window.1,
            usage,
            ..Question::default()
        };
        check(&runs, &[shape], question, &listing, true);
    }
}

fn newest(limit: usize) -> Listing {
    Listing {
        runs: Population::Traces,
        by: RunOrder::Start,
        ascending: false,
        limit,
        link: None,
    }
}

fn lines_of(answer: &Runs) -> String {
    serde_json::to_string(&answer.runs).unwrap()
}

/// Runs without ids, all equal in what they are sorted by: what else is known of them decides.
#[test]
fn ties_are_broken_alike_whatever_the_files_and_threads() {
    let runs: Vec<Run> = (0..300_u64)
        .map(|n| Run {
            total_tokens: Some(i64::try_from(n * 7 % 40).unwrap()),
            error: Some(format!("Timeout {}: late", n * 11 % 60)),
            trace_id: None,
            ..Run::completed_root(n, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1_000_000)
        })
        .collect();
    let answers = [
        (1, 1, None),
        (3, 1, Some(1)),
        (3, 4, Some(2)),
        (7, 3, Some(3)),
    ];
    let answers = answers.map(|(n_files, threads, shuffle_seed)| {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape {
            n_files,
            shuffle_seed,
            row_group_rows: 20,
            dropped: vec!["id"],
            ..Shape::default()
        };
        write(dir.path(), &runs, &shape);
        let limits = Limits {
            threads: NonZeroUsize::new(threads),
            ..Limits::default()
        };
        lines_of(&ask(dir.path(), &limits, &Request::default(), &newest(25)).unwrap())
    });
    for answer in &answers[1..] {
        assert_eq!(answer, &answers[0]);
    }
}

#[test]
fn only_the_first_runs_are_kept() {
    let (dir, _) = exports(2);
    let request = Request::default();
    for runs in [Population::Traces, Population::All] {
        let listing = Listing { runs, ..newest(7) };
        let answer = ask(dir.path(), &Limits::default(), &request, &listing).unwrap();
        assert_eq!(answer.runs.len(), 7);
        let plan = answer.about.explain();
        let plan = plan.lines().find(|line| line.contains("SortExec: TopK"));
        assert!(plan.unwrap().contains("fetch=7"), "{plan:?}");
    }
}

/// It is found by its trace's id, and has no page of its own.
#[test]
fn a_trace_without_its_root_is_listed_by_its_trace() {
    let dir = tempfile::tempdir().unwrap();
    let root = Run::completed_root(1, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 9_000_000);
    let children = [2, 3].map(|n| Run {
        trace_id: Some(root.id),
        parent_run_id: Some(root.id),
        is_root: Some(false),
        dotted_order: None,
        total_tokens: Some(5),
        ..Run::completed_root(n, FIRST_MIDNIGHT_US + 1, FIRST_MIDNIGHT_US + 2_000_001)
    });
    write(dir.path(), &children, &Shape::default());
    let request = Request {
        usage: Usage::Own,
        ..Request::default()
    };
    for (template, link) in [
        (TEMPLATE, None),
        (
            "https://x.y/{trace_id}",
            Some(format!("https://x.y/{}", root.id)),
        ),
    ] {
        let listing = Listing {
            link: Some(template.parse().unwrap()),
            ..newest(9)
        };
        let answer = ask(dir.path(), &Limits::default(), &request, &listing).unwrap();
        let [line] = answer.runs.as_slice() else {
            panic!("{:?}", answer.runs);
        };
        assert_eq!(
            (&line.id, &line.trace_id),
            (&None, &Some(root.id.to_string()))
        );
        assert_eq!(
            (line.total_tokens, line.latency),
            (Some(10), Some(Nanoseconds(2_000_000_000)))
        );
        assert_eq!(line.link, link);
    }
}

/// An ordinary run.
fn run(nth: u128) -> RunLine {
    let id = Uuid::from_u128(0x0193_a2f0_7c4e_7d11_8f3a_0000_0000_0000 + nth * 0x1357_9bdf);
    let ms = |ms: u128| Some(Nanoseconds(ms * 1_000_000));
    let cost = |pico| {
        Some(Cost {
            pico,
            format: CostFormat::String,
        })
    };
    let start_us = 1_793_404_800_123_456 - i64::try_from(nth).unwrap() * 37_000_001;
    RunLine {
        id: Some(id.to_string()),
        trace_id: Some(id.to_string()),
        session_id: Uuid::from_u128(7).to_string(),
        project: "support-bot".to_owned(),
        name: Some("answer_customer".to_owned()),
        run_type: Some("chain".to_owned()),
        status: Some("success".to_owned()),
        start_time: Timestamp(start_us),
        end_time: Some(Timestamp(start_us + 2_149_000)),
        latency: ms(2_149 * (nth + 1)),
        first_token: ms(640),
        total_tokens: Some(12_345 + i128::try_from(nth).unwrap()),
        prompt_tokens: Some(12_000),
        completion_tokens: Some(345),
        total_cost: cost(21_490_000_000),
        prompt_cost: cost(20_000_000_000),
        completion_cost: cost(1_490_000_000),
        error_class: None,
        error: None,
        model: Some("gpt-5".to_owned()),
        user: Some("user-000460".to_owned()),
        thread: Some("t1".to_owned()),
        link: None,
    }
}

/// Ordinary runs, one that failed, one of which little is known, and a hostile one.
fn listed() -> Vec<RunLine> {
    let failed = RunLine {
        status: Some("error".to_owned()),
        error_class: Some("RateLimitError".to_owned()),
        error: Some("RateLimitError: 429, try again".to_owned()),
        latency: Some(Nanoseconds(63_000_000_000)),
        ..run(1)
    };
    let unknown = RunLine {
        id: None,
        name: None,
        run_type: None,
        status: None,
        end_time: None,
        latency: None,
        first_token: None,
        total_tokens: None,
        total_cost: None,
        user: None,
        ..run(2)
    };
    let hostile = || Some(HOSTILE.to_owned());
    let own = RunLine {
        total_tokens: Some(-12),
        total_cost: run(3).total_cost.map(|cost| Cost {
            pico: -cost.pico,
            ..cost
        }),
        name: Some("顧客対応アシスタント・本番環境・とても長い名前".to_owned()),
        status: Some("pending".to_owned()),
        ..run(3)
    };
    let hostile = RunLine {
        id: hostile(),
        name: hostile(),
        status: hostile(),
        error_class: hostile(),
        user: hostile(),
        ..run(4)
    };
    vec![run(0), failed, unknown, own, hostile]
}

fn written(runs: &[RunLine], listing: &Listing, format: Format, style: &Style) -> String {
    let mut bytes = Vec::new();
    let listed = Listed { listing, runs };
    let left_out = output::write_runs(&mut bytes, &listed, format, style).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    if format == Format::Table && style.width.is_some() {
        format!("{text}(left out: {left_out:?})")
    } else {
        text
    }
}

fn within(width: usize) -> Style {
    Style {
        width: Some(width),
        ..Style::default()
    }
}

fn with_links(runs: &mut [RunLine]) -> Listing {
    let template: runtally::LinkTemplate = TEMPLATE.parse().unwrap();
    for run in runs {
        let (id, trace) = (run.id.as_deref(), run.trace_id.as_deref());
        run.link = template.link(id, trace, &run.session_id);
    }
    Listing {
        link: Some(template),
        ..newest(20)
    }
}

#[test]
fn tables_of_runs() {
    for width in [60, 100, 160, 240] {
        let table = written(&listed(), &newest(20), Format::Table, &within(width));
        insta::assert_snapshot!(format!("runs_{width}"), table);
    }
    let by_tokens = Listing {
        by: RunOrder::FirstToken,
        ..newest(20)
    };
    let table = written(&listed(), &by_tokens, Format::Table, &within(60));
    insta::assert_snapshot!("runs_by_first_token_60", table);
    let mut of_two_projects = vec![run(0), run(1)];
    of_two_projects[1].session_id = "other".to_owned();
    of_two_projects[1].project = "docs-search".to_owned();
    let table = written(&of_two_projects, &newest(20), Format::Table, &within(160));
    insta::assert_snapshot!("runs_of_two_projects_160", table);
}

#[test]
fn runs_as_markdown_and_csv() {
    let mut runs = listed();
    let style = Style::default();
    let plain = written(&runs, &newest(20), Format::Markdown, &style);
    assert!(!plain.contains("link"), "{plain}");
    let listing = with_links(&mut runs);
    insta::assert_snapshot!(
        "runs_markdown",
        written(&runs, &listing, Format::Markdown, &style)
    );
    insta::assert_snapshot!("runs_csv", written(&runs, &listing, Format::Csv, &style));
}

#[test]
fn csv_has_the_keys_and_the_figures_of_json() {
    let mut runs = vec![run(0), run(1)];
    let listing = with_links(&mut runs);
    let style = Style::default();
    let json: Vec<serde_json::Map<String, Value>> =
        serde_json::from_str(&written(&runs, &listing, Format::Json, &style)).unwrap();
    let lines = written(&runs, &listing, Format::Jsonl, &style);
    let lines: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json, lines);
    let text = written(&runs, &listing, Format::Csv, &style);
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let header: Vec<String> = csv.headers().unwrap().iter().map(str::to_owned).collect();
    let keys: Vec<&String> = json[0].keys().collect();
    assert_eq!(header.iter().collect::<Vec<_>>(), keys);
    for (row, run) in csv.records().zip(&json) {
        let values = run.values().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        assert_eq!(
            row.unwrap().iter().collect::<Vec<_>>(),
            values.collect::<Vec<_>>()
        );
    }
}

#[test]
fn ids_are_links_on_a_colour_terminal_only() {
    let mut runs = vec![run(0)];
    let listing = with_links(&mut runs);
    let link = runs[0].link.clone().unwrap();
    let style = |color, terminal| Style {
        color,
        terminal,
        ..within(100)
    };
    let plain = written(&runs, &listing, Format::Table, &style(false, true));
    for other in [style(true, false), style(false, false)] {
        assert!(!written(&runs, &listing, Format::Table, &other).contains("\u{1b}]8"));
    }
    let linked = written(&runs, &listing, Format::Table, &style(true, true));
    let id = plain
        .split('\n')
        .nth(3)
        .unwrap()
        .split("  ")
        .next()
        .unwrap();
    let wanted = format!("\u{1b}]8;;{link}\u{1b}\\{id}\u{1b}]8;;\u{1b}\\  ");
    assert!(linked.contains(&wanted), "{linked:?}");
}

#[test]
fn runs_that_failed_are_tinted() {
    let style = Style {
        color: true,
        ..within(200)
    };
    let text = written(&listed(), &newest(20), Format::Table, &style);
    let tinted = text.lines().filter(|line| line.contains("\u{1b}[31m"));
    assert_eq!(tinted.count(), 2, "{text}");
}

proptest! {
    #![proptest_config(quick(200))]

    #[test]
    fn tables_keep_to_their_width(
        texts in vec(prop_oneof![Just(HOSTILE.to_owned()), any::<String>()], 5),
        width in 1..200_usize,
        has_links: bool,
    ) {
        let text = |place: usize| Some(texts[place].clone());
        let mut runs = listed();
        runs.push(RunLine {
            id: text(0),
            name: text(1),
            status: text(2),
            error_class: text(3),
            user: text(4),
            ..run(5)
        });
        let listing = if has_links { with_links(&mut runs) } else { newest(20) };
        let style = Style { terminal: true, ..within(width) };
        let mut bytes = Vec::new();
        let listed = Listed { listing: &listing, runs: &runs };
        output::write_runs(&mut bytes, &listed, Format::Table, &style).unwrap();
        for line in String::from_utf8(bytes).unwrap().lines() {
            prop_assert!(line.width() <= width, "{line:?}");
        }
    }
}

#[test]
fn the_command_lists_the_latest_traces() {
    let (dir, _) = exports(2);
    let text = answer(dir.path(), &["runs", "exports"]);
    let runs: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(runs.len(), 20);
    assert!(runs.iter().all(|run| run["id"] == run["trace_id"]));
    let starts = runs.iter().map(|run| run["start_time"].as_str().unwrap());
    assert!(starts.is_sorted_by(|one, next| one >= next));
    let more = answer(dir.path(), &["runs", "exports", "--limit", "1000"]);
    let all: Vec<Value> = serde_json::from_str(&more).unwrap();
    assert_eq!(all[..20], runs);
    let total = answer(
        dir.path(),
        &["stats", "exports", "--select", "traces", "-f", "csv"],
    );
    assert_eq!(total.lines().nth(1), Some(all.len().to_string().as_str()));

    let cheapest = [
        "runs", "exports", "--sort", "cost:asc", "--runs", "llm", "-f", "jsonl",
    ];
    let lines = answer(dir.path(), &cheapest);
    let runs: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(runs.len(), 20);
    assert!(runs.iter().all(|run| run["run_type"] == "llm"));
    let costs = runs
        .iter()
        .filter_map(|run| run["total_cost"].as_str()?.parse::<f64>().ok());
    assert!(costs.is_sorted());
}

#[test]
fn the_summary_says_what_is_listed() {
    let (dir, _) = exports(1);
    for (flags, said) in [
        (
            vec![],
            "all time (UTC) · 20 traces · latest first · at most 20 · usage from roots · ",
        ),
        (
            vec!["--runs", "all", "--sort", "cost", "--limit", "3"],
            "· 3 runs · greatest cost first · at most 3 · usage of each run without those below it · ",
        ),
        (
            vec![
                "--runs",
                "llm",
                "--sort",
                "first_token:asc",
                "--limit",
                "7777",
            ],
            "runs · least time to first token first · ",
        ),
    ] {
        let args = [vec!["runs", "exports", "-f", "table"], flags].concat();
        let output = runtally(dir.path(), &args);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
}

#[test]
fn nothing_found_is_said_and_no_failure() {
    let (dir, _) = exports(1);
    let asked = |format| ["runs", "exports", "--since", "2030-01-01", "-f", format];
    let output = runtally(dir.path(), &asked("table"));
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "no traces\n")
    );
    assert!(
        output
            .stderr
            .contains("hint: no trace starts in this window; the data covers "),
        "{}",
        output.stderr
    );
    assert_eq!(answer(dir.path(), &asked("json")), "[]\n");
    assert_eq!(answer(dir.path(), &asked("jsonl")), "");
    assert_eq!(answer(dir.path(), &asked("csv")).lines().count(), 1);
    let output = runtally(
        dir.path(),
        &["runs", "exports", "--runs", "retreiver", "-f", "table"],
    );
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "no runs\n")
    );
}

#[test]
fn a_wrong_flag_is_told_with_a_hint() {
    let (dir, _) = exports(1);
    for (flags, problem, hint) in [
        (
            ["--limit", "0"],
            "--limit: 0 runs are no list",
            "write 1 or more",
        ),
        (["--limit", "-1"], "'-1'", "--help"),
        (
            ["--sort", "latnecy"],
            "\"latnecy\" is not an order of runs",
            "did you mean latency?",
        ),
        (
            ["--sort", "cost:up"],
            "\"cost:up\" is not",
            "write one of latency, ",
        ),
        (
            ["--runs", ""],
            "no runs are named",
            "write root, all, steps",
        ),
        (
            ["--link-template", "https://x.y/{run_id}"],
            "\"run_id\" is not a part of a link",
            "write one of id, trace_id",
        ),
        (
            ["--link-template", "https://x.y/"],
            "every run's link",
            "{trace_id}",
        ),
        (["--link-template", "x.y/{id}"], "is no address", "https://"),
        (["--filter", "eq(nme, 1)"], "nme", "name"),
        (
            ["--facets", "--json"],
            "runs have no facets",
            "runtally show --facets",
        ),
    ] {
        let [flag, value] = flags;
        let flag_and_value = [format!("{flag}={value}")];
        let args = match flag {
            "--facets" => vec!["runs", "exports", flag],
            _ => vec!["runs", "exports", flag_and_value[0].as_str()],
        };
        let text = refusal(dir.path(), &args, 2);
        assert!(
            text.contains(problem) && text.contains(hint),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn a_template_links_each_run() {
    let (dir, projects) = exports(1);
    let args = [
        "runs",
        "exports",
        "--limit",
        "2",
        "--link-template",
        TEMPLATE,
    ];
    let text = answer(dir.path(), &args);
    let runs: Vec<Value> = serde_json::from_str(&text).unwrap();
    for run in &runs {
        let id = run["id"].as_str().unwrap();
        let link = format!("https://x.y/p/{}/r/{id}?trace_id={id}", projects[0].id);
        assert_eq!(run["link"], link.as_str());
    }
    let csv = answer(dir.path(), &[&args[..], &["-f", "csv"]].concat());
    let rows: Vec<&str> = csv.lines().collect();
    assert!(
        rows[0].ends_with(",thread,link") && rows[1].ends_with(runs[0]["link"].as_str().unwrap())
    );
    let markdown = runtally(dir.path(), &[&args[..], &["-f", "md"]].concat()).stdout;
    assert!(markdown.contains("[open](<https://x.y/p/"), "{markdown}");

    let by_environment = command(dir.path(), &args[..4])
        .env("RUNTALLY_LINK_TEMPLATE", TEMPLATE)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(by_environment.stdout).unwrap(), text);
    assert!(!answer(dir.path(), &args[..4]).contains("link"));
}

#[test]
fn costs_are_numbers_where_that_is_asked_for() {
    let (dir, _) = exports(1);
    let args = [
        "runs",
        "exports",
        "--sort",
        "cost",
        "--limit",
        "1",
        "-o",
        "first.json",
    ];
    let first = |format: &str| {
        answer(
            dir.path(),
            &[&args[..], &["--cost-format", format]].concat(),
        );
        let text = fs::read_to_string(dir.path().join("first.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()[0]["total_cost"].clone()
    };
    let (text, number) = (first("string"), first("number"));
    assert!(number.is_number());
    assert_eq!(text.as_str().unwrap(), number.to_string());
}

#[test]
fn a_trace_may_use_more_than_a_run_can_say() {
    const DOLLARS: i128 = 9_000_000;
    let dir = tempfile::tempdir().unwrap();
    let root = Run::completed_root(1, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 9_000_000);
    let mut runs = vec![root.clone()];
    runs.extend([2, 3].map(|n| Run {
        trace_id: Some(root.id),
        parent_run_id: Some(root.id),
        is_root: Some(false),
        dotted_order: None,
        total_cost: Some(run::Cost::of_text(&DOLLARS.to_string())),
        ..Run::completed_root(n, FIRST_MIDNIGHT_US, FIRST_MIDNIGHT_US + 1)
    }));
    write(dir.path(), &runs, &Shape::default());
    let listing = Listing {
        by: RunOrder::Cost,
        ..newest(9)
    };
    let answer = ask(
        dir.path(),
        &Limits::default(),
        &Request::default(),
        &listing,
    )
    .unwrap();
    assert_eq!(answer.usage, Usage::Own);
    let costs = answer
        .runs
        .iter()
        .map(|run| run.total_cost.unwrap().to_string());
    assert_eq!(costs.collect::<Vec<_>>(), [(2 * DOLLARS).to_string()]);
}
