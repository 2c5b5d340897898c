//! Strips: where in time there are traces, as blocks.

use crate::document::{Coverage, CoverageUnit};

/// Traces in each bucket that a block stands for, in some, in none.
const ALL: char = '█';
const SOME: char = '▒';
const NONE: char = '·';
/// What the blocks say.
pub(super) const LEGEND: &str = "█ traces in all of them, ▒ in some, · in none";

/// The blocks, at most `room`, and for how many buckets each stands.
pub(super) fn strip(coverage: &Coverage, room: usize) -> (String, usize) {
    let n_each = coverage.traces.len().div_ceil(room.max(1)).max(1);
    let blocks = coverage.traces.chunks(n_each).map(|buckets| {
        match buckets.iter().filter(|traces| **traces > 0).count() {
            0 => NONE,
            n if n == buckets.len() => ALL,
            _ => SOME,
        }
    });
    (blocks.collect(), n_each)
}

/// For how long a block stands: `1 hour`, `3 days`.
pub(super) fn length(coverage: &Coverage, n_each: usize) -> String {
    let unit = match coverage.every {
        CoverageUnit::Hour => "hour",
        CoverageUnit::Day => "day",
    };
    let plural = if n_each == 1 { "" } else { "s" };
    format!("{n_each} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Timestamp;

    #[test]
    fn blocks_say_what_is_there() {
        let coverage = Coverage {
            every: CoverageUnit::Hour,
            start_time: Timestamp(0),
            traces: vec![1, 2, 0, 3, 0, 0, 7],
        };
        for (room, blocks, n_each) in [(80, "██·█··█", 1), (4, "█▒·█", 2), (1, "▒", 7), (0, "▒", 7)]
        {
            assert_eq!(strip(&coverage, room), (blocks.to_owned(), n_each));
        }
        assert_eq!(length(&coverage, 1), "1 hour");
        assert_eq!(length(&coverage, 3), "3 hours");
    }
}
