//! What one consumer is steered by: the control document, the gate, the breakers, and where failures are handed over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::attempt::{Ended, Ending};
use crate::breaker::dependency::{self, Dependency};
use crate::breaker::rate::{self, Rate, Trial, Verdict};
use crate::breaker::{self};
use crate::control::Directives;
use crate::events::{BreakerClosed, BreakerOpened, Events};
use crate::evidence::{Breaker, ControlState, Evidence, State};
use crate::failure::Target;
use crate::gate::{Gate, Tokens};
use crate::handler::Reason;
use crate::release::Track;

use super::health::Health;

/// What a consumer is told about releases. By default nothing: it is not judged, not limited, and hands over nothing.
#[derive(Debug)]
pub struct Steering<Q> {
    /// What the control document says.
    pub directives: Directives,
    /// Where first deliveries are counted; none on a handover queue.
    pub evidence: Option<Arc<Evidence>>,
    /// The failure rate that opens a canary's breaker where the control document names none.
    pub max_failure_rate: Option<f64>,
    /// Where a canary's failures go. Standard queues only: on a FIFO queue a copy would leave its group's order.
    pub handover: Option<HandoverQueue<Q>>,
    /// On a handover queue: the name of the main queue. Its rate, its failures and its share are not this consumer's.
    pub handed_over_from: Option<String>,
}

/// The queue that takes what a canary failed.
#[derive(Debug)]
pub struct HandoverQueue<Q> {
    /// The queue.
    pub queue: Arc<Q>,
    /// What it takes.
    pub target: Target,
}

impl<Q> Default for Steering<Q> {
    fn default() -> Self {
        Self {
            directives: Directives::none(),
            evidence: None,
            max_failure_rate: None,
            handover: None,
            handed_over_from: None,
        }
    }
}

/// The gate and the breakers of one consumer.
#[derive(Debug)]
pub struct Reflexes {
    pub(super) gate: Arc<Gate>,
    pub(super) rate: Option<Arc<Rate>>,
    pub(super) dependency: Arc<Dependency>,
    pub(super) directives: Directives,
    max_failure_rate: Option<f64>,
    events: Arc<Events>,
    health: Arc<Health>,
}

/// Leave to receive: how many messages, and whether they are a probe.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) tokens: Tokens,
    pub(super) probe: Option<Probe>,
}

/// A probe under way. Dropping it says that it told nothing, unless an attempt has said more.
#[derive(Debug)]
pub(super) struct Probe {
    rate: Option<Arc<Rate>>,
    dependency: Option<Arc<Dependency>>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(rate) = &self.rate {
            rate.probed();
        }
        if let Some(dependency) = &self.dependency {
            dependency.inconclusive();
        }
    }
}

impl Reflexes {
    pub(super) fn new<Q>(
        steering: &Steering<Q>,
        track: Track,
        concurrency: usize,
        rng: fastrand::Rng,
        events: Arc<Events>,
        health: Arc<Health>,
    ) -> Arc<Self> {
        let main = steering.handed_over_from.is_none();
        // A handover queue is drained at any rate, and not while the track is paused.
        let directives = if main {
            steering.directives.clone()
        } else {
            steering.directives.without_rate()
        };
        let reflexes = Self {
            gate: Gate::new(directives.clone()),
            rate: (main && track == Track::Canary).then(|| Rate::new(concurrency)),
            dependency: Dependency::new(rng),
            directives,
            max_failure_rate: steering.max_failure_rate,
            events,
            health,
        };
        reflexes.obey();
        Arc::new(reflexes)
    }

    /// How things stand, for `/evidence`.
    #[must_use]
    pub fn state(&self) -> State {
        let directive = self.directives.now();
        let control = directive
            .epoch
            .zip(directive.read_at)
            .map(|(epoch, read_at)| ControlState {
                epoch,
                age_seconds: read_at.elapsed().as_secs_f64(),
            });
        State {
            polling: self.health.is_polling(),
            paused: directive.stops(),
            gated: self.gate.is_empty(),
            rate_breaker: self.rate.as_ref().map_or(Breaker::Closed, |rate| rate.state()),
            dependency_breaker: self.dependency.state(),
            control,
        }
    }

