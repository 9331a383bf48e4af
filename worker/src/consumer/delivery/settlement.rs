//! How a delivery is settled: what an attempt's end asks for, and what is done about it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::Shared;
use super::story::story;
use super::{Delivery, is_last_receive, remember};
use crate::attempt::{Ended, Ending};
use crate::events::{CopyImpossible, Returned};
use crate::failure::{self, Target, TooLarge};
use crate::handler::Reason;
use crate::message::Message;
use crate::metrics::HandoverResult;
use crate::settle::{CopyKind, Settle};

/// How long a message stays invisible whose attempt was cut off: its end must not race the next attempt.
const RETURN_DELAY: Duration = Duration::from_secs(1);

/// The longest delay SQS takes with a message that is sent.
const MAX_SEND_DELAY: Duration = Duration::from_secs(900);

/// What to do with a delivery after its attempts.
#[derive(Debug)]
pub(super) enum Settlement {
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
pub(super) struct Handover {
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

/// What becomes of a message that the rate breaker takes away from this release.
pub(super) fn withdrawn<Q, H>(shared: &Shared<Q, H>, message: &Message, started: bool) -> Settlement {
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

/// What the end of the last attempt asks for.
pub(super) fn decide<Q, H>(shared: &Shared<Q, H>, delivery: &Delivery, ended: Ended) -> Settlement {
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
pub(super) fn dispose<Q, H>(
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
                    left_to_sqs(shared, settle, delivery, error, RETURN_DELAY);
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
            give_back(shared, settle, delivery, started, settled)
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
            left_to_sqs(shared, settle, delivery, error, RETURN_DELAY);
            Some(RETURN_DELAY)
        }
    }
}

/// Counts what became of a message that a canary failed.
pub(super) fn handover_result<Q, H>(shared: &Shared<Q, H>, message: &Message, result: HandoverResult) {
    if shared.steering.handed_over_from.is_some() {
        let story = message.story.as_ref();
        let failed = story.map(|story| story.handed_over_by.as_ref().unwrap_or(&story.release).as_str());
        shared.parts.events.metrics.handover_result(failed, result);
    }
}

/// Makes a message that was not finished visible again. `None` when it leaves the queue instead.
///
/// On its last allowed receive SQS would dead-letter it, although it did not fail: on a standard queue a copy goes back in its
/// place, with its receives unspent. On a FIFO queue that would break the group's order; there the message goes to the
/// dead-letter queue, with a story that says so, and says whether it was tried.
fn give_back<Q, H>(
    shared: &Shared<Q, H>,
    settle: &Settle,
    delivery: Delivery,
    started: bool,
    settled: Option<oneshot::Sender<bool>>,
) -> Option<Duration> {
    let delay = if started { RETURN_DELAY } else { Duration::ZERO };
    if !is_last_receive(shared, &delivery.message) {
        settle.delay(delivery.ticket(None), delay);
        return Some(RETURN_DELAY);
    }
    let (message, fifo) = (Arc::clone(&delivery.message), shared.parts.description.fifo);
    let (reason, error) = if fifo && !started {
        let error = "it was not tried on its last receive: the worker stops, is paused, or has no room";
        (Reason::BLOCKED, error)
    } else {
        (
            Reason::SHUTDOWN,
            "the worker stopped on the message's last receive",
        )
    };
    let target = if fifo {
        shared.parts.dead_letter_target
    } else {
        Target {
            max_message_bytes: shared.parts.description.max_message_bytes,
            fifo,
        }
    };
    let story = story(shared, &message, reason, error, started);
    match failure::copy(&message, story, target) {
        Ok((outgoing, story)) => {
            let kind = if fifo {
                CopyKind::DeadLetter { reason, story }
            } else {
                CopyKind::Requeue
            };
            settle.copy(delivery.ticket(settled), outgoing, kind);
            None
        }
        Err(error) => {
            left_to_sqs(shared, settle, delivery, error, delay);
            Some(RETURN_DELAY)
        }
    }
}

/// Notes that no copy can be made, and makes the message visible again: SQS's redrive policy has the last word.
fn left_to_sqs<Q, H>(
    shared: &Shared<Q, H>,
    settle: &Settle,
    delivery: Delivery,
    error: TooLarge,
    delay: Duration,
) {
    CopyImpossible {
        message_id: &delivery.message.id,
        error,
    }
    .record(&shared.parts.events);
    settle.delay(delivery.ticket(None), delay);
}
