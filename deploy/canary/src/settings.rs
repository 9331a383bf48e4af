//! `canary.toml`: where the fleet is, and what its workers are.
//!
//! Its keys are [`fields`], of which `docs/canary-toml.md` is made; who is told what happens says [`notify::settings`].

#[cfg(feature = "ecs")]
mod ecs;
pub(crate) mod fields;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use toml::de::DeTable;
use worker::release::Release;

use crate::fleet::local::Options;
use crate::notify::{self, Subscriber};
use crate::reader::{self, Fault, Faults, Field, Section};
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds were checked"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

/// Every key that a file may have.
const KEYS: &[&[&Field]] = &[
    fields::LOCAL,
    #[cfg(feature = "ecs")]
    fields::ECS,
    notify::settings::FIELDS,
];

impl Settings {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong, with line and field.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}; expected a file with [fleet] and [environment], see docs/canary-toml.md",
                std::path::absolute(path).as_deref().unwrap_or(path).display()
            )
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::read(&text, base, |name| std::env::var(name).ok())
            .map_err(|faults| reader::told("the file of settings", path, &faults))
    }

    /// Reads the file's text; paths in it are relative to `base`, and `variable` gives the environment.
    pub(crate) fn read(
        text: &str,
        base: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::new(text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        // What is after a broken line may be taken for something else than it is.
        if !syntax.is_empty() {
            faults.syntax(syntax, false);
            return Err(faults.sorted());
        }
        let mut root = Section::root(table.get_ref(), KEYS);
        let mut fleet = root.section("fleet", &mut faults);
        let mut environment = root.section("environment", &mut faults);
        environment.hide_values();
        let targets = root.sections("notify", &mut faults);
        let notify = notify::settings::read(targets, variable, &mut faults);
        if fleet.is_present() || !root.has("fleet") {
            fleet.require(&fields::KIND, &mut faults);
        }
        let settings = match fleet.word(&fields::KIND, &mut faults) {
            "local" => Self::local(&mut fleet, &environment, base, &mut faults),
            #[cfg(feature = "ecs")]
            "ecs" => ecs::settings(&mut fleet, &environment, base, &mut faults),
            // Of no kind that is known: nothing else can be said of it.
            _ => {
                root.finish(&mut faults);
                return Err(faults.sorted());
            }
        };
        fleet.finish(&mut faults);
        root.finish(&mut faults);
        let list = faults.sorted();
        if list.is_empty() {
            Ok(Self { notify, ..settings })
        } else {
            Err(list)
        }
    }

    fn local(
        fleet: &mut Section<'_>,
        environment: &Section<'_>,
        base: &Path,
        faults: &mut Faults<'_>,
    ) -> Self {
        let directory = fleet.text(&fields::DIRECTORY, faults);
        let directory = base.join(directory.as_deref().unwrap_or(fields::DIRECTORY.default_text()));
        let command = fleet.texts(&fields::PROGRAM, faults);
        let command = command.unwrap_or_else(|| vec!["worker".to_owned(), "run".to_owned()]);
        if command.is_empty() {
            let message = format!("found [], expected {}", fields::PROGRAM.expected());
            fleet.refuse(&fields::PROGRAM, message, faults);
        }
        let mut variables = BTreeMap::new();
        for (name, value, line) in environment.named_texts("a text in quotes", faults) {
            match checked_name(&name) {
                Ok(_) => drop(variables.insert(name, value)),
                Err(error) => faults.add(line, format!("environment.{name}"), error.to_string()),
            }
        }
        Self {
            // Workers get paths below it, whatever directory they run in.
            directory: std::path::absolute(&directory).unwrap_or(directory),
            command,
            stable: whole(fleet.quantity_or_default(&fields::STABLE, faults)),
            canary: whole(fleet.quantity_or_default(&fields::CANARY, faults)),
            stop_within: Duration::from_secs_f64(fleet.quantity_or_default(&fields::STOP_WITHIN, faults)),
            ready_within: whole(fleet.quantity_or_default(&fields::READY_WITHIN, faults)),
            environment: variables,
            notify: Vec::new(),
            #[cfg(feature = "ecs")]
            ecs: None,
        }
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
mod tests;
