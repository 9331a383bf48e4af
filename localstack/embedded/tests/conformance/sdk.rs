//! An endpoint as a peer, through the AWS SDK: the embedded one, or any other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry,
};
use aws_smithy_http_client::tls;
use embedded_sqs::model::action::ReceiveMessage;
use embedded_sqs::model::{Binary, MessageAttribute, MessageAttributes, MessageContent};
use embedded_sqs::server::{Server, ServerConfig};

use crate::peer::{Batch, Got, Outcome, Page, Peer, Refusal, Sent};

pub(crate) struct SdkPeer {
    client: Client,
    /// Present for the embedded endpoint, whose clock can be set.
    server: Option<Server>,
}

impl SdkPeer {
    pub(crate) async fn start() -> Self {
        let server = Server::start(ServerConfig::default()).await.unwrap();
        Self {
            client: client(Some(server.url())),
            server: Some(server),
        }
    }

    pub(crate) async fn localstack() -> Self {
        Self {
            client: client(crate::localstack::endpoint()),
            server: None,
        }
    }

    pub(crate) async fn given() -> Self {
        let url = std::env::var("CONFORMANCE_ENDPOINT").unwrap();
        Self {
            client: client((url != "aws").then_some(url.as_str())),
            server: None,
        }
    }
}

fn client(url: Option<&str>) -> Client {
    let variable = |name: &str| std::env::var(name).ok();
    let key = variable("AWS_ACCESS_KEY_ID").unwrap_or_else(|| "test".into());
    let secret = variable("AWS_SECRET_ACCESS_KEY").unwrap_or_else(|| "test".into());
    let region = variable("AWS_REGION").unwrap_or_else(|| "us-east-1".into());
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let mut config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region))
        .credentials_provider(Credentials::new(
            key,
            secret,
            variable("AWS_SESSION_TOKEN"),
            None,
            "environment",
        ))
        .http_client(
            aws_smithy_http_client::Builder::new()
                .tls_provider(provider)
                .build_https(),
        )
        .retry_config(RetryConfig::disabled());
    if let Some(url) = url {
        config = config.endpoint_url(url);
    }
    Client::from_conf(config.build())
}

fn refusal<E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(error: SdkError<E, R>) -> Refusal {
    match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some(code) => Refusal(code.to_owned()),
        None => Refusal(format!("{error:?}")),
    }
}

fn to_sdk(attributes: &MessageAttributes) -> Option<HashMap<String, MessageAttributeValue>> {
    let each = attributes.iter().map(|(name, attribute)| {
        let value = MessageAttributeValue::builder()
            .data_type(&attribute.data_type)
            .set_string_value(attribute.string_value.clone())
            .set_binary_value(attribute.binary_value.clone().map(|binary| Blob::new(binary.0)));
        (name.to_owned(), value.build().unwrap())
    });
    (!attributes.is_empty()).then(|| each.collect())
}

fn to_sdk_system(
    attributes: &MessageAttributes,
) -> Option<HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>> {
    let each = attributes.iter().map(|(name, attribute)| {
        let value = MessageSystemAttributeValue::builder()
            .data_type(&attribute.data_type)
            .set_string_value(attribute.string_value.clone());
        (
            MessageSystemAttributeNameForSends::from(name),
            value.build().unwrap(),
        )
    });
    (!attributes.is_empty()).then(|| each.collect())
}

fn got(message: Message) -> Got {
    let attributes = message
        .message_attributes
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| {
            let attribute = MessageAttribute {
                string_value: value.string_value,
                binary_value: value.binary_value.map(|blob| Binary(blob.into_inner())),
                data_type: value.data_type,
            };
            (name, attribute)
        });
    let system = message.attributes.unwrap_or_default();
    Got {
        id: message.message_id.unwrap(),
        handle: message.receipt_handle.unwrap(),
        body: message.body.unwrap(),
        body_md5: message.md5_of_body.unwrap(),
        system: system
            .into_iter()
            .map(|(name, value)| (name.as_str().to_owned(), value))
            .collect(),
        attributes: attributes.collect(),
        attributes_md5: message.md5_of_message_attributes,
    }
}

