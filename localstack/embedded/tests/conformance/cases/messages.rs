//! Sending and receiving.

use embedded_sqs::model::action::ReceiveMessage;
use embedded_sqs::model::{ErrorCode, MAX_MESSAGE_BYTES, MessageContent};

use crate::peer::{Outcome, Peer, World, content, in_group, refused, request};

pub(crate) async fn a_message_arrives_as_it_was_sent<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let body = "{\"text\": \"tab\\t and ünïcode 🦀 \u{e000}\"}\n";
    let sent = world.send(&url, body).await?;
    assert_eq!(sent.attributes_md5, None);
    assert_eq!(sent.sequence_number, None);
    let got = world.receive_one(&url).await?;
    assert_eq!(
        (got.id, got.body.as_str(), got.body_md5),
        (sent.id, body, sent.body_md5)
    );
    world.peer.delete(&url, &got.handle).await?;
    let sent = world.send(&url, "hello").await?;
    assert_eq!(sent.body_md5, "5d41402abc4b2a76b9719d911017c592");
    Ok(())
}

pub(crate) async fn a_body_may_only_have_characters_of_xml<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    for bad in ["\0", "a\u{1}", "\u{b}", "\u{1f}z", "\u{fffe}", "\u{ffff}"] {
        refused(world.send(&url, bad).await, ErrorCode::InvalidMessageContents);
    }
    refused(world.send(&url, "").await, ErrorCode::MissingParameter);
    world
        .send(&url, "\t\n\r\u{20}\u{7f}\u{d7ff}\u{fffd}\u{10ffff}")
        .await?;
    refused(
        world.send("http://127.0.0.1:1/000000000000/nowhere", "x").await,
        ErrorCode::QueueDoesNotExist,
    );
    Ok(())
}

pub(crate) async fn a_message_may_have_one_mebibyte_and_no_more<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let most = "x".repeat(MAX_MESSAGE_BYTES as usize);
    world.send(&url, &most).await?;
    let got = world.receive_one(&url).await?;
    assert_eq!(got.body.len(), most.len());
    refused(
        world.send(&url, &(most + "x")).await,
        ErrorCode::InvalidParameterValue,
    );
    let small = world.queue(&[("MaximumMessageSize", "1024")]).await?;
    world.send(&small, &"x".repeat(1024)).await?;
    refused(
        world.send(&small, &"x".repeat(1025)).await,
        ErrorCode::InvalidParameterValue,
    );
    Ok(())
}

pub(crate) async fn delays_of_messages_and_queues_hold<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("DelaySeconds", "2")]).await?;
    world.send(&url, "the queue's delay").await?;
    world
        .peer
        .send(
            &url,
            MessageContent {
                delay_seconds: Some(0),
                ..content("none")
            },
        )
        .await?;
    assert_eq!(world.bodies(&url).await?, ["none"]);
    let depth = world
        .peer
        .attributes(&url, &["ApproximateNumberOfMessagesDelayed"])
        .await?;
    assert_eq!(depth["ApproximateNumberOfMessagesDelayed"], "1");
    world.peer.pass(2).await;
    assert_eq!(world.bodies(&url).await?, ["the queue's delay"]);
    for bad in [-1, 901] {
        let content = MessageContent {
            delay_seconds: Some(bad),
            ..content("x")
        };
        refused(
            world.peer.send(&url, content).await,
            ErrorCode::InvalidParameterValue,
        );
    }
    Ok(())
}

pub(crate) async fn a_receive_has_bounds<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    for bad in [0, 11, -1] {
        let request = ReceiveMessage {
            max_number_of_messages: Some(bad),
            ..request(&url)
        };
        refused(
            world.peer.receive(request).await,
            ErrorCode::InvalidParameterValue,
        );
    }
    for bad in [-1, 21] {
        let request = ReceiveMessage {
            wait_time_seconds: Some(bad),
            ..request(&url)
        };
        refused(
            world.peer.receive(request).await,
            ErrorCode::InvalidParameterValue,
        );
    }
    for bad in [-1, 43_201] {
        let request = ReceiveMessage {
            visibility_timeout: Some(bad),
            ..request(&url)
        };
        refused(
            world.peer.receive(request).await,
            ErrorCode::InvalidParameterValue,
        );
    }
    for n in 0..3 {
        world.send(&url, &n.to_string()).await?;
    }
    let one = ReceiveMessage {
        max_number_of_messages: None,
        ..request(&url)
    };
    assert_eq!(
        world.peer.receive(one).await?.len(),
        1,
        "one message unless more are asked for"
    );
    Ok(())
}

pub(crate) async fn a_long_poll_on_an_empty_queue_comes_back_empty<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("ReceiveMessageWaitTimeSeconds", "1")]).await?;
    assert!(world.receive(&url).await?.is_empty());
    let as_the_queue_says = ReceiveMessage {
        wait_time_seconds: None,
        ..request(&url)
    };
    assert!(world.peer.receive(as_the_queue_says).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_group_on_a_standard_queue_is_kept<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    world.peer.send(&url, in_group("fair", "tenant-1")).await?;
    world.peer.send(&url, in_group("fair too", "tenant-1")).await?;
    let messages = world.receive(&url).await?;
    assert_eq!(messages.len(), 2, "a group of a standard queue is not blocked");
    assert_eq!(messages[0].system["MessageGroupId"], "tenant-1");
    let deduplicated = MessageContent {
        deduplication_id: Some("d".into()),
        ..content("x")
    };
    refused(
        world.peer.send(&url, deduplicated).await,
        ErrorCode::InvalidParameterValue,
    );
    Ok(())
}

pub(crate) async fn messages_expire<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("MessageRetentionPeriod", "60")]).await?;
    world.send(&url, "old").await?;
    if world.peer.pass(59).await {
        world.send(&url, "new").await?;
        world.peer.pass(1).await;
        assert_eq!(world.bodies(&url).await?, ["new"]);
    }
    Ok(())
}
