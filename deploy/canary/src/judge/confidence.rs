//! Failure rates with bands that hold at every moment at once.

use serde::{Deserialize, Serialize};

use super::process::log_sum;

/// The chance that a band ever fails to hold the rate.
pub const ERROR: f64 = 0.05;

/// Attempts and failures of one release, as counted and as they weigh after the design effect.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Attempts.
    pub attempts: u64,
    /// Failures among them.
    pub failed: u64,
    trials: f64,
    bad: f64,
}

/// A rate with a band around it, all in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Failures by attempts; 0 where there were none.
    pub rate: f64,
    /// Lower end; 0 where there was no attempt.
    pub low: f64,
    /// Upper end; 1 where there was no attempt.
    pub high: f64,
}

impl Tally {
    /// Adds a window's counts, which weigh 1/d each.
    pub fn add(&mut self, attempts: u64, failed: u64, d: f64) {
        self.attempts = self.attempts.saturating_add(attempts);
        self.failed = self.failed.saturating_add(failed);
        self.trials += attempts as f64 / d;
        self.bad += failed as f64 / d;
    }

    /// The rate with a confidence sequence: the chance that it *ever* leaves the band is at most [`ERROR`].
    ///
    /// > { p : Σ_λ w_λ·exp(λ·k − n·ln(1 − p + p·e^λ)) < 2/error },  λ > 0 for the lower end and λ < 0 for the upper
    ///
    /// Valid since each summand is a supermartingale at the true rate, whatever it does over time: ln(1 − p + p·e^λ) is concave
    /// in p, so the band holds the *mean* of drifting rates too. Source: Howard, Ramdas, McAuliffe, Sekhon, *Time-uniform,
    /// nonparametric, nonasymptotic confidence sequences*, Annals of Statistics 2021 (sub-Bernoulli boundary, discrete mixture).
    pub fn band(&self) -> Band {
        if self.trials <= 0.0 {
            return Band {
                rate: 0.0,
                low: 0.0,
                high: 1.0,
            };
        }
        let rate = (self.bad / self.trials).clamp(0.0, 1.0);
        let low = self.end(1.0, 0.0, rate);
        let high = self.end(-1.0, 1.0, rate);
        Band {
            rate,
            low: low.min(rate),
            high: high.max(rate),
        }
    }

    /// The rate nearest to `outer` that is still in the band, between `outer` (surely out, or the edge) and `inner` (surely in).
    fn end(&self, sign: f64, mut outer: f64, mut inner: f64) -> f64 {
        let bound = (2.0 / ERROR).ln();
        if self.log_evidence(sign, outer) < bound {
            return outer;
        }
        for _ in 0..60 {
            let middle = 0.5 * (outer + inner);
            if self.log_evidence(sign, middle) >= bound {
                outer = middle
            } else {
                inner = middle
            }
        }
        outer
    }

    /// ln of the evidence that the rate is not `p` but above it (`sign` 1) or below it (−1).
    fn log_evidence(&self, sign: f64, p: f64) -> f64 {
        const STEPS: u32 = 16;
        let parts = (0..STEPS).map(|step| {
            let lambda = sign * 0.002 * f64::from(step).exp2().powf(0.85);
            self.bad * lambda - self.trials * (p * lambda.exp_m1()).ln_1p() - f64::from(STEPS).ln()
        });
        log_sum(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn band(attempts: u64, failed: u64) -> Band {
        let mut tally = Tally::default();
        tally.add(attempts, failed, 1.0);
        tally.band()
    }

    #[test]
    fn bands_hold_the_rate_and_narrow() {
        let (few, many) = (band(100, 5), band(10_000, 500));
        for band in [few, many] {
            assert!(band.low < 0.05 && 0.05 < band.high);
        }
        assert!(many.high - many.low < 0.2 * (few.high - few.low));
        assert!(many.low > 0.04 && many.high < 0.06, "{many:?}");
    }

    #[test]
    fn the_ends_of_the_scale_are_bands_too() {
        let (none, clean, bad) = (band(0, 0), band(1000, 0), band(1000, 1000));
        assert_eq!((none.low, none.high), (0.0, 1.0));
        assert!(
            clean.low == 0.0 && clean.high > 0.003 && clean.high < 0.02,
            "{clean:?}"
        );
        assert!(
            bad.high > 0.999_999 && bad.low < 0.997 && bad.low > 0.98,
            "{bad:?}"
        );
    }

    #[test]
    fn a_design_effect_widens_the_band() {
        let mut clustered = Tally::default();
        clustered.add(10_000, 500, 10.0);
        let (wide, narrow) = (clustered.band(), band(10_000, 500));
        assert!(wide.high - wide.low > 2.0 * (narrow.high - narrow.low));
    }
}
