//! The situations in which the judge's promises are counted: a harmless release under all that is not its fault, and a
//! release as bad as just not tolerated.

use rayon::prelude::*;
use serde::Serialize;

use super::rollout::{seeded, wanted};
use super::summary::interval;
use super::traffic::{Source, Traffic, Trouble};
use crate::judge::Judge;
use crate::judge::rules::{Kind, Rules, Signal};

/// One situation and what is promised in it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name, as in the docs.
    pub name: &'static str,
    /// What flows.
    pub traffic: Traffic,
    /// The canary's share.
    pub share: f64,
    /// Seconds it goes on, judged after each.
    pub seconds: u64,
    /// The rules.
    pub rules: Rules,
    /// What must not happen, and how often at most.
    pub promise: Promise,
}

/// What must not happen in a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Promise {
    /// A rollback, with more than this chance.
    NoRollback(f64),
    /// A promotion, with more than this chance.
    NoPromotion(f64),
    /// Nothing is promised: it is reported what happens.
    Reported,
}

/// How often things happened in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Runs.
    pub runs: u64,
    /// Runs in which the canary was suspected at least once.
    pub suspected: u64,
    /// Runs in which it was convicted.
    pub convicted: u64,
    /// Runs in which it could have been promoted at least once.
    pub promoted: u64,
}

impl Counted {
    /// What the promise is about, with the 99 % interval of its chance.
    pub fn against(&self, promise: Promise) -> (u64, f64, f64) {
        let hits = match promise {
            Promise::NoRollback(_) | Promise::Reported => self.convicted,
            Promise::NoPromotion(_) => self.promoted,
        };
        let (low, high) = interval(hits, self.runs);
        (hits, low, high)
    }

    /// Whether the upper end of the 99 % interval is within the promise; `true` where nothing is promised.
    pub fn keeps(&self, promise: Promise) -> bool {
        let (_, _, high) = self.against(promise);
        match promise {
            Promise::NoRollback(most) | Promise::NoPromotion(most) => high <= most,
            Promise::Reported => true,
        }
    }
}

impl Scenario {
    /// Runs it `runs` times on all cores.
    pub fn count(&self, runs: u64, seed: u64) -> Counted {
        (0..runs).into_par_iter().map(|run| self.once(seed, run)).reduce(
            || Counted {
                runs: 0,
                suspected: 0,
                convicted: 0,
                promoted: 0,
            },
            |a, b| Counted {
                runs: a.runs + b.runs,
                suspected: a.suspected + b.suspected,
                convicted: a.convicted + b.convicted,
                promoted: a.promoted + b.promoted,
            },
        )
    }

    /// One run, to the end of its time: promotion may be asked for after every window, so "ever" is counted.
    fn once(&self, seed: u64, run: u64) -> Counted {
        let mut source = Source::new(self.traffic.clone(), wanted(&self.rules), seeded(seed, run));
        let mut judge = Judge::new(self.rules.clone());
        let mut counted = Counted {
            runs: 1,
            suspected: 0,
            convicted: 0,
            promoted: 0,
        };
        let span = self.rules.span;
        for start in (0..self.seconds).step_by(span as usize) {
            judge.enter(&source.window(start, span, self.share).window);
            if judge.is_suspected() {
                counted.suspected = 1;
            }
            if matches!(self.promise, Promise::NoPromotion(_)) {
                if judge.is_promotable() {
                    counted.promoted = 1;
                    break;
                }
            } else if judge.convicted_at().is_some() {
                counted.convicted = 1;
                break;
            }
        }
        counted
    }
}

fn harmless(name: &'static str, rate: f64, trouble: Trouble) -> Scenario {
    let traffic = Traffic {
        trouble,
        ..Traffic::plain(500.0, rate, 1.0)
    };
    let rules = Rules::default();
    let promise = Promise::NoRollback(rules.alpha);
    Scenario {
        name,
        traffic,
        share: 0.1,
        seconds: 360,
        rules,
        promise,
    }
}

fn receives(mut scenario: Scenario, canary: u64, baseline: u64) -> Scenario {
    scenario.traffic.receives = (canary, baseline);
    scenario
}

fn tasks(mut scenario: Scenario, stable: u32, canary: u32) -> Scenario {
    scenario.traffic.tasks = (stable, canary);
    scenario
}

