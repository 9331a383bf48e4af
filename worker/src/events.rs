//! What happens, told once: each event writes its log line and its counters together, so that they cannot disagree.
//!
//! Success is logged at `debug`. Failures are limited to so many lines a second and kind; the next line that is
//! written says how many were left out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::attempt::{Ended, Ending};
use crate::breaker;
use crate::failure::{BrokenStory, StoryFate, TooLarge};
use crate::handler::Reason;
use crate::lease::LossCause;
use crate::message::Message;
use crate::metrics::{Action, Metrics};
use crate::queue::{ErrorKind, QueueError};

/// Where the events of one consumer go.
#[derive(Debug)]
pub struct Events {
    /// The consumer's series.
    pub metrics: Arc<Metrics>,
    handed_over: AtomicU64,
    queue: String,
    attempts: LineLimit,
    leases: LineLimit,
    settle: LineLimit,
    polls: LineLimit,
    stories: LineLimit,
}

impl Events {
    /// Events of the consumer of `queue`; at most `lines_per_second` log lines of each kind of failure.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, queue: &str, lines_per_second: u32) -> Self {
        let limit = || LineLimit::new(lines_per_second);
        Self {
            metrics,
            handed_over: AtomicU64::new(0),
            queue: queue.to_owned(),
            attempts: limit(),
            leases: limit(),
            settle: limit(),
            polls: limit(),
            stories: limit(),
        }
    }

    /// Messages that have reached the handover queue.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.handed_over.load(Relaxed)
    }

    /// Says how many lines were left out and not accounted for by a later line. To be called at the end.
    pub fn flush(&self) {
        let limits = [
            &self.attempts,
            &self.leases,
            &self.settle,
            &self.polls,
            &self.stories,
        ];
        let left_out: u64 = limits.into_iter().map(LineLimit::take_left_out).sum();
        if left_out > 0 {
            warn!(queue = %self.queue, left_out, "log lines of failures were left out");
        }
    }
}

/// At most so many lines a second; counts what it leaves out.
#[derive(Debug)]
struct LineLimit {
    per_second: u32,
    state: Mutex<LineState>,
}

#[derive(Debug)]
struct LineState {
    second: Instant,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    fn new(per_second: u32) -> Self {
        let state = LineState {
            second: Instant::now(),
            lines: 0,
            left_out: 0,
        };
        Self {
            per_second,
            state: Mutex::new(state),
        }
    }

    /// Whether to write a line now, and how many were left out since the last.
    fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(state.second) >= Duration::from_secs(1) {
            state.second = now;
            state.lines = 0;
        }
        if state.lines >= self.per_second {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }

    fn take_left_out(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).left_out)
    }
}

/// An attempt ended.
pub(crate) struct AttemptEnded<'a> {
    pub(crate) message: &'a Message,
    pub(crate) attempt: u32,
    pub(crate) ended: &'a Ended,
}

impl AttemptEnded<'_> {
    pub(crate) fn record(self, events: &Events) {
        let Self {
            message,
            attempt,
            ended,
        } = self;
        let (delivery, reason) = (message.delivery(), events.metrics.known(ended.reason));
        events
            .metrics
            .attempt(ended.ending, reason, delivery, ended.elapsed.as_secs_f64());
        let (outcome, ms) = (ended.ending.as_str(), ended.elapsed.as_millis());
        if ended.ending == Ending::Done {
            debug!(message_id = %message.id, attempt, delivery = delivery.as_str(), duration_ms = ms, "attempt done");
            return;
        }
        let Some(left_out) = events.attempts.admit() else {
            return;
        };
        warn!(
            queue = %events.queue,
            message_id = %message.id,
            original_message_id = message.original_id(),
            attempt,
            receive_count = message.receive_count,
            outcome,
            reason = reason.as_str(),
            duration_ms = ms,
            error = %ended.error,
            left_out,
            "attempt failed"
        );
    }
}

/// An attempt was ended from outside and its work goes on all the same, or has ended at last.
pub(crate) struct AttemptStuck<'a> {
    pub(crate) message: &'a Message,
    pub(crate) since: Duration,
}

