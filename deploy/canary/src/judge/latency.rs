//! What counts as slow: longer than a quantile of the baseline in earlier windows.
//!
//! The bound is fixed before a window is seen, so slow or not is a failure or not, and the same test applies. Where both
//! releases slow down together both have more slow messages, and the shift cancels as an outage does.

use super::window::{Durations, LAST_BUCKET};

/// Share of a histogram's weight that it keeps for the next window: a memory of about ten minutes at 1 s.
const MEMORY: f64 = 1.0 - 1.0 / 600.0;
/// Messages above the quantile that must have been seen before it is trusted.
const LEAST_ABOVE: f64 = 5.0;

/// The baseline's durations in earlier windows, older ones counting less.
#[derive(Clone, Debug)]
pub(crate) struct Earlier {
    counts: Box<[f64]>,
    total: f64,
}

impl Default for Earlier {
    fn default() -> Self {
        Self {
            counts: vec![0.0; usize::from(LAST_BUCKET) + 1].into(),
            total: 0.0,
        }
    }
}

impl Earlier {
    /// The bucket that holds quantile `q` of the baseline so far; `None` until enough has been seen above it.
    pub(crate) fn bound(&self, q: f64) -> Option<u16> {
        if self.total * (1.0 - q) < LEAST_ABOVE {
            return None;
        }
        let mut sum = 0.0;
        for (bucket, count) in (0..=LAST_BUCKET).zip(&self.counts) {
            sum += count;
            if sum >= q * self.total {
                return Some(bucket);
            }
        }
        None
    }

    /// Takes in the baseline's durations of a window, after that window was judged.
    pub(crate) fn enter(&mut self, baseline: &Durations) {
        if baseline.0.is_empty() {
            return;
        }
        for count in &mut self.counts {
            *count *= MEMORY;
        }
        self.total *= MEMORY;
        for (bucket, count) in &baseline.0 {
            self.counts[usize::from((*bucket).min(LAST_BUCKET))] += *count as f64;
            self.total += *count as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_a_quantile_of_what_came_before() {
        let mut earlier = Earlier::default();
        assert_eq!(earlier.bound(0.5), None);
        earlier.enter(&Durations(vec![(10, 90), (20, 10)]));
        assert_eq!(earlier.bound(0.5), Some(10));
        assert_eq!(earlier.bound(0.9), Some(10));
        assert_eq!(earlier.bound(0.95), Some(20));
        assert_eq!(earlier.bound(0.99), None, "one message above it is too few");
    }

    #[test]
    fn old_windows_fade() {
        let mut earlier = Earlier::default();
        earlier.enter(&Durations(vec![(10, 100)]));
        for _ in 0..2000 {
            earlier.enter(&Durations(vec![(40, 10)]));
        }
        assert_eq!(earlier.bound(0.5), Some(40));
        assert!(earlier.bound(0.01).is_none_or(|bucket| bucket == 40));
    }
}
