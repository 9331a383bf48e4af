//! One suite of what AWS documents of SQS, run against the model in process, against the endpoint through the AWS SDK, against
//! LocalStack, whose differences are known ([`localstack::DIFFERS`]), and, when `CONFORMANCE_ENDPOINT` names one, against any other
//! endpoint:
//!
//! ```text
//! cargo test --workspace --test conformance
//! CONFORMANCE_ENDPOINT=http://127.0.0.1:4567 cargo test --workspace --test conformance given
//! ```
//!
//! With `CONFORMANCE_ENDPOINT=aws` the SDK's own endpoint and the credentials of the environment are used.
//! The cases are listed at run time, hence the harness of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only functions marked #[test]"
)]

mod cases;
mod localstack;
mod model;
mod peer;
mod sdk;

use libtest_mimic::{Arguments, Failed, Trial};

use peer::{Peer, World};

fn main() {
    let arguments = Arguments::from_args();
    localstack::watch_panics();
    let as_documented = |_: &str, case: &dyn Fn() -> Result<(), Failed>| case();
    let mut trials = cases::trials("model", model::ModelPeer::start, as_documented);
    trials.extend(cases::trials("endpoint", sdk::SdkPeer::start, as_documented));
    trials.extend(cases::trials(
        "localstack",
        sdk::SdkPeer::localstack,
        |name, case| localstack::judged(name, case),
    ));
    trials.push(known_differences(&trials));
    if std::env::var_os("CONFORMANCE_ENDPOINT").is_some() {
        trials.extend(cases::trials("given", sdk::SdkPeer::given, as_documented));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A case that is renamed must be renamed among LocalStack's differences.
fn known_differences(trials: &[Trial]) -> Trial {
    let names: Vec<_> = trials.iter().map(|trial| trial.name().to_owned()).collect();
    Trial::test("localstack::every_difference_is_a_case", move || {
        let is_case = |name: &&str| names.contains(&format!("localstack::{name}"));
        match localstack::DIFFERS.iter().find(|name| !is_case(name)) {
            Some(name) => Err(Failed::from(format!("there is no case {name}"))),
            None => Ok(()),
        }
    })
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
