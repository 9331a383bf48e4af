//! Counts the requests made of a queue.

use std::sync::Arc;

use super::{BatchResult, Description, Outgoing, Queue, QueueError, ReceiveRequest, Visibility};
use crate::message::Message;
use crate::metrics::{Action, Metrics, RequestResult};

/// A queue whose every request is counted by action and result.
#[derive(Debug)]
pub struct Observed<Q> {
    inner: Q,
    metrics: Arc<Metrics>,
}

impl<Q: Queue> Observed<Q> {
    /// Counts the requests made of `inner` in `metrics`.
    pub fn new(inner: Q, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn count<T>(
        &self,
        action: Action,
        result: Result<T, QueueError>,
        partial: impl Fn(&T) -> bool,
    ) -> Result<T, QueueError> {
        let label = match &result {
            Ok(answer) if partial(answer) => RequestResult::Partial,
            Ok(_) => RequestResult::Ok,
            Err(error) => RequestResult::Failed(error.kind),
        };
        self.metrics.request(action, label);
        result
    }
}

#[expect(clippy::ptr_arg, reason = "the signature that `count` calls it by")]
fn any_failed<T>(results: &Vec<Result<T, QueueError>>) -> bool {
    results.iter().any(Result::is_err)
}

impl<Q: Queue> Queue for Observed<Q> {
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
        self.count(Action::Receive, self.inner.receive(request).await, |_| false)
    }

    async fn delete(&self, receipts: &[Arc<str>]) -> BatchResult<()> {
        self.count(Action::Delete, self.inner.delete(receipts).await, any_failed)
    }

    async fn change_visibility(&self, entries: &[Visibility]) -> BatchResult<()> {
        self.count(
            Action::ChangeVisibility,
            self.inner.change_visibility(entries).await,
            any_failed,
        )
    }

    async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
        self.count(Action::Send, self.inner.send(entries).await, any_failed)
    }

    async fn description(&self) -> Result<Description, QueueError> {
        self.inner.description().await
    }
}
