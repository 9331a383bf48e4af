//! Gathers entries into batches and sees each entry through.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::Options;
use crate::events::{Events, SettleRetried};
use crate::message::MAX_MESSAGE_BYTES;
use crate::metrics::Settlement;
use crate::queue::{BatchResult, ErrorKind, MAX_BATCH, QueueError};

/// One kind of batch call.
pub(super) trait Batch: Send + Sync + 'static {
    type Entry: Send + Sync + 'static;

    /// What the batch does, for logs and metrics.
    fn settlement(&self) -> Settlement;

    /// What the entry adds to the size of the call, in bytes.
    fn bytes(_entry: &Self::Entry) -> usize {
        0
    }

    /// What must have ended before the first call.
    fn prepare(&self, _entries: &mut [Self::Entry]) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// One call, one result an entry.
    fn call(&self, entries: &[Self::Entry]) -> impl Future<Output = BatchResult<()>> + Send;

    /// The entry is settled.
    fn succeeded(&self, entry: Self::Entry);

    /// The entry is given up.
    fn failed(&self, entry: Self::Entry, error: &QueueError);
}

/// Batches what comes from `entries` until all senders are gone and every call has ended.
pub(super) async fn run<B: Batch>(
    batch: Arc<B>,
    mut entries: UnboundedReceiver<B::Entry>,
    options: Options,
    events: Arc<Events>,
) {
    let calls = Arc::new(Semaphore::new(options.calls));
    let mut tasks = JoinSet::new();
    let mut carried = None;
    loop {
        let first = match carried.take() {
            Some(entry) => entry,
            None => match entries.recv().await {
                Some(entry) => entry,
                None => break,
            },
        };
        let began = Instant::now();
        // The semaphore is never closed. Waiting for a call first lets the batch fill meanwhile.
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else {
            break;
        };
        let mut gathered = Vec::with_capacity(MAX_BATCH);
        carried = gather::<B>(first, &mut gathered, &mut entries, options).await;
        let (batch, events) = (Arc::clone(&batch), Arc::clone(&events));
        tasks.spawn(async move {
            see_through(&*batch, gathered, options, &events).await;
            drop(permit);
            // Once a batch: what a message costs does not show it.
            events
                .metrics
                .settled(batch.settlement(), began.elapsed().as_secs_f64());
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// Fills `gathered` until it is full, or the linger is over. An entry that no longer fits is given back.
async fn gather<B: Batch>(
    first: B::Entry,
    gathered: &mut Vec<B::Entry>,
    entries: &mut UnboundedReceiver<B::Entry>,
    options: Options,
) -> Option<B::Entry> {
    let deadline = Instant::now() + options.linger;
    let mut bytes = B::bytes(&first);
    gathered.push(first);
    while gathered.len() < MAX_BATCH {
        let next = match entries.try_recv() {
            Ok(entry) => entry,
            Err(_) => match timeout_at(deadline, entries.recv()).await {
                Ok(Some(entry)) => entry,
                Ok(None) | Err(_) => break,
            },
        };
        bytes += B::bytes(&next);
        if bytes > MAX_MESSAGE_BYTES {
            return Some(next);
        }
        gathered.push(next);
    }
    None
}

/// Calls until every entry has succeeded or is given up.
async fn see_through<B: Batch>(batch: &B, mut entries: Vec<B::Entry>, options: Options, events: &Events) {
    batch.prepare(&mut entries).await;
    let give_up = Instant::now() + options.give_up;
    let mut rng = fastrand::Rng::new();
    // Bounded by `give_up`.
    for round in 1.. {
        let mut results = match batch.call(&entries).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); entries.len()],
        };
        let missing = QueueError::new(ErrorKind::Answer, "the answer has no result for the entry");
        results.resize(entries.len(), Err(missing));
        let out_of_time = Instant::now() >= give_up;
        let mut again = Vec::new();
        let mut last_error = None;
        for (entry, result) in entries.into_iter().zip(results) {
            match result {
                Ok(()) => batch.succeeded(entry),
                Err(error) if error.kind.is_transient() && !out_of_time => {
                    again.push(entry);
                    last_error = Some(error);
                }
                Err(error) => batch.failed(entry, &error),
            }
        }
        let Some(error) = last_error else { return };
        let retried = again.len().try_into().unwrap_or(u64::MAX);
        SettleRetried {
            action: batch.settlement().action(),
            entries: retried,
            error: &error,
        }
        .record(events);
        entries = again;
        sleep(options.backoff.delay(round, &mut rng)).await;
    }
}
