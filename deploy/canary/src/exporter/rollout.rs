//! A journal as metrics.

use super::catalogue::{
    DESIRED, ENDED, EVIDENCE, EVIDENCE_BOUND, HEARTBEAT, HELD, INFO, MESSAGES, OUTCOME, PHASE, PROCESSES,
    RESTARTS, SHARE, SIGNAL_ATTEMPTS, SIGNAL_EVIDENCE, SIGNAL_FAILED, SIGNAL_RATE, STARTED, STEP, STEPS,
    SUSPECTED, UNDER_WAY, VERDICT,
};
use super::{Page, whole};
use crate::journal::{Journal, Measured, ServiceMeasured};
use crate::judge::verdict::{ArmReport, Decision, SignalReport, Verdict};
use crate::moment::Moment;
use crate::plan::Plan;
use crate::rollout::{Kind, Outcome, Phase};

/// The label `phase`.
pub const PHASES: [&str; 9] = [
    "preflight",
    "deploying",
    "step",
    "promoting",
    "controlling",
    "baking",
    "settling",
    "rolling_back",
    "ended",
];

/// The label `outcome`.
pub const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Promoted, "promoted"),
    (Outcome::RolledBack, "rolled_back"),
    (Outcome::Restored, "restored"),
    (Outcome::Refused, "refused"),
];

/// The label `question`.
pub const QUESTIONS: [&str; 2] = ["harm", "promotion"];

/// The label `decision`.
pub const DECISIONS: [(Decision, &str); 4] = [
    (Decision::Promote, "promote"),
    (Decision::Rollback, "rollback"),
    (Decision::Continue, "continue"),
    (Decision::Inconclusive, "inconclusive"),
];

/// The label `arm`: the new release, and the one before, wherever they run.
pub const ARMS: [&str; 2] = ["canary", "baseline"];

/// The label `bound`.
pub const BOUNDS: [&str; 3] = ["estimate", "low", "high"];

/// The label `which`.
pub const WHICH: [&str; 2] = ["wanted", "measured"];

/// Sets everything that `journal` tells.
pub(super) fn show(page: &Page, journal: &Journal) {
    let state = &journal.state;
    let release = state.candidate.release.as_str();
    let of = [("release", release)];
    let baseline = state
        .baseline
        .as_ref()
        .map_or("", |revision| revision.release.as_str());
    // The journal holds a plan that a tool has read; one that a newer tool has read may not be understood here.
    let plan = Plan::read(&journal.plan).ok();
    let info = [
        ("release", release),
        ("baseline", baseline),
        ("rollout", &journal.rollout),
        ("kind", kind(&state.kind)),
        ("plan", plan.as_ref().map_or("", |plan| &plan.name)),
    ];
    page.set(INFO, &info, 1.0);
    page.set(UNDER_WAY, &of, flag(state.outcome().is_none()));
    for name in PHASES {
        page.set(
            PHASE,
            &[("release", release), ("phase", name)],
            flag(name == state.phase.name()),
        );
    }
    for (outcome, name) in OUTCOMES {
        page.set(
            OUTCOME,
            &[("release", release), ("outcome", name)],
            flag(state.outcome() == Some(outcome)),
        );
    }
    let step = match state.phase {
        Phase::Step { index, .. } => whole(index as u64 + 1),
        Phase::Preflight
        | Phase::Deploying { .. }
        | Phase::Promoting { .. }
        | Phase::Controlling { .. }
        | Phase::Baking { .. }
        | Phase::Settling { .. }
        | Phase::RollingBack { .. }
        | Phase::Ended { .. } => 0.0,
    };
    page.set(STEP, &of, step);
    if let Some(plan) = &plan {
        page.set(STEPS, &of, whole(plan.steps.len() as u64));
    }
    page.set(HELD, &of, flag(state.hold.is_some() && state.outcome().is_none()));
    page.set(SUSPECTED, &of, flag(state.suspected));
    page.set(STARTED, &of, seconds(state.began));
    let ended = if let Phase::Ended { at, .. } = state.phase {
        seconds(at)
    } else {
        0.0
    };
    page.set(ENDED, &of, ended);
    let heartbeat = journal
        .owner
        .as_ref()
        .map_or(0.0, |owner| seconds(owner.heartbeat));
    page.set(HEARTBEAT, &of, heartbeat);
    if let Some(verdict) = &journal.verdict {
        judged(page, release, verdict);
    }
    measured(page, release, &journal.measured);
}

fn judged(page: &Page, release: &str, verdict: &Verdict) {
    for (question, measure) in QUESTIONS.into_iter().zip([&verdict.harm, &verdict.promotion]) {
        let labels = [("release", release), ("question", question)];
        page.set(EVIDENCE, &labels, measure.ln_evidence);
        page.set(EVIDENCE_BOUND, &labels, measure.ln_bound);
    }
    for (decision, name) in DECISIONS {
        page.set(
            VERDICT,
            &[("release", release), ("decision", name)],
            flag(verdict.decision == decision),
        );
    }
    for signal in &verdict.signals {
        let labels = [("release", release), ("signal", signal.name.as_str())];
        page.set(SIGNAL_EVIDENCE, &labels, signal.ln_evidence);
        for (arm, report) in ARMS.into_iter().zip([&signal.canary, &signal.baseline]) {
            show_arm(page, release, signal, arm, report);
        }
    }
}

fn show_arm(page: &Page, release: &str, signal: &SignalReport, arm: &str, report: &ArmReport) {
    let labels = [
        ("release", release),
        ("signal", signal.name.as_str()),
        ("arm", arm),
    ];
    page.set(SIGNAL_ATTEMPTS, &labels, whole(report.attempts));
    page.set(SIGNAL_FAILED, &labels, whole(report.failed));
    let band = &report.rate;
    for (bound, value) in BOUNDS.into_iter().zip([band.rate, band.low, band.high]) {
        let [release, signal, arm] = labels;
        page.set(SIGNAL_RATE, &[release, signal, arm, ("bound", bound)], value);
    }
}

fn measured(page: &Page, release: &str, measured: &Measured) {
    page.set(MESSAGES, &[("release", release)], measured.per_second);
    for (which, share) in WHICH.into_iter().zip([measured.share_wanted, measured.share]) {
        if let Some(share) = share {
            page.set(SHARE, &[("release", release), ("which", which)], share);
        }
    }
    for (name, service) in [("stable", &measured.stable), ("canary", &measured.canary)] {
        show_service(page, name, service);
    }
}

fn show_service(page: &Page, name: &str, service: &ServiceMeasured) {
    page.set(DESIRED, &[("service", name)], f64::from(service.desired));
    let restarts = service
        .processes
        .iter()
        .map(|process| u64::from(process.restarts))
        .sum();
    page.set(RESTARTS, &[("service", name)], whole(restarts));
    for process in &service.processes {
        let same = |other: &&crate::journal::ProcessMeasured| {
            other.release == process.release && other.state == process.state
        };
        let count = service.processes.iter().filter(same).count();
        let labels = [
            ("service", name),
            ("release", process.release.as_str()),
            ("state", &process.state),
        ];
        page.set(PROCESSES, &labels, whole(count as u64));
    }
}

const fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Canary => "canary",
        Kind::SkipCanary { .. } => "skip_canary",
        Kind::Restore { .. } => "restore",
    }
}

const fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn seconds(moment: Moment) -> f64 {
    whole(moment.millis()) / 1000.0
}
