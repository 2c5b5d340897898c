//! The README's commands run and say what it says.
//!
//! In the README, `<!-- run -->` before a shell block means that its commands work as they stand, one
//! after the other, in a checkout; `<!-- output -->` after it means that the block which follows shows
//! lines of what they print. A line `…` stands for some that are left out, at
//! the end of one it stands for the rest of it.
#![cfg(unix)]

use std::fs;
use std::iter::Peekable;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::str::Lines;

const RUN: &str = "<!-- run -->";
const OUTPUT: &str = "<!-- output -->";

/// A shell block and what it is said to print.
#[derive(Debug, Default, PartialEq)]
struct Example {
    commands: Vec<String>,
    shown: Vec<String>,
}

#[test]
fn the_commands_of_the_readme_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let examples = examples(&readme);
    let n_commands: usize = examples.iter().map(|example| example.commands.len()).sum();
    assert!(
        n_commands > 0,
        "the README has no command that is marked by {RUN}"
    );
    // A folder of its own with the checkout's data in it, so that what is written goes nowhere else.
    let dir = tempfile::tempdir().unwrap();
    symlink(root.join("testdata"), dir.path().join("testdata")).unwrap();
    let programs = dir.path().join(".programs");
    fs::create_dir(&programs).unwrap();
    symlink(env!("CARGO_BIN_EXE_runtally"), programs.join("runtally")).unwrap();
    for example in &examples {
        let outputs = example
            .commands
            .iter()
            .map(|command| run(command, dir.path(), &programs));
        let output: String = outputs.collect();
        for line in &example.shown {
            assert!(
                output.contains(line.trim_end_matches('…')),
                "{:?} does not print {line:?} but\n{output}",
                example.commands
            );
        }
    }
}

#[test]
fn examples_are_found() {
    let text = "\
# Title
```sh
runtally not marked
```
<!-- run -->
```sh
cargo build --release
$ runtally generate exports/ \\
    --rows 10   # a comment
cargo run --release -- show exports/ | head -1
```

<!-- output -->

```json
{
…
  \"id\"
```
<!-- run -->

```sh
runtally list exports/ > all.json
```
```text
no output
```
";
    let example = |commands: &[&str], shown: &[&str]| Example {
        commands: commands.iter().map(|text| (*text).to_owned()).collect(),
        shown: shown.iter().map(|text| (*text).to_owned()).collect(),
    };
    assert_eq!(
        examples(text),
        [
            example(
                &[
                    "runtally generate exports/ --rows 10   # a comment",
                    "runtally show exports/ | head -1"
                ],
                &["{", "  \"id\""]
            ),
            example(&["runtally list exports/ > all.json"], &[]),
        ]
    );
}

/// Runs a command in a shell; gives all that it printed.
fn run(command: &str, dir: &Path, programs: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", programs.display()))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(
        output.status.success(),
        "{command}: {}\n{}",
        output.status,
        text.concat()
    );
    text.concat()
}

fn examples(readme: &str) -> Vec<Example> {
    let mut lines = readme.lines().peekable();
    let mut examples = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim() != RUN {
            continue;
        }
        let block =
            block(&mut lines, &["sh"]).unwrap_or_else(|| panic!("no shell block after {RUN}"));
        let mut example = Example {
            commands: commands(&block),
            shown: Vec::new(),
        };
        skip_empty(&mut lines);
        if lines.next_if(|line| line.trim() == OUTPUT).is_some() {
            let shown = block_of_output(&mut lines);
            example.shown = shown
                .into_iter()
                .filter(|line| !["", "…"].contains(&line.trim()))
                .collect();
        }
        examples.push(example);
    }
    examples
}

fn block_of_output(lines: &mut Peekable<Lines<'_>>) -> Vec<String> {
    block(lines, &["text", "json"])
        .unwrap_or_else(|| panic!("no text or JSON block after {OUTPUT}"))
}

/// The lines of the fenced block that comes next, if it is in one of these languages.
fn block(lines: &mut Peekable<Lines<'_>>, languages: &[&str]) -> Option<Vec<String>> {
    skip_empty(lines);
    let language = lines.next()?.trim().strip_prefix("```")?;
    let inside = lines.by_ref().take_while(|line| line.trim() != "```");
    let inside = inside.map(|line| line.trim_end().to_owned()).collect();
    languages.contains(&language).then_some(inside)
}

fn skip_empty(lines: &mut Peekable<Lines<'_>>) {
    while lines.next_if(|line| line.trim().is_empty()).is_some() {}
}

/// The commands of the program itself; one over several lines is one.
fn commands(block: &[String]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block {
        let (text, continues) = line
            .strip_suffix('\\')
            .map_or((line.as_str(), false), |text| (text, true));
        match joined.last_mut() {
            Some(last) if goes_on => last.push_str(text.trim_start()),
            _ => joined.push(text.trim_start().trim_start_matches("$ ").to_owned()),
        }
        goes_on = continues;
    }
    let ours = joined.into_iter().filter_map(|line| {
        line.strip_prefix("cargo run --release -- ")
            .or_else(|| line.strip_prefix("runtally "))
            .map(|arguments| format!("runtally {arguments}"))
    });
    ours.collect()
}
