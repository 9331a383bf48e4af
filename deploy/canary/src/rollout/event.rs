//! What a rollout learns, and what it tells.

use std::fmt;

use serde::{Deserialize, Serialize};
use worker::release::Release;

use crate::judge::guard::Finding;
use crate::judge::verdict::{Decision, Verdict};
use crate::moment::Moment;

use super::state::{HoldReason, Outcome, Reason, Revision};

/// What a rollout learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The tool was started again, or took the rollout over: all that stands is carried out once more.
    Restarted,
    /// The checks before the start are through.
    Checked(Result<Facts, String>),
    /// What the fleet looks like.
    Seen(Seen),
    /// What the judge says.
    Judged(Judgement),
    /// What the release had dead-lettered was sent back, or could not be; the text says how many or why not.
    Redriven(Result<String, String>),
    /// Time has passed.
    Tick {
        /// What a process that is to get ready, and is not, said last.
        said: Option<String>,
    },
    /// A person, or a newer release, asks for something.
    Asked(Ask),
}

/// What the checks found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// What runs as stable; none before the first release ever.
    pub baseline: Option<Revision>,
    /// Of what there is too little for a rollout to begin. What is put back is put back all the same, as far as it goes.
    pub lacks: Vec<String>,
}

/// What the fleet looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The canary service.
    pub canary: Sight,
    /// The stable service.
    pub stable: Sight,
}

/// What a service looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// No process.
    Nothing,
    /// Between one thing and another.
    Coming,
    /// All its processes run this release and are ready.
    Ready(Release),
    /// It will not come to run what it was told to: why.
    Broken(String),
}

/// What the judge says, as far as a rollout goes by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What is to be done.
    pub decision: Decision,
    /// Whether the evidence of harm is past its bound.
    pub suspected: bool,
    /// Whether the step has run its time and seen its messages.
    pub step_done: bool,
    /// Canary messages judged so far, in the whole rollout.
    pub messages: u64,
    /// What the guards found.
    pub findings: Vec<Finding>,
    /// Whether a release without a baseline fails more than the ceiling.
    pub above_ceiling: bool,
}

impl From<&Verdict> for Judgement {
    fn from(verdict: &Verdict) -> Self {
        let failures = verdict.signals.iter().find(|signal| signal.name == "failures");
        Self {
            decision: verdict.decision,
            suspected: verdict.suspected,
            step_done: verdict.step_done,
            messages: failures.map_or(0, |signal| signal.canary.attempts),
            findings: verdict.guards.clone(),
            above_ceiling: false,
        }
    }
}

