//! A queue, a fleet's directory, a stream of orders, and the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::{QueueAttributeName as Attribute, SendMessageBatchRequestEntry};
use canary::journal::Journal;
use embedded_sqs::server::{Server, ServerConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// At most two grounds at a time.
static ROOM: Semaphore = Semaphore::const_new(2);

/// The usual plan of these tests: real risks, short times.
pub(crate) const PLAN: &str = r#"
schema = 1
name = "test"
deadline = "60s"
inconclusive = "hold"
trickle = "2/s"
[risk]
tolerated_ratio = 4.0
ceiling = "5%"
stretch = "3s"
[[steps]]
share = "20%"
least_time = "3s"
least_messages = 60
[[steps]]
share = "40%"
least_time = "3s"
least_messages = 100
[guards]
silence = "8s"
[bake]
time = "4s"
share = "20%"
[redrive]
rate = "500/s"
"#;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(150);

/// Everything a rollout needs. Its workers are stopped, and killed if need be, when it is dropped.
pub(crate) struct Ground {
    _server: Option<Server>,
    endpoint: String,
    client: Client,
    pub(crate) queue: String,
    pub(crate) handover: String,
    pub(crate) dead_letter: String,
    pub(crate) directory: TempDir,
    stream: Mutex<Option<Stream>>,
    _room: SemaphorePermit<'static>,
}

struct Stream {
    stop: CancellationToken,
    task: JoinHandle<()>,
    sent: Arc<Mutex<Sent>>,
}

/// What was accepted by the queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) orders: u64,
    pub(crate) poison: BTreeSet<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let room = ROOM.acquire().await.unwrap();
        let server = Server::start(ServerConfig::default()).await.unwrap();
        let endpoint = server.url().to_owned();
        Self::at(endpoint, Some(server), room, "orders").await
    }

    /// On an endpoint that runs already, with queues of this name.
    pub(crate) async fn on(endpoint: String, name: &str) -> Self {
        let room = ROOM.acquire().await.unwrap();
        Self::at(endpoint, None, room, name).await
    }

    async fn at(
        endpoint: String,
        server: Option<Server>,
        room: SemaphorePermit<'static>,
        name: &str,
    ) -> Self {
        let client = client(&endpoint);
        let dead_letter = create(
            &client,
            &format!("{name}-dlq"),
            &[(Attribute::MessageRetentionPeriod, "1209600")],
        )
        .await;
        let arn = client
            .get_queue_attributes()
            .queue_url(&dead_letter)
            .attribute_names(Attribute::QueueArn)
            .send()
            .await
            .unwrap()
            .attributes
            .unwrap()
            .remove(&Attribute::QueueArn)
            .unwrap();
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 10 }).to_string();
        let attributes = [
            (Attribute::RedrivePolicy, policy.as_str()),
            (Attribute::VisibilityTimeout, "10"),
        ];
        let handover = create(&client, &format!("{name}-handover"), &attributes).await;
        let queue = create(&client, name, &attributes).await;
        let ground = Self {
            _server: server,
            endpoint,
            client,
            queue,
            handover,
            dead_letter,
            directory: TempDir::new().unwrap(),
            stream: Mutex::new(None),
            _room: room,
        };
        ground.settings("canary.toml", &[env!("CARGO_BIN_EXE_canary"), "worker", "run"]);
        ground.plan("plan.toml", PLAN);
        ground
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn plan(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes settings under which a worker is `command`.
    pub(crate) fn settings(&self, name: &str, command: &[&str]) {
        let environment: BTreeMap<&str, &str> = BTreeMap::from([
            ("WORKER__QUEUE__URL", self.queue.as_str()),
            ("WORKER__DLQ__URL", self.dead_letter.as_str()),
            ("WORKER__HANDOVER__URL", self.handover.as_str()),
            ("WORKER__QUEUE__WAIT", "1s"),
            ("WORKER__SHUTDOWN__TIMEOUT", "6s"),
            ("WORKER__HANDLER__DEADLINE", "2s"),
            ("WORKER__CONCURRENCY", "20"),
            ("WORKER__ORDERS__LATENCY", "10ms"),
            ("WORKER__CONTROL__INTERVAL", "1s"),
        ]);
        let lines: Vec<String> = environment
            .iter()
            .map(|(name, value)| format!("{name} = {value:?}"))
            .collect();
        let text = format!(
            "[fleet]\nkind = \"local\"\ndirectory = \"state\"\ncommand = {command:?}\nstable = 2\ncanary = 1\n\
             stop_within = \"8s\"\nready_within = \"15s\"\n[environment]\n{}\n",
            lines.join("\n")
        );
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Changes the settings: `from` becomes `to`.
    pub(crate) fn change_settings(&self, from: &str, to: &str) {
        let path = self.path("canary.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Sends `rate` orders a second until it is told otherwise; one in 100 is poison.
    pub(crate) fn stream(&self, rate: u32) {
        let (stop, sent) = (CancellationToken::new(), Arc::new(Mutex::new(Sent::default())));
        let task = tokio::spawn(send(
            self.client.clone(),
            self.queue.clone(),
            rate,
            Arc::clone(&sent),
            stop.clone(),
        ));
        *self.stream.lock().unwrap() = Some(Stream { stop, task, sent });
    }

    /// Ends the stream; what was sent.
    pub(crate) async fn end_stream(&self) -> Sent {
        let stream = self.stream.lock().unwrap().take().unwrap();
        stream.stop.cancel();
        stream.task.await.unwrap();
        stream.sent.lock().unwrap().clone()
    }

    /// Sends orders that fail their first attempt, whoever makes it.
    pub(crate) async fn send_failing(&self, count: u32) {
        for first in (0..count).step_by(10) {
            let bodies = (first..first + 10).map(|number| order(&format!("f-{number}"), Some("retry")));
            send_batch(&self.client, &self.queue, bodies.collect()).await;
        }
    }

    pub(crate) async fn send_body(&self, body: String) {
        send_batch(&self.client, &self.queue, vec![body]).await;
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_canary"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("USER", "ada")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the binary.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs the binary to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.start(arguments)).await
    }

    /// Rolls `release` out to the end of its rollout, with these variables.
    pub(crate) async fn roll_out(&self, release: &str, set: &[&str]) -> Ended {
        self.run(&rollout(release, set)).await
    }

    /// Makes A stable, at once.
    pub(crate) async fn with_a(&self) {
        let mut arguments = rollout("A", &[]);
        arguments.extend(["--skip-canary", "a test begins"]);
        let ended = self.run(&arguments).await;
        assert_eq!(ended.code, Some(0), "{}", ended.text);
    }

    pub(crate) fn journal(&self) -> Option<Journal> {
        let text = std::fs::read(self.path("state/journal.json")).ok()?;
        Some(Journal::read(&text).unwrap())
    }

    /// Waits until the journal of `release` is as `is` says.
    pub(crate) async fn until(&self, release: &str, is: impl Fn(&Journal) -> bool) -> Journal {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let ours = |journal: &Journal| journal.state.candidate.release.as_str() == release && is(journal);
            if let Some(journal) = self.journal().filter(ours) {
                return journal;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "it never came to that: {:?}",
            self.journal().map(|journal| (journal.state, journal.timeline))
        )
    }

    /// Waits until so many stable processes are ready, as `canary status` sees them.
    pub(crate) async fn until_ready(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < until {
            last = self.run(&["status", "--json"]).await.text;
            let status: serde_json::Value = serde_json::from_str(&last).unwrap();
            let processes = status["measured"]["stable"]["processes"].as_array().unwrap();
            if processes
                .iter()
                .filter(|process| process["state"] == "ready")
                .count()
                == count
            {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("they never are: {last}")
    }

    /// The worker processes that there are, by release and track, as the system knows them.
    pub(crate) fn workers(&self) -> BTreeMap<String, u32> {
        let control = format!(
            "WORKER__CONTROL__SOURCE=file:{}",
            self.path("state/control.json").display()
        );
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(environment) = std::fs::read_to_string(entry.path().join("environ")) else {
                continue;
            };
            let variables = environment.split('\0');
            if environment.split('\0').any(|variable| variable == control) {
                let value = |name: &str| {
                    let found = variables.clone().find_map(|variable| variable.strip_prefix(name));
                    found.unwrap_or_default().to_owned()
                };
                let key = format!("{} {}", value("WORKER__TRACK="), value("WORKER__RELEASE="));
                *found.entry(key).or_default() += 1;
            }
        }
        found
    }

    /// Kills every worker process, by SIGKILL.
    pub(crate) fn kill_workers(&self) {
        for pid in self.pids() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Process ids of all workers: by the mark of this ground's own control document.
    fn pids(&self) -> Vec<i32> {
        let control = format!(
            "WORKER__CONTROL__SOURCE=file:{}",
            self.path("state/control.json").display()
        );
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let ours = |path: PathBuf| {
            let environment = std::fs::read_to_string(path.join("environ")).unwrap_or_default();
            environment.split('\0').any(|variable| variable == control)
        };
        entries
            .filter(|entry| ours(entry.path()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Ids of the orders in the dead-letter queue; they are taken off it.
    pub(crate) async fn dead_letters(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        loop {
            let request = self.client.receive_message().queue_url(&self.dead_letter);
            let answer = request
                .max_number_of_messages(10)
                .visibility_timeout(60)
                .send()
                .await
                .unwrap();
            let messages = answer.messages.unwrap_or_default();
            if messages.is_empty() {
                return ids;
            }
            for message in messages {
                let body: serde_json::Value = serde_json::from_str(message.body().unwrap()).unwrap();
                ids.insert(body["order_id"].as_str().unwrap().to_owned());
                let request = self.client.delete_message().queue_url(&self.dead_letter);
                request
                    .receipt_handle(message.receipt_handle().unwrap())
                    .send()
                    .await
                    .unwrap();
            }
        }
    }

    /// Messages in a queue, however hidden.
    pub(crate) async fn left(&self, queue: &str) -> u64 {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::ApproximateNumberOfMessagesDelayed,
        ];
        let request = self.client.get_queue_attributes().queue_url(queue);
        let answer = request
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .unwrap();
        answer
            .attributes
            .unwrap()
            .values()
            .map(|value| value.parse::<u64>().unwrap())
            .sum()
    }

    /// For an endpoint that lives on.
    pub(crate) async fn delete_queues(&self) {
        for url in [&self.queue, &self.handover, &self.dead_letter] {
            self.client.delete_queue().queue_url(url).send().await.unwrap();
        }
    }

    /// Waits until everything is done, and holds the dead letters against the poison: nothing lost, nothing else dead-lettered.
    pub(crate) async fn accounts(&self) {
        let sent = self.end_stream().await;
        let until = Instant::now() + PATIENCE;
        while self.left(&self.queue).await + self.left(&self.handover).await > 0 {
            assert!(Instant::now() < until, "orders are left in the queues");
            sleep(Duration::from_millis(100)).await;
        }
        assert!(sent.orders > 300, "{}", sent.orders);
        assert_eq!(self.dead_letters().await, sent.poison);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Whatever a test has left.
        self.kill_workers();
    }
}

/// The arguments that roll `release` out.
pub(crate) fn rollout<'a>(release: &'a str, set: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["rollout", "--plan", "plan.toml", "--release", release];
    for variable in set {
        arguments.extend(["--set", variable]);
    }
    arguments
}

/// As Ctrl-C does.
pub(crate) fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
}

pub(crate) async fn ended(child: Child) -> Ended {
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("the command does not end").unwrap();
    let text = [output.stdout, output.stderr].concat();
    Ended {
        code: output.status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

async fn create(client: &Client, name: &str, attributes: &[(Attribute, &str)]) -> String {
    let attributes = attributes
        .iter()
        .map(|(name, value)| (name.clone(), (*value).to_owned()))
        .collect();
    let request = client
        .create_queue()
        .queue_name(name)
        .set_attributes(Some(attributes));
    request.send().await.unwrap().queue_url.unwrap()
}

fn order(id: &str, fault: Option<&str>) -> String {
    json!({
        "order_id": id,
        "customer": "c-1",
        "currency": "EUR",
        "items": [{ "sku": "s-1", "quantity": 1, "unit_price_cents": 1999 }],
        "fault": fault,
    })
    .to_string()
}

async fn send_batch(client: &Client, queue: &str, bodies: Vec<String>) {
    let entries = bodies.into_iter().enumerate().map(|(index, body)| {
        let entry = SendMessageBatchRequestEntry::builder().id(index.to_string());
        entry.message_body(body).build().unwrap()
    });
    let request = client.send_message_batch().queue_url(queue);
    let answer = request.set_entries(Some(entries.collect())).send().await.unwrap();
    assert!(answer.failed.is_empty(), "{:?}", answer.failed);
}

/// Ten batches a second, or more where they would be too large. In few large ones the messages would come in lumps, each for whoever has
/// waited longest, and a slow stream could pass a canary by for seconds.
async fn send(client: Client, queue: String, rate: u32, sent: Arc<Mutex<Sent>>, stop: CancellationToken) {
    let size = (rate / 10).clamp(1, 10);
    let mut tick = interval(Duration::from_secs(u64::from(size)) / rate);
    let size = u64::from(size);
    let mut next = 1;
    while !stop.is_cancelled() {
        tick.tick().await;
        let numbers: Vec<u64> = (next..next + size).collect();
        next += size;
        let is_poison = |number: &&u64| number.is_multiple_of(100);
        let bodies = numbers.iter().map(|number| {
            let fault = is_poison(&number).then_some("reject");
            order(&format!("o-{number}"), fault)
        });
        send_batch(&client, &queue, bodies.collect()).await;
        let mut sent = sent.lock().unwrap();
        sent.orders += size;
        sent.poison.extend(
            numbers
                .iter()
                .filter(is_poison)
                .map(|number| format!("o-{number}")),
        );
    }
}
