//! The worker's reflexes: circuit breakers that stop the polls without asking anybody.
//!
//! [`dependency`] guards what the handler depends on: while it is down, what is in hand waits under its lease, so that an
//! outage spends no receives. [`rate`] guards the work from a release on trial that fails more than it may.

pub mod dependency;
pub mod detector;
pub mod rate;

/// Which breaker: the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On the share of failed attempts; canary only.
    Rate,
    /// On a dependency that is down.
    Dependency,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Rate, Self::Dependency];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Dependency => "dependency",
        }
    }
}
