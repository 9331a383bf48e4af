//! Answers of a queue that are not what they should be, to the real adapter.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use worker::message::Message;
use worker::queue::{Queue, QueueError, ReceiveRequest};
use worker::sqs::Sqs;

use super::Row;

/// The adapter, with a timeout that is short for its requests but receives.
pub(super) fn sqs(endpoint: &str) -> Sqs {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "test", "test", None, None, "tests",
        )))
        .build();
    Sqs::new(&config, Duration::from_millis(500))
}

/// What goes on after the bytes of an answer.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Close,
    /// The same bytes again and again, as fast as they are taken.
    Endless,
    /// The same byte every 10 ms.
    Trickle,
    Silence,
}

/// An endpoint that answers every request with these bytes.
pub(super) async fn endpoint(bytes: Vec<u8>, then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = Arc::new(bytes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&bytes), then));
        }
    });
    format!("http://{address}")
}

async fn serve(mut stream: TcpStream, bytes: Arc<Vec<u8>>, then: Then) -> std::io::Result<()> {
    let mut request = vec![0; 64 * 1024];
    let _ = stream.read(&mut request).await?;
    stream.write_all(&bytes).await?;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    match then {
        Then::Close => {}
        // Ends when the client hangs up.
        Then::Endless => loop {
            stream.write_all(&chunk).await?;
        },
        Then::Trickle => {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                stream.write_all(b"1\r\n \r\n").await?;
            }
        }
        Then::Silence => {
            let _ = stream.read(&mut request).await?;
        }
    }
    Ok(())
}

pub(super) fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n";

fn told<T>(result: Result<T, QueueError>, shown: impl Fn(T) -> String) -> String {
    match result {
        Ok(value) => shown(value),
        Err(error) => {
            let transient = if error.kind.is_transient() {
                " (transient)"
            } else {
                ""
            };
            format!("`{}`{transient}: {}", error.kind.as_str(), error.detail)
        }
    }
}

async fn receive(bytes: Vec<u8>, then: Then) -> String {
    let queue = sqs(&endpoint(bytes, then).await).queue("http://queue/1/q");
    let request = ReceiveRequest {
        max: 10,
        wait: Duration::ZERO,
        visibility: Duration::from_secs(30),
    };
    let count = |messages: Vec<Message>| format!("{} messages", messages.len());
    told(queue.receive(request).await, count)
}

async fn describe(bytes: Vec<u8>, then: Then) -> String {
    let queue = sqs(&endpoint(bytes, then).await).queue("http://queue/1/q");
    told(queue.description().await, |description| description.arn)
}

async fn delete(body: &str) -> String {
    let queue = sqs(&endpoint(http("200 OK", body), Then::Close).await).queue("http://queue/1/q");
    let result = queue.delete(&["r0".into(), "r1".into()]).await;
    told(result, |results| {
        let entries: Vec<_> = results
            .into_iter()
            .map(|result| told(result, |()| "deleted".to_owned()))
            .collect();
        entries.join("; ")
    })
}

