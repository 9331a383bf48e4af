//! Between the worker's own types and those of the model, as the adapter to SQS translates them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use embedded_sqs::model::action::{EntryFailure, ReceiveMessage, ReceivedMessage, SendEntry};
use embedded_sqs::model::{Binary, Error, ErrorCode, MessageAttribute, MessageAttributes};
use worker::message::{Attribute, AttributeValue, Attributes, Message};
use worker::queue::{ErrorKind, Outgoing, QueueError, ReceiveRequest};

use crate::ledger::{Dead, Token};

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

/// The number that a body begins with.
pub(crate) fn token(body: &str) -> Token {
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

pub(crate) fn dead(received: &ReceivedMessage) -> Dead {
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
