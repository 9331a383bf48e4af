//! Settles messages: deletes what is done, delays what is tried again, copies what failed for good.
//!
//! Each kind of call is batched by a task of its own ([`batch`]). Every entry of an answer is looked at, and what
//! failed is tried again for as long as [`Options::give_up`]. A message is deleted only after `Done`, or after its
//! copy was accepted by another queue; what cannot be settled comes back by its visibility timeout.

pub mod done;

mod batch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinSet;

use self::batch::{Batch, run};
use crate::events::{DeadLettered, Events, HandedOver, SettleFailed};
use crate::failure::StoryFate;
use crate::handler::Reason;
use crate::lease::Lease;
use crate::message::size;
use crate::metrics::Settlement;
use crate::queue::{BatchResult, Outgoing, Queue, QueueError, Visibility};
use crate::retry::Backoff;

/// How to settle.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the first entry of a batch waits for others.
    pub linger: Duration,
    /// How long a failed entry is tried again before it is given up.
    pub give_up: Duration,
    /// How many calls of one kind may be under way at once.
    pub calls: usize,
    /// The delays between tries.
    pub backoff: Backoff,
    /// How soon a message comes back whose copy was refused.
    pub refused_delay: Duration,
}

/// A delivery on its way to be settled.
#[derive(Debug)]
pub struct Ticket {
    /// SQS's id of the message.
    pub message_id: Arc<str>,
    /// The handle of the delivery.
    pub receipt: Arc<str>,
    /// Kept alive until the delivery is settled.
    pub lease: Option<Lease>,
    /// Bounds how many deliveries can be on their way at once.
    pub hold: Option<OwnedSemaphorePermit>,
    /// Told whether the delivery was settled as asked.
    pub settled: Option<oneshot::Sender<bool>>,
}

impl Ticket {
    fn tell(&mut self, settled: bool) {
        if let Some(sender) = self.settled.take() {
            // Nobody needs to be listening.
            let _ = sender.send(settled);
        }
    }
}

/// Why a copy is made, for the counters.
#[derive(Clone, Copy, Debug)]
pub enum CopyKind {
    /// The message failed for good.
    DeadLetter {
        /// The reason of its last failure.
        reason: Reason,
        /// Whether the story goes along.
        story: StoryFate,
    },
    /// A canary failed the message, and a stable worker is to have it.
    Handover {
        /// The reason of the failure.
        reason: Reason,
        /// Whether the story goes along.
        story: StoryFate,
    },
    /// The message goes back to its own queue with its receives unspent.
    Requeue,
}

/// Where deliveries are handed in to be settled.
#[derive(Debug)]
pub struct Settle {
    deletions: UnboundedSender<Ticket>,
    delays: UnboundedSender<Delay>,
    dead_letters: UnboundedSender<Copy>,
    requeues: UnboundedSender<Copy>,
    handovers: Option<UnboundedSender<Copy>>,
}

#[derive(Debug)]
struct Delay {
    ticket: Ticket,
    after: Duration,
}

#[derive(Debug)]
struct Copy {
    ticket: Ticket,
    outgoing: Outgoing,
    kind: CopyKind,
}

impl Settle {
    /// Starts the tasks that settle deliveries of `queue` and copies to `dead_letter_queue` and `handover_queue`.
    ///
    /// They end when the last [`Settle`] is dropped and everything handed in is settled or given up.
    #[must_use]
    pub fn start<Q: Queue>(
        queue: &Arc<Q>,
        dead_letter_queue: &Arc<Q>,
        handover_queue: Option<&Arc<Q>>,
        options: Options,
        events: &Arc<Events>,
    ) -> (Self, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let (deletions, to_delete) = unbounded_channel();
        let (delays, to_delay) = unbounded_channel();
        let deleter = Deleter {
            queue: Arc::clone(queue),
            events: Arc::clone(events),
        };
        let delayer = Delayer {
            queue: Arc::clone(queue),
            events: Arc::clone(events),
        };
        tasks.spawn(run(Arc::new(deleter), to_delete, options, Arc::clone(events)));
        tasks.spawn(run(Arc::new(delayer), to_delay, options, Arc::clone(events)));
        let mut copier = |target: &Arc<Q>, settlement| {
            let (sender, receiver): (_, UnboundedReceiver<Copy>) = unbounded_channel();
            let copier = Copier {
                target: Arc::clone(target),
                settlement,
                deletions: deletions.clone(),
                delays: delays.clone(),
                refused_delay: options.refused_delay,
                events: Arc::clone(events),
            };
            tasks.spawn(run(Arc::new(copier), receiver, options, Arc::clone(events)));
            sender
        };
        let dead_letters = copier(dead_letter_queue, Settlement::DeadLetter);
        let requeues = copier(queue, Settlement::Requeue);
        let handovers = handover_queue.map(|queue| copier(queue, Settlement::Handover));
        (
            Self {
                deletions,
                delays,
                dead_letters,
                requeues,
                handovers,
            },
            tasks,
        )
    }

