//! Long polls end when there is something to give, and not before.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::client::{Client, start};
use embedded_sqs::server::Server;

/// A long poll under way on a connection of its own.
async fn polling(server: &Server, url: &str) -> JoinHandle<Vec<String>> {
    let mut client = Client::connect(server).await;
    let url = url.to_owned();
    tokio::spawn(async move { client.receive(&url, 20).await })
}

/// Within which a wake-up must arrive: far less than the poll's twenty seconds.
async fn soon(poll: JoinHandle<Vec<String>>) -> Vec<String> {
    tokio::time::timeout(Duration::from_secs(5), poll)
        .await
        .expect("the poll was not woken")
        .unwrap()
}

#[tokio::test]
async fn a_send_wakes_exactly_the_polls_it_can_serve() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let (first, second) = (polling(&server, &url).await, polling(&server, &url).await);
    client.send(&url, "a").await;
    tokio::select! {
        done = first => assert_eq!(done.unwrap(), ["a"]),
        done = second => assert_eq!(done.unwrap(), ["a"]),
    }
    assert!(client.receive(&url, 0).await.is_empty());
}

#[tokio::test]
async fn a_poll_that_leaves_messages_wakes_the_next() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let polls = [polling(&server, &url).await, polling(&server, &url).await];
    let entries: Vec<_> = (0..10)
        .map(|n| json!({"Id": n.to_string(), "MessageBody": "x"}))
        .collect();
    for _ in 0..2 {
        client
            .call("SendMessageBatch", json!({"QueueUrl": url, "Entries": entries}))
            .await;
    }
    let mut received = 0;
    for poll in polls {
        received += soon(poll).await.len();
    }
    assert_eq!(received, 20);
}

#[tokio::test]
async fn the_end_of_a_delay_wakes_a_poll() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({"DelaySeconds": "1"})).await;
    client.send(&url, "late").await;
    assert_eq!(soon(polling(&server, &url).await).await, ["late"]);
}

#[tokio::test]
async fn the_clock_set_forward_wakes_a_poll() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({"DelaySeconds": "900"})).await;
    client.send(&url, "much later").await;
    let poll = polling(&server, &url).await;
    server.with_clock(|clock| clock.advance(Duration::from_secs(900)));
    assert_eq!(soon(poll).await, ["much later"]);
}

#[tokio::test]
async fn giving_a_message_back_wakes_a_poll() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    client.send(&url, "again").await;
    let got = client.call("ReceiveMessage", json!({"QueueUrl": url})).await;
    let handle = &got["Messages"][0]["ReceiptHandle"];
    let poll = polling(&server, &url).await;
    let back = json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 0});
    client.call("ChangeMessageVisibility", back).await;
    assert_eq!(soon(poll).await, ["again"]);
}

#[tokio::test]
async fn a_poll_whose_client_went_away_takes_no_message() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    for _ in 0..20 {
        let poll = polling(&server, &url).await;
        // The answer to another request shows that the endpoint's loop has turned.
        client.receive(&url, 0).await;
        poll.abort();
        assert!(poll.await.unwrap_err().is_cancelled());
        client.receive(&url, 0).await;
    }
    client.send(&url, "kept").await;
    assert_eq!(soon(polling(&server, &url).await).await, ["kept"]);
}

#[tokio::test]
async fn stopping_answers_long_polls_and_refuses_connections() {
    let server = start().await;
    let address = server.address();
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let poll = polling(&server, &url).await;
    client.receive(&url, 0).await;
    tokio::time::timeout(Duration::from_secs(5), server.stop())
        .await
        .expect("stops within its grace");
    assert!(poll.await.unwrap_or_default().is_empty());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn deleting_a_queue_ends_its_polls_with_an_error() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let mut poller = Client::connect(&server).await;
    let body = json!({"QueueUrl": url, "WaitTimeSeconds": 20}).to_string();
    let poll = tokio::spawn(async move { poller.act("ReceiveMessage", body).await.unwrap() });
    client.receive(&url, 0).await;
    client.call("DeleteQueue", json!({"QueueUrl": url})).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), poll)
        .await
        .expect("woken")
        .unwrap();
    assert_eq!(
        answer.headers()["x-amzn-query-error"],
        "AWS.SimpleQueueService.NonExistentQueue;Sender"
    );
}
