//! The likelihood ratios against values computed to 60 digits (`tests/reference.py`).

use canary::judge::hypergeometric::{Counts, log_likelihood_ratios};

#[test]
fn errors_stay_below_1e9_up_to_two_to_the_twenty_attempts_a_side() {
    let table = include_str!("reference.csv");
    let mut rows = 0;
    let mut worst = 0.0f64;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let count = |index: usize| fields[index].parse::<u64>().expect("a count");
        let real = |index: usize| fields[index].parse::<f64>().expect("a number");
        let counts = Counts {
            canary: count(0),
            canary_failed: count(1),
            baseline: count(2),
            baseline_failed: count(3),
        };
        let mut got = [0.0];
        log_likelihood_ratios(&counts, real(4), &[real(5)], &mut got);
        // A value of a million has no digit at 1e-10: there the last digits of a double are the limit.
        let allowed = 1e-9f64.max(4.0 * f64::EPSILON * real(6).abs());
        let error = (got[0] - real(6)).abs();
        worst = worst.max(error);
        assert!(error <= allowed, "{line}: got {}, off by {error:e}", got[0]);
        rows += 1;
    }
    assert!(rows >= 100, "{rows} rows");
    println!("worst error {worst:e} in {rows} rows");
}
