//! No more than so many a second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Spreads what is sent evenly over time. Nothing is saved up for a burst.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    /// `rate` a second; without one, no bound.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        Self {
            interval: interval.unwrap_or_default(),
            next: Instant::now(),
        }
    }

    /// Waits until `count` may be sent. Cancel safe: what was not waited for is not spent.
    pub(super) async fn take(&mut self, count: usize) {
        sleep_until(self.next).await;
        let span = self
            .interval
            .saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.next = Instant::now() + span;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_without_bursts() {
        let began = Instant::now();
        let mut pace = Pace::new(Some(5.0));
        for _ in 0..10 {
            pace.take(10).await;
        }
        assert_eq!(began.elapsed().as_secs(), 18); // the first ten go at once
        let mut free = Pace::new(None);
        free.take(1_000_000).await;
        free.take(1).await;
        assert_eq!(began.elapsed().as_secs(), 18);
    }
}
