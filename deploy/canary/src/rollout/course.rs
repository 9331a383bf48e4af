//! What a rollout goes by: the plan, and the times that are the tool's and not the plan's.

use crate::judge::verdict::Situation;
use crate::moment::Moment;
use crate::plan::Plan;

use super::state::{Phase, State};

/// The plan and the tool's own limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// The plan.
    pub plan: Plan,
    /// Seconds that processes may take until they are ready.
    pub ready_within: u32,
    /// Seconds until a hold expires for which nobody said how long.
    pub hold: u32,
}

/// Seconds of [`Course::hold`] unless said otherwise.
pub const HOLD: u32 = 3600;

impl Course {
    /// A course by `plan` with the usual limits: 5 minutes to get ready, holds of an hour.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            ready_within: 300,
            hold: HOLD,
        }
    }

    /// What the judge must know of the rollout at `now`, with `messages` of the canary judged so far.
    #[must_use]
    pub fn situation(&self, state: &State, now: Moment, messages: u64) -> Situation {
        let nothing = Situation {
            deadline_passed: false,
            last_step: false,
            least_time_reached: false,
            least_messages_reached: false,
            least_evidence: 0.0,
        };
        let Phase::Step {
            index,
            since,
            messages: before,
        } = state.phase
        else {
            return nothing;
        };
        let Some(step) = self.plan.steps.get(index) else {
            return nothing;
        };
        Situation {
            deadline_passed: state.deadline.is_some_and(|deadline| now >= deadline),
            last_step: index + 1 == self.plan.steps.len() || state.baseline.is_none(),
            least_time_reached: now.since(since).as_secs() >= u64::from(step.least_time),
            least_messages_reached: messages.saturating_sub(before) >= step.least_messages,
            least_evidence: step.least_evidence.ln(),
        }
    }
}
