//! The seam of the suite: SQS's actions with types of their own.

use std::cell::RefCell;
use std::collections::BTreeMap;

use embedded_sqs::model::action::ReceiveMessage;
use embedded_sqs::model::{ErrorCode, MessageAttributes, MessageContent};

/// A refusal by its code of the query protocol, which is the same on both protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

pub(crate) type Outcome<T> = Result<T, Refusal>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) body_md5: String,
    pub(crate) attributes_md5: Option<String>,
    pub(crate) sequence_number: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) handle: String,
    pub(crate) body: String,
    pub(crate) body_md5: String,
    pub(crate) system: BTreeMap<String, String>,
    pub(crate) attributes: MessageAttributes,
    pub(crate) attributes_md5: Option<String>,
}

/// The ids of the entries that were carried out, and ids and codes of those that were not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) done: Vec<String>,
    pub(crate) failed: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) urls: Vec<String>,
    pub(crate) next: Option<String>,
}

/// Whoever claims to be SQS. Receives wait as the request says.
pub(crate) trait Peer {
    async fn create_queue(&self, name: &str, attributes: &[(&str, &str)]) -> Outcome<String>;
    async fn queue_url(&self, name: &str) -> Outcome<String>;
    async fn list_queues(&self, prefix: &str, most: Option<i32>, next: Option<String>) -> Outcome<Page>;
    async fn dead_letter_sources(&self, url: &str) -> Outcome<Page>;
    async fn attributes(&self, url: &str, names: &[&str]) -> Outcome<BTreeMap<String, String>>;
    async fn set_attributes(&self, url: &str, attributes: &[(&str, &str)]) -> Outcome<()>;
    async fn purge(&self, url: &str) -> Outcome<()>;
    async fn delete_queue(&self, url: &str) -> Outcome<()>;
    async fn send(&self, url: &str, content: MessageContent) -> Outcome<Sent>;
    async fn send_batch(&self, url: &str, entries: Vec<(String, MessageContent)>) -> Outcome<Batch>;
    async fn receive(&self, request: ReceiveMessage) -> Outcome<Vec<Got>>;
    async fn delete(&self, url: &str, handle: &str) -> Outcome<()>;
    async fn delete_batch(&self, url: &str, entries: &[(&str, &str)]) -> Outcome<Batch>;
    async fn change_visibility(&self, url: &str, handle: &str, seconds: i32) -> Outcome<()>;
    async fn change_visibility_batch(&self, url: &str, entries: &[(&str, &str, i32)]) -> Outcome<Batch>;

    /// Lets time pass: sets the clock where it can be set, waits where it cannot. False, at once, when that would take more
    /// than ten seconds; the case then ends early.
    async fn pass(&self, seconds: u32) -> bool;
}

/// A peer, and the queues a case has made there.
pub(crate) struct World<P> {
    pub(crate) peer: P,
    made: RefCell<Vec<String>>,
}

impl<P: Peer> World<P> {
    pub(crate) fn new(peer: P) -> Self {
        Self {
            peer,
            made: RefCell::default(),
        }
    }

    /// A name no other case and no earlier run has used.
    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("conformance-{:016x}{suffix}", fastrand::u64(..))
    }

    pub(crate) async fn queue(&self, attributes: &[(&str, &str)]) -> Outcome<String> {
        let fifo = attributes.iter().any(|(name, _)| *name == "FifoQueue");
        self.queue_named(&self.name(if fifo { ".fifo" } else { "" }), attributes)
            .await
    }

    pub(crate) async fn queue_named(&self, name: &str, attributes: &[(&str, &str)]) -> Outcome<String> {
        let url = self.peer.create_queue(name, attributes).await?;
        self.made.borrow_mut().push(url.clone());
        Ok(url)
    }

    pub(crate) async fn arn(&self, url: &str) -> Outcome<String> {
        Ok(self
            .peer
            .attributes(url, &["QueueArn"])
            .await?
            .remove("QueueArn")
            .unwrap_or_default())
    }

    pub(crate) async fn send(&self, url: &str, body: &str) -> Outcome<Sent> {
        self.peer.send(url, content(body)).await
    }

    pub(crate) async fn send_to_group(&self, url: &str, body: &str, group: &str) -> Outcome<Sent> {
        self.peer.send(url, in_group(body, group)).await
    }

    /// Receives up to ten messages with all attributes, waiting a second for the first.
    pub(crate) async fn receive(&self, url: &str) -> Outcome<Vec<Got>> {
        self.peer.receive(request(url)).await
    }

    /// What a receive finds at once.
    pub(crate) async fn glance(&self, url: &str) -> Outcome<Vec<Got>> {
        self.peer
            .receive(ReceiveMessage {
                wait_time_seconds: Some(0),
                ..request(url)
            })
            .await
    }

    pub(crate) async fn receive_one(&self, url: &str) -> Outcome<Got> {
        let mut messages = self.receive(url).await?;
        assert_eq!(messages.len(), 1, "expected one message: {messages:?}");
        Ok(messages.remove(0))
    }

    pub(crate) async fn bodies(&self, url: &str) -> Outcome<Vec<String>> {
        Ok(self
            .receive(url)
            .await?
            .into_iter()
            .map(|message| message.body)
            .collect())
    }

    pub(crate) async fn clean_up(&self) {
        let made = std::mem::take(&mut *self.made.borrow_mut());
        for url in made {
            // Cases delete queues too.
            let _ = self.peer.delete_queue(&url).await;
        }
    }
}

pub(crate) fn content(body: &str) -> MessageContent {
    MessageContent {
        body: body.to_owned(),
        ..MessageContent::default()
    }
}

pub(crate) fn in_group(body: &str, group: &str) -> MessageContent {
    MessageContent {
        group_id: Some(group.to_owned()),
        ..content(body)
    }
}

pub(crate) fn request(url: &str) -> ReceiveMessage {
    ReceiveMessage {
        queue_url: url.to_owned(),
        message_system_attribute_names: vec!["All".into()],
        message_attribute_names: vec!["All".into()],
        max_number_of_messages: Some(10),
        wait_time_seconds: Some(1),
        ..ReceiveMessage::default()
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Outcome<T>, code: ErrorCode) {
    match outcome {
        Err(Refusal(given)) => assert_eq!(given, code.query_code()),
        Ok(value) => panic!("expected {code:?}, got {value:?}"),
    }
}
