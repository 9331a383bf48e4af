//! What the application says beside the status: quality signals, and why it rejects.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hyper::HeaderMap;

use crate::evidence::recorder::MAX_SIGNALS;
use crate::failure::bounded;
use crate::handler::{Context, Reason, is_name};

/// Answers to yes/no questions about the message's work: `empty_result=ok, fallback=bad`.
const SIGNALS: &str = "x-queue-worker-signals";

/// Why the message is rejected: one of the setting `http.reasons`, or of [`REASONS`].
const REASON: &str = "x-queue-worker-reason";

/// The worker's own reasons that an application may reject with.
const REASONS: [Reason; 3] = [Reason::REJECTED, Reason::INVALID, Reason::UNDECODABLE];

/// What is told of a header that makes no sense, in bytes at most.
const MAX_TOLD_BYTES: usize = 200;

/// The names that the application uses. They are labels, so there are few of them, for as long as the process lives.
#[derive(Debug)]
pub(super) struct Said {
    reasons: Vec<Reason>,
    /// The signals met, [`MAX_SIGNALS`] at most.
    signals: Mutex<Vec<&'static str>>,
    /// One line about each header is enough: the next answers will be like the first.
    complained: [AtomicBool; 2],
}

impl Said {
    pub(super) fn new(reasons: &[Reason]) -> Self {
        Self {
            reasons: [reasons, &REASONS].concat(),
            signals: Mutex::default(),
            complained: Default::default(),
        }
    }

    /// Hands the signals in `headers` on to `context`. What makes no sense is left out: it is no reason to fail a message.
    pub(super) fn signals(&self, headers: &HeaderMap, context: &Context) {
        for value in headers.get_all(SIGNALS) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                match self.signal(entry) {
                    Some((name, bad)) => context.signal(name, bad),
                    None => self.complain(
                        0,
                        SIGNALS,
                        entry,
                        "a name in snake_case, and =ok or =bad; 16 names at most",
                    ),
                }
            }
        }
    }

    fn signal(&self, entry: &str) -> Option<(&'static str, bool)> {
        let (name, answer) = entry.split_once('=')?;
        let bad = match answer.trim() {
            "ok" => false,
            "bad" => true,
            _ => return None,
        };
        Some((self.known(name.trim())?, bad))
    }

    /// `name` for the life of the process; none when there are too many already.
    fn known(&self, name: &str) -> Option<&'static str> {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = signals.iter().find(|known| **known == name) {
            return Some(known);
        }
        if !is_name(name) || signals.len() >= MAX_SIGNALS {
            return None;
        }
        let name: &'static str = String::leak(name.to_owned());
        signals.push(name);
        Some(name)
    }

    /// Why a message is rejected.
    pub(super) fn reason(&self, headers: &HeaderMap) -> Reason {
        let Some(value) = headers.get(REASON) else {
            return Reason::REJECTED;
        };
        let text = String::from_utf8_lossy(value.as_bytes());
        let known = self.reasons.iter().find(|reason| reason.as_str() == text.trim());
        known.copied().unwrap_or_else(|| {
            self.complain(
                1,
                REASON,
                &text,
                "one of http.reasons, rejected, invalid or undecodable",
            );
            Reason::OTHER
        })
    }

    fn complain(&self, which: usize, header: &str, value: &str, expected: &str) {
        if !self.complained[which].swap(true, Relaxed) {
            let value = bounded(value, MAX_TOLD_BYTES);
            tracing::warn!(
                header,
                value,
                expected,
                "the application says what is not understood; told once"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::super::tests::context;
    use super::*;

    fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let value = |value: &&[u8]| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).unwrap(),
            )
        };
        values.iter().map(value).collect()
    }

    /// What a context has heard after these values of the header.
    fn heard(said: &Said, values: &[&[u8]]) -> Vec<(&'static str, bool)> {
        let context = context(Duration::from_secs(1));
        said.signals(&headers(SIGNALS, values), &context);
        context.course.signals().clone()
    }

    #[test]
    fn signals_are_read_and_what_makes_no_sense_is_left_out() {
        let said = Said::new(&[]);
        let values: [&[u8]; 2] = [b"empty=ok , fallback = bad,,", b"empty=bad"];
        assert_eq!(heard(&said, &values), [("empty", true), ("fallback", true)]);
        let values: [&[u8]; 2] = [b"x, Empty=ok, a b=ok, =bad, empty=no, \xff=ok, late=bad", b""];
        assert_eq!(heard(&said, &values), [("late", true)]);
        assert!(said.complained[0].load(Relaxed) && !said.complained[1].load(Relaxed));
    }

    #[test]
    fn names_of_signals_are_few() {
        let said = Said::new(&[]);
        for n in 0..100 {
            let entry = format!("s{n}=ok");
            let known = usize::from(n < MAX_SIGNALS);
            assert_eq!(heard(&said, &[entry.as_bytes()]).len(), known, "{entry}");
        }
        assert_eq!(heard(&said, &[b"s3=bad"]), [("s3", true)]);
    }

    #[test]
    fn a_reason_is_one_that_was_declared() {
        let said = Said::new(&[Reason::new("bad_address")]);
        for (value, expected) in [
            (&b"bad_address"[..], "bad_address"),
            (b" invalid ", "invalid"),
            (b"panic", "other"),
            (b"", "other"),
            (b"\xff", "other"),
        ] {
            assert_eq!(said.reason(&headers(REASON, &[value])).as_str(), expected);
        }
        assert_eq!(said.reason(&HeaderMap::new()), Reason::REJECTED);
    }

    proptest! {
        #[test]
        fn any_header_is_read(value in "[ -~]*") {
            let said = Said::new(&[]);
            heard(&said, &[value.as_bytes()]);
            said.reason(&headers(REASON, &[value.as_bytes()]));
        }
    }
}
