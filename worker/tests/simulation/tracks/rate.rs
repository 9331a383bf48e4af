//! A canary that fails everything is stopped by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use worker::evidence::Breaker;
use worker::release::Track;

use super::control::Control;
use super::lake::Lake;
use super::process::{DEADLINE, Process, Setup, WAIT};
use super::{Workload, document, on_paused_clock};

/// Failed attempts up to the one that opened a canary's breaker, and after it; it fails everything from `healthy` on.
async fn until_opened(concurrency: usize, healthy: Duration) -> (u64, u64) {
    let lake = Lake::new(7, 5);
    let handler = Arc::new(Workload {
        truth: Arc::default(),
        started: Instant::now(),
        down_until: None,
        broken_from: Some(Instant::now() + healthy),
        takes: (20, 400),
    });
    lake.send((0..40_000).map(|number| format!("fine-{number}")));
    let control = Control::prompt();
    control.set(document(1, r#"{"max_failure_rate":0.02}"#));
    let setup = Setup {
        seed: 7,
        track: Track::Canary,
        concurrency,
        deadline: DEADLINE,
        wait: WAIT,
        control: Some(control),
    };
    let canary = Process::start(&lake, &setup, &handler).await;
    let began = Instant::now();
    while canary.state().rate_breaker == Breaker::Closed {
        assert!(
            began.elapsed() < healthy + Duration::from_secs(60),
            "it stays closed"
        );
        sleep(Duration::from_millis(10)).await;
    }
    let before = canary.opened.failed().expect("it opened");
    sleep(Duration::from_millis(900)).await;
    let after = canary.failed() - before;
    // From then on it probes: a message a second.
    sleep(Duration::from_secs(30)).await;
    let probes = canary.failed() - before - after;
    assert!((5..=31).contains(&probes), "{probes} probes in 30 s");
    canary.stop().await;
    (before, after)
}

#[test]
fn a_canary_that_fails_everything_is_stopped_at_once_from_the_start_and_later() {
    for concurrency in [1, 10, 100] {
        let (before, after) = on_paused_clock(until_opened(concurrency, Duration::ZERO));
        // Five are proof at an allowed 2 %.
        assert!(
            before + after <= 10 && after <= 5,
            "{before} and {after} at {concurrency}"
        );
        let (before, after) = on_paused_clock(until_opened(concurrency, Duration::from_secs(20)));
        assert!(
            after <= 5,
            "{before} and {after} at {concurrency}, after 20 healthy seconds"
        );
    }
}
