//! `kind = "ecs"`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::Settings;
use crate::fleet::ecs::{Names, Options};

/// A fleet on Amazon ECS.
#[derive(Clone, Debug, PartialEq)]
pub struct OnEcs {
    /// The services and the parameters.
    pub options: Options,
    /// Where the journal is, `s3://BUCKET/FOLDER/journal.json`.
    pub journal: String,
    /// Who counts.
    pub counting: Counting,
    /// Where the release tool says how the rollout stands.
    pub metrics: Metrics,
}

/// Where the release tool says how the rollout stands, while it drives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metrics {
    /// In CloudWatch.
    #[default]
    CloudWatch,
    /// Nowhere: `canary exporter` does, or nobody.
    None,
}

/// Who counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// CloudWatch, to which the workers publish.
    #[default]
    CloudWatch,
    /// The workers themselves, asked over HTTP: quicker, where this machine reaches their addresses.
    Scrape,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Low {
    app: String,
    cluster: Option<String>,
    journal: String,
    stable_service: Option<String>,
    canary_service: Option<String>,
    #[serde(default = "canary")]
    canary: u32,
    #[serde(default = "ready_within")]
    ready_within: String,
    #[serde(default = "container")]
    container: String,
    #[serde(default)]
    evidence: Counting,
    #[serde(default)]
    metrics: Metrics,
    #[serde(default = "admin_port")]
    admin_port: u16,
    #[serde(default)]
    ignored_alarms: Vec<String>,
    first: Option<PathBuf>,
    #[serde(default = "autoscaling")]
    autoscaling: bool,
}

const fn autoscaling() -> bool {
    true
}

const fn canary() -> u32 {
    1
}

fn ready_within() -> String {
    "10m".to_owned()
}

fn container() -> String {
    "worker".to_owned()
}

const fn admin_port() -> u16 {
    9464
}

/// The most tasks of a canary: ECS's for a service.
const MOST: u32 = 5000;

impl Low {
    pub(super) fn settings(self, base: &Path) -> anyhow::Result<Settings> {
        let names = [
            ("app", Some(&self.app)),
            ("cluster", self.cluster.as_ref()),
            ("stable_service", self.stable_service.as_ref()),
            ("canary_service", self.canary_service.as_ref()),
        ];
        for (field, name) in names {
            if name.is_some_and(|name| !is_name(name)) {
                bail!(
                    "fleet.{field} is {:?}, expected 1 to 255 letters, digits, - and _",
                    name.map_or("", String::as_str)
                );
            }
        }
        if !(1..=MOST).contains(&self.canary) {
            bail!(
                "fleet.canary is {}, expected a number from 1 to {MOST}",
                self.canary
            );
        }
        let first = self.first.map(|path| read(&base.join(path))).transpose()?;
        let cluster = self.cluster.unwrap_or_else(|| self.app.clone());
        let scraped = self.evidence == Counting::Scrape;
        let options = Options {
            names: Names::of(&self.app),
            stable: self
                .stable_service
                .unwrap_or_else(|| format!("{}-stable", self.app)),
            canary: self
                .canary_service
                .unwrap_or_else(|| format!("{}-canary", self.app)),
            app: self.app,
            cluster,
            container: self.container,
            tasks: self.canary,
            admin_port: scraped.then_some(self.admin_port),
            ignored_alarms: self.ignored_alarms,
            first,
            autoscaled: self.autoscaling,
        };
        if !self.journal.starts_with("s3://") {
            bail!(
                "fleet.journal is {:?}, expected s3://BUCKET/FOLDER/journal.json",
                self.journal
            );
        }
        Ok(Settings {
            directory: super::directory(),
            command: Vec::new(),
            stable: 0,
            canary: self.canary,
            stop_within: Duration::ZERO,
            ready_within: super::time("ready_within", &self.ready_within)?,
            environment: BTreeMap::new(),
            notify: Vec::new(),
            ecs: Some(OnEcs {
                options,
                journal: self.journal,
                counting: self.evidence,
                metrics: self.metrics,
            }),
        })
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=255).contains(&name.len()) && name.chars().all(fits)
}

fn read(path: &Path) -> anyhow::Result<serde_json::Value> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "fleet.first: cannot read {}; expected a task definition as RegisterTaskDefinition takes it",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("fleet.first: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> anyhow::Result<Settings> {
        let text = format!("[fleet]\nkind = \"ecs\"\n{more}");
        Settings::read(&text, Path::new(""))
    }

    const LEAST: &str = "app = \"orders\"\njournal = \"s3://b/orders/journal.json\"\n";

    #[test]
    fn a_short_file_names_services_and_parameters_by_the_app() {
        let settings = settings(LEAST).unwrap();
        assert_eq!((settings.kind(), settings.ready_within), ("ecs", 600));
        let ecs = settings.ecs.unwrap();
        let options = &ecs.options;
        assert_eq!(
            (
                options.cluster.as_str(),
                options.stable.as_str(),
                options.canary.as_str()
            ),
            ("orders", "orders-stable", "orders-canary")
        );
        assert_eq!(options.names.control, "/orders/canary/control");
        assert_eq!((ecs.counting, options.admin_port), (Counting::CloudWatch, None));
        assert_eq!(ecs.metrics, Metrics::CloudWatch);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, expected) in [
            ("", "app"),
            ("app = \"orders\"\n", "journal"),
            (
                "app = \"or/ders\"\njournal = \"s3://b/o/j\"\n",
                "fleet.app is \"or/ders\"",
            ),
            (
                "app = \"orders\"\njournal = \"file\"\n",
                "fleet.journal is \"file\"",
            ),
            (&format!("{LEAST}canary = 0\n"), "fleet.canary is 0"),
            (&format!("{LEAST}evidence = \"hearsay\"\n"), "hearsay"),
            (&format!("{LEAST}metrics = \"abacus\"\n"), "abacus"),
            (&format!("{LEAST}stabel = 1\n"), "stabel"),
            (&format!("{LEAST}first = \"/nowhere.json\"\n"), "/nowhere.json"),
            (&format!("{LEAST}[environment]\nA = \"1\"\n"), "environment.A"),
        ] {
            let error = format!("{:#}", settings(more).unwrap_err());
            assert!(error.contains(expected), "{more}: {error}");
        }
    }
}
