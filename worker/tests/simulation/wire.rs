//! The way between a worker process and the queues: the seam `worker::queue::Queue` over the model, with faults.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use embedded_sqs::faults::{Decision, FaultPlan, Faults, Outcome};
use embedded_sqs::model::action::{
    Action, ChangeMessageVisibilityBatch, ChangeVisibilityEntry, CreateQueue, DeleteEntry, DeleteMessage,
    DeleteMessageBatch, Disturbance, EntryFailure, GetQueueAttributes, ReceiveMessage, ReceivedMessage,
    SendEntry, SendMessage, SendMessageBatch,
};
use embedded_sqs::model::{
    Account, AccountConfig, Binary, Depth, Error, ErrorCode, MessageAttribute, MessageAttributes, Timestamp,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use worker::failure::ATTRIBUTE;
use worker::message::{Attribute, AttributeValue, Attributes, Message};
use worker::queue::{
    BatchResult, Description, ErrorKind, Outgoing, Queue, QueueError, ReceiveRequest, RedrivePolicy,
    Visibility,
};

use crate::case::Case;
use crate::ledger::{Dead, Ledger, ProcessId, Sent, Token};

/// As the adapter to SQS has them: of every request but a receive, and what a receive may take beyond its wait.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const RECEIVE_SLACK: Duration = Duration::from_secs(10);

/// When runs begin, in seconds since 1970.
pub(crate) const EPOCH: u64 = 1_800_000_000;

/// The queues, the faults on the way to them, and the truth.
#[derive(Debug)]
pub(crate) struct Sea {
    state: Mutex<State>,
    /// Something may be there to receive.
    woken: Notify,
    origin: Instant,
    pub(crate) main: String,
    pub(crate) dead: String,
    fifo: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    account: Account,
    faults: Faults,
    /// Travel times, and how a lost answer shows.
    random: fastrand::Rng,
    outage_until: Instant,
    pub(crate) last_disturbed: Option<Instant>,
    pub(crate) ledger: Ledger,
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl Sea {
    pub(crate) fn new(case: &Case, tell: bool) -> Arc<Self> {
        let mut account = Account::new(AccountConfig {
            seed: case.seed,
            ..AccountConfig::default()
        });
        let suffix = if case.fifo { ".fifo" } else { "" };
        let now = Timestamp::from_millis(EPOCH * 1000);
        let mut create = |name: &str, mut attributes: BTreeMap<String, String>| {
            attributes.insert("MessageRetentionPeriod".into(), "1209600".into());
            if case.fifo {
                attributes.insert("FifoQueue".into(), "true".into());
            }
            let request = CreateQueue {
                queue_name: format!("{name}{suffix}"),
                attributes,
                ..CreateQueue::default()
            };
            account.create_queue(now, &request).unwrap().queue_url
        };
        let dead = create("dead", BTreeMap::new());
        let policy = format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead{suffix}","maxReceiveCount":{}}}"#,
            case.max_receives
        );
        let main = create("main", BTreeMap::from([("RedrivePolicy".into(), policy)]));
        let state = State {
            account,
            faults: Faults::new(FaultPlan {
                seed: case.seed,
                rules: case.faults.clone(),
            }),
            random: fastrand::Rng::with_seed(case.seed ^ 0x3a11),
            outage_until: Instant::now(),
            last_disturbed: None,
            ledger: Ledger::new(case, tell),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            woken: Notify::new(),
            origin: Instant::now(),
            main,
            dead,
            fifo: case.fifo,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH * 1000) + self.origin.elapsed()
    }

    /// Carries something out in the model, and looks at what came to the dead-letter queue by it.
    fn act<T>(&self, act: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let given = act(&mut state, now);
        self.sweep(&mut state, now);
        if !state.account.take_woken().is_empty() {
            self.woken.notify_waiters();
        }
        given
    }

    /// Takes everything out of the dead-letter queue and into the ledger.
    fn sweep(&self, state: &mut State, now: Timestamp) {
        // Ends when the queue is empty; every round but the last takes something out.
        while state.account.depth(now, &self.dead).unwrap().visible > 0 {
            let request = ReceiveMessage {
                queue_url: self.dead.clone(),
                message_system_attribute_names: vec!["All".into()],
                message_attribute_names: vec!["All".into()],
                max_number_of_messages: Some(10),
                wait_time_seconds: Some(0),
                ..ReceiveMessage::default()
            };
            for message in state.account.receive_message(now, &request).unwrap().messages {
                let delete = DeleteMessage {
                    queue_url: self.dead.clone(),
                    receipt_handle: message.receipt_handle.to_string(),
                };
                state.account.delete_message(now, &delete).unwrap();
                let token = token(&message.body);
                state.ledger.died(token, dead(&message));
            }
        }
    }

    /// Sends a message as an application does.
    pub(crate) fn send(&self, outgoing: &Outgoing) -> Token {
        let entry = entry(0, outgoing);
        self.act(|state, now| {
            let token = state.ledger.sent.len();
            let request = SendMessage {
                queue_url: self.main.clone(),
                message_body: entry.message_body,
                delay_seconds: entry.delay_seconds,
                message_attributes: entry.message_attributes,
                message_system_attributes: entry.message_system_attributes,
                message_deduplication_id: entry.message_deduplication_id,
                message_group_id: entry.message_group_id,
            };
            let sent = state.account.send_message(now, request).unwrap();
            state.ledger.sent(Sent {
                body: outgoing.body.clone(),
                attributes: outgoing.attributes.clone(),
                group: outgoing.group.clone(),
                trace_header: outgoing.trace_header.clone(),
                original_ids: vec![sent.message_id.to_string()],
            });
            token
        })
    }

    /// Puts all dead letters back, as the release tool does: under the id that each has in the dead-letter queue.
    pub(crate) fn redrive(&self) {
        let dead = std::mem::take(&mut self.lock().ledger.dead);
        for (token, letters) in dead {
            for letter in letters {
                let outgoing = Outgoing {
                    body: letter.body,
                    attributes: letter.attributes,
                    group: letter.group,
                    deduplication_id: self.fifo.then(|| format!("redrive-{}", letter.id)),
                    trace_header: letter.trace_header,
                    ..Outgoing::default()
                };
                let (entry, story) = (entry(0, &outgoing), outgoing.attributes.contains_key(ATTRIBUTE));
                self.act(|state, now| {
                    let request = SendMessageBatch {
                        queue_url: self.main.clone(),
                        entries: vec![entry],
                        ..SendMessageBatch::default()
                    };
                    let output = state.account.send_message_batch(now, request).unwrap();
                    let id = output.successful[0].sent.message_id.to_string();
                    state.ledger.copied_back(token, &id, story);
                });
            }
        }
    }

    pub(crate) fn outage(&self, length: Duration) {
        let mut state = self.lock();
        state.outage_until = state.outage_until.max(Instant::now() + length);
        state.last_disturbed = Some(state.outage_until);
    }

    /// Notes that everything but SQS stands still for so long.
    pub(crate) fn jump(&self, length: Duration) {
        let (from, mut state) = (Instant::now(), self.lock());
        state.ledger.jumps(from, from + length);
        state.last_disturbed = state.last_disturbed.max(Some(from + length));
    }

    /// No more faults from now on.
    pub(crate) fn calm_down(&self) {
        let mut state = self.lock();
        state.faults = Faults::new(FaultPlan::default());
        state.outage_until = Instant::now();
    }

    pub(crate) fn depth(&self) -> Depth {
        self.act(|state, now| state.account.depth(now, &self.main).unwrap())
    }

    /// What happens to a call, how long its request and its answer travel, and whether what is lost is lost in silence.
    fn decide(&self, action: Action) -> (Decision, Duration, Duration, bool) {
        let mut state = self.lock();
        let mut decision = state.faults.decide(action);
        if Instant::now() < state.outage_until {
            decision.outcome = Outcome::RequestLost;
        }
        if decision != Decision::default() {
            let until = Instant::now() + decision.delay + REQUEST_TIMEOUT;
            state.last_disturbed = state.last_disturbed.max(Some(until));
        }
        let travel = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(1..20));
        let (there, back) = (travel(&mut state.random), travel(&mut state.random));
        (decision, there, back, state.random.bool())
    }
}

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

