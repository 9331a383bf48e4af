//! Whether a plan can reach a verdict at some traffic, and which setting would help.

use super::summary::{outcomes, summarise};
use super::traffic::Traffic;
use crate::plan::Plan;
use crate::plan::unit::{show_fraction, show_seconds};

/// From this part of harmless releases without a verdict on, a plan is warned about.
const TOO_MANY: f64 = 0.1;
/// Runs by which a change is tried.
const RUNS: u64 = 60;

/// A change of one setting that was tried, with the part of harmless releases it promotes.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// The setting and its value, as in the plan.
    pub setting: String,
    /// Part of the simulated harmless releases that are promoted with it.
    pub promotion_probability: f64,
}

/// Sentences about what will not work with this plan at this traffic; none if all is well.
///
/// `inconclusive` is the part of simulated harmless releases that had no verdict by the deadline. Each setting named was
/// tried by simulation.
pub fn warnings(plan: &Plan, traffic: &Traffic, inconclusive: f64, seed: u64) -> Vec<String> {
    if inconclusive <= TOO_MANY {
        return Vec::new();
    }
    let mut warnings = vec![format!(
        "{} of harmless releases have no verdict by the deadline of {} at {} messages/s and a failure rate of {}",
        show_fraction(inconclusive),
        show_seconds(plan.deadline),
        traffic.rate,
        show_fraction(traffic.failure_rate)
    )];
    let remedies = remedies(plan, traffic, seed);
    if remedies.is_empty() {
        warnings.push(
            "none of the usual settings would change that: there is too little traffic for this plan"
                .to_owned(),
        );
    }
    warnings.extend(remedies.into_iter().map(|remedy| {
        let promoted = show_fraction(remedy.promotion_probability);
        format!(
            "with {} {promoted} of them would be promoted in time",
            remedy.setting
        )
    }));
    warnings
}

/// What the plan's ceiling means at a failure rate that is well below it.
pub fn below_the_ceiling(plan: &Plan, traffic: &Traffic) -> Option<String> {
    let (ceiling, tolerated) = (plan.rules.ceiling?, plan.rules.tolerated_ratio);
    let worse = traffic.failure_rate * tolerated;
    (worse < ceiling).then(|| {
        format!(
            "{tolerated} times {} is {}, less than the plan's ceiling of {}: below the ceiling a release may be promoted \
             although it fails {tolerated} times as often, and only the harm test looks for it",
            show_fraction(traffic.failure_rate),
            show_fraction(worse),
            show_fraction(ceiling)
        )
    })
}

/// The least change of each setting, alone, with which nine in ten harmless releases are promoted in time.
pub fn remedies(plan: &Plan, traffic: &Traffic, seed: u64) -> Vec<Remedy> {
    let harmless = Traffic {
        ratio: 1.0,
        slowdown: 1.0,
        quality_ratio: 1.0,
        ..traffic.clone()
    };
    let try_out = |setting: String, plan: &Plan| {
        let promotion_probability =
            summarise(&outcomes(plan, &harmless, RUNS, seed, &|| {})).promotion_probability;
        (promotion_probability >= 1.0 - TOO_MANY).then_some(Remedy {
            setting,
            promotion_probability,
        })
    };
    let later = [2, 4, 8].into_iter().find_map(|times| {
        let deadline = plan.deadline.saturating_mul(times);
        try_out(
            format!("deadline = {:?}", show_seconds(deadline)),
            &Plan {
                deadline,
                ..plan.clone()
            },
        )
    });
    let ceiling = [2.0, 4.0, 10.0].into_iter().find_map(|times| {
        let ceiling = times * traffic.failure_rate;
        let useful = ceiling < 0.5 && plan.rules.ceiling.is_none_or(|present| present < ceiling);
        let mut changed = plan.clone();
        changed.rules.ceiling = Some(ceiling);
        useful
            .then(|| try_out(format!("risk.ceiling = {:?}", show_fraction(ceiling)), &changed))
            .flatten()
    });
    let ratio = [2.0, 3.0, 5.0]
        .into_iter()
        .filter(|ratio| *ratio > plan.rules.tolerated_ratio)
        .find_map(|ratio| {
            let mut changed = plan.clone();
            changed.rules.tolerated_ratio = ratio;
            try_out(format!("risk.tolerated_ratio = {ratio:.1}"), &changed)
        });
    let share = [0.25, 0.5].into_iter().find_map(|share| {
        let mut changed = plan.clone();
        let last = changed.steps.last_mut()?;
        if last.share >= share {
            return None;
        }
        last.share = share;
        try_out(
            format!("a last step of share = {:?}", show_fraction(share)),
            &changed,
        )
    });
    [later, ceiling, ratio, share].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Plan {
        Plan::read(include_str!("../../../plans/usual.toml")).expect("is right")
    }

    #[test]
    fn a_plan_that_cannot_decide_is_told_which_setting_would() {
        let traffic = Traffic::plain(10.0, 0.02, 1.0);
        let warnings = warnings(&usual(), &traffic, 1.0, 1);
        assert!(
            warnings[0].contains("no verdict by the deadline of 45m"),
            "{warnings:?}"
        );
        assert!(
            warnings.iter().any(|warning| warning.contains("deadline = \"")),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_plan_that_rolls_back_at_the_deadline_is_told_too() {
        let mut plan = usual();
        plan.inconclusive = crate::plan::Inconclusive::Rollback;
        let traffic = Traffic::plain(5.0, 0.02, 1.0);
        let summary = summarise(&outcomes(&plan, &traffic, 20, 1, &|| {}));
        assert!(summary.rollback_probability > 0.9 && summary.inconclusive_probability > 0.9);
        assert!(summary.seconds_to_verdict.is_none(), "{summary:?}");
        assert!(!warnings(&plan, &traffic, summary.inconclusive_probability, 1).is_empty());
    }

    #[test]
    fn a_failure_rate_far_below_the_ceiling_is_told_and_one_near_it_is_not() {
        let note = |rate| below_the_ceiling(&usual(), &Traffic::plain(500.0, rate, 2.0));
        let told = note(0.0005).expect("0.1 % is below 0.5 %");
        assert!(
            told.starts_with("2 times 0.05% is 0.1%, less than the plan's ceiling of 0.5%"),
            "{told}"
        );
        assert_eq!(note(0.005), None);
    }

    #[test]
    fn a_plan_that_decides_is_left_alone() {
        assert_eq!(
            warnings(&usual(), &Traffic::plain(500.0, 0.005, 1.0), 0.02, 1),
            Vec::<String>::new()
        );
    }
}
