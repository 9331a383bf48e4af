//! What is refused before the start, with nothing changed, and how it is set right.

use canary::rollout::{Outcome, Phase};

use crate::ground::{Ended, Ground, PLAN, ended, interrupt, rollout};

fn is_refused(ended: &Ended, because: &str) {
    assert!(
        ended.code == Some(1) && ended.text.contains(because),
        "{because}: {}",
        ended.text
    );
    assert!(!ended.text.contains("the canary is ready"), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stable_processes_there_is_nothing_to_compare_with() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    // Killed, and nobody is there to notice.
    ground.kill_workers();
    let status = ground.run(&["status"]).await;
    assert!(
        status.text.contains("stable service: A, 0 of 2 processes ready")
            && status.text.contains("2 processes are gone; `canary fleet run`"),
        "{}",
        status.text
    );
    let dead = ground.roll_out("B", &[]).await;
    is_refused(
        &dead,
        "0 of 2 stable processes of A run, and there is nothing to compare with; `canary fleet run` starts them",
    );
    assert!(ground.workers().is_empty(), "{:?}", ground.workers());
    // Stopped.
    let stopped = ground.run(&["fleet", "stop"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.text);
    is_refused(
        &ground.roll_out("B", &[]).await,
        "0 of 2 stable processes of A run",
    );
    let status = ground.run(&["status"]).await;
    assert!(
        status
            .text
            .contains("the fleet is stopped; `canary fleet run` starts A again"),
        "{}",
        status.text
    );
    // Looked after again, by one that leaves them to a rollout while it lasts: none of the two starts what the other has stopped.
    let mut looking_after = ground.start(&["fleet", "run"]);
    ground.until_ready(2).await;
    let good = ground.roll_out("B", &[]).await;
    assert_eq!(good.code, Some(0), "{}", good.text);
    assert_eq!(ground.workers(), [("stable B".to_owned(), 2)].into());
    ground.kill_workers();
    ground.until_ready(2).await;
    assert_eq!(ground.workers(), [("stable B".to_owned(), 2)].into());
    looking_after.kill().await.unwrap();
    ground.accounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_or_a_queue_that_is_not_there_is_named_and_set_right_without_an_abort() {
    let ground = Ground::new().await;
    let first = |ground: &Ground| {
        let mut arguments = rollout("A", &[]);
        arguments.extend(["--skip-canary", "a test begins"]);
        ended(ground.start(&arguments))
    };
    ground.settings("canary.toml", &["no-such-worker", "run"]);
    is_refused(
        &first(&ground).await,
        "fleet.command: no-such-worker is not in PATH",
    );
    ground.settings("canary.toml", &["canary.toml/", "run"]);
    is_refused(
        &first(&ground).await,
        "fleet.command: there is no file canary.toml/",
    );
    ground.settings("canary.toml", &[env!("CARGO_BIN_EXE_canary"), "worker", "run"]);
    let handover = ground.handover.clone();
    ground.change_settings(&handover, &format!("{handover}-no"));
    is_refused(&first(&ground).await, "handover.url: ");
    ground.change_settings(&format!("{handover}-no"), &handover);
    ground.change_settings("WORKER__CONCURRENCY = \"20\"", "WORKER__CONCURRENCY = \"many\"");
    is_refused(&first(&ground).await, "concurrency");
    ground.change_settings("WORKER__CONCURRENCY = \"many\"", "WORKER__CONCURRENCY = \"20\"");
    let unreachable = ["AWS_ENDPOINT_URL=http://127.0.0.1:1"];
    let mut arguments = rollout("A", &unreachable);
    arguments.extend(["--skip-canary", "a test begins"]);
    is_refused(&ended(ground.start(&arguments)).await, "queue.url: ");
    assert!(ground.workers().is_empty(), "{:?}", ground.workers());
    assert_eq!(ground.journal().unwrap().state.outcome(), Some(Outcome::Refused));
    // Nothing is left of all that.
    let right = first(&ground).await;
    assert_eq!(right.code, Some(0), "{}", right.text);
    assert_eq!(ground.workers(), [("stable A".to_owned(), 2)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_received_nothing_begins_anew_with_corrected_settings_and_what_has_does_not() {
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    // What never gets ready.
    ground.settings("canary.toml", &["/bin/sh", "-c", "exec sleep 1000"]);
    let driving = ground.start(&rollout("B", &[]));
    ground
        .until("B", |journal| {
            matches!(journal.state.phase, Phase::Deploying { .. })
        })
        .await;
    interrupt(&driving);
    let left = ended(driving).await;
    assert!(
        left.code == Some(1)
            && left
                .text
                .contains("nobody judges B now: its canary takes nothing yet")
            && left.text.contains(
                "`canary rollout --plan FILE --release B` goes on with it; `canary abort` takes it back"
            ),
        "{}",
        left.text
    );
    ground.settings("canary.toml", &[env!("CARGO_BIN_EXE_canary"), "worker", "run"]);
    let driving = ground.start(&rollout("B", &[]));
    ground
        .until("B", |journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    interrupt(&driving);
    let again = ended(driving).await;
    assert!(
        again
            .text
            .contains("it begins anew: other than before is fleet.command"),
        "{}",
        again.text
    );
    assert!(
        again
            .text
            .contains("% of the messages. A fleet on one machine has no watchdog"),
        "{}",
        again.text
    );
    // From the first message on a release is one configuration, and its rollout goes by one plan.
    let other = ground.roll_out("B", &["WORKER__CONCURRENCY=5"]).await;
    is_refused(&other, "with another command or environment is under way");
    is_refused(
        &other,
        "other than when the rollout began: environment.WORKER__CONCURRENCY",
    );
    ground.plan("plan.toml", &PLAN.replace("silence = \"8s\"", "silence = \"9s\""));
    let end = ground.roll_out("B", &[]).await;
    assert!(
        end.code == Some(0)
            && end.text.contains("the plan has changed since the rollout began")
            && end.text.contains("not used: guards.silence"),
        "{}",
        end.text
    );
    ground.accounts().await;
}
