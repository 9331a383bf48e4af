//! Ready-made handlers.

pub mod orders;
