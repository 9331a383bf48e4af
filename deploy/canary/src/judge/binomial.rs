//! Binomial probabilities in logarithms, accurate where differences of log-factorials are not.
//!
//! `ln n!` of a million is 1.3e7, so a difference of such values is good to 1e-9 at best. The saddle-point form below never
//! subtracts large numbers: its terms are as small as the result.
//!
//! Source: C. Loader, *Fast and accurate computation of binomial probabilities* (2000).

use std::f64::consts::PI;

/// `ln n! − (n + ½) ln n + n − ½ ln 2π` for n = 0 … 15, where the series below is not yet exact; n = 0 counts as 0.
const STIRLING_ERROR: [f64; 16] = [
    0.0,
    0.081_061_466_795_327_26,
    0.041_340_695_955_409_29,
    0.027_677_925_684_998_34,
    0.020_790_672_103_765_093,
    0.016_644_691_189_821_193,
    0.013_876_128_823_070_748,
    0.011_896_709_945_891_77,
    0.010_411_265_261_972_096,
    0.009_255_462_182_712_733,
    0.008_330_563_433_362_87,
    0.007_573_675_487_951_841,
    0.006_942_840_107_209_53,
    0.006_408_994_188_004_207,
    0.005_951_370_112_758_847_5,
    0.005_554_733_551_962_801,
];

/// The error of Stirling's approximation of `ln n!`, to 1e-16, for whole n ≥ 0.
fn stirling_error(n: f64) -> f64 {
    if n <= 15.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 ≤ n ≤ 15"
        )]
        return STIRLING_ERROR[n as usize];
    }
    let square = n * n;
    let tail = 1.0 / 1260.0 - (1.0 / 1680.0 - (1.0 / 1188.0 - 691.0 / 360_360.0 / square) / square) / square;
    (1.0 / 12.0 - (1.0 / 360.0 - tail / square) / square) / n
}

/// `x ln(x/mean) + mean − x`, the deviance of one cell, without cancellation when x is near the mean.
///
/// At least 0; 0 only at x = mean. `mean` must be positive; x = 0 gives `mean`.
pub(crate) fn deviance(x: f64, mean: f64) -> f64 {
    if x == 0.0 {
        return mean;
    }
    let difference = x - mean;
    if difference.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() - difference;
    }
    let v = difference / (x + mean);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    let square = v * v;
    // |v| < 0.1, so 1000 terms are never needed: each gains two digits.
    for term in 1..1000 {
        power *= square;
        let next = sum + power / f64::from(2 * term + 1);
        if next.to_bits() == sum.to_bits() {
            break;
        }
        sum = next;
    }
    sum
}

/// The deviance of `x` successes in `n` trials from success odds `odds`: `−ln` of the likelihood, up to terms free of the odds.
pub(crate) fn deviance_at_odds(x: f64, n: f64, odds: f64) -> f64 {
    deviance(x, n * (odds / (1.0 + odds))) + deviance(n - x, n / (1.0 + odds))
}

/// `ln P(X = x)` for X binomial with `n` trials and success odds `odds`, 0 ≤ x ≤ n, 0 < odds < ∞.
///
/// Odds and not a probability: near certainty `1 − p` would lose all its digits.
pub(crate) fn log_probability(x: f64, n: f64, odds: f64) -> f64 {
    if x == 0.0 {
        return -n * odds.ln_1p();
    }
    if x >= n {
        return -n * (1.0 / odds).ln_1p();
    }
    let shape = stirling_error(n) - stirling_error(x) - stirling_error(n - x);
    shape - deviance_at_odds(x, n, odds) + 0.5 * (n / (2.0 * PI * x * (n - x))).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_ten_trials_are_exact() {
        // C(10, 3)·0.2³·0.8⁷ with odds ¼.
        let expected = (120.0f64 * 0.008 * 0.209_715_2).ln();
        assert!((log_probability(3.0, 10.0, 0.25) - expected).abs() < 1e-14);
        assert!((log_probability(0.0, 10.0, 0.25) - 10.0 * 0.8f64.ln()).abs() < 1e-14);
        assert!((log_probability(10.0, 10.0, 0.25) - 10.0 * 0.2f64.ln()).abs() < 1e-13);
    }

    #[test]
    fn the_stirling_error_is_continuous_where_the_table_ends() {
        // ln 16! − ln 15! must be ln 16.
        let log_factorial = |n: f64| (n + 0.5) * n.ln() - n + 0.5 * (2.0 * PI).ln() + stirling_error(n);
        assert!((log_factorial(16.0) - log_factorial(15.0) - 16.0f64.ln()).abs() < 1e-14);
        assert!((log_factorial(30.0) - 74.658_236_348_830_16).abs() < 1e-13);
    }

    #[test]
    fn the_deviance_is_smooth_across_its_two_forms() {
        for mean in [1.0, 1e3, 1e6] {
            let edge = mean * 1.1 / 0.9;
            let (inside, outside) = (
                deviance(edge * 0.999_999_999, mean),
                deviance(edge * 1.000_000_001, mean),
            );
            assert!((outside - inside) / inside < 1e-7 && outside > inside);
        }
    }
}
