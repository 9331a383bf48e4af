//! Which journal a command is about.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::journal::{FileStore, Journal, Store as _};
use crate::place::Journals;
use crate::settings::Settings;

/// Bytes of the largest file that is read as a journal.
const LARGEST: u64 = 256 << 20;

/// The settings that are read where none are named, if they are there.
const USUAL_SETTINGS: &str = "canary.toml";

/// Where journals are without settings.
const USUAL_STATE: &str = ".canary";

/// Where journals are kept.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The settings of the fleet, which say where it keeps its journals; `canary.toml`, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the journals, instead; `.canary` where there are no settings.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
}

impl Place {
    /// The journals: looking changes nothing.
    pub(super) fn journals(&self) -> anyhow::Result<Journals> {
        match self.settled()? {
            Settled::Directory(directory) => Ok(Journals::File(FileStore::looking_at(&directory))),
            Settled::Elsewhere(settings) => open(&settings),
        }
    }

    fn settled(&self) -> anyhow::Result<Settled> {
        let usual = Path::new(USUAL_SETTINGS);
        let usual = usual.is_file().then_some(usual);
        let directory = match (&self.state, self.config.as_deref().or(usual)) {
            (Some(directory), _) => directory.clone(),
            (None, Some(settings)) => {
                let settings = Settings::load(settings)?;
                if settings.kind() != "local" {
                    return Ok(Settled::Elsewhere(Box::new(settings)));
                }
                settings.directory
            }
            (None, None) if !Path::new(USUAL_STATE).is_dir() => {
                let here = std::env::current_dir().unwrap_or_default();
                bail!(
                    "neither {USUAL_SETTINGS} nor the directory {USUAL_STATE} is in {}; expected the directory that \
                     `canary rollout` runs in, or --config FILE or --state DIR",
                    here.display()
                );
            }
            (None, None) => PathBuf::from(USUAL_STATE),
        };
        if !directory.is_dir() {
            bail!(
                "{}: there is no such directory; expected the one in which `canary rollout` keeps its journals, see --state",
                directory.display()
            );
        }
        Ok(Settled::Directory(directory))
    }
}

/// Where journals turned out to be.
enum Settled {
    Directory(PathBuf),
    Elsewhere(Box<Settings>),
}

fn open(settings: &Settings) -> anyhow::Result<Journals> {
    runtime()?.block_on(Journals::open(settings))
}

/// Which journal.
#[derive(Debug, Args)]
pub(super) struct Source {
    #[command(flatten)]
    place: Place,
    /// A journal's file instead, or on AWS s3://BUCKET/FOLDER/journal.json.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "config"])]
    journal: Option<String>,
    /// A rollout of before, as `canary history` names it; without it the current or latest one.
    #[arg(long, value_name = "ID")]
    rollout: Option<String>,
}

impl Source {
    /// The journal.
    pub(super) fn read(&self) -> anyhow::Result<Journal> {
        if let (Some(file), None) = (&self.journal, &self.rollout)
            && !is_on_s3(file)
        {
            return read_file(Path::new(file));
        }
        let store = match &self.journal {
            Some(journal) => runtime()?.block_on(at(journal))?,
            None => self.place.journals()?,
        };
        let current = wait(store.read())?.map(|(journal, _)| journal);
        let Some(id) = &self.rollout else {
            return current.with_context(|| format!("{store}: there is no rollout yet"));
        };
        let before = wait(store.history())?;
        let mut all = before.into_iter().chain(current);
        all.find(|journal| journal.rollout == *id)
            .with_context(|| format!("--rollout {id}: there is none of this id; `canary history` names them"))
    }
}

impl Source {
    /// The directory of a fleet on this machine, if it is the fleet's current rollout that is meant.
    pub(super) fn fleet(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.journal.is_some() || self.rollout.is_some() {
            return Ok(None);
        }
        Ok(match self.place.settled()? {
            Settled::Directory(directory) => Some(directory),
            Settled::Elsewhere(_) => None,
        })
    }
}

fn is_on_s3(journal: &str) -> bool {
    journal.starts_with("s3://")
}

/// The journals at `place`, on S3.
pub(super) async fn at(place: &str) -> anyhow::Result<Journals> {
    #[cfg(feature = "ecs")]
    if is_on_s3(place) {
        let config = crate::aws::from_environment().await;
        return Ok(Journals::S3(crate::journal::S3Store::new(&config, place)?));
    }
    bail!("--journal {place}: a file holds one rollout; expected --state, or s3://BUCKET/FOLDER/journal.json")
}

fn read_file(file: &Path) -> anyhow::Result<Journal> {
    let size = std::fs::metadata(file)
        .with_context(|| format!("--journal {}", file.display()))?
        .len();
    if size > LARGEST {
        bail!(
            "--journal {}: {size} bytes, expected at most {LARGEST}",
            file.display()
        );
    }
    let text = std::fs::read(file).with_context(|| format!("--journal {}", file.display()))?;
    Journal::read(&text).with_context(|| format!("--journal {}", file.display()))
}

/// Waits for a store's answer.
pub(super) fn wait<T, E: std::error::Error + Send + Sync + 'static>(
    future: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    Ok(runtime()?.block_on(future)?)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Who reads may have seen enough: `canary history | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
