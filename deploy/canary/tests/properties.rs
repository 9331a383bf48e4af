//! What must hold for every set of windows.

use canary::judge::hypergeometric::{Counts, log_likelihood_ratios};
use canary::judge::ledger::Ledger;
use canary::judge::rules::Rules;
use canary::judge::verdict::Situation;
use canary::judge::window::{Arm, Failed, Receives, Tasks, Window};
use canary::judge::{Judge, decide};
use proptest::prelude::*;

const SITUATION: Situation = Situation {
    deadline_passed: false,
    last_step: true,
    least_time_reached: true,
    least_messages_reached: true,
    least_evidence: 0.0,
};

fn arm(attempts: u64, failed: u64) -> Arm {
    let failed = failed.min(attempts);
    let mut receives = Receives::default();
    receives.add(attempts.min(1000), failed.min(1000));
    Arm {
        started: attempts,
        done: attempts - failed,
        failed: Failed {
            reject: failed,
            ..Failed::default()
        },
        receives,
        ..Arm::default()
    }
}

fn window(start: u64, counts: (u64, u64, u64, u64)) -> Window {
    let (n_c, k_c, n_b, k_b) = counts;
    Window {
        start,
        seconds: 1,
        share: 0.1,
        canary: arm(n_c, k_c),
        baseline: arm(n_b, k_b),
        ..Window::default()
    }
}

fn any_counts(most: u64) -> impl Strategy<Value = (u64, u64, u64, u64)> {
    (0..=most, 0..=most).prop_flat_map(|(n_c, n_b)| (Just(n_c), 0..=n_c, Just(n_b), 0..=n_b))
}

fn any_arm() -> impl Strategy<Value = Arm> {
    let failed = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(retry, panic, deadline)| Failed {
        retry,
        panic,
        deadline,
        ..Failed::default()
    });
    let tasks = any::<(u32, u32, u32, u32)>().prop_map(|(running, idle, breakers_open, starts)| Tasks {
        running,
        idle,
        breakers_open,
        starts,
    });
    let receives = any::<(u64, u64, u64, u64, u64)>().prop_map(|(s, ss, f, ff, fs)| Receives {
        s,
        ss,
        f: f.min(s),
        ff,
        fs,
    });
    (
        any::<(u64, u64, u64)>(),
        failed,
        prop::option::of(tasks),
        receives,
    )
        .prop_map(|((done, open, lost), failed, tasks, receives)| Arm {
            started: u64::MAX,
            done,
            failed,
            open,
            lost,
            tasks,
            receives,
            ..Arm::default()
        })
}

fn any_window() -> impl Strategy<Value = Window> {
    let times = (
        prop_oneof![0u64..400, any::<u64>()],
        prop_oneof![1u32..6, 1..=u32::MAX],
    );
    (times, any_arm(), any_arm(), any::<bool>(), 0.0f64..=1.0).prop_map(
        |((start, seconds), canary, baseline, closed, share)| Window {
            start,
            seconds,
            closed,
            share,
            canary,
            baseline,
            ..Window::default()
        },
    )
}

/// The same window with counts that a queue might have.
fn small(mut window: Window) -> Window {
    for arm in [&mut window.canary, &mut window.baseline] {
        for count in [
            &mut arm.done,
            &mut arm.open,
            &mut arm.lost,
            &mut arm.failed.retry,
            &mut arm.failed.panic,
            &mut arm.failed.deadline,
        ] {
            *count %= 50;
        }
        arm.started = arm.attempts();
    }
    window
}

fn ratios(counts: (u64, u64, u64, u64), null: f64) -> [f64; 12] {
    let (canary, canary_failed, baseline, baseline_failed) = counts;
    let mut out = [0.0; 12];
    let alternatives = Rules {
        harmless_ratio: null,
        ..Rules::default()
    }
    .alternatives();
    log_likelihood_ratios(
        &Counts {
            canary,
            canary_failed,
            baseline,
            baseline_failed,
        },
        null,
        &alternatives,
        &mut out,
    );
    out
}

