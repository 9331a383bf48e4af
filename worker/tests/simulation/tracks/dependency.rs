//! A dependency of the handlers that is down for a long time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use worker::evidence::Breaker;
use worker::release::Track;

use super::lake::{Lake, VISIBILITY};
use super::process::{DEADLINE, Process, Setup, WAIT};
use super::{Truth, Workload, on_paused_clock};

#[test]
fn a_dependency_down_for_ten_minutes_dead_letters_nothing() {
    on_paused_clock(async {
        let lake = Lake::new(1, 5);
        let truth = Arc::new(Truth::default());
        let handler = Arc::new(Workload {
            truth: Arc::clone(&truth),
            started: Instant::now(),
            down_until: Some(Instant::now() + Duration::from_secs(600)),
            broken_from: None,
            takes: (20, 60),
        });
        lake.send((0..1000).map(|number| format!("fine-{number}")));
        let mut processes = Vec::new();
        for seed in 0..5 {
            let setup = Setup {
                seed,
                track: Track::Stable,
                concurrency: 10,
                deadline: DEADLINE,
                wait: WAIT,
                control: None,
            };
            processes.push(Process::start(&lake, &setup, &handler).await);
        }
        sleep(Duration::from_secs(300)).await;
        assert!(
            processes
                .iter()
                .all(|process| process.state().dependency_breaker != Breaker::Closed)
        );
        assert_eq!(lake.depth(&lake.main), 1000);
        // What is in hand is all that was ever received: slots, and the receives under way when it opened.
        let begun: u64 = processes.iter().map(Process::failed).sum();
        assert!(begun <= 5 * 20, "{begun} messages were tried during the outage");
        sleep(Duration::from_secs(360)).await;
        assert_eq!(lake.depth(&lake.main), 0);
        assert_eq!(truth.done.lock().unwrap().len(), 1000);
        assert!(lake.dead_letters().is_empty());
        for process in processes {
            process.stop().await;
        }
    });
}

/// SQS refuses their next beat. From then on they must hold no slot, and take no probe's turn, of those that are still there.
#[test]
fn messages_that_are_lost_while_they_wait_in_place_are_let_go_of_at_once() {
    on_paused_clock(async {
        let lake = Lake::new(2, 5);
        let truth = Arc::new(Truth::default());
        let handler = Arc::new(Workload {
            truth: Arc::clone(&truth),
            started: Instant::now(),
            down_until: Some(Instant::now() + Duration::from_secs(600)),
            broken_from: None,
            takes: (20, 60),
        });
        lake.send((0..10).map(|number| format!("fine-{number}")));
        let setup = Setup {
            seed: 2,
            track: Track::Stable,
            concurrency: 10,
            deadline: DEADLINE,
            wait: WAIT,
            control: None,
        };
        let process = Process::start(&lake, &setup, &handler).await;
        sleep(Duration::from_secs(120)).await;
        assert_eq!(process.held(), 10);
        lake.purge();
        // The next beat comes within a third of the visibility timeout; probes go every half minute.
        sleep(VISIBILITY / 3 + Duration::from_secs(1)).await;
        assert_eq!(process.held(), 0);
        sleep(Duration::from_secs(600)).await;
        lake.send(["fine-10".to_owned()]);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(lake.depth(&lake.main), 0);
        assert_eq!(truth.done.lock().unwrap().len(), 1);
        process.stop().await;
    });
}
