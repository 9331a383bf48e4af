//! The judge: compares two releases that drain the same queue at the same time, and says when enough is known.
//!
//! Competing consumers are a randomised experiment: the queue hands each message to whoever polls, without looking at it. So
//! one question is asked of each signal: *given that something went wrong, was it the canary more often than its share of the
//! work explains?* The base rate cancels out, and a shared outage convicts nobody.
//!
//! **α covers the rollout as a whole.** There is one process of evidence. It starts with the first window and runs on through
//! every step and through the bake; by Ville's inequality the chance that it *ever* reaches 1/α for a harmless release is at most
//! α. No step spends a part of its own and looking often costs nothing. In the bake the services change places, the arms do not:
//! the canary arm is the new release wherever it runs. Guards are rules, not statistics, and are outside α.
//!
//! All of it is pure: values in, values out, no clock. A verdict depends on the set of windows alone, not on their order of
//! arrival, so it can be recomputed from stored counts at any time.

mod binomial;
pub mod clusters;
pub mod confidence;
pub mod guard;
mod harm;
pub mod hypergeometric;
mod latency;
pub mod ledger;
mod otherwise;
pub mod planning;
pub mod process;
mod promotion;
pub mod rules;
mod stretch;
pub mod verdict;
pub mod window;

use harm::{Harm, Trial};
use hypergeometric::Counts;
use ledger::Ledger;
use promotion::Promotion;
use rules::{Kind, Rules};
use verdict::{ArmReport, Decision, Measure, SignalReport, Situation, Verdict, Windows};
use window::Window;

/// Ids of failed messages that a verdict names.
const FIRST_FAILURES: usize = 10;

/// The running comparison of two releases.
///
/// Windows enter in the order of time. Who has them in another order keeps a [`Ledger`] and asks [`decide`].
#[derive(Clone, Debug)]
pub struct Judge {
    rules: Rules,
    harm: Harm,
    promotion: Promotion,
    starts: Vec<u64>,
    windows: Windows,
    suspected: bool,
    convicted_at: Option<u64>,
    first_failures: Vec<String>,
}

impl Judge {
    /// A judge without evidence.
    pub fn new(rules: Rules) -> Self {
        Self {
            harm: Harm::new(&rules),
            promotion: Promotion::new(&rules),
            starts: Vec::new(),
            windows: Windows::default(),
            suspected: false,
            convicted_at: None,
            first_failures: Vec::new(),
            rules,
        }
    }

    /// A judge that has seen all complete windows of a ledger.
    pub fn of(rules: Rules, ledger: &Ledger) -> Self {
        let mut judge = Self::new(rules);
        for window in ledger.merged(judge.rules.span) {
            judge.enter(&window);
        }
        judge.windows.refused = ledger.refused();
        judge
    }

    /// Takes in the next complete window. Takes microseconds; O(windows) at a few moments of a suspicion.
    pub fn enter(&mut self, window: &Window) {
        let counts = harm::failures(window);
        match (counts.canary, counts.baseline) {
            (0, 0) => {}
            (0, _) => self.windows.without_canary += 1,
            (_, 0) => self.windows.without_baseline += 1,
            _ => self.windows.compared += 1,
        }
        let room = FIRST_FAILURES.saturating_sub(self.first_failures.len());
        self.first_failures
            .extend(window.canary.first_failures.iter().take(room).cloned());
        self.starts.push(window.start);
        let d = self.harm.enter(window);
        self.promotion.enter(window.start, &counts, d);
        self.weigh(window.start);
    }

    fn weigh(&mut self, now: u64) {
        let evidence = self.harm.log_evidence();
        let bound = self.rules.suspicion_bound();
        // Lifted only well below the bound, so that the canary's rate does not flap around it.
        self.suspected = evidence >= bound || (self.suspected && evidence >= bound - 10f64.ln());
        if evidence >= bound
            && self.convicted_at.is_none()
            && self
                .harm
                .stands_without_any(self.rules.conviction_bound(), &self.starts, self.rules.stretch)
        {
            self.convicted_at = Some(now);
        }
    }

    fn stretches(&self) -> Vec<(usize, usize)> {
        stretch::stretches(&self.starts, self.rules.stretch)
    }

    /// Whether the evidence of harm is enough to cut the canary to a trickle (E ≥ 1/α, lifted below a tenth of that).
    pub fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Start of the window at which the canary was convicted: E ≥ 1/α, and no stretch decides alone. Stays for good.
    pub fn convicted_at(&self) -> Option<u64> {
        self.convicted_at
    }

    /// Whether the evidence now allows promotion: E' ≥ 1/β, no stretch decides alone, and no suspicion.
    ///
    /// Asks for no more than it must, and remembers what stood in the way: cheap after every window.
    pub fn is_promotable(&mut self) -> bool {
        let (bound, without) = (self.rules.promotion_bound(), self.rules.promotion_bound_without());
        self.is_near_promotion(bound)
            && self
                .promotion
                .stands_without_any(without, &self.starts, self.rules.stretch)
    }

