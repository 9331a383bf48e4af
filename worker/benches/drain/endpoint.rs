//! The queues: `embedded-sqs` in a process of its own, filled in place.

use std::io::{BufRead, Write};
use std::process::Stdio;

use anyhow::{Context, Result};
use embedded_sqs::model::action::{CreateQueue, SendMessage};
use embedded_sqs::server::{Server, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::orders;

/// A running endpoint; it ends with this value, or with this process.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Where it answers.
    pub(crate) url: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Dropped last: the closed input ends it, and this makes sure.
    _child: Child,
}

impl Endpoint {
    pub(crate) async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("role=endpoint")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("the endpoint has no input")?;
        let output = child.stdout.take().context("the endpoint has no output")?;
        let mut output = BufReader::new(output).lines();
        let url = output.next_line().await?.context("the endpoint did not start")?;
        Ok(Self {
            url,
            input,
            output,
            _child: child,
        })
    }

    /// Makes a queue with a dead-letter queue and this many orders in it. Its URL.
    pub(crate) async fn fill(&mut self, orders: usize) -> Result<String> {
        self.input.write_all(format!("{orders}\n").as_bytes()).await?;
        self.output.next_line().await?.context("the endpoint ended")
    }
}

/// The role: prints its URL, then makes a queue for each number on standard input and prints the queue's URL.
pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (sender, mut orders) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    runtime.block_on(async {
        let server = Server::start(ServerConfig::default()).await?;
        writeln!(std::io::stdout(), "{}", server.url())?;
        let mut number = 0;
        while let Some(line) = orders.recv().await {
            number += 1;
            let url = fill(&server, &format!("orders-{number}"), line.parse()?)?;
            writeln!(std::io::stdout(), "{url}")?;
        }
        Ok(())
    })
}

fn fill(server: &Server, name: &str, orders: usize) -> Result<String> {
    server.with_account(|account, now| {
        let dead_letters = format!("{name}-dlq");
        for queue in [&dead_letters, name] {
            let mut create = CreateQueue {
                queue_name: queue.to_owned(),
                ..CreateQueue::default()
            };
            if queue == name {
                let arn = format!("arn:aws:sqs:us-east-1:000000000000:{dead_letters}");
                let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":5}}"#);
                create.attributes.insert("RedrivePolicy".to_owned(), policy);
            }
            account.create_queue(now, &create)?;
        }
        let url = format!("{}/000000000000/{name}", server.url());
        for n in 0..orders {
            let message = SendMessage {
                queue_url: url.clone(),
                message_body: orders::body(n),
                ..SendMessage::default()
            };
            account.send_message(now, message)?;
        }
        Ok(url)
    })
}
