//! The metrics, a contract with dashboards and alerts: every name, label and unit is in [`CATALOGUE`].
//!
//! All series are registered when a consumer is built, so that a rate over a counter is right from its first
//! increment, and a missing series means a missing worker. Labels `release`, `track` and `queue` are on each.

pub mod cloudwatch;

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Label, Recorder, SharedString, Unit};

use crate::attempt::Ending;
use crate::breaker;
use crate::control::reader::ReadResult;
use crate::evidence::Breaker;
use crate::failure::StoryFate;
use crate::handler::Reason;
use crate::lease::LossCause;
use crate::message::Delivery;
use crate::queue::ErrorKind;
use crate::release::Identity;

/// Upper bounds of the histograms' buckets, in seconds: from a fast handler to SQS's 12 h.
pub const BUCKETS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0, 43200.0,
];

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in [`BUCKETS`].
    Histogram,
}

/// What a metric is called and means.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, as Prometheus shows it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Labels beside `release`, `track` and `queue`.
    pub labels: &'static [&'static str],
    /// One or two sentences.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric.
        pub const CATALOGUE: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },)*
        ];
    };
}

catalogue! {
    ATTEMPTS = Counter "worker_attempts_total" ["outcome", "reason", "delivery"]
        "Attempts that ended. Attempts are counted, not messages: one message may need several.";
    RECEIVED = Counter "worker_messages_received_total" ["delivery"]
        "Messages received, by whether it was their first delivery.";
    DEAD_LETTERS = Counter "worker_dead_letters_total" ["reason", "story"]
        "Messages copied to the dead-letter queue by this worker, by the reason of the last failure and whether the story went along.";
    REQUESTS = Counter "worker_sqs_requests_total" ["action", "result"]
        "Requests to SQS, each try counted. `partial`: the call succeeded with failed entries.";
    DURATION = Histogram "worker_attempt_duration_seconds" ["outcome"]
        "How long attempts took, from the handler's start to its end.";
    QUEUE_WAIT = Histogram "worker_queue_wait_seconds" []
        "How long messages waited in the queue, from being sent to the start of their first attempt; first deliveries only.";
    IN_FLIGHT = Gauge "worker_in_flight" []
        "Messages held now: being processed, or kept under their lease.";
    SLOTS = Gauge "worker_slots" []
        "How many messages may be held at once.";
    POLLERS = Gauge "worker_pollers" []
        "Receives under way now.";
    LEASES_LOST = Counter "worker_leases_lost_total" ["cause"]
        "Leases lost before the attempt ended; the message is or will be delivered again.";
    DUPLICATES = Counter "worker_duplicates_deleted_total" []
        "Deliveries of messages that this process had already done, deleted by their newest handle without another attempt.";
    RETURNED = Counter "worker_messages_returned_total" []
        "Messages handed back to the queue unfinished: the worker stops, or SQS's 12 h are over.";
    SETTLE_RETRIES = Counter "worker_settle_retries_total" ["action"]
        "Entries of deletions, visibility changes and sends that failed and were tried again.";
    SETTLE_FAILED = Counter "worker_settle_failed_total" ["action"]
        "Entries of deletions, visibility changes and sends that were given up; the message comes back by its visibility timeout.";
    STORIES_BROKEN = Counter "worker_stories_broken_total" []
        "Received messages whose attribute `worker.failure` could not be read.";
    HANDOVERS = Counter "worker_handover_total" ["failed_release"]
        "Messages that this canary moved to the handover queue; without another attempt where its rate breaker was open.";
    HANDOVER_RESULTS = Counter "worker_handover_results_total" ["failed_release", "result"]
        "Handed-over messages that a stable worker finished. `recovered`: done, so it was probably the release; `confirmed`: dead-lettered, so it was the message.";
    BREAKER_STATE = Gauge "worker_breaker_state" ["kind"]
        "0 closed, 1 half open (a probe is under way), 2 open.";
    BREAKER_OPENED = Counter "worker_breaker_opened_total" ["kind"]
        "How often the breaker opened after it was closed.";
    GATE_RATE = Gauge "worker_gate_rate" []
        "Messages that may be received a second; +Inf without a limit.";
    PAUSED = Gauge "worker_paused" []
        "1 while the control document, or the want of one, stops the polls.";
    CONTROL_EPOCH = Gauge "worker_control_epoch" []
        "The epoch of the control document in force; 0 without one.";
    CONTROL_READS = Counter "worker_control_reads_total" ["result"]
        "Reads of the control document.";
    STUCK = Gauge "worker_stuck_attempts" []
        "Attempts past their deadline whose work does not end, each holding a slot.";
    BUILD_INFO = Gauge "worker_build_info" ["version", "revision"]
        "Always 1; which worker this is. Without the label `queue`.";
}

