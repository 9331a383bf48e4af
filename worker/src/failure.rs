//! The story that travels with a failed message: who failed it, why, and where it came from.
//!
//! One JSON attribute, [`ATTRIBUTE`], since SQS allows ten and the application may want the others. A copy of a
//! message is a new message to SQS, with a new id and a receive count of its own; the story keeps what would be lost.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::message::{Attribute, MAX_ATTRIBUTES, Message, size};
use crate::queue::Outgoing;
use crate::release::{Release, Track};

/// The attribute that holds the story.
pub const ATTRIBUTE: &str = "worker.failure";

/// The schema this version writes, and the only one it reads.
pub const SCHEMA: u32 = 1;

/// The most attempts a story remembers; the latest are kept.
pub const MAX_ATTEMPTS: usize = 16;

/// What happened to a message before it was copied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The release that failed it last.
    pub release: Release,
    /// That release's track.
    pub track: Track,
    /// Why, from the closed set of reasons.
    pub reason: String,
    /// What a person should know; bounded, and left out when so configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The attempts that are known, oldest first. Attempts of other processes on the same queue are not: SQS offers
    /// no place to note them, but each entry has its receive count.
    #[serde(default)]
    pub attempts: Vec<AttemptRecord>,
    /// When it was first received from the queue it came from.
    #[serde(with = "timestamp")]
    pub first_received_at: SystemTime,
    /// When it failed last.
    #[serde(with = "timestamp")]
    pub failed_at: SystemTime,
    /// The name of the queue it was received from: where it can be sent back to.
    pub source_queue: String,
    /// The id under which it was first sent.
    pub original_message_id: String,
    /// How often it was sent back from a dead-letter queue. Whoever sends it back counts; workers keep the count.
    #[serde(default)]
    pub redrives: u32,
    /// The canary's release that moved it to the handover queue, which happens once to a message at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_by: Option<Release>,
}

/// One attempt in a [`Story`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The release that made it.
    pub release: Release,
    /// That release's track.
    pub track: Track,
    /// How it ended, as in the label `outcome`.
    pub outcome: String,
    /// The message's receive count then.
    pub receive_count: u32,
    /// When it ended.
    #[serde(with = "timestamp")]
    pub at: SystemTime,
}

/// An attribute of our name that is no story of ours.
#[derive(Debug, thiserror::Error)]
#[error("attribute {ATTRIBUTE} is not a story of schema {SCHEMA}: {0}")]
pub struct BrokenStory(String);

impl Story {
    /// Reads a story.
    ///
    /// # Errors
    /// [`BrokenStory`] when `attribute` is no text, no JSON, of another schema, or has an id that SQS would not give.
    pub fn read(attribute: &Attribute) -> Result<Self, BrokenStory> {
        let text = attribute
            .as_text()
            .ok_or_else(|| BrokenStory("it is binary".to_owned()))?;
        let story: Self = serde_json::from_str(text).map_err(|error| BrokenStory(error.to_string()))?;
        if story.schema != SCHEMA {
            return Err(BrokenStory(format!("its schema is {}", story.schema)));
        }
        // The id becomes an idempotency key and a header: a forged one may not be anything at all.
        let id = &story.original_message_id;
        if id.is_empty() || id.len() > 100 || !id.chars().all(|c| c.is_ascii_graphic()) {
            return Err(BrokenStory("original_message_id is not an id".to_owned()));
        }
        Ok(story)
    }

    fn attribute(&self) -> Option<Attribute> {
        serde_json::to_string(self).ok().map(Attribute::text)
    }
}

/// Whether the story went with the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoryFate {
    /// It did.
    Attached,
    /// The message has ten attributes already, or is too large for one more.
    Omitted,
}

impl StoryFate {
    /// Every fate.
    pub const ALL: [Self; 2] = [Self::Attached, Self::Omitted];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Omitted => "omitted",
        }
    }
}

/// The queue a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The largest message it takes, in bytes.
    pub max_message_bytes: usize,
    /// Whether it is a FIFO queue.
    pub fifo: bool,
}

/// The message does not fit into the target queue, even without a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has {size} bytes, the target queue takes {max}")]
pub struct TooLarge {
    /// Bytes of body and attributes.
    pub size: usize,
    /// Bytes the target takes.
    pub max: usize,
}

