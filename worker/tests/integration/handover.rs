//! What a canary fails goes to the stable release, with nothing spent.

use std::collections::HashMap;

use serde_json::Value;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

/// `HANDOVER_MESSAGES=5000` for the long form.
fn count() -> usize {
    std::env::var("HANDOVER_MESSAGES").map_or(1000, |count| count.parse().unwrap())
}

fn canary(queues: &Queues, handover: &str) -> HashMap<&'static str, String> {
    let mut variables = settings(queues);
    variables.insert("WORKER__TRACK", "canary".to_owned());
    variables.insert("WORKER__RELEASE", "r-2".to_owned());
    variables.insert("WORKER__HANDOVER__URL", handover.to_owned());
    variables.insert("WORKER__ORDERS__REJECT_RATIO", "1".to_owned());
    variables
}

fn stable(queues: &Queues, handover: &str) -> HashMap<&'static str, String> {
    let mut variables = settings(queues);
    variables.insert("WORKER__HANDOVER__URL", handover.to_owned());
    variables.insert("WORKER__HANDOVER__SLOTS", "20".to_owned());
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

    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let total = total as f64;
    let (of_canary, of_stable) = (canary.metrics().await, stable.metrics().await);
    let failed = of_canary.sum("worker_attempts_total", &[("outcome", "reject")]);
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

#[tokio::test]
async fn poison_is_confirmed_and_its_story_names_both_releases() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let handover = queues.handover().await;
    let poison = |number: usize| number.is_multiple_of(10).then_some("reject");
    let bodies: Vec<_> = (0..500).map(|number| order(number, poison(number))).collect();
    queues.send(&bodies).await;
    // The canary has all of them first, so that it is in every story.
    let mut canary = Worker::start(&canary(&queues, &handover));
    queues.drained(PATIENCE).await;
    canary.stop().await;
    let mut stable = Worker::start(&stable(&queues, &handover));
    queues.empty(&handover, PATIENCE).await;
    let metrics = stable.metrics().await;
    let result = |result| metrics.sum("worker_handover_results_total", &[("result", result)]);
    assert_eq!((result("recovered"), result("confirmed")), (450.0, 50.0));
    stable.stop().await;

    let dead = queues.take_all(&queues.dead_letter).await;
    assert_eq!(dead.len(), 50);
    for message in dead {
        let attributes = message.message_attributes.as_ref().unwrap();
        let story: Value =
            serde_json::from_str(attributes["worker.failure"].string_value.as_ref().unwrap()).unwrap();
        let attempts: Vec<_> = story["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| {
                (
                    attempt["release"].as_str().unwrap(),
                    attempt["track"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(attempts, [("r-2", "canary"), ("r-1", "stable")]);
        assert_eq!(
            (&story["handed_over_by"], &story["release"]),
            (&"r-2".into(), &"r-1".into())
        );
        // Redriven, it goes back to the queue it was sent to.
        assert!(queues.main.ends_with(story["source_queue"].as_str().unwrap()));
    }
    queues.remove(&handover).await;
    queues.delete().await;
}
