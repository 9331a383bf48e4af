//! The adapter to Amazon SQS: the only module that knows the SDK.
//!
//! Receives and everything else go over separate HTTP clients, so that long polls cannot starve deletions. The SDK's
//! own retries are off: the consumer retries, knows what a call is worth, and counts every request.

mod convert;
mod error;
mod limit;
mod place;

use std::sync::Arc;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageSystemAttributeName,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use tokio::time::timeout;

use self::convert::{description, message, results, seconds, send_entry};
use self::error::queue_error;
use self::limit::AnswerLimit;
use self::place::Contacted;
use crate::message::Message;
use crate::queue::{BatchResult, Description, Outgoing, Queue, QueueError, ReceiveRequest, Visibility};

/// A receive may take this much longer than its wait: for the connection, and an answer of up to 10 MiB.
const RECEIVE_SLACK: Duration = Duration::from_secs(10);

/// What a [`Message`] is made of; what else SQS knows of it would be parsed for nothing.
const SYSTEM_ATTRIBUTES: [MessageSystemAttributeName; 7] = [
    MessageSystemAttributeName::ApproximateReceiveCount,
    MessageSystemAttributeName::SentTimestamp,
    MessageSystemAttributeName::ApproximateFirstReceiveTimestamp,
    MessageSystemAttributeName::MessageGroupId,
    MessageSystemAttributeName::MessageDeduplicationId,
    MessageSystemAttributeName::AwsTraceHeader,
    MessageSystemAttributeName::DeadLetterQueueSourceArn,
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Clients for one region and set of credentials; queues are made of it.
#[derive(Clone, Debug)]
pub struct Sqs {
    receive: Client,
    settle: Client,
    region: Option<String>,
    contacted: Contacted,
}

impl Sqs {
    /// Reads region, credentials and endpoint as the AWS SDKs do: environment, profile, container, instance.
    ///
    /// `timeout` bounds every request but a receive, which may take its wait and 10 s.
    pub async fn from_environment(timeout: Duration) -> Self {
        Self::new(&environment().await, timeout)
    }

    /// Clients with the region, credentials and endpoint of `config`.
    #[must_use]
    pub fn new(config: &SdkConfig, timeout: Duration) -> Self {
        let contacted = Contacted::default();
        let client = |timeouts: TimeoutConfig| {
            let config = Builder::from(config)
                .http_client(http_client())
                .retry_config(RetryConfig::disabled())
                .timeout_config(timeouts)
                .interceptor(AnswerLimit)
                .interceptor(contacted.clone())
                // The timeout of a request covers a stalled body; watching its throughput costs more than the body.
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .build();
            Client::from_conf(config)
        };
        let connect = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
        Self {
            // A receive has a timeout of its own; see there.
            receive: client(connect.clone().build()),
            settle: client(connect.operation_timeout(timeout).build()),
            region: config.region().map(ToString::to_string),
            contacted: contacted.clone(),
        }
    }

    /// `error` with where was asked, for people who look for the mistake: another region or another address is one.
    #[must_use]
    pub fn located(&self, error: QueueError) -> QueueError {
        let Some(address) = self.contacted.address() else {
            return error; // nothing was asked
        };
        let region = self.region.as_deref().unwrap_or("none");
        QueueError::new(
            error.kind,
            format!("{} (asked {address}, region {region})", error.detail),
        )
    }

    /// The queue at `url`. Nothing is asked of SQS yet.
    #[must_use]
    pub fn queue(&self, url: impl Into<String>) -> SqsQueue {
        SqsQueue {
            sqs: self.clone(),
            url: url.into(),
        }
    }

    /// The URL of the queue called `name`, of `account` if it is another's.
    ///
    /// # Errors
    /// When there is none, SQS refuses, or cannot be reached.
    pub async fn url(&self, name: &str, account: Option<&str>) -> Result<String, QueueError> {
        let request = self.settle.get_queue_url().queue_name(name);
        let request = request.set_queue_owner_aws_account_id(account.map(str::to_owned));
        let answer = request.send().await.map_err(queue_error)?;
        answer.queue_url.ok_or_else(|| error::incomplete("QueueUrl"))
    }

    /// The URLs of the queues whose redrive policy names the dead-letter queue at `url`.
    ///
    /// # Errors
    /// When SQS refuses or cannot be reached.
    pub async fn dead_letter_sources(&self, url: &str) -> Result<Vec<String>, QueueError> {
        /// SQS's most for one answer.
        const PAGE: i32 = 1000;
        let mut urls = Vec::new();
        let mut next = None;
        // An account has far fewer queues than this many pages; an answer that goes in circles must not.
        for _ in 0..1000 {
            let request = self.settle.list_dead_letter_source_queues().queue_url(url);
            let request = request.max_results(PAGE).set_next_token(next);
            let answer = request.send().await.map_err(queue_error)?;
            urls.extend(answer.queue_urls);
            next = answer.next_token;
            if next.is_none() {
                return Ok(urls);
            }
        }
        Err(error::incomplete("an end to its pages"))
    }
}

/// Region, credentials and endpoint as the AWS SDKs find them, with an HTTP client.
pub(crate) async fn environment() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(RetryConfig::disabled())
        .load()
        .await
}

