//! Carries out a case from its first operation until every message is done or dead.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use tokio::time::{Instant, advance, sleep, timeout};
use worker::message::{Attribute, Attributes};
use worker::queue::Outgoing;

use crate::case::{Act, Case, Operation, PROCESSES};
use crate::process::{Process, Scripts};
use crate::sea::Sea;

/// How long a run may take on its own clock: longer than all retries of all messages together.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// After the last fault, nothing of it is left.
const CALM: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    /// The same for runs in which the same happened.
    pub(crate) trace: u64,
    pub(crate) story: Vec<String>,
    /// Messages that were given out, each time counted.
    pub(crate) receives: usize,
    /// When each request to SQS was made, since the beginning.
    pub(crate) requests: Vec<Duration>,
    /// Copies that came to the dead-letter queue.
    pub(crate) copies: usize,
    /// Messages that SQS itself moved to the dead-letter queue.
    pub(crate) natives: usize,
    /// Why the copies were made, in order.
    pub(crate) reasons: Vec<String>,
    /// The most attempts that ran at once, in all processes.
    pub(crate) most_running: usize,
}

thread_local! {
    /// The first panic on this thread that no handler was asked for.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of handlers are part of the play; any other one would be swallowed by the task it happens in.
pub(crate) fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() == Some(&"simulated") {
                return;
            }
            PANIC.with_borrow_mut(|panic| panic.get_or_insert(info.to_string()).clone());
            before(info);
        }));
    });
}

/// Runs a case on a clock of its own. The same case gives the same report.
pub(crate) fn run(case: &Case, tell: bool) -> Report {
    watch_panics();
    PANIC.take();
    // What draws from the thread's generator draws the same in every run.
    fastrand::seed(case.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut report = runtime.block_on(async {
        let mut world = World::new(case, tell);
        if timeout(LIMIT, world.play()).await.is_err() {
            let depth = world.sea.depth();
            world.sea.lock().ledger.violated(
                "everything ends once faults stop",
                format!("after {LIMIT:?} the queue has {depth:?}"),
            );
        }
        let mut state = world.sea.lock();
        Report {
            violation: state.ledger.violation.clone(),
            trace: state.ledger.trace(),
            story: state.ledger.story.take().unwrap_or_default(),
            receives: state.ledger.receives,
            requests: std::mem::take(&mut state.requests),
            copies: state.ledger.copies,
            natives: state.ledger.natives,
            reasons: std::mem::take(&mut state.ledger.reasons),
            most_running: state.ledger.most_running,
        }
    });
    if let Some(panic) = PANIC.take() {
        report.violation.get_or_insert(format!("no panic: {panic}"));
    }
    report
}

struct World<'a> {
    case: &'a Case,
    sea: Arc<Sea>,
    scripts: Arc<Scripts>,
    /// By number; those that drain or are gone are kept until the number is started again.
    processes: Vec<Option<Arc<Process>>>,
    starts: u32,
}

impl<'a> World<'a> {
    fn new(case: &'a Case, tell: bool) -> Self {
        Self {
            case,
            sea: Sea::new(case, tell),
            scripts: Arc::new(Scripts(Mutex::new(Vec::new()))),
            processes: (0..PROCESSES).map(|_| None).collect(),
            starts: 0,
        }
    }

    async fn play(&mut self) {
        for (index, operation) in self.case.operations.iter().enumerate() {
            self.sea
                .lock()
                .ledger
                .tell((9, index), || format!("{operation:?}"));
            self.operate(operation).await;
            self.inspect();
            if self.is_over() {
                return;
            }
        }
        self.sea.calm_down();
        self.settle().await;
        if self.is_over() {
            return;
        }
        let depth = self.sea.depth();
        let mut state = self.sea.lock();
        if depth.visible + depth.in_flight + depth.delayed != state.ledger.live_count() {
            let detail = format!("{depth:?} and {} by the ledger", state.ledger.live_count());
            state.ledger.violated("model and ledger agree", detail);
        }
        state.ledger.check_end(self.case.is_calm());
    }

