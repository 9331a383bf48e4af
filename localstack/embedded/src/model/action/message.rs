//! Actions on messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{Disturbance, nullable};
use crate::model::{Error, Md5, MessageAttributes, MessageContent, MessageId, ReceiptHandle, SequenceNumber};

/// Sends a message. [`SendMessage::content`] says what the fields are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are those of `MessageContent`, which documents them"
)]
pub struct SendMessage {
    #[serde(deserialize_with = "nullable")]
    pub queue_url: String,
    #[serde(deserialize_with = "nullable")]
    pub message_body: String,
    pub delay_seconds: Option<i32>,
    #[serde(deserialize_with = "nullable")]
    pub message_attributes: MessageAttributes,
    #[serde(deserialize_with = "nullable")]
    pub message_system_attributes: MessageAttributes,
    pub message_deduplication_id: Option<String>,
    pub message_group_id: Option<String>,
}

impl SendMessage {
    /// The message, without the queue it goes to.
    pub fn content(self) -> MessageContent {
        MessageContent {
            body: self.message_body,
            delay_seconds: self.delay_seconds,
            attributes: self.message_attributes,
            system_attributes: self.message_system_attributes,
            deduplication_id: self.message_deduplication_id,
            group_id: self.message_group_id,
        }
    }
}

/// One message of a batch. [`SendEntry::content`] says what the fields are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are those of `MessageContent`, which documents them"
)]
pub struct SendEntry {
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    #[serde(deserialize_with = "nullable")]
    pub message_body: String,
    pub delay_seconds: Option<i32>,
    #[serde(deserialize_with = "nullable")]
    pub message_attributes: MessageAttributes,
    #[serde(deserialize_with = "nullable")]
    pub message_system_attributes: MessageAttributes,
    pub message_deduplication_id: Option<String>,
    pub message_group_id: Option<String>,
}

impl SendEntry {
    /// The message, without its id in the batch.
    pub fn content(self) -> MessageContent {
        MessageContent {
            body: self.message_body,
            delay_seconds: self.delay_seconds,
            attributes: self.message_attributes,
            system_attributes: self.message_system_attributes,
            deduplication_id: self.message_deduplication_id,
            group_id: self.message_group_id,
        }
    }
}

macro_rules! batches {
    ($($(#[$doc:meta])* $name:ident of $entry:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            /// The queue's address.
            #[serde(deserialize_with = "nullable")]
            pub queue_url: String,
            /// 1–10 entries with ids that differ.
            #[serde(deserialize_with = "nullable")]
            pub entries: Vec<$entry>,
            /// What faults do to this call.
            #[serde(skip)]
            pub disturbance: Disturbance,
        }
    )*};
}

batches! {
    /// Sends up to ten messages.
    SendMessageBatch of SendEntry;
    /// Deletes up to ten messages.
    DeleteMessageBatch of DeleteEntry;
    /// Changes the visibility of up to ten messages.
    ChangeMessageVisibilityBatch of ChangeVisibilityEntry;
}

/// Receives messages.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReceiveMessage {
    /// The queue's address.
    #[serde(deserialize_with = "nullable")]
    pub queue_url: String,
    /// The older name of `message_system_attribute_names`; both count.
    #[serde(deserialize_with = "nullable")]
    pub attribute_names: Vec<String>,
    /// Names of SQS's own attributes, or `All`.
    #[serde(deserialize_with = "nullable")]
    pub message_system_attribute_names: Vec<String>,
    /// Names of the sender's attributes, prefixes followed by `.*`, or `All`.
    #[serde(deserialize_with = "nullable")]
    pub message_attribute_names: Vec<String>,
    /// 1–10; 1 when absent.
    pub max_number_of_messages: Option<i32>,
    /// 0–43200 s; the queue's setting when absent.
    pub visibility_timeout: Option<i32>,
    /// 0–20 s; the queue's setting when absent. The model checks it and does not wait.
    pub wait_time_seconds: Option<i32>,
    /// On FIFO queues: a receive repeated with this id within 5 minutes gives the same messages.
    pub receive_request_attempt_id: Option<String>,
    /// What faults do to this call.
    #[serde(skip)]
    pub disturbance: Disturbance,
}

/// Deletes a message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteMessage {
    /// The queue's address.
    #[serde(deserialize_with = "nullable")]
    pub queue_url: String,
    /// From the newest receive.
    #[serde(deserialize_with = "nullable")]
    pub receipt_handle: String,
}

/// One message to delete.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteEntry {
    /// Names the entry in the answer.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// From the newest receive.
    #[serde(deserialize_with = "nullable")]
    pub receipt_handle: String,
}

