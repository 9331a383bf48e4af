//! What was counted: reports of processes become windows for the judge, each exactly once.
//!
//! A window is complete when its second is over for every process that lives, and all attempts begun in it have ended; or when the
//! handlers' deadline and some grace are over. It enters then and never again: what comes later is too late. What was counted of
//! windows that are not complete yet is kept too ([`Checkpoint`]), so that a tool that is started again goes on with the same counts.
//!
//! All of it is pure; [`scrape`] asks the processes, [`cloudwatch`](self) reads what they have published.

#[cfg(feature = "ecs")]
pub mod cloudwatch;
pub mod scrape;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use worker::evidence::{Breaker, Report, State, Window as Counted};
use worker::release::{Release, Track};

use crate::judge::ledger::{Ledger, Recorded};
use crate::judge::window::{Arm, SCHEMA, Tasks, Window};
use crate::moment::Moment;

/// Seconds that reports may take to arrive once attempts have ended.
pub const GRACE: u64 = 5;
/// Seconds over which work and share are measured.
const MEASURED: u64 = worker::control::share::MEASURED;
/// Seconds that the measuring lags behind at most where reports take their time.
const LAG: u64 = 150;
/// The most failed messages that a window names per release.
const FIRST_FAILURES: usize = 5;

/// What was counted, in a form that is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// The first second that counts; none before the canary is deployed.
    pub from: Option<u64>,
    /// Windows that are complete, in order of time.
    pub windows: Vec<Window>,
    /// What processes have reported for windows that are not complete, and for the last seconds.
    pub processes: BTreeMap<String, Process>,
    /// What else is to be known of seconds whose windows are not complete.
    pub seconds: BTreeMap<u64, Second>,
    /// Windows whose counts could not be: no data.
    pub refused: u64,
    /// Messages that processes of the new release have handed over which are not in `processes` any more.
    pub handed_over: u64,
}

impl Checkpoint {
    /// Messages that the processes of `release`, the new one, have handed over, as far as they have reported it: what one that was
    /// killed handed over in its last moment is not in there.
    #[must_use]
    pub fn handed_over(&self, release: &Release) -> u64 {
        let processes = self.processes.values();
        let there = processes.filter(|process| process.release == *release);
        self.handed_over + there.map(|process| process.handed_over).sum::<u64>()
    }
}

/// One process, as it last reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its name in the fleet.
    pub name: String,
    /// Its release.
    pub release: Release,
    /// Its track.
    pub track: Track,
    /// When it started, by its own clock; 0 where that is not known.
    #[serde(default)]
    pub started_at: f64,
    /// When it last reported, by its own clock.
    pub reported: f64,
    /// How long its attempts may take, in seconds.
    pub deadline_seconds: f64,
    /// What it did just then.
    pub state: State,
    /// Whether it has ended.
    #[serde(default)]
    pub gone: bool,
    /// Messages it has handed over since it started.
    #[serde(default)]
    pub handed_over: u64,
    /// Its windows, by start.
    pub windows: BTreeMap<u64, Counted>,
}

/// What is to be known of a second beside what processes count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// The share that the new release was allowed.
    pub share: f64,
    /// Its tasks.
    pub candidate: Tasks,
    /// The old release's.
    pub baseline: Tasks,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself. What it had begun has failed.
    Crashed,
    /// It was told to. What it had begun it has finished or handed back, and which is not known: it does not count.
    Stopped,
}

/// How work is shared now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// First deliveries a second.
    pub per_second: f64,
    /// The canary service's part of them; none without any.
    pub canary_share: Option<f64>,
}

/// Makes windows of reports.
#[derive(Clone, Debug)]
pub struct Collector {
    candidate: Release,
    baseline: Option<Release>,
    ledger: Ledger,
    kept: Checkpoint,
    complete: BTreeSet<u64>,
    /// Seconds that the measuring lags behind at most.
    lag: u64,
}

impl Collector {
    /// Goes on from `checkpoint`.
    #[must_use]
    pub fn new(candidate: Release, baseline: Option<Release>, checkpoint: Checkpoint) -> Self {
        let mut ledger = Ledger::default();
        for window in &checkpoint.windows {
            ledger.record(window.clone());
        }
        let complete = checkpoint.windows.iter().map(|window| window.start).collect();
        Self {
            candidate,
            baseline,
            ledger,
            kept: checkpoint,
            complete,
            lag: 0,
        }
    }

    /// Reports take their time: what is measured is measured up to where they reach, some minutes back at most.
    #[must_use]
    pub fn lagging(self) -> Self {
        Self { lag: LAG, ..self }
    }

    /// From `second` on it counts. Said once; later ones are ignored.
    pub fn begin(&mut self, second: u64) {
        self.kept.from.get_or_insert(second);
    }

