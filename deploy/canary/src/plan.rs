//! The plan of a rollout: a TOML file, typed and checked, every fault at once and with its line.

mod reader;
pub mod unit;

use toml::de::DeTable;

use crate::judge::guard::GuardRules;
use crate::judge::rules::{Kind, Rules, Signal};
use reader::{Bounds, Faults, Section};

pub use reader::Fault;

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

const FRACTION: Bounds = Bounds {
    expected: "a rate above 0% and below 100%, as \"0.5%\" or 0.005",
    holds: |v| v > 0.0 && v < 1.0,
};
const RISK: Bounds = Bounds {
    expected: "a chance above 0% and at most 50%, as \"1%\" or 0.01",
    holds: |v| v > 0.0 && v <= 0.5,
};
const SHARE: Bounds = Bounds {
    expected: "a share above 0% and at most 90%, as \"10%\"",
    holds: |v| v > 0.0 && v <= 0.9,
};
const TIME: Bounds = Bounds {
    expected: "a time in whole seconds up to 7 days, as \"90s\" or \"10m\"",
    holds: |v| (0.0..=604_800.0).contains(&v),
};
const SPAN: Bounds = Bounds {
    expected: "a time of 1 to 300 whole seconds, as \"1s\"",
    holds: |v| (1.0..=300.0).contains(&v),
};
const RATE: Bounds = Bounds {
    expected: "a rate of messages above 0, as \"1/s\"",
    holds: |v| v > 0.0 && v <= 1e7,
};
const RATIO: Bounds = Bounds {
    expected: "a ratio from 1 to 100",
    holds: |v| (1.0..=100.0).contains(&v),
};
/// Up to five: the alternatives bet on reach 200 times this, and likelihoods are exact up to 1000.
const HARMLESS: Bounds = Bounds {
    expected: "a ratio from 1 to 5",
    holds: |v| (1.0..=5.0).contains(&v),
};
/// The first start of a task is its deployment.
const STARTS: Bounds = Bounds {
    expected: "a whole number from 2 to 1000",
    holds: |v| (2.0..=1000.0).contains(&v) && v.fract() == 0.0,
};
const COUNT: Bounds = Bounds {
    expected: "a whole number from 0 to 1000000000",
    holds: |v| (0.0..=1e9).contains(&v) && v.fract() == 0.0,
};
const EVIDENCE: Bounds = Bounds {
    expected: "an e-value from 0.01 to 1000000 (1 is no evidence)",
    holds: |v| (0.01..=1e6).contains(&v),
};
const WEIGHT: Bounds = Bounds {
    expected: "a weight above 0 and at most 1000",
    holds: |v| v > 0.0 && v <= 1000.0,
};

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds were checked"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

fn time(text: &str) -> Option<f64> {
    unit::seconds(text).map(f64::from)
}

