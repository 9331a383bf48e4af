//! Registers series with a recorder, each with the labels of the process.

use metrics::{Counter, Gauge, Histogram, Label, Recorder, SharedString, Unit};

use super::{ATTEMPTS, BUILD_INFO, CATALOGUE, DEAD_LETTERS, HANDOVER_RESULTS, HandoverResult, Kind};
use crate::attempt::Ending;
use crate::failure::StoryFate;
use crate::handler::Reason;
use crate::message::Delivery;
use crate::release::Identity;

/// Describes every metric to `recorder` and sets [`BUILD_INFO`].
pub fn describe(recorder: &dyn Recorder, identity: &Identity, version: &'static str, revision: &'static str) {
    for metric in CATALOGUE {
        let (name, help) = (metric.name.into(), SharedString::const_str(metric.help));
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, Some(Unit::Count), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(Unit::Count), help),
            Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), help),
        }
    }
    let series = Series {
        recorder,
        base: base_labels(identity, None),
    };
    series
        .gauge_with(BUILD_INFO, &[("version", version), ("revision", revision)])
        .set(1.0);
}

pub(super) fn base_labels(identity: &Identity, queue: Option<&str>) -> Vec<Label> {
    let mut labels = vec![
        Label::new("release", identity.release.as_str().to_owned()),
        Label::from_static_parts("track", identity.track.as_str()),
    ];
    labels.extend(queue.map(|queue| Label::new("queue", queue.to_owned())));
    labels
}

pub(super) fn failed_release(release: &str) -> Label {
    Label::new("failed_release", release.to_owned())
}

/// Registers series that have the labels `base`.
pub(super) struct Series<'a> {
    pub(super) recorder: &'a dyn Recorder,
    pub(super) base: Vec<Label>,
}

impl Series<'_> {
    const METADATA: metrics::Metadata<'static> =
        metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

    pub(super) fn attempts(&self, reasons: &[Reason]) -> Vec<(Ending, Reason, [Counter; 2])> {
        Ending::ALL
            .into_iter()
            .flat_map(|ending| ending.reasons(reasons).map(move |reason| (ending, reason)))
            .map(|(ending, reason)| {
                let counter = |delivery: Delivery| {
                    self.counter(
                        ATTEMPTS,
                        &[
                            ("outcome", ending.as_str()),
                            ("reason", reason.as_str()),
                            ("delivery", delivery.as_str()),
                        ],
                    )
                };
                (ending, reason, Delivery::ALL.map(counter))
            })
            .collect()
    }

    pub(super) fn dead_letters(&self, reasons: &[Reason]) -> Vec<(Reason, [Counter; 2])> {
        reasons
            .iter()
            .filter(|reason| **reason != Reason::NONE)
            .map(|&reason| {
                let counter = |story: StoryFate| {
                    self.counter(
                        DEAD_LETTERS,
                        &[("reason", reason.as_str()), ("story", story.as_str())],
                    )
                };
                (reason, StoryFate::ALL.map(counter))
            })
            .collect()
    }

    fn key(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> metrics::Key {
        let labels = labels
            .iter()
            .map(|(key, value)| Label::from_static_parts(key, value));
        metrics::Key::from_parts(name, self.base.iter().cloned().chain(labels).collect::<Vec<_>>())
    }

    pub(super) fn results(&self, release: &str) -> [Counter; 2] {
        HandoverResult::ALL.map(|result| {
            let result = Label::from_static_parts("result", result.as_str());
            self.counter_of(HANDOVER_RESULTS, vec![failed_release(release), result])
        })
    }

    /// A counter whose labels are not known to the compiler.
    pub(super) fn counter_of(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let labels: Vec<_> = self.base.iter().cloned().chain(labels).collect();
        let key = metrics::Key::from_parts(name, labels);
        let counter = self.recorder.register_counter(&key, &Self::METADATA);
        counter.increment(0); // an exporter may show a series only once it was touched
        counter
    }

    pub(super) fn counter(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Counter {
        let counter = self
            .recorder
            .register_counter(&self.key(name, labels), &Self::METADATA);
        counter.increment(0); // an exporter may show a series only once it was touched
        counter
    }

    pub(super) fn gauge(&self, name: &'static str) -> Gauge {
        self.gauge_with(name, &[])
    }

    pub(super) fn gauge_with(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Gauge {
        let gauge = self
            .recorder
            .register_gauge(&self.key(name, labels), &Self::METADATA);
        gauge.set(0.0);
        gauge
    }

    pub(super) fn histogram(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Histogram {
        self.recorder
            .register_histogram(&self.key(name, labels), &Self::METADATA)
    }
}
