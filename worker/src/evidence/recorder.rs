//! Counts attempts into windows: a ring of the last 15 minutes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::counts::{Durations, Failed, Quality, Receives};
use super::report::{MAX_FIRST_FAILURES, Report, SCHEMA, State, Totals, Window};
use crate::attempt::Ending;
use crate::clock::Clock;
use crate::release::Identity;

/// How long windows are kept, in seconds: an attempt that ends later counts in the totals only.
pub const KEPT: u64 = 15 * 60;

/// The most names of quality signals; what is reported under others is left out and counted by nobody.
pub const MAX_SIGNALS: usize = 16;

/// Counts the first deliveries of one process.
///
/// **A message counts once**, in the window its attempt started in, by its first outcome. `Unavailable` fails it, although it is
/// tried again in place and may succeed: like a redelivery, that later try was selected by a failure. An attempt that a shutdown
/// cut off is taken out of `started` again.
#[derive(Debug)]
pub struct Evidence {
    identity: Arc<Identity>,
    service: Option<String>,
    process: String,
    clock: Clock,
    started_at: SystemTime,
    deadline: Duration,
    slow_after: Duration,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Ascending by start, without gaps being filled.
    windows: VecDeque<Slot>,
    totals: Totals,
    /// Names of signals that were reported, in the order in which they first were.
    signals: Vec<&'static str>,
}

#[derive(Debug, Default)]
struct Slot {
    start: u64,
    started: u64,
    done: u64,
    failed: Failed,
    slow: u64,
    lost: u64,
    /// Milliseconds of the attempts that ended well, for sums that a histogram cannot give.
    durations: Durations,
    waits: Durations,
    receives: Receives,
    quality: Vec<Quality>,
    first_failures: Vec<Arc<str>>,
    taken: bool,
}

impl Slot {
    fn open(&self) -> u64 {
        self.started
            .saturating_sub(self.done + self.failed.total() + self.lost)
    }