    fn is_near_promotion(&self, bound: f64) -> bool {
        !self.suspected && self.convicted_at.is_none() && self.promotion.log_evidence() >= bound
    }

    /// ln E, the evidence of harm over all signals.
    pub fn log_harm(&self) -> f64 {
        self.harm.log_evidence()
    }

    /// ln E', the evidence for promotion.
    pub fn log_promotion(&self) -> f64 {
        self.promotion.log_evidence()
    }

    fn failure_index(&self) -> Option<usize> {
        self.harm
            .trials
            .iter()
            .position(|trial| trial.signal.kind == Kind::Failures)
    }

    fn failure_trial(&self) -> Option<&Trial> {
        self.failure_index().map(|index| &self.harm.trials[index])
    }

    /// The verdict on what has been seen, given where the rollout stands and what the guards found.
    pub fn verdict(&self, situation: &Situation, guards: Vec<guard::Finding>) -> Verdict {
        let promotable = self.is_near_promotion(self.rules.promotion_bound())
            && self.promotion.least_without(&self.stretches()) >= self.rules.promotion_bound_without();
        let waited = situation.least_time_reached && situation.least_messages_reached;
        let enough = if situation.last_step {
            promotable
        } else {
            self.log_promotion() >= situation.least_evidence
        };
        let step_done =
            waited && enough && !self.suspected && self.convicted_at.is_none() && guards.is_empty();
        let decision = if self.convicted_at.is_some() || !guards.is_empty() {
            Decision::Rollback
        } else if step_done && situation.last_step {
            Decision::Promote
        } else if situation.deadline_passed {
            Decision::Inconclusive
        } else {
            Decision::Continue
        };
        Verdict {
            schema: verdict::SCHEMA,
            decision,
            suspected: self.suspected,
            step_done,
            windows: self.windows,
            harm: self.harm_measure(),
            promotion: self.promotion_measure(promotable),
            signals: self.harm.trials.iter().map(|trial| self.report(trial)).collect(),
            guards,
            first_failures: self.first_failures.clone(),
            icc: self.harm.design.icc(),
            otherwise: self.otherwise(promotable),
        }
    }

    fn harm_measure(&self) -> Measure {
        let ln_evidence = self.log_harm();
        let ln_bound = self.rules.suspicion_bound();
        Measure {
            ln_evidence,
            ln_bound,
            ln_evidence_without_stretch: (ln_evidence >= ln_bound)
                .then(|| self.harm.least_without(&self.stretches())),
            ln_bound_without_stretch: self.rules.conviction_bound(),
            reached_at: self.convicted_at,
        }
    }

    fn promotion_measure(&self, promotable: bool) -> Measure {
        let ln_evidence = self.log_promotion();
        let ln_bound = self.rules.promotion_bound();
        Measure {
            ln_evidence,
            ln_bound,
            ln_evidence_without_stretch: (ln_evidence >= ln_bound)
                .then(|| self.promotion.least_without(&self.stretches())),
            ln_bound_without_stretch: self.rules.promotion_bound_without(),
            reached_at: if promotable {
                self.starts.last().copied()
            } else {
                None
            },
        }
    }

    /// Failures of the canary and of the baseline so far, as a verdict has them but without its cost.
    pub fn failure_rates(&self) -> Option<(ArmReport, ArmReport)> {
        let trial = self.failure_trial()?;
        Some((arm(&trial.canary), arm(&trial.baseline)))
    }

    fn report(&self, trial: &Trial) -> SignalReport {
        SignalReport {
            name: trial.signal.name.clone(),
            weight: trial.signal.weight,
            canary: arm(&trial.canary),
            baseline: arm(&trial.baseline),
            ln_evidence: trial.log_evidence(),
            ln_bound: -(trial.signal.weight * self.rules.alpha).ln(),
        }
    }
}

fn arm(tally: &confidence::Tally) -> ArmReport {
    ArmReport {
        attempts: tally.attempts,
        failed: tally.failed,
        rate: tally.band(),
    }
}

/// The verdict on a ledger: the same set of windows gives the same verdict, whatever their order and however often they came.
///
/// Recomputes all evidence: about 10 µs a window and signal.
pub fn decide(rules: &Rules, ledger: &Ledger, situation: &Situation) -> Verdict {
    let recent = ledger.recent(u64::from(rules.guards.reach()));
    let guards = guard::inspect(&rules.guards, &recent);
    Judge::of(rules.clone(), ledger).verdict(situation, guards)
}

/// The likelihood-ratio counts of a window, for callers that test other alternatives.
pub fn failure_counts(window: &Window) -> Counts {
    harm::failures(window)
}

#[cfg(test)]
mod tests;
