//! SIGTERM in the middle of work.

use std::collections::HashSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

#[tokio::test]
async fn sigterm_finishes_or_hands_back_and_leaves_nothing_hidden() {
    const COUNT: usize = 300;
    let Some(queues) = Queues::create(Shape {
        visibility: 300,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    // One in ten hangs for longer than the shutdown may take.
    let fault = |number| (number % 10 == 0).then_some("hang");
    let bodies: Vec<_> = (0..COUNT).map(|number| order(number, fault(number))).collect();
    queues.send(&bodies).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__CONCURRENCY", "20".to_owned());
    variables.insert("WORKER__ORDERS__LATENCY", "100ms".to_owned());
    variables.insert("WORKER__HANDLER__DEADLINE", "5m".to_owned());
    variables.insert("WORKER__SHUTDOWN__TIMEOUT", "5s".to_owned());
    let mut worker = Worker::start(&variables);
    worker.tells("order totalled", 60).await;

    let asked = Instant::now();
    worker.signal(Signal::SIGTERM);
    let status = worker.exit(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", worker.text());
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "over its budget: {:?}",
        asked.elapsed()
    );

    let ended = Instant::now();
    let done: HashSet<_> = worker
        .told("order totalled")
        .iter()
        .map(|line| line["order_id"].as_str().unwrap().to_owned())
        .collect();
    let left = COUNT - done.len();
    assert!(left > 0, "nothing was left to hand back");
    // All of what is left can be received within 2 s, though the visibility timeout is 5 min.
    let mut received = HashSet::new();
    while received.len() < left && ended.elapsed() < Duration::from_secs(20) {
        for message in queues.receive(&queues.main, 1).await {
            let order: serde_json::Value = serde_json::from_str(&message.body.unwrap()).unwrap();
            received.insert(order["order_id"].as_str().unwrap().to_owned());
        }
    }
    let took = ended.elapsed();
    assert!(
        received.is_disjoint(&done),
        "a deletion was not flushed: {:?}",
        received.intersection(&done)
    );
    assert_eq!(received.len(), left);
    // 2 s until visible, and what receiving thirty batches takes.
    assert!(took < Duration::from_secs(5), "visible again only after {took:?}");
    queues.delete().await;
}

#[tokio::test]
async fn a_message_on_its_last_receive_is_not_dead_lettered_by_a_deployment() {
    let Some(queues) = Queues::create(Shape {
        max_receive_count: 1,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    queues.send(&[order(1, Some("hang"))]).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__SHUTDOWN__TIMEOUT", "3s".to_owned());
    let mut worker = Worker::start(&variables);
    queues.depth_in_flight(1).await;
    worker.stop().await;

    let again = queues.take_all(&queues.main).await;
    assert_eq!(again.len(), 1);
    let story = again[0].message_attributes.as_ref().unwrap()["worker.failure"]
        .string_value
        .clone()
        .unwrap();
    assert!(story.contains(r#""reason":"shutdown""#), "{story}");
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.delete().await;
}

#[tokio::test]
async fn an_idle_worker_says_at_once_that_it_waits_for_its_last_receive() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let mut variables = settings(&queues);
    variables.insert("WORKER__QUEUE__WAIT", "20s".to_owned());
    let mut worker = Worker::start(&variables);
    let polls = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while worker.metrics().await.sum("worker_pollers", &[]) < 1.0 {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, polls).await.unwrap();
    let asked = Instant::now();
    worker.signal(Signal::SIGTERM);
    worker
        .tells("draining: the last receive is waited for, never aborted", 1)
        .await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let line = &worker.told("draining: the last receive is waited for, never aborted")[0];
    assert_eq!(
        (&line["receives"], &line["in_hand"], &line["wait_ms"]),
        (&1.into(), &0.into(), &20_000.into())
    );
    worker.signal(Signal::SIGTERM);
    worker.exit(Duration::from_secs(5)).await;
    queues.delete().await;
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    queues.send(&[order(1, Some("hang"))]).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__SHUTDOWN__TIMEOUT", "100s".to_owned());
    variables.insert("WORKER__HANDLER__DEADLINE", "5m".to_owned());
    let mut worker = Worker::start(&variables);
    worker.tells("worker starts", 1).await;
    queues.depth_in_flight(1).await;
    worker.signal(Signal::SIGTERM);
    worker.tells("shutting down", 1).await;
    worker.signal(Signal::SIGINT);
    let status = worker.exit(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(1));
    assert_eq!(worker.told("worker stopped")[0]["left"], 1);
    queues.delete().await;
}
