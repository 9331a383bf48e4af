//! What a worker asks of SQS while there is nothing to do.

use std::time::Duration;

use crate::case::Act::Done;
use crate::case::Operation::{Send, Start, Wait};
use crate::case::{Case, Operation};
use crate::run::run;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn after(operations: Vec<Operation>) -> Vec<Duration> {
    let case = Case {
        seed: 1,
        fifo: false,
        visibility: 31,
        max_receives: 4,
        concurrency: 100,
        wait: 20,
        remember: 1000,
        deadline: 40,
        budget: 25,
        faults: Vec::new(),
        operations,
    };
    let report = run(&case, true);
    assert_eq!(report.violation, None, "{}", report.story.join("\n"));
    report.requests
}

/// No minute of the hour that begins at `from`, wherever that minute begins, has more than three requests.
#[track_caller]
fn is_idle(requests: &[Duration], from: Duration) {
    let hour: Vec<_> = requests
        .iter()
        .filter(|at| **at >= from && **at < from + HOUR)
        .collect();
    assert!((170..=180).contains(&hour.len()), "{} in an hour", hour.len());
    for four in hour.windows(4) {
        assert!(*four[3] - *four[0] > MINUTE, "four in a minute: {four:?}");
    }
}

#[test]
fn an_idle_worker_makes_at_most_three_requests_a_minute() {
    is_idle(&after(vec![Start(0), Wait(3_600_000)]), Duration::ZERO);
}

/// When the queue runs dry, many polls are under way.
#[test]
fn a_worker_that_has_drained_a_full_queue_is_idle_within_a_minute() {
    let send = |_| Send {
        group: 0,
        attributes: 0,
        delay: 0,
        script: vec![Done(500)],
    };
    let mut operations: Vec<_> = (0..500).map(send).collect();
    operations.extend([Start(0), Wait(3_700_000)]);
    let requests = after(operations);
    let at_once = requests
        .iter()
        .filter(|at| **at < Duration::from_secs(20))
        .count();
    assert!(at_once > 100, "{at_once} requests were made at first");
    is_idle(&requests, MINUTE);
}
