//! The breaker on what the handler depends on.
//!
//! After [`UNAVAILABLE_TO_OPEN`] attempts in a row that found a dependency down, nothing more is received, and what is in
//! hand waits under its lease. One message is tried at a time, at growing intervals: one of those in hand, or a new one when
//! there is none. As soon as an attempt finds the dependency up, the rest follow, spread over a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::evidence::Breaker;

/// Attempts in a row that must find a dependency down.
pub const UNAVAILABLE_TO_OPEN: u32 = 5;

/// Until the first probe.
pub const FIRST_PROBE: Duration = Duration::from_secs(1);

/// Between probes at most: how long an outage can seem to last after it has ended.
pub const SLOWEST_PROBE: Duration = Duration::from_secs(30);

/// The breaker.
#[derive(Debug)]
pub struct Dependency {
    state: Mutex<State>,
    /// Told whenever something that waits may go on.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    in_a_row: u32,
    phase: Phase,
    /// Messages that wait in place.
    waiting: usize,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { probe_at: Instant, interval: Duration },
    HalfOpen { interval: Duration },
}

/// What the polls may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polls {
    /// Receive whatever there is room for.
    Any,
    /// Receive one message.
    Probe,
    /// Receive nothing.
    None,
}

/// What a message or the polls may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Go,
    Probe,
    At(Instant),
    Wait,
}

