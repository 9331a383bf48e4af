//! A handler of decoded bodies, with a reason of its own and a dependency that may be down.
//!
//! `cargo run --example typed`, with the settings of a worker; a message is `{"to": "a@b.example", "text": "hi"}`.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use worker::handler::{Context, Json, JsonHandler, Outcome, Reason};
use worker::message::Message;

/// A label of the metrics, so it is declared: `worker_attempts_total{outcome="reject",reason="bad_address"}`.
const BAD_ADDRESS: Reason = Reason::new("bad_address");

#[derive(Deserialize)]
struct Mail {
    to: String,
    text: String,
}

/// Sends mails. A real one would keep the ids of what it sent where they outlive the process.
#[derive(Default)]
struct Mailer {
    sent: Mutex<HashSet<String>>,
}

impl JsonHandler for Mailer {
    type Body = Mail;

    async fn handle(&self, mail: Mail, _: &Message, context: &Context) -> Outcome {
        if !mail.to.contains('@') {
            return Outcome::reject(BAD_ADDRESS, format!("{:?} is no address", mail.to));
        }
        // A message can come twice: the original id tells, also after it was copied to another queue and back.
        let key = context.original_message_id().to_owned();
        if self
            .sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&key)
        {
            return Outcome::Done;
        }
        match post(&mail).await {
            Ok(()) => {
                self.sent
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key);
                Outcome::Done
            }
            // Not the message's fault: it is kept, and no receive is spent.
            Err(error) => Outcome::Unavailable {
                after: Some(Duration::from_secs(5)),
                error,
            },
        }
    }

    fn reasons(&self) -> &[Reason] {
        &[BAD_ADDRESS]
    }
}

/// Stands for a call over the network.
async fn post(mail: &Mail) -> Result<(), String> {
    tracing::info!(to = mail.to, characters = mail.text.len(), "mail posted");
    Ok(())
}

fn main() -> ExitCode {
    worker::cli::main(|_| Json(Mailer::default()))
}
