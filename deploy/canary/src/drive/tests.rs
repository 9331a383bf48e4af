//! The tool on the paused clock, killed at every write of its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use worker::release::Release;

use super::*;
use crate::fleet::simulated::Simulated;
use crate::journal::Owner;
use crate::journal::memory::{DEAD, Death, MemoryStore};
use crate::plan::Plan;
use crate::rollout::{Definition, Reason};

const PLAN: &str = r#"
schema = 1
name = "short"
deadline = "2m"
trickle = "1/s"
[risk]
ceiling = "2%"
stretch = "5s"
[[steps]]
share = "10%"
least_time = "5s"
least_messages = 20
[[steps]]
share = "25%"
least_time = "10s"
least_messages = 50
[bake]
time = "10s"
share = "10%"
"#;

fn revision(name: &str) -> Revision {
    Revision {
        release: Release::new(name).unwrap(),
        definition: Definition::Local {
            command: vec![name.to_owned()],
            environment: BTreeMap::new(),
        },
    }
}

#[derive(Clone, Debug, Default)]
struct Letters(Arc<Mutex<Vec<String>>>);

impl Redriver for Letters {
    fn redrive(&self, release: Release, _per_second: f64) -> Redriving {
        let letters = self.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            letters.0.lock().unwrap().push(release.to_string());
            Ok("3 messages".to_owned())
        })
    }
}

/// The world around the tool; what is killed and started again is the tool alone.
#[derive(Clone)]
struct Bench {
    store: MemoryStore,
    world: Simulated,
    letters: Letters,
    clock: Clock,
    kind: Kind,
    plan: String,
}

impl Bench {
    fn new(baseline: Option<&str>) -> Self {
        let clock = Clock::Simulated {
            start: UNIX_EPOCH + Duration::from_secs(1_764_000_000),
            since: Instant::now(),
        };
        Self {
            store: MemoryStore::default(),
            world: Simulated::new(clock, baseline.map(revision)),
            letters: Letters::default(),
            clock,
            kind: Kind::Canary,
            plan: PLAN.to_owned(),
        }
    }

    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    /// One life of the tool, to its end or its death. A tool that is started while the one before is dead takes over.
    async fn live(&self) -> Result<End, DriveError> {
        let now = self.now();
        let mut me = me(now);
        // Every life is another process of another machine, so that only the heartbeat tells whether it is dead.
        me.host = me.id.clone();
        let fresh = fresh(self.kind.clone(), revision("b"), &self.plan, now);
        let claim = match claim(&self.store, Some(fresh), me, true).await {
            Ok(claim) => claim,
            Err(ClaimError::Store(error)) => return Err(error.into()),
            Err(error) => panic!("{error}"),
        };
        let mut course = Course::new(Plan::read(&self.plan).unwrap());
        course.ready_within = 20;
        course.hold = 60;
        let parts = Parts {
            store: self.store.clone(),
            fleet: self.world.clone(),
            source: self.world.clone(),
            redriver: self.letters.clone(),
            observer: Silent,
            clock: self.clock,
        };
        let mut drive = Drive::new(parts, claim, course);
        drive.run(Manner::default(), &CancellationToken::new()).await
    }

