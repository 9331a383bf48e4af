//! The wall clock, which can be that of a simulation.

use std::time::SystemTime;

use tokio::time::Instant;

/// Tells the time of day. Durations are measured by tokio's clock instead, which tests can pause.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// `start` plus what has passed on tokio's clock since `since`: under a paused clock it is paused as well.
    Simulated {
        /// The time of day at `since`.
        start: SystemTime,
        /// When the simulation began.
        since: Instant,
    },
}

impl Clock {
    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Simulated { start, since } => *start + since.elapsed(),
        }
    }
}