    fn window(&self, signals: &[&'static str]) -> Window {
        let named = |(index, quality): (usize, &Quality)| Some(((*signals.get(index)?).to_owned(), *quality));
        Window {
            start: self.start,
            started: self.started,
            done: self.done,
            failed: self.failed,
            slow: self.slow,
            open: self.open(),
            lost: self.lost,
            durations: self.durations.clone(),
            receives: self.receives,
            quality: self
                .quality
                .iter()
                .enumerate()
                .filter(|(_, quality)| quality.asked > 0)
                .filter_map(named)
                .collect(),
            first_failures: self.first_failures.iter().map(|id| id.to_string()).collect(),
        }
    }
}

/// The judged messages of one receive: what shows whether failures come in clusters.
#[derive(Debug, Default)]
pub struct Receive(Mutex<Vec<Part>>);

/// Those of one receive that started in one window.
#[derive(Clone, Copy, Debug)]
struct Part {
    window: u64,
    ended: u64,
    failed: u64,
}

/// An attempt that has begun and is judged. Until it is handed to [`Evidence::end`] it is open.
#[derive(Debug)]
pub struct Judged {
    window: u64,
    receive: Arc<Receive>,
}

/// A window that is complete, with what only summaries need.
#[derive(Clone, Debug, PartialEq)]
pub struct Complete {
    /// The counts.
    pub window: Window,
    /// How long the messages had waited in the queue when their attempts started.
    pub waits: Durations,
}

/// What a handler answered about its own work: names and whether it was bad.
pub type Signals = Vec<(&'static str, bool)>;

impl Evidence {
    /// No evidence yet.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        service: Option<String>,
        clock: Clock,
        deadline: Duration,
        slow_after: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            service,
            process: format!("{:032x}", fastrand::u128(..)),
            started_at: clock.now(),
            clock,
            deadline,
            slow_after,
            ring: Mutex::default(),
        })
    }

    /// An attempt over a message of `receive` begins, which waited in the queue for `wait`, if that is known.
    #[must_use]
    pub fn begin(&self, receive: &Arc<Receive>, wait: Option<Duration>) -> Judged {
        let mut ring = self.lock();
        // Told under the lock: no start may come into a window that was taken as complete.
        let window = seconds(self.clock.now());
        ring.totals.started += 1;
        let slot = ring.slot(window);
        slot.started += 1;
        if let Some(wait) = wait {
            slot.waits.add(bucket(wait), 1);
        }
        Judged {
            window,
            receive: Arc::clone(receive),
        }
    }

    /// The attempt ended.
    pub fn end(
        &self,
        judged: &Judged,
        message_id: &Arc<str>,
        ending: Ending,
        cut_off: bool,
        elapsed: Duration,
        signals: &[(&'static str, bool)],
    ) {
        let mut guard = self.lock();
        let ring = &mut *guard;
        let failed = !matches!(ending, Ending::Done);
        if cut_off {
            ring.totals.started = ring.totals.started.saturating_sub(1);
        } else if failed {
            ring.totals.failed += 1;
        } else {
            ring.totals.done += 1;
        }
        let Some(slot) = ring
            .windows
            .iter_mut()
            .rev()
            .find(|slot| slot.start == judged.window)
        else {
            return;
        };
        if cut_off {
            slot.started = slot.started.saturating_sub(1);
            return;
        }
        match ending {
            Ending::Done => {
                slot.done += 1;
                slot.durations.add(bucket(elapsed), 1);
                slot.slow += u64::from(elapsed > self.slow_after);
            }
            Ending::Retry => slot.failed.retry += 1,
            Ending::Reject => slot.failed.reject += 1,
            Ending::Unavailable => slot.failed.unavailable += 1,
            Ending::Timeout => slot.failed.deadline += 1,
            Ending::Panic => slot.failed.panic += 1,
            Ending::Lost => slot.lost += 1,
        }
        if failed && slot.first_failures.len() < MAX_FIRST_FAILURES {
            slot.first_failures.push(Arc::clone(message_id));
        }
        judged.receive.ended(judged.window, failed, &mut slot.receives);
        for (name, bad) in signals {
            let index = match ring.signals.iter().position(|known| known == name) {
                Some(index) => index,
                None if ring.signals.len() < MAX_SIGNALS => {
                    ring.signals.push(name);
                    ring.signals.len() - 1
                }
                None => continue,
            };
            if slot.quality.len() <= index {
                slot.quality.resize(index + 1, Quality::default());
            }
            slot.quality[index].asked += 1;
            slot.quality[index].bad += u64::from(*bad);
        }
    }

    /// What to answer: the windows that start at `since` or later, in seconds since the epoch.
    #[must_use]
    pub fn report(&self, since: u64, state: State) -> Report {
        let now = self.clock.now();
        let mut ring = self.lock();
        ring.forget(seconds(now));
        let windows = ring
            .windows
            .iter()
            .filter(|slot| slot.start >= since && slot.started > 0);
        Report {
            schema: SCHEMA,
            release: self.identity.release.clone(),
            track: self.identity.track,
            service: self.service.clone(),
            process: self.process.clone(),
            started_at: float(self.started_at),
            now: float(now),
            deadline_seconds: self.deadline.as_secs_f64(),
            state,
            windows: windows.map(|slot| slot.window(&ring.signals)).collect(),
            totals: ring.totals,
        }
    }

    /// The windows that are over and complete, each once; with `all` those that are not complete too.
    pub fn take_complete(&self, all: bool) -> Vec<Complete> {
        let now = seconds(self.clock.now());
        let mut guard = self.lock();
        let ring = &mut *guard;
        let mut complete = Vec::new();
        for slot in &mut ring.windows {
            // A window that is over can gain nothing but ends; one that is not may gain starts.
            if slot.taken || !(all || slot.start < now && slot.open() == 0) {
                continue;
            }
            slot.taken = true;
            if slot.started > 0 {
                complete.push(Complete {
                    window: slot.window(&ring.signals),
                    waits: slot.waits.clone(),
                });
            }
        }
        ring.forget(now);
        complete
    }

    /// The time, in whole seconds since the epoch, as windows are dated.
    #[must_use]
    pub fn now(&self) -> u64 {
        seconds(self.clock.now())
    }

    /// The release and track the attempts are made by.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        // Nothing panics while holding the lock.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn slot(&mut self, start: u64) -> &mut Slot {
        let index = match self.windows.back() {
            Some(last) if last.start == start => self.windows.len() - 1,
            Some(last) if last.start > start => {
                // The wall clock went back.
                let index = self.windows.partition_point(|slot| slot.start < start);
                if self.windows.get(index).is_none_or(|slot| slot.start != start) {
                    self.windows.insert(index, Slot::new(start));
                }
                index
            }
            _ => {
                self.forget(start);
                self.windows.push_back(Slot::new(start));
                self.windows.len() - 1
            }
        };
        &mut self.windows[index]
    }

    /// Drops what is too old, and what a clock that was set back and forth has piled up.
    fn forget(&mut self, now: u64) {
        let most = usize::try_from(KEPT).unwrap_or(usize::MAX);
        while self
            .windows
            .front()
            .is_some_and(|slot| slot.start + KEPT < now || self.windows.len() > most)
        {
            self.windows.pop_front();
        }
    }
}

