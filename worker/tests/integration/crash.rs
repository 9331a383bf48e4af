//! `kill -9` in the middle of work: everything comes back, nothing is lost.

use std::collections::HashSet;

use nix::sys::signal::Signal;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

#[tokio::test]
async fn three_kills_lose_nothing() {
    const COUNT: usize = 600;
    let Some(queues) = Queues::create(Shape {
        visibility: 4,
        max_receive_count: 5,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    let bodies: Vec<_> = (0..COUNT).map(|number| order(number, None)).collect();
    queues.send(&bodies).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__CONCURRENCY", "20".to_owned());
    variables.insert("WORKER__ORDERS__LATENCY", "20ms".to_owned());
    let mut done = HashSet::new();
    let mut note = |worker: &Worker| {
        let lines = worker.told("order totalled");
        done.extend(
            lines
                .iter()
                .map(|line| line["order_id"].as_str().unwrap().to_owned()),
        );
        done.len()
    };
    for _ in 0..3 {
        let mut worker = Worker::start(&variables);
        worker.tells("order totalled", 100).await;
        worker.signal(Signal::SIGKILL);
        worker.exit(PATIENCE).await;
        note(&worker);
    }
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    worker.stop().await;
    assert_eq!(note(&worker), COUNT);
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.delete().await;
}

#[tokio::test]
async fn a_message_that_crashes_its_worker_ends_in_the_dead_letter_queue_natively() {
    let Some(queues) = Queues::create(Shape {
        visibility: 3,
        max_receive_count: 2,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    queues.send(&[order(1, Some("crash"))]).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__SQS__TIMEOUT", "1s".to_owned());
    for _ in 0..2 {
        let mut worker = Worker::start(&variables);
        let status = worker.exit(PATIENCE).await;
        assert_eq!(status.code(), None, "killed by a signal: {status}");
    }
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    worker.stop().await;
    let dead = queues.take_all(&queues.dead_letter).await;
    assert_eq!(dead.len(), 1);
    // Moved by SQS: nobody was left to tell the story.
    let attributes = dead[0].message_attributes.clone().unwrap_or_default();
    assert!(!attributes.contains_key("worker.failure"));
    queues.delete().await;
}
