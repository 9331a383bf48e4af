//! Between the SDK's types and the worker's.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, Message as SqsMessage, MessageAttributeValue, MessageSystemAttributeName,
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
    SendMessageBatchRequestEntry,
};

use super::Depth;
use super::error::{incomplete, kind_of};
use crate::message::{Attribute, AttributeValue, Attributes, MAX_MESSAGE_BYTES, Message};
use crate::queue::{Description, ErrorKind, Outgoing, QueueError, RedrivePolicy};
use crate::retry::ceil_seconds;

/// Whole seconds as SQS takes them, rounded up.
pub(super) fn seconds(duration: Duration) -> i32 {
    i32::try_from(ceil_seconds(duration)).unwrap_or(i32::MAX)
}

/// A delivery; none when the answer lacks what settles it, in which case it comes back by its visibility timeout.
pub(super) fn message(message: SqsMessage) -> Option<Message> {
    let (Some(id), Some(receipt)) = (message.message_id, message.receipt_handle) else {
        tracing::warn!(
            "received a message without id or receipt handle; it is left to its visibility timeout"
        );
        return None;
    };
    let mut read = Message {
        id: id.into(),
        receipt: receipt.into(),
        body: message.body.unwrap_or_default(),
        attributes: attributes(message.message_attributes.unwrap_or_default()),
        receive_count: 1,
        sent_at: None,
        first_received_at: None,
        group: None,
        deduplication_id: None,
        trace_header: None,
        dead_letter_source: None,
        story: None,
    };
    // Once through the few there are: a look-up for each name hashes more than it finds.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what was not asked for, or is new, is nothing to a message"
    )]
    for (name, value) in message.attributes.into_iter().flatten() {
        match name {
            MessageSystemAttributeName::ApproximateReceiveCount => {
                read.receive_count = value.parse().unwrap_or(1).max(1);
            }
            MessageSystemAttributeName::SentTimestamp => read.sent_at = time(&value),
            MessageSystemAttributeName::ApproximateFirstReceiveTimestamp => {
                read.first_received_at = time(&value);
            }
            MessageSystemAttributeName::MessageGroupId => read.group = Some(value),
            MessageSystemAttributeName::MessageDeduplicationId => read.deduplication_id = Some(value),
            MessageSystemAttributeName::AwsTraceHeader => read.trace_header = Some(value),
            MessageSystemAttributeName::DeadLetterQueueSourceArn => read.dead_letter_source = Some(value),
            _ => {}
        }
    }
    Some(read)
}

fn attributes(received: HashMap<String, MessageAttributeValue>) -> Attributes {
    let attribute = |(name, value): (String, MessageAttributeValue)| {
        let data_type = value.data_type;
        let value = match (value.string_value, value.binary_value) {
            (Some(text), _) => AttributeValue::Text(text),
            (None, Some(bytes)) => AttributeValue::Bytes(bytes.into_inner()),
            (None, None) => AttributeValue::Text(String::new()),
        };
        (name, Attribute { data_type, value })
    };
    received.into_iter().map(attribute).collect()
}

fn time(millis: &str) -> Option<SystemTime> {
    let millis = millis.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

pub(super) fn send_entry(
    index: usize,
    outgoing: &Outgoing,
) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(&outgoing.body);
    for (name, attribute) in &outgoing.attributes {
        let value = MessageAttributeValue::builder().data_type(&attribute.data_type);
        let value = match &attribute.value {
            AttributeValue::Text(text) => value.string_value(text),
            AttributeValue::Bytes(bytes) => value.binary_value(Blob::new(bytes.clone())),
        };
        entry = entry.message_attributes(name, value.build()?);
    }
    if let Some(header) = &outgoing.trace_header {
        let value = MessageSystemAttributeValue::builder()
            .data_type("String")
            .string_value(header)
            .build()?;
        entry = entry.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
    }
    if !outgoing.delay.is_zero() {
        entry = entry.delay_seconds(seconds(outgoing.delay));
    }
    entry
        .set_message_group_id(outgoing.group.clone())
        .set_message_deduplication_id(outgoing.deduplication_id.clone())
        .build()
}

/// One result an entry, in the order of the request; the ids are the indices.
pub(super) fn results<T>(
    count: usize,
    successful: impl IntoIterator<Item = (String, T)>,
    failed: Vec<BatchResultErrorEntry>,
) -> Vec<Result<T, QueueError>> {
    let mut results: Vec<Option<Result<T, QueueError>>> = (0..count).map(|_| None).collect();
    let mut set = |id: &str, result| {
        if let Some(slot) = id.parse().ok().and_then(|index: usize| results.get_mut(index)) {
            *slot = Some(result);
        }
    };
    for (id, value) in successful {
        set(&id, Ok(value));
    }
    for entry in failed {
        let fallback = if entry.sender_fault {
            ErrorKind::Invalid
        } else {
            ErrorKind::Server
        };
        let kind = kind_of(&entry.code, entry.message.as_deref()).unwrap_or(fallback);
        let text = entry.message.map_or_else(String::new, |text| format!(": {text}"));
        set(
            &entry.id,
            Err(QueueError::new(kind, format!("{}{text}", entry.code))),
        );
    }
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(incomplete("an entry's result"))))
        .collect()
}

