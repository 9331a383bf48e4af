//! What a judge says, as data: the decision, what it rests on, and what would have changed it.

use serde::{Deserialize, Serialize};

use super::confidence::Band;
use super::guard::Finding;

/// Version of the serialised form of a [`Verdict`].
pub const SCHEMA: u32 = 1;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The release is not worse than tolerated: give it all the work.
    Promote,
    /// The release does harm, or a guard acted: take it away.
    Rollback,
    /// Neither is shown yet.
    Continue,
    /// Neither was shown by the deadline; the plan says what then.
    Inconclusive,
}

/// A decision with all it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Version of this form, [`SCHEMA`].
    pub schema: u32,
    /// What is to be done.
    pub decision: Decision,
    /// Whether the evidence of harm is enough to cut the canary to a trickle now.
    pub suspected: bool,
    /// Whether the present step has run its least time, seen its least messages and shown its least evidence.
    pub step_done: bool,
    /// The windows that were compared.
    pub windows: Windows,
    /// Evidence of harm, over all signals.
    pub harm: Measure,
    /// Evidence that the release is not worse than tolerated.
    pub promotion: Measure,
    /// Each signal by itself.
    pub signals: Vec<SignalReport>,
    /// What the guards found; any finding is a rollback.
    pub guards: Vec<Finding>,
    /// Ids of the first messages that the canary failed, a few at most.
    pub first_failures: Vec<String>,
    /// Correlation of failures within a receive, in [0, 1].
    pub icc: f64,
    /// What it would have taken to decide otherwise.
    pub otherwise: Otherwise,
}

/// Windows, by what they were good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Windows with attempts of both releases.
    pub compared: u64,
    /// Windows without an attempt of the canary: no data, neither good nor bad.
    pub without_canary: u64,
    /// Windows without an attempt of the baseline: no data.
    pub without_baseline: u64,
    /// Windows refused because their counts cannot be: no data.
    pub refused: u64,
}

/// Evidence against its bounds. Natural logarithms of e-values: 0 is none, 4.6 is 100 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// ln E.
    pub ln_evidence: f64,
    /// What `ln_evidence` must reach.
    pub ln_bound: f64,
    /// The least ln E with any one stretch left out; `None` while `ln_evidence` is below its bound, where it does not matter.
    pub ln_evidence_without_stretch: Option<f64>,
    /// What that must reach too.
    pub ln_bound_without_stretch: f64,
    /// For harm the start of the window at which both were first reached, for promotion that of the newest window while both
    /// are; in seconds since the epoch.
    pub reached_at: Option<u64>,
}

/// One signal: counts, rates with bands that hold at every moment at once, evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalReport {
    /// Name of the signal.
    pub name: String,
    /// Its part of α, in (0, 1].
    pub weight: f64,
    /// The canary.
    pub canary: ArmReport,
    /// The baseline.
    pub baseline: ArmReport,
    /// ln E of this signal alone.
    pub ln_evidence: f64,
    /// What it would have to reach to convict without the others: ln(1/(weight·α)).
    pub ln_bound: f64,
}

/// One release under one signal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    /// Messages the signal was asked of.
    pub attempts: u64,
    /// Messages that counted against the release.
    pub failed: u64,
    /// Rate and band.
    pub rate: Band,
}

/// What it would have taken. `None` where the question does not arise or no such number exists within reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Otherwise {
    /// Canary failures fewer, the latest taken first, with which the release would be neither suspected nor convicted now.
    pub fewer_failures_to_clear: Option<u64>,
    /// Canary failures in one further window of usual size with which it would be suspected.
    pub more_failures_to_suspect: Option<u64>,
    /// Canary failures in one further window of usual size with which promotion would be refused.
    pub more_failures_to_refuse: Option<u64>,
    /// Canary messages more, failing as the baseline does, with which it would likely be promoted: an estimate.
    pub more_messages_to_promote: Option<u64>,
}

/// Where a rollout stands when the judge is asked: what the judge cannot see in windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Situation {
    /// Whether the deadline of the rollout has passed.
    pub deadline_passed: bool,
    /// Whether this is the last step, the one that may promote.
    pub last_step: bool,
    /// Whether the step has run its least time.
    pub least_time_reached: bool,
    /// Whether the canary has seen the step's least messages.
    pub least_messages_reached: bool,
    /// ln of the evidence for promotion that the step must show before the next; the last step's is ln(1/β) whatever is here.
    pub least_evidence: f64,
}
