//! The worker, whole: `worker::run::run` with the settings of the environment, and a handler that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use worker::config::Settings;
use worker::config::source::Source;
use worker::handler::{Context, Handler, Json, Outcome, Reason};
use worker::handlers::orders::Orders;
use worker::message::Message;

use crate::usage;

/// What the worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Threads of the runtime; 0 for as many as the machine has cores.
    pub(crate) threads: usize,
    pub(crate) until: Until,
}

/// When the worker stops.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// So many messages are done.
    Messages(usize),
    /// So many seconds are over, after a first part that is not counted.
    Seconds(f64),
}

/// What the worker has done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Since the start of the process.
    pub(crate) cpu_micros: f64,
    /// Messages a second.
    pub(crate) rate: f64,
    /// `/metrics` at the end.
    pub(crate) metrics: String,
}

/// Not counted when a rate is measured: connections are opened, pollers added.
const WARM_UP: Duration = Duration::from_secs(1);

/// Until the last deletions are made; nothing is to be done in this time but them.
const SETTLED: Duration = Duration::from_millis(300);

struct Counting {
    inner: Json<Orders>,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    messages: AtomicUsize,
    /// Told at the first message and at the last.
    mark: Notify,
    last: usize,
}

impl Handler for Counting {
    async fn handle(&self, message: &Message, context: &Context) -> Outcome {
        let outcome = self.inner.handle(message, context).await;
        let count = self.count.messages.fetch_add(1, Relaxed) + 1;
        if count == 1 || count == self.count.last {
            self.count.mark.notify_one();
        }
        outcome
    }

    fn reasons(&self) -> &[Reason] {
        self.inner.reasons()
    }
}

/// The role.
pub(crate) fn work(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    let mut runtime = match job.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if job.threads > 1 {
        runtime.worker_threads(job.threads);
    }
    let done = runtime.enable_all().build()?.block_on(drain(job.until))?;
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

async fn drain(until: Until) -> Result<Done> {
    let variables = std::env::vars().collect();
    let source = Source::load(None, variables).map_err(|problem| anyhow!("{problem}"))?;
    let settings = Settings::check(&source).map_err(|problems| anyhow!("{problems:?}"))?;
    worker::logging::start(&settings.log, &settings.identity).map_err(anyhow::Error::msg)?;
    let count = Arc::new(Count {
        last: match until {
            Until::Messages(messages) => messages,
            Until::Seconds(_) => usize::MAX,
        },
        ..Count::default()
    });
    let handler = Counting {
        inner: Json(Orders::new(settings.orders)),
        count: Arc::clone(&count),
    };
    let admin = settings.admin;
    let mut running = std::pin::pin!(worker::run::run(settings, handler));
    let rate = tokio::select! {
        rate = rate(&count, until) => rate,
        ended = &mut running => return Err(ended.map_or_else(Into::into, |()| anyhow!("the worker ended by itself"))),
    };
    sleep(SETTLED).await;
    let cpu_micros = usage::cpu()?.as_secs_f64() * 1e6;
    let metrics = worker::admin::ask(admin, "/metrics", Duration::from_secs(3)).await;
    let metrics = metrics.map_err(anyhow::Error::msg).context("/metrics")?;
    raise(Signal::SIGTERM)?;
    running.await?;
    Ok(Done {
        cpu_micros,
        rate,
        metrics,
    })
}

async fn rate(count: &Count, until: Until) -> f64 {
    count.mark.notified().await;
    let seconds = match until {
        Until::Messages(_) => None,
        Until::Seconds(seconds) => Some(Duration::from_secs_f64(seconds)),
    };
    if seconds.is_some() {
        sleep(WARM_UP).await;
    }
    let (start, before) = (Instant::now(), count.messages.load(Relaxed));
    match seconds {
        None => count.mark.notified().await,
        Some(seconds) => sleep(seconds).await,
    }
    let messages = count.messages.load(Relaxed) - before;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let messages = messages as f64;
    messages / start.elapsed().as_secs_f64()
}
