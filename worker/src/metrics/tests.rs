use std::collections::{BTreeMap, BTreeSet};

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::release::{Release, Track};

/// A sample's name, its labels, and its value.
type Sample = (String, BTreeMap<String, String>, f64);

fn samples(text: &str) -> Vec<Sample> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels
            .trim_end_matches('}')
            .split(',')
            .filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        (name.to_owned(), labels.collect(), value.parse().unwrap())
    };
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(sample)
        .collect()
}

/// What a scrape shows after `record`.
fn scraped(record: impl Fn(&Metrics)) -> (String, Vec<Sample>) {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .unwrap()
        .build_recorder();
    let identity = Identity {
        release: Release::new("1.4").unwrap(),
        track: Track::Canary,
    };
    describe(&recorder, &identity, "0.1.0", "abc");
    let metrics = Metrics::register(&recorder, &identity, "orders", &[Reason::new("too_old")]);
    record(&metrics);
    let text = recorder.handle().render();
    let samples = samples(&text);
    (text, samples)
}

#[test]
fn every_counter_and_gauge_is_there_from_the_start_with_the_labels_of_the_catalogue() {
    let (text, samples) = scraped(|_| {});
    for metric in CATALOGUE.iter().filter(|metric| metric.kind != Kind::Histogram) {
        let series: Vec<_> = samples.iter().filter(|(name, ..)| name == metric.name).collect();
        assert!(!series.is_empty(), "{} is missing in\n{text}", metric.name);
        let mut expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
        expected.extend(["release", "track"]);
        if metric.name != BUILD_INFO {
            expected.insert("queue");
        }
        for (_, labels, value) in series {
            assert_eq!(
                labels.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                expected,
                "{}",
                metric.name
            );
            assert_eq!(
                (labels["release"].as_str(), labels["track"].as_str()),
                ("1.4", "canary")
            );
            let start = if metric.name == BUILD_INFO { 1.0_f64 } else { 0.0 };
            assert_eq!(value.to_bits(), start.to_bits(), "{}", metric.name);
        }
        let kind = if metric.kind == Kind::Counter {
            "counter"
        } else {
            "gauge"
        };
        assert!(
            text.contains(&format!("# TYPE {} {kind}\n", metric.name)),
            "{}",
            metric.name
        );
        assert!(
            text.contains(&format!("# HELP {} ", metric.name)),
            "{}",
            metric.name
        );
    }
}

#[test]
fn nothing_is_shown_that_the_catalogue_does_not_name() {
    let (_, samples) = scraped(|metrics| {
        metrics.queue_wait.record(0.2);
        metrics.attempt(Ending::Done, Reason::NONE, Delivery::First, 0.2);
        metrics.settled(Settlement::Handover, 0.2);
    });
    for (name, ..) in samples {
        let known = |metric: &&Metric| {
            let rest = name.strip_prefix(metric.name);
            match metric.kind {
                Kind::Histogram => rest.is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)),
                Kind::Counter | Kind::Gauge => rest == Some(""),
            }
        };
        assert!(CATALOGUE.iter().any(|metric| known(&metric)), "{name}");
    }
}

#[test]
fn an_attempt_is_counted_once_where_it_belongs_and_timed() {
    let (_, samples) = scraped(|metrics| {
        metrics.attempt(Ending::Reject, Reason::new("too_old"), Delivery::Redelivered, 0.2);
    });
    let grown: Vec<_> = samples
        .iter()
        .filter(|(name, _, value)| name == ATTEMPTS && *value > 0.0)
        .collect();
    assert_eq!(grown.len(), 1);
    let labels = &grown[0].1;
    let expected = [
        ("outcome", "reject"),
        ("reason", "too_old"),
        ("delivery", "redelivered"),
    ];
    assert!(
        expected.iter().all(|(name, value)| labels[*name] == *value),
        "{labels:?}"
    );
    let count = format!("{DURATION}_count");
    let timed: Vec<_> = samples.iter().filter(|(name, ..)| *name == count).collect();
    assert!(
        timed
            .iter()
            .any(|(_, labels, value)| labels["outcome"] == "reject" && *value > 0.0),
        "{timed:?}"
    );
}

#[test]
fn reasons_that_were_not_declared_are_counted_as_other() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let identity = Identity {
        release: Release::new("1").unwrap(),
        track: Track::Stable,
    };
    let declared = Reason::new("too_old");
    let metrics = Metrics::register(&recorder, &identity, "orders", &[declared]);
    assert_eq!(metrics.known(declared), declared);
    assert_eq!(metrics.known(Reason::NONE), Reason::NONE);
    assert_eq!(metrics.known(Reason::new("made_up")), Reason::OTHER);
}

#[test]
fn every_reason_belongs_to_one_outcome() {
    // A pair without a series would not be counted.
    for reason in Reason::BUILT_IN.into_iter().chain([Reason::new("too_old")]) {
        let endings = Ending::ALL
            .iter()
            .filter(|ending| ending.reasons(&[reason]).next().is_some());
        // Nothing was attempted of what is blocked.
        assert_eq!(
            endings.count(),
            usize::from(reason != Reason::BLOCKED),
            "{reason:?}"
        );
    }
}
