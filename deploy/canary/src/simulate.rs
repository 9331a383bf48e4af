//! What a plan will do, before it is used: Monte Carlo over the plan's real judge.

pub mod advice;
pub mod page;
pub mod peers;
pub mod rollout;
pub mod scenario;
pub mod summary;
pub mod theory;
pub mod traffic;
