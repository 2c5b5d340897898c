//! Whether tally files answer a question: each of them, all together, and beside files of runs. What would
//! be counted twice, or cannot be told from what is left, is refused with the file that it is about.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ident};
use uuid::Uuid;

use super::{Origin, Scope, TallyFile};
use crate::error::{Error, Result};
use crate::request::{Every, Key, Population, Usage, Window};
use crate::source::scan::Files;
use crate::tally::{self, TallyColumn};
use crate::time::format_time;

/// In more spans of time than this a file is not looked through.
const SPANS_MAX: usize = 1_000_000;

const ASK_RUNS: &str = "the files of runs that it was made from can answer it";
const AGREE: &str = "ask of one of them at a time, or make them in the same way";

/// Which rows of a file a question takes: by the first moments of their spans of time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    since_us: Option<i64>,
    until_us: Option<i64>,
}

impl Cut {
    pub(super) fn condition(&self) -> Option<Expr> {
        let start = || ident(tally::START);
        let moment = |us| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), None), None);
        let since = self.since_us.map(|us| start().gt_eq(moment(us)));
        let until = self.until_us.map(|us| start().lt(moment(us)));
        since.into_iter().chain(until).reduce(Expr::and)
    }
}

impl TallyFile {
    fn refused(&self, problem: String, hint: &str) -> Error {
        Error::Tallies {
            path: self.path.clone(),
            problem,
            hint: hint.to_owned(),
        }
    }

    /// Whether its runs are those that are asked for.
    fn check_scope(&self, asked: &Scope) -> Result<()> {
        let own = &self.made.scope;
        let runs = |scope: &Scope| Some(scope.runs.clone());
        let differing = [
            ("--runs", runs(own), runs(asked)),
            ("--filter", own.filter.clone(), asked.filter.clone()),
            (
                "--trace-filter",
                own.trace_filter.clone(),
                asked.trace_filter.clone(),
            ),
            (
                "--tree-filter",
                own.tree_filter.clone(),
                asked.tree_filter.clone(),
            ),
        ];
        let differing = differing.into_iter().find(|(_, own, asked)| own != asked);
        let Some((flag, own, asked)) = differing else {
            return Ok(());
        };
        let with = |text: Option<String>| match text {
            Some(text) => format!("with {flag} '{text}'"),
            None => format!("without {flag}"),
        };
        let problem = format!(
            "its tallies were made {}, the question is asked {}",
            with(own),
            with(asked)
        );
        Err(self.refused(problem, &format!("ask as they were made; {ASK_RUNS}")))
    }

    /// The first and the last moment at which a run of it may start.
    pub(super) fn range_us(&self) -> (i64, i64) {
        let told = self.made.projects.values();
        let first = told
            .clone()
            .map(|told| told.start_us.unwrap_or(i64::MIN))
            .min();
        let last = told.map(|told| told.last_us.unwrap_or(i64::MAX)).max();
        let since = self.window.since_us().unwrap_or(i64::MIN);
        let before = self
            .window
            .until_us()
            .map_or(i64::MAX, |until| until.saturating_sub(1));
        (
            first.unwrap_or(i64::MIN).max(since),
            last.unwrap_or(i64::MAX).min(before),
        )
    }

    /// What of it is in a window; an error where rows are partly in it.
    fn cut(&self, window: &Window) -> Result<Option<Cut>> {
        let (first, last) = self.range_us();
        if !window.meets(first, last) {
            return Ok(None);
        }
        let cut = Cut {
            since_us: window.since_us().filter(|since| *since > first),
            until_us: window.until_us().filter(|until| *until <= last),
        };
        for at in cut.since_us.into_iter().chain(cut.until_us) {
            let bucket = self.every.and_then(|every| every.bucket(at));
            if bucket.is_none_or(|(start, _)| start != at) {
                let parts = match &self.every {
                    Some(every) => format!("made for each {every} ({})", every.zone()),
                    None => "not split by time".to_owned(),
                };
                let problem = format!(
                    "its tallies are {parts} and cannot be cut at {}",
                    format_time(at)
                );
                let hint = "ask for a window of whole spans of it, or for all of it without --since and --until";
                return Err(self.refused(problem, hint));
            }
        }
        Ok(Some(cut))
    }

