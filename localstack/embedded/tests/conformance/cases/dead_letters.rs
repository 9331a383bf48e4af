//! Redrive policies.

use embedded_sqs::model::{ErrorCode, MessageAttribute, MessageAttributes, MessageContent};

use crate::peer::{Outcome, Peer, World, content, refused};

fn policy(arn: &str, count: u32) -> String {
    format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"{count}"}}"#)
}

pub(crate) async fn a_message_received_too_often_moves_with_its_id<P: Peer>(world: &World<P>) -> Outcome<()> {
    let dead = world.queue(&[]).await?;
    let policy = policy(&world.arn(&dead).await?, 2);
    let url = world.queue(&[("RedrivePolicy", &policy)]).await?;
    let attributes = MessageAttributes::from_iter([("kept", MessageAttribute::string("yes"))]);
    let sent = world
        .peer
        .send(
            &url,
            MessageContent {
                attributes,
                ..content("poison")
            },
        )
        .await?;
    let mut sent_at = String::new();
    for _ in 0..2 {
        let got = world.receive_one(&url).await?;
        sent_at.clone_from(&got.system["SentTimestamp"]);
        world.peer.change_visibility(&url, &got.handle, 0).await?;
    }
    assert!(world.glance(&dead).await?.is_empty(), "two receives are allowed");
    assert!(world.receive(&url).await?.is_empty(), "the third moves it");
    let got = world.receive_one(&dead).await?;
    assert_eq!((&got.id, got.body.as_str()), (&sent.id, "poison"));
    assert_eq!(got.system["DeadLetterQueueSourceArn"], world.arn(&url).await?);
    assert_eq!(
        got.system["SentTimestamp"], sent_at,
        "the time of the first send is kept"
    );
    assert!(got.attributes.get("kept").is_some());
    Ok(())
}

pub(crate) async fn a_redrive_policy_must_name_a_queue_of_the_same_type<P: Peer>(
    world: &World<P>,
) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let fifo = world.queue(&[("FifoQueue", "true")]).await?;
    let arn = world.arn(&url).await?;
    let set = async |policy: String| {
        world
            .peer
            .set_attributes(&url, &[("RedrivePolicy", &policy)])
            .await
    };
    refused(
        set(policy(&format!("{arn}-absent"), 1)).await,
        ErrorCode::InvalidParameterValue,
    );
    refused(
        set(policy(&world.arn(&fifo).await?, 1)).await,
        ErrorCode::InvalidParameterValue,
    );
    refused(set("{}".into()).await, ErrorCode::InvalidAttributeValue);
    refused(set(policy(&arn, 0)).await, ErrorCode::InvalidAttributeValue);
    refused(set(policy(&arn, 1001)).await, ErrorCode::InvalidAttributeValue);
    Ok(())
}

pub(crate) async fn the_sources_of_a_dead_letter_queue_are_listed<P: Peer>(world: &World<P>) -> Outcome<()> {
    let dead = world.queue(&[]).await?;
    assert!(world.peer.dead_letter_sources(&dead).await?.urls.is_empty());
    let url = world
        .queue(&[("RedrivePolicy", &policy(&world.arn(&dead).await?, 1))])
        .await?;
    assert_eq!(
        world.peer.dead_letter_sources(&dead).await?.urls,
        std::slice::from_ref(&url)
    );
    world.peer.set_attributes(&url, &[("RedrivePolicy", "")]).await?;
    assert!(
        world.peer.dead_letter_sources(&dead).await?.urls.is_empty(),
        "an empty policy takes it away"
    );
    Ok(())
}

pub(crate) async fn a_dead_letter_queue_can_refuse_sources<P: Peer>(world: &World<P>) -> Outcome<()> {
    let dead = world
        .queue(&[("RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#)])
        .await?;
    let policy = policy(&world.arn(&dead).await?, 1);
    let url = world.queue(&[]).await?;
    let set = world
        .peer
        .set_attributes(&url, &[("RedrivePolicy", &policy)])
        .await;
    refused(set, ErrorCode::InvalidParameterValue);
    let only = format!(
        r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{}"]}}"#,
        world.arn(&url).await?
    );
    world
        .peer
        .set_attributes(&dead, &[("RedriveAllowPolicy", &only)])
        .await?;
    world
        .peer
        .set_attributes(&url, &[("RedrivePolicy", &policy)])
        .await
}