fn number(text: &str) -> Option<f64> {
    text.replace('_', "").parse().ok()
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Every fault of the file: syntax, unknown keys, values out of bounds, settings that contradict each other; by line.
    pub fn read(text: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::new(text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        for error in syntax {
            let span = error.span().unwrap_or_default();
            let found = text.get(span.clone()).unwrap_or_default().trim();
            let message = if found.is_empty() || found.len() > 60 || found.contains('\n') {
                error.message().to_owned()
            } else {
                format!("{}: {found}", error.message())
            };
            let line = faults.line(span.start);
            faults.add(line, "", message);
        }
        let mut root = Section::root(table.get_ref());
        let plan = Self::from_section(&mut root, &mut faults);
        root.finish(&mut faults);
        let mut list = faults.list;
        list.sort_by_key(|fault| fault.line);
        if list.is_empty() { Ok(plan) } else { Err(list) }
    }

    fn from_section(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Self {
        let newest = Bounds {
            expected: "1, the only form of plan there is",
            holds: |v| v.to_bits() == f64::from(SCHEMA).to_bits(),
        };
        if root.quantity("schema", number, &newest, faults).is_none() && !root.has("schema") {
            faults.add(1, "schema", "missing, expected schema = 1");
        }
        let name = root.text("name", faults).unwrap_or_else(|| "unnamed".to_owned());
        let deadline = whole(root.quantity("deadline", time, &TIME, faults).unwrap_or(2700.0));
        let choices = [("hold", Inconclusive::Hold), ("rollback", Inconclusive::Rollback)];
        let inconclusive = root
            .choice("inconclusive", &choices, faults)
            .unwrap_or(Inconclusive::Hold);
        let trickle = root.quantity("trickle", unit::rate, &RATE, faults).unwrap_or(1.0);
        let span = root.quantity("window", time, &SPAN, faults).map_or(1, whole);
        let steps = steps(root, faults);
        let rules = Rules {
            span,
            signals: signals(root, faults),
            guards: guards(root, faults),
            ..risk(root, faults)
        };
        let mut bake = root.section("bake", faults);
        let baked = Bake {
            time: whole(bake.quantity("time", time, &TIME, faults).unwrap_or(600.0)),
            share: bake
                .quantity("share", unit::fraction, &SHARE, faults)
                .unwrap_or(0.1),
        };
        bake.finish(faults);
        let mut redrive = root.section("redrive", faults);
        let redriven = Redrive {
            after_rollback: redrive
                .choice("after_rollback", &[("true", true), ("false", false)], faults)
                .unwrap_or(true),
            rate: redrive
                .quantity("rate", unit::rate, &RATE, faults)
                .unwrap_or(50.0),
        };
        redrive.finish(faults);
        let least: u64 = steps.iter().map(|step| u64::from(step.least_time)).sum();
        if least >= u64::from(deadline) {
            let message =
                format!("the steps last at least {least} s, expected less than the deadline of {deadline} s");
            faults.add(root.line_of("deadline", faults), "deadline", message);
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
        let share = section.quantity("share", unit::fraction, &SHARE, faults);
        if share.is_none() && !section.has("share") {
            faults.add(
                section.line,
                section.path_of("share"),
                format!("missing, expected {}", SHARE.expected),
            );
        }
        let share = share.unwrap_or(before);
        if share < before {
            let message = format!(
                "found {}, expected no less than the step before, {}",
                unit::show_fraction(share),
                unit::show_fraction(before)
            );
            faults.add(
                section.line_of("share", faults),
                section.path_of("share"),
                message,
            );
        }
        before = share;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounds were checked"
        )]
        let count = |value: f64| value as u64;
        steps.push(Step {
            share,
            least_time: whole(
                section
                    .quantity("least_time", time, &TIME, faults)
                    .unwrap_or(60.0),
            ),
            least_messages: count(
                section
                    .quantity("least_messages", number, &COUNT, faults)
                    .unwrap_or(50.0),
            ),
            least_evidence: section
                .quantity("least_evidence", number, &EVIDENCE, faults)
                .unwrap_or(1.0),
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
    let defaults = Rules::default();
    let rules = Rules {
        alpha: section
            .quantity("false_rollback", unit::fraction, &RISK, faults)
            .unwrap_or(defaults.alpha),
        beta: section
            .quantity("wrong_promotion", unit::fraction, &RISK, faults)
            .unwrap_or(defaults.beta),
        harmless_ratio: section
            .quantity("harmless_ratio", number, &HARMLESS, faults)
            .unwrap_or(defaults.harmless_ratio),
        tolerated_ratio: section
            .quantity("tolerated_ratio", number, &RATIO, faults)
            .unwrap_or(defaults.tolerated_ratio),
        ceiling: section.quantity("ceiling", unit::fraction, &FRACTION, faults),
        stretch: section
            .quantity("stretch", time, &TIME, faults)
            .map_or(defaults.stretch, whole),
        ..defaults
    };
    if rules.tolerated_ratio <= rules.harmless_ratio {
        let message = format!(
            "found {}, expected more than harmless_ratio, {}",
            rules.tolerated_ratio, rules.harmless_ratio
        );
        faults.add(
            section.line_of("tolerated_ratio", faults),
            section.path_of("tolerated_ratio"),
            message,
        );
    }
    section.finish(faults);
    rules
}

/// The signals with weights that sum to 1. Failures are always among them.
fn signals(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Vec<Signal> {
    let mut section = root.section("signals", faults);
    let mut signals = Vec::new();
    let mut failures = section.section("failures", faults);
    let weight = failures
        .quantity("weight", number, &WEIGHT, faults)
        .unwrap_or(3.0);
    signals.push(Signal {
        name: "failures".to_owned(),
        kind: Kind::Failures,
        weight,
    });
    failures.finish(faults);
    let mut slow = section.section("slow", faults);
    if slow.is_present() {
        let weight = slow.quantity("weight", number, &WEIGHT, faults).unwrap_or(1.0);
        let each = Bounds {
            expected: "a list of quantiles, each above 0 and below 1",
            holds: FRACTION.holds,
        };
        let quantiles = slow
            .numbers("quantiles", &each, faults)
            .unwrap_or_else(|| vec![0.5, 0.9, 0.99]);
        if quantiles.is_empty() {
            faults.add(
                slow.line,
                slow.path_of("quantiles"),
                format!("found none, expected {}", each.expected),
            );
        }
        signals.push(Signal {
            name: "slow".to_owned(),
            kind: Kind::Slow { quantiles },
            weight,
        });
    }
    slow.finish(faults);
    let quality = section.section("quality", faults);
    for (question, mut named) in quality.named_sections(faults) {
        let weight = named.quantity("weight", number, &WEIGHT, faults).unwrap_or(1.0);
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
    let defaults = GuardRules::default();
    let guards = GuardRules {
        silence: section
            .quantity("silence", time, &SPAN, faults)
            .map_or(defaults.silence, whole),
        crash_starts: section
            .quantity("crash_starts", number, &STARTS, faults)
            .map_or(defaults.crash_starts, whole),
        crash_seconds: section
            .quantity("crash_time", time, &TIME, faults)
            .map_or(defaults.crash_seconds, whole),
        ..defaults
    };
    section.finish(faults);
    guards
}

#[cfg(test)]
mod tests;
