//! Drives a rollout: brings what happens to the [state machine](crate::rollout), writes its next state down, and only then acts.
//!
//! Several times a second it looks at the fleet, asks the processes for their counts, asks the judge, and looks whether people have
//! asked for something. Everything it needs to know is in the journal: killed at any instant, it is simply started again.

mod acting;
mod control;
mod counts;
mod keeping;
mod owner;
mod parts;
#[cfg(test)]
mod tests;
mod watching;

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;
use worker::control::Tracks;

use crate::evidence::{Checkpoint, Collector};
use crate::fleet::Fleet;
use crate::journal::{Answer, Journal, Measured, Store, StoreError, Version};
use crate::moment::Moment;
use crate::rollout::{
    Action, Ask, Course, Event, Happening, Kind, Outcome, Phase, Revision, Transition, action, begin, step,
};

pub use owner::{Claim, ClaimError, Driver, claim, driver, me};
pub use parts::{Observer, Parts, Redriver, Redriving, Scrape, Silent, Source};

use acting::redriven;

/// How often things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How often the fleet and the journal are looked at.
    pub look: Duration,
    /// How often processes are asked for their counts.
    pub ask: Duration,
    /// How often the journal is written when nothing happens: heartbeat and counts. Well below [`DEAD_AFTER`].
    pub beat: Duration,
}

impl Pace {
    /// Where every look is a call over the network that costs something: on AWS.
    pub const REMOTE: Self = Self {
        look: Duration::from_secs(1),
        ask: Duration::from_secs(1),
        beat: Duration::from_secs(10),
    };
}

impl Default for Pace {
    /// For processes of this machine.
    fn default() -> Self {
        Self {
            look: Duration::from_millis(250),
            ask: Duration::from_millis(500),
            beat: Duration::from_secs(2),
        }
    }
}

/// How long until what did not work is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Without a sign of life for so long, an owner counts as dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(30);
/// How often a journal that does not answer is asked again, [`AGAIN`] apart: less than [`DEAD_AFTER`] in all, so that nobody else takes
/// over meanwhile.
const OUTAGE: u32 = 20;
/// How long a request to pause, resume or promote holds that nobody has answered.
const REQUESTS_HOLD: Duration = Duration::from_secs(60);
/// Answers that the journal keeps.
const ANSWERS: usize = 20;

/// Why a tool stopped driving.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Another tool drives the rollout now.
    #[error("another tool has taken the rollout over: {0}")]
    Lost(String),
    /// The journal could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal holds a plan that this version cannot read.
    #[error("the plan in the journal: {0}")]
    Plan(String),
}

/// How a run of the tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The rollout is over.
    Over(Outcome),
    /// The rollout is held, and the caller did not want to wait.
    Held,
    /// The tool was told to stop; whoever is started next goes on.
    Stopped,
}

/// How a tool drives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Stop as soon as the rollout is held, instead of going on to watch it.
    pub leave_when_held: bool,
    /// How often things are done.
    pub pace: Pace,
}

/// A tool at work.
pub struct Drive<S, F, E, R, O> {
    store: S,
    fleet: F,
    source: E,
    redriver: R,
    observer: O,
    clock: Clock,
    course: Course,
    journal: Journal,
    version: Version,
    owner: String,
    collector: Collector,
    pending: Vec<Action>,
    tracks: Option<Tracks>,
    redriving: Option<Redriving>,
    due: Due,
    pace: Pace,
    begun: bool,
}

/// When what is done less often than each look is done next.
struct Due {
    ask: Instant,
    /// Of the canary's rate.
    review: Instant,
    beat: Instant,
    again: Instant,
    entered: bool,
}

/// A journal for a rollout that begins now.
#[must_use]
pub fn fresh(kind: Kind, candidate: Revision, plan: &str, now: Moment) -> Journal {
    let rollout = format!("{now}-{}", candidate.release);
    let begun = begin(kind, candidate, now);
    let mut journal = Journal {
        schema: crate::journal::SCHEMA,
        rollout,
        writes: 0,
        owner: None,
        requests: Vec::new(),
        answers: Vec::new(),
        plan: plan.to_owned(),
        state: begun.state,
        evidence: Checkpoint::default(),
        measured: Measured::default(),
        verdict: None,
        timeline: Vec::new(),
        left_out: 0,
    };
    journal.tell(now, begun.happened);
    journal
}

impl<S: Store, F: Fleet, E: Source, R: Redriver, O: Observer> Drive<S, F, E, R, O> {
    /// A tool that drives the rollout it has claimed. `course` is the journal's own plan with the tool's times.
    pub fn new(parts: Parts<S, F, E, R, O>, claim: Claim, course: Course) -> Self {
        let Claim {
            journal,
            version,
            owner,
            begun,
        } = claim;
        let state = &journal.state;
        let baseline = state.baseline.as_ref().map(|revision| revision.release.clone());
        let candidate = state.candidate.release.clone();
        let now = Instant::now();
        let collector = Collector::new(candidate, baseline, journal.evidence.clone());
        let collector = if parts.source.is_by_process() {
            collector
        } else {
            collector.lagging()
        };
        Self {
            collector,
            store: parts.store,
            fleet: parts.fleet,
            source: parts.source,
            redriver: parts.redriver,
            observer: parts.observer,
            clock: parts.clock,
            course,
            journal,
            version,
            owner,
            pending: Vec::new(),
            tracks: None,
            redriving: None,
            due: Due {
                ask: now,
                review: now,
                beat: now,
                again: now,
                entered: false,
            },
            pace: Pace::default(),
            begun,
        }
    }

