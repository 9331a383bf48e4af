//! The worker as an ECS task: a metadata endpoint and an agent on loopback, and Fargate Spot's two minutes, which are a
//! SIGTERM.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, command, settings};

/// What the agent was told: whether to protect the task.
type Told = Arc<Mutex<Vec<bool>>>;

const TASK: &str = r#"{"Cluster":"prod","TaskARN":"arn:aws:ecs:eu-west-1:111122223333:task/prod/0123","Family":"orders",
    "Revision":"57","ServiceName":"orders-canary"}"#;

/// Metadata and agent; their address.
async fn ecs() -> (String, Told) {
    let told = Told::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&told));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, told)
}

async fn answer(
    State(told): State<Told>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, &'static str) {
    match (method, uri.path()) {
        (Method::GET, "/v4/1") => (
            StatusCode::OK,
            r#"{"Name":"worker","Image":"registry/orders:1.4.2"}"#,
        ),
        (Method::GET, "/v4/1/task") => (StatusCode::OK, TASK),
        (Method::PUT, "/api/task-protection/v1/state") => {
            let body: Value = serde_json::from_slice(&body).unwrap();
            told.lock()
                .unwrap()
                .push(body["ProtectionEnabled"].as_bool().unwrap());
            (StatusCode::OK, r#"{"protection":{}}"#)
        }
        _ => (StatusCode::OK, "<html>a captive portal</html>"),
    }
}

#[tokio::test]
async fn a_spot_interruption_hands_back_what_is_in_hand_and_the_task_said_what_it_answers_for() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let (base, told) = ecs().await;
    queues
        .send(&[order(1, Some("reject")), order(2, Some("hang"))])
        .await;
    let mut variables = settings(&queues);
    variables.remove("WORKER__RELEASE");
    variables.insert("ECS_CONTAINER_METADATA_URI_V4", format!("{base}/v4/1"));
    variables.insert("ECS_AGENT_URI", format!("{base}/api"));
    variables.insert("WORKER__ECS__TASK_PROTECTION", "true".to_owned());
    variables.insert("WORKER__SHUTDOWN__TIMEOUT", "3s".to_owned());
    let mut worker = Worker::start(&variables);
    worker.tells("message copied to the dead-letter queue", 1).await;
    queues.depth_in_flight(1).await;
    worker.signal(Signal::SIGTERM);
    let status = worker.exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", worker.text());

    let started = &worker.told("worker starts")[0];
    assert_eq!(started["release"], "1.4.2@orders:57");
    assert_eq!(started["track"], "canary");
    let task = &worker.told("runs as an ECS task")[0];
    assert_eq!(
        (&task["cluster"], &task["service"]),
        (&"prod".into(), &"orders-canary".into())
    );
    let dead = queues.take_all(&queues.dead_letter).await;
    let attributes = dead[0].message_attributes.as_ref().unwrap();
    let story = attributes["worker.failure"].string_value.as_ref().unwrap();
    assert!(
        story.contains(r#""release":"1.4.2@orders:57","track":"canary""#),
        "{story}"
    );
    assert_eq!(
        queues.take_all(&queues.main).await.len(),
        1,
        "what hung is handed back"
    );
    assert_eq!(
        *told.lock().unwrap(),
        [true, false],
        "protected while busy, lifted at the end"
    );
    queues.delete().await;
}

#[tokio::test]
async fn what_ecs_does_not_say_is_one_line_unless_the_settings_do() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let (base, _) = ecs().await;
    let mut variables = settings(&queues);
    variables.remove("WORKER__RELEASE");
    variables.insert("ECS_CONTAINER_METADATA_URI_V4", format!("{base}/elsewhere"));
    let output = tokio::time::timeout(PATIENCE, command(&[], &variables).output()).await;
    let output = output.unwrap().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("worker: ECS_CONTAINER_METADATA_URI_V4: ") && text.contains("a captive portal"),
        "{text}"
    );

    variables.insert("WORKER__RELEASE", "mine".to_owned());
    let mut worker = Worker::start(&variables);
    worker
        .tells(
            "nothing is known of the ECS task; the settings say what it answers for",
            1,
        )
        .await;
    worker.stop().await;

    variables.insert("WORKER__ECS__TASK_PROTECTION", "true".to_owned());
    let mut worker = Worker::start(&variables);
    assert_eq!(worker.exit(PATIENCE).await.code(), Some(1));
    let error = worker.told("worker failed")[0]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        error.starts_with("ecs.task_protection: true, and ECS_AGENT_URI is \"\""),
        "{error}"
    );
    queues.delete().await;
}
