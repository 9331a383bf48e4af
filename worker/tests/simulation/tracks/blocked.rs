//! A handler that blocks its thread past the deadline: it cannot be ended, so its message must not go to anybody else before it has.
//!
//! On the real clock, since a thread that blocks stops the paused one.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use worker::handler::{Context, Handler, Outcome};
use worker::message::Message;
use worker::release::Track;

use super::control::Control;
use super::document;
use super::lake::Lake;
use super::process::{Process, Setup, WAIT};

/// Blocks until it is told how to end.
#[derive(Debug)]
struct Blocks {
    told: Mutex<Receiver<Outcome>>,
    begun: AtomicUsize,
}

impl Handler for Blocks {
    async fn handle(&self, _: &Message, _: &Context) -> Outcome {
        self.begun.fetch_add(1, SeqCst);
        self.told.lock().unwrap().recv().unwrap()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{what}: not within a minute"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// A canary whose only attempt blocks until long after its deadline.
async fn stuck() -> (Arc<Lake>, Process, Arc<Blocks>, Sender<Outcome>) {
    let lake = Lake::new(3, 5);
    let (tell, told) = channel();
    let handler = Arc::new(Blocks {
        told: Mutex::new(told),
        begun: AtomicUsize::new(0),
    });
    let control = Control::prompt();
    control.set(document(1, "{}"));
    lake.send(["one".to_owned()]);
    let setup = Setup {
        seed: 3,
        track: Track::Canary,
        concurrency: 1,
        deadline: Duration::from_millis(100),
        wait: WAIT,
        control: Some(control),
    };
    let canary = Process::start(&lake, &setup, &handler).await;
    let says = |live: Result<(), String>| live.is_err_and(|error| error.contains("attempts that do not end"));
    until("it says that it is stuck", || says(canary.live())).await;
    // Its attempt has failed, seconds ago, and nobody else has the message.
    assert_eq!(canary.failed(), 1);
    assert_eq!(lake.most_handed_over(), 0);
    assert_eq!((lake.depth(&lake.main), canary.held()), (1, 1));
    (lake, canary, handler, tell)
}

fn on_threads(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_time()
        .build();
    runtime.unwrap().block_on(run);
}

#[test]
fn a_blocked_attempt_is_handed_over_once_it_has_ended() {
    on_threads(async {
        let (lake, canary, handler, tell) = stuck().await;
        tell.send(Outcome::retry("at last")).unwrap();
        until("it is handed over", || lake.depth(&lake.handover) == 1).await;
        until("it has left the main queue", || lake.depth(&lake.main) == 0).await;
        until("it is well again", || canary.live().is_ok()).await;
        canary.stop().await;
        assert_eq!((lake.most_handed_over(), handler.begun.load(SeqCst)), (1, 1));
    });
}

#[test]
fn a_blocked_attempt_that_ends_well_is_done_and_not_handed_over() {
    on_threads(async {
        let (lake, canary, handler, tell) = stuck().await;
        tell.send(Outcome::Done).unwrap();
        until("it has left the main queue", || lake.depth(&lake.main) == 0).await;
        canary.stop().await;
        assert_eq!(lake.depth(&lake.handover), 0);
        assert_eq!((lake.most_handed_over(), handler.begun.load(SeqCst)), (0, 1));
    });
}
