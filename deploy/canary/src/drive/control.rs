//! What the control document is to say: the share becomes a rate for each canary process.

use worker::control::{TrackControl, Tracks, share};

use crate::evidence::Collector;
use crate::journal::Measured;
use crate::moment::Moment;
use crate::rollout::{Course, Limit, State, action};

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
    let by_share = |share: f64| share::rate(share, flow.per_second);
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

/// Whether the difference is not worth a write: the rate is near, the allowed failure rate within 5 %, everything else the same.
pub(super) fn is_same(one: &Tracks, other: &Tracks) -> bool {
    let within = |one: f64, other: f64| (one - other).abs() <= 0.05 * one.max(other);
    match (one.canary, other.canary) {
        (Some(one), Some(other)) => {
            both(one.max_per_second, other.max_per_second, share::is_near)
                && both(one.max_failure_rate, other.max_failure_rate, within)
                && one.paused == other.paused
                && one.handover == other.handover
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether a change may wait for the next review of the rate ([`share::REVIEW`]): it adjusts, and neither stops, opens nor cuts.
pub(super) fn can_wait(written: &Tracks, wanted: &Tracks) -> bool {
    match (written.canary, wanted.canary) {
        (Some(written), Some(wanted)) => {
            written.paused == wanted.paused
                && written.handover == wanted.handover
                && both(
                    written.max_per_second,
                    wanted.max_per_second,
                    |written, wanted| wanted > 0.5 * written,
                )
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn both(one: Option<f64>, other: Option<f64>, hold: impl FnOnce(f64, f64) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => hold(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rate: f64) -> Tracks {
        let canary = TrackControl {
            max_per_second: Some(rate),
            ..TrackControl::default()
        };
        Tracks {
            canary: Some(canary),
            stable: None,
        }
    }

    #[test]
    fn an_adjustment_waits_for_the_next_review_and_a_cut_a_pause_or_the_end_does_not() {
        assert!(is_same(&at(10.0), &at(10.05)) && !is_same(&at(10.0), &at(10.3)));
        assert!(can_wait(&at(10.0), &at(9.0)) && can_wait(&at(10.0), &at(20.0)));
        assert!(!can_wait(&at(10.0), &at(0.2)));
        let mut paused = at(10.0);
        paused.canary = paused.canary.map(|canary| TrackControl {
            paused: true,
            ..canary
        });
        assert!(!can_wait(&at(10.0), &paused));
        assert!(!can_wait(&at(10.0), &Tracks::default()));
    }
}
