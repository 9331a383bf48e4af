//! Every setting: its key, what it takes, its default and its meaning. `docs/configuration.md` is made of this table.

use std::fmt;
use std::time::Duration;

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text of the shape described.
    Text(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Count {
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A duration with its unit.
    Duration {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
        /// Whether SQS takes it, which knows whole seconds only.
        whole_seconds: bool,
    },
    /// 0 to 1.
    Ratio,
    /// The URL of a queue.
    Url,
    /// The URL of anything else.
    WebUrl,
    /// `host:port`, the host an IP address.
    Address,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(shape) => f.write_str(shape),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Duration {
                min,
                max,
                whole_seconds,
            } => {
                let whole = if *whole_seconds { " in whole seconds" } else { "" };
                let (min, max) = (humantime::format_duration(*min), humantime::format_duration(*max));
                write!(
                    f,
                    "a duration with a unit{whole}, from {min} to {max} (such as 500ms, 20s or 5m)"
                )
            }
            Self::Ratio => f.write_str("a number from 0 to 1"),
            Self::Url => f.write_str("a queue URL, http:// or https://"),
            Self::WebUrl => f.write_str("a URL, http:// or https://, such as http://127.0.0.1:8080/messages"),
            Self::Address => f.write_str("an IP address and port, such as 127.0.0.1:9464"),
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// `section.key`, as in the file.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds when nobody says anything; none when there is nothing.
    pub default: Option<&'static str>,
    /// One or two sentences.
    pub help: &'static str,
}

impl Field {
    /// The environment variable: `WORKER__SECTION__KEY`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WORKER__{}", self.key.replace('.', "__").to_uppercase())
    }
}

const fn field(key: &'static str, kind: Kind, default: Option<&'static str>, help: &'static str) -> Field {
    Field {
        key,
        kind,
        default,
        help,
    }
}

const fn count(min: usize, max: usize) -> Kind {
    Kind::Count { min, max }
}

/// Yes or no.
const FLAG: Kind = Kind::Choice(&["false", "true"]);

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
        whole_seconds: false,
    }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
        whole_seconds: true,
    }
}

