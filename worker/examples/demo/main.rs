//! Fills a queue with orders, drains it with the worker, and accounts for every message. Run it by `localstack/demo`.
//!
//! The queue and its dead-letter queue are the demo's own: made at the start and deleted at the end, so the account is
//! exact whatever else is going on. It refuses to run without `AWS_ENDPOINT_URL`: it is meant for LocalStack.

mod queues;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, interval, sleep, timeout};
use worker::failure::{ATTRIBUTE, Story};

use self::queues::{Queues, fill, receive_all};

/// One order in so many is rejected.
const REJECT_EVERY: usize = 33;
/// One order in so many fails once, if it is not rejected.
const RETRY_EVERY: usize = 29;
/// Without any progress for so long the demo gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The worker's shutdown takes 28 s at most.
const STOP_WITHIN: Duration = Duration::from_secs(32);

#[derive(Debug, Parser)]
#[command(about = "Fills a queue with orders, drains it with the worker, and accounts for every message")]
struct Arguments {
    /// How many orders to send
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
    /// How long the sample workload takes for an order
    #[arg(long, default_value = "20ms")]
    latency: String,
    /// Where the worker's log goes
    #[arg(long)]
    log: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut queues, mut worker) = (None, None);
    let result = tokio::select! {
        result = run(&arguments, &mut queues, &mut worker) => result,
        error = stopped() => Err(error),
    };
    // Whatever happened: no process and no queue stays behind.
    if let Some(worker) = worker {
        let _ = worker.stop().await;
    }
    if let Some(queues) = queues {
        queues.delete().await;
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for a signal that wants the demo to end. Later ones do not hurry it: cleaning up has a bound.
async fn stopped() -> anyhow::Error {
    let caught = (|| {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok::<_, std::io::Error>((interrupt, terminate, signal(SignalKind::hangup())?))
    })();
    match caught {
        Err(error) => error.into(),
        Ok((mut interrupt, mut terminate, mut hangup)) => tokio::select! {
            _ = interrupt.recv() => anyhow!("interrupted; stopping the worker"),
            _ = terminate.recv() => anyhow!("told to stop; stopping the worker"),
            _ = hangup.recv() => anyhow!("the terminal is gone; stopping the worker"),
        },
    }
}

async fn run(arguments: &Arguments, queues: &mut Option<Queues>, worker: &mut Option<Worker>) -> Result<()> {
    let orders: Vec<Order> = (1..=arguments.messages as usize).map(Order::new).collect();
    let count = |fault| orders.iter().filter(|order| order.fault == Some(fault)).count();
    let (total, rejects, retries) = (orders.len(), count("reject"), count("retry"));

    let queues = queues.insert(Queues::make().await?);
    let began = Instant::now();
    fill(&queues.main, &orders).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "sent      {total} orders in {seconds:.1} s; {rejects} are to be rejected, {retries} to fail once"
    );

    let (log, began) = (arguments.log.display(), Instant::now());
    let (process, address) = Worker::start(arguments, queues)?;
    let process = worker.insert(process);
    let Ok(Ok(address)) = timeout(Duration::from_secs(20), address).await else {
        bail!("the worker did not start; its log is {log}");
    };
    let pid = process.child.id();
    println!("worker    release demo-1, pid {pid}, http://{address}/status, log {log}");
    let counted = drain(process, address, total, began).await?;
    let seconds = began.elapsed().as_secs_f64();
    let per_second = rate(total, seconds);
    println!("drained   in {seconds:.1} s from the worker's start: {per_second:.0} messages/s");

    let began = Instant::now();
    let status = worker.take().context("the worker is gone")?.stop().await?;
    let seconds = began.elapsed().as_secs_f64();
    println!("stopped   by SIGTERM in {seconds:.1} s, {status}");
    ensure!(
        status.success(),
        "the worker ended with {status}; its log is {log}"
    );
    account(queues, &orders, &counted).await
}

/// An order as it is sent.
struct Order {
    body: String,
    fault: Option<&'static str>,
}

impl Order {
    fn new(n: usize) -> Self {
        let fault = match n {
            n if n.is_multiple_of(REJECT_EVERY) => Some("reject"),
            n if n.is_multiple_of(RETRY_EVERY) => Some("retry"),
            _ => None,
        };
        let body = serde_json::json!({
            "order_id": format!("o-{n}"),
            "customer": format!("c-{}", n % 97),
            "currency": "EUR",
            "items": [{ "sku": "s-1", "quantity": 1 + n % 5, "unit_price_cents": 1999 }],
            "fault": fault,
        });
        Self {
            body: body.to_string(),
            fault,
        }
    }
}

/// The worker's process. Killed when dropped: better than left behind.
struct Worker {
    child: Child,
}

