//! The actions on messages.

use std::collections::HashSet;
use std::sync::Arc;

use super::Account;
use crate::model::action::{
    BatchOutput, ChangeMessageVisibility, ChangeMessageVisibilityBatch, DeleteMessage, DeleteMessageBatch,
    Disturbance, EntryDone, EntryFailure, ReceiveMessage, ReceiveMessageOutput, ReceivedMessage, SendMessage,
    SendMessageBatch, SendMessageOutput, SentEntry,
};
use crate::model::content::{Intake, check_token};
use crate::model::limits::{
    MAX_BATCH_ENTRIES, MAX_MESSAGE_BYTES, MAX_QUEUE_NAME, MAX_VISIBILITY_SECONDS, MAX_WAIT_SECONDS,
};
use crate::model::message::Message;
use crate::model::queue::{Queue, Take};
use crate::model::selection::Selection;
use crate::model::{Error, ErrorCode, Md5, MessageContent, MessageId, ReceiptHandle, Result, Timestamp};

impl Account {
    /// Sends a message.
    ///
    /// # Errors
    /// Those of [`Account::key`], `MissingParameter`, `InvalidMessageContents`, `InvalidParameterValue`, and `OverLimit` when
    /// the account is full.
    pub fn send_message(&mut self, now: Timestamp, request: SendMessage) -> Result<SendMessageOutput> {
        let name = self.name(&request.queue_url)?.to_owned();
        self.queue(&request.queue_url)?;
        self.send(now, &name, request.content())
    }

    /// Sends up to ten messages; looks at each on its own.
    ///
    /// # Errors
    /// Those of [`Account::key`], those of a malformed batch, and `BatchRequestTooLong`.
    pub fn send_message_batch(
        &mut self,
        now: Timestamp,
        request: SendMessageBatch,
    ) -> Result<BatchOutput<SentEntry>> {
        let name = self.name(&request.queue_url)?.to_owned();
        self.queue(&request.queue_url)?;
        check_batch(request.entries.iter().map(|entry| entry.id.as_str()))?;
        let disturbance = request.disturbance;
        let entries: Vec<(String, MessageContent)> = request
            .entries
            .into_iter()
            .map(|mut entry| (std::mem::take(&mut entry.id), entry.content()))
            .collect();
        let bytes: u64 = entries.iter().map(|(_, content)| content.bytes()).sum();
        if bytes > u64::from(MAX_MESSAGE_BYTES) {
            let message = format!(
                "Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes. You have sent {bytes} bytes."
            );
            return Err(Error::new(ErrorCode::BatchRequestTooLong, message));
        }
        Ok(each(entries, disturbance, |id, content| {
            self.send(now, &name, content).map(|sent| SentEntry {
                id: id.to_owned(),
                sent,
            })
        }))
    }

    fn send(&mut self, now: Timestamp, name: &str, content: MessageContent) -> Result<SendMessageOutput> {
        let queue = self.queues.get(name).ok_or_else(Error::no_queue)?;
        let intake = Intake {
            fifo: queue.settings.fifo,
            content_based_deduplication: queue.settings.content_based_deduplication,
            max_bytes: queue.settings.max_message_bytes.into(),
        };
        let delay = content.delay_seconds.and_then(|delay| u32::try_from(delay).ok());
        let md5_of_message_system_attributes = Md5::of_attributes(&content.system_attributes);
        let payload = content.accept(intake)?;
        self.make_room(now, Message::footprint_of(&payload))?;
        let queue = self.queues.get_mut(name).ok_or_else(Error::no_queue)?;
        let before = queue.bytes();
        queue.advance(now);
        let (md5_of_message_body, md5_of_message_attributes) = (payload.body_md5, payload.attributes_md5);
        let id = MessageId::from_random(self.random.u128(..));
        let (message_id, sequence_number) = queue.send(now, id, payload, delay);
        let (after, key, readable) = (queue.bytes(), queue.key, queue.readable());
        self.recount(before, after);
        self.wake(key, readable);
        Ok(SendMessageOutput {
            message_id,
            md5_of_message_body,
            md5_of_message_attributes,
            md5_of_message_system_attributes,
            sequence_number,
        })
    }

