//! `canary demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::driving::cancel_on_signal;
use super::whole;
use crate::demo::{self, Options};

/// A queue, a stream of orders and four releases on this machine: two promoted, two rolled back, every order accounted for.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Orders a second, 50 to 5000.
    #[arg(long, default_value_t = 500, value_parser = |text: &str| whole::<u32>(text, 50..=5000, "orders a second"))]
    rate: u32,
    /// On LocalStack instead of the embedded queue: at AWS_ENDPOINT_URL, else http://127.0.0.1:4566.
    #[arg(long)]
    localstack: bool,
    /// Instead: measures how fast bad releases are contained, suspected, decided on and removed, each in so many rounds, 1 to 50 (3 without a number).
    #[arg(long, value_name = "ROUNDS", num_args = 0..=1, default_missing_value = "3", conflicts_with = "keep",
          value_parser = |text: &str| whole::<u32>(text, 1..=50, "rounds"))]
    times: Option<u32>,
    /// Leaves queue, orders and workers running at the end, with addresses to look at, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Where logs, journals and reports go. Default: a new directory among the temporary files.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let localstack = self.localstack.then(|| {
                let given = std::env::var("AWS_ENDPOINT_URL")
                    .ok()
                    .filter(|url| !url.is_empty());
                given.unwrap_or_else(|| "http://127.0.0.1:4566".to_owned())
            });
            let options = Options {
                rate: self.rate,
                localstack,
                times: self.times,
                keep: self.keep,
                directory: self.directory.clone().unwrap_or_else(demo::directory),
            };
            let stop = CancellationToken::new();
            let signals = tokio::spawn(cancel_on_signal(stop.clone())?);
            let result = demo::run(&options, &stop).await;
            signals.abort();
            result.map(|()| ExitCode::SUCCESS)
        })
    }
}
