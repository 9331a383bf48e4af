//! A control document whose reads take their time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use worker::control::reader::Scripted;
use worker::control::source::{ReadError, Source};

/// The longest that a read takes.
pub(crate) const SLOWEST: Duration = Duration::from_secs(4);

/// What all processes read.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    document: Scripted,
    /// None: every read answers at once.
    random: Option<Arc<Mutex<fastrand::Rng>>>,
}

impl Control {
    /// Of every other seed all reads are slow, each in its way.
    pub(crate) fn new(seed: u64) -> Self {
        let slow = !seed.is_multiple_of(2);
        Self {
            document: Scripted::default(),
            random: slow.then(|| Arc::new(Mutex::new(fastrand::Rng::with_seed(seed ^ 0xc0)))),
        }
    }

    /// One whose reads answer at once.
    pub(crate) fn prompt() -> Self {
        Self::new(0)
    }

    /// From now on every read that begins gives this.
    pub(crate) fn set(&self, answer: Result<Option<String>, ReadError>) {
        self.document.set(answer);
    }
}

impl Source for Control {
    async fn read(&self) -> Result<Option<String>, ReadError> {
        // What was there when it was asked for.
        let answer = self.document.read().await;
        let delay = self.random.as_ref().map(|random| random.lock().unwrap().f64());
        if let Some(delay) = delay {
            sleep(SLOWEST.mul_f64(delay)).await;
        }
        answer
    }
}
