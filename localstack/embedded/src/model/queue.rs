//! One queue: messages, what is visible, what is in flight, and when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::Disturbance;
use super::fifo::{Attempts, Deduplication, Groups, Receipt};
use super::limits::{MAX_IN_FLIGHT, MAX_VISIBILITY_SECONDS};
use super::message::{Message, Payload, Place};
use super::settings::Settings;
use super::{Error, ErrorCode, MessageId, QueueKey, ReceiptHandle, Result, SequenceNumber, Timestamp};

/// How many messages a queue holds, by where they are. Exact, although SQS calls its own numbers approximate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// To be had by a receive. On FIFO queues this counts messages of blocked groups too.
    pub visible: usize,
    /// Received and neither deleted nor visible again.
    pub in_flight: usize,
    /// Sent with a delay that is not over.
    pub delayed: usize,
}

#[derive(Debug)]
enum Ready {
    Standard(BTreeSet<u64>),
    Fifo(Groups),
}

/// How far from the front a shuffled receive picks.
const SHUFFLE_WINDOW: usize = 64;

/// What a receive needs beside the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Take<'a> {
    pub(super) most: usize,
    pub(super) visibility: u32,
    /// Whether the queue that the redrive policy names exists.
    pub(super) dead_letters: bool,
    pub(super) disturbance: Disturbance,
    pub(super) attempt: Option<&'a str>,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) key: QueueKey,
    pub(super) arn: Arc<str>,
    pub(super) settings: Settings,
    pub(super) created_at: Timestamp,
    pub(super) modified_at: Timestamp,
    pub(super) purged_at: Option<Timestamp>,
    /// By number in the order of arrival. A tree, not a table: no single insert pays for the growth of all.
    messages: BTreeMap<u64, Box<Message>>,
    /// When messages that are delayed or in flight become visible.
    timers: BTreeSet<(Timestamp, u64)>,
    /// When messages were sent, for their expiry.
    ages: BTreeSet<(Timestamp, u64)>,
    ready: Ready,
    in_flight: usize,
    delayed: usize,
    message_bytes: u64,
    deduplication: Deduplication,
    attempts: Attempts,
    next: u64,
}

/// Memory a queue without messages is accounted for, in bytes.
const QUEUE_BYTES: u64 = 4096;

impl Queue {
    pub(super) fn new(key: QueueKey, arn: Arc<str>, settings: Settings, now: Timestamp) -> Self {
        let ready = if settings.fifo {
            Ready::Fifo(Groups::default())
        } else {
            Ready::Standard(BTreeSet::new())
        };
        Self {
            key,
            arn,
            settings,
            created_at: now,
            modified_at: now,
            purged_at: None,
            messages: BTreeMap::new(),
            timers: BTreeSet::new(),
            ages: BTreeSet::new(),
            ready,
            in_flight: 0,
            delayed: 0,
            message_bytes: 0,
            deduplication: Deduplication::default(),
            attempts: Attempts::default(),
            next: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        QUEUE_BYTES + self.message_bytes + self.deduplication.bytes() + self.attempts.bytes()
    }

    pub(super) fn depth(&self) -> Depth {
        let visible = self.messages.len() - self.in_flight - self.delayed;
        Depth {
            visible,
            in_flight: self.in_flight,
            delayed: self.delayed,
        }
    }

    pub(super) fn message(&self, number: u64) -> Option<&Message> {
        self.messages.get(&number).map(Box::as_ref)
    }

    /// Whether a receive would get something.
    pub(super) fn readable(&self) -> bool {
        match &self.ready {
            Ready::Standard(ready) => !ready.is_empty(),
            Ready::Fifo(groups) => !groups.is_empty(),
        }
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due at `now`: ends of delays and timeouts, and expiry.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some((at, number)) = self.timers.first().copied()
            && at <= now
        {
            self.surface(number);
        }
        while let Some((sent, number)) = self.ages.first().copied()
            && sent.plus_seconds(self.settings.retention_seconds) <= now
        {
            self.remove(number);
        }
        self.deduplication.advance(now);
        self.attempts.advance(now);
    }

    /// Stores a message, unless a FIFO queue has seen its deduplication id within five minutes.
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        id: MessageId,
        payload: Payload,
        delay: Option<u32>,
    ) -> (MessageId, Option<SequenceNumber>) {
        let mut number = None;
        if self.settings.fifo
            && let Some(deduplication) = &payload.deduplication
        {
            let group = payload
                .group
                .clone()
                .filter(|_| self.settings.deduplication_by_group);
            let key = (group, Arc::clone(deduplication));
            if let Some((id, number)) = self.deduplication.seen(&key) {
                return (id, Some(number));
            }
            let new = SequenceNumber(self.next);
            self.deduplication.remember(now, key, id, new);
            number = Some(new);
        }
        let delay = delay
            .filter(|_| !self.settings.fifo)
            .unwrap_or(self.settings.delay_seconds);
        let until = now.plus_seconds(delay);
        self.store(Box::new(Message {
            id,
            payload,
            sequence_number: number,
            sent_at: now,
            first_received_at: None,
            receive_count: 0,
            dead_letter_source: None,
            place: if delay == 0 {
                Place::Visible
            } else {
                Place::Delayed { until }
            },
            received_at: now,
            nonce: 0,
        }));
        (id, number)
    }

