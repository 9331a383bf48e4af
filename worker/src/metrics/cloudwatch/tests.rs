use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use super::*;
use crate::attempt::Ending;
use crate::clock::Clock;
use crate::evidence::Receive;
use crate::release::Release;

#[derive(Clone, Debug, Default)]
struct Recorded {
    taken: Arc<Mutex<Vec<Datum>>>,
    answer: Arc<Mutex<Option<SinkError>>>,
}

impl Sink for Recorded {
    const BATCH: usize = 10;

    async fn put(&self, _dimensions: &Dimensions, data: &[Datum]) -> Result<(), SinkError> {
        match self.answer.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => {
                self.taken.lock().unwrap().extend_from_slice(data);
                Ok(())
            }
        }
    }
}

fn identity() -> Arc<Identity> {
    Arc::new(Identity {
        release: Release::new("1.4").unwrap(),
        track: Track::Canary,
    })
}

fn publisher() -> (Recorded, Arc<Evidence>, Publisher<Recorded>) {
    let sink = Recorded::default();
    let clock = Clock::Simulated {
        start: UNIX_EPOCH + Duration::from_secs(1_764_064_800),
        since: Instant::now(),
    };
    let second = Duration::from_secs(1);
    let evidence = Evidence::new(identity(), None, clock, 30 * second, second);
    let dimensions = Dimensions {
        service: "orders".to_owned(),
        identity: identity(),
    };
    let subject = Subject {
        evidence: Arc::clone(&evidence),
        state: Box::new(|| (State::default(), 3)),
        directives: Directives::none(),
        interval: None,
    };
    (sink.clone(), evidence, Publisher::new(sink, dimensions, subject))
}

async fn second(evidence: &Evidence, done: usize, failed: usize) {
    let receive = Arc::new(Receive::default());
    let id = Arc::from("m");
    for attempt in 0..done + failed {
        let judged = evidence.begin(&receive, Some(Duration::from_millis(5)));
        let ending = if attempt < done {
            Ending::Done
        } else {
            Ending::Retry
        };
        evidence.end(
            &judged,
            &id,
            ending,
            false,
            Duration::from_millis(20),
            &[("empty", attempt == 0)],
        );
    }
    tokio::time::advance(Duration::from_secs(1)).await;
}

fn sum(data: &[Datum], name: &str, second: u64) -> f64 {
    data.iter()
        .filter(|datum| datum.name == name && datum.second == second)
        .flat_map(|datum| &datum.values)
        .map(|(value, count)| value * count)
        .sum()
}

fn is(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[tokio::test(start_paused = true)]
async fn every_window_is_published_once_at_its_own_second() {
    let (sink, evidence, mut publisher) = publisher();
    for n in 1..=3 {
        second(&evidence, n, 1).await;
        publisher.publish(false).await;
    }
    publisher.publish(true).await;
    let taken = sink.taken.lock().unwrap().clone();
    for (n, start) in [(1.0, 1_764_064_800), (2.0, 1_764_064_801), (3.0, 1_764_064_802)] {
        is(sum(&taken, "Started", start), n + 1.0);
        is(sum(&taken, "Done", start), n);
        is(sum(&taken, "Failed", start), 1.0);
        is(sum(&taken, "ReceiveSizesSquared", start), (n + 1.0) * (n + 1.0));
        is(sum(&taken, "QualityAsked", start), n + 1.0);
        is(sum(&taken, "QualityBad", start), 1.0);
    }
    let durations: Vec<_> = taken.iter().filter(|datum| datum.name == "DurationMs").collect();
    assert_eq!(durations.len(), 3);
    assert!((durations[2].values[0].0 / 20.0 - 1.0).abs() < 0.05);
    assert!(taken.iter().any(|datum| datum.name == "InFlight"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_waits_within_bounds_and_what_is_refused_goes() {
    let (sink, evidence, mut publisher) = publisher();
    *sink.answer.lock().unwrap() = Some(SinkError::Later("throttled".to_owned()));
    second(&evidence, 5, 0).await;
    publisher.publish(false).await;
    *sink.answer.lock().unwrap() = None;
    publisher.publish(false).await;
    is(sum(&sink.taken.lock().unwrap(), "Done", 1_764_064_800), 5.0);
    *sink.answer.lock().unwrap() = Some(SinkError::Later("down".to_owned()));
    for _ in 0..MAX_WAITING {
        publisher.publish(false).await;
    }
    assert_eq!(publisher.waiting.len(), MAX_WAITING);
    *sink.answer.lock().unwrap() = Some(SinkError::Refused("no".to_owned()));
    publisher.publish(false).await;
    assert!(publisher.waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_publication_takes_open_windows_and_does_not_hold_up_the_exit() {
    let (sink, evidence, publisher) = publisher();
    let _open = evidence.begin(&Arc::new(Receive::default()), None);
    let stop = CancellationToken::new();
    let running = tokio::spawn(publisher.run(stop.clone()));
    stop.cancel();
    running.await.unwrap();
    is(sum(&sink.taken.lock().unwrap(), "Started", 1_764_064_800), 1.0);
}

#[test]
fn a_datum_stands_under_the_release_and_under_the_track() {
    let dimensions = Dimensions {
        service: "orders".to_owned(),
        identity: identity(),
    };
    let datum = Datum {
        name: "DurationMs",
        unit: "Milliseconds",
        second: 7,
        values: vec![(2.0, 3.0), (5.0, 1.0)],
        signal: None,
        release_only: false,
    };
    let line: serde_json::Value = serde_json::from_str(&emf::line(&dimensions, &datum)).unwrap();
    let expected = serde_json::json!({
        "_aws": {"Timestamp": 7000, "CloudWatchMetrics": [{
            "Namespace": "QueueWorker",
            "Dimensions": [["Service", "Release"], ["Service", "Track"]],
            "Metrics": [{"Name": "DurationMs", "Unit": "Milliseconds", "StorageResolution": 1}],
        }]},
        "Service": "orders", "Release": "1.4", "Track": "canary",
        "DurationMs": {"Values": [2.0, 5.0], "Counts": [3.0, 1.0], "Count": 4.0, "Sum": 11.0, "Min": 2.0, "Max": 5.0},
    });
    assert_eq!(line, expected);
    let quality = Datum {
        signal: Some("empty".to_owned()),
        release_only: true,
        ..datum
    };
    assert_eq!(dimensions.of(&quality).len(), 1);
    assert_eq!(dimensions.of(&quality)[0][2], ("Signal", "empty".to_owned()));
}

#[test]
fn a_busy_second_of_every_duration_fits_the_quota_of_values() {
    let mut durations = Durations::default();
    for bucket in 0..=255 {
        durations.add(bucket, 2);
    }
    let complete = Complete {
        window: crate::evidence::Window {
            durations,
            ..crate::evidence::Window::default()
        },
        waits: Durations::default(),
    };
    let data = data(&complete);
    assert!(data.iter().all(|datum| datum.values.len() <= MAX_VALUES));
    let counted: f64 = data
        .iter()
        .filter(|datum| datum.name == "DurationMs")
        .flat_map(|datum| &datum.values)
        .map(|(_, count)| count)
        .sum();
    is(counted, 512.0);
}
