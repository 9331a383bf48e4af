//! The simulation's way to the queues behaves as the adapter to SQS does: the same steps over both give the same.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use embedded_sqs::faults::{FaultKind, FaultPlan, Rule};
use embedded_sqs::model::action::CreateQueue;
use embedded_sqs::server::{Server, ServerConfig};
use tokio_util::sync::CancellationToken;
use worker::message::{Attribute, AttributeValue, Attributes, Message};
use worker::queue::{BatchResult, Description, Outgoing, Queue, ReceiveRequest, Visibility};
use worker::sqs::Sqs;

use crate::case::Case;
use crate::sea::Sea;
use crate::wire::{Life, Wire};

const TIMEOUT: Duration = Duration::from_secs(5);

fn case(fifo: bool, faults: Vec<Rule>) -> Case {
    Case {
        seed: 1,
        fifo,
        visibility: 30,
        max_receives: 4,
        concurrency: 10,
        wait: 0,
        remember: 0,
        deadline: 1,
        budget: 1,
        faults,
        operations: Vec::new(),
    }
}

fn outgoing(fifo: bool, number: usize) -> Outgoing {
    let bytes = Attribute {
        data_type: "Binary.png".to_owned(),
        value: AttributeValue::Bytes(vec![0, 255]),
    };
    let attributes = [("a".to_owned(), Attribute::text("é")), ("b".to_owned(), bytes)];
    Outgoing {
        body: format!("0 body {number}"),
        attributes: Attributes::from(attributes),
        group: Some("g".to_owned()),
        deduplication_id: fifo.then(|| format!("d{number}")),
        trace_header: Some("Root=1".to_owned()),
        ..Outgoing::default()
    }
}

/// A message less what differs by nature: ids, handles and times.
fn shown(message: &Message) -> String {
    let mut message = message.clone();
    assert_eq!(message.id.len(), 36);
    assert!(message.sent_at.is_some() && message.first_received_at.is_some());
    (message.id, message.receipt) = ("".into(), "".into());
    (message.sent_at, message.first_received_at) = (None, None);
    format!("{message:?}")
}

fn kinds<T>(result: BatchResult<T>) -> String {
    match result {
        Ok(results) => {
            let kinds: Vec<_> = results
                .into_iter()
                .map(|result| result.map(drop).map_err(|error| error.kind))
                .collect();
            format!("{kinds:?}")
        }
        Err(error) => format!("{:?}", error.kind),
    }
}

fn request(max: usize) -> ReceiveRequest {
    ReceiveRequest {
        max,
        wait: Duration::ZERO,
        visibility: Duration::from_secs(30),
    }
}

/// Everything that the consumer can ask for, and much that it would not.
async fn observe<Q: Queue>(queue: &Q, fifo: bool) -> Vec<String> {
    let mut seen = Vec::new();
    let Description {
        arn,
        fifo: kind,
        max_message_bytes,
        retention,
        redrive,
        visible,
        ..
    } = queue.description().await.unwrap();
    let name = arn.rsplit(':').next().unwrap();
    let max = redrive.map(|redrive| redrive.max_receive_count);
    seen.push(format!(
        "{name} {kind} {max_message_bytes} {retention:?} {max:?} {visible}"
    ));
    let refused = Outgoing {
        body: "0 \u{1}".to_owned(),
        ..outgoing(fifo, 9)
    };
    let entries = [outgoing(fifo, 1), refused, outgoing(fifo, 2), outgoing(fifo, 3)];
    seen.push(kinds(queue.send(&entries).await));
    seen.push(kinds(queue.send(&[]).await));
    let received = queue.receive(request(2)).await.unwrap();
    seen.extend(received.iter().map(shown));
    let zero = queue.receive(request(0)).await.map_err(|error| error.kind);
    seen.push(format!("{:?}", zero.map(|messages| messages.len())));
    let receipts: Vec<Arc<str>> = received
        .iter()
        .map(|message| Arc::clone(&message.receipt))
        .collect();
    let change = |receipt: &Arc<str>, seconds| Visibility {
        receipt: Arc::clone(receipt),
        after: Duration::from_secs(seconds),
    };
    let garbage: Arc<str> = "garbage".into();
    for changes in [
        vec![change(&receipts[0], 30), change(&garbage, 30)],
        vec![change(&receipts[0], 43_200), change(&receipts[1], 43_300)],
        vec![change(&receipts[0], 0), change(&receipts[1], 0)],
        vec![change(&receipts[0], 1)],
    ] {
        seen.push(kinds(queue.change_visibility(&changes).await));
    }
    let again = queue.receive(request(10)).await.unwrap();
    seen.extend(again.iter().map(shown));
    seen.push(kinds(queue.change_visibility(&[change(&receipts[0], 30)]).await));
    seen.push(kinds(
        queue
            .delete(&[Arc::clone(&receipts[0]), Arc::clone(&garbage)])
            .await,
    ));
    let newest = Arc::clone(&again[0].receipt);
    for _ in 0..2 {
        seen.push(kinds(queue.delete(std::slice::from_ref(&newest)).await));
    }
    seen.push(kinds(queue.change_visibility(&[change(&newest, 30)]).await));
    seen.push(format!("{}", queue.description().await.unwrap().visible));
    seen
}

