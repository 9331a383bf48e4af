//! Drives a rollout: brings what happens to the [state machine](crate::rollout), writes its next state down, and only then acts.
//!
//! Several times a second it looks at the fleet, asks the processes for their counts, asks the judge, and looks whether people have
//! asked for something. Everything it needs to know is in the journal: killed at any instant, it is simply started again.

mod control;
mod counts;
mod owner;
mod parts;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;
use worker::control::{Tracks, share};
use worker::release::Release;

use crate::evidence::{Checkpoint, Collector, Second};
use crate::fleet::{Fleet, Service, View};
use crate::journal::{Answer, Journal, Measured, Store, StoreError, Version};
use crate::judge::{self, verdict::Verdict};
use crate::moment::Moment;
use crate::rollout::{
    Action, Ask, Course, Event, Happening, Judgement, Kind, Outcome, Phase, Revision, State, Transition,
    action, begin, step,
};

pub use owner::{Claim, ClaimError, claim, me};
pub use parts::{Observer, Parts, Redriver, Redriving, Scrape, Silent, Source};

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
        }
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
            }
        }
        if self.due.entered {
            self.due.entered = false;
            if let Some((judgement, verdict)) = self.judge() {
                self.journal.verdict = verdict.or(self.journal.verdict.take());
                self.feed(Event::Judged(judgement)).await?;
            }
        }
        self.feed(Event::Tick).await?;
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

    /// Asks the processes and completes windows.
    ///
    /// What is said by others than the processes, and cannot be had, people are told: it is not a process that is ill.
    async fn count(&mut self, view: &View) -> Option<String> {
        let now = self.now();
        let mut unheard = None;
        if self.source.is_by_process() {
            for ended in &view.ended {
                self.collector.ended(&ended.name, ended.how);
            }
            let processes = || view.stable.processes.iter().chain(&view.canary.processes);
            self.collector
                .retain(|name| processes().any(|process| process.name == name));
        }
        if Instant::now() >= self.due.ask {
            self.due.ask = Instant::now() + self.pace.ask;
            let since = self.collector.wanted_from(now);
            for (name, answer) in self.source.ask(view, since).await {
                match answer {
                    Ok(report) => self.collector.report(&name, report),
                    // No answer is no data: readiness, and the deadline of the window, see to it.
                    Err(_) if self.source.is_by_process() => {}
                    Err(error) => unheard = Some(error),
                }
            }
            self.due.entered = true;
        }
        let now = self.now();
        let second = self.second(view);
        self.collector.note(now, second);
        self.collector.advance(now);
        unheard
    }

    fn second(&self, view: &View) -> Second {
        let state = &self.journal.state;
        let tasks = |release: &Release| {
            self.collector
                .tasks(release, view.running(release), view.starts(release))
        };
        let baseline = state.baseline.as_ref();
        Second {
            share: counts::share_of_candidate(&self.course, state),
            candidate: tasks(&state.candidate.release),
            baseline: baseline.map_or_else(Default::default, |revision| tasks(&revision.release)),
        }
    }

    fn judge(&self) -> Option<(Judgement, Option<Verdict>)> {
        let state = &self.journal.state;
        if !state.is_judged() {
            return None;
        }
        let rules = &self.course.plan.rules;
        let ledger = self.collector.ledger();
        let now = self.now();
        if state.baseline.is_none() {
            let messages = counts::tally(ledger);
            let situation = self.course.situation(state, now, messages.attempts);
            return Some((counts::first_release(rules, ledger, &situation, &messages), None));
        }
        let messages = counts::tally(ledger).attempts;
        let situation = self.course.situation(state, now, messages);
        let verdict = judge::decide(rules, ledger, &situation);
        Some((Judgement::from(&verdict), Some(verdict)))
    }

    fn measure(&mut self, view: &View) {
        let now = self.now();
        let flow = self.collector.flow(now);
        let contained = counts::contained(
            self.journal.measured.contained,
            self.collector.is_contained(),
            now,
        );
        self.journal.measured = Measured {
            at: now,
            per_second: flow.per_second,
            share: flow.canary_share,
            share_wanted: counts::share_wanted(&self.course, &self.journal.state),
            canary_per_process: self
                .tracks
                .as_ref()
                .and_then(|tracks| tracks.canary)
                .and_then(|canary| canary.max_per_second),
            stable: counts::measured(view.service(Service::Stable)),
            canary: counts::measured(view.service(Service::Canary)),
            contained,
        };
    }

    /// Brings an event to the state machine; what comes of it is written down, and then done.
    async fn feed(&mut self, event: Event) -> Result<(), DriveError> {
        let now = self.now();
        let transition = step(&self.course, &self.journal.state, now, &event);
        self.follow(transition, None).await
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

    /// Carries actions out. What does not work stays pending.
    async fn act(&mut self, actions: Vec<Action>) -> Result<(), DriveError> {
        for action in actions {
            let done = match &action {
                // Done by `look`, as long as it is to be done.
                Action::Check => Ok(()),
                Action::Limit { .. } => {
                    self.tracks = None;
                    self.steer().await?;
                    Ok(())
                }
                Action::RunCanary { revision, count } => {
                    self.fleet.run(Service::Canary, revision, *count).await
                }
                Action::StopCanary => self.fleet.stop(Service::Canary).await,
                Action::RunStable { revision } => {
                    self.fleet
                        .run(Service::Stable, revision, crate::rollout::Count::Full)
                        .await
                }
                Action::StopStable => self.fleet.stop(Service::Stable).await,
                Action::Record { revision } => self.fleet.record(revision.as_ref()).await,
                Action::Redrive { release } => {
                    let rate = self.course.plan.redrive.rate;
                    self.redriving = Some(self.redriver.redrive(release.clone(), rate));
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.pending.push(action);
                self.due.again = Instant::now() + AGAIN;
                self.trouble(error.0).await?;
            }
        }
        Ok(())
    }

    /// Notes what did not work, once for as long as it stays the same.
    async fn trouble(&mut self, text: String) -> Result<(), DriveError> {
        let happening = Happening::Trouble { text };
        let last = self.journal.timeline.last().map(|entry| &entry.happening);
        if last == Some(&happening) {
            return Ok(());
        }
        self.write_down(vec![happening]).await
    }

    /// Follows what people have asked for, in the order in which they did.
    async fn answer_requests(&mut self) -> Result<(), DriveError> {
        self.refresh().await?;
        // Bounded by what is there now; each is taken off as it is answered.
        for request in self.journal.requests.clone() {
            let now = self.now();
            let event = Event::Asked(request.ask);
            let transition = step(&self.course, &self.journal.state, now, &event);
            self.follow(transition, Some(request.id)).await?;
        }
        Ok(())
    }

    /// Reads what others have written: their requests, or that this tool does not own the rollout any more.
    async fn refresh(&mut self) -> Result<(), DriveError> {
        let mut tries = 0;
        let read = loop {
            match self.store.read().await {
                Err(StoreError::Unreachable(_)) if tries < OUTAGE => tries += 1,
                read => break read?,
            }
            sleep(AGAIN).await;
        };
        let Some((journal, version)) = read else {
            return Err(DriveError::Lost("the journal is gone".to_owned()));
        };
        if version == self.version {
            return Ok(());
        }
        match &journal.owner {
            Some(owner) if owner.id == self.owner && journal.rollout == self.journal.rollout => {}
            Some(owner) => return Err(DriveError::Lost(owner.to_string())),
            // It was left, and the answer to that was lost.
            None if self.journal.owner.is_none() && journal.rollout == self.journal.rollout => {}
            None => return Err(DriveError::Lost("nobody owns it".to_owned())),
        }
        self.journal.requests = journal.requests;
        self.version = version;
        Ok(())
    }

    /// Writes everything down with what happened.
    async fn write_down(&mut self, happened: Vec<Happening>) -> Result<(), DriveError> {
        let now = self.now();
        if let Some(owner) = &mut self.journal.owner {
            owner.heartbeat = now;
        }
        self.journal.evidence = self.collector.checkpoint().clone();
        let first = happened.len();
        self.journal.tell(now, happened);
        self.save().await?;
        self.due.beat = Instant::now() + self.pace.beat;
        let from = self.journal.timeline.len().saturating_sub(first);
        for entry in &self.journal.timeline[from..] {
            self.observer.happened(entry, &self.journal);
        }
        self.observer.looked(&self.journal);
        Ok(())
    }

    async fn save(&mut self) -> Result<(), DriveError> {
        // Somebody who asks for something may come between, again and again, but not for ever.
        for _ in 0..OUTAGE {
            match self.store.write(&self.journal, Some(&self.version)).await {
                Ok(version) => {
                    self.version = version;
                    return Ok(());
                }
                Err(StoreError::Conflict) => self.refresh_before_writing().await?,
                // Whether it was written is not known: read, then written once more.
                Err(StoreError::Unreachable(_)) => {
                    sleep(AGAIN).await;
                    self.refresh_before_writing().await?;
                }
                Err(error @ StoreError::Broken(_)) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What was answered is not asked for any more, though the journal that was read still says so.
    async fn refresh_before_writing(&mut self) -> Result<(), DriveError> {
        self.refresh().await?;
        let answers = &self.journal.answers;
        self.journal
            .requests
            .retain(|request| answers.iter().all(|answer| answer.id != request.id));
        Ok(())
    }

    /// Leaves the rollout to whoever comes next.
    async fn leave(&mut self) -> Result<(), DriveError> {
        self.journal.owner = None;
        self.journal.evidence = self.collector.checkpoint().clone();
        self.save().await
    }

    async fn finish(&mut self) -> Result<(), DriveError> {
        // The tool before may have died between its last word and this.
        self.steer().await?;
        let owner = None;
        let journal = Journal {
            owner,
            ..self.journal.clone()
        };
        self.store.archive(&journal).await?;
        self.leave().await
    }

    /// Writes the control document when what the tracks may do has changed.
    async fn steer(&mut self) -> Result<(), DriveError> {
        let state: &State = &self.journal.state;
        if matches!(state.phase, Phase::Preflight) {
            return Ok(());
        }
        let wanted = control::tracks(
            &self.course,
            state,
            &self.collector,
            &self.journal.measured,
            self.now(),
        );
        let early = Instant::now() < self.due.review;
        if self.tracks.as_ref().is_some_and(|tracks| {
            control::is_same(tracks, &wanted) || early && control::can_wait(tracks, &wanted)
        }) {
            return Ok(());
        }
        match self.fleet.control(&wanted).await {
            Ok(()) => {
                self.tracks = Some(wanted);
                self.due.review = Instant::now() + share::REVIEW;
                Ok(())
            }
            Err(error) => self.trouble(error.0).await,
        }
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

/// The end of a redrive that is under way; for ever pending when there is none.
async fn redriven(redriving: &mut Option<Redriving>) -> Result<String, String> {
    let Some(under_way) = redriving else {
        return std::future::pending().await;
    };
    let result = under_way.await;
    *redriving = None;
    result
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
