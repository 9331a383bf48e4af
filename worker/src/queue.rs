//! The seam to the queue: what the consumer needs of SQS, in own types.
//!
//! [`Queue`] is one queue. `sqs::SqsQueue` speaks to Amazon SQS; the simulation runs the same consumer over a
//! model. Batches have at most [`MAX_BATCH`] entries, and every entry has a result of its own.

pub mod observed;
#[cfg(test)]
pub(crate) mod scripted;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Attributes, Message};

/// The most messages of one receive and the most entries of one batch call (SQS quota).
pub const MAX_BATCH: usize = 10;

/// The longest a message can be kept invisible, counted from its receive (SQS quota).
pub const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 60 * 60);

/// One queue.
///
/// Every method is one network call with a timeout of its own, without retries: the callers retry, since they
/// know what the call is worth. Dropping a future may leave the call done or not done; a receive must not be
/// dropped, since messages that SQS already handed out then hide until their visibility timeout.
pub trait Queue: Send + Sync + 'static {
    /// Waits for up to `request.wait` for messages, and takes at most `request.max`.
    fn receive(
        &self,
        request: ReceiveRequest,
    ) -> impl Future<Output = Result<Vec<Message>, QueueError>> + Send;

    /// Deletes what was received under these handles. One result an entry, in order.
    fn delete(&self, receipts: &[Arc<str>]) -> impl Future<Output = BatchResult<()>> + Send;

    /// Makes each message visible again after its duration, counted from now. One result an entry, in order.
    fn change_visibility(&self, entries: &[Visibility]) -> impl Future<Output = BatchResult<()>> + Send;

    /// Sends the messages. The id each got, or its error, in order.
    fn send(&self, entries: &[Outgoing]) -> impl Future<Output = BatchResult<String>> + Send;

    /// The queue's attributes, as far as the worker cares.
    fn description(&self) -> impl Future<Output = Result<Description, QueueError>> + Send;
}

/// What a batch call gives: an error of the call as a whole, or one result an entry.
pub type BatchResult<T> = Result<Vec<Result<T, QueueError>>, QueueError>;

/// How much to receive, and how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRequest {
    /// 1 to [`MAX_BATCH`].
    pub max: usize,
    /// Whole seconds, 0 to 20.
    pub wait: Duration,
    /// How long what is received stays invisible; whole seconds.
    pub visibility: Duration,
}

/// One entry of [`Queue::change_visibility`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// The handle of the delivery.
    pub receipt: Arc<str>,
    /// Whole seconds, 0 to 12 h less what has passed since the receive.
    pub after: Duration,
}

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outgoing {
    /// The body.
    pub body: String,
    /// At most [`crate::message::MAX_ATTRIBUTES`].
    pub attributes: Attributes,
    /// Whole seconds, 0 to 15 min; standard queues only.
    pub delay: Duration,
    /// Required on FIFO queues.
    pub group: Option<String>,
    /// FIFO queues only: a second send of one id within 5 minutes is accepted and not delivered.
    pub deduplication_id: Option<String>,
    /// X-Ray's header.
    pub trace_header: Option<String>,
}

/// A queue's attributes, as far as the worker cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The queue's ARN.
    pub arn: String,
    /// Whether it is a FIFO queue.
    pub fifo: bool,
    /// The visibility timeout messages get unless a receive says otherwise.
    pub visibility_timeout: Duration,
    /// The largest message it takes, in bytes.
    pub max_message_bytes: usize,
    /// How long it keeps a message.
    pub retention: Duration,
    /// Where SQS itself moves what was received too often.
    pub redrive: Option<RedrivePolicy>,
    /// Messages that could be received now (approximate).
    pub visible: u64,
}

impl Description {
    /// The queue's name, from its ARN.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.rsplit(':').next().unwrap_or(&self.arn)
    }
}

/// A queue's redrive policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// The dead-letter queue's ARN.
    pub target_arn: String,
    /// A message received so often and received again goes there instead; 1 to 1,000.
    pub max_receive_count: u32,
}

/// What can go wrong with a call or an entry: a small closed set, the label of metrics and the ground of every
/// decision to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request took longer than its timeout.
    Timeout,
    /// No connection, or it broke.
    Network,
    /// SQS asks to slow down.
    Throttled,
    /// SQS failed (5xx).
    Server,
    /// Too many messages in flight (120,000).
    OverLimit,
    /// The credentials are missing, expired or not allowed to do this.
    Denied,
    /// There is no such queue.
    NoQueue,
    /// The handle is not, or no longer, that of a message in flight.
    Receipt,
    /// SQS refuses the request as it is.
    Invalid,
    /// The answer could not be understood.
    Answer,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::Network,
        Self::Throttled,
        Self::Server,
        Self::OverLimit,
        Self::Denied,
        Self::NoQueue,
        Self::Receipt,
        Self::Invalid,
        Self::Answer,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::OverLimit => "over_limit",
            Self::Denied => "denied",
            Self::NoQueue => "no_queue",
            Self::Receipt => "receipt",
            Self::Invalid => "invalid",
            Self::Answer => "answer",
        }
    }

    /// Whether the same request can succeed later without anybody's doing.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Timeout
            | Self::Network
            | Self::Throttled
            | Self::Server
            | Self::OverLimit
            | Self::Answer => true,
            Self::Denied | Self::NoQueue | Self::Receipt | Self::Invalid => false,
        }
    }
}

/// A failed call, or a failed entry of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub struct QueueError {
    /// What to decide by.
    pub kind: ErrorKind,
    /// What to tell a person; never a label.
    pub detail: String,
}

impl QueueError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }
}
