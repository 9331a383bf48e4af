//! The endpoint over HTTP: polling, faults, limits, and whatever bytes may come.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only functions marked #[test]"
)]

mod aws_cli;
mod client;
mod faults;
mod limits;
mod polling;
mod wire;
