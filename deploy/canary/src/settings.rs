//! `canary.toml`: where the fleet is, and what its workers are.
//!
//! ```toml
//! [fleet]
//! kind = "local"               # worker processes on this machine
//! directory = ".canary"        # journal, control document, logs, what runs; relative to this file
//! command = ["worker", "run"]  # what a worker process is
//! stable = 3                   # processes
//! canary = 1                   # processes of the canary, and of the control group in the bake
//! stop_within = "35s"          # after SIGTERM; then SIGKILL
//! ready_within = "2m"          # what is not ready by then is rolled back
//!
//! [environment]                # of every worker; --set NAME=VALUE adds to it for one release
//! WORKER__QUEUE__URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
//! ```
//!
//! Or on Amazon ECS, where the task definition says what a worker is:
//!
//! ```toml
//! [fleet]
//! kind = "ecs"                 # services APP-stable and APP-canary of one cluster
//! app = "orders"
//! cluster = "orders"           # as the app unless set
//! journal = "s3://orders-canary-journal-123456789012-eu-west-1/orders/journal.json"
//! canary = 1                   # the fewest canary tasks; more when the plan's shares need more
//! ready_within = "10m"
//! container = "worker"         # where a task has several
//! evidence = "cloudwatch"      # or "scrape", from where the tasks' addresses can be reached
//! admin_port = 9464            # for "scrape"
//! metrics = "cloudwatch"       # where the tool says how the rollout stands; or "none"
//! autoscaling = true           # false: nothing scales the stable service, and nothing is asked about it
//! ignored_alarms = []          # may be in ALARM when a rollout begins
//! first = "worker.json"        # a task definition for the very first release; relative to this file
//! ```
//!
//! Who is told what happens says [`notify::settings`].

#[cfg(feature = "ecs")]
mod ecs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use worker::release::Release;

use crate::fleet::local::Options;
use crate::notify::{self, Subscriber};
use crate::plan::unit;
use crate::rollout::{Definition, Revision};

#[cfg(feature = "ecs")]
pub use ecs::{Counting, Metrics, OnEcs};

/// The file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the fleet's files are.
    pub directory: PathBuf,
    /// What a worker process is.
    pub command: Vec<String>,
    /// Processes of the stable service.
    pub stable: u32,
    /// Processes of the canary service.
    pub canary: u32,
    /// Time from SIGTERM to SIGKILL.
    pub stop_within: Duration,
    /// Seconds until processes must be ready.
    pub ready_within: u32,
    /// Of every worker.
    pub environment: BTreeMap<String, String>,
    /// Who is told what happens.
    pub notify: Vec<Subscriber>,
    /// Where the fleet is, if it is on Amazon ECS: then nothing above counts but the time to get ready.
    #[cfg(feature = "ecs")]
    pub ecs: Option<OnEcs>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Low {
    fleet: LowFleet,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Read by [`notify::settings`].
    #[serde(default, rename = "notify")]
    _notify: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum LowFleet {
    Local(LowLocal),
    #[cfg(feature = "ecs")]
    Ecs(ecs::Low),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LowLocal {
    #[serde(default = "directory")]
    directory: PathBuf,
    #[serde(default = "command")]
    command: Vec<String>,
    #[serde(default = "stable")]
    stable: u32,
    #[serde(default = "canary")]
    canary: u32,
    #[serde(default = "stop_within")]
    stop_within: String,
    #[serde(default = "ready_within")]
    ready_within: String,
}

fn directory() -> PathBuf {
    PathBuf::from(".canary")
}

fn command() -> Vec<String> {
    vec!["worker".to_owned(), "run".to_owned()]
}

const fn stable() -> u32 {
    3
}

const fn canary() -> u32 {
    1
}

fn stop_within() -> String {
    "35s".to_owned()
}

fn ready_within() -> String {
    "2m".to_owned()
}

/// The most processes of a service on one machine.
const MOST: u32 = 200;

impl Settings {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// What is wrong, with the line or the field.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}; expected a file with [fleet] and [environment], see docs/rollouts.md",
                path.display()
            )
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let read = || -> anyhow::Result<Self> {
            let settings = Self::read(&text, base)?;
            let notify = notify::settings::read(&text, |name| std::env::var(name).ok())?;
            Ok(Self { notify, ..settings })
        };
        read().with_context(|| format!("the settings {}", path.display()))
    }

    fn read(text: &str, base: &Path) -> anyhow::Result<Self> {
        let Low {
            fleet, environment, ..
        } = toml::from_str(text)?;
        let fleet = match fleet {
            LowFleet::Local(fleet) => fleet,
            #[cfg(feature = "ecs")]
            LowFleet::Ecs(low) => {
                if let Some(name) = environment.keys().next() {
                    bail!(
                        "environment.{name} has no place on ECS: the task definition says it; expected --set {name}=… for a release"
                    );
                }
                return low.settings(base);
            }
        };
        for (field, value, least) in [("stable", fleet.stable, 1), ("canary", fleet.canary, 1)] {
            if !(least..=MOST).contains(&value) {
                bail!("fleet.{field} is {value}, expected a number from {least} to {MOST}");
            }
        }
        if fleet.command.first().is_none_or(String::is_empty) {
            bail!("fleet.command is empty, expected a program and its arguments, as [\"worker\", \"run\"]");
        }
        for name in environment.keys() {
            checked_name(name)?;
        }
        let directory = base.join(&fleet.directory);
        Ok(Self {
            // Workers get paths below it, whatever directory they run in.
            directory: std::path::absolute(&directory).unwrap_or(directory),
            stop_within: Duration::from_secs(time("stop_within", &fleet.stop_within)?.into()),
            ready_within: time("ready_within", &fleet.ready_within)?,
            command: fleet.command,
            stable: fleet.stable,
            canary: fleet.canary,
            environment,
            notify: Vec::new(),
            #[cfg(feature = "ecs")]
            ecs: None,
        })
    }

    /// The kind of the fleet, as the file says it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        #[cfg(feature = "ecs")]
        if self.ecs.is_some() {
            return "ecs";
        }
        "local"
    }

    /// `release` with this command and environment, and `set` on top.
    #[must_use]
    pub fn revision(&self, release: Release, set: &[(String, String)]) -> Revision {
        let mut environment = self.environment.clone();
        environment.extend(set.iter().cloned());
        Revision {
            release,
            definition: Definition::Local {
                command: self.command.clone(),
                environment,
            },
        }
    }

    /// As the local fleet takes it.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            directory: self.directory.clone(),
            stable: self.stable,
            canary: self.canary,
            stop_within: self.stop_within,
        }
    }
}