fn failed(failed: Vec<BatchResultErrorEntry>) -> Vec<(String, String)> {
    failed
        .into_iter()
        .map(|failure| (failure.id, failure.code))
        .collect()
}

fn named(attributes: &[(&str, &str)]) -> Option<HashMap<QueueAttributeName, String>> {
    let each = attributes
        .iter()
        .map(|(name, value)| (QueueAttributeName::from(*name), (*value).to_owned()));
    (!attributes.is_empty()).then(|| each.collect())
}

impl Peer for SdkPeer {
    async fn create_queue(&self, name: &str, attributes: &[(&str, &str)]) -> Outcome<String> {
        let call = self
            .client
            .create_queue()
            .queue_name(name)
            .set_attributes(named(attributes));
        Ok(call.send().await.map_err(refusal)?.queue_url.unwrap())
    }

    async fn queue_url(&self, name: &str) -> Outcome<String> {
        Ok(self
            .client
            .get_queue_url()
            .queue_name(name)
            .send()
            .await
            .map_err(refusal)?
            .queue_url
            .unwrap())
    }

    async fn list_queues(&self, prefix: &str, most: Option<i32>, next: Option<String>) -> Outcome<Page> {
        let call = self
            .client
            .list_queues()
            .queue_name_prefix(prefix)
            .set_max_results(most)
            .set_next_token(next);
        let output = call.send().await.map_err(refusal)?;
        Ok(Page {
            urls: output.queue_urls.unwrap_or_default(),
            next: output.next_token,
        })
    }

    async fn dead_letter_sources(&self, url: &str) -> Outcome<Page> {
        let output = self
            .client
            .list_dead_letter_source_queues()
            .queue_url(url)
            .send()
            .await
            .map_err(refusal)?;
        Ok(Page {
            urls: output.queue_urls,
            next: output.next_token,
        })
    }

