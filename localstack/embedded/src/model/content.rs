//! What a sender gives, and the checks it must pass before it is stored.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::limits::{MAX_DELAY_SECONDS, MAX_TOKEN};
use super::message::Payload;
use super::{Error, ErrorCode, Md5, MessageAttributes, Result};

/// A message to send: all that [`SendMessage`](super::action::SendMessage) and the entries of a batch have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageContent {
    /// The text; not empty, and only characters XML allows.
    pub body: String,
    /// Seconds until it can be received, 0–900; the queue's setting when absent.
    pub delay_seconds: Option<i32>,
    /// The sender's attributes.
    pub attributes: MessageAttributes,
    /// Only `AWSTraceHeader` is known.
    pub system_attributes: MessageAttributes,
    /// FIFO only.
    pub deduplication_id: Option<String>,
    /// Required on FIFO queues; on standard queues it makes the queue fair between groups.
    pub group_id: Option<String>,
}

/// What a queue says about the messages it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intake {
    pub(super) fifo: bool,
    pub(super) content_based_deduplication: bool,
    pub(super) max_bytes: u64,
}

impl MessageContent {
    pub(super) fn bytes(&self) -> u64 {
        (self.body.len() + self.attributes.bytes()) as u64
    }

    /// Checks the content against a queue's rules and computes its digests.
    pub(super) fn accept(self, intake: Intake) -> Result<Payload> {
        if self.body.is_empty() {
            return Err(Error::missing("MessageBody"));
        }
        if let Some(character) = first_forbidden(&self.body) {
            let message = format!(
                "Invalid binary character '#x{:X}' was found in the message body.",
                character as u32
            );
            return Err(Error::new(ErrorCode::InvalidMessageContents, message));
        }
        self.attributes.check()?;
        let bytes = self.bytes();
        if bytes > intake.max_bytes {
            let message = format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {} bytes.",
                intake.max_bytes
            );
            return Err(Error::new(ErrorCode::InvalidParameterValue, message));
        }
        self.check_delay(intake)?;
        self.check_tokens(intake)?;
        let trace_header = self.trace_header()?;
        let body_md5 = Md5::of_body(&self.body);
        let deduplication = match self.deduplication_id {
            Some(id) => Some(Arc::from(id)),
            None if intake.fifo => Some(Arc::from(content_id(&self.body))),
            None => None,
        };
        Ok(Payload {
            body_md5,
            attributes_md5: Md5::of_attributes(&self.attributes),
            attributes: Arc::new(self.attributes),
            trace_header,
            group: self.group_id.map(Arc::from),
            deduplication,
            // Checked against the size limit above.
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            body: Arc::from(self.body),
        })
    }

    fn check_delay(&self, intake: Intake) -> Result<()> {
        let Some(delay) = self.delay_seconds else {
            return Ok(());
        };
        if intake.fifo && delay != 0 {
            let reason = "The request include parameter that is not valid for this queue type.";
            return Err(Error::value("DelaySeconds", delay, reason));
        }
        match u32::try_from(delay) {
            Ok(0..=MAX_DELAY_SECONDS) => Ok(()),
            _ => Err(Error::value(
                "DelaySeconds",
                delay,
                "DelaySeconds must be >= 0 and <= 900.",
            )),
        }
    }

    fn check_tokens(&self, intake: Intake) -> Result<()> {
        check_token("MessageGroupId", self.group_id.as_deref())?;
        check_token("MessageDeduplicationId", self.deduplication_id.as_deref())?;
        if !intake.fifo {
            if let Some(id) = &self.deduplication_id {
                let reason = "The request include parameter that is not valid for this queue type.";
                return Err(Error::value("MessageDeduplicationId", id, reason));
            }
            return Ok(());
        }
        if self.group_id.is_none() {
            return Err(Error::missing("MessageGroupId"));
        }
        if self.deduplication_id.is_none() && !intake.content_based_deduplication {
            let message = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
                           provided explicitly";
            return Err(Error::new(ErrorCode::InvalidParameterValue, message));
        }
        Ok(())
    }

    fn trace_header(&self) -> Result<Option<Arc<str>>> {
        for (name, attribute) in self.system_attributes.iter() {
            let text = attribute.string_value.as_deref().unwrap_or_default();
            let sound = name == "AWSTraceHeader" && attribute.data_type == "String" && !text.is_empty();
            if !sound || first_forbidden(text).is_some() {
                let message = format!(
                    "Message system attribute '{name}' is invalid: only AWSTraceHeader is known, of type String, not empty."
                );
                return Err(Error::new(ErrorCode::InvalidParameterValue, message));
            }
        }
        let header = self.system_attributes.get("AWSTraceHeader");
        Ok(header
            .and_then(|header| header.string_value.as_deref())
            .map(Arc::from))
    }
}

