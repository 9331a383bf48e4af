//! `kind = "ecs"`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::{Settings, fields, whole};
use crate::fleet::ecs::{Names, Options};
use crate::reader::{Faults, Section};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metrics {
    /// In CloudWatch.
    #[default]
    CloudWatch,
    /// Nowhere: `canary exporter` does, or nobody.
    None,
}

/// Who counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// CloudWatch, to which the workers publish.
    #[default]
    CloudWatch,
    /// The workers themselves, asked over HTTP: quicker, where this machine reaches their addresses.
    Scrape,
}

/// The settings of a fleet on ECS.
pub(super) fn settings(
    fleet: &mut Section<'_>,
    environment: &Section<'_>,
    base: &Path,
    faults: &mut Faults<'_>,
) -> Settings {
    for (name, _, line) in environment.named_texts("nothing on ECS", faults) {
        let message = format!(
            "has no place on ECS: the task definition says it; expected --set {name}=… for a release"
        );
        faults.add(line, format!("environment.{name}"), message);
    }
    fleet.require(&fields::APP, faults);
    fleet.require(&fields::JOURNAL, faults);
    let app = fleet.text(&fields::APP, faults).unwrap_or_default();
    let first = fleet.text(&fields::FIRST, faults);
    let first = first.and_then(|path| {
        let read = read(&base.join(path));
        read.map_err(|error| fleet.refuse(&fields::FIRST, format!("{error:#}"), faults))
            .ok()
    });
    let counting = match fleet.word(&fields::EVIDENCE, faults) {
        "scrape" => Counting::Scrape,
        _ => Counting::CloudWatch,
    };
    let metrics = match fleet.word(&fields::METRICS, faults) {
        "none" => Metrics::None,
        _ => Metrics::CloudWatch,
    };
    let named = |given: Option<String>, otherwise: String| given.unwrap_or(otherwise);
    let port = whole(fleet.quantity_or_default(&fields::ADMIN_PORT, faults));
    let container = fleet.text(&fields::CONTAINER, faults);
    let tasks = whole(fleet.quantity_or_default(&fields::FEWEST, faults));
    let options = Options {
        names: Names::of(&app),
        stable: named(
            fleet.text(&fields::STABLE_SERVICE, faults),
            format!("{app}-stable"),
        ),
        canary: named(
            fleet.text(&fields::CANARY_SERVICE, faults),
            format!("{app}-canary"),
        ),
        cluster: named(fleet.text(&fields::CLUSTER, faults), app.clone()),
        app,
        container: named(container, fields::CONTAINER.default_text().to_owned()),
        tasks,
        admin_port: (counting == Counting::Scrape).then(|| u16::try_from(port).unwrap_or_default()),
        ignored_alarms: fleet.texts(&fields::IGNORED_ALARMS, faults).unwrap_or_default(),
        first,
        autoscaled: fleet.flag(&fields::AUTOSCALING, faults),
    };
    Settings {
        directory: fields::DIRECTORY.default_text().into(),
        command: Vec::new(),
        stable: 0,
        canary: tasks,
        stop_within: Duration::ZERO,
        ready_within: whole(fleet.quantity_or_default(&fields::ECS_READY_WITHIN, faults)),
        environment: BTreeMap::new(),
        notify: Vec::new(),
        ecs: Some(OnEcs {
            options,
            journal: fleet.text(&fields::JOURNAL, faults).unwrap_or_default(),
            counting,
            metrics,
        }),
    }
}

/// A task definition.
fn read(path: &Path) -> anyhow::Result<serde_json::Value> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read {}; expected a task definition as RegisterTaskDefinition takes it",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
