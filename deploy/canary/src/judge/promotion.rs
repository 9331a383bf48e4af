//! Evidence that the canary is *not* worse than tolerated: the harm test turned round, and the harmless ceiling.

use super::hypergeometric::{Counts, log_likelihood_ratios};
use super::process::{Cash, Process, log_sum};
use super::rules::Rules;
use super::stretch;

/// The odds ratios promotion bets on, as good as the baseline and twice as good, with their weights.
const BETTER: [(f64, f64); 2] = [(1.0, 0.8), (0.5, 0.2)];
/// The failure rates the ceiling's test bets on, as parts of the ceiling, equal weights.
const BELOW: [f64; 3] = [0.01, 0.1, 1.0 / 3.0];

/// E' = ½·E_ratio + ½·E_abs, an e-process against "bad": odds ratio at least r *and* canary failure rate at least p_max.
///
/// E_ratio tests ω ≥ r by the conditional law; under it the likelihood ratio of a smaller ω falls in the canary's failures,
/// so ω = r is the worst case and the expectation is at most 1. E_abs tests p_c ≥ p_max by the binomial law in the same way.
/// A bad release fulfils both nulls, so any mean of the two has expectation at most 1. Without a ceiling E' = E_ratio.
/// Both count only windows in which both releases worked: no baseline is no data.
#[derive(Clone, Debug)]
pub(crate) struct Promotion {
    null: f64,
    ceiling: Option<f64>,
    ratio: Process,
    absolute: Process,
    /// End, in seconds since the epoch, of the stretch that the processes' shadows leave out.
    shadow_end: Option<u64>,
}

impl Promotion {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            null: rules.tolerated_ratio,
            ceiling: rules.ceiling,
            ratio: Process::new(&BETTER.map(|(_, weight)| weight), Cash::NONE),
            absolute: Process::new(&[1.0; BELOW.len()], Cash::NONE),
            shadow_end: None,
        }
    }

    /// Takes in the failures of the window that starts at `start`, with the design effect to divide by.
    pub(crate) fn enter(&mut self, start: u64, counts: &Counts, d: f64) {
        let shadowed = self.shadow_end.is_some_and(|end| start < end);
        let mut ratios = [0.0; BETTER.len()];
        log_likelihood_ratios(counts, self.null, &BETTER.map(|(ratio, _)| ratio), &mut ratios);
        self.ratio
            .enter_shadowed(&ratios.map(|ratio| ratio / d), shadowed);
        let both = counts.canary > 0 && counts.baseline > 0;
        let below = match self.ceiling {
            Some(ceiling) if both => BELOW.map(|part| bernoulli_ratio(counts, part * ceiling, ceiling) / d),
            Some(_) | None => [0.0; BELOW.len()],
        };
        self.absolute.enter_shadowed(&below, shadowed);
    }

    /// The processes with ln of their weights: halves, or the ratio alone where there is no ceiling.
    fn parts(&self) -> Vec<(f64, &Process)> {
        let half = -2f64.ln();
        match self.ceiling {
            Some(_) => vec![(half, &self.ratio), (half, &self.absolute)],
            None => vec![(0.0, &self.ratio)],
        }
    }

    pub(crate) fn log_evidence(&self) -> f64 {
        log_sum(
            self.parts()
                .iter()
                .map(|(weight, process)| weight + process.log_evidence()),
        )
    }

    pub(crate) fn least_without(&self, stretches: &[(usize, usize)]) -> f64 {
        stretch::weakest(&self.parts(), stretches)
            .1
            .min(self.log_evidence())
    }

    /// Whether at least `bound` of the evidence is left whichever stretch is left out.
    pub(crate) fn stands_without_any(&mut self, bound: f64, starts: &[u64], length: u32) -> bool {
        let half = -2f64.ln();
        let mut parts = match self.ceiling {
            Some(_) => vec![(half, &mut self.ratio), (half, &mut self.absolute)],
            None => vec![(0.0, &mut self.ratio)],
        };
        stretch::stands_without_any(&mut parts, &mut self.shadow_end, bound, starts, length)
    }
}

/// ln of the canary's likelihood at failure rate `p` against rate `null`.
fn bernoulli_ratio(counts: &Counts, p: f64, null: f64) -> f64 {
    let failed = counts.canary_failed as f64;
    let well = counts.canary.saturating_sub(counts.canary_failed) as f64;
    failed * (p / null).ln() + well * ((-p).ln_1p() - (-null).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(ceiling: Option<f64>) -> Rules {
        Rules {
            ceiling,
            ..Rules::default()
        }
    }

    #[test]
    fn a_clean_canary_passes_the_ceiling_long_before_the_ratio() {
        let window = Counts {
            canary: 50,
            canary_failed: 0,
            baseline: 450,
            baseline_failed: 0,
        };
        let (mut with, mut without) = (Promotion::new(&rules(Some(0.005))), Promotion::new(&rules(None)));
        for _ in 0..30 {
            with.enter(0, &window, 1.0);
            without.enter(0, &window, 1.0);
        }
        assert!(with.log_evidence() > 20f64.ln());
        assert!(
            without.log_evidence().abs() < 1e-12,
            "nothing failed, so the ratio knows nothing"
        );
    }

    #[test]
    fn a_canary_without_a_baseline_proves_nothing() {
        let mut promotion = Promotion::new(&rules(Some(0.005)));
        promotion.enter(
            0,
            &Counts {
                canary: 1_000_000,
                ..Counts::default()
            },
            1.0,
        );
        assert!(promotion.log_evidence().abs() < 1e-12);
    }

    #[test]
    fn one_good_stretch_does_not_promote_alone() {
        let mut promotion = Promotion::new(&rules(None));
        promotion.enter(
            0,
            &Counts {
                canary: 1000,
                canary_failed: 1,
                baseline: 1000,
                baseline_failed: 100,
            },
            1.0,
        );
        promotion.enter(
            0,
            &Counts {
                canary: 100,
                canary_failed: 1,
                baseline: 100,
                baseline_failed: 1,
            },
            1.0,
        );
        assert!(promotion.log_evidence() > 20.0);
        assert!(promotion.least_without(&[(0, 1), (1, 2)]) < 1.0);
    }
}
