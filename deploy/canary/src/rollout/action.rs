//! What a rollout does to the world, and what takes each deed back.

use serde::{Deserialize, Serialize};
use worker::release::Release;

use super::course::Course;
use super::state::{Phase, Revision, State, Undoing};

/// A deed. Every one is idempotent: it says how things are to be, not by how much they are to change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Look whether everything is as it must be. Changes nothing.
    Check,
    /// How much the canary service may take, and whether what it fails is handed over to stable.
    Limit {
        /// How much.
        limit: Limit,
        /// Whether failures go to the handover queue. Off in the bake: the control group's failures are its own.
        handover: bool,
    },
    /// The canary service runs this revision, in so many processes.
    RunCanary {
        /// What.
        revision: Revision,
        /// How many.
        count: Count,
    },
    /// The canary service is scaled to zero.
    StopCanary,
    /// The stable service runs this revision, process by process; none is stopped before its successor is ready.
    RunStable {
        /// What.
        revision: Revision,
    },
    /// The stable service is scaled to zero: only for a first release that is taken back, when there is no other.
    StopStable,
    /// This revision is what templates and later rollouts take for stable.
    Record {
        /// Which; none when a first release is taken back.
        revision: Option<Revision>,
    },
    /// What this release dead-lettered goes back to its queue.
    Redrive {
        /// Which.
        release: Release,
    },
}

/// How many processes of the canary service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// The fleet's number for a canary.
    Few,
    /// As many as the stable service has: it carries the work.
    Full,
}

/// How much the canary service may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Nothing.
    Shut,
    /// This share of all messages, in (0, 1).
    Share(f64),
    /// So many messages a second, or the share if that is less.
    Trickle {
        /// Messages a second.
        rate: f64,
        /// Share of all messages.
        share: f64,
    },
    /// All it can.
    Open,
}

impl Action {
    /// What takes the action back in this rollout; `None` where there is nothing to take back.
    ///
    /// Never puts a release back that is being rolled back: in a restore, what brought the good release stays.
    #[must_use]
    pub fn undo(&self, state: &State) -> Option<Self> {
        match self {
            // It changed nothing.
            Self::Check => None,
            Self::Limit { .. } => Some(Self::Limit {
                limit: Limit::Shut,
                handover: false,
            }),
            Self::RunCanary { .. } => Some(Self::StopCanary),
            Self::RunStable { .. } if state.is_restore() => None,
            Self::RunStable { .. } => Some(
                state
                    .baseline
                    .clone()
                    .map_or(Self::StopStable, |revision| Self::RunStable { revision }),
            ),
            Self::Record { .. } if state.is_restore() => None,
            Self::Record { .. } => Some(Self::Record {
                revision: state.baseline.clone(),
            }),
            // Both are undoings themselves, and safe to leave as they are.
            Self::StopCanary | Self::StopStable => None,
            // The messages are work like any other again.
            Self::Redrive { .. } => None,
        }
    }
}

/// The actions that must hold while `state` lasts, in the order in which they are carried out.
#[must_use]
pub fn standing(course: &Course, state: &State) -> Vec<Action> {
    let candidate = || state.candidate.clone();
    let limited = |handover| Action::Limit {
        limit: limit(course, state),
        handover,
    };
    let canary = || Action::RunCanary {
        revision: candidate(),
        count: Count::Few,
    };
    let promoted = || {
        [
            Action::Record {
                revision: Some(candidate()),
            },
            Action::RunStable {
                revision: candidate(),
            },
        ]
    };
    match &state.phase {
        Phase::Preflight => vec![Action::Check],
        Phase::Deploying { .. } | Phase::Step { .. } => {
            vec![limited(state.baseline.is_some()), canary()]
        }
        Phase::Promoting { .. } if is_direct(state) => promoted().into(),
        Phase::Promoting { .. } => {
            let mut actions = vec![limited(state.baseline.is_some()), canary()];
            actions.extend(promoted());
            actions
        }
        Phase::Controlling { .. } | Phase::Baking { .. } => {
            let mut actions = vec![limited(false)];
            actions.extend(control(state, Count::Few));
            actions.extend(promoted());
            actions
        }
        Phase::Settling { .. } => {
            let mut actions = vec![limited(false), Action::StopCanary];
            actions.extend(promoted());
            actions
        }
        Phase::RollingBack { undoing, .. } => undo(course, state, *undoing),
        Phase::Ended { .. } => Vec::new(),
    }
}

/// Whether the release goes to all at once: there is no canary.
pub(super) fn is_direct(state: &State) -> bool {
    use super::state::Kind;
    matches!(state.kind, Kind::SkipCanary { .. } | Kind::Restore { .. })
}

fn control(state: &State, count: Count) -> Option<Action> {
    let revision = state.baseline.clone()?;
    Some(Action::RunCanary { revision, count })
}

fn undo(course: &Course, state: &State, undoing: Undoing) -> Vec<Action> {
    let done = [
        Action::Record {
            revision: Some(state.candidate.clone()),
        },
        Action::RunStable {
            revision: state.candidate.clone(),
        },
    ];
    match undoing {
        // The control group carries the work until the stable service is itself again; then it is undone, too.
        Undoing::Restore { .. } => {
            let mut actions = vec![Action::Limit {
                limit: limit(course, state),
                handover: false,
            }];
            actions.extend(control(state, Count::Full));
            actions.extend(done.iter().filter_map(|action| action.undo(state)));
            actions
        }
        Undoing::Remove => vec![
            Action::Limit {
                limit: Limit::Shut,
                handover: false,
            },
            Action::StopCanary,
        ],
        Undoing::Redrive => state
            .abandoned()
            .map(|release| Action::Redrive {
                release: release.clone(),
            })
            .into_iter()
            .collect(),
    }
}

/// How much the canary service may take now.
#[must_use]
pub fn limit(course: &Course, state: &State) -> Limit {
    let shut = state.hold.as_ref().is_some_and(|hold| hold.shut);
    let of_step = |index: usize| course.plan.steps.get(index).map_or(0.0, |step| step.share);
    match &state.phase {
        Phase::Step { .. } if shut => Limit::Shut,
        // A first release has the queue to itself: there is nobody to share with.
        Phase::Step { .. } | Phase::Promoting { .. } if state.baseline.is_none() => Limit::Open,
        Phase::Step { index, .. } if state.suspected => Limit::Trickle {
            rate: course.plan.trickle,
            share: of_step(*index),
        },
        Phase::Step { index, .. } => Limit::Share(of_step(*index)),
        Phase::Promoting { .. } => Limit::Share(of_step(course.plan.steps.len().saturating_sub(1))),
        // The new release is suspected: the old one takes all it can get, which is as reversible as a trickle.
        Phase::Baking { .. } if state.suspected => Limit::Open,
        Phase::Baking { .. } => Limit::Share(course.plan.bake.share),
        Phase::RollingBack {
            undoing: Undoing::Restore { control: true },
            ..
        } => Limit::Open,
        Phase::Preflight
        | Phase::Deploying { .. }
        | Phase::Controlling { .. }
        | Phase::Settling { .. }
        | Phase::RollingBack { .. }
        | Phase::Ended { .. } => Limit::Shut,
    }
}
