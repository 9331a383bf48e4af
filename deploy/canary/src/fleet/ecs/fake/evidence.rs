//! What the tasks of the simulated ECS say of their work.

use std::collections::BTreeSet;

use worker::control::Document;
use worker::evidence::{Failed, Report, State, Totals, Window};
use worker::release::{Release, Track};

use super::{CANARY, CONTROL, Fake, HEALTHY_AFTER, RATE, Task, World};
use crate::drive::Source;
use crate::fleet::View;

impl World {
    fn report(&self, task: &Task, since: u64) -> Report {
        let now = self.now();
        let control = self
            .parameters
            .get(CONTROL)
            .and_then(|text| Document::parse(text).ok());
        let canary = control.and_then(|document| document.tracks.canary);
        let shut = task.service == CANARY && canary.is_none_or(|canary| canary.paused);
        let failed = self.failures.get(&task.release).copied().unwrap_or(0);
        let from = since.max(task.created.second() + HEALTHY_AFTER.as_secs());
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
            release: Release::new(&task.release).unwrap(),
            track: if task.service == CANARY {
                Track::Canary
            } else {
                Track::Stable
            },
            service: Some(task.service.clone()),
            process: task.arn.clone(),
            started_at: task.created.into(),
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

impl Source for Fake {
    async fn ask(&self, view: &View, since: u64) -> Vec<(String, Result<Report, String>)> {
        let processes = view.stable.processes.iter().chain(&view.canary.processes);
        let named: BTreeSet<&str> = processes.map(|process| process.name.as_str()).collect();
        self.change(|world| {
            let now = world.now();
            let at_work = world
                .tasks
                .iter()
                .filter(|task| task.stopped.is_none() && now.since(task.created) >= HEALTHY_AFTER);
            at_work
                .filter_map(|task| {
                    let name = task.arn.rsplit('/').next()?;
                    named
                        .contains(name)
                        .then(|| (name.to_owned(), Ok(world.report(task, since))))
                })
                .collect()
        })
    }
}
