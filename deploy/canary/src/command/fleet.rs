//! `canary fleet`: the processes of a local fleet while no rollout is under way.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;

use super::driving::{cancel_on_signal, now};
use super::rollout::Place;
use crate::drive::DEAD_AFTER;
use crate::fleet::local::{Local, Turn};
use crate::fleet::{Fleet as _, Service, View};
use crate::journal::{FileStore, Store};
use crate::settings::Settings;

/// The worker processes of this machine, while no rollout is under way.
#[derive(Debug, Args)]
pub(super) struct Fleet {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks after the processes: starts what `stop` has stopped, and again what ends by itself. Until SIGTERM or Ctrl-C; they live on.
    /// Steps back while a rollout does.
    Run(Place),
    /// Stops all of them, by SIGTERM and after the time of the settings by SIGKILL.
    Stop(Place),
}

impl Fleet {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let (Command::Run(place) | Command::Stop(place)) = &self.command;
            let settings = Settings::load(&place.config)?;
            if settings.kind() != "local" {
                bail!("the fleet is on ECS, which looks after its tasks itself; expected kind = \"local\"");
            }
            nobody_drives(&settings).await?;
            std::fs::create_dir_all(&settings.directory)?;
            match &self.command {
                Command::Run(_) => look_after(&settings).await,
                Command::Stop(_) => {
                    let turn = Turn::take(&settings.directory, PATIENCE).await?;
                    let _turn = turn.context("somebody else is at the processes; try again")?;
                    let mut fleet = Local::open(settings.options(), Clock::System)?;
                    stop(&mut fleet, settings.stop_within).await
                }
            }
        })
    }
}

/// How long somebody else may be at the processes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two that start and stop the same processes would undo each other's work.
async fn nobody_drives(settings: &Settings) -> anyhow::Result<()> {
    let read = FileStore::open(&settings.directory)?.read().await?;
    let owner = read.and_then(|(journal, _)| journal.owner);
    if let Some(owner) = owner.filter(|owner| now().since(owner.heartbeat) < DEAD_AFTER) {
        bail!("a rollout is under way, driven by {owner}, which looks after the processes itself");
    }
    Ok(())
}

async fn look_after(settings: &Settings) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let signals = tokio::spawn(cancel_on_signal(stop.clone())?);
    let mut fleet: Option<Local> = None;
    let mut waiting = false;
    // Until a signal.
    while !stop.is_cancelled() {
        match Turn::try_take(&settings.directory)? {
            Some(_turn) => {
                waiting = false;
                look(settings, &mut fleet).await?;
            }
            None if !std::mem::replace(&mut waiting, true) => {
                eprintln!("somebody else is at the processes, a rollout most likely; waiting for its end");
            }
            None => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(Duration::from_millis(500)) => {}
        }
    }
    signals.abort();
    Ok(ExitCode::SUCCESS)
}

async fn look(settings: &Settings, fleet: &mut Option<Local>) -> anyhow::Result<()> {
    let fleet = match fleet {
        Some(fleet) => {
            fleet.refresh()?;
            fleet
        }
        None => {
            let mut opened = Local::open(settings.options(), Clock::System)?;
            opened.start_again()?;
            match opened.recorded() {
                Some(stable) => eprintln!(
                    "looks after the processes of {}; they live on when this ends",
                    stable.release
                ),
                None => eprintln!("nothing is stable yet; `canary rollout` brings the first release"),
            }
            fleet.insert(opened)
        }
    };
    for ended in &fleet.observe().await?.ended {
        eprintln!(
            "{} {} of {} ended: {}",
            ended.service, ended.name, ended.release, ended.text
        );
    }
    Ok(())
}

/// How long after SIGKILL a process may take to go.
const GONE: Duration = Duration::from_secs(10);

async fn stop(fleet: &mut Local, within: Duration) -> anyhow::Result<ExitCode> {
    for service in Service::ALL {
        fleet.stop(service).await?;
    }
    let until = Instant::now() + within + GONE;
    while Instant::now() < until {
        let View { stable, canary, .. } = fleet.observe().await?;
        if stable.processes.is_empty() && canary.processes.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("some processes do not end")
}
