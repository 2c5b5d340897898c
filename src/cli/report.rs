//! Failures: a line and a hint for people, one JSON object for programs.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::error::ErrorKind;
use runtally::Error;
use runtally::output::plain_text;
use serde_json::{Value, json};

use super::Exit;
use super::face::{Remark, remark, say};

/// Says what went wrong, with all its causes, then what to do about it.
pub(super) fn error(error: &Error, as_json: bool) {
    let text = chain(error);
    let hint = error.hint();
    if as_json {
        let mut object = object(kind(error), &text, hint.as_deref(), Exit::from(error));
        if let Error::Filter(wrong) = error {
            object["error"]["message"] = json!(wrong.message());
            object["error"]["filter"] = json!(wrong.text());
            object["error"]["at"] = json!(wrong.at());
        }
        let path = match error {
            Error::BadInput { path, .. }
            | Error::NoInput { path, .. }
            | Error::Tallies { path, .. }
            | Error::Io { path, .. } => Some(path),
            _ => None,
        };
        if let Some(path) = path {
            object["error"]["path"] = json!(path.to_string_lossy());
        }
        return say_json(&object);
    }
    // The filter follows, and what points at the place; all else is one line.
    let below = matches!(error, Error::Filter(_)).then(|| text.split_once('\n'));
    match below.flatten() {
        Some((line, below)) => {
            remark(Remark::Error, line);
            say(below);
        }
        None => remark(Remark::Error, &text),
    }
    if let Some(hint) = hint {
        remark(Remark::Hint, &hint);
    }
}

/// Says that warnings were not to be had.
pub(super) fn strict(warnings: &[String], as_json: bool) {
    let text = match warnings {
        [one] => format!("a warning, and --strict allows none: {one}"),
        several => format!("{} warnings, and --strict allows none", several.len()),
    };
    if as_json {
        let mut object = object("strict", &text, None, Exit::Failed);
        object["error"]["warnings"] = json!(warnings);
        return say_json(&object);
    }
    if warnings.len() > 1 {
        for warning in warnings {
            remark(Remark::Warning, warning);
        }
    }
    remark(Remark::Error, &text);
}

/// Says that something broke that should not have.
pub(super) fn fault(panic: &str, as_json: bool) {
    let text = format!("a fault in runtally itself, please report it: {panic}");
    if as_json {
        return say_json(&object("fault", &text, None, Exit::Failed));
    }
    remark(Remark::Error, &text);
}

/// Answers a command line that is wrong, or that only asks for help.
pub(super) fn usage(error: &clap::Error, as_json: bool) -> Exit {
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if as_json && !is_answer {
        let text = error.to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        say_json(&object("usage", text, None, Exit::Usage));
    } else {
        // A closed pipe is success.
        let _ = error.print();
    }
    if is_answer { Exit::Done } else { Exit::Usage }
}

/// Answers a command line that says nothing.
pub(super) fn help(command: clap::Command, args: &[OsString]) -> Exit {
    match command
        .arg_required_else_help(true)
        .try_get_matches_from(args)
    {
        Ok(_) => Exit::Usage,
        Err(error) => usage(&error, false),
    }
}

/// Whether a command line that may be wrong asks for JSON.
pub(super) fn wants_json(args: &[OsString]) -> bool {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let is_json = |format: &str| matches!(format, "json" | "jsonl");
    let named = words.iter().any(|word| {
        let format = word
            .strip_prefix("--format=")
            .or_else(|| word.strip_prefix("-f"));
        *word == "--json" || format.is_some_and(|format| is_json(format.trim_start_matches('=')))
    });
    let spaced = words
        .windows(2)
        .any(|pair| matches!(pair, ["-f" | "--format", format] if is_json(format)));
    named || spaced
}

/// Writes an object in one line. What would move a terminal's cursor is escaped as JSON escapes it, so that
/// programs read what was meant.
fn say_json(object: &Value) {
    let mut line = String::new();
    for char in object.to_string().chars() {
        if plain_text(char.encode_utf8(&mut [0; 4])).starts_with(char) {
            line.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(line, "\\u{unit:04x}");
        }
    }
    say(&line);
}

fn object(kind: &str, message: &str, hint: Option<&str>, exit: Exit) -> Value {
    json!({"error": {
        "kind": kind, "message": message, "hint": hint, "exit_code": exit as u8,
    }})
}

/// A stable name for each kind of error.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Usage { .. } => "usage",
        Error::Filter(_) => "filter",
        Error::NoSuchProject { .. } => "no_such_project",
        Error::AmbiguousProject { .. } => "ambiguous_project",
        Error::NoInput { .. } => "no_input",
        Error::BadInput { .. } => "bad_input",
        Error::Tallies { .. } => "tallies",
        Error::NothingLeft { .. } => "nothing_left",
        Error::SideFile(_) => "bad_side_file",
        Error::BadData { .. } => "bad_data",
        Error::Io { .. } => "io",
        Error::Memory { .. } => "memory",
        _ => "engine",
    }
}

/// An error with its causes, each once, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_in_every_way() {
        let wants = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            wants_json(&args)
        };
        for line in [
            "x --json",
            "x -f json",
            "x -fjsonl",
            "x -f=json",
            "x --format json",
            "x --format=jsonl",
        ] {
            assert!(wants(line), "{line}");
        }
        for line in ["x", "x -f csv json", "x --format table", "x --jsonp"] {
            assert!(!wants(line), "{line}");
        }
    }
}
