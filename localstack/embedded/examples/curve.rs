//! Shows what a message costs the endpoint, and that the depth of the queue does not matter:
//!
//! ```text
//! cargo run --release -p embedded-sqs --example curve                 # a few seconds
//! cargo run --release -p embedded-sqs --example curve -- --write      # and the table into docs/benchmarks.md
//! ```
//!
//! The endpoint runs on a thread of its own, whose CPU time the kernel counts; four connections from another thread send,
//! receive and delete in batches of ten over HTTP, at depths from a thousand to a million messages.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use embedded_sqs::model::action::{CreateQueue, SendMessage};
use embedded_sqs::server::{Server, ServerConfig};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

const DEPTHS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const MESSAGES: usize = 40_000;
/// Sent, received and deleted before the next ones are.
const ROUND: usize = 1_000;
const CONNECTIONS: usize = 4;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    messages: Vec<Handle>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Handle {
    receipt_handle: String,
}

/// What the endpoint's thread is asked for.
enum Order {
    Fill(String, usize),
    Cpu,
}

type Ask = (Order, oneshot::Sender<u64>);

fn main() -> anyhow::Result<()> {
    let (orders, received) = mpsc::channel(1);
    let (ready, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || serve(received, &ready));
    let url = address.recv()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let table = runtime.block_on(measure(url, orders))?;
    println!("{table}");
    if std::env::args().any(|argument| argument == "--write") {
        write_into_page(&table)?;
    }
    Ok(())
}

/// Puts the table between its marks in the page of benchmarks.
fn write_into_page(table: &str) -> anyhow::Result<()> {
    const BEGIN: &str = "<!-- measured: endpoint -->\n";
    const END: &str = "<!-- end: endpoint -->";
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks.md");
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no begin mark")?;
    let (_, after) = rest.split_once(END).context("the page has no end mark")?;
    std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}

fn serve(mut orders: mpsc::Receiver<Ask>, ready: &std::sync::mpsc::Sender<String>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::start(ServerConfig::default()).await?;
        ready.send(server.url().to_owned())?;
        while let Some((order, reply)) = orders.recv().await {
            let value = match order {
                Order::Fill(url, count) => {
                    fill(&server, &url, count)?;
                    0
                }
                // Nanoseconds this thread has run, by the kernel's scheduler.
                Order::Cpu => {
                    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
                    text.split(' ').next().unwrap_or_default().parse()?
                }
            };
            // Who asked waits for the answer.
            let _ = reply.send(value);
        }
        server.stop().await;
        Ok(())
    })
}

fn body() -> String {
    format!("{{\\\"order\\\":\\\"{}\\\"}}", "x".repeat(284))
}

fn fill(server: &Server, url: &str, count: usize) -> anyhow::Result<()> {
    server.with_account(|account, now| {
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        account.create_queue(
            now,
            &CreateQueue {
                queue_name: name,
                ..CreateQueue::default()
            },
        )?;
        for _ in 0..count {
            let message_body = body();
            account.send_message(
                now,
                SendMessage {
                    queue_url: url.into(),
                    message_body,
                    ..SendMessage::default()
                },
            )?;
        }
        Ok(())
    })
}

