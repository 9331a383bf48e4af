//! Queues: names, settings, listings, purging and deleting.

use embedded_sqs::model::ErrorCode;

use crate::peer::{Outcome, Peer, World, refused};

pub(crate) async fn a_queue_is_found_by_name_and_listed_by_prefix<P: Peer>(world: &World<P>) -> Outcome<()> {
    let name = world.name("");
    let url = world.queue_named(&name, &[]).await?;
    assert!(url.ends_with(&format!("/{name}")), "{url}");
    assert_eq!(world.peer.queue_url(&name).await?, url);
    assert_eq!(world.peer.list_queues(&name, None, None).await?.urls, [url]);
    assert!(
        world
            .peer
            .list_queues(&world.name(""), None, None)
            .await?
            .urls
            .is_empty()
    );
    refused(
        world.peer.queue_url(&world.name("")).await,
        ErrorCode::QueueDoesNotExist,
    );
    Ok(())
}

pub(crate) async fn creating_again_gives_the_same_queue_unless_settings_differ<P: Peer>(
    world: &World<P>,
) -> Outcome<()> {
    let name = world.name("");
    let url = world.queue_named(&name, &[("VisibilityTimeout", "40")]).await?;
    assert_eq!(world.peer.create_queue(&name, &[]).await?, url);
    assert_eq!(
        world
            .peer
            .create_queue(&name, &[("VisibilityTimeout", "40")])
            .await?,
        url
    );
    refused(
        world
            .peer
            .create_queue(&name, &[("VisibilityTimeout", "41")])
            .await,
        ErrorCode::QueueNameExists,
    );
    Ok(())
}

pub(crate) async fn names_and_attributes_are_checked<P: Peer>(world: &World<P>) -> Outcome<()> {
    for bad in ["with space", "dot.ted", &"x".repeat(81), "only-the-suffix.fifo"] {
        refused(
            world.peer.create_queue(bad, &[]).await,
            ErrorCode::InvalidParameterValue,
        );
    }
    let fifo = world
        .peer
        .create_queue(&world.name(""), &[("FifoQueue", "true")])
        .await;
    refused(fifo, ErrorCode::InvalidParameterValue);
    let url = world.queue(&[]).await?;
    refused(
        world.peer.set_attributes(&url, &[("NoSuch", "1")]).await,
        ErrorCode::InvalidAttributeName,
    );
    refused(
        world.peer.attributes(&url, &["NoSuch"]).await,
        ErrorCode::InvalidAttributeName,
    );
    for (name, value) in [
        ("VisibilityTimeout", "43201"),
        ("DelaySeconds", "901"),
        ("MessageRetentionPeriod", "59"),
    ] {
        refused(
            world.peer.set_attributes(&url, &[(name, value)]).await,
            ErrorCode::InvalidAttributeValue,
        );
    }
    for (name, value) in [
        ("MaximumMessageSize", "1023"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
    ] {
        refused(
            world.peer.set_attributes(&url, &[(name, value)]).await,
            ErrorCode::InvalidAttributeValue,
        );
    }
    Ok(())
}

pub(crate) async fn attributes_read_as_they_were_set<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[("DelaySeconds", "7")]).await?;
    let all = world.peer.attributes(&url, &["All"]).await?;
    for (name, value) in [
        ("DelaySeconds", "7"),
        ("VisibilityTimeout", "30"),
        ("MessageRetentionPeriod", "345600"),
        ("MaximumMessageSize", "1048576"),
        ("ReceiveMessageWaitTimeSeconds", "0"),
        ("ApproximateNumberOfMessages", "0"),
    ] {
        assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
    }
    let name = url.rsplit('/').next().unwrap_or_default();
    assert!(
        all["QueueArn"].ends_with(&format!(":{name}")),
        "{}",
        all["QueueArn"]
    );
    world
        .peer
        .set_attributes(&url, &[("VisibilityTimeout", "12")])
        .await?;
    let some = world
        .peer
        .attributes(&url, &["VisibilityTimeout", "DelaySeconds"])
        .await?;
    let some: Vec<_> = some
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(some, [("DelaySeconds", "7"), ("VisibilityTimeout", "12")]);
    Ok(())
}

pub(crate) async fn a_deleted_queue_is_gone_and_its_name_stays_taken_for_a_minute<P: Peer>(
    world: &World<P>,
) -> Outcome<()> {
    let name = world.name("");
    let url = world.queue_named(&name, &[]).await?;
    world.peer.delete_queue(&url).await?;
    refused(world.send(&url, "late").await, ErrorCode::QueueDoesNotExist);
    refused(
        world.peer.create_queue(&name, &[]).await,
        ErrorCode::QueueDeletedRecently,
    );
    if world.peer.pass(60).await {
        world.queue_named(&name, &[]).await?;
    }
    Ok(())
}

pub(crate) async fn a_purge_empties_the_queue_and_the_next_must_wait<P: Peer>(
    world: &World<P>,
) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    world.send(&url, "a").await?;
    world.send(&url, "b").await?;
    world.peer.purge(&url).await?;
    assert!(world.receive(&url).await?.is_empty());
    refused(world.peer.purge(&url).await, ErrorCode::PurgeQueueInProgress);
    if world.peer.pass(60).await {
        world.peer.purge(&url).await?;
    }
    Ok(())
}

pub(crate) async fn listings_come_in_pages<P: Peer>(world: &World<P>) -> Outcome<()> {
    let prefix = world.name("-");
    let mut urls = Vec::new();
    for n in 0..3 {
        urls.push(world.queue_named(&format!("{prefix}{n}"), &[]).await?);
    }
    let first = world.peer.list_queues(&prefix, Some(2), None).await?;
    assert_eq!(first.urls.len(), 2);
    assert!(first.next.is_some());
    let second = world.peer.list_queues(&prefix, Some(2), first.next).await?;
    assert_eq!((second.urls.len(), second.next), (1, None));
    let mut seen = [first.urls, second.urls].concat();
    seen.sort();
    assert_eq!(seen, urls);
    refused(
        world.peer.list_queues(&prefix, Some(1001), None).await,
        ErrorCode::InvalidParameterValue,
    );
    Ok(())
}
