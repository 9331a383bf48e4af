//! What a tool sees: the counts of the processes, and what the judge makes of them.

use tokio::time::Instant;
use worker::release::Release;

use super::{Drive, Observer, Redriver, Source, counts};
use crate::evidence::Second;
use crate::fleet::{Fleet, Service, View};
use crate::journal::{Measured, Store};
use crate::judge::{self, verdict::Verdict};
use crate::rollout::Judgement;

impl<S: Store, F: Fleet, E: Source, R: Redriver, O: Observer> Drive<S, F, E, R, O> {
    /// Asks the processes and completes windows.
    ///
    /// What is said by others than the processes, and cannot be had, people are told: it is not a process that is ill.
    pub(super) async fn count(&mut self, view: &View) -> Option<String> {
        let now = self.now();
        let mut unheard = None;
        if self.source.is_by_process() {
            for ended in &view.ended {
                self.collector.ended(&ended.name, ended.how);
            }
            let processes = || view.stable.processes.iter().chain(&view.canary.processes);
            self.collector
                .retain(|name| processes().any(|process| process.name == name));
        }
        if Instant::now() >= self.due.ask {
            self.due.ask = Instant::now() + self.pace.ask;
            let since = self.collector.wanted_from(now);
            for (name, answer) in self.source.ask(view, since).await {
                match answer {
                    Ok(report) => self.collector.report(&name, report),
                    // No answer is no data: readiness, and the deadline of the window, see to it.
                    Err(_) if self.source.is_by_process() => {}
                    Err(error) => unheard = Some(error),
                }
            }
            self.due.entered = true;
        }
        let now = self.now();
        let second = self.second(view);
        self.collector.note(now, second);
        self.collector.advance(now);
        unheard
    }

    fn second(&self, view: &View) -> Second {
        let state = &self.journal.state;
        let tasks = |release: &Release| {
            self.collector
                .tasks(release, view.running(release), view.starts(release))
        };
        let baseline = state.baseline.as_ref();
        Second {
            share: counts::share_of_candidate(&self.course, state),
            candidate: tasks(&state.candidate.release),
            baseline: baseline.map_or_else(Default::default, |revision| tasks(&revision.release)),
        }
    }

    pub(super) fn judge(&self) -> Option<(Judgement, Option<Verdict>)> {
        let state = &self.journal.state;
        if !state.is_judged() {
            return None;
        }
        let rules = &self.course.plan.rules;
        let ledger = self.collector.ledger();
        let now = self.now();
        if state.baseline.is_none() {
            let messages = counts::tally(ledger);
            let situation = self.course.situation(state, now, messages.attempts);
            return Some((counts::first_release(rules, ledger, &situation, &messages), None));
        }
        let messages = counts::tally(ledger).attempts;
        let situation = self.course.situation(state, now, messages);
        let verdict = judge::decide(rules, ledger, &situation);
        Some((Judgement::from(&verdict), Some(verdict)))
    }

    pub(super) fn measure(&mut self, view: &View) {
        let now = self.now();
        let flow = self.collector.flow(now);
        let contained = counts::contained(
            self.journal.measured.contained,
            self.collector.is_contained(),
            now,
        );
        self.journal.measured = Measured {
            at: now,
            per_second: flow.per_second,
            share: flow.canary_share,
            share_wanted: counts::share_wanted(&self.course, &self.journal.state),
            canary_per_process: self
                .tracks
                .as_ref()
                .and_then(|tracks| tracks.canary)
                .and_then(|canary| canary.max_per_second),
            stable: counts::measured(view.service(Service::Stable)),
            canary: counts::measured(view.service(Service::Canary)),
            contained,
        };
    }
}
