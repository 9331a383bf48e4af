//! Evidence as it arrives: what both releases did with the messages they started within one short span of time.
//!
//! Counted are **first deliveries from the main queue** only. Redeliveries and handed-over messages were chosen by earlier
//! failures; counted with the rest they poison the baseline.
//!
//! The arms are *releases*, not services: while a release is tried, the canary service runs the arm `canary`; in the bake the
//! services have changed places, and the arm `canary` (the new release, now the large arm) keeps its name and its evidence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use worker::evidence::counts::{Durations, Failed, LAST_BUCKET, Quality, Receives};

/// Version of the wire form of a [`Window`]. A reader accepts what is not newer.
pub const SCHEMA: u32 = 1;

/// One span of time, by the start of attempts, and what both releases did in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Version of this form, [`SCHEMA`].
    pub schema: u32,
    /// Start, in whole seconds since the epoch.
    pub start: u64,
    /// Length in seconds, at least 1.
    pub seconds: u32,
    /// Message type, where the workers report by type; otherwise empty. Windows of different types are compared apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stratum: String,
    /// Whether deadline and grace are over: what is still open then has failed. Before, a window with open attempts waits.
    #[serde(default)]
    pub closed: bool,
    /// Share of the work that the canary was allowed in this window, in [0, 1]; 0 while its gate was shut.
    #[serde(default)]
    pub share: f64,
    /// The new release.
    #[serde(default)]
    pub canary: Arm,
    /// The release it is compared with.
    #[serde(default)]
    pub baseline: Arm,
}

/// What one release did with the messages it started in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Attempts begun.
    pub started: u64,
    /// Attempts that ended well.
    pub done: u64,
    /// Attempts that failed, by how.
    #[serde(default)]
    pub failed: Failed,
    /// Attempts without an end yet.
    #[serde(default)]
    pub open: u64,
    /// Attempts whose process died or whose lease was lost: failures.
    #[serde(default)]
    pub lost: u64,
    /// Durations of the attempts that ended well.
    #[serde(default)]
    pub durations: Durations,
    /// Sums over receives, for failures.
    #[serde(default)]
    pub receives: Receives,
    /// Named yes/no answers that the handler gave about its own work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, Quality>,
    /// The tasks that ran this release, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
    /// Ids of the first messages that failed, a few at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_failures: Vec<String>,
}

/// Tasks of one release at the end of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tasks {
    /// Running tasks.
    pub running: u32,
    /// Tasks among them that take no work on purpose: paused, gated shut, or waiting for a dependency.
    pub idle: u32,
    /// Tasks among them whose rate breaker is open.
    pub breakers_open: u32,
    /// Processes that started in the window.
    pub starts: u32,
}

impl Arm {
    /// Attempts that failed, those of dead processes and, in a closed window, those still open included; saturates.
    pub fn failures(&self) -> u64 {
        self.failed
            .total()
            .saturating_add(self.lost)
            .saturating_add(self.open)
    }

    /// Attempts that are judged: ended well or failed. Saturates.
    pub fn attempts(&self) -> u64 {
        self.done.saturating_add(self.failures())
    }

    /// Attempts that came to an end of their own, well or not; saturates.
    pub(crate) fn ended(&self) -> u64 {
        self.done.saturating_add(self.failed.total())
    }

    /// Whether every attempt begun is accounted for by an end.
    fn has_ended(&self) -> bool {
        self.open == 0 && self.attempts() >= self.started
    }

    fn fault(&self) -> Option<&'static str> {
        if self.attempts() > self.started {
            return Some("more attempts ended or open than started");
        }
        if self.quality.values().any(|quality| quality.bad > quality.asked) {
            return Some("more bad answers of a quality signal than answers");
        }
        if self.receives.f > self.receives.s {
            return Some("more failures than messages in the sums over receives");
        }
        None
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.started, other.started),
            (&mut self.done, other.done),
            (&mut self.open, other.open),
            (&mut self.lost, other.lost),
            (&mut self.failed.retry, other.failed.retry),
            (&mut self.failed.reject, other.failed.reject),
            (&mut self.failed.unavailable, other.failed.unavailable),
            (&mut self.failed.panic, other.failed.panic),
            (&mut self.failed.deadline, other.failed.deadline),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.durations.merge(&other.durations);
        self.receives = self.receives.and(&other.receives);
        for (name, quality) in &other.quality {
            let mine = self.quality.entry(name.clone()).or_default();
            mine.asked = mine.asked.saturating_add(quality.asked);
            mine.bad = mine.bad.saturating_add(quality.bad);
        }
        if let Some(theirs) = other.tasks {
            let starts = self.tasks.map_or(0, |tasks| tasks.starts);
            self.tasks = Some(Tasks {
                starts: starts.saturating_add(theirs.starts),
                ..theirs
            });
        }
        self.first_failures.extend(other.first_failures.iter().cloned());
    }
}

