//! One suite of what AWS documents of SQS, run against the model in process, against the endpoint through the AWS SDK, and,
//! when `CONFORMANCE_ENDPOINT` names one, against any other endpoint:
//!
//! ```text
//! cargo test -p embedded-sqs --test conformance
//! CONFORMANCE_ENDPOINT=http://127.0.0.1:4566 cargo test -p embedded-sqs --test conformance given
//! ```
//!
//! With `CONFORMANCE_ENDPOINT=aws` the SDK's own endpoint and the credentials of the environment are used.
//! The cases are listed at run time, hence the harness of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only functions marked #[test]"
)]

mod cases;
mod model;
mod peer;
mod sdk;

use libtest_mimic::{Arguments, Failed};

use peer::{Peer, World};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = cases::trials("model", model::ModelPeer::start);
    trials.extend(cases::trials("endpoint", sdk::SdkPeer::start));
    if std::env::var_os("CONFORMANCE_ENDPOINT").is_some() {
        trials.extend(cases::trials("given", sdk::SdkPeer::given));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Runs one case in a world of its own; its queues go away afterwards, whatever happened.
fn run<P: Peer + 'static>(
    start: impl AsyncFnOnce() -> P,
    case: impl AsyncFnOnce(&World<P>) -> Result<(), peer::Refusal>,
) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let world = World::new(start().await);
        let local = tokio::task::LocalSet::new();
        let result = local.run_until(case(&world)).await;
        world.clean_up().await;
        result.map_err(|refusal| Failed::from(format!("unexpected refusal: {refusal:?}")))
    })
}
