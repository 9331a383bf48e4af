//! A worker process of either track: the real consumers, the real reader of the control document, scripted handlers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;
use worker::consumer::health::Health;
use worker::consumer::reflexes::{HandoverQueue, Reflexes, Steering};
use worker::consumer::{Consumer, Options, Parts, Shutdown};
use worker::control::reader::{Directives, Reader};
use worker::events::Events;
use worker::evidence::{Evidence, State};
use worker::failure::Target;
use worker::handler::Handler;
use worker::metrics::Metrics;
use worker::queue::Queue;
use worker::release::{Identity, Release, Track};
use worker::retry::Backoff;
use worker::settle;

use super::control::Control;
use super::lake::{Lake, VISIBILITY, Way};
use super::opened::Opened;
use crate::sea::EPOCH;

const TARGET: Target = Target {
    max_message_bytes: 1_048_576,
    fifo: false,
};

/// A deadline that no handler here misses.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long a receive waits where it does not matter.
pub(crate) const WAIT: Duration = Duration::from_secs(4);

/// What a process is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) track: Track,
    pub(crate) concurrency: usize,
    pub(crate) deadline: Duration,
    /// How long a receive waits for messages.
    pub(crate) wait: Duration,
    /// None: no control source is set.
    pub(crate) control: Option<Control>,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) reflexes: Arc<Reflexes>,
    pub(crate) killed: CancellationToken,
    /// Hears when the rate breaker opens.
    pub(crate) opened: Opened,
    health: Arc<Health>,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
    reading: JoinSet<()>,
}

impl Process {
    pub(crate) async fn start<H: Handler>(lake: &Arc<Lake>, setup: &Setup, handler: &Arc<H>) -> Self {
        let identity = Arc::new(Identity {
            release: Release::new(setup.track.as_str()).unwrap(),
            track: setup.track,
        });
        let clock = Clock::Simulated {
            start: SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH),
            since: Instant::now(),
        };
        let mut process_reading = JoinSet::new();
        let killed = CancellationToken::new();
        let directives = directives(setup, &killed, &mut process_reading).await;
        let evidence = Evidence::new(
            Arc::clone(&identity),
            None,
            clock,
            setup.deadline,
            Duration::from_secs(1),
        );
        let way = |url: &String| {
            Arc::new(Way {
                lake: Arc::clone(lake),
                killed: killed.clone(),
                url: url.clone(),
            })
        };
        let opened = Opened::new(&evidence);
        let shutdown = Shutdown::default();
        let canary = setup.track == Track::Canary;
        let build = async |url: &String, concurrency: usize, steering: Steering<Way>| {
            let queue = way(url);
            let dead = way(&lake.dead);
            let options = options(setup, concurrency);
            let parts = parts(queue, dead, handler, &identity, clock, &opened).await;
            Consumer::steered(parts, options, shutdown.clone(), steering)
        };
        let steering = Steering {
            directives: directives.clone(),
            evidence: Some(Arc::clone(&evidence)),
            max_failure_rate: None,
            handover: canary.then(|| HandoverQueue {
                queue: way(&lake.handover),
                target: TARGET,
            }),
            handed_over_from: None,
        };
        let main = build(&lake.main, setup.concurrency, steering).await;
        let (reflexes, health) = (main.reflexes(), main.health());
        let mut tasks = JoinSet::new();
        tasks.spawn(main.run());
        if !canary {
            let steering = Steering {
                directives,
                handed_over_from: Some("main".to_owned()),
                ..Steering::default()
            };
            tasks.spawn(build(&lake.handover, 2, steering).await.run());
        }
        Self {
            evidence,
            reflexes,
            killed,
            opened,
            health,
            shutdown,
            tasks,
            reading: process_reading,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.reflexes.state()
    }

    /// Whether it lives, as its health check says.
    pub(crate) fn live(&self) -> Result<(), String> {
        self.health.live()
    }

    /// Messages of the main queue in hand.
    pub(crate) fn held(&self) -> usize {
        self.health.held()
    }

    /// First deliveries that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.evidence.report(0, State::default()).totals.failed
    }

    /// Ends it at once, with everything in it.
    pub(crate) fn kill(&mut self) {
        self.killed.cancel();
        self.tasks.abort_all();
        self.reading.abort_all();
    }

    /// Drains it.
    pub(crate) async fn stop(mut self) {
        self.shutdown.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.killed.cancel();
    }
}

/// What the process's control document says, which is read as `run` does: before the first receive, then again and again.
async fn directives(setup: &Setup, killed: &CancellationToken, reading: &mut JoinSet<()>) -> Directives {
    let Some(source) = &setup.control else {
        return Directives::none();
    };
    let rng = fastrand::Rng::with_seed(setup.seed);
    let (mut reader, directives) = Reader::new(source.clone(), setup.track, None, rng);
    reader.read().await;
    reading.spawn(reader.run(killed.clone(), |_| {}));
    directives
}

async fn parts<H: Handler>(
    queue: Arc<Way>,
    dead_letter_queue: Arc<Way>,
    handler: &Arc<H>,
    identity: &Arc<Identity>,
    clock: Clock,
    opened: &Opened,
) -> Parts<Way, H> {
    let description = queue.description().await.unwrap();
    let metrics = Metrics::register(opened, identity, description.name(), handler.reasons());
    Parts {
        queue,
        dead_letter_queue,
        dead_letter_target: TARGET,
        handler: Arc::clone(handler),
        identity: Arc::clone(identity),
        events: Arc::new(Events::new(Arc::new(metrics), description.name(), 10)),
        description,
        clock,
    }
}

fn options(setup: &Setup, concurrency: usize) -> Options {
    Options {
        concurrency,
        wait: setup.wait,
        visibility: VISIBILITY,
        deadline: setup.deadline,
        retry: Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(20),
        },
        settle: settle::Options {
            linger: Duration::from_millis(5),
            give_up: Duration::from_secs(20),
            calls: 4,
            backoff: Backoff {
                base: Duration::from_millis(200),
                max: Duration::from_secs(2),
            },
            refused_delay: Duration::from_secs(6),
        },
        remember: 10_000,
        max_error_bytes: 100,
        seed: Some(setup.seed),
    }
}
