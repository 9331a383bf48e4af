//! The bare loop that the worker is compared with: receive ten, parse, delete ten; four pollers on one thread.
//!
//! No metrics, no leases, no deadline, no retry of a failed entry: what the SDK alone costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, ensure};
use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use worker::handlers::orders::{Order, total};

use crate::usage;

const POLLERS: usize = 4;

/// What the loop is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) queue: String,
    pub(crate) messages: usize,
    /// Whether the SDK's retries and its watch over slow answers are off, as in the worker; else all is default.
    pub(crate) tuned: bool,
}

/// What the loop has done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) cpu_micros: f64,
}

/// The role.
pub(crate) fn work(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(drain(job))?;
    let cpu_micros = usage::cpu()?.as_secs_f64() * 1e6;
    println!("{}", serde_json::to_string(&Done { cpu_micros })?);
    Ok(())
}

async fn drain(job: Job) -> Result<()> {
    let http = HttpBuilder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    let mut settings = Builder::from(&config);
    if job.tuned {
        settings = settings
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    }
    let client = Client::from_conf(settings.build());
    let (job, done) = (Arc::new(job), Arc::new(AtomicUsize::new(0)));
    let mut pollers = JoinSet::new();
    for _ in 0..POLLERS {
        pollers.spawn(poll(client.clone(), Arc::clone(&job), Arc::clone(&done)));
    }
    while let Some(poller) = pollers.join_next().await {
        poller??;
    }
    Ok(())
}

async fn poll(client: Client, job: Arc<Job>, done: Arc<AtomicUsize>) -> Result<()> {
    while done.load(Relaxed) < job.messages {
        let request = client.receive_message().queue_url(&job.queue);
        let answer = request
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .send()
            .await?;
        let messages = answer.messages.unwrap_or_default();
        if messages.is_empty() {
            continue;
        }
        let mut entries = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            let order: Order = serde_json::from_str(message.body.as_deref().unwrap_or_default())?;
            total(&order).map_err(anyhow::Error::msg)?;
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .set_receipt_handle(message.receipt_handle);
            entries.push(entry.build()?);
        }
        let count = entries.len();
        let request = client.delete_message_batch().queue_url(&job.queue);
        let answer = request.set_entries(Some(entries)).send().await?;
        ensure!(answer.failed.is_empty(), "{:?}", answer.failed);
        done.fetch_add(count, Relaxed);
    }
    Ok(())
}
