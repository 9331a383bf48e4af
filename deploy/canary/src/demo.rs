//! `canary demo`: a queue, a stream of orders, workers, and four releases, on this machine and with nothing but this binary.
//!
//! The queue is the embedded endpoint in this process (or LocalStack); the workers are this binary itself. At the end every order is
//! accounted for.

mod account;
mod orders;
mod queues;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use embedded_sqs::server::{Server, ServerConfig};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use worker::clock::Clock;
use worker::release::Release;

use crate::command::lines::Lines;
use crate::drive::{self, Drive, End, Manner, Observer, Parts, Scrape};
use crate::fleet::local::Local;
use crate::fleet::{Fleet, Service};
use crate::journal::{FileStore, Journal};
use crate::letters::Letters;
use crate::moment::Moment;
use crate::plan::Plan;
use crate::rollout::{Course, Happening, Kind, Outcome};
use crate::settings::Settings;
use orders::Stream;
use queues::Queues;

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Orders a second.
    pub rate: u32,
    /// LocalStack's endpoint; without it the embedded one in this process.
    pub localstack: Option<String>,
    /// Leave queue, stream and workers running at the end, until a signal.
    pub keep: bool,
    /// Where logs, journals and reports go.
    pub directory: PathBuf,
}

/// The plan of the demo: short steps, or it would not fit into two minutes. A real one takes minutes; see `deploy/plans`.
const PLAN: &str = include_str!("demo/plan.toml");

/// One order in so many can be processed by no release.
const POISON_EVERY: u64 = 250;
/// Attempts of every release that fail now and then.
const USUAL_FAILURES: f64 = 0.002;
/// How long the rest of the orders may take at the end.
const DRAIN: Duration = Duration::from_secs(60);
/// How long processes may take to end.
const STOP: Duration = Duration::from_secs(20);

/// A release of the demo.
struct Act {
    release: &'static str,
    what: &'static str,
    /// Share of attempts that fail and can be tried again.
    failures: f64,
    expected: Outcome,
}

const ACTS: [Act; 4] = [
    Act {
        release: "A",
        what: "the first release",
        failures: USUAL_FAILURES,
        expected: Outcome::Promoted,
    },
    Act {
        release: "B",
        what: "as good as A",
        failures: USUAL_FAILURES,
        expected: Outcome::Promoted,
    },
    Act {
        release: "C",
        what: "fails 20 %",
        failures: 0.20,
        expected: Outcome::RolledBack,
    },
    Act {
        release: "D",
        what: "fails 2 % more",
        failures: USUAL_FAILURES + 0.02,
        expected: Outcome::RolledBack,
    },
];

/// Runs the demo until its end or `stop`. Whatever happens, no process stays behind.
///
/// # Errors
/// When a release fared otherwise than it should, or an order is not accounted for.
pub async fn run(options: &Options, stop: &CancellationToken) -> Result<()> {
    std::fs::create_dir_all(&options.directory)
        .with_context(|| format!("cannot use {}", options.directory.display()))?;
    let server = match &options.localstack {
        Some(_) => None,
        None => Some(Server::start(ServerConfig::default()).await?),
    };
    let endpoint = match (&options.localstack, &server) {
        (Some(url), _) => url.clone(),
        (None, Some(server)) => server.url().to_owned(),
        (None, None) => bail!("there is no endpoint"),
    };
    let queues = Queues::make(&endpoint).await?;
    let stage = Stage {
        settings: settings(options, &endpoint, &queues)?,
        queues: queues.clone(),
        stream: Stream::start(queues.main.clone(), options.rate, POISON_EVERY),
    };
    let result = tokio::select! {
        result = stage.play(options, stop) => result,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped; the workers are stopped too")),
    };
    stage.stream.stop().await;
    let stopped = stage.stop_workers().await;
    queues.delete().await;
    if let Some(server) = server {
        server.stop().await;
    }
    result.and(stopped)
}

/// What the acts are played on.
struct Stage {
    settings: Settings,
    queues: Queues,
    stream: Stream,
}

/// How an act went.
struct Played {
    act: &'static Act,
    journal: Journal,
}

impl Stage {
    async fn play(&self, options: &Options, stop: &CancellationToken) -> Result<()> {
        let began = Instant::now();
        say(&format!(
            "{} orders/s, one in {POISON_EVERY} of them poison that no release can process; {} on {}",
            options.rate, "three stable workers and a canary", self.queues.endpoint
        ));
        let mut played = Vec::new();
        for act in &ACTS {
            let journal = self.act(act, stop).await?;
            played.push(Played { act, journal });
        }
        if options.keep {
            self.keep(stop).await?;
        }
        self.stream.stop().await;
        let sent = self.stream.sent();
        self.queues.drained(DRAIN).await?;
        self.stop_workers().await?;
        let account = account::take(&self.queues, &sent, &self.settings.directory.join("logs")).await?;
        summary(&played, began.elapsed());
        account.show();
        say(&format!(
            "journals  {}",
            self.settings.directory.join("history").display()
        ));
        for Played { act, journal } in &played {
            let outcome = journal.state.outcome();
            ensure!(
                outcome == Some(act.expected),
                "release {} ({}) ended as {outcome:?}, expected {:?}",
                act.release,
                act.what,
                act.expected
            );
        }
        account.check()
    }

