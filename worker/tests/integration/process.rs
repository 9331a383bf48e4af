//! The worker's binary as a process, with its log and its metrics.

use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::localstack::{Queues, REGION};

/// How long anything may take that is not itself under test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
    _directory: TempDir,
}

/// The variables of a worker that drains `queues`, quick enough for tests.
pub(crate) fn settings(queues: &Queues) -> HashMap<&'static str, String> {
    HashMap::from([
        ("AWS_ENDPOINT_URL", queues.endpoint.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("WORKER__RELEASE", "r-1".to_owned()),
        ("WORKER__QUEUE__URL", queues.main.clone()),
        ("WORKER__QUEUE__WAIT", "1s".to_owned()),
        ("WORKER__SQS__TIMEOUT", "2s".to_owned()),
        ("WORKER__ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
        ("WORKER__LOG__FORMAT", "json".to_owned()),
        ("WORKER__LOG__LEVEL", "worker=debug,info".to_owned()),
        ("WORKER__LOG__FAILURES_PER_SECOND", "100000".to_owned()),
    ])
}

/// The binary with nothing in its environment but `variables`.
pub(crate) fn command(arguments: &[&str], variables: &HashMap<&'static str, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables)
        .kill_on_drop(true);
    command
}

impl Worker {
    pub(crate) fn start(variables: &HashMap<&'static str, String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let file = File::create(&log).unwrap();
        let child = command(&[], variables)
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log,
            _directory: directory,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("the worker runs")).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the exit; its log is printed when it does not come.
    pub(crate) async fn exit(&mut self, limit: Duration) -> ExitStatus {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!(
                "the worker has not stopped within {limit:?}; its log:\n{}",
                self.text()
            ),
        }
    }

    /// Stops the worker and expects a clean end.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.exit(PATIENCE).await;
        assert_eq!(status.code(), Some(0), "{}", self.text());
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The complete lines of the log.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        whole.lines().map(parse).collect()
    }

    /// The lines with this message.
    pub(crate) fn told(&self, message: &str) -> Vec<Value> {
        self.lines()
            .into_iter()
            .filter(|line| line["message"] == message)
            .collect()
    }

    /// Waits until so many lines with this message are in the log.
    pub(crate) async fn tells(&self, message: &str, count: usize) {
        let told = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while self.told(message).len() < count {
                tick.tick().await;
            }
        };
        if timeout(PATIENCE, told).await.is_err() {
            panic!("{message:?} was not logged {count} times:\n{}", self.text());
        }
    }

    pub(crate) async fn admin(&self) -> SocketAddr {
        self.tells("worker starts", 1).await;
        self.told("worker starts")[0]["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The series of `/metrics`, without histograms' buckets.
    pub(crate) async fn metrics(&self) -> Metrics {
        let text = worker::admin::ask(self.admin().await, "/metrics", PATIENCE)
            .await
            .unwrap();
        Metrics(text)
    }
}

/// What `/metrics` says.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The sum of the series of `name` that have all of `labels`.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let of = |line: &&str| {
            let series = line.split_once('{').is_some_and(|(series, _)| series == name);
            series
                && labels
                    .iter()
                    .all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        self.0.lines().filter(of).map(value).sum()
    }
}
