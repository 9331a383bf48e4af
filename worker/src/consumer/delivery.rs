//! One delivery, from its attempt to the way it is settled.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::reflexes::{Probe, Refused, was_cut_off};
use crate::attempt::{self, Ended, Ending, Remains};
use crate::breaker::rate::Trial;
use crate::events::{AttemptEnded, AttemptStuck, CopyImpossible, DuplicateDeleted, Returned, StoryBroken};
use crate::evidence::{Judged, Receive};
use crate::failure::{self, ATTRIBUTE, AttemptRecord, Story, Target, bounded};
use crate::handler::{Context, Handler, Reason};
use crate::lease::Lease;
use crate::message::{self, Message};
use crate::metrics::HandoverResult;
use crate::queue::Queue;
use crate::settle::{CopyKind, Settle, Ticket};

/// An attempt that was ended and goes on for longer than this is called stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long a message stays invisible whose attempt was cut off: its end must not race the next attempt.
const RETURN_DELAY: Duration = Duration::from_secs(1);

/// The longest delay SQS takes with a message that is sent.
const MAX_SEND_DELAY: Duration = Duration::from_secs(900);

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

/// What to do with a delivery after its attempts.
#[derive(Debug)]
enum Settlement {
    Delete,
    Delay(Duration),
    DeadLetter(Reason, String),
    /// A stable worker is to have it.
    HandOver(Handover),
    /// Hand it back unfinished: the worker stops, or SQS's 12 h are over. Whether an attempt was begun.
    Return {
        started: bool,
    },
    /// The handle is worthless.
    Forget,
}

/// What a message is handed over with.
#[derive(Debug)]
struct Handover {
    reason: Reason,
    error: String,
    /// How long a stable worker is to wait for it.
    after: Duration,
    /// Whether there was an attempt.
    attempted: bool,
}

impl Handover {
    /// Without another attempt, since the rate breaker is open.
    fn by_breaker(attempted: bool) -> Self {
        Self {
            reason: Reason::BREAKER,
            error: "the canary's rate breaker is open".to_owned(),
            after: Duration::ZERO,
            attempted,
        }
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
    } else if let Err(refused) = shared.reflexes.admits(delivery.probe.is_some()) {
        match refused {
            Refused::Breaker => withdrawn(shared, &delivery.message, false),
            Refused::Paused => Settlement::Return { started: false },
        }
    } else {
        shared.parts.events.metrics.in_flight.increment(1.0);
        let settlement = attempts(shared, &mut delivery).await;
        shared.parts.events.metrics.in_flight.decrement(1.0);
        settlement
    };
    if let Some(slot) = delivery.slot.take() {
        shared.reflexes.free(slot);
    }
    delivery.probe = None;
    delivery.trial = None;
    if !ordered {
        return dispose(shared, settle, delivery, settlement, None);
    }
    let (sender, receiver) = oneshot::channel();
    let comes_back = dispose(shared, settle, delivery, settlement, Some(sender));
    if comes_back.is_some() || receiver.await.unwrap_or(false) {
        return comes_back;
    }
    Some(shared.options.settle.refused_delay)
}

