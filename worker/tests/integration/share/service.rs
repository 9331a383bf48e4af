//! A service that is released by canary: a queue, messages for it, and one worker process of each track.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use embedded_sqs::model::action::{CreateQueue, SendMessage};
use embedded_sqs::server::{Server, ServerConfig};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};
use worker::evidence::Report;
use worker::release::Track;

use crate::localstack::{REGION, order};
use crate::process::{PATIENCE, Worker};

/// How long stable's handler takes, in milliseconds; with [`SLOTS`] slots, 25 messages a second. No more, so that all cases together leave
/// the machine idle: one that is short of time gives each process another speed every second.
const LATENCY: u64 = 400;
const SLOTS: u64 = 10;
/// Messages a second that come to a queue which is nearly idle.
const ARRIVALS: f64 = 20.0;
/// Messages that a busy queue has at least.
const BACKLOG: usize = 200;

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// There is always more than the workers can do.
    Busy,
    /// Messages come one by one, at random, and hardly ever wait.
    NearlyIdle,
}

/// How fast the canary's handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speed {
    /// As stable's.
    Equal,
    /// Twenty times as fast.
    CanaryFaster,
}

/// The service, while it runs.
#[derive(Debug)]
pub(super) struct Service {
    workers: Vec<(Worker, SocketAddr)>,
    directory: TempDir,
    _endpoint: Arc<Server>,
    _traffic: JoinSet<()>,
}

impl Service {
    pub(super) async fn start(traffic: Traffic, speed: Speed) -> Self {
        let endpoint = Arc::new(Server::start(ServerConfig::default()).await.unwrap());
        let queue = create_queue(&endpoint);
        let directory = tempfile::tempdir().unwrap();
        let mut workers = Vec::new();
        for track in Track::ALL {
            let fast = track == Track::Canary && speed == Speed::CanaryFaster;
            let latency = if fast { LATENCY / 20 } else { LATENCY };
            let worker = Worker::start(&settings(&endpoint, &queue, track, latency, directory.path()));
            let address = worker.admin().await;
            workers.push((worker, address));
        }
        let mut sending = JoinSet::new();
        let to = (Arc::clone(&endpoint), queue);
        match traffic {
            Traffic::Busy => sending.spawn(keep_busy(to)),
            Traffic::NearlyIdle => sending.spawn(send_now_and_then(to)),
        };
        Self {
            workers,
            directory,
            _endpoint: endpoint,
            _traffic: sending,
        }
    }

    /// Where the workers read the control document.
    pub(super) fn control(&self) -> PathBuf {
        control(self.directory.path())
    }

    /// What all processes report from `since` on, in seconds since 1970.
    pub(super) async fn evidence(&mut self, since: u64) -> Vec<Report> {
        let mut reports = Vec::new();
        for (_, address) in &self.workers {
            let path = format!("/evidence?since={since}");
            let text = worker::admin::ask(*address, &path, PATIENCE).await.unwrap();
            reports.push(serde_json::from_str(&text).unwrap());
        }
        reports
    }

    pub(super) async fn stop(mut self) {
        for (worker, _) in &mut self.workers {
            worker.stop().await;
        }
    }
}

fn control(directory: &Path) -> PathBuf {
    directory.join("control.json")
}

fn settings(
    endpoint: &Server,
    queue: &str,
    track: Track,
    latency: u64,
    directory: &Path,
) -> HashMap<&'static str, String> {
    HashMap::from([
        ("AWS_ENDPOINT_URL", endpoint.url().to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("WORKER__RELEASE", format!("r-{track}")),
        ("WORKER__TRACK", track.to_string()),
        ("WORKER__QUEUE__URL", queue.to_owned()),
        ("WORKER__CONCURRENCY", SLOTS.to_string()),
        ("WORKER__ORDERS__LATENCY", format!("{latency}ms")),
        (
            "WORKER__CONTROL__SOURCE",
            format!("file:{}", control(directory).display()),
        ),
        ("WORKER__ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
        ("WORKER__LOG__FORMAT", "json".to_owned()),
    ])
}

fn create_queue(endpoint: &Server) -> String {
    let dead = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":5}"#;
    endpoint.with_account(|account, now| {
        for (name, policy) in [("dead", None), ("main", Some(dead))] {
            let policy = policy.map(|policy| ("RedrivePolicy".to_owned(), policy.to_owned()));
            let create = CreateQueue {
                queue_name: name.to_owned(),
                attributes: policy.into_iter().collect::<BTreeMap<_, _>>(),
                ..CreateQueue::default()
            };
            account.create_queue(now, &create).unwrap();
        }
    });
    format!("{}/000000000000/main", endpoint.url())
}

fn send((endpoint, queue): &(Arc<Server>, String), number: usize) {
    endpoint.with_account(|account, now| {
        let message = SendMessage {
            queue_url: queue.clone(),
            message_body: order(number, None),
            ..SendMessage::default()
        };
        account.send_message(now, message).unwrap();
    });
}

/// Ends with the service.
async fn keep_busy(to: (Arc<Server>, String)) {
    let mut tick = interval(Duration::from_millis(100));
    let mut number = 0;
    loop {
        let (endpoint, queue) = &to;
        let waiting = endpoint.with_account(|account, now| account.depth(now, queue).unwrap().visible);
        for _ in waiting..BACKLOG {
            send(&to, number);
            number += 1;
        }
        tick.tick().await;
    }
}

/// Arrivals of a Poisson process. Ends with the service.
async fn send_now_and_then(to: (Arc<Server>, String)) {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut next = Instant::now();
    for number in 0.. {
        let wait = -(1.0 - rng.f64()).ln() / ARRIVALS;
        next += Duration::from_secs_f64(wait);
        sleep_until(next).await;
        send(&to, number);
    }
}