/// What is asked of SQS: the label `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `ReceiveMessage`
    Receive,
    /// `DeleteMessageBatch`
    Delete,
    /// `ChangeMessageVisibilityBatch`
    ChangeVisibility,
    /// `SendMessageBatch`
    Send,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Receive, Self::Delete, Self::ChangeVisibility, Self::Send];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Delete => "delete",
            Self::ChangeVisibility => "change_visibility",
            Self::Send => "send",
        }
    }
}

/// How a request ended: the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestResult {
    /// Every entry succeeded.
    Ok,
    /// The call succeeded, some entries did not.
    Partial,
    /// The call failed.
    Failed(ErrorKind),
}

impl RequestResult {
    /// Every result.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Partial]
            .into_iter()
            .chain(ErrorKind::ALL.into_iter().map(Self::Failed))
    }

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed(kind) => kind.as_str(),
        }
    }
}

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

/// What became of a handed-over message: the label `result` of [`HANDOVER_RESULTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverResult {
    /// A stable worker did it.
    Recovered,
    /// A stable worker failed it for good as well.
    Confirmed,
}

impl HandoverResult {
    /// Every result.
    pub const ALL: [Self; 2] = [Self::Recovered, Self::Confirmed];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Confirmed => "confirmed",
        }
    }
}

/// The label `failed_release` of a message whose story found no room.
pub const UNKNOWN_RELEASE: &str = "unknown";

/// The label `failed_release` of all releases but the first [`MAX_FAILED_RELEASES`].
pub const OTHER_RELEASE: &str = "other";

/// So many releases get series of their own: the names come with messages, and a label may not grow without a bound.
pub const MAX_FAILED_RELEASES: usize = 16;

fn failed_release(release: &str) -> Label {
    Label::new("failed_release", release.to_owned())
}

/// The series of [`HANDOVER_RESULTS`]; those of releases are registered as the releases are met.
#[derive(Debug)]
struct Results {
    base: Vec<Label>,
    unknown: [Counter; 2],
    known: Mutex<Vec<(String, [Counter; 2])>>,
    recorder: Option<SharedRecorder>,
}

struct SharedRecorder(Arc<dyn Recorder + Send + Sync>);

impl std::fmt::Debug for SharedRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedRecorder")
    }
}

impl Results {
    fn new(series: &Series<'_>) -> Self {
        Self {
            base: series.base.clone(),
            unknown: series.results(UNKNOWN_RELEASE),
            known: Mutex::default(),
            recorder: None,
        }
    }

    fn count(&self, failed: Option<&str>, result: HandoverResult) {
        let (Some(failed), Some(SharedRecorder(recorder))) = (failed, &self.recorder) else {
            self.unknown[result as usize].increment(1);
            return;
        };
        let series = Series {
            recorder: &**recorder,
            base: self.base.clone(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let room = known.len() < MAX_FAILED_RELEASES;
        let name = if room || known.iter().any(|(name, _)| name == failed) {
            failed
        } else {
            OTHER_RELEASE
        };
        if found_by_name(&known, name).is_none() {
            known.push((name.to_owned(), series.results(name)));
        }
        if let Some(counters) = found_by_name(&known, name) {
            counters[result as usize].increment(1);
        }
    }
}

fn found_by_name<'a>(known: &'a [(String, [Counter; 2])], name: &str) -> Option<&'a [Counter; 2]> {
    known
        .iter()
        .find(|(candidate, _)| candidate == name)
        .map(|(_, counters)| counters)
}

