//! Which release this process is: every attempt, log line, metric and dead letter carries it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The most bytes a release name may have: it becomes a metric label and a message attribute.
pub const MAX_RELEASE_LENGTH: usize = 128;

/// The version of code *and* configuration that a process runs.
///
/// 1 to [`MAX_RELEASE_LENGTH`] characters of `A–Z a–z 0–9 . _ - + : @ /`, so that an image tag, a digest, a
/// commit or `family:revision` fit as they are. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release(Arc<str>);

/// A name that cannot be a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a release name; expected 1 to 128 characters of A-Z a-z 0-9 . _ - + : @ /")]
pub struct InvalidRelease(String);

impl Release {
    /// The release called `name`.
    ///
    /// # Errors
    /// [`InvalidRelease`] when `name` is empty, too long or has other characters than those above.
    pub fn new(name: &str) -> Result<Self, InvalidRelease> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+:@/".contains(c);
        if name.is_empty() || name.len() > MAX_RELEASE_LENGTH || !name.chars().all(allowed) {
            // The name comes from outside: keep the error short whatever was given.
            return Err(InvalidRelease(name.chars().take(MAX_RELEASE_LENGTH).collect()));
        }
        Ok(Self(name.into()))
    }

    /// The name as it stands in labels and attributes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Release {
    type Err = InvalidRelease;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<String> for Release {
    type Error = InvalidRelease;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.0.as_ref().to_owned()
    }
}

/// The part a process plays while a release is rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// The release that has proved itself; it carries the work.
    Stable,
    /// The release on trial; it gets a share and may be withdrawn at any moment.
    Canary,
}

impl Track {
    /// Every track, in the order in which they are documented.
    pub const ALL: [Self; 2] = [Self::Stable, Self::Canary];

    /// The name as it stands in labels, settings and attributes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Track {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|track| track.as_str() == name)
            .ok_or(())
    }
}

/// A release and the track it runs on: what a process answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The version of code and configuration.
    pub release: Release,
    /// The part it plays.
    pub track: Track,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_tags_digests_and_revisions_are_releases() {
        for name in [
            "1.4.2",
            "orders:57",
            "sha256:0a1b",
            "2026-11-24_3f2c+dirty",
            "team/app@sha256:ff",
        ] {
            assert_eq!(Release::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_would_break_a_label_or_an_attribute_is_refused() {
        let long = "x".repeat(MAX_RELEASE_LENGTH + 1);
        for name in ["", " ", "a b", "v1\n", "é", "a\"b", long.as_str()] {
            assert!(Release::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn tracks_have_the_names_of_the_settings() {
        for track in Track::ALL {
            assert_eq!(track.as_str().parse(), Ok(track));
        }
        assert_eq!("blue".parse::<Track>(), Err(()));
    }
}
