//! What keeps a worker whose settings are right from starting: `worker check`, the binary.

use std::collections::HashMap;

use super::Row;
use super::answers::{Then, endpoint, http};
use crate::process::{PATIENCE, command};

/// What `worker check` says with these variables beside those that are right; without those that are empty. Every line begins as all
/// of the worker's errors do, which is left out.
async fn told(variables: &[(&'static str, &str)]) -> String {
    let right = [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("WORKER__RELEASE", "1.4"),
        ("WORKER__QUEUE__NAME", "orders"),
        ("WORKER__STARTUP__TIMEOUT", "0ms"),
    ];
    let all: HashMap<&'static str, String> = right
        .into_iter()
        .chain(variables.iter().copied())
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    let all = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let output = tokio::time::timeout(PATIENCE, command(&["check"], &all).output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Option<Vec<_>> = text.lines().map(|line| line.strip_prefix("worker: ")).collect();
    lines
        .unwrap_or_else(|| panic!("a line without its prefix in\n{text}"))
        .join("; ")
}

/// The same of an SQS that answers so, wherever it listens.
async fn answered(status: &str, body: &str) -> String {
    let address = endpoint(http(status, body), Then::Close).await;
    told(&[("AWS_ENDPOINT_URL", &address)])
        .await
        .replace(&address, "http://sqs")
}

pub(super) async fn rows() -> Vec<Row> {
    let row = |input, gives, actual| Row { input, gives, actual };
    let missing = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no wonder"}"#;
    let queue = r#"{"QueueUrl":"http://queue/1/orders","Attributes":{"QueueArn":"arn:aws:sqs:eu-west-1:1:orders",
        "VisibilityTimeout":"3","MaximumMessageSize":"1024","MessageRetentionPeriod":"60",
        "RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:eu-west-1:1:orders\",\"maxReceiveCount\":3}"}}"#;
    vec![
        row(
            "an SQS that cannot be reached",
            "queue.name: orders: network: io error: client error (Connect): tcp connect error: Connection refused (os error 111) \
             (asked http://127.0.0.1:1, region eu-west-1)",
            told(&[]).await,
        ),
        row(
            "a queue that does not exist there",
            "queue.name: orders: no_queue: QueueDoesNotExist: no wonder (HTTP 400) (asked http://sqs, region eu-west-1)",
            answered("400 Bad", missing).await,
        ),
        row(
            "no credentials",
            "queue.name: orders: denied: no credentials; looked for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, \
             AWS_WEB_IDENTITY_TOKEN_FILE, the container's role and the instance's",
            told(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")]).await,
        ),
        row(
            "no region",
            "queue.name: orders: denied: no region; expected one, as AWS_REGION or in the profile",
            told(&[("AWS_REGION", "")]).await,
        ),
        row(
            "no region, and no address of AWS either",
            "queue.name: orders: denied: no region; expected one, as AWS_REGION or in the profile",
            told(&[("AWS_REGION", ""), ("AWS_ENDPOINT_URL", "")]).await,
        ),
        row(
            "a queue that is its own dead-letter queue, with a visibility timeout of 3 s: a line for each",
            "dlq.url: orders is the main queue itself; expected another queue; queue.visibility_timeout: 3s (the queue's own); expected ",
            answered("200 OK", queue).await,
        ),
    ]
}
