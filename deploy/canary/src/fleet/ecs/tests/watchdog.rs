//! The tool dead in each phase, with and without harm; then the watchdog, called again and again; then a tool that goes on.

use serde_json::json;

use super::*;
use crate::rollout::Undoing;
use crate::watchdog::{Deed, Harm, STALE, Watchdog, of_event};

type Is = fn(&Phase) -> bool;

const DEPLOYING: Is = |phase| matches!(phase, Phase::Deploying { .. });
const STEP: Is = |phase| matches!(phase, Phase::Step { .. });
const PROMOTING: Is = |phase| matches!(phase, Phase::Promoting { .. });
const CONTROLLING: Is = |phase| matches!(phase, Phase::Controlling { .. });
const BAKING: Is = |phase| matches!(phase, Phase::Baking { .. });
const SETTLING: Is = |phase| matches!(phase, Phase::Settling { .. });

impl Bench {
    /// A rollout whose tool was killed where `is` says, and has not been heard of since.
    async fn dead_in(&self, is: Is) {
        let tool = tokio::spawn({
            let bench = self.clone();
            async move { bench.live().await }
        });
        self.until(|journal| is(&journal.state.phase)).await;
        tool.abort();
        let _ = tool.await;
        tokio::time::sleep(STALE).await;
        let journal = self.journal().await.unwrap();
        assert!(is(&journal.state.phase) && journal.owner.is_some());
    }

    async fn watch(&self, harm: &Harm) -> crate::watchdog::Outcome {
        let mut watchdog = Watchdog::new(&self.config, options(), self.store(), self.clock);
        let outcome = watchdog.look(harm).await.unwrap();
        // ECS takes its time.
        tokio::time::sleep(Duration::from_secs(30)).await;
        outcome
    }

    fn releases(&self, service: &str) -> Vec<String> {
        self.fake.change(|world| {
            let live = world.tasks.iter();
            live.filter(|task| task.service == service && task.is_live())
                .map(|task| task.release.clone())
                .collect()
        })
    }

    fn control(&self) -> serde_json::Value {
        serde_json::from_str(&self.fake.change(|world| world.parameters[CONTROL].clone())).unwrap()
    }

    fn pinned(&self) -> String {
        self.fake.change(|world| world.release(&world.parameters[PINNED]))
    }
}

fn harm(canary: bool, stable: bool) -> Harm {
    let alarm = |name: &str, raised: bool| {
        let state = if raised { "ALARM" } else { "OK" };
        let event =
            json!({"source": "aws.cloudwatch", "alarmData": {"alarmName": name, "state": {"value": state}}});
        of_event(&event, "orders", CANARY)
    };
    alarm("orders-canary-failing", canary).and(alarm("orders-stable-failing", stable))
}