    /// Whether each of its spans of time lies in one of these.
    fn nests_in(&self, every: &Every) -> bool {
        if self.every == Some(*every) {
            return true;
        }
        let (first, last) = self.range_us();
        let mut at = first;
        for _ in 0..SPANS_MAX {
            if at > last {
                return true;
            }
            let own = match &self.every {
                Some(own) => own.bucket(at),
                None => last.checked_add(1).map(|end| (first, end)),
            };
            let (Some((_, own_end)), Some((_, end))) = (own, every.bucket(at)) else {
                return false;
            };
            if own_end.min(last.saturating_add(1)) > end {
                return false;
            }
            at = own_end;
        }
        false
    }

    fn check_split(&self, by: &[Key], every: Option<&Every>) -> Result<()> {
        let own = || self.made.keys.iter();
        let is_own = |key: &Key| own().any(|made| made.key == key.to_string());
        if let Some(key) = by.iter().find(|key| **key != Key::Project && !is_own(key)) {
            let keys = own().map(|made| made.key.as_str());
            let keys: Vec<&str> = std::iter::once("project").chain(keys).collect();
            let problem = format!(
                "its tallies are not split by {key}, but by {}",
                keys.join(", ")
            );
            return Err(self.refused(problem, ASK_RUNS));
        }
        let is_asked = |name: &str| by.iter().any(|key| key.to_string() == name);
        let left_out = own().find(|made| made.is_multiple && !is_asked(&made.key));
        if let (Some(left_out), Some(key)) = (left_out, by.iter().find(|key| key.is_multiple())) {
            let left_out = &left_out.key;
            let problem = format!(
                "its groups by {left_out} overlap, so that they cannot be added up to those by {key} alone"
            );
            return Err(self.refused(problem, &format!("add --group-by {left_out}; {ASK_RUNS}")));
        }
        let Some(every) = every.filter(|every| !self.nests_in(every)) else {
            return Ok(());
        };
        let parts = match &self.every {
            Some(own) => format!("made for each {own} ({})", own.zone()),
            None => "not split by time".to_owned(),
        };
        let problem = format!(
            "its tallies are {parts}, which does not give those of each {every} ({})",
            every.zone()
        );
        Err(self.refused(
            problem,
            &format!("ask for spans that consist of whole ones of it; {ASK_RUNS}"),
        ))
    }

    /// Whether it may tell of runs of which another tells as well, if that was made from the same.
    fn shares_runs(&self, other: &Self, window: &Window) -> bool {
        let (first, last) = self.range_us();
        let taken = other.window.both(window);
        let mut projects = self.made.projects.keys();
        taken.both(&self.window).meets(first, last)
            && projects.any(|id| other.made.projects.contains_key(id))
    }
}

impl Origin {
    fn is(&self, other: &Self) -> bool {
        (self.size, self.modified_s) == (other.size, other.modified_s)
            && (self.path == other.path || self.place == other.place)
    }
}

impl Files {
    /// Settles what of the tally files a question takes; the window that it is of, where none is asked for
    /// that of the files.
    pub(crate) fn fit(
        &mut self,
        asked: &Scope,
        window: &Window,
        projects: &BTreeSet<Uuid>,
    ) -> Result<Window> {
        let is_asked = |file: &std::sync::Arc<TallyFile>| {
            file.made.projects.keys().any(|id| projects.contains(id))
        };
        self.tallies.retain(is_asked);
        for file in &self.tallies {
            file.check_scope(asked)?;
        }
        self.check_feedback()?;
        let window = self.settle_window(window)?;
        for file in &mut self.tallies {
            let cut = file.cut(&window)?;
            std::sync::Arc::make_mut(file).cut = cut;
        }
        self.check_overlaps(&window)?;
        Ok(window)
    }

