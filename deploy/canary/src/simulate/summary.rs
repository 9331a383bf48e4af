//! Many simulated rollouts in a few numbers.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::rollout::{self, Outcome};
use super::traffic::Traffic;
use crate::judge::verdict::Decision;
use crate::plan::Plan;

/// Version of the serialised form of a [`Summary`].
pub const SCHEMA: u32 = 1;

/// Median and 90th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the runs stay below.
    pub median: f64,
    /// Nine in ten runs stay below.
    pub p90: f64,
}

impl Spread {
    /// Of a list in any order; `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |q: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = ((values.len() as f64 * q).ceil() as usize).saturating_sub(1);
            values.get(index).copied()
        };
        Some(Self {
            median: at(0.5)?,
            p90: at(0.9)?,
        })
    }
}

/// What a plan does at some traffic, over many runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this form, [`SCHEMA`].
    pub schema: u32,
    /// Runs.
    pub runs: u64,
    /// Part of the runs that rolled back, those rolled back at the deadline for want of a verdict included.
    pub rollback_probability: f64,
    /// Part of the runs that promoted.
    pub promotion_probability: f64,
    /// Part of the runs that had no verdict by the deadline, whatever the plan does then.
    pub inconclusive_probability: f64,
    /// Part of the runs in which the canary was suspected at least once.
    pub suspicion_probability: f64,
    /// Seconds to promotion or rollback, of the runs that had one.
    pub seconds_to_verdict: Option<Spread>,
    /// Seconds to the first suspicion, of the runs that had one.
    pub seconds_to_suspicion: Option<Spread>,
    /// Canary messages to promotion or rollback, of the runs that had one.
    pub canary_messages: Option<Spread>,
    /// Failed canary messages until the end of the run, of all runs.
    pub canary_failed: Option<Spread>,
    /// Messages failed that a canary as good as the baseline would not have failed, of all runs.
    pub messages_harmed: Option<Spread>,
}

/// Runs a plan `runs` times on all cores; `tick` is called after each run.
pub fn outcomes(
    plan: &Plan,
    traffic: &Traffic,
    runs: u64,
    seed: u64,
    tick: &(impl Fn() + Sync),
) -> Vec<Outcome> {
    (0..runs)
        .into_par_iter()
        .map(|run| {
            let outcome = rollout::run(plan, traffic, seed, run, false);
            tick();
            outcome
        })
        .collect()
}

/// The numbers of a list of rollouts.
pub fn summarise(outcomes: &[Outcome]) -> Summary {
    let count =
        |test: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| test(outcome)).count() as f64;
    let part = |test: &dyn Fn(&Outcome) -> bool| count(test) / (outcomes.len() as f64).max(1.0);
    let decided = |outcome: &&Outcome| !outcome.undecided;
    let of = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(value).collect::<Vec<_>>();
    let of_decided =
        |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().filter(decided).map(value).collect::<Vec<_>>();
    Summary {
        schema: SCHEMA,
        runs: outcomes.len() as u64,
        rollback_probability: part(&|outcome| outcome.decision == Decision::Rollback),
        promotion_probability: part(&|outcome| outcome.decision == Decision::Promote),
        inconclusive_probability: part(&|outcome| outcome.undecided),
        suspicion_probability: part(&|outcome| outcome.suspected.is_some()),
        seconds_to_verdict: Spread::of(of_decided(&|outcome| outcome.seconds as f64)),
        seconds_to_suspicion: Spread::of(
            outcomes
                .iter()
                .filter_map(|outcome| outcome.suspected)
                .map(|seconds| seconds as f64)
                .collect(),
        ),
        canary_messages: Spread::of(of_decided(&|outcome| outcome.canary_messages as f64)),
        canary_failed: Spread::of(of(&|outcome| outcome.canary_failed as f64)),
        messages_harmed: Spread::of(of(&|outcome| outcome.harmed)),
    }
}

/// The ends of the interval that holds the true chance with 99 % confidence, after `hits` in `runs` (Clopper and Pearson, 1934).
pub fn interval(hits: u64, runs: u64) -> (f64, f64) {
    // P(at least `least` hits in `runs`) at chance p, by summing the binomial law in logarithms.
    let tail = |least: u64, p: f64| {
        let (mut log_term, mut sum) = (runs as f64 * (-p).ln_1p(), 0.0);
        for hit in 0..=runs {
            if hit >= least {
                sum += log_term.exp();
            }
            log_term += ((runs - hit) as f64 / (hit + 1) as f64).ln() + (p / (1.0 - p)).ln();
        }
        sum
    };
    let solve = |holds: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if holds(middle) {
                low = middle
            } else {
                high = middle
            }
        }
        0.5 * (low + high)
    };
    let low = if hits == 0 {
        0.0
    } else {
        solve(&|p| tail(hits, p) < 0.005)
    };
    let high = if hits == runs {
        1.0
    } else {
        solve(&|p| 1.0 - tail(hits + 1, p) > 0.005)
    };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_clopper_and_pearsons() {
        let (low, high) = interval(0, 530);
        assert!(low == 0.0 && (high - (1.0 - 0.005f64.powf(1.0 / 530.0))).abs() < 1e-9);
        let (low, high) = interval(10, 1000);
        assert!(
            (low - 0.003_731).abs() < 2e-5 && (high - 0.021_27).abs() < 2e-4,
            "{low} {high}"
        );
    }

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let spread = Spread::of((1..=10).rev().map(f64::from).collect()).expect("not empty");
        assert_eq!((spread.median, spread.p90), (5.0, 9.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
