//! What a FIFO queue is promised beyond the order that every run is checked for, as plain cases.

use crate::case::Act::{Done, Hang, Reject, Retry};
use crate::case::Operation::{Redrive, Send, Start, Stop, Wait};
use crate::case::{Act, Case, Operation};
use crate::run::{Report, run};

fn send(group: u8, script: Vec<Act>) -> Operation {
    Send {
        group,
        attributes: 0,
        delay: 0,
        script,
    }
}

/// Runs a FIFO queue whose messages are all there when the worker starts.
#[track_caller]
fn fifo(operations: Vec<Operation>, after: Vec<Operation>) -> Report {
    fifo_with(4, operations, after)
}

/// The same, where SQS gives a message this often.
#[track_caller]
fn fifo_with(max_receives: u32, mut operations: Vec<Operation>, after: Vec<Operation>) -> Report {
    operations.push(Start(0));
    operations.extend(after);
    let report = run(
        &Case {
            seed: 1,
            fifo: true,
            visibility: 7,
            max_receives,
            concurrency: 12,
            wait: 1,
            remember: 1000,
            deadline: 40,
            budget: 8,
            faults: Vec::new(),
            operations,
        },
        true,
    );
    assert_eq!(report.violation, None, "{}", report.story.join("\n"));
    report
}

#[test]
fn groups_go_in_parallel_and_each_in_order() {
    let sent = (0..3).flat_map(|_| (0..3).map(|group| send(group, vec![Done(3_000)])));
    let report = fifo(sent.collect(), Vec::new());
    assert_eq!(report.most_running, 3, "{}", report.story.join("\n"));
}

#[test]
fn leases_are_kept_for_a_whole_group() {
    // The last one waits for 15 s, twice the visibility timeout.
    let report = fifo((0..4).map(|_| send(0, vec![Done(5_000)])).collect(), Vec::new());
    assert_eq!(report.receives, 4, "{}", report.story.join("\n"));
}

#[test]
fn the_rest_of_a_group_that_fails_is_handed_back_and_received_again() {
    let sent = vec![
        send(0, vec![Retry(10), Done(1)]),
        send(0, vec![Done(1)]),
        send(0, vec![Done(1)]),
    ];
    let report = fifo(sent, Vec::new());
    assert_eq!(report.receives, 6, "{}", report.story.join("\n"));
    assert_eq!(report.copies, 0);
}

#[test]
fn a_message_that_fails_for_good_is_out_of_the_way_of_its_group() {
    let report = fifo(vec![send(0, vec![Reject]), send(0, vec![Done(1)])], Vec::new());
    assert_eq!(
        (report.receives, report.copies),
        (2, 1),
        "{}",
        report.story.join("\n")
    );
}

/// Within five minutes: a copy under the id it was first sent under would be accepted and not delivered.
#[test]
fn a_message_that_is_redriven_and_fails_again_is_copied_again() {
    let report = fifo(vec![send(0, vec![Reject])], vec![Wait(5_000), Redrive]);
    assert_eq!(report.copies, 2, "{}", report.story.join("\n"));
}

/// Handed back, they would be dead-lettered by SQS although nobody has tried them.
#[test]
fn a_shutdown_still_tries_what_cannot_be_handed_back() {
    let sent = (0..3).map(|_| send(0, vec![Done(1_500)])).collect();
    let report = fifo_with(1, sent, vec![Wait(1_000), Stop(0)]);
    assert_eq!(
        (report.receives, report.copies, report.natives),
        (3, 0, 0),
        "{}",
        report.story.join("\n")
    );
}

#[test]
fn what_a_shutdown_leaves_no_time_for_is_dead_lettered_as_never_tried() {
    let sent = vec![
        send(0, vec![Hang]),
        send(0, vec![Done(1)]),
        send(0, vec![Done(1)]),
    ];
    let report = fifo_with(1, sent, vec![Wait(1_000), Stop(0)]);
    assert_eq!(report.natives, 0, "{}", report.story.join("\n"));
    assert_eq!(report.reasons, ["shutdown", "blocked", "blocked"]);
}

/// What is not on its last receive is handed back.
#[test]
fn a_shutdown_hands_back_what_can_be_received_again() {
    let sent = vec![send(0, vec![Done(3_000)]), send(0, vec![Done(1)])];
    let report = fifo_with(2, sent, vec![Wait(1_000), Stop(0)]);
    assert_eq!(
        (report.receives, report.copies, report.natives),
        (3, 0, 0),
        "{}",
        report.story.join("\n")
    );
}