/// A copy of `message` for `target`, with `story` if there is room.
///
/// Attributes, group and trace header are kept. The deduplication id on a FIFO queue is the SQS id of *this* message:
/// the sender's own id could have been seen within the last five minutes, and SQS would accept the copy and not
/// deliver it. A message that was redriven has a new SQS id, so a second failure is not mistaken for the first.
///
/// # Errors
/// [`TooLarge`] when the message does not fit without a story.
pub fn copy(message: &Message, mut story: Story, target: Target) -> Result<(Outgoing, StoryFate), TooLarge> {
    let mut attributes = message.attributes.clone();
    attributes.remove(ATTRIBUTE);
    let bare = size(&message.body, &attributes);
    if bare > target.max_message_bytes {
        return Err(TooLarge {
            size: bare,
            max: target.max_message_bytes,
        });
    }
    let room = target.max_message_bytes - bare;
    let mut fate = StoryFate::Omitted;
    if attributes.len() < MAX_ATTRIBUTES {
        if story.attempts.len() > MAX_ATTEMPTS {
            story.attempts.drain(..story.attempts.len() - MAX_ATTEMPTS);
        }
        // The error text is the first to go: the rest is what redrive and people decide by.
        let shorter = Story {
            error: None,
            attempts: Vec::new(),
            ..story.clone()
        };
        let fitting = [story, shorter]
            .iter()
            .filter_map(Story::attribute)
            .find(|attribute| attribute.size(ATTRIBUTE) <= room);
        if let Some(attribute) = fitting {
            attributes.insert(ATTRIBUTE.to_owned(), attribute);
            fate = StoryFate::Attached;
        }
    }
    let group = match (&message.group, target.fifo) {
        (Some(group), _) => Some(group.clone()),
        (None, true) => Some(message.id.as_ref().to_owned()),
        (None, false) => None,
    };
    let outgoing = Outgoing {
        body: message.body.clone(),
        attributes,
        group,
        deduplication_id: target.fifo.then(|| message.id.as_ref().to_owned()),
        trace_header: message.trace_header.clone(),
        ..Outgoing::default()
    };
    Ok((outgoing, fate))
}

/// `text` as SQS accepts it, in at most `max` bytes: characters that SQS refuses become U+FFFD, and a cut text ends
/// in an ellipsis.
#[must_use]
pub fn bounded(text: &str, max: usize) -> String {
    const ELLIPSIS: char = '…';
    let accepted = |c: char| match c {
        '\t' | '\n' | '\r' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        _ => c >= ' ',
    };
    let mut bounded = String::with_capacity(text.len().min(max));
    for c in text.chars().map(|c| {
        if accepted(c) {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        }
    }) {
        if bounded.len() + c.len_utf8() > max {
            while bounded.len() + ELLIPSIS.len_utf8() > max {
                if bounded.pop().is_none() {
                    return bounded;
                }
            }
            bounded.push(ELLIPSIS);
            return bounded;
        }
        bounded.push(c);
    }
    bounded
}

