//! An endpoint that goes away and comes back, throttles, fails, and cuts its answers short.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};
use crate::proxy::{Faults, Wire, Wrong};

const COUNT: usize = 300;

async fn queues_with_orders(visibility: u32, max_receive_count: u32) -> Option<Queues> {
    let queues = Queues::create(Shape {
        visibility,
        max_receive_count,
        ..Shape::default()
    })
    .await?;
    let bodies: Vec<_> = (0..COUNT).map(|number| order(number, None)).collect();
    queues.send(&bodies).await;
    Some(queues)
}

fn totalled(worker: &Worker) -> HashSet<String> {
    let lines = worker.told("order totalled");
    lines
        .iter()
        .map(|line| line["order_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_endpoint_that_comes_back_is_drained_to_the_end() {
    let Some(queues) = queues_with_orders(4, 10).await else {
        return;
    };
    let wire = Wire::open("127.0.0.1:0", queues.endpoint).await;
    let address = wire.address.to_string();
    let mut variables = settings(&queues);
    variables.insert("AWS_ENDPOINT_URL", format!("http://{address}"));
    variables.insert("WORKER__CONCURRENCY", "10".to_owned());
    variables.insert("WORKER__ORDERS__LATENCY", "50ms".to_owned());
    let mut worker = Worker::start(&variables);
    worker.tells("order totalled", 50).await;
    drop(wire);
    worker.tells("receiving failed; the next try waits", 3).await;
    let _wire = Wire::open(&address, queues.endpoint).await;
    queues.drained(PATIENCE).await;
    assert_eq!(totalled(&worker).len(), COUNT);
    assert_eq!(worker.told("receiving works again").len(), 1);
    worker.stop().await;
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.delete().await;
}

#[tokio::test]
async fn throttling_and_failing_answers_are_ridden_out() {
    // An answer that is lost on the way hides its messages until their visibility timeout, hence the many receives.
    let Some(queues) = queues_with_orders(4, 50).await else {
        return;
    };
    let (endpoint, requests) = Faults::start(queues.endpoint, Wrong::Sometimes).await;
    let mut variables = settings(&queues);
    variables.insert("AWS_ENDPOINT_URL", endpoint);
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    assert_eq!(totalled(&worker).len(), COUNT);
    let metrics = worker.metrics().await;
    for result in ["throttled", "server", "answer", "ok"] {
        let seen = metrics.sum("worker_sqs_requests_total", &[("result", result)]);
        assert!(seen > 0.0, "no request with the result {result}:\n{}", metrics.0);
    }
    assert!(requests.load(Relaxed) > COUNT / 10);
    worker.stop().await;
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.delete().await;
}
