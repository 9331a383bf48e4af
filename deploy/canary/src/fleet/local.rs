//! A fleet of worker processes on this machine.
//!
//! What is wanted and what was started is in one file of the state directory ([`record`]), written before a process is started:
//! a tool that is started again finds the processes of the one before by a token in their environment, and adopts them instead of
//! starting second ones. Processes write their logs to files and live on when the tool ends; while a tool runs, it starts those
//! again that end by themselves, with a growing delay.

mod preflight;
mod process;
mod reconcile;
mod record;
pub mod sight;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use worker::clock::Clock;
use worker::control::{Document, Tracks};

use super::{Ended, Fleet, FleetError, ProcessState, ProcessView, Service, ServiceView, Started, View};
use crate::moment::Moment;
use crate::rollout::{Count, Facts, Kind, Revision};
use process::Process;
use record::{Record, Slot, Wanted};

pub use turn::Turn;

/// How a fleet on this machine is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its files are: `fleet.json`, `control.json`, `logs/`.
    pub directory: PathBuf,
    /// Processes of the stable service.
    pub stable: u32,
    /// Processes of the canary service while it runs a canary or a control group.
    pub canary: u32,
    /// How long a process may take to end after SIGTERM; then it is killed.
    pub stop_within: Duration,
}

/// The fleet.
#[derive(Debug)]
pub struct Local {
    options: Options,
    clock: Clock,
    record: Record,
    /// What runs, by the slot's name.
    processes: BTreeMap<String, Running>,
    started: Vec<Started>,
    ended: Vec<Ended>,
    /// How the slots' processes ended last by themselves, in words.
    ends: BTreeMap<String, String>,
    /// What people are to be told at the next look.
    noted: Vec<String>,
    /// What kind of rollout is to be checked for.
    kind: Kind,
}

/// What is known of a slot's process beyond the record.
#[derive(Debug)]
struct Running {
    process: Process,
    log: PathBuf,
    address: Option<SocketAddr>,
    ready: bool,
    asked: Option<Instant>,
    since: Instant,
}

impl Local {
    /// The fleet whose files are in the options' directory, with the processes that run already.
    ///
    /// # Errors
    /// When the directory cannot be used, or its record cannot be read.
    pub fn open(options: Options, clock: Clock) -> Result<Self, FleetError> {
        let logs = options.directory.join("logs");
        fs::create_dir_all(&logs).map_err(|error| failed(&logs, &error))?;
        let record = Record::read(&options.directory.join("fleet.json"))?;
        let mut fleet = Self {
            options,
            clock,
            record,
            processes: BTreeMap::new(),
            started: Vec::new(),
            ended: Vec::new(),
            ends: BTreeMap::new(),
            noted: Vec::new(),
            kind: Kind::Canary,
        };
        fleet.adopt();
        Ok(fleet)
    }

    /// Says what kind of rollout comes: what goes to all at once needs nothing to be compared with.
    pub fn set_kind(&mut self, kind: Kind) {
        self.kind = kind;
    }

