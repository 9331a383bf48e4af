//! First figures against LocalStack, which answers far slower than the worker asks: a check, not a race.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use aws_smithy_http_client::Builder as HttpBuilder;

use crate::footprint::{Running, starts};
use crate::page::Page;
use crate::{orders, process, worker};

const MESSAGES: usize = 5_000;

pub(crate) async fn measure(page: &mut Page) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/start");
    ensure!(
        Command::new(script).status()?.success(),
        "localstack/start failed; the other parts can be named to leave this one out"
    );
    let port = std::env::var("LOCALSTACK_PORT").unwrap_or_else(|_| "4566".to_owned());
    let endpoint = format!("http://127.0.0.1:{port}");
    let queues = Queues::make(&endpoint).await?;
    let measured = figures(&endpoint, &queues).await;
    queues.delete().await?;
    page.put("localstack", measured?);
    Ok(())
}

async fn figures(endpoint: &str, queues: &Queues) -> Result<String> {
    queues.fill(MESSAGES).await?;
    let job = worker::Job {
        threads: 0,
        until: worker::Until::Messages(MESSAGES),
    };
    let settings = process::settings(&queues.main, process::free_address()?);
    let done: worker::Done = process::run("worker", &job, process::variables(endpoint, settings)).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let messages = MESSAGES as f64;
    queues.fill(1000).await?;
    let mut running = Running::start(endpoint, &queues.main, &[])?;
    running
        .reaches("worker_attempts_total", "outcome=\"done\"", 1000.0)
        .await?;
    let (now, most) = running.memory()?;
    drop(running);
    let start = starts(endpoint, &queues.main).await?;
    Ok(format!(
        "| against LocalStack | |\n|---|---|\n\
         | {MESSAGES} messages, 100 slots | {:.0} messages/s |\n\
         | CPU of the worker | {:.1} µs a message |\n\
         | resident memory after 1000 messages | {now:.1} MB, at most {most:.1} MB |\n\
         | process start to the first receive | {start:.0} ms |\n",
        done.rate,
        done.cpu_micros / messages,
    ))
}

/// Two queues of the benchmark's own.
struct Queues {
    client: Client,
    main: String,
    dead_letters: String,
}

impl Queues {
    async fn make(endpoint: &str) -> Result<Self> {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
            .endpoint_url(endpoint)
            .http_client(HttpBuilder::new().build_http())
            .build();
        let client = Client::from_conf(config);
        let name = format!("bench-{}", std::process::id());
        let dead_letters = client.create_queue().queue_name(format!("{name}-dlq"));
        let dead_letters = dead_letters.send().await?.queue_url.unwrap_or_default();
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{name}-dlq");
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":5}}"#);
        let main = client.create_queue().queue_name(name);
        let main = main.attributes(QueueAttributeName::RedrivePolicy, policy);
        let main = main.send().await?.queue_url.unwrap_or_default();
        Ok(Self {
            client,
            main,
            dead_letters,
        })
    }

    async fn fill(&self, orders: usize) -> Result<()> {
        for first in (0..orders).step_by(10) {
            let entry = |n: usize| {
                SendMessageBatchRequestEntry::builder()
                    .id(n.to_string())
                    .message_body(orders::body(n))
                    .build()
            };
            let entries = (first..first + 10).map(entry).collect::<Result<_, _>>()?;
            let request = self.client.send_message_batch().queue_url(&self.main);
            let answer = request.set_entries(Some(entries)).send().await?;
            ensure!(answer.failed.is_empty(), "{:?}", answer.failed);
        }
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        for queue in [&self.main, &self.dead_letters] {
            self.client.delete_queue().queue_url(queue).send().await?;
        }
        Ok(())
    }
}
