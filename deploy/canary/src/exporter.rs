//! What a rollout and the queues look like, as metrics to scrape: `canary exporter`.
//!
//! It reads the journal and asks SQS; it drives nothing and needs no rollout to be under way. So it tells of a rollout whose tool has
//! died, too. However often it is scraped, and by however many, it looks at the journal and at the queues once in a while only: on AWS
//! each look is a call that costs something. A journal that cannot be read is told as it was read last, with [`JOURNAL_UP`] at 0, and
//! after [`KEPT_FOR`] not any more: what was true then says nothing about now.

pub mod catalogue;
pub mod rollout;
pub mod server;

use std::time::Duration;

use metrics::{Label, SharedString, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::time::{Instant, timeout};
use worker::clock::Clock;
use worker::sqs::{Depth, Sqs};

use crate::journal::{Journal, Store, StoreError};
use crate::moment::Moment;
use catalogue::{CATALOGUE, ERRORS, JOURNAL_READ, JOURNAL_UP, QUEUE_MESSAGES};

/// How long reading the journal, and asking for one queue, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at the queues.
const DEPTHS_EVERY: Duration = Duration::from_secs(1);

/// How long a journal is told of after it was read last.
pub const KEPT_FOR: Duration = Duration::from_mins(5);

/// What a queue is for: the label `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the workers drain.
    Main,
    /// What a canary failed, for the stable release.
    Handover,
    /// What nobody could do.
    DeadLetter,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Main, Self::Handover, Self::DeadLetter];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Handover => "handover",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// What messages of a queue do: the label `state` of [`QUEUE_MESSAGES`].
pub const STATES: [&str; 3] = ["visible", "in_flight", "delayed"];

/// A queue to ask for its depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What it is for.
    pub role: Role,
    /// Its URL.
    pub url: String,
}

impl Watched {
    /// Its name: the last part of the URL.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

/// What is looked at, what was seen last, and what went wrong so far.
#[derive(Debug)]
pub struct Exporter<S> {
    /// The journal; none where only queues are watched.
    store: Option<S>,
    /// Between two looks at it.
    every: Duration,
    queues: Vec<Watched>,
    sqs: Sqs,
    clock: Clock,
    seen: Seen,
    depths: Vec<(usize, Depth)>,
    asked: Option<Instant>,
    queue_errors: u64,
}

/// The journal, as far as it could be read.
#[derive(Debug, Default)]
struct Seen {
    /// When it was looked at last.
    looked: Option<Instant>,
    /// What was wrong then.
    error: Option<StoreError>,
    /// What was there when it could be read last, and when that was.
    read: Option<Read>,
    /// Looks that failed.
    errors: u64,
}

#[derive(Debug)]
struct Read {
    journal: Option<Journal>,
    at: Instant,
    moment: Moment,
}

impl<S: Store> Exporter<S> {
    /// An exporter of the journals in `store`, looked at once in `every` at most, and of these queues.
    #[must_use]
    pub fn new(store: Option<S>, every: Duration, queues: Vec<Watched>, sqs: Sqs) -> Self {
        Self {
            store,
            every,
            queues,
            sqs,
            clock: Clock::System,
            seen: Seen::default(),
            depths: Vec::new(),
            asked: None,
            queue_errors: 0,
        }
    }

    /// The journal as it was read last; none when there was no rollout then, or none is watched.
    ///
    /// # Errors
    /// When it could not be read for [`KEPT_FOR`].
    pub async fn journal(&mut self) -> Result<Option<&Journal>, &StoreError> {
        self.look().await;
        let Seen { error, read, .. } = &self.seen;
        match (read, error) {
            (Some(read), _) => Ok(read.journal.as_ref()),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Reads the journal, unless that was done a moment ago.
    async fn look(&mut self) {
        let Some(store) = &self.store else { return };
        let seen = &mut self.seen;
        if seen.looked.is_some_and(|looked| looked.elapsed() < self.every) {
            return;
        }
        let read = timeout(PATIENCE, store.read()).await;
        let slow = || StoreError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
        let now = Instant::now();
        // After the answer: a store that does not answer is not asked again at once.
        seen.looked = Some(now);
        match read.unwrap_or_else(|_| Err(slow())) {
            Ok(found) => {
                if seen.error.take().is_some() {
                    tracing::warn!("the journal can be read again");
                }
                seen.read = Some(Read {
                    journal: found.map(|(journal, _)| journal),
                    at: now,
                    moment: self.clock.now().into(),
                });
            }
            Err(error) => {
                seen.errors += 1;
                // Once for as long as it lasts; the metric says so all the time.
                if seen.error.is_none() {
                    tracing::warn!(%error, "the journal cannot be read");
                }
                seen.error = Some(error);
                if seen.read.as_ref().is_some_and(|read| now - read.at > KEPT_FOR) {
                    seen.read = None;
                }
            }
        }
    }

    /// Asks for the queues' depths, unless that was done a moment ago. What is not known is left out.
    async fn ask(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < DEPTHS_EVERY) {
            return;
        }
        self.depths.clear();
        // A handful: one after the other is soon enough.
        for (index, queue) in self.queues.iter().enumerate() {
            let asked = timeout(PATIENCE, self.sqs.queue(&queue.url).depth()).await;
            let error = match asked {
                Ok(Ok(depth)) => {
                    self.depths.push((index, depth));
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            self.queue_errors += 1;
            tracing::warn!(queue = queue.name(), %error, "the queue's depth is not known");
        }
        self.asked = Some(Instant::now());
    }

    /// Everything as it was seen last, in Prometheus' text format.
    pub async fn scrape(&mut self) -> String {
        self.look().await;
        self.ask().await;
        let page = Page::new();
        if self.store.is_some() {
            page.set(JOURNAL_UP, &[], if self.seen.error.is_none() { 1.0 } else { 0.0 });
        }
        if let Some(Read { journal, moment, .. }) = &self.seen.read {
            page.set(JOURNAL_READ, &[], whole(moment.millis()) / 1000.0);
            if let Some(journal) = journal {
                rollout::show(&page, journal);
            }
        }
        for (index, depth) in &self.depths {
            let queue = &self.queues[*index];
            let counts = [depth.visible, depth.in_flight, depth.delayed];
            for (state, count) in STATES.into_iter().zip(counts) {
                let labels = [
                    ("queue", queue.name()),
                    ("role", queue.role.as_str()),
                    ("state", state),
                ];
                page.set(QUEUE_MESSAGES, &labels, whole(count));
            }
        }
        page.set(ERRORS, &[("source", "journal")], whole(self.seen.errors));
        page.set(ERRORS, &[("source", "queue")], whole(self.queue_errors));
        page.text()
    }
}

/// One answer to a scrape: only what is set on it is there.
struct Page(PrometheusRecorder);

impl Page {
    fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            for metric in CATALOGUE {
                metrics::describe_gauge!(metric.name, metric.help);
            }
        });
        Self(recorder)
    }

    fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let label =
            |(key, value): &(&'static str, &str)| Label::new(*key, SharedString::from((*value).to_owned()));
        let labels: Vec<Label> = labels.iter().map(label).collect();
        with_local_recorder(&self.0, || gauge!(name, labels).set(value));
    }

    fn text(&self) -> String {
        self.0.handle().render()
    }
}

/// Counts are far below 2^53, from which on a float skips some.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are floats")]
const fn whole(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests;