impl AttemptStuck<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.stuck.increment(1.0);
        error!(
            queue = %events.queue,
            message_id = %self.message.id,
            running_ms = self.since.as_millis(),
            "attempt is cancelled and does not end; it holds its slot. Does the handler block its thread?"
        );
    }
}

/// A lease was lost.
pub(crate) struct LeaseLost<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) cause: LossCause,
    pub(crate) detail: Option<&'a str>,
}

impl LeaseLost<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.lease_lost(self.cause);
        let Some(left_out) = events.leases.admit() else {
            return;
        };
        warn!(
            queue = %events.queue,
            message_id = self.message_id,
            cause = self.cause.as_str(),
            detail = self.detail,
            left_out,
            "lease lost; the message will be delivered again"
        );
    }
}

/// A copy of a message reached the dead-letter queue.
pub(crate) struct DeadLettered<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) reason: Reason,
    pub(crate) story: StoryFate,
}

impl DeadLettered<'_> {
    pub(crate) fn record(self, events: &Events) {
        let reason = events.metrics.known(self.reason);
        events.metrics.dead_letter(reason, self.story);
        let Some(left_out) = events.settle.admit() else {
            return;
        };
        warn!(
            queue = %events.queue,
            message_id = self.message_id,
            reason = reason.as_str(),
            story = self.story.as_str(),
            left_out,
            "message copied to the dead-letter queue"
        );
    }
}

/// A message cannot be copied to the dead-letter queue; SQS's own redrive policy will move it.
pub(crate) struct CopyImpossible<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) error: TooLarge,
}

impl CopyImpossible<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.settle_failed(Action::Send);
        let Some(left_out) = events.settle.admit() else {
            return;
        };
        error!(
            queue = %events.queue,
            message_id = self.message_id,
            error = %self.error,
            left_out,
            "message cannot be copied to the dead-letter queue; it is left to the queue's redrive policy"
        );
    }
}

/// A message reached the handover queue.
pub(crate) struct HandedOver<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) reason: Reason,
    pub(crate) story: StoryFate,
}

impl HandedOver<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.handovers.increment(1);
        events.handed_over.fetch_add(1, Relaxed);
        let Some(left_out) = events.settle.admit() else {
            return;
        };
        let (queue, message_id, story) = (&events.queue, self.message_id, self.story.as_str());
        let reason = events.metrics.known(self.reason).as_str();
        warn!(%queue, message_id, reason, story, left_out, "message handed over to the stable release");
    }
}

/// A breaker opened.
pub(crate) struct BreakerOpened {
    pub(crate) kind: breaker::Kind,
}

impl BreakerOpened {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.breaker_opened(self.kind);
        let queue = &events.queue;
        match self.kind {
            breaker::Kind::Rate => {
                error!(%queue, kind = "rate", "the release fails more than it may: nothing is received but a probe a second");
            }
            breaker::Kind::Dependency => {
                warn!(%queue, kind = "dependency", "a dependency is down: nothing is received, what is in hand waits");
            }
        }
    }
}

/// A breaker closed.
pub(crate) struct BreakerClosed {
    pub(crate) kind: breaker::Kind,
}

impl BreakerClosed {
    pub(crate) fn record(self, events: &Events) {
        info!(queue = %events.queue, kind = self.kind.as_str(), "the breaker closed: work goes on");
    }
}

/// Entries of a batch failed and are tried again.
pub(crate) struct SettleRetried<'a> {
    pub(crate) action: Action,
    pub(crate) entries: u64,
    pub(crate) error: &'a QueueError,
}

impl SettleRetried<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.settle_retried(self.action, self.entries);
        let Some(left_out) = events.settle.admit() else {
            return;
        };
        warn!(
            queue = %events.queue,
            action = self.action.as_str(),
            entries = self.entries,
            error = %self.error,
            left_out,
            "settling failed and is tried again"
        );
    }
}

/// An entry was given up; the message comes back by its visibility timeout.
pub(crate) struct SettleFailed<'a> {
    pub(crate) action: Action,
    pub(crate) message_id: &'a str,
    pub(crate) error: &'a QueueError,
}

