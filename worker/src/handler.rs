//! The seam to the application: one async method from a message to an [`Outcome`].

use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::failure::bounded;
use crate::message::Message;
use crate::release::Identity;

/// What processes messages.
///
/// A message can be delivered more than once, to this process or another: a handler is to be idempotent, with
/// [`Context::original_message_id`] as the key. A panic and an attempt over its deadline are failed attempts and
/// nothing else: the worker lives on.
pub trait Handler: Send + Sync + 'static {
    /// Processes one message and says what became of it.
    ///
    /// The future runs in a task of its own and is dropped at the next `await` when the deadline passes, when the
    /// lease on the message is lost, or at the end of a shutdown; [`Context::cancelled`] tells it. Work that blocks a
    /// thread cannot be ended from outside: use `tokio::task::spawn_blocking` and watch [`Context::is_cancelled`].
    fn handle(&self, message: &Message, context: &Context) -> impl Future<Output = Outcome> + Send;

    /// The reasons this handler rejects with, so that their series exist from the start.
    ///
    /// A reason that is not among them, nor built in, is counted as [`Reason::OTHER`].
    fn reasons(&self) -> &[Reason] {
        &[]
    }

    /// Waits until the handler can take messages: none is received before. To be cancel safe. Ready at once by default.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What became of an attempt, as the handler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The work is done; the message is deleted.
    Done,
    /// This attempt failed and another may succeed.
    Retry {
        /// The least time until then; a full-jitter exponential delay when there is none. At least 1 s is kept, at
        /// most what is left of SQS's 12 h.
        after: Option<Duration>,
        /// What to tell a person.
        error: String,
    },
    /// No attempt can ever succeed: the message goes to the dead-letter queue at once.
    Reject {
        /// Why, from a closed set: the label of the counters.
        reason: Reason,
        /// What to tell a person.
        error: String,
    },
    /// A dependency is down, which is not the message's fault: it is kept under its lease and tried again in place,
    /// so that an outage spends no receives.
    Unavailable {
        /// The least time until the next attempt; a jittered exponential delay when there is none.
        after: Option<Duration>,
        /// What to tell a person.
        error: String,
    },
}

impl Outcome {
    /// Try again later, with the default delay.
    #[must_use]
    pub fn retry(error: impl ToString) -> Self {
        Self::Retry {
            after: None,
            error: error.to_string(),
        }
    }

    /// Never this message.
    #[must_use]
    pub fn reject(reason: Reason, error: impl ToString) -> Self {
        Self::Reject {
            reason,
            error: error.to_string(),
        }
    }

    /// A dependency is down.
    #[must_use]
    pub fn unavailable(error: impl ToString) -> Self {
        Self::Unavailable {
            after: None,
            error: error.to_string(),
        }
    }
}

/// Why an attempt failed: a small closed set, safe as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// The attempt did not fail.
    pub const NONE: Self = Self("none");
    /// The handler asked for another attempt.
    pub const TRANSIENT: Self = Self("transient");
    /// A dependency is down.
    pub const DEPENDENCY: Self = Self("dependency");
    /// The attempt outlived its deadline.
    pub const DEADLINE: Self = Self("deadline");
    /// The handler panicked.
    pub const PANIC: Self = Self("panic");
    /// The lease on the message was lost: somebody else may have it by now.
    pub const LEASE: Self = Self("lease");
    /// The worker was told to stop before the attempt ended.
    pub const SHUTDOWN: Self = Self("shutdown");
    /// The rate breaker opened before the attempt ended, or before it began.
    pub const BREAKER: Self = Self("breaker");
    /// It was not tried: on a FIFO queue, on its last receive, it could not be handed back.
    pub const BLOCKED: Self = Self("blocked");
    /// The body cannot be decoded.
    pub const UNDECODABLE: Self = Self("undecodable");
    /// The body can be decoded and makes no sense.
    pub const INVALID: Self = Self("invalid");
    /// The handler rejected the message without a reason of its own.
    pub const REJECTED: Self = Self("rejected");
    /// A reason the handler did not declare.
    pub const OTHER: Self = Self("other");

    /// The reasons the worker itself knows.
    pub const BUILT_IN: [Self; 13] = [
        Self::NONE,
        Self::TRANSIENT,
        Self::DEPENDENCY,
        Self::DEADLINE,
        Self::PANIC,
        Self::LEASE,
        Self::SHUTDOWN,
        Self::BREAKER,
        Self::BLOCKED,
        Self::UNDECODABLE,
        Self::INVALID,
        Self::REJECTED,
        Self::OTHER,
    ];

    /// A reason of the application's own; `name` in `snake_case`, 1 to 40 characters.
    ///
    /// # Panics
    /// When `name` is anything else. In a `const`, where it belongs, that is an error of the compiler.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(is_name(name), "a reason is in snake_case, 1 to 40 characters");
        Self(name)
    }

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Whether `name` is in `snake_case` and has 1 to 40 characters, as reasons and signals have.
pub(crate) const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let byte = bytes[index];
        if !byte.is_ascii_lowercase() && !byte.is_ascii_digit() && byte != b'_' {
            return false;
        }
        index += 1;
    }
    !bytes.is_empty() && bytes.len() <= 40
}

