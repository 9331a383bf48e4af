//! `canary promote`, `pause`, `resume` and `abort`: requests to the tool that drives the rollout.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::{Instant, sleep};

use super::driving::{Errand, carry_out, drive_here, left, now};
use super::rollout::Place;
use crate::drive::{self, ClaimError, Driver, Manner};
use crate::journal::{Journal, Store, StoreError};
use crate::place::{self, Journals};
use crate::plan::unit;
use crate::rollout::{Ask, Kind, Phase};
use crate::settings::Settings;

/// How long the owner may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Promotes now, whatever is still to come of the plan. Refused while the release is suspected.
#[derive(Debug, Args)]
pub(super) struct Promote {
    #[command(flatten)]
    place: Place,
    /// Why; it is written down.
    #[arg(long, value_name = "REASON", default_value = "")]
    why: String,
}

/// Stops the rollout from going forward. What harms is rolled back all the same.
#[derive(Debug, Args)]
pub(super) struct Pause {
    #[command(flatten)]
    place: Place,
    /// Why; it is written down.
    #[arg(long, value_name = "REASON", default_value = "")]
    why: String,
    /// When the pause expires: before promotion the release is rolled back then, later the rollout goes on.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = seconds)]
    seconds: u32,
    /// The canary takes nothing meanwhile, instead of keeping its share.
    #[arg(long)]
    shut: bool,
}

/// Goes on after a pause, or gives an inconclusive rollout its deadline once more.
#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    place: Place,
}

/// Rolls back. Where no tool drives the rollout any more, this one does.
#[derive(Debug, Args)]
pub(super) struct Abort {
    #[command(flatten)]
    place: Place,
    /// Why; it is written down.
    #[arg(long, value_name = "REASON", default_value = "")]
    why: String,
    /// Goes on in place of a tool that has not been heard of for 30 s.
    #[arg(long)]
    take_over: bool,
}

fn seconds(text: &str) -> Result<u32, String> {
    unit::seconds(text)
        .filter(|seconds| (1..=7 * 24 * 3600).contains(seconds))
        .ok_or_else(|| "expected a time of 1s to 7d in whole seconds, as 30m".to_owned())
}

pub(super) fn who() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.unwrap_or_else(|_| "somebody".to_owned())
}

impl Promote {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let ask = Ask::Promote {
            by: who(),
            why: self.why.clone(),
        };
        ask_owner(&self.place, &ask)
    }
}

impl Pause {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let ask = Ask::Pause {
            by: who(),
            why: self.why.clone(),
            seconds: Some(self.seconds),
            shut: self.shut,
        };
        ask_owner(&self.place, &ask)
    }
}

impl Resume {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        ask_owner(&self.place, &Ask::Resume { by: who() })
    }
}

impl Abort {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let settings = Settings::load(&self.place.config)?;
            abort(&settings, &self.why, self.take_over).await
        })
    }
}

fn ask_owner(place: &Place, ask: &Ask) -> anyhow::Result<ExitCode> {
    super::block_on(async {
        let settings = Settings::load(&place.config)?;
        let store = Journals::open(&settings).await?;
        let journal = under_way(&store).await?;
        reachable(&journal, false)?;
        if drive::driver(journal.owner.as_ref(), now()) == Driver::Nobody {
            return without_a_tool(&settings, store, &journal, ask).await;
        }
        let id = put(&store, ask).await?;
        match answer(&store, &id).await? {
            Some(answer) => told(answer),
            None => match withdraw(&store, &id).await? {
                Some(answer) => told(answer),
                None => bail!(
                    "{} does not answer within {} s; the request is withdrawn, and nothing was changed",
                    journal
                        .owner
                        .as_ref()
                        .map_or_else(String::new, ToString::to_string),
                    PATIENCE.as_secs()
                ),
            },
        }
    })
}

/// A pause needs no tool: the journal says it, and the control document where the canary is to take nothing. What goes forward does.
async fn without_a_tool(
    settings: &Settings,
    store: Journals,
    journal: &Journal,
    ask: &Ask,
) -> anyhow::Result<ExitCode> {
    let goes_on = journal.state.goes_on();
    if !matches!(ask, Ask::Pause { .. }) {
        bail!("refused: nobody drives the rollout; `{goes_on}` goes on with it, then ask again");
    }
    let journal = carry_out(settings, store, ask.clone()).await?;
    eprintln!("done: {}", phase(&journal));
    eprintln!("{}", left(&journal, settings.kind()));
    eprintln!(
        "{}",
        match journal.state.kind {
            Kind::Restore { .. } =>
                "a tool waits until the pause expires, or `canary resume` is said while it runs",
            Kind::Canary | Kind::SkipCanary { .. } =>
                "a tool that finds the pause expired rolls back at once what is not promoted yet",
        }
    );
    Ok(ExitCode::SUCCESS)
}

