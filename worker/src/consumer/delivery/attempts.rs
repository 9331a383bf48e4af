//! The attempts over one delivery, in place under its lease, until it can be settled.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::super::reflexes::{Refused, was_cut_off};
use super::settlement::{Settlement, decide, handover_result, withdrawn};
use super::{Delivery, is_done, is_last_chance, remember};
use crate::attempt::{self, Ended, Ending, Remains, Running};
use crate::events::{AttemptEnded, AttemptStuck, DuplicateDeleted};
use crate::evidence::Judged;
use crate::handler::{Context, Course, Handler};
use crate::message::{self, Message};
use crate::metrics::HandoverResult;
use crate::queue::Queue;

/// An attempt that was ended and goes on for longer than this is called stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Makes attempts until the delivery can be settled: `Unavailable` is tried again in place, under the lease.
///
/// `first`: how the first one ended, if it was made elsewhere.
pub(super) async fn attempts<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &mut Delivery,
    mut first: Option<(Ended, Remains)>,
) -> Settlement {
    let message = Arc::clone(&delivery.message);
    let mut in_place = 0;
    if first.is_none()
        && delivery.probe.is_none()
        && !shared.reflexes.dependency.is_closed()
        && let Some(settlement) = wait_in_place(shared, delivery, Duration::ZERO, false).await
    {
        return settlement;
    }
    // Ends with the lease at the latest, which SQS limits to 12 h.
    loop {
        let (ended, mut remains) = match first.take() {
            Some(first) => first,
            None => one_attempt(shared, delivery, in_place).await,
        };
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
    in_place: u32,
) -> (Ended, Remains) {
    let deadline = Instant::now() + shared.options.deadline;
    let breaker = shared.reflexes.rate.as_ref().map(|rate| rate.cut());
    let (running, begun) = Begun::start(shared, delivery, deadline, in_place);
    let cut = &shared.shutdown.cut;
    let (ended, remains) = attempt::run(running, deadline, &delivery.lease, cut, breaker.as_ref()).await;
    begun.end(shared, delivery, &ended);
    (ended, remains)
}

/// What is kept of an attempt from its beginning to its end.
#[derive(Debug)]
pub(super) struct Begun {
    number: u32,
    course: Arc<Course>,
    judged: Option<Judged>,
}

impl Begun {
    /// Begins an attempt, after so many that were made in place.
    pub(super) fn start<Q, H: Handler>(
        shared: &Shared<Q, H>,
        delivery: &mut Delivery,
        deadline: Instant,
        in_place: u32,
    ) -> (Running, Self) {
        let message = &delivery.message;
        let number = message.receive_count.saturating_add(in_place);
        let original_message_id = if message.story.is_some() {
            message.original_id().into()
        } else {
            Arc::clone(&message.id)
        };
        let identity = Arc::clone(&shared.parts.identity);
        let context = Context::new(identity, original_message_id, number, deadline);
        let begun = Self {
            number,
            course: Arc::clone(&context.course),
            judged: (in_place == 0).then(|| judge(shared, delivery)).flatten(),
        };
        let queue = shared.parts.description.name();
        let running = Running::start(&shared.parts.handler, &delivery.message, context, queue);
        (running, begun)
    }

    /// Tells events, evidence and breakers how it ended.
    pub(super) fn end<Q, H>(self, shared: &Shared<Q, H>, delivery: &mut Delivery, ended: &Ended) {
        AttemptEnded {
            message: &delivery.message,
            attempt: self.number,
            ended,
        }
        .record(&shared.parts.events);
        let cut_off = was_cut_off(ended);
        if !cut_off {
            shared.health.attempted(ended.ending == Ending::Done);
        }
        if let (Some(evidence), Some(judged)) = (&shared.steering.evidence, self.judged) {
            evidence.end(
                &judged,
                &delivery.message.id,
                ended.ending,
                cut_off,
                ended.elapsed,
                &self.course.signals(),
            );
        }
        shared.reflexes.ended(ended, delivery.trial.take());
        delivery.probe = None;
    }
}

/// Notes that the first attempt begins.
fn judge<Q, H>(shared: &Shared<Q, H>, delivery: &mut Delivery) -> Option<Judged> {
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
    let spare = spare(shared, delivery);
    if spare <= wait {
        return Some(Settlement::Return { started });
    }
    let last_chance = is_last_chance(shared, &delivery.message);
    let cut = shared.reflexes.rate.as_ref().map(|rate| rate.cut());
    tokio::select! {
        biased;
        () = turn(shared, wait, last_chance) => None,
        () = sleep(spare) => Some(Settlement::Return { started }),
        () = delivery.lease.lost() => Some(Settlement::Forget),
        () = stops(shared, last_chance).cancelled() => Some(Settlement::Return { started }),
        () = shared.reflexes.gate.shut(), if !last_chance => Some(Settlement::Return { started }),
        () = attempt::opened(cut.as_ref()) => Some(withdrawn(shared, &delivery.message, started)),
    }
}

/// Waits for the turn of a message that is tried in place; through pauses as well, if it `outlasts_pauses`.
async fn turn<Q, H>(shared: &Shared<Q, H>, wait: Duration, outlasts_pauses: bool) {
    if !outlasts_pauses {
        return shared.reflexes.in_place(wait).await;
    }
    // Each turn ends with a pause that begins.
    loop {
        shared.reflexes.gate.opened().await;
        tokio::select! {
            biased;
            () = shared.reflexes.gate.shut() => {}
            () = shared.reflexes.in_place(wait) => return,
        }
    }
}

/// What is to be done with a delivery instead of a first attempt, if anything. On its last chance a pause is no such thing.
pub(super) fn refusal<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &Delivery,
    last_chance: bool,
) -> Option<Settlement> {
    if delivery.lease.is_lost() {
        return Some(Settlement::Forget);
    }
    if delivery.slot.is_none() || stops(shared, last_chance).is_cancelled() {
        return Some(Settlement::Return { started: false });
    }
    match shared.reflexes.admits(delivery.probe.is_some()) {
        Ok(()) => None,
        Err(Refused::Breaker) => Some(withdrawn(shared, &delivery.message, false)),
        Err(Refused::Paused) if last_chance && !shared.shutdown.stop.is_cancelled() => None,
        Err(Refused::Paused) => Some(Settlement::Return { started: false }),
    }
}

/// Waits until the first attempt may begin, or tells what else to do with the delivery.
pub(super) async fn hindrance<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &Delivery,
) -> Option<Settlement> {
    let last_chance = is_last_chance(shared, &delivery.message);
    // Each turn waits for the end of a pause, and ends with the lease at the latest.
    loop {
        let refusal = refusal(shared, delivery, last_chance);
        if refusal.is_some() || !shared.reflexes.gate.is_shut() {
            return refusal;
        }
        tokio::select! {
            biased;
            () = delivery.lease.lost() => {}
            () = shared.shutdown.stop.cancelled() => {}
            () = shared.reflexes.gate.opened() => {}
            () = sleep(spare(shared, delivery)) => return Some(Settlement::Return { started: false }),
        }
    }
}

/// What ends the time in which attempts may begin: a message that cannot go back is tried until the worker must cut it off.
fn stops<Q, H>(shared: &Shared<Q, H>, last_chance: bool) -> &CancellationToken {
    if last_chance {
        &shared.shutdown.cut
    } else {
        &shared.shutdown.stop
    }
}

/// How long the delivery can wait and still have time for an attempt.
fn spare<Q, H>(shared: &Shared<Q, H>, delivery: &Delivery) -> Duration {
    delivery.lease.left().saturating_sub(shared.options.deadline)
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
