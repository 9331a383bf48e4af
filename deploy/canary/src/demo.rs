//! `canary demo`: a queue, a stream of orders, workers, and four releases, on this machine and with nothing but this binary.
//!
//! The queue is the embedded endpoint in this process (or LocalStack); the workers are this binary itself. At the end every order is
//! accounted for.

mod account;
mod act;
mod orders;
mod queues;
mod times;

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

use crate::command::lines::{Lines, folded};
use crate::command::report;
use crate::drive::{self, Drive, End, Manner, Observer, Parts, Scrape};
use crate::fleet::local::Local;
use crate::fleet::{Fleet, Service};
use crate::journal::{FileStore, Journal};
use crate::letters::Letters;
use crate::moment::Moment;
use crate::rollout::{Course, Outcome};
use crate::settings::Settings;
use act::Act;
use orders::Stream;
use queues::Queues;
use times::Times;

/// How the demo runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Orders a second.
    pub rate: u32,
    /// LocalStack's endpoint; without it the embedded one in this process.
    pub localstack: Option<String>,
    /// Instead of the demo: measure how fast bad releases are found, in so many rounds.
    pub times: Option<u32>,
    /// Leave queue, stream and workers running at the end, until a signal.
    pub keep: bool,
    /// Where logs, journals and reports go.
    pub directory: PathBuf,
}

/// One order in so many can be processed by no release.
const POISON_EVERY: u64 = 250;
/// How long the rest of the orders may take at the end.
const DRAIN: Duration = Duration::from_secs(60);
/// How long processes may take to end.
const STOP: Duration = Duration::from_secs(20);

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
    act: Act,
    journal: Journal,
    times: Times,
}

impl Stage {
    async fn play(&self, options: &Options, stop: &CancellationToken) -> Result<()> {
        let began = Instant::now();
        self.introduce(options);
        let logs = self.settings.directory.join("logs");
        let acts = options.times.map_or_else(act::demo, act::measured);
        let mut played = Vec::new();
        for act in acts {
            let journal = self.act(&act, stop).await?;
            let outcome = journal.state.outcome();
            ensure!(
                outcome == Some(act.expected),
                "release {} ({}) ended as {outcome:?}, expected {:?}; the workers' logs are in {}",
                act.release,
                act.what,
                act.expected,
                logs.display()
            );
            let times = Times::of(&journal, &logs)?;
            played.push(Played { act, journal, times });
        }
        if options.keep {
            self.keep(stop).await?;
        }
        self.stream.stop().await;
        let sent = self.stream.sent();
        say("\nno more orders; what is left is worked off");
        self.queues.drained(DRAIN).await?;
        self.stop_workers().await?;
        let account = account::take(&self.queues, &sent, &logs).await?;
        match options.times {
            Some(_) => times::show(&played, options.rate),
            None => summary(&played),
        }
        account.show();
        for Played { journal, .. } in &played {
            let file = report::keep(&self.settings.directory, journal)?;
            say(&format!("report    {}", file.display()));
        }
        say(&format!(
            "\nall of it took {:.0} s; journals and logs are in {}",
            began.elapsed().as_secs_f64(),
            self.settings.directory.display()
        ));
        account.check()?;
        let missed: Vec<String> = played
            .iter()
            .flat_map(|played| times::missed(&played.act, &played.times))
            .collect();
        ensure!(
            options.times.is_none() || missed.is_empty(),
            "{}",
            missed.join("; ")
        );
        Ok(())
    }

    fn introduce(&self, options: &Options) {
        let where_from = match options.localstack {
            Some(_) => "LocalStack",
            None => "embedded in this process",
        };
        say(&format!(
            "A queue of orders ({}, {where_from}),\n\
             {} of them a second. One in {POISON_EVERY} is poison: no release can process it, and\n\
             none is blamed for it. Of the others one attempt in 500 fails, in every release,\n\
             and goes well the next time. Three stable workers drain the queue; a new\n\
             release is a canary beside them.",
            self.queues.endpoint, options.rate
        ));
    }

