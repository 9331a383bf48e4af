//! The real worker on a paused clock, over the model of the queues, with faults and crashes drawn from seeds.
//!
//! `SIMULATION_SEEDS=100000` runs so many seeds, from `SIMULATION_FIRST` (0) on; `SIMULATION_SEED=7` runs one and tells its
//! story. What fails is shrunk and printed as a case for `regressions.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]

mod case;
#[cfg(feature = "sqs")]
mod conformity;
mod fifo;
mod idle;
mod ledger;
mod process;
mod regressions;
mod run;
mod sea;
mod shrink;
mod tracks;
mod translation;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use case::Case;

/// How many seeds run when nothing else is asked for.
const SEEDS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is {value:?}; expected a whole number")))
}

/// What a failed case is told by.
fn describe(case: &Case) -> String {
    let (minimal, violation) = shrink::shrink(case);
    format!(
        "seed {}: {violation}\nminimal case, for regressions.rs:\n{}\n",
        case.seed,
        minimal.as_code()
    )
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let case = Case::draw(seed);
        let report = run::run(&case, true);
        println!("{}\n{}", case.as_code(), report.story.join("\n"));
        assert!(report.violation.is_none(), "{}", describe(&case));
        return;
    }
    let first = number("SIMULATION_FIRST").unwrap_or(0);
    let end = first + number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let next = Arc::new(AtomicU64::new(first));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (sender, progress) = channel();
    for thread in 0..threads {
        let (next, sender) = (Arc::clone(&next), sender.clone());
        // Not joined: one that hangs must not hide that it does.
        std::thread::spawn(move || run_seeds(thread, &next, end, &sender));
    }
    drop(sender);
    let mut running = BTreeMap::new();
    // Ends when every thread has ended, or with the first failure.
    loop {
        match progress.recv_timeout(PATIENCE) {
            Ok((thread, Progress::Begins(seed))) => running.insert(thread, seed),
            Ok((thread, Progress::Ended)) => running.remove(&thread),
            Ok((_, Progress::Failed(case))) => panic!("{}", describe(&case)),
            Err(_) if running.is_empty() => break,
            Err(_) => panic!(
                "the clock stands still in one of the seeds {:?}",
                running.values()
            ),
        };
    }
}

/// How long a seed may take, on any machine: a run that makes no progress never moves its clock.
const PATIENCE: Duration = Duration::from_secs(60);

enum Progress {
    Begins(u64),
    Failed(Box<Case>),
    Ended,
}

fn run_seeds(thread: usize, next: &AtomicU64, end: u64, progress: &Sender<(usize, Progress)>) {
    let tell = |what| drop(progress.send((thread, what)));
    // Ends with the seeds.
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end {
            return tell(Progress::Ended);
        }
        tell(Progress::Begins(seed));
        let case = Case::draw(seed);
        if run::run(&case, false).violation.is_some() {
            return tell(Progress::Failed(Box::new(case)));
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..40 {
        let case = Case::draw(seed);
        let (first, again) = (run::run(&case, true), run::run(&case, true));
        assert_eq!(first.story, again.story, "seed {seed}");
        assert_eq!(first.trace, again.trace, "seed {seed}");
        let untold = run::run(&case, false);
        assert_eq!(first.trace, untold.trace, "seed {seed}");
    }
}
