//! What it would have taken to decide otherwise: the question after every verdict, answered by asking the judge again.

use super::Judge;
use super::hypergeometric::{Counts, log_likelihood_ratios};
use super::planning;
use super::verdict::Otherwise;

/// Further windows that are tried before an estimate has to do.
const MOST_WINDOWS: u64 = 3600;

impl Judge {
    /// The least changes of the failure signal's counts that would have changed what the judge says. The other signals are
    /// left as they are.
    pub(super) fn otherwise(&self, promotable: bool) -> Otherwise {
        let guilty = self.suspected || self.convicted_at.is_some();
        let (Some(index), Some(usual)) = (self.failure_index(), self.usual_window()) else {
            return Otherwise::default();
        };
        let failed = self.harm.trials[index].canary.failed;
        Otherwise {
            fewer_failures_to_clear: guilty
                .then(|| least(failed, |taken| self.without_latest(index, taken).is_cleared()))
                .flatten(),
            more_failures_to_suspect: (!guilty)
                .then(|| {
                    least(usual.canary, |more| {
                        self.with_window(index, usual, more).suspected
                    })
                })
                .flatten(),
            more_failures_to_refuse: promotable
                .then(|| {
                    least(usual.canary, |more| {
                        !self.with_window(index, usual, more).is_promotable()
                    })
                })
                .flatten(),
            more_messages_to_promote: (!promotable && !guilty)
                .then(|| self.more_messages_to_promote(usual))
                .flatten(),
        }
    }

    fn is_cleared(&self) -> bool {
        !self.suspected && self.convicted_at.is_none()
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

    /// This judge after one further window of the `usual` size in which `more` canary messages failed.
    fn with_window(&self, index: usize, usual: Counts, more: u64) -> Self {
        let mut judge = self.clone();
        let counts = Counts {
            canary_failed: more.min(usual.canary),
            ..usual
        };
        let d = self.harm.trials[index].history.last().map_or(1.0, |(_, d)| *d);
        let start = self
            .starts
            .last()
            .map_or(0, |last| last.saturating_add(u64::from(self.rules.span)));
        let own = judge.ratios(&counts, d);
        judge
            .harm
            .enter_ratios(start, |trial, _| if trial == index { own } else { [0.0; 12] });
        judge.promotion.enter(start, &counts, d);
        judge.starts.push(start);
        judge.weigh(start);
        judge
    }

    /// This judge's evidence of harm anew, had the latest `taken` canary failures been successes.
    fn without_latest(&self, index: usize, taken: u64) -> Self {
        let history = &self.harm.trials[index].history;
        let changed = take_back(history, taken);
        let mut judge = Self::new(self.rules.clone());
        for (window, start) in self.starts.iter().enumerate() {
            let ((counts, d), (before, _)) = (changed[window], history[window]);
            let own = (counts != before).then(|| self.ratios(&counts, d));
            judge.harm.enter_ratios(*start, |trial, process| {
                own.filter(|_| trial == index)
                    .unwrap_or_else(|| self.harm.trials[trial].ratios(process, window))
            });
            judge.starts.push(*start);
            judge.weigh(*start);
        }
        judge
    }

    fn ratios(&self, counts: &Counts, d: f64) -> [f64; 12] {
        let mut ratios = [0.0; 12];
        let (null, alternatives) = (self.rules.harmless_ratio, self.rules.alternatives());
        log_likelihood_ratios(counts, null, &alternatives, &mut ratios);
        ratios.map(|ratio| ratio / d)
    }

    /// Goes on with windows of the `usual` size in which both releases fail at the baseline's rate; where that takes too
    /// long, what is missing by the growth to be expected of it.
    fn more_messages_to_promote(&self, usual: Counts) -> Option<u64> {
        let rate = self.failure_trial()?.baseline.band().rate;
        let mut next = Self {
            promotion: self.promotion.clone(),
            starts: self.starts.clone(),
            ..Self::new(self.rules.clone())
        };
        let mut start = self.starts.last().copied()?;
        let mut due = Due::default();
        for windows in 1..=MOST_WINDOWS {
            start = start.saturating_add(u64::from(self.rules.span));
            let counts = Counts {
                canary_failed: due.canary.next(usual.canary as f64 * rate),
                baseline_failed: due.baseline.next(usual.baseline as f64 * rate),
                ..usual
            };
            next.promotion.enter(start, &counts, 1.0);
            next.starts.push(start);
            if next.is_promotable() {
                return Some(windows.saturating_mul(usual.canary));
            }
        }
        self.messages_by_growth(usual, rate)
    }

    fn messages_by_growth(&self, usual: Counts, rate: f64) -> Option<u64> {
        let missing = self.rules.promotion_bound() - self.promotion.log_evidence();
        let share = usual.canary as f64 / (usual.canary as f64 + usual.baseline as f64);
        let growth = planning::promotion_growth(rate, share, self.rules.tolerated_ratio, self.rules.ceiling);
        let messages = missing.max(0.0) / growth;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: between 0 and 1e12"
        )]
        (messages.is_finite() && (0.0..1e12).contains(&messages)).then(|| messages.ceil() as u64)
    }
}

/// The fractions of a failure that are still due in either arm.
#[derive(Default)]
struct Due {
    canary: Fraction,
    baseline: Fraction,
}

#[derive(Default)]
struct Fraction(f64);

impl Fraction {
    /// The whole failures due when `expected` more are.
    fn next(&mut self, expected: f64) -> u64 {
        self.0 += expected;
        let whole = self.0.floor();
        self.0 -= whole;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 0; saturates"
        )]
        let whole = whole as u64;
        whole
    }
}

/// The counts of each window with the latest `taken` canary failures as successes.
fn take_back(history: &[(Counts, f64)], mut taken: u64) -> Vec<(Counts, f64)> {
    let mut changed = history.to_vec();
    for (counts, _) in changed.iter_mut().rev() {
        let here = taken.min(counts.canary_failed);
        counts.canary_failed -= here;
        taken -= here;
    }
    changed
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
