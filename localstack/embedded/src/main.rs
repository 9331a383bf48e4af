//! `embedded-sqs`: serves queues until it is told to stop.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use embedded_sqs::faults::FaultPlan;
use embedded_sqs::model::AccountConfig;
use embedded_sqs::server::{Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

/// The wire protocol of Amazon SQS in one small process, in memory.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 9324)]
    port: u16,
    /// Address to listen on. Anyone who can reach it can read and change the queues.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Start of the queues' addresses, when clients know this endpoint by another name.
    #[arg(long)]
    public_url: Option<String>,
    /// Region in ARNs.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Seed of message ids and receipt handles.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What queues and messages may take, in MiB; sends beyond it are refused with OverLimit.
    #[arg(long, default_value_t = 2048)]
    max_memory_mib: u64,
    /// Allow a deleted queue's name, and another purge, at once instead of after a minute.
    #[arg(long)]
    no_waiting_periods: bool,
    /// File with the faults to inject from the start, as `PUT /_embedded/faults` takes them.
    #[arg(long)]
    faults: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let listen = SocketAddr::new(arguments.listen, arguments.port);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config(arguments, listen)?)
        .await
        .with_context(|| format!("cannot serve {listen}"))?;
    writeln!(std::io::stdout(), "embedded-sqs listens on {}", server.url())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(())
}

fn config(arguments: Arguments, listen: SocketAddr) -> anyhow::Result<ServerConfig> {
    let faults = match &arguments.faults {
        None => FaultPlan::default(),
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("--faults {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("--faults {}", path.display()))?
        }
    };
    let account = AccountConfig {
        region: arguments.region,
        seed: arguments.seed,
        max_bytes: arguments.max_memory_mib.saturating_mul(1 << 20),
        waiting_periods: !arguments.no_waiting_periods,
        ..AccountConfig::default()
    };
    Ok(ServerConfig {
        listen,
        public_url: arguments.public_url,
        account,
        faults,
        ..ServerConfig::default()
    })
}
