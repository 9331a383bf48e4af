//! The way between a worker process and the queues: the seam `worker::queue::Queue` over the model, with faults.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use embedded_sqs::faults::Outcome;
use embedded_sqs::model::Error;
use embedded_sqs::model::action::{
    Action, ChangeMessageVisibilityBatch, ChangeVisibilityEntry, DeleteEntry, DeleteMessageBatch,
    Disturbance, GetQueueAttributes, ReceiveMessage, ReceivedMessage, SendMessageBatch,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use worker::failure::ATTRIBUTE;
use worker::message::Message;
use worker::queue::{
    BatchResult, Description, ErrorKind, Outgoing, Queue, QueueError, ReceiveRequest, RedrivePolicy,
    Visibility,
};

use crate::ledger::{ProcessId, Token};
use crate::sea::{REQUEST_TIMEOUT, Sea};
use crate::translation::{entry, message, queue_error, receive_request, results, seconds, token};

/// As the adapter to SQS has it: what a receive may take beyond its wait.
const RECEIVE_SLACK: Duration = Duration::from_secs(10);

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// The life of one worker process, as its queues and its handler see it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) id: ProcessId,
    pub(crate) killed: CancellationToken,
}

/// One queue as one process sees it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) sea: Arc<Sea>,
    pub(crate) life: Arc<Life>,
    pub(crate) url: String,
}

impl Wire {
    /// One request and its answer. The request is on its own once it is sent: it arrives even if who sent it is dead.
    async fn call<T: Send + 'static>(
        &self,
        action: Action,
        limit: Duration,
        act: impl FnOnce(Arc<Sea>, Disturbance) -> Boxed<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        if self.life.killed.is_cancelled() {
            return std::future::pending().await;
        }
        let (decision, there, back, silent) = self.sea.decide(action);
        let (sender, receiver) = oneshot::channel();
        let sea = Arc::clone(&self.sea);
        drop(tokio::spawn(async move {
            sleep(there).await;
            let result = if decision.outcome.executes() {
                Some(act(sea, decision.disturbance).await)
            } else {
                None
            };
            sleep(decision.delay + back).await;
            let answer = match (decision.outcome, decision.outcome.error(), result) {
                (Outcome::RequestLost | Outcome::AnswerLost, ..) if silent => {
                    return std::future::pending().await;
                }
                (_, Some(error), _) | (Outcome::Normal, None, Some(Err(error))) => Err(queue_error(&error)),
                (Outcome::Normal, None, Some(Ok(value))) => Ok(value),
                _ => Err(QueueError::new(ErrorKind::Network, "the connection broke")),
            };
            let _ = sender.send(answer);
        }));
        match timeout(limit, receiver).await {
            Ok(Ok(answer)) => answer,
            _ => Err(QueueError::new(
                ErrorKind::Timeout,
                "no answer within the timeout",
            )),
        }
    }
}

