//! The integration tests, one binary: this file is their table of contents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

/// Documents of any runs in any shape equal the naive reference's.
mod documents;
/// The same runs give the same bytes, however they are split and whatever the engine may use.
mod determinism;
/// Percentiles of real measurements equal the published ones.
mod measured;
/// Plans are what they should be.
mod plans;

/// The command line: flags, outputs, exit codes.
mod cli;
/// Damaged input is an error with its path, never a panic.
mod damage;
/// Documents pinned as files.
mod cases;
/// Who may import whom.
mod imports;
/// The README's commands run and say what it says.
mod readme;
