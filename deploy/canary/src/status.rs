//! Where a rollout stands, for people and for scripts: made of its journal alone.

pub mod screen;

use serde::Serialize;

use crate::discretion::Discretion;
use crate::fleet::local::sight::Sight;
use crate::journal::{Journal, Measured, ServiceMeasured};
use crate::judge::guard::Finding;
use crate::judge::verdict::{Decision, Measure, Otherwise, SignalReport, Verdict};
use crate::moment::Moment;
use crate::plan::Plan;
use crate::rollout::{Happening, HoldReason, Kind, Outcome, Phase, Reason, State};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// A heartbeat older than this many seconds: whoever drove the rollout does so no longer.
const STALE: u64 = 30;

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Version of this form; 1.
    pub schema: u32,
    /// The rollout's id.
    pub rollout: String,
    /// The release that is rolled out.
    pub release: String,
    /// The release before; none for the first one.
    pub baseline: Option<String>,
    /// How it is rolled out: by canary, at once, or back.
    pub kind: &'static str,
    /// Why not by canary, in the words of who asked for it.
    pub asked: Option<String>,
    /// Name of the plan.
    pub plan: String,
    /// The phase, in a word.
    pub phase: &'static str,
    /// What goes on, in a sentence.
    pub now: String,
    /// How it ended, if it has: `promoted`, `rolled_back`, `restored` or `refused`.
    pub outcome: Option<Outcome>,
    /// Why it was not promoted.
    pub reason: Option<String>,
    /// Why it does not go forward, and until when.
    pub held: Option<Held>,
    /// Whether the evidence of harm is past its bound.
    pub suspected: bool,
    /// When it began.
    pub began: Moment,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Who drives it.
    pub owner: Option<String>,
    /// Whether nobody does, although it has not ended: the latest heartbeat is more than 30 s old.
    pub stale: bool,
    /// The plan's steps; none where they are not taken: without a canary, and with nothing to compare with.
    pub steps: Vec<Step>,
    /// How the work is shared, and who does it.
    pub measured: Measured,
    /// What is amiss with the processes of a fleet on this machine that no rollout looks after, and what sets it right.
    pub amiss: Option<String>,
    /// The command that goes on with it where nobody drives it; none once it has ended.
    pub goes_on: Option<String>,
    /// The signals, failures first: rates with their bands.
    pub signals: Vec<SignalReport>,
    /// Evidence of harm against its bound.
    pub harm: Option<Measure>,
    /// Evidence that it is not worse than tolerated against its bound.
    pub promotion: Option<Measure>,
    /// What the judge said last.
    pub decision: Option<Decision>,
    /// What the guards found.
    pub guards: Vec<Finding>,
    /// What it would have taken to decide otherwise.
    pub otherwise: Option<Otherwise>,
    /// Ids of the first messages that the new release failed.
    pub first_failures: Vec<String>,
    /// What happened, oldest first.
    pub timeline: Vec<Told>,
    /// Entries that the timeline does not keep.
    pub left_out: u64,
}

/// Why a rollout does not go forward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// Why.
    pub reason: String,
    /// When that expires.
    pub until: Moment,
}

/// A step of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The canary's share.
    pub share: f64,
    /// Seconds it lasts at least.
    pub least_time: u32,
    /// Canary messages it waits for at least.
    pub least_messages: u64,
    /// Whether it is over, under way or to come.
    pub progress: Progress,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Over.
    Done,
    /// Under way, or where the rollout was stopped.
    Now,
    /// To come.
    Ahead,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// When.
    pub at: Moment,
    /// What, in words.
    pub text: String,
    /// Whether a person should look.
    pub trouble: bool,
}

