//! What is too much is refused, clearly.

use embedded_sqs::model::action::{CreateQueue, ReceiveMessage, SendMessage};
use embedded_sqs::model::{Account, AccountConfig, ErrorCode, MAX_IN_FLIGHT, Timestamp};
use embedded_sqs::server::{Server, ServerConfig};
use serde_json::json;

use crate::client::{Client, start};

#[tokio::test]
async fn a_full_endpoint_refuses_sends_and_takes_them_again_after_deletes() {
    let account = AccountConfig {
        max_bytes: 64 << 10,
        ..AccountConfig::default()
    };
    let server = Server::start(ServerConfig {
        account,
        ..ServerConfig::default()
    })
    .await
    .unwrap();
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let message = json!({"QueueUrl": url, "MessageBody": "x".repeat(10_000)}).to_string();
    let mut sent = 0;
    let refusal = loop {
        let answer = client.act("SendMessage", message.clone()).await.unwrap();
        if !answer.status().is_success() {
            break answer;
        }
        sent += 1;
        assert!(sent < 10, "64 KiB hold fewer than ten messages of 10 kB");
    };
    assert_eq!(refusal.headers()["x-amzn-query-error"], "OverLimit;Sender");
    let got = client.call("ReceiveMessage", json!({"QueueUrl": url})).await;
    let handle = &got["Messages"][0]["ReceiptHandle"];
    client
        .call("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle}))
        .await;
    assert!(
        client
            .act("SendMessage", message)
            .await
            .unwrap()
            .status()
            .is_success()
    );
}

#[tokio::test]
async fn a_request_beyond_any_valid_one_is_refused() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let answer = client
        .act("SendMessage", vec![b' '; (8 << 20) + 1])
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 413);
}

#[test]
fn the_limit_of_messages_in_flight_holds() {
    let now = Timestamp::from_millis(1_000_000);
    for fifo in [false, true] {
        let mut account = Account::new(AccountConfig::default());
        let name = if fifo { "q.fifo" } else { "q" };
        let attributes = if fifo {
            [("FifoQueue".to_owned(), "true".to_owned())].into()
        } else {
            Default::default()
        };
        let create = CreateQueue {
            queue_name: name.into(),
            attributes,
            ..CreateQueue::default()
        };
        let url = account.create_queue(now, &create).unwrap().queue_url;
        for n in 0..=MAX_IN_FLIGHT {
            let token = fifo.then(|| n.to_string());
            let message = SendMessage {
                queue_url: url.clone(),
                message_body: "x".into(),
                message_group_id: token.clone(),
                message_deduplication_id: token,
                ..SendMessage::default()
            };
            account.send_message(now, message).unwrap();
        }
        let request = ReceiveMessage {
            queue_url: url.clone(),
            max_number_of_messages: Some(10),
            visibility_timeout: Some(600),
            ..ReceiveMessage::default()
        };
        for _ in 0..MAX_IN_FLIGHT / 10 {
            assert_eq!(account.receive_message(now, &request).unwrap().messages.len(), 10);
        }
        let over = account.receive_message(now, &request);
        match fifo {
            true => assert!(
                over.unwrap().messages.is_empty(),
                "FIFO queues give nothing, without an error"
            ),
            false => assert_eq!(over.unwrap_err().code, ErrorCode::OverLimit),
        }
        let long = ReceiveMessage {
            wait_time_seconds: Some(20),
            ..request
        };
        assert!(
            account.receive_message(now, &long).unwrap().messages.is_empty(),
            "nor do long polls"
        );
    }
}