/// A harmless release in every kind of trouble: false rollbacks at most α.
pub fn harmless_releases() -> Vec<Scenario> {
    let alone = tasks(
        harmless("the only canary task bad for 30 s", 0.005, Trouble::SickCanary),
        9,
        1,
    );
    let longer = Scenario {
        seconds: 1800,
        ..harmless("p = 0.5 %, 30 minutes", 0.005, Trouble::None)
    };
    let half = Scenario {
        share: 0.5,
        ..harmless("p = 0.5 %, share 50 %", 0.005, Trouble::None)
    };
    vec![
        harmless("p = 0.05 %", 0.0005, Trouble::None),
        harmless("p = 0.5 %", 0.005, Trouble::None),
        harmless("p = 5 %", 0.05, Trouble::None),
        longer,
        half,
        harmless("drifting share", 0.005, Trouble::DriftingShare),
        harmless("40 % outage in both arms", 0.005, Trouble::Outage),
        harmless("poison bursts", 0.005, Trouble::Poison),
        receives(
            harmless("whole receives fail, 10/10", 0.005, Trouble::WholeReceives(0.02)),
            10,
            10,
        ),
        receives(
            harmless("whole receives fail, 10/2", 0.005, Trouble::WholeReceives(0.02)),
            10,
            2,
        ),
        receives(
            harmless("whole receives fail, 2/10", 0.005, Trouble::WholeReceives(0.02)),
            2,
            10,
        ),
        tasks(
            harmless(
                "one of nine stable tasks bad for 30 s",
                0.005,
                Trouble::SickStable,
            ),
            9,
            1,
        ),
        tasks(
            harmless(
                "one of three canary tasks bad for 30 s",
                0.005,
                Trouble::SickCanary,
            ),
            27,
            3,
        ),
        Scenario {
            promise: Promise::Reported,
            ..alone
        },
        harmless("autocorrelated failure rate", 0.005, Trouble::Wandering),
        harmless("canary 50 × faster", 0.005, Trouble::FastCanary),
        every_signal(),
    ]
}

/// Failures, slow messages and two quality questions at once: α is that of all of them together.
fn every_signal() -> Scenario {
    let mut scenario = harmless("failures, slow and two quality signals", 0.005, Trouble::None);
    let signal = |name: &str, kind, weight| Signal {
        name: name.to_owned(),
        kind,
        weight,
    };
    let quality = |question: &str| Kind::Quality {
        question: question.to_owned(),
    };
    let quantiles = vec![0.5, 0.9, 0.99];
    scenario.rules.signals = vec![
        signal("failures", Kind::Failures, 0.4),
        signal("slow", Kind::Slow { quantiles }, 0.2),
        signal("quality.a", quality("a"), 0.2),
        signal("quality.b", quality("b"), 0.2),
    ];
    scenario
}

fn intolerable(name: &'static str, rate: f64, ceiling: Option<f64>, trouble: Trouble) -> Scenario {
    // A suspected canary is not promoted; here promotion has to keep its promise without that help.
    let rules = Rules {
        ceiling,
        alpha: 1e-12,
        ..Rules::default()
    };
    // The ratio of rates at which the ratio of odds is just the one not tolerated.
    let odds = rules.tolerated_ratio * rate / (1.0 - rate);
    let ratio = odds / (1.0 + odds) / rate;
    let traffic = Traffic {
        trouble,
        ..Traffic::plain(500.0, rate, ratio)
    };
    let promise = Promise::NoPromotion(rules.beta);
    Scenario {
        name,
        traffic,
        share: 0.1,
        seconds: 900,
        rules,
        promise,
    }
}

/// A release at the ratio that is just not tolerated: wrong promotions at most β.
pub fn intolerable_releases() -> Vec<Scenario> {
    vec![
        intolerable("ω = 2, p = 0.5 %", 0.005, None, Trouble::None),
        intolerable("ω = 2, p = 5 %", 0.05, None, Trouble::None),
        intolerable(
            "ω = 2, p_c at the ceiling of 0.5 %",
            0.002_506_3,
            Some(0.005),
            Trouble::None,
        ),
        intolerable("ω = 2, drifting share", 0.005, None, Trouble::DriftingShare),
        intolerable(
            "ω = 2, autocorrelated failure rate",
            0.005,
            None,
            Trouble::Wandering,
        ),
        tasks(
            intolerable(
                "ω = 2, one stable task bad for 30 s",
                0.005,
                None,
                Trouble::SickStable,
            ),
            9,
            1,
        ),
        intolerable(
            "ω = 2, whole receives fail",
            0.005,
            None,
            Trouble::WholeReceives(0.005),
        ),
    ]
}