async fn measure(endpoint: String, orders: mpsc::Sender<Ask>) -> anyhow::Result<String> {
    let mut table = format!(
        "CPU of the endpoint's thread, µs a message of 300 bytes; {MESSAGES} messages in batches of ten over {CONNECTIONS} connections.\n\n\
         | messages in the queue | send | receive | delete | all three | messages/s of one core |\n|---|---|---|---|---|---|\n"
    );
    for depth in DEPTHS {
        let url = format!("{endpoint}/000000000000/depth-{depth}");
        ask(&orders, Order::Fill(url.clone(), depth)).await?;
        let receive =
            format!("{{\"QueueUrl\":\"{url}\",\"MaxNumberOfMessages\":10,\"VisibilityTimeout\":600}}");
        let mut nanos = [0; 3];
        // A little at a time: the depth stays what it is.
        for _ in 0..MESSAGES / ROUND {
            let before = ask(&orders, Order::Cpu).await?;
            phase(&endpoint, |_| send_body(&url)).await?;
            let sent = ask(&orders, Order::Cpu).await?;
            let answers = phase(&endpoint, |_| ("ReceiveMessage", receive.clone())).await?;
            let received = ask(&orders, Order::Cpu).await?;
            let deletes = answers
                .iter()
                .map(|answer| delete_body(&url, answer))
                .collect::<Result<Vec<_>, _>>()?;
            phase(&endpoint, |at| ("DeleteMessageBatch", deletes[at].clone())).await?;
            let deleted = ask(&orders, Order::Cpu).await?;
            for (sum, spent) in nanos
                .iter_mut()
                .zip([sent - before, received - sent, deleted - received])
            {
                *sum += spent;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let [send, receive, delete] = nanos.map(|nanos| nanos as f64 / 1000.0 / MESSAGES as f64);
        let all = send + receive + delete;
        writeln!(
            table,
            "| {depth} | {send:.2} | {receive:.2} | {delete:.2} | {all:.2} | {:.0} |",
            1e6 / all
        )?;
    }
    Ok(table)
}

async fn ask(orders: &mpsc::Sender<Ask>, order: Order) -> anyhow::Result<u64> {
    let (reply, answer) = oneshot::channel();
    orders.send((order, reply)).await?;
    Ok(answer.await?)
}

fn send_body(url: &str) -> (&'static str, String) {
    let body = body();
    let entries: Vec<String> = (0..10)
        .map(|n| format!("{{\"Id\":\"{n}\",\"MessageBody\":\"{body}\"}}"))
        .collect();
    (
        "SendMessageBatch",
        format!("{{\"QueueUrl\":\"{url}\",\"Entries\":[{}]}}", entries.join(",")),
    )
}

fn delete_body(url: &str, answer: &[u8]) -> anyhow::Result<String> {
    let received: Received = serde_json::from_slice(answer)?;
    anyhow::ensure!(
        received.messages.len() == 10,
        "a receive gave {} messages",
        received.messages.len()
    );
    let entries = received.messages.iter().enumerate();
    let entries =
        entries.map(|(n, m)| format!("{{\"Id\":\"{n}\",\"ReceiptHandle\":\"{}\"}}", m.receipt_handle));
    Ok(format!(
        "{{\"QueueUrl\":\"{url}\",\"Entries\":[{}]}}",
        entries.collect::<Vec<_>>().join(",")
    ))
}

/// Sends the requests over all connections at once; gives the answers.
async fn phase(
    endpoint: &str,
    request: impl Fn(usize) -> (&'static str, String),
) -> anyhow::Result<Vec<Bytes>> {
    let per_connection = ROUND / 10 / CONNECTIONS;
    let mut tasks = Vec::new();
    for connection in 0..CONNECTIONS {
        let requests: Vec<_> = (0..per_connection)
            .map(|n| request(connection * per_connection + n))
            .collect();
        let stream = TcpStream::connect(endpoint.trim_start_matches("http://")).await?;
        stream.set_nodelay(true)?;
        let (mut sender, driver) = handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        tasks.push(tokio::spawn(async move {
            let mut answers = Vec::with_capacity(requests.len());
            for (action, body) in requests {
                answers.push(call(&mut sender, action, body).await?);
            }
            anyhow::Ok(answers)
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await??);
    }
    Ok(answers)
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, action: &str, body: String) -> anyhow::Result<Bytes> {
    let request = Request::post("/")
        .header("host", "localhost")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("AmazonSQS.{action}"))
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    anyhow::ensure!(
        answer.status().is_success(),
        "{action} answered {}",
        answer.status()
    );
    Ok(answer.into_body().collect().await?.to_bytes())
}
