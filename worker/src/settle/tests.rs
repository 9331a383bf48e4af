use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{CopyKind, Options, Settle, Ticket};
use crate::events::Events;
use crate::failure::StoryFate;
use crate::handler::Reason;
use crate::lease::{Lease, Leases};
use crate::metrics::{BUCKETS, SETTLE_DURATION};
use crate::queue::scripted::{Answer, Call, Scripted, events, events_to};
use crate::queue::{ErrorKind, Outgoing};
use crate::retry::Backoff;

const OPTIONS: Options = Options {
    linger: Duration::from_millis(5),
    give_up: Duration::from_secs(20),
    calls: 4,
    backoff: Backoff {
        base: Duration::from_millis(200),
        max: Duration::from_secs(2),
    },
    refused_delay: Duration::from_secs(60),
};

struct Fixture {
    queue: Arc<Scripted>,
    dead: Arc<Scripted>,
    settle: Settle,
    tasks: JoinSet<()>,
    began: Instant,
}

impl Fixture {
    /// The main queue by `script`, the dead-letter queue by `dead`.
    fn new(
        script: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static,
        dead: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with(script, dead, &events())
    }

    fn with(
        script: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static,
        dead: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static,
        events: &Arc<Events>,
    ) -> Self {
        let (queue, dead) = (Scripted::new(script), Scripted::new(dead));
        let (settle, tasks) = Settle::start(&queue, &dead, None, OPTIONS, events);
        Self {
            queue,
            dead,
            settle,
            tasks,
            began: Instant::now(),
        }
    }

    /// Ends as a consumer does; what was asked of the main queue.
    async fn end(self) -> Vec<Call> {
        drop(self.settle);
        let mut tasks = self.tasks;
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        self.queue.asked()
    }
}

fn ticket(number: usize) -> (Ticket, oneshot::Receiver<bool>) {
    let (sender, receiver) = oneshot::channel();
    let ticket = Ticket {
        message_id: format!("m{number}").into(),
        receipt: format!("r{number}").into(),
        lease: None,
        hold: None,
        settled: Some(sender),
    };
    (ticket, receiver)
}

fn outgoing(bytes: usize) -> Outgoing {
    Outgoing {
        body: "x".repeat(bytes),
        ..Outgoing::default()
    }
}

const DEAD_LETTER: CopyKind = CopyKind::DeadLetter {
    reason: Reason::INVALID,
    story: StoryFate::Attached,
};

