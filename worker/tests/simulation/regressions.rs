//! Cases that failed once, as the simulation printed them.

use embedded_sqs::faults::FaultKind::{Duplicate, Reorder};
use embedded_sqs::faults::Rule;

use crate::case::Act::{Done, Down, Panic, RetryAfter};
use crate::case::Case;
use crate::case::Operation::{Crash, Outage, Redrive, Send, Start, Wait};
use crate::run::run;

#[track_caller]
fn holds(case: &Case) {
    let report = run(case, true);
    assert!(
        report.violation.is_none(),
        "{:?}\n{}",
        report.violation,
        report.story.join("\n")
    );
}

/// A beat that was under way near the end of its lease was found again and again among those that are due soon: the
/// scheduler turned in a circle, and with it the whole worker stood still.
#[test]
fn a_beat_under_way_near_the_end_of_its_lease_does_not_stop_the_worker() {
    let send = |group, attributes, delay, act| Send {
        group,
        attributes,
        delay,
        script: vec![act],
    };
    holds(&Case {
        seed: 135,
        fifo: true,
        visibility: 13,
        max_receives: 3,
        concurrency: 2,
        wait: 2,
        remember: 2,
        deadline: 37,
        budget: 8,
        faults: vec![
            Rule::on(
                embedded_sqs::model::action::Action::ReceiveMessage,
                Duplicate,
                0.5,
            ),
            Rule::everywhere(Reorder, 0.5),
        ],
        operations: vec![
            Start(0),
            send(2, 10, 2, RetryAfter(1)),
            Wait(57),
            Redrive,
            Crash(2),
            Wait(24),
            Wait(42),
            Start(1),
            Wait(29),
            send(2, 9, 0, Done(38)),
            Outage(15_205),
            send(1, 0, 0, Done(0)),
            Wait(7_912),
            Start(0),
            send(1, 1, 0, Done(1_946)),
            Wait(4_590),
            send(1, 0, 0, Done(1_613)),
            Wait(8_860),
            Wait(7),
            send(0, 0, 0, Panic),
        ],
    });
}

/// Of two deliveries of one message, one waited for a dependency while the other was done, and then did it again.
#[test]
fn a_message_that_waits_in_place_is_not_done_again() {
    holds(&Case {
        seed: 3047,
        fifo: false,
        visibility: 31,
        max_receives: 3,
        concurrency: 2,
        wait: 1,
        remember: 1000,
        deadline: 7,
        budget: 6,
        faults: vec![Rule::everywhere(Duplicate, 0.5)],
        operations: vec![
            Start(0),
            Send {
                group: 1,
                attributes: 0,
                delay: 0,
                script: vec![Down],
            },
            Wait(1_121),
        ],
    });
}
