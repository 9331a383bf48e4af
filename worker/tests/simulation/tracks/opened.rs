//! What the evidence says in the very moment in which a rate breaker opens.

use std::sync::{Arc, Mutex};

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use worker::evidence::{Evidence, State};

/// First deliveries that had failed when the rate breaker first opened: a recorder that hears of it as metrics do.
#[derive(Clone, Debug)]
pub(crate) struct Opened(Arc<Heard>);

#[derive(Debug)]
struct Heard {
    evidence: Arc<Evidence>,
    failed: Mutex<Option<u64>>,
}

impl Opened {
    pub(crate) fn new(evidence: &Arc<Evidence>) -> Self {
        Self(Arc::new(Heard {
            evidence: Arc::clone(evidence),
            failed: Mutex::new(None),
        }))
    }

    /// None: it has not opened.
    pub(crate) fn failed(&self) -> Option<u64> {
        *self.0.failed.lock().unwrap()
    }
}

impl CounterFn for Heard {
    fn increment(&self, by: u64) {
        // Counters are registered at zero.
        if by > 0 {
            let failed = self.evidence.report(0, State::default()).totals.failed;
            self.failed.lock().unwrap().get_or_insert(failed);
        }
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Opened {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let rate = key.name() == "worker_breaker_opened_total"
            && key
                .labels()
                .any(|label| (label.key(), label.value()) == ("kind", "rate"));
        if rate {
            Counter::from_arc(Arc::clone(&self.0))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
