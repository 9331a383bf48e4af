//! One dead letter: who failed it, as far as it says, and the copy that goes back.

use std::time::SystemTime;

use worker::failure::{self, ATTRIBUTE, SCHEMA, Story, StoryFate, Target};
use worker::message::{Message, size};
use worker::queue::{Description, Outgoing};
use worker::release::{Release, Track};

/// Stands for the release and the reason of a failure that nobody told of.
pub const UNKNOWN: &str = "unknown";

/// A message of a dead-letter queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// As received.
    pub message: Message,
    /// What it says of itself.
    pub origin: Origin,
}

/// What a dead letter says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A worker's story.
    Told(Box<Story>),
    /// Nothing: SQS moved it after too many receives (a crashed worker), or somebody else put it there.
    Untold,
    /// Something under the story's name that is none, and why.
    Broken(String),
}

/// The target queue does not take the copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmovable {
    /// The message itself is too large.
    #[error(transparent)]
    TooLarge(#[from] failure::TooLarge),
    /// It would fit only without its story, which says who failed it and how often it was sent back.
    #[error("the message would not fit with its story: the queue takes {0} bytes")]
    NoRoomForStory(usize),
}

impl Letter {
    /// Reads what the message says of itself.
    #[must_use]
    pub fn read(message: Message) -> Self {
        let origin = match message.attributes.get(ATTRIBUTE).map(Story::read) {
            None => Origin::Untold,
            Some(Ok(story)) => Origin::Told(Box::new(story)),
            Some(Err(error)) => Origin::Broken(error.to_string()),
        };
        Self { message, origin }
    }

    /// The story, if it has one.
    #[must_use]
    pub fn story(&self) -> Option<&Story> {
        match &self.origin {
            Origin::Told(story) => Some(story),
            Origin::Untold | Origin::Broken(_) => None,
        }
    }