/// Makes attempts until the delivery can be settled: `Unavailable` is tried again in place, under the lease.
async fn attempts<Q: Queue, H: Handler>(shared: &Shared<Q, H>, delivery: &mut Delivery) -> Settlement {
    let message = Arc::clone(&delivery.message);
    let mut in_place = 0;
    if delivery.probe.is_none()
        && !shared.reflexes.dependency.is_closed()
        && let Some(settlement) = wait_in_place(shared, delivery, Duration::ZERO, false).await
    {
        return settlement;
    }
    // Ends with the lease at the latest, which SQS limits to 12 h.
    loop {
        let attempt = message.receive_count.saturating_add(in_place);
        let (ended, mut remains) = one_attempt(shared, delivery, attempt, in_place == 0).await;
        if await_end(shared, &message, &mut remains).await {
            // It was done after all, in the moment it was ended.
            remember(shared, &message);
            handover_result(shared, &message, HandoverResult::Recovered);
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
        if let Some(settlement) = wait_in_place(shared, delivery, wait, true).await {
            return settlement;
        }
        if is_done(shared, &delivery.message) {
            // SQS delivered it twice, and the other delivery was done while this one waited.
            DuplicateDeleted {
                message: &delivery.message,
            }
            .record(&shared.parts.events);
            return Settlement::Delete;
        }
    }
}

/// Makes one attempt, and tells events, evidence and breakers how it ended.
async fn one_attempt<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &mut Delivery,
    attempt: u32,
    first: bool,
) -> (Ended, Remains) {
    let message = Arc::clone(&delivery.message);
    let context = context(shared, delivery, attempt);
    let signals = Arc::clone(&context.signals);
    let judged = first.then(|| begin(shared, delivery)).flatten();
    let breaker = shared.reflexes.rate.as_ref().map(|rate| rate.cut());
    let (ended, remains) = attempt::run(
        &shared.parts.handler,
        &message,
        context,
        &delivery.lease,
        &shared.shutdown.cut,
        breaker.as_ref(),
        shared.parts.description.name(),
    )
    .await;
    AttemptEnded {
        message: &message,
        attempt,
        ended: &ended,
    }
    .record(&shared.parts.events);
    let cut_off = was_cut_off(&ended);
    if !cut_off {
        shared.health.attempted(ended.ending == Ending::Done);
    }
    if let (Some(evidence), Some(judged)) = (&shared.steering.evidence, judged) {
        let signals = signals.lock().unwrap_or_else(PoisonError::into_inner);
        evidence.end(
            &judged,
            &message.id,
            ended.ending,
            cut_off,
            ended.elapsed,
            &signals,
        );
    }
    shared.reflexes.ended(&ended, delivery.trial.take());
    delivery.probe = None;
    (ended, remains)
}

/// Notes that the first attempt begins.
fn begin<Q, H>(shared: &Shared<Q, H>, delivery: &mut Delivery) -> Option<Judged> {
    let wait = observe_wait(shared, &delivery.message);
    let evidence = shared.steering.evidence.as_ref()?;
    delivery
        .receive
        .take()
        .map(|receive| evidence.begin(&receive, wait))
}

/// Waits until the message may be tried again, or tells what else to do with it.
async fn wait_in_place<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &Delivery,
    wait: Duration,
    started: bool,
) -> Option<Settlement> {
    let spare = delivery.lease.left().saturating_sub(shared.options.deadline);
    if spare <= wait {
        return Some(Settlement::Return { started });
    }
    let cut = shared.reflexes.rate.as_ref().map(|rate| rate.cut());
    tokio::select! {
        biased;
        () = shared.reflexes.in_place(wait) => None,
        () = sleep(spare) => Some(Settlement::Return { started }),
        () = delivery.lease.lost() => Some(Settlement::Forget),
        () = shared.shutdown.stop.cancelled() => Some(Settlement::Return { started }),
        () = shared.reflexes.gate.shut() => Some(Settlement::Return { started }),
        () = attempt::opened(cut.as_ref()) => Some(withdrawn(shared, &delivery.message, started)),
    }
}

/// What becomes of a message that the rate breaker takes away from this release.
fn withdrawn<Q, H>(shared: &Shared<Q, H>, message: &Message, started: bool) -> Settlement {
    if hands_over(shared, message) {
        Settlement::HandOver(Handover::by_breaker(started))
    } else {
        Settlement::Return { started }
    }
}

/// Whether a stable worker takes what fails here. Once to a message: a second time it would go round in circles.
fn hands_over<Q, H>(shared: &Shared<Q, H>, message: &Message) -> bool {
    shared.steering.handover.is_some()
        && !shared.parts.description.fifo
        && shared.reflexes.directives.now().control.handover.unwrap_or(true)
        && message
            .story
            .as_ref()
            .is_none_or(|story| story.handed_over_by.is_none())
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
        signals: Arc::default(),
    }
}