    async fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::Send {
                group,
                attributes,
                delay,
                script,
            } => self.send(*group, *attributes, *delay, script),
            Operation::Start(number) => self.start(*number).await,
            Operation::Crash(number) => {
                if let Some(process) = &self.processes[usize::from(*number)] {
                    process.kill(&self.sea);
                }
            }
            Operation::Stop(number) => {
                if let Some(process) = self.up(*number) {
                    let (sea, wait) = (Arc::clone(&self.sea), self.case.wait);
                    drop(tokio::spawn(async move { stop(&process, &sea, wait).await }));
                }
            }
            Operation::Wait(ms) => self.wait(Duration::from_millis((*ms).into())).await,
            Operation::Jump(ms) => {
                let length = Duration::from_millis((*ms).into());
                self.sea.jump(length);
                advance(length).await;
            }
            Operation::Outage(ms) => self.sea.outage(Duration::from_millis((*ms).into())),
            Operation::Redrive => self.sea.redrive(),
        }
    }

    fn send(&self, group: u8, attributes: u8, delay: u8, script: &[Act]) {
        let token = self.sea.lock().ledger.sent.len();
        self.scripts.0.lock().unwrap().push((script.to_vec(), 0));
        let attributes: Attributes = (0..attributes)
            .map(|n| (format!("a{n}"), Attribute::text(format!("{token}-{n}"))))
            .collect();
        let fifo = self.case.fifo;
        self.sea.send(&Outgoing {
            body: format!("{token} with a body"),
            attributes,
            delay: Duration::from_secs(if fifo { 0 } else { delay.into() }),
            // On a standard queue a group is a tenant, and not every message has one.
            group: (fifo || group > 0).then(|| format!("g{group}")),
            deduplication_id: fifo.then(|| format!("d{token}")),
            trace_header: (group > 1).then(|| format!("Root=1-{token}")),
        });
    }

    fn up(&self, number: u8) -> Option<Arc<Process>> {
        self.processes[usize::from(number)]
            .clone()
            .filter(|process| process.is_up())
    }

    async fn start(&mut self, number: u8) {
        if self.up(number).is_some() {
            return;
        }
        self.starts += 1;
        let id = (number, self.starts);
        let process = Process::start(self.case, &self.sea, &self.scripts, id).await;
        self.processes[usize::from(number)] = Some(Arc::new(process));
    }

    /// Lets time pass, and puts another process in the place of one that a message killed.
    async fn wait(&mut self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end && !self.is_over() {
            let left = end - Instant::now();
            let dead: Vec<_> = (0..PROCESSES)
                .filter(|number| {
                    let process = &self.processes[usize::from(*number)];
                    process
                        .as_ref()
                        .is_some_and(|process| process.was_killed_by_message())
                })
                .collect();
            for number in dead {
                if let Some(process) = self.processes[usize::from(number)].take() {
                    process.kill(&self.sea);
                }
                self.start(number).await;
            }
            sleep(left.min(Duration::from_millis(500))).await;
            self.inspect();
        }
    }

    /// Without faults, everything comes to its end; then the processes drain.
    async fn settle(&mut self) {
        self.start(0).await;
        // Bounded by the limit of the run.
        while self.sea.lock().ledger.is_live() && !self.is_over() {
            if self.processes.iter().flatten().all(|process| !process.is_up()) {
                self.start(0).await;
            }
            self.wait(Duration::from_secs(1)).await;
        }
        for process in self.processes.iter().flatten() {
            if process.is_up() {
                stop(process, &self.sea, self.case.wait).await;
            }
        }
    }

    fn inspect(&self) {
        for process in self.processes.iter().flatten() {
            let (held, remembered) = (process.health.held(), process.health.remembered());
            let bound = self.case.concurrency + self.case.concurrency.max(100);
            let mut state = self.sea.lock();
            if held > bound {
                let detail = format!("{held}, expected at most {bound}");
                state.ledger.violated("what is in hand is bounded", detail);
            }
            if remembered > process.remember {
                let detail = format!("{remembered}, expected at most {}", process.remember);
                state.ledger.violated("memory of done ids is bounded", detail);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.sea.lock().ledger.violation.is_some()
    }
}

/// Shuts a process down, and looks at what it leaves behind if nothing has gone wrong on the way.
async fn stop(process: &Process, sea: &Sea, wait: u32) {
    let began = Instant::now();
    let Some(drained) = process.drain(sea).await else {
        return;
    };
    let mut state = sea.lock();
    let calm = state
        .last_disturbed
        .is_none_or(|at| at + CALM + Duration::from_secs(wait.into()) < began);
    if !calm {
        return;
    }
    let id = process.life.id;
    state
        .ledger
        .tell((10, drained), || format!("{id:?} has drained: {drained}"));
    if !drained {
        state
            .ledger
            .violated("a drain finishes within its budget", format!("{id:?}"));
    }
    let left = state.ledger.left_hidden(id);
    if drained && !left.is_empty() {
        let detail = format!("{id:?} leaves {left:?}");
        state.ledger.violated("a drain leaves nothing hidden", detail);
    }
}
