//! Before the crate is built: what `runtally --version` says beside the version.

use std::path::Path;
use std::process::Command;

fn main() {
    // Without a repository (a source package, say) there is no commit, and nothing to look at again.
    println!("cargo::rerun-if-changed=src/build.rs");
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let features = ["cli"].into_iter().filter(|feature| {
        let variable = format!("CARGO_FEATURE_{}", feature.to_uppercase());
        std::env::var_os(variable).is_some()
    });
    let features = format!("features: {}", features.collect::<Vec<_>>().join(" "));
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).map(|commit| format!("commit {commit}"));
    let facts: Vec<String> = commit.into_iter().chain([features]).collect();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!(
        "cargo::rustc-env=RUNTALLY_VERSION={version} ({})",
        facts.join(", ")
    );
}

/// What git says, where this very folder is a repository.
fn git(args: &[&str]) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
