//! Reads the control document again and again, and says what holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::document::{Document, TrackControl};
use super::source::{ReadError, Source};
use crate::release::Track;

/// How often a canary reads.
pub const FAST: Duration = Duration::from_secs(5);

/// How often stable workers read, during a rollout too: nothing that is urgent is said to them, and they are many. The limit of
/// Systems Manager is for the whole account, 40 reads a second unless it was raised.
pub const SLOW: Duration = Duration::from_secs(60);

/// The slowest it gets when the source asks to be asked less often.
const SLOWEST: Duration = Duration::from_secs(300);

/// A read takes this long at most.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What holds for this process just now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Directive {
    /// What the document in force says about this process's track; its defaults where there is none.
    pub control: TrackControl,
    /// The epoch of the document in force.
    pub epoch: Option<u64>,
    /// When the document in force was last read.
    pub read_at: Option<Instant>,
    /// Nothing may be received: a canary was given a source and there has been no document yet.
    pub shut: bool,
    /// A release is being rolled out.
    pub rollout: bool,
}

impl Directive {
    /// Whether nothing may be received.
    #[must_use]
    pub const fn stops(&self) -> bool {
        self.shut || self.control.paused
    }
}

/// What holds, for all who need to know. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directives {
    receiver: watch::Receiver<Directive>,
    limited: bool,
}

impl Directives {
    /// Without a source: everything is allowed, for ever.
    #[must_use]
    pub fn none() -> Self {
        Self::fixed(TrackControl::default())
    }

    /// This, for ever.
    #[must_use]
    pub fn fixed(control: TrackControl) -> Self {
        let directive = Directive {
            control,
            epoch: None,
            read_at: None,
            shut: false,
            rollout: false,
        };
        Self {
            receiver: watch::channel(directive).1,
            limited: true,
        }
    }

    /// The same, but for the rate.
    #[must_use]
    pub fn without_rate(&self) -> Self {
        Self {
            limited: false,
            ..self.clone()
        }
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Directive {
        let mut directive = *self.receiver.borrow();
        if !self.limited {
            directive.control.max_per_second = None;
        }
        directive
    }

    /// Waits until something else may hold; for ever where nothing ever will. Cancel safe.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How a read ended: the label `result` of `worker_control_reads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// A document, in force now.
    Ok,
    /// There is none.
    Missing,
    /// It is no document, or one of another schema.
    Invalid,
    /// Its epoch is lower than that of the document in force.
    Outdated,
    /// The source asks to be asked less often.
    Throttled,
    /// The source failed or took too long.
    Failed,
}

impl ReadResult {
    /// Every result.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Missing,
        Self::Invalid,
        Self::Outdated,
        Self::Throttled,
        Self::Failed,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Outdated => "outdated",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// Keeps [`Directives`] up to date.
///
/// What cannot be read changes nothing: the last document stays in force, for as long as it takes. A canary that has never
/// had a document stays shut, a stable worker open: the one that must not run wild is the one on trial.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    track: Track,
    /// Overrides [`FAST`] and [`SLOW`].
    interval: Option<Duration>,
    sender: watch::Sender<Directive>,
    rng: fastrand::Rng,
    throttled: u32,
    /// The last complaint, so that a lasting one is told once.
    complaint: String,
}

impl<S: Source> Reader<S> {
    /// A reader of `source` for a process of `track`; reads every `interval` if there is one.
    #[must_use]
    pub fn new(
        source: S,
        track: Track,
        interval: Option<Duration>,
        rng: fastrand::Rng,
    ) -> (Self, Directives) {
        let (sender, receiver) = watch::channel(Directive {
            control: TrackControl::default(),
            epoch: None,
            read_at: None,
            shut: track == Track::Canary,
            rollout: false,
        });
        let reader = Self {
            source,
            track,
            interval,
            sender,
            rng,
            throttled: 0,
            complaint: String::new(),
        };
        (
            reader,
            Directives {
                receiver,
                limited: true,
            },
        )
    }

