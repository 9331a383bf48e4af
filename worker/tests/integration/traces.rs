//! Spans to a collector on loopback, in protobuf as it comes over the wire (with the feature `otlp`).

use std::sync::{Arc, Mutex};

use aws_sdk_sqs::types::{MessageSystemAttributeNameForSends, MessageSystemAttributeValue};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use tokio::net::TcpListener;

use crate::localstack::{Queues, Shape, order, text};
use crate::process::{PATIENCE, Worker, settings};

type Bodies = Arc<Mutex<Vec<Bytes>>>;

async fn collector() -> (String, Bodies) {
    let bodies = Bodies::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let router = Router::new().fallback(take).with_state(Arc::clone(&bodies));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, bodies)
}

async fn take(State(bodies): State<Bodies>, uri: Uri, body: Bytes) -> StatusCode {
    assert_eq!(uri.path(), "/v1/traces");
    bodies.lock().unwrap().push(body);
    StatusCode::OK
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// A string attribute as OTLP's protobuf has it: key (field 1) and value (field 2, an `AnyValue` whose field 1 it is).
fn attribute(key: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let mut bytes = vec![0x0a, length(key)];
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&[0x12, length(value) + 2, 0x0a, length(value)]);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

#[tokio::test]
async fn each_attempt_is_a_span_with_a_link_to_its_sender_and_its_release() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let (endpoint, bodies) = collector().await;
    for (number, fault) in [(1, None), (2, Some("reject"))] {
        let sent = queues.client.send_message().queue_url(&queues.main);
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e473{number}-00f067aa0ba902b7-01");
        sent.message_body(order(number, fault))
            .message_attributes("traceparent", text(&parent))
            .send()
            .await
            .unwrap();
    }
    // The third was sent by somebody traced by X-Ray.
    let parent = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4733;Parent=00f067aa0ba902b7;Sampled=1";
    let header = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value(parent)
        .build()
        .unwrap();
    let sent = queues.client.send_message().queue_url(&queues.main);
    sent.message_body(order(3, None))
        .message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, header)
        .send()
        .await
        .unwrap();
    let mut variables = settings(&queues);
    variables.insert("WORKER__OTLP__ENDPOINT", endpoint);
    variables.insert("WORKER__LOG__LEVEL", "warn".to_owned());
    variables.insert("OTEL_SERVICE_NAME", "orders-worker".to_owned());
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    worker.stop().await;

    let all: Vec<u8> = bodies.lock().unwrap().concat();
    let queue = queues.main.rsplit('/').next().unwrap();
    for number in [1, 2, 3] {
        // A link's trace id (field 1) and span id (field 2).
        let mut link = vec![0x0a, 16];
        link.extend_from_slice(&(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4730_u128 + number).to_be_bytes());
        link.extend_from_slice(&[0x12, 8]);
        link.extend_from_slice(&0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert!(contains(&all, &link), "the link of message {number} is missing");
    }
    for (key, value) in [
        ("service.name", "orders-worker"),
        ("service.version", "r-1"),
        ("worker.track", "stable"),
        ("worker.release", "r-1"),
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", queue),
        ("worker.outcome", "done"),
        ("worker.outcome", "reject"),
        ("error.type", "fault"),
    ] {
        assert!(contains(&all, &attribute(key, value)), "{key}={value} is missing");
    }
    let name = format!("process {queue}");
    let spans = all
        .windows(name.len())
        .filter(|window| *window == name.as_bytes())
        .count();
    assert_eq!(spans, 3, "one span an attempt");
    queues.delete().await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nothing() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    queues.send(&[order(1, None)]).await;
    let mut variables = settings(&queues);
    variables.insert(
        "WORKER__OTLP__ENDPOINT",
        "http://127.0.0.1:1/v1/traces".to_owned(),
    );
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    worker.stop().await;
    queues.delete().await;
}
