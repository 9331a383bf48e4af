//! The release binary: its size, its memory, its start, and what it asks for when there is nothing to do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::cost::total;
use crate::endpoint::Endpoint;
use crate::page::Page;
use crate::watch::Watch;
use crate::{median, millis, process, usage};

const STARTS: usize = 11;

/// How long an idle worker is watched.
const IDLE: Duration = Duration::from_secs(120);

const IN_FLIGHT: usize = 1000;

/// A release binary at work.
pub(crate) struct Running {
    child: Child,
    admin: SocketAddr,
}

impl Running {
    pub(crate) fn start(endpoint: &str, queue: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let admin = process::free_address()?;
        let mut all = process::settings(queue, admin);
        let given = settings
            .iter()
            .map(|(key, value)| (format!("WORKER__{key}"), (*value).to_owned()));
        all.extend(given); // of two settings of one name, the later holds
        let child = process::binary(process::variables(endpoint, all))?;
        Ok(Self { child, admin })
    }

    async fn metrics(&self) -> Result<String> {
        let metrics = worker::admin::ask(self.admin, "/metrics", Duration::from_secs(3)).await;
        metrics.map_err(anyhow::Error::msg)
    }

    /// Waits until the value of a metric is at least so much.
    pub(crate) async fn reaches(&mut self, name: &str, label: &str, least: f64) -> Result<()> {
        let give_up = Instant::now() + Duration::from_secs(60);
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait()? {
                let mut log = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    stderr.read_to_string(&mut log).await?;
                }
                bail!("the worker ended ({status}): {log}");
            }
            // It may not be listening yet.
            if let Ok(metrics) = self.metrics().await
                && total(&metrics, name, label) >= least
            {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("{name} did not reach {least}")
    }

    /// Resident memory in MB: now, and at most.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        usage::memory(self.child.id().context("the worker has ended")?)
    }
}

pub(crate) async fn measure(page: &mut Page) -> Result<()> {
    let mut endpoint = Endpoint::start().await?;
    let queue = endpoint.fill(0).await?;
    let idle = Running::start(&endpoint.url, &queue, &[("QUEUE__WAIT", "20s")])?;
    let idle = tokio::spawn(idle_requests(idle));
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_worker"))?.len();
    let (now, most) = memory(&mut endpoint).await?;
    let start = starts(&endpoint.url, &queue).await?;
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let size = size as f64 / 1e6;
    let mut text = String::from("| of the release binary | measured | asked for |\n|---|---|---|\n");
    text.push_str(&format!("| size | {size:.1} MB | ≤ 15 MB |\n"));
    text.push_str(&format!(
        "| resident memory, {IN_FLIGHT} attempts in flight, leases beating | {now:.1} MB, at most {most:.1} MB | ≤ 30 MB |\n"
    ));
    text.push_str(&format!(
        "| process start to the first receive, median of {STARTS} | {start:.0} ms | ≤ 100 ms |\n"
    ));
    text.push_str(&format!(
        "| SQS requests a minute when idle | {:.1} | ≤ 3 |\n",
        idle.await??
    ));
    page.put("footprint", text);
    Ok(())
}

/// Resident memory while so many attempts hang, after all their leases were extended.
async fn memory(endpoint: &mut Endpoint) -> Result<(f64, f64)> {
    let queue = endpoint.fill(2 * IN_FLIGHT).await?;
    let concurrency = IN_FLIGHT.to_string();
    let settings = [
        ("CONCURRENCY", concurrency.as_str()),
        ("ORDERS__LATENCY", "10m"),
        ("HANDLER__DEADLINE", "15m"),
        ("QUEUE__VISIBILITY_TIMEOUT", "9s"),
    ];
    let mut worker = Running::start(&endpoint.url, &queue, &settings)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let attempts = IN_FLIGHT as f64;
    worker.reaches("worker_in_flight", "", attempts).await?;
    let beats = attempts / 10.0 * 3.0;
    worker
        .reaches("worker_sqs_requests_total", "action=\"change_visibility\"", beats)
        .await?;
    worker.memory()
}

/// From the start of the process to the first receive that it sends, in milliseconds.
pub(crate) async fn starts(endpoint: &str, queue: &str) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut watch = Watch::start(endpoint, "AmazonSQS.ReceiveMessage")?;
        let start = Instant::now();
        let _worker = Running::start(&watch.url, queue, &[])?;
        times.push(millis(watch.first().await? - start));
    }
    Ok(median(times))
}

async fn idle_requests(mut worker: Running) -> Result<f64> {
    // The first receive is under way.
    worker.reaches("worker_pollers", "", 1.0).await?;
    sleep(IDLE).await;
    let requests = total(&worker.metrics().await?, "worker_sqs_requests_total", "");
    ensure!(requests > 0.0, "an idle worker polls");
    Ok(requests / (IDLE.as_secs_f64() / 60.0))
}