    /// The windows so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What to write down.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.kept
    }

    /// What is compared with.
    pub fn set_baseline(&mut self, baseline: Option<Release>) {
        self.baseline = baseline;
    }

    /// The first second for which a process is to be asked.
    #[must_use]
    pub fn wanted_from(&self, now: Moment) -> u64 {
        let recent = self.measured_until(now).saturating_sub(MEASURED + 1);
        self.first_open(now).map_or(recent, |first| first.min(recent))
    }

    fn first_open(&self, now: Moment) -> Option<u64> {
        let from = self.kept.from?;
        (from..now.second()).find(|second| !self.complete.contains(second))
    }

    /// Takes what the process called `name` reports.
    pub fn report(&mut self, name: &str, report: Report) {
        // A new process under an old name: the one before is dead, and nobody has said so.
        let before: Vec<String> = self
            .kept
            .processes
            .iter()
            .filter(|(id, process)| process.name == name && !process.gone && **id != report.process)
            .map(|(id, _)| id.clone())
            .collect();
        for id in before {
            self.end(&id, End::Crashed);
        }
        let process = self
            .kept
            .processes
            .entry(report.process)
            .or_insert_with(|| Process {
                name: name.to_owned(),
                release: report.release,
                track: report.track,
                started_at: report.started_at,
                reported: 0.0,
                deadline_seconds: report.deadline_seconds,
                state: State::default(),
                gone: false,
                handed_over: 0,
                windows: BTreeMap::new(),
            });
        if process.gone || report.now < process.reported {
            return; // an answer that was overtaken
        }
        process.reported = report.now;
        process.deadline_seconds = report.deadline_seconds;
        process.state = report.state;
        process.handed_over = report.totals.handed_over;
        process
            .windows
            .extend(report.windows.into_iter().map(|window| (window.start, window)));
    }

    /// The process called `name` has ended.
    pub fn ended(&mut self, name: &str, how: End) {
        let ids: Vec<String> = self
            .kept
            .processes
            .iter()
            .filter(|(_, process)| process.name == name && !process.gone)
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.end(&id, how);
        }
    }

    /// Processes that the fleet does not name any more have ended, even if nobody was there to be told: no window waits for them.
    /// How they ended is not known, so that what they had begun does not count.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let missing: Vec<String> = self
            .kept
            .processes
            .iter()
            .filter(|(_, process)| !process.gone && !is_there(&process.name))
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            self.end(&id, End::Stopped);
        }
    }

    fn end(&mut self, id: &str, how: End) {
        let Some(process) = self.kept.processes.get_mut(id) else {
            return;
        };
        process.gone = true;
        for window in process.windows.values_mut() {
            match how {
                End::Crashed => window.lost += window.open,
                End::Stopped => window.started = window.started.saturating_sub(window.open),
            }
            window.open = 0;
        }
    }

    /// What the process called `name` said last.
    #[must_use]
    pub fn last_state(&self, name: &str) -> Option<&State> {
        self.kept
            .processes
            .values()
            .find(|process| process.name == name && !process.gone)
            .map(|process| &process.state)
    }

    /// Whether a canary process has its rate breaker open, or has just tried one message.
    #[must_use]
    pub fn is_contained(&self) -> bool {
        self.kept.processes.values().any(|process| {
            !process.gone
                && process.release == self.candidate
                && process.state.rate_breaker != Breaker::Closed
        })
    }

    /// Notes the share and the tasks of the present second. Starts add up; the rest is what was said last.
    pub fn note(&mut self, now: Moment, second: Second) {
        let noted = self.kept.seconds.entry(now.second()).or_default();
        let starts = |before: Tasks, now: Tasks| Tasks {
            starts: before.starts.saturating_add(now.starts),
            ..now
        };
        *noted = Second {
            share: second.share,
            candidate: starts(noted.candidate, second.candidate),
            baseline: starts(noted.baseline, second.baseline),
        };
    }

    /// Tasks of a release as they reported, of `running` processes and `starts` new ones.
    #[must_use]
    pub fn tasks(&self, release: &Release, running: u32, starts: u32) -> Tasks {
        let count = |which: fn(&State) -> bool| {
            let of_release = |process: &&Process| !process.gone && process.release == *release;
            let processes = self.kept.processes.values().filter(of_release);
            u32::try_from(processes.filter(|process| which(&process.state)).count()).unwrap_or(u32::MAX)
        };
        Tasks {
            running,
            idle: count(|state| {
                state.paused || !state.polling || state.dependency_breaker != Breaker::Closed
            }),
            breakers_open: count(|state| state.rate_breaker != Breaker::Closed),
            starts,
        }
    }

    /// Completes what can be at `now`; how many windows became evidence.
    pub fn advance(&mut self, now: Moment) -> usize {
        let mut entered = 0;
        if let Some(first) = self.first_open(now) {
            for start in first..now.second() {
                if !self.complete.contains(&start) {
                    entered += usize::from(self.look_at(start, now));
                }
            }
        }
        self.forget(now);
        entered
    }

    fn look_at(&mut self, start: u64, now: Moment) -> bool {
        let end = (start + 1) as f64;
        let reporting = |process: &Process| !process.gone;
        let waits = self
            .kept
            .processes
            .values()
            .any(|process| reporting(process) && process.reported < end);
        let deadline = self
            .kept
            .processes
            .values()
            .map(|process| process.deadline_seconds)
            .fold(0.0, f64::max);
        let closed = f64::from(now) >= end + deadline + GRACE as f64;
        if waits && !closed {
            return false;
        }
        let window = self.window(start, closed);
        match self.ledger.record(window.clone()) {
            Recorded::New => {
                self.complete.insert(start);
                let place = self.kept.windows.partition_point(|kept| kept.start < start);
                self.kept.windows.insert(place, window);
                true
            }
            Recorded::Refused(_) => {
                self.complete.insert(start);
                self.kept.refused += 1;
                false
            }
            Recorded::Repeated | Recorded::Incomplete => false,
        }
    }

    fn window(&self, start: u64, closed: bool) -> Window {
        let noted = self.kept.seconds.get(&start).copied();
        let arm = |release: Option<&Release>, tasks: Option<Tasks>| {
            let mut arm = Arm {
                tasks,
                ..Arm::default()
            };
            let counted = self
                .kept
                .processes
                .values()
                .filter(|process| Some(&process.release) == release)
                .filter_map(|process| process.windows.get(&start));
            for window in counted {
                add(&mut arm, window);
            }
            arm
        };
        Window {
            schema: SCHEMA,
            start,
            seconds: 1,
            stratum: String::new(),
            closed,
            share: noted.map_or(0.0, |noted| noted.share),
            canary: arm(Some(&self.candidate), noted.map(|noted| noted.candidate)),
            baseline: arm(self.baseline.as_ref(), noted.map(|noted| noted.baseline)),
        }
    }

    fn forget(&mut self, now: Moment) {
        let keep = self.wanted_from(now);
        self.kept.seconds = self.kept.seconds.split_off(&keep);
        for process in self.kept.processes.values_mut() {
            process.windows = process.windows.split_off(&keep);
        }
        let candidate = &self.candidate;
        let handed_over = &mut self.kept.handed_over;
        self.kept.processes.retain(|_, process| {
            let stays = !process.gone || !process.windows.is_empty();
            if !stays && process.release == *candidate {
                *handed_over += process.handed_over;
            }
            stays
        });
    }

    /// Up to where work is known on both tracks: the second that has just ended, or earlier where reports take their time.
    fn measured_until(&self, now: Moment) -> u64 {
        let latest = |track: Track| {
            let processes = self.kept.processes.values();
            let reported = processes
                .filter(|process| process.track == track && !process.gone)
                .map(|process| Moment::from(process.reported).second());
            reported.max()
        };
        let known = [latest(Track::Stable), latest(Track::Canary)]
            .into_iter()
            .flatten()
            .min();
        let ended = now.second().saturating_sub(1);
        // A track that says nothing at all must not stop the measuring.
        known
            .unwrap_or(ended)
            .clamp(ended.saturating_sub(self.lag), ended)
    }

    /// How work was shared over [`MEASURED`] seconds up to the latest that are known, or since the first process started where that is
    /// less: spread over seconds in which nobody worked yet, the work would look little, and the canary would get little of it.
    #[must_use]
    pub fn flow(&self, now: Moment) -> Flow {
        let until = self.measured_until(now);
        let processes = self.kept.processes.values();
        let began = processes
            .map(|process| Moment::from(process.started_at).second() + 1)
            .min();
        let begin = until
            .saturating_sub(MEASURED)
            .max(began.unwrap_or(0))
            .min(until.saturating_sub(1));
        let seconds = begin..until;
        let started = |track: Track| -> u64 {
            self.kept
                .processes
                .values()
                .filter(|process| process.track == track)
                .flat_map(|process| process.windows.range(seconds.clone()))
                .map(|(_, window)| window.started)
                .sum()
        };
        let (canary, stable) = (started(Track::Canary), started(Track::Stable));
        let all = canary + stable;
        Flow {
            per_second: all as f64 / (until - begin).max(1) as f64,
            canary_share: (all > 0).then(|| canary as f64 / all as f64),
        }
    }
}

fn add(arm: &mut Arm, window: &Counted) {
    arm.started += window.started;
    arm.done += window.done;
    arm.failed.retry += window.failed.retry;
    arm.failed.reject += window.failed.reject;
    arm.failed.unavailable += window.failed.unavailable;
    arm.failed.panic += window.failed.panic;
    arm.failed.deadline += window.failed.deadline;
    arm.open += window.open;
    arm.lost += window.lost;
    arm.durations.merge(&window.durations);
    arm.receives = arm.receives.and(&window.receives);
    for (name, quality) in &window.quality {
        let sum = arm.quality.entry(name.clone()).or_default();
        sum.asked += quality.asked;
        sum.bad += quality.bad;
    }
    let room = FIRST_FAILURES.saturating_sub(arm.first_failures.len());
    arm.first_failures
        .extend(window.first_failures.iter().take(room).cloned());
}

#[cfg(test)]
mod tests;
