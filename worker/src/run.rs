//! Puts the parts together and runs them to their end.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::Settings;
use crate::consumer::{Consumer, Options, Parts, Shutdown};
use crate::events::Events;
use crate::failure::Target;
use crate::handler::Handler;
use crate::metrics::{self, Metrics};
use crate::preflight::{self, Queues, Refusal};
use crate::queue::Description;
use crate::queue::observed::Observed;
use crate::release::{Identity, Track};
use crate::shutdown::{Drained, Signals, supervise};
use crate::sqs::{Sqs, SqsQueue};

/// The commit the binary was built from, where the build says it.
pub const REVISION: &str = match option_env!("WORKER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Why the worker did not run to a clean end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The queues cannot be used.
    #[error(transparent)]
    Preflight(#[from] Refusal),
    /// The admin endpoint cannot be opened.
    #[error("admin.address: {address}: {error}; expected an address that is free")]
    Admin {
        /// The setting's value.
        address: std::net::SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Anything else the system refuses.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The drain did not end in time, or was cut short.
    #[error("{held} messages were left unsettled ({drained:?}); they come back by their visibility timeout")]
    Undrained {
        /// How the drain ended.
        drained: Drained,
        /// Deliveries still in hand.
        held: usize,
    },
}

/// Drains the queues of `settings` with `handler` until a signal, then drains what is in hand.
///
/// # Errors
/// [`RunError`]; with none, everything in hand was settled.
pub async fn run<H: Handler>(settings: Settings, handler: H) -> Result<(), RunError> {
    let mut signals = Signals::catch()?;
    let listener = TcpListener::bind(settings.admin).await;
    let listener = listener.map_err(|error| RunError::Admin {
        address: settings.admin,
        error,
    })?;
    tracing::info!(
        address = %listener.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        revision = REVISION,
        "worker starts"
    );
    let sqs = Sqs::from_environment(settings.request_timeout).await;
    let queues = tokio::select! {
        queues = preflight::run(&sqs, &settings) => queues?,
        _ = signals.next() => return Ok(()), // nothing is in hand yet
    };
    let shutdown = Shutdown::default();
    let assembly = Assembly::new(&settings, handler, &shutdown);
    let (consumers, admin) = assembly.consumers(&settings, &queues);
    let stop_admin = CancellationToken::new();
    let upkeep = tokio::spawn(upkeep(admin.prometheus.clone()));
    let healths = admin.consumers.clone();
    let serving = tokio::spawn(admin.serve(listener, stop_admin.clone()));

    let mut tasks = tokio::task::JoinSet::new();
    for consumer in consumers {
        tasks.spawn(consumer.run());
    }
    let work = async { while tasks.join_next().await.is_some() {} };
    let drained = supervise(work, &mut signals, &shutdown, settings.shutdown).await;

    upkeep.abort();
    stop_admin.cancel();
    // A scrape under way may end; a client that never reads may not hold up the exit.
    let _ = tokio::time::timeout(Duration::from_millis(500), serving).await;
    report(&healths, drained)
}

/// Says what was done and what was left.
fn report(
    consumers: &[(String, Arc<crate::consumer::health::Health>)],
    drained: Option<Drained>,
) -> Result<(), RunError> {
    let held = consumers.iter().map(|(_, health)| health.held()).sum();
    for (queue, health) in consumers {
        tracing::info!(
            %queue,
            done = health.done(),
            failed_attempts = health.failed(),
            returned = health.returned(),
            left = health.held(),
            "worker stopped"
        );
    }
    match drained {
        None | Some(Drained::Whole) => Ok(()),
        Some(drained) => Err(RunError::Undrained { drained, held }),
    }
}

/// What the consumers of one process share.
struct Assembly<H> {
    handler: Arc<H>,
    identity: Arc<Identity>,
    recorder: metrics_exporter_prometheus::PrometheusRecorder,
    shutdown: Shutdown,
    failures_per_second: u32,
}

impl<H: Handler> Assembly<H> {
    fn new(settings: &Settings, handler: H, shutdown: &Shutdown) -> Self {
        let identity = Arc::new(settings.identity.clone());
        // The buckets are a constant that is not empty, which is all that could be wrong with them.
        let recorder = PrometheusBuilder::new()
            .set_buckets(&metrics::BUCKETS)
            .unwrap_or_default()
            .build_recorder();
        metrics::describe(&recorder, &identity, env!("CARGO_PKG_VERSION"), REVISION);
        Self {
            handler: Arc::new(handler),
            identity,
            recorder,
            shutdown: shutdown.clone(),
            failures_per_second: settings.log.failures_per_second,
        }
    }

    fn consumers(
        &self,
        settings: &Settings,
        queues: &Queues,
    ) -> (Vec<Consumer<Observed<SqsQueue>, H>>, Admin) {
        let target = queues.dead_letter_target();
        let visibility = |description: &Description| {
            settings
                .queue
                .visibility
                .unwrap_or(description.visibility_timeout)
        };
        let options = Options {
            visibility: visibility(&queues.main.1),
            ..settings.consumer.clone()
        };
        let dead_letter = &queues.dead_letter.0;
        let mut consumers = vec![self.consumer(&queues.main, dead_letter, target, options)];
        if let (Some(queue), Some(handover), Track::Stable) =
            (&queues.handover, &settings.handover, settings.identity.track)
        {
            let concurrency = handover.slots;
            let visibility = visibility(&queue.1);
            let options = Options {
                concurrency,
                visibility,
                ..settings.consumer.clone()
            };
            consumers.push(self.consumer(queue, dead_letter, target, options));
        }
        let healths = consumers
            .iter()
            .map(|(name, consumer)| (name.clone(), consumer.health()))
            .collect();
        let admin = Admin {
            identity: Arc::clone(&self.identity),
            consumers: healths,
            prometheus: self.recorder.handle(),
        };
        (
            consumers.into_iter().map(|(_, consumer)| consumer).collect(),
            admin,
        )
    }

    fn consumer(
        &self,
        (queue, description): &(SqsQueue, Description),
        dead_letter: &SqsQueue,
        dead_letter_target: Target,
        options: Options,
    ) -> (String, Consumer<Observed<SqsQueue>, H>) {
        let name = description.name().to_owned();
        let metrics = Metrics::register(&self.recorder, &self.identity, &name, self.handler.reasons());
        let metrics = Arc::new(metrics);
        let observed = |queue: &SqsQueue| Arc::new(Observed::new(queue.clone(), Arc::clone(&metrics)));
        let parts = Parts {
            queue: observed(queue),
            description: description.clone(),
            dead_letter_queue: observed(dead_letter),
            dead_letter_target,
            handler: Arc::clone(&self.handler),
            identity: Arc::clone(&self.identity),
            events: Arc::new(Events::new(Arc::clone(&metrics), &name, self.failures_per_second)),
            clock: Clock::System,
        };
        (name, Consumer::new(parts, options, self.shutdown.clone()))
    }
}

/// The exporter keeps every observation until it is asked to fold them.
async fn upkeep(prometheus: metrics_exporter_prometheus::PrometheusHandle) {
    let mut tick = interval(Duration::from_secs(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // For as long as the process lives; aborted at its end.
    loop {
        tick.tick().await;
        prometheus.run_upkeep();
    }
}
