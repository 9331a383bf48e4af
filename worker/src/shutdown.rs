//! From a signal to the exit, within a budget.
//!
//! 1. SIGTERM or SIGINT: no more polls; what the last ones bring is handed back; handlers go on, their leases are kept.
//! 2. Shortly before the budget ends: handlers that still run are cancelled, their messages handed back.
//! 3. What is left to settle is flushed.
//! 4. Exit. A second signal, or the end of the budget, exits at once: what is left comes back by its visibility timeout.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::config::ShutdownSettings;
use crate::consumer::Shutdown;

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything in hand was settled.
    Whole,
    /// The budget ran out first.
    OutOfTime,
    /// A second signal came first.
    Interrupted,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches the signals from now on: none is missed between this and [`Signals::next`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Runs `work` until it ends by itself or a signal comes, then drains it. `None` when it ended by itself.
pub async fn supervise(
    work: impl Future<Output = ()>,
    signals: &mut Signals,
    shutdown: &Shutdown,
    settings: ShutdownSettings,
) -> Option<Drained> {
    let mut work = std::pin::pin!(work);
    let name = tokio::select! {
        () = &mut work => return None,
        name = signals.next() => name,
    };
    tracing::info!(
        signal = name,
        budget_ms = settings.timeout.as_millis(),
        "shutting down"
    );
    let end = Instant::now() + settings.timeout;
    shutdown.stop.cancel();
    let cut = async {
        sleep_until(end - settings.reserve()).await;
        shutdown.cut.cancel();
        sleep_until(end).await;
    };
    tokio::select! {
        biased;
        () = &mut work => Some(Drained::Whole),
        second = signals.next() => {
            tracing::warn!(signal = second, "second signal: exiting now");
            Some(Drained::Interrupted)
        }
        () = cut => Some(Drained::OutOfTime),
    }
}