fn http_client() -> aws_sdk_sqs::config::SharedHttpClient {
    HttpBuilder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// One queue of Amazon SQS.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    sqs: Sqs,
    url: String,
}

impl SqsQueue {
    /// The queue's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many messages are in the queue, as SQS says approximately; after six idle hours up to 15 minutes late.
    ///
    /// # Errors
    /// When SQS refuses or cannot be reached, or its answer lacks a number.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let request = self.sqs.settle.get_queue_attributes().queue_url(&self.url);
        let request = request.set_attribute_names(Some(convert::DEPTH.to_vec()));
        let answer = request.send().await.map_err(queue_error)?;
        convert::depth(&answer.attributes.unwrap_or_default())
    }
}

/// How many messages are in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Could be received now.
    pub visible: u64,
    /// Received and not yet deleted or visible again; a retry's delay counts as well.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
}

impl Queue for SqsQueue {
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
        let call = self
            .sqs
            .receive
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(request.max).unwrap_or(i32::MAX))
            .wait_time_seconds(seconds(request.wait))
            .visibility_timeout(seconds(request.visibility))
            .message_attribute_names("All")
            .set_message_system_attribute_names(Some(SYSTEM_ATTRIBUTES.to_vec()))
            .send();
        // The timeout depends on the wait; given to the SDK, it would merge the settings of each call anew.
        let answer = timeout(request.wait + RECEIVE_SLACK, call)
            .await
            .map_err(|_| error::timed_out())?
            .map_err(queue_error)?;
        Ok(answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(message)
            .collect())
    }

    async fn delete(&self, receipts: &[Arc<str>]) -> BatchResult<()> {
        let entry = |(index, receipt): (usize, &Arc<str>)| {
            // Both fields are set, which is all that `build` asks for.
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&**receipt)
                .build()
        };
        let entries = receipts.iter().enumerate().map(entry).collect::<Result<_, _>>();
        let entries = entries.map_err(error::unbuildable)?;
        let request = self
            .sqs
            .settle
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries));
        let answer = request.send().await.map_err(queue_error)?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, ()));
        Ok(results(receipts.len(), done, answer.failed))
    }

    async fn change_visibility(&self, entries: &[Visibility]) -> BatchResult<()> {
        let entry = |(index, entry): (usize, &Visibility)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&*entry.receipt)
                .visibility_timeout(seconds(entry.after))
                .build()
        };
        let built = entries.iter().enumerate().map(entry).collect::<Result<_, _>>();
        let built = built.map_err(error::unbuildable)?;
        let request = self
            .sqs
            .settle
            .change_message_visibility_batch()
            .queue_url(&self.url);
        let answer = request
            .set_entries(Some(built))
            .send()
            .await
            .map_err(queue_error)?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, ()));
        Ok(results(entries.len(), done, answer.failed))
    }

    async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
        let built = entries
            .iter()
            .enumerate()
            .map(|(index, outgoing)| send_entry(index, outgoing));
        let built: Vec<SendMessageBatchRequestEntry> =
            built.collect::<Result<_, _>>().map_err(error::unbuildable)?;
        let request = self.sqs.settle.send_message_batch().queue_url(&self.url);
        let answer = request
            .set_entries(Some(built))
            .send()
            .await
            .map_err(queue_error)?;
        let done = answer
            .successful
            .into_iter()
            .map(|entry| (entry.id, entry.message_id));
        Ok(results(entries.len(), done, answer.failed))
    }

    async fn description(&self) -> Result<Description, QueueError> {
        let request = self.sqs.settle.get_queue_attributes().queue_url(&self.url);
        let request = request.attribute_names(QueueAttributeName::All);
        let answer = request.send().await.map_err(queue_error)?;
        description(&answer.attributes.unwrap_or_default())
    }
}
