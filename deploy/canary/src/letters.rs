//! After a rollback: what the release has dead-lettered goes back, by [`redrive`](crate::redrive).

use tokio_util::sync::CancellationToken;
use worker::queue::Queue;
use worker::release::Release;
use worker::sqs::Sqs;

use crate::drive::{Redriver, Redriving};
use crate::redrive::{Filter, Request, redrive};
use crate::rollout::Revision;

/// The dead-letter queue of a release's workers, as their settings name it.
#[derive(Clone, Debug)]
pub struct Letters {
    sqs: Sqs,
    dead_letter_url: Option<String>,
    queue_url: Option<String>,
    queue_name: Option<String>,
}

impl Letters {
    /// Those of `revision`, reached by `sqs`.
    #[must_use]
    pub fn of(revision: &Revision, sqs: Sqs) -> Self {
        let environment = revision.definition.environment();
        let value = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            sqs,
            dead_letter_url: value("WORKER__DLQ__URL"),
            queue_url: value("WORKER__QUEUE__URL"),
            queue_name: value("WORKER__QUEUE__NAME"),
        }
    }

    /// The dead-letter queue: the one that is set, else the target of the queue's redrive policy.
    async fn url(&self) -> Result<String, String> {
        if let Some(url) = &self.dead_letter_url {
            return Ok(url.clone());
        }
        let queue = match (&self.queue_url, &self.queue_name) {
            (Some(url), _) => url.clone(),
            (None, Some(name)) => {
                let found = self.sqs.url(name, None).await;
                found.map_err(|error| format!("the queue {name}: {error}"))?
            }
            (None, None) => {
                return Err(
                    "neither WORKER__DLQ__URL nor WORKER__QUEUE__URL is in the workers' environment; send the letters back by `canary redrive`"
                        .to_owned(),
                );
            }
        };
        let described = self.sqs.queue(queue.as_str()).description().await;
        let described = described.map_err(|error| format!("{queue}: {error}"))?;
        let policy = described
            .redrive
            .ok_or_else(|| format!("{queue} has no redrive policy, and WORKER__DLQ__URL is not set"))?;
        // arn:aws:sqs:region:account:name
        let mut parts = policy.target_arn.rsplitn(3, ':');
        let (name, account) = (parts.next().unwrap_or_default(), parts.next());
        let found = self.sqs.url(name, account).await;
        found.map_err(|error| format!("the dead-letter queue {name}: {error}"))
    }

    async fn send_back(&self, release: Release, per_second: f64) -> Result<String, String> {
        let request = Request {
            filter: Filter {
                failed_releases: vec![release],
                ..Filter::default()
            },
            rate: Some(per_second),
            ..Request::new(self.url().await?)
        };
        let summary = redrive(&self.sqs, &request, &|_| {}, &CancellationToken::new()).await;
        let summary = summary.map_err(|error| error.to_string())?;
        let moved = match (summary.moved(), summary.found()) {
            (0, 0) => "no dead letters, nothing to send back".to_owned(),
            (0, found) => format!("none of the {found} dead letters is its, nothing to send back"),
            (moved, found) => format!("{moved} of {found} dead letters sent back"),
        };
        match summary.failure() {
            None => Ok(moved),
            Some(failure) => Err(format!("{moved}, then {failure}; `canary redrive` goes on")),
        }
    }
}

impl Redriver for Letters {
    fn redrive(&self, release: Release, per_second: f64) -> Redriving {
        let letters = self.clone();
        Box::pin(async move { letters.send_back(release, per_second).await })
    }
}
