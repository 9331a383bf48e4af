//! What production never has on demand: seeded faults.
//!
//! A [`FaultPlan`] says which faults hit which actions with what probability. [`Faults`] decides, call by call, by a seeded
//! generator: the same plan and the same sequence of calls give the same faults. The HTTP endpoint uses it, and so can a
//! caller of the model:
//!
//! ```
//! use embedded_sqs::faults::{FaultKind, FaultPlan, Faults, Outcome, Rule};
//! use embedded_sqs::model::action::{Action, ReceiveMessage};
//!
//! let rule = Rule::on(Action::ReceiveMessage, FaultKind::AnswerLost, 1.0);
//! let mut faults = Faults::new(FaultPlan { seed: 7, rules: vec![rule] });
//! let decision = faults.decide(Action::ReceiveMessage);
//! assert!(decision.outcome.executes());
//! // What is to happen inside the queues goes along with the request.
//! let request = ReceiveMessage { disturbance: decision.disturbance, ..ReceiveMessage::default() };
//! // Carry the request out, then treat its answer as the outcome says.
//! assert_eq!(decision.outcome, Outcome::AnswerLost);
//! # drop(request);
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::action::{Action, Disturbance};
use crate::model::{Error, ErrorCode, MAX_BATCH_ENTRIES};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum FaultKind {
    /// The request never arrives: nothing happens and no answer comes.
    RequestLost,
    /// The action is carried out and no answer comes.
    AnswerLost,
    /// The action is carried out and the connection ends in the middle of the answer.
    AnswerCut,
    /// Nothing happens; the answer is a 500.
    ServerError,
    /// The action is carried out; the answer is a 500 all the same.
    ServerErrorAfter,
    /// Nothing happens; the answer is a 503.
    Unavailable,
    /// Nothing happens; the answer says that requests come too fast.
    Throttle,
    /// The answer comes later, by a time between these bounds in milliseconds.
    Delay {
        /// Least.
        min_ms: u64,
        /// Most.
        max_ms: u64,
    },
    /// Each entry of a batch fails with the rule's probability, and the call succeeds.
    FailEntry,
    /// Each message of a receive stays visible with the rule's probability, so it is delivered again.
    Duplicate,
    /// A receive takes messages from anywhere near the front of a standard queue.
    Reorder,
    /// A short poll finds nothing although messages are there.
    Miss,
}

/// One fault, the actions it hits and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The actions; all when empty.
    #[serde(default)]
    pub actions: Vec<Action>,
    /// The fault.
    pub fault: FaultKind,
    /// From 0 (never) to 1 (always); for [`FaultKind::FailEntry`] and [`FaultKind::Duplicate`] by entry.
    pub probability: f64,
}

impl Rule {
    /// A rule for one action.
    pub fn on(action: Action, fault: FaultKind, probability: f64) -> Self {
        Self {
            actions: vec![action],
            fault,
            probability,
        }
    }

    /// A rule for every action.
    pub fn everywhere(fault: FaultKind, probability: f64) -> Self {
        Self {
            actions: Vec::new(),
            fault,
            probability,
        }
    }
}

/// Which faults are to happen. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Seeds the decisions.
    #[serde(default)]
    pub seed: u64,
    /// Looked at in order: of the faults that end a call the first counts, delays add up.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

impl FaultPlan {
    /// Checks probabilities and bounds.
    ///
    /// # Errors
    /// One sentence that names the rule, the field, its value and what is expected.
    pub fn check(&self) -> Result<(), String> {
        for (index, rule) in self.rules.iter().enumerate() {
            if !(0.0..=1.0).contains(&rule.probability) {
                return Err(format!(
                    "rules[{index}].probability is {}, expected a number from 0 to 1",
                    rule.probability
                ));
            }
            if let FaultKind::Delay { min_ms, max_ms } = rule.fault
                && (min_ms > max_ms || max_ms > 3_600_000)
            {
                return Err(format!(
                    "rules[{index}].fault has min_ms {min_ms} and max_ms {max_ms}, expected min_ms <= max_ms <= 3600000"
                ));
            }
        }
        Ok(())
    }
}

/// How a call ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// As it would without faults.
    #[default]
    Normal,
    /// Not carried out, no answer.
    RequestLost,
    /// Not carried out, answered with this error.
    Refused(ErrorCode),
    /// Carried out, answered with this error.
    FailedAfter(ErrorCode),
    /// Carried out, no answer.
    AnswerLost,
    /// Carried out, half an answer.
    AnswerCut,
}

impl Outcome {
    /// Whether the action is carried out.
    pub const fn executes(self) -> bool {
        !matches!(self, Outcome::RequestLost | Outcome::Refused(_))
    }

    /// The error that answers instead of the result.
    pub fn error(self) -> Option<Error> {
        match self {
            Outcome::Refused(code) | Outcome::FailedAfter(code) => {
                Some(Error::new(code, "An injected fault."))
            }
            Outcome::Normal | Outcome::RequestLost | Outcome::AnswerLost | Outcome::AnswerCut => None,
        }
    }

