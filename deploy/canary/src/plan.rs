//! The plan of a rollout: a TOML file, typed and checked, every fault at once and with its line.

pub(crate) mod fields;
pub mod unit;

use toml::de::DeTable;

use crate::judge::guard::GuardRules;
use crate::judge::rules::{Kind, Rules, Signal};
use crate::reader::{Faults, Field, Section};

pub use crate::reader::Fault;

/// The newest form of plan that is understood.
pub const SCHEMA: u32 = 1;

/// A checked plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name, for people.
    pub name: String,
    /// Seconds from the first step until the rollout must have a verdict.
    pub deadline: u32,
    /// What happens when it has none.
    pub inconclusive: Inconclusive,
    /// Messages a second that a suspected canary may still take.
    pub trickle: f64,
    /// The steps in order; at least one.
    pub steps: Vec<Step>,
    /// What the judge holds the release to.
    pub rules: Rules,
    /// The time after promotion in which the old release stays as a control group.
    pub bake: Bake,
    /// Whether a rollback sends back what the bad release dead-lettered, and how fast.
    pub redrive: Redrive,
}

/// What happens when neither harm nor harmlessness was shown by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconclusive {
    /// The canary keeps its share and people are asked. The default.
    Hold,
    /// The canary is taken away.
    Rollback,
}

/// One step of the rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The canary's share of the messages, in (0, 0.9].
    pub share: f64,
    /// Seconds it lasts at least.
    pub least_time: u32,
    /// Messages the canary has to have been judged by in this step at least.
    pub least_messages: u64,
    /// Evidence for promotion (an e-value, 1 is none) that the step must show; the last step's is 1/β whatever is here.
    pub least_evidence: f64,
}

/// The time after promotion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bake {
    /// Seconds; 0 for none.
    pub time: u32,
    /// Share of the messages that the old release keeps meanwhile.
    pub share: f64,
}

/// What happens to dead letters of a release that was rolled back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Redrive {
    /// Whether they go back to their queue.
    pub after_rollback: bool,
    /// Messages a second.
    pub rate: f64,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds were checked"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

