//! Evidence to CloudWatch: a few series, dated to the second in which the attempts started.
//!
//! Namespace [`NAMESPACE`]; every series under (`Service`, `Release`), for the comparison of releases, and under (`Service`,
//! `Track`), for alarms, which cannot search for a release. A window is published once, when all its attempts have ended; at
//! a shutdown as it stands. Publishing never holds up the consumer: it reads what was counted, and what cannot be delivered
//! waits in a bounded buffer.

#[cfg(feature = "cloudwatch")]
pub mod api;
pub mod emf;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::control::Directives;
use crate::evidence::recorder::Complete;
use crate::evidence::{Durations, Evidence, State};
use crate::release::{Identity, Track};

/// The namespace of all series.
pub const NAMESPACE: &str = "QueueWorker";

/// Between two publications on the canary, and on stable during a rollout.
pub const FAST: Duration = Duration::from_secs(10);

/// Between two publications otherwise.
pub const SLOW: Duration = Duration::from_secs(60);

/// The most values of one datum (CloudWatch quota).
const MAX_VALUES: usize = 150;

/// What waits to be delivered, at most; the oldest goes first. A quarter of an hour of a busy worker.
const MAX_WAITING: usize = 20_000;

/// What the last publication at a shutdown may take.
const LAST: Duration = Duration::from_secs(2);

/// One value, or a set of values with their counts, of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// The metric's name.
    pub name: &'static str,
    /// Its unit, as CloudWatch spells it.
    pub unit: &'static str,
    /// The second it belongs to, since the epoch.
    pub second: u64,
    /// Values and how often each occurred; a sum is one value that occurred once.
    pub values: Vec<(f64, f64)>,
    /// The third dimension, `Signal`: the name of a quality signal.
    pub signal: Option<String>,
    /// Only under (`Service`, `Release`): what the comparison needs and no alarm does.
    pub release_only: bool,
}

/// The dimensions of a process.
#[derive(Clone, Debug)]
pub struct Dimensions {
    /// `Service`
    pub service: String,
    /// `Release` and `Track`
    pub identity: Arc<Identity>,
}

impl Dimensions {
    /// The dimension sets of a datum.
    #[must_use]
    pub fn of(&self, datum: &Datum) -> Vec<Vec<(&'static str, String)>> {
        let service = ("Service", self.service.clone());
        let release = ("Release", self.identity.release.as_str().to_owned());
        let track = ("Track", self.identity.track.as_str().to_owned());
        let mut sets = vec![vec![service.clone(), release]];
        if !datum.release_only {
            sets.push(vec![service, track]);
        }
        if let Some(signal) = &datum.signal {
            for set in &mut sets {
                set.push(("Signal", signal.clone()));
            }
        }
        sets
    }
}

/// The data of one complete window. `Started`, `Done` and `Failed` are there even when they are 0; the others are not.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "CloudWatch's values are floats")]
pub fn data(complete: &Complete) -> Vec<Datum> {
    let window = &complete.window;
    let second = window.start;
    let sum = |name, value: u64, release_only| Datum {
        name,
        unit: "Count",
        second,
        values: vec![(value as f64, 1.0)],
        signal: None,
        release_only,
    };
    let mut data = vec![
        sum("Started", window.started, false),
        sum("Done", window.done, false),
        sum("Failed", window.failed.total(), false),
    ];
    let seldom = [
        ("Slow", window.slow, false),
        ("Lost", window.lost, false),
        // For the design effect of failures that come in clusters: squares over receives of sizes and failures.
        ("ReceiveSizesSquared", window.receives.ss, true),
        ("ReceiveFailuresSquared", window.receives.ff, true),
        ("ReceiveFailuresTimesSizes", window.receives.fs, true),
    ];
    let seldom = seldom.into_iter().filter(|(_, value, _)| *value > 0);
    data.extend(seldom.map(|(name, value, release_only)| sum(name, value, release_only)));
    for (name, durations) in [
        ("DurationMs", &window.durations),
        ("QueueWaitMs", &complete.waits),
    ] {
        for part in durations.0.chunks(MAX_VALUES) {
            let values = part
                .iter()
                .map(|(bucket, count)| (middle(*bucket), *count as f64));
            data.push(Datum {
                name,
                unit: "Milliseconds",
                second,
                values: values.collect(),
                signal: None,
                release_only: false,
            });
        }
    }
    for (signal, counted) in &window.quality {
        for (name, value) in [("QualityAsked", counted.asked), ("QualityBad", counted.bad)] {
            data.push(Datum {
                signal: Some(signal.clone()),
                ..sum(name, value, false)
            });
        }
    }
    data
}

