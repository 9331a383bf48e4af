//! Receipt handles: what a receive gives out, and deleting or extending takes.

use serde::{Serialize, Serializer};

use super::{Error, ErrorCode, QueueKey, Result};

/// A handle for one receive of one message; another receive of the same message has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptHandle {
    pub(super) queue: QueueKey,
    pub(super) message: u64,
    pub(super) nonce: u64,
}

const PREFIX: &[u8] = b"AQEB";
const LENGTH: usize = 4 + 8 + 16 + 16;

impl ReceiptHandle {
    fn text(self) -> [u8; LENGTH] {
        let mut text = [0; LENGTH];
        text[..4].copy_from_slice(PREFIX);
        write_hex(&mut text[4..12], u64::from(self.queue.0));
        write_hex(&mut text[12..28], self.message);
        write_hex(&mut text[28..], self.nonce);
        text
    }

    /// Reads a handle given out by queue `queue`.
    ///
    /// # Errors
    /// `ReceiptHandleIsInvalid` for any other text.
    pub(super) fn parse(text: &str, queue: QueueKey) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorCode::ReceiptHandleIsInvalid,
                format!("The input receipt handle \"{text}\" is not valid."),
            )
        };
        let bytes = text.as_bytes();
        if bytes.len() != LENGTH || !bytes.starts_with(PREFIX) {
            return Err(invalid());
        }
        let part = |from: usize, to: usize| read_hex(&bytes[from..to]).ok_or_else(invalid);
        if part(4, 12)? != u64::from(queue.0) {
            return Err(invalid());
        }
        Ok(Self {
            queue,
            message: part(12, 28)?,
            nonce: part(28, LENGTH)?,
        })
    }
}

fn write_hex(places: &mut [u8], mut value: u64) {
    for place in places.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

impl std::fmt::Display for ReceiptHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl Serialize for ReceiptHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_back_for_its_own_queue_only() {
        let handle = ReceiptHandle {
            queue: QueueKey(7),
            message: 42,
            nonce: u64::MAX,
        };
        let text = handle.to_string();
        assert_eq!(ReceiptHandle::parse(&text, QueueKey(7)), Ok(handle));
        assert!(ReceiptHandle::parse(&text, QueueKey(8)).is_err());
        for bad in [
            "",
            "AQEB",
            &text[1..],
            &text.to_uppercase(),
            "ä".repeat(22).as_str(),
        ] {
            assert!(ReceiptHandle::parse(bad, QueueKey(7)).is_err(), "{bad}");
        }
    }
}
