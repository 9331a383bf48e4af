//! A fleet of worker processes on this machine.
//!
//! What is wanted and what was started is in one file of the state directory ([`record`]), written before a process is started:
//! a tool that is started again finds the processes of the one before by a token in their environment, and adopts them instead of
//! starting second ones. Processes write their logs to files and live on when the tool ends; while a tool runs, it starts those
//! again that end by themselves, with a growing delay.

mod process;
mod record;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use worker::clock::Clock;
use worker::control::{Document, Tracks};

use super::{Ended, Fleet, FleetError, ProcessState, ProcessView, Service, ServiceView, Started, View};
use crate::evidence::End;
use crate::moment::Moment;
use crate::rollout::{Count, Definition, Facts, Revision};
use process::{Alive, Process};
use record::{Record, Slot, Wanted};

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

/// The least delay before a process that has ended by itself is started again; doubles with each time.
const RESTART: Duration = Duration::from_millis(500);
/// The most.
const RESTART_MOST: Duration = Duration::from_secs(30);
/// After so long without a crash the count of the delay starts anew.
const STEADY: Duration = Duration::from_secs(60);
/// How often a process that is not ready is asked.
const ASK: Duration = Duration::from_millis(250);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

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
        };
        fleet.adopt();
        Ok(fleet)
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

    /// Each start of a slot has a log of its own; all are kept.
    fn log_path(&self, slot: &Slot) -> PathBuf {
        let name = match slot.restarts {
            0 => format!("{}.log", slot.name),
            restarts => format!("{}.{restarts}.log", slot.name),
        };
        self.options.directory.join("logs").join(name)
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
            if let Some(pid) = found.get(&slot.token) {
                let running = Running::new(Process::adopted(*pid), log);
                self.processes.insert(slot.name.clone(), running);
            } else if slot.again_at.is_none() && slot.stopping.is_none() && !log.exists() {
                // Written down, and then the tool was killed before it could start it.
                slot.again_at = Some(now);
            }
        }
    }

    /// Brings what is there one step nearer to what is wanted.
    async fn reconcile(&mut self) -> Result<(), FleetError> {
        self.bury()?;
        self.ask_all().await;
        for service in Service::ALL {
            self.stop_surplus(service)?;
            self.start_missing(service)?;
        }
        Ok(())
    }

    /// Takes note of processes that have ended.
    fn bury(&mut self) -> Result<(), FleetError> {
        let now: Moment = self.clock.now().into();
        let mut changed = false;
        let mut kept = Vec::new();
        for mut slot in std::mem::take(&mut self.record.slots) {
            let end = match self
                .processes
                .get_mut(&slot.name)
                .map(|running| running.process.look())
            {
                Some(Alive::Yes) => None,
                Some(Alive::Ended(text)) => Some(text),
                // Recorded, but not started, or gone before it was found.
                None if slot.stopping.is_some() || slot.again_at.is_none() => {
                    Some("it was not there".to_owned())
                }
                None => None,
            };
            let Some(text) = end else {
                kept.push(slot);
                continue;
            };
            changed = true;
            let running = self.processes.remove(&slot.name);
            let how = if slot.stopping.is_some() {
                End::Stopped
            } else {
                End::Crashed
            };
            let text = match running
                .as_ref()
                .and_then(|running| process::last_words(&running.log))
            {
                Some(words) if how == End::Crashed => format!("{text}; its last words: {words}"),
                Some(_) | None => text,
            };
            self.ended.push(Ended {
                service: slot.service,
                name: slot.name.clone(),
                release: slot.revision.release.clone(),
                how,
                text,
            });
            if how == End::Stopped {
                continue;
            }
            let steady = running.is_some_and(|running| running.since.elapsed() >= STEADY);
            slot.crashes = if steady { 1 } else { slot.crashes + 1 };
            slot.restarts += 1;
            slot.again_at = Some(now.plus(delay(slot.crashes)));
            kept.push(slot);
        }
        self.record.slots = kept;
        if changed { self.save() } else { Ok(()) }
    }

    /// Asks those that are not known to be ready, and those that were, whether they are.
    async fn ask_all(&mut self) {
        for running in self.processes.values_mut() {
            if running.address.is_none() {
                running.address = process::address(&running.log);
            }
            let due = running.asked.is_none_or(|asked| asked.elapsed() >= ASK);
            if let (Some(address), true) = (running.address, due && !running.ready) {
                running.asked = Some(Instant::now());
                running.ready = worker::admin::ask(address, "/readyz", ANSWER).await.is_ok();
            }
        }
    }

    /// Stops processes of another revision than is wanted, and those beyond the number.
    fn stop_surplus(&mut self, service: Service) -> Result<(), FleetError> {
        let now: Moment = self.clock.now().into();
        let wanted = self.record.wanted(service).cloned();
        let count = wanted.as_ref().map_or(0, |wanted| wanted.count) as usize;
        let right = |slot: &Slot| {
            wanted
                .as_ref()
                .is_some_and(|wanted| wanted.revision == slot.revision)
        };
        let ready = |slot: &Slot| {
            self.processes
                .get(&slot.name)
                .is_some_and(|running| running.ready)
        };
        let of_service = |slot: &&Slot| slot.service == service && slot.stopping.is_none();
        let slots: Vec<&Slot> = self.record.slots.iter().filter(of_service).collect();
        let (new, old): (Vec<&Slot>, Vec<&Slot>) = slots.into_iter().partition(|slot| right(slot));
        let at_work = new.iter().filter(|slot| ready(slot)).count();
        // The stable service never falls below its number: an old process goes when a new one is ready in its place. What the canary
        // service runs is on trial, or a control group: it goes at once.
        let may_stay = match (service, wanted.is_some()) {
            (Service::Stable, true) => count.saturating_sub(at_work),
            (Service::Stable, false) | (Service::Canary, _) => 0,
        };
        let surplus = old.iter().skip(may_stay).chain(new.iter().skip(count));
        let names: Vec<String> = surplus.map(|slot| slot.name.clone()).collect();
        if !names.is_empty() {
            for slot in self
                .record
                .slots
                .iter_mut()
                .filter(|slot| names.contains(&slot.name))
            {
                slot.stopping = Some(now);
            }
            self.save()?;
        }
        self.signal_stopping(service, now);
        Ok(())
    }

    /// SIGTERM once, SIGKILL when the budget is over.
    ///
    /// A second SIGTERM makes a worker drop what it has in hand. So one that was adopted gets it only if it is seen to be ready: then
    /// the tool before was killed before it could send it.
    fn signal_stopping(&mut self, service: Service, now: Moment) {
        for slot in &self.record.slots {
            let (Some(since), true) = (slot.stopping, slot.service == service) else {
                continue;
            };
            if let Some(running) = self.processes.get_mut(&slot.name) {
                if now.since(since) >= self.options.stop_within {
                    running.process.kill();
                } else if running.ready || !running.process.is_adopted() {
                    running.process.terminate();
                }
            }
        }
    }

    /// Starts processes of the wanted revision up to the number, and again those whose delay is over.
    fn start_missing(&mut self, service: Service) -> Result<(), FleetError> {
        let now: Moment = self.clock.now().into();
        let Some(Wanted { revision, count }) = self.record.wanted(service).cloned() else {
            self.forget_waiting(service);
            return Ok(());
        };
        let again: Vec<usize> = (0..self.record.slots.len())
            .filter(|index| {
                let slot = &self.record.slots[*index];
                slot.service == service
                    && slot.stopping.is_none()
                    && slot.again_at.is_some_and(|at| at <= now)
            })
            .collect();
        for index in again {
            self.start(index)?;
        }
        let right =
            |slot: &&Slot| slot.service == service && slot.stopping.is_none() && slot.revision == revision;
        let there = self.record.slots.iter().filter(right).count();
        for _ in there..count as usize {
            let name = format!("{service}-{}", self.record.next);
            self.record.next += 1;
            self.record.slots.push(Slot::new(name, service, revision.clone()));
            self.start(self.record.slots.len() - 1)?;
        }
        Ok(())
    }

    /// Slots that wait to be started again and are not wanted any more.
    fn forget_waiting(&mut self, service: Service) {
        let processes = &self.processes;
        self.record.slots.retain(|slot| {
            slot.service != service || slot.again_at.is_none() || processes.contains_key(&slot.name)
        });
    }

    fn start(&mut self, index: usize) -> Result<(), FleetError> {
        let slot = &mut self.record.slots[index];
        slot.token = format!("{:016x}", fastrand::u64(..));
        slot.again_at = None;
        let slot = slot.clone();
        // Written down first: from now on whoever looks for the token finds the process, if it came to be.
        self.save()?;
        let variables = self.variables(&slot);
        let Definition::Local { command, .. } = &slot.revision.definition else {
            return Err(FleetError(format!(
                "{} is no revision of a local fleet",
                slot.revision.release
            )));
        };
        let log = self.log_path(&slot);
        match Process::start(command, &variables, &log) {
            Ok(process) => {
                self.started.push(Started {
                    service: slot.service,
                    release: slot.revision.release.clone(),
                });
                self.processes.insert(slot.name, Running::new(process, log));
                Ok(())
            }
            Err(error) => {
                let slot = &mut self.record.slots[index];
                slot.crashes += 1;
                let now: Moment = self.clock.now().into();
                slot.again_at = Some(now.plus(delay(slot.crashes)));
                self.save()?;
                Err(FleetError(error))
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
        }
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

fn delay(crashes: u32) -> Duration {
    RESTART
        .saturating_mul(1 << crashes.saturating_sub(1).min(10))
        .min(RESTART_MOST)
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> FleetError {
    FleetError(format!("{}: {error}", path.display()))
}

impl Fleet for Local {
    async fn check(&mut self, candidate: &Revision) -> Result<Facts, String> {
        let Definition::Local { command, environment } = &candidate.definition else {
            return Err(format!("{} is no revision of a local fleet", candidate.release));
        };
        process::executable(command)?;
        for name in ["WORKER__QUEUE__URL", "WORKER__QUEUE__NAME"] {
            if let Some(queue) = environment.get(name).filter(|queue| queue.ends_with(".fifo")) {
                return Err(format!(
                    "{name} is {queue}, a FIFO queue; expected a standard one: the order within a group ties two releases together, so \
                     that neither can be judged alone. --skip-canary rolls out without a comparison"
                ));
            }
        }
        let baseline = self.record.stable.clone();
        if baseline
            .as_ref()
            .is_some_and(|baseline| baseline.release == candidate.release)
        {
            return Err(format!(
                "{} is what runs as stable; expected another release",
                candidate.release
            ));
        }
        Ok(Facts {
            baseline,
            ..Facts::default()
        })
    }

    async fn observe(&mut self) -> Result<View, FleetError> {
        self.reconcile().await?;
        Ok(View {
            stable: self.view_of(Service::Stable),
            canary: self.view_of(Service::Canary),
            started: std::mem::take(&mut self.started),
            ended: std::mem::take(&mut self.ended),
            notes: Vec::new(),
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

#[cfg(test)]
mod tests {
    use worker::release::Release;

    use super::*;

    fn revision(release: &str) -> Revision {
        Revision {
            release: Release::new(release).unwrap(),
            definition: Definition::Local {
                command: vec!["worker".to_owned()],
                environment: BTreeMap::new(),
            },
        }
    }

    #[tokio::test]
    async fn a_fleet_that_was_stopped_is_started_again_with_what_was_stable() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let options = Options {
                directory: directory.path().to_owned(),
                stable: 3,
                canary: 1,
                stop_within: Duration::from_secs(1),
            };
            Local::open(options, Clock::System).unwrap()
        };
        let wanted = || open().record.wanted(Service::Stable).cloned();
        open().start_again().unwrap();
        assert_eq!(wanted(), None, "nothing was ever stable");

        let mut fleet = open();
        fleet.record(Some(&revision("1.1.0"))).await.unwrap();
        fleet
            .run(Service::Stable, &revision("2.0.0"), Count::Full)
            .await
            .unwrap();
        open().start_again().unwrap();
        let other = wanted().unwrap().revision;
        assert_eq!(other, revision("2.0.0"), "what runs stays as it is");

        let mut fleet = open();
        fleet.stop(Service::Stable).await.unwrap();
        open().start_again().unwrap();
        let again = Wanted {
            revision: revision("1.1.0"),
            count: 3,
        };
        assert_eq!(wanted(), Some(again));
    }
}
