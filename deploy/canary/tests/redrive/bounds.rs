//! How often, how fast, how many; and queues and networks at their worst.

use std::time::Duration;

use canary::redrive::{Ending, Filter, Kept, Request, redrive};
use embedded_sqs::faults::{FaultKind, FaultPlan, Rule};
use embedded_sqs::model::action::Action;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use worker::release::Release;

use crate::world::{Extra, World, embedded, numbered, once};

#[tokio::test]
async fn a_message_is_sent_back_so_often_and_not_again() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    for redrives in 0..5 {
        let mut story = world.story("2.0", "panic", 5);
        story["redrives"] = redrives.into();
        world
            .bury(&format!("m-{redrives}"), Some(&story), Extra::default())
            .await;
    }
    let summary = world.redrive(&world.request()).await;
    assert_eq!((summary.moved(), summary.kept(Kept::TooOften)), (3, 2));
    assert_eq!(world.bodies(&world.main).await, once(numbered("m", 3)));
    assert_eq!(world.visible(&world.dead_letter).await, 2);
}

#[tokio::test]
async fn a_limit_and_a_rate_are_kept() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("m", 40)).await;
    let request = Request {
        limit: Some(25),
        rate: Some(20.0),
        ..world.request()
    };
    let began = Instant::now();
    let summary = world.redrive(&request).await;
    assert_eq!((summary.moved(), &summary.ending), (25, &Ending::Limit));
    // Batches of ten, ten and five: the third waits for the first two.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(
        (
            world.visible(&world.main).await,
            world.visible(&world.dead_letter).await
        ),
        (25, 15)
    );
}

#[tokio::test]
async fn told_to_stop_it_hands_back_what_is_in_hand() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("m", 100)).await;
    let request = Request {
        rate: Some(1.0),
        ..world.request()
    };
    let stop = CancellationToken::new();
    // The first slice goes at once, the second would have to wait for ten seconds.
    let watch = |_: &canary::redrive::Summary| stop.cancel();
    let summary = redrive(&world.sqs, &request, &watch, &stop).await.unwrap();
    assert_eq!((summary.moved(), &summary.ending), (10, &Ending::Interrupted));
    assert!(summary.failure().is_some());
    assert_eq!(world.visible(&world.dead_letter).await, 90);
}

#[tokio::test]
async fn thousands_are_read_once_each() {
    const EACH: usize = 1500;
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("bad", EACH)).await;
    world.bury_all("1.9", "panic", numbered("old", EACH)).await;
    let filter = Filter {
        failed_releases: vec![Release::new("2.0").unwrap()],
        ..Filter::default()
    };
    let summary = world
        .redrive(&Request {
            filter,
            ..world.request()
        })
        .await;
    assert_eq!((summary.found(), summary.moved()), (2 * EACH as u64, EACH as u64));
    assert_eq!((summary.seen_again, &summary.ending), (0, &Ending::Complete));
    assert_eq!(world.bodies(&world.main).await, once(numbered("bad", EACH)));
    let rest = world.take(&world.dead_letter).await;
    assert_eq!(rest.len(), EACH);
    let receives = aws_sdk_sqs::types::MessageSystemAttributeName::ApproximateReceiveCount;
    assert!(
        rest.iter()
            .all(|message| message.attributes.as_ref().unwrap()[&receives] == "2"),
        "this test's and one more"
    );
}

#[tokio::test]
async fn a_message_that_fails_again_at_once_does_not_go_in_circles() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    let story = world.story("2.0", "panic", 5);
    world.bury("m", Some(&story), Extra::default()).await;
    let (sqs, client) = (world.sqs.clone(), world.client.clone());
    let (main, dead_letter) = (world.main.clone(), world.dead_letter.clone());
    // A worker that fails whatever comes, while the run is still reading.
    let failing = tokio::spawn(async move {
        loop {
            let request = client.receive_message().queue_url(&main).wait_time_seconds(1);
            let messages = request
                .message_attribute_names("All")
                .send()
                .await
                .unwrap()
                .messages;
            for message in messages.unwrap_or_default() {
                let request = client.send_message().queue_url(&dead_letter).message_body("m");
                request
                    .set_message_attributes(message.message_attributes)
                    .send()
                    .await
                    .unwrap();
                let request = client.delete_message().queue_url(&main);
                request
                    .set_receipt_handle(message.receipt_handle)
                    .send()
                    .await
                    .unwrap();
            }
        }
    });
    let stop = CancellationToken::new();
    let summary = redrive(&sqs, &world.request(), &|_| {}, &stop).await.unwrap();
    failing.abort();
    assert_eq!((summary.moved(), summary.kept(Kept::CameBack)), (1, 1));
    assert_eq!(world.visible(&world.dead_letter).await, 1);
}