    /// Takes in a message that another queue's redrive policy sent here.
    pub(super) fn bury(&mut self, now: Timestamp, mut message: Box<Message>, source: Arc<str>) {
        message.dead_letter_source = Some(source);
        message.place = Place::Visible;
        if self.settings.fifo {
            // The retention of a FIFO message starts anew; that of a standard message counts from the first send.
            message.sent_at = now;
            message.sequence_number = Some(SequenceNumber(self.next));
        }
        self.store(message);
    }

    fn store(&mut self, message: Box<Message>) {
        let number = self.next;
        self.next += 1;
        self.message_bytes += message.footprint();
        self.ages.insert((message.sent_at, number));
        match message.place {
            Place::Visible => self.ready_insert(number, message.payload.group.as_ref()),
            Place::Delayed { until } | Place::InFlight { until } => {
                self.delayed += 1;
                self.timers.insert((until, number));
            }
        }
        self.messages.insert(number, message);
    }

    /// Receives messages; gives their numbers, and the messages that were received too often.
    ///
    /// # Errors
    /// `OverLimit` when too many messages are in flight, for short polls (`waits` false) of standard queues.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        take: Take<'_>,
        waits: bool,
        random: &mut fastrand::Rng,
    ) -> Result<(Vec<u64>, Vec<Message>)> {
        if let Some(again) = self.repeat(now, &take) {
            return Ok((again, Vec::new()));
        }
        let room = MAX_IN_FLIGHT.saturating_sub(self.in_flight);
        if room == 0 && !waits && !self.settings.fifo {
            let message =
                format!("Too many messages are in flight: {MAX_IN_FLIGHT} is the limit of a queue.");
            return Err(Error::new(ErrorCode::OverLimit, message));
        }
        let (picked, dead) = self.pick(take.most.min(room), &take);
        for (index, number) in picked.iter().enumerate() {
            let duplicate = take.disturbance.duplicates(index) && !self.settings.fifo;
            let visibility = if duplicate { 0 } else { take.visibility };
            self.lend(now, *number, visibility, random.u64(..));
        }
        if let Some(attempt) = take.attempt.filter(|_| self.settings.fifo && !picked.is_empty()) {
            let receipts = picked
                .iter()
                .filter_map(|number| Some((*number, self.messages.get(number)?.nonce)));
            let receipts: Vec<Receipt> = receipts.collect();
            self.attempts.remember(now, attempt, receipts);
        }
        Ok((picked, dead))
    }

    fn pick(&mut self, most: usize, take: &Take<'_>) -> (Vec<u64>, Vec<Message>) {
        let limit = self
            .settings
            .redrive
            .as_ref()
            .filter(|_| take.dead_letters)
            .map(|r| r.max_receive_count);
        let mut shuffle = take.disturbance.shuffle.map(fastrand::Rng::with_seed);
        let (mut picked, mut dead, mut last) = (Vec::with_capacity(most), Vec::new(), None);
        // Every round takes a message out of `ready`, so this ends.
        while picked.len() < most {
            let number = match &mut self.ready {
                Ready::Fifo(groups) => groups.pick(&mut last),
                Ready::Standard(ready) => match &mut shuffle {
                    None => ready.pop_first(),
                    Some(random) => {
                        let at = random.usize(..ready.len().clamp(1, SHUFFLE_WINDOW));
                        ready.iter().nth(at).copied().inspect(|number| {
                            ready.remove(number);
                        })
                    }
                },
            };
            let Some(number) = number else { break };
            let count = self
                .messages
                .get(&number)
                .map_or(0, |message| message.receive_count);
            if limit.is_some_and(|limit| count >= limit) {
                dead.extend(self.remove(number).map(|message| *message));
            } else {
                picked.push(number);
            }
        }
        (picked, dead)
    }

    /// The messages of an earlier receive with the same attempt id, while nothing has happened to any of them.
    fn repeat(&mut self, now: Timestamp, take: &Take<'_>) -> Option<Vec<u64>> {
        let receipts = self
            .attempts
            .get(take.attempt.filter(|_| self.settings.fifo)?)?
            .to_vec();
        let untouched = receipts.iter().all(|(number, nonce)| {
            let message = self.messages.get(number);
            message.is_some_and(|m| m.nonce == *nonce && matches!(m.place, Place::InFlight { .. }))
        });
        if !untouched {
            return None;
        }
        for (number, _) in &receipts {
            self.retime(*number, now.plus_seconds(take.visibility));
        }
        if take.visibility == 0 {
            self.advance(now);
        }
        Some(receipts.into_iter().map(|(number, _)| number).collect())
    }

    fn lend(&mut self, now: Timestamp, number: u64, visibility: u32, nonce: u64) {
        let Some(message) = self.messages.get_mut(&number) else {
            return;
        };
        message.receive_count = message.receive_count.saturating_add(1);
        message.first_received_at.get_or_insert(now);
        message.received_at = now;
        message.nonce = nonce;
        let group = message.payload.group.clone();
        if visibility == 0 {
            return self.ready_insert(number, group.as_ref());
        }
        let until = now.plus_seconds(visibility);
        message.place = Place::InFlight { until };
        self.timers.insert((until, number));
        self.in_flight += 1;
        if let (Ready::Fifo(groups), Some(group)) = (&mut self.ready, &group) {
            groups.hold(group);
        }
    }

    /// Deletes a received message. Standard queues accept old handles: a message that was received again stays.
    ///
    /// # Errors
    /// `ReceiptHandleIsInvalid` for a handle never given out; on FIFO queues `InvalidParameterValue` for an expired one.
    pub(super) fn delete(&mut self, handle: ReceiptHandle) -> Result<()> {
        let number = handle.message;
        let Some(message) = self.messages.get(&number) else {
            return if number < self.next {
                Ok(())
            } else {
                Err(never_given(handle))
            };
        };
        if message.receive_count == 0 {
            return Err(never_given(handle));
        }
        let current = message.nonce == handle.nonce;
        let in_flight = matches!(message.place, Place::InFlight { .. });
        if self.settings.fifo && !(current && in_flight) {
            return Err(Error::value(
                "ReceiptHandle",
                handle,
                "The receipt handle has expired.",
            ));
        }
        if current {
            self.remove(number);
        }
        Ok(())
    }

    /// Changes how long a message stays invisible, from now.
    ///
    /// # Errors
    /// `MessageNotInflight`, and `InvalidParameterValue` for handles that are not current and for more than 12 h in all.
    pub(super) fn change_visibility(
        &mut self,
        now: Timestamp,
        handle: ReceiptHandle,
        seconds: u32,
    ) -> Result<()> {
        let number = handle.message;
        let Some(message) = self
            .messages
            .get(&number)
            .filter(|m| m.nonce == handle.nonce && m.receive_count > 0)
        else {
            let reason = "Message does not exist or is not available for visibility timeout change.";
            return Err(Error::value("ReceiptHandle", handle, reason));
        };
        if !matches!(message.place, Place::InFlight { .. }) {
            let message = "The specified message isn't in flight.";
            return Err(Error::new(ErrorCode::MessageNotInflight, message));
        }
        let until = now.plus_seconds(seconds);
        if until > message.received_at.plus_seconds(MAX_VISIBILITY_SECONDS) {
            let reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds].";
            return Err(Error::value("VisibilityTimeout", seconds, reason));
        }
        self.retime(number, until);
        if seconds == 0 {
            self.advance(now);
        }
        Ok(())
    }

    pub(super) fn purge(&mut self, now: Timestamp) {
        self.purged_at = Some(now);
        self.messages.clear();
        self.timers.clear();
        self.ages.clear();
        self.ready = match self.ready {
            Ready::Standard(_) => Ready::Standard(BTreeSet::new()),
            Ready::Fifo(_) => Ready::Fifo(Groups::default()),
        };
        (self.in_flight, self.delayed, self.message_bytes) = (0, 0, 0);
    }

    /// Takes new settings. On FIFO queues a new delay also counts for messages already there.
    pub(super) fn configure(&mut self, now: Timestamp, settings: Settings) {
        let redelay = settings.fifo && settings.delay_seconds != self.settings.delay_seconds;
        self.settings = settings;
        self.modified_at = now;
        if redelay {
            let delayed = self
                .messages
                .iter()
                .filter(|(_, m)| matches!(m.place, Place::Delayed { .. }));
            let delayed: Vec<(u64, Timestamp)> = delayed.map(|(number, m)| (*number, m.sent_at)).collect();
            for (number, sent_at) in delayed {
                self.retime(number, sent_at.plus_seconds(self.settings.delay_seconds));
            }
        }
        self.advance(now);
    }

    fn retime(&mut self, number: u64, new: Timestamp) {
        if let Some(message) = self.messages.get_mut(&number)
            && let Place::Delayed { until } | Place::InFlight { until } = &mut message.place
        {
            self.timers.remove(&(*until, number));
            *until = new;
            self.timers.insert((new, number));
        }
    }

    /// Makes a message visible whose delay or timeout is over.
    fn surface(&mut self, number: u64) {
        let Some(message) = self.messages.get_mut(&number) else {
            return;
        };
        let place = std::mem::replace(&mut message.place, Place::Visible);
        let group = message.payload.group.clone();
        self.leave(number, place, group.as_ref());
        self.ready_insert(number, group.as_ref());
    }

    fn remove(&mut self, number: u64) -> Option<Box<Message>> {
        let message = self.messages.remove(&number)?;
        self.message_bytes -= message.footprint();
        self.ages.remove(&(message.sent_at, number));
        self.leave(number, message.place, message.payload.group.as_ref());
        Some(message)
    }

    /// Takes a message out of the index of the place it was in.
    fn leave(&mut self, number: u64, place: Place, group: Option<&Arc<str>>) {
        match place {
            Place::Visible => match (&mut self.ready, group) {
                (Ready::Standard(ready), _) => {
                    ready.remove(&number);
                }
                (Ready::Fifo(groups), Some(group)) => groups.remove(group, number),
                (Ready::Fifo(_), None) => {}
            },
            Place::Delayed { until } => {
                self.timers.remove(&(until, number));
                self.delayed -= 1;
            }
            Place::InFlight { until } => {
                self.timers.remove(&(until, number));
                self.in_flight -= 1;
                if let (Ready::Fifo(groups), Some(group)) = (&mut self.ready, group) {
                    groups.release(group);
                }
            }
        }
    }

    fn ready_insert(&mut self, number: u64, group: Option<&Arc<str>>) {
        match (&mut self.ready, group) {
            (Ready::Standard(ready), _) => {
                ready.insert(number);
            }
            (Ready::Fifo(groups), Some(group)) => groups.insert(group, number),
            // Sends to FIFO queues without a group are refused.
            (Ready::Fifo(_), None) => {}
        }
    }
}

fn never_given(handle: ReceiptHandle) -> Error {
    Error::new(
        ErrorCode::ReceiptHandleIsInvalid,
        format!("The input receipt handle \"{handle}\" is not valid."),
    )
}
