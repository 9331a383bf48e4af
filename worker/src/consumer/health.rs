//! How a consumer is, for probes and for the report at the end.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The poll loop wakes up at least this often, whatever happens.
pub const TICK: Duration = Duration::from_secs(5);

/// A poll loop that has not woken for this long is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// So many receives in a row must fail before the worker calls itself not ready.
const FAILURES_UNTIL_UNREADY: u32 = 3;

/// Counters and flags of one consumer.
#[derive(Debug)]
pub struct Health {
    concurrency: usize,
    woken: Mutex<Instant>,
    polling: AtomicBool,
    ended: AtomicBool,
    failures: AtomicU32,
    held: AtomicUsize,
    busy: watch::Sender<bool>,
    stuck: AtomicUsize,
    done: AtomicU64,
    failed: AtomicU64,
    returned: AtomicU64,
    remembered: AtomicUsize,
}

impl Health {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            woken: Mutex::new(Instant::now()),
            polling: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            busy: watch::Sender::new(false),
            stuck: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            remembered: AtomicUsize::new(0),
        }
    }

    /// Whether the poll loop advances and at least one slot can still be used.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn live(&self) -> Result<(), String> {
        let woken = *self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let asleep = woken.elapsed();
        if asleep > STUCK_AFTER && !self.ended.load(Relaxed) {
            return Err(format!(
                "the poll loop has not advanced for {} s",
                asleep.as_secs()
            ));
        }
        let stuck = self.stuck.load(Relaxed);
        if stuck >= self.concurrency {
            return Err(format!("all {stuck} slots hold attempts that do not end"));
        }
        Ok(())
    }

    /// Whether messages are being received.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn ready(&self) -> Result<(), String> {
        if !self.polling.load(Relaxed) {
            return Err("not polling".to_owned());
        }
        let failures = self.failures.load(Relaxed);
        if failures >= FAILURES_UNTIL_UNREADY {
            return Err(format!("the last {failures} receives failed"));
        }
        Ok(())
    }

    /// Whether the poll loop runs: it has begun, and does not drain.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.polling.load(Relaxed)
    }

    /// Deliveries in hand: being processed, kept, or not yet settled.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Whether anything is in hand, and its changes. The end of the work may be told up to [`TICK`] late.
    #[must_use]
    pub fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    /// Messages whose handler said `Done`.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Attempts that ended otherwise, those cut off by a shutdown left out.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Messages handed back unfinished: because of a shutdown, a pause or an open breaker.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.returned.load(Relaxed)
    }

    /// How many ids of done messages are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.remembered.load(Relaxed)
    }

    pub(super) fn remember(&self, ids: usize) {
        self.remembered.store(ids, Relaxed);
    }

    pub(super) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn polling(&self, polling: bool) {
        self.polling.store(polling, Relaxed);
    }

    pub(super) fn stopped(&self) {
        self.ended.store(true, Relaxed);
    }

    /// Notes a receive; the failures in a row before it.
    pub(super) fn received(&self, succeeded: bool) -> u32 {
        if succeeded {
            self.failures.swap(0, Relaxed)
        } else {
            self.failures.fetch_add(1, Relaxed)
        }
    }

    pub(super) fn attempted(&self, done: bool) {
        if done { &self.done } else { &self.failed }.fetch_add(1, Relaxed);
    }

    pub(super) fn handed_back(&self) {
        self.returned.fetch_add(1, Relaxed);
    }

    pub(super) fn stuck(&self, stuck: bool) {
        if stuck {
            self.stuck.fetch_add(1, Relaxed)
        } else {
            self.stuck.fetch_sub(1, Relaxed)
        };
    }

    pub(super) fn hold(&self, held: usize) {
        self.held.store(held, Relaxed);
        let busy = held > 0;
        self.busy
            .send_if_modified(|was| std::mem::replace(was, busy) != busy);
    }
}