/// A tool that may be alive and cut off is not asked: what it would answer, and when, nobody knows.
pub(super) fn reachable(journal: &Journal, take_over: bool) -> Result<(), ClaimError> {
    match (drive::driver(journal.owner.as_ref(), now()), &journal.owner) {
        (Driver::Silent { seconds }, Some(owner)) if !take_over => Err(ClaimError::Owned {
            release: journal.state.candidate.release.clone(),
            owner: owner.clone(),
            seconds,
            dead: true,
        }),
        _ => Ok(()),
    }
}

async fn under_way(store: &impl Store) -> anyhow::Result<Journal> {
    let (journal, _) = store.read().await?.context("no rollout is under way")?;
    if journal.state.outcome().is_some() {
        bail!("no rollout is under way; the last one {}", phase(&journal));
    }
    Ok(journal)
}

fn told(answer: Result<Journal, String>) -> anyhow::Result<ExitCode> {
    match answer {
        Ok(journal) => {
            eprintln!("done: {}", phase(&journal));
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => bail!("refused: {refused}"),
    }
}

/// Rolls back: asks the owner, or does it here where there is none.
pub(super) async fn abort(settings: &Settings, why: &str, take_over: bool) -> anyhow::Result<ExitCode> {
    let store = Journals::open(settings).await?;
    let journal = under_way(&store).await?;
    reachable(&journal, take_over)?;
    let alone = drive::driver(journal.owner.as_ref(), now()) == Driver::Nobody;
    if let (Kind::Restore { .. }, true) = (&journal.state.kind, alone) {
        bail!(
            "refused: this is a rollback already, and what it leaves was bad; `{}` goes on with it",
            journal.state.goes_on()
        );
    }
    // One that is rolled back already has only to be driven to its end.
    let id = match (&journal.state.phase, alone) {
        (Phase::RollingBack { .. }, true) => String::new(),
        _ => {
            let ask = Ask::Abort {
                by: who(),
                why: why.to_owned(),
            };
            put(&store, &ask).await?
        }
    };
    // Bounded: a living owner answers, and of a dead one the claim succeeds or says why not.
    loop {
        let errand = Errand {
            settings: settings.clone(),
            fresh: None,
            take_over,
            manner: Manner {
                pace: place::pace(settings),
                ..Manner::default()
            },
        };
        let error = match drive_here(errand).await {
            Ok(code) => return Ok(code),
            Err(error) => error,
        };
        match error.downcast_ref::<ClaimError>() {
            Some(ClaimError::Owned { dead, .. }) => match answer(&store, &id).await? {
                Some(answer) => return told(answer),
                None if *dead => return Err(error),
                None => {}
            },
            Some(_) | None => return Err(error),
        }
    }
}

/// Puts a request into the journal; its id.
pub(super) async fn put(store: &impl Store, ask: &Ask) -> anyhow::Result<String> {
    let request = drive::request(ask.clone(), now());
    // Its owner writes every other second at least: some conflicts, but not for ever.
    for _ in 0..100 {
        let (mut journal, version) = store.read().await?.context("no rollout is under way")?;
        if journal.state.outcome().is_some() {
            bail!("no rollout is under way; the last one {}", phase(&journal));
        }
        journal.requests.push(request.clone());
        match store.write(&journal, Some(&version)).await {
            Ok(_) => return Ok(request.id),
            Err(StoreError::Conflict) => sleep(Duration::from_millis(10)).await,
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the journal is written so often that the request found no gap")
}

/// The answer, if one comes in time: the journal then, or why it was refused.
async fn answer(store: &impl Store, id: &str) -> anyhow::Result<Option<Result<Journal, String>>> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let read = store.read().await?;
        if let Some(answered) = read.and_then(|(journal, _)| answered(&journal, id)) {
            return Ok(Some(answered));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(None)
}

/// Takes back a request that nobody has answered; the answer, if it came meanwhile.
async fn withdraw(store: &impl Store, id: &str) -> anyhow::Result<Option<Result<Journal, String>>> {
    for _ in 0..100 {
        let Some((mut journal, version)) = store.read().await? else {
            return Ok(None);
        };
        if let Some(answered) = answered(&journal, id) {
            return Ok(Some(answered));
        }
        journal.requests.retain(|request| request.id != id);
        match store.write(&journal, Some(&version)).await {
            Ok(_) => return Ok(None),
            Err(StoreError::Conflict) => sleep(Duration::from_millis(10)).await,
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the journal is written so often that the request could not be withdrawn")
}

fn answered(journal: &Journal, id: &str) -> Option<Result<Journal, String>> {
    let answer = journal.answers.iter().find(|answer| answer.id == id)?;
    Some(match &answer.refused {
        Some(refused) => Err(refused.clone()),
        None => Ok(journal.clone()),
    })
}

fn phase(journal: &Journal) -> String {
    journal
        .timeline
        .last()
        .map_or_else(String::new, |entry| entry.happening.to_string())
}
