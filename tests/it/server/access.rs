//! No key sees more than its tenant's: not in lists, not by ids, not in errors, counts or gauges.

use std::path::Path;

use runtally::server::{Keys, ServerOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Answer, Served};
use crate::support::run::{DAY_US, FIRST_MIDNIGHT_US, Run, project_id, tenant_id};
use crate::support::write::{Layout, Shape, write, write_sessions_json};

const OPEN: &str = "key-of-everybody";
const FIRST: &str = "key-of-the-first";
const SECOND: &str = "key-of-the-second";

fn run(sequence: u64, tenant: usize, project: usize) -> Run {
    let start = FIRST_MIDNIGHT_US + sequence.cast_signed() * 1_000_000;
    let mut run = Run::completed_root(
        sequence,
        start,
        start + 1_000_000 * (1 + sequence.cast_signed()),
    );
    run.tenant_id = tenant_id(tenant);
    run.session_id = project_id(project);
    run.name = Some(format!("name-of-{tenant}"));
    run.inputs = Some(format!("{{\"secret\": \"input-of-{tenant}\"}}"));
    run.tags = Some(vec![format!("tag-of-{tenant}")]);
    run.error = sequence
        .is_multiple_of(2)
        .then(|| format!("error-of-{tenant}"));
    run.extra = Some(format!(
        "{{\"metadata\": {{\"team\": \"team-of-{tenant}\"}}}}"
    ));
    run.total_tokens = Some(10 + i64::try_from(tenant).unwrap());
    run
}

/// Runs of two tenants: a project each, and one whose id both have.
fn runs() -> Vec<Run> {
    let first = (0..6).map(|n| run(n, 0, 0));
    let second = (10..14).map(|n| run(n, 1, 1));
    let shared = (20..23)
        .map(|n| run(n, 0, 2))
        .chain((30..37).map(|n| run(n, 1, 2)));
    first.chain(second).chain(shared).collect()
}

fn metadata(dir: &Path) {
    let record = |project: usize, tenant: usize, name: &str| json!({"id": project_id(project), "tenant_id": tenant_id(tenant), "name": name});
    let records = [
        record(0, 0, "project-of-0"),
        record(1, 1, "project-of-1"),
        record(2, 1, "shared-of-1"),
    ];
    write_sessions_json(dir, &records, false);
}

fn serve(dir: &Path) -> Served {
    let keys = format!(
        "{OPEN}\n{FIRST} {}\n{SECOND} {}",
        tenant_id(0),
        tenant_id(1)
    );
    let options = ServerOptions {
        keys: Keys::parse(&keys).unwrap(),
        ..ServerOptions::default()
    };
    Served::of(&[dir], options)
}

/// Everything that anybody may think of asking, with ids of all tenants.
fn questions() -> Vec<(&'static str, String, String)> {
    let mut asked = Vec::new();
    let mut get = |path: String| asked.push(("GET", path, String::new()));
    let ids: Vec<Uuid> = (0..3).map(project_id).collect();
    for base in ["", "/api/v2"] {
        for query in [
            "include_stats=true&facets=true&include_facets=true",
            "name_contains=of",
            "limit=1&page_size=1",
            "sort_by=runs_count",
            "sort_by=RUNS",
            "include_stats=true&stats_filter=eq(status,%22error%22)&facets=true",
            "filter=neq(name,%22x%22)",
        ] {
            get(format!("{base}/sessions?{query}"));
        }
        for id in &ids {
            get(format!(
                "{base}/sessions/{id}?include_stats=true&facets=true&include_facets=true"
            ));
            get(format!("{base}/sessions?id={id}&include_stats=true"));
        }
    }
    for query in [
        "",
        "group_by=project,name&format=csv",
        "runs=all&group_by=tag&facets=true&exemplars=true",
        "group_by=metadata.team&every=1d&format=jsonl",
        "group_by=error",
        "project=project-of",
        "project=shared-of-1",
        "project=project-of-1",
        "filter=neq(id,%22x%22)&group_by=project",
        "tree_filter=neq(name,%22x%22)&trace_filter=neq(name,%22x%22)&group_by=project",
        "filter=eq(session_id,%22x%22)",
        "filter=eq(tenant_id,%22x%22)",
        "project=%27%20OR%201%3D1",
        "project=../../etc",
        "usage_from=own&group_by=project",
    ] {
        get(format!("/stats?{query}"));
    }
    for path in [
        "/metrics",
        "/openapi.json",
        "/info",
        "/healthz",
        "/readyz",
        "/",
        "/api/v1/x",
    ] {
        get(path.to_owned());
    }
    let of_runs = runs().into_iter().map(|run| run.id).collect::<Vec<_>>();
    let mut bodies = vec![
        json!({}),
        json!({"id": of_runs}),
        json!({"id": of_runs, "filter": "neq(name, \"x\")", "select": ["inputs", "tags", "extra", "error"]}),
        json!({"group_by": {"attribute": "name"}}),
        json!({"group_by": {"attribute": "tag"}, "select": ["run_count", "run_facets"]}),
        json!({"group_by": {"attribute": "metadata", "path": "team"}}),
        json!({"id": of_runs, "tree_filter": "neq(name, \"x\")", "trace_filter": "neq(name, \"x\")"}),
        json!({"id": of_runs, "query": "of"}),
        json!({"session": ids}),
    ];
    for id in &ids {
        bodies.push(json!({"session": [id]}));
        bodies.push(json!({"session": [id], "group_by": {"attribute": "name"}}));
    }
    for id in of_runs.iter().step_by(9) {
        bodies.push(json!({"trace": id}));
        bodies.push(json!({"id": [id]}));
        bodies.push(json!({"parent_run": id}));
        bodies.push(json!({"id": [id], "cursor": format!("{}:{id}", FIRST_MIDNIGHT_US + DAY_US)}));
    }
    for (n, body) in bodies.iter().enumerate() {
        let base = ["", "/api/v1"][n % 2];
        for route in ["query", "stats"] {
            asked.push(("POST", format!("{base}/runs/{route}"), body.to_string()));
        }
    }
    asked
}

