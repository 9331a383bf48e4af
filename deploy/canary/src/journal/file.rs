//! The journal as a file, for fleets on one machine.
//!
//! Writers take the lock of a file beside it, compare, write a new file and rename it: a reader sees the old journal or the new one,
//! never half of one, and a writer that is killed leaves the old one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Journal, Store, StoreError, Version};

/// Journals in a directory: `journal.json`, and `history/` for the rollouts before.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// A store in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join("history"))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The store in `directory` for somebody who only looks: nothing is made.
    #[must_use]
    pub fn looking_at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The file of the current journal.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("journal.json")
    }

    fn read_now(&self) -> Result<Option<(Journal, Version)>, StoreError> {
        match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreachable(&self.path(), &error)),
            Ok(text) => {
                let journal = Journal::read(&text).map_err(|error| match error {
                    StoreError::Broken(text) => {
                        StoreError::Broken(format!("{}: {text}", self.path().display()))
                    }
                    other @ (StoreError::Conflict | StoreError::Unreachable(_)) => other,
                })?;
                let version = version(&journal);
                Ok(Some((journal, version)))
            }
        }
    }

    fn write_now(&self, journal: &Journal, expected: Option<&Version>) -> Result<Version, StoreError> {
        let path = self.directory.join("journal.lock");
        let lock = File::create(&path).map_err(|error| unreachable(&path, &error))?;
        // Held for some milliseconds by whoever writes; the system frees it when a process dies.
        lock.lock().map_err(|error| unreachable(&path, &error))?;
        let now = self.read_now()?;
        if now.as_ref().map(|(_, version)| version) != expected {
            return Err(StoreError::Conflict);
        }
        let mut journal = journal.clone();
        journal.writes = now.map_or(0, |(journal, _)| journal.writes) + 1;
        replace(&self.path(), &journal)?;
        Ok(version(&journal))
    }

    fn archive_path(&self, journal: &Journal) -> PathBuf {
        let name = file_name(&journal.rollout);
        self.directory.join("history").join(format!("{name}.json"))
    }

    fn history_now(&self) -> Result<Vec<Journal>, StoreError> {
        let directory = self.directory.join("history");
        let listed = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| unreachable(&directory, &error))?,
        };
        let mut journals = Vec::new();
        for entry in listed {
            let path = entry.map_err(|error| unreachable(&directory, &error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read(&path).map_err(|error| unreachable(&path, &error))?;
                journals.push(
                    Journal::read(&text)
                        .map_err(|error| StoreError::Broken(format!("{}: {error}", path.display())))?,
                );
            }
        }
        journals.sort_by_key(|journal| journal.state.began);
        Ok(journals)
    }
}

/// A rollout's id as it can stand in the name of a file.
pub(crate) fn file_name(rollout: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    rollout.chars().map(plain).collect()
}

/// Writes `value` to `path` so that a reader sees the old contents or the new, and a crash of the machine leaves one of them.
pub(crate) fn replace(path: &Path, value: &impl serde::Serialize) -> Result<(), StoreError> {
    let text = serde_json::to_vec(value).map_err(|error| StoreError::Broken(error.to_string()))?;
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error| unreachable(path, &error))
}

fn unreachable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unreachable(format!("{}: {error}", path.display()))
}

fn version(journal: &Journal) -> Version {
    Version(format!("{} {}", journal.rollout, journal.writes))
}

impl Store for FileStore {
    async fn read(&self) -> Result<Option<(Journal, Version)>, StoreError> {
        self.read_now()
    }

    async fn write(&self, journal: &Journal, expected: Option<&Version>) -> Result<Version, StoreError> {
        self.write_now(journal, expected)
    }

    async fn archive(&self, journal: &Journal) -> Result<(), StoreError> {
        replace(&self.archive_path(journal), journal)
    }

    async fn history(&self) -> Result<Vec<Journal>, StoreError> {
        self.history_now()
    }
}