impl Status {
    /// What `journal` says at `now`.
    #[must_use]
    pub fn of(journal: &Journal, now: Moment, discretion: Discretion) -> Self {
        let journal = discretion.journal(journal);
        let plan = Plan::read(&journal.plan).ok();
        let state = &journal.state;
        let ended = match &state.phase {
            Phase::Ended { at, .. } => Some(*at),
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. }
            | Phase::RollingBack { .. } => None,
        };
        let verdict = journal.verdict.as_ref();
        let beat = journal.owner.as_ref().map(|owner| owner.heartbeat);
        Self {
            schema: SCHEMA,
            rollout: journal.rollout.clone(),
            release: state.candidate.release.to_string(),
            baseline: state
                .baseline
                .as_ref()
                .map(|revision| revision.release.to_string()),
            kind: kind(&state.kind),
            asked: asked(&state.kind),
            phase: state.phase.name(),
            now: sentence(state, plan.as_ref()),
            outcome: state.outcome(),
            reason: reason(&journal),
            held: state.hold.as_ref().map(|hold| Held {
                reason: held(&hold.reason),
                until: hold.until,
            }),
            suspected: state.suspected,
            began: state.began,
            ended,
            owner: journal.owner.as_ref().map(ToString::to_string),
            stale: ended.is_none() && beat.is_none_or(|beat| now.since(beat).as_secs() > STALE),
            steps: plan
                .as_ref()
                .filter(|_| is_by_steps(state))
                .map(|plan| steps(plan, &journal))
                .unwrap_or_default(),
            plan: plan.map_or_else(
                || "(not readable)".to_owned(),
                |plan| Discretion::Bounded.text(&plan.name),
            ),
            measured: journal.measured.clone(),
            amiss: None,
            goes_on: state.outcome().is_none().then(|| state.goes_on()),
            signals: verdict.map(|verdict| verdict.signals.clone()).unwrap_or_default(),
            harm: verdict.map(|verdict| verdict.harm),
            promotion: verdict.map(|verdict| verdict.promotion),
            decision: verdict.map(|verdict| verdict.decision),
            guards: verdict.map(|verdict| verdict.guards.clone()).unwrap_or_default(),
            otherwise: verdict.map(|verdict| verdict.otherwise),
            first_failures: verdict
                .map(|verdict: &Verdict| verdict.first_failures.clone())
                .unwrap_or_default(),
            timeline: journal
                .timeline
                .iter()
                .map(|entry| Told::of(entry.at, &entry.happening))
                .collect(),
            left_out: journal.left_out,
        }
    }

    /// Takes what was `seen` of the processes at `now` for what the journal says of them.
    pub fn see(&mut self, seen: Sight, now: Moment) {
        let Sight {
            stable,
            canary,
            amiss,
        } = seen;
        (self.measured.stable, self.measured.canary) = (stable, canary);
        self.measured.at = now;
        self.amiss = amiss;
    }

    /// How long it has gone on, or went on, in seconds.
    #[must_use]
    pub fn seconds(&self, now: Moment) -> u64 {
        self.ended.unwrap_or(now).since(self.began).as_secs()
    }

    /// How it stands in two or three words.
    #[must_use]
    pub fn headline(&self) -> &'static str {
        match (self.outcome, &self.held) {
            (Some(Outcome::Promoted), _) => "promoted",
            (Some(Outcome::RolledBack), _) => "rolled back",
            (Some(Outcome::Restored), _) => "restored",
            (Some(Outcome::Refused), _) => "refused before the start",
            (None, Some(_)) => "held",
            (None, None) if self.suspected => "suspected",
            (None, None) => "under way",
        }
    }
}

impl Told {
    fn of(at: Moment, happening: &Happening) -> Self {
        Self {
            at,
            text: happening.to_string(),
            trouble: is_trouble(happening),
        }
    }
}

/// Whether a person should look.
fn is_trouble(happening: &Happening) -> bool {
    match happening {
        Happening::Suspected
        | Happening::Held { .. }
        | Happening::RollingBack { .. }
        | Happening::Redriven { well: false, .. }
        | Happening::Refused { .. }
        | Happening::Crashed { .. }
        | Happening::Trouble { .. } => true,
        Happening::Began { .. }
        | Happening::Checked { .. }
        | Happening::CanaryReady
        | Happening::Step { .. }
        | Happening::Cleared
        | Happening::Resumed { .. }
        | Happening::Promoting { .. }
        | Happening::Promoted
        | Happening::BakeBegan { .. }
        | Happening::BakeOver
        | Happening::StableRestored { .. }
        | Happening::Removed
        | Happening::Redriven { well: true, .. }
        | Happening::Ended { .. }
        | Happening::TakenOver { .. } => false,
    }
}

