//! A fleet and its workers on tokio's clock, for tests: processes get ready after a while, share the work, fail by their release.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use worker::clock::Clock;
use worker::control::Tracks;
use worker::evidence::{Failed, Report, State, Totals, Window};
use worker::release::{Release, Track};

use super::{Fleet, FleetError, ProcessState, ProcessView, Service, ServiceView, Started, View};
use crate::drive::Source;
use crate::moment::Moment;
use crate::rollout::{Count, Facts, Revision};

/// The world outside the tool: it goes on when the tool dies. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Simulated(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    clock: Clock,
    /// Failures a second of 10 messages a second and process, by release.
    failures: BTreeMap<String, u64>,
    /// The same, of a release that is well until it has the work.
    failures_as_stable: BTreeMap<String, u64>,
    never_ready: Vec<String>,
    services: BTreeMap<Service, (Revision, u32)>,
    processes: Vec<Worker>,
    next: u32,
    recorded: Option<Revision>,
    tracks: Option<Tracks>,
    started: Vec<Started>,
    /// Everything the tool did that changed something, in order.
    deeds: Vec<String>,
}

#[derive(Clone, Debug)]
struct Worker {
    name: String,
    service: Service,
    release: Release,
    since: Moment,
}

const READY_AFTER: Duration = Duration::from_secs(2);
const STABLE: u32 = 3;
/// Messages a second that each process finishes.
const RATE: u64 = 20;

impl Simulated {
    pub(crate) fn new(clock: Clock, baseline: Option<Revision>) -> Self {
        let mut world = World {
            clock,
            failures: BTreeMap::new(),
            failures_as_stable: BTreeMap::new(),
            never_ready: Vec::new(),
            services: BTreeMap::new(),
            processes: Vec::new(),
            next: 1,
            recorded: baseline.clone(),
            tracks: None,
            started: Vec::new(),
            deeds: Vec::new(),
        };
        if let Some(revision) = baseline {
            world.services.insert(Service::Stable, (revision, STABLE));
            world.reconcile();
            for worker in &mut world.processes {
                worker.since = Moment::from_millis(0);
            }
            world.started.clear();
        }
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn fails(&self, release: &str, per_second: u64) {
        self.0
            .lock()
            .unwrap()
            .failures
            .insert(release.to_owned(), per_second);
    }

    pub(crate) fn fails_as_stable(&self, release: &str, per_second: u64) {
        self.0
            .lock()
            .unwrap()
            .failures_as_stable
            .insert(release.to_owned(), per_second);
    }

    pub(crate) fn is_never_ready(&self, release: &str) {
        self.0.lock().unwrap().never_ready.push(release.to_owned());
    }

    pub(crate) fn deeds(&self) -> Vec<String> {
        self.0.lock().unwrap().deeds.clone()
    }

    /// Who runs what, and what is recorded: what must be the same however often the tool was killed.
    pub(crate) fn end_state(&self) -> Vec<String> {
        let world = self.0.lock().unwrap();
        let mut state: Vec<String> = world
            .processes
            .iter()
            .map(|process| format!("{} {}", process.service, process.release))
            .collect();
        state.sort();
        let recorded = world
            .recorded
            .as_ref()
            .map(|revision| revision.release.to_string());
        state.push(format!("recorded {recorded:?}"));
        state.push(format!("tracks {:?}", world.tracks));
        state
    }
}

impl World {
    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    fn is_ready(&self, worker: &Worker) -> bool {
        let slow = self
            .never_ready
            .iter()
            .any(|name| name == worker.release.as_str());
        !slow && self.now().since(worker.since) >= READY_AFTER
    }

    fn did(&mut self, deed: String) {
        self.deeds.push(deed);
    }

    fn reconcile(&mut self) {
        let now = self.now();
        for service in Service::ALL {
            let wanted = self.services.get(&service).cloned();
            let (revision, count) = match wanted {
                Some((revision, count)) => (Some(revision), count as usize),
                None => (None, 0),
            };
            let right = |worker: &Worker| {
                worker.service == service
                    && revision
                        .as_ref()
                        .is_some_and(|revision| revision.release == worker.release)
            };
            let there = self.processes.iter().filter(|worker| right(worker)).count();
            for _ in there..count {
                if let Some(revision) = &revision {
                    let (name, release) = (format!("{service}-{}", self.next), revision.release.clone());
                    self.next += 1;
                    self.started.push(Started {
                        service,
                        release: release.clone(),
                    });
                    self.processes.push(Worker {
                        name,
                        service,
                        release,
                        since: now,
                    });
                }
            }
            let whole = self
                .processes
                .iter()
                .filter(|worker| right(worker) && self.is_ready(worker))
                .count()
                >= count;
            if whole || service == Service::Canary {
                let mut left = count;
                self.processes.retain(|worker| {
                    if worker.service != service {
                        return true;
                    }
                    let keep = right(worker) && left > 0;
                    left -= usize::from(keep);
                    keep
                });
            }
        }
    }

