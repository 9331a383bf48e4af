//! What all connections share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use crate::faults::{Decision, FaultPlan, Faults};
use crate::model::action::Action;
use crate::model::{Account, QueueKey, Timestamp};

/// How many large requests are read at a time; each may take `dispatch::MAX_REQUEST_BYTES`.
const LARGE_REQUESTS: usize = 16;

#[derive(Debug)]
pub(super) struct State {
    inner: Mutex<Inner>,
    pub(super) large_requests: Semaphore,
    pub(super) stopping: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    account: Account,
    faults: Faults,
    clock: Clock,
    /// Who waits for messages, by queue.
    waiting: HashMap<QueueKey, Arc<Notify>>,
    request_ids: fastrand::Rng,
}

impl State {
    pub(super) fn new(account: Account, faults: FaultPlan, stopping: CancellationToken) -> Self {
        let inner = Inner {
            account,
            faults: Faults::new(faults),
            clock: Clock::system(),
            waiting: HashMap::new(),
            request_ids: fastrand::Rng::with_seed(0x7265_7175_6573_7473),
        };
        Self {
            inner: Mutex::new(inner),
            large_requests: Semaphore::new(LARGE_REQUESTS),
            stopping,
        }
    }

    /// Carries out an action now, and wakes one waiter of each queue that has become readable. That one wakes the next when
    /// it leaves something.
    pub(super) fn with_account<T>(&self, act: impl FnOnce(&mut Account, Timestamp) -> T) -> T {
        let mut inner = self.lock();
        let now = inner.clock.now();
        let given = act(&mut inner.account, now);
        for key in inner.account.take_woken() {
            if let Some(waiting) = inner.waiting.get(&key) {
                waiting.notify_one();
            }
        }
        given
    }

    /// What tells a waiter of this queue to look again.
    pub(super) fn waiting(&self, key: QueueKey) -> Arc<Notify> {
        Arc::clone(self.lock().waiting.entry(key).or_default())
    }

    /// Wakes all waiters of a queue that is gone.
    pub(super) fn forget(&self, key: QueueKey) {
        if let Some(waiting) = self.lock().waiting.remove(&key) {
            waiting.notify_waiters();
        }
    }

    pub(super) fn with_clock<T>(&self, change: impl FnOnce(&mut Clock) -> T) -> T {
        let mut inner = self.lock();
        let given = change(&mut inner.clock);
        for waiting in inner.waiting.values() {
            waiting.notify_waiters();
        }
        given
    }

    pub(super) fn read_clock<T>(&self, read: impl FnOnce(&Clock) -> T) -> T {
        read(&self.lock().clock)
    }

    pub(super) fn decide(&self, action: Action) -> Decision {
        self.lock().faults.decide(action)
    }

    pub(super) fn fault_plan(&self) -> FaultPlan {
        self.lock().faults.plan().clone()
    }

    pub(super) fn set_faults(&self, plan: FaultPlan) -> Result<(), String> {
        plan.check()?;
        self.lock().faults = Faults::new(plan);
        Ok(())
    }

    pub(super) fn request_id(&self) -> u128 {
        self.lock().request_ids.u128(..)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held is a defect of the model; other queues go on serving.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
