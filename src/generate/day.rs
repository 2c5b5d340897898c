//! The runs of a project's day, slot by slot, in order of their starts.
//!
//! Traces start in the slot that the plan gave them; their runs may start in
//! the next one, or past midnight, where they belong to the next day's files.
//! So a day begins with what the last slot of the day before leaves over.
//! That slot has random bits and a number of rows of its own: to know its
//! runs, nothing else of that day needs to be made again.

use super::plan::{DAY_US, Edition, Job, Plan, SLOT_US, SLOTS};
use super::random::{Stream, scale};
use super::trace::{self, MAX_SPAN_US, Run, Scene, Trace};

/// Parts of a day's random bits.
const BODY: u64 = 0;
const TAIL: u64 = 1;

/// Yields the runs of each slot, sorted by start.
#[derive(Debug)]
pub(super) struct Day<'a> {
    plan: &'a Plan,
    job: Job,
    stream: Stream,
    slot_rows: Vec<u64>,
    slot: u32,
    /// Rows of the traces of all slots but the last.
    limit: u64,
    /// Rows that the traces of the slots so far should have, and have. A
    /// trace may reach beyond a slot's rows; the next slots have less then.
    wanted: u64,
    made: u64,
    /// Runs that start after the slots yielded so far.
    open: Vec<Run>,
}

impl<'a> Day<'a> {
    /// The day before its first slot.
    pub(super) fn new(plan: &'a Plan, job: Job) -> Self {
        let slot_rows = plan.slot_rows(job.project, job.day);
        let last = slot_rows.last().copied().unwrap_or(0);
        let mut open = Vec::new();
        if let Some(yesterday) = job.day.checked_sub(1) {
            let start_us = plan.day_start_us(job.day);
            let job = Job {
                day: yesterday,
                ..job
            };
            open = tail(plan, job);
            open.retain(|run| run.start_us >= start_us);
        }
        Self {
            plan,
            job,
            stream: plan.day_stream(job.project, job.day, BODY),
            limit: slot_rows.iter().sum::<u64>() - last,
            slot_rows,
            slot: 0,
            wanted: 0,
            made: 0,
            open,
        }
    }

    /// Adds the traces that start in the current slot.
    fn fill_slot(&mut self) {
        let begin_us = slot_start_us(self.plan, self.job.day, self.slot);
        let rows = self.slot_rows.get(self.slot as usize).copied();
        self.wanted += rows.unwrap_or(0);
        while self.made < self.wanted {
            let room = self.limit - self.made;
            let trace = draw(self.plan, self.job, &mut self.stream, room);
            self.made += trace.runs.len() as u64;
            let offset_us = scale(self.stream.bits(), SLOT_US.unsigned_abs());
            let start_us = begin_us.saturating_add_unsigned(offset_us);
            self.open.extend(trace.place(start_us));
        }
    }
}

impl Iterator for Day<'_> {
    type Item = Vec<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.slot == SLOTS {
            return None;
        }
        if self.slot == SLOTS - 1 {
            self.open.extend(tail(self.plan, self.job));
        } else {
            self.fill_slot();
        }
        self.slot += 1;
        let end_us = slot_start_us(self.plan, self.job.day, self.slot);
        let mut runs: Vec<Run> = self
            .open
            .extract_if(.., |run| run.start_us < end_us)
            .collect();
        runs.sort_unstable_by(|a, b| {
            (a.start_us, &a.dotted_order).cmp(&(b.start_us, &b.dotted_order))
        });
        Some(runs)
    }
}

/// When a slot begins, microseconds.
fn slot_start_us(plan: &Plan, day: u32, slot: u32) -> i64 {
    plan.day_start_us(day) + i64::from(slot) * SLOT_US
}

/// The runs of all traces that start in a day's last slot. On the last day
/// of all none of them starts past midnight.
fn tail(plan: &Plan, job: Job) -> Vec<Run> {
    let mut stream = plan.day_stream(job.project, job.day, TAIL);
    let slot_rows = plan.slot_rows(job.project, job.day);
    let mut room = slot_rows.last().copied().unwrap_or(0);
    let begin_us = slot_start_us(plan, job.day, SLOTS - 1);
    let latest_us = plan.day_start_us(job.day) + DAY_US - 1;
    let mut runs = Vec::new();
    while room > 0 {
        let trace = draw(plan, job, &mut stream, room);
        room = room.saturating_sub(trace.runs.len() as u64);
        let offset_us = scale(stream.bits(), SLOT_US.unsigned_abs());
        let mut start_us = begin_us.saturating_add_unsigned(offset_us);
        if job.day + 1 == plan.options.days {
            start_us = start_us.min(latest_us - trace.last_start_us());
        }
        runs.extend(trace.place(start_us));
    }
    runs
}

/// A trace of at most `room` runs that spans less than a slot.
fn draw(plan: &Plan, job: Job, stream: &mut Stream, room: u64) -> Trace {
    let scene = Scene {
        plan,
        project: job.project,
        day: job.day,
        is_early: job.edition == Edition::First && plan.is_repeated(job.day),
    };
    let trace = trace::trace(stream, &scene);
    if trace.runs.len() as u64 <= room && trace.last_start_us() < MAX_SPAN_US {
        trace
    } else {
        trace::lone_call(stream, &scene)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::generate::Options;

    #[test]
    fn runs_past_midnight_are_the_next_days() {
        let options = Options {
            rows: 2_000_000,
            projects: 1,
            days: 2,
            ..Options::default()
        };
        let plan = Plan::new(&options).unwrap();
        let job = |day| Job {
            edition: Edition::First,
            project: 0,
            day,
        };
        let midnight_us = plan.day_start_us(1);
        let over = tail(&plan, job(0))
            .into_iter()
            .filter(|run| run.start_us >= midnight_us);
        let over: Vec<_> = over.map(|run| run.id).collect();
        let day = Day::new(&plan, job(1));
        let first: Vec<_> = day.open.iter().map(|run| run.id).collect();
        assert!(!over.is_empty());
        assert_eq!(over, first);
        let end_us = plan.day_start_us(2);
        assert!(tail(&plan, job(1)).iter().all(|run| run.start_us < end_us));
    }
}
