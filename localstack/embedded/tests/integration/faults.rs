//! Each fault does over HTTP what it says.

use embedded_sqs::faults::{FaultKind, FaultPlan, Rule};
use embedded_sqs::model::action::Action;
use embedded_sqs::server::Server;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, start};

fn always(server: &Server, action: Action, fault: FaultKind) {
    server
        .set_faults(FaultPlan {
            seed: 1,
            rules: vec![Rule::on(action, fault, 1.0)],
        })
        .unwrap();
}

fn depth(server: &Server, url: &str) -> usize {
    server.with_account(|account, now| account.depth(now, url).unwrap().visible)
}

#[tokio::test]
async fn answers_and_requests_get_lost_or_cut() {
    let server = start().await;
    let url = Client::connect(&server).await.queue(json!({})).await;
    let message = json!({"QueueUrl": url, "MessageBody": "x"}).to_string();
    for (fault, carried_out) in [
        (FaultKind::RequestLost, false),
        (FaultKind::AnswerLost, true),
        (FaultKind::AnswerCut, true),
    ] {
        always(&server, Action::SendMessage, fault);
        let before = depth(&server, &url);
        let mut client = Client::connect(&server).await;
        let answer = client.act("SendMessage", message.clone()).await;
        assert!(answer.is_err(), "{fault:?} gave {answer:?}");
        assert_eq!(
            depth(&server, &url) - before,
            usize::from(carried_out),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn errors_come_with_the_codes_sdks_know() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let message = json!({"QueueUrl": url, "MessageBody": "x"}).to_string();
    for (fault, status, header, sent) in [
        (FaultKind::ServerError, 500, "InternalError;Receiver", 0),
        (FaultKind::ServerErrorAfter, 500, "InternalError;Receiver", 1),
        (FaultKind::Unavailable, 503, "ServiceUnavailable;Receiver", 0),
        (FaultKind::Throttle, 400, "RequestThrottled;Sender", 0),
    ] {
        always(&server, Action::SendMessage, fault);
        let before = depth(&server, &url);
        let answer = client.act("SendMessage", message.clone()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["x-amzn-query-error"], header);
        assert_eq!(depth(&server, &url) - before, sent, "{fault:?}");
    }
}

#[tokio::test]
async fn entries_fail_while_the_batch_succeeds() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    let rule = Rule::on(Action::SendMessageBatch, FaultKind::FailEntry, 0.5);
    server
        .set_faults(FaultPlan {
            seed: 5,
            rules: vec![rule],
        })
        .unwrap();
    let entries: Vec<_> = (0..10)
        .map(|n| json!({"Id": n.to_string(), "MessageBody": "x"}))
        .collect();
    let answer = client
        .call("SendMessageBatch", json!({"QueueUrl": url, "Entries": entries}))
        .await;
    let count = |name: &str| answer[name].as_array().map_or(0, Vec::len);
    assert_eq!(count("Successful") + count("Failed"), 10);
    assert!(count("Failed") > 0 && count("Successful") > 0, "{answer}");
    assert_eq!(answer["Failed"][0]["SenderFault"], Value::Bool(false));
    assert_eq!(depth(&server, &url), count("Successful"));
}

#[tokio::test]
async fn messages_come_twice_out_of_order_or_not_at_all() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let url = client.queue(json!({})).await;
    for n in 0..20 {
        client.send(&url, &n.to_string()).await;
    }
    always(&server, Action::ReceiveMessage, FaultKind::Miss);
    assert!(client.receive(&url, 0).await.is_empty());
    always(&server, Action::ReceiveMessage, FaultKind::Duplicate);
    let first = client.receive(&url, 0).await;
    assert_eq!(
        client.receive(&url, 0).await,
        first,
        "delivered again although nobody gave them back"
    );
    always(&server, Action::ReceiveMessage, FaultKind::Reorder);
    let shuffled = client.receive(&url, 0).await;
    let ordered = first.iter().all(|body| shuffled.contains(body));
    assert_eq!(shuffled.len(), 10);
    assert!(!ordered || shuffled != first, "in order: {shuffled:?}");
}

#[tokio::test]
async fn faults_and_the_clock_are_set_over_http() {
    let server = start().await;
    let mut client = Client::connect(&server).await;
    let request = |method: &str, path: &str, body: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        request.body(Full::from(body.to_owned())).unwrap()
    };
    let plan = r#"{"seed":3,"rules":[{"actions":["SendMessage"],"fault":{"kind":"delay","min_ms":1,"max_ms":2},"probability":0.5}]}"#;
    let answer = client
        .raw(request("PUT", "/_embedded/faults", plan))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    let shown = client.raw(request("GET", "/_embedded/faults", "")).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(shown.body()).unwrap()["seed"], 3);
    client
        .raw(request("DELETE", "/_embedded/faults", ""))
        .await
        .unwrap();
    let shown = client.raw(request("GET", "/_embedded/faults", "")).await.unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(shown.body()).unwrap()["rules"],
        json!([])
    );
    for (path, bad) in [
        (
            "/_embedded/faults",
            r#"{"rules":[{"fault":{"kind":"miss"},"probability":2}]}"#,
        ),
        (
            "/_embedded/faults",
            r#"{"rules":[{"fault":{"kind":"nonsense"},"probability":1}]}"#,
        ),
        ("/_embedded/clock", r#"{"advance":5}"#),
    ] {
        let answer = client.raw(request("PUT", path, bad)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    let clock = r#"{"frozen":true,"set_ms":5000,"advance_ms":250}"#;
    let answer = client
        .raw(request("PUT", "/_embedded/clock", clock))
        .await
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(answer.body()).unwrap(),
        json!({"now_ms": 5250, "frozen": true})
    );
    let answer = client
        .raw(request("GET", "/_embedded/nothing", ""))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
