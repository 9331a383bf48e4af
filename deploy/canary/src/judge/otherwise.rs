//! What it would have taken to decide otherwise: the question after every verdict.

use super::Judge;
use super::hypergeometric::{Counts, log_likelihood_ratios};
use super::planning;
use super::process::{Cash, Process, log_add};
use super::verdict::Otherwise;

impl Judge {
    /// The least changes of the failure signal's counts that would have changed what the judge says. The other signals are
    /// left as they are.
    pub(super) fn otherwise(&self) -> Otherwise {
        let suspicion = self.rules.suspicion_bound();
        let promotion = self.rules.promotion_bound();
        let suspected = self.harm.log_evidence() >= suspicion;
        let promoted = self.promotion.log_evidence() >= promotion;
        let Some(usual) = self.usual_window() else {
            return Otherwise::default();
        };
        let harm_with = |extra: u64| {
            let mut judge = self.clone();
            judge.enter_counts(usual, extra);
            judge.harm.log_evidence()
        };
        let promotion_with = |extra: u64| {
            let mut next = self.promotion.clone();
            next.enter(u64::MAX, &with_failures(usual, extra), 1.0);
            next.log_evidence()
        };
        Otherwise {
            fewer_failures_to_clear: if suspected {
                self.fewer_failures_to_clear(suspicion)
            } else {
                None
            },
            more_failures_to_suspect: (!suspected)
                .then(|| least(usual.canary, |x| harm_with(x) >= suspicion))
                .flatten(),
            more_failures_to_refuse: promoted
                .then(|| least(usual.canary, |x| promotion_with(x) < promotion))
                .flatten(),
            more_messages_to_promote: if promoted {
                None
            } else {
                self.more_messages_to_promote(usual)
            },
        }
    }

    /// The mean window so far, with the failures the baseline's rate gives to the baseline; `None` without data of both.
    fn usual_window(&self) -> Option<Counts> {
        let trial = self.failure_trial()?;
        let windows = self.windows.compared;
        if windows == 0 {
            return None;
        }
        let mean = |total: u64| (total / windows).max(1);
        let baseline = mean(trial.baseline.attempts);
        let baseline_failed = (trial.baseline.failed / windows).min(baseline);
        Some(Counts {
            canary: mean(trial.canary.attempts),
            canary_failed: 0,
            baseline,
            baseline_failed,
        })
    }

    fn enter_counts(&mut self, usual: Counts, extra: u64) {
        let counts = with_failures(usual, extra);
        let (null, alternatives) = (self.rules.harmless_ratio, self.rules.alternatives());
        let mut ratios = [0.0; 12];
        log_likelihood_ratios(&counts, null, &alternatives, &mut ratios);
        if let Some(index) = self.failure_index() {
            for trial in &mut self.harm.trials {
                for process in &mut trial.processes {
                    process.enter(&[0.0; 12]);
                }
            }
            if let Some(process) = self.harm.trials[index].processes.first_mut() {
                process.truncate(process.len() - 1);
                process.enter(&ratios);
            }
        }
    }

    /// Replays the failure signal with the latest canary failures taken back, by bisection.
    fn fewer_failures_to_clear(&self, bound: f64) -> Option<u64> {
        let index = self.failure_index()?;
        let trial = &self.harm.trials[index];
        let others = self.harm.log_evidence_of_others(index);
        let cleared = |taken: u64| {
            let own = self.replay(&trial.history, taken) + trial.signal.weight.ln();
            log_add(own, others) < bound
        };
        least(trial.canary.failed, cleared)
    }

    /// ln E of the failure signal alone, had the last `taken` canary failures been successes.
    fn replay(&self, history: &[(Counts, f64)], mut taken: u64) -> f64 {
        let mut changed: Vec<(Counts, f64)> = history.to_vec();
        for (counts, _) in changed.iter_mut().rev() {
            let here = taken.min(counts.canary_failed);
            counts.canary_failed -= here;
            taken -= here;
            if taken == 0 {
                break;
            }
        }
        let cash = if self.rules.cash { Cash::USUAL } else { Cash::NONE };
        let mut process = Process::new(&[1.0; 12], cash);
        let alternatives = self.rules.alternatives();
        let mut ratios = [0.0; 12];
        for (counts, d) in &changed {
            log_likelihood_ratios(counts, self.rules.harmless_ratio, &alternatives, &mut ratios);
            process.enter(&ratios.map(|ratio| ratio / d));
        }
        process.log_evidence()
    }

    fn more_messages_to_promote(&self, usual: Counts) -> Option<u64> {
        let trial = self.failure_trial()?;
        let missing = self.rules.promotion_bound() - self.promotion.log_evidence();
        let share = usual.canary as f64 / (usual.canary + usual.baseline) as f64;
        let rate = trial.baseline.band().rate;
        let growth = planning::promotion_growth(rate, share, self.rules.tolerated_ratio, self.rules.ceiling);
        let messages = missing / growth;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: between 0 and 1e12"
        )]
        (messages.is_finite() && (0.0..1e12).contains(&messages)).then(|| messages.ceil() as u64)
    }
}

fn with_failures(usual: Counts, extra: u64) -> Counts {
    Counts {
        canary_failed: extra.min(usual.canary),
        ..usual
    }
}

/// The least x in 1..=`most` for which `holds`, which must be monotone; `None` if it does not hold at `most`.
fn least(most: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    if most == 0 || !holds(most) {
        return None;
    }
    let (mut low, mut high) = (0, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle
        } else {
            low = middle
        }
    }
    Some(high)
}
