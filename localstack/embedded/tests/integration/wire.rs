//! Whatever bytes come, an answer of the right shape goes: no panic, no 500, no hanging connection.
//!
//! `PROPTEST_CASES=100000 cargo test -p embedded-sqs --test integration wire` looks longer. What it finds is kept beside this
//! file, and the kinds of input that are worth a name stand in [`NASTY`].

use embedded_sqs::model::action::Action;
use embedded_sqs::server::Server;
use http_body_util::Full;
use hyper::Request;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::client::{Client, start};

const URL: &str = "http://localhost/000000000000/q";

/// Inputs that broke this or another implementation, or easily could.
const NASTY: [(&str, &str); 22] = [
    ("SendMessage", ""),
    ("SendMessage", "null"),
    ("SendMessage", "[]"),
    ("SendMessage", "{"),
    ("SendMessage", r#"{"QueueUrl":null,"MessageBody":null}"#),
    ("SendMessage", r#"{"QueueUrl":1,"MessageBody":"x"}"#),
    ("SendMessage", r#"{"QueueUrl":"@","MessageBody":"\ud800"}"#),
    ("SendMessage", r#"{"QueueUrl":"@","MessageBody":"\u0000"}"#),
    (
        "SendMessage",
        r#"{"QueueUrl":"@","MessageBody":"x","MessageBody":"y"}"#,
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"@","MessageBody":"x","DelaySeconds":99999999999}"#,
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"@","MessageBody":"x","DelaySeconds":-2147483648}"#,
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"@","MessageBody":"x","MessageAttributes":{"a":{}}}"#,
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"@","MessageBody":"x","MessageAttributes":{"a":null}}"#,
    ),
    (
        "SendMessage",
        r#"{"QueueUrl":"@","MessageBody":"x","MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"%"}}}"#,
    ),
    ("SendMessage", r#"{"QueueUrl":"////","MessageBody":"x"}"#),
    ("SendMessage", r#"{"QueueUrl":"ü/ü","MessageBody":"x"}"#),
    ("ReceiveMessage", r#"{"QueueUrl":"@","MaxNumberOfMessages":1e3}"#),
    (
        "ReceiveMessage",
        r#"{"QueueUrl":"@","MessageAttributeNames":[".*",".*.*","",null]}"#,
    ),
    (
        "DeleteMessage",
        r#"{"QueueUrl":"@","ReceiptHandle":"AQEB0000000000000000000000000000000000000000"}"#,
    ),
    (
        "DeleteMessage",
        r#"{"QueueUrl":"@","ReceiptHandle":"AQEBüüüüüüüüüüüüüüüüüüüü"}"#,
    ),
    (
        "CreateQueue",
        r#"{"QueueName":"q","Attributes":{"RedrivePolicy":"{\"maxReceiveCount\":1e99}"}}"#,
    ),
    (
        "ListQueues",
        r#"{"QueueNamePrefix":"\uffff","MaxResults":0,"NextToken":"\u0000"}"#,
    ),
];

/// Valid requests to start mutations from.
const VALID: [(Action, &str); 8] = [
    (
        Action::SendMessage,
        r#"{"QueueUrl":"@","MessageBody":"body","DelaySeconds":0,"MessageGroupId":"g","MessageAttributes":{"a":{"DataType":"Number","StringValue":"1"},"b":{"DataType":"Binary","BinaryValue":"AAH/"}}}"#,
    ),
    (
        Action::SendMessageBatch,
        r#"{"QueueUrl":"@","Entries":[{"Id":"0","MessageBody":"a"},{"Id":"1","MessageBody":"b","DelaySeconds":1}]}"#,
    ),
    (
        Action::ReceiveMessage,
        r#"{"QueueUrl":"@","MaxNumberOfMessages":10,"VisibilityTimeout":0,"AttributeNames":["All"],"MessageAttributeNames":["a.*"]}"#,
    ),
    (
        Action::DeleteMessageBatch,
        r#"{"QueueUrl":"@","Entries":[{"Id":"0","ReceiptHandle":"AQEB"}]}"#,
    ),
    (
        Action::ChangeMessageVisibility,
        r#"{"QueueUrl":"@","ReceiptHandle":"AQEB00000000000000000000000000000000000000000000","VisibilityTimeout":5}"#,
    ),
    (
        Action::SetQueueAttributes,
        r#"{"QueueUrl":"@","Attributes":{"VisibilityTimeout":"30","DelaySeconds":"0"}}"#,
    ),
    (
        Action::GetQueueAttributes,
        r#"{"QueueUrl":"@","AttributeNames":["All"]}"#,
    ),
    (Action::ListQueues, r#"{"QueueNamePrefix":"q","MaxResults":5}"#),
];

fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(cases);
    let kept = FileFailurePersistence::WithSource("regressions");
    TestRunner::new(Config {
        cases,
        failure_persistence: Some(Box::new(kept)),
        source_file: Some(file!()),
        ..Config::default()
    })
}

fn endpoint() -> (Runtime, Server) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(async {
        let server = start().await;
        Client::connect(&server)
            .await
            .queue(Value::Object(Default::default()))
            .await;
        server
    });
    (runtime, server)
}

/// Sends a body; whatever it is, the answer is JSON, and an error says what it is.
async fn check(client: &mut Client, target: &str, body: Vec<u8>) -> Result<(), TestCaseError> {
    let request = Request::post("/")
        .header("host", "localhost")
        .header("x-amz-target", target);
    let Ok(request) = request.body(Full::from(body)) else {
        return Ok(()); // No such header can be sent.
    };
    let answer = client
        .raw(request)
        .await
        .map_err(|error| TestCaseError::fail(format!("no answer: {error}")))?;
    let status = answer.status().as_u16();
    prop_assert!(status == 200 || (400..500).contains(&status), "status {status}");
    if status == 200 && answer.body().is_empty() {
        return Ok(());
    }
    let json: Value = serde_json::from_slice(answer.body())?;
    prop_assert!(json.is_object());
    if status != 200 {
        prop_assert!(
            json["__type"].as_str().is_some_and(|shape| shape.contains('#')),
            "{json}"
        );
        prop_assert!(
            json["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{json}"
        );
        prop_assert!(
            answer.headers()["x-amzn-query-error"]
                .to_str()
                .is_ok_and(|code| code.ends_with(";Sender"))
        );
    }
    Ok(())
}

/// A body that makes a receive wait would only slow the search down.
fn without_waits(body: Vec<u8>) -> Vec<u8> {
    if body.windows(4).any(|window| window == b"Wait") {
        Vec::new()
    } else {
        body
    }
}

#[test]
fn nasty_requests_get_an_answer() {
    let (runtime, server) = endpoint();
    runtime.block_on(async {
        let mut client = Client::connect(&server).await;
        for (action, body) in NASTY {
            let body = body.replace('@', URL);
            let result = check(
                &mut client,
                &format!("AmazonSQS.{action}"),
                body.clone().into_bytes(),
            )
            .await;
            result.unwrap_or_else(|error| panic!("{action} {body}: {error}"));
        }
    });
}

#[test]
fn arbitrary_bodies_get_an_answer() {
    let (runtime, server) = endpoint();
    let target = prop_oneof![
        9 => proptest::sample::select(Action::ALL).prop_map(|action| format!("AmazonSQS.{}", action.name())),
        1 => "\\PC{0,30}",
    ];
    let result = runner(500).run(
        &(target, proptest::collection::vec(any::<u8>(), 0..300)),
        |(target, body)| {
            runtime.block_on(async {
                check(&mut Client::connect(&server).await, &target, without_waits(body)).await
            })
        },
    );
    result.unwrap();
}

#[test]
fn mutated_requests_get_an_answer() {
    let (runtime, server) = endpoint();
    let edit = (
        any::<proptest::sample::Index>(),
        0..4_usize,
        "[\\PC\\x00-\\x1f\"{}\\[\\]:,\\\\0-9-]{0,6}",
    );
    let edits = proptest::collection::vec(edit, 0..4);
    let any_action = proptest::option::weighted(0.1, proptest::sample::select(Action::ALL));
    let strategy = (proptest::sample::select(&VALID[..]), any_action, edits);
    let result = runner(2000).run(&strategy, |((action, body), other, edits)| {
        let mut body = body.replace('@', URL).into_bytes();
        for (at, cut, insert) in edits {
            let at = at.index(body.len() + 1);
            let end = (at + cut).min(body.len());
            body.splice(at..end, insert.into_bytes());
        }
        let target = format!("AmazonSQS.{}", other.unwrap_or(action).name());
        runtime.block_on(async {
            check(&mut Client::connect(&server).await, &target, without_waits(body)).await
        })
    });
    result.unwrap();
}

#[test]
fn bytes_that_are_no_http_do_no_harm() {
    let (runtime, server) = endpoint();
    let head = proptest::sample::select(vec![
        "",
        "POST / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]);
    let result = runner(300).run(
        &(head, proptest::collection::vec(any::<u8>(), 0..400)),
        |(head, bytes)| {
            runtime.block_on(async {
                let mut stream = TcpStream::connect(server.address()).await?;
                // The endpoint may hang up at any byte; what counts is that it goes on serving others.
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
                check(
                    &mut Client::connect(&server).await,
                    "AmazonSQS.ListQueues",
                    b"{}".to_vec(),
                )
                .await
            })
        },
    );
    result.unwrap();
}
