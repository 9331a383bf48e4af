//! The counts that evidence is made of; sums commute, so any split over processes and times adds up to the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Failed attempts by outcome.
///
/// `unavailable` counts too: an outage hits both arms and cancels out; a canary that alone cannot reach a dependency is harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failed {
    /// The handler asked for another try.
    pub retry: u64,
    /// The handler refused the message for good, or it did not decode.
    pub reject: u64,
    /// A dependency was down.
    pub unavailable: u64,
    /// The handler panicked.
    pub panic: u64,
    /// The attempt outlived its deadline. It failed at that moment, not when it ended.
    pub deadline: u64,
}

impl Failed {
    /// All of them; saturates.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.retry,
            self.reject,
            self.unavailable,
            self.panic,
            self.deadline,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// Sums over the receives r of a window, of size s with f failures: what shows whether failures come in clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receives {
    /// Σ s.
    pub s: u64,
    /// Σ s².
    pub ss: u64,
    /// Σ f.
    pub f: u64,
    /// Σ f².
    pub ff: u64,
    /// Σ f·s.
    pub fs: u64,
}

impl Receives {
    /// The sums over both sets of receives; saturates.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            s: self.s.saturating_add(other.s),
            ss: self.ss.saturating_add(other.ss),
            f: self.f.saturating_add(other.f),
            ff: self.ff.saturating_add(other.ff),
            fs: self.fs.saturating_add(other.fs),
        }
    }

    /// Adds one receive of `size` messages of which `failed` failed.
    pub fn add(&mut self, size: u64, failed: u64) {
        *self = self.and(&Self {
            s: size,
            ss: size * size,
            f: failed,
            ff: failed * failed,
            fs: failed * size,
        });
    }
}

/// A yes/no answer the handler gave about its own work, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Messages it was given for.
    pub asked: u64,
    /// Messages for which it was bad, at most `asked`.
    pub bad: u64,
}

/// A histogram of durations: bucket `i` counts those in (2^((i−1)/8), 2^(i/8)] milliseconds, bucket 0 all up to 1 ms.
///
/// Eight buckets to the doubling: a bound is never more than 9 % away. Pairs of bucket and count, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations(pub Vec<(u16, u64)>);

/// The last bucket, for everything above 2^31.75 ms (41 days).
pub const LAST_BUCKET: u16 = 255;

impl Durations {
    /// The bucket of a duration in milliseconds. What is not a number counts as 0.
    #[must_use]
    pub fn bucket(milliseconds: f64) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0 … 255; NaN becomes 0"
        )]
        let bucket = (milliseconds.log2() * 8.0)
            .ceil()
            .clamp(0.0, f64::from(LAST_BUCKET)) as u16;
        bucket
    }

    /// The upper bound of a bucket, in milliseconds.
    #[must_use]
    pub fn bound(bucket: u16) -> f64 {
        (f64::from(bucket) / 8.0).exp2()
    }

    /// Counts `count` durations in `bucket`. The pairs must be ascending, as everywhere.
    pub fn add(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.0[index].1 = self.0[index].1.saturating_add(count),
            Err(index) => self.0.insert(index, (bucket, count)),
        }
    }

    /// All durations counted; saturates.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Durations in buckets above `bucket`; saturates.
    #[must_use]
    pub fn above(&self, bucket: u16) -> u64 {
        self.0
            .iter()
            .filter(|(index, _)| *index > bucket)
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Adds the counts of `other`, in whatever order either is; saturates.
    pub fn merge(&mut self, other: &Self) {
        let mut all: BTreeMap<u16, u64> = self.0.iter().copied().collect();
        for (bucket, count) in &other.0 {
            let entry = all.entry(*bucket).or_default();
            *entry = entry.saturating_add(*count);
        }
        self.0 = all.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        assert_eq!(Durations::bucket(0.2), 0);
        assert_eq!(Durations::bucket(1.0), 0);
        assert_eq!(Durations::bucket(2.0), 8);
        assert_eq!(Durations::bucket(2.001), 9);
        assert_eq!(Durations::bucket(f64::NAN), 0);
        assert_eq!(Durations::bucket(f64::INFINITY), LAST_BUCKET);
        for bucket in 0..LAST_BUCKET {
            assert_eq!(Durations::bucket(Durations::bound(bucket) * 0.999), bucket);
        }
    }

    #[test]
    fn durations_are_counted_in_order_whatever_order_they_come_in() {
        let mut durations = Durations::default();
        for bucket in [9, 3, 9, 200, 0] {
            durations.add(bucket, 1);
        }
        assert_eq!(durations.0, [(0, 1), (3, 1), (9, 2), (200, 1)]);
        assert_eq!((durations.total(), durations.above(8)), (5, 3));
    }
}
