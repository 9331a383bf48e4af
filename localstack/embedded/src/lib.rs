//! The wire protocol of Amazon SQS in one small process, in memory.
//!
//! For demos, tests and benchmarks: not a product to run queues on. Three layers, each usable alone:
//!
//! - [`model`]: the queues, a pure state machine with the clock passed in;
//! - [`faults`]: seeded faults that production never has on demand;
//! - [`server`]: both behind HTTP, with real long polling and a clock that can be set.

pub mod faults;
pub mod model;
pub mod server;