impl Dependency {
    /// A closed breaker.
    #[must_use]
    pub fn new(rng: fastrand::Rng) -> Arc<Self> {
        let state = State {
            in_a_row: 0,
            phase: Phase::Closed,
            waiting: 0,
            rng,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> Breaker {
        match self.lock().phase {
            Phase::Closed => Breaker::Closed,
            Phase::Open { .. } => Breaker::Open,
            Phase::HalfOpen { .. } => Breaker::HalfOpen,
        }
    }

    /// Whether it is closed: what is in hand need not wait.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.lock().phase, Phase::Closed)
    }

    /// An attempt found a dependency down; `after` is what the handler asked to wait. True when that opened the breaker.
    pub fn unavailable(&self, after: Option<Duration>) -> bool {
        let mut state = self.lock();
        state.in_a_row = state.in_a_row.saturating_add(1);
        let (opened, interval) = match state.phase {
            Phase::Closed if state.in_a_row >= UNAVAILABLE_TO_OPEN => (true, FIRST_PROBE),
            Phase::HalfOpen { interval } => (false, (interval * 2).min(SLOWEST_PROBE)),
            // Attempts that were under way when it opened change nothing.
            Phase::Closed | Phase::Open { .. } => return false,
        };
        let wait = interval.max(after.unwrap_or_default().min(SLOWEST_PROBE));
        let jitter = 0.75 + 0.25 * state.rng.f64();
        state.phase = Phase::Open {
            probe_at: Instant::now() + wait.mul_f64(jitter),
            interval,
        };
        drop(state);
        self.changed.notify_waiters();
        opened
    }

    /// An attempt found the dependency up. True when that closed the breaker.
    pub fn available(&self) -> bool {
        let mut state = self.lock();
        state.in_a_row = 0;
        if matches!(state.phase, Phase::Closed) {
            return false;
        }
        state.phase = Phase::Closed;
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// An attempt ended in a way that says nothing; if it was the probe, another one may go.
    pub fn inconclusive(&self) {
        let mut state = self.lock();
        if let Phase::HalfOpen { interval } = state.phase {
            state.phase = Phase::Open {
                probe_at: Instant::now() + FIRST_PROBE,
                interval,
            };
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Waits until [`Dependency::polls`] allows something. Cancel safe.
    pub async fn ready(&self) {
        self.until(|dependency| dependency.look(|state| state.waiting == 0))
            .await;
    }

    /// Whether messages may be received: any number ([`Polls::Any`]), or one as a probe, which is then under way.
    #[must_use]
    pub fn polls(&self) -> Polls {
        match self.take(|state| state.waiting == 0) {
            Turn::Go => Polls::Any,
            Turn::Probe => Polls::Probe,
            Turn::At(_) | Turn::Wait => Polls::None,
        }
    }

    /// Waits until it is not closed. Cancel safe.
    pub async fn opened(&self) {
        self.until(|dependency| {
            if dependency.is_closed() {
                Turn::Wait
            } else {
                Turn::Go
            }
        })
        .await;
    }

    /// Waits until a message in hand may be tried again. Cancel safe before it returns.
    pub async fn in_place(&self) {
        let _waiting = Waiting::new(self);
        let turn = self.until(|dependency| dependency.take(|_| true)).await;
        if turn == Turn::Go {
            // All that waited may go: not all in one instant.
            let spread = self.lock().rng.f64();
            tokio::time::sleep(Duration::from_secs(1).mul_f64(spread)).await;
        }
    }

    /// Waits until `look` gives a turn.
    async fn until(&self, look: impl Fn(&Self) -> Turn) -> Turn {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // A change between the look and the wait must wake this one.
            changed.as_mut().enable();
            match look(self) {
                turn @ (Turn::Go | Turn::Probe) => return turn,
                Turn::Wait => changed.await,
                Turn::At(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    fn look(&self, may_probe: impl Fn(&State) -> bool) -> Turn {
        let state = self.lock();
        match state.phase {
            Phase::Closed => Turn::Go,
            Phase::Open { .. } if !may_probe(&state) => Turn::Wait,
            Phase::Open { probe_at, .. } if probe_at <= Instant::now() => Turn::Probe,
            Phase::Open { probe_at, .. } => Turn::At(probe_at),
            Phase::HalfOpen { .. } => Turn::Wait,
        }
    }

    /// As `look`, but a probe is then under way.
    fn take(&self, may_probe: impl Fn(&State) -> bool) -> Turn {
        let turn = self.look(may_probe);
        let mut state = self.lock();
        match (turn, state.phase) {
            (Turn::Probe, Phase::Open { interval, .. }) => {
                state.phase = Phase::HalfOpen { interval };
                Turn::Probe
            }
            // Somebody else was faster in between.
            (Turn::Probe, Phase::HalfOpen { .. }) => Turn::Wait,
            (Turn::Probe, Phase::Closed) => Turn::Go,
            (turn, _) => turn,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that waits in place; while there is one, the polls do not probe.
struct Waiting<'a>(&'a Dependency);

impl<'a> Waiting<'a> {
    fn new(dependency: &'a Dependency) -> Self {
        dependency.lock().waiting += 1;
        Self(dependency)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Arc<Dependency> {
        let dependency = Dependency::new(fastrand::Rng::with_seed(1));
        for _ in 1..UNAVAILABLE_TO_OPEN {
            assert!(!dependency.unavailable(None));
        }
        assert!(dependency.unavailable(None));
        dependency
    }

    #[tokio::test(start_paused = true)]
    async fn successes_in_between_keep_it_closed() {
        let dependency = Dependency::new(fastrand::Rng::with_seed(1));
        for _ in 0..10 {
            for _ in 1..UNAVAILABLE_TO_OPEN {
                assert!(!dependency.unavailable(None));
            }
            assert!(!dependency.available());
        }
        assert!(dependency.is_closed());
        assert_eq!(dependency.polls(), Polls::Any);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_at_growing_intervals_until_it_is_up_and_then_all() {
        let dependency = opened();
        let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let tried = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (dependency, up, tried) = (Arc::clone(&dependency), Arc::clone(&up), Arc::clone(&tried));
            tasks.spawn(async move {
                loop {
                    dependency.in_place().await;
                    tried.lock().unwrap().push(start.elapsed());
                    if up.load(std::sync::atomic::Ordering::Relaxed) {
                        dependency.available();
                        return;
                    }
                    dependency.unavailable(None);
                }
            });
        }
        let polls = tokio::spawn({
            let dependency = Arc::clone(&dependency);
            async move { dependency.ready().await }
        });
        tokio::time::sleep(Duration::from_secs(600)).await;
        let probes = tried.lock().unwrap().len();
        assert!((20..40).contains(&probes), "{probes} probes in ten minutes");
        assert!(!polls.is_finished(), "nothing is received while messages wait");
        up.store(true, std::sync::atomic::Ordering::Relaxed);
        let before = Instant::now();
        tasks.join_all().await;
        assert!(before.elapsed() <= SLOWEST_PROBE + Duration::from_secs(1));
        polls.await.unwrap();
        assert_eq!(dependency.polls(), Polls::Any);
    }

    #[tokio::test(start_paused = true)]
    async fn with_nothing_in_hand_a_new_message_is_the_probe_and_one_that_tells_nothing_is_followed_by_another()
     {
        let dependency = opened();
        assert_eq!(dependency.polls(), Polls::None);
        for _ in 0..2 {
            dependency.ready().await;
            assert_eq!(dependency.polls(), Polls::Probe);
            assert_eq!(
                (dependency.state(), dependency.polls()),
                (Breaker::HalfOpen, Polls::None)
            );
            dependency.inconclusive();
            assert_eq!(dependency.state(), Breaker::Open);
        }
        assert!(dependency.available());
        assert_eq!(dependency.polls(), Polls::Any);
    }
}
