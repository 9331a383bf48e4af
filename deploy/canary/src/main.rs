//! The release tool's binary.

use std::process::ExitCode;

use canary::command::{self, Arguments};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not mistakes. A closed terminal cannot be told anything.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(command::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    command::run(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