/// What a person, or a newer release, asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Do not go forward for now. Refused only while the release is being rolled back, and takes nothing any more.
    Pause {
        /// Who.
        by: String,
        /// Why.
        why: String,
        /// Seconds until the hold expires; the usual time if none.
        seconds: Option<u32>,
        /// Whether the canary may take nothing meanwhile.
        shut: bool,
    },
    /// Go on.
    Resume {
        /// Who.
        by: String,
    },
    /// Promote now, whatever is still to come. Refused while the release is suspected.
    Promote {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Roll back.
    Abort {
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// Roll back to make room for a newer release.
    Supersede {
        /// Which.
        release: Release,
    },
}

/// What happened, for the timeline and for notifications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "happened", rename_all = "snake_case")]
pub enum Happening {
    /// A rollout was begun.
    Began {
        /// Of this release.
        release: Release,
    },
    /// The checks are through.
    Checked {
        /// What it is compared with; none for a first release.
        baseline: Option<Release>,
    },
    /// The canary is ready.
    CanaryReady,
    /// A step of the plan began.
    Step {
        /// From 1.
        number: usize,
        /// Of so many.
        of: usize,
        /// The canary's share.
        share: f64,
    },
    /// The evidence of harm is past its bound: the canary was cut to a trickle (in the bake: the old release takes all it can).
    Suspected,
    /// It is not any more.
    Cleared,
    /// The rollout does not go forward.
    Held {
        /// Why.
        reason: HoldReason,
        /// Until when.
        until: Moment,
    },
    /// It goes on.
    Resumed {
        /// Who said so; none when the hold expired.
        by: Option<String>,
    },
    /// The release goes to all.
    Promoting {
        /// Who said so; none when it was the judge.
        by: Option<String>,
        /// Why, in their words; empty when it was the judge.
        why: String,
    },
    /// All stable processes run the new release.
    Promoted,
    /// The bake began.
    BakeBegan {
        /// What the old release keeps.
        share: f64,
    },
    /// The bake is over.
    BakeOver,
    /// Everything is being undone.
    RollingBack {
        /// Why.
        reason: Reason,
        /// Whether the release had been promoted, at least in part.
        promoted: bool,
    },
    /// The stable service runs the release before again.
    StableRestored {
        /// Whether there was none, so that it is stopped instead.
        #[serde(default)]
        stopped: bool,
    },
    /// The release is off the fleet: none of its processes is left.
    Removed,
    /// Its dead letters went back.
    Redriven {
        /// How many, or why not.
        text: String,
        /// Whether it went well.
        well: bool,
    },
    /// It is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
    /// Another tool went on with the rollout.
    TakenOver {
        /// Who.
        by: String,
        /// From whom.
        from: String,
    },
    /// A request was refused.
    Refused {
        /// Why.
        text: String,
    },
    /// A process ended by itself.
    Crashed {
        /// `stable` or `canary`.
        service: String,
        /// Its release.
        release: Release,
        /// How it ended.
        text: String,
    },
    /// Something did not work and is tried again, or may come not to work.
    Trouble {
        /// What.
        text: String,
    },
}

impl fmt::Display for Happening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began { release } => write!(formatter, "rollout of {release} begins"),
            Self::Checked { baseline: Some(release) } => {
                write!(formatter, "checks passed; it is compared with {release}")
            }
            Self::Checked { baseline: None } => formatter.write_str(
                "checks passed; this is the first release: nothing to compare with, only its health and the ceiling count",
            ),
            Self::CanaryReady => formatter.write_str("the canary is ready"),
            Self::Step { number, of, share } => {
                write!(formatter, "step {number} of {of}: {:.1} % of the messages", share * 100.0)
            }
            Self::Suspected => formatter.write_str("suspected: cut to a trickle"),
            Self::Cleared => formatter.write_str("not suspected any more"),
            Self::Held {
                reason: HoldReason::Inconclusive,
                until,
            } => write!(formatter, "held: no verdict, people decide; expires {until}"),
            Self::Held {
                reason: HoldReason::Person { name, why },
                until,
            } => write!(formatter, "held by {name}{}; expires {until}", colon(why)),
            Self::Resumed { by: Some(by) } => write!(formatter, "resumed by {by}"),
            Self::Resumed { by: None } => formatter.write_str("the hold expired; it goes on"),
            Self::Promoting { by: None, .. } => formatter.write_str("not worse than tolerated: promoting"),
            Self::Promoting { by: Some(by), why } => write!(formatter, "promoting, asked for by {by}{}", colon(why)),
            Self::Promoted => formatter.write_str("promoted: all stable processes run it"),
            Self::BakeBegan { share } => write!(
                formatter,
                "bake: the old release keeps {:.1} % as control group",
                share * 100.0
            ),
            Self::BakeOver => formatter.write_str("bake over"),
            Self::RollingBack { reason, promoted: false } => write!(formatter, "rolling back: {reason}"),
            Self::RollingBack { reason, promoted: true } => {
                write!(formatter, "rolling back after promotion: {reason}")
            }
            Self::StableRestored { stopped: false } => {
                formatter.write_str("the stable service runs the release before again")
            }
            Self::StableRestored { stopped: true } => {
                formatter.write_str("the stable service is stopped: there was no release before")
            }
            Self::Removed => formatter.write_str("removed: none of its processes is left"),
            Self::Redriven { text, well: true } => write!(formatter, "redrive: {text}"),
            Self::Redriven { text, well: false } => write!(formatter, "redrive failed: {text}"),
            Self::Ended { outcome } => formatter.write_str(match outcome {
                Outcome::Promoted => "ended: promoted",
                Outcome::RolledBack => "ended: rolled back",
                Outcome::Restored => "ended: restored",
                Outcome::Refused => "ended: refused before the start",
            }),
            Self::TakenOver { by, from } => write!(formatter, "{by} goes on with it; it was {from}'s"),
            Self::Refused { text } => write!(formatter, "refused: {text}"),
            Self::Crashed { service, release, text } => {
                write!(formatter, "a {service} process of {release} ended by itself: {text}")
            }
            Self::Trouble { text } => formatter.write_str(text),
        }
    }
}

fn colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}
