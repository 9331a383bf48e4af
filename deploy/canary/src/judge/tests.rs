//! The judge as a whole: verdicts over sets of windows.

use super::guard::Finding;
use super::ledger::Ledger;
use super::rules::{Kind, Rules, Signal};
use super::verdict::{Decision, Situation, Verdict};
use super::window::{Arm, Durations, Failed, Quality, Receives, Tasks, Window};
use super::{Judge, decide};

const LAST: Situation = Situation {
    deadline_passed: false,
    last_step: true,
    least_time_reached: true,
    least_messages_reached: true,
    least_evidence: 0.0,
};

fn arm(attempts: u64, failed: u64) -> Arm {
    let mut receives = Receives::default();
    for message in 0..attempts {
        receives.add(1, u64::from(message < failed));
    }
    Arm {
        started: attempts,
        done: attempts - failed,
        failed: Failed {
            retry: failed,
            ..Failed::default()
        },
        receives,
        first_failures: (0..failed).map(|message| format!("m{message}")).collect(),
        ..Arm::default()
    }
}

fn window(start: u64, canary: (u64, u64), baseline: (u64, u64)) -> Window {
    let (canary, baseline) = (arm(canary.0, canary.1), arm(baseline.0, baseline.1));
    Window {
        schema: 1,
        start,
        seconds: 1,
        share: 0.1,
        canary,
        baseline,
        ..Window::default()
    }
}

fn ledger(windows: impl IntoIterator<Item = Window>) -> Ledger {
    let mut ledger = Ledger::default();
    for window in windows {
        ledger.record(window);
    }
    ledger
}

fn verdict_on(windows: impl IntoIterator<Item = Window>) -> Verdict {
    decide(&Rules::default(), &ledger(windows), &LAST)
}

#[test]
fn a_harmful_canary_is_suspected_first_and_convicted_after_the_stretch() {
    let bad = |seconds| (0..seconds).map(|start| window(start, (50, 10), (450, 2)));
    let early = verdict_on(bad(10));
    assert!(early.suspected);
    assert_eq!(
        early.decision,
        Decision::Continue,
        "ten seconds lie within one stretch"
    );
    let late = verdict_on(bad(60));
    assert_eq!(late.decision, Decision::Rollback);
    let at = late.harm.reached_at.expect("convicted");
    assert!((30..40).contains(&at), "{at}");
    assert_eq!(late.first_failures.len(), 10);
    assert!(late.otherwise.fewer_failures_to_clear.expect("a number") > 100);
}

#[test]
fn one_bad_half_minute_suspects_but_never_convicts() {
    let windows = (0..600).map(|start| {
        let failed = if (200..230).contains(&start) { 40 } else { 0 };
        window(start, (50, failed), (450, 2))
    });
    let verdict = verdict_on(windows.clone().take(240));
    assert!(verdict.suspected);
    assert_eq!(verdict_on(windows).decision, Decision::Continue);
}

#[test]
fn an_outage_of_both_releases_convicts_nobody() {
    let windows = (0..300).map(|start| {
        let down = (100..160).contains(&start);
        if down {
            window(start, (50, 20), (450, 180))
        } else {
            window(start, (50, u64::from(start % 4 == 0)), (450, 2))
        }
    });
    let verdict = verdict_on(windows);
    assert!(
        !verdict.suspected && verdict.decision != Decision::Rollback,
        "{verdict:?}"
    );
}

#[test]
fn a_good_release_is_promoted_and_the_verdict_says_what_would_have_refused_it() {
    let windows = (0..400).map(|start| window(start, (50, u64::from(start % 4 == 0)), (450, 2)));
    let verdict = verdict_on(windows);
    assert_eq!(verdict.decision, Decision::Promote);
    assert!(verdict.step_done && !verdict.suspected);
    assert!(
        verdict
            .otherwise
            .more_failures_to_refuse
            .is_some_and(|failures| failures > 1),
        "{:?}",
        verdict.otherwise
    );
    assert!(verdict.otherwise.more_failures_to_suspect.is_some());
    let rate = verdict.signals[0].canary.rate;
    assert!(rate.low < 0.005 && 0.005 < rate.high, "{rate:?}");
}

#[test]
fn past_the_deadline_without_a_result_is_inconclusive() {
    let windows: Vec<_> = (0..20)
        .map(|start| window(start, (5, 0), (45, u64::from(start == 3))))
        .collect();
    let over = Situation {
        deadline_passed: true,
        ..LAST
    };
    let verdict = decide(&Rules::default(), &ledger(windows.clone()), &over);
    assert_eq!(verdict.decision, Decision::Inconclusive);
    assert!(
        verdict
            .otherwise
            .more_messages_to_promote
            .is_some_and(|messages| messages > 100)
    );
    assert_eq!(
        decide(&Rules::default(), &ledger(windows), &LAST).decision,
        Decision::Continue
    );
}

