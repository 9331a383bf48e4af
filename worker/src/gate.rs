//! The gate before the polls: how many messages may be asked for just now.
//!
//! A token bucket whose rate the control document sets. A receive takes a token for each message it asks for and gives back
//! those it did not need, so the rate holds for messages *received*, whatever the handlers' speeds. What is not used is saved
//! only up to a small burst: after a quiet hour the process does not take more than its share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::control::Directives;

/// What is saved at most: so much of the rate …
///
/// On a queue that is nearly idle a canary wins messages by chance. Tokens that find no room are lost, and with them a part of the share:
/// with one second's worth, two to three points of 50.
const BURST: Duration = Duration::from_secs(2);

/// … or so many messages, whichever is more: with less, a slow trickle would lose its turn whenever another consumer was
/// faster, and fall short of its share.
const MIN_BURST: f64 = 10.0;

/// A token bucket that the control document sets and shuts.
#[derive(Debug)]
pub struct Gate {
    directives: Directives,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    /// Taken by receives under way.
    lent: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, rate: f64, now: Instant) {
        let room = |rate: f64, lent: f64| ((rate * BURST.as_secs_f64()).max(MIN_BURST) - lent).max(0.0);
        let grown = self.tokens + self.rate * now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = grown.min(room(self.rate, self.lent));
        self.filled = now;
        self.tokens *= kept(self.rate, rate);
        self.rate = rate;
    }
}

/// The part of what was saved at one rate that is good at another.
///
/// What was saved for fifty a second is not for a trickle. A rate that is adjusted by a hundredth, as happens every few seconds, keeps
/// nearly all: if it kept nothing, a canary would fall short of its share by several points.
fn kept(before: f64, now: f64) -> f64 {
    if now < before { now / before } else { 1.0 }
}

/// Leave to ask for so many messages. Dropping it gives back what was not spent.
#[derive(Debug)]
pub struct Tokens {
    gate: Option<Arc<Gate>>,
    count: usize,
    /// The rate they were taken at.
    rate: f64,
}

impl Tokens {
    /// How many messages may be asked for.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Keeps at most so many; the rest is given back.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        let unused = self.count.saturating_sub(most);
        if unused > 0 {
            self.count -= unused;
            if let Some(gate) = &self.gate {
                gate.give_back(self.rate, unused, unused);
            }
        }
        self
    }

    /// So many messages have come; the rest is given back.
    pub fn spend(mut self, received: usize) {
        let unused = self.count.saturating_sub(received);
        if let Some(gate) = self.gate.take() {
            gate.give_back(self.rate, self.count, unused);
        }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.give_back(self.rate, self.count, self.count);
        }
    }
}

impl Gate {
    /// A gate that obeys `directives`; empty at the start.
    #[must_use]
    pub fn new(directives: Directives) -> Arc<Self> {
        let bucket = Bucket {
            rate: 0.0,
            tokens: 0.0,
            lent: 0.0,
            filled: Instant::now(),
        };
        Arc::new(Self {
            directives,
            bucket: Mutex::new(bucket),
        })
    }