fn wire(case: &Case) -> Wire {
    let sea = Sea::new(case, false);
    let url = sea.main.clone();
    // The wire knows only what was sent; all bodies here are of message 0.
    sea.send(&outgoing(case.fifo, 0));
    let life = Arc::new(Life {
        id: (0, 0),
        killed: CancellationToken::new(),
    });
    Wire { sea, life, url }
}

async fn server(case: &Case) -> (Server, Sqs) {
    let server = Server::start(ServerConfig::default()).await.unwrap();
    let suffix = if case.fifo { ".fifo" } else { "" };
    server.with_account(|account, now| {
        let mut create = |name: &str, attributes: &[(&str, String)]| {
            let mut attributes: std::collections::BTreeMap<_, _> = attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            if case.fifo {
                attributes.insert("FifoQueue".to_owned(), "true".to_owned());
            }
            let request = CreateQueue {
                queue_name: format!("{name}{suffix}"),
                attributes,
                ..CreateQueue::default()
            };
            account.create_queue(now, &request).unwrap();
        };
        let retention = || ("MessageRetentionPeriod", "1209600".to_owned());
        create("dead", &[retention()]);
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:dead{suffix}");
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":4}}"#);
        create("main", &[retention(), ("RedrivePolicy", policy)]);
    });
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.url())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "test", "test", None, None, "tests",
        )))
        .build();
    let sqs = Sqs::new(&config, TIMEOUT);
    (server, sqs)
}

#[tokio::test]
async fn both_ways_to_a_queue_behave_alike() {
    for fifo in [false, true] {
        let case = case(fifo, Vec::new());
        let wire = wire(&case);
        let (server, sqs) = server(&case).await;
        let url = server.with_account(|account, _| account.url(if fifo { "main.fifo" } else { "main" }));
        let real = sqs.queue(url);
        // The message that the wire had to know of.
        real.send(&[outgoing(fifo, 0)]).await.unwrap().remove(0).unwrap();
        assert_eq!(
            observe(&wire, fifo).await,
            observe(&real, fifo).await,
            "fifo: {fifo}"
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn a_missing_queue_is_the_same_error_on_both_ways() {
    let case = case(false, Vec::new());
    let (mut wire, (server, sqs)) = (wire(&case), server(&case).await);
    let url = server.with_account(|account, _| account.url("nobody"));
    wire.url = url.clone();
    let (wire, real) = (
        wire.receive(request(1)).await,
        sqs.queue(url).receive(request(1)).await,
    );
    assert_eq!(wire.unwrap_err().kind, real.unwrap_err().kind);
}

#[tokio::test]
async fn every_fault_is_an_error_that_both_ways_call_transient() {
    for fault in [
        FaultKind::RequestLost,
        FaultKind::AnswerLost,
        FaultKind::AnswerCut,
        FaultKind::ServerError,
        FaultKind::ServerErrorAfter,
        FaultKind::Unavailable,
        FaultKind::Throttle,
    ] {
        let rules = vec![Rule::everywhere(fault, 1.0)];
        let case = case(false, rules.clone());
        let (wire, (server, sqs)) = (wire(&case), server(&case).await);
        server.set_faults(FaultPlan { seed: 1, rules }).unwrap();
        let url = server.with_account(|account, _| account.url("main"));
        let receipts = ["r".into()];
        let of_wire = wire.delete(&receipts).await.unwrap_err().kind;
        let of_real = sqs.queue(url).delete(&receipts).await.unwrap_err().kind;
        assert!(
            of_wire.is_transient() && of_real.is_transient(),
            "{fault:?}: {of_wire:?} and {of_real:?}"
        );
        // What is lost on the way may also show as a timeout.
        let lost = matches!(
            fault,
            FaultKind::RequestLost | FaultKind::AnswerLost | FaultKind::AnswerCut
        );
        assert!(
            lost || of_wire == of_real,
            "{fault:?}: {of_wire:?} and {of_real:?}"
        );
    }
}