fn harm_of(rules: &Rules, windows: &[Window]) -> f64 {
    let mut judge = Judge::new(rules.clone());
    for window in windows {
        judge.enter(window);
    }
    judge.log_harm()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_more_canary_failure_never_lowers_the_evidence(
        counts in any_counts(3000), null in prop::sample::select(vec![1.0, 1.5])
    ) {
        let (n_c, k_c, n_b, k_b) = counts;
        prop_assume!(k_c < n_c);
        let (before, after) = (ratios(counts, null), ratios((n_c, k_c + 1, n_b, k_b), null));
        // All messages of both arms failing is the end of the scale: there nothing could have come out otherwise.
        prop_assume!(k_c + 1 + k_b < n_c + n_b);
        for (before, after) in before.iter().zip(after) {
            prop_assert!(after >= before - 1e-9 * (1.0 + before.abs()), "{before} then {after}");
        }
    }

    #[test]
    fn a_failure_moved_from_baseline_to_canary_raises_the_evidence(counts in any_counts(3000)) {
        let (n_c, k_c, n_b, k_b) = counts;
        prop_assume!(k_c < n_c && k_b > 0 && n_b > 0 && k_c + k_b < n_c + n_b);
        let (before, after) = (ratios(counts, 1.0), ratios((n_c, k_c + 1, n_b, k_b - 1), 1.0));
        for (before, after) in before.iter().zip(after) {
            prop_assert!(after > *before, "{before} then {after}");
        }
    }

    #[test]
    fn any_counts_whatever_give_finite_numbers(counts in any_counts(u64::MAX / 2), scale in 0u32..62) {
        let (n_c, k_c, n_b, k_b) = counts;
        for value in ratios((n_c >> scale, k_c >> scale, n_b >> (scale / 2), k_b >> (scale / 2)), 1.0) {
            prop_assert!(value.is_finite());
        }
    }

    #[test]
    fn one_more_canary_failure_never_lowers_the_evidence_at_any_scale(
        counts in any_counts(1 << 40), scale in 0u32..40, rare in 0u32..24
    ) {
        let (n_c, k_c, n_b, k_b) = counts;
        let (n_c, k_c, n_b, k_b) = (n_c >> scale, k_c >> scale >> rare, n_b >> scale, k_b >> scale >> rare);
        prop_assume!(k_c < n_c && k_c + 1 + k_b < n_c + n_b);
        let (before, after) = (ratios((n_c, k_c, n_b, k_b), 1.0), ratios((n_c, k_c + 1, n_b, k_b), 1.0));
        for (before, after) in before.iter().zip(after) {
            prop_assert!(after >= before - 1e-9 * (1.0 + before.abs()), "{before} then {after}");
        }
    }

    /// The strictest plan looks for harm from five times the failures on.
    #[test]
    fn every_harmless_ratio_a_plan_may_name_gives_finite_numbers(counts in any_counts(400), null in 1.0f64..5.0) {
        for value in ratios(counts, null).into_iter().chain(ratios(counts, 5.0)) {
            prop_assert!(value.is_finite());
        }
    }

    #[test]
    fn windows_of_any_numbers_whatever_make_a_verdict(
        list in prop::collection::vec((any_window(), any::<bool>()), 0..20), span in 1u32..6
    ) {
        let mut ledger = Ledger::default();
        for (window, huge) in list {
            ledger.record(if huge { window } else { small(window) });
        }
        let rules = Rules { span, ceiling: Some(0.01), ..Rules::default() };
        let verdict = decide(&rules, &ledger, &SITUATION);
        let text = serde_json::to_string(&verdict).expect("writes");
        let back = serde_json::from_str(&text);
        prop_assert!(back.is_ok_and(|back: canary::judge::verdict::Verdict| back == verdict), "{text}");
    }

    #[test]
    fn verdicts_have_no_nan_and_are_written_and_read(list in prop::collection::vec(any_counts(100_000), 0..40)) {
        let mut ledger = Ledger::default();
        for (start, counts) in list.into_iter().enumerate() {
            ledger.record(window(start as u64, counts));
        }
        let rules = Rules { ceiling: Some(0.01), ..Rules::default() };
        let verdict = decide(&rules, &ledger, &SITUATION);
        let text = serde_json::to_string(&verdict).expect("writes");
        // serde_json writes what is not a number as null, which does not read back as a number.
        let back = serde_json::from_str(&text);
        prop_assert!(back.is_ok_and(|back: canary::judge::verdict::Verdict| back == verdict), "{text}");
    }

    #[test]
    fn order_and_repeats_change_nothing(
        list in prop::collection::vec(any_counts(60), 1..40), seed in any::<u64>(), span in 1u32..6
    ) {
        let windows: Vec<Window> =
            list.into_iter().enumerate().map(|(start, counts)| window(start as u64, counts)).collect();
        let mut shuffled = windows.clone();
        let mut state = seed;
        for index in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(index, (state >> 33) as usize % (index + 1));
        }
        let repeated: Vec<Window> = shuffled.iter().chain(&windows).cloned().collect();
        let rules = Rules { span, ..Rules::default() };
        let verdict = |list: &[Window]| {
            let mut ledger = Ledger::default();
            for window in list {
                ledger.record(window.clone());
            }
            decide(&rules, &ledger, &SITUATION)
        };
        prop_assert_eq!(verdict(&windows), verdict(&repeated));
    }

    #[test]
    fn windows_without_failures_or_without_an_arm_change_no_evidence(
        list in prop::collection::vec(any_counts(60), 1..20), quiet in 0u64..50, at in 0usize..20
    ) {
        let rules = Rules { clusters: false, ..Rules::default() };
        let windows: Vec<Window> =
            list.into_iter().enumerate().map(|(start, counts)| window(start as u64, counts)).collect();
        let before = harm_of(&rules, &windows);
        for empty in [(0, 0, 0, 0), (quiet, 0, 2 * quiet, 0), (quiet, quiet / 2, 0, 0), (0, 0, quiet, quiet)] {
            let mut more = windows.clone();
            more.insert(at.min(windows.len()), window(1000, empty));
            prop_assert!((harm_of(&rules, &more) - before).abs() < 1e-9);
        }
    }

    /// Reporters of one window may be summed in any grouping; that is exact.
    #[test]
    fn summing_the_reports_of_one_window_in_parts_is_exact(a in any_counts(500), b in any_counts(500)) {
        let mut merged = window(0, a);
        merged.merge(&window(0, b));
        let whole = window(0, (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3));
        prop_assert_eq!(merged.canary.attempts(), whole.canary.attempts());
        prop_assert_eq!(merged.baseline.failures(), whole.baseline.failures());
        let rules = Rules { clusters: false, ..Rules::default() };
        prop_assert!((harm_of(&rules, &[merged]) - harm_of(&rules, &[whole])).abs() < 1e-12);
    }

    /// Where failures are rare the split of each is a coin of bias ω·s/(1 − s + ω·s), whatever window it falls into: merging
    /// windows of equal share changes the evidence only by terms of the order k²/n.
    #[test]
    fn merging_windows_of_equal_share_changes_little_where_failures_are_rare(
        x in 0u64..6, y in 0u64..6, u in 0u64..6, v in 0u64..6
    ) {
        let n = 1_000_000;
        let (first, second) = (ratios((n, x, 9 * n, y), 1.0), ratios((n, u, 9 * n, v), 1.0));
        let merged = ratios((2 * n, x + u, 18 * n, y + v), 1.0);
        for ((first, second), merged) in first.iter().zip(second).zip(merged) {
            prop_assert!((first + second - merged).abs() < 1e-3, "{first} + {second} = {merged}");
        }
    }
}

/// E has expectation exactly 1 under the null, for every window: the sum over all splits, exactly.
#[test]
fn the_likelihood_ratio_has_expectation_one_under_the_null() {
    for (n_c, n_b, k) in [(3u64, 7u64, 2u64), (10, 90, 5), (50, 450, 40), (120, 200, 150)] {
        let choose = |n: u64, k: u64| {
            (0..k)
                .map(|i| ((n - i) as f64 / (i + 1) as f64).ln())
                .sum::<f64>()
        };
        let (low, high) = (k.saturating_sub(n_b), k.min(n_c));
        for j in 0..12 {
            let total: f64 = (low..=high)
                .map(|x| {
                    let p = choose(n_c, x) + choose(n_b, k - x) - choose(n_c + n_b, k);
                    (p + ratios((n_c, x, n_b, k - x), 1.0)[j]).exp()
                })
                .sum();
            assert!((total - 1.0).abs() < 1e-9, "{n_c} {n_b} {k}: {total}");
        }
    }
}
