//! Documents: what the user gets, as the API says it.
//!
//! A document is a pure function of a tally and the project's metadata. `session` says what one looks
//! like, `assemble` where each field comes from.

mod assemble;
mod overview;
mod session;
mod stats;
mod value;

pub(crate) use assemble::{Known, assemble};
pub use overview::{Distribution, Overview};
pub use session::{FeedbackStats, RunFacet, TracerSession};
pub use stats::{Attainment, Bucket, Figure, Group, Label};
pub use value::{Cost, CostFormat, Nanoseconds, Thousandths, Timestamp};
