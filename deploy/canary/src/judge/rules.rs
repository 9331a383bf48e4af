//! The numbers a judge is bound by: a plan's, checked.

use super::guard::GuardRules;

/// What a judge holds a release to. Made by a plan, which has checked the bounds named here.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Chance of ever rolling back a harmless release, over all steps and the bake together; in (0, 0.5].
    pub alpha: f64,
    /// Chance of ever promoting a release that is worse than tolerated; in (0, 0.5].
    pub beta: f64,
    /// ω₀, the odds ratio of failure up to which a release counts as harmless to the harm test; 1 or more.
    pub harmless_ratio: f64,
    /// r, the odds ratio of failure from which a release counts as bad to the promotion test; above `harmless_ratio`.
    pub tolerated_ratio: f64,
    /// p_max, a failure rate below which the ratio does not matter; in (0, 1).
    pub ceiling: Option<f64>,
    /// Length in seconds of the stretch that must not decide alone; 0 turns the stretch rule off.
    pub stretch: u32,
    /// Length in seconds of the windows that are compared, at least 1.
    pub span: u32,
    /// Whether evidence is divided by the design effect.
    pub clusters: bool,
    /// Whether part of the stake is held back for harm that starts late.
    pub cash: bool,
    /// What is compared; at least failures. The weights sum to 1.
    pub signals: Vec<Signal>,
    /// Rules that are not statistics.
    pub guards: GuardRules,
}

/// One yes/no question asked of every message.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its name in reports.
    pub name: String,
    /// The question.
    pub kind: Kind,
    /// Its part of α; with the other signals' these sum to 1.
    pub weight: f64,
}

/// What makes a message count against its release.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The attempt failed.
    Failures,
    /// It took longer than these quantiles of the baseline in earlier windows; the evidence is averaged over them.
    Slow {
        /// Each in (0, 1).
        quantiles: Vec<f64>,
    },
    /// The handler's own answer to the question of this name was bad.
    Quality {
        /// The key under which workers report it.
        question: String,
    },
}

impl Default for Rules {
    /// α 1 %, β 5 %, any harm counts, twice the failures are not tolerated, failures only, stretch 30 s, windows of 1 s.
    fn default() -> Self {
        Self {
            alpha: 0.01,
            beta: 0.05,
            harmless_ratio: 1.0,
            tolerated_ratio: 2.0,
            ceiling: None,
            stretch: 30,
            span: 1,
            clusters: true,
            cash: true,
            signals: vec![Signal {
                name: "failures".to_owned(),
                kind: Kind::Failures,
                weight: 1.0,
            }],
            guards: GuardRules::default(),
        }
    }
}

impl Rules {
    /// ln(1/α): the evidence of harm at which the canary is suspected.
    pub fn suspicion_bound(&self) -> f64 {
        -self.alpha.ln()
    }

    /// ln(1/(10·α)): what must be left of it without any one stretch, for conviction.
    ///
    /// So with one arbitrary bad stretch a harmless release is rolled back with chance at most 10·α.
    pub fn conviction_bound(&self) -> f64 {
        (-self.alpha.ln() - 10f64.ln()).max(0.0)
    }

    /// ln(1/β): the evidence at which a release may be promoted.
    pub fn promotion_bound(&self) -> f64 {
        -self.beta.ln()
    }

    /// ln(1/(4·β)): what must be left of that without any one stretch.
    pub fn promotion_bound_without(&self) -> f64 {
        (-self.beta.ln() - 4f64.ln()).max(0.0)
    }

    /// The twelve odds ratios that the harm test bets on: ω₀ × exp(θ_j), θ_j geometric from ln 1.3 to ln 200.
    ///
    /// A grid loses at most ln 12 plus the distance to the nearest point against knowing ω. Source: statistics of
    /// mixtures of e-values after arXiv 2106.02693.
    pub fn alternatives(&self) -> [f64; 12] {
        let (first, last) = (1.3f64.ln(), 200f64.ln());
        std::array::from_fn(|j| self.harmless_ratio * (first * (last / first).powf(j as f64 / 11.0)).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternatives_are_the_documented_ones() {
        let expected = [
            1.30, 1.41, 1.57, 1.81, 2.19, 2.80, 3.86, 5.91, 10.3, 21.5, 56.4, 200.0,
        ];
        for (got, want) in Rules::default().alternatives().iter().zip(expected) {
            assert!((got / want - 1.0).abs() < 0.006, "{got} {want}");
        }
    }

    #[test]
    fn the_bounds_are_those_of_one_and_five_percent() {
        let rules = Rules::default();
        for (got, want) in [
            (rules.suspicion_bound(), 100f64),
            (rules.conviction_bound(), 10.0),
            (rules.promotion_bound(), 20.0),
            (rules.promotion_bound_without(), 5.0),
        ] {
            assert!((got.exp() - want).abs() < 1e-9);
        }
    }
}
