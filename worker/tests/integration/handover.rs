//! What a canary fails goes to the stable release, with nothing spent.

use std::collections::HashMap;

use aws_sdk_sqs::types::Message;
use serde_json::Value;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

/// `HANDOVER_MESSAGES=5000` for the long form. Every hundredth is poison where there is poison.
fn count() -> usize {
    std::env::var("HANDOVER_MESSAGES").map_or(1000, |count| count.parse().unwrap())
}

/// A copy whose answer comes too late is sent again, which is as it should be and not what is counted here.
const PATIENT: &str = "15s";

fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn canary(queues: &Queues, handover: &str) -> HashMap<&'static str, String> {
    let mut variables = settings(queues);
    variables.insert("WORKER__TRACK", "canary".to_owned());
    variables.insert("WORKER__RELEASE", "r-2".to_owned());
    variables.insert("WORKER__HANDOVER__URL", handover.to_owned());
    variables.insert("WORKER__SQS__TIMEOUT", PATIENT.to_owned());
    variables.insert("WORKER__ORDERS__REJECT_RATIO", "1".to_owned());
    variables
}

fn stable(queues: &Queues, handover: &str) -> HashMap<&'static str, String> {
    let mut variables = settings(queues);
    variables.insert("WORKER__HANDOVER__URL", handover.to_owned());
    variables.insert("WORKER__HANDOVER__SLOTS", "20".to_owned());
    variables.insert("WORKER__SQS__TIMEOUT", PATIENT.to_owned());
    // As fast as the canary, which fails at once: both get a share.
    variables.insert("WORKER__CONCURRENCY", "20".to_owned());
    variables
}

#[tokio::test]
async fn what_a_canary_fails_is_done_by_the_stable_release_with_no_receive_spent() {
    let Some(queues) = Queues::create(Shape {
        max_receive_count: 1,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    let handover = queues.handover().await;
    let total = count();
    let bodies: Vec<_> = (0..total).map(|number| order(number, None)).collect();
    let mut canary = Worker::start(&canary(&queues, &handover));
    let mut stable = Worker::start(&stable(&queues, &handover));
    queues.send(&bodies).await;
    queues.drained(PATIENCE * 5).await;
    queues.empty(&handover, PATIENCE * 5).await;

    let total = real(total);
    let (of_canary, of_stable) = (canary.metrics().await, stable.metrics().await);
    let failed = of_canary.sum("worker_attempts_total", &[("outcome", "reject")]);
    println!("{failed} of {total} handed over");
    assert!(failed > total / 20.0, "the canary had a share: {failed}");
    assert_eq!(of_canary.sum("worker_attempts_total", &[]), failed);
    let by = [("failed_release", "r-2")];
    assert_eq!(of_canary.sum("worker_handover_total", &by), failed);
    let done = |delivery| {
        let labels = [("outcome", "done"), ("delivery", delivery)];
        of_stable.sum("worker_attempts_total", &labels)
    };
    // `maxReceiveCount` is 1: a second receive of any message would have dead-lettered it.
    assert_eq!((done("first"), done("redelivered")), (total, 0.0));
    let result = |result| {
        let labels = [("failed_release", "r-2"), ("result", result)];
        of_stable.sum("worker_handover_results_total", &labels)
    };
    assert_eq!((result("recovered"), result("confirmed")), (failed, 0.0));
    canary.stop().await;
    stable.stop().await;
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.remove(&handover).await;
    queues.delete().await;
}

/// The releases that tried a dead letter, in order, and whether it is as a worker leaves it.
fn tried(message: &Message, main: &str) -> Vec<(String, String, u64)> {
    let attributes = message.message_attributes.as_ref().expect("it has a story");
    let story: Value =
        serde_json::from_str(attributes["worker.failure"].string_value.as_ref().unwrap()).unwrap();
    assert_eq!(
        (&story["handed_over_by"], &story["release"]),
        (&"r-2".into(), &"r-1".into())
    );
    // Redriven, it goes back to the queue it was sent to.
    assert!(main.ends_with(story["source_queue"].as_str().unwrap()));
    let text = |attempt: &Value, field: &str| attempt[field].as_str().unwrap().to_owned();
    story["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| {
            let receives = attempt["receive_count"].as_u64().unwrap();
            (text(attempt, "release"), text(attempt, "track"), receives)
        })
        .collect()
}

/// The canary meets the poison first, so that both releases are in every story; then the two work side by side.
#[tokio::test]
async fn among_a_failing_canarys_messages_only_the_poison_is_dead_lettered_with_both_releases_in_its_story() {
    let Some(queues) = Queues::create(Shape {
        max_receive_count: 1,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    let handover = queues.handover().await;
    let (total, poison) = (count(), count() / 100);
    let bodies: Vec<_> = (0..total)
        .map(|number| order(number, (number < poison).then_some("reject")))
        .collect();
    queues.send(&bodies[..poison]).await;
    let mut canary = Worker::start(&canary(&queues, &handover));
    queues.drained(PATIENCE).await;
    let mut stable = Worker::start(&stable(&queues, &handover));
    queues.send(&bodies[poison..]).await;
    queues.drained(PATIENCE * 5).await;
    queues.empty(&handover, PATIENCE * 5).await;

    let (of_canary, of_stable) = (canary.metrics().await, stable.metrics().await);
    let handed_over = of_canary.sum("worker_handover_total", &[("failed_release", "r-2")]);
    let result = |result| of_stable.sum("worker_handover_results_total", &[("result", result)]);
    let (total, poison) = (real(total), real(poison));
    println!("{handed_over} of {total} handed over, {poison} of them poison");
    assert!(
        handed_over > total / 20.0,
        "the canary had a share: {handed_over}"
    );
    assert_eq!(
        (result("recovered"), result("confirmed")),
        (handed_over - poison, poison)
    );
    // `maxReceiveCount` is 1: a second receive of any message would have dead-lettered it.
    let done = [("outcome", "done"), ("delivery", "first")];
    assert_eq!(of_stable.sum("worker_attempts_total", &done), total - poison);
    canary.stop().await;
    stable.stop().await;

    let dead = queues.take_all(&queues.dead_letter).await;
    let mut bodies_dead: Vec<_> = dead.iter().map(|message| message.body.clone().unwrap()).collect();
    let mut bodies_poison = bodies[..count() / 100].to_vec();
    bodies_dead.sort_unstable();
    bodies_poison.sort_unstable();
    assert_eq!(bodies_dead, bodies_poison);
    for message in &dead {
        let both = [("r-2", "canary", 1), ("r-1", "stable", 1)];
        let both = both.map(|(release, track, receives)| (release.to_owned(), track.to_owned(), receives));
        assert_eq!(tried(message, &queues.main), both);
    }
    queues.remove(&handover).await;
    queues.delete().await;
}
