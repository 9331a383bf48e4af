//! The cases, each named by what AWS documents.

mod attributes;
mod batches;
mod dead_letters;
mod fifo;
mod messages;
mod queues;
mod visibility;

use libtest_mimic::{Failed, Trial};

use crate::peer::Peer;

macro_rules! cases {
    ($($module:ident: $($case:ident)*;)*) => {
        /// Every case against the peer that `start` gives; `judge` runs it, under its name, and says what to think of how it ended.
        pub(crate) fn trials<P, S, J>(label: &str, start: S, judge: J) -> Vec<Trial>
        where
            P: Peer + 'static,
            S: AsyncFn() -> P + Copy + Send + 'static,
            J: Fn(&str, &dyn Fn() -> Result<(), Failed>) -> Result<(), Failed> + Copy + Send + 'static,
        {
            vec![$($({
                let name = concat!(stringify!($module), "::", stringify!($case));
                Trial::test(format!("{label}::{name}"), move || {
                    judge(name, &|| {
                        crate::run(async move || start().await, async |world| $module::$case(world).await)
                    })
                })
            },)*)*]
        }
    };
}

cases! {
    queues:
        a_queue_is_found_by_name_and_listed_by_prefix
        creating_again_gives_the_same_queue_unless_settings_differ
        names_and_attributes_are_checked
        attributes_read_as_they_were_set
        a_deleted_queue_is_gone_and_its_name_stays_taken_for_a_minute
        a_purge_empties_the_queue_and_the_next_must_wait
        listings_come_in_pages;
    messages:
        a_message_arrives_as_it_was_sent
        a_body_may_only_have_characters_of_xml
        a_message_may_have_one_mebibyte_and_no_more
        delays_of_messages_and_queues_hold
        a_receive_has_bounds
        a_long_poll_on_an_empty_queue_comes_back_empty
        a_group_on_a_standard_queue_is_kept
        messages_expire;
    attributes:
        attributes_come_back_when_asked_for
        the_digest_covers_the_attributes_returned
        attributes_have_rules
        system_attributes_tell_the_story_of_a_message
        the_trace_header_is_a_system_attribute;
    visibility:
        a_received_message_hides_until_its_timeout
        a_timeout_can_be_ended_and_extended
        twelve_hours_are_the_most_in_all
        a_message_that_is_not_in_flight_cannot_be_extended
        every_receive_has_its_own_handle
        an_old_handle_does_not_delete_a_message_received_again
        deleting_twice_succeeds
        garbage_is_no_handle;
    batches:
        each_entry_succeeds_or_fails_alone
        malformed_batches_fail_as_a_whole
        a_batch_may_have_one_mebibyte_in_all
        deleting_and_extending_work_in_batches;
    dead_letters:
        a_message_received_too_often_moves_with_its_id
        a_redrive_policy_must_name_a_queue_of_the_same_type
        the_sources_of_a_dead_letter_queue_are_listed
        a_dead_letter_queue_can_refuse_sources;
    fifo:
        order_holds_and_a_group_in_flight_is_blocked
        a_group_waits_for_a_message_that_comes_back
        a_duplicate_is_accepted_and_not_delivered
        a_duplicate_after_five_minutes_is_new
        content_can_be_the_deduplication_id
        deduplication_can_be_by_group
        a_group_and_a_deduplication_id_are_required
        fifo_messages_carry_their_attributes
        an_expired_handle_is_refused
        a_receive_can_be_repeated_by_its_attempt_id
        a_fifo_dead_letter_queue_keeps_group_and_id;
}
