//! Where a rollout stands.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use worker::release::Release;

use crate::judge::guard::Finding;
use crate::moment::Moment;

/// A release together with the configuration it runs with: what is tested is what is promoted, to the last setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The name that its messages, metrics and dead letters carry.
    pub release: Release,
    /// What a fleet needs to run it.
    pub definition: Definition,
}

/// What a fleet runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fleet", rename_all = "snake_case")]
pub enum Definition {
    /// A command on this machine.
    Local {
        /// Program and arguments.
        command: Vec<String>,
        /// Variables of the environment, on top of those of the tool.
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    /// A revision of a task definition on Amazon ECS.
    Ecs {
        /// Its ARN, which ends in the revision's number.
        task_definition: String,
        /// The worker's image, by digest.
        image: String,
        /// Variables that were set for this release, on top of those of the revision it was made of.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// The worker's variables, except those from secrets.
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
}

impl Definition {
    /// The variables of the worker's environment.
    #[must_use]
    pub fn environment(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Local { environment, .. } | Self::Ecs { environment, .. } => environment,
        }
    }
}

/// What kind of rollout this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// By the plan: canary, comparison, promotion, bake.
    Canary,
    /// At once to all, without a comparison: an emergency.
    SkipCanary {
        /// Why, in the words of who asked for it.
        reason: String,
    },
    /// Back to a release that ran before, at once. What it replaces is the release that is rolled back.
    Restore {
        /// Why, in the words of who asked for it.
        reason: String,
    },
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What kind of rollout.
    pub kind: Kind,
    /// The release that is rolled out.
    pub candidate: Revision,
    /// The release that ran before; none for the first release ever, and before the checks are through.
    pub baseline: Option<Revision>,
    /// When it began.
    pub began: Moment,
    /// The part that is under way.
    pub phase: Phase,
    /// Whether and why it does not go forward. Conviction and abort work all the same.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Whether the evidence of harm is past its bound: the canary is cut to a trickle.
    #[serde(default)]
    pub suspected: bool,
    /// When there must be a verdict; known from the first step on.
    #[serde(default)]
    pub deadline: Option<Moment>,
}

/// The part of a rollout that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Is everything as it must be? Nothing was changed yet.
    Preflight,
    /// The canary service comes up; its gate is shut.
    Deploying {
        /// Since when.
        since: Moment,
    },
    /// The canary takes the share of this step of the plan.
    Step {
        /// Index into the plan's steps.
        index: usize,
        /// Since when.
        since: Moment,
        /// Canary messages that had been judged by then.
        messages: u64,
    },
    /// The stable service goes over to the new release.
    Promoting {
        /// Since when.
        since: Moment,
    },
    /// The old release comes up as control group.
    Controlling {
        /// Since when.
        since: Moment,
    },
    /// The new release has the work; the old one keeps a small share to compare with.
    Baking {
        /// Since when.
        since: Moment,
    },
    /// The control group, or the canary, is taken away.
    Settling {
        /// Since when.
        since: Moment,
    },
    /// Everything that was done is undone.
    RollingBack {
        /// What is being undone now.
        undoing: Undoing,
        /// Why.
        reason: Reason,
        /// Since when.
        since: Moment,
    },
    /// Over.
    Ended {
        /// How.
        outcome: Outcome,
        /// Why, where it was not promoted.
        reason: Option<Reason>,
        /// When.
        at: Moment,
    },
}

impl Phase {
    /// Its name, as the journal, `status --json` and the metrics have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Deploying { .. } => "deploying",
            Self::Step { .. } => "step",
            Self::Promoting { .. } => "promoting",
            Self::Controlling { .. } => "controlling",
            Self::Baking { .. } => "baking",
            Self::Settling { .. } => "settling",
            Self::RollingBack { .. } => "rolling_back",
            Self::Ended { .. } => "ended",
        }
    }
}

/// The stages of a rollback, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undoing {
    /// From promotion on: the old release goes back to the stable service, and takes all it can on the canary service meanwhile.
    Restore {
        /// Whether the canary service runs the old release already. Until then its gate is shut: the bad one may be behind it.
        control: bool,
    },
    /// The canary service is paused and scaled to zero.
    Remove,
    /// What the release dead-lettered goes back to its queue.
    Redrive,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new release runs everywhere.
    Promoted,
    /// The release before runs everywhere, and nothing of the new one.
    RolledBack,
    /// The release that was asked for by `rollback --to` runs everywhere.
    Restored,
    /// It never began: the checks found something.
    Refused,
}

