//! Journals as rollouts leave them: real windows, the real judge, by the usual plan.

use canary::evidence::Checkpoint;
use canary::journal::{Journal, Measured, Owner, ProcessMeasured, SCHEMA, ServiceMeasured, Span};
use canary::judge::decide;
use canary::judge::ledger::Ledger;
use canary::judge::verdict::Situation;
use canary::judge::window::{Arm, Durations, Failed, Receives, SCHEMA as WINDOW, Window};
use canary::moment::Moment;
use canary::plan::Plan;
use canary::rollout::{
    Definition, Happening, Hold, HoldReason, Kind, Outcome, Phase, Reason, Revision, State,
};
use worker::release::Release;

pub(crate) const BEGAN: u64 = 1_764_064_800;

pub(crate) const PLAN: &str = include_str!("../../../plans/usual.toml");

/// A secret that only the fleet may see.
pub(crate) const SECRET: &str = "hunter2";

pub(crate) fn at(second: u64) -> Moment {
    Moment::from_millis((BEGAN + second) * 1000 + 250)
}

fn revision(name: &str) -> Revision {
    Revision {
        release: Release::new(name).unwrap(),
        definition: Definition::Local {
            command: vec!["worker".to_owned(), format!("--token={SECRET}")],
            environment: [("PASSWORD".to_owned(), SECRET.to_owned())].into(),
        },
    }
}

fn arm(attempts: u64, rate: f64, middle: f64, random: &mut fastrand::Rng) -> Arm {
    let failed = (0..attempts).filter(|_| random.f64() < rate).count() as u64;
    let mut durations = Durations::default();
    let mut receives = Receives::default();
    for number in 0..attempts {
        receives.add(1, u64::from(number < failed));
        if number >= failed {
            durations.add(
                Durations::bucket(middle * (0.5 + random.f64() + random.f64().powi(8) * 6.0)),
                1,
            );
        }
    }
    Arm {
        started: attempts,
        done: attempts - failed,
        failed: Failed {
            retry: failed,
            ..Failed::default()
        },
        durations,
        receives,
        first_failures: (0..failed.min(2))
            .map(|_| format!("{:016x}", random.u64(..)))
            .collect(),
        ..Arm::default()
    }
}

fn windows(seconds: u64, share: f64, rate: f64) -> Vec<Window> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..seconds)
        .map(|second| {
            let all = 180 + random.u64(0..40);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a part of some hundred messages"
            )]
            let canary = (all as f64 * share) as u64 + random.u64(0..5);
            Window {
                schema: WINDOW,
                start: BEGAN + 12 + second,
                seconds: 1,
                closed: true,
                share,
                canary: arm(canary, rate, 24.0, &mut random),
                baseline: arm(all - canary, 0.005, 24.0, &mut random),
                ..Window::default()
            }
        })
        .collect()
}

fn process(name: &str, release: &str, restarts: u32) -> ProcessMeasured {
    ProcessMeasured {
        name: name.to_owned(),
        release: Release::new(release).unwrap(),
        address: Some("127.0.0.1:40001".to_owned()),
        state: "ready".to_owned(),
        restarts,
    }
}

fn service(release: &str, name: &str, count: u32) -> ServiceMeasured {
    ServiceMeasured {
        release: Some(Release::new(release).unwrap()),
        desired: count,
        processes: (1..=count)
            .map(|number| process(&format!("{name}-{number}"), release, 0))
            .collect(),
    }
}

/// A rollout of release 2.0 against 1.9 in its first step, `seconds` old, which fails `rate` of its messages.
pub(crate) fn under_way(seconds: u64, rate: f64) -> Journal {
    let plan = Plan::read(PLAN).unwrap();
    let share = plan.steps[0].share;
    let mut ledger = Ledger::default();
    let windows = windows(seconds, share, rate);
    for window in &windows {
        ledger.record(window.clone());
    }
    let situation = Situation {
        deadline_passed: false,
        last_step: false,
        least_time_reached: false,
        least_messages_reached: false,
        least_evidence: 0.0,
    };
    let verdict = decide(&plan.rules, &ledger, &situation);
    let state = State {
        kind: Kind::Canary,
        candidate: revision("2.0"),
        baseline: Some(revision("1.9")),
        began: at(0),
        phase: Phase::Step {
            index: 0,
            since: at(11),
            messages: 0,
        },
        hold: None,
        suspected: verdict.suspected,
        deadline: Some(at(2711)),
    };
    let mut journal = Journal {
        schema: SCHEMA,
        rollout: "2025-11-25T10:00:00.250Z-2.0".to_owned(),
        writes: seconds,
        owner: Some(Owner {
            id: "a".to_owned(),
            host: "build-7".to_owned(),
            pid: 4711,
            heartbeat: at(12 + seconds),
        }),
        requests: Vec::new(),
        answers: Vec::new(),
        plan: PLAN.to_owned(),
        state,
        evidence: Checkpoint {
            from: Some(BEGAN + 12),
            windows,
            ..Checkpoint::default()
        },
        measured: Measured {
            at: at(12 + seconds),
            per_second: 199.4,
            share_wanted: Some(share),
            share: Some(share * 1.04),
            canary_per_process: Some(10.0),
            stable: service("1.9", "stable", 3),
            canary: service("2.0", "canary", 1),
            contained: None,
        },
        verdict: Some(verdict),
        timeline: Vec::new(),
        left_out: 0,
    };
    begin(&mut journal, plan.steps.len(), share);
    journal
}

