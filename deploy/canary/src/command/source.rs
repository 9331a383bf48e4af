//! Which journal a command is about.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::journal::{FileStore, Journal, Store as _};

/// Bytes of the largest file that is read as a journal.
const LARGEST: u64 = 256 << 20;

/// Where journals are.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The directory in which `canary rollout` keeps its state.
    #[arg(long, value_name = "DIR", default_value = ".canary")]
    state: PathBuf,
    /// A journal's file, instead.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
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
        let store = open(&self.state)?;
        let current = wait(store.read())?.map(|(journal, _)| journal);
        let Some(id) = &self.rollout else {
            return current.with_context(|| format!("{} holds no rollout yet", self.state.display()));
        };
        let before = wait(store.history())?;
        let mut all = before.into_iter().chain(current);
        all.find(|journal| journal.rollout == *id).with_context(|| {
            format!(
                "--rollout {id}: there is none of this id in {}",
                self.state.display()
            )
        })
    }
}

/// The store in `directory`, which must be there: looking changes nothing.
pub(super) fn open(directory: &Path) -> anyhow::Result<FileStore> {
    if !directory.is_dir() {
        bail!(
            "--state {}: there is no such directory; expected the one in which `canary rollout` keeps its state",
            directory.display()
        );
    }
    Ok(FileStore::looking_at(directory))
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
