//! Files that come, go, change or are damaged while they are served.

use std::fs;
use std::time::Duration;

use runtally::server::ServerOptions;

use super::client::Served;
use crate::support::run::{FIRST_MIDNIGHT_US, Run, project_id};
use crate::support::write::{Shape, write, write_sessions_json};

fn runs(sequences: std::ops::Range<u64>) -> Vec<Run> {
    let run = |n: u64| {
        let start = FIRST_MIDNIGHT_US + n.cast_signed() * 1_000_000;
        Run::completed_root(n, start, start + 1_000_000)
    };
    sequences.map(run).collect()
}

fn export(n: u128) -> Shape {
    Shape {
        export_id: uuid::Uuid::from_u128(n),
        ..Shape::default()
    }
}

fn eager() -> ServerOptions {
    ServerOptions {
        refresh: Duration::ZERO,
        ..ServerOptions::default()
    }
}

#[test]
fn changes_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let first = write(dir.path(), &runs(0..3), &export(1));
    let server = Served::of(&[dir.path()], eager());
    let path = format!("/sessions/{}?include_stats=true", project_id(0));
    let n_runs = || server.get(&path).json()["run_count"].as_i64().unwrap();
    assert_eq!(n_runs(), 3);
    let second = write(dir.path(), &runs(100_000..100_002), &export(2));
    assert_eq!(n_runs(), 5);
    write(dir.path(), &runs(100_000..100_004), &export(2));
    assert_eq!(n_runs(), 7);
    fs::remove_file(&first[0].path).unwrap();
    assert_eq!(n_runs(), 4);
    write_sessions_json(
        dir.path(),
        &[serde_json::json!({"id": project_id(0), "name": "named"})],
        false,
    );
    assert_eq!(server.get(&path).json()["name"], "named");
    // Kept as long as nothing changes.
    let before = server.metric("runtally_questions_total");
    assert_eq!(n_runs(), 4);
    assert_eq!(n_runs(), 4);
    assert!(server.metric("runtally_questions_total") - before < 1.5);
    fs::remove_file(&second[0].path).unwrap();
    let gone = server.get(&path);
    assert_eq!(gone.status, 500);
    assert_eq!(server.get("/readyz").status, 503);
}

#[test]
fn nothing_is_staler_than_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &runs(0..3), &export(1));
    let options = ServerOptions {
        refresh: Duration::from_secs(1),
        ..ServerOptions::default()
    };
    let server = Served::of(&[dir.path()], options);
    let path = format!("/sessions/{}?include_stats=true", project_id(0));
    assert_eq!(server.get(&path).json()["run_count"], 3);
    write(dir.path(), &runs(100_000..100_002), &export(2));
    std::thread::sleep(Duration::from_millis(1_050));
    assert_eq!(server.get(&path).json()["run_count"], 5);
}

#[test]
fn damaged_files_are_the_servers_own_business() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), &runs(0..50), &export(1));
    write(dir.path(), &runs(100_000..100_002), &export(2));
    let server = Served::of(&[dir.path()], ServerOptions::default());
    let mut bytes = fs::read(&written[0].path).unwrap();
    let end = bytes.len() - 8;
    bytes[4..end / 3].fill(0xff);
    fs::write(&written[0].path, &bytes).unwrap();
    let name = written[0].path.file_name().unwrap().to_str().unwrap();
    for path in [
        format!("/sessions/{}?include_stats=true", project_id(0)),
        "/stats?group_by=name".to_owned(),
        "/metrics".to_owned(),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 500, "{path} {answer:?}");
        let said = format!("{answer:?}");
        assert!(
            !said.contains(name) && !said.contains("parquet") && !said.contains("export_id"),
            "{said}"
        );
    }
    // A client that tries again costs nothing.
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get("/stats?group_by=name").status, 500);
    }
    assert!(began.elapsed() < Duration::from_secs(2));
}
