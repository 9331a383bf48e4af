//! What a rollout and the queues look like, as metrics to scrape: `canary exporter`.
//!
//! It reads the journal and asks SQS; it drives nothing and needs no rollout to be under way. So it tells of a rollout whose tool has
//! died, too. Each scrape looks anew, and shows only what is there now.

pub mod catalogue;
pub mod rollout;
pub mod server;

use std::time::Duration;

use metrics::{Label, SharedString, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::time::timeout;
use worker::sqs::Sqs;

use crate::journal::{Journal, Store, StoreError};
use catalogue::{CATALOGUE, ERRORS, QUEUE_MESSAGES};

/// How long reading the journal, and asking for one queue, may take.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// What is looked at, and what went wrong so far.
#[derive(Debug)]
pub struct Exporter<S> {
    /// The journal; none where only queues are watched.
    pub store: Option<S>,
    /// The queues.
    pub queues: Vec<Watched>,
    /// Who asks for their depths.
    pub sqs: Sqs,
    /// Reads of the journal that failed.
    pub journal_errors: u64,
    /// Questions for a queue's depth that failed.
    pub queue_errors: u64,
}

impl<S: Store> Exporter<S> {
    /// The journal as it is now; none when there was no rollout yet, or none is watched.
    ///
    /// # Errors
    /// When it cannot be read within 5 s.
    pub async fn journal(&self) -> Result<Option<Journal>, StoreError> {
        let Some(store) = &self.store else { return Ok(None) };
        let read = timeout(PATIENCE, store.read()).await;
        let slow = || StoreError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
        Ok(read.map_err(|_| slow())??.map(|(journal, _)| journal))
    }

    /// Looks at everything, and says it in Prometheus' text format. What cannot be read is left out and counted.
    pub async fn scrape(&mut self) -> String {
        let journal = self.journal().await;
        self.journal_errors += u64::from(journal.is_err());
        if let Err(error) = &journal {
            tracing::warn!(%error, "the journal cannot be read");
        }
        let mut depths = Vec::new();
        // A handful: one after the other is soon enough.
        for queue in &self.queues {
            let asked = timeout(PATIENCE, self.sqs.queue(&queue.url).depth()).await;
            match asked {
                Ok(Ok(depth)) => depths.push((queue, depth)),
                Ok(Err(error)) => {
                    self.queue_errors += 1;
                    tracing::warn!(queue = queue.name(), %error, "the queue's depth is not known");
                }
                Err(_) => self.queue_errors += 1,
            }
        }
        let page = Page::new();
        if let Ok(Some(journal)) = &journal {
            rollout::show(&page, journal);
        }
        for (queue, depth) in depths {
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
        page.set(ERRORS, &[("source", "journal")], whole(self.journal_errors));
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
mod tests;
