//! One delivery, from its attempt to the way it is settled.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::attempt::{self, Ended, Ending, Remains};
use crate::events::{AttemptEnded, AttemptStuck, CopyImpossible, DuplicateDeleted, Returned, StoryBroken};
use crate::failure::{self, ATTRIBUTE, AttemptRecord, Story, Target, bounded};
use crate::handler::{Context, Handler, Reason};
use crate::lease::Lease;
use crate::message::{self, Message};
use crate::queue::Queue;
use crate::settle::{CopyKind, Settle, Ticket};

/// An attempt that was ended and goes on for longer than this is called stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long a message stays invisible whose attempt was cut off: its end must not race the next attempt.
const RETURN_DELAY: Duration = Duration::from_secs(1);

/// A message in hand, with its lease and the room it takes.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    lease: Lease,
    /// Free for the next message as soon as the attempt has ended. None: the answer was larger than asked for.
    slot: Option<OwnedSemaphorePermit>,
    /// Held until the message is settled.
    hold: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    pub(super) fn new<Q, H>(
        shared: &Shared<Q, H>,
        mut message: Message,
        received: Instant,
        slot: Option<OwnedSemaphorePermit>,
        hold: Option<OwnedSemaphorePermit>,
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
        let lease = shared
            .leases
            .start(Arc::clone(&message.receipt), Arc::clone(&message.id), received);
        Self {
            message: Arc::new(message),
            lease,
            slot,
            hold,
        }
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

/// What to do with a delivery after its attempts.
#[derive(Debug)]
enum Settlement {
    Delete,
    Delay(Duration),
    DeadLetter(Reason, String),
    /// Hand it back unfinished: the worker stops, or SQS's 12 h are over. Whether an attempt was begun.
    Return {
        started: bool,
    },
    /// The handle is worthless.
    Forget,
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
            // the same delay keeps the order where an emulator does not.
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
    } else if delivery.slot.is_none() || shared.shutdown.stop.is_cancelled() {
        Settlement::Return { started: false }
    } else {
        shared.parts.events.metrics.in_flight.increment(1.0);
        let settlement = attempts(shared, &delivery).await;
        shared.parts.events.metrics.in_flight.decrement(1.0);
        settlement
    };
    delivery.slot = None;
    if !ordered {
        return hand_over(shared, settle, delivery, settlement, None);
    }
    let (sender, receiver) = oneshot::channel();
    let comes_back = hand_over(shared, settle, delivery, settlement, Some(sender));
    if comes_back.is_some() || receiver.await.unwrap_or(false) {
        return comes_back;
    }
    Some(shared.options.settle.refused_delay)
}

/// Makes attempts until the delivery can be settled: `Unavailable` is tried again in place, under the lease.
async fn attempts<Q: Queue, H: Handler>(shared: &Shared<Q, H>, delivery: &Delivery) -> Settlement {
    let message = &delivery.message;
    let mut in_place = 0;
    // Ends with the lease at the latest, which SQS limits to 12 h.
    loop {
        let attempt = message.receive_count.saturating_add(in_place);
        if in_place == 0 {
            observe_wait(shared, message);
        }
        let (ended, mut remains) = {
            let context = context(shared, delivery, attempt);
            attempt::run(
                &shared.parts.handler,
                message,
                context,
                &delivery.lease,
                &shared.shutdown.cut,
            )
            .await
        };
        AttemptEnded {
            message,
            attempt,
            ended: &ended,
        }
        .record(&shared.parts.events);
        if ended.reason != Reason::SHUTDOWN {
            shared.health.attempted(ended.ending == Ending::Done);
        }
        if await_end(shared, message, &mut remains).await {
            // It was done after all, in the moment it was ended.
            remember(shared, message);
            return Settlement::Delete;
        }
        if ended.ending != Ending::Unavailable {
            return decide(shared, delivery, ended);
        }
        in_place += 1;
        let wait = {
            let mut rng = shared.rng.lock().unwrap_or_else(PoisonError::into_inner);
            shared
                .options
                .retry
                .redelivery(in_place, ended.after, delivery.lease.left(), &mut rng)
        };
        if delivery.lease.left() <= wait + shared.options.deadline {
            return Settlement::Return { started: true };
        }
        tokio::select! {
            biased;
            () = sleep(wait) => {}
            () = delivery.lease.lost() => return Settlement::Forget,
            () = shared.shutdown.stop.cancelled() => return Settlement::Return { started: true },
        }
        if is_done(shared, message) {
            // SQS delivered it twice, and the other delivery was done while this one waited.
            DuplicateDeleted { message }.record(&shared.parts.events);
            return Settlement::Delete;
        }
    }
}

