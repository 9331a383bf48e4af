//! What goes wrong on the way: at ECS, with its answers, and with the tool.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_start_is_rolled_back_as_soon_as_ecs_gives_it_up() {
    let bench = Bench::new().await;
    bench
        .fake
        .change(|world| world.never_start.insert((CANARY.to_owned(), "b".to_owned())));
    let began = bench.now();
    assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
    assert_eq!(bench.fake.end_state(), end("a"));
    let reason = bench.reason().await;
    assert!(reason.contains("circuit breaker"), "{reason}");
    assert!(bench.now().since(began) < Duration::from_secs(u64::from(bench.ready_within)));
    let journal = bench.journal().await.unwrap();
    let told = journal.timeline.iter().any(|entry| {
        matches!(&entry.happening, Happening::Crashed { text, .. } if text.contains("CannotPullContainerError"))
    });
    assert!(told, "{:#?}", journal.timeline);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_ecs_itself_is_noticed_and_followed() {
    let bench = Bench::new().await;
    bench
        .fake
        .change(|world| world.never_start.insert((STABLE.to_owned(), "b".to_owned())));
    assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
    assert_eq!(bench.fake.end_state(), end("a"));
    let reason = bench.reason().await;
    assert!(reason.contains("runs orders-worker:1 again"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn throttling_and_answers_that_lag_behind_change_nothing() {
    for (throttled, lag) in [(3, 0), (0, 10), (4, 8)] {
        for bad in [false, true] {
            let bench = Bench::new().await;
            bench.fake.change(|world| {
                world.throttled = throttled;
                world.lag = Duration::from_secs(lag);
                if bad {
                    world.failures.insert("b".to_owned(), 6);
                }
            });
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
async fn a_tool_that_is_killed_again_and_again_comes_to_the_same_end() {
    for seconds in [3, 5, 11, 23, 47] {
        for bad in [false, true] {
            let mut bench = Bench::new().await;
            bench.ready_within = 600;
            if bad {
                bench
                    .fake
                    .change(|world| world.failures.insert("b".to_owned(), 6));
            }
            let (outcome, release) = if bad {
                (Outcome::RolledBack, "a")
            } else {
                (Outcome::Promoted, "b")
            };
            let ended = bench.to_the_end_in_pieces(Duration::from_secs(seconds)).await;
            assert_eq!(ended, outcome, "{seconds} s: {}", bench.reason().await);
            assert_eq!(bench.fake.end_state(), end(release), "{seconds} s");
            let revisions = bench.fake.change(|world| {
                let registered = world.deeds.iter().filter(|deed| *deed == "registered b");
                registered.count()
            });
            assert_eq!(revisions, 1, "{seconds} s: the revision under way is found again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_tools_one_drives() {
    let bench = Bench::new().await;
    let first = tokio::spawn({
        let bench = bench.clone();
        async move { bench.live().await }
    });
    bench.until(is_step).await;
    let (store, now) = (bench.store(), bench.now());
    let mut other = me(now);
    other.host = "elsewhere".to_owned();
    let refused = claim(&store, None, other.clone(), true).await;
    assert!(matches!(refused, Err(ClaimError::Owned { dead: false, .. })));
    // Somebody takes it over by force: the first one fails at its next write and stops.
    let (mut journal, version) = store.read().await.unwrap().unwrap();
    journal.owner = Some(other);
    let written = store.write(&journal, Some(&version)).await;
    assert!(matches!(written, Ok(_) | Err(StoreError::Conflict)));
    if written.is_ok() {
        assert!(matches!(first.await.unwrap(), Err(DriveError::Lost(_))));
    }
}
