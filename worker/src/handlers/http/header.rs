//! The headers of a posted message.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::handler::Context;
use crate::message::{Attribute, AttributeValue, Attributes, Message};
use crate::trace::{self, TRACEPARENT, TRACESTATE};

/// SQS's id of this message; a copy of it has another.
pub const MESSAGE_ID: &str = "x-queue-worker-message-id";
/// The id under which the message was first sent: the idempotency key.
pub const ORIGINAL_MESSAGE_ID: &str = "x-queue-worker-original-message-id";
/// How often the message was received, this time included.
pub const RECEIVE_COUNT: &str = "x-queue-worker-receive-count";
/// The attempt's number: the receive count, plus what was tried in place.
pub const ATTEMPT: &str = "x-queue-worker-attempt";
/// Milliseconds until the attempt is ended.
pub const DEADLINE: &str = "x-queue-worker-deadline-ms";
/// The message's group, where it has one.
pub const GROUP: &str = "x-queue-worker-group-id";
/// The attributes, as JSON in ASCII: `{"tenant": {"type": "String", "value": "t1"}}`. The value of a type `Binary` is
/// in base64.
pub const ATTRIBUTES: &str = "x-queue-worker-attributes";
/// The release that the attempt answers for.
pub const RELEASE: &str = "x-queue-worker-release";
/// Its track.
pub const TRACK: &str = "x-queue-worker-track";
/// X-Ray's header, as it came with the message.
pub const XRAY: &str = "x-amzn-trace-id";

/// Writes what is known of `message` into `headers`.
pub(super) fn write(headers: &mut HeaderMap, message: &Message, context: &Context) {
    let identity = context.identity();
    let mut put = |name: &'static str, value: &str| {
        // What is no header (a line break in a foreign trace header) is left out rather than failing the message.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put(MESSAGE_ID, &message.id);
    put(ORIGINAL_MESSAGE_ID, context.original_message_id());
    put(RECEIVE_COUNT, &message.receive_count.to_string());
    put(ATTEMPT, &context.attempt().to_string());
    put(DEADLINE, &context.remaining().as_millis().to_string());
    put(RELEASE, identity.release.as_str());
    put(TRACK, identity.track.as_str());
    put(ATTRIBUTES, &attributes(&message.attributes));
    if let Some(group) = &message.group {
        put(GROUP, group);
    }
    if let Some(header) = &message.trace_header {
        put(XRAY, header);
    }
    if let Some(traceparent) = trace::traceparent(message) {
        put(TRACEPARENT, &traceparent);
    }
    if let Some(state) = message.attributes.get(TRACESTATE).and_then(Attribute::as_text) {
        put(TRACESTATE, state);
    }
}

fn attributes(attributes: &Attributes) -> String {
    let value = |attribute: &Attribute| match &attribute.value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::Bytes(bytes) => STANDARD.encode(bytes),
    };
    let entries: Map<String, Value> = attributes
        .iter()
        .map(|(name, attribute)| {
            let entry = json!({"type": attribute.data_type, "value": value(attribute)});
            (name.clone(), entry)
        })
        .collect();
    ascii(&Value::Object(entries).to_string())
}

/// JSON in ASCII, as headers want it. Only strings hold anything else, so an escape says the same.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn attributes_come_back_whatever_they_are(name in any::<String>(), text in any::<String>()) {
            let sent = Attributes::from([(name.clone(), Attribute::text(text.clone()))]);
            let header = HeaderValue::from_str(&attributes(&sent)).unwrap();
            let read: Value = serde_json::from_str(header.to_str().unwrap()).unwrap();
            prop_assert_eq!(&read[&name]["value"], &Value::from(text));
        }
    }

    #[test]
    fn bytes_are_in_base64_and_types_are_kept() {
        let attribute = Attribute {
            data_type: "Binary.png".to_owned(),
            value: AttributeValue::Bytes(vec![0, 255]),
        };
        let header = attributes(&Attributes::from([("p".to_owned(), attribute)]));
        assert_eq!(header, r#"{"p":{"type":"Binary.png","value":"AP8="}}"#);
    }
}
