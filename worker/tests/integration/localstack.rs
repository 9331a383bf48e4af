//! LocalStack, and queues in it.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use serde_json::json;

pub(crate) const REGION: &str = "us-east-1";

#[path = "../../../localstack/tests/endpoint.rs"]
mod endpoint;

pub(crate) use endpoint::endpoint;

/// Queues of one test: a main queue with its dead-letter queue.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    pub(crate) client: Client,
    pub(crate) endpoint: &'static str,
    pub(crate) main: String,
    pub(crate) dead_letter: String,
}

/// What is particular about a test's queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) fifo: bool,
    pub(crate) max_receive_count: u32,
    pub(crate) visibility: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            fifo: false,
            max_receive_count: 3,
            visibility: 30,
        }
    }
}

impl Queues {
    /// New queues, or none where LocalStack cannot run.
    pub(crate) async fn create(shape: Shape) -> Option<Self> {
        let endpoint = endpoint()?;
        let client = client(endpoint);
        let name = format!("test-{:016x}", fastrand::u64(..));
        let suffix = if shape.fifo { ".fifo" } else { "" };
        let dead_letter = create(&client, &format!("{name}-dlq{suffix}"), shape.fifo, &[]).await;
        let arn = attribute(&client, &dead_letter, QueueAttributeName::QueueArn).await;
        let policy =
            json!({"deadLetterTargetArn": arn, "maxReceiveCount": shape.max_receive_count}).to_string();
        let attributes = [
            (QueueAttributeName::RedrivePolicy, policy),
            (
                QueueAttributeName::VisibilityTimeout,
                shape.visibility.to_string(),
            ),
        ];
        let main = create(&client, &format!("{name}{suffix}"), shape.fifo, &attributes).await;
        Some(Self {
            client,
            endpoint,
            main,
            dead_letter,
        })
    }

    /// Sends bodies to the main queue, ten at a time, without attributes.
    pub(crate) async fn send(&self, bodies: &[String]) {
        for (index, chunk) in bodies.chunks(10).enumerate() {
            let entry = |(n, body): (usize, &String)| {
                SendMessageBatchRequestEntry::builder()
                    .id(n.to_string())
                    .message_body(body)
                    .message_attributes("tenant", text(&format!("t{}", (index * 10 + n) % 7)))
                    .build()
                    .unwrap()
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let request = self.client.send_message_batch().queue_url(&self.main);
            let answer = request.set_entries(Some(entries)).send().await.unwrap();
            assert!(answer.failed.is_empty(), "{:?}", answer.failed);
        }
    }

    /// Receives and deletes everything that is, or becomes, visible in `url`, until two polls in a row bring nothing.
    pub(crate) async fn take_all(&self, url: &str) -> Vec<Message> {
        let mut all = Vec::new();
        let mut empty = 0;
        while empty < 2 {
            let messages = self.receive(url, 1).await;
            empty = if messages.is_empty() { empty + 1 } else { 0 };
            for message in &messages {
                let request = self.client.delete_message().queue_url(url);
                request
                    .set_receipt_handle(message.receipt_handle.clone())
                    .send()
                    .await
                    .unwrap();
            }
            all.extend(messages);
        }
        all
    }

    pub(crate) async fn receive(&self, url: &str, wait: i32) -> Vec<Message> {
        let request = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10);
        let request = request.wait_time_seconds(wait).message_attribute_names("All");
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        request.send().await.unwrap().messages.unwrap_or_default()
    }

    /// A handover queue beside these, with their dead-letter queue and redrive policy for the caller to [`Queues::remove`].
    pub(crate) async fn handover(&self) -> String {
        let policy = attribute(&self.client, &self.main, QueueAttributeName::RedrivePolicy).await;
        let name = self.main.rsplit('/').next().unwrap();
        let attributes = [(QueueAttributeName::RedrivePolicy, policy)];
        create(&self.client, &format!("{name}-handover"), false, &attributes).await
    }

    /// Messages in the main queue: visible, and in flight.
    pub(crate) async fn depth(&self) -> (u64, u64) {
        self.depth_of(&self.main).await
    }

    /// Asked in one call: between two, a message could move from the one number to the other and be in neither.
    async fn depth_of(&self, url: &str) -> (u64, u64) {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(url);
        let answer = request.set_attribute_names(Some(names.to_vec())).send().await;
        let attributes = answer.unwrap().attributes.unwrap();
        let [visible, in_flight] = names.map(|name| attributes[&name].parse().unwrap());
        (visible, in_flight)
    }

    /// Waits until nothing is left in the main queue.
    pub(crate) async fn drained(&self, limit: Duration) {
        self.empty(&self.main, limit).await;
    }

    /// Waits until nothing is left in the queue at `url`.
    pub(crate) async fn empty(&self, url: &str, limit: Duration) {
        let empty = async {
            let mut tick = tokio::time::interval(Duration::from_millis(200));
            // Twice in a row: the emulator counts one kind after the other.
            let mut in_a_row = 0;
            while in_a_row < 2 {
                tick.tick().await;
                in_a_row = if self.depth_of(url).await == (0, 0) {
                    in_a_row + 1
                } else {
                    0
                };
            }
        };
        if tokio::time::timeout(limit, empty).await.is_err() {
            let depth = self.depth_of(url).await;
            panic!("after {limit:?} {url} still has (visible, in flight) {depth:?}");
        }
    }

    /// Waits until so many messages are in flight.
    pub(crate) async fn depth_in_flight(&self, count: u64) {
        let in_flight = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            while self.depth().await.1 < count {
                tick.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), in_flight)
            .await
            .expect("messages are received");
    }

    pub(crate) async fn delete(&self) {
        for url in [&self.main, &self.dead_letter] {
            self.remove(url).await;
        }
    }

    pub(crate) async fn remove(&self, url: &str) {
        self.client.delete_queue().queue_url(url).send().await.unwrap();
    }
}

pub(crate) fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .unwrap()
}

/// An HTTP client as the SDK wants it.
pub(crate) fn http() -> aws_sdk_sqs::config::SharedHttpClient {
    Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .http_client(http())
        .build();
    Client::from_conf(config)
}

async fn create(
    client: &Client,
    name: &str,
    fifo: bool,
    attributes: &[(QueueAttributeName, String)],
) -> String {
    let mut attributes: HashMap<_, _> = attributes.iter().cloned().collect();
    attributes.insert(QueueAttributeName::MessageRetentionPeriod, "345600".to_owned());
    if fifo {
        attributes.insert(QueueAttributeName::FifoQueue, "true".to_owned());
    }
    let request = client
        .create_queue()
        .queue_name(name)
        .set_attributes(Some(attributes));
    request.send().await.unwrap().queue_url.unwrap()
}

async fn attribute(client: &Client, url: &str, name: QueueAttributeName) -> String {
    let request = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(name.clone());
    request
        .send()
        .await
        .unwrap()
        .attributes
        .unwrap()
        .remove(&name)
        .unwrap()
}

/// An order with a number, and a fault if there is one.
pub(crate) fn order(number: usize, fault: Option<&str>) -> String {
    let mut order = json!({
        "order_id": format!("o-{number}"),
        "customer": "c-1",
        "currency": "EUR",
        "items": [{"sku": "s-1", "quantity": 2, "unit_price_cents": 1999}],
    });
    if let Some(fault) = fault {
        order["fault"] = fault.into();
    }
    order.to_string()
}
