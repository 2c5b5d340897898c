//! **runtally** computes LangSmith's project statistics locally, straight from raw run logs.
//!
//! The document that `GET /api/v1/sessions/{session_id}?include_stats=true` answers (percentiles of
//! latency and time to first token, token and cost sums, error and streaming rates, feedback), from
//! Parquet exports or dumps in JSON, on your machine:
//!
//! ```
//! # #[tokio::main] async fn main() -> runtally::Result<()> {
//! use runtally::{Engine, Limits, Request, Source, SourceOptions};
//! let engine = Engine::new(&Limits::default())?;
//! let source = Source::open(["testdata/demo"], &SourceOptions::default())?;
//! let answer = runtally::sessions(&engine, &source, &Request::default()).await?;
//! println!("{} took {:?} s", answer.sessions[0].name, answer.sessions[0].latency_p50);
//! # assert!(answer.sessions[0].run_count > Some(0)); Ok(()) }
//! ```
//!
//! # The map
//!
//! Data goes one way, from the top to the bottom; a test holds who may import whom.
//!
//! | module | what it is |
//! |---|---|
//! | `request` | what is asked: projects, window |
//! | `filter` | the filter language: text → tree → what it means |
//! | `source` | where runs lie: files, their formats, their footers, the side files |
//! | `runs` | the canonical table: one row a run |
//! | `traces` | runs → one row a trace, where roots carry only what they used themselves |
//! | `tally` | the mergeable aggregate of traces: counts, exact sums, sketches, feedback |
//! | `plan` | runs → tallies as query plans |
//! | `engine` | executes plans within threads and memory |
//! | `document` | tally and metadata → the API's document |
//! | `answers` | the questions: what the engine counted, with what is known of the projects |
//! | `output` | documents → bytes |
//! | `convert` | runs → Parquet in the layout of an export, written anew |
//! | `server` | the HTTP API: request → `Request` → document |
//! | `generate` | seeded synthetic exports |
//!
//! # Why not …
//!
//! - **SQL over the files?** It would have to know which rows are roots, that roots already contain
//!   their children's tokens, what a project without traces answers, how the service interpolates
//!   percentiles, and that sums of doubles depend on their order. That is what this crate knows.
//! - **a t-digest or a sample?** Their answers depend on the order of arrival or on chance. Here groups
//!   of up to 256 values are exact, larger ones within 0.1 %, and the same runs give the same bytes
//!   however they are split over files, threads and machines.

mod answers;
mod convert;
mod cpu;
mod document;
mod engine;
mod error;
pub mod filter;
pub mod generate;
pub mod output;
mod plan;
pub mod request;
mod runs;
#[cfg(feature = "serve")]
pub mod server;
mod source;
pub mod tally;
mod threads;
mod time;
mod traces;

pub use answers::{
    About, Audited, Read, Runs, Sessions, Stats, Tallies, audit, audit_against, run_page, runs,
    sessions, stats, tallies,
};
pub use convert::{ConvertOptions, Converted, convert};
pub use document::{
    Attainment, Audit, AuditedProject, Bucket, Cause, Comparison, Cost, CostFormat, Coverage,
    CoverageUnit, Distribution, FeedbackStats, FieldComparison, Figure, Finding, Group, Label,
    Nanoseconds, OtherDocument, Overview, RunFacet, RunLine, RunRecord, Session,
    SessionFeedbackStat, Thousandths, Timestamp, TracerSession, Verdict,
};
pub use engine::{Engine, Limits, Progress};
pub use error::{Error, Result, SkippedFile};
pub use filter::{Filter, FilterError};
pub use request::{
    Breakdown, Clock, Every, FailOn, FindingKind, Key, LinkTemplate, Listing, Measure, Objective,
    Population, Projects, Request, RunOrder, RunPage, RunPlace, Severity, Sort, SortBy, Usage,
    Window,
};
pub use source::projects::{FeedbackRecord, Place, Project, SideFileError};
pub use source::{ColumnInfo, Dedup, FormatInfo, OnBadFile, Source, SourceOptions, formats};
