//! Messages that are not what they should be, through the real consumer and the real adapter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use http_body_util::BodyExt;
use metrics::NoopRecorder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use worker::clock::Clock;
use worker::consumer::{Consumer, Options, Parts, Shutdown};
use worker::events::Events;
use worker::failure::{ATTRIBUTE, Target};
use worker::handler::{Handler, Json};
use worker::handlers::orders::Orders;
use worker::metrics::Metrics;
use worker::queue::{Description, RedrivePolicy};
use worker::release::{Identity, Release, Track};
use worker::retry::Backoff;
use worker::settle;

use super::Row;
use super::answers::sqs;

const MAX_BYTES: usize = 1024 * 1024;

/// A queue that gives one message, once, and notes what becomes of it.
struct OneMessage {
    /// The answer of the first receive.
    answer: Mutex<Option<String>>,
    copies: Mutex<Vec<Value>>,
    end: Mutex<Option<String>>,
    ended: Notify,
}

async fn answer(State(queue): State<Arc<OneMessage>>, request: Request) -> Response<Body> {
    let target = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let entries = asked["Entries"].as_array().cloned().unwrap_or_default();
    let done: Vec<_> = entries
        .iter()
        .map(|entry| json!({"Id": entry["Id"], "MessageId": "copy", "MD5OfMessageBody": ""}))
        .collect();
    let mut given = json!({"Successful": done, "Failed": []}).to_string();
    match target.strip_prefix("AmazonSQS.").unwrap() {
        "ReceiveMessage" => {
            given = queue
                .answer
                .lock()
                .unwrap()
                .take()
                .unwrap_or_else(|| "{}".to_owned());
        }
        "SendMessageBatch" => queue.copies.lock().unwrap().extend(entries),
        "DeleteMessageBatch" => queue.end("deleted".to_owned()),
        _ => queue.end(format!(
            "visible again after {} s",
            entries[0]["VisibilityTimeout"]
        )),
    }
    Response::new(Body::from(given))
}

impl OneMessage {
    fn end(&self, how: String) {
        self.end.lock().unwrap().get_or_insert(how);
        self.ended.notify_one();
    }

    /// What became of the message, in words.
    fn told(&self) -> String {
        let end = self.end.lock().unwrap().clone().unwrap();
        let copies = self.copies.lock().unwrap();
        let Some(copy) = copies.first() else {
            let done = if end == "deleted" { "done; " } else { "" };
            return format!("{done}{end}");
        };
        let story = copy["MessageAttributes"][ATTRIBUTE]["StringValue"].as_str();
        let Some(story) = story.map(|story| serde_json::from_str::<Value>(story).unwrap()) else {
            return "dead-lettered without a story".to_owned();
        };
        let reason = story["reason"].as_str().unwrap();
        let error = story["error"]
            .as_str()
            .map_or_else(String::new, |error| format!(": {error}"));
        format!("dead-lettered as `{reason}`{error}")
    }
}

/// What becomes of a message, given as the JSON that a receive answers it with.
async fn fate(message: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let queue = Arc::new(OneMessage {
        answer: Mutex::new(Some(format!(r#"{{"Messages":[{message}]}}"#))),
        copies: Mutex::default(),
        end: Mutex::default(),
        ended: Notify::new(),
    });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&queue));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let shutdown = Shutdown::default();
    let running = tokio::spawn(consumer(&format!("http://{address}"), shutdown.clone()).run());
    let patience = Duration::from_secs(20);
    let ended = tokio::time::timeout(patience, queue.ended.notified()).await;
    shutdown.stop.cancel();
    tokio::time::timeout(patience, running).await.unwrap().unwrap();
    serving.abort();
    ended.unwrap();
    queue.told()
}

fn consumer(endpoint: &str, shutdown: Shutdown) -> Consumer<worker::sqs::SqsQueue, Json<Orders>> {
    let sqs = sqs(endpoint);
    let handler = Arc::new(Json(Orders::default()));
    let identity = Arc::new(Identity {
        release: Release::new("1.4").unwrap(),
        track: Track::Stable,
    });
    let metrics = Metrics::register(&NoopRecorder, &identity, "orders", handler.reasons());
    let parts = Parts {
        queue: Arc::new(sqs.queue("http://queue/1/orders")),
        description: Description {
            arn: "arn:aws:sqs:eu-west-1:1:orders".to_owned(),
            fifo: false,
            visibility_timeout: Duration::from_secs(30),
            max_message_bytes: MAX_BYTES,
            retention: Duration::from_secs(345_600),
            redrive: Some(RedrivePolicy {
                target_arn: "arn:aws:sqs:eu-west-1:1:dead".to_owned(),
                max_receive_count: 3,
            }),
            visible: 0,
        },
        dead_letter_queue: Arc::new(sqs.queue("http://queue/1/dead")),
        dead_letter_target: Target {
            max_message_bytes: MAX_BYTES,
            fifo: false,
        },
        handler,
        identity,
        events: Arc::new(Events::new(Arc::new(metrics), "orders", 10)),
        clock: Clock::System,
    };
    let backoff = Backoff {
        base: Duration::from_millis(100),
        max: Duration::from_secs(1),
    };
    let options = Options {
        concurrency: 1,
        wait: Duration::from_secs(1),
        visibility: Duration::from_secs(30),
        deadline: Duration::from_secs(10),
        retry: backoff,
        settle: settle::Options {
            linger: Duration::from_millis(5),
            give_up: Duration::from_secs(10),
            calls: 1,
            backoff,
            refused_delay: Duration::from_secs(30),
        },
        remember: 10,
        max_error_bytes: 200,
        seed: Some(1),
    };
    Consumer::new(parts, options, shutdown)
}

const ORDER: &str = r#"{"order_id":"o-1","customer":"c","currency":"EUR","items":[{"sku":"s","quantity":2,"unit_price_cents":1999}]}"#;

/// A message with this body and these attributes.
fn message(body: &str, attributes: &Value) -> String {
    json!({
        "MessageId": "0f0e0d0c-0b0a-4908-8706-050403020100",
        "ReceiptHandle": "r",
        "Body": body,
        "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1"},
        "MessageAttributes": attributes,
    })
    .to_string()
}

