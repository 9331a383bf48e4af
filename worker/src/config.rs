//! The settings: defaults < TOML file < environment `WORKER__SECTION__KEY`.
//!
//! What somebody wrote ([`source::Source`]) is one thing, what the worker does ([`Settings`]) another: between them
//! every field is checked, and all mistakes are told at once.

pub mod fields;
mod handlers;
pub mod source;
mod unknown;

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Uri;

use self::source::{Problem, Source};
use crate::handlers::http;
use crate::handlers::orders::Faults;
use crate::release::{Identity, Release, Track};
use crate::retry::Backoff;
use crate::{consumer, control, ecs, envelope, settle};

/// Everything the worker can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `WORKER__RELEASE`, `WORKER__TRACK`
    pub identity: Identity,
    /// `WORKER__SERVICE`; not known without.
    pub service: Option<String>,
    /// `WORKER__QUEUE__…`
    pub queue: QueueSettings,
    /// `WORKER__DLQ__URL`; from the redrive policy when not set.
    pub dead_letter_url: Option<String>,
    /// `WORKER__HANDOVER__…`; none without a URL.
    pub handover: Option<Handover>,
    /// `WORKER__CONTROL__…`
    pub control: ControlSettings,
    /// `WORKER__BREAKER__MAX_FAILURE_RATE`; none without.
    pub max_failure_rate: Option<f64>,
    /// `WORKER__EVIDENCE__SLOW_AFTER`
    pub slow_after: Duration,
    /// `WORKER__CLOUDWATCH__…`
    pub cloudwatch: CloudWatchSettings,
    /// `WORKER__HANDLER__…`
    pub handler: HandlerSettings,
    /// `WORKER__HTTP__…`
    pub http: http::Options,
    /// `WORKER__ENVELOPE__…`
    pub envelope: envelope::Options,
    /// How the main queue is consumed. The visibility timeout in it holds when [`QueueSettings::visibility`] is set.
    pub consumer: consumer::Options,
    /// `WORKER__SQS__TIMEOUT`: of every request but a receive.
    pub request_timeout: Duration,
    /// `WORKER__SHUTDOWN__TIMEOUT`
    pub shutdown: ShutdownSettings,
    /// `WORKER__STARTUP__TIMEOUT`: how long an unreachable SQS is tried again at start.
    pub startup: Duration,
    /// `WORKER__ECS__…`, and what ECS says of the task.
    pub ecs: EcsSettings,
    /// `WORKER__ADMIN__ADDRESS`
    pub admin: SocketAddr,
    /// `WORKER__LOG__…`
    pub log: LogSettings,
    /// `WORKER__OTLP__…`; none without an endpoint.
    pub otlp: Option<OtlpSettings>,
    /// `WORKER__ORDERS__…`
    pub orders: Faults,
}

/// How the main queue is found and received from.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Where it is.
    pub locator: Locator,
    /// How long a message stays invisible without a beat; the queue's own timeout when not set.
    pub visibility: Option<Duration>,
}

/// A queue, by URL or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// `WORKER__QUEUE__URL`
    Url(String),
    /// `WORKER__QUEUE__NAME`
    Name(String),
}

/// The queue that takes what a canary failed.
#[derive(Clone, Debug)]
pub struct Handover {
    /// `WORKER__HANDOVER__URL`
    pub url: String,
    /// `WORKER__HANDOVER__SLOTS`: slots of their own for it, beside those of the main queue.
    pub slots: usize,
}

/// Where the control document is, and how often it is read.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// `WORKER__CONTROL__SOURCE`
    pub source: Option<control::source::Locator>,
    /// `WORKER__CONTROL__INTERVAL`; by track without.
    pub interval: Option<Duration>,
}

/// Whether and how evidence goes to CloudWatch.
#[derive(Clone, Copy, Debug)]
pub struct CloudWatchSettings {
    /// `WORKER__CLOUDWATCH__SINK`
    pub sink: CloudWatchSink,
    /// `WORKER__CLOUDWATCH__INTERVAL`; by track without.
    pub interval: Option<Duration>,
}

