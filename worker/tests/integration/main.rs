//! The worker on the real wire: its binary, real signals, and LocalStack, which `localstack/start` brings up.
//!
//! Each test has queues of its own. Where LocalStack cannot run (neither Docker nor a Python) the tests say so loudly
//! and pass; with `CI=true` they fail.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]
#![expect(clippy::float_cmp, reason = "the samples compared are whole numbers")]

mod application;
mod bad_inputs;
#[cfg(feature = "cloudwatch")]
mod cloudwatch;
mod crash;
mod drain;
mod ecs;
mod envelope;
mod fifo;
mod handover;
mod localstack;
mod outage;
mod process;
mod proxy;
mod send;
mod share;
mod shutdown;
#[cfg(feature = "ssm")]
mod ssm;
mod startup;
#[cfg(feature = "otlp")]
mod traces;
