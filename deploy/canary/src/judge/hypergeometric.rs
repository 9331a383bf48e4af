//! Where a window's failures fell: Fisher's noncentral hypergeometric distribution.
//!
//! With `k` failures among `n_c + n_b` attempts, the number `x` that fell on the canary has
//!
//! > P_ω(x) = C(n_c, x) · C(n_b, k − x) · ω^x / Σ_j C(n_c, j) · C(n_b, k − j) · ω^j
//!
//! where ω is the odds ratio of failure. The failure rate itself has cancelled: that is why an outage that hits both releases
//! carries no evidence. Source: R. A. Fisher, *The logic of inductive inference* (1935); the name is of A. Fog (2008).

use super::binomial;

/// The four counts of one window: attempts and failures of each release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts of the canary.
    pub canary: u64,
    /// Failures among them, at most `canary`.
    pub canary_failed: u64,
    /// Attempts of the baseline.
    pub baseline: u64,
    /// Failures among them, at most `baseline`.
    pub baseline_failed: u64,
}

impl Counts {
    /// Failures in both arms; saturates.
    pub fn failed(&self) -> u64 {
        self.canary_failed.saturating_add(self.baseline_failed)
    }

    /// Whether the split of the failures could have come out in more than one way. If not, the window says nothing.
    pub fn is_informative(&self) -> bool {
        let failed = self.failed();
        self.canary > 0
            && self.baseline > 0
            && failed > 0
            && failed < self.canary.saturating_add(self.baseline)
    }
}

/// Below this many possible splits the sums are taken over all of them, as polynomials in ω that share their coefficients.
const FEW: usize = 102;
/// Beyond this many standard deviations a term is below 1e-30 of the sum.
const REACH: f64 = 12.0;
/// A sum takes at most about this many terms; wider ones are summed at a stride, which for so smooth a summand is exact far
/// beyond 1e-9 (the error of the trapezoidal rule on a bell falls as exp(−2π²·(σ/stride)²)).
const TERMS: f64 = 32_768.0;

/// `ln P_ω(x) − ln P_ω₀(x)` for each ω of `ratios`, into `out`.
///
/// Valid as evidence because P_ω is a probability for every ω: the expectation of the ratio under ω₀ is 1 whatever the failure
/// rate. Error at most 1e-9 up to 2^20 attempts a side; finite for any counts and any ratios in [1e-3, 1e3]. Zero when the
/// window is not informative (one arm is missing, nothing failed or all did). `ratios` and `out` have equal length; what is
/// longer is ignored.
///
/// Source: the formula at the head of this module; the sums use that the split of two binomials with odds ratio ω, given
/// their total, has this very distribution.
pub fn log_likelihood_ratios(counts: &Counts, null: f64, ratios: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    if !counts.is_informative() {
        return;
    }
    let split = Split::new(counts);
    if split.high <= split.low {
        return;
    }
    if split.high - split.low < FEW as f64 {
        few_splits(&split, null, ratios, out);
    } else {
        let reference = split.conditional(null);
        for (value, ratio) in out.iter_mut().zip(ratios) {
            *value = split.conditional(*ratio) - reference;
        }
    }
}

/// One window's counts as floating-point numbers (exact to 2^53), with the range of possible splits.
struct Split {
    canary: f64,
    baseline: f64,
    failed: f64,
    x: f64,
    low: f64,
    high: f64,
}

impl Split {
    fn new(counts: &Counts) -> Self {
        // No queue does a million million attempts in a window. Should a counter say so, both arms shrink alike: less evidence.
        let excess = (counts.canary.max(counts.baseline) >> 40)
            .checked_ilog2()
            .map_or(0, |bits| bits + 1);
        let float = |count: u64| (count >> excess) as f64;
        let (canary, baseline) = (float(counts.canary), float(counts.baseline));
        let x = float(counts.canary_failed).min(canary);
        let failed = x + float(counts.baseline_failed).min(baseline);
        Self {
            canary,
            baseline,
            failed,
            x,
            low: (failed - baseline).max(0.0),
            high: failed.min(canary),
        }
    }

    /// C(n_c, j+1)·C(n_b, k−j−1) / (C(n_c, j)·C(n_b, k−j)).
    fn step(&self, j: f64) -> f64 {
        (self.canary - j) * (self.failed - j) / ((j + 1.0) * (self.baseline - self.failed + j + 1.0))
    }

