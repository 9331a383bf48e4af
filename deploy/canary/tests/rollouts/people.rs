//! What people ask for, and who may ask.

use canary::journal::Journal;
use canary::rollout::{Outcome, Phase};

use crate::ground::{Ground, PLAN, ended, rollout};

#[tokio::test(flavor = "multi_thread")]
async fn pause_resume_promote_and_a_second_tool() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    let driving = ground.start(&rollout("B", &[]));
    ground
        .until("B", |journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    let second = ground.run(&rollout("B", &[])).await;
    assert!(
        second.code == Some(1) && second.text.contains("is driven by process"),
        "{}",
        second.text
    );
    let newer = ground.run(&rollout("C", &[])).await;
    assert!(
        newer.code == Some(1) && newer.text.contains("a rollout of B is under way"),
        "{}",
        newer.text
    );
    let paused = ground.run(&["pause", "--why", "lunch", "--for", "10m"]).await;
    assert!(
        paused.code == Some(0) && paused.text.contains("held by ada: lunch"),
        "{}",
        paused.text
    );
    // Eight seconds of evidence, longer than the steps' least times: without the pause it would be promoted.
    let judged = |journal: &Journal| journal.evidence.windows.last().map_or(0, |window| window.start);
    let before = judged(&ground.until("B", |journal| judged(journal) > 0).await);
    let held = ground.until("B", |journal| judged(journal) >= before + 8).await;
    assert!(
        held.state.hold.is_some() && matches!(held.state.phase, Phase::Step { .. }),
        "{:?}",
        held.state
    );
    let again = ground.run(&["resume"]).await;
    assert_eq!(again.code, Some(0), "{}", again.text);
    let refused = ground.run(&["resume"]).await;
    assert!(
        refused.code == Some(1) && refused.text.contains("it is not held"),
        "{}",
        refused.text
    );
    let promoted = ground.run(&["promote", "--why", "it is fine"]).await;
    assert_eq!(promoted.code, Some(0), "{}", promoted.text);
    let end = ended(driving).await;
    assert_eq!(end.code, Some(0), "{}", end.text);
    assert_eq!(ground.workers(), [("stable B".to_owned(), 2)].into());
    let over = ground.run(&["abort"]).await;
    assert!(
        over.code == Some(1) && over.text.contains("no rollout is under way"),
        "{}",
        over.text
    );
    ground.accounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_inconclusive_is_held_and_an_abort_needs_no_other_tool() {
    let ground = Ground::new().await;
    ground.stream(20);
    ground.with_a().await;
    let plan = PLAN
        .replace("deadline = \"60s\"", "deadline = \"9s\"")
        .replace("least_messages = 100", "least_messages = 100000");
    ground.plan("plan.toml", &plan);
    let mut arguments = rollout("B", &[]);
    arguments.push("--leave-when-held");
    let held = ground.run(&arguments).await;
    assert_eq!(held.code, Some(4), "{}", held.text);
    assert!(held.text.contains("held: no verdict"), "{}", held.text);
    let workers = [("canary B".to_owned(), 1), ("stable A".to_owned(), 2)].into();
    assert_eq!(ground.workers(), workers, "the canary keeps its share");
    let aborted = ground.run(&["abort", "--why", "not today"]).await;
    assert_eq!(aborted.code, Some(3), "{}", aborted.text);
    assert_eq!(ground.workers(), [("stable A".to_owned(), 2)].into());
    ground.end_stream().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_rolls_back_and_a_newer_release_supersedes() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    let driving = ground.start(&rollout("B", &[]));
    ground
        .until("B", |journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    let aborted = ground.run(&["abort", "--why", "a mistake"]).await;
    assert_eq!(aborted.code, Some(0), "{}", aborted.text);
    let end = ended(driving).await;
    assert!(
        end.code == Some(3) && end.text.contains("asked for by ada: a mistake"),
        "{}",
        end.text
    );
    let driving = ground.start(&rollout("B", &[]));
    ground
        .until("B", |journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    let mut arguments = rollout("C", &[]);
    arguments.push("--supersede");
    let newer = ground.run(&arguments).await;
    assert_eq!(newer.code, Some(0), "{}", newer.text);
    assert_eq!(ended(driving).await.code, Some(3));
    assert_eq!(ground.workers(), [("stable C".to_owned(), 2)].into());
    assert_eq!(ground.journal().unwrap().state.outcome(), Some(Outcome::Promoted));
    ground.accounts().await;
}
