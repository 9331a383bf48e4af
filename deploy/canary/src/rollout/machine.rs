//! State and event to state and actions.

use std::time::Duration;

use crate::judge::verdict::Decision;
use crate::moment::Moment;
use crate::plan::Inconclusive;

use super::action::{Action, is_direct, standing};
use super::course::Course;
use super::event::{Ask, Event, Facts, Happening, Judgement, Seen, Sight};
use super::state::{Hold, HoldReason, Kind, Outcome, Phase, Reason, Revision, State, Undoing};

/// What an event leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The next state. It is to be written down before any of the actions.
    pub state: State,
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
    /// What happened.
    pub happened: Vec<Happening>,
    /// Why a request was not followed, if it was not.
    pub refused: Option<String>,
}

/// A rollout of `candidate` that begins at `now`.
#[must_use]
pub fn begin(kind: Kind, candidate: Revision, now: Moment) -> Transition {
    let release = candidate.release.clone();
    Transition {
        state: State {
            kind,
            candidate,
            baseline: None,
            began: now,
            phase: Phase::Preflight,
            hold: None,
            suspected: false,
            deadline: None,
        },
        actions: vec![Action::Check],
        happened: vec![Happening::Began { release }],
        refused: None,
    }
}

/// What `event` at `now` makes of `state`.
#[must_use]
pub fn step(course: &Course, state: &State, now: Moment, event: &Event) -> Transition {
    let mut step = Step {
        course,
        now,
        state: state.clone(),
        happened: Vec::new(),
        refused: None,
    };
    match event {
        Event::Restarted => {
            step.wait_anew();
            return Transition {
                actions: standing(course, &step.state),
                state: step.state,
                happened: Vec::new(),
                refused: None,
            };
        }
        Event::Checked(result) => step.checked(result),
        Event::Seen(seen) => step.seen(seen),
        Event::Judged(judgement) => step.judged(judgement),
        Event::Redriven(result) => step.redriven(result),
        Event::Tick { said } => step.tick(said.as_deref()),
        Event::Asked(ask) => step.asked(ask),
    }
    let before = standing(course, state);
    let mut actions = standing(course, &step.state);
    actions.retain(|action| !before.contains(action));
    Transition {
        actions,
        state: step.state,
        happened: step.happened,
        refused: step.refused,
    }
}

/// A transition in the making.
struct Step<'c> {
    course: &'c Course,
    now: Moment,
    state: State,
    happened: Vec<Happening>,
    refused: Option<String>,
}