    async fn attributes(&self, url: &str, names: &[&str]) -> Outcome<BTreeMap<String, String>> {
        let names = names.iter().map(|name| QueueAttributeName::from(*name)).collect();
        let call = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(names));
        let attributes = call.send().await.map_err(refusal)?.attributes.unwrap_or_default();
        Ok(attributes
            .into_iter()
            .map(|(name, value)| (name.as_str().to_owned(), value))
            .collect())
    }

    async fn set_attributes(&self, url: &str, attributes: &[(&str, &str)]) -> Outcome<()> {
        let call = self
            .client
            .set_queue_attributes()
            .queue_url(url)
            .set_attributes(named(attributes));
        call.send().await.map(drop).map_err(refusal)
    }

    async fn purge(&self, url: &str) -> Outcome<()> {
        self.client
            .purge_queue()
            .queue_url(url)
            .send()
            .await
            .map(drop)
            .map_err(refusal)
    }

    async fn delete_queue(&self, url: &str) -> Outcome<()> {
        self.client
            .delete_queue()
            .queue_url(url)
            .send()
            .await
            .map(drop)
            .map_err(refusal)
    }

    async fn send(&self, url: &str, content: MessageContent) -> Outcome<Sent> {
        let call = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(content.body)
            .set_delay_seconds(content.delay_seconds)
            .set_message_attributes(to_sdk(&content.attributes))
            .set_message_system_attributes(to_sdk_system(&content.system_attributes))
            .set_message_deduplication_id(content.deduplication_id)
            .set_message_group_id(content.group_id);
        let output = call.send().await.map_err(refusal)?;
        Ok(Sent {
            id: output.message_id.unwrap(),
            body_md5: output.md5_of_message_body.unwrap(),
            attributes_md5: output.md5_of_message_attributes,
            sequence_number: output.sequence_number,
        })
    }

    async fn send_batch(&self, url: &str, entries: Vec<(String, MessageContent)>) -> Outcome<Batch> {
        let entries = entries.into_iter().map(|(id, content)| {
            SendMessageBatchRequestEntry::builder()
                .id(id)
                .message_body(content.body)
                .set_delay_seconds(content.delay_seconds)
                .set_message_attributes(to_sdk(&content.attributes))
                .set_message_deduplication_id(content.deduplication_id)
                .set_message_group_id(content.group_id)
                .build()
                .unwrap()
        });
        let call = self
            .client
            .send_message_batch()
            .queue_url(url)
            .set_entries(Some(entries.collect()));
        let output = call.send().await.map_err(refusal)?;
        let done = output.successful.into_iter().map(|sent| sent.id).collect();
        Ok(Batch {
            done,
            failed: failed(output.failed),
        })
    }

    async fn receive(&self, request: ReceiveMessage) -> Outcome<Vec<Got>> {
        let system = request.message_system_attribute_names.iter();
        let system = system
            .map(|name| MessageSystemAttributeName::from(name.as_str()))
            .collect();
        let call = self
            .client
            .receive_message()
            .queue_url(request.queue_url)
            .set_message_system_attribute_names(Some(system))
            .set_message_attribute_names(Some(request.message_attribute_names))
            .set_max_number_of_messages(request.max_number_of_messages)
            .set_visibility_timeout(request.visibility_timeout)
            .set_wait_time_seconds(request.wait_time_seconds)
            .set_receive_request_attempt_id(request.receive_request_attempt_id);
        let output = call.send().await.map_err(refusal)?;
        Ok(output.messages.unwrap_or_default().into_iter().map(got).collect())
    }

    async fn delete(&self, url: &str, handle: &str) -> Outcome<()> {
        let call = self.client.delete_message().queue_url(url).receipt_handle(handle);
        call.send().await.map(drop).map_err(refusal)
    }

    async fn delete_batch(&self, url: &str, entries: &[(&str, &str)]) -> Outcome<Batch> {
        let entries = entries.iter().map(|(id, handle)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(*id)
                .receipt_handle(*handle)
                .build()
                .unwrap()
        });
        let call = self
            .client
            .delete_message_batch()
            .queue_url(url)
            .set_entries(Some(entries.collect()));
        let output = call.send().await.map_err(refusal)?;
        let done = output.successful.into_iter().map(|done| done.id).collect();
        Ok(Batch {
            done,
            failed: failed(output.failed),
        })
    }

    async fn change_visibility(&self, url: &str, handle: &str, seconds: i32) -> Outcome<()> {
        let call = self
            .client
            .change_message_visibility()
            .queue_url(url)
            .receipt_handle(handle);
        call.visibility_timeout(seconds)
            .send()
            .await
            .map(drop)
            .map_err(refusal)
    }

    async fn change_visibility_batch(&self, url: &str, entries: &[(&str, &str, i32)]) -> Outcome<Batch> {
        let entries = entries.iter().map(|(id, handle, seconds)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(*id)
                .receipt_handle(*handle);
            entry.visibility_timeout(*seconds).build().unwrap()
        });
        let call = self.client.change_message_visibility_batch().queue_url(url);
        let output = call
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(refusal)?;
        let done = output.successful.into_iter().map(|done| done.id).collect();
        Ok(Batch {
            done,
            failed: failed(output.failed),
        })
    }

    async fn pass(&self, seconds: u32) -> bool {
        match &self.server {
            Some(server) => server.with_clock(|clock| clock.advance(Duration::from_secs(seconds.into()))),
            // Nobody else's clock can be set: here waiting is what is tested.
            None if seconds <= 10 => tokio::time::sleep(Duration::from_secs(seconds.into())).await,
            None => return false,
        }
        true
    }
}
