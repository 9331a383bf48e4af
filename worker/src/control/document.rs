//! The document itself.

use serde::{Deserialize, Serialize};

use crate::release::Track;

/// The schema this version writes, and the newest it reads.
pub const SCHEMA: u32 = 1;

/// The largest document that is read, in bytes: the size of a standard parameter of Systems Manager is 4 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

/// What each track may do. Fields that a later release tool adds are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Grows with every change; a document with a lower epoch than the one in force is ignored.
    pub epoch: u64,
    /// By track.
    #[serde(default)]
    pub tracks: Tracks,
}

/// The tracks of a [`Document`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracks {
    /// What a canary may do. Present while a release is rolled out: stable workers then publish their evidence more often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<TrackControl>,
    /// What stable workers may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<TrackControl>,
}

/// What one process of a track may do; without a field, what it would do without a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrackControl {
    /// The most messages each process receives a second; 0 stops it. Without: as many as it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<f64>,
    /// Nothing is received, and nothing new begun.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The share of first deliveries that may fail, 0 to 1, before the rate breaker opens; on the canary only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failure_rate: Option<f64>,
    /// Whether what a canary fails goes to the handover queue, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover: Option<bool>,
}

/// A text that is no control document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a control document of schema {SCHEMA}: {0}")]
pub struct InvalidDocument(String);

impl Document {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// [`InvalidDocument`], which names the field, its value and what is expected.
    pub fn parse(text: &str) -> Result<Self, InvalidDocument> {
        if text.len() > MAX_BYTES {
            let bytes = text.len();
            return Err(InvalidDocument(format!(
                "it has {bytes} bytes; expected at most {MAX_BYTES}"
            )));
        }
        let document: Self =
            serde_json::from_str(text).map_err(|error| InvalidDocument(error.to_string()))?;
        if document.schema != SCHEMA {
            return Err(InvalidDocument(format!(
                "schema is {}; expected {SCHEMA}",
                document.schema
            )));
        }
        for track in Track::ALL {
            document.track(track).check(track)?;
        }
        Ok(document)
    }

    /// What `track` may do.
    #[must_use]
    pub fn track(&self, track: Track) -> TrackControl {
        match track {
            Track::Stable => self.tracks.stable,
            Track::Canary => self.tracks.canary,
        }
        .unwrap_or_default()
    }

    /// Whether a release is being rolled out: the canary is mentioned, and not paused.
    #[must_use]
    pub fn is_rollout(&self) -> bool {
        self.tracks.canary.is_some_and(|canary| !canary.paused)
    }
}

impl TrackControl {
    fn check(&self, track: Track) -> Result<(), InvalidDocument> {
        let wrong = |field: &str, value: f64, expected: &str| {
            Err(InvalidDocument(format!(
                "tracks.{track}.{field} is {value}; expected {expected}"
            )))
        };
        match self.max_per_second {
            Some(rate) if !(rate >= 0.0 && rate.is_finite()) => {
                return wrong("max_per_second", rate, "a number from 0 on");
            }
            _ => {}
        }
        match self.max_failure_rate {
            Some(rate) if !(0.0..=1.0).contains(&rate) => {
                wrong("max_failure_rate", rate, "a number from 0 to 1")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the release tool writes it.
    const EXAMPLE: &str = r#"{"schema":1,"epoch":7,"tracks":{"canary":{"max_per_second":50.0,
        "max_failure_rate":0.02,"handover":true},"stable":{}}}"#;

    #[test]
    fn the_documented_document_reads_and_writes_as_it_stands() {
        let document = Document::parse(EXAMPLE).unwrap();
        assert_eq!(document.track(Track::Canary).max_per_second, Some(50.0));
        assert_eq!(document.track(Track::Stable), TrackControl::default());
        let value: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
        assert_eq!(serde_json::to_value(&document).unwrap(), value);
    }

    #[test]
    fn only_schema_and_epoch_are_required_and_what_is_unknown_is_ignored() {
        let document =
            Document::parse(r#"{"schema":1,"epoch":1,"mood":2,"tracks":{"shadow":{},"canary":{"hue":1}}}"#)
                .unwrap();
        assert_eq!(document.track(Track::Canary), TrackControl::default());
        assert!(document.is_rollout());
        let bare = Document::parse(r#"{"schema":1,"epoch":1}"#).unwrap();
        assert!(!bare.is_rollout());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, wrong) in [
            ("", "EOF"),
            ("{}", "missing field `schema`"),
            (r#"{"schema":1}"#, "missing field `epoch`"),
            (r#"{"schema":2,"epoch":1}"#, "schema is 2; expected 1"),
            (r#"{"schema":1,"epoch":-1}"#, "-1"),
            (
                r#"{"schema":1,"epoch":1,"tracks":{"canary":{"max_per_second":-1}}}"#,
                "tracks.canary.max_per_second is -1; expected a number from 0 on",
            ),
            (
                r#"{"schema":1,"epoch":1,"tracks":{"stable":{"max_failure_rate":2}}}"#,
                "tracks.stable.max_failure_rate is 2; expected a number from 0 to 1",
            ),
            (
                r#"{"schema":1,"epoch":1,"tracks":{"canary":{"paused":"yes"}}}"#,
                "yes",
            ),
        ] {
            let error = Document::parse(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let long = format!(r#"{{"schema":1,"epoch":1,"x":"{}"}}"#, "x".repeat(MAX_BYTES));
        assert!(Document::parse(&long).unwrap_err().to_string().contains("bytes"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in any::<String>()) {
            let _ = Document::parse(&text);
        }
    }
}
