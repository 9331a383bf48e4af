//! Log lines: text on a terminal, one JSON object a line elsewhere, each with the release.
//!
//! A JSON line is flat: `timestamp`, `level`, `target`, `message`, `release`, `track`, the event's own fields, and
//! those of the attempt it was written in (`message_id`, `attempt`).

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::layer as fmt_layer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogFormat, LogSettings};
use crate::release::Identity;
use crate::trace;

/// A layer that takes spans besides the log, such as an exporter.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging to standard error for the whole process, and logs panics.
///
/// # Errors
/// When logging was started before, or the level is no directive.
pub fn start(settings: &LogSettings, identity: &Identity) -> Result<(), String> {
    start_with(settings, identity, None)
}

/// As [`start`]; `spans` takes the spans as well, whatever the level of the log.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    settings: &LogSettings,
    identity: &Identity,
    spans: Option<SpanLayer>,
) -> Result<(), String> {
    let filter: EnvFilter = settings
        .level
        .parse()
        .map_err(|error| format!("log.level: {error}"))?;
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let identity = identity.clone();
    let started = match (json, spans) {
        // What the spans of attempts would tell, lines know without them; they cost more than all else that is logged.
        (true, None) => tracing_subscriber::registry()
            .with(filter)
            .with(filter_fn(|metadata| !trace::is_attempt(metadata)))
            .with(json_lines(identity))
            .try_init(),
        (false, None) => tracing_subscriber::registry()
            .with(filter)
            .with(filter_fn(|metadata| !trace::is_attempt(metadata)))
            .with(text_lines(identity))
            .try_init(),
        // The filter is for the lines alone: one over both would hide spans from the exporter.
        (true, Some(spans)) => tracing_subscriber::registry()
            .with(spans)
            .with(json_lines(identity).with_filter(filter))
            .try_init(),
        (false, Some(spans)) => tracing_subscriber::registry()
            .with(spans)
            .with(text_lines(identity).with_filter(filter))
            .try_init(),
    };
    started.map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("a panic without a text");
        tracing::error!(location, panic = text, "panicked");
    }));
    Ok(())
}

fn json_lines<S>(identity: Identity) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt_layer()
        .with_writer(io::stderr)
        .fmt_fields(SpanFields)
        .event_format(JsonLines { identity })
}

fn text_lines<S>(identity: Identity) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt_layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .event_format(TextLines { identity })
}

struct TextLines {
    identity: Identity,
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Identity { release, track } = &self.identity;
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        write!(
            writer,
            "{time} {:>5} [{release} {track}] ",
            event.metadata().level()
        )?;
        ctx.format_fields(writer.by_ref(), event)?;
        if let Some(span) = ctx.lookup_current()
            && let Some(fields) = span.extensions().get::<FormattedFields<N>>()
        {
            write!(writer, " {{{fields}}}")?;
        } else if let Some((message_id, attempt)) = trace::current_attempt() {
            write!(writer, " {{message_id={message_id} attempt={attempt}}}")?;
        }
        writeln!(writer)
    }
}

struct JsonLines {
    identity: Identity,
}

impl<S> FormatEvent<S, SpanFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, SpanFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        // Spans first: an event's own field of the same name is the more exact one.
        for span in ctx
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<SpanFields>>()
                .map(|fields| format!("{{{}}}", fields.fields.trim_end_matches(',')));
            if let Some(Ok(Value::Object(fields))) = fields.as_deref().map(serde_json::from_str) {
                // `otel.` is for exporters.
                line.0
                    .extend(fields.into_iter().filter(|(name, _)| !name.starts_with("otel.")));
            }
        }
        if let Some((message_id, attempt)) = trace::current_attempt() {
            line.0.insert("message_id".to_owned(), (*message_id).into());
            line.0.insert("attempt".to_owned(), attempt.into());
        }
        event.record(&mut line);
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        line.0.insert("timestamp".to_owned(), now.into());
        line.0
            .insert("level".to_owned(), event.metadata().level().as_str().into());
        line.0
            .insert("target".to_owned(), event.metadata().target().into());
        line.0
            .insert("release".to_owned(), self.identity.release.as_str().into());
        line.0
            .insert("track".to_owned(), self.identity.track.as_str().into());
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// Keeps a span's fields as the members of a JSON object, a comma after each.
///
/// Every attempt has a span and few write a line in it, so this is to be cheap: no map is built until a line is.
struct SpanFields;

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Members {
            writer,
            result: Ok(()),
        };
        fields.record(&mut members);
        members.result
    }
}

