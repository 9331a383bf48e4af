//! What comes from outside is never trusted: whatever a body, an attribute or a story holds, nothing panics, nothing is
//! lost, and what the worker writes is what SQS takes.
//!
//! Inputs are drawn by proptest (failures are kept in `proptest-regressions/`) and read from `corpus/`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::Index;
use tokio::time::Instant;

use crate::failure::{self, ATTRIBUTE, MAX_ATTEMPTS, SCHEMA, Story, StoryFate, Target};
use crate::handler::{Context, Handler, Json, Outcome, Reason};
use crate::handlers::orders::Orders;
use crate::message::{Attribute, AttributeValue, Attributes, MAX_ATTRIBUTES, Message, size};
use crate::release::{Identity, Release, Track};

/// The files of a folder of the corpus, each with its name.
fn corpus(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn identity() -> Identity {
    Identity {
        release: Release::new("1.4").unwrap(),
        track: Track::Canary,
    }
}

fn message(body: String, attributes: Attributes) -> Message {
    Message {
        id: "0f0e0d0c-0b0a-4908-8706-050403020100".into(),
        receipt: "r".into(),
        body,
        attributes,
        receive_count: 1,
        sent_at: None,
        first_received_at: None,
        group: None,
        deduplication_id: None,
        trace_header: None,
        dead_letter_source: None,
        story: None,
    }
}

fn handled(body: String) -> Outcome {
    let context = Context {
        identity: Arc::new(identity()),
        original_message_id: "id".into(),
        attempt: 1,
        deadline: Instant::now() + Duration::from_secs(30),
        course: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let handler = Json(Orders::default());
    runtime
        .unwrap()
        .block_on(handler.handle(&message(body, Attributes::new()), &context))
}

/// A story of our own, as far as `text` goes into one.
fn story(text: &str) -> Story {
    Story {
        schema: SCHEMA,
        release: identity().release,
        track: Track::Canary,
        reason: "invalid".to_owned(),
        error: Some(failure::bounded(text, 1024)),
        attempts: Vec::new(),
        first_received_at: SystemTime::UNIX_EPOCH,
        failed_at: SystemTime::UNIX_EPOCH,
        source_queue: "orders".to_owned(),
        original_message_id: "id".to_owned(),
        redrives: 0,
        handed_over_by: None,
    }
}

/// Cuts and insertions at any place.
fn mutated(text: &str, edits: &[(Index, usize, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, cut, insert) in edits {
        let at = at.index(chars.len() + 1);
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, insert.chars());
    }
    chars.into_iter().collect()
}

fn edits() -> impl Strategy<Value = Vec<(Index, usize, String)>> {
    let inserted = "[\\PC\\x00-\\x1f\"{}\\[\\]:,\\\\0-9-]{0,6}|\\\\ud[89a-f]00|\\[{200}";
    proptest::collection::vec((any::<Index>(), 0..5_usize, inserted), 0..5)
}

/// What a story that was read may do to the copy that is made with it.
fn check_story(name: &str, text: &str) {
    let attribute = Attribute::text(text);
    let Ok(story) = Story::read(&attribute) else {
        return;
    };
    let target = Target {
        max_message_bytes: 1 << 20,
        fifo: false,
    };
    let (copy, fate) =
        failure::copy(&message("b".to_owned(), Attributes::new()), story.clone(), target).unwrap();
    assert_eq!(fate, StoryFate::Attached, "{name}");
    let again = Story::read(&copy.attributes[ATTRIBUTE]).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(again.attempts.len() <= MAX_ATTEMPTS, "{name}");
    assert_eq!(again.original_message_id, story.original_message_id, "{name}");
    assert_eq!(again.release, story.release, "{name}");
}

/// The only ways in which an order can end by itself.
fn check_order(name: &str, body: &str) {
    match handled(body.to_owned()) {
        Outcome::Done => {}
        Outcome::Reject { reason, error } => {
            assert!(!error.is_empty(), "{name}");
            assert!(
                error.len() < 1000,
                "{name} repeats its input in the error: {} bytes",
                error.len()
            );
            let known = [Reason::UNDECODABLE.as_str(), "invalid_order", "fault"];
            assert!(known.contains(&reason.as_str()), "{name}: {reason:?}");
        }
        // Faults that a message asks for.
        Outcome::Retry { .. } | Outcome::Unavailable { .. } => assert!(body.contains("fault"), "{name}"),
    }
}

#[test]
fn the_corpus_of_stories_is_read_or_refused() {
    let files = corpus("stories");
    for (name, text) in &files {
        check_story(name, text);
    }
    let read: Vec<_> = files
        .iter()
        .filter(|(_, text)| Story::read(&Attribute::text(text)).is_ok())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        read,
        [
            "later-writer.json",
            "many-attempts.json",
            "surrogate-pair.json",
            "time-far.json",
            "time-leap-second.json",
            "whole.json"
        ]
    );
}

#[test]
fn the_corpus_of_orders_is_done_or_rejected() {
    let files = corpus("orders");
    for (name, body) in &files {
        check_order(name, body);
    }
    let done = files
        .iter()
        .filter(|(_, body)| handled(body.clone()) == Outcome::Done);
    let done: Vec<_> = done.map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        done,
        ["deep-unknown-field.json", "nul-escaped.json", "whole.json"]
    );
}

