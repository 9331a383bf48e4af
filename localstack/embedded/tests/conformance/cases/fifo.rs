//! FIFO queues.

use embedded_sqs::model::action::ReceiveMessage;
use embedded_sqs::model::{ErrorCode, MessageContent};

use crate::peer::{Outcome, Peer, World, content, in_group, refused, request};

const FIFO: (&str, &str) = ("FifoQueue", "true");
const BY_CONTENT: (&str, &str) = ("ContentBasedDeduplication", "true");

fn named(body: &str, group: &str, id: &str) -> MessageContent {
    MessageContent {
        deduplication_id: Some(id.to_owned()),
        ..in_group(body, group)
    }
}

fn take(url: &str, most: i32) -> ReceiveMessage {
    ReceiveMessage {
        max_number_of_messages: Some(most),
        ..request(url)
    }
}

pub(crate) async fn order_holds_and_a_group_in_flight_is_blocked<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO, BY_CONTENT]).await?;
    for (body, group) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
        world.send_to_group(&url, body, group).await?;
    }
    let a1 = world.peer.receive(take(&url, 1)).await?.remove(0);
    assert_eq!(a1.body, "a1");
    assert_eq!(world.bodies(&url).await?, ["b1"], "the rest of group a waits");
    assert!(world.glance(&url).await?.is_empty());
    world.peer.delete(&url, &a1.handle).await?;
    assert_eq!(
        world.bodies(&url).await?,
        ["a2", "a3"],
        "several of a group come together, in order"
    );
    Ok(())
}

pub(crate) async fn a_group_waits_for_a_message_that_comes_back<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO, BY_CONTENT]).await?;
    for body in ["1", "2", "3"] {
        world.send_to_group(&url, body, "g").await?;
    }
    let both = world.peer.receive(take(&url, 2)).await?;
    assert_eq!(
        both.iter().map(|m| m.body.as_str()).collect::<Vec<_>>(),
        ["1", "2"]
    );
    world.peer.change_visibility(&url, &both[0].handle, 0).await?;
    assert!(world.glance(&url).await?.is_empty(), "2 is still in flight");
    world.peer.change_visibility(&url, &both[1].handle, 0).await?;
    assert_eq!(world.bodies(&url).await?, ["1", "2", "3"]);
    Ok(())
}

pub(crate) async fn a_duplicate_is_accepted_and_not_delivered<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO]).await?;
    let first = world.peer.send(&url, named("x", "g", "id")).await?;
    let again = world
        .peer
        .send(&url, named("another body", "another-group", "id"))
        .await?;
    assert_eq!(
        (first.id, first.sequence_number),
        (again.id, again.sequence_number)
    );
    let got = world.receive_one(&url).await?;
    assert_eq!(got.body, "x");
    world.peer.delete(&url, &got.handle).await?;
    world.peer.send(&url, named("x", "g", "id")).await?;
    assert!(
        world.receive(&url).await?.is_empty(),
        "the id counts after the message was deleted"
    );
    Ok(())
}

pub(crate) async fn a_duplicate_after_five_minutes_is_new<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO]).await?;
    world.peer.send(&url, named("x", "g", "id")).await?;
    if world.peer.pass(299).await {
        world.peer.send(&url, named("x", "g", "id")).await?;
        world.peer.pass(1).await;
        world.peer.send(&url, named("x", "g", "id")).await?;
        assert_eq!(world.receive(&url).await?.len(), 2);
    }
    Ok(())
}

pub(crate) async fn content_can_be_the_deduplication_id<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO, BY_CONTENT]).await?;
    for body in ["same", "same", "other"] {
        world.send_to_group(&url, body, "g").await?;
    }
    let messages = world.receive(&url).await?;
    assert_eq!(
        messages.iter().map(|m| m.body.as_str()).collect::<Vec<_>>(),
        ["same", "other"]
    );
    // SHA-256 of the body.
    let id = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
    assert_eq!(messages[0].system["MessageDeduplicationId"], id);
    Ok(())
}

