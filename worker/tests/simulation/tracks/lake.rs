//! Three queues without faults, and the way of one process to one of them: faults of the wire are the other world's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedded_sqs::model::action::{
    ChangeMessageVisibilityBatch, ChangeVisibilityEntry, CreateQueue, DeleteEntry, DeleteMessageBatch,
    PurgeQueue, ReceiveMessage, SendMessageBatch,
};
use embedded_sqs::model::{Account, AccountConfig, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use worker::message::Message;
use worker::queue::{
    BatchResult, Description, Outgoing, Queue, QueueError, ReceiveRequest, RedrivePolicy, Visibility,
};

use crate::sea::EPOCH;
use crate::translation::{entry, message, queue_error, receive_request, results, seconds};

/// The queues' visibility timeout: SQS's own default.
pub(crate) const VISIBILITY: Duration = Duration::from_secs(30);

/// The queues of a service that releases by canary.
#[derive(Debug)]
pub(crate) struct Lake {
    state: Mutex<State>,
    woken: Notify,
    origin: Instant,
    max_receives: u32,
    /// URLs.
    pub(crate) main: String,
    pub(crate) dead: String,
    pub(crate) handover: String,
}

#[derive(Debug)]
struct State {
    account: Account,
    random: fastrand::Rng,
    /// What was sent to the handover queue: original id, and how often.
    handed_over: BTreeMap<String, usize>,
    /// When each queue was asked for something, by its URL.
    asked: BTreeMap<String, Vec<Duration>>,
}

impl Lake {
    pub(crate) fn new(seed: u64, max_receives: u32) -> Arc<Self> {
        let mut account = Account::new(AccountConfig {
            seed,
            ..AccountConfig::default()
        });
        let mut create = |name: &str, policy: bool| {
            let mut attributes = BTreeMap::from([("MessageRetentionPeriod".into(), "1209600".into())]);
            if policy {
                let policy = format!(
                    r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":{max_receives}}}"#
                );
                attributes.insert("RedrivePolicy".into(), policy);
            }
            let request = CreateQueue {
                queue_name: name.into(),
                attributes,
                ..CreateQueue::default()
            };
            let now = Timestamp::from_millis(EPOCH * 1000);
            account.create_queue(now, &request).unwrap().queue_url
        };
        let (dead, main, handover) = (
            create("dead", false),
            create("main", true),
            create("handover", true),
        );
        Arc::new(Self {
            state: Mutex::new(State {
                account,
                random: fastrand::Rng::with_seed(seed),
                handed_over: BTreeMap::new(),
                asked: BTreeMap::new(),
            }),
            woken: Notify::new(),
            origin: Instant::now(),
            max_receives,
            main,
            dead,
            handover,
        })
    }

    fn act<T>(&self, act: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = Timestamp::from_millis(EPOCH * 1000) + self.origin.elapsed();
        let mut state = self.state.lock().unwrap();
        let given = act(&mut state, now);
        if !state.account.take_woken().is_empty() {
            self.woken.notify_waiters();
        }
        given
    }

    /// Sends bodies to the main queue.
    pub(crate) fn send(&self, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let outgoing = Outgoing {
                body,
                ..Outgoing::default()
            };
            self.act(|state, now| {
                let request = SendMessageBatch {
                    queue_url: self.main.clone(),
                    entries: vec![entry(0, &outgoing)],
                    ..SendMessageBatch::default()
                };
                let output = state.account.send_message_batch(now, request).unwrap();
                assert!(output.failed.is_empty());
            });
        }
    }

    /// Messages in a queue, hidden ones included.
    pub(crate) fn depth(&self, url: &str) -> usize {
        self.act(|state, now| {
            let depth = state.account.depth(now, url).unwrap();
            depth.visible + depth.in_flight + depth.delayed
        })
    }

    /// Takes everything out of the main queue, whoever has it in hand.
    pub(crate) fn purge(&self) {
        let request = PurgeQueue {
            queue_url: self.main.clone(),
        };
        self.act(|state, now| state.account.purge_queue(now, &request).unwrap());
    }

    /// What the dead-letter queue holds.
    pub(crate) fn dead_letters(&self) -> Vec<Message> {
        let asked = ReceiveRequest {
            max: 10,
            wait: Duration::ZERO,
            visibility: Duration::from_secs(3600),
        };
        let mut all = Vec::new();
        // Ends when everything is hidden.
        loop {
            let request = receive_request(&self.dead, asked);
            let messages =
                self.act(|state, now| state.account.receive_message(now, &request).unwrap().messages);
            if messages.is_empty() {
                return all;
            }
            all.extend(messages.iter().map(message));
        }
    }

    /// When each queue was asked for something, since the beginning.
    pub(crate) fn asked(&self) -> BTreeMap<String, Vec<Duration>> {
        self.act(|state, _| state.asked.clone())
    }

    /// How often the message that was handed over most often was.
    pub(crate) fn most_handed_over(&self) -> usize {
        self.act(|state, _| state.handed_over.values().copied().max().unwrap_or(0))
    }
}