    /// Waits for leave to ask for at least one message and at most `most`. Cancel safe.
    pub async fn admit(self: &Arc<Self>, most: usize) -> Tokens {
        let mut directives = self.directives.clone();
        // Ends when there is a token; each turn waits for the next one, or for another document.
        loop {
            let wait = match self.take(most) {
                Ok(tokens) => return tokens,
                Err(wait) => wait,
            };
            let token = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = token => {}
                () = directives.changed() => {}
            }
        }
    }

    /// Whether nothing may be received or begun.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.directives.now().stops()
    }

    /// Waits until nothing may be received or begun. Cancel safe.
    pub async fn shut(&self) {
        let mut directives = self.directives.clone();
        while !directives.now().stops() {
            directives.changed().await;
        }
    }

    /// Waits until messages may be begun again. Cancel safe.
    pub async fn opened(&self) {
        let mut directives = self.directives.clone();
        while directives.now().stops() {
            directives.changed().await;
        }
    }

    /// Whether the rate holds the process back just now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Some(rate) = self.directives.now().control.max_per_second else {
            return false;
        };
        let mut bucket = self.lock();
        bucket.fill(rate, Instant::now());
        bucket.tokens < 1.0
    }

    /// Tokens, or how long until there is one; for ever where there is none.
    fn take(self: &Arc<Self>, most: usize) -> Result<Tokens, Option<Duration>> {
        let directive = self.directives.now();
        if directive.stops() {
            return Err(None);
        }
        let Some(rate) = directive.control.max_per_second else {
            return Ok(Tokens {
                gate: None,
                count: most,
                rate: f64::INFINITY,
            });
        };
        let mut bucket = self.lock();
        bucket.fill(rate, Instant::now());
        if bucket.tokens >= 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "from 1 to a batch"
            )]
            let count = bucket.tokens.min(most as f64) as usize;
            bucket.tokens -= whole(count);
            bucket.lent += whole(count);
            return Ok(Tokens {
                gate: Some(Arc::clone(self)),
                count,
                rate,
            });
        }
        if rate <= 0.0 {
            return Err(None);
        }
        // At a tiny rate the wait is long; another document ends it.
        let wait = ((1.0 - bucket.tokens) / rate).clamp(0.001, 86_400.0);
        Err(Some(Duration::from_secs_f64(wait)))
    }

    fn give_back(&self, taken_at: f64, lent: usize, unused: usize) {
        let rate = self.directives.now().control.max_per_second.unwrap_or(0.0);
        let mut bucket = self.lock();
        bucket.fill(rate, Instant::now());
        bucket.lent = (bucket.lent - whole(lent)).max(0.0);
        bucket.tokens += whole(unused) * kept(taken_at, rate);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whole(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reader::{Reader, Scripted};
    use crate::release::Track;

    fn at_rate(rate: f64) -> Arc<Gate> {
        Gate::new(Directives::fixed(crate::control::TrackControl {
            max_per_second: Some(rate),
            ..Default::default()
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_whatever_the_size_of_the_receives() {
        for rate in [0.5, 7.0, 250.0] {
            let gate = at_rate(rate);
            let start = Instant::now();
            let mut received = 0;
            while start.elapsed() < Duration::from_secs(100) {
                let tokens = gate.admit(10).await;
                received += tokens.count();
                let count = tokens.count();
                tokens.spend(count);
            }
            let allowed = rate * start.elapsed().as_secs_f64();
            assert!(
                f64::from(u32::try_from(received).unwrap()) <= allowed + 1.0,
                "{received} at {rate}"
            );
            assert!(
                f64::from(u32::try_from(received).unwrap()) >= 0.99 * allowed - 10.0,
                "{received} at {rate}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_hour_saves_no_more_than_the_burst_held_receives_included() {
        let gate = at_rate(2.0);
        drop(gate.admit(1).await);
        let held = gate.admit(4).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        let mut taken = held.count();
        while let Ok(tokens) = gate.take(10) {
            taken += tokens.count();
            let count = tokens.count();
            tokens.spend(count);
            if taken > 100 {
                break;
            }
        }
        held.spend(0);
        assert!((10..=14).contains(&taken), "{taken}");
    }

    /// A gate that obeys what is then told: a rate.
    async fn told(rate: f64) -> (Arc<Gate>, impl AsyncFnMut(f64)) {
        let source = Scripted::default();
        let (mut reader, directives) =
            Reader::new(source.clone(), Track::Canary, None, fastrand::Rng::with_seed(1));
        let mut epoch = 0;
        let mut tell = async move |rate: f64| {
            epoch += 1;
            let text = format!(
                r#"{{"schema":1,"epoch":{epoch},"tracks":{{"canary":{{"max_per_second":{rate}}}}}}}"#
            );
            source.set(Ok(Some(text)));
            reader.read().await;
        };
        tell(rate).await;
        (Gate::new(directives), tell)
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_is_adjusted_all_the_time_is_used_in_full() {
        let (gate, mut tell) = told(20.0).await;
        drop(gate.admit(1).await);
        let mut taken = 0;
        for second in 0..200 {
            // Nine seconds of nothing to receive in a hundred: less than what can be saved, each.
            tell(if second % 2 == 0 { 19.8 } else { 20.0 }).await;
            let end = Instant::now() + Duration::from_secs(1);
            tokio::time::advance(Duration::from_millis(if second % 11 == 0 { 900 } else { 1 })).await;
            while Instant::now() < end {
                let tokens = gate.admit(10).await;
                taken += tokens.count();
                let count = tokens.count();
                tokens.spend(count);
            }
        }
        assert!((3920..=4020).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_receive_gives_back_after_a_cut_to_a_trickle_is_not_for_the_trickle() {
        let (gate, mut tell) = told(100.0).await;
        drop(gate.admit(1).await);
        tokio::time::advance(Duration::from_secs(10)).await;
        let held = gate.admit(10).await;
        tell(0.5).await;
        held.spend(1);
        assert!(
            gate.take(10).is_err(),
            "two seconds' worth of the trickle are left, one message"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_needed_is_given_back() {
        let gate = at_rate(1.0);
        tokio::time::advance(Duration::from_secs(10)).await;
        drop(gate.admit(1).await);
        tokio::time::advance(Duration::from_secs(10)).await;
        let tokens = gate.admit(10).await;
        assert_eq!(tokens.count(), 10);
        tokens.spend(3);
        assert_eq!(gate.take(10).unwrap().count(), 7);
        assert!(!gate.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_until_another_document_and_a_trickle_starts_without_savings() {
        let source = Scripted::default();
        let (mut reader, directives) =
            Reader::new(source.clone(), Track::Canary, None, fastrand::Rng::with_seed(1));
        let document = |epoch: u64, canary: &str| {
            source.set(Ok(Some(format!(
                r#"{{"schema":1,"epoch":{epoch},"tracks":{{"canary":{canary}}}}}"#
            ))));
        };
        let gate = Gate::new(directives);
        assert!(gate.is_shut(), "no document yet");
        document(1, r#"{"max_per_second":100}"#);
        reader.read().await;
        drop(gate.admit(1).await);
        tokio::time::advance(Duration::from_secs(10)).await;
        document(2, r#"{"paused":true}"#);
        reader.read().await;
        gate.shut().await;
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(10).await.count() }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished());
        document(3, r#"{"max_per_second":0.1}"#);
        reader.read().await;
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
