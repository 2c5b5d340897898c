//! Documents: what the user gets, as the API says it.
//!
//! A document is a pure function of a tally and the project's metadata. `session` says what one looks
//! like, `assemble` where each field comes from.

mod against;
mod assemble;
mod audit;
mod figures;
mod groups;
mod overview;
mod record;
mod run;
mod session;
mod session_v2;
mod stats;
mod value;

pub use against::{Cause, Comparison, FieldComparison, OtherDocument, Verdict};
pub(crate) use against::{Evidence, compare};
pub(crate) use assemble::{Known, assemble, cost};
pub(crate) use audit::gaps;
pub use audit::{Audit, AuditedProject, Coverage, CoverageUnit, Finding};
pub(crate) use figures::{Says, needed};
pub(crate) use groups::{Gathered, Making, Meaning, Series, add_tallies, add_tally, spans};
pub use overview::{Distribution, Overview};
pub use record::RunRecord;
pub(crate) use record::{object, objects};
pub use run::RunLine;
pub use session::{FeedbackStats, RunFacet, TracerSession};
pub use session_v2::{Session, SessionFeedbackStat};
pub use stats::{Attainment, Bucket, Figure, Group, Label};
pub use value::{Cost, CostFormat, Nanoseconds, Thousandths, Timestamp};
