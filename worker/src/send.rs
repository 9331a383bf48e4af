//! `worker send`: from a file or standard input into the queue, one message a line.
//!
//! Lines go in batches of ten and 1 MiB at most, several at once on a standard queue and one after the other on a FIFO
//! queue. What SQS fails for the moment is sent again, what it refuses is named by its line.

mod batches;
mod input;
mod options;

use std::future::Future;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

pub use self::options::{Arguments, Attribute, Rate};

use self::batches::{Batch, gather};
use self::input::{Lines, Total};
use crate::config::Locator;
use crate::queue::{Description, ErrorKind, Outgoing, Queue, QueueError};
use crate::retry::Backoff;
use crate::shutdown::Signals;

/// Batches under way at once, on a standard queue.
const CALLS: usize = 8;

/// How often a batch is sent again before its entries are given up.
const TRIES: u32 = 8;

/// So many lines that were not sent are named, and the rest counted.
const NAMED: usize = 20;

/// What became of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages that SQS accepted.
    pub sent: u64,
    /// Requests for them, each try counted.
    pub requests: u64,
    /// Blank lines, which are no messages.
    pub blank: u64,
    /// The lines that were not sent, and why; at most the first [`NAMED`].
    pub failed: Vec<(u64, String)>,
    /// Their count.
    pub failures: u64,
    /// The last line that was taken before an interruption; none when all were read.
    pub interrupted_after: Option<u64>,
}

impl Summary {
    /// Whether every line was sent.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.failures == 0 && self.interrupted_after.is_none()
    }

    fn fail(&mut self, line: u64, why: String) {
        self.failures += 1;
        // Batches end in any order: the smallest numbers are kept.
        let place = self.failed.partition_point(|(other, _)| *other < line);
        self.failed.insert(place, (line, why));
        self.failed.truncate(NAMED);
    }
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The input cannot be read.
    #[error("{name}: {error}")]
    Input {
        /// The file.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The queue cannot be found or asked.
    #[error("{setting}: {subject}: {error}")]
    Queue {
        /// The setting that names it.
        setting: &'static str,
        /// Its URL or name.
        subject: String,
        /// What SQS said.
        error: QueueError,
    },
    /// The options do not fit the queue.
    #[error("{0}")]
    Unfit(String),
    /// The system refuses.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Sends what `arguments` name to the queue at `locator`, and says what became of it.
///
/// SIGINT and SIGTERM stop the reading; what is under way is seen through.
///
/// # Errors
/// [`SendError`], before anything was sent.
pub async fn run(
    sqs: &crate::sqs::Sqs,
    locator: &Locator,
    arguments: &Arguments,
) -> Result<Summary, SendError> {
    let (setting, subject) = match locator {
        Locator::Url(url) => ("queue.url", url),
        Locator::Name(name) => ("queue.name", name),
    };
    let failed = |error| SendError::Queue {
        setting,
        subject: subject.clone(),
        error: sqs.located(error),
    };
    let url = match locator {
        Locator::Url(url) => url.clone(),
        Locator::Name(name) => sqs.url(name, None).await.map_err(failed)?,
    };
    let queue = sqs.queue(url);
    let description = queue.description().await.map_err(failed)?;
    arguments.fit(&description).map_err(SendError::Unfit)?;
    let mut signals = Signals::catch()?;
    let (lines, total) = input::open(arguments.file.as_deref())?;
    let progress = progress(total);
    let template = arguments.template(&description);
    let sending = Sending {
        queue: Arc::new(queue),
        template,
        description,
        rate: arguments.rate,
        progress: progress.clone(),
        summary: Summary::default(),
    };
    let summary = sending.run(lines, async { signals.next().await }).await;
    progress.finish_and_clear();
    Ok(summary)
}

/// A bar on a terminal, by bytes of a file or by messages of a stream; nothing elsewhere.
fn progress(total: Total) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let (bar, template) = match total {
        Total::Bytes(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {percent:>3} %  {msg}  {elapsed_precise}, {eta} left",
        ),
        Total::Unknown => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed_precise}"),
    };
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One run of the command.
struct Sending<Q> {
    queue: Arc<Q>,
    template: options::Template,
    description: Description,
    rate: Option<Rate>,
    progress: ProgressBar,
    summary: Summary,
}

