//! The command line. An application with a handler of its own gets the same one by [`main`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::time::Instant;

use crate::config::source::Source;
use crate::config::{Locator, Settings};
use crate::ecs::{self, Known};
use crate::handler::Handler;
use crate::logging::SpanLayer;
use crate::sqs::Sqs;
use crate::{admin, logging, preflight, send};

/// The exit code for settings and usage that are wrong (`EX_USAGE` of `sysexits.h`).
pub const EXIT_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(
    name = "worker",
    version,
    about = "Drains an SQS queue, and knows which release it is"
)]
struct Arguments {
    /// A TOML file with settings; WORKER__SECTION__KEY in the environment goes before it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Drain the queue until SIGTERM or SIGINT (the default)
    Run,
    /// Check settings and queues, and do nothing else: nothing is received
    Check,
    /// Show the settings in force as TOML, each with where it comes from; users and passwords in URLs are hidden
    Config,
    /// Ask the worker that runs here whether it is alive, for 3 s at most; the health check of a container without a shell
    Health,
    /// Send messages to the queue: each line of a file, or of standard input, is one
    Send(send::Arguments),
}

/// The command line as clap knows it: for pages that list it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line with the handler that `build` makes of the settings.
///
/// 0: ended as asked; 1: an error; 64: wrong settings or usage.
pub fn main<H: Handler>(build: impl FnOnce(&Settings) -> H) -> ExitCode {
    main_from(std::env::args_os(), build)
}

/// As [`main`], for a binary that is more than a worker: `arguments` begin with the name to be shown in help and errors.
pub fn main_from<H: Handler>(
    arguments: impl IntoIterator<Item = OsString>,
    build: impl FnOnce(&Settings) -> H,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to standard output. A closed one is nobody's loss.
            let _ = error.print();
            return if error.use_stderr() {
                EXIT_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(start(arguments, build));
    // Blocking work of a handler that does not end must not hold up the exit.
    runtime.shutdown_background();
    code
}

/// Reads the settings, and does what was asked.
async fn start<H: Handler>(arguments: Arguments, build: impl FnOnce(&Settings) -> H) -> ExitCode {
    let variables: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let mut source = match Source::load(arguments.config.as_deref(), variables.clone()) {
        Ok(source) => source,
        Err(problem) => return refuse(&[problem]),
    };
    let command = arguments.command.unwrap_or(Command::Run);
    if let Command::Send(arguments) = &command {
        return match Settings::check_for_sending(&source) {
            Ok((locator, timeout)) => send(&locator, timeout, arguments).await,
            Err(problems) => refuse(&problems),
        };
    }
    let mut known = Known::default();
    if matches!(command, Command::Health) {
        // Which release it is does not matter to the question, and asking ECS every few seconds has a limit.
        source.offer("release", "unknown", "the health check");
    } else {
        known = match ecs::identify(&mut source, &variables).await {
            Ok(known) => known,
            Err(error) => return failed(&error),
        };
    }
    let mut settings = match Settings::check(&source) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    if matches!(command, Command::Config) {
        print!("{}", source.describe());
        return ExitCode::SUCCESS;
    }
    settings.ecs.known = known;
    settings.ecs.agent = variables.get(ecs::AGENT_VARIABLE).cloned();
    execute(command, settings, build).await
}

async fn execute<H: Handler>(
    command: Command,
    settings: Settings,
    build: impl FnOnce(&Settings) -> H,
) -> ExitCode {
    match command {
        // These two were answered before.
        Command::Config | Command::Send(_) => ExitCode::SUCCESS,
        Command::Health => match admin::ask(settings.admin, "/livez", Duration::from_secs(3)).await {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::Check => {
            let sqs = Sqs::from_environment(settings.request_timeout).await;
            match preflight::run(&sqs, &settings).await {
                Ok(queues) => {
                    println!(
                        "ok: release {} ({}) drains {} and copies failures to {}",
                        settings.identity.release,
                        settings.identity.track,
                        queues.main.1.name(),
                        queues.dead_letter.1.name()
                    );
                    ExitCode::SUCCESS
                }
                Err(error) => failed(&error),
            }
        }
        Command::Run => {
            #[cfg(feature = "otlp")]
            let (exporter, spans) = match exporter(&settings) {
                Ok(exporter) => {
                    let spans = exporter
                        .as_ref()
                        .map(|exporter| Box::new(exporter.layer()) as SpanLayer);
                    (exporter, spans)
                }
                Err(error) => return failed(&error),
            };
            #[cfg(not(feature = "otlp"))]
            let spans: Option<SpanLayer> = None;
            if let Err(error) = logging::start_with(&settings.log, &settings.identity, spans) {
                return failed(&error);
            }
            let handler = build(&settings);
            let code = match crate::run::run(settings, handler).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(error = %error, "worker failed");
                    ExitCode::FAILURE
                }
            };
            #[cfg(feature = "otlp")]
            if let Some(exporter) = exporter {
                // It blocks, and needs the runtime meanwhile. A panic in it is nobody's loss.
                let _ = tokio::task::spawn_blocking(move || exporter.shutdown()).await;
            }
            code
        }
    }
}

/// What exports spans, where that is asked for.
#[cfg(feature = "otlp")]
fn exporter(settings: &Settings) -> Result<Option<crate::trace::otlp::Spans>, String> {
    let Some(otlp) = &settings.otlp else {
        return Ok(None);
    };
    let service = settings
        .ecs
        .known
        .task
        .as_ref()
        .and_then(|task| task.service.clone());
    let options = crate::trace::otlp::Options {
        endpoint: otlp.endpoint.clone(),
        sample_ratio: otlp.sample_ratio,
        service: std::env::var("OTEL_SERVICE_NAME")
            .ok()
            .or(service)
            .unwrap_or_else(|| "worker".to_owned()),
    };
    crate::trace::otlp::Spans::start(&options, &settings.identity).map(Some)
}

async fn send(locator: &Locator, timeout: Duration, arguments: &send::Arguments) -> ExitCode {
    let began = Instant::now();
    let sqs = Sqs::from_environment(timeout).await;
    let summary = match send::run(&sqs, locator, arguments).await {
        Ok(summary) => summary,
        Err(error) => return failed(&error),
    };
    let name = match locator {
        Locator::Url(url) => url.rsplit('/').next().unwrap_or(url),
        Locator::Name(name) => name,
    };
    let (text, problems) = send::report(&summary, name, began.elapsed());
    for problem in &problems {
        eprintln!("worker: {problem}");
    }
    println!("{text}");
    if summary.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("worker: {line}");
    }
    ExitCode::FAILURE
}

fn refuse(problems: &[crate::config::source::Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("worker: {problem}");
    }
    EXIT_USAGE.into()
}