fn context<Q, H>(shared: &Shared<Q, H>, delivery: &Delivery, attempt: u32) -> Context {
    let message = &delivery.message;
    let original = if message.story.is_some() {
        message.original_id().into()
    } else {
        Arc::clone(&message.id)
    };
    Context {
        identity: Arc::clone(&shared.parts.identity),
        original_message_id: original,
        attempt,
        deadline: Instant::now() + shared.options.deadline,
        cancellation: CancellationToken::new(),
    }
}

fn decide<Q, H>(shared: &Shared<Q, H>, delivery: &Delivery, ended: Ended) -> Settlement {
    let message = &delivery.message;
    match ended.ending {
        Ending::Done => {
            remember(shared, message);
            Settlement::Delete
        }
        Ending::Reject => Settlement::DeadLetter(ended.reason, ended.error),
        Ending::Lost if ended.reason == Reason::SHUTDOWN => Settlement::Return { started: true },
        Ending::Lost => Settlement::Forget,
        Ending::Retry | Ending::Timeout | Ending::Panic | Ending::Unavailable => {
            if is_last_receive(shared, message) {
                return Settlement::DeadLetter(ended.reason, ended.error);
            }
            let mut rng = shared.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let left = delivery.lease.left();
            Settlement::Delay(shared.options.retry.redelivery(
                message.receive_count,
                ended.after,
                left,
                &mut rng,
            ))
        }
    }
}

/// Hands the delivery to `settle`. `None` when it leaves the queue by that, else how soon it is visible again.
fn hand_over<Q, H>(
    shared: &Shared<Q, H>,
    settle: &Settle,
    delivery: Delivery,
    settlement: Settlement,
    settled: Option<oneshot::Sender<bool>>,
) -> Option<Duration> {
    let message = Arc::clone(&delivery.message);
    match settlement {
        Settlement::Forget => Some(RETURN_DELAY),
        Settlement::Delete => {
            settle.delete(delivery.ticket(settled));
            None
        }
        Settlement::Delay(after) => {
            settle.delay(delivery.ticket(None), after);
            Some(after)
        }
        Settlement::DeadLetter(reason, error) => {
            let story = story(shared, &message, reason, &error);
            match failure::copy(&message, story, shared.parts.dead_letter_target) {
                Ok((outgoing, story)) => {
                    let kind = CopyKind::DeadLetter { reason, story };
                    settle.copy(delivery.ticket(settled), outgoing, kind);
                    None
                }
                Err(error) => {
                    CopyImpossible {
                        message_id: &message.id,
                        error,
                    }
                    .record(&shared.parts.events);
                    settle.delay(delivery.ticket(None), RETURN_DELAY);
                    Some(RETURN_DELAY)
                }
            }
        }
        Settlement::Return { started } => {
            Returned {
                message: &message,
                started,
            }
            .record(&shared.parts.events);
            shared.health.handed_back();
            give_back(shared, settle, delivery, started);
            Some(RETURN_DELAY)
        }
    }
}

