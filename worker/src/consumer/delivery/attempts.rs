//! The attempts over one delivery, in place under its lease, until it can be settled.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::super::reflexes::{Refused, was_cut_off};
use super::settlement::{Settlement, decide, handover_result, withdrawn};
use super::{Delivery, is_done, is_last_chance, remember};
use crate::attempt::{self, Ended, Ending, Remains};
use crate::events::{AttemptEnded, AttemptStuck, DuplicateDeleted};
use crate::evidence::Judged;
use crate::handler::{Context, Handler};
use crate::message::{self, Message};
use crate::metrics::HandoverResult;
use crate::queue::Queue;

/// An attempt that was ended and goes on for longer than this is called stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Makes attempts until the delivery can be settled: `Unavailable` is tried again in place, under the lease.
pub(super) async fn attempts<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &mut Delivery,
) -> Settlement {
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

/// Waits until the first attempt may begin, or tells what else to do with the delivery.
pub(super) async fn hindrance<Q: Queue, H: Handler>(
    shared: &Shared<Q, H>,
    delivery: &Delivery,
) -> Option<Settlement> {
    let last_chance = is_last_chance(shared, &delivery.message);
    let untried = || Some(Settlement::Return { started: false });
    // Each turn waits for the end of a pause, and ends with the lease at the latest.
    loop {
        if delivery.lease.is_lost() {
            return Some(Settlement::Forget);
        }
        if delivery.slot.is_none() || stops(shared, last_chance).is_cancelled() {
            return untried();
        }
        match shared.reflexes.admits(delivery.probe.is_some()) {
            Ok(()) => return None,
            Err(Refused::Breaker) => return Some(withdrawn(shared, &delivery.message, false)),
            Err(Refused::Paused) if !last_chance || shared.shutdown.stop.is_cancelled() => return untried(),
            Err(Refused::Paused) => {}
        }
        tokio::select! {
            biased;
            () = delivery.lease.lost() => return Some(Settlement::Forget),
            () = shared.shutdown.stop.cancelled() => {}
            () = shared.reflexes.gate.opened() => {}
            () = sleep(spare(shared, delivery)) => return untried(),
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
