//! Two tracks on one queue: control document, gate, handover and breakers of the real workers, on the paused clock.
//!
//! `SIMULATION_TRACKS=5000` runs so many seeds, from `SIMULATION_FIRST` (0) on.

mod blocked;
mod control;
mod dependency;
mod idle;
mod lake;
mod opened;
mod process;
mod rate;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use worker::control::reader::FAST;
use worker::control::source::ReadError;
use worker::handler::{Context, Handler, Outcome, Reason};
use worker::message::Message;
use worker::release::Track;

use self::control::{Control, SLOWEST};
use self::lake::Lake;
use self::process::{DEADLINE, Process, Setup, WAIT};

fn on_paused_clock<T>(run: impl Future<Output = T>) -> T {
    crate::run::watch_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(run)
}

fn document(epoch: u64, canary: &str) -> Result<Option<String>, ReadError> {
    Ok(Some(format!(
        r#"{{"schema":1,"epoch":{epoch},"tracks":{{"canary":{canary},"stable":{{}}}}}}"#
    )))
}

/// What the handlers of all processes share.
#[derive(Debug, Default)]
struct Truth {
    done: Mutex<HashSet<String>>,
    /// How often canaries have failed each message.
    failed: Mutex<HashMap<String, usize>>,
    ban: Mutex<Option<Ban>>,
    /// Since when there has been no document that every process would obey, if so.
    unusable: Mutex<Option<Instant>>,
    violation: Mutex<Option<String>>,
}

/// Canaries must begin nothing.
#[derive(Clone, Copy, Debug)]
struct Ban {
    from: Instant,
    /// Only those that were there before this instant; all, if there is none.
    older: Option<Instant>,
}

impl Ban {
    const fn of_all(from: Instant) -> Self {
        Self { from, older: None }
    }

    fn holds(&self, started: Instant) -> bool {
        Instant::now() > self.from && self.older.is_none_or(|older| started < older)
    }
}

impl Truth {
    /// There is another document, and what it bans.
    fn usable(&self, ban: Option<Ban>) {
        *self.ban.lock().unwrap() = ban;
        *self.unusable.lock().unwrap() = None;
    }

    /// The document is replaced by what cannot be used: a pause that nobody need have read yet is none. Since when there is none.
    fn unusable(&self) -> Instant {
        let now = Instant::now();
        let mut ban = self.ban.lock().unwrap();
        *ban = ban.filter(|ban| ban.from <= now);
        *self.unusable.lock().unwrap().get_or_insert(now)
    }

    /// The document is replaced by an outdated one, which those obey that have never had another: they were started later.
    fn outdated(&self) {
        let since = self.unusable();
        if let Some(ban) = &mut *self.ban.lock().unwrap() {
            ban.older.get_or_insert(since);
        }
    }
}

/// Messages are called `fine-1`, `poison-2` (every release rejects it), `canary-3` (the canary fails it, in one of three ways).
#[derive(Clone, Debug)]
struct Workload {
    truth: Arc<Truth>,
    /// When the process was started.
    started: Instant,
    /// Until when the dependency is down.
    down_until: Option<Instant>,
    /// The canary fails every message from this instant on.
    broken_from: Option<Instant>,
    /// How long an attempt takes, from and to milliseconds.
    takes: (u64, u64),
}

impl Workload {
    fn draw(r: &mut fastrand::Rng, truth: &Arc<Truth>) -> Self {
        Self {
            truth: Arc::clone(truth),
            started: Instant::now(),
            down_until: (r.u8(..4) == 0).then(|| Instant::now() + Duration::from_secs(r.u64(1..60))),
            broken_from: (r.u8(..4) == 0).then(|| Instant::now() + Duration::from_secs(r.u64(1..60))),
            takes: (0, r.u64(1..2000)),
        }
    }
}

