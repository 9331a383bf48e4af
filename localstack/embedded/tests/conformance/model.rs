//! The model in process as a peer, on a clock that only moves when told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use embedded_sqs::model::action::{
    BatchOutput, ChangeMessageVisibility, ChangeMessageVisibilityBatch, ChangeVisibilityEntry, CreateQueue,
    DeleteEntry, DeleteMessage, DeleteMessageBatch, DeleteQueue, EntryDone, EntryFailure, GetQueueAttributes,
    GetQueueUrl, ListDeadLetterSourceQueues, ListQueues, PurgeQueue, ReceiveMessage, ReceivedMessage,
    SendEntry, SendMessage, SendMessageBatch, SetQueueAttributes,
};
use embedded_sqs::model::{Account, AccountConfig, Error, MessageContent, Timestamp};

use crate::peer::{Batch, Got, Outcome, Page, Peer, Refusal, Sent};

pub(crate) struct ModelPeer {
    account: RefCell<Account>,
    now: Cell<Timestamp>,
}

impl ModelPeer {
    pub(crate) async fn start() -> Self {
        let now = Timestamp::from_millis(1_800_000_000_000);
        Self {
            account: RefCell::new(Account::new(AccountConfig::default())),
            now: Cell::new(now),
        }
    }

    fn act<T>(&self, act: impl FnOnce(&mut Account, Timestamp) -> Result<T, Error>) -> Outcome<T> {
        act(&mut self.account.borrow_mut(), self.now.get())
            .map_err(|e| Refusal(e.code.query_code().to_owned()))
    }
}

