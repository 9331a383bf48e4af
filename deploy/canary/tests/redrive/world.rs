//! A dead-letter queue with the queues that name it, and what is in them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use canary::redrive::{Request, Summary, redrive};
use embedded_sqs::server::{Server, ServerConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use worker::failure::ATTRIBUTE;
use worker::sqs::Sqs;

pub(crate) const REGION: &str = "us-east-1";

/// The queues of one test.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) sqs: Sqs,
    pub(crate) endpoint: String,
    pub(crate) main: String,
    pub(crate) dead_letter: String,
    fifo: bool,
}

/// What goes along with a dead letter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) attributes: BTreeMap<String, MessageAttributeValue>,
    pub(crate) group: Option<String>,
    pub(crate) trace_header: Option<String>,
}

pub(crate) async fn embedded() -> Server {
    Server::start(ServerConfig::default()).await.unwrap()
}

impl World {
    pub(crate) async fn new(endpoint: &str, fifo: bool) -> Self {
        let credentials = Credentials::new("test", "test", None, None, "tests");
        let http = Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http)
            .build();
        let mut world = Self {
            client: Client::new(&config),
            sqs: Sqs::new(&config, Duration::from_secs(1)),
            endpoint: endpoint.to_owned(),
            main: String::new(),
            dead_letter: String::new(),
            fifo,
        };
        let name = format!("test-{:016x}", fastrand::u64(..));
        let suffix = if fifo { ".fifo" } else { "" };
        world.dead_letter = world.create(&format!("{name}-dlq{suffix}"), None).await;
        world.main = world.create(&format!("{name}{suffix}"), Some(1)).await;
        world
    }

    /// Another queue that names the dead-letter queue, or with no count one that does not.
    pub(crate) async fn create(&self, name: &str, max_receive_count: Option<u32>) -> String {
        let mut attributes = HashMap::new();
        if self.fifo {
            attributes.insert(QueueAttributeName::FifoQueue, "true".to_owned());
        }
        if let Some(count) = max_receive_count {
            let policy =
                json!({"deadLetterTargetArn": self.arn(&self.dead_letter).await, "maxReceiveCount": count});
            attributes.insert(QueueAttributeName::RedrivePolicy, policy.to_string());
        }
        let request = self.client.create_queue().queue_name(name);
        let answer = request.set_attributes(Some(attributes)).send().await.unwrap();
        answer.queue_url.unwrap()
    }

    pub(crate) async fn attribute(&self, url: &str, name: QueueAttributeName) -> String {
        let request = self.client.get_queue_attributes().queue_url(url);
        let answer = request.attribute_names(name.clone()).send().await.unwrap();
        answer.attributes.unwrap().remove(&name).unwrap()
    }

    async fn arn(&self, url: &str) -> String {
        self.attribute(url, QueueAttributeName::QueueArn).await
    }

    /// Messages that could be received now.
    pub(crate) async fn visible(&self, url: &str) -> u64 {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        self.attribute(url, name).await.parse().unwrap()
    }

    pub(crate) fn name<'a>(&self, url: &'a str) -> &'a str {
        url.rsplit('/').next().unwrap()
    }

    /// A story as the worker writes it, of a message that `release` failed.
    pub(crate) fn story(&self, release: &str, reason: &str, minutes_ago: u64) -> Value {
        let at = SystemTime::now() - Duration::from_secs(60 * minutes_ago);
        let at = humantime::format_rfc3339_millis(at).to_string();
        json!({
            "schema": 1, "release": release, "track": "canary", "reason": reason, "error": "it broke",
            "attempts": [
                {"release": "1.9", "track": "stable", "outcome": "retry", "receive_count": 1, "at": at},
                {"release": release, "track": "canary", "outcome": "reject", "receive_count": 2, "at": at},
            ],
            "first_received_at": at, "failed_at": at,
            "source_queue": self.name(&self.main), "original_message_id": format!("first-{}", fastrand::u64(..)),
        })
    }

    /// Puts a message into the dead-letter queue.
    pub(crate) async fn bury(&self, body: &str, story: Option<&Value>, extra: Extra) {
        let mut attributes: HashMap<_, _> = extra.attributes.into_iter().collect();
        if let Some(story) = story {
            attributes.insert(ATTRIBUTE.to_owned(), text(&story.to_string()));
        }
        let mut request = self
            .client
            .send_message()
            .queue_url(&self.dead_letter)
            .message_body(body);
        if let Some(header) = extra.trace_header {
            let value = MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(header);
            let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
            request = request.message_system_attributes(name, value.build().unwrap());
        }
        if self.fifo {
            request = request.message_deduplication_id(format!("buried-{body}"));
        }
        let request = request
            .set_message_attributes(Some(attributes))
            .set_message_group_id(extra.group);
        request.send().await.unwrap();
    }

    /// Everything of `release` with these bodies.
    pub(crate) async fn bury_all(
        &self,
        release: &str,
        reason: &str,
        bodies: impl IntoIterator<Item = String>,
    ) {
        for body in bodies {
            self.bury(&body, Some(&self.story(release, reason, 5)), Extra::default())
                .await;
        }
    }

    /// A request for this world's dead-letter queue, as fast as can be.
    pub(crate) fn request(&self) -> Request {
        Request {
            rate: None,
            ..Request::new(self.dead_letter.as_str())
        }
    }

    pub(crate) async fn redrive(&self, request: &Request) -> Summary {
        let stop = CancellationToken::new();
        redrive(&self.sqs, request, &|_| {}, &stop).await.unwrap()
    }

    /// One receive: up to ten messages, hidden for 12 h.
    pub(crate) async fn receive(&self, url: &str) -> Vec<Message> {
        let request = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10);
        let request = request.visibility_timeout(43_200).message_attribute_names("All");
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        request.send().await.unwrap().messages.unwrap_or_default()
    }

    /// All messages that are visible in `url`, which takes them away.
    pub(crate) async fn take(&self, url: &str) -> Vec<Message> {
        let mut all = Vec::new();
        // Ends at the first empty receive: nothing else reads here.
        loop {
            let messages = self.receive(url).await;
            if messages.is_empty() {
                return all;
            }
            let entry = |(index, message): (usize, &Message)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
                entry
                    .set_receipt_handle(message.receipt_handle.clone())
                    .build()
                    .unwrap()
            };
            let entries = messages.iter().enumerate().map(entry).collect();
            let request = self.client.delete_message_batch().queue_url(url);
            let answer = request.set_entries(Some(entries)).send().await.unwrap();
            assert!(answer.failed.is_empty(), "{:?}", answer.failed);
            all.extend(messages);
        }
    }

    /// How often each body is visible in `url`, which takes them away.
    pub(crate) async fn bodies(&self, url: &str) -> BTreeMap<String, usize> {
        let mut bodies = BTreeMap::new();
        for message in self.take(url).await {
            *bodies.entry(message.body.unwrap()).or_default() += 1;
        }
        bodies
    }
}

pub(crate) fn text(value: &str) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value);
    value.build().unwrap()
}

pub(crate) fn bytes(value: &[u8]) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder()
        .data_type("Binary.png")
        .binary_value(Blob::new(value));
    value.build().unwrap()
}

/// The story a message carries.
pub(crate) fn story_of(message: &Message) -> Value {
    let attributes = message.message_attributes.as_ref().unwrap();
    serde_json::from_str(attributes[ATTRIBUTE].string_value.as_ref().unwrap()).unwrap()
}

/// These bodies, once each.
pub(crate) fn once(bodies: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    bodies.into_iter().map(|body| (body, 1)).collect()
}

/// `count` bodies that start with `name`.
pub(crate) fn numbered(name: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{name}-{number}"))
}