fn handles(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("r{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn deletions_go_in_batches_of_ten_and_a_lone_one_lingers() {
    let fixture = Fixture::new(|_, _| Answer::Done, |_, _| Answer::Done);
    for number in 0..25 {
        fixture.settle.delete(ticket(number).0);
    }
    sleep(Duration::from_secs(1)).await;
    fixture.settle.delete(ticket(25).0);
    sleep(Duration::from_secs(1)).await;
    let calls = fixture.queue.calls();
    let sizes: Vec<_> = calls.iter().map(|(_, call)| call.entries()).collect();
    assert_eq!(sizes, [10, 10, 5, 1]);
    assert_eq!(
        calls[3].0 - fixture.began,
        Duration::from_secs(1) + OPTIONS.linger
    );
}

#[tokio::test(start_paused = true)]
async fn failed_entries_are_tried_again_alone() {
    let script = |call, _: &Call| match call {
        0 => Answer::Partly(vec![(1, ErrorKind::Server), (2, ErrorKind::Throttled)]),
        1 => Answer::Short(1),
        2 => Answer::Refused(ErrorKind::Timeout),
        _ => Answer::Done,
    };
    let fixture = Fixture::new(script, |_, _| Answer::Done);
    let receivers: Vec<_> = (0..4)
        .map(|number| {
            let (ticket, receiver) = ticket(number);
            fixture.settle.delete(ticket);
            receiver
        })
        .collect();
    for receiver in receivers {
        assert!(receiver.await.unwrap());
    }
    let expected = [handles(0..4), handles(1..3), handles([2]), handles([2])].map(Call::Delete);
    assert_eq!(fixture.end().await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_no_repeat_can_mend_is_given_up_at_once() {
    for kind in ErrorKind::ALL.into_iter().filter(|kind| !kind.is_transient()) {
        let fixture = Fixture::new(move |_, _| Answer::Partly(vec![(0, kind)]), |_, _| Answer::Done);
        let (ticket, receiver) = ticket(0);
        fixture.settle.delete(ticket);
        assert!(!receiver.await.unwrap(), "{kind:?}");
        assert_eq!(fixture.end().await.len(), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_failing_is_given_up_in_time() {
    let fixture = Fixture::new(|_, _| Answer::Refused(ErrorKind::Server), |_, _| Answer::Done);
    let (ticket, receiver) = ticket(0);
    fixture.settle.delete(ticket);
    assert!(!receiver.await.unwrap());
    let took = fixture.began.elapsed();
    let latest = OPTIONS.give_up + OPTIONS.backoff.max + OPTIONS.linger;
    assert!((OPTIONS.give_up..=latest).contains(&took), "{took:?}");
    // Full jitter up to 2 s: about one try a second, and never a tight loop.
    let tries = fixture.end().await.len();
    assert!((8..80).contains(&tries), "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn a_message_is_deleted_after_its_copy_was_accepted_and_not_before() {
    let late = |_, _: &Call| Answer::Late(Duration::from_secs(1));
    let fixture = Fixture::new(|_, _| Answer::Done, late);
    let (ticket, receiver) = ticket(0);
    fixture.settle.copy(ticket, outgoing(1), DEAD_LETTER);
    sleep(Duration::from_millis(900)).await;
    assert_eq!(fixture.dead.asked(), [Call::Send(vec![outgoing(1)])]);
    assert_eq!(fixture.queue.asked(), []);
    assert!(receiver.await.unwrap());
    assert_eq!(fixture.end().await, [Call::Delete(handles([0]))]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_copy_is_refused_comes_back_and_is_not_deleted() {
    let refused = |_, _: &Call| Answer::Partly(vec![(0, ErrorKind::Denied)]);
    let fixture = Fixture::new(|_, _| Answer::Done, refused);
    let ((first, refused), (second, accepted)) = (ticket(0), ticket(1));
    fixture.settle.copy(first, outgoing(1), DEAD_LETTER);
    fixture.settle.copy(second, outgoing(2), DEAD_LETTER);
    assert!(!refused.await.unwrap());
    assert!(accepted.await.unwrap());
    let mut asked = fixture.end().await;
    asked.sort_by_key(|call| matches!(call, Call::Change(_)));
    let delay = Call::Change(vec![("r0".to_owned(), 60)]);
    assert_eq!(asked, [Call::Delete(handles([1])), delay]);
}

#[tokio::test(start_paused = true)]
async fn a_requeued_copy_goes_to_the_main_queue() {
    let fixture = Fixture::new(|_, _| Answer::Done, |_, _| Answer::Done);
    fixture.settle.copy(ticket(0).0, outgoing(1), CopyKind::Requeue);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.dead.asked(), []);
    assert_eq!(
        fixture.end().await,
        [Call::Send(vec![outgoing(1)]), Call::Delete(handles([0]))]
    );
}

#[tokio::test(start_paused = true)]
async fn copies_of_one_call_are_within_a_mebibyte() {
    let fixture = Fixture::new(|_, _| Answer::Done, |_, _| Answer::Done);
    let kib = [400, 400, 400, 1024, 1, 1];
    for (number, kib) in kib.into_iter().enumerate() {
        fixture
            .settle
            .copy(ticket(number).0, outgoing(kib * 1024), DEAD_LETTER);
    }
    sleep(Duration::from_secs(1)).await;
    let sizes: Vec<_> = fixture.dead.asked().iter().map(Call::entries).collect();
    assert_eq!(sizes, [2, 1, 1, 2]);
    assert_eq!(fixture.end().await.iter().map(Call::entries).sum::<usize>(), 6);
}

/// A lease with a beat under way that takes 3 s.
async fn beating_lease(queue: &Arc<Scripted>) -> (Lease, CancellationToken) {
    let leases = Leases::new(Duration::from_secs(30), events(), fastrand::Rng::with_seed(1));
    let stop = CancellationToken::new();
    let lease = leases.start("r0".into(), "m0".into(), Instant::now(), &Arc::default());
    drop(tokio::spawn(leases.run(Arc::clone(queue), stop.clone())));
    sleep(Duration::from_millis(10_100)).await;
    (lease, stop)
}

#[tokio::test(start_paused = true)]
async fn a_delay_waits_for_the_beat_under_way() {
    let script = |call, _: &Call| match call {
        0 => Answer::Late(Duration::from_secs(3)),
        _ => Answer::Done,
    };
    let fixture = Fixture::new(script, |_, _| Answer::Done);
    let (lease, _stop) = beating_lease(&fixture.queue).await;
    let (mut ticket, receiver) = ticket(0);
    ticket.lease = Some(lease);
    fixture.settle.delay(ticket, Duration::from_secs(7));
    assert!(receiver.await.unwrap());
    let calls = fixture.queue.calls();
    let change = |after| Call::Change(vec![("r0".to_owned(), after)]);
    assert_eq!((&calls[0].1, &calls[1].1), (&change(30), &change(7)));
    assert!(calls[1].0 - calls[0].0 >= Duration::from_secs(3));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.end().await.len(), 2, "no beat follows");
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_in_before_the_end_is_settled_and_its_room_is_free_then() {
    let fixture = Fixture::new(|_, _| Answer::Late(Duration::from_secs(2)), |_, _| Answer::Done);
    let holds = Arc::new(Semaphore::new(30));
    for number in 0..30 {
        let (mut ticket, _) = ticket(number);
        ticket.hold = Arc::clone(&holds).try_acquire_owned().ok();
        match number % 3 {
            0 => fixture.settle.delete(ticket),
            1 => fixture.settle.delay(ticket, Duration::from_secs(5)),
            _ => fixture.settle.copy(ticket, outgoing(1), DEAD_LETTER),
        }
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(holds.available_permits(), 0, "nothing is settled yet");
    let settled: usize = fixture.end().await.iter().map(Call::entries).sum();
    assert_eq!((settled, holds.available_permits()), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_timed_once_from_its_first_entry_to_its_last_try() {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .unwrap()
        .build_recorder();
    let script = |call, _: &Call| match call {
        0 => Answer::Partly(vec![(3, ErrorKind::Server)]),
        _ => Answer::Late(Duration::from_secs(2)),
    };
    let dead = |_, _: &Call| Answer::Late(Duration::from_secs(1));
    let fixture = Fixture::with(script, dead, &events_to(&recorder));
    for number in 0..10 {
        fixture.settle.delete(ticket(number).0); // one fails, is tried again within 200 ms, and takes 2 s then
    }
    fixture.end().await;
    let fixture = Fixture::with(|_, _| Answer::Done, dead, &events_to(&recorder));
    fixture.settle.copy(ticket(10).0, outgoing(1), DEAD_LETTER); // takes 1 s, and is deleted then
    fixture.end().await;
    let text = recorder.handle().render();
    let of = |part: &str, action: &str| -> f64 {
        let sample = |line: &&str| {
            line.starts_with(&format!("{SETTLE_DURATION}_{part}{{"))
                && line.contains(&format!("action=\"{action}\""))
        };
        let line = text
            .lines()
            .find(sample)
            .unwrap_or_else(|| panic!("no {part} of {action} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert_eq!((of("count", "delete"), of("count", "dead_letter")), (2.0, 1.0));
    let (deleted, copied) = (of("sum", "delete"), of("sum", "dead_letter"));
    assert!((2.0..2.3).contains(&deleted), "{deleted} s");
    assert!((1.0..1.01).contains(&copied), "{copied} s");
}