    /// Deletes a delivery that is done.
    pub fn delete(&self, ticket: Ticket) {
        // The tasks live as long as a sender does, so a send cannot fail while `self` exists.
        let _ = self.deletions.send(ticket);
    }

    /// Makes a delivery visible again after a delay; its lease is stopped first.
    pub fn delay(&self, ticket: Ticket, after: Duration) {
        let _ = self.delays.send(Delay { ticket, after });
    }

    /// Copies a delivery, and deletes it when the copy was accepted.
    pub fn copy(&self, ticket: Ticket, outgoing: Outgoing, kind: CopyKind) {
        let sender = match kind {
            CopyKind::DeadLetter { .. } => &self.dead_letters,
            CopyKind::Requeue => &self.requeues,
            // Without a handover queue nothing is handed over; if it were, it would not be lost.
            CopyKind::Handover { .. } => self.handovers.as_ref().unwrap_or(&self.requeues),
        };
        let _ = sender.send(Copy {
            ticket,
            outgoing,
            kind,
        });
    }
}

#[derive(Debug)]
struct Deleter<Q> {
    queue: Arc<Q>,
    events: Arc<Events>,
}

impl<Q: Queue> Batch for Deleter<Q> {
    type Entry = Ticket;

    fn settlement(&self) -> Settlement {
        Settlement::Delete
    }

    async fn call(&self, entries: &[Ticket]) -> BatchResult<()> {
        let receipts: Vec<_> = entries.iter().map(|ticket| Arc::clone(&ticket.receipt)).collect();
        self.queue.delete(&receipts).await
    }

    fn succeeded(&self, mut ticket: Ticket) {
        ticket.tell(true);
    }

    fn failed(&self, mut ticket: Ticket, error: &QueueError) {
        SettleFailed {
            action: self.settlement().action(),
            message_id: &ticket.message_id,
            error,
        }
        .record(&self.events);
        ticket.tell(false);
    }
}

#[derive(Debug)]
struct Delayer<Q> {
    queue: Arc<Q>,
    events: Arc<Events>,
}

impl<Q: Queue> Batch for Delayer<Q> {
    type Entry = Delay;

    fn settlement(&self) -> Settlement {
        Settlement::ChangeVisibility
    }

    async fn prepare(&self, entries: &mut [Delay]) {
        for entry in entries {
            if let Some(lease) = entry.ticket.lease.take() {
                lease.stop().await;
            }
        }
    }

    async fn call(&self, entries: &[Delay]) -> BatchResult<()> {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| Visibility {
                receipt: Arc::clone(&entry.ticket.receipt),
                after: entry.after,
            })
            .collect();
        self.queue.change_visibility(&entries).await
    }

    fn succeeded(&self, mut entry: Delay) {
        entry.ticket.tell(true);
    }

    fn failed(&self, mut entry: Delay, error: &QueueError) {
        SettleFailed {
            action: self.settlement().action(),
            message_id: &entry.ticket.message_id,
            error,
        }
        .record(&self.events);
        entry.ticket.tell(false);
    }
}

#[derive(Debug)]
struct Copier<Q> {
    target: Arc<Q>,
    settlement: Settlement,
    deletions: UnboundedSender<Ticket>,
    delays: UnboundedSender<Delay>,
    refused_delay: Duration,
    events: Arc<Events>,
}

impl<Q: Queue> Batch for Copier<Q> {
    type Entry = Copy;

    fn settlement(&self) -> Settlement {
        self.settlement
    }

    fn bytes(entry: &Copy) -> usize {
        size(&entry.outgoing.body, &entry.outgoing.attributes)
    }

    async fn call(&self, entries: &[Copy]) -> BatchResult<()> {
        let entries: Vec<_> = entries.iter().map(|entry| entry.outgoing.clone()).collect();
        let results = self.target.send(&entries).await?;
        Ok(results.into_iter().map(|result| result.map(drop)).collect())
    }

    fn succeeded(&self, entry: Copy) {
        let message_id = &entry.ticket.message_id;
        match entry.kind {
            CopyKind::DeadLetter { reason, story } => DeadLettered {
                message_id,
                reason,
                story,
            }
            .record(&self.events),
            CopyKind::Handover { reason, story } => HandedOver {
                message_id,
                reason,
                story,
            }
            .record(&self.events),
            CopyKind::Requeue => {}
        }
        let _ = self.deletions.send(entry.ticket);
    }

    fn failed(&self, mut entry: Copy, error: &QueueError) {
        SettleFailed {
            action: self.settlement().action(),
            message_id: &entry.ticket.message_id,
            error,
        }
        .record(&self.events);
        entry.ticket.tell(false);
        // Back to the queue: the next receive tries again, and SQS's own redrive policy has the last word.
        let _ = self.delays.send(Delay {
            ticket: entry.ticket,
            after: self.refused_delay,
        });
    }
}

#[cfg(test)]
mod tests;