/// Times as RFC 3339 with milliseconds, which people and log queries read.
mod timestamp {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text)
            .map_err(|_| D::Error::custom(format_args!("{text:?} is not a time in RFC 3339")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::message::Attributes;

    pub(crate) fn story() -> Story {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
        Story {
            schema: SCHEMA,
            release: Release::new("1.4").unwrap(),
            track: Track::Canary,
            reason: "invalid".to_owned(),
            error: Some("total overflows".to_owned()),
            attempts: vec![AttemptRecord {
                release: Release::new("1.4").unwrap(),
                track: Track::Canary,
                outcome: "reject".to_owned(),
                receive_count: 1,
                at,
            }],
            first_received_at: at,
            failed_at: at,
            source_queue: "orders".to_owned(),
            original_message_id: "a-b-c".to_owned(),
            redrives: 2,
            handed_over_by: None,
        }
    }

    fn message(attributes: usize) -> Message {
        Message {
            id: "id-1".into(),
            receipt: "r".into(),
            body: "body".to_owned(),
            attributes: (0..attributes)
                .map(|n| (format!("a{n}"), Attribute::text("v")))
                .collect(),
            receive_count: 1,
            sent_at: None,
            first_received_at: None,
            group: None,
            deduplication_id: Some("sender's own".to_owned()),
            trace_header: Some("Root=1".to_owned()),
            dead_letter_source: None,
            story: None,
        }
    }

    const STANDARD: Target = Target {
        max_message_bytes: 262_144,
        fifo: false,
    };

    #[test]
    fn what_is_written_is_read() {
        let attribute = story().attribute().unwrap();
        assert_eq!(Story::read(&attribute).unwrap(), story());
    }

    #[test]
    fn fields_of_a_later_writer_are_ignored() {
        let mut json: serde_json::Value =
            serde_json::from_str(story().attribute().unwrap().as_text().unwrap()).unwrap();
        json["mood"] = "new".into();
        assert_eq!(Story::read(&Attribute::text(json.to_string())).unwrap(), story());
    }

    #[test]
    fn a_story_without_redrives_was_never_redriven() {
        let mut json: serde_json::Value =
            serde_json::from_str(story().attribute().unwrap().as_text().unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("redrives");
        assert_eq!(
            Story::read(&Attribute::text(json.to_string())).unwrap().redrives,
            0
        );
    }

    #[test]
    fn foreign_and_broken_stories_say_what_is_wrong() {
        let other = serde_json::to_string(&Story { schema: 2, ..story() }).unwrap();
        let forged = serde_json::to_string(&Story {
            original_message_id: "a\r\nb".into(),
            ..story()
        })
        .unwrap();
        let bytes = Attribute {
            data_type: "Binary".into(),
            value: crate::message::AttributeValue::Bytes(vec![0]),
        };
        for (attribute, wrong) in [
            (Attribute::text(other), "its schema is 2"),
            (Attribute::text(forged), "original_message_id is not an id"),
            (Attribute::text("{\"schema\":1"), "EOF"),
            (Attribute::text("[]"), "invalid"),
            (bytes, "it is binary"),
        ] {
            let error = Story::read(&attribute).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_copy_keeps_everything_and_adds_the_story() {
        let (copy, fate) = copy(&message(9), story(), STANDARD).unwrap();
        assert_eq!(fate, StoryFate::Attached);
        assert_eq!(copy.attributes.len(), 10);
        assert_eq!(Story::read(&copy.attributes[ATTRIBUTE]).unwrap(), story());
        assert_eq!(copy.trace_header.as_deref(), Some("Root=1"));
        assert_eq!(copy.deduplication_id, None);
    }

    #[test]
    fn the_tenth_attribute_costs_the_story_not_the_message() {
        let (copy, fate) = copy(&message(10), story(), STANDARD).unwrap();
        assert_eq!(fate, StoryFate::Omitted);
        assert_eq!(copy.attributes.len(), 10);
    }

    #[test]
    fn a_nearly_full_message_loses_first_the_error_then_the_story() {
        let full = Attributes::new();
        let bytes = size("body", &full);
        let whole = story().attribute().unwrap().size(ATTRIBUTE);
        for (room, expected) in [(whole, Some(true)), (whole - 1, Some(false)), (100, None)] {
            let target = Target {
                max_message_bytes: bytes + room,
                fifo: false,
            };
            let (copy, _) = copy(&message(0), story(), target).unwrap();
            let kept = copy
                .attributes
                .get(ATTRIBUTE)
                .map(|a| Story::read(a).unwrap().error.is_some());
            assert_eq!(kept, expected, "{room}");
            assert!(size(&copy.body, &copy.attributes) <= target.max_message_bytes);
        }
    }

    #[test]
    fn what_does_not_fit_at_all_is_an_error() {
        let target = Target {
            max_message_bytes: 3,
            fifo: false,
        };
        assert_eq!(
            copy(&message(0), story(), target).unwrap_err(),
            TooLarge { size: 4, max: 3 }
        );
    }

    #[test]
    fn a_fifo_copy_is_deduplicated_by_the_message_not_by_its_sender() {
        let fifo = Target {
            fifo: true,
            ..STANDARD
        };
        let (copy, _) = copy(&message(0), story(), fifo).unwrap();
        assert_eq!(copy.deduplication_id.as_deref(), Some("id-1"));
        assert_eq!(copy.group.as_deref(), Some("id-1"));
    }

    proptest! {
        #[test]
        fn bounded_text_is_what_sqs_takes(text in any::<String>(), max in 0_usize..64) {
            let bounded = bounded(&text, max);
            prop_assert!(bounded.len() <= max);
            prop_assert!(bounded.chars().all(|c| c >= ' ' || "\t\n\r".contains(c)));
        }

        #[test]
        fn reading_a_story_never_panics(text in any::<String>()) {
            let _ = Story::read(&Attribute::text(text));
        }
    }
}
