//! The checks before a rollout on this machine. They change nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use worker::release::Release;

use super::process::{self, Alive, Process};
use super::record::Slot;
use super::{Local, Service};
use crate::rollout::{Definition, Facts, Kind, Revision};

/// How long the worker's own check may take. It ends by itself before that, unless it is no worker.
const WITHIN: Duration = Duration::from_secs(20);
/// How long it tries an SQS that does not answer.
const STARTUP: (&str, &str) = ("WORKER__STARTUP__TIMEOUT", "5s");
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The most characters of what it says.
const MOST: usize = 600;

impl Local {
    pub(super) async fn preflight(&mut self, candidate: &Revision) -> Result<Facts, String> {
        let Definition::Local { command, environment } = &candidate.definition else {
            return Err(format!("{} is no revision of a local fleet", candidate.release));
        };
        process::executable(command, environment)?;
        let baseline = self.record.stable.clone();
        if baseline
            .as_ref()
            .is_some_and(|baseline| baseline.release == candidate.release)
        {
            return Err(format!(
                "{} is what runs as stable; expected another release",
                candidate.release
            ));
        }
        if self.kind == Kind::Canary {
            for name in ["WORKER__QUEUE__URL", "WORKER__QUEUE__NAME"] {
                if let Some(queue) = environment.get(name).filter(|queue| queue.ends_with(".fifo")) {
                    return Err(format!(
                        "{name} is {queue}, a FIFO queue; expected a standard one: the order within a group ties two releases together, \
                         so that neither can be judged alone. --skip-canary rolls out without a comparison"
                    ));
                }
            }
            if let Some(baseline) = &baseline {
                self.is_at_work(&baseline.release)?;
            }
        }
        // What is put back is put back, whatever its queue is like by now.
        if !matches!(self.kind, Kind::Restore { .. }) {
            self.ask_the_worker(candidate, command).await?;
        }
        Ok(Facts {
            baseline,
            ..Facts::default()
        })
    }

    /// There must be something to compare with.
    fn is_at_work(&mut self, stable: &Release) -> Result<(), String> {
        let of_stable = |slot: &&Slot| {
            slot.service == Service::Stable && slot.stopping.is_none() && slot.revision.release == *stable
        };
        let slots = self.record.slots.iter().filter(of_stable);
        let mut names = slots.map(|slot| &slot.name);
        // Those that are missing while others work are started again, as in any rollout.
        let lives = |name: &String| {
            let process = self.processes.get_mut(name);
            process.is_some_and(|running| running.process.look() == Alive::Yes)
        };
        if names.any(lives) {
            return Ok(());
        }
        Err(format!(
            "0 of {} stable processes of {stable} run, and there is nothing to compare with; `canary fleet run` starts them",
            self.options.stable
        ))
    }

    /// Whether settings and queues fit, in the words of the release's own worker: with its environment, before anything is started.
    async fn ask_the_worker(&mut self, candidate: &Revision, command: &[String]) -> Result<(), String> {
        let Some(command) = check_of(command) else {
            return Ok(());
        };
        let name = format!(
            "{}-check.log",
            crate::journal::file_name(candidate.release.as_str())
        );
        let log = self.options.directory.join("logs").join(name);
        // What an earlier one has said is nothing to go by; where there was none, there is nothing to remove.
        let _ = fs::remove_file(&log);
        let mut variables =
            self.variables(&Slot::new("check".to_owned(), Service::Canary, candidate.clone()));
        variables.remove(process::TOKEN);
        variables.insert(STARTUP.0.to_owned(), STARTUP.1.to_owned());
        let mut process = Process::start(&command, &variables, &log)?;
        let until = Instant::now() + WITHIN;
        let how = loop {
            match process.look() {
                Alive::Ended(how) => break how,
                Alive::Yes if Instant::now() >= until => {
                    process.kill();
                    break format!("nothing, for {} s", WITHIN.as_secs());
                }
                Alive::Yes => sleep(LOOK).await,
            }
        };
        if how == "exit code 0" {
            return Ok(());
        }
        let command = command.join(" ");
        match own_words(&log) {
            Some(words) => Err(format!("`{command}` of {}: {words}", candidate.release)),
            None => {
                self.noted.push(format!(
                    "the settings of {} were not checked: `{command}` gave {how}, and no word of a worker",
                    candidate.release
                ));
                Ok(())
            }
        }
    }
}

/// The command that checks what `command` would run: the worker's subcommand `run` made `check`.
///
/// Only where `run` is said, with nothing but a file of settings behind it: what else a program makes of a word it does not know,
/// nobody can say; it could begin to work.
fn check_of(command: &[String]) -> Option<Vec<String>> {
    let at = command.iter().skip(1).position(|argument| argument == "run")? + 1;
    let settings = match &command[at + 1..] {
        [] => true,
        [one] => one.starts_with("--config="),
        [flag, _] => flag == "--config",
        _ => false,
    };
    settings.then(|| {
        let mut command = command.to_vec();
        "check".clone_into(&mut command[at]);
        command
    })
}

/// What a worker says of itself on its way out (`worker: …`), in one line: bounded, and nothing in it steers a terminal.
fn own_words(log: &Path) -> Option<String> {
    const MARK: &str = "worker: ";
    let text = process::end_of(log)?;
    let lines = text.lines().skip_while(|line| !line.starts_with(MARK));
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix(MARK).unwrap_or(line))
        .collect();
    (!lines.is_empty()).then(|| process::plain(&lines.join("; "), MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_what_says_run_is_asked_to_check() {
        for (command, expected) in [
            ("worker run", Some("worker check")),
            ("canary worker run", Some("canary worker check")),
            (
                "orders run --config orders.toml",
                Some("orders check --config orders.toml"),
            ),
            (
                "orders --config=orders.toml run",
                Some("orders --config=orders.toml check"),
            ),
            ("worker", None),
            ("run", None),
            ("docker run orders", None),
            ("sh -c run.sh", None),
        ] {
            assert_eq!(check_of(&words(command)), expected.map(words), "{command}");
        }
    }

    #[test]
    fn a_workers_own_words_are_told_from_others() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let said = |text: &str| {
            fs::write(log.path(), text).unwrap();
            own_words(log.path())
        };
        assert_eq!(
            said("error: unrecognized subcommand 'check'\n\nUsage: orders\n"),
            None
        );
        assert_eq!(
            said("noise\nworker: queue.url: no\nand no\nworker: dlq.url: \u{1b}[1mno\n").as_deref(),
            Some("queue.url: no; and no; dlq.url:  [1mno")
        );
        assert_eq!(
            said(&format!("worker: {}", "ä".repeat(2000)))
                .unwrap()
                .chars()
                .count(),
            MOST
        );
    }
}
