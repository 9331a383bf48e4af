//! The metrics, a contract with dashboards and alerts: every name, label and unit is in [`CATALOGUE`].
//!
//! All series are registered when a consumer is built, so that a rate over a counter is right from its first
//! increment, and a missing series means a missing worker. Labels `release`, `track` and `queue` are on each.

pub mod cloudwatch;

mod catalogue;
mod handover;
mod requests;
mod series;

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Recorder};

pub use self::catalogue::*;
pub use self::handover::{HandoverResult, MAX_FAILED_RELEASES, OTHER_RELEASE, UNKNOWN_RELEASE};
pub use self::requests::{Action, RequestResult, Settlement};
pub use self::series::describe;

use self::handover::{Results, SharedRecorder};
use self::series::{Series, base_labels, failed_release};
use crate::attempt::Ending;
use crate::breaker;
use crate::control::reader::ReadResult;
use crate::evidence::Breaker;
use crate::failure::StoryFate;
use crate::handler::Reason;
use crate::lease::LossCause;
use crate::message::Delivery;
use crate::release::Identity;

/// Handles of one consumer's series.
#[derive(Debug)]
pub struct Metrics {
    attempts: Vec<(Ending, Reason, [Counter; 2])>,
    received: [Counter; 2],
    dead_letters: Vec<(Reason, [Counter; 2])>,
    requests: Vec<(Action, RequestResult, Counter)>,
    duration: Vec<(Ending, Histogram)>,
    leases_lost: Vec<(LossCause, Counter)>,
    settle_retries: Vec<(Action, Counter)>,
    settle_failed: Vec<(Action, Counter)>,
    settle_duration: [Histogram; 5],
    /// See [`QUEUE_WAIT`].
    pub queue_wait: Histogram,
    /// See [`IN_FLIGHT`].
    pub in_flight: Gauge,
    /// See [`SLOTS`].
    pub slots: Gauge,
    /// See [`POLLERS`].
    pub pollers: Gauge,
    /// See [`DUPLICATES`].
    pub duplicates: Counter,
    /// See [`RETURNED`].
    pub returned: Counter,
    /// See [`STORIES_BROKEN`].
    pub stories_broken: Counter,
    /// See [`STUCK`].
    pub stuck: Gauge,
    /// See [`HANDOVERS`].
    pub handovers: Counter,
    results: Results,
    breaker_state: [Gauge; 2],
    breaker_opened: [Counter; 2],
    /// See [`GATE_RATE`].
    pub gate_rate: Gauge,
    /// See [`PAUSED`].
    pub paused: Gauge,
    /// See [`CONTROL_EPOCH`].
    pub control_epoch: Gauge,
    control_reads: Vec<(ReadResult, Counter)>,
}

impl Metrics {
    /// Registers every series with `recorder`, at zero. `reasons` are the handler's own.
    #[must_use]
    pub fn register(recorder: &dyn Recorder, identity: &Identity, queue: &str, reasons: &[Reason]) -> Self {
        let series = Series {
            recorder,
            base: base_labels(identity, Some(queue)),
        };
        let reasons: Vec<Reason> = Reason::BUILT_IN
            .into_iter()
            .chain(reasons.iter().copied())
            .collect();
        let requests = Action::ALL
            .into_iter()
            .flat_map(|action| RequestResult::all().map(move |result| (action, result)))
            .map(|(action, result)| {
                let labels = [("action", action.as_str()), ("result", result.as_str())];
                (action, result, series.counter(REQUESTS, &labels))
            })
            .collect();
        let by_action =
            |name| Action::ALL.map(|action| (action, series.counter(name, &[("action", action.as_str())])));
        Self {
            attempts: series.attempts(&reasons),
            received: Delivery::ALL
                .map(|delivery| series.counter(RECEIVED, &[("delivery", delivery.as_str())])),
            dead_letters: series.dead_letters(&reasons),
            requests,
            duration: Ending::ALL
                .map(|ending| {
                    (
                        ending,
                        series.histogram(DURATION, &[("outcome", ending.as_str())]),
                    )
                })
                .to_vec(),
            leases_lost: LossCause::ALL
                .map(|cause| (cause, series.counter(LEASES_LOST, &[("cause", cause.as_str())])))
                .to_vec(),
            settle_retries: by_action(SETTLE_RETRIES).to_vec(),
            settle_failed: by_action(SETTLE_FAILED).to_vec(),
            settle_duration: Settlement::ALL
                .map(|settlement| series.histogram(SETTLE_DURATION, &[("action", settlement.as_str())])),
            queue_wait: series.histogram(QUEUE_WAIT, &[]),
            in_flight: series.gauge(IN_FLIGHT),
            slots: series.gauge(SLOTS),
            pollers: series.gauge(POLLERS),
            duplicates: series.counter(DUPLICATES, &[]),
            returned: series.counter(RETURNED, &[]),
            stories_broken: series.counter(STORIES_BROKEN, &[]),
            stuck: series.gauge(STUCK),
            handovers: series.counter_of(HANDOVERS, vec![failed_release(identity.release.as_str())]),
            results: Results::new(&series),
            breaker_state: breaker::Kind::ALL
                .map(|kind| series.gauge_with(BREAKER_STATE, &[("kind", kind.as_str())])),
            breaker_opened: breaker::Kind::ALL
                .map(|kind| series.counter(BREAKER_OPENED, &[("kind", kind.as_str())])),
            gate_rate: series.gauge(GATE_RATE),
            paused: series.gauge(PAUSED),
            control_epoch: series.gauge(CONTROL_EPOCH),
            control_reads: ReadResult::ALL
                .map(|result| {
                    (
                        result,
                        series.counter(CONTROL_READS, &[("result", result.as_str())]),
                    )
                })
                .to_vec(),
        }
    }