/// Makes a message that was not finished visible again.
///
/// On its last allowed receive SQS would dead-letter it instead, although it did not fail: on a standard queue a copy
/// goes back in its place, with its receives unspent. On a FIFO queue that would break the group's order; there the
/// message goes to the dead-letter queue, with a story that says so.
fn give_back<Q, H>(shared: &Shared<Q, H>, settle: &Settle, delivery: Delivery, started: bool) {
    let message = Arc::clone(&delivery.message);
    let delay = if started { RETURN_DELAY } else { Duration::ZERO };
    if !is_last_receive(shared, &message) {
        settle.delay(delivery.ticket(None), delay);
        return;
    }
    let fifo = shared.parts.description.fifo;
    let target = if fifo {
        shared.parts.dead_letter_target
    } else {
        Target {
            max_message_bytes: shared.parts.description.max_message_bytes,
            fifo,
        }
    };
    let story = story(
        shared,
        &message,
        Reason::SHUTDOWN,
        "the worker stopped on the message's last receive",
    );
    match failure::copy(&message, story, target) {
        Ok((outgoing, story)) if fifo => {
            settle.copy(
                delivery.ticket(None),
                outgoing,
                CopyKind::DeadLetter {
                    reason: Reason::SHUTDOWN,
                    story,
                },
            );
        }
        Ok((outgoing, _)) => settle.copy(delivery.ticket(None), outgoing, CopyKind::Requeue),
        Err(error) => {
            CopyImpossible {
                message_id: &message.id,
                error,
            }
            .record(&shared.parts.events);
            settle.delay(delivery.ticket(None), delay);
        }
    }
}

fn story<Q, H>(shared: &Shared<Q, H>, message: &Message, reason: Reason, error: &str) -> Story {
    let now = shared.parts.clock.now();
    let identity = &shared.parts.identity;
    let reason = shared.parts.events.metrics.known(reason);
    let mut attempts = message
        .story
        .as_ref()
        .map_or_else(Vec::new, |story| story.attempts.clone());
    attempts.push(AttemptRecord {
        release: identity.release.clone(),
        track: identity.track,
        outcome: outcome_of(reason).as_str().to_owned(),
        receive_count: message.receive_count,
        at: now,
    });
    Story {
        schema: failure::SCHEMA,
        release: identity.release.clone(),
        track: identity.track,
        reason: reason.as_str().to_owned(),
        error: (shared.options.max_error_bytes > 0).then(|| bounded(error, shared.options.max_error_bytes)),
        attempts,
        first_received_at: message.first_received_at.unwrap_or(now),
        failed_at: now,
        source_queue: shared.parts.description.name().to_owned(),
        original_message_id: message.original_id().to_owned(),
        redrives: message.story.as_ref().map_or(0, |story| story.redrives),
    }
}

/// The ending that goes with a reason: each built-in reason belongs to one, and all others are rejections.
fn outcome_of(reason: Reason) -> Ending {
    Ending::ALL
        .into_iter()
        .find(|ending| ending.reasons(&[reason]).next().is_some())
        .unwrap_or(Ending::Reject)
}

fn is_last_receive<Q, H>(shared: &Shared<Q, H>, message: &Message) -> bool {
    let redrive = shared.parts.description.redrive.as_ref();
    redrive.is_some_and(|redrive| message.receive_count >= redrive.max_receive_count)
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

fn observe_wait<Q, H>(shared: &Shared<Q, H>, message: &Message) {
    if message.delivery() == message::Delivery::First
        && let Some(sent_at) = message.sent_at
    {
        // Two clocks: a difference below zero is a skew, not a wait.
        let wait = shared
            .parts
            .clock
            .now()
            .duration_since(sent_at)
            .unwrap_or_default();
        shared.parts.events.metrics.queue_wait.record(wait.as_secs_f64());
    }
}

/// Waits until an attempt that was ended from outside has really ended. True when it ended `Done`.
async fn await_end<Q, H>(shared: &Shared<Q, H>, message: &Message, remains: &mut Remains) -> bool {
    if let Ok(done) = timeout(STUCK_AFTER, remains.ended()).await {
        return done;
    }
    AttemptStuck {
        message,
        since: STUCK_AFTER,
    }
    .record(&shared.parts.events);
    shared.health.stuck(true);
    let done = remains.ended().await;
    shared.health.stuck(false);
    shared.parts.events.metrics.stuck.decrement(1.0);
    done
}
