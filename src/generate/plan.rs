//! How many rows go where: the options, checked, as a number of rows for each
//! project, day and quarter of an hour. What is decided here depends on the
//! options alone, so that days can be made independently of each other.

use chrono::{Datelike, Days, NaiveDate, Weekday};
use uuid::Uuid;

use super::catalog::{PERSONAS, Persona};
use super::random::{Stream, to_index};
use super::{GenerateError, GeneratedProject, Options};

/// Number of slots of a day.
pub(super) const SLOTS: u32 = 96;

/// Length of a slot, microseconds.
pub(super) const SLOT_US: i64 = DAY_US / SLOTS as i64;

/// Length of a day, microseconds.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// First parts of the places of streams; see [`Stream::new`].
const EXPORTS: u64 = 1;
const PROJECTS: u64 = 2;
const DAYS: u64 = 3;
const THREADS: u64 = 4;

/// Traffic at each hour of the day, in any unit.
const HOURS: [u64; 24] = [
    22, 18, 15, 14, 16, 22, 34, 52, 74, 90, 98, 100, 94, 97, 100, 98, 92, 84, 72, 62, 54, 46, 37,
    28,
];

/// Traffic on a working day, and on one of the weekend.
const WORKDAY: u64 = 100;
const WEEKEND: u64 = 55;

/// The checked options and what follows from them at once.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) options: Options,
    pub(super) tenant: Uuid,
    pub(super) projects: Vec<Project>,
    first_day: NaiveDate,
    exports: [Uuid; 2],
}

/// A project and its rows.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) index: u32,
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) persona: &'static Persona,
    /// When it was created: some days before its first run, microseconds.
    pub(super) created_us: i64,
    /// Number of runs that belong to the traces of each day.
    rows: Vec<u64>,
}

/// Which of the two exports: the first has all days, the second repeats the
/// last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edition {
    First,
    Second,
}

/// A day of a project in an export.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) edition: Edition,
    pub(super) project: usize,
    /// Counted from the first day.
    pub(super) day: u32,
}

impl Plan {
    /// Checks the options and divides the rows.
    pub(super) fn new(options: &Options) -> Result<Self, GenerateError> {
        let first_day = check(options)?;
        let mut stream = Stream::new(options.seed, &[EXPORTS]);
        let tenant = stream.uuid();
        let exports = [
            with_first_digit(stream.uuid(), 0x4),
            with_first_digit(stream.uuid(), 0x9),
        ];
        let mut plan = Self {
            options: options.clone(),
            tenant,
            projects: Vec::new(),
            first_day,
            exports,
        };
        plan.projects = plan.divide();
        Ok(plan)
    }

    /// All that is to be written, the days of the largest project first.
    pub(super) fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for project in 0..self.projects.len() {
            for day in 0..self.options.days {
                let mut add = |edition| {
                    jobs.push(Job {
                        edition,
                        project,
                        day,
                    });
                };
                add(Edition::First);
                if self.is_repeated(day) {
                    add(Edition::Second);
                }
            }
        }
        jobs
    }

    /// The projects as the summary has them.
    pub(super) fn projects(&self) -> Vec<GeneratedProject> {
        self.projects
            .iter()
            .map(|project| GeneratedProject {
                id: project.id,
                name: project.name.clone(),
                runs: project.rows.iter().sum(),
            })
            .collect()
    }

    /// Whether the second export has the day as well.
    pub(super) fn is_repeated(&self, day: u32) -> bool {
        day >= self.options.days - self.options.overlap
    }

    /// The id of an export; the second's sorts after the first's.
    pub(super) fn export_id(&self, edition: Edition) -> Uuid {
        match edition {
            Edition::First => self.exports[0],
            Edition::Second => self.exports[1],
        }
    }

    /// The date of a day.
    pub(super) fn date(&self, day: u32) -> NaiveDate {
        self.first_day + Days::new(u64::from(day))
    }

    /// The midnight that begins a day, microseconds since 1970.
    pub(super) fn day_start_us(&self, day: u32) -> i64 {
        (i64::from(self.first_day.to_epoch_days()) + i64::from(day)) * DAY_US
    }

    /// Rows of the traces that start in each slot of a day.
    pub(super) fn slot_rows(&self, project: usize, day: u32) -> Vec<u64> {
        let rows = self
            .projects
            .get(project)
            .and_then(|project| project.rows.get(day as usize));
        share(rows.copied().unwrap_or(0), &slot_weights())
    }

    /// The random bits of a day; those of its last slot are a part of their
    /// own, because the next day needs them too.
    pub(super) fn day_stream(&self, project: usize, day: u32, part: u64) -> Stream {
        let place = [DAYS, project as u64, u64::from(day), part];
        Stream::new(self.options.seed, &place)
    }

    /// The id of a user's conversation.
    pub(super) fn thread_id(&self, project: usize, day: u32, user: u32, number: u64) -> Uuid {
        let (project, day, user) = (project as u64, u64::from(day), u64::from(user));
        Stream::new(self.options.seed, &[THREADS, project, day, user, number]).uuid()
    }

    /// The projects, each with its rows a day.
    fn divide(&self) -> Vec<Project> {
        let n_projects = self.options.projects;
        let weights: Vec<u64> = (1..=u64::from(n_projects)).map(|n| 20 + 100 / n).collect();
        let day_weights: Vec<u64> = (0..self.options.days)
            .map(|day| match self.date(day).weekday() {
                Weekday::Sat | Weekday::Sun => WEEKEND,
                _ => WORKDAY,
            })
            .collect();
        let mut projects = Vec::new();
        for (index, rows) in (0..n_projects).zip(share(self.options.rows, &weights)) {
            let mut stream = Stream::new(self.options.seed, &[PROJECTS, u64::from(index)]);
            let turn = index as usize / PERSONAS.len() + 1;
            let persona = &PERSONAS[index as usize % PERSONAS.len()];
            let before_us = stream.between(DAY_US.unsigned_abs(), 30 * DAY_US.unsigned_abs());
            projects.push(Project {
                index,
                id: stream.uuid(),
                name: match turn {
                    1 => persona.name.to_owned(),
                    _ => format!("{}-{turn}", persona.name),
                },
                persona,
                created_us: self.day_start_us(0).saturating_sub_unsigned(before_us),
                rows: share(rows, &day_weights),
            });
        }
        projects
    }
}

