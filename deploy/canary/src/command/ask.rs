//! `canary promote`, `pause`, `resume` and `abort`: requests to the tool that drives the rollout.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::{Instant, sleep};

use super::rollout::{Errand, Place, drive_here, now};
use crate::drive::{self, ClaimError, Manner};
use crate::journal::{Journal, Store, StoreError};
use crate::place::{self, Journals};
use crate::plan::unit;
use crate::rollout::Ask;
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

fn who() -> String {
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
        let id = put(&store, ask).await?;
        match answer(&store, &id).await? {
            Some(Ok(journal)) => {
                eprintln!("done: {}", phase(&journal));
                Ok(ExitCode::SUCCESS)
            }
            Some(Err(refused)) => bail!("refused: {refused}"),
            None => bail!(
                "no tool answers. The request is kept: it is the first thing that `canary rollout` does, started again{}",
                owner(&store).await?
            ),
        }
    })
}

/// Rolls back: asks the owner, or does it here where there is none.
pub(super) async fn abort(settings: &Settings, why: &str, take_over: bool) -> anyhow::Result<ExitCode> {
    let store = Journals::open(settings).await?;
    let ask = Ask::Abort {
        by: who(),
        why: why.to_owned(),
    };
    let id = put(&store, &ask).await?;
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
                Some(Ok(journal)) => {
                    eprintln!("done: {}", phase(&journal));
                    return Ok(ExitCode::SUCCESS);
                }
                Some(Err(refused)) => bail!("refused: {refused}"),
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
        if let Some((journal, _)) = store.read().await? {
            let answer = journal.answers.iter().find(|answer| answer.id == id);
            match answer.map(|answer| answer.refused.clone()) {
                Some(Some(refused)) => return Ok(Some(Err(refused))),
                Some(None) => return Ok(Some(Ok(journal))),
                None => {}
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(None)
}

async fn owner(store: &impl Store) -> anyhow::Result<String> {
    let read = store.read().await?;
    let owner = read.and_then(|(journal, _)| journal.owner);
    Ok(owner.map_or_else(String::new, |owner| {
        format!(
            ". It was {owner}, last heard of {} s ago",
            now().since(owner.heartbeat).as_secs()
        )
    }))
}

fn phase(journal: &Journal) -> String {
    journal
        .timeline
        .last()
        .map_or_else(String::new, |entry| entry.happening.to_string())
}
