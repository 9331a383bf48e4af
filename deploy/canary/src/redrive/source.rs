//! The queues that dead letters may go back to.

use std::sync::Arc;

use worker::queue::{Description, Queue};
use worker::sqs::{Sqs, SqsQueue};

use super::RedriveError;
use super::letter::Letter;

/// A queue whose redrive policy names the dead-letter queue.
#[derive(Clone, Debug)]
pub struct Source<Q> {
    /// The queue.
    pub queue: Arc<Q>,
    /// What SQS says of it.
    pub description: Description,
}

/// All of them, or the one that was asked for.
#[derive(Clone, Debug)]
pub struct Sources<Q> {
    list: Vec<Source<Q>>,
    /// A person chose the one there is.
    chosen: bool,
}

impl<Q> Sources<Q> {
    /// All queues whose redrive policy names the dead-letter queue; whoever calls has looked.
    #[must_use]
    pub fn new(list: Vec<Source<Q>>) -> Self {
        Self { list, chosen: false }
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let name = |source: &Source<Q>| source.description.name().to_owned();
        self.list.iter().map(name).collect()
    }

    /// The queue at `index`, as [`Sources::pick`] gives it.
    pub(super) fn get(&self, index: usize) -> Option<&Source<Q>> {
        self.list.get(index)
    }

    /// Where `letter` goes; none when that cannot be told. What a message says of itself only chooses among these queues; what
    /// SQS says of it (it moved the message itself) goes before that.
    #[must_use]
    pub(super) fn pick(&self, letter: &Letter) -> Option<usize> {
        if self.chosen {
            return (!self.list.is_empty()).then_some(0);
        }
        let only = |found: &dyn Fn(&Description) -> bool| {
            let mut indices = (0..self.list.len()).filter(|index| found(&self.list[*index].description));
            indices.next().filter(|_| indices.next().is_none())
        };
        match (&letter.message.dead_letter_source, letter.story()) {
            (Some(arn), _) => only(&|queue| queue.arn == *arn),
            (None, Some(story)) => only(&|queue| queue.name() == story.source_queue),
            (None, None) => only(&|_| true),
        }
    }
}

pub(super) async fn described(queue: &SqsQueue) -> Result<Description, RedriveError> {
    queue.description().await.map_err(|error| RedriveError::Queue {
        subject: format!("GetQueueAttributes of {}", queue.url()),
        error,
    })
}

/// The sources of the dead-letter queue at `url`, or of them the one at `to`.
pub(super) async fn find(
    sqs: &Sqs,
    url: &str,
    dead_letter: &Description,
    to: Option<&str>,
) -> Result<Sources<SqsQueue>, RedriveError> {
    let urls = sqs.dead_letter_sources(url).await;
    let urls = urls.map_err(|error| RedriveError::Queue {
        subject: format!("ListDeadLetterSourceQueues of {url}"),
        error,
    })?;
    let mut sources = Vec::new();
    for url in &urls {
        let queue = sqs.queue(url.as_str());
        let description = described(&queue).await?;
        // The list lags behind policies that were changed; the policy itself does not.
        let policy = description.redrive.as_ref();
        if policy.is_some_and(|policy| policy.target_arn == dead_letter.arn) {
            let queue = Arc::new(queue);
            sources.push(Source { queue, description });
        }
    }
    if sources.is_empty() {
        return Err(RedriveError::NoSource(url.to_owned()));
    }
    if let Some(to) = to {
        // By ARN: one queue can have several URLs.
        let wanted = described(&sqs.queue(to)).await?;
        let names = sources
            .iter()
            .map(|source| source.queue.url().to_owned())
            .collect();
        sources.retain(|source| source.description.arn == wanted.arn);
        if sources.is_empty() {
            return Err(RedriveError::NotASource {
                to: to.to_owned(),
                dead_letter: url.to_owned(),
                sources: names,
            });
        }
    }
    Ok(Sources {
        list: sources,
        chosen: to.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::letter::tests::{foreign, queue, told};

    fn sources(names: &[&str]) -> Sources<()> {
        let source = |name: &&str| Source {
            queue: Arc::new(()),
            description: queue(name, false),
        };
        Sources::new(names.iter().map(source).collect())
    }

    #[test]
    fn a_claim_only_chooses_among_the_sources() {
        let both = sources(&["orders-handover", "orders"]);
        assert_eq!(both.pick(&told("1", "panic", 1)), Some(1));
        // Its story claims the queue `orders`, which is no source here.
        assert_eq!(sources(&["payments"]).pick(&told("1", "panic", 1)), None);
        assert_eq!(sources(&["a", "b"]).pick(&told("1", "panic", 1)), None);
    }

    #[test]
    fn what_sqs_moved_goes_where_sqs_says_and_the_rest_only_where_there_is_no_choice() {
        let both = sources(&["orders", "orders-handover"]);
        let moved = foreign(Some("arn:aws:sqs:eu-west-1:1:orders-handover"));
        assert_eq!(both.pick(&moved), Some(1));
        assert_eq!(both.pick(&foreign(Some("arn:aws:sqs:eu-west-1:1:gone"))), None);
        assert_eq!(both.pick(&foreign(None)), None);
        assert_eq!(sources(&["orders"]).pick(&foreign(None)), Some(0));
        let chosen = Sources {
            chosen: true,
            ..sources(&["payments"])
        };
        assert_eq!(chosen.pick(&told("1", "panic", 1)), Some(0));
    }
}