    /// Whether the caller gets a whole answer.
    pub const fn answers(self) -> bool {
        !matches!(
            self,
            Outcome::RequestLost | Outcome::AnswerLost | Outcome::AnswerCut
        )
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    /// How it ends.
    pub outcome: Outcome,
    /// How much later the answer comes.
    pub delay: Duration,
    /// What happens inside the queues; goes along with the request.
    pub disturbance: Disturbance,
}

/// Decides which calls are hit.
#[derive(Debug, Clone)]
pub struct Faults {
    plan: FaultPlan,
    random: fastrand::Rng,
}

impl Faults {
    /// Decisions by this plan, from its seed on. Probabilities outside 0–1 count as never or always.
    pub fn new(plan: FaultPlan) -> Self {
        Self {
            random: fastrand::Rng::with_seed(plan.seed),
            plan,
        }
    }

    /// The plan in force.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// Decides what happens to the next call.
    pub fn decide(&mut self, action: Action) -> Decision {
        let mut decision = Decision::default();
        for rule in &self.plan.rules {
            if rule.actions.is_empty() || rule.actions.contains(&action) {
                apply(rule, &mut self.random, &mut decision);
            }
        }
        decision
    }
}

fn apply(rule: &Rule, random: &mut fastrand::Rng, decision: &mut Decision) {
    let mut hit = || random.f64() < rule.probability;
    let outcome = match rule.fault {
        FaultKind::FailEntry => {
            decision.disturbance.failed_entries |= mask(&mut hit);
            return;
        }
        FaultKind::Duplicate => {
            decision.disturbance.duplicates |= mask(&mut hit);
            return;
        }
        _ if !hit() => return,
        FaultKind::Delay { min_ms, max_ms } => {
            decision.delay += Duration::from_millis(random.u64(min_ms..=max_ms.max(min_ms)));
            return;
        }
        FaultKind::Reorder => {
            decision.disturbance.shuffle = Some(random.u64(..));
            return;
        }
        FaultKind::Miss => {
            decision.disturbance.miss = true;
            return;
        }
        FaultKind::RequestLost => Outcome::RequestLost,
        FaultKind::AnswerLost => Outcome::AnswerLost,
        FaultKind::AnswerCut => Outcome::AnswerCut,
        FaultKind::ServerError => Outcome::Refused(ErrorCode::InternalError),
        FaultKind::ServerErrorAfter => Outcome::FailedAfter(ErrorCode::InternalError),
        FaultKind::Unavailable => Outcome::Refused(ErrorCode::ServiceUnavailable),
        FaultKind::Throttle => Outcome::Refused(ErrorCode::RequestThrottled),
    };
    if decision.outcome == Outcome::Normal {
        decision.outcome = outcome;
    }
}

fn mask(hit: &mut impl FnMut() -> bool) -> u16 {
    (0..MAX_BATCH_ENTRIES).fold(0, |mask, entry| if hit() { mask | 1 << entry } else { mask })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(seed: u64) -> Vec<Decision> {
        let rules = vec![
            Rule::everywhere(FaultKind::Delay { min_ms: 1, max_ms: 9 }, 0.5),
            Rule::on(Action::SendMessageBatch, FaultKind::FailEntry, 0.3),
            Rule::everywhere(FaultKind::Throttle, 0.2),
        ];
        let mut faults = Faults::new(FaultPlan { seed, rules });
        (0..500)
            .map(|_| faults.decide(Action::SendMessageBatch))
            .collect()
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(decisions(1), decisions(1));
        assert_ne!(decisions(1), decisions(2));
    }

    #[test]
    fn probabilities_are_kept() {
        let all = decisions(3);
        let throttled = all
            .iter()
            .filter(|d| d.outcome == Outcome::Refused(ErrorCode::RequestThrottled))
            .count();
        let delayed = all.iter().filter(|d| d.delay > Duration::ZERO).count();
        let failed: u32 = all
            .iter()
            .map(|d| d.disturbance.failed_entries.count_ones())
            .sum();
        assert!((60..140).contains(&throttled), "{throttled} of 500 at 0.2");
        assert!((200..300).contains(&delayed), "{delayed} of 500 at 0.5");
        assert!((1300..1700).contains(&failed), "{failed} of 5000 at 0.3");
    }

    #[test]
    fn rules_hit_only_their_actions() {
        let rule = Rule::on(Action::DeleteMessage, FaultKind::RequestLost, 1.0);
        let mut faults = Faults::new(FaultPlan {
            seed: 0,
            rules: vec![rule],
        });
        assert_eq!(faults.decide(Action::SendMessage), Decision::default());
        assert_eq!(faults.decide(Action::DeleteMessage).outcome, Outcome::RequestLost);
    }

    #[test]
    fn a_plan_out_of_bounds_names_the_rule() {
        for (fault, probability, field) in [
            (FaultKind::Miss, 1.5, "rules[0].probability"),
            (FaultKind::Miss, f64::NAN, "rules[0].probability"),
            (FaultKind::Delay { min_ms: 2, max_ms: 1 }, 0.5, "min_ms 2"),
        ] {
            let plan = FaultPlan {
                seed: 0,
                rules: vec![Rule::everywhere(fault, probability)],
            };
            assert!(plan.check().unwrap_err().contains(field));
        }
    }
}
