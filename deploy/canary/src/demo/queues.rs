//! The demo's queues: made, looked into, deleted.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use tokio::time::{Instant, sleep};
use worker::message::Message;
use worker::queue::{MAX_BATCH, Queue, ReceiveRequest};
use worker::sqs::{Sqs, SqsQueue};

use crate::redrive::REQUEST_TIMEOUT;

/// Three queues of the demo's own.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    client: Client,
    pub(super) sqs: Sqs,
    pub(super) endpoint: String,
    pub(super) main: SqsQueue,
    pub(super) handover: SqsQueue,
    pub(super) dead_letter: SqsQueue,
}

impl Queues {
    pub(super) async fn make(endpoint: &str) -> Result<Self> {
        let credentials = Credentials::new("test", "test", None, None, "demo");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let (client, sqs) = (Client::new(&config), Sqs::new(&config, REQUEST_TIMEOUT));
        let name = format!("demo-orders-{}", std::process::id());
        let retention = (Attribute::MessageRetentionPeriod, "1209600".to_owned());
        let dead_letter = create(&client, &format!("{name}-dlq"), vec![retention]).await?;
        let dead_letter = sqs.queue(dead_letter);
        let arn = dead_letter.description().await?.arn;
        let policy = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 5 }).to_string();
        let attributes = || {
            vec![
                (Attribute::RedrivePolicy, policy.clone()),
                (Attribute::VisibilityTimeout, "20".to_owned()),
            ]
        };
        let handover = sqs.queue(create(&client, &format!("{name}-handover"), attributes()).await?);
        let main = sqs.queue(create(&client, &name, attributes()).await?);
        Ok(Self {
            client,
            sqs,
            endpoint: endpoint.to_owned(),
            main,
            handover,
            dead_letter,
        })
    }

    /// Messages in a queue, those in flight and delayed included.
    pub(super) async fn left(&self, queue: &SqsQueue) -> Result<u64> {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::ApproximateNumberOfMessagesDelayed,
        ];
        let request = self.client.get_queue_attributes().queue_url(queue.url());
        let request = request.set_attribute_names(Some(names.to_vec()));
        let attributes = request.send().await?.attributes.unwrap_or_default();
        names
            .iter()
            .map(|name| {
                let value = attributes.get(name).context("an attribute is missing")?;
                Ok(value.parse::<u64>()?)
            })
            .sum()
    }

    /// Waits until nothing is left to do.
    pub(super) async fn drained(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            let (main, handover) = (self.left(&self.main).await?, self.left(&self.handover).await?);
            if main + handover == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!("{main} orders are left in the queue, {handover} in the handover queue");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn delete(&self) {
        for queue in [&self.main, &self.handover, &self.dead_letter] {
            let request = self.client.delete_queue().queue_url(queue.url());
            if let Err(error) = request.send().await {
                eprintln!("the queue {} stays behind: {error}", queue.url());
            }
        }
    }
}

async fn create(client: &Client, name: &str, attributes: Vec<(Attribute, String)>) -> Result<String> {
    let request = client.create_queue().queue_name(name);
    let request = request.set_attributes(Some(attributes.into_iter().collect()));
    let answer = request.send().await;
    let answer = answer.with_context(|| format!("the queue {name} cannot be made"))?;
    answer.queue_url.context("the answer lacks QueueUrl")
}

/// Receives and deletes until the queue is empty.
pub(super) async fn receive_all(queue: &SqsQueue) -> Result<Vec<Message>> {
    let request = ReceiveRequest {
        max: MAX_BATCH,
        wait: Duration::from_secs(1),
        visibility: Duration::from_secs(30),
    };
    let mut all = Vec::new();
    // Each round takes messages off a queue that nobody fills any more.
    loop {
        let messages = queue.receive(request).await?;
        if messages.is_empty() {
            return Ok(all);
        }
        let receipts: Vec<_> = messages.iter().map(|message| message.receipt.clone()).collect();
        queue.delete(&receipts).await?;
        all.extend(messages);
    }
}