    /// Receives what is there now; never waits. How long the caller should go on trying says [`Account::wait_seconds`].
    ///
    /// # Errors
    /// Those of [`Account::key`], `InvalidParameterValue`, `InvalidAttributeName`, and `OverLimit` for a short poll of a
    /// standard queue with 120,000 messages in flight.
    pub fn receive_message(
        &mut self,
        now: Timestamp,
        request: &ReceiveMessage,
    ) -> Result<ReceiveMessageOutput> {
        let selection = Selection::of(request)?;
        let waits = self.wait_seconds(request)? > 0;
        let most = bounded("MaxNumberOfMessages", request.max_number_of_messages, 1, 10)?.unwrap_or(1);
        let visibility = bounded(
            "VisibilityTimeout",
            request.visibility_timeout,
            0,
            MAX_VISIBILITY_SECONDS,
        )?;
        check_token(
            "ReceiveRequestAttemptId",
            request.receive_request_attempt_id.as_deref(),
        )?;
        let source = self.queue(&request.queue_url)?;
        let target = source
            .settings
            .redrive
            .as_ref()
            .and_then(|redrive| self.by_arn(&redrive.target_arn));
        let target = target
            .filter(|name| self.queues.contains_key(*name))
            .map(Arc::<str>::from);
        let name = self.name(&request.queue_url)?;
        let queue = self.queues.get_mut(name).ok_or_else(Error::no_queue)?;
        let before = queue.bytes();
        queue.advance(now);
        if request.disturbance.miss && !waits {
            return Ok(ReceiveMessageOutput::default());
        }
        let take = Take {
            // At most ten.
            most: most as usize,
            visibility: visibility.unwrap_or(queue.settings.visibility_timeout),
            dead_letters: target.is_some(),
            disturbance: request.disturbance,
            attempt: request.receive_request_attempt_id.as_deref(),
        };
        let (numbers, dead) = queue.receive(now, take, waits, &mut self.random)?;
        let messages = numbers.iter().filter_map(|number| {
            Some(shown(
                queue,
                *number,
                queue.message(*number)?,
                &selection,
                &self.sender,
            ))
        });
        let messages = messages.collect();
        let (after, key, readable, arn) =
            (queue.bytes(), queue.key, queue.readable(), Arc::clone(&queue.arn));
        self.recount(before, after);
        self.wake(key, readable);
        if let Some(target) = target {
            self.bury(now, &target, dead, &arn);
        }
        Ok(ReceiveMessageOutput { messages })
    }

    /// How long a receive may wait for a message, in seconds: what it says, else the queue's setting.
    ///
    /// # Errors
    /// Those of [`Account::key`], and `InvalidParameterValue`.
    pub fn wait_seconds(&self, request: &ReceiveMessage) -> Result<u32> {
        let queue = self.queue(&request.queue_url)?;
        let asked = bounded("WaitTimeSeconds", request.wait_time_seconds, 0, MAX_WAIT_SECONDS)?;
        Ok(asked.unwrap_or(queue.settings.wait_seconds))
    }

    fn bury(&mut self, now: Timestamp, target: &str, dead: Vec<Message>, source: &Arc<str>) {
        let Some(queue) = self.queues.get_mut(target).filter(|_| !dead.is_empty()) else {
            return;
        };
        let before = queue.bytes();
        for message in dead {
            queue.bury(now, Box::new(message), Arc::clone(source));
        }
        let (after, key, readable) = (queue.bytes(), queue.key, queue.readable());
        self.recount(before, after);
        self.wake(key, readable);
    }

    /// Deletes a received message.
    ///
    /// # Errors
    /// Those of [`Account::key`], `MissingParameter`, `ReceiptHandleIsInvalid`, and on FIFO queues `InvalidParameterValue`
    /// for an expired handle.
    pub fn delete_message(&mut self, now: Timestamp, request: &DeleteMessage) -> Result<()> {
        self.with_queue(now, &request.queue_url, |queue| {
            delete(queue, &request.receipt_handle)
        })?
    }

    /// Deletes up to ten received messages; looks at each on its own.
    ///
    /// # Errors
    /// Those of [`Account::key`], and those of a malformed batch.
    pub fn delete_message_batch(
        &mut self,
        now: Timestamp,
        request: DeleteMessageBatch,
    ) -> Result<BatchOutput<EntryDone>> {
        self.queue(&request.queue_url)?;
        check_batch(request.entries.iter().map(|entry| entry.id.as_str()))?;
        self.with_queue(now, &request.queue_url, |queue| {
            let entries = request
                .entries
                .into_iter()
                .map(|entry| (entry.id, entry.receipt_handle));
            each(entries, request.disturbance, |id, handle| {
                delete(queue, &handle).map(|()| EntryDone { id: id.to_owned() })
            })
        })
    }

    /// Changes how long a received message stays invisible, counted from `now`.
    ///
    /// # Errors
    /// Those of [`Account::key`], `MissingParameter`, `InvalidParameterValue`, `ReceiptHandleIsInvalid` and
    /// `MessageNotInflight`.
    pub fn change_message_visibility(
        &mut self,
        now: Timestamp,
        request: &ChangeMessageVisibility,
    ) -> Result<()> {
        self.with_queue(now, &request.queue_url, |queue| {
            change_visibility(queue, now, &request.receipt_handle, request.visibility_timeout)
        })?
    }

