//! The stream of orders.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use worker::queue::{MAX_BATCH, Outgoing, Queue};
use worker::sqs::SqsQueue;

/// Orders that were accepted by the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// All.
    pub(super) orders: u64,
    /// The ids of the poison among them.
    pub(super) poison: BTreeSet<String>,
}

/// Sends orders at a steady rate until it is stopped.
#[derive(Debug)]
pub(super) struct Stream {
    sent: Arc<Mutex<Sent>>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// How often a batch is due.
const TICK: Duration = Duration::from_millis(20);

impl Stream {
    pub(super) fn start(queue: SqsQueue, rate: u32, poison_every: u64) -> Self {
        let (sent, stop) = (Arc::new(Mutex::new(Sent::default())), CancellationToken::new());
        let sender = Sender {
            queue,
            sent: Arc::clone(&sent),
            poison_every,
            next: 1,
        };
        let task = tokio::spawn(sender.run(rate, stop.clone()));
        Self {
            sent,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    pub(super) fn sent(&self) -> Sent {
        self.sent.lock().map(|sent| sent.clone()).unwrap_or_default()
    }

    /// Stops, after the batch under way was answered: what was sent is known exactly.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task {
            // It ends by itself; a panic has been printed.
            let _ = task.await;
        }
    }
}

struct Sender {
    queue: SqsQueue,
    sent: Arc<Mutex<Sent>>,
    poison_every: u64,
    next: u64,
}

impl Sender {
    async fn run(mut self, rate: u32, stop: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut due = 0.0;
        while !stop.is_cancelled() {
            tick.tick().await;
            // After a pause of the machine not everything is made up for.
            due = f64::min(due + f64::from(rate) * TICK.as_secs_f64(), f64::from(rate));
            while due >= 1.0 && !stop.is_cancelled() {
                let size = MAX_BATCH.min(whole(due));
                due -= size as f64;
                self.send(size).await;
            }
        }
    }

    /// Sends a batch. What is refused was not sent, and does not count.
    async fn send(&mut self, size: usize) {
        let numbers: Vec<u64> = (self.next..).take(size).collect();
        self.next += size as u64;
        let entries: Vec<Outgoing> = numbers.iter().map(|number| self.order(*number)).collect();
        let Ok(results) = self.queue.send(&entries).await else {
            return;
        };
        let Ok(mut sent) = self.sent.lock() else {
            return;
        };
        for (number, _) in numbers.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            sent.orders += 1;
            if self.is_poison(*number) {
                sent.poison.insert(id(*number));
            }
        }
    }

    /// By chance, and the same for a number whenever it is asked: at every n-th place it would come in step with the batches that the
    /// embedded endpoint hands out in order, and one track would meet more of it than the other.
    fn is_poison(&self, number: u64) -> bool {
        fastrand::Rng::with_seed(number).u64(..self.poison_every) == 0
    }

    fn order(&self, number: u64) -> Outgoing {
        let fault = self.is_poison(number).then_some("reject");
        let body = serde_json::json!({
            "order_id": id(number),
            "customer": format!("c-{}", number % 97),
            "currency": "EUR",
            "items": [{ "sku": "s-1", "quantity": 1 + number % 5, "unit_price_cents": 1999 }],
            "fault": fault,
        });
        Outgoing {
            body: body.to_string(),
            ..Outgoing::default()
        }
    }
}

fn id(number: u64) -> String {
    format!("o-{number}")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the rate of a second"
)]
fn whole(due: f64) -> usize {
    due as usize
}
