//! What is meant goes back whole, the rest stays as it was.

use std::time::{Duration, SystemTime};

use canary::redrive::{Ending, Filter, RedriveError, Request, redrive};
use tokio_util::sync::CancellationToken;
use worker::release::Release;

use crate::world::{Extra, World, embedded, numbered, once, story_of, text};

fn of_release(name: &str) -> Filter {
    Filter {
        failed_releases: vec![Release::new(name).unwrap()],
        ..Filter::default()
    }
}

#[tokio::test]
async fn only_what_the_release_failed_goes_back_and_the_rest_is_visible_at_once() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("bad", 25)).await;
    world.bury_all("1.9", "panic", numbered("old", 25)).await;
    world.bury("foreign", None, Extra::default()).await;
    let request = Request {
        filter: of_release("2.0"),
        ..world.request()
    };
    let summary = world.redrive(&request).await;
    assert_eq!(
        (summary.found(), summary.matched(), summary.moved()),
        (51, 25, 25)
    );
    assert_eq!((&summary.ending, summary.failure()), (&Ending::Complete, None));
    assert_eq!(
        world.visible(&world.dead_letter).await,
        26,
        "handed back without waiting for a timeout"
    );
    assert_eq!(world.bodies(&world.main).await, once(numbered("bad", 25)));
    let mut rest = once(numbered("old", 25));
    rest.insert("foreign".to_owned(), 1);
    assert_eq!(world.bodies(&world.dead_letter).await, rest);
}

#[tokio::test]
async fn reason_and_time_choose_as_well() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    for (body, reason, minutes) in [("a", "panic", 5), ("b", "panic", 90), ("c", "deadline", 5)] {
        world
            .bury(body, Some(&world.story("2.0", reason, minutes)), Extra::default())
            .await;
    }
    let filter = Filter {
        reasons: vec!["panic".to_owned()],
        since: SystemTime::now().checked_sub(Duration::from_secs(3600)),
        ..of_release("2.0")
    };
    let request = Request {
        filter,
        ..world.request()
    };
    assert_eq!(world.redrive(&request).await.moved(), 1);
    assert_eq!(world.bodies(&world.main).await, once(["a".to_owned()]));
}

#[tokio::test]
async fn attributes_group_trace_and_history_go_along() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let mut story = world.story("2.0", "panic", 5);
    let extra = Extra {
        attributes: [
            ("tenant".to_owned(), text("a")),
            ("logo".to_owned(), crate::world::bytes(&[0, 255])),
        ]
        .into(),
        group: Some("tenant-a".to_owned()),
        trace_header: Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned()),
    };
    world.bury("body", Some(&story), extra.clone()).await;
    assert_eq!(world.redrive(&world.request()).await.moved(), 1);
    let copy = world.take(&world.main).await.remove(0);
    story["redrives"] = 1.into();
    assert_eq!(story_of(&copy), story);
    let attributes = copy.message_attributes.unwrap();
    assert_eq!(attributes.len(), 3);
    for (name, value) in &extra.attributes {
        assert_eq!(&attributes[name], value);
    }
    let system: std::collections::HashMap<_, _> = copy
        .attributes
        .unwrap()
        .into_iter()
        .map(|(name, value)| (name.as_str().to_owned(), value))
        .collect();
    assert_eq!(Some(&system["MessageGroupId"]), extra.group.as_ref());
    assert_eq!(Some(&system["AWSTraceHeader"]), extra.trace_header.as_ref());
    assert_eq!(system["ApproximateReceiveCount"], "1");
}

#[tokio::test]
async fn a_dry_run_shows_everything_and_moves_nothing() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("bad", 23)).await;
    world.bury_all("1.9", "deadline", numbered("old", 2)).await;
    let request = Request {
        filter: of_release("2.0"),
        dry_run: true,
        ..world.request()
    };
    let summary = world.redrive(&request).await;
    assert_eq!((summary.found(), summary.moved()), (25, 23));
    let table = summary.table();
    assert!(
        table.contains("WOULD MOVE") && table.contains("1.9") && table.contains("deadline"),
        "{table}"
    );
    assert_eq!(world.visible(&world.main).await, 0);
    assert_eq!(world.visible(&world.dead_letter).await, 25);
}

#[tokio::test]
async fn a_message_goes_only_to_a_queue_that_names_this_dead_letter_queue() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let victim = world.create("victim", None).await;
    let mut forged = world.story("2.0", "panic", 5);
    forged["source_queue"] = "victim".into();
    world.bury("forged", Some(&forged), Extra::default()).await;
    let summary = world.redrive(&world.request()).await;
    let failure = summary.failure().unwrap();
    assert!(
        failure.contains(world.name(&world.main)) && failure.contains("--to"),
        "{failure}"
    );
    assert_eq!(
        (
            world.visible(&victim).await,
            world.visible(&world.dead_letter).await
        ),
        (0, 1)
    );
    let to_victim = Request {
        to: Some(victim.clone()),
        ..world.request()
    };
    let stop = CancellationToken::new();
    let error = redrive(&world.sqs, &to_victim, &|_| {}, &stop).await.unwrap_err();
    assert!(
        matches!(&error, RedriveError::NotASource { sources, .. } if *sources == [world.main.clone()]),
        "{error}"
    );
    // A person may say where it goes, among the queues it may have come from.
    let to_main = Request {
        to: Some(world.main.clone()),
        ..world.request()
    };
    assert_eq!(world.redrive(&to_main).await.moved(), 1);
    assert_eq!(world.visible(&world.main).await, 1);
}

#[tokio::test]
async fn of_two_sources_the_story_or_sqs_itself_tells_which() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let handover = world.create("handover", Some(1)).await;
    world.bury_all("2.0", "panic", ["main".to_owned()]).await;
    let mut story = world.story("2.0", "panic", 5);
    story["source_queue"] = "handover".into();
    world.bury("over", Some(&story), Extra::default()).await;
    world.bury("whose", None, Extra::default()).await;
    // SQS moves this one at its second receive.
    world
        .client
        .send_message()
        .queue_url(&handover)
        .message_body("crashed")
        .send()
        .await
        .unwrap();
    assert_eq!(world.receive(&handover).await.len(), 1);
    server.with_clock(|clock| clock.advance(Duration::from_secs(43_201)));
    assert_eq!(world.receive(&handover).await.len(), 0);
    let summary = world.redrive(&world.request()).await;
    assert_eq!(summary.moved(), 3);
    let failure = summary.failure().unwrap();
    assert!(
        failure.starts_with("1 messages") && failure.contains("handover"),
        "{failure}"
    );
    assert_eq!(world.bodies(&world.main).await, once(["main".to_owned()]));
    assert_eq!(
        world.bodies(&handover).await,
        once(["over".to_owned(), "crashed".to_owned()])
    );
    assert_eq!(world.bodies(&world.dead_letter).await, once(["whose".to_owned()]));
}

#[tokio::test]
async fn a_queue_that_is_nobodys_dead_letter_queue_is_an_error() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let stop = CancellationToken::new();
    for (url, wrong) in [
        (&world.main, "dead-letter queue of no queue"),
        (&format!("{}x", world.main), "no_queue"),
    ] {
        let error = redrive(&world.sqs, &Request::new(url.as_str()), &|_| {}, &stop)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(wrong) && error.to_string().contains(url),
            "{error}"
        );
    }
}