/// Changes how long a message stays invisible, counted from now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChangeMessageVisibility {
    /// The queue's address.
    #[serde(deserialize_with = "nullable")]
    pub queue_url: String,
    /// From the newest receive.
    #[serde(deserialize_with = "nullable")]
    pub receipt_handle: String,
    /// 0–43200 s, required.
    pub visibility_timeout: Option<i32>,
}

/// One message whose visibility changes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChangeVisibilityEntry {
    /// Names the entry in the answer.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// From the newest receive.
    #[serde(deserialize_with = "nullable")]
    pub receipt_handle: String,
    /// 0–43200 s, required.
    pub visibility_timeout: Option<i32>,
}

/// A message was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SendMessageOutput {
    /// The message's id.
    pub message_id: MessageId,
    /// Digest of the body.
    #[serde(rename = "MD5OfMessageBody")]
    pub md5_of_message_body: Md5,
    /// Digest of the attributes; absent without any.
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    pub md5_of_message_attributes: Option<Md5>,
    /// Digest of the system attributes; absent without any.
    #[serde(
        rename = "MD5OfMessageSystemAttributes",
        skip_serializing_if = "Option::is_none"
    )]
    pub md5_of_message_system_attributes: Option<Md5>,
    /// FIFO only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<SequenceNumber>,
}

/// One message of a batch was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SentEntry {
    /// The entry's id.
    pub id: String,
    /// As for a message sent alone.
    #[serde(flatten)]
    pub sent: SendMessageOutput,
}

/// One entry of a batch was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EntryDone {
    /// The entry's id.
    pub id: String,
}

/// One entry of a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EntryFailure {
    /// The entry's id.
    pub id: String,
    /// Whether the caller is to blame.
    pub sender_fault: bool,
    /// The code of the query protocol.
    pub code: &'static str,
    /// What was wrong.
    pub message: String,
}

impl EntryFailure {
    pub(crate) fn new(id: String, error: Error) -> Self {
        let Error { code, message } = error;
        Self {
            id,
            sender_fault: code.sender_fault(),
            code: code.query_code(),
            message,
        }
    }
}

/// What became of a batch: each entry is in one of the lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BatchOutput<T> {
    /// Carried out.
    pub successful: Vec<T>,
    /// Refused; the call as a whole succeeds all the same.
    pub failed: Vec<EntryFailure>,
}

/// Messages, at most ten; none when there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReceiveMessageOutput {
    /// Absent from the JSON when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<ReceivedMessage>,
}

/// A message as a receive gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReceivedMessage {
    /// The message's id.
    pub message_id: MessageId,
    /// Names this receive of the message.
    pub receipt_handle: ReceiptHandle,
    /// Digest of the body.
    #[serde(rename = "MD5OfBody")]
    pub md5_of_body: Md5,
    /// The text.
    #[serde(serialize_with = "shared_text")]
    pub body: Arc<str>,
    /// SQS's own attributes, those asked for.
    #[serde(skip_serializing_if = "SystemAttributes::is_empty")]
    pub attributes: SystemAttributes,
    /// Digest over the attributes given here.
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    pub md5_of_message_attributes: Option<Md5>,
    /// The sender's attributes, those asked for.
    #[serde(serialize_with = "shared", skip_serializing_if = "is_empty")]
    pub message_attributes: Arc<MessageAttributes>,
}

/// SQS's own attributes of a message; in JSON all values are text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SystemAttributes {
    /// When it was first received, in milliseconds since the epoch.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub approximate_first_receive_timestamp: Option<u64>,
    /// How often it was received, this time included.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub approximate_receive_count: Option<u32>,
    /// The sender's X-Ray header.
    #[serde(
        rename = "AWSTraceHeader",
        serialize_with = "optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub aws_trace_header: Option<Arc<str>>,
    /// The queue a redrive policy took it from.
    #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub dead_letter_queue_source_arn: Option<Arc<str>>,
    /// FIFO only.
    #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub message_deduplication_id: Option<Arc<str>>,
    /// The sender's group.
    #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub message_group_id: Option<Arc<str>>,
    /// Who sent it: this endpoint's account.
    #[serde(serialize_with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<Arc<str>>,
    /// When it was sent, in milliseconds since the epoch.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub sent_timestamp: Option<u64>,
    /// FIFO only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<SequenceNumber>,
}

impl SystemAttributes {
    /// Whether none was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_empty(attributes: &Arc<MessageAttributes>) -> bool {
    attributes.is_empty()
}

fn shared<S: Serializer>(attributes: &Arc<MessageAttributes>, serializer: S) -> Result<S::Ok, S::Error> {
    attributes.serialize(serializer)
}

fn shared_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn optional_text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_deref().unwrap_or_default())
}

fn as_text<T: Copy + Into<u64>, S: Serializer>(number: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}", number.map_or(0, Into::into)))
}
