//! What is answered: the bytes of the command line, pages that are whole, errors as clients know them.

use std::path::Path;
use std::process::Command;
use std::thread;

use runtally::generate::{self, Options};
use runtally::server::ServerOptions;
use serde_json::{Value, json};

use super::client::{Answer, Served};

fn export(dir: &Path) {
    let options = Options {
        rows: 3_000,
        projects: 3,
        days: 4,
        seed: 7,
        ..Options::default()
    };
    generate::generate(dir, &options).unwrap();
}

fn runtally(arguments: &[&str], dir: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_runtally"))
        .args(arguments)
        .arg(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ids(answer: &Answer) -> Vec<String> {
    let values = answer.json();
    let values = values.as_array().unwrap().iter();
    values
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn documents_are_those_of_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let all = ids(&server.get("/sessions"));
    assert_eq!(all.len(), 3);
    for (query, flags) in [
        ("include_stats=true", vec![]),
        ("include_stats=True&limit=1&unknown=x", vec![]),
        ("", vec!["--no-stats"]),
        (
            "include_stats=1&stats_start_time=2026-10-30T00%3A00%3A00%2B00%3A00",
            vec!["--since", "2026-10-30"],
        ),
        ("include_stats=true&facets=true", vec!["--facets"]),
        (
            "include_stats=true&stats_filter=gt(latency,%20%225s%22)",
            vec!["--filter", "gt(latency, \"5s\")"],
        ),
    ] {
        for id in &all {
            let expected = runtally(
                &[&["show", "--json", "-q", "-p", id], &flags[..]].concat(),
                dir.path(),
            );
            for base in ["", "/api/v1"] {
                let answer = server.get(&format!("{base}/sessions/{id}?{query}"));
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.header("content-type"), "application/json");
                assert_eq!(answer.body + "\n", expected, "{query}");
            }
        }
        let expected = runtally(
            &[&["list", "--json", "-q"], &flags[..]].concat(),
            dir.path(),
        );
        let answer = server.get(&format!(
            "/sessions?{}",
            query.replace("limit=1", "limit=100")
        ));
        assert_eq!(answer.header("x-pagination-total"), "3");
        assert_eq!(answer.body + "\n", expected, "{query}");
    }
}

#[test]
fn lists_are_paged_sorted_and_narrowed() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let all = server.get("/sessions?include_stats=true").json();
    let all = all.as_array().unwrap();
    for (sort, field) in [
        ("name", "name"),
        ("start_time", "start_time"),
        ("last_run_start_time", "last_run_start_time"),
        ("latency_p50", "latency_p50"),
        ("latency_p99", "latency_p99"),
        ("error_rate", "error_rate"),
        ("runs_count", "run_count"),
    ] {
        let mut expected: Vec<&Value> = all.iter().collect();
        expected.sort_by(|one, other| {
            let (one, other) = (&one[field], &other[field]);
            match (one.as_f64(), other.as_f64()) {
                (Some(one), Some(other)) => one.total_cmp(&other),
                _ => one.as_str().cmp(&other.as_str()),
            }
        });
        for desc in [false, true] {
            // Statistics are computed for the order also where none are shown.
            let mut paged = Vec::new();
            for offset in 0..4 {
                let query = format!("sort_by={sort}&sort_by_desc={desc}&limit=1&offset={offset}");
                let page = server.get(&format!("/sessions?{query}"));
                assert_eq!(page.header("x-pagination-total"), "3");
                paged.extend(ids(&page));
            }
            let mut wanted: Vec<&str> = expected
                .iter()
                .map(|one| one["id"].as_str().unwrap())
                .collect();
            if desc {
                wanted.reverse();
            }
            assert_eq!(paged, wanted, "{sort} {desc}");
        }
    }
    let first = &all[0];
    let (id, name) = (
        first["id"].as_str().unwrap(),
        first["name"].as_str().unwrap(),
    );
    let metadata = first["extra"]["metadata"].to_string().replace('"', "%22");
    for (query, expected) in [
        (format!("id={id}"), 1),
        (format!("name={name}"), 1),
        ("name=nobody".to_owned(), 0),
        (format!("name_contains={}", name[1..].to_uppercase()), 1),
        ("reference_free=true".to_owned(), 3),
        ("reference_free=False".to_owned(), 0),
        (format!("reference_dataset={id}"), 0),
        (format!("metadata={metadata}"), 1),
        (format!("filter=eq(name,%22{name}%22)"), 1),
        (format!("filter=not(eq(id,%22{id}%22))"), 2),
        ("filter=lt(start_time,%222020-01-01%22)".to_owned(), 0),
    ] {
        let answer = server.get(&format!("/sessions?{query}"));
        assert_eq!(ids(&answer).len(), expected, "{query} {answer:?}");
        assert_eq!(answer.header("x-pagination-total"), expected.to_string());
    }
    let narrowed = server
        .get("/sessions?include_stats=true&stats_select=run_count")
        .json();
    assert!(narrowed[0]["run_count"].is_number() && narrowed[0]["latency_p50"].is_null());
}

