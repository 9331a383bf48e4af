//! The endpoint's clock, which can be set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::Timestamp;

/// A clock that starts at the machine's time, runs on tokio's, and can be set, moved and frozen.
#[derive(Debug)]
pub struct Clock {
    base: Timestamp,
    since: Instant,
    frozen: bool,
}

impl Clock {
    pub(super) fn system() -> Self {
        // A machine whose clock is before 1970 gets 1970.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            base: Timestamp::default() + elapsed,
            since: Instant::now(),
            frozen: false,
        }
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        if self.frozen {
            self.base
        } else {
            self.base + self.since.elapsed()
        }
    }

    /// Whether the clock stands still.
    pub fn frozen(&self) -> bool {
        self.frozen
    }

    /// Sets the time.
    pub fn set(&mut self, now: Timestamp) {
        self.base = now;
        self.since = Instant::now();
    }

    /// Moves the time forward.
    pub fn advance(&mut self, by: Duration) {
        self.set(self.now() + by);
    }

    /// Stops the clock, or lets it run again.
    pub fn freeze(&mut self, frozen: bool) {
        self.set(self.now());
        self.frozen = frozen;
    }

    /// How long to wait for `at`; none while the clock stands still before it.
    pub(super) fn until(&self, at: Timestamp) -> Option<Duration> {
        let left = at.since(self.now());
        (!self.frozen || left.is_zero()).then_some(left)
    }
}