pub(crate) fn receive_request(url: &str, request: ReceiveRequest) -> ReceiveMessage {
    let seconds = |duration| Some(i32::try_from(seconds(duration)).unwrap());
    ReceiveMessage {
        queue_url: url.to_owned(),
        message_system_attribute_names: vec!["All".into()],
        message_attribute_names: vec!["All".into()],
        max_number_of_messages: Some(i32::try_from(request.max).unwrap()),
        visibility_timeout: seconds(request.visibility),
        wait_time_seconds: seconds(request.wait),
        ..ReceiveMessage::default()
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

fn token(body: &str) -> Token {
    let number = body.split_ascii_whitespace().next().unwrap();
    number.parse().unwrap()
}

pub(crate) fn seconds(duration: Duration) -> u64 {
    worker::retry::ceil_seconds(duration)
}

/// The kind that the adapter to SQS gives this error; `conformity` compares.
pub(crate) fn queue_error(error: &Error) -> QueueError {
    let kinds = [
        (ErrorCode::RequestThrottled, ErrorKind::Throttled),
        (ErrorCode::InternalError, ErrorKind::Server),
        (ErrorCode::ServiceUnavailable, ErrorKind::Server),
        (ErrorCode::OverLimit, ErrorKind::OverLimit),
        (ErrorCode::QueueDoesNotExist, ErrorKind::NoQueue),
        (ErrorCode::ReceiptHandleIsInvalid, ErrorKind::Receipt),
        (ErrorCode::MessageNotInflight, ErrorKind::Receipt),
    ];
    let about_handle =
        error.code == ErrorCode::InvalidParameterValue && error.message.contains("parameter ReceiptHandle");
    let kind = kinds.iter().find(|(code, _)| *code == error.code);
    let kind = match kind {
        Some((_, kind)) => *kind,
        None if about_handle => ErrorKind::Receipt,
        None => ErrorKind::Invalid,
    };
    QueueError::new(kind, error.to_string())
}

pub(crate) fn results<T>(
    count: usize,
    successful: impl Iterator<Item = (String, T)>,
    failed: Vec<EntryFailure>,
) -> Vec<Result<T, QueueError>> {
    let mut results: Vec<_> = (0..count)
        .map(|_| Err(QueueError::new(ErrorKind::Answer, "no result")))
        .collect();
    for (id, value) in successful {
        results[id.parse::<usize>().unwrap()] = Ok(value);
    }
    for failure in failed {
        let code = ErrorCode::ALL
            .iter()
            .find(|code| code.query_code() == failure.code)
            .copied();
        let error = Error::new(code.unwrap(), failure.message);
        results[failure.id.parse::<usize>().unwrap()] = Err(queue_error(&error));
    }
    results
}

pub(crate) fn message(received: &ReceivedMessage) -> Message {
    let system = &received.attributes;
    let text = |value: &Option<Arc<str>>| value.as_ref().map(ToString::to_string);
    let time = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    Message {
        id: received.message_id.to_string().into(),
        receipt: received.receipt_handle.to_string().into(),
        body: received.body.to_string(),
        attributes: attributes(&received.message_attributes),
        receive_count: system.approximate_receive_count.unwrap(),
        sent_at: system.sent_timestamp.map(time),
        first_received_at: system.approximate_first_receive_timestamp.map(time),
        group: text(&system.message_group_id),
        deduplication_id: text(&system.message_deduplication_id),
        trace_header: text(&system.aws_trace_header),
        dead_letter_source: text(&system.dead_letter_queue_source_arn),
        story: None,
    }
}

fn dead(received: &ReceivedMessage) -> Dead {
    let message = message(received);
    Dead {
        id: message.id.to_string(),
        body: message.body,
        attributes: message.attributes,
        group: message.group,
        trace_header: message.trace_header,
        native: received.attributes.dead_letter_queue_source_arn.is_some(),
    }
}

fn attributes(received: &MessageAttributes) -> Attributes {
    let attribute = |(name, attribute): (&str, &MessageAttribute)| {
        let value = match (&attribute.string_value, &attribute.binary_value) {
            (Some(text), _) => AttributeValue::Text(text.clone()),
            (None, bytes) => AttributeValue::Bytes(bytes.clone().unwrap_or_default().0),
        };
        let data_type = attribute.data_type.clone();
        (name.to_owned(), Attribute { data_type, value })
    };
    received.iter().map(attribute).collect()
}

pub(crate) fn entry(index: usize, outgoing: &Outgoing) -> SendEntry {
    let attribute = |(name, attribute): (&String, &Attribute)| {
        let (string_value, binary_value) = match &attribute.value {
            AttributeValue::Text(text) => (Some(text.clone()), None),
            AttributeValue::Bytes(bytes) => (None, Some(Binary(bytes.clone()))),
        };
        let data_type = attribute.data_type.clone();
        let attribute = MessageAttribute {
            string_value,
            binary_value,
            data_type,
        };
        (name.clone(), attribute)
    };
    let header = outgoing
        .trace_header
        .iter()
        .map(|header| ("AWSTraceHeader".to_owned(), MessageAttribute::string(header)));
    SendEntry {
        id: index.to_string(),
        message_body: outgoing.body.clone(),
        delay_seconds: (!outgoing.delay.is_zero()).then(|| i32::try_from(seconds(outgoing.delay)).unwrap()),
        message_attributes: outgoing.attributes.iter().map(attribute).collect(),
        message_system_attributes: header.collect(),
        message_deduplication_id: outgoing.deduplication_id.clone(),
        message_group_id: outgoing.group.clone(),
    }
}
