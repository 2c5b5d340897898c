//! `runtally serve` as a process: what it says, what it refuses, how it ends.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::client::ask;

struct Process {
    child: Child,
    address: SocketAddr,
    rest: BufReader<std::process::ChildStderr>,
}

fn serve(arguments: &[&str], keys: Option<&str>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runtally"));
    command
        .args(["serve", "testdata/demo", "--port", "0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(keys) = keys {
        command.env("RUNTALLY_SERVE_KEYS", keys);
    }
    let mut child = command.spawn().unwrap();
    let mut rest = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    rest.read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().parse();
    Process {
        child,
        address: address.unwrap_or_else(|_| panic!("{line}")),
        rest,
    }
}

impl Process {
    /// Ends it by a signal; gives all that it said.
    fn end(mut self, signal: &str) -> String {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let mut said = String::new();
        self.rest.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{said}");
        let mut out = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        assert_eq!(out, "");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn it_starts_logs_and_ends() {
    const KEY: &str = "a-key-that-nobody-sees";
    for (signal, log) in [("-INT", "json"), ("-TERM", "text")] {
        let server = serve(&["--log", log], Some(KEY));
        let path = "/sessions?name=secret-of-a-query";
        let answer = ask(
            server.address,
            "GET",
            path,
            &[("x-api-key", KEY), ("x-request-id", "own-id")],
            "",
        );
        assert_eq!(
            (answer.status, answer.header("x-request-id")),
            (200, "own-id")
        );
        let wrong = [("x-api-key", "another-secret-key")];
        assert_eq!(
            ask(server.address, "GET", "/sessions", &wrong, "").status,
            401
        );
        let said = server.end(signal);
        assert!(said.contains("try: curl"), "{said}");
        for secret in [KEY, "another-secret-key", "secret-of-a-query"] {
            assert!(!said.contains(secret), "{said}");
        }
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("/sessions") && line.contains("request"))
            .collect();
        assert_eq!(lines.len(), 2, "{said}");
        if log == "json" {
            let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
            assert_eq!(line["method"], "GET");
            assert_eq!(line["path"], "/sessions");
            assert_eq!(line["status"], 200);
            assert_eq!(line["request_id"], "own-id");
            assert!(line["ms"].is_u64());
        }
    }
}

#[test]
fn what_cannot_be_served_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.txt");
    std::fs::write(&keys, "secret-key not-a-tenant").unwrap();
    let keys = keys.to_str().unwrap();
    for (arguments, said) in [
        (vec!["--bind", "0.0.0.0"], "there is no key"),
        (vec!["--bind", "::"], "there is no key"),
        (vec!["--key-file", keys], "no tenant's UUID"),
        (vec!["--key-file", "nowhere.txt"], "cannot read"),
        (vec!["--timeout", "soon"], "no time"),
        (vec!["-"], "standard input"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_runtally"))
            .args(["serve", "testdata/demo", "--port", "0"])
            .args(&arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(said),
            "{arguments:?} {text}"
        );
        assert!(!text.contains("secret-key"), "{text}");
    }
}