impl SettleFailed<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.settle_failed(self.action);
        let Some(left_out) = events.settle.admit() else {
            return;
        };
        let (queue, action, message_id) = (&events.queue, self.action.as_str(), self.message_id);
        if self.error.kind == ErrorKind::Receipt {
            // Somebody else has the message, or SQS has forgotten the handle: expected after a lost lease.
            info!(%queue, action, message_id, error = %self.error, left_out, "handle is no longer valid");
        } else {
            error!(
                %queue, action, message_id, error = %self.error, left_out,
                "settling given up; the message comes back by its visibility timeout"
            );
        }
    }
}

/// A message this process had already done was delivered again.
pub(crate) struct DuplicateDeleted<'a> {
    pub(crate) message: &'a Message,
}

impl DuplicateDeleted<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.duplicates.increment(1);
        let (message_id, receive_count) = (&self.message.id, self.message.receive_count);
        info!(queue = %events.queue, %message_id, receive_count, "delivered again after it was done; deleted");
    }
}

/// A message is handed back unfinished: the worker stops, or SQS's 12 h are over.
pub(crate) struct Returned<'a> {
    pub(crate) message: &'a Message,
    pub(crate) started: bool,
}

impl Returned<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.returned.increment(1);
        let (message_id, started) = (&self.message.id, self.started);
        info!(queue = %events.queue, %message_id, started, "message handed back unfinished");
    }
}

/// The worker stops: what is still waited for.
pub(crate) struct Draining {
    pub(crate) receives: usize,
    pub(crate) wait: Duration,
    pub(crate) in_hand: usize,
}

impl Draining {
    pub(crate) fn record(self, events: &Events) {
        let (queue, receives, in_hand) = (&events.queue, self.receives, self.in_hand);
        // Aborted, a receive would hide what SQS has just handed out until the visibility timeout.
        let text = match (receives, in_hand) {
            (0, 0) => "draining: nothing is under way",
            (0, _) => "draining: what is in hand is finished or handed back",
            (_, 0) => "draining: the last receive is waited for, never aborted",
            (_, _) => {
                "draining: the last receive is waited for, never aborted; what is in hand is finished or handed back"
            }
        };
        info!(%queue, receives, wait_ms = self.wait.as_millis(), in_hand, "{text}");
    }
}

/// A receive failed.
pub(crate) struct PollFailed<'a> {
    pub(crate) error: &'a QueueError,
    pub(crate) wait: Duration,
}

impl PollFailed<'_> {
    pub(crate) fn record(self, events: &Events) {
        let Some(left_out) = events.polls.admit() else {
            return;
        };
        let (queue, error, wait_ms) = (&events.queue, self.error, self.wait.as_millis());
        warn!(%queue, %error, wait_ms, left_out, "receiving failed; the next try waits");
    }
}

/// Receiving works again.
pub(crate) struct PollsRecovered {
    pub(crate) failures: u32,
}

impl PollsRecovered {
    pub(crate) fn record(self, events: &Events) {
        info!(queue = %events.queue, failures = self.failures, "receiving works again");
    }
}

/// A received message has a story that cannot be read; it is processed as if it had none.
pub(crate) struct StoryBroken<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) error: &'a BrokenStory,
}

impl StoryBroken<'_> {
    pub(crate) fn record(self, events: &Events) {
        events.metrics.stories_broken.increment(1);
        let Some(left_out) = events.stories.admit() else {
            return;
        };
        let (queue, message_id, error) = (&events.queue, self.message_id, self.error);
        warn!(%queue, message_id, %error, left_out, "the message's story is ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_over_the_limit_are_counted_and_told_later() {
        let limit = LineLimit::new(2);
        assert_eq!(limit.admit(), Some(0));
        assert_eq!(limit.admit(), Some(0));
        assert_eq!(limit.admit(), None);
        assert_eq!(limit.admit(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(limit.admit(), Some(2));
        assert_eq!(limit.take_left_out(), 0);
    }
}
