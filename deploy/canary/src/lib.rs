//! The release tool for SQS queue workers.
//!
//! [`plan`] is what people write, [`judge`] compares two releases, and [`simulate`] says beforehand what a plan will do. All
//! three are pure. [`redrive`] sends back what a release dead-lettered.

pub mod command;
pub mod judge;
pub mod plan;
pub mod redrive;
pub mod simulate;
