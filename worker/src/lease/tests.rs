use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Lease, Leases, MARGIN};
use crate::queue::scripted::{Answer, Call, Scripted, events};
use crate::queue::{ErrorKind, MAX_VISIBILITY};

const TIMEOUT: Duration = Duration::from_secs(30);

struct Fixture {
    queue: Arc<Scripted>,
    leases: Arc<Leases>,
    stop: CancellationToken,
    scheduler: JoinHandle<()>,
    began: Instant,
}

impl Fixture {
    fn new(timeout: Duration, script: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static) -> Self {
        let queue = Scripted::new(script);
        let leases = Leases::new(timeout, events(), fastrand::Rng::with_seed(1));
        let stop = CancellationToken::new();
        let scheduler = tokio::spawn(Arc::clone(&leases).run(Arc::clone(&queue), stop.clone()));
        Self {
            queue,
            leases,
            stop,
            scheduler,
            began: Instant::now(),
        }
    }

    fn lease(&self, number: usize) -> Lease {
        let receipt = format!("r{number}").into();
        self.leases.start(
            receipt,
            format!("m{number}").into(),
            Instant::now(),
            &Arc::default(),
        )
    }

    /// Seconds from the beginning at which calls were made.
    fn times(&self) -> Vec<f64> {
        let calls = self.queue.calls();
        calls
            .iter()
            .map(|(at, _)| (*at - self.began).as_secs_f64())
            .collect()
    }

    /// Seconds from the beginning until the lease is lost.
    async fn lost(&self, lease: &Lease) -> f64 {
        timeout(MAX_VISIBILITY * 2, lease.lost()).await.unwrap();
        self.began.elapsed().as_secs_f64()
    }
}

#[tokio::test(start_paused = true)]
async fn beats_come_at_a_third_of_the_timeout_less_some_jitter() {
    let fixture = Fixture::new(TIMEOUT, |_, _| Answer::Done);
    let lease = fixture.lease(0);
    sleep(Duration::from_secs(300)).await;
    assert!(!lease.is_lost());
    let times = fixture.times();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        times.len() >= 30 && gaps.iter().all(|gap| (8.99..10.01).contains(gap)),
        "{gaps:?}"
    );
    assert!(gaps.iter().any(|gap| (gap - gaps[0]).abs() > 0.1), "{gaps:?}");
    let beat = Call::Change(vec![("r0".to_owned(), 30)]);
    assert!(fixture.queue.asked().iter().all(|call| *call == beat));
}

#[tokio::test(start_paused = true)]
async fn leases_that_are_due_together_go_in_batches_of_ten() {
    let fixture = Fixture::new(Duration::from_secs(3), |_, _| Answer::Done);
    let leases: Vec<_> = (0..25).map(|number| fixture.lease(number)).collect();
    sleep(Duration::from_secs(1)).await;
    let sizes: Vec<_> = fixture.queue.asked().iter().map(Call::entries).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert!(leases.iter().all(|lease| !lease.is_lost()));
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_hangs_does_not_hide_the_end_of_its_lease() {
    let fixture = Fixture::new(TIMEOUT, |_, _| Answer::Never);
    let lease = fixture.lease(0);
    assert!((fixture.lost(&lease).await - 30.0).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn beats_that_hang_do_not_hide_the_end_of_other_leases() {
    let fixture = Fixture::new(TIMEOUT, |_, _| Answer::Never);
    let leases: Vec<_> = (0..200).map(|number| fixture.lease(number)).collect();
    for lease in &leases {
        assert!((fixture.lost(lease).await - 30.0).abs() < 0.01);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_handle_is_lost_at_once_and_other_refusals_at_the_end() {
    for (kind, expected) in [(ErrorKind::Receipt, 9.0..10.01), (ErrorKind::Denied, 30.0..30.01)] {
        let fixture = Fixture::new(TIMEOUT, move |_, _| Answer::Partly(vec![(0, kind)]));
        let lease = fixture.lease(0);
        let lost = fixture.lost(&lease).await;
        assert!(expected.contains(&lost), "{kind:?} after {lost} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_beat_is_tried_again_and_counts_from_when_it_succeeds() {
    // From the third call on everything fails: the lease lasts for the timeout from the third.
    let fixture = Fixture::new(TIMEOUT, |call, _| match call {
        0 | 1 => Answer::Refused(ErrorKind::Server),
        2 => Answer::Late(Duration::from_secs(2)),
        _ => Answer::Short(1),
    });
    let lease = fixture.lease(0);
    let lost = fixture.lost(&lease).await;
    let times = fixture.times();
    assert!((times[1] - times[0] - 0.5).abs() < 0.01, "{times:?}");
    assert!(
        (lost - times[2] - 30.0).abs() < 0.01,
        "lost after {lost} s: {times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_a_beat_under_way_and_no_beat_follows() {
    let fixture = Fixture::new(TIMEOUT, |_, _| Answer::Late(Duration::from_secs(3)));
    let (lease, other) = (fixture.lease(0), fixture.lease(1));
    let stopped = Instant::now();
    other.stop().await;
    assert_eq!(stopped.elapsed(), Duration::ZERO, "no beat is under way");
    sleep(Duration::from_secs(11)).await;
    let beat = fixture.times()[0];
    lease.stop().await;
    let now = fixture.began.elapsed().as_secs_f64();
    assert!(
        (now - beat - 3.0).abs() < 0.01,
        "beat at {beat} s, stopped at {now} s"
    );
    assert_eq!(fixture.leases.held(), 0);
    sleep(TIMEOUT * 2).await;
    assert_eq!(fixture.queue.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_dropped_is_beaten_no_more() {
    let fixture = Fixture::new(TIMEOUT, |_, _| Answer::Done);
    let lease = fixture.lease(0);
    sleep(Duration::from_secs(11)).await;
    drop(lease);
    sleep(TIMEOUT).await;
    assert_eq!((fixture.queue.asked().len(), fixture.leases.held()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn no_beat_asks_for_more_than_is_left_of_the_twelve_hours() {
    let timeout = Duration::from_secs(2000);
    let fixture = Fixture::new(timeout, |_, _| Answer::Done);
    let lease = fixture.lease(0);
    let limit = (MAX_VISIBILITY - MARGIN).as_secs_f64();
    assert!((lease.left().as_secs_f64() - limit).abs() < 0.01);
    let lost = fixture.lost(&lease).await;
    // The last beat was rounded up to a whole second.
    assert!((limit..limit + 1.01).contains(&lost), "{lost}");
    assert_eq!(lease.left(), Duration::ZERO);
    let mut shorter = 0;
    for (at, call) in fixture.queue.calls() {
        let Call::Change(changes) = call else {
            panic!("{call:?}")
        };
        let hidden_until =
            (at - fixture.began).as_secs_f64() + f64::from(u32::try_from(changes[0].1).unwrap());
        assert!(hidden_until < MAX_VISIBILITY.as_secs_f64());
        shorter += usize::from(changes[0].1 < 2000);
    }
    assert!(shorter > 0);
}

#[tokio::test(start_paused = true)]
async fn the_scheduler_waits_for_beats_under_way_when_it_is_stopped() {
    let fixture = Fixture::new(TIMEOUT, |_, _| Answer::Late(Duration::from_secs(3)));
    let lease = fixture.lease(0);
    sleep(Duration::from_millis(10_500)).await;
    fixture.stop.cancel();
    let beat = fixture.times()[0];
    fixture.scheduler.await.unwrap();
    let now = fixture.began.elapsed().as_secs_f64();
    assert!((now - beat - 3.0).abs() < 0.01);
    assert!(!lease.is_lost());
}
