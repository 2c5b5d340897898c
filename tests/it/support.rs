//! The tests' own side of every comparison.
//!
//! Nothing here uses a line of the crate under test (but for a filter's tree,
//! which `evaluate` walks): runs are made up (`run`), written as export files
//! (`write`, `dump`), and answered by the most naive means (`reference`, and `stats` for
//! what a `breakdown` asks, on the exact arithmetic of `exact`). `mirror` pins the shape
//! of the document, `llmperf` brings real measurements with percentiles that
//! others computed from them.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod breakdown;
pub(crate) mod dump;
pub(crate) mod evaluate;
pub(crate) mod exact;
pub(crate) mod llmperf;
pub(crate) mod mirror;
pub(crate) mod reference;
pub(crate) mod run;
pub(crate) mod stats;
pub(crate) mod write;

/// So many cases, a short search for a small one that fails, and no file that keeps it.
pub(crate) fn quick(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
