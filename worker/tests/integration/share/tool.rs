//! What the release tool does for the share: it measures, and writes the control document by the worker's own rule.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, interval};
use worker::control::document::SCHEMA;
use worker::control::share::{LEAST, MEASURED, REVIEW, is_near, rate};
use worker::control::{Document, TrackControl, Tracks};
use worker::release::Track;

use super::service::Service;

/// First deliveries that were begun in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    canary: u64,
    stable: u64,
}

/// Holds a share.
#[derive(Debug)]
pub(super) struct Tool {
    share: f64,
    path: PathBuf,
    epoch: u64,
    written: f64,
    begun: BTreeMap<u64, Begun>,
}

impl Tool {
    /// Lets the canary take one message now and then.
    pub(super) fn new(share: f64, path: PathBuf) -> Self {
        let mut tool = Self {
            share,
            path,
            epoch: 0,
            written: LEAST,
            begun: BTreeMap::new(),
        };
        tool.write();
        tool
    }

    /// Holds the share for so long.
    pub(super) async fn steer(&mut self, service: &mut Service, time: Duration) {
        let (end, mut tick) = (Instant::now() + time, interval(REVIEW));
        while Instant::now() < end {
            tick.tick().await;
            self.review(service).await;
        }
    }

    /// Holds the share until so many messages have been begun from now on: the canary's, and all.
    pub(super) async fn count(&mut self, service: &mut Service, messages: u64) -> (u64, u64) {
        let (from, mut tick) = (second() + 1, interval(REVIEW));
        // Messages never stop coming; a worker that stops is noticed by its evidence.
        loop {
            tick.tick().await;
            let until = self.review(service).await;
            let counted = self.sum(from, until);
            let all = counted.canary + counted.stable;
            if all >= messages {
                return (counted.canary, all);
            }
        }
    }

    /// Measures, and writes another rate if another one is due. Seconds before the one returned are complete.
    async fn review(&mut self, service: &mut Service) -> u64 {
        // The second that has just ended may not have been told by a process that was asked before its end.
        let until = second() - 1;
        for report in service.evidence(until - MEASURED).await {
            for window in report.windows {
                let begun = self.begun.entry(window.start).or_default();
                match report.track {
                    Track::Canary => begun.canary = window.started,
                    Track::Stable => begun.stable = window.started,
                }
            }
        }
        let begun = self.sum(until - MEASURED, until);
        let total = super::number(begun.canary + begun.stable) / super::number(MEASURED);
        let wanted = rate(self.share, total);
        if !is_near(self.written, wanted) {
            self.written = wanted;
            self.write();
        }
        until
    }

    fn sum(&self, from: u64, until: u64) -> Begun {
        let mut sum = Begun::default();
        for begun in self.begun.range(from..until.max(from)).map(|(_, begun)| begun) {
            sum.canary += begun.canary;
            sum.stable += begun.stable;
        }
        sum
    }

    /// The document of a rollout, by rename.
    fn write(&mut self) {
        self.epoch += 1;
        let canary = TrackControl {
            max_per_second: Some(self.written),
            max_failure_rate: Some(0.05),
            handover: Some(true),
            ..TrackControl::default()
        };
        let document = Document {
            schema: SCHEMA,
            epoch: self.epoch,
            tracks: Tracks {
                canary: Some(canary),
                stable: Some(TrackControl::default()),
            },
        };
        let next = self.path.with_extension("next");
        std::fs::write(&next, serde_json::to_string(&document).unwrap()).unwrap();
        std::fs::rename(next, &self.path).unwrap();
    }
}

fn second() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