#[test]
fn v2_pages_and_documents() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let v1 = server
        .get("/sessions?include_stats=true&sort_by=name&sort_by_desc=false")
        .json();
    let (mut cursor, mut found) = (String::new(), Vec::new());
    loop {
        let query = "include_stats=true&page_size=2&sort_by=NAME&sort_order=asc";
        let page = server
            .get(&format!("/api/v2/sessions?{query}&cursor={cursor}"))
            .json();
        found.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(found.len(), 3);
    for (one, other) in found.iter().zip(v1.as_array().unwrap()) {
        for same in [
            "id",
            "name",
            "run_count",
            "latency_p99",
            "total_tokens",
            "error_rate",
            "start_time",
        ] {
            assert_eq!(one[same], other[same], "{same}");
        }
        assert_eq!(one["type"], "PROJECT");
        let tier = match other["trace_tier"].as_str() {
            Some("longlived") => "LONG_LIVED",
            _ => "SHORT_LIVED",
        };
        assert_eq!(one["trace_tier"], tier);
        assert_eq!(
            one["total_cost"].to_string(),
            other["total_cost"].as_str().unwrap()
        );
        for (key, stats) in one["feedback_stats"].as_object().unwrap() {
            assert_eq!(stats["n"], other["feedback_stats"][key]["n"]);
            assert_eq!(stats["type"], "PRIMARY");
        }
        let id = one["id"].as_str().unwrap();
        assert_eq!(
            &server
                .get(&format!("/api/v2/sessions/{id}?include_stats=true"))
                .json(),
            one
        );
    }
}

#[test]
fn runs_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let session = ids(&server.get("/sessions"))[0].clone();
    let all = server
        .post("/runs/stats", &json!({"session": [session]}))
        .json();
    let document = server
        .get(&format!("/sessions/{session}?include_stats=true"))
        .json();
    // Traces are what the document is of.
    let roots = server.post(
        "/api/v1/runs/stats",
        &json!({"session": [session], "is_root": true}),
    );
    let roots = roots.json();
    for same in [
        "run_count",
        "latency_p50",
        "total_cost",
        "total_tokens",
        "error_rate",
        "feedback_stats",
    ] {
        assert_eq!(roots[same], document[same], "{same}");
    }
    // Plain sums: those below roots count again.
    assert!(all["total_tokens"].as_i64() > document["total_tokens"].as_i64());
    assert_eq!(all.get("run_facets"), None);
    let body = json!({"session": [session], "select": ["run_count"], "group_by": {"attribute": "run_type"}});
    let groups = server.post("/runs/stats", &body).json();
    let groups = groups.as_object().unwrap();
    let sum: i64 = groups
        .values()
        .map(|group| group["run_count"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, all["run_count"].as_i64().unwrap());
    assert!(
        groups
            .values()
            .all(|group| group.as_object().unwrap().len() == 1)
    );
    let few = json!({"session": [session], "group_by": {"attribute": "run_type", "max_groups": 2}});
    assert_eq!(
        server
            .post("/runs/stats", &few)
            .json()
            .as_object()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn pages_of_runs_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let session = ids(&server.get("/sessions"))[0].clone();
    let all = server
        .post("/runs/stats", &json!({"session": [session]}))
        .json();
    for order in ["desc", "asc"] {
        let mut body = json!({"session": [session], "limit": 100, "order": order, "select": ["name", "inputs"]});
        let mut runs = Vec::new();
        loop {
            let page = server.post("/runs/query", &body);
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            runs.extend(page["runs"].as_array().unwrap().clone());
            match page["cursors"]["next"].as_str() {
                Some(next) => body["cursor"] = json!(next),
                None => break,
            }
        }
        assert_eq!(json!(runs.len()), all["run_count"]);
        let places = runs.iter().map(|run| {
            (
                run["start_time"].as_str().unwrap(),
                run["id"].as_str().unwrap(),
            )
        });
        let places: Vec<_> = places.collect();
        // Fractions have no trailing zeros, so texts are no order of moments; ids are each there once.
        let mut ids: Vec<_> = places.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), runs.len());
        let days: Vec<&str> = places.iter().map(|(start, _)| &start[..19]).collect();
        assert!(days.windows(2).all(|pair| if order == "asc" {
            pair[0] <= pair[1]
        } else {
            pair[0] >= pair[1]
        }));
        assert!(runs[0]["inputs"].is_object() && runs[0].get("outputs").is_none());
    }
}

