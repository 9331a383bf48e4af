//! The release tool for SQS queue workers.
//!
//! [`plan`] is what people write, [`judge`] compares two releases, and [`simulate`] says beforehand what a plan will do. All
//! three are pure. [`rollout`] decides what is done next, just as purely; [`journal`] is where it is written down before it is done, and
//! [`evidence`] what was counted. [`redrive`] sends back what a release dead-lettered. [`report`] and [`status`] tell people of it,
//! [`notify`] at once; [`exporter`] and `cloudwatch` show how things stand as metrics.

#[cfg(feature = "ecs")]
pub mod aws;
pub mod chart;
#[cfg(feature = "ecs")]
pub mod cloudwatch;
pub mod command;
#[cfg(feature = "demo")]
pub mod demo;
pub mod discretion;
pub mod drive;
pub mod evidence;
pub mod exporter;
pub mod fleet;
pub mod journal;
pub mod judge;
pub mod letters;
pub mod logging;
pub mod moment;
pub mod notify;
pub mod place;
pub mod plan;
mod query;
mod reader;
pub mod redrive;
#[cfg(test)]
mod reference;
pub mod report;
pub mod rollout;
pub mod settings;
pub mod simulate;
pub mod status;
#[cfg(feature = "ecs")]
pub mod watchdog;
