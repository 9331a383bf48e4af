//! A store for tests.

use std::sync::{Arc, Mutex};

use super::{Journal, Store, StoreError, Version};

/// A journal in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    journal: Option<Journal>,
    writes: u64,
    history: Vec<Journal>,
}

impl Store for MemoryStore {
    async fn read(&self) -> Result<Option<(Journal, Version)>, StoreError> {
        let kept = self.0.lock().unwrap();
        let version = Version(kept.writes.to_string());
        Ok(kept.journal.clone().map(|journal| (journal, version)))
    }

    async fn write(&self, journal: &Journal, expected: Option<&Version>) -> Result<Version, StoreError> {
        let mut kept = self.0.lock().unwrap();
        let now = kept.journal.as_ref().map(|_| Version(kept.writes.to_string()));
        if now.as_ref() != expected {
            return Err(StoreError::Conflict);
        }
        kept.writes += 1;
        let mut journal = journal.clone();
        journal.writes = kept.writes;
        // What is kept is what a reader of the bytes would get.
        let text = serde_json::to_vec(&journal).map_err(|error| StoreError::Broken(error.to_string()))?;
        kept.journal = Some(Journal::read(&text)?);
        Ok(Version(kept.writes.to_string()))
    }

    async fn archive(&self, journal: &Journal) -> Result<(), StoreError> {
        let mut kept = self.0.lock().unwrap();
        kept.history.retain(|kept| kept.rollout != journal.rollout);
        kept.history.push(journal.clone());
        Ok(())
    }

    async fn history(&self) -> Result<Vec<Journal>, StoreError> {
        Ok(self.0.lock().unwrap().history.clone())
    }
}
