//! The control document as a parameter of Systems Manager.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::Credentials;
use aws_sdk_ssm::types::ParameterType;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use worker::control::Reader;
use worker::control::reader::ReadResult;
use worker::control::ssm::Parameter;
use worker::release::Track;

use crate::localstack::{Queues, REGION, Shape, order};
use crate::process::{Metrics, PATIENCE, Worker, settings};

async fn config(endpoint: &str) -> SdkConfig {
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .http_client(http)
        .load()
        .await
}

fn document(epoch: u64, canary: &str) -> String {
    format!(r#"{{"schema":1,"epoch":{epoch},"tracks":{{"canary":{canary},"stable":{{}}}}}}"#)
}

/// A canary that reads a parameter five times a second, and who writes it.
struct Steered {
    queues: Queues,
    worker: Worker,
    client: Client,
    parameter: String,
    sent: usize,
}

impl Steered {
    async fn start() -> Option<Self> {
        let queues = Queues::create(Shape::default()).await?;
        let parameter = format!("/test-{:016x}/control", fastrand::u64(..));
        let mut variables: HashMap<_, _> = settings(&queues);
        variables.insert("WORKER__TRACK", "canary".to_owned());
        variables.insert("WORKER__CONTROL__SOURCE", format!("ssm:{parameter}"));
        variables.insert("WORKER__CONTROL__INTERVAL", "200ms".to_owned());
        let client = Client::new(&config(queues.endpoint).await);
        Some(Self {
            worker: Worker::start(&variables),
            queues,
            client,
            parameter,
            sent: 0,
        })
    }

    async fn put(&self, text: &str) {
        let put = self.client.put_parameter().name(&self.parameter).value(text);
        let put = put.r#type(ParameterType::String).overwrite(true);
        put.send().await.unwrap();
    }

    async fn send(&mut self, count: usize) {
        let bodies: Vec<_> = (self.sent..self.sent + count)
            .map(|number| order(number, None))
            .collect();
        self.sent += count;
        self.queues.send(&bodies).await;
    }

    /// Waits until the metrics are so.
    async fn until(&self, what: &str, so: impl Fn(&Metrics) -> bool) {
        let reached = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            while !so(&self.worker.metrics().await) {
                tick.tick().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("not {what}:\n{}", self.worker.text());
        }
    }

    /// Waits for two more reads that end so: one could have been under way.
    async fn reads(&self, result: ReadResult) {
        let labels = [("result", result.as_str())];
        let reads = |metrics: &Metrics| metrics.sum("worker_control_reads_total", &labels);
        let before = reads(&self.worker.metrics().await);
        self.until(result.as_str(), |metrics| reads(metrics) >= before + 2.0)
            .await;
    }
}

fn attempts(metrics: &Metrics) -> f64 {
    metrics.sum("worker_attempts_total", &[])
}

#[tokio::test]
async fn a_canary_obeys_its_parameter_and_what_cannot_be_used_changes_nothing() {
    let Some(mut canary) = Steered::start().await else {
        return;
    };
    canary.send(20).await;
    canary.reads(ReadResult::Missing).await;
    assert!(attempts(&canary.worker.metrics().await) < 1.0);
    assert_eq!(canary.queues.depth().await, (20, 0));
    canary.put(&document(7, r#"{"max_per_second":1000}"#)).await;
    canary.queues.drained(PATIENCE).await;

    for (text, result) in [
        (r#"{"schema":1,"#.to_owned(), ReadResult::Invalid),
        (document(6, r#"{"paused":true}"#), ReadResult::Outdated),
    ] {
        canary.put(&text).await;
        canary.reads(result).await;
        canary.send(5).await;
        canary.queues.drained(PATIENCE).await;
        let epoch = canary.worker.metrics().await.sum("worker_control_epoch", &[]);
        assert_eq!(epoch, 7.0, "after one that is {}", result.as_str());
    }

    canary.put(&document(8, r#"{"paused":true}"#)).await;
    canary
        .until("paused", |metrics| {
            metrics.sum("worker_paused", &[("track", "canary")]) >= 1.0
        })
        .await;
    // A receive that was under way may still bring messages; what it brings is handed back.
    let before = attempts(&canary.worker.metrics().await);
    canary.send(5).await;
    canary.reads(ReadResult::Ok).await;
    assert_eq!(attempts(&canary.worker.metrics().await), before);
    canary.put(&document(9, "{}")).await;
    canary.queues.drained(PATIENCE).await;
    canary.worker.stop().await;
    let delete = canary.client.delete_parameter().name(&canary.parameter);
    delete.send().await.unwrap();
    canary.queues.delete().await;
}

/// How Systems Manager answers, request by request; nothing at all where there is no status.
type Answers = Arc<(Vec<(Option<StatusCode>, String)>, AtomicUsize)>;

async fn answer(State(answers): State<Answers>) -> Response<Body> {
    let (script, asked) = &*answers;
    let (status, body) = script[asked.fetch_add(1, Relaxed)].clone();
    let Some(status) = status else {
        return std::future::pending().await;
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn each_answer_of_systems_manager_is_told_from_the_others_and_asked_for_once() {
    let error = |code: &str| json!({"__type": code, "message": "a fault of the test"}).to_string();
    let value = |value: &str| json!({"Parameter": {"Name": "/control", "Value": value}}).to_string();
    let bad = Some(StatusCode::BAD_REQUEST);
    let cases = [
        (bad, error("ThrottlingException"), ReadResult::Throttled),
        (bad, error("ThrottlingException"), ReadResult::Throttled),
        (bad, error("ParameterNotFound"), ReadResult::Missing),
        (bad, error("AccessDeniedException"), ReadResult::Failed),
        (
            Some(StatusCode::INTERNAL_SERVER_ERROR),
            error("InternalServerError"),
            ReadResult::Failed,
        ),
        (Some(StatusCode::OK), "{\"Para".to_owned(), ReadResult::Failed),
        (Some(StatusCode::OK), value("mood: good"), ReadResult::Invalid),
        (Some(StatusCode::OK), value(&document(7, "{}")), ReadResult::Ok),
        (
            Some(StatusCode::OK),
            value(&document(6, "{}")),
            ReadResult::Outdated,
        ),
        (None, String::new(), ReadResult::Failed),
    ];
    let script = cases
        .iter()
        .map(|(status, body, _)| (*status, body.clone()))
        .collect();
    let answers: Answers = Arc::new((script, AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&answers));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let parameter = Parameter::new(&config(&endpoint).await, "/control");
    let (mut reader, directives) = Reader::new(parameter, Track::Canary, None, fastrand::Rng::with_seed(1));
    for (number, (_, body, result)) in cases.iter().enumerate() {
        assert_eq!(reader.read().await, *result, "{body}");
        // The next read is the retry: the SDK makes none of its own.
        assert_eq!(answers.1.load(Relaxed), number + 1, "{body}");
    }
    assert_eq!(directives.now().epoch, Some(7));
}
