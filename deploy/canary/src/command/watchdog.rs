//! `canary watchdog`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::source::print;
use crate::watchdog::function::{Environment, RUNTIME, once, refuse, serve};

/// The largest event that is read.
const LARGEST: u64 = 1 << 20;

/// Makes a rollout on AWS safe when the tool that drove it is gone. As a Lambda function it serves events; otherwise it looks once.
///
/// Settings come from the environment: CANARY_APP, CANARY_CLUSTER, CANARY_JOURNAL, CANARY_CONTROL, CANARY_STABLE_TASK_DEFINITION,
/// CANARY_NOTIFY.
#[derive(Debug, Args)]
pub(super) struct Watchdog {
    /// The event that calls it, a JSON file, or - for standard input; without one, it is as if the clock had called.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
}

impl Watchdog {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let environment = Environment::read(|name| std::env::var(name).ok());
        if let Ok(runtime) = std::env::var(RUNTIME) {
            return super::block_on(async {
                match environment {
                    Ok(environment) => serve(environment).await?,
                    Err(error) => {
                        refuse(&runtime, &error).await;
                        return Err(error);
                    }
                }
                Ok(ExitCode::SUCCESS)
            });
        }
        let environment = environment?;
        let event = self.event()?;
        super::block_on(async {
            let outcome = once(&environment, &event).await?;
            print(&(serde_json::to_string(&outcome)? + "\n"))?;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn event(&self) -> anyhow::Result<serde_json::Value> {
        let Some(path) = &self.event else {
            return Ok(serde_json::json!({"source": "schedule"}));
        };
        let mut text = String::new();
        let read = if path.as_os_str() == "-" {
            std::io::stdin().take(LARGEST).read_to_string(&mut text)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text))
        };
        read.with_context(|| format!("--event {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("--event {}: expected JSON", path.display()))
    }
}
