//! Rollouts with real processes: the binary, its workers, signals, and the embedded queue.
//!
//! Two at a time: the machine of CI has two cores.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]

mod ground;
mod killed;
mod left;
mod localstack;
mod newer;
mod people;
mod refused;
mod releases;
mod sick;
mod told;
