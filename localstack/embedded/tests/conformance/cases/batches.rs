//! Batches.

use embedded_sqs::model::{ErrorCode, MAX_MESSAGE_BYTES, MessageContent};

use crate::peer::{Outcome, Peer, World, content, refused};

fn entries(bodies: &[(&str, &str)]) -> Vec<(String, MessageContent)> {
    bodies
        .iter()
        .map(|(id, body)| ((*id).to_owned(), content(body)))
        .collect()
}

pub(crate) async fn each_entry_succeeds_or_fails_alone<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let batch = world
        .peer
        .send_batch(&url, entries(&[("a", "one"), ("b", "nul\0"), ("c", "three")]))
        .await?;
    assert_eq!(batch.done, ["a", "c"]);
    assert_eq!(
        batch.failed,
        [(
            "b".to_owned(),
            ErrorCode::InvalidMessageContents.query_code().to_owned()
        )]
    );
    assert_eq!(world.receive(&url).await?.len(), 2);
    let batch = world.peer.delete_batch(&url, &[("x", "garbage")]).await?;
    assert_eq!(
        batch.failed,
        [(
            "x".to_owned(),
            ErrorCode::ReceiptHandleIsInvalid.query_code().to_owned()
        )]
    );
    Ok(())
}

pub(crate) async fn malformed_batches_fail_as_a_whole<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let eleven: Vec<_> = (0..11).map(|n| (n.to_string(), content("x"))).collect();
    for (batch, code) in [
        (Vec::new(), ErrorCode::EmptyBatchRequest),
        (eleven, ErrorCode::TooManyEntriesInBatchRequest),
        (
            entries(&[("a", "x"), ("a", "y")]),
            ErrorCode::BatchEntryIdsNotDistinct,
        ),
        (entries(&[("a b", "x")]), ErrorCode::InvalidBatchEntryId),
        (entries(&[(&"x".repeat(81), "x")]), ErrorCode::InvalidBatchEntryId),
    ] {
        refused(world.peer.send_batch(&url, batch).await, code);
    }
    refused(
        world.peer.delete_batch(&url, &[]).await,
        ErrorCode::EmptyBatchRequest,
    );
    let twice = world
        .peer
        .change_visibility_batch(&url, &[("a", "h", 1), ("a", "h", 1)])
        .await;
    refused(twice, ErrorCode::BatchEntryIdsNotDistinct);
    assert!(world.receive(&url).await?.is_empty(), "nothing was sent");
    Ok(())
}

pub(crate) async fn a_batch_may_have_one_mebibyte_in_all<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let half = "x".repeat(MAX_MESSAGE_BYTES as usize / 2);
    let batch = world
        .peer
        .send_batch(&url, entries(&[("a", &half), ("b", &half)]))
        .await?;
    assert_eq!(batch.done, ["a", "b"]);
    let over = entries(&[("a", &half), ("b", &half), ("c", "x")]);
    refused(
        world.peer.send_batch(&url, over).await,
        ErrorCode::BatchRequestTooLong,
    );
    Ok(())
}

pub(crate) async fn deleting_and_extending_work_in_batches<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("VisibilityTimeout", "2")]).await?;
    world
        .peer
        .send_batch(&url, entries(&[("0", "a"), ("1", "b"), ("2", "c")]))
        .await?;
    let mut messages = world.receive(&url).await?;
    assert_eq!(messages.len(), 3);
    messages.sort_by(|a, b| a.body.cmp(&b.body));
    let handle = |n: usize| messages[n].handle.as_str();
    let batch = world
        .peer
        .delete_batch(&url, &[("0", handle(0)), ("1", handle(1))])
        .await?;
    assert_eq!((batch.done.len(), batch.failed.len()), (2, 0));
    let batch = world
        .peer
        .change_visibility_batch(&url, &[("2", handle(2), 0), ("g", "garbage", 0)])
        .await?;
    assert_eq!(batch.done, ["2"]);
    assert_eq!(
        batch.failed,
        [(
            "g".to_owned(),
            ErrorCode::ReceiptHandleIsInvalid.query_code().to_owned()
        )]
    );
    assert_eq!(world.bodies(&url).await?, ["c"]);
    Ok(())
}