    /// The journal as it was last written.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes the tool apart again.
    pub fn into_fleet(self) -> F {
        self.fleet
    }

    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    /// Drives until the rollout is over, or `stop`.
    ///
    /// Dropped at any point it is as if the process had been killed: nothing is lost, and the next tool goes on.
    ///
    /// # Errors
    /// [`DriveError`]; the rollout itself goes on with the next tool.
    pub async fn run(&mut self, manner: Manner, stop: &CancellationToken) -> Result<End, DriveError> {
        self.pace = manner.pace;
        if std::mem::take(&mut self.begun) {
            for entry in &self.journal.timeline {
                self.observer.happened(entry, &self.journal);
            }
        }
        let again = step(&self.course, &self.journal.state, self.now(), &Event::Restarted);
        self.journal.state = again.state;
        self.write_down(Vec::new()).await?;
        self.act(again.actions).await?;
        let mut next = Instant::now();
        // Until the rollout is over: each phase has a bound, or waits for people and says so.
        loop {
            if let Some(outcome) = self.journal.state.outcome() {
                self.finish().await?;
                return Ok(End::Over(outcome));
            }
            if manner.leave_when_held && self.journal.state.hold.is_some() {
                self.leave().await?;
                return Ok(End::Held);
            }
            next = (next + self.pace.look).max(Instant::now());
            tokio::select! {
                () = stop.cancelled() => {
                    self.leave().await?;
                    return Ok(End::Stopped);
                }
                result = redriven(&mut self.redriving) => self.feed(Event::Redriven(result)).await?,
                () = sleep_until(next) => self.look().await?,
            }
        }
    }

    /// Looks once at everything.
    async fn look(&mut self) -> Result<(), DriveError> {
        self.answer_requests().await?;
        if self.journal.state.phase == Phase::Preflight && self.journal.state.hold.is_none() {
            let candidate = self.journal.state.candidate.clone();
            let checked = self.fleet.check(&candidate).await;
            if let Ok(facts) = &checked {
                let baseline = facts.baseline.as_ref().map(|revision| revision.release.clone());
                self.collector.set_baseline(baseline);
                let now = self.now().second();
                self.collector.begin(now);
            }
            self.feed(Event::Checked(checked)).await?;
            if self.journal.state.outcome().is_some() {
                // A fleet that is looked at is looked after: what was refused has changed nothing.
                return Ok(());
            }
        }
        let mut said = None;
        match self.fleet.observe().await {
            Err(error) => self.trouble(error.0).await?,
            Ok(view) => {
                for note in self.count(&view).await.iter().chain(&view.notes) {
                    self.trouble(note.clone()).await?;
                }
                let crashes = counts::crashes(&view);
                if !crashes.is_empty() {
                    self.write_down(crashes).await?;
                }
                self.feed(Event::Seen(view.seen())).await?;
                self.measure(&view);
                let promoting = matches!(self.journal.state.phase, Phase::Promoting { .. });
                said = if promoting {
                    view.stable.said
                } else {
                    view.canary.said
                };
            }
        }
        if self.due.entered {
            self.due.entered = false;
            if let Some((judgement, verdict)) = self.judge() {
                self.journal.verdict = verdict.or(self.journal.verdict.take());
                self.feed(Event::Judged(judgement)).await?;
            }
        }
        self.feed(Event::Tick { said }).await?;
        self.steer().await?;
        if !self.pending.is_empty() && Instant::now() >= self.due.again {
            let pending = std::mem::take(&mut self.pending);
            self.act(pending).await?;
        }
        if Instant::now() >= self.due.beat {
            self.write_down(Vec::new()).await?;
        }
        Ok(())
    }

    /// Brings an event to the state machine; what comes of it is written down, and then done.
    async fn feed(&mut self, event: Event) -> Result<(), DriveError> {
        let now = self.now();
        let transition = step(&self.course, &self.journal.state, now, &event);
        self.follow(transition, None).await
    }

    /// Carries out what a person asks where nobody drives the rollout, and leaves it as it was found. Why not, if it is refused.
    ///
    /// Processes are neither started nor stopped for it: that is for a tool that stays.
    ///
    /// # Errors
    /// [`DriveError`].
    pub async fn carry_out(&mut self, ask: Ask) -> Result<Option<String>, DriveError> {
        let transition = step(&self.course, &self.journal.state, self.now(), &Event::Asked(ask));
        let refused = transition.refused.clone();
        self.follow(transition, None).await?;
        self.leave().await?;
        Ok(refused)
    }

    async fn follow(&mut self, transition: Transition, request: Option<String>) -> Result<(), DriveError> {
        let Transition {
            state,
            actions,
            happened,
            refused,
        } = transition;
        let changed = state != self.journal.state || !happened.is_empty() || request.is_some();
        if !changed {
            return Ok(());
        }
        self.journal.state = state;
        let mut happened = happened;
        if let Some(id) = request {
            self.journal.requests.retain(|request| request.id != id);
            happened.extend(refused.clone().map(|text| Happening::Refused { text }));
            self.journal.answers.push(Answer { id, refused });
            let most = self.journal.answers.len().saturating_sub(ANSWERS);
            self.journal.answers.drain(..most);
        }
        self.write_down(happened).await?;
        let standing = action::standing(&self.course, &self.journal.state);
        self.pending.retain(|action| standing.contains(action));
        self.act(actions).await
    }
}

impl<S, F, E, R, O> std::fmt::Debug for Drive<S, F, E, R, O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Drive")
            .field("rollout", &self.journal.rollout)
            .field("phase", &self.journal.state.phase)
            .finish_non_exhaustive()
    }
}

/// What a person asks, as a request for the journal.
#[must_use]
pub fn request(ask: Ask, now: Moment) -> crate::journal::Request {
    crate::journal::Request {
        id: owner::random_id(),
        at: now,
        ask,
    }
}
