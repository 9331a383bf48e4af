use std::collections::HashMap;

use super::*;
use crate::config::source::Source;
use crate::queue::RedrivePolicy;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let least = [("WORKER__RELEASE", "1.4"), ("WORKER__QUEUE__NAME", "orders")];
    let variables: HashMap<_, _> = least
        .iter()
        .chain(pairs)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::check(&Source::load(None, variables).unwrap()).unwrap()
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:eu-west-1:123456789012:{name}")
}

fn queue(name: &str, dead_letter: Option<&str>) -> Description {
    Description {
        arn: arn(name),
        fifo: false,
        visibility_timeout: Duration::from_secs(30),
        max_message_bytes: 262_144,
        retention: Duration::from_secs(345_600),
        redrive: dead_letter.map(|name| RedrivePolicy {
            target_arn: arn(name),
            max_receive_count: 5,
        }),
        visible: 0,
    }
}

/// What two queues that fit are refused with once `change` was made.
fn refused(pairs: &[(&str, &str)], change: impl Fn(&mut Description, &mut Description)) -> Vec<String> {
    let (mut main, mut dead_letter) = (queue("orders", Some("orders-dlq")), queue("orders-dlq", None));
    change(&mut main, &mut dead_letter);
    misfits(&settings(pairs), &main, &dead_letter)
}

fn one(lines: Vec<String>) -> String {
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(!lines[0].contains('\n'));
    lines.into_iter().next().unwrap()
}

#[test]
fn queues_that_fit_are_not_refused() {
    assert_eq!(refused(&[], |_, _| {}), [""; 0]);
    let larger = |_: &mut Description, dead_letter: &mut Description| {
        dead_letter.max_message_bytes *= 4;
        dead_letter.retention *= 3;
    };
    assert_eq!(refused(&[], larger), [""; 0]);
    let fifo = |main: &mut Description, dead_letter: &mut Description| {
        main.fifo = true;
        dead_letter.fifo = true;
    };
    assert_eq!(refused(&[], fifo), [""; 0]);
}

#[test]
fn each_misfit_is_one_line_with_setting_value_and_what_is_expected() {
    let line = one(refused(&[], |main, _| main.redrive = None));
    assert!(
        line.starts_with("queue.url: orders has no redrive policy; expected one"),
        "{line}"
    );

    let line = one(refused(&[], |main, dead_letter| {
        dead_letter.arn.clone_from(&main.arn)
    }));
    assert_eq!(
        line,
        "dlq.url: orders is the main queue itself; expected another queue"
    );

    let line = one(refused(&[], |main, _| main.fifo = true));
    assert_eq!(
        line,
        "dlq.url: orders-dlq is a standard queue; expected a FIFO queue, as orders is"
    );
    let line = one(refused(&[], |_, dead_letter| dead_letter.fifo = true));
    assert_eq!(
        line,
        "dlq.url: orders-dlq is a FIFO queue; expected a standard queue, as orders is"
    );

    let line = one(refused(&[], |_, dead_letter| {
        dead_letter.max_message_bytes = 262_143
    }));
    assert_eq!(
        line,
        "dlq.url: orders-dlq takes messages of 262143 bytes; expected at least the 262144 of orders"
    );

    let line = one(refused(&[], |_, dead_letter| {
        dead_letter.retention = Duration::from_secs(3600)
    }));
    let start =
        "dlq.url: orders-dlq keeps messages for 1h; expected at least the 4days of orders, better 14 days";
    assert!(line.starts_with(start), "{line}");
}

#[test]
fn a_visibility_timeout_must_leave_room_for_a_failed_heartbeat() {
    // With the default request timeout of 5 s: more than 7.5 s.
    let own = |seconds| {
        refused(&[], |main, _| {
            main.visibility_timeout = Duration::from_secs(seconds)
        })
    };
    assert_eq!(own(8), [""; 0]);
    let line = one(own(7));
    let start = "queue.visibility_timeout: 7s (the queue's own); expected at least 3 s and more than one and a half times sqs.timeout (5s)";
    assert!(line.starts_with(start), "{line}");
    assert!(one(own(0)).starts_with("queue.visibility_timeout: 0s"));

    let pairs = [
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "4s"),
        ("WORKER__SQS__TIMEOUT", "3s"),
    ];
    let line = one(refused(&pairs, |_, _| {}));
    assert!(
        line.starts_with("queue.visibility_timeout: 4s (from the settings)"),
        "{line}"
    );
    let pairs = [
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "4s"),
        ("WORKER__SQS__TIMEOUT", "2s"),
    ];
    assert_eq!(
        refused(&pairs, |main, _| main.visibility_timeout = Duration::ZERO),
        [""; 0]
    );
}

#[test]
fn all_misfits_are_told_at_once() {
    let lines = refused(&[], |main, dead_letter| {
        main.redrive = None;
        main.fifo = true;
        main.visibility_timeout = Duration::from_secs(1);
        dead_letter.max_message_bytes = 1024;
        dead_letter.retention = Duration::from_secs(60);
    });
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(Refusal::Unfit(lines).to_string().lines().count(), 5);
}

#[test]
fn a_handover_queue_must_be_a_third_standard_queue_with_the_same_dead_letter_queue() {
    let (main, dead_letter) = (queue("orders", Some("orders-dlq")), queue("orders-dlq", None));
    let handover = queue("orders-handover", Some("orders-dlq"));
    assert_eq!(handover_misfits(&main, &dead_letter, &handover), [""; 0]);

    for (policy, named) in [(None, "none"), (Some("elsewhere"), "another")] {
        let line = one(handover_misfits(
            &main,
            &dead_letter,
            &queue("orders-handover", policy),
        ));
        let expected = "handover.url: orders-handover has no redrive policy to orders-dlq; expected one";
        assert_eq!(line, expected, "{named}");
    }
    let line = one(handover_misfits(&main, &dead_letter, &main));
    assert_eq!(
        line,
        "handover.url: orders is the main or dead-letter queue; expected a third one"
    );

    let small = Description {
        max_message_bytes: 1024,
        ..handover.clone()
    };
    let line = one(handover_misfits(&main, &dead_letter, &small));
    let expected =
        "handover.url: orders-handover takes messages of 1024 bytes; expected at least the 262144 of orders";
    assert_eq!(line, expected);

    let fifo = Description {
        fifo: true,
        ..main.clone()
    };
    let line = one(handover_misfits(&fifo, &dead_letter, &handover));
    assert!(
        line.starts_with("handover.url: orders is a FIFO queue") && line.contains("; expected"),
        "{line}"
    );
}

#[test]
fn the_dead_letter_queue_of_another_account_is_looked_up_there() {
    assert_eq!(
        account_and_name(&arn("orders-dlq")),
        (Some("123456789012"), "orders-dlq")
    );
    assert_eq!(account_and_name("orders-dlq"), (None, "orders-dlq"));
}
