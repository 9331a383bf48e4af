//! Canaries that crash, hang, or never get ready.

use canary::rollout::Reason;

use crate::ground::{Ended, Ground};

async fn rolled_back(ground: &Ground, set: &[&str]) -> (Ended, Reason) {
    let ended = ground.roll_out("B", set).await;
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert_eq!(
        ground.workers(),
        [("stable A".to_owned(), 2)].into(),
        "{}",
        ended.text
    );
    let reason = ground.journal().unwrap().state.reason().cloned().unwrap();
    (ended, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_crashes_on_every_message_is_taken_away() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    let (ended, reason) = rolled_back(&ground, &["WORKER__ORDERS__CRASH_RATIO=1.0"]).await;
    assert!(ended.text.contains("ended by itself"), "{}", ended.text);
    assert!(
        matches!(reason, Reason::Guard { .. } | Reason::Harm),
        "{reason:?}"
    );
    ground.accounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_hangs_is_taken_away() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    let (_, reason) = rolled_back(&ground, &["WORKER__ORDERS__HANG_RATIO=1.0"]).await;
    assert!(
        matches!(reason, Reason::Guard { .. } | Reason::Harm),
        "{reason:?}"
    );
    ground.accounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_ends_at_once_or_never_gets_ready_is_taken_away() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    ground.settings("canary.toml", &["/bin/false"]);
    let (_, reason) = rolled_back(&ground, &[]).await;
    assert!(
        matches!(reason, Reason::Guard { .. } | Reason::NotReady { .. }),
        "{reason:?}"
    );
    ground.settings(
        "canary.toml",
        &["/bin/sh", "-c", "echo no table orders; exec sleep 1000"],
    );
    let (_, reason) = rolled_back(&ground, &[]).await;
    let Reason::NotReady { seconds: 15, said } = &reason else {
        panic!("{reason:?}");
    };
    let said = said.as_deref().unwrap_or_default();
    assert!(
        said.starts_with("canary-") && said.ends_with("its last words: no table orders"),
        "{said}"
    );
    let history = ground.run(&["history"]).await;
    assert!(
        history.text.contains("its last words: no table orders"),
        "{}",
        history.text
    );
    ground.accounts().await;
}
