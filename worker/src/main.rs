//! The queue worker's binary: the command line of [`worker::cli`] with the ready-made handlers.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker::cli::main(worker::handlers::ReadyMade::new)
}
