//! A message as the worker sees it, free of any SDK type.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::failure::Story;

/// The most attributes a message may carry (SQS quota).
pub const MAX_ATTRIBUTES: usize = 10;

/// The largest message or batch SQS takes, in bytes of body and attributes together (1 MiB).
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// A message attribute: the type as SQS spells it (`String`, `Number.int`, `Binary.png`) and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// `String`, `Number` or `Binary`, with an optional custom suffix.
    pub data_type: String,
    /// The value.
    pub value: AttributeValue,
}

/// The value of an [`Attribute`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Of the types `String` and `Number`.
    Text(String),
    /// Of the type `Binary`.
    Bytes(Vec<u8>),
}

impl Attribute {
    /// An attribute of type `String`.
    #[must_use]
    pub fn text(value: impl Into<String>) -> Self {
        Self {
            data_type: "String".to_owned(),
            value: AttributeValue::Text(value.into()),
        }
    }

    /// The text, if it has one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Bytes(_) => None,
        }
    }

    /// What the attribute adds to the message's size under `name`: SQS counts name, type and value.
    #[must_use]
    pub fn size(&self, name: &str) -> usize {
        let value = match &self.value {
            AttributeValue::Text(text) => text.len(),
            AttributeValue::Bytes(bytes) => bytes.len(),
        };
        name.len() + self.data_type.len() + value
    }
}

/// Attributes by name, in the order of their names.
pub type Attributes = BTreeMap<String, Attribute>;

/// The bytes that SQS counts for a body and its attributes.
#[must_use]
pub fn size(body: &str, attributes: &Attributes) -> usize {
    body.len()
        + attributes
            .iter()
            .map(|(name, attribute)| attribute.size(name))
            .sum::<usize>()
}

/// One delivery of a message: what was received, with the handle that settles it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// SQS's id: the same in every delivery from this queue, another in a copy (see [`Message::original_id`]).
    pub id: Arc<str>,
    /// The handle of this delivery; a later delivery of the same message makes it worthless.
    pub receipt: Arc<str>,
    /// The body, as sent.
    pub body: String,
    /// The attributes, as sent, less the worker's own story.
    pub attributes: Attributes,
    /// How often the message has been received, this time included; at least 1.
    pub receive_count: u32,
    /// When it was sent to this queue.
    pub sent_at: Option<SystemTime>,
    /// When it was first received from this queue.
    pub first_received_at: Option<SystemTime>,
    /// `MessageGroupId`: the order to keep on a FIFO queue, the tenant on a fair one.
    pub group: Option<String>,
    /// `MessageDeduplicationId`, on FIFO queues.
    pub deduplication_id: Option<String>,
    /// `AWSTraceHeader`, X-Ray's.
    pub trace_header: Option<String>,
    /// `DeadLetterQueueSourceArn`: the queue that SQS itself moved the message from, if it did.
    pub dead_letter_source: Option<String>,
    /// What happened to the message before it was copied here, if a worker copied it.
    pub story: Option<Box<Story>>,
}

impl Message {
    /// The id under which the message was first sent: the handler's idempotency key.
    ///
    /// A copy (from the DLQ, or handed over by a canary) has a new SQS id but keeps this one.
    #[must_use]
    pub fn original_id(&self) -> &str {
        self.story
            .as_ref()
            .map_or(&self.id, |story| &story.original_message_id)
    }

    /// Whether this is the first delivery, or one more.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        if self.receive_count <= 1 {
            Delivery::First
        } else {
            Delivery::Redelivered
        }
    }
}

/// First delivery or a later one. Only first deliveries can be compared between releases: later ones were
/// selected by an earlier failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Received for the first time.
    First,
    /// Received before, by whatever release.
    Redelivered,
}

impl Delivery {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::First, Self::Redelivered];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Redelivered => "redelivered",
        }
    }
}
