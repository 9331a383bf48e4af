use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::failure::{self, Target};
use crate::message::{Attribute, AttributeValue, Attributes};
use crate::release::{Identity, Release, Track};

/// Keeps what it was given.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Message>>);

impl Handler for Arc<Seen> {
    async fn handle(&self, message: &Message, _: &Context) -> Outcome {
        self.0.lock().unwrap().push(message.clone());
        Outcome::Done
    }
}

/// An S3 with one object.
#[derive(Debug)]
struct OneObject;

impl Payloads for OneObject {
    async fn fetch(&self, pointer: &Pointer, max: usize) -> Result<String, Outcome> {
        assert_eq!(max, 100);
        match (pointer.bucket.as_str(), pointer.key.as_str()) {
            ("payloads", "there") => Ok("the payload".to_owned()),
            ("payloads", "down") => Err(Outcome::unavailable("down")),
            _ => Err(Outcome::reject(PAYLOAD_MISSING, pointer)),
        }
    }
}

fn message(body: impl ToString, attributes: &[(&str, &str)]) -> Message {
    Message {
        id: "id".into(),
        receipt: "r".into(),
        body: body.to_string(),
        attributes: attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Attribute::text(*value)))
            .collect(),
        receive_count: 1,
        sent_at: None,
        first_received_at: None,
        group: None,
        deduplication_id: None,
        trace_header: None,
        dead_letter_source: None,
        story: None,
    }
}

/// What the handler saw of `message`, and the outcome.
async fn handled(message: &Message, sns: bool, buckets: &[&str]) -> (Option<Message>, Outcome) {
    let seen = Arc::new(Seen::default());
    let options = Options {
        sns,
        s3_buckets: buckets.iter().map(|name| (*name).to_owned()).collect(),
        s3_max_bytes: 100,
    };
    let context = Context {
        identity: Arc::new(Identity {
            release: Release::new("1").unwrap(),
            track: Track::Stable,
        }),
        original_message_id: "id".into(),
        attempt: 1,
        deadline: Instant::now() + Duration::from_secs(30),
        course: Arc::default(),
    };
    let handler = Unwrapped::new(Arc::clone(&seen), OneObject, options);
    let outcome = handler.handle(message, &context).await;
    let message = seen.0.lock().unwrap().pop();
    (message, outcome)
}

fn envelope() -> serde_json::Value {
    json!({
        "Type": "Notification", "MessageId": "22b80b92", "TopicArn": "arn:aws:sns:eu-west-1:1:orders", "Subject": "an order",
        "Message": "{\"order_id\": \"o-1\"}", "Timestamp": "2026-11-25T10:00:00Z", "SignatureVersion": "1",
        "MessageAttributes": {
            "tenant": {"Type": "String", "Value": "t1"},
            "picture": {"Type": "Binary", "Value": "AP8="},
        },
    })
}

const POINTER: &str =
    r#"["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"payloads","s3Key":"there"}]"#;

#[tokio::test]
async fn the_handler_sees_what_was_published() {
    let message = message(envelope(), &[("own", "x")]);
    let (seen, _) = handled(&message, true, &[]).await;
    let seen = seen.unwrap();
    assert_eq!(seen.body, "{\"order_id\": \"o-1\"}");
    let text = |name: &str| seen.attributes[name].as_text();
    assert_eq!((text("tenant"), text("own")), (Some("t1"), Some("x")));
    assert_eq!(
        (text(sns::TOPIC), text(sns::SUBJECT)),
        (Some("arn:aws:sns:eu-west-1:1:orders"), Some("an order"))
    );
    assert_eq!(
        seen.attributes["picture"].value,
        AttributeValue::Bytes(vec![0, 255])
    );
    let (seen, _) = handled(&message, false, &[]).await;
    assert_eq!(seen.unwrap(), message, "only when asked for");
}

#[tokio::test]
async fn what_is_no_envelope_is_passed_as_it_is() {
    let mut other = envelope();
    other["Type"] = "SubscriptionConfirmation".into();
    let mut topicless = envelope();
    topicless["TopicArn"] = "orders".into();
    let mut textless = envelope();
    textless["Message"] = json!({"a": 1});
    for body in [
        other.to_string(),
        topicless.to_string(),
        textless.to_string(),
        "{".into(),
        "[]".into(),
        String::new(),
    ] {
        let message = message(&body, &[]);
        let (seen, outcome) = handled(&message, true, &["payloads"]).await;
        assert_eq!((seen, outcome), (Some(message), Outcome::Done), "{body}");
    }
}

#[tokio::test]
async fn a_pointer_is_followed_also_within_an_envelope_of_sns() {
    let old = POINTER.replace(
        "software.amazon.payloadoffloading.PayloadS3Pointer",
        "com.amazon.sqs.javamessaging.MessageS3Pointer",
    );
    let mut published = envelope();
    published["Message"] = POINTER.into();
    published["MessageAttributes"]["ExtendedPayloadSize"] = json!({"Type": "Number", "Value": "11"});
    for message in [
        message(POINTER, &[("ExtendedPayloadSize", "11")]),
        message(old, &[("SQSLargePayloadSize", "11")]),
        message(published, &[]),
    ] {
        let (seen, outcome) = handled(&message, true, &["others", "payloads"]).await;
        assert_eq!(outcome, Outcome::Done);
        let seen = seen.unwrap();
        assert_eq!(seen.body, "the payload");
        assert!(
            pointer::SIZE_ATTRIBUTES
                .iter()
                .all(|name| !seen.attributes.contains_key(*name))
        );
    }
}

#[tokio::test]
async fn a_pointer_that_leads_nowhere_has_its_outcome() {
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Reject { reason, .. } => reason.as_str(),
        Outcome::Unavailable { .. } => "unavailable",
        Outcome::Done | Outcome::Retry { .. } => "else",
    };
    let elsewhere = |from: &str, to: &str| POINTER.replace(from, to);
    for (body, buckets, expected) in [
        (elsewhere("there", "gone"), &["payloads"][..], "payload_missing"),
        (elsewhere("there", "down"), &["payloads"], "unavailable"),
        (POINTER.to_owned(), &["others"], "payload_refused"),
        (elsewhere("payloads", ""), &["payloads"], "undecodable"),
        (
            elsewhere("PayloadS3Pointer", "Else"),
            &["payloads"],
            "undecodable",
        ),
        ("an ordinary body".to_owned(), &["payloads"], "undecodable"),
    ] {
        let message = message(&body, &[("ExtendedPayloadSize", "11")]);
        let (seen, outcome) = handled(&message, false, buckets).await;
        assert_eq!((seen, reason(&outcome)), (None, expected), "{body}");
    }
    let unmarked = message(POINTER, &[]);
    assert_eq!(handled(&unmarked, false, &["payloads"]).await.0, Some(unmarked));
}

#[tokio::test]
async fn a_copy_keeps_the_envelope() {
    let message = message(envelope(), &[]);
    handled(&message, true, &[]).await;
    let story = crate::failure::tests::story();
    let target = Target {
        max_message_bytes: 262_144,
        fifo: false,
    };
    let (copy, _) = failure::copy(&message, story, target).unwrap();
    assert_eq!(copy.body, envelope().to_string());
    assert_eq!(copy.attributes.keys().collect::<Vec<_>>(), [failure::ATTRIBUTE]);
    assert_eq!(message.attributes, Attributes::new());
}
