//! The releases that a demo or a measurement rolls out.

use anyhow::Result;

use crate::plan::Plan;
use crate::rollout::{Kind, Outcome};

/// The plan of the demo: short steps, or it would not fit into two minutes.
const DEMO: &str = include_str!("plan.toml");
/// The plan that measurements go by; its first step takes [`MEASURED_SHARE`] instead.
const USUAL: &str = include_str!("../../../plans/usual.toml");
/// The canary's share in the measurements.
const MEASURED_SHARE: &str = "share = \"10%\"";

/// Attempts of every release that fail now and then.
const USUAL_FAILURES: f64 = 0.002;

/// A release, and what is to become of it.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) release: String,
    /// What there is to say of it.
    pub(super) what: &'static str,
    /// Share of attempts that fail and can be tried again.
    pub(super) failures: f64,
    pub(super) kind: Kind,
    pub(super) plan: String,
    pub(super) expected: Outcome,
}

impl Act {
    fn demo(release: &str, what: &'static str, failures: f64, expected: Outcome) -> Self {
        Self {
            release: release.to_owned(),
            what,
            failures,
            kind: Kind::Canary,
            plan: DEMO.to_owned(),
            expected,
        }
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        Plan::read(&self.plan).map_err(|faults| anyhow::anyhow!("the plan of {}: {faults:?}", self.release))
    }
}

/// A good release and two bad ones, after the first ever.
pub(super) fn demo() -> Vec<Act> {
    vec![
        Act::demo("A", "the first release", USUAL_FAILURES, Outcome::Promoted),
        Act::demo("B", "as good as A", USUAL_FAILURES, Outcome::Promoted),
        Act::demo("C", "fails 20 %", 0.20, Outcome::RolledBack),
        Act::demo(
            "D",
            "fails 2 % more than B",
            USUAL_FAILURES + 0.02,
            Outcome::RolledBack,
        ),
    ]
}

/// A release that fails everything and one that fails 20 %, in turn, so often each.
pub(super) fn measured(rounds: u32) -> Vec<Act> {
    let mut acts = vec![Act {
        kind: Kind::SkipCanary {
            reason: "the release that the others are compared with".to_owned(),
        },
        ..Act::demo("A", "the good release", USUAL_FAILURES, Outcome::Promoted)
    }];
    let plan = USUAL.replacen("share = \"5%\"", MEASURED_SHARE, 1);
    for round in 1..=rounds {
        for (name, what, failures) in [("all", EVERYTHING, 1.0), ("fifth", FIFTH, 0.2)] {
            acts.push(Act {
                plan: plan.clone(),
                ..Act::demo(&format!("{name}-{round}"), what, failures, Outcome::RolledBack)
            });
        }
    }
    acts
}

/// A kind of release that is measured.
pub(super) const EVERYTHING: &str = "fails everything";
/// Another.
pub(super) const FIFTH: &str = "fails 20 %";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_are_right_and_measurements_go_by_the_usual_one_at_ten_percent() {
        assert!(demo().iter().all(|act| act.plan().is_ok()));
        let acts = measured(2);
        assert_eq!(acts.len(), 5);
        let (usual, measured) = (Plan::read(USUAL).unwrap(), acts[1].plan().unwrap());
        assert!((measured.steps[0].share - 0.10).abs() < 1e-9);
        assert_eq!((measured.rules, measured.bake), (usual.rules, usual.bake));
    }
}