/// Every setting, in the order of the documentation.
pub const FIELDS: &[Field] = &[
    field(
        "release",
        Kind::Text("1 to 128 characters of A-Z a-z 0-9 . _ - + : @ /"),
        None,
        "The version of code and configuration that this process answers for; on every metric, log line and dead letter. Required but on ECS, where it is `<image tag>@<family>:<revision>` when not set.",
    ),
    field(
        "track",
        Kind::Choice(&["stable", "canary"]),
        Some("stable"),
        "The part the process plays while a release is rolled out. On ECS it follows from the service's name when not set: see `ecs.canary_suffix`.",
    ),
    field(
        "service",
        Kind::Text("1 to 128 printable characters"),
        None,
        "The service this process belongs to, in evidence and as the dimension `Service` in CloudWatch. There the queue's name stands where it is not known. On ECS it is the task's service when not set.",
    ),
    field(
        "concurrency",
        count(1, 10_000),
        Some("100"),
        "Slots: how many attempts may run at once. Messages are received for free slots only.",
    ),
    field(
        "queue.url",
        Kind::Url,
        None,
        "The queue to drain. This or `queue.name` is required.",
    ),
    field(
        "queue.name",
        Kind::Text("a queue's name in this account and region"),
        None,
        "The queue to drain, by name.",
    ),
    field(
        "queue.wait",
        seconds(0, 20),
        Some("20s"),
        "How long a receive waits for messages. The last one must end within `shutdown.timeout`, less a fifth of it (1 s to 5 s).",
    ),
    field(
        "queue.visibility_timeout",
        seconds(3, 43_200),
        None,
        "How long a message stays invisible to others without a heartbeat, which comes every third of it: the time until a crashed worker's messages come back. Default: the queue's own.",
    ),
    field(
        "dlq.url",
        Kind::Url,
        None,
        "Where failed messages are copied to, with their story. Default: the target of the queue's redrive policy.",
    ),
    field(
        "handover.url",
        Kind::Url,
        None,
        "The queue that takes what a canary failed: a canary copies it there, stable workers drain it with slots of its own. Standard queues only.",
    ),
    field(
        "handover.slots",
        count(1, 1_000),
        Some("2"),
        "Slots for the handover queue, on the stable track.",
    ),
    field(
        "control.source",
        Kind::Text("file:/path or ssm:/parameter"),
        None,
        "Where the control document is, which says what each track may do. With a source and without a document a canary receives nothing.",
    ),
    field(
        "control.interval",
        millis(100, 3_600_000),
        None,
        "How often the control document is read, less up to a fifth. Default: 5 s on the canary, 60 s on stable.",
    ),
    field(
        "breaker.max_failure_rate",
        Kind::Ratio,
        None,
        "The failure rate over which a canary stops itself, where the control document names none. Default: no such limit.",
    ),
    field(
        "evidence.slow_after",
        millis(1, 39_600_000),
        Some("1s"),
        "An attempt that ended well after more than this is counted as slow. The comparison of releases uses whole histograms instead.",
    ),
    field(
        "cloudwatch.sink",
        Kind::Choice(&["off", "api", "emf"]),
        Some("off"),
        "Whether evidence goes to CloudWatch: by `PutMetricData`, or as lines in the embedded metric format on standard output.",
    ),
    field(
        "cloudwatch.interval",
        seconds(1, 3_600),
        None,
        "How often it is published. Default: 10 s on the canary and while a release is rolled out, else 60 s.",
    ),
    field(
        "handler.kind",
        Kind::Choice(&["orders", "http"]),
        Some("orders"),
        "What processes the messages: the sample workload, or the application that `[http]` names.",
    ),
    field(
        "handler.deadline",
        millis(10, 39_600_000),
        Some("30s"),
        "When an attempt is ended and counts as failed. It may be longer than the visibility timeout: the lease is extended.",
    ),
    field(
        "http.url",
        Kind::WebUrl,
        Some("http://127.0.0.1:8080/"),
        "Where the handler `http` posts messages to: the application beside the worker.",
    ),
    field(
        "http.allow_remote",
        FLAG,
        Some("false"),
        "Whether `http.url` may name another host than this one. What stands behind a network is slower, and can be there when half of the fleet does not reach it.",
    ),
    field(
        "http.ready_path",
        Kind::Text("a path, such as /healthz"),
        None,
        "Where a GET answers 2xx once the application takes messages; none is received before. Default: any answer to a HEAD of `http.url` but 502, 503 and 504.",
    ),
    field(
        "http.timeout",
        millis(10, 39_600_000),
        None,
        "How long the application may take to answer; then the message is tried again. Default: until `handler.deadline`.",
    ),
    field(
        "http.content_type",
        Kind::Text("a media type, such as application/json"),
        Some("application/json"),
        "What the body is said to be. It is posted as it is.",
    ),
    field(
        "http.reasons",
        Kind::Text("up to 20 names in snake_case, separated by commas, none of them the worker's own"),
        None,
        "The reasons that the application may reject with, beside `rejected`, `invalid` and `undecodable`: labels of metrics and of dead letters.",
    ),
    field(
        "envelope.sns",
        FLAG,
        Some("false"),
        "Whether the handler sees what is in SNS's envelope, for a subscription without raw delivery. Messages without one are passed as they are.",
    ),
    field(
        "envelope.s3_buckets",
        Kind::Text("names of buckets, separated by commas"),
        None,
        "The buckets that the extended client library may have put bodies into. The handler sees those; a pointer elsewhere is rejected. Only in a worker that was built with the feature `s3`.",
    ),
    field(
        "envelope.s3_max_bytes",
        count(1, 1_073_741_824),
        Some("16777216"),
        "The largest body that is fetched from S3. Each slot may hold one.",
    ),
    field(
        "retry.base",
        millis(1, 900_000),
        Some("1s"),
        "The upper end of the first retry's delay, which doubles with each receive. Delays are uniform from 0 to the upper end, and at least 1 s.",
    ),
    field(
        "retry.max",
        millis(1_000, 39_600_000),
        Some("15m"),
        "The upper end of any retry's delay.",
    ),
    field(
        "settle.linger",
        millis(0, 1_000),
        Some("5ms"),
        "How long the first deletion, visibility change or copy of a batch waits for others.",
    ),
    field(
        "settle.give_up",
        millis(1_000, 3_600_000),
        Some("1m"),
        "How long a failed deletion, visibility change or copy is tried again. What is given up comes back by its visibility timeout.",
    ),
    field(
        "settle.remember",
        count(0, 10_000_000),
        Some("65536"),
        "How many finished message ids are remembered, so that a second delivery is deleted instead of processed; about 100 bytes each.",
    ),
    field(
        "failure.max_error_bytes",
        count(0, 65_536),
        Some("1024"),
        "The most bytes of an error text in a dead letter's story; at 0 it is left out.",
    ),
    field(
        "sqs.timeout",
        millis(100, 60_000),
        Some("5s"),
        "The timeout of every request to SQS but a receive, which may take `queue.wait` and 10 s.",
    ),
    field(
        "shutdown.timeout",
        millis(2_000, 118_000),
        Some("28s"),
        "From SIGTERM or SIGINT to the exit; shorter than ECS's `stopTimeout` (30 s by default, at most 120 s on Fargate). Handlers that still run a fifth of it (1 s to 5 s) before its end are cancelled and their messages handed back.",
    ),
    field(
        "startup.timeout",
        millis(0, 300_000),
        Some("10s"),
        "How long an SQS that cannot be reached is tried again at start.",
    ),
    field(
        "ecs.canary_suffix",
        Kind::Text("the end of a service's name"),
        Some("-canary"),
        "Where `track` is not set: a task of a service whose name ends so is a canary.",
    ),
    field(
        "ecs.task_protection",
        FLAG,
        Some("false"),
        "Whether ECS is asked not to end the task for a scale-in or a deployment while messages are in hand. Only for handlers that may outlast `stopTimeout`: a worker that is never idle holds up every deployment. The task's role needs `ecs:GetTaskProtection` and `ecs:UpdateTaskProtection`.",
    ),
    field(
        "admin.address",
        Kind::Address,
        Some("127.0.0.1:9464"),
        "Where `/livez`, `/readyz`, `/metrics`, `/evidence` and `/status` are served. Port 0 takes a free one, which the log names.",
    ),
    field(
        "log.level",
        Kind::Text("filter directives, such as info or worker=debug,info"),
        Some("info"),
        "What is logged. Success is at `debug`.",
    ),
    field(
        "log.format",
        Kind::Choice(&["auto", "json", "text"]),
        Some("auto"),
        "The form of a log line; `auto` is text on a terminal and JSON otherwise.",
    ),
    field(
        "log.failures_per_second",
        count(0, 100_000),
        Some("10"),
        "The most log lines a second of each kind of failure; the next line says how many were left out.",
    ),
    field(
        "otlp.endpoint",
        Kind::WebUrl,
        None,
        "Where spans are sent to by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. None without it. Only in a worker that was built with the feature `otlp`.",
    ),
    field(
        "otlp.sample_ratio",
        Kind::Ratio,
        Some("1"),
        "The share of attempts that have a span.",
    ),
    field(
        "orders.latency",
        millis(0, 3_600_000),
        Some("0ms"),
        "How long the sample workload takes for an order.",
    ),
    field(
        "orders.slow_latency",
        millis(0, 3_600_000),
        Some("2s"),
        "How much longer a slow one takes.",
    ),
    field(
        "orders.retry_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that end in `Retry`.",
    ),
    field(
        "orders.reject_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that end in `Reject`.",
    ),
    field(
        "orders.slow_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that are slow.",
    ),
    field(
        "orders.hang_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that never end.",
    ),
    field(
        "orders.panic_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that panic.",
    ),
    field(
        "orders.crash_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that kill the process.",
    ),
    field(
        "orders.unavailable_ratio",
        Kind::Ratio,
        Some("0"),
        "Fault of the release: the share of attempts that end in `Unavailable`.",
    ),
];

/// The setting called `key`.
#[must_use]
pub fn find(key: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.key == key)
}
