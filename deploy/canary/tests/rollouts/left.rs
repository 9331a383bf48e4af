//! Rollouts that nobody drives: what they say, and what can be asked of them.

use canary::rollout::Phase;

use crate::ground::{Ground, ended, interrupt, rollout};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tool_a_pause_holds_at_once_and_what_needs_one_is_refused_and_not_kept() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    let driving = ground.start(&rollout("B", &[]));
    ground
        .until("B", |journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    interrupt(&driving);
    let left = ended(driving).await;
    assert!(
        left.code == Some(1) && left.text.contains("nobody judges B now: its canary"),
        "{}",
        left.text
    );
    let status = ground.run(&["status"]).await;
    assert!(
        status
            .text
            .contains("nobody drives it: `canary rollout --plan FILE --release B` goes on with it"),
        "{}",
        status.text
    );
    for request in ["promote", "resume"] {
        let refused = ground.run(&[request]).await;
        assert!(
            refused.code == Some(1)
                && refused.text.contains(
                    "refused: nobody drives the rollout; `canary rollout --plan FILE --release B` goes on with it"
                ),
            "{}",
            refused.text
        );
    }
    let control = || std::fs::read_to_string(ground.path("state/control.json")).unwrap();
    assert!(!control().contains("\"paused\":true"), "{}", control());
    let paused = ground.run(&["pause", "--shut", "--why", "lunch"]).await;
    assert!(
        paused.code == Some(0)
            && paused.text.contains("done: held by ada: lunch")
            && paused
                .text
                .contains("nobody judges B now: its canary takes nothing."),
        "{}",
        paused.text
    );
    assert!(control().contains("\"paused\":true"), "{}", control());
    let journal = ground.journal().unwrap();
    assert!(journal.state.hold.is_some() && journal.owner.is_none() && journal.requests.is_empty());
    let workers = [("canary B".to_owned(), 1), ("stable A".to_owned(), 2)].into();
    assert_eq!(ground.workers(), workers);
    // What was refused does not fire now.
    let driving = ground.start(&rollout("B", &[]));
    ground.until("B", |journal| journal.owner.is_some()).await;
    let resumed = ground.run(&["resume"]).await;
    assert!(
        resumed.code == Some(0) && resumed.text.contains("done: resumed by ada"),
        "{}",
        resumed.text
    );
    let end = ended(driving).await;
    assert!(
        end.code == Some(0) && !end.text.contains("asked for by ada"),
        "{}",
        end.text
    );
    ground.accounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_was_interrupted_names_what_goes_on_with_it() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    let mut at_once = rollout("B", &[]);
    at_once.extend(["--skip-canary", "a test"]);
    let promoted = ground.run(&at_once).await;
    assert_eq!(promoted.code, Some(0), "{}", promoted.text);
    let back = ["rollback", "--to", "A", "--why", "orders are lost"];
    let driving = ground.start(&back);
    ground
        .until("A", |journal| {
            matches!(journal.state.phase, Phase::Promoting { .. })
        })
        .await;
    interrupt(&driving);
    let left = ended(driving).await;
    assert!(
        left.code == Some(1)
            && left.text.contains("`canary rollback --to A` goes on with it")
            && !left.text.contains("canary abort"),
        "{}",
        left.text
    );
    let abort = ground.run(&["abort"]).await;
    assert!(
        abort.code == Some(1) && abort.text.contains("refused: this is a rollback already"),
        "{}",
        abort.text
    );
    let again = ground.run(&["rollback", "--to", "A"]).await;
    assert!(
        again.code == Some(0) && again.text.contains("ended: restored"),
        "{}",
        again.text
    );
    assert_eq!(ground.workers(), [("stable A".to_owned(), 2)].into());
    ground.accounts().await;
}
