//! One rollout from first step to verdict, by a plan's real judge over simulated traffic.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::traffic::{Source, Traffic, Wanted};
use crate::judge::Judge;
use crate::judge::rules::{Kind, Rules};
use crate::judge::verdict::Decision;
use crate::plan::{Inconclusive, Plan};

/// How one simulated rollout went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Promote, rollback or inconclusive.
    pub decision: Decision,
    /// Whether the deadline passed without a verdict; what is done then is the plan's decision, not the judge's.
    pub undecided: bool,
    /// Seconds from the first step to the verdict.
    pub seconds: u64,
    /// Seconds to the first suspicion, if there was one.
    pub suspected: Option<u64>,
    /// Canary messages until the verdict.
    pub canary_messages: u64,
    /// Those that failed.
    pub canary_failed: u64,
    /// Messages failed that a canary as good as the baseline would not have failed, in expectation.
    pub harmed: f64,
    /// Second and ln E of harm, every few windows, where a path was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<(u64, f64)>,
}

/// What a judge of these rules looks at.
pub fn wanted(rules: &Rules) -> Wanted {
    let mut wanted = Wanted::default();
    for signal in &rules.signals {
        match &signal.kind {
            Kind::Failures => {}
            Kind::Slow { .. } => wanted.durations = true,
            Kind::Quality { question } => wanted.questions.push(question.clone()),
        }
    }
    wanted
}

/// The seed of run `run` of a simulation: far apart for neighbours, so that runs are independent.
pub fn seeded(seed: u64, run: u64) -> Pcg64Mcg {
    let mut mixed = seed ^ run.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Pcg64Mcg::seed_from_u64(mixed ^ (mixed >> 31))
}

/// Runs a rollout of `plan` once. With `path`, ln E is recorded along the way.
///
/// Windows reach the judge the moment they end: add what the evidence needs to arrive, 5 to 20 s, to the times.
pub fn run(plan: &Plan, traffic: &Traffic, seed: u64, run: u64, path: bool) -> Outcome {
    let mut source = Source::new(traffic.clone(), wanted(&plan.rules), seeded(seed, run));
    let mut judge = Judge::new(plan.rules.clone());
    let mut progress = Progress::default();
    let mut outcome = Outcome {
        decision: Decision::Continue,
        undecided: false,
        seconds: 0,
        suspected: None,
        canary_messages: 0,
        canary_failed: 0,
        harmed: 0.0,
        path: Vec::new(),
    };
    let span = plan.rules.span.max(1);
    while outcome.decision == Decision::Continue {
        let mut share = plan.steps.get(progress.step).map_or(0.0, |step| step.share);
        if judge.is_suspected() {
            share = share.min(plan.trickle / traffic.rate);
        }
        let simulated = source.window(outcome.seconds, span, share);
        judge.enter(&simulated.window);
        outcome.seconds += u64::from(span);
        let messages = simulated.window.canary.attempts();
        outcome.canary_messages += messages;
        outcome.canary_failed += simulated.window.canary.failures();
        outcome.harmed += simulated.harmed;
        if judge.is_suspected() && outcome.suspected.is_none() {
            outcome.suspected = Some(outcome.seconds);
        }
        if path {
            outcome.path.push((outcome.seconds, judge.log_harm()));
        }
        progress.seconds += u64::from(span);
        progress.messages += messages;
        outcome.decision = progress.decide(plan, &mut judge);
        if outcome.decision == Decision::Continue && outcome.seconds >= u64::from(plan.deadline) {
            outcome.undecided = true;
            outcome.decision = match plan.inconclusive {
                Inconclusive::Hold => Decision::Inconclusive,
                Inconclusive::Rollback => Decision::Rollback,
            };
        }
    }
    outcome
}

/// Where a simulated rollout stands.
#[derive(Debug, Default)]
struct Progress {
    step: usize,
    seconds: u64,
    messages: u64,
}

impl Progress {
    /// What the judge has to say before the deadline; goes to the next step where this one is done.
    fn decide(&mut self, plan: &Plan, judge: &mut Judge) -> Decision {
        if judge.convicted_at().is_some() {
            return Decision::Rollback;
        }
        let Some(step) = plan.steps.get(self.step) else {
            return Decision::Inconclusive;
        };
        let waited = self.seconds >= u64::from(step.least_time) && self.messages >= step.least_messages;
        if waited && !judge.is_suspected() {
            if self.step + 1 == plan.steps.len() {
                if judge.is_promotable() {
                    return Decision::Promote;
                }
            } else if judge.log_promotion() >= step.least_evidence.ln() {
                *self = Self {
                    step: self.step + 1,
                    ..Self::default()
                };
            }
        }
        Decision::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Plan {
        Plan::read(include_str!("../../../plans/usual.toml")).expect("is right")
    }

    #[test]
    fn a_bad_release_is_suspected_then_rolled_back_and_a_good_one_promoted() {
        let bad = run(&usual(), &Traffic::plain(500.0, 0.005, 20.0), 1, 0, true);
        assert_eq!(bad.decision, Decision::Rollback);
        assert!(
            bad.suspected.is_some_and(|second| second < bad.seconds),
            "{bad:?}"
        );
        assert_eq!(bad.path.len() as u64, bad.seconds);
        let good = run(&usual(), &Traffic::plain(500.0, 0.0005, 1.0), 1, 0, false);
        assert_eq!(good.decision, Decision::Promote, "{good:?}");
        assert!(good.harmed.abs() < 1e-9 && good.seconds >= 600);
    }

    #[test]
    fn the_same_seed_is_the_same_rollout_and_another_is_not() {
        let traffic = Traffic::plain(50.0, 0.01, 3.0);
        let (one, two, other) = (
            run(&usual(), &traffic, 7, 3, false),
            run(&usual(), &traffic, 7, 3, false),
            run(&usual(), &traffic, 7, 4, false),
        );
        assert_eq!(one, two);
        assert_ne!(one.canary_messages, other.canary_messages);
    }

    #[test]
    fn a_queue_without_messages_is_inconclusive_at_the_deadline() {
        let outcome = run(&usual(), &Traffic::plain(0.01, 0.005, 1.0), 1, 0, false);
        assert_eq!(
            (outcome.decision, outcome.seconds),
            (Decision::Inconclusive, 2700)
        );
        assert!(outcome.undecided);
    }
}