pub(crate) async fn deduplication_can_be_by_group<P: Peer>(world: &World<P>) -> Outcome<()> {
    let by_group = ("DeduplicationScope", "messageGroup");
    let url = world
        .queue(&[FIFO, by_group, ("FifoThroughputLimit", "perMessageGroupId")])
        .await?;
    for group in ["a", "b", "a"] {
        world.peer.send(&url, named("x", group, "id")).await?;
    }
    assert_eq!(world.receive(&url).await?.len(), 2);
    Ok(())
}

pub(crate) async fn a_group_and_a_deduplication_id_are_required<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO]).await?;
    let ungrouped = MessageContent {
        deduplication_id: Some("id".into()),
        ..content("x")
    };
    refused(
        world.peer.send(&url, ungrouped).await,
        ErrorCode::MissingParameter,
    );
    refused(
        world.send_to_group(&url, "x", "g").await,
        ErrorCode::InvalidParameterValue,
    );
    let delayed = MessageContent {
        delay_seconds: Some(5),
        ..named("x", "g", "id")
    };
    refused(
        world.peer.send(&url, delayed).await,
        ErrorCode::InvalidParameterValue,
    );
    for bad in ["", "a b", &"x".repeat(129)] {
        refused(
            world.peer.send(&url, named("x", bad, "id")).await,
            ErrorCode::InvalidParameterValue,
        );
        refused(
            world.peer.send(&url, named("x", "g", bad)).await,
            ErrorCode::InvalidParameterValue,
        );
    }
    Ok(())
}

pub(crate) async fn fifo_messages_carry_their_attributes<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO]).await?;
    let first = world
        .peer
        .send(&url, named("x", "g", "one"))
        .await?
        .sequence_number;
    let second = world
        .peer
        .send(&url, named("y", "g", "two"))
        .await?
        .sequence_number;
    assert!(first.is_some() && first < second, "{first:?} {second:?}");
    let got = world.receive(&url).await?;
    assert_eq!(Some(&got[0].system["SequenceNumber"]), first.as_ref());
    assert_eq!(got[1].system["MessageGroupId"], "g");
    assert_eq!(got[1].system["MessageDeduplicationId"], "two");
    Ok(())
}

pub(crate) async fn an_expired_handle_is_refused<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world
        .queue(&[FIFO, BY_CONTENT, ("VisibilityTimeout", "1")])
        .await?;
    world.send_to_group(&url, "x", "g").await?;
    let got = world.receive_one(&url).await?;
    world.peer.pass(2).await;
    refused(
        world.peer.delete(&url, &got.handle).await,
        ErrorCode::InvalidParameterValue,
    );
    world.receive_one(&url).await?;
    Ok(())
}

pub(crate) async fn a_receive_can_be_repeated_by_its_attempt_id<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[FIFO, BY_CONTENT]).await?;
    world.send_to_group(&url, "1", "g").await?;
    world.send_to_group(&url, "2", "h").await?;
    let attempt = || ReceiveMessage {
        receive_request_attempt_id: Some("attempt".into()),
        ..take(&url, 1)
    };
    let first = world.peer.receive(attempt()).await?;
    let again = world.peer.receive(attempt()).await?;
    assert_eq!(first[0].id, again[0].id, "the same messages");
    assert_eq!(world.bodies(&url).await?, ["2"], "and none besides");
    Ok(())
}

pub(crate) async fn a_fifo_dead_letter_queue_keeps_group_and_id<P: Peer>(world: &World<P>) -> Outcome<()> {
    let dead = world.queue(&[FIFO]).await?;
    let arn = world.arn(&dead).await?;
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":1}}"#);
    let url = world.queue(&[FIFO, ("RedrivePolicy", &policy)]).await?;
    let sent = world.peer.send(&url, named("poison", "g", "id")).await?;
    world.peer.send(&url, named("good", "g", "next")).await?;
    let got = world.peer.receive(take(&url, 1)).await?.remove(0);
    world.peer.change_visibility(&url, &got.handle, 0).await?;
    assert_eq!(world.bodies(&url).await?, ["good"], "the group goes on");
    let got = world.receive_one(&dead).await?;
    assert_eq!((got.id, got.system["MessageGroupId"].as_str()), (sent.id, "g"));
    assert_eq!(got.system["MessageDeduplicationId"], "id");
    Ok(())
}
