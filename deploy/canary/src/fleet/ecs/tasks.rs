//! What became of tasks from one look to the next.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{Said, ServiceState, TaskState};
use super::{Known, Service};
use crate::evidence::End;
use crate::fleet::{Ended, ProcessState, ProcessView, Started};
use crate::moment::Moment;

/// Tasks that are remembered after their end; ECS forgets them after an hour or so.
const REMEMBERED: usize = 10_000;

/// The tasks that were seen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    there: BTreeMap<Service, BTreeSet<String>>,
    gone: BTreeSet<String>,
}

/// What one look at a service shows.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) processes: Vec<ProcessView>,
    pub(super) started: Vec<Started>,
    pub(super) ended: Vec<Ended>,
}

impl Watch {
    /// Which of the tasks that ECS lists as ended have not been told of yet.
    pub(super) fn unknown(&self, arns: Vec<String>) -> Vec<String> {
        arns.into_iter().filter(|arn| !self.gone.contains(arn)).collect()
    }

    /// Compares the tasks of a service with the look before. The first look tells of nobody's start or end.
    pub(super) fn look(
        &mut self,
        service: Service,
        tasks: &BTreeMap<String, TaskState>,
        known: &BTreeMap<String, Known>,
        port: Option<u16>,
    ) -> Change {
        let first = !self.there.contains_key(&service);
        let before = self.there.remove(&service).unwrap_or_default();
        let mut change = Change::default();
        let mut now = BTreeSet::new();
        for task in tasks.values() {
            let Some(known) = known.get(&task.task_definition) else {
                continue;
            };
            let Some(release) = known.release.clone() else {
                continue;
            };
            let is_news = task.stopped.is_none() || !self.gone.contains(&task.arn);
            if !first && is_news && !before.contains(&task.arn) {
                let release = release.clone();
                change.started.push(Started { service, release });
            }
            let Some(stopped) = &task.stopped else {
                now.insert(task.arn.clone());
                let process = process(task, release, known.has_health_check, port);
                change.processes.push(process);
                continue;
            };
            if self.gone.insert(task.arn.clone()) && !first {
                change.ended.push(Ended {
                    service,
                    name: name(&task.arn),
                    release,
                    how: if stopped.crashed {
                        End::Crashed
                    } else {
                        End::Stopped
                    },
                    text: stopped.text.clone(),
                });
            }
        }
        while self.gone.len() > REMEMBERED {
            self.gone.pop_first();
        }
        self.there.insert(service, now);
        change
    }
}

/// The task's id.
fn name(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or(arn).to_owned()
}

fn process(
    task: &TaskState,
    release: worker::release::Release,
    checked: bool,
    port: Option<u16>,
) -> ProcessView {
    let stopping = task.desired_status == "STOPPED"
        || ["DEACTIVATING", "STOPPING", "DEPROVISIONING"].contains(&task.last_status.as_str());
    let ready = task.last_status == "RUNNING" && (task.healthy == Some(true) || !checked);
    let address = port.and_then(|port| {
        // A mapped port is reached at this machine: containers of an emulator.
        let mapped = task
            .ports
            .get(&port)
            .map(|host| std::net::SocketAddr::from(([127, 0, 0, 1], *host)));
        mapped.or_else(|| format!("{}:{port}", task.address.as_deref()?).parse().ok())
    });
    ProcessView {
        name: name(&task.arn),
        release,
        address,
        state: if stopping {
            ProcessState::Stopping
        } else if ready {
            ProcessState::Ready
        } else {
            ProcessState::Starting
        },
        restarts: 0,
    }
}

/// What ECS complains of: that it finds no place for a task, that it may not pull an image.
pub(super) fn trouble(state: &ServiceState, since: Moment) -> Vec<String> {
    let complains = |said: &&Said| {
        let text = &said.text;
        said.at >= since
            && ["unable to", "failed", "was unhealthy", "throttl"]
                .iter()
                .any(|word| text.contains(word))
    };
    let events = state.events.iter().filter(complains);
    events.map(|said| format!("ECS says: {}", said.text)).collect()
}
