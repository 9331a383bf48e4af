//! Keeps what is being processed invisible to others: one scheduler extends all leases, in batches.
//!
//! A lease is extended every third of its timeout, less some jitter, so that two beats may fail before it runs out.
//! It moves on only when SQS has confirmed a beat. A lease that SQS refuses, or that ran out unconfirmed, is *lost*:
//! its attempt is cancelled, since the message may be with somebody else.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::events::{Events, LeaseLost};
use crate::queue::{ErrorKind, MAX_BATCH, MAX_VISIBILITY, Queue, QueueError, Visibility};
use crate::retry::ceil_seconds;

/// How many batches of beats may be under way at once.
const CONCURRENT_CALLS: usize = 8;

/// Leases due within this span of the first one go along in its batch.
const GATHER: Duration = Duration::from_millis(250);

/// How long to wait before a failed beat is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Kept from the 12 h: SQS counts from the receive, this process from the answer.
const MARGIN: Duration = Duration::from_secs(30);

/// Why a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// SQS says the handle is no longer that of a message in flight.
    Refused,
    /// No beat was confirmed in time, or SQS's 12 h are over.
    Expired,
}

impl LossCause {
    /// Every cause.
    pub const ALL: [Self; 2] = [Self::Refused, Self::Expired];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// All leases of one consumer.
#[derive(Debug)]
pub struct Leases {
    timeout: Duration,
    table: Mutex<Table>,
    /// The scheduler sleeps until the first lease is due; a new first one wakes it.
    wake: Notify,
    events: Arc<Events>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    entries: HashMap<u64, Entry, RandomState>,
    due: BTreeSet<(Instant, u64)>,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Entry {
    receipt: Arc<str>,
    message_id: Arc<str>,
    received: Instant,
    expires: Instant,
    due: Instant,
    lost: bool,
    /// Rung when this lease is lost, or another one that was started with it.
    bell: Arc<Notify>,
    /// A beat with this handle is under way.
    beating: bool,
    /// Told when that beat has ended; its lease is over.
    stopped: Option<Arc<Notify>>,
}

impl Entry {
    fn lose(&mut self) {
        self.lost = true;
        self.bell.notify_waiters();
    }
}

/// The lease on one delivery. Dropping it ends it, without waiting for a beat that is under way.
#[derive(Debug)]
pub struct Lease {
    id: u64,
    bell: Arc<Notify>,
    leases: Arc<Leases>,
}

impl Lease {
    /// Waits until the lease is lost; forever, if it is not. Cancel safe.
    pub async fn lost(&self) {
        // Each turn ends with the loss of a lease that was started together with this one.
        loop {
            let mut rung = std::pin::pin!(self.bell.notified());
            // A loss between the look and the wait must wake this one.
            rung.as_mut().enable();
            if self.is_lost() {
                return;
            }
            rung.await;
        }
    }

    /// Whether the lease is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.leases
            .lock()
            .entries
            .get(&self.id)
            .is_some_and(|entry| entry.lost)
    }

    /// What SQS leaves of the 12 h since the receive, with a margin.
    #[must_use]
    pub fn left(&self) -> Duration {
        let table = self.leases.lock();
        table.entries.get(&self.id).map_or(Duration::ZERO, |entry| {
            (entry.received + MAX_VISIBILITY - MARGIN).saturating_duration_since(Instant::now())
        })
    }

    /// Ends the lease and waits until no beat of it is under way.
    ///
    /// To be called before the visibility is set for a retry: a beat that lands later would overwrite it. Not cancel
    /// safe in that sense; the lease ends all the same.
    pub async fn stop(self) {
        let ended = self.leases.end(self.id);
        if let Some(ended) = ended {
            ended.notified().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.end(self.id);
    }
}

impl Leases {
    /// A table of leases that last for `timeout` from each beat; whole seconds, at least 1.
    #[must_use]
    pub fn new(timeout: Duration, events: Arc<Events>, rng: fastrand::Rng) -> Arc<Self> {
        let table = Mutex::new(Table {
            rng,
            ..Table::default()
        });
        Arc::new(Self {
            timeout,
            table,
            wake: Notify::new(),
            events,
        })
    }