/// The way to CloudWatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudWatchSink {
    /// None.
    Off,
    /// `PutMetricData`.
    Api,
    /// Lines in the embedded metric format on standard output, for the log driver to deliver.
    Emf,
}

/// Which handler, and how long it may take.
#[derive(Clone, Debug)]
pub struct HandlerSettings {
    /// `WORKER__HANDLER__KIND`
    pub kind: HandlerKind,
}

/// The ready-made handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// The sample workload.
    Orders,
    /// The application beside the worker.
    Http,
}

/// What ECS has to do with the worker.
#[derive(Clone, Debug, Default)]
pub struct EcsSettings {
    /// `WORKER__ECS__CANARY_SUFFIX`
    pub canary_suffix: String,
    /// `WORKER__ECS__TASK_PROTECTION`
    pub task_protection: bool,
    /// The variable `ECS_AGENT_URI`.
    pub agent: Option<String>,
    /// The task, as its metadata says.
    pub known: ecs::Known,
}

/// How long a shutdown may take, in all.
#[derive(Clone, Copy, Debug)]
pub struct ShutdownSettings {
    /// From the signal to the exit; less than ECS's `stopTimeout`.
    pub timeout: Duration,
}

impl ShutdownSettings {
    /// Kept for settling and flushing after the handlers are cut off: a fifth, 1 s at least and 5 s at most.
    #[must_use]
    pub fn reserve(self) -> Duration {
        (self.timeout / 5).clamp(Duration::from_secs(1), Duration::from_secs(5))
    }
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `WORKER__LOG__LEVEL`: directives as `tracing-subscriber`'s `EnvFilter` reads them.
    pub level: String,
    /// `WORKER__LOG__FORMAT`
    pub format: LogFormat,
    /// `WORKER__LOG__FAILURES_PER_SECOND`
    pub failures_per_second: u32,
}

/// Where spans go.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// `WORKER__OTLP__ENDPOINT`
    pub endpoint: Uri,
    /// `WORKER__OTLP__SAMPLE_RATIO`
    pub sample_ratio: f64,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Settings {
    /// Checks what `source` says.
    ///
    /// # Errors
    /// Every mistake, unknown settings included, in the order of [`fields::FIELDS`].
    pub fn check(source: &Source) -> Result<Self, Vec<Problem>> {
        let mut reader = source.reader();
        let settings = Self::read(&mut reader);
        let problems = reader.problems();
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems),
        }
    }

    /// What sending needs: the queue, and the timeout of a request. It sends for no release.
    ///
    /// # Errors
    /// Every mistake in these, and unknown settings.
    pub fn check_for_sending(source: &Source) -> Result<(Locator, Duration), Vec<Problem>> {
        let mut reader = source.reader();
        let (locator, timeout) = (locator(&mut reader), reader.duration("sqs.timeout"));
        let problems = reader.problems();
        match (locator, timeout) {
            (Some(locator), Some(timeout)) if problems.is_empty() => Ok((locator, timeout)),
            _ => Err(problems),
        }
    }

    /// `None` only where the reader has noted a problem.
    fn read(reader: &mut source::Reader<'_>) -> Option<Self> {
        let release = reader
            .required("release")
            .and_then(|name| reader.parse("release", &name, Release::new));
        let track = reader
            .choice("track")
            .and_then(|track| track.parse::<Track>().ok());
        let service = service(reader);
        let locator = locator(reader);
        let dead_letter_url = reader.url("dlq.url");
        let handover_url = reader.url("handover.url");
        let handover_slots = reader.count("handover.slots");
        let wait = reader.duration("queue.wait");
        let visibility = reader.optional_duration("queue.visibility_timeout");
        let control = control_settings(reader);
        let max_failure_rate = reader.optional_ratio("breaker.max_failure_rate");
        let slow_after = reader.duration("evidence.slow_after");
        let cloudwatch = cloudwatch(reader);
        let kind = handlers::handler_kind(reader);
        let http = handlers::http_options(reader);
        let envelope = handlers::envelope_options(reader);
        let deadline = reader.duration("handler.deadline");
        let request_timeout = reader.duration("sqs.timeout");
        let shutdown = reader
            .duration("shutdown.timeout")
            .map(|timeout| ShutdownSettings { timeout });
        let startup = reader.duration("startup.timeout");
        let ecs = ecs_settings(reader);
        let admin = reader.address("admin.address");
        let log = log(reader);
        let otlp = otlp(reader);
        let orders = handlers::orders(reader);
        let consumer = consumer_options(reader, wait, visibility, deadline);
        last_receive_ends(reader, wait, shutdown);
        Some(Self {
            identity: Identity {
                release: release?,
                track: track?,
            },
            service: service?,
            queue: QueueSettings {
                locator: locator?,
                visibility: visibility?,
            },
            dead_letter_url: dead_letter_url?,
            handover: match (handover_url?, handover_slots?) {
                (Some(url), slots) => Some(Handover { url, slots }),
                (None, _) => None,
            },
            control: control?,
            max_failure_rate: max_failure_rate?,
            slow_after: slow_after?,
            cloudwatch: cloudwatch?,
            handler: HandlerSettings { kind: kind? },
            http: http?,
            envelope: envelope?,
            consumer: consumer?,
            request_timeout: request_timeout?,
            shutdown: shutdown?,
            startup: startup?,
            ecs: ecs?,
            admin: admin?,
            log: log?,
            otlp: otlp?,
            orders: orders?,
        })
    }
}