fn found<'a, K: PartialEq, V>(pairs: &'a [(K, V)], key: &K) -> Option<&'a V> {
    pairs
        .iter()
        .find(|(candidate, _)| candidate == key)
        .map(|(_, value)| value)
}

/// Describes every metric to `recorder` and sets [`BUILD_INFO`].
pub fn describe(recorder: &dyn Recorder, identity: &Identity, version: &'static str, revision: &'static str) {
    for metric in CATALOGUE {
        let (name, help) = (metric.name.into(), SharedString::const_str(metric.help));
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, Some(Unit::Count), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(Unit::Count), help),
            Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), help),
        }
    }
    let series = Series {
        recorder,
        base: base_labels(identity, None),
    };
    series
        .gauge_with(BUILD_INFO, &[("version", version), ("revision", revision)])
        .set(1.0);
}

fn base_labels(identity: &Identity, queue: Option<&str>) -> Vec<Label> {
    let mut labels = vec![
        Label::new("release", identity.release.as_str().to_owned()),
        Label::from_static_parts("track", identity.track.as_str()),
    ];
    labels.extend(queue.map(|queue| Label::new("queue", queue.to_owned())));
    labels
}

struct Series<'a> {
    recorder: &'a dyn Recorder,
    base: Vec<Label>,
}

impl Series<'_> {
    const METADATA: metrics::Metadata<'static> =
        metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

    fn attempts(&self, reasons: &[Reason]) -> Vec<(Ending, Reason, [Counter; 2])> {
        Ending::ALL
            .into_iter()
            .flat_map(|ending| ending.reasons(reasons).map(move |reason| (ending, reason)))
            .map(|(ending, reason)| {
                let counter = |delivery: Delivery| {
                    self.counter(
                        ATTEMPTS,
                        &[
                            ("outcome", ending.as_str()),
                            ("reason", reason.as_str()),
                            ("delivery", delivery.as_str()),
                        ],
                    )
                };
                (ending, reason, Delivery::ALL.map(counter))
            })
            .collect()
    }

    fn dead_letters(&self, reasons: &[Reason]) -> Vec<(Reason, [Counter; 2])> {
        reasons
            .iter()
            .filter(|reason| **reason != Reason::NONE)
            .map(|&reason| {
                let counter = |story: StoryFate| {
                    self.counter(
                        DEAD_LETTERS,
                        &[("reason", reason.as_str()), ("story", story.as_str())],
                    )
                };
                (reason, StoryFate::ALL.map(counter))
            })
            .collect()
    }

    fn key(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> metrics::Key {
        let labels = labels
            .iter()
            .map(|(key, value)| Label::from_static_parts(key, value));
        metrics::Key::from_parts(name, self.base.iter().cloned().chain(labels).collect::<Vec<_>>())
    }

    fn results(&self, release: &str) -> [Counter; 2] {
        HandoverResult::ALL.map(|result| {
            let result = Label::from_static_parts("result", result.as_str());
            self.counter_of(HANDOVER_RESULTS, vec![failed_release(release), result])
        })
    }

    /// A counter whose labels are not known to the compiler.
    fn counter_of(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let labels: Vec<_> = self.base.iter().cloned().chain(labels).collect();
        let key = metrics::Key::from_parts(name, labels);
        let counter = self.recorder.register_counter(&key, &Self::METADATA);
        counter.increment(0); // an exporter may show a series only once it was touched
        counter
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Counter {
        let counter = self
            .recorder
            .register_counter(&self.key(name, labels), &Self::METADATA);
        counter.increment(0); // an exporter may show a series only once it was touched
        counter
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.gauge_with(name, &[])
    }

    fn gauge_with(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Gauge {
        let gauge = self
            .recorder
            .register_gauge(&self.key(name, labels), &Self::METADATA);
        gauge.set(0.0);
        gauge
    }

    fn histogram(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Histogram {
        self.recorder
            .register_histogram(&self.key(name, labels), &Self::METADATA)
    }
}

#[cfg(test)]
mod tests;
