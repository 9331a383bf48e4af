//! Made-up traffic is what was asked for.

use rand::SeedableRng;

use super::*;

fn source(traffic: Traffic) -> Source {
    Source::new(
        traffic,
        Wanted {
            durations: true,
            questions: vec!["q".into()],
        },
        Pcg64Mcg::seed_from_u64(1),
    )
}

#[test]
fn the_same_seed_makes_the_same_windows() {
    let (mut one, mut two) = (
        source(Traffic::plain(50.0, 0.01, 2.0)),
        source(Traffic::plain(50.0, 0.01, 2.0)),
    );
    for start in 0..20 {
        assert_eq!(one.window(start, 1, 0.1).window, two.window(start, 1, 0.1).window);
    }
}

#[test]
fn rates_shares_and_durations_are_those_asked_for() {
    let mut source = source(Traffic {
        slowdown: 2.0,
        ..Traffic::plain(500.0, 0.01, 3.0)
    });
    let whole = source.window(0, 2000, 0.1).window;
    let rate = |arm: &Arm| arm.failures() as f64 / arm.attempts() as f64;
    let share = whole.canary.attempts() as f64 / (whole.canary.attempts() + whole.baseline.attempts()) as f64;
    assert!((share - 0.1).abs() < 0.002, "{share}");
    assert!((rate(&whole.canary) - 0.03).abs() < 0.002 && (rate(&whole.baseline) - 0.01).abs() < 0.0005);
    let slow =
        |arm: &Arm| arm.durations.above(Durations::bucket(400.0)) as f64 / arm.durations.total() as f64;
    // The bucket of 400 ms ends at 430 ms, which 45 % of log-normal durations of median 400 ms exceed.
    assert!((slow(&whole.canary) - 0.451).abs() < 0.02 && (slow(&whole.baseline) - 0.1).abs() < 0.02);
    assert_eq!(whole.fault(), None);
    assert_eq!(whole.canary.receives.s, whole.canary.attempts());
    assert_eq!(whole.canary.receives.f, whole.canary.failures());
}

#[test]
fn few_messages_fail_as_often_as_many() {
    for rate in [0.15, 0.3] {
        let mut source = source(Traffic::plain(1.0, rate, 1.0));
        let whole = source.window(0, 40_000, 0.5).window;
        let failed = whole.canary.failures() as f64 / whole.canary.attempts() as f64;
        assert!((failed / rate - 1.0).abs() < 0.04, "{failed} {rate}");
    }
}

#[test]
fn the_sums_over_receives_agree_between_both_ways_of_making_them() {
    for trouble in [Trouble::None, Trouble::WholeReceives(1e-12)] {
        let mut source = source(Traffic {
            trouble,
            ..Traffic::plain(500.0, 0.05, 1.0)
        });
        let sums = source.window(0, 20_000, 0.5).window.baseline.receives;
        // Independent failures: E f² = s·p·(1 − p) + s²·p² for each receive.
        let expected = sums.s as f64 * 0.05 * 0.95 + sums.ss as f64 * 0.0025;
        assert!(
            (sums.ff as f64 / expected - 1.0).abs() < 0.02,
            "{trouble:?}: {} {expected}",
            sums.ff
        );
    }
}