/// Every key that a plan may have.
const KEYS: &[&[&Field]] = &[fields::FIELDS];

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Every fault of the file: syntax, unknown keys, values out of bounds, settings that contradict each other; by line.
    pub fn read(text: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::new(text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        faults.syntax(syntax, true);
        let mut root = Section::root(table.get_ref(), KEYS);
        let plan = Self::from_section(&mut root, &mut faults);
        root.finish(&mut faults);
        let list = faults.sorted();
        if list.is_empty() { Ok(plan) } else { Err(list) }
    }

    fn from_section(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Self {
        root.require(&fields::SCHEMA, faults);
        root.quantity(&fields::SCHEMA, faults);
        let name = root.text(&fields::NAME, faults);
        let name = name.unwrap_or_else(|| fields::NAME.default_text().to_owned());
        let deadline = whole(root.quantity_or_default(&fields::DEADLINE, faults));
        let inconclusive = match root.word(&fields::INCONCLUSIVE, faults) {
            "rollback" => Inconclusive::Rollback,
            _ => Inconclusive::Hold,
        };
        let trickle = root.quantity_or_default(&fields::TRICKLE, faults);
        let span = whole(root.quantity_or_default(&fields::WINDOW, faults));
        let steps = steps(root, faults);
        let rules = Rules {
            span,
            signals: signals(root, faults),
            guards: guards(root, faults),
            ..risk(root, faults)
        };
        let mut bake = root.section("bake", faults);
        let baked = Bake {
            time: whole(bake.quantity_or_default(&fields::BAKE_TIME, faults)),
            share: bake.quantity_or_default(&fields::BAKE_SHARE, faults),
        };
        bake.finish(faults);
        let mut redrive = root.section("redrive", faults);
        let redriven = Redrive {
            after_rollback: redrive.flag(&fields::AFTER_ROLLBACK, faults),
            rate: redrive.quantity_or_default(&fields::REDRIVE_RATE, faults),
        };
        redrive.finish(faults);
        let least: u64 = steps.iter().map(|step| u64::from(step.least_time)).sum();
        if least >= u64::from(deadline) {
            let message =
                format!("the steps last at least {least} s, expected less than the deadline of {deadline} s");
            root.refuse(&fields::DEADLINE, message, faults);
        }
        Self {
            name,
            deadline,
            inconclusive,
            trickle,
            steps,
            rules,
            bake: baked,
            redrive: redriven,
        }
    }
}

fn steps(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut before = 0.0;
    for mut section in root.sections("steps", faults) {
        section.require(&fields::STEP_SHARE, faults);
        let share = section.quantity(&fields::STEP_SHARE, faults).unwrap_or(before);
        if share < before {
            let message = format!(
                "found {}, expected no less than the step before, {}",
                unit::show_fraction(share),
                unit::show_fraction(before)
            );
            section.refuse(&fields::STEP_SHARE, message, faults);
        }
        before = share;
        steps.push(Step {
            share,
            least_time: whole(section.quantity_or_default(&fields::LEAST_TIME, faults)),
            least_messages: whole(section.quantity_or_default(&fields::LEAST_MESSAGES, faults)).into(),
            least_evidence: section.quantity_or_default(&fields::LEAST_EVIDENCE, faults),
        });
        section.finish(faults);
    }
    if steps.is_empty() && (!root.has("steps") || root.has_list("steps")) {
        faults.add(
            root.line,
            "steps",
            "missing, expected at least one [[steps]] with a share",
        );
    }
    steps
}

fn risk(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Rules {
    let mut section = root.section("risk", faults);
    let rules = Rules {
        alpha: section.quantity_or_default(&fields::FALSE_ROLLBACK, faults),
        beta: section.quantity_or_default(&fields::WRONG_PROMOTION, faults),
        harmless_ratio: section.quantity_or_default(&fields::HARMLESS_RATIO, faults),
        tolerated_ratio: section.quantity_or_default(&fields::TOLERATED_RATIO, faults),
        ceiling: section.quantity(&fields::CEILING, faults),
        stretch: whole(section.quantity_or_default(&fields::STRETCH_TIME, faults)),
        ..Rules::default()
    };
    if rules.tolerated_ratio <= rules.harmless_ratio {
        let message = format!(
            "found {}, expected more than harmless_ratio, {}",
            rules.tolerated_ratio, rules.harmless_ratio
        );
        section.refuse(&fields::TOLERATED_RATIO, message, faults);
    }
    section.finish(faults);
    rules
}

/// The signals with weights that sum to 1. Failures are always among them.
fn signals(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Vec<Signal> {
    let mut section = root.section("signals", faults);
    let mut signals = Vec::new();
    let mut failures = section.section("failures", faults);
    let weight = failures.quantity_or_default(&fields::FAILURES_WEIGHT, faults);
    signals.push(Signal {
        name: "failures".to_owned(),
        kind: Kind::Failures,
        weight,
    });
    failures.finish(faults);
    let mut slow = section.section("slow", faults);
    if slow.is_present() {
        let weight = slow.quantity_or_default(&fields::SLOW_WEIGHT, faults);
        let quantiles = slow
            .quantities(&fields::QUANTILES, faults)
            .unwrap_or_else(|| vec![0.5, 0.9, 0.99]);
        signals.push(Signal {
            name: "slow".to_owned(),
            kind: Kind::Slow { quantiles },
            weight,
        });
    }
    slow.finish(faults);
    let quality = section.section("quality", faults);
    for (question, mut named) in quality.named_sections(faults) {
        let weight = named.quantity_or_default(&fields::QUALITY_WEIGHT, faults);
        let name = format!("quality.{question}");
        signals.push(Signal {
            name,
            kind: Kind::Quality { question },
            weight,
        });
        named.finish(faults);
    }
    section.finish(faults);
    let sum: f64 = signals.iter().map(|signal| signal.weight).sum();
    for signal in &mut signals {
        signal.weight /= sum;
    }
    signals
}

fn guards(root: &mut Section<'_>, faults: &mut Faults<'_>) -> GuardRules {
    let mut section = root.section("guards", faults);
    let guards = GuardRules {
        silence: whole(section.quantity_or_default(&fields::SILENCE, faults)),
        crash_starts: whole(section.quantity_or_default(&fields::CRASH_STARTS, faults)),
        crash_seconds: whole(section.quantity_or_default(&fields::CRASH_TIME, faults)),
        ..GuardRules::default()
    };
    section.finish(faults);
    guards
}

#[cfg(test)]
mod tests;
