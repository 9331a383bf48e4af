//! The same on LocalStack, smaller.

use std::path::Path;
use std::process::Command;

use canary::rollout::{Outcome, Reason};

use crate::ground::Ground;

/// `localstack/start` exits with this when there is neither Docker nor a Python to run it with.
const EXIT_UNAVAILABLE: i32 = 69;

/// The endpoint; none where LocalStack cannot run, which is said.
fn endpoint() -> Option<String> {
    let port = std::env::var("LOCALSTACK_PORT").unwrap_or_else(|_| "4566".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../localstack/start");
    let status = Command::new(&script)
        .status()
        .expect("localstack/start can be run");
    if status.success() {
        return Some(format!("http://127.0.0.1:{port}"));
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        status.code() == Some(EXIT_UNAVAILABLE) && !ci,
        "localstack/start failed ({status}): the tests on the real wire cannot run"
    );
    eprintln!("\n*** NOT RUN: this machine has neither Docker nor a Python for LocalStack. ***\n");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_release_is_rolled_back_and_nothing_is_lost() {
    let Some(endpoint) = endpoint() else { return };
    let ground = Ground::on(endpoint, &format!("rollouts-{}", std::process::id())).await;
    ground.stream(40);
    ground.with_a().await;
    let bad = ground.roll_out("B", &["WORKER__ORDERS__RETRY_RATIO=0.5"]).await;
    assert_eq!(bad.code, Some(3), "{}", bad.text);
    let state = ground.journal().unwrap().state;
    assert_eq!(state.outcome(), Some(Outcome::RolledBack));
    assert!(
        matches!(state.reason(), Some(Reason::Harm | Reason::Guard { .. })),
        "{state:?}"
    );
    assert_eq!(ground.workers(), [("stable A".to_owned(), 2)].into());
    ground.accounts().await;
    ground.delete_queues().await;
}
