//! From a share of the work to a rate: what the release tool writes into `max_per_second`.
//!
//! The rate is *share × measured total*, where the total is what both tracks begin, in first deliveries a second. It is reviewed
//! all the time, which holds the share in both states of a queue:
//!
//! - **Nearly idle**, the total is what arrives, A, whoever takes it: the first review gives share × A, and that is it.
//! - **Busy**, the total is what the stable track can do, S, and what the canary is given on top. Its rate c follows
//!   c ← share × (S + c), whose fixed point, share/(1 − share) × S, is the share; the distance to it shrinks by the factor
//!   `share` with each measurement that is new from end to end, so at a half it halves about every ten seconds. On the way the
//!   canary has less than its share. Stable's own rate must not be used instead: while the queue is idle, what
//!   the canary does not take stable takes, and c ← share/(1 − share) × (A − c) swings for ever at a share of a half.

use std::time::Duration;

/// Seconds over which the total is measured: the latest that are over and reported.
pub const MEASURED: u64 = 10;

/// How often the rate is reviewed, at most: a canary reads every 5 s.
pub const REVIEW: Duration = Duration::from_secs(2);

/// The least rate of a track that may take anything at all, in messages a second: on a queue that was quiet until now, it too may
/// take one now and then.
pub const LEAST: f64 = 0.2;

/// Changes of a rate below this part of it are not worth a write.
///
/// A rate that grows towards its fixed point stops so much short of it that the share ends this part of itself too low: half a point at
/// a share of a half.
const NEAR: f64 = 0.01;

/// The rate of a whole track, in messages a second, that makes `share` (0 to 1) of `total` first deliveries a second; to be divided by
/// the track's processes.
#[must_use]
pub fn rate(share: f64, total: f64) -> f64 {
    (share * total).max(LEAST)
}

/// Whether a rate may stay as it was written.
#[must_use]
pub fn is_near(written: f64, wanted: f64) -> bool {
    (written - wanted).abs() <= NEAR * written.max(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share after so many reviews, each with a whole measurement of what came of the one before. `began` says what stable and canary
    /// begin a second at a rate of the canary.
    fn share_after(reviews: usize, share: f64, began: impl Fn(f64) -> (f64, f64)) -> f64 {
        let mut written = LEAST;
        for _ in 0..reviews {
            let (stable, canary) = began(written);
            let wanted = rate(share, stable + canary);
            if !is_near(written, wanted) {
                written = wanted;
            }
        }
        let (stable, canary) = began(written);
        canary / (stable + canary)
    }

    #[test]
    fn the_share_is_reached_and_held_on_an_idle_queue_at_once_and_on_a_busy_one_soon() {
        for share in [0.01, 0.1, 0.25, 0.5] {
            let idle = |rate: f64| (400.0 - rate, rate);
            let busy = |rate: f64| (300.0, rate);
            assert!((share_after(1, share, idle) - share).abs() < 0.001);
            for reviews in 10..40 {
                let (idle, busy) = (
                    share_after(reviews, share, idle),
                    share_after(reviews, share, busy),
                );
                assert!((idle - share).abs() < 0.001, "{idle} at {share}");
                assert!((busy - share).abs() < 0.0055, "{busy} at {share}");
            }
        }
    }

    #[test]
    fn a_silent_queue_lets_the_canary_take_one_now_and_then() {
        assert!((rate(0.1, 0.0) - LEAST).abs() < 1e-12);
        assert!(is_near(100.0, 100.9) && !is_near(100.0, 102.0) && is_near(0.0, 0.0));
    }
}