/// Why a rollout did not end in promotion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The checks found something.
    Preflight {
        /// What.
        error: String,
    },
    /// The judge convicted the release.
    Harm,
    /// Guards acted.
    Guard {
        /// What they found.
        findings: Vec<Finding>,
    },
    /// A first release, which has nothing to be compared with, fails more than the plan's ceiling.
    Ceiling,
    /// Its processes did not get ready in time.
    NotReady {
        /// Seconds they were given.
        seconds: u32,
        /// What one of them said last.
        #[serde(default)]
        said: Option<String>,
    },
    /// What runs the processes has given it up.
    NotStarting {
        /// What it says.
        text: String,
    },
    /// No verdict by the deadline, and the plan says `rollback`.
    Inconclusive,
    /// It was held, and nobody came before the hold expired.
    HoldExpired,
    /// A person asked for it.
    Asked {
        /// Who.
        by: String,
        /// Why, in their words.
        why: String,
    },
    /// A newer release takes its place.
    Superseded {
        /// Which.
        release: Release,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preflight { error } => write!(formatter, "the checks before the start: {error}"),
            Self::Harm => write!(formatter, "it does worse than the release before, beyond chance"),
            Self::Guard { findings } => {
                for (index, finding) in findings.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(formatter, "{separator}{}", describe(finding))?;
                }
                Ok(())
            }
            Self::Ceiling => write!(formatter, "it fails more than the plan's ceiling"),
            Self::NotReady { seconds, said } => {
                write!(formatter, "its processes were not ready within {seconds} s")?;
                said.iter().try_for_each(|said| write!(formatter, "; {said}"))
            }
            Self::NotStarting { text } => formatter.write_str(text),
            Self::Inconclusive => write!(formatter, "no verdict by the deadline"),
            Self::HoldExpired => write!(formatter, "it was held, and the hold expired"),
            Self::Asked { by, why } if why.is_empty() => write!(formatter, "asked for by {by}"),
            Self::Asked { by, why } => write!(formatter, "asked for by {by}: {why}"),
            Self::Superseded { release } => write!(formatter, "release {release} takes its place"),
        }
    }
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Silent { seconds, expected } => format!(
            "the canary finished nothing for {seconds} s, where {expected:.0} messages were to be expected"
        ),
        Finding::BreakersOpen { open, running } => {
            format!("{open} of {running} canary processes have stopped themselves (rate breaker)")
        }
        Finding::CrashLoop { starts, running } => {
            format!("the canary keeps crashing: {starts} starts of {running} processes")
        }
    }
}

/// Why a rollout does not go forward, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Since when.
    pub since: Moment,
    /// When it expires. Before promotion, and while the release is suspected, it is rolled back then; later it goes on.
    pub until: Moment,
    /// Whether the canary may take nothing meanwhile; otherwise it keeps its share. Means nothing from promotion on.
    #[serde(default)]
    pub shut: bool,
}

/// Who holds a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum HoldReason {
    /// The plan: there was no verdict by the deadline.
    Inconclusive,
    /// A person.
    Person {
        /// Who.
        name: String,
        /// Why, in their words.
        why: String,
    },
}

impl State {
    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Ended { outcome, .. } => Some(*outcome),
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
            | Phase::RollingBack { .. } => None,
        }
    }

    /// Why it was rolled back or refused, once that is so.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match &self.phase {
            Phase::Ended { reason, .. } => reason.as_ref(),
            Phase::RollingBack { reason, .. } => Some(reason),
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. } => None,
        }
    }

    /// Whether the judge is listened to: from the moment the canary is deployed until the release is everywhere, or gone.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        let judged = match self.phase {
            Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. } => true,
            Phase::Preflight | Phase::Settling { .. } | Phase::RollingBack { .. } | Phase::Ended { .. } => {
                false
            }
        };
        judged && self.kind == Kind::Canary
    }

    /// The release whose dead letters go back after a rollback.
    #[must_use]
    pub fn abandoned(&self) -> Option<&Release> {
        match self.kind {
            Kind::Canary | Kind::SkipCanary { .. } => Some(&self.candidate.release),
            Kind::Restore { .. } => self.baseline.as_ref().map(|revision| &revision.release),
        }
    }

    /// The command that goes on with it where nobody drives it any more.
    #[must_use]
    pub fn goes_on(&self) -> String {
        let release = &self.candidate.release;
        match (&self.kind, &self.phase) {
            (Kind::Restore { .. }, _) => format!("canary rollback --to {release}"),
            // Everything it takes is in the journal.
            (_, Phase::RollingBack { .. }) => "canary abort".to_owned(),
            (Kind::Canary | Kind::SkipCanary { .. }, _) => {
                format!("canary rollout --plan FILE --release {release}")
            }
        }
    }

    /// Whether its release has not received any message yet, so that all can begin anew as if it had never been.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        matches!(self.phase, Phase::Preflight | Phase::Deploying { .. })
    }

    /// Whether the release may not be brought back by undoing: it is what is being rolled back.
    pub(crate) fn is_restore(&self) -> bool {
        matches!(self.kind, Kind::Restore { .. })
    }
}
