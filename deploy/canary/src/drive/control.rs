//! What the control document is to say: the share becomes a rate for each canary process.

use worker::control::{TrackControl, Tracks};

use crate::evidence::Collector;
use crate::journal::Measured;
use crate::moment::Moment;
use crate::rollout::{Course, Limit, State, action};

/// The least rate of a canary that may take anything at all, in messages a second: on a queue that was quiet until now, it too may
/// take one now and then.
const LEAST_RATE: f64 = 0.2;
/// Below this rate no canary's breaker opens, whatever the old release's failures are.
const LEAST_FAILURE_RATE: f64 = 0.05;
/// Seconds of the old release's failures that the breaker's rate goes by.
const WATCHED: u64 = 60;

/// What the tracks may do now.
pub(super) fn tracks(
    course: &Course,
    state: &State,
    collector: &Collector,
    measured: &Measured,
    now: Moment,
) -> Tracks {
    if state.outcome().is_some() {
        return Tracks::default();
    }
    let limit = action::limit(course, state);
    let flow = collector.flow(now);
    let processes = f64::from(measured.canary.desired.max(1));
    let by_share = |share: f64| (share * flow.per_second).max(LEAST_RATE);
    let rate = match limit {
        Limit::Shut => Some(0.0),
        Limit::Share(share) => Some(by_share(share)),
        Limit::Trickle { rate, share } => Some(by_share(share).min(rate)),
        Limit::Open => None,
    };
    let tries = !matches!(
        state.phase,
        crate::rollout::Phase::Baking { .. } | crate::rollout::Phase::Controlling { .. }
    ) && state.baseline.is_some()
        && state.outcome().is_none()
        && !matches!(state.phase, crate::rollout::Phase::RollingBack { .. });
    let canary = TrackControl {
        max_per_second: rate.map(|rate| rate / processes),
        paused: limit == Limit::Shut,
        // A control group runs the good release: it does not stop itself.
        max_failure_rate: Some(if tries {
            failure_rate(course, collector)
        } else {
            1.0
        }),
        handover: Some(tries),
    };
    Tracks {
        canary: Some(canary),
        stable: Some(TrackControl::default()),
    }
}

/// The failure rate from which a canary process stops itself: what the plan tolerates of the old release's rate, and never little.
///
/// A shared outage raises it with the old release's failures, so that the canary does not stop for what is not its fault.
fn failure_rate(course: &Course, collector: &Collector) -> f64 {
    let rules = &course.plan.rules;
    let recent = collector.ledger().recent(WATCHED);
    let (failed, attempts) = recent.iter().fold((0, 0), |(failed, attempts), window| {
        let baseline = &window.baseline;
        (
            failed + baseline.failures() - baseline.open,
            attempts + baseline.attempts() - baseline.open,
        )
    });
    let rate = (failed as f64 + 1.0) / (attempts as f64 + 2.0);
    let known = if attempts == 0 { 0.0 } else { rate };
    (rules.tolerated_ratio * known)
        .max(rules.ceiling.unwrap_or(0.0))
        .clamp(LEAST_FAILURE_RATE, 0.9)
}

/// Whether the difference is not worth a write: rates within 5 %, everything else the same.
pub(super) fn is_same(one: &Tracks, other: &Tracks) -> bool {
    let near = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= 0.05 * one.max(other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    match (one.canary, other.canary) {
        (Some(one), Some(other)) => {
            near(one.max_per_second, other.max_per_second)
                && near(one.max_failure_rate, other.max_failure_rate)
                && one.paused == other.paused
                && one.handover == other.handover
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
