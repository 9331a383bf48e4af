//! How long to wait before trying again.

use std::time::Duration;

/// The shortest delay of a retry: at 0 the next attempt races the end of this one.
pub const MIN_DELAY: Duration = Duration::from_secs(1);

/// Full-jitter exponential delays.
///
/// The n-th delay is uniform between 0 and `base · 2^(n−1)`, bounded by `max`: jitter over the whole range spreads a
/// crowd of failures best (Brooker, *Exponential Backoff and Jitter*, AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The upper end of the first delay.
    pub base: Duration,
    /// The upper end of any delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay before attempt `n + 1`, `n` counted from 1.
    #[must_use]
    pub fn delay(&self, n: u32, rng: &mut fastrand::Rng) -> Duration {
        let doublings = n.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.max);
        ceiling.mul_f64(rng.f64())
    }

    /// The delay before a message is delivered again: what the handler asked for, else [`Backoff::delay`]; at least
    /// [`MIN_DELAY`], at most `left`, in whole seconds as SQS takes them.
    #[must_use]
    pub fn redelivery(
        &self,
        receive_count: u32,
        asked: Option<Duration>,
        left: Duration,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        let delay = asked
            .unwrap_or_else(|| self.delay(receive_count, rng))
            .max(MIN_DELAY);
        Duration::from_secs(ceil_seconds(delay).min(left.as_secs()))
    }
}

/// Whole seconds, rounded up.
#[must_use]
pub const fn ceil_seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(if duration.subsec_nanos() > 0 { 1 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(1),
        max: Duration::from_secs(900),
    };
    const LEFT: Duration = Duration::from_secs(43_000);

    #[test]
    fn delays_fill_the_range_and_stay_in_it() {
        let mut rng = fastrand::Rng::with_seed(1);
        for n in 1..=40 {
            let ceiling = Duration::from_secs(1 << (n - 1).min(10)).min(BACKOFF.max);
            let delays: Vec<_> = (0..1000).map(|_| BACKOFF.delay(n, &mut rng)).collect();
            assert!(delays.iter().all(|delay| *delay <= ceiling));
            assert!(delays.iter().any(|delay| *delay < ceiling / 10));
            assert!(delays.iter().any(|delay| *delay > ceiling * 9 / 10));
        }
    }

    #[test]
    fn a_redelivery_is_never_immediate_and_fits_into_what_is_left() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut delay = |asked, left| BACKOFF.redelivery(1, asked, left, &mut rng);
        assert_eq!(delay(Some(Duration::ZERO), LEFT), MIN_DELAY);
        assert_eq!(delay(None, LEFT), MIN_DELAY);
        assert_eq!(
            delay(Some(Duration::from_millis(1500)), LEFT),
            Duration::from_secs(2)
        );
        assert_eq!(delay(Some(Duration::MAX), LEFT), LEFT);
        assert_eq!(
            delay(Some(Duration::from_secs(60)), Duration::from_millis(9900)),
            Duration::from_secs(9)
        );
    }
}
