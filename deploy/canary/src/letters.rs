//! After a rollback: what the release has dead-lettered goes back, by [`redrive`](crate::redrive).

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;
use worker::queue::Queue;
use worker::release::Release;
use worker::sqs::Sqs;

use crate::drive::{Redriver, Redriving};
use crate::redrive::{Filter, Request, Summary, redrive};
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
            (moved, found) => format!(
                "{moved} of {found} dead letters sent back ({})",
                reasons(&summary)
            ),
        };
        match summary.failure() {
            None => Ok(moved),
            Some(failure) => Err(format!("{moved}, then {failure}; `canary redrive` goes on")),
        }
    }
}

/// Reasons that are named; the others are counted together.
const NAMED: usize = 4;

/// What the letters that went back had failed of, most often first.
fn reasons(summary: &Summary) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for group in summary.groups.iter().filter(|group| group.moved > 0) {
        *counts.entry(&group.reason).or_default() += group.moved;
    }
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, moved)| std::cmp::Reverse(*moved));
    let others: u64 = counts.iter().skip(NAMED).map(|(_, moved)| moved).sum();
    counts.truncate(NAMED);
    counts.extend((others > 0).then_some(("others", others)));
    let named = counts.iter().map(|(reason, moved)| format!("{moved} {reason}"));
    named.collect::<Vec<_>>().join(", ")
}

impl Redriver for Letters {
    fn redrive(&self, release: Release, per_second: f64) -> Redriving {
        let letters = self.clone();
        Box::pin(async move { letters.send_back(release, per_second).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::{Ending, Group};

    #[test]
    fn what_went_back_is_named_by_reason_most_often_first() {
        let group = |release: &str, reason: &str, moved| Group {
            release: Some(release.to_owned()),
            reason: reason.to_owned(),
            found: moved,
            matched: moved,
            moved,
            kept: BTreeMap::new(),
            first_failed_at: None,
            last_failed_at: None,
        };
        let mut summary = Summary {
            schema: 1,
            dead_letter_queue: "orders-dlq".to_owned(),
            sources: Vec::new(),
            dry_run: false,
            ending: Ending::Complete,
            visible: 0,
            unread: 0,
            groups: vec![
                group("1", "deadline", 1),
                group("1", "fault", 2),
                group("2", "fault", 1),
                group("2", "poison", 0),
            ],
            seen_again: 0,
            sent_twice_at_most: 0,
            not_deleted: Vec::new(),
            problems: Vec::new(),
        };
        assert_eq!(reasons(&summary), "3 fault, 1 deadline");
        summary
            .groups
            .extend((4..8).map(|count| group("3", &format!("r{count}"), count)));
        assert_eq!(reasons(&summary), "7 r7, 6 r6, 5 r5, 4 r4, 4 others");
    }
}
