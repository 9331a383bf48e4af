//! The tool and its workers, killed by SIGKILL at random moments.

use std::time::Duration;

use canary::rollout::{Outcome, Phase};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::ground::{Ground, ended, rollout};

/// `KILLS=50 cargo test -p canary --test rollouts killed` kills more often; `SEED` repeats a run.
fn variable(name: &str, or: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(or)
}

fn sigkill(pid: u32) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
}

/// One of the workers that the journal names, by its process.
fn a_worker(ground: &Ground, rng: &mut fastrand::Rng) -> Option<u32> {
    let control = format!(
        "WORKER__CONTROL__SOURCE=file:{}",
        ground.path("state/control.json").display()
    );
    let pids: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let environment = std::fs::read_to_string(entry.path().join("environ")).unwrap_or_default();
            environment.split('\0').any(|variable| variable == control)
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    rng.choice(pids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let (kills, seed) = (variable("KILLS", 5), variable("SEED", 6));
    println!("{kills} kills, seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let ground = Ground::new().await;
    ground.stream(100);
    ground.with_a().await;
    for release in ["B", "C"] {
        let (set, expected, stable): (&[&str], _, _) = match release {
            "B" => (&[], Outcome::Promoted, "stable B"),
            _ => (
                &["WORKER__ORDERS__RETRY_RATIO=0.3"],
                Outcome::RolledBack,
                "stable B",
            ),
        };
        let (mut left, mut killed) = (kills.div_ceil(2), 0);
        let code = loop {
            let mut driving = ground.start(&rollout(release, set));
            let pid = driving.id().unwrap();
            if left == 0 {
                let end = ended(driving).await;
                break end;
            }
            let moment = sleep(Duration::from_millis(rng.u64(50..2000)));
            let over = tokio::select! {
                _ = driving.wait() => true,
                () = moment => false,
            };
            if over {
                // A bad release can be gone before the last kill.
                break ended(driving).await;
            }
            left -= 1;
            killed += 1;
            sigkill(pid);
            driving.wait().await.unwrap();
            // A worker as well, now and then: whoever is started next must notice. Not before the start: where nothing stable runs there
            // is no rollout.
            let begun = ground
                .journal()
                .is_some_and(|journal| journal.state.phase != Phase::Preflight);
            if begun
                && rng.bool()
                && let Some(worker) = a_worker(&ground, &mut rng)
            {
                sigkill(worker);
            }
        };
        println!("{release}: killed {killed} times");
        assert!(killed > 0, "{}", code.text);
        let journal = ground.journal().unwrap();
        assert_eq!(journal.state.outcome(), Some(expected), "{}", code.text);
        assert_eq!(ground.workers(), [(stable.to_owned(), 2)].into(), "{}", code.text);
        let starts = journal.evidence.windows.windows(2);
        assert!(
            starts.into_iter().all(|pair| pair[0].start < pair[1].start),
            "a window entered twice"
        );
    }
    ground.accounts().await;
}