    /// Changes the visibility of up to ten messages; looks at each on its own.
    ///
    /// # Errors
    /// Those of [`Account::key`], and those of a malformed batch.
    pub fn change_message_visibility_batch(
        &mut self,
        now: Timestamp,
        request: ChangeMessageVisibilityBatch,
    ) -> Result<BatchOutput<EntryDone>> {
        self.queue(&request.queue_url)?;
        check_batch(request.entries.iter().map(|entry| entry.id.as_str()))?;
        self.with_queue(now, &request.queue_url, |queue| {
            let entries = request
                .entries
                .into_iter()
                .map(|entry| (entry.id, (entry.receipt_handle, entry.visibility_timeout)));
            each(entries, request.disturbance, |id, (handle, timeout)| {
                change_visibility(queue, now, &handle, timeout).map(|()| EntryDone { id: id.to_owned() })
            })
        })
    }

    fn with_queue<T>(
        &mut self,
        now: Timestamp,
        queue_url: &str,
        act: impl FnOnce(&mut Queue) -> T,
    ) -> Result<T> {
        let queue = self.queue_mut(queue_url)?;
        let before = queue.bytes();
        queue.advance(now);
        let given = act(queue);
        let (after, key, readable) = (queue.bytes(), queue.key, queue.readable());
        self.recount(before, after);
        self.wake(key, readable);
        Ok(given)
    }
}

fn delete(queue: &mut Queue, handle: &str) -> Result<()> {
    if handle.is_empty() {
        return Err(Error::missing("ReceiptHandle"));
    }
    queue.delete(ReceiptHandle::parse(handle, queue.key)?)
}

fn change_visibility(queue: &mut Queue, now: Timestamp, handle: &str, timeout: Option<i32>) -> Result<()> {
    if handle.is_empty() {
        return Err(Error::missing("ReceiptHandle"));
    }
    let seconds = bounded("VisibilityTimeout", timeout, 0, MAX_VISIBILITY_SECONDS)?
        .ok_or_else(|| Error::missing("VisibilityTimeout"))?;
    queue.change_visibility(now, ReceiptHandle::parse(handle, queue.key)?, seconds)
}

fn shown(
    queue: &Queue,
    number: u64,
    message: &Message,
    selection: &Selection<'_>,
    sender: &Arc<str>,
) -> ReceivedMessage {
    let (message_attributes, md5_of_message_attributes) = selection.user(message);
    ReceivedMessage {
        message_id: message.id,
        receipt_handle: ReceiptHandle {
            queue: queue.key,
            message: number,
            nonce: message.nonce,
        },
        md5_of_body: message.payload.body_md5,
        body: Arc::clone(&message.payload.body),
        attributes: selection.system(message, sender),
        md5_of_message_attributes,
        message_attributes,
    }
}

/// Carries out each entry, except those that faults let fail.
fn each<C, T>(
    entries: impl IntoIterator<Item = (String, C)>,
    disturbance: Disturbance,
    mut act: impl FnMut(&str, C) -> Result<T>,
) -> BatchOutput<T> {
    let mut output = BatchOutput {
        successful: Vec::with_capacity(MAX_BATCH_ENTRIES),
        failed: Vec::new(),
    };
    for (index, (id, content)) in entries.into_iter().enumerate() {
        let result = if disturbance.fails(index) {
            Err(Error::new(
                ErrorCode::InternalError,
                "An injected fault failed this entry.",
            ))
        } else {
            act(&id, content)
        };
        match result {
            Ok(done) => output.successful.push(done),
            Err(error) => output.failed.push(EntryFailure::new(id, error)),
        }
    }
    output
}

fn bounded(parameter: &str, value: Option<i32>, least: u32, most: u32) -> Result<Option<u32>> {
    let Some(value) = value else { return Ok(None) };
    match u32::try_from(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(Error::value(
            parameter,
            value,
            &format!("Must be between {least} and {most}, if provided."),
        )),
    }
}

fn check_batch<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Result<()> {
    match ids.len() {
        0 => {
            return Err(Error::new(
                ErrorCode::EmptyBatchRequest,
                "There should be at least one entry in the request.",
            ));
        }
        1..=MAX_BATCH_ENTRIES => {}
        count => {
            let message = format!(
                "Maximum number of entries per request are {MAX_BATCH_ENTRIES}. You have sent {count}."
            );
            return Err(Error::new(ErrorCode::TooManyEntriesInBatchRequest, message));
        }
    }
    let mut seen = HashSet::with_capacity(MAX_BATCH_ENTRIES);
    for id in ids {
        let characters = id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !characters || !(1..=MAX_QUEUE_NAME).contains(&id.len()) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be \
                           at most 80 letters long.";
            return Err(Error::new(ErrorCode::InvalidBatchEntryId, message));
        }
        if !seen.insert(id) {
            return Err(Error::new(
                ErrorCode::BatchEntryIdsNotDistinct,
                format!("Id {id} repeated."),
            ));
        }
    }
    Ok(())
}