/// Everything in an answer that anybody can read.
fn said(answer: &Answer) -> String {
    format!("{answer:?}")
}

fn marks(tenant: usize) -> Vec<String> {
    let own: Vec<Run> = runs()
        .into_iter()
        .filter(|run| run.tenant_id == tenant_id(tenant))
        .collect();
    let mut marks: Vec<String> = own.iter().map(|run| run.id.to_string()).collect();
    marks.push(tenant_id(tenant).to_string());
    // The project that is no other tenant's.
    marks.push(project_id(tenant).to_string());
    marks.extend([format!("-of-{tenant}")]);
    marks
}

/// What is sent may come back: it is taken out before an answer is looked through.
fn without_own_words(answer: &str, sent: &str) -> String {
    let mut rest = answer.to_owned();
    let words = sent.split(|char: char| !(char.is_alphanumeric() || char == '-'));
    for word in words.filter(|word| word.len() > 5) {
        rest = rest.replace(word, "");
    }
    rest
}

#[test]
fn a_tenants_key_shows_that_tenant_only() {
    for layout in [Layout::V1, Layout::SingleFile] {
        let dir = tempfile::tempdir().unwrap();
        // Where both tenants' runs are in one file, only rows tell them apart.
        write(
            dir.path(),
            &runs(),
            &Shape {
                layout,
                ..Shape::default()
            },
        );
        metadata(dir.path());
        let server = serve(dir.path());
        // What either of them, and everybody, has asked before is of no use to the other.
        let asked = if layout == Layout::SingleFile {
            questions()
        } else {
            Vec::new()
        };
        for key in [OPEN, FIRST, SECOND] {
            for (method, path, body) in &asked {
                let answer = server.ask(method, path, &[("x-api-key", key)], body);
                assert!(answer.status < 500, "{path} {body} {answer:?}");
                let others: &[usize] = match key {
                    FIRST => &[1],
                    SECOND => &[0],
                    _ => &[],
                };
                let text = without_own_words(&said(&answer), &format!("{path} {body}"));
                for mark in others.iter().flat_map(|tenant| marks(*tenant)) {
                    assert!(
                        !text.contains(&mark),
                        "{key}: {mark} in {method} {path} {body}: {answer:?}"
                    );
                }
            }
        }
        let get = |key: &str, path: &str| server.ask("GET", path, &[("x-api-key", key)], "");
        let shown = |key: &str| get(key, "/sessions?include_stats=true");
        assert_eq!(shown(OPEN).header("x-pagination-total"), "3");
        assert_eq!(shown(FIRST).header("x-pagination-total"), "2");
        assert_eq!(shown(SECOND).header("x-pagination-total"), "2");
        // The project of both is for each that of its own runs, and has the name of whose it is.
        let shared = format!("/sessions/{}?include_stats=true", project_id(2));
        let shared = |key: &str| get(key, &shared).json();
        for (key, n_runs, tenant, name) in [
            (FIRST, 3, 0, project_id(2).to_string()),
            (SECOND, 7, 1, "shared-of-1".to_owned()),
        ] {
            let document = shared(key);
            assert_eq!(document["run_count"], n_runs, "{layout:?}");
            assert_eq!(document["total_tokens"], n_runs * (10 + tenant));
            assert_eq!(document["tenant_id"], json!(tenant_id(tenant)));
            assert_eq!(document["name"], json!(name));
        }
        assert_eq!(shared(OPEN)["run_count"], 10);
        let other = format!("/sessions/{}", project_id(1));
        let nobody = format!("/sessions/{}", project_id(9));
        let (other, nobody) = (get(FIRST, &other), get(FIRST, &nobody));
        assert_eq!((other.status, &other.body), (404, &nobody.body));
        assert_eq!(
            get(SECOND, &format!("/sessions/{}", project_id(1))).status,
            200
        );
    }
}

