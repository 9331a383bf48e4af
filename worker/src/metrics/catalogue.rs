//! Every metric: name, kind, labels and meaning. `docs/metrics.md` is made of it.

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
    SETTLE_DURATION = Histogram "worker_settle_seconds" ["action"]
        "How long a batch took to be settled, from its first entry to the end of the last, with the wait for others and every try; one observation a batch of up to ten, not a message.";
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
