use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metadata::{Task, task};
use super::protection::{Agent, Options};
use super::*;
use crate::config::Settings;
use crate::release::{Release, Track};

const PATIENCE: Duration = Duration::from_secs(30);

/// An agent on loopback: what it was asked, and what it answers to a PUT.
#[derive(Clone, Debug)]
struct Fake {
    answers: Arc<Mutex<Vec<(StatusCode, &'static str)>>>,
    calls: watch::Sender<Vec<Value>>,
}

const DONE: (StatusCode, &str) = (StatusCode::OK, r#"{"protection":{"ProtectionEnabled":true}}"#);

impl Fake {
    async fn start() -> (Self, String) {
        let fake = Self {
            answers: Arc::default(),
            calls: watch::Sender::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (fake, base)
    }

    /// Answers these before it answers as it should.
    fn first(&self, answers: &[(StatusCode, &'static str)]) {
        *self.answers.lock().unwrap() = answers.iter().rev().copied().collect();
    }

    /// Waits for so many calls, and gives what they were: whether to protect.
    async fn calls(&self, count: usize) -> Vec<bool> {
        let mut calls = self.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.len() >= count);
        let calls = tokio::time::timeout(PATIENCE, enough).await.unwrap().unwrap();
        let protect = |call: &Value| {
            let protect = call["ProtectionEnabled"].as_bool().unwrap();
            assert_eq!(
                call["ExpiresInMinutes"],
                if protect { json!(10) } else { Value::Null }
            );
            protect
        };
        calls.iter().map(protect).collect()
    }
}

async fn answer(
    State(fake): State<Fake>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, &'static str) {
    if method == Method::PUT {
        assert_eq!(uri.path(), "/api/1/task-protection/v1/state");
        let answer = fake.answers.lock().unwrap().pop().unwrap_or(DONE);
        fake.calls
            .send_modify(|calls| calls.push(serde_json::from_slice(&body).unwrap()));
        return answer;
    }
    match uri.path() {
        "/v4/1/task" => (StatusCode::OK, TASK),
        "/v4/1" | "/v4/flaky" => (StatusCode::OK, CONTAINER),
        "/v4/flaky/task" => match fake.answers.lock().unwrap().pop() {
            Some(answer) => answer,
            None => (StatusCode::OK, TASK),
        },
        "/v4/garbled/task" => (StatusCode::OK, "<html>"),
        "/v4/short/task" => (StatusCode::OK, r#"{"Cluster":"c"}"#),
        _ => (StatusCode::NOT_FOUND, "nothing here"),
    }
}

const TASK: &str = r#"{"Cluster":"prod","TaskARN":"arn:aws:ecs:eu-west-1:111122223333:task/prod/0123","Family":"orders",
    "Revision":"57","ServiceName":"orders-canary","LaunchType":"FARGATE","Containers":[]}"#;

const CONTAINER: &str = r#"{"DockerId":"x","Name":"worker","Image":"111122223333.dkr.ecr.eu-west-1.amazonaws.com/orders:1.4.2",
    "ImageID":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","Limits":{"CPU":2}}"#;

#[tokio::test]
async fn the_task_says_release_track_and_service() {
    let (_, base) = Fake::start().await;
    let task = task(&format!("{base}/v4/1")).await.unwrap();
    assert_eq!(task.release(), "1.4.2@orders:57");
    assert_eq!(
        (task.cluster.as_str(), task.service.as_deref()),
        ("prod", Some("orders-canary"))
    );
    assert!(task.arn.ends_with("task/prod/0123"));
    assert_eq!(task.track("-canary"), Track::Canary);
    for other in ["-trial", ""] {
        assert_eq!(task.track(other), Track::Stable);
    }
    assert_eq!(
        Task {
            service: None,
            ..task
        }
        .track("-canary"),
        Track::Stable
    );
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_yet_is_asked_again() {
    let (fake, base) = Fake::start().await;
    fake.first(&[
        (StatusCode::TOO_MANY_REQUESTS, "slow down"),
        (StatusCode::BAD_GATEWAY, ""),
    ]);
    task(&format!("{base}/v4/flaky")).await.unwrap();
}

#[test]
fn every_image_makes_a_release() {
    let long = "f".repeat(255);
    let long_tag = format!("orders:{long}");
    for (image, family, expected) in [
        ("orders:1.4.2", "orders", "1.4.2@orders:57"),
        (
            "registry:5000/team/orders",
            "orders",
            "sha256-9f86d081884c@orders:57",
        ),
        (
            "registry:5000/orders:latest",
            "orders",
            "sha256-9f86d081884c@orders:57",
        ),
        (
            "orders@sha256:abcdefabcdefabcdef",
            "orders",
            "sha256-abcdefabcdef@orders:57",
        ),
        ("orders:1@sha256:abcdefabcdefabcdef", "orders", "1@orders:57"),
        ("orders:é", "ord ers", "_@ord_ers:57"),
        ("orders:1", long.as_str(), ""),
        (long_tag.as_str(), long.as_str(), ""),
        ("", "", "sha256-9f86d081884c@:57"),
    ] {
        let task = Task {
            cluster: String::new(),
            arn: String::new(),
            family: family.to_owned(),
            revision: "57".to_owned(),
            service: None,
            image: image.to_owned(),
            digest: "sha256:9f86d081884c7d659a2feaa0c55ad015".to_owned(),
        };
        let release = task.release();
        Release::new(&release).unwrap();
        assert!(release.ends_with(":57"), "{release}");
        if !expected.is_empty() {
            assert_eq!(release, expected, "{image}");
        }
    }
}

/// What `identify` makes of the endpoint at `url` with these settings.
async fn identified(url: &str, pairs: &[(&str, &str)]) -> Result<(Known, String), TaskError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut source = Source::load(None, pairs.iter().map(owned).collect()).unwrap();
    let variables = [(METADATA_VARIABLE.to_owned(), url.to_owned())].into();
    let known = identify(&mut source, &variables).await?;
    let mut reader = source.reader();
    let service = known.task.is_some().then_some("orders-canary");
    assert_eq!(reader.optional("service").as_deref(), service);
    let identity = ["release", "track"].map(|key| reader.optional(key).unwrap());
    Ok((known, identity.join(" ")))
}

#[tokio::test]
async fn what_is_set_goes_before_what_the_task_says() {
    let (_, base) = Fake::start().await;
    let url = format!("{base}/v4/1");
    for (pairs, expected) in [
        (&[][..], "1.4.2@orders:57 canary"),
        (&[("WORKER__RELEASE", "mine")], "mine canary"),
        (&[("WORKER__TRACK", "stable")], "1.4.2@orders:57 stable"),
        (
            &[("WORKER__ECS__CANARY_SUFFIX", "-trial")],
            "1.4.2@orders:57 stable",
        ),
    ] {
        let (known, identity) = identified(&url, pairs).await.unwrap();
        assert_eq!(identity, expected);
        assert!(known.task.is_some() && known.problem.is_none());
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_had_is_an_error_that_names_the_variable_unless_the_release_is_set() {
    let (_, base) = Fake::start().await;
    for (path, problem) in [
        ("/v4/garbled", "the answer is \"<html>\""),
        ("/v4/short", "missing field `TaskARN`"),
        ("/v4/nothing", "it answers 404 Not Found \"nothing here\""),
    ] {
        let url = format!("{base}{path}");
        let error = identified(&url, &[]).await.unwrap_err().to_string();
        assert!(
            error.starts_with("ECS_CONTAINER_METADATA_URI_V4: \"http://127.0.0.1:"),
            "{error}"
        );
        assert!(
            error.contains(problem) && error.contains("WORKER__RELEASE"),
            "{error}"
        );
        let (known, identity) = identified(&url, &[("WORKER__RELEASE", "mine")]).await.unwrap();
        assert_eq!((known.task, identity.as_str()), (None, "mine stable"));
        assert!(known.problem.unwrap().contains(problem));
    }
    for url in ["http://127.0.0.1:1", "nonsense", "ftp://x y"] {
        let error = identified(url, &[]).await.unwrap_err().to_string();
        assert!(error.starts_with("ECS_CONTAINER_METADATA_URI_V4: "), "{error}");
    }
}

/// The seconds of each `stopTimeout` that the template offers, and the setting `shutdown.timeout` that it makes of it.
fn shutdowns(template: &str) -> Vec<(u64, String)> {
    let pair = |line: &str| {
        let (stop, setting) = line.trim().split_once(": { Setting: ")?;
        let stop = stop.trim_matches('"').parse().ok()?;
        Some((stop, setting.strip_suffix(" }")?.to_owned()))
    };
    template.lines().filter_map(pair).collect()
}

#[tokio::test]
async fn the_task_definition_of_the_templates_is_one_that_a_worker_takes() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let read = |path| std::fs::read_to_string(deploy.join(path)).unwrap();
    let definition: Value = serde_json::from_str(&read("task-definitions/worker.json")).unwrap();
    let container = &definition["containerDefinitions"][0];
    assert_eq!(
        container["healthCheck"]["command"],
        json!(["CMD", "/worker", "health"])
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let environment = container["environment"].as_array().unwrap();
    let environment: HashMap<_, _> = environment
        .iter()
        .map(|pair| (text(&pair["name"]), text(&pair["value"])))
        .collect();
    let (_, base) = Fake::start().await;
    let metadata = [(METADATA_VARIABLE.to_owned(), format!("{base}/v4/1"))].into();
    let shutdowns = shutdowns(&read("cloudformation/service.yaml"));
    assert!(shutdowns.contains(&(
        container["stopTimeout"].as_u64().unwrap(),
        environment["WORKER__SHUTDOWN__TIMEOUT"].clone()
    )));
    assert_eq!(shutdowns.len(), 4);
    for (stop, setting) in shutdowns {
        let mut environment = environment.clone();
        environment.insert("WORKER__SHUTDOWN__TIMEOUT".to_owned(), setting);
        let mut source = Source::load(None, environment).unwrap();
        identify(&mut source, &metadata).await.unwrap();
        let settings = Settings::check(&source).unwrap();
        assert!(settings.shutdown.timeout < Duration::from_secs(stop));
        assert!(settings.admin.ip().is_loopback());
        // The template names neither: one revision serves both services.
        assert_eq!(settings.identity.track, Track::Canary);
        assert_eq!(settings.service.as_deref(), Some("orders-canary"));
    }
}

const QUICK: Options = Options {
    linger: Duration::from_millis(50),
    expires_minutes: 10,
    renew: Duration::from_secs(3600),
    timeout: Duration::from_secs(5),
    again: Duration::from_millis(20),
};

/// An agent that runs with `options`: its fake, the switch between idle and busy, and what ends it.
async fn running(
    options: Options,
) -> (
    Fake,
    watch::Sender<bool>,
    CancellationToken,
    tokio::task::JoinHandle<()>,
) {
    let (fake, base) = Fake::start().await;
    let agent = Agent::new(&format!("{base}/api/1"), options).unwrap();
    let (busy, stop) = (watch::Sender::new(false), CancellationToken::new());
    let task = tokio::spawn(agent.run(busy.subscribe(), stop.clone()));
    (fake, busy, stop, task)
}

#[tokio::test]
async fn the_agent_is_told_on_the_edges_only_and_at_the_end() {
    let (fake, busy, stop, task) = running(QUICK).await;
    busy.send_replace(true);
    assert_eq!(fake.calls(1).await, [true]);
    busy.send_replace(true);
    busy.send_replace(false);
    assert_eq!(fake.calls(2).await, [true, false]);
    busy.send_replace(true);
    assert_eq!(fake.calls(3).await, [true, false, true]);
    stop.cancel();
    task.await.unwrap();
    assert_eq!(fake.calls(4).await, [true, false, true, false]);
}

#[tokio::test]
async fn a_worker_that_was_never_busy_says_nothing() {
    let (fake, _busy, stop, task) = running(QUICK).await;
    stop.cancel();
    task.await.unwrap();
    assert!(fake.calls(0).await.is_empty());
}

#[tokio::test]
async fn a_failed_call_is_made_again_for_as_long_as_it_is_needed() {
    let (fake, busy, stop, task) = running(QUICK).await;
    let refused = r#"{"failure":{"Reason":"DEPLOYMENT_BLOCKED"}}"#;
    fake.first(&[
        (StatusCode::OK, refused),
        (StatusCode::INTERNAL_SERVER_ERROR, ""),
        DONE,
        (StatusCode::OK, "?"),
    ]);
    busy.send_replace(true);
    assert_eq!(fake.calls(3).await, [true, true, true]);
    busy.send_replace(false);
    assert_eq!(fake.calls(5).await, [true, true, true, false, false]);
    stop.cancel();
    task.await.unwrap();
    assert_eq!(fake.calls(5).await.len(), 5, "it is lifted already");
}

#[tokio::test]
async fn protection_is_renewed_also_when_the_work_trickles() {
    let options = Options {
        renew: Duration::from_millis(200),
        linger: Duration::from_secs(3600),
        ..QUICK
    };
    let (fake, busy, stop, task) = running(options).await;
    busy.send_replace(true);
    fake.calls(1).await;
    let trickle = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            busy.send_modify(|busy| *busy = !*busy);
        }
    };
    tokio::select! {
        calls = fake.calls(3) => assert_eq!(calls, [true, true, true]),
        () = trickle => {}
    }
    stop.cancel();
    task.await.unwrap();
}
