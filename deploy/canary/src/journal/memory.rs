//! A store for tests, which can be told to die at a write.

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
    dies_at: Option<(u64, Death)>,
    /// Reads and writes that are still to fail; every other write is carried out all the same.
    outage: u32,
}

/// When a tool dies that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Just before it is written.
    Before,
    /// Just after.
    After,
}

/// The error with which a tool "dies".
pub(crate) const DEAD: &str = "killed";

impl Kept {
    fn is_out(&mut self) -> bool {
        let is_out = self.outage > 0;
        self.outage = self.outage.saturating_sub(1);
        is_out
    }
}

fn out() -> StoreError {
    StoreError::Unreachable("no answer".to_owned())
}

impl MemoryStore {
    pub(crate) fn die_at(&self, write: u64, death: Death) {
        self.0.lock().unwrap().dies_at = Some((write, death));
    }

    /// The next `calls` fail, as those of a store that cannot be reached.
    pub(crate) fn is_out_for(&self, calls: u32) {
        self.0.lock().unwrap().outage = calls;
    }

    pub(crate) fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    pub(crate) fn journal(&self) -> Option<Journal> {
        self.0.lock().unwrap().journal.clone()
    }

    /// Changes the journal as somebody else would.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Journal)) {
        let mut kept = self.0.lock().unwrap();
        let writes = kept.writes + 1;
        let journal = kept.journal.as_mut().unwrap();
        change(journal);
        journal.writes = writes;
        kept.writes = writes;
    }
}

impl Store for MemoryStore {
    async fn read(&self) -> Result<Option<(Journal, Version)>, StoreError> {
        let mut kept = self.0.lock().unwrap();
        if kept.is_out() {
            return Err(out());
        }
        let version = Version(kept.writes.to_string());
        Ok(kept.journal.clone().map(|journal| (journal, version)))
    }

    async fn write(&self, journal: &Journal, expected: Option<&Version>) -> Result<Version, StoreError> {
        let mut kept = self.0.lock().unwrap();
        let now = kept.journal.as_ref().map(|_| Version(kept.writes.to_string()));
        if now.as_ref() != expected {
            return Err(StoreError::Conflict);
        }
        let dies = kept.dies_at.filter(|(write, _)| *write == kept.writes + 1);
        // Not an outage, which would be ridden out.
        let dead = || StoreError::Broken(DEAD.to_owned());
        let is_out = kept.is_out();
        if is_out && kept.outage.is_multiple_of(2) {
            return Err(out());
        }
        if dies.is_some_and(|(_, death)| death == Death::Before) {
            kept.dies_at = None;
            return Err(dead());
        }
        kept.writes += 1;
        let mut journal = journal.clone();
        journal.writes = kept.writes;
        // What is kept is what a reader of the bytes would get.
        let text = serde_json::to_vec(&journal).map_err(|error| StoreError::Broken(error.to_string()))?;
        kept.journal = Some(Journal::read(&text)?);
        if dies.is_some() {
            kept.dies_at = None;
            return Err(dead());
        }
        if is_out {
            return Err(out());
        }
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