impl<Q: Queue> Sending<Q> {
    async fn run(mut self, mut lines: Lines, stop: impl Future<Output = &'static str> + Send) -> Summary {
        let calls = if self.description.fifo { 1 } else { CALLS };
        let most = self.rate.map_or(crate::queue::MAX_BATCH, Rate::batch);
        let mut stop = std::pin::pin!(stop);
        let (mut under_way, mut carried, mut last) = (JoinSet::new(), None, 0);
        let mut due = Instant::now();
        // Until the end of the input, or a signal.
        loop {
            let batch = tokio::select! {
                biased;
                _ = &mut stop => {
                    self.summary.interrupted_after = Some(last);
                    break;
                }
                batch = gather(&mut lines, &mut carried, &self.template, &self.description, most) => batch,
            };
            let Some(batch) = batch else { break };
            last = batch.last_line.max(last);
            let count = batch.entries.len();
            self.note(&batch);
            if batch.entries.is_empty() {
                continue;
            }
            while under_way.len() >= calls {
                self.take(under_way.join_next().await);
            }
            if let Some(rate) = self.rate {
                sleep_until(due).await;
                due = due.max(Instant::now()) + rate.time(count);
            }
            under_way.spawn(see_through(Arc::clone(&self.queue), batch));
        }
        while !under_way.is_empty() {
            self.take(under_way.join_next().await);
        }
        self.summary
    }

    /// Notes what of a batch is not sent at all.
    fn note(&mut self, batch: &Batch) {
        self.summary.blank += batch.blank;
        for (line, why) in &batch.bad {
            self.summary.fail(*line, why.clone());
        }
        self.progress.inc(batch.bytes_not_sent);
    }

    fn take(&mut self, ended: Option<Result<Seen, tokio::task::JoinError>>) {
        let Some(Ok(seen)) = ended else { return };
        self.summary.sent += seen.sent;
        self.summary.requests += seen.requests;
        for (line, why) in seen.failed {
            self.summary.fail(line, why);
        }
        self.progress.inc(seen.bytes);
        let (sent, failures) = (self.summary.sent, self.summary.failures);
        self.progress
            .set_message(format!("{sent} sent, {failures} failed"));
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    requests: u64,
    bytes: u64,
    failed: Vec<(u64, String)>,
}

/// Sends a batch until every entry is accepted, refused, or given up.
async fn see_through<Q: Queue>(queue: Arc<Q>, batch: Batch) -> Seen {
    let backoff = Backoff {
        base: Duration::from_millis(200),
        max: Duration::from_secs(10),
    };
    let mut rng = fastrand::Rng::new();
    let mut seen = Seen::default();
    let mut entries = batch.entries;
    seen.bytes = entries.iter().map(|entry| entry.bytes).sum();
    for tried in 1..=TRIES {
        let outgoing: Vec<Outgoing> = entries.iter().map(|entry| entry.outgoing.clone()).collect();
        seen.requests += 1;
        let mut results = match queue.send(&outgoing).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); entries.len()],
        };
        let missing = QueueError::new(ErrorKind::Answer, "the answer has no result for the entry");
        results.resize(entries.len(), Err(missing));
        let mut again = Vec::new();
        for (entry, result) in entries.into_iter().zip(results) {
            match result {
                Ok(_) => seen.sent += 1,
                Err(error) if error.kind.is_transient() && tried < TRIES => again.push(entry),
                Err(error) => seen.failed.push((entry.line, error.to_string())),
            }
        }
        entries = again;
        if entries.is_empty() {
            break;
        }
        sleep(Duration::from_millis(50) + backoff.delay(tried, &mut rng)).await;
    }
    seen
}

/// The lines of a summary for people: what was sent, and what was not.
#[must_use]
pub fn report(summary: &Summary, queue: &str, elapsed: Duration) -> (String, Vec<String>) {
    let Summary {
        sent,
        requests,
        blank,
        failed,
        failures,
        interrupted_after,
    } = summary;
    let mut problems: Vec<String> = failed
        .iter()
        .map(|(line, why)| format!("line {line}: {why}"))
        .collect();
    let named = u64::try_from(failed.len()).unwrap_or(u64::MAX);
    if *failures > named {
        problems.push(format!("and {} more lines", failures - named));
    }
    if let Some(last) = interrupted_after {
        problems.push(format!(
            "interrupted after line {last}; to go on: tail -n +{} FILE | worker send",
            last + 1
        ));
    }
    let seconds = elapsed.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = *sent as f64 / seconds;
    let blank = if *blank > 0 {
        format!(", {blank} blank lines left out")
    } else {
        String::new()
    };
    let text = format!(
        "sent {sent} messages to {queue} in {seconds:.1} s ({rate:.0}/s, {requests} requests); {failures} not sent{blank}"
    );
    (text, problems)
}

#[cfg(test)]
mod tests;