fn owned(attributes: &[(&str, &str)]) -> BTreeMap<String, String> {
    attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn failed(failed: Vec<EntryFailure>) -> Vec<(String, String)> {
    failed
        .into_iter()
        .map(|failure| (failure.id, failure.code.to_owned()))
        .collect()
}

fn batch(output: BatchOutput<EntryDone>) -> Batch {
    Batch {
        done: output.successful.into_iter().map(|done| done.id).collect(),
        failed: failed(output.failed),
    }
}

fn got(message: ReceivedMessage) -> Got {
    // As a client sees it: by way of JSON.
    let attributes = serde_json::to_value(&message.attributes).unwrap();
    Got {
        id: message.message_id.to_string(),
        handle: message.receipt_handle.to_string(),
        body: message.body.to_string(),
        body_md5: message.md5_of_body.to_string(),
        system: serde_json::from_value(attributes).unwrap(),
        attributes: message.message_attributes.as_ref().clone(),
        attributes_md5: message.md5_of_message_attributes.map(|md5| md5.to_string()),
    }
}

impl Peer for ModelPeer {
    async fn create_queue(&self, name: &str, attributes: &[(&str, &str)]) -> Outcome<String> {
        let request = CreateQueue {
            queue_name: name.into(),
            attributes: owned(attributes),
            ..CreateQueue::default()
        };
        self.act(|account, now| account.create_queue(now, &request))
            .map(|output| output.queue_url)
    }

    async fn queue_url(&self, name: &str) -> Outcome<String> {
        let request = GetQueueUrl {
            queue_name: name.into(),
            ..GetQueueUrl::default()
        };
        self.act(|account, _| account.queue_url(&request))
            .map(|output| output.queue_url)
    }

    async fn list_queues(&self, prefix: &str, most: Option<i32>, next: Option<String>) -> Outcome<Page> {
        let request = ListQueues {
            queue_name_prefix: Some(prefix.into()),
            max_results: most,
            next_token: next,
        };
        let output = self.act(|account, _| account.list_queues(&request))?;
        Ok(Page {
            urls: output.queue_urls,
            next: output.next_token,
        })
    }

    async fn dead_letter_sources(&self, url: &str) -> Outcome<Page> {
        let request = ListDeadLetterSourceQueues {
            queue_url: url.into(),
            ..ListDeadLetterSourceQueues::default()
        };
        let output = self.act(|account, _| account.list_dead_letter_source_queues(&request))?;
        Ok(Page {
            urls: output.queue_urls,
            next: output.next_token,
        })
    }

    async fn attributes(&self, url: &str, names: &[&str]) -> Outcome<BTreeMap<String, String>> {
        let attribute_names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = GetQueueAttributes {
            queue_url: url.into(),
            attribute_names,
        };
        let output = self.act(|account, now| account.queue_attributes(now, &request))?;
        Ok(output
            .attributes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    async fn set_attributes(&self, url: &str, attributes: &[(&str, &str)]) -> Outcome<()> {
        let request = SetQueueAttributes {
            queue_url: url.into(),
            attributes: owned(attributes),
        };
        self.act(|account, now| account.set_queue_attributes(now, &request))
    }

    async fn purge(&self, url: &str) -> Outcome<()> {
        self.act(|account, now| {
            account.purge_queue(
                now,
                &PurgeQueue {
                    queue_url: url.into(),
                },
            )
        })
    }

    async fn delete_queue(&self, url: &str) -> Outcome<()> {
        self.act(|account, now| {
            account.delete_queue(
                now,
                &DeleteQueue {
                    queue_url: url.into(),
                },
            )
        })
    }

    async fn send(&self, url: &str, content: MessageContent) -> Outcome<Sent> {
        let request = SendMessage {
            queue_url: url.into(),
            message_body: content.body,
            delay_seconds: content.delay_seconds,
            message_attributes: content.attributes,
            message_system_attributes: content.system_attributes,
            message_deduplication_id: content.deduplication_id,
            message_group_id: content.group_id,
        };
        let output = self.act(|account, now| account.send_message(now, request))?;
        Ok(Sent {
            id: output.message_id.to_string(),
            body_md5: output.md5_of_message_body.to_string(),
            attributes_md5: output.md5_of_message_attributes.map(|md5| md5.to_string()),
            sequence_number: output.sequence_number.map(|number| number.to_string()),
        })
    }

    async fn send_batch(&self, url: &str, entries: Vec<(String, MessageContent)>) -> Outcome<Batch> {
        let entries = entries.into_iter().map(|(id, content)| SendEntry {
            id,
            message_body: content.body,
            delay_seconds: content.delay_seconds,
            message_attributes: content.attributes,
            message_system_attributes: content.system_attributes,
            message_deduplication_id: content.deduplication_id,
            message_group_id: content.group_id,
        });
        let request = SendMessageBatch {
            queue_url: url.into(),
            entries: entries.collect(),
            ..SendMessageBatch::default()
        };
        let output = self.act(|account, now| account.send_message_batch(now, request))?;
        let done = output.successful.into_iter().map(|sent| sent.id).collect();
        Ok(Batch {
            done,
            failed: failed(output.failed),
        })
    }

    async fn receive(&self, request: ReceiveMessage) -> Outcome<Vec<Got>> {
        let output = self.act(|account, now| account.receive_message(now, &request))?;
        Ok(output.messages.into_iter().map(got).collect())
    }

    async fn delete(&self, url: &str, handle: &str) -> Outcome<()> {
        let request = DeleteMessage {
            queue_url: url.into(),
            receipt_handle: handle.into(),
        };
        self.act(|account, now| account.delete_message(now, &request))
    }

    async fn delete_batch(&self, url: &str, entries: &[(&str, &str)]) -> Outcome<Batch> {
        let entries = entries.iter().map(|(id, handle)| DeleteEntry {
            id: (*id).to_owned(),
            receipt_handle: (*handle).to_owned(),
        });
        let request = DeleteMessageBatch {
            queue_url: url.into(),
            entries: entries.collect(),
            ..DeleteMessageBatch::default()
        };
        self.act(|account, now| account.delete_message_batch(now, request))
            .map(batch)
    }

    async fn change_visibility(&self, url: &str, handle: &str, seconds: i32) -> Outcome<()> {
        let request = ChangeMessageVisibility {
            queue_url: url.into(),
            receipt_handle: handle.into(),
            visibility_timeout: Some(seconds),
        };
        self.act(|account, now| account.change_message_visibility(now, &request))
    }

    async fn change_visibility_batch(&self, url: &str, entries: &[(&str, &str, i32)]) -> Outcome<Batch> {
        let entries = entries.iter().map(|(id, handle, seconds)| ChangeVisibilityEntry {
            id: (*id).to_owned(),
            receipt_handle: (*handle).to_owned(),
            visibility_timeout: Some(*seconds),
        });
        let request = ChangeMessageVisibilityBatch {
            queue_url: url.into(),
            entries: entries.collect(),
            ..ChangeMessageVisibilityBatch::default()
        };
        self.act(|account, now| account.change_message_visibility_batch(now, request))
            .map(batch)
    }

    async fn pass(&self, seconds: u32) -> bool {
        self.now.set(self.now.get().plus_seconds(seconds));
        true
    }
}