/// What an attempt may want to know beside the message. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) identity: Arc<Identity>,
    pub(crate) original_message_id: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) deadline: Instant,
    pub(crate) course: Arc<Course>,
}

/// What the clones of a [`Context`] share with who made the attempt.
#[derive(Debug, Default)]
pub(crate) struct Course {
    cancelled: AtomicBool,
    cancellation: Notify,
    /// What the handler answered about its own work.
    signals: Mutex<Vec<(&'static str, bool)>>,
}

impl Course {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Release);
        self.cancellation.notify_waiters();
    }

    pub(crate) fn signals(&self) -> MutexGuard<'_, Vec<(&'static str, bool)>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    pub(crate) fn new(
        identity: Arc<Identity>,
        original_message_id: Arc<str>,
        attempt: u32,
        deadline: Instant,
    ) -> Self {
        Self {
            identity,
            original_message_id,
            attempt,
            deadline,
            course: Arc::default(),
        }
    }

    /// The attempt's number: the message's receive count, plus what was tried in place. 1 is the first.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the attempt is ended.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left until [`Context::deadline`].
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The release this attempt answers for, and its track.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The id under which the message was first sent: the idempotency key. It survives copies.
    #[must_use]
    pub fn original_message_id(&self) -> &str {
        &self.original_message_id
    }

    /// Answers a yes/no question about this message's work, for the comparison of releases: was the result empty, did the model
    /// decline, was a fallback used. `bad` is the answer that should not become more frequent.
    ///
    /// `name` is in `snake_case`; a later answer under the same name replaces the earlier. Names are few and fixed: a process
    /// counts the first 16 it meets ([`crate::evidence::recorder::MAX_SIGNALS`]).
    pub fn signal(&self, name: &'static str, bad: bool) {
        let mut signals = self.course.signals();
        match signals.iter().position(|(known, _)| *known == name) {
            Some(index) => signals[index].1 = bad,
            None if signals.len() < crate::evidence::recorder::MAX_SIGNALS => signals.push((name, bad)),
            None => {}
        }
    }

    /// Waits until the attempt is cancelled: its deadline passed, its lease is lost, or the worker stops.
    pub async fn cancelled(&self) {
        let mut cancelled = std::pin::pin!(self.course.cancellation.notified());
        // What comes between the look and the wait must end the wait.
        cancelled.as_mut().enable();
        if !self.is_cancelled() {
            cancelled.await;
        }
    }

    /// Whether the attempt is cancelled; for work that cannot wait.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.course.cancelled.load(Acquire)
    }
}

/// A handler of decoded bodies.
pub trait JsonHandler: Send + Sync + 'static {
    /// What the body is decoded to.
    type Body: DeserializeOwned + Send;

    /// As [`Handler::handle`], with the decoded body.
    fn handle(
        &self,
        body: Self::Body,
        message: &Message,
        context: &Context,
    ) -> impl Future<Output = Outcome> + Send;

    /// As [`Handler::reasons`].
    fn reasons(&self) -> &[Reason] {
        &[]
    }
}

/// What is told of a body that does not decode, in bytes at most.
const MAX_ERROR_BYTES: usize = 512;

/// Makes a [`Handler`] of a [`JsonHandler`]: a body that does not decode is rejected as [`Reason::UNDECODABLE`].
#[derive(Clone, Debug)]
pub struct Json<H>(pub H);

impl<H: JsonHandler> Handler for Json<H> {
    async fn handle(&self, message: &Message, context: &Context) -> Outcome {
        match serde_json::from_str(&message.body) {
            Ok(body) => self.0.handle(body, message, context).await,
            // The error may repeat what it stumbled over, which may be as large as a message.
            Err(error) => Outcome::reject(Reason::UNDECODABLE, bounded(&error.to_string(), MAX_ERROR_BYTES)),
        }
    }

    fn reasons(&self) -> &[Reason] {
        self.0.reasons()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_reasons_obey_the_rule_for_reasons() {
        for reason in Reason::BUILT_IN {
            assert_eq!(Reason::new(reason.as_str()), reason);
        }
    }

    #[test]
    #[should_panic(expected = "snake_case")]
    fn a_reason_is_no_sentence() {
        let _ = Reason::new("card declined");
    }
}
