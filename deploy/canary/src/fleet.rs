//! The processes that drain the queue: two services, stable and canary, each with a revision and a number of processes.
//!
//! A fleet does as it is told and says what is there; it decides nothing. Everything it is told is idempotent.

#[cfg(feature = "ecs")]
pub mod ecs;
pub mod local;
#[cfg(test)]
pub(crate) mod simulated;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use worker::control::Tracks;
use worker::release::Release;

use crate::evidence::End;
use crate::rollout::{Count, Facts, Revision, Seen, Sight};

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// It carries the work.
    Stable,
    /// It runs the release on trial; in the bake, the control group.
    Canary,
}

impl Service {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stable, Self::Canary];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a fleet looks like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The stable service.
    pub stable: ServiceView,
    /// The canary service.
    pub canary: ServiceView,
    /// Processes that were started since the last look.
    pub started: Vec<Started>,
    /// Processes that have ended since the last look.
    pub ended: Vec<Ended>,
    /// What the system that runs the processes complains of, each once.
    pub notes: Vec<String>,
}

/// What a service looks like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceView {
    /// The release it is to run; none when it is scaled to zero.
    pub release: Option<Release>,
    /// Processes it is to have.
    pub desired: u32,
    /// The processes there are.
    pub processes: Vec<ProcessView>,
    /// Why it will not come to run what it was told to, if that is known already.
    pub broken: Option<String>,
    /// What a process that is to be ready, and is not, said last.
    pub said: Option<String>,
}

/// What a process looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessView {
    /// Its name in the fleet. A process that is started again after a crash has the same.
    pub name: String,
    /// What it runs.
    pub release: Release,
    /// Where its admin endpoint is, once known.
    pub address: Option<SocketAddr>,
    /// What it does.
    pub state: ProcessState,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It is not ready yet.
    Starting,
    /// It is.
    Ready,
    /// It was told to stop.
    Stopping,
    /// It has crashed, and waits to be started again.
    Waiting,
}

impl ProcessState {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
        }
    }
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// Of which service.
    pub service: Service,
    /// What it runs.
    pub release: Release,
}

/// A process that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Of which service.
    pub service: Service,
    /// Its name in the fleet.
    pub name: String,
    /// What it ran.
    pub release: Release,
    /// By itself, or as it was told.
    pub how: End,
    /// What the system says.
    pub text: String,
}

impl ServiceView {
    /// As a rollout sees it.
    #[must_use]
    pub fn sight(&self) -> Sight {
        if let Some(why) = &self.broken {
            return Sight::Broken(why.clone());
        }
        let Some(release) = &self.release else {
            return if self.processes.is_empty() {
                Sight::Nothing
            } else {
                Sight::Coming
            };
        };
        let whole = self.processes.len() == self.desired as usize;
        let ready =
            |process: &ProcessView| process.release == *release && process.state == ProcessState::Ready;
        if whole && self.processes.iter().all(ready) {
            Sight::Ready(release.clone())
        } else {
            Sight::Coming
        }
    }
}

impl View {
    /// A service.
    #[must_use]
    pub fn service(&self, service: Service) -> &ServiceView {
        match service {
            Service::Stable => &self.stable,
            Service::Canary => &self.canary,
        }
    }

    /// As a rollout sees it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            canary: self.canary.sight(),
            stable: self.stable.sight(),
        }
    }

    /// Running processes of a release, on either service. Those that are to be started again after a crash are counted.
    #[must_use]
    pub fn running(&self, release: &Release) -> u32 {
        let processes = self.stable.processes.iter().chain(&self.canary.processes);
        let of_release = |process: &&ProcessView| process.release == *release;
        u32::try_from(processes.filter(of_release).count()).unwrap_or(u32::MAX)
    }

    /// Starts of a release since the last look.
    #[must_use]
    pub fn starts(&self, release: &Release) -> u32 {
        let starts = self.started.iter().filter(|started| started.release == *release);
        u32::try_from(starts.count()).unwrap_or(u32::MAX)
    }

    /// The processes that can be asked.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, SocketAddr)> {
        let processes = self.stable.processes.iter().chain(&self.canary.processes);
        processes
            .filter_map(|process| Some((process.name.clone(), process.address?)))
            .collect()
    }
}

/// Why a fleet did not do as it was told. It is told again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FleetError(pub String);

/// What a fleet must be able to do.
pub trait Fleet: Send {
    /// Whether `candidate` can be rolled out, and what runs now. Changes nothing.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    fn check(&mut self, candidate: &Revision) -> impl Future<Output = Result<Facts, String>> + Send;

    /// What is there. A fleet that has nobody else to look after its processes does so here.
    fn observe(&mut self) -> impl Future<Output = Result<View, FleetError>> + Send;

    /// `service` is to run `revision`. On the stable service no process is stopped before its successor is ready.
    fn run(
        &mut self,
        service: Service,
        revision: &Revision,
        count: Count,
    ) -> impl Future<Output = Result<(), FleetError>> + Send;

    /// `service` is to have no process.
    fn stop(&mut self, service: Service) -> impl Future<Output = Result<(), FleetError>> + Send;

    /// What the tracks may do from now on. Each call has a higher epoch than the one before.
    fn control(&mut self, tracks: &Tracks) -> impl Future<Output = Result<(), FleetError>> + Send;

    /// `revision` is what is stable, for templates and later rollouts; none when nothing is.
    fn record(&mut self, revision: Option<&Revision>) -> impl Future<Output = Result<(), FleetError>> + Send;
}
