//! What keeps the worker from starting is one clear line and an exit code that is not 0.

use std::collections::HashMap;

use crate::localstack::{Queues, Shape};
use crate::process::{PATIENCE, Worker, command, settings};
use crate::proxy::{Faults, Wrong};

async fn refusal(arguments: &[&str], variables: &HashMap<&'static str, String>) -> (Option<i32>, String) {
    let output = tokio::time::timeout(PATIENCE, command(arguments, variables).output())
        .await
        .unwrap()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_missing_queue_is_one_clear_line() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let mut variables = settings(&queues);
    variables.insert("WORKER__QUEUE__URL", format!("{}-gone", queues.main));
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("worker: queue.url: ") && text.contains("no_queue: "),
        "{text}"
    );
    variables.remove("WORKER__QUEUE__URL");
    variables.insert("WORKER__QUEUE__NAME", "no-such-queue".to_owned());
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(
        text.starts_with("worker: queue.name: no-such-queue: no_queue: "),
        "{text}"
    );
    queues.delete().await;
}

#[tokio::test]
async fn refused_and_missing_credentials_are_one_clear_line() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let (endpoint, _) = Faults::start(queues.endpoint, Wrong::Credentials).await;
    let mut variables = settings(&queues);
    variables.insert("AWS_ENDPOINT_URL", endpoint);
    let mut worker = Worker::start(&variables);
    assert_eq!(worker.exit(PATIENCE).await.code(), Some(1));
    let told = worker.told("worker failed");
    assert_eq!(told.len(), 1);
    let error = told[0]["error"].as_str().unwrap();
    assert!(error.contains("denied: UnrecognizedClientException"), "{error}");

    let mut variables = settings(&queues);
    variables.remove("AWS_ACCESS_KEY_ID");
    variables.remove("AWS_SECRET_ACCESS_KEY");
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("denied: ") && text.lines().count() == 1, "{text}");

    let mut variables = settings(&queues);
    variables.remove("AWS_REGION");
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("no region; expected one, as AWS_REGION"), "{text}");
    queues.delete().await;
}

#[tokio::test]
async fn a_queue_that_does_not_fit_is_named() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let mut variables = settings(&queues);
    variables.insert("WORKER__QUEUE__URL", queues.dead_letter.clone());
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("has no redrive policy; expected one"), "{text}");
    let mut variables = settings(&queues);
    variables.insert("WORKER__DLQ__URL", queues.main.clone());
    variables.insert("WORKER__QUEUE__VISIBILITY_TIMEOUT", "3s".to_owned());
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("dlq.url: ") && text.contains("is the main queue itself"),
        "{text}"
    );
    assert!(text.contains("\nworker: queue.visibility_timeout: 3s"), "{text}");
    queues.delete().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_tried_again_and_then_named() {
    let mut variables = HashMap::from([
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("WORKER__RELEASE", "r-1".to_owned()),
        ("WORKER__QUEUE__NAME", "orders".to_owned()),
        ("WORKER__STARTUP__TIMEOUT", "1s".to_owned()),
    ]);
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("queue.name: orders: network: "), "{text}");
    variables.insert("WORKER__RELEASE", String::new());
    let (code, text) = refusal(&["check"], &variables).await;
    assert_eq!(code, Some(64));
    assert!(text.starts_with("worker: release (WORKER__RELEASE): "), "{text}");
}

#[tokio::test]
async fn health_asks_the_worker_that_runs() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let mut variables = settings(&queues);
    let mut worker = Worker::start(&variables);
    let address = worker.admin().await;
    variables.insert("WORKER__ADMIN__ADDRESS", address.to_string());
    let ready = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
        while worker::admin::ask(address, "/readyz", PATIENCE).await.is_err() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    assert_eq!(refusal(&["health"], &variables).await.0, Some(0));
    worker.stop().await;
    let (code, text) = refusal(&["health"], &variables).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("/livez: "), "{text}");
    queues.delete().await;
}
