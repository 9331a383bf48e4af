//! What the judge of a release gets: how first deliveries fared, by the second in which their attempts started.
//!
//! Only first deliveries from the main queue are counted: received once, not handed over, without a story. Later deliveries
//! were selected by earlier failures, and cannot be compared between releases.

pub mod counts;
pub mod recorder;
pub mod report;

pub use self::counts::{Durations, Failed, Quality, Receives};
pub use self::recorder::{Evidence, Judged, Receive};
pub use self::report::{Breaker, ControlState, Report, State, Totals, Window};