fn decide<Q, H>(shared: &Shared<Q, H>, delivery: &Delivery, ended: Ended) -> Settlement {
    let message = &delivery.message;
    match ended.ending {
        Ending::Done => {
            remember(shared, message);
            handover_result(shared, message, HandoverResult::Recovered);
            Settlement::Delete
        }
        Ending::Retry | Ending::Timeout | Ending::Panic | Ending::Reject if hands_over(shared, message) => {
            Settlement::HandOver(Handover {
                reason: ended.reason,
                error: ended.error,
                after: ended.after.unwrap_or_default(),
                attempted: true,
            })
        }
        Ending::Reject => Settlement::DeadLetter(ended.reason, ended.error),
        Ending::Lost if ended.reason == Reason::BREAKER => withdrawn(shared, message, true),
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
fn dispose<Q, H>(
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
            handover_result(shared, &message, HandoverResult::Confirmed);
            let story = story(shared, &message, reason, &error, true);
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
        Settlement::HandOver(handover) => copy_over(shared, settle, delivery, &handover, settled),
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

/// Copies the message to the handover queue, or back where it came from if it does not fit there.
fn copy_over<Q, H>(
    shared: &Shared<Q, H>,
    settle: &Settle,
    delivery: Delivery,
    handover: &Handover,
    settled: Option<oneshot::Sender<bool>>,
) -> Option<Duration> {
    let message = Arc::clone(&delivery.message);
    let mut story = story(
        shared,
        &message,
        handover.reason,
        &handover.error,
        handover.attempted,
    );
    story.handed_over_by = Some(shared.parts.identity.release.clone());
    // `hands_over` has seen that there is one.
    let target = shared
        .steering
        .handover
        .as_ref()
        .map_or(shared.parts.dead_letter_target, |to| to.target);
    match failure::copy(&message, story, target) {
        Ok((mut outgoing, story)) => {
            outgoing.delay = handover.after.min(MAX_SEND_DELAY);
            let kind = CopyKind::Handover {
                reason: handover.reason,
                story,
            };
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

/// Counts what became of a message that a canary failed.
fn handover_result<Q, H>(shared: &Shared<Q, H>, message: &Message, result: HandoverResult) {
    if shared.steering.handed_over_from.is_some() {
        let story = message.story.as_ref();
        let failed = story.map(|story| story.handed_over_by.as_ref().unwrap_or(&story.release).as_str());
        shared.parts.events.metrics.handover_result(failed, result);
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
        true,
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

fn story<Q, H>(
    shared: &Shared<Q, H>,
    message: &Message,
    reason: Reason,
    error: &str,
    attempted: bool,
) -> Story {
    let now = shared.parts.clock.now();
    let identity = &shared.parts.identity;
    let reason = shared.parts.events.metrics.known(reason);
    let mut attempts = message
        .story
        .as_ref()
        .map_or_else(Vec::new, |story| story.attempts.clone());
    if attempted {
        attempts.push(AttemptRecord {
            release: identity.release.clone(),
            track: identity.track,
            outcome: outcome_of(reason).as_str().to_owned(),
            receive_count: message.receive_count,
            at: now,
        });
    }
    // What a canary handed over goes back to the main queue when it is redriven.
    let main = shared.steering.handed_over_from.as_deref();
    Story {
        schema: failure::SCHEMA,
        release: identity.release.clone(),
        track: identity.track,
        reason: reason.as_str().to_owned(),
        error: (shared.options.max_error_bytes > 0).then(|| bounded(error, shared.options.max_error_bytes)),
        attempts,
        first_received_at: message.first_received_at.unwrap_or(now),
        failed_at: now,
        source_queue: main.unwrap_or(shared.parts.description.name()).to_owned(),
        original_message_id: message.original_id().to_owned(),
        redrives: message.story.as_ref().map_or(0, |story| story.redrives),
        handed_over_by: message
            .story
            .as_ref()
            .and_then(|story| story.handed_over_by.clone()),
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

/// How long the message waited in the queue; on its first delivery only.
fn observe_wait<Q, H>(shared: &Shared<Q, H>, message: &Message) -> Option<Duration> {
    let sent_at = message
        .sent_at
        .filter(|_| message.delivery() == message::Delivery::First)?;
    // Two clocks: a difference below zero is a skew, not a wait.
    let wait = shared
        .parts
        .clock
        .now()
        .duration_since(sent_at)
        .unwrap_or_default();
    shared.parts.events.metrics.queue_wait.record(wait.as_secs_f64());
    Some(wait)
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