impl Step<'_> {
    fn tell(&mut self, happening: Happening) {
        self.happened.push(happening);
    }

    fn checked(&mut self, result: &Result<Facts, String>) {
        if self.state.phase != Phase::Preflight || self.state.hold.is_some() {
            return;
        }
        match result {
            Err(error) => {
                let reason = Reason::Preflight { error: error.clone() };
                self.end(Outcome::Refused, Some(reason));
            }
            Ok(facts) if !facts.lacks.is_empty() && !self.state.is_restore() => {
                let error = facts.lacks.join("; ");
                self.end(Outcome::Refused, Some(Reason::Preflight { error }));
            }
            Ok(facts) => {
                self.state.baseline = facts.baseline.clone();
                let baseline = facts.baseline.as_ref().map(|revision| revision.release.clone());
                self.tell(Happening::Checked { baseline });
                for text in facts.lacks.iter().cloned() {
                    self.tell(Happening::Trouble { text });
                }
                match self.state.kind.clone() {
                    Kind::Canary => self.state.phase = Phase::Deploying { since: self.now },
                    Kind::SkipCanary { reason } | Kind::Restore { reason } => {
                        self.promote(Some("a person".to_owned()), reason);
                    }
                }
            }
        }
    }

    fn seen(&mut self, seen: &Seen) {
        let candidate = &self.state.candidate.release;
        let baseline = self.state.baseline.as_ref().map(|revision| &revision.release);
        let canary_runs = |release| matches!(&seen.canary, Sight::Ready(found) if Some(found) == release);
        let stable_runs = |release| matches!(&seen.stable, Sight::Ready(found) if Some(found) == release);
        let free = self.state.hold.is_none();
        if let Some(text) = self.broken(seen).filter(|_| free) {
            return self.roll_back(Reason::NotStarting { text });
        }
        match &self.state.phase {
            Phase::Deploying { .. } if free && canary_runs(Some(candidate)) => {
                self.tell(Happening::CanaryReady);
                self.state.deadline = Some(self.now.after(self.course.plan.deadline));
                self.begin_step(0, 0);
            }
            Phase::Promoting { .. } if free && stable_runs(Some(candidate)) => {
                let bakes = !is_direct(&self.state) && baseline.is_some() && self.course.plan.bake.time > 0;
                self.tell(Happening::Promoted);
                self.state.phase = if bakes {
                    Phase::Controlling { since: self.now }
                } else {
                    Phase::Settling { since: self.now }
                };
            }
            Phase::Controlling { .. } if free && canary_runs(baseline) => {
                let share = self.course.plan.bake.share;
                self.tell(Happening::BakeBegan { share });
                self.state.phase = Phase::Baking { since: self.now };
            }
            Phase::Settling { .. } if free && seen.canary == Sight::Nothing => self.settled(),
            Phase::RollingBack {
                undoing: Undoing::Restore { .. },
                ..
            } => {
                let restored = match baseline {
                    Some(release) => stable_runs(Some(release)),
                    None => seen.stable == Sight::Nothing,
                };
                if restored {
                    let stopped = baseline.is_none();
                    self.tell(Happening::StableRestored { stopped });
                    self.undo_next(Undoing::Remove);
                } else if baseline.is_some() && canary_runs(baseline) {
                    self.undo_next(Undoing::Restore { control: true });
                }
            }
            Phase::RollingBack {
                undoing: Undoing::Remove,
                ..
            } if seen.canary == Sight::Nothing => {
                self.tell(Happening::Removed);
                self.undo_next(Undoing::Redrive);
            }
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
            | Phase::RollingBack { .. }
            | Phase::Ended { .. } => {}
        }
    }

    /// Why the release will never run where it is to run, if that is so: what runs the processes has given it up, or taken it back.
    ///
    /// A restore has no other release to go to; people are told, and it is tried again.
    fn broken(&self, seen: &Seen) -> Option<String> {
        let sight = match &self.state.phase {
            Phase::Deploying { .. } | Phase::Step { .. } => &seen.canary,
            Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
                if !self.state.is_restore() =>
            {
                &seen.stable
            }
            Phase::Preflight
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
            | Phase::RollingBack { .. }
            | Phase::Ended { .. } => return None,
        };
        match sight {
            Sight::Broken(text) => Some(text.clone()),
            Sight::Nothing | Sight::Coming | Sight::Ready(_) => None,
        }
    }

    fn settled(&mut self) {
        if !self.state.is_restore() {
            return self.end(Outcome::Promoted, None);
        }
        self.tell(Happening::Removed);
        let reason = match &self.state.kind {
            Kind::Restore { reason } => reason.clone(),
            Kind::Canary | Kind::SkipCanary { .. } => String::new(),
        };
        self.state.phase = Phase::RollingBack {
            undoing: Undoing::Remove,
            reason: Reason::Asked {
                by: "a person".to_owned(),
                why: reason,
            },
            since: self.now,
        };
        self.undo_next(Undoing::Redrive);
    }

    fn begin_step(&mut self, index: usize, messages: u64) {
        let share = self.course.plan.steps.get(index).map_or(0.0, |step| step.share);
        let of = if self.state.baseline.is_some() {
            self.course.plan.steps.len()
        } else {
            1
        };
        let number = index + 1;
        let share = if self.state.baseline.is_some() { share } else { 1.0 };
        self.tell(Happening::Step { number, of, share });
        self.state.phase = Phase::Step {
            index,
            since: self.now,
            messages,
        };
    }

    fn judged(&mut self, judgement: &Judgement) {
        if !self.state.is_judged() {
            return;
        }
        if judgement.suspected != self.state.suspected {
            self.state.suspected = judgement.suspected;
            self.tell(if judgement.suspected {
                Happening::Suspected
            } else {
                Happening::Cleared
            });
        }
        match (judgement.decision, &self.state.phase) {
            (Decision::Rollback, _) => self.roll_back(convicted(judgement)),
            // The judge does not say so of a suspected release; it must not count either if it did.
            (Decision::Promote, Phase::Step { .. }) if self.state.hold.is_none() && !judgement.suspected => {
                self.promote(None, String::new());
            }
            (Decision::Continue, Phase::Step { index, .. })
                if judgement.step_done && self.state.hold.is_none() && !judgement.suspected =>
            {
                let next = index + 1;
                if next < self.course.plan.steps.len() && self.state.baseline.is_some() {
                    self.begin_step(next, judgement.messages);
                }
            }
            (Decision::Inconclusive, Phase::Step { .. }) if self.state.hold.is_none() => {
                match self.course.plan.inconclusive {
                    Inconclusive::Hold => self.hold(HoldReason::Inconclusive, None, false),
                    Inconclusive::Rollback => self.roll_back(Reason::Inconclusive),
                }
            }
            (Decision::Promote | Decision::Continue | Decision::Inconclusive, _) => {}
        }
    }

    fn redriven(&mut self, result: &Result<String, String>) {
        let redriving = matches!(
            self.state.phase,
            Phase::RollingBack {
                undoing: Undoing::Redrive,
                ..
            }
        );
        if !redriving {
            return;
        }
        let well = result.is_ok();
        let text = match result {
            Ok(text) | Err(text) => text.clone(),
        };
        self.tell(Happening::Redriven { text, well });
        // The letters are safe where they are: `canary redrive` can be run at any time.
        self.rolled_back();
    }

    fn tick(&mut self, said: Option<&str>) {
        if let Some(hold) = &self.state.hold
            && self.now >= hold.until
        {
            return self.expire();
        }
        let waited =
            |since: Moment, seconds: u32| self.now.since(since) >= Duration::from_secs(seconds.into());
        let patience = self.course.ready_within;
        let held = self.state.hold.is_some();
        let not_ready = || Reason::NotReady {
            seconds: patience,
            said: said.map(str::to_owned),
        };
        match self.state.phase {
            Phase::Deploying { since } if waited(since, patience) && !held => {
                self.roll_back(not_ready());
            }
            // There is no other release to go to: it is waited for, and people are told by the driver.
            Phase::Promoting { since } if waited(since, patience) && !held && !self.state.is_restore() => {
                self.roll_back(not_ready());
            }
            // Without a control group there is no comparison: people decide.
            Phase::Controlling { since } if waited(since, patience) && !held => {
                self.hold(HoldReason::Inconclusive, None, false);
            }
            Phase::Baking { since } if waited(since, self.course.plan.bake.time) && !held => {
                if self.state.suspected {
                    self.hold(HoldReason::Inconclusive, None, false);
                } else {
                    self.bake_over();
                }
            }
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
            | Phase::RollingBack { .. }
            | Phase::Ended { .. } => {}
        }
    }

    fn bake_over(&mut self) {
        self.tell(Happening::BakeOver);
        self.state.phase = Phase::Settling { since: self.now };
    }

    /// Nobody came. Before promotion, and in doubt, the safe way is back; otherwise it goes on.
    fn expire(&mut self) {
        let doubted = self.state.suspected
            || self
                .state
                .hold
                .as_ref()
                .is_some_and(|hold| hold.reason == HoldReason::Inconclusive);
        match self.state.phase {
            Phase::Preflight => {
                self.end(Outcome::Refused, Some(Reason::HoldExpired));
            }
            Phase::Promoting { .. } if self.state.is_restore() => self.release_hold(None),
            Phase::Deploying { .. } | Phase::Step { .. } | Phase::Promoting { .. } => {
                self.roll_back(Reason::HoldExpired);
            }
            Phase::Controlling { .. } | Phase::Baking { .. } if doubted => {
                self.roll_back(Reason::HoldExpired);
            }
            Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
            | Phase::RollingBack { .. } => {
                self.release_hold(None);
            }
            Phase::Ended { .. } => self.state.hold = None,
        }
    }

    fn hold(&mut self, reason: HoldReason, seconds: Option<u32>, shut: bool) {
        let until = self.now.after(seconds.unwrap_or(self.course.hold));
        self.tell(Happening::Held {
            reason: reason.clone(),
            until,
        });
        let since = self.state.hold.as_ref().map_or(self.now, |hold| hold.since);
        self.state.hold = Some(Hold {
            reason,
            since,
            until,
            shut,
        });
    }

    /// Goes on. What time the hold took does not count: not against the deadline, nor against getting ready.
    fn release_hold(&mut self, by: Option<String>) {
        let Some(hold) = self.state.hold.take() else {
            return;
        };
        self.tell(Happening::Resumed { by });
        let held = self.now.since(hold.since);
        self.state.deadline = match hold.reason {
            HoldReason::Person { .. } => self.state.deadline.map(|deadline| deadline.plus(held)),
            HoldReason::Inconclusive => Some(self.now.after(self.course.plan.deadline)),
        };
        self.wait_anew();
    }

    /// Time in which nobody drove, or nobody was to go on, does not count against processes that are to get ready.
    fn wait_anew(&mut self) {
        if let Phase::Deploying { since } | Phase::Promoting { since } | Phase::Controlling { since } =
            &mut self.state.phase
        {
            *since = self.now;
        }
    }

    fn asked(&mut self, ask: &Ask) {
        if self.state.outcome().is_some() {
            return self.refuse("the rollout is over");
        }
        match ask {
            Ask::Pause { .. } if matches!(self.state.phase, Phase::RollingBack { .. }) => {
                self.refuse("it is being rolled back, and the release takes nothing any more");
            }
            Ask::Pause {
                by,
                why,
                seconds,
                shut,
            } => {
                let reason = HoldReason::Person {
                    name: by.clone(),
                    why: why.clone(),
                };
                self.hold(reason, *seconds, *shut);
            }
            Ask::Resume { .. } if self.state.hold.is_none() => self.refuse("it is not held"),
            Ask::Resume { by } => self.release_hold(Some(by.clone())),
            Ask::Promote { by, why } => self.asked_to_promote(by, why),
            Ask::Abort { by, why } => self.asked_to_roll_back(Reason::Asked {
                by: by.clone(),
                why: why.clone(),
            }),
            Ask::Supersede { release } => self.asked_to_roll_back(Reason::Superseded {
                release: release.clone(),
            }),
        }
    }

    fn refuse(&mut self, text: &str) {
        self.refused = Some(text.to_owned());
    }

    fn asked_to_promote(&mut self, by: &str, why: &str) {
        if self.state.suspected {
            return self.refuse("the release is suspected of harm; abort, or wait until the judge clears it");
        }
        match self.state.phase {
            Phase::Step { .. } => {
                self.state.hold = None;
                self.promote(Some(by.to_owned()), why.to_owned());
            }
            Phase::Controlling { .. } | Phase::Baking { .. } => {
                self.state.hold = None;
                self.bake_over();
            }
            Phase::Preflight | Phase::Deploying { .. } => {
                self.refuse("no canary is at work yet; `canary rollout --skip-canary` goes without");
            }
            Phase::Promoting { .. } | Phase::Settling { .. } | Phase::Ended { .. } => {
                self.refuse("it is promoted already");
            }
            Phase::RollingBack { .. } => self.refuse("it is being rolled back"),
        }
    }

    fn asked_to_roll_back(&mut self, reason: Reason) {
        match self.state.phase {
            Phase::RollingBack { .. } => self.refuse("it is being rolled back already"),
            Phase::Preflight => {
                self.state.hold = None;
                self.end(Outcome::Refused, Some(reason));
            }
            Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. } => {
                if self.state.is_restore() {
                    return self.refuse(
                        "this is a rollback, and what it leaves was bad; wait for its end, then roll out or back to another release",
                    );
                }
                self.roll_back(reason);
            }
            Phase::Ended { .. } => self.refuse("the rollout is over"),
        }
    }

    fn promote(&mut self, by: Option<String>, why: String) {
        self.tell(Happening::Promoting { by, why });
        self.state.phase = Phase::Promoting { since: self.now };
    }

    fn roll_back(&mut self, reason: Reason) {
        let undoing = match self.state.phase {
            Phase::Baking { .. } => Undoing::Restore { control: true },
            Phase::Promoting { .. } | Phase::Controlling { .. } | Phase::Settling { .. } => {
                Undoing::Restore { control: false }
            }
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::RollingBack { .. }
            | Phase::Ended { .. } => Undoing::Remove,
        };
        let promoted = undoing != Undoing::Remove;
        self.state.hold = None;
        self.tell(Happening::RollingBack {
            reason: reason.clone(),
            promoted,
        });
        self.state.phase = Phase::RollingBack {
            undoing,
            reason,
            since: self.now,
        };
    }

    fn undo_next(&mut self, next: Undoing) {
        if let Phase::RollingBack { undoing, .. } = &mut self.state.phase {
            *undoing = next;
        }
        if next == Undoing::Redrive && !self.course.plan.redrive.after_rollback {
            self.rolled_back();
        }
    }

    fn rolled_back(&mut self) {
        let outcome = if self.state.is_restore() {
            Outcome::Restored
        } else {
            Outcome::RolledBack
        };
        let reason = self.state.reason().cloned();
        self.end(outcome, reason);
    }

    fn end(&mut self, outcome: Outcome, reason: Option<Reason>) {
        self.state.hold = None;
        self.tell(Happening::Ended { outcome });
        self.state.phase = Phase::Ended {
            outcome,
            reason,
            at: self.now,
        };
    }
}

fn convicted(judgement: &Judgement) -> Reason {
    if judgement.above_ceiling {
        Reason::Ceiling
    } else if judgement.findings.is_empty() {
        Reason::Harm
    } else {
        Reason::Guard {
            findings: judgement.findings.clone(),
        }
    }
}