pub(super) fn description(
    attributes: &HashMap<QueueAttributeName, String>,
) -> Result<Description, QueueError> {
    let text = |name: &QueueAttributeName| attributes.get(name).map(String::as_str);
    let number = |name: QueueAttributeName, default: u64| match text(&name) {
        None => Ok(default),
        Some(value) => value.parse().map_err(|_| {
            QueueError::new(
                ErrorKind::Answer,
                format!("{} is {value:?}; expected a number", name.as_str()),
            )
        }),
    };
    let redrive = text(&QueueAttributeName::RedrivePolicy)
        .map(redrive_policy)
        .transpose()?;
    let max = number(QueueAttributeName::MaximumMessageSize, MAX_MESSAGE_BYTES as u64)?;
    Ok(Description {
        arn: text(&QueueAttributeName::QueueArn)
            .ok_or_else(|| incomplete("QueueArn"))?
            .to_owned(),
        fifo: text(&QueueAttributeName::FifoQueue) == Some("true"),
        visibility_timeout: Duration::from_secs(number(QueueAttributeName::VisibilityTimeout, 30)?),
        max_message_bytes: usize::try_from(max).unwrap_or(MAX_MESSAGE_BYTES),
        retention: Duration::from_secs(number(QueueAttributeName::MessageRetentionPeriod, 345_600)?),
        redrive,
        visible: number(QueueAttributeName::ApproximateNumberOfMessages, 0)?,
    })
}

/// What [`depth`] is made of.
pub(super) const DEPTH: [QueueAttributeName; 3] = [
    QueueAttributeName::ApproximateNumberOfMessages,
    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    QueueAttributeName::ApproximateNumberOfMessagesDelayed,
];

pub(super) fn depth(attributes: &HashMap<QueueAttributeName, String>) -> Result<Depth, QueueError> {
    let number = |name: &QueueAttributeName| {
        let text = attributes.get(name).ok_or_else(|| incomplete(name.as_str()))?;
        text.parse().map_err(|_| {
            let detail = format!("{} is {text:?}; expected a number", name.as_str());
            QueueError::new(ErrorKind::Answer, detail)
        })
    };
    let [visible, in_flight, delayed] = &DEPTH;
    Ok(Depth {
        visible: number(visible)?,
        in_flight: number(in_flight)?,
        delayed: number(delayed)?,
    })
}

/// `maxReceiveCount` is a number, or a number in a string, as whoever wrote the policy liked.
fn redrive_policy(json: &str) -> Result<RedrivePolicy, QueueError> {
    let wrong = || {
        let expected = r#"{"deadLetterTargetArn":"arn:…","maxReceiveCount":1 to 1000}"#;
        QueueError::new(
            ErrorKind::Answer,
            format!("RedrivePolicy is {json:?}; expected {expected}"),
        )
    };
    let policy: serde_json::Value = serde_json::from_str(json).map_err(|_| wrong())?;
    let count = policy.get("maxReceiveCount").ok_or_else(wrong)?;
    let count = count
        .as_u64()
        .or_else(|| count.as_str()?.parse().ok())
        .ok_or_else(wrong)?;
    let target_arn = policy
        .get("deadLetterTargetArn")
        .and_then(|arn| arn.as_str())
        .ok_or_else(wrong)?;
    let max_receive_count = u32::try_from(count)
        .ok()
        .filter(|count| *count >= 1)
        .ok_or_else(wrong)?;
    Ok(RedrivePolicy {
        target_arn: target_arn.to_owned(),
        max_receive_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_its_own_result() {
        let failed = BatchResultErrorEntry::builder()
            .id("1")
            .code("InternalError")
            .sender_fault(false);
        let results = results(
            4,
            [("0".to_owned(), "a"), ("9".to_owned(), "z")],
            vec![
                failed.clone().build().unwrap(),
                failed
                    .id("2")
                    .code("Nonsense")
                    .sender_fault(true)
                    .message("no")
                    .build()
                    .unwrap(),
            ],
        );
        let kinds: Vec<_> = results
            .iter()
            .map(|result| result.as_ref().map_err(|error| error.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                Ok(&"a"),
                Err(ErrorKind::Server),
                Err(ErrorKind::Invalid),
                Err(ErrorKind::Answer)
            ]
        );
    }

    #[test]
    fn a_redrive_policy_is_read_in_both_spellings_and_refused_in_others() {
        for count in ["5", "\"5\""] {
            let json =
                format!(r#"{{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:d","maxReceiveCount":{count}}}"#);
            assert_eq!(redrive_policy(&json).unwrap().max_receive_count, 5);
        }
        for json in [
            "",
            "[]",
            "{}",
            r#"{"deadLetterTargetArn":"a","maxReceiveCount":0}"#,
        ] {
            assert!(
                redrive_policy(json).unwrap_err().detail.contains("expected"),
                "{json}"
            );
        }
    }

    #[test]
    fn durations_are_rounded_up_to_whole_seconds() {
        assert_eq!(
            [0, 1, 1000, 1001].map(|ms| seconds(Duration::from_millis(ms))),
            [0, 1, 1, 2]
        );
    }
}