#[tokio::test(start_paused = true)]
async fn before_promotion_the_canary_goes_with_and_without_harm() {
    for is in [DEPLOYING, STEP] {
        for bad in [false, true] {
            let bench = Bench::new().await;
            bench.dead_in(is).await;
            let harm = harm(bad, false);
            let first = bench.watch(&harm).await;
            assert_eq!(first.deed, Deed::Removed);
            assert!(first.note.is_some(), "people are told");
            assert_eq!(bench.releases(CANARY), [""; 0]);
            assert_eq!(bench.releases(STABLE), ["a"; 3]);
            assert_eq!(bench.control()["tracks"]["canary"]["paused"], true);
            let target = bench.fake.change(|world| world.target.unwrap());
            assert!(
                !target.in_suspended && target.min == 2,
                "autoscaling is let go: {target:?}"
            );
            let deeds = bench.fake.change(|world| world.deeds.clone());
            for _ in 0..3 {
                let again = bench.watch(&harm).await;
                assert_eq!((again.deed, again.note), (Deed::Removed, None), "once is enough");
            }
            assert_eq!(bench.fake.change(|world| world.deeds.clone()), deeds);
            // Somebody starts the tool again: without harm it goes on, with harm it rolls back.
            let (outcome, release) = if bad {
                (Outcome::RolledBack, "a")
            } else {
                (Outcome::Promoted, "b")
            };
            assert_eq!(bench.to_the_end().await, outcome, "{}", bench.reason().await);
            assert_eq!(bench.fake.end_state(), end(release));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn from_promotion_on_nothing_moves_without_harm() {
    for is in [PROMOTING, CONTROLLING, BAKING, SETTLING] {
        let bench = Bench::new().await;
        bench.dead_in(is).await;
        let deeds = bench.fake.change(|world| world.deeds.clone());
        let first = bench.watch(&Harm::default()).await;
        assert_eq!(first.deed, Deed::Alerted);
        assert!(first.note.is_some_and(|note| note.contains("nobody drives")));
        assert_eq!(bench.watch(&Harm::default()).await.note, None);
        assert_eq!(bench.fake.change(|world| world.deeds.clone()), deeds);
        assert_eq!(bench.pinned(), "b");
        assert_eq!(
            bench.to_the_end().await,
            Outcome::Promoted,
            "{}",
            bench.reason().await
        );
        assert_eq!(bench.fake.end_state(), end("b"));
    }
}

#[tokio::test(start_paused = true)]
async fn from_promotion_on_harm_brings_the_old_release_back_with_the_control_group_carrying_the_work() {
    for is in [PROMOTING, CONTROLLING, BAKING, SETTLING] {
        let bench = Bench::new().await;
        bench.fake.change(|world| world.protects.insert("b".to_owned()));
        bench.dead_in(is).await;
        let harm = harm(false, true);
        let mut carried = false;
        for _ in 0..4 {
            let outcome = bench.watch(&harm).await;
            let Deed::Restoring { control } = outcome.deed else {
                panic!("{outcome:?}")
            };
            let shut = bench.control()["tracks"]["canary"]["paused"] == true;
            assert_ne!(
                shut, control,
                "the gate is open only for what was seen to be the old release"
            );
            carried |= control;
            assert_eq!(bench.releases(CANARY), ["a"; 3], "never scaled down");
        }
        assert!(carried);
        assert_eq!(
            bench.releases(STABLE),
            ["a"; 3],
            "although the bad tasks protect themselves"
        );
        assert_eq!(bench.pinned(), "a");
        assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
        assert_eq!(bench.fake.end_state(), end("a"));
        let reason = bench.reason().await;
        assert!(reason.contains("orders-stable-failing"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_was_cut_off_goes_on() {
    let restoring: Is = |phase| {
        matches!(
            phase,
            Phase::RollingBack {
                undoing: Undoing::Restore { .. },
                ..
            }
        )
    };
    let bench = Bench::new().await;
    let harmed = tokio::spawn({
        let bench = bench.clone();
        async move {
            bench.until(|journal| BAKING(&journal.state.phase)).await;
            bench
                .fake
                .change(|world| world.failures.insert("b".to_owned(), 10));
        }
    });
    bench.dead_in(restoring).await;
    harmed.await.unwrap();
    for _ in 0..3 {
        let outcome = bench.watch(&Harm::default()).await;
        assert!(matches!(outcome.deed, Deed::Restoring { .. }), "{outcome:?}");
    }
    assert_eq!(
        (bench.releases(STABLE), bench.pinned()),
        (vec!["a".to_owned(); 3], "a".to_owned())
    );
    assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
    assert_eq!(bench.fake.end_state(), end("a"));

    let bench = Bench::new().await;
    bench
        .fake
        .change(|world| world.failures.insert("b".to_owned(), 6));
    bench
        .dead_in(|phase| {
            matches!(
                phase,
                Phase::RollingBack {
                    undoing: Undoing::Remove,
                    ..
                }
            )
        })
        .await;
    assert_eq!(bench.watch(&Harm::default()).await.deed, Deed::Removed);
    assert_eq!(bench.releases(CANARY), [""; 0]);
    assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn a_living_tool_is_left_alone_and_one_that_comes_back_stops() {
    let bench = Bench::new().await;
    let tool = tokio::spawn({
        let bench = bench.clone();
        async move { bench.live().await }
    });
    bench.until(|journal| STEP(&journal.state.phase)).await;
    let mut watchdog = Watchdog::new(&bench.config, options(), bench.store(), bench.clock);
    let outcome = watchdog.look(&harm(true, true)).await.unwrap();
    assert!(matches!(outcome.deed, Deed::Nothing { .. }), "{outcome:?}");
    tool.abort();
    let _ = tool.await;
    // The build's end says sooner than silence that it is gone.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let build = of_event(&json!({"source": "aws.codebuild"}), "orders", CANARY);
    assert_eq!(bench.watch(&build).await.deed, Deed::Removed);
    assert_eq!(
        bench.journal().await.unwrap().owner,
        None,
        "whoever owned it must claim it anew"
    );
    let none = Bench::new().await;
    let outcome = none.watch(&harm(true, true)).await;
    assert!(
        matches!(outcome.deed, Deed::Nothing { .. }),
        "there was no rollout: {outcome:?}"
    );
}