    fn check_feedback(&self) -> Result<()> {
        let mut kinds = self
            .tallies
            .iter()
            .map(|file| (file, file.made.has_records));
        let Some((first, has_records)) = kinds.next() else {
            return Ok(());
        };
        let other = kinds.find(|(_, other)| *other != has_records);
        let beside = match other {
            Some((other, _)) => other.path.display().to_string(),
            None if has_records && !self.files.is_empty() => "the files of runs".to_owned(),
            None => return Ok(()),
        };
        let problem = format!(
            "of it and of {beside}, one has the feedback of records (--feedback), one that of the runs"
        );
        Err(first.refused(problem, AGREE))
    }

    /// Windows must be the same, or follow each other.
    fn settle_window(&self, asked: &Window) -> Result<Window> {
        let mut files: Vec<&TallyFile> = self.tallies.iter().map(AsRef::as_ref).collect();
        files.sort_by_key(|file| (file.window.since_us(), file.window.until_us()));
        for pair in files.windows(2) {
            let [one, next] = pair else { continue };
            if one.window != next.window && !one.window.ends_before(&next.window) {
                let problem = format!(
                    "its traces start {}, those of {} {}",
                    one.window,
                    next.path.display(),
                    next.window
                );
                let hint = "give tally files of one window, or of windows that do not overlap";
                return Err(one.refused(problem, hint));
            }
        }
        let (Some(first), Some(last), true) = (files.first(), files.last(), self.files.is_empty())
        else {
            return Ok(*asked);
        };
        let (since, until) = (first.window.since_us(), last.window.until_us());
        let hint = "ask for a window that tally files cover, or for all of theirs without --since and --until";
        if let (Some(asked), Some(since)) = (asked.since_us(), since)
            && asked < since
        {
            let problem = format!(
                "no tally file tells of traces that start before {}",
                format_time(since)
            );
            return Err(first.refused(problem, hint));
        }
        if let (Some(asked), Some(until)) = (asked.until_us(), until)
            && asked > until
        {
            let problem = format!(
                "no tally file tells of traces that start from {} on",
                format_time(until)
            );
            return Err(last.refused(problem, hint));
        }
        Ok(Window::between(
            asked.since_us().or(since),
            asked.until_us().or(until),
        ))
    }

    /// What should be known of windows of tally files that leave something out.
    pub(crate) fn gaps(&self) -> Vec<String> {
        if !self.files.is_empty() {
            return Vec::new();
        }
        let mut windows: Vec<Window> = self.tallies.iter().map(|file| file.window).collect();
        windows.sort_by_key(|window| (window.since_us(), window.until_us()));
        let gaps = windows.windows(2).filter_map(|pair| match pair {
            [one, next] => Some((one.until_us()?, next.since_us()?)),
            _ => None,
        });
        gaps.filter(|(end, start)| end < start)
            .map(|(end, start)| {
                format!(
                    "no tally file tells of traces that start from {} until before {}",
                    format_time(end),
                    format_time(start)
                )
            })
            .collect()
    }

    /// Nothing may be counted twice.
    fn check_overlaps(&self, window: &Window) -> Result<()> {
        let mut met: BTreeMap<(u64, i64), Vec<(&TallyFile, &Origin)>> = BTreeMap::new();
        let hint =
            "give only one of them, or tally files of windows or projects that do not overlap";
        for file in self.tallies.iter().filter(|file| file.cut.is_some()) {
            for origin in &file.made.from {
                let alike = met.entry((origin.size, origin.modified_s)).or_default();
                let same = alike
                    .iter()
                    .find(|(other, theirs)| origin.is(theirs) && other.shares_runs(file, window));
                if let Some((other, _)) = same {
                    let problem = format!(
                        "it and {} were both made from {}, whose runs would count twice",
                        other.path.display(),
                        origin.path
                    );
                    return Err(file.refused(problem, hint));
                }
                alike.push((file, origin));
            }
        }
        for runs in self.files.iter().filter(|_| !met.is_empty()) {
            let origin = runs.origin();
            let alike = met.get(&(origin.size, origin.modified_s));
            let same = alike.into_iter().flatten().find(|(file, theirs)| {
                let projects = file.made.projects.keys().copied().collect();
                origin.is(theirs) && runs.may_hold(&file.window.both(window), Some(&projects))
            });
            if let Some((file, _)) = same {
                let problem = format!(
                    "it was made from {}, which is a source as well: its runs would count twice",
                    origin.path
                );
                let hint =
                    "give only one of them, or ask for a window that the tally file does not have";
                return Err(file.refused(problem, hint));
            }
        }
        Ok(())
    }