impl Queue for Wire {
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
        let mut unbroken = Unbroken::new(self, request.max);
        let (url, process) = (self.url.clone(), self.life.id);
        let asked = receive_request(&url, request);
        let limit = request.wait + RECEIVE_SLACK;
        let received = self.call(Action::ReceiveMessage, limit, move |sea, disturbance| {
            let request = ReceiveMessage { disturbance, ..asked };
            Box::pin(long_poll(sea, request, process))
        });
        let received = received.await;
        unbroken.done = true;
        let messages: Vec<_> = received?.iter().map(message).collect();
        let mut state = self.sea.lock();
        for message in &messages {
            state.ledger.answered(&message.receipt);
        }
        drop(state);
        Ok(messages)
    }

    async fn delete(&self, receipts: &[Arc<str>]) -> BatchResult<()> {
        for receipt in receipts {
            self.sea.lock().ledger.deleting(receipt);
        }
        let entries = receipts.iter().enumerate().map(|(index, receipt)| DeleteEntry {
            id: index.to_string(),
            receipt_handle: receipt.to_string(),
        });
        let request = DeleteMessageBatch {
            queue_url: self.url.clone(),
            entries: entries.collect(),
            ..DeleteMessageBatch::default()
        };
        let handles = receipts.to_vec();
        let act = move |sea: Arc<Sea>, disturbance| -> Boxed<_> {
            Box::pin(async move {
                sea.act(|state, now| {
                    let request = DeleteMessageBatch {
                        disturbance,
                        ..request
                    };
                    let output = state.account.delete_message_batch(now, request)?;
                    let done = output.successful.into_iter().map(|entry| (entry.id, ()));
                    let results = results(handles.len(), done, output.failed);
                    for (handle, _) in handles.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
                        state.ledger.deleted(handle);
                    }
                    Ok(results)
                })
            })
        };
        self.call(Action::DeleteMessageBatch, REQUEST_TIMEOUT, act).await
    }

    async fn change_visibility(&self, entries: &[Visibility]) -> BatchResult<()> {
        for entry in entries {
            self.sea.lock().ledger.changing(&entry.receipt, entry.after);
        }
        let asked = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| ChangeVisibilityEntry {
                id: index.to_string(),
                receipt_handle: entry.receipt.to_string(),
                visibility_timeout: Some(i32::try_from(seconds(entry.after)).unwrap()),
            });
        let request = ChangeMessageVisibilityBatch {
            queue_url: self.url.clone(),
            entries: asked.collect(),
            ..ChangeMessageVisibilityBatch::default()
        };
        let changes = entries.to_vec();
        let act = move |sea: Arc<Sea>, disturbance| -> Boxed<_> {
            Box::pin(async move {
                sea.act(|state, now| {
                    let request = ChangeMessageVisibilityBatch {
                        disturbance,
                        ..request
                    };
                    let output = state.account.change_message_visibility_batch(now, request)?;
                    let done = output.successful.into_iter().map(|entry| (entry.id, ()));
                    let results = results(changes.len(), done, output.failed);
                    for (change, _) in changes.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
                        state.ledger.changed(&change.receipt, change.after);
                    }
                    Ok(results)
                })
            })
        };
        let action = Action::ChangeMessageVisibilityBatch;
        let result = self.call(action, REQUEST_TIMEOUT, act).await;
        for entry in entries {
            self.sea.lock().ledger.change_ended(&entry.receipt);
        }
        result
    }

    async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
        let request = SendMessageBatch {
            queue_url: self.url.clone(),
            entries: entries
                .iter()
                .enumerate()
                .map(|(index, outgoing)| entry(index, outgoing))
                .collect(),
            ..SendMessageBatch::default()
        };
        let told = |outgoing: &Outgoing| (token(&outgoing.body), outgoing.attributes.contains_key(ATTRIBUTE));
        let tokens: Vec<(Token, bool)> = entries.iter().map(told).collect();
        let act = move |sea: Arc<Sea>, disturbance| -> Boxed<_> {
            Box::pin(async move {
                sea.act(|state, now| {
                    let to_main = request.queue_url == sea.main;
                    let request = SendMessageBatch {
                        disturbance,
                        ..request
                    };
                    let output = state.account.send_message_batch(now, request)?;
                    let sent = output
                        .successful
                        .into_iter()
                        .map(|entry| (entry.id, entry.sent.message_id.to_string()));
                    let results = results(tokens.len(), sent, output.failed);
                    for ((token, story), result) in tokens.iter().zip(&results) {
                        if let (true, Ok(id)) = (to_main, result) {
                            state.ledger.copied_back(*token, id, *story);
                        }
                    }
                    Ok(results)
                })
            })
        };
        self.call(Action::SendMessageBatch, REQUEST_TIMEOUT, act).await
    }

    async fn description(&self) -> Result<Description, QueueError> {
        let request = GetQueueAttributes {
            queue_url: self.url.clone(),
            attribute_names: vec!["All".into()],
        };
        let output = self
            .sea
            .act(|state, now| state.account.queue_attributes(now, &request));
        let attributes = output.map_err(|error| queue_error(&error))?.attributes;
        let text = |name: &str| attributes.get(name).cloned();
        let number = |name: &str| text(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        let policy = text("RedrivePolicy").map(|policy| {
            let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
            let count = &policy["maxReceiveCount"];
            RedrivePolicy {
                target_arn: policy["deadLetterTargetArn"].as_str().unwrap().to_owned(),
                max_receive_count: count
                    .as_u64()
                    .or_else(|| count.as_str()?.parse().ok())
                    .and_then(|count| u32::try_from(count).ok())
                    .unwrap(),
            }
        });
        Ok(Description {
            arn: text("QueueArn").unwrap(),
            fifo: text("FifoQueue").as_deref() == Some("true"),
            visibility_timeout: Duration::from_secs(number("VisibilityTimeout")),
            max_message_bytes: usize::try_from(number("MaximumMessageSize")).unwrap(),
            retention: Duration::from_secs(number("MessageRetentionPeriod")),
            redrive: policy,
            visible: number("ApproximateNumberOfMessages"),
        })
    }
}

/// A receive must not be dropped while its process lives: SQS may have handed out messages already.
struct Unbroken<'a> {
    wire: &'a Wire,
    messages: usize,
    done: bool,
}

impl<'a> Unbroken<'a> {
    fn new(wire: &'a Wire, messages: usize) -> Self {
        wire.sea.lock().ledger.asks(wire.life.id, messages);
        Self {
            wire,
            messages,
            done: false,
        }
    }
}

impl Drop for Unbroken<'_> {
    fn drop(&mut self) {
        let mut state = self.wire.sea.lock();
        state.ledger.asked(self.wire.life.id, self.messages);
        if !self.done && !self.wire.life.killed.is_cancelled() {
            state
                .ledger
                .violated("a receive is never aborted", format!("{:?}", self.wire.life.id));
        }
    }
}
/// Waits for the first message, as SQS does.
async fn long_poll(
    sea: Arc<Sea>,
    request: ReceiveMessage,
    process: ProcessId,
) -> Result<Vec<ReceivedMessage>, Error> {
    let wait = request.wait_time_seconds.unwrap_or(0).try_into().unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(wait);
    loop {
        // Listens before it looks.
        let mut woken = std::pin::pin!(sea.woken.notified());
        woken.as_mut().enable();
        let (messages, next) = sea.act(|state, now| {
            let messages = state.account.receive_message(now, &request)?.messages;
            for message in &messages {
                let token = token(&message.body);
                let (id, handle) = (message.message_id.to_string(), message.receipt_handle.to_string());
                state.ledger.received(process, &id, &handle, token);
            }
            let next = state.account.next_visible_at(now, &request.queue_url)?;
            Ok((messages, next.map(|at| at.since(now))))
        })?;
        if !messages.is_empty() || Instant::now() >= end {
            return Ok(messages);
        }
        let due = next
            .filter(|left| !left.is_zero())
            .map_or(end, |left| end.min(Instant::now() + left));
        if timeout_at(due, woken).await.is_err() {
            sleep_until(due).await;
        }
    }
}