fn time(field: &str, text: &str) -> anyhow::Result<u32> {
    let seconds = unit::seconds(text).filter(|seconds| (1..=3600).contains(seconds));
    seconds.with_context(|| format!("fleet.{field} is {text:?}, expected a time of 1s to 1h, as \"35s\""))
}

/// Variables that the fleet itself sets: to set them elsewhere would make a release be another than it says.
const OURS: [&str; 5] = [
    "WORKER__RELEASE",
    "WORKER__TRACK",
    "WORKER__ADMIN__ADDRESS",
    "WORKER__CONTROL__SOURCE",
    "WORKER__LOG__FORMAT",
];

/// `name` if it may be set for workers.
///
/// # Errors
/// What is wrong with it.
pub fn checked_name(name: &str) -> anyhow::Result<&str> {
    if name.is_empty() || name.contains(['=', '\0']) {
        bail!("{name:?} is no name of a variable");
    }
    if OURS.contains(&name) {
        bail!("{name} is set by the fleet; expected other variables");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_has_defaults_and_paths_are_absolute() {
        let text = "[fleet]\nkind = \"local\"\n[environment]\nA = \"1\"\n";
        let settings = Settings::read(text, Path::new("/srv/app")).unwrap();
        assert_eq!(settings.directory, Path::new("/srv/app/.canary"));
        assert_eq!(
            (settings.stable, settings.canary, settings.ready_within),
            (3, 1, 120)
        );
        let revision = settings.revision(Release::new("1").unwrap(), &[("A".to_owned(), "2".to_owned())]);
        assert_eq!(revision.definition.environment()["A"], "2");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("", "fleet"),
            ("[fleet]\nkind = \"moon\"\n", "moon"),
            ("[fleet]\nkind = \"local\"\nstabel = 1\n", "stabel"),
            ("[fleet]\nkind = \"local\"\nstable = 0\n", "fleet.stable is 0"),
            ("[fleet]\nkind = \"local\"\ncommand = []\n", "fleet.command"),
            (
                "[fleet]\nkind = \"local\"\nstop_within = \"35\"\n",
                "fleet.stop_within is \"35\"",
            ),
            (
                "[fleet]\nkind = \"local\"\n[environment]\nWORKER__RELEASE = \"1\"\n",
                "WORKER__RELEASE",
            ),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", Settings::read(text, Path::new("")).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
