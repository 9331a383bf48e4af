//! Puts the parts together and runs them to their end.

mod publisher;
mod steering;
mod task;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::Settings;
use crate::consumer::reflexes::{HandoverQueue, Steering};
use crate::consumer::{Consumer, Options, Parts, Shutdown};
use crate::control::Directives;
use crate::envelope::{self, Unwrapped};
use crate::events::Events;
use crate::evidence::Evidence;
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
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Task protection is asked for, and there is no agent that could give it.
    #[error(
        "ecs.task_protection: true, and ECS_AGENT_URI is {base:?} ({error}); expected the URL that ECS sets in its containers"
    )]
    Protection {
        /// The variable's value.
        base: String,
        /// What is wrong with it.
        error: String,
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
    let listener = listen(settings.admin).await?;
    task::tell(&settings.ecs);
    let agent = task::agent(&settings.ecs)?;
    let sqs = Sqs::from_environment(settings.request_timeout).await;
    let queues = tokio::select! {
        queues = preflight::run(&sqs, &settings) => queues?,
        _ = signals.next() => return Ok(()), // nothing is in hand yet
    };
    let shutdown = Shutdown::default();
    let config = crate::sqs::environment().await;
    let (mut reader, directives) = steering::reader(&settings.control, settings.identity.track, &config);
    let payloads = payloads(&settings.envelope, &config);
    let handler = Unwrapped::new(handler, payloads, settings.envelope.clone());
    let assembly = Assembly::new(&settings, handler, &shutdown, directives);
    let Assembled {
        consumers,
        admin,
        main_metrics,
    } = assembly.consumers(&settings, &queues);
    if let Some(reader) = &mut reader {
        // Before the first receive: a canary must know how much it may take, and a paused one that it may take nothing.
        main_metrics.control_read(reader.read().await);
    }
    let stop_admin = CancellationToken::new();
    let upkeep = tokio::spawn(upkeep(admin.prometheus.clone()));
    let reading = reader.map(|reader| {
        tokio::spawn(reader.run(stop_admin.clone(), move |result| {
            main_metrics.control_read(result)
        }))
    });
    let stop_publisher = CancellationToken::new();
    let publishing = publisher::start(
        &settings,
        &queues,
        &admin,
        &assembly.directives,
        &config,
        &stop_publisher,
    );
    let healths = admin.consumers.clone();
    let serving = tokio::spawn(admin.serve(listener, stop_admin.clone()));

    let stop_protection = CancellationToken::new();
    let protecting = task::protect(agent, &healths, &stop_protection);
    let mut tasks: JoinSet<()> = consumers.into_iter().map(Consumer::run).collect();
    let work = async { while tasks.join_next().await.is_some() {} };
    let drained = supervise(work, &mut signals, &shutdown, settings.shutdown).await;

    stop_protection.cancel();
    task::lifted(protecting).await;
    upkeep.abort();
    stop_publisher.cancel();
    if let Some(publishing) = publishing {
        // It ends within 2 s by itself.
        let _ = publishing.await;
    }
    stop_admin.cancel();
    if let Some(reading) = reading {
        reading.abort();
    }
    // A scrape under way may end; a client that never reads may not hold up the exit.
    let _ = tokio::time::timeout(Duration::from_millis(500), serving).await;
    report(&healths, drained)
}

/// Opens the admin endpoint, and says where: the first line of a worker that runs.
async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| RunError::Admin { address, error })?;
    tracing::info!(
        address = %listener.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        revision = REVISION,
        "worker starts"
    );
    Ok(listener)
}

/// What fetches bodies from S3, where that is asked for.
#[cfg(feature = "s3")]
fn payloads(options: &envelope::Options, config: &SdkConfig) -> Option<envelope::s3::S3> {
    let asked = !options.s3_buckets.is_empty();
    asked.then(|| envelope::s3::S3::new(config))
}

