//! How much failures come in clusters, measured without looking at which release they fell on.
//!
//! Ten messages of one receive that fail together are not ten independent trials. The design effect says how many messages
//! make one trial's worth of evidence; each window's log-likelihood ratio is divided by it.
//!
//! Source: L. Kish, *Survey Sampling* (1965), for the design effect; the estimator is one of moments over receives.

use super::window::Receives;

/// A running estimate of how alike the messages of one receive are, and the design effect that follows.
///
/// > V = Σ_w Σ_r (f_r − s_r·p̂_w)² / Σ_w N_w·p̂_w·(1 − p̂_w)·(1 − Q_w/N_w²),  ICC = clamp((V − 1)/(ΣQ/ΣN − 1), 0, 1),
/// > D = 1 + (s_max − 1)·ICC
///
/// with p̂_w = F/N pooled over both arms within the window (rates that drift from window to window are no clusters), N = Σs,
/// Q = Σs², and s_max the larger arm's size-weighted mean receive. By Jensen's inequality a likelihood ratio to the power 1/D
/// still has expectation at most 1, so dividing never makes the test less safe where messages are independent. That D is
/// enough where they are not is simulated, not proven.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DesignEffect {
    squares: f64,
    expected: f64,
    n: f64,
    q: f64,
}

impl DesignEffect {
    /// Takes in a window's sums over receives of both arms and returns the D by which to divide its evidence, at least 1.
    pub fn enter(&mut self, canary: &Receives, baseline: &Receives) -> f64 {
        let both = canary.and(baseline);
        if both.s == 0 {
            return 1.0;
        }
        let (n, q, f) = (both.s as f64, both.ss as f64, both.f as f64);
        let p = f / n;
        self.squares += (both.ff as f64 - 2.0 * p * both.fs as f64 + p * p * q).max(0.0);
        self.expected += n * p * (1.0 - p) * (1.0 - q / (n * n)).max(0.0);
        self.n += n;
        self.q += q;
        1.0 + (mean_receive(canary).max(mean_receive(baseline)) - 1.0).max(0.0) * self.icc()
    }

    /// The intra-receive correlation so far, in [0, 1]; 0 while nothing has failed or all receives have one message.
    pub fn icc(&self) -> f64 {
        let surplus = self.q / self.n - 1.0;
        if self.expected <= 0.0 || surplus.is_nan() || surplus <= 0.0 {
            return 0.0;
        }
        ((self.squares / self.expected - 1.0) / surplus).clamp(0.0, 1.0)
    }
}

/// Σs²/Σs: the size of the receive that a message finds itself in.
fn mean_receive(receives: &Receives) -> f64 {
    if receives.s == 0 {
        1.0
    } else {
        receives.ss as f64 / receives.s as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receives(sizes: &[(u64, u64)]) -> Receives {
        let mut sums = Receives::default();
        for (size, failed) in sizes {
            sums.add(*size, *failed);
        }
        sums
    }

    #[test]
    fn whole_receives_failing_together_count_as_one_trial_each() {
        let mut effect = DesignEffect::default();
        let mut d = 1.0;
        for window in 0..200 {
            let sizes: Vec<_> = (0..20)
                .map(|receive| (10, if (window + receive) % 20 == 0 { 10 } else { 0 }))
                .collect();
            d = effect.enter(&receives(&sizes[..2]), &receives(&sizes[2..]));
        }
        assert!((effect.icc() - 1.0).abs() < 0.02, "{}", effect.icc());
        assert!((d - 10.0).abs() < 0.2, "{d}");
    }

    #[test]
    fn failures_spread_over_receives_have_no_design_effect() {
        let mut effect = DesignEffect::default();
        for window in 0..200 {
            let sizes: Vec<_> = (0..20)
                .map(|receive| (10, u64::from((window + receive) % 20 == 0)))
                .collect();
            effect.enter(&receives(&sizes[..2]), &receives(&sizes[2..]));
        }
        assert!(effect.icc() < 0.02, "{}", effect.icc());
    }

    #[test]
    fn single_messages_and_silence_have_none() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let mut effect = DesignEffect::default();
        assert!(
            near(effect.enter(&Receives::default(), &Receives::default()), 1.0) && near(effect.icc(), 0.0)
        );
        let d = effect.enter(&receives(&[(1, 1), (1, 0)]), &receives(&[(1, 0); 8]));
        assert!(near(d, 1.0) && near(effect.icc(), 0.0));
    }
}
