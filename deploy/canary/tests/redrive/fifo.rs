//! FIFO queues: order inside a group, and a deduplication that must not swallow anything.

use std::time::Duration;

use canary::redrive::{Filter, Request};
use embedded_sqs::faults::{FaultKind, FaultPlan, Rule};
use embedded_sqs::model::action::Action;
use worker::release::Release;

use crate::world::{Extra, World, embedded, numbered, once};

async fn bury(world: &World, group: &str, release: &str, body: &str) {
    let extra = Extra {
        group: Some(group.to_owned()),
        ..Extra::default()
    };
    world
        .bury(body, Some(&world.story(release, "panic", 5)), extra)
        .await;
}

fn of_release(world: &World, name: &str) -> Request {
    let filter = Filter {
        failed_releases: vec![Release::new(name).unwrap()],
        ..Filter::default()
    };
    Request {
        filter,
        ..world.request()
    }
}

#[tokio::test]
async fn groups_keep_their_order_and_what_is_behind_kept_messages_is_reached() {
    let server = embedded().await;
    let world = World::new(server.url(), true).await;
    for number in 0..30 {
        bury(&world, "g1", "2.0", &format!("a-{number}")).await;
        // Every second one stays, so that a receive of ten always finds some of each.
        bury(
            &world,
            "g2",
            if number % 5 == 0 { "1.9" } else { "2.0" },
            &format!("b-{number}"),
        )
        .await;
    }
    let summary = world.redrive(&of_release(&world, "2.0")).await;
    assert_eq!((summary.found(), summary.moved(), summary.unread), (60, 54, 0));
    let bodies: Vec<String> = world
        .take(&world.main)
        .await
        .into_iter()
        .map(|message| message.body.unwrap())
        .collect();
    let of = |name: &str| {
        bodies
            .iter()
            .filter(|body| body.starts_with(name))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("a"), numbered("a", 30).collect::<Vec<_>>());
    let moved: Vec<String> = (0..30)
        .filter(|number| number % 5 != 0)
        .map(|number| format!("b-{number}"))
        .collect();
    assert_eq!(of("b"), moved);
    let rest = (0..30).step_by(5).map(|number| format!("b-{number}"));
    assert_eq!(world.bodies(&world.dead_letter).await, once(rest));
}

#[tokio::test]
async fn what_a_group_hides_is_told() {
    let server = embedded().await;
    let world = World::new(server.url(), true).await;
    for number in 0..12 {
        bury(
            &world,
            "g",
            if number < 10 { "1.9" } else { "2.0" },
            &format!("m-{number}"),
        )
        .await;
    }
    let summary = world.redrive(&of_release(&world, "2.0")).await;
    assert_eq!((summary.found(), summary.moved(), summary.unread), (10, 0, 2));
    assert!(
        summary.table().contains("2 more were not read"),
        "{}",
        summary.table()
    );
    assert_eq!(world.bodies(&world.dead_letter).await.len(), 12);
}

#[tokio::test]
async fn sent_twice_within_five_minutes_it_is_there_once() {
    let server = embedded().await;
    let world = World::new(server.url(), true).await;
    for number in 0..10 {
        bury(&world, "g", "2.0", &format!("m-{number}")).await;
    }
    let rule = Rule::on(Action::DeleteMessageBatch, FaultKind::ServerError, 1.0);
    server
        .set_faults(FaultPlan {
            seed: 1,
            rules: vec![rule],
        })
        .unwrap();
    assert_eq!(world.redrive(&world.request()).await.not_deleted.len(), 10);
    server.set_faults(FaultPlan::default()).unwrap();
    server.with_clock(|clock| clock.advance(Duration::from_secs(120)));
    let summary = world.redrive(&world.request()).await;
    assert_eq!((summary.moved(), summary.failure()), (10, None));
    assert_eq!(world.bodies(&world.main).await, once(numbered("m", 10)));
    assert_eq!(world.visible(&world.dead_letter).await, 0);
}

/// The trap: the sender's own deduplication id was seen within five minutes, and SQS would accept the copy and drop it.
#[tokio::test]
async fn a_message_redriven_within_five_minutes_of_its_first_sending_is_delivered() {
    let server = embedded().await;
    let world = World::new(server.url(), true).await;
    let request = world
        .client
        .send_message()
        .queue_url(&world.main)
        .message_body("m");
    request
        .message_group_id("g")
        .message_deduplication_id("buried-m")
        .send()
        .await
        .unwrap();
    let receive = || {
        world
            .client
            .receive_message()
            .queue_url(&world.main)
            .visibility_timeout(1)
    };
    assert_eq!(receive().send().await.unwrap().messages.unwrap().len(), 1);
    server.with_clock(|clock| clock.advance(Duration::from_secs(2)));
    // The second receive is one too many: SQS moves the message, which keeps its deduplication id.
    assert!(receive().send().await.unwrap().messages.is_none());
    assert_eq!(world.visible(&world.dead_letter).await, 1);
    assert_eq!(world.redrive(&world.request()).await.moved(), 1);
    assert_eq!(world.bodies(&world.main).await, once(["m".to_owned()]));
}
