//! Checks the settings against the queues before anything is received.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::{Locator, Settings};
use crate::failure::Target;
use crate::queue::{Description, Queue, QueueError};
use crate::retry::Backoff;
use crate::sqs::{Sqs, SqsQueue};

/// The queues, found and described.
#[derive(Debug)]
pub struct Queues {
    /// The queue to drain.
    pub main: (SqsQueue, Description),
    /// Where failed messages go.
    pub dead_letter: (SqsQueue, Description),
    /// What canaries failed.
    pub handover: Option<(SqsQueue, Description)>,
}

impl Queues {
    /// What the dead-letter queue takes.
    #[must_use]
    pub fn dead_letter_target(&self) -> Target {
        let description = &self.dead_letter.1;
        Target {
            max_message_bytes: description.max_message_bytes,
            fifo: description.fifo,
        }
    }
}

/// Why the worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A queue could not be asked.
    #[error("{setting}: {subject}: {error}")]
    Unreachable {
        /// The setting that names it.
        setting: &'static str,
        /// Its URL or name.
        subject: String,
        /// What SQS said.
        error: QueueError,
    },
    /// Settings and queues do not fit together.
    #[error("{}", .0.join("\n"))]
    Unfit(Vec<String>),
}

/// Finds the queues and checks that they fit the settings. What is transient is tried again for `settings.startup`.
///
/// # Errors
/// [`Refusal`], with all that does not fit.
pub async fn run(sqs: &Sqs, settings: &Settings) -> Result<Queues, Refusal> {
    let until = Instant::now() + settings.startup;
    let url = match &settings.queue.locator {
        Locator::Url(url) => url.clone(),
        Locator::Name(name) => {
            asked(sqs, "queue.name", name, until, async || sqs.url(name, None).await).await?
        }
    };
    let main = described(sqs, "queue.url", url, until).await?;
    let dead_letter_url = match (&settings.dead_letter_url, &main.1.redrive) {
        (Some(url), _) => url.clone(),
        (None, Some(policy)) => {
            let (account, name) = account_and_name(&policy.target_arn);
            asked(sqs, "dlq.url", name, until, async || sqs.url(name, account).await).await?
        }
        (None, None) => return Err(Refusal::Unfit(vec![no_redrive(&main.1)])),
    };
    let dead_letter = described(sqs, "dlq.url", dead_letter_url, until).await?;
    let handover = match &settings.handover {
        Some(handover) => Some(described(sqs, "handover.url", handover.url.clone(), until).await?),
        None => None,
    };
    let mut unfit = misfits(settings, &main.1, &dead_letter.1);
    if let Some((_, handover)) = &handover {
        unfit.extend(handover_misfits(&main.1, &dead_letter.1, handover));
    }
    if unfit.is_empty() {
        Ok(Queues {
            main,
            dead_letter,
            handover,
        })
    } else {
        Err(Refusal::Unfit(unfit))
    }
}

async fn described(
    sqs: &Sqs,
    setting: &'static str,
    url: String,
    until: Instant,
) -> Result<(SqsQueue, Description), Refusal> {
    let queue = sqs.queue(url.as_str());
    let description = asked(sqs, setting, &url, until, async || queue.description().await).await?;
    Ok((queue, description))
}

/// Asks until there is an answer, a lasting error, or the time is over.
async fn asked<T>(
    sqs: &Sqs,
    setting: &'static str,
    subject: &str,
    until: Instant,
    ask: impl AsyncFn() -> Result<T, QueueError>,
) -> Result<T, Refusal> {
    let backoff = Backoff {
        base: Duration::from_millis(200),
        max: Duration::from_secs(2),
    };
    let mut rng = fastrand::Rng::new();
    let mut tries = 0;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.kind.is_transient() && Instant::now() < until => {
                tries += 1;
                let error = sqs.located(error);
                tracing::warn!(setting, subject, %error, "SQS does not answer; trying again");
                sleep(Duration::from_millis(100) + backoff.delay(tries, &mut rng)).await;
            }
            Err(error) => {
                return Err(Refusal::Unreachable {
                    setting,
                    subject: subject.to_owned(),
                    error: sqs.located(error),
                });
            }
        }
    }
}