    /// Starts a lease on what was asked for at `received` and is invisible for the timeout from then.
    ///
    /// `bell` is rung ([`Notify::notify_waiters`]) when it is lost; those of one receive can share one.
    #[must_use]
    pub fn start(
        self: &Arc<Self>,
        receipt: Arc<str>,
        message_id: Arc<str>,
        received: Instant,
        bell: &Arc<Notify>,
    ) -> Lease {
        let mut table = self.lock();
        let id = table.next_id;
        table.next_id += 1;
        let due = received + self.interval(&mut table.rng);
        let entry = Entry {
            receipt,
            message_id,
            received,
            expires: received + self.timeout,
            due,
            lost: false,
            bell: Arc::clone(bell),
            beating: false,
            stopped: None,
        };
        table.entries.insert(id, entry);
        table.due.insert((due, id));
        let first = table.due.first().is_some_and(|(_, first)| *first == id);
        drop(table);
        if first {
            self.wake.notify_one();
        }
        Lease {
            id,
            bell: Arc::clone(bell),
            leases: Arc::clone(self),
        }
    }

    /// How many leases are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().entries.len()
    }

    /// Extends leases until `stop` is cancelled; the leases that are left then run out by themselves.
    pub async fn run<Q: Queue>(self: Arc<Self>, queue: Arc<Q>, stop: CancellationToken) {
        let calls = Arc::new(Semaphore::new(CONCURRENT_CALLS));
        // At most one a lease.
        let mut beats = JoinSet::new();
        loop {
            let first = self.lock().due.first().map(|(due, _)| *due);
            let due = async {
                match first {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // All selects are biased: with one seed, a simulation is to run the same every time.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.wake.notified() => continue,
                () = due => {}
            }
            let batch = self.take_due();
            if !batch.is_empty() {
                let (leases, queue, calls) = (Arc::clone(&self), Arc::clone(&queue), Arc::clone(&calls));
                beats.spawn(async move {
                    // Waited for here, since the scheduler must go on to notice the end of leases whose beats hang.
                    // The semaphore is never closed.
                    let _permit = calls.acquire().await;
                    leases.beat(&*queue, batch).await;
                });
            }
            while beats.try_join_next().is_some() {}
        }
        // Beats under way end within the timeout of their call; whoever stops a lease waits for them.
        while beats.join_next().await.is_some() {}
    }

    /// At most one batch of leases that are due; those that ran out are lost instead.
    fn take_due(&self) -> Vec<(u64, Visibility)> {
        let now = Instant::now();
        let mut lost = Vec::new();
        let mut batch = Vec::new();
        // Put back at the end: a lease that ends within the span to gather would be found again and again.
        let mut watched = Vec::new();
        let mut table = self.lock();
        while batch.len() < MAX_BATCH {
            let Some(&(due, id)) = table.due.first() else {
                break;
            };
            if due > now + if batch.is_empty() { Duration::ZERO } else { GATHER } {
                break;
            }
            table.due.pop_first();
            let Some(entry) = table.entries.get_mut(&id) else {
                continue;
            };
            let limit = entry.received + MAX_VISIBILITY - MARGIN;
            if entry.expires <= now || limit <= now {
                entry.lose();
                lost.push(Arc::clone(&entry.message_id));
                continue;
            }
            // A beat that hangs must not hide the end of the lease.
            entry.due = entry.expires;
            watched.push((entry.due, id));
            if std::mem::replace(&mut entry.beating, true) {
                continue;
            }
            let after = self.timeout.min(limit - now);
            let after = Duration::from_secs(ceil_seconds(after));
            batch.push((
                id,
                Visibility {
                    receipt: Arc::clone(&entry.receipt),
                    after,
                },
            ));
        }
        table.due.extend(watched);
        drop(table);
        for message_id in lost {
            LeaseLost {
                message_id: &message_id,
                cause: LossCause::Expired,
                detail: None,
            }
            .record(&self.events);
        }
        batch
    }

    async fn beat<Q: Queue>(&self, queue: &Q, mut batch: Vec<(u64, Visibility)>) {
        let asked = Instant::now();
        // While the beat waited for its turn, leases may have come to their end.
        for (id, entry) in batch.extract_if(.., |(id, _)| self.is_over(*id)) {
            self.beaten(id, asked, entry.after, Ok(()));
        }
        if batch.is_empty() {
            return;
        }
        let (ids, entries): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let mut results = match queue.change_visibility(&entries).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); ids.len()],
        };
        let missing = QueueError::new(ErrorKind::Answer, "the answer has no result for the entry");
        results.resize(ids.len(), Err(missing));
        for ((id, entry), result) in ids.into_iter().zip(entries).zip(results) {
            self.beaten(id, asked, entry.after, result);
        }
    }

    fn is_over(&self, id: u64) -> bool {
        let table = self.lock();
        let entry = table.entries.get(&id);
        entry.is_none_or(|entry| entry.stopped.is_some() || entry.lost)
    }

    fn beaten(&self, id: u64, asked: Instant, after: Duration, result: Result<(), QueueError>) {
        let now = Instant::now();
        let mut table = self.lock();
        let interval = self.interval(&mut table.rng);
        let Some(entry) = table.entries.get_mut(&id) else {
            return;
        };
        entry.beating = false;
        let watched = (entry.due, id);
        if let Some(stopped) = entry.stopped.take() {
            table.entries.remove(&id);
            drop(table);
            stopped.notify_one();
            return;
        }
        if entry.lost {
            return;
        }
        match result {
            Ok(()) => {
                entry.expires = asked + after;
                // The last beat before the 12 h are over asks for less than an interval.
                entry.due = (asked + interval).min(entry.expires);
            }
            // A refused request that is not about this handle (a missing permission, say) may be mended in time.
            Err(error) if error.kind != ErrorKind::Receipt => {
                // Never past the end: a lease is lost at its end, not after the next try.
                entry.due = (now + RETRY).min(entry.expires);
            }
            Err(error) => {
                entry.lose();
                let message_id = Arc::clone(&entry.message_id);
                table.due.remove(&watched);
                drop(table);
                let detail = Some(error.detail.as_str());
                LeaseLost {
                    message_id: &message_id,
                    cause: LossCause::Refused,
                    detail,
                }
                .record(&self.events);
                return;
            }
        }
        let due = entry.due;
        table.due.remove(&watched);
        table.due.insert((due, id));
        let first = table.due.first().is_some_and(|(_, first)| *first == id);
        drop(table);
        if first {
            self.wake.notify_one();
        }
    }

    /// Ends a lease; a [`Notify`] when a beat of it is under way.
    fn end(&self, id: u64) -> Option<Arc<Notify>> {
        let mut table = self.lock();
        let entry = table.entries.get_mut(&id)?;
        let due = entry.due;
        let ended = if entry.beating {
            let stopped = entry.stopped.get_or_insert_with(|| Arc::new(Notify::new()));
            Some(Arc::clone(stopped))
        } else {
            table.entries.remove(&id);
            None
        };
        table.due.remove(&(due, id));
        ended
    }

    /// A third of the timeout, less up to a tenth of it: leases taken together do not stay together.
    fn interval(&self, rng: &mut fastrand::Rng) -> Duration {
        (self.timeout / 3).mul_f64(1.0 - 0.1 * rng.f64())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // Nothing panics while holding the lock; if it did, the table would still be consistent entry by entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
