//! A queue worker for Amazon SQS that knows which release it is.
//!
//! [`consumer::Consumer`] drains a [`queue::Queue`] with a [`handler::Handler`]. Everything it says and counts carries
//! the [`release::Identity`] of the process. See `docs/architecture.md` for how the parts fit together.

pub mod admin;
pub mod attempt;
pub mod breaker;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod control;
pub mod ecs;
pub mod envelope;
pub mod events;
pub mod evidence;
pub mod failure;
pub mod gate;
pub mod handler;
pub mod handlers;
mod http_client;
pub mod lease;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod queue;
pub mod release;
pub mod retry;
pub mod settle;
pub mod shutdown;
pub mod trace;

#[cfg(feature = "sqs")]
pub mod cli;
#[cfg(feature = "sqs")]
pub mod preflight;
#[cfg(feature = "sqs")]
pub mod run;
#[cfg(feature = "sqs")]
pub mod send;
#[cfg(feature = "sqs")]
pub mod sqs;

#[cfg(test)]
mod outside;
#[cfg(test)]
mod reference;
