//! One delivery, from its attempt to the way it is settled.

mod attempts;
mod settlement;
mod story;
mod together;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use self::attempts::{attempts, hindrance};
use self::settlement::{Settlement, dispose};
pub(super) use self::together::process_together;
use super::Shared;
use super::reflexes::Probe;
use crate::breaker::rate::Trial;
use crate::events::{DuplicateDeleted, StoryBroken};
use crate::evidence::Receive;
use crate::failure::{ATTRIBUTE, Story};
use crate::handler::Handler;
use crate::lease::Lease;
use crate::message::{self, Message};
use crate::queue::Queue;
use crate::settle::{Settle, Ticket};

/// A message in hand, with its lease and the room it takes.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    lease: Lease,
    /// Free for the next message as soon as the attempt has ended. None: the answer was larger than asked for.
    slot: Option<OwnedSemaphorePermit>,
    /// Held until the message is settled.
    hold: Option<OwnedSemaphorePermit>,
    /// It was received to see whether a breaker can be closed.
    probe: Option<Probe>,
    /// It counts as evidence, with the others of its receive.
    receive: Option<Arc<Receive>>,
    /// It counts for the rate breaker.
    trial: Option<Trial>,
}

impl Delivery {
    pub(super) fn new<Q, H>(
        shared: &Shared<Q, H>,
        mut message: Message,
        received: Instant,
        slot: Option<OwnedSemaphorePermit>,
        hold: Option<OwnedSemaphorePermit>,
        probe: Option<Probe>,
        bell: &Arc<Notify>,
    ) -> Self {
        let events = &shared.parts.events;
        events.metrics.received(message.delivery(), 1);
        if let Some(attribute) = message.attributes.get(ATTRIBUTE) {
            match Story::read(attribute) {
                Ok(story) => {
                    message.story = Some(Box::new(story));
                    message.attributes.remove(ATTRIBUTE);
                }
                Err(error) => StoryBroken {
                    message_id: &message.id,
                    error: &error,
                }
                .record(events),
            }
        }
        let (receipt, id) = (Arc::clone(&message.receipt), Arc::clone(&message.id));
        let lease = shared.leases.start(receipt, id, received, bell);
        Self {
            message: Arc::new(message),
            lease,
            slot,
            hold,
            probe,
            receive: None,
            trial: None,
        }
    }

    /// Whether releases can be compared by it: received for the first time, and not a copy of what failed before.
    fn is_first(&self) -> bool {
        let message = &self.message;
        message.delivery() == message::Delivery::First
            && message.story.is_none()
            && !message.attributes.contains_key(ATTRIBUTE)
    }

    fn ticket(self, settled: Option<oneshot::Sender<bool>>) -> Ticket {
        Ticket {
            message_id: Arc::clone(&self.message.id),
            receipt: Arc::clone(&self.message.receipt),
            lease: Some(self.lease),
            hold: self.hold,
            settled,
        }
    }
}

/// Notes which of one receive's deliveries count as evidence.
pub(super) fn judge<Q, H>(shared: &Shared<Q, H>, receive: &mut [Delivery]) {
    if shared.steering.evidence.is_none() && shared.reflexes.rate.is_none() {
        return;
    }
    let first: Vec<_> = receive
        .iter_mut()
        .filter(|delivery| delivery.slot.is_some() && delivery.is_first())
        .collect();
    if first.is_empty() {
        return;
    }
    let together = shared
        .steering
        .evidence
        .is_some()
        .then(|| Arc::new(Receive::default()));
    let size = u32::try_from(first.len()).unwrap_or(u32::MAX);
    let mut trials = shared
        .reflexes
        .rate
        .as_ref()
        .map_or_else(Vec::new, |rate| rate.receive(size));
    for delivery in first {
        delivery.receive.clone_from(&together);
        delivery.trial = trials.pop();
    }
}

/// Processes the deliveries in order, and hands back the rest when one is not settled for good.
pub(super) async fn process<Q: Queue, H: Handler>(
    shared: Arc<Shared<Q, H>>,
    settle: Arc<Settle>,
    unit: Vec<Delivery>,
) {
    let ordered = shared.parts.description.fifo;
    let mut blocked = None;
    for delivery in unit {
        if let Some(after) = blocked {
            // Its group's order: an earlier message comes back first. SQS holds the group until that one is visible;
            // the same delay keeps the order where an emulator does not. It has been received as often as this one at
            // least: what SQS moves to the dead-letter queue next, it moves in order.
            settle.delay(delivery.ticket(None), after);
            continue;
        }
        blocked = process_one(&shared, &settle, delivery, ordered)
            .await
            .filter(|_| ordered);
    }
}

/// Processes one delivery. `None` when it leaves the queue, which is confirmed when `ordered`; otherwise how soon it is
/// visible again.
async fn process_one<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    settle: &Settle,
    mut delivery: Delivery,
    ordered: bool,
) -> Option<Duration> {
    let settlement = if is_done(shared, &delivery.message) {
        DuplicateDeleted {
            message: &delivery.message,
        }
        .record(&shared.parts.events);
        Settlement::Delete
    } else if let Some(settlement) = hindrance(shared, &delivery).await {
        settlement
    } else {
        shared.parts.events.metrics.in_flight.increment(1.0);
        let settlement = attempts(shared, &mut delivery, None).await;
        shared.parts.events.metrics.in_flight.decrement(1.0);
        settlement
    };
    if !ordered {
        return conclude(shared, settle, delivery, settlement, None);
    }
    let (sender, receiver) = oneshot::channel();
    let comes_back = conclude(shared, settle, delivery, settlement, Some(sender));
    if comes_back.is_some() || receiver.await.unwrap_or(false) {
        return comes_back;
    }
    Some(shared.options.settle.refused_delay)
}

/// Frees the slot, and settles the delivery. `None` when it leaves the queue, otherwise how soon it is visible again.
fn conclude<Q, H>(
    shared: &Shared<Q, H>,
    settle: &Settle,
    mut delivery: Delivery,
    settlement: Settlement,
    settled: Option<oneshot::Sender<bool>>,
) -> Option<Duration> {
    if let Some(slot) = delivery.slot.take() {
        shared.reflexes.free(slot);
    }
    delivery.probe = None;
    delivery.trial = None;
    dispose(shared, settle, delivery, settlement, settled)
}

fn is_last_receive<Q, H>(shared: &Shared<Q, H>, message: &Message) -> bool {
    let redrive = shared.parts.description.redrive.as_ref();
    redrive.is_some_and(|redrive| message.receive_count >= redrive.max_receive_count)
}

/// Whether the message can be handed back no more: SQS would dead-letter it, and on a FIFO queue a copy would come after its
/// group. So what can still be done is done now.
fn is_last_chance<Q, H>(shared: &Shared<Q, H>, message: &Message) -> bool {
    shared.parts.description.fifo && is_last_receive(shared, message)
}

fn is_done<Q, H>(shared: &Shared<Q, H>, message: &Message) -> bool {
    shared
        .done
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(&message.id)
}

fn remember<Q, H>(shared: &Shared<Q, H>, message: &Message) {
    let mut done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
    done.insert(&message.id);
    shared.health.remember(done.len());
}
