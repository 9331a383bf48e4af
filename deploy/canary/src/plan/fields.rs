//! Every key of a plan.

use super::unit;
use crate::reader::{Field, Form, Takes, Unit};

fn time(text: &str) -> Option<f64> {
    unit::seconds(text).map(f64::from)
}

fn number(text: &str) -> Option<f64> {
    text.replace('_', "").parse().ok()
}

static ONLY: Unit = Unit {
    expected: "1, the only form of plan there is",
    parse: number,
    holds: |v| v.to_bits() == f64::from(super::SCHEMA).to_bits(),
};
static RISKED: Unit = Unit {
    expected: "a chance above 0% and at most 50%, as \"1%\" or 0.01",
    parse: unit::fraction,
    holds: |v| v > 0.0 && v <= 0.5,
};
static FRACTION: Unit = Unit {
    expected: "a rate above 0% and below 100%, as \"0.5%\" or 0.005",
    parse: unit::fraction,
    holds: |v| v > 0.0 && v < 1.0,
};
static SHARE: Unit = Unit {
    expected: "a share above 0% and at most 90%, as \"10%\"",
    parse: unit::fraction,
    holds: |v| v > 0.0 && v <= 0.9,
};
static TIME: Unit = Unit {
    expected: "a time in whole seconds up to 7 days, as \"90s\" or \"10m\"",
    parse: time,
    holds: |v| (0.0..=604_800.0).contains(&v),
};
/// Without one, a single bad second could convict or promote.
static STRETCH: Unit = Unit {
    expected: "a time in whole seconds from 1s to 7 days, as \"30s\"",
    parse: time,
    holds: |v| (1.0..=604_800.0).contains(&v),
};
static SPAN: Unit = Unit {
    expected: "a time of 1 to 300 whole seconds, as \"1s\"",
    parse: time,
    holds: |v| (1.0..=300.0).contains(&v),
};
static RATE: Unit = Unit {
    expected: "a rate of messages above 0, as \"1/s\", \"90/m\" or \"1000/h\"",
    parse: unit::rate,
    holds: |v| v > 0.0 && v <= 1e7,
};
static RATIO: Unit = Unit {
    expected: "a ratio from 1 to 100",
    parse: number,
    holds: |v| (1.0..=100.0).contains(&v),
};
/// Up to five: the alternatives bet on reach 200 times this, and likelihoods are exact up to 1000.
static HARMLESS: Unit = Unit {
    expected: "a ratio from 1 to 5",
    parse: number,
    holds: |v| (1.0..=5.0).contains(&v),
};
/// The first start of a task is its deployment.
static STARTS: Unit = Unit {
    expected: "a whole number from 2 to 1000",
    parse: number,
    holds: |v| (2.0..=1000.0).contains(&v) && v.fract() == 0.0,
};
static COUNT: Unit = Unit {
    expected: "a whole number from 0 to 1000000000",
    parse: number,
    holds: |v| (0.0..=1e9).contains(&v) && v.fract() == 0.0,
};
static EVIDENCE: Unit = Unit {
    expected: "an e-value from 0.01 to 1000000 (1 is no evidence)",
    parse: number,
    holds: |v| (0.01..=1e6).contains(&v),
};
static WEIGHTED: Unit = Unit {
    expected: "a weight above 0 and at most 1000",
    parse: number,
    holds: |v| v > 0.0 && v <= 1000.0,
};
static EACH: Unit = Unit {
    expected: "a list of quantiles, each above 0 and below 1",
    parse: number,
    holds: |v| v > 0.0 && v < 1.0,
};
static NAMED: Form = Form {
    expected: "a text that is not empty",
    holds: |text| !text.is_empty(),
};