/// Settings that ask for S3 are refused without the feature.
#[cfg(not(feature = "s3"))]
const fn payloads(_: &envelope::Options, _: &SdkConfig) -> Option<envelope::NoPayloads> {
    None
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

/// A consumer, under the name of its queue.
type Named<H> = (String, Consumer<Observed<SqsQueue>, H>);

/// Everything that runs.
struct Assembled<H> {
    consumers: Vec<Consumer<Observed<SqsQueue>, H>>,
    admin: Admin,
    main_metrics: Arc<Metrics>,
}

/// What the consumers of one process share.
struct Assembly<H> {
    handler: Arc<H>,
    identity: Arc<Identity>,
    recorder: Arc<metrics_exporter_prometheus::PrometheusRecorder>,
    shutdown: Shutdown,
    failures_per_second: u32,
    directives: Directives,
}

impl<H: Handler> Assembly<H> {
    fn new(settings: &Settings, handler: H, shutdown: &Shutdown, directives: Directives) -> Self {
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
            recorder: Arc::new(recorder),
            shutdown: shutdown.clone(),
            failures_per_second: settings.log.failures_per_second,
            directives,
        }
    }

    fn consumers(&self, settings: &Settings, queues: &Queues) -> Assembled<H> {
        let target = queues.dead_letter_target();
        let options = options(settings, &queues.main.1);
        let dead_letter = &queues.dead_letter.0;
        let evidence = Evidence::new(
            Arc::clone(&self.identity),
            settings.service.clone(),
            Clock::System,
            options.deadline,
            settings.slow_after,
        );
        let main_metrics = Arc::new(self.metrics(queues.main.1.name()));
        let steering = Steering {
            directives: self.directives.clone(),
            evidence: Some(Arc::clone(&evidence)),
            max_failure_rate: settings.max_failure_rate,
            handover: handover_queue(settings, queues, &main_metrics),
            handed_over_from: None,
        };
        let main = self.consumer(
            &queues.main,
            dead_letter,
            target,
            options,
            &main_metrics,
            steering,
        );
        let reflexes = main.1.reflexes();
        let mut consumers = vec![main];
        consumers.extend(self.handover_consumer(settings, queues));
        let healths = consumers
            .iter()
            .map(|(name, consumer)| (name.clone(), consumer.health()))
            .collect();
        let admin = Admin {
            identity: Arc::clone(&self.identity),
            consumers: healths,
            evidence: Some((evidence, reflexes)),
            prometheus: self.recorder.handle(),
        };
        Assembled {
            consumers: consumers.into_iter().map(|(_, consumer)| consumer).collect(),
            admin,
            main_metrics,
        }
    }

    /// On the stable track, what drains the handover queue, if there is one.
    fn handover_consumer(&self, settings: &Settings, queues: &Queues) -> Option<Named<H>> {
        let (queue, handover) = (queues.handover.as_ref()?, settings.handover.as_ref()?);
        if settings.identity.track != Track::Stable {
            return None;
        }
        let options = Options {
            concurrency: handover.slots,
            ..options(settings, &queue.1)
        };
        let recorder = Arc::<metrics_exporter_prometheus::PrometheusRecorder>::clone(&self.recorder);
        let metrics = self.metrics(queue.1.name()).with_results_by_release(recorder);
        let steering = Steering {
            directives: self.directives.clone(),
            handed_over_from: Some(queues.main.1.name().to_owned()),
            ..Steering::default()
        };
        let (dead_letter, target) = (&queues.dead_letter.0, queues.dead_letter_target());
        Some(self.consumer(queue, dead_letter, target, options, &Arc::new(metrics), steering))
    }

    fn consumer(
        &self,
        (queue, description): &(SqsQueue, Description),
        dead_letter: &SqsQueue,
        dead_letter_target: Target,
        options: Options,
        metrics: &Arc<Metrics>,
        steering: Steering<Observed<SqsQueue>>,
    ) -> Named<H> {
        let name = description.name().to_owned();
        let observed = |queue: &SqsQueue| Arc::new(Observed::new(queue.clone(), Arc::clone(metrics)));
        let parts = Parts {
            queue: observed(queue),
            description: description.clone(),
            dead_letter_queue: observed(dead_letter),
            dead_letter_target,
            handler: Arc::clone(&self.handler),
            identity: Arc::clone(&self.identity),
            events: Arc::new(Events::new(Arc::clone(metrics), &name, self.failures_per_second)),
            clock: Clock::System,
        };
        (
            name,
            Consumer::steered(parts, options, self.shutdown.clone(), steering),
        )
    }

    fn metrics(&self, queue: &str) -> Metrics {
        Metrics::register(&*self.recorder, &self.identity, queue, self.handler.reasons())
    }
}

/// How a queue is consumed: as the settings say, for as long as the queue or the settings hide a message.
fn options(settings: &Settings, queue: &Description) -> Options {
    Options {
        visibility: settings.queue.visibility.unwrap_or(queue.visibility_timeout),
        ..settings.consumer.clone()
    }
}

/// Where this process's failures go: on a canary that has a handover queue.
fn handover_queue(
    settings: &Settings,
    queues: &Queues,
    metrics: &Arc<Metrics>,
) -> Option<HandoverQueue<Observed<SqsQueue>>> {
    let (queue, description) = queues
        .handover
        .as_ref()
        .filter(|_| settings.identity.track == Track::Canary)?;
    Some(HandoverQueue {
        queue: Arc::new(Observed::new(queue.clone(), Arc::clone(metrics))),
        target: Target {
            max_message_bytes: description.max_message_bytes,
            fifo: description.fifo,
        },
    })
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