/// A message as SQS gives it, with one field more or less.
fn messages(count: usize) -> String {
    let message = r#"{"MessageId":"m","ReceiptHandle":"r","Body":"b"}"#;
    format!(r#"{{"Messages":[{}]}}"#, vec![message; count].join(","))
}

#[expect(clippy::too_many_lines, reason = "a table, a row a line or two")]
pub(super) async fn rows() -> Vec<Row> {
    let row = |input, gives, actual| Row { input, gives, actual };
    let ok = |body: &str| http("200 OK", body);
    let mut rows = vec![
        row(
            "JSON that ends early",
            "`answer` (transient): ",
            receive(ok(r#"{"Messages":[{"Mess"#), Then::Close).await,
        ),
        row(
            "a body shorter than it promises",
            "`answer` (transient): ",
            receive(ok(&messages(1))[..100].to_vec(), Then::Close).await,
        ),
        row(
            "a body of nothing",
            "0 messages",
            receive(ok(""), Then::Close).await,
        ),
        row(
            "HTML",
            "`answer` (transient): ",
            receive(ok("<html></html>"), Then::Close).await,
        ),
        row(
            "an array instead of an object",
            "`answer` (transient): ",
            receive(ok("[]"), Then::Close).await,
        ),
        row(
            "a number instead of messages",
            "`answer` (transient): ",
            receive(ok(r#"{"Messages":5}"#), Then::Close).await,
        ),
        row(
            "a lone surrogate",
            "`answer` (transient): ",
            receive(ok(&messages(1).replace("\"b\"", r#""\ud800""#)), Then::Close).await,
        ),
        row(
            "nested 100,000 deep",
            "`answer` (transient): ",
            receive(ok(&format!("{{\"x\":{}", "[".repeat(100_000))), Then::Close).await,
        ),
        row(
            "messages without a receipt handle: what settles them is missing, they come back by their visibility timeout",
            "0 messages",
            receive(ok(&messages(3).replace("ReceiptHandle", "Handle")), Then::Close).await,
        ),
        row(
            "more messages than asked for: those without a slot are handed back",
            "11 messages",
            receive(ok(&messages(11)), Then::Close).await,
        ),
        row(
            "an answer that never ends, as fast as it is read",
            "`answer` (transient): ",
            receive(CHUNKED.into(), Then::Endless).await,
        ),
        row(
            "one that trickles for ever",
            "`timeout` (transient): ",
            describe(CHUNKED.into(), Then::Trickle).await,
        ),
        row(
            "none",
            "`timeout` (transient): ",
            describe(Vec::new(), Then::Silence).await,
        ),
        row(
            "a connection that is closed",
            "`network` (transient): ",
            receive(Vec::new(), Then::Close).await,
        ),
        row(
            "bytes that are no HTTP",
            "`network` (transient): ",
            receive(vec![0xff; 100], Then::Close).await,
        ),
        row(
            "500 with HTML",
            "`server` (transient): ",
            receive(http("500 Oops", "<html></html>"), Then::Close).await,
        ),
        row(
            "429 without a code",
            "`throttled` (transient): ",
            receive(http("429 Slow", ""), Then::Close).await,
        ),
        row(
            "a redirect",
            "`answer` (transient): ",
            receive(http("302 Found", ""), Then::Close).await,
        ),
    ];
    for (input, code, gives) in [
        (
            "an error code nobody knows",
            "com.amazonaws.sqs#Surprise",
            "`invalid`: ",
        ),
        ("no permission", "AccessDenied", "`denied`: "),
        (
            "no such queue",
            "com.amazonaws.sqs#QueueDoesNotExist",
            "`no_queue`: ",
        ),
    ] {
        let body = format!(r#"{{"__type":"{code}","message":"no\nwonder"}}"#);
        rows.push(row(
            input,
            gives,
            receive(http("400 Bad", &body), Then::Close).await,
        ));
    }
    rows.extend([
        row(
            "a batch answer without a result for an entry",
            "deleted; `answer` (transient): the answer lacks an entry's result",
            delete(r#"{"Successful":[{"Id":"0"}],"Failed":[]}"#).await,
        ),
        row(
            "a batch answer about entries that were not asked for",
            "`answer` (transient): the answer lacks an entry's result; `answer` (transient): the answer lacks an entry's result",
            delete(r#"{"Successful":[{"Id":"7"},{"Id":"x"}],"Failed":[]}"#).await,
        ),
        row("a queue without an ARN", "`answer` (transient): the answer lacks QueueArn", describe(ok(r#"{"Attributes":{}}"#), Then::Close).await),
        row(
            "a redrive policy that is no JSON",
            "`answer` (transient): RedrivePolicy is \"never\"; expected ",
            describe(ok(r#"{"Attributes":{"QueueArn":"arn:aws:sqs:eu-west-1:1:q","RedrivePolicy":"never"}}"#), Then::Close).await,
        ),
    ]);
    rows
}
