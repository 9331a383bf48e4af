//! The breaker on a canary's own failure rate: it stops within one batch, and probes with a message a second.
//!
//! A canary starts slowly: so few attempts at once that at most [`AFTERMATH`] can still fail when the evidence suffices, one
//! more for each success, until all slots are in use. When the breaker opens, attempts that still run are cut off, and what is
//! not begun is not begun; both are handed over or handed back. Then one message a second is let through. So many in a row
//! must succeed that a release that fails every second one has a chance of 1 in 1,000 to pass; then it starts slowly again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::detector::Detector;
use crate::evidence::Breaker;

/// Attempts that can still fail after the one that was proof.
pub const AFTERMATH: usize = 5;

/// Between the end of one probe and the next.
pub const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Probes that must succeed in a row before the breaker closes.
pub const PROBES_TO_CLOSE: u32 = 10;

/// How an attempt looks to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended well.
    Success,
    /// It failed, and a release can be blamed for it.
    Failure,
    /// It says nothing: cut off, its lease lost, or a dependency down.
    Nothing,
}

/// The breaker, and the slots it lets the consumer use.
#[derive(Debug)]
pub struct Rate {
    slots: Arc<Semaphore>,
    concurrency: usize,
    state: Mutex<State>,
    /// Told whenever polls may be possible again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    allowed: Option<f64>,
    detector: Detector,
    phase: Phase,
    /// Slots that exist, those in use included.
    size: usize,
    /// Slots to take away as soon as they are free.
    debt: usize,
    /// Attempts that run now are cut off by it.
    cut: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed,
    Open { probe_at: Instant, successes: u32 },
    HalfOpen { successes: u32 },
}

/// What the polls may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polls {
    /// Ask for so many messages at most.
    Ask(usize),
    /// Ask for one message, and nothing else until [`Rate::probed`].
    Probe,
    /// Nothing before this instant.
    At(Instant),
    /// Nothing until a probe has ended.
    Wait,
}

/// The judged attempts of one receive, one piece each. Dropping it without [`Trial::end`] withdraws the attempt.
#[derive(Debug)]
pub struct Trial {
    rate: Arc<Rate>,
    number: u64,
    ended: bool,
}

impl Trial {
    /// Tells how the attempt ended. True when that opened the breaker.
    pub fn end(mut self, verdict: Verdict) -> bool {
        self.ended = true;
        self.rate.ended(self.number, verdict)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.ended {
            self.rate.lock().detector.withdraw(self.number);
        }
    }
}