    fn view(&self, service: Service) -> ServiceView {
        let wanted = self.services.get(&service);
        let of_service = |worker: &&Worker| worker.service == service;
        let processes = self
            .processes
            .iter()
            .filter(of_service)
            .map(|worker| ProcessView {
                name: worker.name.clone(),
                release: worker.release.clone(),
                address: Some(([127, 0, 0, 1], 1).into()),
                state: if self.is_ready(worker) {
                    ProcessState::Ready
                } else {
                    ProcessState::Starting
                },
                restarts: 0,
            });
        ServiceView {
            release: wanted.map(|(revision, _)| revision.release.clone()),
            desired: wanted.map_or(0, |(_, count)| *count),
            processes: processes.collect(),
            broken: None,
            said: self.said(service),
        }
    }

    fn said(&self, service: Service) -> Option<String> {
        let of_service = |worker: &&Worker| worker.service == service && !self.is_ready(worker);
        let unready = self.processes.iter().find(of_service)?;
        Some(format!("{}: no queue", unready.name))
    }

    fn report(&self, worker: &Worker, since: u64) -> Report {
        let now = self.now();
        let canary = self.tracks.as_ref().and_then(|tracks| tracks.canary);
        let shut = worker.service == Service::Canary && canary.is_none_or(|canary| canary.paused);
        let as_stable = self.failures_as_stable.get(worker.release.as_str());
        let as_stable = as_stable.filter(|_| worker.service == Service::Stable);
        let failed = as_stable.or_else(|| self.failures.get(worker.release.as_str()));
        let failed = failed.copied().unwrap_or(0);
        let from = since.max(worker.since.second() + READY_AFTER.as_secs());
        let windows = (from..=now.second()).filter(|_| !shut).map(|start| Window {
            start,
            started: RATE,
            done: RATE - failed,
            failed: Failed {
                retry: failed,
                ..Failed::default()
            },
            ..Window::default()
        });
        Report {
            schema: 1,
            release: worker.release.clone(),
            track: match worker.service {
                Service::Stable => Track::Stable,
                Service::Canary => Track::Canary,
            },
            service: None,
            process: worker.name.clone(),
            started_at: worker.since.into(),
            now: now.into(),
            deadline_seconds: 30.0,
            state: State {
                polling: true,
                paused: shut,
                ..State::default()
            },
            windows: windows.collect(),
            totals: Totals::default(),
        }
    }
}

impl Source for Simulated {
    async fn ask(&self, _view: &View, since: u64) -> Vec<(String, Result<Report, String>)> {
        let world = self.0.lock().unwrap();
        let ready = world.processes.iter().filter(|worker| world.is_ready(worker));
        ready
            .map(|worker| (worker.name.clone(), Ok(world.report(worker, since))))
            .collect()
    }
}

impl Fleet for Simulated {
    async fn check(&mut self, _candidate: &Revision) -> Result<Facts, String> {
        let baseline = self.0.lock().unwrap().recorded.clone();
        Ok(Facts {
            baseline,
            ..Facts::default()
        })
    }

    async fn observe(&mut self) -> Result<View, FleetError> {
        let mut world = self.0.lock().unwrap();
        world.reconcile();
        Ok(View {
            stable: world.view(Service::Stable),
            canary: world.view(Service::Canary),
            started: std::mem::take(&mut world.started),
            ended: Vec::new(),
            notes: Vec::new(),
        })
    }

    async fn run(&mut self, service: Service, revision: &Revision, count: Count) -> Result<(), FleetError> {
        let mut world = self.0.lock().unwrap();
        let count = match (service, count) {
            (Service::Stable, _) | (Service::Canary, Count::Full) => STABLE,
            (Service::Canary, Count::Few) => 1,
        };
        let wanted = (revision.clone(), count);
        if world.services.get(&service) != Some(&wanted) {
            world.services.insert(service, wanted);
            world.did(format!("{service} runs {} × {count}", revision.release));
        }
        Ok(())
    }

    async fn stop(&mut self, service: Service) -> Result<(), FleetError> {
        let mut world = self.0.lock().unwrap();
        if world.services.remove(&service).is_some() {
            world.did(format!("{service} stops"));
        }
        Ok(())
    }

    async fn control(&mut self, tracks: &Tracks) -> Result<(), FleetError> {
        self.0.lock().unwrap().tracks = Some(tracks.clone());
        Ok(())
    }

    async fn record(&mut self, revision: Option<&Revision>) -> Result<(), FleetError> {
        let mut world = self.0.lock().unwrap();
        if world.recorded.as_ref() != revision {
            world.recorded = revision.cloned();
            let name = revision.map(|revision| revision.release.to_string());
            world.did(format!("recorded {name:?}"));
        }
        Ok(())
    }
}
