//! The command line. An application with a handler of its own gets the same one by [`main`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Settings;
use crate::config::source::Source;
use crate::handler::Handler;
use crate::sqs::Sqs;
use crate::{admin, logging, preflight};

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

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Drain the queue until SIGTERM or SIGINT (the default)
    Run,
    /// Check settings and queues, and do nothing else
    Check,
    /// Show the settings in force and where each comes from
    Config,
    /// Ask the worker that runs here whether it is alive; for container health checks
    Health,
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
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let source = match Source::load(arguments.config.as_deref(), variables) {
        Ok(source) => source,
        Err(problem) => return refuse(&[problem]),
    };
    let settings = match Settings::check(&source) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    let command = arguments.command.unwrap_or(Command::Run);
    if matches!(command, Command::Config) {
        print!("{}", source.describe());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(execute(command, settings, build));
    // Blocking work of a handler that does not end must not hold up the exit.
    runtime.shutdown_background();
    code
}

async fn execute<H: Handler>(
    command: Command,
    settings: Settings,
    build: impl FnOnce(&Settings) -> H,
) -> ExitCode {
    match command {
        Command::Config => ExitCode::SUCCESS,
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
            if let Err(error) = logging::start(&settings.log, &settings.identity) {
                return failed(&error);
            }
            let handler = build(&settings);
            match crate::run::run(settings, handler).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(error = %error, "worker failed");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("worker: {error}");
    ExitCode::FAILURE
}

fn refuse(problems: &[crate::config::source::Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("worker: {problem}");
    }
    EXIT_USAGE.into()
}