    /// Whether tally files have the feedback of records.
    pub(crate) fn has_records(&self) -> bool {
        self.tallies.iter().any(|file| file.made.has_records)
    }

    /// The feedback on projects themselves, as its bytes. It is that of one file of records: where files
    /// have several, none of them is that of all.
    pub(crate) fn session_feedback(
        &self,
        projects: &BTreeSet<Uuid>,
    ) -> Result<BTreeMap<Uuid, Vec<u8>>> {
        let mut all: BTreeMap<Uuid, (&TallyFile, &Vec<u8>)> = BTreeMap::new();
        for file in &self.tallies {
            for (id, told) in file
                .made
                .projects
                .iter()
                .filter(|(id, _)| projects.contains(id))
            {
                let Some(feedback) = &told.feedback else {
                    continue;
                };
                let (other, known) = all.entry(*id).or_insert((file, feedback));
                if *known != feedback {
                    let problem = format!(
                        "its feedback on project {id} itself is another than that of {}",
                        other.path.display()
                    );
                    return Err(file.refused(problem, "make them with the same --feedback"));
                }
            }
        }
        let all = all.into_iter();
        Ok(all
            .map(|(id, (_, feedback))| (id, feedback.clone()))
            .collect())
    }

    /// Whether tally files can be split so.
    pub(crate) fn check_split(&self, by: &[Key], every: Option<&Every>) -> Result<()> {
        let mut files = self.tallies.iter();
        files.try_for_each(|file| file.check_split(by, every))
    }

    /// Refuses what no tally file can tell.
    pub(crate) fn refuse_of_tallies(&self, what: &str) -> Result<()> {
        self.tallies.first().map_or(Ok(()), |file| {
            let problem = format!("a tally file has no {what}");
            Err(file.refused(problem, ASK_RUNS))
        })
    }

    /// Refuses what tally files do not have of these: `what` says what that is, by the columns that miss.
    pub(crate) fn check_columns(
        &self,
        columns: &BTreeSet<TallyColumn>,
        what: impl Fn(&BTreeSet<TallyColumn>) -> String,
    ) -> Result<()> {
        let mut files = self.tallies.iter();
        files.try_for_each(|file| {
            let missing: BTreeSet<TallyColumn> =
                columns.difference(&file.columns).copied().collect();
            if missing.is_empty() {
                return Ok(());
            }
            let problem = format!(
                "its tallies have nothing from which to tell {}",
                what(&missing)
            );
            let hint =
                format!("select other figures, or make it with these (--select); {ASK_RUNS}");
            Err(file.refused(problem, &hint))
        })
    }

    /// Whose usage tally files have of a project. They must agree, with each other and with what is asked
    /// for or is that of the files of runs.
    pub(crate) fn usage_of(
        &self,
        project: Uuid,
        asked: Option<Usage>,
        runs: &Population,
    ) -> Result<Option<Usage>> {
        let says = |usage: Usage| match usage {
            Usage::Own => "that of all its runs (--usage-from own)",
            Usage::Roots | Usage::Auto => "that of its root (--usage-from roots)",
        };
        let mut known = asked.map(|usage| (usage, "the question and the files of runs".to_owned()));
        for file in &self.tallies {
            let Some(told) = file.made.projects.get(&project) else {
                continue;
            };
            let usage = told.usage();
            match &known {
                Some((other, whose)) if *other != usage && runs.has_usage_rule() => {
                    let problem = format!(
                        "its usage of a trace of project {project} is {}, in {whose} it is {}",
                        says(usage),
                        says(*other)
                    );
                    return Err(file.refused(problem, "make them with the same --usage-from"));
                }
                Some(_) => {}
                None => known = Some((usage, file.path.display().to_string())),
            }
        }
        Ok(known.map(|(usage, _)| usage))
    }
}
