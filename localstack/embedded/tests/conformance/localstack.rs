//! LocalStack as a peer: where its SQS is not as AWS documents. Whatever the project relies on there must not be in this list.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use libtest_mimic::Failed;

#[path = "../../../tests/endpoint.rs"]
mod endpoint;

pub(crate) use endpoint::endpoint;

/// The cases that LocalStack 4.14.0 fails.
pub(crate) const DIFFERS: [&str; 18] = [
    "attributes::attributes_have_rules",
    "attributes::system_attributes_tell_the_story_of_a_message",
    "attributes::the_trace_header_is_a_system_attribute",
    "dead_letters::a_dead_letter_queue_can_refuse_sources",
    "dead_letters::a_redrive_policy_must_name_a_queue_of_the_same_type",
    "fifo::a_duplicate_is_accepted_and_not_delivered",
    "fifo::a_group_waits_for_a_message_that_comes_back",
    "fifo::a_receive_can_be_repeated_by_its_attempt_id",
    "fifo::deduplication_can_be_by_group",
    "messages::a_receive_has_bounds",
    "messages::delays_of_messages_and_queues_hold",
    "queues::a_deleted_queue_is_gone_and_its_name_stays_taken_for_a_minute",
    "queues::a_purge_empties_the_queue_and_the_next_must_wait",
    "queues::listings_come_in_pages",
    "queues::names_and_attributes_are_checked",
    "visibility::a_message_that_is_not_in_flight_cannot_be_extended",
    "visibility::an_old_handle_does_not_delete_a_message_received_again",
    "visibility::twelve_hours_are_the_most_in_all",
];

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Leaves the panics of cases that are expected to fail untold.
pub(crate) fn watch_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !EXPECTED.get() {
            told(info);
        }
    }));
}

/// A case as LocalStack is known to take it: it must fail if it is in [`DIFFERS`], and else succeed. Where LocalStack cannot run, which
/// is said, nothing is tried.
pub(crate) fn judged(name: &str, case: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    if endpoint().is_none() {
        return Ok(());
    }
    let differs = DIFFERS.contains(&name);
    EXPECTED.set(differs);
    let outcome = catch_unwind(AssertUnwindSafe(case));
    EXPECTED.set(false);
    match (differs, outcome) {
        (true, Ok(Ok(()))) => Err(Failed::from(
            "LocalStack is as AWS documents now: take the case off DIFFERS in tests/conformance/localstack.rs",
        )),
        (true, _) => Ok(()),
        (false, Ok(result)) => result,
        (false, Err(panic)) => resume_unwind(panic),
    }
}
