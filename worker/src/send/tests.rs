use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Mutex;

use tokio::sync::mpsc::channel;

use super::input::{Line, next};
use super::*;
use crate::message::{MAX_MESSAGE_BYTES, Message};
use crate::queue::{BatchResult, ReceiveRequest, Visibility};

/// A queue that answers each body by what is said for it: so many transient failures, or a refusal.
#[derive(Debug, Default)]
struct Fake {
    requests: Mutex<Vec<Vec<String>>>,
}

impl Queue for Fake {
    async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: &[Arc<str>]) -> BatchResult<()> {
        Ok(Vec::new())
    }

    async fn change_visibility(&self, _: &[Visibility]) -> BatchResult<()> {
        Ok(Vec::new())
    }

    async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
        let bodies: Vec<_> = entries.iter().map(|entry| entry.body.clone()).collect();
        let mut requests = self.requests.lock().unwrap();
        requests.push(bodies.clone());
        let seen = |body: &String| requests.iter().flatten().filter(|other| *other == body).count();
        if bodies.iter().any(|body| body == "cut" && seen(body) == 1) {
            return Err(QueueError::new(ErrorKind::Network, "cut"));
        }
        let result = |body: &String| match body.as_str() {
            "refused" => Err(QueueError::new(ErrorKind::Invalid, "no")),
            "down" => Err(QueueError::new(ErrorKind::Server, "down")),
            "twice" if seen(body) < 3 => Err(QueueError::new(ErrorKind::Throttled, "slow")),
            _ => Ok("id".to_owned()),
        };
        Ok(bodies.iter().map(result).collect())
    }

    async fn description(&self) -> Result<Description, QueueError> {
        Ok(description(false))
    }
}

fn description(fifo: bool) -> Description {
    Description {
        arn: "arn:aws:sqs:eu-west-1:1:orders".to_owned(),
        fifo,
        visibility_timeout: Duration::from_secs(30),
        max_message_bytes: MAX_MESSAGE_BYTES,
        retention: Duration::from_secs(345_600),
        redrive: None,
        visible: 0,
    }
}

