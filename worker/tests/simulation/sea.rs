//! The queues, the faults on the way to them, and the truth about what was carried out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use embedded_sqs::faults::{Decision, FaultPlan, Faults, Outcome};
use embedded_sqs::model::action::{
    Action, CreateQueue, DeleteMessage, ReceiveMessage, SendMessage, SendMessageBatch,
};
use embedded_sqs::model::{Account, AccountConfig, Depth, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use worker::failure::ATTRIBUTE;
use worker::queue::Outgoing;

use crate::case::Case;
use crate::ledger::{Ledger, Sent, Token};
use crate::translation::{dead, entry, token};

/// As the adapter to SQS has it, of every request but a receive.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// When runs begin, in seconds since 1970.
pub(crate) const EPOCH: u64 = 1_800_000_000;

/// The queues, the faults on the way to them, and the truth.
#[derive(Debug)]
pub(crate) struct Sea {
    state: Mutex<State>,
    /// Something may be there to receive.
    pub(crate) woken: Notify,
    origin: Instant,
    pub(crate) main: String,
    pub(crate) dead: String,
    fifo: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) account: Account,
    faults: Faults,
    /// Travel times, and how a lost answer shows.
    random: fastrand::Rng,
    outage_until: Instant,
    pub(crate) last_disturbed: Option<Instant>,
    /// When each request was made, since the beginning.
    pub(crate) requests: Vec<Duration>,
    pub(crate) ledger: Ledger,
}

impl Sea {
    pub(crate) fn new(case: &Case, tell: bool) -> Arc<Self> {
        let mut account = Account::new(AccountConfig {
            seed: case.seed,
            ..AccountConfig::default()
        });
        let suffix = if case.fifo { ".fifo" } else { "" };
        let now = Timestamp::from_millis(EPOCH * 1000);
        let mut create = |name: &str, mut attributes: BTreeMap<String, String>| {
            attributes.insert("MessageRetentionPeriod".into(), "1209600".into());
            if case.fifo {
                attributes.insert("FifoQueue".into(), "true".into());
            }
            let request = CreateQueue {
                queue_name: format!("{name}{suffix}"),
                attributes,
                ..CreateQueue::default()
            };
            account.create_queue(now, &request).unwrap().queue_url
        };
        let dead = create("dead", BTreeMap::new());
        let policy = format!(
            r#"{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead{suffix}","maxReceiveCount":{}}}"#,
            case.max_receives
        );
        let main = create("main", BTreeMap::from([("RedrivePolicy".into(), policy)]));
        let state = State {
            account,
            faults: Faults::new(FaultPlan {
                seed: case.seed,
                rules: case.faults.clone(),
            }),
            random: fastrand::Rng::with_seed(case.seed ^ 0x3a11),
            outage_until: Instant::now(),
            last_disturbed: None,
            requests: Vec::new(),
            ledger: Ledger::new(case, tell),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            woken: Notify::new(),
            origin: Instant::now(),
            main,
            dead,
            fifo: case.fifo,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH * 1000) + self.origin.elapsed()
    }

    /// Carries something out in the model, and looks at what came to the dead-letter queue by it.
    pub(crate) fn act<T>(&self, act: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let given = act(&mut state, now);
        self.sweep(&mut state, now);
        if !state.account.take_woken().is_empty() {
            self.woken.notify_waiters();
        }
        given
    }

    /// Takes everything out of the dead-letter queue and into the ledger.
    fn sweep(&self, state: &mut State, now: Timestamp) {
        // Ends when the queue is empty; every round but the last takes something out.
        while state.account.depth(now, &self.dead).unwrap().visible > 0 {
            let request = ReceiveMessage {
                queue_url: self.dead.clone(),
                message_system_attribute_names: vec!["All".into()],
                message_attribute_names: vec!["All".into()],
                max_number_of_messages: Some(10),
                wait_time_seconds: Some(0),
                ..ReceiveMessage::default()
            };
            for message in state.account.receive_message(now, &request).unwrap().messages {
                let delete = DeleteMessage {
                    queue_url: self.dead.clone(),
                    receipt_handle: message.receipt_handle.to_string(),
                };
                state.account.delete_message(now, &delete).unwrap();
                let token = token(&message.body);
                state.ledger.died(token, dead(&message));
            }
        }
    }

