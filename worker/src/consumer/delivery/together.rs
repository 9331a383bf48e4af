//! The first attempts over the messages of one receive, side by side.
//!
//! One task looks after all of them, with one timer, since they have one deadline: what a message costs is the task of its
//! handler. What does not end with its first attempt, by itself, goes on in a task of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::super::Shared;
use super::attempts::{Begun, attempts, refusal};
use super::settlement::{Settlement, decide};
use super::{Delivery, conclude, is_done, process};
use crate::attempt::{self, Cause, Ended, Ending, Remains, Running};
use crate::events::DuplicateDeleted;
use crate::handler::Handler;
use crate::queue::Queue;
use crate::settle::Settle;

/// A first attempt under way.
struct First {
    delivery: Delivery,
    running: Running,
    begun: Begun,
}

/// Processes the deliveries of one receive of a standard queue. `bell` is that of their leases.
pub(in super::super) async fn process_together<Q: Queue, H: Handler>(
    shared: Arc<Shared<Q, H>>,
    settle: Arc<Settle>,
    deliveries: Vec<Delivery>,
    bell: Arc<Notify>,
) {
    let mut rung = std::pin::pin!(bell.notified());
    // A loss while they are begun must be heard.
    rung.as_mut().enable();
    // Before they begin: none may be missed when it opens.
    let breaker = shared.reflexes.rate.as_ref().map(|rate| rate.cut());
    let end = Instant::now() + shared.options.deadline;
    let begin = |delivery| begin(&shared, &settle, delivery, end);
    let mut firsts: Vec<First> = deliveries.into_iter().filter_map(begin).collect();
    let mut cut = std::pin::pin!(shared.shutdown.cut.cancelled());
    let mut opened = std::pin::pin!(attempt::opened(breaker.as_ref()));
    let mut deadline = std::pin::pin!(sleep_until(end));
    // Each turn ends an attempt, or is one of the few signals.
    while !firsts.is_empty() {
        let cause = tokio::select! {
            biased;
            (index, ended) = poll_fn(|cx| poll_ended(&mut firsts, cx)) => {
                has_ended(&shared, &settle, firsts.swap_remove(index), ended);
                continue;
            }
            () = rung.as_mut() => {
                rung.set(bell.notified());
                rung.as_mut().enable();
                Cause::LeaseLost
            }
            () = &mut cut => Cause::Shutdown,
            () = &mut opened => Cause::Breaker,
            () = &mut deadline => Cause::Deadline,
        };
        let is_meant = |first: &mut First| cause != Cause::LeaseLost || first.delivery.lease.is_lost();
        for first in firsts.extract_if(.., is_meant) {
            end_now(&shared, &settle, first, cause);
        }
    }
}

/// Begins the attempt, unless something else is to be done with the delivery.
fn begin<Q: Queue, H: Handler>(
    shared: &Arc<Shared<Q, H>>,
    settle: &Arc<Settle>,
    mut delivery: Delivery,
    deadline: Instant,
) -> Option<First> {
    let otherwise = if is_done(shared, &delivery.message) {
        DuplicateDeleted {
            message: &delivery.message,
        }
        .record(&shared.parts.events);
        Some(Settlement::Delete)
    } else {
        refusal(shared, &delivery, false)
    };
    if let Some(settlement) = otherwise {
        conclude(shared, settle, delivery, settlement, None);
        return None;
    }
    if delivery.probe.is_none() && !shared.reflexes.dependency.is_closed() {
        // It has to wait for its turn.
        let (shared, settle) = (Arc::clone(shared), Arc::clone(settle));
        shared
            .deliveries
            .clone()
            .spawn(process(shared, settle, vec![delivery]));
        return None;
    }
    shared.parts.events.metrics.in_flight.increment(1.0);
    let (running, begun) = Begun::start(shared, &mut delivery, deadline, 0);
    Some(First {
        delivery,
        running,
        begun,
    })
}

/// The first of those that have ended by themselves.
fn poll_ended(firsts: &mut [First], cx: &mut Context<'_>) -> Poll<(usize, Ended)> {
    for (index, first) in firsts.iter_mut().enumerate() {
        if let Poll::Ready(ended) = first.running.poll_ended(cx) {
            return Poll::Ready((index, ended));
        }
    }
    Poll::Pending
}

fn has_ended<Q: Queue, H: Handler>(
    shared: &Arc<Shared<Q, H>>,
    settle: &Arc<Settle>,
    first: First,
    ended: Ended,
) {
    let First {
        mut delivery, begun, ..
    } = first;
    begun.end(shared, &mut delivery, &ended);
    if ended.ending == Ending::Unavailable {
        go_on(shared, settle, delivery, ended, Remains::nothing());
        return;
    }
    shared.parts.events.metrics.in_flight.decrement(1.0);
    let settlement = decide(shared, &delivery, ended);
    conclude(shared, settle, delivery, settlement, None);
}

fn end_now<Q: Queue, H: Handler>(
    shared: &Arc<Shared<Q, H>>,
    settle: &Arc<Settle>,
    first: First,
    cause: Cause,
) {
    let First {
        mut delivery,
        running,
        begun,
    } = first;
    let (ended, remains) = running.end(cause);
    begun.end(shared, &mut delivery, &ended);
    go_on(shared, settle, delivery, ended, remains);
}

/// Leaves the delivery to a task of its own after its first attempt.
fn go_on<Q: Queue, H: Handler>(
    shared: &Arc<Shared<Q, H>>,
    settle: &Arc<Settle>,
    mut delivery: Delivery,
    ended: Ended,
    remains: Remains,
) {
    let (shared, settle) = (Arc::clone(shared), Arc::clone(settle));
    let deliveries = shared.deliveries.clone();
    deliveries.spawn(async move {
        let settlement = attempts(&shared, &mut delivery, Some((ended, remains))).await;
        shared.parts.events.metrics.in_flight.decrement(1.0);
        conclude(&shared, &settle, delivery, settlement, None);
    });
}