const VALID_ORDER: &str = r#"{"order_id":"o-1","customer":"c","currency":"EUR","items":[{"sku":"s","quantity":2,"unit_price_cents":1999}]}"#;

fn attribute() -> impl Strategy<Value = (String, Attribute)> {
    let value = prop_oneof![
        any::<String>().prop_map(AttributeValue::Text),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(AttributeValue::Bytes),
    ];
    let name =
        prop_oneof![9 => "[a-zA-Z0-9_.-]{1,30}", 1 => Just(ATTRIBUTE.to_owned()), 1 => any::<String>()];
    (name, "\\PC{0,20}", value).prop_map(|(name, data_type, value)| (name, Attribute { data_type, value }))
}

proptest! {
    #[test]
    fn any_story_is_read_or_refused(edits in edits(), text in proptest::option::of(any::<String>())) {
        let (_, whole) = corpus("stories").pop().unwrap();
        check_story("drawn", &text.unwrap_or_else(|| mutated(&whole, &edits)));
    }

    #[test]
    fn any_order_is_done_or_rejected(edits in edits(), text in proptest::option::of(any::<String>())) {
        // A fault that is asked for may hang or kill; that is what it is for.
        let body = text.unwrap_or_else(|| mutated(VALID_ORDER, &edits)).replace("fault", "f");
        check_order("drawn", &body);
    }

    #[test]
    fn any_message_is_copied_whole_or_not_at_all(
        body in any::<String>(),
        attributes in proptest::collection::vec(attribute(), 0..=MAX_ATTRIBUTES),
        error in any::<String>(),
        max_message_bytes in prop_oneof![0_usize..2_000, Just(1 << 20)],
        fifo in any::<bool>(),
    ) {
        let attributes: Attributes = attributes.into_iter().collect();
        let mut kept = attributes.clone();
        kept.remove(ATTRIBUTE);
        let bare = size(&body, &kept);
        let target = Target { max_message_bytes, fifo };
        match failure::copy(&message(body.clone(), attributes), story(&error), target) {
            Err(error) => prop_assert!(bare > max_message_bytes && error.size == bare),
            Ok((copy, fate)) => {
                prop_assert_eq!(&copy.body, &body);
                prop_assert!(size(&copy.body, &copy.attributes) <= max_message_bytes);
                prop_assert!(copy.attributes.len() <= MAX_ATTRIBUTES);
                let mut others = copy.attributes.clone();
                let told = others.remove(ATTRIBUTE);
                prop_assert_eq!(others, kept);
                prop_assert_eq!(told.is_some(), fate == StoryFate::Attached);
                if let Some(told) = told {
                    let accepted = |c: char| c >= ' ' || "\t\n\r".contains(c);
                    prop_assert!(told.as_text().unwrap().chars().all(accepted));
                    prop_assert!(Story::read(&told).is_ok());
                }
                prop_assert_eq!(copy.group.is_some() && copy.deduplication_id.is_some(), fifo);
            }
        }
    }
}