    /// Sends a message as an application does.
    pub(crate) fn send(&self, outgoing: &Outgoing) -> Token {
        let entry = entry(0, outgoing);
        self.act(|state, now| {
            let token = state.ledger.sent.len();
            let request = SendMessage {
                queue_url: self.main.clone(),
                message_body: entry.message_body,
                delay_seconds: entry.delay_seconds,
                message_attributes: entry.message_attributes,
                message_system_attributes: entry.message_system_attributes,
                message_deduplication_id: entry.message_deduplication_id,
                message_group_id: entry.message_group_id,
            };
            let sent = state.account.send_message(now, request).unwrap();
            state.ledger.sent(Sent {
                body: outgoing.body.clone(),
                attributes: outgoing.attributes.clone(),
                group: outgoing.group.clone(),
                trace_header: outgoing.trace_header.clone(),
                original_ids: vec![sent.message_id.to_string()],
            });
            token
        })
    }

    /// Puts all dead letters back, as the release tool does: under the id that each has in the dead-letter queue.
    pub(crate) fn redrive(&self) {
        let dead = std::mem::take(&mut self.lock().ledger.dead);
        for (token, letters) in dead {
            for letter in letters {
                let outgoing = Outgoing {
                    body: letter.body,
                    attributes: letter.attributes,
                    group: letter.group,
                    deduplication_id: self.fifo.then(|| format!("redrive-{}", letter.id)),
                    trace_header: letter.trace_header,
                    ..Outgoing::default()
                };
                let (entry, story) = (entry(0, &outgoing), outgoing.attributes.contains_key(ATTRIBUTE));
                self.act(|state, now| {
                    let request = SendMessageBatch {
                        queue_url: self.main.clone(),
                        entries: vec![entry],
                        ..SendMessageBatch::default()
                    };
                    let output = state.account.send_message_batch(now, request).unwrap();
                    let id = output.successful[0].sent.message_id.to_string();
                    state.ledger.copied_back(token, &id, story);
                });
            }
        }
    }

    pub(crate) fn outage(&self, length: Duration) {
        let mut state = self.lock();
        state.outage_until = state.outage_until.max(Instant::now() + length);
        state.last_disturbed = Some(state.outage_until);
    }

    /// Notes that everything but SQS stands still for so long.
    pub(crate) fn jump(&self, length: Duration) {
        let (from, mut state) = (Instant::now(), self.lock());
        state.ledger.jumps(from, from + length);
        state.last_disturbed = state.last_disturbed.max(Some(from + length));
    }

    /// No more faults from now on.
    pub(crate) fn calm_down(&self) {
        let mut state = self.lock();
        state.faults = Faults::new(FaultPlan::default());
        state.outage_until = Instant::now();
    }

    pub(crate) fn depth(&self) -> Depth {
        self.act(|state, now| state.account.depth(now, &self.main).unwrap())
    }

    /// What happens to a call, how long its request and its answer travel, and whether what is lost is lost in silence.
    pub(crate) fn decide(&self, action: Action) -> (Decision, Duration, Duration, bool) {
        let mut state = self.lock();
        state.requests.push(self.origin.elapsed());
        let mut decision = state.faults.decide(action);
        if Instant::now() < state.outage_until {
            decision.outcome = Outcome::RequestLost;
        }
        if decision != Decision::default() {
            let until = Instant::now() + decision.delay + REQUEST_TIMEOUT;
            state.last_disturbed = state.last_disturbed.max(Some(until));
        }
        let travel = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(1..20));
        let (there, back) = (travel(&mut state.random), travel(&mut state.random));
        (decision, there, back, state.random.bool())
    }
}