fn service(reader: &mut source::Reader<'_>) -> Option<Option<String>> {
    let Some(name) = reader.optional("service") else {
        return Some(None);
    };
    let fits = |name: &str| {
        let printable = name.chars().all(|c| c.is_ascii_graphic());
        if (1..=128).contains(&name.len()) && printable {
            Ok(name.to_owned())
        } else {
            Err(())
        }
    };
    reader.parse("service", &name, fits).map(Some)
}

fn control_settings(reader: &mut source::Reader<'_>) -> Option<ControlSettings> {
    let source = match reader.optional("control.source") {
        None => Some(None),
        Some(text) => reader.parse("control.source", &text, str::parse).map(Some),
    };
    let interval = reader.optional_duration("control.interval");
    Some(ControlSettings {
        source: source?,
        interval: interval?,
    })
}

fn cloudwatch(reader: &mut source::Reader<'_>) -> Option<CloudWatchSettings> {
    let sink = reader.choice("cloudwatch.sink").map(|sink| match sink {
        "api" => CloudWatchSink::Api,
        "emf" => CloudWatchSink::Emf,
        _ => CloudWatchSink::Off,
    });
    let interval = reader.optional_duration("cloudwatch.interval");
    Some(CloudWatchSettings {
        sink: sink?,
        interval: interval?,
    })
}

/// A shutdown waits for the receives under way, and the last may have just begun.
fn last_receive_ends(
    reader: &mut source::Reader<'_>,
    wait: Option<Duration>,
    shutdown: Option<ShutdownSettings>,
) {
    if let (Some(wait), Some(shutdown)) = (wait, shutdown)
        && wait + shutdown.reserve() > shutdown.timeout
    {
        let most = shutdown.timeout.saturating_sub(shutdown.reserve());
        reader.note(
            "queue.wait",
            &format!(
                "at most {most:?}, so that the last receive ends within shutdown.timeout ({:?})",
                shutdown.timeout
            ),
        );
    }
}