    /// Reads once. To be called before the first poll.
    pub async fn read(&mut self) -> ReadResult {
        let answer = timeout(READ_TIMEOUT, self.source.read()).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(ReadError::Failed(format!(
                "no answer within {} s",
                READ_TIMEOUT.as_secs()
            )))
        });
        let (result, complaint) = self.take(answer);
        self.throttled = if result == ReadResult::Throttled {
            self.throttled.saturating_add(1)
        } else {
            0
        };
        if complaint != self.complaint {
            let directive = *self.sender.borrow();
            if complaint.is_empty() {
                tracing::info!(epoch = directive.epoch, "the control document can be read again");
            } else {
                tracing::warn!(
                    result = result.as_str(), epoch = directive.epoch, shut = directive.shut, complaint = %complaint,
                    "the control document cannot be used; what held before holds on"
                );
            }
            self.complaint = complaint;
        }
        result
    }

    /// Reads until `stop`, telling `observe` how each read ended.
    pub async fn run(mut self, stop: CancellationToken, observe: impl Fn(ReadResult)) {
        // For as long as the process lives; each turn waits.
        loop {
            let wait = self.wait();
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = self.read() => result,
            };
            observe(result);
        }
    }

    /// Until the next read: the interval less up to a fifth, so that a fleet does not read in step; doubled for each time
    /// in a row that the source was throttled.
    fn wait(&mut self) -> Duration {
        let usual = match (self.interval, self.track) {
            (Some(interval), _) => interval,
            (None, Track::Canary) => FAST,
            (None, Track::Stable) => SLOW,
        };
        let slowed = usual.saturating_mul(1 << self.throttled.min(10));
        slowed.min(SLOWEST.max(usual)).mul_f64(1.0 - 0.2 * self.rng.f64())
    }

    fn take(&mut self, answer: Result<Option<String>, ReadError>) -> (ReadResult, String) {
        let text = match answer {
            Ok(Some(text)) => text,
            Ok(None) => return (ReadResult::Missing, "there is none".to_owned()),
            Err(ReadError::Throttled(error)) => return (ReadResult::Throttled, error),
            Err(ReadError::Failed(error)) => return (ReadResult::Failed, error),
        };
        let document = match Document::parse(&text) {
            Ok(document) => document,
            Err(error) => return (ReadResult::Invalid, error.to_string()),
        };
        let before = *self.sender.borrow();
        if let Some(epoch) = before.epoch.filter(|epoch| document.epoch < *epoch) {
            let text = format!(
                "its epoch is {}; expected {epoch} or more, as read before",
                document.epoch
            );
            return (ReadResult::Outdated, text);
        }
        let now = Directive {
            control: document.track(self.track),
            epoch: Some(document.epoch),
            read_at: Some(Instant::now()),
            shut: false,
            rollout: document.is_rollout(),
        };
        if (now.control, now.epoch, now.shut) != (before.control, before.epoch, before.shut) {
            let TrackControl {
                max_per_second,
                paused,
                max_failure_rate,
                handover,
            } = now.control;
            tracing::info!(
                epoch = document.epoch,
                paused,
                max_per_second,
                max_failure_rate,
                handover,
                "control document in force"
            );
        }
        self.sender.send_replace(now);
        (ReadResult::Ok, String::new())
    }
}

/// A source whose answers a test sets.
#[derive(Clone, Debug, Default)]
pub struct Scripted(Arc<std::sync::Mutex<Option<Answer>>>);

/// What a read gives: the document, or none where there is none.
type Answer = Result<Option<String>, ReadError>;

impl Scripted {
    /// From now on every read answers this.
    pub fn set(&self, answer: Result<Option<String>, ReadError>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(answer);
    }
}

impl Source for Scripted {
    async fn read(&self) -> Result<Option<String>, ReadError> {
        let answer = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        answer.unwrap_or(Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(track: Track) -> (Scripted, Reader<Scripted>, Directives) {
        let source = Scripted::default();
        let (reader, directives) = Reader::new(source.clone(), track, None, fastrand::Rng::with_seed(1));
        (source, reader, directives)
    }

    fn document(epoch: u64, canary: &str) -> Result<Option<String>, ReadError> {
        Ok(Some(format!(
            r#"{{"schema":1,"epoch":{epoch},"tracks":{{"canary":{canary}}}}}"#
        )))
    }

    #[tokio::test]
    async fn without_a_document_a_canary_is_shut_and_a_stable_worker_is_not() {
        for (track, shut) in [(Track::Canary, true), (Track::Stable, false)] {
            for answer in [
                Ok(None),
                Err(ReadError::Failed("down".to_owned())),
                Ok(Some("{".to_owned())),
            ] {
                let (source, mut reader, directives) = reader(track);
                source.set(answer);
                assert_ne!(reader.read().await, ReadResult::Ok);
                assert_eq!(directives.now().stops(), shut);
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_changes_nothing() {
        let (source, mut reader, directives) = reader(Track::Canary);
        source.set(document(7, r#"{"max_per_second":5}"#));
        assert_eq!(reader.read().await, ReadResult::Ok);
        let held = directives.now();
        assert_eq!((held.control.max_per_second, held.epoch), (Some(5.0), Some(7)));
        for (answer, result) in [
            (Ok(None), ReadResult::Missing),
            (Ok(Some("[]".to_owned())), ReadResult::Invalid),
            (
                Err(ReadError::Throttled("slow down".to_owned())),
                ReadResult::Throttled,
            ),
            (Err(ReadError::Failed("down".to_owned())), ReadResult::Failed),
            (document(6, r#"{"paused":true}"#), ReadResult::Outdated),
        ] {
            source.set(answer);
            assert_eq!(reader.read().await, result);
            assert_eq!(directives.now(), held);
        }
        source.set(document(8, r#"{"paused":true}"#));
        assert_eq!(reader.read().await, ReadResult::Ok);
        assert!(directives.now().stops());
    }

    #[tokio::test]
    async fn a_canary_reads_often_stable_workers_seldom_and_everybody_slower_when_throttled() {
        let within = |wait: Duration, usual: Duration| wait <= usual && wait >= usual.mul_f64(0.8);
        let (source, mut stable, _directives) = reader(Track::Stable);
        source.set(document(1, "{}"));
        stable.read().await;
        assert!(within(stable.wait(), SLOW), "in a rollout as well");
        let (source, mut reader, _directives) = reader(Track::Canary);
        assert!(within(reader.wait(), FAST));
        source.set(Err(ReadError::Throttled("slow down".to_owned())));
        reader.read().await;
        reader.read().await;
        assert!(within(reader.wait(), FAST * 4));
        for _ in 0..20 {
            reader.read().await;
        }
        assert!(within(reader.wait(), SLOWEST));
        source.set(document(2, r#"{"paused":true}"#));
        reader.read().await;
        assert!(within(reader.wait(), FAST));
    }
}