    async fn act(&self, act: &Act, stop: &CancellationToken) -> Result<Journal> {
        say(&format!("\nRelease {}: {}", act.release, act.what));
        let clock = Clock::System;
        let now: Moment = clock.now().into();
        let set = [("WORKER__ORDERS__RETRY_RATIO".to_owned(), act.failures.to_string())];
        let revision = self.settings.revision(Release::new(&act.release)?, &set);
        let letters = Letters::of(&revision, self.queues.sqs.clone());
        let store = FileStore::open(&self.settings.directory)?;
        let fresh = drive::fresh(act.kind.clone(), revision, &act.plan, now);
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
            ..Course::new(act.plan()?)
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
        command: vec![binary.to_owned(), "worker".to_owned(), "run".to_owned()],
        stable: 3,
        canary: 1,
        stop_within: Duration::from_secs(12),
        ready_within: 30,
        environment: BTreeMap::from(pairs),
        notify: Vec::new(),
        #[cfg(feature = "ecs")]
        ecs: None,
    })
}

fn say(text: &str) {
    use std::io::Write;
    // A closed terminal is no reason to leave workers behind.
    let _ = writeln!(stdout(), "{text}");
}

fn summary(played: &[Played]) {
    say(&table(played));
}

/// Columns of a release in the table; with the names of the rows four of them fit into 80.
const COLUMN: usize = 15;

/// What became of each release: a column each.
fn table(played: &[Played]) -> String {
    let column = |cell: &str| format!("{cell:>COLUMN$}");
    let row = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| column(cell)).collect();
        format!("{name:<18}{cells}").trim_end().to_owned() + "\n"
    };
    let of = |cell: &dyn Fn(&Played) -> String| played.iter().map(cell).collect::<Vec<_>>();
    // What there is to say of a release, in two lines.
    let line = |index: usize| {
        of(&|played| {
            let folded = folded(played.act.what, 0, COLUMN - 1);
            folded.lines().nth(index).unwrap_or_default().to_owned()
        })
    };
    let verdict = |played: &Played| match played.act.expected {
        Outcome::Promoted => "promoted".to_owned(),
        Outcome::RolledBack | Outcome::Restored | Outcome::Refused => "rolled back".to_owned(),
    };
    let after = |index: usize| {
        of(&|played| {
            let seconds = played.times.after_first_step()[index];
            seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1} s"))
        })
    };
    let counts = |played: &Played| account::of_release(&played.journal);
    [
        row("\nrelease", of(&|played| played.act.release.clone())),
        row("", line(0)),
        row("", line(1)),
        row("verdict", of(&verdict)),
        "since its first step\n".to_owned(),
        row("  contained", after(0)),
        row("  suspected", after(1)),
        row("  decided", after(2)),
        row("  removed", after(3)),
        "the canary's attempts\n".to_owned(),
        row("  judged", of(&|played| counts(played).0.to_string())),
        row("  failed", of(&|played| counts(played).1.to_string())),
        "\nContained is when the canary's own breaker stopped it; – where there was\n\
         nothing to stop, or the judge was quicker: what is suspected gets a few\n\
         messages a second, too few for a breaker to be sure.\n"
            .to_owned(),
    ]
    .concat()
}

/// Where a demo puts its files unless told otherwise.
#[must_use]
pub fn directory() -> PathBuf {
    let name = format!("canary-demo-{}", std::process::id());
    Path::new(&std::env::temp_dir()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_shows_every_release() {
        let played: Vec<Played> = act::demo()
            .into_iter()
            .map(|act| Played {
                act,
                journal: crate::exporter::tests::journal(),
                times: Times::default(),
            })
            .collect();
        let table = table(&played);
        for line in table.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let row = |name: &str| {
            table
                .lines()
                .find(|line| line.trim_start().starts_with(name))
                .unwrap()
        };
        assert_eq!(
            row("release").split_whitespace().collect::<Vec<_>>(),
            ["release", "A", "B", "C", "D"]
        );
        assert_eq!(row("verdict").matches("rolled back").count(), 2);
        assert_eq!(row("contained").matches('–').count(), 4);
        assert!(row("the first").contains("fails 2 %") && row("release").contains('D'));
    }
}
