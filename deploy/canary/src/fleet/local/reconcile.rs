//! From what is there to what is wanted, a step at each look: processes are started, started again, asked and stopped.

use std::time::Duration;

use tokio::time::Instant;

use super::process::{self, Alive, Process};
use super::record::{Slot, Wanted};
use super::{Ended, FleetError, Local, Running, Service, Started};
use crate::evidence::End;
use crate::moment::Moment;
use crate::rollout::Definition;

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

impl Local {
    /// Brings what is there one step nearer to what is wanted.
    pub(super) async fn reconcile(&mut self) -> Result<(), FleetError> {
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
            if how == End::Crashed {
                self.ends.insert(slot.name.clone(), text.clone());
            } else {
                self.ends.remove(&slot.name);
            }
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
            return self.forget_waiting(service);
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
    fn forget_waiting(&mut self, service: Service) -> Result<(), FleetError> {
        let (processes, before) = (&self.processes, self.record.slots.len());
        self.record.slots.retain(|slot| {
            slot.service != service || slot.again_at.is_none() || processes.contains_key(&slot.name)
        });
        if self.record.slots.len() == before {
            return Ok(());
        }
        self.save()
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
}

fn delay(crashes: u32) -> Duration {
    RESTART
        .saturating_mul(1 << crashes.saturating_sub(1).min(10))
        .min(RESTART_MOST)
}
