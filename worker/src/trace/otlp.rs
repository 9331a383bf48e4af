//! Spans to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! One span an attempt, of the kind "consumer", with the attributes of the
//! [messaging conventions](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/), linked to the span
//! that sent the message. Spans that a handler begins by `tracing` are its children. Exported in batches by a thread of
//! its own; what does not fit into its queue is dropped, so that a slow collector never slows down the work.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_http::{HttpClient as CollectorClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::TraceContext;
use crate::attempt::{Ended, Ending};
use crate::handler::Context;
use crate::http_client::{HttpClient, read};
use crate::message::Message;
use crate::release::Identity;

/// How long an export may take, and the end of all exports.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Whether spans are exported: then each attempt has one.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Options {
    /// The collector's address for traces, path included.
    pub endpoint: Uri,
    /// The share of attempts that have a span.
    pub sample_ratio: f64,
    /// `service.name`.
    pub service: String,
}

/// The export; to be ended by [`Spans::shutdown`].
#[derive(Debug)]
pub struct Spans(SdkTracerProvider);

impl Spans {
    /// Starts the export of spans that answer for `identity`. In a runtime, which makes the requests.
    ///
    /// # Errors
    /// When the exporter cannot be made of the options.
    pub fn start(options: &Options, identity: &Identity) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector {
                client: HttpClient::new(&options.endpoint),
                runtime: Handle::current(),
            })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(options.endpoint.to_string())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| format!("otlp.endpoint: {error}"))?;
        let resource = Resource::builder()
            .with_service_name(options.service.clone())
            .with_attribute(KeyValue::new("service.version", identity.release.to_string()))
            .with_attribute(KeyValue::new("worker.track", identity.track.as_str()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                options.sample_ratio,
            ))))
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// The layer that makes spans of `tracing` spans of OpenTelemetry.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        ENABLED.store(true, Relaxed);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("worker"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_exported))
    }

    /// Exports what is left; 2 s at most. Blocks its thread.
    pub fn shutdown(&self) {
        ENABLED.store(false, Relaxed);
        if let Err(error) = self.0.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(%error, "not all spans could be exported");
        }
    }
}

/// Spans of the application and of the worker; not those of the libraries that carry them away.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let carries = ["aws_", "h2", "hyper", "opentelemetry", "rustls", "tower"];
    metadata.is_span()
        && *metadata.level() <= Level::INFO
        && !carries.iter().any(|name| target.starts_with(name))
}

/// The collector, asked by way of the runtime: the exporter's thread has none.
#[derive(Debug)]
struct Collector {
    client: HttpClient,
    runtime: Handle,
}

#[async_trait]
impl CollectorClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let deadline = Instant::now() + EXPORT_TIMEOUT;
            let answer = client.send(request.map(Full::new), deadline).await?;
            let (head, body) = answer.into_parts();
            let (body, _) = read(body, MAX_ANSWER_BYTES, deadline).await;
            Ok::<_, HttpError>(Response::from_parts(head, Bytes::from(body)))
        };
        self.runtime.spawn(exchange).await?
    }
}

/// The span of an attempt; none when spans are not exported.
pub(super) fn attempt(message: &Message, context: &Context, queue: &str) -> Option<Span> {
    if !ENABLED.load(Relaxed) {
        return None;
    }
    let span = tracing::info_span!(
        "attempt",
        message_id = %message.id,
        attempt = context.attempt(),
        otel.name = format!("process {queue}"),
        otel.kind = "consumer",
    );
    let identity = context.identity();
    span.set_attribute("messaging.system", "aws_sqs");
    span.set_attribute("messaging.operation.type", "process");
    span.set_attribute("messaging.operation.name", "process");
    span.set_attribute("messaging.destination.name", queue.to_owned());
    span.set_attribute("messaging.message.id", message.id.to_string());
    let bytes = i64::try_from(message.body.len()).unwrap_or(i64::MAX);
    span.set_attribute("messaging.message.body.size", bytes);
    let original = context.original_message_id().to_owned();
    span.set_attribute("worker.original_message_id", original);
    span.set_attribute("worker.receive_count", i64::from(message.receive_count));
    span.set_attribute("worker.release", identity.release.to_string());
    span.set_attribute("worker.track", identity.track.as_str());
    link(&span, message);
    Some(span)
}

/// Links `span` to the one that sent `message`.
pub(super) fn link(span: &Span, message: &Message) {
    if let Some(context) = TraceContext::of(message) {
        let flags = if context.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        let (trace, sender) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
        span.add_link(SpanContext::new(
            trace,
            sender,
            flags,
            true,
            TraceState::default(),
        ));
    }
}

/// Notes how the attempt ended.
pub(super) fn ended(span: &Span, ended: &Ended) {
    span.set_attribute("worker.outcome", ended.ending.as_str());
    if ended.ending != Ending::Done {
        span.set_attribute("error.type", ended.reason.as_str());
        span.set_status(Status::error(ended.error.clone()));
    }
}

/// The span that is current, as `traceparent`; none when it is not exported.
pub(super) fn current() -> Option<TraceContext> {
    if !ENABLED.load(Relaxed) {
        return None;
    }
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| TraceContext {
        trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(span.span_id().to_bytes()),
        sampled: span.is_sampled(),
    })
}