    /// Takes over what somebody else, who had the [`Turn`] meanwhile, has done.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn refresh(&mut self) -> Result<(), FleetError> {
        let record = Record::read(&self.options.directory.join("fleet.json"))?;
        if record == self.record {
            return Ok(());
        }
        let token = |record: &Record, name: &str| {
            let slot = record.slots.iter().find(|slot| slot.name == name);
            slot.map(|slot| slot.token.clone())
        };
        // A slot that was filled anew has another process than the one known here.
        self.processes
            .retain(|name, _| token(&record, name) == token(&self.record, name));
        self.record = record;
        self.adopt();
        Ok(())
    }

    /// What is stable, as it was last recorded.
    #[must_use]
    pub fn recorded(&self) -> Option<&Revision> {
        self.record.stable.as_ref()
    }

    /// Wants the stable service to run what was last recorded, if it was stopped. What runs stays as it is.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn start_again(&mut self) -> Result<(), FleetError> {
        let (None, Some(revision)) = (self.record.wanted(Service::Stable), self.record.stable.clone()) else {
            return Ok(());
        };
        let count = self.options.stable;
        self.record
            .want(Service::Stable, Some(Wanted { revision, count }));
        self.save()
    }

    /// A revision that ran as stable before.
    #[must_use]
    pub fn known(&self, release: &worker::release::Release) -> Option<&Revision> {
        self.record
            .revisions
            .iter()
            .rev()
            .find(|revision| revision.release == *release)
    }

    /// The control document's file.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.options.directory.join("control.json")
    }

    fn log_path(&self, slot: &Slot) -> PathBuf {
        self.options.directory.join("logs").join(slot.log())
    }

    fn save(&self) -> Result<(), FleetError> {
        self.record.write(&self.options.directory.join("fleet.json"))
    }

    /// Finds the processes that a tool before this one has started.
    fn adopt(&mut self) {
        let found = process::find(self.record.slots.iter().map(|slot| slot.token.as_str()));
        let now = self.clock.now().into();
        for index in 0..self.record.slots.len() {
            let log = self.log_path(&self.record.slots[index]);
            let slot = &mut self.record.slots[index];
            if self.processes.contains_key(&slot.name) {
                continue;
            }
            if let Some(pid) = found.get(&slot.token) {
                let running = Running::new(Process::adopted(*pid), log);
                self.processes.insert(slot.name.clone(), running);
            } else if slot.again_at.is_none() && slot.stopping.is_none() && !log.exists() {
                // Written down, and then the tool was killed before it could start it.
                slot.again_at = Some(now);
            }
        }
    }

    /// The environment of a process: the revision's, and what makes it one of this fleet.
    fn variables(&self, slot: &Slot) -> BTreeMap<String, String> {
        let mut variables = slot.revision.definition.environment().clone();
        let ours = [
            ("WORKER__RELEASE", slot.revision.release.to_string()),
            ("WORKER__TRACK", slot.service.to_string()),
            ("WORKER__ADMIN__ADDRESS", "127.0.0.1:0".to_owned()),
            (
                "WORKER__CONTROL__SOURCE",
                format!("file:{}", self.control_path().display()),
            ),
            ("WORKER__LOG__FORMAT", "json".to_owned()),
            (process::TOKEN, slot.token.clone()),
        ];
        variables.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        variables
    }

    fn view_of(&self, service: Service) -> ServiceView {
        let wanted = self.record.wanted(service);
        let processes = self
            .record
            .slots
            .iter()
            .filter(|slot| slot.service == service)
            .map(|slot| {
                let running = self.processes.get(&slot.name);
                let state = match running {
                    _ if slot.stopping.is_some() => ProcessState::Stopping,
                    Some(running) if running.ready => ProcessState::Ready,
                    Some(_) => ProcessState::Starting,
                    None => ProcessState::Waiting,
                };
                ProcessView {
                    name: slot.name.clone(),
                    release: slot.revision.release.clone(),
                    address: running.and_then(|running| running.address),
                    state,
                    restarts: slot.restarts,
                }
            });
        ServiceView {
            release: wanted.map(|wanted| wanted.revision.release.clone()),
            desired: wanted.map_or(0, |wanted| wanted.count),
            processes: processes.collect(),
            broken: None,
            said: self.said(service),
        }
    }

    /// What one of the processes that are to be ready, and are not, said last.
    fn said(&self, service: Service) -> Option<String> {
        let wanted = self.record.wanted(service)?;
        let unready = self.record.slots.iter().filter(|slot| {
            let running = self.processes.get(&slot.name);
            slot.service == service
                && slot.revision == wanted.revision
                && !running.is_some_and(|running| running.ready)
        });
        let said = |slot: &Slot| {
            let end = self.ends.get(&slot.name).cloned();
            let words = || {
                let logs = [Some(slot.log()), slot.log_before()];
                let mut logs = logs.into_iter().flatten();
                logs.find_map(|log| process::last_words(&self.options.directory.join("logs").join(log)))
            };
            let said = end.or_else(|| Some(format!("its last words: {}", words()?)))?;
            Some(format!("{}: {said}", slot.name))
        };
        unready.into_iter().find_map(said)
    }
}

impl Running {
    fn new(process: Process, log: PathBuf) -> Self {
        Self {
            process,
            log,
            address: None,
            ready: false,
            asked: None,
            since: Instant::now(),
        }
    }
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> FleetError {
    FleetError(format!("{}: {error}", path.display()))
}

impl Fleet for Local {
    async fn check(&mut self, candidate: &Revision) -> Result<Facts, String> {
        self.preflight(candidate).await
    }

    async fn observe(&mut self) -> Result<View, FleetError> {
        self.reconcile().await?;
        Ok(View {
            stable: self.view_of(Service::Stable),
            canary: self.view_of(Service::Canary),
            started: std::mem::take(&mut self.started),
            ended: std::mem::take(&mut self.ended),
            notes: std::mem::take(&mut self.noted),
        })
    }

    async fn run(&mut self, service: Service, revision: &Revision, count: Count) -> Result<(), FleetError> {
        let count = match (service, count) {
            (Service::Stable, _) | (Service::Canary, Count::Full) => self.options.stable,
            (Service::Canary, Count::Few) => self.options.canary,
        };
        let wanted = Wanted {
            revision: revision.clone(),
            count,
        };
        if self.record.wanted(service) != Some(&wanted) {
            self.record.want(service, Some(wanted));
            self.save()?;
        }
        Ok(())
    }

    async fn stop(&mut self, service: Service) -> Result<(), FleetError> {
        if self.record.wanted(service).is_some() {
            self.record.want(service, None);
            self.save()?;
        }
        Ok(())
    }

    async fn control(&mut self, tracks: &Tracks) -> Result<(), FleetError> {
        let path = self.control_path();
        let before = fs::read_to_string(&path).ok();
        let epoch = before
            .and_then(|text| Document::parse(&text).ok())
            .map_or(0, |document| document.epoch);
        // Milliseconds, so that a file that was lost or broken does not make later ones look old.
        let now = Moment::from(self.clock.now()).millis();
        let document = Document {
            schema: worker::control::document::SCHEMA,
            epoch: now.max(epoch.saturating_add(1)),
            tracks: tracks.clone(),
        };
        crate::journal::replace(&path, &document).map_err(|error| FleetError(error.to_string()))
    }

    async fn record(&mut self, revision: Option<&Revision>) -> Result<(), FleetError> {
        if self.record.stable.as_ref() != revision {
            self.record.stable = revision.cloned();
            if let Some(revision) = revision {
                self.record.remember(revision);
            }
            self.save()?;
        }
        Ok(())
    }
}