impl Slot {
    fn new(start: u64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }
}

impl Receive {
    /// One more of its attempts, started in `window`, ended: what that adds to the sums over receives.
    fn ended(&self, window: u64, failed: bool, sums: &mut Receives) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = parts
            .iter()
            .position(|part| part.window == window)
            .unwrap_or_else(|| {
                parts.push(Part {
                    window,
                    ended: 0,
                    failed: 0,
                });
                parts.len() - 1
            });
        let part = &mut parts[index];
        let (s, f) = (part.ended, part.failed);
        part.ended += 1;
        part.failed += u64::from(failed);
        let (s1, f1) = (part.ended, part.failed);
        *sums = sums.and(&Receives {
            s: 1,
            ss: s1 * s1 - s * s,
            f: f1 - f,
            ff: f1 * f1 - f * f,
            fs: f1 * s1 - f * s,
        });
    }
}

impl Window {
    /// The counts of several windows together, as one that starts with the first of them.
    #[must_use]
    pub fn sum(windows: &[Self]) -> Self {
        let mut sum = Self {
            start: windows.first().map_or(0, |window| window.start),
            ..Self::default()
        };
        let mut quality: BTreeMap<String, Quality> = BTreeMap::new();
        for window in windows {
            sum.started += window.started;
            sum.done += window.done;
            sum.failed.retry += window.failed.retry;
            sum.failed.reject += window.failed.reject;
            sum.failed.unavailable += window.failed.unavailable;
            sum.failed.panic += window.failed.panic;
            sum.failed.deadline += window.failed.deadline;
            sum.slow += window.slow;
            sum.open += window.open;
            sum.lost += window.lost;
            sum.durations.merge(&window.durations);
            sum.receives = sum.receives.and(&window.receives);
            for (name, counted) in &window.quality {
                let entry = quality.entry(name.clone()).or_default();
                entry.asked += counted.asked;
                entry.bad += counted.bad;
            }
        }
        sum.quality = quality;
        sum
    }
}