impl Window {
    /// Whether all its attempts have ended, or had to: only then does a window enter the judge, and only once.
    ///
    /// Failures show before successes where they are faster; windows judged half full convict a harmless canary. An attempt
    /// that was begun and is in no other count is open. There is no clock here: a source hands in no window whose time is
    /// not over.
    pub fn is_complete(&self) -> bool {
        self.closed || (self.canary.has_ended() && self.baseline.has_ended())
    }

    /// Its end, in seconds since the epoch; saturates.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.seconds))
    }

    /// Why the counts cannot be, if they cannot: such a window is no data.
    pub fn fault(&self) -> Option<&'static str> {
        if self.schema > SCHEMA {
            return Some("a newer schema than this release tool knows");
        }
        if self.seconds == 0 {
            return Some("a length of 0 seconds");
        }
        if !(0.0..=1.0).contains(&self.share) {
            return Some("a share outside 0 to 1");
        }
        self.canary.fault().or_else(|| self.baseline.fault())
    }

    /// Adds the counts of another window of the same stratum: a later one, or another reporter's of the same time.
    ///
    /// Sums commute, so any split of a window over reporters gives the same whole. The time covered is that from the first
    /// start to the last end.
    pub fn merge(&mut self, later: &Self) {
        let end = self.end().max(later.end());
        self.closed &= later.closed;
        self.start = self.start.min(later.start);
        self.seconds = u32::try_from(end - self.start).unwrap_or(u32::MAX);
        self.share = later.share;
        self.canary.merge(&later.canary);
        self.baseline.merge(&later.baseline);
    }
}

/// The growth of a counter between two readings, for sources that only have running totals.
///
/// A counter that fell was reset by a restart: then all it shows now is new. Never negative.
pub fn growth(earlier: u64, now: u64) -> u64 {
    if now >= earlier { now - earlier } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_was_reset_counts_from_zero() {
        assert_eq!(growth(10, 13), 3);
        assert_eq!(growth(1_000_000, 4), 4);
    }

    #[test]
    fn a_window_with_open_attempts_waits_until_it_is_closed() {
        let mut window = Window {
            seconds: 1,
            ..Window::default()
        };
        window.canary = Arm {
            started: 2,
            done: 1,
            open: 1,
            ..Arm::default()
        };
        assert!(!window.is_complete());
        window.closed = true;
        assert!(window.is_complete());
        assert_eq!((window.canary.attempts(), window.canary.failures()), (2, 1));
    }

    #[test]
    fn merging_covers_the_time_of_both_and_reporters_of_one_time_once() {
        let at = |start, done| Window {
            start,
            seconds: 1,
            canary: Arm {
                started: done,
                done,
                ..Arm::default()
            },
            ..Window::default()
        };
        let mut window = at(10, 1);
        window.merge(&at(10, 2));
        assert_eq!((window.start, window.seconds, window.canary.done), (10, 1, 3));
        window.merge(&at(13, 4));
        assert_eq!((window.start, window.seconds, window.canary.done), (10, 4, 7));
    }

    #[test]
    fn impossible_counts_are_named() {
        let mut window = Window {
            seconds: 1,
            ..Window::default()
        };
        window.canary = Arm {
            started: 2,
            done: 3,
            ..Arm::default()
        };
        assert_eq!(window.fault(), Some("more attempts ended or open than started"));
        window.canary.started = 3;
        assert_eq!(window.fault(), None);
        window.schema = SCHEMA + 1;
        assert!(window.fault().is_some());
    }

    #[test]
    fn unknown_fields_of_a_newer_worker_are_ignored() {
        let text = r#"{"schema":1,"start":7,"seconds":1,"canary":{"started":1,"done":1,"colour":"blue"}}"#;
        let window: Window = serde_json::from_str(text).expect("reads");
        assert_eq!(
            (window.start, window.canary.done, window.baseline.started),
            (7, 1, 0)
        );
    }
}
