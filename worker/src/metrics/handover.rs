//! What became of handed-over messages, by the release that failed them.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Label, Recorder};

use super::series::Series;

/// What became of a handed-over message: the label `result` of [`HANDOVER_RESULTS`](super::HANDOVER_RESULTS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverResult {
    /// A stable worker did it.
    Recovered,
    /// A stable worker failed it for good as well.
    Confirmed,
}

impl HandoverResult {
    /// Every result.
    pub const ALL: [Self; 2] = [Self::Recovered, Self::Confirmed];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Confirmed => "confirmed",
        }
    }
}

/// The label `failed_release` of a message whose story found no room.
pub const UNKNOWN_RELEASE: &str = "unknown";

/// The label `failed_release` of all releases but the first [`MAX_FAILED_RELEASES`].
pub const OTHER_RELEASE: &str = "other";

/// So many releases get series of their own: the names come with messages, and a label may not grow without a bound.
pub const MAX_FAILED_RELEASES: usize = 16;

/// The series of [`HANDOVER_RESULTS`](super::HANDOVER_RESULTS); those of releases are registered as the releases are met.
#[derive(Debug)]
pub(super) struct Results {
    base: Vec<Label>,
    unknown: [Counter; 2],
    known: Mutex<Vec<(String, [Counter; 2])>>,
    pub(super) recorder: Option<SharedRecorder>,
}

pub(super) struct SharedRecorder(pub(super) Arc<dyn Recorder + Send + Sync>);

impl std::fmt::Debug for SharedRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedRecorder")
    }
}

impl Results {
    pub(super) fn new(series: &Series<'_>) -> Self {
        Self {
            base: series.base.clone(),
            unknown: series.results(UNKNOWN_RELEASE),
            known: Mutex::default(),
            recorder: None,
        }
    }

    pub(super) fn count(&self, failed: Option<&str>, result: HandoverResult) {
        let (Some(failed), Some(SharedRecorder(recorder))) = (failed, &self.recorder) else {
            self.unknown[result as usize].increment(1);
            return;
        };
        let series = Series {
            recorder: &**recorder,
            base: self.base.clone(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let room = known.len() < MAX_FAILED_RELEASES;
        let name = if room || known.iter().any(|(name, _)| name == failed) {
            failed
        } else {
            OTHER_RELEASE
        };
        if found_by_name(&known, name).is_none() {
            known.push((name.to_owned(), series.results(name)));
        }
        if let Some(counters) = found_by_name(&known, name) {
            counters[result as usize].increment(1);
        }
    }
}

fn found_by_name<'a>(known: &'a [(String, [Counter; 2])], name: &str) -> Option<&'a [Counter; 2]> {
    known
        .iter()
        .find(|(candidate, _)| candidate == name)
        .map(|(_, counters)| counters)
}
