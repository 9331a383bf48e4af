//! Which journal a command is about.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::journal::{FileStore, Journal, Store as _};
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
    /// The journals.
    pub(super) fn journals(&self) -> anyhow::Result<FileStore> {
        let directory = self.directory()?;
        if !directory.is_dir() {
            bail!(
                "{}: there is no such directory; expected the one in which `canary rollout` keeps its journals, see --state",
                directory.display()
            );
        }
        Ok(FileStore::looking_at(&directory))
    }

    fn directory(&self) -> anyhow::Result<PathBuf> {
        let usual = Path::new(USUAL_SETTINGS);
        let usual = usual.is_file().then_some(usual);
        match (&self.state, self.config.as_deref().or(usual)) {
            (Some(directory), _) => Ok(directory.clone()),
            (None, Some(settings)) => Ok(Settings::load(settings)?.directory),
            (None, None) => Ok(PathBuf::from(USUAL_STATE)),
        }
    }
}

/// Which journal.
#[derive(Debug, Args)]
pub(super) struct Source {
    #[command(flatten)]
    place: Place,
    /// A journal's file, instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "config"])]
    journal: Option<PathBuf>,
    /// A rollout of before, as `canary history` names it; without it the current or latest one.
    #[arg(long, value_name = "ID", conflicts_with = "journal")]
    rollout: Option<String>,
}

impl Source {
    /// The journal.
    pub(super) fn read(&self) -> anyhow::Result<Journal> {
        if let Some(file) = &self.journal {
            return read_file(file);
        }
        let store = self.place.journals()?;
        let current = wait(store.read())?.map(|(journal, _)| journal);
        let Some(id) = &self.rollout else {
            return current.with_context(|| format!("{}: there is no rollout yet", store.path().display()));
        };
        let before = wait(store.history())?;
        let mut all = before.into_iter().chain(current);
        all.find(|journal| journal.rollout == *id)
            .with_context(|| format!("--rollout {id}: there is none of this id; `canary history` names them"))
    }
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

/// The store's futures are ready at once: it is files.
pub(super) fn wait<T, E: std::error::Error + Send + Sync + 'static>(
    future: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(future)?)
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Who reads may have seen enough: `canary history | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
