//! What is read off the counts and the fleet besides the judge's verdict.

use crate::evidence::End;
use crate::fleet::{ServiceView, View};
use crate::journal::{ProcessMeasured, ServiceMeasured, Span};
use crate::judge::confidence::Tally;
use crate::judge::guard::{self, Finding};
use crate::judge::ledger::Ledger;
use crate::judge::rules::Rules;
use crate::judge::verdict::{Decision, Situation};
use crate::moment::Moment;
use crate::rollout::{Course, Happening, Judgement, Limit, Phase, State, action};

/// Processes that have ended by themselves since the last look.
pub(super) fn crashes(view: &View) -> Vec<Happening> {
    let crashed = view.ended.iter().filter(|ended| ended.how == End::Crashed);
    crashed
        .map(|ended| Happening::Crashed {
            service: ended.service.to_string(),
            release: ended.release.clone(),
            text: ended.text.clone(),
        })
        .collect()
}

/// The share of the work that the new release may take; 0 while nothing is known of it, so that silence means nothing then.
pub(super) fn share_of_candidate(course: &Course, state: &State) -> f64 {
    match (&state.phase, action::limit(course, state)) {
        (Phase::Step { .. }, Limit::Share(share)) => share,
        (Phase::Baking { .. }, Limit::Share(share)) => 1.0 - share,
        _ => 0.0,
    }
}

/// The share that the canary *service* is to take, where it is limited by share.
pub(super) fn share_wanted(course: &Course, state: &State) -> Option<f64> {
    match action::limit(course, state) {
        Limit::Share(share) | Limit::Trickle { share, .. } => Some(share),
        Limit::Shut => Some(0.0),
        Limit::Open => None,
    }
}

/// Attempts and failures of the new release so far.
pub(super) fn tally(ledger: &Ledger) -> Tally {
    let mut tally = Tally::default();
    for window in ledger.merged(1) {
        tally.add(window.canary.attempts(), window.canary.failures(), 1.0);
    }
    tally
}

/// What there is to say of a release with nothing to compare it with: the guards, and the plan's ceiling.
///
/// It is rolled back when its failure rate is above the ceiling beyond doubt (a band that ever misses the rate with chance 5 % at
/// most), and promoted after the step's time and messages when its rate is not above it. That is no comparison: a ceiling of 0.5 %
/// says nothing about a release that should fail 0.01 %.
pub(super) fn first_release(
    rules: &Rules,
    ledger: &Ledger,
    situation: &Situation,
    tally: &Tally,
) -> Judgement {
    let reach = rules.guards.silence.max(rules.guards.crash_seconds);
    let findings: Vec<Finding> = guard::inspect(&rules.guards, &ledger.recent(reach.into()));
    let band = tally.band();
    let above = rules
        .ceiling
        .is_some_and(|ceiling| tally.attempts > 0 && band.low > ceiling);
    let in_doubt = rules.ceiling.is_some_and(|ceiling| band.rate > ceiling);
    let done = situation.least_time_reached && situation.least_messages_reached;
    let decision = if above || !findings.is_empty() {
        Decision::Rollback
    } else if done && !in_doubt {
        Decision::Promote
    } else if situation.deadline_passed {
        Decision::Inconclusive
    } else {
        Decision::Continue
    };
    Judgement {
        decision,
        suspected: false,
        step_done: done,
        messages: tally.attempts,
        findings,
        above_ceiling: above,
    }
}

/// The first and the latest moment at which a canary process had stopped itself.
pub(super) fn contained(before: Option<Span>, is_open: bool, now: Moment) -> Option<Span> {
    if !is_open {
        return before;
    }
    Some(Span {
        from: before.map_or(now, |span| span.from),
        to: now,
    })
}

/// A service as it is written down.
pub(super) fn measured(service: &ServiceView) -> ServiceMeasured {
    let processes = service.processes.iter().map(|process| ProcessMeasured {
        name: process.name.clone(),
        release: process.release.clone(),
        address: process.address.map(|address| address.to_string()),
        state: process.state.as_str().to_owned(),
        restarts: process.restarts,
    });
    ServiceMeasured {
        release: service.release.clone(),
        desired: service.desired,
        processes: processes.collect(),
    }
}
