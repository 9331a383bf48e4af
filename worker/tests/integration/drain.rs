//! Every message is done or in the dead-letter queue, exactly as it should be, and the metrics equal the facts.

use std::collections::HashMap;

use serde_json::Value;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

/// 5 % rejected, 5 % retried once, 1 % panicking, 1 % hanging.
fn fault(number: usize) -> Option<&'static str> {
    match number % 100 {
        0..5 => Some("reject"),
        5..10 => Some("retry"),
        10 => Some("panic"),
        11 => Some("hang"),
        _ => None,
    }
}

#[tokio::test]
async fn two_thousand_messages_end_where_they_belong() {
    const COUNT: usize = 2000;
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let bodies: Vec<_> = (0..COUNT).map(|number| order(number, fault(number))).collect();
    queues.send(&bodies).await;

    let mut variables = settings(&queues);
    variables.insert("WORKER__HANDLER__DEADLINE", "500ms".to_owned());
    variables.insert("WORKER__RETRY__BASE", "1ms".to_owned());
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;

    let metrics = worker.metrics().await;
    let attempts = |outcome, delivery| {
        metrics.sum(
            "worker_attempts_total",
            &[("outcome", outcome), ("delivery", delivery)],
        )
    };
    let facts = [
        ("done", "first", 1760.0),
        ("done", "redelivered", 100.0),
        ("retry", "first", 100.0),
        ("retry", "redelivered", 0.0),
        ("reject", "first", 100.0),
        ("panic", "first", 20.0),
        ("panic", "redelivered", 40.0),
        ("timeout", "first", 20.0),
        ("timeout", "redelivered", 40.0),
        ("unavailable", "first", 0.0),
        ("lost", "first", 0.0),
    ];
    for (outcome, delivery, count) in facts {
        assert_eq!(attempts(outcome, delivery), count, "{outcome}, {delivery}");
    }
    let dead = |reason| {
        let labels = [("reason", reason), ("story", "attached")];
        metrics.sum("worker_dead_letters_total", &labels)
    };
    assert_eq!(
        [dead("fault"), dead("panic"), dead("deadline")],
        [100.0, 20.0, 20.0]
    );
    assert_eq!(metrics.sum("worker_dead_letters_total", &[]), 140.0);
    let labels = [("release", "r-1"), ("track", "stable")];
    assert_eq!(
        metrics.sum("worker_attempts_total", &labels),
        metrics.sum("worker_attempts_total", &[])
    );
    let done = [("outcome", "done")];
    assert_eq!(
        metrics.sum("worker_attempt_duration_seconds_count", &done),
        1860.0
    );
    assert_eq!(metrics.sum("worker_queue_wait_seconds_count", &[]), 2000.0);
    assert_eq!(metrics.sum("worker_in_flight", &[]), 0.0);
    worker.stop().await;

    check_dead_letters(&queues, &bodies).await;
    queues.delete().await;
}

async fn check_dead_letters(queues: &Queues, bodies: &[String]) {
    let dead = queues.take_all(&queues.dead_letter).await;
    let by_body: HashMap<_, _> = dead
        .iter()
        .map(|message| (message.body.clone().unwrap(), message))
        .collect();
    assert_eq!((dead.len(), by_body.len()), (140, 140));
    for (number, body) in bodies.iter().enumerate() {
        let (reason, outcome, receives) = match fault(number) {
            Some("reject") => ("fault", "reject", 1),
            Some("panic") => ("panic", "panic", 3),
            Some("hang") => ("deadline", "timeout", 3),
            _ => {
                assert!(!by_body.contains_key(body), "{body}");
                continue;
            }
        };
        let message = by_body[body];
        let attributes = message.message_attributes.as_ref().unwrap();
        assert_eq!(
            attributes["tenant"].string_value,
            Some(format!("t{}", number % 7))
        );
        let story: Value =
            serde_json::from_str(attributes["worker.failure"].string_value.as_ref().unwrap()).unwrap();
        assert_eq!(story["schema"], 1);
        assert_eq!(story["release"], "r-1");
        assert_eq!(story["track"], "stable");
        assert_eq!(story["reason"], reason, "{story}");
        assert_eq!(story["attempts"][0]["outcome"], outcome);
        assert_eq!(story["attempts"][0]["receive_count"], receives);
        assert!(queues.main.ends_with(story["source_queue"].as_str().unwrap()));
        assert_ne!(
            story["original_message_id"],
            *message.message_id.as_ref().unwrap()
        );
        assert!(!story["error"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_dependency_that_is_down_spends_no_receives() {
    let Some(queues) = Queues::create(Shape {
        max_receive_count: 1,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    let bodies: Vec<_> = (0..20).map(|number| order(number, Some("unavailable"))).collect();
    queues.send(&bodies).await;
    let mut worker = Worker::start(&settings(&queues));
    queues.drained(PATIENCE).await;
    let metrics = worker.metrics().await;
    let attempts = |outcome| metrics.sum("worker_attempts_total", &[("outcome", outcome)]);
    assert_eq!((attempts("unavailable"), attempts("done")), (20.0, 20.0));
    assert_eq!(metrics.sum("worker_messages_received_total", &[]), 20.0);
    worker.stop().await;
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.delete().await;
}

#[tokio::test]
async fn a_slow_message_is_kept_by_its_lease() {
    let Some(queues) = Queues::create(Shape {
        visibility: 4,
        max_receive_count: 1,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    queues.send(&[order(1, Some("slow"))]).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__ORDERS__SLOW_LATENCY", "9s".to_owned());
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.sum("worker_messages_received_total", &[]), 1.0);
    assert_eq!(metrics.sum("worker_attempts_total", &[("outcome", "done")]), 1.0);
    assert_eq!(metrics.sum("worker_leases_lost_total", &[]), 0.0);
    worker.stop().await;
    queues.delete().await;
}
