//! The journal of a rollout: one JSON object that says where it stands, who drives it, and what was counted.
//!
//! It is written **before** each act, and every write is conditional on what was last read ([`Store`]): of two tools that believe
//! they drive a rollout, one fails at its next write and stops. So a tool can be killed at any moment, and whoever is started next
//! goes on from what is written.

mod file;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(feature = "ecs")]
mod s3;

use std::fmt;
use std::future::Future;

use serde::{Deserialize, Serialize};
use worker::release::Release;

use crate::evidence::Checkpoint;
use crate::judge::verdict::Verdict;
use crate::moment::Moment;
use crate::rollout::{Ask, Happening, State};

pub use file::FileStore;
pub(crate) use file::{file_name, replace};
#[cfg(feature = "ecs")]
pub use s3::{InvalidPlace, S3Store};

/// The form this version writes, and the newest it reads.
pub const SCHEMA: u32 = 1;

/// The most entries a timeline keeps. The first and the latest stay; what is left out is counted.
pub const MAX_ENTRIES: usize = 2000;

/// A rollout, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The rollout's id: its start and its release.
    pub rollout: String,
    /// How often it was written; the stores go by it.
    pub writes: u64,
    /// Who drives it; nobody once it has ended, or after a tool was stopped by a signal.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// What people have asked for and the owner has not answered yet, oldest first.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// Answers to the latest requests, a few at most.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// The plan, as it was when the rollout began: a file that is changed meanwhile changes nothing.
    pub plan: String,
    /// Where the rollout stands.
    pub state: State,
    /// What was counted.
    #[serde(default)]
    pub evidence: Checkpoint,
    /// What the fleet looked like, and how the work was shared, when last written.
    #[serde(default)]
    pub measured: Measured,
    /// What the judge said last.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// What happened, oldest first.
    #[serde(default)]
    pub timeline: Vec<Entry>,
    /// Entries that were left out of the middle of the timeline.
    #[serde(default)]
    pub left_out: u64,
}

/// Who drives a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Random, new for each process: nobody is taken for somebody else.
    pub id: String,
    /// The machine's name.
    pub host: String,
    /// The process there.
    pub pid: u32,
    /// When it last wrote.
    pub heartbeat: Moment,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {} on {}", self.pid, self.host)
    }
}

/// Something that a person asks of the tool that drives the rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Random.
    pub id: String,
    /// When it was asked.
    pub at: Moment,
    /// What.
    pub ask: Ask,
}

/// What became of a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's id.
    pub id: String,
    /// Why it was refused; none when it was followed.
    pub refused: Option<String>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Moment,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

/// How the work is shared, and who does it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// When.
    pub at: Moment,
    /// First deliveries a second, both releases together, over the last 10 s.
    pub per_second: f64,
    /// The canary *service's* share of them that is wanted; none when it is not limited by share.
    pub share_wanted: Option<f64>,
    /// The canary *service's* share as measured over the last 10 s; none when nothing was delivered.
    pub share: Option<f64>,
    /// Messages a second that each canary process may take; none when not limited.
    pub canary_per_process: Option<f64>,
    /// The stable service.
    pub stable: ServiceMeasured,
    /// The canary service.
    pub canary: ServiceMeasured,
    /// The latest time at which a rate breaker of a canary process was seen open, and the first.
    pub contained: Option<Span>,
}

/// From and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The first moment.
    pub from: Moment,
    /// The latest.
    pub to: Moment,
}

/// One service, as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMeasured {
    /// The release it is to run; none when it is scaled to zero.
    pub release: Option<Release>,
    /// Processes it is to have.
    pub desired: u32,
    /// Its processes.
    pub processes: Vec<ProcessMeasured>,
}

/// One worker process, as it was last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessMeasured {
    /// Its name in the fleet.
    pub name: String,
    /// What it runs.
    pub release: Release,
    /// Where its admin endpoint is, once known.
    pub address: Option<String>,
    /// `starting`, `ready`, `stopping` or `waiting` (to be started again after a crash); as `canary status` looks, also `gone`.
    pub state: String,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
}

impl Journal {
    /// Adds what happened at `at`.
    pub fn tell(&mut self, at: Moment, happened: impl IntoIterator<Item = Happening>) {
        let entries = happened.into_iter().map(|happening| Entry { at, happening });
        self.timeline.extend(entries);
        if self.timeline.len() > MAX_ENTRIES {
            let most = self.timeline.len() - MAX_ENTRIES;
            self.timeline.drain(MAX_ENTRIES / 4..MAX_ENTRIES / 4 + most);
            self.left_out += most as u64;
        }
    }

    /// Reads a journal.
    ///
    /// # Errors
    /// What is wrong with it: not JSON, cut off, a newer schema.
    pub fn read(text: &[u8]) -> Result<Self, StoreError> {
        let broken = |error: String| StoreError::Broken(error);
        // The schema first: a newer form may differ in everything else.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let no_journal = |error: serde_json::Error| {
            broken(format!(
                "{error}; it is left as it is. Put its last whole version back, or move it away once you know what runs: \
                 docs/runbook.md, \"The journal is broken\""
            ))
        };
        let head: Head = serde_json::from_slice(text).map_err(no_journal)?;
        if head.schema == 0 || head.schema > SCHEMA {
            return Err(broken(format!(
                "its schema is {}, expected {SCHEMA}: a newer tool wrote it, and a newer one must go on",
                head.schema
            )));
        }
        serde_json::from_slice(text).map_err(no_journal)
    }
}

/// What a store knows a version of the journal by: what it was last read or written as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// Why a journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has written since it was read. Nothing was written.
    #[error("somebody else has written the journal meanwhile")]
    Conflict,
    /// What is there is no journal that can be understood.
    #[error("the journal is broken: {0}")]
    Broken(String),
    /// The store does not answer. Whether it was written is not known.
    #[error("the journal cannot be reached: {0}")]
    Unreachable(String),
}

/// Where journals are kept: the current one of a fleet, and those of the rollouts before.
pub trait Store {
    /// The current journal, if there was ever a rollout.
    fn read(&self) -> impl Future<Output = Result<Option<(Journal, Version)>, StoreError>> + Send;

    /// Replaces the journal if it is still `expected` (none: if there is none), and says its new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not; then nothing was written.
    fn write(
        &self,
        journal: &Journal,
        expected: Option<&Version>,
    ) -> impl Future<Output = Result<Version, StoreError>> + Send;

    /// Keeps the journal of a rollout that has ended under its id. Again is as good as once.
    fn archive(&self, journal: &Journal) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The journals of rollouts that have ended, oldest first.
    fn history(&self) -> impl Future<Output = Result<Vec<Journal>, StoreError>> + Send;
}

#[cfg(test)]
mod tests;