pub(super) static SCHEMA: Field = Field {
    path: "schema",
    takes: Takes::Quantity(&ONLY),
    default: None,
    example: "1",
    help: "The form of the plan",
};
pub(super) static NAME: Field = Field {
    path: "name",
    takes: Takes::Text(&NAMED),
    default: Some("\"unnamed\""),
    example: "\"orders\"",
    help: "For people: it stands in status and report",
};
pub(super) static DEADLINE: Field = Field {
    path: "deadline",
    takes: Takes::Quantity(&TIME),
    default: Some("\"45m\""),
    example: "\"2h\"",
    help: "From the first step on, pauses left out; a rollout without a verdict by then is inconclusive. Longer than the steps together",
};
pub(super) static INCONCLUSIVE: Field = Field {
    path: "inconclusive",
    takes: Takes::Word(&["hold", "rollback"]),
    default: Some("\"hold\""),
    example: "\"rollback\"",
    help: "What then happens: `hold` asks people while the canary keeps its share, `rollback` takes the canary away. It is never promoted for want of a verdict",
};
pub(super) static TRICKLE: Field = Field {
    path: "trickle",
    takes: Takes::Quantity(&RATE),
    default: Some("\"1/s\""),
    example: "\"5/s\"",
    help: "Messages that a suspected canary may still take, all its processes together",
};
pub(super) static WINDOW: Field = Field {
    path: "window",
    takes: Takes::Quantity(&SPAN),
    default: Some("\"1s\""),
    example: "\"5s\"",
    help: "Length of the windows in which the releases are compared. As long as the handlers' deadline where tasks of one slot may hang; longer where messages are few",
};
pub(super) static FALSE_ROLLBACK: Field = Field {
    path: "risk.false_rollback",
    takes: Takes::Quantity(&RISKED),
    default: Some("\"1%\""),
    example: "\"0.1%\"",
    help: "α: chance of ever rolling back a harmless release, over all steps and the bake together. Smaller is slower",
};
pub(super) static WRONG_PROMOTION: Field = Field {
    path: "risk.wrong_promotion",
    takes: Takes::Quantity(&RISKED),
    default: Some("\"5%\""),
    example: "\"1%\"",
    help: "β: chance of ever promoting a release that is worse than `tolerated_ratio` and fails at least as often as `ceiling`",
};
pub(super) static HARMLESS_RATIO: Field = Field {
    path: "risk.harmless_ratio",
    takes: Takes::Quantity(&HARMLESS),
    default: Some("1.0"),
    example: "1.5",
    help: "Odds of failure, new release to old, up to which a release counts as harmless. At 1 any harm is looked for; 1.5 forgives half as many failures again",
};
pub(super) static TOLERATED_RATIO: Field = Field {
    path: "risk.tolerated_ratio",
    takes: Takes::Quantity(&RATIO),
    default: Some("2.0"),
    example: "3.0",
    help: "Odds of failure, new release to old, from which a release must not be promoted; more than `harmless_ratio`. Larger is decided sooner",
};
pub(super) static CEILING: Field = Field {
    path: "risk.ceiling",
    takes: Takes::Quantity(&FRACTION),
    default: None,
    example: "\"0.5%\"",
    help: "Failure rate of the new release below which the ratio does not matter to promotion. Left out: the ratio alone counts, which takes long where little fails. The very first release, with nothing to compare it with, goes by it and by its health",
};
pub(super) static STRETCH_TIME: Field = Field {
    path: "risk.stretch",
    takes: Takes::Quantity(&STRETCH),
    default: Some("\"30s\""),
    example: "\"1m\"",
    help: "No single stretch of this length convicts or promotes: the evidence must hold without it. A conviction takes at least as long",
};
pub(super) static STEP_SHARE: Field = Field {
    path: "steps[].share",
    takes: Takes::Quantity(&SHARE),
    default: None,
    example: "\"25%\"",
    help: "The canary's share of the messages; no less than in the step before. Must be there, in one step at least",
};
pub(super) static LEAST_TIME: Field = Field {
    path: "steps[].least_time",
    takes: Takes::Quantity(&TIME),
    default: Some("\"1m\""),
    example: "\"5m\"",
    help: "How long the step lasts at least",
};
pub(super) static LEAST_MESSAGES: Field = Field {
    path: "steps[].least_messages",
    takes: Takes::Quantity(&COUNT),
    default: Some("50"),
    example: "2000",
    help: "Messages of the canary that the judge has counted in this step at least",
};
pub(super) static LEAST_EVIDENCE: Field = Field {
    path: "steps[].least_evidence",
    takes: Takes::Quantity(&EVIDENCE),
    default: Some("1"),
    example: "3",
    help: "Evidence for promotion that the step must show. The last step's is 1/β, whatever is here",
};
pub(super) static FAILURES_WEIGHT: Field = Field {
    path: "signals.failures.weight",
    takes: Takes::Quantity(&WEIGHTED),
    default: Some("3"),
    example: "5",
    help: "Part of α that failed attempts have, against the weights of the other signals. Failures are always compared",
};
pub(super) static SLOW_WEIGHT: Field = Field {
    path: "signals.slow.weight",
    takes: Takes::Quantity(&WEIGHTED),
    default: Some("1"),
    example: "2",
    help: "The same of slow attempts. They are compared where the table `[signals.slow]` is there",
};
pub(super) static QUANTILES: Field = Field {
    path: "signals.slow.quantiles",
    takes: Takes::Quantities(&EACH),
    default: Some("[0.5, 0.9, 0.99]"),
    example: "[0.5, 0.9]",
    help: "Slow is what takes longer than these quantiles of the old release's earlier windows",
};
pub(super) static QUALITY_WEIGHT: Field = Field {
    path: "signals.quality.NAME.weight",
    takes: Takes::Quantity(&WEIGHTED),
    default: Some("1"),
    example: "2",
    help: "The same of a yes-or-no question that the handler answers for each message under this name",
};
pub(super) static SILENCE: Field = Field {
    path: "guards.silence",
    takes: Takes::Quantity(&SPAN),
    default: Some("\"30s\""),
    example: "\"2m\"",
    help: "A canary that finishes nothing for so long, while 20 messages were due and the old release works, is rolled back. Where traffic is thin, up to four times as long",
};
pub(super) static CRASH_TIME: Field = Field {
    path: "guards.crash_time",
    takes: Takes::Quantity(&TIME),
    default: Some("\"5m\""),
    example: "\"10m\"",
    help: "Time over which starts of the canary's tasks are counted",
};
pub(super) static CRASH_STARTS: Field = Field {
    path: "guards.crash_starts",
    takes: Takes::Quantity(&STARTS),
    default: Some("3"),
    example: "5",
    help: "Starts a task in that time from which it is a crash loop, which is rolled back. The first start is the deployment",
};
pub(super) static BAKE_TIME: Field = Field {
    path: "bake.time",
    takes: Takes::Quantity(&TIME),
    default: Some("\"10m\""),
    example: "\"30m\"",
    help: "How long after promotion the old release stays as control group; `\"0s\"` for no bake",
};
pub(super) static BAKE_SHARE: Field = Field {
    path: "bake.share",
    takes: Takes::Quantity(&SHARE),
    default: Some("\"10%\""),
    example: "\"5%\"",
    help: "Share of the messages that the old release keeps meanwhile",
};
pub(super) static AFTER_ROLLBACK: Field = Field {
    path: "redrive.after_rollback",
    takes: Takes::Flag,
    default: Some("true"),
    example: "false",
    help: "Whether what the bad release has dead-lettered goes back to its queue after a rollback",
};
pub(super) static REDRIVE_RATE: Field = Field {
    path: "redrive.rate",
    takes: Takes::Quantity(&RATE),
    default: Some("\"50/s\""),
    example: "\"200/s\"",
    help: "How fast",
};

/// All of them, in the order of the reference page.
pub(crate) static FIELDS: &[&Field] = &[
    &SCHEMA,
    &NAME,
    &DEADLINE,
    &INCONCLUSIVE,
    &TRICKLE,
    &WINDOW,
    &FALSE_ROLLBACK,
    &WRONG_PROMOTION,
    &HARMLESS_RATIO,
    &TOLERATED_RATIO,
    &CEILING,
    &STRETCH_TIME,
    &STEP_SHARE,
    &LEAST_TIME,
    &LEAST_MESSAGES,
    &LEAST_EVIDENCE,
    &FAILURES_WEIGHT,
    &SLOW_WEIGHT,
    &QUANTILES,
    &QUALITY_WEIGHT,
    &SILENCE,
    &CRASH_TIME,
    &CRASH_STARTS,
    &BAKE_TIME,
    &BAKE_SHARE,
    &AFTER_ROLLBACK,
    &REDRIVE_RATE,
];
