//! Which dead letters are meant.

use std::time::{Duration, SystemTime};

use worker::release::Release;

use super::letter::{Letter, Origin};

/// Conditions that must all hold; of one list, any. The default holds for every message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Releases that failed it last.
    pub failed_releases: Vec<Release>,
    /// Why it failed last.
    pub reasons: Vec<String>,
    /// Failed then or later. What has no story failed at an unknown time: the time it was sent counts.
    pub since: Option<SystemTime>,
    /// Only what no worker told a story of: moved by SQS itself after crashes, or put there by others.
    pub without_story: bool,
}

impl Filter {
    /// Whether `letter` is meant.
    #[must_use]
    pub fn holds(&self, letter: &Letter) -> bool {
        let story = letter.story();
        let release = self.failed_releases.is_empty()
            || story.is_some_and(|story| self.failed_releases.contains(&story.release));
        let reason =
            self.reasons.is_empty() || story.is_some_and(|story| self.reasons.contains(&story.reason));
        let since = self
            .since
            .is_none_or(|since| letter.failed_at().is_some_and(|at| at >= since));
        let told = !self.without_story || !matches!(letter.origin, Origin::Told(_));
        release && reason && since && told
    }
}

/// A time as people give it: `2026-11-24T10:00:00Z`, or `2h` for two hours ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub SystemTime);

impl Since {
    /// Reads `text`, with `now` for what is said relative to it.
    ///
    /// # Errors
    /// One sentence that says what is expected.
    pub fn read(text: &str, now: SystemTime) -> Result<Self, String> {
        let ago = || -> Option<SystemTime> {
            let ago: Duration = humantime::parse_duration(text).ok()?;
            now.checked_sub(ago)
        };
        humantime::parse_rfc3339_weak(text)
            .ok()
            .or_else(ago)
            .map(Self)
            .ok_or_else(|| {
                "expected a time as 2026-11-24T10:00:00Z (UTC), or how long ago, as 2h or 30m".to_owned()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::letter::tests::{foreign, told};

    #[test]
    fn all_conditions_must_hold_and_none_is_every_message() {
        let (mine, other) = (told("2.0", "panic", 100), foreign(None));
        let release = |name: &str| Filter {
            failed_releases: vec![Release::new(name).unwrap()],
            ..Filter::default()
        };
        let reason = |name: &str| Filter {
            reasons: vec![name.to_owned()],
            ..Filter::default()
        };
        let since = |seconds| Filter {
            since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            ..Filter::default()
        };
        let without = Filter {
            without_story: true,
            ..Filter::default()
        };
        for (filter, of_mine, of_other) in [
            (Filter::default(), true, true),
            (release("2.0"), true, false),
            (release("2"), false, false),
            (reason("panic"), true, false),
            (reason("pani"), false, false),
            (since(100), true, false),
            (since(101), false, false),
            (without, false, true),
            (
                Filter {
                    reasons: vec!["deadline".to_owned()],
                    ..release("2.0")
                },
                false,
                false,
            ),
        ] {
            assert_eq!(
                (filter.holds(&mine), filter.holds(&other)),
                (of_mine, of_other),
                "{filter:?}"
            );
        }
    }

    #[test]
    fn times_are_absolute_or_ago_and_nothing_else() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let read = |text| Since::read(text, now).map(|since| since.0);
        assert_eq!(read("2h"), Ok(now - Duration::from_secs(7200)));
        assert_eq!(
            read("1970-01-01T00:00:05Z"),
            Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(5))
        );
        assert_eq!(
            read("1970-01-02"),
            Err("expected a time as 2026-11-24T10:00:00Z (UTC), or how long ago, as 2h or 30m".to_owned())
        );
        for text in ["", "yesterday", "-2h", "99999999999999y", "2026-13-01T00:00:00Z"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