impl Rate {
    /// A closed breaker for `concurrency` slots. It has an opinion only once [`Rate::allow`] told it a rate.
    #[must_use]
    pub fn new(concurrency: usize) -> Arc<Self> {
        let state = State {
            allowed: None,
            detector: Detector::new(1.0),
            phase: Phase::Closed,
            size: concurrency,
            debt: 0,
            cut: CancellationToken::new(),
        };
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// The slots it grants.
    #[must_use]
    pub fn slots(&self) -> Arc<Semaphore> {
        Arc::clone(&self.slots)
    }

    /// From now on first deliveries may fail at this rate; at any, if there is none. Another rate than before starts the evidence
    /// anew; without one the breaker closes.
    pub fn allow(&self, allowed: Option<f64>) {
        let mut state = self.lock();
        if state.allowed.map(f64::to_bits) == allowed.map(f64::to_bits) {
            return;
        }
        let first = state.allowed.is_none();
        state.allowed = allowed;
        state.detector = Detector::new(allowed.unwrap_or(1.0));
        match allowed {
            Some(_) if first => self.start_slowly(&mut state),
            Some(_) => {}
            None => {
                state.phase = Phase::Closed;
                self.grow(&mut state, self.concurrency);
            }
        }
        drop(state);
        self.changed.notify_one();
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

    /// Waits until [`Rate::polls`] allows something. Cancel safe.
    pub async fn ready(&self) {
        loop {
            let looked = {
                let state = self.lock();
                match state.phase {
                    Phase::Open { probe_at, .. } => Polls::At(probe_at),
                    Phase::HalfOpen { .. } => Polls::Wait,
                    Phase::Closed => return,
                }
            };
            match looked {
                Polls::At(at) if at <= Instant::now() => return,
                Polls::At(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                Polls::Wait | Polls::Ask(_) | Polls::Probe => self.changed.notified().await,
            }
        }
    }

    /// What the polls may do now; a probe is then under way.
    pub fn polls(&self, most: usize) -> Polls {
        let mut state = self.lock();
        self.pay(&mut state);
        match state.phase {
            // While it starts slowly each message is a receive of its own: failures of one receive are one piece of evidence.
            Phase::Closed if state.size < self.concurrency => Polls::Ask(most.min(1)),
            Phase::Closed => Polls::Ask(most),
            Phase::Open { probe_at, successes } if probe_at <= Instant::now() => {
                state.phase = Phase::HalfOpen { successes };
                Polls::Probe
            }
            Phase::Open { probe_at, .. } => Polls::At(probe_at),
            Phase::HalfOpen { .. } => Polls::Wait,
        }
    }

    /// The probe under way brought no message that decides.
    pub fn probed(&self) {
        let mut state = self.lock();
        if let Phase::HalfOpen { successes } = state.phase {
            state.phase = Phase::Open {
                probe_at: Instant::now() + PROBE_AFTER,
                successes,
            };
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Whether an attempt may begin: it is closed, or `probe` says that this is the probe.
    #[must_use]
    pub fn admits(&self, probe: bool) -> bool {
        match self.lock().phase {
            Phase::Closed => true,
            Phase::Open { .. } | Phase::HalfOpen { .. } => probe,
        }
    }

    /// Cancelled when the breaker opens; for an attempt that begins now. None during a probe, which nothing cuts off.
    #[must_use]
    pub fn cut(&self) -> CancellationToken {
        self.lock().cut.clone()
    }

    /// `size` judged attempts of one receive begin.
    #[must_use]
    pub fn receive(self: &Arc<Self>, size: u32) -> Vec<Trial> {
        let number = self.lock().detector.receive(size);
        let trial = |_| Trial {
            rate: Arc::clone(self),
            number,
            ended: false,
        };
        (0..size).map(trial).collect()
    }

    /// A slot is free again: whether it still exists.
    pub(crate) fn keeps_slot(&self) -> bool {
        let mut state = self.lock();
        if state.debt == 0 {
            return true;
        }
        state.debt -= 1;
        false
    }

    fn ended(&self, number: u64, verdict: Verdict) -> bool {
        let mut state = self.lock();
        let suffices = match verdict {
            Verdict::Nothing => {
                state.detector.withdraw(number);
                false
            }
            Verdict::Success => state.detector.ended(number, false),
            Verdict::Failure => state.detector.ended(number, true),
        };
        let opened = match (state.phase, verdict) {
            (Phase::Closed, Verdict::Success) => {
                let size = state.size + 1;
                self.grow(&mut state, size);
                false
            }
            (Phase::Closed, Verdict::Failure) if suffices => {
                self.open(&mut state, 0);
                state.cut.cancel();
                state.cut = CancellationToken::new();
                self.start_slowly(&mut state);
                true
            }
            (Phase::Closed, _) | (Phase::Open { .. }, _) | (Phase::HalfOpen { .. }, Verdict::Nothing) => {
                false
            }
            (Phase::HalfOpen { successes }, Verdict::Success) if successes + 1 < PROBES_TO_CLOSE => {
                self.open(&mut state, successes + 1);
                false
            }
            (Phase::HalfOpen { .. }, Verdict::Success) => {
                state.phase = Phase::Closed;
                state.detector = Detector::new(state.allowed.unwrap_or(1.0));
                false
            }
            (Phase::HalfOpen { .. }, Verdict::Failure) => {
                self.open(&mut state, 0);
                false
            }
        };
        drop(state);
        self.changed.notify_one();
        opened
    }

    #[expect(clippy::unused_self, reason = "as its neighbours")]
    fn open(&self, state: &mut State, successes: u32) {
        state.phase = Phase::Open {
            probe_at: Instant::now() + PROBE_AFTER,
            successes,
        };
    }

    fn start_slowly(&self, state: &mut State) {
        let size = (AFTERMATH + 1).min(self.concurrency);
        state.debt += state.size.saturating_sub(size);
        state.size = state.size.min(size);
        self.pay(state);
    }

    /// Takes away free slots that are owed.
    fn pay(&self, state: &mut State) {
        if state.debt > 0 {
            state.debt -= self.slots.forget_permits(state.debt);
        }
    }

    fn grow(&self, state: &mut State, size: usize) {
        let more = size.min(self.concurrency).saturating_sub(state.size);
        state.size += more;
        let forgiven = more.min(state.debt);
        state.debt -= forgiven;
        self.slots.add_permits(more - forgiven);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail_until_open(rate: &Arc<Rate>) -> usize {
        (1..100)
            .find(|_| rate.receive(1).remove(0).end(Verdict::Failure))
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn slots_grow_with_successes_and_shrink_when_it_opens() {
        let rate = Rate::new(100);
        assert_eq!(rate.slots().available_permits(), 100);
        rate.allow(Some(0.02));
        assert_eq!(rate.slots().available_permits(), AFTERMATH + 1);
        assert_eq!(rate.polls(10), Polls::Ask(1));
        let held = rate.slots().try_acquire_many_owned(6).unwrap();
        for _ in 0..200 {
            assert!(!rate.receive(1).remove(0).end(Verdict::Success));
        }
        assert_eq!(rate.slots().available_permits(), 94);
        assert_eq!(rate.polls(10), Polls::Ask(10));
        drop(held);
        let held = rate.slots().try_acquire_many_owned(99).unwrap();
        let cut = rate.cut();
        assert!(fail_until_open(&rate) <= 5);
        assert!(cut.is_cancelled() && !rate.cut().is_cancelled());
        assert!(!rate.admits(false));
        // 94 are owed: one was free.
        let mut left = 0;
        for _ in 0..99 {
            left += usize::from(rate.keeps_slot());
        }
        assert_eq!(left, AFTERMATH + 1);
        drop(held);
    }

    #[test]
    fn of_a_new_release_that_fails_everything_at_most_five_attempts_still_run_after_the_proof() {
        for concurrency in [1, 10, 100] {
            let rate = Rate::new(concurrency);
            rate.allow(Some(0.02));
            let mut running = std::collections::VecDeque::new();
            let opened = (0..100).any(|_| {
                while let Ok(slot) = rate.slots().try_acquire_owned() {
                    running.push_back((slot, rate.receive(1).remove(0)));
                }
                let (_slot, trial) = running.pop_front().unwrap();
                trial.end(Verdict::Failure)
            });
            assert!(opened, "at {concurrency}");
            assert!(running.len() <= 5, "{} at {concurrency}", running.len());
            assert!(!rate.admits(false));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_probes_once_a_second_and_closes_after_enough_successes_in_a_row() {
        let rate = Rate::new(10);
        rate.allow(Some(0.02));
        fail_until_open(&rate);
        let mut probes = 0;
        let probe = async |verdict| {
            let Polls::At(at) = rate.polls(10) else {
                panic!("open")
            };
            assert_eq!(at - Instant::now(), PROBE_AFTER);
            tokio::time::sleep_until(at).await;
            assert_eq!(rate.polls(10), Polls::Probe);
            assert_eq!((rate.polls(10), rate.state()), (Polls::Wait, Breaker::HalfOpen));
            match verdict {
                Some(verdict) => assert!(!rate.receive(1).remove(0).end(verdict)),
                None => rate.probed(),
            }
        };
        for _ in 1..PROBES_TO_CLOSE {
            probe(Some(Verdict::Success)).await;
        }
        probe(None).await;
        probe(Some(Verdict::Failure)).await;
        while rate.state() != Breaker::Closed {
            probe(Some(Verdict::Success)).await;
            probes += 1;
        }
        assert_eq!(probes, PROBES_TO_CLOSE);
        assert_eq!(rate.polls(10), Polls::Ask(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_releases_fault_is_no_evidence_and_without_a_rate_nothing_is() {
        let rate = Rate::new(10);
        for _ in 0..100 {
            assert!(!rate.receive(1).remove(0).end(Verdict::Failure));
        }
        rate.allow(Some(0.02));
        for _ in 0..100 {
            assert!(!rate.receive(1).remove(0).end(Verdict::Nothing));
            drop(rate.receive(1));
        }
        fail_until_open(&rate);
        rate.allow(None);
        assert_eq!(rate.state(), Breaker::Closed);
        assert_eq!(rate.slots().available_permits(), 10);
    }
}