/// The deduplication id SQS gives a message by its content: SHA-256 of the body in hexadecimal digits.
fn content_id(body: &str) -> String {
    use std::fmt::Write;
    let mut id = String::with_capacity(64);
    for byte in Sha256::digest(body.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// Checks a group, deduplication or attempt id: 1–128 letters, digits and ASCII punctuation.
pub(super) fn check_token(parameter: &str, token: Option<&str>) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    if (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let reason =
        format!("{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length.");
    Err(Error::value(parameter, token, &reason))
}

/// The first character SQS refuses: all but `#x9 | #xA | #xD | #x20–#xD7FF | #xE000–#xFFFD | #x10000–#x10FFFF`.
pub(super) fn first_forbidden(text: &str) -> Option<char> {
    // Forbidden are control characters and the two noncharacters U+FFFE and U+FFFF (EF BF BE, EF BF BF), so text without
    // their first bytes needs no second look.
    if !text
        .bytes()
        .any(|byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 0xef)
    {
        return None;
    }
    text.chars().find(|c| match c {
        '\t' | '\n' | '\r' => false,
        '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => true,
        _ => false,
    })
}

/// Whether SQS takes the text as a number: up to 38 digits, between −10¹²⁸ and 10¹²⁶.
pub(super) fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()),
        None => (text, Some(0)),
    };
    let digits = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = whole
        .bytes()
        .chain(fraction.bytes())
        .all(|byte| byte.is_ascii_digit());
    let significant = whole.trim_start_matches('0').len() + fraction.len();
    all_digits
        && whole.len() + fraction.len() > 0
        && significant <= 38
        && exponent.is_some_and(|exponent| (-128..=126).contains(&exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageAttribute;

    const STANDARD: Intake = Intake {
        fifo: false,
        content_based_deduplication: false,
        max_bytes: 1024,
    };

    fn body(text: &str) -> MessageContent {
        MessageContent {
            body: text.into(),
            ..MessageContent::default()
        }
    }

    #[test]
    fn only_characters_of_xml_pass() {
        for good in [
            "\t\n\r ~",
            "ä\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10ffff}",
            "\u{7f}",
        ] {
            assert_eq!(first_forbidden(good), None, "{good:?}");
        }
        for bad in ["\0", "\u{1}", "a\u{b}", "\u{1f}", "x\u{fffe}", "\u{ffff}"] {
            assert!(first_forbidden(bad).is_some(), "{bad:?}");
            assert_eq!(
                body(bad).accept(STANDARD).unwrap_err().code,
                ErrorCode::InvalidMessageContents
            );
        }
    }

    #[test]
    fn numbers_have_at_most_38_digits() {
        for good in ["0", "-1", "+1.5", ".5", "1e126", "0001", &"9".repeat(38)] {
            assert!(is_number(good), "{good}");
        }
        for bad in ["", "-", ".", "1e", "1e127", "0x1", "1 ", "NaN", &"9".repeat(39)] {
            assert!(!is_number(bad), "{bad}");
        }
    }

    #[test]
    fn the_size_counts_body_and_attributes() {
        let mut content = body(&"x".repeat(1024 - 12));
        content.attributes.insert("n", MessageAttribute::string("12345"));
        assert_eq!(content.bytes(), 1024);
        assert!(content.clone().accept(STANDARD).is_ok());
        content.body.push('x');
        assert_eq!(
            content.accept(STANDARD).unwrap_err().code,
            ErrorCode::InvalidParameterValue
        );
    }
}
