//! A worker process: the real consumer with a handler that goes by the script of each message.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::NoopRecorder;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;
use worker::config::ShutdownSettings;
use worker::consumer::health::Health;
use worker::consumer::{Consumer, Options, Parts, Shutdown};
use worker::events::Events;
use worker::failure::Target;
use worker::handler::{Context, Handler, Outcome, Reason};
use worker::message::Message;
use worker::metrics::Metrics;
use worker::queue::Queue;
use worker::release::{Identity, Release, Track};
use worker::retry::Backoff;
use worker::settle;

use crate::case::{Act, Case};
use crate::ledger::ProcessId;
use crate::sea::{EPOCH, Sea};
use crate::wire::{Life, Wire};

/// What each message's attempts do, and how many were made.
#[derive(Debug)]
pub(crate) struct Scripts(pub(crate) std::sync::Mutex<Vec<(Vec<Act>, usize)>>);

impl Scripts {
    /// What the next attempt does, and whether it is by the last entry.
    fn next(&self, token: usize) -> (Act, bool) {
        let mut scripts = self.0.lock().unwrap();
        let (script, made) = &mut scripts[token];
        let at = (*made).min(script.len() - 1);
        *made += 1;
        (script[at], *made > script.len())
    }
}

/// The handler of one process.
#[derive(Debug)]
pub(crate) struct Scripted {
    sea: Arc<Sea>,
    life: Arc<Life>,
    scripts: Arc<Scripts>,
}

/// Tells the ledger when the attempt ends, however it ends.
struct Attempt<'a> {
    handler: &'a Scripted,
    number: u64,
    how: &'static str,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.handler.sea.lock();
        state
            .ledger
            .attempt_ended(self.handler.life.id, self.number, self.how);
    }
}

impl Handler for Scripted {
    async fn handle(&self, message: &Message, _: &Context) -> Outcome {
        if self.life.killed.is_cancelled() {
            return std::future::pending().await;
        }
        let token = message
            .body
            .split_ascii_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let (act, repeated) = self.scripts.next(token);
        let number = {
            let mut state = self.sea.lock();
            state
                .ledger
                .draining_begins(self.life.id, token, message.receive_count);
            state.ledger.attempt_starts(self.life.id, token, &message.receipt)
        };
        let mut attempt = Attempt {
            handler: self,
            number,
            how: "dropped",
        };
        let outcome = tokio::select! {
            biased;
            () = self.life.killed.cancelled() => None,
            outcome = self.play(act, repeated) => Some(outcome),
        };
        let Some(outcome) = outcome else {
            attempt.how = "killed";
            drop(attempt);
            return std::future::pending().await;
        };
        attempt.how = "returned";
        drop(attempt);
        if outcome == Outcome::Done {
            let mut state = self.sea.lock();
            state.ledger.is_done(self.life.id, token, &message.id);
        }
        outcome
    }
}

impl Scripted {
    async fn play(&self, act: Act, repeated: bool) -> Outcome {
        let ms = |ms: u32| sleep(Duration::from_millis(ms.into()));
        match act {
            Act::Done(time) => ms(time).await,
            Act::Retry(time) => {
                ms(time).await;
                return Outcome::retry("simulated");
            }
            Act::RetryAfter(after) => {
                return Outcome::Retry {
                    after: Some(Duration::from_secs(after.into())),
                    error: "simulated".to_owned(),
                };
            }
            Act::Reject => return Outcome::reject(Reason::INVALID, "simulated"),
            // An outage that never ends would never let the run end.
            Act::Down if !repeated => return Outcome::unavailable("simulated"),
            Act::Down => {}
            Act::Panic => panic!("simulated"),
            Act::Hang => std::future::pending().await,
            Act::Kill => {
                self.life.killed.cancel();
                std::future::pending().await
            }
        }
        Outcome::Done
    }
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) life: Arc<Life>,
    pub(crate) health: Arc<Health>,
    pub(crate) remember: usize,
    shutdown: Shutdown,
    abort: AbortHandle,
    /// Cancelled when `run` has returned.
    ended: CancellationToken,
    budget: ShutdownSettings,
}