    /// `reason` if it has a series, else [`Reason::OTHER`]: a label never grows with what a handler makes up.
    #[must_use]
    pub fn known(&self, reason: Reason) -> Reason {
        let known = || self.dead_letters.iter().any(|(known, _)| *known == reason);
        if reason == Reason::NONE || known() {
            reason
        } else {
            Reason::OTHER
        }
    }

    /// Counts an attempt that ended, and its duration.
    pub fn attempt(&self, ending: Ending, reason: Reason, delivery: Delivery, seconds: f64) {
        if let Some((.., counters)) = self
            .attempts
            .iter()
            .find(|(e, r, _)| *e == ending && *r == reason)
        {
            counters[delivery as usize].increment(1);
        }
        if let Some(histogram) = found(&self.duration, &ending) {
            histogram.record(seconds);
        }
    }

    /// Counts messages received.
    pub fn received(&self, delivery: Delivery, count: u64) {
        self.received[delivery as usize].increment(count);
    }

    /// Counts a copy that reached the dead-letter queue.
    pub fn dead_letter(&self, reason: Reason, story: StoryFate) {
        if let Some(counters) = found(&self.dead_letters, &reason) {
            counters[story as usize].increment(1);
        }
    }

    /// Counts a request.
    pub fn request(&self, action: Action, result: RequestResult) {
        if let Some((.., counter)) = self
            .requests
            .iter()
            .find(|(a, r, _)| *a == action && *r == result)
        {
            counter.increment(1);
        }
    }

    /// Counts a lost lease.
    pub fn lease_lost(&self, cause: LossCause) {
        if let Some(counter) = found(&self.leases_lost, &cause) {
            counter.increment(1);
        }
    }

    /// Counts entries tried again.
    pub fn settle_retried(&self, action: Action, entries: u64) {
        if let Some(counter) = found(&self.settle_retries, &action) {
            counter.increment(entries);
        }
    }

    /// Times a batch that was settled or given up.
    pub fn settled(&self, settlement: Settlement, seconds: f64) {
        self.settle_duration[settlement as usize].record(seconds);
    }

    /// Sets how a breaker stands.
    pub fn breaker(&self, kind: breaker::Kind, state: Breaker) {
        self.breaker_state[kind as usize].set(state.gauge());
    }

    /// Counts that a breaker opened.
    pub fn breaker_opened(&self, kind: breaker::Kind) {
        self.breaker_opened[kind as usize].increment(1);
    }

    /// Counts a read of the control document.
    pub fn control_read(&self, result: ReadResult) {
        if let Some(counter) = found(&self.control_reads, &result) {
            counter.increment(1);
        }
    }

    /// Counts a handed-over message that was finished here, by the release that failed it.
    pub fn handover_result(&self, failed: Option<&str>, result: HandoverResult) {
        self.results.count(failed, result);
    }

    /// Lets releases have series of their own in [`HANDOVER_RESULTS`] as they are met: without, all are [`UNKNOWN_RELEASE`].
    #[must_use]
    pub fn with_results_by_release(mut self, recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        self.results.recorder = Some(SharedRecorder(recorder));
        self
    }

    /// Counts an entry given up.
    pub fn settle_failed(&self, action: Action) {
        if let Some(counter) = found(&self.settle_failed, &action) {
            counter.increment(1);
        }
    }
}

fn found<'a, K: PartialEq, V>(pairs: &'a [(K, V)], key: &K) -> Option<&'a V> {
    pairs
        .iter()
        .find(|(candidate, _)| candidate == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