#[test]
fn another_tenant_cannot_be_asked_for_by_a_header() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &runs(), &Shape::default());
    let server = serve(dir.path());
    let total = |key: &str, tenant: &str| {
        let headers = [("x-api-key", key), ("x-tenant-id", tenant)];
        let list = server.ask("GET", "/sessions?include_stats=true", &headers, "");
        let stats = server.ask("POST", "/runs/stats", &headers, "{}").json();
        assert_eq!(
            list.json().as_array().unwrap().len().to_string(),
            list.header("x-pagination-total")
        );
        (
            list.header("x-pagination-total").to_owned(),
            stats["run_count"].as_i64().unwrap(),
        )
    };
    let (first, second) = (tenant_id(0).to_string(), tenant_id(1).to_string());
    assert_eq!(total(OPEN, &first), ("2".to_owned(), 9));
    assert_eq!(total(OPEN, &second), ("2".to_owned(), 11));
    assert_eq!(total(FIRST, &first), ("2".to_owned(), 9));
    for wrong in [
        second.as_str(),
        "x",
        "",
        "00000000-0000-0000-0000-000000000000",
    ] {
        assert_eq!(total(FIRST, wrong), ("0".to_owned(), 0), "{wrong}");
    }
}

#[test]
fn without_a_key_there_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &runs(), &Shape::default());
    metadata(dir.path());
    let server = serve(dir.path());
    let open = [
        "/info",
        "/api/v1/info",
        "/healthz",
        "/readyz",
        "/openapi.json",
    ];
    for (method, path, body) in questions() {
        for headers in [
            vec![],
            vec![("x-api-key", "key-of-nobody")],
            vec![("x-api-key", "")],
            vec![("x-api-key", "key-of-the-firs")],
            vec![("x-api-key", "key-of-the-first,")],
            vec![("authorization", "Bearer key-of-nobody")],
            vec![("authorization", "Basic key-of-the-first")],
            vec![
                ("x-api-key", "x"),
                ("authorization", "Bearer key-of-the-first"),
            ],
        ] {
            let answer = server.ask(method, &path, &headers, &body);
            if open.contains(&path.as_str()) {
                assert_eq!(answer.status, 200, "{path}");
            } else {
                assert_eq!(answer.status, 401, "{path} {headers:?}");
                assert!(answer.json()["detail"].is_string());
            }
            for mark in [0, 1].into_iter().flat_map(marks) {
                assert!(!said(&answer).contains(&mark), "{mark} in {path}");
            }
        }
    }
    let bearer = [("authorization", "Bearer key-of-the-first")];
    assert_eq!(
        server
            .ask("GET", "/sessions", &bearer, "")
            .header("x-pagination-total"),
        "2"
    );
}

#[test]
fn pages_of_other_names_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &runs(), &Shape::default());
    let server = Served::of(&[dir.path()], ServerOptions::default());
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("", 403),
    ] {
        let answer = server.ask("GET", "/sessions", &[("host", host)], "");
        assert_eq!(answer.status, status, "{host}");
    }
    let origin = [("origin", "https://dash.example")];
    let answer = server.ask("GET", "/sessions", &origin, "");
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let options = ServerOptions {
        origins: vec!["https://dash.example".to_owned()],
        ..ServerOptions::default()
    };
    let server = Served::of(&[dir.path()], options);
    let answer = server.ask("GET", "/sessions", &origin, "");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://dash.example"
    );
    let other = server.ask(
        "GET",
        "/sessions",
        &[("origin", "https://evil.example")],
        "",
    );
    assert_eq!(other.header("access-control-allow-origin"), "");
    let _: Value = answer.json();
}