/// The data of the moment: whether a breaker is open, which one, and how many messages are held.
fn moment(state: &State, held: usize, second: u64) -> [Datum; 3] {
    let open = [state.rate_breaker, state.dependency_breaker]
        .map(|breaker| f64::from(u8::from(breaker.gauge() > 0.0)));
    let datum = |name, value| Datum {
        name,
        unit: "Count",
        second,
        values: vec![(value, 1.0)],
        signal: None,
        release_only: false,
    };
    [
        datum("BreakerOpen", open[0].max(open[1])),
        // The release tool asks whether a canary has stopped itself, or waits for a dependency.
        datum("RateBreakerOpen", open[0]),
        datum("InFlight", f64::from(u32::try_from(held).unwrap_or(u32::MAX))),
    ]
}

/// The middle of a bucket, at most 5 % from what it stands for.
fn middle(bucket: u16) -> f64 {
    let between = |bucket: u16| (f64::from(bucket) - 0.5) / 8.0;
    // Three significant digits: fewer distinct values, and people read them.
    let value = between(bucket).exp2();
    let scale = 10_f64.powf(2.0 - value.log10().floor());
    (value * scale).round() / scale
}

/// Where data go.
pub trait Sink: Send + Sync + 'static {
    /// The most data of one call.
    const BATCH: usize;

    /// Delivers data; one try with a timeout of its own.
    fn put(
        &self,
        dimensions: &Dimensions,
        data: &[Datum],
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why data were not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The same data may be taken later.
    #[error("{0}")]
    Later(String),
    /// The same data will never be taken.
    #[error("refused: {0}")]
    Refused(String),
}

/// What the publisher reads.
pub struct Subject {
    /// What is counted.
    pub evidence: Arc<Evidence>,
    /// How the consumer is.
    pub state: Box<dyn Fn() -> (State, usize) + Send + Sync>,
    /// Whether a release is being rolled out.
    pub directives: Directives,
    /// Overrides [`FAST`] and [`SLOW`].
    pub interval: Option<Duration>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Publishes evidence until it is stopped.
#[derive(Debug)]
pub struct Publisher<S> {
    sink: S,
    dimensions: Dimensions,
    subject: Subject,
    waiting: VecDeque<Datum>,
    dropped: u64,
    complaint: String,
}

impl<S: Sink> Publisher<S> {
    /// A publisher to `sink`.
    #[must_use]
    pub fn new(sink: S, dimensions: Dimensions, subject: Subject) -> Self {
        Self {
            sink,
            dimensions,
            subject,
            waiting: VecDeque::new(),
            dropped: 0,
            complaint: String::new(),
        }
    }

    /// Publishes until `stop`, then once more what there is, within 2 s.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut rng = fastrand::Rng::new();
        // The first one early, so that a fleet does not publish in step.
        let mut next = Instant::now() + self.interval().mul_f64(rng.f64());
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(next) => {}
            }
            next += self.interval();
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.publish(false) => {}
            }
        }
        if timeout(LAST, self.publish(true)).await.is_err() || !self.waiting.is_empty() {
            tracing::warn!(data = self.waiting.len(), "evidence did not reach CloudWatch");
        }
    }

    fn interval(&self) -> Duration {
        let fast = self.dimensions.identity.track == Track::Canary || self.subject.directives.now().rollout;
        self.subject.interval.unwrap_or(if fast { FAST } else { SLOW })
    }

    /// Takes what is complete, and delivers as much as is taken. Cancel safe: what was not delivered waits; what was being
    /// delivered may be delivered twice.
    pub async fn publish(&mut self, last: bool) {
        for complete in self.subject.evidence.take_complete(last) {
            self.waiting.extend(data(&complete));
        }
        let (state, held) = (self.subject.state)();
        self.waiting
            .extend(moment(&state, held, self.subject.evidence.now()));
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        // Bounded by what waits: each turn delivers or drops a batch, or ends.
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(S::BATCH);
            let batch: Vec<_> = self.waiting.iter().take(count).cloned().collect();
            let error = match self.sink.put(&self.dimensions, &batch).await {
                Ok(()) => None,
                Err(SinkError::Later(error)) => {
                    self.complain(error);
                    return;
                }
                Err(SinkError::Refused(error)) => Some(error),
            };
            self.waiting.drain(..count);
            match error {
                None => self.complain(String::new()),
                Some(error) => {
                    self.dropped += u64::try_from(count).unwrap_or(0);
                    self.complain(error);
                }
            }
        }
    }

    /// Logs a new complaint, or that it is over.
    fn complain(&mut self, complaint: String) {
        if complaint == self.complaint {
            return;
        }
        if complaint.is_empty() {
            tracing::info!(
                dropped = self.dropped,
                "evidence reaches CloudWatch again; some was dropped"
            );
        } else {
            tracing::warn!(error = %complaint, waiting = self.waiting.len(), "evidence does not reach CloudWatch");
        }
        self.complaint = complaint;
    }
}

impl Durations {
    /// The sum of what the histogram stands for, as CloudWatch would sum it: bucket middles times counts.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "CloudWatch's values are floats")]
    pub fn published_sum(&self) -> f64 {
        self.0
            .iter()
            .map(|(bucket, count)| middle(*bucket) * *count as f64)
            .sum()
    }
}

#[cfg(test)]
mod tests;