#[tokio::test]
async fn what_was_sent_and_could_not_be_deleted_is_told_and_is_there_twice_at_most() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("m", 10)).await;
    let rule = Rule::on(Action::DeleteMessageBatch, FaultKind::ServerError, 1.0);
    server
        .set_faults(FaultPlan {
            seed: 1,
            rules: vec![rule],
        })
        .unwrap();
    let summary = world.redrive(&world.request()).await;
    assert_eq!((summary.moved(), summary.not_deleted.len()), (10, 10));
    assert!(summary.failure().unwrap().contains("could not be deleted"));
    server.set_faults(FaultPlan::default()).unwrap();
    server.with_clock(|clock| clock.advance(Duration::from_secs(120)));
    assert_eq!(world.redrive(&world.request()).await.moved(), 10);
    let twice = numbered("m", 10).map(|body| (body, 2)).collect();
    assert_eq!(world.bodies(&world.main).await, twice);
}

#[tokio::test]
async fn under_faults_of_every_kind_nothing_is_lost() {
    const EACH: usize = 150;
    for seed in 1..=4 {
        let server = embedded().await;
        let world = World::new(server.url(), false).await;
        world.bury_all("2.0", "panic", numbered("bad", EACH)).await;
        world.bury_all("1.9", "panic", numbered("old", EACH)).await;
        let everywhere = [
            FaultKind::ServerError,
            FaultKind::ServerErrorAfter,
            FaultKind::AnswerCut,
            FaultKind::Throttle,
        ];
        let mut rules: Vec<Rule> = everywhere.map(|fault| Rule::everywhere(fault, 0.03)).into();
        rules.push(Rule::everywhere(FaultKind::FailEntry, 0.05));
        for fault in [FaultKind::Duplicate, FaultKind::Reorder, FaultKind::Miss] {
            rules.push(Rule::on(Action::ReceiveMessage, fault, 0.05));
        }
        let filter = Filter {
            failed_releases: vec![Release::new("2.0").unwrap()],
            ..Filter::default()
        };
        let request = Request {
            filter,
            ..world.request()
        };
        server.set_faults(FaultPlan { seed, rules }).unwrap();
        let stop = CancellationToken::new();
        // A run may give up; what it did is checked all the same.
        let summary = redrive(&world.sqs, &request, &|_| {}, &stop).await;
        server.set_faults(FaultPlan::default()).unwrap();
        // Receives whose answer was lost hide their messages until the timeout.
        server.with_clock(|clock| clock.advance(Duration::from_secs(120)));
        let main = world.bodies(&world.main).await;
        let rest = world.bodies(&world.dead_letter).await;
        for body in numbered("bad", EACH) {
            let copies = main.get(&body).copied().unwrap_or(0);
            assert!(
                copies + rest.get(&body).copied().unwrap_or(0) >= 1,
                "seed {seed}: {body} is lost: {summary:?}"
            );
            assert!(
                copies <= 2,
                "seed {seed}: {body} is there {copies} times: {summary:?}"
            );
        }
        for body in numbered("old", EACH) {
            assert!(
                !main.contains_key(&body) && rest.contains_key(&body),
                "seed {seed}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_queue_that_goes_on_growing_is_read_as_far_as_it_was_there() {
    let server = embedded().await;
    let world = std::sync::Arc::new(World::new(server.url(), false).await);
    world.bury_all("2.0", "panic", numbered("m", 30)).await;
    let poison = std::sync::Arc::clone(&world);
    let growing = tokio::spawn(async move {
        let story = poison.story("1.9", "invalid", 1);
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        loop {
            beat.tick().await;
            poison.bury("poison", Some(&story), Extra::default()).await;
        }
    });
    let filter = Filter {
        failed_releases: vec![Release::new("2.0").unwrap()],
        ..Filter::default()
    };
    let request = Request {
        filter,
        ..world.request()
    };
    let summary = tokio::time::timeout(Duration::from_secs(60), world.redrive(&request)).await;
    growing.abort();
    let summary = summary.expect("it ends although letters go on arriving");
    assert_eq!((summary.moved(), &summary.ending), (30, &Ending::Complete));
}
