//! `canary redrive`.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use worker::release::Release;
use worker::sqs::Sqs;

use super::whole;
use crate::plan::unit;
use crate::redrive::{Filter, MAX_REDRIVES, REQUEST_TIMEOUT, Request, Since, Summary, redrive};

/// Sends dead letters back to the queue they came from. Without a filter: all of them.
#[derive(Debug, Args)]
pub(super) struct Redrive {
    /// URL of the dead-letter queue.
    #[arg(long, value_name = "URL", value_parser = url)]
    dlq: String,
    /// Only what this release failed last; may be given several times.
    #[arg(long, value_name = "RELEASE", value_parser = release)]
    failed_release: Vec<Release>,
    /// Only what failed for this reason last; may be given several times.
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
    /// Only what failed then or later: 2026-11-24T10:00:00Z (UTC), or 2h for two hours ago. Without a story the time the
    /// message was sent counts.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Only messages without a worker's story: moved by SQS after crashes, or put there by others.
    #[arg(long, conflicts_with_all = ["failed_release", "reason"])]
    without_story: bool,
    /// URL of the queue to send to, one of those whose redrive policy names the dead-letter queue; without it each message goes
    /// to the one it came from.
    #[arg(long, value_name = "URL", value_parser = url)]
    to: Option<String>,
    /// Leave what was sent back so often already.
    #[arg(long, value_name = "TIMES", default_value_t = MAX_REDRIVES,
          value_parser = |text: &str| whole::<u32>(text, 0..=u32::MAX.into(), "times"))]
    max_redrives: u32,
    /// Messages sent back, as 50/s, 90/m or 1000/h; evenly, without bursts.
    #[arg(long, default_value = "50/s", value_parser = rate)]
    rate: f64,
    /// Send back at most so many: ten before ten thousand.
    #[arg(long, value_name = "MESSAGES", value_parser = |text: &str| whole::<u64>(text, 1..=u64::MAX, "messages"))]
    limit: Option<u64>,
    /// Only show what is there; that counts as one receive of each message.
    #[arg(long)]
    dry_run: bool,
    /// How long messages stay hidden should this process be killed, 30s to 1h.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = visibility)]
    visibility: Duration,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.filter(|rest| {
        rest.split_once('/')
            .is_some_and(|(host, path)| !host.is_empty() && !path.is_empty())
    })
    .map(|_| text.to_owned())
    .ok_or_else(|| {
        "expected the URL of a queue, as https://sqs.eu-west-1.amazonaws.com/123456789012/orders-dlq"
            .to_owned()
    })
}

fn release(text: &str) -> Result<Release, String> {
    Release::new(text).map_err(|error| error.to_string())
}

fn since(text: &str) -> Result<SystemTime, String> {
    Since::read(text, SystemTime::now()).map(|since| since.0)
}

fn rate(text: &str) -> Result<f64, String> {
    let fits = |rate: &f64| *rate >= 1.0 / 3600.0 && *rate <= 1e6;
    unit::rate(text)
        .filter(fits)
        .ok_or_else(|| "expected a rate from 1/h to 1000000/s, as 50/s, 90/m or 1000/h".to_owned())
}

fn visibility(text: &str) -> Result<Duration, String> {
    unit::seconds(text)
        .filter(|seconds| (30..=3600).contains(seconds))
        .map(|seconds| Duration::from_secs(seconds.into()))
        .ok_or_else(|| "expected a time of 30s to 1h in whole seconds, as 2m".to_owned())
}

impl Redrive {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let summary = runtime.block_on(self.redrive())?;
        let text = if self.json {
            serde_json::to_string_pretty(&summary)? + "\n"
        } else {
            summary.table()
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            // Who reads may have seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.context("cannot write to standard output")?,
        }
        summary
            .failure()
            .map_or(Ok(()), |failure| Err(anyhow::anyhow!(failure)))
    }

    async fn redrive(&self) -> anyhow::Result<Summary> {
        let request = Request {
            dead_letter_url: self.dlq.clone(),
            to: self.to.clone(),
            filter: Filter {
                failed_releases: self.failed_release.clone(),
                reasons: self.reason.clone(),
                since: self.since,
                without_story: self.without_story,
            },
            max_redrives: self.max_redrives,
            rate: Some(self.rate),
            limit: self.limit,
            dry_run: self.dry_run,
            visibility: self.visibility,
        };
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stopping = stop.clone();
        // The first signal ends the run in order. A second one is like a kill, which loses nothing either.
        let signals = tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            next().await;
            stopping.cancel();
            next().await;
            std::process::exit(super::Exit::Cut.code().into());
        });
        let sqs = Sqs::from_environment(REQUEST_TIMEOUT).await;
        // Draws on stderr and only where that is a terminal.
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} read, {msg}, {elapsed}")?;
        let bar = ProgressBar::no_length().with_style(style);
        let watch = |summary: &Summary| {
            bar.set_length(summary.visible.max(summary.found()));
            bar.set_position(summary.found());
            let word = if summary.dry_run { "match" } else { "sent back" };
            bar.set_message(format!("{} {word}", summary.moved()));
        };
        let summary = redrive(&sqs, &request, &watch, &stop).await;
        signals.abort();
        bar.finish_and_clear();
        Ok(summary?)
    }
}
