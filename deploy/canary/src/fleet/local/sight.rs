//! What there is of a local fleet, for somebody who only looks: nothing is made, started or stopped.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::{FleetError, ProcessState, Service};
use super::process;
use super::record::{Record, Slot};
use crate::journal::{ProcessMeasured, ServiceMeasured};

/// How long a process of this machine may take to say that it is ready.
const ANSWER: Duration = Duration::from_millis(500);
/// A process that was started and is not there any more.
pub const GONE: &str = "gone";

/// A fleet that no rollout looks after.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// The stable service.
    pub stable: ServiceMeasured,
    /// The canary service.
    pub canary: ServiceMeasured,
    /// What is amiss, and what sets it right.
    pub amiss: Option<String>,
}

/// Looks at the processes that were started for the fleet in `directory`. None where there is no local fleet.
///
/// # Errors
/// When its record cannot be read.
pub async fn look(directory: &Path) -> Result<Option<Sight>, FleetError> {
    let path = directory.join("fleet.json");
    if !path.is_file() {
        return Ok(None);
    }
    let record = Record::read(&path)?;
    let found = process::find(record.slots.iter().map(|slot| slot.token.as_str()));
    // All at once: each may be one that does not answer.
    let mut asked = JoinSet::new();
    for (index, slot) in record.slots.iter().cloned().enumerate() {
        let lives = found.contains_key(&slot.token);
        let log = directory.join("logs").join(slot.log());
        asked.spawn(async move { (index, slot.service, seen(&slot, lives, &log).await) });
    }
    let mut seen = asked.join_all().await;
    seen.sort_by_key(|(index, ..)| *index);
    let service = |service: Service| {
        let wanted = record.wanted(service);
        ServiceMeasured {
            release: wanted.map(|wanted| wanted.revision.release.clone()),
            desired: wanted.map_or(0, |wanted| wanted.count),
            processes: seen
                .iter()
                .filter(|(_, of, _)| *of == service)
                .map(|(.., process)| process.clone())
                .collect(),
        }
    };
    let (stable, canary) = (service(Service::Stable), service(Service::Canary));
    let amiss = amiss(&record, &[&stable, &canary]);
    Ok(Some(Sight {
        stable,
        canary,
        amiss,
    }))
}

async fn seen(slot: &Slot, lives: bool, log: &Path) -> ProcessMeasured {
    let address = process::address(log).filter(|_| lives);
    let ready = match address {
        Some(address) => worker::admin::ask(address, "/readyz", ANSWER).await.is_ok(),
        None => false,
    };
    let state = match (lives, slot.stopping) {
        (false, _) => GONE,
        (true, Some(_)) => ProcessState::Stopping.as_str(),
        (true, None) if ready => ProcessState::Ready.as_str(),
        (true, None) => ProcessState::Starting.as_str(),
    };
    ProcessMeasured {
        name: slot.name.clone(),
        release: slot.revision.release.clone(),
        address: address.map(|address| address.to_string()),
        state: state.to_owned(),
        restarts: slot.restarts,
    }
}

fn amiss(record: &Record, services: &[&ServiceMeasured]) -> Option<String> {
    if let (None, Some(stable)) = (record.wanted(Service::Stable), &record.stable) {
        return Some(format!(
            "the fleet is stopped; `canary fleet run` starts {} again",
            stable.release
        ));
    }
    // Of a service that is to have none, nothing is missing.
    let wanted = services.iter().filter(|service| service.release.is_some());
    let processes = wanted.flat_map(|service| &service.processes);
    let gone = processes.filter(|process| process.state == GONE).count();
    if gone == 0 {
        return None;
    }
    let (are, them) = if gone == 1 {
        ("process is", "it")
    } else {
        ("processes are", "them")
    };
    Some(format!(
        "{gone} {are} gone; `canary fleet run` starts {them} again"
    ))
}
