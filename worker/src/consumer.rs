//! Drains one queue: slots, not batches.
//!
//! A *slot* is room for one attempt. The poll loop ([`polls`]) asks only for as many messages as there are free slots,
//! so nothing is hoarded; each message's handler runs in a task of its own, so a slow one holds up nobody. One task looks after those of one
//! receive ([`delivery`]); on a FIFO queue, after those of one group that came in one receive, in order.

mod delivery;
mod polls;

pub mod health;
pub mod reflexes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::health::Health;
use self::reflexes::{Reflexes, Steering};
use crate::clock::Clock;
use crate::events::Events;
use crate::failure::Target;
use crate::handler::Handler;
use crate::lease::Leases;
use crate::queue::{Description, MAX_BATCH, Queue};
use crate::release::Identity;
use crate::retry::Backoff;
use crate::settle::done::DoneIds;
use crate::settle::{self, Settle};

/// How to consume.
#[derive(Clone, Debug)]
pub struct Options {
    /// Slots: how many attempts may run at once; at least 1.
    pub concurrency: usize,
    /// How long a receive waits for messages; whole seconds, 0 to 20.
    pub wait: Duration,
    /// How long a message stays invisible without a beat; whole seconds.
    pub visibility: Duration,
    /// When an attempt is ended.
    pub deadline: Duration,
    /// Delays of retries, of attempts in place, and after a failed receive.
    pub retry: Backoff,
    /// How to settle.
    pub settle: settle::Options,
    /// How many done ids to remember.
    pub remember: usize,
    /// The most bytes of an error text in a story; none at 0.
    pub max_error_bytes: usize,
    /// The seed of all jitter; from the system when there is none.
    pub seed: Option<u64>,
}

impl Options {
    /// How many deliveries may be held in all, those included that wait to be settled: settling must not slow down
    /// the handlers, nor pile up without a bound when SQS refuses.
    fn holds(&self) -> usize {
        self.concurrency + self.concurrency.max(10 * MAX_BATCH)
    }

    fn rng(&self, part: u64) -> fastrand::Rng {
        self.seed
            .map_or_else(fastrand::Rng::new, |seed| fastrand::Rng::with_seed(seed ^ part))
    }
}

/// What a consumer is made of.
#[derive(Debug)]
pub struct Parts<Q, H> {
    /// The queue to drain.
    pub queue: Arc<Q>,
    /// What `queue` says of itself.
    pub description: Description,
    /// Where failed messages are copied to.
    pub dead_letter_queue: Arc<Q>,
    /// What `dead_letter_queue` takes.
    pub dead_letter_target: Target,
    /// What processes the messages.
    pub handler: Arc<H>,
    /// The release the attempts answer for.
    pub identity: Arc<Identity>,
    /// Where events go.
    pub events: Arc<Events>,
    /// The time of day.
    pub clock: Clock,
}

/// The two signals of a shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// No more polls; what comes in is handed back; handlers go on.
    pub stop: CancellationToken,
    /// Handlers that still run are cancelled and their messages handed back.
    pub cut: CancellationToken,
}

/// Drains one queue.
#[derive(Debug)]
pub struct Consumer<Q, H> {
    shared: Arc<Shared<Q, H>>,
}

/// What the poll loop and all deliveries share.
#[derive(Debug)]
struct Shared<Q, H> {
    parts: Parts<Q, H>,
    options: Options,
    shutdown: Shutdown,
    slots: Arc<Semaphore>,
    holds: Arc<Semaphore>,
    leases: Arc<Leases>,
    done: Mutex<DoneIds>,
    rng: Mutex<fastrand::Rng>,
    health: Arc<Health>,
    steering: Steering<Q>,
    reflexes: Arc<Reflexes>,
    /// The tasks of what is being processed.
    deliveries: TaskTracker,
}

impl<Q: Queue, H: Handler> Consumer<Q, H> {
    /// A consumer that will run until `shutdown`.
    #[must_use]
    pub fn new(parts: Parts<Q, H>, options: Options, shutdown: Shutdown) -> Self {
        Self::steered(parts, options, shutdown, Steering::default())
    }

    /// A consumer that will run until `shutdown`, steered from outside.
    #[must_use]
    pub fn steered(parts: Parts<Q, H>, options: Options, shutdown: Shutdown, steering: Steering<Q>) -> Self {
        let events = &parts.events;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float; 2^52 slots are none"
        )]
        events.metrics.slots.set(options.concurrency as f64);
        let health = Arc::new(Health::new(options.concurrency));
        let reflexes = Reflexes::new(
            &steering,
            parts.identity.track,
            options.concurrency,
            options.rng(3),
            Arc::clone(events),
            Arc::clone(&health),
        );
        let shared = Shared {
            slots: reflexes.slots(options.concurrency),
            holds: Arc::new(Semaphore::new(options.holds())),
            leases: Leases::new(options.visibility, Arc::clone(events), options.rng(1)),
            done: Mutex::new(DoneIds::new(options.remember)),
            rng: Mutex::new(options.rng(2)),
            health,
            steering,
            reflexes,
            deliveries: TaskTracker::new(),
            parts,
            options,
            shutdown,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// How the consumer is; stays valid while it runs.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.shared.health)
    }

    /// Gate and breakers; stay valid while it runs.
    #[must_use]
    pub fn reflexes(&self) -> Arc<Reflexes> {
        Arc::clone(&self.shared.reflexes)
    }

    /// Drains the queue until `shutdown.stop`, then until nothing is in hand.
    ///
    /// After `stop` it waits for the receives under way (they are never aborted), hands back what they bring, waits
    /// for the handlers (until `cut`), and then for everything to be settled. It has no deadline of its own: whoever
    /// calls it gives it one, and reads [`Health::held`] when that has passed. Not cancel safe: what is in hand then
    /// comes back by its visibility timeout.
    pub async fn run(self) {
        let shared = self.shared;
        let (settle, mut settling) = Settle::start(
            &shared.parts.queue,
            &shared.parts.dead_letter_queue,
            shared.steering.handover.as_ref().map(|handover| &handover.queue),
            shared.options.settle,
            &shared.parts.events,
        );
        let leases_stop = CancellationToken::new();
        let mut leasing = JoinSet::new();
        leasing.spawn(Arc::clone(&shared.leases).run(Arc::clone(&shared.parts.queue), leases_stop.clone()));
        polls::run(&shared, Arc::new(settle)).await;
        // The last sender is gone: what is left in the batches is flushed, and the tasks end.
        while settling.join_next().await.is_some() {}
        shared.health.hold(shared.leases.held());
        leases_stop.cancel();
        while leasing.join_next().await.is_some() {}
        shared.parts.events.flush();
        shared.health.stopped();
    }
}
