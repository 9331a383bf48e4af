//! A rollout as a pure state machine: a state and an event in, the next state and what is to be done out.
//!
//! No clock, no network, no `async`: the [`drive`](crate::drive) module brings events in and carries actions out.
//!
//! **Standing actions.** Each phase names the actions that must hold while it lasts ([`Action`], all idempotent). A transition's
//! actions are those that stand in the new phase and did not in the old one. A tool that is started again repeats all that stand
//! in the phase it finds, so nothing needs to be known about where the one before it was cut off.
//!
//! **Undo.** Beside each action stands what takes it back ([`Action::undo`]). A rollback is made of those.

pub mod action;
pub mod course;
pub mod event;
mod machine;
pub mod state;
#[cfg(test)]
mod walk;

pub use action::{Action, Count, Limit};
pub use course::Course;
pub use event::{Ask, Event, Facts, Happening, Judgement, Seen, Sight};
pub use machine::{Transition, begin, step};
pub use state::{Definition, Hold, HoldReason, Kind, Outcome, Phase, Reason, Revision, State, Undoing};
