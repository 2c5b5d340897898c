//! The integration tests, one binary: this file is their table of contents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

/// Counts what is allocated, for the tests of memory.
#[global_allocator]
static PEAK: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Findings of audits, and documents compared.
mod audit;
/// What is converted answers as its source does, and appears whole.
mod convert;
/// The same runs give the same bytes, however they are split and whatever the engine may use.
mod determinism;
/// Documents of any runs in any shape equal the naive reference's.
mod documents;
/// Runs that several exports hold count once; roots of own usage.
mod exports;
/// Dumps in JSON give what the same runs give in Parquet.
mod json;
/// Percentiles of real measurements equal the published ones.
mod measured;
/// Many groups stay small (by hand).
mod memory;
/// Plans are what they should be.
mod plans;
/// Runs one by one are those of the naive reference, in its order; as tables and files.
mod runs;
/// The HTTP API.
mod server;
/// Groups of runs have the figures of the naive reference, and add up.
mod stats;

/// Documents pinned as files.
mod cases;
/// The command line: flags, outputs, exit codes.
mod cli;
/// Damaged input is an error with its path, never a panic.
mod damage;
/// What the command line is to people and scripts.
mod face;
/// Statistics of groups as tables, JSON, CSV and Markdown.
mod groups;
/// Who may import whom.
mod imports;
/// The README's commands run and say what it says.
mod readme;
/// Tables, CSV and Markdown of ordinary and of hostile projects.
mod tables;
/// Tally files merge to what one scan gives, and refuse what they cannot tell.
mod tallies;
/// Statistics as Parquet: rows of typed columns.
mod typed;