    async fn act(&self, act: &Act, stop: &CancellationToken) -> Result<Journal> {
        say(&format!("\nrelease {}: {}", act.release, act.what));
        let clock = Clock::System;
        let now: Moment = clock.now().into();
        let set = [("WORKER__ORDERS__RETRY".to_owned(), act.failures.to_string())];
        let revision = self.settings.revision(Release::new(act.release)?, &set);
        let letters = Letters::of(&revision, self.queues.sqs.clone());
        let store = FileStore::open(&self.settings.directory)?;
        let fresh = drive::fresh(Kind::Canary, revision, PLAN, now);
        let claim = drive::claim(&store, Some(fresh), drive::me(now), false).await?;
        let observers: Vec<Box<dyn Observer>> =
            vec![Box::new(Lines::new(now, stdout(), stdout().is_terminal()))];
        let parts = Parts {
            store,
            fleet: Local::open(self.settings.options(), clock)?,
            source: Scrape,
            redriver: letters,
            observer: observers,
            clock,
        };
        let course = Course {
            ready_within: self.settings.ready_within,
            ..Course::new(plan()?)
        };
        let mut drive = Drive::new(parts, claim, course);
        match drive.run(Manner::default(), stop).await? {
            End::Over(_) => Ok(drive.journal().clone()),
            End::Held | End::Stopped => bail!("stopped"),
        }
    }

    async fn keep(&self, stop: &CancellationToken) -> Result<()> {
        let mut fleet = Local::open(self.settings.options(), Clock::System)?;
        say("\nleft running until Ctrl-C:");
        say(&format!("  endpoint  {}", self.queues.endpoint));
        say(&format!("  queue     {}", self.queues.main.url()));
        say(&format!("  files     {}", self.settings.directory.display()));
        let view = fleet.observe().await?;
        for process in &view.stable.processes {
            if let Some(address) = process.address {
                say(&format!(
                    "  worker    http://{address}/status  /metrics  /evidence  ({})",
                    process.name
                ));
            }
        }
        // Until a signal; the processes are looked after meanwhile.
        while !stop.is_cancelled() {
            fleet.observe().await?;
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(Duration::from_millis(500)) => {}
            }
        }
        Ok(())
    }

    /// Stops every worker, and waits until it is gone.
    async fn stop_workers(&self) -> Result<()> {
        let mut fleet = Local::open(self.settings.options(), Clock::System)?;
        for service in Service::ALL {
            fleet.stop(service).await?;
        }
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            let view = fleet.observe().await?;
            if view.stable.processes.is_empty() && view.canary.processes.is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        bail!("workers did not end within {STOP:?}")
    }
}

fn plan() -> Result<Plan> {
    Plan::read(PLAN).map_err(|faults| anyhow::anyhow!("the demo's plan: {faults:?}"))
}

fn settings(options: &Options, endpoint: &str, queues: &Queues) -> Result<Settings> {
    let binary = std::env::current_exe()?;
    let binary = binary.to_str().context("the path of this binary is not UTF-8")?;
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("WORKER__QUEUE__URL", queues.main.url()),
        ("WORKER__DLQ__URL", queues.dead_letter.url()),
        ("WORKER__HANDOVER__URL", queues.handover.url()),
        // A receive that waits must end before a worker can.
        ("WORKER__QUEUE__WAIT", "1s"),
        ("WORKER__SHUTDOWN__TIMEOUT", "8s"),
        ("WORKER__HANDLER__DEADLINE", "5s"),
        ("WORKER__CONCURRENCY", "40"),
        ("WORKER__ORDERS__LATENCY", "20ms"),
        // A file costs nothing to read.
        ("WORKER__CONTROL__INTERVAL", "1s"),
    ];
    let pairs = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Settings {
        directory: std::path::absolute(&options.directory)?,
        command: vec![binary.to_owned(), "worker".to_owned()],
        stable: 3,
        canary: 1,
        stop_within: Duration::from_secs(12),
        ready_within: 30,
        environment: BTreeMap::from(pairs),
    })
}

fn say(text: &str) {
    use std::io::Write;
    // A closed terminal is no reason to leave workers behind.
    let _ = writeln!(stdout(), "{text}");
}

/// Seconds from the first step to the first entry that `is` what is looked for.
fn after_first_step(journal: &Journal, is: impl Fn(&Happening) -> bool) -> Option<f64> {
    let first = |is: &dyn Fn(&Happening) -> bool| {
        let entry = journal.timeline.iter().find(|entry| is(&entry.happening));
        entry.map(|entry| entry.at)
    };
    let step = first(&|happening| matches!(happening, Happening::Step { .. }))?;
    Some(first(&is)?.since(step).as_secs_f64())
}

fn summary(played: &[Played], took: Duration) {
    say("\nseconds after its first step each release was …");
    say("release                    suspected    decided    removed  new release: messages, failed");
    for Played { act, journal } in played {
        let shown =
            |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1}"));
        let suspected = after_first_step(journal, |happening| *happening == Happening::Suspected);
        let decided = after_first_step(journal, |happening| {
            matches!(
                happening,
                Happening::Promoting { .. } | Happening::RollingBack { .. }
            )
        });
        let removed = after_first_step(journal, |happening| *happening == Happening::Removed);
        let decision = match journal.state.outcome() {
            Some(Outcome::Promoted) => "promoted",
            Some(Outcome::RolledBack) => "rolled back",
            Some(Outcome::Restored | Outcome::Refused) | None => "neither",
        };
        let (messages, failed) = account::of_release(journal);
        say(&format!(
            "{}  {:<22} {:>10} {:>10} {:>10}  {messages}, {failed}: {decision}",
            act.release,
            act.what,
            shown(suspected),
            shown(decided),
            shown(removed),
        ));
    }
    say(&format!("\nall of it took {:.0} s", took.as_secs_f64()));
}

/// Where a demo puts its files unless told otherwise.
#[must_use]
pub fn directory() -> PathBuf {
    let name = format!("canary-demo-{}", std::process::id());
    Path::new(&std::env::temp_dir()).join(name)
}