#[test]
fn no_canary_or_no_baseline_is_no_data() {
    for (canary, baseline) in [((0, 0), (500, 50)), ((500, 250), (0, 0)), ((500, 0), (0, 0))] {
        let verdict = verdict_on((0..100).map(|start| Window {
            share: 0.0,
            ..window(start, canary, baseline)
        }));
        assert_eq!(verdict.decision, Decision::Continue);
        assert!(verdict.harm.ln_evidence.abs() < 1e-9 && verdict.promotion.ln_evidence.abs() < 1e-9);
        assert_eq!(verdict.windows.compared, 0);
        assert_eq!(
            verdict.windows.without_canary + verdict.windows.without_baseline,
            100
        );
    }
}

#[test]
fn a_promotion_needs_the_steps_least_time_and_messages() {
    let windows: Vec<_> = (0..400)
        .map(|start| window(start, (50, u64::from(start % 4 == 0)), (450, 2)))
        .collect();
    for situation in [
        Situation {
            least_time_reached: false,
            ..LAST
        },
        Situation {
            least_messages_reached: false,
            ..LAST
        },
        Situation {
            last_step: false,
            ..LAST
        },
    ] {
        let verdict = decide(&Rules::default(), &ledger(windows.clone()), &situation);
        assert_eq!(verdict.decision, Decision::Continue, "{situation:?}");
        assert_eq!(verdict.step_done, !situation.last_step);
    }
}

#[test]
fn a_silent_canary_is_rolled_back_by_its_guard_from_windows_that_never_complete() {
    let windows = (0..40).map(|start| {
        let mut window = window(start, (0, 0), (450, 1));
        window.canary = Arm {
            started: 50,
            open: 50,
            ..Arm::default()
        };
        window.canary.tasks = Some(Tasks {
            running: 1,
            ..Tasks::default()
        });
        window
    });
    let verdict = verdict_on(windows);
    assert_eq!(verdict.decision, Decision::Rollback);
    assert!(matches!(verdict.guards[..], [Finding::Silent { .. }]));
    assert!(
        verdict.harm.ln_evidence.abs() < 1e-9,
        "open attempts are not evidence"
    );
}

#[test]
fn slow_messages_and_bad_answers_convict_too() {
    let signals = vec![
        Signal {
            name: "failures".into(),
            kind: Kind::Failures,
            weight: 0.5,
        },
        Signal {
            name: "slow".into(),
            kind: Kind::Slow {
                quantiles: vec![0.5, 0.9, 0.99],
            },
            weight: 0.25,
        },
        Signal {
            name: "empty".into(),
            kind: Kind::Quality {
                question: "empty".into(),
            },
            weight: 0.25,
        },
    ];
    let rules = Rules {
        signals,
        ..Rules::default()
    };
    let run = |bucket: u16, bad: u64| {
        let windows = (0..120).map(|start| {
            let mut window = window(start, (50, 0), (450, 1));
            window.canary.durations = Durations(vec![(40 + bucket, 40), (60 + bucket, 10)]);
            window.baseline.durations = Durations(vec![(40, 360), (60, 89)]);
            window
                .canary
                .quality
                .insert("empty".into(), Quality { asked: 50, bad });
            window
                .baseline
                .quality
                .insert("empty".into(), Quality { asked: 450, bad: 9 });
            window
        });
        decide(&rules, &ledger(windows), &LAST)
    };
    assert!(!run(0, 1).suspected);
    for (verdict, guilty) in [(run(10, 1), 1), (run(0, 10), 2)] {
        assert_eq!(verdict.decision, Decision::Rollback);
        for (index, signal) in verdict.signals.iter().enumerate() {
            assert_eq!(
                signal.ln_evidence > signal.ln_bound,
                index == guilty,
                "{}",
                signal.name
            );
        }
    }
}

#[test]
fn whole_receives_that_fail_together_weigh_as_one() {
    let clustered = |start| {
        let mut window = window(start, (50, 0), (450, 0));
        let bad = start % 5 == 0;
        window.canary.receives = Receives::default();
        for receive in 0..5 {
            window
                .canary
                .receives
                .add(10, if bad && receive == 0 { 10 } else { 0 });
        }
        window.baseline.receives = Receives::default();
        for receive in 0..45 {
            window
                .baseline
                .receives
                .add(10, if receive == 7 { 10 } else { 0 });
        }
        let failed = window.canary.receives.f;
        window.canary.failed.retry = failed;
        window.canary.done = 50 - failed;
        window.baseline.failed.retry = 10;
        window.baseline.done = 440;
        window
    };
    let verdict = verdict_on((0..120).map(clustered));
    assert!(verdict.icc > 0.9, "{}", verdict.icc);
    let naive = decide(
        &Rules {
            clusters: false,
            ..Rules::default()
        },
        &ledger((0..120).map(clustered)),
        &LAST,
    );
    assert!(naive.harm.ln_evidence > verdict.harm.ln_evidence + 2.0 || naive.suspected);
}