impl Handler for Workload {
    async fn handle(&self, message: &Message, context: &Context) -> Outcome {
        let canary = context.identity().track == Track::Canary;
        let ban = *self.truth.ban.lock().unwrap();
        if canary && ban.is_some_and(|ban| ban.holds(self.started)) {
            let text = format!("{} begun by a canary that may not", message.body);
            self.truth.violation.lock().unwrap().get_or_insert(text);
        }
        let kind = message.body.split('-').next().unwrap();
        let number: u64 = message.body.rsplit('-').next().unwrap().parse().unwrap();
        let (from, to) = self.takes;
        // The same in every run, and another for every message.
        sleep(Duration::from_millis(
            from + number.wrapping_mul(7919) % (to - from + 1),
        ))
        .await;
        if self.down_until.is_some_and(|until| Instant::now() < until) {
            return Outcome::unavailable("the dependency is down");
        }
        let broken = canary && self.broken_from.is_some_and(|from| Instant::now() >= from);
        let fails = broken || matches!(kind, "poison" | "canary");
        if canary && fails {
            let mut failed = self.truth.failed.lock().unwrap();
            *failed.entry(message.body.clone()).or_default() += 1;
        }
        match (kind, number % 3) {
            ("poison", _) => return Outcome::reject(Reason::INVALID, "poison"),
            ("canary", 0) if canary => panic!("simulated"),
            ("canary", 1) if canary => return Outcome::reject(Reason::INVALID, "the canary's fault"),
            ("canary", _) if canary => return Outcome::retry("the canary's fault"),
            _ if broken => return Outcome::retry("the canary fails everything"),
            _ => {}
        }
        self.truth.done.lock().unwrap().insert(message.body.clone());
        Outcome::Done
    }
}

