//! Messages in flight and their handles.

use embedded_sqs::model::ErrorCode;
use embedded_sqs::model::action::ReceiveMessage;

use crate::peer::{Outcome, Peer, World, refused, request};

pub(crate) async fn a_received_message_hides_until_its_timeout<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("VisibilityTimeout", "2")]).await?;
    world.send(&url, "x").await?;
    world.receive_one(&url).await?;
    assert!(world.glance(&url).await?.is_empty());
    let depth = world
        .peer
        .attributes(&url, &["ApproximateNumberOfMessagesNotVisible"])
        .await?;
    assert_eq!(depth["ApproximateNumberOfMessagesNotVisible"], "1");
    world.peer.pass(2).await;
    world.receive_one(&url).await?;
    Ok(())
}

pub(crate) async fn a_timeout_can_be_ended_and_extended<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("VisibilityTimeout", "2")]).await?;
    world.send(&url, "x").await?;
    let first = world.receive_one(&url).await?;
    world.peer.change_visibility(&url, &first.handle, 0).await?;
    let second = world.receive_one(&url).await?;
    assert_eq!(
        second.system["ApproximateReceiveCount"], "2",
        "giving back costs a receive"
    );
    world.peer.change_visibility(&url, &second.handle, 6).await?;
    world.peer.pass(3).await;
    assert!(world.glance(&url).await?.is_empty(), "extended");
    world.peer.pass(3).await;
    world.receive_one(&url).await?;
    Ok(())
}

pub(crate) async fn twelve_hours_are_the_most_in_all<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    world.send(&url, "x").await?;
    let got = world.receive_one(&url).await?;
    let over = world.peer.change_visibility(&url, &got.handle, 43_201).await;
    refused(over, ErrorCode::InvalidParameterValue);
    world.peer.pass(3).await;
    let in_all = world.peer.change_visibility(&url, &got.handle, 43_199).await;
    refused(in_all, ErrorCode::InvalidParameterValue);
    world.peer.change_visibility(&url, &got.handle, 43_190).await
}

pub(crate) async fn a_message_that_is_not_in_flight_cannot_be_extended<P: Peer>(
    world: &World<P>,
) -> Outcome<()> {
    let url = world.queue(&[("VisibilityTimeout", "1")]).await?;
    world.send(&url, "x").await?;
    let got = world.receive_one(&url).await?;
    world.peer.pass(2).await;
    refused(
        world.peer.change_visibility(&url, &got.handle, 5).await,
        ErrorCode::MessageNotInflight,
    );
    Ok(())
}

pub(crate) async fn every_receive_has_its_own_handle<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    world.send(&url, "x").await?;
    let at_once = ReceiveMessage {
        visibility_timeout: Some(0),
        ..request(&url)
    };
    let first = world.peer.receive(at_once).await?.remove(0);
    let second = world.receive_one(&url).await?;
    assert_eq!(first.id, second.id);
    assert_ne!(first.handle, second.handle);
    Ok(())
}

pub(crate) async fn an_old_handle_does_not_delete_a_message_received_again<P: Peer>(
    world: &World<P>,
) -> Outcome<()> {
    let url = world.queue(&[("VisibilityTimeout", "1")]).await?;
    world.send(&url, "x").await?;
    let first = world.receive_one(&url).await?;
    world.peer.pass(1).await;
    let second = world.receive_one(&url).await?;
    world.peer.delete(&url, &first.handle).await?;
    world.peer.pass(1).await;
    let third = world.receive_one(&url).await?;
    assert_eq!(third.id, second.id, "the message is still there");
    world.peer.pass(1).await;
    world.peer.delete(&url, &third.handle).await?;
    assert!(
        world.receive(&url).await?.is_empty(),
        "the newest handle deletes, even after its timeout"
    );
    Ok(())
}

pub(crate) async fn deleting_twice_succeeds<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("VisibilityTimeout", "1")]).await?;
    world.send(&url, "x").await?;
    let got = world.receive_one(&url).await?;
    world.peer.delete(&url, &got.handle).await?;
    world.peer.delete(&url, &got.handle).await?;
    world.peer.pass(1).await;
    assert!(world.receive(&url).await?.is_empty());
    Ok(())
}

pub(crate) async fn garbage_is_no_handle<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    refused(
        world.peer.delete(&url, "garbage").await,
        ErrorCode::ReceiptHandleIsInvalid,
    );
    refused(
        world.peer.change_visibility(&url, "garbage", 1).await,
        ErrorCode::ReceiptHandleIsInvalid,
    );
    let other = world.queue(&[]).await?;
    world.send(&other, "x").await?;
    let foreign = world.receive_one(&other).await?.handle;
    refused(
        world.peer.delete(&url, &foreign).await,
        ErrorCode::ReceiptHandleIsInvalid,
    );
    Ok(())
}
