//! What happens in one run: settings, faults and operations, drawn from a seed.

use embedded_sqs::faults::{FaultKind, Rule};
use embedded_sqs::model::action::Action;

/// One run. Its `Debug` form, printed by [`Case::as_code`], can be pasted into `regressions.rs`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// Seeds all that is random in the run: ids, travel times, faults, jitter.
    pub(crate) seed: u64,
    pub(crate) fifo: bool,
    /// Seconds.
    pub(crate) visibility: u32,
    /// `maxReceiveCount` of the queue's redrive policy.
    pub(crate) max_receives: u32,
    pub(crate) concurrency: usize,
    /// Seconds.
    pub(crate) wait: u32,
    /// How many done ids a process remembers.
    pub(crate) remember: usize,
    /// Of an attempt, in seconds.
    pub(crate) deadline: u32,
    /// Of a shutdown, in seconds; at least the wait and what is reserved for settling.
    pub(crate) budget: u32,
    /// In force until the operations are over.
    pub(crate) faults: Vec<Rule>,
    pub(crate) operations: Vec<Operation>,
}

/// What the outside does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// Sends a message. Its attempts go by the script; the last entry stands for all further attempts.
    Send {
        group: u8,
        attributes: u8,
        delay: u8,
        script: Vec<Act>,
    },
    /// Starts this worker process unless it runs.
    Start(u8),
    /// Kills it, as SIGKILL does.
    Crash(u8),
    /// Shuts it down, as SIGTERM does.
    Stop(u8),
    /// Lets time pass, in milliseconds.
    Wait(u32),
    /// Everything on this machine stands still for so many milliseconds, while SQS goes on.
    Jump(u32),
    /// No request gets through for so many milliseconds.
    Outage(u32),
    /// Puts what is in the dead-letter queue back, each with a new SQS id, as the release tool does.
    Redrive,
}

/// What a handler does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// Takes so many milliseconds and is done.
    Done(u32),
    /// Takes so many milliseconds and asks for another attempt.
    Retry(u32),
    /// Asks for another attempt in so many seconds.
    RetryAfter(u32),
    Reject,
    /// Says that a dependency is down; as the last of a script it stands for nothing, so that a run ends.
    Down,
    Panic,
    /// Never ends by itself.
    Hang,
    /// Kills its process.
    Kill,
}

/// Groups of a FIFO queue, and worker processes.
const GROUPS: u8 = 3;
pub(crate) const PROCESSES: u8 = 3;

impl Case {
    /// The case of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let r = &mut random;
        let wait = if r.u8(..25) == 0 { 0 } else { r.u32(1..=4) };
        let visibility = r.choice([7, 13, 31]).unwrap_or(7);
        let mut case = Self {
            seed,
            fifo: r.u8(..5) < 2,
            visibility,
            max_receives: r.u32(1..=4),
            concurrency: r.choice([1, 2, 3, 12]).unwrap_or(1),
            wait,
            remember: r.choice([0, 2, 1000]).unwrap_or(0),
            deadline: r.u32(1..=40),
            budget: wait + r.u32(2..=12),
            faults: Vec::new(),
            operations: Vec::new(),
        };
        // A quiet case has nothing but handlers that fail.
        let quiet = r.u8(..3) == 0;
        if !quiet && r.u8(..6) > 0 {
            for _ in 0..r.u8(1..=4) {
                case.faults.push(fault(r));
            }
        }
        case.operations.push(Operation::Start(0));
        for _ in 0..r.usize(4..=40) {
            case.operations.push(operation(r, quiet));
        }
        case
    }

    /// Whether nothing in it is anybody's fault but the handlers'.
    pub(crate) fn is_calm(&self) -> bool {
        self.faults.is_empty()
            && self.operations.iter().all(|operation| match operation {
                Operation::Send { script, .. } => !script.contains(&Act::Kill),
                Operation::Start(_) | Operation::Stop(_) | Operation::Wait(_) => true,
                Operation::Crash(_) | Operation::Jump(_) | Operation::Outage(_) | Operation::Redrive => false,
            })
    }

    /// The case as an expression for `regressions.rs`.
    pub(crate) fn as_code(&self) -> String {
        format!("{self:?}").replace('[', "vec![")
    }
}

fn operation(r: &mut fastrand::Rng, quiet: bool) -> Operation {
    match r.u8(..100) {
        0..48 => send(r, quiet),
        48..56 => Operation::Start(r.u8(..PROCESSES)),
        56..62 => Operation::Stop(r.u8(..PROCESSES)),
        62..68 if !quiet => Operation::Crash(r.u8(..PROCESSES)),
        68..71 if !quiet => Operation::Outage(r.u32(100..20_000)),
        71..74 if !quiet => Operation::Jump(r.u32(100..40_000)),
        74..77 if !quiet => Operation::Redrive,
        _ => Operation::Wait(if r.bool() { r.u32(..60) } else { r.u32(..9_000) }),
    }
}

fn send(r: &mut fastrand::Rng, quiet: bool) -> Operation {
    let length = if r.bool() { 1 } else { r.usize(1..=4) };
    Operation::Send {
        group: r.u8(..GROUPS),
        attributes: r.choice([0, 0, 1, 9, 10]).unwrap_or(0),
        delay: if r.u8(..8) == 0 { r.u8(1..5) } else { 0 },
        script: (0..length).map(|_| act(r, quiet)).collect(),
    }
}

fn act(r: &mut fastrand::Rng, quiet: bool) -> Act {
    match r.u8(..20) {
        0..9 => Act::Done(match r.u8(..4) {
            0 => 0,
            1 => r.u32(1..40),
            2 => r.u32(40..3_000),
            _ => r.u32(3_000..50_000),
        }),
        9..11 => Act::Retry(r.u32(..2_000)),
        11 => Act::RetryAfter(r.choice([0, 1, 3, 40]).unwrap_or(0)),
        12..14 => Act::Reject,
        14..16 => Act::Down,
        16 => Act::Panic,
        17 => Act::Hang,
        18 if !quiet => Act::Kill,
        _ => Act::Done(1),
    }
}

fn fault(r: &mut fastrand::Rng) -> Rule {
    let probability = r.choice([0.05, 0.2, 0.5]).unwrap_or(0.05);
    let long = r.bool();
    let fault = match r.u8(..12) {
        0 => FaultKind::RequestLost,
        1 | 2 => FaultKind::AnswerLost,
        3 => FaultKind::AnswerCut,
        4 => FaultKind::ServerError,
        5 => FaultKind::ServerErrorAfter,
        6 => FaultKind::Throttle,
        7 => FaultKind::Delay {
            min_ms: 1,
            max_ms: if long { 9_000 } else { 700 },
        },
        8 => FaultKind::FailEntry,
        9 => FaultKind::Duplicate,
        10 => FaultKind::Reorder,
        _ => FaultKind::Miss,
    };
    let actions = [
        Action::ReceiveMessage,
        Action::DeleteMessageBatch,
        Action::ChangeMessageVisibilityBatch,
        Action::SendMessageBatch,
    ];
    match r.choice(actions) {
        Some(action) if r.bool() => Rule::on(action, fault, probability),
        _ => Rule::everywhere(fault, probability),
    }
}