    /// The failure odds of the baseline at which both arms' expected failures sum to k, when the canary's odds are ω times
    /// those. Only has to be near: any value gives the same conditional law.
    fn odds(&self, ratio: f64) -> f64 {
        let expected = |odds: f64| {
            self.canary * (ratio * odds / (1.0 + ratio * odds)) + self.baseline * (odds / (1.0 + odds))
        };
        let pooled = self.failed / (self.canary + self.baseline - self.failed);
        let (mut low, mut high) = (pooled / ratio.max(1.0), pooled / ratio.min(1.0));
        for _ in 0..60 {
            let middle = (low * high).sqrt();
            if expected(middle) < self.failed {
                low = middle
            } else {
                high = middle
            }
            if high <= low * (1.0 + 1e-13) {
                break;
            }
        }
        (low * high).sqrt()
    }

    /// `ln P_ω(x)` up to terms free of ω.
    fn conditional(&self, ratio: f64) -> f64 {
        let odds = self.odds(ratio);
        let canary_odds = ratio * odds;
        let mode = (self.canary * (canary_odds / (1.0 + canary_odds)))
            .round()
            .clamp(self.low, self.high);
        let joint = |j: f64| {
            binomial::log_probability(j, self.canary, canary_odds)
                + binomial::log_probability(self.failed - j, self.baseline, odds)
        };
        let at_x = -binomial::deviance_at_odds(self.x, self.canary, canary_odds)
            - binomial::deviance_at_odds(self.failed - self.x, self.baseline, odds);
        let variance = |n: f64, odds: f64| n * odds / ((1.0 + odds) * (1.0 + odds));
        let (v_c, v_b) = (variance(self.canary, canary_odds), variance(self.baseline, odds));
        let deviation = (v_c * v_b / (v_c + v_b)).sqrt().max(1.0);
        let stride = (2.0 * REACH * deviation / TERMS).floor().max(1.0);
        let sum = if stride > 1.0 {
            self.strided_sum(mode, stride, joint)
        } else {
            self.sum_around(mode, ratio)
        };
        at_x - joint(mode) - sum.ln()
    }

    /// Σ_j of the terms relative to the one at the mode, outwards until they vanish.
    fn sum_around(&self, mode: f64, ratio: f64) -> f64 {
        let mut sum = 1.0;
        let (mut term, mut j) = (1.0, mode);
        while j < self.high && term > 1e-20 {
            term *= self.step(j) * ratio;
            sum += term;
            j += 1.0;
        }
        (term, j) = (1.0, mode);
        while j > self.low && term > 1e-20 {
            j -= 1.0;
            term /= self.step(j) * ratio;
            sum += term;
        }
        sum
    }

    /// The same sum at every `stride`-th j, times the stride.
    fn strided_sum(&self, mode: f64, stride: f64, joint: impl Fn(f64) -> f64) -> f64 {
        let top = joint(mode);
        let mut sum = 1.0;
        for direction in [-stride, stride] {
            let mut j = mode + direction;
            while j >= self.low && j <= self.high {
                let term = (joint(j) - top).exp();
                sum += term;
                if term < 1e-20 {
                    break;
                }
                j += direction;
            }
        }
        sum * stride
    }
}

/// The usual window: the coefficients C(n_c, j)·C(n_b, k−j) are computed once and shared by all ω.
fn few_splits(split: &Split, null: f64, ratios: &[f64], out: &mut [f64]) {
    // Coefficients relative to the largest. Those below 1e-308 of it vanish, which with 102 terms
    // and ω ≤ 1000 loses nothing.
    let mut coefficients = [0.0f64; FEW + 1];
    let mut count = 1;
    coefficients[0] = 1.0;
    let mut top = 0;
    let mut j = split.low;
    // The largest coefficient comes first in this scale: walk up while the steps exceed 1, to find it.
    while j < split.high && split.step(j) > 1.0 {
        top += 1;
        j += 1.0;
    }
    let mode = j;
    coefficients[top] = 1.0;
    let mut back = mode;
    for index in (0..top).rev() {
        back -= 1.0;
        coefficients[index] = coefficients[index + 1] / split.step(back);
        count += 1;
    }
    while j < split.high {
        coefficients[count] = coefficients[count - 1] * split.step(j);
        count += 1;
        j += 1.0;
    }
    let coefficients = &coefficients[..count];
    // Σ_j c_j ω^(j − mode), the sides of the mode apart so that no power overflows.
    let log_sum = |ratio: f64| {
        let above = coefficients[top..]
            .iter()
            .rev()
            .fold(0.0, |sum, c| sum * ratio + c);
        let inverse = 1.0 / ratio;
        let below = coefficients[..top].iter().fold(0.0, |sum, c| (sum + c) * inverse);
        (above + below).ln()
    };
    let reference = log_sum(null);
    let offset = split.x - mode;
    for (value, ratio) in out.iter_mut().zip(ratios) {
        *value = offset * (ratio / null).ln() - log_sum(*ratio) + reference;
    }
}