impl Worker {
    /// The process, and the address of its admin endpoint once it says it.
    fn start(arguments: &Arguments, queues: &Queues) -> Result<(Self, oneshot::Receiver<SocketAddr>)> {
        // Cargo puts examples one directory below binaries.
        let binary = std::env::current_exe()?.with_file_name("../worker");
        let log = std::fs::File::create(&arguments.log);
        let mut log = log.with_context(|| format!("the log {}", arguments.log.display()))?;
        let child = Command::new(&binary)
            .arg("run")
            .env("WORKER__RELEASE", "demo-1")
            .env("WORKER__QUEUE__URL", queues.main.url())
            .env("WORKER__ADMIN__ADDRESS", "127.0.0.1:0")
            .env("WORKER__LOG__FORMAT", "text")
            .env("WORKER__ORDERS__LATENCY", &arguments.latency)
            // A receive that waits must end before the worker can.
            .env("WORKER__QUEUE__WAIT", "2s")
            // Ctrl-C is for the demo, which stops the worker in its own time.
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.with_context(|| format!("{}; cargo build --bin worker", binary.display()))?;
        let lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            // Until the worker's end. A log that cannot be written must not fill the pipe.
            for line in lines.map_while(Result::ok) {
                let address = line
                    .split("address=")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                if let Some(address) = address.and_then(|address| address.parse().ok())
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(address);
                }
                let _ = writeln!(log, "{line}");
            }
        });
        Ok((Self { child }, receiver))
    }

    /// SIGTERM, and the exit status.
    async fn stop(mut self) -> Result<ExitStatus> {
        let kill = format!("kill -TERM {}", self.child.id());
        Command::new("sh").args(["-c", &kill]).status()?;
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("the worker did not end within {STOP_WITHIN:?} of SIGTERM; it is killed")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sums of the worker's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counted {
    done: usize,
    retried: usize,
    dead_lettered: usize,
}

impl Counted {
    fn read(metrics: &str) -> Self {
        let sum = |name: &str, label: &str| {
            let ours = |line: &&str| line.starts_with(name) && line.contains(label);
            let value = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
            metrics.lines().filter(ours).filter_map(value).sum()
        };
        Self {
            done: sum("worker_attempts_total{", "outcome=\"done\""),
            retried: sum("worker_attempts_total{", "outcome=\"retry\""),
            dead_lettered: sum("worker_dead_letters_total{", ""),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a million messages")]
fn rate(messages: usize, seconds: f64) -> f64 {
    messages as f64 / seconds.max(0.001)
}

/// Shows progress until every message is done or dead-lettered.
async fn drain(worker: &mut Worker, address: SocketAddr, total: usize, began: Instant) -> Result<Counted> {
    let terminal = std::io::stdout().is_terminal();
    let mut tick = interval(Duration::from_millis(200));
    let (mut last, mut moved, mut shown) = (Counted::default(), Instant::now(), 0);
    // Bounded by PATIENCE since the last progress.
    loop {
        tick.tick().await;
        if let Some(status) = worker.child.try_wait()? {
            bail!("the worker ended by itself: {status}");
        }
        // While the worker looks for its queues, nothing is served yet.
        let metrics = worker::admin::ask(address, "/metrics", Duration::from_secs(3)).await;
        let now = Counted::read(&metrics.unwrap_or_default());
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        let settled = now.done + now.dead_lettered;
        let per_second = rate(settled, began.elapsed().as_secs_f64());
        let line = format!(
            "draining  {:3} %  done {}  retried {}  dead-lettered {}  {per_second:.0} messages/s",
            100 * settled / total,
            now.done,
            now.retried,
            now.dead_lettered
        );
        if terminal {
            print!("\r{line}   ");
        } else if settled >= total || shown % 10 == 0 {
            println!("{line}");
        }
        shown += 1;
        std::io::stdout().flush()?;
        if settled >= total {
            print!("{}", if terminal { "\n" } else { "" });
            return Ok(now);
        }
        ensure!(moved.elapsed() < PATIENCE, "no progress for {PATIENCE:?}");
    }
}

/// Compares what was sent with what the worker counted and with what is in the queues.
async fn account(queues: &Queues, orders: &[Order], counted: &Counted) -> Result<()> {
    let dead = receive_all(&queues.dead_letter).await?;
    let bodies: BTreeSet<&str> = dead.iter().map(|message| message.body.as_str()).collect();
    let rejected = orders.iter().filter(|order| order.fault == Some("reject"));
    let expected: BTreeSet<&str> = rejected.map(|order| order.body.as_str()).collect();
    let left = queues.left().await?;
    if let Some(message) = dead.first() {
        let story = message
            .attributes
            .get(ATTRIBUTE)
            .context("a dead letter lacks its story")?;
        let story = serde_json::to_string(&Story::read(story)?)?;
        println!("a letter  {}\n          {ATTRIBUTE}: {story}", message.body);
    }
    let (sent, found) = (orders.len(), dead.len());
    let Counted {
        done, dead_lettered, ..
    } = counted;
    println!("account   sent {sent}; done {done} + dead-lettered {dead_lettered}");
    println!("          found in the dead-letter queue {found}; left in the queue {left}");
    ensure!(left == 0, "{left} messages are left in the queue");
    ensure!(done + dead_lettered == sent, "the account does not add up");
    ensure!(
        found == *dead_lettered,
        "other dead letters were counted than there are"
    );
    ensure!(
        bodies == expected,
        "other orders were dead-lettered than those to be rejected"
    );
    println!("          every message is accounted for");
    Ok(())
}