    /// Messages that were moved to the handover queue.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.events.handed_over()
    }

    pub(super) fn slots(&self, concurrency: usize) -> Arc<Semaphore> {
        self.rate
            .as_ref()
            .map_or_else(|| Arc::new(Semaphore::new(concurrency)), |rate| rate.slots())
    }

    /// Takes over what the control document says now.
    pub(super) fn obey(&self) {
        let control = self.directives.now().control;
        if let Some(rate) = &self.rate {
            rate.allow(control.max_failure_rate.or(self.max_failure_rate));
        }
        self.set_gauges();
    }

    pub(super) fn set_gauges(&self) {
        let metrics = &self.events.metrics;
        let directive = self.directives.now();
        metrics
            .gate_rate
            .set(directive.control.max_per_second.unwrap_or(f64::INFINITY));
        metrics.paused.set(f64::from(u8::from(directive.stops())));
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float; 2^52 documents are none"
        )]
        metrics
            .control_epoch
            .set(directive.epoch.unwrap_or_default() as f64);
        metrics.breaker(breaker::Kind::Dependency, self.dependency.state());
        if let Some(rate) = &self.rate {
            metrics.breaker(breaker::Kind::Rate, rate.state());
        }
    }

    /// Waits for leave to receive up to `most` messages. Cancel safe: no probe is under way before it returns.
    pub(super) async fn leave(&self, most: usize) -> Leave {
        // Each turn waits until breakers and gate would let something through, then looks at all of them at once.
        loop {
            self.dependency.ready().await;
            if let Some(rate) = &self.rate {
                rate.ready().await;
            }
            let tokens = self.gate.admit(most).await;
            let mut most = tokens.count();
            let mut probe = Probe {
                rate: None,
                dependency: None,
            };
            match self.dependency.polls() {
                dependency::Polls::Any => {}
                dependency::Polls::Probe => {
                    probe.dependency = Some(Arc::clone(&self.dependency));
                    most = 1;
                }
                dependency::Polls::None => continue,
            }
            match self.rate.as_ref().map(|rate| (rate, rate.polls(most))) {
                None => {}
                Some((_, rate::Polls::Ask(fewer))) => most = most.min(fewer),
                Some((rate, rate::Polls::Probe)) => {
                    probe.rate = Some(Arc::clone(rate));
                    most = 1;
                }
                Some((_, rate::Polls::At(_) | rate::Polls::Wait)) => continue,
            }
            let probing = probe.rate.is_some() || probe.dependency.is_some();
            return Leave {
                tokens: tokens.at_most(most),
                probe: probing.then_some(probe),
            };
        }
    }

    /// Whether an attempt may begin; `probe` says that it is a probe.
    pub(super) fn admits(&self, probe: bool) -> Result<(), Refused> {
        if self.gate.is_shut() {
            return Err(Refused::Paused);
        }
        match &self.rate {
            Some(rate) if !rate.admits(probe) => Err(Refused::Breaker),
            _ => Ok(()),
        }
    }

    /// Tells the breakers how an attempt ended.
    pub(super) fn ended(&self, ended: &Ended, trial: Option<Trial>) {
        match ended.ending {
            Ending::Unavailable => {
                if self.dependency.unavailable(ended.after) {
                    self.opened(breaker::Kind::Dependency);
                }
            }
            Ending::Done | Ending::Retry | Ending::Reject => {
                if self.dependency.available() {
                    self.closed(breaker::Kind::Dependency);
                }
            }
            Ending::Timeout | Ending::Panic | Ending::Lost => self.dependency.inconclusive(),
        }
        let (Some(trial), Some(rate)) = (trial, &self.rate) else {
            return;
        };
        let verdict = match ended.ending {
            Ending::Done => Verdict::Success,
            Ending::Retry | Ending::Reject | Ending::Timeout | Ending::Panic => Verdict::Failure,
            Ending::Unavailable | Ending::Lost => Verdict::Nothing,
        };
        let before = rate.state();
        if trial.end(verdict) {
            self.opened(breaker::Kind::Rate);
        } else if before == Breaker::HalfOpen && rate.state() == Breaker::Closed {
            self.closed(breaker::Kind::Rate);
        }
    }

    /// Waits for the end of the pause between two attempts in place: `wait`, or while a dependency is known to be down until this
    /// message's turn.
    pub(super) async fn in_place(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.dependency.opened() => {}
        }
        if !self.dependency.is_closed() {
            self.dependency.in_place().await;
        }
    }

    /// Gives a slot back, unless the rate breaker has taken it away meanwhile.
    pub(super) fn free(&self, slot: OwnedSemaphorePermit) {
        if self.rate.as_ref().is_some_and(|rate| !rate.keeps_slot()) {
            slot.forget();
        }
    }

    fn opened(&self, kind: breaker::Kind) {
        BreakerOpened { kind }.record(&self.events);
        self.set_gauges();
    }

    fn closed(&self, kind: breaker::Kind) {
        BreakerClosed { kind }.record(&self.events);
        self.set_gauges();
    }
}

/// Why an attempt may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The control document, or the want of one.
    Paused,
    /// The rate breaker.
    Breaker,
}

/// Whether an attempt was cut off by this worker, so that it says nothing about the release.
pub(super) fn was_cut_off(ended: &Ended) -> bool {
    ended.reason == Reason::SHUTDOWN || ended.reason == Reason::BREAKER
}
