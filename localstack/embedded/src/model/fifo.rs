//! What only FIFO queues have: groups, deduplication, and receives that can be repeated.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::limits::DEDUPLICATION_SECONDS;
use super::{MessageId, SequenceNumber, Timestamp};

#[derive(Debug, Default)]
struct Group {
    visible: BTreeSet<u64>,
    in_flight: usize,
    /// The entry of this group in `Groups::heads`.
    listed: Option<u64>,
}

/// The groups of a queue. A group with a message in flight gives out no other, so order holds inside groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<Arc<str>, Group>,
    /// The first visible message of each group that may be received from.
    heads: BTreeMap<u64, Arc<str>>,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub(super) fn insert(&mut self, group: &Arc<str>, message: u64) {
        self.change(group, |group| {
            group.visible.insert(message);
        });
    }

    pub(super) fn remove(&mut self, group: &Arc<str>, message: u64) {
        self.change(group, |group| {
            group.visible.remove(&message);
        });
    }

    /// A message of the group went into flight.
    pub(super) fn hold(&mut self, group: &Arc<str>) {
        self.change(group, |group| group.in_flight += 1);
    }

    /// A message of the group is no longer in flight.
    pub(super) fn release(&mut self, group: &Arc<str>) {
        self.change(group, |group| group.in_flight = group.in_flight.saturating_sub(1));
    }

    /// Takes the next message: of the group that gave the last one while it has any, else of the group whose first message
    /// is oldest.
    pub(super) fn pick(&mut self, last: &mut Option<Arc<str>>) -> Option<u64> {
        let same = last
            .as_ref()
            .and_then(|group| self.groups.get(group))
            .and_then(|group| group.listed);
        let message = same.or_else(|| self.heads.keys().next().copied())?;
        let group = Arc::clone(self.heads.get(&message)?);
        self.remove(&group, message);
        *last = Some(group);
        Some(message)
    }

    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Group)) {
        let group = self.groups.entry(Arc::clone(name)).or_default();
        change(group);
        let head = if group.in_flight == 0 {
            group.visible.first().copied()
        } else {
            None
        };
        if head != group.listed {
            if let Some(old) = group.listed {
                self.heads.remove(&old);
            }
            if let Some(new) = head {
                self.heads.insert(new, Arc::clone(name));
            }
            group.listed = head;
        }
        if group.in_flight == 0 && group.visible.is_empty() {
            self.groups.remove(name);
        }
    }
}

type DeduplicationKey = (Option<Arc<str>>, Arc<str>);

/// Deduplication ids of the last five minutes and what was sent under them.
#[derive(Debug, Default)]
pub(super) struct Deduplication {
    sent: HashMap<DeduplicationKey, (MessageId, SequenceNumber)>,
    expiry: VecDeque<(Timestamp, DeduplicationKey)>,
}

/// Memory one remembered id is accounted for, in bytes.
const REMEMBERED_BYTES: u64 = 256;

impl Deduplication {
    pub(super) fn seen(&self, key: &DeduplicationKey) -> Option<(MessageId, SequenceNumber)> {
        self.sent.get(key).copied()
    }

    pub(super) fn remember(
        &mut self,
        now: Timestamp,
        key: DeduplicationKey,
        id: MessageId,
        number: SequenceNumber,
    ) {
        self.expiry
            .push_back((now.plus_seconds(DEDUPLICATION_SECONDS), key.clone()));
        self.sent.insert(key, (id, number));
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        while self.expiry.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.expiry.pop_front() {
                self.sent.remove(&key);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.expiry.len() as u64 * REMEMBERED_BYTES
    }
}

/// A message of a receive and the random part of its handle.
pub(super) type Receipt = (u64, u64);

/// Receives of the last five minutes that can be asked for again by their attempt id.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    receipts: HashMap<String, Vec<Receipt>>,
    expiry: VecDeque<(Timestamp, String)>,
}

impl Attempts {
    pub(super) fn get(&self, id: &str) -> Option<&[Receipt]> {
        self.receipts.get(id).map(Vec::as_slice)
    }

    pub(super) fn remember(&mut self, now: Timestamp, id: &str, receipts: Vec<Receipt>) {
        if self.receipts.insert(id.to_owned(), receipts).is_none() {
            self.expiry
                .push_back((now.plus_seconds(DEDUPLICATION_SECONDS), id.to_owned()));
        }
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        while self.expiry.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.expiry.pop_front() {
                self.receipts.remove(&id);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.expiry.len() as u64 * REMEMBERED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_in_flight_gives_nothing_and_others_do() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut groups = Groups::default();
        groups.insert(&a, 1);
        groups.insert(&b, 2);
        groups.insert(&a, 3);
        let mut last = None;
        assert_eq!(groups.pick(&mut last), Some(1));
        assert_eq!(groups.pick(&mut last), Some(3), "the same group first");
        groups.insert(&a, 3);
        groups.hold(&a);
        assert_eq!(groups.pick(&mut None), Some(2));
        assert_eq!(groups.pick(&mut None), None);
        groups.release(&a);
        assert_eq!(groups.pick(&mut None), Some(3));
        assert!(groups.groups.is_empty(), "an empty group is forgotten");
    }

    #[test]
    fn a_message_that_comes_back_is_first_again() {
        let a: Arc<str> = "a".into();
        let mut groups = Groups::default();
        groups.insert(&a, 2);
        groups.insert(&a, 1);
        assert_eq!(groups.pick(&mut None), Some(1));
    }
}
