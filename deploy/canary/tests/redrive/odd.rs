//! Dead-letter queues with odd contents: nothing is lost, nothing is changed that is not understood.

use aws_sdk_sqs::types::MessageAttributeValue;
use canary::redrive::{Filter, Request};
use serde_json::json;
use worker::failure::ATTRIBUTE;

use crate::world::{Extra, World, bytes, embedded, once, story_of, text};

#[tokio::test]
async fn what_is_no_story_is_a_group_of_its_own_and_goes_back_as_it_is() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let whole = world.story("2.0", "panic", 5).to_string();
    let mut other_schema = world.story("2.0", "panic", 5);
    other_schema["schema"] = 7.into();
    let mut forged = world.story("2.0", "panic", 5);
    forged["original_message_id"] = "a\r\nb".into();
    let cases: [(&str, MessageAttributeValue); 7] = [
        ("truncated", text(&whole[..whole.len() / 2])),
        ("other schema", text(&other_schema.to_string())),
        ("forged id", text(&forged.to_string())),
        ("binary", bytes(whole.as_bytes())),
        ("no object", text("[]")),
        ("no release", text(&json!({"schema": 1}).to_string())),
        ("not even JSON", text("<story/>")),
    ];
    for (body, story) in &cases {
        let extra = Extra {
            attributes: [(ATTRIBUTE.to_owned(), story.clone())].into(),
            ..Extra::default()
        };
        world.bury(body, None, extra).await;
    }
    // They failed no release that is known, so a filter does not mean them.
    let filter = Filter {
        reasons: vec!["panic".to_owned()],
        ..Filter::default()
    };
    let request = Request {
        filter,
        ..world.request()
    };
    assert_eq!(world.redrive(&request).await.matched(), 0);
    let only = Request {
        to: Some(world.main.clone()),
        ..world.request()
    };
    let summary = world.redrive(&only).await;
    assert_eq!((summary.moved(), summary.groups.len()), (7, 1));
    assert!(summary.table().contains("(broken story)"));
    for copy in world.take(&world.main).await {
        let (_, story) = cases
            .iter()
            .find(|(body, _)| Some(*body) == copy.body.as_deref())
            .unwrap();
        assert_eq!(&copy.message_attributes.unwrap()[ATTRIBUTE], story);
    }
}

#[tokio::test]
async fn ten_attributes_are_ten_attributes_afterwards() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let attributes = |count: usize| Extra {
        attributes: (0..count)
            .map(|n| (format!("a{n}"), text(&n.to_string())))
            .collect(),
        ..Extra::default()
    };
    world.bury("foreign", None, attributes(10)).await;
    world
        .bury("told", Some(&world.story("2.0", "panic", 5)), attributes(9))
        .await;
    assert_eq!(world.redrive(&world.request()).await.moved(), 2);
    for copy in world.take(&world.main).await {
        if copy.body.as_deref() == Some("told") {
            assert_eq!(story_of(&copy)["redrives"], 1);
        }
        assert_eq!(copy.message_attributes.unwrap().len(), 10);
    }
}

#[tokio::test]
async fn a_message_without_a_story_keeps_its_idempotency_key_and_is_counted() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury("crashed", None, Extra::default()).await;
    let id = world
        .client
        .receive_message()
        .queue_url(&world.dead_letter)
        .visibility_timeout(0);
    let id = id
        .send()
        .await
        .unwrap()
        .messages
        .unwrap()
        .remove(0)
        .message_id
        .unwrap();
    let without = Request {
        filter: Filter {
            without_story: true,
            ..Filter::default()
        },
        ..world.request()
    };
    assert_eq!(world.redrive(&without).await.moved(), 1);
    let story = story_of(&world.take(&world.main).await.remove(0));
    assert_eq!(
        (&story["original_message_id"], &story["redrives"]),
        (&json!(id), &json!(1))
    );
}

#[tokio::test]
async fn a_copy_that_its_queue_does_not_take_stays_and_is_told() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let name = aws_sdk_sqs::types::QueueAttributeName::MaximumMessageSize;
    let request = world
        .client
        .set_queue_attributes()
        .queue_url(&world.main)
        .attributes(name, "1024");
    request.send().await.unwrap();
    world.bury(&"x".repeat(2000), None, Extra::default()).await;
    world.bury("small", None, Extra::default()).await;
    let summary = world.redrive(&world.request()).await;
    assert_eq!(
        (summary.moved(), summary.kept(canary::redrive::Kept::Refused)),
        (1, 1)
    );
    assert!(
        summary.problems[0].contains("takes 1024"),
        "{:?}",
        summary.problems
    );
    assert_eq!(world.bodies(&world.main).await, once(["small".to_owned()]));
    assert_eq!(world.visible(&world.dead_letter).await, 1);
}