impl Process {
    /// Starts a worker, as `run` does after its checks of the queues.
    pub(crate) async fn start(case: &Case, sea: &Arc<Sea>, scripts: &Arc<Scripts>, id: ProcessId) -> Self {
        let life = Arc::new(Life {
            id,
            killed: CancellationToken::new(),
        });
        let wire = |url: &String| {
            Arc::new(Wire {
                sea: Arc::clone(sea),
                life: Arc::clone(&life),
                url: url.clone(),
            })
        };
        let (queue, dead_letter_queue) = (wire(&sea.main), wire(&sea.dead));
        let description = queue.description().await.unwrap();
        let handler = Arc::new(Scripted {
            sea: Arc::clone(sea),
            life: Arc::clone(&life),
            scripts: Arc::clone(scripts),
        });
        let identity = Arc::new(Identity {
            release: Release::new("1.0").unwrap(),
            track: Track::Stable,
        });
        let metrics = Metrics::register(&NoopRecorder, &identity, description.name(), handler.reasons());
        let events = Arc::new(Events::new(Arc::new(metrics), description.name(), 10));
        let target = dead_letter_queue.description().await.unwrap();
        let parts = Parts {
            queue,
            description,
            dead_letter_queue,
            dead_letter_target: Target {
                max_message_bytes: target.max_message_bytes,
                fifo: target.fifo,
            },
            handler,
            identity,
            events,
            clock: Clock::Simulated {
                start: SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH),
                since: Instant::now(),
            },
        };
        let shutdown = Shutdown::default();
        let consumer = Consumer::new(parts, options(case, id), shutdown.clone());
        let health = consumer.health();
        let ended = CancellationToken::new();
        let end = ended.clone();
        let task = tokio::spawn(async move {
            consumer.run().await;
            end.cancel();
        });
        Self {
            life,
            health,
            remember: case.remember,
            shutdown,
            abort: task.abort_handle(),
            ended,
            budget: ShutdownSettings {
                timeout: Duration::from_secs(case.budget.into()),
            },
        }
    }

    /// Whether the process is there, draining or not.
    pub(crate) fn is_up(&self) -> bool {
        !self.life.killed.is_cancelled() && !self.ended.is_cancelled()
    }

    /// Whether a message killed it, and nobody else has.
    pub(crate) fn was_killed_by_message(&self) -> bool {
        self.life.killed.is_cancelled() && !self.abort.is_finished() && !self.shutdown.stop.is_cancelled()
    }

    /// Ends the process at once, with everything in it.
    pub(crate) fn kill(&self, sea: &Sea) {
        self.life.killed.cancel();
        self.abort.abort();
        sea.lock().ledger.gone(self.life.id);
    }

    /// Drains as `shutdown::supervise` does. False when the budget was over first, and the process exited as it
    /// was; none when something killed it meanwhile.
    pub(crate) async fn drain(&self, sea: &Sea) -> Option<bool> {
        let end = Instant::now() + self.budget.timeout;
        sea.lock().ledger.drains(self.life.id);
        self.shutdown.stop.cancel();
        let cut = async {
            sleep_until(end - self.budget.reserve()).await;
            self.shutdown.cut.cancel();
            sleep_until(end).await;
        };
        let drained = tokio::select! {
            biased;
            () = self.ended.cancelled() => Some(true),
            () = self.life.killed.cancelled() => None,
            () = cut => Some(false),
        };
        self.kill(sea);
        drained
    }
}

fn options(case: &Case, id: ProcessId) -> Options {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    // Delays that the worker chooses itself are shorter than the visibility timeout, so that the ledger can tell them
    // from beats.
    let retry = Backoff {
        base: seconds(1),
        max: seconds(5),
    };
    Options {
        concurrency: case.concurrency,
        wait: seconds(case.wait),
        visibility: seconds(case.visibility),
        deadline: seconds(case.deadline),
        retry,
        settle: settle::Options {
            linger: Duration::from_millis(5),
            give_up: seconds(20),
            calls: 4,
            backoff: Backoff {
                base: Duration::from_millis(200),
                max: seconds(2),
            },
            refused_delay: seconds(6),
        },
        remember: case.remember,
        max_error_bytes: 100,
        seed: Some(case.seed ^ (u64::from(id.0) << 32 | u64::from(id.1))),
    }
}
