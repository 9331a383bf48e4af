//! A FIFO queue: order inside a group, a rejected message out of its way.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

#[tokio::test]
async fn groups_keep_their_order_through_failures() {
    const GROUPS: usize = 5;
    const LENGTH: usize = 12;
    let Some(queues) = Queues::create(Shape {
        fifo: true,
        ..Shape::default()
    })
    .await
    else {
        return;
    };
    for place in 0..LENGTH {
        let entry = |group: usize| {
            // In each group one message fails once, and one is rejected.
            let fault = match place {
                3 => Some("retry"),
                6 => Some("reject"),
                _ => None,
            };
            SendMessageBatchRequestEntry::builder()
                .id(group.to_string())
                .message_body(order(group * 100 + place, fault))
                .message_group_id(format!("g{group}"))
                .message_deduplication_id(format!("{group}-{place}"))
                .build()
                .unwrap()
        };
        let request = queues.client.send_message_batch().queue_url(&queues.main);
        request
            .set_entries(Some((0..GROUPS).map(entry).collect()))
            .send()
            .await
            .unwrap();
    }
    let mut worker = Worker::start(&settings(&queues));
    queues.drained(PATIENCE).await;
    worker.stop().await;

    let number = |line: &serde_json::Value| -> usize {
        line["order_id"]
            .as_str()
            .unwrap()
            .trim_start_matches("o-")
            .parse()
            .unwrap()
    };
    let done: Vec<usize> = worker.told("order totalled").iter().map(number).collect();
    for group in 0..GROUPS {
        let places: Vec<_> = done
            .iter()
            .filter(|n| **n / 100 == group)
            .map(|n| n % 100)
            .collect();
        let expected: Vec<_> = (0..LENGTH).filter(|place| *place != 6).collect();
        assert_eq!(places, expected, "group {group}");
    }
    let dead = queues.take_all(&queues.dead_letter).await;
    assert_eq!(dead.len(), GROUPS);
    queues.delete().await;
}
