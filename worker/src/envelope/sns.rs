//! SNS's envelope.
//!
//! Source: "Amazon SNS message and JSON formats" in the SNS developer guide.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::message::{Attribute, AttributeValue, Message};

/// The topic, as an attribute of the message within.
pub const TOPIC: &str = "sns.topic_arn";
/// The subject, as an attribute of the message within.
pub const SUBJECT: &str = "sns.subject";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    r#type: String,
    #[expect(dead_code, reason = "an object without it is no envelope")]
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    message: String,
    #[serde(default)]
    message_attributes: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Value {
    r#type: String,
    value: String,
}

/// The message that was published; none when the body is no envelope of SNS: others may send to the queue directly.
///
/// It has the published attributes, and [`TOPIC`] and [`SUBJECT`], on top of those of the envelope.
pub(super) fn open(message: &Message) -> Option<Message> {
    if !message.body.trim_start().starts_with('{') {
        return None;
    }
    let envelope: Envelope = serde_json::from_str(&message.body).ok()?;
    if envelope.r#type != "Notification" || !envelope.topic_arn.starts_with("arn:") {
        return None;
    }
    let mut inner = Message {
        body: envelope.message,
        ..message.clone()
    };
    let mut put = |name: &str, value: Attribute| inner.attributes.insert(name.to_owned(), value);
    put(TOPIC, Attribute::text(envelope.topic_arn));
    if let Some(subject) = envelope.subject {
        put(SUBJECT, Attribute::text(subject));
    }
    for (name, Value { r#type, value }) in envelope.message_attributes {
        let bytes = r#type
            .starts_with("Binary")
            .then(|| STANDARD.decode(&value).ok())
            .flatten();
        let value = match bytes {
            Some(bytes) => AttributeValue::Bytes(bytes),
            None => AttributeValue::Text(value),
        };
        put(
            &name,
            Attribute {
                data_type: r#type,
                value,
            },
        );
    }
    Some(inner)
}