/// What is told of every rollout up to its first step.
fn begin(journal: &mut Journal, of: usize, share: f64) {
    let (new, old) = (Release::new("2.0").unwrap(), Release::new("1.9").unwrap());
    journal.tell(at(0), [Happening::Began { release: new }]);
    journal.tell(at(1), [Happening::Checked { baseline: Some(old) }]);
    let step = Happening::Step { number: 1, of, share };
    journal.tell(at(11), [Happening::CanaryReady, step]);
}

/// The same, convicted and rolled back.
pub(crate) fn rolled_back() -> Journal {
    let mut journal = under_way(75, 0.2);
    let end = 12 + 75;
    journal.measured.contained = Some(Span {
        from: at(19),
        to: at(60),
    });
    journal.tell(at(24), [Happening::Suspected]);
    let crash = Happening::Crashed {
        service: "canary".to_owned(),
        release: Release::new("2.0").unwrap(),
        text: "exit status 101: panicked at 'connection to db-3.internal refused'".to_owned(),
    };
    journal.tell(at(40), [crash]);
    let rolling = Happening::RollingBack {
        reason: Reason::Harm,
        promoted: false,
    };
    journal.tell(at(end), [rolling]);
    let redriven = Happening::Redriven {
        text: "17 of 17 messages sent back to orders".to_owned(),
        well: true,
    };
    journal.tell(at(end + 3), [Happening::Removed, redriven]);
    let outcome = Outcome::RolledBack;
    journal.tell(at(end + 4), [Happening::Ended { outcome }]);
    journal.state.phase = Phase::Ended {
        outcome,
        reason: Some(Reason::Harm),
        at: at(end + 4),
    };
    journal.owner = None;
    journal.measured.canary = ServiceMeasured::default();
    journal
}

/// The same, good and promoted.
pub(crate) fn promoted() -> Journal {
    let mut journal = under_way(400, 0.004);
    let end = 412;
    let promoting = Happening::Promoting {
        by: None,
        why: String::new(),
    };
    journal.tell(at(end), [promoting, Happening::Promoted]);
    let outcome = Outcome::Promoted;
    journal.tell(at(end + 9), [Happening::Ended { outcome }]);
    journal.state.phase = Phase::Ended {
        outcome,
        reason: None,
        at: at(end + 9),
    };
    journal.owner = None;
    journal
}

/// Texts from outside at their worst.
pub(crate) fn hostile() -> Journal {
    let evil = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>\u{1b}[2J\r\n&amp;";
    let mut journal = rolled_back();
    journal.rollout = evil.to_owned();
    journal.plan = journal
        .plan
        .replacen("name = \"", "name = \"</title><script>alert(3)</script>", 1);
    let reason = Reason::Asked {
        by: evil.to_owned(),
        why: evil.repeat(100),
    };
    journal.state.phase = Phase::Ended {
        outcome: Outcome::RolledBack,
        reason: Some(reason),
        at: at(100),
    };
    journal.state.hold = Some(Hold {
        reason: HoldReason::Person {
            name: evil.to_owned(),
            why: evil.to_owned(),
        },
        since: at(3),
        until: at(4000),
        shut: false,
    });
    if let Some(verdict) = &mut journal.verdict {
        verdict.first_failures = vec![evil.to_owned(); 10];
        for signal in &mut verdict.signals {
            signal.name = format!("quality.{evil}");
        }
    }
    for text in [evil.to_owned(), "x".repeat(100_000)] {
        journal.tell(at(99), [Happening::Trouble { text }]);
    }
    journal
}
