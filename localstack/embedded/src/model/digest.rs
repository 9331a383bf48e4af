//! MD5 digests as SQS computes them over bodies and attributes.

use md5::{Digest, Md5 as Hasher};
use serde::{Serialize, Serializer};

use super::attribute::{MessageAttributes, Value};

/// An MD5 digest; shown and serialised as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Md5([u8; 16]);

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Md5 {
    pub(crate) fn of_body(body: &str) -> Self {
        Self(Hasher::digest(body.as_bytes()).into())
    }

    /// The digest over attributes sorted by name; none without attributes.
    ///
    /// Each name, type and value is preceded by its length as four bytes, big-endian; before a value stands one byte that
    /// tells text (1) from bytes (2). Source: developer guide, "Calculating the MD5 message digest for message attributes".
    pub(crate) fn of_attributes(attributes: &MessageAttributes) -> Option<Self> {
        if attributes.is_empty() {
            return None;
        }
        let mut hasher = Hasher::new();
        let mut field = |bytes: &[u8], kind: Option<u8>| {
            if let Some(kind) = kind {
                hasher.update([kind]);
            }
            // The sizes were checked to be far below 4 GiB before a message is accepted.
            hasher.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            hasher.update(bytes);
        };
        for (name, attribute) in attributes.iter() {
            field(name.as_bytes(), None);
            field(attribute.data_type.as_bytes(), None);
            match attribute.value() {
                Value::Text(text) => field(text.as_bytes(), Some(1)),
                Value::Bytes(bytes) => field(bytes, Some(2)),
            }
        }
        Some(Self(hasher.finalize().into()))
    }

    fn hex(self) -> [u8; 32] {
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        hex
    }
}

impl std::fmt::Display for Md5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl std::fmt::Debug for Md5 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Md5 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageAttribute;

    #[test]
    fn a_body_has_the_digest_of_its_bytes() {
        assert_eq!(Md5::of_body("").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(
            Md5::of_body("hello").to_string(),
            "5d41402abc4b2a76b9719d911017c592"
        );
    }

    #[test]
    fn attributes_are_framed_by_length_and_kind() {
        let mut attributes = MessageAttributes::default();
        assert_eq!(Md5::of_attributes(&attributes), None);
        attributes.insert("n", MessageAttribute::number("1"));
        let mut framed = Vec::new();
        framed.extend_from_slice(b"\0\0\0\x01n\0\0\0\x06Number\x01\0\0\0\x011");
        assert_eq!(
            Md5::of_attributes(&attributes),
            Some(Md5(Hasher::digest(&framed).into()))
        );
        attributes.insert("b", MessageAttribute::binary(vec![0, 255]));
        // Sorted by name, so `b` comes first.
        let mut both = b"\0\0\0\x01b\0\0\0\x06Binary\x02\0\0\0\x02\0\xff".to_vec();
        both.extend_from_slice(&framed);
        assert_eq!(
            Md5::of_attributes(&attributes),
            Some(Md5(Hasher::digest(&both).into()))
        );
    }
}
