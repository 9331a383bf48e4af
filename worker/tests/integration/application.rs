//! The handler `http` in front of an application in Python: `worker/examples/application.py`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::localstack::{Queues, Shape};
use crate::process::{PATIENCE, Worker, settings};

/// Whether there is a Python that the application runs on. With `CI=true` there must be.
async fn python_is_there() -> bool {
    let asked = Command::new("python3")
        .args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"])
        .status()
        .await;
    let there = asked.is_ok_and(|status| status.success());
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        there || !ci,
        "no python3 of 3.9 or newer: the application cannot run"
    );
    if !there {
        eprintln!("\n*** NOT RUN: this machine has no python3 of 3.9 or newer. ***\n");
    }
    there
}

/// Starts the application on `port` and waits until it serves.
async fn application(port: u16) -> Child {
    let mut child = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/application.py"))
        .env("PORT", port.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let line = line.expect("the application starts").unwrap().unwrap();
    assert_eq!(line, format!("serving on http://127.0.0.1:{port}"));
    child
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Reason and error of each dead letter, in order.
async fn rejections(queues: &Queues) -> Vec<(String, String)> {
    let dead = queues.take_all(&queues.dead_letter).await;
    let mut told = told_by(&dead);
    told.sort_unstable();
    told
}

/// Reason and error of every dead letter's story.
fn told_by(dead: &[aws_sdk_sqs::types::Message]) -> Vec<(String, String)> {
    let told = dead.iter().map(|message| {
        let attributes = message.message_attributes.as_ref().unwrap();
        let story = attributes["worker.failure"].string_value.as_ref().unwrap();
        let story: Value = serde_json::from_str(story).unwrap();
        let text = |key: &str| story[key].as_str().unwrap().to_owned();
        (text("reason"), text("error"))
    });
    told.collect()
}

#[tokio::test]
async fn an_application_in_another_language_decides_and_nothing_is_received_before_it_is_there() {
    if !python_is_there().await {
        return;
    }
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let good = |n: usize| format!(r#"{{"order_id": "o-{n}", "quantity": 1}}"#);
    let mut bodies: Vec<String> = (0..20).map(good).collect();
    bodies.push(r#"{"order_id": "o-20", "quantity": 1, "stock": "unknown"}"#.to_owned());
    bodies.push("no order".to_owned());
    bodies.push(r#"{"order_id": "o-21", "quantity": 1000}"#.to_owned());
    bodies.push(r#"{"order_id": "o-22", "quantity": 0}"#.to_owned());
    queues.send(&bodies).await;

    let port = free_port();
    let mut variables = settings(&queues);
    variables.insert("WORKER__HANDLER__KIND", "http".to_owned());
    variables.insert("WORKER__HTTP__URL", format!("http://127.0.0.1:{port}/messages"));
    variables.insert("WORKER__HTTP__READY_PATH", "/healthz".to_owned());
    variables.insert("WORKER__HTTP__REASONS", "bad_order".to_owned());
    let mut worker = Worker::start(&variables);
    worker
        .tells("waiting for the application; nothing is received meanwhile", 1)
        .await;
    let admin = worker.admin().await;
    let not_ready = worker::admin::ask(admin, "/readyz", PATIENCE).await.unwrap_err();
    assert!(not_ready.contains("not polling"), "{not_ready}");
    worker::admin::ask(admin, "/livez", PATIENCE).await.unwrap();
    let receives = [("action", "receive")];
    assert_eq!(
        worker.metrics().await.sum("worker_sqs_requests_total", &receives),
        0.0
    );

    let _application = application(port).await;
    queues.drained(PATIENCE).await;
    worker::admin::ask(admin, "/readyz", PATIENCE).await.unwrap();
    let metrics = worker.metrics().await;
    let attempts = |outcome| metrics.sum("worker_attempts_total", &[("outcome", outcome)]);
    let (done, unavailable, reject) = (attempts("done"), attempts("unavailable"), attempts("reject"));
    assert_eq!((done, unavailable, reject), (22.0, 1.0, 2.0));
    assert_eq!(metrics.sum("worker_messages_received_total", &[]), 24.0);
    let evidence = worker::admin::ask(admin, "/evidence", PATIENCE).await.unwrap();
    let evidence: worker::evidence::Report = serde_json::from_str(&evidence).unwrap();
    let large = evidence
        .windows
        .iter()
        .filter_map(|window| window.quality.get("large"));
    let large = large.fold((0, 0), |sum, one| (sum.0 + one.asked, sum.1 + one.bad));
    // Of first attempts that ended with an answer to the question: not of the two rejected, nor of the one tried again.
    assert_eq!(large, (21, 1), "the application's quality signal");
    worker.stop().await;

    let told = rejections(&queues).await;
    let bad = "422 Unprocessable Entity: quantity is 0; expected a whole number from 1";
    assert_eq!(told[0], ("bad_order".to_owned(), bad.to_owned()));
    let (reason, error) = &told[1];
    assert_eq!(reason, "undecodable");
    assert!(
        error.starts_with("422 Unprocessable Entity: Expecting value"),
        "{error}"
    );
    assert_eq!(told.len(), 2, "{told:?}");
    queues.delete().await;
}

#[tokio::test]
async fn an_application_that_goes_away_costs_no_receives() {
    if !python_is_there().await {
        return;
    }
    let shape = Shape {
        max_receive_count: 1,
        ..Shape::default()
    };
    let Some(queues) = Queues::create(shape).await else {
        return;
    };
    let port = free_port();
    let mut gone = application(port).await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__HANDLER__KIND", "http".to_owned());
    variables.insert("WORKER__HTTP__URL", format!("http://127.0.0.1:{port}/"));
    let mut worker = Worker::start(&variables);
    worker.tells("the application answers", 1).await;
    gone.kill().await.unwrap();
    let bodies: Vec<_> = (0..10)
        .map(|n| format!(r#"{{"order_id": "o-{n}", "quantity": 1}}"#))
        .collect();
    queues.send(&bodies).await;
    worker.tells("attempt failed", 1).await;
    assert_eq!(worker.told("attempt failed")[0]["outcome"], "unavailable");
    let _back = application(port).await;
    queues.drained(PATIENCE).await;
    worker.stop().await;
    assert!(queues.take_all(&queues.dead_letter).await.is_empty());
    queues.delete().await;
}

#[tokio::test]
async fn a_worker_that_waits_for_its_application_stops_when_told() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let mut variables = settings(&queues);
    variables.insert("WORKER__HANDLER__KIND", "http".to_owned());
    variables.insert("WORKER__HTTP__URL", format!("http://127.0.0.1:{}/", free_port()));
    let mut worker = Worker::start(&variables);
    worker
        .tells("waiting for the application; nothing is received meanwhile", 1)
        .await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    let status = worker.exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", worker.text());
    queues.delete().await;
}
