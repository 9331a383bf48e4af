//! Which attributes a receive asks for.

use std::sync::Arc;

use super::action::{ReceiveMessage, SystemAttributes};
use super::message::Message;
use super::{Error, ErrorCode, Md5, MessageAttributes, Result};

const NAMES: [&str; 9] = [
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
    "MessageDeduplicationId",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
    "SequenceNumber",
];
const ALL: u16 = (1 << NAMES.len()) - 1;

/// The attributes a receive asks for, read once for all its messages.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    system: u16,
    patterns: &'a [String],
}

impl<'a> Selection<'a> {
    pub(super) fn of(request: &'a ReceiveMessage) -> Result<Self> {
        let mut system = 0;
        for name in request
            .message_system_attribute_names
            .iter()
            .chain(&request.attribute_names)
        {
            system |= match NAMES.iter().position(|known| known == name) {
                Some(at) => 1 << at,
                None if name == "All" => ALL,
                None => {
                    return Err(Error::new(
                        ErrorCode::InvalidAttributeName,
                        format!("Unknown Attribute {name}."),
                    ));
                }
            };
        }
        Ok(Self {
            system,
            patterns: &request.message_attribute_names,
        })
    }

    pub(super) fn system(&self, message: &Message, sender: &Arc<str>) -> SystemAttributes {
        let wanted = |name: &str| {
            NAMES
                .iter()
                .position(|known| *known == name)
                .is_some_and(|at| self.system & 1 << at != 0)
        };
        if self.system == 0 {
            return SystemAttributes::default();
        }
        let payload = &message.payload;
        SystemAttributes {
            approximate_first_receive_timestamp: message
                .first_received_at
                .filter(|_| wanted("ApproximateFirstReceiveTimestamp"))
                .map(|at| at.as_millis()),
            approximate_receive_count: wanted("ApproximateReceiveCount").then_some(message.receive_count),
            aws_trace_header: payload.trace_header.clone().filter(|_| wanted("AWSTraceHeader")),
            dead_letter_queue_source_arn: message
                .dead_letter_source
                .clone()
                .filter(|_| wanted("DeadLetterQueueSourceArn")),
            message_deduplication_id: payload
                .deduplication
                .clone()
                .filter(|_| wanted("MessageDeduplicationId")),
            message_group_id: payload.group.clone().filter(|_| wanted("MessageGroupId")),
            sender_id: wanted("SenderId").then(|| Arc::clone(sender)),
            sent_timestamp: wanted("SentTimestamp").then_some(message.sent_at.as_millis()),
            sequence_number: message.sequence_number.filter(|_| wanted("SequenceNumber")),
        }
    }

    /// The sender's attributes that were asked for, and the digest over those.
    pub(super) fn user(&self, message: &Message) -> (Arc<MessageAttributes>, Option<Md5>) {
        let all = &message.payload.attributes;
        if all.is_empty() || self.patterns.is_empty() {
            return (Arc::default(), None);
        }
        if self
            .patterns
            .iter()
            .any(|pattern| pattern == "All" || pattern == ".*")
        {
            return (Arc::clone(all), message.payload.attributes_md5);
        }
        let asked = |name: &str| {
            self.patterns
                .iter()
                .any(|pattern| match pattern.strip_suffix(".*") {
                    Some(prefix) => name.starts_with(prefix),
                    None => name == pattern,
                })
        };
        let some: MessageAttributes = all
            .iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, value)| (name, value.clone()))
            .collect();
        let digest = Md5::of_attributes(&some);
        (Arc::new(some), digest)
    }
}
