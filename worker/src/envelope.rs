//! What others wrap around a message, taken off for the handler.
//!
//! SNS puts a message into a JSON object unless its subscription says raw delivery; the extended client library puts
//! the body into S3 and sends a pointer. The handler sees what was in it. The message itself stays as it is: a copy to
//! the dead-letter queue has the envelope, and works wherever the message worked.

#[cfg(feature = "s3")]
pub mod s3;

pub mod pointer;
pub mod sns;

use std::future::Future;

use self::pointer::Pointer;
use crate::handler::{Context, Handler, Outcome, Reason};
use crate::message::Message;
use crate::trace;

/// The payload in S3 is gone.
pub const PAYLOAD_MISSING: Reason = Reason::new("payload_missing");
/// The payload in S3 is larger than allowed, or in a bucket that is not.
pub const PAYLOAD_REFUSED: Reason = Reason::new("payload_refused");

/// Which envelopes are taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Those of SNS.
    pub sns: bool,
    /// The extended client's pointers into these buckets; none are followed when there are none.
    pub s3_buckets: Vec<String>,
    /// The largest payload, in bytes.
    pub s3_max_bytes: usize,
}

/// Fetches what a pointer points to.
pub trait Payloads: Send + Sync + 'static {
    /// The payload, of at most `max` bytes.
    ///
    /// Cancel safe. An outcome instead of a payload is what becomes of the attempt.
    fn fetch(&self, pointer: &Pointer, max: usize) -> impl Future<Output = Result<String, Outcome>> + Send;
}

/// Where nothing is fetched: without the feature `s3`.
#[derive(Clone, Copy, Debug)]
pub enum NoPayloads {}

impl Payloads for NoPayloads {
    async fn fetch(&self, _: &Pointer, _: usize) -> Result<String, Outcome> {
        match *self {}
    }
}

/// None where the settings name no bucket.
impl<P: Payloads> Payloads for Option<P> {
    async fn fetch(&self, pointer: &Pointer, max: usize) -> Result<String, Outcome> {
        match self {
            Some(payloads) => payloads.fetch(pointer, max).await,
            None => Err(Outcome::unavailable(format!(
                "{pointer}: nothing is fetched from S3"
            ))),
        }
    }
}

/// A handler that sees messages without their envelopes.
#[derive(Clone, Debug)]
pub struct Unwrapped<H, P> {
    handler: H,
    payloads: P,
    options: Options,
    reasons: Vec<Reason>,
}

impl<H: Handler, P: Payloads> Unwrapped<H, P> {
    /// `handler`, with the envelopes of `options` taken off.
    #[must_use]
    pub fn new(handler: H, payloads: P, options: Options) -> Self {
        let mut reasons = handler.reasons().to_vec();
        if !options.s3_buckets.is_empty() {
            reasons.extend([PAYLOAD_MISSING, PAYLOAD_REFUSED]);
        }
        Self {
            handler,
            payloads,
            options,
            reasons,
        }
    }

    /// The message within; none when there is no envelope.
    async fn opened(&self, message: &Message) -> Result<Option<Message>, Outcome> {
        let mut opened = None;
        if self.options.sns {
            opened = sns::open(message);
        }
        if !self.options.s3_buckets.is_empty() {
            let outer = opened.as_ref().unwrap_or(message);
            let pointer = Pointer::of(outer).map_err(|wrong| Outcome::reject(Reason::UNDECODABLE, wrong))?;
            if let Some(pointer) = pointer {
                // Boxed: every attempt has room for what few need.
                let body = Box::pin(self.payload(&pointer)).await?;
                let mut inner = outer.clone();
                inner.body = body;
                for name in pointer::SIZE_ATTRIBUTES {
                    inner.attributes.remove(name);
                }
                opened = Some(inner);
            }
        }
        Ok(opened)
    }

    async fn payload(&self, pointer: &Pointer) -> Result<String, Outcome> {
        // A pointer comes from whoever may send: it must not read what this task may read besides.
        if !self.options.s3_buckets.contains(&pointer.bucket) {
            let error = format!("{pointer}: expected a bucket of envelope.s3_buckets");
            return Err(Outcome::reject(PAYLOAD_REFUSED, error));
        }
        self.payloads.fetch(pointer, self.options.s3_max_bytes).await
    }
}

impl<H: Handler, P: Payloads> Handler for Unwrapped<H, P> {
    async fn handle(&self, message: &Message, context: &Context) -> Outcome {
        match self.opened(message).await {
            Ok(None) => self.handler.handle(message, context).await,
            Ok(Some(inner)) => {
                // SNS carries the sender's trace within; the attempt was begun without it.
                trace::link(&inner);
                self.handler.handle(&inner, context).await
            }
            Err(outcome) => outcome,
        }
    }

    fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    async fn ready(&self) {
        self.handler.ready().await;
    }
}

#[cfg(test)]
mod tests;
