//! Driving a rollout from a command: from the claim to its end, or to a signal.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;
use worker::sqs::Sqs;

use super::exit::Exit;
use super::lines::Lines;
use super::{differences, report};
use crate::drive::{self, Claim, Drive, End, Manner, Observer, Parts};
use crate::fleet::local::Turn;
use crate::journal::Journal;
use crate::letters::Letters;
use crate::moment::Moment;
use crate::notify::Notifier;
use crate::place::{self, Counts, Journals, Processes};
use crate::plan::Plan;
use crate::redrive::REQUEST_TIMEOUT;
use crate::rollout::{Ask, Course, Kind, Limit, Outcome, Phase, action};
use crate::settings::Settings;

/// How long `canary fleet run` may take until it leaves the processes to a rollout.
const TURN: Duration = Duration::from_secs(5);
/// How long the end waits for notifications and metrics that are still under way.
const LAST_NOTES: Duration = Duration::from_secs(15);

/// What is to be driven.
pub(super) struct Errand {
    pub(super) settings: Settings,
    pub(super) fresh: Option<Journal>,
    pub(super) take_over: bool,
    pub(super) manner: Manner,
}

pub(super) fn now() -> Moment {
    Clock::System.now().into()
}

/// How far a rollout was driven.
pub(super) struct Driven {
    pub(super) end: End,
    pub(super) journal: Journal,
}

/// Claims the rollout and drives it to its end; the exit code.
pub(super) async fn drive_here(errand: Errand) -> anyhow::Result<ExitCode> {
    let kind = errand.settings.kind();
    let Driven { end, journal } = drive(errand).await?;
    let held = journal.state.hold.is_some();
    Ok(match end {
        End::Over(Outcome::Promoted | Outcome::Restored) => Exit::Done.into(),
        End::Over(Outcome::RolledBack) => Exit::RolledBack.into(),
        End::Over(Outcome::Refused) => {
            let reason = journal.state.reason().map(ToString::to_string);
            bail!("{}", reason.unwrap_or_default())
        }
        End::Held => Exit::Held.into(),
        End::Stopped => {
            eprintln!("stopped: {}", left(&journal, kind));
            if held {
                Exit::Held.into()
            } else {
                Exit::Failed.into()
            }
        }
    })
}

pub(super) async fn drive(errand: Errand) -> anyhow::Result<Driven> {
    let Errand {
        settings,
        fresh,
        take_over,
        manner,
    } = errand;
    let store = Journals::open(&settings).await?;
    let plan = fresh.as_ref().map(|fresh| fresh.plan.clone());
    let claim = drive::claim(&store, fresh, drive::me(now()), take_over).await?;
    if let Some(keys) = plan.and_then(|plan| differences::of_plans(&claim.journal.plan, &plan)) {
        eprintln!(
            "the plan has changed since the rollout began, which goes on by the one in its journal; not used: {keys}"
        );
    }
    // A rollout that takes over from a tool that hangs does not wait for it.
    let _turn = match settings.kind() {
        "local" => Turn::take(&settings.directory, TURN).await?,
        _ => None,
    };
    let (notifier, bell) = Notifier::start(settings.notify.clone());
    let lines = Lines::new(claim.journal.state.began, stderr(), stderr().is_terminal());
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(lines), Box::new(bell)];
    let published = place::publish(&settings, &mut observers).await;
    let stop = CancellationToken::new();
    let signals = tokio::spawn(cancel_on_signal(stop.clone())?);
    let mut drive = assemble(&settings, store, claim, observers).await?;
    let end = drive.run(manner, &stop).await;
    signals.abort();
    let journal = drive.journal().clone();
    drop(drive); // and with it the bell and the meter
    tokio::join!(notifier.close(LAST_NOTES), published.close(LAST_NOTES));
    let end = end?;
    if let End::Over(_) = end {
        match report::keep(&settings.directory, &journal) {
            Ok(file) => eprintln!("report: {}", file.display()),
            // The rollout is over, and its journal can be told from again.
            Err(error) => eprintln!("no report: {error:#}"),
        }
    }
    Ok(Driven { end, journal })
}

/// A tool of this process.
type Tool = Drive<Journals, Processes, Counts, Letters, Vec<Box<dyn Observer>>>;

