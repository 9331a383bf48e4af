//! The queue worker's binary: the command line of [`worker::cli`] with the ready-made handlers.

use std::process::ExitCode;

use worker::handler::Json;
use worker::handlers::orders::Orders;

fn main() -> ExitCode {
    worker::cli::main(|settings| Json(Orders::new(settings.orders)))
}
