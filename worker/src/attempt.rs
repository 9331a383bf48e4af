//! One attempt: a handler's run over one message, ended by itself, its deadline, the loss of the lease or the end of a
//! shutdown.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::handler::{Context, Course, Handler, Outcome, Reason};
use crate::lease::Lease;
use crate::message::Message;
use crate::trace;

/// How an attempt ended: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The handler said [`Outcome::Done`].
    Done,
    /// The handler said [`Outcome::Retry`].
    Retry,
    /// The handler said [`Outcome::Reject`].
    Reject,
    /// The handler said [`Outcome::Unavailable`].
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The handler panicked.
    Panic,
    /// The lease was lost, or the worker stopped or its rate breaker opened before the handler ended.
    Lost,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Retry,
        Self::Reject,
        Self::Unavailable,
        Self::Timeout,
        Self::Panic,
        Self::Lost,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::Lost => "lost",
        }
    }

    /// Those of `reasons` that can go with this ending.
    pub(crate) fn reasons(self, reasons: &[Reason]) -> impl Iterator<Item = Reason> {
        let of = move |reason: &Reason| match self {
            Self::Done => *reason == Reason::NONE,
            Self::Retry => *reason == Reason::TRANSIENT,
            Self::Unavailable => *reason == Reason::DEPENDENCY,
            Self::Timeout => *reason == Reason::DEADLINE,
            Self::Panic => *reason == Reason::PANIC,
            Self::Lost => [Reason::LEASE, Reason::SHUTDOWN, Reason::BREAKER].contains(reason),
            Self::Reject => ![
                Reason::NONE,
                Reason::TRANSIENT,
                Reason::DEPENDENCY,
                Reason::DEADLINE,
                Reason::PANIC,
                Reason::LEASE,
                Reason::SHUTDOWN,
                Reason::BREAKER,
                Reason::BLOCKED,
            ]
            .contains(reason),
        };
        reasons.iter().copied().filter(of).collect::<Vec<_>>().into_iter()
    }
}

/// An attempt that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    pub(crate) reason: Reason,
    /// What the handler asked to wait.
    pub(crate) after: Option<Duration>,
    /// What to tell a person; empty when done.
    pub(crate) error: String,
    pub(crate) elapsed: Duration,
}

/// The rest of an attempt that was ended from outside: its work may still be on a thread.
#[derive(Debug)]
pub(crate) struct Remains(Option<JoinHandle<Outcome>>);

impl Remains {
    /// Of an attempt that ended by itself.
    pub(crate) const fn nothing() -> Self {
        Self(None)
    }

    /// Waits until the work has really ended. True when it ended `Done` after all.
    pub(crate) async fn ended(&mut self) -> bool {
        match self.0.as_mut() {
            None => false,
            Some(task) => {
                let result = task.await;
                self.0 = None;
                matches!(result, Ok(Outcome::Done))
            }
        }
    }
}

/// What ends an attempt from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    LeaseLost,
    Shutdown,
    Breaker,
    Deadline,
}

impl Cause {
    const fn told(self) -> (Ending, Reason, &'static str) {
        match self {
            Self::LeaseLost => (Ending::Lost, Reason::LEASE, "the lease on the message was lost"),
            Self::Shutdown => (Ending::Lost, Reason::SHUTDOWN, "the worker stops"),
            Self::Breaker => (
                Ending::Lost,
                Reason::BREAKER,
                "the release fails too much; its breaker opened",
            ),
            Self::Deadline => (
                Ending::Timeout,
                Reason::DEADLINE,
                "the attempt outlived its deadline",
            ),
        }
    }
}

/// An attempt under way: the handler in a task of its own, so that a panic or a blocked thread stays there.
#[derive(Debug)]
pub(crate) struct Running {
    task: JoinHandle<Outcome>,
    started: Instant,
    course: Arc<Course>,
    span: Span,
}

impl Running {
    pub(crate) fn start<H: Handler>(
        handler: &Arc<H>,
        message: &Arc<Message>,
        context: Context,
        queue: &str,
    ) -> Self {
        let span = trace::attempt(message, &context, queue);
        let (started, course) = (Instant::now(), Arc::clone(&context.course));
        let handler = Arc::clone(handler);
        let name = trace::name(message, &context);
        let message = Arc::clone(message);
        let named = name.scope(async move { handler.handle(&message, &context).await });
        let task = tokio::spawn(named.instrument(span.clone()));
        Self {
            task,
            started,
            course,
            span,
        }
    }

    /// Whether the handler has ended by itself, and how. Not to be asked again then.
    pub(crate) fn poll_ended(&mut self, cx: &mut task::Context<'_>) -> Poll<Ended> {
        let result = ready!(Pin::new(&mut self.task).poll(cx));
        let ended = finished(result, self.started.elapsed());
        trace::ended(&self.span, &ended);
        Poll::Ready(ended)
    }

    /// Ends the attempt from outside: its context is cancelled, and it is dropped at its next `await`.
    pub(crate) fn end(self, cause: Cause) -> (Ended, Remains) {
        self.course.cancel();
        self.task.abort();
        let (ending, reason, error) = cause.told();
        let ended = Ended {
            ending,
            reason,
            after: None,
            error: error.to_owned(),
            elapsed: self.started.elapsed(),
        };
        trace::ended(&self.span, &ended);
        (ended, Remains(Some(self.task)))
    }
}

/// Sees one attempt through.
pub(crate) async fn run(
    mut running: Running,
    deadline: Instant,
    lease: &Lease,
    cut: &CancellationToken,
    breaker: Option<&CancellationToken>,
) -> (Ended, Remains) {
    let cause = tokio::select! {
        biased;
        ended = poll_fn(|cx| running.poll_ended(cx)) => return (ended, Remains::nothing()),
        () = lease.lost() => Cause::LeaseLost,
        () = cut.cancelled() => Cause::Shutdown,
        () = opened(breaker) => Cause::Breaker,
        () = sleep_until(deadline) => Cause::Deadline,
    };
    running.end(cause)
}

/// Waits until the breaker opens, if there is one.
pub(crate) async fn opened(breaker: Option<&CancellationToken>) {
    match breaker {
        Some(breaker) => breaker.cancelled().await,
        None => std::future::pending().await,
    }
}

fn finished(result: Result<Outcome, JoinError>, elapsed: Duration) -> Ended {
    let (ending, reason, after, error) = match result {
        Ok(Outcome::Done) => (Ending::Done, Reason::NONE, None, String::new()),
        Ok(Outcome::Retry { after, error }) => (Ending::Retry, Reason::TRANSIENT, after, error),
        Ok(Outcome::Reject { reason, error }) => (Ending::Reject, reason, None, error),
        Ok(Outcome::Unavailable { after, error }) => (Ending::Unavailable, Reason::DEPENDENCY, after, error),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => (Ending::Panic, Reason::PANIC, None, panic_text(panic)),
            // Only a runtime that shuts down cancels a task whose handle is still held here.
            Err(_) => (
                Ending::Lost,
                Reason::SHUTDOWN,
                None,
                "the runtime stops".to_owned(),
            ),
        },
    };
    Ended {
        ending,
        reason,
        after,
        error,
        elapsed,
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    // A payload may panic when it is dropped; that must not reach the worker either.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(panic)));
    text
}
