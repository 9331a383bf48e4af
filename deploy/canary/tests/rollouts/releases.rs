//! Good releases and bad ones.

use canary::rollout::{Happening, Outcome, Phase, Reason};

use crate::ground::{Ground, PLAN};

const MANY: &str = "WORKER__ORDERS__RETRY_RATIO=0.25";

fn told(journal: &canary::journal::Journal, is: impl Fn(&Happening) -> bool) -> bool {
    journal.timeline.iter().any(|entry| is(&entry.happening))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_release_is_promoted_a_bad_one_is_not_and_a_settled_one_is_rolled_back() {
    let ground = Ground::new().await;
    ground.stream(150);
    // The first release has nothing to be compared with.
    let first = ground.roll_out("A", &[]).await;
    assert_eq!(first.code, Some(0), "{}", first.text);
    assert!(first.text.contains("this is the first release"), "{}", first.text);
    let good = ground.roll_out("B", &[]).await;
    assert_eq!(good.code, Some(0), "{}", good.text);
    assert_eq!(ground.workers(), [("stable B".to_owned(), 2)].into());
    let journal = ground.journal().unwrap();
    assert!(told(&journal, |happening| matches!(
        happening,
        Happening::BakeBegan { .. }
    )));
    let bad = ground.roll_out("C", &[MANY]).await;
    assert_eq!(bad.code, Some(3), "{}", bad.text);
    let journal = ground.journal().unwrap();
    assert_eq!(journal.state.reason(), Some(&Reason::Harm), "{}", bad.text);
    assert!(!told(&journal, |happening| matches!(
        happening,
        Happening::Promoting { .. }
    )));
    assert_eq!(
        ground.workers(),
        [("stable B".to_owned(), 2)].into(),
        "the healthy fleet is untouched"
    );
    // After settling, by name; and never to what runs, nor to what never ran.
    for (to, expected) in [
        ("B", "is what runs as stable"),
        ("Z", "has never been stable here"),
    ] {
        let refused = ground.run(&["rollback", "--to", to]).await;
        assert!(
            refused.code == Some(1) && refused.text.contains(expected),
            "{}",
            refused.text
        );
    }
    let back = ground
        .run(&["rollback", "--to", "A", "--why", "orders are lost"])
        .await;
    assert_eq!(back.code, Some(0), "{}", back.text);
    assert_eq!(ground.workers(), [("stable A".to_owned(), 2)].into());
    assert_eq!(ground.journal().unwrap().state.outcome(), Some(Outcome::Restored));
    ground.accounts().await;
    assert_eq!(
        std::fs::read_dir(ground.path("state/history")).unwrap().count(),
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bad_only_once_it_has_the_work_is_rolled_back_in_the_bake() {
    let ground = Ground::new().await;
    ground.stream(150);
    ground.with_a().await;
    let worker = env!("CARGO_BIN_EXE_canary");
    let script =
        format!("if [ \"$WORKER__TRACK\" = stable ]; then export {MANY}; fi; exec '{worker}' worker");
    ground.settings("canary.toml", &["/bin/sh", "-c", &script]);
    ground.plan("plan.toml", &PLAN.replace("time = \"4s\"", "time = \"40s\""));
    let ended = ground.roll_out("B", &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    let journal = ground.journal().unwrap();
    assert!(
        told(&journal, |happening| *happening == Happening::Promoted),
        "{}",
        ended.text
    );
    assert!(
        told(&journal, |happening| *happening
            == Happening::StableRestored { stopped: false }),
        "{}",
        ended.text
    );
    assert_eq!(ground.workers(), [("stable A".to_owned(), 2)].into());
    ground.accounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_outage_convicts_nobody() {
    let ground = Ground::new().await;
    ground.stream(150);
    ground.with_a().await;
    let rollout = ground.start(&crate::ground::rollout("B", &[]));
    ground
        .until("B", |journal| {
            matches!(journal.state.phase, Phase::Step { index: 0, .. })
        })
        .await;
    // For some seconds most of what is new fails, whoever takes it.
    ground.send_failing(1500).await;
    let ended = crate::ground::ended(rollout).await;
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let journal = ground.journal().unwrap();
    let failed: u64 = journal
        .evidence
        .windows
        .iter()
        .map(|window| window.baseline.failures())
        .sum();
    assert!(failed > 300, "{failed}");
    ground.accounts().await;
}