#[test]
fn runs_are_those_that_were_meant() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let session = ids(&server.get("/sessions"))[0].clone();
    let all = server
        .post("/runs/stats", &json!({"session": [session]}))
        .json();
    // Each filter is that of the filter language.
    let count = |more: Value| {
        let mut body = json!({"session": [session]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let counted = server.post("/runs/stats", &body).json()["run_count"]
            .as_i64()
            .unwrap();
        body["limit"] = json!(100);
        let listed = server.post("/runs/query", &body).json();
        let listed = i64::try_from(listed["runs"].as_array().unwrap().len()).unwrap();
        assert_eq!(listed, counted.min(100), "{body}");
        counted
    };
    let whole = server.post(
        "/runs/query",
        &json!({"session": [session], "is_root": false, "limit": 1}),
    );
    let run = whole.json()["runs"][0].clone();
    for field in [
        "dotted_order",
        "extra",
        "tags",
        "inputs",
        "outputs",
        "events",
        "parent_run_id",
        "status",
    ] {
        assert!(!run[field].is_null(), "{field} of {run}");
    }
    assert_eq!(count(json!({"id": [run["id"]]})), 1);
    assert!(count(json!({"trace": run["trace_id"]})) > 1);
    assert!(count(json!({"parent_run": run["parent_run_id"]})) > 0);
    let both = [json!({"error": true}), json!({"error": false})].map(&count);
    assert_eq!(both.iter().sum::<i64>(), all["run_count"].as_i64().unwrap());
    let both = [json!({"is_root": true}), json!({"is_root": false})].map(&count);
    assert_eq!(both.iter().sum::<i64>(), all["run_count"].as_i64().unwrap());
    let both = [
        json!({"start_time": "2026-10-30"}),
        json!({"end_time": "2026-10-30T00:00:00"}),
    ]
    .map(&count);
    assert_eq!(both.iter().sum::<i64>(), all["run_count"].as_i64().unwrap());
    assert_eq!(
        count(json!({"run_type": "llm"})),
        count(json!({"filter": "eq(run_type, \"llm\")"}))
    );
    assert!(
        count(json!({"trace_filter": "eq(status, \"error\")"}))
            >= count(json!({"filter": "and(eq(is_root, true), eq(status, \"error\"))"}))
    );
    assert_eq!(count(json!({"reference_example": [session]})), 0);
}

#[test]
fn figures_of_any_question_are_those_of_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    for (query, flags) in [
        ("", vec!["--json"]),
        (
            "group_by=project&every=1d&format=csv&select=traces,p95,cost",
            vec![
                "-g",
                "project",
                "--every",
                "1d",
                "-f",
                "csv",
                "--select",
                "traces,p95,cost",
            ],
        ),
        (
            "runs=llm&group-by=model&format=jsonl&percentiles=50,99.9",
            vec![
                "--runs",
                "llm",
                "-g",
                "model",
                "-f",
                "jsonl",
                "--percentiles",
                "50,99.9",
            ],
        ),
        (
            "period=2026-10-30&timezone=Europe/Berlin&error=true",
            vec![
                "--period",
                "2026-10-30",
                "-z",
                "Europe/Berlin",
                "--error",
                "--json",
            ],
        ),
        (
            "slo=latency%3C15s:99%25&project=support-bot",
            vec!["--slo", "latency<15s:99%", "-p", "support-bot", "--json"],
        ),
    ] {
        let answer = server.get(&format!("/stats?{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = runtally(&[&["stats", "-q"], &flags[..]].concat(), dir.path());
        assert_eq!(answer.body.trim_end(), expected.trim_end(), "{query}");
    }
    let csv = server.ask("GET", "/stats", &[("accept", "text/csv")], "");
    assert!(csv.header("content-type").starts_with("text/csv"));
}

#[test]
fn mistakes_are_told_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let nobody = "00000000-0000-0000-0000-00000000000a";
    for (path, status) in [
        (format!("/sessions/{nobody}?include_stats=true"), 404),
        (format!("/api/v2/sessions/{nobody}"), 404),
        ("/nothing".to_owned(), 404),
        ("/stats?project=nobody".to_owned(), 404),
        ("/sessions/x".to_owned(), 422),
        ("/sessions?limit=0".to_owned(), 422),
        ("/sessions?limit=101".to_owned(), 422),
        ("/sessions?offset=-1".to_owned(), 422),
        ("/sessions?include_stats=perhaps".to_owned(), 422),
        ("/sessions?id=x".to_owned(), 422),
        ("/sessions?sort_by=luck".to_owned(), 422),
        ("/sessions?sort_by=feedback".to_owned(), 422),
        ("/sessions?stats_start_time=soon".to_owned(), 422),
        (
            "/sessions?include_stats=true&stats_filter=eq(".to_owned(),
            422,
        ),
        ("/sessions?stats_select=luck".to_owned(), 422),
        ("/sessions?filter=eq(run_type,%22llm%22)".to_owned(), 422),
        ("/sessions?metadata=3".to_owned(), 422),
        ("/sessions?name=%FF".to_owned(), 200),
        ("/api/v2/sessions?page_size=0".to_owned(), 422),
        ("/api/v2/sessions?cursor=x".to_owned(), 422),
        ("/api/v2/sessions?type=X".to_owned(), 422),
        ("/stats?group_by=luck".to_owned(), 422),
        ("/stats?every=0d".to_owned(), 422),
        ("/stats?every=1s".to_owned(), 422),
        ("/stats?since=2026-10-02&until=2026-10-01".to_owned(), 422),
        ("/stats?format=parquet".to_owned(), 422),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, status, "{path} {answer:?}");
        let detail = &answer.json()["detail"];
        match status {
            422 => assert!(
                detail[0]["loc"].is_array() && detail[0]["msg"].is_string(),
                "{answer:?}"
            ),
            404 => assert!(detail.is_string()),
            _ => {}
        }
    }
}

