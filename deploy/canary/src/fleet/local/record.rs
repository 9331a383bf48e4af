//! What is wanted of a local fleet and what was started: one file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::{FleetError, Service};
use crate::moment::Moment;
use crate::rollout::Revision;

const SCHEMA: u32 = 1;
/// Revisions that are remembered, for `rollback --to`.
const REMEMBERED: usize = 50;

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    schema: u32,
    /// What is stable.
    #[serde(default)]
    pub(super) stable: Option<Revision>,
    /// What was stable, the latest last.
    #[serde(default)]
    pub(super) revisions: Vec<Revision>,
    #[serde(default)]
    stable_service: Option<Wanted>,
    #[serde(default)]
    canary_service: Option<Wanted>,
    /// Number of the next slot.
    #[serde(default)]
    pub(super) next: u64,
    #[serde(default)]
    pub(super) slots: Vec<Slot>,
}

/// What a service is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) revision: Revision,
    pub(super) count: u32,
}

/// A place for one process, which is filled again when the process ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) service: Service,
    pub(super) revision: Revision,
    /// In the environment of its process: by this it is found.
    #[serde(default)]
    pub(super) token: String,
    /// When it was told to stop.
    #[serde(default)]
    pub(super) stopping: Option<Moment>,
    /// When it is to be started again.
    #[serde(default)]
    pub(super) again_at: Option<Moment>,
    /// How often it was started again.
    #[serde(default)]
    pub(super) restarts: u32,
    /// Crashes in a row: what the delay goes by.
    #[serde(default)]
    pub(super) crashes: u32,
}

impl Slot {
    pub(super) fn new(name: String, service: Service, revision: Revision) -> Self {
        Self {
            name,
            service,
            revision,
            token: String::new(),
            stopping: None,
            again_at: None,
            restarts: 0,
            crashes: 0,
        }
    }

    /// The name of its log. Each start has one of its own; all are kept.
    pub(super) fn log(&self) -> String {
        self.log_of(self.restarts)
    }

    /// The name of the log of the start before this one.
    pub(super) fn log_before(&self) -> Option<String> {
        Some(self.log_of(self.restarts.checked_sub(1)?))
    }

    fn log_of(&self, restarts: u32) -> String {
        let release = crate::journal::file_name(self.revision.release.as_str());
        match restarts {
            0 => format!("{release}-{}.log", self.name),
            restarts => format!("{release}-{}.{restarts}.log", self.name),
        }
    }
}

impl Record {
    pub(super) fn read(path: &Path) -> Result<Self, FleetError> {
        let broken = |text: String| FleetError(format!("{}: {text}", path.display()));
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::empty()),
            Err(error) => return Err(broken(error.to_string())),
        };
        let record: Self = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        if record.schema != SCHEMA {
            return Err(broken(format!(
                "its schema is {}, expected {SCHEMA}",
                record.schema
            )));
        }
        Ok(record)
    }

    fn empty() -> Self {
        Self {
            schema: SCHEMA,
            stable: None,
            revisions: Vec::new(),
            stable_service: None,
            canary_service: None,
            next: 1,
            slots: Vec::new(),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), FleetError> {
        crate::journal::replace(path, self).map_err(|error| FleetError(error.to_string()))
    }

    pub(super) fn wanted(&self, service: Service) -> Option<&Wanted> {
        match service {
            Service::Stable => self.stable_service.as_ref(),
            Service::Canary => self.canary_service.as_ref(),
        }
    }

    pub(super) fn want(&mut self, service: Service, wanted: Option<Wanted>) {
        match service {
            Service::Stable => self.stable_service = wanted,
            Service::Canary => self.canary_service = wanted,
        }
    }

    pub(super) fn remember(&mut self, revision: &Revision) {
        self.revisions.retain(|kept| kept != revision);
        self.revisions.push(revision.clone());
        let most = self.revisions.len().saturating_sub(REMEMBERED);
        self.revisions.drain(..most);
    }
}
