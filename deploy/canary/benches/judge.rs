//! What a window costs: `cargo bench -p canary --bench judge`.
//!
//! Promised: a usual window (at most 100 failures) in 20 µs, one of 10^6 attempts a side with 10^4 failures in 1 ms.

use std::hint::black_box;

use canary::judge::Judge;
use canary::judge::hypergeometric::{Counts, log_likelihood_ratios};
use canary::judge::rules::Rules;
use canary::judge::window::{Arm, Failed, Receives, Window};
use criterion::{Criterion, criterion_group, criterion_main};

fn window(counts: &Counts, start: u64) -> Window {
    let arm = |attempts: u64, failed: u64| Arm {
        started: attempts,
        done: attempts - failed,
        failed: Failed {
            retry: failed,
            ..Failed::default()
        },
        receives: Receives {
            s: attempts,
            ss: 10 * attempts,
            f: failed,
            ff: failed,
            fs: 10 * failed,
        },
        ..Arm::default()
    };
    Window {
        start,
        seconds: 1,
        share: 0.1,
        canary: arm(counts.canary, counts.canary_failed),
        baseline: arm(counts.baseline, counts.baseline_failed),
        ..Window::default()
    }
}

fn likelihood(criterion: &mut Criterion) {
    let million = 1_000_000;
    let cases = [
        (
            "3 failures in 500",
            Counts {
                canary: 50,
                canary_failed: 1,
                baseline: 450,
                baseline_failed: 2,
            },
        ),
        (
            "100 failures in 10000",
            Counts {
                canary: 1000,
                canary_failed: 12,
                baseline: 9000,
                baseline_failed: 88,
            },
        ),
        (
            "10000 failures in a million a side",
            Counts {
                canary: million,
                canary_failed: 5100,
                baseline: million,
                baseline_failed: 4900,
            },
        ),
    ];
    let rules = Rules::default();
    let alternatives = rules.alternatives();
    for (name, counts) in cases {
        criterion.bench_function(&format!("likelihood ratios, {name}"), |bencher| {
            let mut out = [0.0; 12];
            bencher
                .iter(|| log_likelihood_ratios(black_box(&counts), 1.0, black_box(&alternatives), &mut out));
        });
        criterion.bench_function(&format!("a judge's window, {name}"), |bencher| {
            let mut judge = Judge::new(rules.clone());
            let mut start = 0;
            bencher.iter(|| {
                // A rollout's length of windows, then anew.
                if start == 3600 {
                    judge = Judge::new(rules.clone());
                    start = 0;
                }
                judge.enter(&window(&counts, start));
                start += 1;
            });
        });
    }
}

criterion_group!(benches, likelihood);
criterion_main!(benches);