fn text(value: &str) -> Value {
    json!({"DataType": "String", "StringValue": value})
}

/// So many attributes beside each other.
fn attributes(count: usize) -> Value {
    (0..count)
        .map(|n| (format!("a{n}"), text("v")))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn body(body: &str) -> String {
    fate(message(body, &json!({}))).await
}

async fn story(value: Value) -> String {
    let attributes = json!({ATTRIBUTE: value});
    fate(message(ORDER, &attributes)).await
}

#[expect(clippy::too_many_lines, reason = "a table, a row a line or two")]
pub(super) async fn rows() -> Vec<Row> {
    let row = |input, gives, actual| Row { input, gives, actual };
    let with = |from: &str, to: &str| ORDER.replace(from, to);
    vec![
        row(
            "an empty body",
            "dead-lettered as `undecodable`: EOF while parsing a value",
            body("").await,
        ),
        row(
            "1 MiB of spaces",
            "dead-lettered without a story",
            body(&" ".repeat(MAX_BYTES)).await,
        ),
        row(
            "1 MiB less 1 KiB of JSON that is no order",
            "dead-lettered as `undecodable`: invalid type: string \"xxxxx",
            body(&format!("\"{}\"", "x".repeat(MAX_BYTES - 1026))).await,
        ),
        row(
            "text that is no JSON",
            "dead-lettered as `undecodable`: expected ident",
            body("not json").await,
        ),
        row(
            "JSON that ends early",
            "dead-lettered as `undecodable`: EOF while parsing",
            body(&ORDER[..50]).await,
        ),
        row(
            "two documents",
            "dead-lettered as `undecodable`: trailing characters",
            body(&format!("{ORDER}{ORDER}")).await,
        ),
        row(
            "nested 100,000 deep",
            "dead-lettered as `undecodable`: ",
            body(&"[".repeat(100_000)).await,
        ),
        row(
            "nested 100,000 deep in a field that is ignored",
            "dead-lettered as `undecodable`: expected value",
            body(&with(
                "{\"order_id",
                &format!("{{\"x\":{},\"order_id", "[".repeat(100_000)),
            ))
            .await,
        ),
        row(
            "`null`",
            "dead-lettered as `undecodable`: invalid type: null, expected struct Order",
            body("null").await,
        ),
        row(
            "text for a number",
            "dead-lettered as `undecodable`: invalid type: string \"2\", expected u32",
            body(&with("\"quantity\":2", "\"quantity\":\"2\"")).await,
        ),
        row(
            "a number below its range",
            "dead-lettered as `undecodable`: invalid value: integer `-2`, expected u32",
            body(&with(":2,", ":-2,")).await,
        ),
        row(
            "a number beyond any",
            "dead-lettered as `undecodable`: number out of range",
            body(&with(":2,", ":1e999,")).await,
        ),
        row(
            "a field that is missing",
            "dead-lettered as `undecodable`: missing field `customer`",
            body(&with("customer", "costumer")).await,
        ),
        row(
            "a NUL before the JSON",
            "dead-lettered as `undecodable`: expected value",
            body(&format!("\0{ORDER}")).await,
        ),
        row(
            "a byte order mark before the JSON",
            "dead-lettered as `undecodable`: expected value",
            body(&format!("\u{feff}{ORDER}")).await,
        ),
        row(
            "an escaped lone surrogate",
            "dead-lettered as `undecodable`: ",
            body(&with("o-1", "\\ud800")).await,
        ),
        row(
            "an order without items",
            "dead-lettered as `invalid_order`: items is empty; expected at least one",
            body(&with(r#"{"sku":"s","quantity":2,"unit_price_cents":1999}"#, "")).await,
        ),
        row(
            "a total that overflows",
            "dead-lettered as `invalid_order`: items[0].unit_price_cents is 18446744073709551615; the total overflows",
            body(&with("1999", "18446744073709551615")).await,
        ),
        row(
            "ten attributes, and a body that is rejected",
            "dead-lettered without a story",
            fate(message("", &attributes(10))).await,
        ),
        row(
            "ten attributes, one of them a story that is no story",
            "done; deleted",
            fate({
                let mut attributes = attributes(9);
                attributes[ATTRIBUTE] = text("?");
                message(ORDER, &attributes)
            })
            .await,
        ),
        row(
            "somebody else's text as `worker.failure`: ignored, counted",
            "done; deleted",
            story(text("hello")).await,
        ),
        row(
            "a story of another schema: likewise",
            "done; deleted",
            story(text(r#"{"schema":2}"#)).await,
        ),
        row(
            "a binary story: likewise",
            "done; deleted",
            story(json!({"DataType": "Binary", "BinaryValue": "AAEC"})).await,
        ),
        row(
            "a receive count that is no number: counts as the first",
            "dead-lettered as `undecodable`",
            fate(message("", &json!({})).replace("\"1\"", "\"many\"")).await,
        ),
        row(
            "a message without a body",
            "dead-lettered as `undecodable`: EOF",
            fate(message("x", &json!({})).replace("\"Body\"", "\"Corpus\"")).await,
        ),
        row(
            "an attribute without a value",
            "done; deleted",
            fate(message(ORDER, &json!({"a": {"DataType": "String"}}))).await,
        ),
    ]
}
