//! The real binary, killed midway.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use embedded_sqs::faults::{FaultKind, FaultPlan, Rule};
use embedded_sqs::model::Depth;
use embedded_sqs::model::action::Action;
use embedded_sqs::server::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::world::{REGION, World, embedded, numbered, once};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_canary")));
    command
        .args(["redrive", "--dlq", &world.dead_letter])
        .args(arguments)
        .env_clear()
        .envs([
            ("AWS_ENDPOINT_URL", world.endpoint.as_str()),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().expect("runs")).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

async fn output(child: Child) -> Output {
    timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("ends")
        .unwrap()
}

/// Waits until the main queue has so many messages.
async fn sent(server: &Server, world: &World, count: usize) {
    reached(server, &world.main, |depth| depth.visible >= count).await;
}

/// Waits until the dead-letter queue has so many messages at most, those in hand included.
async fn left(server: &Server, world: &World, count: usize) {
    reached(server, &world.dead_letter, |depth| {
        depth.visible + depth.in_flight <= count
    })
    .await;
}

async fn reached(server: &Server, queue: &str, is: impl Fn(Depth) -> bool) {
    let reached = async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            tick.tick().await;
            if is(server.with_account(|account, now| account.depth(now, queue).unwrap())) {
                return;
            }
        }
    };
    timeout(PATIENCE, reached).await.expect("messages are sent back");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_nothing_is_lost_and_nothing_is_there_three_times() {
    const BAD: usize = 200;
    const OLD: usize = 60;
    for seed in 1..=6 {
        let server = embedded().await;
        let world = World::new(server.url(), false).await;
        world.bury_all("2.0", "panic", numbered("bad", BAD)).await;
        world.bury_all("1.9", "panic", numbered("old", OLD)).await;
        // Slow answers make room for the kill at every point of a slice: sent or not, deleted or not.
        let slow = |action| {
            Rule::on(
                action,
                FaultKind::Delay {
                    min_ms: 0,
                    max_ms: 20,
                },
                1.0,
            )
        };
        let rules = [
            Action::ReceiveMessage,
            Action::SendMessageBatch,
            Action::DeleteMessageBatch,
        ]
        .map(slow);
        server
            .set_faults(FaultPlan {
                seed,
                rules: rules.into(),
            })
            .unwrap();
        let arguments = ["--failed-release", "2.0", "--rate", "100000/s", "--json"];
        let child = command(&world, &arguments).spawn().unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        // In a slice it strikes after the copies were sent, or after what they are copies of was deleted.
        let count = rng.usize(1..BAD / 2);
        if seed % 2 == 0 {
            sent(&server, &world, count).await;
        } else {
            left(&server, &world, BAD + OLD - count).await;
        }
        signal(&child, Signal::SIGKILL);
        assert_eq!(output(child).await.status.code(), None, "killed");
        let before = usize::try_from(world.visible(&world.main).await).unwrap();
        assert!(
            (1..BAD).contains(&before),
            "seed {seed}: {before} were sent back before the kill"
        );

        // What was in hand comes back by its timeout.
        server.with_clock(|clock| clock.advance(Duration::from_secs(120)));
        let again = output(command(&world, &arguments).spawn().unwrap()).await;
        assert!(again.status.success(), "{again:?}");
        let copies = world.bodies(&world.main).await;
        assert!(
            copies.keys().cloned().eq(once(numbered("bad", BAD)).into_keys()),
            "seed {seed}: all of them"
        );
        let twice = copies.values().filter(|count| **count == 2).count();
        assert!(
            copies.values().all(|count| *count <= 2) && twice <= 10,
            "seed {seed}: {twice} twice: {copies:?}"
        );
        assert_eq!(
            world.bodies(&world.dead_letter).await,
            once(numbered("old", OLD)),
            "seed {seed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_in_order() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    world.bury_all("2.0", "panic", numbered("m", 100)).await;
    let child = command(&world, &["--rate", "1/s", "--json"]).spawn().unwrap();
    sent(&server, &world, 1).await;
    signal(&child, Signal::SIGINT);
    let output = output(child).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("interrupted"), "{text}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["ending"]["how"], "interrupted");
    assert_eq!(
        world.visible(&world.dead_letter).await + world.visible(&world.main).await,
        100
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_names_what_is_wrong_and_prints_a_table() {
    let server = embedded().await;
    let world = World::new(server.url(), false).await;
    for (arguments, expected) in [
        (["--to", "orders"], "as https://sqs."),
        (["--failed-release", "a b"], "is not a release name"),
        (["--since", "yesterday"], "2h for"),
        (["--rate", "0/s"], "from 1/h"),
        (["--visibility", "5s"], "30s to 1h"),
        (["--limit", "0"], "whole number of messages from 1"),
    ] {
        let output = output(command(&world, &arguments).spawn().unwrap()).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        let text = text.replace("--since <TIME>", "2h for");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    world.bury_all("2.0", "panic", numbered("m", 3)).await;
    let output = output(command(&world, &["--dry-run"]).spawn().unwrap()).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("WOULD MOVE"), "{text}");
    assert!(output.stderr.is_empty(), "no bar where there is no terminal");
}
