//! The test alone, against the best that any test could do: one message a window, no design effect, no stretch rule, no cap.

use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;

use super::rollout::seeded;
use crate::judge::hypergeometric::{Counts, log_likelihood_ratios};
use crate::judge::planning::information_bound;
use crate::judge::process::{Cash, Process};
use crate::judge::rules::Rules;

/// A regression to be found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Failure rate of the baseline.
    pub baseline: f64,
    /// Failure rate of the canary.
    pub canary: f64,
    /// Baseline messages to each canary message.
    pub others: f64,
    /// Multiples of the bound that were known before: without and with cash. NaN where none was.
    pub known: (f64, f64),
}

/// How fast it was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Found {
    /// ln(1/α)/K*, in canary messages: no test of level α needs fewer in the mean.
    pub bound: f64,
    /// Mean canary messages until E ≥ 1/α.
    pub messages: f64,
    /// The second by the first.
    pub times_bound: f64,
    /// Standard error of `times_bound`.
    pub error: f64,
}

/// The regressions of the known results, at `others` baseline messages to each of the canary.
pub fn rows(others: f64) -> Vec<Row> {
    let nine = [
        (1.29, 1.30),
        (1.32, 1.36),
        (1.46, 1.50),
        (1.55, 1.60),
        (1.41, 1.42),
        (1.28, 1.32),
    ];
    let one = [1.23, 1.23, 1.26, 1.63, 1.27, 1.22].map(|times| (times, f64::NAN));
    let known = if others < 2.0 { one } else { nine };
    let rates = [
        (0.005, 0.01),
        (0.005, 0.02),
        (0.005, 0.05),
        (0.005, 0.5),
        (0.0005, 0.01),
        (0.02, 0.04),
    ];
    rates
        .into_iter()
        .zip(known)
        .map(|((baseline, canary), known)| Row {
            baseline,
            canary,
            others,
            known,
        })
        .collect()
}

impl Row {
    /// Mean over `runs` of the canary messages to find it at α = 1 %.
    pub fn measure(&self, runs: u64, seed: u64, cash: bool) -> Found {
        let counts: Vec<f64> = (0..runs)
            .into_par_iter()
            .map(|run| self.once(seed, run, cash))
            .collect();
        let n = counts.len() as f64;
        let mean = counts.iter().sum::<f64>() / n;
        let variance = counts
            .iter()
            .map(|count| (count - mean) * (count - mean))
            .sum::<f64>()
            / (n - 1.0);
        let bound = information_bound(0.01, self.baseline, self.canary, self.others);
        Found {
            bound,
            messages: mean,
            times_bound: mean / bound,
            error: (variance / n).sqrt() / bound,
        }
    }

    fn once(&self, seed: u64, run: u64, cash: bool) -> f64 {
        let mut random = seeded(seed, run);
        let rules = Rules::default();
        let (alternatives, bound) = (rules.alternatives(), rules.suspicion_bound());
        let mut process = Process::new(&[1.0; 12], if cash { Cash::USUAL } else { Cash::NONE });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 or 9")]
        let others = self.others as u64;
        let mut ratios = [0.0; 12];
        let mut messages = 0.0;
        while process.log_evidence() < bound {
            messages += 1.0;
            let canary_failed = u64::from(random.random_bool(self.canary));
            let baseline_failed = (0..others)
                .map(|_| u64::from(random.random_bool(self.baseline)))
                .sum();
            let counts = Counts {
                canary: 1,
                canary_failed,
                baseline: others,
                baseline_failed,
            };
            if counts.is_informative() {
                log_likelihood_ratios(&counts, 1.0, &alternatives, &mut ratios);
                process.enter(&ratios);
            }
        }
        messages
    }
}