fn account_and_name(arn: &str) -> (Option<&str>, &str) {
    let mut parts = arn.rsplit(':');
    let name = parts.next().unwrap_or(arn);
    (parts.next().filter(|account| !account.is_empty()), name)
}

fn no_redrive(main: &Description) -> String {
    format!(
        "queue.url: {} has no redrive policy; expected one: without it a message that crashes its worker comes back for ever",
        main.name()
    )
}

/// What does not fit between settings, main queue and dead-letter queue. Pure.
fn misfits(settings: &Settings, main: &Description, dead_letter: &Description) -> Vec<String> {
    let mut unfit = Vec::new();
    if main.redrive.is_none() {
        unfit.push(no_redrive(main));
    }
    if main.arn == dead_letter.arn {
        unfit.push(format!(
            "dlq.url: {} is the main queue itself; expected another queue",
            dead_letter.name()
        ));
    }
    if main.fifo != dead_letter.fifo {
        let kind = |fifo| if fifo { "a FIFO queue" } else { "a standard queue" };
        unfit.push(format!(
            "dlq.url: {} is {}; expected {}, as {} is",
            dead_letter.name(),
            kind(dead_letter.fifo),
            kind(main.fifo),
            main.name()
        ));
    }
    if dead_letter.max_message_bytes < main.max_message_bytes {
        unfit.push(format!(
            "dlq.url: {} takes messages of {} bytes; expected at least the {} of {}",
            dead_letter.name(),
            dead_letter.max_message_bytes,
            main.max_message_bytes,
            main.name()
        ));
    }
    if dead_letter.retention < main.retention {
        unfit.push(format!(
            "dlq.url: {} keeps messages for {}; expected at least the {} of {}, better 14 days: on standard queues \
             what SQS moves there keeps its age",
            dead_letter.name(),
            humantime::format_duration(dead_letter.retention),
            humantime::format_duration(main.retention),
            main.name()
        ));
    }
    // A beat comes every third of the timeout, and a request may take its own timeout.
    let visibility = settings.queue.visibility.unwrap_or(main.visibility_timeout);
    if visibility < Duration::from_secs(3) || visibility / 3 * 2 <= settings.request_timeout {
        unfit.push(format!(
            "queue.visibility_timeout: {} ({}); expected at least 3 s and more than one and a half times sqs.timeout ({}), \
             so that a heartbeat, every third of it, can fail once",
            humantime::format_duration(visibility),
            if settings.queue.visibility.is_some() { "from the settings" } else { "the queue's own" },
            humantime::format_duration(settings.request_timeout),
        ));
    }
    unfit
}

fn handover_misfits(main: &Description, dead_letter: &Description, handover: &Description) -> Vec<String> {
    let mut unfit = Vec::new();
    if main.fifo {
        unfit.push(format!(
            "handover.url: {} is a FIFO queue, whose order ties releases together; expected no handover queue",
            main.name()
        ));
    }
    if [&main.arn, &dead_letter.arn].contains(&&handover.arn) {
        unfit.push(format!(
            "handover.url: {} is the main or dead-letter queue; expected a third one",
            handover.name()
        ));
    }
    if handover
        .redrive
        .as_ref()
        .is_none_or(|policy| policy.target_arn != dead_letter.arn)
    {
        unfit.push(format!(
            "handover.url: {} has no redrive policy to {}; expected one",
            handover.name(),
            dead_letter.name()
        ));
    }
    if handover.max_message_bytes < main.max_message_bytes {
        unfit.push(format!(
            "handover.url: {} takes messages of {} bytes; expected at least the {} of {}",
            handover.name(),
            handover.max_message_bytes,
            main.max_message_bytes,
            main.name()
        ));
    }
    unfit
}

#[cfg(test)]
mod tests;