/// Sends `lines` and gives the summary and the requests.
async fn sent(lines: &[&str], arguments: Arguments, fifo: bool) -> (Summary, Vec<Vec<String>>) {
    let queue = Arc::new(Fake::default());
    let (sender, receiver) = channel(lines.len().max(1));
    for (number, text) in (1..).zip(lines) {
        let line = Line {
            number,
            text: text.as_bytes().to_vec(),
            bytes: text.len() as u64 + 1,
            too_long: false,
        };
        sender.send(Ok(line)).await.unwrap();
    }
    drop(sender);
    let sending = Sending {
        queue: Arc::clone(&queue),
        template: arguments.template(&description(fifo)),
        description: description(fifo),
        rate: arguments.rate,
        progress: ProgressBar::hidden(),
        summary: Summary::default(),
    };
    let summary = sending.run(receiver, std::future::pending()).await;
    let requests = queue.requests.lock().unwrap().clone();
    (summary, requests)
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_the_moment_is_sent_again_and_what_is_refused_is_named() {
    let lines = ["a", "twice", "", "refused", "cut", "down", "  ", "b\u{0}c", "z"];
    let (summary, requests) = sent(&lines, Arguments::default(), false).await;
    let failed: BTreeSet<u64> = summary.failed.iter().map(|(line, _)| *line).collect();
    assert_eq!(failed, BTreeSet::from([4, 6, 8]));
    assert_eq!((summary.sent, summary.failures, summary.blank), (4, 3, 2));
    assert_eq!(summary.failed[0].1, "invalid: no");
    assert_eq!(
        summary.failed[2].1,
        "character 2 is '\\0', which SQS does not take"
    );
    let count = |body: &str| requests.iter().flatten().filter(|other| *other == body).count();
    assert_eq!(
        count("refused"),
        2,
        "the cut request is sent again as a whole, and the refusal is final"
    );
    assert_eq!(count("down"), TRIES as usize);
    assert!(!summary.is_whole());
}

#[tokio::test(start_paused = true)]
async fn batches_have_ten_messages_and_a_mebibyte_at_most() {
    let big = "x".repeat(MAX_MESSAGE_BYTES / 2);
    let lines: Vec<&str> = ["y"; 25].into_iter().chain([big.as_str(); 3]).collect();
    let (summary, requests) = sent(&lines, Arguments::default(), true).await;
    assert_eq!((summary.sent, summary.requests), (28, 4));
    for request in &requests {
        assert!(request.len() <= 10 && request.iter().map(String::len).sum::<usize>() <= MAX_MESSAGE_BYTES);
    }
    assert!(summary.is_whole());
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept() {
    for (rate, count, seconds) in [("50", 100, 2), ("0.5/s", 4, 8), ("20/s", 40, 2)] {
        let arguments = Arguments {
            rate: Some(rate.parse().unwrap()),
            ..Arguments::default()
        };
        let began = Instant::now();
        let (summary, _) = sent(&vec!["a"; count], arguments, false).await;
        assert_eq!(summary.sent, count as u64);
        let (took, whole) = (began.elapsed(), Duration::from_secs(seconds));
        assert!(took <= whole && took >= whole.mul_f64(0.7), "{rate}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_can_be_named_are_counted() {
    let (summary, _) = sent(&["refused"; 300], Arguments::default(), false).await;
    let (text, problems) = report(&summary, "orders", Duration::from_secs(2));
    assert_eq!((summary.failures, summary.failed.len()), (300, NAMED));
    assert_eq!(problems.len(), NAMED + 1);
    assert_eq!(problems[0], "line 1: invalid: no");
    assert_eq!(problems[NAMED], "and 280 more lines");
    assert!(
        text.starts_with("sent 0 messages to orders in 2.0 s (0/s, "),
        "{text}"
    );
}

#[tokio::test]
async fn an_interruption_says_where_to_go_on() {
    let (sender, receiver) = channel(10);
    for number in 1..=3 {
        let line = Line {
            number,
            text: b"a".to_vec(),
            bytes: 2,
            too_long: false,
        };
        sender.send(Ok(line)).await.unwrap();
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let queue = Arc::new(Fake::default());
    let sending = Sending {
        queue: Arc::clone(&queue),
        template: Arguments::default().template(&description(false)),
        description: description(false),
        rate: None,
        progress: ProgressBar::hidden(),
        summary: Summary::default(),
    };
    let running = tokio::spawn(sending.run(receiver, async { stopped.await.unwrap() }));
    while queue.requests.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send("SIGINT").unwrap();
    let summary = running.await.unwrap();
    assert_eq!((summary.sent, summary.interrupted_after), (3, Some(3)));
    let (_, problems) = report(&summary, "orders", Duration::from_secs(1));
    assert_eq!(
        problems,
        ["interrupted after line 3; to go on: tail -n +4 FILE | worker send"]
    );
}

#[test]
fn lines_are_read_with_a_bound() {
    let long = vec![b'x'; MAX_MESSAGE_BYTES + 1000];
    let mut text = b"one\r\ntwo\n".to_vec();
    text.extend_from_slice(&long);
    text.extend_from_slice(b"\nlast");
    let mut input = Cursor::new(text.clone());
    let lines: Vec<Line> = (1..)
        .map_while(|number| next(&mut input, number).unwrap())
        .collect();
    let said: Vec<_> = lines
        .iter()
        .map(|line| (line.text.len(), line.too_long))
        .collect();
    assert_eq!(
        said,
        [(3, false), (3, false), (MAX_MESSAGE_BYTES + 2, true), (4, false)]
    );
    assert_eq!(
        lines.iter().map(|line| line.bytes).sum::<u64>(),
        text.len() as u64
    );
    let mut whole = Cursor::new([vec![b'x'; MAX_MESSAGE_BYTES], b"\r\n".to_vec()].concat());
    let line = next(&mut whole, 1).unwrap().unwrap();
    assert_eq!((line.text.len(), line.too_long), (MAX_MESSAGE_BYTES, false));
}

#[test]
fn options_that_sqs_would_refuse_are_refused_with_what_is_expected() {
    for (text, why) in [
        ("tenant", "expected NAME=VALUE"),
        ("=x", "is no attribute's name"),
        ("a b=x", "is no attribute's name"),
        ("a..b=x", "is no attribute's name"),
        ("AWS.x=1", "reserved"),
        ("worker.failure=1", "reserved"),
        ("tenant=", "no value"),
    ] {
        let error = text.parse::<Attribute>().unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    "tenant=a=b".parse::<Attribute>().unwrap();
    for wrong in ["0", "-1", "fast", "5/m", "NaN", ""] {
        assert!(
            wrong.parse::<Rate>().unwrap_err().contains("such as 50"),
            "{wrong}"
        );
    }
    let attribute: Attribute = "tenant=a".parse().unwrap();
    let group = || Some("g".to_owned());
    for (arguments, fifo, why) in [
        (Arguments::default(), true, "--group: not given"),
        (
            Arguments {
                group: group(),
                delay: Some(Duration::from_secs(1)),
                ..Arguments::default()
            },
            true,
            "--delay: expected none",
        ),
        (
            Arguments {
                deduplication: group(),
                ..Arguments::default()
            },
            false,
            "--deduplication: expected none",
        ),
        (
            Arguments {
                attributes: vec![attribute.clone(), attribute.clone()],
                ..Arguments::default()
            },
            false,
            "tenant twice",
        ),
        (
            Arguments {
                attributes: vec![attribute; 11],
                ..Arguments::default()
            },
            false,
            "at most 10",
        ),
    ] {
        let error = arguments.fit(&description(fifo)).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn on_a_fifo_queue_each_line_has_a_deduplication_id() {
    let arguments = Arguments {
        group: Some("g".to_owned()),
        deduplication: Some("june".to_owned()),
        ..Arguments::default()
    };
    let outgoing = arguments.template(&description(true)).outgoing("a".to_owned(), 7);
    assert_eq!(outgoing.deduplication_id.as_deref(), Some("june-7"));
    let own = |_| {
        let arguments = Arguments {
            deduplication: None,
            ..arguments.clone()
        };
        arguments
            .template(&description(true))
            .outgoing("a".to_owned(), 7)
            .deduplication_id
    };
    assert_ne!(own(1), own(2));
    let standard = arguments
        .template(&description(false))
        .outgoing("a".to_owned(), 7);
    assert_eq!(
        (standard.group.as_deref(), standard.deduplication_id),
        (Some("g"), None)
    );
}