    /// How often it was sent back before.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        self.story().map_or(0, |story| story.redrives)
    }

    /// The id under which it was first sent.
    #[must_use]
    pub fn original_id(&self) -> &str {
        self.story()
            .map_or(&self.message.id, |story| &story.original_message_id)
    }

    /// When it failed last; without a story, when it was sent.
    #[must_use]
    pub fn failed_at(&self) -> Option<SystemTime> {
        self.story().map(|story| story.failed_at).or(self.message.sent_at)
    }

    /// The copy for `target`, called `name`: body, attributes, group, trace header and the story, with one redrive more in it.
    /// On a FIFO queue its deduplication id is the dead letter's message id, which nothing else is sent under; so a second copy
    /// of one dead letter within five minutes is not delivered, and any other copy is.
    ///
    /// A message without a story gets one, if there is room: without it the copy, a new message to SQS, would be taken for a
    /// first delivery, under a new idempotency key, and could be sent back without end. A broken story is left as it is.
    ///
    /// # Errors
    /// [`Unmovable`] when `target` does not take it whole.
    pub fn copy(&self, target: &Description, now: SystemTime) -> Result<Outgoing, Unmovable> {
        let bounds = Target {
            max_message_bytes: target.max_message_bytes,
            fifo: target.fifo,
        };
        match &self.origin {
            Origin::Told(story) => {
                let story = Story {
                    redrives: story.redrives.saturating_add(1),
                    ..(**story).clone()
                };
                match failure::copy(&self.message, story, bounds)? {
                    (copy, StoryFate::Attached) => Ok(copy),
                    (_, StoryFate::Omitted) => Err(Unmovable::NoRoomForStory(target.max_message_bytes)),
                }
            }
            Origin::Untold => {
                let (copy, _) = failure::copy(&self.message, self.new_story(target.name(), now), bounds)?;
                Ok(copy)
            }
            Origin::Broken(_) => {
                let size = size(&self.message.body, &self.message.attributes);
                if size > target.max_message_bytes {
                    let max = target.max_message_bytes;
                    return Err(failure::TooLarge { size, max }.into());
                }
                let (mut copy, _) = failure::copy(&self.message, self.new_story(target.name(), now), bounds)?;
                copy.attributes = self.message.attributes.clone();
                Ok(copy)
            }
        }
    }

    fn new_story(&self, source_queue: &str, now: SystemTime) -> Story {
        Story {
            schema: SCHEMA,
            release: unknown(),
            track: Track::Stable,
            reason: UNKNOWN.to_owned(),
            error: None,
            attempts: Vec::new(),
            first_received_at: self.message.first_received_at.unwrap_or(now),
            failed_at: now,
            source_queue: source_queue.to_owned(),
            original_message_id: self.message.id.as_ref().to_owned(),
            redrives: 1,
            handed_over_by: None,
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant, and a test makes it")]
fn unknown() -> Release {
    Release::new(UNKNOWN).expect("is a release's name")
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use worker::message::{Attribute, MAX_ATTRIBUTES};

    use super::*;

    fn message() -> Message {
        Message {
            id: "dlq-1".into(),
            receipt: "r".into(),
            body: "body".to_owned(),
            attributes: [("tenant".to_owned(), Attribute::text("a"))].into(),
            receive_count: 1,
            sent_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(50)),
            first_received_at: None,
            group: Some("g".to_owned()),
            deduplication_id: Some("sender's".to_owned()),
            trace_header: Some("Root=1".to_owned()),
            dead_letter_source: None,
            story: None,
        }
    }

    pub(in crate::redrive) fn story(release: &str, reason: &str, failed_at: u64) -> Story {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(failed_at);
        Story {
            release: Release::new(release).unwrap(),
            reason: reason.to_owned(),
            failed_at: at,
            redrives: 0,
            original_message_id: "first".to_owned(),
            ..Letter::read(message()).new_story("orders", at)
        }
    }

    pub(in crate::redrive) fn told(release: &str, reason: &str, failed_at: u64) -> Letter {
        let text = serde_json::to_string(&story(release, reason, failed_at)).unwrap();
        let mut message = message();
        message
            .attributes
            .insert(ATTRIBUTE.to_owned(), Attribute::text(text));
        Letter::read(message)
    }

    pub(in crate::redrive) fn foreign(source: Option<&str>) -> Letter {
        Letter::read(Message {
            dead_letter_source: source.map(str::to_owned),
            ..message()
        })
    }

    pub(in crate::redrive) fn queue(name: &str, fifo: bool) -> Description {
        Description {
            arn: format!("arn:aws:sqs:eu-west-1:1:{name}"),
            fifo,
            visibility_timeout: Duration::from_secs(30),
            max_message_bytes: 1000,
            retention: Duration::from_secs(1),
            redrive: None,
            visible: 0,
        }
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn story_of(copy: &Outgoing) -> Story {
        Story::read(&copy.attributes[ATTRIBUTE]).unwrap()
    }

    #[test]
    fn a_copy_keeps_everything_and_counts_the_redrive() {
        let letter = told("2.0", "panic", 100);
        let copy = letter.copy(&queue("orders", false), NOW).unwrap();
        let expected = Story {
            redrives: 1,
            ..story("2.0", "panic", 100)
        };
        assert_eq!(story_of(&copy), expected);
        assert_eq!(copy.attributes["tenant"], Attribute::text("a"));
        assert_eq!(
            (copy.group.as_deref(), copy.trace_header.as_deref()),
            (Some("g"), Some("Root=1"))
        );
        assert_eq!((copy.body.as_str(), copy.deduplication_id), ("body", None));
    }

    #[test]
    fn a_fifo_copy_goes_under_the_dead_letters_own_id() {
        let copy = told("2.0", "panic", 100)
            .copy(&queue("orders.fifo", true), NOW)
            .unwrap();
        assert_eq!(copy.deduplication_id.as_deref(), Some("dlq-1"));
    }

    #[test]
    fn a_message_without_a_story_keeps_its_id_and_is_counted_from_now_on() {
        let copy = foreign(None).copy(&queue("orders", false), NOW).unwrap();
        let story = story_of(&copy);
        assert_eq!((story.original_message_id.as_str(), story.redrives), ("dlq-1", 1));
        assert_eq!(
            (story.release.as_str(), story.reason.as_str()),
            (UNKNOWN, UNKNOWN)
        );
    }

    #[test]
    fn ten_attributes_are_kept_and_a_broken_story_is_not_touched() {
        let mut full = message();
        for n in 1..MAX_ATTRIBUTES {
            full.attributes.insert(format!("a{n}"), Attribute::text("v"));
        }
        let copy = Letter::read(full.clone())
            .copy(&queue("orders", false), NOW)
            .unwrap();
        assert_eq!(copy.attributes, full.attributes);
        let mut broken = message();
        broken
            .attributes
            .insert(ATTRIBUTE.to_owned(), Attribute::text("{\"schema\":9}"));
        let letter = Letter::read(broken.clone());
        assert!(matches!(letter.origin, Origin::Broken(_)));
        let copy = letter.copy(&queue("orders", false), NOW).unwrap();
        assert_eq!(copy.attributes, broken.attributes);
    }

    #[test]
    fn what_does_not_fit_whole_stays() {
        let small = |bytes| Description {
            max_message_bytes: bytes,
            ..queue("orders", false)
        };
        let letter = told("2.0", "panic", 100);
        assert_eq!(
            letter.copy(&small(60), NOW).unwrap_err(),
            Unmovable::NoRoomForStory(60)
        );
        assert!(matches!(
            letter.copy(&small(3), NOW).unwrap_err(),
            Unmovable::TooLarge(_)
        ));
        let mut broken = message();
        broken
            .attributes
            .insert(ATTRIBUTE.to_owned(), Attribute::text("x".repeat(99)));
        assert!(matches!(
            Letter::read(broken).copy(&small(60), NOW).unwrap_err(),
            Unmovable::TooLarge(_)
        ));
        // Without a story there is nothing to lose.
        assert!(foreign(None).copy(&small(60), NOW).is_ok());
    }
}
