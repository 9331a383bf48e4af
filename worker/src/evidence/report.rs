//! What one process reports about itself and its attempts: the answer of `GET /evidence`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::{Durations, Failed, Quality, Receives};
use crate::release::{Release, Track};

/// Version of the form of a [`Report`]. A reader accepts what is not newer, and ignores fields it does not know.
pub const SCHEMA: u32 = 1;

/// The evidence of one process. Times are seconds since the epoch by the clock of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form, [`SCHEMA`].
    pub schema: u32,
    /// The release that made the attempts.
    pub release: Release,
    /// The track the process runs on.
    pub track: Track,
    /// The ECS service, where the process knows it.
    #[serde(default)]
    pub service: Option<String>,
    /// A random id of this process: totals start at zero with a new one.
    pub process: String,
    /// When the process started.
    pub started_at: f64,
    /// When this report was made.
    pub now: f64,
    /// How long an attempt may take, in seconds: a window is complete at its end plus this at the latest.
    pub deadline_seconds: f64,
    /// What the process does just now.
    pub state: State,
    /// The windows asked for, ascending by start; those in which nothing was started are left out.
    pub windows: Vec<Window>,
    /// Since the process started.
    pub totals: Totals,
}

/// What a process does just now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Whether its poll loop runs: it neither drains nor has ended.
    pub polling: bool,
    /// Whether the control document, or the want of one, stops its polls.
    pub paused: bool,
    /// Whether the gate has no token just now, so that the rate holds it back.
    pub gated: bool,
    /// The breaker on the release's failures.
    pub rate_breaker: Breaker,
    /// The breaker on what the handler depends on.
    pub dependency_breaker: Breaker,
    /// The control document in force; none where no source is set, or nothing was read yet.
    pub control: Option<ControlState>,
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Work goes on.
    #[default]
    Closed,
    /// A probe is on its way.
    HalfOpen,
    /// Nothing is received.
    Open,
}

impl Breaker {
    /// As the gauge shows it: 0 closed, 1 half open, 2 open.
    #[must_use]
    pub const fn gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// Which control document is in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlState {
    /// Its epoch.
    pub epoch: u64,
    /// How long ago it was last read, in seconds.
    pub age_seconds: f64,
}

/// What one process did with the first deliveries it started in one second.
///
/// `started` = `done` + all of `failed` + `lost` + `open`, always.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Start, in whole seconds since the epoch; the window is 1 s long.
    pub start: u64,
    /// Attempts begun, less those that a shutdown cut off.
    pub started: u64,
    /// Attempts that ended well.
    pub done: u64,
    /// Attempts that failed, by how.
    #[serde(default)]
    pub failed: Failed,
    /// Attempts that ended well after more than the setting `evidence.slow_after`.
    #[serde(default)]
    pub slow: u64,
    /// Attempts without an end yet.
    #[serde(default)]
    pub open: u64,
    /// Attempts whose lease was lost. One that a shutdown cut off is not among them: it says nothing about the release.
    #[serde(default)]
    pub lost: u64,
    /// Durations of the attempts that ended well.
    #[serde(default)]
    pub durations: Durations,
    /// Sums over the parts of receives that were started in this window, of the attempts that have ended.
    #[serde(default)]
    pub receives: Receives,
    /// Named yes/no answers that the handler gave about its own work.
    #[serde(default)]
    pub quality: BTreeMap<String, Quality>,
    /// Ids of the first messages that failed, [`MAX_FIRST_FAILURES`] at most.
    #[serde(default)]
    pub first_failures: Vec<String>,
}

/// The most ids in [`Window::first_failures`].
pub const MAX_FIRST_FAILURES: usize = 3;

/// Counts since the process started, of the same attempts as in the windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Attempts begun, less those that a shutdown cut off.
    pub started: u64,
    /// Attempts that ended well.
    pub done: u64,
    /// Attempts that failed or were lost.
    pub failed: u64,
    /// Messages moved to the handover queue; those that were redelivered before included.
    pub handed_over: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form other programs rely on, field by field.
    const EXAMPLE: &str = r#"{"schema":1,"release":"1.4.2","track":"canary","service":"orders-canary",
        "process":"0f","started_at":1764064000.5,"now":1764064801.25,"deadline_seconds":30.0,
        "state":{"polling":true,"paused":false,"gated":false,"rate_breaker":"half_open","dependency_breaker":"closed",
                 "control":{"epoch":7,"age_seconds":2.1}},
        "windows":[{"start":1764064800,"started":50,"done":49,
                    "failed":{"retry":0,"reject":1,"unavailable":0,"panic":0,"deadline":0},
                    "slow":0,"open":0,"lost":0,"durations":[[27,40],[28,9]],
                    "receives":{"s":50,"ss":420,"f":1,"ff":1,"fs":10},
                    "quality":{"empty_result":{"asked":49,"bad":1}},"first_failures":["m-1"]}],
        "totals":{"started":50,"done":49,"failed":1,"handed_over":1}}"#;

    #[test]
    fn the_documented_report_reads_and_writes_as_it_stands() {
        let report: Report = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(report.state.rate_breaker, Breaker::HalfOpen);
        assert_eq!(report.windows[0].durations.0, [(27, 40), (28, 9)]);
        let written = serde_json::to_value(&report).unwrap();
        assert_eq!(
            written,
            serde_json::from_str::<serde_json::Value>(EXAMPLE).unwrap()
        );
    }

    #[test]
    fn what_a_later_worker_adds_is_ignored_and_what_an_earlier_one_left_out_is_empty() {
        let text = r#"{"schema":1,"release":"1","track":"stable","process":"p","started_at":0.0,"now":1.0,
            "deadline_seconds":30.0,"state":{"mood":"fine"},"windows":[{"start":1,"started":1,"done":1,"hue":3}],
            "totals":{}}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!(report.state, State::default());
        assert_eq!((report.windows[0].done, report.service), (1, None));
    }
}
