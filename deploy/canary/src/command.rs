//! The command line.

mod ask;
#[cfg(feature = "demo")]
mod demo;
mod differences;
mod driving;
mod exit;
mod exporter;
mod fleet;
mod history;
pub(crate) mod lines;
mod redrive;
pub(crate) mod report;
mod rollout;
mod simulate;
mod source;
mod status;
#[cfg(feature = "lambda")]
mod watchdog;

use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::plan::Plan;
use crate::reader;

pub use exit::Exit;

/// Releases SQS queue workers by canary.
#[derive(Debug, Parser)]
#[command(name = "canary", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A queue, a stream of orders and four releases on this machine: what all of this does, in two minutes.
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// What a plan says.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// What a plan will do at some traffic: how long until a regression is caught, how often a good release is refused.
    Simulate(simulate::Simulate),
    /// Takes a release through its plan: canary, comparison, promotion, bake. Started again, it goes on where it was.
    Rollout(rollout::Rollout),
    /// Promotes now, whatever is still to come of the plan.
    Promote(ask::Promote),
    /// Stops the rollout from going forward. What harms is rolled back all the same.
    Pause(ask::Pause),
    /// Goes on after a pause, or gives an inconclusive rollout its deadline once more.
    Resume(ask::Resume),
    /// Rolls back what is under way.
    Abort(ask::Abort),
    /// Puts a release back that was stable before.
    Rollback(rollout::Rollback),
    /// The worker processes of this machine, while no rollout is under way.
    Fleet(fleet::Fleet),
    /// Makes a rollout on AWS safe when the tool that drove it is gone.
    #[cfg(feature = "lambda")]
    Watchdog(watchdog::Watchdog),
    /// Sends dead letters back to the queue they came from: those of a release, say, that was rolled back.
    Redrive(redrive::Redrive),
    /// Where a rollout stands.
    Status(status::Status),
    /// What became of a rollout and why: a page, JSON or text.
    Report(report::Report),
    /// The rollouts so far.
    History(history::History),
    /// How a rollout and the queues stand, as metrics for Prometheus.
    Exporter(exporter::Export),
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// Reads a plan and names every fault with its line.
    Check {
        /// The plan, a TOML file.
        file: PathBuf,
    },
}

/// The command line as clap knows it: for pages that list it.
#[must_use]
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Does what the arguments ask for.
///
/// # Errors
/// One error with its cause: a file that cannot be read or written, a plan with faults.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Plan(PlanCommand::Check { file }) => {
            let plan = read_plan(file)?;
            println!(
                "{}: plan {:?} is right: {} steps",
                file.display(),
                plan.name,
                plan.steps.len()
            );
        }
        #[cfg(feature = "demo")]
        Command::Demo(demo) => return demo.run(),
        Command::Rollout(rollout) => return rollout.run(),
        #[cfg(feature = "lambda")]
        Command::Watchdog(watchdog) => return watchdog.run(),
        Command::Promote(promote) => return promote.run(),
        Command::Pause(pause) => return pause.run(),
        Command::Resume(resume) => return resume.run(),
        Command::Abort(abort) => return abort.run(),
        Command::Rollback(rollback) => return rollback.run(),
        Command::Fleet(fleet) => return fleet.run(),
        Command::Simulate(simulate) => simulate.run()?,
        Command::Redrive(redrive) => redrive.run()?,
        Command::Status(status) => status.run()?,
        Command::Report(report) => report.run()?,
        Command::History(history) => history.run()?,
        Command::Exporter(exporter) => return exporter.run(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of the largest file that is read as a plan.
const LARGEST_PLAN: u64 = 1 << 20;

/// A whole number of the command line; its error says what is expected.
fn whole<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>, of: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        let (least, most) = range.into_inner();
        let most = if most == u64::MAX {
            String::new()
        } else {
            format!(" to {most}")
        };
        format!("expected a whole number of {of} from {least}{most}")
    })
}

/// Runs a command that waits for things.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

fn read_plan(file: &Path) -> anyhow::Result<Plan> {
    let text = plan_text(file).with_context(|| format!("cannot read the plan {}", file.display()))?;
    Plan::read(&text).map_err(|faults| reader::told("the plan", file, &faults))
}

fn plan_text(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(LARGEST_PLAN + 1)
        .read_to_end(&mut bytes)?;
    anyhow::ensure!(
        bytes.len() as u64 <= LARGEST_PLAN,
        "it is larger than {LARGEST_PLAN} bytes, expected a short TOML file"
    );
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("line {line} is not UTF-8")
    })
}
