//! The release tool's binary.

use std::process::ExitCode;

use canary::command::{self, Arguments, Exit};
use clap::Parser;
use worker::handlers::ReadyMade;

fn main() -> ExitCode {
    // Not in the help: workers of the demo and of the tests are this binary itself.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == "worker")
    {
        let arguments = std::env::args_os().skip(1);
        return worker::cli::main_from(arguments, ReadyMade::new);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not mistakes. A closed terminal cannot be told anything.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    canary::logging::start();
    command::run(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