/// Why it was not promoted; of a crash loop with how the release's latest process ended.
fn reason(journal: &Journal) -> Option<String> {
    let state = &journal.state;
    let reason = state.reason()?;
    let crashes = |finding: &Finding| matches!(finding, Finding::CrashLoop { .. });
    let crashed = matches!(reason, Reason::Guard { findings } if findings.iter().any(crashes));
    let last = journal.timeline.iter().rev().find_map(|entry| {
        let Happening::Crashed { release, text, .. } = &entry.happening else {
            return None;
        };
        (*release == state.candidate.release).then_some(text)
    });
    Some(match last.filter(|_| crashed) {
        Some(last) => format!("{reason}; the last one: {last}"),
        None => reason.to_string(),
    })
}

const fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Canary => "by canary",
        Kind::SkipCanary { .. } => "at once, without a canary",
        Kind::Restore { .. } => "back to a release that ran before",
    }
}

fn asked(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Canary => None,
        Kind::SkipCanary { reason } | Kind::Restore { reason } => {
            Some(reason.clone()).filter(|reason| !reason.is_empty())
        }
    }
}

fn held(reason: &HoldReason) -> String {
    match reason {
        HoldReason::Inconclusive => "no verdict by the deadline; people decide".to_owned(),
        HoldReason::Person { name, why } if why.is_empty() => format!("by {name}"),
        HoldReason::Person { name, why } => format!("by {name}: {why}"),
    }
}

fn sentence(state: &State, plan: Option<&Plan>) -> String {
    let percent = |share: f64| crate::plan::unit::show_fraction(share);
    match &state.phase {
        Phase::Preflight => "checking whether everything is as it must be".to_owned(),
        Phase::Deploying { .. } => "the canary comes up; it takes nothing yet".to_owned(),
        Phase::Step { index, .. } => {
            let step = plan.and_then(|plan| Some((plan.steps.get(*index)?.share, plan.steps.len())));
            match step {
                Some((share, of)) => {
                    format!("step {} of {of}: {} of the messages", index + 1, percent(share))
                }
                None => format!("step {}", index + 1),
            }
        }
        Phase::Promoting { .. } => "the stable service goes over to the new release".to_owned(),
        Phase::Controlling { .. } => "the old release comes up as control group".to_owned(),
        Phase::Baking { .. } => match plan {
            Some(plan) => format!(
                "bake: the old release keeps {} as control group",
                percent(plan.bake.share)
            ),
            None => "bake".to_owned(),
        },
        Phase::Settling { .. } => "the canary service is taken away".to_owned(),
        Phase::RollingBack { reason, .. } => format!("rolling back: {reason}"),
        Phase::Ended { outcome, .. } => match outcome {
            Outcome::Promoted => "promoted: it runs everywhere".to_owned(),
            Outcome::RolledBack => "rolled back: nothing of it runs".to_owned(),
            Outcome::Restored => "restored: the release that was asked for runs everywhere".to_owned(),
            Outcome::Refused => "refused before the start: nothing was changed".to_owned(),
        },
    }
}

fn is_by_steps(state: &State) -> bool {
    state.kind == Kind::Canary && (state.baseline.is_some() || state.phase == Phase::Preflight)
}

/// The plan's steps. How far a rollout came that is past them, or was stopped, its timeline says.
fn steps(plan: &Plan, journal: &Journal) -> Vec<Step> {
    let reached = journal.timeline.iter().rev().find_map(|entry| {
        let Happening::Step { number, .. } = entry.happening else {
            return None;
        };
        Some(number)
    });
    let passed = journal
        .timeline
        .iter()
        .any(|entry| matches!(entry.happening, Happening::Promoting { .. }));
    let progress = |number: usize| match reached {
        Some(reached) if number < reached || (number == reached && passed) => Progress::Done,
        Some(reached) if number == reached => Progress::Now,
        _ => Progress::Ahead,
    };
    let step = |(index, step): (usize, &crate::plan::Step)| Step {
        share: step.share,
        least_time: step.least_time,
        least_messages: step.least_messages,
        progress: progress(index + 1),
    };
    plan.steps.iter().enumerate().map(step).collect()
}

/// Processes of a service that are ready.
#[must_use]
pub fn ready(service: &ServiceMeasured) -> usize {
    let is_ready = |process: &&crate::journal::ProcessMeasured| process.state == "ready";
    service.processes.iter().filter(is_ready).count()
}

/// How often its processes were started again.
#[must_use]
pub fn restarts(service: &ServiceMeasured) -> u32 {
    service.processes.iter().map(|process| process.restarts).sum()
}
