//! The poll loop: receives for free slots only, with more pollers while the queue is full and one when it is quiet.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::Shared;
use super::delivery::{self, Delivery};
use super::health::TICK;
use super::reflexes::{Leave, Reflexes};
use crate::events::{Draining, PollFailed, PollsRecovered};
use crate::handler::Handler;
use crate::queue::{ErrorKind, MAX_BATCH, Queue, QueueError, ReceiveRequest};
use crate::settle::Settle;

/// While the queue is full, a poll waits this long for more slots to become free: one request for ten messages costs
/// a tenth of ten requests.
const LINGER: Duration = Duration::from_millis(50);

/// While it drains, the poll loop looks this often at what is still in hand.
const DRAIN_TICK: Duration = Duration::from_millis(200);

/// More receives than this at once gain nothing: each can bring ten messages a round trip.
const MAX_POLLERS: usize = 64;

/// Room for the messages of one receive.
#[derive(Debug)]
struct Room {
    slots: OwnedSemaphorePermit,
    holds: OwnedSemaphorePermit,
    leave: Leave,
}

struct Polled {
    asked: usize,
    room: Room,
    result: Result<Vec<crate::message::Message>, QueueError>,
}

/// Polls until the shutdown, then until every delivery has been handed to `settle`.
pub(super) async fn run<Q: Queue, H: Handler>(shared: &Arc<Shared<Q, H>>, settle: Arc<Settle>) {
    let mut polls: JoinSet<Polled> = JoinSet::new();
    let mut pace = Pace::new(shared.options.concurrency);
    let mut directives = shared.reflexes.directives.clone();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    await_handler(shared, &mut tick).await;
    shared.health.polling(true);
    // Bounded by the shutdown; each turn waits for one of its branches.
    loop {
        shared.health.wake();
        set_gauges(shared, polls.len());
        let may_poll = polls.len() < pace.pollers && pace.pause.is_none();
        tokio::select! {
            biased;
            () = shared.shutdown.stop.cancelled() => break,
            Some(polled) = polls.join_next() => {
                if let Ok(polled) = polled {
                    take_in(shared, &settle, polled, &mut pace);
                }
            }
            () = directives.changed() => shared.reflexes.obey(),
            room = find_room(&shared.slots, &shared.holds, &shared.reflexes, &pace), if may_poll => {
                pace.last = Instant::now();
                polls.spawn(poll(Arc::clone(shared), room));
            }
            () = sleep_until(pace.pause.unwrap_or_else(Instant::now)), if pace.pause.is_some() => pace.pause = None,
            _ = tick.tick() => shared.reflexes.set_gauges(),
        }
    }
    shared.health.polling(false);
    Draining {
        receives: polls.len(),
        wait: shared.options.wait,
        in_hand: shared.leases.held(),
    }
    .record(&shared.parts.events);
    // Receives under way are never aborted: SQS may already have handed out messages. Each has a timeout.
    shared.deliveries.close();
    let mut tick = interval(DRAIN_TICK);
    loop {
        shared.health.wake();
        set_gauges(shared, polls.len());
        tokio::select! {
            biased;
            Some(polled) = polls.join_next() => {
                if let Ok(polled) = polled {
                    take_in(shared, &settle, polled, &mut pace);
                }
            }
            () = shared.deliveries.wait(), if polls.is_empty() => break,
            _ = tick.tick() => {}
        }
    }
    set_gauges(shared, 0);
}

/// Waits until the handler can take messages, or the shutdown. Waiting is no lack of life.
async fn await_handler<Q: Queue, H: Handler>(shared: &Shared<Q, H>, tick: &mut Interval) {
    let mut ready = std::pin::pin!(shared.parts.handler.ready());
    // As long as the handler says, and no longer than until the shutdown.
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.stop.cancelled() => break,
            () = &mut ready => break,
            _ = tick.tick() => shared.health.wake(),
        }
    }
}

/// How eagerly to poll.
#[derive(Debug)]
struct Pace {
    pollers: usize,
    max_pollers: usize,
    /// Whether the last receive brought all it asked for.
    full: bool,
    /// How many slots to wait for while the queue is full: a tenth, so that at most a tenth is idle.
    want: usize,
    last: Instant,
    /// No polls before this instant: the last one failed.
    pause: Option<Instant>,
}

impl Pace {
    fn new(concurrency: usize) -> Self {
        Self {
            pollers: 1,
            max_pollers: concurrency.div_ceil(MAX_BATCH).saturating_add(1).min(MAX_POLLERS),
            full: false,
            want: (concurrency / MAX_BATCH).clamp(1, MAX_BATCH),
            last: Instant::now(),
            pause: None,
        }
    }

    fn received(&mut self, asked: usize, got: usize) {
        self.full = got >= asked;
        if self.full {
            self.pollers = (self.pollers * 2).min(self.max_pollers);
        } else if got == 0 {
            self.pollers = (self.pollers / 2).max(1);
        }
    }

    fn failed(&mut self, wait: Duration) {
        self.pollers = 1;
        self.full = false;
        self.pause = Some(Instant::now() + wait);
    }
}