/// Two processes of each track over messages that fail in every way, with deaths, and a control document that is missing, late,
/// broken, outdated, paused or a trickle, and whose reads take their time.
async fn two_tracks(seed: u64) {
    // What draws from the thread's generator draws the same in every run.
    fastrand::seed(seed);
    let mut r = fastrand::Rng::with_seed(seed);
    // Every death can cost each message a receive, on either queue.
    let lake = Lake::new(seed, 12);
    let truth = Arc::new(Truth::default());
    let workload = Workload::draw(&mut r, &truth);
    let count = r.usize(20..120);
    let mut body = |number| {
        let kind = r.choice(["fine", "fine", "poison", "canary"]).unwrap();
        format!("{kind}-{number}")
    };
    let bodies: Vec<_> = (0..count).map(&mut body).collect();
    let control = Control::new(seed);
    let mut epoch = 10;
    let setup = |track: Track, seed: u64| Setup {
        seed,
        track,
        concurrency: 5,
        deadline: DEADLINE,
        wait: WAIT,
        control: Some(control.clone()),
    };
    let mut processes = Vec::new();
    truth.unusable();
    *truth.ban.lock().unwrap() = Some(Ban::of_all(Instant::now()));
    for (number, track) in [Track::Stable, Track::Canary, Track::Stable, Track::Canary]
        .into_iter()
        .enumerate()
    {
        processes.push(start(&lake, &setup(track, seed ^ number as u64), &workload).await);
    }
    let (mut deaths, mut canaries) = (0, 0);
    let mut sent = 0;
    for _ in 0..r.usize(5..25) {
        let more = r.usize(..=count - sent);
        lake.send(bodies[sent..sent + more].iter().cloned());
        sent += more;
        match r.u8(..10) {
            0..3 => {
                let track = if r.bool() { Track::Stable } else { Track::Canary };
                let number = match track {
                    Track::Stable => 2 * r.usize(..2),
                    Track::Canary => 1 + 2 * r.usize(..2),
                };
                if deaths < 8 {
                    deaths += 1;
                    canaries += usize::from(track == Track::Canary);
                    processes[number].kill();
                    let setup = setup(track, seed ^ (deaths as u64) << 8);
                    processes[number] = start(&lake, &setup, &workload).await;
                }
            }
            what => steer(what, &mut r, &mut epoch, &control, &truth),
        }
        // A process that was started while a pause could not be read is shut by the lack of a document.
        sleep(Duration::from_millis(r.u64(..20_000))).await;
    }
    lake.send(bodies[sent..].iter().cloned());
    truth.usable(None);
    control.set(document(epoch + 1, r#"{"max_per_second":100}"#));
    drained(&lake, seed).await;
    for process in processes {
        process.stop().await;
    }
    check(seed, &lake, &truth, &bodies, canaries);
}

async fn start(lake: &Arc<Lake>, setup: &Setup, workload: &Workload) -> Process {
    let started = Instant::now();
    let handler = Workload {
        started,
        ..workload.clone()
    };
    Process::start(lake, setup, &Arc::new(handler)).await
}

/// Replaces the control document by another, or by something that is none.
fn steer(what: u8, r: &mut fastrand::Rng, epoch: &mut u64, control: &Control, truth: &Truth) {
    match what {
        3..=5 => {
            truth.unusable();
            control.set(match r.u8(..3) {
                0 => Err(ReadError::Failed("down".to_owned())),
                1 => Ok(Some("{\"schema\":1,".to_owned())),
                _ => Ok(None),
            });
        }
        6 => {
            truth.outdated();
            control.set(document(1, r#"{"max_per_second":1000}"#));
        }
        7 => {
            *epoch += 1;
            control.set(document(*epoch, r#"{"paused":true}"#));
            // Within one read: what was asked just before answers late, then the interval, then the late answer.
            let within = FAST + 2 * SLOWEST + Duration::from_millis(100);
            truth.usable(Some(Ban::of_all(Instant::now() + within)));
        }
        _ => {
            *epoch += 1;
            truth.usable(None);
            let rate = r.choice([0.5, 5.0, 500.0]).unwrap();
            control.set(document(
                *epoch,
                &format!(r#"{{"max_per_second":{rate},"max_failure_rate":0.2}}"#),
            ));
        }
    }
}

async fn drained(lake: &Lake, seed: u64) {
    let began = Instant::now();
    while lake.depth(&lake.main) + lake.depth(&lake.handover) > 0 {
        let left = (lake.depth(&lake.main), lake.depth(&lake.handover));
        assert!(
            began.elapsed() < Duration::from_secs(1800),
            "seed {seed}: after half an hour {left:?} are left"
        );
        sleep(Duration::from_millis(500)).await;
    }
}

fn check(seed: u64, lake: &Lake, truth: &Truth, bodies: &[String], canaries: usize) {
    assert_eq!(*truth.violation.lock().unwrap(), None, "seed {seed}");
    let most = lake.most_handed_over();
    assert!(
        most <= 1 + canaries,
        "seed {seed}: {most} times with {canaries} canaries dead"
    );
    // What a canary fails is out of its reach, unless it dies before the copy is made.
    let failed = truth.failed.lock().unwrap();
    let worst = failed.iter().max_by_key(|(_, times)| **times);
    assert!(
        worst.is_none_or(|(_, times)| *times <= 1 + canaries),
        "seed {seed}: canaries failed {worst:?} times with {canaries} of them dead"
    );
    let dead: HashMap<_, _> = lake
        .dead_letters()
        .into_iter()
        .map(|message| (message.body.clone(), message))
        .collect();
    let done = truth.done.lock().unwrap();
    for body in bodies {
        let poison = body.starts_with("poison");
        assert_eq!(
            (done.contains(body), dead.contains_key(body)),
            (!poison, poison),
            "seed {seed}: {body}, dead: {:?}",
            dead.get(body)
        );
    }
}

#[test]
fn two_tracks_keep_every_message_whatever_the_control_document_says() {
    let first = crate::number("SIMULATION_FIRST").unwrap_or(0);
    let seeds = crate::number("SIMULATION_TRACKS").unwrap_or(150);
    for seed in first..first + seeds {
        on_paused_clock(two_tracks(seed));
    }
}