/// The windows with the latest `taken` canary failures as successes.
fn take_back(windows: &[Window], mut taken: u64) -> Vec<Window> {
    let mut changed = windows.to_vec();
    for window in changed.iter_mut().rev() {
        let here = taken.min(window.canary.failed.retry);
        window.canary.failed.retry -= here;
        window.canary.done += here;
        taken -= here;
    }
    changed
}

#[test]
fn fewer_failures_would_have_cleared_a_convicted_and_a_suspected_release() {
    for (seconds, convicted) in [(60, true), (10, false)] {
        let windows: Vec<_> = (0..seconds)
            .map(|start| window(start, (50, 3), (450, 2)))
            .collect();
        let verdict = verdict_on(windows.clone());
        assert_eq!(verdict.decision == Decision::Rollback, convicted);
        assert!(verdict.suspected);
        let fewer = verdict.otherwise.fewer_failures_to_clear.expect("a number");
        assert!(fewer > 1, "{fewer}");
        let guilty = |taken| {
            let verdict = verdict_on(take_back(&windows, taken));
            verdict.suspected || verdict.decision == Decision::Rollback
        };
        assert!(!guilty(fewer) && guilty(fewer - 1), "{fewer} after {seconds} s");
        assert_eq!(verdict.otherwise.more_failures_to_suspect, None);
        assert_eq!(verdict.otherwise.more_messages_to_promote, None);
    }
}

#[test]
fn a_conviction_that_faded_still_says_what_would_have_cleared_it() {
    let windows: Vec<_> = (0..1200)
        .map(|start| window(start, (50, if start < 45 { 3 } else { 0 }), (450, 2)))
        .collect();
    let verdict = verdict_on(windows.clone());
    assert_eq!(verdict.decision, Decision::Rollback);
    assert!(!verdict.suspected, "the evidence has faded since");
    let fewer = verdict.otherwise.fewer_failures_to_clear.expect("a number");
    let decision = |taken| verdict_on(take_back(&windows, taken)).decision;
    assert_ne!(decision(fewer), Decision::Rollback);
    assert_eq!(decision(fewer - 1), Decision::Rollback);
}

#[test]
fn so_many_failures_more_in_one_window_would_suspect_or_refuse() {
    let windows: Vec<_> = (0..400)
        .map(|start| window(start, (50, u64::from(start % 4 == 0)), (450, 2)))
        .collect();
    let verdict = verdict_on(windows.clone());
    let next = |failed| {
        let mut more = windows.clone();
        more.push(window(400, (50, failed), (450, 2)));
        verdict_on(more)
    };
    let suspect = verdict.otherwise.more_failures_to_suspect.expect("a number");
    assert!(
        next(suspect).suspected && !next(suspect - 1).suspected,
        "{suspect}"
    );
    let refuse = verdict.otherwise.more_failures_to_refuse.expect("a number");
    assert_ne!(next(refuse).decision, Decision::Promote, "{refuse}");
    assert_eq!(next(refuse - 1).decision, Decision::Promote, "{refuse}");
}

#[test]
fn so_many_messages_more_promote_give_or_take_a_half() {
    for ceiling in [None, Some(0.02)] {
        let rules = Rules {
            ceiling,
            ..Rules::default()
        };
        let seen = |seconds| {
            let windows = (0..seconds).map(|start| window(start, (50, u64::from(start % 4 == 0)), (450, 2)));
            decide(&rules, &ledger(windows), &LAST)
        };
        let told = seen(10).otherwise.more_messages_to_promote.expect("a number");
        let took = (10..1000)
            .find(|seconds| seen(*seconds).decision == Decision::Promote)
            .expect("is promoted");
        let ratio = told as f64 / (50.0 * (took - 10) as f64);
        assert!((0.5..1.5).contains(&ratio), "told {told}, took {took} s: {ratio}");
    }
}

#[test]
fn a_verdict_reads_back_as_it_was_written() {
    let verdict = verdict_on((0..60).map(|start| window(start, (50, 10), (450, 2))));
    let text = serde_json::to_string(&verdict).expect("writes");
    assert!(
        text.contains(r#""schema":1"#) && text.contains(r#""decision":"rollback""#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Verdict>(&text).expect("reads"), verdict);
}

#[test]
fn a_clean_canary_among_few_windows_says_nothing_yet() {
    let mut judge = Judge::new(Rules::default());
    for start in 0..5 {
        judge.enter(&window(start, (50, 0), (450, 0)));
    }
    assert!(judge.log_harm().abs() < 1e-9 && !judge.is_promotable());
}