/// Waits for at least one free slot, and takes up to a batch. Cancel safe: what was taken is given back.
async fn find_room(slots: &Arc<Semaphore>, holds: &Arc<Semaphore>, reflexes: &Reflexes, pace: &Pace) -> Room {
    let first = if pace.full && pace.want > 1 {
        let wanted = u32::try_from(pace.want).unwrap_or(1);
        timeout_at(pace.last + LINGER, Arc::clone(slots).acquire_many_owned(wanted))
            .await
            .ok()
    } else {
        None
    };
    let first = match first {
        Some(permit) => permit,
        None => Arc::clone(slots).acquire_owned().await,
    };
    // The semaphores are never closed; if they were, there would be nothing left to wait for.
    let Ok(mut permit) = first else {
        return std::future::pending().await;
    };
    let more = MAX_BATCH
        .saturating_sub(permit.num_permits())
        .min(slots.available_permits());
    if more > 0
        && let Ok(more) = Arc::clone(slots).try_acquire_many_owned(u32::try_from(more).unwrap_or(0))
    {
        permit.merge(more);
    }
    let count = u32::try_from(permit.num_permits()).unwrap_or(1);
    let Ok(mut held) = Arc::clone(holds).acquire_many_owned(count).await else {
        return std::future::pending().await;
    };
    let leave = reflexes.leave(permit.num_permits()).await;
    let most = leave.tokens.count();
    drop(permit.split(permit.num_permits().saturating_sub(most)));
    drop(held.split(held.num_permits().saturating_sub(most)));
    Room {
        slots: permit,
        holds: held,
        leave,
    }
}

async fn poll<Q: Queue, H: Handler>(shared: Arc<Shared<Q, H>>, room: Room) -> Polled {
    let asked = room.slots.num_permits();
    let request = ReceiveRequest {
        max: asked,
        wait: shared.options.wait,
        visibility: shared.options.visibility,
    };
    let result = shared.parts.queue.receive(request).await;
    Polled { asked, room, result }
}

fn take_in<Q: Queue, H: Handler>(
    shared: &Arc<Shared<Q, H>>,
    settle: &Arc<Settle>,
    polled: Polled,
    pace: &mut Pace,
) {
    let Polled {
        asked,
        mut room,
        result,
    } = polled;
    let messages = match result {
        Ok(messages) => messages,
        Err(error) => {
            let failures = shared.health.received(false) + 1;
            let wait = pause_after(shared, &error, failures);
            PollFailed { error: &error, wait }.record(&shared.parts.events);
            pace.failed(wait);
            return;
        }
    };
    let failures = shared.health.received(true);
    if failures > 0 {
        PollsRecovered { failures }.record(&shared.parts.events);
    }
    pace.received(asked, messages.len());
    let Leave { tokens, mut probe } = room.leave;
    tokens.spend(messages.len());
    if messages.is_empty() {
        return;
    }
    let (received, bell) = (Instant::now(), Arc::default());
    let mut taken: Vec<_> = messages
        .into_iter()
        .map(|message| {
            // An answer with more messages than asked for is against SQS's word; they are handed back for want of room.
            let slot = room.slots.split(1);
            let hold = room.holds.split(1);
            Delivery::new(shared, message, received, slot, hold, probe.take(), &bell)
        })
        .collect();
    delivery::judge(shared, &mut taken);
    let tasks = &shared.deliveries;
    if !shared.parts.description.fifo {
        let (shared, settle) = (Arc::clone(shared), Arc::clone(settle));
        tasks.spawn(delivery::process_together(shared, settle, taken, bell));
        return;
    }
    for unit in groups(taken) {
        tasks.spawn(delivery::process(Arc::clone(shared), Arc::clone(settle), unit));
    }
}

/// What is processed in order: the messages of each group.
fn groups(taken: Vec<Delivery>) -> Vec<Vec<Delivery>> {
    let mut groups: Vec<Vec<Delivery>> = Vec::with_capacity(taken.len());
    for delivery in taken {
        let same = |group: &&mut Vec<Delivery>| {
            group
                .first()
                .is_some_and(|first| first.message.group == delivery.message.group)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(delivery),
            None => groups.push(vec![delivery]),
        }
    }
    groups
}

/// Jittered and growing; never without a wait, so that failure cannot spin.
fn pause_after<Q, H>(shared: &Shared<Q, H>, error: &QueueError, failures: u32) -> Duration {
    let floor = if error.kind == ErrorKind::Throttled {
        1000
    } else {
        100
    };
    let max = Duration::from_secs(20);
    let mut rng = shared
        .rng
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let backoff = crate::retry::Backoff {
        base: Duration::from_millis(500),
        max,
    };
    backoff.delay(failures, &mut rng) + Duration::from_millis(floor)
}

fn set_gauges<Q, H>(shared: &Shared<Q, H>, polls: usize) {
    let count = |value: usize| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    let metrics = &shared.parts.events.metrics;
    metrics.pollers.set(count(polls));
    shared.health.hold(shared.leases.held());
}
