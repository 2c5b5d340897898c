//! Findings: what may be wrong with the data behind a figure. An audit counts each kind of them.

use std::fmt;
use std::str::FromStr;

use super::unknown_word;
use crate::error::Error;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Runs that one export holds several times.
    CountedTwice,
    /// Hours or days without a trace.
    Gaps,
    /// Traces without a root.
    ChildWithoutRoot,
    /// Columns that files lack.
    MissingColumns,
    /// Token counts below zero.
    NegativeTokens,
    /// Costs below zero.
    NegativeCosts,
    /// Ends before starts.
    EndBeforeStart,
    /// First tokens before starts.
    FirstTokenBeforeStart,
    /// First tokens after ends.
    FirstTokenAfterEnd,
    /// Totals that are not the sum of their parts.
    TotalNotParts,
    /// Costs of nothing.
    CostWithoutTokens,
    /// Totals below those of the children.
    NegativeOwnUsage,
    /// Roots without the usage of their descendants.
    RootsWithoutUsage,
    /// Runs that never ended.
    PendingOld,
    /// `extra` that is no JSON object.
    UnreadableExtra,
    /// `feedback_stats` that are no summaries of feedback.
    UnreadableFeedbackStats,
    /// Records of runs beyond the first.
    DuplicateIds,
    /// Runs in the folder of another day.
    OutsidePartition,
    /// Files without rows.
    EmptyFiles,
    /// Projects without a name.
    NamelessProjects,
}

/// What a finding does to figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Figures are wrong, or runs are missing in them.
    High,
    /// Single values are doubtful, or left out.
    Medium,
    /// No figure suffers.
    Low,
}

use FindingKind as K;
use Severity::{High, Low, Medium};

/// Every kind, the gravest first: its name, what is counted, and what it means.
const KINDS: [(FindingKind, Severity, &str, &str, &str); 20] = [
    (
        K::CountedTwice,
        High,
        "counted_twice",
        "runs",
        "a run stands several times in one export, and every record of it counts",
    ),
    (
        K::Gaps,
        High,
        "gaps",
        "hours",
        "hours without a trace inside a project's span in which, by its own rhythm, some must have been",
    ),
    (
        K::ChildWithoutRoot,
        High,
        "child_without_root",
        "traces",
        "a trace has runs but no root, so that it counts nowhere",
    ),
    (
        K::MissingColumns,
        High,
        "missing_columns",
        "files",
        "a file lacks a column, and what is made of it is unknown",
    ),
    (
        K::NegativeTokens,
        High,
        "negative_tokens",
        "runs",
        "a count of tokens is below zero and lowers the sums",
    ),
    (
        K::NegativeCosts,
        High,
        "negative_costs",
        "runs",
        "a cost is below zero and lowers the sums",
    ),
    (
        K::EndBeforeStart,
        Medium,
        "end_before_start",
        "runs",
        "a run ends before it starts; it is left out of the latency",
    ),
    (
        K::FirstTokenBeforeStart,
        Medium,
        "first_token_before_start",
        "runs",
        "a first token comes before the run's start; it is left out of the time to first token",
    ),
    (
        K::FirstTokenAfterEnd,
        Medium,
        "first_token_after_end",
        "runs",
        "a first token comes after the run's end",
    ),
    (
        K::TotalNotParts,
        Medium,
        "total_not_parts",
        "runs",
        "the total of tokens is not the sum of prompt and completion tokens",
    ),
    (
        K::CostWithoutTokens,
        Medium,
        "cost_without_tokens",
        "runs",
        "a run costs something but has used no tokens",
    ),
    (
        K::NegativeOwnUsage,
        Medium,
        "negative_own_usage",
        "runs",
        "a run's tokens or costs are below the sum of its children's, which they should contain",
    ),
    (
        K::RootsWithoutUsage,
        Medium,
        "roots_without_usage",
        "traces",
        "a root carries no usage while runs below it do; only --usage-from own counts that",
    ),
    (
        K::PendingOld,
        Medium,
        "pending_old",
        "runs",
        "a run has not ended a day after it started; it has no latency",
    ),
    (
        K::UnreadableExtra,
        Medium,
        "unreadable_extra",
        "runs",
        "extra is no JSON object, so that no metadata is found in it",
    ),
    (
        K::UnreadableFeedbackStats,
        Medium,
        "unreadable_feedback_stats",
        "runs",
        "feedback_stats are no summaries of feedback and are left out",
    ),
    (
        K::DuplicateIds,
        Low,
        "duplicate_ids",
        "records",
        "a record repeats a run that another has; between exports the newest counts",
    ),
    (
        K::OutsidePartition,
        Low,
        "outside_partition",
        "runs",
        "a run starts outside the day (UTC) that its file's path names; other readers may miss it",
    ),
    (
        K::EmptyFiles,
        Low,
        "empty_files",
        "files",
        "a file has no rows",
    ),
    (
        K::NamelessProjects,
        Low,
        "nameless_projects",
        "projects",
        "no record of the project gives its name; its id is shown instead",
    ),
];

impl FindingKind {
    /// Every kind, the gravest first.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, ..)| *kind)
    }

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// What it does to figures.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.row().1
    }

    /// What is counted.
    #[must_use]
    pub fn unit(self) -> &'static str {
        self.row().3
    }

    /// What it means, a sentence without its end.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().4
    }

    fn row(self) -> &'static (Self, Severity, &'static str, &'static str, &'static str) {
        let row = KINDS.iter().find(|(kind, ..)| *kind == self);
        row.unwrap_or(&KINDS[0])
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Severity {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            High => "high",
            Medium => "medium",
            Low => "low",
        }
    }
}

/// What makes an audit fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Any finding, and any difference.
    Any,
    /// A difference between a document and another's.
    Difference,
    /// A finding of a kind.
    Finding(FindingKind),
}

impl FromStr for FailOn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = text.trim().to_lowercase().replace('-', "_");
        let kind = FindingKind::all().find(|kind| kind.name() == word);
        match (word.as_str(), kind) {
            (_, Some(kind)) => Ok(Self::Finding(kind)),
            ("any", _) => Ok(Self::Any),
            ("difference", _) => Ok(Self::Difference),
            _ => {
                let kinds = FindingKind::all().map(FindingKind::name);
                let known: Vec<&str> = ["any", "difference"].into_iter().chain(kinds).collect();
                Err(unknown_word("a kind of finding", &word, &known))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_and_is_read_by_its_name() {
        let kinds: Vec<FindingKind> = FindingKind::all().collect();
        let severities = kinds.iter().map(|kind| kind.severity());
        assert!(severities.is_sorted());
        assert!(
            kinds.is_sorted(),
            "the order of the kinds is that of the table"
        );
        for kind in kinds {
            assert_eq!(
                kind.name().parse::<FailOn>().unwrap(),
                FailOn::Finding(kind)
            );
        }
    }

    #[test]
    fn an_unknown_word_says_the_nearest() {
        let error = "duplicate_id".parse::<FailOn>().unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean duplicate_ids?");
        assert_eq!(
            "Pending-Old".parse::<FailOn>().unwrap(),
            FailOn::Finding(K::PendingOld)
        );
    }
}