async fn assemble(
    settings: &Settings,
    store: Journals,
    claim: Claim,
    observer: Vec<Box<dyn Observer>>,
) -> anyhow::Result<Tool> {
    let plan = Plan::read(&claim.journal.plan).map_err(|faults| {
        anyhow::anyhow!(
            "the plan in the journal: {}",
            faults.first().map_or_else(String::new, ToString::to_string)
        )
    })?;
    let state = &claim.journal.state;
    let mut fleet = Processes::open(settings).await?;
    fleet.prepare(state, &plan);
    let source = Counts::open(settings, state, &plan).await?;
    let course = Course {
        ready_within: settings.ready_within,
        ..Course::new(plan)
    };
    let sqs = Sqs::from_environment(REQUEST_TIMEOUT).await;
    let redriver = Letters::of(&state.candidate, sqs);
    let parts = Parts {
        store,
        fleet,
        source,
        redriver,
        observer,
        clock: Clock::System,
    };
    Ok(Drive::new(parts, claim, course))
}

/// Carries out what a person asks of a rollout that nobody drives; the journal after it.
pub(super) async fn carry_out(settings: &Settings, store: Journals, ask: Ask) -> anyhow::Result<Journal> {
    let claim = drive::claim(&store, None, drive::me(now()), false).await?;
    let mut tool = assemble(settings, store, claim, Vec::new()).await?;
    if let Some(refused) = tool.carry_out(ask).await? {
        bail!("refused: {refused}");
    }
    Ok(tool.journal().clone())
}

/// What it means that nobody drives the rollout of `journal` now, on a fleet of this kind, and what goes on with it.
pub(super) fn left(journal: &Journal, kind: &str) -> String {
    let state = &journal.state;
    let release = &state.candidate.release;
    let limit = Plan::read(&journal.plan)
        .ok()
        .map(|plan| action::limit(&Course::new(plan), state));
    let (stands, before_promotion) = match &state.phase {
        Phase::Preflight => ("nothing was changed yet".to_owned(), true),
        Phase::Deploying { .. } => ("its canary takes nothing yet".to_owned(), true),
        Phase::Step { .. } => {
            let takes = match limit {
                Some(Limit::Shut) => "takes nothing".to_owned(),
                Some(Limit::Share(share)) => {
                    format!("goes on taking about {:.1} % of the messages", share * 100.0)
                }
                Some(Limit::Trickle { .. }) => "is suspected, and goes on taking a trickle".to_owned(),
                Some(Limit::Open) | None => "goes on taking messages".to_owned(),
            };
            (format!("its canary {takes}"), true)
        }
        Phase::Promoting { .. } => ("it is promoted in part".to_owned(), false),
        Phase::Controlling { .. } | Phase::Baking { .. } | Phase::Settling { .. } => {
            ("it has the work".to_owned(), false)
        }
        Phase::RollingBack { .. } => ("it is rolled back in part".to_owned(), false),
        Phase::Ended { .. } => ("it is over".to_owned(), false),
    };
    let harm = match (&state.phase, kind, before_promotion) {
        (Phase::Preflight | Phase::Ended { .. }, ..) => String::new(),
        (_, "local", _) => " A fleet on one machine has no watchdog: only a canary's own breaker still acts.".to_owned(),
        (_, _, true) => " The watchdog, where it is installed, pauses the canary and scales it to zero within minutes.".to_owned(),
        (_, _, false) => {
            " The watchdog, where it is installed, tells people within minutes, and puts the old release back on an alarm.".to_owned()
        }
    };
    let back = if matches!(state.phase, Phase::RollingBack { .. }) {
        ""
    } else {
        "; `canary abort` takes it back"
    };
    let goes_on = state.goes_on();
    if let Kind::Restore { .. } = state.kind {
        return format!(
            "nobody goes on putting {release} back: it may run in part, beside what it replaces\n`{goes_on}` goes on with it"
        );
    }
    format!("nobody judges {release} now: {stands}.{harm}\n`{goes_on}` goes on with it{back}")
}

/// Cancels `stop` at the first SIGTERM or SIGINT. A second one is like a kill, which loses nothing either.
pub(super) fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        stop.cancel();
        next().await;
        std::process::exit(Exit::Cut.code().into());
    })
}