fn bucket(duration: Duration) -> u16 {
    Durations::bucket(duration.as_secs_f64() * 1000.0)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn float(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::{Release, Track};

    fn evidence() -> Arc<Evidence> {
        let identity = Identity {
            release: Release::new("1.4").unwrap(),
            track: Track::Canary,
        };
        let start = UNIX_EPOCH + Duration::from_secs(1_764_064_800);
        let clock = Clock::Simulated {
            start,
            since: tokio::time::Instant::now(),
        };
        Evidence::new(
            Arc::new(identity),
            None,
            clock,
            Duration::from_secs(30),
            Duration::from_secs(1),
        )
    }

    async fn pass(milliseconds: u64) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    fn windows(evidence: &Evidence) -> Vec<Window> {
        evidence.report(0, State::default()).windows
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_counts_once_where_it_started_and_is_open_until_it_ends() {
        let evidence = evidence();
        let receive = Arc::new(Receive::default());
        let id = Arc::from("m-1");
        let early = evidence.begin(&receive, Some(Duration::from_millis(4)));
        pass(1500).await;
        let late = evidence.begin(&receive, None);
        let open: Vec<_> = windows(&evidence)
            .iter()
            .map(|w| (w.start, w.started, w.open))
            .collect();
        assert_eq!(open, [(1_764_064_800, 1, 1), (1_764_064_801, 1, 1)]);
        assert!(evidence.take_complete(false).is_empty());
        evidence.end(
            &early,
            &id,
            Ending::Timeout,
            false,
            Duration::from_secs(30),
            &[("empty", true)],
        );
        evidence.end(
            &late,
            &id,
            Ending::Done,
            false,
            Duration::from_secs(2),
            &[("empty", false)],
        );
        let both = windows(&evidence);
        assert_eq!(
            (
                both[0].failed.deadline,
                both[0].open,
                both[0].quality["empty"].bad
            ),
            (1, 0, 1)
        );
        assert_eq!(both[0].first_failures, ["m-1"]);
        assert_eq!((both[1].done, both[1].slow, both[1].durations.total()), (1, 1, 1));
        // The one that is still running may yet gain starts.
        let complete = evidence.take_complete(false);
        assert_eq!(
            (
                complete.len(),
                complete[0].window.start,
                complete[0].waits.total()
            ),
            (1, 1_764_064_800, 1)
        );
        assert_eq!(evidence.take_complete(true).len(), 1);
        assert!(evidence.take_complete(true).is_empty());
        let totals = evidence.report(0, State::default()).totals;
        assert_eq!((totals.started, totals.done, totals.failed), (2, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_shutdown_cut_off_was_never_there_and_a_lost_lease_is_lost() {
        let evidence = evidence();
        let receive = Arc::new(Receive::default());
        let id = Arc::from("m-1");
        let (cut, lost) = (evidence.begin(&receive, None), evidence.begin(&receive, None));
        evidence.end(&cut, &id, Ending::Lost, true, Duration::ZERO, &[]);
        evidence.end(&lost, &id, Ending::Lost, false, Duration::ZERO, &[]);
        let window = &windows(&evidence)[0];
        assert_eq!((window.started, window.lost, window.open), (1, 1, 0));
        assert_eq!(window.receives.s, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sums_over_receives_are_those_of_their_parts_in_the_window() {
        let evidence = evidence();
        let mut rng = fastrand::Rng::with_seed(4);
        let id = Arc::from("m");
        let mut parts: BTreeMap<(u64, usize), (u64, u64)> = BTreeMap::new();
        let mut open = Vec::new();
        for number in 0..50 {
            let receive = Arc::new(Receive::default());
            for _ in 0..rng.usize(1..=10) {
                open.push((number, evidence.begin(&receive, None)));
                pass(rng.u64(0..80)).await;
            }
        }
        rng.shuffle(&mut open);
        for (number, judged) in open {
            let failed = rng.f64() < 0.3;
            let part = parts.entry((judged.window, number)).or_default();
            part.0 += 1;
            part.1 += u64::from(failed);
            let ending = if failed { Ending::Retry } else { Ending::Done };
            evidence.end(&judged, &id, ending, false, Duration::ZERO, &[]);
        }
        for window in windows(&evidence) {
            let mut expected = Receives::default();
            for ((start, _), (size, failed)) in &parts {
                if *start == window.start {
                    expected.add(*size, *failed);
                }
            }
            assert_eq!(window.receives, expected);
            assert_eq!(window.receives.s, window.started);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_in_time_in_names_and_when_the_clock_jumps() {
        let evidence = evidence();
        let id = Arc::from("m");
        let names: Vec<&'static str> = (0..40).map(|n| &*format!("s{n}").leak()).collect();
        for second in 0..2 * KEPT {
            let judged = evidence.begin(&Arc::new(Receive::default()), None);
            let signals: Vec<_> = names.iter().map(|name| (*name, second % 2 == 0)).collect();
            evidence.end(&judged, &id, Ending::Done, false, Duration::ZERO, &signals);
            pass(1000).await;
        }
        let all = windows(&evidence);
        assert_eq!(all.len() as u64, KEPT);
        assert_eq!(all[0].quality.len(), MAX_SIGNALS);
        assert_eq!(
            evidence.report(all[10].start, State::default()).windows.len(),
            all.len() - 10
        );
        pass(3_600_000).await;
        assert!(windows(&evidence).is_empty());
        assert_eq!(evidence.report(0, State::default()).totals.done, 2 * KEPT);
    }
}
