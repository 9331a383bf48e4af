//! `canary exporter`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use worker::sqs::Sqs;

use super::source;
use crate::exporter::{Exporter, Role, Watched, server};
use crate::journal::FileStore;
use crate::place::Journals;
use crate::redrive::REQUEST_TIMEOUT;

/// Serves how a rollout and the queues stand as metrics for Prometheus, until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Where to listen; port 0 takes a free one. Whoever reaches it sees names of releases and queues.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9465", value_parser = address)]
    listen: SocketAddr,
    /// The directory in which `canary rollout` keeps its state. It need not be there yet.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where it keeps its state on AWS, instead: s3://BUCKET/FOLDER/journal.json. It is read every 5 s at most.
    #[arg(long, value_name = "PLACE", conflicts_with = "state")]
    journal: Option<String>,
    /// The queue that the workers drain, to show how many messages are in it; may be given several times.
    #[arg(long, value_name = "URL")]
    queue: Vec<String>,
    /// The handover queue, likewise.
    #[arg(long, value_name = "URL")]
    handover: Vec<String>,
    /// The dead-letter queue, likewise.
    #[arg(long, value_name = "URL")]
    dlq: Vec<String>,
    /// Asks the exporter that listens there whether it is alive, and does nothing else: the health check of a container.
    #[arg(long)]
    health: bool,
}

/// How long an exporter may take to say that it is alive.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at a file.
const READ_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at S3: half of how often the release tool writes; some 0.20 USD a month.
const CALL_EVERY: Duration = Duration::from_secs(5);

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, as 127.0.0.1:9465".to_owned())
}

impl Export {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        if self.health {
            let asked = runtime.block_on(worker::admin::ask(self.listen, "/livez", PATIENCE));
            asked.map_err(|error| anyhow::anyhow!("no exporter on {}: {error}", self.listen))?;
        } else {
            runtime.block_on(self.serve())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(&self) -> anyhow::Result<()> {
        let lists = [
            (Role::Main, &self.queue),
            (Role::Handover, &self.handover),
            (Role::DeadLetter, &self.dlq),
        ];
        let watched = |(role, urls): (Role, &Vec<String>)| {
            urls.iter()
                .map(move |url| Watched {
                    role,
                    url: url.clone(),
                })
                .collect::<Vec<_>>()
        };
        let store = match (&self.state, &self.journal) {
            (Some(directory), _) => Some(Journals::File(FileStore::looking_at(directory))),
            (None, Some(place)) => Some(source::at(place).await?),
            (None, None) => None,
        };
        let every = if self.journal.is_some() {
            CALL_EVERY
        } else {
            READ_EVERY
        };
        let queues: Vec<Watched> = lists.into_iter().flat_map(watched).collect();
        anyhow::ensure!(
            store.is_some() || !queues.is_empty(),
            "nothing to tell of; expected --state, --journal, --queue, --handover or --dlq"
        );
        let sqs = Sqs::from_environment(REQUEST_TIMEOUT).await;
        let exporter = Exporter::new(store, every, queues, sqs);
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        println!("canary exporter on http://{}/metrics", listener.local_addr()?);
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        });
        server::serve(exporter, listener, stop).await?;
        Ok(())
    }
}