/// One queue as one process sees it. Once the process is dead nothing answers; what was sent arrives.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) lake: Arc<Lake>,
    pub(crate) killed: CancellationToken,
    pub(crate) url: String,
}

impl Way {
    /// A request is on its way.
    async fn request(&self) {
        let at = self.lake.origin.elapsed();
        self.lake
            .act(|state, _| state.asked.entry(self.url.clone()).or_default().push(at));
        self.travel().await;
    }

    async fn travel(&self) {
        if self.killed.is_cancelled() {
            std::future::pending::<()>().await;
        }
        let time = self
            .lake
            .act(|state, _| Duration::from_millis(state.random.u64(1..20)));
        sleep(time).await;
    }
}

impl Queue for Way {
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
        self.request().await;
        let asked = receive_request(&self.url, request);
        let end = Instant::now() + request.wait;
        // Ends with the wait.
        loop {
            let mut woken = std::pin::pin!(self.lake.woken.notified());
            woken.as_mut().enable();
            let (messages, next) = self
                .lake
                .act(|state, now| {
                    let messages = state
                        .account
                        .receive_message(now, &ReceiveMessage { ..asked.clone() })?
                        .messages;
                    let next = state.account.next_visible_at(now, &asked.queue_url)?;
                    Ok((messages, next.map(|at| at.since(now))))
                })
                .map_err(|error| queue_error(&error))?;
            if !messages.is_empty() || Instant::now() >= end {
                self.travel().await;
                return Ok(messages.iter().map(message).collect());
            }
            let due = next
                .filter(|left| !left.is_zero())
                .map_or(end, |left| end.min(Instant::now() + left));
            if timeout_at(due, woken).await.is_err() {
                sleep_until(due).await;
            }
        }
    }

    async fn delete(&self, receipts: &[Arc<str>]) -> BatchResult<()> {
        self.request().await;
        let entries = receipts.iter().enumerate().map(|(index, receipt)| DeleteEntry {
            id: index.to_string(),
            receipt_handle: receipt.to_string(),
        });
        let request = DeleteMessageBatch {
            queue_url: self.url.clone(),
            entries: entries.collect(),
            ..DeleteMessageBatch::default()
        };
        let output = self
            .lake
            .act(|state, now| state.account.delete_message_batch(now, request));
        let output = output.map_err(|error| queue_error(&error))?;
        self.travel().await;
        let done = output.successful.into_iter().map(|entry| (entry.id, ()));
        Ok(results(receipts.len(), done, output.failed))
    }

    async fn change_visibility(&self, entries: &[Visibility]) -> BatchResult<()> {
        self.request().await;
        let changes = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| ChangeVisibilityEntry {
                id: index.to_string(),
                receipt_handle: entry.receipt.to_string(),
                visibility_timeout: Some(i32::try_from(seconds(entry.after)).unwrap()),
            });
        let request = ChangeMessageVisibilityBatch {
            queue_url: self.url.clone(),
            entries: changes.collect(),
            ..ChangeMessageVisibilityBatch::default()
        };
        let output = self
            .lake
            .act(|state, now| state.account.change_message_visibility_batch(now, request));
        let output = output.map_err(|error| queue_error(&error))?;
        self.travel().await;
        let done = output.successful.into_iter().map(|entry| (entry.id, ()));
        Ok(results(entries.len(), done, output.failed))
    }

    async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
        self.request().await;
        let sent = entries
            .iter()
            .enumerate()
            .map(|(index, outgoing)| entry(index, outgoing));
        let request = SendMessageBatch {
            queue_url: self.url.clone(),
            entries: sent.collect(),
            ..SendMessageBatch::default()
        };
        let to_handover = self.url == self.lake.handover;
        let output = self.lake.act(|state, now| {
            let output = state.account.send_message_batch(now, request)?;
            if to_handover {
                for outgoing in entries {
                    let token = outgoing.body.clone();
                    *state.handed_over.entry(token).or_default() += 1;
                }
            }
            Ok(output)
        });
        let output = output.map_err(|error| queue_error(&error))?;
        self.travel().await;
        let ids = output
            .successful
            .into_iter()
            .map(|entry| (entry.id, entry.sent.message_id.to_string()));
        Ok(results(entries.len(), ids, output.failed))
    }

    async fn description(&self) -> Result<Description, QueueError> {
        let name = self.url.rsplit('/').next().unwrap();
        let redrive = (self.url != self.lake.dead).then(|| RedrivePolicy {
            target_arn: "arn:aws:sqs:us-east-1:000000000000:dead".to_owned(),
            max_receive_count: self.lake.max_receives,
        });
        Ok(Description {
            arn: format!("arn:aws:sqs:us-east-1:000000000000:{name}"),
            fifo: false,
            visibility_timeout: VISIBILITY,
            max_message_bytes: 1_048_576,
            retention: Duration::from_secs(1_209_600),
            redrive,
            visible: 0,
        })
    }
}