    /// Lives until the rollout is over, however often the tool dies.
    async fn to_the_end(&self) -> Outcome {
        for _ in 0..10 {
            match self.live().await {
                Ok(End::Over(outcome)) => return outcome,
                Ok(other) => panic!("{other:?}"),
                Err(DriveError::Store(StoreError::Broken(text))) if text == DEAD => {
                    let journal = self.store.journal();
                    let over = journal.filter(|journal| journal.owner.is_none());
                    if let Some(outcome) = over.and_then(|journal| journal.state.outcome()) {
                        return outcome; // it died after its last deed
                    }
                    tokio::time::sleep(DEAD_AFTER).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it never ends")
    }

    fn ask(&self, ask: Ask) {
        let asked = request(ask, self.now());
        self.store.change(|journal| journal.requests.push(asked));
    }

    /// Waits until the journal is as `is` says, a simulated hour at most.
    async fn until(&self, is: impl Fn(&Journal) -> bool) -> Journal {
        for _ in 0..36_000 {
            if let Some(journal) = self.store.journal().filter(&is) {
                return journal;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "it never came to that: {:?}",
            self.store.journal().map(|journal| journal.state)
        )
    }
}

fn deeds(bench: &Bench) -> Vec<String> {
    let mut deeds = bench.world.deeds();
    deeds.extend(
        bench
            .letters
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|release| format!("redrove {release}")),
    );
    deeds
}

const PROMOTED: [&str; 5] = [
    "canary runs b × 1",
    "recorded Some(\"b\")",
    "stable runs b × 3",
    "canary runs a × 1",
    "canary stops",
];

#[tokio::test(start_paused = true)]
async fn a_good_release_is_promoted_and_a_bad_one_rolled_back() {
    let good = Bench::new(Some("a"));
    assert_eq!(good.to_the_end().await, Outcome::Promoted);
    assert_eq!(deeds(&good), PROMOTED);
    let bad = Bench::new(Some("a"));
    bad.world.fails("b", 5);
    assert_eq!(bad.to_the_end().await, Outcome::RolledBack);
    assert_eq!(deeds(&bad), ["canary runs b × 1", "canary stops", "redrove b"]);
    let journal = bad.store.journal().unwrap();
    assert_eq!(journal.state.reason(), Some(&Reason::Harm));
    assert!(
        journal
            .timeline
            .iter()
            .any(|entry| entry.happening == Happening::Suspected)
    );
    assert_eq!(bad.store.history().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_only_after_promotion_is_rolled_back_in_the_bake() {
    let bench = Bench::new(Some("a"));
    let end = tokio::spawn({
        let bench = bench.clone();
        async move { bench.to_the_end().await }
    });
    bench
        .until(|journal| matches!(journal.state.phase, Phase::Baking { .. }))
        .await;
    bench.world.fails("b", 10);
    let outcome = end.await.unwrap();
    let journal = bench.store.journal().unwrap();
    assert_eq!(
        outcome,
        Outcome::RolledBack,
        "{:#?} {:?}",
        journal.timeline,
        journal.verdict
    );
    let mut expected = PROMOTED[..4].to_vec();
    expected.extend([
        "canary runs a × 3",
        "recorded Some(\"a\")",
        "stable runs a × 3",
        "canary stops",
        "redrove b",
    ]);
    assert_eq!(deeds(&bench), expected);
}

#[tokio::test(start_paused = true)]
async fn a_shared_outage_convicts_nobody_and_a_first_release_goes_by_its_ceiling() {
    let bench = Bench::new(Some("a"));
    bench.world.fails("a", 8);
    bench.world.fails("b", 8);
    let bench_plan = Bench {
        plan: PLAN.replace(
            "deadline = \"2m\"",
            "deadline = \"2m\"\ninconclusive = \"rollback\"",
        ),
        ..bench
    };
    let outcome = bench_plan.to_the_end().await;
    let reason = bench_plan.store.journal().unwrap().state.reason().cloned();
    assert!(
        outcome == Outcome::Promoted || reason == Some(Reason::Inconclusive),
        "{reason:?}"
    );
    for (failures, expected) in [(0, Outcome::Promoted), (8, Outcome::RolledBack)] {
        let first = Bench::new(None);
        first.world.fails("b", failures);
        assert_eq!(first.to_the_end().await, expected);
        let expected: &[&str] = match expected {
            Outcome::Promoted => &[
                "canary runs b × 1",
                "recorded Some(\"b\")",
                "stable runs b × 3",
                "canary stops",
            ],
            Outcome::RolledBack | Outcome::Restored | Outcome::Refused => {
                &["canary runs b × 1", "canary stops", "redrove b"]
            }
        };
        assert_eq!(deeds(&first), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_never_gets_ready_is_taken_away() {
    let bench = Bench::new(Some("a"));
    bench.world.is_never_ready("b");
    assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
    let reason = bench.store.journal().unwrap().state.reason().cloned();
    assert_eq!(
        reason,
        Some(Reason::NotReady {
            seconds: 20,
            said: Some("canary-4: no queue".to_owned())
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_is_taken_back_leaves_nothing_and_says_so() {
    let first = Bench {
        kind: Kind::SkipCanary {
            reason: "the first".to_owned(),
        },
        ..Bench::new(None)
    };
    first.world.is_never_ready("b");
    assert_eq!(first.to_the_end().await, Outcome::RolledBack);
    let journal = first.store.journal().unwrap();
    let told = |text: &str| {
        let mut entries = journal.timeline.iter();
        entries.any(|entry| entry.happening.to_string() == text)
    };
    assert!(told("the stable service is stopped: there was no release before"));
    assert!(!told("the stable service runs the release before again"));
    assert_eq!(first.world.end_state()[0], "recorded None");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_while_nobody_drove_is_not_followed_later_unless_it_takes_the_release_back() {
    let (by, why) = ("ada".to_owned(), String::new());
    let promote = Ask::Promote {
        by: by.clone(),
        why: why.clone(),
    };
    for (ask, followed) in [(promote, false), (Ask::Abort { by, why }, true)] {
        let bench = Bench::new(Some("a"));
        let end = tokio::spawn({
            let bench = bench.clone();
            async move { bench.to_the_end().await }
        });
        bench
            .until(|journal| matches!(journal.state.phase, Phase::Step { .. }))
            .await;
        let asked = request(ask, Moment::from_millis(bench.now().millis() - 61_000));
        bench.store.change(|journal| journal.requests.push(asked));
        let answered = bench.until(|journal| !journal.answers.is_empty()).await;
        let refused = answered.answers[0].refused.clone();
        if followed {
            assert_eq!((refused, end.await.unwrap()), (None, Outcome::RolledBack));
        } else {
            let refused = refused.unwrap_or_default();
            assert!(refused.starts_with("it was asked 6"), "{refused}");
            end.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn people_pause_resume_promote_and_abort() {
    let (by, why) = ("ada".to_owned(), "lunch".to_owned());
    let pause = Ask::Pause {
        by: by.clone(),
        why: why.clone(),
        seconds: Some(600),
        shut: true,
    };
    let endings = [
        (
            Ask::Abort {
                by: by.clone(),
                why: why.clone(),
            },
            Outcome::RolledBack,
        ),
        (Ask::Promote { by: by.clone(), why }, Outcome::Promoted),
        (Ask::Resume { by }, Outcome::Promoted),
    ];
    for (ending, expected) in endings {
        let bench = Bench::new(Some("a"));
        let end = tokio::spawn({
            let bench = bench.clone();
            async move { bench.to_the_end().await }
        });
        bench
            .until(|journal| matches!(journal.state.phase, Phase::Step { .. }))
            .await;
        bench.ask(pause.clone());
        let held = bench.until(|journal| journal.state.hold.is_some()).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        let later = bench.store.journal().unwrap();
        assert_eq!(
            later.state.phase, held.state.phase,
            "held for five minutes, twice the deadline"
        );
        bench.ask(ending);
        assert_eq!(end.await.unwrap(), expected);
        let journal = bench.store.journal().unwrap();
        assert!(journal.requests.is_empty() && journal.answers.iter().all(|answer| answer.refused.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_tool_is_refused_and_one_that_was_taken_over_stops() {
    let bench = Bench::new(Some("a"));
    let first = tokio::spawn({
        let bench = bench.clone();
        async move { bench.live().await }
    });
    bench
        .until(|journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    let other = |heartbeat| Owner {
        id: "other".to_owned(),
        host: "elsewhere".to_owned(),
        pid: 1,
        heartbeat,
    };
    let again = fresh(Kind::Canary, revision("b"), PLAN, bench.now());
    let refused = claim(&bench.store, Some(again), other(bench.now()), true).await;
    assert!(
        matches!(refused, Err(ClaimError::Owned { dead: false, .. })),
        "{refused:?}"
    );
    let newer = fresh(Kind::Canary, revision("c"), PLAN, bench.now());
    let refused = claim(&bench.store, Some(newer), other(bench.now()), true).await;
    assert!(
        matches!(refused, Err(ClaimError::OtherRelease { .. })),
        "{refused:?}"
    );
    bench
        .store
        .change(|journal| journal.owner = Some(other(Moment::from_millis(1))));
    assert!(matches!(first.await.unwrap(), Err(DriveError::Lost(_))));
    let before = bench.world.deeds();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.world.deeds(), before);
    assert_eq!(bench.to_the_end().await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_reached_for_a_while_is_waited_for() {
    for (calls, expected) in [(3, true), (8, true), (1000, false)] {
        let bench = Bench::new(Some("a"));
        let end = tokio::spawn({
            let bench = bench.clone();
            async move { bench.live().await }
        });
        bench
            .until(|journal| matches!(journal.state.phase, Phase::Step { .. }))
            .await;
        bench.store.is_out_for(calls);
        let end = end.await.unwrap();
        match end {
            Ok(End::Over(Outcome::Promoted)) => assert!(expected, "{calls}"),
            Err(DriveError::Store(StoreError::Unreachable(_))) => assert!(!expected, "{calls}"),
            other => panic!("{calls}: {other:?}"),
        }
        if expected {
            assert_eq!(deeds(&bench), PROMOTED);
        }
    }
}

/// Whether a tool that was dead for half a minute may find itself convicted earlier on its way.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Same,
    MayBeShorter,
}

/// Kills the tool just before and just after each of its writes in turn. The world must end as without it, and nothing be done twice.
async fn survives_every_crash(make: impl Fn() -> Bench, expected: Outcome, way: Way) {
    let undisturbed = make();
    assert_eq!(undisturbed.to_the_end().await, expected);
    let writes = undisturbed.store.writes();
    assert!(writes > 5, "{writes}");
    for write in 1..=writes {
        for death in [Death::Before, Death::After] {
            let bench = make();
            bench.store.die_at(write, death);
            assert_eq!(
                bench.to_the_end().await,
                expected,
                "killed {death:?} write {write}"
            );
            assert_eq!(
                bench.world.end_state(),
                undisturbed.world.end_state(),
                "killed {death:?} write {write}"
            );
            let (deeds, undisturbed_deeds) = (bench.world.deeds(), undisturbed.world.deeds());
            let once: BTreeSet<&String> = deeds.iter().collect();
            assert_eq!(
                once.len(),
                deeds.len(),
                "killed {death:?} write {write}: {deeds:?}"
            );
            if way == Way::Same {
                assert_eq!(deeds, undisturbed_deeds, "killed {death:?} write {write}");
            }
            let redriven = bench.letters.0.lock().unwrap().len();
            let once = undisturbed.letters.0.lock().unwrap().len();
            // A redrive that was cut off is begun again: it takes only what is still there.
            assert!(
                redriven >= once && redriven <= once + 1,
                "killed {death:?} write {write}"
            );
            let journal = bench.store.journal().unwrap();
            for window in journal.evidence.windows.windows(2) {
                assert!(window[0].start < window[1].start, "a window entered twice");
            }
            assert_eq!(bench.store.history().await.unwrap().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_survives_a_crash_at_every_write() {
    survives_every_crash(|| Bench::new(Some("a")), Outcome::Promoted, Way::Same).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_survives_a_crash_at_every_write() {
    let make = || {
        let bench = Bench::new(Some("a"));
        bench.world.fails("b", 5);
        bench
    };
    survives_every_crash(make, Outcome::RolledBack, Way::Same).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_in_the_bake_survives_a_crash_at_every_write() {
    let make = || {
        let bench = Bench::new(Some("a"));
        bench.world.fails_as_stable("b", 10);
        // Long enough that a tool that was dead for half a minute still finds the bake under way.
        Bench {
            plan: PLAN.replace("[bake]\ntime = \"10s\"", "[bake]\ntime = \"5m\""),
            ..bench
        }
    };
    survives_every_crash(make, Outcome::RolledBack, Way::MayBeShorter).await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_survives_a_crash_at_every_write() {
    let make = || Bench {
        kind: Kind::Restore {
            reason: "orders are lost".to_owned(),
        },
        ..Bench::new(Some("a"))
    };
    survives_every_crash(make, Outcome::Restored, Way::Same).await;
}