struct Members<'writer> {
    writer: Writer<'writer>,
    result: fmt::Result,
}

impl Members<'_> {
    fn put(&mut self, field: &Field, value: impl fmt::Display) {
        self.result = self
            .result
            .and_then(|()| write!(self.writer, "\"{}\":{value},", field.name()));
    }

    fn put_text(&mut self, field: &Field, write: impl FnOnce(&mut Escaped<'_, '_>) -> fmt::Result) {
        let put = || {
            self.writer.write_char('"')?;
            self.writer.write_str(field.name())?;
            self.writer.write_str("\":\"")?;
            write(&mut Escaped(&mut self.writer))?;
            self.writer.write_str("\",")
        };
        self.result = self.result.and_then(|()| put());
    }
}

/// Writes text as the inside of a JSON string.
struct Escaped<'a, 'writer>(&'a mut Writer<'writer>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().all(plain) {
            return self.0.write_str(text);
        }
        let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?; // a text can always be written
        self.0.write_str(&quoted[1..quoted.len() - 1])
    }
}

impl Visit for Members<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, |text| text.write_str(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value)); // null, where JSON has no such number
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[derive(Default)]
struct Line(Map<String, Value>);

impl Line {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tokio::time::Instant;

    use super::*;
    use crate::handler::Context;
    use crate::message::{Attributes, Message};
    use crate::release::{Release, Track};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The one line that `write` writes.
    fn line(write: impl FnOnce()) -> Value {
        let sink = Sink::default();
        let identity = Identity {
            release: Release::new("1.4").unwrap(),
            track: Track::Canary,
        };
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(SpanFields)
            .event_format(JsonLines { identity })
            .with_writer(move || writer.clone())
            .finish()
            .with(filter_fn(|metadata| !trace::is_attempt(metadata)));
        tracing::subscriber::with_default(subscriber, write);
        let bytes = sink.0.lock().unwrap().clone();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_flat_and_names_release_message_and_attempt() {
        let line = line(|| {
            let _attempt = tracing::info_span!("work", message_id = "m-1", attempt = 2_u32).entered();
            let _name = tracing::info_span!("named", name = %"a \"b\"\t").entered();
            tracing::info!(total = 1.5, text = "a \"b\"\n", "order totalled");
        });
        for (key, value) in [
            ("message", Value::from("order totalled")),
            ("release", "1.4".into()),
            ("track", "canary".into()),
            ("message_id", "m-1".into()),
            ("attempt", 2.into()),
            ("name", "a \"b\"\t".into()),
            ("total", 1.5.into()),
            ("text", "a \"b\"\n".into()),
            ("level", "INFO".into()),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
    }

    #[test]
    fn a_line_of_an_attempt_names_it_without_a_span() {
        let message = Message {
            id: "m-2".into(),
            receipt: "r".into(),
            body: String::new(),
            attributes: Attributes::new(),
            receive_count: 3,
            sent_at: None,
            first_received_at: None,
            group: None,
            deduplication_id: None,
            trace_header: None,
            dead_letter_source: None,
            story: None,
        };
        let line = line(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(async {
                let identity = Arc::new(Identity {
                    release: Release::new("1.4").unwrap(),
                    track: Track::Canary,
                });
                let context = Context::new(identity, "m-1".into(), 3, Instant::now());
                assert!(trace::attempt(&message, &context, "orders").is_disabled());
                let attempt = async { tracing::info!("in an attempt") };
                trace::name(&message, &context).scope(attempt).await;
            });
        });
        assert_eq!(
            (&line["message_id"], &line["attempt"]),
            (&"m-2".into(), &3.into())
        );
    }
}
