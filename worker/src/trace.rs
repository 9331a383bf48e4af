//! Where a message comes from, as tracing tells it: W3C's `traceparent` and X-Ray's header.

#[cfg(feature = "otlp")]
pub mod otlp;

use std::fmt;
use std::sync::Arc;

use tracing::{Metadata, Span};

use crate::attempt::Ended;
use crate::handler::Context;
use crate::message::{Attribute, Message};

/// The attribute, and the HTTP header, of [W3C Trace Context](https://www.w3.org/TR/trace-context/).
pub const TRACEPARENT: &str = "traceparent";

/// The attribute, and the HTTP header, of vendors' own data that goes with [`TRACEPARENT`].
pub const TRACESTATE: &str = "tracestate";

/// A span that somebody else began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's id, not 0.
    pub trace_id: u128,
    /// The span's id, not 0.
    pub span_id: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// The span that sent `message`: from the attribute `traceparent`, else from X-Ray's header. None when there is
    /// neither, or nothing that can be read: a trace is no reason to fail a message.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        let attribute = message.attributes.get(TRACEPARENT);
        attribute
            .and_then(|attribute| Self::from_traceparent(attribute.as_text()?))
            .or_else(|| Self::from_xray(message.trace_header.as_deref()?))
    }

    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; later versions may have more behind that.
    #[must_use]
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = u8::try_from(hex(version, 2)?).ok()?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        Self::new(hex(trace, 32)?, hex(span, 16)?, hex(flags, 2)? & 1 == 1)
    }

    /// Reads `Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=1`, in any order, with anything else between.
    #[must_use]
    pub fn from_xray(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.split(';')
                .filter_map(|field| field.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        let mut root = field("Root")?.split('-');
        let (version, time, rest) = (root.next()?, root.next()?, root.next()?);
        if version != "1" || root.next().is_some() {
            return None;
        }
        let trace = (hex(time, 8)? << 96) | hex(rest, 24)?;
        Self::new(trace, hex(field("Parent")?, 16)?, field("Sampled") == Some("1"))
    }

    fn new(trace_id: u128, span_id: u128, sampled: bool) -> Option<Self> {
        let span_id = u64::try_from(span_id).ok()?;
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            sampled,
        })
    }
}

/// As `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            sampled,
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*sampled))
    }
}

tokio::task_local! {
    /// The id of the message, and the attempt's number.
    static ATTEMPT: (Arc<str>, u32);
}

/// What the log lines of an attempt name it by.
pub(crate) struct Name((Arc<str>, u32));

/// The name of the attempt that `context` is for.
pub(crate) fn name(message: &Message, context: &Context) -> Name {
    Name((Arc::clone(&message.id), context.attempt()))
}

impl Name {
    /// Lines that are written in `attempt` name it, without the cost of a span.
    pub(crate) fn scope<F: Future>(self, attempt: F) -> impl Future<Output = F::Output> {
        ATTEMPT.scope(self.0, attempt)
    }
}

/// The attempt that is made here, if one is.
pub(crate) fn current_attempt() -> Option<(Arc<str>, u32)> {
    ATTEMPT.try_with(Clone::clone).ok()
}

/// The span of an attempt: for the subscriber of an application, and exported with the feature `otlp`.
pub(crate) fn attempt(message: &Message, context: &Context, queue: &str) -> Span {
    #[cfg(feature = "otlp")]
    if let Some(span) = otlp::attempt(message, context, queue) {
        return span;
    }
    let _ = queue; // a label of exported spans only
    tracing::info_span!("attempt", message_id = &*message.id, attempt = context.attempt())
}

/// Whether it is the span of [`attempt`] that is not exported.
pub(crate) fn is_attempt(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == "attempt" && metadata.target() == module_path!()
}

/// Notes how the attempt ended.
pub(crate) fn ended(span: &Span, ended: &Ended) {
    #[cfg(feature = "otlp")]
    otlp::ended(span, ended);
    let _ = (span, ended);
}

/// Links the current span to the one that sent `message`, a message that came within another.
pub(crate) fn link(message: &Message) {
    #[cfg(feature = "otlp")]
    otlp::link(&Span::current(), message);
    let _ = message;
}

/// What to tell those that the current attempt asks: its own span where it is exported, else the message's.
pub(crate) fn traceparent(message: &Message) -> Option<String> {
    #[cfg(feature = "otlp")]
    if let Some(context) = otlp::current() {
        return Some(context.to_string());
    }
    let attribute = message.attributes.get(TRACEPARENT).and_then(Attribute::as_text)?;
    TraceContext::from_traceparent(attribute).map(|_| attribute.to_owned())
}

/// Exactly `digits` hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let all = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_and_anything_else_is_none() {
        let context = TraceContext::from_traceparent(PARENT).unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), PARENT);
        let later = PARENT.replacen("00", "01", 1) + "-what";
        assert_eq!(TraceContext::from_traceparent(&later), Some(context));
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::from_traceparent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn xrays_header_is_read_in_any_order_and_anything_else_is_none() {
        let (root, parent) = (
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Parent=53995c3f42cd8ad8",
        );
        for text in [
            format!("{root};{parent};Sampled=1"),
            format!("Sampled=1; {parent}; Lineage=a:0; {root}"),
        ] {
            let context = TraceContext::from_xray(&text).unwrap();
            assert_eq!(
                context.to_string(),
                "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
            );
        }
        assert!(
            !TraceContext::from_xray(&format!("{root};{parent}"))
                .unwrap()
                .sampled
        );
        for wrong in [
            root,
            parent,
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
        ] {
            assert_eq!(TraceContext::from_xray(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn anything_at_all_is_read_without_a_panic(text in any::<String>()) {
            let _ = (TraceContext::from_traceparent(&text), TraceContext::from_xray(&text));
        }
    }
}
