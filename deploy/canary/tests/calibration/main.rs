//! Counts the judge's promises on seeded simulations: short here, long by
//! `cargo run --release -p canary --example statistics -- calibration --runs 20000`.
//!
//! A promise is kept when the upper end of the 99 % interval of its chance is within it. The seed is fixed, so this test is
//! either right or wrong, never flaky.

use canary::judge::rules::Rules;
use canary::simulate::scenario::{Promise, Scenario, harmless_releases, intolerable_releases};
use canary::simulate::theory;
use canary::simulate::traffic::Trouble;

const SEED: u64 = 20_260_501;

fn check(scenarios: Vec<Scenario>, runs: u64) {
    let mut broken = Vec::new();
    for scenario in scenarios {
        // About 0.4 % of these convict; to tell that from 1 % takes more runs.
        let sick = scenario.traffic.trouble == Trouble::SickCanary;
        let runs = if sick { runs * 4 } else { runs };
        let counted = scenario.count(runs, SEED);
        let (hits, _, high) = counted.against(scenario.promise);
        println!(
            "{}: {hits} of {runs}, at most {:.2} %; suspected {}",
            scenario.name,
            high * 100.0,
            counted.suspected
        );
        if !counted.keeps(scenario.promise) {
            broken.push(scenario.name);
        }
    }
    assert_eq!(broken, Vec::<&str>::new(), "promises not kept");
}

#[test]
fn a_harmless_release_is_rolled_back_with_chance_at_most_alpha() {
    check(harmless_releases(), 2000);
}

#[test]
fn an_intolerable_release_is_promoted_with_chance_at_most_beta() {
    check(intolerable_releases(), 500);
}

fn named(name: &str) -> Scenario {
    harmless_releases()
        .into_iter()
        .find(|scenario| scenario.name == name)
        .expect("a known name")
}

/// The counting can fail: without the design effect clustered failures convict harmless releases.
#[test]
fn without_the_design_effect_clusters_break_the_promise() {
    let mut scenario = named("whole receives fail, 10/2");
    scenario.rules = Rules {
        clusters: false,
        ..scenario.rules
    };
    let counted = scenario.count(200, SEED);
    assert!(counted.convicted > 10, "{counted:?}");
    assert!(!counted.keeps(scenario.promise));
}

/// And without the stretch rule one bad half minute of one task does.
#[test]
fn without_the_stretch_rule_a_sick_task_breaks_the_promise() {
    let mut scenario = named("one of three canary tasks bad for 30 s");
    scenario.rules = Rules {
        stretch: 0,
        ..scenario.rules
    };
    let counted = scenario.count(50, SEED);
    assert!(counted.convicted > 40, "{counted:?}");
    assert_eq!(scenario.promise, Promise::NoRollback(0.01));
}

/// The test's reach against the best that any test could do, as known from theory; 6 % are three standard errors of 400 runs.
#[test]
fn detection_reaches_what_is_known_of_this_test() {
    for row in theory::rows(9.0) {
        let plain = row.measure(400, SEED, false).times_bound;
        let cash = row.measure(400, SEED, true).times_bound;
        println!(
            "{} -> {}: {plain:.2} x the bound, {cash:.2} x with cash; known {:?}",
            row.baseline, row.canary, row.known
        );
        assert!(plain <= row.known.0 * 1.1, "{row:?}: {plain}");
        assert!(cash <= row.known.1 * 1.1, "{row:?}: {cash}");
    }
}