/// Refuses options that are out of range; returns the first day.
fn check(options: &Options) -> Result<NaiveDate, GenerateError> {
    let require = |holds: bool, option, expected| {
        if holds {
            Ok(())
        } else {
            Err(GenerateError::Option { option, expected })
        }
    };
    require(
        (1..=100_000).contains(&options.projects),
        "projects",
        "from 1 to 100000",
    )?;
    require(options.days >= 1, "days", "at least 1")?;
    require(options.users >= 1, "users", "at least 1")?;
    require(options.row_group_rows >= 1, "row_group_rows", "at least 1")?;
    require(
        options.overlap <= options.days,
        "overlap",
        "at most the number of days",
    )?;
    require(
        (1..=SLOTS).contains(&options.files_per_day),
        "files_per_day",
        "from 1 to 96",
    )?;
    require(
        options.pending_share <= 10_000,
        "pending_share",
        "at most 10000",
    )?;
    let years = 1971..=2200;
    require(
        years.contains(&options.end.year()),
        "end",
        "a date from 1971 to 2200",
    )?;
    options
        .end
        .checked_sub_days(Days::new(u64::from(options.days) - 1))
        .filter(|first_day| years.contains(&first_day.year()))
        .ok_or(GenerateError::Option {
            option: "days",
            expected: "so few that the first day is not before 1971",
        })
}

/// The id with another first hexadecimal digit, so that ids sort as wanted.
fn with_first_digit(id: Uuid, digit: u8) -> Uuid {
    let mut bytes = id.into_bytes();
    bytes[0] = (digit << 4) | (bytes[0] & 0x0F);
    Uuid::from_bytes(bytes)
}

/// Traffic in each slot: the hours', joined by straight lines.
fn slot_weights() -> Vec<u64> {
    let a_slot = u64::from(SLOTS) / 24;
    (0..u64::from(SLOTS))
        .map(|slot| {
            let hour = to_index(slot / a_slot);
            let (here, next) = (HOURS[hour % 24], HOURS[(hour + 1) % 24]);
            let part = slot % a_slot;
            here * (a_slot - part) + next * part
        })
        .collect()
}

/// Divides a total in proportion to weights, in whole numbers whose sum is
/// the total again. All zero where the weights are.
fn share(total: u64, weights: &[u64]) -> Vec<u64> {
    let all: u128 = weights.iter().copied().map(u128::from).sum();
    let mut weight_so_far = 0_u128;
    let mut so_far = 0_u64;
    weights
        .iter()
        .map(|&weight| {
            weight_so_far += u128::from(weight);
            let up_to_here = (u128::from(total) * weight_so_far)
                .checked_div(all)
                .and_then(|rows| u64::try_from(rows).ok())
                .unwrap_or(0);
            let here = up_to_here - so_far;
            so_far = up_to_here;
            here
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!(share(10, &[1, 1, 1]), [3, 3, 4]);
        assert_eq!(share(2, &[0, 0]), [0, 0]);
        assert_eq!(share(u64::MAX, &[3, 5]).iter().sum::<u64>(), u64::MAX);
    }

    #[test]
    fn every_row_has_a_slot() {
        let options = Options {
            rows: 12_345,
            projects: 11,
            ..Options::default()
        };
        let plan = Plan::new(&options).unwrap();
        let mut rows = 0;
        for project in 0..11 {
            for day in 0..7 {
                rows += plan.slot_rows(project, day).iter().sum::<u64>();
            }
        }
        assert_eq!(rows, 12_345);
        assert_eq!(plan.projects[10].name, "sales-copilot-2");
        assert!(plan.export_id(Edition::First) < plan.export_id(Edition::Second));
    }

    #[test]
    fn options_out_of_range() {
        let bad = [
            Options {
                projects: 0,
                ..Options::default()
            },
            Options {
                days: 0,
                ..Options::default()
            },
            Options {
                days: u32::MAX,
                ..Options::default()
            },
            Options {
                users: 0,
                ..Options::default()
            },
            Options {
                overlap: 8,
                ..Options::default()
            },
            Options {
                files_per_day: 97,
                ..Options::default()
            },
            Options {
                row_group_rows: 0,
                ..Options::default()
            },
            Options {
                end: NaiveDate::MIN,
                ..Options::default()
            },
            Options {
                end: NaiveDate::MAX,
                ..Options::default()
            },
        ];
        for options in bad {
            let result = Plan::new(&options);
            assert!(matches!(result, Err(GenerateError::Option { .. })));
        }
    }
}