fn locator(reader: &mut source::Reader<'_>) -> Option<Locator> {
    match (reader.url("queue.url")?, reader.optional("queue.name")) {
        (Some(url), None) => Some(Locator::Url(url)),
        (None, Some(name)) => Some(Locator::Name(name)),
        (Some(_), Some(_)) => {
            reader.note("queue.name", "only one of queue.url and queue.name");
            None
        }
        (None, None) => {
            reader.note("queue.url", "the queue's URL, or its name as queue.name");
            None
        }
    }
}

fn consumer_options(
    reader: &mut source::Reader<'_>,
    wait: Option<Duration>,
    visibility: Option<Option<Duration>>,
    deadline: Option<Duration>,
) -> Option<consumer::Options> {
    let concurrency = reader.count("concurrency");
    let base = reader.duration("retry.base");
    let max = reader.duration("retry.max");
    let linger = reader.duration("settle.linger");
    let give_up = reader.duration("settle.give_up");
    let remember = reader.count("settle.remember");
    let max_error_bytes = reader.count("failure.max_error_bytes");
    let retry = Backoff {
        base: base?,
        max: max?,
    };
    if retry.base > retry.max {
        reader.note("retry.base", "at most retry.max");
    }
    Some(consumer::Options {
        concurrency: concurrency?,
        wait: wait?,
        visibility: visibility?.unwrap_or(Duration::from_secs(30)),
        deadline: deadline?,
        retry,
        settle: settle::Options {
            linger: linger?,
            give_up: give_up?,
            calls: 8,
            backoff: Backoff {
                base: Duration::from_millis(100),
                max: Duration::from_secs(5),
            },
            refused_delay: Duration::from_secs(30),
        },
        remember: remember?,
        max_error_bytes: max_error_bytes?,
        seed: None,
    })
}

fn ecs_settings(reader: &mut source::Reader<'_>) -> Option<EcsSettings> {
    let task_protection = reader.flag("ecs.task_protection");
    let suffix = reader.required("ecs.canary_suffix");
    let canary_suffix = suffix.and_then(|suffix| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        reader.parse("ecs.canary_suffix", &suffix, |suffix| {
            let whole = suffix.chars().all(allowed);
            whole.then(|| suffix.to_owned()).ok_or(())
        })
    });
    Some(EcsSettings {
        canary_suffix: canary_suffix?,
        task_protection: task_protection?,
        ..EcsSettings::default()
    })
}

fn log(reader: &mut source::Reader<'_>) -> Option<LogSettings> {
    let level = reader.required("log.level").and_then(|level| {
        reader.parse("log.level", &level, |level| {
            level.parse::<tracing_subscriber::EnvFilter>()?;
            // A mistyped level reads as the name of a target: nothing else would be logged.
            for directive in level.split(',').map(str::trim) {
                if !directive.contains(['=', '[']) {
                    directive.parse::<tracing_subscriber::filter::LevelFilter>()?;
                }
            }
            Ok::<_, Box<dyn std::error::Error>>(level.to_owned())
        })
    });
    let format = reader.choice("log.format").map(|format| match format {
        "json" => LogFormat::Json,
        "text" => LogFormat::Text,
        _ => LogFormat::Auto,
    });
    let lines = reader.count("log.failures_per_second");
    Some(LogSettings {
        level: level?,
        format: format?,
        failures_per_second: u32::try_from(lines?).unwrap_or(u32::MAX),
    })
}

fn otlp(reader: &mut source::Reader<'_>) -> Option<Option<OtlpSettings>> {
    let endpoint = reader.optional_web_url("otlp.endpoint");
    let sample_ratio = reader.ratio("otlp.sample_ratio");
    let (endpoint, sample_ratio) = (endpoint?, sample_ratio?);
    if endpoint.is_some() && !cfg!(feature = "otlp") {
        reader.note(
            "otlp.endpoint",
            "none: this worker was built without the feature otlp",
        );
    }
    Some(endpoint.map(|endpoint| OtlpSettings {
        endpoint,
        sample_ratio,
    }))
}

#[cfg(test)]
mod tests;
