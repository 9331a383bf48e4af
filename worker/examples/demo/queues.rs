//! The demo's queues: made, filled, emptied and deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use tokio::task::JoinSet;
use worker::message::Message;
use worker::queue::{MAX_BATCH, Outgoing, Queue, ReceiveRequest};
use worker::sqs::{Sqs, SqsQueue};

use crate::Order;

/// Batches under way at once while the queue is filled.
const SENDERS: usize = 8;

/// Two queues of the demo's own.
pub(super) struct Queues {
    client: Client,
    pub(super) main: SqsQueue,
    pub(super) dead_letter: SqsQueue,
}

impl Queues {
    pub(super) async fn make() -> Result<Self> {
        ensure!(
            std::env::var_os("AWS_ENDPOINT_URL").is_some(),
            "AWS_ENDPOINT_URL is not set; expected LocalStack's. Start the demo by localstack/demo"
        );
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(http);
        let config = config.load().await;
        let (client, sqs) = (Client::new(&config), Sqs::new(&config, Duration::from_secs(5)));
        let name = format!("demo-orders-{}", std::process::id());
        let retention = (Attribute::MessageRetentionPeriod, "1209600".to_owned());
        let dead_letter = sqs.queue(create(&client, &format!("{name}-dlq"), retention).await?);
        let arn = dead_letter.description().await?.arn;
        let policy = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 5 });
        let policy = (Attribute::RedrivePolicy, policy.to_string());
        let main = sqs.queue(create(&client, &name, policy).await?);
        Ok(Self {
            client,
            main,
            dead_letter,
        })
    }

    /// Messages in the main queue, those in flight included.
    pub(super) async fn left(&self) -> Result<u64> {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(self.main.url());
        let request = request.set_attribute_names(Some(names.to_vec()));
        let attributes = request.send().await?.attributes.unwrap_or_default();
        names
            .iter()
            .map(|name| {
                Ok(attributes
                    .get(name)
                    .context("an attribute is missing")?
                    .parse::<u64>()?)
            })
            .sum()
    }

    pub(super) async fn delete(self) {
        for queue in [&self.main, &self.dead_letter] {
            let request = self.client.delete_queue().queue_url(queue.url());
            if let Err(error) = request.send().await {
                eprintln!("demo: the queue {} stays behind: {error}", queue.url());
            }
        }
    }
}

async fn create(client: &Client, name: &str, (key, value): (Attribute, String)) -> Result<String> {
    let request = client.create_queue().queue_name(name).attributes(key, value);
    let answer = request.send().await;
    let answer = answer.with_context(|| format!("the queue {name} cannot be made"))?;
    answer.queue_url.context("the answer lacks QueueUrl")
}

/// Sends the orders, ten at a time.
pub(super) async fn fill(queue: &SqsQueue, orders: &[Order]) -> Result<()> {
    let mut sends = JoinSet::new();
    for batch in orders.chunks(MAX_BATCH) {
        if sends.len() >= SENDERS {
            sends.join_next().await.context("nothing is under way")???;
        }
        let entries = batch.iter().map(|order| Outgoing {
            body: order.body.clone(),
            ..Outgoing::default()
        });
        sends.spawn(send(queue.clone(), entries.collect()));
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    Ok(())
}

/// Sends a batch; the entries that are refused are sent again, three times at most.
async fn send(queue: SqsQueue, mut entries: Vec<Outgoing>) -> Result<()> {
    for _ in 0..4 {
        let results = queue.send(&entries).await.context("sending failed")?;
        let pairs = entries.into_iter().zip(results);
        entries = pairs
            .filter_map(|(entry, result)| result.is_err().then_some(entry))
            .collect();
        if entries.is_empty() {
            return Ok(());
        }
    }
    bail!("{} messages of a batch were refused four times", entries.len())
}

/// Receives and deletes until the queue is empty.
pub(super) async fn receive_all(queue: &SqsQueue) -> Result<Vec<Message>> {
    let request = ReceiveRequest {
        max: MAX_BATCH,
        wait: Duration::from_secs(1),
        visibility: Duration::from_secs(30),
    };
    let mut all = BTreeMap::new();
    // Each round takes messages off a queue that nobody fills any more.
    loop {
        let messages = queue.receive(request).await?;
        if messages.is_empty() {
            return Ok(all.into_values().collect());
        }
        let receipts: Vec<_> = messages.iter().map(|message| message.receipt.clone()).collect();
        queue.delete(&receipts).await?;
        all.extend(
            messages
                .into_iter()
                .map(|message| (message.id.to_string(), message)),
        );
    }
}