#[test]
fn mistakes_in_bodies_are_told() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    for (path, body, status) in [
        ("/runs/query", "{}", 422),
        ("/runs/query", "", 422),
        ("/runs/query", "[", 422),
        ("/runs/query", "[]", 422),
        ("/runs/query", r#"{"session": ["x"]}"#, 422),
        (
            "/runs/query",
            r#"{"session": ["00000000-0000-0000-0000-00000000000a"]}"#,
            404,
        ),
        (
            "/runs/query",
            r#"{"id": ["00000000-0000-0000-0000-00000000000a"], "limit": 101}"#,
            422,
        ),
        (
            "/runs/query",
            r#"{"id": ["00000000-0000-0000-0000-00000000000a"], "cursor": "x"}"#,
            422,
        ),
        (
            "/runs/query",
            r#"{"id": ["00000000-0000-0000-0000-00000000000a"], "filter": "eq(x)"}"#,
            422,
        ),
        (
            "/runs/query",
            r#"{"id": ["00000000-0000-0000-0000-00000000000a"]}"#,
            200,
        ),
        ("/runs/stats", r#"{"group_by": {"attribute": "luck"}}"#, 422),
        (
            "/runs/stats",
            r#"{"group_by": {"attribute": "metadata"}}"#,
            422,
        ),
        ("/runs/stats", r#"{"select": ["luck"]}"#, 422),
        (
            "/runs/stats",
            r#"{"tree_filter": "eq(root.name, \"x\")"}"#,
            422,
        ),
        (
            "/runs/stats",
            r#"{"start_time": "2026-10-02", "end_time": "2026-10-01"}"#,
            422,
        ),
    ] {
        let answer = server.ask("POST", path, &[], body);
        assert_eq!(answer.status, status, "{body} {answer:?}");
    }
    let large = server.ask("POST", "/runs/stats", &[], &" ".repeat((1 << 20) + 1));
    assert_eq!(large.status, 413);
    assert_eq!(server.ask("DELETE", "/sessions", &[], "").status, 405);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(
        server.get("/info").json()["instance_flags"]["sdb_query_enabled"],
        false
    );
}

#[test]
fn the_same_question_is_computed_once_and_too_many_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path());
    let options = ServerOptions {
        n_questions: 1,
        n_waiting: 1,
        ..ServerOptions::default()
    };
    let server = Served::of(&[dir.path()], options);
    server.get("/metrics");
    let before = server.metric("runtally_questions_total");
    let same = "/stats?group_by=name&runs=all";
    let bodies = thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| server.get(same))).collect();
        asked
            .into_iter()
            .map(|one| one.join().unwrap().body)
            .collect::<Vec<_>>()
    });
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert!((server.metric("runtally_questions_total") - before - 1.0).abs() < 0.5);
    let answers = thread::scope(|scope| {
        let server = &server;
        let asked = (0..12).map(|n| {
            let path = format!("/stats?group_by=name&runs=all&min_latency={n}s");
            scope.spawn(move || server.get(&path))
        });
        let asked: Vec<_> = asked.collect();
        asked
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(answers.iter().any(|answer| answer.status == 200));
    for busy in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((busy.status, busy.header("retry-after")), (503, "1"));
    }
}
