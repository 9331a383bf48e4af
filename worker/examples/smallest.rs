//! The smallest handler: prints each message. `cargo run --example smallest`, with the settings of a worker.

use std::process::ExitCode;

use worker::handler::{Context, Handler, Outcome};
use worker::message::Message;

struct Print;

impl Handler for Print {
    async fn handle(&self, message: &Message, _: &Context) -> Outcome {
        println!("{}", message.body);
        Outcome::Done
    }
}

fn main() -> ExitCode {
    worker::cli::main(|_| Print)
}
