//! A stored message and its names.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Md5, MessageAttributes, Timestamp};

/// The id SQS gives a message when it is sent; kept when the message moves to a dead-letter queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// A version 4 UUID from these random bits.
    pub(crate) fn from_random(bits: u128) -> Self {
        const FIXED: u128 = 0xf << 76 | 0x3 << 62;
        Self(bits & !FIXED | 0x4 << 76 | 0x2 << 62)
    }

    fn text(self) -> [u8; 36] {
        let mut text = [b'-'; 36];
        let bytes = self.0.to_be_bytes();
        let mut digit = 0;
        for (at, place) in text.iter_mut().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            let byte = bytes[digit / 2];
            let nibble = if digit % 2 == 0 { byte >> 4 } else { byte & 15 };
            *place = b"0123456789abcdef"[usize::from(nibble)];
            digit += 1;
        }
        text
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// The place of a message in a FIFO queue: 20 digits, larger for later messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(pub(crate) u64);

impl std::fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SQS's numbers have 20 digits and leave gaps; so do these.
        write!(
            f,
            "{}",
            18_800_000_000_000_000_000_u128 + u128::from(self.0) * 256
        )
    }
}

impl Serialize for SequenceNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a sender gave, checked, with its digests.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    pub(super) body: Arc<str>,
    pub(super) body_md5: Md5,
    pub(super) attributes: Arc<MessageAttributes>,
    pub(super) attributes_md5: Option<Md5>,
    pub(super) trace_header: Option<Arc<str>>,
    pub(super) group: Option<Arc<str>>,
    pub(super) deduplication: Option<Arc<str>>,
    /// What the message counts towards limits, in bytes.
    pub(super) bytes: usize,
}

/// Where a message of a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Sent with a delay that is not over.
    Delayed { until: Timestamp },
    /// To be had by the next receive.
    Visible,
    /// Received and neither deleted nor visible again.
    InFlight { until: Timestamp },
}

/// A message as a queue keeps it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) payload: Payload,
    pub(super) sequence_number: Option<SequenceNumber>,
    pub(super) sent_at: Timestamp,
    pub(super) first_received_at: Option<Timestamp>,
    pub(super) receive_count: u32,
    /// The queue a redrive policy took this message from.
    pub(super) dead_letter_source: Option<Arc<str>>,
    pub(super) place: Place,
    /// When the newest receive happened, and the random part of its handle; meaningless before the first receive.
    pub(super) received_at: Timestamp,
    pub(super) nonce: u64,
}

impl Message {
    /// Memory the message is accounted for, in bytes: its text and what the indexes and allocations around it take.
    pub(super) fn footprint(&self) -> u64 {
        Self::footprint_of(&self.payload)
    }

    /// The same for a message that would carry this payload.
    pub(super) fn footprint_of(payload: &Payload) -> u64 {
        const OVERHEAD: u64 = 512;
        OVERHEAD + payload.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_4_uuid() {
        assert_eq!(
            MessageId::from_random(0).to_string(),
            "00000000-0000-4000-8000-000000000000"
        );
        assert_eq!(
            MessageId::from_random(u128::MAX).to_string(),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
    }

    #[test]
    fn a_sequence_number_has_twenty_digits_and_grows() {
        assert_eq!(SequenceNumber(0).to_string().len(), 20);
        assert_eq!(SequenceNumber(u64::from(u32::MAX)).to_string().len(), 20);
        assert!(SequenceNumber(9).to_string() < SequenceNumber(10).to_string());
    }
}
